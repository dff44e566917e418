//! An operator holds a destination for failed, until a probe or a call has shown otherwise.

use thiserror::Error;

use super::health::Terms;
use super::{Dispatch, Load, NoSuchDestination, NotOrdered, SetId};
use crate::engine::clock::Now;
use crate::engine::event::Output;

/// What a destination is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distrust {
    /// Down, as by the `state` column's 2.
    Down,
    /// On trial: one call tries it.
    OnTrial,
}

/// An operator's order to hold a destination for failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DistrustOrder {
    /// The set.
    pub set: SetId,
    /// The `destination` column.
    pub uri: String,
    /// What for.
    pub distrust: Distrust,
    /// Who gives the order.
    pub by: String,
    /// Why.
    pub reason: String,
    /// It is refused if it would leave the set with too few that are fit, as an order is.
    pub guarded: bool,
}

/// Why it is not.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NotDistrusted {
    /// It is not there.
    #[error(transparent)]
    NoSuchDestination(#[from] NoSuchDestination),
    /// It would be so for ever.
    #[error("nothing would find that {uri} of set {} works: probe the set, let it observe its calls, or give maint", set.0)]
    Unwatched {
        /// The set.
        set: SetId,
        /// The `destination` column.
        uri: String,
    },
    /// It would take out too much.
    #[error(transparent)]
    TooFew(NotOrdered),
}

impl Dispatch {
    /// Holds all addresses of a destination for failed; one that is so already stays as it is.
    ///
    /// # Errors
    /// [`NotDistrusted`].
    pub(crate) fn distrust(
        &mut self,
        order: &DistrustOrder,
        (load, now): (&dyn Load, Now),
        out: &mut Vec<Output>,
    ) -> Result<(), NotDistrusted> {
        let (set, uri) = (order.set, order.uri.clone());
        let meant: Vec<_> = self.addresses_of(set, &uri).collect();
        if meant.is_empty() {
            return Err(NoSuchDestination { set, uri }.into());
        }
        if order.guarded {
            self.guard(set, &uri, load, now).map_err(NotDistrusted::TooFew)?;
        }
        let mut held = true;
        for id in meant {
            let chance = self.chance.f64();
            let Dispatch { destinations, sets, unknown, .. } = self;
            let judgement = &sets.get(&set).map_or(&**unknown, |state| &state.policy).judgement;
            let terms = Terms { observe: &judgement.observe, may_eject: true, chance };
            held &= destinations[id].condition.distrust(order.distrust, judgement, &terms, now.mono);
            self.note(id, None, now, out);
        }
        held.then_some(()).ok_or(NotDistrusted::Unwatched { set, uri })
    }
}
