//! What a node knows of its destinations beyond their rows, on disk: orders given by hand, and the health of those that are
//! not well. The next start reads it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::file::{self, ReadFault};
use super::snapshot::StoredState;
use crate::engine::Snapshot;
use crate::engine::dispatch::{AtDeadline, Deadline, Kept, KeptPenalty, Order, RowState, SetId, Standing};
use crate::engine::snapshot::DestinationView;

/// The form that this version writes and reads.
const FORMAT: u32 = 1;

/// Why there is nothing to remember, or nothing could be kept.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// The file can't be written; the former one, if any, is whole.
    #[error(
        "orders and health {}: can't write them: {source}: make room, or give a folder that can be written",
        path.display()
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file can't be read.
    #[error("orders and health {}: can't read them: {source}: all are ignored", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is cut or something else.
    #[error(
        "orders and health {}: not one of ours: {source}: all are ignored; the file is kept with .ignored behind its name",
        path.display()
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// Another version wrote it.
    #[error(
        "orders and health {}: format is {found}, this version reads {FORMAT}: all are ignored; the file is kept with \
         .ignored behind its name",
        path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u32,
    },
}

/// What is known of destinations beyond their rows. Times are whole milliseconds, ends of what time alone ends whole
/// seconds: so one moment makes the same memory as the next if nothing has happened between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// When it was so.
    pub written: SystemTime,
    /// Orders given by hand.
    pub orders: Vec<GivenOrder>,
    /// The health of those that are not well.
    pub health: Vec<KeptHealth>,
}

/// An order given by hand to all addresses of a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenOrder {
    /// The set.
    pub set: SetId,
    /// The `destination` column.
    pub uri: String,
    /// The `state` column at that time: another one now is a newer order.
    pub state: RowState,
    /// The order.
    pub standing: Standing,
}

/// What ails the destination of one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptHealth {
    /// The set.
    pub set: SetId,
    /// The `destination` column.
    pub uri: String,
    /// The address.
    pub address: SocketAddr,
    /// Whether its probes hold it for down.
    pub probes_down: bool,
    /// How often traffic has ejected it, and until when; no end: it is on trial.
    pub ejected: Option<(u32, Option<SystemTime>)>,
    /// Until when it has no room.
    pub busy: Option<SystemTime>,
    /// The penalty for flapping after its last fall, when that was, and whether it holds the destination out.
    pub penalty: Option<(u32, SystemTime, bool)>,
}

impl Default for Memory {
    /// Nothing, since 1970.
    fn default() -> Self {
        Memory { written: UNIX_EPOCH, orders: Vec::new(), health: Vec::new() }
    }
}

impl Memory {
    /// What is worth keeping of a snapshot taken now.
    pub fn of(snapshot: &Snapshot, now: SystemTime) -> Self {
        let mut memory = Memory { written: from_millis(millis(now)), ..Memory::default() };
        for set in &snapshot.sets {
            for found in &set.destinations {
                let DestinationView { uri, state, standing, address, kept, .. } = found;
                // The addresses of a name stand together.
                let given = || memory.orders.last().is_some_and(|one| (one.set, &one.uri) == (set.id, uri));
                if standing.is_by_hand() && !given() {
                    let whole = |time| from_millis(millis(time));
                    let deadline = standing.deadline.map(|deadline| Deadline { at: whole(deadline.at), ..deadline });
                    let at = whole(standing.at);
                    let standing = Standing { at, deadline, ..standing.clone() };
                    memory.orders.push(GivenOrder { set: set.id, uri: uri.clone(), state: *state, standing });
                }
                if let Some(address) = address.filter(|_| *kept != Kept::default()) {
                    memory.health.push(KeptHealth::of(set.id, uri, address, *kept, now));
                }
            }
        }
        memory
    }

    /// Whether the other one says the same of every destination.
    pub fn agrees(&self, other: &Memory) -> bool {
        (&self.orders, &self.health) == (&other.orders, &other.health)
    }
}

impl KeptHealth {
    fn of(set: SetId, uri: &str, address: SocketAddr, kept: Kept, now: SystemTime) -> Self {
        let Kept { probes_down, ejected, busy, penalty } = kept;
        // Up, so that nothing ends sooner for having been kept.
        let end = |left: Duration| from_millis(millis(now + left).div_ceil(1000) * 1000);
        let ejected = ejected.map(|(left, times)| (times, (!left.is_zero()).then(|| end(left))));
        // To the nearest second, so that the clock's own breath makes no new memory.
        let fell = |age: Duration| from_millis((millis(now - age) + 500) / 1000 * 1000);
        let penalty = penalty.map(|KeptPenalty { value, age, suppressed }| (value, fell(age), suppressed));
        KeptHealth { set, uri: uri.to_owned(), address, probes_down, ejected, busy: busy.map(end), penalty }
    }

    /// What of it is left.
    pub fn kept(&self, now: SystemTime) -> Kept {
        let left = |end: SystemTime| end.duration_since(now).unwrap_or_default();
        Kept {
            probes_down: self.probes_down,
            ejected: self.ejected.map(|(times, end)| (end.map_or(Duration::ZERO, left), times)),
            busy: self.busy.map(left).filter(|left| !left.is_zero()),
            penalty: self.penalty.map(|(value, at, suppressed)| KeptPenalty {
                value,
                age: now.duration_since(at).unwrap_or_default(),
                suppressed,
            }),
        }
    }
}

/// Writes `memory` to `path`: whole or not at all, whatever happens meanwhile.
///
/// # Errors
/// [`MemoryError::Write`]; a former file is then as it was.
pub fn save(path: &Path, memory: &Memory) -> Result<(), MemoryError> {
    let stored = StoredMemory {
        format: FORMAT,
        written: millis(memory.written),
        orders: memory.orders.iter().map(StoredOrder::of).collect(),
        health: memory.health.iter().map(StoredHealth::of).collect(),
    };
    file::save(path, &stored).map_err(|source| MemoryError::Write { path: path.to_owned(), source })
}

/// Reads what [`save`] wrote; none if nobody has. A file that is none of ours is put aside, so that the next [`save`] does
/// not take somebody's orders with it.
///
/// # Errors
/// [`MemoryError`] if the file can't be read, is cut or is something else.
pub fn read(path: &Path) -> Result<Option<Memory>, MemoryError> {
    let path = path.to_owned();
    match file::read_kept::<StoredMemory>(&path, FORMAT) {
        Ok(stored) => Ok(stored.map(StoredMemory::into_memory)),
        Err(ReadFault::Read(source)) => Err(MemoryError::Read { path, source }),
        Err(ReadFault::Content(source)) => Err(MemoryError::Content { path, source }),
        Err(ReadFault::Format(found)) => Err(MemoryError::Format { path, found }),
    }
}

/// Milliseconds since 1970.
pub fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The time that many milliseconds after 1970.
pub fn from_millis(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}

/// Times are milliseconds since 1970.
#[derive(Serialize, Deserialize)]
struct StoredMemory {
    format: u32,
    written: u64,
    orders: Vec<StoredOrder>,
    health: Vec<StoredHealth>,
}

#[derive(Serialize, Deserialize)]
struct StoredOrder {
    set: u32,
    destination: String,
    state: StoredState,
    order: StoredName,
    by: String,
    reason: String,
    at: u64,
    deadline: Option<u64>,
    /// Not there in what earlier versions wrote.
    #[serde(default)]
    then_end: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredName {
    Ready,
    Drain,
    Maint,
}

#[derive(Serialize, Deserialize)]
struct StoredHealth {
    set: u32,
    destination: String,
    address: SocketAddr,
    probes_down: bool,
    ejected: Option<StoredEjection>,
    busy_until: Option<u64>,
    /// Not there in what earlier versions wrote.
    penalty: Option<StoredPenalty>,
}

#[derive(Serialize, Deserialize)]
struct StoredPenalty {
    value: u32,
    at: u64,
    suppressed: bool,
}

#[derive(Serialize, Deserialize)]
struct StoredEjection {
    times: u32,
    until: Option<u64>,
}

impl StoredMemory {
    fn into_memory(self) -> Memory {
        Memory {
            written: from_millis(self.written),
            orders: self.orders.into_iter().map(StoredOrder::into_order).collect(),
            health: self.health.into_iter().map(StoredHealth::into_health).collect(),
        }
    }
}

impl StoredOrder {
    fn of(given: &GivenOrder) -> Self {
        let GivenOrder { set, uri, state, standing: Standing { order, by, reason, at, deadline } } = given;
        StoredOrder {
            set: set.0,
            destination: uri.clone(),
            state: StoredState::of(*state),
            order: match order {
                Order::Ready => StoredName::Ready,
                Order::Drain => StoredName::Drain,
                Order::Maint => StoredName::Maint,
            },
            by: by.clone(),
            reason: reason.clone(),
            at: millis(*at),
            deadline: deadline.map(|deadline| millis(deadline.at)),
            then_end: deadline.is_some_and(|deadline| deadline.then == AtDeadline::End),
        }
    }

    fn into_order(self) -> GivenOrder {
        let StoredOrder { set, destination, state, order, by, reason, at, deadline, then_end } = self;
        let order = match order {
            StoredName::Ready => Order::Ready,
            StoredName::Drain => Order::Drain,
            StoredName::Maint => Order::Maint,
        };
        let then = if then_end { AtDeadline::End } else { AtDeadline::Tell };
        let deadline = deadline.map(|at| Deadline { at: from_millis(at), then });
        let at = from_millis(at);
        let standing = Standing { order, by, reason, at, deadline };
        GivenOrder { set: SetId(set), uri: destination, state: state.into_state(), standing }
    }
}

impl StoredHealth {
    fn of(kept: &KeptHealth) -> Self {
        let KeptHealth { set, uri, address, probes_down, ejected, busy, penalty } = kept;
        StoredHealth {
            set: set.0,
            destination: uri.clone(),
            address: *address,
            probes_down: *probes_down,
            ejected: ejected.map(|(times, until)| StoredEjection { times, until: until.map(millis) }),
            busy_until: busy.map(millis),
            penalty: penalty.map(|(value, at, suppressed)| StoredPenalty { value, at: millis(at), suppressed }),
        }
    }

    fn into_health(self) -> KeptHealth {
        let StoredHealth { set, destination, address, probes_down, ejected, busy_until, penalty } = self;
        KeptHealth {
            set: SetId(set),
            uri: destination,
            address,
            probes_down,
            ejected: ejected.map(|StoredEjection { times, until }| (times, until.map(from_millis))),
            busy: busy_until.map(from_millis),
            penalty: penalty.map(|StoredPenalty { value, at, suppressed }| (value, from_millis(at), suppressed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::edge::scratch::Folder;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> SystemTime {
        from_millis(1_800_000_000_000 + millis)
    }

    fn health(kept: Kept, now: SystemTime) -> KeptHealth {
        KeptHealth::of(SetId(19), "sip:a", "[::1]:5060".parse().expect("an address"), kept, now)
    }

    fn memory() -> Memory {
        let order = |order, then, state, uri: &str| GivenOrder {
            set: SetId(19),
            uri: uri.to_owned(),
            state,
            standing: Standing {
                order,
                by: "ann".to_owned(),
                reason: "a \"disk\" ü\n".to_owned(),
                at: at(1),
                deadline: (order == Order::Drain).then(|| Deadline { at: at(9), then }),
            },
        };
        let kept = [
            Kept { probes_down: true, ..Kept::default() },
            Kept { ejected: Some((SECOND, 3)), ..Kept::default() },
            Kept { ejected: Some((Duration::ZERO, 2)), busy: Some(SECOND * 9), ..Kept::default() },
            Kept { penalty: Some(KeptPenalty { value: 3500, age: SECOND * 7, suppressed: true }), ..Kept::default() },
        ];
        Memory {
            written: at(0),
            orders: vec![
                order(Order::Drain, AtDeadline::Tell, RowState::Active, "sip:a"),
                order(Order::Maint, AtDeadline::Tell, RowState::Probing, "sip:b"),
                order(Order::Ready, AtDeadline::Tell, RowState::Inactive, "sip:c"),
                order(Order::Drain, AtDeadline::End, RowState::Active, "sip:d"),
            ],
            health: kept.map(|kept| health(kept, at(0))).into(),
        }
    }

    #[test]
    fn what_was_saved_is_read_again() {
        let folder = Folder::new();
        let path = folder.path().join("destinations.json");
        assert_eq!(read(&path).expect("no file is no fault"), None);
        save(&path, &Memory::default()).expect("saved");
        save(&path, &memory()).expect("saved over the former");
        assert_eq!(read(&path).expect("read"), Some(memory()));
        assert_eq!(folder.files(), ["destinations.json"]);
    }

    #[test]
    fn what_time_ends_goes_on_ending_while_nobody_runs() {
        let penalty = |age| Some(KeptPenalty { value: 3500, age, suppressed: true });
        let kept = Kept {
            probes_down: true,
            ejected: Some((SECOND * 5, 3)),
            busy: Some(SECOND * 9),
            penalty: penalty(SECOND * 7),
        };
        let health = health(kept, at(0));
        assert_eq!(health.kept(at(0)), kept);
        let later =
            Kept { ejected: Some((SECOND * 2, 3)), busy: Some(SECOND * 6), penalty: penalty(SECOND * 10), ..kept };
        assert_eq!(health.kept(at(3000)), later);
        let last = Kept { ejected: Some((Duration::ZERO, 3)), busy: None, penalty: penalty(SECOND * 67), ..kept };
        assert_eq!(health.kept(at(60_000)), last);
    }

    #[test]
    fn the_same_moment_seen_later_is_the_same_memory() {
        let kept = |left| Kept { ejected: Some((left, 1)), busy: Some(left), ..Kept::default() };
        let first = health(kept(SECOND * 5), at(100));
        assert_eq!(first, health(kept(SECOND * 3), at(2100)));
        assert_eq!(first.kept(at(100)).busy, Some(Duration::from_millis(5900)), "never sooner than it was");
        let trial = Kept { ejected: Some((Duration::ZERO, 1)), ..Kept::default() };
        assert_eq!(health(trial, at(0)), health(trial, at(9999)));
        let fell = |age| Kept { penalty: Some(KeptPenalty { value: 1000, age, suppressed: false }), ..Kept::default() };
        assert_eq!(health(fell(SECOND), at(0)), health(fell(SECOND * 5), at(4001)));
    }

    #[test]
    fn a_file_that_is_cut_or_alien_is_put_aside() {
        let folder = Folder::new();
        let path = folder.path().join("destinations.json");
        save(&path, &memory()).expect("saved");
        let whole = fs::read(&path).expect("a file");
        let cuts = (0..whole.len()).map(|end| whole[..end].to_vec());
        let alien: [&[u8]; 5] = [b"null", b"\xff\0", b"{\"format\":1}", b"{\"format\":2}", &[b'['; 100_000]];
        for text in cuts.chain(alien.map(Vec::from)) {
            fs::write(&path, &text).expect("a file");
            let fault = read(&path).expect_err("broken").to_string();
            assert!(fault.contains("destinations.json") && fault.contains("all are ignored"), "{fault}");
            assert_eq!(folder.files(), ["destinations.json.ignored"]);
        }
        fs::create_dir(&path).expect("a folder in its place");
        assert!(matches!(read(&path), Err(MemoryError::Read { .. })));
        assert!(matches!(save(&path, &memory()), Err(MemoryError::Write { .. })));
    }
}
