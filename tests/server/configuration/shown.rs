//! config/tandem.toml, read as it stands there: its tables, its keys behind a `#` or not, and what its comments say.

/// All that the file shows.
pub(super) struct Shown {
    pub(super) tables: Vec<Table>,
}

/// A table; a second one of the same name is one too, which shows another use of the first.
pub(super) struct Table {
    /// `set.probe`; empty at the top.
    pub(super) name: String,
    pub(super) is_list: bool,
    /// What is said before it, and beside its name.
    pub(super) intro: Vec<String>,
    pub(super) entries: Vec<Entry>,
}

/// A key with its value.
pub(super) struct Entry {
    pub(super) line: usize,
    pub(super) key: String,
    pub(super) value: String,
    pub(super) comment: String,
}

impl Entry {
    /// What it is for.
    pub(super) fn meaning(&self) -> &str {
        self.comment.split("default: ").next().unwrap_or_default().trim_end().trim_end_matches(';')
    }

    /// What its default is, where another value stands there.
    pub(super) fn default(&self) -> Option<&str> {
        self.comment.split_once("default: ").map(|(_, default)| default)
    }

    /// The keys of its table that it stands instead of.
    pub(super) fn instead_of(&self) -> Vec<&str> {
        match self.comment.strip_prefix("instead of `") {
            Some(rest) => rest.split(':').next().unwrap_or_default().split('`').step_by(2).collect(),
            None => Vec::new(),
        }
    }
}

impl Table {
    /// As it is written: `[set.probe]`.
    pub(super) fn title(&self) -> String {
        if self.is_list { format!("[[{}]]", self.name) } else { format!("[{}]", self.name) }
    }

    /// As it stands in the file, without comments.
    pub(super) fn toml(&self) -> String {
        let keys = self.entries.iter().map(|entry| format!("{} = {}\n", entry.key, entry.value));
        format!("{}\n{}", self.title(), keys.collect::<String>())
    }
}

impl Shown {
    pub(super) fn read(text: &str) -> Self {
        let mut tables = vec![Table { name: String::new(), is_list: false, intro: vec![], entries: vec![] }];
        // What is said before a table or a key, and whether a comment behind one goes on.
        let (mut prose, mut is_behind) = (Vec::new(), false);
        for (nth, line) in text.lines().enumerate() {
            let table = tables.last_mut().expect("the top");
            let rest = continued(line);
            if let (Some(rest), true) = (rest, is_behind) {
                let last = table.entries.last_mut().map(|entry| &mut entry.comment).or(table.intro.last_mut());
                let last = last.expect("a comment");
                last.push(' ');
                last.push_str(rest);
                continue;
            }
            let (code, comment) = code(line);
            is_behind = true;
            if let Some((name, is_list)) = header(code) {
                prose.extend((!comment.is_empty()).then(|| comment.to_owned()));
                tables.push(Table { name: name.to_owned(), is_list, intro: prose, entries: vec![] });
                prose = Vec::new();
            } else if let Some((key, value)) = entry(code) {
                table.intro.append(&mut prose);
                let (key, value, comment) = (key.to_owned(), value.to_owned(), comment.to_owned());
                table.entries.push(Entry { line: nth + 1, key, value, comment });
            } else {
                is_behind = false;
                prose.push(line.strip_prefix("# ").or(line.strip_prefix('#')).unwrap_or_default().to_owned());
            }
        }
        assert!(prose.iter().all(String::is_empty), "this is said of nothing: {prose:#?}");
        Shown { tables }
    }

    /// The first table of that name.
    pub(super) fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == name)
    }

    pub(super) fn entry(&self, table: &str, key: &str) -> Option<&Entry> {
        self.table(table)?.entries.iter().find(|entry| entry.key == key)
    }

    /// The file with all of its keys but those that stand instead of others.
    pub(super) fn toml(&self) -> String {
        self.toml_of(usual)
    }

    /// The same with this key in place of those that it stands instead of.
    pub(super) fn toml_with(&self, given: &Entry) -> String {
        self.toml_of(|table, entry| match entry.line == given.line {
            true => Some(&entry.value),
            false => usual(table, entry).filter(|_| !given.instead_of().contains(&entry.key.as_str())),
        })
    }

    /// The same without this key.
    pub(super) fn toml_without(&self, dropped: &Entry) -> String {
        self.toml_of(|table, entry| usual(table, entry).filter(|_| entry.line != dropped.line))
    }

    /// The same with a table that has this key alone, or none.
    pub(super) fn toml_alone(&self, alone: &Table, only: Option<&Entry>) -> String {
        self.toml_of(|table, entry| match table.name == alone.name {
            true => only.filter(|only| only.line == entry.line).map(|only| only.value.as_str()),
            false => usual(table, entry),
        })
    }

    /// Each key stands in its own line, so that faults name it.
    fn toml_of<'s>(&'s self, value: impl Fn(&'s Table, &'s Entry) -> Option<&'s str>) -> String {
        let mut lines = Vec::new();
        for table in &self.tables {
            lines.extend((!table.name.is_empty()).then(|| table.title()));
            for entry in &table.entries {
                if let Some(value) = value(table, entry) {
                    lines.resize(entry.line - 1, String::new());
                    lines.push(format!("{} = {value}", entry.key));
                }
            }
        }
        lines.join("\n")
    }
}

/// A key's value where all are shown.
fn usual<'s>(table: &'s Table, entry: &'s Entry) -> Option<&'s str> {
    match (table.name.as_str(), entry.key.as_str()) {
        // Keys of probes mean nothing where there are none.
        ("set.probe", "enabled") => Some("true"),
        _ => entry.instead_of().is_empty().then_some(&entry.value),
    }
}

/// The rest of a comment that began behind a key.
fn continued(line: &str) -> Option<&str> {
    let rest = line.strip_prefix('#')?;
    let text = rest.trim_start();
    (rest.len() - text.len() > 12).then(|| text.strip_prefix("# ")).flatten()
}

/// A line without the `#` that it stands behind, and the comment after it.
fn code(line: &str) -> (&str, &str) {
    let forms = ["#   # ", "#   ", "# "];
    let line = forms.iter().find_map(|form| line.strip_prefix(form)).unwrap_or(line);
    let mut is_quoted = false;
    let end = line.find(|c| {
        is_quoted ^= c == '"';
        c == '#' && !is_quoted
    });
    let (code, comment) = line.split_at(end.unwrap_or(line.len()));
    (code.trim_end(), comment.trim_start_matches("# "))
}

fn header(code: &str) -> Option<(&str, bool)> {
    let name = code.strip_prefix('[')?.strip_suffix(']')?;
    let list = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let name = list.unwrap_or(name);
    name.bytes().all(|b| b.is_ascii_lowercase() || b"._".contains(&b)).then_some((name, list.is_some()))
}

fn entry(code: &str) -> Option<(&str, &str)> {
    let (key, value) = code.split_once(" = ")?;
    let is_key = key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    (is_key && !value.is_empty()).then_some((key, value))
}
