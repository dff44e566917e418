//! A real node on 127.0.0.1:0: its sets, its HTTP surface, its commands; and what is shipped beside it.

#[path = "server/commands.rs"]
mod commands;
mod contract;
#[path = "server/node.rs"]
mod node;
#[path = "server/scratch.rs"]
mod scratch;
#[path = "server/transports.rs"]
mod transports;
