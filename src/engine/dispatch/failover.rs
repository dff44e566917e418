//! What a set does when a destination does not take a request.

use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

use super::capacity::OneMore;
use super::{DestinationId, Dispatch, Fitness, Load, PanicMode, Turn};
use crate::engine::clock::Instant;
use crate::engine::sip::Resources;

/// How a set fails over: when, how often, how fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failover {
    /// What makes another try.
    pub retry_on: RetryOn,
    /// How long a destination may be silent before the next is tried.
    pub first_response_timeout: Duration,
    /// How long its final answer may take once it has been heard of.
    pub final_timeout: Duration,
    /// Tries after the first.
    pub max_retries: usize,
    /// Percent of the set's open requests that may be at their second or later try (Envoy's `retry_budget`).
    pub retry_budget: u8,
    /// So many may be, however few are open (Envoy's `min_retry_concurrency`).
    pub min_retry_concurrency: usize,
}

impl Default for Failover {
    fn default() -> Self {
        Failover {
            retry_on: RetryOn::default(),
            first_response_timeout: Duration::from_secs(2),
            final_timeout: Duration::from_secs(30),
            max_retries: 3,
            retry_budget: 20,
            min_retry_concurrency: 100,
        }
    }
}

/// The outcomes of a try that make another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryOn {
    /// Nothing heard in time, or no final answer in time.
    pub timeout: bool,
    /// The request could not be delivered.
    pub transport: bool,
    codes: [u64; 7],
}

/// A text that names no outcome.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("give timeout, transport, a code from 300 to 699, or a class as 5xx")]
pub struct BadOutcome;

impl Default for RetryOn {
    /// Silence, a dead transport, and the answers that say more of the server than of the request. A 6xx is for the
    /// caller (RFC 3261 section 16.7 item 5).
    fn default() -> Self {
        let mut retry_on = RetryOn { timeout: true, transport: true, codes: [0; 7] };
        for code in [408, 480, 486, 500, 502, 503, 504, 580] {
            retry_on.add(code);
        }
        retry_on
    }
}

impl RetryOn {
    /// No outcome at all.
    pub const NONE: RetryOn = RetryOn { timeout: false, transport: false, codes: [0; 7] };

    /// Whether a final answer with this status is one of them.
    pub fn contains(&self, status: u16) -> bool {
        place(status).is_some_and(|(word, bit)| self.codes[word] & bit != 0)
    }

    fn add(&mut self, status: u16) {
        if let Some((word, bit)) = place(status) {
            self.codes[word] |= bit;
        }
    }

    /// These outcomes and one more, as the configuration names it: `timeout`, `transport`, `503`, `5xx`.
    ///
    /// # Errors
    /// [`BadOutcome`].
    pub fn and(mut self, outcome: &str) -> Result<Self, BadOutcome> {
        match (outcome, outcome.strip_suffix("xx").map(u16::from_str)) {
            ("timeout", _) => self.timeout = true,
            ("transport", _) => self.transport = true,
            (_, Some(Ok(class @ 3..=6))) => (class * 100..class * 100 + 100).for_each(|status| self.add(status)),
            (_, Some(_)) => return Err(BadOutcome),
            (code, None) => match code.parse() {
                Ok(status @ 300..=699) => self.add(status),
                Ok(_) | Err(_) => return Err(BadOutcome),
            },
        }
        Ok(self)
    }
}

fn place(status: u16) -> Option<(usize, u64)> {
    let index = usize::from(status.checked_sub(300)?);
    (index < 400).then_some((index / 64, 1 << (index % 64)))
}

impl Dispatch {
    /// Whether a request that another destination did not take may go there: if it is fit, or if its set panics and sends to
    /// it all the same.
    pub(crate) fn may_try(
        &self,
        id: DestinationId,
        turn: Turn,
        asked: Resources,
        load: &dyn Load,
        now: Instant,
    ) -> bool {
        let Some(found) = self.destinations.get(id) else { return false };
        let policy = self.policy(found.set);
        let call = OneMore { id, asked, load };
        // What is no call takes no room.
        let has_room = || turn == Turn::Other || found.has_room(&policy.judgement, call, now);
        match found.fitness(policy, call, now) {
            Fitness::Fit => true,
            Fitness::Full => turn == Turn::Other,
            Fitness::Unwell(_) | Fitness::Outvoted | Fitness::OnTrial => {
                let panicking = self.sets.get(&found.set).filter(|state| state.panicking && has_room());
                panicking.is_some_and(|state| match state.policy.panic.mode {
                    PanicMode::All => true,
                    PanicMode::LastKnownGood => state.known_good.contains(&id),
                    PanicMode::Fail => false,
                })
            }
            Fitness::Ordered(_) | Fitness::Unresolved | Fitness::Agent(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_codes_classes_and_names() {
        let all = ["timeout", "404", "5xx"].iter().try_fold(RetryOn::NONE, |sum, one| sum.and(one)).expect("valid");
        assert!(all.timeout && !all.transport);
        for (status, wanted) in
            [(404, true), (403, false), (500, true), (599, true), (600, false), (200, false), (99, false)]
        {
            assert_eq!(all.contains(status), wanted, "{status}");
        }
        for bad in ["", "xx", "2xx", "7xx", "299", "700", "503 ", "Timeout"] {
            assert_eq!(RetryOn::NONE.and(bad), Err(BadOutcome), "{bad}");
        }
    }

    #[test]
    fn a_6xx_is_for_the_caller_by_default() {
        let default = RetryOn::default();
        assert!(default.contains(503) && default.contains(486) && !default.contains(603) && !default.contains(404));
    }
}
