//! The server: one thread that owns the engine and the UDP sockets, TCP beside it, and the handle by which all others speak
//! to it.

mod addresses;
mod checks;
mod cluster;
mod explain;
mod fit;
mod hooks;
mod memory;
mod names;
mod node;
mod queues;
mod ready;
mod sets;
mod standing;
mod surface;
mod told;
mod turn;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};
use std::{io, thread};

use tokio::sync::{Notify, mpsc, oneshot};

use crate::edge::counters::{Counters, EdgeCounters, HttpRefusal};
use crate::edge::journal::EventsFile;
use crate::edge::lines::{Lines, LinesConfig};
use crate::edge::metrics::Queue;
use crate::edge::records::Records;
use crate::edge::resolve::Question;
use crate::edge::tcp::{self, StreamLimits, Streams};
use crate::edge::udp::{BindError, Sockets, Waker};
use crate::engine::dispatch::{
    DistrustOrder, NoSuchDestination, NotDistrusted, NotOrdered, OrderTerms, Outcome, PeerReport, Remembered, SetId,
    Sets, Standing,
};
use crate::engine::event::{AgentId, Changes, CheckId, Drain, EndOrder, Input, LookupId, NotEnded};
use crate::engine::explain::{Came, Explained};
use crate::engine::flow::{HostPort, Listener, ListenerId, Transport};
use crate::engine::snapshot::SessionPage;
use crate::engine::trace::{NotTraced, TraceOrder};
use crate::engine::{self, Engine, Now, Snapshot};

use queues::Queues;
use turn::{Order, Outside, Turns, Wires};

pub use explain::{Offline, explain_offline};
pub use node::{Node, NodeError};
pub use sets::check_rows;
pub use told::Happened;
pub use turn::{Asked, History};

/// Orders that may wait; whoever gives one more waits itself.
const ORDERS: usize = 64;
/// A snapshot costs time in the engine's thread, so one serves all who ask within this time: four a second.
const SNAPSHOT_AGE: Duration = Duration::from_millis(250);

/// All that a server is told at its start.
#[derive(Debug)]
pub struct ServerConfig {
    /// The engine's part. A listener with port 0 gets a free one, and so does its `advertise` if that is 0.
    pub engine: engine::Config,
    /// The sets to begin with.
    pub sets: Sets,
    /// What was known of their destinations before a restart.
    pub remembered: Vec<Remembered>,
    /// What bounds TCP connections.
    pub streams: StreamLimits,
    /// What the engine's random choices grow from; another one for each start.
    pub seed: [u8; 32],
    /// Who hears of events. What finds it full or closed is dropped and counted.
    pub events: mpsc::Sender<Happened>,
    /// Who looks up the names that messages lead to. What finds it full or closed is not looked up.
    pub lookups: mpsc::Sender<Lookup>,
    /// Who asks destinations by other means than SIP. What finds it full or closed is not asked.
    pub checks: mpsc::Sender<Asked>,
}

/// A name that the engine wants looked up; [`Handle::resolved`] takes the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// To be told with the answer.
    pub id: LookupId,
    /// The name.
    pub question: Question,
}

/// Why a server can't start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A socket could not be made.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A TCP listener could not be made.
    #[error(transparent)]
    Tcp(#[from] tcp::BindError),
    /// A listener asks for a transport that is not built.
    #[error("cannot listen on {transport} {address}: only udp and tcp are served: give one of them in `bind`", transport = .transport.name())]
    Transport {
        /// The listener's address.
        address: SocketAddr,
        /// What it asks for.
        transport: Transport,
    },
    /// The engine's thread could not be made.
    #[error("cannot start the engine's thread: {0}: raise the limit of processes (ulimit -u)")]
    Thread(io::Error),
}

/// The server has been stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server has been stopped")]
pub struct Gone;

/// A SIP server in being.
#[derive(Debug)]
pub struct Server;

/// Speaks to a server from any thread; cheap to clone. The server stops with its last handle.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    orders: mpsc::Sender<Order>,
    // Declared after `orders`, so dropped after it: the thread wakes and finds that nobody is left to order anything.
    waker: WakeOnDrop,
    listeners: Vec<Listener>,
    addresses: Vec<SocketAddr>,
    counters: Arc<Counters>,
    queues: Queues,
    /// An order was given.
    given: Notify,
    // Held while one is being fetched: others who ask meanwhile get the same.
    snapshot: tokio::sync::Mutex<Option<(Instant, Arc<Snapshot>)>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct WakeOnDrop(Waker);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        self.0.wake();
    }
}

impl Server {
    /// Binds the listeners and starts the engine's thread, which serves until [`Handle::stop`]. With a TCP listener it
    /// needs a tokio runtime that outlives the server.
    pub fn start(config: ServerConfig) -> Result<Handle, ServerError> {
        let ServerConfig { engine: mut config, sets, remembered, streams: limits, seed, events, lookups, checks } =
            config;
        let counters = Arc::new(Counters::default());
        let wires = bind(&mut config.listeners, limits, &counters)?;
        let listeners = config.listeners.clone();
        let addresses = listeners.iter().map(|listener| listener.bind).collect();
        let waker = wires.sockets.waker();
        let (orders, incoming) = mpsc::channel(ORDERS);
        let queues = Queues {
            orders: orders.downgrade(),
            events: events.downgrade(),
            lookups: lookups.downgrade(),
            checks: checks.downgrade(),
            streams: wires.streams.as_ref().map(Streams::queue),
        };
        let outside = Outside { events, lookups, checks };
        let mut engine = Engine::new(config, seed);
        // Before the first datagram is read: a node must not refuse calls for want of sets that it has.
        let now = Now { mono: engine::Instant::ZERO, wall: SystemTime::now() };
        let mut out = Vec::new();
        engine.handle(Input::Sets(sets), now, &mut out);
        // Whoever starts the server knows what it starts with.
        out.clear();
        engine.handle(Input::Remembered(&remembered), now, &mut out);
        let turns = Turns::new(engine, wires, incoming, outside, Arc::clone(&counters)).beginning_with(out);
        let thread = thread::Builder::new().name("tandem-engine".to_owned()).spawn(move || turns.run());
        Ok(Handle(Arc::new(Shared {
            orders,
            waker: WakeOnDrop(waker),
            listeners,
            addresses,
            counters,
            queues,
            given: Notify::new(),
            snapshot: tokio::sync::Mutex::new(None),
            thread: Mutex::new(Some(thread.map_err(ServerError::Thread)?)),
        })))
    }
}

impl Handle {
    /// The engine's state, at most a quarter of a second old.
    pub async fn snapshot(&self) -> Result<Arc<Snapshot>, Gone> {
        let mut cached = self.0.snapshot.lock().await;
        if let Some((taken, snapshot)) = &*cached
            && taken.elapsed() < SNAPSHOT_AGE
            && !self.0.orders.is_closed()
        {
            return Ok(Arc::clone(snapshot));
        }
        let snapshot = self.order(Order::Snapshot).await?;
        *cached = Some((Instant::now(), Arc::clone(&snapshot)));
        Ok(snapshot)
    }

    /// The engine's state now; nobody else is served it.
    pub async fn fresh_snapshot(&self) -> Result<Arc<Snapshot>, Gone> {
        self.order(Order::Snapshot).await
    }

    /// Puts `sets` in the place of all sets and tells what that changed.
    pub async fn replace(&self, sets: Sets) -> Result<Changes, Gone> {
        self.replace_with(sets, Vec::new()).await
    }

    /// The same with what is known of destinations beforehand: no call finds one of them without.
    async fn replace_with(&self, sets: Sets, known: Vec<Remembered>) -> Result<Changes, Gone> {
        let changes = self.order(|done| Order::Replace(sets, known, done)).await?;
        self.forget_snapshot().await;
        Ok(changes)
    }

    /// Goes so far in leaving. Returns when the engine knows.
    pub async fn drain(&self, drain: Drain) -> Result<(), Gone> {
        self.order(|done| Order::Drain(drain, done)).await?;
        self.forget_snapshot().await;
        Ok(())
    }

    /// Tells whether the address of a listener is this machine's now. Returns when the engine knows.
    async fn hold(&self, listener: ListenerId, held: bool) -> Result<(), Gone> {
        self.order(|done| Order::Hold(listener, held, done)).await?;
        self.forget_snapshot().await;
        Ok(())
    }

    /// Tells where the name of a [`Lookup`] leads, best first; nowhere if nobody knows.
    pub async fn resolved(&self, id: LookupId, addresses: Vec<SocketAddr>) -> Result<(), Gone> {
        self.0.orders.send(Order::Resolved(id, addresses)).await.map_err(|_| Gone)?;
        self.0.waker.0.wake();
        Ok(())
    }

    /// Gives an order to a destination, by its `destination` column, held to nothing.
    ///
    /// # Errors
    /// [`NotOrdered`] inside; [`Gone`] outside.
    pub async fn give(&self, set: SetId, uri: &str, standing: Standing) -> Result<Result<(), NotOrdered>, Gone> {
        self.give_on(set, uri, standing, OrderTerms::NONE).await
    }

    /// The same, if it keeps to its terms.
    ///
    /// # Errors
    /// [`NotOrdered`] inside; [`Gone`] outside.
    pub async fn give_on(
        &self,
        set: SetId,
        uri: &str,
        standing: Standing,
        terms: OrderTerms,
    ) -> Result<Result<(), NotOrdered>, Gone> {
        let given = self.order(|done| Order::Give(set, uri.to_owned(), standing, terms, done)).await?;
        self.forget_snapshot().await;
        self.0.given.notify_one();
        Ok(given)
    }

    /// Holds a destination for failed, until a probe or a call has shown otherwise.
    ///
    /// # Errors
    /// [`NotDistrusted`] inside; [`Gone`] outside.
    pub async fn distrust(&self, order: DistrustOrder) -> Result<Result<(), NotDistrusted>, Gone> {
        let done = self.order(|done| Order::Distrust(order, done)).await?;
        self.forget_snapshot().await;
        Ok(done)
    }

    /// Waits until an order has been given to a destination; for one who waits.
    async fn order_given(&self) {
        self.0.given.notified().await;
    }

    /// The last observations of a destination by address, oldest first; empty if it is not loaded.
    pub async fn history(&self, set: SetId, uri: &str) -> Result<History, Gone> {
        self.order(|done| Order::History(set, uri.to_owned(), done)).await
    }

    /// Some of the live sessions of a set, or of one of its destinations ([`Engine::sessions`]).
    ///
    /// # Errors
    /// [`NoSuchDestination`] inside; [`Gone`] outside.
    pub async fn sessions(
        &self,
        set: SetId,
        uri: Option<&str>,
        (offset, limit): (usize, usize),
    ) -> Result<Result<SessionPage, NoSuchDestination>, Gone> {
        let uri = uri.map(str::to_owned);
        self.order(|done| Order::Sessions(set, uri, (offset, limit), done)).await
    }

    /// Ends sessions for an operator; how many are being ended. Of a destination's all are counted: those that this node can't
    /// end stay.
    ///
    /// # Errors
    /// [`NotEnded`] inside; [`Gone`] outside.
    pub async fn end(&self, order: EndOrder) -> Result<Result<u64, NotEnded>, Gone> {
        let ended = self.order(|done| Order::End(order, done)).await?;
        self.forget_snapshot().await;
        Ok(ended)
    }

    /// Tells of a call from now on, by events.
    ///
    /// # Errors
    /// [`NotTraced`] inside; [`Gone`] outside.
    pub async fn trace(&self, order: TraceOrder) -> Result<Result<(), NotTraced>, Gone> {
        self.order(|done| Order::Trace(order, done)).await
    }

    /// What would become of a message that came so.
    pub async fn explain(&self, message: Vec<u8>, came: Came) -> Result<Explained, Gone> {
        self.order(|done| Order::Explain(message, came, done)).await
    }

    /// What this node tells the other nodes of its cluster. Sessions that it has taken over are told once.
    pub async fn report(&self) -> Result<PeerReport, Gone> {
        self.order(Order::Report).await
    }

    /// Tells what the other nodes of the cluster tell.
    pub async fn peers(&self, reports: Vec<PeerReport>) -> Result<(), Gone> {
        self.0.orders.send(Order::Peers(reports)).await.map_err(|_| Gone)?;
        self.0.waker.0.wake();
        Ok(())
    }

    /// Tells how a check of [`Asked::Check`] has ended.
    pub async fn checked(&self, id: CheckId, outcome: Outcome) -> Result<(), Gone> {
        self.0.orders.send(Order::Checked(id, outcome)).await.map_err(|_| Gone)?;
        self.0.waker.0.wake();
        Ok(())
    }

    /// Tells that a check of [`Asked::Check`] could not be made, for reasons of our own, and counts it.
    pub async fn unchecked(&self, id: CheckId) -> Result<(), Gone> {
        self.0.counters.not_checked();
        self.0.orders.send(Order::Unchecked(id)).await.map_err(|_| Gone)?;
        self.0.waker.0.wake();
        Ok(())
    }

    /// Tells what the agent of [`Asked::Agent`] has answered; none: nothing good.
    pub async fn agent_said(&self, id: AgentId, body: Option<Vec<u8>>) -> Result<(), Gone> {
        self.0.orders.send(Order::AgentSaid(id, body)).await.map_err(|_| Gone)?;
        self.0.waker.0.wake();
        Ok(())
    }

    /// Ends the thread and closes the sockets, at once; returns when the addresses are free again.
    pub async fn stop(&self) {
        if self.0.orders.send(Order::Stop).await.is_ok() {
            self.0.waker.0.wake();
        }
        self.0.orders.closed().await;
        let thread = self.0.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It closed the channel as its last act, so this takes no time. A panic in it has ended the process.
            let _ = thread.join();
        }
    }

    /// The bound addresses in the order of the listeners, ports filled in.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.0.addresses
    }

    /// The listeners as the engine knows them, ports filled in.
    pub fn listeners(&self) -> &[Listener] {
        &self.0.listeners
    }

    /// What the edge has counted since the start.
    pub fn edge_counters(&self) -> EdgeCounters {
        self.0.counters.read()
    }

    /// How full the queues between the engine's thread and others are.
    pub fn queues(&self) -> Vec<Queue> {
        self.0.queues.look()
    }

    /// Starts to write records, counted among [`Handle::edge_counters`].
    fn start_records(&self, config: &LinesConfig, node: &str) -> io::Result<Records> {
        Records::start(config, node, self.0.counters.records())
    }

    /// Starts to write events, counted there too.
    fn start_events(&self, config: &LinesConfig) -> io::Result<EventsFile> {
        Lines::start(config, self.0.counters.events())
    }

    fn not_asked(&self) {
        self.0.counters.not_checked();
    }

    fn http_refused(&self, why: HttpRefusal) {
        self.0.counters.http_refused(why);
    }

    fn not_kept(&self) {
        self.0.counters.not_kept();
    }

    async fn order<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Result<T, Gone> {
        let (answer, answered) = oneshot::channel();
        self.0.orders.send(order(answer)).await.map_err(|_| Gone)?;
        self.0.waker.0.wake();
        answered.await.map_err(|_| Gone)
    }

    // Whoever changed something wants to see it.
    async fn forget_snapshot(&self) {
        *self.0.snapshot.lock().await = None;
    }
}

/// Binds all listeners and writes the ports that they got into them.
fn bind(listeners: &mut [Listener], limits: StreamLimits, counters: &Arc<Counters>) -> Result<Wires, ServerError> {
    if let Some(other) = listeners.iter().find(|listener| listener.transport == Transport::Tls) {
        return Err(ServerError::Transport { address: other.bind, transport: other.transport });
    }
    let of = |transport| {
        let spoken = listeners.iter().filter(move |listener| listener.transport == transport);
        spoken.map(|listener| (listener.id, listener.bind)).collect::<Vec<_>>()
    };
    let (udp, tcp) = (of(Transport::Udp), of(Transport::Tcp));
    let asked: Vec<_> = udp.iter().map(|&(_, address)| address).collect();
    let sockets = Sockets::bind(&asked)?;
    let streams = match tcp.as_slice() {
        [] => None,
        tcp => Some(Streams::bind(tcp, limits, sockets.waker(), Arc::clone(counters))?),
    };
    let of_tcp = streams.as_ref().map_or(&[][..], Streams::addresses);
    let bound = udp.iter().zip(sockets.addresses()).chain(tcp.iter().zip(of_tcp));
    for (&(id, _), &bound) in bound {
        let listener = &mut listeners[usize::from(id.0)];
        listener.bind = bound;
        if listener.advertise.port == 0 {
            listener.advertise = HostPort { port: bound.port(), ..listener.advertise.clone() };
        }
    }
    let udp = udp.into_iter().map(|(id, _)| id).collect();
    Ok(Wires { sockets, udp, streams })
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::engine::flow::Role;
    use crate::engine::route;

    fn listener(id: u16, bind: SocketAddr) -> Listener {
        let advertise = HostPort { host: "sip.example.net".to_owned(), port: 0 };
        Listener {
            id: ListenerId(id),
            transport: Transport::Udp,
            bind,
            advertise,
            role: Role::Node,
            sources: Default::default(),
        }
    }

    fn config(listeners: Vec<Listener>) -> ServerConfig {
        let engine = engine::Config {
            node: "a".to_owned(),
            key: [7; 32],
            listeners,
            timing: Default::default(),
            route: route::Config::default(),
            sets: Vec::new(),
            limits: Default::default(),
            call_events: true,
            records: true,
            trace: Default::default(),
        };
        let (events, lookups, checks) = (mpsc::channel(16).0, mpsc::channel(1).0, mpsc::channel(1).0);
        let (sets, streams) = (Sets::default(), StreamLimits::default());
        ServerConfig { engine, sets, remembered: Vec::new(), streams, seed: [1; 32], events, lookups, checks }
    }

    fn loopback() -> [SocketAddr; 2] {
        ["127.0.0.1:0", "[::1]:0"].map(|address| address.parse().expect("an address"))
    }

    fn start() -> Handle {
        let listeners = loopback().into_iter().zip(0..).map(|(address, id)| listener(id, address)).collect();
        Server::start(config(listeners)).expect("free ports")
    }

    // A turn takes orders before datagrams, and an order given after an answer waits for another turn. The first may fall
    // into a turn whose wait ended before the datagrams came; the second's turn takes them; the third's comes after it.
    async fn turns(server: &Handle) {
        for _ in 0..3 {
            server.drain(Drain::Refusing).await.expect("running");
        }
    }

    #[tokio::test]
    async fn datagrams_on_every_listener_reach_the_engine() {
        let server = start();
        for address in server.addresses() {
            let client = UdpSocket::bind((address.ip(), 0)).expect("a free port");
            for bytes in [&b"TEST"[..], b"", b"\r\n\r\n"] {
                client.send_to(bytes, address).expect("sent");
            }
        }
        turns(&server).await;
        let counters = server.edge_counters();
        assert_eq!((counters.received, counters.received_bytes, counters.receive_faults), (6, 16, 0));
        server.stop().await;
    }

    #[tokio::test]
    async fn port_zero_is_filled_in_before_the_engine_hears_of_it() {
        let server = start();
        for (listener, address) in server.listeners().iter().zip(server.addresses()) {
            assert_ne!(address.port(), 0);
            assert_eq!((listener.bind, listener.advertise.port), (*address, address.port()));
            assert_eq!(listener.advertise.host, "sip.example.net");
        }
    }

    #[tokio::test]
    async fn orders_wake_a_sleeping_thread_and_are_answered() {
        // Without a datagram and without a deadline nothing but the bell can wake it.
        let server = start();
        assert_eq!(server.replace(Sets::default()).await, Ok(Changes::default()));
        assert_eq!(server.drain(Drain::Refusing).await, Ok(()));
        assert!(server.snapshot().await.is_ok());
    }

    #[tokio::test]
    async fn one_snapshot_serves_many_but_not_over_a_change() {
        let server = start();
        let first = server.snapshot().await.expect("running");
        // The stub of a slow machine may take its quarter of a second here; then a new one is right.
        let fresh = Instant::now();
        let second = server.snapshot().await.expect("running");
        assert!(Arc::ptr_eq(&first, &second) || fresh.elapsed() >= SNAPSHOT_AGE);
        server.drain(Drain::Refusing).await.expect("running");
        let third = server.snapshot().await.expect("running");
        assert!(!Arc::ptr_eq(&first, &third));
    }

    #[tokio::test]
    async fn a_stopped_server_frees_its_addresses_and_answers_gone() {
        let server = start();
        let other = server.clone();
        server.snapshot().await.expect("running");
        server.stop().await;
        for &address in server.addresses() {
            UdpSocket::bind(address).expect("free again");
        }
        other.stop().await;
        assert_eq!(other.drain(Drain::Refusing).await, Err(Gone));
        assert_eq!(other.replace(Sets::default()).await, Err(Gone));
        assert_eq!(other.snapshot().await.map(|_| ()), Err(Gone));
    }

    #[tokio::test]
    async fn the_last_handle_takes_the_server_with_it() {
        let server = start();
        let orders = server.0.orders.downgrade();
        let thread = server.0.thread.lock().expect("whole").take().expect("a thread");
        drop(server);
        thread.join().expect("it ended in peace");
        assert!(orders.upgrade().is_none());
    }

    #[tokio::test]
    async fn many_servers_live_in_one_process() {
        let servers: Vec<_> = (0..20).map(|_| start()).collect();
        for server in &servers {
            turns(server).await;
            let counted = EdgeCounters { turns: 0, busy: Duration::ZERO, ..server.edge_counters() };
            assert_eq!(counted, EdgeCounters::default());
            assert!(server.edge_counters().turns >= 2, "orders take turns");
            server.stop().await;
        }
    }

    #[test]
    fn a_taken_address_stops_the_start() {
        let taken = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("bound");
        let error = Server::start(config(vec![listener(0, address)])).expect_err("taken").to_string();
        assert!(error.contains(&address.to_string()), "{error}");
    }

    #[test]
    fn a_tls_listener_is_refused_by_name() {
        let mut stream = listener(0, loopback()[0]);
        stream.transport = Transport::Tls;
        let error = Server::start(config(vec![stream])).expect_err("not built").to_string();
        assert_eq!(error, "cannot listen on tls 127.0.0.1:0: only udp and tcp are served: give one of them in `bind`");
    }
}
