//! The engine on virtual time, from outside: no socket is opened and nothing sleeps.

mod failover;
mod harness;
mod rfc3261;
