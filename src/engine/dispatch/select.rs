//! The algorithms that choose the next destination: one file each.

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
