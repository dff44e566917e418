//! `tandem events`: what has happened since the node started, and what happens.

use std::io::Write;
use std::sync::Arc;

use super::live::{News, listen};
use super::surface::{Surface, Told, Where, find_set};
use super::table::{self, Cell, Tone};
use super::{Failure, block_on, run, term};
use crate::edge::client::StreamEvent;
use crate::edge::http::{EventsReport, SetsReport, event_id};
use crate::edge::journal::{Entry, KEPT, Kind};

/// So many are told, if nobody says how many or since when.
const USUAL: usize = 100;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Go on with what happens, until Ctrl-C; the node is asked again if it goes away.
    #[arg(long, short)]
    follow: bool,
    /// Only what came after the event with this number; 0: all that the node keeps.
    #[arg(long, value_name = "NUMBER")]
    since: Option<u64>,
    /// At most so many: the newest, or with --since the first [default: 100, with --since all].
    #[arg(long, value_name = "N", value_parser = limit)]
    limit: Option<usize>,
    /// Only of these kinds, as health,order: start, health, order, distrust, agent, drain, set, rows, reload, store, end,
    /// address, peer, leave.
    #[arg(long, value_name = "KIND,...", value_delimiter = ',', value_parser = kind)]
    kind: Vec<Kind>,
    /// Only of this set, by its number or name.
    #[arg(long, value_name = "SET")]
    set: Option<String>,
    /// Print each event as one line of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: Where,
}

fn limit(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(limit @ 1..=KEPT) => Ok(limit),
        Ok(_) | Err(_) => Err(format!("give a number from 1 to {KEPT}")),
    }
}

fn kind(text: &str) -> Result<Kind, String> {
    Kind::from_name(text).ok_or_else(|| format!("there are {}", Kind::ALL.map(Kind::name).join(", ")))
}

pub(super) fn main(args: &Args) -> Result<(), Failure> {
    if args.follow && args.since.is_some() && args.limit.is_some() {
        return Err(Failure::usage("--follow leaves nothing out after --since: drop --limit"));
    }
    let surface = args.node.surface()?;
    block_on(async {
        match args.follow {
            false => events(args, &surface).await.map(drop),
            true => tokio::select! {
                result = follow(args, surface) => result,
                _ = run::stopped() => Ok(()),
            },
        }
    })
}

/// Whom somebody wants to hear of.
struct Filter<'a> {
    kinds: &'a [Kind],
    set: Option<u32>,
    json: bool,
}

impl Filter<'_> {
    fn wants(&self, entry: &Entry) -> bool {
        let kind = self.kinds.is_empty() || self.kinds.contains(&entry.kind);
        kind && (self.set.is_none() || self.set == entry.set)
    }

    fn print(&self, entry: &Entry) -> Result<(), Failure> {
        if self.json {
            term::line(&serde_json::to_string(entry).map_err(Failure::new)?);
        } else {
            table::print("", &[row(entry)]);
        }
        Ok(())
    }
}

/// Tells what has been; the node's answer and the filter are for what follows.
async fn events<'a>(args: &'a Args, surface: &Surface) -> Result<(EventsReport, Filter<'a>), Failure> {
    let set = match &args.set {
        None => None,
        Some(set) => Some(number(set, surface).await?),
    };
    let filter = Filter { kinds: &args.kind, set, json: args.json };
    let path = match args.since {
        Some(since) => format!("/events?since={since}&limit={KEPT}"),
        None => format!("/events?limit={KEPT}"),
    };
    let Told { said, .. } = surface.get::<EventsReport>(&path).await?;
    if let Some(since) = args.since {
        forgotten(since, said.first);
    }
    let wanted: Vec<_> = said.events.iter().filter(|entry| filter.wants(entry)).collect();
    let some = match (args.since, args.limit) {
        (Some(_), limit) => &wanted[..limit.unwrap_or(wanted.len()).min(wanted.len())],
        (None, limit) => &wanted[wanted.len().saturating_sub(limit.unwrap_or(USUAL))..],
    };
    some.iter().try_for_each(|entry| filter.print(entry))?;
    Ok((said, filter))
}

/// The set may be gone by now, and its events still be there.
async fn number(set: &str, surface: &Surface) -> Result<u32, Failure> {
    if let Ok(number) = set.parse() {
        return Ok(number);
    }
    let all: Told<SetsReport> = surface.get("/sets").await?;
    find_set(&all.said.sets, set).map(|set| set.set)
}

async fn follow(args: &Args, surface: Surface) -> Result<(), Failure> {
    let (told, filter) = events(args, &surface).await?;
    let mut last = Place { start: start(&event_id(0, told.started.0)), sequence: told.last };
    let mut news = listen(surface.clone(), Some(event_id(last.sequence, told.started.0))).await?;
    let mut live = true;
    while let Some(news) = news.recv().await {
        match news {
            News::Event(StreamEvent { name, id: Some(id), data }) if name == "event" => {
                let entry: Entry = serde_json::from_str(&data).map_err(Failure::new)?;
                for missed in last.before(&start(&id), entry.sequence, &surface).await {
                    filter.wants(&missed).then(|| filter.print(&missed)).transpose()?;
                }
                last = Place { start: start(&id), sequence: entry.sequence };
                filter.wants(&entry).then(|| filter.print(&entry)).transpose()?;
            }
            News::Event(_) => {}
            News::NotLive(why) if live => {
                aside(&format!("not live: {why}"));
                live = false;
            }
            News::NotLive(_) => {}
            News::Live => {
                aside("live again");
                live = true;
            }
        }
    }
    Ok(())
}

/// The last event that was told.
struct Place {
    start: String,
    sequence: u64,
}

impl Place {
    /// What came between it and the event with that number. A node that has started anew tells its newest ones alone.
    async fn before(&self, start: &str, sequence: u64, surface: &Surface) -> Vec<Arc<Entry>> {
        let since = if start == self.start { self.sequence } else { 0 };
        if sequence <= since + 1 {
            return Vec::new();
        }
        match surface.get::<EventsReport>(&format!("/events?since={since}&limit={KEPT}")).await {
            Ok(Told { said, .. }) => {
                forgotten(since, said.first.min(sequence));
                said.events.into_iter().filter(|entry| entry.sequence < sequence).collect()
            }
            Err(failure) => {
                aside(&format!("{} to {} are left out: {}", since + 1, sequence - 1, failure.text));
                Vec::new()
            }
        }
    }
}

/// Which start of the node an event's id is of.
fn start(id: &str) -> String {
    id.split('-').next().unwrap_or_default().to_owned()
}

/// Tells if the node has forgotten some of what was asked for.
fn forgotten(since: u64, first: u64) {
    if first > since + 1 {
        aside(&format!("{} to {} are forgotten: a node keeps the last {KEPT}", since + 1, first - 1));
    }
}

fn aside(text: &str) {
    // Nothing can be done if even this can't be written.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// One line, which stands under the others though each is written alone.
pub(super) fn row(entry: &Entry) -> Vec<Cell> {
    let tone = match (entry.kind, entry.new.as_deref()) {
        (Kind::Health, Some("up")) | (Kind::Set, Some("fit")) => Tone::Good,
        (Kind::Health, Some("down")) | (Kind::Set, Some("empty")) => Tone::Bad,
        (Kind::Health | Kind::Order | Kind::Distrust | Kind::Store | Kind::Leave, _) => Tone::Doubtful,
        _ => Tone::Plain,
    };
    vec![
        Cell::number(format!("{:>6}", entry.sequence)),
        Cell::text(entry.at),
        Cell::text(format!("{:<8}", entry.kind.name())).toned(tone),
        Cell::text(format!("{:<4}", entry.set.map_or_else(|| "-".to_owned(), |set| set.to_string()))),
        Cell::text(&entry.text),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::engine::dispatch::SetId;

    #[test]
    fn only_what_is_wanted_is_told() {
        let entry = |kind| Entry::new(kind, SystemTime::UNIX_EPOCH, "x").of_set(SetId(19));
        let filter = |kinds, set| Filter { kinds, set, json: false };
        assert!(filter(&[], None).wants(&entry(Kind::Health)));
        assert!(filter(&[Kind::Order, Kind::Health], Some(19)).wants(&entry(Kind::Health)));
        assert!(!filter(&[Kind::Order], None).wants(&entry(Kind::Health)));
        assert!(!filter(&[], Some(20)).wants(&entry(Kind::Health)));
        assert!(!filter(&[], Some(19)).wants(&Entry { set: None, ..entry(Kind::Peer) }));
    }

    #[test]
    fn kinds_and_limits_are_told_what_they_may_be() {
        assert_eq!(kind("order"), Ok(Kind::Order));
        assert!(kind("orders").is_err_and(|text| text.starts_with("there are start, health, order, ")));
        assert_eq!((limit("4096"), limit("0").is_err(), limit("4097").is_err()), (Ok(4096), true, true));
    }

    #[test]
    fn an_id_tells_its_start() {
        assert_eq!(start(&event_id(7, SystemTime::UNIX_EPOCH)), "0");
    }
}
