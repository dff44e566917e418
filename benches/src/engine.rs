//! Parsing, forwarding, planning and one call through the engine, beside a floor that no proxy can pass.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::SystemTime;

use divan::{AllocProfiler, Bencher};
use tandem::engine::dispatch::{
    Algorithm, Asked, DestinationId, Dispatch, Load, Plan, Policy, Row, RowState, Set, SetId, Sets, Turn,
};
use tandem::engine::flow::Transport;
use tandem::engine::sip::{Message, Resources};
use tandem::engine::{Instant, Now};
use tandem_benches::{ACK, Call, INVITE, MESSAGES, OK, Player};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

/// Calls that are written down; then the same ones begin again in a new engine.
const CALLS: usize = 20_000;

fn main() {
    divan::main();
}

#[divan::bench(sample_count = 500, sample_size = 100)]
fn parse_invite() -> bool {
    Message::parse(black_box(INVITE.as_bytes())).is_ok()
}

#[divan::bench(sample_count = 500, sample_size = 100)]
fn parse_200() -> bool {
    Message::parse(black_box(OK.as_bytes())).is_ok()
}

#[divan::bench(sample_count = 500, sample_size = 100)]
fn parse_ack(bencher: Bencher<'_, '_>) {
    let (_, ack) = &Player::record(1)[0][ACK];
    bencher.bench_local(|| Message::parse(black_box(ack)).is_ok());
}

/// An ACK inside its dialog, over and over, with warm caches: parsed, checked, routed and written anew. It has no transaction,
/// so that what it takes above `parse_ack` is what forwarding takes.
#[divan::bench(sample_count = 500, sample_size = 100)]
fn forward_ack(bencher: Bencher<'_, '_>) {
    let call = &Player::record(1)[0];
    let mut player = Player::new();
    player.next_call();
    call[..ACK].iter().for_each(|message| _ = player.play(message));
    assert_eq!(player.play(&call[ACK]), 1, "an ACK goes on");
    bencher.bench_local(|| player.play(black_box(&call[ACK])));
}

#[divan::bench(args = [2, 10, 100], consts = [4, 6, 8])]
fn plan<const ALGORITHM: u32>(bencher: Bencher<'_, '_>, destinations: u16) {
    let algorithm = Algorithm::ALL.into_iter().find(|one| one.number() == Some(ALGORITHM)).expect("a number of ours");
    let mut dispatch = Dispatch::new(vec![Policy { algorithm, ..Policy::of(SetId(19)) }], 1);
    let row = |port: u16| Row {
        row: i64::from(port),
        uri: format!("sip:10.0.0.1:{port}"),
        address: ([10, 0, 0, 1], port).into(),
        transport: Transport::Udp,
        socket: None,
        weight: 1 + u32::from(port % 7),
        priority: 100,
        state: RowState::Active,
        attrs: String::new(),
        description: String::new(),
    };
    let now = Now { mono: Instant::ZERO, wall: SystemTime::UNIX_EPOCH };
    dispatch.replace(Sets(vec![Set { id: SetId(19), rows: (1..=destinations).map(row).collect() }]), now);
    let mut plan = Plan::default();
    // A plan's memory is used again; the first one gets it.
    dispatch.plan(SetId(19), Turn::Session, Resources::NONE, &Nobody, now.mono, &mut plan);
    bencher.bench_local(|| {
        dispatch.plan(SetId(19), Turn::Session, Resources::NONE, &Nobody, now.mono, black_box(&mut plan))
    });
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

/// The whole call, with the timers that fire meanwhile for those before it.
#[divan::bench(sample_count = 200, sample_size = 100)]
fn call(bencher: Bencher<'_, '_>) {
    let calls = Player::record(CALLS);
    let (mut player, mut next) = (Player::new(), 0);
    bencher.bench_local(|| {
        // Once in 20,000 calls, so it does not count.
        if next == CALLS {
            (player, next) = (Player::new(), 0);
        }
        player.next_call();
        calls[next].iter().for_each(|message| _ = player.play(message));
        next += 1;
    });
}

/// The same call with tracing: none, of another call that somebody asks for, of one call in a hundred, of all.
#[divan::bench(sample_count = 200, sample_size = 100, args = ["off", "another", "1 %", "all"])]
fn call_traced(bencher: Bencher<'_, '_>, which: &str) {
    let calls = Player::record(CALLS);
    let player = || {
        let mut player = Player::tracing(match which {
            "1 %" => 10_000,
            "all" => 1_000_000,
            _ => 0,
        });
        if which == "another" {
            player.ask_for_another();
        }
        player
    };
    let (mut now, mut next) = (player(), 0);
    bencher.bench_local(|| {
        if next == CALLS {
            (now, next) = (player(), 0);
        }
        now.next_call();
        calls[next].iter().for_each(|message| _ = now.play(message));
        next += 1;
    });
}

/// One kind of message alone; the others of its call pass before and after, unmeasured.
#[divan::bench(args = MESSAGES, sample_count = 5000, sample_size = 1)]
fn message(bencher: Bencher<'_, '_>, name: &str) {
    let kind = MESSAGES.iter().position(|one| *one == name).expect("a name of ours");
    let calls = Player::record(5001);
    let player = std::cell::RefCell::new(Player::new());
    let mut next = 0;
    let play =
        |call: &Call, from: usize, to: usize| call[from..to].iter().for_each(|one| _ = player.borrow_mut().play(one));
    bencher
        .with_inputs(|| {
            if let Some(before) = usize::checked_sub(next, 1) {
                play(&calls[before], kind + 1, MESSAGES.len());
            }
            player.borrow_mut().next_call();
            play(&calls[next], 0, kind);
            next += 1;
            next - 1
        })
        .bench_local_values(|number| player.borrow_mut().play(&calls[number][kind]));
}

/// The floor: every message of the call copied once, and looked up once by its Call-ID.
#[divan::bench(sample_count = 200, sample_size = 100)]
fn floor_of_call(bencher: Bencher<'_, '_>) {
    let calls = Player::record(1000);
    let ids: Vec<&[u8]> = calls.iter().map(call_id).collect();
    let table: HashMap<&[u8], usize> = ids.iter().enumerate().map(|(number, id)| (*id, number)).collect();
    let mut next = 0;
    bencher.bench_local(|| {
        let (call, id) = (&calls[next % calls.len()], ids[next % calls.len()]);
        next += 1;
        for (_, bytes) in call {
            black_box(black_box(bytes).to_vec());
            black_box(table.get(black_box(id)));
        }
    });
}

fn call_id(call: &Call) -> &[u8] {
    let bytes = &call[0].1;
    let at = bytes.windows(9).position(|part| part == b"Call-ID: ").expect("a real INVITE") + 9;
    &bytes[at..at + 36]
}
