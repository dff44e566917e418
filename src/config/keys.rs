//! Every key that a configuration may have, as the readers ask for them: they read nothing, in which each table that is asked
//! for is there and empty, so that no key is left out.

use std::cell::RefCell;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use toml_edit::{Table, TableLike};

use super::reader::{Section, Source};

/// A key that a configuration may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The table that it stands in, as `set.probe`; empty at the top. `*` in it is a name of the writer's own.
    pub table: String,
    /// Its name; `*` is any.
    pub name: String,
    /// What it takes.
    pub takes: Takes,
}

/// What a key takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Takes {
    /// A table.
    Table,
    /// Any number of tables.
    Tables,
    /// A value, in words: `a whole number from 0 to 100`.
    Value(String),
}

/// Every key, in the order in which they are asked for; a table stands before its own.
pub fn keys() -> Vec<Key> {
    let source = Source::of_keys();
    super::read(&Section::all(&source), Path::new("."));
    source.into_keys()
}

/// What has been asked for, and the table that each is there as.
#[derive(Debug, Default)]
pub(super) struct Survey {
    keys: RefCell<Vec<Key>>,
    empty: Table,
}

impl Survey {
    pub(super) fn note(&self, table: &str, name: &str, takes: Takes) {
        let key = Key { table: table.to_owned(), name: name.to_owned(), takes };
        let mut keys = self.keys.borrow_mut();
        if !keys.contains(&key) {
            keys.push(key);
        }
    }

    pub(super) fn table(&self) -> &dyn TableLike {
        &self.empty
    }

    pub(super) fn into_keys(self) -> Vec<Key> {
        self.keys.into_inner()
    }
}

/// A length of time within bounds, in words.
pub(super) fn length(least: Duration, most: Option<Duration>) -> String {
    match (Length(least), most.map(Length)) {
        (least, Some(most)) => format!("a length of time from {least} to {most}"),
        (Length(Duration::ZERO), None) => "a length of time".to_owned(),
        (least, None) => format!("a length of time, {least} or more"),
    }
}

/// As it is written in the file.
struct Length(Duration);

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        let units = [(3_600_000, "h"), (60_000, "m"), (1000, "s")];
        let fits = |(length, _): &(u128, &str)| milliseconds > 0 && milliseconds.is_multiple_of(*length);
        match units.into_iter().find(fits) {
            Some((length, unit)) => write!(f, "{}{unit}", milliseconds / length),
            None if milliseconds == 0 => f.write_str("0s"),
            None => write!(f, "{milliseconds}ms"),
        }
    }
}
