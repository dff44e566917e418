//! The digest of a load's rows: equal on every node and in every kind of database as long as the rows are.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::row::{Column, Form, RawRow};

/// Its length in bytes.
const BYTES: usize = 16;
/// Hex digits that people are shown.
const SHOWN: usize = 12;

/// What the rows of a load come to. `{}` shows the first 12 digits, `{:#}` all 32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; BYTES]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = if f.alternate() { BYTES } else { SHOWN / 2 };
        self.0[..shown].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Reads all 32 digits.
impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let remedy = || format!("give {} hex digits", 2 * BYTES);
        if text.len() != 2 * BYTES || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(remedy());
        }
        u128::from_str_radix(text, 16).map(|number| Digest(number.to_be_bytes())).map_err(|_| remedy())
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self:#}"))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Of rows as their source gave them, good and bad: every column but `id`, which another database may count otherwise,
/// and OpenSIPS's `state`, which is written back. Sets come in any order; the order of `id` counts among rows of one priority, where
/// it says who comes first.
pub(super) fn digest(form: Form, rows: &[RawRow]) -> Digest {
    let mut sorted: Vec<_> = rows.iter().collect();
    sorted.sort_by_key(|row| (row.cell(Column::SetId), Reverse(priority(row)), row.id));
    let mut hasher = blake3::Hasher::new();
    for row in sorted {
        for column in Column::ALL.into_iter().filter(|&column| form != Form::OpenSips || column != Column::State) {
            // NULL is read as '' wherever a column may hold both.
            let cell = row.cell(column);
            hasher.update(&(cell.len() as u64).to_le_bytes());
            hasher.update(cell);
        }
    }
    let mut bytes = [0; BYTES];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..BYTES]);
    Digest(bytes)
}

/// The number that the row is sorted by; what is none is a fault anyway.
fn priority(row: &RawRow) -> i64 {
    std::str::from_utf8(row.cell(Column::Priority)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(rows: &[RawRow]) -> Digest {
        super::digest(Form::OpenSips, rows)
    }

    fn raw(id: i64, set: &str, uri: &str, priority: &str, state: &str) -> RawRow {
        let mut row = RawRow { id, ..RawRow::default() };
        for (column, text) in
            [(Column::SetId, set), (Column::Destination, uri), (Column::Priority, priority), (Column::State, state)]
        {
            row.cells[column as usize] = Some(text.as_bytes().to_vec());
        }
        row
    }

    #[test]
    fn only_what_means_something_changes_it() {
        let rows = [raw(1, "1", "sip:a", "0", "0"), raw(2, "1", "sip:b", "0", "0"), raw(3, "2", "sip:c", "9", "0")];
        let first = digest(&rows);
        // Other numbers in `id`, another order of sets and another state are the same rows.
        let same = [raw(7, "2", "sip:c", "9", "2"), raw(8, "1", "sip:a", "0", "1"), raw(9, "1", "sip:b", "0", "0")];
        assert_eq!(digest(&same), first);
        for changed in [
            vec![raw(1, "1", "sip:b", "0", "0"), raw(2, "1", "sip:a", "0", "0"), raw(3, "2", "sip:c", "9", "0")],
            vec![raw(1, "1", "sip:a", "0", "0"), raw(2, "1", "sip:b", "1", "0"), raw(3, "2", "sip:c", "9", "0")],
            vec![raw(1, "1", "sip:a", "0", "0"), raw(2, "1", "sip:b", "0", "0")],
            vec![],
        ] {
            assert_ne!(digest(&changed), first, "{changed:?}");
        }
        // Nobody writes into our own file.
        assert_ne!(super::digest(Form::Toml, &rows), super::digest(Form::Toml, &[raw(1, "1", "sip:a", "0", "1")]));
        // What stands in one column is not what stands in the next.
        assert_ne!(digest(&[raw(1, "1", "sip:a", "", "")]), digest(&[raw(1, "1", "sip:", "a", "")]));
    }

    #[test]
    fn null_is_the_same_as_nothing() {
        let mut null = raw(1, "1", "sip:a", "0", "0");
        let empty = RawRow { cells: null.cells.clone().map(|cell| cell.or(Some(vec![]))), ..null.clone() };
        null.cells[Column::Attrs as usize] = None;
        assert_eq!(digest(&[null]), digest(&[empty]));
    }

    #[test]
    fn it_is_written_and_read_in_hex() {
        let digest = digest(&[raw(1, "1", "sip:a", "0", "0")]);
        let whole = format!("{digest:#}");
        assert_eq!((whole.len(), digest.to_string().len()), (32, 12));
        assert!(whole.starts_with(&digest.to_string()));
        assert_eq!(whole.parse(), Ok(digest));
        let json = serde_json::to_string(&digest).expect("JSON");
        assert_eq!(json, format!("{whole:?}"));
        assert_eq!(serde_json::from_str::<Digest>(&json).expect("a digest"), digest);
        for bad in ["", "5a", &"g".repeat(32), &format!("+{}", &whole[1..]), &format!("{whole}00")] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}
