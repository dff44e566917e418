//! Live sessions. A destination's load is the number of its entries here; nobody counts beside this table.

mod ending;
mod order;
mod table;

pub use ending::Ending;
pub(crate) use table::{DialogId, Dialogs, FarEnd, Leg, Seat};
