//! Many sessions that are to end: those of a destination that went down, or that an operator wants to be rid of. A few at a
//! time, so that neither callers nor we are flooded.

use std::time::Duration;

use super::{Keeper, Scene};
use crate::engine::clock::Instant;
use crate::engine::dialog::{Dialog, Ending, Leg};
use crate::engine::dispatch::{DestinationId, Health, OnDown};
use crate::engine::event::{Event, Output, Which};
use crate::engine::sip::Keys;

/// The shortest time from one step to the next.
const STEP: Duration = Duration::from_millis(10);
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
    /// Sessions that began later are none of them.
    since: Instant,
    /// When the next step is due.
    pub(super) next: Instant,
}

impl Keeper {
    /// Destinations have gone down: their sessions end, if their sets want it.
    pub(crate) fn take_fallen(&mut self, scene: &mut Scene<'_>) {
        while let Some(destination) = scene.dispatch.next_fallen() {
            let set = scene.dispatch.destination(destination).map(|found| found.set);
            let on_down = set.map(|set| scene.dispatch.policy(set).session.on_down);
            if on_down == Some(OnDown::Bye) {
                self.begin(scene, destination, Ending::DestinationDown);
            }
        }
    }

    /// An operator ends sessions.
    pub(crate) fn order_end(&mut self, scene: &mut Scene<'_>, keys: &Keys, which: Which<'_>) {
        let sessions = match which {
            Which::Call(call_id) => {
                let found = scene.dialogs.find_call(keys, call_id.as_bytes());
                let ours = |id: &_| scene.dialogs.get(*id).is_some_and(|it| it.is_confirmed() && self.owns(it));
                let found = found.filter(ours);
                found.into_iter().for_each(|id| self.end(scene, id, Ending::Operator, &Leg::BOTH));
                usize::from(found.is_some())
            }
            Which::Destination { set, uri } => {
                let all: Vec<_> = scene.dispatch.addresses_of(set, uri).collect();
                all.into_iter().map(|destination| self.begin(scene, destination, Ending::Operator)).sum()
            }
        };
        scene.out.push(Output::Event(Event::EndOrdered { sessions: sessions as u64 }));
    }

    /// Begins with the sessions of a destination; how many it has.
    fn begin(&mut self, scene: &Scene<'_>, destination: DestinationId, ending: Ending) -> usize {
        let left = scene.dialogs.of_destination(destination).len();
        self.evictions.retain(|eviction| eviction.destination != destination);
        if left > 0 {
            let now = scene.now.mono;
            self.evictions.push(Eviction { destination, ending, left, since: now, next: now });
        }
        left
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
        // It has come back: the sessions that are left may go on.
        if ending == Ending::DestinationDown && found.condition.told != Health::Down {
            return false;
        }
        let rate = scene.dispatch.policy(found.set).session.bye_rate.max(1);
        let pause = STEP.max(Duration::from_secs(1) / rate);
        let most = (f64::from(rate) * pause.as_secs_f64()).round() as usize;
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
            let meant = |dialog: &Dialog| dialog.began() <= since && dialog.is_confirmed() && self.owns(dialog);
            if scene.dialogs.get(id).is_some_and(meant) {
                self.end(scene, id, ending, tell);
                ended += 1;
            }
        }
        eviction.next = scene.now.mono + pause;
        eviction.left > 0
    }
}
