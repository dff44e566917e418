//! Metrics: tables of all names, filled from the engine's snapshot and the edge's counters at scrape.

mod cluster;
mod destinations;
mod events;
mod node;
mod process;
mod sets;
mod wires;

pub use cluster::ClusterView;
pub use process::Queue;

use std::time::SystemTime;

use prometheus::TextEncoder;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use crate::edge::counters::EdgeCounters;
use crate::edge::process::Usage;
use crate::edge::stories::StoryCounters;
use crate::edge::webhook::WebhookStatus;
use crate::engine::Snapshot;
use crate::engine::dispatch::{BOUNDS, Latency};
use crate::engine::flow::Listener;

/// The content type of [`render`]'s text.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// How the loads of a partition's sets went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStatus {
    /// The partition; `[database]` is the one that is called `default`.
    pub partition: String,
    /// Whether the last read of the store succeeded and its rows could be used.
    pub ok: bool,
    /// Loads that took effect.
    pub loads: u64,
    /// Loads that failed and left the sets as they were.
    pub failed_loads: u64,
    /// Changes that were not put in place, since they would have taken out too much.
    pub refused_loads: u64,
    /// When the last load took effect.
    pub last_load: Option<SystemTime>,
    /// When the rows were read last.
    pub last_read: Option<SystemTime>,
    /// Whether a change waits that is not put in place.
    pub refused: bool,
    /// Whether a former version is served instead of the rows.
    pub pinned: bool,
    /// Times that states were written back.
    pub state_writes: u64,
    /// Times that they could not be.
    pub failed_state_writes: u64,
}

/// All that the metrics are computed from.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The engine's state.
    pub snapshot: &'a Snapshot,
    /// The edge's counters.
    pub edge: &'a EdgeCounters,
    /// How the loads went, partition by partition.
    pub stores: &'a [StoreStatus],
    /// The gossip; none if the node stands alone.
    pub cluster: Option<&'a ClusterView>,
    /// The webhooks.
    pub webhooks: &'a [WebhookStatus],
    /// The listeners.
    pub listeners: Listeners<'a>,
    /// The queues between the engine's thread and others.
    pub queues: &'a [Queue],
    /// What the process has; none if the kernel does not tell.
    pub process: Option<Usage>,
    /// What is told of calls.
    pub stories: StoryCounters,
    /// When the process started.
    pub started: SystemTime,
}

/// The listeners, and which of them can be reached here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Listeners<'a> {
    /// Ports filled in.
    pub listeners: &'a [Listener],
    /// For each, whether its address is this machine's now.
    pub held: &'a [bool],
}

/// What a metric's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; starts at 0 with the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How many were not above each bound.
    Histogram,
}

/// One row of a table: a metric and where its values come from.
#[derive(Debug)]
pub struct Row {
    /// `tandem_<thing>[_<unit>][_total]`.
    pub name: &'static str,
    /// A sentence for people.
    pub help: &'static str,
    /// What its values are.
    pub kind: Kind,
    /// The labels' names; all bounded by the configuration.
    pub labels: &'static [&'static str],
    values: fn(&View<'_>, &mut Values),
}

/// The values of one metric: each with the values of its labels.
#[derive(Debug, Default)]
struct Values(Vec<(Vec<String>, Value)>);

#[derive(Debug)]
enum Value {
    /// Of a counter or a gauge.
    Number(f64),
    /// Of a histogram.
    Latency(Latency),
}

impl Values {
    /// The only one, without labels.
    fn one(&mut self, value: f64) {
        self.push((Vec::new(), value));
    }

    fn push(&mut self, (labels, value): (Vec<String>, f64)) {
        self.0.push((labels, Value::Number(value)));
    }

    fn push_latency(&mut self, labels: Vec<String>, latency: Latency) {
        self.0.push((labels, Value::Latency(latency)));
    }
}

impl Extend<(Vec<String>, f64)> for Values {
    fn extend<I: IntoIterator<Item = (Vec<String>, f64)>>(&mut self, all: I) {
        self.0.extend(all.into_iter().map(|(labels, value)| (labels, Value::Number(value))));
    }
}

/// Every metric, in the order of the text.
pub fn table() -> impl Iterator<Item = &'static Row> {
    [node::ROWS, destinations::ROWS, sets::ROWS, wires::ROWS, events::ROWS, cluster::ROWS, process::ROWS]
        .into_iter()
        .flatten()
}

/// The text that Prometheus reads ([`CONTENT_TYPE`]). A metric without a value, such as those of destinations while no
/// set is loaded, is left out.
pub fn render(view: &View<'_>) -> String {
    let mut text = String::new();
    // One after the other: of 10,000 destinations all at once would take a hundred megabytes more than their text.
    for family in table().filter_map(|row| family(row, view)) {
        TextEncoder::new().encode_utf8(&[family], &mut text).expect("a family with name and values goes into a string");
    }
    text
}

fn family(row: &Row, view: &View<'_>) -> Option<MetricFamily> {
    let mut values = Values::default();
    (row.values)(view, &mut values);
    if values.0.is_empty() {
        return None;
    }
    let metrics = values.0.into_iter().map(|(labels, value)| {
        let labels = row.labels.iter().zip(labels).map(|(name, value)| {
            let mut label = LabelPair::default();
            label.set_name((*name).to_owned());
            label.set_value(value);
            label
        });
        let mut metric = Metric::from_label(labels.collect());
        match (value, row.kind) {
            (Value::Number(value), Kind::Counter) => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            (Value::Number(value), Kind::Gauge | Kind::Histogram) => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
            (Value::Latency(latency), _) => metric.set_histogram(histogram(&latency)),
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
        Kind::Histogram => MetricType::HISTOGRAM,
    });
    Some(family)
}

fn histogram(latency: &Latency) -> Histogram {
    let mut below = 0;
    let buckets = BOUNDS.iter().zip(latency.buckets).map(|(bound, count)| {
        below += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound.as_secs_f64());
        bucket.set_cumulative_count(below);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(latency.count);
    histogram.set_sample_sum(latency.sum.as_secs_f64());
    histogram
}

#[cfg(test)]
pub(in crate::edge) mod tests {
    use std::collections::BTreeSet;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::edge::counters::{LineFault, SendFault};
    use crate::engine::dispatch::{
        AgentView, AgentWord, DestinationId, Fitness, Health, Kept, Limits, Order, RowState, SetId, Standing, Why,
        Wish, Witness,
    };
    use crate::engine::event::Ending;
    use crate::engine::flow::{HostPort, ListenerId, Role, Transport};
    use crate::engine::snapshot::{ClassView, DestinationView, SetView, Totals, VoteView};

    pub(in crate::edge) fn destination(uri: &str) -> DestinationView {
        DestinationView {
            id: DestinationId::default(),
            row: 1,
            uri: uri.to_owned(),
            address: None,
            transport: Transport::Udp,
            socket: None,
            attrs: String::new(),
            description: String::new(),
            weight: 3,
            priority: 100,
            state: RowState::Active,
            standing: Standing {
                order: Order::Drain,
                by: "alice".to_owned(),
                reason: "new model".to_owned(),
                at: UNIX_EPOCH,
                deadline: None,
            },
            health: Health::Busy,
            told: Health::Down,
            lasted: Duration::ZERO,
            since: UNIX_EPOCH,
            why: Why::Works,
            fall: None,
            fitness: Fitness::Ordered(Order::Drain),
            limits: Limits { sessions: Some(60), cps: None },
            classes: vec![class("tts", Some(80), 3), class("asr", None, 1)],
            probed: true,
            share: 30,
            agent: Some(AgentView {
                wish: Some(Wish { share: 75, order: Some(AgentWord::Drain), ..Wish::default() }),
                line: "75% drain".to_owned(),
                at: None,
                answers: 6,
                silences: 5,
                unknown_words: 3,
            }),
            penalty: 0,
            kept: Kept::default(),
            latencies: latencies(),
            falls: 7,
            falls_by: [4, 2, 1],
            ejections: 8,
            ejections_by: [5, 1, 2, 0],
            probes: [10, 20, 30, 40],
            selections: 12,
            choices: [9, 3],
            other_selections: 2,
            responses: [1, 2, 3, 4, 5, 6],
            setup: latencies()[Witness::Options as usize],
            sessions: 4,
            elsewhere: 0,
            votes: vec![vote("b", Health::Up, 1), vote("c", Health::Busy, 9)],
            sessions_peak: 9,
        }
    }

    fn vote(node: &str, health: Health, age: u64) -> VoteView {
        VoteView {
            node: node.to_owned(),
            health,
            lasted: Duration::ZERO,
            age: Duration::from_secs(age),
            probed: true,
            cause: None,
            latency: None,
            sessions: 0,
        }
    }

    fn class(name: &str, limit: Option<u32>, sessions: u64) -> ClassView {
        ClassView { name: name.into(), limit, sessions }
    }

    /// Three probes, one of which took longer than any bound.
    fn latencies() -> [Latency; Witness::ALL.len()] {
        let mut latencies = <[Latency; Witness::ALL.len()]>::default();
        let options = &mut latencies[Witness::Options as usize];
        (options.buckets[0], options.buckets[3]) = (1, 1);
        (options.count, options.sum) = (3, Duration::from_millis(20_008));
        latencies
    }

    fn snapshot(uris: &[&str]) -> Snapshot {
        let destinations = uris.iter().map(|uri| destination(uri)).collect();
        let set = SetView {
            id: SetId(19),
            name: "tts".to_owned(),
            algorithm: "round_robin",
            empty_reply: 480,
            busy_reply: 486,
            view_ttl: Duration::from_secs(5),
            empty: 5,
            full: 2,
            failovers: 3,
            exhausted: 1,
            panicking: true,
            destinations,
        };
        let mut totals = Totals { answered_pings: 21, failed_pings: 2, byes: 3, failed_byes: 1, ..Totals::default() };
        totals.ended[Ending::Quiet as usize] = 6;
        let transaction_kinds = [4, 3, 2, 1];
        Snapshot { sets: vec![set], parked: 6, totals, transaction_kinds, resent: 17, ..Snapshot::default() }
    }

    fn text(snapshot: &Snapshot) -> String {
        let at = UNIX_EPOCH + Duration::from_millis(1_700_000_000_500);
        let (loads, failed_loads, refused_loads) = (2, 1, 4);
        let (last_load, last_read) = (Some(at), Some(at + Duration::from_secs(1)));
        let partition = "default".to_owned();
        let (ok, refused, pinned) = (true, true, false);
        let (state_writes, failed_state_writes) = (8, 9);
        let store = StoreStatus {
            partition,
            ok,
            loads,
            failed_loads,
            refused_loads,
            last_load,
            last_read,
            refused,
            pinned,
            state_writes,
            failed_state_writes,
        };
        let mut edge = EdgeCounters { received: 1 << 40, ..EdgeCounters::default() };
        edge.send_faults[SendFault::NoRoute as usize] = 7;
        edge.records.written = 4;
        edge.records.dropped[LineFault::NoSpace as usize] = 5;
        (edge.turns, edge.busy) = (3, Duration::from_millis(1500));
        let peers = vec![("b".into(), Duration::from_millis(250))];
        let counters = crate::edge::cluster::ClusterCounters::default();
        let cluster = ClusterView { node: "a".to_owned(), peers, rows_differ: 1, counters };
        let process = Some(Usage {
            cpu: Duration::from_millis(2500),
            resident: 4096,
            virtual_memory: 8192,
            threads: 5,
            open_files: 11,
            most_files: 1024,
        });
        let queues = [Queue { name: "events", depth: 2, capacity: 8192 }];
        let advertise = HostPort { host: "192.0.2.7".to_owned(), port: 8060 };
        let listener = |id, role| Listener {
            id: ListenerId(id),
            transport: Transport::Udp,
            bind: ([192, 0, 2, 7 + id as u8], 8060).into(),
            advertise: advertise.clone(),
            role,
            sources: Default::default(),
        };
        let listeners = [listener(0, Role::Node), listener(1, Role::Vip)];
        let listeners = Listeners { listeners: &listeners, held: &[true, false] };
        let webhooks = &[WebhookStatus { hook: "noc".to_owned(), ok: 3, failed: 2, dropped: 1, queue: 4 }];
        let (edge, stores, cluster, queues) = (&edge, &[store][..], Some(&cluster), &queues[..]);
        render(&View {
            snapshot,
            edge,
            stores,
            cluster,
            webhooks,
            listeners,
            queues,
            process,
            stories: StoryCounters::default(),
            started: at,
        })
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
        for row in table() {
            let (kind, endings) = match row.kind {
                Kind::Counter => ("counter", &[""][..]),
                Kind::Gauge => ("gauge", &[""][..]),
                Kind::Histogram => ("histogram", &["_bucket", "_sum", "_count"][..]),
            };
            assert_eq!(lines.next(), Some(format!("# HELP {} {}", row.name, row.help).as_str()));
            assert_eq!(lines.next(), Some(format!("# TYPE {} {kind}", row.name).as_str()));
            let mut values = 0;
            while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
                let (series, value) = line.rsplit_once(' ').expect("a series and a value");
                let ending = series.split('{').next().and_then(|name| name.strip_prefix(row.name));
                assert!(ending.is_some_and(|ending| endings.contains(&ending)), "{line}");
                assert!(value.parse::<f64>().is_ok(), "{line}");
                values += 1;
            }
            assert!(values > 0, "{}", row.name);
        }
        assert_eq!(lines.next(), None);
    }

    #[test]
    fn names_are_unique_and_tell_the_kind() {
        let unique: BTreeSet<_> = table().map(|row| row.name).collect();
        assert_eq!(unique.len(), table().count());
        for row in table() {
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
            r#"tandem_destination_resource_sessions{set="19",destination="sip:10.129.39.88:7010",resource_class="tts"} 3"#,
            r#"tandem_destination_resource_sessions{set="19",destination="sip:10.129.39.88:7011",resource_class="asr"} 1"#,
            r#"tandem_destination_resource_sessions_limit{set="19",destination="sip:10.129.39.88:7010",resource_class="tts"} 80"#,
            r#"tandem_set_empty_total{set="19"} 5"#,
            r#"tandem_set_full_total{set="19"} 2"#,
            r#"tandem_failovers_total{set="19"} 3"#,
            r#"tandem_exhausted_total{set="19"} 1"#,
            r#"tandem_set_panicking{set="19"} 1"#,
            r#"tandem_destination_fit{set="19",destination="sip:10.129.39.88:7010"} 0"#,
            r#"tandem_destination_health{set="19",destination="sip:10.129.39.88:7010",health="up"} 0"#,
            r#"tandem_destination_health{set="19",destination="sip:10.129.39.88:7010",health="busy"} 1"#,
            r#"tandem_destination_order{set="19",destination="sip:10.129.39.88:7010",order="ready"} 0"#,
            r#"tandem_destination_order{set="19",destination="sip:10.129.39.88:7010",order="drain"} 1"#,
            r#"tandem_destination_share_ratio{set="19",destination="sip:10.129.39.88:7010"} 0.3"#,
            r#"tandem_destination_agent_share_ratio{set="19",destination="sip:10.129.39.88:7010"} 0.75"#,
            r#"tandem_destination_agent_refuses{set="19",destination="sip:10.129.39.88:7010"} 1"#,
            r#"tandem_agent_checks_total{set="19",destination="sip:10.129.39.88:7010",result="answered"} 6"#,
            r#"tandem_agent_checks_total{set="19",destination="sip:10.129.39.88:7010",result="silent"} 5"#,
            r#"tandem_agent_unknown_words_total{set="19",destination="sip:10.129.39.88:7010"} 3"#,
            r#"tandem_falls_total{set="19",destination="sip:10.129.39.88:7010",cause="probes"} 4"#,
            r#"tandem_falls_total{set="19",destination="sip:10.129.39.88:7010",cause="order"} 1"#,
            r#"tandem_ejections_total{set="19",destination="sip:10.129.39.88:7010",cause="consecutive_failures"} 5"#,
            r#"tandem_ejections_total{set="19",destination="sip:10.129.39.88:7010",cause="trial"} 2"#,
            r#"tandem_choices_total{set="19",destination="sip:10.129.39.88:7010",choice="first"} 9"#,
            r#"tandem_choices_total{set="19",destination="sip:10.129.39.88:7010",choice="failover"} 3"#,
            r#"tandem_setup_seconds_count{set="19",destination="sip:10.129.39.88:7010"} 3"#,
            r#"tandem_setup_seconds_bucket{set="19",destination="sip:10.129.39.88:7010",le="0.001"} 1"#,
            r#"tandem_destination_limit_sessions{set="19",destination="sip:10.129.39.88:7010"} 60"#,
            r#"tandem_destination_down_reason{set="19",destination="sip:10.129.39.88:7010",reason="order"} 1"#,
            r#"tandem_destination_down_reason{set="19",destination="sip:10.129.39.88:7010",reason="busy"} 0"#,
            r#"tandem_destination_votes{set="19",destination="sip:10.129.39.88:7010",node="a"} 0"#,
            r#"tandem_destination_votes{set="19",destination="sip:10.129.39.88:7010",node="b"} 1"#,
            r#"tandem_set_info{set="19",name="tts",algorithm="round_robin"} 1"#,
            r#"tandem_set_replies_total{set="19",status="480"} 6"#,
            r#"tandem_set_replies_total{set="19",status="486"} 2"#,
            "tandem_cluster_nodes 2",
            "tandem_cluster_disagreements 2",
            "tandem_cluster_rows_differ 1",
            r#"tandem_cluster_peer_age_seconds{node="b"} 0.25"#,
            r#"tandem_transactions{kind="client_invite"} 4"#,
            r#"tandem_transactions{kind="server_other"} 1"#,
            "tandem_retransmissions_sent_total 17",
            "tandem_drift_sessions 0",
            "tandem_engine_turns_total 3",
            "tandem_engine_busy_seconds_total 1.5",
            r#"tandem_queue_depth{queue="events"} 2"#,
            r#"tandem_queue_capacity{queue="events"} 8192"#,
            "process_cpu_seconds_total 2.5",
            "process_resident_memory_bytes 4096",
            "process_open_fds 11",
            r#"tandem_probes_total{set="19",destination="sip:10.129.39.88:7010",result="alive"} 10"#,
            r#"tandem_probes_total{set="19",destination="sip:10.129.39.88:7010",result="fall"} 30"#,
            r#"tandem_dropped_total{cause="stray_ack"} 0"#,
            r#"tandem_send_errors_total{cause="no_route"} 7"#,
            r#"tandem_sessions_ended_total{ending="caller_bye"} 0"#,
            r#"tandem_sessions_ended_total{ending="quiet"} 6"#,
            r#"tandem_records_dropped_total{cause="no_space"} 5"#,
            "tandem_records_written_total 4",
            r#"tandem_webhook_deliveries_total{hook="noc",result="failed"} 2"#,
            r#"tandem_webhook_queue{hook="noc"} 4"#,
            r#"tandem_reloads_total{partition="default",result="failed"} 1"#,
            "tandem_received_datagrams_total 1099511627776",
            r#"tandem_last_reload_success_timestamp_seconds{partition="default"} 1700000000.5"#,
            "tandem_draining 0",
            "tandem_sessions_parked 6",
            r#"tandem_session_pings_total{result="answered"} 21"#,
            r#"tandem_session_pings_total{result="failed"} 2"#,
            "tandem_session_byes_total 3",
            "tandem_session_byes_failed_total 1",
        ] {
            assert!(text.lines().any(|written| written == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn latencies_are_histograms_of_those_witnesses_that_saw_anything() {
        let text = text(&snapshot(&["sip:10.0.0.1:7010"]));
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with("tandem_latency_seconds")).collect();
        let labels = r#"set="19",destination="sip:10.0.0.1:7010",witness="options""#;
        for (name, more, value) in [
            ("bucket", r#",le="0.001""#, "1"),
            ("bucket", r#",le="0.005""#, "1"),
            ("bucket", r#",le="0.01""#, "2"),
            ("bucket", r#",le="10""#, "2"),
            ("bucket", r#",le="+Inf""#, "3"),
            ("sum", "", "20.008"),
            ("count", "", "3"),
        ] {
            let line = format!("tandem_latency_seconds_{name}{{{labels}{more}}} {value}");
            assert!(lines.contains(&line.as_str()), "{line} in {lines:#?}");
        }
        assert_eq!(lines.len(), BOUNDS.len() + 3, "nothing of other witnesses: {lines:#?}");
    }

    #[test]
    fn a_destination_adds_as_many_series_as_docs_metrics_says() {
        let series = |uris: &[&str]| text(&snapshot(uris)).lines().filter(|line| !line.starts_with('#')).count();
        let one = series(&["sip:10.0.0.1:7010"]);
        // One witness, a limit, two classes of which one has a limit, an agent, two nodes that have a say; it was called.
        let says = 43 + 15 + 15 + 1 + 3 + 5 + 2;
        assert_eq!(series(&["sip:10.0.0.1:7010", "sip:10.0.0.2:7010"]) - one, says);
    }

    #[test]
    fn quotes_backslashes_and_line_ends_in_a_uri_are_escaped() {
        let text = text(&snapshot(&["sip:a\"b\\c\nd@h"]));
        assert!(text.contains(r#"tandem_sessions{set="19",destination="sip:a\"b\\c\nd@h"} 4"#), "{text}");
    }

    #[test]
    fn without_sets_and_loads_the_rest_is_still_written() {
        let edge = EdgeCounters::default();
        let stores = [StoreStatus { partition: "default".to_owned(), ..StoreStatus::default() }];
        let (snapshot, listeners) = (Snapshot::default(), Listeners::default());
        let (edge, stores, snapshot, started) = (&edge, &stores[..], &snapshot, UNIX_EPOCH);
        let (webhooks, queues, process, stories) = (&[][..], &[][..], None, StoryCounters::default());
        let view =
            View { snapshot, edge, stores, cluster: None, webhooks, listeners, queues, process, stories, started };
        let text = render(&view);
        assert!(
            text.contains("tandem_store_ok{partition=\"default\"} 0\n") && text.contains("tandem_requests_total 0\n"),
            "{text}"
        );
        assert!(!text.contains("tandem_sessions{") && !text.contains("last_reload"), "{text}");
    }
}
