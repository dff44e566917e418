//! What the benches measure: calls through the engine, written down once and played again.

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/harness.rs"]
mod harness;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tandem::engine::dispatch::{Set, SetId, Sets};
use tandem::engine::flow::{ConnectionId, Flow, ListenerId, Transport};
use tandem::engine::trace::{Sample, TraceOrder};
use tandem::engine::{Engine, Input, Instant, Now, Output, Snapshot};

/// An INVITE of a real MRCP client, 886 bytes.
pub const INVITE: &str = include_str!("../../tests/captures/recog-01-client-INVITE.sip");
/// A real server's answer.
pub const OK: &str = include_str!("../../tests/captures/recog-03-server-200-INVITE.sip");

/// The messages of a call, in their order.
pub const MESSAGES: [&str; 6] = ["INVITE", "100", "200", "ACK", "BYE", "200 to BYE"];

/// Where the ACK stands in them.
pub const ACK: usize = 3;

/// Between two calls.
const PACE: Duration = Duration::from_millis(1);

/// One call: who sends what, in the order of [`MESSAGES`].
pub type Call = [(SocketAddr, Vec<u8>); 6];

/// An engine with its clock.
pub struct Player {
    engine: Engine,
    now: Duration,
    out: Vec<Output>,
}

impl Player {
    /// An engine with the article's set; always the same one.
    pub fn new() -> Self {
        Self::tracing(0)
    }

    /// The same where so many of a million calls are told of message by message.
    pub fn tracing(sample: u32) -> Self {
        let mut config = harness::config();
        config.trace.sample = Sample(sample);
        // As in `tandem run`, where logs are told of calls.
        config.call_events = true;
        config.records = true;
        let mut player = Player { engine: Engine::new(config, [3; 32]), now: Duration::ZERO, out: Vec::new() };
        player.load(harness::set_19(&harness::SERVERS));
        player
    }

    /// The same with another set of so many destinations, which nobody calls.
    pub fn beside(destinations: usize) -> Self {
        let mut player = Player::new();
        let Sets(mut sets) = harness::set_19(&harness::SERVERS);
        let address = |nth: usize| format!("10.{}.{}.1:7010", 1 + nth / 250, nth % 250);
        let others: Vec<_> = (0..destinations).map(address).collect();
        let Sets(others) = harness::set_19(&others.iter().map(String::as_str).collect::<Vec<_>>());
        sets.extend(others.into_iter().map(|set| Set { id: SetId(20), ..set }));
        player.load(Sets(sets));
        player
    }

    /// What the outside sees.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.engine.snapshot(self.time())
    }

    fn time(&self) -> Now {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + self.now;
        Now { mono: Instant::after_start(self.now), wall }
    }

    fn load(&mut self, sets: Sets) {
        self.handle(Input::Sets(sets));
        self.out.clear();
    }

    fn handle(&mut self, input: Input<'_>) {
        let now = self.time();
        self.engine.handle(input, now, &mut self.out);
    }

    /// Somebody asks for a call that never comes.
    pub fn ask_for_another(&mut self) {
        let (call_id, by, reason) = ("another".to_owned(), "bench".to_owned(), "bench".to_owned());
        self.handle(Input::Trace(&TraceOrder { call_id, by, reason, time: Duration::from_secs(86_400) }));
        self.out.clear();
    }

    /// Time moves on to the next call, and timers fire.
    pub fn next_call(&mut self) {
        self.now += PACE;
        while self.engine.next_deadline().is_some_and(|at| at.since_start() <= self.now) {
            self.handle(Input::Wake);
        }
        self.out.clear();
    }

    /// One message goes through; what comes out is counted and forgotten, in memory that is used again.
    pub fn play(&mut self, (peer, bytes): &(SocketAddr, Vec<u8>)) -> usize {
        self.receive(*peer, bytes);
        self.out.drain(..).filter(|output| matches!(output, Output::Send { .. })).count()
    }

    fn receive(&mut self, peer: SocketAddr, bytes: &[u8]) {
        let listener = ListenerId(u16::from(!peer.ip().is_loopback()));
        let flow = Flow { listener, transport: Transport::Udp, peer, connection: ConnectionId::default() };
        self.handle(Input::Received { flow, bytes });
    }

    /// What went out last.
    fn last(&mut self) -> (SocketAddr, String) {
        let mut sent = self.out.drain(..).filter_map(|output| match output {
            Output::Send { flow, bytes } => Some((flow.peer, String::from_utf8_lossy(&bytes).into_owned())),
            Output::Close(_) | Output::CloseAll(_) | Output::Event(_) | Output::Resolve { .. } => None,
            Output::Check { .. } | Output::AskAgent { .. } => None,
        });
        let last = sent.next_back();
        last.expect("each message of a call goes on")
    }

    /// Plays `count` calls that nobody has played before, and writes them down. Played to a new [`Player`] in the same
    /// order they have the same effect, since an engine without clock and chance of its own repeats itself.
    pub fn record(count: usize) -> Vec<Call> {
        let mut player = Player::new();
        (0..count).map(|number| player.record_one(number)).collect()
    }

    fn record_one(&mut self, number: usize) -> Call {
        self.next_call();
        let caller: SocketAddr = "127.0.0.1:8062".parse().expect("an address");
        let id = format!("{number:08}");
        let invite = INVITE.replace("6183-1240", &id[..8]).replace("z9hG4bKBDH90Hea", &format!("z9hG4bK{id}"));
        self.receive(caller, invite.as_bytes());
        let (server, forwarded) = self.last();
        let answer = |request: &str, line: &str, rest: &str| {
            let mut text = format!("{line}\r\n");
            for name in ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq"] {
                for header in request.split("\r\n").filter(|header| header.starts_with(&format!("{name}: "))) {
                    let tag = if name == "To" && !header.contains("tag=") { ";tag=UNQjZ16ZN77HK" } else { "" };
                    text += &format!("{header}{tag}\r\n");
                }
            }
            (text + rest).into_bytes()
        };
        let trying = answer(&forwarded, "SIP/2.0 100 Trying", "Content-Length: 0\r\n\r\n");
        self.receive(server, &trying);
        let rest = OK.split_once("Contact: ").expect("a real answer has a Contact").1;
        let ok = answer(&forwarded, "SIP/2.0 200 OK", &format!("Contact: {rest}"));
        self.receive(server, &ok);
        let (_, passed) = self.last();
        let headers = |name: &str| -> Vec<String> {
            passed.split("\r\n").filter(|line| line.starts_with(name)).map(str::to_owned).collect()
        };
        let routes = headers("Record-Route: ");
        let request = |method: &str, cseq: u32| {
            let routes: String =
                routes.iter().rev().map(|route| format!("{}\r\n", &route["Record-".len()..])).collect();
            let of_dialog: String = ["From: ", "To: ", "Call-ID: "]
                .iter()
                .flat_map(|name| headers(name))
                .map(|line| line + "\r\n")
                .collect();
            let text = format!(
                "{method} sip:{server} SIP/2.0\r\nVia: SIP/2.0/UDP {caller};rport;branch=z9hG4bK{id}{method}\r\n\
                 Max-Forwards: 70\r\n{routes}{of_dialog}CSeq: {cseq} {method}\r\n\
                 User-Agent: OPENSIPS_TTS_MRCP_CLIENT\r\nContent-Length: 0\r\n\r\n"
            );
            text.into_bytes()
        };
        let (ack, bye) = (request("ACK", 123_145_622), request("BYE", 123_145_623));
        self.receive(caller, &ack);
        self.last();
        self.receive(caller, &bye);
        let (_, forwarded_bye) = self.last();
        let bye_ok = answer(&forwarded_bye, "SIP/2.0 200 OK", "Content-Length: 0\r\n\r\n");
        self.receive(server, &bye_ok);
        assert!(self.last().1.starts_with("SIP/2.0 200"));
        [(caller, invite.into_bytes()), (server, trying), (server, ok), (caller, ack), (caller, bye), (server, bye_ok)]
    }
}

impl Default for Player {
    fn default() -> Self {
        Self::new()
    }
}
