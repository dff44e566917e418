//! Tables for people: columns aligned, colour only on a terminal.

use std::io::IsTerminal;

use super::term;

/// What a text is coloured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Bad,
    Doubtful,
}

impl Tone {
    fn code(self) -> Option<&'static str> {
        match self {
            Tone::Plain => None,
            Tone::Good => Some("32"),
            Tone::Bad => Some("31"),
            Tone::Doubtful => Some("33"),
        }
    }
}

/// One place of a table.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
    right: bool,
}

impl Cell {
    /// A text that starts at the left. What could move a terminal's cursor is taken out of it.
    pub(super) fn text(text: impl ToString) -> Self {
        let text = text.to_string().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        Cell { text, tone: Tone::Plain, right: false }
    }

    /// A number, which ends at the right.
    pub(super) fn number(number: impl ToString) -> Self {
        Cell { right: true, ..Cell::text(number) }
    }

    pub(super) fn toned(self, tone: Tone) -> Self {
        Cell { tone, ..self }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

/// Writes the rows to standard output, two spaces between columns, each row behind `indent`.
pub(super) fn print(indent: &str, rows: &[Vec<Cell>]) {
    term::write(&lines(indent, rows, colour()));
}

/// Whether standard output is a terminal that wants colours.
pub(super) fn colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn lines(indent: &str, rows: &[Vec<Cell>], colour: bool) -> String {
    aligned(indent, rows).iter().map(|line| line.painted(None, colour) + "\n").collect()
}

/// The rows as lines, two spaces between columns, each behind `indent`.
pub(super) fn aligned(indent: &str, rows: &[Vec<Cell>]) -> Vec<Line> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column| rows.iter().filter_map(|row| row.get(column)).map(Cell::width).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let line = |row: &Vec<Cell>| {
        let mut line = Line::from(Cell::text(indent));
        for (cell, width) in row.iter().zip(&widths) {
            let space = " ".repeat(width - cell.width());
            let (before, after) = if cell.right { (space.as_str(), "  ") } else { ("", &*format!("{space}  ")) };
            line = line.and(Cell::text(before)).and(cell.clone()).and(Cell::text(after));
        }
        line
    };
    rows.iter().map(line).collect()
}

/// Texts of a line, one behind the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Line(Vec<Cell>);

impl From<Cell> for Line {
    fn from(cell: Cell) -> Self {
        Line(vec![cell])
    }
}

impl Line {
    /// The same with a text behind it.
    pub(super) fn and(mut self, cell: Cell) -> Self {
        self.0.push(cell);
        self
    }

    /// As a terminal takes it, no wider than `width`; no spaces stand at its end.
    pub(super) fn painted(&self, width: Option<usize>, colour: bool) -> String {
        let written = self.0.iter().rposition(|cell| !cell.text.trim_end().is_empty()).map_or(0, |last| last + 1);
        let mut room = width.unwrap_or(usize::MAX);
        let mut out = String::new();
        for (place, cell) in self.0[..written].iter().enumerate() {
            let text: String = cell.text.chars().take(room).collect();
            room -= text.chars().count();
            let text = if place + 1 == written { text.trim_end() } else { &text };
            match cell.tone.code().filter(|_| colour && !text.is_empty()) {
                Some(code) => out += &format!("\x1b[{code}m{text}\x1b[0m"),
                None => out += text,
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<Cell>> {
        vec![
            vec![Cell::text("NAME"), Cell::number("N"), Cell::text("WHY")],
            vec![Cell::text("ä"), Cell::number(1000), Cell::text("up").toned(Tone::Good)],
        ]
    }

    #[test]
    fn columns_stand_under_each_other_and_no_line_ends_in_spaces() {
        assert_eq!(lines("  ", &rows(), false), "  NAME     N  WHY\n  ä     1000  up\n");
    }

    #[test]
    fn colour_moves_nothing() {
        let coloured = lines("", &rows(), true);
        assert!(coloured.contains("\x1b[32mup\x1b[0m"), "{coloured:?}");
        assert_eq!(coloured.replace("\x1b[32m", "").replace("\x1b[0m", ""), lines("", &rows(), false));
    }

    #[test]
    fn a_line_is_cut_to_its_width_and_colour_takes_none_of_it() {
        let line = Line::from(Cell::text("ab")).and(Cell::text("cde").toned(Tone::Bad)).and(Cell::text("f  "));
        assert_eq!(line.painted(None, false), "abcdef");
        assert_eq!(line.painted(Some(3), false), "abc");
        assert_eq!(line.painted(Some(3), true), "ab\x1b[31mc\x1b[0m");
        assert_eq!(line.painted(Some(2), true), "ab");
    }

    #[test]
    fn a_cell_holds_no_control_characters() {
        assert_eq!(lines("", &[vec![Cell::text("a\x1b[2J\nb")]], false), "a\u{fffd}[2J\u{fffd}b\n");
    }
}
