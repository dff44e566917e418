//! Which calls are told of message by message, and what is told: a call's story, from the rule to its end.
//!
//! A call is sampled by a hash of its Call-ID under the cluster's key, so all nodes sample the same ones and nobody keeps a list.

mod redact;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use thiserror::Error;

use crate::engine::clock::{Instant, Now};
use crate::engine::explain::Explanation;
use crate::engine::flow::{Fault, Flow, Listener};
use crate::engine::sip::{Keys, Message, Method, Start, call_id_of, printable, printable_start};

pub(crate) use self::redact::without_password;
use self::redact::{redact, redact_told};

/// Calls that may be asked for at once.
pub const MOST_ASKED: usize = 100;
/// Destinations of a set that the decision of a story tells of: those that are tried, and the first of the others.
pub(crate) const MOST_DESTINATIONS: usize = 64;
/// So much of a line, or of what a rule looks at, is told beside the message.
const LONGEST_TOLD: usize = 256;
/// The bits of a trace id that sampling looks at: those that OpenTelemetry holds for random.
const RANDOM_BITS: u32 = 56;

/// Which calls are told of, and how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The share of calls.
    pub sample: Sample,
    /// Whether bodies and credentials are told too.
    pub whole: bool,
}

/// A share, in millionths: 0 is none, 1,000,000 is all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample(pub u32);

impl Sample {
    /// All of them.
    pub const ALL: u32 = 1_000_000;

    /// Whether a trace id is among them, as OpenTelemetry's consistent sampling has it: by its last 56 bits.
    fn takes(self, id: u128) -> bool {
        let random = id & ((1 << RANDOM_BITS) - 1);
        random * u128::from(Self::ALL) < u128::from(self.0) << RANDOM_BITS
    }
}

/// An operator wants to be told of a call from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceOrder {
    /// Its Call-ID.
    pub call_id: String,
    /// Who asks.
    pub by: String,
    /// Why.
    pub reason: String,
    /// For how long.
    pub time: Duration,
}

/// Why a call is not told of.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NotTraced {
    /// As many are asked for as may be.
    #[error(
        "{MOST_ASKED} calls are asked for already: wait until the time of one is over, or raise `sample` of [trace]"
    )]
    TooMany,
}

/// Something that has become of a call that is told of.
#[derive(Clone, Debug)]
pub struct Step {
    /// When.
    pub at: SystemTime,
    /// Its Call-ID, with control characters escaped.
    pub call_id: String,
    /// The same on all nodes of the cluster, and nobody outside can tell it from the Call-ID.
    pub id: u128,
    /// Whether somebody has asked for it: else it was sampled.
    pub asked: bool,
    /// What.
    pub what: What,
}

/// What has become of a call.
#[derive(Clone, Debug)]
pub enum What {
    /// A message came.
    Came(Packet),
    /// It was an initial INVITE, and this is what was decided, and why.
    Decided(Box<Explanation>),
    /// A message was sent.
    Left(Packet),
    /// A message did not get to its peer.
    Lost {
        /// The message.
        packet: Packet,
        /// Why.
        why: Loss,
    },
}

/// Why a message did not get to its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It could not be sent.
    Unsent(Fault),
    /// The peer's host, or a router, says so by ICMP.
    Refused,
}

impl Loss {
    /// As in an attribute.
    pub fn name(self) -> &'static str {
        match self {
            Loss::Unsent(Fault::Theirs) => "unreachable",
            Loss::Unsent(Fault::Ours | Fault::Passing) => "unsent",
            Loss::Refused => "icmp",
        }
    }

    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Loss::Unsent(Fault::Theirs) => "its peer refuses, broke off or does not read",
            Loss::Unsent(Fault::Ours) => "it could not be sent from here",
            Loss::Unsent(Fault::Passing) => "a buffer was full: it will be sent again",
            Loss::Refused => "an ICMP error says that nobody takes it there",
        }
    }
}

/// One message of a call that is told of.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The way.
    pub flow: Flow,
    /// Our end's address.
    pub ours: SocketAddr,
    /// The listener, as the configuration writes it.
    pub listener: String,
    /// The first line, with control characters escaped.
    pub line: String,
    /// The method of a request, or of the request that a response answers.
    pub method: String,
    /// A response's status.
    pub status: Option<u16>,
    /// The branch of its topmost Via.
    pub branch: String,
    /// What may be shown of it: without credentials, and of a description its m= lines alone, unless all is wanted.
    pub bytes: Bytes,
}

/// Tells which calls are told of.
#[derive(Debug)]
pub(crate) struct Tracer {
    config: Config,
    /// By listener.
    ours: Vec<(String, SocketAddr)>,
    asked: Vec<(Vec<u8>, Instant)>,
    /// When the time of the first of them is over.
    next_end: Option<Instant>,
    // The one thing that is looked at while nothing is to be told.
    on: bool,
}

/// A message of a call that is told of, looked at.
pub(crate) struct Seen<'b> {
    id: u128,
    asked: bool,
    call_id: &'b [u8],
    bytes: &'b [u8],
    /// None if it can't be read.
    pub(crate) message: Option<Message<'b>>,
}

impl Tracer {
    pub(crate) fn new(config: Config, listeners: &[Listener]) -> Self {
        let ours = listeners.iter().map(|listener| (listener.name(), listener.bind)).collect();
        Tracer { config, ours, asked: Vec::new(), next_end: None, on: config.sample.0 > 0 }
    }

    /// Whether any call may be told of now.
    pub(crate) fn is_on(&self) -> bool {
        self.on
    }

    /// Forgets whose time is over.
    pub(crate) fn look_at(&mut self, now: Instant) {
        if self.next_end.is_some_and(|end| end <= now) {
            self.asked.retain(|(_, until)| *until > now);
            self.look_ahead();
        }
    }

    /// From now on a call is told of; one that is asked for again is told of for the new time.
    pub(crate) fn ask(&mut self, order: &TraceOrder, now: Instant) -> Result<(), NotTraced> {
        self.look_at(now);
        let call_id = order.call_id.as_bytes();
        self.asked.retain(|(one, _)| one != call_id);
        if self.asked.len() >= MOST_ASKED {
            return Err(NotTraced::TooMany);
        }
        self.asked.push((call_id.to_owned(), now + order.time));
        self.look_ahead();
        Ok(())
    }

    fn look_ahead(&mut self) {
        self.next_end = self.asked.iter().map(|(_, until)| *until).min();
        self.on = self.config.sample.0 > 0 || !self.asked.is_empty();
    }

    /// A message, if it is of a call that is told of.
    pub(crate) fn see<'b>(&self, keys: &Keys, bytes: &'b [u8]) -> Option<Seen<'b>> {
        let call_id = call_id_of(bytes)?;
        let asked = self.asked.iter().any(|(one, _)| is_call_id(one, call_id));
        if !asked && self.config.sample.0 == 0 {
            return None;
        }
        let id = keys.story(call_id);
        let message = || Message::parse(bytes).ok();
        (asked || self.config.sample.takes(id)).then(|| Seen { id, asked, call_id, bytes, message: message() })
    }

    /// What is told of a message that went that way.
    pub(crate) fn packet(&self, seen: &Seen<'_>, flow: Flow) -> Packet {
        let (listener, ours) = self.ours.get(usize::from(flow.listener.0)).cloned().unwrap_or_else(|| {
            let nowhere = if flow.peer.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
            (String::new(), SocketAddr::new(nowhere, 0))
        });
        let bytes = match self.config.whole {
            true => Bytes::copy_from_slice(seen.bytes),
            false => redact(seen.bytes),
        };
        let told = |text| printable_start(text, LONGEST_TOLD);
        let (method, status, branch) = match &seen.message {
            Some(message) => {
                let status = match message.start() {
                    Start::Request { .. } => None,
                    Start::Response { status, .. } => Some(status),
                };
                let branch = message.via().branch.map(told).unwrap_or_default();
                (told(message.method().as_bytes()), status, branch)
            }
            None => Default::default(),
        };
        let first = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).find(|line| !line.is_empty());
        let line = first.map(told).unwrap_or_default();
        Packet { flow, ours, listener, line, method, status, branch, bytes }
    }

    /// What is told of a decision.
    pub(crate) fn decision(&self, mut told: Explanation) -> What {
        for set in told.sets.iter().filter(|set| set.destinations.len() < set.members) {
            let (all, some) = (set.members, set.destinations.len());
            told.notes.push(format!("set {} has {all} destinations: {some} are told of", set.id.0));
        }
        // First: a password whose end is cut off is not known for one.
        if !self.config.whole {
            redact_told(&mut told);
        }
        let texts = told.rules.iter_mut().flat_map(|rule| &mut rule.conditions).flat_map(|one| &mut one.has);
        texts.chain([&mut told.request_uri]).for_each(shorten);
        What::Decided(Box::new(told))
    }
}

/// Whether an operator means that call: by its Call-ID, or by what we write of one with other characters than plain ones.
fn is_call_id(asked: &[u8], call_id: &[u8]) -> bool {
    asked == call_id || asked.contains(&b'\\') && asked == printable(call_id).as_bytes()
}

/// What a peer has written may be long.
fn shorten(text: &mut String) {
    if text.len() > LONGEST_TOLD {
        let end = (0..=LONGEST_TOLD).rev().find(|&end| text.is_char_boundary(end)).unwrap_or_default();
        text.truncate(end);
        text.push_str("...");
    }
}

impl Seen<'_> {
    /// Whether it is an INVITE outside a dialog.
    pub(crate) fn is_initial_invite(&self) -> bool {
        self.message.as_ref().is_some_and(|message| {
            matches!(message.start(), Start::Request { method: Method::Invite, .. }) && message.to_tag().is_empty()
        })
    }

    /// Whether it is a request.
    pub(crate) fn is_request(&self) -> bool {
        self.message.as_ref().is_some_and(|message| matches!(message.start(), Start::Request { .. }))
    }

    /// Something that became of its call.
    pub(crate) fn step(&self, now: Now, what: What) -> Step {
        Step { at: now.wall, call_id: printable(self.call_id), id: self.id, asked: self.asked, what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(key: u8, seed: u8) -> Keys {
        Keys::new(&[key; 32], &[seed; 32])
    }

    #[test]
    fn a_share_of_calls_is_sampled_and_the_same_ones_by_every_node() {
        let (one, other, stranger) = (keys(1, 1), keys(1, 2), keys(2, 1));
        let taken = |keys: &Keys, sample| {
            let ids = (0..20_000).map(|number| keys.story(format!("call-{number}").as_bytes()));
            ids.map(|id| Sample(sample).takes(id)).collect::<Vec<_>>()
        };
        let count = |taken: &[bool]| taken.iter().filter(|taken| **taken).count();
        let hundredth = taken(&one, 10_000);
        // 200 are expected; five times the spread of 14.
        assert!((130..270).contains(&count(&hundredth)), "{}", count(&hundredth));
        assert_eq!(hundredth, taken(&other, 10_000));
        assert_ne!(hundredth, taken(&stranger, 10_000));
        // Whoever samples more samples those too.
        assert!(hundredth.iter().zip(taken(&one, 100_000)).all(|(few, many)| !few || many));
        assert_eq!((count(&taken(&one, 0)), count(&taken(&one, Sample::ALL))), (0, 20_000));
    }

    #[test]
    fn a_call_is_told_of_as_long_as_somebody_asks_and_no_more_than_a_hundred_are() {
        let mut tracer = Tracer::new(Config::default(), &[]);
        let at = |seconds| Instant::after_start(Duration::from_secs(seconds));
        let order = |call_id: &str, seconds| TraceOrder {
            call_id: call_id.to_owned(),
            by: "alice".to_owned(),
            reason: "test".to_owned(),
            time: Duration::from_secs(seconds),
        };
        let keys = keys(1, 1);
        let of = |call_id: &str| format!("BYE sip:a SIP/2.0\r\nCall-ID: {call_id}\r\n\r\n").into_bytes();
        assert!(!tracer.is_on());
        assert_eq!(tracer.ask(&order("a", 10), at(0)), Ok(()));
        assert!(tracer.is_on() && tracer.see(&keys, &of("a")).is_some() && tracer.see(&keys, &of("A")).is_none());
        assert_eq!(tracer.ask(&order("a", 20), at(5)), Ok(()));
        tracer.look_at(at(24));
        assert!(tracer.see(&keys, &of("a")).is_some_and(|seen| seen.asked && seen.message.is_none()));
        tracer.look_at(at(25));
        assert!(!tracer.is_on());
        // As we have written it ourselves.
        assert_eq!(tracer.ask(&order(r"it\'s\x01", 1), at(25)), Ok(()));
        assert!(tracer.see(&keys, &of("it's\u{1}")).is_some_and(|seen| seen.asked));
        assert!(tracer.see(&keys, &of("it's")).is_none());
        tracer.look_at(at(26));
        assert!(!tracer.is_on());
        for number in 0..MOST_ASKED {
            assert_eq!(tracer.ask(&order(&number.to_string(), 10), at(30)), Ok(()));
        }
        assert_eq!(tracer.ask(&order("one more", 10), at(39)), Err(NotTraced::TooMany));
        assert_eq!(tracer.ask(&order("one more", 10), at(40)), Ok(()));
    }
}
