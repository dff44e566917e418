//! What an order given by hand is held to: that enough of its set stays fit, and that nobody has changed what it changes.

use std::time::SystemTime;

use thiserror::Error;

use super::{Dispatch, Fitness, Load, NoSuchDestination, Order, SetId, Standing};
use crate::engine::clock::Now;
use crate::engine::event::Output;
use crate::engine::sip::Resources;

/// What an order is held to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderTerms {
    /// It is refused if it would leave the set with nobody fit, or with fewer than its `max_out_percent` allows.
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
        "{uri} can't be taken out of set {}: {left} of {of} destinations would be fit, {rule}: add --force if you mean it",
        set.0, rule = rule(*left, *max_out_percent)
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
    /// Tells it apart from other orders of its destination, on every node alike: its moment in milliseconds, and what it is.
    pub fn version(&self) -> String {
        let since = self.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        format!("{}-{}", since.as_millis(), self.order.name())
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

    /// The newest order of a destination's addresses.
    fn standing_of(&self, set: SetId, uri: &str) -> Option<&Standing> {
        self.addresses_of(set, uri).map(|id| &self.destinations[id].standing).max_by_key(|standing| standing.rank())
    }

    /// Whether enough of a set is fit without a destination. One that gets no calls now takes none with it.
    pub(super) fn guard(&self, set: SetId, uri: &str, load: &dyn Load, now: Now) -> Result<(), NotOrdered> {
        // A name is one destination, however many addresses it has; one that is full works.
        let works = |id| {
            let fitness = self.fitness(id, Resources::NONE, load, now.mono);
            matches!(fitness, Some(Fitness::Fit | Fitness::Full))
        };
        let (mut names, mut fit) = (Vec::new(), Vec::new());
        for &id in self.members_of(set) {
            let name = self.destinations[id].row.uri.as_str();
            names.push(name);
            if works(id) {
                fit.push(name);
            }
        }
        for all in [&mut names, &mut fit] {
            all.sort_unstable();
            all.dedup();
        }
        if !fit.contains(&uri) {
            return Ok(());
        }
        let (of, left, max_out_percent) = (names.len(), fit.len() - 1, self.policy(set).max_out_percent);
        match left == 0 || (of - left) * 100 > of * usize::from(max_out_percent) {
            true => Err(NotOrdered::TooFew { set, uri: uri.to_owned(), left, of, max_out_percent }),
            false => Ok(()),
        }
    }
}
