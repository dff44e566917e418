//! A million live sessions in the engine: bytes each, the time of each operation beside 1,000, 100,000 and 1,000,000 of them,
//! and the longest turn when 10,000 end at the same moment. They come and go by real messages. Fails above 1 kB a session.
//! Times are of the thread's own processor time, so that other processes do not count.

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/harness.rs"]
mod harness;

use std::alloc::System;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};
use std::{env, fs};

use nix::time::{ClockId, clock_gettime};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tandem::engine::dispatch::SessionPolicy;
use tandem::engine::flow::{ConnectionId, Flow, ListenerId, Transport};
use tandem::engine::sip::Message;
use tandem::engine::{Engine, Input, Instant, Now, Output};
use tandem_benches::{INVITE, OK};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What a session may take, all told.
const MOST_BYTES: usize = 1024;
/// Between two calls.
const PACE: Duration = Duration::from_millis(1);
/// Longer than any transaction of an answered call lasts.
const QUIET: Duration = Duration::from_secs(70);
const MAX_DURATION: Duration = Duration::from_secs(1200);
/// Sessions that are set up at one moment, and so end at one.
const TOGETHER: usize = 10_000;
/// Operations of each kind that are timed.
const TIMED: usize = 500;

/// A session that requests are made in.
struct Kept {
    server: SocketAddr,
    /// Route, From, To and Call-ID lines of the caller's requests.
    lines: String,
    id: String,
    cseq: u32,
}

struct Lab {
    engine: Engine,
    now: Duration,
    out: Vec<Output>,
    begun: usize,
    random: u64,
    longest_wake: Duration,
}

fn main() {
    // As a filter of `cargo bench` means it.
    if env::args().skip(1).any(|filter| !filter.starts_with('-') && !"sessions".contains(&filter)) {
        return;
    }
    println!(
        "{:>9} {:>9} {:>9} {:>14} {:>14} {:>14} {:>14} {:>20}",
        "sessions", "bytes", "RSS MB", "INVITE us", "200 us", "INFO us", "BYE us", "wake us"
    );
    println!("{:>9} {:>9} {:>9} {}", "", "each", "", " median   most".repeat(4) + "   median a session  most");
    for sessions in [1_000, 100_000, 1_000_000] {
        beside(sessions);
    }
}

fn beside(sessions: usize) {
    let before = live_bytes();
    let mut lab = Lab::new();
    let last = sessions == 1_000_000;
    let mut kept = Vec::new();
    let mut growth = [Duration::ZERO; 2];
    while lab.begun < sessions {
        if !last || lab.begun >= TOGETHER {
            lab.pass(PACE);
        }
        let (one, times) = lab.set_up();
        growth = [0, 1].map(|nth| growth[nth].max(times[nth]));
        if lab.begun.is_multiple_of(sessions / 1000) {
            kept.push(one);
        }
    }
    let ramp_wake = std::mem::take(&mut lab.longest_wake);
    let mut wakes = lab.pass(QUIET);
    let own: usize = kept.iter().map(|one: &Kept| one.lines.capacity() + one.id.capacity() + size_of::<Kept>()).sum();
    let each = (live_bytes() - before - own) / sessions;
    let rss = rss() >> 20;
    let (mut byes, mut invites, mut answers, mut infos) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TIMED {
        let place = lab.chance(kept.len());
        let mut one = kept.swap_remove(place);
        byes.push(lab.within(&mut one, "BYE"));
        let (one, [invite, answer]) = lab.set_up();
        invites.push(invite);
        answers.push(answer);
        kept.push(one);
        let place = lab.chance(kept.len());
        infos.push(lab.within(&mut kept[place], "INFO"));
        wakes.extend(lab.pass(PACE));
    }
    assert_eq!(lab.sessions(), sessions, "each BYE ends a session, and each INVITE begins one");
    // Each session is looked at once a minute.
    let looks = sessions as f64 * (QUIET + PACE * TIMED as u32).as_secs_f64() / 60.0;
    let a_session = wakes.iter().sum::<Duration>().as_secs_f64() * 1e6 / looks;
    println!(
        "{sessions:>9} {each:>9} {rss:>9} {} {} {} {} {:>8} {a_session:>9.2} {:>6}",
        both(&mut invites),
        both(&mut answers),
        both(&mut infos),
        both(&mut byes),
        median(&mut wakes).as_micros(),
        wakes.last().copied().unwrap_or_default().as_micros(),
    );
    println!(
        "{:>9} while they came: longest INVITE {} us, 200 {} us, wake {} us",
        "",
        growth[0].as_micros(),
        growth[1].as_micros(),
        ramp_wake.as_micros()
    );
    if last {
        end_together(lab, sessions);
        assert!(each <= MOST_BYTES, "a session takes {each} bytes, more than {MOST_BYTES}");
    }
}

/// The moment at which the first ones have lasted as long as they may.
fn end_together(mut lab: Lab, sessions: usize) {
    let left = MAX_DURATION - lab.now - PACE;
    lab.pass(left);
    assert_eq!(lab.sessions(), sessions, "nobody ends early");
    lab.now += PACE;
    let mut turns = Vec::new();
    let mut byes = 0;
    while lab.is_due() {
        turns.push(lab.handle(Input::Wake));
        byes += lab.out.drain(..).filter(|output| matches!(output, Output::Send { .. })).count();
    }
    let ended = sessions - lab.sessions();
    let all: Duration = turns.iter().sum();
    let count = turns.len();
    println!(
        "{ended} of {sessions} reach max_duration at one moment: {byes} BYEs in {count} turns, {:.1} ms in all; a turn takes \
         {} us, the longest {} us",
        all.as_secs_f64() * 1000.0,
        median(&mut turns).as_micros(),
        turns.last().copied().unwrap_or_default().as_micros(),
    );
    assert!(ended >= TOGETHER - TIMED, "those that had no BYE before");
}

impl Lab {
    fn new() -> Self {
        let mut config = harness::config();
        config.records = true;
        config.call_events = false;
        config.limits.sessions = 2_000_000;
        config.sets[0].session = SessionPolicy { max_duration: Some(MAX_DURATION), ..SessionPolicy::default() };
        let engine = Engine::new(config, [3; 32]);
        let mut lab =
            Lab { engine, now: Duration::ZERO, out: Vec::new(), begun: 0, random: 9, longest_wake: Duration::ZERO };
        lab.handle(Input::Sets(harness::set_19(&harness::SERVERS)));
        lab
    }

    /// Takes one input; the time that this took.
    fn handle(&mut self, input: Input<'_>) -> Duration {
        let now = self.now();
        self.out.clear();
        let began = processor_time();
        self.engine.handle(input, now, &mut self.out);
        processor_time() - began
    }

    fn now(&self) -> Now {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + self.now;
        Now { mono: Instant::after_start(self.now), wall }
    }

    fn receive(&mut self, peer: SocketAddr, text: &str) -> Duration {
        let listener = ListenerId(u16::from(!peer.ip().is_loopback()));
        let flow = Flow { listener, transport: Transport::Udp, peer, connection: ConnectionId::default() };
        self.handle(Input::Received { flow, bytes: text.as_bytes() })
    }

    /// What went out last, and where.
    fn last(&self) -> (SocketAddr, String) {
        let sent = self.out.iter().rev().find_map(|output| match output {
            Output::Send { flow, bytes } => Some((flow.peer, String::from_utf8_lossy(bytes).into_owned())),
            Output::Close(_) | Output::CloseAll(_) | Output::Event(_) => None,
            Output::Resolve { .. } | Output::Check { .. } | Output::AskAgent { .. } => None,
        });
        sent.expect("each message goes on")
    }

    /// Lets time pass; how long each turn took.
    fn pass(&mut self, time: Duration) -> Vec<Duration> {
        let end = self.now + time;
        let mut turns = Vec::new();
        while let Some(at) = self.engine.next_deadline().map(Instant::since_start).filter(|at| *at <= end) {
            self.now = self.now.max(at);
            let took = self.handle(Input::Wake);
            self.longest_wake = self.longest_wake.max(took);
            turns.push(took);
        }
        self.now = end;
        turns
    }

    fn is_due(&self) -> bool {
        self.engine.next_deadline().is_some_and(|at| at.since_start() <= self.now)
    }

    fn sessions(&self) -> usize {
        self.engine.snapshot(self.now()).sessions
    }

    /// A number below `most`.
    fn chance(&mut self, most: usize) -> usize {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) as usize % most
    }

    /// A new session; how long its INVITE and its 200 took.
    fn set_up(&mut self) -> (Kept, [Duration; 2]) {
        let id = format!("{:08}", self.begun);
        self.begun += 1;
        let caller = caller();
        let invite = INVITE
            .replace("90b5e53f", &id)
            .replace("z9hG4bKBDH90Hea", &format!("z9hG4bK{id}"))
            .replace("BDUF4prD", &format!("{id}a"));
        let took = self.receive(caller, &invite);
        let (server, forwarded) = self.last();
        let rest = OK.split_once("Contact: ").expect("a real answer has a Contact").1;
        // No timer runs out before max_duration.
        let rest = rest.replace("Session-Expires: 600", "Session-Expires: 7200");
        let ok = answer(&forwarded, &format!("Contact: {rest}").replace("127.0.0.1:7010", &server.to_string()));
        let took_200 = self.receive(server, &ok);
        let (_, passed) = self.last();
        assert!(passed.starts_with("SIP/2.0 200"), "{passed}");
        let ok = Message::parse(passed.as_bytes()).expect("SIP");
        let mut routes: Vec<_> =
            ok.headers(b"Record-Route").map(|route| format!("Route: {}\r\n", text(route))).collect();
        routes.reverse();
        let mut lines = routes.concat();
        for name in ["From", "To", "Call-ID"] {
            lines += &format!("{name}: {}\r\n", text(ok.header(name.as_bytes()).unwrap_or_default()));
        }
        let mut one = Kept { server, lines, id, cseq: 123_145_622 };
        self.within(&mut one, "ACK");
        (one, [took, took_200])
    }

    /// A request of the caller, and the server's answer; how long the request took.
    fn within(&mut self, one: &mut Kept, method: &str) -> Duration {
        one.cseq += u32::from(method != "ACK");
        let Kept { server, lines, id, cseq } = one;
        let request = format!(
            "{method} sip:{server} SIP/2.0\r\nVia: SIP/2.0/UDP {};rport;branch=z9hG4bK{id}{method}{cseq}\r\n\
             Max-Forwards: 70\r\n{lines}CSeq: {cseq} {method}\r\nContent-Length: 0\r\n\r\n",
            caller()
        );
        let took = self.receive(caller(), &request);
        let (to, forwarded) = self.last();
        assert_eq!(to, *server, "{forwarded}");
        if method != "ACK" {
            let ok = answer(&forwarded, "Content-Length: 0\r\n\r\n");
            self.receive(to, &ok);
        }
        took
    }
}

fn caller() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8062))
}

/// The 200 to a request.
fn answer(request: &str, rest: &str) -> String {
    let mut text = String::from("SIP/2.0 200 OK\r\n");
    for line in request.split("\r\n").take_while(|line| !line.is_empty()) {
        let name = line.split(':').next().unwrap_or_default();
        if ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq"].contains(&name) {
            let tag = if name == "To" && !line.contains("tag=") { ";tag=UNQjZ16ZN77HK" } else { "" };
            text += &format!("{line}{tag}\r\n");
        }
    }
    text + rest
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Median and the longest, in microseconds.
fn both(times: &mut [Duration]) -> String {
    let median = median(times).as_secs_f64() * 1e6;
    format!("{median:>7.1} {:>6}", times.last().copied().unwrap_or_default().as_micros())
}

fn live_bytes() -> usize {
    let stats = COUNTED.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Bytes of this process that are in memory.
fn rss() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("kB") << 10
}

fn processor_time() -> Duration {
    Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux has this clock"))
}
