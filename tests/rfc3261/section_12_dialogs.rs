//! Dialogs: what the table of sessions knows of them.

use crate::harness::{Bench, CALLER, SERVERS, in_dialog, lines, set_19};

#[test]
fn an_ack_or_a_request_that_comes_after_the_bye_does_not_bring_the_session_back() {
    let mut bench = Bench::new();
    let (invite, ok) = bench.answered_call("1");
    let server = invite.to.to_string();
    bench.receive(CALLER, in_dialog("BYE", &ok, 2));
    assert_eq!(bench.snapshot().sessions, 0);
    assert_eq!(bench.receive(CALLER, in_dialog("ACK", &ok, 1)).len(), 1, "it goes on all the same");
    assert_eq!(bench.snapshot().sessions, 0);
    let info = bench.receive(CALLER, in_dialog("INFO", &ok, 3));
    bench.receive(&server, info[0].answer(481, "Call/Transaction Does Not Exist", &[]));
    assert_eq!(bench.snapshot().sessions, 0);
}

#[test]
fn a_session_finds_its_server_without_contact_after_its_row_is_gone() {
    let mut bench = Bench::new();
    let invite = bench.call("1");
    let ok = bench.receive(SERVERS[0], invite.answer(200, "OK", &["Contact: <sip:127.0.0.1:8060>"]));
    bench.load(set_19(&SERVERS[1..]));
    let bye = bench.receive(CALLER, in_dialog("BYE", &ok[0], 2));
    assert_eq!((lines(&bye).len(), bye[0].to.to_string()), (1, SERVERS[0].to_owned()));
}
