//! The response context: RFC 3261 section 16.2 and 16.7. It lives as long as a final answer is owed to the caller.

use bytes::Bytes;
use smallvec::SmallVec;

use super::best::Final;
use super::forward::{Copy, RecordRoute, forward, rewrite_uri};
use super::validate::route_hash;
use super::{Incoming, Proxy, World};
use crate::engine::clock::Instant;
use crate::engine::dialog::DialogId;
use crate::engine::dispatch::DestinationId;
use crate::engine::event::Output;
use crate::engine::flow::{ConnectionId, Flow};
use crate::engine::route::Target;
use crate::engine::sip::{Cookie, Keys, Message, Method, TokenText, respond, response_peer};
use crate::engine::transaction::{ClientId, Request, ServerId};

/// What a client transaction is for: one branch of a server transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The request that it forwards.
    pub(super) server: ServerId,
    /// The destination that was chosen; none for a request that went by its route.
    pub(super) destination: Option<DestinationId>,
}

/// What is owed to one request.
#[derive(Debug)]
pub(super) struct Context {
    /// The way the request came.
    pub(super) flow: Flow,
    /// The request, for answers of our own and for further branches.
    pub(super) request: Bytes,
    /// Branches without a final answer.
    pub(super) branches: SmallVec<[ClientId; 2]>,
    /// The best final so far.
    pub(super) best: Option<Final>,
    /// Timer C (section 16.6 item 11); none for other methods than INVITE.
    pub(super) timer_c: Option<Instant>,
    /// The session that this INVITE begins.
    pub(super) dialog: Option<DialogId>,
    /// The caller has sent CANCEL.
    pub(super) cancelled: bool,
}

/// Where one branch goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hop<'h> {
    /// The way out.
    pub(super) flow: Flow,
    /// The destination, and what its rule says of it; none for a request that goes by its route.
    pub(super) chosen: Option<(DestinationId, &'h Target)>,
}

impl Context {
    /// A response of our own.
    fn response(&self, keys: &Keys, status: (u16, &str)) -> Bytes {
        let message = Message::parse(&self.request).expect("a request that we have parsed before");
        respond(&message, self.flow.peer, status, &keys.to_tag(&message), b"")
    }
}

impl Proxy {
    /// Opens the context of a request that goes to `hop`, and sends it there.
    pub(super) fn begin(
        &mut self,
        world: &mut World<'_>,
        incoming: &Incoming<'_, '_>,
        server: ServerId,
        hop: Hop<'_>,
        dialog: Option<DialogId>,
    ) {
        let invite = incoming.message.method() == Method::Invite;
        let now = world.now.mono;
        let timer_c = invite.then(|| world.transactions.timer_c(now));
        if let Some(timer_c) = timer_c {
            world.transactions.watch(server, timer_c, now);
        }
        let context = Context {
            flow: incoming.flow,
            request: Bytes::copy_from_slice(incoming.message.bytes()),
            branches: SmallVec::new(),
            best: None,
            timer_c,
            dialog,
            cancelled: false,
        };
        self.contexts.insert(server, Box::new(context));
        let client = self.send_branch(world, incoming, server, hop);
        if let Some(context) = self.contexts.get_mut(server) {
            context.branches.push(client);
        }
    }

    /// Sends one copy of the request with a client transaction of its own.
    fn send_branch(
        &self,
        world: &mut World<'_>,
        incoming: &Incoming<'_, '_>,
        server: ServerId,
        hop: Hop<'_>,
    ) -> ClientId {
        let invite = incoming.message.method() == Method::Invite;
        let World { transactions, keys, dispatch, now, out, .. } = world;
        let uri = hop
            .chosen
            .and_then(|(id, target)| rewrite_uri(dispatch.destination(id)?, target.rewrite, incoming.routed.uri));
        let cookie = self.cookie(keys, dispatch, incoming, hop);
        let make = |slot: u64| {
            let answer_to = response_peer(&incoming.message.via(), incoming.flow.peer);
            let route = route_hash(incoming.message, keys);
            let branch = keys.branch(slot, route, now.wall, incoming.message, answer_to);
            let copy = Copy {
                uri: uri.as_deref(),
                leaves_by: self.us.listener(hop.flow.listener),
                branch: &keys.branch_text(&branch),
                record_route: cookie.as_ref().map(|cookie| RecordRoute {
                    came_by: self.us.listener(incoming.flow.listener),
                    cookie,
                    params: hop.chosen.map_or("", |(_, target)| &target.record_route_params),
                }),
            };
            (forward(incoming.message, &incoming.routed, incoming.flow.peer, &copy), branch.mac)
        };
        let owner = Owner { server, destination: hop.chosen.map(|(id, _)| id) };
        transactions.open_client(Request { invite, flow: hop.flow, owner }, now.mono, out, make)
    }

    /// Forwards an ACK to a 2xx: no transaction, nobody waits for an answer.
    pub(super) fn send_stateless(&self, world: &mut World<'_>, incoming: &Incoming<'_, '_>, flow: Flow) {
        let answer_to = response_peer(&incoming.message.via(), incoming.flow.peer);
        let route = route_hash(incoming.message, world.keys);
        let branch = world.keys.branch(0, route, world.now.wall, incoming.message, answer_to);
        let branch = world.keys.branch_text(&branch);
        let copy = Copy { uri: None, leaves_by: self.us.listener(flow.listener), branch: &branch, record_route: None };
        let bytes = forward(incoming.message, &incoming.routed, incoming.flow.peer, &copy);
        world.out.push(Output::Send { flow, bytes });
    }

    /// The cookie of our Record-Route, for a request that may begin a dialog (section 16.6 item 4).
    fn cookie(
        &self,
        keys: &Keys,
        dispatch: &crate::engine::dispatch::Dispatch,
        incoming: &Incoming<'_, '_>,
        hop: Hop<'_>,
    ) -> Option<TokenText> {
        let message = incoming.message;
        let begins = message.to_tag().is_empty()
            && matches!(message.method(), Method::Invite | Method::Other(b"SUBSCRIBE" | b"REFER"));
        if !begins {
            return None;
        }
        let destination = hop.chosen.and_then(|(id, _)| dispatch.destination(id));
        let cookie = Cookie {
            node: self.node,
            set: destination.map_or(0, |destination| destination.set.0),
            destination: destination.map_or(0, |destination| destination.key()),
            transport: incoming.flow.transport,
            connection: incoming.flow.connection,
        };
        Some(keys.cookie_text(&cookie, message.call_id(), message.from_tag()))
    }

    /// The caller has given up: every branch that waits for its answer is cancelled (section 16.10).
    pub(super) fn cancel_branches(&mut self, world: &mut World<'_>, server: ServerId) {
        let Some(context) = self.contexts.get_mut(server) else { return };
        context.cancelled = true;
        for &client in &context.branches {
            world.transactions.cancel(client, world.now.mono, world.out);
        }
    }

    /// RFC 4320 section 4.1: a request other than INVITE that takes long is answered 100.
    pub(super) fn say_trying(&mut self, world: &mut World<'_>, server: ServerId) {
        let Some(context) = self.contexts.get(server) else { return };
        let bytes = context.response(world.keys, (100, "Trying"));
        world.transactions.respond(server, 100, bytes, world.now.mono, world.out);
    }

    /// Answers a request for whom its branches found no better answer.
    pub(super) fn answer(&mut self, world: &mut World<'_>, server: ServerId, status: u16, reason: &str) {
        let Some(context) = self.contexts.remove(server) else { return };
        let bytes = context.response(world.keys, (status, reason));
        world.totals.note_reply(status);
        world.transactions.respond(server, status, bytes, world.now.mono, world.out);
        if let Some(dialog) = context.dialog {
            world.dialogs.end_pending(dialog);
        }
    }

    /// The way from a listener of ours to an address.
    pub(super) fn way(&self, listener: crate::engine::flow::ListenerId, peer: std::net::SocketAddr) -> Flow {
        let transport = self.us.listener(listener).transport;
        Flow { listener, transport, peer, connection: ConnectionId::default() }
    }
}
