//! Section 16.6 item 7 with RFC 3263: a next hop that is a name. Its request waits while the name is looked up, and nobody
//! makes us look up who may not make us send.

use tandem::engine::event::LookupId;
use tandem::engine::route::{Action, Condition, Rule};
use tandem::engine::{Event, Input};

use crate::harness::{Bench, CALLER, INSIDE, Sent, from_destination, in_dialog, lines, request, seconds, times};

const SERVER: &str = "10.129.39.88:7010";

/// A call whose destination names itself so in its Contact; the caller's 200.
fn call_to(bench: &mut Bench, id: &str, name: &str) -> Sent {
    let invite = bench.call(id);
    let answer = invite.answer(200, "OK", &[&format!("Contact: <sip:{name}>")]);
    bench.receive(&invite.to.to_string(), answer)[0].clone()
}

/// A request of the caller's to another name than the destination's own.
fn to_name(method: &str, ok: &Sent, cseq: u32, name: &str) -> String {
    let contact = ok.header("Contact").trim_matches(['<', '>']).to_owned();
    in_dialog(method, ok, cseq).replacen(&format!("{method} {contact} "), &format!("{method} sip:{name} "), 1)
}

fn resolved(bench: &mut Bench, id: LookupId, addresses: &[&str]) -> Vec<Sent> {
    let addresses = addresses.iter().map(|address| address.parse().expect("an address")).collect();
    bench.handle(Input::Resolved { id, addresses })
}

#[test]
fn a_request_waits_for_its_next_hop_and_then_goes_there() {
    let mut bench = Bench::new();
    let ok = call_to(&mut bench, "1", "TTS.example.test:7010");
    let bye = in_dialog("BYE", &ok, 2);
    assert_eq!(bench.receive(CALLER, &bye).len(), 0);
    let (id, asked) = bench.lookups[0].clone();
    assert_eq!(asked, "tts.example.test Some(7010) udp");
    assert_eq!(bench.receive(CALLER, &bye).len(), 0, "it comes again and is absorbed");
    assert_eq!(bench.lookups.len(), 1);
    bench.pass(seconds(1));
    let sent = resolved(&mut bench, id, &["[2001:db8::1]:7010", SERVER]);
    assert_eq!(lines(&sent), ["BYE sip:TTS.example.test:7010 SIP/2.0"]);
    assert_eq!((sent[0].to.to_string(), sent[0].by), (SERVER.into(), 1), "the first one that a listener reaches");
    let answer = bench.receive(SERVER, sent[0].answer(200, "OK", &[]));
    assert_eq!((answer[0].to.to_string(), answer[0].line()), (CALLER.into(), "SIP/2.0 200 OK".into()));
    assert_eq!(bench.snapshot().sessions, 0);
    assert_eq!(resolved(&mut bench, id, &[SERVER]).len(), 0, "an answer twice is for nobody");
}

#[test]
fn a_name_without_port_asks_for_the_service_and_the_caller_may_be_a_name_too() {
    let mut bench = Bench::new();
    let (invite, _) = bench.answered_call("1");
    let bye = from_destination("BYE", &invite, 1).replacen(&format!("BYE sip:{CALLER} "), "BYE sip:x@caller.test ", 1);
    assert_eq!(bench.receive(SERVER, bye).len(), 0);
    let (id, asked) = bench.lookups[0].clone();
    assert_eq!(asked, "caller.test None udp");
    let sent = resolved(&mut bench, id, &[CALLER]);
    assert_eq!((sent[0].line(), sent[0].to.to_string()), ("BYE sip:x@caller.test SIP/2.0".into(), CALLER.into()));
}

#[test]
fn requests_to_one_name_share_a_lookup_and_keep_their_order() {
    let mut bench = Bench::new();
    let ok = call_to(&mut bench, "1", "tts.test");
    let ack = in_dialog("ACK", &ok, 1);
    for _ in 0..3 {
        assert_eq!(bench.receive(CALLER, &ack).len(), 0);
    }
    assert_eq!(lines(&bench.receive(CALLER, in_dialog("INVITE", &ok, 2))), ["SIP/2.0 100 Trying"]);
    bench.receive(CALLER, in_dialog("INFO", &ok, 3));
    assert_eq!(bench.lookups.len(), 1);
    let sent = resolved(&mut bench, LookupId(0), &[SERVER]);
    let methods: Vec<_> = sent.iter().map(|one| one.line().split(' ').next().unwrap_or_default().to_owned()).collect();
    assert_eq!(methods, ["ACK", "INVITE", "INFO"]);
}

#[test]
fn after_two_seconds_or_without_an_address_the_answer_is_500_and_an_ack_is_dropped() {
    let mut bench = Bench::new();
    let ok = call_to(&mut bench, "1", "silent.test");
    let other = call_to(&mut bench, "2", "none.test");
    bench.receive(CALLER, in_dialog("ACK", &ok, 1));
    bench.receive(CALLER, in_dialog("INFO", &ok, 2));
    bench.receive(CALLER, in_dialog("UPDATE", &other, 3));
    let sent = resolved(&mut bench, LookupId(1), &[]);
    assert_eq!(lines(&sent), ["SIP/2.0 500 Next Hop Has No Address"]);
    let sent = bench.pass(seconds(5));
    assert_eq!(lines(&sent), ["SIP/2.0 500 Next Hop Not Resolved In Time"]);
    assert!((2000..2010).contains(&times(&sent)[0]), "{:?}", times(&sent));
    assert_eq!(bench.snapshot().totals.dropped.iter().sum::<u64>(), 1);
    assert_eq!(resolved(&mut bench, LookupId(0), &[SERVER]).len(), 0, "too late");
    bench.receive(CALLER, in_dialog("INFO", &ok, 4));
    assert_eq!(bench.lookups.len(), 3, "it is asked again");
    let sent = resolved(&mut bench, LookupId(2), &["[2001:db8::1]:7010"]);
    assert_eq!(lines(&sent), ["SIP/2.0 500 No Listener Towards Next Hop"]);
}

#[test]
fn an_invite_that_waits_can_be_cancelled() {
    let mut bench = Bench::new();
    let ok = call_to(&mut bench, "1", "tts.test");
    let invite = in_dialog("INVITE", &ok, 2);
    bench.receive(CALLER, &invite);
    let sent = bench.receive(CALLER, invite.replace("INVITE sip", "CANCEL sip").replace("2 INVITE", "2 CANCEL"));
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK", "SIP/2.0 487 Request Terminated"]);
    assert_eq!(resolved(&mut bench, LookupId(0), &[SERVER]).len(), 0);
}

#[test]
fn a_stranger_makes_us_look_nothing_up() {
    let mut bench = Bench::new();
    let (_, ok) = bench.answered_call("1");
    // Another Call-ID: no dialog of ours, and the cookie does not fit.
    let foreign = to_name("BYE", &ok, 2, "victim.test").replace("Call-ID: 1\r\n", "Call-ID: 2\r\n");
    assert_eq!(lines(&bench.receive(CALLER, &foreign)), ["SIP/2.0 403 Forbidden"]);
    assert_eq!(bench.receive(CALLER, foreign.replace("BYE", "ACK")).len(), 0);
    assert_eq!(bench.lookups.len(), 0);
    // The same from a destination's address may pass.
    assert_eq!(bench.receive("10.129.39.88:40000", foreign.replace("-BYE-", "-BYE-x-")).len(), 0);
    assert_eq!(bench.lookups.len(), 1);
}

#[test]
fn a_thousand_wait_and_no_more() {
    let mut bench = Bench::new();
    let calls: Vec<_> =
        (0..500).map(|name| call_to(&mut bench, &format!("c{name}"), &format!("name-{name}.test"))).collect();
    for cseq in 0..1000 {
        assert_eq!(bench.receive(CALLER, in_dialog("INFO", &calls[cseq as usize % 500], cseq + 2)).len(), 0);
    }
    assert_eq!(bench.lookups.len(), 500);
    let sent = bench.receive(CALLER, in_dialog("INFO", &calls[0], 5000));
    assert_eq!(lines(&sent), ["SIP/2.0 500 Too Many Names Looked Up"]);
    assert_eq!(bench.receive(CALLER, in_dialog("ACK", &calls[0], 1)).len(), 0);
    assert!(matches!(bench.events.last(), Some(Event::Dropped { .. })));
    assert_eq!(bench.pass(seconds(3)).len(), 1000, "all are answered");
    assert_eq!(bench.receive(CALLER, in_dialog("INFO", &calls[0], 5001)).len(), 0);
    assert_eq!(bench.lookups.len(), 501);
}

#[test]
fn who_cancels_makes_no_room_for_more_lookups() {
    let mut bench = Bench::new();
    let cancel = |invite: &str, cseq: u32| {
        let cseq = (format!("{cseq} INVITE"), format!("{cseq} CANCEL"));
        invite.replace("INVITE sip", "CANCEL sip").replace(&cseq.0, &cseq.1)
    };
    let names = (2..1002).map(|name| format!("name-{name}.test")).chain(["another.test".to_owned()]);
    let calls: Vec<_> = names.map(|name| call_to(&mut bench, &name, &name)).collect();
    for call in &calls[..1000] {
        let invite = in_dialog("INVITE", call, 2);
        assert_eq!(lines(&bench.receive(CALLER, &invite)), ["SIP/2.0 100 Trying"]);
        let sent = bench.receive(CALLER, cancel(&invite, 2));
        assert_eq!(lines(&sent), ["SIP/2.0 200 OK", "SIP/2.0 487 Request Terminated"]);
    }
    assert_eq!(bench.lookups.len(), 1000);
    let sent = bench.receive(CALLER, in_dialog("INFO", &calls[1000], 5000));
    assert_eq!(lines(&sent), ["SIP/2.0 500 Too Many Names Looked Up"]);
    // One that is answered makes room; and so does the time.
    resolved(&mut bench, LookupId(7), &[SERVER]);
    assert_eq!(bench.receive(CALLER, in_dialog("INFO", &calls[1], 5001)).len(), 0);
    assert_eq!(bench.receive(CALLER, in_dialog("INFO", &calls[1], 5002)).len(), 0);
    assert_eq!(bench.lookups.len(), 1000, "a lookup that nobody waited for serves again");
    assert_eq!(lines(&resolved(&mut bench, LookupId(1), &[SERVER])).len(), 2);
    bench.pass(seconds(3));
    for cseq in 6000..7000 {
        assert_eq!(bench.receive(CALLER, in_dialog("INFO", &calls[cseq as usize % 1000], cseq)).len(), 0);
    }
    assert_eq!(bench.lookups.len(), 2000);
}

#[test]
fn a_relay_rule_looks_up_for_whom_it_trusts() {
    let mut bench = Bench::with(|config| {
        config.route.rules = vec![Rule {
            name: "relay".into(),
            when: vec![Condition::Source(vec!["127.0.0.0/8".parse().expect("a network")])],
            action: Action::Relay,
        }];
    });
    let options = request("OPTIONS", "sip:pbx.test;transport=udp", "1", &[]);
    assert_eq!(bench.receive(CALLER, &options).len(), 0);
    assert_eq!(bench.lookups, [(LookupId(0), "pbx.test None udp".to_owned())]);
    let sent = resolved(&mut bench, LookupId(0), &["10.1.1.1:5060"]);
    assert_eq!((sent[0].to.to_string(), sent[0].by), ("10.1.1.1:5060".into(), 1));
    assert_eq!(lines(&bench.receive("10.1.1.1:5060", options.replace("-1-", "-2-"))), ["SIP/2.0 404 Not Found"]);
    assert_eq!(bench.lookups.len(), 1);
    let ours = request("OPTIONS", "tel:+4930", "3", &[&format!("Route: <sip:{INSIDE};lr>")]);
    assert_eq!(lines(&bench.receive(CALLER, ours)), ["SIP/2.0 404 Not Found"]);
}
