//! A cluster on virtual time: nodes that gossip, die, start again and are cut from each other and from destinations, addresses
//! that move, operators whose clocks differ; and models that know what each node may make of it. One number, the seed, decides
//! everything.
//!
//! `TANDEM_SIM_SEED=7` runs one seed, `TANDEM_SIM_SEEDS=10000` that many.

mod call;
mod gossip;
mod orders;
mod server;
mod sessions;
mod views;
mod world;

use std::sync::Mutex;
use std::time::Duration;

use self::world::World;
use crate::sim::run_some_seeds;

/// No further seed is begun after this much time of all processors.
const BUDGET: Duration = Duration::from_secs(8);
/// The same of fifty nodes.
const BUDGET_OF_MANY: Duration = Duration::from_secs(5);

/// Nodes of most runs.
fn nodes(seed: u64) -> usize {
    [2, 3, 5][seed as usize % 3]
}

/// Nothing is left behind: no session, no transaction.
fn is_empty(world: &World) {
    for node in world.running() {
        let engine = world.nodes[node].engine.as_ref().expect("it runs");
        let snapshot = engine.snapshot(world.now(node));
        world.hold_true(snapshot.drift == 0, || format!("node {node} has a drift of {}", snapshot.drift));
        world.hold_true(snapshot.sessions == 0, || format!("node {node} has {} sessions", snapshot.sessions));
    }
}

#[test]
fn whatever_the_seed_each_node_makes_of_all_views_what_the_rule_says_and_all_agree_in_the_end() {
    let tally = Mutex::new(views::Tally::default());
    let ran = run_some_seeds("views of 2, 3 and 5 nodes", BUDGET, |seed| {
        let found = views::run(seed, nodes(seed));
        tally.lock().expect("no seed has failed").add(found);
    });
    let tally = tally.into_inner().expect("no seed has failed");
    println!("{tally:?}");
    assert!(ran < 20 || !tally.is_vain(), "{tally:?}");
}

#[test]
fn whatever_the_seed_fifty_nodes_agree() {
    run_some_seeds("views of 50 nodes", BUDGET_OF_MANY, |seed| {
        views::run(seed, 50);
    });
}

#[test]
fn whatever_the_seed_a_bad_minority_takes_nothing_out_under_majority() {
    run_some_seeds("a bad minority of 3, 4 and 7 nodes", BUDGET, |seed| {
        views::run_minority(seed, [3, 4, 7][seed as usize % 3]);
    });
}

#[test]
fn whatever_the_seed_each_node_counts_the_sessions_that_there_are_and_none_in_the_end() {
    let tally = Mutex::new(sessions::Tally::default());
    run_some_seeds("sessions of 2, 3 and 5 nodes", BUDGET, |seed| {
        let found = sessions::run(seed, nodes(seed));
        tally.lock().expect("no seed has failed").add(found);
    });
    println!("{:?}", tally.into_inner().expect("no seed has failed"));
}

#[test]
fn whatever_the_seed_a_limit_is_exceeded_by_what_the_others_give_out_at_once_and_no_more() {
    let tally = Mutex::new(sessions::Tally::default());
    run_some_seeds("a limit of 2, 3 and 5 nodes", BUDGET, |seed| {
        let found = sessions::run_limit(seed, nodes(seed));
        tally.lock().expect("no seed has failed").add(found);
    });
    println!("{:?}", tally.into_inner().expect("no seed has failed"));
}

#[test]
fn whatever_the_seed_all_nodes_obey_the_newest_order() {
    run_some_seeds("orders of 2, 3 and 5 nodes", BUDGET, |seed| orders::run(seed, nodes(seed)));
}
