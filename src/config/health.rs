//! `[health]`, and the part of a `[[set]]` that says how its destinations' health is judged: what answers mean, how traffic
//! is watched, what is done about flapping, about those that come back, and when too few are fit.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::reader::Section;
use super::values::{duration_from, duration_within, one_of};
use crate::engine::dispatch::{
    Answers, Damping, Judgement, LONGEST_RETRY_AFTER, Meaning, Observe, Panic, PanicMode, SlowStart,
};

const SECOND: Duration = Duration::from_secs(1);
/// The longest time of any of health: what is longer is a slip of the pen.
pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// What holds for the health of all sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthConfig {
    /// Health that was kept on disk means nothing when it is older.
    pub state_ttl: Duration,
}

impl Default for HealthConfig {
    fn default() -> Self {
        HealthConfig { state_ttl: Duration::from_secs(300) }
    }
}

/// Reads `[health]`.
pub(super) fn read(section: &Section<'_>) -> HealthConfig {
    let default = HealthConfig::default();
    let health =
        HealthConfig { state_ttl: section.text("state_ttl", duration_from(SECOND)).unwrap_or(default.state_ttl) };
    section.finish();
    health
}

/// Reads `[set.answers]`, `[set.observe]`, `[set.damping]` and `[set.slow_start]`.
pub(super) fn read_judgement(set: &Section<'_>) -> Judgement {
    Judgement {
        answers: read_answers(&set.section("answers")),
        observe: read_observe(&set.section("observe")),
        damping: read_damping(&set.section("damping")),
        slow_start: read_slow_start(&set.section("slow_start")),
    }
}

fn read_answers(section: &Section<'_>) -> Answers {
    let mut answers = Answers::default();
    // What stands for what; in the order of the text, a class (`5xx`) behind the codes of its digit.
    let given = RefCell::new(BTreeMap::new());
    let keys =
        [("alive", Meaning::Alive), ("busy", Meaning::Busy), ("fall", Meaning::Fall), ("neutral", Meaning::Neutral)];
    for (key, meaning) in keys {
        section.texts(key, |text| {
            Answers::default().mean(text, meaning).map_err(|bad| bad.to_string())?;
            match given.borrow_mut().insert(text.to_owned(), (key, meaning)) {
                Some((other, _)) if other == key => Err("it stands there twice: give it once".to_owned()),
                Some((other, _)) => Err(format!("it is in {other} too: give it in one of them")),
                None => Ok(()),
            }
        });
    }
    let given = given.into_inner();
    let is_class = |text: &str| text.ends_with("xx");
    // Classes first, so that a code wins over its class.
    for (text, (_, meaning)) in given.iter().filter(|(text, _)| is_class(text)) {
        answers.mean(text, *meaning).expect("a class that was read");
    }
    for (text, (_, meaning)) in given.iter().filter(|(text, _)| !is_class(text)) {
        answers.mean(text, *meaning).expect("a code that was read");
    }
    let busy_for = section.text("busy_for", duration_within(SECOND..=LONGEST_RETRY_AFTER));
    answers.busy_for = busy_for.unwrap_or(answers.busy_for);
    section.finish();
    answers
}

fn read_observe(section: &Section<'_>) -> Observe {
    let default = Observe::default();
    let time = |key, least, otherwise| section.text(key, duration_within(least..=DAY)).unwrap_or(otherwise);
    let short = Duration::from_millis(100);
    let observe = Observe {
        enabled: section.flag("enabled").unwrap_or(default.enabled),
        consecutive_failures: count(section, "consecutive_failures", 1..=1_000_000, default.consecutive_failures),
        failure_percentage_threshold: percent(
            section,
            "failure_percentage_threshold",
            0,
            default.failure_percentage_threshold,
        ),
        failure_percentage_request_volume: count(
            section,
            "failure_percentage_request_volume",
            1..=1_000_000,
            default.failure_percentage_request_volume,
        ),
        interval: time("interval", SECOND, default.interval),
        base_ejection_time: time("base_ejection_time", short, default.base_ejection_time),
        max_ejection_time: time("max_ejection_time", short, default.max_ejection_time),
        max_ejection_percent: percent(section, "max_ejection_percent", 1, default.max_ejection_percent),
    };
    let Observe { base_ejection_time: base, max_ejection_time: most, .. } = observe;
    if most < base {
        let problem = format!("{most:?} is shorter than base_ejection_time ({base:?}): give at least as much");
        section.fault_at("max_ejection_time", &problem);
    }
    section.finish();
    observe
}

/// The table switches it on.
fn read_damping(section: &Section<'_>) -> Option<Damping> {
    let default = Damping::default();
    let damping = Damping {
        half_life: section.text("half_life", duration_within(SECOND..=DAY)).unwrap_or(default.half_life),
        suppress: count(section, "suppress", 1..=1_000_000, default.suppress),
        reuse: count(section, "reuse", 1..=1_000_000, default.reuse),
    };
    let Damping { suppress, reuse, .. } = damping;
    if reuse >= suppress {
        let problem = format!("{reuse} is not below suppress ({suppress}): give less, or a higher suppress");
        section.fault_at("reuse", &problem);
    }
    section.finish();
    section.is_present().then_some(damping)
}

/// The table switches it on.
fn read_slow_start(section: &Section<'_>) -> Option<SlowStart> {
    let default = SlowStart::default();
    let slow_start = SlowStart {
        window: section.text("window", duration_within(SECOND..=DAY)).unwrap_or(default.window),
        aggression: section.real("aggression", 0.1..=10.0).unwrap_or(default.aggression),
        min_weight_percent: percent(section, "min_weight_percent", 1, default.min_weight_percent),
    };
    section.finish();
    section.is_present().then_some(slow_start)
}

/// Reads `[set.panic]`.
pub(super) fn read_panic(section: &Section<'_>) -> Panic {
    let default = Panic::default();
    let modes = PanicMode::ALL.map(|mode| (mode.name(), mode));
    let panic = Panic {
        threshold: percent(section, "threshold", 0, default.threshold),
        mode: section.text("mode", one_of(&modes)).unwrap_or(default.mode),
    };
    section.finish();
    panic
}

fn count(section: &Section<'_>, key: &'static str, bounds: RangeInclusive<i64>, otherwise: u32) -> u32 {
    section.number(key, bounds).and_then(|number| u32::try_from(number).ok()).unwrap_or(otherwise)
}

fn percent(section: &Section<'_>, key: &'static str, least: i64, otherwise: u8) -> u8 {
    section.number(key, least..=100).and_then(|number| u8::try_from(number).ok()).unwrap_or(otherwise)
}
