//! `tandem set`: an operator's order to a destination.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use clap::ValueEnum;
use serde_json::json;

use super::surface::{Surface, Told, Where, find_set, find_uri, path_of, title};
use super::{Failure, block_on, duration, show, term};
use crate::edge::http::{DestinationStory, SetsReport};
use crate::edge::moment::Moment;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The set, by its number or name.
    set: String,
    /// The destination, by its URI, its host and port, or any part that only one has.
    destination: String,
    /// What it is to do.
    #[arg(value_enum)]
    order: Order,
    /// Why, for those who will wonder.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who says so [default: the user, before sudo].
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// With drain: how soon it should be empty; the log tells if it is not.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    deadline: Option<Duration>,
    /// With a deadline: the sessions that it still has then get BYE at both ends.
    #[arg(long, requires = "deadline")]
    then_end: bool,
    /// Whatever it leaves of the set: without this the last that is fit stays, and so does more than max_out_percent.
    #[arg(long)]
    force: bool,
    /// Only if the order that stands has this version: `tandem show SET DESTINATION --json` tells it.
    #[arg(long, value_name = "VERSION")]
    expected: Option<String>,
    /// Print the node's JSON instead.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: Where,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Order {
    /// Be in service.
    Ready,
    /// Keep the sessions, take no new one.
    Drain,
    /// Be out of service: as drain, and not probed either.
    Maint,
}

pub(super) fn main(args: &Args) -> Result<(), Failure> {
    let by = giver(args.by.as_ref())?;
    let surface = args.node.surface()?;
    block_on(order(args, &by, surface))
}

/// Who gives an order: who is named, else who sits there.
pub(super) fn giver(named: Option<&String>) -> Result<String, Failure> {
    let by = named.cloned().or_else(|| user(|name| std::env::var(name).ok())).or_else(account);
    by.ok_or_else(|| Failure::usage("who gives the order? Add --by NAME"))
}

/// Who sits there.
fn user(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    ["SUDO_USER", "LOGNAME", "USER"].into_iter().filter_map(variable).find(|name| !name.is_empty())
}

/// Whose process this is: cron and containers tell nothing else.
fn account() -> Option<String> {
    let uid = std::fs::metadata("/proc/self").ok()?.uid().to_string();
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut accounts = accounts.lines().map(|line| line.split(':'));
    let found = accounts.find_map(|mut fields| Some((fields.next()?, fields.nth(1)?)).filter(|(_, of)| *of == uid));
    Some(found.map_or_else(|| format!("uid {uid}"), |(name, _)| name.to_owned()))
}

async fn order(args: &Args, by: &str, surface: Surface) -> Result<(), Failure> {
    let all: Told<SetsReport> = surface.get("/sets").await?;
    let set = find_set(&all.said.sets, &args.set)?;
    let uri = find_uri(set, &args.destination)?;
    let order = args.order.to_possible_value().expect("no order is hidden");
    let deadline = args.deadline.map(|deadline| Moment(SystemTime::now() + deadline));
    let Args { reason, then_end, force, expected, .. } = args;
    let body = json!({
        "order": order.get_name(),
        "reason": reason,
        "by": by,
        "deadline": deadline,
        "then_end": then_end,
        "force": force,
        "expected": expected,
    });
    let path = path_of(set.set, &uri, "/order");
    let told: Told<DestinationStory> = surface.put(&path, body.to_string().into_bytes(), hint).await?;
    term::line(if args.json { told.json } else { said(&told.said) }.as_str());
    Ok(())
}

/// What to do about a refusal.
fn hint(status: u16) -> Option<&'static str> {
    (status == 409).then_some("add --force if you mean it")
}

/// What holds now.
fn said(story: &DestinationStory) -> String {
    let DestinationStory { set, name, uri, addresses, unkept, .. } = story;
    let all = || addresses.iter().map(|one| &one.destination);
    let title = title(*set, name);
    let order = all().next().map_or("", |one| one.order.order.as_str());
    let deadline = all().next().and_then(|one| one.order.deadline.filter(|_| one.order.then_end));
    let then = deadline.map_or_else(String::new, |deadline| format!(", to be ended at {deadline}"));
    let fit = all().filter(|one| one.fit).count();
    let state = match (order, fit) {
        ("ready", 0) => {
            let reasons: Vec<_> = all().map(|one| format!("{}, {}", one.health, show::why(one))).collect();
            format!("ready, but not fit: {}", reasons.join("; "))
        }
        ("ready", fit) if fit < addresses.len() => format!("ready, {fit} of {} addresses fit", addresses.len()),
        ("ready", _) => "ready, and fit".to_owned(),
        _ => match all().map(|one| one.sessions).sum() {
            0 => format!("{order}; no session is left"),
            1 => format!("{order}; 1 session is left{then}"),
            sessions => format!("{order}; {sessions} sessions are left{then}"),
        },
    };
    let unkept =
        unkept.as_ref().map_or_else(String::new, |cause| format!("\nbut a restart would not know of it: {cause}"));
    format!("{uri} of set {title}: {state}{unkept}")
}

#[cfg(test)]
mod tests {
    use super::super::show::tests::destination;
    use super::*;
    use crate::edge::http::AddressStory;

    fn story(order: &str, sessions: &[u64], fit: bool) -> DestinationStory {
        let address = |&sessions: &u64| {
            let mut one = destination("sip:10.0.0.1:7010", "10.0.0.1:7010");
            (one.sessions, one.fit, one.order.order) = (sessions, fit, order.to_owned());
            AddressStory { destination: one, observations: Vec::new() }
        };
        let addresses = sessions.iter().map(address).collect();
        let uri = "sip:10.0.0.1:7010".into();
        DestinationStory { node: "a".into(), set: 19, name: "tts".into(), uri, addresses, unkept: None }
    }

    #[test]
    fn an_order_tells_how_many_sessions_are_left_or_whether_it_is_fit() {
        let mut half = story("ready", &[0, 0], true);
        half.addresses[0].destination.fit = false;
        let mut ending = story("drain", &[1], false);
        let order = &mut ending.addresses[0].destination.order;
        (order.deadline, order.then_end) = (Some(Moment(SystemTime::UNIX_EPOCH)), true);
        for (story, text) in [
            (story("drain", &[3, 4], false), "drain; 7 sessions are left"),
            (story("maint", &[1], false), "maint; 1 session is left"),
            (story("maint", &[0], false), "maint; no session is left"),
            (story("ready", &[3], true), "ready, and fit"),
            (story("ready", &[3], false), "ready, but not fit: up, it answers"),
            (ending, "drain; 1 session is left, to be ended at 1970-01-01T00:00:00.000Z"),
            (half, "ready, 1 of 2 addresses fit"),
        ] {
            assert_eq!(said(&story), format!("sip:10.0.0.1:7010 of set 19 (tts): {text}"));
        }
    }

    #[test]
    fn an_order_that_is_not_on_disk_is_told() {
        let story = DestinationStory { unkept: Some("no room".to_owned()), ..story("drain", &[0], false) };
        let words = "drain; no session is left\nbut a restart would not know of it: no room";
        assert!(said(&story).ends_with(words), "{}", said(&story));
    }

    #[test]
    fn the_user_before_sudo_gives_the_order() {
        let env = |set: &'static [(&str, &str)]| {
            user(move |wanted| set.iter().find(|(name, _)| *name == wanted).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(env(&[("SUDO_USER", "alice"), ("USER", "root")]), Some("alice".to_owned()));
        assert_eq!(env(&[("SUDO_USER", ""), ("USER", "root")]), Some("root".to_owned()));
        assert_eq!(env(&[]), None);
    }
}
