//! What `tandem top` knows: the node's words, put together as they come, and the calls of the last seconds.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use serde::Deserialize;
use serde_json::Error;

use crate::cli::live::News;
use crate::edge::client::StreamEvent;
use crate::edge::http::{DestinationReport, NodeReport, NodeSessions, SetReport, SetsReport};
use crate::edge::journal::Entry;

/// New calls are those of this long.
const WINDOW: Duration = Duration::from_secs(10);
/// Less tells nothing yet.
const LEAST: Duration = Duration::from_millis(500);
/// So many events are kept to be shown.
const EVENTS: usize = 100;

/// The node as the stream tells it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ThisNode {
    #[serde(flatten)]
    pub(super) report: NodeReport,
    pub(super) ready: Ready,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Ready {
    pub(super) ready: bool,
    pub(super) reasons: Vec<String>,
    pub(super) degraded: Vec<String>,
}

/// What differs from before.
#[derive(Deserialize)]
struct Changes {
    sets: Vec<SetReport>,
    destinations: Vec<Changed>,
    sessions: NodeSessions,
}

#[derive(Deserialize)]
struct Changed {
    set: u32,
    #[serde(flatten)]
    destination: DestinationReport,
}

/// The selections of all destinations at one moment, in the order in which they stand.
#[derive(Clone, Debug)]
struct Sample {
    at: Instant,
    selections: Vec<u64>,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(super) struct World {
    pub(super) node: Option<ThisNode>,
    pub(super) sets: Vec<SetReport>,
    pub(super) sessions: u64,
    /// Oldest first.
    pub(super) events: VecDeque<Entry>,
    /// Why the node is not heard; none: it is.
    pub(super) not_live: Option<String>,
    samples: VecDeque<Sample>,
    /// When the node was heard last.
    pub(super) heard: Option<SystemTime>,
}

/// New calls of the last seconds.
#[derive(Debug, PartialEq)]
pub(super) struct Rates {
    /// A second, of each set's destinations, as they stand; none: it was not looked at for long enough.
    pub(super) calls: Vec<Vec<Option<f64>>>,
}

impl World {
    /// Takes what the node says.
    pub(super) fn hear(&mut self, news: News, now: Instant, at: SystemTime) -> Result<(), Error> {
        match news {
            News::Event(event) => {
                self.heard = Some(at);
                self.take(&event, now)?;
            }
            News::NotLive(why) => self.not_live = Some(why),
            News::Live => self.not_live = None,
        }
        Ok(())
    }

    /// Whether there is something to be shown.
    pub(super) fn is_whole(&self) -> bool {
        self.node.is_some() && !self.samples.is_empty()
    }

    fn take(&mut self, event: &StreamEvent, now: Instant) -> Result<(), Error> {
        match event.name.as_str() {
            "node" => self.node = Some(serde_json::from_str(&event.data)?),
            "sets" => {
                let SetsReport { sets, sessions, .. } = serde_json::from_str(&event.data)?;
                // A node that has started anew counts from 0.
                let fewer = || selections(&self.sets).zip(selections(&sets)).any(|(before, now)| now < before);
                if !keys(&self.sets).eq(keys(&sets)) || fewer() {
                    self.samples.clear();
                }
                (self.sets, self.sessions) = (sets, sessions.live);
                self.sample(now);
            }
            "changes" => {
                let Changes { sets, destinations, sessions } = serde_json::from_str(&event.data)?;
                for changed in sets {
                    if let Some(set) = self.sets.iter_mut().find(|set| set.set == changed.set) {
                        let destinations = std::mem::take(&mut set.destinations);
                        *set = SetReport { destinations, ..changed };
                    }
                }
                let key = |set, one: &DestinationReport| (set, one.uri.clone(), one.address);
                let changed = destinations.into_iter().map(|one| (key(one.set, &one.destination), one.destination));
                let mut changed: HashMap<_, _> = changed.collect();
                for (set, one) in
                    self.sets.iter_mut().flat_map(|set| set.destinations.iter_mut().map(|one| (set.set, one)))
                {
                    if let Some(now) = changed.remove(&key(set, one)) {
                        *one = now;
                    }
                }
                self.sessions = sessions.live;
                self.sample(now);
            }
            "event" => {
                if self.events.len() == EVENTS {
                    self.events.pop_front();
                }
                self.events.push_back(serde_json::from_str(&event.data)?);
            }
            // Said by a later version.
            _ => {}
        }
        Ok(())
    }

    fn sample(&mut self, now: Instant) {
        let selections = selections(&self.sets).collect();
        self.samples.push_back(Sample { at: now, selections });
        // The last one before the window tells what was when it began.
        while self.samples.get(1).is_some_and(|second| now.duration_since(second.at) >= WINDOW) {
            self.samples.pop_front();
        }
    }

    /// The new calls of the last seconds before `now`.
    pub(super) fn rates(&self, now: Instant) -> Rates {
        let before = |sample: &&Sample| now.saturating_duration_since(sample.at) >= WINDOW;
        let first = self.samples.iter().rfind(before).or(self.samples.front());
        let time = first.map_or(Duration::ZERO, |first| now.saturating_duration_since(first.at).min(WINDOW));
        // Nobody knows of the calls since the node was heard.
        let known = time >= LEAST && self.not_live.is_none();
        let mut before = first.into_iter().flat_map(|first| first.selections.iter().copied());
        let calls = self.sets.iter().map(|set| {
            let of = |one: &DestinationReport| {
                let new = one.selections.saturating_sub(before.next().unwrap_or(one.selections));
                known.then(|| new as f64 / time.as_secs_f64())
            };
            set.destinations.iter().map(of).collect()
        });
        Rates { calls: calls.collect() }
    }
}

fn selections(sets: &[SetReport]) -> impl Iterator<Item = u64> {
    sets.iter().flat_map(|set| &set.destinations).map(|one| one.selections)
}

fn keys(sets: &[SetReport]) -> impl Iterator<Item = (u32, &str, Option<SocketAddr>)> {
    sets.iter().flat_map(|set| set.destinations.iter().map(|one| (set.set, one.uri.as_str(), one.address)))
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::show::tests::{destination, set};

    pub(in crate::cli::top) fn event(name: &str, data: &Value) -> News {
        News::Event(StreamEvent { name: name.to_owned(), id: None, data: data.to_string() })
    }

    /// Two servers, of which one is down.
    pub(in crate::cli::top) fn world(now: Instant) -> World {
        let node = json!({
            "node": "a", "version": "0.1.0", "started": "2026-11-26T03:00:00.000Z", "draining": false, "sessions": 5,
            "parked": 0, "listeners": [], "vips": ["10.0.0.101"], "peers": [],
            "ready": { "ready": true, "reasons": [], "degraded": ["the rows are old"] },
        });
        let mut down = destination("sip:10.0.0.2:7010", "10.0.0.2:7010");
        (down.fit, down.health, down.why) = (false, "down".to_owned(), "3 failed in a row".to_owned());
        let up = destination("sip:10.0.0.1:7010", "10.0.0.1:7010");
        let set = SetReport { fit: 1, ..set(vec![up, down]) };
        let sessions =
            json!({ "live": 5, "parked": 0, "pings": 0, "failed_pings": 0, "byes": 0, "failed_byes": 0, "ended": {} });
        let mut world = World::default();
        for news in [event("node", &node), event("sets", &json!({ "node": "a", "sets": [set], "sessions": sessions }))]
        {
            world.hear(news, now, SystemTime::UNIX_EPOCH).expect("JSON of ours");
        }
        world
    }

    /// So many calls of each destination in all, and as many sessions.
    pub(in crate::cli::top) fn calls(world: &mut World, selections: [u64; 2], now: Instant) {
        let all = world.sets[0].destinations.iter().zip(selections);
        let destinations: Vec<_> = all
            .map(|(one, selections)| {
                let mut one = serde_json::to_value(one).expect("JSON");
                (one["selections"], one["sessions"], one["set"]) = (json!(selections), json!(selections), json!(19));
                one
            })
            .collect();
        let live: u64 = selections.iter().sum();
        let sessions = json!({ "live": live, "parked": 0, "pings": 0, "failed_pings": 0, "byes": 0, "failed_byes": 0, "ended": {} });
        let changes = json!({ "at": "x", "sets": [], "destinations": destinations, "sessions": sessions });
        world.hear(event("changes", &changes), now, SystemTime::UNIX_EPOCH).expect("JSON of ours");
    }

    #[test]
    fn changes_are_put_in_and_calls_are_those_of_the_last_ten_seconds() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut world = world(began);
        assert_eq!((world.is_whole(), world.sessions), (true, 5));
        let rates = |world: &World, now| world.rates(now).calls[0].clone();
        assert_eq!(rates(&world, began), [None, None]);
        calls(&mut world, [30, 10], at(2));
        assert_eq!((world.sessions, world.sets[0].destinations[0].sessions), (40, 30));
        assert_eq!(rates(&world, at(2)), [Some(15.0), Some(5.0)]);
        // Nothing more: there are fewer and fewer, and none in the end.
        assert_eq!(rates(&world, at(4)), [Some(7.5), Some(2.5)]);
        assert_eq!(rates(&world, at(11)), [Some(3.0), Some(1.0)]);
        assert_eq!(rates(&world, at(12)), [Some(0.0), Some(0.0)]);
        (3..60).for_each(|second| calls(&mut world, [30 + second, 10], at(second)));
        assert_eq!(rates(&world, at(59)), [Some(1.0), Some(0.0)]);
        assert!(world.samples.len() <= 12);
        world.hear(News::NotLive("gone".to_owned()), at(60), SystemTime::UNIX_EPOCH).expect("no JSON");
        assert_eq!((rates(&world, at(60)), world.not_live.as_deref()), (vec![None, None], Some("gone")));
    }

    #[test]
    fn a_node_that_has_started_anew_is_counted_anew() {
        let began = Instant::now();
        let mut old = world(began);
        calls(&mut old, [30, 10], began + Duration::from_secs(2));
        let again = serde_json::to_value(SetsReport {
            node: "a".to_owned(),
            sets: world(began).sets,
            sessions: serde_json::from_value(json!({ "live": 0, "parked": 0, "pings": 0, "failed_pings": 0, "byes": 0, "failed_byes": 0, "ended": {} })).expect("sessions"),
        });
        let now = began + Duration::from_secs(5);
        old.hear(event("sets", &again.expect("JSON")), now, SystemTime::UNIX_EPOCH).expect("JSON of ours");
        assert_eq!((old.samples.len(), old.rates(now).calls[0][0]), (1, None));
    }

    #[test]
    fn what_a_later_version_says_is_passed_over_and_nonsense_is_not() {
        let now = Instant::now();
        let mut world = world(now);
        assert!(world.hear(event("weather", &json!(1)), now, SystemTime::UNIX_EPOCH).is_ok());
        assert!(world.hear(event("node", &json!({ "node": 1 })), now, SystemTime::UNIX_EPOCH).is_err());
    }
}
