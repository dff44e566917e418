//! What a destination's sessions asked for: how many of each combination of resources, changed where the list of members is.

use smallvec::SmallVec;

use crate::engine::sip::Resources;

/// Sessions by what they asked for; there are few combinations, mostly one.
#[derive(Debug, Default)]
pub(super) struct Asked(SmallVec<[(Resources, u32); 2]>);

impl Asked {
    /// A session joins.
    pub(super) fn join(&mut self, resources: Resources) {
        match self.0.iter_mut().find(|(one, _)| *one == resources) {
            Some((_, sessions)) => *sessions += 1,
            None => self.0.push((resources, 1)),
        }
    }

    /// A session leaves that has joined.
    pub(super) fn leave(&mut self, resources: Resources) {
        let Some(at) = self.0.iter().position(|(one, _)| *one == resources) else { return };
        self.0[at].1 -= 1;
        if self.0[at].1 == 0 {
            self.0.swap_remove(at);
        }
    }

    /// Sessions that asked for one of these.
    pub(super) fn sessions_of(&self, resources: Resources) -> u64 {
        self.0.iter().filter(|(one, _)| one.meets(resources)).map(|(_, sessions)| u64::from(*sessions)).sum()
    }
}
