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
