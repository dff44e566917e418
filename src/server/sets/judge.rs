//! Whether what was read of a source may be put in place, and what of it.

use std::fmt;

use super::change::{too_much, with_states};
use super::source::{Placed, Source};
use crate::edge::http::ReloadFailed;
use crate::edge::resolve::{Address, Question};
use crate::edge::store::order::{SourceOrder, SourceWord};
use crate::edge::store::snapshot::{LastGood, SnapshotError};
use crate::edge::store::{Digest, Load, StoreError};
use crate::engine::dispatch::Sets;
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
        /// Who.
        by: String,
        /// Why.
        reason: String,
        /// What its rows say.
        version: Digest,
        /// Whatever it takes out.
        force: bool,
    },
}

impl Ask {
    pub(super) fn is_by_hand(&self) -> bool {
        self.giver().is_some()
    }

    /// Who gives the order, and why.
    pub(super) fn giver(&self) -> Option<(&str, &str)> {
        match self {
            Ask::Reload { by, reason, .. } | Ask::Pin { by, reason, .. } => Some((by, reason)),
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
    /// The version that is wanted instead is what they are.
    Same,
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
            Unplaced::Same => f.write_str(
                "the rows are that version: there is nothing to go back from; a change that was refused is taken by \
                 `tandem reload --force`",
            ),
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
            Unplaced::Same | Unplaced::NoVersion(_) | Unplaced::LostVersion(_) => {}
        }
    }
    told
}

impl Placed {
    pub(super) fn of(last_good: &LastGood) -> Self {
        let LastGood { sets, digest, instead_of, .. } = last_good;
        Placed { sets: sets.clone(), digest: *digest, instead_of: *instead_of, ..Placed::default() }
    }

    pub(super) fn last_good(&self, source: &str, names: &[(Question, Vec<Address>)]) -> LastGood {
        let Placed { sets, digest, instead_of, .. } = self.clone();
        LastGood { sets, digest, instead_of, source: Some(source.to_owned()), names: names.to_vec() }
    }

    fn is_nothing(&self) -> bool {
        self.digest.is_none() && self.sets.0.is_empty()
    }
}

impl Source {
    /// What is to be in place after the rows were read, as the newest order says. What is wrong is noted for people.
    pub(super) fn judge(
        &self,
        placed: &Placed,
        read: Result<Load, StoreError>,
        ask: &Ask,
        listeners: &[Listener],
    ) -> Result<Next, Unplaced> {
        let order = self.order();
        let pin = pin(order.as_ref(), ask);
        let (load, was_read) = match (read, &pin) {
            (Ok(load), _) => (load, true),
            (Err(error), pin) => {
                self.failed(&error);
                match pin.as_ref().filter(|_| matches!(ask, Ask::Pin { .. } | Ask::Told)) {
                    // A version is on disk, whatever has become of the source.
                    Some(pin) => {
                        let digest = pin.instead_of.or(self.reads().rows).or(placed.instead_of).or(placed.digest);
                        (
                            Load { sets: placed.sets.clone(), digest: digest.unwrap_or_default(), ..Load::default() },
                            false,
                        )
                    }
                    None => return Err(Unplaced::Store(error)),
                }
            }
        };
        let faults: Vec<_> = load.faults.iter().map(ToString::to_string).collect();
        let rows = load.digest;
        let mut lacking = None;
        let next = match pin.filter(|pin| pin.instead_of.is_none_or(|against| against == rows)) {
            Some(pin) if pin.version == rows => return Err(Unplaced::Same),
            Some(pin) if matches!(ask, Ask::Reload { .. }) => return Err(Unplaced::Pinned(pin.by, pin.reason)),
            Some(pin) => match self.version(&pin, listeners) {
                Ok(sets) => {
                    let sets = with_states(&sets, &load.sets);
                    Placed { sets, digest: Some(pin.version), instead_of: Some(rows), probes: Vec::new() }
                }
                // A node without any sets has none to keep.
                Err(unplaced) if placed.is_nothing() => {
                    lacking = Some(unplaced.to_string());
                    Placed { sets: load.sets, digest: Some(rows), instead_of: None, probes: load.probes }
                }
                Err(unplaced) => {
                    self.lacks(&unplaced.to_string());
                    return Err(unplaced);
                }
            },
            // A copy of the database that lags behind still has what was not to be served.
            None if placed.instead_of == Some(rows) && awaits_others(order.as_ref(), rows, ask) => placed.clone(),
            None => Placed { sets: load.sets, digest: Some(rows), instead_of: None, probes: load.probes },
        };
        if !ask.force()
            && !self.is_forced(rows, matches!(ask, Ask::Start) && placed.digest == Some(rows))
            && !is_told_pin(placed, &next, ask)
        {
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
        if let Some(cause) = lacking {
            self.lacks(&cause);
        }
        let ends_order = order.is_some_and(|order| match order.word {
            // Rows that are the version say nothing: a copy may lag behind.
            SourceWord::Pin { version, .. } => {
                placed.instead_of.is_some() && next.instead_of.is_none() && next.digest != Some(version)
            }
            SourceWord::Load { rows, force } => force && placed.digest == Some(rows) && next.digest != Some(rows),
        });
        Ok(Next { placed: next, faults, ends_order })
    }

    fn version(&self, pin: &Pin, listeners: &[Listener]) -> Result<Sets, Unplaced> {
        match self.version_of(pin.version).map(|number| self.version_sets(number, listeners)) {
            Some(Ok(sets)) => Ok(sets),
            Some(Err(error)) => Err(Unplaced::LostVersion(Box::new(error))),
            None => Err(Unplaced::NoVersion(pin.by.clone())),
        }
    }
}

/// A version that is served instead of some rows.
struct Pin {
    version: Digest,
    /// None: of those that are read now.
    instead_of: Option<Digest>,
    by: String,
    reason: String,
}

/// What is to be served instead of some rows.
fn pin(order: Option<&SourceOrder>, ask: &Ask) -> Option<Pin> {
    match (ask, order.map(|order| (order, &order.word))) {
        (Ask::Reload { unpin: true, .. }, _) => None,
        (Ask::Pin { by, reason, version, .. }, _) => {
            Some(Pin { version: *version, instead_of: None, by: by.clone(), reason: reason.clone() })
        }
        (_, Some((order, SourceWord::Pin { version, instead_of }))) => Some(Pin {
            version: *version,
            instead_of: Some(*instead_of),
            by: order.by.clone(),
            reason: order.reason.clone(),
        }),
        (_, Some((_, SourceWord::Load { .. })) | None) => None,
    }
}

/// Whether others have read newer rows than these.
fn awaits_others(order: Option<&SourceOrder>, rows: Digest, ask: &Ask) -> bool {
    let is_newer = |order: &SourceOrder| matches!(order.word, SourceWord::Load { rows: newer, .. } if newer != rows);
    !ask.is_by_hand() && order.is_some_and(is_newer)
}

/// Whether a version is put in place because another node was told to: what it was not refused this one does too.
fn is_told_pin(placed: &Placed, next: &Placed, ask: &Ask) -> bool {
    let begins = next.instead_of.is_some() && placed.digest != next.digest;
    begins && !matches!(ask, Ask::Pin { .. })
}
