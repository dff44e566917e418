//! Sessions that have ended lately: a request that comes late, or twice, must not bring one back to the table by its cookie.

use std::collections::HashSet;
use std::hash::BuildHasherDefault;
use std::time::Duration;

use crate::engine::clock::Instant;
use crate::engine::sip::Hashed;

/// They are remembered that long at least, and at most twice as long: 64*T1, as long as anything is sent again.
const LATELY: Duration = Duration::from_secs(32);

/// Their keys.
#[derive(Debug, Default)]
pub(super) struct Lately {
    young: HashSet<u128, BuildHasherDefault<Hashed>>,
    old: HashSet<u128, BuildHasherDefault<Hashed>>,
    /// When the young ones began to be gathered, and the old ones.
    turned: Instant,
    turned_before: Instant,
}

impl Lately {
    /// One has ended.
    pub(super) fn insert(&mut self, key: u128, now: Instant) {
        if now.since(self.turned) >= LATELY {
            // Its memory goes with it, since the next half minute may be a quieter one.
            self.old = std::mem::take(&mut self.young);
            self.turned_before = std::mem::replace(&mut self.turned, now);
        }
        self.young.insert(key);
    }

    /// Whether it has ended lately.
    pub(super) fn contains(&self, key: u128, now: Instant) -> bool {
        let is_recent = |turned: Instant| now.since(turned) < LATELY * 2;
        (is_recent(self.turned) && self.young.contains(&key))
            || (is_recent(self.turned_before) && self.old.contains(&key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_remembered_for_half_a_minute_and_not_much_longer() {
        let mut lately = Lately::default();
        let at = |seconds| Instant::ZERO + Duration::from_secs(seconds);
        for end in [3, 31, 40, 70, 1000] {
            lately.insert(u128::from(end), at(end));
            lately.insert(7777, at(end));
            assert!(lately.contains(u128::from(end), at(end)));
            assert!(lately.contains(u128::from(end), at(end + 31)));
            assert!(!lately.contains(u128::from(end), at(end + 65)));
        }
        // Long after, the next one turns it.
        for end in [2000, 2001, 2063] {
            lately.insert(u128::from(end), at(end));
        }
        assert!(lately.contains(2001, at(2001 + 32)) && !lately.contains(2001, at(2001 + 64)));
    }
}
