//! Live sessions. A destination's load is the number of its entries here; nobody counts beside this table.

mod ending;
mod entry;
mod forks;
mod index;
mod lately;
mod members;
mod state;
mod table;
mod taken;

pub use ending::Ending;
pub(crate) use entry::{Confirmed, Dialog, Due, FarEnd, Leg, Seat};
pub(crate) use forks::Fork;
pub(crate) use state::{DialogState, Party};
pub(crate) use table::{DialogId, Dialogs, Found};
pub(crate) use taken::GivenUp;
