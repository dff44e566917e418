//! Calls' stories: the last ones that are told of message by message, and in short those of all calls. Memory is bounded, and
//! the newest win. What is told goes to the log, and where it is wanted to a capture server and a collector.

mod shelf;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use thiserror::Error;
use tokio::task::JoinHandle;

use crate::edge::hep::{Hep, HepConfig, HepError, Way};
use crate::edge::log;
use crate::edge::otlp::{Otlp, OtlpError};
use crate::engine::Event;
use crate::engine::dispatch::SetId;
use crate::engine::event::{Call, Record};
use crate::engine::explain::{Explanation, Fate};
use crate::engine::trace::{Packet, Step, What};

use shelf::{Bounds, Shelf};

/// Steps of one story.
pub const MOST_STEPS: usize = 200;
/// Bytes of all stories with messages, roughly.
const MOST_BYTES: usize = 64 << 20;
/// Parts of a story in short: a Call-ID may be used for many calls.
const MOST_SHORT_PARTS: usize = 10;
/// Bytes of all stories in short, roughly.
const MOST_SHORT_BYTES: usize = 32 << 20;

/// What is kept, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoriesConfig {
    /// Stories with messages that are kept.
    pub keep: usize,
    /// Calls that are kept in short.
    pub calls: usize,
    /// The capture server that messages go to.
    pub hep: Option<HepConfig>,
    /// The OpenTelemetry collector that stories go to.
    pub otlp: Option<SocketAddr>,
    /// Whether bodies and credentials are told too.
    pub whole: bool,
}

impl Default for StoriesConfig {
    fn default() -> Self {
        StoriesConfig { keep: 1000, calls: 10_000, hep: None, otlp: None, whole: false }
    }
}

/// Why stories can't go where they are wanted.
#[derive(Debug, Error)]
pub enum StoriesError {
    /// Messages can't be captured.
    #[error(transparent)]
    Hep(#[from] HepError),
    /// The exporter can't be made.
    #[error(transparent)]
    Otlp(#[from] OtlpError),
}

/// A call's story.
#[derive(Clone, Debug)]
pub struct Story {
    /// Its Call-ID.
    pub call_id: String,
    /// The name of the story, the same on all nodes; none as long as nothing but the call's start and end is known.
    pub id: Option<u128>,
    /// When it began.
    pub began: SystemTime,
    /// What became of it, in order.
    pub parts: Vec<Arc<Part>>,
    /// Steps that were left out, since there were too many.
    pub left_out: usize,
    /// Whether its messages had to make room for those of newer stories.
    pub forgotten: bool,
    bytes: usize,
}

/// A part of a story.
#[derive(Clone, Debug)]
pub enum Part {
    /// Something that a call which is told of has come to.
    Step(Step),
    /// Its initial INVITE was routed, at about that time.
    Routed(SystemTime, Routed),
    /// It is over, or never became a session.
    Over(SystemTime, Record),
}

/// Where a call was sent.
#[derive(Clone, Debug)]
pub struct Routed {
    /// The caller.
    pub source: SocketAddr,
    /// Its User-Agent; "" if there was none.
    pub user_agent: String,
    /// The first m= lines of its description.
    pub media: Vec<String>,
    /// The rule that matched; none: it was answered as unroutable.
    pub rule: Option<String>,
    /// The set that the rule names.
    pub set: Option<SetId>,
    /// The URI of the destination that was chosen first.
    pub destination: Option<String>,
}

/// What has been counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoryCounters {
    /// Stories that were begun with messages.
    pub traces: u64,
    /// Messages that could not be sent to the capture server.
    pub hep_dropped: u64,
    /// Stories that could not be sent to the collector.
    pub otlp_dropped: u64,
}

/// All stories.
#[derive(Debug)]
pub struct Stories {
    shelves: Mutex<Shelves>,
    hep: Option<Hep>,
    otlp: Option<Otlp>,
    /// Sends what the collector is to have.
    export: Mutex<Option<JoinHandle<()>>>,
    whole: bool,
}

#[derive(Debug)]
struct Shelves {
    /// With messages.
    traced: Shelf,
    /// In short.
    short: Shelf,
    traces: u64,
}

impl Stories {
    /// No stories yet. With a collector it needs a tokio runtime that outlives it.
    ///
    /// # Errors
    /// [`StoriesError`].
    pub fn start(config: &StoriesConfig, node: &str) -> Result<Arc<Self>, StoriesError> {
        let hep = config.hep.as_ref().map(Hep::start).transpose()?;
        let (otlp, export) = match config.otlp {
            Some(to) => {
                let (otlp, export) = Otlp::new(to, node)?;
                (Some(otlp), Some(export))
            }
            None => (None, None),
        };
        let shelves = Mutex::new(Shelves::of(config));
        let stories = Arc::new(Stories { shelves, hep, otlp, export: Mutex::default(), whole: config.whole });
        if let Some(export) = export {
            *stories.export() = Some(tokio::spawn(export.run(Arc::downgrade(&stories))));
        }
        Ok(stories)
    }

    /// Whether they hold bodies and credentials.
    pub fn are_whole(&self) -> bool {
        self.whole
    }

    /// Sends what waits for the collector, for a while. Nothing may be heard any more.
    pub async fn close(&self) {
        let task = self.export().take();
        if let (Some(otlp), Some(task)) = (&self.otlp, task) {
            otlp.close(task).await;
        }
    }

    fn export(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.export.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears of everything.
    pub fn hear(&self, event: &Event) {
        match event {
            Event::Traced(step) => self.take(step),
            Event::Call(call) => {
                let now = SystemTime::now();
                self.shelves().tell(&call.call_id, now, Part::Routed(now, Routed::of(call)));
            }
            Event::Session(record) if !record.call_id.is_empty() => {
                let at = record.began + record.lasted;
                let traced = self.shelves().tell(&record.call_id, record.began, Part::Over(at, (**record).clone()));
                if let (Some(otlp), true) = (&self.otlp, traced) {
                    otlp.ended(&record.call_id);
                }
            }
            _ => {}
        }
    }

    fn take(&self, step: &Step) {
        let (taken, is_end) = self.shelves().take(step);
        if !taken {
            return;
        }
        log::report_step(step);
        if let Some(hep) = &self.hep {
            match &step.what {
                What::Came(packet) => hep.send(step.at, &step.call_id, Way::In, packet),
                What::Left(packet) => hep.send(step.at, &step.call_id, Way::Out, packet),
                What::Decided(_) | What::Lost { .. } => {}
            }
        }
        if let (Some(otlp), true) = (&self.otlp, is_end) {
            otlp.ended(&step.call_id);
        }
    }

    /// How many stories there are, and some of them: so many behind that many, the newest first.
    pub fn some(&self, offset: usize, limit: usize) -> (usize, Vec<Story>) {
        let shelves = self.shelves();
        let mut all: Vec<_> = shelves.traced.all().chain(shelves.short.all()).collect();
        all.sort_by_key(|story| std::cmp::Reverse(story.began));
        (all.len(), all.into_iter().skip(offset).take(limit).cloned().collect())
    }

    /// The story of a call.
    pub fn story(&self, call_id: &str) -> Option<Story> {
        let shelves = self.shelves();
        shelves.traced.find(call_id).or_else(|| shelves.short.find(call_id)).cloned()
    }

    /// What has been counted since the start.
    pub fn counters(&self) -> StoryCounters {
        StoryCounters {
            traces: self.shelves().traces,
            hep_dropped: self.hep.as_ref().map_or(0, Hep::dropped),
            otlp_dropped: self.otlp.as_ref().map_or(0, Otlp::dropped),
        }
    }

    fn shelves(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelves {
    fn of(&StoriesConfig { keep, calls, .. }: &StoriesConfig) -> Self {
        let traced = Bounds { stories: keep, bytes: MOST_BYTES, parts: MOST_STEPS };
        let short = Bounds { stories: calls, bytes: MOST_SHORT_BYTES, parts: MOST_SHORT_PARTS };
        Shelves { traced: Shelf::of(traced), short: Shelf::of(short), traces: 0 }
    }

    /// Notes a step; whether it belongs to a story, and whether it is the end of one that gets no record.
    fn take(&mut self, step: &Step) -> (bool, bool) {
        let known = self.traced.find(&step.call_id).is_some();
        if !known && !begins(step) {
            return (false, false);
        }
        if !known {
            self.traces += 1;
            let story = self.short.take_out(&step.call_id).unwrap_or_else(|| Story::new(&step.call_id, step.at));
            self.traced.put(Story { id: Some(step.id), ..story });
        }
        let Some(story) = self.traced.add(&step.call_id, Part::Step(step.clone())) else { return (false, false) };
        let is_end = story.ends_without_record(step);
        self.make_room();
        (true, is_end)
    }

    /// Notes what is known of every call; whether it is one that is told of.
    fn tell(&mut self, call_id: &str, began: SystemTime, part: Part) -> bool {
        let is_traced = self.traced.find(call_id).is_some();
        if is_traced {
            self.traced.add(call_id, part);
        } else {
            if self.short.find(call_id).is_none() {
                self.short.put(Story::new(call_id, began));
            }
            self.short.add(call_id, part);
        }
        self.make_room();
        is_traced
    }

    /// The oldest stories go back among the short ones.
    fn make_room(&mut self) {
        while let Some(mut story) = self.traced.take_surplus() {
            story.forget();
            self.short.put(story);
        }
        while self.short.take_surplus().is_some() {}
    }
}

impl Story {
    fn new(call_id: &str, began: SystemTime) -> Self {
        let (parts, call_id) = (Vec::new(), call_id.to_owned());
        let bytes = weight_without_parts(&call_id);
        Story { call_id, id: None, began, parts, left_out: 0, forgotten: false, bytes }
    }

    /// Whether messages were kept.
    pub fn is_traced(&self) -> bool {
        self.parts.iter().any(|part| matches!(**part, Part::Step(_)))
    }

    /// Whether its last word is its end.
    pub fn is_over(&self) -> bool {
        self.parts.iter().rev().find_map(|part| match &**part {
            Part::Over(..) => Some(true),
            Part::Routed(..) => Some(false),
            Part::Step(step) => self.ends_without_record(step).then_some(true),
        }) == Some(true)
    }

    /// The last decision.
    pub fn decision(&self) -> Option<&Explanation> {
        self.parts.iter().rev().find_map(|part| match &**part {
            Part::Step(Step { what: What::Decided(told), .. }) => Some(&**told),
            Part::Step(_) | Part::Routed(..) | Part::Over(..) => None,
        })
    }

    /// When it is full, those in its midst go first: how a call began and how it ended tell most.
    fn add(&mut self, part: Part, most: usize) {
        if self.parts.len() >= most {
            let gone = self.parts.remove(most / 2);
            self.bytes = self.bytes.saturating_sub(weight(&gone));
            self.left_out += 1;
        }
        self.bytes += weight(&part);
        self.parts.push(Arc::new(part));
    }

    /// What every call has remains.
    fn forget(&mut self) {
        let (parts, id) = (std::mem::take(&mut self.parts), self.id);
        *self = Story { id, forgotten: true, ..Story::new(&self.call_id, self.began) };
        for part in parts.into_iter().filter(|part| !matches!(**part, Part::Step(_))) {
            self.add(Arc::unwrap_or_clone(part), MOST_SHORT_PARTS);
        }
    }

    /// Whether the step is the final answer to an INVITE that no set was asked for: nobody writes that down.
    fn ends_without_record(&self, step: &Step) -> bool {
        let What::Left(packet) = &step.what else { return false };
        let is_final = packet.method == "INVITE" && packet.status.is_some_and(|status| status >= 200);
        is_final && self.decision().is_some_and(|told| told.sets.is_empty() && !matches!(told.fate, Fate::Sent { .. }))
    }
}

/// Pings from outside have Call-IDs too, and are no calls.
fn begins(step: &Step) -> bool {
    match &step.what {
        What::Came(packet) | What::Left(packet) | What::Lost { packet, .. } => {
            step.asked || !matches!(packet.method.as_str(), "OPTIONS" | "REGISTER")
        }
        What::Decided(_) => true,
    }
}

impl Routed {
    fn of(call: &Call) -> Self {
        let Call { source, user_agent, media, rule, set, destination, .. } = call.clone();
        Routed { source, user_agent, media, rule, set, destination }
    }
}

/// Roughly, in bytes: it stands in the story and in the shelf.
fn weight_without_parts(call_id: &str) -> usize {
    const OF_STORY: usize = 300;
    OF_STORY + 2 * call_id.len()
}

/// Roughly, in bytes: what a peer can make long is counted as long as it is.
fn weight(part: &Part) -> usize {
    const OF_PART: usize = 400;
    OF_PART
        + match part {
            Part::Step(step) => step.call_id.len() + weight_of(&step.what),
            Part::Routed(_, Routed { source: _, user_agent, media, rule, set: _, destination }) => {
                user_agent.len() + of_texts(media) + of_texts(rule) + of_texts(destination)
            }
            Part::Over(_, record) => {
                record.call_id.len() + of_texts(&record.destination) + record.codes.len() * size_of::<u16>()
            }
        }
}

fn weight_of(what: &What) -> usize {
    const OF_DESTINATION: usize = 800;
    const OF_SET: usize = 1000;
    const OF_RULE: usize = 200;
    match what {
        What::Came(packet) | What::Left(packet) | What::Lost { packet, .. } => {
            let Packet { bytes, line, method, branch, listener, .. } = packet;
            bytes.len() + line.len() + method.len() + branch.len() + listener.len()
        }
        What::Decided(told) => {
            let Explanation { call_id, request_uri, notes, rules, sets, fate, .. } = &**told;
            let sets: usize = sets.iter().map(|set| OF_SET + set.destinations.len() * OF_DESTINATION).sum();
            let rules = rules.iter().map(|rule| {
                let all = rule.conditions.iter().map(|one| OF_RULE + one.wants.len() + of_texts(&one.has));
                OF_RULE + rule.action.len() + all.sum::<usize>()
            });
            let fate = match fate {
                Fate::Sent { tries, .. } => {
                    let ways = tries.iter().map(|one| one.way.as_ref().map_or(0, |way| way.request_uri.len()));
                    tries.len() * OF_RULE + ways.sum::<usize>()
                }
                Fate::Relayed { request_uri, why, .. } => request_uri.len() + why.len(),
                Fate::LookedUp { name, why } => name.len() + why.len(),
                Fate::Answered { headers, why, .. } => of_texts(headers) + why.len(),
                Fate::Ends { why } => why.len(),
            };
            call_id.len() + request_uri.len() + of_texts(notes) + sets + rules.sum::<usize>() + fate
        }
    }
}

fn of_texts<'t>(texts: impl IntoIterator<Item = &'t String>) -> usize {
    texts.into_iter().map(|text| size_of::<String>() + text.len()).sum()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::engine::event::Ending;

    const CONFIG: StoriesConfig = StoriesConfig { keep: 1000, calls: 1_000_000, hep: None, otlp: None, whole: false };

    fn call(call_id: String, media: Vec<String>) -> Event {
        Event::Call(Box::new(Call {
            call_id,
            user_agent: "u".repeat(1000),
            from: "f".repeat(60_000),
            to: "t".repeat(60_000),
            request_uri: "r".repeat(60_000),
            source: "127.0.0.1:5060".parse().expect("an address"),
            media,
            rule: None,
            set: None,
            destination: None,
        }))
    }

    fn session(call_id: &str) -> Event {
        Event::Session(Box::new(Record {
            call_id: call_id.to_owned(),
            set: SetId(19),
            destination: None,
            address: None,
            codes: vec![503],
            began: UNIX_EPOCH,
            answered_after: None,
            lasted: Duration::ZERO,
            ending: Ending::Failed,
        }))
    }

    #[test]
    fn stories_in_short_are_bounded_in_bytes_however_much_callers_write() {
        let stories = Stories::start(&CONFIG, "a").expect("no sink");
        for number in 0..10_000 {
            stories.hear(&call(format!("{number}{}", "i".repeat(1000)), vec!["m".repeat(500); 16]));
        }
        let shelves = stories.shelves();
        let (bytes, count) = (shelves.short.bytes(), shelves.short.all().count());
        assert!((MOST_SHORT_BYTES - 20_000..=MOST_SHORT_BYTES).contains(&bytes), "{bytes}");
        let text = |part: &Arc<Part>| format!("{part:?}").len();
        let kept: usize = shelves
            .short
            .all()
            .map(|story| 2 * story.call_id.len() + story.parts.iter().map(text).sum::<usize>())
            .sum();
        assert!(count > 1000 && kept <= bytes, "{count} of {kept} bytes, counted as {bytes}");
    }

    #[test]
    fn a_call_id_that_is_used_again_and_again_keeps_its_first_and_its_last_calls() {
        let stories = Stories::start(&CONFIG, "a").expect("no sink");
        for _ in 0..1000 {
            stories.hear(&call("a".to_owned(), Vec::new()));
            stories.hear(&session("a"));
        }
        let story = stories.story("a").expect("known");
        assert_eq!((story.parts.len(), story.left_out, story.is_over()), (MOST_SHORT_PARTS, 1990, true));
        assert_eq!(story.bytes, stories.shelves().short.bytes());
        assert_eq!(story.bytes, weight_without_parts("a") + story.parts.iter().map(|part| weight(part)).sum::<usize>());
    }
}
