//! What we write into messages to know them again: the branch of our Via and the cookie of our Record-Route, each under
//! a MAC of the cluster's key, so that any node of the cluster can tell ours from a stranger's.

use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use siphasher::sip::SipHasher13;
use siphasher::sip128::{Hasher128, SipHasher13 as SipHasher13x128};
use smallvec::SmallVec;

use super::message::Message;
use super::sdp::Resources;
use super::via::Via;
use crate::engine::flow::{ConnectionId, Flow, Transport};

/// The branch prefix of RFC 3261 section 8.1.1.7.
pub(crate) const MAGIC: &[u8] = b"z9hG4bK";

/// A response that belongs to no transaction of ours is passed on only while its branch is not older than this.
pub(crate) const BRANCH_LIFETIME: Duration = Duration::from_secs(4 * 60);

/// Text of a token: fits without the heap.
pub(crate) type TokenText = SmallVec<[u8; 64]>;

type Mac = [u8; 8];

/// The parameter of our Via that dates a branch which has no time in itself.
const STAMP: &[u8] = b"tdm";

/// What tells the key id of a shared branch from that of another: its first letter is another one, too.
const SHARED: u8 = 0xc0;

/// No transport's number.
const SUBSCRIPTION: u8 = 3;

/// The keys of one cluster, and this start's own for its tables.
#[derive(Clone)]
pub(crate) struct Keys {
    id: u8,
    branch: [u8; 32],
    shared: [u8; 32],
    cookie: [u8; 32],
    tag: [u8; 32],
    table: [u8; 16],
    session: [u8; 16],
    story: [u8; 16],
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What tells a cluster's key from another one, for those who compare theirs, and nothing of the key itself.
pub fn mark_of_key(cluster: &[u8; 32]) -> u32 {
    let [a, b, c, d, ..] = blake3::derive_key("tandem-sip 2026 mark of the key", cluster);
    u32::from_be_bytes([a, b, c, d])
}

/// What our branch tells us when it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Branch {
    /// Which client transaction of the node that made it; 0 for a request without one (ACK). Of a shared one, which of any
    /// node.
    pub(crate) slot: u64,
    /// What the request was routed by: the same value again is a loop (RFC 3261 section 16.3 item 4, RFC 5393).
    pub(crate) route: u32,
    /// When it was made: minutes since 1970, modulo 2^16; none in a shared one, which every node makes the same whenever it
    /// has the same request.
    minute: Option<u16>,
    /// Over the rest, the next Via, Call-ID and CSeq.
    pub(crate) mac: Mac,
}

/// What our Record-Route tells us of a dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cookie {
    /// A hash of the name of the node that made it.
    pub(crate) node: u16,
    /// The set that the session counts for.
    pub(crate) set: u32,
    /// The destination's key in it (`Destination::key`).
    pub(crate) destination: u32,
    /// How the caller talks to us.
    pub(crate) transport: Transport,
    /// Whether an INVITE has begun it: else it is a subscription's, and no session.
    pub(crate) session: bool,
    /// What its first INVITE asked for; nothing for a subscription.
    pub(crate) resources: Resources,
    /// The caller's connection at the node that made it; none for UDP.
    pub(crate) connection: ConnectionId,
}

impl Keys {
    /// The keys that follow from a cluster key and a start's seed.
    pub(crate) fn new(cluster: &[u8; 32], seed: &[u8; 32]) -> Self {
        let derive = |context| blake3::derive_key(context, cluster);
        let mut table = [0; 16];
        table.copy_from_slice(&blake3::derive_key("tandem-sip 2026 tables", seed)[..16]);
        let mut session = [0; 16];
        session.copy_from_slice(&derive("tandem-sip 2026 session")[..16]);
        let mut story = [0; 16];
        story.copy_from_slice(&derive("tandem-sip 2026 story")[..16]);
        Keys {
            id: derive("tandem-sip 2026 key id")[0],
            branch: derive("tandem-sip 2026 branch"),
            shared: derive("tandem-sip 2026 shared branch"),
            cookie: derive("tandem-sip 2026 record-route cookie"),
            tag: derive("tandem-sip 2026 to-tag"),
            table,
            session,
            story,
        }
    }

    /// The same cluster's keys for probes: their branches are never taken for a forwarded request's.
    pub(crate) fn of_probes(&self) -> Self {
        self.apart(0x80, "tandem-sip 2026 probe branch")
    }

    /// The same cluster's keys for requests of ours within the sessions of others.
    pub(crate) fn of_keeper(&self) -> Self {
        self.apart(0x40, "tandem-sip 2026 keeper branch")
    }

    /// `letter` changes the branch's first letter.
    fn apart(&self, letter: u8, context: &str) -> Self {
        Keys { id: self.id ^ letter, branch: blake3::derive_key(context, &self.branch), ..self.clone() }
    }

    /// Whether a branch looks like one of ours, by its first letter: each kind of request has another.
    pub(crate) fn may_have_made(&self, text: &[u8]) -> bool {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        text.strip_prefix(MAGIC).and_then(<[u8]>::first) == Some(&LETTERS[usize::from(self.id >> 2)])
    }

    /// A branch for a request that we originate: only who gets it knows it. No other start of this node makes it: whoever has
    /// answered one within the last minute would take the other for the same once more.
    pub(crate) fn plain_branch(&self, slot: u64, wall: SystemTime) -> Branch {
        let start = self.table_hash(&[b"start"]) as u32;
        let mut branch = Branch { slot, route: start, minute: Some(minute(wall)), mac: Mac::default() };
        branch.mac = mac(&self.branch, &branch.fields(self.id));
        branch
    }

    /// A branch for a request on its way to one destination.
    ///
    /// `next` is the Via that an answer goes to after ours, `answer_to` where that is.
    pub(crate) fn branch(
        &self,
        slot: u64,
        route: u32,
        wall: SystemTime,
        request: &Message<'_>,
        answer_to: SocketAddr,
    ) -> Branch {
        let minute = minute(wall);
        let mut branch = Branch { slot, route, minute: Some(minute), mac: Mac::default() };
        branch.mac = self.branch_mac(&branch, minute, request, &request.via(), answer_to);
        branch
    }

    /// A branch for a request on its way to `hop` that every node of the cluster makes the same (RFC 3261 section 16.11): who
    /// has had it from one node and gets it from another takes it for the same once more. None if its sender has no unique
    /// branch. It says nothing of when it was made: [`Keys::stamped_text`] does.
    pub(crate) fn shared_branch(&self, route: u32, request: &Message<'_>, hop: Flow) -> Option<Branch> {
        let via = request.via();
        let (branch, sender) = via.names_transaction()?;
        let mut text: SmallVec<[u8; 256]> = SmallVec::new();
        text.push(hop.transport as u8);
        push_address(&mut text, hop.peer);
        text.extend_from_slice(&route.to_be_bytes());
        text.extend_from_slice(&request.cseq().to_be_bytes());
        push_parts(&mut text, &[branch, sender, request.call_id(), request.method().as_bytes()]);
        let hash = blake3::keyed_hash(&self.shared, &text);
        let (slot, rest) = hash.as_bytes().split_first_chunk().expect("8 of 32 bytes");
        let mac = *rest.first_chunk().expect("8 of 24 bytes");
        Some(Branch { slot: u64::from_be_bytes(*slot), route, minute: None, mac })
    }

    /// Whether we (or another node of the cluster) made `branch` for the request that `response` answers, not longer
    /// ago than [`BRANCH_LIFETIME`]. `next` is the second Via of `response`.
    pub(crate) fn made(&self, branch: &Branch, response: &Message<'_>, next: &Via<'_>, wall: SystemTime) -> bool {
        let dated = match branch.minute {
            Some(minute) => Some((minute, branch.mac)),
            None => response.via().params.get(STAMP).and_then(read_stamp),
        };
        let (Some((made, mac)), Some(answer_to)) = (dated, next.response_address()) else { return false };
        let age = minute(wall).wrapping_sub(made).wrapping_add(1);
        let limit = (BRANCH_LIFETIME.as_secs() / 60) as u16 + 1;
        age <= limit && self.branch_mac(branch, made, response, next, answer_to) == mac
    }

    /// Proves that the branch is of that minute and for that request.
    fn branch_mac(
        &self,
        branch: &Branch,
        minute: u16,
        message: &Message<'_>,
        next: &Via<'_>,
        answer_to: SocketAddr,
    ) -> Mac {
        let mut text: SmallVec<[u8; 256]> = SmallVec::new();
        text.extend_from_slice(&branch.fields(self.id));
        if branch.is_shared() {
            text.extend_from_slice(&minute.to_be_bytes());
            text.extend_from_slice(&branch.mac);
        }
        text.extend(next.transport.iter().map(u8::to_ascii_lowercase));
        push_address(&mut text, answer_to);
        text.extend_from_slice(&message.cseq().to_be_bytes());
        push_parts(&mut text, &[next.branch.unwrap_or_default(), message.call_id(), message.method().as_bytes()]);
        mac(&self.branch, &text)
    }

    /// The branch's text, with the magic cookie.
    pub(crate) fn branch_text(&self, branch: &Branch) -> TokenText {
        let mut text = TokenText::from_slice(MAGIC);
        encode(&[&branch.fields(self.id), &branch.mac], &mut text);
        text
    }

    /// The same as it stands in the Via of a request, with what says when it was made: of a shared branch that is a parameter
    /// of its own, since the branch must stay the same.
    pub(crate) fn stamped_text(
        &self,
        branch: &Branch,
        wall: SystemTime,
        request: &Message<'_>,
        answer_to: SocketAddr,
    ) -> TokenText {
        let mut text = self.branch_text(branch);
        if branch.is_shared() {
            let minute = minute(wall);
            let mac = self.branch_mac(branch, minute, request, &request.via(), answer_to);
            [&b";"[..], STAMP, b"="].iter().for_each(|part| text.extend_from_slice(part));
            encode(&[&minute.to_be_bytes(), &mac], &mut text);
        }
        text
    }

    /// What a branch of ours says; none if it has not our form and key id. This does not prove that we made it.
    pub(crate) fn read_branch(&self, text: &[u8]) -> Option<Branch> {
        let mut bytes = [0; 23];
        decode(text.strip_prefix(MAGIC)?, &mut bytes)?;
        let (id, rest) = bytes.split_first()?;
        let (slot, rest) = rest.split_first_chunk()?;
        let (route, rest) = rest.split_first_chunk()?;
        let (minute, rest) = rest.split_first_chunk()?;
        let minute = match (*id, u16::from_be_bytes(*minute)) {
            (id, minute) if id == self.id => Some(minute),
            (id, 0) if id == self.id ^ SHARED => None,
            (..) => return None,
        };
        Some(Branch {
            slot: u64::from_be_bytes(*slot),
            route: u32::from_be_bytes(*route),
            minute,
            mac: *rest.first_chunk()?,
        })
    }

    /// The cookie's text for one dialog: only a message with this Call-ID and caller's tag can use it.
    pub(crate) fn cookie_text(&self, cookie: &Cookie, call_id: &[u8], caller_tag: &[u8]) -> TokenText {
        let fields = cookie.fields(self.id);
        let mac = self.cookie_mac(&fields, call_id, caller_tag);
        let mut text = TokenText::new();
        encode(&[&fields, &mac], &mut text);
        text
    }

    /// What a cookie says; none unless the cluster made it for the dialog with this Call-ID and caller's tag.
    pub(crate) fn read_cookie(&self, text: &[u8], call_id: &[u8], caller_tag: &[u8]) -> Option<Cookie> {
        let mut bytes = [0; 20 + 8];
        let length = decode(text, &mut bytes)?;
        let bytes = &bytes[..length];
        let (fields, mac) = bytes.split_at_checked(bytes.len().checked_sub(size_of::<Mac>())?)?;
        let cookie = Cookie::read(fields, self.id)?;
        (self.cookie_mac(fields, call_id, caller_tag) == mac).then_some(cookie)
    }

    fn cookie_mac(&self, fields: &[u8], call_id: &[u8], caller_tag: &[u8]) -> Mac {
        let mut text: SmallVec<[u8; 192]> = SmallVec::new();
        for part in [fields, call_id, caller_tag] {
            text.extend_from_slice(&(part.len() as u32).to_be_bytes());
            text.extend_from_slice(part);
        }
        mac(&self.cookie, &text)
    }

    /// The To-tag of an answer of our own: the same for the same request, so that it needs no memory (section 8.2.7).
    pub(crate) fn to_tag(&self, request: &Message<'_>) -> TokenText {
        let mut seed: SmallVec<[u8; 192]> = SmallVec::new();
        for part in [request.call_id(), request.from_tag(), request.via().branch.unwrap_or_default()] {
            seed.extend_from_slice(part);
            seed.push(0);
        }
        let mut text = TokenText::new();
        encode(&[&mac(&self.tag, &seed)], &mut text);
        text
    }

    /// A hash that nobody outside can steer, for this start's tables.
    pub(crate) fn table_hash(&self, parts: &[&[u8]]) -> u128 {
        let mut hasher = SipHasher13x128::new_with_key(&self.table);
        parts.iter().for_each(|part| feed(&mut hasher, part));
        hasher.finish128().as_u128()
    }

    /// A session's name: the same on every node of the cluster, and nobody outside can steer it.
    pub(crate) fn session(&self, call_id: &[u8], caller_tag: &[u8]) -> u128 {
        let mut hasher = SipHasher13x128::new_with_key(&self.session);
        [call_id, caller_tag].iter().for_each(|part| feed(&mut hasher, part));
        hasher.finish128().as_u128()
    }

    /// The name of a call's story: the same on every node of the cluster, and nobody outside can steer it.
    pub(crate) fn story(&self, call_id: &[u8]) -> u128 {
        let mut hasher = SipHasher13x128::new_with_key(&self.story);
        feed(&mut hasher, call_id);
        hasher.finish128().as_u128()
    }

    /// A hash of what a request is routed by, the same on every node of the cluster.
    pub(crate) fn route_hash<'p>(&self, fixed: &[&[u8]], routes: impl Iterator<Item = &'p [u8]>) -> u32 {
        let key = self.branch.first_chunk().expect("16 of 32 bytes");
        let mut hasher = SipHasher13::new_with_key(key);
        fixed.iter().for_each(|part| feed(&mut hasher, part));
        routes.for_each(|part| feed(&mut hasher, part));
        hasher.finish() as u32
    }
}

/// Hashes one part with its length, so that no two lists of parts are the same bytes.
fn feed(hasher: &mut impl Hasher, part: &[u8]) {
    hasher.write(&(part.len() as u32).to_be_bytes());
    hasher.write(part);
}

fn push_address(text: &mut SmallVec<[u8; 256]>, address: SocketAddr) {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    text.extend_from_slice(&ip.octets());
    text.extend_from_slice(&address.port().to_be_bytes());
}

/// Each with its length, as [`feed`].
fn push_parts(text: &mut SmallVec<[u8; 256]>, parts: &[&[u8]]) {
    for part in parts {
        text.extend_from_slice(&(part.len() as u32).to_be_bytes());
        text.extend_from_slice(part);
    }
}

/// The minute that a stamp names, and its proof.
fn read_stamp(text: &[u8]) -> Option<(u16, Mac)> {
    let mut bytes = [0; 10];
    decode(text, &mut bytes).filter(|length| *length == bytes.len())?;
    let (minute, mac) = bytes.split_first_chunk()?;
    Some((u16::from_be_bytes(*minute), *mac.first_chunk()?))
}

impl Branch {
    /// Whether every node makes the same one.
    pub(crate) fn is_shared(&self) -> bool {
        self.minute.is_none()
    }

    fn fields(&self, key_id: u8) -> [u8; 15] {
        let mut fields = [if self.is_shared() { key_id ^ SHARED } else { key_id }; 15];
        fields[1..9].copy_from_slice(&self.slot.to_be_bytes());
        fields[9..13].copy_from_slice(&self.route.to_be_bytes());
        fields[13..15].copy_from_slice(&self.minute.unwrap_or_default().to_be_bytes());
        fields
    }
}

impl Cookie {
    /// The mark of the node with that name: a hash, the same in every version.
    pub(crate) fn mark(node: &str) -> u16 {
        node.bytes().fold(0, |hash: u16, byte| hash.wrapping_mul(31).wrapping_add(u16::from(byte)))
    }

    fn fields(&self, key_id: u8) -> SmallVec<[u8; 20]> {
        let mut fields = SmallVec::new();
        fields.push(key_id);
        // Two bits and six; of a subscription the six hold the transport, and the two say so.
        fields.push(match self.session {
            true => self.transport as u8 | self.resources.bits() << 2,
            false => SUBSCRIPTION | (self.transport as u8) << 2,
        });
        fields.extend_from_slice(&self.node.to_be_bytes());
        fields.extend_from_slice(&self.set.to_be_bytes());
        fields.extend_from_slice(&self.destination.to_be_bytes());
        if self.connection != ConnectionId::default() {
            fields.extend_from_slice(&self.connection.0.to_be_bytes());
        }
        fields
    }

    fn read(fields: &[u8], key_id: u8) -> Option<Self> {
        let (&[id, shared], rest) = fields.split_first_chunk()?;
        let (node, rest) = rest.split_first_chunk()?;
        let (set, rest) = rest.split_first_chunk()?;
        let (destination, rest) = rest.split_first_chunk()?;
        let connection = match rest.len() {
            0 => ConnectionId::default(),
            _ => ConnectionId(u64::from_be_bytes(rest.try_into().ok()?)),
        };
        let (session, transport, resources) = match (shared & 3, shared >> 2) {
            (SUBSCRIPTION, transport) => (false, transport, Resources::NONE),
            (transport, resources) => (true, transport, Resources::of_bits(resources)),
        };
        let transport = *[Transport::Udp, Transport::Tcp, Transport::Tls].get(usize::from(transport))?;
        (id == key_id).then_some(Cookie {
            node: u16::from_be_bytes(*node),
            set: u32::from_be_bytes(*set),
            destination: u32::from_be_bytes(*destination),
            transport,
            session,
            resources,
            connection,
        })
    }
}

fn minute(wall: SystemTime) -> u16 {
    (wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 60) as u16
}

fn mac(key: &[u8; 32], text: &[u8]) -> Mac {
    let mut short = Mac::default();
    short.copy_from_slice(&blake3::keyed_hash(key, text).as_bytes()[..size_of::<Mac>()]);
    short
}

fn encode(parts: &[&[u8]], text: &mut TokenText) {
    let bytes: SmallVec<[u8; 32]> = parts.iter().flat_map(|part| part.iter().copied()).collect();
    let start = text.len();
    text.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let length = URL_SAFE_NO_PAD.encode_slice(&bytes, &mut text[start..]).expect("room for four of every three bytes");
    text.truncate(start + length);
}

/// Decodes into `bytes`; how many there were, none if it is no such text or too long.
fn decode(text: &[u8], bytes: &mut [u8]) -> Option<usize> {
    if text.len() > (bytes.len() * 4).div_ceil(3) {
        return None;
    }
    URL_SAFE_NO_PAD.decode_slice_unchecked(text, bytes).ok()
}

/// The hasher of keys that [`Keys::table_hash`] made: they are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("only u128 and u64 keys are hashed");
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] =
        b"INVITE sip:h SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bKa\r\nFrom: <sip:a>;tag=1\r\n\
        To: <sip:b>\r\nCall-ID: x\r\nCSeq: 7 INVITE\r\n\r\n";
    const RESPONSE: &[u8] =
        b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP us;branch=z\r\nVia: SIP/2.0/udp 192.0.2.1:5070 ; branch=z9hG4bKa\r\n\
        From: <sip:a>;tag=1\r\nTo: <sip:b>;tag=2\r\nCall-ID: x\r\nCSeq: 7 INVITE\r\n\r\n";

    /// Nodes of all versions compare it.
    #[test]
    fn the_mark_of_a_key_stays() {
        assert_eq!([mark_of_key(&[7; 32]), mark_of_key(&[8; 32])], [1_032_805_792, 1_905_824_149]);
    }

    fn keys(cluster: u8) -> Keys {
        Keys::new(&[cluster; 32], &[0; 32])
    }

    fn wall(minutes: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(minutes * 60)
    }

    fn branch(keys: &Keys) -> Branch {
        let request = Message::parse(REQUEST).expect("SIP");
        keys.branch(77, 5, wall(100), &request, "192.0.2.1:5070".parse().expect("an address"))
    }

    #[test]
    fn another_start_makes_other_branches_of_its_own() {
        let text = |seed| {
            let keys = Keys::new(&[1; 32], &[seed; 32]).of_keeper();
            let branch = keys.plain_branch(1, wall(100));
            assert_eq!(keys.read_branch(&keys.branch_text(&branch)), Some(branch));
            keys.branch_text(&branch)
        };
        assert_ne!(text(1), text(2));
    }

    #[test]
    fn a_branch_is_known_by_every_node_of_the_cluster_for_four_minutes() {
        let branch = branch(&keys(1));
        let text = keys(1).branch_text(&branch);
        assert!(text.starts_with(MAGIC) && text.len() == 38);
        let read = keys(1).read_branch(&text).expect("ours");
        assert_eq!(read, branch);
        let response = Message::parse(RESPONSE).expect("SIP");
        let next = response.vias().nth(1).flatten().expect("a second Via");
        for (minutes, valid) in [(99, true), (100, true), (104, true), (105, false), (90, false)] {
            assert_eq!(keys(1).made(&read, &response, &next, wall(minutes)), valid, "{minutes}");
        }
        assert_eq!(keys(2).read_branch(&text), None);
    }

    #[test]
    fn a_branch_serves_no_other_answer() {
        let keys = keys(1);
        let branch = branch(&keys);
        let text = String::from_utf8(RESPONSE.to_vec()).expect("text");
        for (from, to) in
            [("Call-ID: x", "Call-ID: y"), ("7 INVITE", "8 INVITE"), ("192.0.2.1", "6.6.6.6"), ("bKa", "bKb")]
        {
            let text = text.replace(from, to);
            let response = Message::parse(text.as_bytes()).expect("SIP");
            let next = response.vias().nth(1).flatten().expect("a second Via");
            assert!(!keys.made(&branch, &response, &next, wall(100)), "{to}");
        }
        let response = Message::parse(RESPONSE).expect("SIP");
        let next = response.vias().nth(1).flatten().expect("a second Via");
        assert!(!keys.made(&Branch { slot: 78, ..branch }, &response, &next, wall(100)));
    }

    #[test]
    fn a_shared_branch_is_the_same_on_every_node_at_any_time_and_is_dated_beside_it() {
        let request = Message::parse(REQUEST).expect("SIP");
        let sender: SocketAddr = "192.0.2.1:5070".parse().expect("an address");
        let hop = Flow {
            listener: crate::engine::flow::ListenerId(0),
            transport: Transport::Udp,
            peer: "192.0.2.9:7010".parse().expect("an address"),
            connection: ConnectionId::default(),
        };
        let nodes = [0, 1].map(|start| Keys::new(&[1; 32], &[start; 32]));
        let made = |keys: &Keys, hop| keys.shared_branch(5, &request, hop).expect("a unique branch");
        let branch = made(&nodes[0], hop);
        assert_eq!(branch, made(&nodes[1], hop));
        let texts = [100, 101].map(|minutes| nodes[0].stamped_text(&branch, wall(minutes), &request, sender));
        assert_ne!(texts[0], texts[1]);
        let (text, stamp) = texts[0].split_at(38);
        assert_eq!((text, nodes[1].read_branch(text)), (&*nodes[0].branch_text(&branch), Some(branch)));
        assert!(stamp.starts_with(b";tdm=") && !texts[0].spilled());
        // Neither another hop, nor another cluster, nor a kind of request that is not forwarded.
        let elsewhere = Flow { peer: "192.0.2.9:7011".parse().expect("an address"), ..hop };
        assert_ne!(branch, made(&nodes[0], elsewhere));
        assert_ne!(branch, made(&nodes[0], Flow { transport: Transport::Tcp, ..hop }));
        assert_ne!(branch, made(&keys(2), hop));
        let (probes, keeper) = (nodes[0].of_probes(), nodes[0].of_keeper());
        assert!([&probes, &keeper, &nodes[0]].iter().all(|keys| !keys.may_have_made(text)));
        assert!([probes, keeper].iter().all(|keys| keys.read_branch(text).is_none()));
        // An answer proves by the stamp that it is young; one that is bent, missing or another's proves nothing.
        let via = |stamp: &[u8]| {
            let ours = [b"z9hG4bKx".as_slice(), stamp].concat();
            String::from_utf8(RESPONSE.to_vec())
                .expect("text")
                .replace("z\r\n", &format!("{}\r\n", String::from_utf8_lossy(&ours)))
        };
        for (minutes, stamp, valid) in [
            (100, stamp.to_vec(), true),
            (104, stamp.to_vec(), true),
            (105, stamp.to_vec(), false),
            (90, stamp.to_vec(), false),
            (100, b"".to_vec(), false),
            (100, stamp[..18].to_vec(), false),
            (100, texts[1][38..42].to_vec(), false),
            (100, [&stamp[..10], b"AAAAAAAAA"].concat(), false),
        ] {
            let text = via(&stamp);
            let response = Message::parse(text.as_bytes()).expect("SIP");
            let next = response.vias().nth(1).flatten().expect("a second Via");
            assert_eq!(nodes[1].made(&branch, &response, &next, wall(minutes)), valid, "{minutes} {text}");
            assert!(!nodes[1].made(&made(&nodes[0], elsewhere), &response, &next, wall(minutes)));
        }
        let old = REQUEST.iter().map(|&byte| byte as char).collect::<String>().replace("z9hG4bKa", "1");
        assert_eq!(nodes[0].shared_branch(5, &Message::parse(old.as_bytes()).expect("SIP"), hop), None);
    }

    /// What 0.1.0 wrote into an INVITE from 127.0.0.1:5099 to set 19, on the wire, with a cluster key of zeros and a 5 behind them.
    #[test]
    fn calls_that_an_earlier_version_has_begun_are_known() {
        let mut cluster = [0; 32];
        cluster[31] = 5;
        let keys = Keys::new(&cluster, &[9; 32]);
        let text = b"XAQAYQAAABPpp2SzShYyeIMt2D4";
        let cookie = keys.read_cookie(text, b"upgrade", b"caller").expect("its Record-Route's tdm");
        assert_eq!((cookie.set, cookie.transport, cookie.session), (19, Transport::Udp, true));
        assert_eq!((cookie.connection, cookie.resources == Resources::NONE), (ConnectionId(0), false));
        assert_eq!(&*keys.cookie_text(&cookie, b"upgrade", b"caller"), text, "and it would know ours");
        let response =
            b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.1:8060;branch=z9hG4bKXKgE1bjGVkiJRHQJQq0miJpG4kej9fM\r\n\
            Via: SIP/2.0/UDP 127.0.0.1:5099;branch=z9hG4bKup1\r\nFrom: <sip:c@127.0.0.1>;tag=caller\r\n\
            To: <sip:tts@127.0.0.1>;tag=2\r\nCall-ID: upgrade\r\nCSeq: 1 INVITE\r\n\r\n";
        let response = Message::parse(response).expect("SIP");
        let next = response.vias().nth(1).flatten().expect("a second Via");
        let branch = keys.read_branch(b"z9hG4bKXKgE1bjGVkiJRHQJQq0miJpG4kej9fM").expect("its branch");
        assert!(keys.made(&branch, &response, &next, wall(29_928_742)), "so its answer is passed on");
        assert!(!keys.made(&branch, &response, &next, wall(29_928_752)));
    }

    #[test]
    fn a_cookie_serves_one_dialog() {
        let keys = keys(1);
        let (none, all) = (Resources::NONE, Resources::of_bits(0x3f));
        for (connection, session, resources) in [(0, true, none), (9, true, all), (0, false, none)] {
            let cookie = Cookie {
                node: 3,
                set: 19,
                destination: 0xdead_beef,
                transport: Transport::Tcp,
                session,
                resources,
                connection: ConnectionId(connection),
            };
            let text = keys.cookie_text(&cookie, b"call", b"tag");
            assert_eq!(text.len(), if connection == 0 { 27 } else { 38 });
            assert_eq!(keys.read_cookie(&text, b"call", b"tag"), Some(cookie));
            assert_eq!(keys.read_cookie(&text, b"call", b"tag2"), None);
            assert_eq!(keys.read_cookie(&text, b"cal", b"ltag"), None);
            assert_eq!(super::tests::keys(2).read_cookie(&text, b"call", b"tag"), None);
            for at in 0..text.len() {
                let mut bent = text.clone();
                bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
                assert_eq!(keys.read_cookie(&bent, b"call", b"tag"), None, "{at}");
            }
        }
        assert_eq!(keys.read_cookie(b"", b"call", b"tag"), None);
        assert_eq!(keys.read_cookie(&[b'A'; 200], b"call", b"tag"), None);
    }
}
