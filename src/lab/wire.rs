//! Joins a machine of the laboratory to a UDP socket, or to a TCP listener and its connections.

mod streams;

use std::future;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::time;

use self::streams::Streams;
use crate::engine::flow::Transport;

/// Messages to send, with where they go.
pub(super) type Outbox = Vec<(SocketAddr, Bytes)>;

/// A machine that messages and timers drive.
pub(super) trait Machine {
    /// Takes one message from `peer`.
    fn receive(&mut self, message: &[u8], peer: SocketAddr, now: Instant, out: &mut Outbox);

    /// ICMP says that nobody is there, of the peer that the wire is connected to.
    fn refused(&mut self, _now: Instant) {}

    /// Does what is due at `now`.
    fn wake(&mut self, now: Instant, out: &mut Outbox);

    /// When `wake` is next needed.
    fn next(&self) -> Option<Instant>;
}

/// What a machine is joined to.
pub(super) struct Wire {
    kind: Kind,
    out: Outbox,
}

enum Kind {
    Udp { socket: UdpSocket, buffer: Box<[u8]> },
    Tcp(Streams),
}

/// Messages that are taken in one turn, so that timers are never far behind.
const BATCH: usize = 64;

/// Bytes that the system is asked to hold for us; it gives what net.core.rmem_max allows.
const RECEIVE_BUFFER: usize = 4 << 20;

impl Wire {
    /// Binds to `address`. By TCP messages leave on a connection with the peer that they go to, which is made if there is
    /// none.
    pub(super) async fn bind(transport: Transport, address: SocketAddr) -> io::Result<Self> {
        let kind = match transport {
            Transport::Udp => {
                let socket = UdpSocket::bind(address).await?;
                // The system's usual buffer holds some 90 datagrams: 10 ms of 3,000 calls a second. Less is no fault.
                let _ = SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER);
                Kind::Udp { socket, buffer: vec![0; 65_535].into() }
            }
            Transport::Tcp => Kind::Tcp(Streams::bind(address).await?),
            Transport::Tls => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok(Wire { kind, out: Outbox::new() })
    }

    /// Speaks to that peer alone, whose ICMP errors the machine is told of from now on. By UDP; a stream has no such errors.
    pub(super) async fn connect(&mut self, peer: SocketAddr) -> io::Result<()> {
        match &self.kind {
            Kind::Udp { socket, .. } => socket.connect(peer).await,
            Kind::Tcp(_) => Ok(()),
        }
    }

    /// The address that it is bound to.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        match &self.kind {
            Kind::Udp { socket, .. } => socket.local_addr(),
            Kind::Tcp(streams) => Ok(streams.address()),
        }
    }

    /// Waits until a message is there or `next` has come. May be dropped at any time.
    pub(super) async fn wait(&mut self, next: Option<Instant>) {
        let due = async {
            match next {
                Some(at) => time::sleep_until(at.into()).await,
                None => future::pending().await,
            }
        };
        let ready = async {
            match &mut self.kind {
                // A socket that fails is as good as ready: the turn meets the error.
                Kind::Udp { socket, .. } => drop(socket.readable().await),
                Kind::Tcp(streams) => streams.ready().await,
            }
        };
        tokio::select! {
            () = ready => {}
            () = due => {}
        }
    }

    /// Hands the machine what has come and what is due, and sends what it says.
    pub(super) async fn turn(&mut self, machine: &mut impl Machine) {
        for _ in 0..BATCH {
            match &mut self.kind {
                Kind::Udp { socket, buffer } => match socket.try_recv_from(buffer) {
                    Ok((length, peer)) => machine.receive(&buffer[..length], peer, Instant::now(), &mut self.out),
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => machine.refused(Instant::now()),
                    Err(_) => break,
                },
                Kind::Tcp(streams) => match streams.next() {
                    Some((peer, message)) => machine.receive(&message, peer, Instant::now(), &mut self.out),
                    None => break,
                },
            }
        }
        machine.wake(Instant::now(), &mut self.out);
        for (to, message) in self.out.drain(..) {
            match &mut self.kind {
                // What the network does not take is lost, as on any wire; resends mend it.
                Kind::Udp { socket, .. } => {
                    let sent = socket.send_to(&message, to).await;
                    // The error is an earlier datagram's, and this one has not left.
                    if sent.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
                        machine.refused(Instant::now());
                        drop(socket.send_to(&message, to).await);
                    }
                }
                Kind::Tcp(streams) => streams.send(to, message),
            }
        }
    }
}
