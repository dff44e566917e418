//! The gossip's task: boots of chitchat one after another, what is published put in and what peers say taken out.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chitchat::{Chitchat, ChitchatConfig, ChitchatHandle, ChitchatId, DeletionStatus, FailureDetectorConfig};
use chitchat::{NodeState, ProtocolVersion, spawn_chitchat};
use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use super::counters::{ClusterCounters, Counters};
use super::members::{Member, Members};
use super::report::{self, Moment, NodeView};
use super::transport::{SealedTransport, Wire};
use super::{ClusterConfig, ClusterEvent, PeerView, Peers};
use crate::edge::retry::Retry;
use crate::edge::seal::{Refusal, Sealer, Sender};

/// The pauses before a gossip that died is started again, first and longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// A gossip that lived for so long starts again with the first pause.
const WAS_WELL: Duration = Duration::from_secs(60);
/// How often a node tells its time. Peers that come later know it less exactly by as much.
const CLOCK: Duration = Duration::from_secs(1);
/// How often refused packets are told of.
const TELL_REFUSED: Duration = Duration::from_secs(10);
/// How often a duplicate is told.
const TELL_DUPLICATE: Duration = Duration::from_secs(60);
/// How long chitchat remembers a node that is gone, and a key that was deleted.
const REMEMBERED: Duration = Duration::from_secs(600);

/// What all boots share.
pub(super) struct Gossip {
    pub(super) config: ClusterConfig,
    pub(super) node: Arc<str>,
    /// Where peers reach us.
    pub(super) address: SocketAddr,
    pub(super) started: Instant,
    pub(super) wire: Arc<Wire>,
    pub(super) published: watch::Receiver<Arc<NodeView>>,
    /// Addresses of seeds that are not there.
    pub(super) called: mpsc::Receiver<SocketAddr>,
    pub(super) stopped: oneshot::Receiver<()>,
    pub(super) told: Told,
}

/// Whom we tell.
pub(super) struct Told {
    pub(super) peers: watch::Sender<Peers>,
    pub(super) live: watch::Sender<HashSet<SocketAddr>>,
    pub(super) events: broadcast::Sender<ClusterEvent>,
    pub(super) counters: Arc<Counters>,
}

impl Gossip {
    /// Gossips until it is stopped, with `boot` and those after it.
    pub(super) async fn run(mut self, mut boot: u64) {
        let mut retry = Retry::new(RETRY.0, RETRY.1);
        loop {
            let began = Instant::now();
            let cause = match self.start(boot).await {
                Ok(mut running) => match running.run(&mut self).await {
                    End::Died(cause) => cause,
                    End::Stopped => {
                        // What it ended with is of no interest any more.
                        let _ = running.handle.shutdown().await;
                        return;
                    }
                },
                Err(cause) => cause,
            };
            self.told.counters.restarts.add_one();
            warn!(cause, "gossip died and is started again");
            let _ = self.told.events.send(ClusterEvent::Restarting { cause });
            // Its versions begin anew, which peers take from a new boot only.
            boot += 1;
            if began.elapsed() > WAS_WELL {
                retry = Retry::new(RETRY.0, RETRY.1);
            }
            tokio::select! {
                () = tokio::time::sleep(retry.next_pause()) => {}
                _ = &mut self.stopped => return,
            }
        }
    }

    async fn start(&self, boot: u64) -> Result<Boot, String> {
        let ClusterConfig { name, keys, interval, dead_after, .. } = &self.config;
        let sender = Sender { node: self.node.clone(), boot };
        self.wire.opener.lock().unwrap_or_else(PoisonError::into_inner).boots(boot, self.address);
        let sealer = Sealer::new(name, keys, &sender, self.address);
        let transport = SealedTransport { wire: self.wire.clone(), sealer: Mutex::new(Some(sealer)) };
        let config = ChitchatConfig {
            chitchat_id: ChitchatId::new(self.node.clone(), boot, self.address),
            cluster_id: name.clone(),
            gossip_interval: *interval,
            listen_addr: self.config.bind,
            // They are called from outside, with pauses and a resolver of our own.
            seed_nodes: Vec::new(),
            // Says only whom to gossip with; who is there is told by `Members`, to the millisecond.
            failure_detector_config: FailureDetectorConfig {
                phi_threshold: 8.0,
                sampling_window_size: 100,
                max_interval: *dead_after,
                initial_interval: *interval,
                dead_node_grace_period: REMEMBERED,
            },
            marked_for_deletion_grace_period: REMEMBERED,
            catchup_callback: None,
            extra_liveness_predicate: None,
            // V1 once no node is left that knows V0 alone.
            protocol_version: ProtocolVersion::V0,
        };
        let own = config.chitchat_id.clone();
        let handle = spawn_chitchat(config, Vec::new(), &transport).await.map_err(|error| format!("{error:#}"))?;
        let news = Arc::new(Notify::new());
        let (bell, id) = (news.clone(), own.clone());
        handle
            .with_chitchat(|chitchat| {
                let (bell, id) = (bell.clone(), id.clone());
                let ring = move |event: chitchat::KeyChangeEvent<'_>| {
                    if *event.node != id {
                        bell.notify_one();
                    }
                };
                chitchat.subscribe_event("", ring).forever();
            })
            .await;
        let now = Instant::now();
        Ok(Boot {
            handle,
            news,
            members: Members::new(member(&own), *dead_after, now),
            own,
            applied: Arc::default(),
            heard: BTreeMap::new(),
            clock_told: None,
            duplicates_told: BTreeMap::new(),
            refused: (now, self.told.counters.read()),
        })
    }
}

/// One life of chitchat.
struct Boot {
    handle: ChitchatHandle,
    own: ChitchatId,
    /// Rung when a peer says something.
    news: Arc<Notify>,
    members: Members,
    /// What of our view chitchat has.
    applied: Arc<NodeView>,
    /// What each boot of each peer has said.
    heard: BTreeMap<Member, Heard>,
    clock_told: Option<Instant>,
    duplicates_told: BTreeMap<Arc<str>, Instant>,
    /// The counters when refused packets were last told of, and when that was.
    refused: (Instant, ClusterCounters),
}

/// How a life of chitchat ended.
enum End {
    /// By itself, of that.
    Died(String),
    /// It has not: it is to be ended.
    Stopped,
}

/// What one boot of a peer has said.
#[derive(Default)]
struct Heard {
    /// chitchat's versions that this is of: of the last deletion that it has forgotten, and of the last value.
    versions: (u64, u64),
    /// The version of each value.
    values: BTreeMap<String, u64>,
    view: Arc<NodeView>,
    clock: Option<(Moment, Instant)>,
}

/// Values of one peer that are new; none of a key that is gone.
type News = Vec<(Member, Vec<(String, Option<String>)>)>;

impl Boot {
    /// Returns when chitchat dies or is to be stopped.
    async fn run(&mut self, gossip: &mut Gossip) -> End {
        let mut ticks = interval(gossip.config.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        gossip.published.mark_changed();
        let ended = self.handle.termination_watcher();
        tokio::pin!(ended);
        loop {
            tokio::select! {
                end = &mut ended => {
                    return End::Died(end.map_or_else(|error| format!("{error:#}"), |()| "it ended".to_owned()));
                }
                _ = &mut gossip.stopped => return End::Stopped,
                _ = ticks.tick() => {
                    self.tell_clock(gossip.started).await;
                    self.hear(&gossip.told).await;
                    self.tell_refused(&gossip.told.counters);
                }
                () = self.news.notified() => self.hear(&gossip.told).await,
                Ok(()) = gossip.published.changed() => {
                    let view = gossip.published.borrow_and_update().clone();
                    self.publish(view).await;
                }
                Some(seed) = gossip.called.recv() => {
                    // Its end is seen above.
                    let _ = self.handle.gossip(seed);
                }
            }
        }
    }

    /// Puts into chitchat what is not there yet.
    async fn publish(&mut self, view: Arc<NodeView>) {
        let (old, new) = (&self.applied, &view);
        let set = |chitchat: &mut Chitchat| {
            let state = chitchat.self_node_state();
            state.set(report::NODE, report::write(&new.report));
            for (id, destination) in &new.destinations {
                if old.destinations.get(id) != Some(destination) {
                    state.set(report::key(id), report::write(destination));
                }
            }
            for (number, taken) in &new.taken {
                if !old.taken.contains_key(number) {
                    state.set(report::taken_key(*number), report::write(&**taken));
                }
            }
            for number in old.taken.keys().filter(|number| !new.taken.contains_key(number)) {
                state.delete(&report::taken_key(*number));
            }
            for (id, piece) in new.versions.iter().filter(|(id, _)| !old.versions.contains_key(id)) {
                state.set(report::piece_key(*id), &**piece);
            }
            for id in old.versions.keys().filter(|id| !new.versions.contains_key(id)) {
                state.delete(&report::piece_key(*id));
            }
            for id in old.destinations.keys().filter(|id| !new.destinations.contains_key(id)) {
                state.delete(&report::key(id));
            }
        };
        self.handle.with_chitchat(set).await;
        self.applied = view;
    }

    async fn tell_clock(&mut self, started: Instant) {
        let now = Instant::now();
        if self.clock_told.is_none_or(|last| now.duration_since(last) >= CLOCK) {
            self.clock_told = Some(now);
            let moment = Moment::of(now, started).0;
            self.handle.with_chitchat(|chitchat| chitchat.self_node_state().set(report::CLOCK, moment)).await;
        }
    }

    /// Takes from chitchat who is there and what they say, and tells of it.
    async fn hear(&mut self, told: &Told) {
        let (members, heard, own) = (&mut self.members, &mut self.heard, &self.own);
        let mut news = News::new();
        let take = |chitchat: &mut Chitchat| {
            // After the lock, so that no time goes backward.
            let now = Instant::now();
            let peers = chitchat.node_states().iter().filter(|(id, _)| *id != own);
            let peers: Vec<_> = peers.map(|(id, state)| (member(id), state)).collect();
            for (member, state) in &peers {
                members.hear(member, u64::from(state.heartbeat()), now);
                let changes = heard.entry(member.clone()).or_default().take(state);
                if !changes.is_empty() {
                    news.push((member.clone(), changes));
                }
            }
            let known: BTreeSet<_> = peers.into_iter().map(|(member, _)| member).collect();
            members.retain(|member| known.contains(member));
            heard.retain(|member, _| known.contains(member));
            now
        };
        let now = self.handle.with_chitchat(take).await;
        for (member, changes) in news {
            if let Some(heard) = self.heard.get_mut(&member) {
                heard.read(changes, now, &told.counters);
            }
        }
        self.tell_peers(told, now);
        self.tell_duplicates(told, now);
    }

    fn tell_peers(&self, told: &Told, now: Instant) {
        let views: Vec<_> = self.members.live(now).into_values().collect();
        let views = views.into_iter().map(|(member, last)| {
            let Member { node, boot, address } = member.clone();
            let (view, clock) = self.heard.get(member).map(|one| (one.view.clone(), one.clock)).unwrap_or_default();
            PeerView { node, boot, address, heard: last, view, clock }
        });
        let live: Vec<_> = views.collect();
        let duplicates: Vec<_> = self.members.duplicates(now).into_iter().collect();
        told.live.send_if_modified(|addresses| {
            let new: HashSet<_> = live.iter().map(|peer| peer.address).collect();
            let is_new = *addresses != new;
            *addresses = new;
            is_new
        });
        told.peers.send_if_modified(|peers| {
            told.changes(&peers.live, &live);
            let is_new = peers.duplicates != duplicates || !say_the_same(&peers.live, &live);
            *peers = Peers { live, duplicates };
            is_new
        });
    }

    /// Errors do not repeat ten times a second, and do not fall silent while they last.
    fn tell_duplicates(&mut self, told: &Told, now: Instant) {
        let duplicates = self.members.duplicates(now);
        self.duplicates_told.retain(|_, last| now.saturating_duration_since(*last) < TELL_DUPLICATE);
        for (node, addresses) in duplicates {
            if self.duplicates_told.contains_key(&node) {
                continue;
            }
            self.duplicates_told.insert(node.clone(), now);
            let is_ours = *node == *self.own.node_id;
            told.counters.duplicates.add_one();
            error!(node = %node, ?addresses, is_ours, "two nodes have one node_id: give each its own");
            let _ = told.events.send(ClusterEvent::Duplicate { node, addresses });
        }
    }

    fn tell_refused(&mut self, counters: &Counters) {
        let (last, before) = &self.refused;
        if last.elapsed() < TELL_REFUSED {
            return;
        }
        let now = counters.read();
        for cause in Refusal::ALL {
            let packets = now.refused(cause) - before.refused(cause);
            if packets > 0 {
                warn!(cause = cause.name(), packets, "gossip packets refused");
            }
        }
        self.refused = (Instant::now(), now);
    }
}

impl Told {
    /// Tells who has come and gone.
    fn changes(&self, before: &[PeerView], now: &[PeerView]) {
        let boot_of = |peers: &[PeerView], node: &str| {
            peers.binary_search_by(|peer| peer.node.as_ref().cmp(node)).ok().map(|at| peers[at].boot)
        };
        for peer in before.iter().filter(|peer| boot_of(now, &peer.node).is_none()) {
            let PeerView { node, boot, .. } = peer.clone();
            info!(node = %node, boot, "node left the cluster");
            let _ = self.events.send(ClusterEvent::Left { node, boot });
        }
        for peer in now.iter().filter(|peer| boot_of(before, &peer.node) != Some(peer.boot)) {
            let PeerView { node, boot, address, .. } = peer.clone();
            info!(node = %node, boot, %address, "node joined the cluster");
            let _ = self.events.send(ClusterEvent::Joined { node, boot, address });
        }
    }
}

impl Heard {
    /// The values that are new or gone since the last time.
    fn take(&mut self, state: &NodeState) -> Vec<(String, Option<String>)> {
        let versions = (state.last_gc_version(), state.max_version());
        if versions == self.versions {
            return Vec::new();
        }
        self.versions = versions;
        let mut changes = Vec::new();
        let mut there = 0;
        for (key, value) in state.key_values_including_deleted() {
            let is_there = matches!(value.status, DeletionStatus::Set);
            there += usize::from(is_there);
            match (self.values.get_mut(key), is_there) {
                (Some(version), true) if *version == value.version => {}
                (Some(version), true) => {
                    *version = value.version;
                    changes.push((key.to_owned(), Some(value.value.clone())));
                }
                (None, true) => {
                    self.values.insert(key.to_owned(), value.version);
                    changes.push((key.to_owned(), Some(value.value.clone())));
                }
                (Some(_), false) => {
                    self.values.remove(key);
                    changes.push((key.to_owned(), None));
                }
                (None, false) => {}
            }
        }
        // chitchat forgot everything and began anew, so a deletion may be missing.
        if self.values.len() > there {
            self.values.retain(|key, _| {
                let stays = state.contains_key(key);
                if !stays {
                    changes.push((key.clone(), None));
                }
                stays
            });
        }
        changes
    }

    fn read(&mut self, changes: Vec<(String, Option<String>)>, now: Instant, counters: &Counters) {
        for (key, value) in changes {
            let Some(value) = value else {
                match report::read_key(&key) {
                    Some(report::Key::Destination(id)) => drop(self.view().destinations.remove(&id)),
                    Some(report::Key::Taken(number)) => drop(self.view().taken.remove(&number)),
                    Some(report::Key::Version(id)) => drop(self.view().versions.remove(&id)),
                    None => {}
                }
                continue;
            };
            match report::read(&key, &value) {
                Some(report::Told::Clock(moment)) => self.clock = Some((moment, now)),
                Some(report::Told::Node(node)) => self.view().report = node,
                Some(report::Told::Destination(id, destination)) => {
                    self.view().destinations.insert(id, destination);
                }
                Some(report::Told::Version(id, piece)) => drop(self.view().versions.insert(id, piece)),
                Some(report::Told::Taken(number, taken)) => drop(self.view().taken.insert(number, Arc::new(taken))),
                None => counters.unreadable_values.add_one(),
            }
        }
    }

    fn view(&mut self) -> &mut NodeView {
        Arc::make_mut(&mut self.view)
    }
}

/// Whether nothing is different but heartbeats and clocks.
fn say_the_same(one: &[PeerView], other: &[PeerView]) -> bool {
    let same = |(a, b): (&PeerView, &PeerView)| {
        (&a.node, a.boot, a.address) == (&b.node, b.boot, b.address) && Arc::ptr_eq(&a.view, &b.view)
    };
    one.len() == other.len() && one.iter().zip(other).all(same)
}

fn member(id: &ChitchatId) -> Member {
    Member { node: id.node_id.clone(), boot: id.generation_id, address: id.gossip_advertise_addr }
}
