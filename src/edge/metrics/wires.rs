//! Metrics of UDP and TCP.

use super::{Kind, Row};
use crate::edge::counters::SendFault;
use crate::engine::flow::Listener;

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "tandem_listener_held",
        help: "Whether the listener's address is this machine's now: what is sent there comes here.",
        kind: Kind::Gauge,
        labels: &["listener", "role"],
        values: |view, values| {
            let all = view.listeners.listeners.iter().zip(view.listeners.held);
            let labels = |listener: &Listener| vec![listener.name(), listener.role.name().to_owned()];
            values.extend(all.map(|(listener, held)| (labels(listener), f64::from(u8::from(*held)))));
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
        name: "tandem_received_datagrams_total",
        help: "UDP datagrams received.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| values.one(view.edge.received as f64),
    },
    Row {
        name: "tandem_received_bytes_total",
        help: "Bytes of the UDP datagrams received, without headers of IP and UDP.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| values.one(view.edge.received_bytes as f64),
    },
    Row {
        name: "tandem_receive_errors_total",
        help: "Errors of the receiving system call.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| values.one(view.edge.receive_faults as f64),
    },
    Row {
        name: "tandem_sent_datagrams_total",
        help: "UDP datagrams sent.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| values.one(view.edge.sent as f64),
    },
    Row {
        name: "tandem_sent_bytes_total",
        help: "Bytes of the UDP datagrams sent, without headers of IP and UDP.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| values.one(view.edge.sent_bytes as f64),
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
        values: |view, values| values.one(view.edge.streams.connections as f64),
    },
    Row {
        name: "tandem_tcp_accepted_total",
        help: "TCP connections that peers made.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| values.one(view.edge.streams.accepted as f64),
    },
    Row {
        name: "tandem_tcp_refused_total",
        help: "TCP connections that a limit forbade, made by peers or by us.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| values.one(view.edge.streams.refused as f64),
    },
    Row {
        name: "tandem_tcp_connect_failures_total",
        help: "TCP connections that we could not make.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| values.one(view.edge.streams.connect_failures as f64),
    },
    Row {
        name: "tandem_tcp_queue_full_total",
        help: "Messages that found the queue of their TCP connection full.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| values.one(view.edge.streams.full as f64),
    },
    Row {
        name: "tandem_tcp_received_messages_total",
        help: "Messages received by TCP.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| values.one(view.edge.streams.received as f64),
    },
    Row {
        name: "tandem_tcp_sent_messages_total",
        help: "Messages sent by TCP.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| values.one(view.edge.streams.sent as f64),
    },
];
