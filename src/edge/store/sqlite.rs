//! A SQLite file with OpenSIPS's tables: made at the first start, read whole at each load.
//!
//! Each load opens the file anew and closes it: loads are rare, and a file that was put in the old one's place is seen.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Connection, Row};

use super::row::{Column, RawRow};
use super::{StoreError, VERSIONS};

/// How long to wait for another process that is writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// One SQLite file.
#[derive(Clone, Debug)]
pub(super) struct Sqlite {
    path: PathBuf,
}

impl fmt::Display for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sqlite:{}", self.path.display())
    }
}

impl Sqlite {
    pub(super) fn new(path: PathBuf) -> Self {
        Sqlite { path }
    }

    /// Makes file and tables if there are none, and looks whether the table is one that we can read.
    pub(super) async fn prepare(&self, table: &str) -> Result<(), StoreError> {
        let mut connection = self.connect(true).await?;
        let result = self.make_and_check(&mut connection, table).await;
        close(connection).await;
        result
    }

    /// Whether the file is there.
    pub(super) fn is_there(&self) -> bool {
        self.path.exists()
    }

    /// Whether there is a folder to make the file in.
    pub(super) fn has_folder(&self) -> bool {
        self.path.parent().is_none_or(|folder| folder.as_os_str().is_empty() || folder.is_dir())
    }

    /// Runs statements as they are.
    pub(super) async fn execute(&self, sql: &str) -> Result<(), StoreError> {
        let mut connection = self.connect(false).await?;
        let result = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await;
        close(connection).await;
        result.map(drop).map_err(|source| self.query_failed("run a statement", source))
    }

    /// All rows by `id`.
    pub(super) async fn rows(&self, table: &str) -> Result<Vec<RawRow>, StoreError> {
        let mut connection = self.connect(false).await?;
        let result = self.checked_rows(&mut connection, table).await;
        close(connection).await;
        result
    }

    async fn connect(&self, create: bool) -> Result<SqliteConnection, StoreError> {
        let options =
            SqliteConnectOptions::new().filename(&self.path).create_if_missing(create).busy_timeout(BUSY_TIMEOUT);
        SqliteConnection::connect_with(&options)
            .await
            .map_err(|source| StoreError::Open { database: self.to_string(), source })
    }

    async fn make_and_check(&self, connection: &mut SqliteConnection, table: &str) -> Result<(), StoreError> {
        let making = |source| self.query_failed("make its tables", source);
        // Only an empty file is written to: the write lock is not taken on a database that others use.
        if tables(connection).await.map_err(|source| self.query_failed("read its schema", source))? == 0 {
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(making)?;
            // Another process may have been first.
            if tables(&mut transaction).await.map_err(making)? == 0 {
                sqlx::raw_sql(AssertSqlSafe(schema(table))).execute(&mut *transaction).await.map_err(making)?;
            }
            transaction.commit().await.map_err(making)?;
        }
        self.check(connection, table).await
    }

    async fn checked_rows(&self, connection: &mut SqliteConnection, table: &str) -> Result<Vec<RawRow>, StoreError> {
        let reading = |source| self.query_failed("read the table", source);
        // One transaction, so that version, columns and rows belong together.
        let mut transaction = connection.begin().await.map_err(reading)?;
        self.check(&mut transaction, table).await?;
        let rows = sqlx::query(AssertSqlSafe(select(table))).fetch_all(&mut *transaction).await.map_err(reading)?;
        let rows = rows.iter().map(raw_row).collect::<Result<_, _>>().map_err(reading)?;
        transaction.commit().await.map_err(reading)?;
        Ok(rows)
    }

    async fn check(&self, connection: &mut SqliteConnection, table: &str) -> Result<(), StoreError> {
        let database = || self.to_string();
        let present = self.columns(connection, table).await?;
        if present.is_empty() {
            return Err(StoreError::NoTable { database: database(), table: table.to_owned() });
        }
        if self.columns(connection, "version").await?.is_empty() {
            return Err(StoreError::NoTable { database: database(), table: "version".to_owned() });
        }
        let version: Option<Option<String>> =
            sqlx::query_scalar("SELECT CAST(table_version AS TEXT) FROM version WHERE table_name = ?")
                .bind(table)
                .fetch_optional(&mut *connection)
                .await
                .map_err(|source| self.query_failed("read its version", source))?;
        let Some(version) = version else {
            return Err(StoreError::NoVersion { database: database(), table: table.to_owned() });
        };
        let found = version.unwrap_or_else(|| "NULL".to_owned());
        if !VERSIONS.contains(&found.as_str()) {
            return Err(StoreError::Version { database: database(), table: table.to_owned(), found });
        }
        let missing: Vec<_> = std::iter::once("id")
            .chain(Column::ALL.map(Column::name))
            .filter(|name| !present.iter().any(|column| column.eq_ignore_ascii_case(name)))
            .map(str::to_owned)
            .collect();
        if !missing.is_empty() {
            return Err(StoreError::Columns { database: database(), table: table.to_owned(), missing });
        }
        Ok(())
    }

    async fn columns(&self, connection: &mut SqliteConnection, table: &str) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar("SELECT name FROM pragma_table_info(?)")
            .bind(table)
            .fetch_all(connection)
            .await
            .map_err(|source| self.query_failed("read its schema", source))
    }

    fn query_failed(&self, doing: &'static str, source: sqlx::Error) -> StoreError {
        StoreError::Query { database: self.to_string(), doing, source }
    }
}

/// What to do when the file can't be read or written: by SQLite's primary result code, the lowest byte of an extended one.
pub(super) fn remedy(error: &sqlx::Error) -> &'static str {
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
    match code.map(|code| code & 0xff) {
        Some(5 | 6) => "another program has locked it: let it end its transaction",
        Some(8) => "let the user that runs this write to the file and its folder",
        Some(13) => "make room on its disk",
        Some(26) => "it is no SQLite file: correct the database's url",
        Some(_) | None => "check the file with the sqlite3 command",
    }
}

/// A connection that can't be closed tidily is dropped; what was read from it stays true.
async fn close(connection: SqliteConnection) {
    let _ = connection.close().await;
}

async fn tables(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM sqlite_master").fetch_one(connection).await
}

/// OpenSIPS 3.1's scripts/sqlite/dispatcher-create.sql, with the `version` table of its standard-create.sql.
fn schema(table: &str) -> String {
    format!(
        "CREATE TABLE version (
            table_name CHAR(32) NOT NULL,
            table_version INTEGER DEFAULT 0 NOT NULL,
            CONSTRAINT version_t_name_idx UNIQUE (table_name)
        );
        INSERT INTO version (table_name, table_version) VALUES ('{table}', 8);
        CREATE TABLE \"{table}\" (
            id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
            setid INTEGER DEFAULT 0 NOT NULL,
            destination CHAR(192) DEFAULT '' NOT NULL,
            socket CHAR(128) DEFAULT NULL,
            state INTEGER DEFAULT 0 NOT NULL,
            weight CHAR(64) DEFAULT 1 NOT NULL,
            priority INTEGER DEFAULT 0 NOT NULL,
            attrs CHAR(128) DEFAULT '' NOT NULL,
            description CHAR(64) DEFAULT '' NOT NULL
        );"
    )
}

/// SQLite keeps whatever type was inserted, so every column is read as text.
fn select(table: &str) -> String {
    let columns = Column::ALL.map(|column| format!("CAST(\"{}\" AS TEXT)", column.name())).join(", ");
    format!("SELECT CAST(id AS INTEGER), {columns} FROM \"{table}\" ORDER BY id")
}

fn raw_row(row: &SqliteRow) -> Result<RawRow, sqlx::Error> {
    let id: Option<i64> = row.try_get(0)?;
    let mut cells: [Option<Vec<u8>>; Column::ALL.len()] = Default::default();
    for (index, cell) in cells.iter_mut().enumerate() {
        // As bytes: one row that is not UTF-8 must not hide the others.
        *cell = row.try_get_unchecked(index + 1)?;
    }
    Ok(RawRow { id: id.unwrap_or_default(), cells })
}
