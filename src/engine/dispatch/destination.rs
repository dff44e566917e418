//! A destination: one row of a set, and the identity that outlives a reload.

use std::net::SocketAddr;

use slotmap::new_key_type;

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
    /// Where the URI's host, port and transport lead.
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

/// What an operator wants of a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// In service.
    #[default]
    Ready,
    /// Keeps its sessions, takes no new one.
    Drain,
    /// Out of service.
    Maint,
}

/// A loaded destination.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The set that it stands in.
    pub set: SetId,
    /// What was loaded.
    pub row: Row,
    /// What the operator wants; `Row::state` says so to begin with.
    pub order: Order,
}
