//! SIP messages: received bytes are kept and looked at in place, what changes is spliced in.

mod address;
mod compose;
mod follow;
mod frame;
pub(crate) mod header;
mod lex;
mod message;
mod method;
mod printable;
mod quote;
mod reply;
mod sdp;
mod splice;
mod token;
mod uri;
mod via;

pub use address::Address;
pub use compose::{Compose, sip_uri};
pub(crate) use follow::{Within, ack, cancel, target_of};
pub use frame::{Frame, FrameFault, FrameLimits, Framer, KeepAlive, PING, PONG, keep_alive};
pub(crate) use lex::values as list_values;
pub use lex::{Params, Values};
pub use message::{Fault, Message, NotSip, Start};
pub use method::Method;
pub(crate) use printable::{printable, printable_start};
pub(crate) use quote::{call_id_of, quoted};
pub use reply::Reply;
pub(crate) use reply::{respond, response_peer, stamp_via};
pub use sdp::{Resources, media_lines, mrcp_port};
pub(crate) use splice::{Splice, Text};
pub use token::mark_of_key;
pub(crate) use token::{Branch, Cookie, Hashed, Keys, TokenText};
pub use uri::{BadUri, Host, Scheme, Uri};
pub use via::Via;
