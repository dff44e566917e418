//! `tandem check`: all faults of the configuration and the rows, and nothing else.

use std::path::PathBuf;
use std::sync::Arc;

use super::run::foreign;
use super::{Failure, block_on, term, usual};
use crate::config::Config;
use crate::edge::lines::LinesConfig;
use crate::edge::store::Load;
use crate::edge::webhook::WebhookConfig;
use crate::engine::dispatch::{Agent, Check, CheckKind, Policy, Probing, Who};
use crate::engine::flow::Listener;
use crate::server::check_rows;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file [default: config/tandem.toml if it is there, else /etc/tandem/tandem.toml].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Read the sets from this database instead of the configuration's.
    #[arg(long, value_name = "URL")]
    database: Option<String>,
}

pub(super) fn main(args: &Args) -> Result<(), Failure> {
    let file = usual::file_or(&args.config)?;
    let mut config = Config::load(&file).map_err(Failure::configuration)?;
    if let Some(url) = &args.database {
        config.database.url.clone_from(url);
    }
    let load =
        block_on(async { check_rows(&config).await.map_err(|faults| Failure::configuration(faults.join("\n"))) })?;
    let strays = load.as_ref().map_or_else(Vec::new, |load| config.strays(&load.sets));
    if !strays.is_empty() {
        return Err(Failure::configuration(strays.join("\n")));
    }
    term::line(&format!("{}: no faults", file.display()));
    for exposed in &config.exposed {
        term::line(&format!("  {exposed}"));
    }
    let foreign = foreign(&config.listeners);
    for listener in &config.listeners {
        let Listener { transport, bind, advertise, role, .. } = listener;
        let here = if foreign.contains(&listener) { ", an address that this machine does not have now" } else { "" };
        term::line(&format!("  listener {}:{bind} as {advertise} ({}){here}", transport.name(), role.name()));
    }
    match config.http.listen {
        Some(address) => {
            let scheme = if config.http.tls.is_some() { "https" } else { "http" };
            let open = config.http.open(address).map_or_else(String::new, |open| format!(": {open}"));
            term::line(&format!("  HTTP surface {scheme}://{address}{open}"));
            for token in &config.http.access.tokens {
                term::line(&format!("    {} may {}", token.name, token.role.name()));
            }
        }
        None => term::line("  no HTTP surface"),
    }
    for (lines, config) in [("records", &config.records), ("events", &config.events.file)] {
        let Some(LinesConfig { file, .. }) = config else { continue };
        let is_there = file.parent().is_some_and(|folder| folder.is_dir());
        let remedy = if is_there { "" } else { ", but there is no such folder: make it" };
        term::line(&format!("  {lines} {}{remedy}", file.display()));
    }
    for WebhookConfig { name, url, secret, .. } in &config.events.webhooks {
        let signed = if secret.is_some() { "signed" } else { "not signed" };
        term::line(&format!("  webhook {name} {url}, {signed}"));
    }
    for rule in &config.route.rules {
        term::line(&format!("  rule {:?}", rule.name));
    }
    for policy in &config.sets {
        health(policy);
    }
    match load {
        None => term::line("  the database is not there yet: the first start makes it"),
        Some(load) => {
            rows(&load);
            for unlike in config.unlike_probes(&load.probes) {
                term::line(&format!("  {unlike}"));
            }
        }
    }
    Ok(())
}

/// How it is found out whether the set's destinations are fit.
fn health(policy: &Policy) {
    let Policy { set, name, probing, probing_instead, agent, agent_instead, judgement, .. } = policy;
    let probes = |probing: &Probing| match probing.checks.as_slice() {
        [] => "not probed".to_owned(),
        checks => {
            let who = match probing.who {
                Who::All => String::new(),
                Who::Shared { probers: 1 } => ", by one of the nodes".to_owned(),
                Who::Shared { probers } => format!(", by {probers} of the nodes"),
            };
            format!("probed by {}{who}", checks.iter().map(probe).collect::<Vec<_>>().join(" and "))
        }
    };
    let calls = if judgement.observe.enabled { "calls are watched" } else { "calls are not watched" };
    let name = if name.is_empty() { String::new() } else { format!(" {name:?}") };
    let asked = |agent: &Option<Arc<Agent>>| match agent {
        None => "no agent is asked".to_owned(),
        Some(agent) => format!("agents are asked by GET of :{}{} every {:?}", agent.port, agent.path, agent.interval),
    };
    let agents = agent.as_ref().map_or_else(String::new, |_| format!(", {}", asked(agent)));
    term::line(&format!("  set {}{name}: {}, {calls}{agents}", set.0, probes(probing)));
    for (uri, own) in probing_instead {
        term::line(&format!("    but {uri}: {}", probes(own)));
    }
    for (uri, own) in agent_instead {
        term::line(&format!("    but {uri}: {}", asked(own)));
    }
}

fn probe(check: &Check) -> String {
    let what = match &check.kind {
        CheckKind::Sip(sip) => sip.method.clone(),
        CheckKind::Tcp { port: Some(port) } => format!("TCP to port {port}"),
        CheckKind::Tcp { port: None } => "TCP to the MRCP port".to_owned(),
        CheckKind::Http { port, path } => format!("GET of :{port}{path}"),
    };
    format!("{what} every {:?}", check.interval)
}

fn rows(load: &Load) {
    for set in &load.sets.0 {
        term::line(&format!("  set {}: {} destinations", set.id.0, set.rows.len()));
    }
    for fault in &load.faults {
        term::line(&format!("  left out: {fault}"));
    }
}
