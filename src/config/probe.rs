//! `[set.probe]` and `[[set.destination]]`: how a set asks its destinations whether they are there. What a destination's own
//! table does not say, its set's does; what a probe's own table does not say, `[set.probe]` does; then come the defaults.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::health::DAY;
use super::listeners::Bound;
use super::reader::Section;
use super::values::{self, duration_within, one_of};
use crate::engine::dispatch::{Check, CheckKind, Combine, InitState, Observe, Probing, SipProbe, When};
use crate::engine::flow::{Listener, ListenerId, Role, Transport};
use crate::engine::sip::Uri;

/// The shortest time of a probe.
const SHORTEST: Duration = Duration::from_millis(100);
/// A SIP probe ends by itself then: 64*T1, RFC 3261 section 17.1.2.2.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(32);
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

/// How the destinations of a set are probed, and how some of them are instead.
pub(super) type Probings = (Arc<Probing>, Vec<(String, Arc<Probing>)>);

/// Reads `[set.probe]` and every `[[set.destination]]`.
pub(super) fn read(set: &Section<'_>, observe: &Observe, bound: &Bound) -> Probings {
    let tables = Tables::of(set);
    let keys = tables.read(bound);
    let context = Context { observe, listeners: &bound.listeners, uri: None };
    let faults = keys.faults(&context);
    tables.tell(&faults);
    tables.finish();

    let mut instead: Vec<(String, Arc<Probing>)> = Vec::new();
    for section in &mut set.sections("destination") {
        let uri = section.text("uri", destination);
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
        match uri {
            None if section.has("uri") => {}
            None => {
                section.fault("it has no uri: give the destination column of its row, as uri = \"sip:10.0.0.1:7010\"")
            }
            Some(_) if !tables.probe.is_present() => {
                section.fault("it says nothing of its own: give probe = { ... }, or drop it");
            }
            Some(uri) if instead.iter().any(|(other, _)| *other == uri) => {
                section.fault("there are two of it in its set: put both into one [[set.destination]]");
            }
            Some(uri) => instead.push((uri, Arc::new(own.probing()))),
        }
        section.finish();
    }
    (Arc::new(keys.probing()), instead)
}

/// A destination column; it is compared as text.
fn destination(text: &str) -> Result<String, String> {
    let is_there = Uri::parse(text.as_bytes()).is_ok_and(|uri| uri.transport().is_some());
    is_there.then(|| text.to_owned()).ok_or_else(|| "give it as in the table, as sip:10.0.0.1:7010".to_owned())
}

/// Whether something is done: if its table is there, unless that says otherwise.
#[derive(Clone, Copy, Debug, Default)]
struct Switch {
    is_there: bool,
    enabled: Option<bool>,
}

impl Switch {
    fn read(section: &Section<'_>) -> Self {
        Switch { is_there: section.is_present(), enabled: section.flag("enabled") }
    }

    fn over(self, below: Self) -> Self {
        Switch { is_there: self.is_there || below.is_there, enabled: self.enabled.or(below.enabled) }
    }

    fn is_on(self) -> bool {
        self.enabled.unwrap_or(self.is_there)
    }
}

/// The times and counts of one kind of probe, as far as they are given.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    interval: Option<Duration>,
    fast_interval: Option<Duration>,
    down_interval: Option<Duration>,
    timeout: Option<Duration>,
    jitter_percent: Option<u8>,
    fall: Option<u32>,
    rise: Option<u32>,
}

impl Times {
    fn read(section: &Section<'_>) -> Self {
        let time = |key, most| section.text(key, duration_within(SHORTEST..=most));
        let count = |key, bounds| section.number(key, bounds).and_then(|number| u32::try_from(number).ok());
        Times {
            interval: time("interval", DAY),
            fast_interval: time("fast_interval", DAY),
            down_interval: time("down_interval", DAY),
            timeout: time("timeout", LONGEST_TIMEOUT),
            jitter_percent: count("jitter_percent", 0..=100).and_then(|percent| u8::try_from(percent).ok()),
            fall: count("fall", 1..=1000),
            rise: count("rise", 1..=1000),
        }
    }

    fn over(self, below: &Self) -> Self {
        Times {
            interval: self.interval.or(below.interval),
            fast_interval: self.fast_interval.or(below.fast_interval),
            down_interval: self.down_interval.or(below.down_interval),
            timeout: self.timeout.or(below.timeout),
            jitter_percent: self.jitter_percent.or(below.jitter_percent),
            fall: self.fall.or(below.fall),
            rise: self.rise.or(below.rise),
        }
    }

    fn check(self, kind: CheckKind) -> Check {
        let default = Check::new(kind);
        let interval = self.interval.unwrap_or(default.interval);
        Check {
            interval,
            fast_interval: self.fast_interval.unwrap_or(default.fast_interval.min(interval)),
            down_interval: self.down_interval.unwrap_or(default.down_interval),
            timeout: self.timeout.unwrap_or(default.timeout),
            jitter_percent: self.jitter_percent.unwrap_or(default.jitter_percent),
            fall: self.fall.unwrap_or(default.fall),
            rise: self.rise.unwrap_or(default.rise),
            kind: default.kind,
        }
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
        }
    }

    /// What its keys do wrong together.
    fn faults(&self, context: &Context<'_>) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault = |table, key, problem: String| faults.push(Fault { table, key, problem });
        let probing = self.probing();
        if !self.probe.is_on() {
            if probing.init_state == InitState::Down {
                let problem = "nothing would raise what is not probed: give up or unknown, or enabled = true";
                fault(Table::Probe, "init_state", problem.to_owned());
            }
            return faults;
        }
        for check in &probing.checks {
            let Check { fast_interval: fast, interval, .. } = check;
            if fast > interval {
                let problem = format!("{fast:?} is longer than interval ({interval:?}): give as much or less");
                fault(Table::of(&check.kind), "fast_interval", problem);
            }
        }
        if self.http.is_on() && self.http_port.is_none() {
            fault(Table::Http, "port", "there is none: give the one where GET is answered, as port = 8080".to_owned());
        }
        if !self.asks_sip() && !self.tcp.is_on() && !self.http.is_on() {
            let problem = "it leaves nothing to probe with: drop it, add tcp or http, or give enabled = false";
            fault(Table::Probe, "sip", problem.to_owned());
        }
        if let Combine::AtLeast(number) = probing.combine
            && number as usize > probing.checks.len()
        {
            let problem = format!("{number} of {} can't be good: give less, or all", probing.checks.len());
            fault(Table::Probe, "combine", problem);
        }
        let named_by_sdp = self.tcp.is_on() && self.tcp_port.flatten().is_none();
        if probing.init_state == InitState::Down && !self.asks_sip() && named_by_sdp {
            let problem = "what begins down and is not asked by SIP never names one: give a number";
            fault(Table::Tcp, "port", problem.to_owned());
        }
        if probing.when == When::Down && !context.observe.enabled {
            let problem = "nothing would see it fall while observe.enabled is false: give always or idle";
            fault(Table::Probe, "when", problem.to_owned());
        }
        if self.asks_sip()
            && let Some(problem) = context.no_way(self.socket)
        {
            fault(Table::Probe, "socket", problem);
        }
        faults
    }
}

/// What a probe is judged by beside its keys.
#[derive(Clone, Copy)]
struct Context<'c> {
    observe: &'c Observe,
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

/// Why no SIP probe can reach a destination from these listeners; its address is none as long as it is a name.
pub(super) fn no_way(
    listeners: &[Listener],
    socket: Option<ListenerId>,
    transport: Transport,
    address: Option<SocketAddr>,
) -> Option<String> {
    let reaches = |listener: &Listener| {
        listener.role == Role::Node
            && listener.transport == transport
            && socket.is_none_or(|socket| socket == listener.id)
            && address.is_none_or(|address| listener.reaches(address))
    };
    let name = transport.name();
    match socket {
        _ if listeners.iter().any(reaches) => None,
        None => Some(format!("no listener of role node reaches it by {name}, and probes leave by one: add one")),
        Some(_) => Some(format!("the probe's socket does not reach it by {name}: name one that does, or drop it")),
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
    key: &'static str,
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
            method: probe.text("method", method),
            from: probe.text("from", from),
            socket: probe.text("socket", |text| bound.of_node(text)),
            headers: read_headers(&probe.section("headers")),
            max_forwards: probe.number("max_forwards", 0..=255).and_then(|hops| u8::try_from(hops).ok()),
            times: Times::read(probe),
            init_state: probe.text(
                "init_state",
                one_of(&[("up", InitState::Up), ("unknown", InitState::Unknown), ("down", InitState::Down)]),
            ),
            when: probe.text("when", one_of(&[("always", When::Always), ("down", When::Down), ("idle", When::Idle)])),
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
            path: http.text("path", path),
            http_times: Times::read(http),
        }
    }

    fn tell(&self, faults: &[Fault]) {
        for Fault { table, key, problem } in faults {
            let section = match table {
                Table::Tcp if self.tcp.is_present() => &self.tcp,
                Table::Http if self.http.is_present() => &self.http,
                Table::Probe | Table::Tcp | Table::Http => &self.probe,
            };
            section.fault_at(key, problem);
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

fn path(text: &str) -> Result<String, String> {
    match text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err("give a path from its slash, as /health, with what else it holds percent-encoded".to_owned()),
    }
}

/// None if the table is not there.
fn read_headers(section: &Section<'_>) -> Option<Vec<(String, String)>> {
    let mut headers = Vec::new();
    for (name, value) in section.entries(values::reason) {
        if OURS.iter().any(|ours| ours.eq_ignore_ascii_case(&name)) {
            section.fault_at(&name, "a probe has its own: leave it out");
        } else if let Err(remedy) = values::token(&name) {
            section.fault_at(&name, &format!("that is no header's name: {remedy}"));
        } else {
            headers.push((name, value));
        }
    }
    section.is_present().then_some(headers)
}
