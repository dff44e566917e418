//! Tandem: a stateful SIP dispatcher for MRCPv2 speech servers and other SIP destinations.
//!
//! Two wings (ARCHITECTURE.md): [`engine`] decides and touches nothing outside; [`edge`] touches the outside and decides
//! nothing. [`server`] joins them.

pub mod engine;
pub mod lab;
