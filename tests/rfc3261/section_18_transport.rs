//! Where answers go: section 18.2 and RFC 3581.

use crate::harness::{Bench, CALLER, INSIDE, request};

fn options(via: &str) -> String {
    request("OPTIONS", &format!("sip:{INSIDE}"), "1", &[])
        .replace(&format!("SIP/2.0/UDP {CALLER};branch=z9hG4bK-1-OPTIONS;rport"), via)
}

#[test]
fn an_answer_goes_to_the_source_address_and_the_port_that_the_via_asks_for() {
    for (via, to, header) in [
        ("SIP/2.0/UDP 127.0.0.1:5072;branch=z9hG4bKx", "127.0.0.1:5072", "SIP/2.0/UDP 127.0.0.1:5072;branch=z9hG4bKx"),
        (
            "SIP/2.0/UDP 127.0.0.1:5072;branch=z9hG4bKx;rport",
            "127.0.0.1:6000",
            "SIP/2.0/UDP 127.0.0.1:5072;branch=z9hG4bKx;rport=6000;received=127.0.0.1",
        ),
        (
            "SIP/2.0/UDP pbx.example.com;branch=z9hG4bKx",
            "127.0.0.1:5060",
            "SIP/2.0/UDP pbx.example.com;branch=z9hG4bKx;received=127.0.0.1",
        ),
        (
            "SIP/2.0/UDP 203.0.113.9:99;received=203.0.113.9;rport=1;maddr=203.0.113.9;branch=z9hG4bKx",
            "127.0.0.1:6000",
            "SIP/2.0/UDP 203.0.113.9:99;received=127.0.0.1;rport=6000;maddr=203.0.113.9;branch=z9hG4bKx",
        ),
    ] {
        let sent = Bench::new().receive("127.0.0.1:6000", options(via));
        assert_eq!((sent[0].to.to_string().as_str(), sent[0].header("Via").as_str()), (to, header));
    }
}

#[test]
fn an_answer_leaves_by_the_listener_that_the_request_came_to() {
    let mut bench = Bench::new();
    assert_eq!(bench.receive(CALLER, options("SIP/2.0/UDP 127.0.0.1:5072;branch=z9hG4bKx"))[0].by, 0);
    assert_eq!(bench.receive("10.1.1.1:5060", options("SIP/2.0/UDP 10.1.1.1;branch=z9hG4bKx"))[0].by, 1);
}

#[test]
fn a_message_larger_than_the_limit_is_counted_and_dropped() {
    let mut bench = Bench::with(|config| config.limits.message = 2000);
    let big = request("OPTIONS", &format!("sip:{INSIDE}"), "1", &[&format!("X: {}", "x".repeat(2000))]);
    assert_eq!(bench.receive(CALLER, big).len(), 0);
    assert_eq!(bench.snapshot().totals.dropped[4], 1);
}
