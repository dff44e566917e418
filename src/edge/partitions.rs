//! OpenSIPS's partitions: what its tools and those who hear its events call the sets' sources.

use crate::engine::dispatch::SetId;

/// The name of each partition, and what its sets' numbers are above their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partitions(pub Vec<(String, u32)>);

impl Partitions {
    /// The one that is meant where none is named.
    pub const DEFAULT: &str = "default";

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Whether there is one of that name.
    pub fn has(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }

    /// A set's partition, and its number there.
    pub fn place(&self, set: SetId) -> (&str, u32) {
        let below = self.0.iter().filter(|(_, offset)| *offset <= set.0);
        let nearest = below.max_by_key(|(_, offset)| *offset);
        nearest.map_or((Self::DEFAULT, set.0), |(name, offset)| (name, set.0 - offset))
    }
}
