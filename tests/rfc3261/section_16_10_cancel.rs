//! CANCEL: answered here, and passed on to the branch that it names.

use crate::harness::{Bench, CALLER, SERVERS, invite, lines, seconds};

fn cancel(id: &str) -> String {
    invite(id).replace("INVITE sip", "CANCEL sip").replace("1 INVITE", "1 CANCEL")
}

#[test]
fn a_cancel_is_answered_and_passed_on() {
    let mut bench = Bench::new();
    let call = bench.call("1");
    bench.receive(SERVERS[0], call.answer(180, "Ringing", &[]));
    let sent = bench.receive(CALLER, cancel("1"));
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK", "CANCEL sip:10.129.39.88:7010 SIP/2.0"]);
    assert_eq!(sent[1].header("Via"), call.headers("Via")[0]);
    assert_eq!(sent[1].headers("Via").len(), 1);
    assert_eq!(bench.receive(SERVERS[0], sent[1].answer(200, "OK", &[])).len(), 0);
    let sent = bench.receive(SERVERS[0], call.answer(487, "Request Terminated", &[]));
    assert_eq!(lines(&sent), ["ACK sip:10.129.39.88:7010 SIP/2.0", "SIP/2.0 487 Request Terminated"]);
    bench.receive(CALLER, invite("1").replace("INVITE sip", "ACK sip").replace("1 INVITE", "1 ACK"));
    assert_eq!(bench.pass(seconds(65)).len(), 0);
    assert_eq!((bench.snapshot().transactions, bench.snapshot().sessions), (0, 0));
}

#[test]
fn a_cancel_before_a_provisional_waits_for_it() {
    let mut bench = Bench::new();
    let call = bench.call("1");
    assert_eq!(lines(&bench.receive(CALLER, cancel("1"))), ["SIP/2.0 200 OK"]);
    let sent = bench.receive(SERVERS[0], call.answer(100, "Trying", &[]));
    assert_eq!(lines(&sent), ["CANCEL sip:10.129.39.88:7010 SIP/2.0"]);
}

#[test]
fn a_cancel_is_resent_until_it_is_answered() {
    let mut bench = Bench::new();
    let call = bench.call("1");
    bench.receive(SERVERS[0], call.answer(100, "Trying", &[]));
    let cancelled = bench.receive(CALLER, cancel("1"));
    assert_eq!(lines(&bench.pass(seconds(4))), ["CANCEL sip:10.129.39.88:7010 SIP/2.0"; 3]);
    bench.receive(SERVERS[0], cancelled[1].answer(200, "OK", &[]));
    assert_eq!(bench.pass(seconds(20)).len(), 0);
}

#[test]
fn a_cancelled_invite_that_nobody_answers_ends_in_487() {
    let mut bench = Bench::new();
    bench.call("1");
    bench.receive(CALLER, cancel("1"));
    let sent = bench.pass(seconds(33));
    let answer = sent.iter().find(|one| one.to.to_string() == CALLER).expect("an answer");
    assert_eq!(answer.line(), "SIP/2.0 487 Request Terminated");
}

#[test]
fn a_cancel_that_comes_too_late_changes_nothing() {
    let mut bench = Bench::new();
    bench.answered_call("1");
    assert_eq!(lines(&bench.receive(CALLER, cancel("1"))), ["SIP/2.0 200 OK"]);
    assert_eq!(lines(&bench.receive(CALLER, cancel("2"))), ["SIP/2.0 481 Call/Transaction Does Not Exist"]);
    assert_eq!(bench.snapshot().sessions, 1);
}

#[test]
fn a_2xx_that_crosses_the_cancel_wins() {
    let mut bench = Bench::new();
    let call = bench.call("1");
    bench.receive(SERVERS[0], call.answer(180, "Ringing", &[]));
    bench.receive(CALLER, cancel("1"));
    assert_eq!(lines(&bench.receive(SERVERS[0], call.answer(200, "OK", &[]))), ["SIP/2.0 200 OK"]);
    assert_eq!(bench.snapshot().sessions, 1);
}
