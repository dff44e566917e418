//! The engine on virtual time, from outside: no socket is opened and nothing sleeps.

mod capacity;
mod captures;
mod checks;
mod counted;
mod explain;
mod failover;
mod harness;
mod health;
mod kept;
mod moves;
mod operator;
mod peers;
mod preserve;
mod rfc3261;
mod sessions;
mod sessions_found;
mod sessions_own;
mod shared_probes;
mod sim;
mod sim_cluster;
mod sim_health;
mod sim_sessions;
mod torture;
mod trace;
mod vip;
