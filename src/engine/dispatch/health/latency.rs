//! How long a destination takes: a histogram, and a mean in which each sample counts for less as newer ones come.

use std::time::Duration;

use crate::engine::clock::Instant;

/// The upper bounds of the histogram's buckets; what is slower is counted in all.
pub const BOUNDS: [Duration; 12] = [
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(10),
];

/// The share of a new sample in the mean, 1/8, as of a round-trip time in TCP (RFC 6298).
const ALPHA: u32 = 8;

/// Latencies of one kind at one destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Samples not above each bound and above the one before.
    pub buckets: [u64; BOUNDS.len()],
    /// All samples.
    pub count: u64,
    /// Their sum.
    pub sum: Duration,
    /// The moving mean; none before the first sample.
    pub mean: Option<Duration>,
}

impl Latency {
    pub(crate) fn add(&mut self, sample: Duration) {
        if let Some(bucket) = BOUNDS.iter().position(|bound| sample <= *bound) {
            self.buckets[bucket] += 1;
        }
        self.count += 1;
        self.sum += sample;
        self.mean = Some(self.mean.map_or(sample, |mean| mean - mean / ALPHA + sample / ALPHA));
    }
}

/// How fast a peak is forgotten.
const FADE: Duration = Duration::from_secs(10);

/// A moving mean that jumps to each peak and sinks from it (Finagle's peak EWMA).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Peak {
    seconds: f64,
    at: Instant,
}

impl Peak {
    pub(crate) fn add(&mut self, sample: Duration, now: Instant) {
        let sample = sample.as_secs_f64();
        let rest = (-now.since(self.at).as_secs_f64() / FADE.as_secs_f64()).exp();
        self.seconds = if sample > self.seconds { sample } else { self.seconds * rest + sample * (1.0 - rest) };
        self.at = now;
    }

    /// What it has sunk to: without samples towards nothing, so that a slow one is tried again.
    pub(crate) fn at(&self, now: Instant) -> Duration {
        Duration::from_secs_f64(self.seconds * (-now.since(self.at).as_secs_f64() / FADE.as_secs_f64()).exp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_in_time() {
        let mut peak = Peak::default();
        let at = |seconds| Instant::ZERO + Duration::from_secs(seconds);
        peak.add(Duration::from_millis(10), at(0));
        peak.add(Duration::from_secs(1), at(1));
        peak.add(Duration::from_millis(10), at(1));
        assert_eq!(peak.at(at(1)), Duration::from_secs(1));
        assert!(peak.at(at(11)) < Duration::from_millis(400) && peak.at(at(61)) < Duration::from_millis(10));
    }

    #[test]
    fn samples_fall_into_their_bucket_and_move_the_mean() {
        let mut latency = Latency::default();
        for millis in [1, 3, 20_000] {
            latency.add(Duration::from_millis(millis));
        }
        assert_eq!((latency.buckets[0], latency.buckets[2], latency.buckets.iter().sum::<u64>()), (1, 1, 2));
        assert_eq!((latency.count, latency.sum), (3, Duration::from_millis(20_004)));
        assert_eq!(latency.mean, Some(Duration::from_micros(2_501_093) + Duration::from_nanos(750)));
    }
}
