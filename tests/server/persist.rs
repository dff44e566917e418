//! `persist_state`: the `state` column follows orders and health, and a hand in it gives an order.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tandem::config::Config;
use tandem::edge::cluster::{ClusterConfig, Seed};
use tandem::edge::store::{Database, Store};
use tandem::engine::dispatch::{Health, Order, SetId, Standing};
use tandem::engine::snapshot::DestinationView;
use tandem::lab::{Behaviour, MrcpServer};
use tandem::server::Node;
use tokio::task::spawn_blocking;

use crate::node::{addresses, servers};
use crate::pair::free_port;
use crate::scratch::{Folder, anew, http, http_with, insert, until};

/// A table of its own file, whose triggers note each write of a state.
struct Table {
    folder: Folder,
    rows: Vec<SocketAddr>,
}

impl Table {
    async fn new(rows: Vec<SocketAddr>) -> Self {
        let table = Table { folder: Folder::new(), rows };
        let store = Store::new(&Database::of("sqlite:tandem.db"), table.folder.path()).expect("a good URL");
        store.make().await.expect("made");
        let log = "CREATE TABLE log (destination TEXT, state INTEGER);
            CREATE TRIGGER logs AFTER UPDATE OF state ON dispatcher
            BEGIN INSERT INTO log VALUES (new.destination, new.state); END;";
        store.execute(&format!("{log} {}", insert(&table.rows))).await.expect("good SQL");
        table
    }

    fn uri(&self, nth: usize) -> String {
        format!("sip:{}", self.rows[nth])
    }

    /// A node's configuration, with a state folder in `folder`.
    fn config(&self, folder: &Folder, more: &str) -> Config {
        let mut config = folder.config(more);
        config.database.url = format!("sqlite:{}", self.folder.path().join("tandem.db").display());
        config.database.persist_state = true;
        config.database.poll_interval = Some(Duration::from_millis(200));
        config
    }

    async fn connection(&self) -> SqliteConnection {
        let path: &Path = &self.folder.path().join("tandem.db");
        let options = SqliteConnectOptions::new().filename(path).busy_timeout(Duration::from_secs(60));
        SqliteConnection::connect_with(&options).await.expect("a file")
    }

    async fn sql(&self, sql: &'static str) {
        let mut connection = self.connection().await;
        sqlx::raw_sql(sql).execute(&mut connection).await.expect("good SQL");
        connection.close().await.expect("closed");
    }

    async fn ask<T>(&self, sql: &'static str) -> Vec<T>
    where
        T: Send + Unpin + for<'r> sqlx::FromRow<'r, sqlx::sqlite::SqliteRow>,
    {
        let mut connection = self.connection().await;
        let rows = sqlx::query_as(sql).fetch_all(&mut connection).await.expect("good SQL");
        connection.close().await.expect("closed");
        rows
    }

    async fn states(&self) -> Vec<i64> {
        let states = self.ask::<(i64,)>("SELECT state FROM dispatcher ORDER BY id").await;
        states.into_iter().map(|(state,)| state).collect()
    }

    async fn until(&self, what: &str, states: &[i64]) {
        until(what, async || (self.states().await == states).then_some(())).await;
    }

    /// What was written, in the order of time.
    async fn log(&self) -> Vec<(String, i64)> {
        self.ask("SELECT destination, state FROM log ORDER BY rowid").await
    }
}

async fn get(node: &Node, path: &'static str) -> String {
    let address = node.http().expect("it is on");
    spawn_blocking(move || http(address, "GET", path).1).await.expect("no panic")
}

async fn partition(node: &Node) -> Value {
    let told: Value = serde_json::from_str(&get(node, "/store").await).expect("JSON");
    told["partitions"][0].clone()
}

/// Waits until the node has read the table that is there now.
async fn has_read(node: &Node) {
    for _ in 0..2 {
        let before = partition(node).await["read"].clone();
        until("the rows are read again", async || (partition(node).await["read"] != before).then_some(())).await;
    }
}

async fn destinations(node: &Node) -> Vec<DestinationView> {
    node.server().fresh_snapshot().await.expect("it runs").sets[0].destinations.clone()
}

/// The order of the first row, by whom and why.
async fn order(node: &Node) -> (Order, String, String) {
    let Standing { order, by, reason, .. } = destinations(node).await[0].standing.clone();
    (order, by, reason)
}

fn said(order: Order, by: &str, reason: &str) -> (Order, String, String) {
    (order, by.to_owned(), reason.to_owned())
}

async fn until_order(node: &Node, what: &str, wanted: (Order, String, String)) {
    until(what, async || (order(node).await == wanted).then_some(())).await;
}

async fn give(node: &Node, uri: &str, order: Order) {
    let (by, reason) = ("ann".to_owned(), "a new disk".to_owned());
    let standing = Standing { order, by, reason, at: SystemTime::now(), deadline: None };
    node.server().give(SetId(19), uri, standing).await.expect("it runs").expect("it is loaded");
}

/// How often the node has written states, and how often in vain.
async fn writes(node: &Node) -> [u64; 2] {
    let metrics = get(node, "/metrics").await;
    ["ok", "failed"].map(|result| {
        let name = format!("tandem_store_state_writes_total{{partition=\"default\",result=\"{result}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or_else(|| panic!("{metrics}"));
        line.parse().expect("a number")
    })
}

fn nobody() -> Vec<SocketAddr> {
    vec![free_port(), free_port()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_written_and_stays_who_gave_it_and_why() {
    let (table, folder) = (Table::new(nobody()).await, Folder::new());
    let config = table.config(&folder, "");
    let node = Node::start(&config).await.expect("it starts");
    let uri = table.uri(0);
    give(&node, &uri, Order::Drain).await;
    table.until("the drain is written", &[1, 0]).await;
    let ann = said(Order::Drain, "ann", "a new disk");
    has_read(&node).await;
    assert_eq!((order(&node).await, writes(&node).await), (ann.clone(), [1, 0]));
    // OpenSIPS's way to make every order what the table says: it does already.
    let address = node.http().expect("it is on");
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "ds_reload", "params": { "inherit_state": "n" } });
    let (_, told) =
        spawn_blocking(move || http_with(address, "POST", "/mi", &body.to_string())).await.expect("no panic");
    assert!(told.contains("OK"), "{told}");
    assert_eq!(order(&node).await, ann);
    node.stop().await;

    let node = Node::start(&config).await.expect("it starts");
    assert_eq!(order(&node).await, ann, "as soon as it is there");
    has_read(&node).await;
    assert_eq!((order(&node).await, table.log().await), (ann, vec![(uri.clone(), 1)]));
    give(&node, &uri, Order::Ready).await;
    table.until("that it is ready is written", &[0, 0]).await;
    has_read(&node).await;
    assert_eq!(order(&node).await, said(Order::Ready, "ann", "a new disk"));
    assert_eq!(table.log().await, [(uri.clone(), 1), (uri, 0)]);
    let versions = partition(&node).await["versions"].clone();
    assert_eq!(versions.as_array().map(Vec::len), Some(1), "{versions}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_written_and_is_no_order() {
    let probe = "[set.probe]\ninterval = \"200ms\"\nfast_interval = \"200ms\"\ndown_interval = \"200ms\"\ntimeout = \"100ms\"\nfall = 1\nrise = 1";
    let mut servers = servers(2).await;
    let (table, folder) = (Table::new(addresses(&servers)).await, Folder::new());
    let node = Node::start(&table.config(&folder, probe)).await.expect("it starts");
    let (first, second) = (servers.remove(0), servers.remove(0));
    let address = first.address();
    first.stop().await;
    table.until("its server is gone", &[2, 0]).await;
    let behaviour = Behaviour::default();
    let first = MrcpServer::start(address, behaviour).await.expect("its port is free");
    table.until("its server is back", &[0, 0]).await;
    assert_eq!(order(&node).await, said(Order::Ready, "table", ""));
    node.stop().await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hand_in_the_column_gives_an_order() {
    let (table, folder) = (Table::new(nobody()).await, Folder::new());
    // What a first start finds holds before anybody can call.
    table.sql("UPDATE dispatcher SET state = id; DELETE FROM log").await;
    let config = table.config(&folder, "");
    let node = Node::start(&config).await.expect("it starts");
    let all = destinations(&node).await;
    assert_eq!(order(&node).await, said(Order::Maint, "database", "state is 1"));
    assert_eq!((all[1].standing.order, all[1].health), (Order::Ready, Health::Down));
    table.sql("UPDATE dispatcher SET state = 0 WHERE id = 1").await;
    until_order(&node, "it is ready", said(Order::Ready, "database", "state is 0")).await;
    table.sql("UPDATE dispatcher SET state = 1 WHERE id = 1").await;
    until_order(&node, "it is out of service", said(Order::Maint, "database", "state is 1")).await;
    assert_eq!(destinations(&node).await[1].standing.order, Order::Ready);

    // So does a row that comes later: as soon as it is loaded.
    table.sql("INSERT INTO dispatcher (setid, destination, state) VALUES (19, 'sip:127.0.0.1:9', 1)").await;
    node.reload(anew()).await.expect("good rows");
    let last = destinations(&node).await.pop().expect("three of them");
    assert_eq!(
        (last.uri.as_str(), last.standing.order, &*last.standing.by),
        ("sip:127.0.0.1:9", Order::Maint, "database")
    );
    assert_eq!(table.log().await, [(table.uri(0), 0), (table.uri(0), 1)], "nobody else has written");
    node.stop().await;

    // And what was said while nobody was there.
    table.sql("UPDATE dispatcher SET state = 0 WHERE id = 1").await;
    let node = Node::start(&config).await.expect("it starts");
    assert_eq!(order(&node).await, said(Order::Ready, "database", "state is 0"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_takes_nothing_is_told_and_tried_again() {
    let (table, folder) = (Table::new(nobody()).await, Folder::new());
    let node = Node::start(&table.config(&folder, "")).await.expect("it starts");
    table.sql("CREATE TRIGGER no BEFORE UPDATE ON dispatcher BEGIN SELECT RAISE(ABORT, 'not now'); END").await;
    give(&node, &table.uri(1), Order::Maint).await;
    until("it is told", async || get(&node, "/ready").await.contains("states can't be written").then_some(())).await;
    assert!(get(&node, "/ready").await.contains("not now") && writes(&node).await[1] > 0);
    assert_eq!(node.reload(anew()).await.expect("good rows").changed, 0, "it is read all the same");
    table.sql("DROP TRIGGER no").await;
    table.until("it is written at last", &[0, 1]).await;
    until("all is well", async || (!get(&node, "/ready").await.contains("states")).then_some(())).await;
    assert_eq!(writes(&node).await[0], 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_of_a_pair_writes_for_both_and_the_other_when_it_is_gone() {
    let table = Table::new(nobody()).await;
    let (folders, gossip) = ([Folder::new(), Folder::new()], [free_port(), free_port()]);
    let mut nodes = Vec::new();
    for (nth, name) in ["a", "b"].into_iter().enumerate() {
        let cluster = ClusterConfig {
            bind: gossip[nth],
            seeds: vec![Seed::parse(&gossip[1 - nth].to_string()).expect("a seed")],
            dead_after: Duration::from_secs(3),
            ..ClusterConfig::default()
        };
        let config = table.config(&folders[nth], "");
        let config = Config { node_id: name.to_owned(), cluster: Some(cluster), ..config };
        nodes.push(Node::start(&config).await.expect("it starts"));
    }
    for node in &nodes {
        until("the other is heard", async || {
            destinations(node).await.iter().all(|one| one.votes.len() == 1).then_some(())
        })
        .await;
    }
    let [uri, second] = [table.uri(0), table.uri(1)];
    give(&nodes[1], &uri, Order::Drain).await;
    give(&nodes[0], &second, Order::Maint).await;
    table.until("both orders are written", &[1, 1]).await;
    for node in &nodes {
        has_read(node).await;
        assert_eq!(order(node).await, said(Order::Drain, "ann", "a new disk"));
        assert_eq!(partition(node).await["versions"].as_array().map(Vec::len), Some(1));
    }
    let mut log = table.log().await;
    log.sort();
    let mut once = [(uri.clone(), 1), (second.clone(), 1)];
    once.sort();
    assert_eq!((log, writes(&nodes[1]).await), (once.to_vec(), [0, 0]));
    // A hand gives one order, at whichever node.
    table.sql("UPDATE dispatcher SET state = 0 WHERE id = 2; DELETE FROM log").await;
    let ready = async |node: &Node| destinations(node).await[1].standing.order == Order::Ready;
    // The first has written there lately: what stood there before is no news for a while.
    for node in &nodes {
        until("both know", async || ready(node).await.then_some(())).await;
    }
    nodes.remove(0).stop().await;
    give(&nodes[0], &uri, Order::Ready).await;
    table.until("the other one writes", &[0, 0]).await;
    assert_eq!((table.log().await, writes(&nodes[0]).await), (vec![(uri, 0)], [1, 0]));
    nodes.remove(0).stop().await;
}
