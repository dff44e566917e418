//! The store of destination sets: OpenSIPS's `dispatcher` table, versions 7 to 9, in a database named by a URL.
//!
//! Here is what every database has in common; [`sqlite`] speaks to one kind, [`row`] judges what any of them gave, and
//! [`snapshot`] keeps the last good load on disk.

mod row;
pub mod snapshot;
mod sqlite;

use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

pub use row::{Load, RowContext, RowFault, Strictness};
pub use snapshot::SnapshotError;

/// The versions of the table that we read: 7 (weight is a number), 8 (weight is text), 9 (with `probe_mode`).
const VERSIONS: [&str; 3] = ["7", "8", "9"];

/// Which table to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableOptions {
    /// The table's name; also its name in OpenSIPS's `version` table. Letters, digits and `_`.
    pub table: String,
}

impl Default for TableOptions {
    fn default() -> Self {
        TableOptions { table: "dispatcher".to_owned() }
    }
}

/// A database with a dispatcher table.
#[derive(Clone, Debug)]
pub struct Store {
    backend: Backend,
    table: String,
}

/// One kind of database each, by the URL's scheme.
#[derive(Clone, Debug)]
enum Backend {
    Sqlite(sqlite::Sqlite),
}

/// Why the sets could not be read.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The URL names no database that we speak to. The rest of it is not shown: it may hold a password.
    #[error("database URL begins with {scheme:?}: this version reads sqlite:PATH only")]
    Scheme {
        /// What stands before the first colon.
        scheme: String,
    },
    /// The URL is right in its scheme and wrong after it.
    #[error("database URL is {url:?}, {problem}: give sqlite: and a file's path, e.g. sqlite:tandem.db")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The table's name can't be one.
    #[error("table is {table:?}: give a name of letters, digits and _, e.g. dispatcher")]
    TableName {
        /// What was given.
        table: String,
    },
    /// The database can't be opened.
    #[error(
        "{database}: can't open it: {source}: check that the file, or its folder at the first start, is there and yours"
    )]
    Open {
        /// The database.
        database: String,
        /// What it said.
        source: sqlx::Error,
    },
    /// The database can't be read, or its tables can't be made.
    #[error("{database}: can't {doing}: {source}: check the file with the sqlite3 command")]
    Query {
        /// The database.
        database: String,
        /// What was tried.
        doing: &'static str,
        /// What it said.
        source: sqlx::Error,
    },
    /// There are tables, but not the one that we need.
    #[error(
        "{database}: it has no table {table}: create OpenSIPS's tables in it, or name a new file to have them made"
    )]
    NoTable {
        /// The database.
        database: String,
        /// The table that is missing.
        table: String,
    },
    /// The table is there, its version is not.
    #[error(
        "{database}: table version has no row for {table}: insert its version, e.g. \
         INSERT INTO version (table_name, table_version) VALUES ('{table}', 8)"
    )]
    NoVersion {
        /// The database.
        database: String,
        /// The dispatcher table.
        table: String,
    },
    /// The table is of a version that we do not know.
    #[error(
        "{database}: table {table} has version {found}: give version 7, 8 or 9 (OpenSIPS 2.4 to 4.0), or migrate it"
    )]
    Version {
        /// The database.
        database: String,
        /// The dispatcher table.
        table: String,
        /// What the `version` table says.
        found: String,
    },
    /// The table is of the right version and lacks columns all the same.
    #[error("{database}: table {table} lacks the columns {}: add them as OpenSIPS's schema has them", missing.join(", "))]
    Columns {
        /// The database.
        database: String,
        /// The dispatcher table.
        table: String,
        /// The missing columns.
        missing: Vec<String>,
    },
    /// Some rows can't be used, and the strictness says that then none is.
    #[error("{} of the table can't be used, nothing is loaded:{}", counted(.0), listed(.0))]
    BadRows(
        /// Every fault of every row.
        Vec<RowFault>,
    ),
}

impl Store {
    /// Opens the database that `url` names (`sqlite:PATH` or `sqlite://PATH`, a relative path counting from `base`). A
    /// SQLite file that is not there, or is empty, is made with OpenSIPS's schema (version 8) and no rows.
    ///
    /// # Errors
    /// [`StoreError`] if the URL names no database that we speak to, it can't be opened or made, or it holds no
    /// dispatcher table that we can read.
    pub async fn open(url: &str, base: &Path, options: TableOptions) -> Result<Self, StoreError> {
        let TableOptions { table } = options;
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if table.is_empty() || !table.chars().all(word) {
            return Err(StoreError::TableName { table });
        }
        let backend = Backend::of(url, base)?;
        match &backend {
            Backend::Sqlite(sqlite) => sqlite.prepare(&table).await?,
        }
        Ok(Store { backend, table })
    }

    /// Reads and judges all rows. A file that has gone since [`Store::open`] is an error, not an empty load.
    ///
    /// # Errors
    /// [`StoreError::BadRows`] with every fault, if strict; the others if the database can't be read.
    pub async fn load(&self, context: &RowContext<'_>) -> Result<Load, StoreError> {
        let rows = match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.rows(&self.table).await?,
        };
        row::judge(&self.table, &rows, context).map_err(StoreError::BadRows)
    }
}

/// The database and the table, without any password.
impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.backend {
            Backend::Sqlite(sqlite) => write!(f, "{sqlite} table {}", self.table),
        }
    }
}

impl Backend {
    fn of(url: &str, base: &Path) -> Result<Self, StoreError> {
        let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
        if !scheme.eq_ignore_ascii_case("sqlite") {
            return Err(StoreError::Scheme { scheme: scheme.to_owned() });
        }
        let path = rest.strip_prefix("//").unwrap_or(rest);
        let problem = match path {
            "" => Some("without a path"),
            ":memory:" => Some("a database that would be gone after the first load"),
            _ if path.contains('?') => Some("with parameters, which are not read"),
            _ => None,
        };
        match problem {
            Some(problem) => Err(StoreError::Url { url: url.to_owned(), problem }),
            None => Ok(Backend::Sqlite(sqlite::Sqlite::new(PathBuf::from(base).join(path)))),
        }
    }
}

fn counted(faults: &[RowFault]) -> String {
    let mut rows: Vec<_> = faults.iter().map(|fault| fault.row).collect();
    rows.sort_unstable();
    rows.dedup();
    if rows.len() == 1 { "1 row".to_owned() } else { format!("{} rows", rows.len()) }
}

fn listed(faults: &[RowFault]) -> String {
    faults.iter().map(|fault| format!("\n  {fault}")).collect()
}
