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
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    term::write(&lines(indent, rows, colour));
}

fn lines(indent: &str, rows: &[Vec<Cell>], colour: bool) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column| rows.iter().filter_map(|row| row.get(column)).map(Cell::width).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = indent.to_owned();
        for (cell, width) in row.iter().zip(&widths) {
            let space = " ".repeat(width - cell.width());
            let text = match cell.tone.code().filter(|_| colour) {
                Some(code) => format!("\x1b[{code}m{}\x1b[0m", cell.text),
                None => cell.text.clone(),
            };
            let (before, after) = if cell.right { (space.as_str(), "") } else { ("", space.as_str()) };
            line += &format!("{before}{text}{after}  ");
        }
        out += line.trim_end();
        out += "\n";
    }
    out
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
    fn a_cell_holds_no_control_characters() {
        assert_eq!(lines("", &[vec![Cell::text("a\x1b[2J\nb")]], false), "a\u{fffd}[2J\u{fffd}b\n");
    }
}
