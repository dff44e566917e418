//! The configuration: one TOML file, gathered into each room's own part. All faults are told at once, with file, line,
//! value and remedy.

mod listeners;
mod reader;
mod rules;
mod values;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use self::reader::{Section, Source};
use self::values::duration_from;
use crate::edge::log::{LogConfig, LogFormat};
use crate::edge::store::{Strictness, TableOptions};
use crate::engine::dispatch::Policy;
use crate::engine::flow::Listener;
use crate::engine::transaction::timing::Timing;
use crate::engine::{self, Limits, route};

pub use self::reader::Fault;
pub use self::values::duration;

/// Everything that a node is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The folder that relative paths start from: the file's own.
    pub base: PathBuf,
    /// This node's name, unique in the cluster.
    pub node_id: String,
    /// Where the node keeps its key and its last good sets.
    pub state_dir: PathBuf,
    /// Our listeners; each one's id is its index.
    pub listeners: Vec<Listener>,
    /// Where the sets are.
    pub database: Database,
    /// The sets' policies.
    pub sets: Vec<Policy>,
    /// The rules.
    pub route: route::Config,
    /// What bounds memory.
    pub limits: Limits,
    /// Timer lengths.
    pub timing: Timing,
    /// Where the HTTP surface listens; none: it is off.
    pub http: Option<SocketAddr>,
    /// How to log.
    pub log: LogConfig,
}

/// Where the sets are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// `sqlite:path`.
    pub url: String,
    /// Which table.
    pub table: TableOptions,
    /// What bad rows do to a load.
    pub strictness: Strictness,
}

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{path}: can't read it: {source}: give a file with --config", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file has faults.
    #[error("{}", lines(.0))]
    Faults(Vec<Fault>),
}

fn lines(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError`] with every fault of the file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let base = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self::parse(&path.display().to_string(), &text, base)
    }

    /// Reads the text of a file; `file` is its name in faults, `base` where its relative paths start.
    ///
    /// # Errors
    /// [`ConfigError::Faults`] with every fault.
    pub fn parse(file: &str, text: &str, base: &Path) -> Result<Self, ConfigError> {
        let source = Source::new(file, text);
        let config = source.parse().map(|document| read(&Section::root(&source, &document), base));
        let faults = source.into_faults();
        match config {
            Some(config) if faults.is_empty() => Ok(config),
            Some(_) | None => Err(ConfigError::Faults(faults)),
        }
    }

    /// The engine's part. `key` is the cluster's.
    pub fn engine(&self, key: [u8; 32]) -> engine::Config {
        engine::Config {
            node: self.node_id.clone(),
            key,
            listeners: self.listeners.clone(),
            timing: self.timing,
            route: self.route.clone(),
            sets: self.sets.clone(),
            limits: self.limits,
            call_events: true,
        }
    }
}

fn read(root: &Section<'_>, base: &Path) -> Config {
    let bound = listeners::read(root);
    let sets = rules::read_sets(root);
    let route = rules::read(root, &bound);
    let config = Config {
        base: base.to_owned(),
        node_id: root.text("node_id", values::token).unwrap_or_else(host_name),
        state_dir: base.join(root.text("state_dir", |text| Ok(text.to_owned())).unwrap_or_else(|| ".".into())),
        listeners: bound.listeners,
        database: read_database(&root.section("database")),
        sets,
        route,
        limits: read_limits(&root.section("limits")),
        timing: read_timing(&root.section("timing")),
        http: read_http(&root.section("http")),
        log: read_log(&root.section("log")),
    };
    root.finish();
    config
}

fn read_database(section: &Section<'_>) -> Database {
    let url = section.text("url", |text| Ok(text.to_owned())).unwrap_or_else(|| "sqlite:tandem.db".into());
    if !url.strip_prefix("sqlite:").is_some_and(|path| !path.trim_start_matches('/').is_empty()) {
        // The URL of another kind of database may hold a password: it is not shown.
        section.fault_at("url", "it names no SQLite file: give sqlite: and a file's path, as sqlite:tandem.db");
    }
    let table = |text: &str| match text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !text.is_empty() {
        true => Ok(text.to_owned()),
        false => Err("give a name of letters, digits and _, as dispatcher".to_owned()),
    };
    let database = Database {
        url,
        table: section.text("table", table).map_or_else(TableOptions::default, |table| TableOptions { table }),
        strictness: match section.flag("lenient") {
            Some(true) => Strictness::Lenient,
            Some(false) | None => Strictness::Strict,
        },
    };
    section.finish();
    database
}

fn read_limits(section: &Section<'_>) -> Limits {
    let default = Limits::default();
    let count = |key, least, most, otherwise: usize| {
        section.number(key, least..=most).and_then(|number| usize::try_from(number).ok()).unwrap_or(otherwise)
    };
    let limits = Limits {
        transactions: count("transactions", 100, 100_000_000, default.transactions),
        sessions: count("sessions", 1, 100_000_000, default.sessions),
        message: count("message_bytes", 1500, 65_535, default.message),
        session_lifetime: section
            .text("session_lifetime", duration_from(Duration::from_secs(60)))
            .unwrap_or(default.session_lifetime),
    };
    section.finish();
    limits
}

fn read_timing(section: &Section<'_>) -> Timing {
    let default = Timing::RFC_3261;
    let at_least = |key, least, otherwise| section.text(key, duration_from(least)).unwrap_or(otherwise);
    let timing = Timing {
        t1: at_least("t1", Duration::from_millis(10), default.t1),
        t2: at_least("t2", Duration::from_millis(10), default.t2),
        t4: at_least("t4", Duration::from_millis(10), default.t4),
        // RFC 3261 section 16.6 item 11: timer C is longer than three minutes.
        timer_c: at_least("timer_c", Duration::from_secs(181), default.timer_c),
    };
    if timing.t2 < timing.t1 {
        section.fault("t2 is shorter than t1: give at least as much");
    }
    section.finish();
    timing
}

fn read_http(section: &Section<'_>) -> Option<SocketAddr> {
    let address = |text: &str| match text {
        "off" => Ok(None),
        _ => text.parse().map(Some).map_err(|_| "give address:port, as 127.0.0.1:9060, or off".to_owned()),
    };
    let listen = section.text("listen", address).unwrap_or(Some(SocketAddr::from(([127, 0, 0, 1], 9060))));
    section.finish();
    listen
}

fn read_log(section: &Section<'_>) -> LogConfig {
    let format = |text: &str| match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("give text or json".to_owned()),
    };
    let filter = |text: &str| {
        let log = LogConfig { filter: text.to_owned(), ..LogConfig::default() };
        let remedy = "give error, warn, info, debug, trace or off, or module=level with commas";
        log.check().map(|()| log.filter).map_err(|_| remedy.to_owned())
    };
    let default = LogConfig::default();
    let log = LogConfig {
        format: section.text("format", format).unwrap_or(default.format),
        filter: section.text("filter", filter).unwrap_or(default.filter),
    };
    section.finish();
    log
}

/// This machine's name.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    values::token(name).unwrap_or_else(|_| "tandem".into())
}
