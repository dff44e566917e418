//! `[set.probe]` and `[[set.destination]]`: how a set asks its destinations whether they are there, and (`agent`) what they
//! want. What a destination's own table does not say, its set's does; what a probe's own table does not say, `[set.probe]`
//! does; then come the defaults.

mod reach;
mod times;
mod wishes;

use std::sync::Arc;
use std::time::Duration;

pub(super) use self::reach::strays;
pub(super) use self::wishes::unlike;

use self::reach::no_way;
use self::times::Times;
use super::agent;
use super::listeners::Bound;
use super::reader::Section;
use super::values;
use crate::engine::dispatch::{
    Agent, BadAnswer, Check, CheckKind, Codes, Combine, InitState, Observe, Probing, SipProbe, VerdictRule, When, Who,
};
use crate::engine::flow::{Listener, ListenerId, Role};
use crate::engine::sip::Uri;

/// The shortest time of a probe or an agent.
pub(super) const SHORTEST: Duration = Duration::from_millis(100);
/// What [`path`] reads.
pub(super) const A_PATH: &str = "a path from its slash";
/// More nodes have no say in a cluster.
const MOST_PROBERS: i64 = 64;
/// Headers that a probe has of its own.
const OURS: &[&str] = &[
    "Via",
    "v",
    "From",
    "f",
    "To",
    "t",
    "Call-ID",
    "i",
    "CSeq",
    "Max-Forwards",
    "Contact",
    "m",
    "Content-Length",
    "l",
];

/// How the destinations of a set are probed, how their agents are asked, and how those of some are instead.
pub(super) struct Asked {
    pub(super) probing: Arc<Probing>,
    pub(super) probing_instead: Vec<(String, Arc<Probing>)>,
    pub(super) agent: Option<Arc<Agent>>,
    pub(super) agent_instead: Vec<(String, Option<Arc<Agent>>)>,
}

/// Reads `[set.probe]`, `[set.agent]` and every `[[set.destination]]`.
pub(super) fn read(set: &Section<'_>, observe: &Observe, verdict: VerdictRule, bound: &Bound) -> Asked {
    let tables = Tables::of(set);
    let keys = tables.read(bound);
    let context = Context { observe, verdict, listeners: &bound.listeners, uri: None };
    let faults = keys.faults(&context);
    tables.tell(&faults);
    tables.finish();
    let agent = agent::Keys::read(&set.section("agent"), &agent::Keys::default());

    let mut uris: Vec<String> = Vec::new();
    let mut asked =
        Asked { probing: keys.probing().into(), probing_instead: vec![], agent: agent.agent(), agent_instead: vec![] };
    for section in &mut set.sections("destination") {
        let uri = section.text("uri", "a SIP URI", destination);
        if let Some(uri) = &uri {
            section.rename(format!("{} {uri:?}", section.name()));
        }
        let tables = Tables::of(section);
        let own = tables.read(bound).over(&keys);
        let context = Context { uri: uri.as_deref(), ..context };
        // What its set does wrong is told there.
        let mut own_faults = own.faults(&context);
        own_faults.retain(|fault| !faults.contains(fault));
        tables.tell(&own_faults);
        tables.finish();
        let agent_table = section.section("agent");
        let own_agent = agent::Keys::read(&agent_table, &agent);
        match uri {
            None if section.has("uri") => {}
            None => {
                section.fault("it has no uri: give the destination column of its row, as uri = \"sip:10.0.0.1:7010\"")
            }
            Some(_) if !tables.probe.is_present() && !agent_table.is_present() => {
                section.fault("it says nothing of its own: give probe = { ... } or agent = { ... }, or drop it");
            }
            Some(uri) if uris.contains(&uri) => {
                section.fault("there are two of it in its set: put both into one [[set.destination]]");
            }
            Some(uri) => {
                if tables.probe.is_present() {
                    asked.probing_instead.push((uri.clone(), own.probing().into()));
                }
                if agent_table.is_present() {
                    asked.agent_instead.push((uri.clone(), own_agent.agent()));
                }
                uris.push(uri);
            }
        }
        section.finish();
    }
    asked
}

/// A destination column; it is compared as text.
fn destination(text: &str) -> Result<String, String> {
    let is_there = Uri::parse(text.as_bytes()).is_ok_and(|uri| uri.transport().is_some());
    is_there.then(|| text.to_owned()).ok_or_else(|| "give it as in the table, as sip:10.0.0.1:7010".to_owned())
}

/// Whether something is done: if its table is there, unless that says otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Switch {
    is_there: bool,
    enabled: Option<bool>,
}

impl Switch {
    pub(super) fn read(section: &Section<'_>) -> Self {
        Switch { is_there: section.is_present(), enabled: section.flag("enabled") }
    }

    pub(super) fn over(self, below: Self) -> Self {
        Switch { is_there: self.is_there || below.is_there, enabled: self.enabled.or(below.enabled) }
    }

    pub(super) fn is_on(self) -> bool {
        self.enabled.unwrap_or(self.is_there)
    }
}

/// What one `probe` table says, as far as it says anything.
#[derive(Clone, Debug, Default)]
struct Keys {
    probe: Switch,
    sip: Option<bool>,
    method: Option<String>,
    from: Option<String>,
    socket: Option<ListenerId>,
    headers: Option<Vec<(String, String)>>,
    max_forwards: Option<u8>,
    accept: Option<Vec<Codes>>,
    times: Times,
    tcp: Switch,
    /// None within: the one that the server's SDP names.
    tcp_port: Option<Option<u16>>,
    tcp_times: Times,
    http: Switch,
    http_port: Option<u16>,
    path: Option<String>,
    http_times: Times,
    init_state: Option<InitState>,
    when: Option<When>,
    combine: Option<Combine>,
    who: Option<Everybody>,
    probers: Option<u32>,
}

/// What `who` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Everybody {
    All,
    Shared,
}

impl Keys {
    fn over(self, below: &Self) -> Self {
        Keys {
            probe: self.probe.over(below.probe),
            sip: self.sip.or(below.sip),
            method: self.method.or_else(|| below.method.clone()),
            from: self.from.or_else(|| below.from.clone()),
            socket: self.socket.or(below.socket),
            headers: self.headers.or_else(|| below.headers.clone()),
            max_forwards: self.max_forwards.or(below.max_forwards),
            accept: self.accept.or_else(|| below.accept.clone()),
            times: self.times.over(&below.times),
            tcp: self.tcp.over(below.tcp),
            tcp_port: self.tcp_port.or(below.tcp_port),
            tcp_times: self.tcp_times.over(&below.tcp_times),
            http: self.http.over(below.http),
            http_port: self.http_port.or(below.http_port),
            path: self.path.or_else(|| below.path.clone()),
            http_times: self.http_times.over(&below.http_times),
            init_state: self.init_state.or(below.init_state),
            when: self.when.or(below.when),
            combine: self.combine.or(below.combine),
            // All of them need no number.
            probers: if self.who == Some(Everybody::All) { self.probers } else { self.probers.or(below.probers) },
            who: self.who.or(below.who),
        }
    }

    fn asks_sip(&self) -> bool {
        self.probe.is_on() && self.sip.unwrap_or(true)
    }

    fn probing(&self) -> Probing {
        let default = Probing::default();
        let mut checks = Vec::new();
        if self.asks_sip() {
            let usual = SipProbe::default();
            let sip = SipProbe {
                method: self.method.clone().unwrap_or(usual.method),
                from: self.from.clone(),
                socket: self.socket,
                headers: self.headers.clone().unwrap_or_default(),
                max_forwards: self.max_forwards.unwrap_or(usual.max_forwards),
                accept: self.accept.clone().unwrap_or_default(),
            };
            checks.push(self.times.check(CheckKind::Sip(sip)));
        }
        if self.probe.is_on() && self.tcp.is_on() {
            let port = self.tcp_port.unwrap_or_default();
            checks.push(self.tcp_times.over(&self.times).check(CheckKind::Tcp { port }));
        }
        // Without a port it is a fault that is told.
        if let Some(port) = self.http_port.filter(|_| self.probe.is_on() && self.http.is_on()) {
            let path = self.path.clone().unwrap_or_else(|| "/".to_owned());
            checks.push(self.http_times.over(&self.times).check(CheckKind::Http { port, path }));
        }
        Probing {
            checks,
            combine: self.combine.unwrap_or(default.combine),
            init_state: self.init_state.unwrap_or(default.init_state),
            when: self.when.unwrap_or(default.when),
            who: match self.who {
                Some(Everybody::Shared) => Who::Shared { probers: self.probers.unwrap_or(1) },
                Some(Everybody::All) | None => Who::All,
            },
        }
    }

    /// What its keys do wrong together.
    fn faults(&self, context: &Context<'_>) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault = |table, keys, problem: String| faults.push(Fault { table, keys, problem });
        let probing = self.probing();
        if !self.probe.is_on() {
            if probing.init_state == InitState::Down {
                let problem =
                    "init_state is down, and nothing raises what is not probed: give up or unknown, or enabled = true";
                fault(Table::Probe, &["init_state"], problem.to_owned());
            }
            return faults;
        }
        for check in &probing.checks {
            let Check { fast_interval: fast, interval, .. } = check;
            if fast > interval {
                let problem =
                    format!("fast_interval ({fast:?}) is longer than interval ({interval:?}): give as much or less");
                fault(Table::of(&check.kind), &["fast_interval", "interval"], problem);
            }
        }
        if self.http.is_on() && self.http_port.is_none() {
            fault(
                Table::Http,
                &["port"],
                "it has no port: give the one where GET is answered, as port = 8080".to_owned(),
            );
        }
        if !self.asks_sip() && !self.tcp.is_on() && !self.http.is_on() {
            let problem = "sip = false leaves nothing to probe with: drop it, add tcp or http, or give enabled = false";
            fault(Table::Probe, &["sip"], problem.to_owned());
        }
        if let Combine::AtLeast(number) = probing.combine
            && number as usize > probing.checks.len()
        {
            let problem =
                format!("combine asks for {number} good probes of {}: give less, or all", probing.checks.len());
            fault(Table::Probe, &["combine"], problem);
        }
        let named_by_sdp = self.tcp.is_on() && self.tcp_port.flatten().is_none();
        if probing.init_state == InitState::Down && !self.asks_sip() && named_by_sdp {
            let problem = "init_state is down, and what is not asked by SIP names no port: give port a number";
            fault(Table::Tcp, &["port"], problem.to_owned());
        }
        if probing.when == When::Down && !context.observe.enabled {
            let problem = "when is down, and nothing sees a fall while observe.enabled is false: give always or idle";
            fault(Table::Probe, &["when"], problem.to_owned());
        }
        match (probing.who, self.probers) {
            (Who::All, Some(2..)) => {
                let problem = "probers is for who = \"shared\", and all nodes probe: give that, or drop it";
                fault(Table::Probe, &["probers"], problem.to_owned());
            }
            (Who::Shared { .. }, _) if context.verdict == VerdictRule::Own => {
                let problem = "who is shared, and verdict = \"own\" heeds no other node, so that a server that others probe \
                               would be probed by nobody: give all, or another verdict";
                fault(Table::Probe, &["who"], problem.to_owned());
            }
            (Who::All | Who::Shared { .. }, _) => {}
        }
        if self.asks_sip()
            && let Some(problem) = context.no_way(self.socket)
        {
            fault(Table::Probe, &["socket"], problem);
        }
        faults
    }
}

/// What a probe is judged by beside its keys.
#[derive(Clone, Copy)]
struct Context<'c> {
    observe: &'c Observe,
    verdict: VerdictRule,
    listeners: &'c [Listener],
    /// The destination, if it is for one.
    uri: Option<&'c str>,
}

impl Context<'_> {
    /// Why no SIP probe could leave.
    fn no_way(&self, socket: Option<ListenerId>) -> Option<String> {
        // Without any listener there is a fault already.
        let mut own = self.listeners.iter().filter(|listener| listener.role == Role::Node).peekable();
        if own.peek().is_none() {
            let problem = "probes leave by an address of the node itself, since answers to a virtual one may come to the \
                           other node: add a [[listener]] with role = \"node\"";
            return (!self.listeners.is_empty()).then(|| problem.to_owned());
        }
        let uri = Uri::parse(self.uri?.as_bytes()).ok()?;
        no_way(self.listeners, socket, uri.transport()?, uri.address())
    }
}

/// Where a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    Probe,
    Tcp,
    Http,
}

impl Table {
    fn of(kind: &CheckKind) -> Self {
        match kind {
            CheckKind::Sip(_) => Table::Probe,
            CheckKind::Tcp { .. } => Table::Tcp,
            CheckKind::Http { .. } => Table::Http,
        }
    }
}

/// What keys do wrong together.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    table: Table,
    keys: &'static [&'static str],
    problem: String,
}

/// A `probe` table with its inner ones.
struct Tables<'d> {
    probe: Section<'d>,
    tcp: Section<'d>,
    http: Section<'d>,
}

impl<'d> Tables<'d> {
    fn of(section: &Section<'d>) -> Self {
        let probe = section.section("probe");
        let (tcp, http) = (probe.section("tcp"), probe.section("http"));
        Tables { probe, tcp, http }
    }

    fn read(&self, bound: &Bound) -> Keys {
        let Tables { probe, tcp, http } = self;
        Keys {
            probe: Switch::read(probe),
            sip: probe.flag("sip"),
            method: probe.text("method", "a method", method),
            from: probe.text("from", "a SIP URI", from),
            socket: probe.text("socket", "the bind of a listener", |text| bound.of_node(text)),
            headers: read_headers(&probe.section("headers")),
            max_forwards: probe.number("max_forwards", 0..=255).and_then(|hops| u8::try_from(hops).ok()),
            accept: probe.texts("accept", "a code or class of answers", |text| {
                text.parse().map_err(|bad: BadAnswer| bad.to_string())
            }),
            times: Times::read(probe),
            init_state: probe.word(
                "init_state",
                &[("up", InitState::Up), ("unknown", InitState::Unknown), ("down", InitState::Down)],
            ),
            when: probe.word("when", &[("always", When::Always), ("down", When::Down), ("idle", When::Idle)]),
            who: probe.word("who", &[("all", Everybody::All), ("shared", Everybody::Shared)]),
            probers: probe.number("probers", 1..=MOST_PROBERS).and_then(|number| u32::try_from(number).ok()),
            combine: probe.number_or(
                "combine",
                1..=3,
                |number| Combine::AtLeast(number as u32),
                &[("all", Combine::All), ("any", Combine::Any)],
            ),
            tcp: Switch::read(tcp),
            tcp_port: tcp.number_or("port", 1..=65_535, |port| u16::try_from(port).ok(), &[("sdp", None)]),
            tcp_times: Times::read(tcp),
            http: Switch::read(http),
            http_port: http.number("port", 1..=65_535).and_then(|port| u16::try_from(port).ok()),
            path: http.text("path", A_PATH, path),
            http_times: Times::read(http),
        }
    }

    fn tell(&self, faults: &[Fault]) {
        for Fault { table, keys, problem } in faults {
            let section = match table {
                // It is there, with a fault of its own.
                Table::Http if keys.iter().any(|key| *key == "port" && self.http.has(key)) => continue,
                Table::Tcp if self.tcp.is_present() => &self.tcp,
                Table::Http if self.http.is_present() => &self.http,
                Table::Probe | Table::Tcp | Table::Http => &self.probe,
            };
            section.fault_of(keys, problem);
        }
    }

    fn finish(&self) {
        self.tcp.finish();
        self.http.finish();
        self.probe.finish();
    }
}

fn method(text: &str) -> Result<String, String> {
    match text {
        // The first has a transaction of another kind, the others have none.
        "INVITE" | "ACK" | "CANCEL" => Err("give one that asks and begins nothing, as OPTIONS".to_owned()),
        _ => values::token(text),
    }
}

fn from(text: &str) -> Result<String, String> {
    let remedy = |_| "give a URI, as sip:probe@example.com".to_owned();
    Uri::parse(text.as_bytes()).map(|_| text.to_owned()).map_err(remedy)
}

pub(super) fn path(text: &str) -> Result<String, String> {
    match text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err("give a path from its slash, as /health, with what else it holds percent-encoded".to_owned()),
    }
}

/// None if the table is not there.
fn read_headers(section: &Section<'_>) -> Option<Vec<(String, String)>> {
    let mut headers = Vec::new();
    for (name, value) in section.entries("a line of text", values::reason) {
        if OURS.iter().any(|ours| ours.eq_ignore_ascii_case(&name)) {
            section.fault_at(&name, "a probe has its own: leave it out");
        } else if let Err(remedy) = values::token(&name) {
            section.fault_at(&name, &remedy.replacen("give", "give a name of", 1));
        } else {
            headers.push((name, value));
        }
    }
    section.is_present().then_some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{faults, parse, policy};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn every_key_is_read() {
        let policy = policy(
            r#"
            [set.probe]
            method = "INFO"
            from = "sip:probe@example.com"
            socket = "udp:127.0.0.1:8060"
            headers = { User-Agent = "t", X-Probe = "1, 2" }
            max_forwards = 1
            accept = ["480", "4xx"]
            interval = "4s"
            fast_interval = "500ms"
            down_interval = "3s"
            timeout = "5s"
            jitter_percent = 20
            fall = 3
            rise = 4
            init_state = "down"
            when = "idle"
            combine = 2
            who = "shared"
            probers = 2
            tcp = { port = 1544, interval = "7s", fast_interval = "6s", down_interval = "5s", timeout = "4s", fall = 9 }
            [set.probe.http]
            port = 8080
            path = "/health"
            rise = 8
            jitter_percent = 0
            "#,
        );
        let sip = SipProbe {
            method: "INFO".to_owned(),
            from: Some("sip:probe@example.com".to_owned()),
            socket: Some(ListenerId(0)),
            headers: vec![("User-Agent".to_owned(), "t".to_owned()), ("X-Probe".to_owned(), "1, 2".to_owned())],
            max_forwards: 1,
            accept: ["480", "4xx"].map(|text| text.parse().expect("a code or a class")).to_vec(),
        };
        let first = Check {
            kind: CheckKind::Sip(sip),
            interval: SECOND * 4,
            fast_interval: SECOND / 2,
            down_interval: SECOND * 3,
            timeout: SECOND * 5,
            jitter_percent: 20,
            fall: 3,
            rise: 4,
        };
        let tcp = Check {
            kind: CheckKind::Tcp { port: Some(1544) },
            interval: SECOND * 7,
            fast_interval: SECOND * 6,
            down_interval: SECOND * 5,
            timeout: SECOND * 4,
            fall: 9,
            ..first.clone()
        };
        let http = CheckKind::Http { port: 8080, path: "/health".to_owned() };
        let http = Check { kind: http, rise: 8, jitter_percent: 0, ..first.clone() };
        let probing = Probing {
            checks: vec![first, tcp, http],
            combine: Combine::AtLeast(2),
            init_state: InitState::Down,
            when: When::Idle,
            who: Who::Shared { probers: 2 },
        };
        assert_eq!(*policy.probing, probing);
    }

    #[test]
    fn a_set_is_probed_if_its_table_is_there_and_does_not_say_otherwise() {
        let usual = vec![Check::new(CheckKind::Sip(SipProbe::default()))];
        assert_eq!(*policy("").probing, Probing::default());
        assert_eq!(policy("[set.probe]\n").probing.checks, usual);
        assert_eq!(policy("[set.probe]\nenabled = false\ntcp = { port = 1 }\n").probing.checks, []);
        let tcp = vec![Check::new(CheckKind::Tcp { port: None })];
        assert_eq!(policy("[set.probe]\nsip = false\n[set.probe.tcp]\n").probing.checks, tcp);
        assert_eq!(policy("[set.probe]\ntcp = { enabled = false }\n").probing.checks, usual);
    }

    #[test]
    fn a_short_interval_shortens_the_fast_one_that_is_not_given() {
        let check = &policy("[set.probe]\ninterval = \"200ms\"\n").probing.checks[0];
        assert_eq!((check.fast_interval, check.timeout), (SECOND / 5, SECOND * 2));
    }

    #[test]
    fn a_destinations_own_table_is_laid_over_its_sets() {
        let policy = policy(
            r#"
            [set.probe]
            interval = "4s"
            rise = 5
            headers = { A = "b" }
            accept = "480"
            [set.probe.tcp]
            port = 1544
            fall = 7
            [[set.destination]]
            uri = "sip:127.0.0.1:7010"
            [set.destination.probe]
            interval = "6s"
            tcp = { rise = 1 }
            [[set.destination]]
            uri = "sip:127.0.0.1:7011"
            probe = { enabled = false }
            "#,
        );
        assert_eq!((policy.probing.checks[1].rise, policy.probing.checks[1].fall), (5, 7));
        let own = policy.probing_of("sip:127.0.0.1:7010");
        let expected = Check { interval: SECOND * 6, ..policy.probing.checks[0].clone() };
        assert_eq!(own.checks[0], expected);
        let expected = Check { interval: SECOND * 6, rise: 1, ..policy.probing.checks[1].clone() };
        assert_eq!(own.checks[1], expected);
        assert_eq!(policy.probing_of("sip:127.0.0.1:7011").checks, []);
        assert_eq!(policy.probing_of("sip:127.0.0.1:7012"), &policy.probing);
    }

    #[test]
    fn a_destination_may_accept_other_answers_than_its_set() {
        let own = "[[set.destination]]\nuri = \"sip:127.0.0.1:7010\"\nprobe = { accept = [\"404\", \"5xx\"] }\n";
        let policy = policy(&format!("probe = {{ accept = \"480\" }}\n{own}"));
        let accepted = |probing: &Probing| {
            let CheckKind::Sip(sip) = &probing.checks[0].kind else { panic!("{probing:?}") };
            [404, 480, 599].map(|status| sip.accept.iter().any(|codes| codes.has(status)))
        };
        assert_eq!(accepted(&policy.probing), [false, true, false]);
        assert_eq!(accepted(policy.probing_of("sip:127.0.0.1:7010")), [true, false, true]);
        let faults = faults("[[set]]\nid = 19\nprobe = { accept = \"200 OK\" }\n");
        assert_eq!(faults, ["3: set 19.probe.accept is \"200 OK\": give a code from 200 to 699, or a class as 5xx"]);
    }

    #[test]
    fn one_destination_may_be_probed_in_a_set_that_is_not() {
        let own = "[[set.destination]]\nuri = \"sip:127.0.0.1:7010\"\nprobe = { interval = \"1s\" }\n";
        let policy = policy(own);
        assert_eq!((policy.probing.checks.len(), policy.probing_instead[0].1.checks.len()), (0, 1));
        let off = crate::config::tests::policy(&format!("probe = {{ enabled = false }}\n{own}"));
        assert_eq!(off.probing_instead[0].1.checks, [], "what it does not say, its set does");
    }

    #[test]
    fn every_fault_is_told_with_line_value_and_remedy() {
        let faults = faults(
            r#"[[set]]
id = 19
[set.probe]
enabled = "yes"
sip = 1
method = "INVITE"
from = "probe"
socket = "udp:127.0.0.1:9"
max_forwards = 256
interval = "50ms"
down_interval = "5"
timeout = "33s"
jitter_percent = 101
fall = 0
rise = 0
init_state = "fully-up"
when = "never"
combine = 4
adress = 1
[set.probe.headers]
Via = "x"
"A b" = "x"
C = "x\ny"
D = 5
[set.probe.tcp]
port = "mrcp"
rise = "1"
[set.probe.http]
port = 0
path = "health"
[[set.destination]]
uri = "127.0.0.1:7010"
[[set.destination]]
probe = {}
[[set.destination]]
uri = "sip:127.0.0.1:7010"
[[set.destination]]
uri = "sip:127.0.0.1:7011"
probe = { fall = 0 }
[[set.destination]]
uri = "sip:127.0.0.1:7011"
probe = { tcp = 1544 }
"#,
        );
        let wanted = [
            "4: set 19.probe.enabled is \"yes\": give true or false",
            "5: set 19.probe.sip is 1: give true or false",
            "6: set 19.probe.method is \"INVITE\": give one that asks and begins nothing, as OPTIONS",
            "7: set 19.probe.from is \"probe\": give a URI, as sip:probe@example.com",
            "8: set 19.probe.socket is \"udp:127.0.0.1:9\": give the bind of a [[listener]] of role node",
            "9: set 19.probe.max_forwards is 256: give a whole number from 0 to 255",
            "10: set 19.probe.interval is \"50ms\": give 100ms to 86400s",
            "11: set 19.probe.down_interval is \"5\": give a number and a unit: 500ms, 5s, 3m or 12h",
            "12: set 19.probe.timeout is \"33s\": give 100ms to 32s",
            "13: set 19.probe.jitter_percent is 101: give a whole number from 0 to 100",
            "14: set 19.probe.fall is 0: give a whole number from 1 to 1000",
            "15: set 19.probe.rise is 0: give a whole number from 1 to 1000",
            "16: set 19.probe.init_state is \"fully-up\": give one of up, unknown, down",
            "17: set 19.probe.when is \"never\": give one of always, down, idle",
            "18: set 19.probe.combine is 4: give \"all\", \"any\" or a whole number from 1 to 3",
            "19: set 19.probe.adress is no known key: give one of tcp, http, enabled, sip, method, from, socket, headers, \
             max_forwards, accept, interval, fast_interval, down_interval, timeout, jitter_percent, fall, rise, init_state, when, \
             who, probers, combine",
            "21: set 19.probe.headers.Via: a probe has its own: leave it out",
            "22: set 19.probe.headers.A b: give a name of letters, digits and -.!%*_+`'~ only",
            "23: set 19.probe.headers.C is \"x\\ny\": give one line without control characters",
            "24: set 19.probe.headers.D is 5: give a string in quotes",
            "26: set 19.probe.tcp.port is \"mrcp\": give \"sdp\" or a whole number from 1 to 65535",
            "27: set 19.probe.tcp.rise is \"1\": give a whole number from 1 to 1000",
            "29: set 19.probe.http.port is 0: give a whole number from 1 to 65535",
            "30: set 19.probe.http.path is \"health\": give a path from its slash, as /health, with what else it holds \
             percent-encoded",
            "32: set 19.destination.uri is \"127.0.0.1:7010\": give it as in the table, as sip:10.0.0.1:7010",
            "33: set 19.destination: it has no uri: give the destination column of its row, as uri = \"sip:10.0.0.1:7010\"",
            "35: set 19.destination \"sip:127.0.0.1:7010\": it says nothing of its own: give probe = { ... } or agent = { ... }, or \
             drop it",
            "39: set 19.destination \"sip:127.0.0.1:7011\".probe.fall is 0: give a whole number from 1 to 1000",
            "40: set 19.destination \"sip:127.0.0.1:7011\": there are two of it in its set: put both into one \
             [[set.destination]]",
            "42: set 19.destination \"sip:127.0.0.1:7011\".probe.tcp is no table: write [set.destination.probe.tcp]",
        ];
        for (number, wanted) in wanted.iter().enumerate() {
            assert_eq!(faults.get(number).map(String::as_str), Some(*wanted));
        }
        assert_eq!(faults.len(), wanted.len(), "{faults:#?}");
    }

    #[test]
    fn keys_that_do_not_go_together_are_told() {
        for (text, wanted) in [
            (
                "[set.probe]\ninterval = \"1s\"\nfast_interval = \"2s\"\n",
                "5: set 19.probe: fast_interval (2s) is longer than interval (1s): give as much or less",
            ),
            (
                "[set.probe]\nfast_interval = \"2s\"\n[set.probe.tcp]\ninterval = \"1s\"\n",
                "6: set 19.probe.tcp: fast_interval (2s) is longer than interval (1s): give as much or less",
            ),
            (
                "[set.probe]\nenabled = false\ninit_state = \"down\"\n",
                "5: set 19.probe: init_state is down, and nothing raises what is not probed: give up or unknown, or enabled = true",
            ),
            (
                "[set.probe]\nsip = false\n",
                "4: set 19.probe: sip = false leaves nothing to probe with: drop it, add tcp or http, or give enabled = false",
            ),
            ("[set.probe]\ncombine = 2\n", "4: set 19.probe: combine asks for 2 good probes of 1: give less, or all"),
            (
                "[set.probe]\n[set.probe.http]\n",
                "4: set 19.probe.http: it has no port: give the one where GET is answered, as port = 8080",
            ),
            (
                "[set.probe]\nsip = false\ninit_state = \"down\"\ntcp = {}\n",
                "6: set 19.probe.tcp: init_state is down, and what is not asked by SIP names no port: give port a number",
            ),
            (
                "[set.observe]\nenabled = false\n[set.probe]\nwhen = \"down\"\n",
                "6: set 19.probe: when is down, and nothing sees a fall while observe.enabled is false: give always or idle",
            ),
        ] {
            let told = faults(&format!("[[set]]\nid = 19\n{text}"));
            assert_eq!(told, [wanted], "{text}");
        }
    }

    #[test]
    fn nodes_share_the_probes_if_the_set_says_so() {
        let who = |text: &str| policy(&format!("[set.probe]\n{text}")).probing.who;
        assert_eq!([who(""), who("who = \"all\"")], [Who::All; 2]);
        assert_eq!(
            who("who = \"shared\""),
            Who::Shared { probers: 1 },
            "also without [cluster]: a node alone probes all"
        );
        assert_eq!(who("who = \"shared\"\nprobers = 3"), Who::Shared { probers: 3 });
        let own = "[set.probe]\nwho = \"shared\"\nprobers = 2\n[[set.destination]]\nuri = \"sip:127.0.0.1:7010\"\n";
        let instead = |text: &str| policy(&format!("{own}probe = {{ {text} }}\n")).probing_instead[0].1.who;
        assert_eq!(instead("rise = 1"), Who::Shared { probers: 2 });
        assert_eq!(instead("who = \"all\""), Who::All);
        for (text, wanted) in [
            ("[set.probe]\nwho = \"some\"\n", "4: set 19.probe.who is \"some\": give one of all, shared"),
            (
                "[set.probe]\nwho = \"shared\"\nprobers = 0\n",
                "5: set 19.probe.probers is 0: give a whole number from 1 to 64",
            ),
            (
                "[set.probe]\nprobers = 2\n",
                "4: set 19.probe: probers is for who = \"shared\", and all nodes probe: give that, or drop it",
            ),
            (
                "verdict = \"own\"\n[set.probe]\nwho = \"shared\"\n",
                "5: set 19.probe: who is shared, and verdict = \"own\" heeds no other node, so that a server that others probe \
                 would be probed by nobody: give all, or another verdict",
            ),
        ] {
            assert_eq!(faults(&format!("[[set]]\nid = 19\n{text}")), [wanted], "{text}");
        }
        let unprobed = policy("verdict = \"own\"\n[set.probe]\nenabled = false\nwho = \"shared\"\n");
        assert_eq!(unprobed.probing.checks, [], "what is not done has no fault");
    }

    #[test]
    fn probes_need_a_listener_of_the_node_that_reaches_the_server() {
        let told = |text: &str| match parse(text) {
            Err(error) => error.to_string(),
            Ok(_) => String::new(),
        };
        let vip = "[[listener]]\nbind = \"udp:127.0.0.1:8060\"\nrole = \"vip\"\n";
        let node = "[[listener]]\nbind = \"udp:127.0.0.2:8060\"\n";
        let set = "[[set]]\nid = 19\n[set.probe]\n";
        assert!(
            told(&format!("{vip}{set}")).contains("t.toml:6: set 19.probe: probes leave by an address of the node")
        );
        assert_eq!(told(&format!("{vip}{node}{set}")), "");
        assert_eq!(told(&format!("{vip}{set}enabled = false\n")), "");
        assert_eq!(told(&format!("{vip}{set}sip = false\ntcp = {{ port = 1544 }}\n")), "");
        let socket = |bind: &str| told(&format!("{vip}{node}{set}socket = \"{bind}\"\n"));
        assert!(socket("udp:127.0.0.1:8060").contains("answers to a vip may come to the other node"));
        assert!(socket("udp:*:8060").contains("give one address of this machine"));
        assert_eq!(socket("udp:127.0.0.2:8060"), "");
        let destination =
            |uri: &str| told(&format!("{vip}{node}{set}[[set.destination]]\nuri = \"{uri}\"\nprobe = {{}}\n"));
        assert_eq!(destination("sip:127.0.0.1:7010"), "");
        assert!(destination("sip:127.0.0.1:7010;transport=tcp").contains("no listener of role node reaches it by tcp"));
        assert!(destination("sip:10.0.0.1:7010").contains("no listener of role node reaches it by udp"));
    }
}
