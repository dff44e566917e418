//! The names in the table's rows: all are looked up before a load takes effect, and again when their answers expire.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::edge::resolve::{Address, Answer, DnsConfig, Question, ResolveError, Resolver};
use crate::engine::dispatch::{Row, Set, Sets};
use crate::engine::flow::Listener;
use crate::engine::sip::{Host, Uri};

/// Names that are looked up at once: a table of thousands is no flood for its DNS servers.
const AT_ONCE: usize = 64;
/// The least time between two looks at all names: thousands of TTLs that end one after the other are looked at together.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
/// How long a name in a message may take: less than the engine waits, so that a last good answer comes in time.
const IN_MESSAGE: Duration = Duration::from_millis(1500);

/// Looks up the names of rows.
#[derive(Debug)]
pub(super) struct Names {
    resolver: Arc<Resolver>,
    // Of its own, so that no flood of names in messages drives out what is known of the table's.
    in_messages: Resolver,
    listeners: Vec<Listener>,
}

/// Sets whose names have been looked up.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    /// Each row with a name is now one for each of its addresses, or one that is not resolved.
    pub(super) sets: Sets,
    /// Where the names lead, for the disk.
    pub(super) names: Vec<(Question, Vec<Address>)>,
    /// What is wrong with names, in words.
    pub(super) faults: Vec<String>,
    /// When to look them up again; none if there are no names.
    pub(super) expires: Option<Duration>,
}

impl Names {
    /// Who looks names up.
    pub(super) fn resolver(&self) -> Arc<Resolver> {
        Arc::clone(&self.resolver)
    }

    /// Names that our listeners shall reach.
    pub(super) fn new(config: &DnsConfig, listeners: &[Listener]) -> Self {
        let in_messages = DnsConfig { timeout: config.timeout.min(IN_MESSAGE), ..config.clone() };
        Names {
            resolver: Arc::new(Resolver::new(config)),
            in_messages: Resolver::new(&in_messages),
            listeners: listeners.to_vec(),
        }
    }

    /// Takes what was good before this start.
    pub(super) fn keep(&self, names: Vec<(Question, Vec<Address>)>) {
        names.into_iter().for_each(|(question, addresses)| self.resolver.keep(question, addresses));
    }

    /// Where a name in a message leads, best first.
    pub(super) async fn addresses(&self, question: &Question) -> Vec<SocketAddr> {
        let answer = self.in_messages.resolve(question).await;
        answer.map(|answer| answer.addresses.iter().map(|one| one.address).collect()).unwrap_or_default()
    }

    /// Looks up all names of the rows, each once and all at the same time.
    pub(super) async fn resolve(&self, sets: &Sets) -> Resolved {
        let questions: BTreeSet<_> = sets.0.iter().flat_map(|set| &set.rows).filter_map(question).collect();
        let answers = self.ask(questions).await;
        let mut resolved = Resolved {
            expires: answers.values().map(expires).min().map(|expires| expires.max(LEAST_PAUSE)),
            names: answers.keys().filter_map(|name| Some((name.clone(), self.resolver.kept(name)?))).collect(),
            ..Resolved::default()
        };
        for answer in answers.values() {
            match answer {
                Ok(Answer { stale: None, .. }) => {}
                Ok(Answer { stale: Some(error), .. }) => {
                    resolved.faults.push(format!("{error}; meanwhile the addresses that are known serve"));
                }
                Err(error) => resolved.faults.push(error.to_string()),
            }
        }
        for set in &sets.0 {
            let mut of_row = |row: &Row| -> Vec<Address> {
                let answer = question(row).and_then(|question| answers.get(&question)?.as_ref().ok());
                let all = answer.map(|answer| &answer.addresses[..]).unwrap_or_default();
                let reached: Vec<_> = all.iter().copied().filter(|one| self.reach(row, one.address)).collect();
                if let (Some(one), true) = (all.first(), reached.is_empty()) {
                    resolved.faults.push(unreached(row, one.address));
                }
                reached
            };
            let rows = set.rows.iter().map(|row| (row, of_row(row))).collect::<Vec<_>>();
            resolved.sets.0.push(Set { id: set.id, rows: expand(&rows) });
        }
        resolved
    }

    async fn ask(&self, questions: BTreeSet<Question>) -> BTreeMap<Question, Result<Answer, ResolveError>> {
        let at_once = Arc::new(Semaphore::new(AT_ONCE));
        let mut lookups = JoinSet::new();
        for question in questions {
            let (resolver, at_once) = (Arc::clone(&self.resolver), Arc::clone(&at_once));
            lookups.spawn(async move {
                let _turn = at_once.acquire().await;
                let answer = resolver.resolve(&question).await;
                (question, answer)
            });
        }
        lookups.join_all().await.into_iter().collect()
    }

    /// Whether one of our listeners can send there for this row.
    fn reach(&self, row: &Row, address: SocketAddr) -> bool {
        self.listeners.iter().any(|listener| {
            row.socket.is_none_or(|socket| socket == listener.id)
                && listener.transport == row.transport
                && listener.bind.is_ipv4() == address.is_ipv4()
        })
    }
}

/// What a row's URI asks DNS; none if it holds an address.
fn question(row: &Row) -> Option<Question> {
    let uri = Uri::parse(row.uri.as_bytes()).ok()?;
    match uri.host {
        Host::Name(host) => {
            let host = String::from_utf8_lossy(host).to_ascii_lowercase();
            Some(Question { host, port: uri.port, transport: row.transport })
        }
        Host::Ip(_) => None,
    }
}

fn expires(answer: &Result<Answer, ResolveError>) -> Duration {
    match answer {
        Ok(answer) => answer.expires,
        Err(error) => error.expires(),
    }
}

fn unreached(row: &Row, address: SocketAddr) -> String {
    let (transport, family) = (row.transport.name(), if address.is_ipv4() { "IPv4" } else { "IPv6" });
    format!(
        "row {}: {} leads to {address}, and no {transport} listener that it may leave by has an {family} address: add \
         one, or another address to the name",
        row.row, row.uri
    )
}

/// Rows with names become one row for each address. A name's weight is split over its addresses; so that every share stays
/// exactly what the table says, all weights of the set are multiplied by what makes the parts whole numbers.
fn expand(rows: &[(&Row, Vec<Address>)]) -> Vec<Row> {
    let most = rows.iter().map(|(row, _)| row.weight).max().unwrap_or_default().max(1);
    let limit = u64::from(u32::MAX / most);
    let scale = rows.iter().fold(1, |scale: u64, (row, addresses)| {
        let whole: u64 = parts(addresses).iter().sum();
        let needed = whole.max(1) / gcd(whole.max(1), u64::from(row.weight));
        // Beyond the limit the name's share stays exact, and its addresses' differ by one.
        (scale / gcd(scale, needed)).checked_mul(needed).filter(|&scale| scale <= limit).unwrap_or(limit)
    });
    let scaled = |row: &Row| u64::from(row.weight) * scale;
    let mut all = Vec::new();
    for (row, addresses) in rows {
        match addresses[..] {
            [] => all.push(Row { weight: scaled(row) as u32, ..Row::clone(row) }),
            [..] => {
                let weights = split(scaled(row), &parts(addresses));
                let rows = addresses.iter().zip(weights);
                all.extend(rows.map(|(one, weight)| Row { address: one.address, weight, ..Row::clone(row) }));
            }
        }
    }
    all
}

/// Each address's part of its name: by SRV weight among those of the best priority; the others are a last resort and have
/// none. The parts have no divisor in common.
fn parts(addresses: &[Address]) -> Vec<u64> {
    let best = addresses.iter().map(|one| one.priority).min().unwrap_or_default();
    let weightless = addresses.iter().filter(|one| one.priority == best).all(|one| one.weight == 0);
    let part = |one: &Address| match one.priority == best {
        true if weightless => 1,
        true => u64::from(one.weight),
        false => 0,
    };
    let divisor = addresses.iter().fold(0, |divisor, one| gcd(divisor, part(one))).max(1);
    addresses.iter().map(|one| part(one) / divisor).collect()
}

/// Splits `total`, at most `u32::MAX`, by the parts; what is left over goes to the first ones, one each.
fn split(total: u64, parts: &[u64]) -> Vec<u32> {
    let whole = parts.iter().sum::<u64>().max(1);
    let floor = |part: u64| (u128::from(total) * u128::from(part) / u128::from(whole)) as u64;
    let mut left = total - parts.iter().map(|&part| floor(part)).sum::<u64>();
    let of_part = parts.iter().map(|&part| {
        let more = u64::from(part > 0 && left > 0);
        left -= more;
        (floor(part) + more) as u32
    });
    of_part.collect()
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::engine::dispatch::{Algorithm, Asked, DestinationId, Dispatch, Load, Plan, Policy, SetId, Turn};
    use crate::engine::sip::Resources;
    use crate::engine::{Instant, Now};

    fn row(number: i64, weight: u32) -> Row {
        Row { row: number, weight, ..Row::new(format!("sip:name-{number}.example.test:7010"), Row::UNRESOLVED) }
    }

    /// Addresses 10.0.`name`.x of these SRV priorities and weights.
    fn addresses(name: u8, srv: &[(u16, u32)]) -> Vec<Address> {
        let of =
            |(&(priority, weight), last)| Address { address: ([10, 0, name, last], 7010).into(), priority, weight };
        srv.iter().zip(1..).map(of).collect()
    }

    fn expanded(rows: &[(u32, &[(u16, u32)])]) -> Vec<Row> {
        let table: Vec<_> = rows.iter().zip(1..).map(|(&(weight, _), number)| row(number, weight)).collect();
        let found = rows.iter().zip(1..).map(|((_, srv), name)| addresses(name, srv));
        expand(&table.iter().zip(found).collect::<Vec<_>>())
    }

    fn weights(rows: &[(u32, &[(u16, u32)])]) -> Vec<u32> {
        expanded(rows).iter().map(|row| row.weight).collect()
    }

    const A: (u16, u32) = (0, 1);

    /// No session anywhere.
    struct Nobody;

    impl Load for Nobody {
        fn sessions(&self, _: DestinationId) -> u64 {
            0
        }

        fn asked(&self, _: DestinationId) -> Asked {
            Asked::default()
        }

        fn sessions_peak(&self, _: DestinationId) -> u64 {
            0
        }
    }

    const NOW: Now = Now { mono: Instant::ZERO, wall: SystemTime::UNIX_EPOCH };

    #[test]
    fn a_name_with_one_address_changes_no_weight() {
        assert_eq!(weights(&[(3, &[A]), (5, &[A]), (0, &[A])]), [3, 5, 0]);
    }

    #[test]
    fn a_names_weight_is_split_and_the_others_grow_with_it() {
        assert_eq!(weights(&[(1, &[A, A]), (1, &[A])]), [1, 1, 2]);
        assert_eq!(weights(&[(1, &[A, A]), (1, &[A, A, A])]), [3, 3, 2, 2, 2]);
        assert_eq!(weights(&[(2, &[A, A]), (1, &[A])]), [1, 1, 1], "no larger than needed");
    }

    #[test]
    fn srv_weights_split_a_share_and_worse_priorities_are_a_last_resort() {
        assert_eq!(weights(&[(1, &[(10, 60), (10, 20), (20, 5)]), (1, &[A])]), [3, 1, 0, 4]);
        assert_eq!(weights(&[(1, &[(10, 0), (10, 0)])]), [1, 1]);
    }

    #[test]
    fn an_unresolved_name_keeps_its_place_and_its_weight() {
        let rows = expanded(&[(1, &[A, A]), (4, &[])]);
        let shown: Vec<_> = rows.iter().map(|row| (row.weight, row.is_resolved())).collect();
        assert_eq!(shown, [(1, true), (1, true), (8, false)]);
    }

    #[test]
    fn where_numbers_grow_too_large_the_names_share_is_still_exact() {
        let primes: Vec<Vec<_>> = [7, 11, 13, 17, 19, 23].iter().map(|&count| vec![A; count]).collect();
        let rows: Vec<_> = primes.iter().map(|srv| (65_535, &srv[..])).collect();
        let all = expanded(&rows);
        let share = |number| all.iter().filter(|row| row.row == number).map(|row| u64::from(row.weight)).sum::<u64>();
        let of_name = |number| all.iter().filter(move |row| row.row == number).map(|row| row.weight);
        for number in 1..=6 {
            assert_eq!(share(number), share(1));
            let (least, most) = (of_name(number).min(), of_name(number).max());
            assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1));
        }
    }

    #[test]
    fn round_robin_gives_every_name_exactly_its_share() {
        let rows = expanded(&[(1, &[A, A]), (2, &[A, A, A]), (3, &[A])]);
        let mut dispatch = Dispatch::new(vec![Policy { algorithm: Algorithm::RoundRobin, ..Policy::of(SetId(1)) }], 1);
        dispatch.replace(Sets(vec![Set { id: SetId(1), rows }]), NOW);
        let (mut by_name, mut by_address) = (BTreeMap::new(), BTreeMap::new());
        for _ in 0..360 {
            let mut plan = Plan::default();
            dispatch.plan(SetId(1), Turn::Session, Resources::NONE, &Nobody, NOW.mono, &mut plan);
            let row = &dispatch.destination(plan.first().expect("somebody is fit")).expect("loaded").row;
            *by_name.entry(row.row).or_insert(0) += 1;
            *by_address.entry(row.address).or_insert(0) += 1;
        }
        assert_eq!(by_name.into_values().collect::<Vec<_>>(), [60, 120, 180]);
        assert_eq!(by_address.into_values().collect::<Vec<_>>(), [30, 30, 40, 40, 40, 180]);
    }

    #[test]
    fn two_names_with_one_address_are_two_destinations_and_an_unresolved_one_is_unfit() {
        let one = addresses(1, &[A]);
        let (first, second, third) = (row(1, 1), row(2, 1), row(3, 1));
        let rows = expand(&[(&first, one.clone()), (&second, one), (&third, Vec::new())]);
        let mut dispatch = Dispatch::new(Vec::new(), 1);
        assert_eq!(dispatch.replace(Sets(vec![Set { id: SetId(1), rows }]), NOW).added, 3);
        let mut plan = Plan::default();
        dispatch.plan(SetId(1), Turn::Session, Resources::NONE, &Nobody, NOW.mono, &mut plan);
        assert_eq!(plan.iter().count(), 2);
        assert!(!dispatch.is_destination(Row::UNRESOLVED));
    }
}
