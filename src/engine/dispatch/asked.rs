//! Sessions by what they asked for: how many of each combination of resources.

use smallvec::SmallVec;

use crate::engine::sip::Resources;

/// Sessions by what they asked for; there are few combinations, mostly one.
#[derive(Clone, Debug, Default)]
pub struct Asked(SmallVec<[(Resources, u32); 2]>);

impl Asked {
    /// A session joins.
    pub(crate) fn join(&mut self, resources: Resources) {
        self.add(resources, 1);
    }

    /// A session leaves that has joined.
    pub(crate) fn leave(&mut self, resources: Resources) {
        if let Some(at) = self.0.iter().position(|(one, _)| *one == resources) {
            self.take_one(at);
        }
    }

    /// Any session leaves, one that asked for these if there is any; whether one was there.
    pub(super) fn wear_off(&mut self, resources: Resources) -> bool {
        let same = self.0.iter().position(|(one, _)| *one == resources);
        let at = same.or(self.0.len().checked_sub(1));
        at.map(|at| self.take_one(at)).is_some()
    }

    fn take_one(&mut self, at: usize) {
        self.0[at].1 -= 1;
        if self.0[at].1 == 0 {
            self.0.swap_remove(at);
        }
    }

    fn add(&mut self, resources: Resources, sessions: u32) {
        match self.0.iter_mut().find(|(one, _)| *one == resources) {
            Some((_, there)) => *there = there.saturating_add(sessions),
            None if sessions > 0 => self.0.push((resources, sessions)),
            None => {}
        }
    }

    /// All sessions.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|(_, sessions)| u64::from(*sessions)).sum()
    }

    /// Sessions that asked for one of these.
    pub fn sessions_of(&self, resources: Resources) -> u64 {
        self.0.iter().filter(|(one, _)| one.meets(resources)).map(|(_, sessions)| u64::from(*sessions)).sum()
    }

    /// How many of each combination, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Resources, u32)> + '_ {
        self.0.iter().copied()
    }
}

impl FromIterator<(Resources, u32)> for Asked {
    fn from_iter<T: IntoIterator<Item = (Resources, u32)>>(all: T) -> Self {
        let mut asked = Asked::default();
        all.into_iter().for_each(|(resources, sessions)| asked.add(resources, sessions));
        asked
    }
}

/// The order in which combinations came says nothing.
impl PartialEq for Asked {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().all(|one| other.0.contains(one))
    }
}

impl Eq for Asked {}
