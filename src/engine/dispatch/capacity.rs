//! How much a destination may be given: sessions at a time, all of them and those of a class of MRCP resources, calls a
//! second; by the set's policy or by the table's `attrs` as OpenSIPS's and Kamailio's users write them.

use std::sync::Arc;
use std::time::Duration;

use super::attrs::number;
use super::health::Judgement;
use super::{Destination, DestinationId, Load, SetId};
use crate::engine::clock::Instant;
use crate::engine::sip::{Reply, Resources};

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
    /// Limits of sessions by what they ask for.
    pub resources: Vec<ResourceClass>,
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
            resources: Vec::new(),
            set_max_sessions: None,
            overflow: None,
            busy_reply: Reply::new(486, "Busy Here"),
        }
    }
}

/// MRCP resources that are limited together: a session that asks for one of them counts, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceClass {
    /// Its name.
    pub name: Arc<str>,
    /// What it stands for.
    pub resources: Resources,
    /// Sessions at a time, for each destination; none: no limit.
    pub max_sessions: Option<u32>,
    /// The name in `attrs` whose number goes over `max_sessions`: `asr` reads `asr=20`.
    pub attr: Option<String>,
}

impl ResourceClass {
    /// Names that need not be explained: those that people write, and those of the resources themselves.
    pub const KNOWN: [(&'static str, &'static [&'static str]); 4] = [
        ("tts", &["speechsynth", "basicsynth"]),
        ("asr", &["speechrecog", "dtmfrecog"]),
        ("rec", &["recorder"]),
        ("verify", &["speakverify"]),
    ];

    /// What a name stands for that needs no explanation.
    pub fn known(name: &str) -> Option<Resources> {
        let known = Self::KNOWN.iter().find(|(known, _)| *known == name).map(|(_, resources)| *resources);
        let of = |names: &[&str]| names.iter().filter_map(|name| Resources::named(name)).reduce(Resources::and);
        known.map_or_else(|| Resources::named(name), of)
    }
}

/// How many sessions of a class of resources one destination may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassLimit {
    /// The class's name.
    pub name: Arc<str>,
    /// What it stands for.
    pub resources: Resources,
    /// Sessions at a time; none: no limit.
    pub sessions: Option<u32>,
}

/// One more call for a destination, on top of what that bears.
#[derive(Clone, Copy)]
pub(super) struct OneMore<'l> {
    pub(super) id: DestinationId,
    /// What the call asks for.
    pub(super) asked: Resources,
    pub(super) load: &'l dyn Load,
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

    /// The limits of a row by what sessions ask for, one for each class.
    pub(super) fn class_limits(&self, attrs: &str) -> Vec<ClassLimit> {
        let limit = |class: &ResourceClass| {
            let own = class.attr.as_deref().and_then(|name| number(attrs, name));
            let (name, resources) = (Arc::clone(&class.name), class.resources);
            ClassLimit { name, resources, sessions: own.or(class.max_sessions) }
        };
        self.resources.iter().map(limit).collect()
    }
}

impl Destination {
    /// Whether there is room for one more call.
    pub(super) fn has_room(&self, judgement: &Judgement, call: OneMore<'_>, now: Instant) -> bool {
        let limits = self.limits_now(now);
        if limits == Limits::default() && self.classes.is_empty() {
            return true;
        }
        let share = self.condition.share(judgement, now);
        self.limits_on(call, now).all(|(limit, sessions)| has_room(limit, sessions, share))
            && self.pace.has_room(&limits, now)
    }

    /// How full the call would make it, by the limit that is nearest; 1 is full, none is without limit.
    pub(super) fn fullness(&self, call: OneMore<'_>, now: Instant) -> Option<f64> {
        let full = |(limit, sessions): (u32, u64)| (sessions as f64 + 1.0) / f64::from(limit.max(1));
        self.limits_on(call, now).map(full).reduce(f64::max)
    }

    /// Every limit of sessions that holds for the call, with the sessions that count for it.
    fn limits_on<'c>(&'c self, call: OneMore<'c>, now: Instant) -> impl Iterator<Item = (u32, u64)> + 'c {
        let OneMore { id, asked, load } = call;
        let all = self.limits_now(now).sessions.map(|limit| (limit, load.sessions(id) + self.elsewhere(now)));
        let classes = self.classes.iter().filter(move |class| class.resources.meets(asked));
        let of_class = move |class: &ClassLimit| {
            let resources = class.resources;
            Some((class.sessions?, load.sessions_of(id, resources) + self.elsewhere_of(resources, now)))
        };
        all.into_iter().chain(classes.filter_map(of_class))
    }
}

/// Whether a limit leaves room for one more beside so many sessions; a destination that comes back has `share` percent of its
/// room.
fn has_room(limit: u32, sessions: u64, share: u32) -> bool {
    sessions < (u64::from(limit) * u64::from(share) / 100).max(u64::from(limit.min(1)))
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
    fn a_class_is_limited_by_its_own_attr_and_only_where_the_set_names_it() {
        let class = |name: &str, attr: Option<&str>| ResourceClass {
            name: name.into(),
            resources: ResourceClass::known(name).expect("a known one"),
            max_sessions: Some(80),
            attr: attr.map(str::to_owned),
        };
        let resources = vec![class("tts", None), class("asr", Some("asr"))];
        let capacity = Capacity { resources, ..Capacity::default() };
        let limits = |attrs| capacity.class_limits(attrs).iter().map(|one| one.sessions).collect::<Vec<_>>();
        assert_eq!(limits("asr=20;tts=3"), [Some(80), Some(20)]);
        assert_eq!(limits("asr=some"), [Some(80), Some(80)]);
    }

    #[test]
    fn known_classes_are_what_people_call_them_and_the_resources_themselves() {
        let named = |name| Resources::named(name).expect("a resource");
        for (class, names) in ResourceClass::KNOWN {
            let all = names.iter().map(|name| named(name)).fold(Resources::NONE, Resources::and);
            assert_eq!(ResourceClass::known(class), Some(all), "{class}");
        }
        assert_eq!(ResourceClass::known("recorder"), Some(named("recorder")));
        assert_eq!(ResourceClass::known("gold"), None);
    }

    #[test]
    fn room_ends_at_the_limit_and_grows_with_the_share() {
        assert!(has_room(100, 99, 100) && !has_room(100, 100, 100));
        assert!(has_room(100, 9, 10) && !has_room(100, 10, 10));
        assert!(has_room(1, 0, 10), "a small share is not none");
        assert!(!has_room(0, 0, 100));
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
