//! What a node remembers of its destinations over a restart: orders given by hand, and who was not well.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Mutex, Notify, watch};
use tokio::time::sleep;
use tracing::{info, warn};

use super::Gone;
use super::node::Shared;
use crate::config::Config;
use crate::edge::store::memory::{self, GivenOrder, KeptHealth, Memory, MemoryError};
use crate::engine::dispatch::{Remembered, SetId, Sets};
use crate::engine::event::Event;

/// Orders and health, in the state folder.
const FILE: &str = "destinations.json";
/// Time between two writes.
const PAUSE: Duration = Duration::from_secs(1);
/// How often one looks although nothing was heard: events may be dropped.
const LOOK: Duration = Duration::from_secs(10);

/// Keeps the file.
#[derive(Debug)]
pub(super) struct Keeper {
    path: PathBuf,
    /// Health that is older means nothing any more.
    ttl: Duration,
    /// Something may have changed.
    stirred: Arc<Notify>,
    // Held while it is written.
    on_disk: Mutex<Memory>,
}

impl Keeper {
    /// Reads what an earlier start has left. A file that can't be read is told of and ignored.
    pub(super) fn new(config: &Config) -> Self {
        let path = config.state_dir.join(FILE);
        let on_disk = memory::read(&path).unwrap_or_else(|fault| {
            warn!(cause = %fault, "nothing is remembered of destinations");
            None
        });
        let on_disk = Mutex::new(on_disk.unwrap_or_default());
        Keeper { path, ttl: config.health.state_ttl, stirred: Arc::default(), on_disk }
    }

    /// What of it concerns these sets now.
    pub(super) async fn remembered(&self, sets: &Sets) -> Vec<Remembered> {
        remembered(&*self.on_disk.lock().await, sets, self.ttl, SystemTime::now())
    }

    /// For whoever hears of events.
    pub(super) fn stirrer(&self) -> Stirrer {
        Stirrer(Arc::clone(&self.stirred))
    }
}

/// Tells the keeper of what may have changed.
#[derive(Debug)]
pub(super) struct Stirrer(Arc<Notify>);

impl Stirrer {
    pub(super) fn hear(&self, event: &Event) {
        if matches!(event, Event::Health(_) | Event::Ordered { .. } | Event::SetsReplaced(_)) {
            self.0.notify_one();
        }
    }
}

impl Shared {
    /// Writes whenever something has changed.
    pub(super) async fn keep_memory(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = self.keeper.stirred.notified() => {}
                () = self.handle.order_given() => {}
                () = sleep(LOOK.min(self.keeper.ttl / 4)) => {}
                _ = stopped.changed() => return,
            }
            if self.keep().await.is_err() {
                return;
            }
            tokio::select! {
                () = sleep(PAUSE) => {}
                _ = stopped.changed() => return,
            }
        }
    }

    /// Writes what is known now, if the disk does not have it. What can't be written is told, and tried again later.
    pub(super) async fn keep(&self) -> Result<Result<(), MemoryError>, Gone> {
        let Keeper { path, ttl, on_disk, .. } = &self.keeper;
        let mut on_disk = on_disk.lock().await;
        let snapshot = self.handle.fresh_snapshot().await?;
        let memory = Memory::of(&snapshot, SystemTime::now());
        // Long before the file would be held for stale, it says again that all is as it was.
        let is_young = memory.written.duration_since(on_disk.written).is_ok_and(|age| age < *ttl / 4);
        if memory.agrees(&on_disk) && (is_young || memory.health.is_empty()) {
            return Ok(Ok(()));
        }
        let (path, written) = (path.clone(), memory.clone());
        let saved = tokio::task::spawn_blocking(move || memory::save(&path, &written)).await;
        let saved = saved.expect("writing does not panic");
        match &saved {
            Ok(()) => {
                *on_disk = memory;
                if self.status().memory.take().is_some() {
                    info!("orders and health are kept again");
                }
            }
            Err(fault) => {
                self.handle.not_kept();
                if self.status().memory.replace(fault.to_string()).is_none() {
                    warn!(cause = %fault, "orders and health can't be kept: a restart would not know of the latest");
                }
            }
        }
        Ok(saved)
    }
}

/// What of `memory` concerns the rows of `sets`: an order while the row's state is what it was, health while it is young.
fn remembered(memory: &Memory, sets: &Sets, ttl: Duration, now: SystemTime) -> Vec<Remembered> {
    let Memory { written, orders, health } = memory;
    // A clock that was set back a little is no reason to try the dead.
    let age = now.duration_since(*written).unwrap_or_else(|ahead| ahead.duration());
    let health = if age < ttl { health.as_slice() } else { &[] };
    if age >= ttl && !memory.health.is_empty() {
        info!(?age, destinations = memory.health.len(), "health from before the restart is too old: ignored");
    }
    let orders: HashMap<(SetId, &str), &GivenOrder> =
        orders.iter().map(|order| ((order.set, order.uri.as_str()), order)).collect();
    let health: HashMap<_, &KeptHealth> =
        health.iter().map(|kept| ((kept.set, kept.uri.as_str(), kept.address), kept)).collect();
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for (set, row) in sets.0.iter().flat_map(|set| set.rows.iter().map(|row| (set.id, row))) {
        let (uri, address) = (row.uri.as_str(), row.address);
        if !seen.insert((set, uri, address)) {
            continue;
        }
        let given = orders.get(&(set, uri)).copied();
        if given.is_some_and(|given| given.state != row.state) {
            info!(set = set.0, destination = uri, "the row's state has changed since: its order is forgotten");
        }
        let standing = given.filter(|given| given.state == row.state).map(|given| given.standing.clone());
        let kept = health.get(&(set, uri, address)).map(|kept| kept.kept(now));
        if standing.is_some() || kept.is_some() {
            all.push(Remembered { set, uri: uri.to_owned(), address, standing, kept });
        }
    }
    if !all.is_empty() {
        info!(destinations = all.len(), "remembered from before the restart");
    }
    all
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::engine::dispatch::{Kept, Order, Row, RowState, Set, Standing};

    const SET: SetId = SetId(19);

    fn row(uri: &str, port: u16, state: RowState) -> Row {
        Row { state, ..Row::new(uri.to_owned(), ([127, 0, 0, 1], port).into()) }
    }

    fn sets(rows: Vec<Row>) -> Sets {
        Sets(vec![Set { id: SET, rows }])
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
    }

    fn standing() -> Standing {
        Standing { order: Order::Drain, by: "ann".to_owned(), reason: "disk".to_owned(), at: at(0), deadline: None }
    }

    fn memory() -> Memory {
        let given = GivenOrder { set: SET, uri: "sip:a".to_owned(), state: RowState::Active, standing: standing() };
        let kept = KeptHealth {
            set: SET,
            uri: "sip:a".to_owned(),
            address: ([127, 0, 0, 1], 1).into(),
            probes_down: true,
            ejected: Some((2, Some(at(20)))),
            busy: Some(at(30)),
            penalty: None,
        };
        Memory { written: at(10), orders: vec![given], health: vec![kept] }
    }

    const TTL: Duration = Duration::from_secs(300);

    #[test]
    fn an_order_is_for_each_address_and_health_for_its_own() {
        let rows = vec![row("sip:a", 1, RowState::Active), row("sip:a", 2, RowState::Active)];
        let all = remembered(&memory(), &sets(rows), TTL, at(15));
        let left = Duration::from_secs;
        let kept = Kept { probes_down: true, ejected: Some((left(5), 2)), busy: Some(left(15)), ..Kept::default() };
        let found: Vec<_> = all.iter().map(|one| (one.address.port(), one.standing.clone(), one.kept)).collect();
        assert_eq!(found, [(1, Some(standing()), Some(kept)), (2, Some(standing()), None)]);
    }

    #[test]
    fn stale_health_is_ignored_and_orders_are_not() {
        let sets = sets(vec![row("sip:a", 1, RowState::Active)]);
        // 300 seconds after it was written, and before: a clock may have been set back by a little or by years.
        for (now, young) in [(at(309), true), (at(310), false), (at(1_000_000), false), (at(0), true)] {
            let all = remembered(&memory(), &sets, TTL, now);
            assert_eq!((all[0].kept.is_some(), all[0].standing.is_some()), (young, true), "{now:?}");
        }
        let all = remembered(&memory(), &sets, TTL, UNIX_EPOCH);
        assert_eq!((all[0].kept, all[0].standing.is_some()), (None, true));
    }

    #[test]
    fn a_row_whose_state_has_changed_forgets_its_order() {
        let sets = sets(vec![row("sip:a", 1, RowState::Inactive)]);
        let all = remembered(&memory(), &sets, TTL, at(15));
        assert_eq!((all[0].standing.clone(), all[0].kept.is_some()), (None, true));
    }

    #[test]
    fn strangers_and_repeated_rows_are_left_out() {
        let repeated = vec![
            row("sip:a", 1, RowState::Active),
            row("sip:a", 1, RowState::Inactive),
            row("sip:b", 1, RowState::Active),
        ];
        assert_eq!(remembered(&memory(), &sets(repeated), TTL, at(15)).len(), 1);
        assert_eq!(remembered(&Memory::default(), &sets(vec![row("sip:a", 1, RowState::Active)]), TTL, at(0)), []);
    }
}
