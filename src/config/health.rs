//! `[health]`, and the part of a `[[set]]` that says how its destinations' health is judged: what answers mean, how traffic
//! is watched, what is done about flapping, about those that come back, and when too few are fit.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::reader::Section;
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
    let health = HealthConfig { state_ttl: section.duration("state_ttl", SECOND).unwrap_or(default.state_ttl) };
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
        section.texts(key, "a code or class of answers", |text| {
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
    let busy_for = section.duration_within("busy_for", SECOND..=LONGEST_RETRY_AFTER);
    answers.busy_for = busy_for.unwrap_or(answers.busy_for);
    section.finish();
    answers
}

fn read_observe(section: &Section<'_>) -> Observe {
    let default = Observe::default();
    let time = |key, least, otherwise| section.duration_within(key, least..=DAY).unwrap_or(otherwise);
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
        let problem =
            format!("max_ejection_time ({most:?}) is less than base_ejection_time ({base:?}): give as much or more");
        section.fault_of(&["max_ejection_time", "base_ejection_time"], &problem);
    }
    section.finish();
    observe
}

/// The table switches it on.
fn read_damping(section: &Section<'_>) -> Option<Damping> {
    let default = Damping::default();
    let damping = Damping {
        half_life: section.duration_within("half_life", SECOND..=DAY).unwrap_or(default.half_life),
        suppress: count(section, "suppress", 1..=1_000_000, default.suppress),
        reuse: count(section, "reuse", 1..=1_000_000, default.reuse),
    };
    let Damping { suppress, reuse, .. } = damping;
    if reuse >= suppress {
        let problem = format!("reuse ({reuse}) is not below suppress ({suppress}): give less");
        section.fault_of(&["reuse", "suppress"], &problem);
    }
    if f64::from(suppress) >= damping.most() {
        let problem = format!(
            "suppress ({suppress}) is never exceeded: no penalty is more than 4096 times reuse ({reuse}): give less"
        );
        section.fault_of(&["suppress", "reuse"], &problem);
    }
    section.finish();
    section.is_present().then_some(damping)
}

/// The table switches it on.
fn read_slow_start(section: &Section<'_>) -> Option<SlowStart> {
    let default = SlowStart::default();
    let slow_start = SlowStart {
        window: section.duration_within("window", SECOND..=DAY).unwrap_or(default.window),
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
        mode: section.word("mode", &modes).unwrap_or(default.mode),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{faults, policy};

    #[test]
    fn damping_that_no_penalty_could_reach_is_told() {
        let text = |suppress| format!("[[set]]\nid = 19\n[set.damping]\nreuse = 2\nsuppress = {suppress}\n");
        let told = "5: set 19.damping: suppress (8192) is never exceeded: no penalty is more than 4096 times reuse (2): give less";
        assert_eq!(faults(&text(8192)), [told]);
        let damping = policy("[set.damping]\nreuse = 2\nsuppress = 8191\n").judgement.damping;
        assert_eq!(damping.map(|damping| damping.suppress), Some(8191));
    }

    #[test]
    fn every_key_is_read() {
        let policy = policy(
            r#"
            [set.answers]
            alive = ["404"]
            busy = "6xx"
            fall = ["4xx", "603"]
            neutral = ["500"]
            busy_for = "9s"
            [set.observe]
            enabled = false
            consecutive_failures = 7
            failure_percentage_threshold = 60
            failure_percentage_request_volume = 9
            interval = "1m"
            base_ejection_time = "2s"
            max_ejection_time = "3m"
            max_ejection_percent = 50
            [set.panic]
            threshold = 40
            mode = "last_known_good"
            [set.damping]
            half_life = "2m"
            suppress = 2500
            reuse = 800
            [set.slow_start]
            window = "30s"
            aggression = 2
            min_weight_percent = 5
            "#,
        );
        let answers = &policy.judgement.answers;
        let meanings = [404, 403, 486, 600, 603, 500, 503, 200].map(|code| answers.meaning(code));
        use Meaning::{Alive, Busy, Fall, Neutral};
        assert_eq!(meanings, [Alive, Fall, Fall, Busy, Fall, Neutral, Fall, Alive]);
        assert_eq!(answers.busy_for, SECOND * 9);
        let observe = Observe {
            enabled: false,
            consecutive_failures: 7,
            failure_percentage_threshold: 60,
            failure_percentage_request_volume: 9,
            interval: SECOND * 60,
            base_ejection_time: SECOND * 2,
            max_ejection_time: SECOND * 180,
            max_ejection_percent: 50,
        };
        assert_eq!(policy.judgement.observe, observe);
        assert_eq!(policy.panic, Panic { threshold: 40, mode: PanicMode::LastKnownGood });
        assert_eq!(policy.judgement.damping, Some(Damping { half_life: SECOND * 120, suppress: 2500, reuse: 800 }));
        let slow = SlowStart { window: SECOND * 30, aggression: 2.0, min_weight_percent: 5 };
        assert_eq!(policy.judgement.slow_start, Some(slow));
    }

    #[test]
    fn what_is_not_given_is_the_engines_default_and_a_table_alone_switches_on() {
        let bare = policy("");
        assert_eq!((bare.judgement, bare.panic), (Judgement::default(), Panic::default()));
        let on = policy("[set.damping]\n[set.slow_start]\n").judgement;
        assert_eq!((on.damping, on.slow_start), (Some(Damping::default()), Some(SlowStart::default())));
    }

    #[test]
    fn every_fault_is_told_with_line_value_and_remedy() {
        let faults = faults(
            r#"[[set]]
id = 19
[set.answers]
alive = ["404", "1xx"]
busy = ["404", "486", "486"]
busy_for = "10m"
[set.observe]
consecutive_failures = 0
failure_percentage_threshold = 101
base_ejection_time = "2m"
max_ejection_percent = 0
error_limit = 3
[set.panic]
threshold = "half"
mode = "some"
[set.damping]
half_life = "0s"
suppress = 1500
reuse = 1500
[set.slow_start]
window = "48h"
aggression = "fast"
min_weight_percent = 0
[health]
state_ttl = "0s"
"#,
        );
        let wanted = [
            "4: set 19.answers.alive is \"1xx\": give a code from 200 to 699, or a class as 5xx",
            "5: set 19.answers.busy is \"404\": it is in alive too: give it in one of them",
            "5: set 19.answers.busy is \"486\": it stands there twice: give it once",
            "6: set 19.answers.busy_for is \"10m\": give 1s to 300s",
            "8: set 19.observe.consecutive_failures is 0: give a whole number from 1 to 1000000",
            "9: set 19.observe.failure_percentage_threshold is 101: give a whole number from 0 to 100",
            "10: set 19.observe: max_ejection_time (60s) is less than base_ejection_time (120s): give as much or more",
            "11: set 19.observe.max_ejection_percent is 0: give a whole number from 1 to 100",
            "12: set 19.observe.error_limit is no known key: give one of enabled, consecutive_failures, \
             failure_percentage_threshold, failure_percentage_request_volume, interval, base_ejection_time, \
             max_ejection_time, max_ejection_percent",
            "14: set 19.panic.threshold is \"half\": give a whole number from 0 to 100",
            "15: set 19.panic.mode is \"some\": give one of all, last_known_good, fail",
            "17: set 19.damping.half_life is \"0s\": give 1s to 86400s",
            "19: set 19.damping: reuse (1500) is not below suppress (1500): give less",
            "21: set 19.slow_start.window is \"48h\": give 1s to 86400s",
            "22: set 19.slow_start.aggression is \"fast\": give a number from 0.1 to 10",
            "23: set 19.slow_start.min_weight_percent is 0: give a whole number from 1 to 100",
            "25: health.state_ttl is \"0s\": give 1s or more",
        ];
        assert_eq!(faults, wanted);
    }
}
