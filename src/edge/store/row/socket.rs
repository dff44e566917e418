//! The `socket` column: the listener that a row leaves from, `[transport:]host[:port]`.

use super::Judge;
use crate::engine::flow::{HostPort, Listener, Transport};
use crate::engine::sip::Host;

/// What the `socket` column says: `[transport:]host[:port]`.
pub(super) struct Socket<'a> {
    transport: Option<Transport>,
    host: Host<'a>,
    port: Option<u16>,
}

impl<'a> Socket<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (transport, rest) =
            match text.split_once(':').map(|(name, rest)| (Transport::from_name(name.as_bytes()), rest)) {
                Some((Some(transport), rest)) => (Some(transport), rest),
                Some((None, _)) | None => (None, text),
            };
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
            Some(_) | None => (rest, None),
        };
        Some(Socket { transport, host: Host::parse(host.as_bytes())?, port })
    }
}

impl Judge<'_> {
    /// The listeners of that name: those that bind it before those that advertise it.
    pub(super) fn matching(&self, socket: &Socket<'_>) -> Vec<&Listener> {
        let named = |host: Host<'_>, port: u16, listener: &Listener| {
            socket.host.is(&host)
                && socket.port.is_none_or(|wanted| wanted == port)
                && socket.transport.is_none_or(|wanted| wanted == listener.transport)
        };
        let binds = |listener: &&Listener| named(Host::Ip(listener.bind.ip()), listener.bind.port(), listener);
        let advertises = |listener: &&Listener| {
            let HostPort { host, port } = &listener.advertise;
            Host::parse(host.as_bytes()).is_some_and(|host| named(host, *port, listener))
        };
        let listeners = self.context.listeners;
        listeners.iter().filter(binds).chain(listeners.iter().filter(advertises)).collect()
    }
}

/// A listener as the `socket` column names it.
pub(in crate::edge::store) fn socket_name(listener: &Listener) -> String {
    format!("{}:{}", listener.transport.name(), listener.bind)
}
