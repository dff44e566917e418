//! The columns of a row, whoever's table it stands in, and a row as its source gave it.

use super::RowFault;
use crate::edge::store::Schema;

/// What a column means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::edge::store) enum Column {
    SetId,
    Destination,
    Socket,
    State,
    /// Kamailio's, in bits.
    Flags,
    Weight,
    Priority,
    /// Of `load_balancer`: `pstn=100;asr=20`.
    Resources,
    Attrs,
    Description,
    ProbeMode,
}

const COLUMNS: usize = 11;

impl Column {
    /// In the order of [`RawRow::cells`].
    pub(in crate::edge::store) const ALL: [Column; COLUMNS] = [
        Column::SetId,
        Column::Destination,
        Column::Socket,
        Column::State,
        Column::Flags,
        Column::Weight,
        Column::Priority,
        Column::Resources,
        Column::Attrs,
        Column::Description,
        Column::ProbeMode,
    ];
}

/// Which of them a source has, and what they are called and mean there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::edge::store) enum Form {
    /// OpenSIPS's `dispatcher`.
    OpenSips,
    /// OpenSIPS's `load_balancer`.
    LoadBalancer,
    /// Kamailio's table, and its file.
    Kamailio,
    /// Our own file.
    Toml,
}

impl From<Schema> for Form {
    fn from(schema: Schema) -> Self {
        match schema {
            Schema::OpenSips => Form::OpenSips,
            Schema::LoadBalancer => Form::LoadBalancer,
            Schema::Kamailio => Form::Kamailio,
        }
    }
}

impl Form {
    /// Its columns and their own names. Version 9 alone has the `probe_mode` of OpenSIPS's `dispatcher`.
    pub(in crate::edge::store) fn columns(self) -> impl Iterator<Item = (Column, &'static str)> {
        Column::ALL.into_iter().filter_map(move |column| Some((column, self.name(column)?)))
    }

    /// What it is called in this form; none: it has none.
    pub(in crate::edge::store) const fn name(self, column: Column) -> Option<&'static str> {
        let [opensips, balancer, kamailio, toml] = match column {
            Column::SetId => [Some("setid"), Some("group_id"), Some("setid"), Some("set")],
            Column::Destination => [Some("destination"), Some("dst_uri"), Some("destination"), Some("uri")],
            Column::Socket => [Some("socket"), None, None, Some("socket")],
            Column::State => [Some("state"), None, None, Some("state")],
            Column::Flags => [None, None, Some("flags"), None],
            Column::Weight => [Some("weight"), None, None, Some("weight")],
            Column::Priority => [Some("priority"), None, Some("priority"), Some("priority")],
            Column::Resources => [None, Some("resources"), None, None],
            Column::Attrs => [Some("attrs"); 4],
            Column::Description => [Some("description"); 4],
            Column::ProbeMode => [Some("probe_mode"), Some("probe_mode"), None, None],
        };
        match self {
            Form::OpenSips => opensips,
            Form::LoadBalancer => balancer,
            Form::Kamailio => kamailio,
            Form::Toml => toml,
        }
    }

    /// Whether a table of this form may be without it.
    pub(in crate::edge::store) fn may_lack(self, column: Column) -> bool {
        self == Form::OpenSips && column == Column::ProbeMode
    }
}

/// How faults name where rows stand: the table or the file, and the columns as they are called there.
#[derive(Clone, Debug)]
pub(in crate::edge::store) struct Names {
    pub(in crate::edge::store) form: Form,
    /// The table's name, or the file's.
    pub(in crate::edge::store) source: String,
    /// In the order of [`Column::ALL`].
    columns: [String; COLUMNS],
}

impl Names {
    /// `own` gives another name for one that the form has.
    pub(in crate::edge::store) fn new(form: Form, source: &str, own: impl Fn(&str) -> Option<String>) -> Self {
        let columns = Column::ALL.map(|column| {
            let name = form.name(column).unwrap_or_default();
            own(name).unwrap_or_else(|| name.to_owned())
        });
        Names { form, source: source.to_owned(), columns }
    }

    pub(in crate::edge::store) fn column(&self, column: Column) -> &str {
        &self.columns[column as usize]
    }
}

/// A row as its source gave it: every column as text, none for NULL and for columns that the source does not have.
#[derive(Clone, Debug, Default)]
pub(in crate::edge::store) struct RawRow {
    /// The `id` column, or the line.
    pub(in crate::edge::store) id: i64,
    /// In the order of [`Column::ALL`].
    pub(in crate::edge::store) cells: [Option<Vec<u8>>; COLUMNS],
    /// The line of each in a file; none for a table.
    pub(in crate::edge::store) lines: Option<Box<[usize; COLUMNS]>>,
    /// What its source has found to be wrong with it.
    pub(in crate::edge::store) faults: Vec<RowFault>,
}

impl RawRow {
    /// An empty row of a file.
    pub(in crate::edge::store) fn of_line(line: usize) -> Self {
        let id = i64::try_from(line).unwrap_or(i64::MAX);
        RawRow { id, lines: Some(Box::new([line; COLUMNS])), ..RawRow::default() }
    }

    /// Puts text into a column.
    pub(in crate::edge::store) fn put(&mut self, column: Column, text: impl Into<Vec<u8>>) {
        self.cells[column as usize] = Some(text.into());
    }

    /// What stands there; nothing for NULL.
    pub(in crate::edge::store) fn cell(&self, column: Column) -> &[u8] {
        self.cells[column as usize].as_deref().unwrap_or_default()
    }

    /// Where a column's value stands, for people.
    pub(in crate::edge::store) fn place(&self, names: &Names, column: Column) -> String {
        match &self.lines {
            Some(lines) => format!("{}:{}", names.source, lines[column as usize]),
            None => format!("{} row {}", names.source, self.id),
        }
    }

    /// The same, where the source is known.
    pub(super) fn short(&self) -> String {
        match &self.lines {
            Some(lines) => format!("line {}", lines[Column::Destination as usize]),
            None => format!("row {}", self.id),
        }
    }
}
