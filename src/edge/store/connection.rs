//! A connection to a database of any kind, and one that is kept between loads.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::mysql::MySqlConnection;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection as _, Row};

use super::address::Address;

/// How a kind of database writes its SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    MySql,
    Postgres,
}

/// A row of a result: each column as the bytes of its text, none for NULL.
pub(super) type Cells = Vec<Option<Vec<u8>>>;

/// An open connection.
pub(super) enum Connection {
    Sqlite(SqliteConnection),
    MySql(MySqlConnection),
    Postgres(PgConnection),
}

impl Connection {
    /// Connects, with that password if there is one. `create` makes a SQLite file that is not there; `busy` is how long to
    /// wait for another process that writes to it.
    pub(super) async fn to(
        address: &Address,
        password: Option<&str>,
        create: bool,
        busy: Duration,
    ) -> Result<Self, sqlx::Error> {
        match address {
            Address::Sqlite(path) | Address::Toml(path) | Address::List(path) => {
                let options = SqliteConnectOptions::new().filename(path).create_if_missing(create).busy_timeout(busy);
                SqliteConnection::connect_with(&options).await.map(Connection::Sqlite)
            }
            Address::MySql(options) => {
                let options = options.as_ref().clone();
                let options = password.map_or(options.clone(), |password| options.password(password));
                MySqlConnection::connect_with(&options).await.map(Connection::MySql)
            }
            Address::Postgres(options) => {
                let options = options.as_ref().clone();
                let options = password.map_or(options.clone(), |password| options.password(password));
                PgConnection::connect_with(&options).await.map(Connection::Postgres)
            }
        }
    }

    pub(super) fn dialect(&self) -> Dialect {
        match self {
            Connection::Sqlite(_) => Dialect::Sqlite,
            Connection::MySql(_) => Dialect::MySql,
            Connection::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Runs statements that give no rows.
    pub(super) async fn run(&mut self, sql: impl Into<String>) -> Result<(), sqlx::Error> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.into()));
        match self {
            Connection::Sqlite(connection) => sql.execute(connection).await.map(drop),
            Connection::MySql(connection) => sql.execute(connection).await.map(drop),
            Connection::Postgres(connection) => sql.execute(connection).await.map(drop),
        }
    }

    /// Runs a statement with one text in the place of its parameter.
    pub(super) async fn run_with(&mut self, sql: String, text: &str) -> Result<(), sqlx::Error> {
        let sql = AssertSqlSafe(sql);
        // Not prepared for later: what is between us and the server may give each transaction another connection.
        match self {
            Connection::Sqlite(c) => sqlx::query(sql).bind(text).persistent(false).execute(c).await.map(drop),
            Connection::MySql(c) => sqlx::query(sql).bind(text).persistent(false).execute(c).await.map(drop),
            Connection::Postgres(c) => sqlx::query(sql).bind(text).persistent(false).execute(c).await.map(drop),
        }
    }

    /// All rows that a statement gives, whose columns are all text.
    pub(super) async fn rows(&mut self, sql: impl Into<String>) -> Result<Vec<Cells>, sqlx::Error> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.into()));
        // As bytes: one row that is not UTF-8 must not hide the others.
        match self {
            Connection::Sqlite(connection) => {
                let rows = sql.fetch_all(connection).await?;
                rows.iter().map(|row| (0..row.len()).map(|column| row.try_get_unchecked(column)).collect()).collect()
            }
            Connection::MySql(connection) => {
                let rows = sql.fetch_all(connection).await?;
                rows.iter().map(|row| (0..row.len()).map(|column| row.try_get_unchecked(column)).collect()).collect()
            }
            Connection::Postgres(connection) => {
                let rows = sql.fetch_all(connection).await?;
                rows.iter().map(|row| (0..row.len()).map(|column| bytes(row, column)).collect()).collect()
            }
        }
    }

    async fn ping(&mut self) -> Result<(), sqlx::Error> {
        match self {
            Connection::Sqlite(connection) => connection.ping().await,
            Connection::MySql(connection) => connection.ping().await,
            Connection::Postgres(connection) => connection.ping().await,
        }
    }

    /// A connection that can't be closed tidily is dropped; what was read from it stays true.
    pub(super) async fn close(self) {
        let _ = match self {
            Connection::Sqlite(connection) => connection.close().await,
            Connection::MySql(connection) => connection.close().await,
            Connection::Postgres(connection) => connection.close().await,
        };
    }
}

/// PostgreSQL's driver would take a column read as bytes for hex digits.
fn bytes(row: &PgRow, column: usize) -> Result<Option<Vec<u8>>, sqlx::Error> {
    let value = row.try_get_raw(column)?;
    Ok(value.as_bytes().ok().map(<[u8]>::to_vec))
}

/// A connection to a server that waits for the next load. sqlx's pools do the same, but try again and again until their
/// time is up where a server refuses connections, and then tell only that it was.
#[derive(Default)]
pub(super) struct Kept(Mutex<Option<Connection>>);

impl Kept {
    /// The one that waits, if it still lives. Who takes it owns it: one that fails or is given up in the midst of an answer
    /// is never used again.
    pub(super) async fn take(&self) -> Option<Connection> {
        let mut connection = self.slot().take()?;
        connection.ping().await.is_ok().then_some(connection)
    }

    /// Keeps it for the next; one is enough.
    pub(super) async fn put(&self, connection: Connection) {
        let former = self.slot().replace(connection);
        if let Some(former) = former {
            former.close().await;
        }
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Connection>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
