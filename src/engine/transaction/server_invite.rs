//! INVITE server transaction: RFC 3261 section 17.2.1, with RFC 6026 section 7.1.

use std::time::Duration;

use super::machine::{Fires, Resend};
use super::timing::Timing;
use crate::engine::clock::Instant;

/// The machine; each state holds its timers, so that leaving it stops them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerInvite {
    /// No final answer yet; the last provisional goes out again when the INVITE comes again.
    Proceeding,
    /// A final answer that is no 2xx waits for its ACK.
    Completed {
        /// Timer G; none over a reliable transport.
        timer_g: Option<Resend>,
        /// Timer H.
        timer_h: Instant,
    },
    /// The ACK has come; others are absorbed.
    Confirmed {
        /// Timer I.
        timer_i: Instant,
    },
    /// A 2xx has gone out; so may others. The INVITE is absorbed.
    Accepted {
        /// Timer L.
        timer_l: Instant,
    },
    /// At its end.
    Terminated,
}

/// What an ACK means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acked {
    /// It was for an answer of the transaction's own: done.
    Absorbed,
    /// It follows a 2xx and is the other end's (RFC 6026 section 7.1).
    Success,
}

impl ServerInvite {
    /// The transaction's user answers; false if there is nothing to be sent.
    pub(super) fn respond(&mut self, status: u16, reliable: bool, now: Instant, timing: &Timing) -> bool {
        match (*self, status) {
            (ServerInvite::Proceeding, ..200) => true,
            (ServerInvite::Proceeding, 200..300) => {
                *self = ServerInvite::Accepted { timer_l: now + timing.give_up() };
                true
            }
            (ServerInvite::Proceeding, 300..) => {
                *self = ServerInvite::Completed {
                    timer_g: (!reliable).then(|| Resend::after(now, timing.t1)),
                    timer_h: now + timing.give_up(),
                };
                true
            }
            (ServerInvite::Accepted { .. }, 200..300) => true,
            (
                ServerInvite::Accepted { .. }
                | ServerInvite::Completed { .. }
                | ServerInvite::Confirmed { .. }
                | ServerInvite::Terminated,
                _,
            ) => false,
        }
    }

    /// The INVITE has come again; whether the last answer goes out again.
    pub(super) fn resent(&self) -> bool {
        match self {
            ServerInvite::Proceeding | ServerInvite::Completed { .. } => true,
            ServerInvite::Confirmed { .. } | ServerInvite::Accepted { .. } | ServerInvite::Terminated => false,
        }
    }

    /// An ACK has come.
    pub(super) fn acked(&mut self, reliable: bool, now: Instant, timing: &Timing) -> Acked {
        match self {
            ServerInvite::Completed { .. } => {
                let linger = if reliable { Duration::ZERO } else { timing.t4 };
                *self = ServerInvite::Confirmed { timer_i: now + linger };
                Acked::Absorbed
            }
            ServerInvite::Accepted { .. } => Acked::Success,
            ServerInvite::Proceeding | ServerInvite::Confirmed { .. } | ServerInvite::Terminated => Acked::Absorbed,
        }
    }

    /// A timer may have fired.
    pub(super) fn wake(&mut self, now: Instant, timing: &Timing) -> Fires {
        match self {
            ServerInvite::Completed { timer_h, .. } if *timer_h <= now => {
                *self = ServerInvite::Terminated;
                Fires::GiveUp
            }
            ServerInvite::Completed { timer_g: Some(timer_g), .. } if timer_g.at() <= now => {
                timer_g.double(now, timing.t2);
                Fires::Resend
            }
            ServerInvite::Confirmed { timer_i: at } | ServerInvite::Accepted { timer_l: at } if *at <= now => {
                *self = ServerInvite::Terminated;
                Fires::Nothing
            }
            ServerInvite::Proceeding
            | ServerInvite::Completed { .. }
            | ServerInvite::Confirmed { .. }
            | ServerInvite::Accepted { .. }
            | ServerInvite::Terminated => Fires::Nothing,
        }
    }

    /// When [`ServerInvite::wake`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            ServerInvite::Completed { timer_g, timer_h } => {
                Some(timer_g.map_or(*timer_h, |timer_g| timer_g.at().min(*timer_h)))
            }
            ServerInvite::Confirmed { timer_i: at } | ServerInvite::Accepted { timer_l: at } => Some(*at),
            ServerInvite::Proceeding | ServerInvite::Terminated => None,
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

    fn run(mut machine: ServerInvite) -> (Vec<u64>, Option<u64>) {
        let (mut resends, mut gave_up) = (Vec::new(), None);
        while let Some(deadline) = machine.deadline() {
            let ms = deadline.since_start().as_millis() as u64;
            match machine.wake(deadline, &TIMING) {
                Fires::Nothing => {}
                Fires::Resend => resends.push(ms),
                Fires::GiveUp => gave_up = Some(ms),
            }
        }
        (resends, gave_up)
    }

    #[test]
    fn timer_g_is_capped_at_t2_and_timer_h_gives_up_at_64_t1() {
        let mut machine = ServerInvite::Proceeding;
        assert!(machine.respond(486, false, at(0), &TIMING));
        let (resends, gave_up) = run(machine);
        assert_eq!(resends, [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]);
        assert_eq!(gave_up, Some(32_000));
    }

    #[test]
    fn over_a_reliable_transport_nothing_is_resent_but_the_ack_is_waited_for() {
        let mut machine = ServerInvite::Proceeding;
        assert!(machine.respond(486, true, at(0), &TIMING));
        assert_eq!(run(machine), (vec![], Some(32_000)));
    }

    #[test]
    fn an_ack_ends_the_resends_and_others_are_absorbed_for_t4() {
        let mut machine = ServerInvite::Proceeding;
        machine.respond(486, false, at(0), &TIMING);
        assert!(machine.resent());
        assert_eq!(machine.acked(false, at(10), &TIMING), Acked::Absorbed);
        assert!(!machine.resent());
        assert_eq!(machine.acked(false, at(20), &TIMING), Acked::Absorbed);
        assert_eq!(machine.deadline(), Some(at(5010)));
    }

    #[test]
    fn every_2xx_goes_out_and_the_invite_is_absorbed_until_timer_l() {
        let mut machine = ServerInvite::Proceeding;
        assert!(machine.respond(180, false, at(0), &TIMING));
        for _ in 0..2 {
            assert!(machine.respond(200, false, at(0), &TIMING));
        }
        assert!(!machine.respond(486, false, at(0), &TIMING));
        assert!(!machine.resent());
        assert_eq!(machine.acked(false, at(10), &TIMING), Acked::Success);
        assert_eq!(machine.deadline(), Some(at(32_000)));
    }
}
