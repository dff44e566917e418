//! One session in the table: where it is, how far it has come, and what it waits for.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use smallvec::SmallVec;

use super::forks::{Fork, Forks};
use super::state::DialogState;
use crate::engine::clock::Instant;
use crate::engine::dispatch::{DestinationId, SessionPolicy, SetId};
use crate::engine::flow::{Flow, ListenerId, Transport};
use crate::engine::sip::{Message, Resources};
use crate::engine::transaction::ServerId;

/// Which end of a session a message came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leg {
    /// The one that sent the first INVITE.
    Caller,
    /// The destination.
    Destination,
}

impl Leg {
    /// Both.
    pub(crate) const BOTH: [Leg; 2] = [Leg::Caller, Leg::Destination];

    /// The caller's tag in a message of this end's, and the destination's.
    pub(super) fn tags<'m>(self, message: &Message<'m>) -> (&'m [u8], &'m [u8]) {
        match self {
            Leg::Caller => (message.from_tag(), message.to_tag()),
            Leg::Destination => (message.to_tag(), message.from_tag()),
        }
    }

    /// The other end.
    pub(crate) fn other(self) -> Leg {
        match self {
            Leg::Caller => Leg::Destination,
            Leg::Destination => Leg::Caller,
        }
    }
}

/// Where a session is. The address stands here too, since the session outlives its destination's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    /// The set.
    pub(crate) set: SetId,
    /// The destination that it counts for.
    pub(crate) destination: DestinationId,
    /// That destination's name in cookies; none if its row was gone before.
    pub(crate) key: Option<u32>,
    /// The transport that it is spoken to by.
    pub(crate) transport: Transport,
    /// Its address.
    pub(crate) address: SocketAddr,
    /// What its first INVITE asked for.
    pub(crate) resources: Resources,
}

/// The next hop behind us of a session: the Record-Route beyond ours, else the Contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FarEnd {
    /// An address.
    Ip(IpAddr),
    /// A name, as a hash.
    Name(u128),
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its INVITE waits for an answer here.
    Pending,
    /// It was begun elsewhere, and the first request inside it that came here waits for its answer.
    Adopted,
    /// It is set up.
    Confirmed,
}

/// What a 2xx to an INVITE tells of the session.
#[derive(Debug)]
pub(crate) struct Confirmed {
    /// Its dialog.
    pub(crate) fork: Fork,
    /// Where its requests go from us on.
    pub(crate) far_end: Option<FarEnd>,
    /// What requests of ours within it are made of.
    pub(crate) state: Option<DialogState>,
    /// The listener that its INVITE came by.
    pub(crate) home: ListenerId,
    /// The ways of our requests to the caller and to the destination; none where we may send nothing.
    pub(crate) flows: [Option<Flow>; 2],
    /// The INVITE's CSeq number.
    pub(crate) cseq: u32,
    /// When it ends without a refresh (RFC 4028).
    pub(crate) timer: Option<Instant>,
}

/// What can be due of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// It has lasted as long as it may.
    MaxDuration,
    /// Its session timer has run out.
    SessionTimer,
    /// Nothing has been heard of it for too long.
    Quiet,
    /// Its ends are asked whether they live.
    Ping,
}

/// One end of it.
#[derive(Clone, Copy, Debug, Default)]
struct End {
    /// The way to it.
    flow: Option<Flow>,
    /// The highest CSeq number of its requests in the dialog that the state is of; none of an end that never sent one.
    cseq: Option<u32>,
    /// Pings in a row that it has not answered.
    missed: u32,
    /// Whether it has answered a ping, or sent anything since its session was set up.
    spoke: bool,
}

/// A session.
#[derive(Debug)]
pub(crate) struct Dialog {
    pub(super) key: u128,
    pub(super) call_id: u64,
    pub(super) seat: Seat,
    /// Its place in the destination's list of members.
    pub(super) place: u32,
    pub(super) stage: Stage,
    pub(super) far_end: Option<FarEnd>,
    pub(super) forks: Forks,
    /// The INVITEs that wait for their answers; none once one has got its 2xx.
    pub(super) invites: SmallVec<[ServerId; 2]>,
    /// Whose the state and the CSeq numbers are. Before the 2xx: the one that was heard last; none of one that began elsewhere.
    pub(super) fork: Option<Fork>,
    pub(super) state: Option<DialogState>,
    ends: [End; 2],
    /// The listener that its caller came by, once it is set up; of an adopted one, the listener that its first request came by.
    pub(super) home: Option<ListenerId>,
    /// Who was the first to send BYE.
    pub(super) hung_up: Option<Leg>,
    /// What its tries have come to.
    pub(super) codes: SmallVec<[u16; 4]>,
    pub(super) began: Instant,
    pub(super) answered: Option<Instant>,
    pub(super) heard: Instant,
    /// When its session timer runs out.
    pub(super) timer: Option<Instant>,
    /// When its ends are pinged next.
    pub(super) ping: Option<Instant>,
    /// When the wheel looks at it.
    pub(super) scheduled: Option<Instant>,
}

impl Dialog {
    /// One whose INVITE has been sent.
    pub(super) fn pending(key: u128, call_id: u64, seat: Seat, now: Instant) -> Self {
        Dialog {
            key,
            call_id,
            seat,
            place: 0,
            stage: Stage::Pending,
            far_end: None,
            forks: Forks::default(),
            invites: SmallVec::new(),
            fork: None,
            state: None,
            ends: [End::default(); 2],
            home: None,
            hung_up: None,
            codes: SmallVec::new(),
            began: now,
            answered: None,
            heard: now,
            timer: None,
            ping: None,
            scheduled: None,
        }
    }

    /// One that began elsewhere.
    pub(super) fn adopted(key: u128, call_id: u64, fork: Fork, seat: Seat, now: Instant) -> Self {
        let mut dialog = Dialog { stage: Stage::Adopted, ..Dialog::pending(key, call_id, seat, now) };
        dialog.forks.begin(fork);
        dialog
    }

    pub(super) fn confirm(&mut self, confirmed: Confirmed, policy: &SessionPolicy, now: Instant) {
        let Confirmed { fork, far_end, state, home: _, flows, cseq, timer } = confirmed;
        self.stage = Stage::Confirmed;
        self.invites = SmallVec::new();
        self.far_end = far_end.or(self.far_end);
        self.forks.begin(fork);
        self.turn_to(fork);
        self.state = state;
        for leg in Leg::BOTH {
            self.ends[leg as usize].flow = flows[leg as usize];
        }
        self.answered = Some(now);
        self.timer = timer;
        self.ping = policy.ping.map(|ping| now + ping.interval);
        self.count(Leg::Caller, fork, cseq);
        // It has answered from where requests of ours go.
        self.ends[Leg::Destination as usize].spoke = true;
        self.heard = now;
    }

    /// A request of that end has passed, or it has answered a ping.
    pub(super) fn hear(&mut self, leg: Leg, now: Instant) {
        let end = &mut self.ends[leg as usize];
        end.missed = 0;
        end.spoke = true;
        self.heard = now;
    }

    /// A request of that end has that CSeq number. Each dialog of an INVITE has numbers of its own.
    pub(super) fn count(&mut self, leg: Leg, fork: Fork, cseq: u32) {
        if self.stage == Stage::Pending {
            self.turn_to(fork);
        }
        // Section 8.1.1.5: all are below 2^31, the one after it too.
        if self.fork.is_none_or(|known| known == fork) && cseq < (1 << 31) - 1 {
            let end = &mut self.ends[leg as usize];
            end.cseq = end.cseq.max(Some(cseq));
        }
    }

    /// What is known is of that dialog from now on.
    fn turn_to(&mut self, fork: Fork) {
        if self.fork.replace(fork) != Some(fork) {
            self.ends.iter_mut().for_each(|end| end.cseq = None);
        }
    }

    /// A ping of that end has failed; `answered`: it has said so itself.
    pub(super) fn miss(&mut self, leg: Leg, answered: bool) {
        let end = &mut self.ends[leg as usize];
        end.missed += 1;
        end.spoke |= answered;
    }

    /// An end has another Contact in that dialog.
    pub(super) fn retarget(&mut self, leg: Leg, fork: Fork, target: &[u8], flow: Option<Flow>) {
        let known = self.state.as_ref().filter(|state| self.fork == Some(fork) && state.target(leg) != target);
        let Some(state) = known else { return };
        self.state = state.retargeted(leg, target);
        // Where a route leads to it, the target is not the next hop.
        if state_routes_nowhere(self.state.as_ref(), leg) {
            self.ends[leg as usize].flow = flow;
        }
    }

    /// What is due next, and when.
    pub(super) fn deadline(&self, policy: &SessionPolicy, lifetime: Duration) -> (Instant, Due) {
        let quiet = (self.heard + lifetime, Due::Quiet);
        if self.stage != Stage::Confirmed {
            return quiet;
        }
        let lasts = policy.max_duration.zip(self.answered).map(|(most, answered)| (answered + most, Due::MaxDuration));
        let timer = self.timer.map(|timer| (timer, Due::SessionTimer));
        let ping = self.ping.map(|ping| (ping, Due::Ping));
        [lasts, timer, Some(quiet), ping].into_iter().flatten().min_by_key(|(at, _)| *at).unwrap_or(quiet)
    }

    /// Where it is.
    pub(crate) fn seat(&self) -> Seat {
        self.seat
    }

    /// What requests of ours within it are made of; none if it is not known, or of a dialog of it that has ended.
    pub(crate) fn state(&self) -> Option<&DialogState> {
        let lives = self.fork.is_some_and(|fork| self.forks.has(fork));
        self.state.as_ref().filter(|_| lives)
    }

    /// Its Call-ID, if it was set up here.
    pub(crate) fn call_id(&self) -> Option<&[u8]> {
        self.state.as_ref().map(DialogState::call_id)
    }

    /// The way of our requests to an end; none if we may send it nothing.
    pub(crate) fn flow(&self, leg: Leg) -> Option<Flow> {
        self.ends[leg as usize].flow
    }

    /// The highest CSeq number of an end's requests, if any was seen.
    pub(crate) fn cseq(&self, leg: Leg) -> Option<u32> {
        self.ends[leg as usize].cseq
    }

    /// Whether a session timer is running (RFC 4028).
    pub(crate) fn has_timer(&self) -> bool {
        self.timer.is_some()
    }

    /// When its INVITE came, or what else was first heard of it.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// When its 2xx passed; none if it has not, or not here.
    pub(crate) fn set_up(&self) -> Option<Instant> {
        self.answered.filter(|_| !self.codes.is_empty())
    }

    /// When something of it was heard last.
    pub(crate) fn heard(&self) -> Instant {
        self.heard
    }

    /// Whether its INVITE waits for an answer here.
    pub(crate) fn is_pending(&self) -> bool {
        self.stage == Stage::Pending
    }

    /// Whether it is set up, here or elsewhere.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.stage == Stage::Confirmed
    }

    /// Whether another node, or this one before a restart, began it.
    pub(crate) fn is_adopted(&self) -> bool {
        !self.is_pending() && self.fork.is_none()
    }

    /// Whether nothing has come of it but the 2xx to another node's INVITE.
    pub(super) fn is_only_answered(&self) -> bool {
        self.stage == Stage::Confirmed && self.is_adopted() && self.heard == self.began
    }

    /// The listener that its caller came by, or of an adopted one its first request here; none if it is not set up.
    pub(crate) fn home(&self) -> Option<ListenerId> {
        self.home
    }

    /// Who was the first to send BYE, if anybody has.
    pub(crate) fn hung_up(&self) -> Option<Leg> {
        self.hung_up
    }

    /// Whether an end has failed as many pings in a row, and has spoken before: who never has may be where no ping comes.
    pub(crate) fn is_dead(&self, leg: Leg, fall: u32) -> bool {
        let End { missed, spoke, .. } = self.ends[leg as usize];
        missed >= fall && spoke
    }

    /// Whether as many pings of an end have failed, and it has never spoken: more would flood whoever is there.
    pub(crate) fn is_mute(&self, leg: Leg, fall: u32) -> bool {
        let End { missed, spoke, .. } = self.ends[leg as usize];
        missed >= fall && !spoke
    }

    /// What its tries have come to, in order.
    pub(crate) fn codes(&self) -> &[u16] {
        &self.codes
    }
}

fn state_routes_nowhere(state: Option<&DialogState>, leg: Leg) -> bool {
    state.is_some_and(|state| state.route(leg).is_empty())
}
