//! Making a UDP socket the way we need it.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use super::errors;
use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};

/// Room for a burst while the thread is busy; the kernel may give less (net.core.rmem_max).
const BUFFER: usize = 4 << 20;

/// Why we can't listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// An address could not be bound.
    #[error("cannot listen on udp {address}: {source}: {}", remedy(source))]
    Bind {
        /// The address as configured.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// No epoll or eventfd could be had.
    #[error("cannot watch the sockets: {source}: raise the limit of open files (ulimit -n)")]
    Epoll {
        /// What the kernel said.
        source: io::Error,
    },
}

/// A non-blocking socket bound to `address`.
pub(super) fn socket(address: SocketAddr) -> Result<UdpSocket, BindError> {
    try_socket(address).map_err(|source| BindError::Bind { address, source })
}

fn try_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // No SO_REUSEADDR: a second server on the same port must fail, not take half of the datagrams.
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    } else {
        socket.set_freebind_v4(true)?;
    }
    socket.set_nonblocking(true)?;
    // Best effort: smaller buffers only mean an earlier loss in a burst.
    let _ = socket.set_recv_buffer_size(BUFFER);
    let _ = socket.set_send_buffer_size(BUFFER);
    socket.bind(&address.into())?;
    let socket = socket.into();
    errors::ask(&socket, address.is_ipv6())?;
    Ok(socket)
}

/// The addresses that the sockets got.
pub(super) fn local_addresses(sockets: &[UdpSocket], asked: &[SocketAddr]) -> Result<Vec<SocketAddr>, BindError> {
    let got = sockets.iter().zip(asked);
    got.map(|(socket, &address)| socket.local_addr().map_err(|source| BindError::Bind { address, source })).collect()
}

fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EADDRINUSE) => "another program or listener has this port: stop it, or give another port in `bind`",
        Some(Errno::EACCES) => "ports below 1024 need CAP_NET_BIND_SERVICE: grant it, or give a higher port in `bind`",
        Some(Errno::EADDRNOTAVAIL) => "no interface of this host can have this address: correct `bind`",
        Some(Errno::EAFNOSUPPORT) => "this host has no IPv6: turn it on, or give an IPv4 address in `bind`",
        Some(Errno::EINVAL) => "a link-local address needs its interface as scope: correct `bind`",
        Some(Errno::EMFILE | Errno::ENFILE) => "raise the limit of open files (ulimit -n)",
        Some(_) | None => "correct `bind` of this listener",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_refused_with_address_cause_and_remedy() {
        let first = socket(([127, 0, 0, 1], 0).into()).expect("a free port");
        let address = first.local_addr().expect("bound");
        let error = socket(address).expect_err("taken").to_string();
        assert!(error.starts_with(&format!("cannot listen on udp {address}: ")), "{error}");
        assert!(error.contains("Address already in use") && error.contains("another port in `bind`"), "{error}");
    }

    #[test]
    fn an_address_that_is_not_here_yet_is_bound() {
        // TEST-NET-1 of RFC 5737: nobody has it.
        let early = socket(([192, 0, 2, 7], 0).into()).expect("IP_FREEBIND");
        assert_eq!(early.local_addr().expect("bound").ip().to_string(), "192.0.2.7");
    }
}
