//! Who is there: those who come, go, come again, and those who use another's name.

use std::time::{Duration, Instant};

use tandem::edge::cluster::{ClusterConfig, ClusterEvent};

use super::{config, event, key, names, nodes, start, until, view, view_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_is_dropped_with_its_view_after_dead_after() {
    let [a, b, c] = nodes().await;
    b.publish(view(3, 1));
    for node in [&a, &c] {
        until(&mut node.peers(), |peers| peers.live.len() == 2 && view_of(peers, "b") == Some(&view(3, 1))).await;
    }
    let mut events = a.events();
    let heard = |peers: &super::Peers| peers.live.iter().find(|peer| &*peer.node == "b").map(|peer| peer.heard);
    let last = heard(&a.peers().borrow()).expect("it is there");
    b.stop().await;
    let stopped = Instant::now();
    event(&mut events, |event| matches!(event, ClusterEvent::Left { node, .. } if &**node == "b")).await;
    let dead_after = config(&[]).dead_after;
    assert!(last.elapsed() >= dead_after, "not before its time: {:?}", last.elapsed());
    assert!(stopped.elapsed() < dead_after + Duration::from_secs(5), "{:?}", stopped.elapsed());
    for node in [&a, &c] {
        until(&mut node.peers(), |peers| peers.live.len() == 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_replaces_the_boot_before_at_once() {
    let [a, b] = nodes().await;
    b.publish(view(3, 1));
    let before = until(&mut a.peers(), |peers| view_of(peers, "b") == Some(&view(3, 1))).await;
    let (place, mut events) = (b.address(), a.events());
    b.stop().await;
    // Its peers know where it is, so it needs no seed.
    let b = start("b", ClusterConfig { bind: place, ..config(&[]) }).await;
    b.publish(view(1, 8));
    let after = until(&mut a.peers(), |peers| view_of(peers, "b") == Some(&view(1, 8))).await;
    assert_eq!((names(&after), after.live[0].boot > before.live[0].boot), (vec!["b"], true));
    // Two boots of one node are no duplicate, however long one looks.
    let (began, mut told) = (Instant::now(), 8);
    while began.elapsed() < 2 * config(&[]).dead_after {
        told += 1;
        b.publish(view(1, told));
        until(&mut a.peers(), |peers| view_of(peers, "b") == Some(&view(1, told))).await;
    }
    assert_eq!((a.counters().duplicates, b.counters().duplicates), (0, 0));
    while let Ok(event) = events.try_recv() {
        assert!(matches!(event, ClusterEvent::Joined { .. }), "it never left: {event:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_of_one_name_are_a_loud_error_for_both_and_for_others() {
    let [a, b] = nodes().await;
    let twin = start("b", config(&[a.address()])).await;
    let mut events = [&a, &b, &twin].map(|node| node.events());
    for events in &mut events {
        let found = event(events, |event| matches!(event, ClusterEvent::Duplicate { .. })).await;
        let ClusterEvent::Duplicate { node, mut addresses } = found else { panic!("{found:?}") };
        addresses.sort();
        let mut expected = [b.address(), twin.address()];
        expected.sort();
        assert_eq!((&*node, &addresses[..]), ("b", &expected[..]));
    }
    for node in [&a, &b, &twin] {
        assert_eq!(node.counters().duplicates, 1, "told once, not ten times a second");
        assert_eq!(node.peers().borrow().duplicates.len(), 1);
    }
    twin.stop().await;
    for node in [&a, &b] {
        until(&mut node.peers(), |peers| peers.duplicates.is_empty()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_changed_node_by_node_without_a_gap() {
    let [a, b] = nodes().await;
    let mut pair = [Some(a), Some(b)];
    let steps = [vec![key(1), key(2)], vec![key(2), key(1)], vec![key(2)]];
    for (step, keys) in steps.into_iter().enumerate() {
        for place in [0, 1] {
            let other = pair[1 - place].as_ref().expect("it runs").address();
            let old = pair[place].take().expect("it runs");
            let (name, bind) = (old.node().to_owned(), old.address());
            old.stop().await;
            let one = start(&name, ClusterConfig { bind, keys: keys.clone(), ..config(&[other]) }).await;
            let told = view(1, 1 + step as u32);
            one.publish(told.clone());
            let other = pair[1 - place].as_ref().expect("it runs");
            until(&mut other.peers(), |peers| view_of(peers, &name) == Some(&told)).await;
            until(&mut one.peers(), |peers| peers.live.len() == 1).await;
            pair[place] = Some(one);
        }
    }
    for node in pair.iter().flatten() {
        let counters = node.counters();
        assert_eq!(counters.refused, [0; 9], "{}: {counters:?}", node.node());
    }
}
