//! What `/metrics` costs. A scrape beside 2, 100, 1,000 and 10,000 destinations, which another node speaks of too: series, bytes, the
//! engine's thread's part of it (the snapshot) and the rest (the text). Then calls with a scrape each second beside the same
//! calls without, and the counting that one call makes. Fails if scrapes take more than a fiftieth of the engine's thread, or
//! counting more than a fiftieth of a call. Times are of the thread's own processor time, so that other processes do not count.

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/harness.rs"]
mod harness;

use std::env;
use std::hint::black_box;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, SystemTime};

use harness::{CALLER, Sent};
use nix::time::{ClockId, clock_gettime};
use tandem::edge::cluster::ClusterCounters;
use tandem::edge::counters::EdgeCounters;
use tandem::edge::metrics::{ClusterView, Listeners, Queue, View, render};
use tandem::edge::process;
use tandem::edge::stories::StoryCounters;
use tandem::engine::dispatch::{
    Asked, BOUNDS, Choice, DestinationId, Dispatch, Latency, Load, PeerReport, Policy, SetId, Turn,
};
use tandem::engine::flow::{ConnectionId, Flow, ListenerId, Transport};
use tandem::engine::snapshot::{Snapshot, Totals};
use tandem::engine::{Engine, Input, Instant, Now, Output};
use tandem_benches::Player;

/// Scrapes of each kind that are timed.
const SCRAPES: usize = 20;
/// Calls of one second.
const CALLS: usize = 1000;
/// Such seconds.
const SECONDS: usize = 20;
/// Of the engine's thread, for one scrape a second of 1,000 destinations.
const MOST_OF_THREAD: f64 = 0.02;
/// Of a call, for what is counted of it.
const MOST_OF_CALL: f64 = 0.02;

fn main() {
    // As a filter of `cargo bench` means it.
    if env::args().skip(1).any(|filter| !filter.starts_with('-') && !"metrics".contains(&filter)) {
        return;
    }
    println!("{:>12} {:>9} {:>11} {:>12} {:>10}", "destinations", "series", "bytes", "snapshot us", "text us");
    for destinations in [2, 100, 1_000, 10_000] {
        scrape(destinations);
    }
    println!();
    let call = beside_calls();
    counting(call);
}

/// One scrape, as a node of a pair is scraped whose destinations have all been called.
fn scrape(destinations: usize) {
    let addresses: Vec<_> = (0..destinations).map(|nth| format!("10.{}.{}.1:7010", 1 + nth / 250, nth % 250)).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let mut lab = Lab { engine: Engine::new(harness::config(), [7; 32]), now: Duration::ZERO, out: Vec::new() };
    lab.handle(Input::Sets(harness::set_19(&addresses)));
    (0..destinations).for_each(|call| lab.call(&call.to_string()));
    let peer = PeerReport { node: "b".to_owned(), started: 1, ..lab.engine.report(lab.now()) };
    lab.handle(Input::Peers(&[peer]));
    let (mut taking, mut writing, mut text) = (Vec::new(), Vec::new(), String::new());
    for _ in 0..SCRAPES {
        let (snapshot, took) = timed(|| lab.engine.snapshot(lab.now()));
        taking.push(took);
        let (written, took) = timed(|| text_of(&snapshot));
        writing.push(took);
        text = written;
    }
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    let selected = text.matches("tandem_setup_seconds_count").count();
    assert_eq!(selected, destinations, "each has had a call");
    let [taking, writing] = [taking, writing].map(median);
    println!(
        "{destinations:>12} {series:>9} {:>11} {:>12} {:>10}",
        text.len(),
        taking.as_micros(),
        writing.as_micros()
    );
    let part = taking.as_secs_f64();
    assert!(destinations > 1000 || part <= MOST_OF_THREAD, "a scrape takes {:.1} % of the thread", part * 100.0);
}

/// Calls at 1,000 a second through an engine that is scraped each second, and the same through one that is not; both have 1,000
/// destinations beside the two that are called. The time of one call.
fn beside_calls() -> Duration {
    let calls = Player::record(CALLS * SECONDS);
    let [mut alone, mut scraped] = [(); 2].map(|()| Player::beside(1000));
    let (mut without, mut with, mut taking, mut writing) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (second, some) in calls.chunks(CALLS).enumerate() {
        let play = |player: &mut Player| {
            let play = || {
                for call in some {
                    player.next_call();
                    call.iter().for_each(|message| _ = player.play(message));
                }
            };
            timed(play).1
        };
        // Who is first changes, so that neither has warmer caches.
        if second % 2 == 0 {
            without.push(play(&mut alone));
        }
        with.push(play(&mut scraped));
        if second % 2 == 1 {
            without.push(play(&mut alone));
        }
        let (snapshot, took) = timed(|| scraped.snapshot());
        taking.push(took);
        // In a thread of its own, as in a node: its memory is not among the sessions'.
        let writer = thread::spawn(move || timed(|| text_of(&snapshot)).1);
        writing.push(writer.join().expect("it is written"));
    }
    let [without, with, taking, writing] = [without, with, taking, writing].map(median);
    let ratio = |one: Duration| one.as_secs_f64() / without.as_secs_f64();
    println!("1,000 calls, no scrape             {:>8} us   1.000", without.as_micros());
    println!("1,000 calls between scrapes        {:>8} us   {:.3}", with.as_micros(), ratio(with));
    println!("the snapshot, 1,002 destinations   {:>8} us   {:.3}", taking.as_micros(), ratio(taking));
    println!("the text, in another thread        {:>8} us   {:.3}", writing.as_micros(), ratio(writing));
    without / CALLS as u32
}

/// What one call makes the engine count, by the functions and on the types that it does: a choice, two responses of its destination,
/// its set-up, and the totals of six messages and one ending.
fn counting(call: Duration) {
    const TIMES: u32 = 1_000_000;
    let mut dispatch = Dispatch::new(vec![Policy::of(SetId(19))], 1);
    let now = Now { mono: Instant::ZERO, wall: SystemTime::UNIX_EPOCH };
    dispatch.replace(harness::set_19(&harness::SERVERS), now);
    let id = dispatch.view(&Nobody, now)[0].destinations[0].id;
    let (mut totals, mut setup) = (Totals::default(), Latency::default());
    let ((), took) = timed(|| {
        for time in 0..TIMES {
            dispatch.note_selection(black_box(id), black_box(Turn::Session), Choice::First);
            dispatch.note_response(black_box(id), black_box(100));
            dispatch.note_response(black_box(id), black_box(200));
            add(black_box(&mut setup), Duration::from_micros(u64::from(time % 5000)));
            let totals = black_box(&mut totals);
            totals.requests += 3;
            totals.responses += 3;
            totals.ended[black_box(0)] += 1;
        }
    });
    black_box((&dispatch, &totals, &setup));
    let each = took / TIMES;
    let part = each.as_secs_f64() / call.as_secs_f64();
    println!("one call                           {:>8} ns   1.000", call.as_nanos());
    println!("what is counted of it              {:>8} ns   {part:.4}", each.as_nanos());
    assert!(part <= MOST_OF_CALL, "counting takes {:.1} % of a call", part * 100.0);
}

/// As the engine adds a sample.
fn add(latency: &mut Latency, sample: Duration) {
    if let Some(bucket) = BOUNDS.iter().position(|bound| sample <= *bound) {
        latency.buckets[bucket] += 1;
    }
    latency.count += 1;
    latency.sum += sample;
    latency.mean = Some(latency.mean.map_or(sample, |mean| mean - mean / 8 + sample / 8));
}

/// The text of a node of a pair.
fn text_of(snapshot: &Snapshot) -> String {
    let edge = EdgeCounters::default();
    let peers = vec![("b".into(), Duration::from_millis(100))];
    let cluster = ClusterView { node: "a".into(), peers, rows_differ: 0, counters: ClusterCounters::default() };
    let queues = [Queue { name: "events", depth: 0, capacity: 8192 }];
    let (listeners, process, started) = (Listeners::default(), process::usage(), SystemTime::UNIX_EPOCH);
    let (edge, stores, cluster, queues) = (&edge, &[][..], Some(&cluster), &queues[..]);
    let (webhooks, stories) = (&[][..], StoryCounters::default());
    render(&View { snapshot, edge, stores, cluster, webhooks, listeners, queues, process, stories, started })
}

/// An engine with its clock, which stands still.
struct Lab {
    engine: Engine,
    now: Duration,
    out: Vec<Output>,
}

impl Lab {
    fn now(&self) -> Now {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + self.now;
        Now { mono: Instant::after_start(self.now), wall }
    }

    fn handle(&mut self, input: Input<'_>) {
        self.out.clear();
        self.engine.handle(input, self.now(), &mut self.out);
    }

    fn receive(&mut self, peer: SocketAddr, bytes: &[u8]) {
        let listener = ListenerId(u16::from(!peer.ip().is_loopback()));
        let flow = Flow { listener, transport: Transport::Udp, peer, connection: ConnectionId::default() };
        self.handle(Input::Received { flow, bytes });
    }

    /// A call that its destination answers a millisecond later.
    fn call(&mut self, id: &str) {
        self.now += Duration::from_millis(1);
        self.receive(CALLER.parse().expect("an address"), harness::invite(id).as_bytes());
        let sent = self.out.drain(..).find_map(|output| match output {
            Output::Send { flow, bytes } if bytes.starts_with(b"INVITE") => Some((flow, bytes.to_vec())),
            _ => None,
        });
        let (Flow { listener, peer, .. }, bytes) = sent.expect("somebody is fit");
        let sent = Sent { at: self.now, by: listener.0, to: peer, connection: 0, bytes };
        let contact = format!("Contact: <sip:{peer}>");
        self.now += Duration::from_millis(1);
        self.receive(peer, &sent.answer(200, "OK", &[&contact]));
    }
}

/// No session anywhere.
struct Nobody;

impl Load for Nobody {
    fn sessions(&self, _: DestinationId) -> u64 {
        0
    }

    fn asked(&self, _: DestinationId) -> Asked {
        Asked::default()
    }

    fn sessions_peak(&self, _: DestinationId) -> u64 {
        0
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = thread_time();
    let done = work();
    (done, thread_time() - began)
}

fn thread_time() -> Duration {
    Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock"))
}
