//! Whether what was read of a source may be put in place, and what of it.

use std::fmt;

use super::change::{too_much, with_states};
use super::source::{Placed, Source};
use crate::edge::http::ReloadFailed;
use crate::edge::resolve::{Address, Question};
use crate::edge::store::order::{SourceOrder, SourceWord};
use crate::edge::store::snapshot::{LastGood, SnapshotError};
use crate::edge::store::{Load, StoreError};
use crate::engine::flow::Listener;

/// Who wants the rows to be read.
#[derive(Clone, Debug)]
pub(in crate::server) enum Ask {
    /// The node starts.
    Start,
    /// They may have changed.
    Found,
    /// Another node has been given an order.
    Told,
    /// An operator.
    Reload {
        /// Who.
        by: String,
        /// Why.
        reason: String,
        /// Whatever they take out.
        force: bool,
        /// Even if a version is pinned.
        unpin: bool,
    },
    /// An operator who wants a former version instead.
    Pin {
        /// The order, to be taken if it can be obeyed.
        order: SourceOrder,
        /// Whatever it takes out.
        force: bool,
    },
}

impl Ask {
    /// The order that is to be obeyed, if it is not the one that is known.
    pub(super) fn order(&self) -> Option<&SourceOrder> {
        match self {
            Ask::Pin { order, .. } => Some(order),
            Ask::Start | Ask::Found | Ask::Told | Ask::Reload { .. } => None,
        }
    }

    pub(super) fn is_by_hand(&self) -> bool {
        self.giver().is_some()
    }

    /// Who gives the order, and why.
    pub(super) fn giver(&self) -> Option<(&str, &str)> {
        match self {
            Ask::Reload { by, reason, .. } | Ask::Pin { order: SourceOrder { by, reason, .. }, .. } => {
                Some((by, reason))
            }
            Ask::Start | Ask::Found | Ask::Told => None,
        }
    }

    fn force(&self) -> bool {
        matches!(self, Ask::Reload { force: true, .. } | Ask::Pin { force: true, .. })
    }
}

/// What is to be in place of a source.
#[derive(Debug)]
pub(in crate::server) struct Next {
    pub(in crate::server) placed: Placed,
    /// What is wrong with rows that are left out.
    pub(in crate::server) faults: Vec<String>,
    /// The rows are others than those of the order, which is over: it is not to hold again when they come back.
    pub(in crate::server) ends_order: bool,
}

/// Why what is in place stays.
#[derive(Debug)]
pub(in crate::server) enum Unplaced {
    /// The rows can't be read or used.
    Store(StoreError),
    /// They take out too much.
    Refused(Vec<String>),
    /// A version is pinned, by whom and why.
    Pinned(String, String),
    /// The version that is pinned, by whom, was never here.
    NoVersion(String),
    /// Its file can't be read.
    LostVersion(Box<SnapshotError>),
}

impl fmt::Display for Unplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unplaced::Store(error) => error.fmt(f),
            Unplaced::Refused(reasons) => write!(f, "{}: give --force if it is meant", reasons.join("; ")),
            Unplaced::Pinned(by, reason) => write!(
                f,
                "a former version is pinned by {by} ({reason}), and the rows have not changed since: change them, or end it \
                 with `tandem rollback --unpin`"
            ),
            Unplaced::NoVersion(by) => {
                write!(
                    f,
                    "the version that {by} has gone back to was never in place on this node: what is in place stays"
                )
            }
            Unplaced::LostVersion(error) => error.fmt(f),
        }
    }
}

/// What is told of them.
pub(super) fn failed(of: &str, all: impl Iterator<Item = Unplaced>) -> ReloadFailed {
    let mut told = ReloadFailed::default();
    for unplaced in all {
        if told.error.is_empty() {
            let summary = match &unplaced {
                Unplaced::Store(error) => error.summary(),
                other => other.to_string(),
            };
            told.error = format!("{of}{summary}");
        }
        match unplaced {
            Unplaced::Store(error) => told.faults.extend(error.rows().iter().map(ToString::to_string)),
            Unplaced::Refused(reasons) => told.refused.extend(reasons),
            Unplaced::Pinned(..) => told.refused.push("a version is pinned".to_owned()),
            Unplaced::NoVersion(_) | Unplaced::LostVersion(_) => {}
        }
    }
    told
}

impl Placed {
    pub(super) fn of(last_good: &LastGood) -> Self {
        Placed { sets: last_good.sets.clone(), digest: last_good.digest, ..Placed::default() }
    }

    pub(super) fn last_good(&self, names: &[(Question, Vec<Address>)]) -> LastGood {
        LastGood { sets: self.sets.clone(), digest: self.digest, names: names.to_vec() }
    }
}

impl Source {
    /// What is to be in place after the rows were read, as the newest order says. What is wrong is noted for people.
    pub(super) fn judge(
        &self,
        placed: &Placed,
        read: Result<Load, StoreError>,
        ask: &Ask,
        order: Option<&SourceOrder>,
        listeners: &[Listener],
    ) -> Result<Next, Unplaced> {
        let pin = order.and_then(|order| match order.word {
            SourceWord::Pin { version, instead_of } => Some((order, version, instead_of)),
            SourceWord::Load { .. } => None,
        });
        let was_read = read.is_ok();
        let load = match (read, pin) {
            (Ok(load), _) => load,
            (Err(error), pin) => {
                self.failed(&error);
                match pin.filter(|_| matches!(ask, Ask::Pin { .. } | Ask::Told)) {
                    // A version is on disk, whatever has become of the source.
                    Some((_, _, instead_of)) => {
                        Load { sets: placed.sets.clone(), digest: instead_of, ..Load::default() }
                    }
                    None => return Err(Unplaced::Store(error)),
                }
            }
        };
        let faults: Vec<_> = load.faults.iter().map(ToString::to_string).collect();
        let rows = load.digest;
        let unpin = matches!(ask, Ask::Reload { unpin: true, .. });
        let next = match pin.filter(|(.., instead_of)| *instead_of == rows && !unpin) {
            Some((order, ..)) if matches!(ask, Ask::Reload { .. }) => {
                return Err(Unplaced::Pinned(order.by.clone(), order.reason.clone()));
            }
            Some((order, version, instead_of)) => {
                let sets = match self.version_of(version).map(|number| self.version_sets(number, listeners)) {
                    Some(Ok(sets)) => Ok(sets),
                    Some(Err(error)) => Err(Unplaced::LostVersion(Box::new(error))),
                    None => Err(Unplaced::NoVersion(order.by.clone())),
                };
                let sets = sets.inspect_err(|unplaced| self.lacks(&unplaced.to_string()))?;
                let sets = with_states(&sets, &load.sets);
                Placed { sets, digest: Some(version), instead_of: Some(instead_of), probes: Vec::new() }
            }
            None => Placed { sets: load.sets, digest: Some(rows), instead_of: None, probes: load.probes },
        };
        // What one node was forced to do the others do too, and what it was not refused neither.
        let is_told = order.is_some_and(|order| match order.word {
            SourceWord::Load { rows: forced, force } => force && forced == rows,
            SourceWord::Pin { .. } => next.instead_of.is_some() && !matches!(ask, Ask::Pin { .. }),
        });
        if !ask.force() && !is_told {
            let reasons = too_much(&placed.sets, &next.sets, self.guard());
            if !reasons.is_empty() {
                if !matches!(ask, Ask::Pin { .. }) {
                    self.refused(rows, &reasons);
                }
                return Err(Unplaced::Refused(reasons));
            }
        }
        if was_read {
            self.was_read(rows, faults.clone());
        }
        let ends_order = order.is_some_and(|order| match order.word {
            SourceWord::Pin { .. } => placed.instead_of.is_some() && next.instead_of.is_none(),
            SourceWord::Load { rows, force } => force && placed.digest == Some(rows) && next.digest != Some(rows),
        });
        Ok(Next { placed: next, faults, ends_order })
    }
}
