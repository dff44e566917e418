//! Requests outside a dialog: the rules say where they go (RFC 3261 section 16.5).

use std::sync::Arc;

use super::names::{Detour, Errand, Name};
use super::validate::Refusal;
use super::{Incoming, Proxy, World, retry_after};
use crate::engine::dispatch::{DestinationId, Plan, Planned, Turn};
use crate::engine::event::{Call, Drain, Ending, Event, Output, text};
use crate::engine::flow::Flow;
use crate::engine::route::{Action, RequestView, Rule, Target};
use crate::engine::sip::{Message, Method, Reply, Resources, Uri, media_lines};
use crate::engine::transaction::{Key, ServerId};

/// What an OPTIONS to ourselves is told (section 11.2).
const CAPABILITIES: &[u8] =
    b"Accept: application/sdp\r\nAllow: INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, INFO, MESSAGE, \
    SUBSCRIBE, NOTIFY, REFER, PRACK, PUBLISH, REGISTER\r\nSupported:\r\n";

/// So many sets one call may overflow through.
const MOST_OVERFLOWS: usize = 4;

/// What becomes of a request, once the rules have been asked.
enum Decision {
    /// It goes to the first of these destinations, for these resources.
    Send(Arc<Target>, Resources, Plan),
    /// It goes where its route says.
    Relay(Flow),
    /// It goes where its route says, once that name has been looked up.
    LookUp(Name),
    /// It gets an answer of ours by its transaction.
    Answer(Reply),
    /// It gets an answer of ours without one.
    Refuse(Refusal),
}

impl Proxy {
    /// One request without To-tag.
    pub(super) fn outside_dialog(&mut self, world: &mut World<'_>, incoming: &Incoming<'_, '_>, key: Key) {
        if self.drain == Drain::Refusing {
            return self.refuse(world, incoming.flow, incoming.message, &leaving());
        }
        // The rules are in use while contexts change.
        let route = Arc::clone(&self.route);
        let rule = route.choose(&RequestView {
            message: incoming.message,
            source: incoming.flow.peer,
            listener: incoming.flow.listener,
        });
        let decision = match self.decide(world, incoming, rule, &route.unroutable) {
            // Validation has let an OPTIONS to ourselves pass; what goes on has no hop left (section 16.3 item 3).
            Decision::Send(..) | Decision::Relay(_) | Decision::LookUp(_)
                if incoming.message.max_forwards() == Some(0) =>
            {
                Decision::Refuse(Refusal::new(483, "Too Many Hops"))
            }
            decision => decision,
        };
        if self.call_events && incoming.message.method() == Method::Invite {
            let first = match &decision {
                Decision::Send(_, _, plan) => plan.first(),
                Decision::Relay(_) | Decision::LookUp(_) | Decision::Answer(_) | Decision::Refuse(_) => None,
            };
            let call = describe(world, incoming, rule, first);
            world.out.push(Output::Event(Event::Call(Box::new(call))));
        }
        match decision {
            Decision::Send(target, asked, plan) => {
                let server = self.open(world, incoming, key);
                self.search(world, incoming, server, &target, asked, plan);
            }
            Decision::Relay(flow) => {
                let server = self.open(world, incoming, key);
                self.begin(world, incoming, server, flow, None);
            }
            Decision::LookUp(name) => self.park(world, incoming, key, &name, Errand::Relay),
            Decision::Answer(reply) => {
                let server = self.open(world, incoming, key);
                self.reply(world, server, incoming.message, incoming.flow, &reply);
            }
            Decision::Refuse(refusal) => self.refuse(world, incoming.flow, incoming.message, &refusal),
        }
    }

    fn decide(
        &self,
        world: &mut World<'_>,
        incoming: &Incoming<'_, '_>,
        rule: Option<&Rule>,
        unroutable: &Reply,
    ) -> Decision {
        match rule.map(|rule| &rule.action) {
            Some(Action::Set(target)) => self.plan(world, incoming, target),
            Some(Action::Reply(reply)) => Decision::Refuse(reply.into()),
            Some(Action::Relay) => self.relay(incoming),
            None if self.is_for_us(incoming) && incoming.message.method() == Method::Options => {
                Decision::Refuse(self.own_options())
            }
            None => Decision::Refuse(unroutable.into()),
        }
    }

    fn plan(&self, world: &mut World<'_>, incoming: &Incoming<'_, '_>, target: &Arc<Target>) -> Decision {
        // A route beyond us would lead past the set, to wherever the caller likes.
        if incoming.routed.next.is_some() {
            return Decision::Refuse(Refusal::new(403, "Route Not Allowed"));
        }
        let turn = Turn::of(incoming.message.method());
        let asked = match turn {
            Turn::Session => Resources::offered(incoming.message.body()),
            Turn::Other => Resources::NONE,
        };
        let mut target = Arc::clone(target);
        let mut plan = Plan::default();
        let mut overflows = 0;
        loop {
            let planned = world.dispatch.plan(target.set, turn, asked, world.dialogs, world.now.mono, &mut plan);
            let capacity = &world.dispatch.policy(target.set).capacity;
            match (planned, capacity.overflow) {
                (Planned::Somebody, _) => return Decision::Send(target, asked, plan),
                // A chain of sets may be a ring.
                (Planned::Full | Planned::Empty, Some(next)) if overflows < MOST_OVERFLOWS => {
                    overflows += 1;
                    target = Arc::new(Target { set: next, ..Target::clone(&target) });
                }
                (Planned::Full, _) => {
                    let reply = capacity.busy_reply.clone();
                    world.dispatch.note_full(target.set);
                    self.not_begun(world, incoming.message, target.set, Ending::Full);
                    return Decision::Answer(reply);
                }
                (Planned::Empty, _) => break,
            }
        }
        world.dispatch.note_empty(target.set);
        self.not_begun(world, incoming.message, target.set, Ending::Empty);
        let call_id = text(incoming.message.call_id());
        world.out.push(Output::Event(Event::SetEmpty { set: target.set, call_id }));
        Decision::Answer(world.dispatch.policy(target.set).empty_reply.clone())
    }

    /// A trusted request goes by its own route; never back to us.
    fn relay(&self, incoming: &Incoming<'_, '_>) -> Decision {
        match self.relayed_way(incoming) {
            Ok(flow) => Decision::Relay(flow),
            Err(Detour::Name(name)) => Decision::LookUp(name),
            Err(Detour::Refuse(_)) => Decision::Answer(Reply::new(404, "Not Found")),
        }
    }

    fn relayed_way(&self, incoming: &Incoming<'_, '_>) -> Result<Flow, Detour> {
        let nowhere = || Refusal::new(404, "Not Found");
        let next = incoming.routed.next.map_or(incoming.routed.uri, |next| next.uri);
        let uri = Uri::parse(next).ok().filter(|uri| self.us.named_by(uri).is_none()).ok_or_else(nowhere)?;
        let transport = uri.transport().ok_or_else(nowhere)?;
        let peer = self.address_of(incoming, &uri, transport)?;
        let listener = self.us.towards(transport, peer, incoming.flow.listener).ok_or_else(nowhere)?;
        Ok(self.way(listener, peer))
    }

    /// Relays a request once the name of its next hop has been looked up; its transaction is open.
    pub(super) fn go_relayed(
        &mut self,
        world: &mut World<'_>,
        incoming: &Incoming<'_, '_>,
        server: ServerId,
    ) -> Result<(), Detour> {
        let flow = self.relayed_way(incoming)?;
        self.begin(world, incoming, server, flow, None);
        Ok(())
    }

    fn is_for_us(&self, incoming: &Incoming<'_, '_>) -> bool {
        incoming.routed.next.is_none()
            && Uri::parse(incoming.routed.uri).is_ok_and(|uri| self.us.named_by(&uri).is_some())
    }

    fn own_options(&self) -> Refusal {
        match self.drain {
            Drain::No => Refusal { headers: CAPABILITIES.to_vec(), ..Refusal::new(200, "OK") },
            Drain::Leaving | Drain::Refusing => leaving(),
        }
    }
}

/// What a node that is leaving answers.
fn leaving() -> Refusal {
    Refusal { headers: retry_after(), ..Refusal::new(503, "Service Unavailable") }
}

/// What an operator is told of an initial INVITE.
fn describe(world: &World<'_>, incoming: &Incoming<'_, '_>, rule: Option<&Rule>, first: Option<DestinationId>) -> Call {
    let message: &Message<'_> = incoming.message;
    let set = rule.and_then(|rule| match &rule.action {
        Action::Set(target) => Some(target.set),
        Action::Reply(_) | Action::Relay => None,
    });
    Call {
        call_id: text(message.call_id()),
        user_agent: text(message.user_agent().unwrap_or_default()),
        from: text(message.from().map_or(b"", |from| from.raw)),
        to: text(message.to().map_or(b"", |to| to.raw)),
        request_uri: text(message.request_uri()),
        source: incoming.flow.peer,
        media: media_lines(message.body()).map(text).collect(),
        rule: rule.map(|rule| rule.name.clone()),
        set,
        destination: first.and_then(|id| world.dispatch.destination(id)).map(|found| found.row.uri.clone()),
    }
}
