//! What `tandem --version` tells of the build: facts of its source and its compiler, and nothing of when or where it was built.

use std::env;
use std::fs;
use std::process::Command;

#[path = "src/edge/moment/calendar.rs"]
mod calendar;

/// What goes into the binary: a change elsewhere makes it no other one.
const SOURCES: [&str; 9] = [
    "src",
    "config/tandem-a.toml",
    "config/tandem-b.toml",
    "config/keepalived",
    "config/nftables",
    "docs/openapi.json",
    "Cargo.toml",
    "Cargo.lock",
    "build.rs",
];
/// cargo's word for what a packaged crate was made from.
const PACKAGED: &str = ".cargo_vcs_info.json";

fn main() {
    for variable in ["TANDEM_COMMIT", "SOURCE_DATE_EPOCH"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/edge/moment/calendar.rs");
    let profile = variable("PROFILE").expect("cargo tells it");
    let target = variable("TARGET").expect("cargo tells it");
    let features = variable("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    let (commit, date) = source(profile == "debug");
    let date = variable("SOURCE_DATE_EPOCH").and_then(|seconds| seconds.parse().ok()).or(date).map(day);
    let rustc = rustc();
    let line = if commit == profile { commit.clone() } else { format!("{commit}, {profile}") };
    let linked = if features.split(',').any(|one| one == "crt-static") { "static" } else { "dynamic" };
    for (name, fact) in [
        ("LINE", format!("{line}, {target}, rustc {rustc}")),
        ("COMMIT", commit),
        ("DATE", date.unwrap_or_else(|| "unknown".to_owned())),
        ("PROFILE", profile),
        ("TARGET", target),
        ("LINKED", linked.to_owned()),
        ("RUSTC", rustc),
    ] {
        println!("cargo::rustc-env=TANDEM_BUILD_{name}={fact}");
    }
}

/// The commit and its time, from who packages, from cargo's package, or from git.
fn source(is_debug: bool) -> (String, Option<u64>) {
    if let Some(given) = variable("TANDEM_COMMIT") {
        return (given, None);
    }
    // Else each commit would build all anew, for nobody.
    if is_debug {
        return ("debug".to_owned(), None);
    }
    let packaged = fs::read_to_string(PACKAGED).ok().and_then(|text| packaged(&text));
    packaged.map(|commit| (commit, None)).or_else(checked_out).unwrap_or_else(|| ("unknown".to_owned(), None))
}

/// Its commit, if nothing was changed after it.
fn packaged(text: &str) -> Option<String> {
    let rest = text.split_once("\"sha1\"")?.1.split_once('"')?.1;
    let commit = rest.get(..12)?;
    Some(with_changes(commit, text.contains("\"dirty\": true")))
}

fn checked_out() -> Option<(String, Option<u64>)> {
    // A crate that lies in a checkout of something else has no commit there.
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    for file in std::iter::once("HEAD".to_owned()).chain(git(&["symbolic-ref", "-q", "HEAD"])) {
        // A branch's file may be packed away; then HEAD's log still changes with each commit.
        for name in [file.clone(), format!("logs/{file}")] {
            let path = git(&["rev-parse", "--git-path", &name]).filter(|path| fs::exists(path).unwrap_or(false));
            path.iter().for_each(|path| println!("cargo::rerun-if-changed={path}"));
        }
    }
    SOURCES.iter().for_each(|source| println!("cargo::rerun-if-changed={source}"));
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    // Without the lock that refreshes the index: who builds changes nothing there.
    let status = git(&[&["--no-optional-locks", "status", "--porcelain", "--"][..], &SOURCES].concat())?;
    let seconds = git(&["show", "-s", "--format=%ct", "HEAD"])?.parse().ok();
    Some((with_changes(&commit, !status.is_empty()), seconds))
}

fn with_changes(commit: &str, is_changed: bool) -> String {
    format!("{commit}{}", if is_changed { "+changed" } else { "" })
}

fn git(args: &[&str]) -> Option<String> {
    told(Command::new("git").args(args))
}

/// `rustc 1.95.0 (59807616e 2026-04-14)`: without what follows the number.
fn rustc() -> String {
    let told = variable("RUSTC").and_then(|rustc| told(Command::new(rustc).arg("--version")));
    told.as_deref().and_then(|told| told.split(' ').nth(1)).unwrap_or("unknown").to_owned()
}

fn told(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// `2026-11-26`, of seconds since 1970 in UTC.
fn day(seconds: u64) -> String {
    let (year, month, day) = calendar::date(seconds / 86_400);
    format!("{year:04}-{month:02}-{day:02}")
}
