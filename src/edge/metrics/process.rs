//! Metrics of the process, by the names that all of Prometheus's clients give them, and of the engine's thread and its queues.

use super::node::seconds;
use super::{Kind, Row, Values, View};
use crate::edge::process::Usage;

/// A bounded queue between threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// What waits there.
    pub name: &'static str,
    /// How many wait.
    pub depth: usize,
    /// How many may.
    pub capacity: usize,
}

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "process_start_time_seconds",
        help: "When the process started, in seconds since 1970.",
        kind: Kind::Gauge,
        labels: &[],
        values: |view, values| values.one(seconds(view.started)),
    },
    Row {
        name: "process_cpu_seconds_total",
        help: "Processor time of the process, its own and the kernel's for it.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| of_usage(view, values, |usage| usage.cpu.as_secs_f64()),
    },
    Row {
        name: "process_resident_memory_bytes",
        help: "Memory of the process that is in RAM.",
        kind: Kind::Gauge,
        labels: &[],
        values: |view, values| of_usage(view, values, |usage| usage.resident as f64),
    },
    Row {
        name: "process_virtual_memory_bytes",
        help: "Memory that the process has asked for.",
        kind: Kind::Gauge,
        labels: &[],
        values: |view, values| of_usage(view, values, |usage| usage.virtual_memory as f64),
    },
    Row {
        name: "process_open_fds",
        help: "Files and sockets that the process has open.",
        kind: Kind::Gauge,
        labels: &[],
        values: |view, values| of_usage(view, values, |usage| usage.open_files as f64),
    },
    Row {
        name: "process_max_fds",
        help: "Files and sockets that the process may have open.",
        kind: Kind::Gauge,
        labels: &[],
        values: |view, values| of_usage(view, values, |usage| usage.most_files as f64),
    },
    Row {
        name: "process_threads",
        help: "Threads of the process.",
        kind: Kind::Gauge,
        labels: &[],
        values: |view, values| of_usage(view, values, |usage| usage.threads as f64),
    },
    Row {
        name: "tandem_engine_turns_total",
        help: "Times that the engine's thread has woken and worked.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| values.one(view.edge.turns as f64),
    },
    Row {
        name: "tandem_engine_busy_seconds_total",
        help: "How long the engine's thread has worked, and not waited for anything to do.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| values.one(view.edge.busy.as_secs_f64()),
    },
    Row {
        name: "tandem_queue_depth",
        help: "What waits in the queue.",
        kind: Kind::Gauge,
        labels: &["queue"],
        values: |view, values| of_queues(view, values, |queue| queue.depth),
    },
    Row {
        name: "tandem_queue_capacity",
        help: "What may wait in the queue: what more comes is dropped and counted, or waits outside.",
        kind: Kind::Gauge,
        labels: &["queue"],
        values: |view, values| of_queues(view, values, |queue| queue.capacity),
    },
];

fn of_usage(view: &View<'_>, values: &mut Values, value: fn(&Usage) -> f64) {
    view.process.iter().for_each(|usage| values.one(value(usage)));
}

fn of_queues(view: &View<'_>, values: &mut Values, value: fn(&Queue) -> usize) {
    values.extend(view.queues.iter().map(|queue| (vec![queue.name.to_owned()], value(queue) as f64)));
}
