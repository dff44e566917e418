//! The engine: bytes, values and a `now` go in, actions come out. No socket, clock, random source, lock or `await`.

pub mod clock;
pub mod event;
pub mod explain;
pub mod flow;
pub mod snapshot;

mod dialog;
pub mod dispatch;
mod keeper;
mod probe;
mod proxy;
pub mod route;
pub mod sip;
pub mod trace;
pub mod transaction;
mod wheel;

use std::sync::Arc;

use bytes::Bytes;

use self::dialog::Dialogs;
use self::dispatch::Dispatch;
use self::event::{Drain, DropCause};
use self::explain::{Came, Explained, Unexplained};
use self::flow::{Fault, Flow};
use self::keeper::Keeper;
use self::probe::{Agents, Prober};
use self::proxy::{Owner, Proxy, View, World};
use self::sip::{KeepAlive, Keys, Message, Method, NotSip, PONG, Start, keep_alive};
use self::snapshot::Totals;
use self::trace::{Loss, MOST_DESTINATIONS, Seen, Tracer, What};
use self::transaction::{Happened, TransactionKind, Transactions};

pub use clock::{Instant, Now};
pub use event::{Event, Input, Output};
pub use snapshot::Snapshot;

/// All that the engine is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node's name, unique in the cluster.
    pub node: String,
    /// The key of cookies and branches, shared by the cluster's nodes.
    pub key: [u8; 32],
    /// Our listeners; each one's id is its index.
    pub listeners: Vec<flow::Listener>,
    /// Timer lengths.
    pub timing: transaction::timing::Timing,
    /// The rules.
    pub route: route::Config,
    /// The sets' policies; a set without one gets the default.
    pub sets: Vec<dispatch::Policy>,
    /// What bounds memory.
    pub limits: Limits,
    /// Whether `Event::Call` is wanted: off saves its cost.
    pub call_events: bool,
    /// Whether `Event::Session` is wanted: off saves its cost.
    pub records: bool,
    /// Which calls are told of message by message.
    pub trace: trace::Config,
}

/// What bounds the engine's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Transactions in being, client and server; above it new requests get 503. A call leaves about a hundred
    /// transaction-seconds behind (four times 64*T1), so 2,000 calls a second hold 200,000.
    pub transactions: usize,
    /// Live sessions in the table; above it sessions are no longer counted, calls go on.
    pub sessions: usize,
    /// Bytes of one message.
    pub message: usize,
    /// Header lines of one message; a request with more gets 400.
    pub header_lines: usize,
    /// How long a session may stay in the table without an end seen.
    pub session_lifetime: std::time::Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            transactions: 500_000,
            sessions: 1_000_000,
            message: 65_535,
            header_lines: 256,
            session_lifetime: std::time::Duration::from_secs(12 * 3600),
        }
    }
}

/// The SIP dispatcher as a pure machine.
#[derive(Debug)]
pub struct Engine {
    node: String,
    keys: Keys,
    proxy: Proxy,
    prober: Prober,
    keeper: Keeper,
    agents: Agents,
    transactions: Transactions<Owner>,
    dispatch: Dispatch,
    dialogs: Dialogs,
    totals: Totals,
    happened: Vec<Happened<Owner>>,
    tracer: Tracer,
}

impl Engine {
    /// An engine with no sets loaded. `seed` makes its tables' hashes and random choices; give each start another one.
    pub fn new(config: Config, seed: [u8; 32]) -> Self {
        let proxy = Proxy::new(&config);
        let Config { node, key, timing, sets, limits, listeners, records, trace, .. } = config;
        let choices = u64::from_le_bytes(*seed.first_chunk().expect("8 of 32 bytes"));
        let keys = Keys::new(&key, &seed);
        let mark = *seed[8..].first_chunk().expect("8 of 32 bytes");
        let for_probes = u64::from_le_bytes(*seed.last_chunk().expect("8 of 32 bytes"));
        Engine {
            prober: Prober::new(&keys, &listeners, timing, for_probes),
            keeper: Keeper::new(&keys, &listeners, timing, records),
            agents: Agents::new(),
            keys,
            proxy,
            transactions: Transactions::new(timing, u64::from_le_bytes(mark)),
            dispatch: Dispatch::new(sets, choices).of_node(&node),
            dialogs: Dialogs::new(limits.sessions, limits.session_lifetime),
            totals: Totals::default(),
            happened: Vec::new(),
            tracer: Tracer::new(trace, &listeners),
            node,
        }
    }

    /// Takes one input and appends what is to be done. Cannot fail: what a peer sends is never our error.
    pub fn handle(&mut self, input: Input<'_>, now: Now, out: &mut Vec<Output>) {
        if !self.tracer.is_on() {
            return self.serve(input, now, out);
        }
        self.tracer.look_at(now.mono);
        self.tell_input(&input, now, out);
        let from = out.len();
        self.serve(input, now, out);
        self.tell_sent(from, now, out);
    }

    fn serve(&mut self, input: Input<'_>, now: Now, out: &mut Vec<Output>) {
        let Engine { keys, proxy, prober, agents, keeper, transactions, dispatch, dialogs, totals, happened, .. } =
            self;
        let tracer = &mut self.tracer;
        let mut world = World { now, keys, transactions, dispatch, dialogs, totals, out };
        match input {
            Input::Received { flow, .. } | Input::Unframed { flow, .. } if !proxy.takes_from(world.view(), flow) => {
                proxy.shut_out(&mut world, flow);
            }
            Input::Received { flow, bytes } => received(&mut world, proxy, (prober, keeper), flow, bytes),
            Input::Unreachable { flow } => {
                world.transactions.unreachable(flow, now.mono, happened);
                prober.unreachable(&mut probing(&mut world), flow);
                keeper.unreachable(&mut keeping(&mut world), flow);
            }
            Input::Refused { flow, quoted } => refused(&mut world, (prober, keeper), flow, quoted, happened),
            Input::Undelivered { flow: _, bytes, fault } => {
                undelivered(&mut world, proxy, (prober, keeper), (bytes, fault), happened);
            }
            Input::Unframed { flow, head, fault } => proxy.unframed(&mut world, flow, head, fault),
            Input::Sets(sets) => {
                let changes = world.dispatch.replace(sets, now);
                world.dialogs.reload(world.dispatch);
                prober.place(world.dispatch, now);
                agents.place(world.dispatch, now);
                world.out.push(Output::Event(Event::SetsReplaced(changes)));
            }
            Input::Wake => {
                world.transactions.wake(now.mono, world.out, happened);
                proxy.give_up_lookups(&mut world);
                prober.wake(&mut probing(&mut world));
                agents.wake(&mut probing(&mut world));
                keeper.wake(&mut keeping(&mut world));
                world.dispatch.wake(world.dialogs, now, world.out);
            }
            Input::Drain(drain) => proxy.drain(drain),
            Input::Resolved { id, addresses } => proxy.resolved(&mut world, id, &addresses),
            Input::Order { set, uri, standing, terms } => {
                if let Err(why) = world.dispatch.order_on((set, uri), standing, terms, (world.dialogs, now), world.out)
                {
                    world.out.push(Output::Event(Event::OrderedInVain(why)));
                }
            }
            Input::Distrust(order) => {
                let done = world.dispatch.distrust(order, now, world.out);
                world.out.push(Output::Event(Event::Distrusted { order: order.clone(), done }));
            }
            Input::Remembered(all) => world.dispatch.remember(all, now, world.out),
            Input::Checked { id, outcome } => prober.checked(&mut probing(&mut world), id, outcome),
            Input::Unchecked(id) => prober.unchecked(id),
            Input::AgentSaid { id, body } => agents.said(&mut probing(&mut world), id, body),
            Input::End(order) => {
                let keys = world.keys;
                keeper.order_end(&mut keeping(&mut world), keys, order);
            }
            Input::Trace(order) => {
                let done = tracer.ask(order, now.mono);
                world.out.push(Output::Event(Event::TraceOrdered { order: order.clone(), done }));
            }
            Input::Peers(reports) => {
                keeper.give_up(&mut keeping(&mut world), reports);
                world.dispatch.accept(reports, world.dialogs, now, world.out);
            }
            Input::Held { listener, held } => {
                keeper.hold(&mut keeping(&mut world), listener, held);
                proxy.hold(&mut world, listener, held);
            }
        }
        for happened in happened.drain(..) {
            proxy.happened(&mut world, happened);
        }
        keeper.take_doomed(&mut keeping(&mut world));
        while let Some(taken) = world.dialogs.next_taken() {
            world.dispatch.pass(&taken, None, now);
        }
    }

    /// Tells what has come of calls that are told of, and what will be decided: before it is.
    fn tell_input(&self, input: &Input<'_>, now: Now, out: &mut Vec<Output>) {
        let (flow, bytes, lost) = match *input {
            Input::Received { flow, bytes } => (flow, bytes, None),
            Input::Undelivered { flow, bytes, fault } => (flow, bytes, Some(Loss::Unsent(fault))),
            Input::Refused { flow, quoted } => match self.quoted_request(quoted) {
                Some(bytes) => (flow, &bytes[..], Some(Loss::Refused)),
                None => return,
            },
            _ => return,
        };
        let Some(seen) = self.tracer.see(&self.keys, bytes) else { return };
        if self.is_probing(&seen, lost.is_some()) {
            return;
        }
        let packet = self.tracer.packet(&seen, flow);
        let mut tell = |what| out.push(Output::Event(Event::Traced(Box::new(seen.step(now, what)))));
        match lost {
            Some(why) => tell(What::Lost { packet, why }),
            None => tell(What::Came(packet)),
        }
        let is_new = |message| self.transactions.server(transaction::Key::of(&self.keys, message)).is_none();
        let decides = lost.is_none() && seen.is_initial_invite() && seen.message.as_ref().is_some_and(is_new);
        if decides
            && let Ok(told) = self.explain_some(
                bytes,
                Came { source: Some(flow.peer), listener: Some(flow.listener) },
                MOST_DESTINATIONS,
                now,
            )
        {
            tell(self.tracer.decision(told));
        }
    }

    /// Tells what is sent of calls that are told of, each message behind the one before; how calls have ended comes last.
    fn tell_sent(&self, from: usize, now: Now, out: &mut Vec<Output>) {
        let step = |flow: Flow, bytes: &Bytes| {
            let seen = self.tracer.see(&self.keys, bytes).filter(|seen| !self.is_probing(seen, true))?;
            Some(seen.step(now, What::Left(self.tracer.packet(&seen, flow))))
        };
        let (mut ends, said) = (Vec::new(), out.split_off(from));
        for output in said {
            let step = match &output {
                Output::Send { flow, bytes } => step(*flow, bytes),
                Output::Event(Event::Session(_)) => {
                    ends.push(output);
                    continue;
                }
                _ => None,
            };
            out.push(output);
            out.extend(step.map(|step| Output::Event(Event::Traced(Box::new(step)))));
        }
        out.append(&mut ends);
    }

    /// Whether it is a probe of ours that was sent, or the answer to one that came: no call's.
    fn is_probing(&self, seen: &Seen<'_>, sent: bool) -> bool {
        seen.message.as_ref().is_some_and(|message| seen.is_request() == sent && self.prober.wrote(message))
    }

    /// The request that an ICMP error quotes the start of, if it still waits for an answer.
    fn quoted_request(&self, quoted: &[u8]) -> Option<&Bytes> {
        let request = sip::quoted(quoted)?;
        let branch = self.keys.read_branch(request.branch)?;
        let client = self.transactions.client(&branch, request.method)?;
        self.transactions.request(client)
    }

    /// When `Input::Wake` is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let calls = [self.transactions.next_deadline(), self.proxy.next_deadline()];
        let sessions = [self.dialogs.next_deadline(), self.keeper.next_deadline()];
        let health = [self.prober.next_deadline(), self.agents.next_deadline(), self.dispatch.next_deadline()];
        calls.into_iter().chain(sessions).chain(health).flatten().min()
    }

    /// The last observations of a destination by address, oldest first; empty if it is not loaded.
    pub fn history(&self, set: dispatch::SetId, uri: &str) -> Vec<(std::net::SocketAddr, Vec<dispatch::Observation>)> {
        self.dispatch.history(set, uri)
    }

    /// Some of the live sessions of a set, or of one of its destinations: `limit` from `offset` on, at most
    /// [`snapshot::MOST_SESSIONS`].
    ///
    /// # Errors
    /// [`dispatch::NoSuchDestination`] if that is not loaded.
    pub fn sessions(
        &self,
        set: dispatch::SetId,
        uri: Option<&str>,
        (offset, limit): (usize, usize),
        now: Now,
    ) -> Result<snapshot::SessionPage, dispatch::NoSuchDestination> {
        self.keeper.page((&self.dispatch, &self.dialogs), (set, uri), (offset, limit), now)
    }

    /// What this node tells the other nodes of its cluster. Sessions that it has taken over are told once.
    pub fn report(&mut self, now: Now) -> dispatch::PeerReport {
        let report = self.dispatch.report(&self.dialogs, now);
        dispatch::PeerReport { node: self.node.clone(), taken: self.dialogs.tell_taken(now.mono), ..report }
    }

    /// What would become of a message that came so, and why. Nothing is sent and nothing changes.
    ///
    /// # Errors
    /// [`Unexplained`] for what is no request.
    pub fn explain(&self, bytes: &[u8], came: Came, now: Now) -> Explained {
        self.explain_some(bytes, came, usize::MAX, now)
    }

    /// The same; of each set at most so many destinations are told of.
    fn explain_some(&self, bytes: &[u8], came: Came, most: usize, now: Now) -> Explained {
        let Engine { keys, proxy, transactions, dispatch, dialogs, .. } = self;
        let message = Message::parse_within(bytes, proxy.header_lines()).map_err(Unexplained::NotSip)?;
        match message.start() {
            Start::Request { .. } => {
                proxy.explain(View { now, keys, transactions, dispatch, dialogs }, came, &message, most)
            }
            Start::Response { status, .. } => Err(Unexplained::Response { status }),
        }
    }

    /// The state that the outside may see.
    pub fn snapshot(&self, now: Now) -> Arc<Snapshot> {
        let mut kinds = self.transactions.kinds();
        kinds[TransactionKind::ClientOther as usize] += self.keeper.transactions();
        Arc::new(Snapshot {
            sets: self.dispatch.view(&self.dialogs, now),
            totals: self.totals,
            transactions: self.transactions.len() + self.keeper.transactions(),
            transaction_kinds: kinds,
            resent: self.transactions.times_resent() + self.prober.times_resent() + self.keeper.times_resent(),
            sessions: self.dialogs.len(),
            parked: self.keeper.parked(&self.dialogs),
            drift: self.dialogs.drift(),
            drain: self.proxy.draining(),
            open: match self.proxy.draining() {
                Drain::No => 0,
                Drain::Leaving | Drain::Refusing => self.transactions.open_servers(),
            },
        })
    }
}

/// What the prober sees of the world.
fn probing<'s>(world: &'s mut World<'_>) -> probe::Scene<'s> {
    probe::Scene { dispatch: world.dispatch, totals: world.totals, now: world.now, out: world.out }
}

/// What the keeper sees of the world.
fn keeping<'s>(world: &'s mut World<'_>) -> keeper::Scene<'s> {
    let World { dispatch, dialogs, totals, now, out, .. } = world;
    keeper::Scene { dispatch, dialogs, totals, now: *now, out }
}

/// Those who send requests for this node itself.
type Own<'o> = (&'o mut Prober, &'o mut Keeper);

/// A message that could not be sent ends the client transaction of its branch, if it has one. An answer has gone every way
/// that there is, and an ACK or CANCEL that is lost is mended by the INVITE's own timers.
fn undelivered(
    world: &mut World<'_>,
    proxy: &mut Proxy,
    (prober, keeper): Own<'_>,
    (bytes, fault): (&[u8], Fault),
    happened: &mut Vec<Happened<Owner>>,
) {
    let Ok(message) = Message::parse(bytes) else { return };
    if fault == Fault::Ours && proxy.came_too_late(world, &message) {
        return;
    }
    if let (Start::Request { method, .. }, Some(text)) = (message.start(), message.via().branch)
        && !matches!(method, Method::Ack | Method::Cancel)
        && !prober.undelivered(&mut probing(world), text, method, fault)
        && !keeper.undelivered(&mut keeping(world), text, method, fault)
        && let Some(branch) = world.keys.read_branch(text)
        && let Some(client) = world.transactions.client(&branch, method)
    {
        world.transactions.undelivered(client, fault, world.now.mono, happened);
    }
}

/// A datagram, or one framed message of a stream.
fn received(world: &mut World<'_>, proxy: &mut Proxy, (prober, keeper): Own<'_>, flow: Flow, bytes: &[u8]) {
    match keep_alive(bytes) {
        Some(KeepAlive::Ping) => return world.out.push(Output::Send { flow, bytes: Bytes::from_static(PONG) }),
        Some(KeepAlive::Quiet) => return,
        None => {}
    }
    match Message::parse_within(bytes, proxy.header_lines()) {
        Ok(message) => match message.start() {
            Start::Request { .. } => proxy.request(world, flow, &message),
            Start::Response { .. } if prober.wrote(&message) => prober.response(&mut probing(world), flow, &message),
            Start::Response { .. } if keeper.wrote(&message) => keeper.response(&mut keeping(world), flow, &message),
            Start::Response { .. } => proxy.response(world, flow, &message),
        },
        Err(NotSip::Empty) => {}
        Err(NotSip::StartLine) => world.drop(DropCause::NotSip, flow),
        Err(NotSip::Response | NotSip::Via) => world.drop(DropCause::Malformed, flow),
    }
}

/// An ICMP error. It may be forged and come from anywhere, so it ends one transaction at most: the one whose branch, which
/// nobody else can make, stands in what it quotes.
fn refused(
    world: &mut World<'_>,
    (prober, keeper): Own<'_>,
    flow: Flow,
    quoted: &[u8],
    happened: &mut Vec<Happened<Owner>>,
) {
    // An ACK waits for nothing.
    let request = sip::quoted(quoted).filter(|request| request.method != Method::Ack);
    let ended = request.is_some_and(|request| {
        if prober.refused(&mut probing(world), flow, request.branch, request.method)
            || keeper.refused(&mut keeping(world), flow, request.branch, request.method)
        {
            return true;
        }
        let branch = world.keys.read_branch(request.branch);
        let client = branch.and_then(|branch| world.transactions.client(&branch, request.method));
        client.is_some_and(|client| world.transactions.refused(client, request.method, flow, world.now.mono, happened))
    });
    match ended {
        true => world.totals.icmp += 1,
        false => world.totals.stray_icmp += 1,
    }
}
