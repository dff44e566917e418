//! Flap damping, as BGP has it (RFC 2439): each fall adds to a penalty that halves in a fixed time; above one bound the
//! destination stays out until the penalty is below another.

use std::time::Duration;

use crate::engine::clock::Instant;

/// What each fall adds.
const FALL: f64 = 1000.0;

/// How a set damps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damping {
    /// The penalty halves in this time.
    pub half_life: Duration,
    /// Above this the destination is out; a fall adds 1000. Less than [`Damping::most`], which the penalty never exceeds.
    pub suppress: u32,
    /// Below this it is in again; less than `suppress`.
    pub reuse: u32,
}

impl Default for Damping {
    /// Out at the fourth fall in short order, in again after half a minute or two without one.
    fn default() -> Self {
        Damping { half_life: Duration::from_secs(60), suppress: 3000, reuse: 1500 }
    }
}

impl Damping {
    /// No penalty is more: nobody waits longer than twelve half-lives, whatever it does.
    pub fn most(&self) -> f64 {
        f64::from(self.reuse) * 4096.0
    }
}

/// A penalty that was kept over a restart. It says the same at any time until the next fall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptPenalty {
    /// What it was after the last fall.
    pub value: u32,
    /// How long that is ago.
    pub age: Duration,
    /// Whether the destination stays out for it.
    pub suppressed: bool,
}

/// The penalty of one destination.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Penalty {
    value: f64,
    at: Instant,
    suppressed: bool,
}

impl Penalty {
    /// What it is now.
    pub(crate) fn value(&self, damping: &Damping, now: Instant) -> f64 {
        worn(self.value, now.since(self.at), damping)
    }

    /// What is worth keeping over a restart; none if it has worn off.
    pub(crate) fn keep(&self, damping: &Damping, now: Instant) -> Option<KeptPenalty> {
        (self.value(damping, now) >= 1.0).then(|| KeptPenalty {
            value: self.value.round() as u32,
            age: now.since(self.at),
            suppressed: self.is_suppressed(damping, now),
        })
    }

    /// Takes what was kept.
    pub(crate) fn restore(kept: KeptPenalty, damping: &Damping, now: Instant) -> Self {
        let value = worn(f64::from(kept.value).min(damping.most()), kept.age, damping);
        Penalty { value, at: now, suppressed: kept.suppressed }
    }

    /// The destination has fallen.
    pub(crate) fn fall(&mut self, damping: &Damping, now: Instant) {
        // Whether it stays out, before this fall makes more of a penalty that has worn off.
        let out = self.is_suppressed(damping, now);
        self.value = (self.value(damping, now) + FALL).min(damping.most());
        self.at = now;
        self.suppressed = out || self.value > f64::from(damping.suppress);
    }

    /// Whether the destination stays out for it.
    pub(crate) fn is_suppressed(&self, damping: &Damping, now: Instant) -> bool {
        self.suppressed && self.value(damping, now) > f64::from(damping.reuse)
    }

    /// When it no longer does; none if it does not.
    pub(crate) fn until(&self, damping: &Damping, now: Instant) -> Option<Instant> {
        self.is_suppressed(damping, now).then(|| {
            let half_lives = (self.value / f64::from(damping.reuse.max(1))).log2().max(0.0);
            // A moment behind the crossing, so that who looks then finds it crossed.
            self.at + damping.half_life.mul_f64(half_lives) + Duration::from_millis(1)
        })
    }
}

fn worn(value: f64, age: Duration, damping: &Damping) -> f64 {
    let half_lives = age.as_secs_f64() / damping.half_life.as_secs_f64().max(0.001);
    value * (-half_lives).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn the_fourth_fall_in_a_row_puts_it_out_until_the_penalty_has_worn_off() {
        let (damping, mut penalty) = (Damping::default(), Penalty::default());
        for second in 0..3 {
            penalty.fall(&damping, at(second));
            assert!(!penalty.is_suppressed(&damping, at(second)));
        }
        penalty.fall(&damping, at(3));
        assert!(penalty.is_suppressed(&damping, at(3)));
        let until = penalty.until(&damping, at(3)).expect("it is out");
        assert!(until > at(60) && until < at(120), "{until:?}");
        assert!(penalty.is_suppressed(&damping, at(60)) && !penalty.is_suppressed(&damping, until));
        assert_eq!(penalty.until(&damping, until), None);
    }

    #[test]
    fn who_was_out_once_is_out_again_only_above_the_bound() {
        let (damping, mut penalty) = (Damping::default(), Penalty::default());
        (0..4).for_each(|second| penalty.fall(&damping, at(second)));
        assert!(penalty.is_suppressed(&damping, at(3)));
        for (fall, out) in [(0, false), (1, false), (2, false), (3, true)] {
            penalty.fall(&damping, at(3600 + fall));
            assert_eq!(penalty.is_suppressed(&damping, at(3600 + fall)), out, "{fall}");
        }
    }

    #[test]
    fn falls_far_apart_add_up_to_nothing_and_no_penalty_is_for_ever() {
        let (damping, mut penalty) = (Damping::default(), Penalty::default());
        for hour in 0..100 {
            penalty.fall(&damping, at(hour * 3600));
            assert!(!penalty.is_suppressed(&damping, at(hour * 3600)));
        }
        for _ in 0..1_000_000 {
            penalty.fall(&damping, at(400_000));
        }
        assert!(penalty.until(&damping, at(400_000)).expect("out") < at(400_000 + 721));
    }
}
