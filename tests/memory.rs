//! Memory returns to its start: 20,000 calls pass, all timers and lifetimes end, and what is allocated is what was before.
//! A binary of its own, since it counts every allocation of its process.

#[allow(dead_code, reason = "the other tests use more of it")]
mod harness;

use std::alloc::System;
use std::time::Duration;

use harness::{Bench, CALLER, in_dialog};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CALLS: usize = 20_000;

/// Time between ten calls and the next ten.
const PACE: Duration = Duration::from_millis(20);

/// Longer than any session's lifetime, and a whole turn of the timer wheel (64^5 ticks of a millisecond), so that its slots
/// are used alike in each round.
const ROUND: Duration = Duration::from_millis(1 << 30);

/// What tables may keep of their grown size: a fifth of a byte a call.
const SLACK: usize = 4096;

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
    let mut bench = Bench::with(|config| config.call_events = false);
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
