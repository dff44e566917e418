//! A destination: one row of a set, and the identity that outlives a reload.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use slotmap::new_key_type;

use super::Policy;
use super::agent::{Heard, Wish};
use super::capacity::{ClassLimit, Limits, OneMore, Pace};
use super::fitness::Fitness;
use super::health::{Condition, EjectionCause, FallCause, Health, Latency, Meaning};
use super::order::{Order, Standing};
use super::turn::Choice;
use super::votes::{Outvoted, Votes};
use crate::engine::clock::{Instant, Now};
use crate::engine::flow::{ListenerId, Transport};

/// A set's number, as in the table's `setid`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetId(pub u32);

new_key_type! {
    /// A destination while it is loaded; kept over reloads as long as set, URI and address stay.
    pub struct DestinationId;
}

/// The `state` column (OpenSIPS coding: 0, 1, 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RowState {
    /// 0: in service.
    #[default]
    Active,
    /// 1: switched off by an operator.
    Inactive,
    /// 2: failed, being probed.
    Probing,
}

/// One row as the store hands it over: checked, resolved, not yet known to `dispatch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The row's `id` column, for messages to people.
    pub row: i64,
    /// The `destination` column as it stands.
    pub uri: String,
    /// Where the URI's host, port and transport lead; [`Row::UNRESOLVED`] if nobody knows.
    pub address: SocketAddr,
    /// The transport that the URI asks for.
    pub transport: Transport,
    /// The `socket` column: the listener that it leaves from; none: by route.
    pub socket: Option<ListenerId>,
    /// The `weight` column; 0 takes no calls by weighted algorithms.
    pub weight: u32,
    /// The `priority` column.
    pub priority: i32,
    /// The `state` column.
    pub state: RowState,
    /// The `attrs` column as it stands.
    pub attrs: String,
    /// The `description` column as it stands.
    pub description: String,
}

impl Row {
    /// The `address` of a row whose URI holds a name that has not been resolved: nobody is there, nothing is sent there.
    pub const UNRESOLVED: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

    /// A row of number 1 whose other columns have the table's defaults: UDP, weight 1, active, and nothing said of the rest.
    pub fn new(uri: impl Into<String>, address: SocketAddr) -> Self {
        Row {
            row: 1,
            uri: uri.into(),
            address,
            transport: Transport::Udp,
            socket: None,
            weight: 1,
            priority: 0,
            state: RowState::Active,
            attrs: String::new(),
            description: String::new(),
        }
    }

    /// Whether it has an address.
    pub fn is_resolved(&self) -> bool {
        self.address != Row::UNRESOLVED
    }
}

/// One set as the store hands it over, rows in the order of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// The set's number.
    pub id: SetId,
    /// Its rows.
    pub rows: Vec<Row>,
}

/// All sets of one load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sets(pub Vec<Set>);

/// A loaded destination.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The set that it stands in.
    pub set: SetId,
    /// What was loaded.
    pub row: Row,
    /// What the operator wants; `Row::state` says so to begin with.
    pub standing: Standing,
    /// Where it takes MRCP, as its last SDP said.
    pub mrcp_port: Option<u16>,
    /// Whether the answers to its probes name that port, so that the next one will name another.
    pub(super) probes_name_port: bool,
    pub(crate) condition: Condition,
    /// What its agent has said; none: it has none.
    pub(crate) heard: Option<Box<Heard>>,
    /// What other nodes tell of it; none until one has.
    pub(super) votes: Option<Votes>,
    pub(super) counts: Counts,
    /// What it may be given, whatever its agent wants.
    pub limits: Limits,
    /// The same by what calls ask for: one for each class that its set names.
    pub classes: Vec<ClassLimit>,
    pub(super) pace: Pace,
    key: u32,
}

/// What was counted of a destination while it is loaded.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Initial INVITEs, in the order of [`Choice::ALL`].
    pub(super) choices: [u64; Choice::ALL.len()],
    pub(super) other_selections: u64,
    pub(super) responses: [u64; 6],
    pub(super) falls: [u64; FallCause::ALL.len()],
    pub(super) ejections: [u64; EjectionCause::ALL.len()],
    /// From INVITE to 2xx.
    pub(super) setup: Latency,
    pub(super) probes: [u64; Meaning::ALL.len()],
}

impl Destination {
    pub(super) fn new(set: SetId, row: Row, policy: &Policy, now: Now) -> Self {
        Destination {
            set,
            standing: Standing::of_table(row.state.order(), now.wall),
            mrcp_port: None,
            probes_name_port: false,
            condition: Condition::new(Arc::clone(policy.probing_of(&row.uri)), now),
            heard: policy.agent_of(&row.uri).map(|agent| Box::new(Heard::new(Arc::clone(agent)))),
            limits: policy.capacity.limits(&row.attrs),
            classes: policy.capacity.class_limits(&row.attrs),
            pace: Pace::default(),
            votes: None,
            counts: Counts::default(),
            key: key(set, &row.uri, row.address),
            row,
        }
    }

    /// A hash of set, URI and address: the destination's name in a cookie. The same on every node and after every start,
    /// so it may never change between versions that run side by side.
    pub fn key(&self) -> u32 {
        self.key
    }

    /// Takes a new load of the same row; whether its state is another. An order that was given by hand stays until then.
    pub(super) fn reload(&mut self, row: Row, policy: &Policy) -> bool {
        self.limits = policy.capacity.limits(&row.attrs);
        self.classes = policy.capacity.class_limits(&row.attrs);
        std::mem::replace(&mut self.row, row).state != self.row.state
    }

    /// Whether a new request may go there, and if not, why not; one that only tries it must take the trial first.
    pub(super) fn fitness(&self, policy: &Policy, call: OneMore<'_>, now: Instant) -> Fitness {
        let judgement = &policy.judgement;
        if self.standing.order != Order::Ready {
            return Fitness::Ordered(self.standing.order);
        }
        if !self.row.is_resolved() {
            return Fitness::Unresolved;
        }
        if let Some(word) = self.wish(now).and_then(Wish::refusal) {
            return Fitness::Agent(word);
        }
        let (own, trial) = self.condition.health_and_trial(judgement, now);
        match (own, trial, self.outvoted(policy.verdict, own, policy.view_ttl, now)) {
            (_, _, Some(Outvoted::Down)) => Fitness::Outvoted,
            (_, _, Some(Outvoted::Up)) if self.has_room(judgement, call, now) => Fitness::Fit,
            (_, _, Some(Outvoted::Up)) => Fitness::Full,
            (Health::Unknown, true, None) => Fitness::OnTrial,
            (Health::Up | Health::Unknown, _, None) if self.has_room(judgement, call, now) => Fitness::Fit,
            (Health::Up | Health::Unknown, _, None) => Fitness::Full,
            (health @ (Health::Down | Health::Busy), _, None) => Fitness::Unwell(health),
        }
    }
}

impl RowState {
    /// Each of them, in the order of their numbers.
    pub const ALL: [RowState; 3] = [RowState::Active, RowState::Inactive, RowState::Probing];

    /// What the state says of the operator's will: a failed destination is wanted all the same.
    pub(super) fn order(self) -> Order {
        match self {
            RowState::Active | RowState::Probing => Order::Ready,
            RowState::Inactive => Order::Maint,
        }
    }
}

/// FNV-1a over what makes a destination's identity, mixed at the end (MurmurHash3's finalizer).
pub(super) fn key(set: SetId, uri: &str, address: SocketAddr) -> u32 {
    let port = address.port().to_be_bytes();
    let (v4, v6);
    let ip: &[u8] = match address.ip() {
        IpAddr::V4(ip) => {
            v4 = ip.octets();
            &v4
        }
        IpAddr::V6(ip) => {
            v6 = ip.octets();
            &v6
        }
    };
    let set = set.0.to_be_bytes();
    let bytes = [&set, uri.as_bytes(), &[0], ip, &port].into_iter().flatten();
    let mut hash = bytes.fold(0x811c_9dc5_u32, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(set: SetId, row: &Row) -> u32 {
        super::key(set, &row.uri, row.address)
    }

    fn row(uri: &str, address: &str) -> Row {
        Row::new(uri, address.parse().expect("an address"))
    }

    #[test]
    fn the_key_is_the_same_for_ever_and_follows_the_identity_alone() {
        let one = row("sip:10.129.39.88:7010", "10.129.39.88:7010");
        assert_eq!(key(SetId(19), &one), KEY_OF_THE_ARTICLE, "cookies of other nodes name it so");
        assert_eq!(key(SetId(19), &Row { weight: 7, row: 9, ..one.clone() }), KEY_OF_THE_ARTICLE);
        let others = [
            key(SetId(20), &one),
            key(SetId(19), &row("sip:10.129.39.88:7011", "10.129.39.88:7010")),
            key(SetId(19), &row("sip:10.129.39.88:7010", "10.129.39.88:7011")),
            key(SetId(19), &row("sip:10.129.39.88:7010", "[2001:db8::1]:7010")),
        ];
        assert!(others.iter().all(|&other| other != KEY_OF_THE_ARTICLE), "{others:x?}");
    }

    const KEY_OF_THE_ARTICLE: u32 = 3_833_702_464;
}
