//! The SQL of all databases: which table it is, whether we can read it, its rows, and the one column that we write.

use super::connection::{Connection, Dialect};
use super::row::{Column, Form, Names, RawRow};
use super::{Schema, StoreError, TableOptions};
use crate::engine::dispatch::RowState;

/// A table as it is called here.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) schema: Schema,
    pub(super) options: TableOptions,
    pub(super) names: Names,
}

/// The columns of a table, as the database spells them.
struct Present {
    id: String,
    columns: Vec<(Column, String)>,
}

impl Table {
    /// # Errors
    /// [`StoreError::Name`] if a name can't be one: they stand in SQL as they are.
    pub(super) fn new(schema: Schema, options: &TableOptions) -> Result<Self, StoreError> {
        let named = [("table", &options.table), ("version_table", &options.version_table)];
        let named = named.into_iter().map(|(what, name)| (what.to_owned(), name));
        let columns = options.columns.iter().map(|(column, name)| (format!("column {column}"), name));
        for (what, name) in named.chain(columns) {
            if !is_name(name) {
                return Err(StoreError::Name { what, name: name.clone() });
            }
        }
        let own = |name: &str| options.columns.get(name).cloned();
        let names = Names::new(schema.into(), &options.table, own);
        Ok(Table { schema, options: options.clone(), names })
    }

    pub(super) fn id(&self) -> &str {
        self.options.columns.get("id").map_or("id", String::as_str)
    }

    /// Reads all rows by `id`, in one transaction that can't write: so version, columns and rows belong together.
    pub(super) async fn rows(&self, connection: &mut Connection, database: &str) -> Result<Vec<RawRow>, StoreError> {
        let reading = |source| StoreError::Query { database: database.to_owned(), doing: "read the table", source };
        for statement in begin(connection.dialect()) {
            connection.run(*statement).await.map_err(reading)?;
        }
        let present = self.check_present(connection, database).await?;
        let rows = connection.rows(self.select(connection.dialect(), &present)).await.map_err(reading)?;
        connection.run("COMMIT").await.map_err(reading)?;
        Ok(rows.into_iter().map(|cells| raw_row(&present, cells)).collect())
    }

    /// Whether it is a table that we can read.
    pub(super) async fn check(&self, connection: &mut Connection, database: &str) -> Result<(), StoreError> {
        self.check_present(connection, database).await.map(drop)
    }

    async fn check_present(&self, connection: &mut Connection, database: &str) -> Result<Present, StoreError> {
        let schema = self.schema;
        let TableOptions { table, version_table, .. } = &self.options;
        let database = || database.to_owned();
        let failed = |doing| move |source| StoreError::Query { database: database(), doing, source };
        let dialect = connection.dialect();
        let spelled = connection.rows(columns_of(dialect, table)).await.map_err(failed("read its schema"))?;
        let spelled: Vec<_> = spelled.into_iter().filter_map(first_text).collect();
        if spelled.is_empty() {
            return Err(StoreError::NoTable { database: database(), table: table.clone(), schema });
        }
        // Before the version: another schema's has other numbers.
        if let Some(found) = self.belongs_to(&spelled) {
            return Err(StoreError::Schema { database: database(), table: table.clone(), found });
        }
        let versions = connection.rows(columns_of(dialect, version_table)).await.map_err(failed("read its schema"))?;
        if versions.is_empty() {
            return Err(StoreError::NoTable { database: database(), table: version_table.clone(), schema });
        }
        let version = format!(
            "SELECT {} FROM {} WHERE table_name = '{table}'",
            as_text(dialect, "table_version"),
            quoted(dialect, version_table)
        );
        let version = connection.rows(version).await.map_err(failed("read its version"))?;
        let Some(version) = version.into_iter().next() else {
            let (versions, table) = (version_table.clone(), table.clone());
            return Err(StoreError::NoVersion { database: database(), versions, table, schema });
        };
        let found = first_text(version).unwrap_or_else(|| "NULL".to_owned());
        if !schema.versions().contains(&found.trim()) {
            return Err(StoreError::Version { database: database(), table: table.clone(), found, schema });
        }
        self.present(&spelled).map_err(|missing| StoreError::Columns {
            database: database(),
            table: table.clone(),
            missing,
            schema,
        })
    }

    /// Our columns among those of the table.
    fn present(&self, spelled: &[String]) -> Result<Present, Vec<String>> {
        let find = |name: &str| spelled.iter().find(|spelled| spelled.eq_ignore_ascii_case(name)).cloned();
        let form = Form::from(self.schema);
        let mut missing = Vec::new();
        let id = find(self.id()).unwrap_or_else(|| {
            missing.push(self.id().to_owned());
            String::new()
        });
        let mut columns = Vec::new();
        for (column, _) in form.columns() {
            let name = self.names.column(column);
            match find(name) {
                Some(spelled) => columns.push((column, spelled)),
                None if form.may_lack(column) => {}
                None => missing.push(name.to_owned()),
            }
        }
        if missing.is_empty() { Ok(Present { id, columns }) } else { Err(missing) }
    }

    /// The other schema that has all of these columns, where ours lacks some.
    fn belongs_to(&self, spelled: &[String]) -> Option<Schema> {
        let has = |name: &str| spelled.iter().any(|spelled| spelled.eq_ignore_ascii_case(name));
        if self.present(spelled).is_ok() {
            return None;
        }
        let others = Schema::ALL.into_iter().filter(|schema| *schema != self.schema);
        others.into_iter().find(|schema| {
            let form = Form::from(*schema);
            form.columns().all(|(column, name)| form.may_lack(column) || has(name))
        })
    }

    fn select(&self, dialect: Dialect, present: &Present) -> String {
        // A kind of database may keep whatever type was inserted, so every column is read as text.
        let names = std::iter::once(&present.id).chain(present.columns.iter().map(|(_, name)| name));
        let texts: Vec<_> = names.map(|name| as_text(dialect, &quoted(dialect, name))).collect();
        let (table, id) = (quoted(dialect, &self.options.table), quoted(dialect, &present.id));
        format!("SELECT {} FROM {table} ORDER BY {id}", texts.join(", "))
    }

    /// The statement that writes one row's state, with its destination as the parameter.
    pub(super) fn update(&self, dialect: Dialect, set: i64, state: RowState) -> String {
        let column = |column| quoted(dialect, self.names.column(column));
        let parameter = if dialect == Dialect::Postgres { "$1" } else { "?" };
        let state = match state {
            RowState::Active => 0,
            RowState::Inactive => 1,
            RowState::Probing => 2,
        };
        format!(
            "UPDATE {} SET {} = {state} WHERE {} = {set} AND {} = {parameter}",
            quoted(dialect, &self.options.table),
            column(Column::State),
            column(Column::SetId),
            column(Column::Destination)
        )
    }
}

/// Whether it may stand in SQL, in quotes, as it is.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

pub(super) fn quoted(dialect: Dialect, name: &str) -> String {
    match dialect {
        Dialect::MySql => format!("`{name}`"),
        Dialect::Sqlite | Dialect::Postgres => format!("\"{name}\""),
    }
}

fn as_text(dialect: Dialect, expression: &str) -> String {
    match dialect {
        Dialect::MySql => format!("CONVERT({expression} USING utf8mb4)"),
        Dialect::Sqlite | Dialect::Postgres => format!("CAST({expression} AS TEXT)"),
    }
}

/// What begins a transaction that only reads and sees one moment.
fn begin(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::Sqlite => &["BEGIN"],
        Dialect::MySql => &[
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
        ],
        Dialect::Postgres => &["BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"],
    }
}

/// Asks for the names of a table's columns; no rows if there is no such table.
fn columns_of(dialect: Dialect, table: &str) -> String {
    match dialect {
        Dialect::Sqlite => format!("SELECT name FROM pragma_table_info('{table}')"),
        Dialect::MySql => format!(
            "SELECT CONVERT(column_name USING utf8mb4) FROM information_schema.columns \
             WHERE table_schema = DATABASE() AND table_name = '{table}'"
        ),
        Dialect::Postgres => format!(
            "SELECT CAST(attname AS TEXT) FROM pg_attribute \
             WHERE attrelid = to_regclass('\"{table}\"') AND attnum > 0 AND NOT attisdropped"
        ),
    }
}

fn first_text(cells: Vec<Option<Vec<u8>>>) -> Option<String> {
    cells.into_iter().next().flatten().map(|text| String::from_utf8_lossy(&text).into_owned())
}

fn raw_row(present: &Present, cells: Vec<Option<Vec<u8>>>) -> RawRow {
    let mut cells = cells.into_iter();
    let id = cells.next().flatten();
    let id = id.and_then(|id| std::str::from_utf8(&id).ok()?.trim().parse().ok()).unwrap_or_default();
    let mut row = RawRow { id, ..RawRow::default() };
    for ((column, _), cell) in present.columns.iter().zip(cells) {
        row.cells[*column as usize] = cell;
    }
    row
}
