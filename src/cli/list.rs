//! `tandem list`: the sets, a line each, and what is wrong with them first.

use super::surface::{Surface, Told, Where, find_set, set_title};
use super::table::{self, Cell, Tone};
use super::{Failure, block_on, show, term, trouble};
use crate::edge::http::{DestinationReport, SetReport, SetsReport};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A set, by its number or name: its destinations, as `show` has them.
    set: Option<String>,
    /// Exit with 1 if a set, or that one, has no fit destination; which is told on standard error.
    #[arg(long)]
    check: bool,
    /// Print the node's JSON instead.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: Where,
}

pub(super) fn main(args: &Args) -> Result<(), Failure> {
    let surface = args.node.surface()?;
    block_on(list(args, surface))
}

async fn list(args: &Args, surface: Surface) -> Result<(), Failure> {
    let all: Told<SetsReport> = surface.get("/sets").await?;
    let sets = match &args.set {
        Some(set) => {
            let set = find_set(&all.said.sets, set)?;
            show::one_set(set, args.json, surface).await?;
            std::slice::from_ref(set)
        }
        None => {
            match args.json {
                true => term::line(&all.json),
                false => table::print("", &rows(&all.said.sets)),
            }
            &all.said.sets
        }
    };
    let empty: Vec<_> = sets.iter().filter(|set| set.fit == 0).map(set_title).collect();
    match args.check && !empty.is_empty() {
        true => Err(Failure::new(format!("no fit destination: set {}", empty.join(", set ")))),
        false => Ok(()),
    }
}

fn rows(sets: &[SetReport]) -> Vec<Vec<Cell>> {
    let mut head: Vec<_> = ["SET", "NAME", "ALGORITHM", "FIT"].map(Cell::text).to_vec();
    head.extend(["SESSIONS", "TRIES", "NOBODY FIT"].map(Cell::number));
    head.push(Cell::text("WRONG"));
    let mut rows = vec![head];
    rows.extend(sets.iter().map(row));
    rows
}

fn row(set: &SetReport) -> Vec<Cell> {
    let sum = |of: fn(&DestinationReport) -> u64| set.destinations.iter().map(of).sum::<u64>();
    let tone = tone(set);
    let wrong = trouble::first(set);
    vec![
        Cell::text(set.set),
        Cell::text(if set.name.is_empty() { "-" } else { &set.name }),
        Cell::text(&set.algorithm),
        Cell::text(format!("{} of {}", set.fit, set.destinations.len())).toned(tone),
        Cell::number(sum(|one| one.sessions)),
        Cell::number(sum(|one| one.selections)),
        Cell::number(set.empty),
        Cell::text(wrong.as_deref().unwrap_or("nothing")).toned(if wrong.is_some() { tone } else { Tone::Plain }),
    ]
}

/// How well a set is.
pub(super) fn tone(set: &SetReport) -> Tone {
    match set.fit {
        0 => Tone::Bad,
        fit if fit < set.destinations.len() => Tone::Doubtful,
        _ => Tone::Good,
    }
}
