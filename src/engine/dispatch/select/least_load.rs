//! Algorithms by load: the destination with the fewest live sessions is next (Kamailio's 10), the better of two drawn by lot,
//! or the one that would answer soonest (peak EWMA). A load is a count of the dialog table, never kept beside it.

use fastrand::Rng;

use super::{Candidate, random};

/// Whose load is least, by weight: two sessions at weight 2 are as much as one at weight 1. By lot among equals, since the
/// table's order would send a burst to its first.
pub(super) fn least(rng: &mut Rng, fit: &[Candidate]) -> Option<usize> {
    by_cost(rng, fit, sessions)
}

/// Its sessions with the call.
pub(super) fn sessions(candidate: &Candidate) -> f64 {
    candidate.load as f64 + 1.0
}

/// Whose load is least against its capacity; one without capacity has all the room in the world.
pub(super) fn least_relative(rng: &mut Rng, fit: &[Candidate]) -> Option<usize> {
    by_cost(rng, fit, fullness)
}

/// How full the call would make it; one without limit has all the room in the world.
pub(super) fn fullness(candidate: &Candidate) -> f64 {
    candidate.fullness.unwrap_or(f64::MIN_POSITIVE * sessions(candidate))
}

/// The less loaded of two that were drawn by weight: nearly as even as the least loaded of all, and no herd runs to one that
/// has just come back (Mitzenmacher, 2001).
pub(super) fn of_two(rng: &mut Rng, fit: &[Candidate]) -> Option<usize> {
    let first = random::draw(rng, fit)?;
    let others: Vec<Candidate> = fit.iter().enumerate().filter(|(at, _)| *at != first).map(|(_, one)| *one).collect();
    let second = random::draw(rng, &others).map(|at| if at >= first { at + 1 } else { at });
    // Weight 0 is drawn only where nobody has any.
    let second = second.filter(|&second| fit[second].weight > 0 || fit[first].weight == 0);
    let load = |at: &usize| load_of_two(&fit[*at]);
    Some(second.filter(|second| load(second) < load(&first)).unwrap_or(first))
}

/// What two that were drawn are compared by.
pub(super) fn load_of_two(candidate: &Candidate) -> f64 {
    (candidate.load + 1) as f64 / f64::from(candidate.weight.max(1))
}

/// Who would answer soonest: its latency of late, times what is before the call.
pub(super) fn soonest(rng: &mut Rng, fit: &[Candidate]) -> Option<usize> {
    by_cost(rng, fit, time)
}

/// When it would have answered, in seconds.
pub(super) fn time(candidate: &Candidate) -> f64 {
    candidate.latency.max(1e-6) * sessions(candidate)
}

/// The cost of each by its weight; weight 0 counts only where nobody has any.
pub(super) fn costs(fit: &[Candidate], cost: fn(&Candidate) -> f64) -> impl Iterator<Item = f64> + Clone {
    let weighted = fit.iter().any(|candidate| candidate.weight > 0);
    fit.iter().map(move |candidate| match (weighted, candidate.weight) {
        (true, 0) => f64::INFINITY,
        (true, weight) => cost(candidate) / f64::from(weight),
        (false, _) => cost(candidate),
    })
}

fn by_cost(rng: &mut Rng, fit: &[Candidate], cost: fn(&Candidate) -> f64) -> Option<usize> {
    let costs = costs(fit, cost);
    let least = costs.clone().fold(f64::INFINITY, f64::min);
    let equals = costs.enumerate().filter(|(_, cost)| *cost <= least);
    let nth = rng.usize(..equals.clone().count().max(1));
    equals.map(|(at, _)| at).nth(nth)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(weight: u32, load: u64) -> Candidate {
        Candidate { weight, load, ..Candidate::default() }
    }

    #[test]
    fn the_least_loaded_by_weight_is_next_and_equals_share() {
        let mut rng = Rng::with_seed(1);
        assert_eq!(least(&mut rng, &[candidate(1, 3), candidate(1, 1), candidate(1, 2)]), Some(1));
        assert_eq!(least(&mut rng, &[candidate(1, 1), candidate(3, 3)]), Some(1), "4/3 is less than 2/1");
        assert_eq!(least(&mut rng, &[candidate(0, 0), candidate(1, 50)]), Some(1));
        let equal = [candidate(1, 0), candidate(1, 0)];
        let first = (0..1000).filter(|_| least(&mut rng, &equal) == Some(0)).count();
        assert!((400..600).contains(&first), "{first}");
        assert_eq!(least(&mut rng, &[]), None);
    }

    #[test]
    fn relative_load_is_against_capacity() {
        let mut rng = Rng::with_seed(1);
        let of = |load, fullness| Candidate { fullness, ..candidate(1, load) };
        assert_eq!(least_relative(&mut rng, &[of(10, Some(0.11)), of(5, Some(0.3))]), Some(0));
        assert_eq!(least_relative(&mut rng, &[of(0, Some(0.01)), of(1000, None)]), Some(1));
    }

    #[test]
    fn two_choices_level_loads_without_looking_at_all() {
        let mut rng = Rng::with_seed(1);
        let mut fit = vec![candidate(1, 0); 10];
        for _ in 0..10_000 {
            let at = of_two(&mut rng, &fit).expect("somebody");
            fit[at].load += 1;
        }
        assert_eq!(of_two(&mut rng, &[candidate(1, 9), candidate(0, 0)]), Some(0));
        let loads: Vec<_> = fit.iter().map(|one| one.load).collect();
        assert!(loads.iter().max().expect("ten") - loads.iter().min().expect("ten") < 20, "{loads:?}");
    }

    #[test]
    fn a_slow_one_gets_less_until_the_others_wait_as_long() {
        let mut rng = Rng::with_seed(1);
        let of = |load, latency| Candidate { latency, ..candidate(1, load) };
        assert_eq!(soonest(&mut rng, &[of(0, 0.5), of(3, 0.1)]), Some(1));
        assert_eq!(soonest(&mut rng, &[of(0, 0.5), of(6, 0.1)]), Some(0));
    }
}
