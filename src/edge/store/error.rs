//! Why sets can't be read or written. No password stands in any of it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use sqlx::mysql::MySqlDatabaseError;
use thiserror::Error;

use super::{RowFault, Schema};

/// Why the sets could not be read, or their states not be written.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The URL names no source that we speak to.
    #[error("database url: {}", .0.join("; "))]
    Url(
        /// Each fault with its remedy.
        Vec<String>,
    ),
    /// A name of a table, a column or a channel can't be one.
    #[error("{what} is {name:?}: give a name of letters, digits and _, e.g. dispatcher")]
    Name {
        /// What it is the name of.
        what: String,
        /// What was given.
        name: String,
    },
    /// The password's file can't be read. What it holds is not shown.
    #[error("password_file {}: {problem}", path.display())]
    Password {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The database can't be opened.
    #[error("{database}: can't open it: {source}: {}", remedy(source))]
    Open {
        /// The database.
        database: String,
        /// What it said.
        source: sqlx::Error,
    },
    /// The database can't be read, or its tables can't be made.
    #[error("{database}: can't {doing}: {source}: {}", remedy(source))]
    Query {
        /// The database.
        database: String,
        /// What was tried.
        doing: &'static str,
        /// What it said.
        source: sqlx::Error,
    },
    /// It has not answered in time.
    #[error("{database}: no answer within {after:?}: check that it runs and can be reached, or give a longer timeout")]
    Timeout {
        /// The database.
        database: String,
        /// How long we have waited.
        after: Duration,
    },
    /// There are tables, but not the one that we need; or the user may not see it.
    #[error(
        "{database}: it has no table {table}, or none that this user may read: create the tables of {}, or GRANT SELECT on it",
        maker(*schema)
    )]
    NoTable {
        /// The database.
        database: String,
        /// The table that is missing.
        table: String,
        /// Whose it would be.
        schema: Schema,
    },
    /// The table is there, its version is not.
    #[error(
        "{database}: table {versions} has no row for {table}: insert its version, e.g. \
         INSERT INTO {versions} (table_name, table_version) VALUES ('{table}', {})",
        example(*schema)
    )]
    NoVersion {
        /// The database.
        database: String,
        /// The table of versions.
        versions: String,
        /// The table.
        table: String,
        /// Whose it is.
        schema: Schema,
    },
    /// The table is of a version that we do not know.
    #[error("{database}: table {table} has version {found}: give version {}, or migrate it", known(*schema))]
    Version {
        /// The database.
        database: String,
        /// The table.
        table: String,
        /// What the table of versions says.
        found: String,
        /// Whose it is.
        schema: Schema,
    },
    /// The table is somebody else's.
    #[error("{database}: table {table} has the columns of {}: set schema = {:?}", maker(*found), found.name())]
    Schema {
        /// The database.
        database: String,
        /// The table.
        table: String,
        /// Whose columns it has.
        found: Schema,
    },
    /// The table is of the right version and lacks columns all the same.
    #[error(
        "{database}: table {table} lacks the columns {}: add them as in the schema of {}, or name them under columns",
        missing.join(", "), maker(*schema)
    )]
    Columns {
        /// The database.
        database: String,
        /// The table.
        table: String,
        /// The missing columns.
        missing: Vec<String>,
        /// Whose table it is.
        schema: Schema,
    },
    /// The file can't be read.
    #[error("{}: can't read it: {source}: check that it is there and yours", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not of its form.
    #[error("{}:{line}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// Nothing is ever written there.
    #[error("{database}: nothing is written there: give persist_state = \"off\"")]
    ReadOnly {
        /// The source.
        database: String,
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

fn refused(faults: &[RowFault]) -> String {
    // All faults of a row stand together, and in a file each has its line.
    let mut rows: Vec<_> = faults.iter().map(|fault| fault.row).collect();
    rows.sort_unstable();
    rows.dedup();
    let rows = if rows.len() == 1 { "1 row".to_owned() } else { format!("{} rows", rows.len()) };
    format!("{rows} can't be used, nothing is loaded")
}

fn listed(faults: &[RowFault]) -> String {
    faults.iter().map(|fault| format!("\n  {fault}")).collect()
}

fn maker(schema: Schema) -> &'static str {
    match schema {
        Schema::OpenSips => "OpenSIPS's dispatcher",
        Schema::LoadBalancer => "OpenSIPS's load_balancer",
        Schema::Kamailio => "Kamailio's dispatcher",
    }
}

fn known(schema: Schema) -> &'static str {
    match schema {
        Schema::OpenSips => "7, 8 or 9 (OpenSIPS 2.4 to 4.0)",
        Schema::LoadBalancer => "3",
        Schema::Kamailio => "4",
    }
}

fn example(schema: Schema) -> &'static str {
    match schema {
        Schema::OpenSips => "8",
        Schema::LoadBalancer => "3",
        Schema::Kamailio => "4",
    }
}

/// What to do when a database can't be opened, read or written, by what it or the way to it says.
fn remedy(error: &sqlx::Error) -> &'static str {
    const PRIVILEGE: &str = "GRANT SELECT on the table and on that of the versions to this user";
    const LOGIN: &str = "correct the user or the password";
    const NO_DATABASE: &str = "create the database, or correct its name in the url";
    const SQLITE: &str = "check the file with the sqlite3 command";
    match error {
        sqlx::Error::Io(_) => return "check that it runs, and the url's host and port",
        // MySQL hands passwords over in the clear or under a key of its own kind, which we do not speak.
        sqlx::Error::Configuration(told) if told.to_string().starts_with("RSA") => {
            return "let the url ask for TLS, as ssl-mode=REQUIRED";
        }
        sqlx::Error::Tls(_) => {
            return "check the server's certificate, the url's mode of TLS and its file of authorities";
        }
        _ => {}
    }
    let Some(error) = error.as_database_error() else { return "look into the database's log" };
    if let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() {
        return match error.number() {
            1045 | 1698 => LOGIN,
            1044 | 1142 | 1143 => PRIVILEGE,
            1049 => NO_DATABASE,
            _ => "look into the database's log",
        };
    }
    let code = error.code().unwrap_or_default();
    if error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() {
        return match &*code {
            "28000" | "28P01" => LOGIN,
            "42501" => PRIVILEGE,
            "3D000" => NO_DATABASE,
            _ => "look into the database's log",
        };
    }
    // SQLite's primary result code is the lowest byte of an extended one.
    match code.parse::<u32>().map(|code| code & 0xff) {
        Ok(5 | 6) => "another program has locked it: let it end its transaction",
        Ok(8) => "let the user that runs this write to the file and its folder",
        Ok(13) => "make room on its disk",
        Ok(14) => "check that the file, or its folder at the first start, is there and yours",
        Ok(26) => "it is no SQLite file: correct the database's url",
        Ok(_) | Err(_) => SQLITE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_wrong_on_the_way_has_a_remedy_of_its_own() {
        let open = |source| StoreError::Open { database: "mysql://u@h:3306/d".to_owned(), source }.to_string();
        let refused = open(sqlx::Error::Io(io::ErrorKind::ConnectionRefused.into()));
        assert!(refused.ends_with("check that it runs, and the url's host and port"), "{refused}");
        // As the driver says it to a MySQL whose password plugin would want more than a connection in the clear.
        let clear = open(sqlx::Error::Configuration("RSA auth backend disabled; enable feature or use TLS.".into()));
        assert!(clear.ends_with("let the url ask for TLS, as ssl-mode=REQUIRED"), "{clear}");
        let tls = open(sqlx::Error::Tls("invalid peer certificate".into()));
        assert!(tls.contains("check the server's certificate"), "{tls}");
    }
}
