//! HEP version 3: messages of calls that are told of, to a capture server as Homer, one datagram each
//! (<https://github.com/sipcapture/HEP>). It never waits: what can't be sent at once is dropped and counted.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use thiserror::Error;

use crate::engine::flow::Transport;
use crate::engine::trace::Packet;

/// No datagram is longer.
const LONGEST: usize = 65_507;
/// The protocol type of SIP.
const SIP: u8 = 1;

/// Where messages are captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HepConfig {
    /// The capture server.
    pub to: SocketAddr,
    /// The number that this node's messages bear there.
    pub id: u32,
    /// The file whose first line every packet bears; none: none is wanted.
    pub password_file: Option<PathBuf>,
}

impl HepConfig {
    /// The number of who was told nothing else.
    pub const USUAL_ID: u32 = 2001;
}

/// Why nothing can be captured.
#[derive(Debug, Error)]
pub enum HepError {
    /// The socket can't be made.
    #[error(
        "cannot send to trace.hep {to}: {source}: give the address of a capture server that this machine can reach"
    )]
    Socket {
        /// The capture server.
        to: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The password can't be read.
    #[error("cannot read trace.hep_password_file {path}: {source}: give a file with the password in its first line", path = path.display())]
    Password {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Sends messages to a capture server.
#[derive(Debug)]
pub struct Hep {
    socket: UdpSocket,
    id: u32,
    password: Option<String>,
    dropped: AtomicU64,
}

/// Which way a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To us.
    In,
    /// From us.
    Out,
}

impl Hep {
    /// Makes the socket and reads the password.
    ///
    /// # Errors
    /// [`HepError`].
    pub fn start(config: &HepConfig) -> Result<Self, HepError> {
        let HepConfig { to, id, password_file } = config;
        let password = match password_file {
            Some(path) => {
                let text = std::fs::read_to_string(path);
                let text = text.map_err(|source| HepError::Password { path: path.clone(), source })?;
                Some(text.lines().next().unwrap_or_default().trim().to_owned())
            }
            None => None,
        };
        let socket = || {
            let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = UdpSocket::bind((any, 0))?;
            socket.connect(to)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let socket = socket().map_err(|source| HepError::Socket { to: *to, source })?;
        Ok(Hep { socket, id: *id, password, dropped: AtomicU64::new(0) })
    }

    /// Sends one message.
    pub fn send(&self, at: SystemTime, call_id: &str, way: Way, packet: &Packet) {
        let sent = encode(self.id, self.password.as_deref(), at, call_id, way, packet)
            .is_some_and(|bytes| self.socket.send(&bytes).is_ok());
        if !sent {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Messages that could not be sent.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }
}

/// The packet; none if it is too long for a datagram.
fn encode(
    id: u32,
    password: Option<&str>,
    at: SystemTime,
    call_id: &str,
    way: Way,
    packet: &Packet,
) -> Option<Vec<u8>> {
    let (source, target) = match way {
        Way::In => (packet.flow.peer, packet.ours),
        Way::Out => (packet.ours, packet.flow.peer),
    };
    let at = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (family, protocol) = (
        if source.is_ipv4() { 2 } else { 10 },
        match packet.flow.transport {
            Transport::Udp => 17,
            Transport::Tcp | Transport::Tls => 6,
        },
    );
    let mut chunks = Chunks(Vec::with_capacity(packet.bytes.len() + 160));
    chunks.put(0x01, &[family])?;
    chunks.put(0x02, &[protocol])?;
    let (first, second) = if source.is_ipv4() { (0x03, 0x04) } else { (0x05, 0x06) };
    chunks.put_address(first, source.ip())?;
    chunks.put_address(second, target.ip())?;
    chunks.put(0x07, &source.port().to_be_bytes())?;
    chunks.put(0x08, &target.port().to_be_bytes())?;
    chunks.put(0x09, &(at.as_secs() as u32).to_be_bytes())?;
    chunks.put(0x0a, &at.subsec_micros().to_be_bytes())?;
    chunks.put(0x0b, &[SIP])?;
    chunks.put(0x0c, &id.to_be_bytes())?;
    if let Some(password) = password {
        chunks.put(0x0e, password.as_bytes())?;
    }
    chunks.put(0x0f, &packet.bytes)?;
    chunks.put(0x11, call_id.as_bytes())?;
    let length = u16::try_from(chunks.0.len() + 6).ok().filter(|length| usize::from(*length) <= LONGEST)?;
    let mut bytes = b"HEP3".to_vec();
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.append(&mut chunks.0);
    Some(bytes)
}

struct Chunks(Vec<u8>);

impl Chunks {
    /// Of the generic vendor, 0.
    fn put(&mut self, kind: u16, value: &[u8]) -> Option<()> {
        let length = u16::try_from(value.len() + 6).ok()?;
        self.0.extend_from_slice(&0u16.to_be_bytes());
        self.0.extend_from_slice(&kind.to_be_bytes());
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(value);
        Some(())
    }

    fn put_address(&mut self, kind: u16, ip: IpAddr) -> Option<()> {
        match ip {
            IpAddr::V4(ip) => self.put(kind, &ip.octets()),
            IpAddr::V6(ip) => self.put(kind, &ip.octets()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::engine::flow::{ConnectionId, Flow, ListenerId};

    fn packet(peer: &str, ours: &str, bytes: &'static [u8]) -> Packet {
        let peer = peer.parse().expect("an address");
        Packet {
            flow: Flow {
                listener: ListenerId(0),
                transport: Transport::Udp,
                peer,
                connection: ConnectionId::default(),
            },
            ours: ours.parse().expect("an address"),
            listener: "udp".to_owned(),
            line: String::new(),
            method: String::new(),
            status: None,
            branch: String::new(),
            bytes: Bytes::from_static(bytes),
        }
    }

    #[test]
    fn a_packet_is_as_the_specification_draws_it() {
        let at = UNIX_EPOCH + Duration::from_micros(0x0102_0304 * 1_000_000 + 5);
        let packet = packet("10.0.0.1:5060", "10.0.0.2:8060", b"BYE");
        let bytes = encode(7, Some("pw"), at, "a@b", Way::In, &packet).expect("it is short");
        let chunks: [&[u8]; 14] = [
            b"HEP3\x00\x77",
            b"\0\0\0\x01\0\x07\x02",
            b"\0\0\0\x02\0\x07\x11",
            b"\0\0\0\x03\0\x0a\x0a\0\0\x01",
            b"\0\0\0\x04\0\x0a\x0a\0\0\x02",
            b"\0\0\0\x07\0\x08\x13\xc4",
            b"\0\0\0\x08\0\x08\x1f\x7c",
            b"\0\0\0\x09\0\x0a\x01\x02\x03\x04",
            b"\0\0\0\x0a\0\x0a\0\0\0\x05",
            b"\0\0\0\x0b\0\x07\x01",
            b"\0\0\0\x0c\0\x0a\0\0\0\x07",
            b"\0\0\0\x0e\0\x08pw",
            b"\0\0\0\x0f\0\x09BYE",
            b"\0\0\0\x11\0\x09a@b",
        ];
        assert_eq!(bytes, chunks.concat());
        let out = encode(7, None, at, "a@b", Way::Out, &packet).expect("it is short");
        assert_eq!((&out[26..30], &out[36..40]), (&[10, 0, 0, 2][..], &[10, 0, 0, 1][..]));
    }

    #[test]
    fn what_is_too_long_is_dropped_and_counted() {
        let server = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let to = server.local_addr().expect("bound");
        let hep = Hep::start(&HepConfig { to, id: 1, password_file: None }).expect("a socket");
        static LONG: [u8; 65_535] = [b'x'; 65_535];
        hep.send(SystemTime::now(), "a", Way::In, &packet("[::1]:1", "[::1]:2", &LONG));
        assert_eq!(hep.dropped(), 1);
        hep.send(SystemTime::now(), "a", Way::In, &packet("[::1]:1", "[::1]:2", b"BYE"));
        assert_eq!(hep.dropped(), 1);
        let mut buffer = [0; 256];
        let length = server.recv(&mut buffer).expect("a packet");
        assert!(buffer[..length].starts_with(b"HEP3") && buffer[..length].ends_with(b"a"));
    }
}
