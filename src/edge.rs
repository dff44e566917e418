//! The edge: sockets, HTTP and metrics. It touches the outside and decides nothing.

pub mod counters;
pub mod http;
pub mod metrics;
pub mod udp;
