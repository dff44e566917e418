//! Algorithm 8: always the first fit destination in the order of priority, the table's order among equals.

use super::{Candidate, PriorityOrder};

/// Where the best one is; none if there is nobody.
pub(super) fn best(order: PriorityOrder, fit: &[Candidate]) -> Option<usize> {
    let rank = |candidate: &Candidate| match order {
        PriorityOrder::HighFirst => -i64::from(candidate.priority),
        PriorityOrder::LowFirst => i64::from(candidate.priority),
    };
    // Of equals `min_by_key` takes the first.
    fit.iter().enumerate().min_by_key(|(_, candidate)| rank(candidate)).map(|(at, _)| at)
}
