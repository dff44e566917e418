//! Our own file: `[[destination]]` with `set`, `uri` and what else a row has. All faults are found at once, with their lines.

use std::ops::Range;

use toml_edit::{Document, Item, TableLike, Value};

use super::row::{Column, Form, Names, RawRow, RowFault};

/// The words for `state`, as the table has them in numbers.
const STATES: [(&str, &str); 2] = [("ready", "0"), ("maint", "1")];

/// The rows of a file, each column with its line.
///
/// # Errors
/// The line and the problem, if it is no TOML.
pub(super) fn rows(text: &str, names: &Names) -> Result<Vec<RawRow>, (usize, String)> {
    let lines = Lines(text.match_indices('\n').map(|(at, _)| at).collect());
    let document = Document::parse(text).map_err(|error| {
        let problem = format!("not TOML: {}", error.message().trim().replace('\n', "; "));
        (lines.of(error.span()), problem)
    })?;
    let reader = Reader { text, lines, names };
    let mut rows = Vec::new();
    for (key, item) in document.as_table().iter() {
        match tables(item).filter(|_| key == "destination") {
            Some(tables) => rows.extend(tables.into_iter().map(|(table, span)| reader.row(table, span))),
            None => {
                let key_span = document.as_table().get_key_value(key).and_then(|(key, _)| key.span());
                let mut row = RawRow::of_line(reader.lines.of(key_span.or(item.span())));
                let fault = reader.fault(&row, key, item.span(), "not what is read", "write [[destination]]");
                row.faults.push(fault);
                rows.push(row);
            }
        }
    }
    Ok(rows)
}

type Tables<'d> = Vec<(&'d dyn TableLike, Option<Range<usize>>)>;

/// The tables of `[[destination]]`, or of `destination = [{...}]`.
fn tables(item: &Item) -> Option<Tables<'_>> {
    if let Some(tables) = item.as_array_of_tables() {
        return Some(tables.iter().map(|table| (table as &dyn TableLike, table.span())).collect());
    }
    let values = item.as_array()?.iter();
    values.map(|value| Some((value.as_inline_table()? as &dyn TableLike, value.span()))).collect()
}

/// Where each line ends.
struct Lines(Vec<usize>);

impl Lines {
    fn of(&self, span: Option<Range<usize>>) -> usize {
        let at = span.map_or(0, |span| span.start);
        self.0.partition_point(|end| *end < at) + 1
    }
}

struct Reader<'d> {
    text: &'d str,
    lines: Lines,
    names: &'d Names,
}

impl Reader<'_> {
    fn row(&self, table: &dyn TableLike, span: Option<Range<usize>>) -> RawRow {
        let mut row = RawRow::of_line(self.lines.of(span));
        for (key, item) in table.iter() {
            let known = Form::Toml.columns().find(|(_, name)| *name == key);
            let line = self.lines.of(item.span());
            let Some((column, _)) = known else {
                let known: Vec<_> = Form::Toml.columns().map(|(_, name)| name).collect();
                let mut fault =
                    self.fault(&row, key, item.span(), "no known key", format!("give one of {}", known.join(", ")));
                fault.place = format!("{}:{line}", self.names.source);
                row.faults.push(fault);
                continue;
            };
            if let Some(lines) = &mut row.lines {
                lines[column as usize] = line;
            }
            match text_of(column, item.as_value()) {
                Ok(text) => row.put(column, text),
                Err(remedy) => {
                    let mut fault = self.fault(&row, key, item.span(), "not of its kind", remedy);
                    fault.place = row.place(self.names, column);
                    row.faults.push(fault);
                    // So that it is one fault and not two.
                    if column == Column::Destination {
                        row.cells = Default::default();
                        return row;
                    }
                }
            }
        }
        if !table.contains_key("set") {
            let fault = RowFault { value: String::new(), ..self.fault(&row, "set", None, "missing", "give set = 19") };
            row.faults.push(RowFault { place: format!("{}:{}", self.names.source, row.id), ..fault });
        }
        row
    }

    fn fault(
        &self,
        row: &RawRow,
        key: &str,
        span: Option<Range<usize>>,
        problem: &str,
        remedy: impl Into<String>,
    ) -> RowFault {
        let written = span.and_then(|span| self.text.get(span)).and_then(|text| text.lines().next());
        let written = written.unwrap_or_default();
        RowFault {
            place: row.place(self.names, Column::Destination),
            row: row.id,
            column: key.to_owned(),
            value: written.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(written).to_owned(),
            problem: problem.to_owned(),
            remedy: remedy.into(),
        }
    }
}

/// What the row's column holds; else what to write.
fn text_of(column: Column, value: Option<&Value>) -> Result<String, &'static str> {
    match column {
        Column::SetId | Column::Weight | Column::Priority => {
            let number = value.and_then(Value::as_integer);
            number.map(|number| number.to_string()).ok_or("give a whole number without quotes")
        }
        Column::State => {
            let word = value.and_then(Value::as_str);
            let found = word.and_then(|word| STATES.iter().find(|(name, _)| *name == word));
            found.map(|(_, number)| (*number).to_owned()).ok_or("give \"ready\" or \"maint\"")
        }
        _ => value.and_then(Value::as_str).map(str::to_owned).ok_or("give a text in quotes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<RawRow>, (usize, String)> {
        rows(text, &Names::new(Form::Toml, "sets.toml", |_| None))
    }

    fn faults(text: &str) -> Vec<String> {
        read(text).expect("TOML").iter().flat_map(|row| &row.faults).map(ToString::to_string).collect()
    }

    #[test]
    fn every_key_is_read() {
        let text = "# the servers\n[[destination]]\nset = 19\nuri = \"sip:10.0.0.1:7010\"\nweight = 5\npriority = -1\n\
                    state = \"maint\"\nsocket = \"udp:10.0.0.9:8060\"\nattrs = \"pstn=100\"\ndescription = \"TTS\"\n\
                    [[destination]]\nset = 20\nuri = \"sip:10.0.0.2\"\n";
        let rows = read(text).expect("TOML");
        let cells = |row: &RawRow| -> Vec<_> {
            Form::Toml.columns().map(|(column, _)| String::from_utf8_lossy(row.cell(column)).into_owned()).collect()
        };
        assert_eq!(
            cells(&rows[0]),
            ["19", "sip:10.0.0.1:7010", "udp:10.0.0.9:8060", "1", "5", "-1", "pstn=100", "TTS"]
        );
        assert_eq!(cells(&rows[1]), ["20", "sip:10.0.0.2", "", "", "", "", "", ""]);
        assert_eq!((rows[0].id, rows[1].id, rows.len()), (2, 11, 2));
        let names = Names::new(Form::Toml, "sets.toml", |_| None);
        let place = |column| rows[0].place(&names, column);
        assert_eq!([Column::SetId, Column::Attrs].map(place), ["sets.toml:3", "sets.toml:9"]);
        assert_eq!(rows[1].place(&names, Column::Weight), "sets.toml:11");
        let inline = read("destination = [{ set = 1, uri = \"sip:10.0.0.1\" }]\n").expect("TOML");
        assert_eq!(cells(&inline[0])[..2], ["1", "sip:10.0.0.1"]);
        assert_eq!(read("").expect("TOML").len(), 0);
    }

    #[test]
    fn all_faults_come_at_once_with_line_value_and_remedy() {
        let text = "[[destination]]\nset = \"19\"\nuri = \"sip:10.0.0.1\"\nstate = \"off\"\nwieght = 5\n\
                    [[destination]]\nset = 19\nuri = 5\n[other]\nx = 1\n";
        assert_eq!(
            faults(text),
            [
                "sets.toml:2: set is \"19\", not of its kind: give a whole number without quotes",
                "sets.toml:4: state is \"off\", not of its kind: give \"ready\" or \"maint\"",
                "sets.toml:5: wieght is \"5\", no known key: give one of set, uri, socket, state, weight, priority, attrs, \
                 description",
                "sets.toml:8: uri is \"5\", not of its kind: give a text in quotes",
                "sets.toml:9: other is \"[other]\", not what is read: write [[destination]]",
            ]
        );
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_line() {
        let (line, problem) = read("[[destination]]\nset = \n").expect_err("no TOML");
        assert_eq!(line, 2);
        assert!(problem.starts_with("not TOML: "), "{problem}");
    }
}
