//! What each node makes of what all see, held against the rule of the set at every round of every node; that all nodes agree
//! once all is well; and that a bad minority has no say.

use std::collections::HashMap;
use std::time::Duration;

use fastrand::Rng;
use tandem::engine::dispatch::{
    Check, CheckKind, Failover, Fitness, Health, InitState, Judgement, Observe, Policy, Probing, SessionPolicy,
    SipProbe, VerdictRule,
};
use tandem::engine::snapshot::DestinationView;

use super::gossip::{HOP, INTERVAL};
use super::server::Manner;
use super::world::{Deed, SET, Size, Step, Worked, World, seconds};

/// While links are cut, nodes die and destinations are ill.
const BAD: Duration = Duration::from_secs(25);
/// Within this time all that are well are found to be: the longest ejection, a probe's rise, and what calls take.
const HEALED: Duration = Duration::from_secs(20);
/// All is well for so long.
const WELL: Duration = Duration::from_secs(8);

/// How often what was checked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// A node's verdict against the rule.
    verdicts: u64,
    /// Those that were not what the node would have said alone.
    outvoted: u64,
    /// That all agree, where not all see the same.
    agreements: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: Tally) {
        self.verdicts += other.verdicts;
        self.outvoted += other.outvoted;
        self.agreements += other.agreements;
    }

    pub(super) fn is_vain(self) -> bool {
        self.verdicts == 0 || self.outvoted == 0 || self.agreements == 0
    }
}

/// A vote as it was published.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Told {
    health: Health,
    by_calls: bool,
    /// When it turned so.
    turned: Duration,
    /// Since when it is told.
    since: Duration,
}

struct Views {
    world: World,
    told: HashMap<(usize, usize), Told>,
    /// When nodes or links last came or went.
    moved: Duration,
    /// When each node's gossip last stood still.
    deafened: Vec<Duration>,
    healed: Duration,
    tally: Tally,
}

fn policy(rng: &mut Rng, verdict: VerdictRule) -> Policy {
    let mut check = Check::new(CheckKind::Sip(SipProbe::default()));
    check.interval = seconds(rng.u64(1..=2));
    (check.down_interval, check.timeout) = (seconds(1), Duration::from_millis([500, 1000][rng.usize(..2)]));
    (check.fall, check.rise) = (rng.u32(1..=3), rng.u32(1..=3));
    let probed = rng.u8(..3) > 0;
    let init_state = [InitState::Up, InitState::Up, InitState::Unknown][rng.usize(..3)];
    let checks = if probed { vec![check] } else { Vec::new() };
    let failover = Failover { first_response_timeout: seconds(1), final_timeout: seconds(3), ..Failover::default() };
    let observe = Observe {
        enabled: !probed || rng.bool(),
        consecutive_failures: rng.u32(1..=3),
        base_ejection_time: seconds(rng.u64(1..=5)),
        max_ejection_time: seconds(10),
        ..Observe::default()
    };
    Policy {
        failover,
        probing: Probing { checks, init_state, ..Probing::default() }.into(),
        judgement: Judgement { observe, ..Judgement::default() },
        session: SessionPolicy { max_duration: Some(seconds(60)), ..SessionPolicy::default() },
        verdict,
        ..Policy::of(SET)
    }
}

fn manner(rng: &mut Rng) -> Manner {
    [Manner::Up, Manner::Up, Manner::Dead, Manner::Mute, Manner::Hung][rng.usize(..5)]
}

/// Calls to the addresses that move, and to each node's own.
fn plan_calls(world: &mut World, rng: &mut Rng, nodes: usize, end: Duration) {
    let step = Duration::from_millis([150, 400, 1500][rng.usize(..3)]);
    let mut at = Duration::from_millis(500);
    while at < end {
        let vips = world.vips.len();
        let to = if rng.u8(..3) > 0 { Ok(rng.usize(..vips)) } else { Err(rng.usize(..nodes)) };
        world.plan_call(at, to, Duration::from_millis(rng.u64(100..4000)));
        at += step.mul_f64(0.2 + 1.6 * rng.f64());
    }
}

/// Addresses move, now and then with nobody or two at them for a while.
pub(super) fn plan_moves(world: &mut World, rng: &mut Rng, moves: usize, end: Duration) {
    let nodes = world.nodes.len();
    for _ in 0..moves {
        let (vip, at) = (rng.usize(..world.vips.len()), Duration::from_millis(rng.u64(500..end.as_millis() as u64)));
        let (before, holder) = (rng.usize(..nodes), rng.usize(..nodes));
        let gap = at + Duration::from_millis(rng.u64(10..1500));
        match rng.u8(..3) {
            0 => world.plan(at, Deed::Hold(vip, Vec::new())),
            1 if before != holder => world.plan(at, Deed::Hold(vip, vec![before, holder])),
            _ => {}
        }
        world.plan(gap, Deed::Hold(vip, vec![holder]));
    }
}

/// A time of chaos, and then all that was cut is whole.
fn plan_chaos(world: &mut World, rng: &mut Rng) {
    let (nodes, servers) = (world.nodes.len(), world.servers.len());
    let at = |rng: &mut Rng| Duration::from_millis(rng.u64(500..BAD.as_millis() as u64));
    let until = |rng: &mut Rng, at: Duration| (at + Duration::from_millis(rng.u64(100..12_000))).min(BAD);
    for _ in 0..rng.usize(..6) {
        let (one, other, from) = (rng.usize(..nodes), rng.usize(..nodes), at(rng));
        if one != other {
            world.plan(from, Deed::Cut(one, other, true));
            world.plan(until(rng, from), Deed::Cut(one, other, false));
        }
    }
    // One alone.
    if rng.bool() {
        let (alone, from) = (rng.usize(..nodes), at(rng));
        let whole = until(rng, from);
        for other in (0..nodes).filter(|other| *other != alone) {
            world.plan(from, Deed::Cut(alone, other, true));
            world.plan(whole, Deed::Cut(alone, other, false));
        }
    }
    for _ in 0..rng.usize(..4) {
        let (node, server, from) = (rng.usize(..nodes), rng.usize(..servers), at(rng));
        world.plan(from, Deed::CutOff(node, server, true));
        world.plan(until(rng, from), Deed::CutOff(node, server, false));
    }
    for _ in 0..rng.usize(..3) {
        let (node, from) = (rng.usize(..nodes), at(rng));
        let (down, up) = if rng.bool() {
            (Deed::Kill(node), Deed::Start(node))
        } else {
            (Deed::Deaf(node, true), Deed::Deaf(node, false))
        };
        world.plan(from, down);
        world.plan((from + Duration::from_millis(rng.u64(1500..9000))).min(BAD + seconds(2)), up);
    }
    for server in 0..servers {
        for _ in 0..rng.usize(..5) {
            world.plan(at(rng), Deed::Manner(server, manner(rng)));
        }
        world.plan(BAD, Deed::Manner(server, manner(rng)));
    }
    (0..nodes).for_each(|node| world.plan(BAD + seconds(2), Deed::Start(node)));
}

/// A cluster in a bad world, and then in a steady one.
pub(super) fn run(seed: u64, nodes: usize) -> Tally {
    let mut rng = Rng::with_seed(seed ^ 0x7669_6577);
    let verdict = [
        VerdictRule::AnyDown,
        VerdictRule::AnyDown,
        VerdictRule::AnyDown,
        VerdictRule::Majority,
        VerdictRule::Majority,
        VerdictRule::AnyUp,
        VerdictRule::Own,
    ][rng.usize(..7)];
    let policy = policy(&mut rng, verdict);
    let size = Size { nodes, servers: rng.usize(1..=3), vips: rng.usize(1..=2) };
    let dead_after = seconds([1, 3][rng.usize(..2)]);
    let mut world = World::new(format!("seed {seed} of {nodes} nodes' views"), &mut rng, size, policy, dead_after);
    let end = BAD + HEALED + WELL;
    plan_calls(&mut world, &mut rng, nodes, end);
    let moves = rng.usize(..6);
    plan_moves(&mut world, &mut rng, moves, BAD);
    plan_chaos(&mut world, &mut rng);
    if verdict == VerdictRule::Majority && rng.bool() {
        (0..nodes).filter(|_| rng.u8(..3) == 0).for_each(|node| world.nodes[node].lies = true);
    }
    let mut views = Views::new(world, BAD + seconds(2) + dead_after + HOP + INTERVAL * 2);
    views.run(end);
    views.find_the_well();
    // Then every session is over, and whatever waits has its answer.
    let empty = end + seconds(240);
    views.world.silent = true;
    while views.world.step(empty).is_some() {}
    super::is_empty(&views.world);
    views.tally
}

/// Nodes that lie, or that do not reach a destination which is well, are fewer than the others: the others never leave it.
pub(super) fn run_minority(seed: u64, nodes: usize) {
    let mut rng = Rng::with_seed(seed ^ 0x6d69_6e6f);
    let mut policy = policy(&mut rng, VerdictRule::Majority);
    let mut probing = Probing::clone(&policy.probing);
    (probing.init_state, probing.checks) = (InitState::Up, vec![Check::new(CheckKind::Sip(SipProbe::default()))]);
    probing.checks[0].interval = seconds(1);
    policy.probing = probing.into();
    let size = Size { nodes, servers: 2, vips: 1 };
    let mut world = World::new(format!("seed {seed} of {nodes} nodes' minority"), &mut rng, size, policy, seconds(1));
    let end = seconds(15);
    plan_calls(&mut world, &mut rng, nodes, end);
    // No address moves: two nodes that hold one would each miss answers, and be bad ones themselves.
    for _ in 0..4 {
        let at = Duration::from_millis(rng.u64(..15_000));
        world.plan(at, Deed::Manner(1, manner(&mut rng)));
    }
    let mut bad: Vec<usize> = (0..nodes).collect();
    rng.shuffle(&mut bad);
    bad.truncate((nodes - 1) / 2);
    for &node in &bad {
        match rng.bool() {
            true => world.nodes[node].lies = true,
            false => world.plan(Duration::ZERO, Deed::CutOff(node, 0, true)),
        }
    }
    // A node that has just started may have heard of the bad ones only.
    let known = INTERVAL + HOP;
    while let Some(step) = world.step(end) {
        let node = match step {
            Step::Round(node) if world.net.now > known && !bad.contains(&node) => node,
            Step::Round(_) | Step::Deed(_) | Step::Other => continue,
        };
        let view = &world.views(node)[0];
        world.hold_true(view.fitness.is_fit(), || format!("{bad:?} take it out at {node}: {view:?}"));
    }
}

impl Views {
    fn new(world: World, healed: Duration) -> Self {
        let deafened = vec![Duration::ZERO; world.nodes.len()];
        Views { world, told: HashMap::new(), moved: Duration::ZERO, deafened, healed, tally: Tally::default() }
    }

    fn run(&mut self, end: Duration) {
        while let Some(step) = self.world.step(end) {
            match step {
                Step::Round(node) => {
                    self.note_told(node);
                    self.check(node);
                    if node == 0 && self.world.net.now > self.healed {
                        self.agree();
                    }
                }
                Step::Deed(Deed::Deaf(node, true)) => {
                    self.deafened[node] = self.world.net.now;
                    self.moved = self.world.net.now;
                }
                Step::Deed(Deed::Cut(..) | Deed::Kill(_) | Deed::Start(_) | Deed::Deaf(..)) => {
                    self.moved = self.world.net.now;
                }
                Step::Deed(_) | Step::Other => {}
            }
        }
    }

    /// Takes note of what a node has just told.
    fn note_told(&mut self, node: usize) {
        let Some(published) = self.world.gossip.published(node) else { return };
        for told in &published.report.destinations {
            let server = self.world.servers.iter().position(|server| server.address == told.address);
            let server = server.expect("one of ours");
            let turned = published.at.saturating_sub(told.lasted);
            let new = Told { health: told.health, by_calls: told.by_calls, turned, since: self.world.net.now };
            let old = self.told.entry((node, server)).or_insert(new);
            let same =
                (old.health, old.by_calls) == (new.health, new.by_calls) && old.turned.abs_diff(turned) <= INTERVAL;
            if !same {
                *old = new;
            }
        }
    }

    /// A node's verdict is the rule's, on what all whom it reaches have told long enough ago.
    fn check(&mut self, node: usize) {
        let World { gossip, nodes, net, policy, worked, .. } = &self.world;
        if nodes[node].engine.is_none() {
            return;
        }
        let (component, hops) = gossip.component(node);
        let settled = HOP * hops + INTERVAL;
        let quiet = if nodes[node].deaf { policy.view_ttl + INTERVAL } else { gossip.dead_after + settled };
        if net.now < self.moved + quiet || nodes[node].deaf && net.now < self.deafened[node] + quiet {
            return;
        }
        for view in self.world.views(node) {
            let server = self.world.server_of(&view);
            let others = component.iter().filter(|other| **other != node);
            let others: Option<Vec<Told>> = others.map(|other| self.told.get(&(*other, server)).copied()).collect();
            let Some(others) = others.filter(|all| all.iter().all(|told| told.since + settled <= net.now)) else {
                continue;
            };
            let worked = worked.get(&(node, server)).copied().unwrap_or_default();
            let Some(expected) = is_in(policy.verdict, view.health, &others, worked) else { continue };
            self.tally.verdicts += 1;
            self.tally.outvoted += u64::from(expected != (view.health != Health::Down));
            self.world.hold_true(expected == says(&view), || {
                format!("node {node} makes of {others:?} and its own, {worked:?}, by {:?}: {view:?}", policy.verdict)
            });
        }
    }

    /// All nodes agree on every destination, two intervals after all have found it to be as it is.
    fn agree(&mut self) {
        let World { net, policy, servers, nodes, worked, .. } = &self.world;
        if policy.verdict == VerdictRule::Own {
            return;
        }
        let all: Vec<Vec<DestinationView>> = (0..nodes.len()).map(|node| self.world.views(node)).collect();
        for (server, found) in servers.iter().enumerate() {
            let views: Vec<&DestinationView> = all.iter().map(|views| &views[server]).collect();
            let told: Option<Vec<Told>> =
                (0..nodes.len()).map(|node| self.told.get(&(node, server)).copied()).collect();
            let Some(told) = told.filter(|all| all.iter().all(|told| told.since + HOP + INTERVAL <= net.now)) else {
                continue;
            };
            let now_so = |node: usize| nodes[node].lies || views[node].health == told[node].health;
            let late = |node: usize| {
                let worked = worked.get(&(node, server)).copied().unwrap_or_default();
                is_in(policy.verdict, views[node].health, &told, worked).is_none()
            };
            let undetected = found.manner == Manner::Up && views.iter().any(|view| view.health == Health::Down);
            let count = |health: Health| told.iter().filter(|told| told.health == health).count();
            let tie = policy.verdict == VerdictRule::Majority && count(Health::Up) == count(Health::Down);
            // Whoever lies holds another view himself than he tells.
            let honest: Vec<usize> = (0..nodes.len()).filter(|node| !nodes[*node].lies).collect();
            if undetected || tie || honest.is_empty() || (0..nodes.len()).any(|node| !now_so(node) || late(node)) {
                continue;
            }
            let said: Vec<bool> = honest.iter().map(|node| says(views[*node])).collect();
            self.tally.agreements += u64::from(told.iter().any(|one| one.health != told[0].health));
            self.world.hold_true(said.iter().all(|one| *one == said[0]), || {
                format!("{:?} is in at {honest:?}: {said:?}, by {:?} of {told:?}", found.address, policy.verdict)
            });
        }
    }

    /// Nobody holds a destination out that is well, however ill it was before.
    fn find_the_well(&self) {
        let World { servers, nodes, .. } = &self.world;
        let is_well = |server: usize| servers[server].manner == Manner::Up;
        // Where the others know nothing, those who lie are most of those that do.
        if nodes.iter().any(|node| node.lies) {
            return;
        }
        for node in 0..nodes.len() {
            for view in self.world.views(node) {
                let well = is_well(self.world.server_of(&view));
                self.world.hold_true(!well || says(&view), || format!("node {node} holds it out: {view:?}"));
            }
        }
    }
}

/// Whether a destination is in, by the rule of its set. None where that depends on what can't be seen from outside: whether this
/// node's own success was later.
fn is_in(verdict: VerdictRule, own: Health, others: &[Told], worked: Worked) -> Option<bool> {
    let ups = others.iter().filter(|told| told.health == Health::Up).count();
    let downs = others.iter().filter(|told| told.health == Health::Down);
    match verdict {
        VerdictRule::Own => Some(own != Health::Down),
        VerdictRule::AnyDown if own == Health::Down => Some(false),
        VerdictRule::AnyDown => {
            let later = |told: &Told| {
                let worked = if told.by_calls { worked.by_calls } else { worked.at_all };
                worked.is_none_or(|worked| worked + INTERVAL < told.turned)
            };
            match (downs.clone().count(), downs.clone().any(later)) {
                (0, _) => Some(true),
                (_, true) => Some(false),
                (_, false) => None,
            }
        }
        VerdictRule::AnyUp => match own {
            Health::Up | Health::Busy => Some(true),
            Health::Down => Some(ups > 0),
            Health::Unknown => Some(ups > 0 || downs.count() == 0),
        },
        VerdictRule::Majority => {
            let ups = ups + usize::from(own == Health::Up);
            let downs = downs.count() + usize::from(own == Health::Down);
            Some(if ups == downs { own != Health::Down } else { ups > downs })
        }
    }
}

/// Whether calls go there, as far as health is concerned.
fn says(view: &DestinationView) -> bool {
    matches!(view.fitness, Fitness::Fit | Fitness::OnTrial | Fitness::Full)
}
