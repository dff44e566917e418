//! The engine on virtual time, from outside: no socket is opened and nothing sleeps.

mod capacity;
mod captures;
mod checks;
mod explain;
mod failover;
mod harness;
mod health;
mod kept;
mod preserve;
mod rfc3261;
mod sessions;
mod sim;
mod sim_health;
mod torture;
mod vip;
