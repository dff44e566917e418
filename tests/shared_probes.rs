//! Nodes that share the probes: who probes what, how it is handed over, and what is known meanwhile. Several engines in one
//! virtual time tell each other what they see, as the gossip would.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tandem::engine::dispatch::{
    Check, CheckKind, Health, InitState, OnDown, PeerReport, Probing, SipProbe, VerdictRule, When, Who, Why,
};
use tandem::engine::flow::Role;
use tandem::engine::{Config, Event, Input};

use crate::harness::{Bench, SERVERS, Sent, seconds, set_19};

/// The nodes look so often at what has come.
const STEP: Duration = Duration::from_millis(50);
/// So often each tells what it sees, and so long that is on its way.
const ROUND: Duration = Duration::from_millis(100);
/// A node that is not heard of for so long is gone.
const DEAD_AFTER: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_secs(10);
/// The longest that it takes to find a destination dead: an interval and its jitter, two timeouts of 2 s, and a word.
const DETECTION: Duration = Duration::from_millis(15_000);

/// A destination's number.
type Number = usize;

/// One node.
struct Node {
    bench: Bench,
    /// When it started.
    started: Duration,
    /// What it told last, and when; the others have heard it from the next round on.
    told: (Duration, PeerReport),
}

/// What has become of a node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Lives,
    /// Its word grows old, and it is taken for there.
    Hangs,
    /// Its word grows old, and after a while it is gone.
    Dead,
}

struct Cluster {
    config: fn(&mut Config),
    probing: Probing,
    verdict: VerdictRule,
    addresses: Vec<String>,
    nodes: BTreeMap<&'static str, (Node, State)>,
    now: Duration,
    /// Destinations that answer nothing.
    dead: BTreeSet<Number>,
    /// Each probe: when, by whom, of which destination.
    probes: Vec<(Duration, &'static str, Number)>,
    seen: BTreeSet<(&'static str, Duration, String)>,
}

fn shared(probers: u32) -> Probing {
    let checks = vec![Check::new(CheckKind::Sip(SipProbe::default()))];
    Probing { checks, who: Who::Shared { probers }, ..Probing::default() }
}

impl Cluster {
    fn new(probing: Probing, destinations: u16) -> Self {
        let addresses = (0..destinations).map(|number| format!("10.129.39.88:{}", 7010 + number)).collect();
        Cluster {
            config: |_| (),
            probing,
            verdict: VerdictRule::AnyDown,
            addresses,
            nodes: BTreeMap::new(),
            now: Duration::ZERO,
            dead: BTreeSet::new(),
            probes: Vec::new(),
            seen: BTreeSet::new(),
        }
    }

    /// Three nodes that have known each other for a while.
    fn settled(probing: Probing, destinations: u16) -> Self {
        let mut cluster = Self::new(probing, destinations);
        ["a", "b", "c"].into_iter().for_each(|node| cluster.start(node));
        cluster.pass(3 * INTERVAL);
        cluster.probes.clear();
        cluster
    }

    fn start(&mut self, node: &'static str) {
        self.start_with(node, self.config);
    }

    fn start_with(&mut self, node: &'static str, change: impl FnOnce(&mut Config)) {
        let mut bench = Bench::with(|config| {
            config.node = node.to_owned();
            config.sets[0].verdict = self.verdict;
            config.sets[0].probing = self.probing.clone().into();
            change(config);
        });
        bench.load(set_19(&[]));
        bench.stall(self.now);
        let addresses: Vec<_> = self.addresses.iter().map(String::as_str).collect();
        bench.load(set_19(&addresses));
        bench.events.clear();
        let told = (self.now, PeerReport::default());
        self.nodes.insert(node, (Node { bench, started: self.now, told }, State::Lives));
    }

    fn set(&mut self, node: &'static str, state: State) {
        self.nodes.get_mut(node).expect("a node").1 = state;
    }

    fn bench(&mut self, node: &'static str) -> &mut Bench {
        &mut self.nodes.get_mut(node).expect("a node").0.bench
    }

    fn living(&self) -> impl Iterator<Item = (&'static str, &Node)> {
        self.nodes.iter().filter(|(_, (_, state))| *state == State::Lives).map(|(name, (node, _))| (*name, node))
    }

    fn pass(&mut self, time: Duration) {
        self.pass_and(time, |_| ());
    }

    /// Lets time pass, and looks each time that something may have happened.
    fn pass_and(&mut self, time: Duration, mut look: impl FnMut(&Self)) {
        let end = self.now + time;
        while self.now < end {
            self.now += STEP;
            for (&name, (node, state)) in &mut self.nodes {
                if *state != State::Lives {
                    continue;
                }
                for sent in node.bench.pass(STEP) {
                    let number = usize::from(sent.to.port() - 7010);
                    if self.seen.insert((name, node.started, sent.header("Call-ID"))) {
                        self.probes.push((sent.at, name, number));
                    }
                    if !self.dead.contains(&number) {
                        node.bench.receive(&sent.to.to_string(), sent.answer(200, "OK", &[]));
                    }
                }
            }
            if self.now.as_millis() % ROUND.as_millis() == 0 {
                self.gossip();
            }
            look(self);
        }
    }

    /// Each node hears what the others told a round ago, and tells what is new.
    fn gossip(&mut self) {
        let now = self.now;
        let heard = |state: State, told: Duration| state != State::Dead || now - told < DEAD_AFTER;
        let told = self.nodes.iter().filter(|(_, (node, state))| heard(*state, node.told.0));
        let words = told.filter(|(name, (node, _))| node.told.1.node == **name);
        let words = words.map(|(_, (node, _))| PeerReport { age: now - node.told.0, ..node.told.1.clone() });
        let words: Vec<_> = words.collect();
        for (name, (node, state)) in &mut self.nodes {
            if *state == State::Lives {
                let others: Vec<_> = words.iter().filter(|word| word.node != **name).cloned().collect();
                node.bench.handle(Input::Peers(&others));
                node.told = (now, PeerReport { started: node.started.as_secs() + 1, ..node.bench.report() });
            }
        }
    }

    /// Who probes each destination since then.
    fn probers(&self, since: Duration) -> Vec<BTreeSet<&'static str>> {
        let of = |number| {
            let probes = self.probes.iter().filter(|(at, _, to)| *at >= since && *to == number);
            probes.map(|(_, node, _)| *node).collect()
        };
        (0..self.addresses.len()).map(of).collect()
    }

    /// The nodes that live and would give that destination a call.
    fn fit(&self, number: Number) -> BTreeSet<&'static str> {
        let fit = |node: &Node| node.bench.snapshot().sets[0].destinations[number].fitness.is_fit();
        self.living().filter(|(_, node)| fit(node)).map(|(name, _)| name).collect()
    }

    /// A destination whose only prober that node is.
    fn one_of(&self, node: &'static str) -> Number {
        let alone = BTreeSet::from([node]);
        self.probers(Duration::ZERO).into_iter().position(|probers| probers == alone).expect("it has a share")
    }

    /// What has been told of healths.
    fn changes(&self) -> Vec<(Health, Health)> {
        let of = |event: &Event| match event {
            Event::Health(change) => Some((change.old, change.new)),
            _ => None,
        };
        self.nodes.values().flat_map(|(node, _)| node.bench.events.iter().filter_map(of)).collect()
    }
}

#[test]
fn each_destination_is_probed_by_so_many_nodes_and_their_shares_are_about_even() {
    for probers in [1, 2, 3, 4] {
        let mut cluster = Cluster::settled(shared(probers), 30);
        let began = cluster.now;
        cluster.pass(10 * INTERVAL);
        let all = cluster.probers(began);
        let expected = probers.min(3) as usize;
        assert!(all.iter().all(|one| one.len() == expected), "{probers}: {all:?}");
        for node in ["a", "b", "c"] {
            let share = all.iter().filter(|probers| probers.contains(node)).count();
            assert!((4 * expected..=18 * expected).contains(&share), "{node} probes {share} of 30 by {probers}");
        }
        let sent = cluster.probes.len();
        assert!((290 * expected..=310 * expected).contains(&sent), "{sent} by {probers}");
        assert_eq!(cluster.changes(), [], "{probers}");
    }
}

#[test]
fn a_nodes_share_is_spread_over_the_interval() {
    let mut cluster = Cluster::settled(shared(1), 60);
    cluster.pass(INTERVAL * 10);
    for node in ["a", "b", "c"] {
        let mut tenths = [0_u32; 100];
        let own = cluster.probes.iter().filter(|(_, by, _)| *by == node);
        let own = own.map(|(at, ..)| at.as_secs() - 30).filter(|second| *second < 100);
        own.for_each(|second| tenths[second as usize] += 1);
        assert!(tenths.iter().all(|&probes| probes <= 8), "{node}: some 2 a second: {tenths:?}");
    }
}

#[test]
fn a_dead_prober_is_replaced_within_two_intervals_and_nobody_else_moves() {
    let mut cluster = Cluster::settled(shared(1), 30);
    cluster.pass(2 * INTERVAL);
    let before = cluster.probers(Duration::ZERO);
    let died = cluster.now;
    cluster.set("a", State::Dead);
    cluster.pass(4 * INTERVAL);
    let heirs = cluster.probers(died + 2 * INTERVAL);
    let mut latest = Duration::ZERO;
    for (number, (before, after)) in before.iter().zip(&heirs).enumerate() {
        assert_eq!((before.len(), after.len()), (1, 1), "{number}: {before:?}, {after:?}");
        if before.contains("a") {
            let first = cluster.probes.iter().find(|(at, _, to)| *at > died && *to == number).expect("it is probed");
            latest = latest.max(first.0 - died);
        } else {
            let since = cluster.probers(died);
            assert_eq!(&since[number], before, "{number}");
        }
    }
    println!("the last of the dead node's share was probed after {latest:?}");
    assert!(latest <= 2 * INTERVAL, "{latest:?}");
    // It comes back: it has its old share again, and the others have theirs.
    let came = cluster.now;
    cluster.start("a");
    cluster.pass(4 * INTERVAL);
    assert_eq!(cluster.probers(came + INTERVAL), before);
    let probes = |from, to| cluster.probes.iter().filter(|(at, ..)| *at > from && *at <= to).count();
    let extra = probes(came, came + 2 * INTERVAL) - probes(came + 2 * INTERVAL, came + 4 * INTERVAL);
    assert!(extra <= 45, "{extra} probes more than usual for 30 destinations");
    assert_eq!(cluster.changes(), [], "nothing has happened to any destination");
}

#[test]
fn a_node_whose_word_is_too_old_loses_its_share_too() {
    let mut cluster = Cluster::settled(shared(1), 30);
    cluster.pass(2 * INTERVAL);
    let before = cluster.probers(Duration::ZERO);
    let hung = cluster.now;
    cluster.set("b", State::Hangs);
    cluster.pass(4 * INTERVAL);
    let view_ttl = seconds(5);
    for number in (0..30).filter(|&number| before[number].contains("b")) {
        let first = cluster.probes.iter().find(|(at, _, to)| *at > hung && *to == number).expect("it is probed");
        assert!(first.0 - hung <= view_ttl + INTERVAL + seconds(1), "{number}: {:?}", first.0 - hung);
    }
    // It goes on as if nothing had been.
    let woke = cluster.now;
    let now = cluster.now;
    let bench = cluster.bench("b");
    bench.stall(now - bench.time());
    cluster.set("b", State::Lives);
    cluster.pass(3 * INTERVAL);
    assert_eq!(cluster.probers(woke + INTERVAL), before);
    assert_eq!(cluster.changes(), []);
}

#[test]
fn who_can_probe_nothing_is_none_of_those_who_probe() {
    let mut cluster = Cluster::new(shared(1), 30);
    cluster.start_with("a", |config| config.listeners.iter_mut().for_each(|one| one.role = Role::Vip));
    cluster.start("b");
    cluster.start_with("c", |config| config.sets[0].probing = Probing::default().into());
    cluster.pass(2 * INTERVAL);
    let began = cluster.now;
    cluster.pass(2 * INTERVAL);
    assert_eq!(cluster.probers(began), vec![BTreeSet::from(["b"]); 30]);
}

#[test]
fn a_node_alone_probes_all() {
    let mut cluster = Cluster::new(shared(1), 30);
    cluster.start("c");
    cluster.pass(2 * INTERVAL);
    assert_eq!(cluster.probers(INTERVAL), vec![BTreeSet::from(["c"]); 30]);
}

#[test]
fn who_does_not_probe_holds_nothing_of_what_it_has_not_seen() {
    let mut cluster = Cluster::settled(shared(1), 30);
    cluster.pass(2 * INTERVAL);
    let of_a = cluster.one_of("a");
    for (node, told) in [("a", (Health::Up, Why::Works)), ("b", (Health::Unknown, Why::ProbedElsewhere))] {
        let one = cluster.bench(node).snapshot().sets[0].destinations[of_a].clone();
        assert_eq!((one.health, one.why), told, "{node}");
        assert!(one.fitness.is_fit());
        let votes: Vec<_> = one.votes.iter().map(|vote| (vote.node.as_str(), vote.health, vote.probed)).collect();
        let of = |other| if other == "a" { (other, Health::Up, true) } else { (other, Health::Unknown, false) };
        assert_eq!(votes, ["a", "b", "c"].into_iter().filter(|other| *other != node).map(of).collect::<Vec<_>>());
    }
}

/// A destination dies, or has died, while nodes come and go: how long anybody holds it for fit, and that nobody does once it
/// is found. `when`: the time from the first of the moves to its death.
fn dies(verdict: VerdictRule, moves: &[(&'static str, State)], before: bool, after: Duration) {
    let mut cluster = Cluster::new(shared(1), 30);
    cluster.verdict = verdict;
    ["a", "b", "c"].into_iter().for_each(|node| cluster.start(node));
    cluster.pass(5 * INTERVAL);
    cluster.probes.retain(|(at, ..)| *at > 3 * INTERVAL);
    let number = cluster.one_of("a");
    let case = format!("{verdict:?}, {} states, before {before}, {after:?}", moves.len());
    if before {
        cluster.dead.insert(number);
        cluster.pass(DETECTION);
        assert_eq!(cluster.fit(number), BTreeSet::new(), "{case}");
    }
    let mut died = cluster.now;
    for (turn, &(node, state)) in moves.iter().enumerate() {
        match state {
            State::Lives => cluster.start(node),
            State::Hangs | State::Dead => cluster.set(node, state),
        }
        let (came, known) = (cluster.now, before);
        let look = |cluster: &Cluster| {
            // A node that has just started has heard nobody yet.
            let heard = |name: &&str| *name != node || cluster.now - came > 3 * ROUND;
            let fit: Vec<_> = cluster.fit(number).into_iter().filter(heard).collect();
            assert!(!known || fit.is_empty(), "{case}, move {turn}: {fit:?} after {:?}", cluster.now - came);
        };
        let dies = !before && turn == 0;
        cluster.pass_and(if dies { after } else { 3 * INTERVAL }, look);
        if dies {
            cluster.dead.insert(number);
            died = cluster.now;
        }
    }
    if !before {
        // However it is handed over: not much later than without it.
        let mut last = died;
        cluster.pass_and(died + 4 * INTERVAL - cluster.now, |cluster| {
            if !cluster.fit(number).is_empty() {
                last = cluster.now;
            }
        });
        let found = last - died;
        assert!(found <= DETECTION + DEAD_AFTER, "{case}: {found:?}");
    }
    // It comes back for everybody.
    cluster.dead.clear();
    cluster.pass(3 * INTERVAL);
    assert_eq!(cluster.fit(number).len(), cluster.living().count(), "{case}");
}

const SHARING: [VerdictRule; 3] = [VerdictRule::AnyDown, VerdictRule::AnyUp, VerdictRule::Majority];

#[test]
fn what_is_known_to_be_dead_gets_no_call_while_it_is_handed_over() {
    for verdict in SHARING {
        dies(verdict, &[("a", State::Dead), ("a", State::Lives)], true, Duration::ZERO);
        dies(verdict, &[("a", State::Hangs)], true, Duration::ZERO);
        dies(verdict, &[("b", State::Dead), ("b", State::Lives), ("a", State::Dead)], true, Duration::ZERO);
    }
}

#[test]
fn what_dies_while_it_is_handed_over_is_found_as_soon_as_otherwise() {
    for verdict in SHARING {
        // With its prober, before that is missed, while it is taken over, and after.
        for millis in [0, 500, 1_000, 1_500, 4_000, 11_000, 20_000] {
            dies(verdict, &[("a", State::Dead)], false, Duration::from_millis(millis));
        }
    }
}

/// What a node says of the first destination, by its probes or by calls; what this one sends then.
fn says(bench: &mut Bench, node: &str, health: Health, by_calls: bool) -> Vec<Sent> {
    let mut report = PeerReport { node: node.into(), started: 1, ..bench.report() };
    for one in &mut report.destinations {
        (one.health, one.probed, one.lasted) = (health, !by_calls, Duration::ZERO);
        one.by_calls = by_calls;
    }
    bench.handle(Input::Peers(&[report]))
}

fn one(change: impl FnOnce(&mut Config)) -> Bench {
    let mut bench = Bench::with(change);
    bench.load(set_19(&SERVERS[..1]));
    bench
}

/// A name that comes before that of this node.
fn before(bench: &mut Bench) -> String {
    let names = (b'b'..=b'z').map(|letter| char::from(letter).to_string());
    let mut comes_before = |name: &String| {
        says(bench, name, Health::Up, false);
        bench.snapshot().sets[0].destinations[0].why == Why::ProbedElsewhere
    };
    let name = names.into_iter().find(|name| comes_before(name)).expect("one of them");
    bench.handle(Input::Peers(&[]));
    name
}

fn asked(sent: &[Sent]) -> usize {
    sent.iter().filter(|one| one.line().starts_with("OPTIONS")).count()
}

#[test]
fn an_answer_that_comes_after_the_handing_over_says_nothing() {
    let mut bench = one(|config| config.sets[0].probing = shared(1).into());
    let name = before(&mut bench);
    let sent = bench.pass(Duration::from_millis(100));
    assert_eq!(asked(&sent), 1, "{sent:?}");
    says(&mut bench, &name, Health::Down, false);
    bench.receive(SERVERS[0], sent[0].answer(200, "OK", &[]));
    let told = &bench.snapshot().sets[0].destinations[0];
    assert_eq!((told.health, told.fitness.is_fit()), (Health::Unknown, false));
}

#[test]
fn a_probe_of_before_the_handing_over_outvotes_nobody_and_a_call_does() {
    for (called, fit) in [(false, false), (true, true)] {
        let mut bench = one(|config| config.sets[0].probing = shared(1).into());
        let name = before(&mut bench);
        let sent = bench.pass(Duration::from_millis(100));
        bench.receive(SERVERS[0], sent[0].answer(200, "OK", &[]));
        if called {
            bench.answered_call("1");
        }
        // The other one has found it down before it was found up here.
        bench.pass(Duration::from_millis(100));
        let mut report = bench.report();
        (report.node, report.started) = (name, 1);
        (report.destinations[0].health, report.destinations[0].lasted) = (Health::Down, seconds(5));
        bench.handle(Input::Peers(&[report]));
        let told = &bench.snapshot().sets[0].destinations[0];
        assert_eq!((told.health, told.fitness.is_fit()), (Health::Unknown, fit), "called: {called}");
    }
}

#[test]
fn what_it_begins_with_is_told_to_nobody_and_means_nothing_where_others_know_better() {
    for init_state in [InitState::Up, InitState::Down, InitState::Unknown] {
        let mut bench = one(|config| {
            config.sets[0].probing = Probing { init_state, ..shared(4) }.into();
            config.sets[0].verdict = VerdictRule::AnyUp;
        });
        let told = bench.report().destinations[0].clone();
        assert_eq!((told.health, told.probed), (Health::Unknown, false), "{init_state:?}");
        let fit = |bench: &Bench| bench.snapshot().sets[0].destinations[0].fitness.is_fit();
        assert_eq!(fit(&bench), init_state != InitState::Down, "{init_state:?}");
        says(&mut bench, "b", Health::Down, false);
        assert!(!fit(&bench), "{init_state:?}");
        says(&mut bench, "b", Health::Up, false);
        assert!(fit(&bench), "{init_state:?}");
    }
}

#[test]
fn one_that_others_doubt_is_probed_also_where_only_those_in_doubt_are() {
    for when in [When::Down, When::Idle] {
        let mut bench = one(|config| {
            config.sets[0].verdict = VerdictRule::AnyUp;
            config.sets[0].probing = Probing { when, ..shared(1) }.into();
        });
        // Calls show here all the time that it works.
        let pass = |bench: &mut Bench, doubted: bool| {
            let mut all = 0;
            for second in 0..22 {
                bench.answered_call(&format!("{doubted}-{second}"));
                if doubted {
                    says(bench, "b", Health::Down, true);
                }
                let sent = bench.pass(seconds(1));
                sent.iter().for_each(|one| drop(bench.receive(SERVERS[0], one.answer(200, "OK", &[]))));
                all += asked(&sent);
            }
            all
        };
        assert_eq!(pass(&mut bench, false), 0, "{when:?}");
        assert!(pass(&mut bench, true) > 0, "{when:?}");
    }
}

#[test]
fn sessions_end_with_their_server_also_where_another_node_finds_it_down() {
    let mut bench = one(|config| {
        config.sets[0].probing = shared(1).into();
        config.sets[0].session.on_down = OnDown::Bye;
    });
    let name = before(&mut bench);
    says(&mut bench, &name, Health::Up, false);
    bench.talking_call("1");
    // The call has worked just now; a while later it is another matter.
    bench.pass(seconds(3));
    let mut sent = says(&mut bench, &name, Health::Down, false);
    sent.extend(bench.pass(seconds(2)));
    assert!(sent.iter().any(|one| one.line().starts_with("BYE")), "{sent:?}");
}
