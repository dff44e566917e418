//! One thing that was seen of a destination, and the last few of them: why it is held for what it is held.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use super::answers::{Answers, Meaning, Verdict};

/// By what a destination was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Witness {
    /// An OPTIONS of ours, or what the set probes with instead.
    Options,
    /// A TCP connection of ours.
    Tcp,
    /// An HTTP GET of ours.
    Http,
    /// A caller's INVITE that we sent there.
    Traffic,
    /// A caller's other request that we sent there: who answers an OPTIONS need not take calls, so nothing is made of it.
    Other,
}

impl Witness {
    /// Every witness.
    pub const ALL: [Witness; 5] = [Witness::Options, Witness::Tcp, Witness::Http, Witness::Traffic, Witness::Other];

    /// As in a metric's label: `options`, `tcp`, `http`, `traffic`, `other`.
    pub fn name(self) -> &'static str {
        match self {
            Witness::Options => "options",
            Witness::Tcp => "tcp",
            Witness::Http => "http",
            Witness::Traffic => "traffic",
            Witness::Other => "other",
        }
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// By a final answer with this status; SIP's or HTTP's by the witness.
    Answered {
        /// The status.
        status: u16,
        /// What its `Retry-After` says.
        retry_after: Option<Duration>,
    },
    /// The TCP connection was made.
    Connected,
    /// Nothing came in time.
    TimedOut,
    /// It could not be delivered: an ICMP error, a refused or a broken connection.
    Refused,
    /// It did not leave, for reasons of our own: no route, too large, no descriptor.
    Unsent,
}

impl Outcome {
    /// A final answer without `Retry-After`.
    pub fn answered(status: u16) -> Self {
        Outcome::Answered { status, retry_after: None }
    }

    /// What it says of the destination.
    pub(crate) fn judge(self, witness: Witness, answers: &Answers) -> Verdict {
        match (self, witness) {
            (_, Witness::Other) => Verdict::Neutral,
            (Outcome::Answered { status: 200..400, .. }, Witness::Http) => Verdict::Alive,
            (Outcome::Answered { .. }, Witness::Http) => Verdict::Fall,
            (Outcome::Answered { status, retry_after }, Witness::Options | Witness::Tcp | Witness::Traffic) => {
                answers.judge(status, retry_after)
            }
            (Outcome::Connected, _) => Verdict::Alive,
            (Outcome::TimedOut | Outcome::Refused, _) => Verdict::Fall,
            (Outcome::Unsent, _) => Verdict::Neutral,
        }
    }

    /// As a cause for people and labels: `503`, `timeout`, `refused`, `connected`, `not sent by us`.
    pub fn name(self) -> String {
        match self {
            Outcome::Answered { status, .. } => status.to_string(),
            Outcome::Connected => "connected".to_owned(),
            Outcome::TimedOut => "timeout".to_owned(),
            Outcome::Refused => "refused".to_owned(),
            Outcome::Unsent => "not sent by us".to_owned(),
        }
    }
}

/// One thing that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// When it ended.
    pub at: SystemTime,
    /// By what.
    pub witness: Witness,
    /// How it ended.
    pub outcome: Outcome,
    /// What was made of it.
    pub meaning: Meaning,
    /// From the first packet to the end.
    pub latency: Duration,
}

/// How many observations are kept of each destination.
pub const KEPT: usize = 32;

/// The last [`KEPT`] of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(VecDeque<Observation>);

impl History {
    pub(crate) fn push(&mut self, observation: Observation) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(observation);
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Observation> {
        self.0.iter()
    }
}

impl From<Verdict> for Meaning {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Alive => Meaning::Alive,
            Verdict::Busy(_) => Meaning::Busy,
            Verdict::Fall => Meaning::Fall,
            Verdict::Neutral => Meaning::Neutral,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_32_are_kept() {
        let mut history = History::default();
        for status in 200..250 {
            let outcome = Outcome::answered(status);
            let observation = Observation {
                at: SystemTime::UNIX_EPOCH,
                witness: Witness::Options,
                outcome,
                meaning: Meaning::Alive,
                latency: Duration::ZERO,
            };
            history.push(observation);
        }
        let kept: Vec<_> = history.iter().map(|one| one.outcome).collect();
        assert_eq!(kept, (218..250).map(Outcome::answered).collect::<Vec<_>>());
    }

    #[test]
    fn http_and_sip_answers_are_judged_each_in_its_own_way() {
        let judge = |status, witness| Outcome::answered(status).judge(witness, &Answers::default());
        assert_eq!(judge(204, Witness::Http), Verdict::Alive);
        assert_eq!((judge(404, Witness::Http), judge(404, Witness::Options)), (Verdict::Fall, Verdict::Alive));
        assert_eq!(Outcome::Connected.judge(Witness::Tcp, &Answers::default()), Verdict::Alive);
        assert_eq!(Outcome::Refused.judge(Witness::Traffic, &Answers::default()), Verdict::Fall);
        assert_eq!((judge(200, Witness::Other), judge(500, Witness::Other)), (Verdict::Neutral, Verdict::Neutral));
        assert_eq!(Outcome::Unsent.judge(Witness::Traffic, &Answers::default()), Verdict::Neutral);
    }
}
