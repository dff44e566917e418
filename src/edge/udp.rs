//! UDP: all our sockets under one epoll, and a bell by which other threads wake the one that sleeps there.

mod batch;
mod bind;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tracing::warn;

use crate::edge::counters::{Counters, SendFault};
use crate::engine::flow::ListenerId;

pub use batch::Batch;
pub use bind::BindError;

/// How many batches one socket may hand over in a turn: a flood on one delays neither timers nor the others.
const BATCHES_PER_TURN: usize = 2;
/// The bell's mark among the epoll events; the sockets' marks are their indices.
const BELL: u64 = u64::MAX;
/// How often lost sends may be logged.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// The UDP sockets of a server, each known by its listener's index.
#[derive(Debug)]
pub struct Sockets {
    sockets: Vec<UdpSocket>,
    addresses: Vec<SocketAddr>,
    epoll: Epoll,
    bell: Waker,
    events: Vec<EpollEvent>,
    ready: Vec<usize>,
    complaint: Complaint,
}

/// Wakes the thread that sleeps in [`Sockets::wait`]; cheap to clone.
#[derive(Clone, Debug)]
pub struct Waker(Arc<EventFd>);

impl Waker {
    /// Ends the present wait, or the next one if nobody waits now.
    pub fn wake(&self) {
        // The only error is a counter near 2^64, and then the bell rings already.
        let _ = self.0.write(1);
    }
}

impl Sockets {
    /// Binds one socket to each address; port 0 takes a free one. The socket of `addresses[i]` is listener `i`.
    ///
    /// An address need not be on this host yet (IP_FREEBIND). Fails on the first address that can't be bound.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Self, BindError> {
        let sockets = addresses.iter().map(|&address| bind::socket(address)).collect::<Result<Vec<_>, _>>()?;
        let addresses = bind::local_addresses(&sockets, addresses)?;
        let (epoll, bell) = watch(&sockets).map_err(|errno| BindError::Epoll { source: errno.into() })?;
        let events = vec![EpollEvent::empty(); sockets.len() + 1];
        let complaint = Complaint::default();
        Ok(Sockets { sockets, addresses, epoll, bell, events, ready: Vec::new(), complaint })
    }

    /// The addresses as bound, ports filled in.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// A bell for other threads.
    pub fn waker(&self) -> Waker {
        self.bell.clone()
    }

    /// Sleeps until a datagram is there, the bell rings or `timeout` is over (`None`: no end; rounded up to a
    /// millisecond). [`Sockets::ready`] then lists who has something.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.ready.clear();
        let count = match self.epoll.wait(&mut self.events, milliseconds(timeout)) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(errno) => return Err(errno.into()),
        };
        for event in &self.events[..count] {
            match event.data() {
                // Read so that it is silent again; another ring from here on wakes the next wait.
                BELL => drop(self.bell.0.read()),
                index => self.ready.push(index as usize),
            }
        }
        Ok(())
    }

    /// How many sockets had something at the end of the last wait.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Reads the `nth` ready socket and gives each datagram, empty ones too, to `take`. Returns whether the socket may
    /// hold more that this turn still has time for.
    pub fn receive(
        &self,
        nth: usize,
        batch: &mut Batch,
        counters: &Counters,
        mut take: impl FnMut(ListenerId, SocketAddr, &[u8]),
    ) {
        let Some((index, socket)) = self.ready.get(nth).and_then(|&index| Some((index, self.sockets.get(index)?)))
        else {
            return;
        };
        let listener = ListenerId(index as u16);
        for _ in 0..BATCHES_PER_TURN {
            let (mut datagrams, mut bytes) = (0, 0);
            let result = batch.receive(socket, self.addresses[index].is_ipv6(), |peer, datagram| {
                datagrams += 1;
                bytes += datagram.len() as u64;
                take(listener, peer, datagram);
            });
            counters.received(datagrams, bytes);
            match result {
                Ok(count) if count == Batch::SLOTS => {}
                Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => break,
                Err(_) => {
                    counters.not_received();
                    break;
                }
            }
        }
    }

    /// Sends one datagram. What fails is counted by fault, logged once a second, and gone: UDP's own promise.
    pub fn send(&mut self, listener: ListenerId, peer: SocketAddr, bytes: &[u8], counters: &Counters) {
        let index = usize::from(listener.0);
        let fault = match self.sockets.get(index).map(|socket| socket.send_to(bytes, peer)) {
            Some(Ok(_)) => return counters.sent(bytes.len()),
            Some(Err(error)) => fault_of(&error),
            None => SendFault::NoSocket,
        };
        counters.not_sent(fault);
        if fault != SendFault::Refused {
            self.complaint.about(self.addresses.get(index).copied(), peer, fault);
        }
    }
}

fn watch(sockets: &[UdpSocket]) -> nix::Result<(Epoll, Waker)> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    epoll.add(&bell, EpollEvent::new(EpollFlags::EPOLLIN, BELL))?;
    for (index, socket) in sockets.iter().enumerate() {
        epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
    }
    Ok((epoll, Waker(Arc::new(bell))))
}

fn milliseconds(timeout: Option<Duration>) -> EpollTimeout {
    let Some(timeout) = timeout else { return EpollTimeout::NONE };
    let whole = i32::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
    EpollTimeout::try_from(whole).unwrap_or(EpollTimeout::MAX)
}

fn fault_of(error: &io::Error) -> SendFault {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EAGAIN) => SendFault::Full,
        Some(Errno::ECONNREFUSED) => SendFault::Refused,
        Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::ENETDOWN) => SendFault::NoRoute,
        Some(Errno::EADDRNOTAVAIL | Errno::EINVAL | Errno::EAFNOSUPPORT) => SendFault::BadAddress,
        Some(Errno::ENOBUFS | Errno::ENOMEM) => SendFault::NoBuffers,
        Some(Errno::EPERM | Errno::EACCES) => SendFault::Forbidden,
        Some(Errno::EMSGSIZE) => SendFault::TooLarge,
        Some(_) | None => SendFault::Other,
    }
}

/// Keeps lost sends from flooding the log.
#[derive(Debug, Default)]
struct Complaint {
    last: Option<Instant>,
    unsaid: u64,
}

impl Complaint {
    fn about(&mut self, from: Option<SocketAddr>, peer: SocketAddr, fault: SendFault) {
        let now = Instant::now();
        if self.last.is_some_and(|last| now.duration_since(last) < LOG_EVERY) {
            self.unsaid += 1;
            return;
        }
        let from = from.map(tracing::field::display);
        warn!(from, %peer, cause = fault.name(), unsaid = self.unsaid, "message not sent");
        *self = Complaint { last: Some(now), unsaid: 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets() -> Sockets {
        let addresses = ["127.0.0.1:0", "[::1]:0"].map(|address| address.parse().expect("an address"));
        Sockets::bind(&addresses).expect("free ports")
    }

    fn received(sockets: &Sockets, counters: &Counters) -> Vec<(u16, SocketAddr, Vec<u8>)> {
        let (mut batch, mut got) = (Batch::default(), Vec::new());
        for nth in 0..sockets.ready() {
            sockets.receive(nth, &mut batch, counters, |listener, peer, bytes| {
                got.push((listener.0, peer, bytes.to_vec()));
            });
        }
        got
    }

    #[test]
    fn what_one_socket_sends_another_receives_on_its_own_listener() {
        let (mut here, mut there, counters) = (sockets(), sockets(), Counters::default());
        for (listener, bytes) in [(0, &b"four"[..]), (1, b"six")] {
            here.send(ListenerId(listener), there.addresses()[usize::from(listener)], bytes, &counters);
        }
        there.wait(None).expect("a wait");
        let mut got = received(&there, &counters);
        got.sort();
        assert_eq!(got, [(0, here.addresses()[0], b"four".to_vec()), (1, here.addresses()[1], b"six".to_vec())],);
        let counters = counters.read();
        assert_eq!((counters.sent, counters.sent_bytes, counters.received, counters.received_bytes), (2, 7, 2, 7));
    }

    #[test]
    fn a_turn_takes_a_bounded_part_of_a_flood() {
        let (mut here, mut there, counters) = (sockets(), sockets(), Counters::default());
        let most = BATCHES_PER_TURN * Batch::SLOTS;
        for _ in 0..most + 5 {
            here.send(ListenerId(0), there.addresses()[0], b"flood", &counters);
        }
        there.wait(None).expect("a wait");
        assert_eq!(received(&there, &counters).len(), most);
        there.wait(None).expect("a wait");
        assert_eq!(received(&there, &counters).len(), 5);
    }

    #[test]
    fn what_can_not_be_sent_is_counted_by_its_fault() {
        let (mut here, counters) = (sockets(), Counters::default());
        let [v4, v6] = [here.addresses()[0], here.addresses()[1]];
        here.send(ListenerId(0), v6, b"x", &counters);
        here.send(ListenerId(0), v4, &vec![0; 65_508], &counters);
        here.send(ListenerId(2), v4, b"x", &counters);
        let faults = counters.read().send_faults;
        let count = |fault| faults[fault as usize];
        assert_eq!([SendFault::BadAddress, SendFault::TooLarge, SendFault::NoSocket].map(count), [1, 1, 1]);
        assert_eq!((faults.iter().sum::<u64>(), counters.read().sent), (3, 0));
    }

    #[test]
    fn a_ring_before_the_wait_ends_it_and_ends_only_one() {
        let mut here = sockets();
        here.waker().wake();
        here.waker().wake();
        here.wait(None).expect("a wait");
        assert_eq!(here.ready(), 0);
        here.wait(Some(Duration::ZERO)).expect("a wait");
        assert_eq!(here.bell.0.read(), Err(Errno::EAGAIN));
    }

    #[test]
    fn a_wait_is_rounded_up_so_that_it_never_ends_before_its_deadline() {
        let cases = [(0, 0), (1, 1), (999, 1), (1000, 1), (1001, 2), (u64::MAX, i32::MAX)];
        for (micros, expected) in cases {
            assert_eq!(i32::from(milliseconds(Some(Duration::from_micros(micros)))), expected, "{micros}");
        }
        assert_eq!(i32::from(milliseconds(None)), -1);
    }
}
