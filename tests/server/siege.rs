//! Strangers against a pair that works: two processes, `tandem run`, with calls and gossip, and as many hostile packets as
//! TANDEM_HOSTILE_PACKETS says: random ones, real ones that were changed or recorded, and such as were sealed with another key.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::ops::AddAssign;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use fastrand::Rng;
use serde_json::{Value, json};
use tandem::edge::seal::{Key, Refusal, Sealer, Sender};
use tandem::edge::store::{Database, Store};
use tandem::lab::MrcpServer;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::node::{addresses, calls, servers};
use crate::scratch::{Folder, http, http_with, insert, until};

/// Sent in one go; then the nodes have time to read.
const BURST: u64 = 100;
const PAUSE: Duration = Duration::from_millis(5);
/// Packets from one look at the pair to the next.
const ROUND: u64 = 20_000;
/// Real packets of each way that are recorded for a round.
const RECORDED: usize = 5;
/// No node may grow by more, whatever came.
const GROWTH_KB: u64 = 8 * 1024;
const KEY: [u8; 32] = [0x5a; 32];

/// What a stranger sends.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Octets by chance, some with the head of a packet.
    Random,
    /// A real packet with something else in it.
    Changed,
    /// A real packet once more, to either node.
    Replayed,
    /// What would be a good packet if the key were right, or the cluster's name.
    WrongKey,
    /// Sealed with the right key, long ago.
    Old,
}

const KINDS: [Kind; 5] = [Kind::Random, Kind::Changed, Kind::Replayed, Kind::WrongKey, Kind::Old];

/// Numbers of packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sent([u64; KINDS.len()]);

impl AddAssign<Kind> for Sent {
    fn add_assign(&mut self, kind: Kind) {
        self.0[kind as usize] += 1;
    }
}

impl Sent {
    fn all(&self) -> u64 {
        self.0.iter().sum()
    }

    fn of(&self, kind: Kind) -> u64 {
        self.0[kind as usize]
    }
}

/// What goes to a node's gossip goes through this, and is recorded.
struct Relay {
    address: SocketAddr,
    passed: Arc<AtomicU64>,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    task: JoinHandle<()>,
}

impl Relay {
    async fn start(to: SocketAddr) -> Self {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("bound");
        let (passed, seen) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (count, record) = (passed.clone(), seen.clone());
        let task = tokio::spawn(async move {
            let mut packet = [0; 2048];
            while let Ok((length, _)) = socket.recv_from(&mut packet).await {
                if socket.send_to(&packet[..length], to).await.is_ok() {
                    count.fetch_add(1, Relaxed);
                    record.lock().expect("no panic").push(packet[..length].to_vec());
                }
            }
        });
        Relay { address, passed, seen, task }
    }

    /// The real packets that come from now on.
    async fn record(&self) -> Vec<Vec<u8>> {
        self.seen.lock().expect("no panic").clear();
        let enough = async || (self.seen.lock().expect("no panic").len() >= RECORDED).then_some(());
        until("the nodes gossip", enough).await;
        self.seen.lock().expect("no panic").clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A process `tandem run`, which ends with the test.
struct Node {
    process: Child,
    proxy: SocketAddr,
    http: SocketAddr,
    gossip: SocketAddr,
    relay: Relay,
    log: std::path::PathBuf,
    sent: Sent,
    /// The counters when it had received nothing hostile yet.
    before: Counters,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a node and its host have counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counters {
    refused: Vec<u64>,
    received: u64,
    /// By the kernel, since the socket was full.
    dropped: u64,
    passed: u64,
    restarts: u64,
}

impl Node {
    async fn ask(&self, path: &'static str) -> String {
        let address = self.http;
        let (status, text) = spawn_blocking(move || http(address, "GET", path)).await.expect("no panic");
        assert_eq!(status, 200, "{path}: {text}");
        text
    }

    async fn set(&self) -> Value {
        serde_json::from_str(&self.ask("/sets/19").await).expect("JSON")
    }

    /// What must not change: what each holds of a server.
    async fn views(&self) -> Vec<Value> {
        let set = self.set().await;
        let view = |one: &Value| json!([one["uri"], one["health"], one["votes"][0]["node"], one["votes"][0]["health"]]);
        set["destinations"].as_array().expect("a list").iter().map(view).collect()
    }

    async fn counters(&self) -> Counters {
        let passed = self.relay.passed.load(Relaxed);
        let text = self.ask("/metrics").await;
        let value = |name: &str| {
            let line =
                text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {text}"));
            line.trim().parse::<f64>().expect("a number") as u64
        };
        let refused = Refusal::ALL
            .map(|cause| value(&format!("tandem_cluster_packets_refused_total{{cause=\"{}\"}}", cause.name())));
        Counters {
            refused: refused.into(),
            received: value("tandem_cluster_packets_total{direction=\"received\"}"),
            dropped: dropped(self.gossip),
            passed,
            restarts: value("tandem_cluster_restarts_total"),
        }
    }

    /// The counters, once all that was sent is counted: received is what was sent and not dropped, with the gossip's own.
    async fn counted(&self) -> Counters {
        until("all that was sent is counted", async || {
            let now = self.counters().await;
            let since = |of: fn(&Counters) -> u64| of(&now) - of(&self.before);
            let came = since(|counters| counters.passed) + self.sent.all() - since(|counters| counters.dropped);
            (since(|counters| counters.received) == came).then_some(now)
        })
        .await
    }

    fn memory_kb(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells it");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    fn told(&self, words: &str) -> usize {
        fs::read_to_string(&self.log).expect("a log").lines().filter(|line| line.contains(words)).count()
    }
}

/// Packets that the kernel threw away since nobody read them in time.
fn dropped(address: SocketAddr) -> u64 {
    let SocketAddr::V4(address) = address else { panic!("{address}") };
    let place = format!("{:08X}:{:04X}", u32::from_le_bytes(address.ip().octets()), address.port());
    let table = fs::read_to_string("/proc/net/udp").expect("Linux has it");
    let line = table.lines().find(|line| line.split_whitespace().nth(1) == Some(&place)).expect("it is bound");
    line.split_whitespace().last().and_then(|count| count.parse().ok()).expect("a number")
}

fn free_port() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port")
}

/// Nodes `a` and `b`, each behind a relay, with the same rows.
async fn pair(folder: &Folder, servers: &[MrcpServer]) -> [Node; 2] {
    let gossip = [free_port(), free_port()];
    let relays = [Relay::start(gossip[0]).await, Relay::start(gossip[1]).await];
    let seeds = [relays[1].address, relays[0].address];
    let key: String = KEY.iter().map(|octet| format!("{octet:02x}")).collect();
    folder.write_secret("gossip.key", &key);
    let mut nodes = Vec::new();
    for ((nth, name), relay) in ["a", "b"].into_iter().enumerate().zip(relays) {
        folder.write_secret(&format!("{name}/cluster.key"), &"a5".repeat(32));
        let store = Store::new(&Database::of(format!("sqlite:{name}.db")), folder.path()).expect("a URL");
        store.make().await.expect("a database");
        store.execute(&insert(&addresses(servers))).await.expect("rows");
        let (proxy, http) =
            (free_port(), TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port"));
        let text = format!(
            r#"
            node_id = "{name}"
            state_dir = "{name}"
            [[listener]]
            bind = "udp:{proxy}"
            [database]
            url = "sqlite:{name}.db"
            [http]
            listen = "{http}"
            [cluster]
            bind = "{}"
            advertise = "{}"
            seeds = ["{}"]
            keys = ["gossip.key"]
            dead_after = "10s"
            [[set]]
            id = 19
            [[rule]]
            name = "tts"
            user_agent = "OPENSIPS_TTS_MRCP_CLIENT"
            set = 19
            "#,
            gossip[nth], relay.address, seeds[nth]
        );
        let file = folder.write(&format!("{name}.toml"), &text);
        let log = folder.path().join(format!("{name}.log"));
        let process = Command::new(env!("CARGO_BIN_EXE_tandem"))
            .args([Path::new("run"), Path::new("--config"), &file])
            .stderr(File::create(&log).expect("the test's folder"))
            .spawn()
            .expect("the binary runs");
        let (gossip, sent, before) = (gossip[nth], Sent::default(), Counters::default());
        nodes.push(Node { process, proxy, http, gossip, relay, log, sent, before });
    }
    for node in &nodes {
        let is_there = async || {
            assert_eq!(node.told("panicked"), 0, "{}", fs::read_to_string(&node.log).expect("a log"));
            let address = node.http;
            let listens =
                spawn_blocking(move || std::net::TcpStream::connect(address).is_ok()).await.expect("no panic");
            (listens && node.set().await["destinations"][0]["votes"][0]["node"].is_string()).then_some(())
        };
        until("the pair is there", is_there).await;
    }
    nodes.try_into().unwrap_or_else(|_| panic!("two"))
}

/// One who sends to nodes and is no node.
struct Stranger {
    socket: UdpSocket,
    random: Rng,
    /// With another key, of another cluster, and with the right key.
    sealers: [Sealer; 3],
    /// Real packets, by the node that they were for.
    recorded: [Vec<Vec<u8>>; 2],
}

impl Stranger {
    fn new(seed: u64) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.set_nonblocking(true).expect("a socket");
        let answers = socket.local_addr().expect("bound");
        let sealer = |cluster, key, node: &str| {
            let sender = Sender { node: node.into(), boot: u64::MAX / 2 };
            Sealer::new(cluster, &[Key::new(key).expect("a secret")], &sender, answers)
        };
        let sealers = [sealer("tandem", [1; 32], "b"), sealer("speech", KEY, "b"), sealer("tandem", KEY, "c")];
        Stranger { socket, random: Rng::with_seed(seed), sealers, recorded: Default::default() }
    }

    fn packet(&mut self, kind: Kind) -> Vec<u8> {
        match kind {
            Kind::Random => {
                let mut packet = match self.random.u8(..4) {
                    0 => b"TDM\x01".to_vec(),
                    1 => b"TDM\x01\x06tandem\x01b".to_vec(),
                    _ => Vec::new(),
                };
                let length = self.random.usize(..1500);
                packet.extend(std::iter::repeat_with(|| self.random.u8(..)).take(length));
                packet
            }
            Kind::Changed => self.changed(),
            Kind::Replayed => self.real(),
            Kind::WrongKey => {
                let sealer = self.random.usize(..2);
                self.sealed(sealer, SystemTime::now())
            }
            Kind::Old => self.sealed(2, SystemTime::now() - Duration::from_secs(40)),
        }
    }

    fn real(&mut self) -> Vec<u8> {
        let side = &self.recorded[self.random.usize(..2)];
        side[self.random.usize(..side.len())].clone()
    }

    fn changed(&mut self) -> Vec<u8> {
        let real = self.real();
        let mut packet = real.clone();
        while packet == real {
            let at = self.random.usize(..packet.len());
            match self.random.u8(..6) {
                // The head in the clear is worth more than its share.
                0 => packet[at % 30] = self.random.u8(..),
                1 => packet[at] ^= 1 << self.random.u8(..8),
                2 => packet.truncate(at),
                3 => packet.extend(std::iter::repeat_with(|| self.random.u8(..)).take(1 + at % 200)),
                4 => {
                    packet.remove(at);
                }
                _ => {
                    let other = self.real();
                    let at = at.min(other.len());
                    packet.splice(at.., other[at..].iter().copied());
                }
            }
            // Another real one is none that was changed.
            if packet.is_empty() || self.recorded.iter().flatten().any(|one| *one == packet) {
                packet.clone_from(&real);
            }
        }
        packet
    }

    /// A message of chitchat's that a node would answer, or anything.
    fn sealed(&mut self, sealer: usize, now: SystemTime) -> Vec<u8> {
        let mut message = b"\x53\xb0\x00\x00\x00\x00\x06\x00tandem".to_vec();
        if self.random.bool() {
            message.extend(std::iter::repeat_with(|| self.random.u8(..)).take(900));
        }
        self.sealers[sealer].seal(&message, now).expect("randomness").remove(0)
    }

    /// Sends so many, to both nodes in turn.
    fn send(&mut self, nodes: &mut [Node; 2], count: u64) {
        for nth in 0..count {
            let (kind, node) = (KINDS[self.random.usize(..KINDS.len())], &mut nodes[(nth % 2) as usize]);
            let packet = self.packet(kind);
            while let Err(full) = self.socket.send_to(&packet, node.gossip) {
                assert_eq!(full.kind(), std::io::ErrorKind::WouldBlock);
                std::thread::sleep(PAUSE);
            }
            node.sent += kind;
            if nth % BURST == BURST - 1 {
                std::thread::sleep(PAUSE);
            }
        }
    }
}

/// An order to one node reaches the other.
async fn told_of(nodes: &[Node; 2], giver: usize, order: &str) {
    let (address, set) = (nodes[giver].http, nodes[giver].set().await);
    let uri = set["destinations"][1]["uri"].as_str().expect("text").to_owned();
    let body = json!({ "order": order, "reason": "to be heard", "by": "ann" }).to_string();
    let path = format!("/sets/19/destination/order?uri={uri}");
    let given = spawn_blocking(move || http_with(address, "PUT", &path, &body)).await.expect("no panic");
    assert_eq!(given.0, 200, "{}", given.1);
    let heard = async || (nodes[1 - giver].set().await["destinations"][1]["order"]["order"] == *order).then_some(());
    until("the order is heard", heard).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_that_works_takes_no_notice_of_hostile_packets_but_counts_each() {
    let total: u64 = match std::env::var("TANDEM_HOSTILE_PACKETS") {
        Ok(count) => count.parse().expect("TANDEM_HOSTILE_PACKETS is a number"),
        Err(_) => 4_000,
    };
    let folder = Folder::new();
    let servers = servers(2).await;
    let mut nodes = pair(&folder, &servers).await;
    for node in &mut nodes {
        node.before = node.counters().await;
        assert_eq!(node.before.refused, [0; Refusal::ALL.len()]);
    }
    let views = [nodes[0].views().await, nodes[1].views().await];
    let proxies = [nodes[0].proxy, nodes[1].proxy];
    let mut stranger = Stranger::new(41);
    let (began, mut memory, mut answered, mut round) = (Instant::now(), None, 0, 0_u64);
    while nodes.iter().map(|node| node.sent.all()).sum::<u64>() < total {
        let count = ROUND.min(total - nodes.iter().map(|node| node.sent.all()).sum::<u64>());
        stranger.recorded = [nodes[0].relay.record().await, nodes[1].relay.record().await];
        let callers = proxies.map(|proxy| tokio::spawn(calls(proxy, 20, 40.0)));
        let flood = spawn_blocking(move || {
            stranger.send(&mut nodes, count);
            (stranger, nodes)
        });
        (stranger, nodes) = flood.await.expect("no panic");
        for caller in callers {
            let report = caller.await.expect("no panic");
            assert_eq!((report.answered, report.failed, report.lost), (20, 0, 0), "{report}");
            answered += report.answered;
        }
        round += 1;
        let giver = (round % 2) as usize;
        told_of(&nodes, giver, "drain").await;
        told_of(&nodes, 1 - giver, "ready").await;
        for (node, views) in nodes.iter().zip(&views) {
            assert_eq!(&node.views().await, views);
            node.counted().await;
        }
        // Not at the very start: a process grows into what it does.
        memory.get_or_insert_with(|| nodes.iter().map(Node::memory_kb).collect::<Vec<_>>());
    }
    let took = began.elapsed();
    for (node, (name, before)) in nodes.iter().zip(["a", "b"].iter().zip(memory.expect("a round"))) {
        let now = node.counted().await;
        let refused: Vec<_> = now.refused.iter().zip(&node.before.refused).map(|(now, before)| now - before).collect();
        let (dropped, all) = (now.dropped - node.before.dropped, refused.iter().sum::<u64>());
        let of = |causes: &[Refusal]| causes.iter().map(|cause| refused[*cause as usize]).sum::<u64>();
        let causes = Refusal::ALL.iter().zip(&refused).filter(|(_, count)| **count > 0);
        let causes: Vec<_> = causes.map(|(cause, count)| format!("{} {count}", cause.name())).collect();
        let sent = KINDS.map(|kind| format!("{kind:?} {}", node.sent.of(kind)));
        let after = node.memory_kb();
        println!("{name}: sent {}: {}", node.sent.all(), sent.join(", "));
        println!("{name}: refused {all}: {}; dropped by the kernel {dropped}", causes.join(", "));
        println!("{name}: memory {before} kB, {after} kB at the end");
        // What the kernel dropped may have been the gossip's own.
        assert!(all <= node.sent.all() && all >= node.sent.all() - dropped);
        // Recorded long ago is old, and what a node has sent itself comes back, changed or not.
        let expected = node.sent.of(Kind::Replayed) + node.sent.of(Kind::Old);
        assert!(of(&[Refusal::Replayed, Refusal::Clock]) <= expected);
        assert!(of(&[Refusal::Replayed, Refusal::Clock, Refusal::Reflected]) >= expected.saturating_sub(dropped));
        assert_eq!((of(&[Refusal::Unreadable]), now.restarts), (0, 0));
        assert!(after <= before + GROWTH_KB, "it grew from {before} to {after} kB");
        for (words, expected) in [("panicked", 0), ("node joined", 1), ("node left", 0), ("two nodes have", 0)] {
            assert_eq!(node.told(words), expected, "{words}");
        }
    }
    let nothing = stranger.socket.recv(&mut [0; 2048]).map_err(|error| error.kind());
    assert_eq!(nothing, Err(std::io::ErrorKind::WouldBlock), "nobody answers a stranger");
    println!("{total} packets in {:.1} s; {answered} calls meanwhile, all answered", took.as_secs_f64());
}
