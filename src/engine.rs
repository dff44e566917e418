//! The engine: bytes, values and a `now` go in, actions come out. No socket, clock, random source, lock or `await`.

pub mod clock;
pub mod event;
pub mod flow;
pub mod snapshot;

pub mod dispatch;
pub mod route;
pub mod sip;
pub mod transaction;

use std::sync::Arc;

pub use clock::{Instant, Now};
pub use event::{Event, Input, Output};
pub use snapshot::Snapshot;

/// All that the engine is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node's name, unique in the cluster.
    pub node: String,
    /// The key of cookies and branches, shared by the cluster's nodes.
    pub key: [u8; 32],
    /// Our listeners; each one's id is its index.
    pub listeners: Vec<flow::Listener>,
    /// Timer lengths.
    pub timing: transaction::timing::Timing,
    /// The rules.
    pub route: route::Config,
    /// The sets' policies; a set without one gets the default.
    pub sets: Vec<dispatch::Policy>,
    /// What bounds memory.
    pub limits: Limits,
    /// Whether `Event::Call` is wanted: off saves its cost.
    pub call_events: bool,
}

/// What bounds the engine's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Transactions in being, client and server; above it new requests get 503.
    pub transactions: usize,
    /// Live sessions in the table; above it sessions are no longer counted, calls go on.
    pub sessions: usize,
    /// Bytes of one message.
    pub message: usize,
    /// How long a session may stay in the table without an end seen.
    pub session_lifetime: std::time::Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            transactions: 200_000,
            sessions: 1_000_000,
            message: 65_535,
            session_lifetime: std::time::Duration::from_secs(12 * 3600),
        }
    }
}

/// The SIP dispatcher as a pure machine.
#[derive(Debug)]
pub struct Engine {}

impl Engine {
    /// An engine with no sets loaded. `seed` makes its tags, branches and random choices; give each start another one.
    pub fn new(_config: Config, _seed: [u8; 32]) -> Self {
        Engine {}
    }

    /// Takes one input and appends what is to be done. Cannot fail: what a peer sends is never our error.
    pub fn handle(&mut self, _input: Input<'_>, _now: Now, _out: &mut Vec<Output>) {}

    /// When `Input::Wake` is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// The state that the outside may see.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::default()
    }
}
