//! When a destination is probed: evenly over the interval whatever their number, sooner when its level is about to change.

use std::time::Duration;

use fastrand::Rng;
use smallvec::SmallVec;

use crate::engine::clock::Instant;
use crate::engine::dispatch::{Check, Condition, Level, Probing};

/// First probes leave so far apart, as long as that is sooner than their regular places.
const FIRST: Duration = Duration::from_millis(10);
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
        let place = |number: usize| (nth as f64 * GOLDEN + number as f64 * GOLDEN / 2.0).fract();
        let checks = probing.checks.iter().enumerate();
        let at = |(number, check): (usize, &Check)| now + check.interval.mul_f64(place(number));
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
        let step = step(what, condition, check, chance);
        // From where it was due, so that lateness does not add up; a long sleep is not made up for.
        let next = place.at + step;
        place.at = if next > now { next } else { now + step };
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
        let next = (sent + step(what, condition, check, chance)).max(now);
        let place = self.0.get_mut(check)?;
        (next < place.at).then(|| {
            place.at = next;
            next
        })
    }
}

/// The time to the next probe, with its jitter.
fn step(what: &Check, condition: &Condition, check: usize, chance: &mut Rng) -> Duration {
    let interval = match condition.count(check) {
        Some(count) if count.is_changing() && !count.is_fresh() => what.fast_interval.min(what.interval),
        Some(count) if count.level == Level::Down => what.down_interval,
        Some(_) | None => what.interval,
    };
    let jitter = f64::from(what.jitter_percent.min(100)) / 100.0;
    interval.mul_f64(1.0 + jitter * (chance.f64() - 0.5))
}
