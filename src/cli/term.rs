//! Standard output. A reader who has gone (`tandem demo | head`) ends the command quietly.

use std::io::Write;
use std::process;

/// Writes one line.
pub(super) fn line(text: &str) {
    write(&format!("{text}\n"));
}

/// Writes text as it is, at once.
pub(super) fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        process::exit(0);
    }
}
