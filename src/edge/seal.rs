//! What the nodes of a cluster say to each other, kept from everybody else: XChaCha20-Poly1305 with random nonces
//! (draft-irtf-cfrg-xchacha-03). The one door of crate `chacha20poly1305`.
//!
//! A message is cut into pieces, each a packet of its own, so that none needs fragments of IP. Numbers are big-endian.
//!
//! | | octets |
//! |---|---|
//! | `TDM`, format 1 | 4 |
//! | cluster's name, its length first | 1 + n |
//! | sender's node id, its length first | 1 + n |
//! | sender's boot, counter of its packets from 1 | 8 + 8 |
//! | *nonce* | 24 |
//! | **sender's wall clock in ms** | 8 |
//! | **where the sender takes answers: address (IPv4 mapped), port** | 16 + 2 |
//! | **place of the piece, number of pieces** | 1 + 1 |
//! | **piece** | |
//! | tag | 16 |
//!
//! The bold part is sealed; all before the nonce is its associated data. Answers go where the sealed part says, never to
//! where a packet came from: who records a packet and sends it again gets nothing. A node that has just started can't know
//! what came before: until the clock limit has passed, packets of that time can be played to it once.

mod pieces;
mod window;

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chacha20poly1305::aead::Generate;
use chacha20poly1305::{AeadInOut, KeyInit, Tag, XChaCha20Poly1305, XNonce};

use self::pieces::Pieces;
use self::window::Window;

/// The first octets of every packet, the format last.
const MAGIC: &[u8; 3] = b"TDM";
const FORMAT: u8 = 1;
const NONCE: usize = 24;
const TAG: usize = 16;
/// The sealed part without the piece.
const SEALED_HEAD: usize = 8 + 16 + 2 + 1 + 1;
/// No packet is longer: it fits a frame of Ethernet, with the head of a tunnel.
pub const MOST_PACKET: usize = 1400;
/// No message is longer: chitchat's are not.
pub const MOST_MESSAGE: usize = 65_507;
/// No message has more pieces.
const MOST_PIECES: usize = 64;
/// The longest name of a cluster or node.
pub const MOST_NAME: usize = 64;
/// Senders that are remembered, boots counted apart; the one heard longest ago makes room.
const MOST_SENDERS: usize = 1024;

/// A secret of 32 octets that all nodes share.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl Key {
    /// What seals where there is no secret: it tells nodes' packets from accidents, and keeps nobody out.
    const NO_SECRET: Key = Key([0; 32]);

    /// A key; none of zeros alone, which is no secret.
    pub fn new(bytes: [u8; 32]) -> Option<Self> {
        let key = Key(bytes);
        (key != Self::NO_SECRET).then_some(key)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Why a packet was not taken. Nothing has changed by it, and nobody is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Longer than any packet of ours.
    TooLarge,
    /// No packet of ours.
    Garbage,
    /// A format that this version does not know.
    Format,
    /// Another cluster's.
    Cluster,
    /// One of our own, come back.
    Reflected,
    /// No key of ours opens it: sealed with another, or changed on its way.
    Key,
    /// Its sender's clock and ours differ by more than the limit: an old packet, or a clock that is wrong.
    Clock,
    /// It has come before, or is older than the window.
    Replayed,
    /// Sealed well, and what it holds makes no sense: another version's?
    Unreadable,
}

impl Refusal {
    /// Each of them, in the order of `as usize`.
    pub const ALL: [Refusal; 9] = [
        Refusal::TooLarge,
        Refusal::Garbage,
        Refusal::Format,
        Refusal::Cluster,
        Refusal::Reflected,
        Refusal::Key,
        Refusal::Clock,
        Refusal::Replayed,
        Refusal::Unreadable,
    ];

    /// As in a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::TooLarge => "too_large",
            Refusal::Garbage => "garbage",
            Refusal::Format => "format",
            Refusal::Cluster => "cluster",
            Refusal::Reflected => "reflected",
            Refusal::Key => "key",
            Refusal::Clock => "clock",
            Refusal::Replayed => "replayed",
            Refusal::Unreadable => "unreadable",
        }
    }
}

/// One start of one node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sender {
    /// Its node id.
    pub node: Arc<str>,
    /// Greater than those of its starts before.
    pub boot: u64,
}

/// A message that was sealed by one who has a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Who sent it.
    pub sender: Sender,
    /// Where the sender takes answers.
    pub answers: SocketAddr,
    /// The message.
    pub bytes: Vec<u8>,
}

/// The system gives no randomness.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no randomness")]
pub struct NoRandomness;

/// Seals what one start of a node sends.
#[derive(Debug)]
pub struct Sealer {
    /// What stands first in each packet, up to the counter.
    head: Vec<u8>,
    cipher: XChaCha20Poly1305,
    answers: SocketAddr,
    counter: u64,
}

impl Sealer {
    /// `keys`: the first one seals; without any, nothing is secret. Names are cut at [`MOST_NAME`].
    pub fn new(cluster: &str, keys: &[Key], sender: &Sender, answers: SocketAddr) -> Self {
        let mut head = MAGIC.to_vec();
        head.push(FORMAT);
        put_name(&mut head, cluster);
        put_name(&mut head, &sender.node);
        head.extend(sender.boot.to_be_bytes());
        let cipher = cipher(keys.first().unwrap_or(&Key::NO_SECRET));
        Sealer { head, cipher, answers, counter: 0 }
    }

    /// The packets of one message of at most [`MOST_MESSAGE`] octets.
    ///
    /// # Errors
    /// [`NoRandomness`]: then nothing may be sent.
    pub fn seal(&mut self, message: &[u8], now: SystemTime) -> Result<Vec<Vec<u8>>, NoRandomness> {
        let room = MOST_PACKET - self.head.len() - 8 - NONCE - SEALED_HEAD - TAG;
        let count = message.len().div_ceil(room).clamp(1, MOST_PIECES);
        (0..count)
            .map(|place| {
                let piece = &message[(place * room).min(message.len())..((place + 1) * room).min(message.len())];
                self.seal_piece(piece, place as u8, count as u8, now)
            })
            .collect()
    }

    fn seal_piece(&mut self, piece: &[u8], place: u8, count: u8, now: SystemTime) -> Result<Vec<u8>, NoRandomness> {
        let nonce = XNonce::try_generate().map_err(|_| NoRandomness)?;
        self.counter += 1;
        let mut packet = Vec::with_capacity(MOST_PACKET);
        packet.extend_from_slice(&self.head);
        packet.extend(self.counter.to_be_bytes());
        let head = packet.len();
        packet.extend_from_slice(&nonce);
        packet.extend(milliseconds(now).to_be_bytes());
        packet.extend(mapped(self.answers.ip()).octets());
        packet.extend(self.answers.port().to_be_bytes());
        packet.extend([place, count]);
        packet.extend_from_slice(piece);
        let (clear, sealed) = packet.split_at_mut(head + NONCE);
        let tag = self
            .cipher
            .encrypt_inout_detached(&nonce, &clear[..head], sealed.into())
            .expect("a packet is shorter than the cipher's limit");
        packet.extend_from_slice(&tag);
        Ok(packet)
    }
}

/// Opens what a node receives, over all of its boots.
#[derive(Debug)]
pub struct Opener {
    cluster: Vec<u8>,
    ciphers: Vec<XChaCha20Poly1305>,
    node: Arc<str>,
    /// Our own boots in this process, and where they take answers.
    boots: Vec<u64>,
    answers: Option<SocketAddr>,
    /// How far a sender's clock may be from ours.
    clock_limit: Duration,
    senders: HashMap<Sender, Heard>,
}

/// What is remembered of one sender.
#[derive(Debug, Default)]
struct Heard {
    window: Window,
    pieces: Pieces,
    /// Our clock at its last packet, in ms.
    last: u64,
}

impl Opener {
    /// `keys`: each of them opens; without any, what is not secret is opened.
    pub fn new(cluster: &str, keys: &[Key], node: &str, clock_limit: Duration) -> Self {
        let ciphers = if keys.is_empty() { vec![cipher(&Key::NO_SECRET)] } else { keys.iter().map(cipher).collect() };
        let cluster = cut(cluster).to_vec();
        Opener {
            cluster,
            ciphers,
            node: node.into(),
            boots: Vec::new(),
            answers: None,
            clock_limit,
            senders: HashMap::new(),
        }
    }

    /// Packets of this boot of our own node are refused from now on, and those of any that took answers there: it is gone.
    pub fn boots(&mut self, boot: u64, answers: SocketAddr) {
        self.boots.push(boot);
        self.answers = Some(answers);
    }

    /// The message whose last piece this packet is; none if pieces are still missing.
    ///
    /// # Errors
    /// [`Refusal`]: nothing has changed.
    pub fn open(&mut self, packet: &[u8], now: SystemTime) -> Result<Option<Opened>, Refusal> {
        if packet.len() > MOST_PACKET {
            return Err(Refusal::TooLarge);
        }
        let head = Head::read(packet)?;
        if head.cluster != self.cluster {
            return Err(Refusal::Cluster);
        }
        let sender = Sender { node: head.node.into(), boot: head.boot };
        if sender.node == self.node && self.boots.contains(&sender.boot) {
            return Err(Refusal::Reflected);
        }
        let content = self.unseal(&head).ok_or(Refusal::Key)?;
        let content = Content::read(&content).ok_or(Refusal::Unreadable)?;
        if sender.node == self.node && self.answers == Some(content.answers) {
            return Err(Refusal::Reflected);
        }
        let now = milliseconds(now);
        if u128::from(now.abs_diff(content.sent)) > self.clock_limit.as_millis() {
            return Err(Refusal::Clock);
        }
        let heard = self.heard(&sender, now);
        if !heard.window.take(head.counter) {
            return Err(Refusal::Replayed);
        }
        heard.last = now;
        let first = head.counter.checked_sub(u64::from(content.place)).ok_or(Refusal::Unreadable)?;
        let whole = heard.pieces.take(first, content.place, content.count, content.piece)?;
        Ok(whole.map(|bytes| Opened { sender, answers: content.answers, bytes }))
    }

    fn unseal(&self, head: &Head<'_>) -> Option<Vec<u8>> {
        self.ciphers.iter().find_map(|cipher| {
            let mut content = head.sealed.to_vec();
            let opened =
                cipher.decrypt_inout_detached(&head.nonce, head.clear, content.as_mut_slice().into(), &head.tag);
            opened.is_ok().then_some(content)
        })
    }

    /// Only for who has sealed with a key: others cost no memory.
    fn heard(&mut self, sender: &Sender, now: u64) -> &mut Heard {
        if !self.senders.contains_key(sender) {
            // What a sender has sent is too old by now: nobody can send it again.
            let limit = 2 * self.clock_limit.as_millis();
            self.senders.retain(|_, heard| u128::from(now.saturating_sub(heard.last)) <= limit);
            if self.senders.len() >= MOST_SENDERS {
                let oldest = self.senders.iter().min_by_key(|(_, heard)| heard.last).map(|(sender, _)| sender.clone());
                oldest.map(|oldest| self.senders.remove(&oldest));
            }
        }
        self.senders.entry(sender.clone()).or_default()
    }
}

/// A packet in its parts.
struct Head<'p> {
    /// All before the nonce.
    clear: &'p [u8],
    cluster: &'p [u8],
    node: &'p str,
    boot: u64,
    counter: u64,
    nonce: XNonce,
    sealed: &'p [u8],
    tag: Tag,
}

impl<'p> Head<'p> {
    fn read(packet: &'p [u8]) -> Result<Self, Refusal> {
        let rest = packet.strip_prefix(MAGIC).ok_or(Refusal::Garbage)?;
        match rest.split_first() {
            Some((&FORMAT, rest)) => Self::read_format_1(packet, rest).ok_or(Refusal::Garbage),
            Some(_) => Err(Refusal::Format),
            None => Err(Refusal::Garbage),
        }
    }

    fn read_format_1(packet: &'p [u8], rest: &'p [u8]) -> Option<Self> {
        let (cluster, rest) = take_name(rest)?;
        let (node, rest) = take_name(rest)?;
        let node = std::str::from_utf8(node).ok()?;
        let (boot, rest) = rest.split_first_chunk()?;
        let (counter, rest) = rest.split_first_chunk()?;
        let clear = &packet[..packet.len() - rest.len()];
        let (nonce, rest) = rest.split_first_chunk::<NONCE>()?;
        let (sealed, tag) = rest.split_last_chunk::<TAG>()?;
        Some(Head {
            clear,
            cluster,
            node,
            boot: u64::from_be_bytes(*boot),
            counter: u64::from_be_bytes(*counter),
            nonce: (*nonce).into(),
            sealed,
            tag: (*tag).into(),
        })
    }
}

/// The sealed part in its parts.
struct Content<'c> {
    /// The sender's clock, in ms.
    sent: u64,
    answers: SocketAddr,
    place: u8,
    count: u8,
    piece: &'c [u8],
}

impl<'c> Content<'c> {
    fn read(content: &'c [u8]) -> Option<Self> {
        let (sent, rest) = content.split_first_chunk()?;
        let (address, rest) = rest.split_first_chunk::<16>()?;
        let (port, rest) = rest.split_first_chunk()?;
        let (&[place, count], piece) = rest.split_first_chunk()?;
        let ip = IpAddr::V6(Ipv6Addr::from(*address)).to_canonical();
        let answers = SocketAddr::new(ip, u16::from_be_bytes(*port));
        Some(Content { sent: u64::from_be_bytes(*sent), answers, place, count, piece })
    }
}

fn cipher(key: &Key) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&key.0.into())
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

fn milliseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn cut(name: &str) -> &[u8] {
    &name.as_bytes()[..name.len().min(MOST_NAME)]
}

fn put_name(to: &mut Vec<u8>, name: &str) {
    let name = cut(name);
    to.push(name.len() as u8);
    to.extend_from_slice(name);
}

fn take_name(from: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = from.split_first()?;
    rest.split_at_checked(usize::from(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }

    fn key(octet: u8) -> Key {
        Key::new([octet; 32]).expect("a secret")
    }

    fn sender(node: &str, boot: u64) -> Sender {
        Sender { node: node.into(), boot }
    }

    fn answers() -> SocketAddr {
        "10.0.0.1:7946".parse().expect("an address")
    }

    fn sealer(keys: &[Key]) -> Sealer {
        Sealer::new("speech", keys, &sender("a", 7), answers())
    }

    fn opener(keys: &[Key]) -> Opener {
        Opener::new("speech", keys, "b", LIMIT)
    }

    /// The one packet of a short message.
    fn packet(sealer: &mut Sealer, message: &[u8]) -> Vec<u8> {
        let mut packets = sealer.seal(message, now()).expect("randomness");
        assert_eq!(packets.len(), 1);
        packets.remove(0)
    }

    #[test]
    fn what_was_sealed_is_opened_with_its_sender() {
        let packet = packet(&mut sealer(&[key(1)]), b"hello");
        assert!(!packet.windows(5).any(|window| window == b"hello"));
        let opened = opener(&[key(1)]).open(&packet, now()).expect("sealed").expect("whole");
        assert_eq!((opened.sender, opened.answers, &opened.bytes[..]), (sender("a", 7), answers(), &b"hello"[..]));
    }

    #[test]
    fn addresses_of_both_families_come_back() {
        for text in ["[2001:db8::1]:1", "127.0.0.1:65535"] {
            let answers: SocketAddr = text.parse().expect("an address");
            let mut sealer = Sealer::new("speech", &[], &sender("a", 7), answers);
            let opened = opener(&[]).open(&packet(&mut sealer, b""), now()).expect("sealed").expect("whole");
            assert_eq!(opened.answers, answers);
        }
    }

    #[test]
    fn the_longest_message_comes_in_pieces_that_fit_a_frame() {
        let message: Vec<u8> = (0..MOST_MESSAGE).map(|place| place as u8).collect();
        let (long, short) = ("c".repeat(MOST_NAME), sender(&"n".repeat(MOST_NAME), u64::MAX));
        let mut packets = Sealer::new(&long, &[key(1)], &short, answers()).seal(&message, now()).expect("randomness");
        assert!(packets.iter().all(|packet| packet.len() <= MOST_PACKET));
        fastrand::Rng::with_seed(3).shuffle(&mut packets);
        let mut opener = Opener::new(&long, &[key(1)], "b", LIMIT);
        let last = packets.pop().expect("a packet");
        for packet in packets {
            assert_eq!(opener.open(&packet, now()), Ok(None));
        }
        assert_eq!(opener.open(&last, now()).expect("sealed").expect("whole").bytes, message);
    }

    #[test]
    fn each_refusal_has_its_cause() {
        let refusal = |packet: &[u8]| opener(&[key(1)]).open(packet, now()).expect_err("refused");
        let good = packet(&mut sealer(&[key(1)]), b"hello");
        assert_eq!(refusal(&[0; MOST_PACKET + 1]), Refusal::TooLarge);
        for garbage in [&b""[..], b"TDM", b"OPTIONS sip:a SIP/2.0\r\n\r\n", &good[..60]] {
            assert_eq!(refusal(garbage), Refusal::Garbage, "{garbage:?}");
        }
        assert_eq!(refusal(b"TDM\x02rest"), Refusal::Format);
        assert_eq!(refusal(&packet(&mut sealer(&[key(2)]), b"")), Refusal::Key);
        assert_eq!(refusal(&packet(&mut sealer(&[]), b"")), Refusal::Key, "sealed without a secret");
        let other = &mut Sealer::new("test", &[key(1)], &sender("a", 7), answers());
        assert_eq!(refusal(&packet(other, b"")), Refusal::Cluster);
    }

    #[test]
    fn what_stands_in_clear_can_not_be_changed() {
        let good = packet(&mut sealer(&[key(1)]), b"hello");
        // Another cluster's packet that is given our name; another sender; another boot; another counter.
        let mut stolen = packet(&mut Sealer::new("sbeech", &[key(1)], &sender("a", 7), answers()), b"");
        stolen[6] = b'p';
        let mut all = vec![stolen];
        for place in [12, 13, 28] {
            let mut changed = good.clone();
            changed[place] ^= 1;
            all.push(changed);
        }
        for packet in all {
            assert_eq!(opener(&[key(1)]).open(&packet, now()), Err(Refusal::Key));
        }
    }

    #[test]
    fn a_packet_is_taken_once_and_each_boot_counts_for_itself() {
        let (mut opener, mut sealer) = (opener(&[key(1)]), sealer(&[key(1)]));
        let (first, second) = (packet(&mut sealer, b"1"), packet(&mut sealer, b"2"));
        assert!(opener.open(&second, now()).is_ok() && opener.open(&first, now()).is_ok());
        for packet in [&first, &second] {
            assert_eq!(opener.open(packet, now()), Err(Refusal::Replayed));
        }
        let again = packet(&mut Sealer::new("speech", &[key(1)], &sender("a", 8), answers()), b"1");
        assert!(opener.open(&again, now()).is_ok());
    }

    #[test]
    fn clocks_may_differ_by_the_limit_and_no_more() {
        let packet = packet(&mut sealer(&[key(1)]), b"hello");
        let second = Duration::from_secs(1);
        for too_far in [now() - LIMIT - second, now() + LIMIT + second, UNIX_EPOCH] {
            assert_eq!(opener(&[key(1)]).open(&packet, too_far), Err(Refusal::Clock));
        }
        for near in [now() - LIMIT, now() + LIMIT] {
            assert!(opener(&[key(1)]).open(&packet, near).is_ok());
        }
    }

    #[test]
    fn our_own_packets_do_not_come_back_and_our_namesakes_do() {
        let mut opener = Opener::new("speech", &[key(1)], "a", LIMIT);
        opener.boots(7, answers());
        let elsewhere = "10.0.0.2:7946".parse().expect("an address");
        let mut namesake = Sealer::new("speech", &[key(1)], &sender("a", 9), elsewhere);
        let mut before = Sealer::new("speech", &[key(1)], &sender("a", 6), answers());
        assert_eq!(opener.open(&packet(&mut before, b""), now()), Err(Refusal::Reflected));
        assert_eq!(opener.open(&packet(&mut sealer(&[key(1)]), b""), now()), Err(Refusal::Reflected));
        assert!(opener.open(&packet(&mut namesake, b""), now()).is_ok());
    }

    #[test]
    fn keys_are_changed_without_a_gap() {
        // old, then old and new, then new and old, then new: neighbours in this order always understand each other.
        let steps = [vec![key(1)], vec![key(1), key(2)], vec![key(2), key(1)], vec![key(2)]];
        for pair in steps.windows(2) {
            for (from, to) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
                assert!(opener(to).open(&packet(&mut sealer(from), b""), now()).is_ok(), "{} keys", from.len());
            }
        }
    }

    #[test]
    fn what_strangers_send_costs_no_memory() {
        let mut opener = opener(&[key(1)]);
        for boot in 0..100 {
            let mut stranger = Sealer::new("speech", &[key(2)], &sender("x", boot), answers());
            assert_eq!(opener.open(&packet(&mut stranger, b""), now()), Err(Refusal::Key));
        }
        assert!(opener.senders.is_empty());
        for boot in 0..2 * MOST_SENDERS as u64 {
            let mut friend = Sealer::new("speech", &[key(1)], &sender("x", boot), answers());
            assert!(opener.open(&packet(&mut friend, b""), now()).is_ok());
        }
        assert_eq!(opener.senders.len(), MOST_SENDERS);
    }

    #[test]
    fn whatever_is_sent_nothing_is_taken_but_what_was_sealed() {
        let mut random = fastrand::Rng::with_seed(31);
        let (mut opener, mut sealer) = (opener(&[key(1), key(2)]), sealer(&[key(1)]));
        let long: Vec<u8> = (0..5000).map(|_| random.u8(..)).collect();
        for round in 0..20_000 {
            let mut packet = match random.u8(..4) {
                0 => (0..random.usize(..1500)).map(|_| random.u8(..)).collect(),
                _ => {
                    let mut packets = sealer.seal(&long[..random.usize(..5000)], now()).expect("randomness");
                    packets.swap_remove(random.usize(..packets.len()))
                }
            };
            match random.u8(..4) {
                0 if !packet.is_empty() => packet.truncate(random.usize(..packet.len())),
                1 => packet.extend((0..random.usize(1..50)).map(|_| random.u8(..))),
                _ if packet.is_empty() => {}
                _ => {
                    let place = random.usize(..packet.len());
                    packet[place] ^= 1 << random.u8(..8);
                }
            }
            let opened = opener.open(&packet, now());
            assert!(opened.is_err(), "round {round}: {opened:?}");
        }
        assert!(opener.senders.is_empty());
    }

    #[test]
    fn a_key_is_not_shown_and_zeros_are_none() {
        assert_eq!(format!("{:?}", key(171)), "Key(..)");
        assert_eq!(Key::new([0; 32]), None);
    }

    #[test]
    fn refusals_stand_in_their_order() {
        for (place, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, place);
        }
    }
}
