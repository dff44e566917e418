//! What the simulation of sessions, and people who read them, have found, in plain words.

use std::time::Duration;

use tandem::engine::dispatch::{AtMaxDuration, Ping, PingMethod, SetId};
use tandem::engine::event::{Ending, LookupId, Record, Which};
use tandem::engine::{Event, Input};

use crate::harness::{Bench, CALLER, SERVERS, Sent, from_destination, in_dialog, invite, relayed_invite, seconds};

fn records(bench: &Bench) -> Vec<&Record> {
    let records = bench.events.iter().filter_map(|event| match event {
        Event::Session(record) => Some(&**record),
        _ => None,
    });
    records.collect()
}

fn endings(bench: &Bench) -> Vec<Ending> {
    records(bench).iter().map(|record| record.ending).collect()
}

/// A second dialog of the INVITE's, as a proxy behind us makes it by forking.
fn second(bench: &mut Bench, invite: &Sent) -> Sent {
    let contact = format!("Contact: <sip:{}>", invite.to);
    let ok = String::from_utf8(invite.answer(200, "OK", &[&contact])).expect("text").replace("tag=srv", "tag=other");
    bench.receive(&invite.to.to_string(), ok).remove(0)
}

fn byes(sent: &[Sent]) -> usize {
    sent.iter().filter(|one| one.line().starts_with("BYE")).count()
}

#[test]
fn a_request_that_overtakes_its_2xx_and_is_answered_481_ends_no_session() {
    let mut bench = Bench::new();
    let invite = bench.call("1");
    let info = bench.receive(SERVERS[0], from_destination("INFO", &invite, 101)).remove(0);
    bench.receive(CALLER, info.answer(481, "Call/Transaction Does Not Exist", &[]));
    let contact = format!("Contact: <sip:{}>", invite.to);
    bench.receive(SERVERS[0], invite.answer(200, "OK", &[&contact]));
    assert_eq!((bench.snapshot().sessions, endings(&bench)), (1, vec![]));
}

#[test]
fn who_hangs_up_before_the_2xx_is_told_rightly() {
    let mut bench = Bench::new();
    let invite = bench.call("1");
    let contact = format!("Contact: <sip:{}>", invite.to);
    let ringing = bench.receive(SERVERS[0], invite.answer(180, "Ringing", &[&contact])).remove(0);
    bench.receive(CALLER, in_dialog("BYE", &ringing, 2));
    assert_eq!(bench.snapshot().sessions, 1, "the INVITE's answer decides");
    bench.receive(SERVERS[0], invite.answer(200, "OK", &[&contact]));
    assert_eq!((bench.snapshot().sessions, endings(&bench)), (0, vec![Ending::CallerBye]));
}

#[test]
fn a_session_whose_first_dialog_has_ended_still_knows_its_call_id() {
    let mut bench = Bench::with(|config| {
        config.sets[0].session.max_duration = Some(seconds(60));
        config.sets[0].session.at_max_duration = AtMaxDuration::Bye;
    });
    let (invite, first) = bench.answered_call("1");
    second(&mut bench, &invite);
    bench.receive(CALLER, in_dialog("BYE", &first, 2));
    let sent = bench.pass(seconds(61));
    assert!(sent.iter().all(|one| one.header("Reason").is_empty()), "what we know is of the dialog that has ended");
    let records = records(&bench);
    assert_eq!((records[0].call_id.as_str(), records[0].ending), ("1", Ending::MaxDuration));
}

#[test]
fn a_session_that_was_adopted_and_ended_is_told_with_its_call_id_and_not_adopted_again() {
    let mut before = Bench::new();
    let (_, ok) = before.answered_call("1");
    let mut bench = Bench::new();
    let info = in_dialog("INFO", &ok, 2);
    bench.receive(CALLER, &info);
    assert_eq!(bench.snapshot().sessions, 1);
    bench.receive(CALLER, in_dialog("BYE", &ok, 3));
    assert_eq!(bench.snapshot().sessions, 0);
    bench.receive(CALLER, info.replace("INFO-2", "INFO-2b"));
    assert_eq!(bench.snapshot().sessions, 0, "it came late");
    assert_eq!((records(&bench)[0].call_id.as_str(), endings(&bench)), ("1", vec![Ending::CallerBye]));
}

#[test]
fn each_try_is_told_once_though_one_that_was_given_up_answers_after_all() {
    let mut bench = Bench::with(|config| config.sets[0].failover.first_response_timeout = seconds(2));
    let first = bench.call("1");
    let second = bench.pass(seconds(3)).into_iter().find(|one| one.line().starts_with("INVITE") && one.to != first.to);
    let second = second.expect("the next one is tried");
    bench.receive(&first.to.to_string(), first.answer(404, "Not Found", &[]));
    bench.receive(&second.to.to_string(), second.answer(503, "Service Unavailable", &[]));
    let told: Vec<_> = records(&bench).iter().map(|one| (one.codes.clone(), one.ending)).collect();
    assert_eq!(told, [(vec![408, 503], Ending::Rejected)]);
}

#[test]
fn a_503_that_is_not_tried_again_is_told_too() {
    let mut bench = Bench::without_failover(|_| {});
    let first = bench.call("1");
    bench.receive(&first.to.to_string(), first.answer(503, "Service Unavailable", &[]));
    assert_eq!(records(&bench)[0].codes, [503]);
}

#[test]
fn ends_that_fall_silent_in_the_same_moment_get_no_bye() {
    let mut bench = Bench::with(|config| config.sets[0].session.ping = Some(Ping { fall: 1, ..Ping::default() }));
    bench.talking_call("1");
    let sent = bench.pass(seconds(60));
    assert_eq!((byes(&sent), bench.snapshot().sessions), (0, 0));
}

#[test]
fn a_call_that_comes_after_the_order_is_not_ended_by_it() {
    let mut bench = Bench::with(|config| config.sets[0].session.bye_rate = 1);
    bench.load(crate::harness::set_19(&SERVERS[..1]));
    let first: Vec<_> = (0..4).map(|number| bench.answered_call(&number.to_string()).1).collect();
    let uri = format!("sip:{}", SERVERS[0]);
    assert!(bench.end(Which::Destination { set: SetId(19), uri: uri.clone() }).1.is_ok());
    bench.pass(Duration::from_millis(1));
    // A new one takes a place of those that are to be ended.
    let (_, late) = bench.answered_call("late");
    bench.receive(CALLER, in_dialog("BYE", &first[0], 2));
    bench.pass(seconds(10));
    assert_eq!(bench.snapshot().sessions, 1);
    bench.receive(CALLER, in_dialog("BYE", &late, 2));
    assert_eq!(bench.snapshot().sessions, 0);
}

#[test]
fn what_has_ended_is_remembered_for_a_minute_at_most() {
    let mut bench = Bench::new();
    // Each end turns what is remembered, if it is half a minute old.
    for (call, at) in [("0", 33), ("1", 34), ("2", 95)] {
        bench.pass(seconds(at) - bench.time());
        let (_, ok) = bench.answered_call(call);
        bench.receive(CALLER, in_dialog("BYE", &ok, 2));
    }
    let mut again = Bench::new();
    let (_, ok) = again.answered_call("1");
    bench.pass(seconds(100) - bench.time());
    bench.receive(CALLER, in_dialog("INFO", &ok, 3));
    assert_eq!(bench.snapshot().sessions, 1, "66 s after its end a session that speaks is one");
}

#[test]
fn the_callers_end_of_a_second_dialog_goes_on_when_the_first_ends() {
    let mut bench = Bench::new();
    let (invite, first) = bench.answered_call("1");
    let second = second(&mut bench, &invite);
    bench.receive(CALLER, in_dialog("BYE", &first, 2));
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.snapshot().sessions, 1);
    bench.receive(CALLER, in_dialog("BYE", &second, 3));
    assert_eq!((bench.snapshot().sessions, endings(&bench)), (0, vec![Ending::CallerBye]));
}

#[test]
fn an_invite_is_told_once() {
    let mut bench = Bench::new();
    bench.receive(CALLER, invite("1"));
    bench.receive(CALLER, invite("1"));
    bench.pass(seconds(200));
    assert_eq!(records(&bench).len(), 1);
}

/// What goes on of a request by that method.
fn forwarded(sent: &[Sent], method: &str) -> Sent {
    sent.iter().find(|one| one.line().starts_with(method)).expect("it goes on").clone()
}

fn pinging(method: PingMethod) -> Bench {
    Bench::with(|config| config.sets[0].session.ping = Some(Ping { method, fall: 100, ..Ping::default() }))
}

/// To whom the first pings go, and with which number.
fn pinged(bench: &mut Bench) -> Vec<(String, String)> {
    let sent = bench.pass(seconds(31));
    let pings = sent.iter().filter(|one| one.line().starts_with("OPTIONS")).take(2);
    pings.map(|ping| (ping.to.to_string(), ping.header("CSeq"))).collect()
}

#[test]
fn a_bye_that_can_go_nowhere_ends_its_session() {
    for contact in ["tts.test:7010", "10.129.39.88:7010;transport=sctp"] {
        let mut bench = Bench::new();
        let invite = bench.call("1");
        let ok = invite.answer(200, "OK", &[&format!("Contact: <sip:{contact}>")]);
        let ok = bench.receive(SERVERS[0], ok).remove(0);
        // Who only says that he is the destination ends nothing.
        let bye = bench.receive("127.0.0.9:5072", from_destination("BYE", &invite, 7)).remove(0);
        assert_eq!((bye.line(), bench.snapshot().sessions), ("SIP/2.0 403 Forbidden".to_owned(), 1));
        bench.receive(CALLER, in_dialog("BYE", &ok, 2));
        assert_eq!((bench.snapshot().sessions, endings(&bench)), (0, vec![Ending::CallerBye]), "{contact}");
    }
}

#[test]
fn a_bye_to_a_name_goes_there_though_its_session_has_ended_with_it() {
    let mut bench = Bench::new();
    let invite = bench.call("1");
    let ok = bench.receive(SERVERS[0], invite.answer(200, "OK", &["Contact: <sip:tts.test>"])).remove(0);
    bench.receive(CALLER, in_dialog("BYE", &ok, 2));
    let addresses = vec!["10.129.39.99:5060".parse().expect("an address")];
    let sent = bench.handle(Input::Resolved { id: LookupId(0), addresses });
    assert_eq!(forwarded(&sent, "BYE").to.to_string(), "10.129.39.99:5060");
}

#[test]
fn only_the_sessions_own_requests_make_one_of_it_here() {
    let (invite, ok) = Bench::new().answered_call("1");
    for (cseq, method) in [(2, "OPTIONS"), (3, "NOTIFY"), (4, "PRACK"), (5, "REFER")] {
        let mut bench = Bench::new();
        let sent = bench.receive(CALLER, in_dialog(method, &ok, cseq)).remove(0);
        bench.receive(&invite.to.to_string(), sent.answer(200, "OK", &[]));
        assert_eq!(bench.snapshot().sessions, 0, "{method}");
    }
    for (cseq, method) in [(6, "INVITE"), (7, "UPDATE"), (8, "INFO")] {
        let mut bench = Bench::new();
        bench.receive(CALLER, in_dialog(method, &ok, cseq));
        assert_eq!(bench.snapshot().sessions, 1, "{method}");
    }
}

#[test]
fn a_subscription_never_becomes_a_session() {
    let mut bench = Bench::with(|config| {
        let rule = &mut config.route.rules[0];
        rule.when = vec![tandem::engine::route::Condition::Method(vec!["SUBSCRIBE".into()])];
    });
    let subscribe = bench.receive(CALLER, relayed_invite("1").replace("INVITE", "SUBSCRIBE"));
    let subscribe = forwarded(&subscribe, "SUBSCRIBE");
    let contact = format!("Contact: <sip:{}>", subscribe.to);
    let ok = bench.receive(&subscribe.to.to_string(), subscribe.answer(200, "OK", &[&contact])).remove(0);
    assert_eq!(ok.headers("Record-Route").len(), 2, "we stay in its path");
    let notify = bench.receive(&subscribe.to.to_string(), from_destination("NOTIFY", &subscribe, 7));
    bench.receive(CALLER, forwarded(&notify, "NOTIFY").answer(200, "OK", &[]));
    let info = bench.receive(CALLER, in_dialog("INFO", &ok, 2));
    bench.receive(&subscribe.to.to_string(), forwarded(&info, "INFO").answer(200, "OK", &[]));
    assert_eq!(bench.snapshot().sessions, 0);
}

#[test]
fn only_the_sessions_own_requests_tell_that_it_is_gone() {
    let own = [("INVITE", 481, true), ("INVITE", 408, true), ("INVITE", 0, true), ("UPDATE", 481, true)];
    let more = [("UPDATE", 0, true), ("INFO", 481, true), ("INFO", 408, true), ("INFO", 0, true)];
    let options = [("OPTIONS", 481, true), ("OPTIONS", 408, false), ("OPTIONS", 0, false)];
    let others = [("NOTIFY", 481, false), ("NOTIFY", 0, false), ("REFER", 408, false), ("PRACK", 481, false)];
    for (method, status, ends) in own.into_iter().chain(more).chain(options).chain(others) {
        let mut bench = Bench::new();
        let (invite, ok) = bench.answered_call("1");
        let sent = forwarded(&bench.receive(CALLER, in_dialog(method, &ok, 2)), method);
        match status {
            0 => drop(bench.pass(seconds(40))),
            _ => drop(bench.receive(&invite.to.to_string(), sent.answer(status, "Said", &[]))),
        }
        assert_eq!(bench.snapshot().sessions == 0, ends, "{method} {status}");
        assert_eq!(endings(&bench), if ends { vec![Ending::Gone] } else { vec![] });
    }
}

#[test]
fn an_adopted_session_is_proved_by_any_answer_that_only_its_dialog_gives() {
    let (invite, ok) = Bench::new().answered_call("1");
    let proofs = [("INVITE", 491, true), ("INVITE", 488, true), ("INVITE", 401, true), ("UPDATE", 504, true)];
    let others = [("INVITE", 481, false), ("INVITE", 408, false), ("INFO", 405, false), ("INFO", 0, false)];
    for (method, status, proves) in proofs.into_iter().chain(others) {
        let mut bench = Bench::new();
        let sent = forwarded(&bench.receive(CALLER, in_dialog(method, &ok, 2)), method);
        match status {
            0 => drop(bench.pass(seconds(40))),
            _ => drop(bench.receive(&invite.to.to_string(), sent.answer(status, "Said", &[]))),
        }
        assert_eq!((bench.snapshot().sessions == 1, endings(&bench)), (proves, vec![]), "{method} {status}");
        bench.receive(CALLER, in_dialog("BYE", &ok, 3));
        assert_eq!(endings(&bench), if proves { vec![Ending::CallerBye] } else { vec![] });
    }
}

#[test]
fn what_one_dialog_of_an_invite_tells_is_not_used_in_another() {
    let mut bench = pinging(PingMethod::Options);
    let (invite, _) = bench.answered_call("1");
    let second = second(&mut bench, &invite);
    let contact = "Contact: <sip:127.0.0.1:5099>\r\nContent-Length";
    let again = in_dialog("INVITE", &second, 50).replace("Content-Length", contact);
    let again = forwarded(&bench.receive(CALLER, again), "INVITE");
    bench.receive(SERVERS[0], again.answer(200, "OK", &["Contact: <sip:10.129.39.88:7099>"]));
    let expected = [(CALLER, "0 OPTIONS"), (SERVERS[0], "1 OPTIONS")];
    assert_eq!(pinged(&mut bench), expected.map(|(to, cseq)| (to.to_owned(), cseq.to_owned())));
}

#[test]
fn the_numbers_of_a_try_that_failed_are_not_those_of_the_next() {
    let mut bench = pinging(PingMethod::Options);
    let first = bench.call("1");
    let update = bench.receive(SERVERS[0], from_destination("UPDATE", &first, 500_000)).remove(0);
    bench.receive(CALLER, update.answer(200, "OK", &[]));
    let next = forwarded(&bench.receive(SERVERS[0], first.answer(503, "Service Unavailable", &[])), "INVITE");
    second(&mut bench, &next);
    let expected = [(CALLER, "0 OPTIONS"), (SERVERS[1], "1 OPTIONS")];
    assert_eq!(pinged(&mut bench), expected.map(|(to, cseq)| (to.to_owned(), cseq.to_owned())));
}

#[test]
fn a_session_timer_is_at_least_90_seconds_and_one_too_large_to_count_is_one() {
    for (told, lives) in [("1", [true, false]), ("99999999999;refresher=uas", [true, true])] {
        let mut bench = pinging(PingMethod::Update);
        let invite = bench.call("1");
        let contact = format!("Contact: <sip:{}>", invite.to);
        let expires = format!("Session-Expires: {told}");
        bench.receive(SERVERS[0], invite.answer(200, "OK", &[&contact, &expires]));
        assert_eq!(pinged(&mut bench).len(), 2, "no UPDATE, which would stop the timer");
        for (lives, at) in lives.into_iter().zip([121, 123]) {
            bench.pass(seconds(at) - bench.time());
            assert_eq!(bench.snapshot().sessions == 1, lives, "{told} after {at} s");
        }
    }
}

#[test]
fn our_bye_never_bears_a_number_that_is_too_high() {
    let mut bench = Bench::new();
    let (_, ok) = bench.answered_call("1");
    for cseq in [u32::MAX, 1 << 31, (1 << 31) - 1] {
        bench.receive(CALLER, in_dialog("INFO", &ok, cseq));
    }
    let bye = |sent: &[Sent]| {
        let byes = sent.iter().filter(|one| one.line().starts_with("BYE") && one.to.to_string() == SERVERS[0]);
        byes.map(|bye| bye.header("CSeq")).collect::<Vec<_>>()
    };
    assert_eq!(bye(&bench.end(Which::Call("1".to_owned())).0), ["2 BYE"]);
}

#[test]
fn byes_to_dialogs_that_never_were_hide_none_that_overtakes_its_2xx() {
    let mut bench = Bench::new();
    let invite = bench.call("1");
    let contact = format!("Contact: <sip:{}>", invite.to);
    let ringing = bench.receive(SERVERS[0], invite.answer(180, "Ringing", &[&contact])).remove(0);
    for number in 2..=18 {
        let bye = in_dialog("BYE", &ringing, number);
        bench.receive(CALLER, if number < 18 { bye.replace("tag=srv", &format!("tag=no-{number}")) } else { bye });
    }
    bench.receive(SERVERS[0], invite.answer(200, "OK", &[&contact]));
    assert_eq!((bench.snapshot().sessions, endings(&bench)), (0, vec![Ending::CallerBye]));
}
