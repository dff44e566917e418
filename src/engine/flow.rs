//! Where a message came from or goes to: listener, peer and connection.

mod cidr;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

pub use cidr::{BadCidr, Cidr};

/// A SIP transport (RFC 3261 section 18).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A stream.
    Tcp,
    /// A stream under TLS.
    Tls,
}

impl Transport {
    /// As it stands in a Via: `UDP`, `TCP`, `TLS`.
    pub fn via_name(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
        }
    }

    /// As it stands in a URI's `transport` parameter and in the configuration: `udp`, `tcp`, `tls`.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
        }
    }

    /// The transport of that name, in any case.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        [Transport::Udp, Transport::Tcp, Transport::Tls]
            .into_iter()
            .find(|t| name.eq_ignore_ascii_case(t.name().as_bytes()))
    }

    /// Whether the transport resends by itself, so that transactions do not (RFC 3261 section 17.1.1.1).
    pub fn is_reliable(self) -> bool {
        self != Transport::Udp
    }

    /// The port of a URI that names none (RFC 3261 section 19.1.2).
    pub fn default_port(self) -> u16 {
        if self == Transport::Tls { 5061 } else { 5060 }
    }
}

/// A listener by its place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub u16);

/// A stream connection, numbered by the edge and never reused; 0 is none (UDP, or "open one").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub u64);

/// Whose doing it is that a message did not get to its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The peer's: it refuses, broke off or does not read.
    Theirs,
    /// Ours: no route, no descriptor, too large. It says nothing of the peer.
    Ours,
    /// Ours, and maybe gone when the message is sent again: a buffer was full.
    Passing,
}

/// The way of one message: our listener, the peer's address, and the connection if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Our end.
    pub listener: ListenerId,
    /// The transport of `listener`.
    pub transport: Transport,
    /// The other end.
    pub peer: SocketAddr,
    /// The connection it came by; none for UDP.
    pub connection: ConnectionId,
}

/// What an address of ours is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// Belongs to this node alone: traffic, and the only place that probes leave from.
    #[default]
    Node,
    /// A virtual address that keepalived may move to the other node: traffic only.
    Vip,
}

impl Role {
    /// As the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            Role::Node => "node",
            Role::Vip => "vip",
        }
    }
}

/// One address that we listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its place in the list of listeners.
    pub id: ListenerId,
    /// The transport it speaks.
    pub transport: Transport,
    /// A concrete address; wildcards have been expanded.
    pub bind: SocketAddr,
    /// What we write into Via and Record-Route.
    pub advertise: HostPort,
    /// Node or VIP.
    pub role: Role,
    /// Who may send to it.
    pub sources: Sources,
}

impl Listener {
    /// As the configuration writes it: `udp:127.0.0.1:8060`.
    pub fn name(&self) -> String {
        format!("{}:{}", self.transport.name(), self.bind)
    }

    /// Whether what leaves by it can come to `peer`: loopback reaches only loopback, one address family not the other.
    pub fn reaches(&self, peer: SocketAddr) -> bool {
        self.bind.is_ipv4() == peer.is_ipv4() && self.bind.ip().is_loopback() == peer.ip().is_loopback()
    }
}

/// Who may send to a listener, beside the destinations. The default is everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Only these networks; empty: all.
    pub allow: Vec<Cidr>,
    /// None of these, not even destinations, whatever `allow` says.
    pub deny: Vec<Cidr>,
}

impl Sources {
    /// Whether what comes from that address is taken. `is_destination` is asked only if it matters.
    pub fn permit(&self, ip: IpAddr, is_destination: impl FnOnce() -> bool) -> bool {
        let names = |networks: &[Cidr]| networks.iter().any(|network| network.contains(ip));
        !names(&self.deny) && (self.allow.is_empty() || names(&self.allow) || is_destination())
    }
}

/// A host and a port as they stand in a Via or a URI; IPv6 in brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// An address (IPv6 in brackets) or a name.
    pub host: String,
    /// Always written out.
    pub port: u16,
}

impl From<SocketAddr> for HostPort {
    fn from(address: SocketAddr) -> Self {
        let host = match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        HostPort { host, port: address.port() }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deny_beats_allow_and_no_list_is_everybody() {
        let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("a network")).collect();
        let permitted = |allow: &[&str], deny: &[&str]| {
            let sources = Sources { allow: networks(allow), deny: networks(deny) };
            let destination = "192.0.2.9";
            ["10.1.2.3", "10.9.9.9", "192.0.2.1", "::1", destination]
                .map(|ip| sources.permit(ip.parse().expect("an address"), || ip == destination))
        };
        assert_eq!(permitted(&[], &[]), [true; 5]);
        assert_eq!(permitted(&["10.0.0.0/8"], &[]), [true, true, false, false, true]);
        assert_eq!(permitted(&["10.0.0.0/8", "::1"], &["10.9.0.0/16"]), [true, false, false, true, true]);
        assert_eq!(permitted(&[], &["::/0"]), [true, true, true, false, true]);
        assert_eq!(permitted(&["10.0.0.0/8"], &["192.0.2.0/24"]), [true, true, false, false, false]);
    }
}
