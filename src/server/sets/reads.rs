//! How the reads of a source went, and what of that is news.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::edge::store::Digest;

/// A cause that lasts is told again after that.
const TELL_AGAIN: Duration = Duration::from_secs(300);
/// So many causes are remembered: a source may fail now in one way and now in another.
const MOST_TOLD: usize = 16;

/// How the reads went.
#[derive(Clone, Debug, Default)]
pub(in crate::server) struct Reads {
    /// Whether the last one succeeded and its rows could be used.
    pub(in crate::server) ok: bool,
    /// Loads that took effect.
    pub(in crate::server) loads: u64,
    /// Loads that failed and left the sets as they were.
    pub(in crate::server) failed_loads: u64,
    /// Loads that would have taken out too much.
    pub(in crate::server) refused_loads: u64,
    /// When the last load took effect.
    pub(in crate::server) last_load: Option<SystemTime>,
    /// When the rows were read last.
    pub(in crate::server) last_read: Option<SystemTime>,
    /// The rows that were read last.
    pub(super) rows: Option<Digest>,
    /// What is wrong with the source or its rows; empty if nothing is.
    pub(super) faults: Vec<String>,
    /// What was found, and is not put in place without force.
    pub(super) refused: Vec<String>,
    /// What is wrong and when that was told last, oldest first.
    pub(super) told: Told,
}

impl Reads {
    /// Whether that was not told yet, or long ago.
    pub(super) fn is_news(&mut self, cause: &str) -> bool {
        is_news(&mut self.told, cause)
    }
}

/// Causes that were told, and when.
pub(super) type Told = Vec<(String, Instant)>;

/// Whether `cause` was not told yet, or long ago; from now on it was.
pub(super) fn is_news(told: &mut Told, cause: &str) -> bool {
    told.retain(|(_, at)| at.elapsed() < TELL_AGAIN);
    if told.iter().any(|(told, _)| told == cause) {
        return false;
    }
    if told.len() == MOST_TOLD {
        told.remove(0);
    }
    told.push((cause.to_owned(), Instant::now()));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_that_take_turns_are_each_told_once() {
        let mut reads = Reads::default();
        let told = ["refused", "no answer", "refused", "no answer"].map(|cause| reads.is_news(cause));
        assert_eq!(told, [true, true, false, false]);
        assert!((0..MOST_TOLD).all(|number| reads.is_news(&number.to_string())));
        assert_eq!(reads.told.len(), MOST_TOLD, "what peers and people write fills no memory");
    }
}
