//! The store of destination sets: OpenSIPS's `dispatcher` table, versions 7 to 9, in a database named by a URL.
//!
//! Here is what every database has in common; [`sqlite`] speaks to one kind, [`row`] judges what any of them gave, and
//! [`snapshot`] keeps the last good load on disk, [`memory`] what is no row's: orders and health.

mod digest;
mod file;
pub mod memory;
pub mod order;
mod row;
pub mod snapshot;
mod sqlite;
pub mod versions;

use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

pub use digest::Digest;
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
    #[error("{database}: can't {doing}: {source}: {}", sqlite::remedy(source))]
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
    #[error(
        "{database}: table {table} lacks the columns {}: add them as in OpenSIPS's schema",
        missing.join(", ")
    )]
    Columns {
        /// The database.
        database: String,
        /// The dispatcher table.
        table: String,
        /// The missing columns.
        missing: Vec<String>,
    },
    /// Some rows can't be used, and the strictness says that then none is.
    #[error("{}:{}", refused(.0), listed(.0))]
    BadRows(
        /// Every fault of every row.
        Vec<RowFault>,
    ),
}

impl StoreError {
    /// The error without the rows at fault.
    pub fn summary(&self) -> String {
        match self {
            StoreError::BadRows(faults) => refused(faults),
            _ => self.to_string(),
        }
    }

    /// The rows at fault.
    pub fn rows(&self) -> &[RowFault] {
        match self {
            StoreError::BadRows(faults) => faults,
            _ => &[],
        }
    }
}

impl Store {
    /// The database that `url` names: `sqlite:PATH` or `sqlite://PATH`, a relative path counting from `base`. It is not
    /// touched before it is made or read.
    ///
    /// # Errors
    /// [`StoreError`] if the URL names no database that we speak to, or the table's name is none.
    pub fn new(database: &crate::config::Database, base: &Path) -> Result<Self, StoreError> {
        Self::old(&database.url, base, database.table.clone())
    }

    /// stub
    pub async fn changed(&self) {
        std::future::pending().await
    }

    /// stub
    pub fn old(url: &str, base: &Path, options: TableOptions) -> Result<Self, StoreError> {
        let TableOptions { table } = options;
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if table.is_empty() || !table.chars().all(word) {
            return Err(StoreError::TableName { table });
        }
        Ok(Store { backend: Backend::of(url, base)?, table })
    }

    /// Makes a SQLite file that is not there or is empty, with OpenSIPS's schema (version 8) and no rows: for a node's
    /// first start. A file with tables is left as it is.
    ///
    /// # Errors
    /// [`StoreError`] if it can't be opened or made, or it holds no dispatcher table that we can read.
    pub async fn make(&self) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.prepare(&self.table).await,
        }
    }

    /// Whether there is a database to be read: a SQLite file may not have been made yet.
    pub fn is_there(&self) -> bool {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.is_there(),
        }
    }

    /// Whether there is a place to make the database in.
    pub fn has_folder(&self) -> bool {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.has_folder(),
        }
    }

    /// Runs SQL statements as they are: the rows of the demo, an operator's own.
    ///
    /// # Errors
    /// [`StoreError`] with what the database says.
    pub async fn execute(&self, sql: &str) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.execute(sql).await,
        }
    }

    /// Reads and judges all rows. A file that is not there is an error, not an empty load.
    ///
    /// # Errors
    /// [`StoreError::BadRows`] with every fault, if strict; the others if the database can't be read.
    pub async fn load(&self, context: &RowContext<'_>) -> Result<Load, StoreError> {
        let rows = match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.rows(&self.table).await?,
        };
        {
            let mut load = row::judge(&self.table, &rows, context).map_err(StoreError::BadRows)?;
            let mut h = blake3::Hasher::new();
            for r in &rows {
                for (n, c) in r.cells.iter().enumerate() {
                    if n != 3 {
                        h.update(c.as_deref().unwrap_or_default());
                        h.update(b"|");
                    }
                }
            }
            load.digest.0.copy_from_slice(&h.finalize().as_bytes()[..16]);
            Ok(load)
        }
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

fn refused(faults: &[RowFault]) -> String {
    let mut rows: Vec<_> = faults.iter().map(|fault| fault.row).collect();
    rows.sort_unstable();
    rows.dedup();
    let rows = if rows.len() == 1 { "1 row".to_owned() } else { format!("{} rows", rows.len()) };
    format!("{rows} of the table can't be used, nothing is loaded")
}

fn listed(faults: &[RowFault]) -> String {
    faults.iter().map(|fault| format!("\n  {fault}")).collect()
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
    use sqlx::{AssertSqlSafe, Connection};

    use super::*;
    use crate::edge::scratch::Folder;
    use crate::engine::dispatch::RowState;
    use crate::engine::flow::{Listener, ListenerId, Role, Transport};

    /// As the article gives them.
    const ARTICLE: &str = "
        INSERT INTO `dispatcher` (`setid`, `destination`, `state`, `weight`, `priority`, `attrs`, `description`) VALUES
            (19, 'sip:10.129.39.88:7010', 0, 1, 100, 'pstn=100', 'TTS_MRCP_CLIENT_FS_7010'),
            (19, 'sip:10.129.39.88:7011', 0, 1, 100, 'pstn=100', 'TTS_MRCP_CLIENT_FS_7011');";

    const VERSION: &str =
        "CREATE TABLE version (table_name CHAR(32) NOT NULL, table_version INTEGER DEFAULT 0 NOT NULL);";

    fn listeners() -> Vec<Listener> {
        let bind: std::net::SocketAddr = "127.0.0.1:8060".parse().expect("an address");
        let transport = Transport::Udp;
        vec![Listener {
            id: ListenerId(0),
            transport,
            bind,
            advertise: bind.into(),
            role: Role::Node,
            sources: Default::default(),
        }]
    }

    async fn run(folder: &Folder, sql: &str) {
        let options = SqliteConnectOptions::new().filename(folder.path().join("t.db")).create_if_missing(true);
        let mut connection = SqliteConnection::connect_with(&options).await.expect("a connection");
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.expect("good SQL");
        connection.close().await.expect("closed");
    }

    async fn make(url: &str, base: &Path, options: TableOptions) -> Result<Store, StoreError> {
        let store = Store::old(url, base, options)?;
        store.make().await.map(|()| store)
    }

    async fn open(folder: &Folder) -> Result<Store, StoreError> {
        make("sqlite:t.db", folder.path(), TableOptions::default()).await
    }

    async fn load(store: &Store, strictness: Strictness) -> Result<Load, StoreError> {
        store.load(&RowContext { listeners: &listeners(), strictness, set_offset: 0 }).await
    }

    /// What is wrong with a database that this SQL makes.
    async fn refused(sql: &str) -> String {
        let folder = Folder::new();
        run(&folder, sql).await;
        open(&folder).await.expect_err(sql).to_string()
    }

    fn uris(load: &Load) -> Vec<(u32, Vec<&str>)> {
        load.sets.0.iter().map(|set| (set.id.0, set.rows.iter().map(|row| row.uri.as_str()).collect())).collect()
    }

    #[tokio::test]
    async fn the_first_start_makes_opensips_s_tables_and_the_article_s_insert_fits() {
        let folder = Folder::new();
        let store = open(&folder).await.expect("made");
        let empty = load(&store, Strictness::Strict).await.expect("no rows");
        assert_eq!(empty, Load::default());
        run(&folder, ARTICLE).await;
        let full = load(&store, Strictness::Strict).await.expect("two rows");
        assert_eq!(uris(&full), [(19, vec!["sip:10.129.39.88:7010", "sip:10.129.39.88:7011"])]);
        let row = &full.sets.0[0].rows[1];
        assert_eq!((row.row, row.weight, row.priority, row.state), (2, 1, 100, RowState::Active));
        assert_eq!((row.attrs.as_str(), row.description.as_str()), ("pstn=100", "TTS_MRCP_CLIENT_FS_7011"));
        assert_eq!((full.rows, full.faults.len()), (2, 0));
        assert_eq!(folder.files(), ["t.db"]);
    }

    #[tokio::test]
    async fn a_second_start_keeps_the_rows() {
        let folder = Folder::new();
        open(&folder).await.expect("made");
        run(&folder, ARTICLE).await;
        let store = open(&folder).await.expect("opened");
        assert_eq!(load(&store, Strictness::Strict).await.expect("two rows").rows, 2);
    }

    #[tokio::test]
    async fn starts_at_once_make_one_schema() {
        let folder = Folder::new();
        let (a, b, c) = tokio::join!(open(&folder), open(&folder), open(&folder));
        for store in [a, b, c] {
            load(&store.expect("opened"), Strictness::Strict).await.expect("no rows");
        }
    }

    #[tokio::test]
    async fn rows_come_by_falling_priority_then_by_id() {
        let folder = Folder::new();
        let store = open(&folder).await.expect("made");
        run(
            &folder,
            "INSERT INTO dispatcher (id, setid, destination, priority, weight) VALUES
                (5, 2, 'sip:10.0.0.5', 0, ''), (4, 2, 'sip:10.0.0.4', 0, 1), (3, 2, 'sip:10.0.0.3', 10, '7'),
                (2, 1, 'sip:10.0.0.2', '-3', 2), (1, 2, 'sip:10.0.0.1', '9', '0');",
        )
        .await;
        let load = load(&store, Strictness::Strict).await.expect("good rows");
        assert_eq!(
            uris(&load),
            [(1, vec!["sip:10.0.0.2"]), (2, vec!["sip:10.0.0.3", "sip:10.0.0.1", "sip:10.0.0.4", "sip:10.0.0.5"])]
        );
        assert_eq!(load.sets.0[1].rows.iter().map(|row| row.weight).collect::<Vec<_>>(), [7, 0, 1, 1]);
    }

    #[tokio::test]
    async fn versions_7_and_9_are_read_too_with_nulls_and_strange_types() {
        for (version, more) in [(7, ""), (9, "probe_mode INT DEFAULT 0,")] {
            let folder = Folder::new();
            run(
                &folder,
                &format!(
                    "{VERSION} INSERT INTO version VALUES ('dispatcher', '{version}');
                     CREATE TABLE dispatcher (ID INTEGER PRIMARY KEY, setid TEXT, destination, socket, state TEXT,
                        {more} weight INT, priority TEXT, attrs, description);
                     INSERT INTO dispatcher (setid, destination, socket, state, weight, priority, attrs, description)
                     VALUES ('19', 'sip:10.0.0.1:7010', NULL, '', NULL, NULL, NULL, NULL),
                        (19, CAST('sip:10.0.0.2:7010' AS BLOB), 'udp:127.0.0.1:8060', '1', 5, '9', 12, 'x');"
                ),
            )
            .await;
            let store = open(&folder).await.expect("opened");
            let load = load(&store, Strictness::Strict).await.expect("good rows");
            assert_eq!(uris(&load), [(19, vec!["sip:10.0.0.2:7010", "sip:10.0.0.1:7010"])]);
            let row = &load.sets.0[0].rows[0];
            assert_eq!((row.state, row.weight, row.socket), (RowState::Inactive, 5, Some(ListenerId(0))));
            assert_eq!(row.attrs, "12");
        }
    }

    #[tokio::test]
    async fn strict_refuses_the_load_with_every_fault_and_lenient_skips() {
        let folder = Folder::new();
        let store = open(&folder).await.expect("made");
        run(&folder, ARTICLE).await;
        run(
            &folder,
            "INSERT INTO dispatcher (setid, destination, weight, state) VALUES
                (19, 'tel:123', 'x', 0), (19, CAST(x'ff' AS TEXT), '1', 4);",
        )
        .await;
        let fault = load(&store, Strictness::Strict).await.expect_err("bad rows").to_string();
        assert!(
            fault.starts_with("2 rows of the table can't be used, nothing is loaded:\n  dispatcher row 3: "),
            "{fault}"
        );
        assert_eq!(fault.lines().count(), 5, "{fault}");
        let load = load(&store, Strictness::Lenient).await.expect("the good ones");
        assert_eq!((load.rows, load.faults.len(), load.sets.0[0].rows.len()), (4, 4, 2));
    }

    #[tokio::test]
    async fn a_database_that_is_not_ours_is_refused_with_a_remedy() {
        for (sql, words) in [
            ("CREATE TABLE other (x);", "it has no table dispatcher: create"),
            ("CREATE TABLE dispatcher (id INTEGER);", "it has no table version"),
            (&format!("{VERSION} CREATE TABLE dispatcher (id);"), "VALUES ('dispatcher', 8)"),
            (
                &format!("{VERSION} CREATE TABLE dispatcher (id); INSERT INTO version VALUES ('dispatcher', 4);"),
                "has version 4: give version 7, 8 or 9",
            ),
            (
                &format!(
                    "{VERSION} CREATE TABLE dispatcher (id, setid); INSERT INTO version VALUES ('dispatcher', 8);"
                ),
                "lacks the columns destination, socket, state, weight, priority, attrs, description",
            ),
        ] {
            let fault = refused(sql).await;
            assert!(fault.contains(words) && fault.contains("t.db"), "{fault}");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_no_database_is_refused_and_left_alone() {
        let folder = Folder::new();
        let text = "this is no database, though it is long enough to look at\n".repeat(40);
        std::fs::write(folder.path().join("t.db"), &text).expect("a file");
        let fault = open(&folder).await.expect_err("no database").to_string();
        assert!(fault.contains("not a database"), "{fault}");
        assert_eq!(std::fs::read_to_string(folder.path().join("t.db")).expect("a file"), text);
    }

    #[tokio::test]
    async fn a_file_that_went_away_is_an_error_and_not_an_empty_load() {
        let folder = Folder::new();
        let store = open(&folder).await.expect("made");
        std::fs::remove_file(folder.path().join("t.db")).expect("removed");
        let fault = load(&store, Strictness::Strict).await.expect_err("gone").to_string();
        assert!(fault.contains("can't open it"), "{fault}");
        assert!(folder.files().is_empty());
    }

    #[tokio::test]
    async fn paths_count_from_the_base_and_may_be_whole() {
        let folder = Folder::new();
        let whole = format!("SQLITE://{}", folder.path().join("whole.db").display());
        for url in ["sqlite:a.db", "sqlite://b.db", "sqlite:./my file.db", &whole] {
            let store = make(url, folder.path(), TableOptions::default()).await.expect(url);
            assert!(store.to_string().contains(&folder.path().display().to_string()), "{store}");
        }
        assert_eq!(folder.files(), ["a.db", "b.db", "my file.db", "whole.db"]);
        let fault = make("sqlite:none/a.db", folder.path(), TableOptions::default()).await.expect_err("no folder");
        assert!(fault.to_string().contains("can't open it"), "{fault}");
    }

    #[tokio::test]
    async fn other_urls_and_names_are_refused_without_their_password() {
        for (url, words) in [
            ("mysql://user:secret@db/opensips", "begins with \"mysql\""),
            ("tandem.db", "begins with \"tandem.db\""),
            ("", "begins with \"\""),
            ("sqlite:", "without a path"),
            ("sqlite::memory:", "gone after the first load"),
            ("sqlite:a.db?mode=ro", "with parameters"),
        ] {
            let fault = make(url, Path::new("."), TableOptions::default()).await.expect_err(url).to_string();
            assert!(fault.contains(words) && !fault.contains("secret"), "{fault}");
        }
        for table in ["", "a b", "x\"; DROP TABLE y; --", "ü"] {
            let options = TableOptions { table: table.to_owned() };
            let fault = make("sqlite:a.db", Path::new("."), options).await.expect_err(table);
            assert!(matches!(fault, StoreError::TableName { .. }), "{fault}");
        }
    }

    #[tokio::test]
    async fn a_table_of_another_name_is_made_and_read() {
        let folder = Folder::new();
        let options = TableOptions { table: "select".to_owned() };
        let store = make("sqlite:t.db", folder.path(), options).await.expect("made");
        run(&folder, "INSERT INTO \"select\" (setid, destination, state) VALUES (1, 'sip:10.0.0.1', 7);").await;
        let fault = load(&store, Strictness::Strict).await.expect_err("a bad row").to_string();
        assert!(fault.contains("select row 1: state is \"7\""), "{fault}");
    }
}
