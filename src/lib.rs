//! Tandem: a stateful SIP dispatcher for MRCPv2 speech servers and other SIP destinations.
//!
//! Two wings (ARCHITECTURE.md): [`engine`] decides and touches nothing outside; [`edge`] touches the outside and decides
//! nothing. [`server`] joins them.

pub mod cli;
pub mod config;
pub mod drill;
pub mod edge;
pub mod engine;
pub mod import;
pub mod lab;
pub mod server;
