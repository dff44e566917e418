//! What strangers can do: nothing, and it is counted. And what one with the key can do: kill the gossip, which is started
//! again.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use fastrand::Rng;
use tandem::edge::cluster::{Cluster, ClusterConfig, ClusterEvent, PeerView};
use tandem::edge::seal::{Key, Refusal, Sealer, Sender};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::relay::start_behind;
use super::{LONG, config, event, key, loopback, names, nodes, start, until, view, view_of};

/// One who sends to nodes and is no node.
struct Stranger {
    socket: UdpSocket,
}

impl Stranger {
    async fn new() -> Self {
        Stranger { socket: UdpSocket::bind(loopback()).await.expect("a socket") }
    }

    fn sealer(&self, cluster: &str, key: &Key, node: &str) -> Sealer {
        let sender = Sender { node: node.into(), boot: 1 };
        let answers = self.socket.local_addr().expect("bound");
        Sealer::new(cluster, std::slice::from_ref(key), &sender, answers)
    }

    async fn send(&self, to: SocketAddr, packet: &[u8]) {
        self.socket.send_to(packet, to).await.expect("sent");
    }

    /// Nobody has said anything to it.
    fn is_not_answered(&self) -> bool {
        let nothing = self.socket.try_recv(&mut [0; 2048]).map_err(|error| error.kind());
        nothing == Err(std::io::ErrorKind::WouldBlock)
    }
}

/// Waits until the node has refused so many packets for that cause.
async fn refused(node: &Cluster, cause: Refusal, count: u64) {
    let counted = async {
        while node.counters().refused(cause) < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = timeout(LONG, counted).await;
    assert!(in_time.is_ok(), "{cause:?}: {:?}", node.counters());
}

fn sealed(sealer: &mut Sealer, message: &[u8], now: SystemTime) -> Vec<u8> {
    sealer.seal(message, now).expect("randomness").remove(0)
}

/// chitchat's message "Syn" without a digest, which a node would answer.
fn greeting(cluster: &str) -> Vec<u8> {
    let mut message = vec![0x53, 0xb0, 0, 0, 0, 0];
    put(&mut message, cluster.as_bytes());
    message
}

fn put(to: &mut Vec<u8>, text: &[u8]) {
    to.extend((text.len() as u16).to_le_bytes());
    to.extend_from_slice(text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_has_the_key_is_answered() {
    // Else the tests below would prove nothing.
    let node = start("a", config(&[])).await;
    let friend = Stranger::new().await;
    let packet = sealed(&mut friend.sealer("tandem", &key(1), "x"), &greeting("tandem"), SystemTime::now());
    friend.send(node.address(), &packet).await;
    let mut answer = [0; 2048];
    let (length, from) = timeout(LONG, friend.socket.recv_from(&mut answer)).await.expect("in time").expect("received");
    assert_eq!((&answer[..3], from), (&b"TDM"[..], node.address()));
    assert!(length > 100);
    assert_eq!(node.counters().refused, [0; 9]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_of_bad_packet_is_counted_and_changes_nothing() {
    let [a, b] = nodes().await;
    b.publish(view(2, 1));
    let before = until(&mut a.peers(), |peers| view_of(peers, "b") == Some(&view(2, 1))).await;
    let stranger = Stranger::new().await;
    let (now, minute) = (SystemTime::now(), Duration::from_secs(60));
    let hello = greeting("tandem");
    let by =
        |cluster: &str, octet: u8, at: SystemTime| sealed(&mut stranger.sealer(cluster, &key(octet), "x"), &hello, at);
    let mut other_format = by("tandem", 1, now);
    other_format[3] = 2;
    let mut changed = by("tandem", 1, now);
    *changed.last_mut().expect("a packet") ^= 1;
    let packets = [
        (Refusal::Garbage, b"OPTIONS sip:a SIP/2.0\r\n\r\n".to_vec()),
        (Refusal::TooLarge, vec![b'T'; 3000]),
        (Refusal::Format, other_format),
        (Refusal::Cluster, by("speech", 1, now)),
        (Refusal::Key, by("tandem", 2, now)),
        (Refusal::Key, changed),
        (Refusal::Clock, by("tandem", 1, now - minute)),
        (Refusal::Clock, by("tandem", 1, now + minute)),
    ];
    let mut expected = [0; 9];
    for (cause, packet) in &packets {
        expected[*cause as usize] += 1;
        stranger.send(a.address(), packet).await;
        refused(&a, *cause, expected[*cause as usize]).await;
    }
    assert_eq!(a.counters().refused, expected);
    // The gossip goes on as if nothing had been.
    b.publish(view(2, 2));
    let after = until(&mut a.peers(), |peers| view_of(peers, "b") == Some(&view(2, 2))).await;
    assert_eq!((names(&after), after.live[0].boot), (vec!["b"], before.live[0].boot));
    assert!(stranger.is_not_answered());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_packets_are_refused_when_they_come_again() {
    let (a, to_a) = start_behind("a", config(&[]), 0, 1).await;
    let (b, to_b) = start_behind("b", config(&[a.address()]), 0, 2).await;
    until(&mut a.peers(), |peers| names(peers) == ["b"]).await;
    until(&mut b.peers(), |peers| names(peers) == ["a"]).await;
    let recorded = |relay: &super::relay::Relay| relay.seen.lock().expect("no panic").clone();
    let (for_a, for_b) = (recorded(&to_a), recorded(&to_b));
    assert!(for_a.len() > 2 && for_b.len() > 2);
    let thief = Stranger::new().await;
    for packet in &for_a {
        thief.send(a.bound(), packet).await;
    }
    refused(&a, Refusal::Replayed, for_a.len() as u64).await;
    // What a itself has sent is no news to it either.
    for packet in &for_b {
        thief.send(a.bound(), packet).await;
    }
    refused(&a, Refusal::Reflected, for_b.len() as u64).await;
    assert!(thief.is_not_answered());
    assert_eq!(names(&a.peers().borrow()), ["b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_another_cluster_or_key_never_meet() {
    let a = start("a", config(&[])).await;
    let other_cluster = ClusterConfig { name: "speech".into(), ..config(&[a.address()]) };
    let other_key = ClusterConfig { keys: vec![key(2)], ..config(&[a.address()]) };
    let no_key = ClusterConfig { keys: Vec::new(), ..config(&[a.address()]) };
    let others = [start("b", other_cluster).await, start("c", other_key).await, start("d", no_key).await];
    refused(&a, Refusal::Cluster, 3).await;
    refused(&a, Refusal::Key, 6).await;
    assert!(a.peers().borrow().live.is_empty());
    for other in &others {
        assert!(other.peers().borrow().live.is_empty());
        assert_eq!(other.counters().received, 0, "it is not answered");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_noise_holds_no_gossip_up() {
    let [a, b] = nodes().await;
    let mut peers = a.peers();
    until(&mut peers, |peers| names(peers) == ["b"]).await;
    let stranger = Stranger::new().await;
    let mut random = Rng::with_seed(41);
    let wrong: Vec<_> =
        (0..64).map(|_| sealed(&mut stranger.sealer("tandem", &key(9), "x"), &[0; 900], SystemTime::now())).collect();
    for round in 0..20_000_u32 {
        let mut packet = wrong[random.usize(..wrong.len())].clone();
        match random.u8(..3) {
            0 => packet.truncate(random.usize(..packet.len())),
            1 => packet.iter_mut().for_each(|octet| *octet = random.u8(..)),
            _ => {}
        }
        stranger.send(a.address(), &packet).await;
        if round % 4000 == 0 {
            let told = view(2, round);
            b.publish(told.clone());
            until(&mut peers, |peers| view_of(peers, "b") == Some(&told)).await;
        }
    }
    assert_eq!(a.counters().restarts, 0);
    assert!(stranger.is_not_answered());
}

/// A message of chitchat that says two things of one node's versions, which its code asserts not to happen.
fn deadly(peer: &PeerView) -> Vec<u8> {
    let mut operations = vec![0];
    put(&mut operations, peer.node.as_bytes());
    operations.extend(peer.boot.to_le_bytes());
    let SocketAddr::V4(address) = peer.address else { panic!("{}", peer.address) };
    operations.push(4);
    operations.extend(address.ip().octets());
    operations.extend(address.port().to_le_bytes());
    operations.extend([0; 16]);
    operations.push(1);
    put(&mut operations, b"node");
    put(&mut operations, b"{}");
    operations.extend((1_u64 << 40).to_le_bytes());
    operations.extend([0, 2]);
    operations.extend((1_u64 << 39).to_le_bytes());
    let mut message = vec![0x53, 0xb0, 0, 2, 2];
    put(&mut message, &operations);
    message.push(0);
    message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gossip_that_dies_is_started_again_and_told_of() {
    let [a, b] = nodes().await;
    a.publish(view(2, 1));
    b.publish(view(2, 2));
    let peers = until(&mut a.peers(), |peers| view_of(peers, "b") == Some(&view(2, 2))).await;
    let seen = until(&mut b.peers(), |peers| view_of(peers, "a") == Some(&view(2, 1))).await;
    let mut events = a.events();
    let traitor = Stranger::new().await;
    let mut sealer = traitor.sealer("tandem", &key(1), "x");
    traitor.send(a.address(), &sealed(&mut sealer, &deadly(&peers.live[0]), SystemTime::now())).await;
    event(&mut events, |event| matches!(event, ClusterEvent::Restarting { .. })).await;
    assert_eq!(a.counters().restarts, 1);
    // It has a new boot, tells what it told before, and hears.
    until(&mut b.peers(), |peers| view_of(peers, "a") == Some(&view(2, 1)) && peers.live[0].boot > seen.live[0].boot)
        .await;
    b.publish(view(2, 3));
    until(&mut a.peers(), |peers| view_of(peers, "b") == Some(&view(2, 3))).await;
    // What the codec can't read is counted, and is not the end.
    traitor.send(a.address(), &sealed(&mut sealer, b"\x53\xb0\x00\x07nonsense", SystemTime::now())).await;
    refused(&a, Refusal::Unreadable, 1).await;
    b.publish(view(2, 4));
    until(&mut a.peers(), |peers| view_of(peers, "b") == Some(&view(2, 4))).await;
}
