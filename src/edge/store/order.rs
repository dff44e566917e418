//! What an operator has said of a source's rows: the newest word holds on every node, and is kept over a restart.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Digest;
use super::file;

/// The form that this version writes and reads.
const FORMAT: u32 = 1;

/// A word of an operator on a source. The greater `(stamp, node)` is the newer one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceOrder {
    /// Milliseconds since 1970, and more than any stamp that its node had seen.
    pub stamp: u64,
    /// The node that took the order.
    pub node: String,
    /// Who gave it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// What is to be done.
    #[serde(flatten)]
    pub word: SourceWord,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "lowercase")]
pub enum SourceWord {
    /// Read the rows.
    Load {
        /// The rows that the node found which took the order.
        rows: Digest,
        /// Whether these may be put in place whatever they take out.
        force: bool,
    },
    /// Serve a former version as long as the rows are what they were.
    Pin {
        /// What to serve.
        version: Digest,
        /// The rows that are not to be served.
        instead_of: Digest,
    },
}

impl SourceOrder {
    /// Whether this is newer than what is known.
    pub fn is_newer_than(&self, known: Option<&SourceOrder>) -> bool {
        let order = |order: &SourceOrder| (order.stamp, order.node.clone());
        known.is_none_or(|known| order(self) > order(known))
    }

    /// The rows that the node which took it has read.
    pub fn rows(&self) -> Digest {
        match self.word {
            SourceWord::Load { rows, .. } => rows,
            SourceWord::Pin { instead_of, .. } => instead_of,
        }
    }
}

/// Writes the newest order to `path`: whole or not at all.
///
/// # Errors
/// What the system says.
pub fn save(path: &Path, order: &SourceOrder) -> io::Result<()> {
    file::save(path, &StoredOrder { format: FORMAT, order: order.clone() })
}

/// Reads what [`save`] wrote; none if nobody has. A file that is none of ours is put aside.
///
/// # Errors
/// What is wrong with the file, in words.
pub fn read(path: &Path) -> Result<Option<SourceOrder>, String> {
    match file::read_kept::<StoredOrder>(path, FORMAT) {
        Ok(stored) => Ok(stored.map(|stored| stored.order)),
        Err(fault) => Err(fault.told(path, "a rollback of before is forgotten")),
    }
}

#[derive(Serialize, Deserialize)]
struct StoredOrder {
    format: u32,
    order: SourceOrder,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::scratch::Folder;

    fn order(stamp: u64, node: &str, word: SourceWord) -> SourceOrder {
        SourceOrder { stamp, node: node.to_owned(), by: "ann".to_owned(), reason: "a \"disk\"".to_owned(), word }
    }

    #[test]
    fn what_was_saved_is_read_again_and_nonsense_is_told() {
        let folder = Folder::new();
        let path = folder.path().join("order.json");
        assert_eq!(read(&path), Ok(None));
        let (a, b) = (Digest([1; 16]), Digest([2; 16]));
        for word in [SourceWord::Load { rows: a, force: true }, SourceWord::Pin { version: a, instead_of: b }] {
            let order = order(7, "n", word);
            save(&path, &order).expect("saved");
            assert_eq!(read(&path), Ok(Some(order)));
        }
        for (text, words) in [("{\"format\":1}", "not one of ours"), ("{\"format\":2}", "its format is 2")] {
            std::fs::write(&path, text).expect("written");
            let told = read(&path).expect_err("nonsense");
            assert!(told.contains("order.json") && told.contains(words), "{told}");
            assert_eq!(folder.files(), ["order.json.ignored"], "what another version knew stays");
        }
    }

    #[test]
    fn the_newest_holds_and_of_two_of_one_moment_the_greater_node() {
        let load = SourceWord::Load { rows: Digest([1; 16]), force: false };
        let of = |stamp, node| order(stamp, node, load.clone());
        assert!(of(1, "a").is_newer_than(None));
        assert!(of(2, "a").is_newer_than(Some(&of(1, "b"))));
        assert!(of(1, "b").is_newer_than(Some(&of(1, "a"))));
        assert!(!of(1, "a").is_newer_than(Some(&of(1, "a"))));
    }
}
