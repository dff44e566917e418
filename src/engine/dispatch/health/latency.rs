//! How long a destination takes: a histogram, and a mean in which each sample counts for less as newer ones come.

use std::time::Duration;

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

#[cfg(test)]
mod tests {
    use super::*;

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
