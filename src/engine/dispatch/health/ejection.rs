//! Traffic as a witness: a destination that fails callers is ejected for a while that grows each time, and then one call
//! tries it (half open). The names are Envoy's, the defaults those of a set of two.

use std::time::Duration;

use super::answers::Verdict;
use crate::engine::clock::Instant;

/// How a set watches its traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observe {
    /// Whether it does.
    pub enabled: bool,
    /// So many failures in a row eject.
    pub consecutive_failures: u32,
    /// So many percent of the requests of an interval eject; 0: never.
    pub failure_percentage_threshold: u8,
    /// Fewer requests in an interval have no percentage.
    pub failure_percentage_request_volume: u32,
    /// The interval of the percentage.
    pub interval: Duration,
    /// The first ejection; the next ones are twice as long each.
    pub base_ejection_time: Duration,
    /// No ejection is longer, but for the 5 to 25 % that chance adds.
    pub max_ejection_time: Duration,
    /// No more of the set's destinations are ejected at a time.
    pub max_ejection_percent: u8,
}

impl Default for Observe {
    fn default() -> Self {
        Observe {
            enabled: true,
            consecutive_failures: 3,
            failure_percentage_threshold: 85,
            failure_percentage_request_volume: 50,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(5),
            max_ejection_time: Duration::from_secs(60),
            max_ejection_percent: 100,
        }
    }
}

impl Observe {
    /// The longest that one is out, whatever chance says.
    pub(super) fn longest_ejection(&self) -> Duration {
        self.max_ejection_time.max(self.base_ejection_time).mul_f64(1.25)
    }
}

/// By what callers' requests have ejected a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EjectionCause {
    /// So many in a row have failed.
    ConsecutiveFailures,
    /// So many percent of an interval's have.
    FailurePercentage,
    /// The one that tried it has.
    Trial,
    /// The port that they had named for MRCP was found closed.
    Port,
}

impl EjectionCause {
    /// Each of them, in the order of `as usize`.
    pub const ALL: [EjectionCause; 4] = [
        EjectionCause::ConsecutiveFailures,
        EjectionCause::FailurePercentage,
        EjectionCause::Trial,
        EjectionCause::Port,
    ];

    /// As in a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            EjectionCause::ConsecutiveFailures => "consecutive_failures",
            EjectionCause::FailurePercentage => "failure_percentage",
            EjectionCause::Trial => "trial",
            EjectionCause::Port => "port",
        }
    }
}

/// What traffic says of one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// It may have calls.
    Trusted {
        /// Since when, to forget earlier ejections after a while.
        since: Instant,
        /// Ejections before.
        times: u32,
    },
    /// Out until then.
    Ejected { since: Instant, until: Instant, times: u32 },
    /// It has sat its time out: one call may try it.
    HalfOpen {
        since: Instant,
        times: u32,
        /// The call that tries it.
        trial: Option<Trial>,
    },
}

/// A call that tries a destination, known by when it was sent: where a set panics, others are under way beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trial {
    began: Instant,
    /// When it counts as lost without a trace.
    lost: Instant,
}

/// The traffic's witness of one destination.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) trust: Trust,
    /// Failures in a row.
    pub(crate) failures: u32,
    /// Of the last ejection; none if there was none, or if it was said.
    pub(crate) cause: Option<EjectionCause>,
    window: Window,
}

/// The requests of the present interval.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    began: Instant,
    requests: u32,
    failures: u32,
}

/// What the destination's set allows and chance says, at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'o> {
    pub(crate) observe: &'o Observe,
    /// Whether one more may be ejected.
    pub(crate) may_eject: bool,
    /// From 0 to 1.
    pub(crate) chance: f64,
}

impl Default for Record {
    fn default() -> Self {
        Record {
            trust: Trust::Trusted { since: Instant::ZERO, times: 0 },
            failures: 0,
            cause: None,
            window: Window::default(),
        }
    }
}

impl Record {
    /// What it is at that moment: time alone ends an ejection, and a trial that nobody heard of again.
    pub(crate) fn trust(&self, now: Instant) -> Trust {
        match self.trust {
            Trust::Ejected { until, times, .. } if until <= now => Trust::HalfOpen { since: until, times, trial: None },
            Trust::HalfOpen { since, times, trial: Some(trial) } if trial.lost <= now => {
                Trust::HalfOpen { since, times, trial: None }
            }
            trust => trust,
        }
    }

    /// Takes the one trial; false if it is taken, or none is called for.
    pub(crate) fn take_trial(&mut self, lost: Instant, now: Instant) -> bool {
        match self.trust(now) {
            Trust::HalfOpen { since, times, trial: None } => {
                self.trust = Trust::HalfOpen { since, times, trial: Some(Trial { began: now, lost }) };
                true
            }
            Trust::HalfOpen { .. } | Trust::Trusted { .. } | Trust::Ejected { .. } => false,
        }
    }

    /// The trial that runs counts as lost at another time; none: it is over, and says nothing.
    pub(crate) fn set_trial(&mut self, began: Instant, lost: Option<Instant>, now: Instant) {
        if let Trust::HalfOpen { since, times, trial: Some(trial) } = self.trust(now)
            && trial.began == began
        {
            self.trust = Trust::HalfOpen { since, times, trial: lost.map(|lost| Trial { began, lost }) };
        }
    }

    /// A request that was sent at `sent` has ended.
    pub(crate) fn hear(&mut self, verdict: Verdict, sent: Instant, terms: &Terms<'_>, now: Instant) {
        self.trust = self.trust(now);
        match (self.trust, verdict) {
            // What was sent before tells of the time before.
            (Trust::Trusted { since, .. } | Trust::Ejected { since, .. } | Trust::HalfOpen { since, .. }, _)
                if sent < since => {}
            (Trust::Trusted { since, times }, Verdict::Fall) => {
                self.failures = self.failures.saturating_add(1);
                let by_percentage =
                    self.window.add(true, terms.observe, now).then_some(EjectionCause::FailurePercentage);
                let in_a_row = self.failures >= terms.observe.consecutive_failures;
                let cause = in_a_row.then_some(EjectionCause::ConsecutiveFailures).or(by_percentage);
                if let Some(cause) = cause.filter(|_| terms.may_eject) {
                    self.eject_again(since, times, cause, terms, now);
                }
            }
            (Trust::Trusted { .. }, Verdict::Alive | Verdict::Busy(_)) => {
                self.failures = 0;
                self.window.add(false, terms.observe, now);
            }
            (Trust::Ejected { times, .. } | Trust::HalfOpen { times, .. }, Verdict::Alive | Verdict::Busy(_)) => {
                *self = Record { trust: Trust::Trusted { since: now, times }, ..Record::default() };
            }
            (Trust::HalfOpen { times, .. }, Verdict::Fall) => {
                self.eject(times.saturating_add(1), Some(EjectionCause::Trial), terms, now);
            }
            (Trust::HalfOpen { .. }, Verdict::Neutral) => self.set_trial(sent, None, now),
            (Trust::Trusted { .. }, Verdict::Neutral) | (Trust::Ejected { .. }, Verdict::Fall | Verdict::Neutral) => {}
        }
    }

    /// It has failed beyond doubt: it is out if it was not, whatever was heard of it before.
    pub(crate) fn fail(&mut self, cause: EjectionCause, terms: &Terms<'_>, now: Instant) {
        match self.trust(now) {
            Trust::Trusted { since, times } => self.eject_again(since, times, cause, terms, now),
            Trust::HalfOpen { times, .. } => self.eject(times.saturating_add(1), Some(cause), terms, now),
            Trust::Ejected { .. } => {}
        }
    }

    /// Puts one out that was trusted since then.
    fn eject_again(&mut self, since: Instant, times: u32, cause: EjectionCause, terms: &Terms<'_>, now: Instant) {
        // One that has long been good begins anew.
        let forgotten = now.since(since) > terms.observe.max_ejection_time;
        self.eject(if forgotten { 1 } else { times.saturating_add(1) }, Some(cause), terms, now);
    }

    /// Puts it out, whatever it did; no cause: somebody says so.
    pub(crate) fn eject(&mut self, times: u32, cause: Option<EjectionCause>, terms: &Terms<'_>, now: Instant) {
        let Observe { base_ejection_time: base, max_ejection_time: most, .. } = *terms.observe;
        let doubled = base.saturating_mul(1 << times.saturating_sub(1).min(20)).min(most.max(base));
        // Never shorter than said, and never the same for two that fell together.
        let time = doubled.mul_f64(1.05 + 0.2 * terms.chance);
        self.trust = Trust::Ejected { since: now, until: now + time, times };
        self.cause = cause;
        self.window = Window::default();
    }

    /// What comes by time alone next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.trust {
            Trust::Ejected { until, .. } => Some(until),
            Trust::HalfOpen { trial, .. } => trial.map(|trial| trial.lost),
            Trust::Trusted { .. } => None,
        }
    }
}

impl Window {
    /// Counts a request; whether too many of the interval have failed.
    fn add(&mut self, failed: bool, observe: &Observe, now: Instant) -> bool {
        if now.since(self.began) >= observe.interval {
            *self = Window { began: now, ..Window::default() };
        }
        self.requests = self.requests.saturating_add(1);
        self.failures = self.failures.saturating_add(u32::from(failed));
        let (failures, requests) = (u64::from(self.failures), u64::from(self.requests));
        observe.failure_percentage_threshold > 0
            && self.requests >= observe.failure_percentage_request_volume
            && failures * 100 >= requests * u64::from(observe.failure_percentage_threshold)
    }
}
