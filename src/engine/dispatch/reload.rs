//! A load of all sets takes effect: what stays keeps its identity and all that was counted of it.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::{Destination, DestinationId, Dispatch, Row, RowState, SetId, Sets, Standing, canonical};
use crate::engine::clock::Now;
use crate::engine::event::Changes;

/// What makes a destination the same over loads: set, URI and address.
type Identity = (SetId, String, SocketAddr);

impl Dispatch {
    /// Replaces all sets by those of a new load, whole. A row that repeats the identity of an earlier one is left out.
    pub fn replace(&mut self, sets: Sets, now: Now) -> Changes {
        let mut changes = Changes::default();
        let mut old: HashMap<Identity, DestinationId> =
            self.destinations.iter().map(|(id, found)| (identity(found.set, &found.row), id)).collect();
        let mut loaded: HashMap<Identity, DestinationId> = HashMap::new();
        let by_hand = self.given_by_hand();
        self.sets.values_mut().for_each(|state| state.members.clear());
        for set in sets.0 {
            let policy = self.policy(set.id).clone();
            for row in set.rows {
                let row = policy.attrs.apply(row);
                let identity = identity(set.id, &row);
                if loaded.contains_key(&identity) {
                    continue;
                }
                let id = match old.remove(&identity) {
                    Some(id) => {
                        let destination = &mut self.destinations[id];
                        if destination.row != row {
                            changes.changed += 1;
                            if destination.reload(row, &policy) {
                                let (state, standing) = (destination.row.state, destination.read(now.wall));
                                self.set_standing(id, standing);
                                if state == RowState::Probing {
                                    self.begin_down(id, now);
                                }
                            }
                        }
                        id
                    }
                    None => {
                        changes.added += 1;
                        let failed = row.state == RowState::Probing;
                        let standing = by_hand.get(&(set.id, row.uri.clone())).filter(|(state, _)| *state == row.state);
                        let id = self.destinations.insert(Destination::new(set.id, row, &policy, now));
                        if let Some((_, standing)) = standing {
                            self.set_standing(id, standing.clone());
                        }
                        if failed {
                            self.begin_down(id, now);
                        }
                        id
                    }
                };
                loaded.insert(identity, id);
                self.set_mut(set.id).members.push(id);
            }
        }
        changes.removed = old.len();
        for id in old.into_values() {
            self.destinations.remove(id);
        }
        self.draining.retain(|one| self.destinations.contains_key(one.id));
        // A counter that the outside has seen may not vanish; a set that nobody ever asked for may.
        self.sets.retain(|_, state| state.configured || state.has_counted() || !state.members.is_empty());
        self.index();
        changes
    }

    /// Orders given by hand, with the row's state at that time: they are for every address of a name, also for those that
    /// it gets later.
    fn given_by_hand(&self) -> HashMap<(SetId, String), (RowState, Standing)> {
        let by_hand = self.destinations.values().filter(|found| found.standing.is_by_hand());
        by_hand.map(|found| ((found.set, found.row.uri.clone()), (found.row.state, found.standing.clone()))).collect()
    }

    fn index(&mut self) {
        self.by_key.clear();
        self.addresses.clear();
        self.ips.clear();
        for (&set, state) in &self.sets {
            for &id in &state.members {
                let destination = &self.destinations[id];
                if !destination.row.is_resolved() {
                    continue;
                }
                let address = canonical(destination.row.address);
                // Two keys of one set that collide: the table's order decides, on every node alike.
                self.by_key.entry((set, destination.key())).or_insert(id);
                self.addresses.insert(address);
                self.ips.insert(address.ip());
            }
        }
    }
}

fn identity(set: SetId, row: &Row) -> Identity {
    (set, row.uri.clone(), row.address)
}
