//! Who is there: each boot of each node by its heartbeats, which only it can raise. Time is an argument.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One boot of a node at its address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Member {
    pub(super) node: Arc<str>,
    pub(super) boot: u64,
    pub(super) address: SocketAddr,
}

/// What is known of the boots of all nodes but our own of now.
#[derive(Debug)]
pub(super) struct Members {
    own: Member,
    /// When our own boot began.
    since: Instant,
    dead_after: Duration,
    pulses: BTreeMap<Member, Pulse>,
}

#[derive(Clone, Copy, Debug)]
struct Pulse {
    heartbeat: u64,
    /// The first and the last rise; none before the first: what a third node tells of it may be old.
    rises: Option<(Instant, Instant)>,
}

impl Members {
    pub(super) fn new(own: Member, dead_after: Duration, now: Instant) -> Self {
        Members { own, since: now, dead_after, pulses: BTreeMap::new() }
    }

    /// Takes the heartbeat that the gossip has of a boot.
    pub(super) fn hear(&mut self, member: &Member, heartbeat: u64, now: Instant) {
        let Some(pulse) = self.pulses.get_mut(member) else {
            self.pulses.insert(member.clone(), Pulse { heartbeat, rises: None });
            return;
        };
        if heartbeat > pulse.heartbeat {
            pulse.heartbeat = heartbeat;
            let first = pulse.rises.map_or(now, |(first, _)| first);
            pulse.rises = Some((first, now));
        }
    }

    /// Forgets the boots that the gossip has forgotten.
    pub(super) fn retain(&mut self, known: impl Fn(&Member) -> bool) {
        self.pulses.retain(|member, _| known(member));
    }

    /// The nodes that are there, each by its newest boot, with the time of its last heartbeat.
    pub(super) fn live(&self, now: Instant) -> BTreeMap<&Arc<str>, (&Member, Instant)> {
        // In the order of boots, so that the newest stays.
        let peers = self.beating(now).filter(|(member, _)| member.node != self.own.node);
        peers.map(|(member, (_, last))| (&member.node, (member, last))).collect()
    }

    /// Node ids that two live nodes have, with the addresses of both. A node that has started again is none: the boot before
    /// stops when the new one begins.
    pub(super) fn duplicates(&self, now: Instant) -> BTreeMap<Arc<str>, Vec<SocketAddr>> {
        let own = (&self.own, (self.since, now));
        let mut all: Vec<_> = self.beating(now).chain([own]).collect();
        all.sort_by_key(|(member, _)| *member);
        let mut found: BTreeMap<Arc<str>, Vec<SocketAddr>> = BTreeMap::new();
        for pair in all.windows(2) {
            let ((older, (_, last)), (newer, (first, _))) = (pair[0], pair[1]);
            if older.node == newer.node && last > first + self.dead_after {
                let addresses = found.entry(older.node.clone()).or_default();
                addresses.extend(
                    [older.address, newer.address]
                        .into_iter()
                        .filter(|one| !addresses.contains(one))
                        .collect::<Vec<_>>(),
                );
            }
        }
        found
    }

    fn beating(&self, now: Instant) -> impl Iterator<Item = (&Member, (Instant, Instant))> {
        self.pulses.iter().filter_map(move |(member, pulse)| {
            pulse
                .rises
                .filter(|(_, last)| now.saturating_duration_since(*last) < self.dead_after)
                .map(|rises| (member, rises))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEAD_AFTER: Duration = Duration::from_secs(1);

    fn member(node: &str, boot: u64, port: u16) -> Member {
        Member { node: node.into(), boot, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    fn at(start: Instant, milliseconds: u64) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    fn live(members: &Members, now: Instant) -> Vec<(String, u64)> {
        members.live(now).values().map(|(member, _)| (member.node.to_string(), member.boot)).collect()
    }

    #[test]
    fn a_node_is_there_from_its_second_heartbeat_until_none_comes() {
        let start = Instant::now();
        let mut members = Members::new(member("a", 1, 1), DEAD_AFTER, start);
        let b = member("b", 1, 2);
        members.hear(&b, 40, start);
        members.hear(&b, 40, at(start, 10));
        members.hear(&b, 39, at(start, 20));
        assert!(live(&members, at(start, 20)).is_empty(), "what third nodes tell may be old");
        members.hear(&b, 41, at(start, 100));
        assert_eq!(live(&members, at(start, 1099)), [("b".to_owned(), 1)]);
        assert!(live(&members, at(start, 1100)).is_empty());
    }

    #[test]
    fn a_restart_replaces_the_boot_before_and_is_no_duplicate() {
        let start = Instant::now();
        let mut members = Members::new(member("a", 1, 1), DEAD_AFTER, start);
        let (old, new) = (member("b", 1, 2), member("b", 2, 2));
        for beat in 0..10 {
            members.hear(&old, beat, at(start, beat * 100));
        }
        for beat in 0..30 {
            // A third node still tells the last of the old boot's heartbeats.
            members.hear(&old, 10, at(start, 1000 + beat * 100));
            members.hear(&new, beat, at(start, 1000 + beat * 100));
            assert!(members.duplicates(at(start, 1000 + beat * 100)).is_empty());
        }
        assert_eq!(live(&members, at(start, 1200)), [("b".to_owned(), 2)]);
    }

    #[test]
    fn two_nodes_of_one_name_are_seen_by_a_third_and_by_both() {
        let start = Instant::now();
        let (one, two) = (member("b", 1, 2), member("b", 2, 3));
        let third = Members::new(member("a", 1, 1), DEAD_AFTER, start);
        let older = Members::new(one.clone(), DEAD_AFTER, start);
        let newer = Members::new(two.clone(), DEAD_AFTER, start);
        for mut members in [third, older, newer] {
            for beat in 0..20 {
                for twin in [&one, &two] {
                    if *twin != members.own {
                        members.hear(twin, beat, at(start, beat * 100));
                    }
                }
            }
            let now = at(start, 1900);
            let found = members.duplicates(now);
            assert_eq!(found.get("b"), Some(&vec![one.address, two.address]), "{:?}", members.own);
            assert!(members.duplicates(now + DEAD_AFTER).is_empty());
        }
    }

    #[test]
    fn a_node_is_no_peer_of_its_own() {
        let start = Instant::now();
        let mut members = Members::new(member("a", 2, 1), DEAD_AFTER, start);
        members.hear(&member("a", 1, 1), 1, start);
        members.hear(&member("a", 1, 1), 2, start);
        assert!(members.live(start).is_empty());
    }
}
