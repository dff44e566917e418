//! What the surface tells of sets and destinations: the engine's snapshot in words, as JSON. Commands read the same types.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::edge::moment::Moment;
use crate::engine::Snapshot;
use crate::engine::dispatch::{AgentView, Fitness, Observation, Standing, Wish, Witness};
use crate::engine::event::Ending;
use crate::engine::snapshot::{ClassView, DestinationView, SetView, VoteView};

/// All sets: `GET /sets`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetsReport {
    /// The node that tells this.
    pub node: String,
    /// Every set that is configured or loaded, by number.
    pub sets: Vec<SetReport>,
    /// The sessions of all of them, and of destinations that are no longer loaded.
    pub sessions: NodeSessions,
}

/// The sessions of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSessions {
    /// Live ones, pending ones included.
    pub live: u64,
    /// Those of them whose caller came by an address that this node does not hold now.
    pub parked: u64,
    /// Pings within sessions that were sent.
    pub pings: u64,
    /// Those that were answered 481 or 408, or not at all.
    pub failed_pings: u64,
    /// BYEs of the node's own that ended sessions.
    pub byes: u64,
    /// Those that were refused, not answered, or could not be sent.
    pub failed_byes: u64,
    /// How sessions and calls have ended, without endings that have not been.
    pub ended: BTreeMap<String, u64>,
}

/// One set: `GET /sets/{set}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetReport {
    /// Its number.
    pub set: u32,
    /// Its configured name; "" if none.
    pub name: String,
    /// How it chooses.
    pub algorithm: String,
    /// How many of its destinations may get a new request.
    pub fit: usize,
    /// Whether so few were fit at the last request that its policy for that case held.
    pub panicking: bool,
    /// Requests that found it without a fit destination.
    pub empty: u64,
    /// Tries that failed and were followed by another.
    pub failovers: u64,
    /// Requests whose every try failed.
    pub exhausted: u64,
    /// Its destinations in the table's order; a name is one for each of its addresses. In a stream's `changes` they stand apart.
    #[serde(default)]
    pub destinations: Vec<DestinationReport>,
}

/// One address of a destination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DestinationReport {
    /// The `destination` column.
    pub uri: String,
    /// Where it is; none if its name is not resolved.
    pub address: Option<SocketAddr>,
    /// The `description` column.
    pub description: String,
    /// The weight that counts.
    pub weight: u32,
    /// The `priority` column.
    pub priority: i32,
    /// What the operator wants.
    pub order: OrderReport,
    /// `up`, `down`, `busy` or `unknown`.
    pub health: String,
    /// Since when.
    pub since: Moment,
    /// The rule behind it.
    pub why: String,
    /// Whether a new request may go there.
    pub fit: bool,
    /// The same in words: if not, why not.
    pub fitness: String,
    /// Whether it is probed; if not, only calls tell of it.
    pub probed: bool,
    /// How much of its weight it gets now.
    pub share_percent: u32,
    /// What its agent says; none: it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentReport>,
    /// The penalty for flapping.
    pub penalty: u32,
    /// Live sessions, pending ones included.
    pub sessions: u64,
    /// The most at any time.
    pub sessions_peak: u64,
    /// Live sessions by other nodes of the cluster, and those that a dead one has left behind.
    #[serde(default)]
    pub sessions_elsewhere: u64,
    /// What other nodes hold of it.
    #[serde(default)]
    pub votes: Vec<VoteReport>,
    /// How many it may have; none: no limit.
    #[serde(default)]
    pub max_sessions: Option<u32>,
    /// The same by what they ask for, one for each class that the set names.
    #[serde(default)]
    pub resources: Vec<ClassReport>,
    /// Initial INVITEs sent there.
    pub selections: u64,
    /// How often it has gone down.
    pub falls: u64,
    /// How often its callers' failures have ejected it.
    pub ejections: u64,
    /// How long it takes, by `options`, `tcp`, `http`, `traffic`; without those that have seen nothing.
    pub latency: BTreeMap<String, LatencyReport>,
}

/// What another node holds of a destination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VoteReport {
    /// The node.
    pub node: String,
    /// Its view: `up`, `down`, `busy` or `unknown`.
    pub health: String,
    /// For how long it is so, in seconds.
    pub seconds: f64,
    /// How old its word is, in seconds: one that is older than the set's `view_ttl` has no say.
    pub age: f64,
    /// Whether its own probes have shown it.
    #[serde(default)]
    pub probed: bool,
    /// What the last failure there was, while it is not `up`: `traffic 503`, `options timeout`.
    pub cause: Option<String>,
    /// How long the destination takes to answer that node's calls, in seconds.
    pub latency: Option<f64>,
    /// Its live sessions there.
    pub sessions: u64,
}

impl VoteReport {
    fn of(vote: &VoteView) -> Self {
        let VoteView { node, health, lasted, age, probed, cause, latency, sessions } = vote;
        VoteReport {
            node: node.clone(),
            health: health.name().to_owned(),
            seconds: lasted.as_secs_f64(),
            age: age.as_secs_f64(),
            probed: *probed,
            cause: cause.clone(),
            latency: latency.map(|latency| latency.as_secs_f64()),
            sessions: *sessions,
        }
    }
}

/// The sessions of one class of MRCP resources.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassReport {
    /// The class's name.
    pub class: String,
    /// Live sessions that asked for one of it.
    pub sessions: u64,
    /// How many there may be; none: no limit.
    pub max_sessions: Option<u32>,
}

/// What a destination's agent says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentReport {
    /// Whether anything that it said holds; if not, the rest is as if it had said nothing.
    pub speaks: bool,
    /// How much of its weight it wants.
    pub share_percent: u32,
    /// How many sessions it wants; none: as many as its limits allow.
    pub max_sessions: Option<u32>,
    /// Why it wants no new session: `drain`, `maint`, `down`, `fail` or `stopped`; none: it takes them.
    pub refuses: Option<String>,
    /// What it said of that; "" if nothing.
    pub reason: String,
    /// The start of the last line that was understood; "" before the first.
    pub line: String,
    /// When that came.
    pub at: Option<Moment>,
    /// Answers that were understood.
    pub answers: u64,
    /// Questions without such an answer.
    pub silences: u64,
    /// Words that are none of an agent's.
    pub unknown_words: u64,
}

/// An order with its giver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderReport {
    /// `ready`, `drain` or `maint`.
    pub order: String,
    /// Tells it apart from other orders: an order that expects it is refused if another stands.
    #[serde(default)]
    pub version: String,
    /// Who gave it; `table` for the `state` column.
    pub by: String,
    /// When.
    pub at: Moment,
    /// Why; "" if nobody said.
    pub reason: String,
    /// Until when a destination that drains should be empty.
    pub deadline: Option<Moment>,
    /// Whether the sessions that it still has then are ended.
    #[serde(default)]
    pub then_end: bool,
}

/// Latencies of one witness.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyReport {
    /// The moving mean.
    pub mean_ms: f64,
    /// Samples.
    pub count: u64,
}

/// Everything of one destination: `GET /sets/{set}/destination?uri=...`, and the answer to an order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DestinationStory {
    /// The node that tells this.
    pub node: String,
    /// The set's number.
    pub set: u32,
    /// The set's configured name; "" if none.
    pub name: String,
    /// The `destination` column.
    pub uri: String,
    /// Each of its addresses.
    pub addresses: Vec<AddressStory>,
    /// In the answer to an order: why a restart would not know of it. None if it is on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unkept: Option<String>,
}

/// Everything of one address of a destination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AddressStory {
    /// What it is held for.
    #[serde(flatten)]
    pub destination: DestinationReport,
    /// What was seen of it last, oldest first.
    pub observations: Vec<ObservationReport>,
}

/// One thing that was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObservationReport {
    /// When it ended.
    pub at: Moment,
    /// By what: `options`, `tcp`, `http`, `traffic`.
    pub witness: String,
    /// How it ended: a status, `connected`, `timeout`, `refused`.
    pub outcome: String,
    /// What was made of it: `alive`, `busy`, `fall`, `neutral`.
    pub meaning: String,
    /// From the first packet to the end.
    pub latency_ms: f64,
    /// The node that saw it.
    pub node: String,
}

impl NodeSessions {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let Snapshot { totals, sessions, parked, .. } = snapshot;
        let ended = Ending::ALL.iter().zip(totals.ended).filter(|(_, count)| *count > 0);
        NodeSessions {
            live: *sessions as u64,
            parked: *parked as u64,
            pings: totals.pings,
            failed_pings: totals.failed_pings,
            byes: totals.byes,
            failed_byes: totals.failed_byes,
            ended: ended.map(|(ending, count)| (ending.name().to_owned(), count)).collect(),
        }
    }
}

impl SetReport {
    pub(super) fn of(set: &SetView) -> Self {
        SetReport {
            set: set.id.0,
            name: set.name.clone(),
            algorithm: set.algorithm.to_owned(),
            fit: set.destinations.iter().filter(|one| one.fitness.is_fit()).count(),
            panicking: set.panicking,
            empty: set.empty,
            failovers: set.failovers,
            exhausted: set.exhausted,
            destinations: set.destinations.iter().map(DestinationReport::of).collect(),
        }
    }
}

impl DestinationReport {
    pub(super) fn of(one: &DestinationView) -> Self {
        let latencies = Witness::ALL.iter().zip(&one.latencies);
        let latency = |mean, count| LatencyReport { mean_ms: millis(mean), count };
        DestinationReport {
            uri: one.uri.clone(),
            address: one.address,
            description: one.description.clone(),
            weight: one.weight,
            priority: one.priority,
            order: OrderReport::of(&one.standing),
            health: one.health.name().to_owned(),
            since: Moment(one.since),
            why: why(one),
            fit: one.fitness.is_fit(),
            fitness: fitness(one),
            probed: one.probed,
            share_percent: one.share,
            agent: one.agent.as_ref().map(AgentReport::of),
            penalty: one.penalty,
            sessions: one.sessions,
            sessions_peak: one.sessions_peak,
            sessions_elsewhere: one.elsewhere,
            votes: one.votes.iter().map(VoteReport::of).collect(),
            max_sessions: one.limits.sessions,
            resources: one.classes.iter().map(ClassReport::of).collect(),
            selections: one.selections,
            falls: one.falls,
            ejections: one.ejections,
            latency: latencies
                .filter_map(|(witness, all)| Some((witness.name().to_owned(), latency(all.mean?, all.count))))
                .collect(),
        }
    }
}

impl ClassReport {
    fn of(class: &ClassView) -> Self {
        ClassReport { class: class.name.to_string(), sessions: class.sessions, max_sessions: class.limit }
    }
}

/// The rule behind a health, with what was seen last of a failure, and why one that is fit gets nothing.
fn why(one: &DestinationView) -> String {
    let DestinationView { why, fall, fitness, weight, .. } = one;
    match (fall, fitness.is_fit(), weight) {
        (Some(fall), ..) => format!("{why}; last: {} ({})", fall.outcome.name(), fall.witness.name()),
        (None, true, 0) => format!("{why}; weight 0 gets nothing while others have more"),
        (None, ..) => why.to_string(),
    }
}

/// With the agent's reason, if it is the agent that says no.
fn fitness(one: &DestinationView) -> String {
    let wish = one.agent.as_ref().and_then(|agent| agent.wish.as_ref());
    match (one.fitness, wish) {
        (Fitness::Agent(_), Some(Wish { reason, .. })) if !reason.is_empty() => format!("{} ({reason})", one.fitness),
        (fitness, _) => fitness.to_string(),
    }
}

impl AgentReport {
    fn of(agent: &AgentView) -> Self {
        let AgentView { wish, line, at, answers, silences, unknown_words } = agent.clone();
        let speaks = wish.is_some();
        let wish = wish.unwrap_or_default();
        AgentReport {
            speaks,
            share_percent: wish.share,
            max_sessions: wish.sessions,
            refuses: wish.refusal().map(|word| word.name().to_owned()),
            reason: wish.reason,
            line,
            at: at.map(Moment),
            answers,
            silences,
            unknown_words,
        }
    }
}

impl OrderReport {
    fn of(standing: &Standing) -> Self {
        let (then_end, version) = (standing.ends_sessions(), standing.version());
        let Standing { order, by, reason, at, deadline } = standing.clone();
        let deadline = deadline.map(|deadline| Moment(deadline.at));
        OrderReport { order: order.name().to_owned(), version, by, at: Moment(at), reason, deadline, then_end }
    }
}

impl DestinationStory {
    /// The story of the set's destination with that URI; none if it has none.
    pub(super) fn of(node: &str, set: &SetView, uri: &str, history: &[(SocketAddr, Vec<Observation>)]) -> Option<Self> {
        let story = |one: &DestinationView| {
            let seen = history.iter().find(|(address, _)| Some(*address) == one.address);
            let seen = seen.map_or(&[][..], |(_, seen)| seen);
            let observations = seen.iter().map(|seen| ObservationReport::of(node, seen)).collect();
            AddressStory { destination: DestinationReport::of(one), observations }
        };
        let addresses: Vec<_> = set.destinations.iter().filter(|one| one.uri == uri).map(story).collect();
        (!addresses.is_empty()).then(|| DestinationStory {
            node: node.to_owned(),
            set: set.id.0,
            name: set.name.clone(),
            uri: uri.to_owned(),
            addresses,
            unkept: None,
        })
    }
}

impl ObservationReport {
    fn of(node: &str, seen: &Observation) -> Self {
        ObservationReport {
            at: Moment(seen.at),
            witness: seen.witness.name().to_owned(),
            outcome: seen.outcome.name(),
            meaning: seen.meaning.name().to_owned(),
            latency_ms: millis(seen.latency),
            node: node.to_owned(),
        }
    }
}

/// To the microsecond.
pub(super) fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::metrics::tests::destination;
    use crate::engine::dispatch::{Health, Meaning, Outcome};

    #[test]
    fn why_says_what_was_seen_and_why_one_that_is_well_gets_nothing() {
        let well = DestinationView { fitness: Fitness::Fit, weight: 1, ..destination("sip:10.0.0.1:7010") };
        let seen = Observation {
            at: std::time::SystemTime::UNIX_EPOCH,
            witness: Witness::Traffic,
            outcome: Outcome::Refused,
            meaning: Meaning::Fall,
            latency: Duration::ZERO,
        };
        let down = DestinationView { health: Health::Down, fall: Some(seen), weight: 0, ..well.clone() };
        let idle = DestinationView { weight: 0, ..well.clone() };
        let told = [well, idle, down].map(|one| DestinationReport::of(&one).why);
        let expected = [
            "it answers",
            "it answers; weight 0 gets nothing while others have more",
            "it answers; last: refused (traffic)",
        ];
        assert_eq!(told, expected);
    }
}
