//! The commands.

mod calls;
mod check;
mod completions;
mod demo;
mod drill;
mod end;
mod events;
mod explain;
mod import;
mod list;
mod live;
mod man;
mod mrcp_server;
mod ready;
mod run;
mod sessions;
mod set;
mod show;
mod store;
mod supervised;
mod surface;
mod table;
mod term;
mod top;
mod trace;
mod trouble;
mod usual;

use std::future::Future;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::edge::build::{LINE, LINES};
use crate::engine::flow::Transport;

/// How long what runs aside may take when a command has ended.
const LAST_WORK: Duration = Duration::from_secs(1);
/// As clap: what was asked for can't be done.
const USAGE: u8 = 2;
/// sysexits.h: something in the configuration or the rows has to be mended.
const EX_CONFIG: u8 = 78;

/// A SIP dispatcher for MRCPv2 and other SIP servers.
#[derive(Debug, Parser)]
#[command(name = "tandem", version = LINE, long_version = LINES, about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve SIP as the configuration says, until SIGTERM. SIGHUP reads the sets anew.
    Run(run::Args),
    /// Look for faults in the configuration and the rows; exit 78 if there are any.
    Check(check::Args),
    /// Make a configuration of OpenSIPS's or Kamailio's, and tell what became of each thing in it.
    Import(import::Args),
    /// The sets of a running node, a line each, and what is wrong first; exit 1 with --check if one has no fit destination.
    List(list::Args),
    /// What a running node holds of its destinations, and why: who gets calls and who does not.
    Show(show::Args),
    /// Whether a running node can take calls; exit 1 with its reasons if not. For health checks.
    Ready(ready::Args),
    /// The same live in the terminal: who gets how many of the calls of the last seconds, the worst first.
    Top(top::Args),
    /// What has happened since the node started, and what happens.
    Events(events::Args),
    /// What would become of a SIP message, and why: rule by rule, destination by destination. Nothing is sent.
    Explain(explain::Args),
    /// A call's story: what was decided and why, each message, and how it ended; without a Call-ID the last calls.
    Trace(trace::Args),
    /// Put a destination in service, let it drain, or take it out.
    Set(set::Args),
    /// What a reload of the sets would change, and whether it would be refused; exit 1 if it would.
    Plan(store::PlanArgs),
    /// Read the sets anew, on every node.
    Reload(store::ReloadArgs),
    /// Serve a former version of the sets instead of the rows, until these change; or show which there are.
    Rollback(store::RollbackArgs),
    /// The live sessions of a set or of one of its destinations.
    Sessions(sessions::Args),
    /// End a session, or all of a destination, by BYE to both ends.
    End(end::Args),
    /// Everything in one process: the proxy, three stand-in servers and a caller, live in the terminal.
    Demo(demo::Args),
    /// Make calls at a rate and report how they went.
    Calls(calls::Args),
    /// Let something go wrong on purpose while calls run, and measure what it does to them.
    Drill(drill::Args),
    /// A stand-in MRCPv2 server.
    MrcpServer(mrcp_server::Args),
    /// The completions of a shell, to be put where it looks for them.
    Completions(completions::Args),
    /// A manual page on standard output, or all of them in a folder.
    Man(man::Args),
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::main(&args),
        Command::Check(args) => check::main(&args),
        Command::Import(args) => import::main(&args),
        Command::List(args) => list::main(&args),
        Command::Show(args) => show::main(&args),
        Command::Ready(args) => ready::main(&args),
        Command::Top(args) => top::main(&args),
        Command::Events(args) => events::main(&args),
        Command::Explain(args) => explain::main(&args),
        Command::Trace(args) => trace::main(&args),
        Command::Set(args) => set::main(&args),
        Command::Plan(args) => store::plan(&args),
        Command::Reload(args) => store::reload(&args),
        Command::Rollback(args) => store::rollback(&args),
        Command::Sessions(args) => sessions::main(&args),
        Command::End(args) => end::main(&args),
        Command::Demo(args) => demo::main(&args),
        Command::Calls(args) => calls::main(&args),
        Command::Drill(args) => drill::main(&args),
        Command::MrcpServer(args) => mrcp_server::main(&args),
        Command::Completions(args) => completions::main(&args),
        Command::Man(args) => man::main(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { status, text }) => {
            // Nothing can be done if even this can't be written.
            if !text.is_empty() {
                let _ = writeln!(std::io::stderr(), "{text}");
            }
            ExitCode::from(status)
        }
    }
}

/// Why a command failed: what people read, and the exit status.
#[derive(Debug)]
struct Failure {
    status: u8,
    text: String,
}

impl Failure {
    fn new(text: impl ToString) -> Self {
        Failure { status: 1, text: text.to_string() }
    }

    fn usage(text: impl ToString) -> Self {
        Failure { status: USAGE, text: text.to_string() }
    }

    fn configuration(text: impl ToString) -> Self {
        Failure { status: EX_CONFIG, text: text.to_string() }
    }
}

/// What the laboratory speaks.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Spoken {
    Udp,
    Tcp,
}

impl From<Spoken> for Transport {
    fn from(spoken: Spoken) -> Self {
        match spoken {
            Spoken::Udp => Transport::Udp,
            Spoken::Tcp => Transport::Tcp,
        }
    }
}

/// Runs a command's future on a runtime of its own.
fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(format!("can't start the runtime: {error}")))?;
    let result = runtime.block_on(future);
    // A disk that hangs holds up no end.
    runtime.shutdown_timeout(LAST_WORK);
    result
}

/// Calls a second on the command line.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if rate > 0.0 && f64::is_finite(rate) => Ok(rate),
        Ok(_) | Err(_) => Err("give a number above 0, as 10 or 0.5".to_owned()),
    }
}

/// A length of time on the command line: `20s`, `1500ms`, `2m`.
fn duration(text: &str) -> Result<Duration, String> {
    crate::config::duration(text)
}
