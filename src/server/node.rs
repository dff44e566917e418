//! A node: the server with its sets, its key, its HTTP surface and its log of events.
//!
//! The sets come from the store. A running node keeps them when a load fails; a start without the store falls back on the
//! last good sets on disk, and tries again until the store answers.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use thiserror::Error;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::addresses::Addresses;
use super::hooks::Hooks;
use super::memory::Keeper;
use super::names::Names;
use super::ready::Awaited;
use super::sets::{Ask, Current, First, Source, Status, first_sets};
use super::told::{Hearers, SetsTold};
use super::{Gone, Handle, Server, ServerConfig, ServerError, surface};
use crate::config::{Config, Drained};
use crate::edge::build::VERSION;
use crate::edge::cluster::{Cluster, ClusterError};
use crate::edge::http::{HttpError, ReloadFailed, ReloadOrder, Reloaded, Surface};
use crate::edge::interfaces::Changes;
use crate::edge::journal::{Entry, Journal, Kind};
use crate::edge::key::{self, KeyError};
use crate::edge::partitions::Partitions;
use crate::edge::store::snapshot::SnapshotError;
use crate::edge::store::{Store, StoreError};
use crate::edge::stories::{Stories, StoriesError};
use crate::edge::tls::{Identity, TlsError};
use crate::edge::webhook::Webhook;
use crate::engine::event::Drain;
use crate::engine::sip::mark_of_key;

/// The cluster's key, in the state folder.
pub(super) const KEY_FILE: &str = "cluster.key";
/// Events that may wait for the log before further ones are dropped and counted.
const EVENTS: usize = 8192;
/// How often a node that is leaving looks whether it may go.
const LOOK: Duration = Duration::from_millis(250);
/// Names that may wait to be looked up: as many as the engine lets requests wait for.
const LOOKUPS: usize = 1000;
/// Checks of destinations that may wait to be begun.
const CHECKS: usize = 1000;

/// Why a node can't start.
#[derive(Debug, Error)]
pub enum NodeError {
    /// The state folder can't be made.
    #[error("state_dir {path}: can't make it: {source}: give a folder that this user may write to", path = path.display())]
    StateDir {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The cluster's key can't be had.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The system gives no randomness.
    #[error("no randomness from the system: {0}")]
    Seed(io::Error),
    /// Neither the store nor the disk has sets.
    #[error("{store}\nand there are no last good sets to start with: {snapshot}")]
    NoSets {
        /// What the store said.
        store: Box<StoreError>,
        /// What the disk said.
        snapshot: Box<SnapshotError>,
    },
    /// The server can't start.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The server stopped while it was starting.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// A thread that writes records or events could not be made.
    #[error("cannot start the thread that writes records or events: {0}: raise the limit of processes (ulimit -u)")]
    Records(io::Error),
    /// What is told of calls can't go where it is wanted.
    #[error(transparent)]
    Stories(#[from] StoriesError),
    /// The gossip can't start.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The HTTP surface can't start.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The HTTP surface has no identity.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl NodeError {
    /// Whether the configuration or the rows have to be mended before another start can do better.
    pub fn is_configuration(&self) -> bool {
        match self {
            NodeError::NoSets { .. }
            | NodeError::Key(_)
            | NodeError::Tls(_)
            | NodeError::StateDir { .. }
            | NodeError::Stories(_) => true,
            NodeError::Seed(_)
            | NodeError::Server(_)
            | NodeError::Gone(_)
            | NodeError::Records(_)
            | NodeError::Cluster(_)
            | NodeError::Http(_) => false,
        }
    }
}

/// A running node. Dropping it stops everything.
#[derive(Debug)]
pub struct Node {
    pub(super) shared: Arc<Shared>,
    http: Option<std::net::SocketAddr>,
    stop: watch::Sender<bool>,
    /// Ends when every event is told and every record is written.
    told: JoinHandle<()>,
    hooks: Hooks,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) handle: Handle,
    /// `[database]`, then the partitions.
    pub(super) sources: Vec<Source>,
    pub(super) config: Config,
    pub(super) status: Mutex<Status>,
    pub(super) started: SystemTime,
    pub(super) awaited: Awaited,
    pub(super) drain_ordered: Notify,
    pub(super) names: Names,
    pub(super) addresses: Addresses,
    pub(super) keeper: Keeper,
    /// What has happened since the start.
    pub(super) journal: Arc<Journal>,
    pub(super) sets_told: Arc<SetsTold>,
    /// Who is told of it.
    pub(super) webhooks: Vec<Webhook>,
    pub(super) stories: Arc<Stories>,
    /// The other nodes; none if this one stands alone.
    pub(super) cluster: Option<Arc<Cluster>>,
    /// What they know by whether they have the same cluster key.
    pub(super) key_mark: u32,
    // Held while something new is put in place: one load at a time, whoever asked for it.
    pub(super) current: tokio::sync::Mutex<Current>,
    /// Something was put in place.
    pub(super) placed: Notify,
}

impl Node {
    /// Starts a node: its key, its sets, the server, the HTTP surface.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn start(config: &Config) -> Result<Self, NodeError> {
        let state_dir = &config.state_dir;
        std::fs::create_dir_all(state_dir).map_err(|source| NodeError::StateDir { path: state_dir.clone(), source })?;
        let key = key::load_or_make(&state_dir.join(KEY_FILE))?;
        let seed = key::seed().map_err(NodeError::Seed)?;
        let names = Names::new(&config.dns, &config.listeners);
        let first = first_sets(config).await?;
        // Before anybody can call: a name that is being looked up has no destinations.
        let sets = first.sets();
        let First { sources, known, placed, next } = first;
        names.keep(known);
        let resolved = names.resolve(&sets).await;
        let surface = match config.http.listen {
            Some(listen) => {
                let identity = config.http.tls.clone().map(Identity::load).transpose()?;
                Some((Surface::bind(listen).await?, identity))
            }
            None => None,
        };
        let (events, heard) = mpsc::channel(EVENTS);
        let (lookups, asked) = mpsc::channel(LOOKUPS);
        let (checks, to_check) = mpsc::channel(CHECKS);
        let stories = Stories::start(&config.trace.stories, &config.node_id)?;
        let keeper = Keeper::new(config);
        let mut remembered = keeper.remembered(&resolved.sets).await;
        sources.iter().for_each(|source| source.states.begin(&resolved.sets, &mut remembered));
        let handle = Server::start(ServerConfig {
            engine: config.engine(key),
            sets: resolved.sets.clone(),
            remembered,
            streams: config.streams,
            seed,
            events,
            lookups,
            checks,
        })?;
        let records = config.records.as_ref().map(|records| handle.start_records(records, &config.node_id));
        let records = records.transpose().map_err(NodeError::Records)?;
        let journal = Arc::new(Journal::new(&config.node_id));
        if let Some(file) = &config.events.file {
            journal.write_to(handle.start_events(file).map_err(NodeError::Records)?);
        }
        let snapshot = handle.snapshot().await?;
        journal.follow(&snapshot);
        journal.add(Entry::new(Kind::Start, SystemTime::now(), format!("tandem {VERSION} has started")));
        let (stirrer, sets_told) = (keeper.stirrer(), Arc::<SetsTold>::default());
        let (journaled, storied, sets) = (Arc::clone(&journal), Arc::clone(&stories), Arc::clone(&sets_told));
        let hearers = Hearers { stirrer, records, journal: journaled, stories: storied, sets };
        let told = tokio::spawn(hearers.listen(heard));
        let cluster = match &config.cluster {
            Some(cluster) => {
                let cluster = Cluster::start(cluster.clone(), &config.node_id, names.resolver()).await;
                Some(Arc::new(cluster.map_err(NodeError::Cluster)?))
            }
            None => None,
        };
        let changes = Changes::listen();
        let partitions = sources.iter().map(|source| (source.name.clone(), source.set_offset)).collect();
        let partitions = Arc::new(Partitions(partitions));
        let webhook = |hook: &_| Webhook::new(Clone::clone(hook), Arc::clone(&journal), Arc::clone(&partitions));
        let webhooks = config.events.webhooks.iter().map(webhook).collect();
        let shared = Arc::new(Shared {
            addresses: Addresses::new(handle.listeners()),
            handle,
            sources,
            config: config.clone(),
            status: Mutex::default(),
            started: journal.started(),
            awaited: Awaited::new(config, std::time::Instant::now()),
            drain_ordered: Notify::new(),
            names,
            keeper,
            journal: Arc::clone(&journal),
            sets_told,
            webhooks,
            stories,
            cluster: cluster.clone(),
            key_mark: mark_of_key(&key),
            current: tokio::sync::Mutex::default(),
            placed: Notify::new(),
        });
        shared.look_at_addresses().await;
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(Arc::clone(&shared).follow_addresses(changes, stopped.clone()));
        let mut current = shared.current.lock().await;
        current.placed = placed;
        shared.sources.iter().zip(&current.placed).for_each(|(source, placed)| source.is_placed(placed));
        let next = next.into_iter().enumerate().filter_map(|(nth, next)| Some((nth, next?))).collect();
        shared.put_in_place(&mut current, next, &Ask::Start).await?;
        drop(current);
        for nth in 0..shared.sources.len() {
            tokio::spawn(Arc::clone(&shared).watch_source(nth, stopped.clone()));
            if shared.sources[nth].persists() {
                tokio::spawn(Arc::clone(&shared).persist_states(nth, stopped.clone()));
            }
        }
        tokio::spawn(Arc::clone(&shared).renew_names(stopped.clone()));
        tokio::spawn(Arc::clone(&shared).look_up(asked, stopped.clone()));
        tokio::spawn(Arc::clone(&shared).check(to_check, stopped.clone()));
        tokio::spawn(Arc::clone(&shared).keep_memory(stopped.clone()));
        tokio::spawn(Arc::clone(&shared).watch_facts(stopped.clone()));
        if let Some(cluster) = cluster {
            info!(node = cluster.node(), address = %cluster.bound(), "gossips");
            tokio::spawn(Arc::clone(&shared).gossip(cluster, stopped.clone()));
        }
        let http = surface.as_ref().map(|(surface, _)| surface.address());
        if let Some((surface, identity)) = surface {
            tokio::spawn(surface::serve(surface, identity, Arc::clone(&shared), stopped));
        }
        for (listener, address) in shared.handle.listeners().iter().zip(shared.handle.addresses()) {
            let (transport, advertise) = (listener.transport.name(), &listener.advertise);
            info!(transport, %address, %advertise, "listening");
        }
        let hooks = Hooks::start(&shared.webhooks, journal);
        Ok(Node { shared, http, stop, told, hooks })
    }

    /// The SIP server.
    pub fn server(&self) -> &Handle {
        &self.shared.handle
    }

    /// Where the sets of `[database]` are.
    pub fn store(&self) -> &Store {
        &self.shared.sources[0].store
    }

    /// Where the HTTP surface listens; none if it is off.
    pub fn http(&self) -> Option<std::net::SocketAddr> {
        self.http
    }

    /// Reads the sets anew, here and on the other nodes; a failure leaves the running ones in place.
    ///
    /// # Errors
    /// [`ReloadFailed`] with every fault.
    pub async fn reload(&self, order: ReloadOrder) -> Result<Reloaded, ReloadFailed> {
        self.shared.reload_by(order).await
    }

    /// The same for whoever has other things to do meanwhile.
    pub fn reload_aside(&self, order: ReloadOrder) -> JoinHandle<Result<Reloaded, ReloadFailed>> {
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move { shared.reload_by(order).await })
    }

    /// Waits until somebody has asked for the drain over HTTP.
    pub async fn drain_ordered(&self) {
        self.shared.drain_ordered.notified().await;
    }

    /// The longest that [`Node::drain`] may take.
    pub fn longest_drain(&self) -> Duration {
        let Drained { handover, limit } = self.shared.config.drain;
        handover.max(limit)
    }

    /// Leaves: OPTIONS and `/ready` say 503 from now on. Calls are served until no virtual address is held here, at most for
    /// the configured handover; then new ones get 503. Returns when no transaction is open, or after the limit.
    pub async fn drain(&self) {
        let Drained { handover, limit } = self.shared.config.drain;
        let began = Instant::now();
        if self.shared.leave(Drain::Leaving).await.is_err() {
            return;
        }
        info!(handover = ?handover, "leaving: calls are served until the addresses have moved");
        let moved = self.shared.addresses.without_vip(self.shared.handle.listeners());
        let _ = timeout(handover, moved).await;
        if self.shared.leave(Drain::Refusing).await.is_err() {
            return;
        }
        info!("new calls are refused");
        while began.elapsed() < limit {
            match self.shared.handle.snapshot().await {
                Ok(snapshot) if snapshot.open > 0 => tokio::time::sleep(LOOK).await,
                Ok(_) | Err(Gone) => return,
            }
        }
        warn!(limit = ?limit, "transactions are still open");
    }

    /// Stops the node at once; what is to outlive it is on disk then, and the address of its gossip is free.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.shared.keep().await;
        self.shared.handle.stop().await;
        if let Some(cluster) = &self.shared.cluster {
            cluster.stop().await;
        }
        // The engine's thread is gone, and so nobody tells of anything new.
        let _ = self.told.await;
        tokio::join!(self.hooks.close(), self.shared.stories.close());
    }
}
