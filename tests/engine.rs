//! The engine on virtual time, from outside: no socket is opened and nothing sleeps.

mod harness;
mod rfc3261;
mod sim;
