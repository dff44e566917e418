//! Whole calls on virtual time: honest callers and destinations, a bad network, reloads, strangers, and a model that
//! holds every datagram against the rules. One number, the seed, decides everything.
//!
//! `TANDEM_SIM_SEED=7` runs one seed, `TANDEM_SIM_SEEDS=10000` that many.

pub(crate) mod caller;
pub(crate) mod client;
pub(crate) mod destination;
mod hostile;
mod model;
pub(crate) mod network;
mod search;
pub(crate) mod text;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use fastrand::Rng;
use tandem::engine::dispatch::{Algorithm, Judgement, Observe, Policy, Row, RowState, Set, SetId, Sets};
use tandem::engine::flow::{ConnectionId, Flow, ListenerId, Transport};
use tandem::engine::transaction::timing::Timing;
use tandem::engine::{Engine, Input, Instant, Now, Output};

use self::caller::Call;
use self::destination::{Kind, Leg};
use self::hostile::Stranger;
use self::model::Model;
use self::network::{Happening, Network, Timer};
use self::text::Text;
use crate::harness::{self, INSIDE, OUTSIDE};

/// Seeds in an ordinary run of the tests.
const SEEDS: u64 = 3000;
/// No further seed is begun after this much time of all processors; a slow machine tries fewer.
const BUDGET: Duration = Duration::from_secs(60);
/// While calls begin, sets are loaded and strangers come.
const BUSY: Duration = Duration::from_secs(60);

/// One engine, and when it wants to be woken.
struct Node {
    engine: Engine,
    addresses: [SocketAddr; 2],
    deadline: Option<Instant>,
    wish: u64,
    /// When it will be woken.
    wake: Option<Duration>,
    /// By how much a wake-up may be late.
    late: Duration,
}

/// One run.
struct Sim {
    net: Network,
    nodes: Vec<Node>,
    model: Model,
    calls: Vec<Call>,
    call_of: HashMap<String, usize>,
    legs: Vec<Leg>,
    leg_of: HashMap<(SocketAddr, String), usize>,
    destinations: Vec<SocketAddr>,
    kinds: Vec<Kind>,
    stranger: Stranger,
    lifetime: Duration,
}

impl Sim {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut net = Network::new(rng.fork());
        let address = |text: String| text.parse::<SocketAddr>().expect("an address");
        let destinations: Vec<_> =
            (0..rng.u16(2..=5)).map(|number| address(format!("10.129.39.88:{}", 7010 + number))).collect();
        let algorithm =
            if rng.bool() { Algorithm::RoundRobin } else { Algorithm::ALL[rng.usize(..Algorithm::ALL.len())] };
        // Most sessions end by BYE; in some runs lifetimes are so short that they end first.
        let lifetime = Duration::from_secs([3600, 3600, 3600, 20][rng.usize(..4)]);
        let late = Duration::from_millis([0, 0, 5, 300, 3000][rng.usize(..5)]);
        let failover = search::policy(&mut net);
        let mut model = Model::new(format!("seed {seed}"), algorithm, (failover, late), lifetime < BUSY, &destinations);
        let addresses = [address(INSIDE.into()), address(OUTSIDE.into())];
        let stranger = Stranger::new(addresses);
        stranger.addresses().into_iter().for_each(|one| model.expect_stranger(one));
        let mut config = harness::config();
        // This model keeps no health: `sim_health` does.
        let judgement = Judgement { observe: Observe { enabled: false, ..Observe::default() }, ..Judgement::default() };
        config.sets = vec![Policy { algorithm, failover, judgement, ..Policy::of(SetId(19)) }];
        config.limits.session_lifetime = lifetime;
        config.call_events = rng.bool();
        let node = Node {
            engine: Engine::new(config, std::array::from_fn(|_| rng.u8(..))),
            addresses,
            deadline: None,
            wish: 0,
            wake: None,
            late,
        };
        let mut calls = Vec::new();
        for number in 0..rng.usize(1..30) {
            let id = format!("{seed}-{number}");
            let (address, proxy) = match rng.u16(..5) {
                place @ ..3 => (address(format!("127.0.0.1:{}", 5072 + place)), addresses[0]),
                place => (address(format!("10.50.0.{place}:5060")), addresses[1]),
            };
            model.expect_call(&id, address);
            calls.push(Call::new(number, id, address, proxy, &mut net));
        }
        // In some runs one destination is good and the others are dead.
        let mut kinds = vec![Kind::Mixed; destinations.len()];
        if net.chance(20) {
            let dead = [Kind::Mute, Kind::Refuses(503), Kind::Refuses(486), Kind::Mixed];
            kinds.iter_mut().for_each(|kind| *kind = dead[net.rng.usize(..4)]);
            let good = net.rng.usize(..kinds.len());
            kinds[good] = Kind::Good;
            net.clear = Some(destinations[good]);
        }
        for &destination in &destinations {
            if net.chance(15) && net.clear != Some(destination) {
                let from = net.up_to(BUSY);
                let until = from + net.up_to(BUSY);
                net.deaf.push((destination, from, until));
            }
        }
        for (what, most) in
            [(0, [0, 1, 10][net.rng.usize(..3)]), (1, [0, 5, 40][net.rng.usize(..3)]), (2, net.rng.u32(..20))]
        {
            for _ in 0..most {
                let at = net.up_to(BUSY);
                let happening = match what {
                    0 => Happening::Reload,
                    1 => Happening::Hostile,
                    _ => Happening::Poke(0),
                };
                net.after(at, happening);
            }
        }
        let call_of = calls.iter().enumerate().map(|(number, call)| (call.id.clone(), number)).collect();
        let (legs, leg_of) = (Vec::new(), HashMap::new());
        let mut sim = Sim {
            net,
            nodes: vec![node],
            model,
            calls,
            call_of,
            legs,
            leg_of,
            destinations,
            kinds,
            stranger,
            lifetime,
        };
        sim.reload(true);
        sim
    }

    /// The whole run.
    fn run(mut self) {
        let timers = Timing::RFC_3261.give_up() + Timing::RFC_3261.timer_c + self.nodes[0].late * 4;
        let mut end = BUSY + Duration::from_secs(240);
        while self.net.now < end {
            self.run_until(end);
            end = self.model.last_heard.max(BUSY + Duration::from_secs(240)) + timers;
        }
        let snapshot = self.nodes[0].engine.snapshot(self.now());
        self.model.is_over(&snapshot);
        let chosen: u64 = snapshot.sets.iter().flat_map(|set| &set.destinations).map(|one| one.selections).sum();
        self.model.hold(chosen <= self.model.selections, "more selections are counted than were made");
        self.is_nobody_left_alone();
        self.run_until(end + self.lifetime + self.nodes[0].late + Duration::from_secs(1));
        let sessions = self.nodes[0].engine.snapshot(self.now()).sessions;
        self.model.hold(sessions == 0, "a session outlives its lifetime");
        self.model.hold(self.nodes[0].engine.next_deadline().is_none(), "an idle engine wants to be woken");
    }

    /// Every session that a destination believes in is its caller's.
    fn is_nobody_left_alone(&self) {
        for leg in self.legs.iter().filter(|leg| leg.believes()) {
            let call = self.leg_of.iter().find(|(_, number)| self.legs[**number].tag() == leg.tag());
            let call = call.and_then(|((_, id), _)| self.call_of.get(id)).map(|call| &self.calls[*call]);
            let deaf = self.net.deaf.iter().any(|(who, ..)| *who == leg.address);
            let own = call.is_some_and(|call| call.tag() == Some(leg.tag().as_str()));
            self.model.hold(own || deaf, &format!("{leg:?} has a session without a caller"));
        }
    }

    fn run_until(&mut self, end: Duration) {
        while let Some(what) = self.net.next(end) {
            match what {
                Happening::Arrives { from, to, bytes } => self.arrives(from, to, &bytes),
                Happening::Refused { by, peer, quoted } => {
                    if let Some((node, listener)) = self.listener(by) {
                        self.model.refused(self.net.now, by, peer, &quoted);
                        self.handle(node, Input::Refused { flow: flow(listener, peer), quoted: &quoted });
                    }
                }
                Happening::Fires(Timer::Caller(call, timer)) => self.calls[call].fires(timer, &mut self.net),
                Happening::Fires(Timer::Destination(leg, timer)) => self.legs[leg].fires(timer, &mut self.net),
                Happening::Wake(node, wish) if self.nodes[node].wish == wish => {
                    self.handle(node, Input::Wake);
                    let next = self.nodes[node].engine.next_deadline();
                    let ahead = next.is_none_or(|next| next.since_start() > self.net.now);
                    self.model.hold(ahead, "work is overdue right after a wake-up");
                }
                Happening::Wake(..) => {}
                Happening::Poke(node) => self.poke(node),
                Happening::Reload => self.reload(false),
                Happening::Hostile => {
                    if let Some((from, to, bytes)) = self.stranger.next(&mut self.net.rng, &self.destinations) {
                        self.net.send(from, to, bytes);
                    }
                }
            }
        }
    }

    /// The engine is woken early: it must have nothing to do.
    fn poke(&mut self, node: usize) {
        if self.nodes[node].engine.next_deadline().is_none_or(|next| next.since_start() > self.net.now) {
            let before = self.nodes[node].engine.snapshot(self.now());
            let sent = self.handle(node, Input::Wake);
            let after = self.nodes[node].engine.snapshot(self.now());
            let same = (before.transactions, before.sessions) == (after.transactions, after.sessions);
            self.model.hold(sent == 0 && same, "there was work to do before the deadline");
        }
    }

    fn arrives(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        if let Some((node, listener)) = self.listener(to) {
            self.model.received(self.net.now, from, to, bytes);
            self.handle(node, Input::Received { flow: flow(listener, from), bytes });
            return self.model.turn_is_over();
        }
        if self.net.is_deaf(to) {
            return;
        }
        let text = Text::new(bytes);
        let id = text.call_id();
        match self.call_of.get(id) {
            Some(&call) if self.calls[call].address == to => self.calls[call].hears(from, &text, &mut self.net),
            _ if self.destinations.contains(&to) => {
                let number = *self.leg_of.entry((to, id.to_owned())).or_insert_with(|| {
                    let place = self.destinations.iter().position(|one| *one == to).expect("asked for above");
                    self.legs.push(Leg::new(self.legs.len(), to, self.kinds[place], &mut self.net));
                    self.legs.len() - 1
                });
                self.legs[number].hears(from, &text, &mut self.net);
            }
            _ => {}
        }
    }

    /// The node and its listener that have this address.
    fn listener(&self, address: SocketAddr) -> Option<(usize, u16)> {
        let place = |node: &Node| node.addresses.iter().position(|one| *one == address);
        self.nodes.iter().enumerate().find_map(|(number, node)| Some((number, place(node)? as u16)))
    }

    /// One turn of an engine; how many datagrams it sent.
    fn now(&self) -> Now {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + self.net.now;
        Now { mono: Instant::after_start(self.net.now), wall }
    }

    fn handle(&mut self, number: usize, input: Input<'_>) -> usize {
        let turn = self.now();
        let node = &mut self.nodes[number];
        let now = self.net.now;
        let mut out = Vec::new();
        node.engine.handle(input, turn, &mut out);
        let mut sent = 0;
        for output in out {
            let Output::Send { flow, bytes } = output else { continue };
            sent += 1;
            let by = node.addresses[usize::from(flow.listener.0)];
            self.model.sent(now, by, flow.peer, &bytes);
            self.stranger.sees(&bytes);
            if self.net.is_deaf(flow.peer) && self.net.chance(50) {
                self.net.after(
                    Duration::from_millis(1),
                    Happening::Refused { by, peer: flow.peer, quoted: bytes.to_vec() },
                );
            }
            self.net.send(by, flow.peer, bytes);
        }
        // It is woken late, but no later for what comes meanwhile.
        let deadline = node.engine.next_deadline();
        if deadline != node.deadline || node.wake.is_some_and(|at| at <= now) {
            let at = deadline.map(|at| at.since_start().max(now) + self.net.up_to(node.late));
            let pending = node.wake.filter(|at| *at > now);
            node.deadline = deadline;
            node.wake = at.map(|at| pending.map_or(at, |pending| at.min(pending)));
            node.wish += 1;
            if let Some(at) = node.wake {
                self.net.after(at - now, Happening::Wake(number, node.wish));
            }
        }
        sent
    }

    /// Other rows, weights and states take effect on all nodes.
    fn reload(&mut self, whole: bool) {
        let rng = &mut self.net.rng;
        let weights = [1, 1, 3, 20][rng.usize(..4)];
        let mut rows = Vec::new();
        for (number, &address) in self.destinations.iter().enumerate() {
            if !whole && rng.u8(..5) == 0 {
                continue;
            }
            rows.push(Row {
                row: number as i64 + 1,
                uri: format!("sip:{address}"),
                address,
                transport: Transport::Udp,
                socket: None,
                weight: if rng.u8(..10) == 0 { 0 } else { rng.u32(1..=weights) },
                priority: rng.i32(0..3) * 50,
                state: [RowState::Active, RowState::Active, RowState::Active, RowState::Active, RowState::Inactive]
                    [if whole { 0 } else { rng.usize(..5) }],
                attrs: String::new(),
                description: String::new(),
            });
        }
        self.model.loaded(&rows);
        for node in 0..self.nodes.len() {
            self.handle(node, Input::Sets(Sets(vec![Set { id: SetId(19), rows: rows.clone() }])));
        }
    }
}

fn flow(listener: u16, peer: SocketAddr) -> Flow {
    let connection = ConnectionId::default();
    Flow { listener: ListenerId(listener), transport: Transport::Udp, peer, connection }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs as many seeds as fit into the budget, or those that the environment asks for.
pub(crate) fn run_seeds(what: &str, run: impl Fn(u64) + Sync) {
    run_some_seeds(what, BUDGET, run);
}

/// The same with another budget; how many they were.
pub(crate) fn run_some_seeds(what: &str, budget: Duration, run: impl Fn(u64) + Sync) -> u64 {
    if let Some(seed) = number("TANDEM_SIM_SEED") {
        run(seed);
        return 1;
    }
    let wanted = number("TANDEM_SIM_SEEDS");
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get().min(8)) as u32;
    let (next, done, begun) = (AtomicU64::new(0), AtomicU64::new(0), std::time::Instant::now());
    let in_time = || wanted.is_some() || begun.elapsed() * threads < budget;
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while in_time() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= wanted.unwrap_or(SEEDS) {
                        return;
                    }
                    run(seed);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let done = done.into_inner();
    println!("{what}: {done} seeds in {:?} on {threads} threads", begun.elapsed());
    done
}

#[test]
fn whatever_the_seed_every_invite_has_one_final_answer_and_nothing_is_left_behind() {
    run_seeds("simulation", |seed| Sim::new(seed).run());
}
