//! So many stories, found by Call-ID, in the order in which they were put there.

use std::collections::{BTreeMap, HashMap};

use super::Story;

#[derive(Debug)]
pub(super) struct Shelf {
    most: usize,
    next: u64,
    stories: BTreeMap<u64, Story>,
    by_call: HashMap<String, u64>,
}

impl Shelf {
    pub(super) fn of(most: usize) -> Self {
        Shelf { most, next: 0, stories: BTreeMap::new(), by_call: HashMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.stories.len()
    }

    pub(super) fn is_too_full(&self) -> bool {
        self.stories.len() > self.most
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Story> {
        self.stories.values()
    }

    pub(super) fn find(&self, call_id: &str) -> Option<&Story> {
        self.stories.get(self.by_call.get(call_id)?)
    }

    pub(super) fn find_mut(&mut self, call_id: &str) -> Option<&mut Story> {
        self.stories.get_mut(self.by_call.get(call_id)?)
    }

    /// Puts a story behind all others, in the place of one of the same call.
    pub(super) fn put(&mut self, story: Story) {
        let number = self.next;
        self.next += 1;
        if let Some(old) = self.by_call.insert(story.call_id.clone(), number) {
            self.stories.remove(&old);
        }
        self.stories.insert(number, story);
    }

    pub(super) fn take_out(&mut self, call_id: &str) -> Option<Story> {
        let number = self.by_call.remove(call_id)?;
        self.stories.remove(&number)
    }

    pub(super) fn take_oldest(&mut self) -> Option<Story> {
        let (_, story) = self.stories.pop_first()?;
        self.by_call.remove(&story.call_id);
        Some(story)
    }
}
