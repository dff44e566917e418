//! `persist_state`: the `state` column follows orders and health, and who changes it by hand gives an order.
//!
//! 1 is an order to drain or maint, 2 is down, 0 is all else. Of the nodes of a cluster one writes, all changes of a moment in
//! one transaction; a database that does not take them is asked again later, and nobody waits for it.

mod column;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use self::column::{Column, DATABASE, RowId, Said, Seen, is_writer};
use super::reads::{Told, is_news};
use super::source::Source;
use crate::edge::retry::Retry;
use crate::edge::store::{StoreError, states};
use crate::engine::dispatch::{Distrust, DistrustOrder, Remembered, RowState, SetId, Sets};
use crate::server::Gone;
use crate::server::node::Shared;

/// From one look at what is to be written to the next: so that it stands there within a second.
const ROUND: Duration = Duration::from_millis(800);
/// The pauses between tries while the database takes nothing.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How far copies of a database may lag behind: for so long, and as long as a read takes, what stood there before is no news.
const LAG: Duration = Duration::from_secs(5);
/// For how long a node of a cluster that hears nobody waits for others before it takes itself for the only one.
const LISTEN: Duration = Duration::from_secs(2);

/// The `state` column of a source.
#[derive(Debug)]
pub(in crate::server) struct States {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    column: Column,
    on_disk: states::States,
    writes: Writes,
    /// What is wrong, for people.
    fault: Option<String>,
    told: Told,
}

/// How often states were written, and how often that failed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Writes {
    pub(super) ok: u64,
    pub(super) failed: u64,
}

impl States {
    /// Those of a source, as far as an earlier start has left word of them at `path`; nothing is known of them if they are not
    /// written back.
    pub(super) fn open(path: PathBuf, persists: bool) -> Self {
        let on_disk = if persists { states::read(&path) } else { Ok(None) };
        let on_disk = on_disk.unwrap_or_else(|cause| {
            warn!(cause, "what stood in the table is lost");
            None
        });
        let on_disk = on_disk.unwrap_or_default();
        let known = Known { column: Column::of(on_disk.clone()), on_disk, ..Known::default() };
        States { path, known: Mutex::new(known) }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what was read.
    pub(super) fn note(&self, sets: &Sets) {
        self.known().column.read(sets, Instant::now());
    }

    /// Adds the orders of rows that are about to be placed, and were not before, to what is remembered of them.
    pub(in crate::server) fn begin(&self, sets: &Sets, remembered: &mut Vec<Remembered>) {
        for ((set, uri), standing) in self.known().column.begin(sets, remembered) {
            let (order, reason) = (standing.order.name(), standing.reason);
            info!(set = set.0, destination = uri, by = DATABASE, reason, "order {order}");
        }
    }

    /// Whether those of that set follow orders.
    pub(in crate::server) fn follow(&self, set: SetId) -> bool {
        self.known().column.has(set)
    }

    pub(super) fn writes(&self) -> Writes {
        self.known().writes
    }

    /// What is wrong although calls are served.
    pub(super) fn fault(&self) -> Option<String> {
        self.known().fault.clone()
    }

    fn is_written(&self, partition: &str, batch: &[(RowId, RowState)], until: Instant) {
        let mut known = self.known();
        known.column.has_written(batch, until);
        known.writes.ok += 1;
        known.told.clear();
        if known.fault.take().is_some() {
            info!(partition, "states are written again");
        }
    }

    fn failed(&self, partition: &str, error: &StoreError) {
        let mut known = self.known();
        known.writes.failed += 1;
        let cause = error.to_string();
        known.fault = Some(format!("states can't be written: {cause}"));
        if is_news(&mut known.told, &cause) {
            warn!(cause, partition, "states can't be written: tried again later");
        }
    }

    /// Writes to disk what the next start is to know.
    async fn save(&self) {
        let states = self.known().column.states();
        if states == self.known().on_disk {
            return;
        }
        let (path, written) = (self.path.clone(), states.clone());
        let saved = tokio::task::spawn_blocking(move || {
            let folder = path.parent().expect("it has a folder");
            std::fs::create_dir_all(folder).and_then(|()| states::save(&path, &written))
        });
        let fault = saved.await.expect("writing does not panic").err().map(|fault| fault.to_string());
        let mut known = self.known();
        match fault {
            None => known.on_disk = states,
            Some(cause) if is_news(&mut known.told, &cause) => {
                warn!(cause, path = %self.path.display(), "what stands in the table can't be kept for the next start");
            }
            Some(_) => {}
        }
    }
}

/// Takes the states out of rows: to the engine all are active.
pub(super) fn take_out(sets: &mut Sets) {
    sets.0.iter_mut().flat_map(|set| &mut set.rows).for_each(|row| row.state = RowState::Active);
}

/// When the next write may be tried.
#[derive(Default)]
struct Pace {
    retry: Option<Retry>,
    next: Option<Instant>,
}

impl Shared {
    /// Keeps the `state` column of a source until the node stops.
    pub(in crate::server) async fn persist_states(self: Arc<Self>, nth: usize, mut stopped: watch::Receiver<bool>) {
        let (mut pace, began) = (Pace::default(), Instant::now());
        loop {
            let round = async {
                sleep(ROUND).await;
                self.persist(&self.sources[nth], &mut pace, began).await
            };
            tokio::select! {
                done = round => if done.is_err() { return },
                _ = stopped.changed() => return,
            }
        }
    }

    async fn persist(&self, source: &Source, pace: &mut Pace, began: Instant) -> Result<(), Gone> {
        let is_writer = self.writes_states(source, began);
        let mut snapshot = self.handle.fresh_snapshot().await?;
        let news = source.states.known().column.settle(&Seen::all(&snapshot), is_writer);
        if !news.is_empty() {
            for (row, said, state) in news {
                self.obey_column(row, said, state).await?;
            }
            snapshot = self.handle.fresh_snapshot().await?;
        }
        if is_writer && pace.next.is_none_or(|next| next <= Instant::now()) {
            let batch = source.states.known().column.unwritten(&Seen::all(&snapshot));
            if !batch.is_empty() {
                self.write_states(source, &batch, pace).await;
            }
        }
        source.states.save().await;
        Ok(())
    }

    async fn write_states(&self, source: &Source, batch: &[(RowId, RowState)], pace: &mut Pace) {
        let until = || Instant::now() + source.database.timeout + LAG;
        // The write itself takes no longer than a read.
        source.states.known().column.writes(batch, until() + source.database.timeout);
        let offset = i64::from(source.set_offset);
        let row = |((set, uri), state): &(RowId, RowState)| (i64::from(set.0) - offset, uri.clone(), *state);
        let rows: Vec<_> = batch.iter().map(row).collect();
        match source.store.write_states(&rows).await {
            Ok(()) => {
                source.states.is_written(&source.name, batch, until());
                *pace = Pace::default();
            }
            Err(error) => {
                source.states.failed(&source.name, &error);
                let retry = pace.retry.get_or_insert_with(|| Retry::new(RETRY.0, RETRY.1));
                pace.next = Some(Instant::now() + retry.next_pause());
            }
        }
    }

    /// Whether this node is the one that writes.
    fn writes_states(&self, source: &Source, began: Instant) -> bool {
        let Some(cluster) = &self.cluster else { return true };
        let peers = cluster.peers();
        let peers = peers.borrow();
        if peers.live.is_empty() && began.elapsed() < LISTEN {
            return false;
        }
        let understood = peers.live.iter().filter(|peer| peer.view.report.unknown_format().is_none());
        let others = understood.filter_map(|peer| {
            let told = peer.view.report.sources.get(&source.name)?;
            Some((&*peer.node, told.states?))
        });
        is_writer((&self.config.node_id, source.reads().ok), others)
    }

    async fn obey_column(&self, (set, uri): RowId, said: Said, state: RowState) -> Result<(), Gone> {
        match said {
            Said::Order(order) => {
                let standing = column::standing(order, state, SystemTime::now());
                // Who has gone meanwhile needs no order.
                self.handle.give(set, &uri, standing).await.map(drop)
            }
            Said::Down => self.begin_down((set, uri)).await,
        }
    }

    /// Holds for down what begins so and is in place now.
    pub(super) async fn begin_all_down(&self) -> Result<(), Gone> {
        for source in &self.sources {
            let down = source.states.known().column.take_down();
            for row in down {
                self.begin_down(row).await?;
            }
        }
        Ok(())
    }

    async fn begin_down(&self, (set, uri): RowId) -> Result<(), Gone> {
        let (by, reason) = (DATABASE.to_owned(), format!("state is {}", RowState::Probing as u8));
        let order = DistrustOrder { set, uri, distrust: Distrust::Down, by, reason, guarded: false };
        // What nobody watches is not held for failed: it would be so for ever.
        self.handle.distrust(order).await.map(drop)
    }
}
