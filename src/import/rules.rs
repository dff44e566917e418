//! From the decisions of a script to rules: the first that matches wins, so what an earlier rule takes need not be excluded by
//! a later one.

use std::collections::BTreeMap;

use super::condition::{Field, Literal, Test, Ways};
use super::draft::{Action, Answer, Rule};
use super::report::At;
use super::script::{Decision, Select, Walker, simple};
use super::syntax::{self, Call};
use crate::engine::flow::Cidr;

/// The methods that a rule can be about; ACK and CANCEL follow their requests.
const METHODS: &[&str] = &[
    "INVITE",
    "OPTIONS",
    "MESSAGE",
    "SUBSCRIBE",
    "NOTIFY",
    "PUBLISH",
    "REGISTER",
    "REFER",
    "INFO",
    "UPDATE",
    "BYE",
    "PRACK",
];
/// Rules of one decision; a longer list is none that anybody would read.
const MOST_RULES: usize = 32;

/// One way to one decision.
struct Unit {
    /// The decision's place.
    place: usize,
    at: At,
    shown: String,
    /// Why it is no rule yet.
    doubt: Option<&'static str>,
    way: Vec<Literal>,
    action: Action,
    name: String,
}

impl Walker<'_> {
    /// Writes the rules, and what follows for each set.
    pub(super) fn decide(&mut self) {
        let mut units = Vec::new();
        for (place, decision) in std::mem::take(&mut self.decisions).into_iter().enumerate() {
            let (found, doubt, all) = match &decision {
                Decision::Select(select) => {
                    let Select { at, shown, sent, ways, .. } = &self.selects[*select];
                    let doubt =
                        (sent.is_empty() && !ways.is_empty()).then_some("nothing was found that sends these calls");
                    ((*at, shown.clone()), doubt, if sent.is_empty() { ways.clone() } else { sent.clone() })
                }
                Decision::Reply { at, shown, ways, .. } => ((*at, shown.clone()), None, ways.clone()),
                Decision::Silence { at, ways } => ((*at, "exit without an answer".to_owned()), None, ways.clone()),
            };
            if let Some(doubt) = doubt {
                let to = format!("{doubt}: its [[rule]] is written as a comment; narrow it, then uncomment");
                self.report.not_mappable(found.0, &found.1, to);
            }
            let unit = |way: Vec<Literal>, action: &Action, name: String| {
                let (at, shown) = found.clone();
                Unit { place, at, shown, doubt, way, action: action.clone(), name }
            };
            match decision {
                Decision::Select(select) => {
                    let Select { set, at, shown, rewrite, record_route_params, .. } = self.selects[select].clone();
                    let action = Action::Set { set, rewrite, record_route_params };
                    let ways = self.settled(&all);
                    if ways.is_empty() && !all.is_empty() {
                        match all.iter().all(|way| is_inside(way)) {
                            true => self.report.mapped(at, &shown, "inside a dialog requests follow their route: no rule is needed"),
                            false => self.report.not_mappable(
                                at,
                                &shown,
                                "it is chosen where something has failed, or for ACK and CANCEL: Tandem looks after these itself; write a \
                                 [[rule]] if calls need it",
                            ),
                        }
                    }
                    units.extend(ways.into_iter().map(|way| unit(way, &action, format!("set-{set}"))));
                }
                Decision::Reply { answer, ways, at, shown } => {
                    let ways = self.unroutable(&answer, ways, at, &shown);
                    let action = Action::Reply(worded(&answer));
                    let name = format!("answer-{}", answer.status);
                    units.extend(ways.into_iter().map(|way| unit(way, &action, name.clone())));
                }
                Decision::Silence { at, .. } => {
                    let found = "exit without an answer";
                    let (known, unknown): (Ways, Ways) =
                        self.settled(&all).into_iter().partition(|way| is_askable(way));
                    if !unknown.is_empty() {
                        let to = "when it comes to that no rule can ask: write a [[rule]] with reply, or give [[listener]] allow";
                        self.report.not_mappable(at, found, to);
                    }
                    let (ways, silent): (Ways, Ways) = known.into_iter().partition(|way| asks(way));
                    if !silent.is_empty() {
                        self.report.approximated(at, found, "[unroutable] answers what no rule matches");
                    }
                    if !ways.is_empty() {
                        let to = "[[rule]] with reply 403: Tandem leaves no request without an answer";
                        self.report.approximated(at, found, to);
                    }
                    let action = Action::Reply(Answer { status: 403, reason: "Forbidden".into() });
                    units.extend(ways.into_iter().map(|way| unit(way, &action, "silence".into())));
                }
            }
        }
        self.write_rules(units);
        for select in std::mem::take(&mut self.selects) {
            self.session(&select);
            if !select.fails_over {
                let to = "Tandem tries the next server by itself when one does not take the call; max_retries = 0 for the old way";
                self.report.approximated(select.at, format!("set {} without ds_next or lb_next", select.set), to);
            }
        }
        self.probes();
        self.rest();
        self.left_over();
    }

    /// The ways that rules are about, without what is left over of questions that no rule can ask: that is told.
    fn settled(&mut self, ways: &Ways) -> Ways {
        let mut all = served(ways);
        for way in &mut all {
            way.retain(|literal| {
                let is_left_over = literal.is_rest && literal.test == Test::Unknown;
                if is_left_over {
                    self.report.not_mappable(literal.at, &literal.shown, TAKEN_TOO);
                }
                !is_left_over
            });
        }
        simple(all)
    }

    /// The ways that are rules of their own; what asks nothing is the answer to what no rule matches.
    fn unroutable(&mut self, answer: &Answer, ways: Ways, at: At, shown: &str) -> Ways {
        let (known, unknown): (Ways, Ways) = self.settled(&ways).into_iter().partition(|way| is_askable(way));
        if !unknown.is_empty() {
            let to = "when it is sent no rule can ask: write a [[rule]] with reply where it matters; of sources, give source in the rules, or \
                      [[listener]] allow";
            self.report.not_mappable(at, shown, to);
            for literal in unknown.iter().flatten().filter(|literal| is_doubtful(literal)) {
                self.report.not_mappable(literal.at, &literal.shown, TAKEN_TOO);
            }
        }
        let (asking, silent): (Ways, Ways) = known.into_iter().partition(|way| asks(way));
        if !silent.is_empty() {
            let has = self.draft.unroutable.get_or_insert_with(|| worded(answer));
            let to = format!("[unroutable] status = {}: what no rule matches", has.status);
            match *has == worded(answer) {
                true => self.report.mapped(at, shown, to),
                false => self.report.approximated(at, shown, to + "; there is one answer for all that no rule matches"),
            }
        }
        if !asking.is_empty() {
            self.report.mapped(at, shown, format!("[[rule]] with reply = {{ status = {} }}", answer.status));
        }
        asking
    }

    /// Writes a rule for each way. Ways exclude each other, so their order is free: those come first that others exclude.
    fn write_rules(&mut self, mut units: Vec<Unit>) {
        let mut taken: Vec<Vec<Literal>> = Vec::new();
        let mut written: BTreeMap<usize, usize> = BTreeMap::new();
        while !units.is_empty() {
            // What asks more comes before what asks less.
            let waits = |at: usize| units.iter().any(|unit| is_narrower(&unit.way, &units[at].way));
            let is_free = |at: usize| excluded(&units[at].way).all(|literal| is_taken(&taken, literal, &units[at].way));
            let places = || (0..units.len()).filter(|at| !waits(*at));
            let ready = places().find(|at| is_free(*at)).or_else(|| places().next()).unwrap_or_default();
            let Unit { place, at, shown, doubt, way, action, name } = units.remove(ready);
            let left = written.get(&place).map_or(MOST_RULES, |count| MOST_RULES - count);
            for literal in excluded(&way).filter(|literal| !is_taken(&taken, literal, &way)) {
                let to =
                    format!("a rule can't exclude: {name} takes these requests too; put a [[rule]] for them before it");
                self.report.not_mappable(literal.at, format!("not {}", literal.shown), to);
            }
            let rules = self.rules_of(&way);
            // What is a comment, or not written, takes nothing.
            let is_whole = rules.len() <= left && doubt.is_none() && rules.iter().all(|rule| rule.doubts.is_empty());
            if rules.len() > left {
                let to = format!(
                    "more than {MOST_RULES} rules would come of it, and the others are left out: write them by hand"
                );
                self.report.not_mappable(at, &shown, to);
            }
            for mut rule in rules.into_iter().take(left) {
                rule.doubts.extend(doubt.map(str::to_owned));
                rule.action = action.clone();
                let same = |other: &Rule| Rule { name: String::new(), ..other.clone() } == rule;
                if self.draft.rules.iter().any(same) {
                    continue;
                }
                let has = |draft: &[Rule], name: &str| draft.iter().any(|rule| rule.name == name);
                rule.name.clone_from(&name);
                for number in 2.. {
                    if !has(&self.draft.rules, &rule.name) {
                        break;
                    }
                    rule.name = format!("{name}-{number}");
                }
                if let Action::Set { set, rewrite, .. } = &rule.action {
                    let told = self.selects.iter().find(|select| select.set == *set && select.at == at);
                    if let Some(select) = told {
                        let to = format!("[[rule]] {:?} to set {set}, rewrite = {rewrite:?}", rule.name);
                        match rule.doubts.is_empty() {
                            true => self.report.mapped(select.at, &select.shown, to),
                            false => self.report.not_mappable(
                                select.at,
                                &select.shown,
                                to + ", as a comment: narrow it, then uncomment",
                            ),
                        }
                    }
                }
                *written.entry(place).or_default() += 1;
                self.draft.rules.push(rule);
            }
            // Methods that it excludes are part of the rule.
            if is_whole {
                taken.push(way.into_iter().filter(|one| one.holds || matches!(one.test, Test::Method(_))).collect());
            }
        }
    }

    /// The rules that one way needs: one for each pattern, since a rule has one of each field.
    fn rules_of(&mut self, way: &[Literal]) -> Vec<Rule> {
        let mut methods: Option<Vec<String>> = None;
        let mut not_methods: Vec<String> = Vec::new();
        let mut rules = vec![Rule::default()];
        for literal in way.iter().filter(|literal| !is_said(literal, way)) {
            let Literal { test, holds, at, shown, .. } = literal;
            let found = if *holds { shown.clone() } else { format!("not {shown}") };
            match test {
                Test::Method(these) if *holds => {
                    let all: Vec<_> =
                        these.iter().filter(|method| *method != "ACK" && *method != "CANCEL").cloned().collect();
                    self.report.mapped(*at, &found, "[[rule]] method");
                    let both =
                        methods.take().map(|before| before.into_iter().filter(|one| all.contains(one)).collect());
                    methods = Some(both.unwrap_or(all));
                }
                Test::Method(these) => {
                    self.report.mapped(*at, &found, "[[rule]] method: the others");
                    not_methods.extend(these.iter().cloned());
                }
                Test::Field(field, globs) if *holds => {
                    let written: Vec<_> = globs.iter().map(|glob| format!("{:?}", glob.text)).collect();
                    let to = format!("[[rule]] {} = {}", key(field), written.join(" or "));
                    let by_expression = shown.contains("~ ");
                    match (globs.iter().all(|glob| glob.is_exact), by_expression) {
                        (true, false) => self.report.mapped(*at, &found, to),
                        (true, true) => self.report.approximated(*at, &found, format!("{to}, letters' case counts")),
                        (false, _) => {
                            self.report.approximated(*at, &found, format!("{to}: ? is any letter, not some alone"))
                        }
                    }
                    rules = rules
                        .iter()
                        .flat_map(|rule| globs.iter().map(|glob| with(rule, field, &glob.text)))
                        .take(MOST_RULES + 1)
                        .collect();
                }
                Test::Source(sources) if *holds && sources.iter().all(|source| source.parse::<Cidr>().is_ok()) => {
                    self.report.mapped(*at, &found, format!("[[rule]] source = {}", super::write::list(sources)));
                    for rule in &mut rules {
                        if !rule.sources.is_empty() {
                            rule.doubts.push(found.clone());
                        }
                        rule.sources.extend(sources.iter().cloned());
                    }
                }
                Test::Arrival(host) if *holds => {
                    let of_host = |bind: &&String| {
                        bind.split_once(':').is_some_and(|(_, address)| address.starts_with(&format!("{host}:")))
                    };
                    let binds: Vec<String> =
                        self.draft.listeners.iter().map(|listener| &listener.bind).filter(of_host).cloned().collect();
                    match binds.is_empty() {
                        true => {
                            let to =
                                "no [[listener]] has that address: the rule is a comment; add both, then uncomment";
                            self.report.not_mappable(*at, &found, to);
                            rules.iter_mut().for_each(|rule| rule.doubts.push(found.clone()));
                        }
                        false => {
                            self.report.mapped(
                                *at,
                                &found,
                                format!("[[rule]] listener = {}", super::write::list(&binds)),
                            );
                            rules.iter_mut().for_each(|rule| rule.listeners.clone_from(&binds));
                        }
                    }
                }
                Test::Field(..) | Test::Source(_) | Test::Arrival(_) if !*holds => {}
                Test::Itself | Test::Result(_) => {}
                Test::Unknown if !is_doubtful(literal) => {}
                Test::Field(..) | Test::Source(_) | Test::Arrival(_) | Test::Status(_) | Test::Unknown => {
                    let to = "no rule can ask that, so the rule is written as a comment: narrow it by source, header or request_uri, then \
                              uncomment";
                    self.report.not_mappable(*at, &found, to);
                    rules.iter_mut().for_each(|rule| rule.doubts.push(found.clone()));
                }
            }
        }
        let methods: Option<Vec<String>> = match methods {
            Some(methods) => Some(methods.into_iter().filter(|method| !not_methods.contains(method)).collect()),
            None if not_methods.iter().any(|method| METHODS[..8].contains(&method.as_str())) => Some(
                METHODS
                    .iter()
                    .filter(|one| !not_methods.iter().any(|not| not == *one))
                    .map(ToString::to_string)
                    .collect(),
            ),
            None => None,
        };
        // Those of requests that are none of a rule's.
        if methods.as_ref().is_some_and(Vec::is_empty) {
            return vec![];
        }
        let methods = methods.unwrap_or_default();
        rules.into_iter().map(|rule| Rule { methods: methods.clone(), ..rule }).collect()
    }

    /// Calls of the modules that no walk has come to.
    fn rest(&mut self) {
        let script = self.script;
        let mut left: BTreeMap<At, (&Call, String)> = BTreeMap::new();
        for route in &script.routes {
            let name =
                if route.name.is_empty() { route.kind.clone() } else { format!("{}[{}]", route.kind, route.name) };
            syntax::calls(&route.body, &mut |call| {
                let is_ours = call.name.starts_with("ds_")
                    || call.name.starts_with("lb_")
                    || REPLIES.contains(&call.name.as_str());
                if is_ours && !self.report.tells_of(call.at, &call.name) {
                    left.insert(call.at, (call, name.clone()));
                }
            });
        }
        for (at, (call, route)) in left {
            let is_choice = call.name.starts_with("ds_select") || call.name.starts_with("lb_start");
            match (is_choice, REPLIES.contains(&call.name.as_str())) {
                (true, _) => {
                    let to = format!(
                        "no request comes to {route} by a way that is read: write the [[rule]] and [[set]] by hand"
                    );
                    self.report.not_mappable(at, call.shown(), to);
                }
                (false, true) => {
                    let to = format!(
                        "no request comes to {route} by a way that is read: write a [[rule]] with reply where it matters"
                    );
                    self.report.not_mappable(at, call.shown(), to);
                }
                (false, false) => self.other(call),
            }
        }
    }
}

const TAKEN_TOO: &str = "no rule can ask that, so the rules behind it take these requests too: give source or header in the rules, or [[listener]] allow";

const REPLIES: &[&str] = &["sl_send_reply", "send_reply", "t_reply", "sl_reply"];

/// The ways without those that are none of a rule's: requests inside dialogs, ACK and CANCEL.
pub(super) fn served(ways: &Ways) -> Ways {
    let is_of_none = |literal: &Literal| match &literal.test {
        Test::Itself => literal.holds,
        Test::Method(methods) => literal.holds && methods.iter().all(|method| method == "ACK" || method == "CANCEL"),
        _ => false,
    };
    ways.iter().filter(|way| !way.iter().any(is_of_none)).cloned().collect()
}

/// Whether requests of that method come to rules: the others belong to a session, or to a request before them.
fn is_of_rules(method: &str) -> bool {
    METHODS.contains(&method) && method != "BYE" && method != "PRACK"
}

/// What must be says by itself what must not be.
fn is_said(one: &Literal, way: &[Literal]) -> bool {
    !one.holds && way.iter().any(|other| other.holds && other.excludes(&one.not()))
}

/// What a rule can't say: that requests are not so.
fn excluded(way: &[Literal]) -> impl Iterator<Item = &Literal> {
    let of_rules = |literal: &Literal| matches!(literal.test, Test::Field(..) | Test::Source(_) | Test::Arrival(_));
    way.iter().filter(move |literal| !literal.holds && of_rules(literal) && !is_said(literal, way))
}

/// Whether an earlier rule takes all requests of this way for which the literal fails.
fn is_taken(taken: &[Vec<Literal>], literal: &Literal, way: &[Literal]) -> bool {
    let wanted = literal.not();
    taken.iter().any(|earlier| earlier.iter().all(|one| one.says(&wanted) || way.iter().any(|two| two.says(one))))
}

/// Whether rules can ask all of it.
fn is_askable(way: &[Literal]) -> bool {
    !way.iter().any(is_doubtful)
}

/// What no rule can ask, and does not come of another way that was taken before.
fn is_doubtful(literal: &Literal) -> bool {
    !literal.is_rest && matches!(literal.test, Test::Unknown | Test::Status(_))
}

/// Whether the one way asks all that the other one does, and more.
fn is_narrower(one: &[Literal], other: &[Literal]) -> bool {
    let asked = |literal: &&Literal| match literal.test {
        Test::Method(_) => true,
        Test::Field(..) | Test::Source(_) | Test::Arrival(_) => literal.holds,
        Test::Unknown | Test::Status(_) => is_doubtful(literal),
        Test::Result(_) | Test::Itself => false,
    };
    let has = |way: &[Literal], wanted: &Literal| way.iter().any(|literal| literal.says(wanted));
    other.iter().filter(asked).all(|literal| has(one, literal))
        && one.iter().filter(asked).any(|literal| !has(other, literal))
}

/// Whether it is about requests inside a dialog.
fn is_inside(way: &[Literal]) -> bool {
    const INSIDE: &[&str] = &["has_totag", "loose_route", "match_dialog", "is_known_dlg", "is_in_dlg"];
    way.iter().any(|literal| {
        literal.test == Test::Itself && literal.holds && INSIDE.iter().any(|call| literal.shown.contains(call))
    })
}

/// Whether it asks anything that a rule would: methods that never come to rules say nothing.
fn asks(way: &[Literal]) -> bool {
    way.iter().any(|literal| match &literal.test {
        Test::Method(methods) => literal.holds || methods.iter().any(|method| is_of_rules(method)),
        Test::Unknown => is_doubtful(literal),
        Test::Result(_) => false,
        _ => literal.holds,
    })
}

/// The answer with a reason.
fn worded(Answer { status, reason }: &Answer) -> Answer {
    let reason = if reason.is_empty() { "Refused".to_owned() } else { reason.clone() };
    Answer { status: *status, reason }
}

fn with(rule: &Rule, field: &Field, glob: &str) -> Rule {
    let mut rule = rule.clone();
    match rule.fields.get(field).map(String::as_str) {
        None | Some("*") => drop(rule.fields.insert(field.clone(), glob.to_owned())),
        Some(has) if has == glob || glob == "*" => {}
        Some(_) => rule.doubts.push(format!("{} is {glob} too", key(field))),
    }
    rule
}

fn key(field: &Field) -> String {
    match field {
        Field::UserAgent => "user_agent".into(),
        Field::RequestUser => "request_uri.user".into(),
        Field::RequestHost => "request_uri.host".into(),
        Field::FromUser => "from.user".into(),
        Field::FromHost => "from.host".into(),
        Field::ToUser => "to.user".into(),
        Field::ToHost => "to.host".into(),
        Field::Header(name) => format!("header.{name}"),
    }
}
