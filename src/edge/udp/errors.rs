//! ICMP errors about datagrams that we sent: Linux's error queue of a socket (ip(7), IP_RECVERR).

use std::io::IoSliceMut;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc::{SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6, sock_extended_err, sockaddr_in6};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrLike, recvmsg, setsockopt, sockopt,
};

/// Errors that one socket may hand over in a turn.
const ERRORS_PER_TURN: usize = 64;
/// More of a quoted datagram is not looked at; routers quote 548 bytes of it or less (RFC 1812 section 4.3.2.3), IPv6 hosts
/// about 1,200 (RFC 4443 section 2.4).
const QUOTE: usize = 1500;

/// Asks for the errors. They come with what they quote, and no longer by chance in the next call's result alone.
pub(super) fn ask(socket: &UdpSocket, ipv6: bool) -> nix::Result<()> {
    if ipv6 { setsockopt(socket, sockopt::Ipv6RecvErr, &true) } else { setsockopt(socket, sockopt::Ipv4RecvErr, &true) }
}

/// Empties the error queue, up to a turn's share, and gives `take` each error that says that nobody is there: where the
/// datagram went, and its start. The others (too large, time exceeded, our own host's) say nothing about the peer.
pub(super) fn read(socket: &UdpSocket, ipv6: bool, take: impl FnMut(SocketAddr, &[u8])) {
    if ipv6 { read_as::<SockaddrIn6>(socket, take) } else { read_as::<SockaddrIn>(socket, take) }
}

fn read_as<S: SockaddrLike + Copy + Into<SocketAddr>>(socket: &UdpSocket, mut take: impl FnMut(SocketAddr, &[u8])) {
    let mut control = cmsg_space!(sock_extended_err, sockaddr_in6);
    let mut quote = [0; QUOTE];
    for _ in 0..ERRORS_PER_TURN {
        let mut slices = [IoSliceMut::new(&mut quote)];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let (length, peer) = match recvmsg::<S>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags) {
            Ok(message) if message.cmsgs().is_ok_and(|mut all| all.any(|one| says_unreachable(&one))) => {
                (message.bytes, message.address)
            }
            Ok(_) | Err(Errno::EINTR) => continue,
            // EAGAIN: the queue is empty.
            Err(_) => return,
        };
        if let (Some(peer), Some(start)) = (peer, quote.get(..length)) {
            take(peer.into(), start);
        }
    }
}

fn says_unreachable(message: &ControlMessageOwned) -> bool {
    match message {
        ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _) => {
            is_unreachable(error.ee_origin, error.ee_type, error.ee_code)
        }
        _ => false,
    }
}

/// Whether an error of that origin, ICMP type and code says that net, host, protocol or port can not be reached (RFC 792;
/// RFC 4443 sections 3.1 and 3.4, where "protocol" is an unknown next header).
fn is_unreachable(origin: u8, kind: u8, code: u8) -> bool {
    match origin {
        SO_EE_ORIGIN_ICMP => kind == 3 && code <= 3,
        SO_EE_ORIGIN_ICMP6 => matches!((kind, code), (1, 0 | 3 | 4) | (4, 1)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unreachable_net_host_protocol_and_port_count() {
        let counting = |origin| {
            let mut all = Vec::new();
            for kind in 0..=u8::MAX {
                all.extend((0..=u8::MAX).filter(|&code| is_unreachable(origin, kind, code)).map(|code| (kind, code)));
            }
            all
        };
        // Neither fragmentation needed (3, 4), nor time exceeded (11), nor packet too big (IPv6: 2).
        assert_eq!(counting(SO_EE_ORIGIN_ICMP), [(3, 0), (3, 1), (3, 2), (3, 3)]);
        assert_eq!(counting(SO_EE_ORIGIN_ICMP6), [(1, 0), (1, 3), (1, 4), (4, 1)]);
        // None (0), our own host (1), timestamps (4).
        assert!([0, 1, 4, 5].iter().all(|&origin| counting(origin).is_empty()));
    }
}
