//! `/node`: what this node is, what it carries, which of its addresses are here, and the others of its cluster.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Node;
use crate::edge::build::VERSION;
use crate::edge::cluster::PeerView;
use crate::edge::interfaces::held_vips;
use crate::edge::moment::Moment;
use crate::engine::Snapshot;
use crate::engine::event::Drain;

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Its name.
    pub node: String,
    /// Its version.
    pub version: String,
    /// When it started.
    pub started: Moment,
    /// Whether it is leaving.
    pub draining: bool,
    /// Live sessions, pending ones included.
    pub sessions: usize,
    /// Those of them whose caller came by an address that is another node's now.
    pub parked: usize,
    /// In the order of the configuration.
    pub listeners: Vec<ListenerReport>,
    /// The virtual addresses that it holds.
    pub vips: Vec<String>,
    /// The other nodes that it hears; none without `[cluster]`.
    pub peers: Option<Vec<PeerReport>>,
}

/// Another node, as it tells of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerReport {
    /// Its name.
    pub node: String,
    /// Where it takes the gossip.
    pub address: SocketAddr,
    /// How long ago it was heard, in ms.
    pub heard_ms: u64,
    /// Its version; "" until it has told.
    pub version: String,
    /// When it started, by its own clock.
    pub started: Moment,
    /// The format of what it tells, if this node does not know it: then nothing of it counts here.
    #[serde(default)]
    pub unknown_format: Option<u32>,
    /// Where it listens.
    pub listeners: Vec<String>,
    /// The virtual addresses that it holds.
    pub vips: Vec<String>,
    /// What of each partition it has in place, as a digest of the rows.
    #[serde(default)]
    pub rows: BTreeMap<String, String>,
}

impl PeerReport {
    fn of(peer: &PeerView, now: Instant) -> Self {
        let told = &peer.view.report;
        PeerReport {
            node: peer.node.to_string(),
            address: peer.address,
            heard_ms: now.saturating_duration_since(peer.heard).as_millis().try_into().unwrap_or(u64::MAX),
            version: told.version.clone(),
            // What it tells may be anything; no year that anybody writes is beyond.
            started: Moment(UNIX_EPOCH + Duration::from_secs(told.started.min(1 << 40))),
            unknown_format: told.unknown_format(),
            listeners: told.listeners.clone(),
            vips: told.vips.clone(),
            rows: told.sources.iter().filter_map(|(name, one)| Some((name.clone(), one.digest?.to_string()))).collect(),
        }
    }
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
        let held = node.held();
        let vips = held_vips(node.listeners(), &held);
        let listeners = node.listeners().iter().zip(held);
        let listeners = listeners.map(|(listener, held)| ListenerReport {
            listener: listener.name(),
            advertise: listener.advertise.to_string(),
            role: listener.role.name().to_owned(),
            held,
        });
        NodeReport {
            node: node.name().to_owned(),
            version: VERSION.to_owned(),
            started: Moment(node.started()),
            draining: snapshot.drain > Drain::No,
            sessions: snapshot.sessions,
            parked: snapshot.parked,
            listeners: listeners.collect(),
            vips,
            peers: node
                .peers()
                .map(|peers| peers.live.iter().map(|peer| PeerReport::of(peer, Instant::now())).collect()),
        }
    }
}
