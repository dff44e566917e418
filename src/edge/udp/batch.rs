//! Receiving many datagrams by one system call (recvmmsg).

use std::array;
use std::io::IoSliceMut;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, SockaddrLike, recvmmsg};

/// The most that a datagram can hold.
const LARGEST: usize = 65_535;
/// From one slot to the next. No power of two, so that the slots' first lines, which every message touches, spread over
/// the processor's cache; pages that no large message ever reached are never backed by memory.
const STRIDE: usize = 65_536 + 17 * 64;

/// Buffers for one receiving call, shared by all sockets of a thread.
#[derive(Debug)]
pub struct Batch {
    buffer: Vec<u8>,
    // One for each family: the kernel leaves the length of the last address in the headers.
    v4: MultiHeaders<SockaddrIn>,
    v6: MultiHeaders<SockaddrIn6>,
}

impl Default for Batch {
    fn default() -> Self {
        Batch {
            buffer: vec![0; STRIDE * Self::SLOTS],
            v4: MultiHeaders::preallocate(Self::SLOTS, None),
            v6: MultiHeaders::preallocate(Self::SLOTS, None),
        }
    }
}

impl Batch {
    /// The most datagrams of one call.
    pub const SLOTS: usize = 32;

    /// Receives what `socket` has, at most `SLOTS` datagrams, and returns how many it had.
    pub(super) fn receive(
        &mut self,
        socket: &UdpSocket,
        ipv6: bool,
        take: impl FnMut(SocketAddr, &[u8]),
    ) -> nix::Result<usize> {
        if ipv6 {
            receive(socket, &mut self.v6, &mut self.buffer, take)
        } else {
            receive(socket, &mut self.v4, &mut self.buffer, take)
        }
    }
}

fn receive<S: SockaddrLike + Copy + Into<SocketAddr>>(
    socket: &UdpSocket,
    headers: &mut MultiHeaders<S>,
    buffer: &mut [u8],
    mut take: impl FnMut(SocketAddr, &[u8]),
) -> nix::Result<usize> {
    let mut slots = buffer.chunks_exact_mut(STRIDE);
    let mut slices: [_; Batch::SLOTS] = array::from_fn(|_| {
        let slot = slots.next().expect("the buffer has a slot for each header");
        [IoSliceMut::new(&mut slot[..LARGEST])]
    });
    let mut count = 0;
    for message in recvmmsg(socket.as_raw_fd(), headers, slices.iter_mut(), MsgFlags::empty(), None)? {
        count += 1;
        // A datagram without bytes has no slice to show.
        let bytes = message.iovs().next().unwrap_or_default();
        if let Some(peer) = message.address {
            take(peer.into(), bytes);
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(host: &str) -> (UdpSocket, UdpSocket) {
        let bind = || UdpSocket::bind((host, 0)).expect("loopback");
        let (from, to) = (bind(), bind());
        to.set_nonblocking(true).expect("non-blocking");
        (from, to)
    }

    #[test]
    fn datagrams_come_whole_in_order_and_with_their_sender() {
        let mut batch = Batch::default();
        for host in ["127.0.0.1", "::1"] {
            let (from, to) = pair(host);
            let address = to.local_addr().expect("bound");
            let largest = vec![b'x'; 65_507];
            let sent: [&[u8]; 4] = [b"one", b"", &largest, b"\xff\0"];
            for bytes in sent {
                from.send_to(bytes, address).expect("sent");
            }
            let mut got = Vec::new();
            let count = batch.receive(&to, address.is_ipv6(), |peer, bytes| got.push((peer, bytes.to_vec())));
            assert_eq!(count, Ok(4));
            assert_eq!(got, sent.map(|bytes| (from.local_addr().expect("bound"), bytes.to_vec())));
            assert_eq!(batch.receive(&to, address.is_ipv6(), |_, _| {}), Err(nix::errno::Errno::EAGAIN));
        }
    }

    #[test]
    fn more_than_a_batch_waits_for_the_next_call() {
        let (from, to) = pair("127.0.0.1");
        let address = to.local_addr().expect("bound");
        for n in 0..Batch::SLOTS as u8 + 3 {
            from.send_to(&[n], address).expect("sent");
        }
        let (mut batch, mut got) = (Batch::default(), Vec::new());
        assert_eq!(batch.receive(&to, false, |_, bytes| got.push(bytes[0])), Ok(Batch::SLOTS));
        assert_eq!(batch.receive(&to, false, |_, bytes| got.push(bytes[0])), Ok(3));
        assert_eq!(got, (0..Batch::SLOTS as u8 + 3).collect::<Vec<_>>());
    }
}
