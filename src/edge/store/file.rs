//! Files of JSON that a node keeps for its next start: written whole or not at all, with their format's number in them.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Why a file can't be used.
#[derive(Debug)]
pub(super) enum ReadFault {
    /// It can't be read.
    Read(io::Error),
    /// It is cut or something else.
    Content(serde_json::Error),
    /// Another version wrote it, in the format of this number.
    Format(u32),
}

impl fmt::Display for ReadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadFault::Read(fault) => fault.fmt(f),
            ReadFault::Content(fault) => write!(f, "not one of ours: {fault}"),
            ReadFault::Format(found) => write!(f, "its format is {found}, which this version does not read"),
        }
    }
}

/// Writes `content` to `path`, whatever happens meanwhile: a former file is whole until the new one is.
pub(super) fn save(path: &Path, content: &impl Serialize) -> io::Result<()> {
    serde_json::to_vec_pretty(content).map_err(io::Error::other).and_then(|text| replace(path, &text))
}

/// Reads what [`save`] wrote, if its `format` is that.
pub(super) fn read<T: DeserializeOwned>(path: &Path, expected: u32) -> Result<T, ReadFault> {
    let text = fs::read(path).map_err(ReadFault::Read)?;
    // The format first: what follows may look otherwise in another one.
    let StoredFormat { format } = serde_json::from_slice(&text).map_err(ReadFault::Content)?;
    if format != expected {
        return Err(ReadFault::Format(format));
    }
    serde_json::from_slice(&text).map_err(ReadFault::Content)
}

/// The same of a file that may not be there. One that can't be used is put out of the way of the next [`save`], which would take
/// with it what another version knew: its name gets `.ignored` behind it.
pub(super) fn read_kept<T: DeserializeOwned>(path: &Path, expected: u32) -> Result<Option<T>, ReadFault> {
    match read(path, expected) {
        Ok(content) => Ok(Some(content)),
        Err(ReadFault::Read(fault)) if fault.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(fault @ ReadFault::Read(_)) => Err(fault),
        Err(fault @ (ReadFault::Content(_) | ReadFault::Format(_))) => {
            let mut kept = path.as_os_str().to_owned();
            kept.push(".ignored");
            // A disk that does not let us will not let us write over it either.
            let _ = fs::rename(path, kept);
            Err(fault)
        }
    }
}

impl ReadFault {
    /// What a person is told of a file that [`read_kept`] could not use, and of `lost`, which it held.
    pub(super) fn told(&self, path: &Path, lost: &str) -> String {
        let kept = match self {
            ReadFault::Read(_) => "",
            ReadFault::Content(_) | ReadFault::Format(_) => "; the file is kept with .ignored behind its name",
        };
        format!("{}: {self}: {lost}{kept}", path.display())
    }
}

#[derive(Deserialize)]
struct StoredFormat {
    format: u32,
}

/// Writes beside the file and renames, so that a reader sees the old text or the new one, after a power cut too.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let mut file = File::create(&draft)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
