//! A real node on 127.0.0.1:0: its sets, its HTTP surface, its commands; and what is shipped beside it.

#[path = "server/agents.rs"]
mod agents;
#[path = "server/checks.rs"]
mod checks;
#[path = "server/commands.rs"]
mod commands;
#[path = "server/compat.rs"]
mod compat;
#[path = "server/configuration.rs"]
mod configuration;
mod contract;
mod dashboards;
#[path = "server/drill.rs"]
mod drill;
#[path = "server/explain.rs"]
mod explain;
#[path = "server/hooks.rs"]
mod hooks;
#[path = "server/icmp.rs"]
mod icmp;
#[path = "server/import.rs"]
mod import;
#[path = "server/metrics.rs"]
mod metrics;
#[path = "server/node.rs"]
mod node;
#[path = "server/orders.rs"]
mod orders;
#[path = "server/pair.rs"]
mod pair;
#[path = "server/persist.rs"]
mod persist;
#[path = "server/records.rs"]
mod records;
#[path = "server/restart.rs"]
mod restart;
#[path = "server/scratch.rs"]
mod scratch;
#[path = "server/sessions.rs"]
mod sessions;
#[path = "server/siege.rs"]
mod siege;
#[path = "server/store.rs"]
mod store;
#[path = "server/stream.rs"]
mod stream;
#[path = "server/supervised.rs"]
mod supervised;
#[path = "server/terminal.rs"]
mod terminal;
#[path = "server/told.rs"]
mod told;
#[path = "server/trace.rs"]
mod trace;
#[path = "server/upgrade.rs"]
mod upgrade;

#[path = "server/dns.rs"]
mod dns;
#[path = "server/names.rs"]
mod names;
#[path = "server/resolve.rs"]
mod resolve;
#[path = "server/transports.rs"]
mod transports;
