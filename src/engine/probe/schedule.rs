//! When a destination is probed: evenly over the interval whatever their number, sooner when its level is about to change.

use std::time::Duration;

use fastrand::Rng;
use smallvec::SmallVec;

use crate::engine::clock::Instant;
use crate::engine::dispatch::{Check, Condition, Level, Probing};

/// First probes leave so far apart, as long as that is sooner than their regular places.
pub(super) const FIRST: Duration = Duration::from_millis(10);
/// The part of the interval that lies between two in a row: the golden section leaves no two places close, however many
/// there are.
const GOLDEN: f64 = 0.618_033_988_749_895;

/// When each check of one destination is due.
#[derive(Clone, Debug)]
pub(super) struct Schedule(SmallVec<[Place; 1]>);

#[derive(Clone, Copy, Debug)]
struct Place {
    /// The next regular time.
    at: Instant,
    /// Whether one leaves before that: the first of all.
    early: bool,
}

impl Schedule {
    /// The places of the destination that is the `nth` of all.
    pub(super) fn new(probing: &Probing, nth: u64, now: Instant) -> Self {
        let checks = probing.checks.iter().enumerate();
        let at = |(number, check): (usize, &Check)| now + check.interval.mul_f64(place(nth, number));
        Schedule(checks.map(|check| Place { at: at(check), early: false }).collect())
    }

    /// When the first probe leaves: at its place, or sooner, so that a small set is known at once.
    pub(super) fn first(&mut self, check: usize, early: u32, now: Instant) -> Instant {
        let early = now + FIRST * early.min(100_000);
        let Some(place) = self.0.get_mut(check) else { return early };
        place.early = early < place.at;
        place.at.min(early)
    }

    /// It is due: the next time. None if it is not due any more, since that was moved.
    pub(super) fn advance(
        &mut self,
        condition: &Condition,
        check: usize,
        now: Instant,
        chance: &mut Rng,
    ) -> Option<Instant> {
        let what = condition.probing().checks.get(check)?;
        let place = self.0.get_mut(check)?;
        // The first one leaves before its place, the second one keeps it.
        let early = std::mem::take(&mut place.early);
        if place.at > now {
            return early.then_some(place.at);
        }
        let interval = interval(what, condition, check);
        // From where it was due, so that lateness does not add up. A long sleep is not made up for, and those that it has
        // made late together do not stay together: each goes on at its own place in the interval.
        let next = place.at + jittered(what, interval, chance.f64());
        let missed = now.since(next).as_micros() / interval.as_micros().max(1);
        let missed = u32::try_from(missed + 1).unwrap_or(u32::MAX);
        place.at = if next > now { next } else { next + interval.saturating_mul(missed) };
        Some(place.at)
    }

    /// A probe that was sent at `sent` has ended, and its level may be about to change: the next time if it is sooner now.
    pub(super) fn hasten(
        &mut self,
        condition: &Condition,
        check: usize,
        sent: Instant,
        now: Instant,
        chance: &mut Rng,
    ) -> Option<Instant> {
        let what = condition.probing().checks.get(check)?;
        let interval = interval(what, condition, check);
        let place = self.0.get_mut(check)?;
        // Only a shorter interval is sooner. The same one with another chance would be half of the time, and each probe early.
        if sent + jittered(what, interval, 1.0) >= place.at {
            return None;
        }
        place.at = (sent + jittered(what, interval, chance.f64())).max(now);
        Some(place.at)
    }
}

/// The time from one probe to the next, as things stand.
fn interval(what: &Check, condition: &Condition, check: usize) -> Duration {
    match condition.count(check) {
        Some(count) if count.is_changing() && !count.is_fresh() => what.fast_interval.min(what.interval),
        Some(count) if count.level == Level::Down => what.down_interval,
        Some(_) | None => what.interval,
    }
}

/// Where in its interval the check of that number is, of the destination that is the `nth` of all.
pub(super) fn place(nth: u64, number: usize) -> f64 {
    (nth as f64 * GOLDEN + number as f64 * GOLDEN / 2.0).fract()
}

/// With its jitter: the shortest if `chance` is 0, the longest if it is 1.
fn jittered(what: &Check, interval: Duration, chance: f64) -> Duration {
    let jitter = f64::from(what.jitter_percent.min(100)) / 100.0;
    interval.mul_f64(1.0 + jitter * (chance - 0.5))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use super::*;
    use crate::engine::clock::Now;
    use crate::engine::dispatch::{CheckKind, Judgement, Observe, Outcome, Seen, SipProbe, Terms, Witness};

    /// The time between probes that are answered at once, on average; then the time after one that is not.
    fn times(check: Check) -> (Duration, Duration) {
        const PROBES: u32 = 10_000;
        let probing = Arc::new(Probing { checks: vec![check], ..Probing::default() });
        let mut now = Now { mono: Instant::ZERO, wall: SystemTime::UNIX_EPOCH };
        let mut condition = Condition::new(Arc::clone(&probing), now);
        let mut schedule = Schedule::new(&probing, 0, now.mono);
        let mut chance = Rng::with_seed(1);
        let see = |condition: &mut Condition, outcome, now: Now| {
            let seen = Seen { witness: Witness::Options, check: Some(0), outcome, sent: now.mono };
            let terms = Terms { observe: &Observe::default(), may_eject: true, chance: 0.5 };
            condition.see(seen, &Judgement::default(), &terms, now);
        };
        for _ in 0..PROBES {
            let next = schedule.advance(&condition, 0, now.mono, &mut chance).expect("it is due");
            see(&mut condition, Outcome::Answered { status: 200, retry_after: None }, now);
            now.mono = schedule.hasten(&condition, 0, now.mono, now.mono, &mut chance).unwrap_or(next);
        }
        let mean = now.mono.since_start() / PROBES;
        schedule.advance(&condition, 0, now.mono, &mut chance).expect("it is due");
        see(&mut condition, Outcome::TimedOut, now);
        let sooner = schedule.hasten(&condition, 0, now.mono, now.mono, &mut chance).expect("it is in doubt");
        (mean, sooner.since(now.mono))
    }

    #[test]
    fn an_answer_does_not_bring_the_next_probe_forward_and_a_failure_does() {
        let (mean, sooner) = times(Check::new(CheckKind::Sip(SipProbe::default())));
        let within =
            |time: Duration, seconds: f64, percent: f64| (time.as_secs_f64() / seconds - 1.0).abs() < percent / 100.0;
        assert!(within(mean, 10.0, 0.2), "{mean:?}");
        assert!(within(sooner, 1.0, 5.1), "{sooner:?}");
    }
}
