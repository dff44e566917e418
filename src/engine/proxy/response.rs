//! Response processing: RFC 3261 section 16.7, and what happens when there is none (16.8, 16.9).

use super::context::{Branch, Owed, Winner};
use super::late::Place;
use super::search::Failed;
use super::session::Session;
use super::{Owner, Proxy, World};
use crate::engine::dispatch::Outcome;
use crate::engine::event::{DropCause, Ending, Output};
use crate::engine::flow::{ConnectionId, Flow};
use crate::engine::sip::{Message, Method, Splice, Start, Via, header::Name, mrcp_port};
use crate::engine::transaction::{ClientId, Happened, ServerId};

impl Proxy {
    /// One response.
    pub(crate) fn response(&mut self, world: &mut World<'_>, flow: Flow, message: &Message<'_>) {
        world.totals.responses += 1;
        let Start::Response { status, .. } = message.start() else { return };
        let ours = Some(message.via()).filter(|via| self.us.wrote(via)).and_then(|via| via.branch);
        let Some(branch) = ours.and_then(|text| world.keys.read_branch(text)) else {
            return world.drop(DropCause::StrayResponse, flow);
        };
        match world.transactions.client(&branch, message.method()) {
            Some(client) => {
                let owner = world.transactions.heard(client, status, message, world.now.mono, world.out);
                if let Some(owner) = owner {
                    self.heard(world, client, owner, status, message);
                }
            }
            None => {
                let next = message.vias().nth(1).flatten();
                let passes = |next: &Via<'_>| {
                    world.keys.made(&branch, message, next, world.now.wall)
                        && world.dispatch.is_destination_ip(flow.peer.ip())
                };
                let next = next.filter(passes);
                let place = next.as_ref().map(|next| self.place_of(world, &branch, message, next));
                match (place, next) {
                    (Some(Place::Nobody), Some(next)) => {
                        self.pass_stateless(world, flow, message, &next);
                        if message.method() == Method::Invite && (200..300).contains(&status) {
                            self.adopt_of_peer(world, flow, message);
                        }
                    }
                    (Some(Place::Moved(server)), _) if (200..300).contains(&status) => {
                        self.success_of_peer(world, server, &branch, flow, message);
                    }
                    // The caller has its answer from others: a success is ended, anything else is for nobody.
                    (Some(Place::Forgotten), _) if (200..300).contains(&status) => {
                        self.end_late_session(world, None, flow, message);
                    }
                    _ => world.drop(DropCause::StrayResponse, flow),
                }
            }
        }
    }

    fn heard(&mut self, world: &mut World<'_>, client: ClientId, owner: Owner, status: u16, message: &Message<'_>) {
        let Owner { server, destination, .. } = owner;
        if let Some(destination) = destination {
            world.dispatch.note_response(destination, status);
        }
        if status >= 200
            && let Some(Owed::Answer(context)) = self.owed.get(server)
            && context.waits_for(client)
        {
            Self::witness(world, context, Outcome::Answered { status, retry_after: message.retry_after() });
        }
        match status {
            ..200 => self.provisional(world, server, client, status, message),
            200..300 => self.success(world, server, client, owner, message),
            300.. => self.failure(world, server, client, status, message),
        }
    }

    /// Items 2 and 5: a provisional but 100 goes on at once; the branch has more time for its final answer from now on.
    fn provisional(
        &mut self,
        world: &mut World<'_>,
        server: ServerId,
        client: ClientId,
        status: u16,
        message: &Message<'_>,
    ) {
        let Some(Owed::Answer(context)) = self.owed.get_mut(server) else { return };
        match &mut context.branch {
            Some(branch) if branch.client == client => {
                // Section 16.7 item 2: timer C begins anew with each provisional but 100; a try has the time of its set.
                if context.until.is_some() && (status > 100 || !branch.heard && context.search.is_some()) {
                    branch.heard = true;
                    let tried =
                        branch.destination.filter(|_| branch.trial).map(|destination| (destination, branch.began));
                    let until = Self::final_until(world, context);
                    context.until = Some(until);
                    world.transactions.watch(server, until, world.now.mono);
                    if let Some((destination, began)) = tried {
                        world.dispatch.prolong_trial(destination, began, until, world.now.mono);
                    }
                }
            }
            // One that was left behind is being cancelled: the caller hears of the next.
            Some(_) | None => return,
        }
        if let Some(bytes) =
            without_our_via(message, world.transactions.goes_by_stream(server)).filter(|_| status > 100)
        {
            world.transactions.respond(server, status, bytes, world.now.mono, world.out);
        }
    }

    /// Item 5: each 2xx goes on at once. The first one wins, whichever branch it is on; the branch that still waits is
    /// cancelled (item 10), and not sent again if nothing has been heard of it. One that comes after another final answer ends here.
    fn success(
        &mut self,
        world: &mut World<'_>,
        server: ServerId,
        client: ClientId,
        owner: Owner,
        message: &Message<'_>,
    ) {
        let Start::Response { status, .. } = message.start() else { return };
        let late = match self.owed.get(server) {
            Some(Owed::Answer(_)) => false,
            Some(Owed::Nothing { winner }) => *winner != Some(Winner::Ours(client)),
            None => true,
        };
        if late {
            let Some(flow) = world.transactions.flow(client) else { return };
            return match owner.inside {
                true => self.acknowledge_late(world, flow, message),
                false => self.end_late_session(world, Some(client), flow, message),
            };
        }
        let Some(bytes) = without_our_via(message, world.transactions.goes_by_stream(server)) else {
            // It names nobody behind us: the caller can't have it.
            if let Some(flow) = world.transactions.flow(client) {
                self.end_late_session(world, Some(client), flow, message);
            }
            return self.failure(world, server, client, 500, message);
        };
        world.transactions.respond(server, status, bytes, world.now.mono, world.out);
        let Some(context) = self.settle(server, Some(Winner::Ours(client))) else {
            // A proxy behind us has forked the INVITE, or this is the same once more.
            if !owner.inside {
                Self::note_fork(world, message);
            }
            return;
        };
        if let Some(waiting) = context.branch.filter(|branch| branch.client != client) {
            world.transactions.abandon(waiting.client, world.now.mono, world.out);
            Self::free_trial(world, Some(waiting));
        }
        if let Some(destination) = owner.destination.filter(|&id| world.dispatch.wants_mrcp_port(id))
            && let Some(port) = mrcp_port(message.body())
        {
            world.dispatch.note_mrcp_port(destination, port);
        }
        let way = world.transactions.flow(client);
        self.succeeded(world, &context, way, owner, message);
    }

    /// A final answer that is no 2xx: the next of the set is tried, or it is the answer (items 4 to 6).
    fn failure(
        &mut self,
        world: &mut World<'_>,
        server: ServerId,
        client: ClientId,
        status: u16,
        message: &Message<'_>,
    ) {
        let stream = world.transactions.goes_by_stream(server);
        let Some(context) = self.context(server) else { return };
        let (cancelled, retried) = (context.cancelled, Self::is_retried(world, context, status));
        if !context.waits_for(client) {
            // A 487 is what our own CANCEL asked for.
            if !retried && status != 487 && context.kept.is_none() {
                context.kept = without_our_via(message, stream).map(|bytes| (status, bytes));
            }
            return;
        }
        let invite = message.method() == Method::Invite;
        if status == 408 && !invite {
            // RFC 4320 section 4.2: not even a destination's own goes on.
            return self.unanswered(world, server, Failed::TimedOut);
        }
        if !cancelled && retried {
            return self.try_again(world, server, Failed::Answered(status));
        }
        if let Some(Session::Begins(dialog, _)) = context.session {
            world.dialogs.note_try(dialog, status);
        }
        match context.kept.take().filter(|_| !cancelled) {
            Some((status, bytes)) => self.pass_failure(world, server, status, Some(bytes)),
            None => self.pass_failure(world, server, status, without_our_via(message, stream)),
        }
    }

    /// A final answer of a destination that is no 2xx goes to the caller.
    pub(super) fn pass_failure(
        &mut self,
        world: &mut World<'_>,
        server: ServerId,
        status: u16,
        bytes: Option<bytes::Bytes>,
    ) {
        let cancelled = self.context(server).is_some_and(|context| context.cancelled);
        // Item 6: a 503 of a destination is not a 503 of ours.
        match bytes.filter(|_| status != 503) {
            Some(bytes) => {
                if let Some(context) = self.settle(server, None) {
                    self.failed(world, &context, status, Ending::Rejected);
                }
                world.transactions.respond(server, status, bytes, world.now.mono, world.out);
            }
            None if cancelled => self.answer(world, server, (487, "Request Terminated"), b""),
            None => self.answer(world, server, (500, "Internal Server Error"), b""),
        }
    }

    /// A branch has ended without any final answer (sections 16.8 and 16.9).
    fn no_answer(&mut self, world: &mut World<'_>, server: ServerId, client: ClientId, failed: Failed) {
        let Some(context) = self.context(server) else { return };
        if !context.waits_for(client) {
            return;
        }
        if let Some(Owed::Answer(context)) = self.owed.get(server) {
            self.blame(world, context, failed);
        }
        self.unanswered(world, server, failed);
    }

    /// The branch that waits has brought no answer that goes on.
    pub(super) fn unanswered(&mut self, world: &mut World<'_>, server: ServerId, failed: Failed) {
        let Some(context) = self.context(server) else { return };
        if context.search.is_some() {
            return self.try_again(world, server, failed);
        }
        let invite = context.until.is_some();
        match (context.cancelled, failed.status()) {
            (true, _) => self.answer(world, server, (487, "Request Terminated"), b""),
            (false, 408) if invite => self.answer(world, server, (408, "Request Timeout"), b""),
            (false, 408) => {
                // RFC 4320 section 4.2: a 408 to another method than INVITE only makes things worse.
                if let Some(context) = self.settle(server, None) {
                    self.failed(world, &context, 408, Ending::Failed);
                }
                self.owed.remove(server);
                world.transactions.forget(server);
            }
            (false, _) => self.answer(world, server, (500, "Internal Server Error"), b""),
        }
    }

    /// What the transactions' timers brought about.
    pub(crate) fn happened(&mut self, world: &mut World<'_>, happened: Happened<Owner>) {
        match happened {
            Happened::TimedOut { client, owner } => self.no_answer(world, owner.server, client, Failed::TimedOut),
            // Section 16.9: as if a 503 had come.
            Happened::Unreachable { client, owner } => self.no_answer(world, owner.server, client, Failed::Unreachable),
            Happened::Watched(server) => self.check_time(world, server),
            Happened::Quiet(server) => self.say_trying(world, server),
            Happened::Ended(server) => {
                if let Some(context) = self.settle(server, None) {
                    Self::free_trial(world, context.branch);
                    self.failed(world, &context, 408, Ending::Failed);
                }
                self.owed.remove(server);
            }
        }
    }

    /// The branch that waits may have had its time. A try of a set is left behind and the next one made; without a set it is
    /// cancelled, and the caller hears of it by its answer or a 408 (section 16.8).
    fn check_time(&mut self, world: &mut World<'_>, server: ServerId) {
        let Some(context) = self.context(server) else { return };
        let (Some(until), Some(Branch { client, .. })) = (context.until, context.branch) else { return };
        if until > world.now.mono {
            return world.transactions.watch(server, until, world.now.mono);
        }
        if context.search.is_none() {
            return world.transactions.cancel(client, world.now.mono, world.out);
        }
        world.transactions.abandon(client, world.now.mono, world.out);
        if let Some(Owed::Answer(context)) = self.owed.get(server) {
            self.blame(world, context, Failed::TimedOut);
        }
        self.try_again(world, server, Failed::TimedOut);
    }

    /// A response to a request that another node forwarded, or this one long ago: by its Vias alone (section 16.11).
    fn pass_stateless(&self, world: &mut World<'_>, came: Flow, message: &Message<'_>, next: &Via<'_>) {
        if message.method() != Method::Invite && matches!(message.start(), Start::Response { status: 408, .. }) {
            return world.drop(DropCause::StrayResponse, came);
        }
        let to = next.response_address().zip(next.known_transport());
        let way = to.and_then(|(mut peer, transport)| {
            // The caller's connection went with the node that had it; its port is no listener's, but sent-by's is.
            if transport.is_reliable() {
                peer.set_port(next.port_or_default());
            }
            let listener = self.us.towards(transport, peer, came.listener)?;
            Some(Flow { listener, transport, peer, connection: ConnectionId::default() })
        });
        let stream = way.is_some_and(|flow| flow.transport.is_reliable());
        match (way, without_our_via(message, stream)) {
            (Some(flow), Some(bytes)) => world.out.push(Output::Send { flow, bytes }),
            _ => world.drop(DropCause::StrayResponse, came),
        }
    }
}

/// Item 3: the response without our Via, for a stream or a datagram; none if no other Via is left, so that it is for nobody.
pub(super) fn without_our_via(message: &Message<'_>, stream: bool) -> Option<bytes::Bytes> {
    message.vias().nth(1)??;
    let mut splice = Splice::new(message.bytes());
    let line = message.first_via_line();
    let ours = message.via().raw;
    // Ours alone on its line, or with others behind a comma.
    match crate::engine::sip::list_values(line.value).nth(1) {
        None => splice.remove(line.whole),
        Some(second) => {
            let start = ours.as_ptr().addr() - line.value.as_ptr().addr();
            let end = second.as_ptr().addr() - line.value.as_ptr().addr();
            splice.remove(&line.value[start..end]);
        }
    }
    // A stream needs to know where the message ends (section 18.3).
    if stream && message.values(Name::ContentLength).next().is_none() {
        let length = format!("Content-Length: {}\r\n", message.body().len());
        splice.insert_before(message.lines()[0].whole, |text| text.extend_from_slice(length.as_bytes()));
    }
    Some(splice.finish())
}
