//! `tandem plan`, `tandem reload` and `tandem rollback`: changes of the rows, before, while and after they take effect.

use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use super::set::giver;
use super::show::ago;
use super::surface::{JSON, Surface, Told, Where};
use super::table::{self, Cell, Tone};
use super::{Failure, block_on, term};
use crate::edge::http::{NodeReport, PartitionPlan, PartitionReport, PlanReport, PlannedChange, Reloaded, StoreReport};

/// How long one looks whether the other nodes have followed.
const FOLLOW: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
pub(super) struct PlanArgs {
    /// Of that partition alone [default: of all].
    #[arg(long, value_name = "NAME")]
    partition: Option<String>,
    /// Print the node's JSON instead.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: Where,
}

#[derive(Debug, clap::Args)]
pub(super) struct ReloadArgs {
    /// Of that partition alone [default: of all].
    #[arg(long, value_name = "NAME")]
    partition: Option<String>,
    /// Also if the last destination of a set or too many of one are taken out.
    #[arg(long)]
    force: bool,
    /// Only if these rows are in place: `tandem plan --json` tells their digest.
    #[arg(long, value_name = "DIGEST")]
    expected: Option<String>,
    #[command(flatten)]
    word: Word,
}

#[derive(Debug, clap::Args)]
pub(super) struct RollbackArgs {
    /// The version, by its number or what its digest begins with [default: show which there are].
    version: Option<String>,
    /// Serve the rows again.
    #[arg(long, conflicts_with = "version")]
    unpin: bool,
    /// Of which partition.
    #[arg(long, value_name = "NAME", default_value = "default")]
    partition: String,
    /// Also if the last destination of a set or too many of one are taken out.
    #[arg(long)]
    force: bool,
    /// Only if these rows are in place: `tandem rollback --json` tells their digest.
    #[arg(long, value_name = "DIGEST")]
    expected: Option<String>,
    #[command(flatten)]
    word: Word,
}

/// Who wants it, and how it is told.
#[derive(Debug, clap::Args)]
struct Word {
    /// Why, for those who will wonder.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// Who says so [default: the user, before sudo].
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Print the node's JSON instead.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: Where,
}

pub(super) fn plan(args: &PlanArgs) -> Result<(), Failure> {
    let surface = args.node.surface()?;
    block_on(async {
        let query = args.partition.as_deref().map(|name| {
            let name: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
            format!("?partition={name}")
        });
        let told: Told<PlanReport> = surface.get(&format!("/plan{}", query.unwrap_or_default())).await?;
        if args.json {
            term::line(&told.json);
        } else {
            told.said.partitions.iter().flat_map(planned).for_each(|line| term::line(&line));
        }
        let refused = told.said.partitions.iter().any(|one| !one.refused.is_empty() || one.error.is_some());
        if refused { Err(Failure::new("a reload would be refused")) } else { Ok(()) }
    })
}

pub(super) fn reload(args: &ReloadArgs) -> Result<(), Failure> {
    let ReloadArgs { partition, force, expected, word } = args;
    let by = giver(word.by.as_ref())?;
    let Word { reason, .. } = word;
    let body = json!({ "by": by, "reason": reason, "force": force, "partition": partition, "expected": expected });
    carry_out("/reload", body, word)
}

pub(super) fn rollback(args: &RollbackArgs) -> Result<(), Failure> {
    let RollbackArgs { version, unpin, partition, force, expected, word } = args;
    if version.is_none() && !unpin {
        return versions(partition, word);
    }
    if word.reason.is_empty() && !unpin {
        return Err(Failure::usage("why? Add --reason TEXT, for those who will wonder"));
    }
    let by = giver(word.by.as_ref())?;
    let body = json!({
        "by": by,
        "reason": word.reason,
        "force": force,
        "partition": partition,
        "version": version,
        "expected": expected,
    });
    carry_out("/rollback", body, word)
}

fn versions(partition: &str, word: &Word) -> Result<(), Failure> {
    let surface = word.node.surface()?;
    block_on(async {
        let told: Told<StoreReport> = surface.get("/store").await?;
        if word.json {
            term::line(&told.json);
            return Ok(());
        }
        let mut there = told.said.partitions.iter();
        let Some(found) = there.find(|one| one.partition == partition) else {
            let names: Vec<_> = told.said.partitions.iter().map(|one| one.partition.as_str()).collect();
            return Err(Failure::new(format!("no partition {partition}: there are {}", names.join(", "))));
        };
        table::print("", &listed(found, SystemTime::now()));
        Ok(())
    })
}

fn carry_out(path: &str, body: serde_json::Value, word: &Word) -> Result<(), Failure> {
    let surface = word.node.surface()?;
    block_on(async {
        let told: Told<Reloaded> = surface.post(path, JSON, body.to_string().into_bytes()).await?;
        if word.json {
            term::line(&told.json);
            return Ok(());
        }
        said(&told.said).iter().for_each(|line| term::line(line));
        followed(surface, &told.said.partitions).await
    })
}

/// Waits until the other nodes have the same in place, and tells which have not.
async fn followed(surface: Surface, partitions: &[PartitionReport]) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        let told: Told<NodeReport> = surface.get("/node").await?;
        let peers = told.said.peers.unwrap_or_default();
        let has = |peer: &crate::edge::http::PeerReport| {
            partitions.iter().all(|one| peer.rows.get(&one.partition) == one.digest.as_ref())
        };
        let (follow, behind): (Vec<_>, Vec<_>) = peers.iter().partition(|peer| has(peer));
        if !behind.is_empty() && began.elapsed() < FOLLOW {
            tokio::time::sleep(LOOK).await;
            continue;
        }
        let names = |peers: &[&crate::edge::http::PeerReport]| {
            peers.iter().map(|peer| peer.node.as_str()).collect::<Vec<_>>().join(", ")
        };
        if !follow.is_empty() {
            term::line(&format!("in place on {} too", names(&follow)));
        }
        return match behind.is_empty() {
            true => Ok(()),
            false => Err(Failure::new(format!(
                "not in place on {}: ask it by `tandem rollback --http ADDRESS:PORT`, and see its log",
                names(&behind)
            ))),
        };
    }
}

/// A plan, line by line.
fn planned(plan: &PartitionPlan) -> Vec<String> {
    let PartitionPlan { partition, source, version, rows, changes, refused, pinned, faults, error, .. } = plan;
    let mut lines = vec![format!("{partition}: {source}")];
    if let Some(error) = error {
        lines.push(format!("  {error}"));
    }
    lines.extend(faults.iter().map(|fault| format!("  {fault}")));
    if let Some(pin) = pinned {
        lines.push(format!(
            "  version {} is pinned by {} ({}), so that a reload changes nothing: `tandem rollback --unpin` ends it",
            pin.version, pin.by, pin.reason
        ));
    }
    let number = version.map_or_else(|| "nothing".to_owned(), |number| format!("version {number}"));
    match (rows, changes.is_empty()) {
        (None, _) => {}
        (Some(_), true) => lines.push(format!("  {number} is in place, and the rows say the same")),
        (Some(rows), false) => lines.push(format!("  {number} is in place; the rows say another ({rows}):")),
    }
    lines.extend(changes.iter().map(change));
    lines.extend(refused.iter().map(|reason| format!("  refused without --force: {reason}")));
    lines
}

fn change(change: &PlannedChange) -> String {
    let PlannedChange { change, set, uri, fields, sessions } = change;
    let sign = match change.as_str() {
        "added" => "+",
        "removed" => "-",
        _ => "~",
    };
    let fields: Vec<_> = fields.iter().map(|one| format!("{} {:?} -> {:?}", one.field, one.from, one.to)).collect();
    let fields = if fields.is_empty() { String::new() } else { format!(": {}", fields.join(", ")) };
    let sessions = match sessions {
        0 => String::new(),
        1 => "; 1 session goes on".to_owned(),
        many => format!("; {many} sessions go on"),
    };
    format!("  {sign} set {set} {uri}{fields}{sessions}")
}

/// What has taken effect.
fn said(reloaded: &Reloaded) -> Vec<String> {
    let Reloaded { added, removed, changed, faults, partitions } = reloaded;
    let mut lines = vec![format!("{added} added, {removed} removed, {changed} changed")];
    lines.extend(partitions.iter().map(|one| {
        let number = one.version.map_or_else(|| "?".to_owned(), |number| number.to_string());
        let digest = one.digest.as_deref().unwrap_or("?");
        let pinned = one.pinned.as_ref().map_or("", |_| ", pinned until the rows change");
        format!("{}: version {number} ({digest}) is in place{pinned}", one.partition)
    }));
    lines.extend(faults.iter().cloned());
    lines
}

/// The versions of a partition, newest first.
fn listed(report: &PartitionReport, now: SystemTime) -> Vec<Vec<Cell>> {
    let head = ["VERSION", "DIGEST", "TAKEN", "BY", "DESTINATIONS", "", "REASON"];
    let mut rows = vec![head.map(Cell::text).to_vec()];
    rows.extend(report.versions.iter().rev().map(|one| {
        let place = match (one.in_place, &report.pinned) {
            (true, Some(_)) => Cell::text("pinned").toned(Tone::Doubtful),
            (true, None) => Cell::text("in place").toned(Tone::Good),
            (false, _) => Cell::text(""),
        };
        vec![
            Cell::number(one.number),
            Cell::text(&one.digest),
            Cell::text(ago(one.at, now)),
            Cell::text(&one.by),
            Cell::number(one.destinations),
            place,
            Cell::text(&one.reason),
        ]
    }));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::http::ChangedField;

    #[test]
    fn a_plan_says_what_would_change_and_what_would_be_refused() {
        let change = |change: &str, uri: &str, sessions| PlannedChange {
            change: change.to_owned(),
            set: 19,
            uri: uri.to_owned(),
            fields: Vec::new(),
            sessions,
        };
        let weight = ChangedField { field: "weight".to_owned(), from: "1".to_owned(), to: "3".to_owned() };
        let changes = vec![
            change("added", "sip:a", 0),
            change("removed", "sip:b", 1),
            PlannedChange { fields: vec![weight], ..change("changed", "sip:c", 12) },
        ];
        let plan = PartitionPlan {
            partition: "default".to_owned(),
            source: "sqlite:t.db table dispatcher".to_owned(),
            version: Some(7),
            rows: Some("0123456789ab".to_owned()),
            changes,
            refused: vec!["too many".to_owned()],
            ..PartitionPlan::default()
        };
        assert_eq!(
            planned(&plan).join("\n"),
            "default: sqlite:t.db table dispatcher\n  version 7 is in place; the rows say another (0123456789ab):\n  \
             + set 19 sip:a\n  - set 19 sip:b; 1 session goes on\n  \
             ~ set 19 sip:c: weight \"1\" -> \"3\"; 12 sessions go on\n  refused without --force: too many"
        );
        let same = PartitionPlan { changes: Vec::new(), refused: Vec::new(), ..plan };
        assert!(planned(&same).join("\n").ends_with("version 7 is in place, and the rows say the same"));
    }
}
