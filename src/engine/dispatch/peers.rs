//! What a node tells the others of what it has seen itself, and how it takes what they tell. Nothing is told twice: a node tells
//! nothing that it was told, but what nodes have left behind that are gone.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::health::{Health, Judgement};
use super::inherited::Holder;
use super::votes::Vote;
use super::{Asked, Destination, DestinationId, Dispatch, Load, OneMore, Order, RowState, SetId, Standing};
use crate::engine::clock::{Instant, Now};
use crate::engine::event::Output;
use crate::engine::sip::{Cookie, Resources};

/// A dead node's sessions count no longer than that where the set has no `max_duration`.
const LONGEST_INHERITANCE: Duration = Duration::from_secs(12 * 3600);

/// What one node tells of itself and of what it sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerReport {
    /// Its name.
    pub node: String,
    /// When it started, by its own clock, in seconds since 1970: another start has lost what this one had.
    pub started: u64,
    /// How old this is.
    pub age: Duration,
    /// What it holds of each destination that it has.
    pub destinations: Vec<PeerDestination>,
    /// For each of its sets how many destinations a call may go to.
    pub fit: Vec<(SetId, u32)>,
    /// Sessions that it has taken over since it told this the last time.
    pub taken: Vec<Taken>,
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
    /// Whether it is down since calls failed, and not since probes did.
    pub by_calls: bool,
    /// Whether its own probes have shown what it is.
    pub probed: bool,
    /// What the last failure was, while it is not up: `traffic 503`, `options timeout`.
    pub cause: Option<String>,
    /// How long it takes to answer a call; none if none was answered.
    pub latency: Option<Duration>,
    /// Live sessions by that node.
    pub sessions: Asked,
    /// Sessions of nodes that are gone, as far as that node knows.
    pub left: Vec<Left>,
    /// The order that stands there: what somebody has said by hand, or what the table has said since it was read first.
    pub order: Option<PeerOrder>,
}

/// An order, as another node has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerOrder {
    /// The order.
    pub standing: Standing,
    /// What the row's `state` column says there: a table that says something else has ended the order, or will. None if that
    /// node does not say.
    pub state: Option<RowState>,
}

/// Sessions that a node which is gone has left behind at a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The node's name.
    pub node: String,
    /// Its start.
    pub started: u64,
    /// How many nobody has heard of yet.
    pub sessions: Asked,
    /// For how much longer they count.
    pub lasts: Duration,
}

/// A session that was begun at another node, or before a start of this one, and that has come to the node which tells this: it
/// counts there from now on, or has ended there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Which: a hash that is the same on every node of the cluster.
    pub session: u128,
    /// The set that it counts for.
    pub set: SetId,
    /// The destination's key in it ([`Destination::key`]).
    pub destination: u32,
    /// What it asked for.
    pub resources: Resources,
    /// The mark of the node that it was begun at, as in its cookie.
    pub node: u16,
    /// How long ago that was.
    pub ago: Duration,
}

impl Dispatch {
    /// What this node tells the others, but for its name and what it has taken over.
    pub(crate) fn report(&self, load: &dyn Load, now: Now) -> PeerReport {
        let told = |state: &super::SetState| {
            let found = state.members.iter().filter_map(|&id| Some((id, self.destinations.get(id)?)));
            let found = found.filter(|(_, found)| found.row.is_resolved());
            found.map(|(id, found)| found.report(&state.policy, (id, load), now)).collect::<Vec<_>>()
        };
        let fit = |(&set, state): (&SetId, &super::SetState)| {
            let fit = |&&id: &&DestinationId| {
                let call = OneMore { id, asked: Resources::NONE, load };
                self.destinations.get(id).is_some_and(|found| found.fitness(&state.policy, call, now.mono).is_fit())
            };
            (set, state.members.iter().filter(fit).count() as u32)
        };
        PeerReport {
            destinations: self.sets.values().flat_map(told).collect(),
            fit: self.sets.iter().map(fit).collect(),
            ..PeerReport::default()
        }
    }

    /// Takes what the other nodes of the cluster tell: all of them. Who is not among them is gone: its views with it, and its
    /// sessions are inherited.
    pub(crate) fn accept(&mut self, reports: &[PeerReport], load: &dyn Load, now: Now, out: &mut Vec<Output>) {
        let there: BTreeSet<(&str, u64)> = reports.iter().map(|report| (&*report.node, report.started)).collect();
        self.peers = reports.iter().map(|report| Cookie::mark(&report.node)).collect();
        for found in self.destinations.values_mut() {
            let Some(votes) = &mut found.votes else { continue };
            let lasts = self.sets.get(&found.set).and_then(|state| state.policy.session.max_duration);
            votes.left_down = votes.votes.iter().any(Vote::is_probed_down);
            let until = now.mono + lasts.unwrap_or(LONGEST_INHERITANCE);
            for Vote { node, started, sessions, told, .. } in votes.votes.drain(..) {
                if !there.contains(&(&*node, started)) {
                    votes.inherited.leave((node, started), sessions, told, until);
                }
            }
            // One that was only not heard tells of its sessions itself; one that has started again knows of none.
            votes.inherited.retain(|node, started| there.contains(&(node, started)), now.mono);
        }
        for report in reports {
            let (node, mark): (Arc<str>, _) = (report.node.as_str().into(), Cookie::mark(&report.node));
            for told in &report.destinations {
                if let Some(id) = self.find_address(told.set, &told.uri, told.address)
                    && let Some(found) = self.destinations.get_mut(id)
                {
                    let votes = found.votes.get_or_insert_default();
                    let vote = Vote::of(report, &node, told, now.mono);
                    votes.inherited.told_again(mark, vote.told);
                    votes.votes.push(vote);
                    let is_there = |left: &&Left| there.contains(&(&*left.node, left.started));
                    told.left
                        .iter()
                        .filter(|left| !is_there(left))
                        .for_each(|left| votes.inherited.hear(left, now.mono));
                }
                if let Some(order) = &told.order {
                    self.hear_order(told, order, load, out);
                }
            }
        }
        self.settle_all(now, out);
    }

    /// An order that another node has. The newest one is obeyed, in whatever order they come.
    fn hear_order(&mut self, told: &PeerDestination, order: &PeerOrder, load: &dyn Load, out: &mut Vec<Output>) {
        // It is for every address of a name, and another node may know others.
        let id = self.find_address(told.set, &told.uri, told.address);
        let Some(id) = id.or_else(|| self.addresses_of(told.set, &told.uri).next()) else { return };
        let Some(found) = self.destinations.get_mut(id).filter(|found| found.is_overruled_by(order)) else { return };
        match found.standing.says_the_same(&order.standing) {
            true => found.standing.at = order.standing.at,
            // It is loaded: this was just asked.
            false => drop(self.obey(told.set, &told.uri, &order.standing, load, out)),
        }
        if !order.standing.is_by_hand() {
            for id in self.addresses_of(told.set, &told.uri).collect::<Vec<_>>() {
                self.destinations[id].votes.get_or_insert_default().table_spoke = Some(order.standing.at);
            }
        }
    }

    /// A session has been taken over by the node of that mark; none: by this one. It is none of those any more that were left
    /// behind by who had it before.
    pub(crate) fn pass(&mut self, taken: &Taken, to: Option<u16>, now: Now) {
        let Dispatch { destinations, by_key, peers, mark, holders, .. } = self;
        let to = to.unwrap_or(*mark);
        let before = holders.pass(taken, to);
        let id = by_key.get(&(taken.set, taken.destination)).filter(|_| before != Some(to));
        if let Some(votes) = id.and_then(|id| destinations.get_mut(*id)).and_then(|found| found.votes.as_mut()) {
            let from = before.unwrap_or(taken.node);
            let holder = match from {
                from if from == *mark => Holder::Here,
                from if peers.contains(&from) => Holder::Elsewhere,
                _ => Holder::Gone,
            };
            votes.inherited.wear_off(taken, from, holder, now.mono);
        }
    }

    fn find_address(&self, set: SetId, uri: &str, address: SocketAddr) -> Option<DestinationId> {
        let id = self.find(set, super::destination::key(set, uri, address))?;
        self.destinations.get(id).is_some_and(|found| found.row.uri == uri).then_some(id)
    }
}

impl Destination {
    fn report(&self, policy: &super::Policy, (id, load): (DestinationId, &dyn Load), now: Now) -> PeerDestination {
        let Destination { row, condition, standing, votes, .. } = self;
        let judgement = &policy.judgement;
        let health = self.health_to_tell(judgement, now.mono);
        let probed = standing.order != Order::Maint && condition.is_known();
        let fall = condition.last_fall().filter(|_| health != Health::Up);
        PeerDestination {
            set: self.set,
            uri: row.uri.clone(),
            address: row.address,
            health,
            lasted: now.mono.since(condition.turned),
            by_calls: condition.sits_out(now.mono),
            probed,
            cause: fall.map(|fall| format!("{} {}", fall.witness.name(), fall.outcome.name())),
            latency: Some(condition.call_latency(now.mono)).filter(|latency| *latency > Duration::ZERO),
            sessions: load.asked(id),
            left: votes.iter().flat_map(|votes| votes.inherited.told(now.mono)).collect(),
            order: self.has_been_told().then(|| PeerOrder { standing: standing.clone(), state: Some(row.state) }),
        }
    }

    /// Its health as the others are told it. Nobody looks at one that is out of service: what was seen of it before is no view.
    pub(super) fn health_to_tell(&self, judgement: &Judgement, now: Instant) -> Health {
        match self.standing.order {
            Order::Ready | Order::Drain => self.condition.health_to_tell(judgement, now),
            Order::Maint => Health::Unknown,
        }
    }

    /// Whether what stands here was said: by hand, or by the table since it was read first.
    pub(super) fn has_been_told(&self) -> bool {
        self.standing.is_by_hand() || self.votes.as_ref().is_some_and(|votes| votes.table_spoke.is_some())
    }

    /// Whether an order of another node's is newer than what stands here. One that stands beside another word of the table's has
    /// been ended by this one, or is newer than what this node has read.
    fn is_overruled_by(&self, order: &PeerOrder) -> bool {
        let PeerOrder { standing, state } = order;
        let is_of_table = *state == Some(self.row.state) && standing.order == self.row.state.order();
        (standing.is_by_hand() || is_of_table)
            && state.is_none_or(|state| state == self.row.state)
            && (!self.has_been_told() || standing.rank() > self.standing.rank())
    }

    /// The table's new word for it, which ends what stands. It is later than that, whatever the clocks say; or what another node
    /// has made of the same word, if it has read it before.
    pub(super) fn read(&mut self, now: SystemTime) -> Standing {
        let told = self.has_been_told().then(|| self.standing.at + Duration::from_millis(1));
        let at = told.map_or(now, |told| told.max(now));
        let votes = self.votes.get_or_insert_default();
        let heard = votes.heard_under(self.row.state).cloned();
        let standing = heard.unwrap_or_else(|| Standing::of_table(self.row.state.order(), at));
        votes.table_spoke = Some(at.min(standing.at));
        standing
    }
}
