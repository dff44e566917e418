//! What is owed to callers, and the branches that work for it: RFC 3261 sections 16.2 and 16.6.

use bytes::Bytes;

use super::forward::{Copy, RecordRoute, forward, rewrite_uri};
use super::search::Search;
use super::session::Session;
use super::validate::route_hash;
use super::{Incoming, Proxy, World};
use crate::engine::clock::Instant;
use crate::engine::dispatch::DestinationId;
use crate::engine::event::{Ending, Output};
use crate::engine::flow::{ConnectionId, Flow};
use crate::engine::route::Target;
use crate::engine::sip::{Cookie, Keys, Message, Method, Resources, TokenText, respond, response_peer};
use crate::engine::transaction::{ClientId, Request, ServerId};

/// What a client transaction is for: one branch of a server transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The request that it forwards.
    pub(super) server: ServerId,
    /// The destination that was chosen; none for a request that went by its route.
    pub(super) destination: Option<DestinationId>,
    /// Its name in cookies, which outlives its row.
    pub(super) key: Option<u32>,
    /// Whether that request belongs to a session that goes on whatever becomes of it.
    pub(super) inside: bool,
}

impl Owner {
    /// Of a request that we send for ourselves: nobody waits for its answer.
    pub(super) fn nobody() -> Self {
        Owner { server: ServerId::default(), destination: None, key: None, inside: false }
    }
}

/// What is owed to the sender of one request.
#[derive(Debug)]
pub(super) enum Owed {
    /// A final answer.
    Answer(Box<Context>),
    /// Nothing more: it has had its final answer. The branch of a 2xx may repeat it; one of any other branch comes late.
    Nothing {
        /// The branch whose 2xx went to the caller.
        winner: Option<Winner>,
    },
}

/// Whose 2xx the caller has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Winner {
    /// That of a branch of this node's.
    Ours(ClientId),
    /// That of a branch of the node that had the address before; by its MAC, which no other has.
    Theirs([u8; 8]),
}

/// The response context: it lives as long as a final answer is owed.
#[derive(Debug)]
pub(super) struct Context {
    /// The way the request came.
    pub(super) flow: Flow,
    /// The request, for answers of our own and for further branches.
    pub(super) request: Bytes,
    /// The branch whose answer is waited for. Those of earlier tries are left behind; their 2xx wins all the same.
    pub(super) branch: Option<Branch>,
    /// When the branch is given up: timer C, or the set's timeouts. None for what ends by timer F alone.
    pub(super) until: Option<Instant>,
    /// The other destinations that may be tried; none for a request that goes by its route.
    pub(super) search: Option<Search>,
    /// The session that this INVITE begins, or that the request is inside.
    pub(super) session: Option<Session>,
    /// A final answer that no other destination is asked after, of a branch that was left behind: the caller's, if the
    /// branch that waits fails.
    pub(super) kept: Option<(u16, Bytes)>,
    /// The caller has sent CANCEL.
    pub(super) cancelled: bool,
}

/// One copy of the request, on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Branch {
    /// Its transaction.
    pub(super) client: ClientId,
    /// The destination that was chosen; none for a request that went by its route.
    pub(super) destination: Option<DestinationId>,
    /// When it was sent.
    pub(super) began: Instant,
    /// Whether anything has been heard of it.
    pub(super) heard: bool,
    /// Whether it tries a destination that is half open.
    pub(super) trial: bool,
}

/// Where one branch goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hop<'h> {
    /// The way out.
    pub(super) flow: Flow,
    /// The destination, and what its rule says of it; none for a request that goes by its route.
    pub(super) chosen: Option<(DestinationId, &'h Target)>,
    /// What the call asks for.
    pub(super) asked: Resources,
}

impl Context {
    /// A context without branches.
    pub(super) fn new(incoming: &Incoming<'_, '_>) -> Self {
        Context {
            flow: incoming.flow,
            request: Bytes::copy_from_slice(incoming.message.bytes()),
            branch: None,
            until: None,
            search: None,
            session: None,
            kept: None,
            cancelled: false,
        }
    }

    /// Whether this is the branch whose answer is waited for.
    pub(super) fn waits_for(&self, client: ClientId) -> bool {
        self.branch.is_some_and(|branch| branch.client == client)
    }

    /// The request, as it came.
    pub(super) fn message(request: &Bytes) -> Message<'_> {
        Message::parse(request).expect("a request that we have parsed before")
    }

    /// A response of our own; `headers` are whole lines.
    fn response(&self, keys: &Keys, status: (u16, &str), headers: &[u8]) -> Bytes {
        let message = Self::message(&self.request);
        respond(&message, self.flow.peer, status, &keys.to_tag(&message), headers)
    }
}

impl Proxy {
    /// Opens the context of a request that goes by its route, and sends it there. `session` is the one that it is inside.
    pub(super) fn begin(
        &mut self,
        world: &mut World<'_>,
        incoming: &Incoming<'_, '_>,
        server: ServerId,
        flow: Flow,
        session: Option<Session>,
    ) {
        let mut context = Context { session, ..Context::new(incoming) };
        if incoming.message.method() == Method::Invite {
            context.until = Some(world.transactions.timer_c(world.now.mono));
        }
        let client = self.send_branch(world, incoming, server, Hop { flow, chosen: None, asked: Resources::NONE });
        let began = world.now.mono;
        context.branch = Some(Branch { client, destination: None, began, heard: false, trial: false });
        self.owe(world, server, Box::new(context));
    }

    /// Takes a context to change it; [`Proxy::owe`] puts it back.
    pub(super) fn take_context(&mut self, server: ServerId) -> Option<Box<Context>> {
        match self.owed.remove(server)? {
            Owed::Answer(context) => Some(context),
            nothing @ Owed::Nothing { .. } => {
                self.owed.insert(server, nothing);
                None
            }
        }
    }

    /// Keeps a context until its answer has been given.
    pub(super) fn owe(&mut self, world: &mut World<'_>, server: ServerId, context: Box<Context>) {
        if let Some(until) = context.until {
            world.transactions.watch(server, until, world.now.mono);
        }
        self.owed.insert(server, Owed::Answer(context));
    }

    /// The context of a request that an answer is owed to.
    pub(super) fn context(&mut self, server: ServerId) -> Option<&mut Context> {
        match self.owed.get_mut(server)? {
            Owed::Answer(context) => Some(context),
            Owed::Nothing { .. } => None,
        }
    }

    /// Takes the context, since its answer goes out now. `winner` is the branch whose 2xx it is.
    pub(super) fn settle(&mut self, server: ServerId, winner: Option<Winner>) -> Option<Box<Context>> {
        match self.owed.get_mut(server)? {
            owed @ Owed::Answer(_) => match std::mem::replace(owed, Owed::Nothing { winner }) {
                Owed::Answer(context) => {
                    self.budgets.leave(context.search.as_ref());
                    Some(context)
                }
                Owed::Nothing { .. } => None,
            },
            Owed::Nothing { .. } => None,
        }
    }

    /// Sends one copy of the request with a client transaction of its own.
    pub(super) fn send_branch(
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
        let route = route_hash(incoming.message, keys);
        // Its sender may send it again by another node, when the address has moved: the other end must know it again.
        let inside = Some(hop.flow).filter(|_| hop.chosen.is_none() && incoming.is_inside_dialog());
        let shared = inside.and_then(|flow| keys.shared_branch(route, incoming.message, flow));
        let make = |slot: u64| {
            let answer_to = response_peer(&incoming.message.via(), incoming.flow.peer);
            let branch = shared.unwrap_or_else(|| keys.branch(slot, route, now.wall, incoming.message, answer_to));
            let copy = Copy {
                uri: uri.as_deref(),
                leaves_by: self.us.listener(hop.flow.listener),
                branch: &keys.stamped_text(&branch, now.wall, incoming.message, answer_to),
                record_route: cookie.as_ref().map(|cookie| RecordRoute {
                    came_by: self.us.listener(incoming.flow.listener),
                    cookie,
                    params: hop.chosen.map_or("", |(_, target)| &target.record_route_params),
                }),
            };
            (forward(incoming.message, &incoming.routed, incoming.flow.peer, &copy), branch.mac)
        };
        let destination = hop.chosen.map(|(id, _)| id);
        let key = destination.and_then(|id| dispatch.destination(id)).map(|found| found.key());
        let owner = Owner { server, destination, key, inside: incoming.is_inside_dialog() };
        let request = Request { invite, flow: hop.flow, shared: shared.map(|branch| branch.slot), owner };
        transactions.open_client(request, now.mono, out, make)
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
            session: message.method() == Method::Invite,
            resources: hop.asked,
            connection: incoming.flow.connection,
        };
        Some(keys.cookie_text(&cookie, message.call_id(), message.from_tag()))
    }

    /// The caller has given up: the branch that waits for its answer is cancelled (section 16.10).
    pub(super) fn cancel_branches(&mut self, world: &mut World<'_>, server: ServerId) {
        let Some(context) = self.context(server) else { return };
        context.cancelled = true;
        if let Some(branch) = context.branch {
            world.transactions.cancel(branch.client, world.now.mono, world.out);
        }
    }

    /// RFC 4320 section 4.1: a request other than INVITE that takes long is answered 100.
    pub(super) fn say_trying(&mut self, world: &mut World<'_>, server: ServerId) {
        let keys = world.keys;
        let Some(context) = self.context(server) else { return };
        let bytes = context.response(keys, (100, "Trying"), b"");
        world.transactions.respond(server, 100, bytes, world.now.mono, world.out);
    }

    /// Gives the answer that is owed, one of our own; `headers` are whole lines.
    pub(super) fn answer(&mut self, world: &mut World<'_>, server: ServerId, status: (u16, &str), headers: &[u8]) {
        let Some(context) = self.settle(server, None) else { return };
        let bytes = context.response(world.keys, status, headers);
        let ending = if context.cancelled { Ending::Cancelled } else { Ending::Failed };
        world.totals.note_reply(status.0);
        world.transactions.respond(server, status.0, bytes, world.now.mono, world.out);
        self.failed(world, &context, status.0, ending);
    }

    /// The way from a listener of ours to an address.
    pub(super) fn way(&self, listener: crate::engine::flow::ListenerId, peer: std::net::SocketAddr) -> Flow {
        let transport = self.us.listener(listener).transport;
        Flow { listener, transport, peer, connection: ConnectionId::default() }
    }
}
