//! One source of sets: where its rows are, what of them is in place, what operators have said of them, and how the reads went.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tracing::{info, warn};

use super::change::Guard;
use super::persist::{States, Writes, take_out};
use super::reads::Reads;
use crate::config::{Config, Database};
use crate::edge::cluster::report::SourceReport;
use crate::edge::http::{PartitionReport, PinReport, VersionReport};
use crate::edge::metrics::StoreStatus;
use crate::edge::moment::Moment;
use crate::edge::store::memory::{from_millis, millis};
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
/// What stands in the `state` column, beside them.
const STATES_FILE: &str = "states.json";
/// An order from further ahead than that is nobody's.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Characters of an order's giver and reason.
const WORDS: usize = 256;

/// One source of sets.
#[derive(Debug)]
pub(in crate::server) struct Source {
    /// The partition's name.
    pub(in crate::server) name: String,
    pub(in crate::server) store: Store,
    pub(super) database: Database,
    /// What its sets' numbers are above those of its rows.
    pub(in crate::server) set_offset: u32,
    snapshot: PathBuf,
    order_file: PathBuf,
    /// Held while its rows are read and until they are in place, so that no older rows follow newer ones.
    pub(super) loading: tokio::sync::Mutex<()>,
    /// The rows are to be read, whatever the time.
    pub(super) wake: Notify,
    /// What stands in the `state` column; nothing is known of it without `persist_state`.
    pub(in crate::server) states: States,
    /// It has failed, and can be read again.
    pub(super) healed: Notify,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    versions: Versions,
    order: Option<SourceOrder>,
    reads: Reads,
    /// What the rows say that are in place, and those that they are served instead of.
    placed: (Option<Digest>, Option<Digest>),
    /// The stamp of the order whose force is used up.
    forced: Option<u64>,
    /// What is in place is not on disk.
    unsaved: bool,
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
            warn!(cause, "an order of before is lost");
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
            states: States::open(folder.join(STATES_FILE), database.persist_state),
            healed: Notify::new(),
            state: Mutex::new(State {
                versions: Versions::open(folder, database.keep_versions),
                order,
                reads: Reads::default(),
                placed: (None, None),
                forced: None,
                unsaved: false,
            }),
        })
    }

    /// What it is, for a later start.
    pub(super) fn identity(&self) -> String {
        format!("{} + {}", self.store, self.set_offset)
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

    /// Reads and judges the rows, to be put in place.
    pub(super) async fn read(&self, listeners: &[Listener]) -> Result<Load, StoreError> {
        let mut load = self.load(listeners).await?;
        if self.persists() {
            self.states.note(&load.sets);
            take_out(&mut load.sets);
        }
        Ok(load)
    }

    /// The same to be looked at only.
    pub(super) async fn look(&self, listeners: &[Listener]) -> Result<Load, StoreError> {
        let mut load = self.load(listeners).await?;
        if self.persists() {
            take_out(&mut load.sets);
        }
        Ok(load)
    }

    async fn load(&self, listeners: &[Listener]) -> Result<Load, StoreError> {
        let Database { strictness, .. } = self.database;
        self.store.load(&RowContext { listeners, strictness, set_offset: self.set_offset }).await
    }

    /// Whether the `state` column is written back.
    pub(in crate::server) fn persists(&self) -> bool {
        self.database.persist_state
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
        let states = self.persists().then_some(state.reads.ok);
        SourceReport { digest: state.placed.0, order: state.order.clone(), states }
    }

    /// What was last said of it.
    pub(in crate::server) fn order(&self) -> Option<SourceOrder> {
        self.state().order.clone()
    }

    /// Takes another node's order if it is newer than what is known, and of no time to come; whether it does.
    pub(in crate::server) fn take(&self, order: &SourceOrder) -> bool {
        let mut state = self.state();
        let ahead = millis(SystemTime::now() + DAY);
        if order.stamp > ahead || !order.is_newer_than(state.order.as_ref()) {
            return false;
        }
        let words = |text: &str| text.chars().take(WORDS).collect();
        let order = SourceOrder { by: words(&order.by), reason: words(&order.reason), ..order.clone() };
        self.hold(&mut state, order);
        true
    }

    /// Gives an order of this node, newer than any that was heard. Its force is used.
    pub(super) fn give(&self, node: &str, by: String, reason: String, word: SourceWord) {
        let mut state = self.state();
        let now = millis(SystemTime::now());
        let stamp = state.order.as_ref().map_or(now, |order| now.max(order.stamp.saturating_add(1)));
        state.forced = Some(stamp);
        self.hold(&mut state, SourceOrder { stamp, node: node.to_owned(), by, reason, word });
    }

    /// Keeps an order on disk; a disk that refuses is told of, and the order holds until the node ends.
    fn hold(&self, state: &mut State, order: SourceOrder) {
        let folder = self.order_file.parent().expect("it has a folder");
        if let Err(fault) = std::fs::create_dir_all(folder).and_then(|()| order::save(&self.order_file, &order)) {
            warn!(cause = %fault, partition = self.name, "an order can't be kept: a restart would not know of it");
        }
        state.order = Some(order);
    }

    /// Whether an order says that these rows be put in place whatever they take out, and it has not been obeyed yet.
    pub(super) fn is_forced(&self, rows: Digest, are_placed: bool) -> bool {
        let state = self.state();
        let Some(SourceOrder { stamp, word, .. }) = &state.order else { return false };
        *word == SourceWord::Load { rows, force: true } && state.forced != Some(*stamp) && !are_placed
    }

    /// The number of the newest version with those rows.
    pub(super) fn version_of(&self, digest: Digest) -> Option<u64> {
        self.state().versions.of(digest).map(|version| version.number)
    }

    /// Keeps a version of another node; what is wrong with it is told.
    pub(super) fn adopt(&self, version: Digest, text: &str) -> bool {
        let mut state = self.state();
        let adopted = state.versions.adopt(version, text);
        if let Err(cause) = &adopted
            && state.reads.is_news(cause)
        {
            warn!(cause, partition = self.name, "another node's version can't be kept");
        }
        adopted.is_ok()
    }

    /// A version as text for other nodes.
    pub(super) fn version_text(&self, digest: Digest) -> Option<String> {
        let state = self.state();
        let number = state.versions.of(digest)?.number;
        state.versions.text(number).ok()
    }

    /// Notes why a version that was ordered is not in place.
    pub(super) fn lacks(&self, cause: &str) {
        let mut state = self.state();
        state.reads.faults = vec![cause.to_owned()];
        if state.reads.is_news(cause) {
            warn!(cause, partition = self.name, "the sets stay as they are");
        }
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
        // An order's force is for the first time that its rows are read.
        if let Some(SourceOrder { stamp, word: SourceWord::Load { rows: of_order, .. }, .. }) = state.order
            && of_order == rows
        {
            state.forced = Some(stamp);
        }
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
    pub(in crate::server) fn is_placed(&self, placed: &Placed) {
        self.state().placed = (placed.digest, placed.instead_of);
    }

    /// Notes whether what is in place is on disk.
    pub(super) fn is_saved(&self, saved: bool) {
        self.state().unsaved = !saved;
    }

    /// Whether what is in place is still to be put on disk.
    pub(super) fn is_unsaved(&self) -> bool {
        self.state().unsaved
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
    pub(in crate::server) fn degraded(&self) -> Vec<String> {
        let of = if self.name == DEFAULT { String::new() } else { format!("partition {}: ", self.name) };
        let state = self.state();
        let refused = state.reads.refused.iter().map(|reason| {
            format!("the rows have changed and are not put in place: {reason}: `tandem reload --force` if it is meant")
        });
        let pinned = self.pinned(&state).map(|pin| {
            format!(
                "version {} is pinned by {} ({}): `tandem rollback --unpin` ends it",
                pin.version, pin.by, pin.reason
            )
        });
        let unwritten = self.states.fault();
        let all = state.reads.faults.iter().cloned().chain(refused).chain(pinned).chain(unwritten);
        all.map(|fault| format!("{of}{fault}")).collect()
    }

    fn pinned(&self, state: &State) -> Option<PinReport> {
        let order = state.order.as_ref()?;
        let SourceWord::Pin { version, instead_of } = order.word else { return None };
        (state.placed.1 == Some(instead_of)).then(|| PinReport {
            version: state.versions.of(version).map_or_else(|| version.to_string(), |found| found.number.to_string()),
            instead_of: instead_of.to_string(),
            by: order.by.clone(),
            reason: order.reason.clone(),
            at: Moment(from_millis(order.stamp)),
        })
    }

    /// The same as numbers.
    pub(in crate::server) fn status(&self) -> StoreStatus {
        let state = self.state();
        let Reads { ok, loads, failed_loads, refused_loads, last_load, last_read, ref refused, .. } = state.reads;
        let (partition, refused) = (self.name.clone(), !refused.is_empty());
        let pinned = self.pinned(&state).is_some();
        let Writes { ok: state_writes, failed: failed_state_writes } = self.states.writes();
        StoreStatus {
            partition,
            ok,
            loads,
            failed_loads,
            refused_loads,
            last_load,
            last_read,
            refused,
            pinned,
            state_writes,
            failed_state_writes,
        }
    }

    /// All of it for people.
    pub(in crate::server) fn report(&self) -> PartitionReport {
        let state = self.state();
        let reads = &state.reads;
        let in_place = state.placed.0.and_then(|digest| state.versions.of(digest)).map(|version| version.number);
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
            digest: state.placed.0.map(|digest| digest.to_string()),
            pinned: self.pinned(&state),
            refused: reads.refused.clone(),
            faults: reads.faults.clone(),
            versions: state.versions.all().iter().map(version).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::scratch::Folder;

    fn source(folder: &Folder) -> Source {
        let text = "state_dir = \"state\"\n[[listener]]\nbind = \"udp:127.0.0.1:8060\"\n";
        let config = Config::parse("t.toml", text, folder.path()).expect("valid");
        Source::all(&config).expect("one").remove(0)
    }

    #[test]
    fn no_order_of_a_time_to_come_holds_and_ours_is_newer_than_any() {
        let folder = Folder::new();
        let word = SourceWord::Load { rows: Digest::default(), force: false };
        let by =
            |stamp| SourceOrder { stamp, node: "z".into(), by: "x".repeat(999), reason: "".into(), word: word.clone() };
        let now = millis(SystemTime::now());
        let first = source(&folder);
        for stamp in [u64::MAX, now + 25 * 3_600_000] {
            assert!(!first.take(&by(stamp)), "{stamp}");
        }
        let ahead = now + 23 * 3_600_000;
        assert!(first.take(&by(ahead)) && !first.take(&by(ahead)));
        assert_eq!(first.order().map(|order| order.by.len()), Some(WORDS));
        first.give("a", "ann".into(), "disk".into(), word.clone());
        // It is kept over a restart, and no node takes it for an older one.
        let again = source(&folder).order().expect("kept");
        assert_eq!((again.stamp, again.by.as_str()), (ahead + 1, "ann"));
    }
}
