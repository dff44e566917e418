//! What the engine counts for the metrics, on virtual time.

use std::time::Duration;

use tandem::engine::dispatch::{Choice, Latency, Sets};
use tandem::engine::snapshot::{DestinationView, SetView, Snapshot};
use tandem::engine::transaction::TransactionKind;

use crate::harness::{Bench, CALLER, SERVERS, Sent, in_dialog, invite, relayed_invite, request, seconds, set_19};

const OK: &[&str] = &["Contact: <sip:10.129.39.88:7010>"];

fn set(bench: &Bench) -> SetView {
    bench.snapshot().sets.remove(0)
}

fn each<T, const N: usize>(bench: &Bench, value: impl Fn(&DestinationView) -> T) -> [T; N]
where
    T: std::fmt::Debug,
{
    let all: Vec<_> = set(bench).destinations.iter().map(value).collect();
    all.try_into().expect("so many")
}

/// A call that both servers refuse.
fn exhaust(bench: &mut Bench, id: &str) {
    let first = bench.call(id);
    let sent = bench.receive(&first.to.to_string(), first.answer(503, "No", &[]));
    let second = sent.iter().find(|one| one.line().starts_with("INVITE")).expect("another is tried").clone();
    let end = bench.receive(&second.to.to_string(), second.answer(503, "No", &[]));
    assert!(end.iter().any(|one| one.line().starts_with("SIP/2.0 480 ")), "{:?}", crate::harness::lines(&end));
}

#[test]
fn a_first_choice_is_told_from_a_failover_and_both_make_the_selections() {
    let mut bench = Bench::new();
    bench.answered_call("1");
    exhaust(&mut bench, "2");
    let [first, second] = each(&bench, |one| (one.choices, one.selections, one.id));
    // The second call begins at the second server.
    assert_eq!((Choice::ALL[0], first.0, second.0), (Choice::First, [1, 1], [1, 0]));
    assert_eq!((first.1, second.1), (2, 1));
}

#[test]
fn the_set_up_time_is_the_callers_with_the_tries_that_failed_and_counts_once() {
    let mut bench = Bench::new();
    let first = bench.call("1");
    bench.pass(Duration::from_millis(300));
    let sent = bench.receive(SERVERS[0], first.answer(503, "No", &[]));
    let second = sent[1].clone();
    bench.pass(Duration::from_millis(40));
    bench.receive(SERVERS[1], second.answer(180, "Ringing", &[]));
    bench.pass(Duration::from_millis(160));
    for _ in 0..2 {
        bench.receive(SERVERS[1], second.answer(200, "OK", OK));
        bench.pass(Duration::from_millis(10));
    }
    let options = request("OPTIONS", "sip:127.0.0.1:8060", "2", &["User-Agent: OPENSIPS_TTS_MRCP_CLIENT"]);
    let asked = bench.receive(CALLER, options);
    bench.receive(&asked[0].to.to_string(), asked[0].answer(200, "OK", &[]));
    let [first, second]: [Latency; 2] = each(&bench, |one| one.setup);
    assert_eq!((first.count, second.count, second.sum), (0, 1, Duration::from_millis(500)));
}

#[test]
fn what_a_set_has_counted_never_goes_back_and_its_destinations_go() {
    // Sets without a policy in the configuration are there as long as they have rows.
    let mut bench = Bench::with(|config| config.sets.clear());
    bench.load(set_19(&SERVERS));
    exhaust(&mut bench, "1");
    let before = set(&bench);
    assert_eq!((before.empty, before.exhausted, before.failovers), (0, 1, 1));
    bench.load(Sets::default());
    let emptied = set(&bench);
    assert_eq!((emptied.id, emptied.exhausted, emptied.failovers), (before.id, 1, 1));
    assert!(emptied.destinations.is_empty());
    bench.load(set_19(&SERVERS));
    assert_eq!(each(&bench, |one| one.selections), [0, 0]);
    exhaust(&mut bench, "2");
    assert_eq!((set(&bench).exhausted, set(&bench).failovers), (2, 2));
}

#[test]
fn a_set_gives_the_status_of_each_cause() {
    let mut bench = Bench::with(|config| config.sets[0].capacity.max_sessions = Some(1));
    assert_eq!((set(&bench).empty_reply, set(&bench).busy_reply), (480, 486));
    (1..=2).for_each(|id| drop(bench.answered_call(&id.to_string())));
    let full = bench.receive(CALLER, invite("3"));
    assert_eq!((full[1].line(), set(&bench).full), ("SIP/2.0 486 Busy Here".to_owned(), 1));
    bench.load(Sets::default());
    let empty = bench.receive(CALLER, invite("4"));
    assert!(empty[1].line().starts_with("SIP/2.0 480 ") && set(&bench).empty == 1);
}

/// Transactions by kind; together they are all.
fn kinds(snapshot: &Snapshot) -> [usize; TransactionKind::ALL.len()] {
    assert_eq!(snapshot.transaction_kinds.iter().sum::<usize>(), snapshot.transactions);
    snapshot.transaction_kinds
}

#[test]
fn transactions_are_counted_by_kind_until_they_are_gone() {
    let mut bench = Bench::new();
    let (first, ok) = bench.answered_call("1");
    assert_eq!(kinds(&bench.snapshot()), [1, 1, 0, 0]);
    let bye = bench.receive(CALLER, in_dialog("BYE", &ok, 2));
    assert_eq!(kinds(&bench.snapshot()), [1, 1, 1, 1]);
    bench.receive(&first.to.to_string(), bye[0].answer(200, "OK", &[]));
    bench.call("2");
    assert_eq!(kinds(&bench.snapshot())[..2], [2, 2]);
    bench.pass(seconds(100));
    assert_eq!(kinds(&bench.snapshot()), [0; 4]);
}

#[test]
fn what_is_sent_again_is_counted_whoever_made_it_so() {
    let mut bench = Bench::relaying();
    let resent = |bench: &Bench| bench.snapshot().resent;
    let call: Sent = bench.relayed_call("1");
    assert_eq!(resent(&bench), 0);
    // Timer A, at 500 and 1500 ms.
    assert_eq!((bench.pass(Duration::from_millis(1600)).len(), resent(&bench)), (2, 2));
    // The caller's comes again, and has its 100 again.
    assert_eq!((bench.receive(CALLER, relayed_invite("1")).len(), resent(&bench)), (1, 3));
    bench.receive(SERVERS[0], call.answer(486, "Busy", &[]));
    assert_eq!(resent(&bench), 3);
    // The answer comes again, and has its ACK again.
    assert_eq!((bench.receive(SERVERS[0], call.answer(486, "Busy", &[])).len(), resent(&bench)), (1, 4));
    // Timer G repeats ours until the caller's ACK.
    assert_eq!((bench.pass(Duration::from_millis(600)).len(), resent(&bench)), (1, 5));
}

#[test]
fn sessions_do_not_drift_as_destinations_go_and_come() {
    let mut bench = Bench::new();
    let calls = ["1", "2", "3", "4"].map(|id| bench.answered_call(id));
    let mut drift = |sets: Sets| {
        bench.load(sets);
        let snapshot = bench.snapshot();
        (snapshot.sessions, snapshot.drift)
    };
    assert_eq!(drift(set_19(&SERVERS[1..])), (4, 0));
    assert_eq!(drift(Sets::default()), (4, 0));
    assert_eq!(drift(set_19(&["10.9.9.9:7010", "10.9.9.8:7010"])), (4, 0), "others have their places");
    assert_eq!(drift(set_19(&SERVERS)), (4, 0));
    for (_, ok) in &calls {
        bench.receive(CALLER, in_dialog("BYE", ok, 2));
        assert_eq!(bench.snapshot().drift, 0);
    }
    assert_eq!(bench.snapshot().sessions, 0);
}
