//! Destination sets: what was loaded, who is fit, and who is next.

mod destination;
mod select;

pub use destination::{Destination, DestinationId, Order, Row, RowState, Set, SetId, Sets};
pub use select::{Algorithm, PriorityOrder};

use crate::engine::sip::Reply;

/// How a set chooses and what it answers when it has nobody: one `[[set]]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The set that this is for.
    pub set: SetId,
    /// A name for people; empty if none.
    pub name: String,
    /// How the next destination is chosen.
    pub algorithm: Algorithm,
    /// Which priority number comes first.
    pub priority_order: PriorityOrder,
    /// The answer when no destination is fit.
    pub empty_reply: Reply,
}
