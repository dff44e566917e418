//! What the machines have in common: what a response or a timer brings, and the resends of timers A, E and G.

use std::time::Duration;

use crate::engine::clock::Instant;

/// What a response means to the transaction's user and to the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hears {
    /// Nothing.
    Absorb,
    /// The user hears of it.
    Pass,
    /// The user hears of it and an ACK goes out.
    PassAndAck,
    /// An ACK goes out.
    Ack,
}

/// What a timer brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fires {
    /// Nothing to be done.
    Nothing,
    /// The request or response goes out again.
    Resend,
    /// Nobody answered: the user hears of it.
    GiveUp,
}

/// A resend to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resend {
    at: Instant,
    interval: Duration,
}

impl Resend {
    /// The first one, `interval` from now.
    pub(super) fn after(now: Instant, interval: Duration) -> Self {
        Resend { at: now + interval, interval }
    }

    /// When it is due.
    pub(super) fn at(&self) -> Instant {
        self.at
    }

    /// Plans the next one twice as far away, at most `longest`. Counts from when this one was due, so that a late wake-up
    /// does not drift; one so late that the next is due too does not send a burst.
    pub(super) fn double(&mut self, now: Instant, longest: Duration) {
        self.interval = (self.interval * 2).min(longest);
        let next = self.at + self.interval;
        self.at = if next > now { next } else { now + self.interval };
    }
}
