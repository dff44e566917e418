//! Sessions that nodes have left behind which are gone: nobody has ended them, so they count until a node hears of them, or they
//! must be over.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::time::Duration;

use super::Asked;
use super::peers::{Left, Taken};
use crate::engine::clock::Instant;
use crate::engine::sip::{Cookie, Hashed, Resources};

/// What a node tells counts a session that was taken from it for so long: it has to hear of that first.
const HEARD: Duration = Duration::from_millis(300);
/// So many are remembered that were taken from nodes which have told nothing since.
const MOST_LATE: usize = 4096;
/// Of so many sessions it is known who had them last, at least.
const MOST_KNOWN: usize = 65_536;

/// Who has taken which session last, by the node's mark.
#[derive(Debug, Default)]
pub(super) struct Holders {
    young: HashMap<u128, u16, BuildHasherDefault<Hashed>>,
    old: HashMap<u128, u16, BuildHasherDefault<Hashed>>,
}

impl Holders {
    /// A node has taken a session over; who had it before, if that is known.
    pub(super) fn pass(&mut self, taken: &Taken, to: u16) -> Option<u16> {
        if self.young.len() == MOST_KNOWN {
            self.old = std::mem::take(&mut self.young);
        }
        let before = self.young.insert(taken.session, to);
        before.or_else(|| self.old.remove(&taken.session))
    }
}

/// Where the node is that had a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// It is this one, or was, before its start.
    Here,
    /// It is heard.
    Elsewhere,
    /// It is not.
    Gone,
}

/// What each start of a node that is gone has left at one destination.
#[derive(Clone, Debug, Default)]
pub(super) struct Inherited {
    estates: Vec<Estate>,
    /// Sessions that were taken from nodes which are still there, by their marks, and when: if such a node dies before it has
    /// told its sessions without them, what it leaves is as many less.
    late: Vec<(u16, Resources, Instant)>,
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
    /// It told them at `told`.
    pub(super) fn leave(
        &mut self,
        (node, started): (Arc<str>, u64),
        mut sessions: Asked,
        told: Instant,
        until: Instant,
    ) {
        self.estates.retain(|one| (&one.node, one.started) != (&node, started));
        let mark = Cookie::mark(&node);
        for (_, resources, when) in self.late.extract_if(.., |(of, ..)| *of == mark) {
            if told < when + HEARD {
                sessions.wear_off(resources);
            }
        }
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
    }

    /// The node of that mark has told its sessions at `told`: what it had heard of until then is not among them.
    pub(super) fn told_again(&mut self, mark: u16, told: Instant) {
        self.late.retain(|(of, _, when)| *of != mark || told < *when + HEARD);
    }

    /// A session that the node of that mark had last has been heard of elsewhere, or has ended there. If that is neither gone
    /// nor there, another has left the session that had it from it.
    pub(super) fn wear_off(&mut self, taken: &Taken, from: u16, holder: Holder, now: Instant) {
        let same = |one: &&mut Estate| Cookie::mark(&one.node) == from;
        if self.estates.iter_mut().filter(same).any(|one| one.sessions.wear_off(taken.resources)) {
            return;
        }
        match holder {
            Holder::Elsewhere if self.late.len() < MOST_LATE => self.late.push((from, taken.resources, now)),
            Holder::Elsewhere | Holder::Here => {}
            Holder::Gone => drop(self.estates.iter_mut().any(|one| one.sessions.wear_off(taken.resources))),
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
