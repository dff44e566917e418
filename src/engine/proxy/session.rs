//! What the requests and answers that pass mean for the table of sessions.

use std::time::Duration;

use smallvec::SmallVec;

use super::context::Context;
use super::inside::transport_to;
use super::search::Search;
use super::{Owner, Proxy, World};
use crate::engine::clock::Instant;
use crate::engine::dialog::{Confirmed, Dialog, DialogId, DialogState, Ending, FarEnd, Fork, Found, Leg, Party, Seat};
use crate::engine::dispatch::{Dispatch, SetId};
use crate::engine::event::{Event, Output, Record, write_down};
use crate::engine::flow::Flow;
use crate::engine::sip::header::Name;
use crate::engine::sip::{Address, Message, Method, Uri, printable, sip_uri, target_of};
use crate::engine::transaction::ServerId;

/// RFC 4028 section 4: no session timer is shorter, so one that says so is a mistake.
const SHORTEST_TIMER: Duration = Duration::from_secs(90);

/// What a request is to a session.
#[derive(Clone, Copy, Debug)]
pub(super) enum Session {
    /// Its first INVITE, with the transaction that is answered for it.
    Begins(DialogId, ServerId),
    /// One inside it.
    Inside(Found),
}

impl Proxy {
    /// The first 2xx to a request has gone on; `way` is the way to its sender.
    pub(super) fn succeeded(
        &self,
        world: &mut World<'_>,
        context: &Context,
        way: Option<Flow>,
        owner: Owner,
        message: &Message<'_>,
    ) {
        if let Some(invited) = context.search.as_ref().and_then(Search::invited)
            && let Some(destination) = owner.destination
        {
            world.dispatch.note_setup(destination, world.now.mono.since(invited));
        }
        match context.session {
            None => {}
            Some(Session::Begins(dialog, _)) => self.set_up(world, context, way, owner, dialog, message),
            Some(Session::Inside(found)) => self.answered_inside(world, context, found, message),
        }
    }

    /// The session is set up.
    fn set_up(
        &self,
        world: &mut World<'_>,
        context: &Context,
        way: Option<Flow>,
        owner: Owner,
        dialog: DialogId,
        message: &Message<'_>,
    ) {
        // Another INVITE of the same call, forked before us, has set it up: that is the one which counts, and its caller will
        // end this one.
        if world.dialogs.get(dialog).is_some_and(Dialog::is_confirmed) {
            return;
        }
        // It may be an earlier try that won: the session counts where it is.
        if let (Some(destination), Some(flow), Some(before)) = (owner.destination, way, world.dialogs.seat(dialog))
            && before.destination != destination
        {
            let (transport, address) = (flow.transport, flow.peer);
            world.dialogs.move_to(dialog, Seat { destination, key: owner.key, transport, address, ..before });
        }
        world.dialogs.note_try(dialog, 200);
        let invite = Context::message(&context.request);
        // Who gives no Contact is where he sent from.
        let source = |target: Option<&[u8]>, flow: Option<Flow>| match target {
            Some(_) => String::new(),
            None => flow.map_or_else(String::new, |flow| sip_uri(flow.peer, flow.transport)),
        };
        let (callers, destinations) = (self.target_of(&invite), self.target_of(message));
        let (callers_source, destinations_source) = (source(callers, Some(context.flow)), source(destinations, way));
        let to_caller = self.route_back(&invite);
        let to_destination = self.route_beyond(message);
        let caller = Party {
            name: invite.from().map_or(b"", |from| from.raw),
            target: callers.unwrap_or(callers_source.as_bytes()),
            route: &to_caller,
        };
        let destination = Party {
            name: message.to().map_or(b"", |to| to.raw),
            target: destinations.unwrap_or(destinations_source.as_bytes()),
            route: &to_destination,
        };
        let far_end = self.far_end(world.keys, message);
        let flows = [
            self.own_hop(world.dispatch, Leg::Caller, &caller, Some(context.flow), far_end),
            self.own_hop(world.dispatch, Leg::Destination, &destination, way, far_end),
        ];
        let clean = can_be_kept(&invite) && can_be_kept(message);
        let confirmed = Confirmed {
            fork: Fork::of(world.keys, message.to_tag()),
            far_end,
            state: DialogState::new(invite.call_id(), &caller, &destination).filter(|_| clean),
            home: context.flow.listener,
            flows,
            cseq: invite.cseq(),
            timer: self.session_timer(world, dialog, message),
        };
        let set = world.dialogs.seat(dialog).map(|seat| seat.set).unwrap_or_default();
        let World { dialogs, dispatch, now, .. } = world;
        if !dialogs.confirm(dialog, confirmed, &dispatch.policy(set).session, now.mono) {
            let Some(leg) = dialogs.get(dialog).and_then(Dialog::hung_up) else { return };
            self.over(world, dialog, hung_up_by(leg), invite.call_id());
        }
    }

    /// A request inside the session was answered by a 2xx.
    fn answered_inside(&self, world: &mut World<'_>, context: &Context, found: Found, message: &Message<'_>) {
        let Found { id, leg, .. } = found;
        if is_of_session(message.method()) {
            let far_end = if leg == Leg::Caller { self.far_end(world.keys, message) } else { None };
            Self::is_there(world, id, far_end);
        }
        if !matches!(message.method(), Method::Invite | Method::Other(b"UPDATE")) {
            return;
        }
        let timer = self.session_timer(world, id, message);
        let Some(set) = world.dialogs.seat(id).map(|seat| seat.set) else { return };
        let World { dialogs, dispatch, now, .. } = world;
        // Section 12.2: its Contacts are the new targets.
        let request = Context::message(&context.request);
        for (leg, target) in [(leg, self.target_of(&request)), (leg.other(), self.target_of(message))] {
            let way = dialogs.get(id).and_then(|dialog| dialog.flow(leg));
            if let Some(target) = target {
                let party = Party { name: b"", target, route: &[] };
                let flow = self.own_hop(dispatch, leg, &party, way, dialogs.far_end(id));
                dialogs.retarget(Found { leg, ..found }, target, flow);
            }
        }
        dialogs.refresh(id, timer, &dispatch.policy(set).session, now.mono);
    }

    /// An end of the session has answered as one does that knows it.
    pub(super) fn is_there(world: &mut World<'_>, id: DialogId, far_end: Option<FarEnd>) {
        let Some(set) = world.dialogs.seat(id).map(|seat| seat.set) else { return };
        let World { dialogs, dispatch, now, .. } = world;
        dialogs.confirm_adopted(id, far_end, &dispatch.policy(set).session, now.mono);
    }

    /// The URI that requests to the sender of a message go to; none if it names us.
    fn target_of<'m>(&self, message: &Message<'m>) -> Option<&'m [u8]> {
        target_of(message).filter(|target| !self.us.are_named_by(target))
    }

    /// The route of requests to the caller. What is ours in it, of an INVITE that comes by here once more, is left out: by its
    /// own route a request of ours would come back to us.
    fn route_back<'m>(&self, invite: &Message<'m>) -> SmallVec<[&'m [u8]; 4]> {
        invite.record_routes().filter(|route| !self.us.are_named_by(route.uri)).map(|route| route.raw).collect()
    }

    /// Where requests of ours to an end go: its first Route, else its target. `way` is how it has spoken to us, which serves
    /// for a name too. What an end writes makes us send to nobody else: toward the caller that leads to the host that its INVITE
    /// came from, or by the connection that it came by; toward the destination to where its 2xx came from, the far end or a
    /// destination. None else.
    fn own_hop(
        &self,
        dispatch: &Dispatch,
        leg: Leg,
        end: &Party<'_>,
        way: Option<Flow>,
        far_end: Option<FarEnd>,
    ) -> Option<Flow> {
        let way = way?;
        let route = end.route.first().and_then(|route| Address::parse(route));
        let next = Uri::parse(route.map_or(end.target, |route| route.uri)).ok()?;
        let Some(peer) = next.address() else { return Some(way) };
        let ip = peer.ip().to_canonical();
        let same_host = ip == way.peer.ip().to_canonical();
        let (transport, may) = match leg {
            // A stream of one whose Contact leads elsewhere: by that alone it can be reached.
            Leg::Caller if way.transport.is_reliable() && route.is_none() && !same_host => return Some(way),
            Leg::Caller if route.is_none() => (way.transport, same_host),
            Leg::Caller => (transport_to(&next, Some((way.transport, way.peer)))?, same_host),
            Leg::Destination => {
                let far = far_end == Some(FarEnd::Ip(peer.ip())) || dispatch.is_destination_ip(ip);
                (transport_to(&next, Some((way.transport, way.peer)))?, same_host || far)
            }
        };
        if !may || ip.is_unspecified() || ip.is_multicast() {
            return None;
        }
        let hop = self.way(self.us.towards(transport, peer, way.listener)?, peer);
        // A stream is kept while it lives.
        let kept = same_host && hop.transport == way.transport && hop.listener == way.listener;
        Some(if kept { Flow { peer, ..way } } else { hop })
    }

    /// When the session ends unless it is refreshed: RFC 4028 section 10, by what its 2xx says, and some grace.
    fn session_timer(&self, world: &World<'_>, dialog: DialogId, response: &Message<'_>) -> Option<Instant> {
        let interval = response.session_expires()?.max(SHORTEST_TIMER);
        Some(world.now.mono + interval + world.session_policy(dialog).timer_grace)
    }

    /// A call that has nowhere to go.
    pub(super) fn not_begun(&self, world: &mut World<'_>, request: &Message<'_>, set: SetId, ending: Ending) {
        if request.method() != Method::Invite {
            return;
        }
        world.totals.ended[ending as usize] += 1;
        if self.records {
            let record = Record {
                call_id: printable(request.call_id()),
                set,
                destination: None,
                address: None,
                codes: Vec::new(),
                began: world.now.wall,
                answered_after: None,
                lasted: Duration::ZERO,
                ending,
            };
            world.out.push(Output::Event(Event::Session(Box::new(record))));
        }
    }

    /// A further 2xx to an INVITE: another dialog of its session, or the same answer once more.
    pub(super) fn note_fork(world: &mut World<'_>, message: &Message<'_>) {
        if message.method() == Method::Invite
            && let Some(Found { id, leg: Leg::Caller, fork }) = world.dialogs.find(world.keys, message)
        {
            world.dialogs.fork(id, fork);
        }
    }

    /// A request has failed with that status, which is an end's own if the ending is [`Ending::Rejected`]. The session that it
    /// would have begun is none.
    pub(super) fn failed(&self, world: &mut World<'_>, context: &Context, status: u16, ending: Ending) {
        match context.session {
            None => {}
            Some(Session::Begins(dialog, server)) => {
                let Some(dialog) = world.dialogs.end_pending(dialog, server, world.now.mono) else { return };
                let ending = if context.cancelled { Ending::Cancelled } else { ending };
                self.told_over(world, &dialog, ending, || Context::message(&context.request).call_id());
            }
            Some(Session::Inside(found)) => {
                let request = Context::message(&context.request);
                self.failed_inside(world, found, &request, status, ending == Ending::Rejected);
            }
        }
    }

    /// A request inside a session has failed; whether by an answer of the other end's own.
    fn failed_inside(&self, world: &mut World<'_>, found: Found, request: &Message<'_>, status: u16, answered: bool) {
        let (id, now) = (found.id, world.now.mono);
        // Section 8.2: a server looks at these before it looks for the dialog.
        let proves = answered && !matches!(status, 404 | 405 | 501);
        if denies(request.method(), status) {
            // Nobody has confirmed an adopted one, so nobody hears that it is over.
            if world.dialogs.end_adopted(id, now).is_none() && world.dialogs.lose(id, found.fork) {
                self.over(world, id, Ending::Gone, request.call_id());
            }
        } else if is_of_session(request.method()) {
            match proves {
                true => Self::is_there(world, id, None),
                false => drop(world.dialogs.end_adopted(id, now)),
            }
        }
    }

    /// A BYE has come, answered or not, and whether it can go on or not.
    pub(super) fn hung_up(&self, world: &mut World<'_>, found: Found, bye: &Message<'_>) {
        if world.dialogs.hang_up(found) {
            self.over(world, found.id, hung_up_by(found.leg), bye.call_id());
        }
    }

    /// `call_id` is for a session that was not set up here, and so does not know its own.
    fn over(&self, world: &mut World<'_>, dialog: DialogId, ending: Ending, call_id: &[u8]) {
        if let Some(dialog) = world.dialogs.end(dialog, world.now.mono) {
            self.told_over(world, &dialog, ending, || call_id);
        }
    }

    /// Counts a session that has left the table, and writes it down if anybody wants that.
    fn told_over<'c>(
        &self,
        world: &mut World<'_>,
        dialog: &Dialog,
        ending: Ending,
        call_id: impl FnOnce() -> &'c [u8],
    ) {
        world.totals.ended[ending as usize] += 1;
        if self.records {
            write_down(dialog, call_id(), ending, world.dispatch, world.now, world.out);
        }
    }
}

/// Whether requests of that method are the session's own. Others may be a subscription's within its dialog (RFC 5057), or ask
/// for what is there without it.
pub(super) fn is_of_session(method: Method<'_>) -> bool {
    matches!(method, Method::Invite | Method::Other(b"UPDATE" | b"INFO"))
}

/// Whether a failure says that the other end does not know the session, or is no more; silence is a 408 (RFC 3261 section
/// 12.2.1.2). A PRACK may be told 481 for its provisional answer alone (RFC 3262 section 3); a BYE has ended it before.
fn denies(method: Method<'_>, status: u16) -> bool {
    match status {
        408 => is_of_session(method),
        481 => is_of_session(method) || method == Method::Options,
        _ => false,
    }
}

fn hung_up_by(leg: Leg) -> Ending {
    match leg {
        Leg::Caller => Ending::CallerBye,
        Leg::Destination => Ending::DestinationBye,
    }
}

/// Whether requests of ours can bear the route that a message tells: every value of it can be read, on one line.
fn can_be_kept(message: &Message<'_>) -> bool {
    message.values(Name::RecordRoute).all(|value| {
        let route = Address::parse(value).filter(|route| Uri::parse(route.uri).is_ok());
        route.is_some() && value.iter().all(|byte| matches!(byte, b' '..=b'~'))
    })
}
