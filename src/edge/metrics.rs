//! Metrics: one table of all names, filled from the engine's snapshot and the edge's counters at scrape.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::TextEncoder;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use crate::edge::counters::{EdgeCounters, SendFault};
use crate::engine::Snapshot;
use crate::engine::event::{Drain, DropCause};
use crate::engine::sip::{Host, Uri};
use crate::engine::snapshot::{DestinationView, SetView};

/// The content type of [`render`]'s text.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// How the loads of the sets went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStatus {
    /// Whether the last read of the store succeeded.
    pub ok: bool,
    /// Loads that took effect.
    pub loads: u64,
    /// Loads that failed and left the sets as they were.
    pub failed_loads: u64,
    /// When the last load took effect.
    pub last_load: Option<SystemTime>,
}

/// All that the metrics are computed from.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The engine's state.
    pub snapshot: &'a Snapshot,
    /// The edge's counters.
    pub edge: &'a EdgeCounters,
    /// How the loads went.
    pub store: &'a StoreStatus,
    /// When the process started.
    pub started: SystemTime,
}

/// Whether a value only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; starts at 0 with the process.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// One row of the table: a metric and where its values come from.
#[derive(Debug)]
pub struct Row {
    /// `tandem_<thing>[_<unit>][_total]`.
    pub name: &'static str,
    /// A sentence for people.
    pub help: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
    /// The labels' names; all bounded by the configuration.
    pub labels: &'static [&'static str],
    values: fn(&View<'_>, &mut Values),
}

/// The values of one metric: each with the values of its labels.
type Values = Vec<(Vec<String>, f64)>;

const DESTINATION: &[&str] = &["set", "destination"];
const FINAL: [&str; 5] = ["2xx", "3xx", "4xx", "5xx", "6xx"];
const CLASS: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "6xx"];

/// Every metric, in the order of the text.
pub const TABLE: &[Row] = &[
    Row {
        name: "tandem_build_info",
        help: "Always 1; the label tells the version.",
        kind: Kind::Gauge,
        labels: &["version"],
        values: |_, values| values.push((vec![env!("CARGO_PKG_VERSION").to_owned()], 1.0)),
    },
    Row {
        name: "process_start_time_seconds",
        help: "When the process started, in seconds since 1970.",
        kind: Kind::Gauge,
        labels: &[],
        values: |view, values| one(values, seconds(view.started)),
    },
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
        name: "tandem_destination_fit",
        help: "Whether a new request may go to the destination.",
        kind: Kind::Gauge,
        labels: DESTINATION,
        values: |view, values| each(view, values, |destination| f64::from(destination.fitness.is_fit())),
    },
    Row {
        name: "tandem_destination_weight",
        help: "The weight of the destination that counts.",
        kind: Kind::Gauge,
        labels: DESTINATION,
        values: |view, values| each(view, values, |destination| f64::from(destination.weight)),
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
        values: |view, values| one(values, view.snapshot.totals.requests as f64),
    },
    Row {
        name: "tandem_received_responses_total",
        help: "Responses received.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| one(values, view.snapshot.totals.responses as f64),
    },
    Row {
        name: "tandem_retransmissions_total",
        help: "Requests received that were retransmissions of one that we had.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| one(values, view.snapshot.totals.retransmissions as f64),
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
        name: "tandem_icmp_errors_total",
        help: "ICMP errors received, by what they did: ended a request that waited, or nothing.",
        kind: Kind::Counter,
        labels: &["effect"],
        values: |view, values| {
            let totals = &view.snapshot.totals;
            let counts = [("ended", totals.icmp), ("none", totals.stray_icmp)];
            values.extend(counts.map(|(effect, count)| (vec![effect.to_owned()], count as f64)));
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
        name: "tandem_transactions",
        help: "Transactions in being, client and server.",
        kind: Kind::Gauge,
        labels: &[],
        values: |view, values| one(values, view.snapshot.transactions as f64),
    },
    Row {
        name: "tandem_draining",
        help: "Whether the node is leaving and refuses new calls.",
        kind: Kind::Gauge,
        labels: &[],
        values: |view, values| one(values, f64::from(u8::from(view.snapshot.drain > Drain::No))),
    },
    Row {
        name: "tandem_reloads_total",
        help: "Loads of the sets by result: ok took effect, failed left the sets as they were.",
        kind: Kind::Counter,
        labels: &["result"],
        values: |view, values| {
            values.push((vec!["ok".to_owned()], view.store.loads as f64));
            values.push((vec!["failed".to_owned()], view.store.failed_loads as f64));
        },
    },
    Row {
        name: "tandem_last_reload_success_timestamp_seconds",
        help: "When the last load of the sets took effect, in seconds since 1970; absent if none did.",
        kind: Kind::Gauge,
        labels: &[],
        values: |view, values| values.extend(view.store.last_load.map(|at| (Vec::new(), seconds(at)))),
    },
    Row {
        name: "tandem_store_ok",
        help: "Whether the last read of the store succeeded.",
        kind: Kind::Gauge,
        labels: &[],
        values: |view, values| one(values, f64::from(view.store.ok)),
    },
    Row {
        name: "tandem_received_datagrams_total",
        help: "UDP datagrams received.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| one(values, view.edge.received as f64),
    },
    Row {
        name: "tandem_received_bytes_total",
        help: "Bytes of the UDP datagrams received, without headers of IP and UDP.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| one(values, view.edge.received_bytes as f64),
    },
    Row {
        name: "tandem_receive_errors_total",
        help: "Errors of the receiving system call.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| one(values, view.edge.receive_faults as f64),
    },
    Row {
        name: "tandem_sent_datagrams_total",
        help: "UDP datagrams sent.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| one(values, view.edge.sent as f64),
    },
    Row {
        name: "tandem_sent_bytes_total",
        help: "Bytes of the UDP datagrams sent, without headers of IP and UDP.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| one(values, view.edge.sent_bytes as f64),
    },
    Row {
        name: "tandem_send_errors_total",
        help: "Messages that this host could not send, by cause.",
        kind: Kind::Counter,
        labels: &["cause"],
        values: |view, values| {
            let counts = SendFault::ALL.iter().zip(view.edge.send_faults);
            values.extend(counts.map(|(fault, count)| (vec![fault.name().to_owned()], count as f64)));
        },
    },
    Row {
        name: "tandem_tcp_connections",
        help: "TCP connections, those that are being made included.",
        kind: Kind::Gauge,
        labels: &[],
        values: |view, values| one(values, view.edge.streams.connections as f64),
    },
    Row {
        name: "tandem_tcp_accepted_total",
        help: "TCP connections that peers made.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| one(values, view.edge.streams.accepted as f64),
    },
    Row {
        name: "tandem_tcp_refused_total",
        help: "TCP connections that a limit forbade, made by peers or by us.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| one(values, view.edge.streams.refused as f64),
    },
    Row {
        name: "tandem_tcp_connect_failures_total",
        help: "TCP connections that we could not make.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| one(values, view.edge.streams.connect_failures as f64),
    },
    Row {
        name: "tandem_tcp_queue_full_total",
        help: "Messages that found the queue of their TCP connection full.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| one(values, view.edge.streams.full as f64),
    },
    Row {
        name: "tandem_tcp_received_messages_total",
        help: "Messages received by TCP.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| one(values, view.edge.streams.received as f64),
    },
    Row {
        name: "tandem_tcp_sent_messages_total",
        help: "Messages sent by TCP.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| one(values, view.edge.streams.sent as f64),
    },
    Row {
        name: "tandem_events_dropped_total",
        help: "Events that nobody took in time: log lines that are missing.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| one(values, view.edge.events_dropped as f64),
    },
];

/// Every metric's name.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|row| row.name)
}

/// The text that Prometheus reads ([`CONTENT_TYPE`]). A metric without a value, such as those of destinations while no
/// set is loaded, is left out.
pub fn render(view: &View<'_>) -> String {
    let families: Vec<_> = TABLE.iter().filter_map(|row| family(row, view)).collect();
    TextEncoder::new().encode_to_string(&families).expect("families with name and values go into a string")
}

fn family(row: &Row, view: &View<'_>) -> Option<MetricFamily> {
    let mut values = Values::new();
    (row.values)(view, &mut values);
    if values.is_empty() {
        return None;
    }
    let metrics = values.into_iter().map(|(labels, value)| {
        let labels = row.labels.iter().zip(labels).map(|(name, value)| {
            let mut label = LabelPair::default();
            label.set_name((*name).to_owned());
            label.set_value(value);
            label
        });
        let mut metric = Metric::from_label(labels.collect());
        match row.kind {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            Kind::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        metric
    });
    let mut family = MetricFamily::default();
    family.set_metric(metrics.collect());
    family.set_name(row.name.to_owned());
    family.set_help(row.help.to_owned());
    family.set_field_type(match row.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
    });
    Some(family)
}

fn one(values: &mut Values, value: f64) {
    values.push((Vec::new(), value));
}

fn each(view: &View<'_>, values: &mut Values, value: fn(&DestinationView) -> f64) {
    values.extend(destinations(view).map(|(labels, destination)| (labels.into(), value(destination))));
}

fn destinations<'a>(view: &View<'a>) -> impl Iterator<Item = ([String; 2], &'a DestinationView)> {
    view.snapshot.sets.iter().flat_map(|set| {
        set.destinations.iter().map(move |destination| ([number(set), named(destination)], destination))
    })
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

fn seconds(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::engine::dispatch::{DestinationId, Fitness, Health, Kept, Latency, Limits, Order, SetId, Standing, Why};

    fn destination(uri: &str) -> DestinationView {
        DestinationView {
            id: DestinationId::default(),
            row: 1,
            uri: uri.to_owned(),
            address: None,
            description: String::new(),
            weight: 3,
            priority: 100,
            standing: Standing {
                order: Order::Ready,
                by: "table".into(),
                reason: String::new(),
                at: UNIX_EPOCH,
                deadline: None,
            },
            health: Health::Up,
            since: UNIX_EPOCH,
            why: Why::Works,
            fitness: Fitness::Fit,
            limits: Limits::default(),
            probed: true,
            share: 100,
            penalty: 0,
            kept: Kept::default(),
            latencies: [Latency::default(); 4],
            falls: 0,
            ejections: 0,
            selections: 12,
            other_selections: 2,
            responses: [1, 2, 3, 4, 5, 6],
            sessions: 4,
            sessions_peak: 9,
        }
    }

    fn snapshot(uris: &[&str]) -> Snapshot {
        let destinations = uris.iter().map(|uri| destination(uri)).collect();
        let set = SetView {
            id: SetId(19),
            name: "tts".to_owned(),
            algorithm: "round_robin",
            empty: 5,
            full: 2,
            failovers: 3,
            exhausted: 1,
            panicking: false,
            destinations,
        };
        Snapshot { sets: vec![set], ..Snapshot::default() }
    }

    fn text(snapshot: &Snapshot) -> String {
        let at = UNIX_EPOCH + Duration::from_millis(1_700_000_000_500);
        let store = StoreStatus { ok: true, loads: 2, failed_loads: 1, last_load: Some(at) };
        let mut edge = EdgeCounters { received: 1 << 40, ..EdgeCounters::default() };
        edge.send_faults[SendFault::NoRoute as usize] = 7;
        render(&View { snapshot, edge: &edge, store: &store, started: at })
    }

    #[test]
    fn each_address_of_a_name_has_series_of_its_own() {
        let mut two = snapshot(&["sip:tts.example.test:7010", "sip:tts.example.test:7010", "sip:asr.example.test"]);
        for (one, address) in two.sets[0].destinations.iter_mut().zip(["10.0.0.1:7010", "10.0.0.2:7010"]) {
            one.address = address.parse().ok();
        }
        let text = text(&two);
        for name in [
            "sip:tts.example.test:7010 10.0.0.1:7010",
            "sip:tts.example.test:7010 10.0.0.2:7010",
            "sip:asr.example.test unresolved",
        ] {
            let line = format!("tandem_sessions{{set=\"19\",destination=\"{name}\"}} 4");
            assert_eq!(text.matches(&line).count(), 1, "{line}\n{text}");
        }
    }

    #[test]
    fn every_row_is_written_with_help_and_type_before_its_values() {
        let text = text(&snapshot(&["sip:10.129.39.88:7010"]));
        let mut lines = text.lines().peekable();
        for row in TABLE {
            let kind = if row.kind == Kind::Counter { "counter" } else { "gauge" };
            assert_eq!(lines.next(), Some(format!("# HELP {} {}", row.name, row.help).as_str()));
            assert_eq!(lines.next(), Some(format!("# TYPE {} {kind}", row.name).as_str()));
            let mut values = 0;
            while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
                let (series, value) = line.rsplit_once(' ').expect("a series and a value");
                assert_eq!(series.split('{').next(), Some(row.name));
                assert!(value.parse::<f64>().is_ok(), "{line}");
                values += 1;
            }
            assert!(values > 0, "{}", row.name);
        }
        assert_eq!(lines.next(), None);
    }

    #[test]
    fn names_are_unique_and_tell_the_kind() {
        let unique: BTreeSet<_> = names().collect();
        assert_eq!(unique.len(), TABLE.len());
        for row in TABLE {
            assert_eq!(row.kind == Kind::Counter, row.name.ends_with("_total"), "{}", row.name);
            assert!(row.help.ends_with('.'), "{}", row.name);
        }
    }

    #[test]
    fn values_stand_under_their_labels() {
        let text = text(&snapshot(&["sip:10.129.39.88:7010", "sip:10.129.39.88:7011"]));
        for line in [
            r#"tandem_selections_total{set="19",destination="sip:10.129.39.88:7011",kind="session"} 12"#,
            r#"tandem_selections_total{set="19",destination="sip:10.129.39.88:7010",kind="other"} 2"#,
            r#"tandem_responses_total{set="19",destination="sip:10.129.39.88:7010",class="6xx"} 6"#,
            r#"tandem_sessions{set="19",destination="sip:10.129.39.88:7010"} 4"#,
            r#"tandem_set_empty_total{set="19"} 5"#,
            r#"tandem_failovers_total{set="19"} 3"#,
            r#"tandem_exhausted_total{set="19"} 1"#,
            r#"tandem_destination_fit{set="19",destination="sip:10.129.39.88:7010"} 1"#,
            r#"tandem_dropped_total{cause="stray_ack"} 0"#,
            r#"tandem_send_errors_total{cause="no_route"} 7"#,
            r#"tandem_reloads_total{result="failed"} 1"#,
            "tandem_received_datagrams_total 1099511627776",
            "tandem_last_reload_success_timestamp_seconds 1700000000.5",
            "tandem_draining 0",
        ] {
            assert!(text.lines().any(|written| written == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn quotes_backslashes_and_line_ends_in_a_uri_are_escaped() {
        let text = text(&snapshot(&["sip:a\"b\\c\nd@h"]));
        assert!(text.contains(r#"tandem_sessions{set="19",destination="sip:a\"b\\c\nd@h"} 4"#), "{text}");
    }

    #[test]
    fn without_sets_and_loads_the_rest_is_still_written() {
        let edge = EdgeCounters::default();
        let store = StoreStatus::default();
        let view = View { snapshot: &Snapshot::default(), edge: &edge, store: &store, started: UNIX_EPOCH };
        let text = render(&view);
        assert!(text.contains("tandem_store_ok 0\n") && text.contains("tandem_requests_total 0\n"), "{text}");
        assert!(!text.contains("tandem_sessions") && !text.contains("last_reload"), "{text}");
    }
}
