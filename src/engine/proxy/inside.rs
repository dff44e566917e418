//! Requests inside a dialog: their route leads them (RFC 3261 sections 12.2 and 16.12), our cookie vouches for them.

use super::context::Hop;
use super::names::{Detour, Errand};
use super::validate::Refusal;
use super::{Incoming, Proxy, World};
use crate::engine::dialog::{DialogId, Leg};
use crate::engine::dispatch::{DestinationId, SetId};
use crate::engine::flow::{Flow, Transport};
use crate::engine::sip::{Cookie, Method, Uri};
use crate::engine::transaction::{Key, ServerId};

/// Where a request inside a dialog goes, and what it belongs to.
struct Way {
    flow: Flow,
    dialog: Option<DialogId>,
}

impl Proxy {
    /// One request with a To-tag, other than ACK.
    pub(super) fn inside_dialog(&mut self, world: &mut World<'_>, incoming: &Incoming<'_, '_>, key: Key) {
        match self.find_way(world, incoming) {
            Ok(way) => {
                let server = self.open(world, incoming, key);
                self.send_inside(world, incoming, server, way);
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
        let way = self.find_way(world, incoming)?;
        self.send_inside(world, incoming, server, way);
        Ok(())
    }

    fn send_inside(&mut self, world: &mut World<'_>, incoming: &Incoming<'_, '_>, server: ServerId, way: Way) {
        let Way { flow, dialog } = way;
        self.begin(world, incoming, server, Hop { flow, chosen: None }, None);
        if let Some(dialog) = dialog {
            match incoming.message.method() {
                Method::Bye => world.dialogs.end(dialog),
                _ => world.dialogs.hear(dialog, world.now.mono),
            }
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
            Err(Detour::Name(name)) => {
                let key = Key::of(world.keys, incoming.message);
                self.park(world, incoming, key, &name, Errand::Inside);
                true
            }
            Err(Detour::Refuse(_)) => false,
        }
    }

    fn find_way(&self, world: &mut World<'_>, incoming: &Incoming<'_, '_>) -> Result<Way, Detour> {
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
            false => Err(Refusal::new(403, "Forbidden").into()),
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
    ) -> Result<Flow, Detour> {
        let routed = &incoming.routed;
        let next = Uri::parse(routed.next.map_or(routed.uri, |next| next.uri))
            .map_err(|_| Refusal::new(400, "Bad Route Header"))?;
        let names_us = self.us.named_by(&next).is_some();
        let (transport, peer) = match (names_us, leg, destination) {
            // An end that took our address for the other's (no Contact): the destination is known all the same.
            (true, Some(Leg::Caller), Some(destination)) => {
                let row = &world.dispatch.destination(destination).ok_or_else(gone)?.row;
                (row.transport, row.address)
            }
            (true, _, _) => return Err(gone().into()),
            (false, _, _) => {
                let transport = self.transport(incoming, &next)?;
                (transport, self.address_of(incoming, &next, transport)?)
            }
        };
        let listener = routed
            .leave_by
            .filter(|&id| {
                let listener = self.us.listener(id);
                listener.transport == transport && listener.bind.is_ipv4() == peer.is_ipv4()
            })
            .or_else(|| self.us.towards(transport, peer, incoming.flow.listener))
            .ok_or_else(|| Refusal::new(500, "No Listener Towards Next Hop"))?;
        Ok(self.way(listener, peer))
    }

    /// Toward the caller the transport is the one that it talks to us by: its URI often does not say (a UniMRCP server's
    /// BYE to a TCP client names no transport).
    fn transport(&self, incoming: &Incoming<'_, '_>, next: &Uri<'_>) -> Result<Transport, Refusal> {
        match incoming.routed.cookie {
            Some((cookie, Leg::Destination)) if incoming.routed.next.is_none() => Ok(cookie.transport),
            _ => next.transport().ok_or_else(|| Refusal::new(500, "Next Hop Has Unknown Transport")),
        }
    }
}

fn gone() -> Refusal {
    Refusal::new(481, "Call/Transaction Does Not Exist")
}
