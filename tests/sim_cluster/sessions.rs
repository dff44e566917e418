//! How many sessions each node counts in the cluster, held against how many there are; and how far a limit is exceeded by nodes
//! that are asked at once.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use fastrand::Rng;
use tandem::engine::dispatch::{Capacity, Policy, SessionPolicy};

use super::gossip::{HOP, INTERVAL};
use super::views::plan_moves;
use super::world::{Deed, SET, Size, Step, World, seconds};
use crate::sim::client::T1;

/// Calls begin for so long.
const BUSY: Duration = Duration::from_secs(40);
/// Then all hang up, in their time.
const LONGEST_HOLD: Duration = Duration::from_secs(15);
/// Sessions that nobody can have ended count no longer.
const MAX_DURATION: Duration = Duration::from_secs(60);
/// What a caller, a server or a proxy waits for has come, or never will.
const PATIENCE: Duration = Duration::from_secs(40);
/// A node's round, the way to another, and that one's round: by then it counts what the first has.
const NEWS: Duration = INTERVAL.saturating_add(HOP).saturating_add(INTERVAL);

/// How often what was checked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// A node's number against the truth.
    counts: u64,
    /// Those that were of sessions at several nodes.
    apart: u64,
    /// Against the truth's bound, once nodes had died.
    bounds: u64,
    /// Calls given out beyond a limit.
    over: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: Tally) {
        self.counts += other.counts;
        self.apart += other.apart;
        self.bounds += other.bounds;
        self.over += other.over;
    }
}

fn policy() -> Policy {
    let session = SessionPolicy { max_duration: Some(MAX_DURATION), ..SessionPolicy::default() };
    Policy { session, ..Policy::of(SET) }
}

struct Sessions {
    world: World,
    /// When nodes, links or addresses last came or went.
    moved: Duration,
    /// Sessions that nobody may know of: the nodes that had them died before they could tell.
    lost: usize,
    /// Whether a node has died.
    died: bool,
    /// Whether one has died whom nobody had heard.
    unknown: bool,
    tally: Tally,
}

/// Calls through addresses that move while links are cut and, in some runs, nodes die.
pub(super) fn run(seed: u64, nodes: usize) -> Tally {
    let mut rng = Rng::with_seed(seed ^ 0x7365_7373);
    let size = Size { nodes, servers: rng.usize(1..=2), vips: rng.usize(1..=2) };
    let dead_after = seconds([1, 3][rng.usize(..2)]);
    let name = format!("seed {seed} of {nodes} nodes' sessions");
    let mut world = World::new(name, &mut rng, size, policy(), dead_after);
    let calls = rng.usize(5..60);
    for _ in 0..calls {
        let at = Duration::from_millis(rng.u64(500..BUSY.as_millis() as u64));
        let to = if rng.u8(..4) > 0 { Ok(rng.usize(..world.vips.len())) } else { Err(rng.usize(..nodes)) };
        let hold = Duration::from_millis(rng.u64(100..LONGEST_HOLD.as_millis() as u64));
        world.plan_call(at, to, hold);
    }
    let moves = rng.usize(..8);
    plan_moves(&mut world, &mut rng, moves, BUSY);
    for _ in 0..rng.usize(..4) {
        let (one, other) = (rng.usize(..nodes), rng.usize(..nodes));
        let at = Duration::from_millis(rng.u64(500..30_000));
        if one != other {
            world.plan(at, Deed::Cut(one, other, true));
            world.plan(at + Duration::from_millis(rng.u64(50..8000)), Deed::Cut(one, other, false));
        }
    }
    if rng.bool() {
        for _ in 0..rng.usize(1..4) {
            let (node, at) = (rng.usize(..nodes), Duration::from_millis(rng.u64(3000..30_000)));
            world.plan(at, Deed::Kill(node));
            world.plan(at + Duration::from_millis(rng.u64(1100..9000)), Deed::Start(node));
            // keepalived takes its addresses elsewhere.
            for vip in 0..world.vips.len() {
                world.plan(at + seconds(1), Deed::Hold(vip, vec![(node + 1) % nodes]));
            }
        }
    }
    (0..nodes).for_each(|node| world.plan(BUSY, Deed::Start(node)));
    let end = BUSY + LONGEST_HOLD + PATIENCE;
    let mut at = seconds(1);
    while at < end {
        world.plan(at, Deed::Look);
        at += Duration::from_millis(170);
    }
    let (moved, tally) = (Duration::ZERO, Tally::default());
    let mut sessions = Sessions { world, moved, lost: 0, died: false, unknown: false, tally };
    sessions.run(end);
    if !sessions.died {
        sessions.is_over();
    }
    sessions.run(end + MAX_DURATION + seconds(5));
    sessions.is_over();
    super::is_empty(&sessions.world);
    sessions.tally
}

impl Sessions {
    fn run(&mut self, end: Duration) {
        while let Some(step) = self.world.step(end) {
            let Step::Deed(deed) = step else { continue };
            match deed {
                Deed::Look => self.look(),
                Deed::Kill(node) => {
                    self.moved = self.world.net.now;
                    self.note_death(node);
                }
                _ => self.moved = self.world.net.now,
            }
        }
    }

    /// What a node that has just died had not told yet, as far as its sessions had changed of late; or all, if nobody had heard
    /// it.
    fn note_death(&mut self, node: usize) {
        let World { net, nodes, gossip, passed, .. } = &self.world;
        self.died = true;
        let heir = |other: &usize| *other != node && net.now > nodes[*other].born + gossip.dead_after + NEWS;
        self.unknown |= gossip.is_cut() || !self.world.running().iter().any(heir);
        let late = |(at, by, _): &&(Duration, usize, String)| *by == node && *at + NEWS + HOP >= net.now;
        let late: BTreeSet<_> = passed.iter().filter(late).map(|(_, _, call)| call).collect();
        self.lost += late.len();
    }

    /// Each node counts what there is, where nothing has changed for so long that all have told it.
    fn look(&mut self) {
        let World { net, gossip, servers, calls, vips, nodes, busy, .. } = &self.world;
        let calm = net.now > self.moved + gossip.dead_after + NEWS * 2 && net.now > *busy + NEWS * 2;
        let waits = calls.iter().any(|call| call.waits()) || servers.iter().any(|server| server.waits());
        let held = vips.iter().all(|holders| matches!(holders[..], [node] if nodes[node].engine.is_some()));
        if !calm || waits || !held || gossip.is_cut() {
            return;
        }
        let unsure = unsure(&self.world);
        for node in self.world.running() {
            for (view, server) in self.world.views(node).iter().zip(servers) {
                let (counted, truth) = (view.sessions + view.elsewhere, server.live().len() as u64);
                let told = || format!("node {node} counts {} and {}, of {truth}", view.sessions, view.elsewhere);
                let unsure = unsure.iter().filter(|call| server.live().contains(**call)).count() as u64;
                if !self.died {
                    self.tally.counts += 1;
                    self.tally.apart += u64::from(view.sessions > 0 && view.elsewhere > 0);
                    self.world.hold_true(counted <= truth && counted + unsure >= truth, told);
                } else if !self.unknown && net.now < BUSY + LONGEST_HOLD {
                    self.tally.bounds += 1;
                    let least = truth.saturating_sub(self.lost as u64 + unsure);
                    self.world.hold_true(counted >= least, || format!("{}, but for {}", told(), self.lost));
                }
            }
        }
    }

    /// Nobody counts anything.
    fn is_over(&self) {
        for node in self.world.running() {
            for view in self.world.views(node) {
                let nothing = view.sessions + view.elsewhere == 0;
                self.world
                    .hold_true(nothing, || format!("node {node} counts {} and {}", view.sessions, view.elsewhere));
            }
        }
    }
}

/// Sessions that no node may count until it hears of them again, each since an address moved in the midst of a request: the
/// node that had the request has told that it has taken the session over, and lets it go with the answer that another
/// gets; or the 200 has come to the node that began it when it had forgotten it; or one of two dialogs has ended at a node
/// that knows of neither.
fn unsure(world: &World) -> BTreeSet<&str> {
    let World { calls, passed, .. } = world;
    let mut unsure: BTreeSet<&str> = calls.iter().filter(|call| call.unsure).map(|call| &*call.id).collect();
    let mut last: HashMap<&str, (Duration, usize)> = HashMap::new();
    for (at, node, call) in passed {
        let before = last.insert(call, (*at, *node));
        if before.is_some_and(|(before, other)| other != *node && *at < before + T1) {
            unsure.insert(call);
        }
    }
    unsure
}

/// Nodes that are all asked at once give out no more than the limit and what the others do until they hear of each other.
pub(super) fn run_limit(seed: u64, nodes: usize) -> Tally {
    let mut rng = Rng::with_seed(seed ^ 0x6c69_6d69);
    let limit = rng.u32(2..20);
    let size = Size { nodes, servers: rng.usize(1..=2), vips: 1 };
    let mut policy = policy();
    policy.capacity = Capacity { max_sessions: Some(limit), ..Capacity::default() };
    let name = format!("seed {seed} of {nodes} nodes' limit of {limit}");
    let mut world = World::new(name, &mut rng, size, policy, seconds(1));
    let end = seconds(20);
    let step = Duration::from_millis([20, 100, 300][rng.usize(..3)]);
    let mut at = Duration::from_millis(300);
    while at < end {
        world.plan_call(at, Err(rng.usize(..nodes)), Duration::from_millis(rng.u64(100..6000)));
        at += step.mul_f64(2.0 * rng.f64());
    }
    let mut healed = Duration::ZERO;
    if rng.bool() {
        let at = Duration::from_millis(rng.u64(1000..10_000));
        healed = at + Duration::from_millis(rng.u64(100..6000));
        for other in 1..nodes {
            world.plan(at, Deed::Cut(0, other, true));
            world.plan(healed, Deed::Cut(0, other, false));
        }
    }
    let mut tally = Tally::default();
    // What was given out while they were apart has to end first.
    let mut owed = vec![healed > Duration::ZERO; world.servers.len()];
    while world.step(end).is_some() {
        let now = world.net.now;
        for admitted in std::mem::take(&mut world.admitted) {
            world.recently.push(admitted);
            let sessions = (0..nodes).map(|node| world.views(node)[admitted.server].sessions);
            let all: u64 = sessions.sum();
            let at_once = world
                .recently
                .iter()
                .filter(|one| one.server == admitted.server && one.node != admitted.node && one.at + NEWS >= now);
            let (at_once, limit) = (at_once.count() as u64, u64::from(limit));
            owed[admitted.server] &= now < healed + NEWS || all > limit;
            tally.counts += 1;
            tally.over += u64::from(all > limit);
            let most = if owed[admitted.server] { limit * nodes as u64 } else { limit + at_once };
            world.hold_true(all <= most, || format!("{all} sessions, {at_once} given out at once"));
        }
        world.recently.retain(|one| one.at + NEWS >= now);
    }
    tally
}
