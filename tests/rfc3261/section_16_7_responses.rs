//! Response processing.

use crate::harness::{Bench, CALLER, SERVERS, in_dialog, lines, request, seconds};

#[test]
fn provisionals_and_the_final_answer_go_back_without_our_via() {
    let mut bench = Bench::new();
    let invite = bench.call("1");
    assert_eq!(bench.receive(SERVERS[0], invite.answer(100, "Trying", &[])).len(), 0);
    for (status, reason) in [(180, "Ringing"), (183, "Progress"), (200, "OK")] {
        let sent = bench.receive(SERVERS[0], invite.answer(status, reason, &[]));
        assert_eq!(lines(&sent), [format!("SIP/2.0 {status} {reason}")]);
        assert_eq!((sent[0].to.to_string(), sent[0].by), (CALLER.into(), 0));
        assert_eq!(sent[0].headers("Via").len(), 1);
        assert!(sent[0].header("Via").contains("branch=z9hG4bK-1-INVITE;rport=5072;received=127.0.0.1"));
    }
}

#[test]
fn several_vias_on_one_line_lose_only_ours() {
    let mut bench = Bench::new();
    let invite = bench.call("1");
    let vias = invite.headers("Via");
    let answer = String::from_utf8(invite.answer(200, "OK", &[])).expect("text");
    let answer = answer
        .replace(&format!("Via: {}\r\n", vias[1]), "")
        .replace(&format!("Via: {}", vias[0]), &format!("v : {} , {}", vias[0], vias[1]));
    let sent = bench.receive(SERVERS[0], answer);
    assert!(sent[0].text().contains(&format!("v : {}\r\n", vias[1])), "{}", sent[0].text());
}

#[test]
fn repeated_2xx_pass_each_time_and_their_acks_too() {
    let mut bench = Bench::new();
    let (invite, ok) = bench.answered_call("1");
    for _ in 0..3 {
        bench.pass(seconds(1));
        let again = bench.receive(SERVERS[0], invite.answer(200, "OK", &["Contact: <sip:10.129.39.88:7010>"]));
        assert_eq!(again[0].bytes, ok.bytes);
        assert_eq!(bench.receive(CALLER, in_dialog("ACK", &ok, 1)).len(), 1);
    }
}

#[test]
fn a_failure_goes_back_once_and_is_acknowledged_here() {
    let mut bench = Bench::relaying();
    let invite = bench.relayed_call("1");
    let sent = bench.receive(SERVERS[0], invite.answer(486, "Busy Here", &[]));
    let first: Vec<_> = lines(&sent);
    assert_eq!(first, ["ACK sip:10.129.39.88:7010 SIP/2.0", "SIP/2.0 486 Busy Here"]);
    assert_eq!(sent[0].header("Via"), invite.headers("Via")[0]);
    assert_eq!(sent[0].header("CSeq"), "1 ACK");
    assert!(sent[0].header("To").ends_with(";tag=srv"));
    assert_eq!(lines(&bench.receive(SERVERS[0], invite.answer(486, "Busy Here", &[]))), [first[0].clone()]);
    assert_eq!(bench.snapshot().sessions, 0);
}

#[test]
fn a_503_of_a_destination_is_our_500() {
    let mut bench = Bench::relaying();
    let invite = bench.relayed_call("1");
    let sent = bench.receive(SERVERS[0], invite.answer(503, "Service Unavailable", &["Retry-After: 60"]));
    assert_eq!(lines(&sent)[1], "SIP/2.0 500 Internal Server Error");
    assert_eq!(sent[1].headers("Retry-After").len(), 0);
}

#[test]
fn a_response_that_is_not_ours_is_dropped() {
    let mut bench = Bench::new();
    let invite = bench.call("1");
    let text = String::from_utf8(invite.answer(200, "OK", &[])).expect("text");
    let branch = invite.message().via().branch.map(|branch| String::from_utf8_lossy(branch).into_owned()).expect("one");
    let mut bent = branch.clone().into_bytes();
    let last = bent.len() - 3;
    bent[last] = if bent[last] == b'A' { b'B' } else { b'A' };
    let bent = String::from_utf8(bent).expect("text");
    for (what, bad) in [
        ("bent branch", text.replace(&branch, &bent)),
        ("no branch of ours", text.replace(&branch, "z9hG4bKxyz")),
        ("another host's Via", text.replace("10.129.39.1:8060", "10.129.39.3:8060")),
        ("another method", text.replace("CSeq: 1 INVITE", "CSeq: 1 BYE")),
    ] {
        assert_eq!(bench.receive("10.9.9.9:5060", bad).len(), 0, "{what}");
    }
    assert_eq!(bench.snapshot().totals.dropped[2], 4);
    assert_eq!(bench.receive(SERVERS[0], text).len(), 1);
}

#[test]
fn an_answer_to_a_node_that_died_is_passed_on_by_its_vias() {
    let invite = Bench::new().call("1");
    let mut other = Bench::with(|config| config.node = "b".into());
    let sent = other.receive(SERVERS[0], invite.answer(200, "OK", &[]));
    assert_eq!((lines(&sent), sent[0].to.to_string()), (vec!["SIP/2.0 200 OK".to_owned()], CALLER.into()));
    let stranger = other.receive("10.9.9.9:5060", invite.answer(200, "OK", &[]));
    assert_eq!(stranger.len(), 0, "not a destination's address");
    let redirected =
        String::from_utf8(invite.answer(200, "OK", &[])).expect("text").replace("rport=5072", "rport=5073");
    assert_eq!(other.receive(SERVERS[0], redirected).len(), 0, "the MAC covers where it goes");
    other.pass(seconds(6 * 60));
    assert_eq!(other.receive(SERVERS[0], invite.answer(200, "OK", &[])).len(), 0, "too old");
}

#[test]
fn a_408_to_another_method_than_invite_is_never_made() {
    let mut bench = Bench::new();
    let (_, ok) = bench.answered_call("1");
    bench.receive(CALLER, in_dialog("INFO", &ok, 2));
    let sent = bench.pass(seconds(60));
    assert!(sent.iter().filter(|one| one.to.to_string() == CALLER).all(|one| one.line() == "SIP/2.0 100 Trying"));
}

#[test]
fn a_late_answer_to_another_method_than_invite_brings_100_first() {
    let mut bench = Bench::relaying();
    let options = request("OPTIONS", &format!("sip:{}", SERVERS[0]), "1", &[]);
    let forwarded = bench.receive(CALLER, &options);
    let sent = bench.pass(seconds(5));
    let to_caller: Vec<_> = sent.iter().filter(|one| one.to.to_string() == CALLER).collect();
    assert_eq!(to_caller.len(), 1);
    assert_eq!((to_caller[0].line(), to_caller[0].at.as_millis()), ("SIP/2.0 100 Trying".into(), 3500));
    assert_eq!(lines(&bench.receive(CALLER, &options)), ["SIP/2.0 100 Trying"]);
    assert_eq!(bench.receive(SERVERS[0], forwarded[0].answer(183, "Progress", &[])).len(), 0);
    assert_eq!(lines(&bench.receive(SERVERS[0], forwarded[0].answer(200, "OK", &[]))), ["SIP/2.0 200 OK"]);
}

#[test]
fn a_success_after_our_408_does_not_reach_the_caller_while_the_call_is_remembered() {
    let mut bench = Bench::relaying();
    let invite = bench.relayed_call("1");
    let sent = bench.pass(seconds(32));
    assert_eq!(lines(&sent).last().map(String::as_str), Some("SIP/2.0 408 Request Timeout"));
    let ok = invite.answer(200, "OK", &["Contact: <sip:10.129.39.88:7010>"]);
    assert_eq!(
        lines(&bench.receive(SERVERS[0], ok)),
        ["ACK sip:10.129.39.88:7010 SIP/2.0", "BYE sip:10.129.39.88:7010 SIP/2.0"]
    );
    bench.pass(seconds(100));
    assert_eq!(bench.snapshot().transactions, 0);
}

#[test]
fn a_final_with_no_via_but_ours_ends_its_branch_and_the_caller_hears_500() {
    for (status, reason) in [(200, "OK"), (404, "Not Found")] {
        let mut bench = Bench::relaying();
        let invite = bench.relayed_call("1");
        let text = String::from_utf8(invite.answer(status, reason, &[])).expect("text");
        let others: Vec<_> = invite.headers("Via")[1..].iter().map(|via| format!("Via: {via}\r\n")).collect();
        let sent = bench.receive(&invite.to.to_string(), text.replace(&others.concat(), ""));
        assert_eq!(lines(&sent).last().map(String::as_str), Some("SIP/2.0 500 Internal Server Error"));
        bench.pass(seconds(300));
        assert_eq!((bench.snapshot().transactions, bench.snapshot().sessions), (0, 0));
    }
}

#[test]
fn a_destinations_own_408_to_another_method_than_invite_stays_here() {
    let mut bench = Bench::new();
    let (invite, ok) = bench.answered_call("1");
    let info = bench.receive(CALLER, in_dialog("INFO", &ok, 2));
    assert_eq!(bench.receive(&invite.to.to_string(), info[0].answer(408, "Request Timeout", &[])).len(), 0);
}
