//! docs/configuration.md tells every key of the configuration as the code reads it and as config/tandem.toml explains it; and
//! what that file shows is true.

use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fs};

use tandem::config::{Config, Key, Takes, keys};

use crate::scratch::Folder;

#[path = "configuration/page.rs"]
mod page;
#[path = "configuration/shown.rs"]
mod shown;

use self::shown::{Entry, Shown, Table};

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/tandem.toml");
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
/// With this in the environment the tables of the page are written anew instead.
const WRITE: &str = "TANDEM_WRITE_CONFIGURATION";
/// Tables that take the keys of another too, which are explained there.
const ALSO: [(&str, &str); 6] = [
    ("partition", "database"),
    // What only PostgreSQL has is shown where there is one.
    ("database", "partition"),
    ("set.probe.tcp", "set.probe"),
    ("set.probe.http", "set.probe"),
    ("set.destination.probe", "set.probe"),
    ("set.destination.agent", "set.agent"),
];

/// The keys as the code asks for them, and the file that explains them.
struct Reference {
    keys: Vec<Key>,
    shown: Shown,
}

type Standings = BTreeMap<usize, Standing>;

/// What is so without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// As with the value that is shown.
    Default,
    /// Something else.
    Example,
    /// A fault: it has to be given.
    Required,
}

impl Reference {
    fn new() -> Self {
        let shown = Shown::read(&fs::read_to_string(SHIPPED).expect("it is there"));
        Reference { keys: keys(), shown }
    }

    /// The key of the code that an entry of the file is.
    fn key(&self, table: &str, name: &str) -> Option<&Key> {
        let found = |name: &str| self.keys.iter().find(|key| key.table == table && key.name == name);
        found(name).or_else(|| found("*"))
    }

    fn takes(&self, table: &str, name: &str) -> Option<&Takes> {
        self.keys.iter().find(|key| key.table == table && key.name == name).map(|key| &key.takes)
    }

    /// The keys of a table, in the order in which the code asks for them.
    fn of<'r>(&'r self, table: &'r str) -> impl Iterator<Item = &'r Key> {
        self.keys.iter().filter(move |key| key.table == table)
    }

    /// Whether the file explains the key: where it stands, within the line of its table, or in the table whose keys this
    /// one takes too.
    fn explains(&self, key: &Key) -> bool {
        self.explains_within(key, ALSO.len())
    }

    /// The same by so many tables at most that take each other's keys.
    fn explains_within(&self, key: &Key, steps: usize) -> bool {
        let (table, name) = (key.table.as_str(), key.name.as_str());
        let own = self.shown.table(table);
        let is_entry = |entry: &Entry| name == "*" || entry.key == name;
        let path = dotted(table, name);
        own.is_some_and(|own| own.entries.iter().any(is_entry))
            || self.shown.table(&path).is_some()
            || self.is_within(table, name)
            || also(table).is_some_and(|(inner, other)| {
                let there = Key { table: format!("{other}{inner}"), name: name.to_owned(), takes: key.takes.clone() };
                steps > 0 && self.keys.contains(&there) && self.explains_within(&there, steps - 1)
            })
    }

    /// Whether an inline table's line names the key.
    fn is_within(&self, table: &str, name: &str) -> bool {
        let Some((outer, inner)) = table.rsplit_once('.') else { return false };
        let Some(outer) = self.shown.table(outer) else { return false };
        let mut lines = outer.entries.iter().filter(|entry| inner == "*" || entry.key == inner);
        lines.any(|entry| name == "*" || has_word(&entry.value, name) || has_word(&entry.comment, name))
    }
}

/// The table whose keys this one takes too, and where within it.
fn also(table: &str) -> Option<(&str, &'static str)> {
    let within = |(this, other): (&str, &'static str)| {
        let inner = table.strip_prefix(this)?;
        (inner.is_empty() || inner.starts_with('.')).then_some((inner, other))
    };
    ALSO.into_iter().find_map(within)
}

fn dotted(table: &str, name: &str) -> String {
    if table.is_empty() { name.to_owned() } else { format!("{table}.{name}") }
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|one| one == word)
}

/// What is so without each key of the file, by its line.
fn standings(shown: &Shown) -> Standings {
    let folder = files();
    let parse = |text: &str| Config::parse("config/tandem.toml", text, folder.path());
    let alone = |table: &Table, entry: Option<&Entry>| parse(&shown.toml_alone(table, entry)).ok();
    let all = parse(&shown.toml()).unwrap_or_else(|faults| panic!("what stands behind a # is not valid:\n{faults}"));
    let standing = |table: &Table, entry: &Entry| {
        let Entry { line, key, .. } = entry;
        let with = parse(&shown.toml_with(entry));
        let with = with.unwrap_or_else(|faults| panic!("{key} is not valid where it stands: {faults}"));
        if !entry.instead_of().is_empty() {
            assert_ne!(with, all, "config/tandem.toml:{line}: {key} does nothing");
            return Standing::Example;
        }
        match parse(&shown.toml_without(entry)) {
            Ok(without) if without == with => Standing::Default,
            // Keys of one table may change what the others mean.
            Ok(_) if alone(table, Some(entry)).is_some_and(|with| alone(table, None) == Some(with)) => {
                Standing::Default
            }
            // What needs it too is no reason to give it.
            Err(_) if entry.default().is_none() => Standing::Required,
            Ok(_) | Err(_) => Standing::Example,
        }
    };
    let entries = shown.tables.iter().flat_map(|table| table.entries.iter().map(move |entry| (table, entry)));
    entries.map(|(table, entry)| (entry.line, standing(table, entry))).collect()
}

/// The files that the examples name and that are looked at.
fn files() -> Folder {
    let folder = Folder::new();
    for (name, file) in
        [("node.pem", "node.pem"), ("node.key", "node.key"), ("clients.pem", "ca.pem"), ("ca.pem", "ca.pem")]
    {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(file);
        folder.write_secret(name, &fs::read_to_string(from).expect("it is there"));
    }
    for name in ["alice.token", "gossip.key", "webhook.secret"] {
        folder.write_secret(name, &"5a".repeat(32));
    }
    folder.write_secret("hep.password", "a secret");
    folder
}

#[test]
fn every_key_that_the_code_asks_for_is_explained_and_every_one_that_is_explained_is_asked_for() {
    let reference = Reference::new();
    let mut faults = Vec::new();
    for key in reference.keys.iter().filter(|key| !reference.explains(key)) {
        let Key { table, name, .. } = key;
        faults.push(match key.takes {
            Takes::Value(_) => format!(
                "the code asks for {name} of [{table}], which config/tandem.toml lacks: show it there, as \
                 `# {name} = DEFAULT   # what it is`"
            ),
            Takes::Table => format!(
                "the code asks for the table [{}], which config/tandem.toml lacks: show it there, with a line before it \
                 that says what it is for",
                dotted(table, name)
            ),
            Takes::Tables => format!(
                "the code asks for [[{}]], which config/tandem.toml lacks: show one there, with a line before it that says \
                 what it is for",
                dotted(table, name)
            ),
        });
    }
    let mut seen = Vec::new();
    for table in &reference.shown.tables {
        let (outer, name) = table.name.rsplit_once('.').unwrap_or(("", &table.name));
        let takes = if table.is_list { Takes::Tables } else { Takes::Table };
        let is_known = table.name.is_empty() || reference.takes(outer, name) == Some(&takes);
        if !is_known {
            faults.push(format!("config/tandem.toml shows {}, which the code never asks for: drop it", table.title()));
            continue;
        }
        let is_first = !seen.contains(&&table.name);
        seen.push(&table.name);
        if is_first && table.entries.is_empty() {
            faults.push(format!("config/tandem.toml shows no key of {}: show all that it may have", table.title()));
        }
        for entry in &table.entries {
            let Entry { line, key, .. } = entry;
            if reference.key(&table.name, key).is_none() {
                faults.push(format!(
                    "config/tandem.toml:{line}: {key} of {} is nothing that the code asks for: drop it",
                    table.title()
                ));
            } else if is_first && entry.meaning().is_empty() {
                faults.push(format!("config/tandem.toml:{line}: {key} has no meaning: say behind it what it is"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn what_the_file_shows_is_the_default_unless_it_says_so() {
    let reference = Reference::new();
    let standings = standings(&reference.shown);
    let mut faults = Vec::new();
    for table in &reference.shown.tables {
        for entry in &table.entries {
            let Entry { line, key, value, .. } = entry;
            let is_own = reference.takes(&table.name, key).is_none();
            match (standings[line], entry.default()) {
                (Standing::Example, None) if !is_own && entry.instead_of().is_empty() => faults.push(format!(
                    "config/tandem.toml:{line}: {key} = {value} is not the default: show what the code has, or say what it is in \
                     words at the end of the comment, as `default: none`"
                )),
                (Standing::Default, Some(default)) => faults.push(format!(
                    "config/tandem.toml:{line}: {key} = {value} is the default: drop `default: {default}`, or show another value"
                )),
                (Standing::Default | Standing::Example | Standing::Required, _) => {}
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_reference_of_the_configuration_is_complete() {
    let text = fs::read_to_string(PAGE).expect("it is there");
    let begins = text.find(page::BEGINS).expect("the list of tables");
    let (head, told) = text.split_at(begins);
    let reference = Reference::new();
    let right = page::write(&reference, &standings(&reference.shown));
    if env::var_os(WRITE).is_some() {
        fs::write(PAGE, [head, &right].concat()).expect("it can be written");
        return;
    }
    let lacks = |here: &str, there: &str| -> Vec<String> {
        here.lines().filter(|line| !there.lines().any(|one| one == *line)).map(str::to_owned).collect()
    };
    assert!(
        told == right,
        "docs/configuration.md is not what the code and config/tandem.toml say: run {WRITE}=1 cargo test --test server \
         reference_of_the_configuration\nmissing: {:#?}\nsurplus: {:#?}",
        lacks(&right, told),
        lacks(told, &right)
    );
}
