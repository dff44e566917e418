//! INVITE client transaction: RFC 3261 section 17.1.1, with RFC 6026 section 7.2.

use std::time::Duration;

use super::machine::{Fires, Hears, Resend};
use super::timing::Timing;
use crate::engine::clock::Instant;

/// The machine; each state holds its timers, so that leaving it stops them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientInvite {
    /// Sent, nothing heard.
    Calling {
        /// Timer A; none over a reliable transport.
        timer_a: Option<Resend>,
        /// Timer B.
        timer_b: Instant,
    },
    /// A provisional response has come.
    Proceeding {
        /// After a CANCEL: when its final answer is no longer waited for (section 9.1).
        give_up: Option<Instant>,
    },
    /// A final response that is no 2xx has come: it is acknowledged each time.
    Completed {
        /// Timer D.
        timer_d: Instant,
    },
    /// A 2xx has come; so may others.
    Accepted {
        /// Timer M.
        timer_m: Instant,
    },
    /// Nobody waits for it any more, and it is not sent again. What still comes finds its owner: a late success has to be
    /// ended, since the caller has had another answer.
    Abandoned {
        /// When a late answer is no longer expected: 64*T1 after it was given up.
        until: Instant,
    },
    /// At its end.
    Terminated,
}

impl ClientInvite {
    /// The INVITE has been sent.
    pub(super) fn start(reliable: bool, now: Instant, timing: &Timing) -> Self {
        ClientInvite::Calling {
            timer_a: (!reliable).then(|| Resend::after(now, timing.t1)),
            timer_b: now + timing.give_up(),
        }
    }

    /// A response has come.
    pub(super) fn hear(&mut self, status: u16, reliable: bool, now: Instant, timing: &Timing) -> Hears {
        match (*self, status) {
            (ClientInvite::Calling { .. }, ..200) => {
                *self = ClientInvite::Proceeding { give_up: None };
                Hears::Pass
            }
            (ClientInvite::Proceeding { .. } | ClientInvite::Abandoned { .. }, ..200) => Hears::Pass,
            (
                ClientInvite::Calling { .. } | ClientInvite::Proceeding { .. } | ClientInvite::Abandoned { .. },
                200..300,
            ) => {
                *self = ClientInvite::Accepted { timer_m: now + timing.give_up() };
                Hears::Pass
            }
            (
                ClientInvite::Calling { .. } | ClientInvite::Proceeding { .. } | ClientInvite::Abandoned { .. },
                300..,
            ) => {
                // Timer D: at least 32 s over an unreliable transport, none over a reliable one.
                let linger = if reliable { Duration::ZERO } else { timing.give_up().max(Duration::from_secs(32)) };
                *self = ClientInvite::Completed { timer_d: now + linger };
                Hears::PassAndAck
            }
            (ClientInvite::Completed { .. }, 300..) => Hears::Ack,
            (ClientInvite::Accepted { .. }, 200..300) => Hears::Pass,
            (ClientInvite::Completed { .. } | ClientInvite::Accepted { .. }, _) => Hears::Absorb,
            (ClientInvite::Terminated, _) => Hears::Absorb,
        }
    }

    /// A CANCEL has gone out: without a final answer in 64*T1 the INVITE counts as cancelled.
    pub(super) fn cancelled(&mut self, now: Instant, timing: &Timing) {
        if let ClientInvite::Proceeding { give_up: give_up @ None } = self {
            *give_up = Some(now + timing.give_up());
        }
    }

    /// Its answer is no longer waited for; true if it was until now.
    pub(super) fn abandon(&mut self, now: Instant, timing: &Timing) -> bool {
        let waits = matches!(self, ClientInvite::Calling { .. } | ClientInvite::Proceeding { .. });
        if waits {
            *self = ClientInvite::Abandoned { until: now + timing.give_up() };
        }
        waits
    }

    /// A timer may have fired.
    pub(super) fn wake(&mut self, now: Instant, timing: &Timing) -> Fires {
        match self {
            ClientInvite::Calling { timer_b, .. } if *timer_b <= now => {
                self.abandon(now, timing);
                Fires::GiveUp
            }
            ClientInvite::Calling { timer_a: Some(timer_a), .. } if timer_a.at() <= now => {
                // Timer A has no cap (section 17.1.1.2): timer B ends it after seven.
                timer_a.double(now, Duration::MAX);
                Fires::Resend
            }
            ClientInvite::Proceeding { give_up: Some(at) } if *at <= now => {
                self.abandon(now, timing);
                Fires::GiveUp
            }
            ClientInvite::Completed { timer_d: at }
            | ClientInvite::Accepted { timer_m: at }
            | ClientInvite::Abandoned { until: at }
                if *at <= now =>
            {
                *self = ClientInvite::Terminated;
                Fires::Nothing
            }
            ClientInvite::Calling { .. }
            | ClientInvite::Proceeding { .. }
            | ClientInvite::Completed { .. }
            | ClientInvite::Accepted { .. }
            | ClientInvite::Abandoned { .. }
            | ClientInvite::Terminated => Fires::Nothing,
        }
    }

    /// When [`ClientInvite::wake`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            ClientInvite::Calling { timer_a, timer_b } => {
                Some(timer_a.map_or(*timer_b, |timer_a| timer_a.at().min(*timer_b)))
            }
            ClientInvite::Proceeding { give_up } => *give_up,
            ClientInvite::Completed { timer_d: at }
            | ClientInvite::Accepted { timer_m: at }
            | ClientInvite::Abandoned { until: at } => Some(*at),
            ClientInvite::Terminated => None,
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

    /// Wakes the machine at each deadline; when it resent, and when it gave up.
    fn run(mut machine: ClientInvite) -> (Vec<u64>, Option<u64>) {
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
    fn timer_a_doubles_without_cap_and_timer_b_gives_up_at_64_t1() {
        let (resends, gave_up) = run(ClientInvite::start(false, at(0), &TIMING));
        assert_eq!(resends, [500, 1500, 3500, 7500, 15500, 31500]);
        assert_eq!(gave_up, Some(32_000));
        assert_eq!(run(ClientInvite::start(true, at(0), &TIMING)), (vec![], Some(32_000)));
    }

    #[test]
    fn a_provisional_stops_the_resends() {
        let mut machine = ClientInvite::start(false, at(0), &TIMING);
        assert_eq!(machine.hear(100, false, at(10), &TIMING), Hears::Pass);
        assert_eq!(machine.deadline(), None);
        assert_eq!(machine.hear(180, false, at(20), &TIMING), Hears::Pass);
    }

    #[test]
    fn a_failure_is_acknowledged_each_time_and_passed_once() {
        let mut machine = ClientInvite::start(false, at(0), &TIMING);
        assert_eq!(machine.hear(486, false, at(10), &TIMING), Hears::PassAndAck);
        assert_eq!(machine.hear(486, false, at(20), &TIMING), Hears::Ack);
        assert_eq!(machine.hear(180, false, at(30), &TIMING), Hears::Absorb);
        assert_eq!(machine.deadline(), Some(at(32_010)));
        assert_eq!(run(machine), (vec![], None));
    }

    #[test]
    fn every_2xx_passes_until_timer_m() {
        let mut machine = ClientInvite::start(false, at(0), &TIMING);
        for _ in 0..3 {
            assert_eq!(machine.hear(200, false, at(10), &TIMING), Hears::Pass);
        }
        assert_eq!(machine.hear(486, false, at(10), &TIMING), Hears::Absorb);
        assert_eq!(machine.deadline(), Some(at(32_010)));
    }

    #[test]
    fn a_cancelled_invite_without_final_answer_gives_up_64_t1_later() {
        let mut machine = ClientInvite::start(false, at(0), &TIMING);
        machine.hear(180, false, at(10), &TIMING);
        machine.cancelled(at(100), &TIMING);
        machine.cancelled(at(500), &TIMING);
        assert_eq!(run(machine), (vec![], Some(32_100)));
    }

    #[test]
    fn an_abandoned_invite_is_known_for_64_t1_more() {
        let mut machine = ClientInvite::start(false, at(0), &TIMING);
        assert_eq!(machine.wake(at(32_000), &TIMING), Fires::GiveUp);
        assert_eq!(machine.deadline(), Some(at(64_000)));
        assert_eq!(machine.hear(180, false, at(40_000), &TIMING), Hears::Pass);
        let mut late = machine;
        assert_eq!(late.hear(200, false, at(40_000), &TIMING), Hears::Pass);
        assert_eq!(late.deadline(), Some(at(72_000)));
        assert_eq!(machine.hear(486, false, at(50_000), &TIMING), Hears::PassAndAck);
        assert_eq!(run(machine), (vec![], None));
    }
}
