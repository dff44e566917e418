//! Algorithm 6: by lot, each with the chance of its weight.

use fastrand::Rng;

use super::Candidate;

/// Draws one; none if there is nobody. Weight 0 is drawn only when nobody has any weight, and then all have the same chance.
pub(super) fn draw(rng: &mut Rng, fit: &[Candidate]) -> Option<usize> {
    let sum: u64 = fit.iter().map(|candidate| u64::from(candidate.weight)).sum();
    if sum == 0 {
        return (!fit.is_empty()).then(|| rng.usize(..fit.len()));
    }
    let mut ticket = rng.u64(..sum);
    fit.iter().position(|candidate| match ticket.checked_sub(u64::from(candidate.weight)) {
        Some(left) => {
            ticket = left;
            false
        }
        None => true,
    })
}

/// The chance of each, in percent.
pub(super) fn chances(fit: &[Candidate]) -> impl Iterator<Item = f64> {
    let sum: u64 = fit.iter().map(|candidate| u64::from(candidate.weight)).sum();
    let (each, sum) = if sum == 0 { (Some(1), fit.len() as f64) } else { (None, sum as f64) };
    fit.iter().map(move |candidate| 100.0 * f64::from(each.unwrap_or(candidate.weight)) / sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(weights: &[u32]) -> Vec<Candidate> {
        weights
            .iter()
            .map(|&weight| Candidate {
                id: Default::default(),
                weight,
                priority: 0,
                share: 100,
                ..Candidate::default()
            })
            .collect()
    }

    fn counts(weights: &[u32], draws: u32) -> Vec<u32> {
        let (fit, mut rng) = (fit(weights), Rng::with_seed(19));
        let mut counts = vec![0; weights.len()];
        for _ in 0..draws {
            counts[draw(&mut rng, &fit).expect("somebody")] += 1;
        }
        counts
    }

    /// Pearson's sum for the hypothesis that the counts follow the weights.
    fn chi_squared(counts: &[u32], weights: &[u32]) -> f64 {
        let draws: f64 = counts.iter().map(|&count| f64::from(count)).sum();
        let sum: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
        let expected = weights.iter().map(|&weight| draws * f64::from(weight) / sum);
        counts.iter().zip(expected).map(|(&count, expected)| (f64::from(count) - expected).powi(2) / expected).sum()
    }

    #[test]
    fn chances_are_as_the_weights() {
        // The 0.999 quantiles of 4 and 2 degrees of freedom.
        let weights = [1, 2, 3, 10, 50];
        assert!(chi_squared(&counts(&weights, 100_000), &weights) < 18.47);
        assert!(chi_squared(&counts(&[0, 0, 0], 30_000), &[1, 1, 1]) < 13.82);
        let biased = chi_squared(&counts(&[1, 2, 3, 10, 51], 1_000_000), &[1, 2, 3, 11, 50]);
        assert!(biased > 18.47, "the test sees a wrong weight: {biased}");
    }

    #[test]
    fn weight_zero_is_not_drawn_beside_others_and_nobody_from_nobody() {
        assert_eq!(counts(&[0, 5, 0], 1000), [0, 1000, 0]);
        assert_eq!(draw(&mut Rng::with_seed(1), &[]), None);
    }

    #[test]
    fn large_weights_do_not_overflow() {
        let even = counts(&[u32::MAX; 4], 40_000);
        assert!(even.iter().all(|count| (9_000..11_000).contains(count)), "{even:?}");
    }
}
