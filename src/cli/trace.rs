//! `tandem trace`: a call's story, from the rule to its end; or which calls a node knows.

use std::time::{Duration, SystemTime};

use serde_json::json;

use super::explain::print_decision;
use super::set::giver;
use super::show::ago;
use super::surface::{JSON, Surface, Told, Where};
use super::table::{self, Cell, Tone};
use super::{Failure, block_on, duration, term};
use crate::edge::http::{BeingTraced, MessageReport, StepReport, StoryReport, TraceSummary, TracesReport};
use crate::edge::moment::Moment;

/// How often a node is asked for more.
const LOOK: Duration = Duration::from_millis(300);
/// An address and port of IPv4.
const ADDRESS: usize = 21;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The call, by its Call-ID; nothing: the calls that the node knows, the newest first.
    call_id: Option<String>,
    /// Go on telling until the call is over; one that is not known yet is waited for.
    #[arg(long, requires = "call_id")]
    follow: bool,
    /// Keep the messages of this call from now on, for so long: `10m`. Only the node that is asked does.
    #[arg(long = "for", value_name = "TIME", value_parser = duration, requires = "call_id")]
    time: Option<Duration>,
    /// With --for: why, for those who will wonder.
    #[arg(long, value_name = "TEXT", default_value = "to see what becomes of it", requires = "time")]
    reason: String,
    /// With --for: who says so [default: the user, before sudo].
    #[arg(long, value_name = "NAME", requires = "time")]
    by: Option<String>,
    /// Print the messages themselves too, as far as they may be shown.
    #[arg(long, requires = "call_id")]
    text: bool,
    /// Print the node's JSON instead; with --follow once, at the end.
    #[arg(long)]
    json: bool,
    /// Without a Call-ID: how many, at most.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    #[command(flatten)]
    node: Where,
}

pub(super) fn main(args: &Args) -> Result<(), Failure> {
    let surface = args.node.surface()?;
    match &args.call_id {
        None => block_on(list(args, surface)),
        Some(call_id) => {
            let by = args.time.map(|_| giver(args.by.as_ref())).transpose()?;
            block_on(tell(args, call_id, by, surface))
        }
    }
}

async fn list(args: &Args, surface: Surface) -> Result<(), Failure> {
    let told: Told<TracesReport> = surface.get(&format!("/traces?limit={}", args.limit)).await?;
    if args.json {
        term::line(&told.json);
        return Ok(());
    }
    let TracesReport { node, total, traces, .. } = &told.said;
    if traces.is_empty() {
        term::line(&format!("node {node} knows no call yet"));
        return Ok(());
    }
    let mut rows = vec![["CALL-ID", "BEGAN", "DESTINATION", "ENDED BY", "MESSAGES"].map(Cell::text).to_vec()];
    let now = SystemTime::now();
    rows.extend(traces.iter().map(|one| row(one, now)));
    table::print("", &rows);
    if traces.len() < *total {
        term::line(&format!("\n{} of {total} calls; --limit shows more", traces.len()));
    }
    Ok(())
}

fn row(one: &TraceSummary, now: SystemTime) -> Vec<Cell> {
    let TraceSummary { call_id, began, traced, over, destination, ending } = one;
    let ending = match (ending, over) {
        (Some(ending), true) => ending.as_str(),
        (_, true) => "its answer",
        (_, false) => "-",
    };
    vec![
        Cell::text(call_id),
        Cell::text(ago(*began, now)),
        Cell::text(destination.as_deref().unwrap_or("-")),
        Cell::text(ending),
        Cell::text(if *traced { "kept" } else { "not kept" }).toned(if *traced { Tone::Good } else { Tone::Plain }),
    ]
}

async fn tell(args: &Args, call_id: &str, by: Option<String>, surface: Surface) -> Result<(), Failure> {
    let path = path_of(call_id);
    if let (Some(time), Some(by)) = (args.time, by) {
        let body = json!({ "call_id": call_id, "for_seconds": time.as_secs().max(1), "reason": args.reason, "by": by });
        let told: Told<BeingTraced> = surface.post("/traces", JSON, body.to_string().into_bytes()).await?;
        let BeingTraced { node, call_id, for_seconds } = &told.said;
        match args.json {
            true if !args.follow => term::line(&told.json),
            true => {}
            false => term::line(&format!("node {node} keeps the messages of {call_id} for {for_seconds} s")),
        }
        if !args.follow {
            return Ok(());
        }
    }
    if !args.follow {
        let told: Told<StoryReport> = surface.get(&path).await?;
        match args.json {
            true => term::line(&told.json),
            false => {
                head(&told.said);
                told.said.steps.iter().for_each(|one| step(&told.said, one, args.text));
                told.said.hints.iter().for_each(|hint| term::line(&format!("note: {hint}")));
            }
        }
        return Ok(());
    }
    follow(args, &path, &surface).await
}

/// Tells what is new, until the call is over and nothing more has come since the node was asked last.
async fn follow(args: &Args, path: &str, surface: &Surface) -> Result<(), Failure> {
    let (mut shown, mut known) = (0, false);
    loop {
        let Some(told) = surface.find::<StoryReport>(path).await? else {
            if known {
                return Err(Failure::new("the call's story is forgotten: newer calls have taken its place"));
            }
            tokio::time::sleep(LOOK).await;
            continue;
        };
        let report = &told.said;
        if !args.json && !known {
            head(report);
        }
        known = true;
        let all = report.steps.len() + report.left_out;
        if all == shown && report.over {
            match args.json {
                true => term::line(&told.json),
                false => report.hints.iter().for_each(|hint| term::line(&format!("note: {hint}"))),
            }
            return Ok(());
        }
        if !args.json {
            report
                .steps
                .iter()
                .skip(shown.saturating_sub(report.left_out))
                .for_each(|one| step(report, one, args.text));
        }
        shown = all;
        tokio::time::sleep(LOOK).await;
    }
}

fn head(report: &StoryReport) {
    let StoryReport { node, call_id, trace_id, began, .. } = report;
    let trace = trace_id.as_ref().map_or_else(String::new, |id| format!(", trace {id}"));
    term::line(&format!("{call_id}\n  at node {node}, from {began}{trace}"));
}

fn step(report: &StoryReport, one: &StepReport, text: bool) {
    let after = since(report.began, one.at());
    match one {
        StepReport::Message(message) => {
            term::line(&format!("{after}  {}", ladder(message)));
            if text {
                message.text.iter().for_each(|line| term::line(&format!("            | {line}")));
            }
        }
        StepReport::Decision { decision, .. } => {
            term::line(&format!("{after}  what is decided:"));
            print_decision(decision);
            term::line("");
        }
        StepReport::Call { .. } if report.steps.iter().any(|one| matches!(one, StepReport::Decision { .. })) => {}
        StepReport::Call { source, rule, set, destination, media, .. } => {
            let rule = rule.as_ref().map_or_else(|| "no rule matches".to_owned(), |rule| format!("rule {rule:?}"));
            let set = set.map_or_else(String::new, |set| format!(", set {set}"));
            let first = destination.as_ref().map_or_else(String::new, |uri| format!(", to {uri} first"));
            term::line(&format!("{after}  INVITE from {source}: {rule}{set}{first}"));
            media.iter().for_each(|line| term::line(&format!("            | {}", line.escape_debug())));
        }
        StepReport::End { destination, codes, setup_ms, lasted_ms, ending, .. } => {
            let tried = match codes.as_slice() {
                [] => String::new(),
                codes => format!("; tries: {}", codes.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")),
            };
            let setup = setup_ms.map_or_else(String::new, |setup| format!("; set up in {setup:.1} ms"));
            let at = destination.as_ref().map_or_else(String::new, |uri| format!("; at {uri}"));
            term::line(&format!("{after}  over: {ending}, after {:.3} s{tried}{setup}{at}", lasted_ms / 1000.0));
        }
    }
}

/// Who tells whom what.
fn ladder(message: &MessageReport) -> String {
    let MessageReport { direction, why, peer, local, line, .. } = message;
    let (from, arrow, to) = match direction.as_str() {
        "in" => (peer, "->", local),
        "lost" => (local, "-x", peer),
        _ => (local, "->", peer),
    };
    let why = why.as_ref().map_or_else(String::new, |why| format!(" (lost: {why})"));
    format!("{:<ADDRESS$} {arrow} {:<ADDRESS$} {line}{why}", from.to_string(), to.to_string())
}

fn since(began: Moment, at: Moment) -> String {
    let after = at.0.duration_since(began.0).unwrap_or_default();
    format!("{:>8.3} s", after.as_secs_f64())
}

fn path_of(call_id: &str) -> String {
    let call_id: String = form_urlencoded::byte_serialize(call_id.as_bytes()).collect();
    format!("/traces/{}", call_id.replace('+', "%20"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_ladder_says_who_told_whom_what_and_when() {
        let message = |direction: &str, why: Option<&str>| MessageReport {
            at: Moment(SystemTime::UNIX_EPOCH),
            direction: direction.to_owned(),
            why: why.map(str::to_owned),
            peer: "10.0.0.1:5060".parse().expect("an address"),
            local: "10.0.0.2:8060".parse().expect("an address"),
            transport: "udp".to_owned(),
            listener: "udp:10.0.0.2:8060".to_owned(),
            line: "BYE sip:a SIP/2.0".to_owned(),
            method: "BYE".to_owned(),
            status: None,
            text: Vec::new(),
        };
        let (peer, ours) = (format!("{:<21}", "10.0.0.1:5060"), format!("{:<21}", "10.0.0.2:8060"));
        assert_eq!(ladder(&message("in", None)), format!("{peer} -> {ours} BYE sip:a SIP/2.0"));
        assert_eq!(ladder(&message("out", None)), format!("{ours} -> {peer} BYE sip:a SIP/2.0"));
        let lost = format!("{ours} -x {peer} BYE sip:a SIP/2.0 (lost: ICMP)");
        assert_eq!(ladder(&message("lost", Some("ICMP"))), lost);
        let at = |millis| Moment(SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
        assert_eq!((since(at(0), at(2034)), since(at(5), at(0))), ("   2.034 s".to_owned(), "   0.000 s".to_owned()));
    }

    #[test]
    fn a_call_id_is_encoded_for_its_path() {
        assert_eq!(path_of("1-2@[::1]/+ %"), "/traces/1-2%40%5B%3A%3A1%5D%2F%2B%20%25");
    }
}
