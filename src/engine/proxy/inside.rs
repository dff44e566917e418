//! Requests inside a dialog: their route leads them (RFC 3261 sections 12.2 and 16.12), our cookie vouches for them.

use super::validate::Refusal;
use super::{Incoming, Proxy, World};
use crate::engine::dialog::{DialogId, Leg, Seat};
use crate::engine::dispatch::SetId;
use crate::engine::flow::{Flow, Transport};
use crate::engine::sip::{Cookie, Method, Uri};
use crate::engine::transaction::Key;

/// Where a request inside a dialog goes, and what it belongs to.
struct Way {
    flow: Flow,
    dialog: Dialog,
}

/// The session of a request inside a dialog.
#[derive(Clone, Copy)]
enum Dialog {
    /// In the table.
    Known(DialogId),
    /// Not in the table, and what our cookie says of it: another node, or this one before a restart, began it, or it has
    /// ended.
    Told(Option<Seat>, Leg),
    /// Nothing speaks for it.
    Unknown,
}

impl Proxy {
    /// One request with a To-tag, other than ACK.
    pub(super) fn inside_dialog(&mut self, world: &mut World<'_>, incoming: &Incoming<'_, '_>, key: Key) {
        match self.find_way(world, incoming) {
            Ok(Way { flow, dialog }) => {
                let server = self.open(world, incoming, key);
                let bye = incoming.message.method() == Method::Bye;
                let mut adopted = None;
                match dialog {
                    Dialog::Known(dialog) if bye => world.dialogs.end(dialog),
                    Dialog::Known(dialog) => world.dialogs.hear(dialog, world.now.mono),
                    // It counts here once the other end has said that it is there.
                    Dialog::Told(Some(seat), leg) if !bye => adopted = adopt(world, incoming, seat, leg),
                    Dialog::Told(..) | Dialog::Unknown => {}
                }
                self.begin(world, incoming, server, flow, adopted);
            }
            Err(refusal) => self.refuse(world, incoming.flow, incoming.message, &refusal),
        }
    }

    /// Forwards an ACK to a 2xx; false if it belongs to no call that we may relay for.
    pub(super) fn forward_ack(&mut self, world: &mut World<'_>, incoming: &Incoming<'_, '_>) -> bool {
        match self.find_way(world, incoming) {
            Ok(Way { flow, dialog }) => {
                self.send_stateless(world, incoming, flow);
                // One that comes after the BYE must not bring the session back.
                if let Dialog::Known(dialog) = dialog {
                    world.dialogs.hear(dialog, world.now.mono);
                }
                true
            }
            Err(_) => false,
        }
    }

    fn find_way(&self, world: &mut World<'_>, incoming: &Incoming<'_, '_>) -> Result<Way, Refusal> {
        let found = world.dialogs.find(world.keys, incoming.message);
        let (dialog, leg, seat) = match (found, incoming.routed.cookie) {
            // The session of a try that another one has won over: it is not the one in the table.
            (Some((dialog, _)), Some((cookie, leg))) if is_elsewhere(world, dialog, &cookie) => {
                (Dialog::Unknown, Some(leg), seat(world, &cookie))
            }
            (Some((dialog, leg)), _) => (Dialog::Known(dialog), Some(leg), world.dialogs.seat(dialog)),
            (None, Some((cookie, leg))) => {
                let seat = seat(world, &cookie);
                (Dialog::Told(seat, leg), Some(leg), seat)
            }
            (None, None) => (Dialog::Unknown, None, None),
        };
        let hop = self.next_hop(incoming, leg, seat);
        // A To-tag is no ticket: without a cookie or a known dialog one end must be a destination of ours.
        let trusted = leg.is_some()
            || world.dispatch.is_destination_ip(incoming.flow.peer.ip())
            || hop.as_ref().is_ok_and(|flow| world.dispatch.is_destination(flow.peer));
        match trusted {
            true => Ok(Way { flow: hop?, dialog }),
            false => Err(Refusal::new(403, "Forbidden")),
        }
    }

    /// Section 16.6 items 6 and 7: the next Route, else the Request-URI.
    fn next_hop(&self, incoming: &Incoming<'_, '_>, leg: Option<Leg>, seat: Option<Seat>) -> Result<Flow, Refusal> {
        let routed = &incoming.routed;
        let next = Uri::parse(routed.next.map_or(routed.uri, |next| next.uri))
            .map_err(|_| Refusal::new(400, "Bad Route Header"))?;
        let names_us = self.us.named_by(&next).is_some();
        let (transport, peer) = match (names_us, leg, seat) {
            // An end that took our address for the other's (no Contact): the destination is known all the same.
            (true, Some(Leg::Caller), Some(seat)) => (seat.transport, seat.address),
            (true, _, _) => return Err(gone()),
            (false, _, _) => {
                let transport = self.transport(incoming, &next)?;
                (transport, next.address().ok_or_else(|| Refusal::new(500, "Next Hop Has No Address"))?)
            }
        };
        let listener = routed
            .leave_by
            .filter(|&id| self.us.listener(id).transport == transport)
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

/// Where a cookie says that the session is; none if that destination is no longer loaded.
fn seat(world: &World<'_>, cookie: &Cookie) -> Option<Seat> {
    let destination = world.dispatch.find(SetId(cookie.set), cookie.destination)?;
    let row = &world.dispatch.destination(destination)?.row;
    Some(Seat { destination, key: Some(cookie.destination), transport: row.transport, address: row.address })
}

/// Whether a cookie names another destination than the one where the session is.
fn is_elsewhere(world: &World<'_>, dialog: DialogId, cookie: &Cookie) -> bool {
    world.dialogs.seat(dialog).and_then(|here| here.key).is_some_and(|key| key != cookie.destination)
}

/// Enters a session that another node, or this one before a restart, began.
fn adopt(world: &mut World<'_>, incoming: &Incoming<'_, '_>, seat: Seat, leg: Leg) -> Option<DialogId> {
    let message = incoming.message;
    let caller_tag = match leg {
        Leg::Caller => message.from_tag(),
        Leg::Destination => message.to_tag(),
    };
    world.dialogs.adopt(world.keys, message.call_id(), caller_tag, seat, world.now.mono)
}

fn gone() -> Refusal {
    Refusal::new(481, "Call/Transaction Does Not Exist")
}
