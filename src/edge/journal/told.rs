//! What of the engine's events is worth an entry.

use std::net::SocketAddr;
use std::time::SystemTime;

use super::{Entry, Kind};
use crate::engine::Event;
use crate::engine::dispatch::{AgentWord, AtDeadline, Distrust, Wish};
use crate::engine::event::{AgentChange, Changes, HealthChange, Which};

/// The entry of an event that happened then; none for what is told of each call, and for what has come to nothing.
pub fn entry_of(event: &Event, at: SystemTime) -> Option<Entry> {
    let entry = |kind, text: String| Entry::new(kind, at, text);
    Some(match event {
        Event::Health(change) => health(change, at),
        Event::Agent(change) => agent(change, at)?,
        Event::Ordered { set, uri, address, old, standing, .. } => {
            let (order, by) = (standing.order.name(), &standing.by);
            let reason = because(&standing.reason);
            let text = format!("{uri}: {order} by {by}{reason}");
            entry(Kind::Order, text).of(*set, uri, Some(*address)).from(old.name(), order).by(by, &standing.reason)
        }
        Event::Distrusted { order, done: Ok(()) } => {
            let what = match order.distrust {
                Distrust::Down => "held for down",
                Distrust::OnTrial => "put on trial",
            };
            let text = format!("{}: {what} by {}{}", order.uri, order.by, because(&order.reason));
            entry(Kind::Distrust, text).of(order.set, &order.uri, None).by(&order.by, &order.reason)
        }
        Event::EndOrdered { order, ended: Ok(sessions) } => {
            let (by, reason) = (&order.by, because(&order.reason));
            match &order.which {
                Which::Call(call_id) => {
                    entry(Kind::End, format!("the session {call_id} is ended by {by}{reason}")).by(by, &order.reason)
                }
                Which::Destination { set, uri } => {
                    let text = format!("{uri}: {sessions} sessions are ended by {by}{reason}");
                    entry(Kind::End, text).of(*set, uri, None).by(by, &order.reason)
                }
            }
        }
        Event::Draining { set, uri, address, sessions, late: Some(then) } => {
            let then = match then {
                AtDeadline::Tell => "",
                AtDeadline::End => ": they are ended",
            };
            let text = format!("{uri}: {sessions} sessions are left at its deadline{then}");
            entry(Kind::Drain, text).of(*set, uri, Some(*address)).from("draining", "late")
        }
        Event::Drained { set, uri, address } => entry(Kind::Drain, format!("{uri}: no session is left"))
            .of(*set, uri, Some(*address))
            .from("draining", "drained"),
        Event::SetsReplaced(changes) if *changes != Changes::default() => {
            let text = format!("{} added, {} removed, {} changed", changes.added, changes.removed, changes.changed);
            entry(Kind::Rows, text)
        }
        Event::SetsReplaced(_)
        | Event::Call(_)
        | Event::Session(_)
        | Event::SetEmpty { .. }
        | Event::Draining { late: None, .. }
        | Event::Distrusted { done: Err(_), .. }
        | Event::EndOrdered { ended: Err(_), .. }
        | Event::OrderedInVain(_)
        | Event::Traced(_)
        | Event::TraceOrdered { .. }
        | Event::Dropped { .. } => return None,
    })
}

fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}

fn health(change: &HealthChange, at: SystemTime) -> Entry {
    let HealthChange { set, uri, address, old, new, why, cause, .. } = change;
    let text = format!("{}: {}, {why}", name(uri, *address), new.name());
    let entry = Entry::new(Kind::Health, at, text).of(*set, uri, Some(*address)).from(old.name(), new.name());
    match cause {
        Some(seen) => entry.shown_by(format!("{} ({})", seen.outcome.name(), seen.witness.name())),
        None => entry,
    }
}

/// That it takes calls or takes none; a share may change every few seconds.
fn agent(change: &AgentChange, at: SystemTime) -> Option<Entry> {
    let AgentChange { set, uri, address, old, new } = change;
    let word = |wish: Option<&Wish>| wish.and_then(Wish::refusal).map_or("takes calls", AgentWord::name);
    let (was, is) = (word(Some(old)), new.as_ref().map_or("silent", |new| word(Some(new))));
    if was == is {
        return None;
    }
    let reason = new.as_ref().map_or("", |new| &new.reason);
    let text = format!("{}: its agent was \"{was}\" and is \"{is}\"{}", name(uri, *address), because(reason));
    Some(Entry::new(Kind::Agent, at, text).of(*set, uri, Some(*address)).from(was, is).by("agent", reason))
}

/// The URI; with the address if it does not name that.
fn name(uri: &str, address: SocketAddr) -> String {
    let address = address.to_string();
    if uri.contains(&address) { uri.to_owned() } else { format!("{uri} ({address})") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::dispatch::{
        Deadline, Health, Meaning, Observation, Order, Outcome, SetId, Standing, Why, Witness,
    };
    use crate::engine::event::{DropCause, EndOrder, NotEnded};
    use crate::engine::flow::{ConnectionId, Flow, ListenerId, Transport};

    const AT: SystemTime = SystemTime::UNIX_EPOCH;

    fn address() -> SocketAddr {
        "10.0.0.1:7010".parse().expect("an address")
    }

    #[test]
    fn a_fall_says_what_was_what_is_and_what_has_shown_it() {
        let seen = Observation {
            at: AT,
            witness: Witness::Options,
            outcome: Outcome::TimedOut,
            meaning: Meaning::Fall,
            latency: Duration::ZERO,
        };
        let change = HealthChange {
            set: SetId(19),
            uri: "sip:tts.example.net".to_owned(),
            address: address(),
            old: Health::Up,
            new: Health::Down,
            lasted: Duration::ZERO,
            why: Why::ProbesFailed { witness: Witness::Options, failures: 2 },
            cause: Some(seen),
        };
        let entry = entry_of(&Event::Health(Box::new(change)), AT).expect("an entry");
        let expected = Entry::new(
            Kind::Health,
            AT,
            "sip:tts.example.net (10.0.0.1:7010): down, 2 probes in a row failed (options)",
        )
        .of(SetId(19), "sip:tts.example.net", Some(address()))
        .from("up", "down")
        .shown_by("timeout (options)");
        assert_eq!(entry, expected);
    }

    #[test]
    fn an_order_says_who_wants_what_and_why() {
        let standing = Standing {
            order: Order::Drain,
            by: "alice".to_owned(),
            reason: "new model".to_owned(),
            at: AT,
            deadline: None::<Deadline>,
        };
        let uri = "sip:10.0.0.1:7010".to_owned();
        let ordered =
            Event::Ordered { set: SetId(19), uri, address: address(), old: Order::Ready, standing, sessions: 3 };
        let entry = entry_of(&ordered, AT).expect("an entry");
        let words = (entry.old.as_deref(), entry.new.as_deref(), entry.actor.as_deref(), entry.reason.as_deref());
        assert_eq!(words, (Some("ready"), Some("drain"), Some("alice"), Some("new model")));
        assert_eq!(entry.text, "sip:10.0.0.1:7010: drain by alice: new model");
    }

    #[test]
    fn an_agents_share_is_no_entry_and_its_silence_is_one() {
        let change = |old: Wish, new: Option<Wish>| AgentChange {
            set: SetId(19),
            uri: "sip:10.0.0.1:7010".to_owned(),
            address: address(),
            old,
            new,
        };
        let drains = Wish { order: Some(AgentWord::Drain), reason: "full".to_owned(), ..Wish::default() };
        let told = |change| entry_of(&Event::Agent(Box::new(change)), AT).map(|entry| entry.text);
        assert_eq!(told(change(Wish::default(), Some(Wish { share: 50, ..Wish::default() }))), None);
        let words = "sip:10.0.0.1:7010: its agent was \"takes calls\" and is \"drain\": full";
        assert_eq!(told(change(Wish::default(), Some(drains.clone()))), Some(words.to_owned()));
        let words = "sip:10.0.0.1:7010: its agent was \"drain\" and is \"silent\"";
        assert_eq!(told(change(drains, None)), Some(words.to_owned()));
    }

    #[test]
    fn what_each_call_brings_and_what_has_come_to_nothing_is_no_entry() {
        let flow = Flow {
            listener: ListenerId(0),
            transport: Transport::Udp,
            peer: address(),
            connection: ConnectionId::default(),
        };
        let order = EndOrder { which: Which::Call("x".to_owned()), by: "a".to_owned(), reason: "r".to_owned() };
        for event in [
            Event::SetEmpty { set: SetId(19), call_id: "x".to_owned() },
            Event::Dropped { cause: DropCause::NotSip, flow },
            Event::SetsReplaced(Changes::default()),
            Event::EndOrdered { order, ended: Err(NotEnded::NoSuchCall("x".to_owned())) },
        ] {
            assert_eq!(entry_of(&event, AT), None, "{event:?}");
        }
        let rows = entry_of(&Event::SetsReplaced(Changes { added: 2, removed: 0, changed: 1 }), AT);
        assert_eq!(rows.map(|entry| entry.text), Some("2 added, 0 removed, 1 changed".to_owned()));
    }
}
