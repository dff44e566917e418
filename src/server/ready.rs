//! What a node waits for when it starts, before `/ready` says so: the first answers to its probes, and a word of the other
//! nodes. Neither can hold it up for long: a dead server no longer than its probe may take, a lone node no longer than one is
//! held for alive that is not heard.

use std::time::{Duration, Instant};

use super::node::Shared;
use crate::config::Config;
use crate::edge::cluster::ClusterConfig;
use crate::engine::dispatch::{Order, Probing};
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
    /// From now on.
    pub(super) fn new(config: &Config) -> Self {
        let timeout = |probing: &Probing| probing.checks.iter().map(|check| check.timeout).max();
        let of_sets = config.sets.iter().flat_map(|set| {
            std::iter::once(&set.probing)
                .chain(set.probing_instead.iter().map(|(_, own)| own))
                .filter_map(|one| timeout(one))
        });
        let now = Instant::now();
        // Who has no seeds looks for nobody.
        let seeded = config.cluster.as_ref().filter(|cluster| !cluster.seeds.is_empty());
        let nodes = seeded.map_or(Duration::ZERO, |ClusterConfig { dead_after, .. }| LONGEST.min(*dead_after));
        Awaited { probes: now + of_sets.max().unwrap_or_default(), nodes: now + nodes }
    }
}

impl Shared {
    /// What is still waited for, in words.
    pub(super) fn awaits(&self, snapshot: &Snapshot) -> Vec<String> {
        let now = Instant::now();
        let Awaited { probes, nodes } = self.awaited;
        let alone = self.cluster.as_ref().is_some_and(|cluster| cluster.peers().borrow().live.is_empty());
        let unheard = (now < nodes && alone).then(|| "no other node of the cluster is heard yet".to_owned());
        let unprobed = snapshot.sets.iter().filter(|_| now < probes).filter_map(unprobed);
        unheard.into_iter().chain(unprobed).collect()
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
