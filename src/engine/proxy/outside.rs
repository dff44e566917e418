//! Requests outside a dialog: the rules say where they go (RFC 3261 section 16.5).

use std::sync::Arc;

use super::names::{Detour, Errand, Name};
use super::validate::Refusal;
use super::{Incoming, Proxy, World, retry_after};
use crate::engine::dispatch::{DestinationId, Plan, Planned, SetId, Turn};
use crate::engine::event::{Call, Drain, Ending, Event, Output};
use crate::engine::flow::Flow;
use crate::engine::route::{Action, RequestView, Rule, Target};
use crate::engine::sip::{Message, Method, Reply, Resources, Uri, media_lines, printable, printable_start};
use crate::engine::trace::without_password;
use crate::engine::transaction::{Key, ServerId};

/// What an OPTIONS to ourselves is told (section 11.2).
const CAPABILITIES: &[u8] =
    b"Accept: application/sdp\r\nAllow: INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, INFO, MESSAGE, \
    SUBSCRIBE, NOTIFY, REFER, PRACK, PUBLISH, REGISTER\r\nSupported:\r\n";

/// So many sets one call may overflow through.
const MOST_OVERFLOWS: usize = 4;

/// What becomes of a request, once the rules have been asked.
#[derive(Debug)]
pub(super) enum Decision {
    /// It goes to the first of these destinations.
    Send(Arc<Target>, Plan),
    /// Nobody of that set has room for it.
    Full(SetId),
    /// Nobody of that set is fit.
    Empty(SetId),
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
        if let Some(refusal) = self.refuses_new() {
            return self.refuse(world, incoming.flow, incoming.message, &refusal);
        }
        // The rules are in use while contexts change.
        let route = Arc::clone(&self.route);
        let rule = route.choose(&asked(incoming));
        let (turn, resources) = (Turn::of(incoming.message.method()), resources(incoming, rule));
        let decision = self.decide(incoming, rule, |set, plan| {
            let planned = world.dispatch.plan(set, turn, resources, world.dialogs, world.now.mono, plan);
            (planned, world.dispatch.policy(set).capacity.overflow)
        });
        if self.call_events && incoming.message.method() == Method::Invite {
            let first = match &decision {
                Decision::Send(_, plan) => plan.first(),
                Decision::Full(_)
                | Decision::Empty(_)
                | Decision::Relay(_)
                | Decision::LookUp(_)
                | Decision::Answer(_)
                | Decision::Refuse(_) => None,
            };
            let call = describe(world, incoming, rule, first);
            world.out.push(Output::Event(Event::Call(Box::new(call))));
        }
        match decision {
            Decision::Send(target, plan) => {
                let server = self.open(world, incoming, key);
                self.search(world, incoming, server, &target, resources, plan);
            }
            Decision::Relay(flow) => {
                let server = self.open(world, incoming, key);
                self.begin(world, incoming, server, flow, None);
            }
            Decision::LookUp(name) => self.park(world, incoming, key, &name, Errand::Relay),
            Decision::Full(set) => {
                world.dispatch.note_full(set);
                self.not_begun(world, incoming.message, set, Ending::Full);
                let reply = world.dispatch.policy(set).capacity.busy_reply.clone();
                self.answer_new(world, incoming, key, &reply);
            }
            Decision::Empty(set) => {
                world.dispatch.note_empty(set);
                self.not_begun(world, incoming.message, set, Ending::Empty);
                let call_id = printable(incoming.message.call_id());
                world.out.push(Output::Event(Event::SetEmpty { set, call_id }));
                let reply = world.dispatch.policy(set).empty_reply.clone();
                self.answer_new(world, incoming, key, &reply);
            }
            Decision::Answer(reply) => self.answer_new(world, incoming, key, &reply),
            Decision::Refuse(refusal) => self.refuse(world, incoming.flow, incoming.message, &refusal),
        }
    }

    fn answer_new(&self, world: &mut World<'_>, incoming: &Incoming<'_, '_>, key: Key, reply: &Reply) {
        let server = self.open(world, incoming, key);
        self.reply(world, server, incoming.message, incoming.flow, reply);
    }

    /// What a request outside a dialog is told before any rule is asked.
    pub(super) fn refuses_new(&self) -> Option<Refusal> {
        (self.drain == Drain::Refusing).then(leaving)
    }

    /// What becomes of a request outside a dialog that this rule is the first to match. `plan` asks a set, and tells which
    /// one takes what it does not.
    pub(super) fn decide(
        &self,
        incoming: &Incoming<'_, '_>,
        rule: Option<&Rule>,
        plan: impl FnMut(SetId, &mut Plan) -> (Planned, Option<SetId>),
    ) -> Decision {
        match self.follow(incoming, rule, plan) {
            // Validation has let an OPTIONS to ourselves pass; what goes on has no hop left (section 16.3 item 3).
            Decision::Send(..) | Decision::Relay(_) | Decision::LookUp(_)
                if incoming.message.max_forwards() == Some(0) =>
            {
                Decision::Refuse(Refusal::new(483, "Too Many Hops"))
            }
            decision => decision,
        }
    }

    fn follow(
        &self,
        incoming: &Incoming<'_, '_>,
        rule: Option<&Rule>,
        plan: impl FnMut(SetId, &mut Plan) -> (Planned, Option<SetId>),
    ) -> Decision {
        match rule.map(|rule| &rule.action) {
            // A route beyond us would lead past the set, to wherever the caller likes.
            Some(Action::Set(_)) if incoming.routed.next.is_some() => {
                Decision::Refuse(Refusal::new(403, "Route Not Allowed"))
            }
            Some(Action::Set(target)) => through_sets(target, plan),
            Some(Action::Reply(reply)) => Decision::Refuse(reply.into()),
            Some(Action::Relay) => self.relay(incoming),
            None if self.is_for_us(incoming) && incoming.message.method() == Method::Options => {
                Decision::Refuse(self.own_options())
            }
            None => Decision::Refuse((&self.route.unroutable).into()),
        }
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

    pub(super) fn is_for_us(&self, incoming: &Incoming<'_, '_>) -> bool {
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

/// What the rules look at.
pub(super) fn asked<'a, 'b>(incoming: &Incoming<'a, 'b>) -> RequestView<'a, 'b> {
    let Flow { peer, listener, .. } = incoming.flow;
    RequestView { message: incoming.message, source: peer, listener }
}

/// Plans the set, and those that it overflows to, until one has somebody.
fn through_sets(
    target: &Arc<Target>,
    mut plan_set: impl FnMut(SetId, &mut Plan) -> (Planned, Option<SetId>),
) -> Decision {
    let mut target = Arc::clone(target);
    let mut plan = Plan::default();
    let mut asked = 0;
    loop {
        match plan_set(target.set, &mut plan) {
            (Planned::Somebody, _) => return Decision::Send(target, plan),
            // A chain of sets may be a ring.
            (Planned::Full | Planned::Empty, Some(next)) if asked < MOST_OVERFLOWS => {
                asked += 1;
                target = Arc::new(Target { set: next, ..Target::clone(&target) });
            }
            (Planned::Full, _) => return Decision::Full(target.set),
            (Planned::Empty, _) => return Decision::Empty(target.set),
        }
    }
}

/// What an initial INVITE that goes to a set asks for.
pub(super) fn resources(incoming: &Incoming<'_, '_>, rule: Option<&Rule>) -> Resources {
    let to_set = rule.is_some_and(|rule| matches!(rule.action, Action::Set(_)));
    match Turn::of(incoming.message.method()) {
        Turn::Session if to_set => Resources::offered(incoming.message.body()),
        Turn::Session | Turn::Other => Resources::NONE,
    }
}

/// What a node that is leaving answers.
fn leaving() -> Refusal {
    Refusal { headers: retry_after(), ..Refusal::new(503, "Service Unavailable") }
}

/// So much of a header, a URI or a line is told of a call.
const LONGEST_TOLD: usize = 256;
/// So many m= lines are.
const MOST_MEDIA_TOLD: usize = 16;

/// What an operator is told of an initial INVITE, bounded whatever the caller writes.
fn describe(world: &World<'_>, incoming: &Incoming<'_, '_>, rule: Option<&Rule>, first: Option<DestinationId>) -> Call {
    let message: &Message<'_> = incoming.message;
    let set = rule.and_then(|rule| match &rule.action {
        Action::Set(target) => Some(target.set),
        Action::Reply(_) | Action::Relay => None,
    });
    let told = |text| printable_start(text, LONGEST_TOLD);
    let safe = |text| without_password(text, LONGEST_TOLD);
    Call {
        call_id: printable(message.call_id()),
        user_agent: told(message.user_agent().unwrap_or_default()),
        from: safe(message.from().map_or(b"", |from| from.raw)),
        to: safe(message.to().map_or(b"", |to| to.raw)),
        request_uri: safe(message.request_uri()),
        source: incoming.flow.peer,
        media: media_lines(message.body()).take(MOST_MEDIA_TOLD).map(told).collect(),
        rule: rule.map(|rule| rule.name.clone()),
        set,
        destination: first.and_then(|id| world.dispatch.destination(id)).map(|found| found.row.uri.clone()),
    }
}
