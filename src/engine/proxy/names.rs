//! Requests whose next hop is a name: they are parked while somebody outside looks it up (RFC 3263). Whether they may go
//! there at all has been decided before, so that nobody makes us ask DNS who may not make us send.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::preprocess::preprocess;
use super::validate::Refusal;
use super::{Incoming, Proxy, World};
use crate::engine::clock::Instant;
use crate::engine::event::{DropCause, LookupId, Output};
use crate::engine::flow::{Flow, Transport};
use crate::engine::sip::{Host, Message, Method, Reply, Scheme, Uri};
use crate::engine::transaction::{Key, ServerId};

/// How long a request waits for an address at most.
const PATIENCE: Duration = Duration::from_secs(2);
/// Requests that wait at once, and lookups that nobody waits for any more; one more is refused.
const MOST_PARKED: usize = 1000;

/// Why a request does not go out now.
#[derive(Debug)]
pub(super) enum Detour {
    /// It is refused.
    Refuse(Refusal),
    /// A name has to be looked up first.
    Name(Name),
}

impl From<Refusal> for Detour {
    fn from(refusal: Refusal) -> Self {
        Detour::Refuse(refusal)
    }
}

/// A next hop without an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    host: String,
    port: Option<u16>,
    transport: Transport,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Name { host, port, transport } = self;
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        write!(f, "{host}{port} ({})", transport.name())
    }
}

/// What a parked request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// It goes along the route of its dialog.
    Inside,
    /// A rule relays it.
    Relay,
}

/// All requests that wait for an address.
#[derive(Debug, Default)]
pub(super) struct Parking {
    /// One lookup for all requests with the same next hop; in the order of their deadlines.
    lookups: BTreeMap<LookupId, Lookup>,
    by_name: BTreeMap<Name, LookupId>,
    /// Where each request stands: its lookup, and its place there.
    waiting: HashMap<Waiter, (LookupId, u64)>,
    /// Lookups that nobody waits for any more. They count as a request does: who cancels makes no room for more lookups.
    idle: usize,
    next: u64,
    next_place: u64,
}

/// Which request waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Waiter {
    Server(ServerId),
    /// An ACK has no transaction of its own.
    Ack(LookupId, Key),
}

#[derive(Debug)]
struct Lookup {
    name: Name,
    /// Of the request that asked first; who came later waits less.
    deadline: Instant,
    /// In the order in which they came.
    requests: BTreeMap<u64, Parked>,
}

#[derive(Debug)]
struct Parked {
    errand: Errand,
    key: Key,
    /// Its transaction, which absorbs it when it comes again; none for an ACK.
    server: Option<ServerId>,
    flow: Flow,
    request: Bytes,
}

impl Parking {
    /// When the first lookup has taken too long.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.lookups.first_key_value().map(|(_, lookup)| lookup.deadline)
    }

    /// Whether one more request may wait.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() + self.idle < MOST_PARKED
    }

    /// The lookup of that name; whether it is a new one. Somebody has to join it.
    fn lookup(&mut self, name: &Name, now: Instant) -> (LookupId, bool) {
        if let Some(&id) = self.by_name.get(name) {
            return (id, false);
        }
        let id = LookupId(self.next);
        self.next += 1;
        self.by_name.insert(name.clone(), id);
        self.lookups.insert(id, Lookup { name: name.clone(), deadline: now + PATIENCE, requests: BTreeMap::new() });
        self.idle += 1;
        (id, true)
    }

    /// Lets a request wait for a lookup, unless it waits there already.
    fn join(&mut self, id: LookupId, parked: Parked) {
        let waiter = parked.waiter(id);
        if self.waiting.contains_key(&waiter) {
            return;
        }
        let Some(lookup) = self.lookups.get_mut(&id) else { return };
        let place = self.next_place;
        self.next_place += 1;
        if lookup.requests.is_empty() {
            self.idle -= 1;
        }
        lookup.requests.insert(place, parked);
        self.waiting.insert(waiter, (id, place));
    }

    fn overdue(&mut self, now: Instant) -> Option<Lookup> {
        let (&id, first) = self.lookups.first_key_value()?;
        if first.deadline > now {
            return None;
        }
        self.remove(id)
    }

    /// Ends a lookup.
    fn remove(&mut self, id: LookupId) -> Option<Lookup> {
        let lookup = self.lookups.remove(&id)?;
        self.by_name.remove(&lookup.name);
        if lookup.requests.is_empty() {
            self.idle -= 1;
        }
        for parked in lookup.requests.values() {
            self.waiting.remove(&parked.waiter(id));
        }
        Some(lookup)
    }

    /// A request waits no longer; its lookup goes on.
    pub(super) fn leave(&mut self, server: ServerId) {
        self.take(server);
    }

    /// Takes a request out; its lookup goes on.
    fn take(&mut self, server: ServerId) -> Option<Parked> {
        let (id, place) = self.waiting.remove(&Waiter::Server(server))?;
        let lookup = self.lookups.get_mut(&id)?;
        let parked = lookup.requests.remove(&place);
        if lookup.requests.is_empty() {
            self.idle += 1;
        }
        parked
    }
}

impl Parked {
    fn waiter(&self, id: LookupId) -> Waiter {
        self.server.map_or(Waiter::Ack(id, self.key), Waiter::Server)
    }
}

impl Proxy {
    /// The address of a next hop: what its URI says, or what its name was found to lead to.
    pub(super) fn address_of(
        &self,
        incoming: &Incoming<'_, '_>,
        next: &Uri<'_>,
        transport: Transport,
    ) -> Result<SocketAddr, Detour> {
        if let Some(address) = next.address() {
            return Ok(address);
        }
        let host = match (next.scheme, next.host) {
            (Scheme::Sip | Scheme::Sips, Host::Name(host)) => String::from_utf8_lossy(host).to_ascii_lowercase(),
            (..) => return Err(Refusal::new(500, "Next Hop Has No Address").into()),
        };
        if incoming.known.is_empty() {
            return Err(Detour::Name(Name { host, port: next.port, transport }));
        }
        let reached = |peer: &&SocketAddr| self.us.towards(transport, **peer, incoming.flow.listener).is_some();
        let no_listener = || Refusal::new(500, "No Listener Towards Next Hop");
        Ok(*incoming.known.iter().find(reached).ok_or_else(no_listener)?)
    }

    /// Lets a request wait until its next hop has an address.
    pub(super) fn park(
        &mut self,
        world: &mut World<'_>,
        incoming: &Incoming<'_, '_>,
        key: Key,
        name: &Name,
        errand: Errand,
    ) {
        let Incoming { flow, message, .. } = *incoming;
        let ack = message.method() == Method::Ack;
        if !self.parking.has_room() {
            let refusal = too_many_names();
            return if ack {
                world.drop(DropCause::StrayAck, flow)
            } else {
                self.refuse(world, flow, message, &refusal)
            };
        }
        let server = (!ack).then(|| self.open(world, incoming, key));
        let (id, is_new) = self.parking.lookup(name, world.now.mono);
        if is_new {
            let Name { host, port, transport } = name.clone();
            world.out.push(Output::Resolve { id, host, port, transport });
        }
        // An ACK may come again while the first one waits.
        let request = Bytes::copy_from_slice(message.bytes());
        self.parking.join(id, Parked { errand, key, server, flow, request });
    }

    /// A name has been looked up: whoever waits for it goes on. An answer that comes too late is for nobody.
    pub(crate) fn resolved(&mut self, world: &mut World<'_>, id: LookupId, addresses: &[SocketAddr]) {
        let lookup = self.parking.remove(id);
        for parked in lookup.into_iter().flat_map(|lookup| lookup.requests.into_values()) {
            match addresses {
                [] => self.fail(world, &parked, &Reply::new(500, "Next Hop Has No Address")),
                [..] => self.resume(world, &parked, addresses),
            }
        }
    }

    /// Answers those who have waited long enough.
    pub(crate) fn give_up_lookups(&mut self, world: &mut World<'_>) {
        while let Some(lookup) = self.parking.overdue(world.now.mono) {
            for parked in lookup.requests.values() {
                self.fail(world, parked, &Reply::new(500, "Next Hop Not Resolved In Time"));
            }
        }
    }

    /// When [`Proxy::give_up_lookups`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.parking.next_deadline()
    }

    /// An INVITE that waits for an address is cancelled.
    pub(super) fn cancel_parked(&mut self, world: &mut World<'_>, server: ServerId) {
        if let Some(parked) = self.parking.take(server) {
            self.fail(world, &parked, &Reply::new(487, "Request Terminated"));
        }
    }

    fn resume(&mut self, world: &mut World<'_>, parked: &Parked, addresses: &[SocketAddr]) {
        let message = parsed(&parked.request);
        let Ok(uri) = Uri::parse(message.request_uri()) else { return };
        let routed = preprocess(&message, &uri, &self.us, world.keys);
        let incoming = Incoming { flow: parked.flow, message: &message, routed, known: addresses };
        let Some(server) = parked.server else {
            if !self.forward_ack(world, &incoming) {
                world.drop(DropCause::StrayAck, parked.flow);
            }
            return;
        };
        let gone_on = match parked.errand {
            Errand::Inside => self.go_inside(world, &incoming, server),
            Errand::Relay => self.go_relayed(world, &incoming, server),
        };
        match gone_on {
            Ok(()) => {}
            Err(Detour::Refuse(Refusal { status, reason, .. })) => {
                self.fail(world, parked, &Reply::new(status, &reason));
            }
            Err(Detour::Name(_)) => self.fail(world, parked, &Reply::new(500, "Next Hop Has No Address")),
        }
    }

    fn fail(&self, world: &mut World<'_>, parked: &Parked, reply: &Reply) {
        match parked.server {
            Some(server) => self.reply(world, server, &parsed(&parked.request), parked.flow, reply),
            None => world.drop(DropCause::StrayAck, parked.flow),
        }
    }
}

/// What a request is told that may not wait.
pub(super) fn too_many_names() -> Refusal {
    Refusal::new(500, "Too Many Names Looked Up")
}

fn parsed(request: &Bytes) -> Message<'_> {
    Message::parse(request).expect("a request that we have parsed before")
}
