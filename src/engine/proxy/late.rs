//! A 2xx that comes when the caller has had another answer: the session that it begins is ended here, by ACK and BYE in the
//! caller's name, or it would hold a channel of its server for ever.

use std::time::SystemTime;

use bytes::Bytes;
use smallvec::SmallVec;

use super::context::{Owed, Winner};
use super::{Owner, Proxy, World};
use crate::engine::event::Output;
use crate::engine::flow::Flow;
use crate::engine::sip::{Branch, Keys, Message, Method, Via, Within, sip_uri, target_of};
use crate::engine::transaction::{ClientId, Key, Request, ServerId};

/// Whom a response is for whose branch we do not know (any more).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// No request that is here: it goes on by its Vias.
    Nobody,
    /// A request that is here, since its sender came with its address from the node that made the branch, and that waits for its
    /// answer, or has had it from that very branch.
    Moved(ServerId),
    /// A request that is still here: its branch was left behind long ago, and its sender has another answer or waits for one.
    Forgotten,
}

impl Proxy {
    /// Whom a response is for whose branch we do not know (any more). `next` is its second Via.
    pub(super) fn place_of(&self, world: &World<'_>, branch: &Branch, message: &Message<'_>, next: &Via<'_>) -> Place {
        let key = Key::answered(world.keys, message, next);
        let Some(server) = key.and_then(|key| world.transactions.server(key)) else { return Place::Nobody };
        match self.owed.get(server) {
            Some(Owed::Answer(context)) if self.is_of_peer(world.keys, context, message) => Place::Moved(server),
            Some(Owed::Nothing { winner: Some(Winner::Theirs(mac)) }) if *mac == branch.mac => Place::Moved(server),
            Some(Owed::Nothing { winner: Some(Winner::Ours(winner)) })
                if world.transactions.flow(*winner).is_none() =>
            {
                Place::Nobody
            }
            Some(Owed::Answer(_) | Owed::Nothing { .. }) => Place::Forgotten,
            None => Place::Nobody,
        }
    }

    /// Acknowledges a late 2xx each time, and ends its session once; each time too if its branch is forgotten. `flow` is
    /// the way to its sender.
    pub(super) fn end_late_session(
        &mut self,
        world: &mut World<'_>,
        client: Option<ClientId>,
        flow: Flow,
        message: &Message<'_>,
    ) {
        if message.method() != Method::Invite {
            return;
        }
        self.acknowledge_late(world, flow, message);
        let first = client.is_none_or(|client| self.ended_late.insert(client, ()).is_none());
        world.totals.late_2xx += u64::from(first);
        if first {
            let (owner, wall) = (Owner::nobody(), world.now.wall);
            let request = Request { invite: false, flow, shared: None, owner };
            let compose = |slot: u64| self.in_callers_name(world.keys, wall, Method::Bye, slot, flow, message);
            world.transactions.open_client(request, world.now.mono, world.out, compose);
        }
    }

    /// Acknowledges a 2xx that nobody waits for. That is all when it answers a request within a session, which goes on.
    pub(super) fn acknowledge_late(&self, world: &mut World<'_>, flow: Flow, message: &Message<'_>) {
        let (bytes, _) = self.in_callers_name(world.keys, world.now.wall, Method::Ack, 0, flow, message);
        world.out.push(Output::Send { flow, bytes });
    }

    /// The ACK or BYE, and the MAC of its branch.
    fn in_callers_name(
        &self,
        keys: &Keys,
        wall: SystemTime,
        method: Method<'_>,
        slot: u64,
        flow: Flow,
        message: &Message<'_>,
    ) -> (Bytes, [u8; 8]) {
        let sender = sip_uri(flow.peer, flow.transport);
        let target = target_of(message).unwrap_or(sender.as_bytes());
        let branch = keys.branch(slot, 0, wall, message, flow.peer);
        let within = Within {
            method,
            target,
            route: &self.route_beyond(message).join(&b", "[..]),
            from: message.from().map_or(b"", |from| from.raw),
            to: message.to().map_or(b"", |to| to.raw),
            call_id: message.call_id(),
            cseq: message.cseq().wrapping_add(u32::from(method == Method::Bye)),
            headers: b"",
            us: self.us.listener(flow.listener),
        };
        (within.compose(&keys.branch_text(&branch)), branch.mac)
    }

    /// The route of the requests of its dialog beyond us, as a caller has it from a response (section 12.1.2).
    pub(super) fn route_beyond<'m>(&self, response: &Message<'m>) -> SmallVec<[&'m [u8]; 4]> {
        let beyond = response.record_routes().take_while(|route| !self.us.are_named_by(route.uri));
        let mut route: SmallVec<_> = beyond.map(|route| route.raw).collect();
        route.reverse();
        route
    }
}
