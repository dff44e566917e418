//! How much a destination may be given: sessions at a time, calls a second, by the set's policy or by the table's `attrs` as
//! OpenSIPS's and Kamailio's users write them.

use std::time::Duration;

use super::SetId;
use crate::engine::clock::Instant;
use crate::engine::sip::Reply;

/// What the destinations of a set may be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Sessions at a time, for each destination; none: no limit.
    pub max_sessions: Option<u32>,
    /// New calls a second, for each destination; none: no limit.
    pub max_cps: Option<u32>,
    /// The name in `attrs` whose number goes over `max_sessions`: `pstn` reads `pstn=100` (OpenSIPS's `load_balancer`),
    /// `maxload` Kamailio's.
    pub attr: Option<String>,
    /// Sessions at a time in the whole set; none: no limit.
    pub set_max_sessions: Option<u64>,
    /// The set that takes the calls that this one has no room for.
    pub overflow: Option<SetId>,
    /// The answer when some would be fit and none has room.
    pub busy_reply: Reply,
}

impl Default for Capacity {
    fn default() -> Self {
        Capacity {
            max_sessions: None,
            max_cps: None,
            attr: None,
            set_max_sessions: None,
            overflow: None,
            busy_reply: Reply::new(486, "Busy Here"),
        }
    }
}

/// What one destination may be given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at a time.
    pub sessions: Option<u32>,
    /// New calls a second.
    pub cps: Option<u32>,
}

impl Capacity {
    /// The limits of a row.
    pub(super) fn limits(&self, attrs: &str) -> Limits {
        let own = self.attr.as_deref().and_then(|name| number(attrs, name));
        Limits { sessions: own.or(self.max_sessions), cps: self.max_cps }
    }
}

/// The number of `name=number` in `attrs`, whose parts lie between semicolons, commas or white space.
pub(super) fn number(attrs: &str, name: &str) -> Option<u32> {
    let parts = attrs.split(|mark: char| matches!(mark, ';' | ',') || mark.is_whitespace());
    parts
        .filter_map(|part| part.split_once('='))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.parse().ok())
}

impl Limits {
    /// Whether there is room for one more beside so many sessions; a destination that comes back has `share` percent of
    /// its room.
    pub(super) fn have_room(&self, sessions: u64, share: u32) -> bool {
        self.sessions
            .is_none_or(|limit| sessions < (u64::from(limit) * u64::from(share) / 100).max(u64::from(limit.min(1))))
    }
}

/// New calls of late: a bucket that fills at the limit's pace and holds a second's worth.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// Calls that were given out, worn off since.
    spent: f64,
    at: Instant,
}

impl Pace {
    /// Whether one more call fits into this second.
    pub(super) fn has_room(&self, limits: &Limits, now: Instant) -> bool {
        limits.cps.is_none_or(|cps| self.spent_at(cps, now) + 1.0 <= f64::from(cps).max(1.0))
    }

    /// A call is given.
    pub(super) fn spend(&mut self, limits: &Limits, now: Instant) {
        if let Some(cps) = limits.cps {
            self.spent = self.spent_at(cps, now) + 1.0;
            self.at = now;
        }
    }

    /// New calls of this second; none if they are not limited.
    pub(super) fn of_late(&self, limits: &Limits, now: Instant) -> Option<f64> {
        limits.cps.map(|cps| self.spent_at(cps, now))
    }

    fn spent_at(&self, cps: u32, now: Instant) -> f64 {
        let since: Duration = now.since(self.at);
        (self.spent - f64::from(cps) * since.as_secs_f64()).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_attrs_that_users_have_are_read() {
        let capacity = |attr: &str| Capacity { attr: Some(attr.into()), max_sessions: Some(7), ..Capacity::default() };
        let sessions = |attr, attrs| capacity(attr).limits(attrs).sessions;
        assert_eq!(sessions("pstn", "pstn=100"), Some(100));
        assert_eq!(sessions("maxload", "duid=srv1;maxload=30;weight=50"), Some(30));
        assert_eq!(sessions("pstn", "xpstn=1, pstn=2"), Some(2));
        for attrs in ["", "pstn", "pstn=", "pstn=many", "pstn=-1", "maxload=3"] {
            assert_eq!(sessions("pstn", attrs), Some(7), "{attrs}: the set's own");
        }
    }

    #[test]
    fn room_ends_at_the_limit_and_grows_with_the_share() {
        let limits = Limits { sessions: Some(100), cps: None };
        assert!(limits.have_room(99, 100) && !limits.have_room(100, 100));
        assert!(limits.have_room(9, 10) && !limits.have_room(10, 10));
        let one = Limits { sessions: Some(1), cps: None };
        assert!(one.have_room(0, 10), "a small share is not none");
        assert!(!Limits { sessions: Some(0), cps: None }.have_room(0, 100));
        assert!(Limits::default().have_room(u64::MAX, 1));
    }

    #[test]
    fn no_second_has_more_calls_than_the_limit_but_for_one_full_bucket() {
        let limits = Limits { sessions: None, cps: Some(10) };
        let (mut pace, mut given) = (Pace::default(), Vec::new());
        for millis in 0..5000u64 {
            let now = Instant::ZERO + Duration::from_millis(10_000 + millis);
            if pace.has_room(&limits, now) {
                pace.spend(&limits, now);
                given.push(millis);
            }
        }
        assert_eq!(given.iter().filter(|&&at| at < 1).count(), 1, "one a millisecond is what this test asks for");
        assert!((59..=60).contains(&given.len()), "{}", given.len());
        let later = given.iter().filter(|&&at| at >= 4000).count();
        assert_eq!(later, 10);
    }
}
