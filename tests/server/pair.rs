//! Two nodes of one cluster: what one has seen, and what it was told, the other knows.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use tandem::config::Config;
use tandem::edge::cluster::{ClusterConfig, Seed};
use tandem::engine::dispatch::{Order, SetId, Standing};
use tandem::lab::caller::run;
use tandem::lab::{Caller, CallerConfig, MrcpServer};
use tandem::server::Node;

use crate::node::{addresses, calls, servers};
use crate::scratch::{Folder, http, insert, until};

struct Pair {
    nodes: Vec<Node>,
    servers: Vec<MrcpServer>,
    folders: Vec<Folder>,
}

fn free_port() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port")
}

impl Pair {
    /// Nodes `a` and `b` with the same rows: those servers, and perhaps a port where nobody is.
    async fn start(set: &str, nobody: Option<SocketAddr>) -> Self {
        let gossip = [free_port(), free_port()];
        let servers = servers(2).await;
        let rows: Vec<_> = addresses(&servers).into_iter().chain(nobody).collect();
        let (mut nodes, mut folders) = (Vec::new(), Vec::new());
        for (nth, name) in ["a", "b"].into_iter().enumerate() {
            let folder = Folder::new();
            let cluster = ClusterConfig {
                bind: gossip[nth],
                seeds: vec![Seed::parse(&gossip[1 - nth].to_string()).expect("a seed")],
                dead_after: Duration::from_secs(1),
                ..ClusterConfig::default()
            };
            let config = Config { node_id: name.to_owned(), cluster: Some(cluster), ..folder.config(set) };
            let node = Node::start(&config).await.expect("it starts");
            node.store().execute(&insert(&rows)).await.expect("rows");
            node.reload().await.expect("good rows");
            nodes.push(node);
            folders.push(folder);
        }
        let pair = Pair { nodes, servers, folders };
        pair.until(1, "the other is heard", |told| told["votes"].as_array().is_some_and(|votes| votes.len() == 1))
            .await;
        pair
    }

    /// What a node says of the first row, or of the one that is asked for.
    async fn told(&self, node: usize, uri: &str) -> Value {
        let address = self.nodes[node].http().expect("it is on");
        let (_, text) = tokio::task::spawn_blocking(move || http(address, "GET", "/sets/19")).await.expect("no panic");
        let set: Value = serde_json::from_str(&text).expect("JSON");
        let all = set["destinations"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|one| one["uri"] == *uri).unwrap_or_else(|| panic!("{uri}: {set}"))
    }

    fn uri(&self, nth: usize) -> String {
        format!("sip:{}", self.servers[nth].address())
    }

    async fn until(&self, node: usize, what: &str, is_so: impl Fn(&Value) -> bool) -> Duration {
        self.until_of(node, &self.uri(0), what, is_so).await
    }

    async fn until_of(&self, node: usize, uri: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Duration {
        let began = Instant::now();
        until(what, async || is_so(&self.told(node, uri).await).then_some(())).await;
        began.elapsed()
    }

    async fn stop(self) {
        for node in self.nodes {
            node.stop().await;
        }
        drop(self.folders);
    }
}

fn order(order: Order) -> Standing {
    let (by, reason) = ("ann".to_owned(), "new disk".to_owned());
    Standing { order, by, reason, at: SystemTime::now(), deadline: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_to_one_node_is_obeyed_by_both_and_the_newest_wins() {
    let pair = Pair::start("", None).await;
    let uri = pair.uri(0);
    let give = async |node: usize, standing| {
        let given = pair.nodes[node].server().give(SetId(19), &uri, standing).await.expect("it runs");
        given.expect("it is loaded");
    };
    give(0, order(Order::Drain)).await;
    pair.until(1, "drained on b", |told| told["order"]["order"] == "drain" && told["order"]["by"] == "ann").await;
    let report = calls(pair.nodes[1].server().addresses()[0], 10, 100.0).await;
    assert_eq!((report.answered, report.destinations.len()), (10, 1), "{report}");
    // A clock that is behind does not make an order an old one.
    give(1, Standing { at: SystemTime::UNIX_EPOCH, ..order(Order::Ready) }).await;
    pair.until(0, "ready on a", |told| told["order"]["order"] == "ready").await;
    pair.until(1, "ready on b", |told| told["order"]["order"] == "ready").await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_finds_dead_the_other_does_not_try() {
    let nobody = free_port();
    let pair = Pair::start("[set.observe]\nconsecutive_failures = 1\nbase_ejection_time = \"60s\"", Some(nobody)).await;
    let uri = format!("sip:{nobody}");
    let report = calls(pair.nodes[0].server().addresses()[0], 6, 100.0).await;
    assert_eq!(report.answered, 6, "{report}");
    pair.until_of(0, &uri, "down on a", |told| told["health"] == "down").await;
    let seen = pair.until_of(1, &uri, "outvoted on b", |told| told["fit"] == json!(false)).await;
    let told = pair.told(1, &uri).await;
    assert_eq!((&told["health"], &told["fitness"]), (&json!("up"), &json!("unfit: down, as other nodes see it")));
    assert_eq!((&told["votes"][0]["node"], &told["votes"][0]["health"]), (&json!("a"), &json!("down")));
    let before = told["selections"].clone();
    let report = calls(pair.nodes[1].server().addresses()[0], 12, 200.0).await;
    assert_eq!((report.answered, &pair.told(1, &uri).await["selections"]), (12, &before), "{report}");
    println!("seen by the other after {seen:?}");
    // A node that is gone has no say.
    let Pair { mut nodes, servers, folders } = pair;
    nodes.remove(0).stop().await;
    let pair = Pair { nodes, servers, folders };
    pair.until_of(0, &uri, "b alone", |told| told["fit"] == json!(true)).await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn capacity_is_the_clusters() {
    let pair = Pair::start("[set.capacity]\nmax_sessions = 5", None).await;
    let proxies: Vec<_> = pair.nodes.iter().map(|node| node.server().addresses()[0]).collect();
    let hold = Duration::from_secs(6000);
    let caller = Arc::new(Caller::new());
    let config = CallerConfig { proxy: proxies[0], rate: 100.0, calls: Some(8), hold, ..CallerConfig::default() };
    let held = tokio::spawn(async move { run(config, &caller).await });
    for uri in [pair.uri(0), pair.uri(1)] {
        pair.until_of(1, &uri, "counted by b", |told| told["sessions_elsewhere"] == 4).await;
    }
    // Two of the ten places are left.
    let more = Arc::new(Caller::new());
    let config = CallerConfig { proxy: proxies[1], rate: 100.0, calls: Some(6), hold, ..CallerConfig::default() };
    let beyond = tokio::spawn(async move { run(config, &more).await });
    for uri in [pair.uri(0), pair.uri(1)] {
        pair.until_of(1, &uri, "full", |told| told["sessions"] == 1 && told["fit"] == json!(false)).await;
        pair.until_of(0, &uri, "full on a too", |told| told["fit"] == json!(false)).await;
    }
    let sessions: usize = pair.servers.iter().map(|server| server.counts().sessions).sum();
    assert_eq!(sessions, 10);
    held.abort();
    beyond.abort();
    pair.stop().await;
}

/// So often each server is probed.
const PROBED: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_share_the_probes_send_half_as_many_and_one_that_is_left_goes_on() {
    let set = format!("[set.probe]\ninterval = \"{}ms\"\nwho = \"shared\"", PROBED.as_millis());
    let pair = Pair::start(&set, None).await;
    let by = async |pair: &Pair, node: usize, nth: usize| pair.told(node, &pair.uri(nth)).await["why"].clone();
    let options = |pair: &Pair| pair.servers.iter().map(|server| server.counts().options).collect::<Vec<_>>();
    for nth in [0, 1] {
        let elsewhere = json!("other nodes probe it");
        until("one of them probes it", async || {
            let both = [by(&pair, 0, nth).await, by(&pair, 1, nth).await];
            (both.iter().filter(|why| **why == elsewhere).count() == 1).then_some(())
        })
        .await;
    }
    // Each of the two servers by one of the two nodes. A machine that stands still makes probes late and nodes strangers for a
    // while; then another window shows it.
    let share = until("half of the probes", async || {
        let (began, before) = (Instant::now(), options(&pair));
        until("ten of each", async || {
            options(&pair).iter().zip(&before).all(|(now, before)| *now >= before + 10).then_some(())
        })
        .await;
        let sent: u64 = options(&pair).iter().zip(&before).map(|(now, before)| now - before).sum();
        let all = 4.0 * began.elapsed().as_secs_f64() / PROBED.as_secs_f64();
        let share = sent as f64 / all;
        (0.35..0.65).contains(&share).then_some(share)
    })
    .await;
    println!("{:.0} percent of the probes that all nodes would send", share * 100.0);
    let Pair { mut nodes, servers, folders } = pair;
    nodes.remove(0).stop().await;
    let stopped = Instant::now();
    let pair = Pair { nodes, servers, folders };
    for nth in [0, 1] {
        until("the other probes it", async || (by(&pair, 0, nth).await == json!("it answers")).then_some(())).await;
    }
    println!("taken over after {:?}", stopped.elapsed());
    let before = options(&pair);
    until("they go on", async || {
        options(&pair).iter().zip(&before).all(|(now, before)| *now >= before + 5).then_some(())
    })
    .await;
    pair.stop().await;
}
