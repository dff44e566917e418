//! Sessions that nodes have left behind which are gone: nobody has ended them, so they count until a node hears of them, or they
//! must be over.

use std::collections::HashSet;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::time::Duration;

use super::Asked;
use super::peers::{Left, Taken};
use crate::engine::clock::Instant;
use crate::engine::sip::{Cookie, Hashed};

/// What each start of a node that is gone has left at one destination.
#[derive(Clone, Debug, Default)]
pub(super) struct Inherited {
    estates: Vec<Estate>,
    /// Sessions that have worn off: each does once, however often it moves on.
    heard_of: HashSet<u128, BuildHasherDefault<Hashed>>,
}

/// What one of them has left. One that is used up is kept too: others may still tell of it.
#[derive(Clone, Debug)]
struct Estate {
    node: Arc<str>,
    started: u64,
    sessions: Asked,
    until: Instant,
}

impl Inherited {
    /// A node is gone, and had these sessions. What others have told of it before is older than what it told itself.
    pub(super) fn leave(&mut self, node: Arc<str>, started: u64, sessions: Asked, until: Instant) {
        self.estates.retain(|one| (&one.node, one.started) != (&node, started));
        self.estates.push(Estate { node, started, sessions, until });
    }

    /// Another node tells what one has left that is not known here.
    pub(super) fn hear(&mut self, left: &Left, now: Instant) {
        if self.estates.iter().all(|one| (&*one.node, one.started) != (&*left.node, left.started)) {
            let Left { node, started, sessions, lasts } = left;
            let (node, sessions) = (node.as_str().into(), sessions.clone());
            self.estates.push(Estate { node, started: *started, sessions, until: now + *lasts });
        }
    }

    /// Drops what must be over, and what those had who are there after all: they tell of it themselves.
    pub(super) fn retain(&mut self, is_there: impl Fn(&str, u64) -> bool, now: Instant) {
        self.estates.retain(|one| one.until > now && !is_there(&one.node, one.started));
        if self.estates.is_empty() {
            self.heard_of.clear();
        }
    }

    /// One of the sessions has been heard of, or has ended. It was begun at a node of that mark; if that has left none, and is
    /// not there either, another has left it that had it from there.
    pub(super) fn wear_off(&mut self, taken: &Taken, is_there: impl Fn(u16) -> bool) {
        if self.heard_of.contains(&taken.session) {
            return;
        }
        let same = |one: &&mut Estate| Cookie::mark(&one.node) == taken.node;
        let mut worn = self.estates.iter_mut().filter(same).any(|one| one.sessions.wear_off(taken.resources));
        if !worn && !is_there(taken.node) {
            worn = self.estates.iter_mut().any(|one| one.sessions.wear_off(taken.resources));
        }
        if worn {
            self.heard_of.insert(taken.session);
        }
    }

    /// What counts.
    pub(super) fn sessions(&self, now: Instant) -> impl Iterator<Item = &Asked> {
        self.estates.iter().filter(move |one| one.until > now).map(|one| &one.sessions)
    }

    /// What others are told of them.
    pub(super) fn told(&self, now: Instant) -> Vec<Left> {
        let lasts = |until: Instant| Some(until.since(now)).filter(|lasts| *lasts > Duration::ZERO);
        let left = |one: &Estate| {
            let Estate { node, started, sessions, until } = one;
            Some(Left { node: node.to_string(), started: *started, sessions: sessions.clone(), lasts: lasts(*until)? })
        };
        self.estates.iter().filter_map(left).collect()
    }
}
