//! Requests inside a dialog: their route leads them (RFC 3261 sections 12.2 and 16.12), our cookie vouches for them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::names::{Detour, Errand};
use super::session::{Session, is_of_session};
use super::validate::Refusal;
use super::{Incoming, Proxy, View, World};
use crate::engine::dialog::{DialogId, FarEnd, Found, Leg, Seat};
use crate::engine::dispatch::SetId;
use crate::engine::flow::{ConnectionId, Flow, ListenerId, Transport};
use crate::engine::sip::{Address, Cookie, Host, Keys, Message, Method, Uri};
use crate::engine::transaction::{Key, ServerId};

/// Where a request inside a dialog goes, if it can, and what it belongs to.
pub(super) struct Way {
    pub(super) hop: Result<Flow, Detour>,
    dialog: Dialog,
}

/// The session of a request inside a dialog.
#[derive(Clone, Copy)]
enum Dialog {
    /// In the table.
    Known(Found),
    /// Not in the table, and what our cookie says of it: another node, or this one before a restart, began it, or it has
    /// ended. Where it is, and the mark of the node that began it, are told of a session alone, not of a subscription.
    Told(Leg, Option<(Seat, u16)>),
    /// Nothing speaks for it.
    Unknown,
}

impl Proxy {
    /// One request with a To-tag, other than ACK.
    pub(super) fn inside_dialog(&mut self, world: &mut World<'_>, incoming: &Incoming<'_, '_>, key: Key) {
        let Way { hop, dialog } = match self.find_way(world.view(), incoming) {
            Ok(way) => way,
            Err(refusal) => return self.refuse(world, incoming.flow, incoming.message, &refusal),
        };
        // Who sends BYE waits for nobody (section 15.1.1), so it ends its session though it may not get there.
        if let (Method::Bye, Dialog::Known(found)) = (incoming.message.method(), dialog) {
            self.hung_up(world, found, incoming.message);
        }
        match hop {
            Ok(flow) => {
                let server = self.open(world, incoming, key);
                self.send_inside(world, incoming, server, flow, dialog);
            }
            Err(Detour::Name(name)) => self.park(world, incoming, key, &name, Errand::Inside),
            Err(Detour::Refuse(refusal)) => self.refuse(world, incoming.flow, incoming.message, &refusal),
        }
    }

    /// The same once the name of its next hop has been looked up; its transaction is open.
    pub(super) fn go_inside(
        &mut self,
        world: &mut World<'_>,
        incoming: &Incoming<'_, '_>,
        server: ServerId,
    ) -> Result<(), Detour> {
        let Way { hop, dialog } = self.find_way(world.view(), incoming)?;
        self.send_inside(world, incoming, server, hop?, dialog);
        Ok(())
    }

    fn send_inside(
        &mut self,
        world: &mut World<'_>,
        incoming: &Incoming<'_, '_>,
        server: ServerId,
        flow: Flow,
        dialog: Dialog,
    ) {
        let message = incoming.message;
        let session = match dialog {
            Dialog::Known(found) => {
                world.dialogs.hear(found, message.cseq(), world.now.mono);
                Some(Session::Inside(found))
            }
            // It is confirmed once the other end has said that it is there.
            Dialog::Told(leg, Some((seat, node))) if is_of_session(message.method()) => {
                let (begun, home) = ((leg, seat, node), incoming.flow.listener);
                world.dialogs.adopt(world.keys, message, begun, home, world.now.mono).map(Session::Inside)
            }
            Dialog::Told(leg, Some((seat, node))) if message.method() == Method::Bye => {
                world.dialogs.end_unseen(world.keys, message, (leg, seat, node), world.now.mono);
                None
            }
            Dialog::Told(..) | Dialog::Unknown => None,
        };
        self.begin(world, incoming, server, flow, session);
    }

    /// Forwards an ACK to a 2xx; false if it belongs to no call that we may relay for.
    pub(super) fn forward_ack(&mut self, world: &mut World<'_>, incoming: &Incoming<'_, '_>) -> bool {
        let Ok(Way { hop, dialog }) = self.find_way(world.view(), incoming) else { return false };
        match hop {
            Ok(flow) => {
                self.send_stateless(world, incoming, flow);
                // One that comes after the BYE must not bring the session back.
                if let Dialog::Known(found) = dialog {
                    world.dialogs.hear(found, incoming.message.cseq(), world.now.mono);
                }
                true
            }
            Err(Detour::Name(name)) => {
                let key = Key::of(world.keys, incoming.message);
                self.park(world, incoming, key, &name, Errand::Inside);
                true
            }
            Err(Detour::Refuse(_)) => false,
        }
    }

    /// Where it goes; refused if it may go nowhere.
    pub(super) fn find_way(&self, world: View<'_>, incoming: &Incoming<'_, '_>) -> Result<Way, Refusal> {
        let found = world.dialogs.find(world.keys, incoming.message);
        let (dialog, leg, seat) = match (found, incoming.routed.cookie) {
            // The session of a try that another one has won over: it is not the one in the table.
            (Some(found), Some((cookie, leg))) if is_elsewhere(world, found.id, &cookie) => {
                (Dialog::Unknown, Some(leg), seat_of(world, &cookie))
            }
            (Some(found), _) => (Dialog::Known(found), Some(found.leg), world.dialogs.seat(found.id)),
            (None, Some((cookie, leg))) => {
                let seat = seat_of(world, &cookie);
                let session = seat.filter(|_| cookie.session).map(|seat| (seat, cookie.node));
                (Dialog::Told(leg, session), Some(leg), seat)
            }
            (None, None) => (Dialog::Unknown, None, None),
        };
        let hop = self.hop(incoming, leg, seat);
        let far_end = match dialog {
            Dialog::Known(found) => world.dialogs.far_end(found.id),
            Dialog::Told(..) | Dialog::Unknown => None,
        };
        // A To-tag is no ticket, and neither is a cookie: they lead to and from the destination's side alone.
        let source = incoming.flow.peer.ip();
        let far = |ip: IpAddr| {
            world.dispatch.is_destination_ip(ip)
                || far_end == Some(FarEnd::Ip(ip))
                || seat.is_some_and(|seat| seat.address.ip() == ip)
        };
        let trusted = match (leg, &hop) {
            // It was before it was parked; its session may have ended since, by itself too.
            _ if !incoming.known.is_empty() => true,
            (Some(Leg::Caller), Ok(flow)) => far(flow.peer.ip()) || self.leads_to(world.keys, incoming, far_end),
            (Some(Leg::Caller), Err(Detour::Name(_))) => self.leads_to(world.keys, incoming, far_end),
            // It goes nowhere, and is told why.
            (Some(Leg::Caller), Err(Detour::Refuse(_))) => true,
            (Some(Leg::Destination), _) => far(source),
            (None, hop) => {
                world.dispatch.is_destination_ip(source)
                    || hop.as_ref().is_ok_and(|flow| world.dispatch.is_destination(flow.peer))
            }
        };
        match trusted {
            true => Ok(Way { hop, dialog }),
            false => Err(Refusal::new(403, "Forbidden")),
        }
    }

    /// Whether the next hop is the far end's name.
    fn leads_to(&self, keys: &Keys, incoming: &Incoming<'_, '_>, far_end: Option<FarEnd>) -> bool {
        let next = incoming.routed.next.map_or(incoming.routed.uri, |next| next.uri);
        far_end.is_some() && FarEnd::of(keys, next) == far_end
    }

    /// Where the requests of a session go from us on: its 2xx's Record-Route beyond ours, else its Contact.
    pub(super) fn far_end(&self, keys: &Keys, response: &Message<'_>) -> Option<FarEnd> {
        let beyond = response.record_routes().take_while(|route| !self.us.are_named_by(route.uri)).last();
        let next = beyond.or_else(|| response.header(b"Contact").and_then(Address::parse))?;
        FarEnd::of(keys, next.uri)
    }

    /// Section 16.6 items 6 and 7: the next Route, else the Request-URI.
    fn hop(&self, incoming: &Incoming<'_, '_>, leg: Option<Leg>, seat: Option<Seat>) -> Result<Flow, Detour> {
        let routed = &incoming.routed;
        let next = Uri::parse(routed.next.map_or(routed.uri, |next| next.uri))
            .map_err(|_| Refusal::new(400, "Bad Route Header"))?;
        let names_us = self.us.named_by(&next).is_some();
        let connection = self.callers_connection(incoming);
        let (transport, peer) = match (names_us, leg, seat) {
            // An end that took our address for the other's (no Contact): the destination is known all the same.
            (true, Some(Leg::Caller), Some(seat)) => (seat.transport, seat.address),
            (true, _, _) => return Err(gone().into()),
            (false, _, _) => {
                let transport = self.transport(incoming, &next, leg, seat)?;
                // A caller's connection serves where its URI holds a name: it has no other address, then.
                let peer = match (next.address(), connection != ConnectionId::default()) {
                    (None, true) => self.nowhere(incoming.flow.listener),
                    (..) => self.address_of(incoming, &next, transport)?,
                };
                (transport, peer)
            }
        };
        let listener = routed
            .leave_by
            .filter(|&id| {
                let listener = self.us.listener(id);
                let fits = listener.transport == transport && listener.bind.is_ipv4() == peer.is_ipv4();
                // What comes by an address that is elsewhere leaves by it too: it may be here before we are told.
                fits && (self.us.holds(id) || !self.us.holds(incoming.flow.listener))
            })
            .or_else(|| self.us.towards(transport, peer, incoming.flow.listener))
            .ok_or_else(|| Refusal::new(500, "No Listener Towards Next Hop"))?;
        Ok(Flow { connection, ..self.way(listener, peer) })
    }

    /// Toward the caller the transport is the one that it talks to us by: its URI often does not say (a UniMRCP server's
    /// BYE to a TCP client names no transport).
    /// Toward the destination it is the session's where a Contact that does not say leads to the session's address.
    fn transport(
        &self,
        incoming: &Incoming<'_, '_>,
        next: &Uri<'_>,
        leg: Option<Leg>,
        seat: Option<Seat>,
    ) -> Result<Transport, Refusal> {
        if let Some((cookie, Leg::Destination)) = incoming.routed.cookie
            && incoming.routed.next.is_none()
        {
            return Ok(cookie.transport);
        }
        let known = seat.filter(|_| leg == Some(Leg::Caller)).map(|seat| (seat.transport, seat.address));
        transport_to(next, known).ok_or_else(|| Refusal::new(500, "Next Hop Has Unknown Transport"))
    }

    /// What stands for the address of a peer that is known by its connection alone.
    fn nowhere(&self, came_by: ListenerId) -> SocketAddr {
        match self.us.listener(came_by).bind {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        }
    }

    /// The connection that the caller began the dialog by, if the request is for the caller itself and the connection was
    /// this node's; whether it still lives the edge knows.
    fn callers_connection(&self, incoming: &Incoming<'_, '_>) -> ConnectionId {
        match incoming.routed.cookie {
            Some((cookie, Leg::Destination)) if incoming.routed.next.is_none() && cookie.node == self.node => {
                cookie.connection
            }
            Some(_) | None => ConnectionId::default(),
        }
    }
}

/// The transport to a next hop: what its URI says, and if it says nothing, the one that we know that address by.
pub(super) fn transport_to(next: &Uri<'_>, known: Option<(Transport, SocketAddr)>) -> Option<Transport> {
    match known {
        Some((transport, address)) if next.params.get(b"transport").is_none() && next.address() == Some(address) => {
            Some(transport)
        }
        _ => next.transport(),
    }
}

/// Where a cookie says that the session is; none if that destination is no longer loaded.
pub(super) fn seat_of(world: View<'_>, cookie: &Cookie) -> Option<Seat> {
    let destination = world.dispatch.find(SetId(cookie.set), cookie.destination)?;
    let row = &world.dispatch.destination(destination)?.row;
    let Cookie { set, destination: key, resources, .. } = *cookie;
    let (set, key) = (SetId(set), Some(key));
    Some(Seat { set, destination, key, transport: row.transport, address: row.address, resources })
}

/// Whether a cookie names another destination than the one where the session is.
fn is_elsewhere(world: View<'_>, dialog: DialogId, cookie: &Cookie) -> bool {
    world.dialogs.seat(dialog).and_then(|here| here.key).is_some_and(|key| key != cookie.destination)
}

fn gone() -> Refusal {
    Refusal::new(481, "Call/Transaction Does Not Exist")
}

impl FarEnd {
    /// The host of a URI; none if it has none.
    fn of(keys: &Keys, uri: &[u8]) -> Option<Self> {
        match Uri::parse(uri).ok()?.host {
            Host::Ip(ip) => Some(FarEnd::Ip(ip)),
            Host::Name(name) => Some(FarEnd::Name(keys.table_hash(&[&name.to_ascii_lowercase()]))),
        }
    }
}
