//! Kamailio's `dispatcher.list`: `setid destination flags priority attrs`, one destination a line, the last three if wanted.
//! A # begins a comment where a field could begin, and after the destination also without a blank before it.

use super::row::{Column, Names, RawRow, RowFault};

/// The rows of a file, each with its line.
pub(super) fn rows(text: &[u8], names: &Names) -> Vec<RawRow> {
    let lines = text.split(|byte| *byte == b'\n').enumerate();
    lines.filter_map(|(index, line)| row(line, index + 1, names)).collect()
}

fn row(line: &[u8], number: usize, names: &Names) -> Option<RawRow> {
    let mut rest = line;
    let set = field(&mut rest)?;
    let mut row = RawRow::of_line(number);
    row.put(Column::SetId, set);
    let Some(destination) = field(&mut rest) else {
        row.faults.push(fault(&row, names, Column::Destination, b"", "missing", "write: setid destination"));
        row.cells = Default::default();
        return Some(row);
    };
    // A URI ends at a #, whatever stands before it.
    let end = destination.iter().position(|byte| *byte == b'#').unwrap_or(destination.len());
    row.put(Column::Destination, &destination[..end]);
    if end < destination.len() {
        return Some(row);
    }
    // Fields may be left out: attrs can't be taken for numbers, which begin with a digit.
    let is_number = |field: &[u8]| matches!(field.first(), Some(b'0'..=b'9' | b'-' | b'+'));
    for (column, takes) in [
        (Column::Flags, is_number as fn(&[u8]) -> bool),
        (Column::Priority, is_number),
        (Column::Attrs, |_: &[u8]| true),
    ] {
        let before = rest;
        match field(&mut rest) {
            Some(found) if takes(found) => row.put(column, found),
            Some(_) => rest = before,
            None => return Some(row),
        }
    }
    if let Some(found) = field(&mut rest) {
        let remedy = "write attrs without blanks, and a # before a comment";
        row.faults.push(fault(&row, names, Column::Attrs, found, "a further field, which is not read", remedy));
    }
    Some(row)
}

/// The next field; none at the end and before a comment.
fn field<'l>(rest: &mut &'l [u8]) -> Option<&'l [u8]> {
    let line = rest.trim_ascii_start();
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let (field, after) = line.split_at(end);
    *rest = after;
    (!field.is_empty() && field[0] != b'#').then_some(field)
}

fn fault(row: &RawRow, names: &Names, column: Column, value: &[u8], problem: &str, remedy: &str) -> RowFault {
    RowFault {
        place: row.place(names, column),
        row: row.id,
        column: names.column(column).to_owned(),
        value: String::from_utf8_lossy(value).into_owned(),
        problem: problem.to_owned(),
        remedy: remedy.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::Form;
    use super::*;

    fn read(text: &str) -> Vec<RawRow> {
        rows(text.as_bytes(), &Names::new(Form::Kamailio, "d.list", |_| None))
    }

    fn cells(row: &RawRow) -> [String; 5] {
        [Column::SetId, Column::Destination, Column::Flags, Column::Priority, Column::Attrs]
            .map(|column| String::from_utf8_lossy(row.cell(column)).into_owned())
    }

    #[test]
    fn fields_comments_and_blanks_are_taken_as_kamailio_takes_them() {
        let text = "# setid destination flags priority attrs\n\
                    \n  \t\n\
                    1 sip:10.0.0.1:8060 8 10 duid=srv1;maxload=100;socket=udp:10.0.0.9:5060\r\n\
                    \t2\tsip:10.0.0.2;transport=tcp   # the second\n\
                    2 sip:10.0.0.3#at once\n\
                    2 sip:10.0.0.4 4 # off\n\
                    2 sip:10.0.0.5 duid=b;rweight=\"5\"\n\
                    2 sip:10.0.0.6 0 weight=7#8";
        let rows = read(text);
        let found: Vec<_> = rows.iter().map(|row| (row.id, cells(row))).collect();
        let expected = [
            (4, ["1", "sip:10.0.0.1:8060", "8", "10", "duid=srv1;maxload=100;socket=udp:10.0.0.9:5060"]),
            (5, ["2", "sip:10.0.0.2;transport=tcp", "", "", ""]),
            (6, ["2", "sip:10.0.0.3", "", "", ""]),
            (7, ["2", "sip:10.0.0.4", "4", "", ""]),
            (8, ["2", "sip:10.0.0.5", "", "", "duid=b;rweight=\"5\""]),
            (9, ["2", "sip:10.0.0.6", "0", "", "weight=7#8"]),
        ];
        assert_eq!(found, expected.map(|(line, cells)| (line, cells.map(str::to_owned))));
        assert!(rows.iter().all(|row| row.faults.is_empty()));
    }

    #[test]
    fn what_would_go_by_unread_is_a_fault_with_its_line() {
        let rows = read("1\n2 sip:10.0.0.1 0 0 duid=a; weight=5\n");
        let faults: Vec<_> = rows.iter().flat_map(|row| &row.faults).map(ToString::to_string).collect();
        assert_eq!(
            faults,
            [
                "d.list:1: destination is \"\", missing: write: setid destination",
                "d.list:2: attrs is \"weight=5\", a further field, which is not read: write attrs without blanks, and a # \
                 before a comment"
            ]
        );
    }
}
