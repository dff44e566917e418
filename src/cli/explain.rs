//! `tandem explain`: what would become of a message, and why.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::surface::{How, Place, Surface, Told, Where, title};
use super::table::{self, Cell, Tone};
use super::{Failure, block_on, show, term};
use crate::config::Config;
use crate::edge::http::{
    ConditionReport, ExplainReport, ExplainedDestination, ExplainedSet, FateReport, RuleReport, TryReport, listener_of,
    pasted,
};
use crate::engine::explain::Came;
use crate::server::{Offline, explain_offline};

/// A message is no longer than this.
const LONGEST: u64 = 65_536;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The message, as it was sent or pasted (lines may end in LF alone); `-` or nothing: standard input.
    message: Option<PathBuf>,
    /// The sender's address [default: as its Via says].
    #[arg(long, value_name = "ADDRESS:PORT")]
    source: Option<SocketAddr>,
    /// The listener that it comes by, as `udp:127.0.0.1:8060` [default: the first that reaches the sender].
    #[arg(long, value_name = "LISTENER")]
    listener: Option<String>,
    /// Ask the node with this HTTP surface [default: as the configuration of this machine says, else 127.0.0.1:9060].
    #[arg(long, value_name = "WHERE", value_parser = Place::parse)]
    http: Option<Place>,
    /// Ask no node: explain by this configuration file and the stored sets, as after a fresh start.
    #[arg(long, value_name = "FILE", conflicts_with = "http")]
    config: Option<PathBuf>,
    /// With --config: read the sets from this database instead of the configuration's.
    #[arg(long, value_name = "URL", requires = "config")]
    database: Option<String>,
    /// Print JSON instead.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    how: How,
}

pub(super) fn main(args: &Args) -> Result<(), Failure> {
    let message = read(args.message.as_deref())?;
    let told = match &args.config {
        Some(file) => offline(args, file, &message)?,
        None => {
            let surface = Where::at(args.http.clone(), args.how.clone()).surface()?;
            block_on(online(args, message, surface))?
        }
    };
    match args.json {
        true => term::line(&told.json),
        false => print(&told.said),
    }
    Ok(())
}

fn read(file: Option<&Path>) -> Result<Vec<u8>, Failure> {
    let mut message = Vec::new();
    let file = file.filter(|file| *file != Path::new("-"));
    let name = file.map_or_else(|| "standard input".to_owned(), |file| file.display().to_string());
    let taken = match file {
        Some(file) => std::fs::File::open(file).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut message)),
        None => std::io::stdin().lock().take(LONGEST + 1).read_to_end(&mut message),
    };
    match taken {
        Ok(length) if length as u64 > LONGEST => {
            Err(Failure::new(format!("{name} has more than {LONGEST} bytes: give one SIP message")))
        }
        Ok(_) => Ok(message),
        Err(fault) => Err(Failure::new(format!("can't read {name}: {fault}: give a file with one SIP message, or -"))),
    }
}

async fn online(args: &Args, message: Vec<u8>, surface: Surface) -> Result<Told<ExplainReport>, Failure> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if let Some(source) = args.source {
        query.append_pair("source", &source.to_string());
    }
    if let Some(listener) = &args.listener {
        query.append_pair("listener", listener);
    }
    surface.post(&format!("/explain?{}", query.finish()), "message/sip", message).await
}

fn offline(args: &Args, file: &Path, message: &[u8]) -> Result<Told<ExplainReport>, Failure> {
    let mut config = Config::load(file).map_err(Failure::configuration)?;
    if let Some(url) = &args.database {
        config.database.url.clone_from(url);
    }
    let listener = match &args.listener {
        Some(text) => Some(listener_of(text, &config.listeners).map_err(Failure::new)?.id),
        None => None,
    };
    let came = Came { source: args.source, listener };
    let (message, mut notes) = pasted(message);
    let explained = block_on(async {
        explain_offline(&config, &message, came).await.map_err(|faults| Failure::configuration(faults.join("\n")))
    })?;
    let Offline { told, notes: more } = explained;
    notes.splice(0..0, more);
    let said = ExplainReport::of(None, came, &told.map_err(Failure::new)?).noted(notes);
    let json = serde_json::to_string(&said).map_err(Failure::new)?;
    Ok(Told { json, said })
}

fn print(told: &ExplainReport) {
    let ExplainReport { method, request_uri, source, listener, .. } = told;
    let assumed = |assumed, text| if assumed { text } else { "" };
    term::line(&format!("{method} {request_uri}"));
    term::line(&format!("  from {source}{}", assumed(told.source_assumed, ", as its Via says (--source for another)")));
    let by = assumed(told.listener_assumed, ", the first that reaches it (--listener for another)");
    term::line(&format!("  by {listener}{by}"));
    print_decision(told);
    term::line("(nothing was sent, and nothing has changed)");
}

/// Rule by rule, destination by destination, and what becomes of it.
pub(super) fn print_decision(told: &ExplainReport) {
    told.notes.iter().for_each(|note| term::line(&format!("  note: {}", plain(note))));
    if !told.rules.is_empty() {
        term::line("\nrules: the first that matches decides");
        print_rules(&told.rules);
    }
    told.sets.iter().for_each(print_set);
    term::line("");
    print_fate(&told.fate, &told.sets);
}

/// What could move a terminal's cursor is taken out.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn print_rules(rules: &[RuleReport]) {
    for rule in rules {
        let matches = match rule.matches {
            Some(true) => "matches",
            Some(false) => "does not match",
            None => "not asked, one before it matches",
        };
        term::line(&format!("  {:?}: {matches} ({})", rule.name, plain(&rule.action)));
        table::print("    ", &rule.conditions.iter().map(condition).collect::<Vec<_>>());
    }
}

fn condition(one: &ConditionReport) -> Vec<Cell> {
    let has = match one.has.as_slice() {
        [] => "there is none".to_owned(),
        all => format!("it is {}", all.iter().map(|has| format!("\"{has}\"")).collect::<Vec<_>>().join(" and ")),
    };
    let (holds, tone) = if one.holds { ("yes", Tone::Good) } else { ("no", Tone::Bad) };
    vec![
        Cell::text(holds).toned(tone),
        Cell::text(&one.key),
        Cell::text(format!("wants {}", one.wants)),
        Cell::text(has),
    ]
}

fn print_set(set: &ExplainedSet) {
    let candidates = set.destinations.iter().filter(|one| one.candidate).count();
    let turn = if set.turn == "session" { "the turn of INVITEs" } else { "the turn of what is no INVITE" };
    let limit = set.max_sessions.map_or_else(String::new, |most| format!(" of {most}"));
    term::line(&format!(
        "\nset {}, {}, {turn}: {candidates} of {} may be chosen, {} sessions{limit}",
        title(set.set, &set.name),
        set.algorithm,
        set.destinations.len(),
        set.sessions,
    ));
    if let Some(mode) = &set.panics {
        term::line(&format!("  too few are fit: it panics ({mode})"));
    }
    if !set.destinations.is_empty() {
        let mut head = vec![Cell::number("PLACE")];
        head.extend(["DESTINATION", "ORDER", "HEALTH", "FIT"].map(Cell::text));
        head.extend(["WEIGHT", "SHARE", "SESSIONS"].map(Cell::number));
        // Where nobody has a limit of calls a second, there is nothing to tell.
        let paced = set.destinations.iter().any(|one| one.max_cps.is_some());
        head.extend(paced.then(|| Cell::number("CPS")));
        head.push(Cell::number("ANSWERS IN"));
        head.extend(["SCORE", "WHY"].map(Cell::text));
        let rows = std::iter::once(head).chain(set.destinations.iter().map(|one| destination(one, paced)));
        table::print("  ", &rows.collect::<Vec<_>>());
    }
    match (set.outcome.as_str(), set.overflow) {
        ("somebody", _) => {}
        (outcome, Some(next)) => term::line(&format!("  {}: set {next} is asked (overflow)", in_words(outcome))),
        (outcome, None) => term::line(&format!("  {}, and it overflows to no other set", in_words(outcome))),
    }
}

fn in_words(outcome: &str) -> &'static str {
    if outcome == "full" { "nobody has room" } else { "nobody is fit" }
}

fn destination(one: &ExplainedDestination, paced: bool) -> Vec<Cell> {
    let held = &one.destination;
    let of = |most: Option<u32>| most.map_or_else(String::new, |most| format!("/{most}"));
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let at_limit = held.fitness.contains("at its limit");
    let why = match (one.candidate, held.fit) {
        (false, false) if at_limit => "at its limit".to_owned(),
        (true, true) | (false, false) => show::why(held),
        (true, false) | (false, true) => one.role.clone(),
    };
    let mut cells = vec![
        Cell::number(or_none(one.place.map(|place| place.to_string()))),
        Cell::text(show::name_of(held)),
        Cell::text(&held.order.order).toned(if held.order.order == "ready" { Tone::Plain } else { Tone::Doubtful }),
        Cell::text(&held.health).toned(show::tone_of(&held.health)),
        Cell::text(if held.fit { "yes" } else { "no" }).toned(if held.fit { Tone::Good } else { Tone::Bad }),
        Cell::number(held.weight),
        Cell::number(format!("{}%", held.share_percent)),
        Cell::number(format!("{}{}", held.sessions, of(held.max_sessions))),
    ];
    if paced {
        cells.push(Cell::number(or_none(one.calls_of_late.map(|calls| format!("{calls:.1}{}", of(one.max_cps))))));
    }
    cells.extend([
        Cell::number(if one.answer_ms > 0.0 { format!("{:.1} ms", one.answer_ms) } else { "-".to_owned() }),
        Cell::text(or_none(one.score.clone())),
        Cell::text(why),
    ]);
    cells
}

fn print_fate(fate: &FateReport, sets: &[ExplainedSet]) {
    match fate {
        FateReport::Sent { tries, no_way, most_tries, .. } => {
            for (nth, one) in tries.iter().take(*most_tries).enumerate() {
                let TryReport { uri, address, transport, listener, request_uri } = one;
                let first = if nth == 0 { "it goes to" } else { "if that fails, to" };
                let to = if uri.contains(&address.to_string()) { String::new() } else { format!(" ({address})") };
                let by = format!("{transport} from {listener}");
                term::line(&plain(&format!("{first} {uri}{to} by {by}, with Request-URI {request_uri}")));
            }
            for uri in no_way {
                term::line(&plain(&format!("no listener of ours leads to {uri}: it is passed over")));
            }
            if let Some(set) = sets.last() {
                term::line(&plain(&format!("if all fail: {}", set.empty_reply)));
            }
        }
        FateReport::Relayed { request_uri, address, transport, listener, why } => {
            let line =
                format!("it goes to {address} by {transport} from {listener}, with Request-URI {request_uri}: {why}");
            term::line(&plain(&line));
        }
        FateReport::LookedUp { name, why } => {
            term::line(&plain(&format!("{name} is looked up, and it goes there: {why}")));
        }
        FateReport::Answered { status, reason, headers, why } => {
            term::line(&plain(&format!("it is answered {status} {reason}: {why}")));
            headers.iter().for_each(|line| term::line(&plain(&format!("  {line}"))));
        }
        FateReport::Ends { why } => term::line(&plain(&format!("it ends here: {why}"))),
    }
}
