//! What an order given by hand is held to: that enough of its set stays fit, and that nobody has changed what it changes.

use std::collections::HashSet;
use std::time::SystemTime;

use thiserror::Error;

use super::{
    DestinationId, Dispatch, Fitness, Load, NoSuchDestination, Order, PanicMode, Policy, SetId, SetState, Standing,
};
use crate::engine::clock::Now;
use crate::engine::event::Output;
use crate::engine::sip::Resources;

/// What an order is held to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderTerms {
    /// It is refused if it would leave the set with nobody fit, or with fewer than its `max_out_percent` allows; while the set
    /// panics, the same holds for those that get its calls then.
    pub guarded: bool,
    /// It is refused unless this is the version of the order that stands ([`Standing::version`]).
    pub expected: Option<String>,
}

impl OrderTerms {
    /// To nothing.
    pub const NONE: OrderTerms = OrderTerms { guarded: false, expected: None };
}

/// Why an order is not obeyed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NotOrdered {
    /// It is not there.
    #[error(transparent)]
    NoSuchDestination(#[from] NoSuchDestination),
    /// It would take out too much.
    #[error(
        "{uri} can't be taken out of set {}: {left} of {of} destinations would {}, {}",
        set.0, if *panics { "get its calls while it panics" } else { "be fit" }, rule(*left, *max_out_percent)
    )]
    TooFew {
        /// The set.
        set: SetId,
        /// The `destination` column.
        uri: String,
        /// Destinations that would be fit then.
        left: usize,
        /// Of how many.
        of: usize,
        /// How many percent of a set may be out.
        max_out_percent: u8,
        /// Whether the set panics: calls go to those that are not fit too.
        panics: bool,
    },
    /// Another order stands than who gives it has seen.
    #[error("{uri} has been changed meanwhile: {} by {} stands, version {}", standing.order.name(), standing.by, standing.version())]
    Changed {
        /// The `destination` column.
        uri: String,
        /// The order that stands.
        standing: Standing,
    },
}

fn rule(left: usize, max_out_percent: u8) -> String {
    match left {
        0 => "and calls would get its empty_reply".to_owned(),
        _ => format!("and max_out_percent is {max_out_percent}"),
    }
}

impl Standing {
    /// Tells it apart from other orders of its destination, on every node alike: its moment in milliseconds, and what it is. What
    /// the table says has no moment in it: each node has read that at one of its own.
    pub fn version(&self) -> String {
        let order = self.order.name();
        if !self.is_by_hand() {
            return format!("{}-{order}", self.by);
        }
        let since = self.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        format!("{}-{order}", since.as_millis())
    }

    /// The order that stands for a destination whose addresses have these: the newest that somebody has given, if anybody has.
    /// An address that its name has only now was read from the table only now.
    pub fn newest<'s>(all: impl IntoIterator<Item = &'s Standing>) -> Option<&'s Standing> {
        all.into_iter().max_by_key(|standing| (standing.is_by_hand(), standing.rank()))
    }
}

impl Dispatch {
    /// [`Dispatch::order`], if the order keeps to its terms.
    ///
    /// # Errors
    /// [`NotOrdered`]; nothing has changed then.
    pub(crate) fn order_on(
        &mut self,
        (set, uri): (SetId, &str),
        standing: &Standing,
        terms: &OrderTerms,
        (load, now): (&dyn Load, Now),
        out: &mut Vec<Output>,
    ) -> Result<(), NotOrdered> {
        if let Some(expected) = &terms.expected
            && let Some(stands) = self.standing_of(set, uri).filter(|stands| stands.version() != *expected)
        {
            return Err(NotOrdered::Changed { uri: uri.to_owned(), standing: stands.clone() });
        }
        if terms.guarded && standing.order != Order::Ready {
            self.guard(set, uri, load, now)?;
        }
        Ok(self.order(set, uri, standing, load, out)?)
    }

    /// The order that stands for a destination.
    fn standing_of(&self, set: SetId, uri: &str) -> Option<&Standing> {
        Standing::newest(self.addresses_of(set, uri).map(|id| &self.destinations[id].standing))
    }

    /// Whether enough of a set is left without a destination. One that gets no calls now takes none with it.
    pub(super) fn guard(&self, set: SetId, uri: &str, load: &dyn Load, now: Now) -> Result<(), NotOrdered> {
        let Some(state) = self.sets.get(&set) else { return Ok(()) };
        // One that is full works.
        let works = |id: &DestinationId| {
            let fitness = self.fitness(*id, Resources::NONE, load, now.mono);
            matches!(fitness, Some(Fitness::Fit | Fitness::Full))
        };
        let in_service = |id: &DestinationId| self.destinations[*id].is_in_service(now.mono);
        let fit: Vec<_> = state.members.iter().copied().filter(works).collect();
        let wanted: Vec<_> = state.members.iter().copied().filter(in_service).collect();
        let policy = &state.policy;
        let left = |all: &[DestinationId], panics| self.left(state, uri, (all, panics));
        left(&fit, false)?;
        if !policy.panic.holds(fit.len(), wanted.len()) {
            return Ok(());
        }
        // Those that get the calls now, whatever their health.
        match policy.panic.mode {
            PanicMode::All => left(&wanted, true),
            PanicMode::LastKnownGood => {
                let known: Vec<_> = wanted.into_iter().filter(|id| state.known_good.contains(id)).collect();
                left(&known, true)
            }
            PanicMode::Fail => Ok(()),
        }
    }

    /// The same of those alone, which get calls now.
    fn left(&self, state: &SetState, uri: &str, (working, panics): (&[DestinationId], bool)) -> Result<(), NotOrdered> {
        // A name is one destination, however many addresses it has.
        let names = |all: &[DestinationId]| -> HashSet<&str> {
            all.iter().map(|id| self.destinations[*id].row.uri.as_str()).collect()
        };
        let working = names(working);
        if !working.contains(uri) {
            return Ok(());
        }
        let Policy { set, max_out_percent, .. } = state.policy;
        let (of, left) = (names(&state.members).len(), working.len() - 1);
        match left == 0 || (of - left) * 100 > of * usize::from(max_out_percent) {
            true => Err(NotOrdered::TooFew { set, uri: uri.to_owned(), left, of, max_out_percent, panics }),
            false => Ok(()),
        }
    }
}
