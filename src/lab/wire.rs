//! Joins a machine of the laboratory to a UDP socket.

use std::future;
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::time;

/// Datagrams to send, with where they go.
pub(super) type Outbox = Vec<(SocketAddr, Bytes)>;

/// A machine that datagrams and timers drive.
pub(super) trait Machine {
    /// Takes one datagram from `peer`.
    fn receive(&mut self, datagram: &[u8], peer: SocketAddr, now: Instant, out: &mut Outbox);

    /// Does what is due at `now`.
    fn wake(&mut self, now: Instant, out: &mut Outbox);

    /// When `wake` is next needed.
    fn next(&self) -> Option<Instant>;
}

/// A socket with its buffers.
pub(super) struct Wire {
    socket: UdpSocket,
    buffer: Box<[u8]>,
    out: Outbox,
}

/// Datagrams that are taken in one turn, so that timers are never far behind.
const BATCH: usize = 64;

/// Bytes that the system is asked to hold for us; it gives what net.core.rmem_max allows.
const RECEIVE_BUFFER: usize = 4 << 20;

impl Wire {
    /// Binds to `address`.
    pub(super) async fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(address).await?;
        // The system's usual buffer holds some 90 datagrams: 10 ms of 3,000 calls a second. Less than this is no fault.
        let _ = SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER);
        Ok(Wire { socket, buffer: vec![0; 65_535].into(), out: Outbox::new() })
    }

    /// The address that it is bound to.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Waits until a datagram is there or `next` has come. May be dropped at any time.
    pub(super) async fn wait(&self, next: Option<Instant>) {
        let due = async {
            match next {
                Some(at) => time::sleep_until(at.into()).await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            // A socket that fails is as good as ready: the turn meets the error.
            _ = self.socket.readable() => {}
            () = due => {}
        }
    }

    /// Hands the machine what has come and what is due, and sends what it says.
    pub(super) async fn turn(&mut self, machine: &mut impl Machine) {
        for _ in 0..BATCH {
            match self.socket.try_recv_from(&mut self.buffer) {
                Ok((length, peer)) => machine.receive(&self.buffer[..length], peer, Instant::now(), &mut self.out),
                Err(_) => break,
            }
        }
        machine.wake(Instant::now(), &mut self.out);
        for (to, datagram) in self.out.drain(..) {
            // What the network does not take is lost, as on any wire; resends mend it.
            let _ = self.socket.send_to(&datagram, to).await;
        }
    }
}
