//! The engine's time: an argument, never read from the system.

use std::ops::Add;
use std::time::{Duration, SystemTime};

/// A moment on a monotonic clock that starts anywhere; resolution one microsecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The clock's start.
    pub const ZERO: Instant = Instant(0);

    /// The moment `elapsed` after the clock's start.
    pub fn after_start(elapsed: Duration) -> Self {
        Instant(elapsed.as_micros() as u64)
    }

    /// Time since the clock's start.
    pub fn since_start(self) -> Duration {
        Duration::from_micros(self.0)
    }

    /// Time from `earlier` to this moment; zero if `earlier` is later.
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_add(duration.as_micros() as u64))
    }
}

/// The one `now` of a turn: both clocks, read together by whoever calls the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For timers.
    pub mono: Instant,
    /// For what leaves the node: the age in a branch, stamps of orders.
    pub wall: SystemTime,
}
