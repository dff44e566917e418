//! What other nodes hold of a destination, and what a set makes of that together with this node's own view. Each node tells
//! what it has seen itself and nothing else; who merges is each for itself, so nobody echoes another.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::health::Health;
use super::inherited::Inherited;
use super::peers::{PeerDestination, PeerOrder, PeerReport};
use super::{Asked, Destination, RowState, Standing};
use crate::engine::clock::Instant;
use crate::engine::sip::Resources;

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

/// One node's vote on a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// The node.
    pub node: Arc<str>,
    /// Its start.
    pub started: u64,
    /// When this was so.
    pub told: Instant,
    /// What it holds.
    pub health: Health,
    /// Since when.
    pub since: Instant,
    /// Whether calls have shown it, and not probes.
    pub by_calls: bool,
    /// Whether that node's own probes have shown what it is.
    pub probed: bool,
    /// What the last failure was, while it is not up: `traffic 503`, `options timeout`.
    pub cause: Option<String>,
    /// How long the destination takes to answer that node's calls.
    pub latency: Option<Duration>,
    /// Its live sessions there.
    pub sessions: Asked,
    /// The order that stands there.
    pub(super) order: Option<Box<PeerOrder>>,
}

impl Vote {
    pub(super) fn of(report: &PeerReport, node: &Arc<str>, told: &PeerDestination, now: Instant) -> Self {
        let ago = |time: Duration| Instant::after_start(now.since_start().saturating_sub(time));
        Vote {
            node: Arc::clone(node),
            started: report.started,
            told: ago(report.age),
            health: told.health,
            since: ago(told.lasted),
            by_calls: told.by_calls,
            probed: told.probed,
            cause: told.cause.clone(),
            latency: told.latency,
            sessions: told.sessions.clone(),
            order: told.order.clone().map(Box::new),
        }
    }

    /// Whether it is not too old to have a say.
    pub(super) fn is_fresh(&self, ttl: Duration, now: Instant) -> bool {
        now.since(self.told) <= ttl
    }

    /// Whether it is of one that probes the destination and holds it for down.
    pub(super) fn is_probed_down(&self) -> bool {
        self.probed && self.health == Health::Down
    }
}

/// What other nodes tell of a destination.
#[derive(Clone, Debug, Default)]
pub(super) struct Votes {
    pub(super) votes: Vec<Vote>,
    pub(super) inherited: Inherited,
    /// Whether one that probed it held it for down when the nodes were heard the time before the last.
    pub(super) left_down: bool,
    /// Whether they held it for down when that was settled last, and this node did not probe it.
    pub(super) down: bool,
    /// When the table last said something new of it, here or elsewhere: orders that were given before are over.
    pub(super) table_spoke: Option<SystemTime>,
}

/// When this node last saw a destination work.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Alive {
    /// By whatever.
    pub(super) at_all: Option<Instant>,
    /// By a call.
    pub(super) by_calls: Option<Instant>,
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
    /// The verdict, if it is not `own`. Views older than `ttl` abstain.
    fn outvote(
        &self,
        verdict: VerdictRule,
        own: Health,
        alive: Alive,
        ttl: Duration,
        now: Instant,
    ) -> Option<Outvoted> {
        let fresh = || self.votes.iter().filter(|vote| vote.is_fresh(ttl, now));
        let count = |health: &[Health]| fresh().filter(|vote| health.contains(&vote.health)).count();
        let up = [Health::Up, Health::Busy];
        match (verdict, own) {
            (VerdictRule::Own, _) | (VerdictRule::AnyDown, Health::Down) => None,
            (VerdictRule::AnyDown, _) => {
                // A probe that is answered says nothing of calls that are not.
                let alive = |vote: &Vote| if vote.by_calls { alive.by_calls } else { alive.at_all };
                let later = |vote: &Vote| alive(vote).is_none_or(|alive| vote.since > alive);
                fresh().any(|vote| vote.health == Health::Down && later(vote)).then_some(Outvoted::Down)
            }
            (VerdictRule::AnyUp, Health::Down) => (count(&up) > 0).then_some(Outvoted::Up),
            (VerdictRule::AnyUp, Health::Unknown) => {
                (count(&up) == 0 && count(&[Health::Down]) > 0).then_some(Outvoted::Down)
            }
            (VerdictRule::AnyUp, Health::Up | Health::Busy) => None,
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

    /// The newest order that stands where the table's word is this one already, if the word that stood here until now is older.
    pub(super) fn heard_under(&self, state: RowState) -> Option<&Standing> {
        let orders = self.votes.iter().filter_map(|vote| vote.order.as_deref());
        let under = orders.filter(|order| order.state == Some(state)).map(|order| &order.standing);
        under
            .filter(|standing| self.table_spoke.is_none_or(|at| standing.at > at))
            .max_by(|one, other| one.rank().cmp(&other.rank()))
    }

    /// Live sessions by other nodes, by each of them and those that one has left behind.
    fn sessions(&self, now: Instant) -> impl Iterator<Item = &Asked> {
        self.votes.iter().map(|vote| &vote.sessions).chain(self.inherited.sessions(now))
    }
}

impl Destination {
    /// The verdict of all nodes, where it is not what this one alone would say.
    pub(super) fn outvoted(&self, verdict: VerdictRule, own: Health, ttl: Duration, now: Instant) -> Option<Outvoted> {
        let votes = self.votes.as_ref()?;
        votes.outvote(verdict, own, self.condition.alive(), ttl, now)
    }

    /// Live sessions by other nodes.
    pub(super) fn elsewhere(&self, now: Instant) -> u64 {
        self.votes.as_ref().map_or(0, |votes| votes.sessions(now).map(Asked::total).sum())
    }

    /// Those of them that asked for one of these resources.
    pub(super) fn elsewhere_of(&self, resources: Resources, now: Instant) -> u64 {
        self.votes.as_ref().map_or(0, |votes| votes.sessions(now).map(|asked| asked.sessions_of(resources)).sum())
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
            since: at(*since),
            told: at(20),
            by_calls: true,
            probed: false,
            cause: None,
            latency: None,
            sessions: Asked::default(),
            order: None,
        };
        Votes { votes: health.iter().enumerate().map(vote).collect(), ..Votes::default() }
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    const TTL: Duration = Duration::from_secs(5);
    const UP: Health = Health::Up;
    const DOWN: Health = Health::Down;
    const UNKNOWN: Health = Health::Unknown;

    #[test]
    fn each_way_makes_its_verdict() {
        let of = |others: &[Health], verdict, own| {
            let others: Vec<_> = others.iter().map(|health| (*health, 10)).collect();
            votes(&others).outvote(verdict, own, Alive::default(), TTL, at(20))
        };
        for (others, own, [any_down, any_up, majority]) in [
            (&[][..], UP, [None, None, None]),
            (&[], DOWN, [None, None, None]),
            (&[UP], UP, [None, None, None]),
            (&[DOWN], UP, [Some(Outvoted::Down), None, None]),
            (&[UP], DOWN, [None, Some(Outvoted::Up), None]),
            (&[UNKNOWN], DOWN, [None, None, None]),
            (&[DOWN], UNKNOWN, [Some(Outvoted::Down), Some(Outvoted::Down), Some(Outvoted::Down)]),
            (&[DOWN, UP], UNKNOWN, [Some(Outvoted::Down), None, None]),
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
    fn a_success_of_our_own_outvotes_an_earlier_failure_of_its_kind_elsewhere() {
        let of = |by_calls, alive| {
            let mut votes = votes(&[(DOWN, 10)]);
            votes.votes[0].by_calls = by_calls;
            votes.outvote(VerdictRule::AnyDown, UP, alive, TTL, at(20))
        };
        let call = |seconds| Alive { at_all: Some(at(seconds)), by_calls: Some(at(seconds)) };
        let probe = |seconds| Alive { at_all: Some(at(seconds)), by_calls: None };
        assert_eq!([call(9), call(11)].map(|alive| of(true, alive)), [Some(Outvoted::Down), None]);
        assert_eq!([probe(9), probe(11)].map(|alive| of(false, alive)), [Some(Outvoted::Down), None]);
        assert_eq!(of(true, probe(11)), Some(Outvoted::Down), "calls fail though probes are answered");
    }

    #[test]
    fn an_old_view_abstains() {
        let votes = votes(&[(DOWN, 10)]);
        let of = |now| votes.outvote(VerdictRule::AnyDown, UP, Alive::default(), TTL, at(now));
        assert_eq!([20, 25, 26].map(of), [Some(Outvoted::Down), Some(Outvoted::Down), None]);
    }
}
