//! The tables of docs/configuration.md.

use std::fmt::Write as _;

use tandem::config::{Key, Takes};

use super::shown::{Entry, Table};
use super::{Reference, Standing, Standings, also, dotted};

/// The heading that the written part of the page begins with.
pub(super) const BEGINS: &str = "## Tables\n";
/// The heading of the keys that stand in no table.
const TOP: &str = "At the top";

/// All that stands behind the page's head.
pub(super) fn write(reference: &Reference, standings: &Standings) -> String {
    let tables = &reference.shown.tables;
    let is_first = |nth: usize| tables[..nth].iter().all(|other| other.name != tables[nth].name);
    let firsts: Vec<_> = (0..tables.len()).filter(|nth| is_first(*nth)).map(|nth| &tables[nth]).collect();
    let mut text = format!("{BEGINS}\n");
    for table in &firsts {
        let depth = table.name.matches('.').count();
        let tables = tables_of(reference, table);
        writeln!(text, "{}- [{}](#{}){tables}", "  ".repeat(depth), heading(table), slug(table)).expect("memory");
    }
    for table in firsts {
        write!(text, "\n## {}\n\n", heading(table)).expect("memory");
        // The file's own head is none of the page's.
        match table.name.as_str() {
            "" => text.push_str("These stand before all tables.\n\n"),
            _ => paragraphs(&mut text, reference, &table.intro),
        }
        rows(&mut text, reference, standings, table);
        for more in tables.iter().filter(|other| other.name == table.name).skip(1) {
            text.push('\n');
            paragraphs(&mut text, reference, &more.intro);
            write!(text, "```toml\n{}```\n", more.toml()).expect("memory");
        }
    }
    text
}

fn tables_of(reference: &Reference, table: &Table) -> &'static str {
    let (outer, name) = table.name.rsplit_once('.').unwrap_or(("", &table.name));
    match reference.takes(outer, name) {
        Some(Takes::Tables) => ", any number of them",
        Some(Takes::Table | Takes::Value(_)) | None => "",
    }
}

fn heading(table: &Table) -> String {
    if table.name.is_empty() { TOP.to_owned() } else { format!("`{}`", table.title()) }
}

/// The anchor that a heading has on a code host.
fn slug(table: &Table) -> String {
    let title = if table.name.is_empty() { TOP } else { &table.name };
    let letters = title.to_lowercase().replace(' ', "-");
    letters.chars().filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect()
}

/// What is said before a table: lines that belong together are one paragraph, ` - ` begins an item.
fn paragraphs(text: &mut String, reference: &Reference, lines: &[String]) {
    let mut blocks: Vec<String> = Vec::new();
    for line in lines {
        let item = line.strip_prefix(" - ").or(line.strip_prefix("- "));
        let goes_on = line.starts_with(' ') && item.is_none();
        match (item, blocks.last_mut()) {
            (Some(item), _) => blocks.push(format!("- {item}")),
            (None, Some(last)) if goes_on || !(last.starts_with("- ") || last.is_empty() || line.is_empty()) => {
                last.push(' ');
                last.push_str(line.trim_start());
            }
            (None, _) => blocks.push(line.clone()),
        }
    }
    for (nth, block) in blocks.iter().enumerate().filter(|(_, block)| !block.is_empty()) {
        text.push_str(&inline(reference, block));
        let is_list = |block: Option<&String>| block.is_some_and(|block| block.starts_with("- "));
        text.push_str(if is_list(Some(block)) && is_list(blocks.get(nth + 1)) { "\n" } else { "\n\n" });
    }
}

fn rows(text: &mut String, reference: &Reference, standings: &Standings, table: &Table) {
    text.push_str("| key | takes | default | meaning |\n|---|---|---|---|\n");
    for entry in &table.entries {
        let Some(key) = reference.key(&table.name, &entry.key) else { continue };
        let anchor = dotted(&table.name, &entry.key);
        let cells = [takes(reference, key), default(standings[&entry.line], entry), entry.meaning().to_owned()];
        let [takes, default, meaning] = cells.map(|cell| inline(reference, &cell).replace('|', "\\|"));
        writeln!(text, "| <a id=\"{anchor}\"></a>`{}` | {takes} | {default} | {meaning} |", entry.key).expect("memory");
    }
    // What is explained elsewhere.
    let own = |key: &&Key| table.entries.iter().all(|entry| entry.key != key.name && key.name != "*");
    let is_table = |key: &&Key| reference.shown.table(&dotted(&table.name, &key.name)).is_some();
    let other = also(&table.name).and_then(|(inner, other)| reference.shown.table(&format!("{other}{inner}")));
    let Some(other) = other else { return };
    let borrowed: Vec<_> = reference.of(&table.name).filter(|key| own(key) && !is_table(key)).collect();
    let link = |key: &&Key| match reference.shown.entry(&other.name, &key.name) {
        Some(entry) => format!("[`{}`](#{})", entry.key, dotted(&other.name, &entry.key)),
        None => format!("[`{}`](#{})", key.name, dotted(&other.name, &key.name).replace('.', "")),
    };
    let borrowed: Vec<_> = borrowed.iter().map(link).collect();
    write!(text, "\nAs in [{}](#{}) too: {}.\n", heading(other), slug(other), borrowed.join(", ")).expect("memory");
}

/// What a key takes; an inline table with its own keys.
fn takes(reference: &Reference, key: &Key) -> String {
    let list = |word: &str| {
        let path = dotted(&key.table, &key.name);
        if let Some((_, other)) = also(&path) {
            let table = reference.shown.table(other).expect("a table that is explained");
            return format!("{word} with the keys of {}", table.title());
        }
        let inner: Vec<_> = reference
            .of(&path)
            .map(|key| match (key.name.as_str(), takes(reference, key)) {
                ("*", takes) => format!("any name, with {takes}"),
                (name, takes) => format!("`{name}`, {takes}"),
            })
            .collect();
        format!("{word}: {}", inner.join("; "))
    };
    match &key.takes {
        Takes::Value(words) => words.clone(),
        Takes::Table => list("a table"),
        Takes::Tables => list("a list of tables"),
    }
}

fn default(standing: Standing, entry: &Entry) -> String {
    let value = &entry.value;
    match (standing, entry.default()) {
        (Standing::Default, _) => format!("`{value}`"),
        (Standing::Required, _) => format!("required; example: `{value}`"),
        (Standing::Example, words) => format!("{}; example: `{value}`", words.unwrap_or("none")),
    }
}

/// Text as Markdown: names of tables lead to them, and what Markdown would read otherwise stands as code.
fn inline(reference: &Reference, text: &str) -> String {
    let outside = |text: &str| text.split(' ').map(|word| marked(reference, word)).collect::<Vec<_>>().join(" ");
    let parts = text.split('`').enumerate();
    parts.map(|(nth, part)| if nth % 2 == 0 { outside(part) } else { format!("`{part}`") }).collect()
}

fn marked(reference: &Reference, word: &str) -> String {
    let core = word.trim_start_matches('(').trim_end_matches(|c| ",.;:)".contains(c));
    let (before, after) = (word.find(core).unwrap_or_default(), word.find(core).unwrap_or_default() + core.len());
    let name = core.trim_start_matches('[').trim_end_matches(']');
    let marked = match reference.shown.table(name) {
        Some(table) if core.starts_with('[') => format!("[`{core}`](#{})", slug(table)),
        _ if !core.is_empty() && (core.contains("://") || core.contains('*') || core.contains('<')) => {
            format!("`{core}`")
        }
        _ => core.to_owned(),
    };
    [&word[..before], &marked, &word[after..]].concat()
}
