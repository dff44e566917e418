//! Thousands of destinations fit.

use std::time::{Duration, Instant};

use tandem::engine::dispatch::Health;

use super::{destination, nodes, report, start, until, view, view_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_destinations_agree_on_three_nodes_and_on_one_that_comes_late() {
    let [a, b, c] = nodes().await;
    let mut told = view(5000, 3);
    let since = Instant::now();
    a.publish(told.clone());
    for node in [&b, &c] {
        until(&mut node.peers(), |peers| view_of(peers, "a") == Some(&told)).await;
    }
    println!("5,000 destinations are on three nodes after {:?}; {:?}", since.elapsed(), a.counters());
    let late = start("d", super::config(&[b.address()])).await;
    let since = Instant::now();
    until(&mut late.peers(), |peers| view_of(peers, "a") == Some(&told)).await;
    println!("and on one that came late after {:?}; {:?}", since.elapsed(), late.counters());
    // A change of one is one packet, however many there are.
    let before = a.counters();
    told.destinations.insert(destination(7), report(Health::Down, 0));
    let since = Instant::now();
    a.publish(told.clone());
    until(&mut b.peers(), |peers| view_of(peers, "a") == Some(&told)).await;
    println!("one change among them is seen after {:?}", since.elapsed());
    assert!(since.elapsed() < Duration::from_secs(5));
    let (sent, packets) = (a.counters().sent_bytes - before.sent_bytes, a.counters().sent - before.sent);
    assert!(sent / packets.max(1) < 700, "{sent} octets in {packets} packets");
}
