//! What names a source of sets: its URL, the form of its rows, and how it is read.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::Strictness;
use super::address::{Kind, shown};

/// Whose table it is: which columns and versions it has, and what they mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Schema {
    /// OpenSIPS's `dispatcher`, versions 7 (weight is a number), 8 (weight is text) and 9 (with `probe_mode`).
    #[default]
    OpenSips,
    /// OpenSIPS's `load_balancer`, version 3.
    LoadBalancer,
    /// Kamailio's `dispatcher`, version 4.
    Kamailio,
}

impl Schema {
    /// All of them.
    pub const ALL: [Schema; 3] = [Schema::OpenSips, Schema::LoadBalancer, Schema::Kamailio];

    /// As the configuration writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Schema::OpenSips => "opensips",
            Schema::LoadBalancer => "load_balancer",
            Schema::Kamailio => "kamailio",
        }
    }

    /// The table's own name.
    pub const fn table(self) -> &'static str {
        match self {
            Schema::OpenSips | Schema::Kamailio => "dispatcher",
            Schema::LoadBalancer => "load_balancer",
        }
    }

    /// The columns' own names, `id` first.
    pub fn columns(self) -> impl Iterator<Item = &'static str> {
        std::iter::once("id").chain(super::row::Form::from(self).columns().map(|(_, name)| name))
    }

    pub(super) const fn versions(self) -> &'static [&'static str] {
        match self {
            Schema::OpenSips => &["7", "8", "9"],
            Schema::LoadBalancer => &["3"],
            Schema::Kamailio => &["4"],
        }
    }
}

/// What the tables and their columns are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableOptions {
    /// The table's name; also its name in the version table.
    pub table: String,
    /// The table of all tables' versions.
    pub version_table: String,
    /// Columns of another name: the schema's name of each, and what it is called here.
    pub columns: BTreeMap<String, String>,
}

impl TableOptions {
    /// The names that the schema gives.
    pub fn of(schema: Schema) -> Self {
        TableOptions { table: schema.table().to_owned(), version_table: "version".to_owned(), columns: BTreeMap::new() }
    }
}

impl Default for TableOptions {
    fn default() -> Self {
        TableOptions::of(Schema::default())
    }
}

/// Where the sets are, how they are read, and what a change of them may do.
#[derive(Clone, PartialEq, Eq)]
pub struct Database {
    /// `sqlite:`, `mysql://`, `mariadb://`, `postgres://`, `postgresql://`, `toml:` or `list:`. It may hold a password.
    pub url: String,
    /// A file that holds the password instead; read at each connection.
    pub password_file: Option<PathBuf>,
    /// Whose table it is.
    pub schema: Schema,
    /// What it is called.
    pub table: TableOptions,
    /// What bad rows do to a load.
    pub strictness: Strictness,
    /// How long a load may take, the connection included.
    pub timeout: Duration,
    /// From one look whether rows have changed to the next; none: nobody looks.
    pub poll_interval: Option<Duration>,
    /// PostgreSQL's channel whose notifications tell of changes.
    pub listen: Option<String>,
    /// Whether a table without rows empties the sets.
    pub allow_empty: bool,
    /// Percent of a set's destinations that a change nobody ordered may take out.
    pub max_removed_percent: u8,
    /// How many former versions of the rows are kept.
    pub keep_versions: usize,
    /// Whether the `state` column is written back.
    pub persist_state: bool,
}

impl Database {
    /// That URL, and the defaults of its kind.
    pub fn of(url: impl Into<String>) -> Self {
        let url = url.into();
        Database {
            password_file: None,
            schema: Schema::default(),
            table: TableOptions::default(),
            strictness: Strictness::default(),
            timeout: Duration::from_secs(5),
            poll_interval: Some(Kind::of(&url).unwrap_or(Kind::Sqlite).poll_interval()),
            listen: None,
            allow_empty: false,
            max_removed_percent: 50,
            keep_versions: 20,
            persist_state: false,
            url,
        }
    }
}

/// The URL without its password.
impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("url", &shown(&self.url))
            .field("password_file", &self.password_file)
            .field("schema", &self.schema)
            .field("table", &self.table)
            .field("strictness", &self.strictness)
            .field("timeout", &self.timeout)
            .field("poll_interval", &self.poll_interval)
            .field("listen", &self.listen)
            .field("allow_empty", &self.allow_empty)
            .field("max_removed_percent", &self.max_removed_percent)
            .field("keep_versions", &self.keep_versions)
            .field("persist_state", &self.persist_state)
            .finish()
    }
}
