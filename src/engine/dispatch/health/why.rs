//! The rule behind a health, for people: `tandem show`, events and logs say it.

use std::fmt;
use std::time::Duration;

use super::Witness;

/// The rule behind a health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nothing has been seen yet.
    Started,
    /// It answers.
    Works,
    /// All that was seen of it so far were failures, too few to put it out.
    NoGoodAnswer,
    /// Other nodes probe it, and this one goes by what they tell.
    ProbedElsewhere,
    /// So many probes in a row were bad; the last outcome, if this start has seen it.
    ProbesFailed {
        /// Which probe.
        witness: Witness,
        /// How many in a row.
        failures: u32,
    },
    /// Callers' requests failed: it is out for a while.
    Ejected {
        /// How often in short order.
        times: u32,
        /// For how much longer.
        left: Duration,
    },
    /// It has sat its time out: one call may try it.
    HalfOpen {
        /// Whether one does.
        trial: bool,
    },
    /// It goes up and down too often.
    Flapping {
        /// The penalty; a fall adds 1000.
        penalty: u32,
        /// For how much longer it is out.
        left: Duration,
    },
    /// It said that it has no room.
    NoRoom {
        /// For how much longer it is held out.
        left: Duration,
    },
}

/// What has made a destination go down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FallCause {
    /// Probes that failed.
    Probes,
    /// Callers' requests that failed.
    Calls,
    /// An operator or the table, who said so.
    Order,
}

impl FallCause {
    /// Each of them, in the order of `as usize`.
    pub const ALL: [FallCause; 3] = [FallCause::Probes, FallCause::Calls, FallCause::Order];

    /// As in a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            FallCause::Probes => "probes",
            FallCause::Calls => "calls",
            FallCause::Order => "order",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = |time: &Duration| format!("{:.1} s", time.as_secs_f64());
        match self {
            Why::Started => write!(f, "nothing seen yet"),
            Why::Works => write!(f, "it answers"),
            Why::NoGoodAnswer => write!(f, "no good answer yet"),
            Why::ProbedElsewhere => write!(f, "other nodes probe it"),
            Why::ProbesFailed { witness, failures } => {
                write!(f, "{failures} probes in a row failed ({})", witness.name())
            }
            Why::Ejected { times, left } => {
                write!(f, "calls failed: ejected (time {times}), one call tries it in {}", tenths(left))
            }
            Why::HalfOpen { trial: false } => write!(f, "calls failed before: the next call tries it"),
            Why::HalfOpen { trial: true } => write!(f, "calls failed before: one call tries it now"),
            Why::Flapping { penalty, left } => {
                write!(f, "up and down too often: penalty {penalty}, out for {}", tenths(left))
            }
            Why::NoRoom { left } => write!(f, "it has no room: asked again in {}", tenths(left)),
        }
    }
}
