//! The import rule (ARCHITECTURE.md): who may name whom, one door for each outside crate, the words that never enter the
//! engine, and the length of files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms from the ground floor up. A room may name rooms of floors below its own; rooms of one floor are strangers.
const FLOORS: &[&[&str]] = &[
    &["engine::clock", "engine::flow"],
    &["engine::sip", "engine::wheel"],
    &["engine::transaction", "engine::dispatch", "engine::route"],
    &["engine::dialog"],
    &["engine::explain"],
    &["engine::trace"],
    &["engine::event", "engine::snapshot"],
    &["engine::proxy", "engine::probe", "engine::keeper"],
    &["engine"],
    &["edge", "lab"],
    &["config"],
    &["server", "drill", "import"],
    &["cli"],
    &["main"],
];

/// Exceptions to strangers on one floor or to the order, each with its reason.
const MAY_ALSO: &[(&str, &str)] = &[
    // A rule names the set that it sends to.
    ("engine::route", "engine::dispatch"),
    // Both are plain values: what goes in and comes out is told in the words of all rooms below.
    ("engine::transaction", "engine::event"),
    ("engine::dispatch", "engine::event"),
    ("engine::dispatch", "engine::snapshot"),
    ("engine::snapshot", "engine::event"),
    // The rules' and sets' configuration is part of the engine's.
    ("engine::proxy", "engine"),
];

/// Outside crates and the only files that may name them; a crate that is not listed may be named anywhere.
const DOORS: &[(&str, &[&str])] = &[
    ("rsip", &["src/engine/sip/compose.rs"]),
    ("blake3", &["src/engine/sip/token.rs", "src/edge/store/digest.rs"]),
    ("base64", &["src/engine/sip/token.rs", "src/edge/key.rs", "src/edge/webhook/signature.rs"]),
    ("hmac", &["src/edge/webhook/signature.rs"]),
    ("httpdate", &["src/edge/webhook.rs"]),
    ("sha2", &["src/edge/http/access.rs", "src/edge/webhook/signature.rs"]),
    ("tokio_rustls", &["src/edge/tls.rs"]),
    ("rustls_native_certs", &["src/edge/tls.rs"]),
    ("siphasher", &["src/engine/sip/token.rs"]),
    (
        "nix",
        &[
            "src/edge/udp.rs",
            "src/edge/udp/",
            "src/edge/interfaces.rs",
            "src/edge/descriptors.rs",
            "src/edge/notify.rs",
            "src/edge/process.rs",
            "src/drill/command.rs",
        ],
    ),
    ("socket2", &["src/edge/udp.rs", "src/edge/udp/", "src/edge/tcp/", "src/lab/wire.rs"]),
    ("sqlx", &["src/edge/store.rs", "src/edge/store/"]),
    ("axum", &["src/edge/http.rs", "src/edge/http/"]),
    ("futures_util", &["src/edge/http/stream.rs"]),
    ("hyper", &["src/edge/check.rs", "src/edge/client.rs", "src/edge/client/"]),
    ("hyper_util", &["src/edge/check.rs", "src/edge/client.rs", "src/edge/client/"]),
    ("http_body_util", &["src/edge/check.rs", "src/edge/client.rs", "src/edge/client/"]),
    ("prometheus", &["src/edge/metrics.rs", "src/edge/metrics/"]),
    ("backoff", &["src/edge/retry.rs"]),
    ("hickory_resolver", &["src/edge/resolve.rs"]),
    ("tracing_subscriber", &["src/edge/log.rs"]),
    ("tracing_appender", &["src/edge/log.rs"]),
    // The configuration, and sets that stand in a file: what tells their lines is in the crate itself.
    ("toml_edit", &["src/config.rs", "src/config/", "src/edge/store/toml.rs"]),
    ("clap", &["src/cli.rs", "src/cli/"]),
    ("clap_complete", &["src/cli/completions.rs"]),
    ("clap_mangen", &["src/cli/man.rs"]),
    ("crossterm", &["src/cli/top/screen.rs"]),
    ("chitchat", &["src/edge/cluster.rs", "src/edge/cluster/"]),
    ("chacha20poly1305", &["src/edge/seal.rs"]),
    ("opentelemetry", &["src/edge/otlp.rs", "src/edge/otlp/"]),
    ("opentelemetry_http", &["src/edge/otlp.rs"]),
    ("opentelemetry_otlp", &["src/edge/otlp.rs"]),
    ("opentelemetry_sdk", &["src/edge/otlp.rs", "src/edge/otlp/"]),
    // chitchat's and opentelemetry's traits are written in their words.
    ("async_trait", &["src/edge/cluster/transport.rs", "src/edge/otlp.rs"]),
    ("anyhow", &["src/main.rs", "src/edge/cluster/transport.rs"]),
];

/// Words that would let the outside into the engine.
const NEVER_IN_ENGINE: &[&str] = &[
    "::now()",
    "UdpSocket",
    "TcpStream",
    "TcpListener",
    "Mutex",
    "RwLock",
    "async ",
    ".await",
    "std::thread",
    "tokio",
    "println!",
    "std::fs",
    "std::env",
    "thread_rng",
    "RandomState::new",
    "tracing::",
];

/// Files that are tests as a whole: they may print and read the environment.
const TESTS: &[&str] = &["src/engine/dispatch/reference.rs", "src/engine/dispatch/reference/"];

/// Lines of a file before its tests.
const MOST_LINES: usize = 500;

struct File {
    path: String,
    room: String,
    /// The code before the tests, comments taken out.
    code: String,
    lines: usize,
}

fn files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    collect(&root.join("src"), &mut paths);
    assert!(paths.len() > 20, "the sources are where this test looks");
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a source file");
            let code: Vec<_> =
                before_tests(&text).iter().map(|line| line.split("//").next().unwrap_or_default()).collect();
            let path = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
            File { room: room_of(&path), lines: code.len(), code: code.join("\n"), path }
        })
        .collect()
}

/// The lines above `mod tests`; other things that only tests see may stand among the code.
fn before_tests(text: &str) -> Vec<&str> {
    let lines: Vec<_> = text.lines().collect();
    let tests = lines.windows(2).position(|two| two[0] == "#[cfg(test)]" && two[1].ends_with("mod tests {"));
    lines[..tests.unwrap_or(lines.len())].to_vec()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

fn is_test(path: &str) -> bool {
    TESTS.iter().any(|test| path.starts_with(test))
}

/// `src/engine/sip/uri.rs` stands in `engine::sip`, `src/edge/udp.rs` in `edge`.
fn room_of(path: &str) -> String {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
    let parts: Vec<_> = inner.split('/').collect();
    match parts.as_slice() {
        ["engine", room, ..] => format!("engine::{room}"),
        [room, ..] => (*room).to_owned(),
        [] => String::new(),
    }
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// The rooms that `crate::...` paths of a file name.
fn named_rooms(code: &str) -> Vec<String> {
    let roots = ["crate::", "tandem::"];
    let mut rooms = Vec::new();
    for root in roots {
        for (at, _) in code.match_indices(root) {
            let path: String =
                code[at + root.len()..].chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect();
            let parts: Vec<_> = path.split("::").collect();
            match parts.as_slice() {
                ["engine", room, ..] if floor(&format!("engine::{room}")).is_some() => {
                    rooms.push(format!("engine::{room}"))
                }
                [room, ..] if floor(room).is_some() => rooms.push((*room).to_owned()),
                _ => {}
            }
        }
    }
    rooms
}

#[test]
fn rooms_name_only_rooms_below_them() {
    let mut faults = Vec::new();
    for file in files().iter().filter(|file| file.room != "lib") {
        let Some(own) = floor(&file.room) else {
            faults.push(format!("{}: room {} stands on no floor", file.path, file.room));
            continue;
        };
        for named in named_rooms(&file.code) {
            let allowed = named == file.room
                || floor(&named).is_some_and(|theirs| theirs < own)
                || MAY_ALSO.contains(&(file.room.as_str(), named.as_str()));
            if !allowed {
                faults.push(format!("{}: {} may not name {named}", file.path, file.room));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn each_outside_crate_has_one_door() {
    let mut faults = Vec::new();
    for file in files() {
        for (outside, doors) in DOORS {
            let named = [format!("{outside}::"), format!("use {outside};")].iter().any(|word| {
                file.code.match_indices(word.as_str()).any(|(at, _)| {
                    !file.code[..at].ends_with(|before: char| before.is_alphanumeric() || matches!(before, '_' | ':'))
                })
            });
            let own_tests = file.path.starts_with("src/bin");
            if named && !own_tests && !doors.iter().any(|door| file.path.starts_with(door)) {
                faults.push(format!("{}: {outside} is named only in {doors:?}", file.path));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_outside_never_enters_the_engine() {
    let mut faults = Vec::new();
    for file in files().iter().filter(|file| file.path.starts_with("src/engine") && !is_test(&file.path)) {
        for word in NEVER_IN_ENGINE.iter().filter(|word| file.code.contains(**word)) {
            faults.push(format!("{}: {word}", file.path));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn files_are_short_enough_to_read() {
    let long: BTreeMap<_, _> =
        files().into_iter().filter(|file| file.lines > MOST_LINES).map(|file| (file.path, file.lines)).collect();
    assert!(long.is_empty(), "split these at a noun: {long:?}");
}
