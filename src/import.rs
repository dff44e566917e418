//! Ways in from OpenSIPS and Kamailio: their configuration, or their rows, becomes a Tandem configuration and a report of what
//! each thing that was found became. Text goes in, text comes out; who reads files and databases is the command.

mod algorithm;
mod answers;
mod calls;
mod condition;
mod draft;
mod lex;
mod list;
mod parse;
mod pattern;
mod preprocess;
mod report;
mod rows;
mod rules;
mod script;
mod settings;
mod syntax;
mod write;

use std::io;

use thiserror::Error;

pub use self::lex::ReadFile;
pub use self::report::{Line, Report, Verdict, without_passwords};

use self::draft::Draft;
use self::lex::Lexer;
use self::report::At;
use self::script::Walker;
use self::settings::Settings;
use crate::engine::dispatch::{RowState, Sets};

/// Whose configuration it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// OpenSIPS.
    OpenSips,
    /// Kamailio.
    Kamailio,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The configuration. It may hold a database's password.
    pub toml: String,
    /// What became of each thing; no password stands in it.
    pub report: Report,
}

/// Why nothing came of it.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The script can't be read as one.
    #[error("{file}:{line}: {problem}")]
    Syntax {
        /// The file.
        file: String,
        /// The line.
        line: u32,
        /// What is wrong, and what to do.
        problem: &'static str,
    },
    /// A file that the script includes can't be read.
    #[error("{file}: can't read it: {source}: copy it beside the file that includes it, or take its line out")]
    Read {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Imports a script. `name` is its file; `read` reads those that it includes.
///
/// # Errors
/// [`ImportError`] if it is no script, or lacks a file.
pub fn script(peer: Peer, name: &str, text: &str, read: &mut ReadFile<'_>) -> Result<Imported, ImportError> {
    let mut report = Report::default();
    let tokens = Lexer::new(peer, read, &mut report).lex(name, text)?;
    let script = parse::parse(&tokens, &report)?;
    let mut settings = Settings::of(peer, &script, &mut report);
    let mut draft = Draft {
        node_id: settings.node_id.take(),
        listeners: settings.listeners.clone(),
        database: settings.database.clone(),
        partitions: settings.partitions.clone(),
        cluster: settings.cluster.clone(),
        ..Draft::default()
    };
    let mut walker = Walker::new(peer, &script, &settings, &mut report, &mut draft);
    walker.walk();
    walker.decide();
    let toml = write::toml(&draft, name);
    Ok(Imported { toml, report })
}

/// Imports Kamailio's `dispatcher.list`.
pub fn list(name: &str, text: &str) -> Imported {
    let mut report = Report::default();
    let file = report.file(name);
    let rows = list::read(text, file, &mut report);
    let mut draft = Draft::default();
    draft.database.url = Some(format!("list:{name}"));
    rows::draft(Peer::Kamailio, &rows, &mut draft, &mut report);
    let toml = write::toml(&draft, name);
    Imported { toml, report }
}

/// Imports the rows of a database; `faults` are those of rows that can't be used, each with its `id`.
pub fn rows(peer: Peer, url: &str, sets: &Sets, faults: &[(i64, String)]) -> Imported {
    let mut report = Report::default();
    let file = report.file(url);
    let at = |row: i64| At { file, line: u32::try_from(row).unwrap_or_default() };
    for (row, fault) in faults {
        report.not_mappable(at(*row), "a row that can't be used", fault);
    }
    let mut rows = Vec::new();
    for set in &sets.0 {
        rows.extend(set.rows.iter().map(|row| rows::Found {
            set: set.id.0,
            uri: row.uri.to_string(),
            attrs: row.attrs.clone(),
            flags: match row.state {
                RowState::Active => 0,
                RowState::Inactive => 1,
                RowState::Probing => 2,
            },
            at: at(row.row),
        }));
    }
    let mut draft = Draft::default();
    draft.database.url = Some(url.to_owned());
    draft.database.schema = (peer == Peer::Kamailio).then_some("kamailio");
    rows::draft(peer, &rows, &mut draft, &mut report);
    let toml = write::toml(&draft, &without_passwords(url));
    Imported { toml, report }
}
