//! What the requests and answers that pass mean for the table of sessions.

use std::time::Duration;

use smallvec::SmallVec;

use super::context::Context;
use super::{Owner, Proxy, World};
use crate::engine::clock::Instant;
use crate::engine::dialog::{Confirmed, DialogId, DialogState, Ending, Fork, Found, Leg, Party, Seat};
use crate::engine::dispatch::SetId;
use crate::engine::event::{Event, Output, Record, write_down};
use crate::engine::flow::Flow;
use crate::engine::sip::{Address, Message, Method, Uri, printable, sip_uri, target_of};

/// What a request is to a session.
#[derive(Clone, Copy, Debug)]
pub(super) enum Session {
    /// Its first INVITE.
    Begins(DialogId),
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
        match context.session {
            None => {}
            Some(Session::Begins(dialog)) => self.set_up(world, context, way, owner, dialog, message),
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
            flow.filter(|_| target_of(message).is_none()).map(|flow| sip_uri(flow.peer, flow.transport))
        };
        let sources = [source(&invite, Some(context.flow)), source(message, way)];
        let target = |nth: usize| sources[nth].as_deref().unwrap_or_default().as_bytes();
        let to_caller: SmallVec<[&[u8]; 4]> = invite.record_routes().map(|route| route.raw).collect();
        let to_destination = self.route_beyond(message);
        let caller = Party {
            name: invite.from().map_or(b"", |from| from.raw),
            target: target_of(&invite).unwrap_or(target(0)),
            route: &to_caller,
        };
        let destination = Party {
            name: message.to().map_or(b"", |to| to.raw),
            target: target_of(message).unwrap_or(target(1)),
            route: &to_destination,
        };
        let flows = [
            next_hop(caller.route, caller.target, Some(context.flow)),
            next_hop(destination.route, destination.target, way),
        ];
        let confirmed = Confirmed {
            fork: Fork::of(world.keys, message.to_tag()),
            far_end: self.far_end(world.keys, message),
            state: DialogState::new(invite.call_id(), &caller, &destination),
            flows,
            cseq: invite.cseq(),
            timer: self.session_timer(world, dialog, message),
        };
        let set = world.dialogs.seat(dialog).map(|seat| seat.set).unwrap_or_default();
        let World { dialogs, dispatch, now, .. } = world;
        let lives = dialogs.confirm(dialog, confirmed, &dispatch.policy(set).session, now.mono);
        if !lives {
            self.over(world, dialog, Ending::DestinationBye);
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
        for (leg, target) in [(leg, target_of(&request)), (leg.other(), target_of(message))] {
            let way = dialogs.get(id).and_then(|dialog| dialog.flow(leg));
            if let Some(target) = target {
                dialogs.retarget(id, leg, target, next_hop(&[], target, way));
            }
        }
        dialogs.refresh(id, timer, policy, now.mono);
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
                if matches!(ending, Ending::Rejected) {
                    world.dialogs.note_try(dialog, status);
                }
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
                if matches!(status, 408 | 481) && world.dialogs.end_fork(id, fork) =>
            {
                self.over(world, id, Ending::Gone);
            }
            Some(Session::Inside(_)) => {}
        }
    }

    /// A BYE has passed, answered or not.
    pub(super) fn hung_up(&self, world: &mut World<'_>, found: Found) {
        let Found { id, leg, fork } = found;
        if world.dialogs.end_fork(id, fork) {
            let ending = match leg {
                Leg::Caller => Ending::CallerBye,
                Leg::Destination => Ending::DestinationBye,
            };
            self.over(world, id, ending);
        }
    }

    fn over(&self, world: &mut World<'_>, dialog: DialogId, ending: Ending) {
        let Some(dialog) = world.dialogs.end(dialog, world.now.mono) else { return };
        world.totals.ended[ending as usize] += 1;
        if self.records {
            write_down(&dialog, b"", ending, world.dispatch, world.now, world.out);
        }
    }
}

/// Where requests to an end go: its first Route, else its target; where `way` leads if that is a name. A stream is kept while
/// it lives.
fn next_hop(route: &[&[u8]], target: &[u8], way: Option<Flow>) -> Option<Flow> {
    let way = way?;
    let uri = route.first().and_then(|route| Address::parse(route)).map_or(target, |route| route.uri);
    let address = Uri::parse(uri).ok().and_then(|uri| uri.address());
    Some(Flow { peer: address.unwrap_or(way.peer), ..way })
}
