//! Metrics of the gossip; a node that stands alone has none of them.

use super::{Kind, Row, View};
use crate::edge::cluster::ClusterCounters;
use crate::edge::seal::Refusal;

/// What is told of the gossip.
#[derive(Clone, Copy, Debug)]
pub struct ClusterView {
    /// Other nodes that are there.
    pub peers: usize,
    /// Counters.
    pub counters: ClusterCounters,
}

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "tandem_cluster_peers",
        help: "Other nodes of the cluster that are heard.",
        kind: Kind::Gauge,
        labels: &[],
        values: |view, values| view.cluster.iter().for_each(|cluster| values.one(cluster.peers as f64)),
    },
    Row {
        name: "tandem_cluster_packets_total",
        help: "Packets of the gossip, by direction; received ones include those that were refused.",
        kind: Kind::Counter,
        labels: &["direction"],
        values: |view, values| {
            let count = |(direction, count): (&str, u64)| (vec![direction.to_owned()], count as f64);
            let of = |counters: ClusterCounters| [("sent", counters.sent), ("received", counters.received)];
            values.extend(counters(view).into_iter().flat_map(of).map(count));
        },
    },
    Row {
        name: "tandem_cluster_packets_refused_total",
        help: "Packets of the gossip that were refused and changed nothing, by cause.",
        kind: Kind::Counter,
        labels: &["cause"],
        values: |view, values| {
            let of = |counters: ClusterCounters| Refusal::ALL.map(|cause| (cause, counters.refused(cause)));
            let count = |(cause, count): (Refusal, u64)| (vec![cause.name().to_owned()], count as f64);
            values.extend(counters(view).into_iter().flat_map(of).map(count));
        },
    },
    Row {
        name: "tandem_cluster_duplicates_total",
        help: "Times that a second node of one node_id was found: each node needs its own.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| counters(view).iter().for_each(|counters| values.one(counters.duplicates as f64)),
    },
    Row {
        name: "tandem_cluster_restarts_total",
        help: "Times that the gossip died and was started again.",
        kind: Kind::Counter,
        labels: &[],
        values: |view, values| counters(view).iter().for_each(|counters| values.one(counters.restarts as f64)),
    },
];

fn counters(view: &View<'_>) -> Option<ClusterCounters> {
    view.cluster.map(|cluster| cluster.counters)
}
