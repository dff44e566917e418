//! One row of the dispatcher table: from a database's columns to the engine's [`Row`], with every fault named.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::engine::dispatch::{Row, RowState, Set, SetId, Sets};
use crate::engine::flow::{Listener, ListenerId, Transport};
use crate::engine::sip::uri::{Host, Scheme, Uri};

/// The largest weight: OpenSIPS keeps it in 16 bits.
const MAX_WEIGHT: u32 = 65_535;
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
}

/// What a load gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// The good rows: sets by number, rows by falling priority, then by `id`.
    pub sets: Sets,
    /// What is wrong with the rows that were left out; empty if the load was strict.
    pub faults: Vec<RowFault>,
    /// Rows read, good and bad.
    pub rows: usize,
}

/// One fault of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowFault {
    /// The table.
    pub table: String,
    /// The row's `id` column.
    pub row: i64,
    /// The column.
    pub column: &'static str,
    /// What stands there.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for RowFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RowFault { table, row, column, value, problem, remedy } = self;
        let shown: String = value.chars().take(SHOWN).collect();
        write!(f, "{table} row {row}: {column} is {shown:?}, {problem}: {remedy}")
    }
}

/// The columns that are read, beside `id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    SetId,
    Destination,
    Socket,
    State,
    Weight,
    Priority,
    Attrs,
    Description,
}

impl Column {
    /// In the order of `RawRow::cells`.
    pub(super) const ALL: [Column; 8] = [
        Column::SetId,
        Column::Destination,
        Column::Socket,
        Column::State,
        Column::Weight,
        Column::Priority,
        Column::Attrs,
        Column::Description,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Column::SetId => "setid",
            Column::Destination => "destination",
            Column::Socket => "socket",
            Column::State => "state",
            Column::Weight => "weight",
            Column::Priority => "priority",
            Column::Attrs => "attrs",
            Column::Description => "description",
        }
    }
}

/// A row as a database gave it: every column as text, none for NULL.
#[derive(Clone, Debug, Default)]
pub(super) struct RawRow {
    pub(super) id: i64,
    /// In the order of `Column::ALL`.
    pub(super) cells: [Option<Vec<u8>>; Column::ALL.len()],
}

/// Judges rows that are given by `id`. All faults are found at once.
///
/// # Errors
/// The faults, if there are any and the context is strict.
pub(super) fn judge(table: &str, rows: &[RawRow], context: &RowContext<'_>) -> Result<Load, Vec<RowFault>> {
    let mut faults = Vec::new();
    let mut sets: BTreeMap<SetId, Vec<Row>> = BTreeMap::new();
    // Set and URI of each row, with the first row that has them, and whether that one is good.
    let mut seen: HashMap<(SetId, String), (i64, bool)> = HashMap::new();
    for raw in rows {
        let mut judge = Judge { table, raw, context, faults: &mut faults };
        let before = judge.faults.len();
        let (set, row) = judge.row();
        let Some(set) = set else { continue };
        let good = judge.faults.len() == before;
        if !row.uri.is_empty() {
            match seen.get(&(set, row.uri.clone())) {
                Some(&(first, first_is_good)) => {
                    let problem = format!("which row {first} of set {} has too", set.0);
                    judge.fault(Column::Destination, problem, format!("delete row {first} or row {}", raw.id));
                    if first_is_good {
                        continue;
                    }
                    seen.insert((set, row.uri.clone()), (first, good));
                }
                None => {
                    seen.insert((set, row.uri.clone()), (raw.id, good));
                }
            }
        }
        if good {
            sets.entry(set).or_default().push(row);
        }
    }
    if context.strictness == Strictness::Strict && !faults.is_empty() {
        return Err(faults);
    }
    let sets = sets.into_iter().map(|(id, mut rows)| {
        // ORDER BY priority DESC, id; here and not in SQL, since NULL counts as 0 and text as a number.
        rows.sort_by_key(|row| (std::cmp::Reverse(row.priority), row.row));
        Set { id, rows }
    });
    Ok(Load { sets: Sets(sets.collect()), faults, rows: rows.len() })
}

/// One row before the court.
struct Judge<'a> {
    table: &'a str,
    raw: &'a RawRow,
    context: &'a RowContext<'a>,
    faults: &'a mut Vec<RowFault>,
}

impl Judge<'_> {
    /// The set and the row; what has a fault holds any value.
    fn row(&mut self) -> (Option<SetId>, Row) {
        let set = self.set();
        let uri = self.text(Column::Destination);
        let (transport, address) = self.destination(&uri).unwrap_or((Transport::Udp, SocketAddr::from(([0; 4], 0))));
        let row = Row {
            row: self.raw.id,
            address,
            transport,
            socket: self.socket(transport, address),
            weight: self.weight(),
            priority: self.number(Column::Priority, 0, "a whole number, e.g. 0"),
            state: self.state(),
            attrs: self.text(Column::Attrs),
            description: self.text(Column::Description),
            uri,
        };
        (set, row)
    }
}
