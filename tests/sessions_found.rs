//! What the simulation of sessions has found, in plain words.

use std::time::Duration;

use tandem::engine::Event;
use tandem::engine::dispatch::{AtMaxDuration, Ping, SetId};
use tandem::engine::event::{Ending, Record, Which};

use crate::harness::{Bench, CALLER, SERVERS, Sent, from_destination, in_dialog, invite, seconds};

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
