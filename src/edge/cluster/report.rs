//! What a node tells its peers, as plain values, and how it is written: one key of the gossip for the node and one for each
//! destination, so that a change of one costs one. The values are JSON; who reads it passes over fields that it does not
//! know, and takes words that it does not know for `unknown`, so that versions mix.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use crate::edge::store::Digest;
use crate::edge::store::order::SourceOrder;
use crate::engine::dispatch::{Health, Order, SetId};

/// The version of what is written here: greater by one when an old field means something else. Who is told in a greater one
/// than its own goes by nothing of it.
pub const FORMAT: u32 = 1;

/// The key of the node itself.
pub(super) const NODE: &str = "node";
/// The key of the node's clock: ms of its own time.
pub(super) const CLOCK: &str = "clock";
/// What the keys of destinations start with.
const DESTINATION: &str = "d:";
/// What the keys of sessions that were taken over start with.
const TAKEN: &str = "t:";
/// What the keys of pieces of versions start with.
const VERSION: &str = "v:";

/// A point in a node's own time: milliseconds since it started, negative before. No two nodes' clocks are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(pub i64);

impl Moment {
    /// `instant` in the time of a node that started at `started`.
    pub fn of(instant: Instant, started: Instant) -> Self {
        let milliseconds = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        match instant.checked_duration_since(started) {
            Some(after) => Moment(milliseconds(after)),
            None => Moment(-milliseconds(started.duration_since(instant))),
        }
    }
}

/// All that a node tells of itself and of what it sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    /// The node.
    pub report: NodeReport,
    /// The destinations of its sets.
    pub destinations: BTreeMap<DestinationId, DestinationReport>,
    /// Sessions that it has taken over of late, some under each number; later ones have greater numbers.
    pub taken: BTreeMap<u64, Arc<TakenReport>>,
    /// Versions of rows that others are to go back to and may not have.
    pub versions: BTreeMap<PieceId, Arc<str>>,
}

/// A piece of a version of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PieceId {
    /// The version.
    pub version: Digest,
    /// Which piece, from 0...
    pub nth: u32,
    /// ... of how many.
    pub of: u32,
}

/// What a node tells of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeReport {
    /// [`FORMAT`] of the node that wrote this.
    pub format: u32,
    /// Tandem's version.
    pub version: String,
    /// When the node started, by its own clock, in seconds since 1970: for people.
    pub started: u64,
    /// [`mark_of_key`](crate::engine::sip::mark_of_key) of its cluster key; none of a version that does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<u32>,
    /// Where it listens: `udp:10.0.0.1:5060`.
    pub listeners: Vec<String>,
    /// The virtual addresses that it holds.
    pub vips: Vec<String>,
    /// When its engine has told what it sees, in the node's time; none of a version that does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<Moment>,
    /// For each of its sets how many destinations a call may go to.
    pub fit: BTreeMap<u32, u32>,
    /// What of each of its partitions is in place.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sources: BTreeMap<String, SourceReport>,
}

/// What is in place of a partition, and what operators have said of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceReport {
    /// What the rows say that are in place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The newest order that the node knows of.
    #[serde(deserialize_with = "if_known", skip_serializing_if = "Option::is_none")]
    pub order: Option<SourceOrder>,
    /// Whether its rows were read and could be used last, if the node is to write the `state` column back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub states: Option<bool>,
}

impl Default for NodeReport {
    fn default() -> Self {
        NodeReport {
            format: FORMAT,
            version: String::new(),
            started: 0,
            key: None,
            listeners: Vec::new(),
            vips: Vec::new(),
            seen: None,
            fit: BTreeMap::new(),
            sources: BTreeMap::new(),
        }
    }
}

impl NodeReport {
    /// The format of what the node tells, if it is of a later version than ours: then nothing of it counts.
    pub fn unknown_format(&self) -> Option<u32> {
        (self.format > FORMAT).then_some(self.format)
    }
}

/// Which destination: the same words on every node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DestinationId {
    /// The set.
    pub set: SetId,
    /// The address; none while the name has none.
    pub address: Option<SocketAddr>,
    /// The `destination` column.
    pub uri: String,
}

/// What a node sees of a destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DestinationReport {
    /// Its verdict.
    #[serde(with = "health")]
    pub health: Health,
    /// Since when, in the node's time.
    pub since: Moment,
    /// Whether calls have shown it, and not probes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub by_calls: bool,
    /// Whether the node's own probes have shown what it is. Who does not say is no prober that others could rely on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub probed: bool,
    /// What the last failure was, while it is not up: `traffic 503`, `options timeout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// How long calls wait for an answer, in ms, about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<u32>,
    /// Live sessions by this node, those that are being set up included.
    pub sessions: u32,
    /// Those of them that asked for resources, by the bits of these.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub asked: BTreeMap<u8, u32>,
    /// Sessions of nodes that are gone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<LeftReport>,
    /// The newest order that the node knows of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<OrderReport>,
}

/// Sessions that a node which is gone has left behind at a destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeftReport {
    /// The node.
    pub node: String,
    /// Its start, as in its [`NodeReport`].
    pub started: u64,
    /// How many nobody has heard of yet.
    pub sessions: u32,
    /// Those of them that asked for resources, by the bits of these.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub asked: BTreeMap<u8, u32>,
    /// Until when they count, in the telling node's time.
    pub until: Moment,
}

/// Sessions that the node has taken over at about one time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenReport {
    /// When, in the node's time.
    pub at: Moment,
    /// Which.
    pub sessions: Vec<TakenSession>,
}

/// One of them: its name (hexadecimal), the set, the destination's key in it, the bits of the resources that it asked for, the
/// mark of the node that it was begun at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenSession(pub String, pub u32, pub u32, pub u8, pub u16);

/// An operator's order. The newest stamp wins, then the greater node id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderReport {
    /// `ready`, `drain` or `maint`; a word of another version stays as it came.
    pub order: String,
    /// A hybrid clock's: ms since 1970, and more than any stamp that its node had seen.
    pub stamp: u64,
    /// The node that took the order.
    pub node: String,
    /// Who gave it.
    #[serde(default)]
    pub by: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// Until when a destination that drains should be empty: ms since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u64>,
    /// Whether its sessions are ended then.
    #[serde(default)]
    pub then_end: bool,
    /// The row's `state` column beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<u8>,
}

impl OrderReport {
    /// The order, if this version knows it.
    pub fn order(&self) -> Option<Order> {
        Order::from_name(&self.order)
    }
}

/// One thing that a key and its value say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Node(NodeReport),
    Clock(Moment),
    Destination(DestinationId, DestinationReport),
    Taken(u64, TakenReport),
    Version(PieceId, Arc<str>),
}

/// What a key is of, beside the node itself and its clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Destination(DestinationId),
    Taken(u64),
    Version(PieceId),
}

/// What a key and its value say; none if it is of another version or makes no sense.
pub(super) fn read(key: &str, value: &str) -> Option<Told> {
    match key {
        NODE => read_node(value).map(Told::Node),
        CLOCK => value.parse().ok().map(|moment| Told::Clock(Moment(moment))),
        _ => match read_key(key)? {
            Key::Destination(id) => serde_json::from_str(value).ok().map(|report| Told::Destination(id, report)),
            Key::Taken(number) => serde_json::from_str(value).ok().map(|report| Told::Taken(number, report)),
            Key::Version(id) => Some(Told::Version(id, value.into())),
        },
    }
}

/// What a node tells of itself. Of a later format all else may look otherwise: then who it is says enough.
fn read_node(value: &str) -> Option<NodeReport> {
    #[derive(Deserialize)]
    #[serde(default)]
    struct Head {
        format: u32,
        version: String,
        started: u64,
    }
    impl Default for Head {
        fn default() -> Self {
            let NodeReport { format, version, started, .. } = NodeReport::default();
            Head { format, version, started }
        }
    }
    let Head { format, version, started } = serde_json::from_str(value).ok()?;
    let head = NodeReport { format, version, started, ..NodeReport::default() };
    match head.unknown_format() {
        Some(_) => Some(head),
        None => serde_json::from_str(value).ok(),
    }
}

/// A value that another version may write otherwise: then none.
fn if_known<'d, D: Deserializer<'d>, T: DeserializeOwned>(from: D) -> Result<Option<T>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(serde_json::from_value(value).ok())
}

/// What a key is of.
pub(super) fn read_key(key: &str) -> Option<Key> {
    if let Some(number) = key.strip_prefix(TAKEN) {
        return number.parse().ok().map(Key::Taken);
    }
    if let Some(piece) = key.strip_prefix(VERSION) {
        return read_piece(piece).map(Key::Version);
    }
    read_destination(key).map(Key::Destination)
}

fn read_piece(text: &str) -> Option<PieceId> {
    let mut parts = text.split(':');
    let (version, nth, of) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(PieceId { version, nth, of })
}

fn read_destination(key: &str) -> Option<DestinationId> {
    let (set, rest) = key.strip_prefix(DESTINATION)?.split_once(':')?;
    let (address, uri) = rest.split_once('/')?;
    let address = if address.is_empty() { None } else { Some(address.parse().ok()?) };
    Some(DestinationId { set: SetId(set.parse().ok()?), address, uri: uri.to_owned() })
}

/// The key of a destination: `d:19:10.0.0.1:7010/sip:tts.example.com`.
pub(super) fn key(id: &DestinationId) -> String {
    let address = id.address.map(|address| address.to_string()).unwrap_or_default();
    format!("{DESTINATION}{}:{address}/{}", id.set.0, id.uri)
}

/// The key of sessions that were taken over: `t:7`.
pub(super) fn taken_key(number: u64) -> String {
    format!("{TAKEN}{number}")
}

/// The key of a piece of a version: `v:0123456789abcdef0123456789abcdef:0:3`.
pub(super) fn piece_key(id: PieceId) -> String {
    let PieceId { version, nth, of } = id;
    format!("{VERSION}{version:#}:{nth}:{of}")
}

/// A value of the gossip.
pub(super) fn write(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("these types have no keys but strings")
}

/// Health as its name.
mod health {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::engine::dispatch::Health;

    pub(super) fn serialize<S: Serializer>(health: &Health, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(health.name())
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Health, D::Error> {
        let name = String::deserialize(from)?;
        Ok(Health::ALL.into_iter().find(|health| health.name() == name).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::store::order::SourceWord;

    fn id() -> DestinationId {
        let address = Some("[2001:db8::1]:7010".parse().expect("an address"));
        DestinationId { set: SetId(19), address, uri: "sip:tts.example.com/a;x=1:2".into() }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let order = OrderReport {
            order: "drain".into(),
            stamp: 1 << 60,
            node: "a".into(),
            by: "ops".into(),
            reason: "\"new\" disk\n".into(),
            deadline: Some(7),
            then_end: true,
            state: Some(1),
        };
        let report = DestinationReport {
            health: Health::Busy,
            since: Moment(-5),
            cause: Some("486".into()),
            latency: Some(12),
            by_calls: true,
            probed: true,
            sessions: 3,
            asked: BTreeMap::from([(4, 3)]),
            left: vec![LeftReport { node: "c".into(), started: 7, sessions: 2, ..LeftReport::default() }],
            order: Some(order),
        };
        for report in [report, DestinationReport::default()] {
            let told = read(&key(&id()), &write(&report));
            assert_eq!(told, Some(Told::Destination(id(), report)));
        }
        let unresolved = DestinationId { address: None, ..id() };
        assert_eq!(read_key(&key(&unresolved)), Some(Key::Destination(unresolved)));
        let sessions = vec![TakenSession("0f".into(), 19, 7, 4, 97)];
        let taken = TakenReport { at: Moment(5), sessions };
        assert_eq!(read(&taken_key(8), &write(&taken)), Some(Told::Taken(8, taken)));
        assert_eq!(read(NODE, &write(&NodeReport::default())), Some(Told::Node(NodeReport::default())));
        let id = PieceId { version: Digest([5; 16]), nth: 1, of: 3 };
        assert_eq!(read(&piece_key(id), "{\"a"), Some(Told::Version(id, "{\"a".into())));
        assert_eq!(read(CLOCK, "-7"), Some(Told::Clock(Moment(-7))));
    }

    #[test]
    fn a_newer_version_is_understood_as_far_as_possible() {
        let newer = r#"{"health":"dozing","since":4,"sessions":2,"mood":{"x":[1]},"order":{"order":"nap","stamp":1,"node":"b","z":1}}"#;
        let Some(Told::Destination(_, report)) = read(&key(&id()), newer) else { panic!("not read") };
        assert_eq!((report.health, report.since, report.sessions), (Health::Unknown, Moment(4), 2));
        assert_eq!(report.order.expect("an order").order(), None);
        let Some(Told::Node(node)) = read(NODE, r#"{"format":2,"wings":2}"#) else { panic!("not read") };
        assert_eq!((node.format, node.unknown_format()), (2, Some(2)));
        // All that it tells otherwise than this version does is no reason not to know who it is.
        let otherwise = r#"{"format":3,"version":"9.0.0","started":7,"listeners":{"x":1},"fit":[],"sources":7}"#;
        let Some(Told::Node(node)) = read(NODE, otherwise) else { panic!("not read") };
        assert_eq!((node.unknown_format(), node.version.as_str(), node.started), (Some(3), "9.0.0", 7));
        // A word of an operator that this version does not know costs nothing else.
        let word = r#"{"stamp":1,"node":"b","by":"ann","reason":"","word":"merge","rows":"x"}"#;
        let digest = Digest([5; 16]);
        let of_later = format!(
            r#"{{"version":"1.9.0","started":7,"vips":["v"],"sources":{{"default":{{"digest":"{digest:#}","order":{word}}}}}}}"#
        );
        let Some(Told::Node(node)) = read(NODE, &of_later) else { panic!("not read") };
        let source = SourceReport { digest: Some(digest), order: None, states: None };
        assert_eq!((node.vips, node.sources), (vec!["v".to_owned()], BTreeMap::from([("default".to_owned(), source)])));
        assert_eq!(NodeReport::default().unknown_format(), None);
    }

    /// As 1.0.0 writes it: no later version of the same format may take it otherwise.
    #[test]
    fn what_the_first_release_tells_stays_understood() {
        let node = r#"{"format":1,"version":"1.0.0","started":1795724122,"key":305419896,"listeners":["udp:10.0.0.11:8060"],
            "vips":["udp:10.0.0.101:8060"],"seen":5210,"fit":{"19":2},"sources":{"default":{
            "digest":"7229a3ed1c60319d7926d42c1b341011","order":{"stamp":1795724123368,"node":"a","by":"bob","reason":"too large",
            "word":"pin","version":"7229a3ed1c60319d7926d42c1b341011","instead_of":"ad0c7cf8bc410dca9ec04dc91454d5dd"},"states":true}}}"#;
        let Some(Told::Node(node)) = read(NODE, node) else { panic!("not read") };
        assert_eq!((node.unknown_format(), node.seen, node.fit[&19]), (None, Some(Moment(5210)), 2));
        assert_eq!(node.key, Some(0x1234_5678));
        let source = &node.sources["default"];
        let order = source.order.as_ref().expect("an order");
        assert_eq!((source.digest.is_some(), order.by.as_str(), order.stamp), (true, "bob", 1_795_724_123_368));
        assert!(matches!(order.word, SourceWord::Pin { version, .. } if Some(version) == source.digest));
        let destination = r#"{"health":"down","since":-5,"by_calls":true,"probed":true,"cause":"traffic 503","latency":12,"sessions":3,
            "asked":{"4":3},"left":[{"node":"c","started":7,"sessions":2,"asked":{"4":1},"until":9}],
            "order":{"order":"drain","stamp":7,"node":"a","by":"ann","reason":"disk","deadline":9,"then_end":true,"state":1}}"#;
        let key = "d:19:10.0.0.21:7010/sip:10.0.0.21:7010";
        let Some(Told::Destination(id, report)) = read(key, destination) else { panic!("not read") };
        assert_eq!((id.set, id.uri.as_str()), (SetId(19), "sip:10.0.0.21:7010"));
        let order = report.order.as_ref().expect("an order");
        assert_eq!(
            (report.health, report.sessions, report.asked[&4], report.left[0].sessions),
            (Health::Down, 3, 3, 2)
        );
        assert_eq!(
            (order.order(), order.deadline, order.then_end, order.state),
            (Some(Order::Drain), Some(9), true, Some(1))
        );
        let taken = read("t:7", r#"{"at":5,"sessions":[["0f",19,7,4,97]]}"#);
        let sessions = vec![TakenSession("0f".into(), 19, 7, 4, 97)];
        assert_eq!(taken, Some(Told::Taken(7, TakenReport { at: Moment(5), sessions })));
    }

    #[test]
    fn what_makes_no_sense_is_nothing() {
        for key in
            ["", "d:", "d:x:/u", "d:1", "d:1:u", "d:1:1.2.3.4/u", "e:1:/u", "t:", "t:x", "v:", "v:00:1:2", "other"]
        {
            assert_eq!(read(key, "{}"), None, "{key}");
        }
        for value in ["", "[1]", r#"{"sessions":-1}"#, r#"{"sessions":1"#] {
            assert_eq!(read(&key(&id()), value), None, "{value}");
        }
    }

    #[test]
    fn moments_before_the_start_are_negative() {
        let start = Instant::now() + Duration::from_secs(10);
        assert_eq!(Moment::of(start + Duration::from_millis(7), start), Moment(7));
        assert_eq!(Moment::of(start - Duration::from_secs(2), start), Moment(-2000));
    }
}
