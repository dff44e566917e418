//! Metrics of destinations and sets.

use super::{Kind, Row, Values, View};
use crate::engine::dispatch::{AgentView, Health, Meaning, Order, Witness};
use crate::engine::sip::{Host, Uri};
use crate::engine::snapshot::{DestinationView, SetView};

const DESTINATION: &[&str] = &["set", "destination"];
const CLASS_OF_RESOURCES: &[&str] = &["set", "destination", "resource_class"];
const CLASS: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "6xx"];

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "tandem_selections_total",
        help: "Requests sent to the destination: kind session is an initial INVITE, other any other outside a dialog.",
        kind: Kind::Counter,
        labels: &["set", "destination", "kind"],
        values: |view, values| {
            for (labels, destination) in destinations(view) {
                values.push((and(&labels, "session"), destination.selections as f64));
                values.push((and(&labels, "other"), destination.other_selections as f64));
            }
        },
    },
    Row {
        name: "tandem_responses_total",
        help: "Responses from the destination by class; 100 is not counted.",
        kind: Kind::Counter,
        labels: &["set", "destination", "class"],
        values: |view, values| {
            for (labels, destination) in destinations(view) {
                let counts = CLASS.iter().zip(destination.responses);
                values.extend(counts.map(|(class, count)| (and(&labels, class), count as f64)));
            }
        },
    },
    Row {
        name: "tandem_sessions",
        help: "Live sessions at the destination, pending ones included.",
        kind: Kind::Gauge,
        labels: DESTINATION,
        values: |view, values| each(view, values, |destination| destination.sessions as f64),
    },
    Row {
        name: "tandem_sessions_peak",
        help: "The most live sessions that the destination ever had at once.",
        kind: Kind::Gauge,
        labels: DESTINATION,
        values: |view, values| each(view, values, |destination| destination.sessions_peak as f64),
    },
    Row {
        name: "tandem_destination_resource_sessions",
        help: "Live sessions at the destination that asked for a resource of the class; pending ones included.",
        kind: Kind::Gauge,
        labels: CLASS_OF_RESOURCES,
        values: |view, values| {
            for (labels, destination) in destinations(view) {
                let classes = destination.classes.iter();
                values.extend(classes.map(|class| (and(&labels, &class.name), class.sessions as f64)));
            }
        },
    },
    Row {
        name: "tandem_destination_resource_sessions_limit",
        help: "How many of them it may have; absent where it has no limit.",
        kind: Kind::Gauge,
        labels: CLASS_OF_RESOURCES,
        values: |view, values| {
            for (labels, destination) in destinations(view) {
                let classes = destination.classes.iter();
                values.extend(classes.filter_map(|class| Some((and(&labels, &class.name), f64::from(class.limit?)))));
            }
        },
    },
    Row {
        name: "tandem_destination_fit",
        help: "Whether a new request may go to the destination.",
        kind: Kind::Gauge,
        labels: DESTINATION,
        values: |view, values| each(view, values, |destination| f64::from(destination.fitness.is_fit())),
    },
    Row {
        name: "tandem_destination_health",
        help: "What the destination is held for: 1 for the one health that it has.",
        kind: Kind::Gauge,
        labels: &["set", "destination", "health"],
        values: |view, values| {
            for (labels, destination) in destinations(view) {
                let is = |health| f64::from(destination.health == health);
                values.extend(Health::ALL.map(|health| (and(&labels, health.name()), is(health))));
            }
        },
    },
    Row {
        name: "tandem_destination_order",
        help: "What the operator wants of the destination: 1 for the one order that it has.",
        kind: Kind::Gauge,
        labels: &["set", "destination", "order"],
        values: |view, values| {
            for (labels, destination) in destinations(view) {
                let is = |order| f64::from(destination.standing.order == order);
                values.extend(Order::ALL.map(|order| (and(&labels, order.name()), is(order))));
            }
        },
    },
    Row {
        name: "tandem_destination_share_ratio",
        help: "How much of its weight the destination gets now: less while it comes back slowly, or as its agent wants.",
        kind: Kind::Gauge,
        labels: DESTINATION,
        values: |view, values| each(view, values, |destination| f64::from(destination.share) / 100.0),
    },
    Row {
        name: "tandem_destination_agent_share_ratio",
        help: "How much of its weight the destination's agent wants; 1 while it says nothing, absent without an agent.",
        kind: Kind::Gauge,
        labels: DESTINATION,
        values: |view, values| {
            for (labels, agent) in agents(view) {
                values.push((labels.into(), f64::from(agent.wish.as_ref().map_or(100, |wish| wish.share)) / 100.0));
            }
        },
    },
    Row {
        name: "tandem_destination_agent_refuses",
        help: "Whether the destination's agent wants no new session: drain, maint, down, fail or stopped.",
        kind: Kind::Gauge,
        labels: DESTINATION,
        values: |view, values| {
            for (labels, agent) in agents(view) {
                let refuses = agent.wish.as_ref().is_some_and(|wish| wish.refusal().is_some());
                values.push((labels.into(), f64::from(refuses)));
            }
        },
    },
    Row {
        name: "tandem_agent_checks_total",
        help: "Questions to the destination's agent by result: answered, or silent (no answer, or none of an agent's words).",
        kind: Kind::Counter,
        labels: &["set", "destination", "result"],
        values: |view, values| {
            for (labels, agent) in agents(view) {
                values.push((and(&labels, "answered"), agent.answers as f64));
                values.push((and(&labels, "silent"), agent.silences as f64));
            }
        },
    },
    Row {
        name: "tandem_agent_unknown_words_total",
        help: "Words of the destination's agent that are none of an agent's.",
        kind: Kind::Counter,
        labels: DESTINATION,
        values: |view, values| {
            for (labels, agent) in agents(view) {
                values.push((labels.into(), agent.unknown_words as f64));
            }
        },
    },
    Row {
        name: "tandem_destination_weight",
        help: "The weight of the destination that counts.",
        kind: Kind::Gauge,
        labels: DESTINATION,
        values: |view, values| each(view, values, |destination| f64::from(destination.weight)),
    },
    Row {
        name: "tandem_falls_total",
        help: "How often the destination has gone down.",
        kind: Kind::Counter,
        labels: DESTINATION,
        values: |view, values| each(view, values, |destination| destination.falls as f64),
    },
    Row {
        name: "tandem_ejections_total",
        help: "How often callers' failures have ejected the destination.",
        kind: Kind::Counter,
        labels: DESTINATION,
        values: |view, values| each(view, values, |destination| destination.ejections as f64),
    },
    Row {
        name: "tandem_probes_total",
        help: "Probes of the destination that have ended, by what they said of it: alive, busy, fall or neutral.",
        kind: Kind::Counter,
        labels: &["set", "destination", "result"],
        values: |view, values| {
            for (labels, destination) in destinations(view) {
                let counts = Meaning::ALL.iter().zip(destination.probes);
                values.extend(counts.map(|(result, count)| (and(&labels, result.name()), count as f64)));
            }
        },
    },
    Row {
        name: "tandem_latency_seconds",
        help: "How long the destination took, by who asked: options, tcp, http, traffic or other; absent for who never did.",
        kind: Kind::Histogram,
        labels: &["set", "destination", "witness"],
        values: |view, values| {
            for (labels, destination) in destinations(view) {
                let latencies = Witness::ALL.iter().zip(destination.latencies);
                for (witness, latency) in latencies.filter(|(_, latency)| latency.count > 0) {
                    values.push_latency(and(&labels, witness.name()), latency);
                }
            }
        },
    },
    Row {
        name: "tandem_set_panicking",
        help: "Whether too few of the set were fit at its last request, so that its policy for that case held.",
        kind: Kind::Gauge,
        labels: &["set"],
        values: |view, values| {
            values.extend(view.snapshot.sets.iter().map(|set| (vec![number(set)], f64::from(set.panicking))));
        },
    },
    Row {
        name: "tandem_set_empty_total",
        help: "Requests that found the set without a fit destination.",
        kind: Kind::Counter,
        labels: &["set"],
        values: |view, values| {
            values.extend(view.snapshot.sets.iter().map(|set| (vec![number(set)], set.empty as f64)));
        },
    },
    Row {
        name: "tandem_set_full_total",
        help: "Calls for which destinations of the set were fit, and none had room.",
        kind: Kind::Counter,
        labels: &["set"],
        values: |view, values| {
            values.extend(view.snapshot.sets.iter().map(|set| (vec![number(set)], set.full as f64)));
        },
    },
    Row {
        name: "tandem_failovers_total",
        help: "Tries at a destination of the set that failed and were followed by another.",
        kind: Kind::Counter,
        labels: &["set"],
        values: |view, values| {
            values.extend(view.snapshot.sets.iter().map(|set| (vec![number(set)], set.failovers as f64)));
        },
    },
    Row {
        name: "tandem_exhausted_total",
        help: "Requests whose every try at a destination of the set failed.",
        kind: Kind::Counter,
        labels: &["set"],
        values: |view, values| {
            values.extend(view.snapshot.sets.iter().map(|set| (vec![number(set)], set.exhausted as f64)));
        },
    },
];

fn each(view: &View<'_>, values: &mut Values, value: fn(&DestinationView) -> f64) {
    values.extend(destinations(view).map(|(labels, destination)| (labels.into(), value(destination))));
}

fn destinations<'a>(view: &View<'a>) -> impl Iterator<Item = ([String; 2], &'a DestinationView)> {
    view.snapshot.sets.iter().flat_map(|set| {
        set.destinations.iter().map(move |destination| ([number(set), named(destination)], destination))
    })
}

fn agents<'a>(view: &View<'a>) -> impl Iterator<Item = ([String; 2], &'a AgentView)> {
    destinations(view).filter_map(|(labels, destination)| Some((labels, destination.agent.as_ref()?)))
}

/// The URI; one that holds a name is followed by the address, since each address of a name is a destination of its own.
fn named(destination: &DestinationView) -> String {
    let DestinationView { uri, address, .. } = destination;
    match (Uri::parse(uri.as_bytes()).map(|uri| uri.host), address) {
        (Ok(Host::Name(_)), Some(address)) => format!("{uri} {address}"),
        (Ok(Host::Name(_)), None) => format!("{uri} unresolved"),
        (Ok(Host::Ip(_)) | Err(_), _) => uri.clone(),
    }
}

fn number(set: &SetView) -> String {
    set.id.0.to_string()
}

fn and(labels: &[String; 2], last: &str) -> Vec<String> {
    let [set, destination] = labels.clone();
    vec![set, destination, last.to_owned()]
}
