//! `[set.capacity]`: how much the destinations of a set may be given, and what becomes of calls beyond it.

use super::reader::Section;
use super::rules::read_reply;
use crate::engine::dispatch::{Capacity, SetId};

/// Reads `[set.capacity]`.
pub(super) fn read(section: &Section<'_>, set: SetId) -> Capacity {
    let default = Capacity::default();
    let attr = |text: &str| match text.is_empty() || text.contains(|c: char| c.is_whitespace() || "=;,".contains(c)) {
        true => Err("give the name of a number in attrs, as pstn for pstn=100".to_owned()),
        false => Ok(text.to_owned()),
    };
    let count = |key| section.number(key, 0..=i64::from(u32::MAX)).map(|number| number as u32);
    let overflow = section.number("overflow", 0..=i64::from(i32::MAX)).map(|number| SetId(number as u32));
    if overflow == Some(set) {
        section.fault_at("overflow", "it is this set itself: give another one's id");
    }
    let capacity = Capacity {
        max_sessions: count("max_sessions"),
        max_cps: section.number("max_cps", 1..=1_000_000).map(|number| number as u32),
        attr: section.text("attr", attr),
        set_max_sessions: section.number("set_max_sessions", 0..=i64::from(u32::MAX)).map(|number| number as u64),
        overflow,
        busy_reply: read_reply(&section.section("busy_reply"), default.busy_reply),
    };
    section.finish();
    capacity
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{faults, policy};
    use crate::engine::sip::Reply;

    #[test]
    fn every_key_is_read() {
        let policy = policy(
            r#"
            algorithm = "least_load"
            [set.capacity]
            max_sessions = 100
            max_cps = 20
            attr = "pstn"
            set_max_sessions = 150
            overflow = 20
            busy_reply = { status = 600, reason = "Busy Everywhere" }
            "#,
        );
        let capacity = Capacity {
            max_sessions: Some(100),
            max_cps: Some(20),
            attr: Some("pstn".into()),
            set_max_sessions: Some(150),
            overflow: Some(SetId(20)),
            busy_reply: Reply::new(600, "Busy Everywhere"),
        };
        assert_eq!((policy.capacity, policy.algorithm.name()), (capacity, "least_load"));
    }

    #[test]
    fn every_fault_is_told() {
        let told = faults(
            "[[set]]\nid = 19\n[set.capacity]\nmax_sessions = -1\nmax_cps = 0\nattr = \"pstn=\"\noverflow = 19\nlimit = 3",
        );
        assert_eq!(told.len(), 5, "{told:?}");
        for word in ["max_sessions", "max_cps", "attr", "overflow", "limit"] {
            assert!(told.iter().any(|fault| fault.contains(word)), "{word}: {told:?}");
        }
    }
}
