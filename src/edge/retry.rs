//! Pauses between tries: exponential, with jitter, without end. The one door of crate `backoff`.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;

/// How far a pause may lie from its middle, both ways: nodes that failed together do not come back together.
const JITTER: f64 = 0.5;

/// The pauses of one thing that is tried again and again.
#[derive(Debug)]
pub struct Retry {
    backoff: ExponentialBackoff,
    max: Duration,
}

impl Retry {
    /// The first pause is `initial`, half more or less; each further one is about twice as long; none is longer than
    /// `max`.
    pub fn new(initial: Duration, max: Duration) -> Self {
        // The crate's limit is for the middle of the jitter, ours for its end.
        let middle = max.div_f64(1.0 + JITTER);
        let initial = initial.min(middle);
        let mut backoff = ExponentialBackoff {
            current_interval: initial,
            initial_interval: initial,
            randomization_factor: JITTER,
            multiplier: 2.0,
            max_interval: middle,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        backoff.reset();
        Retry { backoff, max }
    }

    /// How long to wait before the next try. There always is a next one.
    pub fn next_pause(&mut self) -> Duration {
        self.backoff.next_backoff().map_or(self.max, |pause| pause.min(self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INITIAL: Duration = Duration::from_millis(200);
    const MAX: Duration = Duration::from_secs(30);

    fn around(pause: Duration, middle: Duration) -> bool {
        let slack = Duration::from_micros(1);
        pause + slack >= middle / 2 && pause <= middle * 3 / 2 + slack
    }

    #[test]
    fn pauses_double_until_the_limit_and_never_end() {
        let mut retry = Retry::new(INITIAL, MAX);
        for step in 0..6 {
            let middle = INITIAL * (1 << step);
            let pause = retry.next_pause();
            assert!(around(pause, middle), "pause {step} is {pause:?}, not around {middle:?}");
        }
        for _ in 0..10_000 {
            assert!(retry.next_pause() <= MAX);
        }
        assert!(around(retry.next_pause(), MAX * 2 / 3));
    }

    #[test]
    fn pauses_at_the_limit_still_differ() {
        let mut retry = Retry::new(MAX, MAX);
        let pauses: std::collections::HashSet<_> = (0..32).map(|_| retry.next_pause()).collect();
        assert!(pauses.len() > 16, "only {} of 32 differ", pauses.len());
    }

    #[test]
    fn no_length_is_too_odd() {
        for (initial, max) in [
            (Duration::ZERO, Duration::ZERO),
            (Duration::from_secs(5), Duration::from_secs(1)),
            (Duration::from_nanos(1), Duration::MAX),
        ] {
            let mut retry = Retry::new(initial, max);
            for _ in 0..200 {
                assert!(retry.next_pause() <= max);
            }
        }
    }
}
