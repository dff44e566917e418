//! Non-INVITE client transaction: RFC 3261 section 17.1.2.

use super::machine::{Fires, Hears, Resend};
use super::timing::Timing;
use crate::engine::clock::Instant;

/// The machine; each state holds its timers, so that leaving it stops them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientNonInvite {
    /// Sent, and no final answer yet; a provisional one only slows the resends down.
    Trying {
        /// Timer E; none over a reliable transport.
        timer_e: Option<Resend>,
        /// Timer F.
        timer_f: Instant,
        /// Whether a provisional response has come: the state Proceeding.
        proceeding: bool,
    },
    /// A final response has come.
    Completed {
        /// Timer K.
        timer_k: Instant,
    },
    /// At its end.
    Terminated,
}

impl ClientNonInvite {
    /// The request has been sent.
    pub(super) fn start(reliable: bool, now: Instant, timing: &Timing) -> Self {
        ClientNonInvite::Trying {
            timer_e: (!reliable).then(|| Resend::after(now, timing.t1)),
            timer_f: now + timing.give_up(),
            proceeding: false,
        }
    }

    /// A response has come.
    pub(super) fn hear(&mut self, status: u16, reliable: bool, now: Instant, timing: &Timing) -> Hears {
        match (self, status) {
            (ClientNonInvite::Trying { proceeding, .. }, ..200) => {
                *proceeding = true;
                Hears::Pass
            }
            (machine @ ClientNonInvite::Trying { .. }, _) => {
                let linger = if reliable { std::time::Duration::ZERO } else { timing.t4 };
                *machine = ClientNonInvite::Completed { timer_k: now + linger };
                Hears::Pass
            }
            (ClientNonInvite::Completed { .. } | ClientNonInvite::Terminated, _) => Hears::Absorb,
        }
    }

    /// Its answer is no longer waited for; true if it was until now. A late one is absorbed for 64*T1: the caller has had
    /// another.
    pub(super) fn abandon(&mut self, now: Instant, timing: &Timing) -> bool {
        let waits = matches!(self, ClientNonInvite::Trying { .. });
        if waits {
            *self = ClientNonInvite::Completed { timer_k: now + timing.give_up() };
        }
        waits
    }

    /// A timer may have fired.
    pub(super) fn wake(&mut self, now: Instant, timing: &Timing) -> Fires {
        match self {
            ClientNonInvite::Trying { timer_f, .. } if *timer_f <= now => {
                *self = ClientNonInvite::Terminated;
                Fires::GiveUp
            }
            ClientNonInvite::Trying { timer_e: Some(timer_e), proceeding, .. } if timer_e.at() <= now => {
                // In Proceeding the resends go on, T2 apart (section 17.1.2.2).
                if *proceeding {
                    *timer_e = Resend::after(now, timing.t2);
                } else {
                    timer_e.double(now, timing.t2);
                }
                Fires::Resend
            }
            ClientNonInvite::Completed { timer_k } if *timer_k <= now => {
                *self = ClientNonInvite::Terminated;
                Fires::Nothing
            }
            ClientNonInvite::Trying { .. } | ClientNonInvite::Completed { .. } | ClientNonInvite::Terminated => {
                Fires::Nothing
            }
        }
    }

    /// When [`ClientNonInvite::wake`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            ClientNonInvite::Trying { timer_e, timer_f, .. } => {
                Some(timer_e.map_or(*timer_f, |timer_e| timer_e.at().min(*timer_f)))
            }
            ClientNonInvite::Completed { timer_k } => Some(*timer_k),
            ClientNonInvite::Terminated => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TIMING: Timing = Timing::RFC_3261;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    fn run(mut machine: ClientNonInvite) -> (Vec<u64>, Option<u64>) {
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
    fn timer_e_is_capped_at_t2_and_timer_f_gives_up_at_64_t1() {
        let (resends, gave_up) = run(ClientNonInvite::start(false, at(0), &TIMING));
        assert_eq!(resends, [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]);
        assert_eq!(gave_up, Some(32_000));
        assert_eq!(run(ClientNonInvite::start(true, at(0), &TIMING)), (vec![], Some(32_000)));
    }

    #[test]
    fn after_a_provisional_the_resends_go_on_t2_apart() {
        let mut machine = ClientNonInvite::start(false, at(0), &TIMING);
        assert_eq!(machine.hear(180, false, at(100), &TIMING), Hears::Pass);
        let (resends, gave_up) = run(machine);
        assert_eq!(resends, [500, 4500, 8500, 12500, 16500, 20500, 24500, 28500]);
        assert_eq!(gave_up, Some(32_000));
    }

    #[test]
    fn a_final_answer_passes_once_and_lingers_for_t4() {
        let mut machine = ClientNonInvite::start(false, at(0), &TIMING);
        assert_eq!(machine.hear(200, false, at(100), &TIMING), Hears::Pass);
        assert_eq!(machine.hear(200, false, at(200), &TIMING), Hears::Absorb);
        assert_eq!(machine.deadline(), Some(at(5100)));
        assert_eq!(run(machine), (vec![], None));
    }
}
