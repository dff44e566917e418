//! Agents: what a destination wants by its own word, beside its health and below an operator's order.

use std::collections::BTreeMap;
use std::time::Duration;

use tandem::engine::dispatch::{Agent, AgentWord, Algorithm, Fitness, Health, Limits, Order, Panic, SlowStart, Wish};
use tandem::engine::event::AgentChange;
use tandem::engine::{Config, Event, Input};

use super::orders::order;
use super::{EMPTY, call_answered, eject, health, is_fit, live, probed_by, refused, view};
use crate::harness::{Bench, CALLER, SERVERS, in_dialog, invite, seconds, set_19};

/// Where the agents of the two servers are, which share an address.
const AGENTS: [&str; 2] = ["10.129.39.88:9010/", "10.129.39.88:9011/wants"];

/// The article's set-up with an agent for each server, asked every 5 s.
fn with_agents(change: impl FnOnce(&mut Config)) -> Bench {
    Bench::with(|config| {
        config.sets[0].agent = Some(Agent::new(9010).into());
        let own = Agent { port: 9011, path: "/wants".into(), ..Agent::new(9011) };
        config.sets[0].agent_instead = vec![(format!("sip:{}", SERVERS[1]), Some(own.into()))];
        change(config);
    })
}

/// Lets time pass; each question meanwhile gets what `answer` says of its place.
fn listen<'a>(bench: &mut Bench, time: Duration, answer: impl Fn(&str) -> Option<&'a str>) {
    let end = bench.time() + time;
    while bench.time() < end {
        let seen = bench.agents.len();
        bench.pass(Duration::from_millis(50).min(end - bench.time()));
        let new = bench.agents[seen..].to_vec();
        for (id, at) in new {
            bench.handle(Input::AgentSaid { id, body: answer(&at).map(str::as_bytes) });
        }
    }
}

/// The first one's agent says that, the second's nothing but that all is well.
fn first_says<'a>(line: &'a str) -> impl Fn(&str) -> Option<&'a str> {
    move |at| Some(if at == AGENTS[0] { line } else { "100% ready up" })
}

fn nobody(_: &str) -> Option<&'static str> {
    None
}

/// Where so many calls go, each ended at once.
fn calls(bench: &mut Bench, name: &str, count: u32) -> BTreeMap<String, u32> {
    let mut reached = BTreeMap::new();
    for number in 0..count {
        let (invite, ok) = bench.answered_call(&format!("{name}-{number}"));
        *reached.entry(invite.to.to_string()).or_insert(0) += 1;
        bench.receive(CALLER, in_dialog("BYE", &ok, 2));
    }
    reached
}

fn split(first: u32, second: u32) -> BTreeMap<String, u32> {
    let counts = [(SERVERS[0], first), (SERVERS[1], second)];
    counts.into_iter().filter(|(_, count)| *count > 0).map(|(server, count)| (server.to_owned(), count)).collect()
}

/// What was told of agents.
fn told(bench: &Bench) -> Vec<AgentChange> {
    let of = |event: &Event| match event {
        Event::Agent(change) => Some((**change).clone()),
        _ => None,
    };
    bench.events.iter().filter_map(of).collect()
}

#[test]
fn each_agent_is_asked_at_once_and_then_every_interval() {
    let mut bench = with_agents(|_| {});
    bench.pass(Duration::from_millis(100));
    assert_eq!(bench.agents.iter().map(|(_, at)| at.as_str()).collect::<Vec<_>>(), AGENTS);
    bench.pass(seconds(100));
    for agent in AGENTS {
        let count = bench.agents.iter().filter(|(_, at)| at == agent).count();
        assert!((21..=22).contains(&count), "{agent}: {count}");
    }
    // After a sleep they go on, without asking for what they missed.
    bench.stall(seconds(1000));
    let before = bench.agents.len();
    bench.pass(seconds(10));
    assert!((4..=6).contains(&(bench.agents.len() - before)), "{}", bench.agents.len() - before);
}

#[test]
fn a_set_without_agents_asks_nobody_and_shows_none() {
    let mut bench = Bench::new();
    bench.pass(seconds(100));
    assert!(bench.agents.is_empty() && view(&bench, SERVERS[0]).agent.is_none());
}

#[test]
fn a_percentage_is_that_share_of_the_weight() {
    let mut bench = with_agents(|_| {});
    assert_eq!(calls(&mut bench, "before", 40), split(20, 20), "whose agent says nothing has all of its weight");
    listen(&mut bench, seconds(6), first_says("25%\n"));
    assert_eq!(calls(&mut bench, "quarter", 50), split(10, 40));
    assert_eq!(view(&bench, SERVERS[0]).share, 25);
    listen(&mut bench, seconds(6), first_says("300%"));
    assert_eq!(calls(&mut bench, "more", 40), split(30, 10));
    listen(&mut bench, seconds(6), first_says("100%"));
    assert_eq!(calls(&mut bench, "after", 40), split(20, 20));
}

#[test]
fn who_wants_nothing_gets_nothing_unless_nobody_wants_anything() {
    for algorithm in Algorithm::ALL {
        let mut bench = with_agents(|config| config.sets[0].algorithm = algorithm);
        listen(&mut bench, seconds(6), first_says("0%"));
        assert_eq!(calls(&mut bench, "none", 20), split(0, 20), "{}", algorithm.name());
        // Nor by failover.
        let sent = bench.receive(CALLER, invite("fails"));
        let end = bench.receive(&sent[1].to.to_string(), sent[1].answer(500, "Oops", &[]));
        assert!(end.iter().all(|one| !one.line().starts_with("INVITE")), "{}", algorithm.name());
        assert!(is_fit(&bench, SERVERS[0]), "0% is a weight, no refusal");
        listen(&mut bench, seconds(6), |_| Some("0%"));
        assert_eq!(calls(&mut bench, "both", 20).values().sum::<u32>(), 20);
    }
}

#[test]
fn a_refusal_keeps_new_calls_away_and_sessions_alive_until_its_opposite() {
    for (line, word, lift) in [
        ("drain", AgentWord::Drain, "ready"),
        ("maint # model 7", AgentWord::Maint, "READY"),
        ("down", AgentWord::Down, "up"),
        ("fail", AgentWord::Fail, "up"),
        ("stopped # by hand", AgentWord::Stopped, "up ready 100%"),
    ] {
        let mut bench = with_agents(|_| {});
        let (held, ok) = bench.answered_call("held");
        assert_eq!(held.to.to_string(), SERVERS[0]);
        listen(&mut bench, seconds(6), first_says(line));
        assert_eq!(view(&bench, SERVERS[0]).fitness, Fitness::Agent(word), "{line}");
        assert_eq!((health(&bench, SERVERS[0]), view(&bench, SERVERS[0]).falls), (Health::Up, 0), "{line}");
        assert_eq!(calls(&mut bench, "away", 10), split(0, 10), "{line}");
        let sent = bench.receive(CALLER, in_dialog("INFO", &ok, 2));
        assert_eq!(sent[0].to.to_string(), SERVERS[0], "{line}");
        // What is neither its opposite nor another word of it does not lift it, nor does a failed question.
        listen(&mut bench, seconds(6), first_says("100%"));
        listen(&mut bench, seconds(6), nobody);
        assert_eq!(view(&bench, SERVERS[0]).fitness, Fitness::Agent(word), "{line}");
        listen(&mut bench, seconds(6), first_says(lift));
        assert_eq!(calls(&mut bench, "back", 10), split(5, 5), "{line}");
        let changes: Vec<_> =
            told(&bench).iter().map(|one| (one.old.refusal(), one.new.as_ref().and_then(Wish::refusal))).collect();
        assert_eq!(changes, [(None, Some(word)), (Some(word), None)], "{line}: told once each");
        let reason = line.split_once("# ").map_or("", |(_, reason)| reason);
        assert_eq!(told(&bench)[0].new.as_ref().map(|new| new.reason.as_str()), Some(reason), "{line}");
    }
}

#[test]
fn when_every_agent_refuses_the_set_is_empty() {
    let mut bench = with_agents(|config| config.sets[0].panic = Panic { threshold: 100, ..Panic::default() });
    listen(&mut bench, seconds(6), |_| Some("drain"));
    assert_eq!(refused(&mut bench, "1"), Some(EMPTY.into()), "and no panic sends to who wants none");
}

#[test]
fn silence_says_nothing_and_after_some_of_it_what_was_said_does_not_hold() {
    let mut bench = with_agents(|_| {});
    listen(&mut bench, seconds(6), first_says("down maxconn:1 50%"));
    let heard = view(&bench, SERVERS[0]).agent.expect("an agent");
    assert_eq!((heard.wish.as_ref().map(|wish| wish.share), heard.line.as_str()), (Some(50), "down maxconn:1 50%"));
    // Errors of any kind and garbage; 3 intervals of 5 s and the last one's 2 s.
    listen(&mut bench, seconds(10), |at| (at == AGENTS[0]).then_some("<html>"));
    assert!(!is_fit(&bench, SERVERS[0]));
    listen(&mut bench, seconds(8), nobody);
    let seen = view(&bench, SERVERS[0]);
    assert_eq!((seen.fitness, seen.share, seen.limits), (Fitness::Fit, 100, Limits::default()));
    let heard = seen.agent.expect("an agent");
    assert_eq!((heard.wish, heard.line.as_str(), heard.unknown_words), (None, "down maxconn:1 50%", 2));
    assert!(heard.silences >= 3, "{}", heard.silences);
    let last = told(&bench).pop().expect("its end is told");
    assert_eq!((last.uri, last.new), (format!("sip:{}", SERVERS[0]), None));
    assert_eq!(calls(&mut bench, "again", 10), split(5, 5));
    assert_eq!((seen.health, seen.falls), (Health::Up, 0), "nothing of it is evidence");
}

#[test]
fn an_operators_order_stands_above_the_agents_word() {
    let mut bench = with_agents(|_| {});
    order(&mut bench, SERVERS[0], Order::Drain);
    listen(&mut bench, seconds(6), first_says("up ready 100%"));
    assert_eq!(view(&bench, SERVERS[0]).fitness, Fitness::Ordered(Order::Drain));
    listen(&mut bench, seconds(6), first_says("maint"));
    assert_eq!(view(&bench, SERVERS[0]).fitness, Fitness::Ordered(Order::Drain));
    assert_eq!(view(&bench, SERVERS[0]).standing.order, Order::Drain, "an agent gives no orders");
    order(&mut bench, SERVERS[0], Order::Ready);
    assert_eq!(view(&bench, SERVERS[0]).fitness, Fitness::Agent(AgentWord::Maint), "nor are its own overwritten");
    // In maintenance by order nobody is asked.
    order(&mut bench, SERVERS[0], Order::Maint);
    let before = bench.agents.len();
    bench.pass(seconds(20));
    assert!(bench.agents[before..].iter().all(|(_, at)| at != AGENTS[0]));
    order(&mut bench, SERVERS[0], Order::Ready);
    listen(&mut bench, seconds(6), first_says("50%"));
    assert!(is_fit(&bench, SERVERS[0]));
}

#[test]
fn a_sick_one_is_not_healed_by_its_agent_and_a_refusing_one_is_probed_all_the_same() {
    let mut bench = with_agents(probed_by(vec![super::options(|check| check.interval = seconds(1))]));
    for _ in 0..20 {
        live(&mut bench, seconds(1), super::dead(SERVERS[0]));
        for (id, _) in std::mem::take(&mut bench.agents) {
            bench.handle(Input::AgentSaid { id, body: Some(b"up ready 100%") });
        }
    }
    assert_eq!(view(&bench, SERVERS[0]).fitness, Fitness::Unwell(Health::Down));
    let mut bench = Bench::with(|config| {
        config.sets[0].agent = Some(Agent::new(9010).into());
        config.sets[0].failover.retry_on = tandem::engine::dispatch::RetryOn::NONE;
    });
    bench.load(set_19(&SERVERS[..1]));
    eject(&mut bench, "x");
    listen(&mut bench, seconds(1), first_says("up"));
    assert_eq!(health(&bench, SERVERS[0]), Health::Down, "an ejection is not its agent's to end");
}

#[test]
fn maxconn_lowers_the_limit_and_never_raises_it() {
    let mut bench = with_agents(|config| config.sets[0].capacity.max_sessions = Some(3));
    listen(&mut bench, seconds(6), first_says("maxconn:1"));
    let limits = |bench: &Bench| SERVERS.map(|server| view(bench, server).limits.sessions);
    assert_eq!(limits(&bench), [Some(1), Some(3)]);
    let reached: Vec<_> = (0..4).map(|number| bench.answered_call(&number.to_string()).0.to.to_string()).collect();
    assert_eq!(reached.iter().filter(|one| *one == SERVERS[0]).count(), 1, "{reached:?}");
    assert_eq!(view(&bench, SERVERS[0]).fitness, Fitness::Full);
    assert_eq!(refused(&mut bench, "full"), Some("SIP/2.0 486 Busy Here".into()));
    listen(&mut bench, seconds(6), first_says("maxconn:100"));
    assert_eq!(limits(&bench), [Some(3), Some(3)]);
    listen(&mut bench, seconds(6), first_says("maxconn:0"));
    assert_eq!(limits(&bench), [Some(3), Some(3)], "HAProxy's 0 is no limit of the agent's");
    // Without a limit of the set's it is one all the same.
    let mut bench = with_agents(|_| {});
    listen(&mut bench, seconds(6), |_| Some("maxconn:1"));
    (0..2).for_each(|number| drop(bench.answered_call(&number.to_string())));
    assert_eq!(refused(&mut bench, "full"), Some("SIP/2.0 486 Busy Here".into()));
}

#[test]
fn relative_load_is_against_what_the_agent_bears() {
    let mut bench = with_agents(|config| {
        config.sets[0].algorithm = Algorithm::LeastLoadRelative;
        config.sets[0].capacity.max_sessions = Some(100);
    });
    listen(&mut bench, seconds(6), first_says("maxconn:25"));
    (0..50).for_each(|number| drop(bench.answered_call(&number.to_string())));
    assert_eq!(SERVERS.map(|server| view(&bench, server).sessions), [10, 40]);
}

#[test]
fn one_that_comes_back_slowly_gets_its_share_of_what_its_agent_wants() {
    let slow = SlowStart { window: seconds(100), aggression: 1.0, min_weight_percent: 10 };
    let mut bench = with_agents(|config| {
        config.sets[0].judgement.slow_start = Some(slow);
        config.sets[0].failover.retry_on = tandem::engine::dispatch::RetryOn::NONE;
    });
    while health(&bench, SERVERS[0]) != Health::Down {
        let first = bench.call(&format!("bad-{:?}", bench.time()));
        let status = if first.to.to_string() == SERVERS[0] { 503 } else { 404 };
        bench.receive(&first.to.to_string(), first.answer(status, "Test", &[]));
        bench.pass(Duration::from_millis(1));
    }
    let (left, _) = view(&bench, SERVERS[0]).kept.ejected.expect("it is ejected");
    bench.pass(left + Duration::from_millis(2));
    while health(&bench, SERVERS[0]) != Health::Up {
        let id = format!("good-{:?}", bench.time());
        call_answered(&mut bench, &id, 404, &[]);
        bench.pass(Duration::from_millis(1));
    }
    listen(&mut bench, seconds(25), first_says("50%"));
    assert_eq!(view(&bench, SERVERS[0]).share, 10, "half of the 20 % that it has now");
    assert_eq!(calls(&mut bench, "slow", 110), split(10, 100));
    listen(&mut bench, seconds(100), first_says("50%"));
    assert_eq!(calls(&mut bench, "all", 30), split(10, 20));
}

#[test]
fn what_an_agent_of_a_destination_that_is_gone_says_is_nobodys() {
    let mut bench = with_agents(|_| {});
    bench.pass(seconds(1));
    let (id, _) = bench.agents[0].clone();
    bench.load(set_19(&SERVERS[1..]));
    bench.handle(Input::AgentSaid { id, body: Some(b"down") });
    bench.handle(Input::AgentSaid { id: tandem::engine::event::AgentId(u64::MAX), body: Some(b"down") });
    assert!(told(&bench).is_empty() && is_fit(&bench, SERVERS[1]));
    let before = bench.agents.len();
    bench.pass(seconds(20));
    assert!(bench.agents[before..].iter().all(|(_, at)| at == AGENTS[1]), "and is asked no longer");
    // One that a reload keeps keeps its agent's word.
    listen(&mut bench, seconds(6), |_| Some("drain"));
    bench.load(set_19(&SERVERS));
    assert_eq!(view(&bench, SERVERS[1]).fitness, Fitness::Agent(AgentWord::Drain));
    assert!(is_fit(&bench, SERVERS[0]), "a new one is fit until its agent says otherwise");
}
