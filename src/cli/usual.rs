//! Where the configuration is that no command line names.

use std::path::{Path, PathBuf};

use super::Failure;

/// In a checkout, then in an installed system.
pub(super) const FILES: [&str; 2] = ["config/tandem.toml", "/etc/tandem/tandem.toml"];

/// The first of them that is there.
pub(super) fn file() -> Option<&'static Path> {
    FILES.iter().map(Path::new).find(|file| file.exists())
}

/// What was given, or the first of them.
pub(super) fn file_or(given: &Option<PathBuf>) -> Result<PathBuf, Failure> {
    let [here, installed] = FILES;
    let none = || {
        Failure::configuration(format!(
            "no configuration: there is no {here} here and no {installed}: give one with --config FILE"
        ))
    };
    given.clone().or_else(|| file().map(Path::to_owned)).ok_or_else(none)
}
