//! Two nodes of one cluster: what one has seen, and what it was told, the other knows.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use tandem::config::Config;
use tandem::edge::cluster::report::{DestinationId, DestinationReport, FORMAT, NodeReport, NodeView};
use tandem::edge::cluster::{Cluster, ClusterConfig, Seed};
use tandem::edge::resolve::{DnsConfig, Resolver};
use tandem::engine::dispatch::{Health, Order, SetId, Standing};
use tandem::lab::caller::run;
use tandem::lab::{Caller, CallerConfig, MrcpServer};
use tandem::server::Node;
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};

use crate::node::{addresses, calls, servers};
use crate::scratch::{Folder, PATIENCE, anew, http, insert, until};

pub(crate) struct Pair {
    pub(crate) nodes: Vec<Node>,
    pub(crate) servers: Vec<MrcpServer>,
    rows: Vec<SocketAddr>,
    folders: Vec<Folder>,
    gossip: [SocketAddr; 2],
}

pub(crate) fn free_port() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port")
}

impl Pair {
    /// Nodes `a` and `b` with the same rows: those servers, and perhaps a port where nobody is.
    async fn start(set: &str, nobody: Option<SocketAddr>) -> Self {
        Self::start_with([set, set], nobody).await
    }

    /// The same, with what is particular to the set of each.
    pub(crate) async fn start_with(sets: [&str; 2], nobody: Option<SocketAddr>) -> Self {
        let servers = servers(2).await;
        let rows = addresses(&servers).into_iter().chain(nobody).collect();
        Self::start_to(rows, servers, sets).await
    }

    /// The same, with those rows.
    async fn start_to(rows: Vec<SocketAddr>, servers: Vec<MrcpServer>, sets: [&str; 2]) -> Self {
        let gossip = [free_port(), free_port()];
        let (mut nodes, mut folders) = (Vec::new(), Vec::new());
        for (nth, name) in ["a", "b"].into_iter().enumerate() {
            let folder = Folder::new();
            let cluster = ClusterConfig {
                bind: gossip[nth],
                seeds: vec![Seed::parse(&gossip[1 - nth].to_string()).expect("a seed")],
                dead_after: Duration::from_secs(1),
                ..ClusterConfig::default()
            };
            let config = Config { node_id: name.to_owned(), cluster: Some(cluster), ..folder.config(sets[nth]) };
            let node = Node::start(&config).await.expect("it starts");
            node.store().execute(&insert(&rows)).await.expect("rows");
            node.reload(anew()).await.expect("good rows");
            nodes.push(node);
            folders.push(folder);
        }
        let pair = Pair { nodes, servers, rows, folders, gossip };
        pair.until(1, "the other is heard", |told| told["votes"].as_array().is_some_and(|votes| votes.len() == 1))
            .await;
        pair
    }

    /// What a node says of the first row, or of the one that is asked for.
    async fn told(&self, node: usize, uri: &str) -> Value {
        let (_, set) = self.get(node, "/sets/19").await;
        let all = set["destinations"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|one| one["uri"] == *uri).unwrap_or_else(|| panic!("{uri}: {set}"))
    }

    async fn get(&self, node: usize, path: &'static str) -> (u16, Value) {
        let address = self.nodes[node].http().expect("it is on");
        let (status, text) = spawn_blocking(move || http(address, "GET", path)).await.expect("no panic");
        (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
    }

    pub(crate) fn uri(&self, nth: usize) -> String {
        format!("sip:{}", self.rows[nth])
    }

    async fn until(&self, node: usize, what: &str, is_so: impl Fn(&Value) -> bool) -> Duration {
        self.until_of(node, &self.uri(0), what, is_so).await
    }

    async fn until_of(&self, node: usize, uri: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Duration {
        let began = Instant::now();
        until(what, async || is_so(&self.told(node, uri).await).then_some(())).await;
        began.elapsed()
    }

    pub(crate) async fn stop(self) {
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
    let mut pair = pair;
    pair.nodes.remove(0).stop().await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_has_stopped_gossips_no_more_and_its_address_is_free() {
    let mut pair = Pair::start("", None).await;
    pair.nodes.remove(0).stop().await;
    // At once: another start of it would want it.
    let socket = UdpSocket::bind(pair.gossip[0]).expect("the address is free");
    // The other still calls it there, and gets no answer any more: it is alone in the end.
    socket.set_read_timeout(Some(PATIENCE)).expect("a time");
    socket.recv(&mut [0; 2048]).expect("a packet of the other");
    pair.until(0, "b alone", |told| told["votes"] == json!([])).await;
    let gossip = pair.gossip;
    pair.stop().await;
    UdpSocket::bind(gossip[1]).expect("the address is free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_node_shows_the_other_with_the_virtual_addresses_that_it_holds() {
    // The second is no machine's (RFC 5737).
    let vips = ["127.0.0.1", "192.0.2.77"]
        .map(|vip| format!("[[listener]]\nbind = \"udp:{vip}:0\"\nrole = \"vip\"\n"))
        .concat();
    let pair = Pair::start_with(["", &vips], None).await;
    let peer = until("b has told a of itself", async || {
        let (_, told) = pair.get(0, "/node").await;
        (told["peers"][0]["vips"] == json!(["127.0.0.1"])).then_some(told["peers"][0].clone())
    })
    .await;
    assert_eq!((&peer["node"], &peer["address"]), (&json!("b"), &json!(pair.gossip[1])));
    assert_eq!(peer["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(peer["listeners"].as_array().map(Vec::len), Some(3));
    assert!(peer["heard_ms"].as_u64() < Some(10_000), "{peer}");
    let (_, own) = pair.get(1, "/node").await;
    assert_eq!((&own["vips"], own["peers"][0]["vips"].clone()), (&json!(["127.0.0.1"]), json!([])));
    // To the second: the one is told with its seconds alone.
    assert_eq!(own["started"].as_str().map(|at| &at[..19]), peer["started"].as_str().map(|at| &at[..19]));

    let address = pair.nodes[0].http().expect("it is on").to_string();
    let mut shown = Command::new(env!("CARGO_BIN_EXE_tandem"));
    shown.args(["show", "--nodes", "--http", &address]);
    let shown = spawn_blocking(move || shown.output()).await.expect("no panic").expect("the binary runs");
    let text = String::from_utf8_lossy(&shown.stdout);
    let line = text.lines().find(|line| line.starts_with("b ")).unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains(&pair.gossip[1].to_string()) && line.contains(" 127.0.0.1 "), "{text}");
    assert!(text.lines().any(|line| line.contains("this node")), "{text}");
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_a_later_format_is_shown_and_has_no_say() {
    let pair = Pair::start("", None).await;
    let config = ClusterConfig {
        bind: free_port(),
        seeds: vec![Seed::parse(&pair.gossip[0].to_string()).expect("a seed")],
        ..ClusterConfig::default()
    };
    let resolver = Arc::new(Resolver::new(&DnsConfig::default()));
    let later = Cluster::start(config, "c", resolver).await.expect("a node");
    let tell = |format| {
        let id = DestinationId { set: SetId(19), address: Some(pair.rows[0]), uri: pair.uri(0) };
        let down = DestinationReport { health: Health::Down, ..DestinationReport::default() };
        let report = NodeReport { format, started: 7, ..NodeReport::default() };
        later.publish(NodeView { report, destinations: [(id, down)].into(), ..NodeView::default() });
    };
    let shown = async |format: Value| {
        until("c is shown", async || {
            let (_, told) = pair.get(0, "/node").await;
            let peers = told["peers"].as_array().cloned().unwrap_or_default();
            peers.iter().any(|peer| peer["node"] == "c" && peer["unknown_format"] == format).then_some(())
        })
        .await;
    };
    let voters = |told: &Value| told["votes"].as_array().map_or(0, Vec::len);
    tell(FORMAT + 1);
    shown(json!(FORMAT + 1)).await;
    pair.until(0, "b alone has a say", |told| voters(told) == 1 && told["votes"][0]["node"] == "b").await;
    // What it tells would count if it were understood.
    tell(FORMAT);
    shown(Value::Null).await;
    pair.until(0, "c has a say", |told| voters(told) == 2 && told["fit"] == json!(false)).await;
    tell(FORMAT + 1);
    shown(json!(FORMAT + 1)).await;
    pair.until(0, "c has none", |told| voters(told) == 1 && told["fit"] == json!(true)).await;
    later.stop().await;
    pair.stop().await;
}

/// A way to a server, which may be cut for one node alone.
struct Way {
    address: SocketAddr,
    cut: Arc<Mutex<Vec<SocketAddr>>>,
    task: JoinHandle<()>,
}

impl Way {
    async fn to(server: SocketAddr) -> Self {
        let front = Arc::new(tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a free port"));
        let address = front.local_addr().expect("bound");
        let cut = Arc::new(Mutex::new(Vec::new()));
        let is_cut = cut.clone();
        let task = tokio::spawn(async move {
            let mut backs = HashMap::new();
            let mut answers = JoinSet::new();
            let mut packet = [0; 4096];
            while let Ok((length, from)) = front.recv_from(&mut packet).await {
                if is_cut.lock().expect("no panic").contains(&from) {
                    continue;
                }
                let back = match backs.get(&from) {
                    Some(back) => Arc::clone(back),
                    None => {
                        let back = Arc::new(tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a free port"));
                        backs.insert(from, back.clone());
                        answers.spawn(carry(back.clone(), front.clone(), from));
                        back
                    }
                };
                let _ = back.send_to(&packet[..length], server).await;
            }
        });
        Way { address, cut, task }
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the server answers.
async fn carry(back: Arc<tokio::net::UdpSocket>, front: Arc<tokio::net::UdpSocket>, to: SocketAddr) {
    let mut packet = [0; 4096];
    while let Ok((length, _)) = back.recv_from(&mut packet).await {
        let _ = front.send_to(&packet[..length], to).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_not_fit_for_a_set_that_only_the_other_reaches() {
    let servers = servers(2).await;
    let ways = [Way::to(servers[0].address()).await, Way::to(servers[1].address()).await];
    let rows = ways.iter().map(|way| way.address).collect();
    let probe =
        "[set.probe]\ninterval = \"300ms\"\nfast_interval = \"200ms\"\ndown_interval = \"300ms\"\ntimeout = \"1s\"";
    let pair = Pair::start_to(rows, servers, [probe, probe]).await;
    let cut = |nodes: &[usize]| {
        let from: Vec<_> = nodes.iter().map(|node| pair.nodes[*node].server().addresses()[0]).collect();
        ways.iter().for_each(|way| way.cut.lock().expect("no panic").clone_from(&from));
    };
    // Both at once: one that has just heard less than the other may say something else for a moment.
    let settles = async |what: &str, expected: [u16; 2], fit: [u64; 2]| {
        let is_so = async || {
            let told = [pair.get(0, "/fit").await, pair.get(1, "/fit").await];
            let sets = [pair.get(0, "/sets/19").await.1, pair.get(1, "/sets/19").await.1];
            let found =
                [told[0].0, told[1].0] == expected && [0, 1].map(|nth| sets[nth]["fit"].as_u64()) == fit.map(Some);
            found.then_some(told)
        };
        until(what, is_so).await
    };
    settles("both are fit", [200, 200], [2, 2]).await;
    cut(&[0]);
    let [(_, told), _] = settles("a reaches nobody, b both", [503, 200], [0, 2]).await;
    let reason = told["reasons"][0].as_str().expect("text");
    assert!(reason.starts_with("set 19 has no fit destination here, and ") && reason.ends_with(" at node b"), "{told}");
    assert_eq!((&told["fit"], told["reasons"].as_array().map(Vec::len)), (&json!(false), Some(1)));
    assert_eq!(calls(pair.nodes[1].server().addresses()[0], 4, 100.0).await.answered, 4);
    // It is no reason not to be ready: somebody has to say that nobody is there.
    assert_eq!(pair.get(0, "/ready").await.0, 200);
    cut(&[0, 1]);
    settles("nobody reaches any", [200, 200], [0, 0]).await;
    cut(&[1]);
    settles("a alone reaches them", [200, 503], [2, 0]).await;
    cut(&[]);
    settles("both are fit again", [200, 200], [2, 2]).await;
    pair.stop().await;
}

/// So often each server is probed.
const PROBED: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_share_the_probes_send_half_as_many_and_one_that_is_left_goes_on() {
    let set = format!("[set.probe]\ninterval = \"{}ms\"\nwho = \"shared\"", PROBED.as_millis());
    let mut pair = Pair::start(&set, None).await;
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
    // The first server's prober goes.
    let prober = usize::from(by(&pair, 0, 0).await == json!("other nodes probe it"));
    pair.nodes.remove(prober).stop().await;
    let stopped = Instant::now();
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
