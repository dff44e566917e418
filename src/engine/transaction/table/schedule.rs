//! When the wheel wakes a transaction.

use super::Id;
use crate::engine::clock::Instant;
use crate::engine::wheel::Wheel;

/// The first of them, of those that there are.
pub(super) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Makes sure that the wheel wakes a transaction not after `deadline`. An entry that is early enough stays as it is: when
/// it fires, the transaction is entered anew.
pub(super) fn schedule(wheel: &mut Wheel<Id>, scheduled: &mut Option<Instant>, deadline: Option<Instant>, id: Id) {
    let Some(deadline) = deadline else { return };
    if scheduled.is_none_or(|scheduled| deadline < scheduled) {
        *scheduled = Some(deadline);
        wheel.insert(deadline, id);
    }
}
