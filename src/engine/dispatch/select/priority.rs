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

#[cfg(test)]
mod tests {
    use super::*;

    fn order_of(order: PriorityOrder, priorities: &[i32]) -> Vec<usize> {
        let candidate =
            |&priority| Candidate { id: Default::default(), weight: 0, priority, share: 100, ..Candidate::default() };
        let mut fit: Vec<_> = priorities.iter().map(candidate).enumerate().collect();
        let mut places = Vec::new();
        while let Some(at) = best(order, &fit.iter().map(|(_, candidate)| *candidate).collect::<Vec<_>>()) {
            places.push(fit.remove(at).0);
        }
        places
    }

    #[test]
    fn priority_decides_and_the_tables_order_among_equals() {
        assert_eq!(order_of(PriorityOrder::HighFirst, &[0, 100, -5, 100, i32::MAX]), [4, 1, 3, 0, 2]);
        assert_eq!(order_of(PriorityOrder::LowFirst, &[0, 100, -5, 100, i32::MIN]), [4, 2, 0, 1, 3]);
        assert_eq!(order_of(PriorityOrder::HighFirst, &[]), [0; 0]);
    }
}
