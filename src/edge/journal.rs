//! The journal: what has happened to destinations, sets and the node, in one order, kept for those who ask later and told to
//! those who wait.

mod file;
mod opensips;
mod told;

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::edge::moment::Moment;
use crate::engine::Snapshot;
use crate::engine::dispatch::SetId;

use opensips::Statuses;

pub use file::{EventsFile, Started};
pub use opensips::{Status, StatusEvent, status_event};
pub use told::entry_of;

/// Entries that are kept; older ones are forgotten.
pub const KEPT: usize = 4096;

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The node has started; the first entry of each start.
    Start,
    /// A destination's health is another.
    Health,
    /// An operator, or the `state` column, wants something else of a destination.
    Order,
    /// An operator holds a destination for failed until it shows otherwise.
    Distrust,
    /// A destination's agent wants something else.
    Agent,
    /// A destination that is to drain has no session left, or still has some at its deadline.
    Drain,
    /// A set has its first fit destination, or has none any more.
    Set,
    /// Other rows are in place.
    Rows,
    /// An operator had the rows read, or went back to former ones.
    Reload,
    /// The rows can be read, or can't; a change of them is refused, or is not any more.
    Store,
    /// An operator ends sessions.
    End,
    /// A listener's address is here, or is not.
    Address,
    /// Another node of the cluster is heard, or is not.
    Peer,
    /// The node leaves.
    Leave,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 14] = [
        Kind::Start,
        Kind::Health,
        Kind::Order,
        Kind::Distrust,
        Kind::Agent,
        Kind::Drain,
        Kind::Set,
        Kind::Rows,
        Kind::Reload,
        Kind::Store,
        Kind::End,
        Kind::Address,
        Kind::Peer,
        Kind::Leave,
    ];

    /// As it stands in an entry.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Start => "start",
            Kind::Health => "health",
            Kind::Order => "order",
            Kind::Distrust => "distrust",
            Kind::Agent => "agent",
            Kind::Drain => "drain",
            Kind::Set => "set",
            Kind::Rows => "rows",
            Kind::Reload => "reload",
            Kind::Store => "store",
            Kind::End => "end",
            Kind::Address => "address",
            Kind::Peer => "peer",
            Kind::Leave => "leave",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// One entry. What does not concern its kind is not there. These names are a promise to whoever reads them: they may become
/// more, and none changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place: 1 is the first since the node started, and none is left out.
    pub sequence: u64,
    /// When it happened.
    pub at: Moment,
    /// The node that tells it.
    pub node: String,
    /// What it is about.
    pub kind: Kind,
    /// The set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<u32>,
    /// The `destination` column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// The destination's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// What was, in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// What is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
    /// What it makes of the URI as a whole, if calls may go there now and could not before, or the other way round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// What has shown it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Who wanted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Why, in the actor's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// All of it in a sentence.
    pub text: String,
}

impl Entry {
    /// An entry that has no place yet.
    pub fn new(kind: Kind, at: SystemTime, text: impl Into<String>) -> Self {
        Entry {
            sequence: 0,
            at: Moment(at),
            node: String::new(),
            kind,
            set: None,
            destination: None,
            address: None,
            old: None,
            new: None,
            status: None,
            cause: None,
            actor: None,
            reason: None,
            text: text.into(),
        }
    }

    /// The same of a set.
    pub fn of_set(self, set: SetId) -> Self {
        Entry { set: Some(set.0), ..self }
    }

    /// The same of a destination.
    pub fn of(self, set: SetId, uri: &str, address: Option<SocketAddr>) -> Self {
        Entry { destination: Some(uri.to_owned()), address, ..self.of_set(set) }
    }

    /// The same as a change.
    pub fn from(self, old: impl fmt::Display, new: impl fmt::Display) -> Self {
        Entry { old: Some(old.to_string()), new: Some(new.to_string()), ..self }
    }

    /// The same with what has shown it.
    pub fn shown_by(self, cause: impl Into<String>) -> Self {
        Entry { cause: Some(cause.into()), ..self }
    }

    /// The same with who wanted it and why.
    pub fn by(self, actor: &str, reason: &str) -> Self {
        let reason = (!reason.is_empty()).then(|| reason.to_owned());
        Entry { actor: Some(actor.to_owned()), reason, ..self }
    }
}

/// Some of the entries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The oldest that is kept.
    pub first: u64,
    /// The newest.
    pub last: u64,
    /// Those that were asked for, oldest first.
    pub entries: Vec<Arc<Entry>>,
}

/// The entries of this start of the node.
#[derive(Debug)]
pub struct Journal {
    node: String,
    started: SystemTime,
    inside: Mutex<Inside>,
    /// The newest entry's place.
    last: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inside {
    kept: VecDeque<Arc<Entry>>,
    statuses: Statuses,
    /// Where each entry is written too.
    file: Option<EventsFile>,
}

impl Journal {
    /// An empty one, of a start that is now.
    pub fn new(node: &str) -> Self {
        let started = SystemTime::now();
        Journal { node: node.to_owned(), started, inside: Mutex::default(), last: watch::Sender::new(0) }
    }

    /// When the node started: places begin anew at each start.
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// Has each entry from now on written to that file too.
    pub fn write_to(&self, file: EventsFile) {
        self.inside().file = Some(file);
    }

    /// Writes what waits for the file and closes it. Returns whether that came to an end within that time.
    pub fn close(&self, within: Duration) -> bool {
        let file = self.inside().file.take();
        file.is_none_or(|file| file.close(within))
    }

    /// Takes note of who is there: without it no entry knows what it makes of a URI with several addresses.
    pub fn follow(&self, snapshot: &Snapshot) {
        self.inside().statuses.follow(snapshot);
    }

    /// Adds an entry, which gets its place now. Never waits for the file.
    pub fn add(&self, entry: Entry) {
        let mut inside = self.inside();
        let Inside { kept, statuses, file } = &mut *inside;
        let sequence = *self.last.borrow() + 1;
        let status = statuses.change(&entry);
        let entry = Arc::new(Entry { sequence, node: self.node.clone(), status, ..entry });
        if let Some(file) = file {
            file.take(Started { started: Moment(self.started), entry: Arc::clone(&entry) });
        }
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(entry);
        self.last.send_replace(sequence);
    }

    /// Those after `since`, at most so many, the oldest of them first.
    pub fn since(&self, since: u64, most: usize) -> Page {
        self.page(|kept| kept.iter().filter(|entry| entry.sequence > since).take(most).cloned().collect())
    }

    /// The newest, at most so many.
    pub fn newest(&self, most: usize) -> Page {
        self.page(|kept| kept.range(kept.len().saturating_sub(most)..).cloned().collect())
    }

    fn page(&self, some: impl FnOnce(&VecDeque<Arc<Entry>>) -> Vec<Arc<Entry>>) -> Page {
        let kept = &self.inside().kept;
        let place = |entry: Option<&Arc<Entry>>| entry.map_or(0, |entry| entry.sequence);
        Page { first: place(kept.front()), last: place(kept.back()), entries: some(kept) }
    }

    /// Tells of new entries: the newest one's place.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        // Nothing in here can panic half way.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry::new(Kind::Leave, SystemTime::UNIX_EPOCH, "the node leaves")
    }

    fn places(page: &Page) -> Vec<u64> {
        page.entries.iter().map(|entry| entry.sequence).collect()
    }

    #[test]
    fn entries_get_their_places_in_the_order_in_which_they_come_and_the_oldest_is_forgotten_first() {
        let journal = Journal::new("a");
        let news = journal.news();
        assert_eq!(journal.newest(10), Page::default());
        (0..KEPT + 2).for_each(|_| journal.add(entry()));
        let page = journal.since(0, 2);
        assert_eq!((page.first, page.last, places(&page)), (3, KEPT as u64 + 2, vec![3, 4]));
        assert_eq!(places(&journal.newest(2)), [KEPT as u64 + 1, KEPT as u64 + 2]);
        assert_eq!(places(&journal.since(KEPT as u64 + 1, 10)), [KEPT as u64 + 2]);
        assert_eq!((*news.borrow(), page.entries[0].node.as_str()), (KEPT as u64 + 2, "a"));
    }

    #[test]
    fn an_entry_names_what_concerns_it_and_nothing_else() {
        let journal = Journal::new("a");
        journal.add(entry().of(SetId(19), "sip:x", None).from("up", "down").shown_by("503").by("alice", ""));
        let json = serde_json::to_string(&journal.newest(1).entries[0]).expect("JSON");
        let expected = r#"{"sequence":1,"at":"1970-01-01T00:00:00.000Z","node":"a","kind":"leave","set":19,"destination":"sip:x","old":"up","new":"down","cause":"503","actor":"alice","text":"the node leaves"}"#;
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_str::<Entry>(&json).ok().as_ref(), Some(&*journal.newest(1).entries[0]));
    }

    #[test]
    fn each_kind_has_its_name() {
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_value(kind).ok(), Some(kind.name().into()));
            assert_eq!(Kind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(Kind::from_name("Health"), None);
    }
}
