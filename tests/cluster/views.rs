//! What nodes tell arrives, whole and soon, and so does what they no longer tell.

use std::time::{Duration, Instant};

use tandem::edge::cluster::report::{FORMAT, Moment, NodeReport, NodeView, OrderReport};
use tandem::engine::dispatch::Health;

use super::relay::start_behind;
use super::{config, destination, names, nodes, report, until, view, view_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_see_what_the_other_sees() {
    let [a, b] = nodes().await;
    let order = OrderReport {
        order: "drain".into(),
        stamp: 7,
        node: "a".into(),
        by: "ops".into(),
        reason: "disk".into(),
        deadline: None,
        then_end: false,
        state: None,
    };
    let mut told = view(3, 5);
    told.report = NodeReport { version: "1.2.3".into(), vips: vec!["10.0.0.9".into()], ..NodeReport::default() };
    let first = told.destinations.get_mut(&destination(0)).expect("it is there");
    (first.health, first.cause, first.order) = (Health::Down, Some("408".into()), Some(order));
    first.since = a.moment(Instant::now());
    let since = first.since;
    a.publish(told.clone());
    b.publish(view(1, 9));
    let peers =
        until(&mut b.peers(), |peers| view_of(peers, "a") == Some(&told) && peers.live[0].clock.is_some()).await;
    assert_eq!((peers.live[0].address, peers.live[0].boot > 0), (a.address(), true));
    let age = peers.live[0].age(since, Instant::now()).expect("its time is known");
    assert!(age < Duration::from_secs(30), "{age:?}");
    assert!(peers.live[0].age(Moment(since.0 - 60_000), Instant::now()).expect("known") >= Duration::from_secs(59));
    // A moment that is younger than the clock which we have is as much younger.
    let (then, came) = peers.live[0].clock.expect("its time is known");
    let age = peers.live[0].age(Moment(then.0 + 900), came + Duration::from_secs(1));
    assert_eq!(age, Some(Duration::from_millis(100)));
    until(&mut a.peers(), |peers| view_of(peers, "b") == Some(&view(1, 9))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_seen_and_so_is_what_is_gone() {
    let [a, b] = nodes().await;
    let mut peers = b.peers();
    for told in [view(3, 1), view(3, 2), view(1, 2), NodeView::default(), view(2, 7)] {
        a.publish(told.clone());
        until(&mut peers, |peers| view_of(peers, "a") == Some(&told)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_two_formats_gossip_on() {
    let [a, b] = nodes().await;
    for round in 1..=3 {
        let now = view(3, round);
        let report = NodeReport { format: FORMAT + 1, ..NodeReport::default() };
        let later = NodeView { report, ..view(4, round) };
        a.publish(now.clone());
        b.publish(later.clone());
        let peers = until(&mut a.peers(), |peers| view_of(peers, "b") == Some(&later)).await;
        assert_eq!(peers.live[0].view.report.unknown_format(), Some(FORMAT + 1));
        let peers = until(&mut b.peers(), |peers| view_of(peers, "a") == Some(&now)).await;
        assert_eq!(peers.live[0].view.report.unknown_format(), None);
    }
    for node in [&a, &b] {
        let counters = node.counters();
        assert_eq!((counters.unreadable_values, counters.restarts, counters.refused), (0, 0, [0; 9]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_agree_and_who_comes_late_is_told_all() {
    let [a, b, c] = nodes().await;
    for (node, sessions) in [(&a, 1), (&b, 2), (&c, 3)] {
        node.publish(view(20, sessions));
    }
    let late = super::start("d", config(&[c.address()])).await;
    for (node, others) in [(&a, "bcd"), (&b, "acd"), (&c, "abd"), (&late, "abc")] {
        let peers = until(&mut node.peers(), |peers| {
            let told = |name, sessions| name == node.node() || view_of(peers, name) == Some(&view(20, sessions));
            peers.live.len() == 3 && told("a", 1) && told("b", 2) && told("c", 3)
        })
        .await;
        assert_eq!(names(&peers).concat(), others);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_change_is_one_small_packet_and_comes_within_two_intervals() {
    let [a, b] = nodes().await;
    let mut told = view(200, 0);
    let mut peers = b.peers();
    a.publish(told.clone());
    until(&mut peers, |peers| view_of(peers, "a") == Some(&told)).await;
    let mut times = Vec::new();
    for round in 1..=41 {
        let one = destination(round % 200);
        told.destinations.insert(one.clone(), report(Health::Down, u32::from(round)));
        let since = Instant::now();
        a.publish(told.clone());
        until(&mut peers, |peers| {
            view_of(peers, "a").is_some_and(|view| view.destinations.get(&one) == told.destinations.get(&one))
        })
        .await;
        times.push(since.elapsed());
        // Not in step with the gossip.
        tokio::time::sleep(Duration::from_millis(u64::from(round) * 7 % 50)).await;
    }
    times.sort();
    println!("a change is seen after {:?} (median), {:?} (worst)", times[20], times[40]);
    assert!(times[20] <= Duration::from_millis(200), "{times:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_agree_although_every_fifth_packet_is_lost() {
    let (a, _to_a) = start_behind("a", config(&[]), 20, 1).await;
    let (b, to_b) = start_behind("b", config(&[a.address()]), 20, 2).await;
    for sessions in 0..10 {
        let told = view(50, sessions);
        a.publish(told.clone());
        until(&mut b.peers(), |peers| view_of(peers, "a") == Some(&told)).await;
        b.publish(told.clone());
        until(&mut a.peers(), |peers| view_of(peers, "b") == Some(&told)).await;
    }
    assert!(!to_b.seen.lock().expect("no panic").is_empty(), "they spoke through the relay");
}
