//! Request forwarding: what changes, and the rules that choose where to.

use tandem::engine::dispatch::SetId;
use tandem::engine::event::Drain;
use tandem::engine::flow::ListenerId;
use tandem::engine::route::{Action, Condition, Pattern, Rewrite, Rule, Target, UriPart};
use tandem::engine::sip::Reply;
use tandem::engine::{Event, Input};

use crate::harness::{Bench, CALLER, INSIDE, OUTSIDE, SERVERS, in_dialog, invite, lines, request, set_19};

fn set_rule(when: Vec<Condition>, rewrite: Rewrite, params: &str) -> Rule {
    let target = Target { set: SetId(19), rewrite, record_route_params: params.into() };
    Rule { name: "r".into(), when, action: Action::Set(target.into()) }
}

#[test]
fn an_invite_leaves_with_via_record_routes_uri_and_one_hop_less() {
    let mut bench = Bench::new();
    let sent = bench.receive(CALLER, invite("1"));
    let copy = &sent[1];
    assert_eq!((copy.to.to_string(), copy.by), (SERVERS[0].into(), 1));
    let text = copy.text();
    let mut ours = text.split("\r\n");
    assert_eq!(ours.next(), Some("INVITE sip:10.129.39.88:7010 SIP/2.0"));
    let via = ours.next().expect("a Via");
    assert!(via.starts_with("Via: SIP/2.0/UDP 10.129.39.1:8060;branch=z9hG4bK"), "{via}");
    for listener in [OUTSIDE, INSIDE] {
        let record_route = ours.next().expect("a Record-Route");
        assert!(record_route.starts_with(&format!("Record-Route: <sip:{listener};lr;tdm=")), "{record_route}");
    }
    // The rest is the caller's, but for rport, received and Max-Forwards.
    let rest: Vec<_> = ours.collect();
    let expected = invite("1").replace(";rport", ";rport=5072").replace("Max-Forwards: 70", "Max-Forwards: 69");
    let expected: Vec<_> = expected
        .split("\r\n")
        .skip(1)
        .map(|line| if line.starts_with("Via") { format!("{line};received=127.0.0.1") } else { line.to_owned() })
        .collect();
    assert_eq!(rest, expected);
}

#[test]
fn sessions_alternate_and_discovery_options_do_not_step_their_turn() {
    let mut bench = Bench::new();
    for call in 0..10 {
        let options = request(
            "OPTIONS",
            &format!("sip:{INSIDE}"),
            &format!("o{call}"),
            &["User-Agent: OPENSIPS_TTS_MRCP_CLIENT"],
        );
        let sent = bench.receive(CALLER, options);
        assert!(sent[0].line().starts_with("OPTIONS sip:10.129.39.88:701"), "{:?}", lines(&sent));
        assert_eq!(sent[0].headers("Record-Route").len(), 0);
        assert_eq!(bench.call(&format!("i{call}")).to.to_string(), SERVERS[call % 2]);
    }
    let snapshot = bench.snapshot();
    let selections: Vec<_> = snapshot.sets[0].destinations.iter().map(|one| (one.selections, one.sessions)).collect();
    assert_eq!(selections, [(5, 5), (5, 5)]);
}

#[test]
fn an_empty_set_answers_480_with_the_articles_reason_and_says_so() {
    let mut bench = Bench::new();
    bench.load(set_19(&[]));
    let sent = bench.receive(CALLER, invite("1"));
    assert_eq!(lines(&sent), ["SIP/2.0 100 Trying", "SIP/2.0 480 MRCP server Unavailable"]);
    let empty = bench.events.iter().any(|event| matches!(event, Event::SetEmpty { set: SetId(19), .. }));
    assert!(empty, "{:?}", bench.events);
    let ack = invite("1").replace("INVITE", "ACK").replace("-ACK", "-INVITE");
    assert_eq!(bench.receive(CALLER, ack).len(), 0);
}

#[test]
fn one_event_tells_of_each_initial_invite() {
    let mut bench = Bench::new();
    let body = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\nm=application 9 TCP/MRCPv2 1\r\na=setup:active\r\nm=audio 4000 RTP/AVP 0\r\n";
    let text =
        invite("1").replace("Content-Length: 0\r\n\r\n", &format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    bench.receive(CALLER, text);
    let calls: Vec<_> = bench
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Call(call) => Some(call),
            _ => None,
        })
        .collect();
    assert_eq!(calls.len(), 1);
    let call = calls[0];
    assert_eq!((call.call_id.as_str(), call.user_agent.as_str()), ("1", "OPENSIPS_TTS_MRCP_CLIENT"));
    assert_eq!(call.request_uri, format!("sip:{INSIDE}"));
    assert_eq!(call.source.to_string(), CALLER);
    assert_eq!(call.media, ["m=application 9 TCP/MRCPv2 1", "m=audio 4000 RTP/AVP 0"]);
    assert_eq!((call.rule.as_deref(), call.set), (Some("tts"), Some(SetId(19))));
    assert_eq!(call.destination.as_deref(), Some("sip:10.129.39.88:7010"));
}

#[test]
fn the_first_rule_that_matches_wins_and_each_condition_must_hold() {
    let reply =
        |status, name: &str, when| Rule { name: name.into(), when, action: Action::Reply(Reply::new(status, "Rule")) };
    let pattern = |text: &str| Pattern::new(text);
    let rules = || {
        vec![
            reply(401, "source", vec![Condition::Source(vec!["192.0.2.0/24".parse().expect("a network")])]),
            reply(
                402,
                "method",
                vec![Condition::Method(vec!["PUBLISH".into()]), Condition::Listener(vec![ListenerId(0)])],
            ),
            reply(403, "user", vec![Condition::RequestUri(UriPart::User, pattern("alice"))]),
            reply(404, "host", vec![Condition::RequestUri(UriPart::Host, pattern("*.example.com"))]),
            reply(405, "from", vec![Condition::From(UriPart::User, pattern("b?b"))]),
            reply(406, "header", vec![Condition::Header("Subject".into(), pattern("*MRCP*"))]),
            reply(
                407,
                "both",
                vec![Condition::To(UriPart::User, pattern("carol")), Condition::UserAgent(pattern("x*"))],
            ),
        ]
    };
    let mut bench = Bench::with(|config| config.route.rules = rules());
    let to_us = format!("sip:{INSIDE}");
    let from_bob = format!("From: <sip:bob@{CALLER}>");
    for (index, (peer, text, status)) in [
        ("192.0.2.7:5060", request("OPTIONS", &to_us, "1", &[]), "401"),
        (CALLER, request("PUBLISH", &to_us, "2", &[]), "402"),
        (CALLER, request("OPTIONS", "sip:%61lice@other", "3", &[]), "403"),
        (CALLER, request("OPTIONS", "sip:A.EXAMPLE.com:5070", "4", &[]), "404"),
        (CALLER, request("OPTIONS", &to_us, "5", &[]).replace(&format!("From: <sip:{CALLER}>"), &from_bob), "405"),
        (CALLER, request("OPTIONS", &to_us, "6", &["s: an MRCP call"]), "406"),
        (CALLER, request("OPTIONS", &to_us, "7", &["User-Agent: xy"]).replace("To: <sip:", "To: <sip:carol@"), "407"),
        (CALLER, request("OPTIONS", &to_us, "8", &["User-Agent: xy"]), "200"),
        (CALLER, request("PUBLISH", "sip:nobody@elsewhere", "9", &[]).replace("PUBLISH", "MESSAGE"), "404"),
    ]
    .into_iter()
    .enumerate()
    {
        let line = bench.receive(peer, text)[0].line();
        assert!(line.starts_with(&format!("SIP/2.0 {status}")), "{index}: {line}");
    }
}

#[test]
fn the_rewrites_keep_what_they_promise() {
    let uri = "sip:alice;day=1@127.0.0.1:8060;user=phone;maddr=1.2.3.4;transport=udp";
    for (rewrite, expected) in [
        (Rewrite::Article, "sip:10.129.39.88:7010"),
        (Rewrite::Host, "sip:alice;day=1@10.129.39.88:7010;user=phone"),
        (Rewrite::None, uri),
    ] {
        let mut bench = Bench::with(|config| config.route.rules = vec![set_rule(vec![], rewrite, "")]);
        let sent = bench.receive(CALLER, request("INVITE", uri, "1", &[]));
        assert_eq!(sent[1].line(), format!("INVITE {expected} SIP/2.0"));
        assert_eq!(sent[1].to.to_string(), SERVERS[0]);
    }
}

#[test]
fn record_route_parameters_of_the_rule_are_written() {
    let mut bench = Bench::with(|config| config.route.rules = vec![set_rule(vec![], Rewrite::Article, "nat=yes")]);
    let (_, ok) = bench.answered_call("1");
    assert!(ok.headers("Record-Route").iter().all(|route| route.ends_with(";nat=yes>")), "{}", ok.text());
    assert_eq!(bench.receive(CALLER, in_dialog("BYE", &ok, 2))[0].to.to_string(), SERVERS[0]);
}

/// Section 16.6 item 4. Kamailio writes its Record-Route before its Via.
#[test]
fn our_record_routes_stand_before_all_others_wherever_those_are() {
    let others = "Record-Route: <sip:127.0.0.2:5070;lr=on>\r\n";
    for before in ["Via: ", "From: ", "Content-Length: "] {
        let mut bench = Bench::new();
        let invite = invite("1").replacen(before, &format!("{others}{before}"), 1);
        assert!(invite.contains(others));
        let sent = bench.receive(CALLER, invite);
        let routes = sent[1].headers("Record-Route");
        let hosts: Vec<_> = routes.iter().map(|route| route.split([':', ';']).nth(1).expect("a host")).collect();
        assert_eq!(hosts, ["10.129.39.1", "127.0.0.1", "127.0.0.2"], "{before}: {}", sent[1].text());
    }
}

#[test]
fn where_one_listener_serves_both_sides_one_record_route_is_enough() {
    let mut bench = Bench::new();
    let sent = bench.receive("10.129.39.7:5072", invite("1").replace(CALLER, "10.129.39.7:5072"));
    assert_eq!(sent[1].headers("Record-Route").len(), 1);
}

#[test]
fn a_trusted_relay_goes_where_its_uri_says_but_never_to_us() {
    let relay = || Rule {
        name: "relay".into(),
        when: vec![Condition::Source(vec!["127.0.0.1/32".parse().expect("a network")])],
        action: Action::Relay,
    };
    let mut bench = Bench::with(|config| config.route.rules = vec![relay()]);
    let sent = bench.receive(CALLER, request("MESSAGE", "sip:bob@10.7.7.7:5090", "1", &[]));
    assert_eq!(sent[0].line(), "MESSAGE sip:bob@10.7.7.7:5090 SIP/2.0");
    assert_eq!(sent[0].to.to_string(), "10.7.7.7:5090");
    let sent = bench.receive(CALLER, request("MESSAGE", &format!("sip:{OUTSIDE}"), "2", &[]));
    assert_eq!(lines(&sent), ["SIP/2.0 404 Not Found"]);
}

#[test]
fn what_no_rule_matches_gets_the_configured_answer() {
    let to_us = format!("sip:{INSIDE}");
    let mut bench = Bench::new();
    let sent = bench.receive(CALLER, request("INVITE", &to_us, "1", &["User-Agent: other"]));
    assert_eq!(lines(&sent), ["SIP/2.0 404 Not Found"]);
    // It took no transaction: a forged one makes us say it once.
    assert_eq!((bench.pass(crate::harness::seconds(40)).len(), bench.snapshot().transactions), (0, 0));
    let ack = request("ACK", &to_us, "1", &[])
        .replace("-ACK;", "-INVITE;")
        .replace(&format!("To: <sip:{INSIDE}>"), &format!("To: {}", sent[0].header("To")));
    assert_eq!((bench.receive(CALLER, ack).len(), bench.snapshot().totals.dropped[3]), (0, 0));
    let mut bench = Bench::with(|config| config.route.unroutable = Reply::new(606, "Nothing Here"));
    let sent = bench.receive(CALLER, request("SUBSCRIBE", &to_us, "1", &[]));
    assert_eq!(lines(&sent), ["SIP/2.0 606 Nothing Here"]);
}

#[test]
fn an_options_to_us_says_503_when_we_are_leaving() {
    let mut bench = Bench::new();
    let options = |id| request("OPTIONS", &format!("sip:{INSIDE}"), id, &[]);
    let sent = bench.receive(CALLER, options("1"));
    assert_eq!(lines(&sent), ["SIP/2.0 200 OK"]);
    assert!(sent[0].header("Allow").contains("INVITE"));
    bench.handle(Input::Drain(Drain::Leaving));
    let (_, ok) = bench.answered_call("3");
    bench.handle(Input::Drain(Drain::Refusing));
    assert_eq!(lines(&bench.receive(CALLER, invite("4"))), ["SIP/2.0 503 Service Unavailable"]);
    assert_eq!(bench.receive(CALLER, in_dialog("BYE", &ok, 2))[0].to.to_string(), SERVERS[0]);
    let sent = bench.receive(CALLER, options("2"));
    assert_eq!(
        (lines(&sent), sent[0].header("Retry-After")),
        (vec!["SIP/2.0 503 Service Unavailable".into()], "5".into())
    );
}

#[test]
fn an_ipv6_caller_reaches_an_ipv6_destination() {
    let v6 = "[2001:db8::1]:8060";
    let mut bench = Bench::with(|config| {
        let mut listener = config.listeners[1].clone();
        listener.id = ListenerId(2);
        listener.bind = v6.parse().expect("an address");
        listener.advertise = listener.bind.into();
        config.listeners.push(listener);
    });
    bench.load(set_19(&["[2001:db8::9]:7010"]));
    let sent = bench.receive(CALLER, invite("1"));
    assert_eq!(sent[1].line(), "INVITE sip:[2001:db8::9]:7010 SIP/2.0");
    assert_eq!((sent[1].by, sent[1].to.to_string()), (2, "[2001:db8::9]:7010".into()));
    assert!(sent[1].header("Via").starts_with("SIP/2.0/UDP [2001:db8::1]:8060;branch="));
}

#[test]
fn a_route_that_is_taken_off_the_top_of_a_request_without_max_forwards_leaves_no_trace() {
    let message = invite("1").replace("Max-Forwards: 70\r\n", "");
    let message = message.replacen("\r\n", &format!("\r\nRoute: <sip:{INSIDE};lr>\r\n"), 1);
    let sent = Bench::new().receive(CALLER, &message);
    assert_eq!(sent[1].header("Max-Forwards"), "70");
    assert!(sent[1].headers("Route").is_empty());
}
