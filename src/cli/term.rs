//! Standard output. A reader who has gone (`tandem demo | head`) ends the command quietly.

use std::io::{ErrorKind, Write};
use std::process;

/// Writes one line.
pub(super) fn line(text: &str) {
    write(&format!("{text}\n"));
}

/// Writes one line for whoever still reads: what runs has to come to its end without readers too.
pub(super) fn aside(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Writes text as it is, at once.
pub(super) fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => process::exit(0),
        Err(error) => {
            // Nothing can be done if even this can't be written.
            let _ = writeln!(std::io::stderr(), "can't write to standard output: {error}: give it a place with room");
            process::exit(1);
        }
    }
}
