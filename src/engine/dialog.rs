//! Live sessions. A destination's load is the number of its entries here; nobody counts beside this table.

mod asked;
mod order;
mod table;

pub(crate) use table::{DialogId, Dialogs, FarEnd, Leg, Seat};
