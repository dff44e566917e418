//! May a new request go there? Nobody keeps the answer: it follows from the order, the address, the agent's word and the
//! health each time.

use std::fmt;

use super::agent::AgentWord;
use super::health::Health;
use super::order::Order;

/// Whether a new request may go to a destination, and if not, why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fitness {
    /// It may.
    Fit,
    /// An operator said no.
    Ordered(Order),
    /// Its name has no address.
    Unresolved,
    /// Its agent says no.
    Agent(AgentWord),
    /// Its health says no.
    Unwell(Health),
    /// Other nodes say no, and the set believes them.
    Outvoted,
    /// It has all the sessions, or all the calls of this second, that it may have.
    Full,
    /// One call tries it; the next one may when that has ended.
    OnTrial,
}

impl Fitness {
    /// Whether it may.
    pub fn is_fit(self) -> bool {
        self == Fitness::Fit
    }
}

impl fmt::Display for Fitness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fitness::Fit => write!(f, "fit"),
            Fitness::Ordered(order) => write!(f, "unfit: order {}", order.name()),
            Fitness::Unresolved => write!(f, "unfit: no address"),
            Fitness::Agent(word) => write!(f, "unfit: its agent says {}", word.name()),
            Fitness::Unwell(health) => write!(f, "unfit: {}", health.name()),
            Fitness::Outvoted => write!(f, "unfit: down, as other nodes see it"),
            Fitness::Full => write!(f, "unfit: at its limit"),
            Fitness::OnTrial => write!(f, "unfit: one call tries it"),
        }
    }
}
