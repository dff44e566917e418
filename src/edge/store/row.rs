//! One row: from the columns of its source to the engine's [`Row`], with every fault named.

mod columns;
mod kamailio;
mod probe;
mod socket;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

pub(super) use self::columns::{Column, Form, Names, RawRow};
pub use self::probe::{AskedProbe, ProbeWish};
use self::socket::Socket;
pub(super) use self::socket::socket_name;
use super::digest::{Digest, digest};
use crate::engine::dispatch::{Row, RowState, Set, SetId, Sets};
use crate::engine::flow::{Listener, ListenerId, Transport};
use crate::engine::sip::{BadUri, Scheme, Uri};

/// The largest weight: OpenSIPS keeps it in 16 bits.
const MAX_WEIGHT: u32 = 65_535;
/// The largest setid that a rule can name: OpenSIPS keeps it as a signed number.
const MAX_SET: u32 = i32::MAX as u32;
/// Characters of a value that a fault shows.
const SHOWN: usize = 200;

/// What to do with the good rows when there are bad ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    /// One bad row refuses the whole load.
    #[default]
    Strict,
    /// Bad rows are left out and reported.
    Lenient,
}

/// What rows are judged against.
#[derive(Clone, Copy, Debug)]
pub struct RowContext<'a> {
    /// Our listeners.
    pub listeners: &'a [Listener],
    /// What bad rows do to the load.
    pub strictness: Strictness,
    /// What is added to each set's number: those of a partition have numbers of their own.
    pub set_offset: u32,
}

/// What a load gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// The good rows: sets by number, rows by falling priority, then by `id`. A row whose URI holds a name is not
    /// resolved yet.
    pub sets: Sets,
    /// What is wrong with the rows that were left out; empty if the load was strict.
    pub faults: Vec<RowFault>,
    /// Rows read, good and bad.
    pub rows: usize,
    /// Of the rows as their source gave them.
    pub digest: Digest,
    /// Good rows that say themselves when they are to be probed, which our probes do not follow.
    pub probes: Vec<AskedProbe>,
}

/// One fault of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowFault {
    /// `file:line`, or the table and the row's `id` column: `dispatcher row 7`.
    pub place: String,
    /// The row's `id` column, or its first line.
    pub row: i64,
    /// The column, as it is called there.
    pub column: String,
    /// What stands there.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for RowFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RowFault { place, row: _, column, value, problem, remedy } = self;
        let shown: String = value.chars().take(SHOWN).collect();
        write!(f, "{place}: {column} is {shown:?}, {problem}: {remedy}")
    }
}

/// Judges rows that are given by `id`. All faults are found at once.
///
/// # Errors
/// The faults, if there are any and the context is strict.
pub(super) fn judge(names: &Names, rows: &[RawRow], context: &RowContext<'_>) -> Result<Load, Vec<RowFault>> {
    let strict = context.strictness == Strictness::Strict;
    let mut faults = Vec::new();
    let mut probes = Vec::new();
    let mut sets: BTreeMap<SetId, Vec<Row>> = BTreeMap::new();
    // The first row of each set and URI. What is left out is nobody's double; but who repairs a table wants to hear of
    // all doubles at once.
    let mut seen: HashMap<(SetId, String), String> = HashMap::new();
    for raw in rows {
        let before = faults.len();
        faults.extend_from_slice(&raw.faults);
        // What a file has in the place of a row.
        if before < faults.len() && raw.cells.iter().all(Option::is_none) {
            continue;
        }
        let mut judge = Judge { names, raw, context, faults: &mut faults };
        let (set, row) = judge.row();
        let wish = judge.probe_mode();
        let Some(set) = set.filter(|_| !row.uri.is_empty()) else { continue };
        if strict || judge.faults.len() == before {
            if let Some(first) = seen.get(&(set, row.uri.clone())) {
                judge.fault(
                    Column::Destination,
                    format!("which {first} of set {} has too", set.0),
                    "delete one of the two; for a larger share give the other a larger weight",
                );
            } else {
                seen.insert((set, row.uri.clone()), raw.short());
            }
        }
        if faults.len() == before {
            probes.extend(wish.map(|wish| AskedProbe { set, uri: row.uri.clone(), wish }));
            sets.entry(set).or_default().push(row);
        }
    }
    if strict && !faults.is_empty() {
        return Err(faults);
    }
    let sets = sets.into_iter().map(|(id, mut rows)| {
        // ORDER BY priority DESC, id; here and not in SQL, since NULL counts as 0 and text as a number.
        rows.sort_by_key(|row| (std::cmp::Reverse(row.priority), row.row));
        Set { id, rows }
    });
    Ok(Load { sets: Sets(sets.collect()), faults, rows: rows.len(), digest: digest(names.form, rows), probes })
}

/// Where a row's URI leads.
#[derive(Clone, Copy)]
struct Target {
    transport: Transport,
    /// None: the host is a name.
    address: Option<SocketAddr>,
}

/// One row being judged.
struct Judge<'a> {
    names: &'a Names,
    raw: &'a RawRow,
    context: &'a RowContext<'a>,
    faults: &'a mut Vec<RowFault>,
}

impl Judge<'_> {
    /// The set and the row; a column with a fault holds any value.
    fn row(&mut self) -> (Option<SetId>, Row) {
        let set = self.set();
        let uri = self.text(Column::Destination);
        let target = self.destination(&uri);
        let (transport, address) = target.map_or((Transport::Udp, None), |target| (target.transport, target.address));
        let kamailio = self.names.form == Form::Kamailio;
        let row = Row {
            row: self.raw.id,
            uri,
            address: address.unwrap_or(Row::UNRESOLVED),
            transport,
            socket: if kamailio { self.kamailio_socket(target) } else { self.socket(target) },
            weight: if kamailio { self.kamailio_weight() } else { self.weight() },
            priority: self.number(Column::Priority, 0, i32::MIN..=i32::MAX, "0").unwrap_or_default(),
            state: if kamailio { self.flags() } else { self.state() },
            attrs: self.attrs(),
            description: self.text(Column::Description),
        };
        (set, row)
    }

    fn set(&mut self) -> Option<SetId> {
        let offset = self.context.set_offset;
        let number = self.number(Column::SetId, 0, 0..=MAX_SET, "19")?;
        let sum = number.checked_add(offset).filter(|sum| *sum <= MAX_SET);
        if sum.is_none() {
            let remedy =
                format!("give {} or less, or the partition a smaller set_offset", MAX_SET.saturating_sub(offset));
            self.fault(Column::SetId, format!("too much with the partition's set_offset of {offset}"), remedy);
        }
        sum.map(SetId)
    }

    /// The `attrs` column; what `load_balancer` has in `resources` stands before it, where [set.capacity] reads it.
    fn attrs(&mut self) -> String {
        let attrs = self.text(Column::Attrs);
        let resources = self.text(Column::Resources);
        let resources = resources.trim().trim_end_matches(';');
        if let Some(at) = resources.find("fs://") {
            // What follows holds FreeSWITCH's password.
            let value = format!("{}fs://...", &resources[..at]);
            let problem = "a resource that follows a FreeSWITCH's load, which is not supported";
            let fault = self.described(Column::Resources, problem, "give a whole number, e.g. pstn=100");
            self.faults.push(RowFault { value, ..fault });
        }
        match (resources, attrs.is_empty()) {
            ("", _) => attrs,
            (_, true) => resources.to_owned(),
            (_, false) => format!("{resources};{attrs}"),
        }
    }

    fn destination(&mut self, uri: &str) -> Option<Target> {
        let column = Column::Destination;
        let example = "give a URI, e.g. sip:10.0.0.1:7010";
        if uri.is_empty() {
            // What is not UTF-8 has its fault already.
            if self.raw.cell(column).is_empty() {
                self.fault(column, "empty", example);
            }
            return None;
        }
        let parsed = match Uri::parse(uri.as_bytes()) {
            Ok(parsed) => parsed,
            Err(bad) => {
                let problem = match bad {
                    BadUri::Scheme => "which begins with no scheme",
                    BadUri::Character => "with a character that a URI can't hold",
                    BadUri::Host => "without a valid host",
                    BadUri::Port => "without a valid port",
                };
                self.fault(column, problem, example);
                return None;
            }
        };
        if parsed.scheme != Scheme::Sip {
            self.fault(column, "not a sip: URI", "begin with sip:");
            return None;
        }
        let Some(transport) = parsed.transport() else {
            self.fault(column, "with a transport that we do not speak", "give ;transport=udp or tcp, or leave it out");
            return None;
        };
        let address = parsed.address();
        if parsed.port == Some(0) || address.is_some_and(|address| !leads_to_a_host(address)) {
            self.fault(column, "where no server can be", example);
            return None;
        }
        let mut spoken = self.context.listeners.iter().filter(|listener| listener.transport == transport).peekable();
        if spoken.peek().is_none() {
            let name = transport.name();
            let remedy = match transport {
                Transport::Udp | Transport::Tcp => format!("add a {name} listener, or give another transport"),
                Transport::Tls => "give ;transport=tcp to what terminates TLS".to_owned(),
            };
            self.fault(column, format!("and no listener speaks {name}"), remedy);
            return None;
        }
        // A name's addresses are judged when they are known: today's may be of a kind that tomorrow's are not.
        if let Some(address) = address
            && !spoken.any(|listener| listener.bind.is_ipv4() == address.is_ipv4())
        {
            let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
            self.fault(
                column,
                format!("and no {} listener has an {family} address", transport.name()),
                format!("add such a listener, or give an address that is not {family}"),
            );
            return None;
        }
        Some(Target { transport, address })
    }

    /// The listener that the row names, if any. Without a good destination only the name is looked up.
    fn socket(&mut self, target: Option<Target>) -> Option<ListenerId> {
        let text = self.text(Column::Socket);
        self.listener_of(Column::Socket, text.trim(), target)
    }

    /// The listener of that name, which stands in that column.
    fn listener_of(&mut self, column: Column, text: &str, target: Option<Target>) -> Option<ListenerId> {
        if text.is_empty() {
            return None;
        }
        let named = Socket::parse(text).map(|socket| self.matching(&socket)).unwrap_or_default();
        let fits = |listener: &&&Listener| {
            target.is_none_or(|Target { transport, address }| {
                let same_family = |address: SocketAddr| listener.bind.is_ipv4() == address.is_ipv4();
                listener.transport == transport && address.is_none_or(same_family)
            })
        };
        match (named.iter().find(fits), named.first()) {
            (Some(listener), _) => Some(listener.id),
            (None, Some(other)) => {
                let problem = format!("which is the listener {}, that can't reach the destination", socket_name(other));
                self.fault(column, problem, "name a listener of its transport and kind of address, or leave it empty");
                None
            }
            (None, None) => {
                let names: Vec<_> = self.context.listeners.iter().map(socket_name).collect();
                let remedy = format!("give one of {}, or leave it empty", names.join(", "));
                self.fault(column, "not one of our listeners", remedy);
                None
            }
        }
    }

    fn weight(&mut self) -> u32 {
        let text = self.text(Column::Weight);
        if let Some(at) = text.find("fs://") {
            self.faults.push(RowFault {
                // What follows holds FreeSWITCH's password.
                value: format!("{}fs://...", &text[..at]),
                ..self.described(
                    Column::Weight,
                    "a weight that follows a FreeSWITCH's load, which is not supported",
                    "give a whole number, e.g. 50",
                )
            });
            return 0;
        }
        self.number(Column::Weight, 1, 0..=MAX_WEIGHT, "1").unwrap_or_default()
    }

    fn state(&mut self) -> RowState {
        let text = self.text(Column::State);
        match text.trim() {
            "" | "0" => return RowState::Active,
            "1" => return RowState::Inactive,
            "2" => return RowState::Probing,
            _ => {}
        }
        self.fault(Column::State, "not a state", "give 0 (active), 1 (inactive) or 2 (probing)");
        RowState::Inactive
    }

    /// A whole number; `default` for NULL and ''.
    fn number<T>(&mut self, column: Column, default: T, range: RangeInclusive<T>, example: &str) -> Option<T>
    where
        T: FromStr + PartialOrd + fmt::Display,
    {
        let text = self.text(column);
        let text = text.trim();
        if text.is_empty() {
            return Some(default);
        }
        if let Some(number) = text.parse().ok().filter(|number| range.contains(number)) {
            return Some(number);
        }
        let (low, high) = range.into_inner();
        let remedy = format!("give a whole number from {low} to {high}, e.g. {example}");
        let digits = text.strip_prefix('-').unwrap_or(text);
        let problem = if digits.bytes().all(|b| b.is_ascii_digit()) { "out of range" } else { "not a whole number" };
        self.fault(column, problem, remedy);
        None
    }

    /// The column's text; "" for NULL, and for what is not UTF-8.
    fn text(&mut self, column: Column) -> String {
        if let Ok(text) = std::str::from_utf8(self.raw.cell(column)) {
            return text.to_owned();
        }
        // A column may be looked at twice.
        let fault = self.described(column, "not UTF-8", "write it anew");
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
        String::new()
    }

    fn fault(&mut self, column: Column, problem: impl Into<String>, remedy: impl Into<String>) {
        let fault = self.described(column, problem, remedy);
        self.faults.push(fault);
    }

    fn described(&self, column: Column, problem: impl Into<String>, remedy: impl Into<String>) -> RowFault {
        RowFault {
            place: self.raw.place(self.names, column),
            row: self.raw.id,
            column: self.names.column(column).to_owned(),
            value: String::from_utf8_lossy(self.raw.cell(column)).into_owned(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

fn leads_to_a_host(address: SocketAddr) -> bool {
    let ip = address.ip();
    let everybody = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !everybody
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::store::Schema;
    use crate::engine::flow::{HostPort, Role};

    fn listener(id: u16, transport: Transport, bind: &str, advertise: &str) -> Listener {
        let bind: SocketAddr = bind.parse().expect("an address");
        let (host, port) = advertise.rsplit_once(':').expect("host and port");
        let advertise = HostPort { host: host.to_owned(), port: port.parse().expect("a port") };
        Listener { id: ListenerId(id), transport, bind, advertise, role: Role::Node, sources: Default::default() }
    }

    fn listeners() -> Vec<Listener> {
        vec![
            listener(0, Transport::Udp, "127.0.0.1:8060", "127.0.0.1:8060"),
            listener(1, Transport::Udp, "10.0.0.1:8060", "sip.example.com:5060"),
            listener(2, Transport::Tcp, "10.0.0.1:8060", "10.0.0.1:8060"),
            listener(3, Transport::Udp, "[::1]:8060", "[::1]:8060"),
        ]
    }

    /// setid, destination, socket, state, weight, priority, attrs, description
    fn raw(id: i64, cells: [&str; 8]) -> RawRow {
        let columns = Form::OpenSips.columns().map(|(column, _)| column);
        let mut row = RawRow { id, ..RawRow::default() };
        columns.zip(cells).for_each(|(column, cell)| row.put(column, cell));
        row
    }

    fn load(rows: &[RawRow], strictness: Strictness) -> Result<Load, Vec<String>> {
        let names = Names::new(Schema::OpenSips.into(), "dispatcher", |_| None);
        judge(&names, rows, &RowContext { listeners: &listeners(), strictness, set_offset: 0 })
            .map_err(|faults| faults.iter().map(ToString::to_string).collect())
    }

    fn one(cells: [&str; 8]) -> Result<Row, Vec<String>> {
        load(&[raw(7, cells)], Strictness::Strict).map(|load| load.sets.0[0].rows[0].clone())
    }

    /// The one fault of a row that has `value` in the column of that index.
    fn fault(column: usize, value: &str) -> String {
        let mut cells = ["19", "sip:10.0.0.9:7010", "", "0", "1", "0", "", ""];
        cells[column] = value;
        let faults = one(cells).expect_err(value);
        assert_eq!(faults.len(), 1, "{faults:?}");
        faults[0].clone()
    }

    #[test]
    fn the_article_s_row_is_good() {
        let row = one(["19", "sip:10.129.39.88:7010", "", "0", "1", "100", "pstn=100", "TTS"]).expect("good");
        assert_eq!(row.address, "10.129.39.88:7010".parse().expect("an address"));
        assert_eq!((row.transport, row.socket, row.weight), (Transport::Udp, None, 1));
        assert_eq!((row.priority, row.state), (100, RowState::Active));
        assert_eq!((row.attrs.as_str(), row.description.as_str(), row.row), ("pstn=100", "TTS", 7));
    }

    #[test]
    fn a_partition_s_sets_have_numbers_of_their_own() {
        let names = Names::new(Form::OpenSips, "dispatcher", |_| None);
        let numbered = |set, set_offset| {
            let rows = [raw(7, [set, "sip:10.0.0.9", "", "0", "1", "0", "", ""])];
            judge(&names, &rows, &RowContext { listeners: &listeners(), strictness: Strictness::Strict, set_offset })
        };
        assert_eq!(numbered("19", 1000).expect("good").sets.0[0].id, SetId(1019));
        assert_eq!(numbered("647", 2_147_483_000).expect("the last one").sets.0[0].id, SetId(MAX_SET));
        let faults = numbered("648", 2_147_483_000).expect_err("too much");
        assert_eq!(
            faults[0].to_string(),
            "dispatcher row 7: setid is \"648\", too much with the partition's set_offset of 2147483000: give 647 or \
             less, or the partition a smaller set_offset"
        );
    }

    #[test]
    fn null_and_empty_are_the_same_default() {
        let empty = one(["", "sip:10.0.0.9", "", "", "", "", "", ""]).expect("good");
        let mut null = RawRow { id: 7, ..RawRow::default() };
        null.cells[Column::Destination as usize] = Some(b"sip:10.0.0.9".to_vec());
        let load = load(&[null], Strictness::Strict).expect("good");
        assert_eq!(load.sets, Sets(vec![Set { id: SetId(0), rows: vec![empty.clone()] }]));
        assert_eq!((empty.weight, empty.priority, empty.state), (1, 0, RowState::Active));
    }

    #[test]
    fn numbers_may_stand_among_blanks_and_weight_may_be_nought() {
        let row = one([" 19 ", "sip:10.0.0.9", " ", "2 ", " 0", "-5", " a ", ""]).expect("good");
        assert_eq!((row.weight, row.priority, row.state), (0, -5, RowState::Probing));
        assert_eq!(row.attrs, " a ");
    }

    #[test]
    fn a_fault_names_row_column_value_problem_and_remedy() {
        assert_eq!(
            fault(4, "x"),
            "dispatcher row 7: weight is \"x\", not a whole number: give a whole number from 0 to 65535, e.g. 1"
        );
    }

    #[test]
    fn every_bad_value_is_a_fault_with_a_remedy() {
        for (column, value, words) in [
            (0, "-1", "out of range"),
            (0, "2147483648", "out of range"),
            (0, "nineteen", "setid is"),
            (1, "", "empty: give a URI"),
            (1, "10.0.0.9:7010", "no scheme: give a URI, e.g. sip:"),
            (1, "localhost:7010", "begin with sip:"),
            (1, "sips:10.0.0.9", "begin with sip:"),
            (1, "sip:10.0.0.9 ", "a character"),
            (1, "sip:10.0.0.9\r\nX: y", "a character"),
            (1, "sip:10.0.0.9:70100", "valid port"),
            (1, "sip:10.0.0.9:0", "where no server can be"),
            (1, "sip:0.0.0.0:7010", "where no server can be"),
            (1, "sip:224.0.1.75", "where no server can be"),
            (1, "sip:10.0.0.300", "valid host"),
            (1, "sip:mrcp.example.com:0", "where no server can be"),
            (1, "sip:mrcp.example.com;transport=tls", "no listener speaks tls: give ;transport=tcp"),
            (1, "sip:10.0.0.9;transport=sctp", "udp or tcp"),
            (1, "sip:10.0.0.9;transport=tls", "no listener speaks tls: give ;transport=tcp"),
            (1, "sip:[2001:db8::1];transport=tcp", "no tcp listener has an IPv6 address"),
            (
                2,
                "udp:10.0.0.2:8060",
                "give one of udp:127.0.0.1:8060, udp:10.0.0.1:8060, tcp:10.0.0.1:8060, udp:[::1]:8060",
            ),
            (2, "sctp:10.0.0.1:8060", "not one of our listeners"),
            (2, "udp:10.0.0.1:8061", "not one of our listeners"),
            (2, "tcp:10.0.0.1:8060", "that can't reach the destination"),
            (2, "udp:[::1]:8060", "that can't reach the destination"),
            (3, "3", "0 (active), 1 (inactive) or 2 (probing)"),
            (3, "active", "0 (active)"),
            (4, "5x", "not a whole number"),
            (4, "-1", "out of range"),
            (4, "65536", "out of range"),
            (4, "1.0", "not a whole number"),
            (5, "high", "priority is"),
            (5, "2147483648", "out of range"),
        ] {
            let fault = fault(column, value);
            assert!(fault.contains(words), "{fault:?} says {words:?}");
            assert!(!fault.contains(['\r', '\n']), "{fault:?}");
        }
    }

    #[test]
    fn a_name_waits_for_its_addresses() {
        for (uri, socket, id) in [
            ("sip:mrcp.example.com", "", None),
            ("sip:mrcp.example.com:7010;transport=tcp", "10.0.0.1:8060", Some(ListenerId(2))),
            ("sip:mrcp.example.com", "udp:[::1]:8060", Some(ListenerId(3))),
        ] {
            let row = one(["1", uri, socket, "0", "1", "0", "", ""]).expect(uri);
            assert_eq!((row.is_resolved(), row.socket, row.uri.as_str()), (false, id, uri));
        }
    }

    #[test]
    fn a_freeswitch_weight_is_refused_without_its_password() {
        let fault = fault(4, "50:fs://:ClueCon@10.0.0.9:8021");
        assert!(fault.contains("weight is \"50:fs://...\"") && fault.contains("e.g. 50"), "{fault}");
        assert!(!fault.contains("ClueCon"), "{fault}");
    }

    #[test]
    fn a_socket_is_found_by_bind_or_advertise_with_or_without_transport() {
        for (socket, uri, id) in [
            ("udp:10.0.0.1:8060", "sip:10.0.0.9", 1),
            ("UDP:10.0.0.1", "sip:10.0.0.9", 1),
            ("10.0.0.1:8060", "sip:10.0.0.9", 1),
            ("10.0.0.1:8060", "sip:10.0.0.9;transport=tcp", 2),
            ("udp:SIP.example.com:5060", "sip:10.0.0.9", 1),
            (" udp:127.0.0.1:8060 ", "sip:127.0.0.2", 0),
            ("udp:[::1]:8060", "sip:[::2]", 3),
        ] {
            let row = one(["1", uri, socket, "0", "1", "0", "", ""]).expect(socket);
            assert_eq!(row.socket, Some(ListenerId(id)), "{socket}");
        }
    }

    #[test]
    fn all_faults_of_all_rows_are_found_at_once() {
        let rows = [
            raw(1, ["x", "sip:10.0.0.9", "udp:1.2.3.4:5", "9", "y", "z", "", ""]),
            raw(2, ["19", "sip:10.0.0.9", "", "0", "1", "0", "", ""]),
            raw(3, ["19", "sip:10.0.0.9", "", "0", "1", "0", "", ""]),
            raw(4, ["20", "sip:10.0.0.9", "", "0", "1", "0", "", ""]),
        ];
        let faults = load(&rows, Strictness::Strict).expect_err("bad");
        assert_eq!(faults.len(), 6, "{faults:?}");
        assert!(faults[5].contains("row 3: destination") && faults[5].contains("which row 2 of set 19 has too"));
    }

    #[test]
    fn lenient_leaves_bad_rows_out_and_keeps_the_rest_in_order() {
        let rows = [
            raw(1, ["19", "sip:10.0.0.1", "", "0", "x", "0", "", ""]),
            raw(2, ["19", "sip:10.0.0.1", "", "0", "1", "", "", ""]),
            raw(3, ["19", "sip:10.0.0.1", "", "0", "1", "9", "", ""]),
            raw(4, ["19", "sip:10.0.0.4", "", "0", "1", "100", "", ""]),
            raw(5, ["2", "sip:10.0.0.5", "", "0", "1", "-1", "", ""]),
            raw(6, ["19", "sip:10.0.0.6", "", "0", "1", "0", "", ""]),
        ];
        let load = load(&rows, Strictness::Lenient).expect("the good ones");
        let order: Vec<_> =
            load.sets.0.iter().map(|set| (set.id.0, set.rows.iter().map(|row| row.row).collect::<Vec<_>>())).collect();
        assert_eq!(order, [(2, vec![5]), (19, vec![4, 2, 6])]);
        let faults: Vec<_> = load.faults.iter().map(|fault| (fault.place.as_str(), fault.column.as_str())).collect();
        assert_eq!(faults, [("dispatcher row 1", "weight"), ("dispatcher row 3", "destination")]);
        assert_eq!(load.rows, 6);
    }

    #[test]
    fn bytes_that_are_not_text_are_one_fault() {
        let mut row = raw(7, ["19", "sip:10.0.0.9", "", "0", "1", "0", "", ""]);
        for column in [Column::Destination, Column::Attrs] {
            row.put(column, [b's', 0xff]);
        }
        let faults = load(&[row], Strictness::Strict).expect_err("bad");
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults.iter().all(|fault| fault.contains("not UTF-8")), "{faults:?}");
    }

    #[test]
    fn a_long_value_is_cut_in_the_fault() {
        assert!(fault(3, &"9".repeat(10_000)).len() < 400);
    }
}
