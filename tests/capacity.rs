//! Choice by load and limits of load, on virtual time: a load is what the dialog table holds, pending calls included.

use std::collections::BTreeMap;
use std::time::Duration;

use tandem::engine::dispatch::{Algorithm, Fitness, Policy, Row, Set, SetId, Sets};

use crate::harness::{Bench, CALLER, SERVERS, Sent, in_dialog, invite, lines, seconds, set_19};

const BUSY: &str = "SIP/2.0 486 Busy Here";

fn limited(sessions: u32) -> Bench {
    Bench::with(|config| config.sets[0].capacity.max_sessions = Some(sessions))
}

/// A call: where it went, or what the caller was told.
fn call(bench: &mut Bench, id: &str) -> Result<Sent, String> {
    let sent = bench.receive(CALLER, invite(id));
    sent.iter().find(|one| one.line().starts_with("INVITE")).cloned().ok_or_else(|| sent[1].line())
}

fn hang_up(bench: &mut Bench, ok: &Sent) {
    bench.receive(CALLER, in_dialog("BYE", ok, 2));
}

fn sessions(bench: &Bench) -> BTreeMap<String, u64> {
    let sets = bench.snapshot().sets;
    sets.iter().flat_map(|set| &set.destinations).map(|one| (one.uri.clone(), one.sessions)).collect()
}

#[test]
fn at_its_limit_a_destination_is_not_chosen_and_when_all_are_the_caller_is_told_busy() {
    let mut bench = limited(2);
    let calls: Vec<_> = (0..4).map(|number| bench.answered_call(&number.to_string())).collect();
    assert!(sessions(&bench).values().all(|&sessions| sessions == 2));
    let view = &bench.snapshot().sets[0];
    assert!(view.destinations.iter().all(|one| one.fitness == Fitness::Full));
    assert_eq!(call(&mut bench, "4").expect_err("no room"), BUSY);
    assert_eq!(bench.snapshot().sets[0].full, 1);
    hang_up(&mut bench, &calls[1].1);
    let next = call(&mut bench, "5").expect("room again");
    assert_eq!(next.to, calls[1].0.to, "where there is room");
}

#[test]
fn a_call_that_is_being_set_up_counts_and_one_that_fails_gives_its_place_back() {
    let mut bench = limited(1);
    let first = call(&mut bench, "1").expect("room");
    call(&mut bench, "2").expect("room");
    assert_eq!(call(&mut bench, "3").expect_err("no room"), BUSY);
    bench.receive(&first.to.to_string(), first.answer(404, "Not Found", &[]));
    assert_eq!(call(&mut bench, "4").expect("its place is free").to, first.to);
}

#[test]
fn no_failover_goes_over_the_limit() {
    let mut bench = limited(1);
    let (held, _) = bench.answered_call("1");
    let first = call(&mut bench, "2").expect("room");
    assert_ne!(first.to, held.to);
    let sent = bench.receive(&first.to.to_string(), first.answer(500, "Oops", &[]));
    assert!(sent.iter().all(|one| !one.line().starts_with("INVITE")), "the other one is full: {:?}", lines(&sent));
}

#[test]
fn discovery_takes_no_room_and_is_not_refused_for_want_of_it() {
    let mut bench = limited(0);
    assert_eq!(call(&mut bench, "1").expect_err("no room at all"), BUSY);
    let options = invite("2").replace("INVITE", "OPTIONS");
    let sent = bench.receive(CALLER, options);
    assert!(sent[0].line().starts_with("OPTIONS"), "{:?}", lines(&sent));
}

#[test]
fn discovery_that_fails_goes_on_to_one_without_room() {
    let mut bench = limited(0);
    let sent = bench.receive(CALLER, invite("1").replace("INVITE", "OPTIONS"));
    let next = bench.receive(&sent[0].to.to_string(), sent[0].answer(503, "Oops", &[]));
    assert!(next[0].line().starts_with("OPTIONS") && next[0].to != sent[0].to, "{:?}", lines(&next));
}

#[test]
fn calls_beyond_a_set_go_to_the_next_and_a_ring_of_sets_ends() {
    let mut bench = Bench::with(|config| {
        config.sets[0].capacity.max_sessions = Some(0);
        config.sets[0].capacity.overflow = Some(SetId(20));
        let mut next = Policy::of(SetId(20));
        next.capacity.overflow = Some(SetId(19));
        next.capacity.max_sessions = Some(1);
        config.sets.push(next);
    });
    let Sets(mut sets) = set_19(&SERVERS);
    let third = Row {
        uri: "sip:10.129.39.88:7012".into(),
        address: "10.129.39.88:7012".parse().expect("an address"),
        ..sets[0].rows[0].clone()
    };
    sets.push(Set { id: SetId(20), rows: vec![third] });
    bench.load(Sets(sets));
    assert_eq!(call(&mut bench, "1").expect("the second set").to.port(), 7012);
    assert_eq!(call(&mut bench, "2").expect_err("both are full"), BUSY);
}

#[test]
fn a_set_may_have_a_limit_of_its_own() {
    let mut bench = Bench::with(|config| config.sets[0].capacity.set_max_sessions = Some(3));
    for number in 0..3 {
        bench.answered_call(&number.to_string());
    }
    assert_eq!(call(&mut bench, "3").expect_err("no room"), BUSY);
}

#[test]
fn the_attrs_that_operators_already_have_are_read() {
    let mut bench = Bench::with(|config| config.sets[0].capacity.attr = Some("pstn".into()));
    let Sets(mut sets) = set_19(&SERVERS);
    for (row, attrs) in sets[0].rows.iter_mut().zip(["pstn=1", "pstn=3"]) {
        row.attrs = attrs.into();
    }
    bench.load(Sets(sets));
    let reached: Vec<_> =
        (0..5).map(|number| call(&mut bench, &number.to_string()).map(|sent| sent.to.port())).collect();
    assert_eq!(reached.iter().filter(|one| **one == Ok(7010)).count(), 1);
    assert_eq!(reached.iter().filter(|one| **one == Ok(7011)).count(), 3);
    assert_eq!(reached[4], Err(BUSY.to_owned()));
}

#[test]
fn calls_a_second_are_held_to_their_limit_and_come_back_with_time() {
    let mut bench = Bench::with(|config| config.sets[0].capacity.max_cps = Some(5));
    let given = |bench: &mut Bench, name: &str| {
        (0..20).filter(|number| call(bench, &format!("{name}-{number}")).is_ok()).count()
    };
    assert_eq!(given(&mut bench, "a"), 10, "a second's worth at each");
    bench.pass(Duration::from_millis(200));
    assert_eq!(given(&mut bench, "b"), 2);
}

#[test]
fn the_least_loaded_gets_the_next_call_whatever_the_turn() {
    let mut bench = Bench::with(|config| config.sets[0].algorithm = Algorithm::LeastLoad);
    let calls: Vec<_> = (0..6).map(|number| bench.answered_call(&number.to_string())).collect();
    assert!(sessions(&bench).values().all(|&sessions| sessions == 3), "{:?}", sessions(&bench));
    // All of one server's calls end: the next three are its own.
    let freed = calls[0].0.to;
    for (_, ok) in calls.iter().filter(|(sent, _)| sent.to == freed) {
        hang_up(&mut bench, ok);
    }
    for number in 6..9 {
        assert_eq!(bench.answered_call(&number.to_string()).0.to, freed);
    }
}

#[test]
fn relative_load_fills_servers_of_different_size_alike() {
    let mut bench = Bench::with(|config| {
        config.sets[0].algorithm = Algorithm::LeastLoadRelative;
        config.sets[0].capacity.attr = Some("pstn".into());
    });
    let Sets(mut sets) = set_19(&SERVERS);
    for (row, attrs) in sets[0].rows.iter_mut().zip(["pstn=10", "pstn=30"]) {
        row.attrs = attrs.into();
    }
    bench.load(Sets(sets));
    (0..20).for_each(|number| drop(bench.answered_call(&number.to_string())));
    assert_eq!(sessions(&bench).into_values().collect::<Vec<_>>(), [5, 15]);
}

#[test]
fn one_that_answers_slowly_gets_fewer_calls() {
    let mut bench = Bench::with(|config| config.sets[0].algorithm = Algorithm::PeakEwma);
    let mut reached = BTreeMap::new();
    for number in 0..60 {
        let sent = call(&mut bench, &number.to_string()).expect("somebody");
        *reached.entry(sent.to.port()).or_insert(0) += 1;
        bench.pass(if sent.to.port() == 7010 { seconds(1) } else { Duration::from_millis(10) });
        let contact = format!("Contact: <sip:{}>", sent.to);
        let ok = bench.receive(&sent.to.to_string(), sent.answer(200, "OK", &[&contact]));
        hang_up(&mut bench, &ok[0]);
    }
    assert!(reached[&7011] > 4 * reached.get(&7010).copied().unwrap_or(0), "{reached:?}");
    assert!(reached.contains_key(&7010), "and is tried again all the same");
}
