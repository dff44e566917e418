//! Sessions that come from other nodes, or from a start of this one before, and go to them: each counts at the node that has heard
//! of it last.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;

use super::entry::{Dialog, FarEnd, Leg, Seat, Stage};
use super::forks::Fork;
use super::lately::Lately;
use super::table::{DialogId, Dialogs, Found, by_call_id};
use crate::engine::clock::Instant;
use crate::engine::dispatch::{SessionPolicy, Taken};
use crate::engine::flow::ListenerId;
use crate::engine::sip::{Hashed, Keys, Message};

/// So many wait to be told: whoever tells nobody keeps no more. One that is not told of counts where it was until it must be over.
const MOST: usize = 65_536;

/// What becomes of a session that another node has taken over.
#[derive(Debug)]
pub(crate) enum GivenUp {
    /// It is not here.
    NotHere,
    /// It has come back since.
    Stays,
    /// It has left the table.
    Gone(Box<Dialog>),
}

/// Those that have come and that nobody has been told of yet.
#[derive(Debug, Default)]
pub(super) struct TakenOver {
    /// With the time of each.
    untold: VecDeque<(Instant, Taken)>,
    /// How many of the last ones this node itself has not taken note of.
    new: usize,
    /// Sessions that are here and that another node has taken over too, as two do that have one address at a time; with the
    /// mark of where they began, and what was heard here when that was last told against it.
    rivals: HashMap<u128, (u16, Instant), BuildHasherDefault<Hashed>>,
    /// Dialogs that were not here and whose BYE has come: a 2xx that comes late brings no session. And sessions that had ended here
    /// when another node told of them, which is told once.
    over: Lately,
}

impl TakenOver {
    /// A session that was begun at the node of that mark has come here.
    pub(super) fn note(&mut self, session: u128, seat: Seat, node: u16, now: Instant) {
        // Its row is gone: it counts for nobody.
        let Some(destination) = seat.key else { return };
        let Seat { set, resources, .. } = seat;
        let ago = std::time::Duration::ZERO;
        self.push(Taken { session, set, destination, resources, node, ago }, now);
    }

    fn push(&mut self, taken: Taken, now: Instant) {
        if self.untold.len() == MOST {
            self.untold.pop_front();
        }
        self.untold.push_back((now, Taken { ago: std::time::Duration::ZERO, ..taken }));
        self.new = (self.new + 1).min(MOST);
    }

    /// A session that stays here was taken over elsewhere. Where it has been heard of later, it counts here: that is told once.
    fn contend(&mut self, taken: &Taken, dialog: &Dialog) {
        if self.rivals.len() == MOST {
            return;
        }
        let (_, told) = self.rivals.entry(taken.session).or_insert((taken.node, Instant::ZERO));
        if !dialog.is_pending() && *told < dialog.heard {
            *told = dialog.heard;
            self.note(taken.session, dialog.seat, taken.node, dialog.heard);
        }
    }

    /// A session that is here was heard of, or has ended. If another node has it too, it does no longer.
    pub(super) fn claim(&mut self, session: u128, seat: Seat, now: Instant) {
        if let Some((node, _)) = self.concede(session) {
            self.note(session, seat, node, now);
        }
    }

    /// A session that was here is none any more, or one of another node's.
    pub(super) fn concede(&mut self, session: u128) -> Option<(u16, Instant)> {
        // Mostly there are none, and this is asked of each message.
        if self.rivals.is_empty() { None } else { self.rivals.remove(&session) }
    }

    /// The next one that this node itself has not taken note of.
    pub(super) fn next(&mut self) -> Option<Taken> {
        let at = self.untold.len().checked_sub(self.new).filter(|_| self.new > 0)?;
        self.new -= 1;
        self.untold.get(at).map(|(_, taken)| *taken)
    }

    /// Takes all of them, as of now.
    pub(super) fn tell(&mut self, now: Instant) -> Vec<Taken> {
        self.new = 0;
        self.untold.drain(..).map(|(at, taken)| Taken { ago: now.since(at), ..taken }).collect()
    }
}

impl Dialogs {
    /// Enters a session that another node, or this one before its restart, began, since a message of it has come and its
    /// cookie proved it. That came by `home`. It is not confirmed until an answer says that it has not ended meanwhile. None
    /// if the table is full, or if it has ended lately.
    pub(crate) fn adopt(
        &mut self,
        keys: &Keys,
        message: &Message<'_>,
        (leg, seat, node): (Leg, Seat, u16),
        home: ListenerId,
        now: Instant,
    ) -> Option<Found> {
        let (caller_tag, tag) = leg.tags(message);
        let key = keys.session(message.call_id(), caller_tag);
        if self.by_key.get(key).is_some() || self.lately.contains(key, now) {
            return None;
        }
        let fork = Fork::of(keys, tag);
        let call_id = by_call_id(keys, message.call_id());
        let id = self.enter(Dialog::adopted(key, call_id, fork, seat, now))?;
        self.come_by(id, home);
        self.taken.note(key, seat, node, now);
        Some(Found { id, leg, fork })
    }

    /// Whether the BYE of a dialog that is not in the table has come lately; `ok` is the 2xx to its INVITE.
    pub(crate) fn is_over(&self, keys: &Keys, ok: &Message<'_>, now: Instant) -> bool {
        let dialog = Fork::of(keys, ok.to_tag()).within(keys.session(ok.call_id(), ok.from_tag()));
        self.taken.over.contains(dialog, now)
    }

    /// A session that is not in the table, begun at the node of that mark, is ended by a BYE that has come here.
    pub(crate) fn end_unseen(
        &mut self,
        keys: &Keys,
        bye: &Message<'_>,
        (leg, seat, node): (Leg, Seat, u16),
        now: Instant,
    ) {
        let (caller_tag, tag) = leg.tags(bye);
        let key = keys.session(bye.call_id(), caller_tag);
        let dialog = Fork::of(keys, tag).within(key);
        if !self.lately.contains(key, now) && !self.taken.over.contains(dialog, now) {
            self.taken.over.insert(dialog, now);
            self.taken.note(key, seat, node, now);
        }
    }

    /// The sessions that have come to this node since this was asked the last time.
    pub(crate) fn tell_taken(&mut self, now: Instant) -> Vec<Taken> {
        self.taken.tell(now)
    }

    /// The next of them that this node itself has not taken note of.
    pub(crate) fn next_taken(&mut self) -> Option<Taken> {
        self.taken.next()
    }

    /// Another node has taken a session over: it counts there. The session, if it is here and nothing has been heard of it here
    /// since: it may come back.
    pub(crate) fn give_up(&mut self, taken: &Taken, now: Instant) -> GivenUp {
        let Some(id) = self.by_key.get(taken.session) else {
            // It has ended here, which the other did not know.
            if self.lately.contains(taken.session, now) && !self.taken.over.contains(taken.session, now) {
                self.taken.over.insert(taken.session, now);
                self.taken.push(*taken, now);
            }
            return GivenUp::NotHere;
        };
        let stays = |dialog: &Dialog| dialog.is_pending() || now.since(dialog.heard) <= taken.ago;
        if let Some(dialog) = self.dialogs.get(id).filter(|dialog| stays(dialog)) {
            self.taken.contend(taken, dialog);
            return GivenUp::Stays;
        }
        self.taken.concede(taken.session);
        self.take_out(id).map_or(GivenUp::NotHere, |dialog| GivenUp::Gone(Box::new(dialog)))
    }

    /// A request inside an adopted session was answered as one that is there answers: it has not ended meanwhile. Where its
    /// requests go is told by a 2xx, which may be a later one.
    pub(crate) fn confirm_adopted(
        &mut self,
        id: DialogId,
        far_end: Option<FarEnd>,
        policy: &SessionPolicy,
        now: Instant,
    ) {
        let Some(dialog) = self.dialogs.get_mut(id).filter(|dialog| dialog.is_adopted()) else { return };
        dialog.far_end = dialog.far_end.or(far_end);
        if dialog.stage == Stage::Adopted {
            dialog.stage = Stage::Confirmed;
            dialog.answered = Some(dialog.began);
            self.schedule(id, policy, now);
        }
    }

    /// Takes an adopted session out whose other end has not said that it is there.
    pub(crate) fn end_adopted(&mut self, id: DialogId, now: Instant) -> Option<Dialog> {
        (self.dialogs.get(id)?.stage == Stage::Adopted).then(|| self.end(id, now)).flatten()
    }
}
