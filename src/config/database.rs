//! `[database]` and `[[partition]]`: where the sets are, and what a change of them may do.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;

use super::reader::Section;
use super::values::duration;
pub use crate::edge::store::Database;
use crate::edge::store::{Kind, Schema, Strictness, TableOptions, faults, has_password};

/// More sets, from a source of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its name; `default` is that of `[database]`.
    pub name: String,
    /// What is added to the numbers of its sets.
    pub set_offset: u32,
    /// Where they are.
    pub database: Database,
}

/// The name of what `[database]` names.
const DEFAULT: &str = "default";
/// A source that is looked at more often would do nothing else.
const LEAST_POLL: Duration = Duration::from_millis(100);

pub(super) fn read(section: &Section<'_>, base: &Path) -> Database {
    let database = read_keys(section, base);
    section.finish();
    database
}

pub(super) fn read_partitions(root: &Section<'_>, base: &Path) -> Vec<Partition> {
    let mut names = HashSet::from([DEFAULT.to_owned()]);
    let mut offsets = HashSet::from([0]);
    let mut partitions = Vec::new();
    for mut section in root.sections("partition") {
        let name = section.text("name", "a name", partition_name).unwrap_or_default();
        if !name.is_empty() {
            section.rename(format!("partition {name:?}"));
        }
        if !section.has("name") {
            section.fault("it has no name: give one, as name = \"asr\"");
        } else if !name.is_empty() && !names.insert(name.clone()) {
            section.fault_at("name", "another partition has it too, and \"default\" is [database]: give another");
        }
        let offset = section.number("set_offset", 1..=i64::from(i32::MAX));
        let set_offset = offset.map_or(0, |offset| offset as u32);
        if !section.has("set_offset") {
            section.fault("it has no set_offset: give a number above those of all other sets, as set_offset = 1000");
        } else if set_offset != 0 && !offsets.insert(set_offset) {
            section.fault_at("set_offset", &format!("it is {set_offset}, another partition's too: give another"));
        }
        if !section.has("url") {
            section.fault("it has no url: give one, as url = \"sqlite:asr.db\"");
        }
        let database = read_keys(&section, base);
        section.finish();
        partitions.push(Partition { name, set_offset, database });
    }
    partitions
}

/// It names files too.
fn partition_name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match !text.is_empty() && text.chars().all(fits) {
        true => Ok(text.to_owned()),
        false => Err("give a name of letters, digits, _ and -, as asr".to_owned()),
    }
}

/// What both tables have in common.
fn read_keys(section: &Section<'_>, base: &Path) -> Database {
    let url = section.text("url", "a URL", |text| Ok(text.to_owned())).unwrap_or_else(|| "sqlite:tandem.db".into());
    let kind = Kind::of(&url);
    let default = Database::of(url);
    let schemas = Schema::ALL.map(|schema| (schema.name(), schema));
    let schema = section.word("schema", &schemas).unwrap_or_default();
    let poll_intervals = format!("a length of time, {LEAST_POLL:?} or more, or \"off\"");
    let poll_interval = |text: &str| match text {
        "off" => Ok(None),
        _ => match duration(text)? {
            interval if interval >= LEAST_POLL => Ok(Some(interval)),
            _ => Err(format!("give {LEAST_POLL:?} or more, or off")),
        },
    };
    let count = |key, most, otherwise| section.number(key, 1..=most).unwrap_or(otherwise);
    let database = Database {
        password_file: section.file("password_file", base, "database.password"),
        schema,
        table: read_table(section, schema),
        strictness: match section.flag("lenient") {
            Some(true) => Strictness::Lenient,
            Some(false) | None => Strictness::Strict,
        },
        timeout: section.duration_within("timeout", LEAST_POLL..=Duration::from_secs(60)).unwrap_or(default.timeout),
        poll_interval: section.text("poll_interval", &poll_intervals, poll_interval).unwrap_or(default.poll_interval),
        listen: section.text("listen", "a name in SQL", identifier),
        allow_empty: section.flag("allow_empty").unwrap_or(default.allow_empty),
        max_removed_percent: count("max_removed_percent", 100, i64::from(default.max_removed_percent)) as u8,
        keep_versions: count("keep_versions", 1000, default.keep_versions as i64) as usize,
        persist_state: section.word("persist_state", &[("off", false), ("opensips", true)]).unwrap_or_default(),
        ..default
    };
    for (key, problem) in faults(&database, base) {
        section.fault_at(key, &problem);
    }
    if kind.is_some_and(Kind::is_server) && has_password(&database.url) {
        section.secret_at("url", "a password", "give password_file");
    }
    if kind.is_some_and(Kind::is_file) {
        for key in ["schema", "table", "version_table", "columns"].into_iter().filter(|key| section.has(key)) {
            section.fault_at(key, "the url names a file, which has a form of its own: drop it");
        }
    }
    let has_state = schema == Schema::OpenSips && !kind.is_some_and(Kind::is_file);
    if database.persist_state && !has_state {
        let problem = "it is \"opensips\", and only OpenSIPS's dispatcher has such a column: give off";
        section.fault_at("persist_state", problem);
    }
    database
}

fn read_table(section: &Section<'_>, schema: Schema) -> TableOptions {
    let default = TableOptions::of(schema);
    let inner = section.section("columns");
    let columns: BTreeMap<_, _> = inner.entries("a name in SQL", identifier).into_iter().collect();
    for column in columns.keys().filter(|column| !schema.columns().any(|known| known == column.as_str())) {
        let known: Vec<_> = schema.columns().collect();
        inner.fault_at(
            column,
            &format!("it is no column of schema {:?}: give one of {}", schema.name(), known.join(", ")),
        );
    }
    TableOptions {
        table: section.text("table", "a name in SQL", identifier).unwrap_or(default.table),
        version_table: section.text("version_table", "a name in SQL", identifier).unwrap_or(default.version_table),
        columns,
    }
}

/// A name that stands in SQL.
fn identifier(text: &str) -> Result<String, String> {
    match text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !text.is_empty() {
        true => Ok(text.to_owned()),
        false => Err("give a name of letters, digits and _, as dispatcher".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{faults, parse};
    use super::*;

    const LISTENER: &str = "[[listener]]\nbind = \"udp:127.0.0.1:8060\"\n";

    fn of(text: &str) -> Database {
        parse(&format!("{LISTENER}{text}")).expect("valid").database
    }

    #[test]
    fn every_key_is_read() {
        let database = of(r#"
            [database]
            url = "postgres://tandem@db/opensips?sslmode=verify-full&sslrootcert=ca.pem"
            password_file = "secret"
            table = "dp"
            version_table = "v"
            lenient = true
            timeout = "2s"
            poll_interval = "off"
            listen = "tandem"
            allow_empty = true
            max_removed_percent = 10
            keep_versions = 3
            persist_state = "opensips"
            [database.columns]
            destination = "uri"
            id = "number"
            "#);
        assert_eq!((database.schema, database.strictness), (Schema::OpenSips, Strictness::Lenient));
        assert_eq!((database.table.table.as_str(), database.table.version_table.as_str()), ("dp", "v"));
        let columns: Vec<_> = database.table.columns.iter().map(|(own, here)| (own.as_str(), here.as_str())).collect();
        assert_eq!(columns, [("destination", "uri"), ("id", "number")]);
        assert_eq!((database.timeout, database.poll_interval), (Duration::from_secs(2), None));
        assert_eq!((database.listen.as_deref(), database.allow_empty), (Some("tandem"), true));
        let counts = (database.max_removed_percent, database.keep_versions, database.persist_state);
        assert_eq!(counts, (10, 3, true));
        assert_eq!(database.password_file, Some("/base/secret".into()));
    }

    #[test]
    fn a_source_s_kind_has_its_own_defaults() {
        assert_eq!(of(""), Database::of("sqlite:tandem.db"));
        assert_eq!(of("").poll_interval, Some(Duration::from_secs(5)));
        assert_eq!(of("[database]\nurl = \"toml:sets.toml\"\n").poll_interval, Some(Duration::from_secs(1)));
        assert_eq!(of("[database]\nschema = \"load_balancer\"\n").table.table, "load_balancer");
    }

    #[test]
    fn all_faults_come_at_once_with_line_and_remedy_and_without_a_password() {
        let told = faults(
            "[database]\nurl = \"mysql://u:secret@/db?ssl-mode=on\"\npassword_file = \"p\"\nschema = \"asterisk\"\n\
             table = \"a b\"\ntimeout = \"2m\"\npoll_interval = \"1ms\"\nlisten = \"x\"\nmax_removed_percent = 0\n\
             persist_state = \"yes\"\n[database.columns]\nuri = \"x\"\nstate = \"y z\"\n",
        );
        let words = [
            "2: database.url: it names no host",
            "2: database.url: its ssl-mode is \"on\"",
            "3: database.password_file: the url holds a password too",
            "4: database.schema is \"asterisk\": give one of opensips, load_balancer, kamailio",
            "5: database.table is \"a b\"",
            "6: database.timeout is \"2m\"",
            "7: database.poll_interval is \"1ms\": give 100ms or more, or off",
            "8: database.listen: it is \"x\", and PostgreSQL alone",
            "9: database.max_removed_percent is 0: give a whole number from 1 to 100",
            "10: database.persist_state is \"yes\": give one of off, opensips",
            "12: database.columns.uri: it is no column of schema \"opensips\": give one of id, setid",
            "13: database.columns.state is \"y z\"",
        ];
        assert_eq!(told.len(), words.len(), "{told:#?}");
        for (told, words) in told.iter().zip(words) {
            assert!(told.starts_with(words) && !told.contains("secret"), "{told}");
        }
    }

    #[test]
    fn what_a_source_does_not_have_is_refused() {
        for bad in ["sqlite::memory:", "sqlite:a.db?mode=ro", "oracle:x"] {
            let faults = faults(&format!("[database]\nurl = \"{bad}\"\n"));
            assert!(faults.len() == 1 && faults[0].starts_with("2: database.url"), "{faults:?}");
        }
        let told = faults("[database]\nurl = \"list:d\"\nschema = \"kamailio\"\npersist_state = \"opensips\"\n");
        assert!(told[0].starts_with("3: database.schema: the url names a file"), "{told:?}");
        assert!(told[1].starts_with("4: database.persist_state: it is \"opensips\""), "{told:?}");
    }

    #[test]
    fn partitions_have_names_and_numbers_of_their_own() {
        let text = "[[partition]]\nname = \"asr\"\nset_offset = 1000\nurl = \"toml:asr.toml\"\n";
        let config = parse(&format!("{LISTENER}{text}")).expect("valid");
        let database = Database::of("toml:asr.toml");
        assert_eq!(config.partitions, [Partition { name: "asr".to_owned(), set_offset: 1000, database }]);
        let told = faults(&format!(
            "{text}[[partition]]\nname = \"asr\"\nset_offset = 1000\n[[partition]]\nname = \"default\"\n\
             set_offset = 0\nurl = \"what\"\n[[partition]]\nurl = \"sqlite:x.db\"\n"
        ));
        let words = [
            "5: partition \"asr\": it has no url",
            "6: partition \"asr\".name: another partition has it too",
            "7: partition \"asr\".set_offset: it is 1000, another partition's too",
            "9: partition \"default\".name: another",
            "10: partition \"default\".set_offset is 0: give a whole number from 1",
            "11: partition \"default\".url: it begins with \"what\"",
            "12: partition: it has no name",
            "12: partition: it has no set_offset",
        ];
        assert_eq!(told.len(), words.len(), "{told:#?}");
        for (told, words) in told.iter().zip(words) {
            assert!(told.starts_with(words), "{told}");
        }
    }
}
