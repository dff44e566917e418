//! `tandem ready`: whether a node can take calls, for health checks where no other program is.

use super::surface::Where;
use super::{Failure, block_on, term};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Ask only whether it answers at all.
    #[arg(long, conflicts_with = "json")]
    live: bool,
    /// Print the node's JSON instead.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: Where,
}

pub(super) fn main(args: &Args) -> Result<(), Failure> {
    let surface = args.node.surface()?;
    if args.live {
        block_on(surface.live())?;
        term::line("live");
        return Ok(());
    }
    let told = block_on(surface.ready())?;
    let readiness = told.said;
    let is_ready = readiness.reasons.is_empty();
    let degraded = readiness.degraded.iter().map(|fault| format!("degraded: {fault}"));
    match (args.json, is_ready) {
        (true, _) => term::line(&told.json),
        (false, true) => {
            term::line(&std::iter::once("ready".to_owned()).chain(degraded).collect::<Vec<_>>().join("\n"))
        }
        (false, false) => {}
    }
    match is_ready {
        true => Ok(()),
        false => Err(Failure::new(format!("not ready: {}", readiness.reasons.join("; ")))),
    }
}
