//! `tandem show`: what is held of each destination, and why.

mod nodes;

use std::time::{Duration, SystemTime};

use super::surface::{Surface, Told, Where, find_set, find_uri, path_of, title};
use super::table::{self, Cell, Tone};
use super::{Failure, block_on, term};
use crate::edge::http::{
    AddressStory, AgentReport, DestinationReport, DestinationStory, NodeReport, ObservationReport, OrderReport,
    SetReport, SetsReport,
};
use crate::edge::moment::Moment;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A set, by its number or name; without it all.
    set: Option<String>,
    /// One of its destinations, by its URI, its host and port, or any part that only one has: everything of it.
    destination: Option<String>,
    /// The node and the others of its cluster instead: versions, virtual addresses that they hold, when they were heard.
    #[arg(long, conflicts_with = "set")]
    nodes: bool,
    /// Print the node's JSON instead.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: Where,
}

pub(super) fn main(args: &Args) -> Result<(), Failure> {
    let surface = args.node.surface()?;
    block_on(show(args, surface))
}

async fn show(args: &Args, surface: Surface) -> Result<(), Failure> {
    if args.nodes {
        let told: Told<NodeReport> = surface.get("/node").await?;
        match args.json {
            true => term::line(&told.json),
            false => nodes::print(&told.said),
        }
        return Ok(());
    }
    let all: Told<SetsReport> = surface.get("/sets").await?;
    let Some(set) = &args.set else {
        if args.json {
            term::line(&all.json);
        } else {
            print_sets(&all.said.sets.iter().collect::<Vec<_>>());
            print_parked(all.said.sessions.parked);
        }
        return Ok(());
    };
    let set = find_set(&all.said.sets, set)?;
    match &args.destination {
        None => one_set(set, args.json, surface).await?,
        Some(wanted) => {
            let uri = find_uri(set, wanted)?;
            let story: Told<DestinationStory> = surface.get(&path_of(set.set, &uri, "")).await?;
            if args.json {
                term::line(&story.json);
            } else {
                print_story(&story.said);
            }
        }
    }
    Ok(())
}

/// The destinations of one set.
pub(super) async fn one_set(set: &SetReport, json: bool, surface: Surface) -> Result<(), Failure> {
    if json {
        let told: Told<SetReport> = surface.get(&format!("/sets/{}", set.set)).await?;
        term::line(&told.json);
    } else {
        print_sets(&[set]);
        print_summary(set);
    }
    Ok(())
}

/// Sessions that stand among the others and are not this node's to end.
fn print_parked(parked: u64) {
    match parked {
        0 => {}
        1 => term::line("\n1 session is parked: another node holds the address that its caller came by"),
        _ => term::line(&format!(
            "\n{parked} sessions are parked: another node holds the address that their callers came by"
        )),
    }
}

/// One line for each destination.
fn print_sets(sets: &[&SetReport]) {
    let texts = |texts: &[&str]| texts.iter().map(Cell::text).collect::<Vec<_>>();
    let mut head = texts(&["SET", "DESTINATION", "ORDER", "HEALTH", "FIT", "SINCE"]);
    head.extend([Cell::number("SESSIONS"), Cell::number("SHARE"), Cell::text("WHY")]);
    let mut rows = vec![head];
    let now = SystemTime::now();
    for set in sets {
        rows.extend(set.destinations.iter().map(|one| row(set, one, now)));
        if set.destinations.is_empty() {
            rows.push(texts(&[&set.set.to_string(), "none is loaded"]));
        }
    }
    table::print("", &rows);
}

fn row(set: &SetReport, one: &DestinationReport, now: SystemTime) -> Vec<Cell> {
    vec![
        Cell::text(set.set),
        Cell::text(name_of(one)),
        Cell::text(&one.order.order).toned(if one.order.order == "ready" { Tone::Plain } else { Tone::Doubtful }),
        Cell::text(&one.health).toned(tone_of(&one.health)),
        Cell::text(if one.fit { "yes" } else { "no" }).toned(if one.fit { Tone::Good } else { Tone::Bad }),
        Cell::text(ago(one.since, now)),
        Cell::number(one.sessions),
        Cell::number(if one.fit { format!("{}%", one.share_percent) } else { "-".to_owned() }),
        Cell::text(why(one)),
    ]
}

/// The URI; with the address if it does not name that.
pub(super) fn name_of(one: &DestinationReport) -> String {
    match one.address {
        Some(address) if !one.uri.contains(&address.to_string()) => format!("{} ({address})", one.uri),
        Some(_) | None => one.uri.clone(),
    }
}

pub(super) fn tone_of(health: &str) -> Tone {
    match health {
        "up" => Tone::Good,
        "down" => Tone::Bad,
        _ => Tone::Doubtful,
    }
}

/// Why it gets calls, or gets none.
pub(super) fn why(one: &DestinationReport) -> String {
    let OrderReport { order, by, reason, .. } = &one.order;
    if order != "ready" {
        let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        return format!("{order} by {by}{reason}");
    }
    if one.address.is_none() {
        return "its name has no address".to_owned();
    }
    if let Some(AgentReport { refuses: Some(word), reason, .. }) = &one.agent {
        return if reason.is_empty() {
            format!("its agent says {word}")
        } else {
            format!("its agent says {word}: {reason}")
        };
    }
    one.why.clone()
}

fn print_summary(set: &SetReport) {
    let count = set.destinations.len();
    let panics = if set.panicking { "; too few are fit: it panics" } else { "" };
    term::line(&format!(
        "\nset {}, {}: {} of {count} fit{panics}\n{} failovers, {} requests whose every try failed, {} that found nobody fit",
        title(set.set, &set.name),
        set.algorithm,
        set.fit,
        set.failovers,
        set.exhausted,
        set.empty,
    ));
}

fn print_story(story: &DestinationStory) {
    let now = SystemTime::now();
    for (nth, one) in story.addresses.iter().enumerate() {
        if nth > 0 {
            term::line("");
        }
        term::line(&format!("{} of set {}", name_of(&one.destination), title(story.set, &story.name)));
        table::print("  ", &facts(&one.destination, now));
        print_observations(one, &story.node);
    }
}

/// What is held of it, a line each.
fn facts(one: &DestinationReport, now: SystemTime) -> Vec<Vec<Cell>> {
    let mut facts = Vec::new();
    let mut fact = |name: &str, text: String, tone| facts.push(vec![Cell::text(name), Cell::text(text).toned(tone)]);
    let when = |moment: Moment| format!("{moment} ({})", ago(moment, now));
    fact("fit", one.fitness.clone(), if one.fit { Tone::Good } else { Tone::Bad });
    let health = format!("{} since {}: {}", one.health, when(one.since), one.why);
    fact("health", health, tone_of(&one.health));
    let OrderReport { order, by, at, reason, deadline, then_end, .. } = &one.order;
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    fact("order", format!("{order} by {by} at {}{reason}", when(*at)), Tone::Plain);
    if let Some(deadline) = deadline {
        let then = if *then_end { ", then its sessions are ended" } else { "" };
        fact("deadline", format!("{deadline}{then}"), Tone::Plain);
    }
    let text = |count: u64| if count == 1 { "session".to_owned() } else { "sessions".to_owned() };
    let (sessions, peak) = (one.sessions, one.sessions_peak);
    fact("calls", format!("{sessions} {} now, {peak} at most, {} in all", text(sessions), one.selections), Tone::Plain);
    if one.sessions_elsewhere > 0 || !one.votes.is_empty() {
        let votes: Vec<_> = one.votes.iter().map(|vote| format!("{} says {}", vote.node, vote.health)).collect();
        let elsewhere = one.sessions_elsewhere;
        fact("cluster", format!("{elsewhere} {} elsewhere; {}", text(elsewhere), votes.join(", ")), Tone::Plain);
    }
    if let Some(room) = room(one) {
        fact("room", room, Tone::Plain);
    }
    fact("share", format!("{}% of weight {}, priority {}", one.share_percent, one.weight, one.priority), Tone::Plain);
    if let Some(agent) = &one.agent {
        let (text, tone) = agent_fact(agent, now);
        fact("agent", text, tone);
    }
    let penalty = if one.penalty > 0 { format!(", penalty {}", one.penalty) } else { String::new() };
    fact("falls", format!("{}, ejections {}{penalty}", one.falls, one.ejections), Tone::Plain);
    let means: Vec<_> =
        one.latency.iter().map(|(by, all)| format!("{by} {:.1} ms of {}", all.mean_ms, all.count)).collect();
    fact("latency", if means.is_empty() { "not seen yet".to_owned() } else { means.join(", ") }, Tone::Plain);
    fact("probed", if one.probed { "yes" } else { "no: calls alone tell of it" }.to_owned(), Tone::Plain);
    if !one.description.is_empty() {
        fact("row", one.description.clone(), Tone::Plain);
    }
    facts
}

/// The sessions against their limits; none if it has no limit.
fn room(one: &DestinationReport) -> Option<String> {
    let of = |sessions: u64, limit: Option<u32>| match limit {
        Some(limit) => format!("{sessions} of {limit}"),
        None => format!("{sessions} without limit"),
    };
    let all = one.max_sessions.map(|limit| of(one.sessions, Some(limit)));
    let classes =
        one.resources.iter().map(|class| format!("{} {}", class.class, of(class.sessions, class.max_sessions)));
    let room: Vec<_> = all.into_iter().chain(classes).collect();
    (!room.is_empty()).then(|| room.join(", "))
}

/// What its agent says.
fn agent_fact(agent: &AgentReport, now: SystemTime) -> (String, Tone) {
    let AgentReport { speaks, line, at, silences, unknown_words, .. } = agent;
    let tone = if *speaks { Tone::Plain } else { Tone::Doubtful };
    let said = at.map(|at| format!("said {line:?} {}", ago(at, now)));
    let mut text = match (said, speaks) {
        (Some(said), true) => said,
        (Some(said), false) => format!("{said}, too long ago to count"),
        (None, _) => "has said nothing yet".to_owned(),
    };
    if *speaks {
        let sessions = agent.max_sessions.map(|most| format!(", {most} sessions at most")).unwrap_or_default();
        text += &format!(": {}% of its weight{sessions}", agent.share_percent);
    }
    if *silences + *unknown_words > 0 {
        text += &format!("; {silences} times silent, {unknown_words} unknown words");
    }
    (text, tone)
}

fn print_observations(one: &AddressStory, node: &str) {
    if one.observations.is_empty() {
        return term::line(&format!("  node {node} has seen nothing of it yet"));
    }
    term::line(&format!("\n  last {} observations, newest last", one.observations.len()));
    let mut head: Vec<_> = ["AT", "NODE", "BY", "OUTCOME", "MEANING"].map(Cell::text).to_vec();
    head.push(Cell::number("MS"));
    let mut rows = vec![head];
    rows.extend(one.observations.iter().map(observation));
    table::print("  ", &rows);
}

fn observation(seen: &ObservationReport) -> Vec<Cell> {
    let tone = match seen.meaning.as_str() {
        "alive" => Tone::Good,
        "fall" => Tone::Bad,
        _ => Tone::Doubtful,
    };
    vec![
        Cell::text(seen.at),
        Cell::text(&seen.node),
        Cell::text(&seen.witness),
        Cell::text(&seen.outcome),
        Cell::text(&seen.meaning).toned(tone),
        Cell::number(format!("{:.1}", seen.latency_ms)),
    ]
}

/// How long ago, to two figures or so.
pub(super) fn ago(moment: Moment, now: SystemTime) -> String {
    let seconds = now.duration_since(moment.0).unwrap_or(Duration::ZERO).as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s ago"),
        (0, 0, _) => format!("{minutes}m {}s ago", seconds % 60),
        (0, ..) => format!("{hours}h {}m ago", minutes % 60),
        _ => format!("{days}d {}h ago", hours % 24),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::edge::http::ClassReport;

    const EPOCH: Moment = Moment(SystemTime::UNIX_EPOCH);

    /// A destination in service.
    pub(in crate::cli) fn destination(uri: &str, address: &str) -> DestinationReport {
        DestinationReport {
            uri: uri.to_owned(),
            address: address.parse().ok(),
            description: String::new(),
            weight: 1,
            priority: 100,
            order: OrderReport {
                version: "0-ready".to_owned(),
                order: "ready".to_owned(),
                by: "table".to_owned(),
                at: EPOCH,
                reason: String::new(),
                deadline: None,
                then_end: false,
            },
            health: "up".to_owned(),
            since: EPOCH,
            why: "it answers".to_owned(),
            fit: true,
            fitness: "fit".to_owned(),
            probed: true,
            share_percent: 100,
            agent: None,
            penalty: 0,
            sessions: 0,
            sessions_peak: 0,
            sessions_elsewhere: 0,
            votes: Vec::new(),
            max_sessions: None,
            resources: Vec::new(),
            selections: 0,
            falls: 0,
            ejections: 0,
            latency: BTreeMap::new(),
        }
    }

    /// An agent that said that.
    fn agent(line: &str, refuses: Option<&str>) -> AgentReport {
        AgentReport {
            speaks: true,
            share_percent: 75,
            max_sessions: Some(30),
            refuses: refuses.map(str::to_owned),
            reason: String::new(),
            line: line.to_owned(),
            at: Some(EPOCH),
            answers: 1,
            silences: 0,
            unknown_words: 0,
        }
    }

    /// Set 19 with these.
    pub(in crate::cli) fn set(destinations: Vec<DestinationReport>) -> SetReport {
        SetReport {
            set: 19,
            name: "tts".to_owned(),
            algorithm: "round_robin".to_owned(),
            fit: destinations.len(),
            panicking: false,
            empty: 0,
            failovers: 0,
            exhausted: 0,
            destinations,
        }
    }

    #[test]
    fn why_tells_first_what_keeps_calls_away() {
        let fit = destination("sip:10.0.0.1:7010", "10.0.0.1:7010");
        assert_eq!(why(&fit), "it answers");
        let nowhere = DestinationReport { address: None, fit: false, ..fit.clone() };
        assert_eq!(why(&nowhere), "its name has no address");
        let mut stopped = fit.clone();
        (stopped.fit, stopped.agent) = (false, Some(agent("stopped", Some("stopped"))));
        assert_eq!(why(&stopped), "its agent says stopped");
        let mut ordered = DestinationReport { fit: false, health: "down".to_owned(), ..fit };
        ordered.order.order = "maint".to_owned();
        assert_eq!(why(&ordered), "maint by table");
        (ordered.order.by, ordered.order.reason) = ("alice".to_owned(), "new model".to_owned());
        assert_eq!(why(&ordered), "maint by alice: new model");
    }

    #[test]
    fn room_is_told_for_all_sessions_and_for_each_class_of_them() {
        let class =
            |class: &str, sessions, max_sessions| ClassReport { class: class.to_owned(), sessions, max_sessions };
        let mut one = destination("sip:10.0.0.1:7010", "10.0.0.1:7010");
        assert_eq!(room(&one), None);
        (one.sessions, one.max_sessions) = (4, Some(100));
        one.resources = vec![class("tts", 3, Some(80)), class("asr", 1, None)];
        assert_eq!(room(&one).as_deref(), Some("4 of 100, tts 3 of 80, asr 1 without limit"));
    }

    #[test]
    fn a_destination_is_named_with_the_address_that_its_uri_lacks() {
        assert_eq!(name_of(&destination("sip:10.0.0.1:7010", "10.0.0.1:7010")), "sip:10.0.0.1:7010");
        assert_eq!(name_of(&destination("sip:tts.test", "10.0.0.1:5060")), "sip:tts.test (10.0.0.1:5060)");
        assert_eq!(name_of(&destination("sip:tts.test", "")), "sip:tts.test");
    }

    #[test]
    fn an_agent_is_told_with_its_own_words() {
        let now = EPOCH.0 + Duration::from_secs(3);
        let said = AgentReport { unknown_words: 2, ..agent("75% maxconn:30 x y", None) };
        let (text, tone) = agent_fact(&said, now);
        let wanted = "said \"75% maxconn:30 x y\" 3s ago: 75% of its weight, 30 sessions at most; 0 times silent, 2 unknown words";
        assert_eq!((text.as_str(), tone), (wanted, Tone::Plain));
        let silent = AgentReport { speaks: false, silences: 9, unknown_words: 0, ..said };
        let (text, tone) = agent_fact(&silent, now);
        let wanted = "said \"75% maxconn:30 x y\" 3s ago, too long ago to count; 9 times silent, 0 unknown words";
        assert_eq!((text.as_str(), tone), (wanted, Tone::Doubtful));
        let new = AgentReport { at: None, silences: 0, ..silent };
        assert_eq!(agent_fact(&new, now).0, "has said nothing yet");
    }

    #[test]
    fn ages_are_short_and_never_negative() {
        for (seconds, text) in
            [(0, "0s ago"), (59, "59s ago"), (61, "1m 1s ago"), (7260, "2h 1m ago"), (180_000, "2d 2h ago")]
        {
            assert_eq!(ago(EPOCH, EPOCH.0 + Duration::from_secs(seconds)), text);
        }
        assert_eq!(ago(Moment(EPOCH.0 + Duration::from_secs(5)), EPOCH.0), "0s ago");
    }
}
