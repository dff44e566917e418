//! What is told: the log, the records and the journal hear what the engine says, and the journal what has become of the node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::memory::Stirrer;
use super::node::Shared;
use crate::edge::journal::{Entry, Journal, Kind, entry_of};
use crate::edge::log;
use crate::edge::metrics::StoreStatus;
use crate::edge::records::Records;
use crate::edge::stories::Stories;
use crate::engine::dispatch::SetId;
use crate::engine::event::{Drain, Event};
use crate::engine::flow::Role;
use crate::engine::snapshot::{SetView, Snapshot};

/// How long events gather before they are told.
const GATHER: Duration = Duration::from_millis(20);
/// How long a node that stops waits for records to be written.
const LAST_RECORDS: Duration = Duration::from_secs(5);
/// How often one looks what has become of the node although nothing was heard.
const LOOK: Duration = Duration::from_secs(1);
/// The time between two looks, at least.
const PAUSE: Duration = Duration::from_millis(250);

/// What the engine tells people, and when it happened.
#[derive(Debug)]
pub struct Happened {
    /// By the wall clock.
    pub at: SystemTime,
    /// What.
    pub event: Event,
}

/// Who hears of events.
#[derive(Debug)]
pub(super) struct Hearers {
    pub(super) stirrer: Stirrer,
    pub(super) records: Option<Records>,
    pub(super) journal: Arc<Journal>,
    pub(super) stories: Arc<Stories>,
}

impl Hearers {
    fn hear(&mut self, Happened { at, event }: Happened) {
        log::report(&event);
        self.stirrer.hear(&event);
        self.stories.hear(&event);
        if let Some(entry) = entry_of(&event, at) {
            self.journal.add(entry);
        }
        if let (Some(records), Event::Session(record)) = (&mut self.records, event) {
            records.take(record);
        }
    }

    /// Hears until nobody tells any more: many events at a time, since each time that this task is woken costs the engine's
    /// thread a system call.
    pub(super) async fn listen(mut self, mut events: mpsc::Receiver<Happened>) {
        while let Some(happened) = events.recv().await {
            self.hear(happened);
            while let Ok(happened) = events.try_recv() {
                self.hear(happened);
            }
            sleep(GATHER).await;
        }
        if let Some(records) = self.records {
            let _ = spawn_blocking(|| records.close(LAST_RECORDS)).await;
        }
    }
}

impl Shared {
    /// Puts into the journal what has become of the node, until it stops.
    pub(super) async fn watch_facts(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let mut facts = Facts::default();
        let (mut news, mut moved) = (self.journal.news(), self.addresses.changes());
        let mut peers = self.cluster.as_ref().map(|cluster| cluster.peers());
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let peer = async {
                match &mut peers {
                    Some(peers) => peers.changed().await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            // Whoever ends one of these ends with the node.
            tokio::select! {
                _ = stopped.changed() => return,
                _ = look.tick() => {}
                _ = news.changed() => {}
                _ = moved.changed() => {}
                _ = peer => {}
            }
            let Ok(snapshot) = self.handle.fresh_snapshot().await else { return };
            self.journal.follow(&snapshot);
            let now = self.facts(&snapshot);
            now.since(&facts, SystemTime::now()).into_iter().for_each(|entry| self.journal.add(entry));
            facts = now;
            news.mark_unchanged();
            tokio::select! {
                _ = stopped.changed() => return,
                () = sleep(PAUSE) => {}
            }
        }
    }

    fn facts(&self, snapshot: &Snapshot) -> Facts {
        let listeners = self.handle.listeners().iter().zip(self.addresses.held());
        let peers = self.cluster.iter().flat_map(|cluster| cluster.peers().borrow().live.clone());
        Facts {
            sets: snapshot.sets.iter().map(|set| (set.id, SetFacts::of(set))).collect(),
            addresses: listeners.map(|(listener, held)| (listener.name(), (listener.role, held))).collect(),
            peers: peers.map(|peer| (peer.node.to_string(), peer.boot)).collect(),
            stores: self.store_statuses().into_iter().map(|status| (status.partition.clone(), status)).collect(),
            drain: snapshot.drain,
        }
    }
}

/// What the journal tells of the node when it is another.
#[derive(Debug, Default)]
struct Facts {
    sets: BTreeMap<SetId, SetFacts>,
    /// By listener, whether its address is here.
    addresses: BTreeMap<String, (Role, bool)>,
    /// The other nodes that are heard, each with its start.
    peers: BTreeMap<String, u64>,
    /// By partition.
    stores: BTreeMap<String, StoreStatus>,
    drain: Drain,
}

#[derive(Debug)]
struct SetFacts {
    name: String,
    fit: usize,
    of: usize,
}

impl SetFacts {
    fn of(set: &SetView) -> Self {
        let fit = set.destinations.iter().filter(|one| one.fitness.is_fit()).count();
        SetFacts { name: set.name.clone(), fit, of: set.destinations.len() }
    }
}

impl Facts {
    /// What is another than before.
    fn since(&self, before: &Facts, at: SystemTime) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut tell = |entry: Entry| entries.push(entry);
        for (listener, (role, held)) in &self.addresses {
            let was = before.addresses.get(listener).is_none_or(|(_, was)| *was);
            if was != *held {
                let word = |held| if held { "here" } else { "elsewhere" };
                let what = if *role == Role::Vip { "the virtual address" } else { "the address" };
                let text = format!("{what} of {listener} is {}", if *held { "here" } else { "not here" });
                tell(Entry::new(Kind::Address, at, text).from(word(was), word(*held)));
            }
        }
        for (node, boot) in &self.peers {
            match before.peers.get(node) {
                None => tell(Entry::new(Kind::Peer, at, format!("node {node} is heard")).from("gone", "heard")),
                Some(was) if was != boot => {
                    tell(Entry::new(Kind::Peer, at, format!("node {node} has started again")).from("heard", "heard"));
                }
                Some(_) => {}
            }
        }
        for node in before.peers.keys().filter(|node| !self.peers.contains_key(*node)) {
            tell(Entry::new(Kind::Peer, at, format!("node {node} is not heard any more")).from("heard", "gone"));
        }
        for (set, SetFacts { name, fit, of }) in &self.sets {
            let was = before.sets.get(set).map(|set| set.fit);
            let name = if name.is_empty() { set.0.to_string() } else { format!("{} ({name})", set.0) };
            let entry = |text| Entry::new(Kind::Set, at, text).of_set(*set);
            match (was, *fit) {
                (None | Some(1..), 0) => {
                    tell(entry(format!("set {name} has no fit destination, of {of}")).from("fit", "empty"));
                }
                (Some(0), 1..) => tell(entry(format!("set {name}: {fit} of {of} are fit")).from("empty", "fit")),
                _ => {}
            }
        }
        for (partition, now) in &self.stores {
            let was = before.stores.get(partition);
            let mut change = |was: bool, is: bool, [no, yes]: [&str; 2], text: [&str; 2]| {
                if was != is {
                    let word = |is| if is { yes } else { no };
                    let text = format!("{partition}: {}", text[usize::from(is)]);
                    tell(Entry::new(Kind::Store, at, text).from(word(was), word(is)));
                }
            };
            let texts = ["the rows can't be read or used: the sets stay as they are", "the rows can be read again"];
            change(was.is_none_or(|was| was.ok), now.ok, ["failing", "ok"], texts);
            let texts = ["no change of the rows is refused any more", "a change of the rows is refused"];
            change(was.is_some_and(|was| was.refused), now.refused, ["accepted", "refused"], texts);
            let texts = ["the rows are served again", "a former version is served instead of the rows"];
            change(was.is_some_and(|was| was.pinned), now.pinned, ["followed", "pinned"], texts);
        }
        if before.drain != self.drain {
            let word = |drain| match drain {
                Drain::No => "serving",
                Drain::Leaving => "leaving",
                Drain::Refusing => "refusing",
            };
            let text = match self.drain {
                Drain::No => "the node serves",
                Drain::Leaving => "the node leaves: calls are served until the addresses have moved",
                Drain::Refusing => "the node leaves: new calls are refused",
            };
            tell(Entry::new(Kind::Leave, at, text).from(word(before.drain), word(self.drain)));
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: SystemTime = SystemTime::UNIX_EPOCH;

    fn texts(now: &Facts, before: &Facts) -> Vec<String> {
        now.since(before, AT).into_iter().map(|entry| entry.text).collect()
    }

    fn set(fit: usize) -> BTreeMap<SetId, SetFacts> {
        BTreeMap::from([(SetId(19), SetFacts { name: "tts".to_owned(), fit, of: 2 })])
    }

    #[test]
    fn a_set_is_told_of_when_it_has_nobody_and_when_it_has_somebody_again() {
        let facts = |fit| Facts { sets: set(fit), ..Facts::default() };
        let empty = ["set 19 (tts) has no fit destination, of 2".to_owned()];
        assert_eq!(texts(&facts(0), &Facts::default()), empty);
        assert_eq!(texts(&facts(0), &facts(2)), empty);
        assert_eq!(texts(&facts(2), &facts(0)), ["set 19 (tts): 2 of 2 are fit"]);
        for (now, before) in [(facts(2), Facts::default()), (facts(1), facts(2)), (facts(0), facts(0))] {
            assert!(texts(&now, &before).is_empty());
        }
    }

    #[test]
    fn nodes_addresses_and_leaving_are_told_of_once() {
        let vip = |held| BTreeMap::from([("udp:10.0.0.9:5060".to_owned(), (Role::Vip, held))]);
        let peers = |boot| BTreeMap::from([("b".to_owned(), boot)]);
        let here = Facts { addresses: vip(true), peers: peers(1), ..Facts::default() };
        let gone = Facts { addresses: vip(false), drain: Drain::Leaving, ..Facts::default() };
        assert_eq!(texts(&here, &Facts::default()), ["node b is heard"]);
        let expected = [
            "the virtual address of udp:10.0.0.9:5060 is not here",
            "node b is not heard any more",
            "the node leaves: calls are served until the addresses have moved",
        ];
        assert_eq!(texts(&gone, &here), expected);
        let again = Facts { addresses: vip(true), peers: peers(2), ..Facts::default() };
        assert_eq!(texts(&again, &here), ["node b has started again"]);
        assert!(texts(&here, &here).is_empty());
    }

    #[test]
    fn a_store_that_fails_and_one_that_begins_so_are_told_of() {
        let store = |ok, refused| {
            let status = StoreStatus { partition: "default".to_owned(), ok, refused, ..StoreStatus::default() };
            Facts { stores: BTreeMap::from([("default".to_owned(), status)]), ..Facts::default() }
        };
        let failing = "default: the rows can't be read or used: the sets stay as they are";
        assert_eq!(texts(&store(false, false), &Facts::default()), [failing]);
        assert_eq!(texts(&store(false, false), &store(true, false)), [failing]);
        let both = ["default: the rows can be read again", "default: a change of the rows is refused"];
        assert_eq!(texts(&store(true, true), &store(false, false)), both);
        assert!(texts(&store(true, false), &Facts::default()).is_empty());
    }
}
