//! Calls' stories: the last ones that are told of message by message, and in short those of all calls. Memory is bounded, and
//! the newest win. What is told goes to the log, and where it is wanted to a capture server and a collector.

mod shelf;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use thiserror::Error;

use crate::edge::hep::{Hep, HepConfig, HepError, Way};
use crate::edge::log;
use crate::edge::otlp::{Otlp, OtlpError};
use crate::engine::Event;
use crate::engine::event::{Call, Record};
use crate::engine::explain::{Explanation, Fate};
use crate::engine::trace::{Step, What};

use shelf::Shelf;

/// Steps of one story.
pub const MOST_STEPS: usize = 200;
/// Bytes of all messages and decisions together, roughly.
const MOST_BYTES: usize = 64 << 20;
/// When a story is full, steps behind so many go first: how a call began and how it ended tell most.
const KEPT_FIRST: usize = 100;

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
}

impl Default for StoriesConfig {
    fn default() -> Self {
        StoriesConfig { keep: 1000, calls: 10_000, hep: None, otlp: None }
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
    Routed(SystemTime, Call),
    /// It is over, or never became a session.
    Over(SystemTime, Record),
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
}

#[derive(Debug)]
struct Shelves {
    /// With messages.
    traced: Shelf,
    /// In short.
    short: Shelf,
    bytes: usize,
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
        let (traced, short) = (Shelf::of(config.keep), Shelf::of(config.calls));
        let shelves = Mutex::new(Shelves { traced, short, bytes: 0, traces: 0 });
        let stories = Arc::new(Stories { shelves, hep, otlp });
        if let Some(export) = export {
            tokio::spawn(export.run(Arc::downgrade(&stories)));
        }
        Ok(stories)
    }

    /// Hears of everything.
    pub fn hear(&self, event: &Event) {
        match event {
            Event::Traced(step) => self.take(step),
            Event::Call(call) => {
                let now = SystemTime::now();
                self.shelves().tell(&call.call_id, now, || Part::Routed(now, (**call).clone()));
            }
            Event::Session(record) if !record.call_id.is_empty() => {
                let at = record.began + record.lasted;
                let traced = self.shelves().tell(&record.call_id, record.began, || Part::Over(at, (**record).clone()));
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
        let Some(story) = self.traced.find_mut(&step.call_id) else { return (false, false) };
        let before = story.bytes;
        story.add(Part::Step(step.clone()));
        let (after, is_end) = (story.bytes, story.ends_without_record(step));
        self.bytes = (self.bytes + after).saturating_sub(before);
        self.make_room();
        (true, is_end)
    }

    /// Notes what is known of every call; whether it is one that is told of.
    fn tell(&mut self, call_id: &str, began: SystemTime, part: impl FnOnce() -> Part) -> bool {
        if let Some(story) = self.traced.find_mut(call_id) {
            let before = story.bytes;
            story.add(part());
            self.bytes = (self.bytes + story.bytes).saturating_sub(before);
            return true;
        }
        if self.short.find(call_id).is_none() {
            self.short.put(Story::new(call_id, began));
        }
        if let Some(story) = self.short.find_mut(call_id) {
            story.add(part());
        }
        while self.short.is_too_full() {
            self.short.take_oldest();
        }
        false
    }

    /// The oldest stories go back among the short ones.
    fn make_room(&mut self) {
        while self.traced.is_too_full() || self.bytes > MOST_BYTES && self.traced.len() > 1 {
            let Some(mut story) = self.traced.take_oldest() else { return };
            self.bytes = self.bytes.saturating_sub(story.bytes);
            story.forget();
            self.short.put(story);
            while self.short.is_too_full() {
                self.short.take_oldest();
            }
        }
    }
}

impl Story {
    fn new(call_id: &str, began: SystemTime) -> Self {
        let (parts, call_id) = (Vec::new(), call_id.to_owned());
        Story { call_id, id: None, began, parts, left_out: 0, forgotten: false, bytes: 0 }
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

    fn add(&mut self, part: Part) {
        if self.parts.len() >= MOST_STEPS {
            let gone = self.parts.remove(KEPT_FIRST);
            self.bytes = self.bytes.saturating_sub(weight(&gone));
            self.left_out += 1;
        }
        self.bytes += weight(&part);
        self.parts.push(Arc::new(part));
    }

    /// What every call has remains.
    fn forget(&mut self) {
        self.parts.retain(|part| !matches!(**part, Part::Step(_)));
        (self.bytes, self.left_out, self.forgotten) = (0, 0, true);
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

/// Roughly, in bytes.
fn weight(part: &Part) -> usize {
    const OF_PART: usize = 400;
    const OF_DESTINATION: usize = 800;
    const OF_CONDITION: usize = 200;
    OF_PART
        + match part {
            Part::Step(step) => match &step.what {
                What::Came(packet) | What::Left(packet) | What::Lost { packet, .. } => packet.bytes.len(),
                What::Decided(told) => {
                    let destinations: usize = told.sets.iter().map(|set| set.destinations.len()).sum();
                    let conditions: usize = told.rules.iter().map(|rule| 1 + rule.conditions.len()).sum();
                    destinations * OF_DESTINATION + conditions * OF_CONDITION
                }
            },
            Part::Routed(..) | Part::Over(..) => 0,
        }
}
