//! Whether another node would serve calls better: `/fit`, by which keepalived lowers a node's priority.

use std::collections::BTreeSet;

use super::node::Shared;
use crate::edge::cluster::PeerView;
use crate::engine::dispatch::SetId;
use crate::engine::route::{Action, Rule};
use crate::engine::snapshot::SetView;

impl Shared {
    /// The sets that have nobody fit here and somebody elsewhere, each in words. None that are down everywhere: an address
    /// that moves would mend nothing.
    pub(super) async fn better_elsewhere(&self) -> Result<Vec<String>, String> {
        let Some(cluster) = &self.cluster else { return Ok(Vec::new()) };
        let snapshot = self.handle.snapshot().await.map_err(|gone| gone.to_string())?;
        let peers = cluster.peers();
        Ok(worse_here(&snapshot.sets, &named(&self.config.route.rules), &peers.borrow().live))
    }
}

/// How many destinations of a set may get a new call.
fn fit(set: &SetView) -> usize {
    set.destinations.iter().filter(|one| one.fitness.is_fit()).count()
}

/// The sets that calls can come to.
fn named(rules: &[Rule]) -> BTreeSet<SetId> {
    let set = |rule: &Rule| match &rule.action {
        Action::Set(target) => Some(target.set),
        Action::Reply(_) | Action::Relay => None,
    };
    rules.iter().filter_map(set).collect()
}

fn worse_here(sets: &[SetView], named: &BTreeSet<SetId>, peers: &[PeerView]) -> Vec<String> {
    let empty = sets.iter().filter(|set| named.contains(&set.id) && !set.destinations.is_empty() && fit(set) == 0);
    let better = |set: &SetView| {
        // What a later version tells may mean something else.
        let known = |peer: &PeerView| peer.view.report.unknown_format().is_none();
        let fit = |peer: &PeerView| peer.view.report.fit.get(&set.id.0).copied();
        let there = |peer: &PeerView| fit(peer).filter(|fit| *fit > 0 && known(peer));
        let peer = peers.iter().find_map(|peer| Some((&peer.node, there(peer)?)));
        peer.map(|(node, fit)| format!("set {} has no fit destination here, and {fit} at node {node}", set.id.0))
    };
    empty.filter_map(better).collect()
}
