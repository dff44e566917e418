//! Orders that people give at whatever node, by clocks that differ, beside a table whose word changes: in the end all nodes obey
//! the same.

use std::time::Duration;

use fastrand::Rng;
use tandem::engine::dispatch::{Order, Policy, RowState, Standing};

use super::world::{Deed, SET, Size, Step, World, seconds};

/// While people give orders and links are cut.
const BUSY: Duration = Duration::from_secs(12);
/// The table has spoken its last by then, and all have read it.
const READ: Duration = Duration::from_secs(15);
/// All have heard of each other again.
const SETTLED: Duration = Duration::from_secs(20);

/// Orders, reloads and cuts by lot.
pub(super) fn run(seed: u64, nodes: usize) {
    let mut rng = Rng::with_seed(seed ^ 0x6f72_6465);
    let size = Size { nodes, servers: rng.usize(1..=2), vips: 1 };
    let dead_after = seconds([1, 3][rng.usize(..2)]);
    let name = format!("seed {seed} of {nodes} nodes' orders");
    let mut world = World::new(name, &mut rng, size, Policy::of(SET), dead_after);
    let servers = world.servers.len();
    let at = |rng: &mut Rng| Duration::from_millis(rng.u64(500..BUSY.as_millis() as u64));
    for _ in 0..rng.usize(1..10) {
        let order = Order::ALL[rng.usize(..3)];
        let (when, node, server) = (at(&mut rng), rng.usize(..nodes), rng.usize(..servers));
        world.plan(when, Deed::Order(node, server, order));
    }
    for _ in 0..rng.usize(..5) {
        let (one, other, from) = (rng.usize(..nodes), rng.usize(..nodes), at(&mut rng));
        if one != other {
            world.plan(from, Deed::Cut(one, other, true));
            world.plan((from + Duration::from_millis(rng.u64(100..9000))).min(BUSY), Deed::Cut(one, other, false));
        }
    }
    let dies = rng.u8(..3) == 0;
    if dies {
        let (node, from) = (rng.usize(..nodes), at(&mut rng));
        world.plan(from, Deed::Kill(node));
        world.plan(from + Duration::from_millis(rng.u64(1100..5000)), Deed::Start(node));
    }
    let speaks = rng.bool();
    if speaks {
        for _ in 0..rng.usize(1..4) {
            let (from, server) = (at(&mut rng), rng.usize(..servers));
            world.plan(from, Deed::Table(server, RowState::ALL[rng.usize(..3)]));
            for node in 0..nodes {
                // One that can't read it reads it later.
                let wait = if rng.u8(..4) > 0 { 2500 } else { 12_000 };
                world.plan((from + Duration::from_millis(rng.u64(1..wait))).min(READ), Deed::Reload(node));
            }
        }
    }
    for node in 0..nodes {
        world.plan(BUSY + seconds(1), Deed::Start(node));
        world.plan(READ, Deed::Reload(node));
    }
    // Some time later somebody gives one more.
    let last = rng.bool().then(|| (rng.usize(..nodes), rng.usize(..servers)));
    if let Some((node, server)) = last {
        world.plan(READ + Duration::from_millis(rng.u64(1000..4000)), Deed::Order(node, server, Order::Drain));
    }
    let mut given: Vec<(usize, Standing)> = Vec::new();
    while let Some(step) = world.step(SETTLED) {
        if let Step::Deed(Deed::Order(node, server, order)) = step
            && let Some(view) = world.views(node).into_iter().nth(server)
        {
            world.hold_true(view.standing.order == order, || format!("node {node} was told {order:?}: {view:?}"));
            given.push((server, view.standing));
        }
    }
    for server in 0..servers {
        let standing = |node: usize| world.views(node).swap_remove(server).standing;
        let first = standing(0);
        for node in 1..nodes {
            let other = standing(node);
            world.hold_true(first == other || !first.is_by_hand() && !other.is_by_hand(), || {
                format!("node 0 obeys {first:?}, node {node} {other:?}, of {given:?}")
            });
        }
        let newest = given.iter().filter(|(of, _)| *of == server).map(|(_, standing)| standing);
        let newest = newest.max_by_key(|standing| standing.at);
        if !speaks && let Some(newest) = newest {
            world.hold_true(first.at == newest.at, || format!("all obey {first:?} and not {newest:?}"));
        }
        if last.is_some_and(|(_, of)| of == server) {
            world.hold_true(first.order == Order::Drain, || format!("the last of {given:?} was no use: {first:?}"));
        }
    }
}
