//! What the outside may see of the engine: built on request, in time proportional to the destinations.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::engine::dispatch::{
    AgentView, Choice, DestinationId, EjectionCause, FallCause, Fitness, Health, Kept, Latency, Limits, Meaning,
    Observation, RowState, SetId, Standing, Why, Witness,
};
use crate::engine::event::{Drain, DropCause, Ending, NotOurs};
use crate::engine::flow::{ListenerId, Transport};
use crate::engine::transaction::TransactionKind;

/// The engine's state and counters at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Every loaded set, by number.
    pub sets: Vec<SetView>,
    /// Counters of the whole node.
    pub totals: Totals,
    /// Transactions in being, client and server; those of probes are not counted.
    pub transactions: usize,
    /// The same by kind, in the order of [`TransactionKind::ALL`].
    pub transaction_kinds: [usize; TransactionKind::ALL.len()],
    /// Messages that transactions have sent again.
    pub resent: u64,
    /// Live sessions, pending ones included.
    pub sessions: usize,
    /// Those of them whose caller came by an address that this node does not hold now: another node's to ping and to end.
    pub parked: usize,
    /// By how much the table of sessions and what the destinations have of it differ; 0, unless there is a fault of ours.
    pub drift: u64,
    /// Requests that wait for a final answer, or for the ACK to one; counted only while the node leaves.
    pub open: usize,
    /// How far the node is in leaving.
    pub drain: Drain,
}

/// One set.
#[derive(Clone, Debug)]
pub struct SetView {
    /// Its number.
    pub id: SetId,
    /// Its configured name; "" if none.
    pub name: String,
    /// The algorithm's name.
    pub algorithm: &'static str,
    /// The status that a request gets if nobody is fit, or if every try has failed.
    pub empty_reply: u16,
    /// The status that a call gets if nobody has room.
    pub busy_reply: u16,
    /// How old another node's view may be to have a say.
    pub view_ttl: Duration,
    /// Requests that found it without a fit destination.
    pub empty: u64,
    /// Calls that found nobody with room.
    pub full: u64,
    /// Tries that failed and were followed by another.
    pub failovers: u64,
    /// Requests whose every try failed.
    pub exhausted: u64,
    /// Whether so few were fit at the last request that its policy for that case held.
    pub panicking: bool,
    /// Its destinations, in the table's order.
    pub destinations: Vec<DestinationView>,
}

/// One destination.
#[derive(Clone, Debug)]
pub struct DestinationView {
    /// Its identity while it is loaded.
    pub id: DestinationId,
    /// The row's `id` column.
    pub row: i64,
    /// The URI as in the table.
    pub uri: String,
    /// Where it is; none if its name is not resolved.
    pub address: Option<SocketAddr>,
    /// The transport that the URI asks for.
    pub transport: Transport,
    /// The `socket` column: the listener that it leaves from; none: by route.
    pub socket: Option<ListenerId>,
    /// The `attrs` column.
    pub attrs: String,
    /// The `description` column.
    pub description: String,
    /// The weight that counts.
    pub weight: u32,
    /// The `priority` column.
    pub priority: i32,
    /// The `state` column.
    pub state: RowState,
    /// What the operator wants.
    pub standing: Standing,
    /// What this node holds of it.
    pub health: Health,
    /// What it tells the other nodes that it holds of it.
    pub told: Health,
    /// Since when.
    pub since: SystemTime,
    /// For how long, whatever the wall clock has done.
    pub lasted: Duration,
    /// The rule behind it.
    pub why: Why,
    /// The last failure that was seen, while it is not up.
    pub fall: Option<Observation>,
    /// Whether a new request may go there.
    pub fitness: Fitness,
    /// What it may be given now.
    pub limits: Limits,
    /// The same by what calls ask for: one for each class that its set names.
    pub classes: Vec<ClassView>,
    /// Whether it is probed.
    pub probed: bool,
    /// How much of its weight it gets now, in percent.
    pub share: u32,
    /// What its agent says; none: it has none.
    pub agent: Option<AgentView>,
    /// The penalty for flapping; 0 if the set does not damp.
    pub penalty: u32,
    /// What is worth keeping over a restart.
    pub kept: Kept,
    /// Latencies, in the order of [`Witness::ALL`].
    pub latencies: [Latency; Witness::ALL.len()],
    /// How often it has gone down.
    pub falls: u64,
    /// The same by what made it, in the order of [`FallCause::ALL`].
    pub falls_by: [u64; FallCause::ALL.len()],
    /// How often its callers' failures have ejected it.
    pub ejections: u64,
    /// The same by cause, in the order of [`EjectionCause::ALL`].
    pub ejections_by: [u64; EjectionCause::ALL.len()],
    /// Probes that have ended, in the order of [`Meaning::ALL`].
    pub probes: [u64; Meaning::ALL.len()],
    /// Initial INVITEs sent there.
    pub selections: u64,
    /// The same by how it was chosen, in the order of [`Choice::ALL`].
    pub choices: [u64; Choice::ALL.len()],
    /// Other requests outside a dialog sent there.
    pub other_selections: u64,
    /// Final and provisional responses from there, by class: index 0 is 1xx, 5 is 6xx; 100 is not counted.
    pub responses: [u64; 6],
    /// From an INVITE to its 2xx there, failed tries elsewhere included.
    pub setup: Latency,
    /// Live sessions now, pending ones included.
    pub sessions: u64,
    /// The most live sessions at any time.
    pub sessions_peak: u64,
    /// Live sessions by other nodes of the cluster, and those that a dead one has left behind.
    pub elsewhere: u64,
    /// What other nodes hold of it.
    pub votes: Vec<VoteView>,
}

/// What another node holds of a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoteView {
    /// The node.
    pub node: String,
    /// Its view.
    pub health: Health,
    /// For how long it is so.
    pub lasted: Duration,
    /// How old that node's word is.
    pub age: Duration,
    /// Whether its own probes have shown it.
    pub probed: bool,
    /// What the last failure there was, while its view is not `up`.
    pub cause: Option<String>,
    /// How long the destination takes to answer that node's calls; none if it has answered none.
    pub latency: Option<Duration>,
    /// Its live sessions there.
    pub sessions: u64,
}

/// A class of MRCP resources at one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassView {
    /// Its name.
    pub name: Arc<str>,
    /// How many sessions it may have; none: no limit.
    pub limit: Option<u32>,
    /// Live sessions that asked for a resource of it.
    pub sessions: u64,
}

/// The most sessions of a page.
pub const MOST_SESSIONS: usize = 1000;

/// Some of the sessions of a set or of a destination. Who is at which place changes as sessions end, so one page beside
/// another may miss some, or tell of some twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionPage {
    /// How many there are.
    pub total: u64,
    /// Those that were asked for.
    pub sessions: Vec<SessionView>,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// Its Call-ID, each byte that is no UTF-8 replaced; none until it is set up, and if it began elsewhere.
    pub call_id: Option<String>,
    /// The `destination` column of where it is.
    pub destination: String,
    /// Where that is.
    pub address: SocketAddr,
    /// How far it has come.
    pub state: SessionState,
    /// When its INVITE came; for one that began elsewhere, when this node first heard of it.
    pub began: SystemTime,
    /// When its 2xx passed; none if it has not, or not here.
    pub answered: Option<SystemTime>,
    /// When something of it was heard last.
    pub heard: SystemTime,
    /// The highest CSeq number of the caller's requests, as far as one has been seen.
    pub caller_cseq: Option<u32>,
    /// The same of the destination's.
    pub destination_cseq: Option<u32>,
    /// Why this node can't end it; none if it can.
    pub not_ours: Option<NotOurs>,
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// Its INVITE waits for an answer.
    Pending,
    /// It began on another node, or on this one before its restart.
    Adopted,
    /// It is set up.
    Confirmed,
}

impl SessionState {
    /// As in the interface.
    pub fn name(self) -> &'static str {
        match self {
            SessionState::Pending => "pending",
            SessionState::Adopted => "adopted",
            SessionState::Confirmed => "confirmed",
        }
    }
}

/// Counters that belong to no destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests received, retransmissions included.
    pub requests: u64,
    /// Responses received.
    pub responses: u64,
    /// Requests that were retransmissions of one we have.
    pub retransmissions: u64,
    /// Final responses that we made ourselves, by class: index 0 is 2xx, 4 is 6xx.
    pub replies: [u64; 5],
    /// 2xx to INVITEs whose caller had had another answer: their sessions were ended.
    pub late_2xx: u64,
    /// ICMP errors that ended a try of ours.
    pub icmp: u64,
    /// ICMP errors about nothing that waited for an answer of that peer.
    pub stray_icmp: u64,
    /// Sessions that are over and calls that never became one, in the order of [`Ending::ALL`].
    pub ended: [u64; Ending::ALL.len()],
    /// Pings within sessions that were sent.
    pub pings: u64,
    /// Those that were answered by an end that has the session.
    pub answered_pings: u64,
    /// Those that were answered 481 or 408, or not at all.
    pub failed_pings: u64,
    /// BYEs of ours that ended sessions.
    pub byes: u64,
    /// Those that were refused, not answered, or could not be sent.
    pub failed_byes: u64,
    /// Messages thrown away, by cause (`DropCause::ALL`).
    pub dropped: [u64; DropCause::ALL.len()],
}

impl Totals {
    /// Counts a final response that we made ourselves; a provisional one is not counted.
    pub fn note_reply(&mut self, status: u16) {
        let class = usize::from(status / 100).wrapping_sub(2);
        if let Some(count) = self.replies.get_mut(class) {
            *count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_counted_by_class_and_provisional_ones_not() {
        let mut totals = Totals::default();
        for status in [100, 180, 200, 404, 480, 603, 699, 700, 0] {
            totals.note_reply(status);
        }
        assert_eq!(totals.replies, [1, 0, 2, 0, 2]);
    }
}
