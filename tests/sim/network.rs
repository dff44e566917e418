//! The network: it loses, doubles, delays and reorders datagrams; and the queue of all that is to happen.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;

/// Who acts when a timer fires.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Timer {
    /// A caller's.
    Caller(usize, super::caller::Timer),
    /// A destination's.
    Destination(usize, super::destination::Timer),
}

/// What is to happen; `T` says who acts when a timer fires.
#[derive(Debug)]
pub(crate) enum Happening<T = Timer> {
    /// A datagram arrives.
    Arrives {
        /// Its source.
        from: SocketAddr,
        /// Its target.
        to: SocketAddr,
        /// The datagram.
        bytes: Vec<u8>,
    },
    /// A node's host learns that nobody listens there: an ICMP error.
    Refused {
        /// The node's address that the datagram left by.
        by: SocketAddr,
        /// Where nobody listens.
        peer: SocketAddr,
        /// The datagram, which the error quotes.
        quoted: Vec<u8>,
    },
    /// Somebody's timer fires.
    Fires(T),
    /// A node that asked for it is woken, if the number is still the one of its last wish.
    Wake(usize, u64),
    /// A node is woken without having asked.
    Poke(usize),
    /// The sets change.
    Reload,
    /// A stranger sends something.
    Hostile,
}

#[derive(Debug)]
struct Entry<T> {
    at: Duration,
    number: u64,
    what: Happening<T>,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// Time, all that is to happen, and the network's moods.
#[derive(Debug)]
pub(crate) struct Network<T = Timer> {
    /// Time since the start.
    pub(crate) now: Duration,
    /// All chance of this run.
    pub(crate) rng: Rng,
    queue: BinaryHeap<Reverse<Entry<T>>>,
    number: u64,
    lost_in_100: u32,
    doubled_in_100: u32,
    /// The longest delay; below T4, which is how long RFC 3261 expects a message to live.
    slowest: Duration,
    /// No address is deaf from then on: the last calls must be able to end.
    pub(crate) deaf: Vec<(SocketAddr, Duration, Duration)>,
    /// Nothing to or from it is lost or slow.
    pub(crate) clear: Option<SocketAddr>,
}

impl<T> Network<T> {
    /// A network whose rates follow from the seed.
    pub(crate) fn new(mut rng: Rng) -> Self {
        let lost_in_100 = [0, 0, 2, 10, 30][rng.usize(..5)];
        let doubled_in_100 = [0, 1, 20][rng.usize(..3)];
        let slowest = Duration::from_millis([1, 20, 300, 1900][rng.usize(..4)]);
        Network {
            now: Duration::ZERO,
            rng,
            queue: BinaryHeap::new(),
            number: 0,
            lost_in_100,
            doubled_in_100,
            slowest,
            deaf: Vec::new(),
            clear: None,
        }
    }

    /// From now on nothing is lost, doubled or slow.
    pub(crate) fn heal(&mut self) {
        (self.lost_in_100, self.doubled_in_100, self.slowest) = (0, 0, Duration::from_millis(1));
    }

    /// Puts something `after` from now.
    pub(crate) fn after(&mut self, after: Duration, what: Happening<T>) {
        self.number += 1;
        self.queue.push(Reverse(Entry { at: self.now + after, number: self.number, what }));
    }

    /// The next happening; time moves there. None: nothing is left before `end`, and time has moved to it.
    pub(crate) fn next(&mut self, end: Duration) -> Option<Happening<T>> {
        if self.queue.peek().is_none_or(|Reverse(entry)| entry.at > end) {
            self.now = self.now.max(end);
            return None;
        }
        let Reverse(entry) = self.queue.pop()?;
        self.now = entry.at;
        Some(entry.what)
    }

    /// Takes a datagram: it arrives later, once, twice or never.
    pub(crate) fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: impl AsRef<[u8]>) {
        let clear = self.clear.is_some_and(|clear| clear == from || clear == to);
        if !clear && self.rng.u32(..100) < self.lost_in_100 {
            return;
        }
        let copies = if self.rng.u32(..100) < self.doubled_in_100 { 2 } else { 1 };
        for _ in 0..copies {
            let delay = self.up_to(if clear { Duration::from_millis(20) } else { self.slowest });
            self.after(delay, Happening::Arrives { from, to, bytes: bytes.as_ref().to_vec() });
        }
    }

    /// Whether nobody listens there now.
    pub(crate) fn is_deaf(&self, address: SocketAddr) -> bool {
        self.deaf.iter().any(|&(who, from, until)| who == address && (from..until).contains(&self.now))
    }

    /// Any time up to `longest`.
    pub(crate) fn up_to(&mut self, longest: Duration) -> Duration {
        Duration::from_micros(self.rng.u64(..=longest.as_micros() as u64))
    }

    /// True in so many of 100 cases.
    pub(crate) fn chance(&mut self, in_100: u32) -> bool {
        self.rng.u32(..100) < in_100
    }
}
