//! What the requests and answers that pass mean for the table of sessions.

use std::time::Duration;

use smallvec::SmallVec;

use super::context::Context;
use super::inside::transport_to;
use super::{Owner, Proxy, World};
use crate::engine::clock::Instant;
use crate::engine::dialog::{Confirmed, Dialog, DialogId, DialogState, Ending, FarEnd, Fork, Found, Leg, Party, Seat};
use crate::engine::dispatch::{Dispatch, SetId};
use crate::engine::event::{Event, Output, Record, write_down};
use crate::engine::flow::Flow;
use crate::engine::sip::header::Name;
use crate::engine::sip::{Address, Message, Method, Uri, printable, sip_uri, target_of};
use crate::engine::transaction::ClientId;

/// What a request is to a session.
#[derive(Clone, Copy, Debug)]
pub(super) enum Session {
    /// Its first INVITE.
    Begins(DialogId),
    /// One inside it.
    Inside(Found),
}

impl Proxy {
    /// The first 2xx to a request has gone on.
    pub(super) fn succeeded(
        &self,
        world: &mut World<'_>,
        context: &Context,
        client: ClientId,
        owner: Owner,
        message: &Message<'_>,
    ) {
        match context.session {
            None => {}
            Some(Session::Begins(dialog)) => self.set_up(world, context, client, owner, dialog, message),
            Some(Session::Inside(found)) => self.answered_inside(world, context, found, message),
        }
    }

    /// The session is set up.
    fn set_up(
        &self,
        world: &mut World<'_>,
        context: &Context,
        client: ClientId,
        owner: Owner,
        dialog: DialogId,
        message: &Message<'_>,
    ) {
        let way = world.transactions.flow(client);
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
        let source = |message: &Message<'_>, flow: Option<Flow>| {
            flow.filter(|_| self.target_of(message).is_none()).map(|flow| sip_uri(flow.peer, flow.transport))
        };
        let sources = [source(&invite, Some(context.flow)), source(message, way)];
        let target = |nth: usize| sources[nth].as_deref().unwrap_or_default().as_bytes();
        let to_caller = self.route_back(&invite);
        let to_destination = self.route_beyond(message);
        let caller = Party {
            name: invite.from().map_or(b"", |from| from.raw),
            target: self.target_of(&invite).unwrap_or(target(0)),
            route: &to_caller,
        };
        let destination = Party {
            name: message.to().map_or(b"", |to| to.raw),
            target: self.target_of(message).unwrap_or(target(1)),
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
        let Some(set) = world.dialogs.seat(id).map(|seat| seat.set) else { return };
        let refreshes = matches!(message.method(), Method::Invite | Method::Other(b"UPDATE"));
        let timer = if refreshes { self.session_timer(world, id, message) } else { None };
        let far_end = if leg == Leg::Caller { self.far_end(world.keys, message) } else { None };
        let World { dialogs, dispatch, now, .. } = world;
        let policy = &dispatch.policy(set).session;
        dialogs.confirm_adopted(id, far_end, policy, now.mono);
        if !refreshes {
            return;
        }
        // Section 12.2: its Contacts are the new targets.
        let request = Context::message(&context.request);
        for (leg, target) in [(leg, self.target_of(&request)), (leg.other(), self.target_of(message))] {
            let way = dialogs.get(id).and_then(|dialog| dialog.flow(leg));
            if let Some(target) = target {
                let party = Party { name: b"", target, route: &[] };
                let flow = self.own_hop(dispatch, leg, &party, way, dialogs.far_end(id));
                dialogs.retarget(id, leg, target, flow);
            }
        }
        dialogs.refresh(id, timer, policy, now.mono);
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
        let value = response.header(b"Session-Expires")?;
        let digits = value.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(value.len());
        let seconds: u32 = std::str::from_utf8(&value[..digits]).ok()?.parse().ok()?;
        let grace = world.session_policy(dialog).timer_grace;
        Some(world.now.mono + Duration::from_secs(seconds.into()) + grace)
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

    /// A request has failed with that status. The session that it would have begun is none, and neither is one that it was to
    /// prove; one that it was inside is over if the other end does not know it (section 12.2.1.2).
    pub(super) fn failed(&self, world: &mut World<'_>, context: &Context, status: u16, ending: Ending) {
        match context.session {
            None => {}
            Some(Session::Begins(dialog)) => {
                let Some(dialog) = world.dialogs.end_pending(dialog, world.now.mono) else { return };
                let cancelled = if context.cancelled { Ending::Cancelled } else { ending };
                world.totals.ended[cancelled as usize] += 1;
                if self.records {
                    let invite = Context::message(&context.request);
                    write_down(&dialog, invite.call_id(), cancelled, world.dispatch, world.now, world.out);
                }
            }
            // Nobody has confirmed it, so nobody hears that it is over.
            Some(Session::Inside(Found { id, .. })) if world.dialogs.end_adopted(id, world.now.mono).is_some() => {}
            Some(Session::Inside(Found { id, fork, .. }))
                if matches!(status, 408 | 481) && world.dialogs.lose(id, fork) =>
            {
                self.over(world, id, Ending::Gone, Context::message(&context.request).call_id());
            }
            Some(Session::Inside(_)) => {}
        }
    }

    /// A BYE has passed, answered or not.
    pub(super) fn hung_up(&self, world: &mut World<'_>, found: Found, bye: &Message<'_>) {
        if world.dialogs.hang_up(found) {
            self.over(world, found.id, hung_up_by(found.leg), bye.call_id());
        }
    }

    /// `call_id` is for a session that was not set up here, and so does not know its own.
    fn over(&self, world: &mut World<'_>, dialog: DialogId, ending: Ending, call_id: &[u8]) {
        let Some(dialog) = world.dialogs.end(dialog, world.now.mono) else { return };
        world.totals.ended[ending as usize] += 1;
        if self.records {
            write_down(&dialog, call_id, ending, world.dispatch, world.now, world.out);
        }
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
