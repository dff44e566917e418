//! How often something is asked, and how many answers make a verdict.

use std::time::Duration;

use super::super::health::DAY;
use super::super::reader::Section;
use super::SHORTEST;
use crate::engine::dispatch::{Check, CheckKind};

/// A SIP probe ends by itself then: 64*T1, RFC 3261 section 17.1.2.2.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(32);
/// The times and counts of one kind of probe, as far as they are given.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    interval: Option<Duration>,
    fast_interval: Option<Duration>,
    down_interval: Option<Duration>,
    timeout: Option<Duration>,
    jitter_percent: Option<u8>,
    fall: Option<u32>,
    rise: Option<u32>,
}

impl Times {
    pub(super) fn read(section: &Section<'_>) -> Self {
        let time = |key, most| section.duration_within(key, SHORTEST..=most);
        let count = |key, bounds| section.number(key, bounds).and_then(|number| u32::try_from(number).ok());
        Times {
            interval: time("interval", DAY),
            fast_interval: time("fast_interval", DAY),
            down_interval: time("down_interval", DAY),
            timeout: time("timeout", LONGEST_TIMEOUT),
            jitter_percent: count("jitter_percent", 0..=100).and_then(|percent| u8::try_from(percent).ok()),
            fall: count("fall", 1..=1000),
            rise: count("rise", 1..=1000),
        }
    }

    pub(super) fn over(self, below: &Self) -> Self {
        Times {
            interval: self.interval.or(below.interval),
            fast_interval: self.fast_interval.or(below.fast_interval),
            down_interval: self.down_interval.or(below.down_interval),
            timeout: self.timeout.or(below.timeout),
            jitter_percent: self.jitter_percent.or(below.jitter_percent),
            fall: self.fall.or(below.fall),
            rise: self.rise.or(below.rise),
        }
    }

    pub(super) fn check(self, kind: CheckKind) -> Check {
        let default = Check::new(kind);
        let interval = self.interval.unwrap_or(default.interval);
        Check {
            interval,
            fast_interval: self.fast_interval.unwrap_or(default.fast_interval.min(interval)),
            down_interval: self.down_interval.unwrap_or(default.down_interval),
            timeout: self.timeout.unwrap_or(default.timeout),
            jitter_percent: self.jitter_percent.unwrap_or(default.jitter_percent),
            fall: self.fall.unwrap_or(default.fall),
            rise: self.rise.unwrap_or(default.rise),
            kind: default.kind,
        }
    }
}
