//! SIP messages: received bytes are kept and looked at in place, what changes is spliced in.

mod address;
mod header;
mod lex;
mod message;
mod uri;
mod via;

pub use address::Address;
pub use lex::{Params, Values};
pub use message::{Fault, Message, Method, NotSip, Start};
pub use uri::{BadUri, Host, Scheme, Uri};
pub use via::Via;

/// A status code and reason phrase that the configuration or the proxy chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 300 to 699.
    pub status: u16,
    /// The reason phrase, without CR or LF.
    pub reason: String,
}
