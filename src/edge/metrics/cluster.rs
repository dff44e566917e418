//! Metrics of the gossip; a node that stands alone has none of them.

use std::sync::Arc;
use std::time::Duration;

use super::destinations::votes;
use super::{Kind, Row, View};
use crate::edge::cluster::ClusterCounters;
use crate::edge::seal::Refusal;
use crate::engine::dispatch::Health;
use crate::engine::snapshot::{DestinationView, SetView};

/// What is told of the gossip.
#[derive(Clone, Debug)]
pub struct ClusterView {
    /// This node's name.
    pub node: String,
    /// The other nodes that are there, each with how long ago it was heard.
    pub peers: Vec<(Arc<str>, Duration)>,
    /// Partitions of which another node has other rows in place than this one.
    pub rows_differ: usize,
    /// Counters.
    pub counters: ClusterCounters,
}

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "tandem_cluster_peers",
        help: "Other nodes of the cluster that are heard.",
        kind: Kind::Gauge,
        labels: &[],
        values: |view, values| view.cluster.iter().for_each(|cluster| values.one(cluster.peers.len() as f64)),
    },
    Row {
        name: "tandem_cluster_nodes",
        help: "Nodes of the cluster that are heard, with this one.",
        kind: Kind::Gauge,
        labels: &[],
        values: |view, values| view.cluster.iter().for_each(|cluster| values.one(cluster.peers.len() as f64 + 1.0)),
    },
    Row {
        name: "tandem_cluster_peer_age_seconds",
        help: "How long ago the other node was heard; absent once it is held for gone.",
        kind: Kind::Gauge,
        labels: &["node"],
        values: |view, values| {
            let peers = view.cluster.iter().flat_map(|cluster| &cluster.peers);
            values.extend(peers.map(|(node, age)| (vec![node.to_string()], age.as_secs_f64())));
        },
    },
    Row {
        name: "tandem_cluster_disagreements",
        help: "Destinations that one node holds for up and another for down, right now.",
        kind: Kind::Gauge,
        labels: &[],
        values: |view, values| {
            view.cluster.iter().for_each(|cluster| values.one(disagreements(view, cluster) as f64));
        },
    },
    Row {
        name: "tandem_cluster_rows_differ",
        help: "Partitions of which another node has other rows in place than this one.",
        kind: Kind::Gauge,
        labels: &[],
        values: |view, values| view.cluster.iter().for_each(|cluster| values.one(cluster.rows_differ as f64)),
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

fn disagreements(view: &View<'_>, cluster: &ClusterView) -> usize {
    let differ = |set: &SetView, destination: &DestinationView| {
        let says = |one: &[Health]| votes(cluster, set, destination).any(|(_, health)| one.contains(&health));
        says(&[Health::Up, Health::Busy]) && says(&[Health::Down])
    };
    let of_set = |set: &SetView| set.destinations.iter().filter(|destination| differ(set, destination)).count();
    view.snapshot.sets.iter().map(of_set).sum()
}
