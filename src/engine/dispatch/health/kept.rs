//! What outlives a restart, and what the table says before anything is seen.

use std::time::Duration;

use super::ejection::{Terms, Trust};
use super::{Condition, Health, Judgement, KeptPenalty, LONGEST_RETRY_AFTER, Level, NoRoom, Penalty};
use crate::engine::clock::Instant;
use crate::engine::dispatch::Distrust;

/// Health that was kept over a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Whether its probes held it for down.
    pub probes_down: bool,
    /// For how long it is still ejected, and how often it has been.
    pub ejected: Option<(Duration, u32)>,
    /// For how long it still has no room.
    pub busy: Option<Duration>,
    /// The penalty for flapping, unless it has worn off.
    pub penalty: Option<KeptPenalty>,
}

impl Condition {
    /// The table says that it failed: to begin with it is down, until a probe or a call has shown otherwise.
    pub(crate) fn begin_down(&mut self, terms: &Terms<'_>, now: Instant) {
        match self.counts.is_empty() {
            false => self.begin(Level::Down),
            // Nobody could find that it has come back, if nobody watches.
            true if !terms.observe.enabled => {}
            true => self.record.eject(1, None, terms, now),
        }
    }

    /// An operator holds it for failed; false if nobody could find that it works again.
    pub(crate) fn distrust(
        &mut self,
        distrust: Distrust,
        judgement: &Judgement,
        terms: &Terms<'_>,
        now: Instant,
    ) -> bool {
        let is_down = |condition: &Condition| condition.health(judgement, now) == Health::Down;
        match distrust {
            Distrust::Down if is_down(self) => true,
            Distrust::Down => {
                self.begin_down(terms, now);
                // Its probes may be such that wait for a call.
                if !is_down(self) && terms.observe.enabled {
                    self.record.eject(1, None, terms, now);
                }
                is_down(self)
            }
            Distrust::OnTrial if !terms.observe.enabled => false,
            Distrust::OnTrial => {
                if self.probes() == Some(Level::Down) {
                    self.begin(Level::Unknown);
                }
                if !matches!(self.record.trust(now), Trust::HalfOpen { .. }) {
                    self.record.trust = Trust::HalfOpen { since: now, times: 1, trial: None };
                }
                true
            }
        }
    }

    /// What is worth keeping over a restart.
    pub(crate) fn keep(&self, judgement: &Judgement, now: Instant) -> Kept {
        Kept {
            probes_down: self.probes() == Some(Level::Down),
            ejected: match self.record.trust {
                Trust::Ejected { until, times, .. } => Some((until.since(now), times)),
                Trust::HalfOpen { times, .. } => Some((Duration::ZERO, times)),
                Trust::Trusted { .. } => None,
            },
            busy: self.busy.map(|busy| busy.until.since(now)).filter(|left| !left.is_zero()),
            penalty: judgement.damping.and_then(|damping| self.penalty.keep(&damping, now)),
        }
    }

    /// Takes what was kept, as far as the set's policy has a use for it now.
    pub(crate) fn restore(&mut self, kept: Kept, judgement: &Judgement, now: Instant) {
        if kept.probes_down {
            self.begin(Level::Down);
        }
        // Nobody could find that it has come back, if nobody watches.
        if let Some((left, times)) = kept.ejected.filter(|_| judgement.observe.enabled) {
            let left = left.min(judgement.observe.longest_ejection());
            self.record.trust = Trust::Ejected { since: now, until: now + left, times };
        }
        let busy = |left: Duration| NoRoom { witness: None, since: now, until: now + left.min(LONGEST_RETRY_AFTER) };
        self.busy = kept.busy.map(busy).or(self.busy);
        if let (Some(damping), Some(kept)) = (judgement.damping, kept.penalty) {
            self.penalty = Penalty::restore(kept, &damping, now);
        }
        // What it was before the start is no news, and a destination that was down has not fallen again.
        self.told = self.health(judgement, now);
    }
}
