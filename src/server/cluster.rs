//! A node among others: what it has seen goes into the gossip, and what the others have seen into the engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::fit::fit;
use super::node::Shared;
use crate::edge::cluster::report::{DestinationId, DestinationReport, NodeReport, NodeView, OrderReport};
use crate::edge::cluster::{Cluster, PeerView, Peers};
use crate::edge::interfaces::held_vips;
use crate::engine::Snapshot;
use crate::engine::dispatch::{AtDeadline, Deadline, PeerDestination, PeerReport, Standing};
use crate::engine::flow::Listener;
use crate::engine::snapshot::DestinationView;

/// So often the others are told what is new, and the engine what they tell...
const ROUND: Duration = Duration::from_millis(100);
/// ... and with so many destinations four times less often, since each time all are looked at.
const MANY: usize = 2000;
/// So often the engine is told of them though nothing is new: how old it is may be known better by now.
const AFRESH: Duration = Duration::from_secs(1);
/// More nodes have no say.
const MOST_PEERS: usize = 64;
/// An order from further ahead than that is nobody's.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Characters of an order's giver and reason.
const WORDS: usize = 256;

impl Shared {
    /// Tells the others what this node sees, and the engine what they do, until the node stops.
    pub(super) async fn gossip(self: Arc<Self>, cluster: Arc<Cluster>, mut stopped: watch::Receiver<bool>) {
        let mut peers = cluster.peers();
        let mut round = interval(ROUND);
        // Whatever happens meanwhile, and however long a round takes: the next one comes.
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut skip, mut afresh, mut told) = (0, Instant::now(), None);
        loop {
            tokio::select! {
                _ = stopped.changed() => return,
                _ = round.tick() => {
                    if skip > 0 {
                        skip -= 1;
                        continue;
                    }
                    let Ok(snapshot) = self.handle.snapshot().await else { return };
                    // It is kept for a while: the same one once more is no news.
                    if told.as_ref().is_none_or(|told| !Arc::ptr_eq(told, &snapshot)) {
                        let many = self.publish(&cluster, &snapshot);
                        skip = if many > MANY { 3 } else { 0 };
                        told = Some(snapshot);
                    }
                    let changed = peers.has_changed().unwrap_or(false);
                    if changed || afresh.elapsed() >= AFRESH {
                        afresh = Instant::now();
                        let reports = reports(&peers.borrow_and_update());
                        if self.handle.peers(reports).await.is_err() {
                            return;
                        }
                    }
                }
            }
        }
    }

    /// Tells the others; how many destinations there are.
    fn publish(&self, cluster: &Cluster, snapshot: &Snapshot) -> usize {
        let report = NodeReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            listeners: self.handle.listeners().iter().map(name).collect(),
            vips: held_vips(self.handle.listeners(), &self.addresses.held()),
            fit: snapshot.sets.iter().map(|set| (set.id.0, u32::try_from(fit(set)).unwrap_or(u32::MAX))).collect(),
            ..NodeReport::default()
        };
        let view = NodeView { report, destinations: destinations(cluster, snapshot) };
        let many = view.destinations.len();
        cluster.publish(view);
        many
    }
}

fn name(listener: &Listener) -> String {
    format!("{}:{}", listener.transport.name(), listener.bind)
}

fn destinations(cluster: &Cluster, snapshot: &Snapshot) -> BTreeMap<DestinationId, DestinationReport> {
    let now = Instant::now();
    let told = |set, one: &DestinationView| {
        let id = DestinationId { set, address: one.address, uri: one.uri.clone() };
        let report = DestinationReport {
            health: one.health,
            since: cluster.moment(now.checked_sub(one.lasted).unwrap_or(now)),
            sessions: u32::try_from(one.sessions).unwrap_or(u32::MAX),
            order: one.standing.is_by_hand().then(|| order(&one.standing, cluster.node())),
            ..DestinationReport::default()
        };
        (id, report)
    };
    snapshot.sets.iter().flat_map(|set| set.destinations.iter().map(move |one| told(set.id, one))).collect()
}

fn order(standing: &Standing, node: &str) -> OrderReport {
    OrderReport {
        order: standing.order.name().to_owned(),
        stamp: millis(standing.at),
        node: node.to_owned(),
        by: standing.by.clone(),
        reason: standing.reason.clone(),
        deadline: standing.deadline.map(|deadline| millis(deadline.at)),
        then_end: standing.ends_sessions(),
    }
}

/// An order as another node tells it; none if no node of ours would.
fn standing(report: &OrderReport) -> Option<Standing> {
    if moment(report.stamp) > SystemTime::now() + DAY {
        return None;
    }
    let words = |text: &str| text.chars().take(WORDS).collect();
    let deadline = report
        .deadline
        .map(|at| Deadline { at: moment(at), then: if report.then_end { AtDeadline::End } else { AtDeadline::Tell } });
    Some(Standing {
        order: report.order()?,
        by: words(&report.by),
        reason: words(&report.reason),
        at: moment(report.stamp),
        deadline,
    })
}

fn millis(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis().try_into().unwrap_or(u64::MAX)
}

fn moment(millis: u64) -> SystemTime {
    // No year that anybody writes is beyond.
    UNIX_EPOCH + Duration::from_millis(millis.min(1 << 50))
}

/// What the engine is told of all nodes that are there. One whose time is not known yet has told nothing that could be dated.
fn reports(peers: &Peers) -> Vec<PeerReport> {
    peers.live.iter().filter(|peer| peer.clock.is_some()).take(MOST_PEERS).map(report).collect()
}

fn report(peer: &PeerView) -> PeerReport {
    let now = Instant::now();
    let told = |(id, report): (&DestinationId, &DestinationReport)| {
        Some(PeerDestination {
            set: id.set,
            uri: id.uri.clone(),
            address: id.address?,
            health: report.health,
            lasted: peer.age(report.since, now).unwrap_or_default(),
            sessions: report.sessions.into(),
            order: report.order.as_ref().and_then(standing),
        })
    };
    PeerReport {
        node: peer.node.to_string(),
        started: peer.view.report.started,
        destinations: peer.view.destinations.iter().filter_map(told).collect(),
    }
}
