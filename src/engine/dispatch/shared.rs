//! Who probes what, where the nodes of a cluster share it. Those that are there have an order for each destination, and a node
//! probes it unless enough that come before it tell that they know it by their probes. So nothing is agreed on, who takes a
//! destination over knows it before another lets go, and one that is never known (its node does not probe it, or can't) is
//! probed by the next.

use super::health::{Health, Others};
use super::votes::{Outvoted, Vote};
use super::{Destination, DestinationId, Dispatch};
use crate::engine::clock::{Instant, Now};
use crate::engine::event::Output;

impl Dispatch {
    /// Settles for each destination whether this node probes it.
    pub(super) fn settle_all(&mut self, now: Now, out: &mut Vec<Output>) {
        let shared = self.destinations.iter().filter(|(_, found)| found.condition.probing().probers().is_some());
        for id in shared.map(|(id, _)| id).collect::<Vec<_>>() {
            self.settle(id, now, out);
        }
    }

    /// Settles it for one of them: words grow too old also while no new one comes.
    pub(crate) fn settle(&mut self, id: DestinationId, now: Now, out: &mut Vec<Output>) {
        let Dispatch { destinations, sets, unknown, node, fallen, .. } = self;
        let Some(found) = destinations.get_mut(id) else { return };
        let Some(probers) = found.condition.probing().probers() else { return };
        let (policy, key) = (sets.get(&found.set).map_or(&**unknown, |state| &state.policy), found.key());
        let Some(votes) = &found.votes else { return };
        // Sooner than its word has no say any more, so that somebody has taken over by then what it holds.
        let is_fresh = |vote: &Vote| vote.is_fresh(policy.view_ttl * 3 / 4, now.mono);
        let known = || votes.votes.iter().filter(|vote| vote.probed && is_fresh(vote));
        let before = known().filter(|vote| precedes(&vote.node, node, key)).count();
        let left_down = votes.left_down || votes.votes.iter().any(|vote| vote.is_probed_down() && !is_fresh(vote));
        let others = match (known().next(), left_down) {
            (Some(_), _) => Others::Know,
            (None, true) => Others::LeftDown,
            (None, false) => Others::Nothing,
        };
        let here = before < probers;
        found.condition.settle(here, others, &policy.judgement, now);
        // What the others find is what becomes of its sessions here, and of its share of calls.
        let own = found.condition.health(&policy.judgement, now.mono);
        let down = !here && found.outvoted(policy.verdict, own, policy.view_ttl, now.mono) == Some(Outvoted::Down);
        let before = found.votes.as_mut().is_some_and(|votes| std::mem::replace(&mut votes.down, down));
        match (before, down) {
            (false, true) => fallen.push(id),
            (true, false) if !here => found.condition.come_back(now.mono),
            (true, false) | (false, false) | (true, true) => {}
        }
        self.note(id, None, now, out);
    }

    /// Whether another node says that the destination is down, where nodes share the probes.
    pub(crate) fn is_doubted(&self, id: DestinationId, now: Instant) -> bool {
        let Some(found) = self.destinations.get(id) else { return false };
        let ttl = self.policy(found.set).view_ttl;
        let says_down = |vote: &Vote| vote.health == Health::Down && vote.is_fresh(ttl, now);
        found.condition.probing().probers().is_some()
            && found.votes.as_ref().is_some_and(|votes| votes.votes.iter().any(says_down))
    }
}

impl Destination {
    /// Whether it is down: as this node finds, or as those do who probe it.
    pub(crate) fn is_down(&self) -> bool {
        self.condition.told == Health::Down || self.votes.as_ref().is_some_and(|votes| votes.down)
    }
}

/// Whether the one node comes before the other for the destination of that key: rendezvous hashing, so that who goes leaves
/// everybody else where they are.
fn precedes(one: &str, other: &str, key: u32) -> bool {
    (hash(one, key), one) > (hash(other, key), other)
}

/// FNV-1a over the node's name and the destination's key, mixed at the end (MurmurHash3's finalizer). The same on every node, so
/// it may never change between versions that run side by side.
fn hash(node: &str, key: u32) -> u64 {
    let key = key.to_be_bytes();
    let bytes = [node.as_bytes(), &[0], &key].into_iter().flatten();
    let fnv = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325, fnv);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_same_for_ever() {
        let all = [hash("a", 1), hash("b", 1), hash("a", 2), hash("", 0)];
        assert_eq!(
            all,
            [
                17_118_124_558_621_830_894,
                2_319_911_666_915_888_963,
                3_684_803_775_083_269_331,
                17_981_696_736_247_539_396
            ]
        );
    }

    #[test]
    fn who_goes_leaves_everybody_else_where_they_are_and_shares_are_about_even() {
        let nodes: Vec<_> = (0..5).map(|number| format!("node-{number}")).collect();
        let first = |nodes: &[String], key| {
            let before = |one: &&String| !nodes.iter().any(|other| precedes(other, one, key));
            nodes.iter().find(before).expect("one comes first").clone()
        };
        let mut shares = std::collections::BTreeMap::new();
        for key in 0..5000_u32 {
            // Keys are hashes.
            let key = key.wrapping_mul(0x9e37_79b9);
            let all = first(&nodes, key);
            let without = first(&nodes[1..], key);
            assert!(all == nodes[0] || all == without, "{key}");
            *shares.entry(all).or_insert(0) += 1;
        }
        assert!(shares.len() == 5 && shares.values().all(|share| (900..1100).contains(share)), "{shares:?}");
    }
}
