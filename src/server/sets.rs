//! A node's sets: from their sources or the disk, with their names resolved, into the engine; and again when they change.

mod change;
mod judge;
mod operator;
mod persist;
mod reads;
mod source;
mod versions;
mod watch;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Semaphore, mpsc, watch as channel};
use tokio::time::{Instant, timeout};
use tracing::{error, info, warn};

use super::names::Resolved;
use super::node::{NodeError, Shared};
use super::{Gone, Lookup};
use crate::config::Config;
use crate::edge::http::{PartitionReport, ReloadFailed, Reloaded, StoreReport};
use crate::edge::metrics::StoreStatus;
use crate::edge::resolve::{Address, Question};
use crate::edge::store::order::SourceWord;
use crate::edge::store::snapshot::SnapshotError;
use crate::edge::store::versions::Version;
use crate::edge::store::{Load, StoreError};
use crate::engine::dispatch::{Remembered, SetId, Sets};
use crate::engine::event::Changes;

use judge::{Next, Unplaced};

pub(super) use judge::Ask;
pub(super) use source::{Placed, Source};

/// Names of messages that are looked up at once.
const LOOKUPS_AT_ONCE: usize = 64;
/// How long one waits for its turn: as long as the engine waits for the answer.
const WAIT_FOR_TURN: Duration = Duration::from_secs(2);

/// What is in place.
#[derive(Debug, Default)]
pub(super) struct Current {
    /// Of each source, as it is on disk.
    pub(super) placed: Vec<Placed>,
    /// Where the names in them led last.
    pub(super) names: Vec<(Question, Vec<Address>)>,
    /// All of them with their names resolved: what the engine has.
    pub(super) sets: Sets,
    /// When the first name has to be looked up again.
    pub(super) due: Option<Instant>,
}

/// What is wrong beside the sources.
#[derive(Debug, Default)]
pub(super) struct Status {
    /// What is wrong with names.
    pub(super) names: Vec<String>,
    /// What does not go together with the configuration, or could not be kept.
    pub(super) strays: Vec<String>,
    /// Why orders and health can't be kept.
    pub(super) memory: Option<String>,
}

impl Status {
    /// What is wrong although calls are served.
    pub(super) fn degraded(&self) -> Vec<String> {
        self.names.iter().chain(&self.strays).chain(&self.memory).cloned().collect()
    }
}

/// What a start found.
pub(super) struct First {
    pub(super) sources: Vec<Source>,
    /// Where names led last, as far as the disk knows.
    pub(super) known: Vec<(Question, Vec<Address>)>,
    /// Of each source, what the disk had.
    pub(super) placed: Vec<Placed>,
    /// Of each source, what is to be in place; none: what the disk had, and the source is to be asked again.
    pub(super) next: Vec<Option<Next>>,
}

impl First {
    /// The newest source has what it had last, or nothing, if another has one of its sets.
    fn leave_out_doubles(&mut self) {
        let at = self.sources.len() - 1;
        let of = |nth: usize| &self.next[nth].as_ref().map_or(&self.placed[nth], |next| &next.placed).sets.0;
        let double = of(at).iter().find_map(|set| {
            let other = (0..at).find(|&other| of(other).iter().any(|one| one.id == set.id))?;
            Some(in_two(set.id, &self.sources[other].name, &self.sources[at].name))
        });
        let Some(cause) = double else { return };
        let taken: HashSet<_> = (0..at).flat_map(|other| of(other).iter().map(|set| set.id)).collect();
        self.sources[at].lacks(&cause);
        self.next[at] = None;
        self.placed[at].sets.0.retain(|set| !taken.contains(&set.id));
    }

    /// What is to be in place.
    pub(super) fn sets(&self) -> Sets {
        let each = self.placed.iter().zip(&self.next);
        union(each.map(|(placed, next)| next.as_ref().map_or(placed, |next| &next.placed)))
    }
}

/// The sources' sets, else the last good ones.
pub(super) async fn first_sets(config: &Config) -> Result<First, NodeError> {
    let listeners = &config.listeners;
    let missing =
        || SnapshotError::Read { path: config.state_dir.join("sets.json"), source: io::ErrorKind::NotFound.into() };
    let sources = Source::all(config).map_err(|store| no_sets(store, missing()))?;
    let mut first = First { sources: Vec::new(), known: Vec::new(), placed: Vec::new(), next: Vec::new() };
    for source in sources {
        let last_good = source.last_good(listeners);
        let made = match source.has_snapshot() {
            // A node that had sets had a source: one that is gone must not come back empty.
            true => Ok(()),
            false => source.store.make().await,
        };
        let read = match made {
            Ok(()) => source.read(listeners).await,
            Err(error) => Err(error),
        };
        let placed = last_good.as_ref().map(Placed::of).unwrap_or_default();
        first.known.extend(last_good.as_ref().map(|last_good| last_good.names.clone()).unwrap_or_default());
        let is_its = last_good.as_ref().is_ok_and(|last_good| {
            last_good.source.as_ref().is_none_or(|source_then| *source_then == source.identity())
        });
        if last_good.is_ok() && !is_its {
            info!(partition = source.name, "the source is another than before: its rows are taken as they are");
        }
        // Nothing is taken out of what is not this source's.
        let compared = if is_its { placed.clone() } else { Placed::default() };
        let next = match source.judge(&compared, read, &Ask::Start, listeners) {
            Ok(next) => Some(next),
            Err(unplaced) => {
                if last_good.is_ok() {
                    error!(cause = %unplaced, "the store's rows can't be used: started with the last good sets");
                }
                if let (Err(snapshot), Unplaced::Store(store)) = (last_good, unplaced) {
                    return Err(no_sets(store, snapshot));
                }
                None
            }
        };
        first.sources.push(source);
        first.placed.push(placed);
        first.next.push(next);
        first.leave_out_doubles();
    }
    Ok(first)
}

fn in_two(set: SetId, one: &str, other: &str) -> String {
    format!("set {} is in the partitions {one} and {other}: give one of them another set_offset", set.0)
}

fn no_sets(store: StoreError, snapshot: SnapshotError) -> NodeError {
    NodeError::NoSets { store: Box::new(store), snapshot: Box::new(snapshot) }
}

fn union<'a>(placed: impl Iterator<Item = &'a Placed>) -> Sets {
    Sets(placed.flat_map(|placed| placed.sets.0.iter().cloned()).collect())
}

impl Shared {
    /// Reads the rows of those sources, all others staying as they are, and puts all in place, or nothing.
    pub(super) async fn load(&self, which: &[usize], ask: &Ask) -> Result<Reloaded, ReloadFailed> {
        let listeners = self.handle.listeners();
        let mut held = Vec::new();
        let mut reads = Vec::new();
        for source in which.iter().map(|&nth| &self.sources[nth]) {
            held.push(source.loading.lock().await);
        }
        for &nth in which {
            reads.push((nth, self.sources[nth].read(listeners).await));
        }
        let mut current = self.current.lock().await;
        let (mut nexts, mut unplaced) = (Vec::new(), Vec::new());
        for (nth, read) in reads {
            let source = &self.sources[nth];
            match source.judge(&current.placed[nth], read, ask, listeners) {
                Ok(next) => nexts.push((nth, next)),
                Err(cause) => unplaced.push((source.name.as_str(), cause)),
            }
        }
        if let [(first, _), ..] = &unplaced[..] {
            let of = if self.sources.len() == 1 { String::new() } else { format!("partition {first}: ") };
            return Err(judge::failed(&of, unplaced.into_iter().map(|(_, cause)| cause)));
        }
        if let Some(error) = self.twice(&current, &nexts) {
            nexts.iter().for_each(|(nth, _)| self.sources[*nth].lacks(&error));
            return Err(ReloadFailed { error, ..ReloadFailed::default() });
        }
        let is_new =
            |(nth, next): &(usize, Next)| current.placed[*nth] != next.placed || self.sources[*nth].is_unsaved();
        if !ask.is_by_hand() && !nexts.iter().any(is_new) {
            return Ok(Reloaded::default());
        }
        let reloaded = self.put_in_place(&mut current, nexts, ask).await;
        reloaded.map_err(|gone| ReloadFailed { error: gone.to_string(), ..ReloadFailed::default() })
    }

    /// A set that two sources have.
    fn twice(&self, current: &Current, nexts: &[(usize, Next)]) -> Option<String> {
        let mut of: BTreeMap<SetId, &str> = BTreeMap::new();
        for (nth, source) in self.sources.iter().enumerate() {
            let next = nexts.iter().find(|(of, _)| *of == nth).map(|(_, next)| &next.placed);
            for set in &next.unwrap_or(&current.placed[nth]).sets.0 {
                if let Some(other) = of.insert(set.id, &source.name) {
                    return Some(in_two(set.id, other, &source.name));
                }
            }
        }
        None
    }

    pub(super) async fn put_in_place(
        &self,
        current: &mut Current,
        nexts: Vec<(usize, Next)>,
        ask: &Ask,
    ) -> Result<Reloaded, Gone> {
        let listeners = self.handle.listeners();
        let (mut faults, mut unkept) = (Vec::new(), Vec::new());
        let mut versions = Vec::new();
        for (nth, Next { placed, faults: left_out, ends_order }) in nexts {
            left_out.iter().for_each(|fault| warn!(%fault, "row left out"));
            faults.extend(left_out);
            versions.push((nth, ends_order, current.placed[nth] != placed));
            current.placed[nth] = placed;
        }
        let resolved = self.names.resolve(&union(current.placed.iter())).await;
        current.names.clone_from(&resolved.names);
        for (nth, ends_order, is_new) in versions {
            let (source, placed) = (&self.sources[nth], &current.placed[nth]);
            source.is_placed(placed);
            let saved = source.save(&placed.last_good(&source.identity(), &current.names), listeners);
            let kept = match placed.instead_of {
                // It is one already.
                Some(_) => Ok(()),
                None => source.keep_version(self.version(source, placed, ask), &placed.sets, listeners),
            };
            let kept = saved.and(kept);
            source.is_saved(kept.is_ok());
            unkept.extend(kept.err().map(|error| error.to_string()));
            self.give_order(source, placed, ask, ends_order);
            if is_new || ask.is_by_hand() {
                source.was_placed();
            }
        }
        unkept.iter().for_each(|cause| warn!(cause, "the last good sets can't be kept"));
        let asked: Vec<_> = current.placed.iter().flat_map(|placed| placed.probes.iter().cloned()).collect();
        let mut strays = self.config.strays(&resolved.sets);
        strays.extend(self.config.unlike_probes(&asked));
        strays.iter().for_each(|cause| warn!(cause, "a destination is not probed as configured"));
        let unresolved = resolved.faults.clone();
        let mut begun = Vec::new();
        self.sources.iter().for_each(|source| source.states.begin(&resolved.sets, &mut begun));
        let changes = self.replace(current, resolved, begun).await?;
        self.begin_all_down().await?;
        let told: Vec<_> = strays.into_iter().chain(unkept).collect();
        self.status().strays.clone_from(&told);
        faults.extend(told.into_iter().chain(unresolved));
        let Changes { added, removed, changed, .. } = changes;
        Ok(Reloaded { added, removed, changed, faults, partitions: self.in_place() })
    }

    /// What takes effect, for those who may want it back.
    fn version(&self, source: &Source, placed: &Placed, ask: &Ask) -> Version {
        let digest = placed.digest.expect("what was read has one");
        let told = source.order().filter(|order| order.rows() == digest);
        let (by, reason) = match (ask.giver(), told) {
            (Some((by, reason)), _) => (by.to_owned(), reason.to_owned()),
            (None, Some(order)) => (order.by, order.reason),
            (None, None) if matches!(ask, Ask::Start) => (self.config.node_id.clone(), "found at the start".to_owned()),
            (None, None) => (self.config.node_id.clone(), "the rows have changed".to_owned()),
        };
        Version { number: 0, digest, at: SystemTime::now(), by, reason, destinations: 0 }
    }

    /// What is said of the source from now on, here and on the other nodes.
    fn give_order(&self, source: &Source, placed: &Placed, ask: &Ask, ends_order: bool) {
        let Some(digest) = placed.digest else { return };
        let load = |force| SourceWord::Load { rows: digest, force };
        let (by, reason, word) = match (ask, placed.instead_of) {
            (Ask::Pin { by, reason, version, .. }, Some(instead_of)) => {
                (by.clone(), reason.clone(), SourceWord::Pin { version: *version, instead_of })
            }
            (Ask::Reload { by, reason, force, .. } | Ask::Pin { by, reason, force, .. }, _) => {
                (by.clone(), reason.clone(), load(*force))
            }
            (Ask::Start | Ask::Found | Ask::Told, _) if ends_order => {
                (self.config.node_id.clone(), "the rows have changed".to_owned(), load(false))
            }
            (Ask::Start | Ask::Found | Ask::Told, _) => return,
        };
        source.give(&self.config.node_id, by, reason, word);
    }

    /// What is in place, and what was.
    pub(super) fn store_report(&self) -> StoreReport {
        StoreReport { node: self.config.node_id.clone(), partitions: self.in_place() }
    }

    /// How the loads went, for the metrics.
    pub(super) fn store_statuses(&self) -> Vec<StoreStatus> {
        self.sources.iter().map(Source::status).collect()
    }

    fn in_place(&self) -> Vec<PartitionReport> {
        self.sources.iter().map(Source::report).collect()
    }

    /// Gives the engine what was resolved, with the orders that new rows begin with.
    async fn replace(
        &self,
        current: &mut Current,
        resolved: Resolved,
        begun: Vec<Remembered>,
    ) -> Result<Changes, Gone> {
        let Resolved { sets, names: _, faults, expires } = resolved;
        self.tell(faults);
        current.due = expires.map(|expires| Instant::now() + expires);
        current.sets.clone_from(&sets);
        let changes = self.handle.replace_with(sets, begun).await?;
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

    /// Looks names up again whenever an answer expires; what changed is put in place.
    pub(super) async fn renew_names(self: Arc<Self>, mut stopped: channel::Receiver<bool>) {
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
        let resolved = self.names.resolve(&union(current.placed.iter())).await;
        if current.names != resolved.names {
            current.names.clone_from(&resolved.names);
            for (source, placed) in self.sources.iter().zip(&current.placed) {
                if let Err(error) =
                    source.save(&placed.last_good(&source.identity(), &current.names), self.handle.listeners())
                {
                    warn!(cause = %error, "the last good addresses can't be kept");
                }
            }
        }
        if current.sets != resolved.sets {
            self.replace(&mut current, resolved, Vec::new()).await?;
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
        mut stopped: channel::Receiver<bool>,
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

    pub(super) fn status(&self) -> std::sync::MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the rows of the sources can be loaded: what `check` asks beyond the configuration. A database that the first start
/// will make is no fault.
///
/// # Errors
/// Every fault of every source, in words.
pub async fn check_rows(config: &Config) -> Result<Option<Load>, Vec<String>> {
    let mut all: Option<Load> = None;
    let mut of: BTreeMap<SetId, String> = BTreeMap::new();
    let mut faults = Vec::new();
    let sources = Source::all(config).map_err(|fault| vec![fault.to_string()])?;
    let is_alone = sources.len() == 1;
    for source in sources {
        // A node that had sets had a source: one that is gone is not made again.
        if !source.store.is_there() && source.store.has_folder() && !source.has_snapshot() {
            continue;
        }
        let name = if is_alone { String::new() } else { format!("partition {}: ", source.name) };
        let load = match source.look(&config.listeners).await {
            Ok(load) => load,
            Err(fault) => {
                faults.push(format!("{name}{fault}"));
                continue;
            }
        };
        for set in &load.sets.0 {
            if let Some(other) = of.insert(set.id, source.name.clone()) {
                faults.push(in_two(set.id, &other, &source.name));
            }
        }
        let all = all.get_or_insert_default();
        all.sets.0.extend(load.sets.0);
        all.faults.extend(load.faults);
        all.rows += load.rows;
        all.probes.extend(load.probes);
    }
    if faults.is_empty() { Ok(all) } else { Err(faults) }
}
