//! Where the gossip begins: addresses and names, some of which lead nowhere.

use std::sync::Arc;
use std::time::Duration;

use tandem::edge::cluster::{Cluster, ClusterConfig, ClusterError, Seed};
use tandem::edge::resolve::{DnsConfig, Resolver};
use tokio::net::UdpSocket;

use super::dns::{Dns, Mood};
use super::{config, loopback, names, start, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seeds_that_are_down_hold_nobody_up_and_one_list_serves_all() {
    // Bound and never answered.
    let silent = UdpSocket::bind(loopback()).await.expect("a socket");
    let nobody = silent.local_addr().expect("bound");
    let a = start("a", config(&[nobody])).await;
    let b = start("b", ClusterConfig { bind: loopback(), ..config(&[nobody, a.address()]) }).await;
    let c = start("c", config(&[nobody, a.address(), b.address()])).await;
    for node in [&a, &b, &c] {
        until(&mut node.peers(), |peers| peers.live.len() == 2).await;
    }
    // a is called on by others, and is in its own list.
    let place = a.address();
    a.stop().await;
    let a = start("a", ClusterConfig { bind: place, ..config(&[place, b.address()]) }).await;
    until(&mut a.peers(), |peers| names(peers) == ["b", "c"]).await;
    assert_eq!(a.counters().refused, [0; 9], "it does not call on itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seed_that_comes_up_late_is_found() {
    let socket = UdpSocket::bind(loopback()).await.expect("a socket");
    let place = socket.local_addr().expect("bound");
    let a = start("a", config(&[place])).await;
    // It has called there, and nobody has answered.
    for _ in 0..3 {
        socket.recv(&mut [0; 2048]).await.expect("a call");
    }
    drop(socket);
    let b = start("b", ClusterConfig { bind: place, ..config(&[]) }).await;
    until(&mut a.peers(), |peers| names(peers) == ["b"]).await;
    until(&mut b.peers(), |peers| names(peers) == ["a"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seed_may_be_a_name_and_dns_may_fail_at_first() {
    let dns = Dns::start().await;
    dns.be(Mood::Fails);
    let a = start("a", config(&[])).await;
    let resolver = Resolver::new(&DnsConfig { servers: vec![dns.address], timeout: Duration::from_millis(600) });
    let seed = Seed::parse(&format!("gossip.example.test:{}", a.address().port())).expect("a name");
    let config = ClusterConfig { seeds: vec![seed], ..config(&[]) };
    let b = Cluster::start(config, "b", Arc::new(resolver)).await.expect("a node");
    while b.counters().seed_faults == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    dns.set("gossip.example.test", 60, &["127.0.0.1"]);
    dns.be(Mood::Answers);
    until(&mut b.peers(), |peers| names(peers) == ["a"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_key_nothing_leaves_this_host() {
    let resolver = || Arc::new(Resolver::new(&DnsConfig::default()));
    let open = ClusterConfig { keys: Vec::new(), ..config(&[]) };
    let outside = Seed::parse("192.0.2.1:7946").expect("an address");
    for (key, config) in [
        ("bind", ClusterConfig { bind: "192.0.2.1:7946".parse().expect("an address"), ..open.clone() }),
        ("advertise", ClusterConfig { advertise: Some("192.0.2.1:7946".parse().expect("an address")), ..open.clone() }),
        ("seeds", ClusterConfig { seeds: vec![outside], ..open.clone() }),
    ] {
        match Cluster::start(config, "a", resolver()).await {
            Err(ClusterError::Config { key: found, problem }) => {
                assert_eq!(found, key);
                assert!(problem.contains("192.0.2.1:7946") && problem.contains("give keys"), "{problem}");
            }
            other => panic!("{other:?}"),
        }
    }
    // Among themselves they speak.
    let a = start("a", open.clone()).await;
    let b = start("b", ClusterConfig { seeds: vec![Seed::from(a.address())], ..open }).await;
    until(&mut b.peers(), |peers| names(peers) == ["a"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_taken_is_told() {
    let a = start("a", config(&[])).await;
    let resolver = Arc::new(Resolver::new(&DnsConfig::default()));
    let taken = ClusterConfig { bind: a.address(), ..config(&[]) };
    let error = Cluster::start(taken, "b", resolver).await.expect_err("taken").to_string();
    assert!(error.contains(&a.address().to_string()), "{error}");
}
