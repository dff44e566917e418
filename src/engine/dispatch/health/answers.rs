//! What an answer, or none, says of the destination that should have given it: by whose fault it came.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// What is said of a destination by one outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// It works: the answer is about the request, not about the server.
    Alive,
    /// It works and has no room; it is held out for a while.
    Busy,
    /// It does not work.
    Fall,
    /// Nothing.
    Neutral,
}

impl Meaning {
    /// Each of them, in the order of `as usize`.
    pub const ALL: [Meaning; 4] = [Meaning::Alive, Meaning::Busy, Meaning::Fall, Meaning::Neutral];

    /// As in the interface and in a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Meaning::Alive => "alive",
            Meaning::Busy => "busy",
            Meaning::Fall => "fall",
            Meaning::Neutral => "neutral",
        }
    }
}

/// An outcome judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Alive,
    /// For so long.
    Busy(Duration),
    Fall,
    Neutral,
}

/// What each status code means, for one set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    /// By status less 100.
    meanings: Box<[Meaning; 600]>,
    /// How long a busy one is held out that does not say how long.
    pub busy_for: Duration,
}

/// No destination is held out longer for its own `Retry-After`.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// A text that names no answer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("give a code from 200 to 699, or a class as 5xx")]
pub struct BadAnswer;

/// A final answer's code (`503`), or all of a class (`4xx`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Codes(RangeInclusive<u16>);

impl Codes {
    /// Whether this status is one of them.
    pub fn has(&self, status: u16) -> bool {
        self.0.contains(&status)
    }
}

impl FromStr for Codes {
    type Err = BadAnswer;

    fn from_str(text: &str) -> Result<Self, BadAnswer> {
        match text.strip_suffix("xx").map(u16::from_str) {
            _ if text.len() != 3 => Err(BadAnswer),
            Some(Ok(class @ 2..=6)) => Ok(Codes(class * 100..=class * 100 + 99)),
            Some(_) => Err(BadAnswer),
            None => match text.parse() {
                Ok(code @ 200..=699) => Ok(Codes(code..=code)),
                Ok(_) | Err(_) => Err(BadAnswer),
            },
        }
    }
}

impl Default for Answers {
    /// An answer that says "I" (408, 500, 502 to 504, 580) counts against the server, one that says "you" or "they" does not.
    fn default() -> Self {
        let mut answers = Answers { meanings: Box::new([Meaning::Alive; 600]), busy_for: Duration::from_secs(5) };
        answers.set(&[408, 500, 502, 503, 504, 580], Meaning::Fall);
        answers.set(&[486, 600, 603], Meaning::Busy);
        answers.set(&[480, 482, 487, 491], Meaning::Neutral);
        // A server error that RFC 3261 does not know is one all the same; those that are about the request are not.
        (500..600).filter(|code| ![501, 505, 513].contains(code)).for_each(|code| answers.set(&[code], Meaning::Fall));
        answers
    }
}

impl Answers {
    fn set(&mut self, codes: &[u16], meaning: Meaning) {
        for code in codes {
            if let Some(place) = code.checked_sub(100).and_then(|at| self.meanings.get_mut(usize::from(at))) {
                *place = meaning;
            }
        }
    }

    /// Gives a code (`503`) or a class (`4xx`) that meaning.
    ///
    /// # Errors
    /// [`BadAnswer`].
    pub fn mean(&mut self, text: &str, meaning: Meaning) -> Result<(), BadAnswer> {
        let Codes(codes) = text.parse()?;
        codes.for_each(|code| self.set(&[code], meaning));
        Ok(())
    }

    /// What a status means.
    pub fn meaning(&self, status: u16) -> Meaning {
        status.checked_sub(100).and_then(|at| self.meanings.get(usize::from(at))).copied().unwrap_or(Meaning::Neutral)
    }

    /// What an answer says, with its `Retry-After`: a 503 that names a time is busy until then, not dead (RFC 3261 section
    /// 21.5.4).
    pub(crate) fn judge(&self, status: u16, retry_after: Option<Duration>) -> Verdict {
        let longest = |time: Duration| time.clamp(Duration::from_secs(1), LONGEST_RETRY_AFTER);
        match (self.meaning(status), retry_after) {
            (Meaning::Fall, Some(time)) if status == 503 => Verdict::Busy(longest(time)),
            (Meaning::Busy, time) => Verdict::Busy(time.map_or(self.busy_for, longest)),
            (Meaning::Alive, _) => Verdict::Alive,
            (Meaning::Fall, _) => Verdict::Fall,
            (Meaning::Neutral, _) => Verdict::Neutral,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_default_an_answer_counts_by_whose_fault_it_is() {
        let answers = Answers::default();
        let all = |codes: &[u16], meaning| {
            codes.iter().for_each(|&code| assert_eq!(answers.meaning(code), meaning, "{code}"));
        };
        all(&[200, 202, 302, 400, 403, 404, 405, 420, 481, 488, 501, 505, 513, 604, 606], Meaning::Alive);
        all(&[486, 600, 603], Meaning::Busy);
        all(&[408, 500, 502, 503, 504, 580, 599], Meaning::Fall);
        all(&[480, 482, 487, 491, 0, 99, 700], Meaning::Neutral);
    }

    #[test]
    fn a_503_with_retry_after_is_busy_until_then_and_five_minutes_at_most() {
        let answers = Answers::default();
        let judge = |status, seconds: u64| answers.judge(status, Some(Duration::from_secs(seconds)));
        assert_eq!(judge(503, 30), Verdict::Busy(Duration::from_secs(30)));
        assert_eq!(judge(503, 0), Verdict::Busy(Duration::from_secs(1)));
        assert_eq!(judge(486, u64::MAX), Verdict::Busy(LONGEST_RETRY_AFTER));
        assert_eq!((judge(500, 30), judge(404, 30)), (Verdict::Fall, Verdict::Alive));
        assert_eq!(answers.judge(503, None), Verdict::Fall);
        assert_eq!(answers.judge(486, None), Verdict::Busy(Duration::from_secs(5)));
    }

    #[test]
    fn codes_and_classes_can_be_given_another_meaning() {
        let mut answers = Answers::default();
        answers.mean("4xx", Meaning::Fall).expect("a class");
        answers.mean("404", Meaning::Alive).expect("a code");
        assert_eq!(
            [404, 403, 499, 500].map(|code| answers.meaning(code)),
            [Meaning::Alive, Meaning::Fall, Meaning::Fall, Meaning::Fall]
        );
        for bad in ["", "1xx", "7xx", "199", "700", "x", "40x", "+404", "0404", "+4xx"] {
            assert_eq!(answers.mean(bad, Meaning::Alive), Err(BadAnswer), "{bad}");
        }
    }
}
