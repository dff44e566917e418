//! What this binary was built from, as build.rs found it.

/// The version, by semver.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit; `debug` in a debug build, and `unknown` where nobody could tell.
pub const COMMIT: &str = env!("TANDEM_BUILD_COMMIT");
/// Commit, profile, target and compiler.
pub const BUILD: &str = env!("TANDEM_BUILD_LINE");
/// The version, and those behind it.
pub const LINE: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("TANDEM_BUILD_LINE"), ")");
/// The version and all that is known, a line each.
pub const LINES: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit:  ",
    env!("TANDEM_BUILD_COMMIT"),
    "\ndate:    ",
    env!("TANDEM_BUILD_DATE"),
    "\nprofile: ",
    env!("TANDEM_BUILD_PROFILE"),
    "\ntarget:  ",
    env!("TANDEM_BUILD_TARGET"),
    ", ",
    env!("TANDEM_BUILD_LINKED"),
    "\nrustc:   ",
    env!("TANDEM_BUILD_RUSTC")
);
