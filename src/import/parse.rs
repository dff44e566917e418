//! From words to what they say: modules, their parameters, settings, routes and the statements in them. What is not known is
//! passed over, since a script is full of things that are no business of a dispatcher.

use super::ImportError;
use super::lex::{Kind, Token};
use super::report::{At, Report};
use super::syntax::{Call, Case, Expr, Parameter, Route, Script, Setting, Statement};

/// Brackets and blocks within each other go no deeper.
const DEEPEST: usize = 100;

/// Reads all words.
///
/// # Errors
/// [`ImportError::Syntax`] where a route or a bracket does not end, or they go too deep.
pub(super) fn parse(tokens: &[Token], report: &Report) -> Result<Script, ImportError> {
    let mut parser = Parser { tokens, at: 0, depth: 0, report };
    let mut script = Script::default();
    while let Some(token) = parser.peek() {
        let at = token.at;
        let is_call = parser.ahead(1).is_some_and(|next| next.is("("));
        match token.text.as_str() {
            _ if token.kind != Kind::Word => parser.at += 1,
            "loadmodule" => {
                parser.at += 1;
                if let Some(name) = parser.take(|token| token.kind == Kind::Text || token.kind == Kind::Word) {
                    let file = name.rsplit('/').next().unwrap_or_default();
                    script.modules.push((file.trim_end_matches(".so").to_owned(), at));
                }
            }
            // Kamailio's has no =.
            "cfgengine" if parser.ahead(1).is_some_and(|next| next.kind == Kind::Text) => {
                parser.at += 1;
                script.settings.push(parser.setting("cfgengine".into(), at));
            }
            "modparam" | "modparamx" if is_call => script.parameters.extend(parser.parameter(at)?),
            kind if kind == "route" || kind.ends_with("_route") => {
                let kind = kind.to_owned();
                parser.at += 1;
                script.routes.extend(parser.route(kind, at)?);
            }
            name if parser.ahead(1).is_some_and(|next| next.is("=")) => {
                let name = name.to_owned();
                parser.at += 2;
                script.settings.push(parser.setting(name, at));
            }
            _ => parser.at += 1,
        }
    }
    Ok(script)
}

struct Parser<'t> {
    tokens: &'t [Token],
    at: usize,
    depth: usize,
    report: &'t Report,
}

impl<'t> Parser<'t> {
    fn peek(&self) -> Option<&'t Token> {
        self.tokens.get(self.at)
    }

    fn ahead(&self, count: usize) -> Option<&'t Token> {
        self.tokens.get(self.at + count)
    }

    fn sees(&self, sign: &str) -> bool {
        self.peek().is_some_and(|token| token.is(sign))
    }

    fn takes(&mut self, sign: &str) -> bool {
        let is_next = self.sees(sign);
        self.at += usize::from(is_next);
        is_next
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let is_next = self.peek().is_some_and(|token| token.is_word(word));
        self.at += usize::from(is_next);
        is_next
    }

    fn take(&mut self, wanted: impl Fn(&Token) -> bool) -> Option<String> {
        let token = self.peek().filter(|token| wanted(token))?;
        self.at += 1;
        Some(token.text.clone())
    }

    fn place(&self) -> At {
        self.peek().or(self.tokens.last()).map_or_else(At::default, |token| token.at)
    }

    fn fault(&self, problem: &'static str) -> ImportError {
        let at = self.place();
        ImportError::Syntax { file: self.report.name(at.file).to_owned(), line: at.line, problem }
    }

    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, ImportError>) -> Result<T, ImportError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.fault("blocks or brackets go too deep here: mend it, or import a shorter part"));
        }
        let result = inner(self);
        self.depth -= 1;
        result
    }

    /// Kamailio gives a parameter to several modules at once: `"dispatcher|tm"`.
    fn parameter(&mut self, at: At) -> Result<Vec<Parameter>, ImportError> {
        self.at += 1;
        let arguments = self.arguments()?;
        let text = |place: usize| match arguments.get(place) {
            Some(Expr::Value(text) | Expr::Bare(text)) => text.clone(),
            Some(other) => other.shown(),
            None => String::new(),
        };
        let (modules, name, value) = (text(0), text(1), text(2));
        let one = |module: &str| Parameter { module: module.to_owned(), name: name.clone(), value: value.clone(), at };
        Ok(modules.split('|').map(one).collect())
    }

    /// The value is what stands in one piece; the rest is up to the end of the line.
    fn setting(&mut self, name: String, at: At) -> Setting {
        let mut parts: Vec<String> = Vec::new();
        let mut last: Option<At> = None;
        while let Some(token) = self.peek() {
            let is_next = last.is_some_and(|last| last != token.at);
            let begins = self.ahead(1).is_some_and(|next| next.is("=")) && token.kind == Kind::Word && last.is_some();
            if token.is(";") || is_next || begins {
                break;
            }
            match parts.last_mut() {
                Some(part) if token.glued && last.is_some() => part.push_str(&token.text),
                _ => parts.push(token.text.clone()),
            }
            last = Some(token.at);
            self.at += 1;
        }
        let mut parts = parts.into_iter();
        let value = parts.next().unwrap_or_default();
        Setting { name, value, more: parts.collect(), at }
    }

    fn route(&mut self, kind: String, at: At) -> Result<Option<Route>, ImportError> {
        let mut name = String::new();
        for (open, close) in [("[", "]"), ("(", ")")] {
            if self.takes(open) {
                while !self.takes(close) {
                    let Some(token) = self.peek() else { return Err(self.fault("the route's name never ends")) };
                    name.push_str(&token.text);
                    self.at += 1;
                }
            }
        }
        // OpenSIPS's onreply_route[name, ...]; the parameters are no part of the name.
        let name = name.split(',').next().unwrap_or_default().to_owned();
        if !self.sees("{") {
            return Ok(None);
        }
        let body = self.block()?;
        Ok(Some(Route { kind, name, at, body }))
    }

    fn block(&mut self) -> Result<Vec<Statement>, ImportError> {
        self.deeper(|parser| {
            parser.at += 1;
            let mut body = Vec::new();
            while !parser.takes("}") {
                if parser.peek().is_none() {
                    return Err(parser.fault("a { is never closed: add a }"));
                }
                body.extend(parser.statement()?);
            }
            Ok(body)
        })
    }

    /// A block or one statement.
    fn body(&mut self) -> Result<Vec<Statement>, ImportError> {
        if self.sees("{") { self.block() } else { self.deeper(Self::statement) }
    }

    /// One statement; none or several where it is nothing or a block.
    fn statement(&mut self) -> Result<Vec<Statement>, ImportError> {
        let Some(token) = self.peek() else { return Ok(vec![]) };
        if token.is("{") {
            return self.block();
        }
        if token.kind == Kind::Variable {
            return Ok(self.assignment()?.into_iter().collect());
        }
        if token.kind != Kind::Word {
            self.at += 1;
            return Ok(vec![]);
        }
        let is_call = self.ahead(1).is_some_and(|next| next.is("("));
        let statement = match token.text.as_str() {
            "if" => self.conditional()?,
            "while" => {
                self.at += 1;
                self.or()?;
                Statement::Loop(self.body()?)
            }
            "for" => {
                while self.peek().is_some() && !self.takes(")") {
                    self.at += 1;
                }
                Statement::Loop(self.body()?)
            }
            "switch" => self.switch()?,
            "exit" | "drop" => {
                let at = token.at;
                self.ending(Statement::Exit(at))?
            }
            "return" => self.ending(Statement::Return)?,
            "break" => self.ending(Statement::Break)?,
            _ if is_call => {
                let call = self.call()?;
                self.takes(";");
                Statement::Call(call)
            }
            name => {
                let call = Call { name: name.to_owned(), arguments: vec![], at: token.at };
                self.pass()?;
                Statement::Call(call)
            }
        };
        Ok(vec![statement])
    }

    /// Passes what is not known, up to its end.
    fn pass(&mut self) -> Result<(), ImportError> {
        while let Some(token) = self.peek() {
            if token.is("}") {
                return Ok(());
            }
            self.at += 1;
            if token.is(";") {
                return Ok(());
            }
        }
        Err(self.fault("a statement never ends: add a ;"))
    }

    fn ending(&mut self, statement: Statement) -> Result<Statement, ImportError> {
        self.pass().map(|()| statement)
    }

    fn assignment(&mut self) -> Result<Option<Statement>, ImportError> {
        let (at, variable) = (self.place(), self.take(|_| true).unwrap_or_default());
        let is_plain = self.sees("=") || self.sees(":=");
        if !is_plain {
            // What is added to is no longer known.
            let value = Expr::Variable(variable.clone());
            self.pass()?;
            return Ok(Some(Statement::Assign { variable, value, at }));
        }
        self.at += 1;
        let value = self.or()?;
        self.pass()?;
        Ok(Some(Statement::Assign { variable, value, at }))
    }

    fn conditional(&mut self) -> Result<Statement, ImportError> {
        self.at += 1;
        let condition = self.or()?;
        let then = self.body()?;
        let otherwise = if self.takes_word("else") { self.body()? } else { vec![] };
        Ok(Statement::If { condition, then, otherwise })
    }

    fn switch(&mut self) -> Result<Statement, ImportError> {
        self.at += 1;
        let on = self.or()?;
        let mut cases: Vec<Case> = Vec::new();
        if !self.takes("{") {
            return Err(self.fault("a switch has no {: add one"));
        }
        while !self.takes("}") {
            if self.peek().is_none() {
                return Err(self.fault("a { is never closed: add a }"));
            }
            let at = self.place();
            if self.takes_word("case") {
                let value = self.sum()?;
                self.takes(":");
                cases.push((Some(value), at, vec![]));
            } else if self.takes_word("default") {
                self.takes(":");
                cases.push((None, at, vec![]));
            } else {
                let statements = self.deeper(Self::statement)?;
                if let Some((.., body)) = cases.last_mut() {
                    body.extend(statements);
                }
            }
        }
        Ok(Statement::Switch { on, cases })
    }

    fn call(&mut self) -> Result<Call, ImportError> {
        let (at, name) = (self.place(), self.take(|_| true).unwrap_or_default());
        Ok(Call { name, arguments: self.arguments()?, at })
    }

    /// In brackets, with commas; one that is left out is an empty text.
    fn arguments(&mut self) -> Result<Vec<Expr>, ImportError> {
        self.deeper(|parser| {
            parser.at += 1;
            let mut arguments = Vec::new();
            loop {
                if parser.takes(")") {
                    return Ok(arguments);
                }
                if parser.sees(",") {
                    arguments.push(Expr::Value(String::new()));
                } else {
                    arguments.push(parser.or()?);
                }
                if !parser.takes(",") && !parser.sees(")") {
                    return Err(parser.fault("a call's ( is not closed here: add a )"));
                }
            }
        })
    }

    fn or(&mut self) -> Result<Expr, ImportError> {
        let mut all = vec![self.and()?];
        while self.takes("||") || self.takes_word("or") {
            all.push(self.and()?);
        }
        Ok(one_or(all, Expr::Or))
    }

    fn and(&mut self) -> Result<Expr, ImportError> {
        let mut all = vec![self.not()?];
        while self.takes("&&") || self.takes_word("and") {
            all.push(self.not()?);
        }
        Ok(one_or(all, Expr::And))
    }

    fn not(&mut self) -> Result<Expr, ImportError> {
        if self.takes("!") || self.takes_word("not") {
            return self.deeper(|parser| Ok(Expr::Not(Box::new(parser.not()?))));
        }
        let left = self.sum()?;
        let at = self.place();
        let sign = self.take(|token| {
            token.kind == Kind::Sign
                && ["==", "!=", "=~", "!~", "<", ">", "<=", ">=", "="].contains(&token.text.as_str())
        });
        match sign {
            Some(sign) => {
                let right = self.sum()?;
                Ok(Expr::Compare { left: Box::new(left), sign, right: Box::new(right), at })
            }
            None => Ok(left),
        }
    }

    fn sum(&mut self) -> Result<Expr, ImportError> {
        let mut all = vec![self.operand()?];
        while self.peek().is_some_and(|token| ["+", "-", "*", "/", "%", "&", "|"].iter().any(|sign| token.is(sign))) {
            self.at += 1;
            all.push(self.operand()?);
        }
        Ok(one_or(all, Expr::Sum))
    }

    fn operand(&mut self) -> Result<Expr, ImportError> {
        let Some(token) = self.peek() else { return Err(self.fault("an expression has no end")) };
        let is_call = self.ahead(1).is_some_and(|next| next.is("("));
        match token.kind {
            Kind::Word if is_call => self.call().map(Expr::Call),
            Kind::Text => {
                self.at += 1;
                // A string that is one variable is worth what that is.
                let is_variable = token.text.starts_with('$') && is_whole_variable(&token.text);
                let text = token.text.clone();
                Ok(if is_variable { Expr::Variable(text) } else { Expr::Value(text) })
            }
            Kind::Variable => {
                self.at += 1;
                Ok(Expr::Variable(token.text.clone()))
            }
            Kind::Word => Ok(Expr::Bare(self.glued())),
            Kind::Sign if token.is("(") => self.deeper(|parser| {
                parser.at += 1;
                let inner = parser.or()?;
                match parser.takes(")") {
                    true => Ok(inner),
                    false => Err(parser.fault("a ( is not closed here: add a )")),
                }
            }),
            Kind::Sign if [")", "}", ";", ",", "{"].iter().any(|sign| token.is(sign)) => {
                Err(self.fault("a value is missing here: mend the expression"))
            }
            Kind::Sign => Ok(Expr::Bare(self.glued())),
        }
    }

    /// What stands in one piece: `-1`, `udp:10.0.0.1:5060`, `msg:len`.
    fn glued(&mut self) -> String {
        let mut text = self.take(|_| true).unwrap_or_default();
        let belongs = |token: &Token| token.glued && (token.kind == Kind::Word || token.is(":") || token.is("-"));
        while let Some(more) = self.take(belongs) {
            text += &more;
        }
        let is_network = self.peek().is_some_and(|token| token.is("/") && token.glued)
            && self.ahead(1).is_some_and(|bits| bits.glued && bits.kind == Kind::Word);
        if is_network && text.parse::<std::net::IpAddr>().is_ok() {
            self.at += 1;
            text = format!("{text}/{}", self.take(|_| true).unwrap_or_default());
        }
        text
    }
}

/// `$name` or `$name(...)`, and nothing behind it.
fn is_whole_variable(text: &str) -> bool {
    let name = text[1..].trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
    name.is_empty() || name.starts_with('(') && name.find(')') == Some(name.len() - 1)
}

fn one_or(mut all: Vec<Expr>, join: fn(Vec<Expr>) -> Expr) -> Expr {
    match all.len() {
        1 => all.remove(0),
        _ => join(all),
    }
}
