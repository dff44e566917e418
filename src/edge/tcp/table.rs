//! Which connections there are, how many of them may be, and who may have one more.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::StreamLimits;
use crate::engine::flow::{ConnectionId, Flow, ListenerId};

/// Messages that may wait for one peer.
const QUEUE: usize = 1024;
/// Bytes that may wait for one peer.
const QUEUE_BYTES: usize = 1 << 20;

/// One message on its way out.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// The way that the engine gave.
    pub(super) flow: Flow,
    pub(super) bytes: Bytes,
}

/// What waits for one peer: the end that is read.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) waiting: mpsc::Receiver<Waiting>,
    /// Says that the connection is to end at once.
    pub(super) let_go: oneshot::Receiver<()>,
}

/// One message in a queue, or being written.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) message: Outgoing,
    _room: Room,
}

/// What a message takes of its connection's room and of the room of all, until it is dropped.
#[derive(Debug)]
struct Room {
    length: usize,
    of: [Arc<AtomicUsize>; 2],
}

impl Room {
    fn take(length: usize, of: [&Arc<AtomicUsize>; 2]) -> Self {
        let of = of.map(Arc::clone);
        of.iter().for_each(|bytes| _ = bytes.fetch_add(length, Relaxed));
        Room { length, of }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.of.iter().for_each(|bytes| _ = bytes.fetch_sub(self.length, Relaxed));
    }
}

/// The end of a queue that is written.
#[derive(Debug)]
struct Entrance {
    queue: mpsc::Sender<Waiting>,
    bytes: Arc<AtomicUsize>,
}

/// Who made a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The peer.
    Peer,
    /// We.
    Us,
}

#[derive(Debug)]
struct Connection {
    entrance: Option<Entrance>,
    /// Ends it at once.
    let_go: Option<oneshot::Sender<()>>,
    listener: ListenerId,
    peer: SocketAddr,
    origin: Origin,
    /// Whether a whole message has come; one that has not is half open.
    spoken: bool,
}

/// Every connection.
#[derive(Debug)]
pub(super) struct Table {
    limits: StreamLimits,
    /// Bytes that wait for all peers together.
    queued: Arc<AtomicUsize>,
    connections: HashMap<u64, Connection>,
    /// Those that we made, by where they leave and lead.
    to_peers: HashMap<(ListenerId, SocketAddr), u64>,
    /// Those that peers made, by address.
    sources: HashMap<IpAddr, usize>,
    accepted: usize,
    /// Those that peers made and that were half open when they were last looked at, the oldest first.
    half_open: VecDeque<u64>,
    last: u64,
}

/// Why a message finds no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// Its connection's queue is full: the peer takes too little.
    Full,
    /// All queues together hold as much as they may.
    Crowded,
    /// There is no such connection (any more).
    Gone,
}

impl Table {
    pub(super) fn new(limits: StreamLimits) -> Self {
        // From the clock, so that no number is ever given twice, not even over restarts.
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        Table {
            limits,
            queued: Arc::default(),
            connections: HashMap::new(),
            to_peers: HashMap::new(),
            sources: HashMap::new(),
            accepted: 0,
            half_open: VecDeque::new(),
            last: start,
        }
    }

    /// Connections now.
    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Puts a message into the queue of one connection.
    pub(super) fn enqueue(&self, id: ConnectionId, message: Outgoing) -> Result<(), (NoPlace, Outgoing)> {
        let entrance = self.connections.get(&id.0).and_then(|connection| connection.entrance.as_ref());
        let Some(Entrance { queue, bytes }) = entrance else { return Err((NoPlace::Gone, message)) };
        let length = message.bytes.len();
        if bytes.load(Relaxed) + length > QUEUE_BYTES {
            return Err((NoPlace::Full, message));
        }
        if !self.has_room(length) {
            return Err((NoPlace::Crowded, message));
        }
        let waiting = Waiting { message, _room: Room::take(length, [bytes, &self.queued]) };
        queue.try_send(waiting).map_err(|error| match error {
            TrySendError::Full(waiting) => (NoPlace::Full, waiting.message),
            TrySendError::Closed(waiting) => (NoPlace::Gone, waiting.message),
        })
    }

    /// Whether so many bytes more may wait.
    pub(super) fn has_room(&self, length: usize) -> bool {
        self.queued.load(Relaxed) + length <= self.limits.queued
    }

    /// The connection that we made from that listener to that peer.
    pub(super) fn to(&self, listener: ListenerId, peer: SocketAddr) -> Option<ConnectionId> {
        self.to_peers.get(&(listener, peer)).copied().map(ConnectionId)
    }

    /// Enters a connection that we are about to make; none if there are as many as may be.
    pub(super) fn add_ours(&mut self, listener: ListenerId, peer: SocketAddr) -> Option<(ConnectionId, Queue)> {
        if self.connections.len() - self.accepted >= self.limits.connections {
            return None;
        }
        let (id, queue) = self.add(listener, peer, Origin::Us);
        self.to_peers.insert((listener, peer), id.0);
        Some((id, queue))
    }

    /// Enters a connection that a peer has made; none if there are as many as may be. When too many are half open the
    /// oldest of them makes room.
    pub(super) fn add_theirs(&mut self, listener: ListenerId, peer: SocketAddr) -> Option<(ConnectionId, Queue)> {
        let from_there = self.sources.get(&peer.ip()).copied().unwrap_or_default();
        if self.accepted >= self.limits.connections || from_there >= self.limits.connections_per_source {
            return None;
        }
        while self.half_open.len() >= self.limits.half_open() {
            let Some(oldest) = self.half_open.pop_front() else { break };
            self.close(ConnectionId(oldest));
        }
        self.accepted += 1;
        self.sources.insert(peer.ip(), from_there + 1);
        let (id, queue) = self.add(listener, peer, Origin::Peer);
        self.half_open.push_back(id.0);
        Some((id, queue))
    }

    fn add(&mut self, listener: ListenerId, peer: SocketAddr, origin: Origin) -> (ConnectionId, Queue) {
        self.last += 1;
        let (queue, waiting) = mpsc::channel(QUEUE);
        let (ends, let_go) = oneshot::channel();
        let entrance = Some(Entrance { queue, bytes: Arc::default() });
        let connection = Connection { entrance, let_go: Some(ends), listener, peer, origin, spoken: false };
        self.connections.insert(self.last, connection);
        (ConnectionId(self.last), Queue { waiting, let_go })
    }

    /// A whole message has come by that connection: it is no longer half open.
    pub(super) fn has_spoken(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id.0) else { return };
        connection.spoken = true;
        if connection.origin == Origin::Peer
            && let Some(at) = self.half_open.iter().rposition(|&other| other == id.0)
        {
            self.half_open.remove(at);
        }
    }

    /// Takes no more messages for a connection; its task ends once those that wait are written.
    pub(super) fn close(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id.0) else { return };
        connection.entrance = None;
        let to = (connection.listener, connection.peer);
        if self.to_peers.get(&to) == Some(&id.0) {
            self.to_peers.remove(&to);
        }
    }

    /// Takes no more messages for the connections of a listener; their tasks end at once.
    pub(super) fn close_all(&mut self, listener: ListenerId) {
        let of_it = self.connections.iter().filter(|(_, connection)| connection.listener == listener);
        let all: Vec<_> = of_it.map(|(id, _)| *id).collect();
        for id in all {
            // Before its queue ends, which would end it in peace.
            let let_go = self.connections.get_mut(&id).and_then(|connection| connection.let_go.take());
            let_go.map(|let_go| let_go.send(()));
            self.close(ConnectionId(id));
        }
    }

    /// Takes a connection out.
    pub(super) fn remove(&mut self, id: ConnectionId) {
        self.close(id);
        let Some(connection) = self.connections.remove(&id.0) else { return };
        if connection.origin == Origin::Us {
            return;
        }
        self.accepted -= 1;
        if let Some(count) = self.sources.get_mut(&connection.peer.ip()) {
            *count -= 1;
            if *count == 0 {
                self.sources.remove(&connection.peer.ip());
            }
        }
        if !connection.spoken {
            self.half_open.retain(|&other| other != id.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::flow::Transport;

    fn table(connections: usize, connections_per_source: usize) -> Table {
        Table::new(StreamLimits { connections, connections_per_source, ..StreamLimits::default() })
    }

    fn peer(host: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, host], port))
    }

    fn message(length: usize) -> Outgoing {
        let flow = Flow {
            listener: ListenerId(0),
            transport: Transport::Tcp,
            peer: peer(1, 1),
            connection: ConnectionId::default(),
        };
        Outgoing { flow, bytes: vec![0; length].into() }
    }

    #[test]
    fn there_is_a_limit_for_all_and_one_for_each_source() {
        let mut table = table(3, 2);
        let first = table.add_theirs(ListenerId(0), peer(1, 1)).expect("room");
        assert!(table.add_theirs(ListenerId(0), peer(1, 2)).is_some());
        assert!(table.add_theirs(ListenerId(0), peer(1, 3)).is_none());
        assert!(table.add_theirs(ListenerId(0), peer(2, 1)).is_some());
        assert!(table.add_theirs(ListenerId(0), peer(3, 1)).is_none());
        // Ours are counted apart.
        assert!(table.add_ours(ListenerId(0), peer(1, 1)).is_some());
        table.remove(first.0);
        assert!(table.add_theirs(ListenerId(0), peer(1, 3)).is_some());
    }

    #[test]
    fn the_oldest_half_open_connection_makes_room() {
        let mut table = table(8, 8);
        assert_eq!(table.limits.half_open(), 2);
        let (first, mut first_queue) = table.add_theirs(ListenerId(0), peer(1, 1)).expect("room");
        table.has_spoken(first);
        let (second, mut second_queue) = table.add_theirs(ListenerId(0), peer(1, 2)).expect("room");
        for port in 3..5 {
            assert!(table.add_theirs(ListenerId(0), peer(1, port)).is_some());
        }
        assert!(table.enqueue(first, message(1)).is_ok() && first_queue.waiting.try_recv().is_ok());
        assert_eq!(table.enqueue(second, message(1)).expect_err("closed").0, NoPlace::Gone);
        assert!(second_queue.waiting.try_recv().is_err());
    }

    #[test]
    fn a_queue_is_bounded_in_messages_and_bytes() {
        let mut table = table(8, 8);
        let (id, mut queue) = table.add_ours(ListenerId(0), peer(1, 1)).expect("room");
        assert_eq!(table.to(ListenerId(0), peer(1, 1)), Some(id));
        for _ in 0..QUEUE_BYTES / 65_536 {
            table.enqueue(id, message(65_536)).expect("room");
        }
        assert_eq!(table.enqueue(id, message(1)).expect_err("full").0, NoPlace::Full);
        while queue.waiting.try_recv().is_ok() {}
        for _ in 0..QUEUE {
            table.enqueue(id, message(1)).expect("room");
        }
        assert_eq!(table.enqueue(id, message(1)).expect_err("full").0, NoPlace::Full);
        table.remove(id);
        assert_eq!((table.to(ListenerId(0), peer(1, 1)), table.len()), (None, 0));
    }

    #[test]
    fn all_queues_together_are_bounded_and_a_connection_that_ends_gives_its_room_back() {
        let mut table = Table::new(StreamLimits { queued: 1000, ..StreamLimits::default() });
        let (one, mut first) = table.add_ours(ListenerId(0), peer(1, 1)).expect("room");
        let (other, second) = table.add_theirs(ListenerId(0), peer(1, 2)).expect("room");
        table.enqueue(one, message(600)).expect("room");
        table.enqueue(other, message(400)).expect("room");
        for id in [one, other] {
            assert_eq!(table.enqueue(id, message(1)).expect_err("full").0, NoPlace::Crowded);
        }
        // What is being written still takes room.
        let writing = first.waiting.try_recv().expect("queued");
        assert!(!table.has_room(1));
        drop(writing);
        assert!(table.has_room(600) && !table.has_room(601));
        drop(second);
        assert!(table.has_room(1000));
        assert_eq!(table.enqueue(other, message(1)).expect_err("gone").0, NoPlace::Gone);
        assert!(table.has_room(1000));
    }

    #[test]
    fn numbers_are_never_given_twice() {
        let mut first = table(8, 8);
        let (one, _queue) = first.add_ours(ListenerId(0), peer(1, 1)).expect("room");
        let mut second = table(8, 8);
        let (other, _queue) = second.add_ours(ListenerId(0), peer(1, 1)).expect("room");
        assert!(other.0 > one.0);
    }
}
