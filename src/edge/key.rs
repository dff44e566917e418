//! Keys on disk, and this start's seed. What is made here comes from the kernel's random source.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

/// Where the kernel gives randomness fit for keys.
const RANDOM: &str = "/dev/urandom";
/// Hex digits of a key.
const DIGITS: usize = 64;
/// Characters of a key in base64.
const BASE64: usize = 44;
/// What nobody but the owner may do: read, write or run.
const OTHERS: u32 = 0o077;

/// Why there is no key.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The file is there and can't be read.
    #[error("key file {}: can't read it: {source}: give it to the user that runs this", path.display())]
    Read {
        /// The key file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file does not exist and can't be made.
    #[error("key file {}: can't make it: {source}: give a folder that exists and can be written", path.display())]
    Make {
        /// The key file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than the owner may read or change the file.
    #[error("key file {}: mode is {mode:04o}, so others may read what it keeps secret: chmod 600 it", path.display())]
    Mode {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds something else. What it holds is not shown: it may be a secret.
    #[error(
        "key file {}: {problem}, not {DIGITS} hex digits or {BASE64} of base64: copy the other node's file, or make a \
         new one",
        path.display()
    )]
    Content {
        /// The key file.
        path: PathBuf,
        /// What was found.
        problem: String,
    },
}

/// Reads a key as [`load`] does; without a file makes one and keeps it there with mode 0600. Two starts at once end with
/// one key.
///
/// # Errors
/// [`KeyError`] if the file can't be read or made, others may read it, or it holds no key.
pub fn load_or_make(path: &Path) -> Result<[u8; 32], KeyError> {
    if let Some(key) = find(path)? {
        return Ok(key);
    }
    make(path).map_err(|source| KeyError::Make { path: path.to_owned(), source })?;
    load(path)
}

/// The key, if it is there; none is made.
///
/// # Errors
/// [`KeyError`] if the file can't be read, others may read it, or it holds no key.
pub fn find(path: &Path) -> Result<Option<[u8; 32]>, KeyError> {
    match load(path) {
        Err(KeyError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// 32 random bytes for one start: they must never be used for another.
///
/// # Errors
/// What the system said if it gives no randomness.
pub fn seed() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    File::open(RANDOM)?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Reads the key of a file that nobody but its owner may read: 32 octets in hex or base64, white space around them.
///
/// # Errors
/// [`KeyError`] if the file can't be read, others may read it, or it holds no key.
pub fn load(path: &Path) -> Result<[u8; 32], KeyError> {
    parse(&read(path)?).map_err(|problem| KeyError::Content { path: path.to_owned(), problem })
}

/// What a file holds that nobody but its owner may read, without the white space around it; none if there is no such file.
///
/// # Errors
/// [`KeyError`] if the file can't be read, or others may read it.
pub fn secret(path: &Path) -> Result<Option<Vec<u8>>, KeyError> {
    match read(path) {
        Err(KeyError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// The same of a file that has to be there.
///
/// # Errors
/// [`KeyError`] if the file can't be read, or others may read it.
pub fn read(path: &Path) -> Result<Vec<u8>, KeyError> {
    let failed = |source| KeyError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(KeyError::Mode { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    file.take(4096).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes.trim_ascii().to_vec())
}

/// A key in hex or base64.
///
/// # Errors
/// What was found instead, without showing it.
pub fn parse(text: &[u8]) -> Result<[u8; 32], String> {
    let mut key = [0; 32];
    match text.len() {
        DIGITS => {
            for (byte, pair) in key.iter_mut().zip(text.chunks_exact(2)) {
                let digit = |b: u8| char::from(b).to_digit(16).and_then(|value| u8::try_from(value).ok());
                match (digit(pair[0]), digit(pair[1])) {
                    (Some(high), Some(low)) => *byte = high << 4 | low,
                    _ => return Err("it holds other characters".to_owned()),
                }
            }
            Ok(key)
        }
        BASE64 => match STANDARD.decode_slice(text, &mut key) {
            Ok(32) => Ok(key),
            Ok(_) | Err(_) => Err("it holds other characters".to_owned()),
        },
        length => Err(format!("it holds {length} characters")),
    }
}

/// Writes a new key beside `path` and links it there: nobody ever sees half a key, and who comes second finds the
/// first one's.
fn make(path: &Path) -> io::Result<()> {
    let mut text: String = seed()?.iter().map(|byte| format!("{byte:02x}")).collect();
    text.push('\n');
    let mut draft = path.as_os_str().to_owned();
    // A name that no other start uses.
    draft.push(format!(".{:016x}.new", u64::from_ne_bytes(*seed()?.first_chunk().expect("32 bytes hold 8"))));
    let draft = PathBuf::from(draft);
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    let linked = written.and_then(|()| match fs::hard_link(&draft, path) {
        Err(fault) if fault.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    });
    let _ = fs::remove_file(&draft);
    linked
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::edge::scratch::Folder;

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).expect("a file");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
    }

    #[test]
    fn a_new_key_is_kept_for_the_owner_alone() {
        let folder = Folder::new();
        let path = folder.path().join("key");
        let key = load_or_make(&path).expect("a key");
        assert_ne!(key, [0; 32]);
        assert_eq!(load_or_make(&path).expect("the same key"), key);
        assert_eq!(fs::metadata(&path).expect("a file").mode() & 0o777, 0o600);
        assert_eq!(folder.files(), ["key"]);
    }

    #[test]
    fn a_key_by_hand_is_read() {
        let folder = Folder::new();
        let path = folder.path().join("key");
        write(&path, &format!("  {}fF\n", "00".repeat(31)), 0o400);
        let key = load_or_make(&path).expect("a key");
        assert_eq!((key[0], key[31]), (0, 0xff));
    }

    #[test]
    fn a_key_in_base64_is_the_same_key() {
        let hex = parse("fb".repeat(32).as_bytes()).expect("a key");
        assert_eq!(parse(format!("{}+/s=", "+/v7".repeat(10)).as_bytes()).expect("a key"), hex);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let folder = Folder::new();
        let path = folder.path().join("key");
        write(&path, &"ab".repeat(32), 0o640);
        let fault = load_or_make(&path).expect_err("too open").to_string();
        assert!(fault.contains("0640") && fault.contains("chmod 600"), "{fault}");
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_shown() {
        let folder = Folder::new();
        let path = folder.path().join("key");
        for text in ["", "abcd", &"xy".repeat(32), &"ab".repeat(33), &"é".repeat(32), &"?".repeat(44)] {
            write(&path, text, 0o600);
            let fault = load_or_make(&path).expect_err("no key").to_string();
            assert!(fault.contains("64 hex digits"), "{fault}");
            assert!(text.is_empty() || !fault.contains(text), "{fault}");
        }
    }

    #[test]
    fn without_a_folder_the_fault_names_the_file() {
        let folder = Folder::new();
        let fault = load_or_make(&folder.path().join("none/key")).expect_err("no folder").to_string();
        assert!(fault.contains("none/key") && fault.contains("can't make it"), "{fault}");
    }

    #[test]
    fn many_starts_at_once_end_with_one_key() {
        let folder = Folder::new();
        let path = folder.path().join("key");
        let keys: std::collections::HashSet<_> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| load_or_make(&path).expect("a key"))).collect();
            starts.into_iter().map(|start| start.join().expect("no panic")).collect()
        });
        assert_eq!(keys.len(), 1);
        assert_eq!(folder.files(), ["key"]);
    }

    #[test]
    fn seeds_differ() {
        assert_ne!(seed().expect("a seed"), seed().expect("a seed"));
    }
}
