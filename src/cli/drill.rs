//! `tandem drill`: something goes wrong on purpose while calls run, and what it did to them is told.

use std::path::PathBuf;
use std::time::Duration;

use super::table::{self, Cell, Tone};
use super::{Failure, block_on, duration, rate, term};
use crate::drill::{Bound, Drill, DrillError, Kind, Lab, Limits, Outcome, Plan, Site, Stage, Times, measure};

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("where").required(true).args(["lab", "site"])))]
pub(super) struct Args {
    /// What goes wrong.
    #[arg(value_parser = kind, value_name = "KIND", help = KINDS)]
    kind: Kind,
    /// In a pair of nodes that is made for it, in network namespaces, with keepalived. Needs root.
    #[arg(long)]
    lab: bool,
    /// Where this file says, by its commands; config/drill-site.toml is one.
    #[arg(long, value_name = "FILE")]
    site: Option<PathBuf>,
    /// Calls a second, of all callers.
    #[arg(long, value_name = "N", value_parser = rate, allow_negative_numbers = true, default_value = "200")]
    rate: f64,
    /// How long each call lasts.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    hold: Duration,
    /// From the first call until it goes wrong [default: 10s].
    #[arg(long, value_name = "TIME", value_parser = duration)]
    before: Option<Duration>,
    /// From then until it is undone [default: 10s; stop-database 16s; upgrade-nodes 15s]. restart-nodes takes as long as its commands
    /// do, and this is what they may take [20s].
    #[arg(long, value_name = "TIME", value_parser = duration)]
    during: Option<Duration>,
    /// From then until the last call begins [default: 10s; where servers fail 15s; stop-database 20s; upgrade-nodes 20s].
    #[arg(long, value_name = "TIME", value_parser = duration)]
    after: Option<Duration>,
    #[command(flatten)]
    most: Most,
    /// For upgrade-nodes: what the lab's nodes run before, and again after; in between they run this program.
    #[arg(long, value_name = "PROGRAM", requires = "lab")]
    from: Option<PathBuf>,
    /// Keep the lab's folder there, with its logs.
    #[arg(long, value_name = "FOLDER", requires = "lab")]
    keep: Option<PathBuf>,
    /// Print what came of it as one JSON object, and nothing else.
    #[arg(long)]
    json: bool,
}

/// Limits instead of the kind's own.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits (each kind has its own defaults)")]
struct Most {
    /// Established sessions whose BYE gets no 2xx.
    #[arg(long, value_name = "N")]
    most_lost: Option<u64>,
    /// New calls that fail.
    #[arg(long, value_name = "N")]
    most_failed: Option<u64>,
    /// The longest time in which a caller hears nothing.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    longest_gap: Option<Duration>,
    /// From the act until the nodes have noticed.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    slowest_detection: Option<Duration>,
    /// From its undoing until all nodes are as before.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    slowest_recovery: Option<Duration>,
    /// Sessions that nodes still count when all calls are over.
    #[arg(long, value_name = "N")]
    most_left: Option<u64>,
}

/// Told where a kind is asked for.
const KINDS: &str = "What goes wrong: kill-destination, hang-destination, kill-node, move-vip, cut-gossip, cut-destination \
                     (between one node and one destination), lose-packets, all-servers-dead, restart-nodes (all, one after \
                     another, as planned), upgrade-nodes (each to another version, and back), stop-database (it hangs, then dies), empty-table (the rows are gone)";

fn kind(text: &str) -> Result<Kind, String> {
    let names = || Kind::ALL.map(Kind::name).join(", ");
    Kind::from_name(text).ok_or_else(|| format!("give one of {}", names()))
}

impl Args {
    fn plan(&self) -> Plan {
        let usual = self.kind.times();
        let times = Times {
            before: self.before.unwrap_or(usual.before),
            during: self.during.unwrap_or(usual.during),
            after: self.after.unwrap_or(usual.after),
        };
        Plan { kind: self.kind, rate: self.rate, hold: self.hold, times }
    }

    fn limits(&self) -> Limits {
        let (usual, most) = (self.kind.limits(), &self.most);
        Limits {
            lost: most.most_lost.unwrap_or(usual.lost),
            failed: most.most_failed.unwrap_or(usual.failed),
            gap: most.longest_gap.unwrap_or(usual.gap),
            detection: most.slowest_detection.or(usual.detection),
            recovery: most.slowest_recovery.or(usual.recovery),
            left: most.most_left.or(usual.left),
            count: usual.count,
            unheard: usual.unheard,
        }
    }
}

pub(super) fn main(args: &Args) -> Result<(), Failure> {
    match (args.kind == Kind::UpgradeNodes, &args.from) {
        (true, None) if args.lab => {
            return Err(Failure::usage("what do the nodes run before? Give the program with --from"));
        }
        (false, Some(_)) => return Err(Failure::usage("--from is for upgrade-nodes alone")),
        (true | false, _) => {}
    }
    let outcome = block_on(hold(args))?;
    if args.json {
        term::line(&serde_json::to_string(&outcome).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}")));
    } else {
        print(&outcome);
    }
    match outcome.holds() {
        true => Ok(()),
        false => Err(Failure::new(beyond(&outcome))),
    }
}

/// Holds the drill; what was made for it is gone when this returns.
async fn hold(args: &Args) -> Result<Outcome, Failure> {
    let told = |text: &str| {
        if !args.json {
            term::aside(text);
        }
    };
    let making = async {
        match &args.site {
            Some(file) => Ok((None, Site::load(file).map_err(Failure::usage)?)),
            None => {
                let lab =
                    Lab::make(args.kind, args.from.as_deref(), args.keep.as_deref()).await.map_err(Failure::usage)?;
                let site = lab.site().clone();
                Ok((Some(lab), site))
            }
        }
    };
    let (_lab, site) = tokio::select! {
        made = making => made?,
        stopped = super::run::left() => return Err(interrupted(stopped)),
    };
    let plan = args.plan();
    told(&format!("{} in {}: {} calls a second, {:?} long", args.kind.name(), site.name, args.rate, args.hold));
    let mut drill = Drill::new(&site, plan).map_err(Failure::usage)?;
    let course = tokio::select! {
        course = drill.run(told) => course.map_err(Failure::usage),
        stopped = super::run::left() => Err(interrupted(stopped)),
    };
    match course {
        Ok(course) => Ok(measure(&site, &plan, &args.limits(), &course)),
        Err(failure) => {
            let undone: Result<(), DrillError> = drill.undo().await;
            match undone {
                Ok(()) => Err(failure),
                Err(error) => Err(Failure::usage(format!("{}\nit is NOT undone: {error}", failure.text))),
            }
        }
    }
}

fn interrupted(stopped: Result<(), Failure>) -> Failure {
    stopped.err().unwrap_or_else(|| Failure::usage("the drill was interrupted: what it had done is undone"))
}

/// Everything beyond its limit, a line each.
fn beyond(outcome: &Outcome) -> String {
    let line = |Bound { what, was, most, .. }: &Bound| format!("beyond its limit: {what}: {was}, not {most} at most");
    outcome.limits.iter().filter(|bound| !bound.holds).map(line).collect::<Vec<_>>().join("\n")
}

fn print(outcome: &Outcome) {
    let texts = |texts: &[&str]| texts.iter().map(Cell::text).collect::<Vec<_>>();
    term::line("");
    let mut head = texts(&["CALLER"]);
    head.extend(["CALLS", "FAILED", "LOST", "BY ICMP", "LONGEST SILENCE"].map(Cell::number));
    let mut rows = vec![head];
    for one in &outcome.callers {
        let mut row = texts(&[&one.name]);
        row.extend([one.calls, one.failed, one.lost, one.refused].map(Cell::number));
        row.push(Cell::number(silence(one.longest_gap_ms)));
        rows.push(row);
    }
    table::print("", &rows);

    term::line("");
    let mut head = texts(&["ANSWERED BY"]);
    head.extend(["BEFORE", "DURING", "AFTER"].map(Cell::number));
    let mut rows = vec![head];
    for (destination, shares) in &outcome.shares {
        let mut row = texts(&[destination]);
        row.extend(
            shares.map(|share| Cell::number(share.map_or_else(|| "-".to_owned(), |part| format!("{part:.1} %")))),
        );
        rows.push(row);
    }
    table::print("", &rows);

    term::line("");
    let fact = |name: &str, what: String| texts(&[name, &what]);
    let mut rows = vec![fact("calls", format!("{} begun, {} answered", outcome.calls, outcome.answered))];
    let statuses: Vec<_> =
        outcome.statuses.iter().map(|(status, count)| format!("{}: {count}", status_name(*status))).collect();
    if !statuses.is_empty() {
        rows.push(fact("failed", statuses.join(", ")));
    }
    let excused = &outcome.excused;
    for (count, what) in [
        (excused.fittingly_refused, "calls refused as they should be, since no server was left"),
        (excused.failed_by_tcp, "by TCP failed: calls that fell into a silence or a move, which nobody sends again"),
        (excused.lost_by_tcp, "by TCP lost: BYEs that fell into a silence or a move, which nobody sends again"),
        (excused.lost_with_destination, "sessions died with their server"),
    ] {
        if count > 0 {
            rows.push(fact("not counted", format!("{count} {what}")));
        }
    }
    for (node, at) in &outcome.noticed_ms {
        rows.push(fact(
            "noticed",
            at.map_or_else(|| format!("by {node} never"), |at| format!("by {node} after {at} ms")),
        ));
    }
    for (node, at) in &outcome.recovered_ms {
        let when = at.map_or_else(|| "never".to_owned(), |at| format!("{at} ms after it was undone"));
        rows.push(fact("well again", format!("{node} {when}")));
    }
    let left: Vec<_> = outcome.left.iter().map(|(node, count)| format!("{node} {count}")).collect();
    rows.push(fact("sessions left", left.join(", ")));
    let counted: Vec<_> =
        outcome.counted.iter().map(|(node, [told, live])| format!("{node} {told} of {live}")).collect();
    rows.push(fact("counted", counted.join(", ")));
    if outcome.stages.len() > 1 {
        rows.extend(outcome.stages.iter().map(|stage| fact("stage", stage_words(stage))));
    }
    table::print("", &rows);

    term::line("");
    let mut rows = vec![texts(&["LIMIT", "MOST", "WAS", ""])];
    for Bound { what, most, was, holds } in &outcome.limits {
        let mut row = texts(&[what, most, was]);
        row.push(match holds {
            true => Cell::text("within").toned(Tone::Good),
            false => Cell::text("BEYOND").toned(Tone::Bad),
        });
        rows.push(row);
    }
    table::print("", &rows);
}

/// What each node ran, and what it counted then.
fn stage_words(stage: &Stage) -> String {
    let node = |(node, version): (&String, &String)| match stage.counted.get(node) {
        Some([told, live]) => format!("{node} {version}, counts {told} of {live}"),
        None => format!("{node} {version}, has not heard the others"),
    };
    stage.versions.iter().map(node).collect::<Vec<_>>().join("; ")
}

/// What is shorter than a tenth of a second is not told apart.
fn silence(ms: u64) -> String {
    if ms == 0 { "< 100 ms".to_owned() } else { format!("{ms} ms") }
}

fn status_name(status: u16) -> String {
    if status == 0 { "no answer".to_owned() } else { status.to_string() }
}
