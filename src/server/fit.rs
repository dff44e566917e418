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
    // One that has no row here is worse as well: a table of this node's own that lacks them.
    let fit_here = |id: &SetId| sets.iter().find(|set| set.id == *id).map_or(0, fit);
    let empty = named.iter().filter(|set| fit_here(set) == 0);
    let better = |set: &SetId| {
        // What a later version tells may mean something else.
        let known = |peer: &PeerView| peer.view.report.unknown_format().is_none();
        let fit = |peer: &PeerView| peer.view.report.fit.get(&set.0).copied();
        let there = |peer: &PeerView| fit(peer).filter(|fit| *fit > 0 && known(peer));
        let peer = peers.iter().find_map(|peer| Some((&peer.node, there(peer)?)));
        peer.map(|(node, fit)| format!("set {} has no fit destination here, and {fit} at node {node}", set.0))
    };
    empty.filter_map(better).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;
    use crate::edge::cluster::report::{NodeReport, NodeView};

    #[test]
    fn a_set_without_a_row_here_is_worse_than_one_that_has_servers_elsewhere() {
        let peer = |fit| {
            let report = NodeReport { fit: [(19, fit)].into(), ..NodeReport::default() };
            let view = Arc::new(NodeView { report, ..NodeView::default() });
            let address = ([10, 0, 0, 12], 7946).into();
            PeerView { node: "b".into(), boot: 1, address, heard: Instant::now(), view, clock: None }
        };
        let named = BTreeSet::from([SetId(19)]);
        assert_eq!(
            worse_here(&[], &named, &[peer(2)]),
            ["set 19 has no fit destination here, and 2 at node b"],
            "an empty table of this node's own"
        );
        assert!(worse_here(&[], &named, &[peer(0)]).is_empty(), "nobody has any");
        assert!(worse_here(&[], &BTreeSet::new(), &[peer(2)]).is_empty(), "no call comes to it here");
    }
}
