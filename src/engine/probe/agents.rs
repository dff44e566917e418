//! Agents: which destination's is asked next. Nothing is kept of a question: an answer names its destination, and the last
//! one holds until its time is over (`dispatch/agent.rs`).

use std::net::SocketAddr;

use slotmap::{Key as _, KeyData, SecondaryMap};

use super::schedule::{FIRST, place};
use super::{PAUSE, SENDS_A_TURN, Scene};
use crate::engine::clock::{Instant, Now};
use crate::engine::dispatch::{DestinationId, Dispatch, Order};
use crate::engine::event::{AgentId, Output};
use crate::engine::wheel::Wheel;

/// All agents.
#[derive(Debug)]
pub(crate) struct Agents {
    /// The next regular time of each.
    places: SecondaryMap<DestinationId, Instant>,
    due: Wheel<DestinationId>,
    /// Destinations that have been given a place in time.
    placed: u64,
}

impl Agents {
    /// None yet.
    pub(crate) fn new() -> Self {
        Agents { places: SecondaryMap::new(), due: Wheel::new(), placed: 0 }
    }

    /// Gives the agent of each destination that is new a place in time. Those that are gone drop out when they would be due.
    pub(crate) fn place(&mut self, dispatch: &Dispatch, now: Now) {
        let Agents { places, due, placed } = self;
        let mut early = 0;
        for (id, agent) in dispatch.agents() {
            if places.contains_key(id) {
                continue;
            }
            let at = now.mono + agent.interval.mul_f64(place(*placed, 0));
            *placed += 1;
            // The first question leaves sooner, so that a small set is known at once; the second keeps the place.
            let first = now.mono + FIRST * early;
            early = (early + 1).min(100_000);
            places.insert(id, at);
            due.insert(first.min(at), id);
        }
    }

    /// When [`Agents::wake`] is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.due.next()
    }

    /// Asks those that are due.
    pub(crate) fn wake(&mut self, scene: &mut Scene<'_>) {
        let now = scene.now.mono;
        let mut all = Vec::new();
        self.due.advance(now, &mut all);
        for (nth, (_, id)) in all.into_iter().enumerate() {
            // Those that a stall has made late together do not leave together.
            match nth < SENDS_A_TURN as usize {
                true => self.ask(scene, id),
                false => self.due.insert(now + PAUSE, id),
            }
        }
    }

    fn ask(&mut self, scene: &mut Scene<'_>, id: DestinationId) {
        let now = scene.now.mono;
        let Some(found) = scene.dispatch.destination(id) else {
            self.places.remove(id);
            return;
        };
        let (Some(heard), Some(at)) = (&found.heard, self.places.get_mut(id)) else { return };
        let agent = &heard.agent;
        // From its place, so that lateness does not add up; a long sleep is not made up for.
        if *at <= now {
            let missed = now.since(*at).as_micros() / agent.interval.as_micros().max(1);
            *at = *at + agent.interval.saturating_mul(u32::try_from(missed + 1).unwrap_or(u32::MAX));
        }
        self.due.insert(*at, id);
        if found.standing.order != Order::Maint && found.row.is_resolved() {
            let address = SocketAddr::new(found.row.address.ip(), agent.port);
            let (id, path, timeout) = (AgentId(id.data().as_ffi()), agent.path.clone(), agent.timeout);
            scene.out.push(Output::AskAgent { id, address, path, timeout });
        }
    }

    /// An agent has been asked; none: there was no good answer.
    pub(crate) fn said(&self, scene: &mut Scene<'_>, id: AgentId, body: Option<&[u8]>) {
        scene.dispatch.hear_agent(DestinationId::from(KeyData::from_ffi(id.0)), body, scene.now, scene.out);
    }
}
