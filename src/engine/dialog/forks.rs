//! The dialogs that one INVITE has made: a proxy behind us may fork it, and each 2xx makes one of its own (RFC 3261 section
//! 13.2.2.4). They are one session, which lasts until the last of them has ended.

use smallvec::SmallVec;

use crate::engine::sip::Keys;

/// A destination's tag, as a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fork(u64);

impl Fork {
    /// Of that tag.
    pub(crate) fn of(keys: &Keys, tag: &[u8]) -> Self {
        Fork(keys.table_hash(&[tag]) as u64)
    }

    /// The name of this dialog of the session of that name.
    pub(super) fn within(self, session: u128) -> u128 {
        session ^ u128::from(self.0)
    }
}

/// More of one INVITE are not told apart; of those that are over the latest are remembered.
const MOST: usize = 16;

/// All of one session.
#[derive(Debug, Default)]
pub(super) struct Forks {
    live: SmallVec<[u64; 2]>,
    over: SmallVec<[u64; 2]>,
}

impl Forks {
    /// A 2xx has made one. One that has ended stays so: its BYE has overtaken its 2xx, or that was sent again.
    pub(super) fn begin(&mut self, fork: Fork) {
        if !self.over.contains(&fork.0) && !self.live.contains(&fork.0) && self.live.len() < MOST {
            self.live.push(fork.0);
        }
    }

    /// One has ended.
    pub(super) fn end(&mut self, fork: Fork) {
        self.live.retain(|one| *one != fork.0);
        if !self.over.contains(&fork.0) {
            if self.over.len() == MOST {
                self.over.remove(0);
            }
            self.over.push(fork.0);
        }
    }

    /// Whether one is alive.
    pub(super) fn has(&self, fork: Fork) -> bool {
        self.live.contains(&fork.0)
    }

    /// Whether none is alive.
    pub(super) fn are_over(&self) -> bool {
        self.live.is_empty()
    }
}
