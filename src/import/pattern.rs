//! Regular expressions of scripts, as globs and as status codes. What scripts use is read: letters, `.`, `[...]`, `( | )`, `^`,
//! `$`, `*`, `+` and `?`.

/// Ways that one expression may go; a longer list is no rule that anybody would read.
const MOST_WAYS: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Atom {
    Start,
    End,
    One(Chars),
    /// Any number of them, also none.
    Many(Chars),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Chars {
    Any,
    These(Vec<char>),
    NotThese(Vec<char>),
}

impl Chars {
    fn holds(&self, c: char) -> bool {
        match self {
            Chars::Any => true,
            Chars::These(all) => all.contains(&c),
            Chars::NotThese(all) => !all.contains(&c),
        }
    }
}

/// A glob, as rules have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob {
    pub(super) text: String,
    /// It matches the same, letters' case apart.
    pub(super) is_exact: bool,
}

/// A text that stands for itself, as a glob.
pub(super) fn literal(text: &str) -> Glob {
    let mut glob = String::new();
    for c in text.chars() {
        if matches!(c, '*' | '?' | '\\') {
            glob.push('\\');
        }
        glob.push(c);
    }
    Glob { text: glob, is_exact: true }
}

/// The globs that together match what the expression does; none if it can't be read.
pub(super) fn globs(expression: &str) -> Option<Vec<Glob>> {
    ways(expression)?.iter().map(|way| glob(way)).collect()
}

fn glob(way: &[Atom]) -> Option<Glob> {
    let (mut way, mut text, mut is_exact) = (way, String::new(), true);
    let star = |text: &mut String| {
        if !text.ends_with('*') || text.ends_with("\\*") {
            text.push('*');
        }
    };
    match way {
        [Atom::Start, rest @ ..] => way = rest,
        _ => star(&mut text),
    }
    let is_closed = way.last() == Some(&Atom::End);
    for atom in &way[..way.len() - usize::from(is_closed)] {
        match atom {
            Atom::Start | Atom::End => return None,
            Atom::One(Chars::These(only)) if only.len() == 1 => text += &literal(&only[0].to_string()).text,
            Atom::One(chars) => {
                is_exact &= *chars == Chars::Any;
                text.push('?');
            }
            Atom::Many(chars) => {
                is_exact &= *chars == Chars::Any;
                star(&mut text);
            }
        }
    }
    if !is_closed {
        star(&mut text);
    }
    Some(Glob { text, is_exact })
}

/// The final status codes from 300 on that the expression matches, as `retry_on` has them: whole classes first.
pub(super) fn codes(expression: &str) -> Option<Vec<String>> {
    let ways = ways(expression)?;
    let matches = |code: u16| {
        let digits: Vec<char> = code.to_string().chars().collect();
        ways.iter().any(|way| (0..=digits.len()).any(|from| run(way, &digits, from)))
    };
    let mut found = Vec::new();
    for class in 3..=6_u16 {
        let codes: Vec<u16> = (class * 100..class * 100 + 100).filter(|&code| matches(code)).collect();
        match codes.len() {
            100 => found.push(format!("{class}xx")),
            // The names of a class but for a few would be a long list.
            _ => found.extend(codes.iter().map(u16::to_string)),
        }
    }
    Some(found)
}

fn run(way: &[Atom], text: &[char], at: usize) -> bool {
    match way {
        [] => true,
        [Atom::Start, rest @ ..] => at == 0 && run(rest, text, at),
        [Atom::End, rest @ ..] => at == text.len() && run(rest, text, at),
        [Atom::One(chars), rest @ ..] => text.get(at).is_some_and(|&c| chars.holds(c)) && run(rest, text, at + 1),
        [Atom::Many(chars), rest @ ..] => {
            let most = text[at..].iter().take_while(|&&c| chars.holds(c)).count();
            (0..=most).any(|taken| run(rest, text, at + taken))
        }
    }
}

fn ways(expression: &str) -> Option<Vec<Vec<Atom>>> {
    let text: Vec<char> = expression.chars().collect();
    let mut reader = Reader { text: &text, at: 0, depth: 0 };
    let ways = reader.any_of()?;
    (reader.at == text.len()).then_some(ways)
}

struct Reader<'t> {
    text: &'t [char],
    at: usize,
    depth: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn takes(&mut self, c: char) -> bool {
        let is_next = self.peek() == Some(c);
        self.at += usize::from(is_next);
        is_next
    }

    fn any_of(&mut self) -> Option<Vec<Vec<Atom>>> {
        self.depth += 1;
        if self.depth > MOST_WAYS {
            return None;
        }
        let mut all = self.row()?;
        while self.takes('|') {
            all.extend(self.row()?);
        }
        self.depth -= 1;
        (all.len() <= MOST_WAYS).then_some(all)
    }

    fn row(&mut self) -> Option<Vec<Vec<Atom>>> {
        let mut rows = vec![vec![]];
        while let Some(c) = self.peek().filter(|&c| c != '|' && c != ')') {
            self.at += 1;
            let piece = match c {
                '^' => vec![vec![Atom::Start]],
                '$' => vec![vec![Atom::End]],
                '(' => {
                    let inner = self.any_of()?;
                    if !self.takes(')') {
                        return None;
                    }
                    inner
                }
                _ => {
                    let chars = self.chars(c)?;
                    vec![vec![Atom::One(chars)]]
                }
            };
            let piece = self.repeated(piece)?;
            rows = rows
                .iter()
                .flat_map(|row: &Vec<Atom>| piece.iter().map(|more| [row.as_slice(), more].concat()))
                .collect();
            if rows.len() > MOST_WAYS {
                return None;
            }
        }
        Some(rows)
    }

    fn repeated(&mut self, mut piece: Vec<Vec<Atom>>) -> Option<Vec<Vec<Atom>>> {
        let single = match piece.as_slice() {
            [way] => match way.as_slice() {
                [Atom::One(chars)] => Some(chars.clone()),
                _ => None,
            },
            _ => None,
        };
        match self.peek() {
            Some('?') => {
                self.at += 1;
                piece.push(vec![]);
            }
            Some('*') => {
                self.at += 1;
                piece = vec![vec![Atom::Many(single?)]];
            }
            Some('+') => {
                self.at += 1;
                let chars = single?;
                piece = vec![vec![Atom::One(chars.clone()), Atom::Many(chars)]];
            }
            Some('{') => {
                // So many of it, as [0-9]{2}; a range is not read.
                let close = self.text[self.at..].iter().position(|&c| c == '}')?;
                let digits: String = self.text[self.at + 1..self.at + close].iter().collect();
                let count = digits.parse::<usize>().ok().filter(|count| (1..=8).contains(count))?;
                let chars = single?;
                self.at += close + 1;
                piece = vec![vec![Atom::One(chars); count]];
            }
            _ => {}
        }
        Some(piece)
    }

    fn chars(&mut self, c: char) -> Option<Chars> {
        match c {
            '.' => Some(Chars::Any),
            '\\' => {
                let escaped = self.peek()?;
                self.at += 1;
                match escaped {
                    'd' => Some(Chars::These(('0'..='9').collect())),
                    'w' | 's' | 'b' | 'W' | 'S' | 'D' => None,
                    _ => Some(Chars::These(vec![escaped])),
                }
            }
            '[' => self.class(),
            '*' | '+' | '?' | '{' => None,
            _ => Some(Chars::These(vec![c])),
        }
    }

    fn class(&mut self) -> Option<Chars> {
        let is_not = self.takes('^');
        let mut all = Vec::new();
        loop {
            let first = self.peek()?;
            self.at += 1;
            if first == ']' && !all.is_empty() {
                break;
            }
            let range = self.peek() == Some('-') && self.text.get(self.at + 1).is_some_and(|&c| c != ']');
            if range {
                let last = *self.text.get(self.at + 1)?;
                self.at += 2;
                all.extend(first..=last);
            } else {
                all.push(first);
            }
        }
        Some(if is_not { Chars::NotThese(all) } else { Chars::These(all) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(expression: &str) -> Vec<String> {
        globs(expression).expect("it is read").into_iter().map(|glob| glob.text).collect()
    }

    #[test]
    fn expressions_become_globs() {
        assert_eq!(texts("^OPENSIPS_TTS_MRCP_CLIENT$"), ["OPENSIPS_TTS_MRCP_CLIENT"]);
        assert_eq!(texts("UniMRCP"), ["*UniMRCP*"]);
        assert_eq!(texts("^(Free|Aster)"), ["Free*", "Aster*"]);
        assert_eq!(texts("^tts.*\\.x\\*$"), ["tts*.x\\*"]);
        assert_eq!(texts("^a.c?$"), ["a?c", "a?"]);
        assert_eq!(globs("^1[0-9]$"), Some(vec![Glob { text: "1?".into(), is_exact: false }]));
        for unread in ["a{2,3}", "a{", "(ab)*", "a^b", "(a", "\\w"] {
            assert_eq!(globs(unread), None, "{unread}");
        }
    }

    #[test]
    fn expressions_become_status_codes() {
        let codes = |text| codes(text).expect("it is read");
        assert_eq!(codes("(408)|([56][0-9][0-9])"), ["408", "5xx", "6xx"]);
        assert_eq!(codes("^(408|480|503)$"), ["408", "480", "503"]);
        assert_eq!(codes("5[0-9][0-9]"), ["5xx"]);
        assert_eq!(codes("^5[0-9]{2}$"), ["5xx"]);
        assert_eq!(codes("486"), ["486"]);
    }

    #[test]
    fn a_text_stands_for_itself() {
        assert_eq!(literal("*98").text, "\\*98");
    }
}
