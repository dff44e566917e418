//! Calls that are told of message by message: which, what is told, and what is not.

use std::collections::BTreeSet;
use std::time::Duration;

use tandem::engine::dispatch::RetryOn;
use tandem::engine::explain::Fate;
use tandem::engine::flow::{ConnectionId, Fault, Flow, ListenerId, Transport};
use tandem::engine::trace::{MOST_ASKED, NotTraced, Packet, Sample, Step, TraceOrder, What};
use tandem::engine::{Config, Event, Input};

use crate::harness::{Bench, CALLER, SERVERS, in_dialog, invite, seconds, set_19};
use crate::health::{options, probed_by};

fn all(config: &mut Config) {
    config.trace.sample = Sample(Sample::ALL);
}

fn steps(bench: &Bench) -> Vec<&Step> {
    bench.events.iter().filter_map(|event| if let Event::Traced(step) = event { Some(&**step) } else { None }).collect()
}

fn packets(bench: &Bench) -> impl Iterator<Item = &Packet> {
    steps(bench).into_iter().filter_map(|step| match &step.what {
        What::Came(packet) | What::Left(packet) | What::Lost { packet, .. } => Some(packet),
        What::Decided(_) => None,
    })
}

/// The story in a line a step: the end of a call among its steps.
fn told(bench: &Bench) -> Vec<String> {
    let line = |packet: &Packet| {
        let mut words = packet.line.split(' ');
        let word = match packet.status {
            Some(status) => status.to_string(),
            None => words.next().unwrap_or_default().to_owned(),
        };
        format!("{word} {}", packet.flow.peer)
    };
    let tell = |event: &Event| match event {
        Event::Traced(step) => Some(match &step.what {
            What::Came(packet) => format!("in {}", line(packet)),
            What::Left(packet) => format!("out {}", line(packet)),
            What::Lost { packet, why } => format!("lost {} {}", line(packet), why.name()),
            What::Decided(told) => match &told.fate {
                Fate::Sent { set, tries, .. } => {
                    let tries: Vec<_> = tries.iter().map(|one| one.address.to_string()).collect();
                    format!("decided {} {}", set.0, tries.join(" "))
                }
                other => format!("decided {other:?}"),
            },
        }),
        Event::Session(record) => Some(format!("over {} {:?}", record.ending.name(), record.codes)),
        _ => None,
    };
    bench.events.iter().filter_map(tell).collect()
}

fn order(call_id: &str, seconds: u64) -> TraceOrder {
    let (by, reason) = ("ada".to_owned(), "a test".to_owned());
    TraceOrder { call_id: call_id.to_owned(), by, reason, time: Duration::from_secs(seconds) }
}

fn ask(bench: &mut Bench, order: &TraceOrder) -> Result<(), NotTraced> {
    bench.handle(Input::Trace(order));
    match bench.events.pop() {
        Some(Event::TraceOrdered { order: told, done }) if told == *order => done,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_traced_call_is_told_in_order_from_its_rule_through_failover_to_its_end() {
    let mut bench = Bench::with(all);
    let first = bench.call("1");
    let sent = bench.receive(SERVERS[0], first.answer(503, "No", &[]));
    let contact = format!("Contact: <sip:{}>", SERVERS[1]);
    let ok = bench.receive(SERVERS[1], sent[1].answer(200, "OK", &[&contact])).remove(0);
    bench.receive(CALLER, in_dialog("ACK", &ok, 1));
    bench.pass(seconds(3));
    let bye = bench.receive(CALLER, in_dialog("BYE", &ok, 2)).remove(0);
    bench.receive(SERVERS[1], bye.answer(200, "OK", &[]));
    let [one, other] = SERVERS;
    let expected = [
        format!("in INVITE {CALLER}"),
        format!("decided 19 {one} {other}"),
        format!("out 100 {CALLER}"),
        format!("out INVITE {one}"),
        format!("in 503 {one}"),
        format!("out ACK {one}"),
        format!("out INVITE {other}"),
        format!("in 200 {other}"),
        format!("out 200 {CALLER}"),
        format!("in ACK {CALLER}"),
        format!("out ACK {other}"),
        format!("in BYE {CALLER}"),
        format!("out BYE {other}"),
        "over caller_bye [503, 200]".to_owned(),
        format!("in 200 {other}"),
        format!("out 200 {CALLER}"),
    ];
    assert_eq!(told(&bench), expected);
    let steps = steps(&bench);
    let ids: BTreeSet<_> = steps.iter().map(|step| (step.call_id.as_str(), step.id, step.asked)).collect();
    assert_eq!((ids.len(), ids.first().map(|(call_id, _, asked)| (*call_id, *asked))), (1, Some(("1", false))));
    let whole = steps.last().expect("there are some").at.duration_since(steps[0].at);
    assert_eq!(whole.expect("time goes on"), seconds(3));
    // Why the rule matched and why the first was chosen: what `explain` says of the next request.
    let What::Decided(told) = &steps[1].what else { panic!("{:?}", steps[1]) };
    assert_eq!((told.rules[0].name.as_str(), told.rules[0].matches), ("tts", Some(true)));
    assert_eq!(told.sets[0].destinations.iter().map(|one| one.place).collect::<Vec<_>>(), [Some(0), Some(1)]);
    // The same INVITE once more is a message, and no decision.
    bench.events.clear();
    bench.receive(CALLER, invite("1"));
    assert_eq!(self::told(&bench)[..1], [format!("in INVITE {CALLER}")]);
    assert!(!self::told(&bench).iter().any(|line| line.starts_with("decided")));
}

#[test]
fn the_same_calls_are_sampled_by_two_engines_of_one_key_and_others_say_nothing() {
    let taken = |node: &str, sample, key| {
        let mut bench = Bench::with(|config| {
            config.node = node.to_owned();
            config.key = [key; 32];
            config.trace.sample = Sample(sample);
        });
        for number in 0..300 {
            bench.call(&format!("call-{number}"));
        }
        steps(&bench).iter().map(|step| (step.call_id.clone(), step.id)).collect::<BTreeSet<_>>()
    };
    let (one, other) = (taken("a", 200_000, 7), taken("b", 200_000, 7));
    assert_eq!(one, other);
    // 60 are expected; five times the spread of 7.
    assert!((25..95).contains(&one.len()), "{}", one.len());
    assert_ne!(one, taken("a", 200_000, 8));
    assert_eq!(taken("a", 0, 7).len(), 0);
}

#[test]
fn a_call_that_is_asked_for_is_told_of_alone_and_as_long_as_it_is_wanted() {
    let mut bench = Bench::new();
    assert_eq!(ask(&mut bench, &order("2", 10)), Ok(()));
    bench.call("1");
    assert_eq!(steps(&bench).len(), 0);
    let (_, ok) = bench.answered_call("2");
    assert_eq!(steps(&bench).iter().filter(|step| step.asked && step.call_id == "2").count(), 6);
    bench.pass(seconds(10));
    bench.events.clear();
    bench.receive(CALLER, in_dialog("ACK", &ok, 1));
    assert_eq!(steps(&bench).len(), 0);
    for number in 0..MOST_ASKED {
        assert_eq!(ask(&mut bench, &order(&number.to_string(), 10)), Ok(()));
    }
    assert_eq!(ask(&mut bench, &order("one more", 10)), Err(NotTraced::TooMany));
}

#[test]
fn what_does_not_get_there_is_told_with_its_cause() {
    let mut bench = Bench::with(all);
    let first = bench.call("1");
    let peer = SERVERS[0].parse().expect("an address");
    let flow = Flow { listener: ListenerId(1), transport: Transport::Udp, peer, connection: ConnectionId::default() };
    // An ICMP error quotes the start, in which no Call-ID need stand.
    bench.handle(Input::Refused { flow, quoted: &first.bytes[..200] });
    let refused = format!("lost INVITE {} icmp", SERVERS[0]);
    let next = format!("out INVITE {}", SERVERS[1]);
    assert_eq!(told(&bench)[4..], [refused.clone(), next]);
    // A forged one is told of no call.
    bench.handle(Input::Refused {
        flow,
        quoted: b"INVITE sip:a SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bKx\r\nCall-ID: 1\r\n",
    });
    assert_eq!(told(&bench).iter().filter(|line| line.starts_with("lost")).count(), 1);

    let mut bench = Bench::without_failover(all);
    let first = bench.call("1");
    bench.handle(Input::Undelivered { flow, bytes: &first.bytes, fault: Fault::Ours });
    assert_eq!(told(&bench)[4], format!("lost INVITE {} unsent", SERVERS[0]));
}

#[test]
fn no_credential_and_of_a_description_only_its_media_lines_leave_the_engine() {
    let body = "v=0\r\no=SECRET 1 1 IN IP4 10.9.9.9\r\nc=IN IP4 10.9.9.9\r\nm=audio 4000 RTP/AVP 0\r\na=SECRET\r\n";
    let message = invite("1").replace(
        "Content-Length: 0\r\n\r\n",
        &format!(
            "Authorization: Digest username=\"a\", response=\"SECRET\"\r\nProxy-Authorization: Digest\r\n response=SECRET\r\n\
             Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    );
    let shown = |whole: bool| {
        let mut bench = Bench::with(|config| {
            all(config);
            config.trace.whole = whole;
        });
        bench.receive(CALLER, &message);
        let texts = packets(&bench).map(|packet| String::from_utf8_lossy(&packet.bytes).into_owned());
        (texts.collect::<Vec<_>>(), format!("{:?}", steps(&bench)))
    };
    let (texts, debug) = shown(false);
    assert_eq!(texts.len(), 3);
    for (nth, text) in texts.iter().enumerate() {
        assert!(!text.contains("SECRET") && !text.contains("10.9.9.9"), "{text}");
        let is_invite = nth != 1;
        assert_eq!(text.contains("m=audio 4000 RTP/AVP 0\r\n"), is_invite, "{text}");
        assert_eq!(text.contains("bytes of application/sdp left out]"), is_invite, "{text}");
    }
    assert!(!debug.contains("SECRET"), "{debug}");
    let (texts, _) = shown(true);
    assert!(texts[0] == message && texts[2].contains(body) && texts[2].contains("response=SECRET"));
}

#[test]
fn what_is_told_is_bounded_however_much_is_written_and_however_many_destinations_there_are() {
    let servers: Vec<_> = (1..=200).map(|host| format!("10.0.1.{host}:5060")).collect();
    let mut bench = Bench::with(|config| {
        all(config);
        config.call_events = true;
    });
    bench.load(set_19(&servers.iter().map(String::as_str).collect::<Vec<_>>()));
    let body = "m=\u{1}\r\n".repeat(5000);
    let head = invite("1").replace("Content-Length: 0\r\n\r\n", "");
    let long = "x".repeat(10_000);
    let message = format!(
        "{}Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        head.replacen("sip:", &format!("sip:alice:{long}@"), 1).replace("From: ", &format!("From: {long} ")),
        body.len()
    );
    bench.receive(CALLER, message);
    let steps = steps(&bench);
    let What::Decided(told) = &steps[1].what else { panic!("{:?}", steps[1]) };
    let set = &told.sets[0];
    assert_eq!((set.members, set.destinations.len()), (200, 64));
    assert_eq!(told.notes, ["set 19 has 200 destinations: 64 are told of"]);
    let places: BTreeSet<_> = set.destinations.iter().filter_map(|one| one.place).collect();
    assert_eq!(places.len(), set.plan.iter().count());
    assert!(told.request_uri.len() < 300 && !told.request_uri.contains("xx"), "{}", told.request_uri);
    assert!(packets(&bench).all(|packet| packet.line.len() < 300));
    let call = bench.events.iter().find_map(|event| if let Event::Call(call) = event { Some(call) } else { None });
    let call = call.expect("it was routed");
    assert_eq!((call.from.len(), call.media.len()), (259, 16));
    assert!(call.request_uri.starts_with("sip:alice:***@"), "{}", call.request_uri);
}

#[test]
fn strange_bytes_with_a_call_id_are_told_and_harm_nobody() {
    let mut bench = Bench::with(all);
    for message in [
        &b"\0\x01\x02\r\nCall-ID: x\r\n\r\n\xff\xfe"[..],
        b"INVITE sip:a SIP/2.0\r\nCall-ID: x",
        b"SIP/2.0 999 \x1b[2J\r\ni: \x1b[2J\r\n\r\n",
        b"INVITE\r\nCall-ID:\r\n\r\n",
    ] {
        bench.receive(CALLER, message);
    }
    let lines: Vec<_> = packets(&bench).map(|packet| packet.line.as_str()).collect();
    assert_eq!(lines, ["\\x00\\x01\\x02", "INVITE sip:a SIP/2.0", "SIP/2.0 999 \\x1b[2J"]);
    assert!(steps(&bench).iter().all(|step| !step.call_id.contains('\x1b')));
}

#[test]
fn probes_are_no_calls() {
    let mut bench = Bench::with(|config| {
        probed_by(vec![options(|_| ())])(config);
        all(config);
        config.sets[0].failover.retry_on = RetryOn::NONE;
    });
    let probe = bench.pass(seconds(30)).remove(0);
    assert!(probe.line().starts_with("OPTIONS "));
    bench.receive(&probe.to.to_string(), probe.answer(200, "OK", &[]));
    assert_eq!(steps(&bench).len(), 0);
}
