//! Which sessions a destination has: an index of the table, not a count beside it. It outlives a destination's row, so that
//! one that goes and comes back has the sessions that it had.

use std::collections::HashMap;

use slotmap::SecondaryMap;

use super::entry::Seat;
use super::table::DialogId;
use crate::engine::dispatch::{Asked, DestinationId, Load, SetId};
use crate::engine::sip::Resources;

/// The sessions of one destination.
#[derive(Debug, Default)]
struct Members {
    dialogs: Vec<DialogId>,
    asked: Asked,
    peak: usize,
}

impl Members {
    fn push(&mut self, id: DialogId, seat: Seat) -> u32 {
        self.dialogs.push(id);
        self.asked.join(seat.resources);
        self.peak = self.peak.max(self.dialogs.len());
        self.dialogs.len() as u32 - 1
    }
}

/// The sessions of all destinations.
#[derive(Debug, Default)]
pub(super) struct Places {
    here: SecondaryMap<DestinationId, Members>,
    /// Of those whose row is gone, by the name that they have in cookies.
    away: HashMap<(SetId, u32), Members>,
}

impl Places {
    /// A session joins its destination; its place there.
    pub(super) fn join(&mut self, id: DialogId, seat: Seat) -> u32 {
        // One that is gone, and whose place in the map another one has taken, is away.
        match self.here.entry(seat.destination) {
            Some(members) => members.or_default().push(id, seat),
            None => self.join_away(id, seat),
        }
    }

    /// A session leaves; the one that has its place now.
    pub(super) fn leave(&mut self, id: DialogId, seat: Seat, place: u32) -> Option<DialogId> {
        let away = seat.key.map(|key| (seat.set, key));
        let is_there = |members: &&mut Members| members.dialogs.get(place as usize) == Some(&id);
        let here = self.here.get_mut(seat.destination).filter(is_there);
        let members = match here {
            Some(members) => members,
            None => self.away.get_mut(&away?).filter(is_there)?,
        };
        members.dialogs.swap_remove(place as usize);
        members.asked.leave(seat.resources);
        let moved = members.dialogs.get(place as usize).copied();
        if let Some(away) = away
            && self.away.get(&away).is_some_and(|members| members.dialogs.is_empty())
        {
            self.away.remove(&away);
        }
        moved
    }

    /// Rows have been loaded: takes out the sessions whose destination is gone, and those whose destination is back. They have
    /// left, and may join where they belong now.
    pub(super) fn reload(
        &mut self,
        is_loaded: impl Fn(DestinationId) -> bool,
        is_back: impl Fn(SetId, u32) -> bool,
    ) -> Vec<DialogId> {
        let mut moving = Vec::new();
        self.here.retain(|destination, members| {
            let stays = is_loaded(destination);
            if !stays {
                moving.append(&mut members.dialogs);
            }
            stays
        });
        self.away.retain(|&(set, key), members| {
            let stays = !is_back(set, key);
            if !stays {
                moving.append(&mut members.dialogs);
            }
            stays
        });
        moving
    }

    /// A session joins those whose destination is gone; its place there.
    pub(super) fn join_away(&mut self, id: DialogId, seat: Seat) -> u32 {
        match seat.key {
            Some(key) => self.away.entry((seat.set, key)).or_default().push(id, seat),
            None => u32::MAX,
        }
    }

    /// By how much all of them differ from a table of so many sessions, and from what these have asked for.
    pub(super) fn drift(&self, table: usize) -> u64 {
        let all = || self.here.values().chain(self.away.values());
        let placed: usize = all().map(|members| members.dialogs.len()).sum();
        let asked = all().map(|members| members.asked.total().abs_diff(members.dialogs.len() as u64));
        (table as u64).abs_diff(placed as u64) + asked.sum::<u64>()
    }

    /// The sessions of a destination.
    pub(super) fn of(&self, destination: DestinationId) -> &[DialogId] {
        self.here.get(destination).map_or(&[], |members| &members.dialogs)
    }
}

impl Load for Places {
    fn sessions(&self, destination: DestinationId) -> u64 {
        self.of(destination).len() as u64
    }

    fn sessions_of(&self, destination: DestinationId, resources: Resources) -> u64 {
        self.here.get(destination).map_or(0, |members| members.asked.sessions_of(resources))
    }

    fn asked(&self, destination: DestinationId) -> Asked {
        self.here.get(destination).map_or_else(Asked::default, |members| members.asked.clone())
    }

    fn sessions_peak(&self, destination: DestinationId) -> u64 {
        self.here.get(destination).map_or(0, |members| members.peak as u64)
    }
}

#[cfg(test)]
mod tests {
    use slotmap::SlotMap;

    use super::*;
    use crate::engine::flow::Transport;

    #[test]
    fn a_drift_is_seen_whichever_side_has_too_many() {
        let (mut map, mut ids): (SlotMap<DestinationId, ()>, SlotMap<DialogId, ()>) =
            (SlotMap::with_key(), SlotMap::with_key());
        let (first, second) = (map.insert(()), map.insert(()));
        let seat = |destination, key| Seat {
            set: SetId(1),
            destination,
            key: Some(key),
            transport: Transport::Udp,
            address: ([127, 0, 0, 1], 7010).into(),
            resources: Resources::NONE,
        };
        let mut places = Places::default();
        places.join(ids.insert(()), seat(first, 1));
        places.join(ids.insert(()), seat(second, 2));
        places.join_away(ids.insert(()), seat(first, 3));
        assert_eq!([2, 3, 4].map(|table| places.drift(table)), [1, 0, 1]);
        places.here[first].asked = Asked::default();
        assert_eq!(places.drift(3), 1, "what they asked for is counted beside them");
    }
}
