//! Whose turn a plan takes.

use super::{Fitness, Witness};
use crate::engine::sip::Method;

/// Whose turn a plan takes: discovery by OPTIONS must not step the turn of INVITEs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// An initial INVITE's.
    Session,
    /// Any other request's outside a dialog.
    Other,
}

/// How a destination was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// As the first of a plan that the request could be sent to.
    First,
    /// Since another one had failed.
    Failover,
}

impl Choice {
    /// Both, in the order of `as usize`.
    pub const ALL: [Choice; 2] = [Choice::First, Choice::Failover];

    /// As in a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Choice::First => "first",
            Choice::Failover => "failover",
        }
    }
}

impl Turn {
    /// Whose turn a request outside a dialog takes.
    pub(crate) fn of(method: Method<'_>) -> Self {
        match method {
            Method::Invite => Turn::Session,
            Method::Ack | Method::Bye | Method::Cancel | Method::Options | Method::Other(_) => Turn::Other,
        }
    }

    /// What a fitness is to it: what is no call takes no room.
    pub(super) fn judge(self, fitness: Fitness) -> Fitness {
        match (fitness, self) {
            (Fitness::Full, Turn::Other) => Fitness::Fit,
            (fitness, _) => fitness,
        }
    }

    /// What its outcomes are witnesses of.
    pub(crate) fn witness(self) -> Witness {
        match self {
            Turn::Session => Witness::Traffic,
            Turn::Other => Witness::Other,
        }
    }
}
