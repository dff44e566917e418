//! Rise and fall of one probe: HAProxy's counters.

use super::answers::Verdict;
use crate::engine::clock::Instant;

/// What the probes of one kind say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// None has come back.
    #[default]
    Unknown,
    /// The last ones were good.
    Up,
    /// `fall` in a row were bad, and not yet `rise` good since.
    Down,
}

/// The counters of one kind of probe at one destination.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    pub(crate) level: Level,
    /// Bad ones in a row.
    pub(crate) failures: u32,
    /// Good ones in a row.
    pub(crate) successes: u32,
    /// When the newest good one was sent.
    newest: Instant,
}

impl Count {
    pub(crate) fn new(level: Level) -> Self {
        Count { level, ..Count::default() }
    }

    /// The same, for which what was sent before that moment is no news.
    pub(crate) fn since(self, newest: Instant) -> Self {
        Count { newest, ..self }
    }

    /// A probe has come to its end, which was sent at `sent`. One that was sent before another that has come back is no news:
    /// probes may overtake each other.
    pub(crate) fn hear(&mut self, verdict: Verdict, sent: Instant, fall: u32, rise: u32) {
        match verdict {
            Verdict::Alive | Verdict::Busy(_) => {
                self.newest = self.newest.max(sent);
                self.failures = 0;
                self.successes = self.successes.saturating_add(1);
                // The first one is enough at the start.
                if self.level == Level::Unknown || self.successes >= rise {
                    self.level = Level::Up;
                }
            }
            Verdict::Fall if sent < self.newest => {}
            Verdict::Fall => {
                self.successes = 0;
                self.failures = self.failures.saturating_add(1);
                if self.failures >= fall {
                    self.level = Level::Down;
                }
            }
            Verdict::Neutral => {}
        }
    }

    /// Whether none has come back yet.
    pub(crate) fn is_fresh(&self) -> bool {
        (self.failures, self.successes) == (0, 0)
    }

    /// Whether its level is about to change: time to look more often.
    pub(crate) fn is_changing(&self) -> bool {
        match self.level {
            Level::Unknown => true,
            Level::Up => self.failures > 0,
            Level::Down => self.successes > 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn after(verdicts: &[Verdict]) -> Count {
        let mut count = Count::default();
        for (second, &verdict) in verdicts.iter().enumerate() {
            count.hear(verdict, Instant::ZERO + Duration::from_secs(second as u64), 2, 3);
        }
        count
    }

    #[test]
    fn it_takes_fall_bad_ones_to_go_down_and_rise_good_ones_to_come_back() {
        use Verdict::{Alive, Fall, Neutral};
        for (verdicts, level, changing) in [
            (&[][..], Level::Unknown, true),
            (&[Alive], Level::Up, false),
            (&[Fall], Level::Unknown, true),
            (&[Alive, Fall, Alive, Fall], Level::Up, true),
            (&[Alive, Fall, Neutral, Fall], Level::Down, false),
            (&[Fall, Fall, Alive, Alive], Level::Down, true),
            (&[Fall, Fall, Alive, Alive, Fall, Alive, Alive], Level::Down, true),
            (&[Fall, Fall, Alive, Alive, Verdict::Busy(Duration::ZERO)], Level::Up, false),
        ] {
            let count = after(verdicts);
            assert_eq!((count.level, count.is_changing()), (level, changing), "{verdicts:?}");
        }
    }

    #[test]
    fn a_lost_probe_that_was_overtaken_is_no_news() {
        let mut count = Count::default();
        let second = |second| Instant::ZERO + Duration::from_secs(second);
        count.hear(Verdict::Alive, second(2), 1, 1);
        count.hear(Verdict::Fall, second(1), 1, 1);
        assert_eq!((count.level, count.failures), (Level::Up, 0));
        count.hear(Verdict::Fall, second(2), 1, 1);
        assert_eq!(count.level, Level::Down);
    }
}
