//! Addresses that move from one node to another: what is let go where one was, and what its next holder makes of answers to the
//! requests of the last.

use super::context::{Context, Winner};
use super::inside::seat_of;
use super::preprocess::COOKIE;
use super::response::without_our_via;
use super::search::Failed;
use super::session::Session;
use super::{Owner, Proxy, World};
use crate::engine::dialog::Leg;
use crate::engine::event::{DropCause, Ending, Output};
use crate::engine::flow::{Flow, ListenerId};
use crate::engine::sip::{Branch, Cookie, Keys, Message, Start, Uri};
use crate::engine::transaction::{Key, ServerId};

impl Proxy {
    /// The address of a listener is this node's now, or another's, and so it is of all others with that address: nothing is to
    /// be tried by one of them because another has gone.
    pub(crate) fn hold(&mut self, world: &mut World<'_>, listener: ListenerId, held: bool) {
        let changed = self.us.hold(listener, held);
        if held {
            return;
        }
        self.let_go(world, &changed);
        let streams = changed.into_iter().filter(|id| self.us.listener(*id).transport.is_reliable());
        world.out.extend(streams.map(Output::CloseAll));
    }

    /// Whatever was to be answered by an address is another node's to answer; what was asked by it is as if it had not left.
    /// None of it says anything of a destination.
    fn let_go(&mut self, world: &mut World<'_>, listeners: &[ListenerId]) {
        let gone = world.transactions.let_go(listeners);
        for server in gone.servers {
            self.vanish(world, server);
        }
        for (client, owner) in gone.clients {
            let Owner { server, inside, .. } = owner;
            let waited = self.context(server).filter(|context| context.waits_for(client));
            let Some((branch, is_invite)) = waited.map(|context| (context.branch, context.until.is_some())) else {
                continue;
            };
            // Its sender sends it again, perhaps to another node already, and the other end may have answered it.
            if inside && !is_invite && !world.transactions.goes_by_stream(server) {
                world.transactions.forget(server);
                self.vanish(world, server);
                continue;
            }
            Self::free_trial(world, branch);
            self.unanswered(world, server, Failed::Unreachable);
        }
    }

    /// A message could not leave, for reasons of our own. If it is of a request that came by an address which is elsewhere, that
    /// proves that it is: the request had waited here while the address went. It is the next holder's to answer, who gets it
    /// again; an answer of ours would come late, if the address came back. Whether that was so.
    pub(crate) fn came_too_late(&mut self, world: &mut World<'_>, message: &Message<'_>) -> bool {
        let server = match message.start() {
            Start::Response { .. } => {
                let key = Key::answered(world.keys, message, &message.via());
                key.and_then(|key| world.transactions.server(key))
            }
            Start::Request { method, .. } => {
                let branch = message.via().branch.and_then(|text| world.keys.read_branch(text));
                let client = branch.and_then(|branch| world.transactions.client(&branch, method));
                client.and_then(|client| world.transactions.owner(client)).map(|owner| owner.server)
            }
        };
        let elsewhere =
            |server: &ServerId| world.transactions.way_back(*server).is_some_and(|flow| !self.us.holds(flow.listener));
        let Some(server) = server.filter(elsewhere) else { return false };
        world.transactions.forget(server);
        self.vanish(world, server);
        true
    }

    /// A request whose transaction is gone is as if it had never come.
    fn vanish(&mut self, world: &mut World<'_>, server: ServerId) {
        self.parking.leave(server);
        if let Some(context) = self.settle(server, None) {
            Self::free_trial(world, context.branch);
            // If it left by an address that stays, its answer comes here, and goes on by its Vias.
            if let Some(branch) = context.branch {
                world.transactions.forget_client(branch.client);
            }
            self.failed(world, &context, Failed::Unreachable.status(), Ending::AddressLost);
        }
        self.owed.remove(server);
    }

    /// Whether a response to a request that is here, by a branch that is none of ours (any more), is to another node's: its
    /// cookie says so, or it answers a request that has never had more than the one branch which waits.
    pub(super) fn is_of_peer(&self, keys: &Keys, context: &Context, message: &Message<'_>) -> bool {
        context.search.is_none() || self.cookie_of(keys, message).is_some_and(|cookie| cookie.node != self.node)
    }

    /// A 2xx to the branch of another node for a request that has come here with its address, and that this node tries to
    /// forward itself. The first 2xx wins, whoever's branch it is on: our own is cancelled, and a 2xx of it would be late.
    pub(super) fn success_of_peer(
        &mut self,
        world: &mut World<'_>,
        server: ServerId,
        branch: &Branch,
        came: Flow,
        message: &Message<'_>,
    ) {
        let Start::Response { status, .. } = message.start() else { return };
        let Some(bytes) = without_our_via(message, world.transactions.goes_by_stream(server)) else {
            return world.drop(DropCause::StrayResponse, came);
        };
        world.transactions.respond(server, status, bytes, world.now.mono, world.out);
        let Some(context) = self.settle(server, Some(Winner::Theirs(branch.mac))) else { return };
        if let Some(waiting) = context.branch {
            world.transactions.abandon(waiting.client, world.now.mono, world.out);
            Self::free_trial(world, Some(waiting));
        }
        let seat = self.cookie_of(world.keys, message).and_then(|cookie| seat_of(world.view(), &cookie));
        match (context.session, seat) {
            // It is where no load of ours has anybody: its requests go by their cookie.
            (Some(Session::Begins(..)), None) => self.failed(world, &context, 503, Ending::AddressLost),
            (_, seat) => {
                let destination = seat.map(|seat| seat.destination);
                let owner = Owner { server, destination, key: seat.and_then(|seat| seat.key), inside: seat.is_none() };
                self.succeeded(world, &context, Some(came), owner, message);
            }
        }
    }

    /// A 2xx to an INVITE of another node has gone on to the caller: its session is here now.
    pub(super) fn adopt_of_peer(&self, world: &mut World<'_>, came: Flow, message: &Message<'_>) {
        let is_peers = |cookie: &Cookie| cookie.session && cookie.node != self.node;
        let Some(cookie) = self.cookie_of(world.keys, message).filter(is_peers) else { return };
        let Some(seat) = seat_of(world.view(), &cookie) else { return };
        if world.dialogs.is_over(world.keys, message, world.now.mono) {
            return;
        }
        let begun = (Leg::Caller, seat, cookie.node);
        if let Some(found) = world.dialogs.adopt(world.keys, message, begun, came.listener, world.now.mono) {
            Self::is_there(world, found.id, self.far_end(world.keys, message));
        }
    }

    /// What the Record-Route of ours in a response says, that of any node of the cluster.
    fn cookie_of(&self, keys: &Keys, response: &Message<'_>) -> Option<Cookie> {
        let ours = response.record_routes().find_map(|route| {
            let uri = Uri::parse(route.uri).ok()?;
            self.us.named_by(&uri)?;
            uri.params.get(COOKIE)
        })?;
        keys.read_cookie(ours, response.call_id(), response.from_tag())
    }
}
