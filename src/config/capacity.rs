//! `[set.capacity]`: how much the destinations of a set may be given, and what becomes of calls beyond it.

use super::reader::Section;
use super::rules::read_reply;
use super::values;
use crate::engine::dispatch::{Attrs, Capacity, ResourceClass, SetId};
use crate::engine::sip::Resources;

/// Reads `[set.capacity]`.
pub(super) fn read(section: &Section<'_>, set: SetId) -> Capacity {
    let default = Capacity::default();
    let overflow = section.number("overflow", 0..=i64::from(i32::MAX)).map(|number| SetId(number as u32));
    if overflow == Some(set) {
        section.fault_at("overflow", "it is this set itself: give another one's id");
    }
    let capacity = Capacity {
        max_sessions: read_sessions(section),
        max_cps: section.number("max_cps", 1..=1_000_000).map(|number| number as u32),
        attr: read_attr(section, "attr", "pstn for pstn=100"),
        resources: read_resources(&section.section("resources")),
        set_max_sessions: section.number("set_max_sessions", 0..=i64::from(u32::MAX)).map(|number| number as u64),
        overflow,
        busy_reply: read_reply(&section.section("busy_reply"), default.busy_reply),
    };
    section.finish();
    capacity
}

fn read_sessions(section: &Section<'_>) -> Option<u32> {
    section.number("max_sessions", 0..=i64::from(u32::MAX)).map(|number| number as u32)
}

fn read_attr(section: &Section<'_>, key: &'static str, example: &str) -> Option<String> {
    section.text(key, "a name in attrs", |text| {
        match text.is_empty() || text.contains(|c: char| c.is_whitespace() || "=;,".contains(c)) {
            true => Err(format!("give the name of a number in attrs, as {example}")),
            false => Ok(text.to_owned()),
        }
    })
}

/// Reads `[set.capacity.resources]`, whose keys are the operator's names of classes.
fn read_resources(section: &Section<'_>) -> Vec<ResourceClass> {
    section.own_sections().into_iter().map(|(name, class)| read_class(name, &class)).collect()
}

fn read_class(name: &str, section: &Section<'_>) -> ResourceClass {
    if let Err(remedy) = values::token(name) {
        section.fault(&format!("it is no name of a class: {remedy}"));
    }
    let resource =
        |text: &str| Resources::named(text).ok_or_else(|| format!("give some of {}", Resources::NAMES.join(", ")));
    let given = section.texts("resources", "an MRCP resource", resource);
    let resources = given.into_iter().flatten().reduce(Resources::and).or_else(|| ResourceClass::known(name));
    if resources.is_none() && !section.has("resources") {
        let known: Vec<_> = ResourceClass::KNOWN.iter().map(|(known, _)| *known).collect();
        section.fault(&format!(
            "nobody knows what it stands for: give resources = [\"speechsynth\"], or name it {}",
            known.join(", ")
        ));
    }
    let class = ResourceClass {
        name: name.into(),
        resources: resources.unwrap_or_default(),
        max_sessions: read_sessions(section),
        attr: read_attr(section, "attr", "asr for asr=20"),
    };
    if !section.has("max_sessions") && !section.has("attr") {
        section.fault("it limits nothing: give max_sessions, or attr for the number in attrs");
    }
    section.finish();
    class
}

/// Reads `[set.attrs]`: the names in the `attrs` column that take a column's place.
pub(super) fn read_attrs(section: &Section<'_>) -> Attrs {
    let attrs = Attrs {
        weight: read_attr(section, "weight", "rweight for rweight=50"),
        name: read_attr(section, "name", "duid for duid=srv1"),
    };
    section.finish();
    attrs
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
            [set.capacity.resources]
            tts = { max_sessions = 80 }
            asr = { attr = "asr" }
            voices = { resources = ["basicsynth", "recorder"], max_sessions = 9, attr = "voices" }
            "#,
        );
        let named = |names: &[&str]| names.iter().filter_map(|name| Resources::named(name)).reduce(Resources::and);
        let class = |name: &str, resources: &[&str], max_sessions, attr: Option<&str>| ResourceClass {
            name: name.into(),
            resources: named(resources).expect("resources"),
            max_sessions,
            attr: attr.map(str::to_owned),
        };
        let capacity = Capacity {
            max_sessions: Some(100),
            max_cps: Some(20),
            attr: Some("pstn".into()),
            resources: vec![
                class("tts", &["speechsynth", "basicsynth"], Some(80), None),
                class("asr", &["speechrecog", "dtmfrecog"], None, Some("asr")),
                class("voices", &["basicsynth", "recorder"], Some(9), Some("voices")),
            ],
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

    #[test]
    fn every_fault_of_a_class_is_told_with_line_value_and_remedy() {
        let told = faults(
            r#"[[set]]
id = 19
[set.capacity.resources]
tts = 80
asr = { }
gold = { max_sessions = 1 }
fast = { resources = ["speechsynth", "speech"], max_sessions = -1 }
rec = { attr = "rec=", limit = 3 }
"my rec" = { resources = "recorder", max_sessions = 1 }
verify.resources = "speakverify"
"#,
        );
        let of = "set 19.capacity.resources";
        let number = "give a whole number from 0 to 4294967295";
        let wanted = [
            format!("4: {of}.tts is 80: give a table, as {{ max_sessions = 80 }}"),
            format!("5: {of}.asr: it limits nothing: give max_sessions, or attr for the number in attrs"),
            format!(
                "6: {of}.gold: nobody knows what it stands for: give resources = [\"speechsynth\"], or name it tts, asr, rec, verify"
            ),
            format!(
                "7: {of}.fast.resources is \"speech\": give some of speechsynth, basicsynth, speechrecog, dtmfrecog, recorder, speakverify"
            ),
            format!("7: {of}.fast.max_sessions is -1: {number}"),
            format!("8: {of}.rec.attr is \"rec=\": give the name of a number in attrs, as asr for asr=20"),
            format!("8: {of}.rec.limit is no known key: give one of resources, max_sessions, attr"),
            format!("9: {of}.my rec: it is no name of a class: give letters, digits and -.!%*_+`'~ only"),
            format!("10: {of}.verify: it limits nothing: give max_sessions, or attr for the number in attrs"),
        ];
        assert_eq!(told, wanted);
    }

    #[test]
    fn classes_are_tables_of_their_own_too() {
        let of = |text: &str| policy(text).capacity.resources;
        let inline = of("[set.capacity.resources]\ntts = { max_sessions = 80 }");
        assert_eq!(of("[set.capacity.resources.tts]\nmax_sessions = 80"), inline);
        assert_eq!(of("[set.capacity]\nresources.tts.max_sessions = 80"), inline);
        assert_eq!(of("[set.capacity]\nmax_sessions = 80"), []);
    }
}
