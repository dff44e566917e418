//! What a destination wants by its own word: an agent beside it is asked over HTTP how much of its weight and how many
//! sessions it can bear, and whether it takes any. It says nothing of health, and an operator's order stands above it.

mod words;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use words::{AgentWord, LONGEST_LINE, MOST_PERCENT, Wish};

use super::select::Candidate;
use super::{Destination, DestinationId, Limits};
use crate::engine::clock::{Instant, Now};

/// How an agent is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Its port, at the destination's IP address.
    pub port: u16,
    /// The path, from its slash.
    pub path: String,
    /// Time between two questions; at least 100 ms.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// For so many intervals without an answer the last one holds; at least 1.
    pub fall: u32,
}

impl Agent {
    /// The agent at that port, with the usual times.
    pub fn new(port: u16) -> Self {
        let (interval, timeout) = (Duration::from_secs(5), Duration::from_secs(2));
        Agent { port, path: "/".to_owned(), interval, timeout, fall: 3 }
    }

    /// How long an answer holds.
    fn patience(&self) -> Duration {
        self.interval.saturating_mul(self.fall) + self.timeout
    }
}

/// What is known of a destination's agent.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) agent: Arc<Agent>,
    wish: Wish,
    /// Until when it holds; none: the agent has said nothing yet.
    until: Option<Instant>,
    /// What people were told last.
    told: Wish,
    line: String,
    at: Option<SystemTime>,
    answers: u64,
    silences: u64,
    unknown_words: u64,
}

/// What the outside may see of a destination's agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentView {
    /// What it wants; none: it has said nothing, or nothing for too long.
    pub wish: Option<Wish>,
    /// The start of the last line that was understood; "" before the first.
    pub line: String,
    /// When that came.
    pub at: Option<SystemTime>,
    /// Answers that were understood.
    pub answers: u64,
    /// Questions without such an answer.
    pub silences: u64,
    /// Words that are none of an agent's.
    pub unknown_words: u64,
}

impl Heard {
    pub(super) fn new(agent: Arc<Agent>) -> Self {
        Heard {
            agent,
            wish: Wish::default(),
            until: None,
            told: Wish::default(),
            line: String::new(),
            at: None,
            answers: 0,
            silences: 0,
            unknown_words: 0,
        }
    }

    /// What it wants; none: it says nothing.
    pub(super) fn wish(&self, now: Instant) -> Option<&Wish> {
        self.until.filter(|until| *until > now).map(|_| &self.wish)
    }

    /// Takes an answer; none: there was no good one. What has no word of an agent's is no answer either.
    pub(super) fn hear(&mut self, body: Option<&[u8]>, now: Now) {
        let mut wish = self.wish(now.mono).cloned().unwrap_or_default();
        let understood = body.map(|body| wish.take(body)).unwrap_or_default();
        self.unknown_words += u64::from(understood.unknown);
        let Some(body) = body.filter(|_| understood.known > 0) else {
            self.silences += 1;
            return;
        };
        self.answers += 1;
        self.wish = wish;
        self.until = Some(now.mono + self.agent.patience());
        self.line = words::shown(body);
        self.at = Some(now.wall);
    }

    /// When what it said holds no longer.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }

    /// Compares what it wants with what was told last: before and now, if that is another; none now: it is silent.
    pub(super) fn turn(&mut self, now: Instant) -> Option<(Wish, Option<Wish>)> {
        let nothing = Wish::default();
        let new = self.wish(now);
        if *new.unwrap_or(&nothing) == self.told {
            return None;
        }
        let new = new.cloned();
        Some((std::mem::replace(&mut self.told, new.clone().unwrap_or_default()), new))
    }

    pub(super) fn view(&self, now: Instant) -> AgentView {
        AgentView {
            wish: self.wish(now).cloned(),
            line: self.line.clone(),
            at: self.at,
            answers: self.answers,
            silences: self.silences,
            unknown_words: self.unknown_words,
        }
    }
}

impl Destination {
    /// What its agent wants; none: it has none, or that says nothing.
    pub(super) fn wish(&self, now: Instant) -> Option<&Wish> {
        self.heard.as_ref().and_then(|heard| heard.wish(now))
    }

    /// Percent of its weight that its agent wants.
    pub(super) fn wanted(&self, now: Instant) -> u32 {
        self.wish(now).map_or(100, |wish| wish.share)
    }

    /// What it may be given now: its agent lowers its limits, and raises none.
    pub(super) fn limits_now(&self, now: Instant) -> Limits {
        let wanted = self.wish(now).and_then(|wish| wish.sessions);
        Limits { sessions: self.limits.sessions.into_iter().chain(wanted).min(), ..self.limits }
    }
}

/// Weighs the fit ones by what their agents want. Who wants nothing gets nothing, unless nobody wants anything.
pub(super) fn weigh(fit: &mut Vec<Candidate>, wanted: impl Fn(DestinationId) -> u32) {
    let asks = |asked: fn(u32) -> bool| fit.iter().any(|one| asked(wanted(one.id)));
    if asks(|wanted| wanted > 0) && asks(|wanted| wanted != 100) {
        fit.retain(|one| wanted(one.id) > 0);
        fit.iter_mut().for_each(|one| one.weight = one.weight.saturating_mul(wanted(one.id)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Now {
        let since = Duration::from_millis(millis);
        Now { mono: Instant::ZERO + since, wall: SystemTime::UNIX_EPOCH + since }
    }

    #[test]
    fn an_answer_holds_for_so_many_intervals_more_and_what_is_none_prolongs_nothing() {
        let mut heard = Heard::new(Agent::new(9001).into());
        assert_eq!(heard.wish(at(0).mono), None);
        heard.hear(Some(b"50%"), at(1000));
        for (millis, body) in [(6000, None), (11_000, Some(&b"sideways"[..])), (16_000, Some(b""))] {
            heard.hear(body, at(millis));
            assert_eq!(heard.wish(at(millis).mono).map(|wish| wish.share), Some(50), "{millis}");
        }
        assert_eq!(heard.deadline(at(16_000).mono), Some(at(18_000).mono));
        assert!(heard.wish(at(17_999).mono).is_some());
        assert_eq!((heard.wish(at(18_000).mono), heard.deadline(at(18_000).mono)), (None, None));
        let AgentView { answers, silences, unknown_words, line, .. } = heard.view(at(18_000).mono);
        assert_eq!((answers, silences, unknown_words, line.as_str()), (1, 3, 1, "50%"));
    }

    #[test]
    fn what_has_lapsed_does_not_come_back_with_the_next_word() {
        let mut heard = Heard::new(Agent::new(9001).into());
        heard.hear(Some(b"drain maxconn:3"), at(0));
        heard.hear(Some(b"50%"), at(60_000));
        assert_eq!(heard.wish(at(60_000).mono), Some(&Wish { share: 50, ..Wish::default() }));
    }

    #[test]
    fn a_change_is_told_once_and_so_is_its_end() {
        let mut heard = Heard::new(Agent::new(9001).into());
        let mut told = |body: Option<&[u8]>, millis| {
            if body.is_some() {
                heard.hear(body, at(millis));
            }
            heard.turn(at(millis).mono).map(|(old, new)| (old.share, new.map(|new| new.share)))
        };
        assert_eq!(told(Some(b"100% up ready"), 0), None, "nothing else than before");
        assert_eq!(told(Some(b"50%"), 1000), Some((100, Some(50))));
        assert_eq!(told(Some(b"50%"), 2000), None);
        assert_eq!(told(None, 60_000), Some((50, None)));
        assert_eq!(told(None, 61_000), None);
    }
}
