//! The algorithms that choose the next destination: one file each.

mod least_load;
mod priority;
mod random;
mod round_robin;

use std::fmt;

use fastrand::Rng;

use self::round_robin::RoundRobin;
use super::{DestinationId, Plan, Policy};

/// How a set chooses the next destination; the numbers are OpenSIPS's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// 4: smooth weighted round robin.
    #[default]
    RoundRobin,
    /// 6: at random, by weight.
    Random,
    /// 8: the first fit one in the order of priority.
    Priority,
    /// The fewest live sessions by weight (Kamailio's 10).
    LeastLoad,
    /// The fewest live sessions against the capacity.
    LeastLoadRelative,
    /// The less loaded of two drawn by weight.
    LeastLoadP2c,
    /// The one that answers soonest: latency of late times sessions (Kamailio's 13 is alike).
    PeakEwma,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Algorithm; 7] = [
        Algorithm::RoundRobin,
        Algorithm::Random,
        Algorithm::Priority,
        Algorithm::LeastLoad,
        Algorithm::LeastLoadRelative,
        Algorithm::LeastLoadP2c,
        Algorithm::PeakEwma,
    ];

    /// As in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::RoundRobin => "round_robin",
            Algorithm::Random => "random",
            Algorithm::Priority => "priority",
            Algorithm::LeastLoad => "least_load",
            Algorithm::LeastLoadRelative => "least_load_relative",
            Algorithm::LeastLoadP2c => "least_load_p2c",
            Algorithm::PeakEwma => "peak_ewma",
        }
    }

    /// OpenSIPS's number for it; none where OpenSIPS has nothing like it (its 10 is a script's score, not a load).
    pub fn number(self) -> Option<u32> {
        match self {
            Algorithm::RoundRobin => Some(4),
            Algorithm::Random => Some(6),
            Algorithm::Priority => Some(8),
            Algorithm::LeastLoad | Algorithm::LeastLoadRelative | Algorithm::LeastLoadP2c | Algorithm::PeakEwma => None,
        }
    }

    /// The algorithm of that name, or of that OpenSIPS number in digits.
    pub fn from_name_or_number(text: &str) -> Option<Self> {
        let numbered = |algorithm: &Algorithm| algorithm.number().is_some_and(|number| text == number.to_string());
        Self::ALL.into_iter().find(|algorithm| text == algorithm.name() || numbered(algorithm))
    }
}

/// Which priority number comes first: OpenSIPS and Kamailio's algorithm 8 say the highest, SRV says the lowest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PriorityOrder {
    /// The highest number first.
    #[default]
    HighFirst,
    /// The lowest number first.
    LowFirst,
}

/// A fit destination, as the algorithms see it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Candidate {
    pub(super) id: DestinationId,
    pub(super) weight: u32,
    pub(super) priority: i32,
    /// How much of its weight it gets now, in percent.
    pub(super) share: u32,
    /// Its live sessions.
    pub(super) load: u64,
    /// How full the call would make it, by the nearest of its limits; none without limit.
    pub(super) fullness: Option<f64>,
    /// How long it takes to answer a call, in seconds.
    pub(super) latency: f64,
}

impl Candidate {
    /// Weighs it by its share. All of a set are weighed so, since a tenth of weight 1 is none.
    pub(super) fn weigh_by_share(&mut self) {
        self.weight = self.weight.saturating_mul(self.share);
    }
}

/// What an algorithm makes of a candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Score {
    /// Round robin: the turns of this cycle that it has had, of those that it gets; not counted for one that has more than
    /// half of all. The one that lags most is next.
    Turns {
        /// So many it has had.
        had: Option<u64>,
        /// So many it gets.
        of: u64,
        /// So many the cycle has.
        cycle: u64,
    },
    /// By lot: its chance, in percent.
    Chance(f64),
    /// By priority: its number.
    Priority(i32),
    /// By load or latency: what it costs by its weight. The least is next.
    Cost(f64),
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Score::Turns { had: Some(had), of, cycle: _ } => write!(f, "had {had} of {of} turns"),
            Score::Turns { had: None, of, cycle } => write!(f, "gets {of} of {cycle} turns"),
            Score::Chance(percent) => write!(f, "chance {percent:.1}%"),
            Score::Priority(priority) => write!(f, "priority {priority}"),
            Score::Cost(cost) if cost.is_infinite() => write!(f, "weight 0"),
            Score::Cost(cost) if *cost > 0.0 && *cost < 0.001 => write!(f, "cost {cost:.1e}"),
            Score::Cost(cost) => write!(f, "cost {cost:.3}"),
        }
    }
}

/// All that the algorithms remember from one plan to the next, for one set and one kind of request.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    rng: Rng,
    round_robin: RoundRobin,
}

impl Turns {
    pub(super) fn new(seed: u64) -> Self {
        Turns { rng: Rng::with_seed(seed), round_robin: RoundRobin::default() }
    }

    /// What the algorithm makes of each, in their order, before it steps.
    pub(super) fn scores(&self, policy: &Policy, fit: &[Candidate]) -> Vec<Score> {
        match policy.algorithm {
            Algorithm::RoundRobin => {
                let (turns, cycle) = self.round_robin.clone().turns(fit);
                turns.into_iter().map(|(had, of)| Score::Turns { had, of, cycle }).collect()
            }
            Algorithm::Random => random::chances(fit).map(Score::Chance).collect(),
            Algorithm::Priority => fit.iter().map(|one| Score::Priority(one.priority)).collect(),
            Algorithm::LeastLoad => least_load::costs(fit, least_load::sessions).map(Score::Cost).collect(),
            Algorithm::LeastLoadRelative => least_load::costs(fit, least_load::fullness).map(Score::Cost).collect(),
            Algorithm::LeastLoadP2c => fit.iter().map(least_load::load_of_two).map(Score::Cost).collect(),
            Algorithm::PeakEwma => least_load::costs(fit, least_load::time).map(Score::Cost).collect(),
        }
    }

    /// Moves the fit destinations, which are in the table's order, into the plan, best first, until it is full.
    pub(super) fn plan(&mut self, policy: &Policy, fit: &mut Vec<Candidate>, plan: &mut Plan) {
        match policy.algorithm {
            Algorithm::RoundRobin => {
                if let Some(first) = self.round_robin.next(fit) {
                    plan.0.push(fit.remove(first).id);
                }
                // By lot, since a fixed neighbour would bear the whole load of one that is dead and not yet known to be.
                fill(fit, plan, |fit| random::draw(&mut self.rng, fit));
            }
            Algorithm::Random => fill(fit, plan, |fit| random::draw(&mut self.rng, fit)),
            Algorithm::Priority => fill(fit, plan, |fit| priority::best(policy.priority_order, fit)),
            Algorithm::LeastLoad => fill(fit, plan, |fit| least_load::least(&mut self.rng, fit)),
            Algorithm::LeastLoadRelative => fill(fit, plan, |fit| least_load::least_relative(&mut self.rng, fit)),
            Algorithm::LeastLoadP2c => fill(fit, plan, |fit| least_load::of_two(&mut self.rng, fit)),
            Algorithm::PeakEwma => fill(fit, plan, |fit| least_load::soonest(&mut self.rng, fit)),
        }
    }
}

/// Fills the plan with what `choose` says, again and again, of those that are left.
fn fill(fit: &mut Vec<Candidate>, plan: &mut Plan, mut choose: impl FnMut(&[Candidate]) -> Option<usize>) {
    while !plan.is_full() {
        match choose(fit) {
            Some(at) => plan.0.push(fit.remove(at).id),
            None => return,
        }
    }
}
