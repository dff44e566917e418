//! What a node remembers over a restart: orders, and who was not well.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tandem::config::Config;
use tandem::engine::dispatch::{Check, CheckKind, Fitness, Health, Order, Probing, SetId, Standing};
use tandem::engine::snapshot::DestinationView;
use tandem::lab::caller::run;
use tandem::lab::{Behaviour, Caller, CallerConfig, MrcpServer, Report};
use tandem::server::Node;

use crate::scratch::{Folder, PATIENCE, anew, http, http_with, insert, own_address, until};

async fn servers(count: usize) -> Vec<MrcpServer> {
    let mut servers = Vec::new();
    for _ in 0..count {
        servers.push(MrcpServer::start(own_address(), Behaviour::default()).await.expect("a free port"));
    }
    servers
}

/// Sockets that answer nothing.
fn mute(count: usize) -> Vec<UdpSocket> {
    (0..count).map(|_| UdpSocket::bind(own_address()).expect("a free port")).collect()
}

fn addresses(sockets: &[UdpSocket]) -> Vec<SocketAddr> {
    sockets.iter().map(|socket| socket.local_addr().expect("bound")).collect()
}

async fn calls(node: &Node, calls: u64) -> Report {
    let hold = Duration::from_millis(20);
    let proxy = node.server().addresses()[0];
    let config = CallerConfig { proxy, rate: 200.0, calls: Some(calls), hold, ..CallerConfig::default() };
    run(config, &Caller::new()).await.expect("a socket")
}

/// A node with these rows in its table.
async fn node_with(config: &Config, addresses: &[SocketAddr]) -> Node {
    let node = Node::start(config).await.expect("it starts");
    node.store().execute(&insert(addresses)).await.expect("rows");
    node.reload(anew()).await.expect("good rows");
    node
}

async fn destinations(node: &Node) -> Vec<DestinationView> {
    node.server().snapshot().await.expect("it runs").sets[0].destinations.clone()
}

async fn healths(node: &Node) -> Vec<Health> {
    destinations(node).await.iter().map(|one| one.health).collect()
}

fn drained() -> Standing {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    Standing { order: Order::Drain, by: "ann".to_owned(), reason: "a new disk".to_owned(), at, deadline: None }
}

async fn give(node: &Node, address: SocketAddr, standing: Standing) {
    let given = node.server().give(SetId(19), &format!("sip:{address}"), standing).await;
    given.expect("it runs").expect("it has that destination");
}

fn file(folder: &Folder) -> std::path::PathBuf {
    folder.path().join("state/destinations.json")
}

fn on_disk(folder: &Folder) -> Value {
    fs::read(file(folder)).map_or(Value::Null, |text| serde_json::from_slice(&text).expect("whole at any moment"))
}

async fn get(node: &Node, path: &'static str) -> String {
    let address = node.http().expect("it is on");
    tokio::task::spawn_blocking(move || http(address, "GET", path).1).await.expect("no panic")
}

/// Lets calls fail until every destination is ejected, for a minute and more.
async fn all_ejected(config: &mut Config, addresses: &[SocketAddr]) -> Node {
    config.sets[0].judgement.observe.base_ejection_time = PATIENCE;
    let node = node_with(config, addresses).await;
    until("all are ejected", async || {
        calls(&node, 3).await;
        healths(&node).await.iter().all(|health| *health == Health::Down).then_some(())
    })
    .await;
    node
}

/// Nobody has sent anything there.
fn assert_untouched(sockets: &[UdpSocket]) {
    for socket in sockets {
        socket.set_nonblocking(true).expect("a socket");
        assert!(socket.recv(&mut [0; 2000]).is_err(), "something came");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_destination_is_still_drained_after_a_restart() {
    let folder = Folder::new();
    let config = folder.config("");
    let servers = servers(2).await;
    let [first, second] = [servers[0].address(), servers[1].address()];
    let node = node_with(&config, &[first, second]).await;
    give(&node, first, drained()).await;
    node.stop().await;

    let node = Node::start(&config).await.expect("it starts");
    let found = destinations(&node).await;
    assert_eq!((&found[0].standing, found[0].fitness), (&drained(), Fitness::Ordered(Order::Drain)));
    assert!(found[1].fitness.is_fit());
    let report = calls(&node, 10).await;
    assert_eq!((report.answered, report.lost), (10, 0), "{report}");
    assert_eq!((servers[0].counts().invites, servers[1].counts().invites), (0, 10));
    // Ready again by hand is an order too, and a reload leaves it.
    give(&node, first, Standing { order: Order::Ready, by: "bob".to_owned(), ..drained() }).await;
    node.reload(anew()).await.expect("good rows");
    node.stop().await;

    let node = Node::start(&config).await.expect("it starts");
    assert_eq!(destinations(&node).await[0].standing.by, "bob");
    // While nobody runs, the table says something newer.
    give(&node, first, drained()).await;
    let update = format!("UPDATE dispatcher SET state = 2 WHERE destination = 'sip:{first}'");
    node.store().execute(&update).await.expect("a row");
    node.stop().await;
    let node = Node::start(&config).await.expect("it starts");
    assert_eq!(destinations(&node).await[0].standing.order, Order::Ready);
    node.stop().await;
    assert_eq!(on_disk(&folder)["orders"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_on_disk_while_the_node_runs() {
    let folder = Folder::new();
    let config = folder.config("");
    let sockets = mute(1);
    let node = node_with(&config, &addresses(&sockets)).await;
    assert_eq!(on_disk(&folder), Value::Null, "nothing is known yet");
    give(&node, addresses(&sockets)[0], drained()).await;
    until("it is written", async || (on_disk(&folder)["orders"][0]["by"] == "ann").then_some(())).await;
    // The same order by somebody else is the one that counts.
    give(&node, addresses(&sockets)[0], Standing { by: "bob".to_owned(), ..drained() }).await;
    until("it is written", async || (on_disk(&folder)["orders"][0]["by"] == "bob").then_some(())).await;
    // As after a crash: nobody says good-bye.
    drop(node);
    let node = Node::start(&config).await.expect("it starts");
    assert_eq!(destinations(&node).await[0].standing.by, "bob");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_on_disk_when_it_is_answered_or_the_answer_says_that_it_is_not() {
    let folder = Folder::new();
    let config = folder.config("");
    let sockets = mute(1);
    let node = node_with(&config, &addresses(&sockets)).await;
    let http = node.http().expect("it is on");
    let path = format!("/sets/19/destination/order?uri=sip:{}", addresses(&sockets)[0]);
    let order = async |order: &str| {
        let body = json!({ "order": order, "reason": "a new disk", "by": "ann", "force": true }).to_string();
        let path = path.clone();
        let asked = tokio::task::spawn_blocking(move || http_with(http, "PUT", &path, &body));
        let (status, text) = asked.await.expect("no panic");
        assert_eq!(status, 200, "{text}");
        serde_json::from_str::<Value>(&text).expect("JSON")
    };
    for name in ["drain", "maint", "ready", "drain"] {
        let told = order(name).await;
        assert_eq!((&told["unkept"], &on_disk(&folder)["orders"][0]["order"]), (&Value::Null, &json!(name)));
    }
    // Even root can't write a file where a folder is.
    fs::create_dir(file(&folder).with_extension("json.new")).expect("the test's folder");
    let told = order("maint").await;
    assert_eq!(told["addresses"][0]["order"]["order"], "maint", "it holds");
    assert!(told["unkept"].as_str().is_some_and(|cause| cause.contains("can't write them")), "{told}");
    assert_eq!(on_disk(&folder)["orders"][0]["order"], "drain");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_with_all_down_answers_480_and_tries_nobody() {
    let folder = Folder::new();
    let mut config = folder.config("");
    let closed = addresses(&mute(2));
    let node = all_ejected(&mut config, &closed).await;
    node.stop().await;
    // Whoever is tried now is heard.
    let ears: Vec<_> = closed.iter().map(|address| UdpSocket::bind(address).expect("free as before")).collect();
    let node = Node::start(&config).await.expect("it starts");
    assert_eq!(healths(&node).await, [Health::Down, Health::Down]);
    let report = calls(&node, 5).await;
    assert_eq!(report.outcomes.get(&480), Some(&5), "{report}");
    assert_untouched(&ears);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_health_is_forgotten_and_orders_are_not() {
    let folder = Folder::new();
    let mut config = folder.config("");
    let closed = addresses(&mute(2));
    let node = all_ejected(&mut config, &closed).await;
    give(&node, closed[0], drained()).await;
    node.stop().await;
    let mut stored = on_disk(&folder);
    assert_eq!(stored["health"].as_array().map(Vec::len), Some(2), "{stored}");
    let written = stored["written"].as_u64().expect("a time");
    stored["written"] = json!(written - 301_000);
    fs::write(file(&folder), stored.to_string()).expect("a file");

    let node = Node::start(&config).await.expect("it starts");
    let found = destinations(&node).await;
    assert_eq!((found[0].health, &found[0].standing), (Health::Up, &drained()));
    assert_eq!(found[1].fitness, Fitness::Fit);
    node.stop().await;
    let stored = on_disk(&folder);
    assert_eq!((&stored["health"], &stored["orders"][0]["order"]), (&json!([]), &json!("drain")), "{stored}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_probes_held_for_down_is_down_until_they_say_otherwise() {
    let folder = Folder::new();
    let mut config = folder.config("");
    let servers = servers(1).await;
    let address = servers[0].address();
    // Its TCP port of that number is closed.
    let port = address.port();
    let often = Duration::from_millis(100);
    let kind = CheckKind::Tcp { port: Some(port) };
    let check = Check { interval: often, fast_interval: often, down_interval: often, ..Check::new(kind) };
    config.sets[0].probing = Arc::new(Probing { checks: vec![check], ..Probing::default() });
    let node = node_with(&config, &[address]).await;
    until("it falls", async || (healths(&node).await == [Health::Down]).then_some(())).await;
    node.stop().await;

    let node = Node::start(&config).await.expect("it starts");
    assert_eq!(calls(&node, 1).await.outcomes.get(&480), Some(&1));
    let probed = tokio::net::TcpListener::bind(address).await.expect("a free port");
    until("it rises", async || (healths(&node).await == [Health::Up]).then_some(())).await;
    assert_eq!(calls(&node, 1).await.answered, 1);
    drop(probed);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_with_all_up_loses_no_call() {
    let folder = Folder::new();
    let config = folder.config("");
    let servers = servers(2).await;
    let node = node_with(&config, &servers.iter().map(MrcpServer::address).collect::<Vec<_>>()).await;
    assert_eq!(calls(&node, 20).await.answered, 20);
    node.stop().await;
    let node = Node::start(&config).await.expect("it starts");
    assert!(destinations(&node).await.iter().all(|one| one.fitness.is_fit()));
    let report = calls(&node, 20).await;
    assert_eq!((report.answered, report.failed, report.lost), (20, 0, 0), "{report}");
    assert_eq!([servers[0].counts().invites, servers[1].counts().invites], [20, 20]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_none_of_ours_stops_no_start() {
    let folder = Folder::new();
    let config = folder.config("");
    let sockets = mute(1);
    node_with(&config, &addresses(&sockets)).await.stop().await;
    for text in ["", "{\"format\":1,\"written\":0,\"orders\":[{\"set\":19", "{\"format\":7}", "no JSON", "\0"] {
        fs::write(file(&folder), text).expect("a file");
        let node = Node::start(&config).await.expect("it starts all the same");
        assert!(destinations(&node).await[0].fitness.is_fit());
        give(&node, addresses(&sockets)[0], drained()).await;
        node.stop().await;
        assert_eq!(on_disk(&folder)["orders"][0]["by"], "ann");
        assert_eq!(fs::read_to_string(file(&folder).with_extension("json.ignored")).expect("kept"), text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_takes_nothing_is_told_and_harms_nothing() {
    let folder = Folder::new();
    let config = folder.config("");
    let servers = servers(1).await;
    let node = node_with(&config, &[servers[0].address()]).await;
    assert!(!get(&node, "/ready").await.contains("can't write"));
    // Even root can't write a file where a folder is.
    let obstacle = file(&folder).with_extension("json.new");
    fs::create_dir(&obstacle).expect("the test's folder");
    give(&node, servers[0].address(), Standing { order: Order::Ready, ..drained() }).await;
    let ready = until("it is told", async || {
        Some(get(&node, "/ready").await).filter(|ready| ready.contains("destinations.json: can't write them"))
    })
    .await;
    assert!(ready.contains("\"reasons\":[]"), "calls are served: {ready}");
    assert!(!get(&node, "/metrics").await.contains("tandem_state_faults_total 0"));
    assert_eq!(calls(&node, 5).await.answered, 5);
    fs::remove_dir(&obstacle).expect("it was there");
    until("it is written in the end", async || (on_disk(&folder)["orders"][0]["by"] == "ann").then_some(())).await;
    until("it is told", async || (!get(&node, "/ready").await.contains("can't write")).then_some(())).await;
    node.stop().await;
}
