//! How sessions end, what they are asked meanwhile, and what is told of them: RFC 3261 sections 12 to 15, RFC 4028, RFC 5407.

use std::time::Duration;

use tandem::engine::dispatch::{AtMaxDuration, OnDown, Ping, PingLegs, PingMethod, SetId};
use tandem::engine::event::{Ending, Record, Which};
use tandem::engine::flow::ListenerId;
use tandem::engine::{Event, Input};

use crate::harness::{Bench, CALLER, SERVERS, Sent, from_destination, in_dialog, invite, lines, seconds, set_19};

/// A bench whose set treats its sessions so.
fn bench(change: impl FnOnce(&mut tandem::engine::dispatch::SessionPolicy)) -> Bench {
    Bench::with(|config| change(&mut config.sets[0].session))
}

fn pinging(ping: Ping) -> Bench {
    bench(|session| session.ping = Some(ping))
}

const PING: Ping = Ping {
    method: PingMethod::Options,
    legs: PingLegs::Both,
    interval: Duration::from_secs(30),
    timeout: Duration::from_secs(5),
    fall: 2,
};

fn sessions(bench: &Bench) -> usize {
    let snapshot = bench.snapshot();
    let load: u64 = snapshot.sets.iter().flat_map(|set| &set.destinations).map(|one| one.sessions).sum();
    assert_eq!(load, snapshot.sessions as u64, "load is the table");
    snapshot.sessions
}

fn records(bench: &Bench) -> Vec<&Record> {
    let records = bench.events.iter().filter_map(|event| match event {
        Event::Session(record) => Some(&**record),
        _ => None,
    });
    let records: Vec<_> = records.collect();
    let counted: u64 = bench.snapshot().totals.ended.iter().sum();
    assert_eq!(counted, records.len() as u64);
    records
}

fn endings(bench: &Bench) -> Vec<Ending> {
    records(bench).iter().map(|record| record.ending).collect()
}

/// Only what begins with that method, without what is sent again.
fn of(sent: &[Sent], method: &str) -> Vec<Sent> {
    let mut first: Vec<Sent> = Vec::new();
    for one in sent.iter().filter(|one| one.line().starts_with(method)) {
        if first.iter().all(|before| before.bytes != one.bytes) {
            first.push(one.clone());
        }
    }
    first
}

fn answer(bench: &mut Bench, request: &Sent, status: u16) -> Vec<Sent> {
    bench.receive(&request.to.to_string(), request.answer(status, "Said", &[]))
}

#[test]
fn a_bye_of_either_end_ends_a_session_answered_or_not() {
    for by_caller in [true, false] {
        let mut bench = Bench::new();
        let (invite, ok) = bench.answered_call("1");
        bench.receive(CALLER, in_dialog("ACK", &ok, 1));
        bench.pass(seconds(10));
        assert_eq!(sessions(&bench), 1);
        match by_caller {
            true => bench.receive(CALLER, in_dialog("BYE", &ok, 2)),
            false => bench.receive(&invite.to.to_string(), from_destination("BYE", &invite, 77)),
        };
        assert_eq!(sessions(&bench), 0);
        let expected = if by_caller { Ending::CallerBye } else { Ending::DestinationBye };
        assert_eq!(endings(&bench), [expected]);
        let record = records(&bench)[0].clone();
        assert_eq!((record.call_id.as_str(), record.set, record.codes), ("1", SetId(19), vec![200]));
        assert_eq!((record.lasted, record.answered_after), (seconds(10), Some(Duration::ZERO)));
        assert_eq!(record.destination, Some(format!("sip:{}", invite.to)));
        bench.pass(seconds(100));
        assert_eq!((sessions(&bench), bench.snapshot().transactions), (0, 0));
    }
}

#[test]
fn crossing_and_repeated_byes_end_one_session_once() {
    let mut bench = Bench::new();
    let (invite, ok) = bench.answered_call("1");
    let (again, _) = bench.answered_call("2");
    bench.receive(CALLER, in_dialog("BYE", &ok, 2));
    bench.receive(&invite.to.to_string(), from_destination("BYE", &invite, 77));
    bench.receive(CALLER, in_dialog("BYE", &ok, 2));
    // Reordered behind its BYE, it is answered by a server that is slow to forget.
    let info = bench.receive(CALLER, in_dialog("INFO", &ok, 3));
    answer(&mut bench, &of(&info, "INFO")[0], 200);
    assert_eq!((sessions(&bench), endings(&bench)), (1, vec![Ending::CallerBye]));
    bench.receive(&again.to.to_string(), from_destination("BYE", &again, 77));
    assert_eq!(sessions(&bench), 0);
}

#[test]
fn a_bye_while_the_invite_waits_leaves_the_decision_to_its_answer() {
    // RFC 5407 section 3.1: BYE in an early dialog, answered by 487 or crossing a 200.
    for status in [487, 200] {
        let mut bench = Bench::new();
        let invite = bench.call("1");
        let ringing = answer(&mut bench, &invite, 180)[0].clone();
        let bye = in_dialog("BYE", &ringing, 2).replacen("BYE  ", &format!("BYE sip:{} ", invite.to), 1);
        bench.receive(CALLER, bye);
        assert_eq!(sessions(&bench), 1, "the server holds a channel until it has answered");
        answer(&mut bench, &invite, status);
        assert_eq!((sessions(&bench), endings(&bench).len()), (0, 1), "{status}");
    }
}

#[test]
fn a_481_or_408_inside_ends_a_session_and_other_failures_do_not() {
    for (status, ends) in [(481, true), (408, true), (491, false), (488, false), (500, false), (405, false)] {
        let mut bench = Bench::new();
        let (_, ok) = bench.answered_call("1");
        let again = of(&bench.receive(CALLER, in_dialog("INVITE", &ok, 2)), "INVITE")[0].clone();
        answer(&mut bench, &again, status);
        assert_eq!(sessions(&bench) == 0, ends, "{status}");
        assert_eq!(endings(&bench), if ends { vec![Ending::Gone] } else { vec![] });
    }
}

#[test]
fn glare_of_two_re_invites_leaves_the_session_alone() {
    let mut bench = Bench::new();
    let (invite, ok) = bench.answered_call("1");
    let by_caller = of(&bench.receive(CALLER, in_dialog("INVITE", &ok, 2)), "INVITE")[0].clone();
    let sent = bench.receive(&invite.to.to_string(), from_destination("INVITE", &invite, 7));
    let by_destination = of(&sent, "INVITE")[0].clone();
    answer(&mut bench, &by_caller, 491);
    answer(&mut bench, &by_destination, 491);
    assert_eq!((sessions(&bench), endings(&bench)), (1, vec![]));
}

#[test]
fn of_forked_dialogs_the_last_one_ends_the_session() {
    let mut bench = Bench::new();
    let (invite, ok) = bench.answered_call("1");
    let text = String::from_utf8(invite.answer(200, "OK", &[&format!("Contact: <sip:{}>", invite.to)])).expect("text");
    let second = bench.receive(&invite.to.to_string(), text.replace(";tag=srv", ";tag=other"))[0].clone();
    assert_eq!(sessions(&bench), 1, "one INVITE, one session");
    bench.receive(CALLER, in_dialog("BYE", &ok, 2));
    assert_eq!(sessions(&bench), 1, "the other dialog lives");
    // Sent again, the first 2xx brings nothing back.
    answer(&mut bench, &invite, 200);
    bench.receive(CALLER, in_dialog("BYE", &second, 3));
    assert_eq!((sessions(&bench), endings(&bench)), (0, vec![Ending::CallerBye]));
}

#[test]
fn calls_that_fail_are_told_with_what_each_try_came_to() {
    let mut bench = Bench::new();
    let first = bench.call("1");
    let second = of(&answer(&mut bench, &first, 503), "INVITE")[0].clone();
    answer(&mut bench, &second, 486);
    bench.pass(seconds(10));
    let refused = bench.call("2");
    answer(&mut bench, &refused, 404);
    bench.call("3");
    bench.pass(seconds(40));
    bench.load(set_19(&[]));
    bench.receive(CALLER, invite("4"));
    let told: Vec<_> = records(&bench).iter().map(|one| (one.ending, one.codes.clone(), one.answered_after)).collect();
    let expected = [
        (Ending::Failed, vec![503, 486], None),
        (Ending::Rejected, vec![404], None),
        (Ending::Failed, vec![408, 408], None),
        (Ending::Empty, vec![], None),
    ];
    assert_eq!(told, expected);
    assert_eq!(sessions(&bench), 0);
}

#[test]
fn a_call_that_its_caller_gives_up_is_told_as_cancelled() {
    let mut bench = Bench::new();
    let call = bench.call("1");
    answer(&mut bench, &call, 180);
    let cancel = invite("1").replace("INVITE", "CANCEL").replace("z9hG4bK-1-CANCEL", "z9hG4bK-1-INVITE");
    bench.receive(CALLER, cancel);
    answer(&mut bench, &call, 487);
    assert_eq!((sessions(&bench), endings(&bench)), (0, vec![Ending::Cancelled]));
}

#[test]
fn a_session_lasts_no_longer_than_its_set_allows() {
    let mut bench = bench(|session| session.max_duration = Some(seconds(100)));
    let (invite, ok) = bench.answered_call("1");
    bench.pass(seconds(50));
    // What happens inside prolongs nothing. The BYEs are one above the last number of their direction.
    let info = of(&bench.receive(CALLER, in_dialog("INFO", &ok, 41)), "INFO")[0].clone();
    answer(&mut bench, &info, 200);
    let info = of(&bench.receive(&invite.to.to_string(), from_destination("INFO", &invite, 7000)), "INFO")[0].clone();
    answer(&mut bench, &info, 200);
    let sent = bench.pass(seconds(49));
    assert!(of(&sent, "BYE").is_empty());
    let byes = of(&bench.pass(Duration::from_millis(1002)), "BYE");
    let seen: Vec<_> = byes.iter().map(|bye| (bye.to.to_string(), bye.by, bye.line(), bye.header("CSeq"))).collect();
    let (caller, server) = (CALLER.to_owned(), invite.to.to_string());
    let expected = [
        (caller.clone(), 0, format!("BYE sip:{CALLER} SIP/2.0"), "7001 BYE".to_owned()),
        (server.clone(), 1, format!("BYE sip:{server} SIP/2.0"), "42 BYE".to_owned()),
    ];
    assert_eq!(seen, expected);
    for (bye, from, to) in
        [(&byes[0], ok.header("To"), ok.header("From")), (&byes[1], ok.header("From"), ok.header("To"))]
    {
        assert_eq!((bye.header("From"), bye.header("To"), bye.header("Call-ID")), (from, to, "1".to_owned()));
        assert_eq!(bye.header("Reason"), "SIP;cause=408;text=\"Session too long\"");
        assert_eq!(bye.headers("Route"), Vec::<String>::new());
    }
    assert_eq!((sessions(&bench), endings(&bench)), (0, vec![Ending::MaxDuration]));
    answer(&mut bench, &byes[0], 200);
    // The other one is sent again, like any request, until it is given up.
    let again = bench.pass(seconds(60));
    assert!(again.len() == 10 && again.iter().all(|bye| bye.to.to_string() == server), "{}", again.len());
    assert_eq!((bench.snapshot().transactions, bench.snapshot().totals.byes), (0, 2));
}

#[test]
fn a_set_may_forget_long_sessions_silently() {
    let mut bench = bench(|session| {
        session.max_duration = Some(seconds(100));
        session.at_max_duration = AtMaxDuration::Silent;
    });
    bench.answered_call("1");
    assert!(of(&bench.pass(seconds(101)), "BYE").is_empty());
    assert_eq!((sessions(&bench), endings(&bench)), (0, vec![Ending::MaxDuration]));
}

#[test]
fn a_session_timer_that_runs_out_ends_the_session_silently() {
    let mut bench = Bench::new();
    let invite = bench.call("1");
    let contact = format!("Contact: <sip:{}>", invite.to);
    let server = invite.to.to_string();
    let expires = "x: 90;refresher=uac";
    let ok = bench.receive(&server, invite.answer(200, "OK", &[&contact, expires]))[0].clone();
    bench.pass(seconds(80));
    // Refreshed by UPDATE: RFC 4028 section 7.2.
    let update = of(&bench.receive(CALLER, in_dialog("UPDATE", &ok, 2)), "UPDATE")[0].clone();
    bench.receive(&server, update.answer(200, "OK", &[&contact, "Session-Expires: 90;refresher=uac"]));
    bench.pass(seconds(121));
    assert_eq!(sessions(&bench), 1, "90 s and 32 s of grace");
    let sent = bench.pass(seconds(2));
    assert_eq!((sessions(&bench), endings(&bench), lines(&sent).len()), (0, vec![Ending::SessionTimer], 0));
}

#[test]
fn a_refresh_without_session_expires_stops_the_timer() {
    let mut bench = Bench::new();
    let invite = bench.call("1");
    let server = invite.to.to_string();
    let contact = format!("Contact: <sip:{}>", invite.to);
    let ok = bench.receive(&server, invite.answer(200, "OK", &[&contact, "Session-Expires: 90"]))[0].clone();
    let again = of(&bench.receive(CALLER, in_dialog("INVITE", &ok, 2)), "INVITE")[0].clone();
    bench.receive(&server, again.answer(200, "OK", &[&contact]));
    bench.pass(seconds(1000));
    assert_eq!(sessions(&bench), 1);
}

#[test]
fn pings_reuse_the_last_number_of_their_direction_and_any_answer_but_two_proves_life() {
    let mut bench = pinging(PING);
    let (invite, ok) = bench.answered_call("1");
    let pings = of(&bench.pass(seconds(31)), "OPTIONS");
    let seen: Vec<_> = pings.iter().map(|ping| (ping.to.to_string(), ping.header("CSeq"))).collect();
    // The destination has sent nothing yet: 0 is below all that it may begin with.
    assert_eq!(seen, [(CALLER.to_owned(), "0 OPTIONS".to_owned()), (invite.to.to_string(), "1 OPTIONS".to_owned())]);
    assert_eq!((pings[1].header("From"), pings[1].header("To")), (ok.header("From"), ok.header("To")));
    for (ping, status) in pings.iter().zip([405, 500]) {
        answer(&mut bench, ping, status);
    }
    let info = of(&bench.receive(CALLER, in_dialog("INFO", &ok, 9)), "INFO")[0].clone();
    assert_eq!(info.header("CSeq"), "9 INFO", "no forwarded number is changed");
    answer(&mut bench, &info, 200);
    let pings = of(&bench.pass(seconds(30)), "OPTIONS");
    assert_eq!(pings[1].header("CSeq"), "9 OPTIONS");
    for _ in 0..5 {
        let pings = of(&bench.pass(seconds(30)), "OPTIONS");
        let (first, second) = (&pings[pings.len() - 2], &pings[pings.len() - 1]);
        answer(&mut bench, first, 200);
        answer(&mut bench, second, 405);
    }
    assert_eq!((sessions(&bench), endings(&bench)), (1, vec![]));
}

#[test]
fn when_one_leg_is_dead_the_living_one_gets_bye_and_the_dead_one_none() {
    for (dead, status) in [(0, 0), (1, 0), (0, 481), (1, 408)] {
        let mut bench = pinging(PING);
        let (invite, _) = bench.talking_call("1");
        let mut byes = Vec::new();
        for _ in 0..2 {
            assert_eq!(sessions(&bench), 1, "one lost ping is none");
            // Behind what is sent again of the last ones.
            let pings = of(&bench.pass(seconds(30)), "OPTIONS");
            let pings = &pings[pings.len() - 2..];
            answer(&mut bench, &pings[1 - dead], 200);
            if status > 0 {
                byes.extend(answer(&mut bench, &pings[dead], status));
            }
            byes.extend(of(&bench.pass(Duration::from_millis(6)), "BYE"));
        }
        byes.extend(of(&bench.pass(seconds(6)), "BYE"));
        let living = if dead == 0 { invite.to.to_string() } else { CALLER.to_owned() };
        assert!(byes.iter().all(|bye| bye.to.to_string() == living) && !byes.is_empty(), "{}", byes.len());
        assert!(byes[0].header("Reason").contains("does not answer"));
        let ending = if dead == 0 { Ending::CallerSilent } else { Ending::DestinationSilent };
        assert_eq!((sessions(&bench), endings(&bench)), (0, vec![ending]));
    }
}

#[test]
fn when_both_legs_are_dead_nobody_gets_bye() {
    let mut bench = pinging(PING);
    bench.talking_call("1");
    let sent = bench.pass(seconds(70));
    assert_eq!((of(&sent, "BYE").len(), sessions(&bench)), (0, 0));
    let mut bench = pinging(Ping { legs: PingLegs::Caller, ..PING });
    let (invite, _) = bench.talking_call("1");
    let sent = bench.pass(seconds(66));
    assert!(of(&sent, "OPTIONS").iter().all(|ping| ping.to.to_string() == CALLER));
    assert!(of(&sent, "BYE").iter().all(|bye| bye.to == invite.to));
    assert_eq!(endings(&bench), [Ending::CallerSilent]);
}

#[test]
fn an_update_ping_bears_the_contact_and_spares_sessions_with_a_timer() {
    let mut bench = pinging(Ping { method: PingMethod::Update, ..PING });
    let (invite, _) = bench.answered_call("1");
    let pings = of(&bench.pass(seconds(31)), "UPDATE");
    assert_eq!((pings.len(), pings[0].header("Contact")), (2, format!("<sip:{}>", invite.to)));
    let mut bench = pinging(Ping { method: PingMethod::Update, ..PING });
    let invite = bench.call("1");
    let extra = [&format!("Contact: <sip:{}>", invite.to)[..], "Session-Expires: 1800"];
    bench.receive(&invite.to.to_string(), invite.answer(200, "OK", &extra));
    let sent = bench.pass(seconds(31));
    assert!(of(&sent, "UPDATE").is_empty() && of(&sent, "OPTIONS").len() == 2);
}

#[test]
fn a_set_without_pings_never_sends_one() {
    let mut bench = Bench::new();
    bench.answered_call("1");
    assert!(bench.pass(seconds(40_000)).is_empty());
    assert_eq!(sessions(&bench), 1);
    bench.pass(seconds(4_000));
    assert_eq!(endings(&bench), [Ending::Quiet]);
}

#[test]
fn the_new_contact_of_a_re_invite_is_where_we_ping() {
    let mut bench = pinging(PING);
    let (_, ok) = bench.answered_call("1");
    let contact = "Contact: <sip:127.0.0.1:5099>\r\nContent-Length";
    let again = in_dialog("INVITE", &ok, 2).replace("Content-Length", contact);
    let again = of(&bench.receive(CALLER, again), "INVITE")[0].clone();
    bench.receive(&again.to.to_string(), again.answer(200, "OK", &["Contact: <sip:10.129.39.88:7099>"]));
    let pings = of(&bench.pass(seconds(31)), "OPTIONS");
    let to: Vec<_> = pings.iter().map(|ping| ping.to.to_string()).collect();
    assert_eq!(to, ["127.0.0.1:5099", "10.129.39.88:7099"]);
    assert_eq!(pings[0].line(), "OPTIONS sip:127.0.0.1:5099 SIP/2.0");
}

#[test]
fn an_operator_ends_a_call_or_a_destinations() {
    let mut bench = bench(|session| session.bye_rate = 10);
    for call in 0..40 {
        bench.answered_call(&call.to_string());
    }
    let seven = || Which::Call("7".to_owned());
    let (sent, ended) = bench.end(seven());
    assert_eq!((of(&sent, "BYE").len(), sessions(&bench), ended), (2, 39, Ok(1)));
    let (sent, ended) = bench.end(seven());
    assert!(of(&sent, "BYE").is_empty() && ended.is_err(), "{ended:?}");
    let uri = format!("sip:{}", SERVERS[0]);
    let (sent, ended) = bench.end(Which::Destination { set: SetId(19), uri });
    assert_eq!((of(&sent, "BYE").len(), ended), (0, Ok(20)));
    bench.pass(Duration::from_millis(1001));
    assert!((28..=30).contains(&sessions(&bench)), "ten a second: {}", sessions(&bench));
    bench.pass(seconds(2));
    assert_eq!(sessions(&bench), 19);
    assert_eq!(bench.snapshot().sets[0].destinations[0].sessions, 0);
    assert!(endings(&bench).iter().all(|ending| *ending == Ending::Operator));
}

#[test]
fn sessions_of_a_destination_that_goes_down_are_kept_or_their_callers_told() {
    for on_down in [OnDown::Keep, OnDown::Bye] {
        let mut bench = Bench::with(|config| {
            config.sets[0].session.on_down = on_down;
            config.sets[0].judgement.observe.consecutive_failures = 1;
        });
        let dead = bench.answered_call("1").0.to;
        bench.answered_call("2");
        bench.answered_call("3");
        bench.answered_call("4");
        let mut byes = Vec::new();
        let call = bench.call("5");
        assert_eq!(call.to, dead);
        let sent = answer(&mut bench, &call, 500);
        answer(&mut bench, &of(&sent, "INVITE")[0], 200);
        byes.extend(sent);
        byes.extend(bench.pass(seconds(2)));
        let byes = of(&byes, "BYE");
        let told: Vec<_> = byes.iter().map(|bye| bye.to.to_string()).collect();
        match on_down {
            OnDown::Keep => assert_eq!(told, Vec::<String>::new()),
            OnDown::Bye => {
                let first: std::collections::BTreeSet<_> = byes.iter().map(|bye| bye.header("Call-ID")).collect();
                assert_eq!(first.into_iter().collect::<Vec<_>>(), ["1", "3"]);
                assert!(told.iter().all(|to| to == CALLER), "who is dead gets none: {told:?}");
                assert_eq!(byes[0].header("Reason"), "SIP;cause=503;text=\"Destination is down\"");
            }
        }
    }
}

#[test]
fn a_parked_session_is_neither_pinged_nor_ended_by_bye() {
    let mut bench = Bench::with(|config| {
        config.sets[0].session.ping = Some(PING);
        config.sets[0].session.max_duration = Some(seconds(100));
    });
    bench.answered_call("1");
    bench.handle(Input::Held { listener: ListenerId(0), held: false });
    assert_eq!(bench.snapshot().parked, 1);
    assert!(bench.pass(seconds(50)).is_empty());
    assert!(bench.end(Which::Call("1".to_owned())).0.is_empty());
    bench.handle(Input::Held { listener: ListenerId(0), held: true });
    assert_eq!((bench.snapshot().parked, of(&bench.pass(seconds(11)), "OPTIONS").len()), (0, 2));
    bench.handle(Input::Held { listener: ListenerId(0), held: false });
    bench.pass(seconds(40));
    assert_eq!((sessions(&bench), bench.snapshot().parked, endings(&bench)), (0, 0, vec![Ending::MaxDuration]));
    assert_eq!(bench.snapshot().totals.byes, 0);
}

#[test]
fn an_adopted_session_counts_and_is_never_pinged_or_sent_a_bye() {
    let mut first = pinging(PING);
    let (invite, ok) = first.answered_call("1");
    let mut second = Bench::with(|config| {
        config.node = "b".into();
        config.sets[0].session.ping = Some(PING);
        config.sets[0].session.max_duration = Some(seconds(1000));
    });
    let info = of(&second.receive(CALLER, in_dialog("INFO", &ok, 2)), "INFO")[0].clone();
    assert_eq!(sessions(&second), 1, "it takes a channel while nobody has said that it is over");
    answer(&mut second, &info, 200);
    assert_eq!(second.snapshot().sets[0].destinations.iter().map(|one| one.sessions).max(), Some(1));
    assert!(second.pass(seconds(200)).is_empty());
    second.receive(&invite.to.to_string(), from_destination("BYE", &invite, 7));
    assert_eq!((sessions(&second), endings(&second)), (0, vec![Ending::DestinationBye]));
    assert_eq!(records(&second)[0].codes, Vec::<u16>::new());
    // One that is not answered was none.
    let mut third = Bench::new();
    let info = of(&third.receive(CALLER, in_dialog("INFO", &ok, 3)), "INFO")[0].clone();
    answer(&mut third, &info, 481);
    assert_eq!((sessions(&third), endings(&third)), (0, vec![]));
}

#[test]
fn many_that_end_at_once_end_a_few_a_turn() {
    let mut bench = bench(|session| session.max_duration = Some(seconds(100)));
    for call in 0..500 {
        bench.answered_call(&call.to_string());
    }
    bench.pass(seconds(99));
    bench.stall(seconds(2));
    let most = 2 * 100;
    let mut turns = 0;
    while sessions(&bench) > 0 {
        let sent = bench.handle(Input::Wake);
        assert!(of(&sent, "BYE").len() <= most, "{}", sent.len());
        turns += 1;
        assert!(turns <= 6);
    }
    assert_eq!(turns, 5);
}

#[test]
fn a_ping_that_could_not_leave_says_nothing() {
    let mut bench = pinging(Ping { fall: 1, ..PING });
    bench.answered_call("1");
    for _ in 0..4 {
        for ping in of(&bench.pass(seconds(30)), "OPTIONS") {
            let flow = tandem::engine::flow::Flow {
                listener: ListenerId(ping.by),
                transport: tandem::engine::flow::Transport::Udp,
                peer: ping.to,
                connection: Default::default(),
            };
            let fault = tandem::engine::flow::Fault::Ours;
            bench.handle(Input::Undelivered { flow, bytes: &ping.bytes, fault });
        }
    }
    assert_eq!((sessions(&bench), bench.snapshot().totals.failed_pings), (1, 0));
}

#[test]
fn an_answer_to_a_ping_from_a_stranger_is_dropped() {
    let mut bench = pinging(Ping { fall: 1, legs: PingLegs::Caller, ..PING });
    bench.talking_call("1");
    let ping = of(&bench.pass(seconds(31)), "OPTIONS")[0].clone();
    bench.receive("127.0.0.9:5072", ping.answer(200, "OK", &[]));
    let sent = bench.pass(seconds(6));
    assert_eq!((sessions(&bench), of(&sent, "BYE").is_empty()), (0, false));
}

#[test]
fn a_destination_that_goes_and_comes_back_has_its_sessions() {
    let mut bench = Bench::with(|config| config.sets[0].capacity.max_sessions = Some(2));
    let calls: Vec<_> = (0..4).map(|call| bench.answered_call(&call.to_string()).1).collect();
    let on =
        |bench: &Bench| -> Vec<u64> { bench.snapshot().sets[0].destinations.iter().map(|one| one.sessions).collect() };
    bench.load(set_19(&[SERVERS[1]]));
    assert_eq!((on(&bench), bench.snapshot().sessions), (vec![2], 4), "those of the one that is gone live on");
    // One of them ends while it is away.
    bench.receive(CALLER, in_dialog("BYE", &calls[0], 2));
    bench.load(set_19(&SERVERS));
    assert_eq!(on(&bench), [1, 2]);
    let more = bench.call("more");
    assert_eq!(more.to.to_string(), SERVERS[0], "it has room for one");
    let told = lines(&bench.receive(CALLER, invite("beyond")));
    assert_eq!(told.last().map(String::as_str), Some("SIP/2.0 486 Busy Here"));
    answer(&mut bench, &more, 404);
    for (cseq, ok) in calls.iter().enumerate().skip(1) {
        bench.receive(CALLER, in_dialog("BYE", ok, 9 + cseq as u32));
    }
    assert_eq!(on(&bench), [0, 0]);
}

/// The INVITE of [`invite`] by another branch: a proxy before us has forked it.
fn forked(id: &str, branch: &str) -> String {
    invite(id).replace(&format!("z9hG4bK-{id}-INVITE"), branch)
}

#[test]
fn of_invites_that_were_forked_before_us_the_last_to_fail_ends_the_session() {
    let mut bench = Bench::without_failover(|_| {});
    let send = |bench: &mut Bench, branch| of(&bench.receive(CALLER, forked("1", branch)), "INVITE")[0].clone();
    let (one, two) = (send(&mut bench, "z9hG4bK-one"), send(&mut bench, "z9hG4bK-two"));
    assert_eq!(sessions(&bench), 1);
    answer(&mut bench, &one, 404);
    assert_eq!((sessions(&bench), endings(&bench)), (1, vec![]), "the other one goes on");
    answer(&mut bench, &two, 200);
    assert_eq!(sessions(&bench), 1);
    let load: Vec<_> = bench.snapshot().sets[0].destinations.iter().map(|one| one.sessions).collect();
    assert_eq!(load, [0, 1], "where it was answered");
}

#[test]
fn of_invites_that_were_forked_before_us_the_second_2xx_moves_nothing() {
    let mut bench = Bench::without_failover(|_| {});
    let send = |bench: &mut Bench, branch| of(&bench.receive(CALLER, forked("1", branch)), "INVITE")[0].clone();
    let (one, two) = (send(&mut bench, "z9hG4bK-one"), send(&mut bench, "z9hG4bK-two"));
    let contact = |at: &Sent| format!("Contact: <sip:{}>", at.to);
    let ok = bench.receive(&one.to.to_string(), one.answer(200, "OK", &[&contact(&one)]))[0].clone();
    let load =
        |bench: &Bench| -> Vec<u64> { bench.snapshot().sets[0].destinations.iter().map(|one| one.sessions).collect() };
    let before = load(&bench);
    let text =
        String::from_utf8(two.answer(200, "OK", &[&contact(&two)])).expect("text").replace(";tag=srv", ";tag=other");
    let other = bench.receive(&two.to.to_string(), text)[0].clone();
    assert_eq!((load(&bench), before), (vec![1, 0], vec![1, 0]));
    bench.receive(CALLER, in_dialog("BYE", &other, 2));
    assert_eq!(sessions(&bench), 1);
    bench.receive(CALLER, in_dialog("BYE", &ok, 3));
    assert_eq!((sessions(&bench), endings(&bench)), (0, vec![Ending::CallerBye]));
}
