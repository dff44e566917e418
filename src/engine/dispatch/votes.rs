//! What other nodes hold of a destination, and what a set makes of that together with this node's own view. Each node tells
//! what it has seen itself and nothing else; who merges is each for itself, so nobody echoes another.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::health::Health;
use super::{Destination, DestinationId, Dispatch, Load, Order, SetId, Standing};
use crate::engine::clock::{Instant, Now};
use crate::engine::event::Output;

/// A dead node's sessions count no longer than that where the set has no `max_duration`.
const LONGEST_INHERITANCE: Duration = Duration::from_secs(12 * 3600);

/// How a set makes one verdict of what the nodes hold of a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum VerdictRule {
    /// This node's own view.
    Own,
    /// Down if one says so, unless this node has seen it work since.
    #[default]
    AnyDown,
    /// Up if one says so.
    AnyUp,
    /// What most of those say that know; at a tie this node's own view.
    Majority,
}

impl VerdictRule {
    /// Every way.
    pub const ALL: [VerdictRule; 4] =
        [VerdictRule::Own, VerdictRule::AnyDown, VerdictRule::AnyUp, VerdictRule::Majority];

    /// As in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            VerdictRule::Own => "own",
            VerdictRule::AnyDown => "any_down",
            VerdictRule::AnyUp => "any_up",
            VerdictRule::Majority => "majority",
        }
    }
}

/// What one node tells of itself and of what it sees, as of now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerReport {
    /// Its name.
    pub node: String,
    /// When it started, by its own clock, in seconds since 1970: another start has lost what this one had.
    pub started: u64,
    /// What it holds of each destination that it has.
    pub destinations: Vec<PeerDestination>,
}

/// What a node holds of one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerDestination {
    /// The set.
    pub set: SetId,
    /// The `destination` column.
    pub uri: String,
    /// The address.
    pub address: SocketAddr,
    /// Its health, as that node alone sees it.
    pub health: Health,
    /// For how long it is so.
    pub lasted: Duration,
    /// Live sessions by that node.
    pub sessions: u64,
    /// The order that stands there, if somebody gave it by hand.
    pub order: Option<Standing>,
}

/// One node's vote on a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// The node.
    pub node: Arc<str>,
    /// Its start.
    pub started: u64,
    /// What it holds.
    pub health: Health,
    /// Since when.
    pub since: Instant,
    /// Its live sessions there.
    pub sessions: u64,
}

/// What other nodes tell of a destination.
#[derive(Clone, Debug, Default)]
pub(super) struct Votes {
    pub(super) votes: Vec<Vote>,
    /// Sessions of nodes that are gone: nobody has ended them, so they count until somebody here hears of them, or they must
    /// be over.
    inherited: Vec<Inherited>,
    /// When the table last said something new of it: orders that were given before are over.
    pub(super) table_spoke: Option<SystemTime>,
}

#[derive(Clone, Debug)]
struct Inherited {
    node: Arc<str>,
    started: u64,
    sessions: u64,
    until: Instant,
}

/// What the verdict is, where it is another than this node's own view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outvoted {
    /// Down.
    Down,
    /// Up.
    Up,
}

impl Votes {
    /// The verdict, if it is not `own`. `alive` is when this node last saw it work.
    fn outvote(&self, verdict: VerdictRule, own: Health, alive: Option<Instant>) -> Option<Outvoted> {
        let count = |health: &[Health]| self.votes.iter().filter(|vote| health.contains(&vote.health)).count();
        let up = [Health::Up, Health::Busy];
        match (verdict, own) {
            (VerdictRule::Own, _) | (VerdictRule::AnyDown, Health::Down) => None,
            (VerdictRule::AnyDown, _) => {
                let later = |vote: &&Vote| vote.health == Health::Down && alive.is_none_or(|alive| vote.since > alive);
                self.votes.iter().find(later).map(|_| Outvoted::Down)
            }
            (VerdictRule::AnyUp, Health::Down) => (count(&up) > 0).then_some(Outvoted::Up),
            (VerdictRule::AnyUp, _) => None,
            (VerdictRule::Majority, _) => {
                let ups = count(&up) + usize::from(up.contains(&own));
                let downs = count(&[Health::Down]) + usize::from(own == Health::Down);
                match own {
                    Health::Down => (ups > downs).then_some(Outvoted::Up),
                    Health::Up | Health::Busy | Health::Unknown => (downs > ups).then_some(Outvoted::Down),
                }
            }
        }
    }

    /// Live sessions by other nodes, those included that a node has left behind.
    pub(super) fn sessions(&self, now: Instant) -> u64 {
        let left: u64 = self.inherited.iter().filter(|one| one.until > now).map(|one| one.sessions).sum();
        self.votes.iter().map(|vote| vote.sessions).sum::<u64>() + left
    }

    /// One of those that were left behind has come here, or has ended.
    pub(super) fn wear_off(&mut self) {
        if let Some(one) = self.inherited.iter_mut().find(|one| one.sessions > 0) {
            one.sessions -= 1;
        }
    }
}

impl Destination {
    /// The verdict of all nodes, where it is not what this one alone would say.
    pub(super) fn outvoted(&self, verdict: VerdictRule, own: Health) -> Option<Outvoted> {
        let votes = self.votes.as_ref()?;
        votes.outvote(verdict, own, self.condition.alive)
    }

    /// Live sessions by other nodes.
    pub(super) fn elsewhere(&self, now: Instant) -> u64 {
        self.votes.as_ref().map_or(0, |votes| votes.sessions(now))
    }
}

impl Dispatch {
    /// Takes what the other nodes of the cluster tell: all of them, as of now. Who is not among them is gone: its views with
    /// it, and its sessions are inherited.
    pub(crate) fn accept(&mut self, reports: &[PeerReport], load: &dyn Load, now: Now, out: &mut Vec<Output>) {
        let there: BTreeSet<(&str, u64)> = reports.iter().map(|report| (&*report.node, report.started)).collect();
        for found in self.destinations.values_mut() {
            let Some(votes) = &mut found.votes else { continue };
            let lasts = self.sets.get(&found.set).and_then(|state| state.policy.session.max_duration);
            let until = now.mono + lasts.unwrap_or(LONGEST_INHERITANCE);
            let gone =
                votes.votes.drain(..).filter(|vote| vote.sessions > 0 && !there.contains(&(&*vote.node, vote.started)));
            let left = gone.map(|Vote { node, started, sessions, .. }| Inherited { node, started, sessions, until });
            votes.inherited.extend(left);
            // One that was only not heard tells of its sessions itself; one that has started again knows of none.
            let stays = |one: &Inherited| one.sessions > 0 && one.until > now.mono;
            votes.inherited.retain(|one| stays(one) && !there.contains(&(&*one.node, one.started)));
        }
        let mut orders = Vec::new();
        for report in reports {
            let node: Arc<str> = report.node.as_str().into();
            for told in &report.destinations {
                let Some(id) = self.find_address(told.set, &told.uri, told.address) else { continue };
                let Some(found) = self.destinations.get_mut(id) else { continue };
                let lasted = now.mono.since_start().saturating_sub(told.lasted);
                let vote = Vote {
                    node: Arc::clone(&node),
                    started: report.started,
                    health: told.health,
                    since: Instant::after_start(lasted),
                    sessions: told.sessions,
                };
                found.votes.get_or_insert_default().votes.push(vote);
                if let Some(order) = told.order.as_ref().filter(|order| found.is_newer(order)) {
                    match found.standing.says_the_same(order) {
                        true => found.standing.at = order.at,
                        false => orders.push((id, order)),
                    }
                }
            }
        }
        for (id, order) in orders {
            // Of several the newest stands, in whatever order they come.
            let Some(found) = self.destinations.get(id).filter(|found| found.is_newer(order)) else { continue };
            let (set, uri) = (found.set, found.row.uri.clone());
            // It is loaded: this was just asked.
            let _ = self.obey(set, &uri, order, load, out);
        }
    }

    /// One of the sessions that a node has left behind at a destination has come here, or has ended.
    pub(crate) fn wear_off(&mut self, id: DestinationId) {
        if let Some(votes) = self.destinations.get_mut(id).and_then(|found| found.votes.as_mut()) {
            votes.wear_off();
        }
    }

    fn find_address(&self, set: SetId, uri: &str, address: SocketAddr) -> Option<DestinationId> {
        let id = self.find(set, super::destination::key(set, uri, address))?;
        self.destinations.get(id).is_some_and(|found| found.row.uri == uri).then_some(id)
    }
}

impl Destination {
    /// Whether an order of another node's is newer than what stands here. The table's word counts from when it changed.
    fn is_newer(&self, order: &Standing) -> bool {
        let table_spoke = self.votes.as_ref().and_then(|votes| votes.table_spoke);
        let known = Order::ALL.contains(&order.order) && order.is_by_hand();
        known
            && table_spoke.is_none_or(|at| order.at > at)
            && (!self.standing.is_by_hand() || (order.at, &order.by) > (self.standing.at, &self.standing.by))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn votes(health: &[(Health, u64)]) -> Votes {
        let vote = |(node, (health, since)): (usize, &(Health, u64))| Vote {
            node: node.to_string().into(),
            started: 1,
            health: *health,
            since: Instant::ZERO + Duration::from_secs(*since),
            sessions: 1,
        };
        Votes { votes: health.iter().enumerate().map(vote).collect(), ..Votes::default() }
    }

    const UP: Health = Health::Up;
    const DOWN: Health = Health::Down;
    const UNKNOWN: Health = Health::Unknown;

    #[test]
    fn each_way_makes_its_verdict() {
        let of = |others: &[Health], verdict, own| {
            let others: Vec<_> = others.iter().map(|health| (*health, 10)).collect();
            votes(&others).outvote(verdict, own, None)
        };
        for (others, own, [any_down, any_up, majority]) in [
            (&[][..], UP, [None, None, None]),
            (&[], DOWN, [None, None, None]),
            (&[UP], UP, [None, None, None]),
            (&[DOWN], UP, [Some(Outvoted::Down), None, None]),
            (&[UP], DOWN, [None, Some(Outvoted::Up), None]),
            (&[UNKNOWN], DOWN, [None, None, None]),
            (&[DOWN], UNKNOWN, [Some(Outvoted::Down), None, Some(Outvoted::Down)]),
            (&[DOWN, DOWN], UP, [Some(Outvoted::Down), None, Some(Outvoted::Down)]),
            (&[DOWN, UP], UP, [Some(Outvoted::Down), None, None]),
            (&[UP, UP], DOWN, [None, Some(Outvoted::Up), Some(Outvoted::Up)]),
            (&[UP, Health::Busy, UNKNOWN], DOWN, [None, Some(Outvoted::Up), Some(Outvoted::Up)]),
        ] {
            let told = [VerdictRule::AnyDown, VerdictRule::AnyUp, VerdictRule::Majority]
                .map(|verdict| of(others, verdict, own));
            assert_eq!(told, [any_down, any_up, majority], "{others:?} and {own:?}");
            assert_eq!(of(others, VerdictRule::Own, own), None);
        }
    }

    #[test]
    fn a_success_of_our_own_outvotes_an_earlier_failure_elsewhere() {
        let votes = votes(&[(DOWN, 10)]);
        let at = |seconds| Some(Instant::ZERO + Duration::from_secs(seconds));
        assert_eq!(votes.outvote(VerdictRule::AnyDown, UP, at(9)), Some(Outvoted::Down));
        assert_eq!(votes.outvote(VerdictRule::AnyDown, UP, at(11)), None);
    }
}
