//! The journal's entries as lines of a file.

use std::sync::Arc;

use serde::Serialize;

use super::Entry;
use crate::edge::lines::{Line, Lines};
use crate::edge::moment::Moment;

/// The file of the journal's entries.
pub type EventsFile = Lines<Started>;

/// One line: the entry, and the start that it is of, since places begin anew at each.
#[derive(Debug, Serialize)]
pub struct Started {
    // First, since it shows whose line a torn one is (`Line::HEAD`).
    pub(super) started: Moment,
    #[serde(flatten)]
    pub(super) entry: Arc<Entry>,
}

impl Line for Started {
    const NAME: &'static str = "events";
    const HEAD: &'static str = "{\"started\":\"";

    fn bytes(&self) -> usize {
        let Entry { node, destination, old, new, cause, actor, reason, text, .. } = &*self.entry;
        let more = [destination, old, new, cause, actor, reason];
        size_of::<Entry>() + node.len() + text.len() + more.into_iter().flatten().map(String::len).sum::<usize>()
    }

    fn write(&self, line: &mut Vec<u8>) -> serde_json::Result<()> {
        serde_json::to_writer(line, self)
    }
}
