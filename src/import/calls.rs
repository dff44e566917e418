//! What the calls of a script do: they choose servers, try the next, answer, make dialogs.

use super::Peer;
use super::condition::{Field, Literal, Outcomes, Test, Ways};
use super::draft::Set;
use super::pattern;
use super::report::At;
use super::script::{Decision, Path, Select, Value, Walker, exceptional, of_literal, unknown};
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
    ("forward", true),
    ("record_route", true),
    ("add_rr_param", true),
    ("is_myself", true),
    ("is_uri_host_local", true),
    ("t_is_set", false),
    ("t_precheck_trans", false),
    ("lb_is_started", true),
];

/// The longest `max_duration`, in seconds.
const MONTH: u64 = 31 * 86_400;

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
            "t_relay" | "forward" => self.relay(call, path),
            "force_send_socket" => self.send_socket(call.at, &call.shown()),
            "ds_select_domain_routes" | "rewritehostport" | "sethostport" | "rewritehost" | "sethost" => {
                self.rewrites(path, "host");
            }
            _ if name.starts_with("ds_") || name.starts_with("lb_") => self.other(call),
            _ => {}
        }
        match USUAL.iter().find(|(usual, _)| *usual == name) {
            Some((_, answer)) => {
                let (usual, exception) = exceptional(call.at, &call.shown(), false);
                if *answer { (usual, exception) } else { (exception, usual) }
            }
            None => unknown(call.at, call.shown()),
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
            self.selects.push(Select {
                set,
                at,
                shown: shown.clone(),
                ways,
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
        let offset = self.offset_of(call, path);
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
            if let Some(set) = set.and_then(|set| set.checked_add(offset)).filter(|set| i32::try_from(*set).is_ok()) {
                sets.push((set, worth.ways));
            }
        }
        sets
    }

    fn offset_of(&mut self, call: &Call, path: &Path) -> u32 {
        if call.name.starts_with("lb_") || call.name == "load_balance" {
            return self.settings.partitions.iter().find(|one| one.name == "load_balancer").map_or(0, |one| one.offset);
        }
        if self.peer == Peer::Kamailio {
            return 0;
        }
        let name = call.arguments.get(3).and_then(|name| self.constant(name, path)).unwrap_or_default();
        if name.is_empty() || name == "default" {
            return 0;
        }
        match self.settings.partitions.iter().find(|one| one.name == name) {
            Some(partition) => partition.offset,
            None => {
                let to = format!("there is no partition {name}: its sets are taken for those of [database]");
                self.report.not_mappable(call.at, format!("partition {name}"), to);
                0
            }
        }
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
        for way in &path.ways {
            let codes = way.iter().find_map(|literal| match &literal.test {
                Test::Status(codes) if literal.holds => Some(codes),
                _ => None,
            });
            match codes {
                Some(codes) => outcomes.extend(codes.iter().cloned()),
                None => is_any = true,
            }
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
    fn relay(&mut self, call: &Call, path: &mut Path) {
        let follows = |way: &Vec<Literal>| {
            way.iter().any(|literal| match &literal.test {
                Test::Itself => true,
                Test::Method(methods) => {
                    literal.holds && methods.iter().all(|method| method == "ACK" || method == "CANCEL")
                }
                _ => false,
            })
        };
        let is_chosen = !path.selects.is_empty() || self.failing.is_some() || path.is_chosen().is_some();
        if !is_chosen && !path.is_answered && !path.ways.iter().all(follows) {
            let to = "what is chosen by no select goes by its Request-URI: give a [[rule]] with relay = true, and source or \
                      request_uri.host, since Tandem is no open relay";
            self.report.not_mappable(call.at, call.shown(), to);
        }
        path.is_answered = true;
    }

    fn send_socket(&mut self, at: At, shown: &str) {
        let to =
            "the socket column of a row names the listener to leave by; else it is the one that reaches the server";
        self.report.approximated(at, shown, to);
    }

    /// The Request-URI is changed behind a choice.
    fn rewrites(&mut self, path: &Path, how: &'static str) {
        for select in &path.selects {
            self.selects[*select].rewrite = how;
        }
    }

    /// What a variable that is no variable does.
    pub(super) fn assigned(&mut self, variable: &str, value: &Expr, at: At, path: &mut Path) {
        let shown = || format!("{variable} = {}", value.shown());
        match variable {
            "$ru" if path.is_chosen() != Some(false) && !path.selects.is_empty() => {
                self.rewrites(path, "article");
                self.report.mapped(at, shown(), "[[rule]] rewrite = \"article\": sip:host:port of the chosen server");
            }
            "$rd" | "$rp" if !path.selects.is_empty() => {
                self.rewrites(path, "host");
                self.report.mapped(at, shown(), "[[rule]] rewrite = \"host\": user and parameters stay");
            }
            "$fs" | "$fsn" | "$socket_out" => self.send_socket(at, &shown()),
            "$DLG_timeout" | "$dlg_ctx(timeout)" => {
                let seconds = self.constant(value, path).and_then(|seconds| seconds.parse::<u64>().ok());
                let Some(seconds) = seconds.map(|seconds| seconds.clamp(1, MONTH)) else {
                    let to =
                        "it is not known before a call comes: give [set.session] max_duration to the set that is meant";
                    return self.report.not_mappable(at, shown(), to);
                };
                path.max_duration = Some(seconds);
                for select in &path.selects {
                    if let Some(set) = self.draft.sets.get_mut(&self.selects[*select].set) {
                        set.max_duration = Some(seconds);
                    }
                }
                self.report.mapped(at, shown(), format!("[set.session] max_duration = \"{seconds}s\""));
            }
            "$T_fr_timeout" | "$T_fr_inv_timeout" => self.report.approximated(
                at,
                shown(),
                "[[set]] first_response_timeout and final_timeout hold for all calls of a set: give them there",
            ),
            _ => {}
        }
    }
}

fn without_results(way: &[Literal]) -> Vec<Literal> {
    way.iter().filter(|literal| !matches!(literal.test, Test::Result(_))).cloned().collect()
}
