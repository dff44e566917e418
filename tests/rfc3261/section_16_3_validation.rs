//! Request validation, in the order of section 16.3.

use crate::harness::{Bench, CALLER, INSIDE, lines, request};

const MRCP: &str = "User-Agent: OPENSIPS_TTS_MRCP_CLIENT";

fn answer(request: &str) -> String {
    let sent = Bench::new().receive(CALLER, request);
    assert_eq!(sent.len(), 1, "{:?}", lines(&sent));
    assert_eq!(sent[0].to.to_string(), CALLER);
    sent[0].line()
}

#[test]
fn each_fault_gets_its_own_answer() {
    let to_us = format!("sip:{INSIDE}");
    let options = |extra: &[&str]| request("OPTIONS", &to_us, "1", extra);
    for (request, line) in [
        (options(&[]).replace("SIP/2.0\r\nVia", "SIP/3.0\r\nVia"), "SIP/2.0 505 Version Not Supported"),
        (options(&[]).replace("CSeq: 1 OPTIONS", "CSeq: 1 INVITE"), "SIP/2.0 400 Bad CSeq Header"),
        (options(&[]).replace("Call-ID: 1\r\n", ""), "SIP/2.0 400 Bad Call-ID Header"),
        (options(&[]).replace("Content-Length: 0", "Content-Length: 9"), "SIP/2.0 400 Bad Content-Length Header"),
        (options(&[]).replace("OPTIONS sip:", "OPTIONS  sip:"), "SIP/2.0 400 Bad Request Line"),
        (options(&[]).replace("Max-Forwards: 70", "Max-Forwards: x"), "SIP/2.0 400 Bad Max-Forwards Header"),
        (request("OPTIONS", "nobody:x", "1", &[]), "SIP/2.0 416 Unsupported URI Scheme"),
        (request("OPTIONS", "sip:host:port", "1", &[]), "SIP/2.0 400 Bad Request-URI"),
        (
            request("INVITE", &to_us, "1", &[MRCP]).replace("Max-Forwards: 70", "Max-Forwards: 0"),
            "SIP/2.0 483 Too Many Hops",
        ),
        (options(&["Proxy-Require: foo"]), "SIP/2.0 420 Bad Extension"),
    ] {
        assert_eq!(answer(&request), line, "{request}");
    }
}

#[test]
fn a_420_lists_what_is_not_supported() {
    let request = request("OPTIONS", &format!("sip:{INSIDE}"), "1", &["Proxy-Require: foo, bar", "Proxy-Require: baz"]);
    let sent = Bench::new().receive(CALLER, request);
    assert_eq!(sent[0].headers("Unsupported"), ["foo, bar", "baz"]);
}

#[test]
fn an_unsupported_require_is_the_destinations_affair() {
    let mut bench = Bench::new();
    let sent = bench.receive(CALLER, request("INVITE", &format!("sip:{INSIDE}"), "1", &[MRCP, "Require: foo"]));
    assert_eq!(sent[1].header("Require"), "foo");
}

#[test]
fn max_forwards_of_255_is_the_most() {
    let with = |hops: &str| {
        request("INVITE", &format!("sip:{INSIDE}"), "1", &[MRCP])
            .replace("Max-Forwards: 70", &format!("Max-Forwards: {hops}"))
    };
    assert_eq!(Bench::new().receive(CALLER, with("255"))[1].header("Max-Forwards"), "254");
    assert_eq!(answer(&with("256")), "SIP/2.0 400 Bad Max-Forwards Header");
}

#[test]
fn an_options_to_us_with_max_forwards_0_is_answered() {
    let request = request("OPTIONS", &format!("sip:{INSIDE}"), "1", &[]).replace("Forwards: 70", "Forwards: 0");
    assert_eq!(answer(&request), "SIP/2.0 200 OK");
}

#[test]
fn a_request_that_comes_back_unchanged_is_a_loop() {
    let mut bench = Bench::new();
    let sent = bench.call("1");
    // The destination sends it straight back to us, with its own Via and what we were asked for.
    let back = sent.text().replacen(&sent.line(), &format!("INVITE sip:{INSIDE} SIP/2.0"), 1);
    let back = back.replacen("Via:", "Via: SIP/2.0/UDP 10.129.39.88:7010;branch=z9hG4bKx\r\nVia:", 1);
    assert_eq!(lines(&bench.receive("10.129.39.88:7010", back)), ["SIP/2.0 482 Loop Detected"]);
}

#[test]
fn a_request_that_comes_back_with_another_uri_is_a_spiral_and_passes() {
    let mut bench = Bench::new();
    let sent = bench.call("1");
    let back = sent.text().replacen(&sent.line(), "INVITE sip:other@10.129.39.1:8060 SIP/2.0", 1);
    let back = back.replacen("Via:", "Via: SIP/2.0/UDP 10.129.39.88:7010;branch=z9hG4bKx\r\nVia:", 1);
    let sent = bench.receive("10.129.39.88:7010", back);
    assert_eq!(lines(&sent)[0], "SIP/2.0 100 Trying");
    assert!(sent[1].line().starts_with("INVITE sip:10.129.39.88:7011 "), "{:?}", lines(&sent));
}

#[test]
fn what_is_no_sip_or_cannot_be_answered_is_counted_and_dropped() {
    let mut bench = Bench::new();
    for bytes in ["TEST", "GET / HTTP/1.1\r\n\r\n", "\0\0", "OPTIONS sip:x SIP/2.0\r\nCall-ID: 1\r\n\r\n"] {
        assert_eq!(bench.receive(CALLER, bytes).len(), 0, "{bytes}");
    }
    let dropped = bench.snapshot().totals.dropped;
    assert_eq!((dropped[0], dropped[1]), (3, 1));
}

#[test]
fn more_header_lines_than_allowed_are_refused_and_what_can_not_be_answered_is_dropped() {
    let with = |method: &str, lines: usize| {
        let filler: Vec<_> = (0..lines).map(|line| format!("X-{line}: x")).collect();
        request(method, &format!("sip:{INSIDE}"), "1", &filler.iter().map(String::as_str).collect::<Vec<_>>())
    };
    // Seven lines of its own: Via, Max-Forwards, From, To, Call-ID, CSeq, Content-Length.
    let mut bench = Bench::new();
    assert_eq!(lines(&bench.receive(CALLER, with("OPTIONS", 249))), ["SIP/2.0 200 OK"]);
    assert_eq!(lines(&bench.receive(CALLER, with("OPTIONS", 250))), ["SIP/2.0 400 Too Many Header Lines"]);
    assert_eq!(bench.receive(CALLER, with("ACK", 250)).len(), 0);
    let response = with("OPTIONS", 250).replacen(&format!("OPTIONS sip:{INSIDE} SIP/2.0"), "SIP/2.0 200 OK", 1);
    assert_eq!(bench.receive(CALLER, response).len(), 0);
    let dropped = bench.snapshot().totals.dropped;
    assert_eq!((dropped[1], dropped[3]), (1, 1));
    let mut bench = Bench::with(|config| config.limits.header_lines = 257);
    assert_eq!(lines(&bench.receive(CALLER, with("OPTIONS", 250))), ["SIP/2.0 200 OK"]);
}

#[test]
fn keep_alives_are_answered_and_pongs_are_not() {
    let mut bench = Bench::new();
    assert_eq!(bench.receive(CALLER, "\r\n\r\n")[0].bytes, b"\r\n");
    assert_eq!(bench.receive(CALLER, "\r\n").len(), 0);
    assert_eq!(bench.receive(CALLER, "").len(), 0);
}

#[test]
fn a_local_answer_is_the_same_each_time() {
    let mut bench = Bench::new();
    let request = request("OPTIONS", &format!("sip:{INSIDE}"), "1", &["Proxy-Require: foo"]);
    let first = bench.receive(CALLER, &request);
    let second = bench.receive(CALLER, &request);
    assert_eq!(first[0].bytes, second[0].bytes);
    assert!(first[0].header("To").contains(";tag="));
}

#[test]
fn above_the_limit_of_transactions_new_requests_get_503_and_retry_after() {
    let mut bench = Bench::with(|config| config.limits.transactions = 4);
    bench.call("1");
    bench.call("2");
    let sent = bench.receive(CALLER, crate::harness::invite("3"));
    assert_eq!(lines(&sent), ["SIP/2.0 503 Overloaded"]);
    assert_eq!(sent[0].header("Retry-After"), "5");
}

#[test]
fn a_top_via_that_cannot_be_read_is_not_answered_by_another() {
    let mut bench = Bench::new();
    let request = request("OPTIONS", &format!("sip:{INSIDE}"), "1", &[]).replacen("Via:", "Via: garbage\r\nVia:", 1);
    assert_eq!(bench.receive(CALLER, request).len(), 0);
}

#[test]
fn an_options_without_hops_left_that_a_rule_would_send_on_gets_483() {
    let request = request("OPTIONS", &format!("sip:{INSIDE}"), "1", &[MRCP]).replace("Forwards: 70", "Forwards: 0");
    assert_eq!(answer(&request), "SIP/2.0 483 Too Many Hops");
}

#[test]
fn calls_in_being_can_end_when_there_is_no_room_for_new_ones() {
    let mut bench = Bench::with(|config| config.limits.transactions = 20);
    let (_, ok) = bench.answered_call("1");
    for call in 2..11 {
        bench.call(&call.to_string());
    }
    assert_eq!(lines(&bench.receive(CALLER, crate::harness::invite("x"))), ["SIP/2.0 503 Overloaded"]);
    for method in ["ACK", "BYE"] {
        let sent = bench.receive(CALLER, crate::harness::in_dialog(method, &ok, 2));
        assert!(sent[0].line().starts_with(method), "{:?}", lines(&sent));
    }
}
