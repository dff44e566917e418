//! The four transaction machines of RFC 3261 section 17, with RFC 6026 and RFC 4320, as pure functions.

pub mod timing;
