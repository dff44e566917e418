//! Destinations that are asked by TCP and by HTTP, through a real node.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};
use std::time::Duration;

use tandem::engine::dispatch::{Check, CheckKind, Health, Outcome, Probing, SetId};
use tandem::server::Node;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::scratch::{Folder, PATIENCE, anew, http, insert, own_address, until};

/// A node with one destination there that is asked so, ten times a second.
async fn node(folder: &Folder, address: SocketAddr, kind: CheckKind) -> (Node, String) {
    let often = Duration::from_millis(100);
    let check = Check { interval: often, fast_interval: often, down_interval: often, ..Check::new(kind) };
    let mut config = folder.config("");
    config.sets[0].probing = Arc::new(Probing { checks: vec![check], ..Probing::default() });
    let node = Node::start(&config).await.expect("it starts");
    node.store().execute(&insert(&[address])).await.expect("a row");
    node.reload(anew()).await.expect("good rows");
    (node, format!("sip:{address}"))
}

/// Waits until the destination is held for that, with such an outcome as the last one seen.
async fn until_held(node: &Node, uri: &str, health: Health, is_last: impl Fn(Outcome) -> bool) {
    until("it is held for that", async || {
        let found = node.server().snapshot().await.expect("it runs").sets[0].destinations[0].clone();
        let history = node.server().history(SetId(19), uri).await.expect("it runs");
        let last = history[0].1.last().map(|one| one.outcome);
        (found.health == health && last.is_some_and(&is_last)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_closes_is_down_and_one_that_opens_is_up() {
    let folder = Folder::new();
    let listener = TcpListener::bind(own_address()).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (node, uri) = node(&folder, address, CheckKind::Tcp { port: Some(address.port()) }).await;
    until_held(&node, &uri, Health::Up, |outcome| outcome == Outcome::Connected).await;
    drop(listener);
    until_held(&node, &uri, Health::Down, |outcome| outcome == Outcome::Refused).await;
    let _listener = TcpListener::bind(address).await.expect("free as before");
    until_held(&node, &uri, Health::Up, |outcome| outcome == Outcome::Connected).await;
    assert_eq!(node.server().edge_counters().check_faults, 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http_agent_says_who_is_up() {
    let folder = Folder::new();
    let listener = TcpListener::bind(own_address()).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let status = Arc::new(AtomicU16::new(200));
    let says = Arc::clone(&status);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1000]).await;
            let _ = stream.write_all(format!("HTTP/1.1 {} X\r\n\r\nok", says.load(SeqCst)).as_bytes()).await;
        }
    });
    let (node, uri) =
        node(&folder, address, CheckKind::Http { port: address.port(), path: "/health".to_owned() }).await;
    for (says, health) in [(200, Health::Up), (503, Health::Down), (204, Health::Up)] {
        status.store(says, SeqCst);
        until_held(&node, &uri, health, |outcome| outcome == Outcome::answered(says)).await;
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_that_can_not_be_made_is_counted_and_no_evidence() {
    let folder = Folder::new();
    // No request can ask for that path, so nobody is ever asked.
    let address = SocketAddr::new(own_address().ip(), 9);
    let (node, uri) = node(&folder, address, CheckKind::Http { port: 9, path: "/a b".to_owned() }).await;
    until("checks are due", async || (node.server().edge_counters().check_faults >= 20).then_some(())).await;
    let found = node.server().snapshot().await.expect("it runs").sets[0].destinations[0].clone();
    assert_eq!((found.health, found.falls), (Health::Up, 0));
    assert!(node.server().history(SetId(19), &uri).await.expect("it runs")[0].1.is_empty());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_not_ready_before_what_it_probes_has_answered() {
    let folder = Folder::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (answer, may_answer) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a check");
            let mut may_answer = may_answer.clone();
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = may_answer.wait_for(|may| *may).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            });
        }
    });
    let kind = CheckKind::Http { port: address.port(), path: "/".to_owned() };
    let mut config = folder.config("");
    let check = Check { timeout: PATIENCE, ..Check::new(kind) };
    config.sets[0].probing = Arc::new(Probing { checks: vec![check], ..Probing::default() });
    let node = Node::start(&config).await.expect("it starts");
    node.store().execute(&insert(&[address])).await.expect("a row");
    node.reload(anew()).await.expect("good rows");
    let surface = node.http().expect("it is on");
    let ready = async || tokio::task::spawn_blocking(move || http(surface, "GET", "/ready")).await.expect("no panic");
    let (status, body) = ready().await;
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("set 19: 1 of its destinations are not probed yet"), "{body}");
    answer.send(true).expect("somebody asks");
    until("it is ready", async || (ready().await.0 == 200).then_some(())).await;
    node.stop().await;
}
