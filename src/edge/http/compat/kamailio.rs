//! Kamailio's RPC: the dispatcher's commands, their answers and faults as its modules dispatcher (6.1) and jsonrpcs write
//! them. What it has and Tandem has not, as overload control, stands there as Kamailio writes it when it is off.

use std::sync::Arc;

use axum::http::StatusCode;
use serde::Serialize;
use serde_json::Value;

use super::rpc::{Dialect, Fault, Params};
use super::{Giver, NotDone, Service, Wanted, destination, rows, sets};
use crate::edge::http::sets::{Refusal, in_time};
use crate::edge::http::{Node, Shared};
use crate::engine::Snapshot;
use crate::engine::dispatch::{Order, SetId, Why};
use crate::engine::flow::{Listener, Transport};
use crate::engine::sip::{Host, Uri};
use crate::engine::snapshot::{DestinationView, SetView};

const SET_STATE: &str = "dispatcher.set_state";
const RELOAD: &str = "dispatcher.reload";

/// The RPC.
pub(super) struct Rpc<N> {
    pub(super) shared: Shared<N>,
    /// Who gives orders by it.
    pub(super) by: String,
    /// [`super::is_guarded`].
    pub(super) guarded: bool,
}

impl<N: Node> Dialect for Rpc<N> {
    type Result = Answer;

    /// A fault's code is the status too.
    fn status(fault: &Fault) -> StatusCode {
        status(fault.code)
    }

    async fn call(&self, method: &str, params: Params) -> Result<Answer, Fault> {
        match method {
            "dispatcher.list" => self.list(params).await,
            "dispatcher.reload" => self.reload().await,
            "dispatcher.set_state" => self.set_state(params).await,
            _ => Err(fault("Method Not Found")),
        }
    }
}

/// Whether a command changes something.
pub(super) fn orders(method: &str) -> bool {
    matches!(method, RELOAD | SET_STATE)
}

fn status(code: i32) -> StatusCode {
    let code = u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok());
    code.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// All its faults have this code.
fn fault(text: &str) -> Fault {
    Fault::new(500, text)
}

/// What a command says.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Answer {
    Words(&'static str),
    List(List),
}

impl<N: Node> Rpc<N> {
    fn giver(&self, reason: &'static str) -> Giver<'_> {
        Giver { by: &self.by, reason, guarded: self.guarded }
    }

    async fn snapshot(&self) -> Result<Arc<Snapshot>, Fault> {
        in_time(self.shared.node.snapshot()).await.map_err(|Refusal(_, cause)| fault(&cause))
    }

    async fn list(&self, params: Params) -> Result<Answer, Fault> {
        let Some([mode]) = params.named(["mode"]) else { return Err(fault("Invalid Parameters")) };
        let mode = Mode::of(mode.as_ref().and_then(Value::as_str).unwrap_or_default());
        let snapshot = self.snapshot().await?;
        List::of(&snapshot, self.shared.node.listeners(), mode)
            .map(Answer::List)
            .ok_or_else(|| fault("No Destination Sets"))
    }

    async fn reload(&self) -> Result<Answer, Fault> {
        self.shared.reload(self.giver(RELOAD), None).await.map_err(|cause| fault("Reload Failed").with(cause))?;
        Ok(Answer::Words("Ok. Dispatcher successfully reloaded."))
    }

    async fn set_state(&self, params: Params) -> Result<Answer, Fault> {
        let Some([Some(state), Some(group), Some(address)]) = params.named(["state", "group", "address"]) else {
            return Err(fault("Invalid Parameters"));
        };
        let (Some(state), Some(group), Some(address)) = (word(&state), number(&group), address.as_str()) else {
            return Err(fault("Invalid Parameters"));
        };
        let wanted = wanted(&state)?;
        let snapshot = self.snapshot().await?;
        let set = sets(&snapshot).find(|set| set.id == group).ok_or_else(not_updated)?;
        let uris: Vec<_> = match address {
            "all" => rows(set).map(|row| row[0].uri.as_str()).collect(),
            address => destination(set, address).into_iter().collect(),
        };
        if uris.is_empty() {
            return Err(not_updated());
        }
        for uri in uris {
            self.shared.make(set, uri, wanted, self.giver(SET_STATE)).await.map_err(|fault| match fault {
                NotDone::Unknown => not_updated(),
                NotDone::Unwatched(cause) | NotDone::Failed(cause) => not_updated().with(cause),
            })?;
        }
        Ok(Answer::Words("Ok. Dispatcher state updated."))
    }
}

fn not_updated() -> Fault {
    fault("State Update Failed")
}

/// A text, or the number that a state may be.
fn word(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned).or_else(|| value.as_u64().map(|number| number.to_string()))
}

fn number(value: &Value) -> Option<SetId> {
    word(value)?.parse().ok().map(SetId)
}

/// A state as the command says it; the letter `p` behind it, to probe the destination, says nothing here: what is probed is
/// the configuration's.
fn wanted(state: &str) -> Result<Wanted, Fault> {
    match state.chars().next().ok_or_else(|| fault("Invalid State Parameter"))? {
        '0' | 'i' | 'I' => Ok(Wanted::Failed),
        '1' | 'a' | 'A' => Ok(Wanted::In),
        '2' | 'd' | 'D' => Ok(Wanted::Off),
        '3' | 't' | 'T' => Ok(Wanted::OnTrial),
        _ => Err(fault("Unknown State Value")),
    }
}

/// How much a list tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Short,
    Normal,
    Full,
}

impl Mode {
    fn of(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "short" => Mode::Short,
            "full" => Mode::Full,
            _ => Mode::Normal,
        }
    }
}

/// `dispatcher.list`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) struct List {
    nrsets: usize,
    records: Vec<Record>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Record {
    set: Set,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Set {
    id: u32,
    targets: Vec<Target>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Target {
    dest: Destination,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Destination {
    idx: usize,
    uri: String,
    flags: String,
    priority: i32,
    /// The set and the row's `id`.
    iuid: String,
    #[serde(flatten)]
    full: Option<Full>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attrs: Option<Attrs>,
    runtime: Runtime,
}

/// What only `full` tells.
#[derive(Debug, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Full {
    host: String,
    ipaddr: String,
    port: u16,
    protoid: u8,
    dnstime_sec: u64,
    dnstime_usec: u64,
    ocrate: u32,
    ocidx: u64,
    ocseq: u64,
    octime_sec: u64,
    octime_usec: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Attrs {
    body: Option<String>,
    duid: Option<String>,
    /// Failures in a row.
    probing_count: u32,
    maxload: u32,
    weight: u32,
    rweight: u32,
    socket: Option<String>,
    sockname: Option<String>,
    ping_socket: Option<String>,
    obproxy: Option<String>,
    ocmin: u64,
    ocmax: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Runtime {
    /// Live sessions, those of other nodes too.
    dlgload: u64,
}

impl List {
    /// None if no set has rows.
    fn of(snapshot: &Snapshot, listeners: &[Listener], mode: Mode) -> Option<Self> {
        let records: Vec<_> = sets(snapshot).map(|set| Record { set: Set::of(set, listeners, mode) }).collect();
        (!records.is_empty()).then_some(List { nrsets: records.len(), records })
    }
}

impl Set {
    fn of(set: &SetView, listeners: &[Listener], mode: Mode) -> Self {
        let target = |(idx, row)| Target { dest: Destination::of(set.id, idx, row, listeners, mode) };
        Set { id: set.id.0, targets: rows(set).enumerate().map(target).collect() }
    }
}

impl Destination {
    fn of(set: SetId, idx: usize, row: &[DestinationView], listeners: &[Listener], mode: Mode) -> Self {
        let one = &row[0];
        let attrs = match mode {
            Mode::Short => false,
            Mode::Normal => !one.attrs.is_empty(),
            Mode::Full => true,
        };
        Destination {
            idx,
            uri: one.uri.clone(),
            flags: flags(row),
            priority: one.priority,
            iuid: format!("{}-{}", set.0, one.row),
            full: (mode == Mode::Full).then(|| Full::of(one)),
            attrs: attrs.then(|| Attrs::of(one, listeners)),
            runtime: Runtime { dlgload: row.iter().map(|one| one.sessions + one.elsewhere).sum() },
        }
    }
}

/// Whether calls go there, and whether it is probed: `P` it is, `X` not now, `N` never.
fn flags(row: &[DestinationView]) -> String {
    let service = match Service::of(row) {
        Service::In => 'A',
        Service::OnTrial => 'T',
        Service::Failed => 'I',
        Service::Off => 'D',
    };
    let probed = match (row[0].probed, row[0].standing.order) {
        (false, _) => 'N',
        (true, Order::Maint) => 'X',
        (true, Order::Ready | Order::Drain) => 'P',
    };
    [service, probed].into_iter().collect()
}

impl Full {
    fn of(one: &DestinationView) -> Self {
        let host = Uri::parse(one.uri.as_bytes()).ok().map(|uri| match uri.host {
            Host::Ip(ip) if ip.is_ipv6() => format!("[{ip}]"),
            Host::Ip(ip) => ip.to_string(),
            Host::Name(name) => String::from_utf8_lossy(name).into_owned(),
        });
        Full {
            host: host.unwrap_or_default(),
            ipaddr: one.address.map(|address| address.ip().to_string()).unwrap_or_default(),
            port: one.address.map(|address| address.port()).unwrap_or_default(),
            protoid: match one.transport {
                Transport::Udp => 1,
                Transport::Tcp => 2,
                Transport::Tls => 3,
            },
            dnstime_sec: 0,
            dnstime_usec: 0,
            ocrate: 0,
            ocidx: 0,
            ocseq: 0,
            octime_sec: 0,
            octime_usec: 0,
        }
    }
}

impl Attrs {
    fn of(one: &DestinationView, listeners: &[Listener]) -> Self {
        let value = |name: &str| {
            let parts = one.attrs.split(';').filter_map(|part| part.split_once('='));
            parts.map(|(key, value)| (key.trim(), value.trim())).find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let text = |name: &str| value(name).map(str::to_owned);
        let number = |name: &str| value(name).and_then(|value| value.parse().ok()).unwrap_or_default();
        let socket = one.socket.and_then(|id| listeners.get(usize::from(id.0))).map(Listener::name);
        Attrs {
            body: (!one.attrs.is_empty()).then(|| one.attrs.clone()),
            duid: text("duid"),
            probing_count: match one.why {
                Why::ProbesFailed { failures, .. } => failures,
                Why::Started
                | Why::Works
                | Why::NoGoodAnswer
                | Why::ProbedElsewhere
                | Why::Ejected { .. }
                | Why::HalfOpen { .. }
                | Why::Flapping { .. }
                | Why::NoRoom { .. } => 0,
            },
            maxload: number("maxload"),
            weight: number("weight"),
            rweight: number("rweight"),
            socket: socket.or_else(|| text("socket")),
            sockname: text("sockname"),
            ping_socket: text("ping_socket"),
            obproxy: text("obproxy"),
            ocmin: 0,
            ocmax: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{listeners, snapshot};
    use super::*;

    /// The destinations as they are written.
    fn list(mode: Mode) -> Vec<String> {
        let list = List::of(&snapshot(), &listeners(), mode).expect("there are some");
        assert_eq!((list.nrsets, list.records[0].set.id), (1, 19));
        list.records[0].set.targets.iter().map(|one| serde_json::to_string(one).expect("JSON")).collect()
    }

    #[test]
    fn a_list_is_as_kamailio_writes_it() {
        let written = concat!(
            r#"{"DEST":{"IDX":0,"URI":"sip:10.0.0.1:8060","FLAGS":"AN","PRIORITY":0,"IUID":"19-7","#,
            r#""ATTRS":{"BODY":"duid=srv1;weight=50;maxload=100","DUID":"srv1","PROBING_COUNT":0,"MAXLOAD":100,"WEIGHT":50,"#,
            r#""RWEIGHT":0,"SOCKET":"udp:10.0.0.9:5060","SOCKNAME":null,"PING_SOCKET":null,"OBPROXY":null,"OCMIN":0,"OCMAX":0},"#,
            r#""RUNTIME":{"DLGLOAD":2}}}"#,
        );
        let all = list(Mode::Normal);
        assert_eq!(all[0], written);
        // A name is one, with the sessions of all its addresses.
        let named = r#"{"DEST":{"IDX":1,"URI":"sip:tts.example:7010;transport=tcp","FLAGS":"AN","PRIORITY":-1,"IUID":"19-8","RUNTIME":{"DLGLOAD":4}}}"#;
        assert_eq!(all[1], named);
        assert!(all[2].contains(r#""FLAGS":"DN""#) && all[3].contains(r#""FLAGS":"IN""#), "{all:?}");
    }

    #[test]
    fn a_short_list_has_no_attrs_and_a_full_one_always() {
        assert!(list(Mode::Short).iter().all(|one| !one.contains("ATTRS")));
        let all = list(Mode::Full);
        let written = concat!(
            r#""IUID":"19-8","HOST":"tts.example","IPADDR":"10.0.0.2","PORT":7010,"PROTOID":2,"DNSTIME_SEC":0,"DNSTIME_USEC":0,"#,
            r#""OCRATE":0,"OCIDX":0,"OCSEQ":0,"OCTIME_SEC":0,"OCTIME_USEC":0,"ATTRS":{"BODY":null,"DUID":null,"#,
        );
        assert!(all[1].contains(written), "{}", all[1]);
        assert!(
            all[3].contains(r#""HOST":"[2001:db8::5]","IPADDR":"2001:db8::5","PORT":7010,"PROTOID":1"#),
            "{}",
            all[3]
        );
        for (text, mode) in [("short", Mode::Short), ("FULL", Mode::Full), ("", Mode::Normal), ("long", Mode::Normal)] {
            assert_eq!(Mode::of(text), mode);
        }
    }

    #[test]
    fn nobody_is_a_fault() {
        assert!(List::of(&Snapshot::default(), &[], Mode::Normal).is_none());
    }

    #[test]
    fn flags_tell_service_and_probes() {
        let mut sets = snapshot().sets;
        let one = &mut sets[0].destinations[..1];
        assert_eq!(flags(one), "AN");
        one[0].probed = true;
        assert_eq!(flags(one), "AP");
        one[0].standing.order = Order::Maint;
        one[0].fitness = crate::engine::dispatch::Fitness::Ordered(Order::Maint);
        assert_eq!(flags(one), "DX");
        one[0].standing.order = Order::Ready;
        one[0].fitness = crate::engine::dispatch::Fitness::OnTrial;
        assert_eq!(flags(one), "TP");
    }

    #[test]
    fn states_are_told_by_their_first_letter_or_number() {
        for (states, told) in [
            (["0", "i", "IP"], Wanted::Failed),
            (["1", "a", "ap"], Wanted::In),
            (["2", "D", "d"], Wanted::Off),
            (["3", "t", "tp"], Wanted::OnTrial),
        ] {
            assert_eq!(states.map(wanted), [Ok(told), Ok(told), Ok(told)], "{states:?}");
        }
        assert_eq!(wanted(""), Err(fault("Invalid State Parameter")));
        assert_eq!(wanted("ready"), Err(fault("Unknown State Value")));
    }

    #[test]
    fn the_status_of_a_fault_is_its_code() {
        for (code, expected) in [(500, 500), (404, 404), (-32600, 500), (7, 500)] {
            assert_eq!(status(code).as_u16(), expected);
        }
    }
}
