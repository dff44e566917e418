//! Sessions that an operator ends, and why one can't be ended here.

use thiserror::Error;

use crate::engine::dispatch::{NoSuchDestination, SetId};

/// An operator's order to end sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndOrder {
    /// Which.
    pub which: Which,
    /// Who gives it.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// Which sessions an operator ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The latest with that Call-ID, at once.
    Call(String),
    /// All of a destination, at the pace of its set's `bye_rate`.
    Destination {
        /// The set.
        set: SetId,
        /// The `destination` column.
        uri: String,
    },
}

/// Why an order has ended nothing.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NotEnded {
    /// Nobody has that Call-ID.
    #[error("no session has the Call-ID {0}")]
    NoSuchCall(String),
    /// There is one, and this node can't end it.
    #[error("the session with the Call-ID {call_id} can't be ended here: {why}")]
    NotOurs {
        /// The Call-ID.
        call_id: String,
        /// Why not.
        why: NotOurs,
    },
    /// No such destination is loaded.
    #[error(transparent)]
    NoSuchDestination(#[from] NoSuchDestination),
}

/// Why this node can't end a session.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NotOurs {
    /// Its INVITE has no final answer yet.
    #[error("it is not set up yet")]
    Pending,
    /// Another node has begun it, or this one before its restart.
    #[error("it began on another node or before a restart, and its ends are not known here")]
    Adopted,
    /// Its caller came by an address that this node does not hold now.
    #[error("it is parked: another node holds the address that its caller came by")]
    Parked,
    /// Its dialog is not known: not to be kept, or the one of a forked call that was kept has ended; or it names as an end
    /// somebody who is none.
    #[error(
        "its ends are not known: its Contact or Record-Route leads elsewhere than to where it came from, or can't be \
         kept, or the first dialog of its forked call has ended"
    )]
    Unknown,
}
