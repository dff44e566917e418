//! One source of sets: where its rows are, what of them is in place, what operators have said of them, and how the reads went.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{info, warn};

use super::change::Guard;
use crate::config::{Config, Database};
use crate::edge::cluster::report::SourceReport;
use crate::edge::http::{PartitionReport, PinReport, VersionReport};
use crate::edge::metrics::StoreStatus;
use crate::edge::moment::Moment;
use crate::edge::store::order::{self, SourceOrder, SourceWord};
use crate::edge::store::snapshot::{self, LastGood, SnapshotError};
use crate::edge::store::versions::{Version, Versions};
use crate::edge::store::{AskedProbe, Digest, Load, RowContext, Store, StoreError};
use crate::engine::dispatch::Sets;
use crate::engine::flow::Listener;

/// The partition that `[database]` is.
pub(super) const DEFAULT: &str = "default";
/// Versions and the newest order, in the state folder, each partition in its own.
const VERSIONS: &str = "versions";
const ORDER_FILE: &str = "order.json";
/// A cause that lasts is told again after that.
const TELL_AGAIN: Duration = Duration::from_secs(300);
/// So many causes are remembered: a source may fail now in one way and now in another.
const MOST_TOLD: usize = 16;

/// One source of sets.
#[derive(Debug)]
pub(in crate::server) struct Source {
    /// The partition's name.
    pub(in crate::server) name: String,
    pub(in crate::server) store: Store,
    pub(super) database: Database,
    set_offset: u32,
    snapshot: PathBuf,
    order_file: PathBuf,
    /// Held while its rows are read and until they are in place, so that no older rows follow newer ones.
    pub(super) loading: tokio::sync::Mutex<()>,
    /// The rows are to be read, whatever the time.
    pub(super) wake: Notify,
    /// It has failed, and can be read again.
    pub(super) healed: Notify,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    versions: Versions,
    order: Option<SourceOrder>,
    reads: Reads,
    /// What the rows say that are in place.
    placed: Option<Digest>,
}

/// How the reads went.
#[derive(Clone, Debug, Default)]
pub(in crate::server) struct Reads {
    /// Whether the last one succeeded and its rows could be used.
    pub(in crate::server) ok: bool,
    /// Loads that took effect.
    pub(in crate::server) loads: u64,
    /// Loads that failed and left the sets as they were.
    pub(in crate::server) failed_loads: u64,
    /// Loads that would have taken out too much.
    pub(in crate::server) refused_loads: u64,
    /// When the last load took effect.
    pub(in crate::server) last_load: Option<SystemTime>,
    /// When the rows were read last.
    pub(in crate::server) last_read: Option<SystemTime>,
    /// The rows that were read last.
    pub(super) rows: Option<Digest>,
    /// What is wrong with the source or its rows; empty if nothing is.
    pub(super) faults: Vec<String>,
    /// What was found, and is not put in place without force.
    pub(super) refused: Vec<String>,
    /// What is wrong and when that was told last, oldest first.
    told: Vec<(String, Instant)>,
}

/// What is in place of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::server) struct Placed {
    /// Rows with names are not resolved.
    pub(super) sets: Sets,
    /// What these say; none of a start with what a former version of Tandem has kept.
    pub(super) digest: Option<Digest>,
    /// They are served instead of those rows.
    pub(super) instead_of: Option<Digest>,
    /// What the rows say of their probes.
    pub(super) probes: Vec<AskedProbe>,
}

impl Source {
    /// All sources of a configuration.
    ///
    /// # Errors
    /// [`StoreError`] of the first that can't be one.
    pub(super) fn all(config: &Config) -> Result<Vec<Source>, StoreError> {
        let rest = config.partitions.iter().map(|one| (one.name.as_str(), &one.database, one.set_offset));
        let all = std::iter::once((DEFAULT, &config.database, 0)).chain(rest);
        all.map(|(name, database, offset)| Source::new(config, name, database, offset)).collect()
    }

    fn new(config: &Config, name: &str, database: &Database, set_offset: u32) -> Result<Source, StoreError> {
        let folder = config.state_dir.join(VERSIONS).join(name);
        let order_file = folder.join(ORDER_FILE);
        let order = order::read(&order_file).unwrap_or_else(|cause| {
            warn!(cause, "an order is lost");
            None
        });
        let file = if name == DEFAULT { "sets.json".to_owned() } else { format!("sets-{name}.json") };
        Ok(Source {
            name: name.to_owned(),
            store: Store::new(database, &config.base)?,
            database: database.clone(),
            set_offset,
            snapshot: config.state_dir.join(file),
            order_file,
            loading: tokio::sync::Mutex::default(),
            wake: Notify::new(),
            healed: Notify::new(),
            state: Mutex::new(State {
                versions: Versions::open(folder, database.keep_versions),
                order,
                reads: Reads::default(),
                placed: None,
            }),
        })
    }

    /// Whether a node has had sets of it.
    pub(super) fn has_snapshot(&self) -> bool {
        self.snapshot.exists()
    }

    /// The last good rows on disk.
    pub(super) fn last_good(&self, listeners: &[Listener]) -> Result<LastGood, SnapshotError> {
        snapshot::read(&self.snapshot, listeners)
    }

    pub(super) fn save(&self, last_good: &LastGood, listeners: &[Listener]) -> Result<(), SnapshotError> {
        snapshot::save(&self.snapshot, last_good, listeners)
    }

    pub(super) fn guard(&self) -> Guard {
        let Database { max_removed_percent, allow_empty, .. } = self.database;
        Guard { max_removed_percent, allow_empty }
    }

    /// Reads and judges the rows.
    pub(super) async fn read(&self, listeners: &[Listener]) -> Result<Load, StoreError> {
        let Database { strictness, .. } = self.database;
        self.store.load(&RowContext { listeners, strictness, set_offset: self.set_offset }).await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the reads went so far.
    pub(in crate::server) fn reads(&self) -> Reads {
        self.state().reads.clone()
    }

    /// What the other nodes are told of it.
    pub(in crate::server) fn told(&self) -> SourceReport {
        let state = self.state();
        SourceReport { digest: state.placed, order: state.order.clone() }
    }

    /// What was last said of it.
    pub(in crate::server) fn order(&self) -> Option<SourceOrder> {
        self.state().order.clone()
    }

    /// A stamp that is greater than any that was heard.
    pub(super) fn next_stamp(&self) -> u64 {
        let now = crate::edge::store::memory::millis(SystemTime::now());
        self.order().map_or(now, |order| now.max(order.stamp + 1))
    }

    /// Takes an order if it is newer than what is known; whether it is. It is kept on disk; a disk that refuses is told of, and
    /// the order holds until the node ends.
    pub(in crate::server) fn take(&self, order: &SourceOrder) -> bool {
        let mut state = self.state();
        if !order.is_newer_than(state.order.as_ref()) {
            return false;
        }
        state.order = Some(order.clone());
        let folder = self.order_file.parent().expect("it has a folder");
        if let Err(fault) = std::fs::create_dir_all(folder).and_then(|()| order::save(&self.order_file, order)) {
            warn!(cause = %fault, partition = self.name, "an order can't be kept: a restart would not know of it");
        }
        true
    }

    /// The number of the newest version with those rows.
    pub(super) fn version_of(&self, digest: Digest) -> Option<u64> {
        self.state().versions.of(digest).map(|version| version.number)
    }

    /// The version that is meant: by its number or by what its digest begins with.
    pub(super) fn find_version(&self, wanted: &str) -> Option<Version> {
        let state = self.state();
        let is_meant = |one: &&Version| one.number.to_string() == wanted;
        let begins = |one: &&Version| wanted.len() >= 6 && one.digest.to_string().starts_with(wanted);
        let mut newest_first = state.versions.all().iter().rev();
        newest_first.clone().find(is_meant).or_else(|| newest_first.find(begins)).cloned()
    }

    /// The rows of a version.
    pub(super) fn version_sets(&self, number: u64, listeners: &[Listener]) -> Result<Sets, SnapshotError> {
        self.state().versions.sets(number, listeners)
    }

    /// Keeps what took effect as a version, unless the newest says the same.
    pub(super) fn keep_version(
        &self,
        version: Version,
        sets: &Sets,
        listeners: &[Listener],
    ) -> Result<(), SnapshotError> {
        let mut state = self.state();
        if state.versions.all().last().is_some_and(|last| last.digest == version.digest) {
            return Ok(());
        }
        state.versions.add(version, sets, listeners).map(drop)
    }

    /// Notes that rows were read that could be used.
    pub(super) fn was_read(&self, rows: Digest, faults: Vec<String>) {
        let mut state = self.state();
        let reads = &mut state.reads;
        if !reads.ok && !reads.told.is_empty() {
            info!(partition = self.name, "the store answers again");
        }
        self.answers(reads);
        reads.rows = Some(rows);
        reads.faults = faults;
        reads.refused.clear();
        reads.told.clear();
    }

    /// Notes that it can be read; whoever waits to try it again need not.
    fn answers(&self, reads: &mut Reads) {
        if !reads.ok {
            reads.told.clear();
            self.healed.notify_one();
        }
        reads.ok = true;
        reads.last_read = Some(SystemTime::now());
    }

    /// Notes what the rows say that are in place now.
    pub(super) fn is_placed(&self, placed: &Placed) {
        self.state().placed = placed.digest;
    }

    /// Notes that a load took effect.
    pub(super) fn was_placed(&self) {
        let reads = &mut self.state().reads;
        reads.loads += 1;
        reads.last_load = Some(SystemTime::now());
    }

    /// Notes why the rows could not be read or used. The log tells it once, and again after a while.
    pub(super) fn failed(&self, error: &StoreError) {
        let mut state = self.state();
        let reads = &mut state.reads;
        reads.ok = false;
        reads.failed_loads += 1;
        reads.faults = std::iter::once(error.summary()).chain(error.rows().iter().map(ToString::to_string)).collect();
        if reads.is_news(&error.to_string()) {
            warn!(cause = %error, partition = self.name, "reload failed: the sets stay as they are");
        }
    }

    /// Notes what is not put in place without force. The log tells it once, and again after a while.
    pub(super) fn refused(&self, rows: Digest, reasons: &[String]) {
        let mut state = self.state();
        let reads = &mut state.reads;
        self.answers(reads);
        reads.faults.clear();
        reads.rows = Some(rows);
        reads.refused = reasons.to_vec();
        if reads.is_news(&format!("{rows} {reasons:?}")) {
            reads.refused_loads += 1;
            let reasons = reasons.join("; ");
            warn!(reasons, %rows, partition = self.name, "a change of the rows is refused: the sets stay as they are");
        }
    }

    /// What is wrong although calls are served.
    pub(in crate::server) fn degraded(&self, placed: &Placed) -> Vec<String> {
        let of = if self.name == DEFAULT { String::new() } else { format!("partition {}: ", self.name) };
        let state = self.state();
        let refused = state.reads.refused.iter().map(|reason| {
            format!("the rows have changed and are not put in place: {reason}: `tandem reload --force` if it is meant")
        });
        let pinned = self.pinned(&state, placed).map(|pin| {
            format!(
                "version {} is pinned by {} ({}): `tandem rollback --unpin` ends it",
                pin.version, pin.by, pin.reason
            )
        });
        state.reads.faults.iter().cloned().chain(refused).chain(pinned).map(|fault| format!("{of}{fault}")).collect()
    }

    fn pinned(&self, state: &State, placed: &Placed) -> Option<PinReport> {
        let order = state.order.as_ref()?;
        let SourceWord::Pin { version, instead_of } = order.word else { return None };
        (placed.instead_of == Some(instead_of)).then(|| PinReport {
            version: state.versions.of(version).map_or_else(|| version.to_string(), |found| found.number.to_string()),
            instead_of: instead_of.to_string(),
            by: order.by.clone(),
            reason: order.reason.clone(),
            at: Moment(crate::edge::store::memory::from_millis(order.stamp)),
        })
    }

    /// The same as numbers.
    pub(in crate::server) fn status(&self, placed: &Placed) -> StoreStatus {
        let state = self.state();
        let Reads { ok, loads, failed_loads, refused_loads, last_load, last_read, ref refused, .. } = state.reads;
        let (partition, refused) = (self.name.clone(), !refused.is_empty());
        let pinned = self.pinned(&state, placed).is_some();
        StoreStatus { partition, ok, loads, failed_loads, refused_loads, last_load, last_read, refused, pinned }
    }

    /// All of it for people.
    pub(in crate::server) fn report(&self, placed: &Placed) -> PartitionReport {
        let state = self.state();
        let reads = &state.reads;
        let in_place = placed.digest.and_then(|digest| state.versions.of(digest)).map(|version| version.number);
        let version = |one: &Version| VersionReport {
            number: one.number,
            digest: one.digest.to_string(),
            at: Moment(one.at),
            by: one.by.clone(),
            reason: one.reason.clone(),
            destinations: one.destinations,
            in_place: Some(one.number) == in_place,
        };
        PartitionReport {
            partition: self.name.clone(),
            source: self.store.to_string(),
            ok: reads.ok,
            read: reads.last_read.map(Moment),
            version: in_place,
            digest: placed.digest.map(|digest| digest.to_string()),
            pinned: self.pinned(&state, placed),
            refused: reads.refused.clone(),
            faults: reads.faults.clone(),
            versions: state.versions.all().iter().map(version).collect(),
        }
    }
}

impl Reads {
    /// Whether that was not told yet, or long ago.
    fn is_news(&mut self, cause: &str) -> bool {
        self.told.retain(|(_, at)| at.elapsed() < TELL_AGAIN);
        if self.told.iter().any(|(told, _)| told == cause) {
            return false;
        }
        if self.told.len() == MOST_TOLD {
            self.told.remove(0);
        }
        self.told.push((cause.to_owned(), Instant::now()));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_that_take_turns_are_each_told_once() {
        let mut reads = Reads::default();
        let told = ["refused", "no answer", "refused", "no answer"].map(|cause| reads.is_news(cause));
        assert_eq!(told, [true, true, false, false]);
        assert!((0..MOST_TOLD).all(|number| reads.is_news(&number.to_string())));
        assert_eq!(reads.told.len(), MOST_TOLD, "what peers and people write fills no memory");
    }
}
