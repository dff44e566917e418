//! Metrics of destinations. They go with their rows: a destination that is removed has none.

use super::{ClusterView, Kind, Row, Values, View};
use crate::engine::dispatch::{
    AgentView, Choice, EjectionCause, FallCause, Fitness, Health, Meaning, Order, Why, Witness,
};
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
        name: "tandem_choices_total",
        help: "Initial INVITEs sent to the destination: it was the first choice of the set's algorithm, or another had failed.",
        kind: Kind::Counter,
        labels: &["set", "destination", "choice"],
        values: |view, values| {
            for (labels, destination) in destinations(view) {
                let counts = Choice::ALL.iter().zip(destination.choices);
                values.extend(counts.map(|(choice, count)| (and(&labels, choice.name()), count as f64)));
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
        name: "tandem_destination_limit_sessions",
        help: "How many sessions the destination may have; absent where it has no limit.",
        kind: Kind::Gauge,
        labels: DESTINATION,
        values: |view, values| {
            for (labels, destination) in destinations(view) {
                if let Some(limit) = destination.limits.sessions {
                    values.push((labels.into(), f64::from(limit)));
                }
            }
        },
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
        name: "tandem_destination_down_reason",
        help: "Why no new request may go to the destination: 1 for the first reason there is, none while it is fit.",
        kind: Kind::Gauge,
        labels: &["set", "destination", "reason"],
        values: |view, values| {
            for (labels, destination) in destinations(view) {
                let now = reason(destination);
                let is = |reason: &str| f64::from(now == Some(reason));
                values.extend(REASONS.map(|reason| (and(&labels, reason), is(reason))));
            }
        },
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
        help: "How often the destination has gone down: by probes or calls that failed, or by order of an operator or the table.",
        kind: Kind::Counter,
        labels: &["set", "destination", "cause"],
        values: |view, values| {
            for (labels, destination) in destinations(view) {
                let counts = FallCause::ALL.iter().zip(destination.falls_by);
                values.extend(counts.map(|(cause, count)| (and(&labels, cause.name()), count as f64)));
            }
        },
    },
    Row {
        name: "tandem_ejections_total",
        help: "How often callers' failures have ejected the destination, by cause; trial is the one call that tried it.",
        kind: Kind::Counter,
        labels: &["set", "destination", "cause"],
        values: |view, values| {
            for (labels, destination) in destinations(view) {
                let counts = EjectionCause::ALL.iter().zip(destination.ejections_by);
                values.extend(counts.map(|(cause, count)| (and(&labels, cause.name()), count as f64)));
            }
        },
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
        name: "tandem_setup_seconds",
        help: "From an INVITE to its 2xx from the destination, tries elsewhere included; absent until there was one.",
        kind: Kind::Histogram,
        labels: DESTINATION,
        values: |view, values| {
            for (labels, destination) in destinations(view).filter(|(_, destination)| destination.setup.count > 0) {
                values.push_latency(labels.into(), destination.setup);
            }
        },
    },
    Row {
        name: "tandem_destination_votes",
        help: "What each node of the cluster says: 1 if it holds the destination for up or knows nothing, 0 for down or busy.",
        kind: Kind::Gauge,
        labels: &["set", "destination", "node"],
        values: |view, values| {
            let Some(cluster) = view.cluster else { return };
            for set in &view.snapshot.sets {
                for destination in &set.destinations {
                    let labels = [number(set), named(destination)];
                    let vote = |(node, health)| {
                        (and(&labels, node), f64::from(!matches!(health, Health::Down | Health::Busy)))
                    };
                    values.extend(votes(cluster, set, destination).map(vote));
                }
            }
        },
    },
];

/// Each reason for which a destination is not fit.
const REASONS: [&str; 10] =
    ["order", "unresolved", "agent", "down", "ejected", "damped", "busy", "outvoted", "full", "trial"];

/// Why the destination is not fit; none if it is.
fn reason(destination: &DestinationView) -> Option<&'static str> {
    match (destination.fitness, destination.why) {
        (Fitness::Fit, _) => None,
        (Fitness::Ordered(_), _) => Some("order"),
        (Fitness::Unresolved, _) => Some("unresolved"),
        (Fitness::Agent(_), _) => Some("agent"),
        (Fitness::Unwell(Health::Busy), _) => Some("busy"),
        (Fitness::Unwell(_), Why::Ejected { .. }) => Some("ejected"),
        (Fitness::Unwell(_), Why::Flapping { .. }) => Some("damped"),
        (Fitness::Unwell(_), _) => Some("down"),
        (Fitness::Outvoted, _) => Some("outvoted"),
        (Fitness::Full, _) => Some("full"),
        (Fitness::OnTrial, _) => Some("trial"),
    }
}

/// What each node holds of a destination: this one, and the others whose word is not too old to have a say.
pub(super) fn votes<'a>(
    cluster: &'a ClusterView,
    set: &'a SetView,
    destination: &'a DestinationView,
) -> impl Iterator<Item = (&'a str, Health)> {
    let fresh = destination.votes.iter().filter(|vote| vote.age <= set.view_ttl);
    [(&*cluster.node, destination.told)].into_iter().chain(fresh.map(|vote| (&*vote.node, vote.health)))
}

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

pub(super) fn number(set: &SetView) -> String {
    set.id.0.to_string()
}

fn and(labels: &[String; 2], last: &str) -> Vec<String> {
    let [set, destination] = labels.clone();
    vec![set, destination, last.to_owned()]
}
