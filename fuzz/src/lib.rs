//! What the fuzz targets check: the very functions that the seeded tests of the main crate use (tests/preserve.rs).

// The tests name the engine by the main crate's name.
extern crate self as tandem;

// Inside a module that names their folder, files find their own folders as they do at home.
#[path = "../../src"]
mod sources {
    pub mod engine;
}
pub use sources::engine;

#[allow(dead_code)]
#[path = "../../tests/checks.rs"]
mod checks;
#[allow(dead_code)]
#[path = "../../tests/harness.rs"]
mod harness;

/// No bytes make the parsers or the engine panic, and all that the engine sends on can be read.
pub fn parse(bytes: &[u8]) {
    checks::parse(bytes);
}

/// Any cut of a stream gives the same messages.
pub fn stream(bytes: &[u8]) {
    checks::stream(bytes);
}

/// What the engine forwards of the bytes leaves as it came, but for what a proxy has to change.
pub fn preserve(bytes: &[u8]) {
    checks::preserve(bytes);
}
