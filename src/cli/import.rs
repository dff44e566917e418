//! `tandem import`: a peer's configuration or rows as a configuration of Tandem, and a report of what became of each thing.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{Failure, block_on, term};
use crate::edge::store::{Database, Load, RowContext, Schema, Store, Strictness, TableOptions};
use crate::engine::flow::{Listener, ListenerId, Role, Sources, Transport};
use crate::import::{self, Imported, Peer, Report, Verdict, without_passwords};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Whose configuration it is.
    #[arg(value_enum, value_name = "PEER")]
    peer: Whose,
    /// Its configuration file, a dispatcher.list, or the URL of its database, as sqlite:opensips.db.
    #[arg(value_name = "SOURCE")]
    source: String,
    /// Write the configuration to this file, which must not be there yet, instead of standard output.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the report to this file, which must not be there yet, instead of standard error.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// The report as one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Whose {
    Opensips,
    Kamailio,
}

impl From<Whose> for Peer {
    fn from(whose: Whose) -> Self {
        match whose {
            Whose::Opensips => Peer::OpenSips,
            Whose::Kamailio => Peer::Kamailio,
        }
    }
}

pub(super) fn main(args: &Args) -> Result<(), Failure> {
    let Imported { toml, report } = imported(args.peer.into(), &args.source)?;
    let told = if args.json { json(&report) } else { format!("{report}{}\n", report.summary()) };
    match &args.output {
        // It may hold a database's password.
        Some(file) => write_new(file, &toml, 0o600)?,
        None => term::write(&toml),
    }
    match &args.report {
        Some(file) => write_new(file, &told, 0o644)?,
        // Nothing can be done if even this can't be written.
        None => drop(io::stderr().write_all(told.as_bytes())),
    }
    match report.count(Verdict::NotMappable) {
        0 => Ok(()),
        // The report has told all.
        _ => Err(Failure::new("")),
    }
}

fn imported(peer: Peer, source: &str) -> Result<Imported, Failure> {
    if source.contains("://") || source.starts_with("sqlite:") {
        let Load { sets, faults, .. } = block_on(rows(peer, source))?;
        let faults: Vec<_> = faults.iter().map(|fault| (fault.row, fault.to_string())).collect();
        return Ok(import::rows(peer, source, &sets, &faults));
    }
    let mut read = |path: &Path| std::fs::read_to_string(path);
    let text = read(Path::new(source)).map_err(|error| {
        Failure::configuration(format!(
            "{source}: can't read it: {error}: give a configuration file, or a database's URL"
        ))
    })?;
    if peer == Peer::OpenSips && is_list(source, &text) {
        return Err(Failure::configuration(format!(
            "{source}: it is Kamailio's dispatcher.list: give tandem import kamailio {source}"
        )));
    }
    if peer == Peer::Kamailio && is_list(source, &text) {
        return Ok(import::list(source, &text));
    }
    import::script(peer, source, &text, &mut read).map_err(Failure::configuration)
}

/// The rows, judged as by a node with a listener for each way to reach them.
async fn rows(peer: Peer, url: &str) -> Result<Load, Failure> {
    let told = |error: &dyn ToString| Failure::configuration(without_passwords(&error.to_string()));
    let schema = match peer {
        Peer::OpenSips => Schema::OpenSips,
        Peer::Kamailio => Schema::Kamailio,
    };
    let database = Database { schema, table: TableOptions::of(schema), ..Database::of(url) };
    let store = Store::new(&database, Path::new(".")).map_err(|error| told(&error))?;
    let listeners = standing_in();
    let context = RowContext { listeners: &listeners, strictness: Strictness::Lenient, set_offset: 0 };
    store.load(&context).await.map_err(|error| told(&error))
}

/// UDP and TCP, IPv4 and IPv6.
fn standing_in() -> Vec<Listener> {
    let addresses = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let ways = [Transport::Udp, Transport::Tcp].into_iter().flat_map(|transport| addresses.map(|ip| (transport, ip)));
    (0..)
        .zip(ways)
        .map(|(id, (transport, ip))| {
            let bind = SocketAddr::new(ip, 5060);
            let (role, sources) = (Role::Node, Sources::default());
            Listener { id: ListenerId(id), transport, bind, advertise: bind.into(), role, sources }
        })
        .collect()
}

/// Rows of numbers and URIs, and no script.
fn is_list(name: &str, text: &str) -> bool {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    name.ends_with(".list") || first.is_some_and(|line| line.starts_with(|c: char| c.is_ascii_digit()))
}

fn json(report: &Report) -> String {
    let value = serde_json::json!({
        "mapped": report.count(Verdict::Mapped),
        "approximated": report.count(Verdict::Approximated),
        "not_mappable": report.count(Verdict::NotMappable),
        "lines": report.lines(),
    });
    format!("{value}\n")
}

fn write_new(file: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let name = file.display();
    let mut new = OpenOptions::new().write(true).create_new(true).mode(mode).open(file).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::AlreadyExists => "it is there already and stays as it is: give another name".to_owned(),
            _ => format!("can't write it: {error}: give a file in a folder of yours"),
        };
        Failure::new(format!("{name}: {remedy}"))
    })?;
    new.write_all(text.as_bytes())
        .map_err(|error| Failure::new(format!("{name}: can't write it: {error}: give a file where there is room")))
}
