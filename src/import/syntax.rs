//! What a peer's configuration consists of, as far as a dispatcher is concerned.

use super::report::At;

/// All that one configuration says.
#[derive(Clone, Debug, Default)]
pub(super) struct Script {
    pub(super) modules: Vec<(String, At)>,
    pub(super) parameters: Vec<Parameter>,
    pub(super) settings: Vec<Setting>,
    pub(super) routes: Vec<Route>,
}

/// `modparam(module, name, value)`.
#[derive(Clone, Debug)]
pub(super) struct Parameter {
    pub(super) module: String,
    pub(super) name: String,
    pub(super) value: String,
    pub(super) at: At,
}

/// `name = value` outside of routes, with what stands behind it on the line.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) more: Vec<String>,
    pub(super) at: At,
}

#[derive(Clone, Debug)]
pub(super) struct Route {
    /// `route`, `failure_route`, `event_route`...
    pub(super) kind: String,
    /// `""` is the main one.
    pub(super) name: String,
    pub(super) at: At,
    pub(super) body: Vec<Statement>,
}

#[derive(Clone, Debug)]
pub(super) enum Statement {
    If { condition: Expr, then: Vec<Statement>, otherwise: Vec<Statement> },
    Switch { on: Expr, cases: Vec<Case> },
    Loop(Vec<Statement>),
    Assign { variable: String, value: Expr, at: At },
    Call(Call),
    Exit(At),
    Return,
    Break,
}

/// A value, or none for the default; where it stands; what is done.
pub(super) type Case = (Option<Expr>, At, Vec<Statement>);

#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) arguments: Vec<Expr>,
    pub(super) at: At,
}

#[derive(Clone, Debug)]
pub(super) enum Expr {
    Or(Vec<Expr>),
    And(Vec<Expr>),
    Not(Box<Expr>),
    Compare {
        left: Box<Expr>,
        sign: String,
        right: Box<Expr>,
        at: At,
    },
    Call(Call),
    Variable(String),
    /// A string.
    Value(String),
    /// A number or a name.
    Bare(String),
    /// Several with `+` or the like between them.
    Sum(Vec<Expr>),
}

impl Expr {
    /// As people wrote it, nearly.
    pub(super) fn shown(&self) -> String {
        let joined = |all: &[Expr], sign: &str| all.iter().map(Expr::shown).collect::<Vec<_>>().join(sign);
        match self {
            Expr::Or(all) => format!("({})", joined(all, " || ")),
            Expr::And(all) => joined(all, " && "),
            Expr::Not(inner) => format!("!{}", inner.shown()),
            Expr::Compare { left, sign, right, .. } => format!("{} {sign} {}", left.shown(), right.shown()),
            Expr::Call(call) => call.shown(),
            Expr::Variable(name) | Expr::Bare(name) => name.clone(),
            Expr::Value(text) => format!("{text:?}").replace("\\\\", "\\"),
            Expr::Sum(all) => joined(all, " + "),
        }
    }
}

impl Call {
    pub(super) fn shown(&self) -> String {
        let arguments: Vec<_> = self.arguments.iter().map(Expr::shown).collect();
        format!("{}({})", self.name, arguments.join(", "))
    }
}

/// Every call in these statements, also within conditions.
pub(super) fn calls<'s>(statements: &'s [Statement], each: &mut dyn FnMut(&'s Call)) {
    for statement in statements {
        match statement {
            Statement::If { condition, then, otherwise } => {
                calls_of(condition, each);
                calls(then, each);
                calls(otherwise, each);
            }
            Statement::Switch { on, cases } => {
                calls_of(on, each);
                cases.iter().for_each(|(.., body)| calls(body, each));
            }
            Statement::Loop(body) => calls(body, each),
            Statement::Assign { value, .. } => calls_of(value, each),
            Statement::Call(call) => {
                each(call);
                call.arguments.iter().for_each(|argument| calls_of(argument, each));
            }
            Statement::Exit(_) | Statement::Return | Statement::Break => {}
        }
    }
}

/// Every variable that these statements set.
pub(super) fn assignments<'s>(statements: &'s [Statement], each: &mut dyn FnMut(&'s str, At)) {
    for statement in statements {
        match statement {
            Statement::If { then, otherwise, .. } => {
                assignments(then, each);
                assignments(otherwise, each);
            }
            Statement::Switch { cases, .. } => cases.iter().for_each(|(.., body)| assignments(body, each)),
            Statement::Loop(body) => assignments(body, each),
            Statement::Assign { variable, at, .. } => each(variable, *at),
            Statement::Call(_) | Statement::Exit(_) | Statement::Return | Statement::Break => {}
        }
    }
}

fn calls_of<'s>(expr: &'s Expr, each: &mut dyn FnMut(&'s Call)) {
    match expr {
        Expr::Or(all) | Expr::And(all) | Expr::Sum(all) => all.iter().for_each(|one| calls_of(one, each)),
        Expr::Not(inner) => calls_of(inner, each),
        Expr::Compare { left, right, .. } => {
            calls_of(left, each);
            calls_of(right, each);
        }
        Expr::Call(call) => {
            each(call);
            call.arguments.iter().for_each(|argument| calls_of(argument, each));
        }
        Expr::Variable(_) | Expr::Value(_) | Expr::Bare(_) => {}
    }
}
