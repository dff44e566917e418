//! The versions of a source's rows that took effect, in the state folder: what a rollback goes back to.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::Digest;
use super::file;
use super::memory::{from_millis, millis};
use super::snapshot::{SnapshotError, StoredSet};
use crate::engine::dispatch::Sets;
use crate::engine::flow::Listener;

/// The form that this version writes and reads.
const FORMAT: u32 = 1;

/// What is known of a version without its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its number on this node; each one's is greater than the last one's.
    pub number: u64,
    /// What its rows say: the same on every node.
    pub digest: Digest,
    /// When it took effect here.
    pub at: SystemTime,
    /// Who made it take effect; the node itself if it found the change.
    pub by: String,
    /// Why.
    pub reason: String,
    /// How many destinations it has.
    pub destinations: usize,
}

/// The versions that are kept of one source.
#[derive(Debug)]
pub struct Versions {
    folder: PathBuf,
    keep: usize,
    /// Oldest first.
    all: Vec<Version>,
    /// The greatest number of any file there, also of one that can't be read.
    greatest: u64,
}

impl Versions {
    /// Those in `folder`, of which the newest `keep` are kept. A file that can't be read is told of and passed over.
    pub fn open(folder: PathBuf, keep: usize) -> Self {
        let mut versions = Versions { folder, keep, all: Vec::new(), greatest: 0 };
        let files = fs::read_dir(&versions.folder).into_iter().flatten().flatten();
        let numbers = files.filter_map(|file| number_of(&file.file_name().to_string_lossy()));
        for number in numbers {
            versions.greatest = versions.greatest.max(number);
            match versions.stored(number) {
                Ok(stored) => versions.all.push(stored.head()),
                Err(fault) => warn!(cause = %fault, "a former version of the sets can't be read: its file stays"),
            }
        }
        versions.all.sort_by_key(|version| version.number);
        versions
    }

    /// What is kept, oldest first.
    pub fn all(&self) -> &[Version] {
        &self.all
    }

    /// The newest version with those rows.
    pub fn of(&self, digest: Digest) -> Option<&Version> {
        self.all.iter().rev().find(|version| version.digest == digest)
    }

    /// The rows of a version.
    ///
    /// # Errors
    /// [`SnapshotError`] if its file is gone, is cut or names a listener that is no more.
    pub fn sets(&self, number: u64, listeners: &[Listener]) -> Result<Sets, SnapshotError> {
        let (path, stored) = (self.path(number), self.stored(number)?);
        let sets = stored.sets.into_iter().map(|set| set.into_set(&path, listeners)).collect::<Result<_, _>>()?;
        Ok(Sets(sets))
    }

    /// Keeps a version under the next number, and no more than so many.
    ///
    /// # Errors
    /// [`SnapshotError::Write`]; the former ones are as they were.
    pub fn add(&mut self, version: Version, sets: &Sets, listeners: &[Listener]) -> Result<u64, SnapshotError> {
        self.keep(StoredVersion {
            format: FORMAT,
            number: 0,
            digest: version.digest,
            at: millis(version.at),
            by: version.by,
            reason: version.reason,
            sets: sets.0.iter().map(|set| StoredSet::of(set, listeners)).collect(),
        })
    }

    /// Under the next number.
    fn keep(&mut self, mut stored: StoredVersion) -> Result<u64, SnapshotError> {
        // Not over a file of another version of Tandem.
        let number = self.greatest + 1;
        let path = self.path(number);
        stored.number = number;
        let saved = fs::create_dir_all(&self.folder).and_then(|()| file::save(&path, &stored));
        saved.map_err(|source| SnapshotError::Write { path, source })?;
        self.greatest = number;
        self.all.push(stored.head());
        while self.all.len() > self.keep {
            let oldest = self.all.remove(0);
            // One that can't be removed is one more.
            let _ = fs::remove_file(self.path(oldest.number));
        }
        Ok(number)
    }

    /// A version as text, for a node that has none of it.
    ///
    /// # Errors
    /// [`SnapshotError`] if its file can't be read.
    pub fn text(&self, number: u64) -> Result<String, SnapshotError> {
        self.stored(number).map(|stored| serde_json::to_string(&stored).expect("it was read as one"))
    }

    /// Keeps a version of another node, under a number of its own.
    ///
    /// # Errors
    /// What is wrong with the text or the disk, in words.
    pub fn adopt(&mut self, digest: Digest, text: &str) -> Result<(), String> {
        let stored: StoredVersion = serde_json::from_str(text).map_err(|fault| format!("it is none: {fault}"))?;
        if stored.digest != digest || stored.format != FORMAT {
            return Err("it is another, or of another version of Tandem".to_owned());
        }
        self.keep(stored).map(drop).map_err(|fault| fault.to_string())
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:06}.json"))
    }

    fn stored(&self, number: u64) -> Result<StoredVersion, SnapshotError> {
        let path = self.path(number);
        file::read(&path, FORMAT).map_err(|fault| SnapshotError::of(&path, fault))
    }
}

fn number_of(file: &str) -> Option<u64> {
    file.strip_suffix(".json")?.parse().ok()
}

#[derive(Serialize, Deserialize)]
struct StoredVersion {
    format: u32,
    number: u64,
    digest: Digest,
    /// Milliseconds since 1970.
    at: u64,
    by: String,
    reason: String,
    sets: Vec<StoredSet>,
}

impl StoredVersion {
    fn head(&self) -> Version {
        Version {
            number: self.number,
            digest: self.digest,
            at: from_millis(self.at),
            by: self.by.clone(),
            reason: self.reason.clone(),
            destinations: self.sets.iter().map(StoredSet::len).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::scratch::Folder;
    use crate::engine::dispatch::{Row, Set, SetId};

    fn sets(weight: u32) -> Sets {
        let row =
            Row { weight, ..Row::new("sip:10.0.0.1:7010".to_owned(), "10.0.0.1:7010".parse().expect("an address")) };
        Sets(vec![Set { id: SetId(19), rows: vec![row] }])
    }

    fn version(weight: u32) -> Version {
        let digest = Digest([weight as u8; 16]);
        let (by, reason) = ("ann".to_owned(), "more servers".to_owned());
        Version { number: 0, digest, at: from_millis(1_800_000_000_000), by, reason, destinations: 0 }
    }

    #[test]
    fn versions_are_kept_up_to_a_number_and_found_again() {
        let folder = Folder::new();
        let open = || Versions::open(folder.path().join("default"), 3);
        let mut versions = open();
        for weight in 1..=5 {
            assert_eq!(versions.add(version(weight), &sets(weight), &[]).expect("kept"), u64::from(weight));
        }
        for versions in [&versions, &open()] {
            assert_eq!(versions.all().iter().map(|one| one.number).collect::<Vec<_>>(), [3, 4, 5]);
            let four = versions.of(version(4).digest).expect("kept");
            assert_eq!(*four, Version { number: 4, destinations: 1, ..version(4) });
            assert_eq!(versions.sets(4, &[]).expect("there"), sets(4));
            assert_eq!(versions.of(version(1).digest), None);
        }
    }

    #[test]
    fn a_version_of_another_node_is_kept_under_a_number_of_its_own() {
        let folder = Folder::new();
        let open = |name: &str| Versions::open(folder.path().join(name), 3);
        let (mut ours, mut theirs) = (open("ours"), open("theirs"));
        theirs.add(version(1), &sets(1), &[]).expect("kept");
        ours.add(version(7), &sets(7), &[]).expect("kept");
        let text = theirs.text(1).expect("there");
        ours.adopt(version(1).digest, &text).expect("whole");
        assert_eq!(*ours.of(version(1).digest).expect("kept"), Version { number: 2, destinations: 1, ..version(1) });
        assert_eq!(ours.sets(2, &[]).expect("there"), sets(1));
        for (digest, text) in
            [(version(2).digest, text.as_str()), (version(1).digest, &text[..99]), (version(1).digest, "")]
        {
            assert!(ours.adopt(digest, text).is_err(), "{text}");
        }
        assert_eq!(ours.all().len(), 2);
    }

    #[test]
    fn a_file_that_is_none_of_ours_is_passed_over() {
        let folder = Folder::new();
        let mut versions = Versions::open(folder.path().to_owned(), 3);
        versions.add(version(1), &sets(1), &[]).expect("kept");
        for (file, text) in [("000002.json", "{\"format\":9}"), ("x.json", ""), ("notes", "")] {
            std::fs::write(folder.path().join(file), text).expect("written");
        }
        let mut versions = Versions::open(folder.path().to_owned(), 3);
        assert_eq!(versions.all().len(), 1);
        assert_eq!(versions.add(version(3), &sets(3), &[]).expect("kept"), 3, "not over the second, which stays");
        assert_eq!(folder.files(), ["000001.json", "000002.json", "000003.json", "notes", "x.json"]);
    }
}
