//! Kamailio's `#!` lines: which parts of a file count, and what names stand for.

use std::collections::BTreeMap;

use super::report::{At, Report};

/// What has been defined, and where in `#!ifdef` we are.
#[derive(Clone, Debug, Default)]
pub(super) struct Defines {
    values: BTreeMap<String, String>,
    /// What is replaced within strings too.
    substitutes: Vec<(String, String)>,
    /// Each `#!ifdef` that has not ended: whether its present part counts, all around it taken in.
    open: Vec<bool>,
}

impl Defines {
    /// Whether what follows counts.
    pub(super) fn is_active(&self) -> bool {
        self.open.last().copied().unwrap_or(true)
    }

    /// What a name stands for.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// A string with what `#!substdef` replaces in it.
    pub(super) fn substitute(&self, text: String) -> String {
        self.substitutes.iter().fold(text, |text, (from, to)| text.replace(from.as_str(), to))
    }

    /// Obeys one line: what stands behind `#!`.
    pub(super) fn obey(&mut self, line: &str, at: At, report: &mut Report) {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let name = rest.split_whitespace().next().unwrap_or_default();
        let is_defined = self.values.contains_key(name);
        match word {
            "ifdef" => self.begin(is_defined),
            "ifndef" => self.begin(!is_defined),
            "ifexp" => {
                if self.is_active() {
                    let to = "the expression is not worked out, and taken as false: write #!ifdef in its place";
                    report.not_mappable(at, format!("#!{line}"), to);
                }
                self.begin(false);
            }
            "else" => {
                let around = self.open.iter().rev().nth(1).copied().unwrap_or(true);
                if let Some(last) = self.open.last_mut() {
                    *last = around && !*last;
                }
            }
            "endif" => {
                self.open.pop();
            }
            _ if !self.is_active() => {}
            "define" | "redefine" | "redef" => self.define(rest),
            "trydefine" | "trydef" if !is_defined => self.define(rest),
            "trydefine" | "trydef" => {}
            "substdef" | "substdefs" => match substitution(rest) {
                Some((from, to)) => {
                    let quoted = if word == "substdefs" { format!("\"{to}\"") } else { to.clone() };
                    self.values.insert(from.clone(), quoted);
                    self.substitutes.push((from, to));
                }
                None => {
                    report.not_mappable(at, format!("#!{line}"), "it is not read: write #!substdef \"!NAME!value!g\"")
                }
            },
            "subst" => match substitution(rest) {
                Some((from, to)) if from.chars().all(|c| c.is_alphanumeric() || c == '_') => {
                    self.substitutes.push((from, to));
                }
                _ => report.not_mappable(at, format!("#!{line}"), "its expression is not read: write #!substdef"),
            },
            // The first line names the program.
            _ if ["KAMAILIO", "OPENSER", "SER", "MAXCOMPAT", "ALL"].contains(&word) => {}
            _ => report.not_mappable(at, format!("#!{word}"), "it is not read: write #!define with the value"),
        }
    }

    fn begin(&mut self, holds: bool) {
        self.open.push(self.is_active() && holds);
    }

    fn define(&mut self, rest: &str) {
        let (name, value) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        self.values.insert(name.to_owned(), value.trim().to_owned());
    }
}

/// `"!from!to!g"`, with any delimiter.
fn substitution(text: &str) -> Option<(String, String)> {
    let inner = text.trim_matches(['"', '\'']);
    let delimiter = inner.chars().next()?;
    let mut parts = inner[delimiter.len_utf8()..].split(delimiter);
    let (from, to) = (parts.next()?, parts.next()?);
    (!from.is_empty()).then(|| (from.to_owned(), to.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_count_as_the_definitions_say() {
        let (mut defines, mut report) = (Defines::default(), Report::default());
        let mut obey = |line: &str| {
            defines.obey(line, At::default(), &mut report);
            defines.is_active()
        };
        assert!(obey("define WITH_A"));
        assert!(obey("ifdef WITH_A"));
        assert!(!obey("ifdef WITH_B"));
        assert!(!obey("define WITH_B"), "it stands where nothing counts");
        assert!(obey("else"));
        assert!(obey("endif"));
        assert!(!obey("else"));
        assert!(!obey("ifndef WITH_B"), "nothing inside counts either");
        assert!(!obey("endif"));
        assert!(obey("endif"));
        assert!(!obey("ifdef WITH_B"));
    }

    #[test]
    fn substdef_reaches_into_strings() {
        let (mut defines, mut report) = (Defines::default(), Report::default());
        defines.obey("substdef \"!SERVER_IP!10.0.0.1!g\"", At::default(), &mut report);
        assert_eq!(defines.substitute("udp:SERVER_IP:5060".into()), "udp:10.0.0.1:5060");
        assert_eq!(defines.value("SERVER_IP"), Some("10.0.0.1"));
    }
}
