//! Metrics of the node as a whole: what it is, the messages of all, the loads of its sets.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Kind, Row, StoreStatus, Values, View};
use crate::edge::build::{COMMIT, VERSION};
use crate::edge::counters::{HttpRefusal, LineFault};
use crate::engine::event::{Drain, DropCause, Ending};
use crate::engine::transaction::TransactionKind;

const FINAL: [&str; 5] = ["2xx", "3xx", "4xx", "5xx", "6xx"];

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "tandem_build_info",
        help: "Always 1; the labels tell the version, what it was built for and the commit that it was built from.",
        kind: Kind::Gauge,
        labels: &["version", "target", "commit"],
        values: |_, values| {
            let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
            values.push((vec![VERSION.to_owned(), target, COMMIT.to_owned()], 1.0));
        },
    },
    Row {
        name: "tandem_late_2xx_total",
        help: "2xx to INVITEs whose caller had had another answer: their sessions were ended by ACK and BYE.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| values.push((Vec::new(), view.snapshot.totals.late_2xx as f64)),
    },
    Row {
        name: "tandem_requests_total",
        help: "Requests received, retransmissions included.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| values.one(view.snapshot.totals.requests as f64),
    },
    Row {
        name: "tandem_received_responses_total",
        help: "Responses received.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| values.one(view.snapshot.totals.responses as f64),
    },
    Row {
        name: "tandem_retransmissions_total",
        help: "Requests received that were retransmissions of one that we had.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| values.one(view.snapshot.totals.retransmissions as f64),
    },
    Row {
        name: "tandem_retransmissions_sent_total",
        help: "Requests and answers that this node sent again, by a timer or since the other side had sent its own again.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| values.one(view.snapshot.resent as f64),
    },
    Row {
        name: "tandem_replies_total",
        help: "Final responses that this node made itself, by class.",
        kind: Kind::Counter,
        labels: &["class"],
        values: |view, values| {
            let counts = FINAL.iter().zip(view.snapshot.totals.replies);
            values.extend(counts.map(|(class, count)| (vec![(*class).to_owned()], count as f64)));
        },
    },
    Row {
        name: "tandem_dropped_total",
        help: "Messages received and thrown away, by cause.",
        kind: Kind::Counter,
        labels: &["cause"],
        values: |view, values| {
            let counts = DropCause::ALL.iter().zip(view.snapshot.totals.dropped);
            values.extend(counts.map(|(cause, count)| (vec![cause.name().to_owned()], count as f64)));
        },
    },
    Row {
        name: "tandem_traces_total",
        help: "Calls whose story was begun message by message, sampled or by order.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| values.one(view.stories.traces as f64),
    },
    Row {
        name: "tandem_traces_dropped_total",
        help: "What did not get where [trace] wants it: steps of stories (steps), messages to a capture server (hep), calls to a collector (otlp).",
        kind: Kind::Counter,
        labels: &["sink"],
        values: |view, values| {
            values.push((vec!["steps".to_owned()], view.edge.steps_dropped as f64));
            values.push((vec!["hep".to_owned()], view.stories.hep_dropped as f64));
            values.push((vec!["otlp".to_owned()], view.stories.otlp_dropped as f64));
        },
    },
    Row {
        name: "tandem_sessions_ended_total",
        help: "Sessions that are over and calls that never became one, by what ended them.",
        kind: Kind::Counter,
        labels: &["ending"],
        values: |view, values| {
            let counts = Ending::ALL.iter().zip(view.snapshot.totals.ended);
            values.extend(counts.map(|(ending, count)| (vec![ending.name().to_owned()], count as f64)));
        },
    },
    Row {
        name: "tandem_transactions",
        help: "Transactions in being by kind; other is what is no INVITE, and those of probes are not counted.",
        kind: Kind::Gauge,
        labels: &["kind"],
        values: |view, values| {
            let counts = TransactionKind::ALL.iter().zip(view.snapshot.transaction_kinds);
            values.extend(counts.map(|(kind, count)| (vec![kind.name().to_owned()], count as f64)));
        },
    },
    Row {
        name: "tandem_drift_sessions",
        help: "By how much the table of sessions and what its destinations have of it differ; 0, unless there is a fault in Tandem.",
        kind: Kind::Gauge,
        labels: &[],
        values: |view, values| values.one(view.snapshot.drift as f64),
    },
    Row {
        name: "tandem_sessions_parked",
        help: "Live sessions whose caller came by an address that this node does not hold now.",
        kind: Kind::Gauge,
        labels: &[],
        values: |view, values| values.one(view.snapshot.parked as f64),
    },
    Row {
        name: "tandem_session_pings_total",
        help: "Pings within sessions by result: answered by an end that has the session, failed by 481, 408 or silence.",
        kind: Kind::Counter,
        labels: &["result"],
        values: |view, values| {
            values.push((vec!["answered".to_owned()], view.snapshot.totals.answered_pings as f64));
            values.push((vec!["failed".to_owned()], view.snapshot.totals.failed_pings as f64));
        },
    },
    Row {
        name: "tandem_session_byes_total",
        help: "BYEs of this node's own that ended sessions; a session that both ends are told of has two.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| values.one(view.snapshot.totals.byes as f64),
    },
    Row {
        name: "tandem_session_byes_failed_total",
        help: "Those of tandem_session_byes_total that were refused, not answered, or could not be sent.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| values.one(view.snapshot.totals.failed_byes as f64),
    },
    Row {
        name: "tandem_draining",
        help: "Whether the node is leaving and refuses new calls.",
        kind: Kind::Gauge,
        labels: &[],
        values: |view, values| values.one(f64::from(u8::from(view.snapshot.drain > Drain::No))),
    },
    Row {
        name: "tandem_reloads_total",
        help: "Loads of the sets by result: ok took effect, failed and refused (would have taken out too much) left them as they were.",
        kind: Kind::Counter,
        labels: &["partition", "result"],
        values: |view, values| {
            for store in view.stores {
                let mut push = |result: &str, count: u64| {
                    values.push((vec![store.partition.clone(), result.to_owned()], count as f64));
                };
                push("ok", store.loads);
                push("failed", store.failed_loads);
                push("refused", store.refused_loads);
            }
        },
    },
    Row {
        name: "tandem_last_reload_success_timestamp_seconds",
        help: "When the last load of the sets took effect, in seconds since 1970; absent if none did.",
        kind: Kind::Gauge,
        labels: &["partition"],
        values: |view, values| of_stores(view, values, |store| store.last_load.map(seconds)),
    },
    Row {
        name: "tandem_store_last_read_timestamp_seconds",
        help: "When the rows of the store were read last, changed or not, in seconds since 1970; absent if they never were.",
        kind: Kind::Gauge,
        labels: &["partition"],
        values: |view, values| of_stores(view, values, |store| store.last_read.map(seconds)),
    },
    Row {
        name: "tandem_store_ok",
        help: "Whether the last read of the store succeeded and its rows could be used.",
        kind: Kind::Gauge,
        labels: &["partition"],
        values: |view, values| of_stores(view, values, |store| Some(f64::from(store.ok))),
    },
    Row {
        name: "tandem_store_change_refused",
        help: "Whether the rows have changed and are not put in place, since that would take out too much.",
        kind: Kind::Gauge,
        labels: &["partition"],
        values: |view, values| of_stores(view, values, |store| Some(f64::from(store.refused))),
    },
    Row {
        name: "tandem_store_pinned",
        help: "Whether a former version is served instead of the rows.",
        kind: Kind::Gauge,
        labels: &["partition"],
        values: |view, values| of_stores(view, values, |store| Some(f64::from(store.pinned))),
    },
    Row {
        name: "tandem_store_state_writes_total",
        help: "Times that changes of state were written back to the store, by result; see persist_state.",
        kind: Kind::Counter,
        labels: &["partition", "result"],
        values: |view, values| {
            for store in view.stores {
                for (result, count) in [("ok", store.state_writes), ("failed", store.failed_state_writes)] {
                    values.push((vec![store.partition.clone(), result.to_owned()], count as f64));
                }
            }
        },
    },
    Row {
        name: "tandem_events_dropped_total",
        help: "Events that nobody took in time: log lines and records that are missing.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| values.one(view.edge.events_dropped as f64),
    },
    Row {
        name: "tandem_records_written_total",
        help: "Records of sessions written to the file of [records].",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| values.one(view.edge.records.written as f64),
    },
    Row {
        name: "tandem_records_dropped_total",
        help: "Records of sessions that are missing from the file of [records], by cause.",
        kind: Kind::Counter,
        labels: &["cause"],
        values: |view, values| {
            let counts = LineFault::ALL.iter().zip(view.edge.records.dropped);
            values.extend(counts.map(|(fault, count)| (vec![fault.name().to_owned()], count as f64)));
        },
    },
    Row {
        name: "tandem_check_faults_total",
        help: "Checks of destinations and agents by TCP and HTTP that could not be made, for reasons of our own: no evidence.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| values.one(view.edge.check_faults as f64),
    },
    Row {
        name: "tandem_http_refused_total",
        help: "Requests to the HTTP surface that were not let in, by cause.",
        kind: Kind::Counter,
        labels: &["cause"],
        values: |view, values| {
            let counts = HttpRefusal::ALL.iter().zip(view.edge.http_refused);
            values.extend(counts.map(|(cause, count)| (vec![cause.name().to_owned()], count as f64)));
        },
    },
    Row {
        name: "tandem_state_faults_total",
        help: "Times that orders and health could not be written to disk.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| values.one(view.edge.state_faults as f64),
    },
];

/// One value for each partition that has one.
fn of_stores(view: &View<'_>, values: &mut Values, value: impl Fn(&StoreStatus) -> Option<f64>) {
    let found = view.stores.iter().filter_map(|store| Some((vec![store.partition.clone()], value(store)?)));
    found.for_each(|one| values.push(one));
}

pub(super) fn seconds(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
