//! TCP: listeners and connections on the tokio runtime, joined to the engine's thread by one bounded channel and its bell.
//!
//! A peer that sends too much is read no further while that channel is full; one that takes too little has a queue of its
//! own, and what finds it full comes back at once. So no peer delays another.

mod bind;
mod connection;
mod table;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, mpsc as blocking};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tracing::warn;

use self::table::{NoPlace, Origin, Outgoing, Table, Waiting};
use crate::edge::counters::Counters;
use crate::edge::udp::Waker;
use crate::engine::flow::{ConnectionId, Fault, Flow, ListenerId, Transport};
use crate::engine::sip::{FrameFault, FrameLimits};

pub use bind::BindError;

/// What peers have said and the engine's thread has not yet taken.
const HEARD: usize = 1024;
/// How long the end of a server waits for its listeners to be closed.
const GOODBYE: Duration = Duration::from_secs(1);
/// The pause after a connection could not be taken: there may be no file descriptors left.
const NO_DESCRIPTORS: Duration = Duration::from_millis(100);

/// What bounds connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// Connections that peers make; as many may be made by us.
    pub connections: usize,
    /// Connections from one IP address.
    pub connections_per_source: usize,
    /// How long a connection of ours may take to be made.
    pub connect_timeout: Duration,
    /// A peer's connection must bring a whole message within this time, and any connection the rest of one that has begun.
    pub message_timeout: Duration,
    /// A connection that carries nothing for so long, either way, is closed.
    pub idle_timeout: Duration,
    /// Bytes that may wait to be written on all connections together; a message beyond it is undelivered at once.
    pub queued: usize,
    /// How large one message may be.
    pub frame: FrameLimits,
}

impl StreamLimits {
    /// Connections from peers that may be without a whole message as yet: a quarter.
    fn half_open(&self) -> usize {
        self.connections.div_ceil(4)
    }
}

impl Default for StreamLimits {
    fn default() -> Self {
        StreamLimits {
            connections: 10_000,
            connections_per_source: 2000,
            connect_timeout: Duration::from_secs(2),
            message_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(600),
            queued: 64 << 20,
            frame: FrameLimits::default(),
        }
    }
}

/// What the connections have for the engine.
#[derive(Debug)]
pub enum Heard {
    /// One whole message, or a ping.
    Message {
        /// The way it came.
        flow: Flow,
        /// As it came.
        bytes: Bytes,
    },
    /// A stream can't be followed any further.
    Unframed {
        /// The way it came.
        flow: Flow,
        /// The head of the message, as far as it came.
        head: Bytes,
        /// Why.
        fault: FrameFault,
    },
    /// A message could not be sent.
    Undelivered {
        /// The way that the engine gave.
        flow: Flow,
        /// The message.
        bytes: Bytes,
        /// Whose doing it is.
        fault: Fault,
    },
    /// A connection that we had made broke: whatever went that way and was not answered may be lost.
    Lost {
        /// The way, without a connection.
        flow: Flow,
    },
}

/// The engine's end of all connections. Dropping it closes them, and the listeners.
#[derive(Debug)]
pub struct Streams {
    shared: Arc<Shared>,
    heard: mpsc::Receiver<Heard>,
    addresses: Vec<SocketAddr>,
    stop: watch::Sender<()>,
    /// Says that the last listener is closed: nothing is ever sent.
    listening: blocking::Receiver<()>,
}

/// What the connections' tasks share.
#[derive(Debug)]
struct Shared {
    runtime: Handle,
    limits: StreamLimits,
    table: Mutex<Table>,
    heard: mpsc::Sender<Heard>,
    waker: Waker,
    counters: Arc<Counters>,
    /// Each listener's address, for connections that leave by it.
    listeners: Vec<(ListenerId, SocketAddr)>,
    start: Instant,
    stop: watch::Receiver<()>,
}

impl Streams {
    /// Listens on every address; port 0 takes a free one. An address need not be on this host yet (IP_FREEBIND).
    /// `waker` wakes the thread that takes what is heard.
    ///
    /// # Errors
    /// The first address that can't be bound.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn bind(
        listeners: &[(ListenerId, SocketAddr)],
        limits: StreamLimits,
        waker: Waker,
        counters: Arc<Counters>,
    ) -> Result<Self, BindError> {
        let mut sockets = Vec::new();
        let mut bound = Vec::new();
        for &(id, address) in listeners {
            let socket = bind::listener(address)?;
            let local = socket.local_addr().map_err(|source| BindError { address, source })?;
            sockets.push((id, socket));
            bound.push((id, local));
        }
        let (heard, incoming) = mpsc::channel(HEARD);
        let (stop, stopped) = watch::channel(());
        let (open, listening) = blocking::channel();
        let addresses = bound.iter().map(|&(_, address)| address).collect();
        let shared = Arc::new(Shared {
            runtime: Handle::current(),
            limits,
            table: Mutex::new(Table::new(limits)),
            heard,
            waker,
            counters,
            listeners: bound,
            start: Instant::now(),
            stop: stopped,
        });
        for (id, socket) in sockets {
            shared.runtime.spawn(accept(socket, id, Arc::downgrade(&shared), stop.subscribe(), open.clone()));
        }
        Ok(Streams { shared, heard: incoming, addresses, stop, listening })
    }

    /// The addresses as bound, in their order, ports filled in.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The queue of what is heard, to look at.
    pub fn queue(&self) -> mpsc::WeakSender<Heard> {
        self.shared.heard.downgrade()
    }

    /// Sends one message: by the flow's connection while there is that one, else by the one that we have made to the
    /// flow's peer, else by a new one to there. What can't be delivered later comes back as [`Heard::Undelivered`].
    ///
    /// # Errors
    /// The message, if a queue is full, which is the peer's fault, or too much waits on all of them or there are too many
    /// connections, which is ours.
    pub fn send(&self, flow: Flow, bytes: Bytes) -> Result<(), (Fault, Bytes)> {
        self.shared.send(Outgoing { flow, bytes }).map_err(|(fault, message)| (fault, message.bytes))
    }

    /// Closes a connection once what waits for it is written.
    pub fn close(&self, connection: ConnectionId) {
        self.shared.table().close(connection);
    }

    /// Closes every connection of a listener at once; what waits for them is lost, and nobody hears of it.
    pub fn close_all(&self, listener: ListenerId) {
        self.shared.table().close_all(listener);
    }

    /// The next that was heard; none if there is nothing now.
    pub fn heard(&mut self) -> Option<Heard> {
        self.heard.try_recv().ok()
    }

    /// Whether more was heard than has been taken.
    pub fn has_heard(&self) -> bool {
        !self.heard.is_empty()
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        // Who sees the server stopped finds its addresses free. The listeners' tasks only need a moment; should the
        // runtime be gone or busy, they are closed with it.
        let _ = self.listening.recv_timeout(GOODBYE);
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`Streams::send`].
    fn send(self: &Arc<Self>, message: Outgoing) -> Result<(), (Fault, Outgoing)> {
        let Flow { listener, peer, connection, .. } = message.flow;
        let mut table = self.table();
        let mut message = message;
        let known = [Some(connection).filter(|&id| id != ConnectionId::default()), table.to(listener, peer)];
        for id in known.into_iter().flatten() {
            message = match table.enqueue(id, message) {
                Ok(()) => return Ok(()),
                Err((NoPlace::Gone, message)) => message,
                Err((place, message)) => {
                    self.counters.stream_full();
                    return Err((fault_of(place), message));
                }
            };
        }
        let local = self.listeners.iter().find(|(id, _)| *id == listener).map(|(_, address)| address.ip());
        let Some(local) = local.filter(|_| peer.port() != 0) else { return Err((Fault::Ours, message)) };
        if !table.has_room(message.bytes.len()) {
            self.counters.stream_full();
            return Err((Fault::Ours, message));
        }
        let Some((id, queue)) = table.add_ours(listener, peer) else {
            self.counters.stream_refused();
            return Err((Fault::Ours, message));
        };
        let queued = table.enqueue(id, message).map_err(|(place, message)| (fault_of(place), message));
        self.counters.streams(table.len());
        drop(table);
        let flow = Flow { listener, transport: Transport::Tcp, peer, connection: id };
        self.runtime.spawn(connection::make(Arc::clone(self), flow, local, queue));
        queued
    }

    /// Takes a connection that a peer has made.
    fn take(self: &Arc<Self>, stream: TcpStream, listener: ListenerId, peer: SocketAddr) {
        let mut table = self.table();
        let Some((id, queue)) = table.add_theirs(listener, peer) else { return self.counters.stream_refused() };
        self.counters.streams(table.len());
        drop(table);
        self.counters.stream_accepted();
        let flow = Flow { listener, transport: Transport::Tcp, peer, connection: id };
        self.runtime.spawn(connection::serve(Arc::clone(self), flow, Origin::Peer, stream, queue));
    }

    /// Tells the engine's thread; waits while it has too much to do. False if it is gone.
    async fn hear(&self, heard: Heard) -> bool {
        let told = self.heard.send(heard).await.is_ok();
        self.waker.wake();
        told
    }

    /// Takes a connection out whose address is no longer this machine's.
    fn let_go(&self, id: ConnectionId) {
        let mut table = self.table();
        table.remove(id);
        self.counters.streams(table.len());
    }

    /// Takes a connection out. What it left unsent goes another way if there is one, else back to the engine, with whose
    /// fault the end was.
    async fn end(
        self: &Arc<Self>,
        id: ConnectionId,
        mut queue: mpsc::Receiver<Waiting>,
        unsent: Option<Waiting>,
        fault: Fault,
    ) {
        let count = {
            let mut table = self.table();
            table.remove(id);
            table.len()
        };
        self.counters.streams(count);
        queue.close();
        let mut left: Vec<_> = unsent.into_iter().map(|unsent| unsent.message).collect();
        while let Ok(Waiting { message, .. }) = queue.try_recv() {
            left.push(message);
        }
        for message in left {
            let undelivered = match message.flow.connection == id {
                // RFC 3261 section 18.2.2: to the address that the request's Via named.
                true => {
                    let flow = Flow { connection: ConnectionId::default(), ..message.flow };
                    self.send(Outgoing { flow, bytes: message.bytes }).err()
                }
                false => Some((fault, message)),
            };
            if let Some((fault, Outgoing { flow, bytes })) = undelivered {
                self.hear(Heard::Undelivered { flow, bytes, fault }).await;
            }
        }
    }
}

fn fault_of(place: NoPlace) -> Fault {
    match place {
        NoPlace::Full | NoPlace::Gone => Fault::Theirs,
        NoPlace::Crowded => Fault::Ours,
    }
}

/// Takes connections until the server ends.
async fn accept(
    socket: TcpListener,
    listener: ListenerId,
    shared: Weak<Shared>,
    mut stop: watch::Receiver<()>,
    // Dropped after the socket: tells that it is closed.
    _open: blocking::Sender<()>,
) {
    let socket = socket;
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            _ = stop.changed() => return,
        };
        let Some(shared) = shared.upgrade() else { return };
        match accepted {
            Ok((stream, peer)) => shared.take(stream, listener, peer),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(cause) => {
                warn!(%cause, "a TCP connection could not be taken: raise the limit of open files (ulimit -n)");
                shared.counters.stream_refused();
                tokio::time::sleep(NO_DESCRIPTORS).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::edge::udp::Sockets;

    const MESSAGE: &[u8] = b"OPTIONS sip:h SIP/2.0\r\nContent-Length: 0\r\n\r\n";

    fn streams(limits: StreamLimits) -> (Streams, SocketAddr, Arc<Counters>) {
        let waker = Sockets::bind(&[]).expect("an epoll").waker();
        let counters = Arc::<Counters>::default();
        let listener = (ListenerId(3), "127.0.0.1:0".parse().expect("an address"));
        let streams = Streams::bind(&[listener], limits, waker, Arc::clone(&counters)).expect("a free port");
        let address = streams.addresses()[0];
        (streams, address, counters)
    }

    fn flow(peer: SocketAddr, connection: u64) -> Flow {
        let connection = ConnectionId(connection);
        Flow { listener: ListenerId(3), transport: Transport::Tcp, peer, connection }
    }

    async fn heard(streams: &mut Streams) -> Heard {
        streams.heard.recv().await.expect("it runs")
    }

    async fn peer() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        (listener, address)
    }

    #[tokio::test]
    async fn a_message_goes_by_its_connection_or_by_one_to_the_peer_from_the_listeners_address() {
        let (mut streams, address, counters) = streams(StreamLimits::default());
        let (listener, fallback) = peer().await;
        let mut client = TcpStream::connect(address).await.expect("it listens");
        client.write_all(&[MESSAGE, MESSAGE].concat()).await.expect("sent");
        let Heard::Message { flow: came, bytes } = heard(&mut streams).await else { panic!("a message") };
        assert_eq!(
            (&bytes[..], came.listener, came.peer),
            (MESSAGE, ListenerId(3), client.local_addr().expect("bound"))
        );
        let back = flow(fallback, came.connection.0);
        streams.send(back, Bytes::from_static(b"one")).expect("room");
        let mut three = [0; 3];
        client.read_exact(&mut three).await.expect("sent");
        assert_eq!(&three, b"one");
        // Gone: the next message finds its own way, and so does one without a connection.
        assert!(matches!(heard(&mut streams).await, Heard::Message { .. }));
        drop(client);
        while streams.shared.table().len() > 0 {
            tokio::task::yield_now().await;
        }
        streams.send(back, Bytes::from_static(b"two")).expect("room");
        streams.send(flow(fallback, 0), Bytes::from_static(b"six")).expect("room");
        let (mut stream, from) = listener.accept().await.expect("a connection");
        assert_eq!(from.ip(), address.ip());
        let mut six = [0; 6];
        stream.read_exact(&mut six).await.expect("sent");
        assert_eq!((&six, counters.read().streams.connections), (b"twosix", 1));
    }

    #[tokio::test]
    async fn a_full_queue_gives_the_message_back_and_what_was_never_taken_comes_back_later() {
        let (mut streams, _, counters) = streams(StreamLimits::default());
        let (listener, deaf) = peer().await;
        let large = Bytes::from(vec![b'x'; 60_000]);
        let mut sent = 0;
        let back = loop {
            match streams.send(flow(deaf, 0), large.clone()) {
                Ok(()) => sent += 1,
                Err(back) => break back,
            }
            tokio::task::yield_now().await;
        };
        assert_eq!((back, counters.read().streams.full), ((Fault::Theirs, large), 1));
        assert!(sent >= 17, "{sent}");
        // Another peer is not concerned.
        let (other, address) = peer().await;
        streams.send(flow(address, 0), Bytes::from_static(b"one")).expect("room");
        let mut stream = other.accept().await.expect("a connection").0;
        let mut three = [0; 3];
        stream.read_exact(&mut three).await.expect("sent");
        drop(listener);
        assert!(matches!(heard(&mut streams).await, Heard::Lost { flow: lost } if lost == flow(deaf, 0)));
        assert!(matches!(heard(&mut streams).await, Heard::Undelivered { flow: lost, .. } if lost == flow(deaf, 0)));
    }

    #[tokio::test]
    async fn messages_wait_for_the_connection_and_come_back_if_there_will_be_none() {
        let (mut streams, _, counters) = streams(StreamLimits { connections: 1, ..StreamLimits::default() });
        let (listener, nobody) = peer().await;
        drop(listener);
        for _ in 0..3 {
            streams.send(flow(nobody, 0), Bytes::from_static(MESSAGE)).expect("room");
        }
        for _ in 0..3 {
            let Heard::Undelivered { flow: lost, fault, .. } = heard(&mut streams).await else { panic!("undelivered") };
            assert_eq!((lost, fault), (flow(nobody, 0), Fault::Theirs));
        }
        assert_eq!(counters.read().streams.connect_failures, 1);
        // Two at once are more than may be; no port is nowhere.
        let ((_one, first), (_two, second)) = (peer().await, peer().await);
        streams.send(flow(first, 0), Bytes::from_static(MESSAGE)).expect("room");
        for nowhere in [flow(second, 0), flow(SocketAddr::from(([0; 4], 0)), 77)] {
            let back = streams.send(nowhere, Bytes::from_static(MESSAGE));
            assert_eq!(back, Err((Fault::Ours, Bytes::from_static(MESSAGE))));
        }
    }

    #[tokio::test]
    async fn the_connections_of_a_lost_address_vanish_and_nobody_hears_of_them() {
        let (mut streams, address, counters) = streams(StreamLimits::default());
        let mut client = TcpStream::connect(address).await.expect("it listens");
        client.write_all(MESSAGE).await.expect("sent");
        assert!(matches!(heard(&mut streams).await, Heard::Message { .. }));
        let (listener, server) = peer().await;
        streams.send(flow(server, 0), Bytes::from_static(MESSAGE)).expect("room");
        let mut theirs = listener.accept().await.expect("a connection").0;
        theirs.read_exact(&mut [0; MESSAGE.len()]).await.expect("sent");
        streams.close_all(ListenerId(4));
        assert_eq!(counters.read().streams.connections, 2);
        streams.close_all(ListenerId(3));
        let mut rest = Vec::new();
        for stream in [&mut client, &mut theirs] {
            let end = stream.read_to_end(&mut rest).await;
            assert_eq!(end.map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionReset));
        }
        while counters.read().streams.connections > 0 {
            tokio::task::yield_now().await;
        }
        assert!(streams.heard().is_none());
        // What is sent there later goes by a new one.
        streams.send(flow(server, 0), Bytes::from_static(MESSAGE)).expect("room");
        listener.accept().await.expect("a connection");
    }

    #[tokio::test]
    async fn a_connection_that_we_can_not_even_ask_for_is_our_own_fault() {
        let (mut streams, _, _) = streams(StreamLimits::default());
        // No IPv6 address can be reached from the listener's.
        let nowhere = flow("[::1]:9".parse().expect("an address"), 0);
        streams.send(nowhere, Bytes::from_static(MESSAGE)).expect("room");
        let Heard::Undelivered { flow: lost, fault, .. } = heard(&mut streams).await else { panic!("undelivered") };
        assert_eq!((lost, fault), (nowhere, Fault::Ours));
    }
}
