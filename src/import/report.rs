//! What becomes of each thing that was found: one line each, with its file and line, and never with a password.

use std::fmt;

use serde::Serialize;

/// Where something stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At {
    /// Its file, counted in the order of reading.
    pub(super) file: usize,
    /// Its line, from 1; 0 is no line.
    pub(super) line: u32,
}

/// What became of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Tandem does the same.
    Mapped,
    /// Tandem does something like it; the line says how it differs.
    Approximated,
    /// Tandem does nothing like it; the line says what to do instead.
    NotMappable,
}

impl Verdict {
    fn words(self) -> &'static str {
        match self {
            Verdict::Mapped => "mapped",
            Verdict::Approximated => "approximated",
            Verdict::NotMappable => "not mappable",
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The file, or the database without its password.
    pub file: String,
    /// The line; of a database the row's `id`, and 0 where it is about all of it.
    pub line: u32,
    /// What stands there.
    pub found: String,
    /// What became of it.
    pub verdict: Verdict,
    /// To what it was mapped, how that differs, or what to do instead.
    pub to: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line { file, line, found, verdict, to } = self;
        match line {
            0 => write!(f, "{file}: {}: {found}: {to}", verdict.words()),
            _ => write!(f, "{file}:{line}: {}: {found}: {to}", verdict.words()),
        }
    }
}

/// All that was found, in the order of the text.
#[derive(Clone, Debug, Default)]
pub struct Report {
    files: Vec<String>,
    lines: Vec<(At, Line)>,
}

impl Report {
    /// Begins the next file; its number stands in the [`At`] of what is found there.
    pub(super) fn file(&mut self, name: &str) -> usize {
        self.files.push(without_passwords(name));
        self.files.len() - 1
    }

    pub(super) fn name(&self, file: usize) -> &str {
        self.files.get(file).map_or("", String::as_str)
    }

    pub(super) fn mapped(&mut self, at: At, found: impl AsRef<str>, to: impl AsRef<str>) {
        self.add(at, found.as_ref(), Verdict::Mapped, to.as_ref());
    }

    pub(super) fn approximated(&mut self, at: At, found: impl AsRef<str>, to: impl AsRef<str>) {
        self.add(at, found.as_ref(), Verdict::Approximated, to.as_ref());
    }

    pub(super) fn not_mappable(&mut self, at: At, found: impl AsRef<str>, to: impl AsRef<str>) {
        self.add(at, found.as_ref(), Verdict::NotMappable, to.as_ref());
    }

    /// A route that is called twice is told of once.
    fn add(&mut self, at: At, found: &str, verdict: Verdict, to: &str) {
        let line = Line {
            file: self.name(at.file).to_owned(),
            line: at.line,
            found: without_passwords(found),
            verdict,
            to: without_passwords(to),
        };
        if !self.lines.iter().any(|(other_at, other)| (*other_at, other) == (at, &line)) {
            self.lines.push((at, line));
        }
    }

    /// Whether something that stands there, and begins so, is told of.
    pub(super) fn tells_of(&self, at: At, found: &str) -> bool {
        self.lines.iter().any(|(other, line)| *other == at && line.found.starts_with(found))
    }

    /// The lines, in the order of the text.
    pub fn lines(&self) -> Vec<&Line> {
        let mut lines: Vec<_> = self.lines.iter().collect();
        lines.sort_by_key(|(at, _)| *at);
        lines.into_iter().map(|(_, line)| line).collect()
    }

    /// How many lines say so.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.lines.iter().filter(|(_, line)| line.verdict == verdict).count()
    }

    /// The numbers of all three, for people.
    pub fn summary(&self) -> String {
        let all = [Verdict::Mapped, Verdict::Approximated, Verdict::NotMappable];
        all.map(|verdict| format!("{} {}", self.count(verdict), verdict.words())).join(", ")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines().into_iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// The text with the password of every URL in it replaced: what stands between the user and the last `@` of `a://user:b@c`.
pub fn without_passwords(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, behind) = rest.split_at(at + 3);
        shown.push_str(before);
        let end = behind.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'')).unwrap_or(behind.len());
        let (url, after) = behind.split_at(end);
        match url.rsplit_once('@') {
            Some((who, host)) => {
                let user = who.split(':').next().unwrap_or_default();
                let mask = if who.contains(':') { ":***" } else { "" };
                shown.extend([user, mask, "@", host]);
            }
            None => shown.push_str(url),
        }
        rest = after;
    }
    shown.push_str(rest);
    shown.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown() {
        for (text, shown) in [
            ("mysql://tandem:s3:c@r/et@db/opensips", "mysql://tandem:***@db/opensips"),
            ("a: db_url=mysql://u:p@h/d; table_name=t", "a: db_url=mysql://u:***@h/d; table_name=t"),
            ("postgres://u@h/d", "postgres://u@h/d"),
            ("sqlite:///a.db", "sqlite:///a.db"),
            ("fs://:ClueCon@10.0.0.1 fs://:x@h", "fs://:***@10.0.0.1 fs://:***@h"),
        ] {
            assert_eq!(without_passwords(text), shown);
        }
    }

    #[test]
    fn lines_stand_in_the_order_of_the_text_and_once() {
        let mut report = Report::default();
        let file = report.file("a.cfg");
        let at = |line| At { file, line };
        report.mapped(at(9), "x", "y");
        report.not_mappable(at(3), "z", "do it by hand");
        report.mapped(at(9), "x", "y");
        assert_eq!(report.to_string(), "a.cfg:3: not mappable: z: do it by hand\na.cfg:9: mapped: x: y\n");
        assert_eq!(report.summary(), "1 mapped, 0 approximated, 1 not mappable");
    }
}
