//! A map in many parts. One that grows moves all that it holds; a part is small, so no call waits for the move of a million.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash};

use crate::engine::sip::Hashed;

/// A power of two.
const PARTS: usize = 64;

/// Values by keys that are hashes already.
#[derive(Debug)]
pub(super) struct Index<K, V> {
    parts: Vec<HashMap<K, V, BuildHasherDefault<Hashed>>>,
    len: usize,
    /// The most that it has held.
    peak: usize,
}

impl<K: Copy + Eq + Hash + Into<u128>, V: Copy> Index<K, V> {
    /// One that holds nothing.
    pub(super) fn new() -> Self {
        Index { parts: (0..PARTS).map(|_| HashMap::default()).collect(), len: 0, peak: 0 }
    }

    /// The value of a key.
    pub(super) fn get(&self, key: K) -> Option<V> {
        self.parts[part(key)].get(&key).copied()
    }

    /// Gives a key that value, instead of the one that it may have.
    pub(super) fn insert(&mut self, key: K, value: V) {
        let part = &mut self.parts[part(key)];
        // A part has room for its share of the most that all have held, and for chance: so their memory goes by the load.
        let share = self.peak / PARTS;
        part.reserve((share + share / 8 + 32).saturating_sub(part.len()));
        self.len += usize::from(part.insert(key, value).is_none());
        self.peak = self.peak.max(self.len);
    }

    /// Takes a key out.
    pub(super) fn remove(&mut self, key: K) {
        self.len -= usize::from(self.parts[part(key)].remove(&key).is_some());
    }
}

/// By bits in the middle: a part's own table goes by the lowest and the highest of 64.
fn part<K: Into<u128>>(key: K) -> usize {
    (key.into() >> 40) as usize % PARTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_its_share_and_each_key_its_value() {
        let mut random = fastrand::Rng::with_seed(5);
        let keys: Vec<u64> = (0..6400).map(|_| random.u64(..)).collect();
        let mut index = Index::new();
        keys.iter().for_each(|key| index.insert(*key, *key));
        assert!(index.parts.iter().all(|part| (50..150).contains(&part.len())));
        keys.iter().step_by(2).for_each(|key| index.remove(*key));
        for (nth, key) in keys.iter().enumerate() {
            assert_eq!(index.get(*key), Some(*key).filter(|_| nth % 2 == 1));
        }
        assert_eq!((index.len, index.peak), (3200, 6400));
    }
}
