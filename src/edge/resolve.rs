//! Names to addresses: RFC 3263 section 4 without NAPTR, over A, AAAA and SRV. The one door of crate `hickory_resolver`.
//!
//! Hickory keeps answers as long as their TTL says; here the last good answer is kept for as long as DNS fails.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, RecordType};

use crate::engine::flow::Transport;

/// No answer is good for less: a TTL of 0 is no reason to ask for every call.
const LEAST_TTL: Duration = Duration::from_secs(5);
/// No answer is good for more.
const MOST_TTL: Duration = Duration::from_secs(3600);
/// "There is no such name" is believed for no longer: names appear, and somebody waits for it.
const MOST_NEGATIVE_TTL: Duration = Duration::from_secs(30);
/// Answers that Hickory keeps.
const CACHE: u64 = 4096;
/// Last good answers that are kept; the one that was good longest ago makes room.
const MOST_KEPT: usize = 4096;
/// Targets of one SRV answer whose addresses are asked for, best first.
const MOST_TARGETS: usize = 16;

/// How names are looked up: `[dns]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// The servers to ask; empty: the system's own (`/etc/resolv.conf`).
    pub servers: Vec<SocketAddr>,
    /// How long one name may take, with all that has to be asked for it.
    pub timeout: Duration,
}

impl Default for DnsConfig {
    fn default() -> Self {
        DnsConfig { servers: Vec::new(), timeout: Duration::from_secs(2) }
    }
}

/// What is asked: the host part of a URI, its port if it has one, and the transport.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Question {
    /// A name, or an address (IPv6 in brackets or without).
    pub host: String,
    /// The port; with one, no SRV is asked for.
    pub port: Option<u16>,
    /// The transport: which SRV, and which port is the default one.
    pub transport: Transport,
}

/// One address of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Address and port.
    pub address: SocketAddr,
    /// The SRV record's: the lowest comes first; 0 without SRV.
    pub priority: u16,
    /// The SRV record's share, scaled so that all addresses of one target have that target's share together; 1 without
    /// SRV. 0 among others is a last resort.
    pub weight: u32,
}

/// The addresses of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// At least one, sorted by priority and address, none twice.
    pub addresses: Vec<Address>,
    /// How long they are good; 5 s to 1 h.
    pub expires: Duration,
    /// Why these are the last good ones, or only some of today's; none if they are all of today's.
    pub stale: Option<ResolveError>,
}

/// Why a name has no addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// DNS says so.
    #[error("{host} has no address in DNS: add A, AAAA or SRV records, or correct the name")]
    NoSuchName {
        /// The name.
        host: String,
        /// How long DNS says so; 5 to 30 s.
        expires: Duration,
    },
    /// DNS says nothing, or nothing that makes sense.
    #[error("{host} can't be looked up: {cause}: check the DNS servers")]
    Failed {
        /// The name.
        host: String,
        /// What happened.
        cause: String,
    },
}

impl ResolveError {
    /// When it is worth asking again.
    pub fn expires(&self) -> Duration {
        match self {
            ResolveError::NoSuchName { expires, .. } => *expires,
            ResolveError::Failed { .. } => LEAST_TTL,
        }
    }
}

/// Looks names up.
#[derive(Debug)]
pub struct Resolver {
    /// What the system's configuration lacks, if it can't be read.
    hickory: Result<TokioResolver, String>,
    timeout: Duration,
    /// The last good answers, and when they came.
    kept: Mutex<HashMap<Question, (Vec<Address>, Instant)>>,
}

impl Resolver {
    /// A resolver that knows nothing yet. Should the system's configuration be unreadable, every name fails for that
    /// reason.
    pub fn new(config: &DnsConfig) -> Self {
        let builder = match config.servers[..] {
            [] => TokioResolver::builder_tokio(),
            [..] => {
                let servers = config.servers.iter().map(server).collect();
                let config = ResolverConfig::from_parts(None, Vec::new(), servers);
                Ok(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()))
            }
        };
        let hickory = builder.and_then(|mut builder| {
            set_options(builder.options_mut(), config.timeout);
            builder.build()
        });
        Resolver {
            hickory: hickory.map_err(|error| error.to_string()),
            timeout: config.timeout,
            kept: Mutex::default(),
        }
    }

    /// Takes what was good before this start: it serves until DNS answers.
    pub fn keep(&self, question: Question, addresses: Vec<Address>) {
        if !addresses.is_empty() {
            self.remember(&question, &addresses);
        }
    }

    /// The last good addresses; none if there never were any, or DNS has said since that there are none.
    pub fn kept(&self, question: &Question) -> Option<Vec<Address>> {
        self.lock().get(question).map(|(addresses, _)| addresses.clone())
    }

    /// The addresses of a name, within the timeout: of an address itself; of a name with a port its A and AAAA records;
    /// of a name without one its SRV records, and if there are none A and AAAA with the transport's default port.
    ///
    /// # Errors
    /// [`ResolveError`] if DNS says that there are none, or fails and never answered before.
    pub async fn resolve(&self, question: &Question) -> Result<Answer, ResolveError> {
        let port = question.port.unwrap_or_else(|| question.transport.default_port());
        if let Ok(ip) = question.host.trim_matches(['[', ']']).parse() {
            let address = Address { address: SocketAddr::new(ip, port), priority: 0, weight: 1 };
            return Ok(Answer { addresses: vec![address], expires: MOST_TTL, stale: None });
        }
        let found = match &self.hickory {
            Ok(hickory) => {
                Asking { hickory, until: tokio::time::Instant::now() + self.timeout }.find(question, port).await
            }
            Err(cause) => Err(Fault::Failed(cause.clone())),
        };
        let host = || question.host.clone();
        match found {
            Ok(Found { lacks: Some(Lack { cause, kind }), addresses, expires }) => {
                let addresses = self.complete(question, addresses, kind);
                self.remember(question, &addresses);
                Ok(Answer { addresses, expires, stale: Some(ResolveError::Failed { host: host(), cause }) })
            }
            Ok(Found { lacks: None, addresses, expires }) => {
                self.remember(question, &addresses);
                Ok(Answer { addresses, expires, stale: None })
            }
            Err(Fault::None(expires)) => {
                self.lock().remove(question);
                Err(ResolveError::NoSuchName { host: host(), expires })
            }
            Err(Fault::Failed(cause)) => {
                let error = ResolveError::Failed { host: host(), cause };
                self.stale(question, &error).ok_or(error)
            }
        }
    }

    fn stale(&self, question: &Question, error: &ResolveError) -> Option<Answer> {
        let addresses = self.kept(question)?;
        Some(Answer { addresses, expires: LEAST_TTL, stale: Some(error.clone()) })
    }

    /// Half an answer with what is known of the other half: an address family must not come and go with DNS, and a server
    /// that never answers AAAA must not hide that A has changed.
    fn complete(&self, question: &Question, found: Vec<Address>, lacks: Lacking) -> Vec<Address> {
        let Some(kept) = self.kept(question) else { return found };
        let v4 = match lacks {
            Lacking::V4 => true,
            Lacking::V6 => false,
            // Shares of targets mean something only beside each other.
            Lacking::HalfATarget => return found,
            Lacking::Target => return kept,
        };
        let mut all = found;
        all.extend(kept.into_iter().filter(|one| one.address.is_ipv4() == v4));
        all.sort_by_key(|one| one.address);
        all.dedup_by_key(|one| one.address);
        all
    }

    fn remember(&self, question: &Question, addresses: &[Address]) {
        let mut kept = self.lock();
        if kept.len() >= MOST_KEPT && !kept.contains_key(question) {
            let oldest = kept.iter().min_by_key(|(_, (_, at))| *at).map(|(question, _)| question.clone());
            oldest.map(|oldest| kept.remove(&oldest));
        }
        kept.insert(question.clone(), (addresses.to_vec(), Instant::now()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Question, (Vec<Address>, Instant)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    connections.iter_mut().for_each(|connection| connection.port = address.port());
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    server.connections = connections;
    server
}

fn set_options(options: &mut ResolverOpts, timeout: Duration) {
    // A lost datagram is asked for once more within the time that all may take.
    options.timeout = timeout / 2;
    options.attempts = 1;
    options.cache_size = CACHE;
    options.positive_min_ttl = Some(LEAST_TTL);
    options.positive_max_ttl = Some(MOST_TTL);
    options.negative_min_ttl = Some(LEAST_TTL);
    options.negative_max_ttl = Some(MOST_NEGATIVE_TTL);
}

/// What was found for one question.
#[derive(Debug, Default)]
struct Found {
    addresses: Vec<Address>,
    expires: Duration,
    /// What could not be found beside.
    lacks: Option<Lack>,
}

#[derive(Debug)]
struct Lack {
    cause: String,
    kind: Lacking,
}

/// Which part of an answer is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lacking {
    V4,
    V6,
    /// A kind of address of an SRV target.
    HalfATarget,
    /// All addresses of an SRV target.
    Target,
}

/// Why one query gave nothing.
#[derive(Clone, Debug)]
enum Fault {
    /// There is nothing, for so long.
    None(Duration),
    /// Nobody knows.
    Failed(String),
}

/// The queries of one question.
struct Asking<'r> {
    hickory: &'r TokioResolver,
    /// When all of them give up.
    until: tokio::time::Instant,
}

impl Asking<'_> {
    async fn find(&self, question: &Question, port: u16) -> Result<Found, Fault> {
        if question.port.is_some() {
            return self.find_addresses(&question.host, port).await;
        }
        let service = match question.transport {
            Transport::Udp => "_sip._udp",
            Transport::Tcp => "_sip._tcp",
            Transport::Tls => "_sips._tcp",
        };
        match self.query(&format!("{service}.{}", question.host), RecordType::SRV).await {
            Ok(lookup) => self.find_targets(&lookup).await,
            // RFC 3263 section 4.2: without SRV records, the name's own addresses.
            Err(Fault::None(_)) => self.find_addresses(&question.host, port).await,
            Err(failed) => Err(failed),
        }
    }

    async fn find_targets(&self, lookup: &Lookup) -> Result<Found, Fault> {
        let expires = time_left(lookup);
        let mut targets: Vec<_> = lookup
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                // RFC 2782: a root target says that the service is not there.
                RData::SRV(srv) if !srv.target.is_root() && srv.port != 0 => {
                    let host = srv.target.to_string();
                    Some(Target { host, port: srv.port, priority: srv.priority, weight: srv.weight })
                }
                _ => None,
            })
            .collect();
        targets.sort_by(|a, b| (a.priority, &a.host, a.port).cmp(&(b.priority, &b.host, b.port)));
        targets.truncate(MOST_TARGETS);
        if targets.is_empty() {
            return Err(Fault::None(expires));
        }
        let mut lookups = tokio::task::JoinSet::new();
        for (nth, target) in targets.iter().enumerate() {
            let (hickory, until, host, port) = (self.hickory.clone(), self.until, target.host.clone(), target.port);
            lookups.spawn(async move { (nth, Asking { hickory: &hickory, until }.find_addresses(&host, port).await) });
        }
        let mut found = Found { expires, ..Found::default() };
        let mut parts = Vec::new();
        while let Some(joined) = lookups.join_next().await {
            match joined {
                Ok((nth, Ok(one))) => {
                    found.expires = found.expires.min(one.expires);
                    let half = one.lacks.map(|lack| Lack { kind: Lacking::HalfATarget, ..lack });
                    found.lacks = found.lacks.or(half);
                    parts.push((nth, one.addresses));
                }
                Ok((_, Err(Fault::None(expires)))) => found.expires = found.expires.min(expires),
                Ok((_, Err(Fault::Failed(cause)))) => found.lacks = Some(Lack { cause, kind: Lacking::Target }),
                Err(error) => found.lacks = Some(Lack { cause: error.to_string(), kind: Lacking::Target }),
            }
        }
        let parts: Vec<_> = parts.iter().map(|(nth, addresses)| (&targets[*nth], &addresses[..])).collect();
        found.addresses = share(&parts);
        match (found.addresses.is_empty(), found.lacks.take()) {
            (true, Some(lack)) => Err(Fault::Failed(lack.cause)),
            (true, None) => Err(Fault::None(found.expires)),
            (false, lacks) => Ok(Found { lacks, ..found }),
        }
    }

    async fn find_addresses(&self, host: &str, port: u16) -> Result<Found, Fault> {
        let (v4, v6) = tokio::join!(self.query(host, RecordType::A), self.query(host, RecordType::AAAA));
        let mut found = Found { expires: MOST_TTL, ..Found::default() };
        let mut negative = MOST_NEGATIVE_TTL;
        for (result, kind) in [(v4, Lacking::V4), (v6, Lacking::V6)] {
            match result {
                Ok(lookup) => {
                    found.expires = found.expires.min(time_left(&lookup));
                    let ips = lookup.answers().iter().filter_map(|record| match &record.data {
                        RData::A(a) => Some(IpAddr::V4(a.0)),
                        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
                        _ => None,
                    });
                    let hosts = ips.filter(|&ip| leads_to_a_host(ip));
                    found.addresses.extend(hosts.map(|ip| Address {
                        address: SocketAddr::new(ip, port),
                        priority: 0,
                        weight: 1,
                    }));
                }
                Err(Fault::None(expires)) => negative = negative.min(expires),
                Err(Fault::Failed(cause)) => found.lacks = Some(Lack { cause, kind }),
            }
        }
        found.addresses.sort_by_key(|one| one.address);
        found.addresses.dedup();
        match (found.addresses.is_empty(), found.lacks.take()) {
            (true, Some(lack)) => Err(Fault::Failed(lack.cause)),
            (true, None) => Err(Fault::None(negative)),
            (false, Some(lack)) => Ok(Found { lacks: Some(lack), expires: LEAST_TTL, ..found }),
            (false, None) => Ok(found),
        }
    }

    async fn query(&self, name: &str, kind: RecordType) -> Result<Lookup, Fault> {
        // Each by itself, so that one query without answer does not take the others' with it.
        let Ok(answer) = tokio::time::timeout_at(self.until, self.hickory.lookup(name, kind)).await else {
            return Err(Fault::Failed("no answer in time".to_owned()));
        };
        match answer {
            Ok(lookup) => Ok(lookup),
            Err(NetError::Dns(DnsError::NoRecordsFound(none)))
                if matches!(none.response_code, ResponseCode::NoError | ResponseCode::NXDomain) =>
            {
                let seconds = none.negative_ttl.unwrap_or_default();
                let expires = Duration::from_secs(u64::from(seconds)).clamp(LEAST_TTL, MOST_NEGATIVE_TTL);
                Err(Fault::None(expires))
            }
            Err(NetError::Dns(DnsError::ResponseCode(code))) => Err(Fault::Failed(format!("DNS says {code}"))),
            Err(error) => Err(Fault::Failed(error.to_string())),
        }
    }
}

/// A target of an SRV record.
struct Target {
    host: String,
    port: u16,
    priority: u16,
    weight: u16,
}

/// The addresses of all targets, each target's weight split over its addresses.
fn share(targets: &[(&Target, &[Address])]) -> Vec<Address> {
    let common = targets.iter().fold(1, |common, (_, addresses)| lcm(common, addresses.len().max(1) as u32));
    let mut all: Vec<Address> = Vec::new();
    for &(target, addresses) in targets {
        // A priority whose weights are all 0 chooses among equals (RFC 2782).
        let same = targets.iter().filter(|(other, _)| other.priority == target.priority);
        let weight = if same.clone().all(|(other, _)| other.weight == 0) { 1 } else { u32::from(target.weight) };
        for one in addresses {
            let weight = weight.saturating_mul(common / addresses.len() as u32);
            match all.iter_mut().find(|other| other.address == one.address) {
                // Two targets with one address: what both say together, at the better place.
                Some(other) if other.priority == target.priority => other.weight = other.weight.saturating_add(weight),
                Some(other) if other.priority < target.priority => {}
                Some(other) => *other = Address { address: one.address, priority: target.priority, weight },
                None => all.push(Address { address: one.address, priority: target.priority, weight }),
            }
        }
    }
    all.sort_by_key(|one| (one.priority, one.address));
    all
}

fn lcm(a: u32, b: u32) -> u32 {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    // Should it grow too large, shares are no longer exact, and still there.
    (a / x).checked_mul(b).filter(|&lcm| lcm <= 1 << 16).unwrap_or(a)
}

/// How long an answer is still good; a moment more, so that who asks then finds it gone.
fn time_left(lookup: &Lookup) -> Duration {
    let left = lookup.valid_until().saturating_duration_since(Instant::now());
    left.min(MOST_TTL) + Duration::from_millis(1)
}

/// Whether a server can be there: a name that says otherwise names nothing.
fn leads_to_a_host(ip: IpAddr) -> bool {
    !ip.is_unspecified() && !ip.is_multicast() && !matches!(ip, IpAddr::V4(ip) if ip.is_broadcast())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(ips: &[&str]) -> Vec<Address> {
        let of = |ip: &&str| Address { address: ip.parse().expect("an address"), priority: 0, weight: 1 };
        ips.iter().map(of).collect()
    }

    fn target(priority: u16, weight: u16) -> Target {
        Target { host: "t.".into(), port: 1, priority, weight }
    }

    fn shares(all: &[Address]) -> Vec<(u16, u32)> {
        all.iter().map(|one| (one.priority, one.weight)).collect()
    }

    #[test]
    fn a_targets_weight_is_split_over_its_addresses() {
        let (two, one) = (addresses(&["10.0.0.1:1", "10.0.0.2:1"]), addresses(&["10.0.0.3:1"]));
        let (a, b) = (target(1, 10), target(1, 30));
        assert_eq!(shares(&share(&[(&b, &one), (&a, &two)])), [(1, 10), (1, 10), (1, 60)]);
    }

    #[test]
    fn weights_of_nought_are_equal_unless_others_have_some() {
        let (one, two) = (addresses(&["10.0.0.1:1"]), addresses(&["10.0.0.2:1"]));
        let (nought, five) = (target(1, 0), target(1, 5));
        assert_eq!(shares(&share(&[(&nought, &one), (&nought, &two)])), [(1, 1), (1, 1)]);
        assert_eq!(shares(&share(&[(&nought, &one), (&five, &two)])), [(1, 0), (1, 5)]);
    }

    #[test]
    fn one_address_of_two_targets_is_one_at_the_better_place() {
        let one = addresses(&["10.0.0.1:1"]);
        let (first, second, backup) = (target(1, 3), target(1, 4), target(2, 9));
        assert_eq!(shares(&share(&[(&first, &one), (&second, &one), (&backup, &one)])), [(1, 7)]);
        assert_eq!(shares(&share(&[(&backup, &one), (&first, &one)])), [(1, 3)]);
    }
}
