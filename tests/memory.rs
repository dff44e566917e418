//! Memory returns to its start: 20,000 calls pass, all timers and lifetimes end, and what is allocated is what was before.
//! And what one message costs grows with its length only. A binary of its own, since it counts every allocation of its process.

#[allow(dead_code, reason = "the other tests use more of it")]
mod harness;

use std::alloc::System;
use std::sync::Mutex;
use std::time::Duration;

use harness::{Bench, CALLER, SERVERS, in_dialog};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CALLS: usize = 20_000;

/// One test at a time: the counts are the whole process's.
static COUNTING: Mutex<()> = Mutex::new(());

/// Time between ten calls and the next ten.
const PACE: Duration = Duration::from_millis(20);

/// Longer than any session's lifetime, and a whole turn of the timer wheel (64^5 ticks of a millisecond), so that its slots
/// are used alike in each round.
const ROUND: Duration = Duration::from_millis(1 << 30);

/// Less than a byte a call: one of the parts of the table's maps may grow once more by chance.
const SLACK: usize = 16 << 10;

fn live_bytes() -> usize {
    let stats = COUNTED.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Calls of every kind: answered and ended, refused, cancelled, never answered, and never ended.
fn round(bench: &mut Bench, round: usize) {
    for number in 0..CALLS {
        let id = format!("{round}-{number}");
        match number % 8 {
            0 => {
                let invite = bench.call(&id);
                bench.receive(&invite.to.to_string(), invite.answer(486, "Busy Here", &[]));
            }
            1 => {
                bench.call(&id);
                bench.receive(CALLER, harness::invite(&id).replace("INVITE", "CANCEL").replace("-CANCEL;", "-INVITE;"));
            }
            2 => drop(bench.answered_call(&id)),
            _ => {
                let (invite, ok) = bench.answered_call(&id);
                bench.receive(CALLER, in_dialog("ACK", &ok, 1));
                let bye = bench.receive(CALLER, in_dialog("BYE", &ok, 2));
                bench.receive(&invite.to.to_string(), bye[0].answer(200, "OK", &[]));
            }
        }
        if number % 10 == 0 {
            bench.pass(PACE);
        }
    }
    bench.pass(ROUND - PACE * (CALLS / 10) as u32);
    bench.events = Vec::new();
}

#[test]
fn after_20_000_calls_and_their_timers_no_memory_is_kept() {
    let _alone = COUNTING.lock();
    let mut bench = Bench::with(|config| {
        config.call_events = false;
        // Every eighth call is answered 486, which would hold its server out.
        config.sets[0].judgement.observe.enabled = false;
    });
    // Tables grow to what this load asks for, and stay so.
    (0..3).for_each(|warm_up| round(&mut bench, warm_up));
    let start = live_bytes();
    round(&mut bench, 3);
    let end = live_bytes();
    let snapshot = bench.snapshot();
    assert_eq!((snapshot.transactions, snapshot.sessions), (0, 0));
    println!("memory: {start} bytes before {CALLS} calls, {end} after");
    assert!(end.abs_diff(start) <= SLACK, "{start} bytes before, {end} after");
}

/// The bytes that the engine allocates for one message from a caller and one from a destination, both about `size` long:
/// in place of `mark` stand `start`, `unit` again and again, and `end`. A `%` in `start` has half of the length.
fn allocated(mark: &str, start: &str, unit: &str, end: &str, size: usize) -> usize {
    let mut bench = Bench::with(|config| config.limits.header_lines = 65_535);
    let (invite, ok) = bench.answered_call("1");
    let half = size / 2;
    let repeated = unit.repeat(if start.contains('%') { half } else { size } / unit.len());
    let grown = format!("{}{repeated}{end}", start.replace('%', &"x".repeat(half)));
    let long = |text: String| text.replacen(mark, &grown, 1);
    let bye = long(in_dialog("BYE", &ok, 2));
    let outside = long(harness::invite("2"));
    let answer = long(String::from_utf8(invite.answer(200, "OK", &[])).expect("text"));
    let before = COUNTED.stats().bytes_allocated;
    bench.receive(CALLER, outside);
    bench.receive(CALLER, bye);
    bench.receive(SERVERS[0], answer);
    COUNTED.stats().bytes_allocated - before
}

#[test]
fn a_message_costs_memory_in_proportion_to_its_length_whatever_it_repeats() {
    let _alone = COUNTING.lock();
    let own = "Route: <sip:127.0.0.1:8060;lr;tdm=xwAAYQAAABPkgahASfBUTxF8Wz8>\r\n";
    for (mark, start, unit, end) in [
        ("Max-Forwards: 70\r\n", "", "X: y\r\n", "Max-Forwards: 70\r\n"),
        ("Max-Forwards: 70\r\n", "", "Via: SIP/2.0/UDP b;branch=z\r\n", "Max-Forwards: 70\r\n"),
        ("Max-Forwards: 70\r\n", "", "Proxy-Require: a\r\n", "Max-Forwards: 70\r\n"),
        ("Max-Forwards: 70\r\n", "", own, "Max-Forwards: 70\r\n"),
        // Each cookie is checked with the whole Call-ID.
        ("Call-ID: 1\r\n", "Call-ID: %\r\n", own, ""),
        ("Call-ID: 2\r\n", "Call-ID: %\r\n", own, ""),
        ("Max-Forwards: 70\r\n", "", "Route: <sip:10.129.39.88:7010;lr>\r\n", "Max-Forwards: 70\r\n"),
        (";rport", "", ";x=y", ";rport"),
        (";rport", ";rport,SIP/2.0/UDP b", ",SIP/2.0/UDP b", ""),
        ("Content-Length: 0\r\n\r\n", "Content-Length: 60000\r\n\r\n", "m=a\r\n", ""),
    ] {
        let [small, large] = [7_000, 56_000].map(|size| allocated(mark, start, unit, end, size));
        assert!(large <= small * 10 + (64 << 10), "{start:.20}{unit}: {small} bytes, then {large}");
    }
}
