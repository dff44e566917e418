//! What `tandem explain` says of a request is what becomes of it, and saying it changes nothing.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tandem::engine::dispatch::{
    Algorithm, Panic, PanicMode, Planned, Policy, Role, Row, Score, Set, SetId, SetTold, Sets, SlowStart,
};
use tandem::engine::event::{Drain, Input};
use tandem::engine::explain::{Explanation, Fate, Try, Unexplained};
use tandem::engine::flow::{ListenerId, Transport};
use tandem::engine::route::{Action, Condition, Pattern, Rewrite, Rule, Target, UriPart};
use tandem::engine::sip::Reply;

use crate::harness::{
    Bench, CALLER, INSIDE, OUTSIDE, SERVERS, Sent, from_destination, in_dialog, invite, lines, request, seconds, set_19,
};

fn explain(bench: &Bench, bytes: impl AsRef<[u8]>) -> Explanation {
    bench.explain(CALLER, bytes).expect("a request")
}

fn pick<T: Clone>(rng: &mut Rng, all: &[T]) -> T {
    all[rng.usize(..all.len())].clone()
}

fn random_policy(rng: &mut Rng, set: u32) -> Policy {
    let mut policy = Policy::of(SetId(set));
    policy.algorithm = pick(rng, &Algorithm::ALL);
    policy.empty_reply = Reply::new(480, format!("Nobody Of {set}"));
    policy.failover.max_retries = rng.usize(..4);
    let capacity = &mut policy.capacity;
    capacity.max_sessions = pick(rng, &[None, None, Some(0), Some(1), Some(5)]);
    capacity.max_cps = pick(rng, &[None, None, Some(2)]);
    capacity.set_max_sessions = pick(rng, &[None, None, Some(4)]);
    capacity.overflow = pick(rng, &[None, Some(SetId(19)), Some(SetId(20)), Some(SetId(77))]);
    capacity.busy_reply = Reply::new(486, format!("No Room In {set}"));
    policy.panic = Panic { threshold: pick(rng, &[0, 0, 60, 100]), mode: pick(rng, &PanicMode::ALL) };
    policy.judgement.slow_start = rng.bool().then(SlowStart::default);
    policy.judgement.observe.consecutive_failures = rng.u32(1..3);
    policy
}

fn random_sets(rng: &mut Rng) -> Sets {
    let Sets(sets) = set_19(&SERVERS);
    let like = &sets[0].rows[0];
    let row = |rng: &mut Rng, port: u16| {
        let transport = pick(rng, &[Transport::Udp, Transport::Udp, Transport::Udp, Transport::Tcp]);
        Row {
            uri: format!("sip:10.129.39.88:{port}"),
            address: format!("10.129.39.88:{port}").parse().expect("an address"),
            transport,
            weight: rng.u32(0..4),
            priority: rng.i32(0..3),
            ..like.clone()
        }
    };
    let set = |rng: &mut Rng, id: u32| Set {
        id: SetId(id),
        rows: (0..rng.u16(0..7)).map(|number| row(rng, 1000 * id as u16 + number)).collect(),
    };
    Sets(vec![set(rng, 19), set(rng, 20)])
}

fn random_rule(rng: &mut Rng, number: usize) -> Rule {
    let conditions = [
        Condition::Method(vec![pick(rng, &["INVITE", "OPTIONS", "MESSAGE"]).into()]),
        Condition::UserAgent(Pattern::new(pick(rng, &["OPENSIPS*", "*", "Zoiper"]))),
        Condition::Source(vec![pick(rng, &["127.0.0.0/8", "10.0.0.0/8"]).parse().expect("a network")]),
        Condition::Listener(vec![ListenerId(rng.u16(..2))]),
        Condition::RequestUri(UriPart::Host, Pattern::new(pick(rng, &["127.*", "*.example.com"]))),
        Condition::From(UriPart::User, Pattern::new("alice")),
        Condition::To(UriPart::Host, Pattern::new(pick(rng, &["127.0.0.1", "[::1]"]))),
        Condition::Header("X-Tenant".into(), Pattern::new("t*")),
    ];
    let target = |rng: &mut Rng| Target {
        set: SetId(pick(rng, &[19, 19, 20, 77])),
        rewrite: pick(rng, &[Rewrite::Article, Rewrite::Host, Rewrite::None]),
        record_route_params: String::new(),
    };
    let action = match rng.u8(..8) {
        0 => Action::Reply(Reply::new(403, "Not You")),
        1 => Action::Relay,
        _ => Action::Set(Arc::new(target(rng))),
    };
    let when = conditions.into_iter().filter(|_| rng.u8(..5) == 0).collect();
    Rule { name: format!("rule-{number}"), when, action }
}

fn random_request(rng: &mut Rng, id: &str) -> String {
    let method = pick(rng, &["INVITE", "INVITE", "INVITE", "INVITE", "OPTIONS", "MESSAGE", "ACK", "CANCEL"]);
    let uri = pick(
        rng,
        &["sip:127.0.0.1:8060", "sip:bob@127.0.0.1:8060;x=y", "sip:10.129.39.88:7010", "sip:a.example.com", "http://x"],
    );
    let optional = [
        "User-Agent: OPENSIPS_TTS_MRCP_CLIENT",
        "X-Tenant: three",
        "Route: <sip:127.0.0.1:8060;lr>",
        "Route: <sip:10.9.9.9;lr>",
        "Proxy-Require: foo",
    ];
    let chances = [1, 3, 9, 20, 40];
    let mut extra: Vec<&str> =
        optional.into_iter().zip(chances).filter(|(_, chance)| rng.u8(..*chance) == 0).map(|(line, _)| line).collect();
    let large = format!("X-Large: {}", "x".repeat(1200));
    if rng.u8(..6) == 0 {
        extra.push(&large);
    }
    let text = request(method, uri, id, &extra);
    match rng.u8(..12) {
        0 => text.replace("Max-Forwards: 70", "Max-Forwards: 0"),
        1 => text.replace("Content-Length: 0", "Content-Length: 9"),
        2 => text.replace(&format!("To: <sip:{INSIDE}>"), &format!("To: <sip:{INSIDE}>;tag=1")),
        _ => text,
    }
}

/// The destinations that would be tried.
fn reached(tries: &[Try], most: usize) -> Vec<&Try> {
    tries.iter().filter(|one| one.way.is_some()).take(most).collect()
}

/// What came of a request is what was said of it; the request that left, if one did.
fn compare(told: &Explanation, sent: &[Sent], looked_up: usize, case: &str) -> Option<Sent> {
    let last = sent.last();
    let leaves = |uri: &str, peer: &str, listener: &str| {
        let sent = last.unwrap_or_else(|| panic!("{case}: nothing left: {told:?}"));
        assert_eq!(sent.line(), format!("{} {uri} SIP/2.0", told.method), "{case}: {told:?}");
        let by = ["udp", "tcp"].iter().flat_map(|transport| [INSIDE, OUTSIDE].map(|at| format!("{transport}:{at}")));
        let by = by.collect::<Vec<_>>();
        assert_eq!((sent.to.to_string().as_str(), by[usize::from(sent.by)].as_str()), (peer, listener), "{case}");
        Some(sent.clone())
    };
    match &told.fate {
        Fate::Sent { tries, most, .. } => {
            let first = reached(tries, *most)[0];
            let way = first.way.as_ref().expect("it is reached");
            leaves(&way.request_uri, &first.address.to_string(), &way.listener)
        }
        Fate::Relayed { request_uri, peer, listener, .. } => leaves(request_uri, &peer.to_string(), listener),
        Fate::Answered { status, reason, headers, .. } => {
            let answer = last.unwrap_or_else(|| panic!("{case}: no answer: {told:?}"));
            assert_eq!(answer.line(), format!("SIP/2.0 {status} {reason}"), "{case}: {told:?}");
            assert!(headers.iter().all(|line| answer.text().contains(&format!("{line}\r\n"))), "{case}: {headers:?}");
            None
        }
        Fate::LookedUp { .. } => {
            assert_eq!(looked_up, 1, "{case}: {told:?}");
            None
        }
        Fate::Ends { .. } => {
            assert!(sent.is_empty(), "{case}: {:?}", lines(sent));
            None
        }
    }
}

/// Where a score alone decides, the first choice has the best.
fn the_best_score_comes_first(set: &SetTold, case: &str) {
    let Some(first) = set.destinations.iter().find(|one| one.place == Some(0)) else { return };
    let scores = || set.destinations.iter().filter_map(|one| one.score);
    let best = match (first.score, set.algorithm) {
        (Some(Score::Cost(cost)), "least_load" | "least_load_relative" | "peak_ewma") => {
            scores().all(|one| matches!(one, Score::Cost(other) if other >= cost))
        }
        (Some(Score::Priority(priority)), "priority") => {
            scores().all(|one| matches!(one, Score::Priority(other) if other <= priority))
        }
        (Some(Score::Chance(chance)), "random") => {
            let sum: f64 = scores().map(|one| if let Score::Chance(chance) = one { chance } else { f64::NAN }).sum();
            chance > 0.0 && (sum - 100.0).abs() < 1e-6
        }
        (Some(Score::Turns { .. }), "round_robin") | (Some(Score::Cost(_)), "least_load_p2c") => true,
        _ => false,
    };
    assert!(best, "{case}: {set:?}");
}

#[test]
fn what_is_explained_is_what_the_very_next_request_gets_and_explaining_changes_nothing() {
    let mut fates = [0; 5];
    for seed in 0..400 {
        let mut rng = Rng::with_seed(seed);
        let (streams, denied) = (rng.bool(), rng.u8(..16) == 0);
        let rules: Vec<_> = (0..rng.usize(1..5)).map(|number| random_rule(&mut rng, number)).collect();
        let policies = [19, 20].map(|set| random_policy(&mut rng, set));
        let sets = random_sets(&mut rng);
        let bench = || {
            let mut bench = Bench::with(|config| {
                config.route.rules.clone_from(&rules);
                config.sets = policies.to_vec();
                if denied {
                    config.listeners[0].sources.deny.push("127.0.0.0/8".parse().expect("a network"));
                }
                let mut like = config.listeners.clone();
                like.iter_mut().for_each(|one| one.transport = Transport::Tcp);
                for mut listener in like.into_iter().filter(|_| streams) {
                    listener.id.0 += 2;
                    config.listeners.push(listener);
                }
            });
            bench.load(sets.clone());
            bench
        };
        // The second is never asked for an explanation.
        let (mut asked, mut plain) = (bench(), bench());
        for step in 0..30 {
            let case = format!("seed {seed}, step {step}");
            let text = random_request(&mut rng, &format!("{seed}-{step}"));
            let peer = pick(&mut rng, &[CALLER, CALLER, "10.129.39.88:19001"]);
            let told = asked.explain(peer, &text).expect("a request");
            told.sets.iter().for_each(|set| the_best_score_comes_first(set, &case));
            let before = asked.lookups.len();
            let sent = asked.receive(peer, &text);
            let mut left = compare(&told, &sent, asked.lookups.len() - before, &case);
            assert_eq!(lines(&plain.receive(peer, &text)), lines(&sent), "{case}: explaining changed something");
            fates[match &told.fate {
                Fate::Sent { .. } => 0,
                Fate::Relayed { .. } => 1,
                Fate::Answered { .. } => 2,
                Fate::LookedUp { .. } => 3,
                Fate::Ends { .. } => 4,
            }] += 1;
            for (id, _) in asked.lookups.split_off(before) {
                let sent = asked.handle(Input::Resolved { id, addresses: Vec::new() });
                assert_eq!(lines(&plain.handle(Input::Resolved { id, addresses: Vec::new() })), lines(&sent), "{case}");
            }
            // Some answer, some fail: then the next is who was said to be.
            if let (Fate::Sent { tries, most, .. }, true) = (&told.fate, rng.bool()) {
                for next in reached(tries, *most).into_iter().skip(1).map(Some).chain([None]) {
                    let Some(request) = left.take() else { break };
                    let failure = request.answer(500, "Oops", &[]);
                    let flow = |to: &Sent| match to.by {
                        0 | 1 => None,
                        _ => Some(Bench::stream(&to.to.to_string(), 1)),
                    };
                    let answer = |bench: &mut Bench| match flow(&request) {
                        None => bench.receive(&request.to.to_string(), &failure),
                        Some(flow) => bench.receive_by(flow, &failure),
                    };
                    let sent = answer(&mut asked);
                    assert_eq!(lines(&answer(&mut plain)), lines(&sent), "{case}");
                    let tried = sent.iter().find(|one| one.line().starts_with(&told.method)).cloned();
                    assert_eq!(tried.as_ref().map(|one| one.to), next.map(|one| one.address), "{case}: {tries:?}");
                    left = tried;
                }
            } else if let (Some(request), Fate::Sent { .. }) = (&left, &told.fate)
                && rng.bool()
                && request.by < 2
            {
                let contact = format!("Contact: <sip:{}>", request.to);
                let ok = request.answer(200, "OK", &[&contact]);
                asked.receive(&request.to.to_string(), &ok);
                plain.receive(&request.to.to_string(), &ok);
            }
            let time = Duration::from_millis(pick(&mut rng, &[0, 10, 300, 1500, 6000]));
            assert_eq!(lines(&asked.pass(time)), lines(&plain.pass(time)), "{case}");
        }
        let (one, other) = (asked.snapshot(), plain.snapshot());
        assert_eq!(format!("{one:?}"), format!("{other:?}"), "seed {seed}");
    }
    assert!(fates.iter().all(|&count| count > 20), "each fate has been seen: {fates:?}");
}

#[test]
fn each_condition_tells_what_it_wants_and_what_it_sees() {
    let bench = Bench::with(|config| {
        let tts = config.route.rules[0].clone();
        let condition = Condition::RequestUri(UriPart::User, Pattern::new("tts*"));
        config.route.rules = vec![
            Rule {
                name: "others".into(),
                when: vec![
                    Condition::Method(vec!["INVITE".into()]),
                    Condition::UserAgent(Pattern::new("Zoiper*")),
                    Condition::Source(vec!["10.0.0.0/8".parse().expect("a network")]),
                    Condition::Listener(vec![ListenerId(1)]),
                    condition,
                    Condition::From(UriPart::Host, Pattern::new("127.0.0.?")),
                    Condition::Header("Supported".into(), Pattern::new("timer")),
                ],
                action: Action::Reply(Reply::new(403, "Forbidden")),
            },
            tts.clone(),
            Rule { name: "never".into(), ..tts },
        ];
    });
    let text = invite("1").replace("User-Agent", "k: 100rel\r\nSupported: timer\r\nUser-Agent");
    let told = explain(&bench, text.replace(&format!("INVITE sip:{INSIDE}"), &format!("INVITE sip:a%20b@{INSIDE}")));
    let [others, tts, never] = &told.rules[..] else { panic!("{told:?}") };
    let seen: Vec<_> = others
        .conditions
        .iter()
        .map(|one| (one.key.as_str(), one.wants.as_str(), one.has.join("+"), one.holds))
        .collect();
    let expected = [
        ("method", "INVITE", "INVITE", true),
        ("user_agent", "Zoiper*", "OPENSIPS_TTS_MRCP_CLIENT", false),
        ("source", "10.0.0.0/8", "127.0.0.1", false),
        ("listener", "udp:10.129.39.1:8060", "udp:127.0.0.1:8060", false),
        ("request_uri.user", "tts*", "a b", false),
        ("from.host", "127.0.0.?", "127.0.0.1", true),
        ("header.Supported", "timer", "100rel+timer", true),
    ];
    assert_eq!(seen, expected.map(|(key, wants, has, holds)| (key, wants, has.to_owned(), holds)));
    assert_eq!((others.matches, others.action.as_str()), (Some(false), "reply 403 Forbidden"));
    assert_eq!((tts.matches, tts.action.as_str()), (Some(true), "set 19"));
    assert_eq!((never.matches, never.conditions.len()), (None, 0), "the first that matches decides");
}

#[test]
fn each_destination_tells_why_it_is_chosen_or_not() {
    let mut bench = Bench::with(|config| {
        config.sets[0].capacity.max_sessions = Some(1);
        config.sets[0].judgement.observe.consecutive_failures = 1;
    });
    bench.load(set_19(&[SERVERS[0], SERVERS[1], "10.129.39.88:7012", "10.129.39.88:7013"]));
    let (held, _) = bench.answered_call("1");
    let failed = bench.call("2");
    let sent = bench.receive(&failed.to.to_string(), failed.answer(500, "Oops", &[]));
    let then = sent.iter().find(|one| one.line().starts_with("INVITE")).expect("another try").to;
    let told = explain(&bench, invite("3"));
    let [set] = &told.sets[..] else { panic!("{told:?}") };
    assert_eq!((set.planned, set.sessions, set.plan.iter().count()), (Planned::Somebody, 2, 1));
    for one in &set.destinations {
        let address = one.view.address.expect("it has one");
        let expected = match address {
            address if address == held.to || address == then => "unfit: at its limit",
            address if address == failed.to => "unfit: down",
            _ => "fit",
        };
        assert_eq!(one.fitness.to_string(), expected, "{address}");
        let fit = expected == "fit";
        assert_eq!(one.role == Role::Candidate, fit);
        assert_eq!((one.score.is_some(), one.place), (fit, fit.then_some(0)), "{address}");
    }
    let options = explain(&bench, invite("4").replace("INVITE", "OPTIONS"));
    let candidates = options.sets[0].destinations.iter().filter(|one| one.role == Role::Candidate).count();
    assert_eq!(candidates, 3, "what is no call takes no room");
}

#[test]
fn a_chain_of_full_sets_is_told_to_its_end() {
    let mut bench = Bench::with(|config| {
        config.sets[0].capacity.max_sessions = Some(0);
        config.sets[0].capacity.overflow = Some(SetId(20));
        let mut next = Policy::of(SetId(20));
        next.capacity.set_max_sessions = Some(0);
        next.capacity.busy_reply = Reply::new(600, "Busy Everywhere");
        config.sets.push(next);
    });
    let Sets(mut sets) = set_19(&SERVERS);
    sets.push(Set { id: SetId(20), ..sets[0].clone() });
    bench.load(Sets(sets));
    let told = explain(&bench, invite("1"));
    let chain: Vec<_> = told.sets.iter().map(|set| (set.id.0, set.planned)).collect();
    assert_eq!(chain, [(19, Planned::Full), (20, Planned::Full)]);
    assert!(told.sets[1].destinations.iter().all(|one| one.role == Role::SetFull), "{:?}", told.sets[1]);
    let Fate::Answered { status, why, .. } = told.fate else { panic!("{:?}", told.fate) };
    assert_eq!((status, why.as_str()), (600, "nobody of set 20 has room"));
}

#[test]
fn the_one_that_is_half_open_is_told_apart_and_no_trial_begins() {
    let mut bench = Bench::with(|config| {
        config.sets[0].judgement.observe.consecutive_failures = 1;
        config.sets[0].algorithm = Algorithm::Priority;
    });
    let first = bench.call("1");
    let sent = bench.receive(&first.to.to_string(), first.answer(500, "Oops", &[]));
    let other = sent.iter().find(|one| one.line().starts_with("INVITE")).expect("another try");
    bench.receive(&other.to.to_string(), other.answer(200, "OK", &[]));
    bench.pass(seconds(8));
    for _ in 0..3 {
        let told = explain(&bench, invite("2"));
        let half_open = &told.sets[0].destinations[0];
        assert_eq!(half_open.view.why.to_string(), "calls failed before: the next call tries it");
        assert_eq!((half_open.role, half_open.place), (Role::Candidate, Some(0)));
        let told = explain(&bench, invite("3").replace("INVITE", "OPTIONS"));
        assert_eq!(told.sets[0].destinations[0].role, Role::HalfOpen);
    }
    assert_eq!(bench.call("4").to, first.to, "the trial is still to be had");
}

#[test]
fn what_is_inside_a_dialog_tells_of_its_route_and_cookie() {
    let mut bench = Bench::new();
    let (invite, ok) = bench.answered_call("1");
    for text in [in_dialog("BYE", &ok, 2), in_dialog("ACK", &ok, 1), in_dialog("INVITE", &ok, 3)] {
        let told = explain(&bench, &text);
        let Fate::Relayed { request_uri, peer, listener, .. } = &told.fate else { panic!("{text}: {told:?}") };
        assert_eq!((request_uri.as_str(), *peer), (format!("sip:{}", invite.to).as_str(), invite.to));
        assert_eq!(listener, "udp:10.129.39.1:8060");
        assert!(told.notes[1].contains("is in the table, at 10.129.39.88:70"), "{:?}", told.notes);
        assert!(told.notes[1].contains("a valid cookie of set 19, sent by the caller"), "{:?}", told.notes);
        assert!(told.rules.is_empty());
    }
    let told = bench.explain(&invite.to.to_string(), from_destination("BYE", &invite, 1)).expect("a request");
    assert!(told.notes[1].contains("sent by the destination"), "{:?}", told.notes);
    assert!(matches!(&told.fate, Fate::Relayed { peer, .. } if peer.to_string() == CALLER), "{:?}", told.fate);

    // Without a cookie, and of no session.
    let stray =
        in_dialog("BYE", &ok, 2).replace("Call-ID: 1", "Call-ID: 2").replace("sip:10.129.39.88", "sip:10.9.9.9");
    let told = explain(&bench, &stray);
    let Fate::Answered { status, .. } = told.fate else { panic!("{:?}", told.fate) };
    assert_eq!(
        (status, told.notes[1].as_str()),
        (403, "its session is not in the table; its Route has no valid cookie of ours")
    );
    assert_eq!(bench.receive(CALLER, &stray)[0].line(), "SIP/2.0 403 Forbidden");
    let told = explain(&bench, stray.replace("BYE", "ACK"));
    assert!(matches!(&told.fate, Fate::Ends { why } if why.ends_with("it is dropped")), "{:?}", told.fate);
    assert_eq!(lines(&bench.receive(CALLER, in_dialog("BYE", &ok, 2))).len(), 1, "the session was there still");
}

#[test]
fn what_has_no_rule_to_ask_is_told() {
    let mut bench = Bench::new();
    let cancel = |id: &str| {
        let text = invite(id).replace("INVITE", "CANCEL");
        text.replace("-CANCEL;rport", "-INVITE;rport")
    };
    let status = |told: &Explanation| match &told.fate {
        Fate::Answered { status, .. } => *status,
        fate => panic!("{fate:?}"),
    };
    assert_eq!(status(&explain(&bench, cancel("1"))), 481);
    let sent = bench.call("1");
    assert_eq!(status(&explain(&bench, cancel("1"))), 200);
    let again = explain(&bench, invite("1"));
    assert!(again.notes[0].starts_with("this very request is here already"), "{:?}", again.notes);

    let response = String::from_utf8(sent.answer(200, "OK", &[])).expect("text");
    assert_eq!(bench.explain(CALLER, response).map(|_| ()), Err(Unexplained::Response { status: 200 }));
    for (text, words) in [
        ("", "no message, only line ends"),
        ("hello\r\n\r\n", "the first line is not SIP"),
        ("INVITE sip:a SIP/2.0\r\n\r\n", "without a usable Via"),
    ] {
        let fault = bench.explain(CALLER, text).expect_err(text).to_string();
        assert!(fault.contains(words) && fault.contains("give a request"), "{fault}");
    }
    bench.handle(Input::Drain(Drain::Leaving));
    assert!(matches!(explain(&bench, invite("2")).fate, Fate::Sent { .. }), "calls are served");
    let own = request("OPTIONS", &format!("sip:{INSIDE}"), "3", &[]);
    assert_eq!(status(&explain(&bench, own)), 503);
    bench.handle(Input::Drain(Drain::Refusing));
    let told = explain(&bench, invite("2"));
    assert_eq!((status(&told), told.rules.len()), (503, 0));
    assert!(matches!(&told.fate, Fate::Answered { headers, .. } if headers == &["Retry-After: 5"]), "{:?}", told.fate);
}
