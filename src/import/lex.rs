//! The words of a peer's configuration, each with its place. Comments are gone, Kamailio's `#!` lines are obeyed, names that
//! they define are replaced, and included files stand where they were named.

use std::io;
use std::iter::Peekable;
use std::path::Path;
use std::str::Chars;

use super::preprocess::Defines;
use super::report::{At, Report};
use super::{ImportError, Peer};

/// Files that include each other go no deeper.
const DEEPEST: usize = 20;

/// Reads a file that another one includes.
pub type ReadFile<'r> = dyn FnMut(&Path) -> io::Result<String> + 'r;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Letters, digits, `_` and `.`.
    Word,
    /// A string, without its quotes.
    Text,
    /// `$` and all that belongs to it.
    Variable,
    /// An operator or a bracket.
    Sign,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) text: String,
    pub(super) at: At,
    /// Nothing stands between it and the one before.
    pub(super) glued: bool,
}

impl Token {
    pub(super) fn is(&self, sign: &str) -> bool {
        self.kind == Kind::Sign && self.text == sign
    }

    pub(super) fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text == word
    }
}

/// What all files of one configuration share.
pub(super) struct Lexer<'l, 'r> {
    pub(super) peer: Peer,
    pub(super) read: &'l mut ReadFile<'r>,
    pub(super) report: &'l mut Report,
    defines: Defines,
    depth: usize,
    tokens: Vec<Token>,
}

impl<'l, 'r> Lexer<'l, 'r> {
    pub(super) fn new(peer: Peer, read: &'l mut ReadFile<'r>, report: &'l mut Report) -> Self {
        Lexer { peer, read, report, defines: Defines::default(), depth: 0, tokens: Vec::new() }
    }

    pub(super) fn lex(mut self, name: &str, text: &str) -> Result<Vec<Token>, ImportError> {
        self.file(name, text)?;
        Ok(self.tokens)
    }

    fn file(&mut self, name: &str, text: &str) -> Result<(), ImportError> {
        let file = self.report.file(name);
        let mut scan = Scan { chars: text.chars().peekable(), at: At { file, line: 1 }, at_start: true };
        let mut glued = false;
        while let Some(&c) = scan.chars.peek() {
            let begins = scan.at_start;
            if begins && self.peer == Peer::Kamailio && scan.takes_directive() {
                let at = scan.at;
                let line = scan.line(true);
                self.directive(name, &line, at)?;
                glued = false;
                continue;
            }
            if !self.defines.is_active() {
                scan.line(false);
                continue;
            }
            if c.is_whitespace() || scan.takes_comment() {
                if c.is_whitespace() {
                    scan.next();
                }
                glued = false;
                continue;
            }
            let at = scan.at;
            let (kind, text) = scan.token().ok_or_else(|| ImportError::Syntax {
                file: self.report.name(file).to_owned(),
                line: at.line,
                problem: "what begins here never ends: close the string or the bracket",
            })?;
            self.take(name, Token { kind, text, at, glued })?;
            glued = true;
        }
        Ok(())
    }

    fn directive(&mut self, name: &str, line: &str, at: At) -> Result<(), ImportError> {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match word {
            "include_file" | "import_file" if self.defines.is_active() => {
                self.include(name, rest.trim().trim_matches('"'), word == "include_file", at)
            }
            "include_file" | "import_file" => Ok(()),
            _ => {
                self.defines.obey(line, at, self.report);
                Ok(())
            }
        }
    }

    /// Puts a token in its place: a defined name becomes what it stands for, an included file its words.
    fn take(&mut self, name: &str, mut token: Token) -> Result<(), ImportError> {
        let included = self
            .tokens
            .last()
            .filter(|last| token.kind == Kind::Text && (last.is_word("include_file") || last.is_word("import_file")));
        if let Some(last) = included {
            let must = last.text == "include_file";
            self.tokens.pop();
            return self.include(name, &token.text, must, token.at);
        }
        match token.kind {
            Kind::Text => token.text = self.defines.substitute(token.text),
            Kind::Word => {
                if let Some(value) = self.defines.value(&token.text) {
                    let value = value.to_owned();
                    let mut scan = Scan { chars: value.chars().peekable(), at: token.at, at_start: false };
                    let mut glued = token.glued;
                    while let Some(c) = scan.chars.peek().copied() {
                        if c.is_whitespace() {
                            scan.next();
                            glued = false;
                        } else if let Some((kind, text)) = scan.token() {
                            let text = if kind == Kind::Text { self.defines.substitute(text) } else { text };
                            self.tokens.push(Token { kind, text, at: token.at, glued });
                            glued = true;
                        } else {
                            break;
                        }
                    }
                    return Ok(());
                }
            }
            Kind::Variable | Kind::Sign => {}
        }
        self.tokens.push(token);
        Ok(())
    }

    fn include(&mut self, from: &str, path: &str, must: bool, at: At) -> Result<(), ImportError> {
        let folder = Path::new(from).parent().unwrap_or(Path::new(""));
        let path = folder.join(path);
        let name = path.display().to_string();
        if self.depth == DEEPEST {
            let file = self.report.name(at.file).to_owned();
            let problem = "files that include each other go too deep: mend the circle";
            return Err(ImportError::Syntax { file, line: at.line, problem });
        }
        match (self.read)(&path) {
            Ok(text) => {
                self.depth += 1;
                self.file(&name, &text)?;
                self.depth -= 1;
                Ok(())
            }
            Err(error) if !must && error.kind() == io::ErrorKind::NotFound => {
                let to = "the file is not there, so nothing of it was read: copy it there, or take the line out";
                self.report.not_mappable(at, format!("import_file {name:?}"), to);
                Ok(())
            }
            Err(source) => Err(ImportError::Read { file: name, source }),
        }
    }
}

/// Where we are in one text.
struct Scan<'t> {
    chars: Peekable<Chars<'t>>,
    at: At,
    at_start: bool,
}

impl Scan<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.chars.next()?;
        self.at_start = c == '\n';
        if c == '\n' {
            self.at.line += 1;
        }
        Some(c)
    }

    /// Whether `wanted` comes next; it is not taken.
    fn sees(&self, wanted: &str) -> bool {
        let mut ahead = self.chars.clone();
        wanted.chars().all(|c| ahead.next() == Some(c))
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.next();
        }
    }

    /// `#!` or `!!` at the start of a line.
    fn takes_directive(&mut self) -> bool {
        let is_one = self.sees("#!") || self.sees("!!");
        if is_one {
            self.skip(2);
        }
        is_one
    }

    /// The rest of the line, without its end; a backslash there takes the next one in.
    fn line(&mut self, continues: bool) -> String {
        let mut line = String::new();
        while let Some(c) = self.next() {
            match c {
                '\n' if continues && line.ends_with('\\') => {
                    line.pop();
                }
                '\n' => break,
                _ => line.push(c),
            }
        }
        line.trim().to_owned()
    }

    fn takes_comment(&mut self) -> bool {
        if self.sees("#") || self.sees("//") {
            while self.chars.peek().is_some_and(|&c| c != '\n') {
                self.next();
            }
            return true;
        }
        if !self.sees("/*") {
            return false;
        }
        self.skip(2);
        while self.chars.peek().is_some() && !self.sees("*/") {
            self.next();
        }
        self.skip(2);
        true
    }

    /// The next token; none if it does not end.
    fn token(&mut self) -> Option<(Kind, String)> {
        let c = *self.chars.peek()?;
        match c {
            '"' | '\'' => self.text(c).map(|text| (Kind::Text, text)),
            '$' => self.variable().map(|text| (Kind::Variable, text)),
            _ if is_of_word(c) => Some((Kind::Word, self.word(is_of_word))),
            _ => {
                const LONG: &[&str] =
                    &["==", "!=", "=~", "!~", "&&", "||", "<=", ">=", "+=", "-=", "*=", "/=", "=>", ":="];
                let sign = LONG.iter().find(|long| self.sees(long)).map_or_else(|| c.to_string(), ToString::to_string);
                self.skip(sign.chars().count());
                Some((Kind::Sign, sign))
            }
        }
    }

    fn word(&mut self, belongs: fn(char) -> bool) -> String {
        let mut word = String::new();
        while let Some(c) = self.chars.peek().copied().filter(|&c| belongs(c)) {
            word.push(c);
            self.next();
        }
        word
    }

    fn text(&mut self, quote: char) -> Option<String> {
        self.next();
        let mut text = String::new();
        loop {
            match self.next()? {
                '\\' => match self.next()? {
                    'n' => text.push('\n'),
                    'r' => text.push('\r'),
                    't' => text.push('\t'),
                    escaped if escaped == quote || escaped == '\\' => text.push(escaped),
                    // A backslash of an expression, as \. and \*, is part of the text.
                    other => text.extend(['\\', other]),
                },
                c if c == quote => return Some(text),
                c => text.push(c),
            }
        }
    }

    /// `$ua`, `$hdr(User-Agent)`, `$(ru{uri.host})`, `$avp(x)[0]`.
    fn variable(&mut self) -> Option<String> {
        let mut text = String::from(self.next()?);
        text += &self.word(|c| is_of_word(c) || c == '?');
        for (open, close) in [('(', ')'), ('[', ']')] {
            if self.chars.peek() == Some(&open) {
                let mut depth = 0;
                loop {
                    let c = self.next()?;
                    text.push(c);
                    depth += i32::from(c == open) - i32::from(c == close);
                    if depth == 0 {
                        break;
                    }
                }
            }
        }
        Some(text)
    }
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lex(peer: Peer, text: &str) -> Vec<(u32, String)> {
        let mut report = Report::default();
        let mut read = |path: &Path| match path.to_str() {
            Some("etc/more.cfg") => Ok("inside INNER".to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let tokens = Lexer::new(peer, &mut read, &mut report).lex("etc/a.cfg", text).expect("words");
        tokens.into_iter().map(|token| (token.at.line, token.text)).collect()
    }

    fn words(peer: Peer, text: &str) -> Vec<String> {
        lex(peer, text).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn comments_go_and_lines_stay() {
        let text = "a # b \"\n/* c\n d */ e // f\n\"g # // h\" 'i\"j'";
        let expected = [(1, "a"), (3, "e"), (4, "g # // h"), (4, "i\"j")].map(|(line, text)| (line, text.to_owned()));
        assert_eq!(lex(Peer::OpenSips, text), expected);
    }

    #[test]
    fn strings_variables_and_signs_are_whole() {
        let text = r#"if($(hdr(User-Agent)){s.len}=~"^a\.b\"c$"&&$avp(x)[0]!=-1)"#;
        let expected = [
            "if",
            "(",
            "$(hdr(User-Agent))",
            "{",
            "s.len",
            "}",
            "=~",
            "^a\\.b\"c$",
            "&&",
            "$avp(x)[0]",
            "!=",
            "-",
            "1",
            ")",
        ];
        assert_eq!(words(Peer::OpenSips, text), expected);
    }

    #[test]
    fn kamailio_defines_are_honoured_and_opensips_has_none() {
        let text = "#!define A 10\n#!ifdef A\nx A\n#!else\ny\n#!endif\nz\n";
        assert_eq!(words(Peer::Kamailio, text), ["x", "10", "z"]);
        assert_eq!(words(Peer::OpenSips, text), ["x", "A", "y", "z"]);
    }

    #[test]
    fn included_files_stand_where_they_are_named_and_share_definitions() {
        let text = "#!define INNER deep\nimport_file \"nowhere.cfg\"\na include_file \"more.cfg\" b";
        assert_eq!(words(Peer::Kamailio, text), ["a", "inside", "deep", "b"]);
    }

    #[test]
    fn what_never_ends_is_told_with_its_line() {
        let (mut report, mut read) = (Report::default(), |_: &Path| Err(io::ErrorKind::NotFound.into()));
        let error = Lexer::new(Peer::OpenSips, &mut read, &mut report).lex("a.cfg", "a\n\"b").expect_err("no end");
        assert!(error.to_string().starts_with("a.cfg:2: "), "{error}");
    }
}
