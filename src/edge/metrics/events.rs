//! Metrics of the journal's ways out: its file and webhooks.

use super::{Kind, Row};
use crate::edge::counters::LineFault;

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "tandem_event_lines_written_total",
        help: "Events written to the file of [events].",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| values.one(view.edge.events.written as f64),
    },
    Row {
        name: "tandem_event_lines_dropped_total",
        help: "Events that are missing from the file of [events], by cause.",
        kind: Kind::Counter,
        labels: &["cause"],
        values: |view, values| {
            let counts = LineFault::ALL.iter().zip(view.edge.events.dropped);
            values.extend(counts.map(|(fault, count)| (vec![fault.name().to_owned()], count as f64)));
        },
    },
    Row {
        name: "tandem_webhook_deliveries_total",
        help: "Events for a webhook: ok were taken, failed are tries that were to be made again, dropped nobody took.",
        kind: Kind::Counter,
        labels: &["hook", "result"],
        values: |view, values| {
            for hook in view.webhooks {
                for (result, count) in [("ok", hook.ok), ("failed", hook.failed), ("dropped", hook.dropped)] {
                    values.push((vec![hook.hook.clone(), result.to_owned()], count as f64));
                }
            }
        },
    },
    Row {
        name: "tandem_webhook_queue",
        help: "Events that the webhook is not done with, those that it does not want among them.",
        kind: Kind::Gauge,
        labels: &["hook"],
        values: |view, values| {
            values.extend(view.webhooks.iter().map(|hook| (vec![hook.hook.clone()], hook.queue as f64)))
        },
    },
];
