//! Making TCP sockets the way we need them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections that the kernel keeps for us until we take them.
const BACKLOG: i32 = 1024;
/// A quiet connection is asked after so long, then so often, whether its other end still lives.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(15));
/// Unanswered questions that end it.
const KEEPALIVE_RETRIES: u32 = 4;
/// What we have sent must be acknowledged by the peer's kernel within this time.
const UNACKNOWLEDGED: Duration = Duration::from_secs(20);

/// Why we can't listen on TCP.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on tcp {address}: {source}: {}", remedy(source))]
pub struct BindError {
    /// The address as configured.
    pub address: SocketAddr,
    /// What the kernel said.
    pub source: io::Error,
}

/// A listening socket. Needs a tokio runtime.
pub(super) fn listener(address: SocketAddr) -> Result<TcpListener, BindError> {
    try_listener(address).map_err(|source| BindError { address, source })
}

fn try_listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address.ip())?;
    // Connections of the time before a restart linger on the port (TIME_WAIT); they must not keep us from it.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A socket for a connection from `local`, any port.
pub(super) fn connecting(local: IpAddr) -> io::Result<TcpSocket> {
    let socket = socket(local)?;
    socket.bind(&SocketAddr::new(local, 0).into())?;
    Ok(TcpSocket::from_std_stream(socket.into()))
}

fn socket(ip: IpAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(SocketAddr::new(ip, 0)), Type::STREAM, Some(Protocol::TCP))?;
    // An address may be ours only later (a VIP).
    if ip.is_ipv6() {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    } else {
        socket.set_freebind_v4(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Makes a connection answer at once and notice a peer that is gone. Best effort: it works without.
pub(super) fn tune(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let (time, interval) = KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(time).with_interval(interval).with_retries(KEEPALIVE_RETRIES);
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
}

/// Lets a connection vanish when it is dropped: nothing can be sent from an address that is no longer this machine's, and
/// should it come back the peer is to find nobody there.
pub(super) fn forget(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program or listener has this port: stop it, or give another port in `bind`"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE: grant it, or give a higher port in `bind`"
        }
        io::ErrorKind::AddrNotAvailable => "no interface of this host can have this address: correct `bind`",
        _ => "correct `bind` of this listener",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_refused_with_address_cause_and_remedy() {
        let first = listener(([127, 0, 0, 1], 0).into()).expect("a free port");
        let address = first.local_addr().expect("bound");
        let error = listener(address).expect_err("taken").to_string();
        assert!(error.starts_with(&format!("cannot listen on tcp {address}: ")), "{error}");
        assert!(error.contains("another port in `bind`"), "{error}");
    }

    #[tokio::test]
    async fn an_address_that_is_not_here_yet_is_bound() {
        // TEST-NET-1 of RFC 5737: nobody has it.
        let early = listener(([192, 0, 2, 7], 0).into()).expect("IP_FREEBIND");
        assert_eq!(early.local_addr().expect("bound").ip().to_string(), "192.0.2.7");
    }
}
