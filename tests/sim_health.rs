//! Health in a bad world, on virtual time: destinations die, hang, flap, are busy, the network loses; then all is well, and
//! nobody may be dead for ever. One number, the seed, decides everything.
//!
//! `TANDEM_SIM_SEED=7` runs one seed, `TANDEM_SIM_SEEDS=10000` that many.

mod model;
mod server;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fastrand::Rng;
use tandem::engine::dispatch::{
    Algorithm, Check, CheckKind, Damping, Failover, InitState, Judgement, Observe, Panic, PanicMode, Policy, Probing,
    Row, SetId, Sets, SipProbe, SlowStart, When,
};
use tandem::engine::flow::{ConnectionId, Flow, ListenerId, Transport};
use tandem::engine::{Engine, Input, Instant, Now, Output};

use self::model::Model;
use self::server::{Manner, Server};
use crate::harness::{self, INSIDE, OUTSIDE};
use crate::sim::caller::Timer as Due;
use crate::sim::client::{Client, T1};
use crate::sim::network::{Happening, Network, Timer};
use crate::sim::run_seeds;
use crate::sim::text::Text;

/// While destinations fail and datagrams are lost.
const BAD: Duration = Duration::from_secs(40);
/// In the end all get calls within this time.
const PROOF: Duration = Duration::from_secs(40);
/// Where the callers are.
const CALLER: &str = "127.0.0.1:5072";

struct Call {
    id: String,
    client: Client,
    cancelled: bool,
}

struct Sim {
    net: Network,
    engine: Engine,
    model: Model,
    servers: Vec<Server>,
    calls: Vec<Call>,
    rows: Sets,
    wish: u64,
    deadline: Option<Instant>,
    late: Duration,
    /// When all is well again and everybody must get calls.
    well: Duration,
}

fn observe(rng: &mut Rng, probing: bool) -> Observe {
    Observe {
        enabled: !probing || rng.u8(..4) > 0,
        consecutive_failures: [3, 3, 1, 5][rng.usize(..4)],
        failure_percentage_threshold: [85, 0, 30][rng.usize(..3)],
        failure_percentage_request_volume: [50, 5][rng.usize(..2)],
        base_ejection_time: Duration::from_secs([5, 5, 1, 20][rng.usize(..4)]),
        max_ejection_time: Duration::from_secs([60, 10, 20][rng.usize(..3)]),
        max_ejection_percent: [100, 100, 50, 0][rng.usize(..4)],
        ..Observe::default()
    }
}

fn probing(rng: &mut Rng) -> Probing {
    let mut check = Check::new(CheckKind::Sip(SipProbe::default()));
    check.interval = Duration::from_secs([1, 2, 5, 10][rng.usize(..4)]);
    check.down_interval = Duration::from_secs([1, 5][rng.usize(..2)]);
    check.timeout = Duration::from_millis([2000, 500][rng.usize(..2)]);
    (check.fall, check.rise) = (rng.u32(1..4), rng.u32(1..4));
    Probing {
        checks: vec![check],
        init_state: [InitState::Up, InitState::Unknown, InitState::Down][rng.usize(..3)],
        when: [When::Always, When::Always, When::Down, When::Idle][rng.usize(..4)],
        ..Probing::default()
    }
}

fn policy(rng: &mut Rng) -> Policy {
    let probed = rng.bool();
    let slow = rng.u8(..4) == 0;
    let threshold = [0, 0, 0, 50][rng.usize(..4)];
    Policy {
        algorithm: if slow || rng.bool() { Algorithm::RoundRobin } else { Algorithm::Random },
        failover: Failover {
            final_timeout: Duration::from_secs([30, 5][rng.usize(..2)]),
            max_retries: [3, 0, 8][rng.usize(..3)],
            ..Failover::default()
        },
        probing: if probed { probing(rng) } else { Probing::default() }.into(),
        judgement: Judgement {
            observe: observe(rng, probed),
            damping: (rng.u8(..4) == 0).then_some(Damping { half_life: Duration::from_secs(10), ..Damping::default() }),
            slow_start: slow.then_some(SlowStart { window: Duration::from_secs(20), ..SlowStart::default() }),
            ..Judgement::default()
        },
        panic: Panic { threshold, mode: [PanicMode::All, PanicMode::LastKnownGood, PanicMode::Fail][rng.usize(..3)] },
        ..Policy::of(SetId(19))
    }
}

/// How long the longest of all reasons may hold a destination out that is well again.
fn longest(policy: &Policy, late: Duration) -> Duration {
    let Observe { base_ejection_time, max_ejection_time, .. } = policy.judgement.observe;
    let ejection = max_ejection_time.max(base_ejection_time).mul_f64(1.25);
    let trial = policy.failover.first_response_timeout + policy.failover.final_timeout + Duration::from_secs(1);
    // Busy, by what a call was told just before; probes until they rise; the penalty for flapping.
    let (busy, probes, penalty) = (Duration::from_secs(20), Duration::from_secs(25), Duration::from_secs(30));
    ejection + trial + busy + probes + penalty + late * 10
}

impl Sim {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0x6865_616c_7468);
        let mut net = Network::new(rng.fork());
        let policy = policy(&mut rng);
        let late = Duration::from_millis([0, 0, 5, 300][rng.usize(..4)]);
        let well = BAD + longest(&policy, late);
        let addresses: Vec<_> = (0..rng.u16(1..=4)).map(|number| format!("10.129.39.88:{}", 7010 + number)).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let place = |(number, address): (usize, &&str)| {
            Server::new(number, address.parse().expect("an address"), BAD, &mut net)
        };
        let servers = addresses.iter().enumerate().map(place).collect();
        let trial = policy.failover.first_response_timeout + policy.failover.final_timeout + Duration::from_secs(1);
        let model = Model::new(format!("seed {seed}"), policy.panic.mode, trial);
        let mut config = harness::config();
        config.sets = vec![policy];
        let calls = rng.usize(20..100);
        for call in 0..calls {
            let at = net.up_to(BAD + Duration::from_secs(5));
            net.after(at, Happening::Fires(Timer::Caller(call, Due::Start)));
        }
        // A steady trickle while it heals, and more when everybody must be served.
        let end = well + PROOF;
        let (mut at, mut call) = (BAD, calls);
        while at < end {
            net.after(at, Happening::Fires(Timer::Caller(call, Due::Start)));
            at += if at < well { Duration::from_secs(2) } else { Duration::from_millis(700) };
            call += 1;
        }
        for _ in 0..rng.usize(..4) {
            let at = net.up_to(BAD);
            net.after(at, Happening::Reload);
        }
        net.after(BAD, Happening::Hostile);
        let engine = Engine::new(config, std::array::from_fn(|_| rng.u8(..)));
        let calls = (0..call).map(|number| new_call(seed, number)).collect();
        let rows = harness::set_19(&addresses);
        let mut sim = Sim { net, engine, model, servers, calls, rows, wish: 0, deadline: None, late, well };
        sim.load();
        sim
    }

    fn run(mut self) -> u64 {
        let end = self.well + PROOF;
        // The last call has its time too.
        while let Some(what) = self.net.next(end + Duration::from_secs(70)) {
            match what {
                Happening::Arrives { from, to, bytes } => self.arrives(from, to, &bytes),
                Happening::Refused { by, peer, quoted } => {
                    self.handle(Input::Refused { flow: flow(by, peer), quoted: &quoted });
                }
                Happening::Fires(Timer::Caller(call, due)) => self.calls[call].fires(call, due, &mut self.net),
                Happening::Fires(Timer::Destination(server, due)) => self.servers[server].fires(due, &mut self.net),
                Happening::Wake(_, wish) if self.wish == wish => self.handle(Input::Wake),
                Happening::Wake(..) | Happening::Poke(_) => {}
                Happening::Reload => self.load(),
                Happening::Hostile => self.net.heal(),
            }
        }
        self.model.is_over(self.net.now);
        for server in &self.servers {
            let called = self.model.last.get(&server.address).copied().unwrap_or_default();
            self.model.hold(
                called.0 >= self.well,
                &format!(
                    "{} is well since {BAD:?}, and got its last of {} calls at {:?}",
                    server.address, called.1, called.0
                ),
            );
        }
        self.model.tried
    }

    /// Other weights and descriptions; who stays is who it was.
    fn load(&mut self) {
        for row in self.rows.0.iter_mut().flat_map(|set| &mut set.rows) {
            *row = Row { description: self.net.rng.u8(..).to_string(), ..row.clone() };
        }
        let rows = self.rows.clone();
        self.handle(Input::Sets(rows));
    }

    fn arrives(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let text = Text::new(bytes);
        if [INSIDE, OUTSIDE].contains(&to.to_string().as_str()) {
            self.model.received(self.net.now, &text);
            return self.handle(Input::Received { flow: flow(to, from), bytes });
        }
        match self.servers.iter_mut().find(|server| server.address == to) {
            Some(server) => server.hears(from, &text, &mut self.net),
            None => {
                let call = self.calls.iter().position(|call| call.id == text.call_id());
                if let Some(call) = call {
                    self.calls[call].hears(&text, &mut self.net);
                }
            }
        }
    }

    fn now(&self) -> Now {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + self.net.now;
        Now { mono: Instant::after_start(self.net.now), wall }
    }

    fn handle(&mut self, input: Input<'_>) {
        let now = self.now();
        self.model.turn(self.net.now);
        // What a probe is told sends nobody anywhere: an INVITE then would find no set.
        let of_probe = matches!(&input, Input::Received { bytes, .. } if Text::new(bytes).cseq().1 == "OPTIONS");
        let before = if of_probe { Arc::default() } else { self.engine.snapshot(now) };
        let mut out = Vec::new();
        self.engine.handle(input, now, &mut out);
        let invites = |one: &Output| matches!(one, Output::Send { bytes, .. } if bytes.starts_with(b"INVITE"));
        let after = if out.iter().any(invites) { self.engine.snapshot(now) } else { before.clone() };
        for output in out {
            let Output::Send { flow, bytes } = output else { continue };
            let by: SocketAddr = [INSIDE, OUTSIDE][usize::from(flow.listener.0)].parse().expect("an address");
            self.model.sent(flow.peer, &Text::new(&bytes), &bytes, &before, &after);
            let server = self.servers.iter().find(|server| server.address == flow.peer);
            if server.is_some_and(|server| server.manner(self.net.now) == Manner::Dead) && self.net.chance(50) {
                let refused = Happening::Refused { by, peer: flow.peer, quoted: bytes.to_vec() };
                self.net.after(Duration::from_millis(1), refused);
            }
            self.net.send(by, flow.peer, bytes);
        }
        let deadline = self.engine.next_deadline();
        let overdue = deadline.is_some_and(|at| at.since_start() <= self.net.now);
        if deadline != self.deadline || overdue {
            self.deadline = deadline;
            self.wish += 1;
            if let Some(at) = deadline {
                let at = at.since_start().max(self.net.now) + self.net.up_to(self.late);
                self.net.after(at - self.net.now, Happening::Wake(0, self.wish));
            }
        }
    }
}

fn new_call(seed: u64, number: usize) -> Call {
    let id = format!("{seed}-{number}");
    let text = harness::invite(&id);
    Call { id, client: Client::new("INVITE", 1, text, Duration::ZERO), cancelled: false }
}

impl Call {
    fn fires(&mut self, number: usize, due: Due, net: &mut Network) {
        match due {
            Due::Start => {
                let text = self.client.bytes.clone();
                self.client = Client::new("INVITE", 1, text, net.now);
                self.send(&self.client.bytes, net);
                net.after(T1, Happening::Fires(Timer::Caller(number, Due::Resend(0))));
                if net.chance(8) {
                    let after = net.up_to(Duration::from_secs(4));
                    net.after(after, Happening::Fires(Timer::Caller(number, Due::Cancel)));
                }
            }
            Due::Resend(_) => {
                if let Some(wait) = self.client.again(net.now) {
                    self.send(&self.client.bytes, net);
                    net.after(wait, Happening::Fires(Timer::Caller(number, Due::Resend(0))));
                }
            }
            Due::Cancel if self.client.waits() && !self.cancelled => {
                self.cancelled = true;
                let text = self.client.bytes.replace("INVITE sip", "CANCEL sip").replace("1 INVITE", "1 CANCEL");
                self.send(&text, net);
            }
            Due::Cancel | Due::Request(_) => {}
        }
    }

    fn hears(&mut self, text: &Text, net: &mut Network) {
        let (Some(status), (_, "INVITE")) = (text.status(), text.cseq()) else { return };
        self.client.hear(status);
        if status >= 300 {
            let ack = self.client.bytes.replace("INVITE sip", "ACK sip").replace("1 INVITE", "1 ACK");
            self.send(&ack.replace(&format!("To: <sip:{INSIDE}>"), &format!("To: {}", text.header("To"))), net);
        }
    }

    fn send(&self, text: &str, net: &mut Network) {
        let [from, to] = [CALLER, INSIDE].map(|one| one.parse().expect("an address"));
        net.send(from, to, text);
    }
}

fn flow(by: SocketAddr, peer: SocketAddr) -> Flow {
    let listener = ListenerId(u16::from(by.to_string() == OUTSIDE));
    Flow { listener, transport: Transport::Udp, peer, connection: ConnectionId::default() }
}

#[test]
fn whatever_the_seed_the_unfit_get_no_call_and_nobody_is_dead_for_ever() {
    let tried = std::sync::atomic::AtomicU64::new(0);
    run_seeds("health simulation", |seed| {
        tried.fetch_add(Sim::new(seed).run(), std::sync::atomic::Ordering::Relaxed);
    });
    println!("health simulation: {} trials of half-open destinations", tried.into_inner());
}
