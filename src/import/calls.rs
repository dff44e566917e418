//! What the calls of a script do: they choose servers, try the next, answer, make dialogs.

use super::Peer;
use super::branches::myself;
use super::changes::is_changed;
use super::condition::{Field, Literal, Outcomes, Test, Ways, same_codes};
use super::draft::Set;
use super::pattern;
use super::report::At;
use super::script::{Decision, Path, Select, Value, Walker, exceptional, of_literal, simple, unknown};
use super::syntax::{Call, Expr};
use super::write::list;

/// What Tandem looks after itself, by the answer that a request gets for which there is something to do.
const USUAL: &[(&str, bool)] = &[
    ("has_totag", false),
    ("loose_route", false),
    ("t_check_trans", false),
    ("t_lookup_request", false),
    ("t_newtran", true),
    ("t_was_cancelled", false),
    ("t_is_canceled", false),
    ("mf_process_maxfwd_header", true),
    ("maxfwd_process", true),
    ("sanity_check", true),
    ("validate_dialog", true),
    ("match_dialog", false),
    ("create_dialog", true),
    ("dlg_manage", true),
    ("is_known_dlg", false),
    ("is_in_dlg", false),
    ("t_relay", true),
    ("record_route", true),
    ("add_rr_param", true),
    ("is_uri_host_local", true),
    ("t_is_set", false),
    ("t_precheck_trans", false),
    ("lb_is_started", true),
];

/// What only tells something, and what is told of where it is met.
const KNOWN: &[&str] = &[
    "xlog",
    "xdbg",
    "xinfo",
    "xnotice",
    "xwarn",
    "xerr",
    "xcrit",
    "xalert",
    "log",
    "sl_reply_error",
    "t_set_fr",
    "force_send_socket",
    "t_check_status",
    "t_on_reply",
];

fn is_known(name: &str) -> bool {
    KNOWN.contains(&name) || name.starts_with("ds_") || name.starts_with("lb_")
}

/// Whether it does something that a report has to tell of.
pub(super) fn matters(name: &str) -> bool {
    !is_known(name)
        && !USUAL.iter().any(|(usual, _)| *usual == name)
        && !matches!(name, "route" | "is_method" | "t_on_reply")
}

impl<'w> Walker<'w> {
    /// A call whose answer nobody asks here.
    pub(super) fn call(&mut self, call: &'w Call, path: &mut Path) {
        let _ = self.asked(call, path);
    }

    /// A call within a condition: when it says yes, and when no.
    pub(super) fn asked(&mut self, call: &'w Call, path: &mut Path) -> (Ways, Ways) {
        let name = call.name.as_str();
        let text = |walker: &Self, place: usize| {
            call.arguments.get(place).and_then(|argument| walker.constant(argument, path)).unwrap_or_default()
        };
        let literal = |test| of_literal(Literal::new(test, true, call.at, call.shown()));
        match name {
            "ds_select_dst" | "ds_select_domain" | "ds_select" | "ds_select_routes" | "lb_start"
            | "lb_start_or_next" | "load_balance" => {
                self.select(call, path);
                return literal(Test::Result(Outcomes::CHOSEN));
            }
            "ds_next_dst" | "ds_next_domain" | "lb_next" => {
                self.next(call, path);
                return literal(Test::Result(Outcomes::CHOSEN));
            }
            "is_method" => {
                let methods = text(self, 0).split('|').map(str::to_owned).collect();
                return literal(Test::Method(methods));
            }
            "is_present_hf" if is_changed(&format!("$hdr({})", text(self, 0)), path) => {}
            "is_present_hf" => {
                let any = pattern::globs("").unwrap_or_default();
                let header = text(self, 0);
                let is_agent = header.eq_ignore_ascii_case("User-Agent");
                let field = if is_agent { Field::UserAgent } else { Field::Header(header) };
                return literal(Test::Field(field, any));
            }
            "t_check_status" => {
                if let Some(codes) = pattern::codes(&text(self, 0)) {
                    return literal(Test::Status(codes));
                }
            }
            "t_local_replied" | "t_any_timeout" | "t_branch_timeout" => {
                return literal(Test::Status(vec!["timeout".into()]));
            }
            "sl_send_reply" | "send_reply" | "t_reply" | "sl_reply" | "send_reply_error" => {
                self.reply(call, path);
                path.is_answered = true;
                return (vec![vec![]], vec![]);
            }
            "t_on_failure" => {
                let route = text(self, 0);
                if !self.script.routes.iter().any(|one| one.kind == "failure_route" && one.name == route) {
                    let to = "no such failure_route is read: what happens to failures is not taken over; give [[set]] retry_on and empty_reply";
                    self.report.not_mappable(call.at, call.shown(), to);
                }
                for select in &path.selects {
                    self.failure_routes.entry(route.clone()).or_default().insert(*select);
                }
                path.failure_route = Some(route);
                return (vec![vec![]], vec![]);
            }
            _ => {}
        }
        match name {
            "create_dialog" | "dlg_manage" => {
                let flags = call.arguments.first().map(|flags| self.values(flags, path));
                path.dialog = Some(flags.unwrap_or_default());
                for select in &path.selects {
                    self.selects[*select].dialog = path.dialog.clone();
                }
                self.dialog(call, path);
            }
            "add_rr_param" | "record_route" if !call.arguments.is_empty() => {
                let params = text(self, 0).trim_matches(';').to_owned();
                self.record_route(call, params, path);
            }
            "t_set_fr" => self.report.approximated(
                call.at,
                call.shown(),
                "[[set]] first_response_timeout and final_timeout hold for all calls of a set: give them there",
            ),
            "t_relay" if call.arguments.iter().all(|one| !one.shown().contains(['.', ':', '$'])) => {
                self.relay(call, path)
            }
            "is_myself" => {
                let left = call.arguments.first().map_or_else(|| "uri".to_owned(), Expr::shown);
                return myself(left.trim_matches('"'), call.at, &call.shown(), false);
            }
            "force_send_socket" => self.send_socket(call.at, &call.shown()),
            _ if self.sends_by_hand(call, path) || self.changes(call, path) => {}
            _ if name.starts_with("ds_") || name.starts_with("lb_") => self.other(call),
            _ => {}
        }
        match USUAL.iter().find(|(usual, _)| *usual == name) {
            Some((_, answer)) => {
                let (usual, exception) = exceptional(call.at, &call.shown(), false);
                if *answer { (usual, exception) } else { (exception, usual) }
            }
            None => {
                if !is_known(name) {
                    self.strange.entry(call.shown()).or_default().insert(call.at);
                }
                unknown(call.at, call.shown())
            }
        }
    }

    /// Calls of the modules that are neither a choice nor a next try.
    pub(super) fn other(&mut self, call: &Call) {
        let shown = call.shown();
        let at = call.at;
        match call.name.as_str() {
            "ds_mark_dst" | "lb_disable_dst" | "ds_mark_addr" => self.report.approximated(
                at,
                shown,
                "[set.observe], on by default: three failures in a row put a server out, then one call at a time tries it again; one \
                 answer alone marks nobody",
            ),
            "ds_is_in_list" | "ds_is_from_list" | "lb_is_destination" | "ds_is_from_lists" => self.report.approximated(
                at,
                shown,
                "requests of servers inside dialogs are known by their route; for those outside give a [[rule]] with source",
            ),
            "ds_count" | "ds_list_exists" | "ds_is_active" | "ds_dsg_fetch" | "ds_dsg_fetch_uri" => self.report.approximated(
                at,
                shown,
                "a set without a fit server answers empty_reply by itself; how many are fit is told by tandem show and /metrics",
            ),
            "ds_load_update" | "ds_load_unset" | "lb_reset" | "lb_is_started" | "lb_count_call" => {
                self.report.mapped(at, shown, "the load is the number of live sessions: nothing has to be counted by hand");
            }
            "ds_push_script_attrs" | "ds_get_script_attrs" | "ds_oc_set_attrs" => self.report.not_mappable(
                at,
                shown,
                "no attributes are given at run time: let an agent beside the server say what it wants ([set.agent])",
            ),
            "ds_reload" | "lb_reload" => {
                self.report.mapped(at, shown, "POST /reload of the HTTP surface, or SIGHUP");
            }
            "ds_next_dst" | "ds_next_domain" | "lb_next" => {
                self.report.mapped(at, shown, "the next server of a set is tried by itself ([[set]] max_retries)");
            }
            "ds_set_dst" | "ds_set_domain" => self.report.mapped(at, shown, "Tandem sends to whom it chose by itself"),
            _ => self.report.not_mappable(at, shown, "Tandem has nothing like it: look up what it does, and do it before Tandem"),
        }
    }

    fn select(&mut self, call: &'w Call, path: &mut Path) {
        let (at, shown) = (call.at, call.shown());
        if self.failing.is_some() || path.is_chosen() == Some(false) {
            self.second_select(call, path);
            return;
        }
        let sets = self.sets_of(call, path);
        if sets.is_empty() {
            path.selects.clear();
            return;
        }
        let ways: Ways = path.ways.iter().map(|way| without_results(way)).collect();
        let mut made = std::collections::BTreeSet::new();
        for (set, when) in sets {
            let ways = super::condition::both(&ways, &when.iter().map(|way| without_results(way)).collect());
            self.set_of(call, set, path);
            let rewrite = if call.name == "ds_select_domain" { "host" } else { "none" };
            for earlier in path.selects.clone() {
                self.override_select(earlier, &ways, at);
            }
            self.selects.push(Select {
                set,
                at,
                shown: shown.clone(),
                ways,
                sent: Ways::new(),
                dialog: path.dialog.clone(),
                rewrite,
                record_route_params: path.record_route_params.clone(),
                fails_over: false,
            });
            let place = self.selects.len() - 1;
            self.decisions.push(Decision::Select(place));
            made.insert(place);
        }
        if let Some(route) = path.failure_route.clone() {
            self.failure_routes.entry(route).or_default().extend(made.iter().copied());
        }
        path.ways = ways;
        path.selects = made;
    }

    /// The last choice counts: an earlier one keeps what the new one leaves.
    fn override_select(&mut self, earlier: usize, ways: &Ways, at: At) {
        let Select { ways: all, at: place, shown, .. } = &mut self.selects[earlier];
        *all = super::condition::both(all, &super::condition::none_of(ways));
        if all.is_empty() {
            let to =
                format!("the choice in line {} takes its place for all requests: no rule is written for it", at.line);
            let (place, shown) = (*place, shown.clone());
            self.report.approximated(place, shown, to);
        }
    }

    /// A set that is asked when another one has nobody, or its server has failed.
    fn second_select(&mut self, call: &'w Call, path: &mut Path) {
        for (set, _) in self.sets_of(call, path) {
            self.set_of(call, set, path);
            let to = format!(
                "no set is asked after another one: put the rows of set {set} into that one, with lower priority numbers and algorithm = \
                 \"priority\"; [set.capacity] overflow names the set for calls that a full one has no room for"
            );
            self.report.not_mappable(call.at, call.shown(), to);
        }
    }

    /// The sets that a call may choose from, each with when.
    fn sets_of(&mut self, call: &Call, path: &Path) -> Vec<(u32, Ways)> {
        let Some(argument) = call.arguments.first() else { return vec![] };
        let Some(offset) = self.offset_of(call, path) else { return vec![] };
        let mut sets = Vec::new();
        for worth in self.values(argument, path) {
            let Value::Text(text) = worth.value else {
                let to = "which set it chooses from is not known before a call comes: write a [[rule]] for each set";
                self.report.not_mappable(call.at, call.shown(), to);
                continue;
            };
            let first = text.split([',', ';']).next().unwrap_or_default();
            let first = first.split('=').next().unwrap_or_default();
            if first.len() < text.trim().len() && !text.contains(':') {
                let to = "the first set alone is asked: no set is asked after another one; give one set all rows, by priority";
                self.report.not_mappable(call.at, call.shown(), to);
            }
            // A setid is a number of 31 bits.
            let set = first.trim().parse::<i32>().ok().and_then(|set| u32::try_from(set).ok());
            match set.and_then(|set| set.checked_add(offset)).filter(|set| i32::try_from(*set).is_ok()) {
                Some(set) => sets.push((set, worth.ways)),
                None => {
                    let to = format!("{text:?} is no number of a set: write a [[rule]] for the set that is meant");
                    self.report.not_mappable(call.at, call.shown(), to);
                }
            }
        }
        sets
    }

    /// What is added to the numbers of a partition's sets; none if it is not known which one that is.
    fn offset_of(&mut self, call: &Call, path: &Path) -> Option<u32> {
        if call.name.starts_with("lb_") || call.name == "load_balance" {
            let balanced = self.settings.partitions.iter().find(|one| one.name == "load_balancer");
            return Some(balanced.map_or(0, |one| one.offset));
        }
        if self.peer == Peer::Kamailio {
            return Some(0);
        }
        let Some(argument) = call.arguments.get(3) else { return Some(0) };
        let Some(name) = self.constant(argument, path) else {
            let to =
                "which partition it is is not known before a call comes: write a [[rule]] for each partition's set";
            self.report.not_mappable(call.at, call.shown(), to);
            return None;
        };
        if name.is_empty() || name == "default" || self.settings.default_partition.as_ref() == Some(&name) {
            return Some(0);
        }
        let found = self.settings.partitions.iter().find(|one| one.name == name).map(|one| one.offset);
        if found.is_none() {
            let to = format!("there is no partition {name}: no rule is written; give a [[partition]] and a [[rule]]");
            self.report.not_mappable(call.at, call.shown(), to);
        }
        found
    }

    /// How the set chooses, as the call says.
    fn set_of(&mut self, call: &Call, id: u32, path: &Path) {
        let is_balancer = call.name.starts_with("lb_") || call.name == "load_balance";
        let text = |place: usize| {
            call.arguments.get(place).and_then(|argument| self.constant(argument, path)).unwrap_or_default()
        };
        let mut set = Set { algorithm: "round_robin", max_duration: path.max_duration, ..Set::default() };
        if is_balancer {
            let resources: Vec<String> = text(1).split(';').map(|one| one.trim().to_owned()).collect();
            self.balanced(call, &mut set, &resources, &text(2));
        } else {
            let algorithm = text(1);
            let algorithm = algorithm.split('=').next_back().unwrap_or_default().to_owned();
            let flags = if self.peer == Peer::OpenSips { text(2) } else { String::new() };
            let most = text(if self.peer == Peer::OpenSips { 4 } else { 2 });
            let most = most.parse::<u32>().ok().filter(|most| *most > 0);
            set.max_retries = most.filter(|most| *most <= 3).map(|most| most - 1);
            self.algorithm(call, &mut set, id, &algorithm);
            for (flag, to) in [
                ('d', "no row is a set's last resort: give it a low priority number, and algorithm = \"priority\""),
                ('a', "no list is joined to another: give one set all rows"),
            ] {
                if flags.contains(flag) {
                    self.report.not_mappable(call.at, format!("{} flag {flag}", call.name), to);
                }
            }
        }
        if let Some(route) = self.draft.sets.get(&id) {
            if route.algorithm != set.algorithm {
                let to = format!("a set has one algorithm, and set {id} has {}: give it a second set", route.algorithm);
                self.report.not_mappable(call.at, call.shown(), to);
            }
            return;
        }
        self.draft.sets.insert(id, set);
    }

    fn next(&mut self, call: &Call, path: &Path) {
        let selects = self.failing.clone().unwrap_or_else(|| path.selects.clone());
        let mut outcomes: Vec<String> = Vec::new();
        let mut is_any = false;
        let mut refused = Vec::new();
        for way in &path.ways {
            let mut codes: Option<Vec<String>> = None;
            for literal in way.iter().filter(|literal| literal.holds) {
                if let Test::Status(these) = &literal.test {
                    codes = Some(codes.map_or_else(|| these.clone(), |codes| same_codes(&codes, these)));
                }
            }
            refused.extend(way.iter().filter(|literal| match &literal.test {
                Test::Status(these) if !literal.holds => {
                    codes.as_ref().is_none_or(|codes| !same_codes(codes, these).is_empty())
                }
                _ => false,
            }));
            match codes {
                Some(codes) => outcomes.extend(codes),
                None => is_any = true,
            }
        }
        for Literal { at, shown, .. } in refused {
            let to = "retry_on has no exceptions: give the statuses in retry_on of the set by hand";
            self.report.not_mappable(*at, format!("not {shown}"), to);
        }
        if outcomes.iter().any(|code| code == "408" || code == "timeout") {
            outcomes.splice(0..0, ["timeout".to_owned(), "transport".to_owned()]);
        }
        let mut seen = std::collections::BTreeSet::new();
        outcomes.retain(|outcome| seen.insert(outcome.clone()));
        for select in &selects {
            self.selects[*select].fails_over = true;
            let set = self.selects[*select].set;
            if let Some(set) = self.draft.sets.get_mut(&set).filter(|_| !is_any && !outcomes.is_empty()) {
                set.retry_on = outcomes.clone();
            }
        }
        let shown = call.shown();
        match (self.failing.is_some(), is_any || outcomes.is_empty()) {
            (true, false) => self.report.mapped(call.at, shown, format!("[[set]] retry_on = {}", list(&outcomes))),
            (true, true) => self.report.approximated(
                call.at,
                shown,
                "[[set]] retry_on, as its default has it: silence, a dead transport, 408, 480, 486, 5xx that are listed; not each failure",
            ),
            (false, _) => self.report.mapped(call.at, shown, "the next server of the set is tried by itself ([[set]] max_retries)"),
        }
    }

    fn dialog(&mut self, call: &Call, path: &Path) {
        let (at, shown) = (call.at, call.shown());
        let flags = call.arguments.first().map(|flags| self.values(flags, path)).unwrap_or_default();
        let mut to =
            "sessions are always known; at their end ([set.session] max_duration) both ends get BYE".to_owned();
        let pings = |value: &Value| matches!(value, Value::Text(flags) if flags.contains(['P', 'p', 'R', 'r']));
        if flags.iter().any(|worth| worth.value == Value::Unknown) {
            let to = "its flags are not known before a call comes: give [set.session.ping] to the sets that are to be pinged";
            return self.report.not_mappable(at, shown, to);
        }
        if !flags.iter().any(|worth| pings(&worth.value)) {
            return self.report.mapped(at, shown, to);
        }
        to = "[set.session.ping] of the sets whose calls come here with such flags; the session ends after three lost pings, not one".into();
        if flags.iter().any(|worth| !pings(&worth.value)) {
            to += ", and sets with other flags get none";
        }
        self.report.approximated(at, shown, to);
    }

    fn record_route(&mut self, call: &Call, params: String, path: &mut Path) {
        let (at, shown) = (call.at, call.shown());
        if params.is_empty() || params.contains('$') {
            let to = "its parameter is not known before a call comes: give record_route_params of the [[rule]]";
            return self.report.not_mappable(at, shown, to);
        }
        self.report.mapped(at, shown, format!("[[rule]] record_route_params = {params:?}"));
        for select in &path.selects {
            self.selects[*select].record_route_params = Some(params.clone());
        }
        path.record_route_params = Some(params);
    }

    /// What goes to where its Request-URI says, and to no set.
    pub(super) fn relay(&mut self, call: &Call, path: &mut Path) {
        let follows = |way: &Vec<Literal>| {
            way.iter().any(|literal| match &literal.test {
                Test::Itself => true,
                Test::Method(methods) => {
                    literal.holds && methods.iter().all(|method| method == "ACK" || method == "CANCEL")
                }
                _ => false,
            })
        };
        if self.failing.is_none() {
            let ways: Ways = path.ways.iter().map(|way| without_results(way)).collect();
            for select in &path.selects {
                let Select { ways: own, sent, .. } = &mut self.selects[*select];
                let new = super::condition::both(own, &ways);
                *sent = simple(super::condition::either(std::mem::take(sent), new));
            }
        }
        let is_chosen = !path.selects.is_empty() || self.failing.is_some() || path.is_chosen().is_some();
        if !is_chosen && !path.is_answered && !path.ways.iter().all(follows) {
            let to = "what is chosen by no select goes by its Request-URI: give a [[rule]] with relay = true, and source or \
                      request_uri.host, since Tandem is no open relay";
            self.report.not_mappable(call.at, call.shown(), to);
        }
        path.is_answered = true;
    }

    pub(super) fn send_socket(&mut self, at: At, shown: &str) {
        let to =
            "the socket column of a row names the listener to leave by; else it is the one that reaches the server";
        self.report.approximated(at, shown, to);
    }
}

pub(super) fn without_results(way: &[Literal]) -> Vec<Literal> {
    way.iter().filter(|literal| !matches!(literal.test, Test::Result(_))).cloned().collect()
}
