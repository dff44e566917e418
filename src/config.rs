//! The configuration: one TOML file, gathered into each room's own part. All faults are told at once, with file, line,
//! value and remedy.

mod agent;
mod capacity;
mod cluster;
mod database;
mod events;
mod health;
mod http;
mod keys;
mod lines;
mod listeners;
mod probe;
pub(crate) mod reader;
mod rules;
mod session;
mod trace;
mod values;

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use self::reader::{Section, Source};
use crate::edge::cluster::ClusterConfig;
use crate::edge::lines::LinesConfig;
use crate::edge::log::{self, LogConfig, LogFormat};
use crate::edge::resolve::DnsConfig;
use crate::edge::store::AskedProbe;
use crate::edge::tcp::StreamLimits;
use crate::engine::dispatch::{Policy, Sets};
use crate::engine::flow::Listener;
use crate::engine::sip::FrameLimits;
use crate::engine::transaction::timing::Timing;
use crate::engine::{self, Limits, route};

pub use self::database::{Database, Partition};
pub use self::events::EventsConfig;
pub use self::health::HealthConfig;
pub use self::http::{ClientFiles, HttpConfig};
pub use self::keys::{Key, Takes, keys};
pub use self::reader::Fault;
pub use self::trace::TraceConfig;
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
    /// Where more of them are.
    pub partitions: Vec<Partition>,
    /// The sets' policies.
    pub sets: Vec<Policy>,
    /// What holds for the health of all sets.
    pub health: HealthConfig,
    /// The rules.
    pub route: route::Config,
    /// What bounds memory.
    pub limits: Limits,
    /// How names are looked up.
    pub dns: DnsConfig,
    /// What bounds connections.
    pub streams: StreamLimits,
    /// Timer lengths.
    pub timing: Timing,
    /// The HTTP surface.
    pub http: HttpConfig,
    /// How a node leaves.
    pub drain: Drained,
    /// The gossip with other nodes; none: there are no others.
    pub cluster: Option<ClusterConfig>,
    /// How to log.
    pub log: LogConfig,
    /// Where records of sessions go; none: into the log alone.
    pub records: Option<LinesConfig>,
    /// Where events go, beside the HTTP surface.
    pub events: EventsConfig,
    /// Which calls are told of message by message.
    pub trace: TraceConfig,
    /// What the file holds that everybody may read and should not, for people; it is obeyed all the same.
    pub exposed: Vec<Fault>,
}

/// How a node leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// How long new calls are still served, at most: until the virtual addresses have moved.
    pub handover: Duration,
    /// How long it may take in all.
    pub limit: Duration,
}

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{path}: can't read it: {source}: {}", remedy(source), path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file has faults.
    #[error("{}", lines(.0))]
    Faults(Vec<Fault>),
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "let the user that runs this read it",
        io::ErrorKind::InvalidData => "save it as UTF-8",
        _ => "give a file with --config",
    }
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
        let is_exposed = path.metadata().is_ok_and(|file| file.mode() & 0o004 != 0);
        let mut config = Self::parse(&path.display().to_string(), &text, base)?;
        config.exposed.retain(|_| is_exposed);
        Ok(config)
    }

    /// Reads the text of a file that everybody may read; `file` is its name in faults, `base` where its relative paths start.
    ///
    /// # Errors
    /// [`ConfigError::Faults`] with every fault.
    pub fn parse(file: &str, text: &str, base: &Path) -> Result<Self, ConfigError> {
        let source = Source::new(file, text);
        let config = source.parse().map(|document| read(&Section::root(&source, &document), base));
        let exposed = source.secrets();
        let faults = source.into_faults();
        match config {
            Some(config) if faults.is_empty() => Ok(Config { exposed, ..config }),
            Some(_) | None => Err(ConfigError::Faults(faults)),
        }
    }

    /// What these sets and the configuration say of probes that does not go together, for people; calls are served all the
    /// same.
    pub fn strays(&self, sets: &Sets) -> Vec<String> {
        probe::strays(&self.sets, &self.listeners, sets)
    }

    /// Where rows ask for other probes than the configuration's, for people; they get the configuration's.
    pub fn unlike_probes(&self, probes: &[AskedProbe]) -> Vec<String> {
        probe::unlike(&self.sets, probes)
    }

    /// The engine's part. `key` is the cluster's.
    pub fn engine(&self, key: [u8; 32]) -> engine::Config {
        let stories = self.trace.stories.calls > 0 || self.trace.engine.sample.0 > 0;
        engine::Config {
            node: self.node_id.clone(),
            key,
            listeners: self.listeners.clone(),
            timing: self.timing,
            route: self.route.clone(),
            sets: self.sets.clone(),
            limits: self.limits,
            call_events: log::tells_calls() || stories,
            records: log::tells_calls() || self.records.is_some() || stories,
            trace: self.trace.engine,
        }
    }
}

fn read(root: &Section<'_>, base: &Path) -> Config {
    let bound = listeners::read(root);
    let sets = rules::read_sets(root, &bound);
    let route = rules::read(root, &bound);
    let (limits, streams) = read_limits(&root.section("limits"));
    for set in sets.iter().filter(|set| set.session.max_duration.is_some_and(|most| most > limits.session_lifetime)) {
        root.fault(&format!(
            "max_duration of set {} is more than limits.session_lifetime ({:?}), which ends a session that says nothing, and \
             without BYE: give less, or a longer session_lifetime",
            set.set.0, limits.session_lifetime
        ));
    }
    let name = root.text("node_id", "a name", node_id).unwrap_or_else(host_name);
    let config = Config {
        base: base.to_owned(),
        cluster: cluster::read(&root.section("cluster"), &name, base, &sets),
        node_id: name,
        state_dir: base
            .join(root.text("state_dir", "a folder's path", |text| Ok(text.to_owned())).unwrap_or_else(|| ".".into())),
        listeners: bound.listeners,
        database: database::read(&root.section("database"), base),
        partitions: database::read_partitions(root, base),
        sets,
        health: health::read(&root.section("health")),
        route,
        limits,
        streams,
        dns: read_dns(&root.section("dns")),
        timing: read_timing(&root.section("timing")),
        http: http::read(&root.section("http"), base),
        drain: read_drain(&root.section("drain")),
        log: read_log(&root.section("log")),
        records: lines::read_records(&root.section("records"), base),
        events: events::read(&root.section("events"), base),
        trace: trace::read(&root.section("trace"), base),
        exposed: Vec::new(),
    };
    root.finish();
    config
}

/// What bounds the engine, and what bounds connections.
fn read_limits(section: &Section<'_>) -> (Limits, StreamLimits) {
    let default = Limits::default();
    let count = |key, least, most, otherwise: usize| {
        section.number(key, least..=most).and_then(|number| usize::try_from(number).ok()).unwrap_or(otherwise)
    };
    let limits = Limits {
        transactions: count("transactions", 100, 100_000_000, default.transactions),
        sessions: count("sessions", 1, 100_000_000, default.sessions),
        message: count("message_bytes", 1500, 65_535, default.message),
        header_lines: count("header_lines", 16, 65_535, default.header_lines),
        session_lifetime: section
            .duration("session_lifetime", Duration::from_secs(60))
            .unwrap_or(default.session_lifetime),
    };
    let stream = StreamLimits::default();
    let length = |key, otherwise| section.duration(key, Duration::from_millis(100)).unwrap_or(otherwise);
    let streams = StreamLimits {
        connections: count("connections", 1, 10_000_000, stream.connections),
        connections_per_source: count("connections_per_source", 1, 10_000_000, stream.connections_per_source),
        connect_timeout: length("connect_timeout", stream.connect_timeout),
        message_timeout: length("message_timeout", stream.message_timeout),
        idle_timeout: length("idle_timeout", stream.idle_timeout),
        queued: stream.queued,
        frame: FrameLimits { message: limits.message, headers: limits.header_lines, ..stream.frame },
    };
    section.finish();
    (limits, streams)
}

fn read_dns(section: &Section<'_>) -> DnsConfig {
    let server = |text: &str| match text.parse::<SocketAddr>() {
        Ok(server) if server.port() != 0 && !server.ip().is_unspecified() => Ok(server),
        _ => Err("give address:port, as 10.0.0.53:53".to_owned()),
    };
    let default = DnsConfig::default();
    let dns = DnsConfig {
        servers: section.texts("servers", "address:port", server).unwrap_or(default.servers),
        timeout: section.duration("timeout", Duration::from_millis(100)).unwrap_or(default.timeout),
    };
    section.finish();
    dns
}

fn read_timing(section: &Section<'_>) -> Timing {
    let default = Timing::RFC_3261;
    let at_least = |key, least, otherwise| section.duration(key, least).unwrap_or(otherwise);
    let timing = Timing {
        t1: at_least("t1", Duration::from_millis(10), default.t1),
        t2: at_least("t2", Duration::from_millis(10), default.t2),
        t4: at_least("t4", Duration::from_millis(10), default.t4),
        // RFC 3261 section 16.6 item 11: timer C is longer than three minutes.
        timer_c: at_least("timer_c", Duration::from_secs(181), default.timer_c),
    };
    if timing.t2 < timing.t1 {
        section.fault(&format!("t2 is {:?}, shorter than t1 of {:?}: give as much or more", timing.t2, timing.t1));
    }
    section.finish();
    timing
}

fn read_drain(section: &Section<'_>) -> Drained {
    let time = |key, otherwise| section.duration(key, Duration::ZERO).unwrap_or(Duration::from_secs(otherwise));
    let drained = Drained { handover: time("handover", 10), limit: time("limit", 35) };
    let Drained { handover, limit } = drained;
    if handover > limit {
        section.fault(&format!("handover is {handover:?}, more than the limit of {limit:?} for all: give less"));
    }
    section.finish();
    drained
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
        format: section.text("format", r#""text" or "json""#, format).unwrap_or(default.format),
        filter: section.text("filter", "a level, or module=level with commas", filter).unwrap_or(default.filter),
    };
    section.finish();
    log
}

/// A node's name.
///
/// # Errors
/// What to write instead.
pub fn node_id(text: &str) -> Result<String, String> {
    values::token(text)
}

/// This machine's name.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    values::token(name).unwrap_or_else(|_| "tandem".into())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::edge::scratch::Folder;
    use crate::edge::store::Strictness;
    use crate::engine::dispatch::{Algorithm, PriorityOrder, SetId};
    use crate::engine::flow::Role;
    use crate::engine::route::{Action, Condition, Rewrite};

    const LISTENER: &str = "[[listener]]\nbind = \"udp:127.0.0.1:8060\"\n";

    pub(super) fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse("t.toml", text, Path::new("/base"))
    }

    /// The configuration of a text behind one good listener, in that folder.
    pub(super) fn in_folder(folder: &Folder, text: &str) -> Result<Config, ConfigError> {
        Config::parse("t.toml", &format!("{LISTENER}{text}"), folder.path())
    }

    /// Puts a file there.
    pub(super) fn put(folder: &Folder, name: &str, text: &str, mode: u32) {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
    }

    /// The policy of a text behind one good listener and the head of a set.
    pub(super) fn policy(text: &str) -> Policy {
        let mut config = parse(&format!("{LISTENER}[[set]]\nid = 19\n{text}")).expect("valid");
        config.sets.remove(0)
    }

    /// The faults of a text behind one good listener, whose lines are not counted.
    pub(super) fn faults(text: &str) -> Vec<String> {
        match parse(&format!("{LISTENER}{text}")) {
            Err(ConfigError::Faults(faults)) => {
                faults.iter().map(|fault| format!("{}: {}", fault.line - 2, fault.problem)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_password_is_told_of_where_everybody_may_read_it() {
        let folder = Folder::new();
        let text = "[database]\nurl = \"mysql://u:secret@h/db\"\n[[partition]]\nname = \"asr\"\nset_offset = 1000\n\
                    url = \"postgres://u:secret@h/db\"\n";
        let exposed = |text: &str, mode| {
            put(&folder, "t.toml", &format!("{LISTENER}{text}"), mode);
            let config = Config::load(&folder.path().join("t.toml")).expect("valid");
            config.exposed.iter().map(|told| (told.line - 2, told.problem.clone())).collect::<Vec<_>>()
        };
        let told = |path| {
            format!(
                "{path} holds a password, and everybody may read this file: give password_file, or chmod 640 with the group that \
                 runs this"
            )
        };
        assert_eq!(exposed(text, 0o644), [(2, told("database.url")), (6, told("partition \"asr\".url"))]);
        assert!(exposed(text, 0o640).is_empty());
        assert!(exposed("[database]\nurl = \"mysql://u@h/db\"\n", 0o644).is_empty());
    }

    #[test]
    fn one_listener_is_enough_and_the_rest_has_defaults() {
        let config = parse(LISTENER).expect("valid");
        assert_eq!(config.listeners.len(), 1);
        assert_eq!(
            (config.listeners[0].role, config.listeners[0].advertise.to_string()),
            (Role::Node, "127.0.0.1:8060".into())
        );
        assert_eq!((config.limits, config.timing), (Limits::default(), Timing::RFC_3261));
        assert_eq!(config.http.listen, Some(SocketAddr::from(([127, 0, 0, 1], 9060))));
        assert_eq!(config.route.unroutable.status, 404);
        assert_eq!((config.state_dir, config.database.url), ("/base/.".into(), "sqlite:tandem.db".into()));
    }

    #[test]
    fn every_key_is_read() {
        let config = parse(
            r#"
            node_id = "b"
            state_dir = "/var/lib/tandem"
            [[listener]]
            bind = "udp:127.0.0.1:8060"
            [[listener]]
            bind = "udp:[::1]:8060"
            advertise = "sip.example.com"
            role = "vip"
            allow = ["10.0.0.0/8", "::1"]
            deny = "10.9.0.0/16"
            [database]
            url = "sqlite:a.db"
            table = "dp"
            lenient = true
            [http]
            listen = "off"
            [[set]]
            id = 7
            name = "asr"
            algorithm = "8"
            priority_order = "low_first"
            empty_reply = { status = 503, reason = "None" }
            [health]
            state_ttl = "1m"
            [[rule]]
            name = "all"
            method = "INVITE"
            user_agent = "x*"
            source = ["10.0.0.0/8", "::1"]
            listener = "udp:[::1]:8060"
            request_uri = { user = "a", host = "h" }
            from = { user = "b" }
            to = { host = "c" }
            header = { Subject = "s*", X-Y = "z" }
            set = 7
            rewrite = "host"
            record_route_params = "nat=yes"
            [[rule]]
            name = "no"
            reply = { status = 403, reason = "No" }
            [unroutable]
            status = 606
            reason = "Nothing"
            [limits]
            transactions = 1000
            sessions = 10
            message_bytes = 4000
            header_lines = 64
            connections = 10
            connections_per_source = 5
            connect_timeout = "1s"
            message_timeout = "2s"
            idle_timeout = "1h"
            session_lifetime = "1h"
            [dns]
            servers = ["10.0.0.53:53", "[::1]:5353"]
            timeout = "3s"
            [timing]
            t1 = "100ms"
            t2 = "1s"
            t4 = "2s"
            timer_c = "200s"
            [log]
            format = "json"
            filter = "debug"
            [records]
            file = "log/calls.jsonl"
            max_bytes = 5000
            keep = 3
            "#,
        )
        .expect("valid");
        let policy = &config.sets[0];
        assert_eq!(
            (policy.set, policy.algorithm, policy.priority_order),
            (SetId(7), Algorithm::Priority, PriorityOrder::LowFirst)
        );
        assert_eq!((policy.empty_reply.status, policy.name.as_str()), (503, "asr"));
        assert_eq!(config.health.state_ttl, Duration::from_secs(60));
        let rule = &config.route.rules[0];
        assert_eq!(rule.when.len(), 10);
        assert!(matches!(&rule.when[3], Condition::Listener(ids) if ids.len() == 1 && ids[0].0 == 1));
        let Action::Set(target) = &rule.action else { panic!("{rule:?}") };
        assert_eq!((target.rewrite, target.record_route_params.as_str()), (Rewrite::Host, "nat=yes"));
        assert_eq!((config.http.listen, config.log.format), (None, LogFormat::Json));
        assert_eq!(config.listeners[1].advertise.to_string(), "sip.example.com:8060");
        let file = PathBuf::from("/base/log/calls.jsonl");
        assert_eq!(config.records, Some(LinesConfig { file, max_bytes: Some(5000), keep: 3 }));
        let sources = &config.listeners[1].sources;
        assert_eq!((sources.allow.len(), sources.deny.len()), (2, 1));
        assert_eq!((config.limits.message, config.limits.header_lines), (4000, 64));
        assert_eq!(config.timing.t4, Duration::from_secs(2));
        assert_eq!((config.dns.servers.len(), config.dns.timeout), (2, Duration::from_secs(3)));
        let frame = FrameLimits { message: 4000, headers: 64, ..FrameLimits::default() };
        let streams = StreamLimits {
            connections: 10,
            connections_per_source: 5,
            connect_timeout: Duration::from_secs(1),
            message_timeout: Duration::from_secs(2),
            idle_timeout: Duration::from_secs(3600),
            queued: 64 << 20,
            frame,
        };
        assert_eq!(config.streams, streams);
        assert_eq!((config.database.strictness, config.database.table.table.as_str()), (Strictness::Lenient, "dp"));
    }

    #[test]
    fn a_file_with_ten_faults_tells_all_ten_with_line_value_and_remedy() {
        let text = r#"node_id = "a b"
[[listener]]
bind = "udp:127.0.0.1"
role = "master"
[[set]]
id = 19
algorithm = "fastest"
[[rule]]
name = "tts"
user_agnet = "X"
source = "10.0.0.0/33"
set = 19
[[rule]]
name = "tts"
relay = true
[timing]
timer_c = "3m"
[limits]
transactions = "many"
"#;
        let Err(ConfigError::Faults(faults)) = parse(text) else { panic!("it has faults") };
        let lines: Vec<_> = faults.iter().map(|fault| fault.line).collect();
        assert_eq!(lines, [1, 3, 4, 7, 10, 11, 13, 13, 17, 19]);
        assert_eq!(
            faults[2].to_string(),
            "t.toml:4: listener.role is \"master\": give node, or vip for an address that may move to the other node"
        );
        assert!(faults[4].to_string().contains("rule \"tts\".user_agnet is no known key: give one of name, method"));
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_line() {
        assert_eq!(faults("[http\n").len(), 1);
        assert!(faults("[http\n")[0].starts_with("1: not TOML"), "{:?}", faults("[http\n"));
    }

    #[test]
    fn what_does_not_go_together_is_told_with_both_values() {
        let drain = faults("[drain]\nhandover = \"1m\"\n");
        assert_eq!(drain, ["1: drain: handover is 60s, more than the limit of 35s for all: give less"]);
        let timing = faults("[timing]\nt1 = \"5s\"\n");
        assert_eq!(timing, ["1: timing: t2 is 4s, shorter than t1 of 5s: give as much or more"]);
    }

    #[test]
    fn records_need_a_file_and_room_in_it() {
        assert_eq!(parse(LISTENER).expect("valid").records, None);
        let records = parse(&format!("{LISTENER}[records]\nfile = \"/r\"\nmax_bytes = 0\n")).expect("valid").records;
        assert_eq!(records, Some(LinesConfig { max_bytes: None, ..LinesConfig::of("/r".into()) }));
        let told = faults("[records]\nmax_bytes = 4095\nkeep = 0\ncompress = true\n");
        let expected = [
            "1: records: it has no file: give one, as file = \"records.jsonl\"",
            "2: records.max_bytes: it is 4095: give 4096 or more, or 0 for no end",
            "3: records.keep is 0: give a whole number from 1 to 1000",
            "4: records.compress is no known key: give one of file, max_bytes, keep",
        ];
        assert_eq!(told, expected);
        let told = faults("[records]\nfile = \"log/\"\n");
        assert_eq!(told, ["2: records.file is \"log/\": give a file's path, as records.jsonl"]);
    }

    #[test]
    fn listeners_that_are_no_tables_are_told_once() {
        let Err(ConfigError::Faults(faults)) = parse("listener = 5\n") else { panic!("it has a fault") };
        assert_eq!(faults.len(), 1, "{faults:?}");
    }

    #[test]
    fn a_rule_has_a_name_and_one_action() {
        assert!(faults("[[rule]]\nname = \"\"\nset = 1\n")[0].starts_with("2: rule.name is \"\": give"));
        for (count, actions) in [("no action", ""), ("2 actions", "set = 1\nreply = {}\n")] {
            let faults = faults(&format!("[[rule]]\nname = \"a\"\n{actions}"));
            assert!(faults[0].contains(&format!("it has {count}: give")), "{faults:?}");
        }
    }

    #[test]
    fn a_listener_is_bound_to_one_machine_s_address() {
        for bad in ["udp:224.0.0.1:5060", "udp:255.255.255.255:5060", "udp:[ff02::1]:5060"] {
            let faults = faults(&format!("[[listener]]\nbind = \"{bad}\"\n"));
            assert!(faults[0].contains(bad) && faults[0].contains("one machine"), "{faults:?}");
        }
    }

    #[test]
    fn a_dns_server_is_an_address_with_a_port() {
        for bad in ["ns.example.com:53", "10.0.0.53", "10.0.0.53:0", "0.0.0.0:53"] {
            let faults = faults(&format!("[dns]\nservers = \"{bad}\"\n"));
            assert!(faults[0].starts_with("2: dns.servers") && faults[0].contains("10.0.0.53:53"), "{faults:?}");
        }
    }

    #[test]
    fn an_open_relay_is_refused() {
        assert!(faults("[[rule]]\nname = \"r\"\nrelay = true\n")[0].contains("open relay"));
        let closed = "[[rule]]\nname = \"r\"\nrelay = true\nsource = \"10.0.0.0/8\"\n";
        assert!(parse(&format!("{LISTENER}{closed}")).is_ok());
    }

    #[test]
    fn a_wildcard_becomes_every_address_of_this_machine() {
        let config = parse("[[listener]]\nbind = \"udp:*:8060\"\n").expect("valid");
        assert!(config.listeners.iter().any(|listener| listener.bind.ip().is_loopback()));
        assert!(config.listeners.iter().all(|listener| !listener.bind.ip().is_unspecified()));
        let twice = "[[listener]]\nbind = \"udp:127.0.0.1:8060\"\n";
        assert!(faults(twice)[0].contains("another [[listener]]'s too"));
    }
}
