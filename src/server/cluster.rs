//! A node among others: what it has seen goes into the gossip, and what the others have seen into the engine.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::node::{KEY_FILE, Shared};
use crate::edge::build::VERSION;
use crate::edge::cluster::report::{
    DestinationId, DestinationReport, LeftReport, Moment, NodeReport, NodeView, OrderReport, TakenReport, TakenSession,
};
use crate::edge::cluster::{Cluster, PeerView, Peers};
use crate::edge::interfaces::held_vips;
use crate::edge::metrics::ClusterView;
use crate::edge::store::Digest;
use crate::engine::dispatch::{
    Asked, AtDeadline, Deadline, Left, PeerDestination, PeerOrder, PeerReport, RowState, SetId, Standing, Taken,
};
use crate::engine::flow::Listener;
use crate::engine::sip::Resources;

/// So often the others are told what is new, and the engine what they tell...
const ROUND: Duration = Duration::from_millis(100);
/// ... and with so many destinations four times less often, since each time all are looked at.
const MANY: usize = 2000;
/// So often the engine is told of them though nothing is new, and they that this node's engine lives.
const AFRESH: Duration = Duration::from_secs(1);
/// Moments that are so close are the same: they are reckoned anew each time.
const SAME: i64 = 500;
/// More nodes have no say.
const MOST_PEERS: usize = 64;
/// An order from further ahead than that is nobody's.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Characters of an order's giver and reason.
const WORDS: usize = 256;
/// Sessions that were taken over are told for so long: a node that was cut off for longer counts some that have ended elsewhere
/// until they must be over.
const TAKEN_TOLD: Duration = Duration::from_secs(300);
/// So many at a time, which fit into one packet...
const TAKEN_AT_ONCE: usize = 200;
/// ... and so often at most.
const TAKEN_TIMES: usize = 3000;

/// What the others have been told, and what of theirs has been heard.
#[derive(Default)]
struct Told {
    view: NodeView,
    /// The number of the next sessions that are taken over.
    next: u64,
    /// Up to which number those of each start of each node have been taken note of.
    heard: HashMap<(Arc<str>, u64), u64>,
    /// Those that tell in a format of a later version.
    later: HashSet<Arc<str>>,
}

impl Shared {
    /// Tells the others what this node sees, and the engine what they do, until the node stops.
    pub(super) async fn gossip(self: Arc<Self>, cluster: Arc<Cluster>, mut stopped: watch::Receiver<bool>) {
        let mut peers = cluster.peers();
        let mut round = interval(ROUND);
        // Whatever happens meanwhile, and however long a round takes: the next one comes.
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut skip, mut afresh, mut told) = (0, Instant::now(), Told::default());
        loop {
            tokio::select! {
                _ = stopped.changed() => return,
                _ = round.tick() => {
                    if skip > 0 {
                        skip -= 1;
                        continue;
                    }
                    let Ok(report) = self.handle.report().await else { return };
                    skip = if report.destinations.len() > MANY { 3 } else { 0 };
                    self.publish(&cluster, &mut told, report);
                    let changed = peers.has_changed().unwrap_or(false);
                    if changed || afresh.elapsed() >= AFRESH {
                        afresh = Instant::now();
                        let heard = peers.borrow_and_update().clone();
                        self.hear_orders(&heard);
                        let reports = told.hear(&heard, cluster.node());
                        if self.handle.peers(reports).await.is_err() {
                            return;
                        }
                    }
                }
            }
        }
    }

    /// Tells the others.
    fn publish(&self, cluster: &Cluster, told: &mut Told, report: PeerReport) {
        let (moment, before) = (cluster.moment(Instant::now()), &told.view);
        let listeners = self.handle.listeners();
        let node = NodeReport {
            version: VERSION.to_owned(),
            key: Some(self.key_mark),
            // 0 is what nobody has told yet.
            started: self.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().max(1),
            listeners: listeners.iter().map(name).collect(),
            vips: held_vips(listeners, &self.addresses.held()),
            seen: before.report.seen.filter(|seen| moment.0 - seen.0 < millis(AFRESH)).or(Some(moment)),
            fit: report.fit.iter().map(|(set, fit)| (set.0, *fit)).collect(),
            sources: self.sources.iter().map(|source| (source.name.clone(), source.told())).collect(),
            ..NodeReport::default()
        };
        let told_of = |one: PeerDestination| {
            let id = DestinationId { set: one.set, address: Some(one.address), uri: one.uri.clone() };
            let report = destination(one, before.destinations.get(&id), cluster.node(), moment);
            (id, report)
        };
        let mut view = NodeView {
            report: node,
            destinations: report.destinations.into_iter().map(told_of).collect(),
            taken: before.taken.clone(),
            versions: self.versions_told(&cluster.peers().borrow(), &before.versions),
        };
        for (ago, sessions) in together(report.taken) {
            let at = Moment(moment.0 - millis(ago));
            view.taken.insert(told.next, Arc::new(TakenReport { at, sessions }));
            told.next += 1;
        }
        let old = |taken: &TakenReport| moment.0 - taken.at.0 > millis(TAKEN_TOLD);
        while view.taken.len() > TAKEN_TIMES || view.taken.first_key_value().is_some_and(|(_, taken)| old(taken)) {
            view.taken.pop_first();
        }
        if told.view != view {
            told.view = view.clone();
            cluster.publish(view);
        }
    }
}

impl Shared {
    /// What the metrics tell of the gossip.
    pub(super) fn cluster_view(&self, cluster: &Cluster) -> ClusterView {
        let peers = cluster.peers();
        let peers = peers.borrow();
        let ages = peers.live.iter().map(|peer| (Arc::clone(&peer.node), peer.heard.elapsed()));
        ClusterView {
            node: cluster.node().to_owned(),
            peers: ages.collect(),
            rows_differ: self
                .sources
                .iter()
                .filter(|source| differs(&source.name, source.told().digest, &peers))
                .count(),
            counters: cluster.counters(),
        }
    }
}

/// Whether some other node has other rows of the partition in place than those.
fn differs(partition: &str, own: Option<Digest>, peers: &Peers) -> bool {
    let known = peers.live.iter().map(|peer| &peer.view.report).filter(|report| report.unknown_format().is_none());
    let mut told = known.filter_map(|report| report.sources.get(partition)?.digest);
    own.is_some_and(|own| told.any(|other| other != own))
}

fn name(listener: &Listener) -> String {
    format!("{}:{}", listener.transport.name(), listener.bind)
}

/// What is told of a destination, at that moment; where only the reckoning is another than before, what was told then.
fn destination(one: PeerDestination, before: Option<&DestinationReport>, node: &str, now: Moment) -> DestinationReport {
    let same =
        |then: Option<Moment>, moment: Moment| then.filter(|then| (then.0 - moment.0).abs() < SAME).unwrap_or(moment);
    let (sessions, asked) = numbers(&one.sessions);
    let left = |left: &Left| {
        let (sessions, asked) = numbers(&left.sessions);
        let before = before.into_iter().flat_map(|before| &before.left);
        let before =
            before.filter(|one| (&one.node, one.started) == (&left.node, left.started)).map(|one| one.until).next();
        let until = same(before, Moment(now.0 + millis(left.lasts)));
        LeftReport { node: left.node.clone(), started: left.started, sessions, asked, until }
    };
    DestinationReport {
        health: one.health,
        since: same(before.map(|before| before.since), Moment(now.0 - millis(one.lasted))),
        by_calls: one.by_calls,
        probed: one.probed,
        cause: one.cause,
        latency: one.latency.map(about),
        sessions,
        asked,
        left: one.left.iter().map(left).collect(),
        order: one.order.map(|order| order_of(&order, node)),
    }
}

/// Milliseconds to one digit, so that what changes all the time is no news.
fn about(latency: Duration) -> u32 {
    let millis = u32::try_from(latency.as_millis()).unwrap_or(u32::MAX);
    let step = 10_u32.pow(millis.max(1).ilog10());
    (millis / step * step).max(1)
}

fn numbers(sessions: &Asked) -> (u32, BTreeMap<u8, u32>) {
    let asked =
        sessions.iter().map(|(resources, sessions)| (resources.bits(), sessions)).filter(|(bits, _)| *bits != 0);
    (u32::try_from(sessions.total()).unwrap_or(u32::MAX), asked.collect())
}

/// Sessions of which a part asked for something, as a node tells them.
fn asked(sessions: u32, asked: &BTreeMap<u8, u32>) -> Asked {
    let some = || asked.iter().map(|(bits, sessions)| (Resources::of_bits(*bits), *sessions));
    let others = some().fold(sessions, |others, (_, sessions)| others.saturating_sub(sessions));
    some().chain([(Resources::NONE, others)]).collect()
}

/// Those that were taken over at about one time, with how long ago the first of them was; the oldest first.
fn together(mut taken: Vec<Taken>) -> Vec<(Duration, Vec<TakenSession>)> {
    taken.sort_by_key(|one| Reverse(one.ago));
    let (mut all, mut rest) = (Vec::new(), &taken[..]);
    while let Some(first) = rest.first() {
        let count = rest.partition_point(|one| first.ago - one.ago <= ROUND).min(TAKEN_AT_ONCE);
        let (some, others) = rest.split_at(count);
        all.push((first.ago, some.iter().map(session).collect()));
        rest = others;
    }
    all
}

fn session(taken: &Taken) -> TakenSession {
    let Taken { session, set, destination, resources, node, ago: _ } = taken;
    TakenSession(format!("{session:032x}"), set.0, *destination, resources.bits(), *node)
}

fn order_of(PeerOrder { standing, state }: &PeerOrder, node: &str) -> OrderReport {
    OrderReport {
        order: standing.order.name().to_owned(),
        stamp: since_1970(standing.at),
        node: node.to_owned(),
        by: standing.by.clone(),
        reason: standing.reason.clone(),
        deadline: standing.deadline.map(|deadline| since_1970(deadline.at)),
        then_end: standing.ends_sessions(),
        state: state.map(|state| state as u8),
    }
}

/// An order as another node tells it; none if no node of ours would.
fn order(report: &OrderReport) -> Option<PeerOrder> {
    let at = moment(report.stamp);
    if at > SystemTime::now() + DAY {
        return None;
    }
    let words = |text: &str| text.chars().take(WORDS).collect();
    let then = if report.then_end { AtDeadline::End } else { AtDeadline::Tell };
    let deadline = report.deadline.map(|at| Deadline { at: moment(at), then });
    let (by, reason) = (words(&report.by), words(&report.reason));
    let standing = Standing { order: report.order()?, by, reason, at, deadline };
    Some(PeerOrder { standing, state: report.state.and_then(|state| RowState::ALL.get(usize::from(state)).copied()) })
}

fn millis(time: Duration) -> i64 {
    time.as_millis().try_into().unwrap_or(i64::MAX / 4)
}

fn since_1970(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis().try_into().unwrap_or(u64::MAX)
}

fn moment(millis: u64) -> SystemTime {
    // No year that anybody writes is beyond.
    UNIX_EPOCH + Duration::from_millis(millis.min(1 << 50))
}

impl Told {
    /// What the engine is told of all nodes that are there. What one tells comes in pieces: while its time or its start is not
    /// known nothing of it could be dated, or told from what an earlier start has left behind.
    fn hear(&mut self, peers: &Peers, myself: &str) -> Vec<PeerReport> {
        let has_told = |peer: &&PeerView| peer.clock.is_some() && peer.view.report.started != 0;
        let told = peers.live.iter().filter(has_told);
        let (later, known): (Vec<_>, Vec<_>) = told.partition(|peer| peer.view.report.unknown_format().is_some());
        self.note(&later);
        known.into_iter().take(MOST_PEERS).map(|peer| self.report(peer, myself)).collect()
    }

    /// Tells once of each node that nobody here understands.
    fn note(&mut self, later: &[&PeerView]) {
        self.later.retain(|node| later.iter().any(|peer| peer.node == *node));
        for PeerView { node, view, .. } in later {
            if self.later.insert(node.clone()) {
                let (format, version) = (view.report.format, &view.report.version);
                warn!(%node, format, version, "what that node tells is of a later version, and has no say here: update this node");
            }
        }
    }

    fn report(&mut self, peer: &PeerView, myself: &str) -> PeerReport {
        let now = Instant::now();
        let NodeView { report, destinations, taken, versions: _ } = &*peer.view;
        // What a node took over before it was heard the first time, others have counted; or nobody could.
        let last = taken.last_key_value().map_or(0, |(number, _)| number + 1);
        let from = self.heard.insert((peer.node.clone(), report.started), last).unwrap_or(last);
        let myself = (myself, self.view.report.started);
        PeerReport {
            node: peer.node.to_string(),
            started: report.started,
            age: match report.seen {
                Some(seen) => peer.age(seen, now).unwrap_or(Duration::MAX),
                None => now.saturating_duration_since(peer.heard),
            },
            destinations: destinations.iter().filter_map(|(id, report)| heard(peer, id, report, myself, now)).collect(),
            fit: report.fit.iter().map(|(set, fit)| (SetId(*set), *fit)).collect(),
            taken: taken.range(from..).flat_map(|(_, taken)| taken_over(peer, taken, now)).collect(),
        }
    }
}

fn heard(
    peer: &PeerView,
    id: &DestinationId,
    report: &DestinationReport,
    myself: (&str, u64),
    now: Instant,
) -> Option<PeerDestination> {
    // This start of this node is not gone, whatever one thinks that has not heard of it for a while.
    let is_gone = |left: &&LeftReport| (&*left.node, left.started) != myself;
    let left = |left: &LeftReport| Left {
        node: left.node.clone(),
        started: left.started,
        sessions: asked(left.sessions, &left.asked),
        lasts: peer.ahead(left.until, now).unwrap_or_default(),
    };
    Some(PeerDestination {
        set: id.set,
        uri: id.uri.clone(),
        address: id.address?,
        health: report.health,
        lasted: peer.age(report.since, now).unwrap_or_default(),
        by_calls: report.by_calls,
        probed: report.probed,
        cause: report.cause.as_deref().map(|cause| cause.chars().take(WORDS).collect()),
        latency: report.latency.map(|latency| Duration::from_millis(latency.into())),
        sessions: asked(report.sessions, &report.asked),
        left: report.left.iter().filter(is_gone).map(left).collect(),
        order: report.order.as_ref().and_then(order),
    })
}

fn taken_over(peer: &PeerView, taken: &TakenReport, now: Instant) -> impl Iterator<Item = Taken> {
    let ago = peer.age(taken.at, now).unwrap_or_default();
    taken.sessions.iter().filter_map(move |TakenSession(name, set, destination, bits, node)| {
        let (set, resources) = (SetId(*set), Resources::of_bits(*bits));
        let session = u128::from_str_radix(name, 16).ok()?;
        Some(Taken { session, set, destination: *destination, resources, node: *node, ago })
    })
}

/// What is wrong with the cluster, for a node whose key has this mark.
pub(super) fn troubles(cluster: &Cluster, mark: u32) -> Vec<String> {
    let peers = cluster.peers();
    let peers = peers.borrow();
    let alone = peers.live.is_empty().then(|| "no other node of the cluster is heard".to_owned());
    let double = peers.duplicates.iter().map(|(node, at)| format!("more than one node is called {node}: {at:?}"));
    alone.into_iter().chain(double).chain(strange_keys(mark, &peers.live)).collect()
}

/// The nodes that know no session of ours, since their cookies and branches are made with another key.
fn strange_keys(mark: u32, peers: &[PeerView]) -> impl Iterator<Item = String> {
    let other = move |peer: &&PeerView| peer.view.report.key.is_some_and(|key| key != mark);
    peers.iter().filter(other).map(|peer| {
        format!(
            "node {} has another {KEY_FILE}: sessions do not go on there when an address moves: copy one node's file to the \
             other, and start that one anew",
            peer.node
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::cluster::report::{FORMAT, SourceReport};

    /// A node that tells so of its partitions, in that format.
    fn telling(format: u32, sources: &[(&str, Option<u8>)]) -> PeerView {
        let told =
            |digest: Option<u8>| SourceReport { digest: digest.map(|one| Digest([one; 16])), ..Default::default() };
        let sources = sources.iter().map(|(name, digest)| ((*name).to_owned(), told(*digest))).collect();
        peer("b", NodeReport { format, sources, ..NodeReport::default() }, Vec::new())
    }

    #[test]
    fn who_has_another_key_is_named_and_who_says_nothing_of_it_is_not() {
        let telling = |node, key| peer(node, NodeReport { key, ..NodeReport::default() }, Vec::new());
        let peers = [telling("b", Some(7)), telling("c", Some(8)), telling("d", None)];
        let told: Vec<_> = strange_keys(7, &peers).collect();
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("node c has another cluster.key: "), "{told:?}");
    }

    #[test]
    fn rows_differ_if_a_node_that_is_understood_says_that_it_has_others() {
        let of = |own: Option<u8>, format, told: &[(&str, Option<u8>)]| {
            let peers =
                Peers { live: vec![telling(format, &[("default", own)]), telling(format, told)], ..Peers::default() };
            differs("default", own.map(|one| Digest([one; 16])), &peers)
        };
        assert!(of(Some(1), FORMAT, &[("default", Some(2))]));
        for (own, format, told) in [
            (Some(1), FORMAT, &[("default", Some(1)), ("asr", Some(2))][..]),
            (Some(1), FORMAT, &[("default", None)]),
            (Some(1), FORMAT, &[("asr", Some(2))]),
            (None, FORMAT, &[("default", Some(2))]),
            (Some(1), FORMAT + 1, &[("default", Some(2))]),
        ] {
            assert!(!of(own, format, told), "{own:?} {told:?}");
        }
    }

    #[test]
    fn a_latency_is_told_to_one_digit() {
        for (micros, told) in [(0, 1), (1_400, 1), (9_999, 9), (17_000, 10), (99_000, 90), (123_456, 100)] {
            assert_eq!(about(Duration::from_micros(micros)), told, "{micros}");
        }
    }

    #[test]
    fn sessions_are_told_with_what_they_asked_for_and_so_they_are_heard() {
        let sessions: Asked = [(Resources::NONE, 3), (Resources::of_bits(4), 2)].into_iter().collect();
        let (total, told) = numbers(&sessions);
        assert_eq!((total, &told), (5, &BTreeMap::from([(4, 2)])));
        assert_eq!(asked(total, &told), sessions);
        // One of another version tells only how many there are.
        assert_eq!(asked(5, &BTreeMap::new()).total(), 5);
    }

    /// A node that tells so.
    fn peer(node: &str, report: NodeReport, left: Vec<LeftReport>) -> PeerView {
        let address = "127.0.0.1:7946".parse().expect("an address");
        let id = DestinationId { set: SetId(19), address: Some(address), uri: "sip:x".into() };
        let destination = DestinationReport { sessions: 5, left, ..DestinationReport::default() };
        let taken = TakenReport { at: Moment(0), sessions: vec![TakenSession("0f".into(), 19, 7, 0, 97)] };
        let (destinations, taken) = (BTreeMap::from([(id, destination)]), BTreeMap::from([(0, Arc::new(taken))]));
        let view = Arc::new(NodeView { report, destinations, taken, ..NodeView::default() });
        let now = Instant::now();
        PeerView { node: node.into(), boot: 1, address, heard: now, view, clock: Some((Moment(0), now)) }
    }

    fn started(started: u64) -> NodeReport {
        NodeReport { started, ..NodeReport::default() }
    }

    fn hear(told: &mut Told, live: Vec<PeerView>) -> Vec<PeerReport> {
        told.hear(&Peers { live, duplicates: Vec::new() }, "a")
    }

    #[test]
    fn a_node_is_heard_once_its_time_and_its_start_have_come() {
        let mut told = Told::default();
        let timeless = PeerView { clock: None, ..peer("b", started(7), Vec::new()) };
        assert_eq!(hear(&mut told, vec![timeless, peer("c", started(0), Vec::new())]), []);
        let heard = hear(&mut told, vec![peer("b", started(7), Vec::new()), peer("c", started(8), Vec::new())]);
        let heard: Vec<_> =
            heard.iter().map(|one| (one.node.as_str(), one.started, one.destinations[0].sessions.total())).collect();
        assert_eq!(heard, [("b", 7, 5), ("c", 8, 5)]);
        assert!(!told.heard.keys().any(|(_, started)| *started == 0));
    }

    #[test]
    fn this_start_of_this_node_leaves_nothing_behind() {
        let mut told = Told { view: NodeView { report: started(7), ..NodeView::default() }, ..Told::default() };
        let left = [("a", 7), ("a", 6), ("c", 7)].map(|(node, started)| LeftReport {
            node: node.into(),
            started,
            sessions: 3,
            ..LeftReport::default()
        });
        let heard = hear(&mut told, vec![peer("b", started(9), left.into())]);
        let left: Vec<_> =
            heard[0].destinations[0].left.iter().map(|left| (left.node.as_str(), left.started)).collect();
        assert_eq!(left, [("a", 6), ("c", 7)]);
    }

    #[test]
    fn what_is_told_in_a_later_format_has_no_say() {
        let mut told = Told::default();
        let later = || peer("b", NodeReport { format: FORMAT + 1, ..started(7) }, Vec::new());
        for _ in 0..2 {
            let heard = hear(&mut told, vec![later(), peer("c", started(8), Vec::new())]);
            assert_eq!(heard.iter().map(|one| one.node.as_str()).collect::<Vec<_>>(), ["c"]);
            assert_eq!(told.later.iter().map(|node| &**node).collect::<Vec<_>>(), ["b"]);
        }
        // It may come back as a node that is understood, and is told of again if it does not.
        assert_eq!(hear(&mut told, vec![peer("b", started(9), Vec::new())]).len(), 1);
        assert!(told.later.is_empty());
    }

    #[test]
    fn sessions_that_were_taken_over_at_other_times_are_told_apart() {
        let ago = |millis: u64| Taken {
            session: millis.into(),
            set: SetId(19),
            destination: 7,
            resources: Resources::NONE,
            node: 97,
            ago: Duration::from_millis(millis),
        };
        let told = together([40, 5000, 130, 4901, 0, 4899, 140].map(ago).into());
        let told: Vec<_> = told.iter().map(|(ago, some)| (ago.as_millis(), some.len())).collect();
        assert_eq!(told, [(5000, 2), (4899, 1), (140, 3), (0, 1)]);
        // As many as fit into a packet.
        let many = together(vec![ago(3); TAKEN_AT_ONCE + 1]);
        assert_eq!(many.iter().map(|(_, some)| some.len()).collect::<Vec<_>>(), [TAKEN_AT_ONCE, 1]);
        assert_eq!(together(Vec::new()), []);
    }
}
