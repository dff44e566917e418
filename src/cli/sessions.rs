//! `tandem sessions`: the live sessions of a set or of one of its destinations.

use std::time::SystemTime;

use super::show::ago;
use super::surface::{Surface, Told, Where, find_set, find_uri, title};
use super::table::{self, Cell, Tone};
use super::{Failure, block_on, term};
use crate::edge::http::{SessionReport, SessionsReport, SetsReport};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The set, by its number or name.
    #[arg(long)]
    set: String,
    /// One of its destinations, by its URI, its host and port, or any part that only one has.
    #[arg(long)]
    destination: Option<String>,
    /// How many, at most.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// How many are passed over.
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: usize,
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
    let set = find_set(&all.said.sets, &args.set)?;
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("offset", &args.offset.to_string()).append_pair("limit", &args.limit.to_string());
    if let Some(wanted) = &args.destination {
        query.append_pair("uri", &find_uri(set, wanted)?);
    }
    let path = format!("/sets/{}/sessions?{}", set.set, query.finish());
    let told: Told<SessionsReport> = surface.get(&path).await?;
    if args.json {
        term::line(&told.json);
    } else {
        print(&told.said);
    }
    Ok(())
}

fn print(report: &SessionsReport) {
    if !report.sessions.is_empty() {
        let heads = ["CALL-ID", "DESTINATION", "STATE", "BEGAN", "HEARD", "CSEQS", "CAN BE ENDED"];
        let mut rows = vec![heads.map(Cell::text).to_vec()];
        let now = SystemTime::now();
        rows.extend(report.sessions.iter().map(|one| row(one, now)));
        table::print("", &rows);
    }
    if let Some(rest) = rest(report) {
        term::line(&rest);
    }
}

fn row(one: &SessionReport, now: SystemTime) -> Vec<Cell> {
    let address = one.address.to_string();
    let elsewhere = if one.destination.contains(&address) { String::new() } else { format!(" ({address})") };
    let number = |cseq: Option<u32>| cseq.map_or_else(|| "-".to_owned(), |cseq| cseq.to_string());
    let state = if one.parked { "parked" } else { &one.state };
    let end = one.why_not.as_ref().map_or_else(|| "yes".to_owned(), |why| format!("no: {why}"));
    vec![
        Cell::text(one.call_id.as_deref().unwrap_or("-")),
        Cell::text(format!("{}{elsewhere}", one.destination)),
        Cell::text(state).toned(if one.endable { Tone::Plain } else { Tone::Doubtful }),
        Cell::text(ago(one.began, now)),
        Cell::text(ago(one.heard, now)),
        Cell::text(format!("{}/{}", number(one.caller_cseq), number(one.destination_cseq))),
        Cell::text(end),
    ]
}

/// What a page does not show.
fn rest(report: &SessionsReport) -> Option<String> {
    let SessionsReport { set, name, total, offset, sessions, .. } = report;
    let shown = offset.saturating_add(sessions.len());
    match (sessions.len(), *total) {
        (_, 0) => Some(format!("no session in set {}", title(*set, name))),
        (0, total) => Some(format!("there are {total} sessions, none of them behind {offset}")),
        (count, total) if (shown as u64) < total => {
            Some(format!("\n{count} of {total} sessions; --offset {shown} shows the next"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::moment::Moment;

    fn session() -> SessionReport {
        SessionReport {
            call_id: Some("a84b4c76".to_owned()),
            destination: "sip:10.0.0.1:7010".to_owned(),
            address: "10.0.0.1:7010".parse().expect("an address"),
            state: "confirmed".to_owned(),
            began: Moment(SystemTime::UNIX_EPOCH),
            answered: None,
            heard: Moment(SystemTime::UNIX_EPOCH),
            caller_cseq: Some(2),
            destination_cseq: None,
            parked: false,
            endable: true,
            why_not: None,
        }
    }

    #[test]
    fn a_row_names_what_the_end_needs_and_why_it_can_t_be() {
        let texts = |one: &SessionReport| format!("{:?}", row(one, SystemTime::UNIX_EPOCH));
        let text = texts(&session());
        for words in ["a84b4c76", "\"sip:10.0.0.1:7010\"", "confirmed", "2/-", "\"yes\""] {
            assert!(text.contains(words), "{words}: {text}");
        }
        let parked = SessionReport {
            destination: "sip:tts.test".to_owned(),
            call_id: None,
            parked: true,
            endable: false,
            why_not: Some("it is parked".to_owned()),
            ..session()
        };
        let text = texts(&parked);
        for words in ["\"-\"", "sip:tts.test (10.0.0.1:7010)", "\"parked\"", "no: it is parked"] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn a_page_tells_what_it_does_not_show() {
        let page = |total, offset, count| {
            let (node, name) = ("a".to_owned(), "tts".to_owned());
            rest(&SessionsReport { node, set: 19, name, total, offset, sessions: vec![session(); count] })
        };
        assert_eq!(page(2, 0, 2), None);
        assert_eq!(page(0, 0, 0).as_deref(), Some("no session in set 19 (tts)"));
        assert_eq!(page(9, 2, 3).as_deref(), Some("\n3 of 9 sessions; --offset 5 shows the next"));
        assert_eq!(page(9, 9, 0).as_deref(), Some("there are 9 sessions, none of them behind 9"));
    }
}
