//! What names us, and which of our listeners a message leaves by.

use std::net::{IpAddr, SocketAddr};

use crate::engine::flow::{Listener, ListenerId, Transport};
use crate::engine::sip::{Host, Uri, Via};

/// Our listeners and the names they go by.
#[derive(Debug)]
pub(crate) struct Ourselves {
    listeners: Vec<Listener>,
    names: Vec<Name>,
    /// Those whose address is another node's now.
    lost: Vec<ListenerId>,
}

/// One way in which others write us.
#[derive(Debug)]
struct Name {
    host: OwnHost,
    port: u16,
    listener: ListenerId,
}

#[derive(Debug)]
enum OwnHost {
    Ip(IpAddr),
    Name(String),
}

impl Ourselves {
    /// Our listeners; each one's id is its index.
    pub(crate) fn new(listeners: Vec<Listener>) -> Self {
        let mut names = Vec::new();
        for listener in &listeners {
            names.push(Name {
                host: OwnHost::Ip(listener.bind.ip()),
                port: listener.bind.port(),
                listener: listener.id,
            });
            let advertised = match Host::parse(listener.advertise.host.as_bytes()) {
                Some(Host::Ip(ip)) => OwnHost::Ip(ip),
                Some(Host::Name(_)) | None => OwnHost::Name(listener.advertise.host.clone()),
            };
            names.push(Name { host: advertised, port: listener.advertise.port, listener: listener.id });
        }
        Ourselves { listeners, names, lost: Vec::new() }
    }

    /// The address of a listener is this node's now, or another's; it names us all the same. All listeners of that address for
    /// which that is new.
    pub(crate) fn hold(&mut self, listener: ListenerId, held: bool) -> Vec<ListenerId> {
        let Some(ip) = self.get(listener).map(|listener| listener.bind.ip()) else { return Vec::new() };
        let all = self.listeners.iter().filter(|listener| listener.bind.ip() == ip).map(|listener| listener.id);
        let changed: Vec<_> = all.filter(|id| self.holds(*id) != held).collect();
        match held {
            true => self.lost.retain(|lost| !changed.contains(lost)),
            false => self.lost.extend(&changed),
        }
        changed
    }

    /// Whether the address of a listener is this node's now, as far as it has been told.
    pub(crate) fn holds(&self, listener: ListenerId) -> bool {
        !self.lost.contains(&listener)
    }

    /// The listener of that id.
    pub(crate) fn listener(&self, id: ListenerId) -> &Listener {
        &self.listeners[usize::from(id.0)]
    }

    /// The first listener; none without any.
    pub(crate) fn first(&self) -> Option<&Listener> {
        self.listeners.first()
    }

    /// The listener of an id that may be anything.
    pub(crate) fn get(&self, id: ListenerId) -> Option<&Listener> {
        self.listeners.get(usize::from(id.0))
    }

    /// The listener that a URI names by host and port, of the URI's transport if there is one.
    pub(crate) fn named_by(&self, uri: &Uri<'_>) -> Option<ListenerId> {
        let transport = uri.transport()?;
        let mut any = None;
        for id in self.named(&uri.host, uri.port_or_default()) {
            if self.listener(id).transport == transport {
                return Some(id);
            }
            any = any.or(Some(id));
        }
        any
    }

    /// Whether a text is a URI that names us.
    pub(crate) fn are_named_by(&self, uri: &[u8]) -> bool {
        Uri::parse(uri).is_ok_and(|uri| self.named_by(&uri).is_some())
    }

    /// Whether a Via's sent-by is ours.
    pub(crate) fn wrote(&self, via: &Via<'_>) -> bool {
        self.named(&via.host, via.port_or_default()).next().is_some()
    }

    fn named<'s>(&'s self, host: &'s Host<'_>, port: u16) -> impl Iterator<Item = ListenerId> + 's {
        let same_host = move |name: &OwnHost| match (name, host) {
            (OwnHost::Ip(ours), Host::Ip(ip)) => ours == ip,
            (OwnHost::Name(ours), Host::Name(text)) => text.eq_ignore_ascii_case(ours.as_bytes()),
            (OwnHost::Ip(_), Host::Name(_)) | (OwnHost::Name(_), Host::Ip(_)) => false,
        };
        self.names.iter().filter(move |name| name.port == port && same_host(&name.host)).map(|name| name.listener)
    }

    /// The listener that a message to `peer` leaves by: the one it came in by if that can reach the peer, else one with the same
    /// address, which moves with it, else the first of the transport that can, of those that are this node's now before others.
    pub(crate) fn towards(&self, transport: Transport, peer: SocketAddr, came_by: ListenerId) -> Option<ListenerId> {
        let reaches = |listener: &&Listener| listener.transport == transport && listener.reaches(peer);
        let same_family =
            |listener: &&Listener| listener.transport == transport && listener.bind.is_ipv4() == peer.is_ipv4();
        let came_by = self.listener(came_by);
        let beside = |listener: &&Listener| listener.bind.ip() == came_by.bind.ip();
        let held = |listener: &&Listener| self.holds(listener.id);
        let any_order = || {
            let all = self.listeners.iter();
            std::iter::once(came_by).chain(all.clone().filter(beside)).chain(all.clone().filter(held)).chain(all)
        };
        any_order().find(reaches).or_else(|| any_order().find(same_family)).map(|listener| listener.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::flow::{HostPort, Role};

    fn ourselves() -> Ourselves {
        let listener = |id, transport, bind: &str, advertise: &str| Listener {
            id: ListenerId(id),
            transport,
            bind: bind.parse().expect("an address"),
            advertise: HostPort { host: advertise.into(), port: 8060 },
            role: Role::Node,
            sources: Default::default(),
        };
        Ourselves::new(vec![
            listener(0, Transport::Udp, "127.0.0.1:8060", "127.0.0.1"),
            listener(1, Transport::Udp, "10.0.0.1:8060", "sip.example.com"),
            listener(2, Transport::Tcp, "10.0.0.1:8060", "sip.example.com"),
            listener(3, Transport::Udp, "[2001:db8::1]:8060", "[2001:db8::1]"),
        ])
    }

    #[test]
    fn bound_and_advertised_addresses_name_us() {
        let us = ourselves();
        for (uri, listener) in [
            ("sip:127.0.0.1:8060", Some(0)),
            ("sip:x@SIP.example.com:8060", Some(1)),
            ("sip:10.0.0.1:8060;transport=tcp", Some(2)),
            ("sip:[2001:DB8::1]:8060;lr", Some(3)),
            ("sip:127.0.0.1", None),
            ("sip:other:8060", None),
        ] {
            assert_eq!(us.named_by(&Uri::parse(uri.as_bytes()).expect("valid")), listener.map(ListenerId), "{uri}");
        }
    }

    #[test]
    fn a_message_leaves_by_a_listener_that_reaches_its_peer() {
        let us = ourselves();
        let by =
            |peer: &str, came_by| us.towards(Transport::Udp, peer.parse().expect("an address"), ListenerId(came_by));
        assert_eq!(by("127.0.0.1:1", 0), Some(ListenerId(0)));
        assert_eq!(by("10.0.0.9:1", 0), Some(ListenerId(1)));
        assert_eq!(by("127.0.0.1:1", 1), Some(ListenerId(0)));
        assert_eq!(by("[2001:db8::9]:1", 0), Some(ListenerId(3)));
        assert_eq!(us.towards(Transport::Tls, "10.0.0.9:1".parse().expect("an address"), ListenerId(0)), None);
    }
}
