//! The table: found by Call-ID and caller's tag, counted by destination, woken by a wheel.

use std::collections::VecDeque;
use std::time::Duration;

use slotmap::{SlotMap, new_key_type};

use super::entry::{Confirmed, Dialog, Due, FarEnd, Leg, Seat, Stage};
use super::forks::Fork;
use super::index::Index;
use super::lately::Lately;
use super::members::Places;
use super::taken::TakenOver;
use crate::engine::clock::Instant;
use crate::engine::dispatch::{Asked, DestinationId, Dispatch, Load, SessionPolicy};
use crate::engine::flow::{Flow, ListenerId};
use crate::engine::sip::{Keys, Message, Resources};
use crate::engine::transaction::ServerId;
use crate::engine::wheel::Wheel;

new_key_type! {
    /// A session while it is in the table.
    pub(crate) struct DialogId;
}

/// An entry is looked at that often, whatever it waits for: so the wheel keeps nothing of a short session for long.
const HORIZON: Duration = Duration::from_secs(60);

/// So many timers are moved in one step: a slot of the wheel may hold a minute's.
const MOVED_AT_ONCE: usize = 2000;

/// The session that a message inside a dialog belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The session.
    pub(crate) id: DialogId,
    /// Which end sent it.
    pub(crate) leg: Leg,
    /// Which dialog of the session it is of.
    pub(crate) fork: Fork,
}

/// All live sessions of this node.
#[derive(Debug)]
pub(crate) struct Dialogs {
    pub(super) dialogs: SlotMap<DialogId, Dialog>,
    pub(super) by_key: Index<u128, DialogId>,
    /// The latest session with that Call-ID, for people, who know no tags.
    by_call_id: Index<u64, DialogId>,
    places: Places,
    /// Sessions by the listener that their caller came by, once that is known.
    by_listener: Vec<usize>,
    pub(super) lately: Lately,
    pub(super) taken: TakenOver,
    wheel: Wheel<DialogId>,
    fired: Vec<(Instant, DialogId)>,
    /// Those whose time has come.
    due: VecDeque<DialogId>,
    due_since: Instant,
    limit: usize,
    lifetime: Duration,
}

impl Dialogs {
    /// An empty table of at most `limit` sessions, each ended when nothing has been heard of it for `lifetime`.
    pub(crate) fn new(limit: usize, lifetime: Duration) -> Self {
        Dialogs {
            dialogs: SlotMap::with_key(),
            by_key: Index::new(),
            by_call_id: Index::new(),
            places: Places::default(),
            by_listener: Vec::new(),
            lately: Lately::default(),
            taken: TakenOver::default(),
            wheel: Wheel::new(),
            fired: Vec::new(),
            due: VecDeque::new(),
            due_since: Instant::ZERO,
            limit,
            lifetime,
        }
    }

    /// Live sessions, pending ones included.
    pub(crate) fn len(&self) -> usize {
        self.dialogs.len()
    }

    /// Enters a session as pending when a branch to `seat` is chosen, or moves one that is there to it (the next
    /// try of a failover). A proxy before us may have forked the call: several INVITEs, each with a transaction of its own,
    /// begin one session, and the last of them to fail ends it. None if the table is full: the call goes on uncounted.
    pub(crate) fn begin(
        &mut self,
        keys: &Keys,
        (server, invite): (ServerId, &Message<'_>),
        seat: Seat,
        now: Instant,
    ) -> Option<DialogId> {
        let key = keys.session(invite.call_id(), invite.from_tag());
        // The 2xx of another node's try has passed, and its caller, who has not had it, sends his INVITE again: its next 2xx
        // will find that this one tries too.
        if let Some(id) = self.by_key.get(key).filter(|id| self.dialogs[*id].is_only_answered()) {
            self.take_out(id);
        }
        let id = match self.by_key.get(key) {
            // Nobody moves a confirmed session by sending its INVITE's tags once more.
            Some(id) if self.dialogs[id].stage != Stage::Pending => return None,
            Some(id) => {
                self.move_to(id, seat);
                id
            }
            None => {
                let call_id = by_call_id(keys, invite.call_id());
                self.enter(Dialog::pending(key, call_id, seat, now))?
            }
        };
        let invites = &mut self.dialogs[id].invites;
        if !invites.contains(&server) {
            invites.push(server);
        }
        Some(id)
    }

    pub(super) fn enter(&mut self, dialog: Dialog) -> Option<DialogId> {
        if self.dialogs.len() >= self.limit {
            return None;
        }
        let Dialog { key, call_id, seat, heard, .. } = dialog;
        let id = self.dialogs.insert(dialog);
        self.by_key.insert(key, id);
        self.by_call_id.insert(call_id, id);
        self.join_destination(id, seat);
        self.wake_at(id, heard + HORIZON.min(self.lifetime));
        Some(id)
    }

    /// The session that a message inside a dialog belongs to.
    pub(crate) fn find(&self, keys: &Keys, message: &Message<'_>) -> Option<Found> {
        let by_tag = |tag: &[u8]| self.by_key.get(keys.session(message.call_id(), tag));
        let of = |leg, id, tag| Found { id, leg, fork: Fork::of(keys, tag) };
        match by_tag(message.from_tag()) {
            Some(id) => Some(of(Leg::Caller, id, message.to_tag())),
            None => by_tag(message.to_tag()).map(|id| of(Leg::Destination, id, message.from_tag())),
        }
    }

    /// The latest session with that Call-ID.
    pub(crate) fn find_call(&self, keys: &Keys, call_id: &[u8]) -> Option<DialogId> {
        self.by_call_id.get(by_call_id(keys, call_id))
    }

    /// A session.
    pub(crate) fn get(&self, id: DialogId) -> Option<&Dialog> {
        self.dialogs.get(id)
    }

    /// Where the session is.
    pub(crate) fn seat(&self, id: DialogId) -> Option<Seat> {
        self.dialogs.get(id).map(|dialog| dialog.seat)
    }

    /// Where the session's requests go from us on, once its 2xx has said so.
    pub(crate) fn far_end(&self, id: DialogId) -> Option<FarEnd> {
        self.dialogs.get(id).and_then(|dialog| dialog.far_end)
    }

    /// By how much the table and what the destinations have of it differ, in all; 0, unless there is a fault of ours.
    pub(crate) fn drift(&self) -> u64 {
        self.places.drift(self.dialogs.len())
    }

    /// The sessions of a destination; who is at which place changes as sessions end.
    pub(crate) fn of_destination(&self, destination: DestinationId) -> &[DialogId] {
        self.places.of(destination)
    }

    /// Sessions whose caller came by that listener.
    pub(crate) fn of_listener(&self, listener: ListenerId) -> usize {
        self.by_listener.get(usize::from(listener.0)).copied().unwrap_or(0)
    }

    /// An earlier try than the last has won, or the next one is made: the session is there.
    pub(crate) fn move_to(&mut self, id: DialogId, seat: Seat) {
        if self.dialogs.get(id).is_some_and(|dialog| dialog.seat != seat) {
            self.leave_destination(id);
            self.join_destination(id, seat);
        }
    }

    /// A try of its INVITE has come to that status.
    pub(crate) fn note_try(&mut self, id: DialogId, status: u16) {
        if let Some(dialog) = self.dialogs.get_mut(id) {
            dialog.codes.push(status);
        }
    }

    /// A 2xx to its INVITE has passed: the session is confirmed even if the ACK never comes by here. Whether it lives: a BYE
    /// may have overtaken the 2xx.
    pub(crate) fn confirm(&mut self, id: DialogId, confirmed: Confirmed, policy: &SessionPolicy, now: Instant) -> bool {
        let Some(dialog) = self.dialogs.get_mut(id) else { return false };
        let home = confirmed.home;
        dialog.confirm(confirmed, policy, now);
        let lives = !dialog.forks.are_over();
        self.taken.claim(dialog.key, dialog.seat, now);
        self.come_by(id, home);
        self.schedule(id, policy, now);
        lives
    }

    pub(super) fn come_by(&mut self, id: DialogId, home: ListenerId) {
        let dialog = &mut self.dialogs[id];
        if dialog.home.is_none() {
            dialog.home = Some(home);
            let place = usize::from(home.0);
            self.by_listener.resize(self.by_listener.len().max(place + 1), 0);
            self.by_listener[place] += 1;
        }
    }

    /// A further 2xx to its INVITE has passed, with another tag or sent again. What an adopted session's dialogs are is told by
    /// requests inside them alone: this one may have ended before.
    pub(crate) fn fork(&mut self, id: DialogId, fork: Fork) {
        if let Some(dialog) = self.dialogs.get_mut(id).filter(|dialog| dialog.fork.is_some()) {
            dialog.forks.begin(fork);
        }
    }

    /// A request inside the session has passed: it lives.
    pub(crate) fn hear(&mut self, Found { id, leg, fork }: Found, cseq: u32, now: Instant) {
        if let Some(dialog) = self.dialogs.get_mut(id) {
            dialog.count(leg, fork, cseq);
            dialog.hear(leg, now);
            if !dialog.is_pending() {
                self.taken.claim(dialog.key, dialog.seat, now);
            }
        }
    }

    /// A 2xx to a re-INVITE or UPDATE has passed: `timer` is when the session ends without another (RFC 4028).
    pub(crate) fn refresh(&mut self, id: DialogId, timer: Option<Instant>, policy: &SessionPolicy, now: Instant) {
        let Some(dialog) = self.dialogs.get_mut(id) else { return };
        dialog.heard = now;
        dialog.timer = timer;
        self.schedule(id, policy, now);
    }

    /// An end has said that its requests are to go to that URI from now on (RFC 3261 section 12.2); ours go that way, if any.
    pub(crate) fn retarget(&mut self, Found { id, leg, fork }: Found, target: &[u8], flow: Option<Flow>) {
        if let Some(dialog) = self.dialogs.get_mut(id) {
            dialog.retarget(leg, fork, target, flow);
        }
    }

    /// An end has hung up one of its dialogs. Whether that was the last one of a session: one that is pending is ended by its
    /// INVITE's answer alone.
    pub(crate) fn hang_up(&mut self, Found { id, leg, fork }: Found) -> bool {
        let Some(dialog) = self.dialogs.get_mut(id) else { return false };
        dialog.hung_up = dialog.hung_up.or(Some(leg));
        let had = dialog.forks.has(fork);
        dialog.forks.end(fork);
        match dialog.stage {
            Stage::Pending => false,
            Stage::Adopted | Stage::Confirmed => had && dialog.forks.are_over(),
        }
    }

    /// An end does not know one of its dialogs, or answers no more. Whether that was the last one of a session: one that is
    /// pending may be told of it yet, by a 2xx that its own requests have overtaken.
    pub(crate) fn lose(&mut self, id: DialogId, fork: Fork) -> bool {
        let Some(dialog) = self.dialogs.get_mut(id).filter(|dialog| dialog.stage != Stage::Pending) else {
            return false;
        };
        let had = dialog.forks.has(fork);
        dialog.forks.end(fork);
        had && dialog.forks.are_over()
    }

    /// Takes a session out, whatever its state; none if it is out already.
    pub(crate) fn end(&mut self, id: DialogId, now: Instant) -> Option<Dialog> {
        let dialog = self.take_out(id)?;
        // One that was adopted, and has failed to prove itself, may still do so.
        if dialog.stage == Stage::Confirmed || dialog.hung_up.is_some() {
            self.lately.insert(dialog.key, now);
            self.taken.claim(dialog.key, dialog.seat, now);
        }
        self.taken.concede(dialog.key);
        Some(dialog)
    }

    pub(super) fn take_out(&mut self, id: DialogId) -> Option<Dialog> {
        if !self.dialogs.contains_key(id) {
            return None;
        }
        self.leave_destination(id);
        let dialog = self.dialogs.remove(id)?;
        self.by_key.remove(dialog.key);
        if self.by_call_id.get(dialog.call_id) == Some(id) {
            self.by_call_id.remove(dialog.call_id);
        }
        if let Some(home) = dialog.home {
            self.by_listener[usize::from(home.0)] -= 1;
        }
        Some(dialog)
    }

    /// Takes a session out whose INVITE has failed, unless another one goes on; a confirmed one stays.
    pub(crate) fn end_pending(&mut self, id: DialogId, server: ServerId, now: Instant) -> Option<Dialog> {
        let dialog = self.dialogs.get_mut(id).filter(|dialog| dialog.stage == Stage::Pending)?;
        dialog.invites.retain(|one| *one != server);
        dialog.invites.is_empty().then(|| self.end(id, now)).flatten()
    }

    /// When the next session is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        match self.due.is_empty() {
            true => self.wheel.next(),
            false => Some(self.due_since),
        }
    }

    /// The next session whose time has come; what for, [`Dialogs::due`] says. If there is none, more may have been found for
    /// the next turn: [`Dialogs::next_deadline`] tells.
    pub(crate) fn next_due(&mut self, now: Instant) -> Option<DialogId> {
        let Dialogs { wheel, fired, due, dialogs, due_since, .. } = self;
        if let Some(id) = due.pop_front() {
            return Some(id);
        }
        wheel.advance_some(now, MOVED_AT_ONCE, fired);
        *due_since = now;
        for (at, id) in fired.drain(..) {
            if let Some(dialog) = dialogs.get_mut(id).filter(|dialog| dialog.scheduled == Some(at)) {
                dialog.scheduled = None;
                due.push_back(id);
            }
        }
        due.pop_front()
    }

    /// What has become due of a session, if anything.
    pub(crate) fn due(&self, id: DialogId, policy: &SessionPolicy, now: Instant) -> Option<Due> {
        let (at, due) = self.dialogs.get(id)?.deadline(policy, self.lifetime);
        (at <= now).then_some(due)
    }

    /// Both legs are asked whether they live: the next time.
    pub(crate) fn ping_at(&mut self, id: DialogId, at: Instant) {
        if let Some(dialog) = self.dialogs.get_mut(id) {
            dialog.ping = Some(at);
        }
    }

    /// An end has answered a ping.
    pub(crate) fn lives(&mut self, id: DialogId, leg: Leg, now: Instant) {
        if let Some(dialog) = self.dialogs.get_mut(id) {
            dialog.hear(leg, now);
        }
    }

    /// A ping of an end has failed; `answered`: it has said itself that the session is gone.
    pub(crate) fn miss(&mut self, id: DialogId, leg: Leg, answered: bool) {
        if let Some(dialog) = self.dialogs.get_mut(id) {
            dialog.miss(leg, answered);
        }
    }

    /// Lets a session be due when something of it is, or in a while.
    pub(crate) fn schedule(&mut self, id: DialogId, policy: &SessionPolicy, now: Instant) {
        let Some(dialog) = self.dialogs.get(id) else { return };
        let (at, _) = dialog.deadline(policy, self.lifetime);
        self.wake_at(id, at.min(now + HORIZON));
    }

    fn wake_at(&mut self, id: DialogId, at: Instant) {
        let Some(dialog) = self.dialogs.get_mut(id) else { return };
        // One entry of the wheel that is early enough serves.
        if dialog.scheduled.is_none_or(|scheduled| at < scheduled) {
            dialog.scheduled = Some(at);
            self.wheel.insert(at, id);
        }
    }

    /// Rows have been loaded: sessions of a destination that was gone and is back count for it again.
    pub(crate) fn reload(&mut self, dispatch: &Dispatch) {
        let Dialogs { places, dialogs, .. } = self;
        let is_loaded = |id| dispatch.destination(id).is_some();
        for id in places.reload(is_loaded, |set, key| dispatch.find(set, key).is_some()) {
            let Some(dialog) = dialogs.get_mut(id) else { continue };
            let Seat { set, key, .. } = dialog.seat;
            dialog.place = match key.and_then(|key| dispatch.find(set, key)) {
                Some(destination) => {
                    dialog.seat.destination = destination;
                    places.join(id, dialog.seat)
                }
                None => places.join_away(id, dialog.seat),
            };
        }
    }

    fn join_destination(&mut self, id: DialogId, seat: Seat) {
        let dialog = &mut self.dialogs[id];
        dialog.seat = seat;
        dialog.place = self.places.join(id, seat);
    }

    fn leave_destination(&mut self, id: DialogId) {
        let Dialog { seat, place, .. } = self.dialogs[id];
        if let Some(moved) = self.places.leave(id, seat, place) {
            self.dialogs[moved].place = place;
        }
    }
}

impl Load for Dialogs {
    fn sessions(&self, destination: DestinationId) -> u64 {
        self.places.sessions(destination)
    }

    fn sessions_of(&self, destination: DestinationId, resources: Resources) -> u64 {
        self.places.sessions_of(destination, resources)
    }

    fn asked(&self, destination: DestinationId) -> Asked {
        self.places.asked(destination)
    }

    fn sessions_peak(&self, destination: DestinationId) -> u64 {
        self.places.sessions_peak(destination)
    }
}

pub(super) fn by_call_id(keys: &Keys, call_id: &[u8]) -> u64 {
    keys.table_hash(&[call_id]) as u64
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::engine::dispatch::{Ping, SetId};
    use crate::engine::flow::Transport;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn keys() -> Keys {
        Keys::new(&[1; 32], &[2; 32])
    }

    fn request(method: &str, call: u64, from: &str, to: &str) -> String {
        format!(
            "{method} sip:h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a>;tag={from}\r\nTo: <sip:b>;tag={to}\r\nCall-ID: {call}\r\nCSeq: 1 {method}\r\n\r\n"
        )
    }

    fn seat(destination: DestinationId) -> Seat {
        let address = SocketAddr::from(([127, 0, 0, 1], 7010));
        Seat { set: SetId(1), destination, key: None, transport: Transport::Udp, address, resources: Resources::NONE }
    }

    fn destinations(count: usize) -> Vec<DestinationId> {
        let mut map: SlotMap<DestinationId, ()> = SlotMap::with_key();
        (0..count).map(|_| map.insert(())).collect()
    }

    /// What a 2xx with that tag says, with nothing that requests of ours could be made of.
    fn confirmed(keys: &Keys, tag: &str) -> Confirmed {
        let fork = Fork::of(keys, tag.as_bytes());
        Confirmed { fork, far_end: None, state: None, home: ListenerId(0), flows: [None; 2], cseq: 1, timer: None }
    }

    fn begin(dialogs: &mut Dialogs, call: u64, seat: Seat, now: Instant) -> Option<DialogId> {
        let invite = request("INVITE", call, "a", "");
        dialogs.begin(&keys(), (ServerId::default(), &Message::parse(invite.as_bytes()).expect("SIP")), seat, now)
    }

    fn find(dialogs: &Dialogs, call: u64, from: &str, to: &str) -> Option<Found> {
        let bye = request("BYE", call, from, to);
        dialogs.find(&keys(), &Message::parse(bye.as_bytes()).expect("SIP"))
    }

    const LIFETIME: Duration = Duration::from_secs(3600);

    #[test]
    fn a_session_is_found_from_both_legs_until_it_ends() {
        let (keys, to) = (keys(), destinations(1)[0]);
        let mut dialogs = Dialogs::new(10, LIFETIME);
        let id = begin(&mut dialogs, 1, seat(to), at(0)).expect("room");
        assert_eq!((dialogs.sessions(to), dialogs.sessions_peak(to)), (1, 1));
        assert!(dialogs.confirm(id, confirmed(&keys, "b"), &SessionPolicy::default(), at(1)));
        assert!(dialogs.end_pending(id, ServerId::default(), at(1)).is_none());
        for (from, to_tag, leg) in [("a", "b", Leg::Caller), ("b", "a", Leg::Destination)] {
            let found = find(&dialogs, 1, from, to_tag).expect("it lives");
            assert_eq!((found.id, found.leg, found.fork), (id, leg, Fork::of(&keys, b"b")));
        }
        assert_eq!(dialogs.find_call(&keys, b"1"), Some(id));
        assert!(dialogs.end(id, at(2)).is_some() && dialogs.end(id, at(2)).is_none());
        assert_eq!((dialogs.len(), dialogs.sessions(to), dialogs.sessions_peak(to)), (0, 0, 1));
        assert_eq!((find(&dialogs, 1, "a", "b"), dialogs.find_call(&keys, b"1")), (None, None));
    }

    #[test]
    fn a_failover_moves_the_session() {
        let to = destinations(2);
        let mut dialogs = Dialogs::new(10, LIFETIME);
        let first = begin(&mut dialogs, 1, seat(to[0]), at(0));
        assert_eq!(begin(&mut dialogs, 1, seat(to[1]), at(0)), first);
        assert_eq!((dialogs.len(), dialogs.sessions(to[0]), dialogs.sessions(to[1])), (1, 0, 1));
    }

    #[test]
    fn a_forked_session_lasts_until_its_last_dialog_ends() {
        let (keys, to) = (keys(), destinations(1)[0]);
        let mut dialogs = Dialogs::new(10, LIFETIME);
        let id = begin(&mut dialogs, 1, seat(to), at(0)).expect("room");
        dialogs.confirm(id, confirmed(&keys, "b"), &SessionPolicy::default(), at(1));
        dialogs.fork(id, Fork::of(&keys, b"c"));
        assert!(!dialogs.lose(id, Fork::of(&keys, b"b")), "c goes on");
        assert!(!dialogs.lose(id, Fork::of(&keys, b"b")), "its BYE comes twice");
        dialogs.fork(id, Fork::of(&keys, b"b"));
        assert!(dialogs.lose(id, Fork::of(&keys, b"c")), "a repeated 2xx brings no dialog back");
    }

    #[test]
    fn a_bye_that_overtakes_the_2xx_ends_the_session_with_it() {
        let (keys, to) = (keys(), destinations(1)[0]);
        let mut dialogs = Dialogs::new(10, LIFETIME);
        let id = begin(&mut dialogs, 1, seat(to), at(0)).expect("room");
        let found = Found { id, leg: Leg::Caller, fork: Fork::of(&keys, b"b") };
        assert!(!dialogs.hang_up(found), "the INVITE's answer decides");
        assert!(!dialogs.confirm(id, confirmed(&keys, "b"), &SessionPolicy::default(), at(1)));
        assert_eq!(dialogs.get(id).and_then(Dialog::hung_up), Some(Leg::Caller));
    }

    #[test]
    fn a_session_that_has_ended_lately_is_not_adopted() {
        let (keys, to) = (keys(), destinations(1)[0]);
        let mut dialogs = Dialogs::new(10, LIFETIME);
        let id = begin(&mut dialogs, 1, seat(to), at(0)).expect("room");
        dialogs.confirm(id, confirmed(&keys, "b"), &SessionPolicy::default(), at(1));
        dialogs.end(id, at(2));
        let info = request("INFO", 1, "a", "b");
        let info = Message::parse(info.as_bytes()).expect("SIP");
        let begun = (Leg::Caller, seat(to), 7);
        assert_eq!(dialogs.adopt(&keys, &info, begun, ListenerId(0), at(30)), None);
        let found = dialogs.adopt(&keys, &info, begun, ListenerId(0), at(100)).expect("long ago");
        assert_eq!(dialogs.sessions(to), 1);
        assert!(dialogs.end_adopted(found.id, at(100)).is_some());
        assert_eq!(dialogs.sessions(to), 0);
    }

    #[test]
    fn what_is_due_comes_in_its_time() {
        let (keys, to) = (keys(), destinations(1)[0]);
        let policy = SessionPolicy {
            max_duration: Some(Duration::from_secs(600)),
            ping: Some(Ping { interval: Duration::from_secs(200), ..Ping::default() }),
            ..SessionPolicy::default()
        };
        let mut dialogs = Dialogs::new(10, LIFETIME);
        let id = begin(&mut dialogs, 1, seat(to), at(0)).expect("room");
        dialogs.confirm(id, Confirmed { timer: Some(at(450)), ..confirmed(&keys, "b") }, &policy, at(100));
        let mut happened = Vec::new();
        while let Some(now) = dialogs.next_deadline().filter(|now| *now <= at(5000)) {
            while let Some(id) = dialogs.next_due(now) {
                let due = dialogs.due(id, &policy, now);
                match due {
                    Some(Due::Ping) => dialogs.ping_at(id, now + Duration::from_secs(200)),
                    Some(Due::SessionTimer) => dialogs.refresh(id, None, &policy, now),
                    Some(Due::MaxDuration) => drop(dialogs.end(id, now)),
                    Some(Due::Quiet) | None => {}
                }
                happened.extend(due.map(|due| (now.since_start().as_secs(), due)));
                dialogs.schedule(id, &policy, now);
            }
        }
        assert_eq!(happened, [(300, Due::Ping), (450, Due::SessionTimer), (500, Due::Ping), (700, Due::MaxDuration)]);
        assert_eq!(dialogs.len(), 0);
        assert_eq!(dialogs.next_deadline(), None);
    }

    #[test]
    fn load_equals_the_table_whatever_happens() {
        let (keys, policy) = (keys(), SessionPolicy::default());
        let to = destinations(3);
        let mut random = fastrand::Rng::with_seed(7);
        let mut dialogs = Dialogs::new(50, Duration::from_secs(60));
        let mut ids = Vec::new();
        for step in 0..20_000u64 {
            let now = at(step / 10);
            let destination = to[random.usize(..to.len())];
            match random.u8(..5) {
                0 | 1 => {
                    let seat = Seat { resources: Resources::of_bits(random.u8(..)), ..seat(destination) };
                    ids.extend(begin(&mut dialogs, random.u64(..80), seat, now));
                }
                2 if !ids.is_empty() => drop(dialogs.end(ids.swap_remove(random.usize(..ids.len())), now)),
                3 if !ids.is_empty() => {
                    dialogs.confirm(ids[random.usize(..ids.len())], confirmed(&keys, "b"), &policy, now);
                }
                _ => {
                    if let Some(id) = dialogs.next_due(now) {
                        match dialogs.due(id, &policy, now) {
                            Some(_) => drop(dialogs.end(id, now)),
                            None => dialogs.schedule(id, &policy, now),
                        }
                    }
                }
            }
            let load: u64 = to.iter().map(|&d| dialogs.sessions(d)).sum();
            assert_eq!(load, dialogs.len() as u64);
            let one = Resources::of_bits(random.u8(..));
            for &destination in &to {
                let seats = dialogs.dialogs.values().map(|dialog| dialog.seat);
                let asking = seats.filter(|seat| seat.destination == destination && seat.resources.meets(one));
                assert_eq!(dialogs.asked(destination).sessions_of(one), asking.count() as u64);
            }
            assert!(dialogs.len() <= 50);
        }
    }
}
