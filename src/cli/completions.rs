//! `tandem completions`: what shells complete its command line by. The one door of crate `clap_complete`.

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use super::{Cli, Failure, term};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell.
    shell: Shell,
}

pub(super) fn main(args: &Args) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "tandem", &mut script);
    term::write(&String::from_utf8(script).map_err(Failure::new)?);
    Ok(())
}
