//! What a drill may cost at most.

use std::time::Duration;

use serde::Serialize;

/// Limits of one drill; none: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Established sessions whose BYE gets no 2xx.
    pub lost: u64,
    /// New calls that fail.
    pub failed: u64,
    /// The longest time in which a caller hears nothing.
    pub gap: Duration,
    /// From the act until the last node that must notice has.
    pub detection: Option<Duration>,
    /// From the undoing until all nodes are as before.
    pub recovery: Option<Duration>,
    /// Sessions that the nodes still count when all calls are over.
    pub left: Option<u64>,
    /// What each node counts in the cluster may differ from the sessions that there are, when all is well again, by the calls of so
    /// long: nodes hear of each other's with a delay.
    pub count: Option<Duration>,
    /// Nodes that did not know another's version while they were of several.
    pub unheard: Option<u64>,
}

/// One limit and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bound {
    /// What is bounded.
    pub what: &'static str,
    /// The limit.
    pub most: String,
    /// What it was.
    pub was: String,
    /// Whether it is within the limit.
    pub holds: bool,
}

impl Bound {
    /// So many, at most.
    pub fn count(what: &'static str, was: u64, most: u64) -> Self {
        Bound { what, most: most.to_string(), was: was.to_string(), holds: was <= most }
    }

    /// So long, at most; what has not been at all is beyond every limit.
    pub fn time(what: &'static str, was: Option<Duration>, most: Duration) -> Self {
        let text = was.map_or_else(|| "never".to_owned(), |was| format!("{was:?}"));
        Bound { what, most: format!("{most:?}"), was: text, holds: was.is_some_and(|was| was <= most) }
    }
}
