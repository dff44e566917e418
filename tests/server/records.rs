//! Records of sessions: their file, and what the node says of it.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use tandem::server::Node;

use crate::node::{addresses, calls, servers};
use crate::scratch::{Folder, anew, http, insert, until};

async fn get(address: SocketAddr, path: &'static str) -> (u16, String) {
    tokio::task::spawn_blocking(move || http(address, "GET", path)).await.expect("no panic")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_can_not_be_written_is_told_and_keeps_no_node_from_serving() {
    let folder = Folder::new();
    let node = Node::start(&folder.config("[records]\nfile = \"log/calls.jsonl\"")).await.expect("it starts");
    let address = node.http().expect("it is on");
    let told = "records can't be written: make their folder";
    let is_told = async || {
        let (status, text) = get(address, "/ready").await;
        assert_eq!(status, 200, "{text}");
        text.contains(told)
    };
    until("it is told", async || is_told().await.then_some(())).await;
    let file = folder.path().join("log/calls.jsonl");
    fs::create_dir(folder.path().join("log")).expect("a folder");
    until("it is told no more", async || (!is_told().await).then_some(())).await;
    assert!(file.exists());
    let metrics = get(address, "/metrics").await.1;
    assert!(metrics.contains("tandem_records_written_total 0\n"), "{metrics}");
    node.stop().await;
}

fn lines(text: &str) -> Vec<serde_json::Value> {
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    text.lines().map(|line| serde_json::from_str(line).expect("a JSON object")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_session_and_each_failed_call_is_one_line_of_the_file_when_the_node_has_ended() {
    let folder = Folder::new();
    let node = Node::start(&folder.config("[records]\nfile = \"calls.jsonl\"")).await.expect("it starts");
    let proxy = node.server().addresses()[0];
    assert_eq!(calls(proxy, 1, 100.0).await.outcomes.get(&480), Some(&1));
    let servers = servers(2).await;
    node.store().execute(&insert(&addresses(&servers))).await.expect("rows");
    node.reload(anew()).await.expect("good rows");
    assert_eq!(calls(proxy, 50, 400.0).await.answered, 50);
    let metrics = get(node.http().expect("it is on"), "/metrics").await.1;
    for line in [
        "tandem_sessions_ended_total{ending=\"empty\"} 1",
        "tandem_sessions_ended_total{ending=\"caller_bye\"} 50",
        "tandem_records_dropped_total{cause=\"slow\"} 0",
    ] {
        assert!(metrics.lines().any(|written| written == line), "{line}\n{metrics}");
    }
    node.stop().await;
    let all = lines(&fs::read_to_string(folder.path().join("calls.jsonl")).expect("it is there"));
    let ended = |ending: &str| all.iter().filter(|line| line["ending"] == ending).count();
    assert_eq!((ended("empty"), ended("caller_bye"), all.len()), (1, 50, 51), "{all:?}");
    for server in addresses(&servers) {
        let to = format!("sip:{server}");
        let of: Vec<_> = all.iter().filter(|line| line["destination"] == to.as_str()).collect();
        assert_eq!(of.len(), 25, "{to}: {all:?}");
        assert!(of.iter().all(|line| line["set"] == 19 && line["codes"] == serde_json::json!([200])), "{of:?}");
        assert!(of.iter().all(|line| line["setup_seconds"].is_f64() && line["duration_seconds"].is_f64()), "{of:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_holds_up_no_call_and_not_the_end() {
    let folder = Folder::new();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    // Nobody reads it, and it holds less than 300 records.
    let node = Node::start(&folder.config("[records]\nfile = \"pipe\"")).await.expect("it starts");
    let servers = servers(1).await;
    node.store().execute(&insert(&addresses(&servers))).await.expect("rows");
    node.reload(anew()).await.expect("good rows");
    let report = calls(node.server().addresses()[0], 1000, 1000.0).await;
    assert_eq!((report.answered, report.lost), (1000, 0), "{report}");
    node.stop().await;
}
