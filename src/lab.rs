//! The laboratory: a stand-in MRCPv2 server and a caller at a rate, for the demo, drills and tests. Each is a machine that
//! takes datagrams and a clock and gives datagrams; `wire` joins it to a socket.

pub mod caller;
pub mod mrcp_server;
pub mod report;

mod leg;
mod sdp;
mod timers;
mod wire;

pub use caller::{Caller, CallerConfig};
pub use mrcp_server::{Behaviour, Counts, MrcpServer};
pub use report::{Live, Report};
