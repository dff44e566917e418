//! What other nodes tell, and what this one makes of it: votes, sessions, orders.

use std::time::{Duration, SystemTime};

use tandem::engine::Input;
use tandem::engine::dispatch::{
    Asked, Fitness, Health, Order, OrderTerms, PeerDestination, PeerOrder, PeerReport, RowState, SetId, Standing,
    VerdictRule,
};
use tandem::engine::sip::Resources;

use crate::harness::{Bench, CALLER, SERVERS, in_dialog, invite, lines, seconds, set_19};

fn bench(verdict: VerdictRule) -> Bench {
    Bench::with(|config| {
        config.sets[0].verdict = verdict;
        config.sets[0].judgement.observe.consecutive_failures = 1;
    })
}

/// What a node says of the first destination.
fn says(node: &str, health: Health, lasted: Duration) -> PeerReport {
    let destination = PeerDestination {
        set: SetId(19),
        uri: format!("sip:{}", SERVERS[0]),
        address: SERVERS[0].parse().expect("an address"),
        health,
        lasted,
        by_calls: false,
        probed: false,
        cause: None,
        latency: None,
        sessions: Asked::default(),
        left: Vec::new(),
        order: None,
    };
    PeerReport { node: node.into(), started: 1, destinations: vec![destination], ..PeerReport::default() }
}

fn tell(bench: &mut Bench, reports: &[PeerReport]) {
    bench.handle(Input::Peers(reports));
}

fn fitness(bench: &Bench) -> Fitness {
    bench.snapshot().sets[0].destinations[0].fitness
}

#[test]
fn under_any_down_the_failure_of_another_holds_until_that_one_or_a_later_success_says_otherwise() {
    let mut bench = bench(VerdictRule::AnyDown);
    bench.pass(seconds(100));
    tell(&mut bench, &[says("b", Health::Down, seconds(1))]);
    assert_eq!(fitness(&bench), Fitness::Outvoted);
    let went: Vec<_> = (0..4).map(|call| bench.call(&call.to_string()).to.to_string()).collect();
    assert_eq!(went, [SERVERS[1]; 4]);
    tell(&mut bench, &[says("b", Health::Unknown, seconds(0))]);
    assert_eq!(fitness(&bench), Fitness::Fit, "who does not know abstains");
    let (_, _) = bench.answered_call("here");
    tell(&mut bench, &[says("b", Health::Down, seconds(50))]);
    let own = bench.snapshot().sets[0].destinations[0].health;
    assert_eq!((own, fitness(&bench)), (Health::Up, Fitness::Fit), "it has worked here since");
    tell(&mut bench, &[]);
    bench.pass(seconds(10));
    tell(&mut bench, &[says("b", Health::Down, seconds(1))]);
    assert_eq!(fitness(&bench), Fitness::Outvoted);
    tell(&mut bench, &[]);
    assert_eq!(fitness(&bench), Fitness::Fit, "a node that is gone has no say");
}

#[test]
fn a_bad_minority_takes_no_healthy_destination_out_under_majority() {
    let mut bench = bench(VerdictRule::Majority);
    let two = [says("b", Health::Up, seconds(1)), says("c", Health::Down, seconds(1))];
    tell(&mut bench, &two);
    assert_eq!(fitness(&bench), Fitness::Fit);
    let three =
        [two[0].clone(), two[1].clone(), says("d", Health::Down, seconds(1)), says("e", Health::Down, seconds(1))];
    tell(&mut bench, &three);
    assert_eq!(fitness(&bench), Fitness::Outvoted);
}

#[test]
fn what_this_node_finds_dead_is_used_all_the_same_where_the_others_say_so() {
    for (verdict, fit) in [(VerdictRule::AnyUp, true), (VerdictRule::Majority, true), (VerdictRule::AnyDown, false)] {
        let mut bench = bench(verdict);
        let call = bench.call("1");
        assert_eq!(call.to.to_string(), SERVERS[0]);
        bench.receive(SERVERS[0], call.answer(500, "Broken", &[]));
        assert_eq!(bench.snapshot().sets[0].destinations[0].health, Health::Down);
        tell(&mut bench, &[says("b", Health::Up, seconds(1)), says("c", Health::Up, seconds(1))]);
        assert_eq!(fitness(&bench) == Fitness::Fit, fit, "{verdict:?}");
    }
}

#[test]
fn own_asks_nobody() {
    let mut bench = bench(VerdictRule::Own);
    tell(&mut bench, &[says("b", Health::Down, seconds(1)), says("c", Health::Down, seconds(1))]);
    assert_eq!(fitness(&bench), Fitness::Fit);
}

#[test]
fn a_dead_nodes_sessions_count_until_they_come_here_or_end() {
    let other = |bench: &mut Bench, node: &str| {
        let calls: Vec<_> = (0..3).map(|call| bench.answered_call(&format!("{node}{call}"))).collect();
        calls
            .into_iter()
            .filter(|(invite, _)| invite.to.to_string() == SERVERS[0])
            .map(|(_, ok)| ok)
            .collect::<Vec<_>>()
    };
    let mut first = Bench::with(|config| config.node = "b".into());
    let theirs = other(&mut first, "x");
    assert_eq!(theirs.len(), 2);
    let mut bench = Bench::with(|config| {
        config.sets[0].capacity.max_sessions = Some(3);
        config.sets[0].session.max_duration = Some(seconds(600));
    });
    let elsewhere = |bench: &Bench| bench.snapshot().sets[0].destinations[0].elsewhere;
    let mut report = says("b", Health::Up, seconds(1));
    report.destinations[0].sessions = [(Resources::NONE, 3)].into_iter().collect();
    tell(&mut bench, &[report]);
    assert_eq!((elsewhere(&bench), fitness(&bench)), (3, Fitness::Full));
    tell(&mut bench, &[]);
    assert_eq!((elsewhere(&bench), fitness(&bench)), (3, Fitness::Full), "nobody has ended them");
    let again = PeerReport { started: 2, ..says("b", Health::Up, seconds(1)) };
    tell(&mut bench, &[again]);
    assert_eq!(elsewhere(&bench), 3, "who has started again knows of none of them");
    // One goes on here, and counts here; another ends by its BYE.
    let info = bench.receive(CALLER, in_dialog("INFO", &theirs[0], 2))[0].clone();
    let sessions = bench.snapshot().sets[0].destinations[0].sessions;
    assert_eq!((elsewhere(&bench), sessions, fitness(&bench)), (2, 1, Fitness::Full));
    bench.receive(SERVERS[0], info.answer(200, "OK", &[]));
    bench.receive(CALLER, in_dialog("BYE", &theirs[1], 2));
    assert_eq!((elsewhere(&bench), fitness(&bench)), (1, Fitness::Fit));
    bench.pass(seconds(601));
    assert_eq!(elsewhere(&bench), 0, "at the latest at max_duration");
}

#[test]
fn what_the_table_says_is_told_and_an_order_that_another_node_has_under_the_new_word_stands() {
    let start = SystemTime::UNIX_EPOCH + seconds(1_800_000_000);
    let word = |state: RowState| {
        let mut sets = set_19(&SERVERS);
        sets.0[0].rows[0].state = state;
        sets
    };
    let standing = |bench: &Bench| bench.snapshot().sets[0].destinations[0].standing.clone();
    let [mut one, mut other] = [bench(VerdictRule::AnyDown), bench(VerdictRule::AnyDown)];
    one.pass(seconds(100));
    one.load(word(RowState::Probing));
    let uri = format!("sip:{}", SERVERS[0]);
    // By a clock that is behind: later than the table's word all the same.
    one.handle(Input::Order { set: SetId(19), uri: &uri, standing: &drain(start), terms: &OrderTerms::NONE });
    assert!(standing(&one).at > start + seconds(100));
    let told = PeerReport { node: "b".into(), started: 1, ..one.report() };
    tell(&mut other, std::slice::from_ref(&told));
    assert_eq!(standing(&other).order, Order::Ready, "it has not read that word yet");
    other.pass(seconds(200));
    other.load(word(RowState::Probing));
    assert_eq!(standing(&other), standing(&one), "though it reads it later than the order was given");
    // An older order of one that has not read a word ends by it.
    let [mut one, mut other] = [bench(VerdictRule::AnyDown), bench(VerdictRule::AnyDown)];
    other.handle(Input::Order { set: SetId(19), uri: &uri, standing: &drain(start), terms: &OrderTerms::NONE });
    one.pass(seconds(10));
    one.load(word(RowState::Inactive));
    one.load(word(RowState::Active));
    let told = PeerReport { node: "b".into(), started: 1, ..one.report() };
    tell(&mut other, &[told]);
    assert_eq!((standing(&other).order, standing(&other).is_by_hand()), (Order::Ready, false));
}

fn drain(at: SystemTime) -> Standing {
    let (by, reason) = ("ann".to_owned(), "disk".to_owned());
    Standing { order: Order::Drain, by, reason, at, deadline: None }
}

#[test]
fn the_newest_order_wins_and_the_tables_word_ends_older_ones() {
    let mut bench = bench(VerdictRule::AnyDown);
    let start = SystemTime::UNIX_EPOCH + seconds(1_800_000_000);
    let order = |bench: &Bench| bench.snapshot().sets[0].destinations[0].standing.order;
    let with = |standing: Standing| {
        let mut report = says("b", Health::Up, seconds(1));
        report.destinations[0].order = Some(PeerOrder { standing, state: Some(RowState::Active) });
        [report]
    };
    tell(&mut bench, &with(drain(start)));
    assert_eq!(order(&bench), Order::Drain);
    let uri = format!("sip:{}", SERVERS[0]);
    let ready = Standing { order: Order::Ready, ..drain(SystemTime::UNIX_EPOCH) };
    bench.handle(Input::Order { set: SetId(19), uri: &uri, standing: &ready, terms: &OrderTerms::NONE });
    tell(&mut bench, &with(drain(start)));
    assert_eq!(order(&bench), Order::Ready, "given later, whatever this node's clock says");
    // The table takes it out and puts it back: what people said before is over.
    bench.pass(seconds(100));
    let mut sets = set_19(&SERVERS);
    sets.0[0].rows[0].state = RowState::Inactive;
    bench.load(sets);
    bench.load(set_19(&SERVERS));
    tell(&mut bench, &with(drain(start + seconds(50))));
    assert_eq!(order(&bench), Order::Ready);
    tell(&mut bench, &with(drain(start + seconds(150))));
    assert_eq!(order(&bench), Order::Drain);
    assert!(lines(&bench.receive(CALLER, invite("1")))[1].contains(SERVERS[1]));
}
