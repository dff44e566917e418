//! Non-INVITE server transaction: RFC 3261 section 17.2.2, with RFC 4320 section 4.1.

use std::time::Duration;

use super::timing::Timing;
use crate::engine::clock::Instant;

/// The machine; each state holds its timers, so that leaving it stops them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerNonInvite {
    /// Nothing answered yet.
    Trying {
        /// When the request's sender slows down to T2: then it is told 100, never earlier (RFC 4320 section 4.1).
        say_trying: Instant,
    },
    /// 100 has gone out.
    Proceeding,
    /// A final answer has gone out, and goes out again when the request comes again.
    Completed {
        /// Timer J.
        timer_j: Instant,
    },
    /// At its end.
    Terminated,
}

impl ServerNonInvite {
    /// A request has come.
    pub(super) fn start(now: Instant, timing: &Timing) -> Self {
        // The caller's timer E: T1, 2*T1 ... until the wait is T2.
        let mut wait = timing.t1;
        let mut sum = Duration::ZERO;
        while wait < timing.t2 && !wait.is_zero() {
            sum += wait;
            wait *= 2;
        }
        ServerNonInvite::Trying { say_trying: now + sum }
    }

    /// The transaction's user answers; false if there is nothing to be sent.
    pub(super) fn respond(&mut self, status: u16, reliable: bool, now: Instant, timing: &Timing) -> bool {
        match (*self, status) {
            (ServerNonInvite::Trying { .. } | ServerNonInvite::Proceeding, 100) => {
                *self = ServerNonInvite::Proceeding;
                true
            }
            // RFC 4320 section 4.1: no other provisional than 100, whoever made it.
            (ServerNonInvite::Trying { .. } | ServerNonInvite::Proceeding, ..200) => false,
            (ServerNonInvite::Trying { .. } | ServerNonInvite::Proceeding, 200..) => {
                let linger = if reliable { Duration::ZERO } else { timing.give_up() };
                *self = ServerNonInvite::Completed { timer_j: now + linger };
                true
            }
            (ServerNonInvite::Completed { .. } | ServerNonInvite::Terminated, _) => false,
        }
    }

    /// The request has come again; whether the last answer goes out again.
    pub(super) fn resent(&self) -> bool {
        match self {
            ServerNonInvite::Proceeding | ServerNonInvite::Completed { .. } => true,
            ServerNonInvite::Trying { .. } | ServerNonInvite::Terminated => false,
        }
    }

    /// A timer may have fired; true if the user should answer 100.
    pub(super) fn wake(&mut self, now: Instant) -> bool {
        match self {
            ServerNonInvite::Trying { say_trying } if *say_trying <= now => {
                *self = ServerNonInvite::Proceeding;
                true
            }
            ServerNonInvite::Completed { timer_j } if *timer_j <= now => {
                *self = ServerNonInvite::Terminated;
                false
            }
            ServerNonInvite::Trying { .. }
            | ServerNonInvite::Proceeding
            | ServerNonInvite::Completed { .. }
            | ServerNonInvite::Terminated => false,
        }
    }

    /// When [`ServerNonInvite::wake`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            ServerNonInvite::Trying { say_trying: at } | ServerNonInvite::Completed { timer_j: at } => Some(*at),
            ServerNonInvite::Proceeding | ServerNonInvite::Terminated => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing::RFC_3261;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn a_100_comes_when_the_callers_timer_e_reaches_t2() {
        let mut machine = ServerNonInvite::start(at(0), &TIMING);
        assert!(!machine.resent());
        assert_eq!(machine.deadline(), Some(at(3500)));
        assert!(!machine.wake(at(3499)));
        assert!(machine.wake(at(3500)));
        assert!(machine.resent());
        assert_eq!(machine.deadline(), None);
    }

    #[test]
    fn provisionals_other_than_100_stay_here() {
        let mut machine = ServerNonInvite::start(at(0), &TIMING);
        assert!(!machine.respond(183, false, at(1), &TIMING));
        assert!(machine.respond(200, false, at(2), &TIMING));
    }

    #[test]
    fn the_final_answer_is_kept_for_timer_j() {
        let mut machine = ServerNonInvite::start(at(0), &TIMING);
        assert!(machine.respond(200, false, at(100), &TIMING));
        assert!(machine.resent());
        assert!(!machine.respond(200, false, at(200), &TIMING));
        assert_eq!(machine.deadline(), Some(at(32_100)));
        let mut machine = ServerNonInvite::start(at(0), &TIMING);
        machine.respond(200, true, at(100), &TIMING);
        assert_eq!(machine.deadline(), Some(at(100)));
    }
}
