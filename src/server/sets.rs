//! A node's sets: from the store or the disk, with their names resolved, into the engine; and again when they change.

use std::io;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::names::Resolved;
use super::node::{NodeError, Shared};
use super::{Gone, Lookup};
use crate::config::Config;
use crate::edge::http::{ReloadFailed, Reloaded};
use crate::edge::metrics::StoreStatus;
use crate::edge::resolve::{Address, Question};
use crate::edge::retry::Retry;
use crate::edge::store::snapshot::{self, LastGood, SnapshotError};
use crate::edge::store::{Load, RowContext, Store, StoreError};
use crate::engine::dispatch::Sets;
use crate::engine::event::Changes;

/// The last good sets, in the state folder.
const SETS_FILE: &str = "sets.json";
/// The pauses between tries after a start without the store.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Names of messages that are looked up at once.
const LOOKUPS_AT_ONCE: usize = 64;
/// How long one waits for its turn: as long as the engine waits for the answer.
const WAIT_FOR_TURN: Duration = Duration::from_secs(2);

/// What is in place.
#[derive(Debug, Default)]
pub(super) struct Current {
    /// As it is on disk.
    pub(super) last_good: LastGood,
    /// The same with its names resolved: what the engine has.
    pub(super) sets: Sets,
    /// When the first name has to be looked up again.
    pub(super) due: Option<Instant>,
}

/// How the loads went.
#[derive(Debug, Default)]
pub(super) struct Status {
    pub(super) counts: StoreStatus,
    /// What is wrong with the store or its rows; empty if nothing is.
    pub(super) faults: Vec<String>,
    /// What is wrong with names.
    pub(super) names: Vec<String>,
    /// Why orders and health can't be kept.
    pub(super) memory: Option<String>,
}

impl Status {
    /// What is wrong although calls are served.
    pub(super) fn degraded(&self) -> Vec<String> {
        self.faults.iter().chain(&self.names).chain(&self.memory).cloned().collect()
    }
}

/// What a start found.
pub(super) struct First {
    pub(super) store: Store,
    /// Where names led last, as far as the disk knows.
    pub(super) known: Vec<(Question, Vec<Address>)>,
    pub(super) result: Result<Load, (Sets, StoreError)>,
}

/// The store's sets, else the last good ones.
pub(super) async fn first_sets(config: &Config) -> Result<First, NodeError> {
    let last_good = config.state_dir.join(SETS_FILE);
    let read = snapshot::read(&last_good, &config.listeners);
    let known = read.as_ref().map(|last_good| last_good.names.clone()).unwrap_or_default();
    let store = match Store::new(&config.database, &config.base) {
        Ok(store) => store,
        Err(store) => {
            let missing = SnapshotError::Read { path: last_good, source: io::ErrorKind::NotFound.into() };
            return Err(no_sets(store, missing));
        }
    };
    let made = match last_good.exists() {
        // A node that had sets had a database: one that is gone must not come back empty.
        true => Ok(()),
        false => store.make().await,
    };
    let context = RowContext { listeners: &config.listeners, strictness: config.database.strictness, set_offset: 0 };
    let result = match made {
        Ok(()) => store.load(&context).await,
        Err(error) => Err(error),
    };
    let result = match result {
        Ok(load) => Ok(load),
        Err(error) => match read {
            Ok(last_good) => Err((last_good.sets, error)),
            Err(snapshot) => return Err(no_sets(error, snapshot)),
        },
    };
    Ok(First { store, known, result })
}

fn no_sets(store: StoreError, snapshot: SnapshotError) -> NodeError {
    NodeError::NoSets { store: Box::new(store), snapshot: Box::new(snapshot) }
}

impl Shared {
    pub(super) async fn load(&self) -> Result<Reloaded, ReloadFailed> {
        let mut current = self.current.lock().await;
        let listeners = self.handle.listeners();
        let context = RowContext { listeners, strictness: self.config.database.strictness, set_offset: 0 };

        match self.store.load(&context).await {
            Ok(load) => {
                let resolved = self.names.resolve(&load.sets).await;
                let placed = self.put_in_place(&mut current, load, resolved).await;
                placed.map_err(|gone| ReloadFailed { error: gone.to_string(), faults: vec![] })
            }
            Err(error) => {
                self.failed(&error);
                warn!(cause = %error, "reload failed: the sets stay as they are");
                Err(ReloadFailed { error: error.summary(), faults: faults_of(&error) })
            }
        }
    }

    pub(super) async fn put_in_place(
        &self,
        current: &mut Current,
        load: Load,
        resolved: Resolved,
    ) -> Result<Reloaded, Gone> {
        let Load { sets, faults, probes, .. } = load;
        current.last_good = LastGood { sets, names: resolved.names.clone() };
        let saved = self.save(&current.last_good);
        let unresolved = resolved.faults.clone();
        let strays = self.config.strays(&resolved.sets);
        let changes = self.replace(current, resolved).await?;
        let mut faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        for fault in &faults {
            warn!(%fault, "row left out");
        }
        for stray in strays.into_iter().chain(self.config.unlike_probes(&probes)) {
            warn!(cause = %stray, "a destination is not probed as configured");
            faults.push(stray);
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
        faults.extend(unresolved);
        Ok(Reloaded { added: changes.added, removed: changes.removed, changed: changes.changed, faults })
    }

    /// Gives the engine what was resolved.
    pub(super) async fn replace(&self, current: &mut Current, resolved: Resolved) -> Result<Changes, Gone> {
        let Resolved { sets, names: _, faults, expires } = resolved;
        self.tell(faults);
        current.due = expires.map(|expires| Instant::now() + expires);
        current.sets.clone_from(&sets);
        let changes = self.handle.replace(sets).await?;
        self.placed.notify_one();
        Ok(changes)
    }

    /// Notes what is wrong with names, and logs what is new of it.
    pub(super) fn tell(&self, faults: Vec<String>) {
        let mut status = self.status();
        for fault in faults.iter().filter(|fault| !status.names.contains(fault)) {
            warn!(cause = %fault, "a name has no fresh address");
        }
        if faults.is_empty() && !status.names.is_empty() {
            info!("all names are resolved again");
        }
        status.names = faults;
    }

    pub(super) fn save(&self, last_good: &LastGood) -> Result<(), SnapshotError> {
        snapshot::save(&self.config.state_dir.join(SETS_FILE), last_good, self.handle.listeners())
    }

    /// Looks names up again whenever an answer expires; what changed is put in place.
    pub(super) async fn renew_names(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        loop {
            let due = self.current.lock().await.due;
            let wait = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = wait => {}
                () = self.placed.notified() => continue,
                _ = stopped.changed() => return,
            }
            let renewed = tokio::select! {
                renewed = self.renew() => renewed,
                _ = stopped.changed() => return,
            };
            if renewed.is_err() {
                return;
            }
        }
    }

    pub(super) async fn renew(&self) -> Result<(), Gone> {
        let mut current = self.current.lock().await;
        let resolved = self.names.resolve(&current.last_good.sets).await;
        if current.last_good.names != resolved.names {
            current.last_good.names.clone_from(&resolved.names);
            if let Err(error) = self.save(&current.last_good) {
                warn!(cause = %error, "the last good addresses can't be kept");
            }
        }
        if current.sets != resolved.sets {
            self.replace(&mut current, resolved).await?;
        } else {
            current.due = resolved.expires.map(|expires| Instant::now() + expires);
            self.tell(resolved.faults);
        }
        Ok(())
    }

    /// Looks up the names that messages lead to, some at once; the others wait their turn, as long as anybody waits for
    /// their answer.
    pub(super) async fn look_up(
        self: Arc<Self>,
        mut asked: mpsc::Receiver<Lookup>,
        mut stopped: watch::Receiver<bool>,
    ) {
        let turns = Arc::new(Semaphore::new(LOOKUPS_AT_ONCE));
        loop {
            let lookup = tokio::select! {
                lookup = asked.recv() => lookup,
                _ = stopped.changed() => return,
            };
            let Some(Lookup { id, question }) = lookup else { return };
            let (shared, turns) = (Arc::clone(&self), Arc::clone(&turns));
            // The engine asks for so many in the time that it waits, and no task waits longer for its turn.
            tokio::spawn(async move {
                let Ok(Ok(_turn)) = timeout(WAIT_FOR_TURN, turns.acquire()).await else { return };
                let addresses = shared.names.addresses(&question).await;
                let _ = shared.handle.resolved(id, addresses).await;
            });
        }
    }

    pub(super) fn failed(&self, error: &StoreError) {
        let mut status = self.status();
        status.counts.ok = false;
        status.counts.failed_loads += 1;
        status.faults = std::iter::once(error.summary()).chain(faults_of(error)).collect();
    }

    pub(super) fn status(&self) -> std::sync::MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries until the store answers, or somebody else's reload has worked.
    pub(super) async fn retry(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
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
    error.rows().iter().map(ToString::to_string).collect()
}

/// Whether the rows of the store can be loaded: what `check` asks beyond the configuration. A database that the first start
/// will make is no fault.
///
/// # Errors
/// [`StoreError`] with every fault.
pub async fn check_rows(config: &Config) -> Result<Option<Load>, StoreError> {
    let store = Store::new(&config.database, &config.base)?;
    // A node that had sets had a database: one that is gone is not made again.
    if !store.is_there() && store.has_folder() && !config.state_dir.join(SETS_FILE).exists() {
        return Ok(None);
    }
    let context = RowContext { listeners: &config.listeners, strictness: config.database.strictness, set_offset: 0 };
    store.load(&context).await.map(Some)
}
