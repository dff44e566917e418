//! The cluster's gossip: chitchat over sealed packets. It tells peers what this node sees, and this node what they do; what
//! follows from that is decided elsewhere. The one door of crate `chitchat`.
//!
//! Without a key the packets are sealed with one that everybody knows: they stay on loopback, where they keep accidents
//! apart and nobody out.

mod counters;
mod gossip;
mod members;
pub mod report;
mod seeds;
mod transport;

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use thiserror::Error;
use tokio::net::UdpSocket;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use self::counters::Counters;
use self::gossip::{Gossip, Told};
use self::report::{Moment, NodeView};
use self::transport::Wire;
use crate::edge::resolve::Resolver;
use crate::edge::seal::{Key, MOST_NAME, Opener};

pub use self::counters::ClusterCounters;
pub use self::seeds::Seed;

/// Events that wait for a slow listener; older ones are lost for it.
const EVENTS: usize = 256;
/// Calls on seeds that wait for the gossip.
const CALLS: usize = 16;
/// `dead_after` in intervals, at least: fewer heartbeats missing may be chance.
pub const LEAST_BEATS: u32 = 5;

/// What the gossip is told: `[cluster]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// The cluster's name: nodes of another one are refused.
    pub name: String,
    /// This node's own address for the gossip, none that moves.
    pub bind: SocketAddr,
    /// Where peers reach it, if that is not `bind`.
    pub advertise: Option<SocketAddr>,
    /// Where the gossip begins.
    pub seeds: Vec<Seed>,
    /// The first key seals, each opens; none: nothing leaves this host.
    pub keys: Vec<Key>,
    /// From one round of the gossip to the next.
    pub interval: Duration,
    /// A node without a heartbeat for so long is gone; at least [`LEAST_BEATS`] intervals.
    pub dead_after: Duration,
    /// How far nodes' clocks may differ.
    pub clock_limit: Duration,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        ClusterConfig {
            name: "tandem".into(),
            bind: SocketAddr::from(([127, 0, 0, 1], 7946)),
            advertise: None,
            seeds: Vec::new(),
            keys: Vec::new(),
            interval: Duration::from_millis(100),
            dead_after: Duration::from_secs(1),
            clock_limit: Duration::from_secs(30),
        }
    }
}

impl ClusterConfig {
    /// What does not go together: each fault with the key that it is of, for people.
    pub fn faults(&self, node: &str) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        for (key, name) in [("name", self.name.as_str()), ("node_id", node)] {
            if name.is_empty() || name.len() > MOST_NAME {
                faults.push((key, format!("it is {name:?}: give 1 to {MOST_NAME} letters")));
            }
        }
        let advertise = self.advertise.unwrap_or(self.bind);
        if advertise.ip().is_unspecified() {
            faults.push(("bind", format!("it is {}, which peers can't send to: give advertise too", self.bind)));
        }
        if self.keys.is_empty() {
            let outside = |key, address: SocketAddr| {
                let fault = format!("it is {address}, off loopback, and there is no key: give keys");
                (!address.ip().is_loopback()).then_some((key, fault))
            };
            faults.extend(outside("bind", self.bind));
            faults.extend(self.advertise.and_then(|address| outside("advertise", address)));
            faults.extend(self.seeds.iter().filter_map(Seed::address).filter_map(|address| outside("seeds", address)));
        }
        if self.interval.is_zero() {
            faults.push(("interval", "it is 0: give 10ms or more".to_owned()));
        }
        let least = self.interval * LEAST_BEATS;
        if self.dead_after < least {
            let fault =
                format!("it is {:?}: give {least:?} or more, which is {LEAST_BEATS} intervals", self.dead_after);
            faults.push(("dead_after", fault));
        }
        faults
    }
}

/// Why there is no gossip.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// The configuration is not possible.
    #[error("cluster.{key}: {problem}")]
    Config {
        /// The first key that has a fault.
        key: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The address can't be had.
    #[error("cluster.bind: can't listen on {address}: {source}: give a free address of this node")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// A node that is there, and what it says.
#[derive(Clone, Debug)]
pub struct PeerView {
    /// Its node id.
    pub node: Arc<str>,
    /// Its start: the greatest of those that are there.
    pub boot: u64,
    /// Where it takes the gossip.
    pub address: SocketAddr,
    /// Its newest heartbeat, by our clock.
    pub heard: Instant,
    /// What it says; empty until it has come.
    pub view: Arc<NodeView>,
    /// A moment of its time, and when that came, by our clock; none until it has come.
    pub clock: Option<(Moment, Instant)>,
}

impl PeerView {
    /// How far ahead a moment of its time is, as [`PeerView::age`].
    pub fn ahead(&self, moment: Moment, now: Instant) -> Option<Duration> {
        let (then, came) = self.clock?;
        let since = i64::try_from(now.saturating_duration_since(came).as_millis()).unwrap_or(i64::MAX);
        let ahead = moment.0.saturating_sub(then.0).saturating_sub(since);
        Some(Duration::from_millis(ahead.try_into().unwrap_or(0)))
    }

    /// How long ago a moment of its time is, whatever the clocks say; too little by the time that gossip takes. None until
    /// its time is known.
    pub fn age(&self, moment: Moment, now: Instant) -> Option<Duration> {
        let (then, came) = self.clock?;
        let since = i64::try_from(now.saturating_duration_since(came).as_millis()).unwrap_or(i64::MAX);
        // A moment after the clock that we have is as much younger.
        let age = since.saturating_add(then.0.saturating_sub(moment.0));
        Some(Duration::from_millis(age.try_into().unwrap_or(0)))
    }
}

/// All that gossip tells at one moment.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    /// The nodes that are there but our own, by node id.
    pub live: Vec<PeerView>,
    /// Node ids that more than one node has, with their addresses: someone must act.
    pub duplicates: Vec<(Arc<str>, Vec<SocketAddr>)>,
}

/// What has happened in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterEvent {
    /// A node is there, or has started again.
    Joined {
        /// Its node id.
        node: Arc<str>,
        /// Its start.
        boot: u64,
        /// Its address.
        address: SocketAddr,
    },
    /// A node is gone.
    Left {
        /// Its node id.
        node: Arc<str>,
        /// Its start.
        boot: u64,
    },
    /// Two nodes have one id, maybe ours.
    Duplicate {
        /// The node id.
        node: Arc<str>,
        /// Where they are.
        addresses: Vec<SocketAddr>,
    },
    /// The gossip died, and is started again.
    Restarting {
        /// What it died of.
        cause: String,
    },
}

/// This node's part in the gossip; it ends with this value.
#[derive(Debug)]
pub struct Cluster {
    node: Arc<str>,
    bound: SocketAddr,
    address: SocketAddr,
    started: Instant,
    counters: Arc<Counters>,
    view: watch::Sender<Arc<NodeView>>,
    peers: watch::Receiver<Peers>,
    events: broadcast::Sender<ClusterEvent>,
    /// None once it is stopped.
    running: tokio::sync::Mutex<Option<Running>>,
}

/// The tasks; they end with this value.
#[derive(Debug)]
struct Running {
    stop: oneshot::Sender<()>,
    /// One task.
    gossip: JoinSet<()>,
    seeds: JoinSet<()>,
}

impl Cluster {
    /// Begins to gossip. Peers are found in the background, and so are seeds that are names.
    ///
    /// # Errors
    /// [`ClusterError`] if the configuration is not possible or the address can't be had.
    pub async fn start(config: ClusterConfig, node: &str, resolver: Arc<Resolver>) -> Result<Self, ClusterError> {
        if let Some((key, problem)) = config.faults(node).into_iter().next() {
            return Err(ClusterError::Config { key, problem });
        }
        let refused = |source| ClusterError::Bind { address: config.bind, source };
        let socket = UdpSocket::bind(config.bind).await.map_err(refused)?;
        let bound = socket.local_addr().map_err(refused)?;
        let address = config.advertise.unwrap_or(bound);
        let counters = Arc::new(Counters::default());
        let opener = Opener::new(&config.name, &config.keys, node, config.clock_limit);
        let wire = Wire {
            socket,
            opener: Mutex::new(opener),
            counters: counters.clone(),
            address,
            loopback_only: config.keys.is_empty(),
        };
        let (view, published) = watch::channel(Arc::default());
        let (live, is_live) = watch::channel(HashSet::new());
        let (told, peers) = watch::channel(Peers::default());
        let (events, _) = broadcast::channel(EVENTS);
        let (calls, called) = mpsc::channel(CALLS);
        let (stop, stopped) = oneshot::channel();
        let (mut tasks, mut seeds) = (JoinSet::new(), JoinSet::new());
        for seed in config.seeds.iter().cloned() {
            let (resolver, counters) = (resolver.clone(), counters.clone());
            seeds.spawn(seeds::call(seed, address, resolver, counters, is_live.clone(), calls.clone()));
        }
        let (node, started): (Arc<str>, _) = (node.into(), Instant::now());
        let gossip = Gossip {
            config,
            node: node.clone(),
            address,
            started,
            wire: Arc::new(wire),
            published,
            called,
            stopped,
            told: Told { peers: told, live, events: events.clone(), counters: counters.clone() },
        };
        // Two starts must never have the same, be they of two nodes of one name: so microseconds.
        let boot = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        tasks.spawn(gossip.run(u64::try_from(boot).unwrap_or(u64::MAX / 2)));
        let running = tokio::sync::Mutex::new(Some(Running { stop, gossip: tasks, seeds }));
        Ok(Cluster { node, bound, address, started, counters, view, peers, events, running })
    }

    /// This node's id.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Where it listens.
    pub fn bound(&self) -> SocketAddr {
        self.bound
    }

    /// Where peers reach this node.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `instant` in this node's time, as its view tells it.
    pub fn moment(&self, instant: Instant) -> Moment {
        Moment::of(instant, self.started)
    }

    /// Tells the peers what this node sees, whole; only what has changed is sent. Returns at once.
    pub fn publish(&self, view: NodeView) {
        self.view.send_replace(Arc::new(view));
    }

    /// Who is there and what they say; it changes when one comes, goes or says something else. Heartbeats are brought up to
    /// date without that.
    pub fn peers(&self) -> watch::Receiver<Peers> {
        self.peers.clone()
    }

    /// What happens from now on.
    pub fn events(&self) -> broadcast::Receiver<ClusterEvent> {
        self.events.subscribe()
    }

    /// The counters now.
    pub fn counters(&self) -> ClusterCounters {
        self.counters.read()
    }

    /// Ends the gossip; the address is free when this returns.
    pub async fn stop(&self) {
        // Held to the end, so that who stops it too waits.
        let mut running = self.running.lock().await;
        let Some(Running { stop, mut gossip, mut seeds }) = running.take() else { return };
        // Who does not listen has ended.
        let _ = stop.send(());
        gossip.join_next().await;
        seeds.shutdown().await;
    }
}
