//! Metrics of sets. They outlive the destinations: what was counted of a set never goes back.

use std::collections::BTreeMap;

use super::destinations::number;
use super::{Kind, Row, Values, View};
use crate::engine::snapshot::SetView;

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "tandem_set_info",
        help: "Always 1; the labels tell the set's name and its algorithm.",
        kind: Kind::Gauge,
        labels: &["set", "name", "algorithm"],
        values: |view, values| {
            let labels = |set: &SetView| vec![number(set), set.name.clone(), set.algorithm.to_owned()];
            values.extend(view.snapshot.sets.iter().map(|set| (labels(set), 1.0)));
        },
    },
    Row {
        name: "tandem_set_panicking",
        help: "Whether too few of the set were fit at its last request, so that its policy for that case held.",
        kind: Kind::Gauge,
        labels: &["set"],
        values: |view, values| each(view, values, |set| f64::from(set.panicking)),
    },
    Row {
        name: "tandem_set_empty_total",
        help: "Requests that found the set without a fit destination.",
        kind: Kind::Counter,
        labels: &["set"],
        values: |view, values| each(view, values, |set| set.empty as f64),
    },
    Row {
        name: "tandem_set_full_total",
        help: "Calls for which destinations of the set were fit, and none had room.",
        kind: Kind::Counter,
        labels: &["set"],
        values: |view, values| each(view, values, |set| set.full as f64),
    },
    Row {
        name: "tandem_failovers_total",
        help: "Tries at a destination of the set that failed and were followed by another.",
        kind: Kind::Counter,
        labels: &["set"],
        values: |view, values| each(view, values, |set| set.failovers as f64),
    },
    Row {
        name: "tandem_exhausted_total",
        help: "Requests whose every try at a destination of the set failed.",
        kind: Kind::Counter,
        labels: &["set"],
        values: |view, values| each(view, values, |set| set.exhausted as f64),
    },
    Row {
        name: "tandem_set_replies_total",
        help: "Final replies that the set itself gave by status: nobody was fit, nobody had room, or every try had failed.",
        kind: Kind::Counter,
        labels: &["set", "status"],
        values: |view, values| {
            for set in &view.snapshot.sets {
                let mut replies = BTreeMap::from([(set.empty_reply, set.empty + set.exhausted)]);
                *replies.entry(set.busy_reply).or_default() += set.full;
                values.extend(
                    replies.iter().map(|(status, count)| (vec![number(set), status.to_string()], *count as f64)),
                );
            }
        },
    },
];

fn each(view: &View<'_>, values: &mut Values, value: fn(&SetView) -> f64) {
    values.extend(view.snapshot.sets.iter().map(|set| (vec![number(set)], value(set))));
}
