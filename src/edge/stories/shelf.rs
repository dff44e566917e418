//! So many stories, and so many bytes of them, found by Call-ID, in the order in which they were put there.

use std::collections::{BTreeMap, HashMap};

use super::{Part, Story};

#[derive(Debug)]
pub(super) struct Shelf {
    bounds: Bounds,
    /// Of all stories, roughly.
    bytes: usize,
    next: u64,
    stories: BTreeMap<u64, Story>,
    by_call: HashMap<String, u64>,
}

/// What is kept at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) stories: usize,
    pub(super) bytes: usize,
    /// Of one story.
    pub(super) parts: usize,
}

impl Shelf {
    pub(super) fn of(bounds: Bounds) -> Self {
        Shelf { bounds, bytes: 0, next: 0, stories: BTreeMap::new(), by_call: HashMap::new() }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Story> {
        self.stories.values()
    }

    pub(super) fn find(&self, call_id: &str) -> Option<&Story> {
        self.stories.get(self.by_call.get(call_id)?)
    }

    /// Adds a part to the story of a call, if it is here: the story then.
    pub(super) fn add(&mut self, call_id: &str, part: Part) -> Option<&Story> {
        let story = self.stories.get_mut(self.by_call.get(call_id)?)?;
        let before = story.bytes;
        story.add(part, self.bounds.parts);
        self.bytes = (self.bytes + story.bytes).saturating_sub(before);
        Some(story)
    }

    /// Puts a story behind all others, in the place of one of the same call.
    pub(super) fn put(&mut self, story: Story) {
        self.take_out(&story.call_id);
        self.bytes += story.bytes;
        self.by_call.insert(story.call_id.clone(), self.next);
        self.stories.insert(self.next, story);
        self.next += 1;
    }

    pub(super) fn take_out(&mut self, call_id: &str) -> Option<Story> {
        let number = self.by_call.remove(call_id)?;
        let story = self.stories.remove(&number)?;
        self.bytes = self.bytes.saturating_sub(story.bytes);
        Some(story)
    }

    /// The oldest one, as long as there are too many of them or too many bytes.
    pub(super) fn take_surplus(&mut self) -> Option<Story> {
        let count = self.stories.len();
        if count <= self.bounds.stories && (self.bytes <= self.bounds.bytes || count <= 1) {
            return None;
        }
        let (_, story) = self.stories.pop_first()?;
        self.by_call.remove(&story.call_id);
        self.bytes = self.bytes.saturating_sub(story.bytes);
        Some(story)
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
