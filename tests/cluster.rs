//! The gossip of several nodes over real sockets on 127.0.0.1:0: what they tell each other, who is there, and what strangers
//! can do, which is nothing.

#[path = "cluster/hostile.rs"]
mod hostile;
#[path = "cluster/many.rs"]
mod many;
#[path = "cluster/membership.rs"]
mod membership;
#[path = "cluster/relay.rs"]
mod relay;
#[path = "cluster/seeds.rs"]
mod seeds;
#[path = "cluster/views.rs"]
mod views;

#[allow(dead_code)]
#[path = "server/dns.rs"]
mod dns;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tandem::edge::cluster::report::{DestinationId, DestinationReport, Moment, NodeView};
use tandem::edge::cluster::{Cluster, ClusterConfig, ClusterEvent, Peers, Seed};
use tandem::edge::resolve::{DnsConfig, Resolver};
use tandem::edge::seal::Key;
use tandem::engine::dispatch::{Health, SetId};
use tokio::sync::{broadcast, watch};
use tokio::time::timeout;

/// Nothing here takes so long, even on a machine that is busy with other things.
const LONG: Duration = Duration::from_secs(30);

pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub(crate) fn key(octet: u8) -> Key {
    Key::new([octet; 32]).expect("a secret")
}

/// A node that knows `seeds`.
pub(crate) fn config(seeds: &[SocketAddr]) -> ClusterConfig {
    ClusterConfig {
        bind: loopback(),
        seeds: seeds.iter().copied().map(Seed::from).collect(),
        keys: vec![key(1)],
        // A busy machine may hold a node up for a while.
        dead_after: Duration::from_secs(3),
        ..ClusterConfig::default()
    }
}

pub(crate) async fn start(node: &str, config: ClusterConfig) -> Cluster {
    let resolver = Arc::new(Resolver::new(&DnsConfig::default()));
    Cluster::start(config, node, resolver).await.expect("a node")
}

/// Nodes `a`, `b`, ... that all begin with `a`.
pub(crate) async fn nodes<const COUNT: usize>() -> [Cluster; COUNT] {
    let mut all = vec![start("a", config(&[])).await];
    for name in ('b'..).take(COUNT - 1) {
        all.push(start(&name.to_string(), config(&[all[0].address()])).await);
    }
    all.try_into().expect("as many as were started")
}

/// Waits until `is_so`, and returns what is then told.
pub(crate) async fn until(peers: &mut watch::Receiver<Peers>, is_so: impl FnMut(&Peers) -> bool) -> Peers {
    timeout(LONG, peers.wait_for(is_so)).await.expect("in time").expect("the node lives").clone()
}

/// Waits for an event.
pub(crate) async fn event(
    events: &mut broadcast::Receiver<ClusterEvent>,
    is_it: impl Fn(&ClusterEvent) -> bool,
) -> ClusterEvent {
    let found = async {
        loop {
            match events.recv().await.expect("the node lives") {
                event if is_it(&event) => return event,
                _ => {}
            }
        }
    };
    timeout(LONG, found).await.expect("in time")
}

pub(crate) fn names(peers: &Peers) -> Vec<&str> {
    peers.live.iter().map(|peer| &*peer.node).collect()
}

pub(crate) fn view_of<'p>(peers: &'p Peers, node: &str) -> Option<&'p NodeView> {
    peers.live.iter().find(|peer| &*peer.node == node).map(|peer| &*peer.view)
}

pub(crate) fn destination(number: u16) -> DestinationId {
    let address = SocketAddr::from(([10, 0, (number >> 8) as u8, number as u8], 7010));
    DestinationId { set: SetId(19), address: Some(address), uri: format!("sip:{address}") }
}

pub(crate) fn report(health: Health, sessions: u32) -> DestinationReport {
    DestinationReport { health, sessions, ..DestinationReport::default() }
}

/// A view of `count` destinations.
pub(crate) fn view(count: u16, sessions: u32) -> NodeView {
    let destinations = (0..count).map(|number| {
        let (since, latency) = (Moment(i64::from(number) * 977), Some(u32::from(number % 50)));
        (destination(number), DestinationReport { since, latency, ..report(Health::Up, sessions) })
    });
    NodeView { destinations: destinations.collect(), ..NodeView::default() }
}
