//! Walks through a routing script: by which conditions a request comes to which call. Nothing is run; where a script branches,
//! both ways are walked.

use std::collections::{BTreeMap, BTreeSet};

use super::Peer;
use super::branches::{held, myself};
use super::changes::{is_changed, is_own};
use super::condition::{self, Literal, Outcomes, Test, Ways, both, either};
use super::draft::{Answer, Draft};
use super::pattern;
use super::report::{At, Report};
use super::settings::Settings;
use super::syntax::{Call, Expr, Route, Script, Statement};

/// Statements that are walked at most: routes that call each other multiply.
const MOST_STEPS: usize = 200_000;
/// Routes that call each other go no deeper.
const DEEPEST: usize = 20;

/// What a variable may hold, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Worth {
    pub(super) value: Value,
    pub(super) ways: Ways,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    /// What the last select came to.
    Result,
    Unknown,
}

/// Where we are in the script, and what was done on the way.
#[derive(Clone, Debug, Default)]
pub(super) struct Path {
    /// What must hold for a request to be here.
    pub(super) ways: Ways,
    pub(super) variables: BTreeMap<String, Vec<Worth>>,
    /// The selects that were made last.
    pub(super) selects: BTreeSet<usize>,
    pub(super) failure_route: Option<String>,
    /// The flags of the dialog, once it is made.
    pub(super) dialog: Option<Vec<Worth>>,
    pub(super) record_route_params: Option<String>,
    /// Seconds that a session may last.
    pub(super) max_duration: Option<u64>,
    /// Something was sent.
    pub(super) is_answered: bool,
}

impl Path {
    fn start() -> Self {
        Path { ways: vec![vec![]], ..Path::default() }
    }

    /// What the last selects came to, if that is known here: whether somebody was chosen.
    pub(super) fn is_chosen(&self) -> Option<bool> {
        let of = |way: &Vec<Literal>| {
            way.iter().fold(Outcomes::ALL, |all, literal| match literal.test {
                Test::Result(outcomes) => all.and(outcomes),
                _ => all,
            })
        };
        let outcomes: Vec<_> = self.ways.iter().map(of).collect();
        match outcomes.as_slice() {
            [] => None,
            all if all.iter().all(|one| *one == Outcomes::CHOSEN) => Some(true),
            all if all.iter().all(|one| !one.chosen) => Some(false),
            _ => None,
        }
    }

    fn join(self, other: Path) -> Path {
        let mut variables = self.variables.clone();
        let names: BTreeSet<&String> = self.variables.keys().chain(other.variables.keys()).collect();
        for name in names {
            let (mine, theirs) = (self.variables.get(name), other.variables.get(name));
            if mine != theirs {
                let mut all = narrowed(mine, &self.ways);
                for Worth { value, ways } in narrowed(theirs, &other.ways) {
                    match all.iter_mut().find(|known| known.value == value) {
                        Some(known) => known.ways = simple(either(std::mem::take(&mut known.ways), ways)),
                        None => all.push(Worth { value, ways }),
                    }
                }
                variables.insert(name.clone(), all);
            }
        }
        let mut dialog = self.dialog.clone();
        if let Some(values) = other.dialog {
            let mine = dialog.get_or_insert_default();
            let new: Vec<_> = values.into_iter().filter(|value| !mine.contains(value)).collect();
            mine.extend(new);
        }
        Path {
            ways: simple(either(self.ways, other.ways)),
            variables,
            selects: &self.selects | &other.selects,
            failure_route: self.failure_route.or(other.failure_route),
            dialog,
            record_route_params: self.record_route_params.or(other.record_route_params),
            max_duration: self.max_duration.or(other.max_duration),
            is_answered: self.is_answered && other.is_answered,
        }
    }
}

/// What a variable holds on these ways alone; one that was never set is not known.
fn narrowed(values: Option<&Vec<Worth>>, ways: &Ways) -> Vec<Worth> {
    let unset = vec![Worth { value: Value::Unknown, ways: vec![vec![]] }];
    let on = |worth: &Worth| Worth { value: worth.value.clone(), ways: both(ways, &worth.ways) };
    values.unwrap_or(&unset).iter().map(on).filter(|worth| !worth.ways.is_empty()).collect()
}

pub(super) fn joined(a: Option<Path>, b: Option<Path>) -> Option<Path> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.join(b)),
        (one, other) => one.or(other),
    }
}

/// Two ways that differ in one answer alone are one without that question; one that asks more than another says nothing.
pub(super) fn simple(ways: Ways) -> Ways {
    let mut ways = condition::gathered(ways);
    loop {
        let mut found = None;
        'search: for (at, a) in ways.iter().enumerate() {
            for (other, b) in ways.iter().enumerate().filter(|(other, _)| *other != at) {
                if a.iter().all(|one| b.iter().any(|two| one.says(two))) {
                    found = Some((at, other, a.clone()));
                    break 'search;
                }
                let new: Vec<_> = a.iter().filter(|one| !b.iter().any(|two| one.says(two))).collect();
                let [only] = new.as_slice() else { continue };
                let opposite = only.not();
                if a.len() == b.len() && b.iter().any(|two| opposite.says(two)) {
                    let less = a.iter().filter(|one| !one.says(only)).cloned().collect();
                    found = Some((at, other, less));
                    break 'search;
                }
            }
        }
        let Some((at, other, merged)) = found else { return ways };
        ways[at.min(other)] = merged;
        ways.remove(at.max(other));
    }
}

/// How statements were left.
#[derive(Default)]
pub(super) struct Flow {
    /// By their end.
    pub(super) on: Option<Path>,
    pub(super) returned: Option<Path>,
    pub(super) broken: Option<Path>,
}

/// One choice of a server.
#[derive(Clone, Debug)]
pub(super) struct Select {
    pub(super) set: u32,
    pub(super) at: At,
    pub(super) shown: String,
    pub(super) ways: Ways,
    /// The ways on which a request then is sent; the choice alone sends nothing.
    pub(super) sent: Ways,
    pub(super) dialog: Option<Vec<Worth>>,
    pub(super) rewrite: &'static str,
    pub(super) record_route_params: Option<String>,
    /// Another is tried when a call fails.
    pub(super) fails_over: bool,
}

/// What a script decides, in its order.
#[derive(Clone, Debug)]
pub(super) enum Decision {
    Select(usize),
    Reply {
        answer: Answer,
        ways: Ways,
        at: At,
        shown: String,
    },
    /// The request is dropped without an answer.
    Silence {
        ways: Ways,
        at: At,
    },
}

pub(super) struct Walker<'w> {
    pub(super) peer: Peer,
    pub(super) script: &'w Script,
    pub(super) settings: &'w Settings,
    pub(super) report: &'w mut Report,
    pub(super) draft: &'w mut Draft,
    pub(super) selects: Vec<Select>,
    pub(super) decisions: Vec<Decision>,
    /// Which selects' failures come to which route.
    pub(super) failure_routes: BTreeMap<String, BTreeSet<usize>>,
    /// The selects whose failures are walked now.
    pub(super) failing: Option<BTreeSet<usize>>,
    /// Routes that some request comes to.
    pub(super) entered: BTreeSet<String>,
    /// Calls of which nothing is known, and where they stand.
    pub(super) strange: BTreeMap<String, BTreeSet<At>>,
    depth: usize,
    steps: usize,
}

impl<'w> Walker<'w> {
    pub(super) fn new(
        peer: Peer,
        script: &'w Script,
        settings: &'w Settings,
        report: &'w mut Report,
        draft: &'w mut Draft,
    ) -> Self {
        Walker {
            peer,
            script,
            settings,
            report,
            draft,
            selects: vec![],
            decisions: vec![],
            failure_routes: BTreeMap::new(),
            failing: None,
            entered: BTreeSet::new(),
            strange: BTreeMap::new(),
            depth: 0,
            steps: 0,
        }
    }

    /// Walks the main route, then what happens to failures.
    pub(super) fn walk(&mut self) {
        let main = |route: &&Route| matches!(route.kind.as_str(), "route" | "request_route") && is_main(&route.name);
        for route in self.script.routes.iter().filter(main) {
            self.statements(&route.body, Path::start());
        }
        let mut walked = BTreeSet::new();
        // A failure route may set the next one.
        while let Some((name, selects)) =
            self.failure_routes.iter().find(|(name, _)| !walked.contains(*name)).map(|(a, b)| (a.clone(), b.clone()))
        {
            walked.insert(name.clone());
            let named = |route: &&Route| route.kind == "failure_route" && route.name == name;
            for route in self.script.routes.iter().filter(named) {
                self.entered.insert(format!("failure_route {name}"));
                self.failing = Some(selects.clone());
                self.statements(&route.body, Path { selects: selects.clone(), ..Path::start() });
                self.failing = None;
            }
        }
    }

    pub(super) fn statements(&mut self, statements: &'w [Statement], path: Path) -> Flow {
        let mut flow = Flow { on: Some(path), ..Flow::default() };
        for statement in statements {
            let Some(path) = flow.on.take() else { break };
            self.steps += 1;
            if self.steps > MOST_STEPS {
                let to = "it goes so many ways that no more of them are read: import a shorter part, and write the other rules by hand";
                self.report.not_mappable(At::default(), "the script", to);
                break;
            }
            let Flow { on, returned, broken } = self.statement(statement, path);
            flow = Flow { on, returned: joined(flow.returned, returned), broken: joined(flow.broken, broken) };
        }
        flow
    }

    fn statement(&mut self, statement: &'w Statement, mut path: Path) -> Flow {
        match statement {
            Statement::Exit(at) => {
                if !path.is_answered && path.selects.is_empty() && self.failing.is_none() {
                    self.decisions.push(Decision::Silence { ways: path.ways, at: *at });
                }
                Flow::default()
            }
            Statement::Return => Flow { returned: Some(path), ..Flow::default() },
            Statement::Break => Flow { broken: Some(path), ..Flow::default() },
            Statement::Loop(body) => self.repeat(body, path),
            Statement::Call(call) if call.name == "route" => {
                let on = self.enter(call, path);
                Flow { on, ..Flow::default() }
            }
            Statement::Call(call) => {
                self.call(call, &mut path);
                Flow { on: Some(path), ..Flow::default() }
            }
            Statement::Assign { variable, value, at } => {
                self.assign(variable, value, *at, &mut path);
                Flow { on: Some(path), ..Flow::default() }
            }
            Statement::If { condition, then, otherwise } => {
                let (yes, no) = self.truth(condition, &mut path);
                self.branch(&path, vec![(yes, then), (condition::rest(no), otherwise)])
            }
            Statement::Switch { on, cases } => self.switch(on, cases, path),
        }
    }

    /// Walks a route that is called.
    fn enter(&mut self, call: &'w Call, mut path: Path) -> Option<Path> {
        let name = call.arguments.first().and_then(|name| self.constant(name, &path));
        for (place, argument) in (1..).zip(call.arguments.iter().skip(1)) {
            let values = self.values(argument, &path);
            path.variables.insert(format!("$param({place})"), values);
        }
        let script = self.script;
        let found = script.routes.iter().find(|route| route.kind == "route" && Some(&route.name) == name.as_ref());
        let Some(route) = found.filter(|_| self.depth < DEEPEST) else {
            let to = match (name, found) {
                (None, _) => {
                    "which route it is is not known before a call comes: what it leads to is not read; write its rules by hand"
                }
                (Some(_), None) => {
                    "there is no such route: what is done there is not read; import the file that has it"
                }
                (Some(_), Some(_)) => "routes go too deep here: what it leads to is not read; write its rules by hand",
            };
            self.report.not_mappable(call.at, call.shown(), to);
            return Some(path);
        };
        self.entered.insert(route.name.clone());
        self.depth += 1;
        let Flow { on, returned, .. } = self.statements(&route.body, path);
        self.depth -= 1;
        joined(on, returned)
    }

    /// What an expression may be worth.
    pub(super) fn values(&self, expr: &Expr, path: &Path) -> Vec<Worth> {
        let one = |value| vec![Worth { value, ways: vec![vec![]] }];
        match expr {
            Expr::Value(text) | Expr::Bare(text) => one(Value::Text(text.clone())),
            Expr::Variable(name) if is_result(name) && !path.selects.is_empty() => one(Value::Result),
            Expr::Variable(name) => path.variables.get(name).cloned().unwrap_or_else(|| one(Value::Unknown)),
            _ => one(Value::Unknown),
        }
    }

    /// What it is worth, if that is one text whatever happened.
    pub(super) fn constant(&self, expr: &Expr, path: &Path) -> Option<String> {
        match self.values(expr, path).as_slice() {
            [Worth { value: Value::Text(text), .. }] => Some(text.clone()),
            _ => None,
        }
    }

    fn assign(&mut self, variable: &str, value: &'w Expr, at: At, path: &mut Path) {
        if let Expr::Call(call) = value {
            self.call(call, path);
        }
        self.assigned(variable, value, at, path);
        let mut values = self.values(value, path);
        for worth in &mut values {
            worth.ways = both(&path.ways, &worth.ways);
        }
        path.variables.insert(variable.to_owned(), values);
    }

    /// When a condition holds, and when not.
    fn truth(&mut self, expr: &'w Expr, path: &mut Path) -> (Ways, Ways) {
        let always = || vec![vec![]];
        match expr {
            Expr::And(all) | Expr::Or(all) => {
                let is_and = matches!(expr, Expr::And(_));
                let before = path.ways.clone();
                // So far: what makes us ask the next, and what makes it needless.
                let (mut so_far, mut done) = (always(), Ways::new());
                for one in all {
                    path.ways = both(&before, &so_far);
                    let (yes, no) = self.truth(one, path);
                    let (goes_on, ends) = if is_and { (yes, no) } else { (no, yes) };
                    done = condition::gathered(either(done, both(&so_far, &ends)));
                    so_far = condition::gathered(both(&so_far, &goes_on));
                }
                path.ways = before;
                if is_and { (so_far, done) } else { (done, so_far) }
            }
            Expr::Not(inner) => {
                let (yes, no) = self.truth(inner, path);
                (no, yes)
            }
            Expr::Compare { left, sign, right, at } => self.compared(left, sign, right, *at, path),
            Expr::Call(call) if call.name == "route" => {
                if let Some(on) = self.enter(call, path.clone()) {
                    *path = Path { ways: path.ways.clone(), ..on };
                }
                unknown(call.at, call.shown())
            }
            Expr::Call(call) => self.asked(call, path),
            Expr::Bare(text) if text == "1" || text == "true" => (always(), vec![]),
            Expr::Value(_) | Expr::Bare(_) | Expr::Variable(_) | Expr::Sum(_) => unknown(At::default(), expr.shown()),
        }
    }

    pub(super) fn compared(
        &mut self,
        left: &'w Expr,
        sign: &str,
        right: &'w Expr,
        at: At,
        path: &mut Path,
    ) -> (Ways, Ways) {
        let shown = format!("{} {sign} {}", left.shown(), right.shown());
        if let Expr::Call(call) = left {
            self.call(call, path);
        }
        let left_text = match left {
            Expr::Variable(name) => name.clone(),
            Expr::Value(text) | Expr::Bare(text) => text.clone(),
            _ => return unknown(at, shown),
        };
        let right_text = match right {
            Expr::Value(text) | Expr::Bare(text) => Some(text.clone()),
            Expr::Variable(name) if name == "$null" => Some(name.clone()),
            _ => self.constant(right, path),
        };
        let Some(right_text) = right_text else { return unknown(at, shown) };
        let is_result = match left {
            Expr::Variable(_) => self.values(left, path).iter().all(|worth| worth.value == Value::Result),
            _ => false,
        };
        if is_result && let Some(outcomes) = right_text.parse().ok().and_then(|number| Outcomes::of(sign, number)) {
            return of_literal(Literal::new(Test::Result(outcomes), true, at, shown));
        }
        if right_text == "myself" {
            return myself(&left_text, at, &shown, sign.starts_with('!'));
        }
        if let Expr::Variable(name) = left
            && is_own(name)
            && let Some(values) = path.variables.get(name)
        {
            return held(values, sign, &right_text).unwrap_or_else(|| unknown(at, shown));
        }
        if is_changed(&left_text, path) {
            return unknown(at, shown);
        }
        if matches!(left_text.as_str(), "$rs" | "$T_reply_code" | "status") {
            let codes = if sign.ends_with('~') { pattern::codes(&right_text) } else { Some(vec![right_text]) };
            return match codes {
                Some(codes) if !sign.starts_with('!') => of_literal(Literal::new(Test::Status(codes), true, at, shown)),
                _ => unknown(at, shown),
            };
        }
        match condition::compared(&left_text, sign, &right_text) {
            // What must not be is told as the contrary of what would be.
            Some((test, false)) => {
                let (no, yes) = of_literal(Literal::new(test, true, at, shown.replacen(" !", " =", 1)));
                (yes, no)
            }
            Some((test, true)) => of_literal(Literal::new(test, true, at, shown)),
            None => unknown(at, shown),
        }
    }
}

/// The literal, and its contrary.
pub(super) fn of_literal(literal: Literal) -> (Ways, Ways) {
    let not = literal.not();
    (vec![vec![literal]], vec![vec![not]])
}

pub(super) fn unknown(at: At, shown: String) -> (Ways, Ways) {
    of_literal(Literal::new(Test::Unknown, true, at, shown))
}

/// A question about what Tandem looks after itself: one answer is the rule and says nothing, the other is the exception.
pub(super) fn exceptional(at: At, shown: &str, is_exception: bool) -> (Ways, Ways) {
    let exception = vec![vec![Literal::new(Test::Itself, true, at, shown)]];
    let usual = vec![vec![]];
    if is_exception { (exception, usual) } else { (usual, exception) }
}

fn is_result(name: &str) -> bool {
    matches!(name, "$rc" | "$retcode" | "$?" | "$(rc)")
}

fn is_main(name: &str) -> bool {
    name.is_empty() || name == "0"
}
