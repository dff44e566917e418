//! Response processing: RFC 3261 section 16.7, and what happens when there is none (16.8, 16.9).

use super::best::{Final, passed_on};
use super::{Owner, Proxy, World};
use crate::engine::event::{DropCause, Output};
use crate::engine::flow::{ConnectionId, Flow, Transport};
use crate::engine::sip::{Message, Splice, Start, Via, header::Name};
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
                match next.filter(passes) {
                    Some(next) => self.pass_stateless(world, flow, message, &next),
                    None => world.drop(DropCause::StrayResponse, flow),
                }
            }
        }
    }

    fn heard(&mut self, world: &mut World<'_>, client: ClientId, owner: Owner, status: u16, message: &Message<'_>) {
        let Owner { server, destination } = owner;
        if let Some(destination) = destination {
            world.dispatch.note_response(destination, status);
        }
        match status {
            ..101 => {}
            101..200 => self.provisional(world, server, status, message),
            200..300 => self.success(world, server, client, status, message),
            300.. => {
                let without_us = without_our_via(message);
                self.finished(world, server, client, Final { status, bytes: without_us });
            }
        }
    }

    /// Item 2 and 5: a provisional goes on at once, and timer C begins anew.
    fn provisional(&mut self, world: &mut World<'_>, server: ServerId, status: u16, message: &Message<'_>) {
        let Some(context) = self.contexts.get_mut(server) else { return };
        if let Some(timer_c) = &mut context.timer_c {
            *timer_c = world.transactions.timer_c(world.now.mono);
        }
        if let Some(bytes) = without_our_via(message) {
            world.transactions.respond(server, status, bytes, world.now.mono, world.out);
        }
    }

    /// Item 5: each 2xx goes on at once; the other branches are cancelled (item 10).
    fn success(
        &mut self,
        world: &mut World<'_>,
        server: ServerId,
        client: ClientId,
        status: u16,
        message: &Message<'_>,
    ) {
        if let Some(bytes) = without_our_via(message) {
            world.transactions.respond(server, status, bytes, world.now.mono, world.out);
        }
        let Some(context) = self.contexts.remove(server) else { return };
        if let Some(dialog) = context.dialog {
            world.dialogs.confirm(dialog, world.now.mono);
        }
        for &other in context.branches.iter().filter(|&&other| other != client) {
            world.transactions.cancel(other, world.now.mono, world.out);
        }
    }

    /// A branch has ended without 2xx. When none is left the best answer goes to the caller (item 6).
    fn finished(&mut self, world: &mut World<'_>, server: ServerId, client: ClientId, last: Final) {
        let Some(context) = self.contexts.get_mut(server) else { return };
        context.branches.retain(|branch| *branch != client);
        let best = match context.best.take() {
            Some(best) => best.or_better(last),
            None => last,
        };
        // Item 5: a 6xx ends the search.
        if best.status >= 600 {
            for &other in &context.branches {
                world.transactions.cancel(other, world.now.mono, world.out);
            }
        }
        if !context.branches.is_empty() {
            context.best = Some(best);
            return;
        }
        match (best.bytes, passed_on(best.status)) {
            (Some(bytes), status) if status == best.status => {
                if let Some(dialog) = self.contexts.remove(server).and_then(|context| context.dialog) {
                    world.dialogs.end_pending(dialog);
                }
                world.transactions.respond(server, status, bytes, world.now.mono, world.out);
            }
            _ if context.cancelled => self.answer(world, server, 487, "Request Terminated"),
            (_, 408) => self.answer(world, server, 408, "Request Timeout"),
            (_, status) => self.answer(world, server, status, "Internal Server Error"),
        }
    }

    /// What the transactions' timers brought about.
    pub(crate) fn happened(&mut self, world: &mut World<'_>, happened: Happened<Owner>) {
        match happened {
            Happened::TimedOut { client, owner: Owner { server, .. } } => {
                if self.contexts.get(server).is_some_and(|context| context.timer_c.is_none()) {
                    // RFC 4320 section 4.2: a 408 to another method than INVITE only makes things worse.
                    self.contexts.remove(server);
                    return world.transactions.forget(server);
                }
                self.finished(world, server, client, Final { status: 408, bytes: None });
            }
            Happened::Unreachable { client, owner: Owner { server, .. } } => {
                // Section 16.9: as if a 503 had come.
                self.finished(world, server, client, Final { status: 503, bytes: None });
            }
            Happened::Watched(server) => self.check_timer_c(world, server),
            Happened::Quiet(server) => self.say_trying(world, server),
            Happened::Ended(server) => {
                if let Some(dialog) = self.contexts.remove(server).and_then(|context| context.dialog) {
                    world.dialogs.end_pending(dialog);
                }
            }
        }
    }

    /// Section 16.8: when timer C fires the branches are cancelled; the caller hears of it by their answers, or a 408.
    fn check_timer_c(&mut self, world: &mut World<'_>, server: ServerId) {
        let Some(context) = self.contexts.get_mut(server) else { return };
        let Some(timer_c) = context.timer_c else { return };
        if timer_c > world.now.mono {
            return world.transactions.watch(server, timer_c, world.now.mono);
        }
        for &client in &context.branches {
            world.transactions.cancel(client, world.now.mono, world.out);
        }
    }

    /// A response to a request that another node forwarded, or this one long ago: by its Vias alone (section 16.11).
    fn pass_stateless(&self, world: &mut World<'_>, came: Flow, message: &Message<'_>, next: &Via<'_>) {
        let to = next.response_address().zip(next.known_transport());
        let way = to.and_then(|(mut peer, transport)| {
            // The caller's connection went with the node that had it; its port is no listener's, but sent-by's is.
            if transport.is_reliable() {
                peer.set_port(next.port_or_default());
            }
            let listener = self.us.towards(transport, peer, came.listener)?;
            Some(Flow { listener, transport, peer, connection: ConnectionId::default() })
        });
        match (way, without_our_via(message)) {
            (Some(flow), Some(bytes)) => world.out.push(Output::Send { flow, bytes }),
            _ => world.drop(DropCause::StrayResponse, came),
        }
    }
}

/// Item 3: the response without our Via; none if no other is left, so that it is for nobody.
fn without_our_via(message: &Message<'_>) -> Option<bytes::Bytes> {
    let next = message.vias().nth(1)??;
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
    let stream = next.known_transport().is_some_and(Transport::is_reliable);
    if stream && message.values(Name::ContentLength).next().is_none() {
        let length = format!("Content-Length: {}\r\n", message.body().len());
        splice.insert_before(message.lines()[0].whole, |text| text.extend_from_slice(length.as_bytes()));
    }
    Some(splice.finish())
}
