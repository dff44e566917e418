//! From the decisions of a script to rules: the first that matches wins, so what an earlier rule takes need not be excluded by
//! a later one.

use std::collections::BTreeMap;

use super::Peer;
use super::condition::{Field, Literal, Test, Ways};
use super::draft::{Action, Answer, Ping, Rule, Set};
use super::report::At;
use super::script::{Decision, Select, Value, Walker, Worth};
use super::syntax::{self, Call};

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
    way: Vec<Literal>,
    action: Action,
    name: String,
}

impl Walker<'_> {
    /// Writes the rules, and what follows for each set.
    pub(super) fn decide(&mut self) {
        let mut units = Vec::new();
        for (place, decision) in std::mem::take(&mut self.decisions).into_iter().enumerate() {
            let unit =
                |way: Vec<Literal>, action: &Action, name: String| Unit { place, way, action: action.clone(), name };
            match decision {
                Decision::Select(select) => {
                    let Select { set, at, shown, ways, rewrite, record_route_params, .. } =
                        self.selects[select].clone();
                    let action = Action::Set { set, rewrite, record_route_params };
                    let ways = served(&ways);
                    if ways.is_empty() {
                        let to = "inside a dialog requests follow their route: no rule is needed";
                        self.report.mapped(at, &shown, to);
                    }
                    units.extend(ways.into_iter().map(|way| unit(way, &action, format!("set-{set}"))));
                }
                Decision::Reply { answer, ways, at, shown } => {
                    let ways = self.unroutable(&answer, ways, at, &shown);
                    let action = Action::Reply(worded(&answer));
                    let name = format!("answer-{}", answer.status);
                    units.extend(ways.into_iter().map(|way| unit(way, &action, name.clone())));
                }
                Decision::Silence { ways, at } => {
                    let ways: Vec<_> = served(&ways).into_iter().filter(|way| is_askable(way) && asks(way)).collect();
                    if !ways.is_empty() {
                        let to = "[[rule]] with reply 403: Tandem leaves no request without an answer";
                        self.report.approximated(at, "exit without an answer", to);
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
    }

    /// The ways that are rules of their own; what asks nothing is the answer to what no rule matches.
    fn unroutable(&mut self, answer: &Answer, ways: Ways, at: At, shown: &str) -> Ways {
        let (known, unknown): (Ways, Ways) = served(&ways).into_iter().partition(|way| is_askable(way));
        if !unknown.is_empty() {
            let to = "when it is sent no rule can ask: write a [[rule]] with reply where it matters";
            self.report.not_mappable(at, shown, to);
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
            let ready =
                units.iter().position(|unit| excluded(&unit.way).all(|literal| is_taken(&taken, literal, &unit.way)));
            let Unit { place, way, action, name } = units.remove(ready.unwrap_or_default());
            let left = written.get(&place).map_or(MOST_RULES, |count| MOST_RULES - count);
            for literal in excluded(&way).filter(|literal| !is_taken(&taken, literal, &way)) {
                let to =
                    format!("a rule can't exclude: {name} takes these requests too; put a [[rule]] for them before it");
                self.report.approximated(literal.at, format!("not {}", literal.shown), to);
            }
            for mut rule in self.rules_of(&way).into_iter().take(left) {
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
                    let told = self.selects.iter().find(|select| select.set == *set && select.ways.contains(&way));
                    if let Some(select) = told {
                        let to = format!("[[rule]] {:?} to set {set}, rewrite = {rewrite:?}", rule.name);
                        self.report.mapped(select.at, &select.shown, to);
                    }
                }
                *written.entry(place).or_default() += 1;
                self.draft.rules.push(rule);
            }
            // Methods that it excludes are part of the rule.
            taken.push(way.into_iter().filter(|one| one.holds || matches!(one.test, Test::Method(_))).collect());
        }
    }

    /// The rules that one way needs: one for each pattern, since a rule has one of each field.
    fn rules_of(&mut self, way: &[Literal]) -> Vec<Rule> {
        let mut methods: Option<Vec<String>> = None;
        let mut not_methods: Vec<String> = Vec::new();
        let mut rules = vec![Rule::default()];
        for literal in way.iter().filter(|literal| !is_said(literal, way)) {
            let Literal { test, holds, at, shown } = literal;
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
                        .take(MOST_RULES)
                        .collect();
                }
                Test::Source(source) if *holds && source.parse::<crate::engine::flow::Cidr>().is_ok() => {
                    self.report.mapped(*at, &found, format!("[[rule]] source = [{source:?}]"));
                    rules.iter_mut().for_each(|rule| rule.sources.push(source.clone()));
                }
                Test::Arrival(host) if *holds => {
                    let of_host = |bind: &&String| {
                        bind.split_once(':').is_some_and(|(_, address)| address.starts_with(&format!("{host}:")))
                    };
                    let binds: Vec<String> =
                        self.draft.listeners.iter().map(|listener| &listener.bind).filter(of_host).cloned().collect();
                    match binds.is_empty() {
                        true => {
                            let to = "no [[listener]] has that address: the rule asks for none; add it, and listener to the rule";
                            self.report.not_mappable(*at, &found, to);
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
                Test::Field(..) | Test::Source(_) | Test::Arrival(_) | Test::Status(_) | Test::Unknown => {
                    let to = "no rule can ask that, so the rule takes these requests whatever it says: narrow it by source, header or \
                              request_uri";
                    self.report.not_mappable(*at, &found, to);
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

    /// Pings and length of a set's sessions.
    fn session(&mut self, select: &Select) {
        let Some(flags) = &select.dialog else { return };
        let timeout = self.settings.dialog_timeout;
        let interval = self.settings.dialog_ping;
        // The first whose conditions this call fulfils for sure.
        let served = served(&select.ways);
        let fits = |worth: &&Worth| {
            let holds_in = |way: &Vec<Literal>| {
                worth.ways.iter().any(|when| {
                    when.iter().all(|one| matches!(one.test, Test::Result(_)) || way.iter().any(|two| two.says(one)))
                })
            };
            served.iter().all(holds_in)
        };
        let value = flags.iter().find(fits).map(|worth| worth.value.clone());
        let Some(set) = self.draft.sets.get_mut(&select.set) else { return };
        set.max_duration = set.max_duration.or(timeout);
        if self.peer == Peer::Kamailio {
            return;
        }
        if let Some(Value::Text(flags)) = value {
            let has = |letters: [char; 2]| flags.contains(letters[0]) || flags.contains(letters[1]);
            let to = match (has(['P', 'R']), has(['p', 'r'])) {
                (true, true) => "both",
                (true, false) => "caller",
                (false, true) => "destination",
                (false, false) => return,
            };
            let method = if flags.contains(['P', 'p']) { "OPTIONS" } else { "UPDATE" };
            set.ping = Some(Ping { method, to, interval });
        }
    }

    /// The dispatcher's and the load balancer's probes, and the transactions' times, for each set.
    fn probes(&mut self) {
        let settings = self.settings;
        let balanced: Vec<u32> = self
            .draft
            .sets
            .iter()
            .filter(|(_, set)| set.algorithm == "least_load_relative")
            .map(|(id, _)| *id)
            .collect();
        for (id, set) in &mut self.draft.sets {
            let Set { probe, first_response_timeout, final_timeout, .. } = set;
            first_response_timeout.clone_from(&settings.first_response_timeout);
            final_timeout.clone_from(&settings.final_timeout);
            let of = if balanced.contains(id) { &settings.balanced_probe } else { &settings.probe };
            let is_listed =
                balanced.contains(id) || settings.probing_list.as_ref().is_none_or(|list| list.contains(id));
            *probe = (of.interval > 0 && is_listed).then(|| of.clone());
        }
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

const REPLIES: &[&str] = &["sl_send_reply", "send_reply", "t_reply", "sl_reply"];

/// The ways without those that are none of a rule's: requests inside dialogs, ACK and CANCEL.
fn served(ways: &Ways) -> Ways {
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
    !way.iter().any(|literal| matches!(literal.test, Test::Unknown | Test::Status(_)))
}

/// Whether it asks anything that a rule would: methods that never come to rules say nothing.
fn asks(way: &[Literal]) -> bool {
    way.iter().any(|literal| match &literal.test {
        Test::Method(methods) => literal.holds || methods.iter().any(|method| is_of_rules(method)),
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
    rule.fields.insert(field.clone(), glob.to_owned());
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
