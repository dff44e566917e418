//! What a node holds of a destination that the nodes of a cluster share the probes of. Who does not probe it knows nothing of it
//! but what calls show; who begins to probe it begins with what the others know.

use super::{Condition, Count, Health, Judgement, Level, Probing, Who, Witness};
use crate::engine::clock::{Instant, Now};

/// What the other nodes know of a destination by their probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine::dispatch) enum Others {
    /// One that is there knows it.
    Know,
    /// None that is there does, and one that has gone held it for down.
    LeftDown,
    /// Nothing.
    Nothing,
}

impl Probing {
    /// How many of the nodes that are there probe it; none: all of them.
    pub(in crate::engine::dispatch) fn probers(&self) -> Option<usize> {
        match self.who {
            Who::Shared { probers } if !self.checks.is_empty() => Some(probers as usize),
            Who::Shared { .. } | Who::All => None,
        }
    }
}

impl Condition {
    /// Whether other nodes probe it and this one does not.
    pub(crate) fn is_probed_elsewhere(&self) -> bool {
        self.elsewhere
    }

    /// Whether this node's own probes have shown what it is.
    pub(in crate::engine::dispatch) fn is_known(&self) -> bool {
        !self.is_fresh() && self.probes().is_some_and(|level| level != Level::Unknown)
    }

    /// Its health as the others are told it. Where they share the probes, what it begins with is no view of it.
    pub(in crate::engine::dispatch) fn health_to_tell(&self, judgement: &Judgement, now: Instant) -> Health {
        let unseen = self.probing.probers().is_some() && self.is_fresh();
        let probes = if unseen { Some(Level::Unknown) } else { self.probes() };
        self.health_of(probes, self.record.trust(now), judgement, now)
    }

    /// This node is one of those who probe it, or is not. Who is not any more forgets what its probes have shown, since nobody
    /// would take it back: what calls have shown stays. What this node begins with is only for as long as nobody knows better.
    pub(in crate::engine::dispatch) fn settle(&mut self, here: bool, others: Others, judgement: &Judgement, now: Now) {
        self.elsewhere = !here;
        let level = match (here, self.is_fresh(), others) {
            (true, false, _) | (true, true, Others::Nothing) => return,
            // Until a probe has shown otherwise: it does not get calls in between.
            (true, true, Others::LeftDown) => Level::Down,
            (true, true, Others::Know) | (false, _, _) => Level::Unknown,
        };
        if self.is_fresh() && self.counts.iter().all(|count| count.level == level) {
            return;
        }
        // People have heard that this node finds it down, and hear that it has no word in it any more. The rest is no news.
        let is_news = self.told == Health::Down && !self.is_fresh();
        self.begin(level);
        // What is on its way still was asked before.
        self.counts.iter_mut().for_each(|count| *count = Count::new(count.level).since(now.mono));
        if !here {
            self.alive = self.heard;
            self.busy = self.busy.filter(|busy| busy.witness == Some(Witness::Traffic));
        }
        let health = self.health(judgement, now.mono);
        if health != self.told && !is_news {
            (self.told, self.since, self.turned) = (health, now.wall, now.mono);
        }
    }

    /// The others say no longer that it is down: it comes back for this node too.
    pub(in crate::engine::dispatch) fn come_back(&mut self, now: Instant) {
        self.risen = Some(now);
    }

    /// Whether a node that probes it from now on has found what the others knew before: no news.
    pub(super) fn is_taken_over(&self, old: Health, new: Health) -> bool {
        self.probing.probers().is_some() && (old, new) == (Health::Unknown, Health::Up) && !self.is_returning()
    }

    /// Whether no probe has come back since it began.
    fn is_fresh(&self) -> bool {
        self.counts.iter().all(Count::is_fresh)
    }
}
