//! A 2xx that comes when the caller has had another answer: the session that it begins is ended here, by ACK and BYE in the
//! caller's name, or it would hold a channel of its server for ever.

use super::{Owner, Proxy, World};
use crate::engine::event::Output;
use crate::engine::sip::{Address, Message, Method, Uri, in_callers_name};
use crate::engine::transaction::{ClientId, Request};

impl Proxy {
    /// Acknowledges a late 2xx each time, and ends its session once.
    pub(super) fn end_late_session(
        &mut self,
        world: &mut World<'_>,
        client: ClientId,
        owner: Owner,
        message: &Message<'_>,
    ) {
        if message.method() != Method::Invite {
            return;
        }
        let Some(flow) = world.transactions.flow(client) else { return };
        let first = self.ended_late.insert(client, ()).is_none();
        world.totals.late_2xx += u64::from(first);
        let contact = message.header(b"Contact").and_then(Address::parse).map(|contact| contact.uri);
        let destination = owner.destination.and_then(|id| world.dispatch.destination(id));
        let target = match (contact, destination) {
            (Some(uri), _) => uri,
            (None, Some(destination)) => destination.row.uri.as_bytes(),
            (None, None) => return,
        };
        // The route beyond us, as the caller would have it (section 12.1.2).
        let ours = |route: &Address<'_>| Uri::parse(route.uri).is_ok_and(|uri| self.us.named_by(&uri).is_some());
        let mut route: Vec<_> =
            message.record_routes().take_while(|route| !ours(route)).map(|route| route.raw).collect();
        route.reverse();
        let us = self.us.listener(flow.listener);
        let (keys, wall) = (world.keys, world.now.wall);
        let compose = |method: Method<'_>, slot: u64| {
            let branch = keys.branch(slot, 0, wall, message, flow.peer);
            let bytes = in_callers_name(message, method, target, &route, us, &keys.branch_text(&branch));
            (bytes, branch.mac)
        };
        let (ack, _) = compose(Method::Ack, 0);
        world.out.push(Output::Send { flow, bytes: ack });
        if first {
            let owner = Owner::nobody();
            let request = Request { invite: false, flow, owner };
            world.transactions.open_client(request, world.now.mono, world.out, |slot| compose(Method::Bye, slot));
        }
    }
}
