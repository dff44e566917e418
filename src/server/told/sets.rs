//! Sets that have nobody fit, and those that have somebody again: what the journal has told of them.
//!
//! Two tell: a look at the engine once in a while, and the first request that found nobody, which no look may see.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use crate::edge::journal::{Entry, Kind};
use crate::engine::dispatch::SetId;
use crate::engine::snapshot::SetView;

/// What was told of each set last.
#[derive(Debug, Default)]
pub(in crate::server) struct SetsTold(Mutex<BTreeMap<SetId, SetTold>>);

#[derive(Debug)]
struct SetTold {
    title: String,
    state: State,
    /// When it was told: what was seen before has nothing to say any more.
    at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fit,
    /// A look has found nobody fit.
    Empty,
    /// A request has, though a look might not: a set that panics may serve nobody while somebody is fit.
    Refusing,
}

/// A set as a look finds it.
#[derive(Clone, Debug)]
pub(super) struct SetSeen {
    set: SetId,
    /// Its number, and its name if it has one.
    title: String,
    fit: usize,
    of: usize,
    /// Whether it did at the last request.
    panicking: bool,
}

impl SetSeen {
    pub(super) fn of(set: &SetView) -> Self {
        let SetView { id, name, panicking, destinations, .. } = set;
        SetSeen {
            set: *id,
            title: if name.is_empty() { id.0.to_string() } else { format!("{} ({name})", id.0) },
            fit: destinations.iter().filter(|one| one.fitness.is_fit()).count(),
            of: destinations.len(),
            panicking: *panicking,
        }
    }
}

impl SetsTold {
    /// Tells what is another than was told. These are all sets, which were seen after `after`; of one that is new it is told if
    /// it has nobody.
    pub(super) fn look(
        &self,
        sets: impl IntoIterator<Item = SetSeen>,
        after: Instant,
        at: SystemTime,
        mut tell: impl FnMut(Entry),
    ) {
        let mut all = self.all();
        let mut before = std::mem::take(&mut *all);
        for SetSeen { set, title, fit, of, panicking } in sets {
            let entry = |text| Entry::new(Kind::Set, at, text).of_set(set);
            let empty = || entry(format!("set {title} has no fit destination, of {of}"));
            let now = if fit == 0 { State::Empty } else { State::Fit };
            let told = before.remove(&set);
            let is_over = told.as_ref().is_some_and(|told| !panicking && told.at < after);
            let is_news = match (told.as_ref().map(|told| told.state), now) {
                (None, State::Fit) => true,
                (None, State::Empty | State::Refusing) => {
                    tell(Entry { new: Some("empty".to_owned()), ..empty() });
                    true
                }
                (Some(State::Fit), State::Empty | State::Refusing) => {
                    tell(empty().from("fit", "empty"));
                    true
                }
                (Some(State::Refusing), State::Fit) if !is_over => false,
                (Some(State::Empty | State::Refusing), State::Fit) => {
                    tell(entry(format!("set {title}: {fit} of {of} are fit")).from("empty", "fit"));
                    true
                }
                (Some(State::Fit), State::Fit)
                | (Some(State::Empty | State::Refusing), State::Empty | State::Refusing) => false,
            };
            let told = match told.filter(|_| !is_news) {
                Some(told) => SetTold { title, ..told },
                None => SetTold { title, state: now, at: Instant::now() },
            };
            all.insert(set, told);
        }
    }

    /// Tells of a request that found nobody then, if the set was told to be fit.
    pub(super) fn hear_empty(&self, set: SetId, happened: Instant, at: SystemTime, tell: impl FnOnce(Entry)) {
        let mut all = self.all();
        let Some(told) = all.get_mut(&set).filter(|told| told.state == State::Fit && told.at < happened) else {
            return;
        };
        (told.state, told.at) = (State::Refusing, Instant::now());
        let text = format!("set {} has no fit destination: a request has found nobody", told.title);
        tell(Entry::new(Kind::Set, at, text).of_set(set).from("fit", "empty"));
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<SetId, SetTold>> {
        // Nothing in here can panic half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SET: SetId = SetId(19);

    fn seen(fit: usize) -> SetSeen {
        SetSeen { set: SET, title: "19 (tts)".to_owned(), fit, of: 2, panicking: false }
    }

    fn text(entry: Entry) -> String {
        format!("{}-{}: {}", entry.old.unwrap_or_default(), entry.new.unwrap_or_default(), entry.text)
    }

    /// What a look tells that is as new as can be.
    fn look(told: &SetsTold, set: SetSeen) -> Vec<String> {
        look_after(told, set, Instant::now())
    }

    fn look_after(told: &SetsTold, set: SetSeen, after: Instant) -> Vec<String> {
        let mut texts = Vec::new();
        told.look([set], after, SystemTime::UNIX_EPOCH, |entry| texts.push(text(entry)));
        texts
    }

    fn hear(told: &SetsTold, happened: Instant) -> Vec<String> {
        let mut texts = Vec::new();
        told.hear_empty(SET, happened, SystemTime::UNIX_EPOCH, |entry| texts.push(text(entry)));
        texts
    }

    const EMPTY: &str = "fit-empty: set 19 (tts) has no fit destination, of 2";
    const FIT: &str = "empty-fit: set 19 (tts): 2 of 2 are fit";
    const REQUEST: &str = "fit-empty: set 19 (tts) has no fit destination: a request has found nobody";

    #[test]
    fn a_set_is_told_of_when_it_has_nobody_and_when_it_has_somebody_again() {
        let told = SetsTold::default();
        assert!(look(&told, seen(2)).is_empty(), "one that is fit to begin with is no news");
        for (fit, expected) in [(1, None), (0, Some(EMPTY)), (0, None), (2, Some(FIT)), (2, None)] {
            assert_eq!(look(&told, seen(fit)), Vec::from_iter(expected), "{fit}");
        }
        let told = SetsTold::default();
        assert_eq!(look(&told, seen(0)), ["-empty: set 19 (tts) has no fit destination, of 2"], "nothing was before");
        assert_eq!(look(&told, seen(2)), [FIT]);
    }

    #[test]
    fn a_spell_that_no_look_has_seen_is_told_of_by_its_first_request() {
        let told = SetsTold::default();
        assert!(hear(&told, Instant::now()).is_empty(), "nothing was told of it yet");
        look(&told, seen(2));
        let begun = Instant::now();
        assert_eq!(hear(&told, begun), [REQUEST]);
        assert!(hear(&told, Instant::now()).is_empty(), "once");
        assert!(look_after(&told, seen(2), begun).is_empty(), "what was seen before the request says nothing");
        assert_eq!(look(&told, seen(2)), [FIT]);
        assert!(hear(&told, begun).is_empty(), "one that is heard late is of a spell that is over");
        assert_eq!(hear(&told, Instant::now()), [REQUEST]);
        assert!(look(&told, seen(0)).is_empty(), "it is told already");
        assert_eq!(look(&told, seen(2)), [FIT]);
    }

    #[test]
    fn a_panicking_set_that_refuses_is_told_of_once() {
        let told = SetsTold::default();
        look(&told, seen(2));
        assert_eq!(hear(&told, Instant::now()), [REQUEST]);
        let panics = SetSeen { panicking: true, ..seen(1) };
        assert!(look(&told, panics.clone()).is_empty() && hear(&told, Instant::now()).is_empty());
        assert!(look(&told, panics).is_empty());
        assert_eq!(look(&told, seen(2)), [FIT]);
    }

    #[test]
    fn a_set_that_is_gone_is_new_when_it_comes_again() {
        let told = SetsTold::default();
        look(&told, seen(0));
        told.look([], Instant::now(), SystemTime::UNIX_EPOCH, |entry| panic!("{entry:?}"));
        assert!(hear(&told, Instant::now() + Duration::from_secs(1)).is_empty());
        assert!(look(&told, seen(2)).is_empty());
    }
}
