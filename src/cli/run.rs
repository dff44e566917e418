//! `tandem run`: serve until told to stop.

use std::net::IpAddr;
use std::path::PathBuf;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use super::supervised::Supervised;
use super::{Failure, block_on, usual};
use crate::config::{Config, node_id};
use crate::edge::build::{BUILD, VERSION};
use crate::edge::http::ReloadOrder;
use crate::edge::{interfaces, log};
use crate::engine::flow::{Listener, Role};
use crate::server::Node;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file [default: config/tandem.toml if it is there, else /etc/tandem/tandem.toml].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Read the sets from this database instead of the configuration's.
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// This node's name instead of the configuration's.
    #[arg(long, value_name = "NAME", value_parser = node_id)]
    node_id: Option<String>,
}

pub(super) fn main(args: &Args) -> Result<(), Failure> {
    let mut config = Config::load(&usual::file_or(&args.config)?).map_err(Failure::configuration)?;
    if let Some(url) = &args.database {
        config.database.url.clone_from(url);
    }
    if let Some(node_id) = &args.node_id {
        config.node_id.clone_from(node_id);
    }
    block_on(serve(config))
}

async fn serve(config: Config) -> Result<(), Failure> {
    let _log = log::start(&config.log).map_err(Failure::configuration)?;
    let mut signals = Signals::new().map_err(no_signals)?;
    info!(node = config.node_id, version = VERSION, build = BUILD, "starting");
    let supervised = Supervised::of_environment();
    config.exposed.iter().for_each(|exposed| warn!("{exposed}"));
    warn_of_foreign_addresses(&config);
    let node = tokio::select! {
        node = Node::start(&config) => node.map_err(|error| match error.is_configuration() {
            true => Failure::configuration(error),
            false => Failure::new(error),
        })?,
        () = signals.stopped() => return Ok(()),
    };
    if let Some(address) = node.http() {
        info!(%address, "HTTP surface: / is a page for people, and /openapi.json tells what else can be asked");
        if let Some(open) = config.http.open(address) {
            warn!(%address, "{open}");
        }
    }
    tokio::select! {
        () = until_left(&node, &supervised, &mut signals) => {}
        never = supervised.watch(&node) => match never {},
    }
    info!("stopping");
    node.stop().await;
    Ok(())
}

/// Serves until it is told to leave, and leaves.
async fn until_left(node: &Node, supervised: &Supervised, signals: &mut Signals) {
    let by_signal = loop {
        tokio::select! {
            told = signals.next() => match told {
                // Either way the node has told its log.
                Told::Reload => supervised.reload(node, ReloadOrder::of("SIGHUP")),
                Told::Stop => break true,
            },
            () = node.drain_ordered() => break false,
        }
    };
    supervised.leaves(node);
    // A second signal does not wait; after POST /drain the first one does, since a supervisor sends it to any node.
    let hurry = async {
        if !by_signal {
            signals.stopped().await;
        }
        signals.stopped().await;
    };
    tokio::select! {
        () = node.drain() => {}
        () = hurry => {}
    }
}

/// IP_FREEBIND binds anything, so that a mistyped address would go unseen.
fn warn_of_foreign_addresses(config: &Config) {
    for listener in foreign(&config.listeners) {
        match listener.role {
            Role::Vip => info!(address = %listener.bind, "the virtual address is elsewhere now"),
            Role::Node => {
                warn!(address = %listener.bind, "this machine has no such address: nothing will come in there")
            }
        }
    }
}

/// The listeners whose address this machine does not have now.
pub(super) fn foreign(listeners: &[Listener]) -> Vec<&Listener> {
    let Ok(ours) = interfaces::addresses() else { return Vec::new() };
    // All of 127.0.0.0/8 is this machine's, whatever is listed.
    let is_foreign = |ip: IpAddr| !ip.is_loopback() && !ours.contains(&ip);
    listeners.iter().filter(|listener| is_foreign(listener.bind.ip())).collect()
}

/// Waits for SIGTERM or Ctrl-C.
pub(super) async fn stopped() -> Result<(), Failure> {
    Signals::new().map_err(no_signals)?.stopped().await;
    Ok(())
}

/// Waits for those, or for the terminal to go.
pub(super) async fn left() -> Result<(), Failure> {
    let _ = Signals::new().map_err(no_signals)?.next().await;
    Ok(())
}

fn no_signals(error: std::io::Error) -> Failure {
    Failure::new(format!("can't listen for signals: {error}"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Reload,
    Stop,
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the signal to stop.
    async fn stopped(&mut self) {
        while self.next().await == Told::Reload {}
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.hangup.recv() => Told::Reload,
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
        }
    }
}
