//! What a node knows of the `state` column that it writes back: what was last read or written there, for its next start.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::file;
use super::snapshot::StoredState;
use crate::engine::dispatch::{RowState, SetId};

/// The form that this version writes and reads.
const FORMAT: u32 = 1;

/// The state of each row, by set and `destination` column.
pub type States = BTreeMap<(SetId, String), RowState>;

/// Writes `states` to `path`: whole or not at all.
///
/// # Errors
/// What the system says.
pub fn save(path: &Path, states: &States) -> io::Result<()> {
    let row = |((set, uri), state): (&(SetId, String), &RowState)| StoredRow {
        set: set.0,
        uri: uri.clone(),
        state: StoredState::of(*state),
    };
    file::save(path, &StoredStates { format: FORMAT, rows: states.iter().map(row).collect() })
}

/// Reads what [`save`] wrote; none if nobody has. A file that is none of ours is put aside.
///
/// # Errors
/// What is wrong with the file, in words.
pub fn read(path: &Path) -> Result<Option<States>, String> {
    let row = |row: StoredRow| ((SetId(row.set), row.uri), row.state.into_state());
    match file::read_kept::<StoredStates>(path, FORMAT) {
        Ok(stored) => Ok(stored.map(|stored| stored.rows.into_iter().map(row).collect())),
        Err(fault) => Err(fault.told(path, "the states of the table are read as if for the first time")),
    }
}

#[derive(Serialize, Deserialize)]
struct StoredStates {
    format: u32,
    rows: Vec<StoredRow>,
}

#[derive(Serialize, Deserialize)]
struct StoredRow {
    set: u32,
    uri: String,
    state: StoredState,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::scratch::Folder;

    #[test]
    fn what_was_saved_is_read_again_and_nonsense_is_told() {
        let folder = Folder::new();
        let path = folder.path().join("states.json");
        assert_eq!(read(&path), Ok(None));
        let states: States = RowState::ALL
            .iter()
            .zip(7010..)
            .map(|(state, port)| ((SetId(19), format!("sip:a:{port}")), *state))
            .collect();
        save(&path, &states).expect("saved");
        assert_eq!(read(&path), Ok(Some(states)));
        for (text, words) in [("{\"format\":1}", "not one of ours"), ("{\"format\":2}", "its format is 2")] {
            std::fs::write(&path, text).expect("written");
            let told = read(&path).expect_err("nonsense");
            assert!(told.contains("states.json") && told.contains(words), "{told}");
            assert_eq!(folder.files(), ["states.json.ignored"], "what another version knew stays");
        }
    }
}
