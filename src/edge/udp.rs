//! UDP: all our sockets under one epoll, and a bell by which other threads wake the one that sleeps there.

mod batch;
mod bind;
mod errors;

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
    ready: Vec<Ready>,
    complaint: Complaint,
}

/// A socket that has something.
#[derive(Clone, Copy, Debug)]
struct Ready {
    index: usize,
    /// Whether an ICMP error is among it.
    error: bool,
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

    /// Sleeps until a datagram or an ICMP error is there, the bell rings or `timeout` is over (`None`: no end; rounded up to a
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
                index => {
                    let error = event.events().contains(EpollFlags::EPOLLERR);
                    self.ready.push(Ready { index: index as usize, error });
                }
            }
        }
        Ok(())
    }

    /// How many sockets had something at the end of the last wait.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Reads the ICMP errors of the `nth` ready socket and gives `take` each one that says that a datagram of ours could not
    /// be delivered: where it went, and its start as the error quotes it. What it says is not checked here: anybody may
    /// forge one.
    pub fn refusals(&self, nth: usize, mut take: impl FnMut(ListenerId, SocketAddr, &[u8])) {
        if let Some((Ready { index, error: true }, socket)) = self.nth_ready(nth) {
            let listener = ListenerId(index as u16);
            errors::read(socket, self.addresses[index].is_ipv6(), |peer, quoted| take(listener, peer, quoted));
        }
    }

    fn nth_ready(&self, nth: usize) -> Option<(Ready, &UdpSocket)> {
        let ready = *self.ready.get(nth)?;
        Some((ready, self.sockets.get(ready.index)?))
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
        let Some((Ready { index, .. }, socket)) = self.nth_ready(nth) else { return };
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
                // An error that `refusals` tells of, reported once more; the datagrams are behind it.
                Err(errno) if is_pending_icmp(errno) => {}
                Err(_) => {
                    counters.not_received();
                    break;
                }
            }
        }
    }

    /// Sends one datagram. What fails is counted by fault, logged once a second, and gone: the fault is returned.
    pub fn send(
        &mut self,
        listener: ListenerId,
        peer: SocketAddr,
        bytes: &[u8],
        counters: &Counters,
    ) -> Option<SendFault> {
        let index = usize::from(listener.0);
        let fault = match self.sockets.get(index).map(|socket| send(socket, peer, bytes)) {
            Some(Ok(())) => {
                counters.sent(bytes.len());
                return None;
            }
            Some(Err(error)) => fault_of(&error),
            None => SendFault::NoSocket,
        };
        counters.not_sent(fault);
        if fault != SendFault::Refused {
            self.complaint.about(self.addresses.get(index).copied(), peer, fault);
        }
        Some(fault)
    }
}

fn send(socket: &UdpSocket, peer: SocketAddr, bytes: &[u8]) -> io::Result<()> {
    let sent = match socket.send_to(bytes, peer) {
        // Perhaps an ICMP error about another datagram, to another peer: it is told once, and this one was not tried yet.
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => socket.send_to(bytes, peer),
        result => result,
    };
    sent.map(drop)
}

/// Whether a receiving call may fail so because of an ICMP error that was pending on the socket (icmp(7)).
fn is_pending_icmp(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ECONNREFUSED
            | Errno::EHOSTUNREACH
            | Errno::ENETUNREACH
            | Errno::EHOSTDOWN
            | Errno::ENONET
            | Errno::ENOPROTOOPT
            | Errno::EOPNOTSUPP
            | Errno::EPROTO
            | Errno::EACCES
            | Errno::EMSGSIZE
    )
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
        let remedy = matches!(fault, SendFault::BadAddress).then_some("add a [[listener]] that the peer can answer to");
        warn!(from, %peer, cause = fault.name(), unsaid = self.unsaid, remedy, "message not sent");
        *self = Complaint { last: Some(now), unsaid: 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a host quotes of a datagram: its start, headers and all within IPv6's smallest MTU.
    const QUOTED_AT_MOST: usize = 1280;

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
        assert_eq!(here.send(ListenerId(0), v6, b"x", &counters), Some(SendFault::BadAddress));
        assert_eq!(here.send(ListenerId(0), v4, &vec![0; 65_508], &counters), Some(SendFault::TooLarge));
        assert_eq!(here.send(ListenerId(2), v4, b"x", &counters), Some(SendFault::NoSocket));
        let faults = counters.read().send_faults;
        let count = |fault| faults[fault as usize];
        assert_eq!([SendFault::BadAddress, SendFault::TooLarge, SendFault::NoSocket].map(count), [1, 1, 1]);
        assert_eq!((faults.iter().sum::<u64>(), counters.read().sent), (3, 0));
        // The kernel tells of the large one in the error queue too; it is our own fault, so no peer's.
        here.wait(Some(Duration::ZERO)).expect("a wait");
        assert_eq!((refused(&here), received(&here, &counters)), (Vec::new(), Vec::new()));
        here.wait(Some(Duration::ZERO)).expect("a wait");
        assert_eq!(here.ready(), 0);
    }

    /// An address that refuses datagrams: its socket is closed again.
    fn closed(like: SocketAddr) -> SocketAddr {
        let socket = UdpSocket::bind((like.ip(), 0)).expect("a free port");
        socket.local_addr().expect("bound")
    }

    fn refused(sockets: &Sockets) -> Vec<(u16, SocketAddr, Vec<u8>)> {
        let mut got = Vec::new();
        for nth in 0..sockets.ready() {
            sockets.refusals(nth, |listener, peer, quoted| got.push((listener.0, peer, quoted.to_vec())));
        }
        got
    }

    #[test]
    fn a_refused_datagram_comes_back_with_its_address_and_its_start() {
        let (mut here, counters) = (sockets(), Counters::default());
        for listener in [0, 1] {
            let nobody = closed(here.addresses()[usize::from(listener)]);
            here.send(ListenerId(listener), nobody, &[b'x'; 3000], &counters);
            here.wait(Some(Duration::from_secs(10))).expect("a wait");
            let got = refused(&here);
            assert_eq!((got.len(), got[0].0, got[0].1), (1, listener, nobody));
            let quoted = &got[0].2;
            assert!((400..=QUOTED_AT_MOST).contains(&quoted.len()) && quoted.iter().all(|&byte| byte == b'x'));
            assert_eq!(received(&here, &counters), []);
            // It is told once: the next wait has nothing.
            here.wait(Some(Duration::ZERO)).expect("a wait");
            assert_eq!(here.ready(), 0);
        }
        assert_eq!(counters.read().receive_faults, 0);
    }

    #[test]
    fn refused_datagrams_cost_no_other_datagram_to_or_from_us() {
        let (mut here, mut there, counters) = (sockets(), sockets(), Counters::default());
        for listener in [0, 1] {
            let (own, other) = (here.addresses()[usize::from(listener)], there.addresses()[usize::from(listener)]);
            let nobody = closed(own);
            // Nobody reads the errors meanwhile, so each send but the first finds one pending.
            for n in 0..20 {
                here.send(ListenerId(listener), nobody, b"refused", &counters);
                here.send(ListenerId(listener), other, &[n], &counters);
                there.send(ListenerId(listener), own, &[n], &counters);
            }
            let everything: Vec<_> = (0..20).map(|n| vec![n]).collect();
            for sockets in [&mut here, &mut there] {
                sockets.wait(Some(Duration::from_secs(10))).expect("a wait");
                let got: Vec<_> = received(sockets, &counters).into_iter().map(|(_, _, bytes)| bytes).collect();
                assert_eq!(got, everything);
            }
            here.wait(Some(Duration::ZERO)).expect("a wait");
            assert_eq!(refused(&here), vec![(listener, nobody, b"refused".to_vec()); 20]);
            here.wait(Some(Duration::ZERO)).expect("a wait");
            assert_eq!((here.ready(), refused(&here).len()), (0, 0));
        }
        let counters = counters.read();
        assert_eq!((counters.sent, counters.send_faults.iter().sum::<u64>(), counters.receive_faults), (120, 0, 0));
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
