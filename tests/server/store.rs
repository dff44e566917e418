//! Changes of the rows: planned, guarded, put in place whole, kept as versions and taken back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tandem::config::Config;
use tandem::edge::http::{ReloadFailed, ReloadOrder};
use tandem::edge::store::Store;
use tandem::server::Node;
use tokio::task::spawn_blocking;

use crate::pair::Pair;
use crate::scratch::{Folder, anew, http, http_with, insert, until};

/// Addresses that nobody calls.
fn rows(ports: &[u16]) -> Vec<SocketAddr> {
    ports.iter().map(|&port| SocketAddr::from(([127, 0, 0, 1], port))).collect()
}

async fn sql(node: &Node, sql: &str) {
    node.store().execute(sql).await.expect("good SQL");
}

/// A node with destinations at these ports.
async fn node_with(config: &Config, ports: &[u16]) -> Node {
    let node = Node::start(config).await.expect("it starts");
    sql(&node, &insert(&rows(ports))).await;
    node.reload(anew()).await.expect("good rows");
    node
}

/// A node with version 2, of destinations 1 and 2, pinned instead of rows that have 3 too. Its first version has none.
async fn gone_back(config: &Config) -> Node {
    let node = node_with(config, &[1, 2]).await;
    sql(&node, &insert(&rows(&[3]))).await;
    node.reload(anew()).await.expect("good rows");
    let word = json!({ "by": "ann", "reason": "3 is broken", "version": "2" });
    assert_eq!(post(&node, "/rollback", word).await.0, 200);
    assert_eq!(ports(&node).await, [1, 2]);
    node
}

async fn get(node: &Node, path: &'static str) -> Value {
    let address = node.http().expect("it is on");
    let (status, text) = spawn_blocking(move || http(address, "GET", path)).await.expect("no panic");
    assert!(status == 200 || path == "/ready", "{status} {text}");
    serde_json::from_str(&text).expect("JSON")
}

async fn post(node: &Node, path: &'static str, body: Value) -> (u16, Value) {
    let address = node.http().expect("it is on");
    let posted = spawn_blocking(move || http_with(address, "POST", path, &body.to_string()));
    let (status, text) = posted.await.expect("no panic");
    (status, serde_json::from_str(&text).expect("JSON"))
}

/// The ports of the destinations that the engine has.
async fn ports(node: &Node) -> Vec<u16> {
    let snapshot = node.server().fresh_snapshot().await.expect("it runs");
    let all = snapshot.sets.iter().flat_map(|set| &set.destinations);
    let mut ports: Vec<_> = all.filter_map(|one| Some(one.address?.port())).collect();
    ports.sort_unstable();
    ports
}

async fn degraded(node: &Node) -> String {
    get(node, "/ready").await["degraded"].to_string()
}

async fn partition(node: &Node) -> Value {
    get(node, "/store").await["partitions"][0].clone()
}

fn forced() -> ReloadOrder {
    ReloadOrder { force: true, reason: "they are gone".to_owned(), ..ReloadOrder::of("ann") }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_tells_what_a_reload_will_do_and_changes_nothing() {
    let folder = Folder::new();
    let node = node_with(&folder.config(""), &[1, 2, 3]).await;
    sql(&node, "DELETE FROM dispatcher WHERE destination LIKE '%:1'; UPDATE dispatcher SET weight = 7 WHERE destination LIKE '%:2'").await;
    sql(&node, &insert(&rows(&[4]))).await;
    let plan = get(&node, "/plan").await["partitions"][0].clone();
    let changes: Vec<_> =
        plan["changes"].as_array().expect("changes").iter().map(|one| (&one["change"], &one["uri"])).collect();
    assert_eq!(
        json!(changes),
        json!([["removed", "sip:127.0.0.1:1"], ["changed", "sip:127.0.0.1:2"], ["added", "sip:127.0.0.1:4"]])
    );
    assert_eq!(plan["changes"][1]["fields"], json!([{ "field": "weight", "from": "1", "to": "7" }]));
    assert_eq!((&plan["refused"], &plan["error"]), (&json!([]), &Value::Null));
    assert_eq!(ports(&node).await, [1, 2, 3]);
    // What was planned is done only while nobody has done anything else.
    let order = |expected: &Value| json!({ "by": "ann", "expected": expected });
    let (status, refused) = post(&node, "/reload", order(&plan["rows"])).await;
    assert!(status == 412 && refused["error"].to_string().contains("has been changed meanwhile"), "{refused}");
    assert_eq!(ports(&node).await, [1, 2, 3]);
    let (status, reloaded) = post(&node, "/reload", order(&plan["digest"])).await;
    assert_eq!((status, &reloaded["added"], &reloaded["removed"]), (200, &json!(1), &json!(1)), "{reloaded}");
    assert_eq!(reloaded["changed"], 1);
    assert_eq!(ports(&node).await, [2, 3, 4]);
    assert_eq!(get(&node, "/plan").await["partitions"][0]["changes"], json!([]));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_out_too_much_needs_force_and_an_empty_table_too() {
    let folder = Folder::new();
    let node = node_with(&folder.config(""), &[1, 2, 3]).await;
    sql(&node, "UPDATE dispatcher SET state = 1 WHERE destination NOT LIKE '%:1'").await;
    let (status, refused) = post(&node, "/reload", json!({ "by": "ann" })).await;
    assert_eq!(status, 409, "{refused}");
    let reason = "2 of 3 destinations of set 19 are taken out, more than max_removed_percent of 50";
    assert_eq!(refused["refused"], json!([reason]));
    assert!(degraded(&node).await.contains(reason));
    sql(&node, "DELETE FROM dispatcher").await;
    let ReloadFailed { refused, .. } = node.reload(anew()).await.expect_err("an empty table");
    assert_eq!(refused, ["no row is left"]);
    assert_eq!(ports(&node).await, [1, 2, 3]);
    // Nor does a restart believe it.
    node.stop().await;
    let node = Node::start(&folder.config("")).await.expect("it starts");
    assert_eq!(ports(&node).await, [1, 2, 3]);
    assert!(degraded(&node).await.contains("no row is left"));
    let reloaded = node.reload(forced()).await.expect("it is meant");
    assert_eq!(reloaded.removed, 3);
    assert!(ports(&node).await.is_empty());
    let last = partition(&node).await["versions"].as_array().expect("versions").last().cloned().expect("one");
    assert_eq!(
        (&last["by"], &last["reason"], &last["in_place"]),
        (&json!("ann"), &json!("they are gone"), &json!(true))
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_found_without_a_hand_and_one_that_is_refused_raises_an_alarm() {
    let folder = Folder::new();
    let mut config = folder.config("");
    config.database.poll_interval = Some(Duration::from_millis(100));
    let node = Node::start(&config).await.expect("it starts");
    sql(&node, &insert(&rows(&[1, 2]))).await;
    until("the rows are found", async || (ports(&node).await == [1, 2]).then_some(())).await;
    sql(&node, "DELETE FROM dispatcher").await;
    until("it is told", async || degraded(&node).await.contains("no row is left").then_some(())).await;
    let address = node.http().expect("it is on");
    let (_, metrics) = spawn_blocking(move || http(address, "GET", "/metrics")).await.expect("no panic");
    assert!(metrics.contains("tandem_store_change_refused{partition=\"default\"} 1\n"), "{metrics}");
    assert!(
        metrics.contains("tandem_reloads_total{partition=\"default\",result=\"refused\"} 1\n"),
        "once for all looks"
    );
    assert_eq!(ports(&node).await, [1, 2]);
    // Other rows, as many: half of them are new.
    sql(&node, &insert(&rows(&[2, 3]))).await;
    until("the rows are found", async || (ports(&node).await == [2, 3]).then_some(())).await;
    until("all is well", async || (degraded(&node).await == "[]").then_some(())).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_holds_until_the_rows_change_over_a_restart_too() {
    let folder = Folder::new();
    let node = gone_back(&folder.config("")).await;
    assert!(degraded(&node).await.contains("version 2 is pinned by ann (3 is broken)"));
    let ReloadFailed { error, refused, .. } = node.reload(anew()).await.expect_err("it is pinned");
    assert!(error.contains("pinned by ann") && !refused.is_empty(), "{error}");
    // The state column is an operator's word, and is heard all the same.
    sql(&node, "UPDATE dispatcher SET state = 1 WHERE destination LIKE '%:2'").await;
    node.stop().await;

    let node = Node::start(&folder.config("")).await.expect("it starts");
    assert_eq!(ports(&node).await, [1, 2]);
    assert!(degraded(&node).await.contains("version 2 is pinned"));
    let snapshot = node.server().fresh_snapshot().await.expect("it runs");
    let orders: Vec<_> = snapshot.sets[0].destinations.iter().map(|one| one.standing.order.name()).collect();
    assert_eq!(orders, ["ready", "maint"]);
    sql(&node, "UPDATE dispatcher SET weight = 2, state = 0 WHERE destination LIKE '%:3'").await;
    node.reload(anew()).await.expect("the rows have changed");
    assert_eq!((ports(&node).await, degraded(&node).await), (vec![1, 2, 3], "[]".to_owned()));
    // And are not forgotten when they change back.
    sql(&node, "UPDATE dispatcher SET weight = 1").await;
    node.reload(anew()).await.expect("the rows have changed again");
    assert_eq!(ports(&node).await, [1, 2, 3]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_is_ended_by_hand_and_works_without_the_database() {
    let folder = Folder::new();
    let node = node_with(&folder.config(""), &[1, 2]).await;
    sql(&node, &insert(&rows(&[3]))).await;
    node.reload(anew()).await.expect("good rows");
    let database = folder.path().join("tandem.db");
    let away = folder.path().join("away.db");
    std::fs::rename(&database, &away).expect("moved");
    let word = json!({ "by": "ann", "reason": "3 is broken", "version": "2" });
    assert_eq!(post(&node, "/rollback", word).await.0, 200);
    assert_eq!(ports(&node).await, [1, 2]);
    let faults = degraded(&node).await;
    assert!(faults.contains("pinned by ann") && faults.contains("can't open it"), "{faults}");
    std::fs::rename(&away, &database).expect("moved");
    let unpin = json!({ "by": "bob" });
    assert_eq!(post(&node, "/rollback", unpin).await.0, 200);
    assert_eq!((ports(&node).await, degraded(&node).await), (vec![1, 2, 3], "[]".to_owned()));
    for (body, words) in [
        (json!({ "by": "ann", "reason": "x", "version": "77" }), "no version 77 is kept"),
        (json!({ "by": "ann", "reason": "x", "version": "3" }), "nothing to go back from"),
        (json!({ "by": "ann", "reason": "x", "version": "3", "partition": "p" }), "no partition p: there are default"),
    ] {
        let (status, told) = post(&node, "/rollback", body).await;
        assert!(status == 422 && told["error"].to_string().contains(words), "{status} {told}");
    }
    for (body, words) in [
        (json!({ "by": "ann", "version": "2" }), "reason is empty"),
        (json!({ "by": "", "reason": "x" }), "by is empty"),
        (json!({ "by": "ann", "reason": "x", "versoin": "2" }), "versoin"),
        (json!("none"), "the order is not one"),
    ] {
        let (status, told) = post(&node, "/rollback", body).await;
        assert!(status == 400 && told["error"].to_string().contains(words), "{status} {told}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_is_told_and_the_sets_stay() {
    let folder = Folder::new();
    let mut config = folder.config("");
    config.database.poll_interval = Some(Duration::from_millis(100));
    let node = node_with(&config, &[1, 2]).await;
    sql(&node, "ALTER TABLE dispatcher RENAME TO gone").await;
    until("it is told", async || degraded(&node).await.contains("no table dispatcher").then_some(())).await;
    assert_eq!(ports(&node).await, [1, 2]);
    sql(&node, "ALTER TABLE gone RENAME TO dispatcher").await;
    until("it is found again", async || (degraded(&node).await == "[]").then_some(())).await;
    assert_eq!(partition(&node).await["ok"], json!(true));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_read_the_rows_by_hand_looks_for_changes_as_before() {
    let folder = Folder::new();
    let mut config = folder.config("");
    config.database.poll_interval = Some(Duration::from_millis(100));
    let node = node_with(&config, &[1, 2]).await;
    sql(&node, "ALTER TABLE dispatcher RENAME TO gone").await;
    // The pause after the fifth try in vain is 4 to 12 s.
    let address = node.http().expect("it is on");
    let wanted = "tandem_reloads_total{partition=\"default\",result=\"failed\"} 5\n";
    until("five tries", async || {
        let (_, metrics) = spawn_blocking(move || http(address, "GET", "/metrics")).await.expect("no panic");
        metrics.contains(wanted).then_some(())
    })
    .await;
    sql(&node, "ALTER TABLE gone RENAME TO dispatcher").await;
    node.reload(anew()).await.expect("good rows");
    let began = Instant::now();
    sql(&node, &insert(&rows(&[3]))).await;
    until("the change is found", async || (ports(&node).await == [1, 2, 3]).then_some(())).await;
    assert!(began.elapsed() < Duration::from_secs(3), "it has waited for {:?}", began.elapsed());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operator_tells_one_node_all_do() {
    let pair = Pair::start_with(["", ""], None).await;
    let [a, b] = &pair.nodes[..] else { panic!("two nodes") };
    let both = async |statement: &str| {
        sql(a, statement).await;
        sql(b, statement).await;
    };
    let until_has = async |node: &Node, what: &str, wanted: &[u16]| {
        until(what, async || (ports(node).await == wanted).then_some(())).await;
    };
    let first = ports(a).await;
    both(&insert(&rows(&[1, 2]))).await;
    a.reload(anew()).await.expect("good rows");
    let all = ports(a).await;
    assert_eq!(all.len(), 4);
    until_has(b, "b follows a reload", &all).await;

    both(&format!("DELETE FROM dispatcher WHERE destination NOT LIKE '%:{}'", first[0])).await;
    a.reload(anew()).await.expect_err("it takes out too much");
    a.reload(forced()).await.expect("it is meant");
    until_has(b, "b is forced too", &first[..1]).await;

    let versions = partition(b).await["versions"].clone();
    let of_all = versions.as_array().expect("versions").iter().find(|one| one["destinations"] == 4);
    let digest = of_all.expect("it was in place")["digest"].clone();
    let word = json!({ "by": "ann", "reason": "they are there", "version": digest });
    assert_eq!(post(b, "/rollback", word).await.0, 200);
    assert_eq!(ports(b).await, all);
    until_has(a, "a goes back too", &all).await;
    assert!(degraded(a).await.contains("pinned by ann (they are there)"));

    // The rows change, and who finds it first tells the other that it is over.
    both(&insert(&rows(&[2]))).await;
    a.reload(forced()).await.expect("the rows have changed");
    let now: Vec<_> = [2].into_iter().chain(first[..1].iter().copied()).collect();
    assert_eq!(ports(a).await, now);
    until_has(b, "b too", &now).await;
    assert!(!degraded(a).await.contains("pinned") && !degraded(b).await.contains("pinned"));
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_reloaded_alone_or_all_or_none() {
    let folder = Folder::new();
    let tables = "[[partition]]\nname = \"asr\"\nset_offset = 1000\nurl = \"sqlite:asr.db\"\npoll_interval = \"off\"";
    let config = folder.config(tables);
    let node = node_with(&config, &[1, 2]).await;
    let asr = Store::new(&config.partitions[0].database, folder.path()).expect("a URL");
    asr.execute(&insert(&rows(&[3]))).await.expect("rows");
    sql(&node, &insert(&rows(&[4]))).await;
    let alone = ReloadOrder { partition: Some("asr".to_owned()), ..anew() };
    assert_eq!(node.reload(alone.clone()).await.expect("good rows").added, 1);
    assert_eq!(ports(&node).await, [1, 2, 3]);
    let sets =
        get(&node, "/sets").await["sets"].as_array().expect("sets").iter().map(|set| set["set"].clone()).collect();
    assert_eq!(Value::Array(sets), json!([19, 1019]));
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "ds_list", "params": { "partition": "asr" } });
    let (_, list) = post(&node, "/mi", call).await;
    let set = &list["result"]["PARTITIONS"][0]["SETS"][0];
    assert_eq!((&set["id"], &set["Destinations"][0]["URI"]), (&json!(19), &json!("sip:127.0.0.1:3")));

    // One of them can't be read: all stays, and of the other alone it does not matter.
    asr.execute("ALTER TABLE dispatcher RENAME TO gone").await.expect("renamed");
    let failed = node.reload(anew()).await.expect_err("half of it is gone");
    assert!(failed.error.starts_with("partition asr: ") && failed.error.contains("no table dispatcher"), "{failed:?}");
    assert_eq!(ports(&node).await, [1, 2, 3]);
    assert!(degraded(&node).await.contains("partition asr: "));
    let other = ReloadOrder { partition: Some("default".to_owned()), ..anew() };
    node.reload(other).await.expect("good rows");
    assert_eq!(ports(&node).await, [1, 2, 3, 4]);
    let unknown = ReloadOrder { partition: Some("tts".to_owned()), ..anew() };
    let failed = node.reload(unknown).await.expect_err("no such partition");
    assert_eq!(failed.error, "no partition tts: there are default, asr");

    // A start without one of them has its last good sets.
    node.stop().await;
    let node = Node::start(&config).await.expect("it starts");
    assert_eq!(ports(&node).await, [1, 2, 3, 4]);
    asr.execute("ALTER TABLE gone RENAME TO dispatcher").await.expect("renamed");
    until("it is found again", async || (degraded(&node).await == "[]").then_some(())).await;
    // Nor may two have one set.
    sql(&node, "UPDATE dispatcher SET setid = 1019 WHERE destination LIKE '%:4'").await;
    let failed = node.reload(anew()).await.expect_err("twice");
    assert!(failed.error.starts_with("set 1019 is in the partitions default and asr"), "{failed:?}");
    assert!(degraded(&node).await.contains("set 1019 is in the partitions default and asr"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_never_had_a_version_is_told_it() {
    let pair = Pair::start_with(["", "[database]\nkeep_versions = 1"], None).await;
    let [a, b] = &pair.nodes[..] else { panic!("two nodes") };
    let first = ports(a).await;
    let many: Vec<u16> = (1..=100).collect();
    for node in [a, b] {
        sql(node, &insert(&rows(&many))).await;
    }
    a.reload(anew()).await.expect("good rows");
    until("b follows", async || (ports(b).await.len() == 102).then_some(())).await;
    for node in [a, b] {
        sql(node, "UPDATE dispatcher SET weight = 2").await;
    }
    a.reload(anew()).await.expect("good rows");
    let weights = async |node: &Node| {
        let snapshot = node.server().fresh_snapshot().await.expect("it runs");
        snapshot.sets[0].destinations.iter().map(|one| u64::from(one.weight)).sum::<u64>()
    };
    until("b follows", async || (weights(b).await == 204).then_some(())).await;
    assert_eq!(partition(b).await["versions"].as_array().map(Vec::len), Some(1));

    let of_102 = partition(a).await["versions"]
        .as_array()
        .expect("versions")
        .iter()
        .find(|one| one["destinations"] == 102)
        .cloned();
    let number = of_102.expect("it was in place")["number"].to_string();
    let word = json!({ "by": "ann", "reason": "too heavy", "version": number });
    assert_eq!(post(a, "/rollback", word).await.0, 200);
    until("b has it from a", async || (weights(b).await == 102).then_some(())).await;
    until("b tells it", async || degraded(b).await.contains("pinned by ann (too heavy)").then_some(())).await;
    assert!(ports(b).await.len() == first.len() + 100);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_is_from_what_the_rows_are_now_and_force_is_for_once() {
    let folder = Folder::new();
    let node = node_with(&folder.config(""), &[1, 2, 3]).await;
    sql(&node, "UPDATE dispatcher SET weight = 2").await;
    node.reload(anew()).await.expect("good rows");
    // Rows that nobody has read yet.
    sql(&node, &insert(&rows(&[4]))).await;
    let word = json!({ "by": "ann", "reason": "too heavy", "version": "2" });
    assert_eq!(post(&node, "/rollback", word.clone()).await.0, 200);
    assert_eq!(ports(&node).await, [1, 2, 3]);
    assert!(degraded(&node).await.contains("version 2 is pinned"));
    let unpin = json!({ "by": "ann", "reason": "well" });
    assert_eq!(post(&node, "/rollback", unpin).await.0, 200);
    assert_eq!(ports(&node).await, [1, 2, 3, 4]);

    let out = "UPDATE dispatcher SET state = 1 WHERE destination NOT LIKE '%:1'";
    sql(&node, out).await;
    node.reload(anew()).await.expect_err("too many");
    node.reload(forced()).await.expect("they are meant");
    sql(&node, "UPDATE dispatcher SET state = 0").await;
    node.reload(anew()).await.expect("good rows");
    for all in [out, "UPDATE dispatcher SET state = 1", "UPDATE dispatcher SET state = 2"] {
        sql(&node, all).await;
        node.reload(anew()).await.expect_err("these were not meant");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_knows_of_a_pin_and_of_rows_that_changed_meanwhile() {
    let folder = Folder::new();
    let node = gone_back(&folder.config("")).await;
    node.stop().await;

    let (database, away) = (folder.path().join("tandem.db"), folder.path().join("away.db"));
    std::fs::rename(&database, &away).expect("moved");
    let node = Node::start(&folder.config("")).await.expect("it starts");
    assert_eq!(ports(&node).await, [1, 2]);
    let faults = degraded(&node).await;
    assert!(faults.contains("version 2 is pinned") && faults.contains("can't open it"), "{faults}");
    node.stop().await;

    std::fs::rename(&away, &database).expect("moved");
    let store = Store::new(&folder.config("").database, folder.path()).expect("a URL");
    store.execute("UPDATE dispatcher SET weight = 5").await.expect("good SQL");
    let node = Node::start(&folder.config("")).await.expect("it starts");
    assert_eq!((ports(&node).await, degraded(&node).await), (vec![1, 2, 3], "[]".to_owned()));
    sql(&node, "UPDATE dispatcher SET weight = 1").await;
    node.reload(anew()).await.expect("it is over, whatever the rows are");
    assert_eq!(ports(&node).await, [1, 2, 3]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_pinned_version_and_any_last_good_sets_the_rows_serve() {
    let folder = Folder::new();
    let node = gone_back(&folder.config("")).await;
    node.stop().await;
    std::fs::remove_file(folder.path().join("state/sets.json")).expect("it was there");
    std::fs::remove_file(folder.path().join("state/versions/default/000002.json")).expect("it was there");
    let node = Node::start(&folder.config("")).await.expect("it starts");
    assert_eq!(ports(&node).await, [1, 2, 3]);
    assert!(degraded(&node).await.contains("ann has gone back to was never in place on this node"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_the_database_that_lags_behind_brings_nothing_back() {
    let pair = Pair::start_with(["", ""], None).await;
    let [a, b] = &pair.nodes[..] else { panic!("two nodes") };
    let first = ports(a).await;
    let with = |port: u16| [vec![port], first.clone()].concat();
    for node in [a, b] {
        sql(node, &insert(&rows(&[1]))).await;
    }
    a.reload(anew()).await.expect("good rows");
    until("b follows", async || (ports(b).await == with(1)).then_some(())).await;
    let of_two = partition(a).await["versions"]
        .as_array()
        .expect("versions")
        .iter()
        .find(|one| one["destinations"] == 2)
        .cloned();
    let digest = of_two.expect("it was in place")["digest"].clone();
    let word = json!({ "by": "ann", "reason": "1 is broken", "version": digest });
    assert_eq!(post(a, "/rollback", word).await.0, 200);
    until("b goes back", async || (ports(b).await == first).then_some(())).await;

    let mended = "UPDATE dispatcher SET destination = 'sip:127.0.0.1:2' WHERE destination LIKE '%:1'";
    sql(a, mended).await;
    a.reload(anew()).await.expect("the rows have changed");
    assert_eq!(ports(a).await, with(2));
    // b has been told that the pin is over, and still reads what was not to be served: it looks once more a second later.
    let read = || async { partition(b).await["read"].to_string() };
    let before = read().await;
    until("b has read twice since", async || (read().await > before).then_some(())).await;
    let between = read().await;
    until("b has read twice since", async || (read().await > between).then_some(())).await;
    assert_eq!(ports(b).await, first);
    sql(b, mended).await;
    until("b has caught up", async || (ports(b).await == with(2)).then_some(())).await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_numbers_for_a_partition_are_no_change_of_its_rows() {
    let folder = Folder::new();
    let table = |offset| format!("[[partition]]\nname = \"asr\"\nset_offset = {offset}\nurl = \"sqlite:asr.db\"\n");
    let (config, other) = (folder.config(&table(1000)), folder.config(&table(2000)));
    let node = node_with(&config, &[1]).await;
    let asr = Store::new(&config.partitions[0].database, folder.path()).expect("a URL");
    asr.execute(&insert(&rows(&[2]))).await.expect("rows");
    node.reload(anew()).await.expect("good rows");
    node.stop().await;
    let node = Node::start(&other).await.expect("it starts");
    let sets =
        get(&node, "/sets").await["sets"].as_array().expect("sets").iter().map(|set| set["set"].clone()).collect();
    assert_eq!((Value::Array(sets), degraded(&node).await), (json!([19, 2019]), "[]".to_owned()));
    node.stop().await;

    // Two with one number: the first has it, and it is told.
    asr.execute("UPDATE dispatcher SET setid = 19").await.expect("good SQL");
    let default = Store::new(&config.database, folder.path()).expect("a URL");
    default.execute(&insert(&rows(&[3])).replace("(19,", "(2019,")).await.expect("rows");
    let node = Node::start(&other).await.expect("it starts");
    assert_eq!(ports(&node).await, [1, 3]);
    let faults = degraded(&node).await;
    assert!(faults.contains("set 2019 is in the partitions default and asr"), "{faults}");
    node.stop().await;
}
