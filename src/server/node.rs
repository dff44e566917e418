//! A node: the server with its sets, its key, its HTTP surface and its log of events.
//!
//! The sets come from the store. A running node keeps them when a load fails; a start without the store falls back on the
//! last good sets on disk, and tries again until the store answers.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

use super::{Gone, Handle, Server, ServerConfig, ServerError};
use crate::config::Config;
use crate::edge::http::{self, HttpError, Readiness, ReloadFailed, Reloaded, Surface};
use crate::edge::key::{self, KeyError};
use crate::edge::log;
use crate::edge::metrics::{self, StoreStatus};
use crate::edge::retry::Retry;
use crate::edge::store::snapshot::{self, SnapshotError};
use crate::edge::store::{Load, RowContext, Store, StoreError};
use crate::engine::dispatch::Sets;
use crate::engine::event::Event;

/// The cluster's key, in the state folder.
const KEY_FILE: &str = "cluster.key";
/// The last good sets, in the state folder.
const SETS_FILE: &str = "sets.json";
/// Events that may wait for the log before further ones are dropped and counted.
const EVENTS: usize = 8192;
/// The pauses between tries after a start without the store.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

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
        store: StoreError,
        /// What the disk said.
        snapshot: SnapshotError,
    },
    /// The server can't start.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The server stopped while it was starting.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// The HTTP surface can't start.
    #[error(transparent)]
    Http(#[from] HttpError),
}

impl NodeError {
    /// Whether the configuration or the rows have to be mended before another start can do better.
    pub fn is_configuration(&self) -> bool {
        match self {
            NodeError::NoSets { .. } | NodeError::Key(_) | NodeError::StateDir { .. } => true,
            NodeError::Seed(_) | NodeError::Server(_) | NodeError::Gone(_) | NodeError::Http(_) => false,
        }
    }
}

/// A running node. Dropping it stops everything.
#[derive(Debug)]
pub struct Node {
    shared: Arc<Shared>,
    http: Option<std::net::SocketAddr>,
    stop: watch::Sender<bool>,
}

#[derive(Debug)]
struct Shared {
    handle: Handle,
    store: Store,
    config: Config,
    status: Mutex<Status>,
    started: SystemTime,
    // One load at a time, whoever asked for it.
    loading: tokio::sync::Mutex<()>,
}

/// How the loads went.
#[derive(Debug, Default)]
struct Status {
    counts: StoreStatus,
    /// What is wrong with the store or its rows; empty if nothing is.
    faults: Vec<String>,
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
        let first = first_sets(config).await?;
        let surface = match config.http {
            Some(listen) => Some(Surface::bind(listen).await?),
            None => None,
        };
        let (events, heard) = mpsc::channel(EVENTS);
        let handle = Server::start(ServerConfig { engine: config.engine(key), streams: config.streams, seed, events })?;
        tokio::spawn(report(heard));
        let shared = Arc::new(Shared {
            handle,
            store: first.store,
            config: config.clone(),
            status: Mutex::default(),
            started: SystemTime::now(),
            loading: tokio::sync::Mutex::default(),
        });
        let (stop, stopped) = watch::channel(false);
        match first.result {
            Ok(load) => {
                shared.put_in_place(load).await?;
            }
            Err((sets, error)) => {
                shared.handle.replace(sets).await?;
                error!(cause = %error, "the store can't be read: started with the last good sets");
                shared.failed(&error);
                tokio::spawn(Arc::clone(&shared).retry(stopped.clone()));
            }
        }
        let http = surface.as_ref().map(Surface::address);
        if let Some(surface) = surface {
            tokio::spawn(serve(surface, Arc::clone(&shared), stopped));
        }
        for (listener, address) in shared.handle.listeners().iter().zip(shared.handle.addresses()) {
            let (transport, advertise) = (listener.transport.name(), &listener.advertise);
            info!(transport, %address, %advertise, "listening");
        }
        Ok(Node { shared, http, stop })
    }

    /// The SIP server.
    pub fn server(&self) -> &Handle {
        &self.shared.handle
    }

    /// Where the sets are.
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// Where the HTTP surface listens; none if it is off.
    pub fn http(&self) -> Option<std::net::SocketAddr> {
        self.http
    }

    /// Reads the sets anew; a failure leaves the running ones in place.
    ///
    /// # Errors
    /// [`ReloadFailed`] with every fault.
    pub async fn reload(&self) -> Result<Reloaded, ReloadFailed> {
        self.shared.load().await
    }

    /// Stops the node; new calls have got 503 since the drain.
    pub async fn stop(self) {
        let _ = self.shared.handle.drain().await;
        let _ = self.stop.send(true);
        self.shared.handle.stop().await;
    }
}

/// What a start found.
struct First {
    store: Store,
    result: Result<Load, (Sets, StoreError)>,
}

/// The store's sets, else the last good ones.
async fn first_sets(config: &Config) -> Result<First, NodeError> {
    let last_good = config.state_dir.join(SETS_FILE);
    let from_disk = |store: StoreError| match snapshot::read(&last_good, &config.listeners) {
        Ok(sets) => Ok((sets, store)),
        Err(snapshot) => Err(NodeError::NoSets { store, snapshot }),
    };
    let store = match Store::new(&config.database.url, &config.base, config.database.table.clone()) {
        Ok(store) => store,
        Err(store) => {
            let missing = SnapshotError::Read { path: last_good, source: io::ErrorKind::NotFound.into() };
            return Err(NodeError::NoSets { store, snapshot: missing });
        }
    };
    let made = match last_good.exists() {
        // A node that had sets had a database: one that is gone must not come back empty.
        true => Ok(()),
        false => store.make().await,
    };
    let context = RowContext { listeners: &config.listeners, strictness: config.database.strictness };
    let result = match made {
        Ok(()) => store.load(&context).await,
        Err(error) => Err(error),
    };
    let result = match result {
        Ok(load) => Ok(load),
        Err(error) => Err(from_disk(error)?),
    };
    Ok(First { store, result })
}

impl Shared {
    async fn load(&self) -> Result<Reloaded, ReloadFailed> {
        let _one_at_a_time = self.loading.lock().await;
        let listeners = self.handle.listeners();
        let context = RowContext { listeners, strictness: self.config.database.strictness };
        let result = match self.store.load(&context).await {
            Ok(load) => {
                self.put_in_place(load).await.map_err(|gone| ReloadFailed { error: gone.to_string(), faults: vec![] })
            }
            Err(error) => {
                self.failed(&error);
                warn!(cause = %error, "reload failed: the sets stay as they are");
                Err(ReloadFailed { error: error.to_string(), faults: faults_of(&error) })
            }
        };
        result
    }

    async fn put_in_place(&self, load: Load) -> Result<Reloaded, Gone> {
        let Load { sets, faults, rows: _ } = load;
        let path = self.config.state_dir.join(SETS_FILE);
        let saved = snapshot::save(&path, &sets, self.handle.listeners());
        let changes = self.handle.replace(sets).await?;
        let mut faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        for fault in &faults {
            warn!(%fault, "row left out");
        }
        if let Err(error) = saved {
            warn!(cause = %error, "the last good sets can't be kept");
            faults.push(error.to_string());
        }
        let mut status = self.status();
        status.counts.ok = true;
        status.counts.loads += 1;
        status.counts.last_load = Some(SystemTime::now());
        status.faults.clone_from(&faults);
        Ok(Reloaded { added: changes.added, removed: changes.removed, changed: changes.changed, faults })
    }

    fn failed(&self, error: &StoreError) {
        let mut status = self.status();
        status.counts.ok = false;
        status.counts.failed_loads += 1;
        status.faults = vec![error.to_string()];
    }

    fn status(&self) -> std::sync::MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries until the store answers, or somebody else's reload has worked.
    async fn retry(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let mut retry = Retry::new(RETRY.0, RETRY.1);
        loop {
            tokio::select! {
                () = tokio::time::sleep(retry.next_pause()) => {}
                _ = stopped.changed() => return,
            }
            if self.status().counts.ok || self.load().await.is_ok() {
                return info!("the store answers again");
            }
        }
    }
}

/// Every row's fault.
fn faults_of(error: &StoreError) -> Vec<String> {
    match error {
        StoreError::BadRows(faults) => faults.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    }
}

impl http::Node for Shared {
    async fn readiness(&self) -> Readiness {
        let mut readiness = Readiness { reasons: Vec::new(), degraded: self.status().faults.clone() };
        match self.handle.snapshot().await {
            Ok(snapshot) => {
                if snapshot.draining {
                    readiness.reasons.push("the node is draining".into());
                }
                let unfit = snapshot.sets.iter().filter(|set| set.destinations.iter().all(|one| !one.fit));
                readiness.degraded.extend(unfit.map(|set| format!("set {} has no fit destination", set.id.0)));
            }
            Err(gone) => readiness.reasons.push(gone.to_string()),
        }
        readiness
    }

    async fn metrics(&self) -> Result<String, String> {
        let snapshot = self.handle.snapshot().await.map_err(|gone| gone.to_string())?;
        let (edge, store) = (self.handle.edge_counters(), self.status().counts);
        Ok(metrics::render(&metrics::View { snapshot: &snapshot, edge: &edge, store: &store, started: self.started }))
    }

    async fn reload(&self) -> Result<Reloaded, ReloadFailed> {
        self.load().await
    }
}

async fn serve(surface: Surface, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let shutdown = async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    if let Err(fault) = surface.serve(shared, shutdown).await {
        error!(cause = %fault, "the HTTP surface is gone");
    }
}

async fn report(mut heard: mpsc::Receiver<Event>) {
    while let Some(event) = heard.recv().await {
        log::report(&event);
    }
}

/// Whether the rows of the store can be loaded: what `check` asks beyond the configuration. A database that is not there
/// yet is no fault: the first start makes it.
///
/// # Errors
/// [`StoreError`] with every fault.
pub async fn check_rows(config: &Config) -> Result<Option<Load>, StoreError> {
    let store = Store::new(&config.database.url, &config.base, config.database.table.clone())?;
    if !store.is_there() {
        return Ok(None);
    }
    let context = RowContext { listeners: &config.listeners, strictness: config.database.strictness };
    store.load(&context).await.map(Some)
}
