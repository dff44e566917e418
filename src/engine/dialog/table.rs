//! The table: found by Call-ID and caller's tag, counted by destination, ordered by age.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use slotmap::{SecondaryMap, SlotMap, new_key_type};

use super::asked::Asked;
use super::order::{Links, Order};
use crate::engine::clock::Instant;
use crate::engine::dispatch::{DestinationId, Load};
use crate::engine::flow::Transport;
use crate::engine::sip::{Hashed, Keys, Message, Resources};

new_key_type! {
    /// A session while it is in the table.
    pub(crate) struct DialogId;
}

/// Which end of a session a message came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leg {
    /// The one that sent the first INVITE.
    Caller,
    /// The destination.
    Destination,
}

/// Where a session is. The address stands here too, since the session outlives its destination's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
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

#[derive(Debug)]
pub(super) struct Dialog {
    key: u128,
    seat: Seat,
    /// Its place in the destination's list of members.
    place: u32,
    confirmed: bool,
    far_end: Option<FarEnd>,
    heard: Instant,
    pub(super) links: Links,
}

/// All live sessions of this node.
#[derive(Debug)]
pub(crate) struct Dialogs {
    dialogs: SlotMap<DialogId, Dialog>,
    by_key: HashMap<u128, DialogId, BuildHasherDefault<Hashed>>,
    members: SecondaryMap<DestinationId, Members>,
    order: Order,
    limit: usize,
    lifetime: Duration,
}

/// The sessions of one destination: an index of the table, not a count beside it.
#[derive(Debug, Default)]
struct Members {
    dialogs: Vec<DialogId>,
    asked: Asked,
    peak: usize,
}

impl Dialogs {
    /// An empty table of at most `limit` sessions, each ended when nothing has been heard of it for `lifetime`.
    pub(crate) fn new(limit: usize, lifetime: Duration) -> Self {
        Dialogs {
            dialogs: SlotMap::with_key(),
            by_key: HashMap::default(),
            members: SecondaryMap::new(),
            order: Order::default(),
            limit,
            lifetime,
        }
    }

    /// Live sessions, pending ones included.
    pub(crate) fn len(&self) -> usize {
        self.dialogs.len()
    }

    /// Enters a session as pending when a branch to `seat` is chosen, or moves one that is there to it (the next
    /// try of a failover). None if the table is full: the call goes on uncounted.
    pub(crate) fn begin(&mut self, keys: &Keys, invite: &Message<'_>, seat: Seat, now: Instant) -> Option<DialogId> {
        let key = key(keys, invite.call_id(), invite.from_tag());
        self.enter(key, seat, now)
    }

    /// Enters a session that another node, or this one before its restart, began: its cookie proved it. It is pending until
    /// an answer confirms that it has not ended meanwhile.
    pub(crate) fn adopt(
        &mut self,
        keys: &Keys,
        call_id: &[u8],
        caller_tag: &[u8],
        seat: Seat,
        now: Instant,
    ) -> Option<DialogId> {
        self.enter(key(keys, call_id, caller_tag), seat, now)
    }

    fn enter(&mut self, key: u128, seat: Seat, now: Instant) -> Option<DialogId> {
        if let Some(&id) = self.by_key.get(&key) {
            // Nobody moves a confirmed session by sending its INVITE's tags once more.
            if self.dialogs[id].confirmed {
                return None;
            }
            self.leave_destination(id);
            self.join_destination(id, seat);
            return Some(id);
        }
        if self.dialogs.len() >= self.limit {
            return None;
        }
        let links = Links::default();
        let id =
            self.dialogs.insert(Dialog { key, seat, place: 0, confirmed: false, far_end: None, heard: now, links });
        self.by_key.insert(key, id);
        self.order.push(id, &mut self.dialogs);
        self.join_destination(id, seat);
        Some(id)
    }

    /// The session that a message inside a dialog belongs to, and which leg sent it.
    pub(crate) fn find(&self, keys: &Keys, request: &Message<'_>) -> Option<(DialogId, Leg)> {
        let by_tag = |tag: &[u8]| self.by_key.get(&key(keys, request.call_id(), tag)).copied();
        match by_tag(request.from_tag()) {
            Some(id) => Some((id, Leg::Caller)),
            None => by_tag(request.to_tag()).map(|id| (id, Leg::Destination)),
        }
    }

    /// Where the session is.
    pub(crate) fn seat(&self, id: DialogId) -> Option<Seat> {
        self.dialogs.get(id).map(|dialog| dialog.seat)
    }

    /// Where the session's requests go from us on, once its 2xx has said so.
    pub(crate) fn far_end(&self, id: DialogId) -> Option<FarEnd> {
        self.dialogs.get(id).and_then(|dialog| dialog.far_end)
    }

    /// An earlier try than the last has won: the session is there.
    pub(crate) fn move_to(&mut self, id: DialogId, seat: Seat) {
        if self.dialogs.get(id).is_some_and(|dialog| dialog.seat != seat) {
            self.leave_destination(id);
            self.join_destination(id, seat);
        }
    }

    /// A 2xx to its INVITE has passed: the session is confirmed even if the ACK never comes by here.
    /// `far_end` is where its requests go from us on, as the 2xx says.
    pub(crate) fn confirm(&mut self, id: DialogId, far_end: Option<FarEnd>, now: Instant) {
        if let Some(dialog) = self.dialogs.get_mut(id) {
            dialog.confirmed = true;
            dialog.far_end = far_end.or(dialog.far_end);
            self.hear(id, now);
        }
    }

    /// A message of the session has passed: its lifetime begins anew.
    pub(crate) fn hear(&mut self, id: DialogId, now: Instant) {
        if let Some(dialog) = self.dialogs.get_mut(id) {
            dialog.heard = now;
            self.order.remove(id, &mut self.dialogs);
            self.order.push(id, &mut self.dialogs);
        }
    }

    /// Takes a session out, whatever its state; taking it out twice is no fault.
    pub(crate) fn end(&mut self, id: DialogId) {
        if !self.dialogs.contains_key(id) {
            return;
        }
        self.leave_destination(id);
        self.order.remove(id, &mut self.dialogs);
        if let Some(dialog) = self.dialogs.remove(id) {
            self.by_key.remove(&dialog.key);
        }
    }

    /// Takes a session out that never got its 2xx; a confirmed one stays.
    pub(crate) fn end_pending(&mut self, id: DialogId) {
        if self.dialogs.get(id).is_some_and(|dialog| !dialog.confirmed) {
            self.end(id);
        }
    }

    /// When the next session lapses.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.order.oldest().map(|id| self.dialogs[id].heard + self.lifetime)
    }

    /// Ends sessions that nothing was heard of for their lifetime, at most `most` of them.
    pub(crate) fn lapse(&mut self, now: Instant, most: usize) {
        for _ in 0..most {
            match self.order.oldest() {
                Some(id) if self.dialogs[id].heard + self.lifetime <= now => self.end(id),
                Some(_) | None => return,
            }
        }
    }

    fn join_destination(&mut self, id: DialogId, seat: Seat) {
        let dialog = &mut self.dialogs[id];
        dialog.seat = seat;
        dialog.place = u32::MAX;
        // A destination whose row is gone, and whose place in the map another one has taken, is counted nowhere.
        let Some(members) = self.members.entry(seat.destination) else { return };
        let members = members.or_default();
        dialog.place = members.dialogs.len() as u32;
        members.dialogs.push(id);
        members.asked.join(seat.resources);
        members.peak = members.peak.max(members.dialogs.len());
    }

    fn leave_destination(&mut self, id: DialogId) {
        let Dialog { seat, place, .. } = self.dialogs[id];
        let Some(members) = self.members.get_mut(seat.destination) else { return };
        if members.dialogs.get(place as usize) != Some(&id) {
            return;
        }
        members.dialogs.swap_remove(place as usize);
        members.asked.leave(seat.resources);
        if let Some(&moved) = members.dialogs.get(place as usize) {
            self.dialogs[moved].place = place;
        }
    }
}

impl Load for Dialogs {
    fn sessions(&self, destination: DestinationId) -> u64 {
        self.members.get(destination).map_or(0, |members| members.dialogs.len() as u64)
    }

    fn sessions_of(&self, destination: DestinationId, resources: Resources) -> u64 {
        self.members.get(destination).map_or(0, |members| members.asked.sessions_of(resources))
    }

    fn sessions_peak(&self, destination: DestinationId) -> u64 {
        self.members.get(destination).map_or(0, |members| members.peak as u64)
    }
}

fn key(keys: &Keys, call_id: &[u8], caller_tag: &[u8]) -> u128 {
    keys.table_hash(&[call_id, caller_tag])
}

#[cfg(test)]
mod tests {
    use super::*;

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
        Seat { destination, key: None, transport: Transport::Udp, address, resources: Resources::NONE }
    }

    fn destinations(count: usize) -> Vec<DestinationId> {
        let mut map: SlotMap<DestinationId, ()> = SlotMap::with_key();
        (0..count).map(|_| map.insert(())).collect()
    }

    #[test]
    fn a_session_is_found_from_both_legs_until_it_ends() {
        let (keys, to) = (keys(), destinations(1)[0]);
        let mut dialogs = Dialogs::new(10, Duration::from_secs(60));
        let invite = request("INVITE", 1, "a", "");
        let id = dialogs.begin(&keys, &Message::parse(invite.as_bytes()).expect("SIP"), seat(to), at(0)).expect("room");
        assert_eq!((dialogs.sessions(to), dialogs.sessions_peak(to)), (1, 1));
        dialogs.confirm(id, None, at(1));
        dialogs.end_pending(id);
        for (from, to_tag, leg) in [("a", "b", Leg::Caller), ("b", "a", Leg::Destination)] {
            let bye = request("BYE", 1, from, to_tag);
            assert_eq!(dialogs.find(&keys, &Message::parse(bye.as_bytes()).expect("SIP")), Some((id, leg)));
        }
        dialogs.end(id);
        dialogs.end(id);
        assert_eq!((dialogs.len(), dialogs.sessions(to), dialogs.sessions_peak(to)), (0, 0, 1));
    }

    #[test]
    fn a_failover_moves_the_session() {
        let (keys, to) = (keys(), destinations(2));
        let mut dialogs = Dialogs::new(10, Duration::from_secs(60));
        let invite = request("INVITE", 1, "a", "");
        let invite = Message::parse(invite.as_bytes()).expect("SIP");
        let first = dialogs.begin(&keys, &invite, seat(to[0]), at(0));
        assert_eq!(dialogs.begin(&keys, &invite, seat(to[1]), at(0)), first);
        assert_eq!((dialogs.len(), dialogs.sessions(to[0]), dialogs.sessions(to[1])), (1, 0, 1));
    }

    #[test]
    fn quiet_sessions_lapse_oldest_first_and_a_bounded_number_at_once() {
        let (keys, to) = (keys(), destinations(1)[0]);
        let mut dialogs = Dialogs::new(10, Duration::from_secs(60));
        let ids: Vec<_> = (0..4)
            .filter_map(|call| {
                let invite = request("INVITE", call, "a", "");
                dialogs.begin(&keys, &Message::parse(invite.as_bytes()).expect("SIP"), seat(to), at(call))
            })
            .collect();
        dialogs.hear(ids[0], at(30));
        assert_eq!(dialogs.next_deadline(), Some(at(61)));
        dialogs.lapse(at(63), 2);
        assert_eq!((dialogs.len(), dialogs.next_deadline()), (2, Some(at(63))));
        dialogs.lapse(at(63), 2);
        assert_eq!((dialogs.len(), dialogs.next_deadline()), (1, Some(at(90))));
    }

    #[test]
    fn load_equals_the_table_whatever_happens() {
        let keys = keys();
        let to = destinations(3);
        let mut random = fastrand::Rng::with_seed(7);
        let mut dialogs = Dialogs::new(50, Duration::from_secs(60));
        let mut ids = Vec::new();
        for step in 0..20_000u64 {
            let now = at(step / 10);
            let destination = to[random.usize(..to.len())];
            match random.u8(..5) {
                0 | 1 => {
                    let invite = request("INVITE", random.u64(..80), "a", "");
                    ids.extend(dialogs.begin(
                        &keys,
                        &Message::parse(invite.as_bytes()).expect("SIP"),
                        Seat { resources: Resources::of_bits(random.u8(..)), ..seat(destination) },
                        now,
                    ));
                }
                2 if !ids.is_empty() => dialogs.end(ids.swap_remove(random.usize(..ids.len()))),
                3 if !ids.is_empty() => dialogs.confirm(ids[random.usize(..ids.len())], None, now),
                _ => dialogs.lapse(now, 3),
            }
            let load: u64 = to.iter().map(|&d| dialogs.sessions(d)).sum();
            assert_eq!(load, dialogs.len() as u64);
            let one = Resources::of_bits(random.u8(..));
            for &destination in &to {
                let seats = dialogs.dialogs.values().map(|dialog| dialog.seat);
                let asking = seats.filter(|seat| seat.destination == destination && seat.resources.meets(one));
                assert_eq!(dialogs.sessions_of(destination, one), asking.count() as u64);
            }
            assert!(dialogs.len() <= 50);
        }
    }
}
