//! `/node`: what this node is, what it carries, and which of its addresses are here.

use serde::{Deserialize, Serialize};

use super::Node;
use crate::engine::Snapshot;
use crate::engine::event::Drain;

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Its name.
    pub node: String,
    /// Its version.
    pub version: String,
    /// Whether it is leaving.
    pub draining: bool,
    /// Live sessions, pending ones included.
    pub sessions: usize,
    /// Those of them whose caller came by an address that is another node's now.
    pub parked: usize,
    /// In the order of the configuration.
    pub listeners: Vec<ListenerReport>,
}

/// A listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerReport {
    /// As the configuration writes it: `udp:127.0.0.1:8060`.
    pub listener: String,
    /// What it writes into messages.
    pub advertise: String,
    /// `node` or `vip`.
    pub role: String,
    /// Whether the address is this machine's now.
    pub held: bool,
}

impl NodeReport {
    pub(super) fn new(node: &impl Node, snapshot: &Snapshot) -> Self {
        let listeners = node.listeners().iter().zip(node.held());
        let listeners = listeners.map(|(listener, held)| ListenerReport {
            listener: listener.name(),
            advertise: listener.advertise.to_string(),
            role: listener.role.name().to_owned(),
            held,
        });
        NodeReport {
            node: node.name().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            draining: snapshot.drain > Drain::No,
            sessions: snapshot.sessions,
            parked: snapshot.parked,
            listeners: listeners.collect(),
        }
    }
}
