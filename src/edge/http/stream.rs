//! `/stream`: sets, the node and what happens, live, as server-sent events.
//!
//! One task looks each second and tells all who listen what differs from before; it ends with the last of them.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, broadcast, watch};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::access::Role;
use super::report::{DestinationReport, NodeSessions, SetReport};
use super::routes::{Need, Routes};
use super::sets::{Refusal, in_time};
use super::{ANSWER, Node, NodeReport, Shared, error};
use crate::edge::journal::{Entry, KEPT, Page};
use crate::edge::moment::Moment;
use crate::engine::Snapshot;

/// From one look to the next.
const LOOK: Duration = Duration::from_secs(1);
/// Whoever is slower than that begins anew.
const BEHIND: usize = 16;
/// So many may listen.
const MOST: usize = 32;
/// Who listens hears something at least so often.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// So many events of before are told at the start.
const BEFORE: usize = 100;

pub(super) fn routes<N: Node>() -> Routes<N> {
    Routes::new().get("/stream", Need::Role(Role::Read), listen::<N>)
}

/// Who listens, and what they have been told.
#[derive(Debug)]
pub(super) struct Stream {
    places: Arc<Semaphore>,
    /// What was told last; none while nobody listens.
    told: Mutex<Option<Told>>,
}

impl Default for Stream {
    fn default() -> Self {
        Stream { places: Arc::new(Semaphore::new(MOST)), told: Mutex::default() }
    }
}

#[derive(Debug)]
struct Told {
    world: Arc<World>,
    /// All of it, once somebody has asked for it.
    whole: Option<[Frame; 2]>,
    frames: broadcast::Sender<Frame>,
}

/// One event: its name and its data.
#[derive(Clone, Debug, PartialEq)]
struct Frame(&'static str, Arc<str>);

impl Frame {
    fn new(name: &'static str, data: &impl Serialize) -> Self {
        Frame(name, serde_json::to_string(data).expect("reports are JSON").into())
    }

    fn event(&self) -> Event {
        Event::default().event(self.0).data(&*self.1)
    }
}

/// A destination's address, as a set has it.
type Key = (u32, String, Option<SocketAddr>);

/// All that is shown at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
struct World {
    node: Value,
    /// The sets without their destinations.
    sets: Vec<Value>,
    /// In the sets' order, and in the table's within them.
    destinations: Vec<(Key, Value)>,
    sessions: Value,
}

impl World {
    // Long for many destinations: nothing that others wait for.
    fn of(node: &impl Node, ready: Value, snapshot: &Snapshot) -> Self {
        let mut this_node = value(NodeReport::new(node, snapshot));
        this_node["ready"] = ready;
        let mut world = World { node: this_node, sessions: value(NodeSessions::of(snapshot)), ..World::default() };
        for set in snapshot.sets.iter().map(SetReport::of) {
            let (number, mut without) = (set.set, value(SetReport { destinations: Vec::new(), ..set.clone() }));
            without.as_object_mut().expect("a report").remove("destinations");
            world.sets.push(without);
            world.destinations.extend(set.destinations.into_iter().map(|one| (key(number, &one), value(one))));
        }
        world
    }

    /// As `GET /sets` tells it.
    fn whole(&self) -> Value {
        let mut destinations = self.destinations.iter().peekable();
        let sets = self.sets.iter().map(|set| {
            let mut of_set = Vec::new();
            while let Some((_, one)) = destinations.next_if(|((number, ..), _)| set["set"] == *number) {
                of_set.push(one.clone());
            }
            let mut set = set.clone();
            set["destinations"] = of_set.into();
            set
        });
        json!({ "node": self.node["node"], "sets": sets.collect::<Vec<_>>(), "sessions": self.sessions })
    }

    /// Whether it has the same sets and destinations in the same order.
    fn has_rows_of(&self, other: &World) -> bool {
        fn names(world: &World) -> impl Iterator<Item = &Value> {
            world.sets.iter().map(|set| &set["set"])
        }
        fn keys(world: &World) -> impl Iterator<Item = &Key> {
            world.destinations.iter().map(|(key, _)| key)
        }
        names(self).eq(names(other)) && keys(self).eq(keys(other))
    }

    /// What is told of it to who knows `before`.
    fn since(&self, before: &World, at: SystemTime) -> Vec<Frame> {
        let mut frames = Vec::new();
        if self.node != before.node {
            frames.push(Frame::new("node", &self.node));
        }
        if !self.has_rows_of(before) {
            frames.push(Frame::new("sets", &self.whole()));
            return frames;
        }
        let sets = self.sets.iter().zip(&before.sets);
        let sets: Vec<_> = sets.filter(|(now, then)| now != then).map(|(now, _)| now).collect();
        let all = self.destinations.iter().zip(&before.destinations);
        let destinations: Vec<_> = all.filter(|(now, then)| now.1 != then.1).map(|(now, _)| with_set(now)).collect();
        if !sets.is_empty() || !destinations.is_empty() || self.sessions != before.sessions {
            let (at, sessions) = (Moment(at), &self.sessions);
            let changes = json!({ "at": at, "sets": sets, "destinations": destinations, "sessions": sessions });
            frames.push(Frame::new("changes", &changes));
        }
        frames
    }
}

fn value(report: impl Serialize) -> Value {
    serde_json::to_value(report).expect("reports are JSON")
}

fn key(set: u32, one: &DestinationReport) -> Key {
    (set, one.uri.clone(), one.address)
}

fn with_set(((set, ..), one): &(Key, Value)) -> Value {
    let mut one = one.clone();
    one["set"] = json!(set);
    one
}

async fn listen<N: Node>(State(shared): State<Shared<N>>, headers: HeaderMap) -> Response {
    let Ok(place) = Arc::clone(&shared.stream.places).try_acquire_owned() else {
        return error(StatusCode::SERVICE_UNAVAILABLE, "too many listen already: close some, or ask /sets and /events");
    };
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    match Listener::join(shared, place, last).await {
        Ok(listener) => {
            let events = stream::unfold(listener, Listener::next);
            // A reverse proxy that gathers what it passes on would hold the events back.
            let headers = [(header::CACHE_CONTROL, "no-store"), (HeaderName::from_static("x-accel-buffering"), "no")];
            (headers, Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT))).into_response()
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// One who listens.
struct Listener<N: Node> {
    shared: Shared<N>,
    frames: broadcast::Receiver<Frame>,
    news: watch::Receiver<u64>,
    /// The last entry of the journal that was told.
    since: u64,
    waiting: VecDeque<Event>,
    _place: OwnedSemaphorePermit,
}

impl<N: Node> Listener<N> {
    /// Hears the whole, and then what has happened since `last`, an event's id.
    async fn join(shared: Shared<N>, place: OwnedSemaphorePermit, last: Option<&str>) -> Result<Self, Refusal> {
        let journal = shared.node.journal();
        let mut news = journal.news();
        let last = last.and_then(|id| sequence(id, shared.node.started()));
        let page = match last {
            Some(since) => journal.since(since, KEPT),
            None => journal.newest(BEFORE),
        };
        news.mark_changed();
        let (whole, frames) = join(&shared).await?;
        let waiting = whole.iter().map(Frame::event).collect();
        let mut listener = Listener { shared, frames, news, since: 0, waiting, _place: place };
        listener.hear(last, page);
        Ok(listener)
    }

    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some((Ok(event), self));
            }
            tokio::select! {
                frame = self.frames.recv() => match frame {
                    Ok(frame) => self.waiting.push_back(frame.event()),
                    Err(RecvError::Closed) => return None,
                    Err(RecvError::Lagged(_)) => {
                        let (whole, frames) = join(&self.shared).await.ok()?;
                        self.frames = frames;
                        self.waiting.extend(whole.iter().map(Frame::event));
                    }
                },
                news = self.news.changed() => {
                    news.ok()?;
                    let page = self.shared.node.journal().since(self.since, KEPT);
                    self.hear(Some(self.since), page);
                }
            }
        }
    }

    /// Tells what a page has, and what is forgotten between it and `last`.
    fn hear(&mut self, last: Option<u64>, page: Page) {
        let started = self.shared.node.started();
        self.waiting.extend(lost(last, &page).iter().map(Frame::event));
        self.since = page.last;
        let event = |entry: Arc<Entry>| {
            let data = serde_json::to_string(&*entry).expect("entries are JSON");
            Event::default().event("event").id(event_id(entry.sequence, started)).data(data)
        };
        self.waiting.extend(page.entries.into_iter().map(event));
    }
}

/// How many entries after `last` the journal had forgotten when the page was read; nothing if none.
fn lost(last: Option<u64>, page: &Page) -> Option<Frame> {
    let lost = page.first.saturating_sub(last?.saturating_add(1));
    (lost > 0).then(|| Frame::new("lost", &json!({ "events": lost })))
}

/// An event's id: numbers begin anew with each start of the node.
pub fn event_id(sequence: u64, started: SystemTime) -> String {
    format!("{}-{sequence}", millis(started))
}

/// The number in an event's id, if that is of this start.
fn sequence(id: &str, started: SystemTime) -> Option<u64> {
    let (start, sequence) = id.split_once('-')?;
    (start == millis(started).to_string()).then(|| sequence.parse().ok())?
}

fn millis(started: SystemTime) -> u128 {
    started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis()
}

/// The whole as it was told last, and what is told from then on; who comes first has it looked at.
async fn join<N: Node>(shared: &Shared<N>) -> Result<(Vec<Frame>, broadcast::Receiver<Frame>), Refusal> {
    let mut told = shared.stream.told.lock().await;
    if told.is_none() {
        let world = Arc::new(in_time(look(&shared.node)).await?);
        *told = Some(Told { world: Arc::clone(&world), whole: None, frames: broadcast::Sender::new(BEHIND) });
        tokio::spawn(tell(shared.clone(), world));
    }
    let Told { world, whole, frames } = told.as_mut().expect("it is there now");
    let frames = frames.subscribe();
    if let Some(whole) = whole {
        return Ok((whole.to_vec(), frames));
    }
    let world = Arc::clone(world);
    let made = aside(move || [Frame::new("node", &world.node), Frame::new("sets", &world.whole())]);
    let made = in_time(made).await?;
    *whole = Some(made.clone());
    Ok((made.to_vec(), frames))
}

async fn look<N: Node>(node: &Arc<N>) -> Result<World, String> {
    let ready = node.readiness().await.report();
    let (node, snapshot) = (Arc::clone(node), node.snapshot().await?);
    aside(move || World::of(&*node, ready, &snapshot)).await
}

/// Beside the runtime's workers, which serve calls too.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    spawn_blocking(work).await.map_err(|_| "it broke off; the log tells why".to_owned())
}

/// Looks, and tells what is another, as long as somebody listens and the node is there.
async fn tell<N: Node>(shared: Shared<N>, mut before: Arc<World>) {
    let mut round = interval(LOOK);
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        round.tick().await;
        let news = async {
            let (world, before) = (look(&shared.node).await?, before);
            aside(move || (world.since(&before, SystemTime::now()), Arc::new(world))).await
        };
        let news = timeout(ANSWER, news).await;
        let mut told = shared.stream.told.lock().await;
        let listening = told.as_mut().filter(|told| told.frames.receiver_count() > 0);
        let (Ok(Ok((frames, world))), Some(listening)) = (news, listening) else {
            // Who still listens finds the end of it, and asks anew.
            *told = None;
            return;
        };
        before = Arc::clone(&world);
        if !frames.is_empty() {
            (listening.world, listening.whole) = (world, None);
        }
        // Nobody who is gone needs it.
        frames.into_iter().for_each(|frame| drop(listening.frames.send(frame)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: SystemTime = SystemTime::UNIX_EPOCH;

    fn world(sessions: u64) -> World {
        let uri = |uri: &str| (19, uri.to_owned(), None);
        World {
            node: json!({ "node": "a" }),
            sets: vec![json!({ "set": 18, "fit": 0 }), json!({ "set": 19, "fit": 2 })],
            destinations: vec![
                (uri("sip:x"), json!({ "uri": "sip:x", "sessions": sessions })),
                (uri("sip:y"), json!({ "uri": "sip:y", "sessions": 0 })),
            ],
            sessions: json!({ "live": sessions }),
        }
    }

    fn said(frames: &[Frame]) -> Vec<(&'static str, Value)> {
        frames.iter().map(|Frame(name, data)| (*name, serde_json::from_str(data).expect("JSON"))).collect()
    }

    #[test]
    fn only_what_differs_is_told() {
        assert_eq!(world(1).since(&world(1), AT), []);
        let changes = json!({
            "at": "1970-01-01T00:00:00.000Z",
            "sets": [],
            "destinations": [{ "uri": "sip:x", "sessions": 2, "set": 19 }],
            "sessions": { "live": 2 },
        });
        assert_eq!(said(&world(2).since(&world(1), AT)), [("changes", changes)]);
        let other = World { node: json!({ "node": "a", "draining": true }), ..world(1) };
        assert_eq!(said(&other.since(&world(1), AT)), [("node", other.node.clone())]);
    }

    #[test]
    fn where_rows_come_or_go_the_whole_is_told() {
        let mut fewer = world(1);
        fewer.destinations.pop();
        let whole = json!({
            "node": "a",
            "sets": [
                { "set": 18, "fit": 0, "destinations": [] },
                { "set": 19, "fit": 2, "destinations": [{ "uri": "sip:x", "sessions": 1 }] },
            ],
            "sessions": { "live": 1 },
        });
        assert_eq!(said(&fewer.since(&world(1), AT)), [("sets", whole)]);
    }

    #[test]
    fn who_comes_too_late_hears_how_many_events_are_lost() {
        let page = |first| Page { first, last: 9000, entries: Vec::new() };
        let told = |last, first| said(lost(last, &page(first)).as_slice());
        assert_eq!(told(Some(7), 4905), [("lost", json!({ "events": 4897 }))]);
        for (last, first) in [(Some(7), 8), (Some(7), 1), (Some(0), 0), (None, 4905), (Some(u64::MAX), 1)] {
            assert_eq!(told(last, first), [], "{last:?} {first}");
        }
    }

    #[test]
    fn an_id_is_of_one_start() {
        let started = AT + Duration::from_millis(1_764_127_257_250);
        assert_eq!(event_id(7, started), "1764127257250-7");
        assert_eq!(sequence("1764127257250-7", started), Some(7));
        assert_eq!(sequence("1764127257251-7", started), None);
        assert_eq!(sequence("7", started), None);
    }
}
