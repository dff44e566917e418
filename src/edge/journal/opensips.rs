//! Destinations as OpenSIPS's `E_DISPATCHER_STATUS` tells of them: active or inactive, a URI of a set as a whole.
//!
//! It is active while at least one of its addresses is ready and not down. What passes by itself within a call or a second (a limit,
//! a trial), what an agent wants and what other nodes say is no event of OpenSIPS's.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Entry, Kind};
use crate::edge::partitions::Partitions;
use crate::engine::dispatch::{Health, Order, SetId};
use crate::engine::snapshot::{DestinationView, Snapshot};

/// Whether calls may go to a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// To one of its addresses at least.
    Active,
    /// To none.
    Inactive,
}

/// The addresses of each URI of each set, as the entries have told of them.
#[derive(Debug, Default)]
pub(super) struct Statuses(BTreeMap<(u32, String), Addresses>);

type Addresses = BTreeMap<SocketAddr, Address>;

#[derive(Clone, Copy, Debug)]
struct Address {
    is_ready: bool,
    is_well: bool,
}

impl Address {
    fn of(one: &DestinationView) -> Self {
        Address { is_ready: one.standing.order == Order::Ready, is_well: one.health != Health::Down }
    }
}

fn status(addresses: &Addresses) -> Status {
    let may = |one: &Address| one.is_ready && one.is_well;
    if addresses.values().any(may) { Status::Active } else { Status::Inactive }
}

impl Statuses {
    /// Takes note of who is there. What entries have told of an address stands: the snapshot may know of what they have yet to tell.
    pub(super) fn follow(&mut self, snapshot: &Snapshot) {
        let before = std::mem::take(&mut self.0);
        let all = snapshot.sets.iter().flat_map(|set| set.destinations.iter().map(|one| (set.id, one)));
        for (set, one) in all {
            let Some(address) = one.address else { continue };
            let key = (set.0, one.uri.clone());
            let known = before.get(&key).and_then(|addresses| addresses.get(&address)).copied();
            self.0.entry(key).or_default().insert(address, known.unwrap_or_else(|| Address::of(one)));
        }
    }

    /// What the entry makes of its URI, if that is something else than before.
    pub(super) fn change(&mut self, entry: &Entry) -> Option<Status> {
        let (set, uri, address) = (entry.set?, entry.destination.as_ref()?, entry.address?);
        let (old, new) = (entry.old.as_deref()?, entry.new.as_deref()?);
        let is_health = match entry.kind {
            Kind::Health => true,
            Kind::Order => false,
            _ => return None,
        };
        let addresses = self.0.entry((set, uri.clone())).or_default();
        let mut with = |word| {
            let one = addresses.entry(address).or_insert(Address { is_ready: true, is_well: true });
            match is_health {
                true => one.is_well = word != Health::Down.name(),
                false => one.is_ready = word == Order::Ready.name(),
            }
            status(addresses)
        };
        // By what the entry says of before: a snapshot may have known already of what it tells.
        let (before, now) = (with(old), with(new));
        (before != now).then_some(now)
    }
}

/// `E_DISPATCHER_STATUS` as OpenSIPS's JSON-RPC transports write it.
#[derive(Debug, Serialize)]
pub struct StatusEvent<'e> {
    jsonrpc: &'static str,
    method: &'static str,
    params: Params<'e>,
}

#[derive(Debug, Serialize)]
struct Params<'e> {
    // OpenSIPS leaves the default one out.
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<&'e str>,
    group: u32,
    address: &'e str,
    status: Status,
    // Since OpenSIPS 3.3; its words for an operator's, ours for what a probe or a call has shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'e str>,
}

/// The entry as OpenSIPS's event; none if it changes no URI's status.
pub fn status_event<'e>(entry: &'e Entry, partitions: &'e Partitions) -> Option<StatusEvent<'e>> {
    let status = entry.status?;
    let (partition, group) = partitions.place(SetId(entry.set?));
    let reason = match entry.kind {
        Kind::Order => Some("MI command"),
        _ => entry.cause.as_deref(),
    };
    let partition = (partition != Partitions::DEFAULT).then_some(partition);
    let params = Params { partition, group, address: entry.destination.as_deref()?, status, reason };
    Some(StatusEvent { jsonrpc: "2.0", method: "E_DISPATCHER_STATUS", params })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn entry(kind: Kind, address: &str, old: &str, new: &str) -> Entry {
        let entry = Entry::new(kind, SystemTime::UNIX_EPOCH, "");
        entry.of(SetId(1019), "sip:tts.example.net", address.parse().ok()).from(old, new)
    }

    /// Both addresses of the name are known, and active.
    fn two() -> Statuses {
        let one = Address { is_ready: true, is_well: true };
        let addresses = ["10.0.0.1:7010", "10.0.0.2:7010"].map(|text| (text.parse().expect("an address"), one));
        Statuses(BTreeMap::from([((1019, "sip:tts.example.net".to_owned()), addresses.into())]))
    }

    #[test]
    fn a_name_is_inactive_when_the_last_of_its_addresses_is_and_active_with_the_first() {
        let mut statuses = two();
        let mut change = |kind, address, old, new| statuses.change(&entry(kind, address, old, new));
        assert_eq!(change(Kind::Health, "10.0.0.1:7010", "up", "down"), None);
        assert_eq!(change(Kind::Order, "10.0.0.2:7010", "ready", "drain"), Some(Status::Inactive));
        assert_eq!(change(Kind::Order, "10.0.0.2:7010", "drain", "maint"), None);
        assert_eq!(change(Kind::Health, "10.0.0.2:7010", "up", "down"), None);
        assert_eq!(change(Kind::Order, "10.0.0.2:7010", "maint", "ready"), None, "it is down still");
        assert_eq!(change(Kind::Health, "10.0.0.1:7010", "down", "unknown"), Some(Status::Active));
        assert_eq!(change(Kind::Health, "10.0.0.1:7010", "unknown", "busy"), None);
    }

    #[test]
    fn one_that_nobody_knew_was_as_its_first_entry_says() {
        let up = entry(Kind::Health, "10.0.0.1:7010", "down", "up");
        assert_eq!(Statuses::default().change(&up), Some(Status::Active));
        assert_eq!(Statuses::default().change(&entry(Kind::Health, "10.0.0.1:7010", "unknown", "up")), None);
        assert_eq!(Statuses::default().change(&entry(Kind::Agent, "10.0.0.1:7010", "takes calls", "down")), None);
    }

    #[test]
    fn what_a_snapshot_knew_already_is_told_by_its_entry_all_the_same() {
        let down = Address { is_ready: true, is_well: false };
        let addresses = BTreeMap::from([("10.0.0.1:7010".parse().expect("an address"), down)]);
        let mut statuses = Statuses(BTreeMap::from([((1019, "sip:tts.example.net".to_owned()), addresses)]));
        let told = statuses.change(&entry(Kind::Health, "10.0.0.1:7010", "up", "down"));
        assert_eq!(told, Some(Status::Inactive));
    }

    #[test]
    fn who_is_gone_is_forgotten() {
        let mut statuses = two();
        statuses.follow(&Snapshot::default());
        assert!(statuses.0.is_empty(), "{statuses:?}");
    }

    #[test]
    fn the_event_has_opensips_names_and_numbers() {
        let partitions = Partitions(vec![("default".to_owned(), 0), ("asr".to_owned(), 1000)]);
        let event = |entry: Entry| {
            let event = status_event(&entry, &partitions);
            event.map(|event| serde_json::to_string(&event).expect("plain values"))
        };
        let down = entry(Kind::Health, "10.0.0.1:7010", "up", "down").shown_by("timeout (options)");
        assert_eq!(event(down.clone()), None);
        let down = Entry { status: Some(Status::Inactive), ..down };
        assert_eq!(
            event(down.clone()).as_deref(),
            Some(
                r#"{"jsonrpc":"2.0","method":"E_DISPATCHER_STATUS","params":{"partition":"asr","group":19,"address":"sip:tts.example.net","status":"inactive","reason":"timeout (options)"}}"#
            )
        );
        let ready = Entry { status: Some(Status::Active), kind: Kind::Order, set: Some(19), ..down };
        assert_eq!(
            event(ready).as_deref(),
            Some(
                r#"{"jsonrpc":"2.0","method":"E_DISPATCHER_STATUS","params":{"group":19,"address":"sip:tts.example.net","status":"active","reason":"MI command"}}"#
            )
        );
    }
}
