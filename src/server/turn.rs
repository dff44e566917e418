//! The engine's thread: sleep, take the turn's one `now`, orders, timers, datagrams, streams, and out with what the engine
//! says.

use std::net::SocketAddr;
use std::process;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use crate::edge::counters::{Counters, SendFault};
use crate::edge::resolve::Question;
use crate::edge::tcp::{Heard, Streams};
use crate::edge::udp::{Batch, Sockets};
use crate::engine::dispatch::{
    DistrustOrder, NoSuchDestination, NotDistrusted, NotOrdered, Observation, OrderTerms, Outcome, PeerReport,
    Remembered, SetId, Sets, Standing,
};
use crate::engine::event::{
    AgentId, Changes, CheckId, CheckTarget, Drain, EndOrder, Event, Input, LookupId, NotEnded, Output,
};
use crate::engine::explain::{Came, Explained};
use crate::engine::flow::{ConnectionId, Fault, Flow, ListenerId, Transport};
use crate::engine::snapshot::SessionPage;
use crate::engine::trace::{NotTraced, TraceOrder};
use crate::engine::{self, Engine, Now, Snapshot};
use crate::server::Lookup;
use crate::server::told::Happened;

/// What other threads may ask of the engine's; each is answered when it is done.
#[derive(Debug)]
pub(super) enum Order {
    Snapshot(oneshot::Sender<Arc<Snapshot>>),
    /// All sets, and what is known of destinations beforehand.
    Replace(Sets, Vec<Remembered>, oneshot::Sender<Changes>),
    Drain(Drain, oneshot::Sender<()>),
    /// Whether the address of a listener is this machine's now.
    Hold(ListenerId, bool, oneshot::Sender<()>),
    Resolved(LookupId, Vec<SocketAddr>),
    /// An operator's order to a destination.
    Give(SetId, String, Standing, OrderTerms, oneshot::Sender<Result<(), NotOrdered>>),
    /// An operator holds a destination for failed.
    Distrust(DistrustOrder, oneshot::Sender<Result<(), NotDistrusted>>),
    /// The last observations of a destination by address.
    History(SetId, String, oneshot::Sender<History>),
    /// What would become of a message.
    Explain(Vec<u8>, Came, oneshot::Sender<Explained>),
    /// What the other nodes tell.
    Peers(Vec<PeerReport>),
    /// What the others are told is wanted.
    Report(oneshot::Sender<PeerReport>),
    Checked(CheckId, Outcome),
    Unchecked(CheckId),
    /// An operator ends sessions; how many are being ended.
    End(EndOrder, oneshot::Sender<Result<u64, NotEnded>>),
    /// An operator wants to be told of a call.
    Trace(TraceOrder, oneshot::Sender<Result<(), NotTraced>>),
    /// Some sessions of a set, or of one of its destinations: so many from there on.
    Sessions(SetId, Option<String>, (usize, usize), oneshot::Sender<Result<SessionPage, NoSuchDestination>>),
    /// What an agent has answered, if it has.
    AgentSaid(AgentId, Option<Vec<u8>>),
    Stop,
}

/// Timers wake the thread on this grid. A call leaves eight timers behind, most of which only clear up, and each would wake
/// it for itself; RFC 3261's shortest is 500 ms. (Kamailio's grid is 62.5 ms.)
const GRID: Duration = Duration::from_millis(10);

/// A turn whose timers are later than that comes after a stall: the machine was paused, or the process starved. Answers that
/// came in time wait in the sockets then, and go before the timers that would hold them for missing...
const LATE: Duration = Duration::from_millis(200);
/// ... as many as so many turns would take: a flood may not keep the timers for ever.
const BATCHES_AFTER_A_STALL: usize = 16;

/// A destination's last observations by address, oldest first.
pub type History = Vec<(SocketAddr, Vec<Observation>)>;

/// What peers have said by streams that one turn takes: the rest waits for the next, behind timers and datagrams.
const HEARD_A_TURN: usize = 256;

/// All sockets, by the listeners that they belong to.
#[derive(Debug)]
pub(super) struct Wires {
    pub(super) sockets: Sockets,
    /// The listeners of `sockets`, in their order.
    pub(super) udp: Vec<ListenerId>,
    /// None without a TCP listener.
    pub(super) streams: Option<Streams>,
}

impl Wires {
    /// Sends one message.
    ///
    /// # Errors
    /// The message, if it has not left, with whose fault that is.
    fn send(&mut self, flow: Flow, bytes: Bytes, counters: &Counters) -> Result<(), (Fault, Bytes)> {
        let fault = match (flow.transport, &self.streams) {
            (Transport::Udp, _) => match self.udp.iter().position(|&id| id == flow.listener) {
                Some(nth) => self.sockets.send(ListenerId(nth as u16), flow.peer, &bytes, counters),
                None => no_socket(counters),
            },
            (Transport::Tcp, Some(streams)) => return streams.send(flow, bytes),
            (Transport::Tcp | Transport::Tls, _) => no_socket(counters),
        };
        match fault {
            None => Ok(()),
            Some(fault) if fault.is_passing() => Err((Fault::Passing, bytes)),
            Some(_) => Err((Fault::Ours, bytes)),
        }
    }
}

fn no_socket(counters: &Counters) -> Option<SendFault> {
    counters.not_sent(SendFault::NoSocket);
    Some(SendFault::NoSocket)
}

/// All that the thread owns.
#[derive(Debug)]
pub(super) struct Turns {
    engine: Engine,
    // Before `orders`, so closed before it: who sees the channel closed finds the addresses free.
    wires: Wires,
    orders: mpsc::Receiver<Order>,
    outside: Outside,
    counters: Arc<Counters>,
    start: Instant,
    out: Vec<Output>,
    unsent: Vec<(Flow, Fault, Bytes)>,
    unasked: Vec<CheckId>,
}

/// Who hears of what the engine can't do itself.
#[derive(Debug)]
pub(super) struct Outside {
    pub(super) events: mpsc::Sender<Happened>,
    pub(super) lookups: mpsc::Sender<Lookup>,
    pub(super) checks: mpsc::Sender<Asked>,
}

/// What the engine wants destinations asked by other means than SIP.
#[derive(Debug)]
pub enum Asked {
    /// Whether one is there; [`Handle::checked`](super::Handle::checked) tells how that ended.
    Check {
        /// To be told with the outcome.
        id: CheckId,
        /// What is asked.
        target: CheckTarget,
        /// How long it may take.
        timeout: Duration,
    },
    /// What its agent wants; [`Handle::agent_said`](super::Handle::agent_said) tells the answer.
    Agent {
        /// To be told with the answer.
        id: AgentId,
        /// Where the agent is.
        address: SocketAddr,
        /// The path, from its slash.
        path: String,
        /// How long it may take.
        timeout: Duration,
    },
}

/// Whether there is another turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Serve,
    Stop,
}

/// Ends the process if the thread panics: a node that answers `/live` and no SIP would hold its VIP for ever.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            error!("the engine's thread panicked: the process ends so that its peer or supervisor takes over");
            process::abort();
        }
    }
}

impl Turns {
    pub(super) fn new(
        engine: Engine,
        wires: Wires,
        orders: mpsc::Receiver<Order>,
        outside: Outside,
        counters: Arc<Counters>,
    ) -> Self {
        let start = Instant::now();
        Turns {
            engine,
            wires,
            orders,
            outside,
            counters,
            start,
            out: Vec::new(),
            unsent: Vec::new(),
            unasked: Vec::new(),
        }
    }

    /// Does first what the engine has said before it served.
    pub(super) fn beginning_with(mut self, out: Vec<Output>) -> Self {
        self.out = out;
        self
    }

    /// Serves until `Order::Stop` or until no handle is left.
    pub(super) fn run(mut self) {
        let _guard = AbortOnPanic;
        let mut batch = Batch::default();
        self.flush(Now { mono: self.mono(), wall: SystemTime::now() });
        let mut woke = None;
        loop {
            // The one reading of the clock that tells how long the turn took and how long to wait.
            let rests = self.mono();
            if let Some(woke) = woke {
                self.counters.turn(rests.since(woke));
            }
            let timeout = self.engine.next_deadline().map(|deadline| on_grid(deadline).since(rests));
            if let Err(cause) = self.wires.sockets.wait(timeout) {
                // Only a broken descriptor makes it fail, and nothing that we could do mends one.
                error!(%cause, "the engine's thread can't wait for its sockets: the process ends");
                process::abort();
            }
            let now = Now { mono: self.mono(), wall: SystemTime::now() };
            woke = Some(now.mono);
            if self.take_orders(now) == Next::Stop {
                return;
            }
            self.turn(now, &mut batch);
        }
    }

    /// What time has brought, and what peers say.
    fn turn(&mut self, now: Now, batch: &mut Batch) {
        let overdue = self.engine.next_deadline().filter(|deadline| *deadline <= now.mono);
        if overdue.is_some_and(|deadline| now.mono.since(deadline) > LATE) {
            for _ in 0..BATCHES_AFTER_A_STALL {
                self.take_datagrams(now, batch);
            }
            self.take_heard(now);
        }
        // Before the datagrams, so that no flood of them delays a timer by more than a turn.
        if overdue.is_some() {
            self.engine.handle(Input::Wake, now, &mut self.out);
            self.flush(now);
        }
        self.take_datagrams(now, batch);
        self.take_heard(now);
    }

    fn take_datagrams(&mut self, now: Now, batch: &mut Batch) {
        for nth in 0..self.wires.sockets.ready() {
            self.receive(nth, now, batch);
            self.flush(now);
        }
    }

    fn mono(&self) -> engine::Instant {
        engine::Instant::after_start(self.start.elapsed())
    }

    fn take_orders(&mut self, now: Now) -> Next {
        // Those that are here now; each later one rings the bell for a turn of its own, so orders can't keep a turn from
        // its end either.
        for _ in 0..self.orders.len().max(1) {
            match self.orders.try_recv() {
                // Nobody who hangs up before the answer is owed one.
                Ok(Order::Snapshot(answer)) => drop(answer.send(self.engine.snapshot(now))),
                Ok(Order::Replace(sets, known, answer)) => {
                    self.engine.handle(Input::Sets(sets), now, &mut self.out);
                    if !known.is_empty() {
                        self.engine.handle(Input::Remembered(&known), now, &mut self.out);
                    }
                    let changes = self.out.iter().find_map(|output| match output {
                        Output::Event(Event::SetsReplaced(changes)) => Some(*changes),
                        _ => None,
                    });
                    self.flush(now);
                    let _ = answer.send(changes.unwrap_or_default());
                }
                Ok(Order::Drain(drain, answer)) => {
                    self.engine.handle(Input::Drain(drain), now, &mut self.out);
                    self.flush(now);
                    let _ = answer.send(());
                }
                Ok(Order::Hold(listener, held, answer)) => {
                    self.engine.handle(Input::Held { listener, held }, now, &mut self.out);
                    self.flush(now);
                    let _ = answer.send(());
                }
                Ok(Order::Resolved(id, addresses)) => {
                    self.engine.handle(Input::Resolved { id, addresses }, now, &mut self.out);
                    self.flush(now);
                }
                Ok(Order::Give(set, uri, standing, terms, answer)) => {
                    let order = Input::Order { set, uri: &uri, standing: &standing, terms: &terms };
                    self.engine.handle(order, now, &mut self.out);
                    let refused = self.out.iter().find_map(|output| match output {
                        Output::Event(Event::OrderedInVain(why)) => Some(why.clone()),
                        _ => None,
                    });
                    self.flush(now);
                    let _ = answer.send(refused.map_or(Ok(()), Err));
                }
                Ok(Order::Distrust(order, answer)) => {
                    self.engine.handle(Input::Distrust(&order), now, &mut self.out);
                    let done = self.out.iter().find_map(|output| match output {
                        Output::Event(Event::Distrusted { done, .. }) => Some(done.clone()),
                        _ => None,
                    });
                    self.flush(now);
                    let _ = answer.send(done.unwrap_or(Ok(())));
                }
                Ok(Order::Trace(order, answer)) => {
                    self.engine.handle(Input::Trace(&order), now, &mut self.out);
                    let done = self.out.iter().find_map(|output| match output {
                        Output::Event(Event::TraceOrdered { done, .. }) => Some(*done),
                        _ => None,
                    });
                    self.flush(now);
                    let _ = answer.send(done.unwrap_or(Ok(())));
                }
                Ok(Order::History(set, uri, answer)) => drop(answer.send(self.engine.history(set, &uri))),
                Ok(Order::Explain(message, came, answer)) => {
                    drop(answer.send(self.engine.explain(&message, came, now)));
                }
                Ok(Order::Peers(reports)) => {
                    self.engine.handle(Input::Peers(&reports), now, &mut self.out);
                    self.flush(now);
                }
                Ok(Order::Report(answer)) => drop(answer.send(self.engine.report(now))),
                Ok(Order::Checked(id, outcome)) => {
                    self.engine.handle(Input::Checked { id, outcome }, now, &mut self.out);
                    self.flush(now);
                }
                Ok(Order::Unchecked(id)) => {
                    self.engine.handle(Input::Unchecked(id), now, &mut self.out);
                    self.flush(now);
                }
                Ok(Order::End(order, answer)) => {
                    self.engine.handle(Input::End(&order), now, &mut self.out);
                    let ended = self.out.iter().find_map(|output| match output {
                        Output::Event(Event::EndOrdered { ended, .. }) => Some(ended.clone()),
                        _ => None,
                    });
                    self.flush(now);
                    let _ = answer.send(ended.unwrap_or(Ok(0)));
                }
                Ok(Order::Sessions(set, uri, some, answer)) => {
                    let _ = answer.send(self.engine.sessions(set, uri.as_deref(), some, now));
                }
                Ok(Order::AgentSaid(id, body)) => {
                    self.engine.handle(Input::AgentSaid { id, body: body.as_deref() }, now, &mut self.out);
                    self.flush(now);
                }
                Ok(Order::Stop) | Err(TryRecvError::Disconnected) => return Next::Stop,
                Err(TryRecvError::Empty) => break,
            }
        }
        Next::Serve
    }

    fn receive(&mut self, nth: usize, now: Now, batch: &mut Batch) {
        let Turns { engine, wires: Wires { sockets, udp, .. }, counters, out, .. } = self;
        sockets.refusals(nth, |nth, peer, quoted| {
            let listener = udp[usize::from(nth.0)];
            let flow = Flow { listener, transport: Transport::Udp, peer, connection: ConnectionId::default() };
            engine.handle(Input::Refused { flow, quoted }, now, out);
        });
        sockets.receive(nth, batch, counters, |nth, peer, bytes| {
            let listener = udp[usize::from(nth.0)];
            let flow = Flow { listener, transport: Transport::Udp, peer, connection: ConnectionId::default() };
            engine.handle(Input::Received { flow, bytes }, now, out);
        });
    }

    /// Takes what peers have said by streams.
    fn take_heard(&mut self, now: Now) {
        for _ in 0..HEARD_A_TURN {
            let Some(heard) = self.wires.streams.as_mut().and_then(Streams::heard) else { return };
            let input = match &heard {
                Heard::Message { flow, bytes } => Input::Received { flow: *flow, bytes },
                Heard::Unframed { flow, head, fault } => Input::Unframed { flow: *flow, head, fault: *fault },
                Heard::Undelivered { flow, bytes, fault } => Input::Undelivered { flow: *flow, bytes, fault: *fault },
                Heard::Lost { flow } => Input::Unreachable { flow: *flow },
            };
            self.engine.handle(input, now, &mut self.out);
            self.flush(now);
        }
        if self.wires.streams.as_ref().is_some_and(Streams::has_heard) {
            self.wires.sockets.waker().wake();
        }
    }

    /// Does what the engine says; it hears at once of what could not be sent, until it has no more to say.
    fn flush(&mut self, now: Now) {
        self.carry_out(now);
        loop {
            if let Some((flow, fault, bytes)) = self.unsent.pop() {
                self.engine.handle(Input::Undelivered { flow, bytes: &bytes, fault }, now, &mut self.out);
            } else if let Some(id) = self.unasked.pop() {
                self.engine.handle(Input::Unchecked(id), now, &mut self.out);
            } else {
                return;
            }
            self.carry_out(now);
        }
    }

    fn carry_out(&mut self, now: Now) {
        for output in self.out.drain(..) {
            match output {
                Output::Send { flow, bytes } => {
                    if let Err((fault, bytes)) = self.wires.send(flow, bytes, &self.counters) {
                        self.unsent.push((flow, fault, bytes));
                    }
                }
                Output::Close(connection) => {
                    if let Some(streams) = &self.wires.streams {
                        streams.close(connection);
                    }
                }
                Output::CloseAll(listener) => {
                    if let Some(streams) = &self.wires.streams {
                        streams.close_all(listener);
                    }
                }
                Output::Resolve { id, host, port, transport } => {
                    let question = Question { host, port, transport };
                    // One that is not taken is answered by the engine itself when its time is up.
                    let _ = self.outside.lookups.try_send(Lookup { id, question });
                }
                Output::Check { id, target, timeout } => {
                    if self.outside.checks.try_send(Asked::Check { id, target, timeout }).is_err() {
                        self.counters.not_checked();
                        self.unasked.push(id);
                    }
                }
                Output::AskAgent { id, address, path, timeout } => {
                    // One that is not asked is as one that does not answer: what it said last holds until its time is over.
                    if self.outside.checks.try_send(Asked::Agent { id, address, path, timeout }).is_err() {
                        self.counters.not_checked();
                    }
                }
                // Stories are many and large: they leave half of the room to what nobody may miss.
                Output::Event(Event::Traced(_)) if is_half_full(&self.outside.events) => self.counters.step_dropped(),
                Output::Event(event) => {
                    if self.outside.events.try_send(Happened { at: now.wall, event }).is_err() {
                        self.counters.event_dropped();
                    }
                }
            }
        }
    }
}

fn is_half_full<T>(queue: &mpsc::Sender<T>) -> bool {
    queue.capacity() <= queue.max_capacity() / 2
}

/// The first moment of the grid that is not before `deadline`.
fn on_grid(deadline: engine::Instant) -> engine::Instant {
    let step = GRID.as_micros();
    let steps = deadline.since_start().as_micros().div_ceil(step);
    engine::Instant::after_start(Duration::from_micros((steps * step) as u64))
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::net::UdpSocket;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::edge::counters::EdgeCounters;
    use crate::engine::dispatch::{Policy, Row, Set};
    use crate::engine::flow::{Listener, Role};
    use crate::engine::route::{self, Action, Condition, Rewrite, Rule, Target};
    use crate::engine::trace::{Packet, Step, What};

    const CHILD: &str = "TANDEM_TEST_PANIC";

    fn turns() -> (Turns, mpsc::Receiver<Happened>) {
        let config = engine::Config {
            node: "a".to_owned(),
            key: [7; 32],
            listeners: Vec::new(),
            timing: Default::default(),
            route: route::Config::default(),
            sets: Vec::new(),
            limits: Default::default(),
            call_events: true,
            records: true,
            trace: Default::default(),
        };
        let sockets = Sockets::bind(&["127.0.0.1:0".parse().expect("an address")]).expect("a free port");
        let (events, heard) = mpsc::channel(1);
        let counters = Arc::default();
        let wires = Wires { sockets, udp: vec![ListenerId(0)], streams: None };
        let outside = Outside { events, lookups: mpsc::channel(1).0, checks: mpsc::channel(1).0 };
        (Turns::new(Engine::new(config, [1; 32]), wires, mpsc::channel(1).1, outside, counters), heard)
    }

    fn flow(transport: Transport, peer: SocketAddr) -> Flow {
        Flow { listener: ListenerId(0), transport, peer, connection: ConnectionId::default() }
    }

    #[test]
    fn what_the_engine_says_leaves_by_its_listener_and_surplus_events_are_counted() {
        let (mut turns, mut heard) = turns();
        let peer = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = peer.local_addr().expect("bound");
        let send = |transport| Output::Send { flow: flow(transport, address), bytes: Bytes::from_static(b"hello") };
        let changes = |added| Output::Event(Event::SetsReplaced(Changes { added, ..Changes::default() }));
        turns.out = vec![send(Transport::Udp), send(Transport::Tcp), changes(1), changes(2)];
        turns.flush(Now { mono: turns.mono(), wall: SystemTime::now() });

        let mut buffer = [0; 16];
        let (count, from) = peer.recv_from(&mut buffer).expect("a datagram");
        assert_eq!((&buffer[..count], from), (&b"hello"[..], turns.wires.sockets.addresses()[0]));
        assert!(matches!(heard.try_recv().map(|told| told.event), Ok(Event::SetsReplaced(Changes { added: 1, .. }))));
        assert!(heard.try_recv().is_err());
        let mut expected = EdgeCounters { sent: 1, sent_bytes: 5, events_dropped: 1, ..EdgeCounters::default() };
        expected.send_faults[SendFault::NoSocket as usize] = 1;
        assert_eq!(turns.counters.read(), expected);
    }

    #[test]
    fn stories_leave_half_of_the_room_to_other_events() {
        let (mut turns, _) = turns();
        let (events, mut heard) = mpsc::channel(8);
        turns.outside.events = events;
        let address = "127.0.0.1:5060".parse().expect("an address");
        let packet = Packet {
            flow: flow(Transport::Udp, address),
            ours: address,
            listener: String::new(),
            line: String::new(),
            method: String::new(),
            status: None,
            branch: String::new(),
            bytes: Bytes::new(),
        };
        let what = What::Came(packet);
        let step = Step { at: SystemTime::UNIX_EPOCH, call_id: "a".to_owned(), id: 1, asked: false, what };
        turns.out = (0..10).map(|_| Output::Event(Event::Traced(Box::new(step.clone())))).collect();
        turns.out.push(Output::Event(Event::SetsReplaced(Changes::default())));
        turns.flush(at(Duration::ZERO));
        let told: Vec<_> = std::iter::from_fn(|| heard.try_recv().ok()).map(|told| told.event).collect();
        assert!(
            matches!(told.as_slice(), [.., Event::Traced(_), Event::SetsReplaced(_)]) && told.len() == 5,
            "{told:?}"
        );
        let counted = turns.counters.read();
        assert_eq!((counted.steps_dropped, counted.events_dropped), (6, 0));
    }

    /// One UDP listener, and a set with one server: a socket that this test holds.
    fn serving(server: &UdpSocket, timeout: Duration) -> Turns {
        let (mut turns, _) = turns();
        let bind = turns.wires.sockets.addresses()[0];
        let address = server.local_addr().expect("bound");
        let listener = Listener {
            id: ListenerId(0),
            transport: Transport::Udp,
            bind,
            advertise: bind.into(),
            role: Role::Node,
            sources: Default::default(),
        };
        let target = Target { set: SetId(19), rewrite: Rewrite::Article, record_route_params: String::new() };
        let when = vec![Condition::Method(vec!["INVITE".to_owned()])];
        let rule = Rule { name: "all".to_owned(), when, action: Action::Set(Arc::new(target)) };
        let mut policy = Policy::of(SetId(19));
        policy.failover.first_response_timeout = timeout;
        let config = engine::Config {
            node: "a".to_owned(),
            key: [7; 32],
            listeners: vec![listener],
            timing: Default::default(),
            route: route::Config { rules: vec![rule], ..route::Config::default() },
            sets: vec![policy],
            limits: Default::default(),
            call_events: false,
            records: false,
            trace: Default::default(),
        };
        turns.engine = Engine::new(config, [1; 32]);
        let row = Row::new(SERVER.to_owned(), address);
        let sets = Sets(vec![Set { id: SetId(19), rows: vec![row] }]);
        turns.engine.handle(Input::Sets(sets), at(Duration::ZERO), &mut turns.out);
        turns
    }

    const SERVER: &str = "sip:server";

    fn at(time: Duration) -> Now {
        Now { mono: engine::Instant::after_start(time), wall: SystemTime::UNIX_EPOCH + time }
    }

    /// One turn, once a datagram is there.
    fn turn(turns: &mut Turns, time: Duration) {
        turns.wires.sockets.wait(Some(Duration::from_secs(30))).expect("a wait");
        assert_eq!(turns.wires.sockets.ready(), 1, "a datagram within the time");
        turns.turn(at(time), &mut Batch::default());
    }

    fn invite(caller: &UdpSocket, call: &str, body: usize) -> String {
        let from = caller.local_addr().expect("bound");
        format!(
            "INVITE sip:tts@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK-{call}\r\nMax-Forwards: 70\r\n\
             From: <sip:a@{from}>;tag=1\r\nTo: <sip:tts@127.0.0.1>\r\nCall-ID: {call}\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:a@{from}>\r\nContent-Length: {body}\r\n\r\n{}",
            "x".repeat(body)
        )
    }

    fn peer() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        socket
    }

    fn text(socket: &UdpSocket) -> String {
        let mut buffer = vec![0; 1 << 16];
        let count = socket.recv(&mut buffer).expect("a datagram within the time");
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    }

    fn line(socket: &UdpSocket) -> String {
        text(socket).lines().next().unwrap_or_default().to_owned()
    }

    fn outcomes(turns: &Turns) -> Vec<Outcome> {
        let history = turns.engine.history(SetId(19), SERVER);
        history.into_iter().flat_map(|(_, all)| all).map(|one| one.outcome).collect()
    }

    #[test]
    fn calls_that_grow_too_large_for_a_datagram_are_refused_at_once_and_put_no_server_out() {
        const LARGEST: usize = 65_507;
        let (caller, server) = (peer(), peer());
        let mut turns = serving(&server, Duration::from_secs(2));
        let to = turns.wires.sockets.addresses()[0];
        for call in 0..5 {
            let head = invite(&caller, &call.to_string(), 10_000).len() - 10_000;
            caller.send_to(invite(&caller, &call.to_string(), LARGEST - head).as_bytes(), to).expect("sent");
            turn(&mut turns, Duration::from_millis(call));
            assert_eq!(line(&caller), "SIP/2.0 100 Trying");
            assert!(line(&caller).starts_with("SIP/2.0 480 "), "at once");
        }
        assert_eq!(outcomes(&turns), [Outcome::Unsent; 5]);
        assert_eq!(turns.counters.read().send_faults[SendFault::TooLarge as usize], 5);
        caller.send_to(invite(&caller, "small", 0).as_bytes(), to).expect("sent");
        turn(&mut turns, Duration::from_millis(5));
        assert!(line(&server).starts_with("INVITE "), "it is fit");
    }

    #[test]
    fn after_a_stall_the_answers_that_wait_come_before_the_timers() {
        let (caller, server) = (peer(), peer());
        let mut turns = serving(&server, Duration::from_secs(2));
        let to = turns.wires.sockets.addresses()[0];
        for call in 0..3 {
            caller.send_to(invite(&caller, &call.to_string(), 0).as_bytes(), to).expect("sent");
            turn(&mut turns, Duration::from_millis(call));
            assert_eq!(line(&caller), "SIP/2.0 100 Trying");
        }
        for _ in 0..3 {
            let invite = text(&server).replace("To: <sip:tts@127.0.0.1>", "To: <sip:tts@127.0.0.1>;tag=2");
            let names = ["Via:", "Record-Route:", "From:", "To:", "Call-ID:", "CSeq:"];
            let kept = invite.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
            let kept: String = kept.map(|line| format!("{line}\r\n")).collect();
            let answer = format!("SIP/2.0 200 OK\r\n{kept}Contact: <{SERVER}>\r\nContent-Length: 0\r\n\r\n");
            server.send_to(answer.as_bytes(), to).expect("sent");
        }
        turn(&mut turns, Duration::from_secs(10));
        assert_eq!(outcomes(&turns), [Outcome::answered(200); 3]);
        for _ in 0..3 {
            assert_eq!(line(&caller), "SIP/2.0 200 OK");
        }
    }

    #[test]
    fn timers_wake_the_thread_on_a_grid_and_never_early() {
        for (micros, expected) in [(0, 0), (1, 10_000), (10_000, 10_000), (499_999, 500_000), (500_001, 510_000)] {
            let moment = |micros| engine::Instant::after_start(Duration::from_micros(micros));
            assert_eq!(on_grid(moment(micros)), moment(expected), "{micros}");
        }
    }

    #[test]
    fn a_panic_in_the_engines_thread_ends_the_process() {
        if env::var_os(CHILD).is_some() {
            let thread = thread::spawn(|| {
                let _guard = AbortOnPanic;
                panic!("as a fault of ours would");
            });
            let _ = thread.join();
            return;
        }
        let status = Command::new(env::current_exe().expect("this program"))
            .args(["--exact", "server::turn::tests::a_panic_in_the_engines_thread_ends_the_process"])
            .env(CHILD, "1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("a child");
        const SIGABRT: i32 = 6;
        assert_eq!(status.signal(), Some(SIGABRT), "{status}");
    }
}
