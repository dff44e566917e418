//! The four transaction machines of RFC 3261 section 17, with RFC 6026 and RFC 4320, as pure functions, and the table
//! that holds them, sends for them and wakes them.

mod client_invite;
mod client_non_invite;
mod entry;
mod key;
mod machine;
mod originated;
mod server_invite;
mod server_non_invite;
mod table;
pub mod timing;

pub(crate) use key::Key;
pub(crate) use originated::{Answer, Originated, Unanswered};
pub(crate) use server_invite::Acked;
pub use table::{ClientId, ServerId, TransactionKind};
pub(crate) use table::{Happened, Request, Transactions};
