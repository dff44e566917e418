//! What outlives a restart as the engine sees it, and checks that could not be made.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tandem::engine::Input;
use tandem::engine::dispatch::{
    Check, CheckKind, Fitness, Health, Kept, Order, OrderTerms, Outcome, Probing, Remembered, RowState, SetId, Sets,
    Standing,
};
use tandem::engine::event::CheckId;

use crate::harness::{Bench, SERVERS, seconds, set_19};

const SET: SetId = SetId(19);

fn drained() -> Standing {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    Standing { order: Order::Drain, by: "ann".to_owned(), reason: "disk".to_owned(), at, deadline: None }
}

fn remembered(server: &str, standing: Option<Standing>, kept: Option<Kept>) -> Remembered {
    let address = server.parse().expect("an address");
    Remembered { set: SET, uri: format!("sip:{server}"), address, standing, kept }
}

fn by_tcp(bench: &mut tandem::engine::Config) {
    let check = Check { fall: 1, rise: 1, ..Check::new(CheckKind::Tcp { port: Some(554) }) };
    bench.sets[0].probing = Arc::new(Probing { checks: vec![check], ..Probing::default() });
}

fn healths(bench: &Bench) -> Vec<Health> {
    bench.snapshot().sets[0].destinations.iter().map(|one| one.health).collect()
}

/// Checks for twenty seconds, each ended in time as `end` says; how many they were.
fn checked(bench: &mut Bench, end: impl Fn(&mut Bench, CheckId)) -> usize {
    let mut asked = 0;
    for _ in 0..20 {
        bench.pass(seconds(1));
        for (id, ..) in std::mem::take(&mut bench.checks) {
            end(bench, id);
            asked += 1;
        }
    }
    asked
}

#[test]
fn a_check_that_could_not_be_made_says_nothing() {
    let mut bench = Bench::with(by_tcp);
    let refused = |bench: &mut Bench, id| {
        bench.handle(Input::Checked { id, outcome: Outcome::Refused });
    };
    let unchecked = |bench: &mut Bench, id| {
        bench.handle(Input::Unchecked(id));
        // It has ended: an outcome that comes all the same is nobody's.
        refused(bench, id);
    };
    // Far longer than the engine waits for an outcome.
    assert!(checked(&mut bench, unchecked) >= 4);
    assert_eq!(healths(&bench), [Health::Up, Health::Up]);
    assert!(bench.snapshot().sets[0].destinations.iter().all(|one| one.falls == 0));
    assert!(checked(&mut bench, refused) >= 4);
    assert_eq!(healths(&bench), [Health::Down, Health::Down]);
}

#[test]
fn what_was_known_is_known_again_of_that_address_alone() {
    let mut bench = Bench::with(by_tcp);
    let down = Kept { probes_down: true, ..Kept::default() };
    let elsewhere = Remembered {
        address: "10.129.39.88:9".parse().expect("an address"),
        ..remembered(SERVERS[1], Some(drained()), Some(down))
    };
    bench.handle(Input::Remembered(&[remembered(SERVERS[0], Some(drained()), Some(down)), elsewhere]));
    let snapshot = bench.snapshot();
    let [first, second] = snapshot.sets[0].destinations.as_slice() else { panic!("{snapshot:?}") };
    assert_eq!((&first.standing, first.health), (&drained(), Health::Down));
    assert_eq!((second.standing.is_by_hand(), second.fitness), (false, Fitness::Fit));
    assert_eq!(first.kept, down);
}

#[test]
fn an_ejection_goes_on_no_longer_than_the_set_allows() {
    let kept = Kept { ejected: Some((seconds(1_000_000), u32::MAX)), ..Kept::default() };
    let mut bench = Bench::new();
    bench.handle(Input::Remembered(&[remembered(SERVERS[0], None, Some(kept))]));
    assert_eq!(healths(&bench), [Health::Down, Health::Up]);
    bench.pass(seconds(75));
    assert_eq!(healths(&bench), [Health::Unknown, Health::Up]);
    // Its trial fails: not even the 2^32nd ejection is a fault.
    let mut bench = Bench::new();
    let trial = Kept { ejected: Some((Duration::ZERO, u32::MAX)), ..Kept::default() };
    bench.handle(Input::Remembered(&[remembered(SERVERS[0], None, Some(trial))]));
    let invite = bench.call("1");
    assert_eq!(invite.to.to_string(), SERVERS[0]);
    bench.receive(SERVERS[0], invite.answer(500, "No", &[]));
    assert_eq!(healths(&bench), [Health::Down, Health::Up]);
}

#[test]
fn a_set_that_does_not_watch_its_traffic_remembers_no_ejection() {
    let mut bench = Bench::with(|config| config.sets[0].judgement.observe.enabled = false);
    let kept = Kept { ejected: Some((seconds(5), 1)), ..Kept::default() };
    bench.handle(Input::Remembered(&[remembered(SERVERS[0], None, Some(kept))]));
    assert_eq!(healths(&bench), [Health::Up, Health::Up], "nobody would find that it has come back");
}

#[test]
fn an_order_is_for_addresses_that_a_name_gets_later_too() {
    let named = |addresses: &[&str], state| {
        let Sets(mut sets) = set_19(addresses);
        sets[0].rows.iter_mut().for_each(|row| {
            row.uri = "sip:tts.example.test".to_owned();
            row.state = state;
        });
        Sets(sets)
    };
    let mut bench = Bench::new();
    bench.load(named(&SERVERS[..1], RowState::Active));
    bench.handle(Input::Order {
        set: SET,
        uri: "sip:tts.example.test",
        standing: &drained(),
        terms: &OrderTerms::NONE,
    });
    // First another address beside it, then others in the place of all.
    for addresses in [&SERVERS[..], &["10.0.0.7:5060", "10.0.0.8:5060"]] {
        bench.load(named(addresses, RowState::Active));
        let snapshot = bench.snapshot();
        let destinations = &snapshot.sets[0].destinations;
        assert!(destinations.iter().all(|one| one.standing == drained()), "{destinations:?}");
    }
    // A new state is a newer order.
    bench.load(named(&["10.0.0.9:5060"], RowState::Probing));
    assert_eq!(bench.snapshot().sets[0].destinations[0].standing.order, Order::Ready);
}
