//! Transport errors: section 16.9, and which ICMP errors are believed (section 18.4 says that they are to be).

use tandem::engine::Input;
use tandem::engine::dispatch::RetryOn;
use tandem::engine::event::DropCause;
use tandem::engine::flow::{ConnectionId, Flow, ListenerId, Transport};

use crate::harness::{Bench, CALLER, INSIDE, SERVERS, Sent, from_destination, in_dialog, lines, request, seconds};

/// Where `sent` went, as the error queue tells it.
fn way(sent: &Sent) -> Flow {
    let connection = ConnectionId::default();
    Flow { listener: ListenerId(sent.by), transport: Transport::Udp, peer: sent.to, connection }
}

/// An ICMP error about `sent`.
fn refuse(bench: &mut Bench, sent: &Sent) -> Vec<Sent> {
    bench.handle(Input::Refused { flow: way(sent), quoted: &sent.bytes })
}

/// ICMP errors that ended something, and those that did not.
fn counts(bench: &Bench) -> (u64, u64) {
    let totals = bench.snapshot().totals;
    (totals.icmp, totals.stray_icmp)
}

#[test]
fn a_refused_invite_goes_to_the_next_destination_at_once_and_only_that_one() {
    let mut bench = Bench::new();
    let (first, second) = (bench.call("1"), bench.call("2"));
    assert_eq!((first.to.to_string(), second.to.to_string()), (SERVERS[0].to_owned(), SERVERS[1].to_owned()));
    let sent = refuse(&mut bench, &first);
    assert_eq!(lines(&sent), ["INVITE sip:10.129.39.88:7011 SIP/2.0"]);
    assert_eq!(sent[0].header("Call-ID"), "1");
    let ok = bench.receive(SERVERS[1], sent[0].answer(200, "OK", &["Contact: <sip:10.129.39.88:7011>"]));
    assert_eq!(lines(&ok), ["SIP/2.0 200 OK"]);
    // The other call waits as before, and the error comes again for nothing.
    assert_eq!(refuse(&mut bench, &first).len(), 0);
    assert_eq!(lines(&bench.receive(SERVERS[1], second.answer(200, "OK", &[]))), ["SIP/2.0 200 OK"]);
    assert_eq!((counts(&bench), bench.snapshot().sets[0].failovers), ((1, 1), 1));
}

#[test]
fn a_refused_copy_of_the_invite_counts_like_the_first() {
    let mut bench = Bench::new();
    bench.call("1");
    let again = bench.pass(seconds(1));
    assert_eq!(lines(&again), ["INVITE sip:10.129.39.88:7010 SIP/2.0"]);
    assert_eq!(lines(&refuse(&mut bench, &again[0])), ["INVITE sip:10.129.39.88:7011 SIP/2.0"]);
}

#[test]
fn when_all_refuse_the_caller_hears_of_it_at_once() {
    let mut bench = Bench::new();
    let first = bench.call("1");
    let second = refuse(&mut bench, &first);
    let sent = refuse(&mut bench, &second[0]);
    assert_eq!(lines(&sent), ["SIP/2.0 480 MRCP server Unavailable"]);
    assert_eq!(sent[0].header("Reason"), "SIP;cause=503");
    bench.receive(CALLER, crate::harness::invite("1").replace("INVITE", "ACK"));
    bench.pass(seconds(70));
    assert_eq!((bench.snapshot().transactions, bench.snapshot().sessions), (0, 0));
}

#[test]
fn a_set_that_does_not_retry_on_transport_errors_answers() {
    let mut bench = Bench::with(|config| config.sets[0].failover.retry_on = RetryOn::NONE);
    let first = bench.call("1");
    assert_eq!(lines(&refuse(&mut bench, &first)), ["SIP/2.0 480 MRCP server Unavailable"]);
}

#[test]
fn forged_quotes_change_nothing() {
    let mut bench = Bench::new();
    let first = bench.call("1");
    let text = first.text();
    let branch = first.message().via().branch.map(|branch| String::from_utf8_lossy(branch).into_owned()).expect("ours");
    // Every character of the prefix and of the MAC, which are 7 at the start and 11 at the end.
    let mut forged: Vec<_> = (0..branch.len())
        .filter(|at| *at < 7 || at + 11 >= branch.len())
        .map(|at| {
            let other = if &branch[at..=at] == "A" { "B" } else { "A" };
            text.replacen(&branch, &format!("{}{other}{}", &branch[..at], &branch[at + 1..]), 1)
        })
        .collect();
    forged.extend([
        String::new(),
        "TEST".into(),
        "\r\n\r\n".into(),
        // A response, an ACK and other methods of the same branch.
        text.replacen(&first.line(), "SIP/2.0 200 OK", 1),
        text.replace("INVITE", "ACK"),
        text.replace("INVITE", "BYE"),
        text.replace("INVITE", "OPTIONS"),
        // The branch in another Via than the first.
        text.replacen("Via:", "Via: SIP/2.0/UDP 10.129.39.1:8060;branch=z9hG4bKx\r\nVia:", 1),
    ]);
    for quoted in &forged {
        assert_eq!(bench.handle(Input::Refused { flow: way(&first), quoted: quoted.as_bytes() }).len(), 0, "{quoted}");
    }
    // The right quote, but of another way.
    let right = way(&first);
    let others = [
        Flow { peer: SERVERS[1].parse().expect("an address"), ..right },
        Flow { peer: "10.129.39.89:7010".parse().expect("an address"), ..right },
        Flow { listener: ListenerId(0), ..right },
        Flow { transport: Transport::Tcp, ..right },
    ];
    for flow in others {
        assert_eq!(bench.handle(Input::Refused { flow, quoted: &first.bytes }).len(), 0, "{flow:?}");
    }
    assert_eq!(counts(&bench), (0, (forged.len() + others.len()) as u64));
    assert_eq!(lines(&bench.receive(SERVERS[0], first.answer(200, "OK", &[]))), ["SIP/2.0 200 OK"]);
    assert_eq!(bench.snapshot().sets[0].failovers, 0);
}

#[test]
fn cut_quotes_are_believed_as_soon_as_they_hold_the_branch() {
    let whole = Bench::new().call("1");
    let branch = whole.message().via().branch.expect("ours").to_vec();
    let end = whole.bytes.windows(branch.len()).position(|part| part == branch).expect("it is there") + branch.len();
    for cut in 0..=whole.bytes.len() {
        let mut bench = Bench::new();
        let first = bench.call("1");
        let sent = bench.handle(Input::Refused { flow: way(&first), quoted: &first.bytes[..cut] });
        assert_eq!(sent.len(), usize::from(cut >= end), "{cut}");
    }
}

#[test]
fn an_invite_that_has_been_answered_stays_answered() {
    for status in [100, 180, 200, 404] {
        let mut bench = Bench::new();
        let first = bench.call("1");
        bench.receive(SERVERS[0], first.answer(status, "Answer", &[]));
        assert_eq!(refuse(&mut bench, &first).len(), 0, "{status}");
        assert_eq!(counts(&bench), (0, 1));
        assert!(bench.pass(seconds(1)).iter().all(|sent| sent.to.to_string() != SERVERS[1]), "{status}");
    }
}

#[test]
fn a_refused_cancel_ends_the_call_since_nobody_will_answer_the_invite() {
    let mut bench = Bench::new();
    let first = bench.call("1");
    bench.receive(SERVERS[0], first.answer(180, "Ringing", &[]));
    let cancel = crate::harness::invite("1").replace("INVITE sip", "CANCEL sip").replace("1 INVITE", "1 CANCEL");
    let sent = bench.receive(CALLER, cancel);
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK", "CANCEL sip:10.129.39.88:7010 SIP/2.0"]);
    assert_eq!(lines(&refuse(&mut bench, &sent[1])), ["SIP/2.0 487 Request Terminated"]);
    assert_eq!(counts(&bench), (1, 0));
}

#[test]
fn a_refused_ack_or_response_changes_nothing() {
    let mut bench = Bench::new();
    let (_, ok) = bench.answered_call("1");
    let ack = bench.receive(CALLER, in_dialog("ACK", &ok, 1));
    for sent in [&ok, &ack[0]] {
        assert_eq!(refuse(&mut bench, sent).len(), 0);
    }
    let failed = bench.call("2");
    let sent = bench.receive(SERVERS[1], failed.answer(404, "Not Found", &[]));
    assert_eq!(lines(&sent), ["ACK sip:10.129.39.88:7011 SIP/2.0", "SIP/2.0 404 Not Found"]);
    for sent in &sent {
        assert_eq!(refuse(&mut bench, sent).len(), 0);
    }
    assert_eq!((counts(&bench), bench.snapshot().sessions), ((0, 4), 1));
}

#[test]
fn a_refused_request_inside_a_dialog_is_answered_as_if_by_a_503() {
    let mut bench = Bench::new();
    let (invite, ok) = bench.answered_call("1");
    for (request, sender) in [(in_dialog("BYE", &ok, 2), CALLER), (from_destination("BYE", &invite, 2), SERVERS[0])] {
        let sent = bench.receive(sender, request);
        let answer = refuse(&mut bench, &sent[0]);
        assert_eq!(
            (lines(&answer), answer[0].to.to_string()),
            (vec!["SIP/2.0 500 Internal Server Error".into()], sender.into())
        );
    }
}

#[test]
fn a_listener_takes_only_what_its_lists_permit_before_it_looks_at_it() {
    let networks = |text: &str| vec![text.parse().expect("a network")];
    let mut bench = Bench::with(|config| {
        config.listeners[0].sources.deny = networks("127.0.0.66");
        // The destinations need not be named.
        config.listeners[1].sources.allow = networks("10.129.40.0/24");
    });
    let options = request("OPTIONS", &format!("sip:{INSIDE}"), "1", &[]);
    for bytes in [options.as_str(), "TEST", "\r\n\r\n", "SIP/2.0 200 OK\r\n\r\n"] {
        for stranger in ["127.0.0.66:5060", "10.1.1.1:5060"] {
            assert_eq!(bench.receive(stranger, bytes).len(), 0, "{bytes}");
        }
    }
    let totals = bench.snapshot().totals;
    let mut expected = [0; DropCause::ALL.len()];
    expected[DropCause::RefusedSource as usize] = 8;
    assert_eq!((totals.dropped, totals.requests), (expected, 0));
    bench.answered_call("1");
}
