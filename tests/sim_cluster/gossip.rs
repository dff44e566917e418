//! Gossip as chitchat does it, without packets: each node publishes what it tells, and whoever can be reached has it two
//! intervals later, by others if need be. What the engine is told of it, and when, is `server/cluster.rs` written down a second
//! time.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

use tandem::engine::dispatch::{PeerDestination, PeerReport, Taken};

/// From one round of a node to its next.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);
/// From one node to another that it reaches.
pub(super) const HOP: Duration = Duration::from_millis(200);
/// What is told anew though nothing has changed.
const AFRESH: Duration = Duration::from_secs(1);
/// Sessions that were taken over are told for so long.
const TAKEN_TOLD: Duration = Duration::from_secs(600);

/// What a node has told last.
#[derive(Debug)]
pub(super) struct Published {
    number: u64,
    pub(super) at: Duration,
    pub(super) report: PeerReport,
    taken: BTreeMap<u64, (Duration, Vec<Taken>)>,
}

/// What one node knows of another.
#[derive(Clone, Debug)]
struct Heard {
    /// Its start, and how often its heart has beaten.
    beat: (u64, u64),
    at: Duration,
    what: Rc<Published>,
}

/// The gossip of one node.
#[derive(Debug)]
struct Gossiper {
    lives: bool,
    beat: (u64, u64),
    own: Option<Rc<Published>>,
    next: u64,
    known: Vec<Option<Heard>>,
    /// When it has last spoken with each of the others.
    spoken: Vec<Duration>,
    /// Up to which number the sessions that each start of the others has taken over are known.
    taken: HashMap<(usize, u64), u64>,
    told: Option<Duration>,
    /// Which publications the engine has been told.
    told_of: Vec<(usize, u64, u64)>,
}

/// The gossip of all nodes, and who does not reach whom.
#[derive(Debug)]
pub(super) struct Gossip {
    nodes: Vec<Gossiper>,
    cut: HashSet<(usize, usize)>,
    pub(super) dead_after: Duration,
}

impl Gossiper {
    fn new(nodes: usize, started: u64) -> Self {
        Gossiper {
            lives: started > 0,
            beat: (started, 0),
            own: None,
            next: 0,
            known: vec![None; nodes],
            spoken: vec![Duration::ZERO; nodes],
            taken: HashMap::new(),
            told: None,
            told_of: Vec::new(),
        }
    }

    fn publish(&mut self, mut report: PeerReport, now: Duration) {
        self.beat.1 += 1;
        let taken = std::mem::take(&mut report.taken);
        let same = |before: &&Rc<Published>| is_the_same(&before.report, &report) && now - before.at < AFRESH;
        if taken.is_empty() && self.own.as_ref().filter(same).is_some() {
            return;
        }
        let mut all = self.own.as_ref().map(|own| own.taken.clone()).unwrap_or_default();
        if !taken.is_empty() {
            all.insert(self.next, (now, taken));
            self.next += 1;
        }
        all.retain(|_, (at, _)| now - *at <= TAKEN_TOLD);
        self.own = Some(Rc::new(Published { number: self.beat.1, at: now, report, taken: all }));
    }

    fn learn(&mut self, node: usize, heard: &Heard, now: Duration) {
        let known = &mut self.known[node];
        if known.as_ref().is_none_or(|known| known.beat < heard.beat) {
            *known = Some(Heard { at: now, ..heard.clone() });
        }
    }

    fn myself(&self, now: Duration) -> Option<Heard> {
        Some(Heard { beat: self.beat, at: now, what: Rc::clone(self.own.as_ref()?) })
    }
}

/// Whether nothing has changed but what time changes.
fn is_the_same(one: &PeerReport, other: &PeerReport) -> bool {
    let timeless = |told: &PeerDestination| {
        let left: Vec<_> =
            told.left.iter().map(|left| (left.node.clone(), left.started, left.sessions.clone())).collect();
        (told.health, told.by_calls, told.sessions.clone(), left, told.order.clone())
    };
    let [one, other] = [one, other].map(|report| &report.destinations);
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| timeless(one) == timeless(other))
}

impl Gossip {
    pub(super) fn new(nodes: usize, dead_after: Duration) -> Self {
        let nodes = (0..nodes).map(|_| Gossiper::new(nodes, 0)).collect();
        Gossip { nodes, cut: HashSet::new(), dead_after }
    }

    /// A node starts, and knows nobody.
    pub(super) fn start(&mut self, node: usize, started: u64) {
        self.nodes[node] = Gossiper::new(self.nodes.len(), started);
    }

    pub(super) fn kill(&mut self, node: usize) {
        self.nodes[node].lives = false;
    }

    pub(super) fn cut(&mut self, one: usize, other: usize, is_cut: bool) {
        let pair = (one.min(other), one.max(other));
        if is_cut {
            self.cut.insert(pair)
        } else {
            self.cut.remove(&pair)
        };
    }

    pub(super) fn is_cut(&self) -> bool {
        !self.cut.is_empty()
    }

    /// A node's gossip stands still while its engine works, or goes on.
    pub(super) fn stand_still(&mut self, node: usize, stands: bool) {
        self.nodes[node].lives = !stands;
    }

    fn reach(&self, one: usize, other: usize) -> bool {
        let [a, b] = [one, other].map(|node| self.nodes[node].lives);
        a && b && one != other && !self.cut.contains(&(one.min(other), one.max(other)))
    }

    /// Whom a node reaches, by others too, with itself; and over how many others at most.
    pub(super) fn component(&self, node: usize) -> (Vec<usize>, u32) {
        if self.cut.is_empty() && self.nodes[node].lives {
            return ((0..self.nodes.len()).filter(|other| self.nodes[*other].lives).collect(), 1);
        }
        let mut seen = vec![false; self.nodes.len()];
        seen[node] = true;
        let (mut found, mut edge, mut hops) = (vec![node], 0..1, 0);
        while !edge.is_empty() {
            let end = found.len();
            for at in edge {
                let from = found[at];
                for (other, seen) in seen.iter_mut().enumerate() {
                    if !*seen && self.reach(from, other) {
                        *seen = true;
                        found.push(other);
                    }
                }
            }
            edge = end..found.len();
            hops += u32::from(!edge.is_empty());
        }
        (found, hops)
    }

    /// What a node has told last.
    pub(super) fn published(&self, node: usize) -> Option<&Published> {
        self.nodes[node].own.as_deref()
    }

    /// A round of a node: it tells what it sees, speaks with those that it reaches, and then hears what its engine is to be told;
    /// none if nothing is new. `skips` says whether it may leave one out this time.
    pub(super) fn round(
        &mut self,
        node: usize,
        report: PeerReport,
        now: Duration,
        mut skips: impl FnMut() -> bool,
    ) -> Option<Vec<PeerReport>> {
        self.nodes[node].publish(report, now);
        for other in 0..self.nodes.len() {
            if self.reach(node, other) && (now - self.nodes[node].spoken[other] >= HOP || !skips()) {
                self.exchange(node, other, now);
            }
        }
        self.tell(node, now)
    }

    fn exchange(&mut self, one: usize, other: usize, now: Duration) {
        for (from, to) in [(one, other), (other, one)] {
            let mut giver = std::mem::replace(&mut self.nodes[from], Gossiper::new(0, 0));
            let myself = giver.myself(now);
            let others = giver.known.iter().enumerate().filter_map(|(node, heard)| Some((node, heard.as_ref()?)));
            for (node, heard) in others.chain(myself.as_ref().map(|myself| (from, myself))) {
                if node != to {
                    self.nodes[to].learn(node, heard, now);
                }
            }
            giver.spoken[to] = now;
            self.nodes[from] = giver;
        }
    }

    fn tell(&mut self, node: usize, now: Duration) -> Option<Vec<PeerReport>> {
        let dead_after = self.dead_after;
        let Gossiper { beat, own, known, taken, told, told_of, .. } = &mut self.nodes[node];
        let myself = (own.as_ref().map_or("", |own| &*own.report.node), beat.0);
        let live = || {
            let known = known.iter().enumerate().filter_map(|(node, heard)| Some((node, heard.as_ref()?)));
            known.filter(|(_, heard)| now - heard.at <= dead_after)
        };
        let of: Vec<_> = live().map(|(node, heard)| (node, heard.beat.0, heard.what.number)).collect();
        if *told_of == of && told.is_some_and(|told| now - told < AFRESH) {
            return None;
        }
        (*told_of, *told) = (of, Some(now));
        let report = |(node, Heard { what, .. }): (usize, &Heard)| {
            let next = what.taken.last_key_value().map_or(0, |(number, _)| number + 1);
            let from = taken.insert((node, what.report.started), next).unwrap_or(next);
            heard(what, from, myself, now)
        };
        Some(live().map(report).collect())
    }
}

/// What was told, as old as it is now. Who hears it is not gone, whatever others think.
fn heard(what: &Published, from: u64, myself: (&str, u64), now: Duration) -> PeerReport {
    let ago = now - what.at;
    let mut report = PeerReport { age: ago, ..what.report.clone() };
    for told in &mut report.destinations {
        told.lasted += ago;
        told.left.retain(|left| (&*left.node, left.started) != myself);
        told.left.iter_mut().for_each(|left| left.lasts = left.lasts.saturating_sub(ago));
    }
    let taken = what.taken.range(from..).map(|(_, some)| some);
    report.taken =
        taken.flat_map(|(at, some)| some.iter().map(move |one| Taken { ago: one.ago + (now - *at), ..*one })).collect();
    report
}
