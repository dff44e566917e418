//! What is told: the log, the records and the journal hear what the engine says, and the journal what has become of the node.

mod sets;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval, sleep};

use self::sets::SetSeen;
pub(super) use self::sets::SetsTold;
use super::Gone;
use super::memory::Stirrer;
use super::node::Shared;
use crate::edge::journal::{Entry, Journal, Kind, entry_of};
use crate::edge::log;
use crate::edge::metrics::StoreStatus;
use crate::edge::records::Records;
use crate::edge::stories::Stories;
use crate::engine::event::{Drain, Event};
use crate::engine::flow::Role;

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
    pub(super) sets: Arc<SetsTold>,
}

impl Hearers {
    fn hear(&mut self, Happened { at, event }: Happened) {
        log::report(&event);
        self.stirrer.hear(&event);
        self.stories.hear(&event);
        if let Some(entry) = entry_of(&event, at) {
            self.journal.add(entry);
        }
        if let Event::SetEmpty { set, .. } = &event {
            let ago = at.elapsed().unwrap_or_default();
            if let Some(happened) = Instant::now().checked_sub(ago) {
                self.sets.hear_empty(*set, happened, at, |entry| self.journal.add(entry));
            }
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
            // The nodes tell something new all the time, and what they tell says nothing of sets.
            let of_sets = tokio::select! {
                biased;
                _ = stopped.changed() => return,
                _ = news.changed() => true,
                _ = look.tick() => true,
                _ = moved.changed() => false,
                _ = peer => false,
            };
            let now = self.facts();
            now.since(&facts, SystemTime::now()).into_iter().for_each(|entry| self.journal.add(entry));
            facts = now;
            if of_sets {
                let asked = Instant::now();
                // One of its own: those who ask for metrics right after a call are told of it.
                let Ok(snapshot) = self.handle.fresh_snapshot().await else { return };
                self.journal.follow(&snapshot);
                let sets = snapshot.sets.iter().map(SetSeen::of);
                self.sets_told.look(sets, asked, SystemTime::now(), |entry| self.journal.add(entry));
                news.mark_unchanged();
            }
            tokio::select! {
                _ = stopped.changed() => return,
                () = sleep(PAUSE) => {}
            }
        }
    }

    /// Goes so far in leaving, and puts that into the journal: a node that is quick to leave is gone before the next look.
    pub(super) async fn leave(&self, drain: Drain) -> Result<(), Gone> {
        self.handle.drain(drain).await?;
        let (was, is, text) = match drain {
            Drain::No => return Ok(()),
            Drain::Leaving => {
                ("serving", "leaving", "the node leaves: calls are served until the addresses have moved")
            }
            Drain::Refusing => ("leaving", "refusing", "the node leaves: new calls are refused"),
        };
        self.journal.add(Entry::new(Kind::Leave, SystemTime::now(), text).from(was, is));
        Ok(())
    }

    fn facts(&self) -> Facts {
        let listeners = self.handle.listeners().iter().zip(self.addresses.held());
        let peers = self.cluster.iter().flat_map(|cluster| cluster.peers().borrow().live.clone());
        Facts {
            addresses: listeners.map(|(listener, held)| (listener.name(), (listener.role, held))).collect(),
            peers: peers.map(|peer| (peer.node.to_string(), peer.boot)).collect(),
            stores: self.store_statuses().into_iter().map(|status| (status.partition.clone(), status)).collect(),
        }
    }
}

/// What the journal tells of the node when it is another.
#[derive(Debug, Default)]
struct Facts {
    /// By listener, whether its address is here.
    addresses: BTreeMap<String, (Role, bool)>,
    /// The other nodes that are heard, each with its start.
    peers: BTreeMap<String, u64>,
    /// By partition.
    stores: BTreeMap<String, StoreStatus>,
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

    #[test]
    fn nodes_and_addresses_are_told_of_once() {
        let vip = |held| BTreeMap::from([("udp:10.0.0.9:5060".to_owned(), (Role::Vip, held))]);
        let peers = |boot| BTreeMap::from([("b".to_owned(), boot)]);
        let here = Facts { addresses: vip(true), peers: peers(1), ..Facts::default() };
        let gone = Facts { addresses: vip(false), ..Facts::default() };
        assert_eq!(texts(&here, &Facts::default()), ["node b is heard"]);
        let expected = ["the virtual address of udp:10.0.0.9:5060 is not here", "node b is not heard any more"];
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
