//! Reads TOML with the place of everything: each fault names its line, unknown keys are faults, and all of them come at
//! once.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml_edit::{Document, Item, TableLike, Value};

use super::keys::{self, Key, Survey, Takes};
use super::values;

/// A key of the writer's own.
const ANY: &str = "*";
/// What a key takes that names a file.
pub(super) const A_FILE: &str = "a file's path";

/// One fault of a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, with its value, and what to do.
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.problem)
    }
}

/// The text of one file and the faults found in it so far.
#[derive(Debug)]
pub(crate) struct Source<'s> {
    file: &'s str,
    text: &'s str,
    faults: RefCell<Vec<Fault>>,
    /// What only who runs this should read.
    secrets: RefCell<Vec<Fault>>,
    /// Where the keys are noted, if that is what is read for.
    survey: Option<Survey>,
}

impl<'s> Source<'s> {
    /// A file's name and text.
    pub(crate) fn new(file: &'s str, text: &'s str) -> Self {
        Source { file, text, faults: RefCell::default(), secrets: RefCell::default(), survey: None }
    }

    /// No text, in which every table is there: the keys that are asked for are noted.
    pub(super) fn of_keys() -> Self {
        Source { survey: Some(Survey::default()), ..Source::new("", "") }
    }

    /// The keys that were asked for.
    pub(super) fn into_keys(self) -> Vec<Key> {
        self.survey.map(Survey::into_keys).unwrap_or_default()
    }

    /// The document; none if it is no TOML, which is a fault.
    pub(crate) fn parse(&self) -> Option<Document<&'s str>> {
        match Document::parse(self.text) {
            Ok(document) => Some(document),
            Err(error) => {
                self.fault(error.span(), format!("not TOML: {}", error.message().trim().replace('\n', "; ")));
                None
            }
        }
    }

    /// Notes a fault at a place in the text; none is its first line.
    pub(crate) fn fault(&self, at: Option<Range<usize>>, problem: String) {
        self.faults.borrow_mut().push(self.told(at, problem));
    }

    fn told(&self, at: Option<Range<usize>>, problem: String) -> Fault {
        let before = &self.text[..at.map_or(0, |at| at.start).min(self.text.len())];
        let line = before.matches('\n').count() + 1;
        Fault { file: self.file.to_owned(), line, problem }
    }

    /// What stands at a place, cut to its first line.
    fn written(&self, at: Option<Range<usize>>) -> &'s str {
        at.and_then(|at| self.text.get(at)).and_then(|text| text.lines().next()).unwrap_or("of another kind")
    }

    /// What the text holds that not everybody should read, and what to do if everybody may.
    pub(super) fn secrets(&self) -> Vec<Fault> {
        self.secrets.borrow().clone()
    }

    /// All faults, in the order of their lines.
    pub(crate) fn into_faults(self) -> Vec<Fault> {
        let mut faults = self.faults.into_inner();
        faults.sort_by_key(|fault| fault.line);
        faults
    }
}

/// One table, and which of its keys have been asked for.
pub(crate) struct Section<'d> {
    source: &'d Source<'d>,
    /// As it is named in faults: `listener`, `rule "tts"`.
    name: String,
    /// As it is named in TOML: `listener`, `set.probe`.
    place: String,
    table: Option<&'d dyn TableLike>,
    span: Option<Range<usize>>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'d> Section<'d> {
    /// The whole document.
    pub(crate) fn root(source: &'d Source<'d>, document: &'d Document<&'d str>) -> Self {
        Section::top(source, Some(document.as_table()))
    }

    /// The whole of a source that notes keys.
    pub(super) fn all(source: &'d Source<'d>) -> Self {
        Section::top(source, source.survey.as_ref().map(Survey::table))
    }

    fn top(source: &'d Source<'d>, table: Option<&'d dyn TableLike>) -> Self {
        let (name, place, asked) = (String::new(), String::new(), RefCell::default());
        Section { source, name, place, table, span: None, asked }
    }

    fn inner(&self, key: &str, table: Option<&'d dyn TableLike>, span: Option<Range<usize>>) -> Self {
        let (name, place) = (self.path(key), dotted(&self.place, key));
        let table = table.or_else(|| self.source.survey.as_ref().map(Survey::table));
        Section { source: self.source, name, place, table, span, asked: RefCell::default() }
    }

    /// Gives the section a name of its own in faults.
    pub(crate) fn rename(&mut self, name: String) {
        self.name = name;
    }

    /// Its name in faults.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the file has this section.
    pub(crate) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// Whether the key is there, with a fault or without.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    fn item(&self, key: &'static str, takes: impl FnOnce() -> Takes) -> Option<&'d Item> {
        self.asked.borrow_mut().push(key);
        self.note(key, takes);
        self.table?.get(key).filter(|item| !item.is_none())
    }

    /// The value of a key that takes this.
    fn value(&self, key: &'static str, takes: impl FnOnce() -> String) -> Option<&'d Item> {
        self.item(key, || Takes::Value(takes()))
    }

    fn note(&self, key: &str, takes: impl FnOnce() -> Takes) {
        if let Some(survey) = &self.source.survey {
            survey.note(&self.place, key, takes());
        }
    }

    fn path(&self, key: &str) -> String {
        dotted(&self.name, key)
    }

    /// The table of that key; one that is absent gives nothing but defaults.
    pub(crate) fn section(&self, key: &'static str) -> Section<'d> {
        let item = self.item(key, || Takes::Table);
        let table = item.and_then(Item::as_table_like);
        if let (Some(item), None) = (item, table) {
            self.source
                .fault(item.span(), format!("{} is no table: write [{}]", self.path(key), dotted(&self.place, key)));
        }
        self.inner(key, table, item.and_then(Item::span))
    }

    /// The tables of an array `[[key]]`.
    pub(crate) fn sections(&self, key: &'static str) -> Vec<Section<'d>> {
        let section = |table: &'d dyn TableLike, span| self.inner(key, Some(table), span);
        match self.item(key, || Takes::Tables) {
            None if self.source.survey.is_some() => vec![self.inner(key, None, None)],
            None => Vec::new(),
            Some(Item::ArrayOfTables(tables)) => tables.iter().map(|table| section(table, table.span())).collect(),
            Some(item) => {
                let tables = item.as_array().map(|array| array.iter().map(Value::as_inline_table).collect::<Vec<_>>());
                match tables.and_then(|tables| tables.into_iter().collect::<Option<Vec<_>>>()) {
                    Some(tables) => tables.into_iter().map(|table| section(table, table.span())).collect(),
                    None => {
                        let (path, place) = (self.path(key), dotted(&self.place, key));
                        self.source.fault(item.span(), format!("{path} is no list of tables: write [[{place}]]"));
                        Vec::new()
                    }
                }
            }
        }
    }

    /// The tables of a table whose keys are the writer's own.
    pub(crate) fn own_sections(&self) -> Vec<(&'d str, Section<'d>)> {
        let mut all = Vec::new();
        if self.source.survey.is_some() {
            self.note(ANY, || Takes::Table);
            all.push((ANY, self.inner(ANY, None, None)));
        }
        for (key, item) in self.table.iter().flat_map(|table| table.iter()) {
            // A table of dotted keys has no place of its own.
            let of_key = || self.table?.get_key_value(key)?.0.span();
            match item.as_table_like() {
                Some(table) => all.push((key, self.inner(key, Some(table), item.span().or_else(of_key)))),
                None => {
                    let _: Option<()> = self.wrong_type(key, item, "a table, as { max_sessions = 80 }");
                }
            }
        }
        all
    }

    /// A string that `parse` understands; what it complains of becomes a fault with the value. `takes` says what it is.
    pub(crate) fn text<T>(
        &self,
        key: &'static str,
        takes: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.text_of(key, || takes.to_owned(), parse)
    }

    /// A length of time of at least `least`.
    pub(crate) fn duration(&self, key: &'static str, least: Duration) -> Option<Duration> {
        self.text_of(key, || keys::length(least, None), values::duration_from(least))
    }

    /// A length of time within bounds.
    pub(crate) fn duration_within(&self, key: &'static str, bounds: RangeInclusive<Duration>) -> Option<Duration> {
        self.text_of(
            key,
            || keys::length(*bounds.start(), Some(*bounds.end())),
            values::duration_within(bounds.clone()),
        )
    }

    /// One of some words.
    pub(crate) fn word<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        self.text_of(key, || one_of(words), values::one_of(words))
    }

    /// A file's path from `base`; `example` is one.
    pub(crate) fn file(&self, key: &'static str, base: &Path, example: &str) -> Option<PathBuf> {
        self.text(key, A_FILE, |text| match text.is_empty() || text.ends_with('/') {
            true => Err(format!("give a file's path, as {example}")),
            false => Ok(base.join(text)),
        })
    }

    fn text_of<T>(
        &self,
        key: &'static str,
        takes: impl FnOnce() -> String,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let item = self.value(key, takes)?;
        let Some(text) = item.as_str() else { return self.wrong_type(key, item, "a string in quotes") };
        self.checked(key, item.span(), text, parse)
    }

    /// A string, or a list of strings; `takes` says what one of them is.
    pub(crate) fn texts<T>(
        &self,
        key: &'static str,
        takes: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let item = self.value(key, || format!("{takes}, or a list of them"))?;
        if let Some(text) = item.as_str() {
            return self.checked(key, item.span(), text, parse).map(|one| vec![one]);
        }
        let Some(array) = item.as_array().filter(|array| !array.is_empty()) else {
            return self.wrong_type(key, item, "a string in quotes or a list of them");
        };
        let mut all = Vec::new();
        for value in array {
            match value.as_str() {
                Some(text) => all.extend(self.checked(key, value.span(), text, &parse)),
                None => {
                    let text = self.source.written(value.span());
                    self.source.fault(value.span(), format!("{} holds {text}: give strings in quotes", self.path(key)));
                }
            }
        }
        Some(all)
    }

    fn checked<T>(
        &self,
        key: &str,
        span: Option<Range<usize>>,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parse(text) {
            Ok(value) => Some(value),
            Err(remedy) => {
                self.source.fault(span, format!("{} is {text:?}: {remedy}", self.path(key)));
                None
            }
        }
    }

    /// A whole number within bounds.
    pub(crate) fn number(&self, key: &'static str, bounds: RangeInclusive<i64>) -> Option<i64> {
        let wanted = || format!("a whole number from {} to {}", bounds.start(), bounds.end());
        let item = self.value(key, wanted)?;
        let number = item.as_integer().filter(|number| bounds.contains(number));
        number.or_else(|| self.wrong_type(key, item, &wanted()))
    }

    /// A list of whole numbers within bounds.
    pub(crate) fn numbers(&self, key: &'static str, bounds: RangeInclusive<i64>) -> Option<Vec<i64>> {
        let wanted = || format!("a list of whole numbers from {} to {}", bounds.start(), bounds.end());
        let item = self.value(key, wanted)?;
        let number = |value: &Value| value.as_integer().filter(|number| bounds.contains(number));
        let all: Option<Vec<_>> = item.as_array().and_then(|array| array.iter().map(number).collect());
        let wrong = || self.wrong_type(key, item, &format!("{}, as [19]", wanted()));
        all.filter(|all| !all.is_empty()).or_else(wrong)
    }

    /// A number within bounds, whole or not.
    pub(crate) fn real(&self, key: &'static str, bounds: RangeInclusive<f64>) -> Option<f64> {
        let wanted = || format!("a number from {} to {}", bounds.start(), bounds.end());
        let item = self.value(key, wanted)?;
        let number = item.as_float().or(item.as_integer().map(|number| number as f64));
        number.filter(|number| bounds.contains(number)).or_else(|| self.wrong_type(key, item, &wanted()))
    }

    /// A whole number within bounds, or one of some words.
    pub(crate) fn number_or<T: Copy>(
        &self,
        key: &'static str,
        bounds: RangeInclusive<i64>,
        of_number: impl FnOnce(i64) -> T,
        words: &[(&str, T)],
    ) -> Option<T> {
        let wanted = || {
            let words: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            format!("{} or a whole number from {} to {}", words.join(", "), bounds.start(), bounds.end())
        };
        let item = self.value(key, wanted)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| item.as_str() == Some(word)) {
            return Some(*value);
        }
        if let Some(number) = item.as_integer().filter(|number| bounds.contains(number)) {
            return Some(of_number(number));
        }
        self.wrong_type(key, item, &wanted())
    }

    /// true or false.
    pub(crate) fn flag(&self, key: &'static str) -> Option<bool> {
        const WANTED: &str = "true or false";
        let item = self.value(key, || WANTED.to_owned())?;
        item.as_bool().or_else(|| self.wrong_type(key, item, WANTED))
    }

    /// Every key and string of a table whose keys are the writer's own; `takes` says what each string is.
    pub(crate) fn entries<T>(&self, takes: &str, parse: impl Fn(&str) -> Result<T, String>) -> Vec<(String, T)> {
        self.note(ANY, || Takes::Value(takes.to_owned()));
        let Some(table) = self.table else { return Vec::new() };
        let mut all = Vec::new();
        for (key, item) in table.iter() {
            match item.as_str() {
                Some(text) => all.extend(self.checked(key, item.span(), text, &parse).map(|one| (key.to_owned(), one))),
                None => {
                    let _: Option<()> = self.wrong_type(key, item, "a string in quotes");
                }
            }
        }
        all
    }

    fn wrong_type<T>(&self, key: &str, item: &Item, wanted: &str) -> Option<T> {
        let text = self.source.written(item.span());
        self.source.fault(item.span(), format!("{} is {text}: give {wanted}", self.path(key)));
        None
    }

    /// A fault of the section as a whole.
    pub(crate) fn fault(&self, problem: &str) {
        self.source.fault(self.span.clone(), format!("{}: {problem}", self.name));
    }

    /// A fault of one key.
    pub(crate) fn fault_at(&self, key: &str, problem: &str) {
        self.source.fault(self.place_of(key), format!("{}: {problem}", self.path(key)));
    }

    /// A fault of several keys together, which names them; its place is that of the first of them that is given.
    pub(crate) fn fault_of(&self, keys: &[&str], problem: &str) {
        let key = keys.iter().find(|key| self.has(key)).copied().unwrap_or_default();
        self.source.fault(self.place_of(key), format!("{}: {problem}", self.name));
    }

    /// Notes that the key's value holds a secret, which is no fault in a file that not everybody may read.
    pub(super) fn secret_at(&self, key: &str, what: &str, remedy: &str) {
        let path = self.path(key);
        let problem = format!(
            "{path} holds {what}, and everybody may read this file: {remedy}, or chmod 640 with the group that runs this"
        );
        self.source.secrets.borrow_mut().push(self.source.told(self.place_of(key), problem));
    }

    fn place_of(&self, key: &str) -> Option<Range<usize>> {
        self.table.and_then(|table| table.get(key)).and_then(Item::span).or_else(|| self.span.clone())
    }

    /// Every key that was not asked for is a fault: a misspelt key must not go by unseen.
    pub(crate) fn finish(&self) {
        let asked = self.asked.borrow();
        for (key, item) in self.table.iter().flat_map(|table| table.iter()) {
            if asked.contains(&key) || item.is_none() {
                continue;
            }
            let known = asked.join(", ");
            let span = self.table.and_then(|table| table.get_key_value(key)).and_then(|(key, _)| key.span());
            self.source.fault(span.or(item.span()), format!("{} is no known key: give one of {known}", self.path(key)));
        }
    }
}

/// Some words, in words.
fn one_of<T>(words: &[(&str, T)]) -> String {
    let words: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
    words.join(" or ")
}

fn dotted(place: &str, key: &str) -> String {
    if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") }
}
