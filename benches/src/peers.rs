//! What other nodes cost the engine's thread: one report of its own and one hearing of all others, ten times a second, beside 100,
//! 1,000 and 10,000 destinations (four times less often beside more than 2,000). Fails if they take more than a twentieth of
//! the thread. Times are of the thread's own processor time, so that other processes do not count.

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/harness.rs"]
mod harness;

use std::env;
use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};
use tandem::engine::dispatch::{PeerReport, SetId};
use tandem::engine::{Engine, Input, Instant, Now};

const ROUNDS: usize = 50;
/// Of the engine's thread.
const MOST: f64 = 0.05;

fn main() {
    // As a filter of `cargo bench` means it.
    if env::args().skip(1).any(|filter| !filter.starts_with('-') && !"peers".contains(&filter)) {
        return;
    }
    println!("{:>12} {:>6} {:>12} {:>12} {:>10}", "destinations", "peers", "report us", "hearing us", "of a core");
    for destinations in [100, 1_000, 10_000] {
        for peers in [1, 4] {
            beside(destinations, peers);
        }
    }
}

fn beside(destinations: usize, peers: usize) {
    let addresses: Vec<_> = (0..destinations).map(|nth| format!("10.{}.{}.1:7010", 1 + nth / 250, nth % 250)).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let mut engine = Engine::new(harness::config(), [7; 32]);
    let now = |millis| Now {
        mono: Instant::after_start(Duration::from_millis(millis)),
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + Duration::from_millis(millis),
    };
    let mut out = Vec::new();
    engine.handle(Input::Sets(harness::set_19(&addresses)), now(0), &mut out);
    let (mut reporting, mut hearing) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS as u64 {
        let began = thread_time();
        let report = engine.report(now(round * 100));
        reporting.push(thread_time() - began);
        assert_eq!((report.destinations.len(), report.fit[0].0), (destinations, SetId(19)));
        let named = |nth: usize| PeerReport { node: format!("peer-{nth}"), started: 1, ..report.clone() };
        let reports: Vec<_> = (0..peers).map(named).collect();
        let began = thread_time();
        engine.handle(Input::Peers(&reports), now(round * 100), &mut out);
        hearing.push(thread_time() - began);
    }
    let [report, hears] = [reporting, hearing].map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    });
    let pace = if destinations > 2_000 { 2.5 } else { 10.0 };
    let part = (report + hears).as_secs_f64() * pace;
    println!(
        "{destinations:>12} {peers:>6} {:>12} {:>12} {:>9.2}%",
        report.as_micros(),
        hears.as_micros(),
        part * 100.0
    );
    assert!(part <= MOST, "the others cost {:.1} % of the engine's thread", part * 100.0);
}

fn thread_time() -> Duration {
    Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock"))
}
