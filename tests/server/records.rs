//! Records of sessions: their file, and what the node says of it.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use tandem::server::Node;

use crate::scratch::{Folder, http};

async fn get(address: SocketAddr, path: &'static str) -> (u16, String) {
    tokio::task::spawn_blocking(move || http(address, "GET", path)).await.expect("no panic")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_can_not_be_written_is_told_and_keeps_no_node_from_serving() {
    let folder = Folder::new();
    let node = Node::start(&folder.config("[records]\nfile = \"log/calls.jsonl\"")).await.expect("it starts");
    let address = node.http().expect("it is on");
    let told = "records can't be written: make their folder";
    let ready = || async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let (status, text) = get(address, "/ready").await;
        assert_eq!(status, 200, "{text}");
        text
    };
    while !ready().await.contains(told) {}
    let file = folder.path().join("log/calls.jsonl");
    fs::create_dir(folder.path().join("log")).expect("a folder");
    while ready().await.contains(told) {}
    assert!(file.exists());
    let metrics = get(address, "/metrics").await.1;
    assert!(metrics.contains("tandem_records_written_total 0\n"), "{metrics}");
    node.stop().await;
}
