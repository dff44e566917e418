//! The four transaction machines, seen from outside; RFC 6026 and RFC 4320 included.

use crate::harness::{
    Bench, CALLER, INSIDE, SERVERS, in_dialog, invite, lines, relayed_invite, request, seconds, times,
};

const ACK: &str = "ACK sip:10.129.39.88:7010 SIP/2.0";

#[test]
fn a_resent_invite_is_absorbed_and_told_the_last_provisional() {
    let mut bench = Bench::new();
    let call = bench.call("1");
    assert_eq!(lines(&bench.receive(CALLER, invite("1"))), ["SIP/2.0 100 Trying"]);
    bench.receive(SERVERS[0], call.answer(180, "Ringing", &[]));
    assert_eq!(lines(&bench.receive(CALLER, invite("1"))), ["SIP/2.0 180 Ringing"]);
    bench.receive(SERVERS[0], call.answer(200, "OK", &[]));
    assert_eq!(bench.receive(CALLER, invite("1")).len(), 0);
    assert_eq!(bench.snapshot().totals.retransmissions, 3);
    assert_eq!(bench.snapshot().sets[0].destinations[0].selections, 1);
}

#[test]
fn a_silent_destination_gets_seven_invites_and_the_caller_408() {
    let mut bench = Bench::relaying();
    bench.relayed_call("1");
    let sent = bench.pass(seconds(33));
    let (to_caller, to_server): (Vec<_>, Vec<_>) = sent.into_iter().partition(|one| one.to.to_string() == CALLER);
    assert_eq!(times(&to_server), [500, 1500, 3500, 7500, 15500, 31500]);
    assert_eq!((lines(&to_caller)[0].as_str(), times(&to_caller)[0]), ("SIP/2.0 408 Request Timeout", 32_000));
    assert_eq!(bench.snapshot().sessions, 0);
}

#[test]
fn our_failure_is_resent_until_its_ack_and_at_most_64_t1() {
    let mut bench = Bench::new();
    bench.load(crate::harness::set_19(&[]));
    bench.receive(CALLER, invite("1"));
    assert_eq!(times(&bench.pass(seconds(4))), [500, 1500, 3500]);
    bench.receive(CALLER, invite("1").replace("INVITE sip", "ACK sip").replace("1 INVITE", "1 ACK"));
    assert_eq!(bench.pass(seconds(60)).len(), 0);
    bench.receive(CALLER, invite("2"));
    assert_eq!(bench.pass(seconds(60)).len(), 10);
    assert_eq!(bench.snapshot().transactions, 0);
}

#[test]
fn other_requests_are_resent_by_timer_e_and_their_answer_is_kept_for_timer_j() {
    let mut bench = Bench::new();
    let (_, ok) = bench.answered_call("1");
    let bye = in_dialog("BYE", &ok, 2);
    let forwarded = bench.receive(CALLER, &bye);
    let resent: Vec<_> = bench.pass(seconds(8)).into_iter().filter(|one| one.to.to_string() != CALLER).collect();
    assert_eq!(times(&resent), [500, 1500, 3500, 7500]);
    let answer = bench.receive(SERVERS[0], forwarded[0].answer(200, "OK", &[]));
    bench.pass(seconds(31));
    assert_eq!(bench.receive(CALLER, &bye)[0].bytes, answer[0].bytes);
    bench.pass(seconds(70));
    assert_eq!(bench.snapshot().transactions, 0);
}

#[test]
fn a_200_to_invite_leaves_no_transaction_behind() {
    let mut bench = Bench::new();
    let (_, ok) = bench.answered_call("1");
    bench.receive(CALLER, in_dialog("ACK", &ok, 1));
    assert_eq!(bench.snapshot().transactions, 2);
    assert_eq!(bench.pass(seconds(33)).len(), 0);
    assert_eq!((bench.snapshot().transactions, bench.snapshot().sessions), (0, 1));
}

#[test]
fn a_late_2xx_after_timer_m_still_reaches_the_caller() {
    let mut bench = Bench::new();
    let (invite, ok) = bench.answered_call("1");
    bench.pass(seconds(40));
    let sent = bench.receive(SERVERS[0], invite.answer(200, "OK", &["Contact: <sip:10.129.39.88:7010>"]));
    assert_eq!(sent[0].bytes, ok.bytes);
}

#[test]
fn a_failure_is_acknowledged_for_32_s() {
    let mut bench = Bench::relaying();
    let call = bench.relayed_call("1");
    bench.receive(SERVERS[0], call.answer(486, "Busy", &[]));
    bench.receive(CALLER, relayed_invite("1").replace("INVITE sip", "ACK sip").replace("1 INVITE", "1 ACK"));
    bench.pass(seconds(31));
    assert_eq!(lines(&bench.receive(SERVERS[0], call.answer(486, "Busy", &[]))), [ACK]);
    bench.pass(seconds(2));
    assert_eq!(bench.snapshot().transactions, 0);
}

#[test]
fn an_rfc_2543_client_without_magic_branch_is_told_apart_by_its_fields() {
    let mut bench = Bench::new();
    let old =
        |cseq: u32| invite("1").replace(";branch=z9hG4bK-1-INVITE", "").replace("1 INVITE", &format!("{cseq} INVITE"));
    assert_eq!(bench.receive(CALLER, old(1)).len(), 2);
    assert_eq!(lines(&bench.receive(CALLER, old(1))), ["SIP/2.0 100 Trying"]);
    assert_eq!(bench.receive(CALLER, old(2)).len(), 2);
}

#[test]
fn the_same_branch_from_two_senders_is_two_transactions() {
    let mut bench = Bench::new();
    bench.call("1");
    let other = invite("1").replace(&format!("UDP {CALLER}"), "UDP 127.0.0.1:5099");
    assert_eq!(bench.receive("127.0.0.1:5099", other).len(), 2);
}

#[test]
fn a_local_answer_to_another_method_is_resent_on_request_only() {
    let mut bench = Bench::new();
    let subscribe = request("SUBSCRIBE", &format!("sip:{INSIDE}"), "1", &[]);
    let first = bench.receive(CALLER, &subscribe);
    assert_eq!(lines(&first), ["SIP/2.0 404 Not Found"]);
    assert_eq!(bench.pass(seconds(10)).len(), 0);
    assert_eq!(bench.receive(CALLER, &subscribe)[0].bytes, first[0].bytes);
}
