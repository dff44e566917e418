//! What is done when so few of a set are fit that the rest could not bear the load (Envoy's panic threshold).

use slotmap::SlotMap;

use super::select::Candidate;
use super::{Destination, DestinationId, Judgement, Order, Row, SetState, Wish};
use crate::engine::clock::Instant;

/// When and how a set panics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Panic {
    /// It panics while fewer percent of its destinations in service are fit; 0: never. A set of two may not: one that
    /// is half down is what it is there for.
    pub threshold: u8,
    /// What it does.
    pub mode: PanicMode,
}

/// What a set does that panics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PanicMode {
    /// Calls go to all in service, whatever their health.
    #[default]
    All,
    /// Calls go to those that were fit when enough were.
    LastKnownGood,
    /// Calls get the set's empty reply: better none than all of them badly.
    Fail,
}

impl Panic {
    /// Whether a set panics of whose destinations in service so many are fit.
    pub(super) fn holds(&self, fit: usize, in_service: usize) -> bool {
        fit * 100 < in_service * usize::from(self.threshold)
    }
}

impl Destination {
    /// Whether it is wanted, whatever its health: it gets calls of a set that panics.
    pub(super) fn is_in_service(&self, now: Instant) -> bool {
        let refused = self.wish(now).and_then(Wish::refusal).is_some();
        self.standing.order == Order::Ready && !refused && self.row.is_resolved()
    }
}

impl PanicMode {
    /// Each of them.
    pub const ALL: [PanicMode; 3] = [PanicMode::All, PanicMode::LastKnownGood, PanicMode::Fail];

    /// As in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            PanicMode::All => "all",
            PanicMode::LastKnownGood => "last_known_good",
            PanicMode::Fail => "fail",
        }
    }
}

/// Puts others in place of the fit ones if there are too few. `full` of them would be fit and are at their limit: they count as
/// fit, since panic makes no room, and get no call, which `has_room` says of each.
pub(super) fn check(
    state: &mut SetState,
    destinations: &SlotMap<DestinationId, Destination>,
    fit: &mut Vec<Candidate>,
    full: usize,
    now: Instant,
    has_room: impl Fn(&Judgement, DestinationId, &Destination) -> bool,
) {
    let SetState { policy, members, known_good, panicking, .. } = state;
    let in_service = |id: &DestinationId| destinations.get(*id).filter(|found| found.is_in_service(now));
    let all = members.iter().filter(|id| in_service(id).is_some()).count();
    *panicking = policy.panic.holds(fit.len() + full, all);
    if !*panicking {
        known_good.clear();
        known_good.extend(fit.iter().map(|candidate| candidate.id));
        return;
    }
    let candidate = |id: &DestinationId| {
        let found = in_service(id).filter(|found| has_room(&policy.judgement, *id, found))?;
        let Row { weight, priority, .. } = found.row;
        Some(Candidate { id: *id, weight, priority, share: 100, ..Candidate::default() })
    };
    fit.clear();
    match policy.panic.mode {
        PanicMode::All => fit.extend(members.iter().filter_map(candidate)),
        PanicMode::LastKnownGood => {
            fit.extend(members.iter().filter(|id| known_good.contains(id)).filter_map(candidate));
        }
        PanicMode::Fail => {}
    }
}
