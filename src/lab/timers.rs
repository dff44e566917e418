//! Timers of many calls in one heap. A timer is never taken out: whoever it wakes looks whether it still matters.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Instant;

/// Keys by the time when they are due; of those due at once the first that was set comes first.
#[derive(Debug)]
pub(super) struct Timers<K> {
    heap: BinaryHeap<Reverse<Entry<K>>>,
    set: u64,
}

impl<K> Timers<K> {
    pub(super) fn new() -> Self {
        Timers { heap: BinaryHeap::new(), set: 0 }
    }

    /// Wakes `key` at `at`.
    pub(super) fn set(&mut self, at: Instant, key: K) {
        self.set += 1;
        self.heap.push(Reverse(Entry { at, turn: self.set, key }));
    }

    /// The next key that is due at `now`.
    pub(super) fn due(&mut self, now: Instant) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry.key)
    }

    /// When the next key is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }
}

#[derive(Debug)]
struct Entry<K> {
    at: Instant,
    turn: u64,
    key: K,
}

impl<K> Ord for Entry<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.turn).cmp(&(other.at, other.turn))
    }
}

impl<K> PartialOrd for Entry<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> PartialEq for Entry<K> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<K> Eq for Entry<K> {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn keys_come_in_the_order_of_their_times_and_then_of_their_setting() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timers = Timers::new();
        for (seconds, key) in [(3, 'c'), (1, 'a'), (3, 'd'), (2, 'b')] {
            timers.set(at(seconds), key);
        }
        assert_eq!((timers.next(), timers.due(start)), (Some(at(1)), None));
        let due: String = std::iter::from_fn(|| timers.due(at(3))).collect();
        assert_eq!(due, "abcd");
        assert_eq!(timers.next(), None);
    }
}
