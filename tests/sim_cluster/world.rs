//! The nodes of a cluster, their destinations and callers, and all that happens to them.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use tandem::engine::dispatch::{Health, Order, OrderTerms, Policy, Remembered, RowState, SetId, Sets, Standing};
use tandem::engine::flow::{ConnectionId, Flow, HostPort, Listener, ListenerId, Role, Transport};
use tandem::engine::snapshot::DestinationView;
use tandem::engine::{Config, Engine, Input, Instant, Now, Output};

use super::call::{CALLER, Call, Due as CallDue};
use super::gossip::{Gossip, INTERVAL};
use super::server::{Due as ServerDue, Manner, Server, address_of};
use crate::harness;
use crate::sim::network::{Happening, Network};
use crate::sim::text::Text;

/// The set of all destinations.
pub(super) const SET: SetId = SetId(19);

/// Who acts when a timer fires.
#[derive(Clone, Debug)]
pub(super) enum Timer {
    /// A node's gossip, of that start.
    Round(usize, u32),
    Caller(usize, CallDue),
    Server(usize, ServerDue),
    Deed(Deed),
}

/// What is done to the cluster.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    /// Two nodes reach each other no more, or again.
    Cut(usize, usize, bool),
    /// A node does not reach a destination, or does again.
    CutOff(usize, usize, bool),
    Kill(usize),
    Start(usize),
    /// An address is at these nodes now.
    Hold(usize, Vec<usize>),
    Manner(usize, Manner),
    /// A node's gossip stands still, or goes on.
    Deaf(usize, bool),
    Order(usize, usize, Order),
    /// The table's word for a destination is that.
    Table(usize, RowState),
    /// A node reads the table.
    Reload(usize),
    /// It is time to look.
    Look,
}

/// What has happened.
#[derive(Debug)]
pub(super) enum Step {
    /// A node has told and heard.
    Round(usize),
    Deed(Deed),
    Other,
}

pub(super) type Net = Network<Timer>;

/// A node.
pub(super) struct Node {
    pub(super) engine: Option<Engine>,
    /// When its process began.
    pub(super) born: Duration,
    starts: u32,
    /// Its wall clock is ahead by so much.
    skew: Duration,
    /// It tells the others that all destinations are down.
    pub(super) lies: bool,
    pub(super) deaf: bool,
    /// What its state directory holds: the orders, and what the row's state was then.
    memory: Vec<(RowState, Remembered)>,
    deadline: Option<Instant>,
    wish: u64,
}

/// A call that a node has given to a destination.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admitted {
    pub(super) at: Duration,
    pub(super) node: usize,
    pub(super) server: usize,
}

/// When a node has last heard a destination answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Worked {
    pub(super) at_all: Option<Duration>,
    pub(super) by_calls: Option<Duration>,
}

/// All of it.
pub(super) struct World {
    pub(super) name: String,
    pub(super) net: Net,
    pub(super) nodes: Vec<Node>,
    pub(super) gossip: Gossip,
    pub(super) servers: Vec<Server>,
    pub(super) calls: Vec<Call>,
    call_of: HashMap<String, usize>,
    /// Who holds each address that moves.
    pub(super) vips: Vec<Vec<usize>>,
    /// Which nodes do not reach which destinations.
    pub(super) cut_off: HashSet<(usize, usize)>,
    pub(super) policy: Policy,
    pub(super) table: Vec<RowState>,
    /// Every call that was given to a destination for the first time, and to whom.
    pub(super) admitted: Vec<Admitted>,
    /// Those that a plot has seen.
    pub(super) recently: Vec<Admitted>,
    /// Which node has had a message of which call, and when.
    pub(super) passed: Vec<(Duration, usize, String)>,
    /// When a message of a call was last sent.
    pub(super) busy: Duration,
    branches: HashSet<String>,
    pub(super) worked: HashMap<(usize, usize), Worked>,
    /// Nobody gossips any more: what is left to see needs none.
    pub(super) silent: bool,
}

/// How large a world is.
pub(super) struct Size {
    pub(super) nodes: usize,
    pub(super) servers: usize,
    pub(super) vips: usize,
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn vip(number: usize) -> SocketAddr {
    ([10, 129, 39, 1 + number as u8], 8060).into()
}

fn own(node: usize) -> SocketAddr {
    ([10, 129, 40, 1 + node as u8], 8060).into()
}

impl World {
    /// A cluster that has just been started, with its addresses at its first nodes.
    pub(super) fn new(name: String, rng: &mut fastrand::Rng, size: Size, policy: Policy, dead_after: Duration) -> Self {
        let mut net = Network::new(rng.fork());
        net.heal();
        let node = |_| Node {
            engine: None,
            born: Duration::ZERO,
            starts: 0,
            skew: Duration::from_millis(rng.u64(..6000)),
            lies: false,
            deaf: false,
            memory: Vec::new(),
            deadline: None,
            wish: 0,
        };
        let Size { nodes, servers, vips } = size;
        let mut world = World {
            name,
            nodes: (0..nodes).map(node).collect(),
            gossip: Gossip::new(nodes, dead_after),
            servers: (0..servers).map(Server::new).collect(),
            calls: Vec::new(),
            call_of: HashMap::new(),
            vips: (0..vips).map(|vip| vec![vip % nodes]).collect(),
            cut_off: HashSet::new(),
            policy,
            table: vec![RowState::Active; servers],
            admitted: Vec::new(),
            recently: Vec::new(),
            passed: Vec::new(),
            busy: Duration::ZERO,
            branches: HashSet::new(),
            worked: HashMap::new(),
            silent: false,
            net,
        };
        (0..nodes).for_each(|node| world.start(node));
        world
    }

    /// Something that is to be done.
    pub(super) fn plan(&mut self, at: Duration, deed: Deed) {
        self.net.after(at.saturating_sub(self.net.now), Happening::Fires(Timer::Deed(deed)));
    }

    /// A call to an address that moves, or to one of a node's own.
    pub(super) fn plan_call(&mut self, at: Duration, to: Result<usize, usize>, hold: Duration) {
        let number = self.calls.len();
        let id = format!("{}-{number}", self.name.replace(' ', "-"));
        let to = to.map_or_else(own, vip);
        self.call_of.insert(id.clone(), number);
        self.calls.push(Call::new(number, id, to, at, hold, &mut self.net));
    }

    /// Lets the next thing happen; none: nothing is left before `end`.
    pub(super) fn step(&mut self, end: Duration) -> Option<Step> {
        match self.net.next(end)? {
            Happening::Arrives { from, to, bytes } => self.arrives(from, to, &bytes),
            Happening::Refused { by, peer, quoted } => {
                for (node, listener) in self.at(by) {
                    self.handle(node, Input::Refused { flow: flow(listener, peer), quoted: &quoted });
                }
            }
            Happening::Fires(Timer::Caller(call, due)) => self.calls[call].fires(due, &mut self.net),
            Happening::Fires(Timer::Server(server, due)) => self.servers[server].fires(due, &mut self.net),
            Happening::Fires(Timer::Round(node, start)) if self.nodes[node].starts == start && !self.silent => {
                self.net.after(INTERVAL, Happening::Fires(Timer::Round(node, start)));
                if !self.nodes[node].deaf && self.nodes[node].engine.is_some() {
                    self.round(node);
                }
                return Some(Step::Round(node));
            }
            Happening::Fires(Timer::Deed(deed)) => {
                self.happens(&deed);
                return Some(Step::Deed(deed));
            }
            Happening::Wake(node, wish) if self.nodes[node].wish == wish => self.handle(node, Input::Wake),
            Happening::Fires(Timer::Round(..)) | Happening::Wake(..) => {}
            Happening::Poke(_) | Happening::Reload | Happening::Hostile => unreachable!("nobody plans it"),
        }
        Some(Step::Other)
    }

    fn happens(&mut self, deed: &Deed) {
        match *deed {
            Deed::Cut(one, other, is_cut) => self.gossip.cut(one, other, is_cut),
            Deed::CutOff(node, server, true) => drop(self.cut_off.insert((node, server))),
            Deed::CutOff(node, server, false) => drop(self.cut_off.remove(&(node, server))),
            Deed::Kill(node) => self.kill(node),
            Deed::Start(node) if self.nodes[node].engine.is_none() => self.start(node),
            Deed::Hold(vip, ref holders) => self.hold(vip, holders),
            Deed::Manner(server, manner) => self.servers[server].manner = manner,
            Deed::Deaf(node, _) if self.nodes[node].engine.is_none() => {}
            Deed::Deaf(node, deaf) => {
                self.nodes[node].deaf = deaf;
                // Nothing of it is heard, and it hears nothing.
                self.gossip.stand_still(node, deaf);
            }
            Deed::Order(node, server, order) => self.order(node, server, order),
            Deed::Table(server, state) => self.table[server] = state,
            Deed::Reload(node) => self.load(node),
            Deed::Start(_) | Deed::Look => {}
        }
    }

    fn round(&mut self, node: usize) {
        let now = self.now(node);
        let Node { engine, lies, born, skew, .. } = &mut self.nodes[node];
        let Some(engine) = engine else { return };
        let mut report = engine.report(now);
        report.started = (*born + *skew).as_secs() + 1_000;
        if *lies {
            report.destinations.iter_mut().for_each(|told| told.health = Health::Down);
        }
        let rng = &mut self.net.rng;
        if let Some(reports) = self.gossip.round(node, report, self.net.now, || rng.bool()) {
            self.handle(node, Input::Peers(&reports));
        }
    }

    fn start(&mut self, node: usize) {
        let seed = std::array::from_fn(|_| self.net.rng.u8(..));
        let config = self.config(node);
        let entry = &mut self.nodes[node];
        entry.engine = Some(Engine::new(config, seed));
        (entry.born, entry.deadline, entry.deaf) = (self.net.now, None, false);
        entry.starts += 1;
        let (starts, started) = (entry.starts, (entry.born + entry.skew).as_secs() + 1_000);
        self.gossip.start(node, started);
        self.load(node);
        let memory: Vec<_> = self.nodes[node].memory.clone();
        let memory: Vec<_> = memory
            .into_iter()
            .enumerate()
            .filter(|(server, (state, _))| self.table[*server] == *state)
            .map(|(_, (_, one))| one)
            .collect();
        self.handle(node, Input::Remembered(&memory));
        for vip in 0..self.vips.len() {
            let held = self.vips[vip].contains(&node);
            self.handle(node, Input::Held { listener: ListenerId(vip as u16), held });
        }
        let first = self.net.up_to(INTERVAL);
        self.net.after(first, Happening::Fires(Timer::Round(node, starts)));
    }

    fn kill(&mut self, node: usize) {
        let views = self.views(node);
        let kept = |view: &DestinationView| {
            let address = view.address.expect("an address");
            let standing = Some(view.standing.clone()).filter(Standing::is_by_hand);
            (view.state, Remembered { set: SET, uri: view.uri.clone(), address, standing, kept: None })
        };
        self.nodes[node].memory = views.iter().map(kept).collect();
        self.nodes[node].engine = None;
        self.nodes[node].wish += 1;
        self.gossip.kill(node);
    }

    fn config(&self, node: usize) -> Config {
        let listener = |(id, bind, role): (usize, SocketAddr, Role)| Listener {
            id: ListenerId(id as u16),
            transport: Transport::Udp,
            bind,
            advertise: HostPort::from(bind),
            role,
            sources: Default::default(),
        };
        let vips = (0..self.vips.len()).map(|number| (number, vip(number), Role::Vip));
        Config {
            node: format!("n{node}"),
            listeners: vips.chain([(self.vips.len(), own(node), Role::Node)]).map(listener).collect(),
            sets: vec![self.policy.clone()],
            call_events: false,
            records: false,
            trace: Default::default(),
            ..harness::config()
        }
    }

    /// A node reads the table.
    fn load(&mut self, node: usize) {
        let addresses: Vec<_> = self.servers.iter().map(|server| server.address.to_string()).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let Sets(mut sets) = harness::set_19(&addresses);
        for (row, state) in sets[0].rows.iter_mut().zip(&self.table) {
            row.state = *state;
        }
        self.handle(node, Input::Sets(Sets(sets)));
    }

    fn hold(&mut self, vip: usize, holders: &[usize]) {
        let before = std::mem::replace(&mut self.vips[vip], holders.to_vec());
        for node in 0..self.nodes.len() {
            let held = holders.contains(&node);
            if held != before.contains(&node) {
                self.handle(node, Input::Held { listener: ListenerId(vip as u16), held });
            }
        }
    }

    fn order(&mut self, node: usize, server: usize, order: Order) {
        let (by, reason) = ("ann".to_owned(), self.net.now.as_millis().to_string());
        let standing = Standing { order, by, reason, at: self.now(node).wall, deadline: None };
        let uri = format!("sip:{}", self.servers[server].address);
        self.handle(node, Input::Order { set: SET, uri: &uri, standing: &standing, terms: &OrderTerms::NONE });
    }

    /// The nodes and their listeners that an address leads to now.
    fn at(&self, address: SocketAddr) -> Vec<(usize, u16)> {
        let vip = (0..self.vips.len()).find(|number| vip(*number) == address);
        let all = match vip {
            Some(vip) => self.vips[vip].iter().map(|node| (*node, vip as u16)).collect(),
            None => {
                let node = (0..self.nodes.len()).find(|node| own(*node) == address);
                node.map(|node| (node, self.vips.len() as u16)).into_iter().collect::<Vec<_>>()
            }
        };
        all.into_iter().filter(|(node, _)| self.nodes[*node].engine.is_some()).collect()
    }

    fn server_at(&self, address: SocketAddr) -> Option<usize> {
        self.servers.iter().position(|server| server.address == address)
    }

    fn arrives(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let text = Text::new(bytes);
        let of_call = text.cseq().1 != "OPTIONS";
        if of_call {
            self.busy = self.net.now;
        }
        if let Some(server) = self.server_at(to) {
            return self.servers[server].hears(from, &text, &mut self.net);
        }
        if to.to_string() == CALLER {
            if let Some(&call) = self.call_of.get(text.call_id()) {
                self.calls[call].hears(from, &text, &mut self.net);
            }
            return;
        }
        let found = self.at(to);
        if found.is_empty() {
            return;
        }
        let (node, listener) = found[self.net.rng.usize(..found.len())];
        if of_call {
            self.passed.push((self.net.now, node, text.call_id().to_owned()));
        }
        if let Some(server) = self.server_at(from) {
            if self.cut_off.contains(&(node, server)) {
                return;
            }
            if text.status().is_some_and(|status| status > 100) {
                let now = self.net.now;
                let worked = self.worked.entry((node, server)).or_default();
                worked.at_all = Some(now);
                if text.cseq().1 == "INVITE" {
                    worked.by_calls = Some(now);
                }
            }
        }
        self.handle(node, Input::Received { flow: flow(listener, from), bytes });
    }

    pub(super) fn now(&self, node: usize) -> Now {
        let Node { born, skew, .. } = &self.nodes[node];
        let wall = SystemTime::UNIX_EPOCH + seconds(1_800_000_000) + self.net.now + *skew;
        Now { mono: Instant::after_start(self.net.now - *born), wall }
    }

    fn handle(&mut self, node: usize, input: Input<'_>) {
        let now = self.now(node);
        let mut out = Vec::new();
        let Some(engine) = &mut self.nodes[node].engine else { return };
        engine.handle(input, now, &mut out);
        let deadline = engine.next_deadline();
        for output in out {
            let Output::Send { flow, bytes } = output else { continue };
            self.sent(node, flow, &bytes);
        }
        let entry = &mut self.nodes[node];
        let overdue = deadline.is_some_and(|at| at <= now.mono);
        if deadline != entry.deadline || overdue {
            entry.deadline = deadline;
            entry.wish += 1;
            if let Some(at) = deadline {
                let wish = entry.wish;
                self.net.after(at.since(now.mono), Happening::Wake(node, wish));
            }
        }
    }

    fn sent(&mut self, node: usize, flow: Flow, bytes: &[u8]) {
        let listener = usize::from(flow.listener.0);
        let by = if listener < self.vips.len() { vip(listener) } else { own(node) };
        let held = self.vips.get(listener).is_none_or(|holders| holders.contains(&node));
        self.hold_true(held, || format!("node {node} sends by {by}, which it has not: {}", Text::new(bytes).line()));
        let Some(server) = self.server_at(flow.peer) else { return self.net.send(by, flow.peer, bytes) };
        if bytes.starts_with(b"INVITE") && self.branches.insert(Text::new(bytes).branch().to_owned()) {
            self.admitted.push(Admitted { at: self.net.now, node, server });
        }
        if self.cut_off.contains(&(node, server)) {
            return;
        }
        if self.servers[server].manner == Manner::Dead {
            let refused = Happening::Refused { by, peer: flow.peer, quoted: bytes.to_vec() };
            self.net.after(Duration::from_millis(1), refused);
        }
        self.net.send(by, flow.peer, bytes);
    }

    /// What a node shows of the destinations; nothing if it does not run.
    pub(super) fn views(&self, node: usize) -> Vec<DestinationView> {
        let engine = self.nodes[node].engine.as_ref();
        let snapshot = engine.map(|engine| engine.snapshot(self.now(node)));
        snapshot.into_iter().flat_map(|snapshot| snapshot.sets[0].destinations.clone()).collect()
    }

    /// The nodes that run.
    pub(super) fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].engine.is_some()).collect()
    }

    /// Which destination a view is of.
    pub(super) fn server_of(&self, view: &DestinationView) -> usize {
        self.server_at(address_of(&view.uri.replacen("sip:", "<sip:", 1))).expect("one of ours")
    }

    /// What must hold, whatever the seed.
    pub(super) fn hold_true(&self, holds: bool, what: impl FnOnce() -> String) {
        assert!(holds, "{} at {:?}: {}", self.name, self.net.now, what());
    }
}

fn flow(listener: u16, peer: SocketAddr) -> Flow {
    let connection = ConnectionId::default();
    Flow { listener: ListenerId(listener), transport: Transport::Udp, peer, connection }
}
