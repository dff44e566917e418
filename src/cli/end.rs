//! `tandem end`: an operator ends a session, or all of a destination.

use std::io::{BufRead, Write};

use serde_json::json;

use super::set::giver;
use super::surface::{JSON, Surface, Told, Where, find_set, find_uri, set_title};
use super::{Failure, block_on, term};
use crate::edge::http::{BeingEnded, SetsReport};

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["call_id", "set"]))]
pub(super) struct Args {
    /// The session with that Call-ID.
    #[arg(long, value_name = "ID")]
    call_id: Option<String>,
    /// All sessions of a destination of that set, by its number or name.
    #[arg(long, requires = "destination")]
    set: Option<String>,
    /// The destination, by its URI, its host and port, or any part that only one has.
    #[arg(long, requires = "set", conflicts_with = "call_id")]
    destination: Option<String>,
    /// Why, for those who will wonder.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who says so [default: the user, before sudo].
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Ask nothing before all sessions of a destination are ended.
    #[arg(long)]
    yes: bool,
    /// Print the node's JSON instead.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: Where,
}

pub(super) fn main(args: &Args) -> Result<(), Failure> {
    let by = giver(args.by.as_ref())?;
    let surface = args.node.surface()?;
    block_on(end(args, &by, surface))
}

async fn end(args: &Args, by: &str, surface: Surface) -> Result<(), Failure> {
    let reason = &args.reason;
    let (body, of) = match (&args.call_id, &args.set, &args.destination) {
        (None, Some(set), Some(destination)) => {
            let all: Told<SetsReport> = surface.get("/sets").await?;
            let set = find_set(&all.said.sets, set)?;
            let uri = find_uri(set, destination)?;
            let of = format!("{uri} of set {}", set_title(set));
            let sessions = set.destinations.iter().filter(|one| one.uri == uri).map(|one| one.sessions).sum();
            if !args.yes {
                confirm(&of, sessions)?;
            }
            (json!({ "set": set.set, "destination": uri, "reason": reason, "by": by }), Some(of))
        }
        (call_id, ..) => (json!({ "call_id": call_id, "reason": reason, "by": by }), None),
    };
    let told: Told<BeingEnded> = surface.post("/sessions/end", JSON, body.to_string().into_bytes()).await?;
    term::line(if args.json { told.json } else { said(told.said.ending, of.as_deref()) }.as_str());
    Ok(())
}

/// Whoever ends many sessions hears how many before.
fn confirm(of: &str, sessions: u64) -> Result<(), Failure> {
    if sessions == 0 {
        return Ok(());
    }
    // Nothing can be done if even this can't be written.
    let _ = write!(std::io::stderr(), "{of} has {}: end all? [y/N] ", count(sessions));
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    match (read, answer.trim().to_ascii_lowercase().as_str()) {
        (Ok(_), "y" | "yes") => Ok(()),
        (Ok(_) | Err(_), _) => Err(Failure::new("nothing is ended: answer y, or give --yes")),
    }
}

fn count(sessions: u64) -> String {
    if sessions == 1 { "1 session".to_owned() } else { format!("{sessions} sessions") }
}

/// What is being done now.
fn said(ending: u64, of: Option<&str>) -> String {
    match (of, ending) {
        (None, _) => "the session is ended".to_owned(),
        (Some(of), 0) => format!("{of} has no session"),
        (Some(of), ending) => format!("{of}: {} to be ended; what this node can't end stays", count(ending)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_how_many_are_being_ended() {
        assert_eq!(said(1, None), "the session is ended");
        for (ending, text) in [
            (0, "sip:a of set 19 has no session"),
            (1, "sip:a of set 19: 1 session to be ended; what this node can't end stays"),
            (40, "sip:a of set 19: 40 sessions to be ended; what this node can't end stays"),
        ] {
            assert_eq!(said(ending, Some("sip:a of set 19")), text);
        }
    }
}
