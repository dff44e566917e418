//! Algorithm 4: smooth weighted round robin.
//!
//! A cycle has as many turns as the weights' sum (divided by what they have in common), and each destination gets as many of
//! them as its weight. No destination gets more turns in a row than its share asks for, `ceil(w / (W - w))` of them for weight
//! `w` of sum `W`, also from one cycle to the next. The usual scheme (credit grows by weight, the richest pays the sum) does
//! not hold that where cycles meet, so:
//!
//! - One that has more than half of all weight (`heavy`) gets its turns by an error accumulator, as a line is drawn on a
//!   raster; the others share the turns between, and never meet.
//! - If nobody has, nobody may have two turns in a row. The one that lags most behind its share is next, except the last
//!   one, and except that one which has so many turns left that they would have to touch comes first.
//!
//! Nothing is precomputed, so a weight may be large, and a change of weights or of who is fit goes on in the midst of the
//! cycle: who stays keeps the turns that it has had, who is new begins as if it had had its share, so it gets no burst.

use super::{Candidate, DestinationId};

/// What is remembered between two turns.
#[derive(Clone, Debug, Default)]
pub(super) struct RoundRobin {
    /// The fit destinations that have weight, in the table's order.
    entries: Vec<Entry>,
    /// Those that had turns in this cycle and are not fit now: coming back, they may not have the same turns again.
    gone: Vec<Entry>,
    /// The sum of all shares: the turns of a cycle.
    cycle: u64,
    /// Which entry has more than half of the cycle.
    heavy: Option<usize>,
    /// The accumulator of `heavy`'s turns, less than `cycle`.
    error: u64,
    /// Who had the last turn, and how many in a row.
    last: Option<DestinationId>,
    run: u64,
    /// Who had the first turn of the cycle and so may not have its last one.
    first: Option<DestinationId>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    id: DestinationId,
    weight: u32,
    /// The weight by the greatest common divisor: turns in a cycle.
    share: u64,
    /// Turns that it has had in this cycle; not counted for `heavy`.
    given: u64,
    /// Has come back (or is new) and had no turn since: among equals it goes first, or one that comes and goes in step with
    /// the turns might never get any.
    back: bool,
}

impl RoundRobin {
    /// Whose turn it is: a place in `fit`. None if there is nobody.
    pub(super) fn next(&mut self, fit: &[Candidate]) -> Option<usize> {
        self.adapt(fit);
        let at = self.step()?;
        let id = self.entries[at].id;
        self.run = if self.last == Some(id) { self.run + 1 } else { 1 };
        self.last = Some(id);
        fit.iter().position(|candidate| candidate.id == id)
    }

    /// How many turns of this cycle each has had, and how many it gets; how many the cycle has. Those of one that has more
    /// than half of all are not counted.
    pub(super) fn turns(&mut self, fit: &[Candidate]) -> (Vec<(Option<u64>, u64)>, u64) {
        self.adapt(fit);
        let heavy = self.heavy;
        // In the order of `fit`, those without weight left out.
        let mut entries = self.entries.iter().enumerate().peekable();
        let turns = fit.iter().map(|one| match entries.next_if(|(_, entry)| entry.id == one.id) {
            Some((at, entry)) => ((heavy != Some(at)).then_some(entry.given), entry.share),
            None => (Some(0), 0),
        });
        (turns.collect(), self.cycle)
    }

    /// Goes on with these, if they are others than before.
    fn adapt(&mut self, fit: &[Candidate]) {
        if !self.matches(fit) {
            self.change(fit);
        }
    }

    fn matches(&self, fit: &[Candidate]) -> bool {
        weighted(fit).eq(self.entries.iter().map(|entry| (entry.id, entry.weight)))
    }

    /// Goes on with other destinations or weights.
    fn change(&mut self, fit: &[Candidate]) {
        let mut old = std::mem::take(&mut self.entries);
        let old_heavy = self.heavy.map(|heavy| old.remove(heavy).id);
        let news = !old.is_empty();
        old.extend(self.gone.drain(..).map(|entry| Entry { back: news, ..entry }));
        old.sort_unstable_by_key(|entry| entry.id);
        let before = |id| old.binary_search_by_key(&id, |entry| entry.id).ok().map(|at| old[at]);

        let divisor = weighted(fit).fold(0, |divisor, (_, weight)| gcd(divisor, weight)).max(1);
        let shares = || weighted(fit).map(|(id, weight)| (id, weight, u64::from(weight / divisor)));
        let stay = shares().filter_map(|(id, ..)| before(id));
        let stay = stay.fold(Progress::default(), |sum, one| Progress {
            given: sum.given + one.given,
            share: sum.share + one.share,
        });
        // All stand where the cycle as a whole stood; how many turns one was ahead or behind does not grow with its weight.
        let kept = |entry: Entry, share| {
            let whole = stay.of(share);
            (whole + entry.given).saturating_sub(stay.of(entry.share)).min(share)
        };
        self.entries = shares()
            .map(|(id, weight, share)| Entry {
                id,
                weight,
                share,
                given: before(id).map_or_else(|| stay.of(share), |entry| kept(entry, share)),
                back: before(id).map_or(news, |entry| entry.back),
            })
            .collect();
        let mut here: Vec<_> = self.entries.iter().map(|entry| entry.id).collect();
        here.sort_unstable();
        old.retain(|entry| entry.given > 0 && here.binary_search(&entry.id).is_err());
        self.gone = old;
        let old_cycle = self.cycle;
        self.cycle = self.entries.iter().map(|entry| entry.share).sum();
        self.heavy = self.entries.iter().position(|entry| 2 * entry.share > self.cycle);
        let Some(heavy) = self.heavy.map(|heavy| self.entries[heavy]) else { return };
        let phase = match old_heavy == Some(heavy.id) {
            true => Progress { given: self.error, share: old_cycle }.of(self.cycle),
            false => 0,
        };
        // Its run goes on, so that a change is no occasion for a longer one.
        let run = if self.last == Some(heavy.id) { self.run.saturating_mul(self.cycle - heavy.share) } else { 0 };
        self.error = phase.max(run).min(self.cycle - 1);
    }

    fn step(&mut self) -> Option<usize> {
        let Some(heavy) = self.heavy else { return self.most_behind() };
        self.error += self.cycle - self.entries[heavy].share;
        if self.error < self.cycle {
            return Some(heavy);
        }
        self.error -= self.cycle;
        self.most_behind()
    }

    /// The next of those that are not heavy.
    fn most_behind(&mut self) -> Option<usize> {
        let cycle = self.cycle - self.heavy.map_or(0, |heavy| self.entries[heavy].share);
        let mut given: u64 = self.light().map(|(_, entry)| entry.given).sum();
        let mut choice = self.choose(cycle, given);
        if choice.is_none() {
            // The cycle is complete (or a change has left it without a way to its end).
            self.entries.iter_mut().for_each(|entry| entry.given = 0);
            self.gone.clear();
            given = 0;
            choice = self.choose(cycle, given);
        }
        let at = choice?;
        if given == 0 {
            self.first = Some(self.entries[at].id);
        }
        self.entries[at].given += 1;
        self.entries[at].back = false;
        Some(at)
    }

    fn choose(&self, cycle: u64, given: u64) -> Option<usize> {
        let left = cycle - given;
        // Between two light ones there is always the heavy one: nothing to keep apart.
        let (last, first) = if self.heavy.is_some() { (None, None) } else { (self.last, self.first) };
        let mut most: Option<(Rank, usize)> = None;
        for (at, entry) in self.light() {
            let due = entry.share - entry.given;
            if due == 0 || Some(entry.id) == last {
                continue;
            }
            // After this turn `left - 1` turns are left, of which one destination can have every other, the first of them
            // and the last included; but not the last one if it had the first turn of the cycle.
            let room = if Some(entry.id) == first && given > 0 { (left - 1) / 2 } else { left / 2 };
            let must = self.heavy.is_none() && due > room;
            let lag = i128::from(given + 1) * i128::from(entry.share) - i128::from(cycle) * i128::from(entry.given);
            let rank = (must, lag, entry.back);
            // Of equals the first of the table.
            if most.is_none_or(|(best, _)| rank > best) {
                most = Some((rank, at));
            }
        }
        most.map(|(_, at)| at)
    }

    fn light(&self) -> impl Iterator<Item = (usize, &Entry)> {
        self.entries.iter().enumerate().filter(|(at, _)| Some(*at) != self.heavy)
    }
}

/// Whether it must be now, by how much it lags behind its share, and whether it has come back.
type Rank = (bool, i128, bool);

/// How much of its share somebody has had.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    given: u64,
    share: u64,
}

impl Progress {
    /// As much of another share, rounded down.
    fn of(self, share: u64) -> u64 {
        match self.share {
            0 => 0,
            own => (u128::from(self.given) * u128::from(share) / u128::from(own)) as u64,
        }
    }
}

/// Who takes part: those that have weight, or all alike if nobody has.
fn weighted(fit: &[Candidate]) -> impl Iterator<Item = (DestinationId, u32)> + '_ {
    let all_zero = fit.iter().all(|candidate| candidate.weight == 0);
    fit.iter()
        .map(move |candidate| (candidate.id, if all_zero { 1 } else { candidate.weight }))
        .filter(|&(_, weight)| weight > 0)
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use fastrand::Rng;
    use slotmap::SlotMap;

    use super::*;

    struct Farm {
        all: Vec<Candidate>,
        turns: RoundRobin,
    }

    impl Farm {
        fn new(weights: &[u32]) -> Self {
            let mut ids = SlotMap::<DestinationId, ()>::with_key();
            let all = weights
                .iter()
                .map(|&weight| Candidate {
                    id: ids.insert(()),
                    weight,
                    priority: 0,
                    share: 100,
                    ..Candidate::default()
                })
                .collect();
            Farm { all, turns: RoundRobin::default() }
        }

        /// The next one among those that `fit` lets pass, by its place in the table.
        fn next(&mut self, fit: impl Fn(usize) -> bool) -> Option<usize> {
            let fit: Vec<_> = self.all.iter().enumerate().filter(|(at, _)| fit(*at)).map(|(_, one)| *one).collect();
            let chosen = fit[self.turns.next(&fit)?].id;
            self.all.iter().position(|one| one.id == chosen)
        }

        fn take(&mut self, turns: usize) -> Vec<usize> {
            (0..turns).map(|_| self.next(|_| true).expect("somebody")).collect()
        }

        fn letters(&mut self, turns: usize) -> String {
            self.take(turns).into_iter().map(|at| char::from(b'a' + at as u8)).collect()
        }
    }

    /// `ceil(w / (W - w))`; no limit for one that is alone.
    fn cap(weights: &[u32], at: usize) -> usize {
        let others: u64 = weights.iter().map(|&weight| u64::from(weight)).sum::<u64>() - u64::from(weights[at]);
        if others == 0 { usize::MAX } else { u64::from(weights[at]).div_ceil(others) as usize }
    }

    fn runs(sequence: &[usize]) -> impl Iterator<Item = (usize, usize)> + '_ {
        sequence.chunk_by(|a, b| a == b).map(|run| (run[0], run.len()))
    }

    fn random_weights(rng: &mut Rng) -> Vec<u32> {
        let most = [1, 2, 3, 5, 12, 40][rng.usize(..6)];
        let mut weights: Vec<u32> = (0..rng.usize(1..8)).map(|_| rng.u32(1..=most)).collect();
        if rng.u8(..4) == 0 {
            weights[0] = weights.iter().sum::<u32>() * rng.u32(1..=4) / rng.u32(1..=4);
            weights[0] = weights[0].max(1);
        }
        weights
    }

    #[test]
    fn equal_weights_alternate_in_the_tables_order() {
        assert_eq!(Farm::new(&[1, 1]).letters(6), "ababab");
        assert_eq!(Farm::new(&[50, 50, 50]).letters(9), "abcabcabc");
        assert_eq!(Farm::new(&[7; 5]).letters(10), "abcdeabcde");
    }

    #[test]
    fn without_weights_all_alternate_and_beside_weights_nothing_is_given_to_zero() {
        assert_eq!(Farm::new(&[0, 0, 0]).letters(6), "abcabc");
        assert_eq!(Farm::new(&[0, 1, 1]).letters(6), "bcbcbc");
        assert_eq!(Farm::new(&[0]).letters(2), "aa");
        assert_eq!(Farm::new(&[]).next(|_| true), None);
    }

    #[test]
    fn a_heavy_one_is_spread_evenly_also_where_cycles_meet() {
        assert_eq!(Farm::new(&[5, 1, 1]).letters(14), "aaabaacaaabaac");
        assert_eq!(Farm::new(&[1, 3]).letters(8), "bbbabbba");
        assert_eq!(Farm::new(&[2, 1, 1]).letters(8), "abacabac");
    }

    #[test]
    fn any_window_of_one_cycle_has_exact_shares_and_no_run_is_longer_than_its_share() {
        for seed in 0..4000 {
            let mut rng = Rng::with_seed(seed);
            let weights = random_weights(&mut rng);
            let divisor = weights.iter().copied().fold(0, gcd);
            let cycle = (weights.iter().sum::<u32>() / divisor) as usize;
            let sequence = Farm::new(&weights).take(3 * cycle);
            for at in 0..weights.len() {
                let share = (weights[at] / divisor) as usize;
                let mut window = sequence[..cycle].iter().filter(|&&one| one == at).count();
                assert_eq!(window, share, "seed {seed}: {weights:?}");
                for end in cycle..sequence.len() {
                    window = window + usize::from(sequence[end] == at) - usize::from(sequence[end - cycle] == at);
                    assert_eq!(window, share, "seed {seed}: {weights:?} up to turn {end}");
                }
            }
            for (at, run) in runs(&sequence) {
                assert!(run <= cap(&weights, at), "seed {seed}: {weights:?}: {at} had {run} turns in a row");
            }
        }
    }

    #[test]
    fn nobody_is_ever_more_than_two_turns_from_its_share() {
        let mut worst: f64 = 0.0;
        for seed in 0..2000 {
            let weights = random_weights(&mut Rng::with_seed(seed));
            let sum = f64::from(weights.iter().sum::<u32>());
            let mut given = vec![0.0; weights.len()];
            for (turn, at) in Farm::new(&weights).take(2 * sum as usize).into_iter().enumerate() {
                given[at] += 1.0;
                for (given, &weight) in given.iter().zip(&weights) {
                    worst = worst.max((given - (turn + 1) as f64 * f64::from(weight) / sum).abs());
                }
            }
        }
        assert!(worst < 2.0, "{worst}");
    }

    #[test]
    fn large_weights_cost_no_more_and_are_exact() {
        for weights in
            [&[65_535, 1][..], &[65_535, 65_534, 3], &[40_000, 30_001, 20_000, 9_999], &[u32::MAX, u32::MAX - 1]]
        {
            let cycle: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
            let turns = cycle.min(200_000);
            let sequence = Farm::new(weights).take(turns as usize);
            for (at, &weight) in weights.iter().enumerate() {
                let given = sequence.iter().filter(|&&one| one == at).count() as f64;
                let share = f64::from(weight) * turns as f64 / cycle as f64;
                assert!(
                    (given - share).abs() < if turns == cycle { 1e-6 } else { 2.0 },
                    "{weights:?}: {at} had {given}"
                );
            }
            assert!(runs(&sequence).all(|(at, run)| run <= cap(weights, at)), "{weights:?}");
        }
    }

    #[test]
    fn who_comes_back_gets_its_share_and_no_burst() {
        let mut farm = Farm::new(&[1, 1, 1]);
        farm.take(4);
        let without_b: Vec<_> = (0..50).map(|_| farm.next(|at| at != 1).expect("somebody")).collect();
        assert!(runs(&without_b).all(|(_, run)| run == 1), "{without_b:?}");
        let again = farm.take(30);
        assert!(runs(&again).all(|(_, run)| run == 1));
        let had = again.iter().take(9).filter(|&&at| at == 1).count();
        assert!((2..=4).contains(&had), "{again:?}");
        assert_eq!(farm.take(300).iter().filter(|&&at| at == 1).count(), 100);
    }

    #[test]
    fn a_new_weight_neither_starves_nor_floods_anybody() {
        for before in 1..3 {
            let mut farm = Farm::new(&[1, 1, 1]);
            farm.take(before);
            for (one, weight) in farm.all.iter_mut().zip([1000, 999, 998]) {
                one.weight = weight;
            }
            let turns = farm.take(30);
            assert!((0..3).all(|at| (8..=12).contains(&turns.iter().filter(|&&one| one == at).count())), "{turns:?}");
        }
    }

    #[test]
    fn one_that_flaps_does_not_bend_the_shares_of_the_others() {
        for (every, weights) in [(7, vec![1; 20]), (3, vec![1; 10]), (5, vec![4, 4, 2, 2, 1, 1, 3, 3]), (1, vec![1; 6])]
        {
            let mut farm = Farm::new(&weights);
            let flapping = weights.len() - 1;
            let mut given: HashMap<usize, u32> = HashMap::new();
            for turn in 0..20_000 {
                let up = turn / every % 2 == 0;
                *given.entry(farm.next(|at| at != flapping || up).expect("somebody")).or_default() += 1;
            }
            let per_weight = |at: usize| f64::from(given[&at]) / f64::from(weights[at]);
            let shares: Vec<f64> = (0..flapping).map(per_weight).collect();
            let mean = shares.iter().sum::<f64>() / shares.len() as f64;
            assert!(shares.iter().all(|share| (share / mean - 1.0).abs() < 0.1), "{weights:?}: {given:?}");
            assert!((0.3..1.01).contains(&(per_weight(flapping) / mean)), "{weights:?}: {given:?}");
        }
    }

    #[test]
    fn no_change_makes_a_run_longer_than_the_shares_before_and_after_it_allow() {
        for seed in 0..1000 {
            let mut rng = Rng::with_seed(seed);
            let mut farm = Farm::new(&random_weights(&mut rng));
            let mut run = (usize::MAX, 0, 0);
            for _ in 0..20 {
                let mut up: Vec<bool> = farm.all.iter().map(|_| rng.u8(..3) > 0).collect();
                up[rng.usize(..farm.all.len())] = true;
                if rng.u8(..3) == 0 {
                    let at = rng.usize(..farm.all.len());
                    farm.all[at].weight = rng.u32(1..20);
                }
                let weights: Vec<u32> = farm.all.iter().zip(&up).map(|(one, up)| one.weight * u32::from(*up)).collect();
                for turn in 0..rng.usize(1..30) {
                    let at = farm.next(|at| up[at]).expect("somebody");
                    assert!(up[at], "seed {seed}: an unfit one");
                    let before = if run.0 == at { run } else { (at, 0, 0) };
                    // What was allowed before the change stays allowed; a run that was too long already has ended.
                    let allowed = cap(&weights, at).max(if turn == 0 || before.1 < before.2 { before.2 } else { 0 });
                    run = (at, before.1 + 1, allowed);
                    let forced = before.1 > 0 && before.1 >= cap(&weights, at);
                    assert!(run.1 <= allowed && !forced, "seed {seed}: {weights:?}: {run:?}");
                }
            }
        }
    }
}
