//! Whether a node is ready, and what it waits for when it starts: the first answers to its probes, and a word of the other
//! nodes. Neither can hold it up for long: a dead server no longer than its probe may take, a lone node no longer than one is
//! held for alive that is not heard.

use std::time::{Duration, Instant};

use super::cluster::troubles;
use super::node::Shared;
use super::sets::Source;
use crate::config::Config;
use crate::edge::cluster::ClusterConfig;
use crate::edge::http::Readiness;
use crate::engine::dispatch::{Order, Probing};
use crate::engine::event::Drain;
use crate::engine::flow::Role;
use crate::engine::snapshot::{DestinationView, SetView, Snapshot};

/// The longest that other nodes are waited for.
const LONGEST: Duration = Duration::from_secs(3);

/// Until when what is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Awaited {
    probes: Instant,
    nodes: Instant,
}

impl Awaited {
    /// For a node that starts now.
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        let timeout = |probing: &Probing| probing.checks.iter().map(|check| check.timeout).max();
        let of_sets = config.sets.iter().flat_map(|set| {
            std::iter::once(&set.probing)
                .chain(set.probing_instead.iter().map(|(_, own)| own))
                .filter_map(|one| timeout(one))
        });
        // Who has no seeds looks for nobody.
        let seeded = config.cluster.as_ref().filter(|cluster| !cluster.seeds.is_empty());
        let nodes = seeded.map_or(Duration::ZERO, |ClusterConfig { dead_after, .. }| LONGEST.min(*dead_after));
        Awaited { probes: now + of_sets.max().unwrap_or_default(), nodes: now + nodes }
    }

    fn at(&self, now: Instant, is_alone: bool, sets: &[SetView]) -> Vec<String> {
        let unheard = (now < self.nodes && is_alone).then(|| "no other node of the cluster is heard yet".to_owned());
        let unprobed = sets.iter().filter(|_| now < self.probes).filter_map(unprobed);
        unheard.into_iter().chain(unprobed).collect()
    }
}

impl Shared {
    /// Whether the node can take calls, and what is wrong with it.
    pub(super) async fn is_ready(&self) -> Readiness {
        let of_sources = self.sources.iter().flat_map(Source::degraded);
        let degraded = of_sources.chain(self.status().degraded()).collect();
        let mut readiness = Readiness { reasons: Vec::new(), degraded };
        match self.handle.snapshot().await {
            Ok(snapshot) => {
                if snapshot.drain > Drain::No {
                    readiness.reasons.push("the node is draining".into());
                }
                readiness.reasons.extend(self.awaits(&snapshot));
                let unfit = snapshot.sets.iter().filter(|set| set.destinations.iter().all(|one| !one.fitness.is_fit()));
                let edge = self.handle.edge_counters();
                for (lines, fault) in [("records", edge.records.fault), ("events", edge.events.fault)] {
                    let told = fault.map(|fault| format!("{lines} can't be written: {}", fault.remedy()));
                    readiness.degraded.extend(told);
                }
                readiness.degraded.extend(self.cluster.iter().flat_map(|cluster| troubles(cluster, self.key_mark)));
                readiness.degraded.extend(unfit.map(|set| format!("set {} has no fit destination", set.id.0)));
            }
            Err(gone) => readiness.reasons.push(gone.to_string()),
        }
        let fixed = self.handle.listeners().iter().zip(self.addresses.held()).filter(|(one, _)| one.role == Role::Node);
        let (here, gone): (Vec<_>, Vec<_>) = fixed.partition(|(_, held)| *held);
        let broken = gone.iter().map(|(one, _)| format!("listener {}: this machine has no such address", one.name()));
        // With none of its own a node can ask no destination anything.
        match here.is_empty() {
            true => readiness.reasons.extend(broken),
            false => readiness.degraded.extend(broken),
        }
        readiness
    }

    /// What is still waited for, in words.
    fn awaits(&self, snapshot: &Snapshot) -> Vec<String> {
        let is_alone = self.cluster.as_ref().is_some_and(|cluster| cluster.peers().borrow().live.is_empty());
        self.awaited.at(Instant::now(), is_alone, &snapshot.sets)
    }
}

/// The set, if something of it is to be probed and neither this node nor another has done so.
fn unprobed(set: &SetView) -> Option<String> {
    let is_unknown = |one: &&DestinationView| {
        let by_another = one.votes.iter().any(|vote| vote.probed);
        one.probed && one.standing.order != Order::Maint && one.probes.iter().sum::<u64>() == 0 && !by_another
    };
    match set.destinations.iter().filter(is_unknown).count() {
        0 => None,
        count => Some(format!("set {}: {count} of its destinations are not probed yet", set.id.0)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::engine::dispatch::{Asked, DestinationId, Dispatch, Load, Policy, Row, Set, SetId, Sets};
    use crate::engine::{self, Now};

    struct Idle;

    impl Load for Idle {
        fn sessions(&self, _: DestinationId) -> u64 {
            0
        }

        fn asked(&self, _: DestinationId) -> Asked {
            Asked::default()
        }

        fn sessions_peak(&self, _: DestinationId) -> u64 {
            0
        }
    }

    fn config(more: &str) -> Config {
        let text = format!("[[listener]]\nbind = \"udp:127.0.0.1:0\"\n[[set]]\nid = 19\n{more}");
        Config::parse("t.toml", &text, Path::new(".")).expect("valid")
    }

    /// Two destinations that are fresh.
    fn sets(policies: Vec<Policy>) -> Vec<SetView> {
        let now = Now { mono: engine::Instant::ZERO, wall: std::time::SystemTime::UNIX_EPOCH };
        let mut dispatch = Dispatch::new(policies, 1);
        let rows = [1, 2].map(|port| Row::new(format!("sip:127.0.0.1:{port}"), ([127, 0, 0, 1], port).into()));
        dispatch.replace(Sets(vec![Set { id: SetId(19), rows: rows.into() }]), now);
        dispatch.view(&Idle, now)
    }

    #[test]
    fn first_probes_are_waited_for_but_no_longer_than_one_may_take() {
        let config = config("[set.probe]\ntimeout = \"2s\"\n");
        let mut sets = sets(config.sets.clone());
        let start = Instant::now();
        let awaited = Awaited::new(&config, start);
        let at = |millis, sets: &[SetView]| awaited.at(start + Duration::from_millis(millis), false, sets);
        assert_eq!(at(1999, &sets), ["set 19: 2 of its destinations are not probed yet"]);
        assert!(at(2000, &sets).is_empty());
        // An answer, good or bad; and an order to leave it alone.
        sets[0].destinations[0].probes[0] = 1;
        assert_eq!(at(0, &sets), ["set 19: 1 of its destinations are not probed yet"]);
        sets[0].destinations[1].standing.order = Order::Maint;
        assert!(at(0, &sets).is_empty());
    }

    #[test]
    fn who_probes_nobody_and_looks_for_nobody_waits_for_nothing() {
        let config = config("[cluster]\n");
        let start = Instant::now();
        assert!(Awaited::new(&config, start).at(start, true, &sets(config.sets.clone())).is_empty());
    }

    #[test]
    fn another_node_is_waited_for_until_it_would_be_held_for_dead() {
        let start = Instant::now();
        for (dead_after, bound) in [("1s", 1000), ("10s", 3000)] {
            let config = config(&format!("[cluster]\nseeds = [\"127.0.0.1:7947\"]\ndead_after = \"{dead_after}\"\n"));
            let awaited = Awaited::new(&config, start);
            let at = |millis, is_alone| awaited.at(start + Duration::from_millis(millis), is_alone, &[]).len();
            assert_eq!((at(bound - 1, true), at(bound, true), at(0, false)), (1, 0, 0), "{dead_after}");
        }
    }
}
