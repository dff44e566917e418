//! Requests inside a dialog: their route leads them (RFC 3261 sections 12.2 and 16.12), our cookie vouches for them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::context::Hop;
use super::validate::Refusal;
use super::{Incoming, Proxy, World};
use crate::engine::dialog::{DialogId, Leg};
use crate::engine::dispatch::{DestinationId, SetId};
use crate::engine::flow::{ConnectionId, Flow, ListenerId, Transport};
use crate::engine::sip::{Cookie, Method, Uri};
use crate::engine::transaction::Key;

/// Where a request inside a dialog goes, and what it belongs to.
struct Way {
    flow: Flow,
    dialog: Option<DialogId>,
}

impl Proxy {
    /// One request with a To-tag, other than ACK.
    pub(super) fn inside_dialog(&mut self, world: &mut World<'_>, incoming: &Incoming<'_, '_>, key: Key) {
        match self.find_way(world, incoming) {
            Ok(Way { flow, dialog }) => {
                let server = self.open(world, incoming, key);
                self.begin(world, incoming, server, Hop { flow, chosen: None }, None);
                if let Some(dialog) = dialog {
                    match incoming.message.method() {
                        Method::Bye => world.dialogs.end(dialog),
                        _ => world.dialogs.hear(dialog, world.now.mono),
                    }
                }
            }
            Err(refusal) => self.refuse(world, incoming.flow, incoming.message, &refusal),
        }
    }

    /// Forwards an ACK to a 2xx; false if it belongs to no call that we may relay for.
    pub(super) fn forward_ack(&mut self, world: &mut World<'_>, incoming: &Incoming<'_, '_>) -> bool {
        match self.find_way(world, incoming) {
            Ok(Way { flow, dialog }) => {
                self.send_stateless(world, incoming, flow);
                if let Some(dialog) = dialog {
                    world.dialogs.hear(dialog, world.now.mono);
                }
                true
            }
            Err(_) => false,
        }
    }

    fn find_way(&self, world: &mut World<'_>, incoming: &Incoming<'_, '_>) -> Result<Way, Refusal> {
        let found = world.dialogs.find(world.keys, incoming.message);
        let (dialog, leg) = match (found, incoming.routed.cookie) {
            (Some((dialog, leg)), _) => (Some(dialog), Some(leg)),
            (None, Some((cookie, leg))) => (self.adopt(world, incoming, &cookie, leg), Some(leg)),
            (None, None) => (None, None),
        };
        let destination = dialog.and_then(|dialog| world.dialogs.destination(dialog));
        let hop = self.next_hop(world, incoming, leg, destination);
        // A To-tag is no ticket: without a cookie or a known dialog one end must be a destination of ours.
        let trusted = leg.is_some()
            || world.dispatch.is_destination_ip(incoming.flow.peer.ip())
            || hop.as_ref().is_ok_and(|flow| world.dispatch.is_destination(flow.peer));
        match trusted {
            true => Ok(Way { flow: hop?, dialog }),
            false => Err(Refusal::new(403, "Forbidden")),
        }
    }

    /// A dialog that another node, or this one before a restart, began: from now on it counts here.
    fn adopt(&self, world: &mut World<'_>, incoming: &Incoming<'_, '_>, cookie: &Cookie, leg: Leg) -> Option<DialogId> {
        let message = incoming.message;
        let destination = world.dispatch.find(SetId(cookie.set), cookie.destination)?;
        let caller_tag = match leg {
            Leg::Caller => message.from_tag(),
            Leg::Destination => message.to_tag(),
        };
        world.dialogs.adopt(world.keys, message.call_id(), caller_tag, destination, world.now.mono)
    }

    /// Section 16.6 items 6 and 7: the next Route, else the Request-URI.
    fn next_hop(
        &self,
        world: &World<'_>,
        incoming: &Incoming<'_, '_>,
        leg: Option<Leg>,
        destination: Option<DestinationId>,
    ) -> Result<Flow, Refusal> {
        let routed = &incoming.routed;
        let next = Uri::parse(routed.next.map_or(routed.uri, |next| next.uri))
            .map_err(|_| Refusal::new(400, "Bad Route Header"))?;
        let names_us = self.us.named_by(&next).is_some();
        let connection = self.callers_connection(incoming);
        let (transport, peer) = match (names_us, leg, destination) {
            // An end that took our address for the other's (no Contact): the destination is known all the same.
            (true, Some(Leg::Caller), Some(destination)) => {
                let row = &world.dispatch.destination(destination).ok_or_else(gone)?.row;
                (row.transport, row.address)
            }
            (true, _, _) => return Err(gone()),
            (false, _, _) => {
                let transport = self.transport(world, incoming, &next, leg, destination)?;
                // A caller's connection serves where its URI holds a name: it has no other address, then.
                let none = (connection != ConnectionId::default()).then(|| self.nowhere(incoming.flow.listener));
                let peer = next.address().or(none).ok_or_else(|| Refusal::new(500, "Next Hop Has No Address"))?;
                (transport, peer)
            }
        };
        let listener = routed
            .leave_by
            .filter(|&id| self.us.listener(id).transport == transport)
            .or_else(|| self.us.towards(transport, peer, incoming.flow.listener))
            .ok_or_else(|| Refusal::new(500, "No Listener Towards Next Hop"))?;
        Ok(Flow { connection, ..self.way(listener, peer) })
    }

    /// Toward the caller the transport is the one that it talks to us by: its URI often does not say (a UniMRCP server's
    /// BYE to a TCP client names no transport).
    /// Toward the destination it is the row's where a Contact that does not say leads to the row's address.
    fn transport(
        &self,
        world: &World<'_>,
        incoming: &Incoming<'_, '_>,
        next: &Uri<'_>,
        leg: Option<Leg>,
        destination: Option<DestinationId>,
    ) -> Result<Transport, Refusal> {
        if let Some((cookie, Leg::Destination)) = incoming.routed.cookie
            && incoming.routed.next.is_none()
        {
            return Ok(cookie.transport);
        }
        if leg == Some(Leg::Caller) && next.params.get(b"transport").is_none() {
            let row = destination.and_then(|id| world.dispatch.destination(id)).map(|found| &found.row);
            if let Some(row) = row.filter(|row| next.address() == Some(row.address)) {
                return Ok(row.transport);
            }
        }
        next.transport().ok_or_else(|| Refusal::new(500, "Next Hop Has Unknown Transport"))
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

fn gone() -> Refusal {
    Refusal::new(481, "Call/Transaction Does Not Exist")
}
