//! Probes of many destinations leave evenly, from the first second on.

use std::time::Duration;

use super::{all, live, probed, probes};
use crate::harness::{Bench, Sent, seconds, set_19};

/// The slice of time that a burst would show in.
const SLICE: Duration = Duration::from_millis(100);

fn many(count: usize) -> Bench {
    let addresses: Vec<_> = (0..count).map(|at| format!("10.{}.{}.1:5060", 1 + at / 200, at % 200)).collect();
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    let mut bench = probed(|check| check.jitter_percent = 10);
    bench.load(set_19(&[]));
    bench.load(set_19(&addresses));
    bench
}

/// The 99th percentile and the mean of what was sent in each slice.
fn p99_and_mean(sent: &[Sent], from: Duration, until: Duration) -> (usize, f64) {
    let slices = (until - from).as_millis() / SLICE.as_millis();
    let mut counts = vec![0; slices as usize];
    for one in sent.iter().filter(|one| (from..until).contains(&one.at)) {
        counts[((one.at - from).as_millis() / SLICE.as_millis()) as usize] += 1;
    }
    counts.sort_unstable();
    (counts[counts.len() * 99 / 100], counts.iter().sum::<usize>() as f64 / counts.len() as f64)
}

#[test]
fn ten_thousand_destinations_show_no_burst_in_any_interval() {
    let mut bench = many(10_000);
    let sent = live(&mut bench, seconds(60), all(200));
    for interval in 0..6 {
        let (from, until) = (seconds(interval * 10), seconds(interval * 10 + 10));
        let (p99, mean) = p99_and_mean(&sent, from, until);
        println!("interval {interval}: {mean:.0} probes in 100 ms, p99 {p99}");
        assert!(mean > 95.0 && mean < 115.0, "{interval}: {mean}");
        assert!(p99 as f64 <= 2.0 * mean, "{interval}: p99 {p99}, mean {mean}");
    }
}

#[test]
fn a_stall_makes_no_burst_and_leaves_each_at_its_place() {
    let mut bench = many(10_000);
    live(&mut bench, seconds(20), all(200));
    bench.stall(seconds(25));
    let end = bench.time();
    let sent = live(&mut bench, seconds(40), all(200));
    // Each that is late is asked once, a hundred in ten milliseconds and no more, and all are asked in a second or two.
    let at_once = |sent: &[Sent]| sent.iter().filter(|one| one.at - end < Duration::from_millis(10)).count();
    assert!(at_once(&probes(&sent)) <= 200, "{}", at_once(&probes(&sent)));
    let (p99, mean) = p99_and_mean(&sent, end + seconds(2), end + seconds(40));
    assert!(p99 as f64 <= 2.0 * mean && mean > 90.0, "p99 {p99}, mean {mean}");
}

#[test]
fn a_hundred_destinations_are_all_known_after_a_second() {
    let mut bench = many(100);
    let sent = probes(&live(&mut bench, seconds(1) + SLICE, all(200)));
    assert_eq!(sent.len(), 100 + sent.len().saturating_sub(100));
    let snapshot = bench.snapshot();
    assert!(snapshot.sets[0].destinations.iter().all(|one| one.latencies[0].count > 0));
}

#[test]
fn many_that_are_lost_at_once_are_asked_without_a_burst_too() {
    let mut bench = many(1000);
    live(&mut bench, seconds(30), all(200));
    let sent = probes(&live(&mut bench, seconds(40), super::mute));
    let (p99, mean) = p99_and_mean(&sent, seconds(50), seconds(70));
    assert!(p99 as f64 <= 3.0 * mean, "p99 {p99}, mean {mean}");
}
