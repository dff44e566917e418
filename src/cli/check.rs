//! `tandem check`: all faults of the configuration and the rows, and nothing else.

use std::path::PathBuf;

use super::run::foreign;
use super::{Failure, block_on, term};
use crate::config::Config;
use crate::edge::store::Load;
use crate::engine::flow::Listener;
use crate::server::check_rows;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "config/tandem.toml")]
    config: PathBuf,
    /// Read the sets from this database instead of the configuration's.
    #[arg(long, value_name = "URL")]
    database: Option<String>,
}

pub(super) fn main(args: &Args) -> Result<(), Failure> {
    let mut config = Config::load(&args.config).map_err(Failure::configuration)?;
    if let Some(url) = &args.database {
        config.database.url.clone_from(url);
    }
    let load = block_on(async { check_rows(&config).await.map_err(Failure::configuration) })?;
    term::line(&format!("{}: no faults", args.config.display()));
    let foreign = foreign(&config.listeners);
    for listener in &config.listeners {
        let Listener { transport, bind, advertise, role, .. } = listener;
        let here = if foreign.contains(&listener) { ", an address that this machine does not have now" } else { "" };
        term::line(&format!("  listener {}:{bind} as {advertise} ({}){here}", transport.name(), role.name()));
    }
    for rule in &config.route.rules {
        term::line(&format!("  rule {:?}", rule.name));
    }
    match load {
        None => term::line("  the database is not there yet: the first start makes it"),
        Some(load) => rows(&load),
    }
    Ok(())
}

fn rows(load: &Load) {
    for set in &load.sets.0 {
        term::line(&format!("  set {}: {} destinations", set.id.0, set.rows.len()));
    }
    for fault in &load.faults {
        term::line(&format!("  left out: {fault}"));
    }
}
