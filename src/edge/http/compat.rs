//! What tools for the peers ask, in the peers' own words: OpenSIPS's management interface at `POST /mi` (mi_http, for
//! opensips-cli), Kamailio's RPC at `POST /RPC` (xhttp and jsonrpcs).

mod kamailio;
mod opensips;
mod rpc;

use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use tokio::time;

use super::access::{Asker, Role};
use super::routes::{Need, Routes};
use super::sets::{Refusal, body_of, give, in_time};
use super::{Given, Node, RELOAD, ReloadOrder, Shared, TOO_LATE};
use crate::edge::partitions::Partitions;
use crate::engine::Snapshot;
use crate::engine::dispatch::{
    AgentWord, Distrust, DistrustOrder, Fitness, NotDistrusted, NotOrdered, Order, OrderTerms, SetId, Standing,
};
use crate::engine::snapshot::{DestinationView, SetView};

pub(super) fn routes<N: Node>() -> Routes<N> {
    Routes::new().ask("/mi", Need::Role(Role::Read), opensips::<N>).ask("/RPC", Need::Role(Role::Read), kamailio::<N>)
}

async fn opensips<N: Node>(
    State(shared): State<Shared<N>>,
    asker: Asker,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let body = body_of(&headers, body)?;
    let (by, guarded) = (asker.giver("mi"), is_guarded(&asker));
    admit(&asker, &by, &body, opensips::orders)?;
    whole(async move { rpc::answer(&opensips::Mi { shared, by, guarded }, &body).await }).await
}

async fn kamailio<N: Node>(
    State(shared): State<Shared<N>>,
    asker: Asker,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let body = body_of(&headers, body)?;
    let (by, guarded) = (asker.giver("rpc"), is_guarded(&asker));
    admit(&asker, &by, &body, kamailio::orders)?;
    whole(async move { rpc::answer(&kamailio::Rpc { shared, by, guarded }, &body).await }).await
}

/// Refuses a body with commands that its asker may not give, as a whole; those that are orders are told of.
fn admit(asker: &Asker, by: &str, body: &[u8], is_order: fn(&str) -> bool) -> Result<(), Refusal> {
    let mut orders = rpc::calls(body).into_iter().filter(|(method, _)| is_order(method)).peekable();
    let Some((first, _)) = orders.peek() else { return Ok(()) };
    let reason = first.clone();
    let what: Vec<_> = orders.map(|(method, params)| format!("{method} {params}").trim_end().to_owned()).collect();
    asker.orders(by, &reason, what.join("; "));
    asker.needs(Role::Operate)
}

/// Whether orders must leave enough of a set fit. The peers hold theirs to nothing, and their tools know no force: what forces is
/// the role, where there are any.
fn is_guarded(asker: &Asker) -> bool {
    asker.role().is_some_and(|role| role < Role::Admin)
}

/// In a task of its own, so that a client that hangs up does not leave half of its orders undone.
async fn whole(answer: impl Future<Output = Response> + Send + 'static) -> Result<Response, Refusal> {
    let broke_off = |_| Refusal(StatusCode::INTERNAL_SERVER_ERROR, "it broke off; the log tells why".to_owned());
    tokio::spawn(answer).await.map_err(broke_off)
}

/// The sets that have rows: the peers know of no others.
fn sets(snapshot: &Snapshot) -> impl Iterator<Item = &SetView> {
    snapshot.sets.iter().filter(|set| !set.destinations.is_empty())
}

/// The rows of a set: a name is one, with all its addresses.
fn rows(set: &SetView) -> impl Iterator<Item = &[DestinationView]> {
    set.destinations.chunk_by(|one, next| (one.row, &one.uri) == (next.row, &next.uri))
}

/// The set's destination of that URI, as the table writes it; the peers do not look at its letters' case.
fn destination<'s>(set: &'s SetView, uri: &str) -> Option<&'s str> {
    let mut all = set.destinations.iter().map(|one| one.uri.as_str());
    all.clone().find(|one| *one == uri).or_else(|| all.find(|one| one.eq_ignore_ascii_case(uri)))
}

/// Whether calls go to a destination, as coarsely as the peers tell it; the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Service {
    /// They may.
    In,
    /// One call tries it.
    OnTrial,
    /// It does not work, or has no room.
    Failed,
    /// Somebody wants none to go there.
    Off,
}

impl Service {
    /// Of a row: the best of its addresses.
    fn of(row: &[DestinationView]) -> Self {
        let one = |one: &DestinationView| match one.fitness {
            // It works, whatever it carries.
            Fitness::Fit | Fitness::Full => Service::In,
            Fitness::OnTrial => Service::OnTrial,
            Fitness::Ordered(_) | Fitness::Agent(AgentWord::Drain | AgentWord::Maint | AgentWord::Stopped) => {
                Service::Off
            }
            Fitness::Unwell(_)
            | Fitness::Outvoted
            | Fitness::Unresolved
            | Fitness::Agent(AgentWord::Down | AgentWord::Fail) => Service::Failed,
        };
        row.iter().map(one).min().unwrap_or(Service::Failed)
    }
}

/// Who asks, as the log and the order say; the peers' interfaces do not tell more.
#[derive(Clone, Copy, Debug)]
struct Giver<'g> {
    by: &'g str,
    reason: &'static str,
    /// [`is_guarded`].
    guarded: bool,
}

/// What is wanted of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    In,
    OnTrial,
    Failed,
    Off,
}

/// Why something was not done.
#[derive(Debug)]
enum NotDone {
    /// The set has no such destination.
    Unknown,
    /// Nothing would ever find that it works again: what to do.
    Unwatched(String),
    /// What went wrong.
    Failed(String),
}

impl NotDone {
    fn too_few(set: SetId, uri: &str, why: &NotOrdered) -> Self {
        NotDone::Failed(match why {
            NotOrdered::TooFew { left, of, .. } => format!(
                "{uri} can't be taken out of set {}: {left} of {of} destinations would be fit; a token of role admin may do it",
                set.0
            ),
            NotOrdered::NoSuchDestination(_) | NotOrdered::Changed { .. } => why.to_string(),
        })
    }
}

impl From<Refusal> for NotDone {
    fn from(Refusal(_, cause): Refusal) -> Self {
        NotDone::Failed(cause)
    }
}

impl<N: Node> Shared<N> {
    /// Makes a destination what is wanted. One that is held for failed is so before it is ready, so that no call goes there in
    /// between, and is no longer ordered out of service.
    async fn make(&self, set: &SetView, uri: &str, wanted: Wanted, giver: Giver<'_>) -> Result<(), NotDone> {
        let distrust = match wanted {
            Wanted::In => return self.order(set.id, uri, Order::Ready, giver).await,
            Wanted::Off => return self.order(set.id, uri, Order::Maint, giver).await,
            Wanted::Failed => Distrust::Down,
            Wanted::OnTrial => Distrust::OnTrial,
        };
        self.distrust(set.id, uri, distrust, giver).await?;
        match set.destinations.iter().any(|one| one.uri == uri && one.standing.order != Order::Ready) {
            true => self.order(set.id, uri, Order::Ready, giver).await,
            false => Ok(()),
        }
    }

    async fn distrust(&self, set: SetId, uri: &str, distrust: Distrust, giver: Giver<'_>) -> Result<(), NotDone> {
        let Giver { by, reason, guarded } = giver;
        let (by, reason) = (by.to_owned(), reason.to_owned());
        let order = DistrustOrder { set, uri: uri.to_owned(), distrust, by, reason, guarded };
        in_time(self.node.distrust(order)).await?.map_err(|fault| match fault {
            NotDistrusted::NoSuchDestination(_) => NotDone::Unknown,
            NotDistrusted::Unwatched { .. } => NotDone::Unwatched(fault.to_string()),
            NotDistrusted::TooFew(why) => NotDone::too_few(set, uri, &why),
        })
    }

    /// Gives an order to a destination.
    async fn order(&self, set: SetId, uri: &str, order: Order, giver: Giver<'_>) -> Result<(), NotDone> {
        let Giver { by, reason, guarded } = giver;
        let (by, reason, at) = (by.to_owned(), reason.to_owned(), SystemTime::now());
        let standing = Standing { order, by, reason, at, deadline: None };
        let terms = OrderTerms { guarded, ..OrderTerms::NONE };
        match in_time(give(self, set, uri, standing, terms)).await? {
            // What a restart would forget stands in the log and in `/ready`.
            Given::Kept | Given::Unkept(_) => Ok(()),
            Given::InVain(NotOrdered::NoSuchDestination(_)) => Err(NotDone::Unknown),
            Given::InVain(why) => Err(NotDone::too_few(set, uri, &why)),
        }
    }

    /// Reads the sets anew: all, or those of a partition.
    async fn reload(&self, giver: Giver<'_>, partition: Option<String>) -> Result<(), String> {
        let Giver { by, reason, .. } = giver;
        let order = ReloadOrder { reason: reason.to_owned(), partition, ..ReloadOrder::of(by) };
        let (node, one_at_a_time) = (Arc::clone(&self.node), Arc::clone(&self.reload));
        // In a task of its own, so that one that takes too long is not left half done.
        let task = tokio::spawn(async move {
            let _one_at_a_time = one_at_a_time.lock().await;
            node.reload(order).await
        });
        match time::timeout(RELOAD, task).await {
            Ok(Ok(Ok(_))) => Ok(()),
            Ok(Ok(Err(failed))) => {
                Err(std::iter::once(failed.error).chain(failed.faults).collect::<Vec<_>>().join("; "))
            }
            Ok(Err(_)) => Err("the reload broke off; the log tells why".to_owned()),
            Err(_) => Err(TOO_LATE.to_owned()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::engine::Now;
    use crate::engine::clock::Instant;
    use crate::engine::dispatch::{Asked, DestinationId, Dispatch, Load, Policy, Row, RowState, Set, Sets};
    use crate::engine::flow::{HostPort, Listener, ListenerId, Role, Sources, Transport};

    /// Two sessions everywhere.
    struct Two;

    impl Load for Two {
        fn sessions(&self, _: DestinationId) -> u64 {
            2
        }

        fn asked(&self, _: DestinationId) -> Asked {
            Asked::default()
        }

        fn sessions_peak(&self, _: DestinationId) -> u64 {
            2
        }
    }

    const NOW: Now = Now { mono: Instant::ZERO, wall: SystemTime::UNIX_EPOCH };

    fn row(row: i64, uri: &str, address: &str) -> Row {
        Row {
            row,
            uri: uri.to_owned(),
            address: address.parse().expect("an address"),
            transport: Transport::Udp,
            socket: None,
            weight: 50,
            priority: 0,
            state: RowState::Active,
            attrs: String::new(),
            description: String::new(),
        }
    }

    /// Set 19: a server by a socket of its own with all columns; a name with two addresses, by TCP; one that is ordered out of
    /// service; one that is down. Set 20 has no rows.
    pub(in crate::edge::http::compat) fn snapshot() -> Snapshot {
        let mut sets = Dispatch::new(vec![Policy::of(SetId(19)), Policy::of(SetId(20))], 1);
        let attrs = "duid=srv1;weight=50;maxload=100".to_owned();
        let name = "sip:tts.example:7010;transport=tcp";
        let by_name = |address| Row { transport: Transport::Tcp, priority: -1, ..row(8, name, address) };
        let rows = vec![
            Row {
                socket: Some(ListenerId(0)),
                attrs,
                description: "TTS \"one\"".to_owned(),
                ..row(7, "sip:10.0.0.1:8060", "10.0.0.1:8060")
            },
            by_name("10.0.0.2:7010"),
            by_name("10.0.0.3:7010"),
            Row { state: RowState::Inactive, ..row(9, "sip:10.0.0.4:7010", "10.0.0.4:7010") },
            Row { state: RowState::Probing, ..row(10, "sip:[2001:db8::5]:7010", "[2001:db8::5]:7010") },
        ];
        sets.replace(Sets(vec![Set { id: SetId(19), rows }]), NOW);
        Snapshot { sets: sets.view(&Two, NOW), ..Snapshot::default() }
    }

    pub(in crate::edge::http::compat) fn listeners() -> Vec<Listener> {
        let bind = ([10, 0, 0, 9], 5060).into();
        vec![Listener {
            id: ListenerId(0),
            transport: Transport::Udp,
            bind,
            advertise: HostPort::from(bind),
            role: Role::Node,
            sources: Sources::default(),
        }]
    }

    #[test]
    fn a_row_is_as_well_as_the_best_of_its_addresses() {
        let Snapshot { mut sets, .. } = snapshot();
        let services = |set: &SetView| rows(set).map(Service::of).collect::<Vec<_>>();
        let other_rows = [Service::Off, Service::Failed];
        assert_eq!(services(&sets[0]), [[Service::In; 2], other_rows].concat());
        let set = |set: &mut SetView, fitness: [Fitness; 2]| {
            (set.destinations[1].fitness, set.destinations[2].fitness) = (fitness[0], fitness[1]);
        };
        for (fitness, service) in [
            ([Fitness::Outvoted, Fitness::Full], Service::In),
            ([Fitness::OnTrial, Fitness::Unresolved], Service::OnTrial),
            ([Fitness::Agent(AgentWord::Down), Fitness::Agent(AgentWord::Drain)], Service::Failed),
            ([Fitness::Ordered(Order::Drain), Fitness::Agent(AgentWord::Stopped)], Service::Off),
        ] {
            set(&mut sets[0], fitness);
            assert_eq!(services(&sets[0])[1], service, "{fitness:?}");
        }
    }

    #[test]
    fn a_destination_is_found_whatever_the_case_of_its_letters() {
        let Snapshot { sets, .. } = snapshot();
        assert_eq!(
            destination(&sets[0], "SIP:TTS.example:7010;transport=TCP"),
            Some("sip:tts.example:7010;transport=tcp")
        );
        assert_eq!(destination(&sets[0], "sip:tts.example:7010"), None);
    }
}
