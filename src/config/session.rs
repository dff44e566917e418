//! `[set.session]`: what holds for the sessions of a set once they are set up.

use std::time::Duration;

use super::health::DAY;
use super::reader::Section;
use crate::engine::dispatch::{AtMaxDuration, OnDown, Ping, PingLegs, PingMethod, SessionPolicy};

const SECOND: Duration = Duration::from_secs(1);
/// The longest that `max_duration` may be: what is longer is a slip of the pen.
const MONTH: Duration = DAY.saturating_mul(31);

/// Reads `[set.session]`.
pub(super) fn read(section: &Section<'_>) -> SessionPolicy {
    let default = SessionPolicy::default();
    let at_max_duration = [("bye", AtMaxDuration::Bye), ("silent", AtMaxDuration::Silent)];
    let on_down = [("keep", OnDown::Keep), ("bye", OnDown::Bye)];
    let policy = SessionPolicy {
        max_duration: section.duration_within("max_duration", SECOND..=MONTH),
        at_max_duration: section.word("at_max_duration", &at_max_duration).unwrap_or(default.at_max_duration),
        timer_grace: section.duration_within("timer_grace", Duration::ZERO..=DAY).unwrap_or(default.timer_grace),
        on_down: section.word("on_down", &on_down).unwrap_or(default.on_down),
        bye_rate: section.number("bye_rate", 1..=1_000_000).map_or(default.bye_rate, |number| number as u32),
        ping: read_ping(&section.section("ping")),
    };
    section.finish();
    policy
}

/// The table switches it on.
fn read_ping(section: &Section<'_>) -> Option<Ping> {
    let default = Ping::default();
    let methods = [("OPTIONS", PingMethod::Options), ("UPDATE", PingMethod::Update)];
    let legs = [("caller", PingLegs::Caller), ("destination", PingLegs::Destination), ("both", PingLegs::Both)];
    let least = Duration::from_millis(100);
    let ping = Ping {
        method: section.word("method", &methods).unwrap_or(default.method),
        legs: section.word("to", &legs).unwrap_or(default.legs),
        interval: section.duration_within("interval", SECOND..=DAY).unwrap_or(default.interval),
        timeout: section.duration_within("timeout", least..=DAY).unwrap_or(default.timeout),
        fall: section.number("fall", 1..=1000).map_or(default.fall, |number| number as u32),
    };
    let Ping { interval, timeout, .. } = ping;
    if timeout >= interval {
        let problem =
            format!("timeout ({timeout:?}) is not less than interval ({interval:?}): give less, or a longer interval");
        section.fault_of(&["timeout", "interval"], &problem);
    }
    section.finish();
    section.is_present().then_some(ping)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{faults, policy};

    #[test]
    fn every_key_is_read() {
        let policy = policy(
            r#"
            [set.session]
            max_duration = "2h"
            at_max_duration = "silent"
            timer_grace = "0s"
            on_down = "bye"
            bye_rate = 20
            [set.session.ping]
            method = "UPDATE"
            to = "destination"
            interval = "1m"
            timeout = "500ms"
            fall = 1
            "#,
        );
        let ping = Ping {
            method: PingMethod::Update,
            legs: PingLegs::Destination,
            interval: Duration::from_secs(60),
            timeout: Duration::from_millis(500),
            fall: 1,
        };
        let session = SessionPolicy {
            max_duration: Some(Duration::from_secs(7200)),
            at_max_duration: AtMaxDuration::Silent,
            timer_grace: Duration::ZERO,
            on_down: OnDown::Bye,
            bye_rate: 20,
            ping: Some(ping),
        };
        assert_eq!(policy.session, session);
    }

    #[test]
    fn nobody_is_pinged_unless_the_table_is_there() {
        assert_eq!(policy("").session, SessionPolicy::default());
        assert_eq!(policy("[set.session]\n").session.ping, None);
        assert_eq!(policy("[set.session.ping]\n").session.ping, Some(Ping::default()));
        assert_eq!(policy("[set.session]\nping = {}\n").session.ping, Some(Ping::default()));
    }

    #[test]
    fn every_fault_is_told_with_line_value_and_remedy() {
        let told = faults(
            "[[set]]\nid = 19\n[set.session]\nmax_duration = \"0s\"\nat_max_duration = \"BYE\"\ntimer_grace = \"-1s\"\n\
             on_down = \"drop\"\nbye_rate = 0\nidle = 3\n[set.session.ping]\nmethod = \"INFO\"\nto = \"server\"\n\
             interval = \"999ms\"\ntimeout = 5\nfall = 0\nrise = 2",
        );
        let expected = [
            "4: set 19.session.max_duration is \"0s\": give 1s to 2678400s",
            "5: set 19.session.at_max_duration is \"BYE\": give one of bye, silent",
            "6: set 19.session.timer_grace is \"-1s\": give a number and a unit: 500ms, 5s, 3m or 12h",
            "7: set 19.session.on_down is \"drop\": give one of keep, bye",
            "8: set 19.session.bye_rate is 0: give a whole number from 1 to 1000000",
            "9: set 19.session.idle is no known key: give one of max_duration, at_max_duration, timer_grace, on_down, \
             bye_rate, ping",
            "11: set 19.session.ping.method is \"INFO\": give one of OPTIONS, UPDATE",
            "12: set 19.session.ping.to is \"server\": give one of caller, destination, both",
            "13: set 19.session.ping.interval is \"999ms\": give 1s to 86400s",
            "14: set 19.session.ping.timeout is 5: give a string in quotes",
            "15: set 19.session.ping.fall is 0: give a whole number from 1 to 1000",
            "16: set 19.session.ping.rise is no known key: give one of method, to, interval, timeout, fall",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_ping_is_answered_before_the_next_one_is_due() {
        for (text, line, values) in [
            ("timeout = \"30s\"", 4, "timeout (30s) is not less than interval (30s)"),
            ("interval = \"2s\"", 4, "timeout (5s) is not less than interval (2s)"),
            ("interval = \"2s\"\ntimeout = \"3s\"", 5, "timeout (3s) is not less than interval (2s)"),
        ] {
            let told = faults(&format!("[[set]]\nid = 19\n[set.session.ping]\n{text}"));
            let expected = format!("{line}: set 19.session.ping: {values}: give less, or a longer interval");
            assert_eq!(told, [expected]);
        }
    }
}
