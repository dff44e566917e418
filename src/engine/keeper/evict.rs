//! Many sessions that are to end: those of a destination that went down, that was to be empty by now, or that an operator
//! wants to be rid of. A few at a time, so that neither callers nor we are flooded.

use std::time::Duration;

use super::{Keeper, Scene};
use crate::engine::clock::Instant;
use crate::engine::dialog::{Dialog, Ending, Leg};
use crate::engine::dispatch::{DestinationId, NoSuchDestination, OnDown};
use crate::engine::event::{EndOrder, Event, NotEnded, Output, Which};
use crate::engine::sip::Keys;

/// The shortest time from one step to the next.
const STEP: Duration = Duration::from_millis(10);
/// In nanoseconds.
const A_SECOND: u64 = 1_000_000_000;
/// So many sessions are looked at in one step.
const LOOKED_AT: usize = 1000;

/// The sessions of one destination.
#[derive(Clone, Copy, Debug)]
pub(super) struct Eviction {
    destination: DestinationId,
    ending: Ending,
    /// So many of its list have not been looked at; they go from the last to the first, since another one takes the place of
    /// each that goes.
    left: usize,
    /// What the last step left of its share: in billionths of a session.
    carry: u64,
    /// Sessions that began later are none of them.
    since: Instant,
    /// When the next step is due.
    pub(super) next: Instant,
}

impl Keeper {
    /// Destinations have gone down: their sessions end, if their sets want it. Others were to be empty by now, and theirs end
    /// since an order says so.
    pub(crate) fn take_doomed(&mut self, scene: &mut Scene<'_>) {
        while let Some(destination) = scene.dispatch.next_fallen() {
            let set = scene.dispatch.destination(destination).map(|found| found.set);
            let on_down = set.map(|set| scene.dispatch.policy(set).session.on_down);
            if on_down == Some(OnDown::Bye) {
                self.begin(scene, destination, Ending::DestinationDown);
            }
        }
        while let Some(destination) = scene.dispatch.next_overdue() {
            // What is under way goes on where it is.
            if self.evictions.iter().all(|eviction| eviction.destination != destination) {
                self.begin(scene, destination, Ending::Drained);
            }
        }
    }

    /// An operator ends sessions.
    pub(crate) fn order_end(&mut self, scene: &mut Scene<'_>, keys: &Keys, order: &EndOrder) {
        let ended = match &order.which {
            Which::Call(call_id) => self.end_call(scene, keys, call_id).map(|()| 1),
            Which::Destination { set, uri } => {
                let all: Vec<_> = scene.dispatch.addresses_of(*set, uri).collect();
                let begun = all.iter().map(|destination| self.begin(scene, *destination, Ending::Operator)).sum();
                let unknown = || NoSuchDestination { set: *set, uri: uri.clone() }.into();
                (!all.is_empty()).then_some(begun).ok_or_else(unknown)
            }
        };
        scene.out.push(Output::Event(Event::EndOrdered { order: order.clone(), ended }));
    }

    fn end_call(&mut self, scene: &mut Scene<'_>, keys: &Keys, call_id: &str) -> Result<(), NotEnded> {
        let found = scene.dialogs.find_call(keys, call_id.as_bytes());
        let Some((id, dialog)) = found.and_then(|id| Some((id, scene.dialogs.get(id)?))) else {
            return Err(NotEnded::NoSuchCall(call_id.to_owned()));
        };
        if let Some(why) = self.not_ours(dialog) {
            return Err(NotEnded::NotOurs { call_id: call_id.to_owned(), why });
        }
        self.end(scene, id, Ending::Operator, &Leg::BOTH);
        Ok(())
    }

    /// Begins with the sessions of a destination; how many it has.
    fn begin(&mut self, scene: &Scene<'_>, destination: DestinationId, ending: Ending) -> u64 {
        let left = scene.dialogs.of_destination(destination).len();
        self.evictions.retain(|eviction| eviction.destination != destination);
        if left > 0 {
            let now = scene.now.mono;
            self.evictions.push(Eviction { destination, ending, left, carry: 0, since: now, next: now });
        }
        left as u64
    }

    pub(super) fn evict(&mut self, scene: &mut Scene<'_>) {
        let now = scene.now.mono;
        for mut eviction in std::mem::take(&mut self.evictions) {
            if eviction.next > now || self.step(scene, &mut eviction) {
                self.evictions.push(eviction);
            }
        }
    }

    /// Ends a few of them; whether there are more.
    fn step(&mut self, scene: &mut Scene<'_>, eviction: &mut Eviction) -> bool {
        let Eviction { destination, ending, since, .. } = *eviction;
        let Some(found) = scene.dispatch.destination(destination) else { return false };
        let still = match ending {
            Ending::DestinationDown => found.is_down(),
            Ending::Drained => found.standing.ends_sessions_now(scene.now.wall),
            _ => true,
        };
        // It has come back, or has more time: the sessions that are left may go on.
        if !still {
            return false;
        }
        let rate = u64::from(scene.dispatch.policy(found.set).session.bye_rate.max(1));
        let pause = STEP.max(Duration::from_nanos(A_SECOND.div_ceil(rate)));
        // Rounded down, and what is left over is for the next step: so no second has more than its rate.
        let share = eviction.carry + rate * pause.as_nanos() as u64;
        eviction.carry = share % A_SECOND;
        let most = (share / A_SECOND) as usize;
        // Who is dead needs no BYE.
        let tell: &[Leg] = if ending == Ending::DestinationDown { &[Leg::Caller] } else { &Leg::BOTH };
        let mut ended = 0;
        for _ in 0..LOOKED_AT {
            let all = scene.dialogs.of_destination(destination);
            eviction.left = eviction.left.min(all.len());
            if eviction.left == 0 || ended == most {
                break;
            }
            eviction.left -= 1;
            let id = all[eviction.left];
            let meant = |dialog: &Dialog| dialog.began() <= since && self.owns(dialog);
            if scene.dialogs.get(id).is_some_and(meant) {
                self.end(scene, id, ending, tell);
                ended += 1;
            }
        }
        eviction.next = scene.now.mono + pause;
        eviction.left > 0
    }
}
