//! Sessions and all their endings on virtual time: callers and destinations that are forked, cross each other, forget or die,
//! a network that loses and doubles, operators, restarts; and a model that knows from what passes by which sessions live.
//! One number, the seed, decides everything.
//!
//! `TANDEM_SIM_SEED=7` runs one seed, `TANDEM_SIM_SEEDS=10000` that many.

mod caller;
mod end;
mod keeping;
mod model;
mod server;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use fastrand::Rng;
use tandem::engine::dispatch::{
    Algorithm, AtMaxDuration, Check, CheckKind, Judgement, Observe, OnDown, Ping, PingLegs, PingMethod, Policy,
    Probing, SessionPolicy, SetId, SipProbe,
};
use tandem::engine::event::{EndOrder, Ending, Record, Which};
use tandem::engine::flow::{ConnectionId, Flow, ListenerId, Transport};
use tandem::engine::{Config, Engine, Event, Input, Instant, Now, Output};

use self::caller::Call;
use self::end::End;
use self::model::{Model, Rules, Sent, Step};
use self::server::Leg;
use crate::harness::{self, INSIDE, OUTSIDE};
use crate::sim::network::{Happening, Network};
use crate::sim::run_seeds;
use crate::sim::text::Text;

/// While calls begin and operators act.
const BUSY: Duration = Duration::from_secs(60);
/// Whoever lives hangs up then, or dies.
const LAST: Duration = Duration::from_secs(150);

/// Which end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Side {
    Caller,
    Destination,
}

/// Who acts when a timer fires.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Timer {
    Call(usize, caller::Due),
    Leg(usize, server::Due),
    End(usize, end::Due),
    Deed(Deed),
}

/// What happens to the node.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Deed {
    /// An operator ends that call.
    EndCall(usize),
    /// An operator ends all of that destination.
    EndDestination(usize),
    /// The callers' address is another node's, or ours again.
    Held(bool),
    /// It is started anew, with the same key.
    Restart,
    /// All ends that live hang up, as far as they do.
    AllHangUp,
    /// All ends die.
    AllDie,
}

pub(crate) type Net = Network<Timer>;

/// All ends of all dialogs.
#[derive(Default)]
pub(crate) struct Ends {
    pub(crate) all: Vec<End>,
    /// By the destination's tag.
    pub(crate) of: HashMap<(Side, String), usize>,
}

impl Ends {
    pub(crate) fn add(&mut self, make: impl FnOnce(usize) -> End) -> usize {
        let number = self.all.len();
        let end = make(number);
        self.of.insert((end.side, end.tag.clone()), number);
        self.all.push(end);
        number
    }
}

struct Sim {
    net: Net,
    engine: Engine,
    config: Config,
    model: Model,
    calls: Vec<Call>,
    call_of: HashMap<String, usize>,
    legs: Vec<Leg>,
    leg_of: HashMap<(SocketAddr, String), usize>,
    ends: Ends,
    destinations: Vec<SocketAddr>,
    deadline: Option<Instant>,
    wake: Option<Duration>,
    wish: u64,
    late: Duration,
    /// How long it takes at most to end all sessions of a destination.
    pace: Duration,
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn session_policy(rng: &mut Rng) -> SessionPolicy {
    let ping = Ping {
        method: [PingMethod::Options, PingMethod::Update][rng.usize(..2)],
        legs: [PingLegs::Caller, PingLegs::Destination, PingLegs::Both][rng.usize(..3)],
        interval: seconds([3, 10, 30][rng.usize(..3)]),
        timeout: seconds([1, 2][rng.usize(..2)]),
        fall: rng.u32(1..=3),
    };
    SessionPolicy {
        max_duration: [None, None, None, Some(seconds(20)), Some(seconds(60))][rng.usize(..5)],
        at_max_duration: [AtMaxDuration::Bye, AtMaxDuration::Silent][rng.usize(..2)],
        timer_grace: seconds([2, 32][rng.usize(..2)]),
        on_down: [OnDown::Keep, OnDown::Bye][rng.usize(..2)],
        bye_rate: [1, 10, 100][rng.usize(..3)],
        ping: Some(ping).filter(|_| rng.bool()),
    }
}

fn probing(rng: &mut Rng) -> Probing {
    let mut check = Check::new(CheckKind::Sip(SipProbe::default()));
    check.interval = seconds([2, 5][rng.usize(..2)]);
    check.timeout = Duration::from_millis([2000, 500][rng.usize(..2)]);
    (check.fall, check.rise) = (rng.u32(1..3), 1);
    Probing { checks: vec![check], ..Probing::default() }
}

impl Sim {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0x7365_7373);
        let mut net = Network::new(rng.fork());
        let destinations: Vec<SocketAddr> =
            (0..rng.u16(1..=3)).map(|number| ([10, 129, 39, 88], 7010 + number).into()).collect();
        let session = session_policy(&mut rng);
        let probed = rng.u8(..3) == 0;
        let most = [None, None, Some(1), Some(3), Some(8)][rng.usize(..5)];
        let mut policy = Policy {
            algorithm: Algorithm::ALL[rng.usize(..Algorithm::ALL.len())],
            probing: if probed { probing(&mut rng) } else { Probing::default() }.into(),
            // What calls tell of a destination is `sim_health`'s.
            judgement: Judgement { observe: Observe { enabled: false, ..Observe::default() }, ..Judgement::default() },
            session: session.clone(),
            ..Policy::of(SetId(19))
        };
        policy.capacity.max_sessions = most;
        policy.failover.final_timeout = seconds([30, 5][rng.usize(..2)]);
        let mut config = harness::config();
        config.sets = vec![policy];
        config.call_events = false;
        config.limits.session_lifetime = seconds([3600, 3600, 40][rng.usize(..3)]);
        config.limits.sessions = [1_000_000, 1_000_000, 1_000_000, 3][rng.usize(..4)];
        let late = Duration::from_millis([0, 0, 5, 300][rng.usize(..4)]);
        let pace = seconds(3 + 16 / u64::from(session.bye_rate)) + late * 40;
        let rules = Rules {
            policy: session,
            lifetime: config.limits.session_lifetime,
            table: config.limits.sessions,
            max_sessions: most,
        };
        let model = Model::new(format!("seed {seed}"), rules);
        let callers = [("127.0.0.1:5072", INSIDE), ("127.0.0.1:5073", INSIDE), ("10.50.0.1:5060", OUTSIDE)];
        let count = rng.usize(2..16);
        let call = |number: usize| {
            let (address, proxy) = callers[net.rng.usize(..3)];
            let [address, proxy] = [address, proxy].map(|one| one.parse().expect("an address"));
            Call::new(number, format!("{seed}-{number}"), address, proxy, &mut net)
        };
        let calls: Vec<_> = (0..count).map(call).collect();
        for &destination in &destinations {
            if net.chance(if probed { 40 } else { 8 }) {
                let from = net.up_to(BUSY);
                let until = from + net.up_to(BUSY);
                net.deaf.push((destination, from, until));
            }
        }
        let call_of = calls.iter().enumerate().map(|(number, call)| (call.id.clone(), number)).collect();
        let engine = Engine::new(config.clone(), std::array::from_fn(|_| rng.u8(..)));
        let mut sim = Sim {
            net,
            engine,
            config,
            model,
            calls,
            call_of,
            legs: Vec::new(),
            leg_of: HashMap::new(),
            ends: Ends::default(),
            destinations,
            deadline: None,
            wake: None,
            wish: 0,
            late,
            pace,
        };
        sim.plan(count);
        sim.load();
        sim
    }

    fn plan(&mut self, calls: usize) {
        let net = &mut self.net;
        let mut deeds = vec![(LAST, Deed::AllHangUp), (LAST + seconds(60), Deed::AllDie)];
        let busy = |net: &mut Net| net.up_to(BUSY + seconds(30));
        for _ in 0..[0, 0, 1, 4][net.rng.usize(..4)] {
            deeds.push((busy(net), Deed::EndCall(net.rng.usize(..calls))));
        }
        if net.chance(20) {
            deeds.push((busy(net), Deed::EndDestination(net.rng.usize(..self.destinations.len()))));
        }
        if net.chance(15) {
            // When no call is being set up any more: what becomes of those `vip.rs` shows.
            let at = BUSY + seconds(64) + net.up_to(seconds(10));
            deeds.push((at, Deed::Held(false)));
            deeds.push((at + net.up_to(seconds(10)), Deed::Held(true)));
        }
        if net.chance(15) {
            deeds.push((busy(net), Deed::Restart));
        }
        deeds.into_iter().for_each(|(at, deed)| net.after(at, Happening::Fires(Timer::Deed(deed))));
    }

    fn load(&mut self) {
        let addresses: Vec<_> = self.destinations.iter().map(SocketAddr::to_string).collect();
        let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
        self.handle(Input::Sets(harness::set_19(&addresses)), &Step::Other);
    }

    fn run(mut self) -> Model {
        let end = LAST + seconds(60 + 240) + self.model.rules.lifetime + self.late;
        while let Some(what) = self.net.next(end) {
            match what {
                Happening::Arrives { from, to, bytes } => self.arrives(from, to, &bytes),
                Happening::Fires(Timer::Call(call, due)) => self.calls[call].fires(due, &mut self.ends, &mut self.net),
                Happening::Fires(Timer::Leg(leg, due)) => self.legs[leg].fires(due, &mut self.ends, &mut self.net),
                Happening::Fires(Timer::End(end, due)) => self.ends.all[end].fires(due, &mut self.net),
                Happening::Fires(Timer::Deed(deed)) => self.happens(deed),
                Happening::Wake(_, wish) if self.wish == wish => {
                    self.handle(Input::Wake, &Step::Wake);
                    self.model.is_nobody_left_behind(self.pace);
                    let ahead =
                        |sim: &Sim| sim.engine.next_deadline().is_none_or(|next| next.since_start() > sim.net.now);
                    // Who has just gone down has its sessions ended from the next turn on.
                    if !ahead(&self) {
                        self.handle(Input::Wake, &Step::Wake);
                    }
                    self.model.hold(ahead(&self), || "work is overdue right after a wake-up".into());
                    let probed = !self.config.sets[0].probing.checks.is_empty();
                    if probed && self.net.now > LAST + seconds(300) && self.model.is_idle() {
                        break;
                    }
                }
                Happening::Wake(..) | Happening::Refused { .. } => {}
                Happening::Poke(_) | Happening::Reload | Happening::Hostile => {}
            }
        }
        self.is_over();
        self.model
    }

    /// Nothing is left of anything.
    fn is_over(&self) {
        let snapshot = self.engine.snapshot(self.now());
        let load: u64 = snapshot.sets.iter().flat_map(|set| &set.destinations).map(|one| one.sessions).sum();
        self.model.hold(load == 0 && snapshot.sessions == 0, || format!("{} sessions are left", snapshot.sessions));
        let probed = !self.config.sets[0].probing.checks.is_empty();
        let wants = self.engine.next_deadline();
        self.model
            .hold(probed || snapshot.transactions == 0, || format!("{} transactions are left", snapshot.transactions));
        self.model.hold(probed || wants.is_none(), || format!("an idle node wants to be woken at {wants:?}"));
    }

    fn happens(&mut self, deed: Deed) {
        match deed {
            Deed::EndCall(call) => {
                let id = self.calls[call].id.clone();
                self.handle(Input::End(&order(Which::Call(id.clone()))), &Step::EndCall(&id));
            }
            Deed::EndDestination(number) => {
                let address = self.destinations[number];
                let which = Which::Destination { set: SetId(19), uri: format!("sip:{address}") };
                self.handle(Input::End(&order(which)), &Step::EndDestination(address));
            }
            Deed::Held(held) => {
                self.model.lost(!held);
                self.handle(Input::Held { listener: ListenerId(0), held }, &Step::Other);
            }
            Deed::Restart => {
                let seed = std::array::from_fn(|_| self.net.rng.u8(..));
                self.engine = Engine::new(self.config.clone(), seed);
                self.model.restart();
                (self.deadline, self.wake) = (None, None);
                self.wish += 1;
                self.load();
            }
            Deed::AllHangUp => {
                for end in &mut self.ends.all {
                    if self.net.chance(70) {
                        end.fires(end::Due::Say("BYE"), &mut self.net);
                    }
                }
            }
            Deed::AllDie => self.ends.all.iter_mut().for_each(|end| end.fires(end::Due::Dies, &mut self.net)),
        }
    }

    fn arrives(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let text = Text::new(bytes);
        let ours = [INSIDE, OUTSIDE].iter().position(|one| one.parse() == Ok(to));
        match ours {
            // Another node has the address.
            Some(0) if self.model.lost => {}
            Some(listener) => {
                let flow = flow(listener as u16, from);
                self.handle(Input::Received { flow, bytes }, &Step::Received(from, &text));
            }
            None if self.net.is_deaf(to) => {}
            None if self.destinations.contains(&to) => self.arrives_at_destination(from, to, &text),
            None => self.arrives_at_caller(from, &text),
        }
    }

    fn arrives_at_destination(&mut self, from: SocketAddr, to: SocketAddr, text: &Text) {
        let key = (to, text.branch().to_owned());
        if text.method() == "OPTIONS" && text.to_tag().is_empty() {
            return self.net.send(to, from, text.answer(200, "probed", ""));
        }
        if text.method() == "INVITE" && text.to_tag().is_empty() && !self.leg_of.contains_key(&key) {
            self.leg_of.insert(key, self.legs.len());
            return self.legs.push(Leg::new(self.legs.len(), to, text, &mut self.net));
        }
        match self.leg_of.get(&key) {
            Some(&leg) => self.legs[leg].hears(from, text, &mut self.net),
            None => self.arrives_at_end(Side::Destination, from, to, text),
        }
    }

    fn arrives_at_caller(&mut self, from: SocketAddr, text: &Text) {
        let Some(&call) = self.call_of.get(text.call_id()) else { return };
        match (text.status(), text.cseq()) {
            (Some(_), (1, "INVITE" | "CANCEL")) => self.calls[call].hears(text, &mut self.ends, &mut self.net),
            _ => self.arrives_at_end(Side::Caller, from, self.calls[call].address, text),
        }
    }

    fn arrives_at_end(&mut self, side: Side, from: SocketAddr, at: SocketAddr, text: &Text) {
        let own = text.status().is_some() == (side == Side::Destination);
        let name = text.header(if own { "From" } else { "To" });
        let tag = name.split_once(";tag=").map_or("", |(_, tag)| tag);
        match self.ends.of.get(&(side, tag.to_owned())) {
            Some(&end) => self.ends.all[end].hears(from, text, &mut self.net),
            None if text.status().is_none() && text.method() != "ACK" => {
                self.net.send(at, from, text.answer(481, "unknown", ""));
            }
            None => {}
        }
    }

    fn now(&self) -> Now {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + self.net.now;
        Now { mono: Instant::after_start(self.net.now), wall }
    }

    fn handle(&mut self, input: Input<'_>, step: &Step<'_>) {
        let now = self.now();
        let mut out = Vec::new();
        self.engine.handle(input, now, &mut out);
        let (mut sent, mut records) = (Vec::new(), Vec::new());
        self.model.now = self.net.now;
        for output in out {
            match output {
                Output::Send { flow, bytes } => {
                    let by: SocketAddr = [INSIDE, OUTSIDE][usize::from(flow.listener.0)].parse().expect("an address");
                    self.net.send(by, flow.peer, &bytes);
                    sent.push(Sent { to: flow.peer, text: Text::new(&bytes) });
                }
                Output::Event(Event::Session(record)) => records.push(*record),
                Output::Event(Event::Health(change)) => self.model.is_down(change.address, change.new),
                Output::Event(_) | Output::Close(_) | Output::CloseAll(_) => {}
                Output::Resolve { .. } | Output::Check { .. } | Output::AskAgent { .. } => {}
            }
        }
        let snapshot = self.engine.snapshot(now);
        if std::env::var("TANDEM_SIM_TRACE").is_ok() {
            trace(self.net.now, step, &sent, &records);
        }
        self.model.hold(snapshot.drift == 0, || format!("{} sessions are lost or too many", snapshot.drift));
        let kinds: usize = snapshot.transaction_kinds.iter().sum();
        self.model
            .hold(kinds == snapshot.transactions, || format!("{kinds} of {} transactions", snapshot.transactions));
        self.model.turn(self.net.now, step, &sent, &records, &snapshot);
        records.iter().for_each(|record| self.is_true(record));
        let deadline = self.engine.next_deadline();
        if deadline != self.deadline || self.wake.is_some_and(|at| at <= self.net.now) {
            let at = deadline.map(|at| at.since_start().max(self.net.now) + self.net.up_to(self.late));
            let pending = self.wake.filter(|at| *at > self.net.now);
            self.deadline = deadline;
            self.wake = at.map(|at| pending.map_or(at, |pending| at.min(pending)));
            self.wish += 1;
            if let Some(at) = self.wake {
                self.net.after(at - self.net.now, Happening::Wake(0, self.wish));
            }
        }
    }

    /// No session is over that both ends still hold to, unless it was ended for them.
    fn is_true(&self, record: &Record) {
        let by_ends = [Ending::CallerBye, Ending::DestinationBye, Ending::Rejected, Ending::Cancelled, Ending::Failed];
        // One that was adopted may have had more dialogs than this node has heard of.
        if !by_ends.contains(&record.ending) || record.codes.is_empty() {
            return;
        }
        let callers = self.ends.all.iter().filter(|end| end.side == Side::Caller && end.is_of(record) && end.lives());
        for end in callers.filter(|end| !self.model.lost_dialogs.contains(&end.tag)) {
            let other = self.ends.of.get(&(Side::Destination, end.tag.clone()));
            let lives = other.is_some_and(|other| self.ends.all[*other].lives());
            self.model.hold(!lives, || format!("{record:?}, but {end:?} goes on"));
        }
    }
}

/// For people who look for a fault.
fn trace(now: Duration, step: &Step<'_>, sent: &[Sent], records: &[Record]) {
    let show = |text: &Text| format!("{} {:?} {}", text.line(), text.cseq(), text.call_id());
    match step {
        Step::Received(from, text) => eprintln!("{now:?} {from} says {}", show(text)),
        Step::Wake if sent.is_empty() && records.is_empty() => {}
        Step::Wake => eprintln!("{now:?} wakes"),
        Step::EndCall(_) | Step::EndDestination(_) | Step::Other => eprintln!("{now:?} deed"),
    }
    sent.iter().for_each(|one| eprintln!("    to {} {}", one.to, show(&one.text)));
    records.iter().for_each(|record| eprintln!("    {record:?}"));
}

fn flow(listener: u16, peer: SocketAddr) -> Flow {
    let connection = ConnectionId::default();
    Flow { listener: ListenerId(listener), transport: Transport::Udp, peer, connection }
}

#[test]
fn whatever_the_seed_the_table_holds_the_sessions_that_live_and_in_the_end_none() {
    let seen: [AtomicU64; Ending::ALL.len()] = Default::default();
    let pinged = AtomicU64::new(0);
    run_seeds("session simulation", |seed| {
        let model = Sim::new(seed).run();
        seen.iter().zip(model.seen).for_each(|(sum, one)| {
            sum.fetch_add(one, Ordering::Relaxed);
        });
        pinged.fetch_add(model.pinged, Ordering::Relaxed);
    });
    let seen = Ending::ALL.iter().zip(seen).map(|(ending, count)| format!("{} {}", ending.name(), count.into_inner()));
    println!("session simulation: {}; {} pings", seen.collect::<Vec<_>>().join(", "), pinged.into_inner());
}

fn order(which: Which) -> EndOrder {
    EndOrder { which, by: "sim".to_owned(), reason: "drawn".to_owned() }
}
