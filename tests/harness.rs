//! The engine on virtual time: what goes in, when, and what comes out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tandem::engine::dispatch::{Observation, PeerReport, Policy, RetryOn, Row, Set, SetId, Sets};
use tandem::engine::event::{AgentId, CheckId, CheckTarget, EndOrder, LookupId, NotEnded, Which};
use tandem::engine::explain::{Came, Explained};
use tandem::engine::flow::{ConnectionId, Flow, HostPort, Listener, ListenerId, Role, Transport};
use tandem::engine::route::{Action, Condition, Pattern, Rewrite, Rule, Target};
use tandem::engine::sip::Message;
use tandem::engine::snapshot::SessionPage;
use tandem::engine::transaction::timing::Timing;
use tandem::engine::{Config, Engine, Event, Input, Instant, Limits, Now, Output, Snapshot, route};

/// The caller of the article: on the loopback of the proxy's host.
pub(crate) const CALLER: &str = "127.0.0.1:5072";
/// The two destinations of set 19.
pub(crate) const SERVERS: [&str; 2] = ["10.129.39.88:7010", "10.129.39.88:7011"];
/// Where callers reach us: listener 0.
pub(crate) const INSIDE: &str = "127.0.0.1:8060";
/// Where the servers see us: listener 1.
pub(crate) const OUTSIDE: &str = "10.129.39.1:8060";

/// One message that the engine sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// Time since the start.
    pub(crate) at: Duration,
    /// The listener that it left by.
    pub(crate) by: u16,
    /// Where it went; by a connection that lives no longer it would go there by a new one.
    pub(crate) to: SocketAddr,
    /// The connection that it went by; 0 for UDP, and where the edge chooses.
    pub(crate) connection: u64,
    /// The message.
    pub(crate) bytes: Vec<u8>,
}

impl Sent {
    /// The message; everything that we send can be read.
    pub(crate) fn message(&self) -> Message<'_> {
        let message = Message::parse(&self.bytes).unwrap_or_else(|error| panic!("{error}: {}", self.text()));
        assert_eq!(message.fault(), None, "{}", self.text());
        message
    }

    /// As text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The first line.
    pub(crate) fn line(&self) -> String {
        self.text().lines().next().unwrap_or_default().to_owned()
    }

    /// The first value line of a header.
    pub(crate) fn header(&self, name: &str) -> String {
        self.headers(name).into_iter().next().unwrap_or_default()
    }

    /// Every value line of a header.
    pub(crate) fn headers(&self, name: &str) -> Vec<String> {
        let message = self.message();
        message.headers(name.as_bytes()).map(|value| String::from_utf8_lossy(value).into_owned()).collect()
    }

    /// An answer to this request, as its receiver would give it.
    pub(crate) fn answer(&self, status: u16, reason: &str, extra: &[&str]) -> Vec<u8> {
        let request = self.message();
        let mut text = format!("SIP/2.0 {status} {reason}\r\n");
        for name in ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq"] {
            for value in request.headers(name.as_bytes()) {
                let tag = if name == "To" && request.to_tag().is_empty() && status > 100 { ";tag=srv" } else { "" };
                text += &format!("{name}: {}{tag}\r\n", String::from_utf8_lossy(value));
            }
        }
        for line in extra {
            text += &format!("{line}\r\n");
        }
        text += "Content-Length: 0\r\n\r\n";
        text.into_bytes()
    }
}

/// An engine and its time.
pub(crate) struct Bench {
    engine: Engine,
    now: Duration,
    transports: Vec<Transport>,
    /// Every event so far.
    pub(crate) events: Vec<Event>,
    /// Every name that the engine wanted looked up so far, and its id.
    pub(crate) lookups: Vec<(LookupId, String)>,
    /// What destinations are asked by other means than SIP, and how long that may take.
    pub(crate) checks: Vec<(CheckId, CheckTarget, Duration)>,
    /// Each agent that was to be asked: by what id, and where.
    pub(crate) agents: Vec<(AgentId, String)>,
    /// Every connection that was to be closed.
    pub(crate) closed: Vec<u64>,
    /// Every listener whose connections were to be closed.
    pub(crate) let_go: Vec<u16>,
}

/// The engine's configuration that a test starts from.
pub(crate) fn config() -> Config {
    let listener = |id, bind: &str| Listener {
        id: ListenerId(id),
        transport: Transport::Udp,
        bind: bind.parse().expect("an address"),
        advertise: HostPort::from(bind.parse::<SocketAddr>().expect("an address")),
        role: Role::Node,
        sources: Default::default(),
    };
    let tts = Rule {
        name: "tts".into(),
        when: vec![
            Condition::Method(vec!["INVITE".into(), "OPTIONS".into()]),
            Condition::UserAgent(Pattern::new("OPENSIPS_TTS_MRCP_CLIENT")),
        ],
        action: Action::Set(Arc::new(Target {
            set: SetId(19),
            rewrite: Rewrite::Article,
            record_route_params: String::new(),
        })),
    };
    Config {
        node: "a".into(),
        key: [7; 32],
        listeners: vec![listener(0, INSIDE), listener(1, OUTSIDE)],
        timing: Timing::RFC_3261,
        route: route::Config { rules: vec![tts], ..route::Config::default() },
        sets: vec![Policy::of(SetId(19))],
        limits: Limits::default(),
        call_events: true,
        records: true,
        trace: Default::default(),
    }
}

/// Set 19 with these destinations, reached by TCP.
pub(crate) fn set_19_by_tcp(addresses: &[&str]) -> Sets {
    let Sets(mut sets) = set_19(addresses);
    for row in sets.iter_mut().flat_map(|set| &mut set.rows) {
        row.uri += ";transport=tcp";
        row.transport = Transport::Tcp;
    }
    Sets(sets)
}

/// Set 19 with these destinations.
pub(crate) fn set_19(addresses: &[&str]) -> Sets {
    let row = |(index, address): (usize, &&str)| Row {
        row: index as i64 + 1,
        priority: 100,
        attrs: "pstn=100".into(),
        ..Row::new(format!("sip:{address}"), address.parse().expect("an address"))
    };
    Sets(vec![Set { id: SetId(19), rows: addresses.iter().enumerate().map(row).collect() }])
}

impl Bench {
    /// The article's set-up: two destinations in set 19.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// The same with something changed.
    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config();
        change(&mut config);
        let transports = config.listeners.iter().map(|listener| listener.transport).collect();
        // Nodes of one cluster do not start alike.
        let mut seed = [3; 32];
        seed[8..16].fill(config.node.as_bytes()[0]);
        let (engine, now) = (Engine::new(config, seed), Duration::ZERO);
        let (events, lookups, checks, agents, closed, let_go) = Default::default();
        let mut bench = Bench { engine, now, transports, events, lookups, checks, agents, closed, let_go };
        bench.load(set_19(&SERVERS));
        bench
    }

    /// The same where the first destination's answer is the caller's.
    pub(crate) fn without_failover(change: impl FnOnce(&mut Config)) -> Self {
        Self::with(|config| {
            config.sets[0].failover.retry_on = RetryOn::NONE;
            change(config);
        })
    }

    /// A proxy that relays the caller's requests to where their Request-URI says, without a set and its failover.
    pub(crate) fn relaying() -> Self {
        Self::with(|config| {
            let source = Condition::Source(vec!["127.0.0.1".parse().expect("an address")]);
            config.route.rules = vec![Rule { name: "relay".into(), when: vec![source], action: Action::Relay }];
        })
    }

    /// Sends an INVITE through [`Bench::relaying`]; what its target gets.
    pub(crate) fn relayed_call(&mut self, id: &str) -> Sent {
        let sent = self.receive(CALLER, relayed_invite(id));
        assert_eq!(lines(&sent), ["SIP/2.0 100 Trying".to_owned(), sent[1].line()]);
        sent[1].clone()
    }

    /// Puts other sets in place.
    pub(crate) fn load(&mut self, sets: Sets) {
        self.handle(Input::Sets(sets));
    }

    /// A datagram from `peer` arrives at listener 0 if it comes from the loopback, else at 1.
    pub(crate) fn receive(&mut self, peer: &str, bytes: impl AsRef<[u8]>) -> Vec<Sent> {
        let peer: SocketAddr = peer.parse().expect("an address");
        let listener = ListenerId(u16::from(!peer.ip().is_loopback()));
        let flow = Flow { listener, transport: Transport::Udp, peer, connection: ConnectionId::default() };
        self.handle(Input::Received { flow, bytes: bytes.as_ref() })
    }

    /// The article's set-up with TCP beside UDP: listener 2 on the caller's side, 3 on the servers'.
    pub(crate) fn with_tcp() -> Self {
        Self::with_tcp_named("a")
    }

    /// The same with something more changed.
    pub(crate) fn with_tcp_and(change: impl FnOnce(&mut Config)) -> Self {
        Self::with_tcp_on("a", change)
    }

    /// The same on a node of that name.
    pub(crate) fn with_tcp_named(node: &str) -> Self {
        Self::with_tcp_on(node, |_| {})
    }

    fn with_tcp_on(node: &str, change: impl FnOnce(&mut Config)) -> Self {
        Self::with(|config| {
            config.node = node.into();
            // What streams do is to be seen without a set's failover.
            config.sets[0].failover.retry_on = RetryOn::NONE;
            config.sets[0].failover.first_response_timeout = seconds(60);
            for (id, bind) in [(2, INSIDE), (3, OUTSIDE)] {
                let like = config.listeners[id - 2].clone();
                let bind = bind.parse().expect("an address");
                let id = ListenerId(id as u16);
                config.listeners.push(Listener { id, transport: Transport::Tcp, bind, ..like });
            }
            change(config);
        })
    }

    /// The flow of a connection: to listener 2 if it is with the loopback, else to 3.
    pub(crate) fn stream(peer: &str, connection: u64) -> Flow {
        let peer: SocketAddr = peer.parse().expect("an address");
        let listener = ListenerId(if peer.ip().is_loopback() { 2 } else { 3 });
        Flow { listener, transport: Transport::Tcp, peer, connection: ConnectionId(connection) }
    }

    /// A message by that connection.
    pub(crate) fn receive_by(&mut self, flow: Flow, bytes: impl AsRef<[u8]>) -> Vec<Sent> {
        self.handle(Input::Received { flow, bytes: bytes.as_ref() })
    }

    /// Time since the start.
    pub(crate) fn time(&self) -> Duration {
        self.now
    }

    /// Any input.
    pub(crate) fn handle(&mut self, input: Input<'_>) -> Vec<Sent> {
        let mut out = Vec::new();
        let now = self.now();
        self.engine.handle(input, now, &mut out);
        let mut sent = Vec::new();
        for output in out {
            match output {
                Output::Send { flow, bytes } => {
                    assert_eq!(flow.transport, self.transports[usize::from(flow.listener.0)]);
                    let (by, connection) = (flow.listener.0, flow.connection.0);
                    sent.push(Sent { at: self.now, by, to: flow.peer, connection, bytes: bytes.to_vec() });
                }
                Output::Close(connection) => self.closed.push(connection.0),
                Output::CloseAll(listener) => self.let_go.push(listener.0),
                Output::Event(event) => self.events.push(event),
                Output::Check { id, target, timeout } => self.checks.push((id, target, timeout)),
                Output::AskAgent { id, address, path, .. } => self.agents.push((id, format!("{address}{path}"))),
                Output::Resolve { id, host, port, transport } => {
                    self.lookups.push((id, format!("{host} {port:?} {}", transport.name())));
                }
            }
        }
        sent
    }

    /// What it tells the other nodes.
    pub(crate) fn report(&mut self) -> PeerReport {
        let now = self.now();
        self.engine.report(now)
    }

    /// Lets time pass, waking the engine whenever it asked for it.
    pub(crate) fn pass(&mut self, time: Duration) -> Vec<Sent> {
        let end = self.now + time;
        let mut sent = Vec::new();
        while let Some(deadline) = self.engine.next_deadline().map(Instant::since_start).filter(|at| *at <= end) {
            self.now = self.now.max(deadline);
            sent.extend(self.handle(Input::Wake));
        }
        self.now = end;
        sent
    }

    /// Lets time pass without waking the engine: the process stands still.
    pub(crate) fn stall(&mut self, time: Duration) {
        self.now += time;
    }

    fn now(&self) -> Now {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + self.now;
        Now { mono: Instant::after_start(self.now), wall }
    }

    /// The last observations of a destination of set 19, oldest first.
    pub(crate) fn history(&self, address: &str) -> Vec<Observation> {
        let found = self.engine.history(SetId(19), &format!("sip:{address}"));
        found.into_iter().flat_map(|(_, history)| history).collect()
    }

    /// Some sessions of set 19, or of one of its destinations.
    pub(crate) fn sessions(&self, address: Option<&str>, some: (usize, usize)) -> Option<SessionPage> {
        let uri = address.map(|address| format!("sip:{address}"));
        self.engine.sessions(SetId(19), uri.as_deref(), some, self.now()).ok()
    }

    /// An operator ends sessions; how many, or why not.
    pub(crate) fn end(&mut self, which: Which) -> (Vec<Sent>, Result<u64, NotEnded>) {
        let order = EndOrder { which, by: "ada".into(), reason: "a test".into() };
        let sent = self.handle(Input::End(&order));
        let Some(Event::EndOrdered { order: told, ended }) = self.events.pop() else { panic!("{:?}", self.events) };
        assert_eq!(told, order);
        (sent, ended)
    }

    /// What would become of a request; the way as [`Bench::receive`] takes it.
    pub(crate) fn explain(&self, peer: &str, bytes: impl AsRef<[u8]>) -> Explained {
        let source: SocketAddr = peer.parse().expect("an address");
        let listener = ListenerId(u16::from(!source.ip().is_loopback()));
        let came = Came { source: Some(source), listener: Some(listener) };
        self.engine.explain(bytes.as_ref(), came, self.now())
    }

    /// What the outside sees.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot::clone(&self.engine.snapshot(self.now()))
    }

    /// Sends an INVITE of the article's client through; what the destination gets.
    pub(crate) fn call(&mut self, id: &str) -> Sent {
        let sent = self.receive(CALLER, invite(id));
        assert_eq!(lines(&sent), ["SIP/2.0 100 Trying".to_owned(), sent[1].line()]);
        sent[1].clone()
    }

    /// A call that the destination has answered; what it got, and the caller's 200.
    pub(crate) fn answered_call(&mut self, id: &str) -> (Sent, Sent) {
        let invite = self.call(id);
        let contact = format!("Contact: <sip:{}>", invite.to);
        let ok = self.receive(&invite.to.to_string(), invite.answer(200, "OK", &[&contact]));
        assert_eq!(lines(&ok), ["SIP/2.0 200 OK"]);
        (invite, ok[0].clone())
    }

    /// The same where both ends have spoken: the caller by its ACK, the destination by an INFO.
    pub(crate) fn talking_call(&mut self, id: &str) -> (Sent, Sent) {
        let (invite, ok) = self.answered_call(id);
        self.receive(CALLER, in_dialog("ACK", &ok, 1));
        let info = self.receive(&invite.to.to_string(), from_destination("INFO", &invite, 100)).remove(0);
        self.receive(CALLER, info.answer(200, "OK", &[]));
        (invite, ok)
    }
}

/// The INVITE that the article's client sends.
pub(crate) fn invite(id: &str) -> String {
    request("INVITE", &format!("sip:{INSIDE}"), id, &["User-Agent: OPENSIPS_TTS_MRCP_CLIENT"])
}

/// An INVITE to the first destination itself.
pub(crate) fn relayed_invite(id: &str) -> String {
    invite(id).replacen(&format!("INVITE sip:{INSIDE} "), &format!("INVITE sip:{} ", SERVERS[0]), 1)
}

/// A request outside a dialog from the caller; the Call-ID is `id`, the branch is `id`'s and the method's.
pub(crate) fn request(method: &str, uri: &str, id: &str, extra: &[&str]) -> String {
    let mut text = format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {CALLER};branch=z9hG4bK-{id}-{method};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:{CALLER}>;tag=from-{id}\r\nTo: <sip:{INSIDE}>\r\nCall-ID: {id}\r\nCSeq: 1 {method}\r\n"
    );
    for line in extra {
        text += &format!("{line}\r\n");
    }
    text + "Content-Length: 0\r\n\r\n"
}

/// A request of the caller inside the dialog of a 200 that it got: along the route, to the Contact.
pub(crate) fn in_dialog(method: &str, ok: &Sent, cseq: u32) -> String {
    let uri = ok.header("Contact").trim_matches(['<', '>']).to_owned();
    let routes: String = ok.headers("Record-Route").iter().rev().map(|route| format!("Route: {route}\r\n")).collect();
    let id = ok.header("Call-ID");
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {CALLER};branch=z9hG4bK-{id}-{method}-{cseq};rport\r\n\
         Max-Forwards: 70\r\n{routes}From: {}\r\nTo: {}\r\nCall-ID: {id}\r\nCSeq: {cseq} {method}\r\n\
         Content-Length: 0\r\n\r\n",
        ok.header("From"),
        ok.header("To"),
    )
}

/// A request of the destination inside the dialog of the INVITE that it got: along its Record-Routes, to the From URI.
pub(crate) fn from_destination(method: &str, invite: &Sent, cseq: u32) -> String {
    let routes: String = invite.headers("Record-Route").iter().map(|route| format!("Route: {route}\r\n")).collect();
    let id = invite.header("Call-ID");
    format!(
        "{method} sip:{CALLER} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bK-{id}-{method}-{cseq};rport\r\n\
         Max-Forwards: 70\r\n{routes}From: {};tag=srv\r\nTo: {}\r\nCall-ID: {id}\r\nCSeq: {cseq} {method}\r\n\
         Content-Length: 0\r\n\r\n",
        invite.to,
        invite.header("To"),
        invite.header("From"),
    )
}

/// The first lines.
pub(crate) fn lines(sent: &[Sent]) -> Vec<String> {
    sent.iter().map(Sent::line).collect()
}

/// Milliseconds at which they were sent.
pub(crate) fn times(sent: &[Sent]) -> Vec<u64> {
    sent.iter().map(|one| one.at.as_millis() as u64).collect()
}

/// Seconds.
pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
