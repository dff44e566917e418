//! Timer C: an INVITE that rings for ever is cancelled.

use crate::harness::{Bench, CALLER, SERVERS, lines, seconds};

#[test]
fn timer_c_cancels_and_the_caller_hears_of_it() {
    let mut bench = Bench::relaying();
    let invite = bench.relayed_call("1");
    bench.receive(SERVERS[0], invite.answer(180, "Ringing", &[]));
    let sent = bench.pass(seconds(182));
    assert_eq!(lines(&sent)[0], "CANCEL sip:10.129.39.88:7010 SIP/2.0");
    assert_eq!(sent[0].at, seconds(181));
    bench.receive(SERVERS[0], sent[0].answer(200, "OK", &[]));
    let sent = bench.receive(SERVERS[0], invite.answer(487, "Request Terminated", &[]));
    assert_eq!(lines(&sent)[1], "SIP/2.0 487 Request Terminated");
    assert_eq!(bench.snapshot().sessions, 0);
}

#[test]
fn each_provisional_but_100_begins_timer_c_anew() {
    let mut bench = Bench::relaying();
    let invite = bench.relayed_call("1");
    bench.receive(SERVERS[0], invite.answer(180, "Ringing", &[]));
    bench.pass(seconds(100));
    bench.receive(SERVERS[0], invite.answer(180, "Ringing", &[]));
    bench.pass(seconds(50));
    bench.receive(SERVERS[0], invite.answer(100, "Trying", &[]));
    assert_eq!(bench.pass(seconds(130)).len(), 0);
    assert_eq!(lines(&bench.pass(seconds(1))), ["CANCEL sip:10.129.39.88:7010 SIP/2.0"]);
}

#[test]
fn a_cancelled_branch_that_stays_silent_ends_in_408() {
    let mut bench = Bench::relaying();
    let invite = bench.relayed_call("1");
    bench.receive(SERVERS[0], invite.answer(180, "Ringing", &[]));
    let sent = bench.pass(seconds(181 + 33));
    let last = sent.iter().find(|one| one.to.to_string() == CALLER).expect("an answer");
    assert_eq!((last.line(), last.at), ("SIP/2.0 408 Request Timeout".into(), seconds(181 + 32)));
    bench.pass(seconds(65));
    assert_eq!(bench.snapshot().transactions, 0);
}
