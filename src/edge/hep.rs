//! HEP version 3: messages of calls that are told of, to a capture server as Homer, one datagram each
//! (<https://github.com/sipcapture/HEP>). It never waits: what can't be sent at once is dropped and counted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fmt, io};

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
    /// What every packet bears; none: none is wanted.
    pub password: Option<Password>,
}

/// A capture server's password. It is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Vec<u8>);

impl Password {
    /// The first line of a file's text.
    ///
    /// # Errors
    /// What is wrong with it, without showing it.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        match text.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii() {
            [] => Err("it holds no password".to_owned()),
            line => Ok(Password(line.to_owned())),
        }
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

impl HepConfig {
    /// The number of who was told nothing else.
    pub const USUAL_ID: u32 = 2001;
}

/// Why nothing can be captured: the socket can't be made.
#[derive(Debug, Error)]
#[error(
    "cannot make a socket for trace.hep {to}: {source}: give the address of a capture server of a family that this machine has"
)]
pub struct HepError {
    to: SocketAddr,
    source: io::Error,
}

/// Sends messages to a capture server.
#[derive(Debug)]
pub struct Hep {
    socket: UdpSocket,
    to: SocketAddr,
    id: u32,
    password: Option<Password>,
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
    /// Makes the socket. Whether a way leads to the capture server is seen by each message anew.
    ///
    /// # Errors
    /// [`HepError`].
    pub fn start(config: &HepConfig) -> Result<Self, HepError> {
        let HepConfig { to, id, password } = config;
        let socket = || {
            let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = UdpSocket::bind((any, 0))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let socket = socket().map_err(|source| HepError { to: *to, source })?;
        Ok(Hep { socket, to: *to, id: *id, password: password.clone(), dropped: AtomicU64::new(0) })
    }

    /// Sends one message.
    pub fn send(&self, at: SystemTime, call_id: &str, way: Way, packet: &Packet) {
        let password = self.password.as_ref().map(|Password(password)| password.as_slice());
        let sent = encode(self.id, password, at, call_id, way, packet)
            .is_some_and(|bytes| self.socket.send_to(&bytes, self.to).is_ok());
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
    password: Option<&[u8]>,
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
        chunks.put(0x0e, password)?;
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
        let bytes = encode(7, Some(b"pw"), at, "a@b", Way::In, &packet).expect("it is short");
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
        let hep = Hep::start(&HepConfig { to, id: 1, password: None }).expect("a socket");
        static LONG: [u8; 65_535] = [b'x'; 65_535];
        hep.send(SystemTime::now(), "a", Way::In, &packet("[::1]:1", "[::1]:2", &LONG));
        assert_eq!(hep.dropped(), 1);
        hep.send(SystemTime::now(), "a", Way::In, &packet("[::1]:1", "[::1]:2", b"BYE"));
        assert_eq!(hep.dropped(), 1);
        let mut buffer = [0; 256];
        let length = server.recv(&mut buffer).expect("a packet");
        assert!(buffer[..length].starts_with(b"HEP3") && buffer[..length].ends_with(b"a"));
    }

    #[test]
    fn a_capture_server_that_no_way_leads_to_is_no_reason_not_to_start() {
        // The system refuses that to every socket that has not asked for broadcasts.
        let to = "255.255.255.255:9060".parse().expect("an address");
        let hep = Hep::start(&HepConfig { to, id: 1, password: None }).expect("a socket");
        hep.send(SystemTime::now(), "a", Way::In, &packet("10.0.0.1:1", "10.0.0.1:2", b"BYE"));
        assert_eq!(hep.dropped(), 1);
    }

    #[test]
    fn a_password_is_the_first_line_and_never_shown() {
        let password = Password::parse(b" pw \r\nmore").expect("there is one");
        assert_eq!((password.0.as_slice(), format!("{password:?}").as_str()), (&b"pw"[..], "Password(..)"));
        assert_eq!(
            [Password::parse(b""), Password::parse(b"\nx")],
            [const { "it holds no password" }; 2].map(|why| Err(why.to_owned()))
        );
    }
}
