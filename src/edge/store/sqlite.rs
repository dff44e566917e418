//! A SQLite file's tables, made at the first start.

use super::connection::{Connection, Dialect};
use super::row::{Column, Form};
use super::sql::{Table, quoted};
use super::{Schema, StoreError};

/// Makes the tables if the file has none, and looks whether the table is one that we can read.
pub(super) async fn prepare(connection: &mut Connection, table: &Table, database: &str) -> Result<(), StoreError> {
    let failed = |doing| move |source| StoreError::Query { database: database.to_owned(), doing, source };
    let making = failed("make its tables");
    // Only an empty file is written to: the write lock is not taken on a database that others use.
    if is_empty(connection).await.map_err(failed("read its schema"))? {
        connection.run("BEGIN IMMEDIATE").await.map_err(&making)?;
        // Another process may have been first.
        if is_empty(connection).await.map_err(&making)? {
            connection.run(tables(table)).await.map_err(&making)?;
        }
        connection.run("COMMIT").await.map_err(&making)?;
    }
    table.check(connection, database).await
}

async fn is_empty(connection: &mut Connection) -> Result<bool, sqlx::Error> {
    connection.rows("SELECT name FROM sqlite_master LIMIT 1").await.map(|rows| rows.is_empty())
}

/// OpenSIPS 3.1's scripts/sqlite/dispatcher-create.sql with the `version` table of its standard-create.sql, or the like of
/// the other schemas.
fn tables(table: &Table) -> String {
    let name = |name: &str| quoted(Dialect::Sqlite, name);
    let version = match table.schema {
        Schema::OpenSips => 8,
        Schema::LoadBalancer => 3,
        Schema::Kamailio => 4,
    };
    let form = Form::from(table.schema);
    // Version 8 is without `probe_mode`.
    let columns = form.columns().map(|(column, _)| column).filter(|column| !form.may_lack(*column));
    let columns: Vec<_> =
        columns.map(|column| format!("{} {}", name(table.names.column(column)), definition(column))).collect();
    format!(
        "CREATE TABLE {versions} (
            table_name CHAR(32) NOT NULL,
            table_version INTEGER DEFAULT 0 NOT NULL,
            CONSTRAINT version_t_name_idx UNIQUE (table_name)
        );
        INSERT INTO {versions} (table_name, table_version) VALUES ('{own}', {version});
        CREATE TABLE {table} ({id} INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, {columns});",
        versions = name(&table.options.version_table),
        own = table.options.table,
        table = name(&table.options.table),
        id = name(table.id()),
        columns = columns.join(", ")
    )
}

fn definition(column: Column) -> &'static str {
    match column {
        Column::Destination => "CHAR(192) DEFAULT '' NOT NULL",
        Column::Socket => "CHAR(128) DEFAULT NULL",
        Column::Weight => "CHAR(64) DEFAULT 1 NOT NULL",
        Column::Resources => "CHAR(255) DEFAULT '' NOT NULL",
        Column::Attrs => "CHAR(128) DEFAULT '' NOT NULL",
        Column::Description => "CHAR(64) DEFAULT '' NOT NULL",
        Column::SetId | Column::State | Column::Flags | Column::Priority | Column::ProbeMode => {
            "INTEGER DEFAULT 0 NOT NULL"
        }
    }
}
