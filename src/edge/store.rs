//! The store of destination sets: a dispatcher's table in a database, or a file, named by a URL.
//!
//! Here is what every source has in common. [`address`] reads the URL, [`connection`] speaks to databases, [`sql`] says what
//! to ask them, [`toml`] and [`list`] read files; [`row`] judges what any of them gave and [`digest`] tells whether it is
//! still the same. [`snapshot`] keeps the last good load on disk, [`memory`] what is no row's: orders and health.

mod address;
mod connection;
mod digest;
mod error;
mod file;
mod list;
mod listen;
pub mod memory;
mod options;
pub mod order;
mod row;
pub mod snapshot;
mod sql;
mod sqlite;
pub mod states;
mod toml;
pub mod versions;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;

use self::address::Address;
pub use self::address::{Kind, faults, has_password};
use self::connection::{Connection, Kept};
pub use self::digest::Digest;
pub use self::error::StoreError;
use self::listen::Listening;
pub use self::options::{Database, Schema, TableOptions};
pub use self::row::{AskedProbe, Load, ProbeWish, RowContext, RowFault, Strictness};
use self::row::{Form, Names, RawRow, judge};
pub use self::snapshot::SnapshotError;
use self::sql::Table;
use crate::engine::dispatch::RowState;

/// A database's table, or a file, with the rows of sets. Clones share their connections.
#[derive(Clone)]
pub struct Store(Arc<Source>);

struct Source {
    address: Address,
    /// The address for people.
    name: String,
    password_file: Option<PathBuf>,
    table: Table,
    timeout: Duration,
    kept: Kept,
    listening: Option<Listening>,
    /// Held while a file is read.
    reading: Arc<tokio::sync::Mutex<()>>,
}

impl Store {
    /// The source that the options name; relative paths in its URL count from `base`. It is not touched before it is made or read.
    ///
    /// # Errors
    /// [`StoreError`] if the URL names nothing that we speak to, or a name can't be one.
    pub fn new(database: &Database, base: &Path) -> Result<Self, StoreError> {
        let address = Address::parse(&database.url, base).map_err(StoreError::Url)?;
        let table = Table::new(database.schema, &database.table)?;
        if let Some(name) = database.listen.as_ref().filter(|name| !sql::is_name(name)) {
            return Err(StoreError::Name { what: "listen".to_owned(), name: name.clone() });
        }
        let listening = database.listen.as_deref().filter(|_| matches!(address, Address::Postgres(_)));
        Ok(Store(Arc::new(Source {
            name: address.to_string(),
            address,
            password_file: database.password_file.clone(),
            table,
            timeout: database.timeout,
            kept: Kept::default(),
            reading: Arc::default(),
            listening: listening.map(Listening::new),
        })))
    }

    /// Makes a SQLite file that is not there or is empty, with the schema's table and no rows: for a node's first start. A
    /// file with tables is left as it is, and so is every other source.
    ///
    /// # Errors
    /// [`StoreError`] if it can't be opened or made, or it holds no table that we can read.
    pub async fn make(&self) -> Result<(), StoreError> {
        let Source { address: Address::Sqlite(_), name, table, .. } = &*self.0 else { return Ok(()) };
        let mut connection = self.0.connect(true).await?;
        let result = sqlite::prepare(&mut connection, table, name).await;
        connection.close().await;
        result
    }

    /// Whether there is something to be read. A SQLite file may not have been made yet; nothing else is made.
    pub fn is_there(&self) -> bool {
        match &self.0.address {
            Address::Sqlite(path) => path.exists(),
            Address::MySql(_) | Address::Postgres(_) | Address::Toml(_) | Address::List(_) => true,
        }
    }

    /// Whether there is a place to make a SQLite file in.
    pub fn has_folder(&self) -> bool {
        match &self.0.address {
            Address::Sqlite(path) => {
                path.parent().is_none_or(|folder| folder.as_os_str().is_empty() || folder.is_dir())
            }
            Address::MySql(_) | Address::Postgres(_) | Address::Toml(_) | Address::List(_) => false,
        }
    }

    /// Runs SQL statements as they are: the rows of the demo, an operator's own.
    ///
    /// # Errors
    /// [`StoreError`] with what the database says.
    pub async fn execute(&self, sql: &str) -> Result<(), StoreError> {
        let source = &*self.0;
        if let Address::Toml(_) | Address::List(_) = source.address {
            return Err(StoreError::ReadOnly { database: source.name.clone() });
        }
        let mut connection = source.take().await?;
        let result = connection.run(sql).await;
        source.put_back(connection).await;
        result.map_err(|error| source.failed("run a statement")(error))
    }

    /// Reads and judges all rows. A file that is not there is an error, not an empty load; so is a server that does not
    /// answer in time.
    ///
    /// # Errors
    /// [`StoreError::BadRows`] with every fault, if strict; the others if the source can't be read.
    pub async fn load(&self, context: &RowContext<'_>) -> Result<Load, StoreError> {
        let source = &*self.0;
        let (names, rows) = source.within(source.rows()).await?;
        judge(&names, &rows, context).map_err(StoreError::BadRows)
    }

    /// Waits until the source says by itself that something may have changed: a notification of PostgreSQL, or a (new)
    /// connection on which the next one will be heard. Other sources never say it. May be dropped at any time; what comes
    /// between two calls is told by the second.
    pub async fn changed(&self) {
        let source = &*self.0;
        match (&source.listening, &source.address) {
            (Some(listening), Address::Postgres(options)) => {
                listening.changed(|| source.with_password(options), source.timeout, &source.name).await;
            }
            _ => std::future::pending().await,
        }
    }

    /// Writes the `state` column of rows, named by `setid` as the table has it and by destination: all of them or none.
    ///
    /// # Errors
    /// [`StoreError::ReadOnly`] if the source has no such column; else what the database says.
    pub async fn write_states(&self, states: &[(i64, String, RowState)]) -> Result<(), StoreError> {
        let source = &*self.0;
        let is_file = matches!(source.address, Address::Toml(_) | Address::List(_));
        if is_file || source.table.schema != Schema::OpenSips {
            return Err(StoreError::ReadOnly { database: source.name.clone() });
        }
        source.within(source.write(states)).await
    }
}

/// The source without any password.
impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Source { address, name, table, .. } = &*self.0;
        match address {
            Address::Toml(_) | Address::List(_) => f.write_str(name),
            Address::Sqlite(_) | Address::MySql(_) | Address::Postgres(_) => {
                write!(f, "{name} table {}", table.options.table)
            }
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({self})")
    }
}

impl Source {
    /// What the source gives, and how faults in it are named.
    async fn rows(&self) -> Result<(Names, Vec<RawRow>), StoreError> {
        match &self.address {
            Address::Toml(path) => {
                let names = Names::new(Form::Toml, &path.display().to_string(), |_| None);
                let text = String::from_utf8_lossy(&read(path, &self.reading).await?).into_owned();
                let content = |(line, problem)| StoreError::Content { path: path.clone(), line, problem };
                let rows = toml::rows(&text, &names).map_err(content)?;
                Ok((names, rows))
            }
            Address::List(path) => {
                let names = Names::new(Form::Kamailio, &path.display().to_string(), |_| None);
                let rows = list::rows(&read(path, &self.reading).await?, &names);
                Ok((names, rows))
            }
            Address::Sqlite(_) | Address::MySql(_) | Address::Postgres(_) => {
                let mut connection = self.take().await?;
                let rows = self.table.rows(&mut connection, &self.name).await;
                // What has failed may be in the midst of a transaction.
                match rows {
                    Ok(_) => self.put_back(connection).await,
                    Err(_) => connection.close().await,
                }
                Ok((self.table.names.clone(), rows?))
            }
        }
    }

    async fn write(&self, states: &[(i64, String, RowState)]) -> Result<(), StoreError> {
        let mut connection = self.take().await?;
        let result = self.write_all(&mut connection, states).await;
        match result {
            Ok(()) => self.put_back(connection).await,
            Err(_) => connection.close().await,
        }
        result.map_err(|error| self.failed("write states")(error))
    }

    async fn write_all(
        &self,
        connection: &mut Connection,
        states: &[(i64, String, RowState)],
    ) -> Result<(), sqlx::Error> {
        connection.run("BEGIN").await?;
        for (set, destination, state) in states {
            let update = self.table.update(connection.dialect(), *set, *state);
            connection.run_with(update, destination).await?;
        }
        connection.run("COMMIT").await
    }

    /// A connection that nobody else uses. SQLite's are always new: loads are rare, and a file that was put in the old one's
    /// place is seen.
    async fn take(&self) -> Result<Connection, StoreError> {
        match self.kept.take().await {
            Some(connection) => Ok(connection),
            None => self.connect(false).await,
        }
    }

    async fn put_back(&self, connection: Connection) {
        match connection {
            Connection::Sqlite(_) => connection.close().await,
            Connection::MySql(_) | Connection::Postgres(_) => self.kept.put(connection).await,
        }
    }

    async fn connect(&self, create: bool) -> Result<Connection, StoreError> {
        let password = self.password()?;
        // Shorter than a load, so that it is told who has locked the file.
        let busy = self.timeout.mul_f64(0.8);
        Connection::to(&self.address, password.as_deref(), create, busy)
            .await
            .map_err(|source| StoreError::Open { database: self.name.clone(), source })
    }

    /// What the password's file holds, without white space around it.
    fn password(&self) -> Result<Option<String>, StoreError> {
        let Some(path) = &self.password_file else { return Ok(None) };
        let wrong = |problem| StoreError::Password { path: path.clone(), problem };
        let text = std::fs::read_to_string(path)
            .map_err(|error| wrong(format!("can't read it: {error}: give it to the user that runs this")))?;
        match text.trim() {
            "" => Err(wrong("it is empty: write the password into it".to_owned())),
            password => Ok(Some(password.to_owned())),
        }
    }

    fn with_password(&self, options: &PgConnectOptions) -> Result<PgConnectOptions, StoreError> {
        let options = options.clone();
        Ok(match self.password()? {
            Some(password) => options.password(&password),
            None => options,
        })
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let late = |_| StoreError::Timeout { database: self.name.clone(), after: self.timeout };
        tokio::time::timeout(self.timeout, work).await.map_err(late)?
    }

    fn failed(&self, doing: &'static str) -> impl Fn(sqlx::Error) -> StoreError + '_ {
        move |source| StoreError::Query { database: self.name.clone(), doing, source }
    }
}

/// Reads a file where it disturbs nobody: its disk may hang.
async fn read(path: &Path, alone: &Arc<tokio::sync::Mutex<()>>) -> Result<Vec<u8>, StoreError> {
    let owned = path.to_owned();
    // One that hangs is not joined by others.
    let alone = Arc::clone(alone).lock_owned().await;
    let read = tokio::task::spawn_blocking(move || {
        let _alone = alone;
        std::fs::read(owned)
    })
    .await;
    let read = read.unwrap_or_else(|gone| Err(std::io::Error::other(gone)));
    read.map_err(|source| StoreError::File { path: path.to_owned(), source })
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

    async fn make(url: &str, base: &Path, table: TableOptions) -> Result<Store, StoreError> {
        let store = Store::new(&Database { table, ..Database::of(url) }, base)?;
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
        assert_eq!((empty.sets, empty.rows, empty.faults, empty.probes), Default::default());
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
        assert!(fault.starts_with("2 rows can't be used, nothing is loaded:\n  dispatcher row 3: "), "{fault}");
        assert_eq!(fault.lines().count(), 5, "{fault}");
        let load = load(&store, Strictness::Lenient).await.expect("the good ones");
        assert_eq!((load.rows, load.faults.len(), load.sets.0[0].rows.len()), (4, 4, 2));
    }

    #[tokio::test]
    async fn a_database_that_is_not_ours_is_refused_with_a_remedy() {
        for (sql, words) in [
            ("CREATE TABLE other (x);", "it has no table dispatcher, or none that this user may read: create"),
            ("CREATE TABLE dispatcher (id INTEGER);", "it has no table version"),
            (
                "CREATE TABLE dispatcher (id, setid, destination, flags, priority, attrs, description);",
                "has the columns of Kamailio's dispatcher: set schema = \"kamailio\"",
            ),
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
        for url in ["oracle://user:secret@db/opensips", "mysql://user:secret@db", "", "sqlite:a.db?mode=ro"] {
            let fault = make(url, Path::new("."), TableOptions::default()).await.expect_err(url).to_string();
            assert!(fault.starts_with("database url: ") && !fault.contains("secret"), "{fault}");
        }
        for table in ["", "a b", "x\"; DROP TABLE y; --", "ü"] {
            let options = TableOptions { table: table.to_owned(), ..TableOptions::default() };
            let fault = make("sqlite:a.db", Path::new("."), options).await.expect_err(table);
            assert!(matches!(fault, StoreError::Name { .. }), "{fault}");
        }
    }

    #[tokio::test]
    async fn a_password_s_file_is_where_the_configuration_found_it() {
        let password_file = Some("config/none".into());
        let database = Database { password_file, ..Database::of("mysql://u@127.0.0.1/d") };
        let store = Store::new(&database, Path::new("config")).expect("a good URL");
        let fault = load(&store, Strictness::Strict).await.expect_err("no file").to_string();
        assert!(fault.starts_with("password_file config/none: can't read it"), "{fault}");
    }

    #[tokio::test]
    async fn a_file_s_faults_are_told_by_line() {
        let folder = Folder::new();
        let text = "[[destination]]\nset = 19\nuri = \"tel:1\"\nweight = 70000\n\n[[destination]]\nset = 19\n\
                    uri = \"sip:10.0.0.1\"\nstate = \"maint\"\n";
        std::fs::write(folder.path().join("sets.toml"), text).expect("a file");
        let store = Store::new(&Database::of("toml:sets.toml"), folder.path()).expect("a good URL");
        let fault = load(&store, Strictness::Strict).await.expect_err("bad rows").to_string();
        let place = folder.path().join("sets.toml").display().to_string();
        assert!(fault.starts_with("1 row can't be used, nothing is loaded:"), "{fault}");
        assert!(fault.contains(&format!("\n  {place}:3: uri is \"tel:1\", not a sip: URI")), "{fault}");
        assert!(fault.contains(&format!("\n  {place}:4: weight is \"70000\", out of range")), "{fault}");
        let lenient = load(&store, Strictness::Lenient).await.expect("the good one");
        assert_eq!((lenient.sets.0[0].rows[0].state, lenient.faults.len()), (RowState::Inactive, 2));
        std::fs::write(folder.path().join("sets.toml"), text.replace("maint", "ready")).expect("a file");
        let ready = load(&store, Strictness::Lenient).await.expect("the good one");
        assert_ne!(ready.digest, lenient.digest);
        std::fs::remove_file(folder.path().join("sets.toml")).expect("removed");
        let fault = load(&store, Strictness::Lenient).await.expect_err("no file").to_string();
        assert!(fault.contains("sets.toml: can't read it"), "{fault}");
        assert!(store.is_there() && !store.has_folder(), "it is never made");
    }

    #[tokio::test]
    async fn other_schemas_are_made_and_read_in_sqlite_too() {
        for (schema, insert) in [
            (Schema::Kamailio, "INSERT INTO dispatcher (setid, destination, flags) VALUES (1, 'sip:10.0.0.1', 4)"),
            (
                Schema::LoadBalancer,
                "INSERT INTO load_balancer (group_id, dst_uri, resources) VALUES (1, 'sip:10.0.0.1', 'a=1')",
            ),
        ] {
            let folder = Folder::new();
            let database = Database { schema, table: TableOptions::of(schema), ..Database::of("sqlite:t.db") };
            let store = Store::new(&database, folder.path()).expect("a good URL");
            store.make().await.expect("made");
            store.execute(insert).await.expect("a row");
            assert_eq!(load(&store, Strictness::Strict).await.expect("good").rows, 1);
            let refused = store.write_states(&[(1, "sip:10.0.0.1".to_owned(), RowState::Active)]).await;
            assert!(matches!(refused, Err(StoreError::ReadOnly { .. })), "{refused:?}");
        }
    }

    #[tokio::test]
    async fn states_are_written_to_sqlite_as_well() {
        let folder = Folder::new();
        let store = open(&folder).await.expect("made");
        run(&folder, ARTICLE).await;
        let before = load(&store, Strictness::Strict).await.expect("two rows");
        let states = [(19, "sip:10.129.39.88:7011".to_owned(), RowState::Probing)];
        store.write_states(&states).await.expect("written");
        let after = load(&store, Strictness::Strict).await.expect("two rows");
        assert_eq!(after.sets.0[0].rows[1].state, RowState::Probing);
        assert_eq!(after.digest, before.digest);
    }

    #[tokio::test]
    async fn a_table_of_another_name_is_made_and_read() {
        let folder = Folder::new();
        let options = TableOptions { table: "select".to_owned(), ..TableOptions::default() };
        let store = make("sqlite:t.db", folder.path(), options).await.expect("made");
        run(&folder, "INSERT INTO \"select\" (setid, destination, state) VALUES (1, 'sip:10.0.0.1', 7);").await;
        let fault = load(&store, Strictness::Strict).await.expect_err("a bad row").to_string();
        assert!(fault.contains("select row 1: state is \"7\""), "{fault}");
    }
}
