//! What a script changes: the Request-URI behind a choice, destinations of its own, and parts of the request.

use super::report::At;
use super::script::{Path, Value, Walker, Worth};
use super::syntax::{self, Call, Expr};

/// The longest `max_duration`, in seconds.
const MONTH: u64 = 31 * 86_400;

impl<'w> Walker<'w> {
    /// The Request-URI is changed behind a choice.
    fn rewrites(&mut self, path: &Path, how: &'static str) {
        for select in &path.selects {
            self.selects[*select].rewrite = how;
        }
    }

    /// What a variable that is no variable does.
    pub(super) fn assigned(&mut self, variable: &str, value: &Expr, at: At, path: &mut Path) {
        let shown = || format!("{variable} = {}", value.shown());
        let is_after_choice = self.failing.is_none() && path.is_chosen() != Some(false) && !path.selects.is_empty();
        match variable {
            "$ru" if is_after_choice && is_chosen_server(value) => {
                self.rewrites(path, "article");
                self.report.mapped(at, shown(), "[[rule]] rewrite = \"article\": sip:host:port of the chosen server");
            }
            "$rd" | "$rp" if is_after_choice && is_chosen_server(value) => {
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
            "$du" | "$ru" | "$rd" | "$rp" | "$br" | "$branch" => self.report.not_mappable(at, shown(), BY_HAND),
            _ if is_own(variable) => {}
            _ => self.report.not_mappable(at, shown(), UNCHANGED),
        }
    }

    /// A destination that the script names itself; whether it is one.
    pub(super) fn sends_by_hand(&mut self, call: &'w Call, path: &mut Path) -> bool {
        let name = call.name.as_str();
        let is_host = matches!(name, "rewritehostport" | "sethostport" | "rewritehost" | "sethost" | "sethostportuser");
        if is_host && self.failing.is_none() && !path.selects.is_empty() && call.arguments.iter().all(is_chosen_server)
        {
            self.rewrites(path, "host");
            self.report.mapped(call.at, call.shown(), "[[rule]] rewrite = \"host\": user and parameters stay");
            set_unknown(path, "$ru");
            return true;
        }
        let sends = name.starts_with("t_relay") || name.starts_with("forward") || name.starts_with("t_forward");
        let names =
            matches!(name, "seturi" | "rewriteuri" | "append_branch" | "setdsturi" | "t_load_contacts" | "send");
        if !is_host && !sends && !names {
            return false;
        }
        self.report.not_mappable(call.at, call.shown(), BY_HAND);
        set_unknown(path, "$ru");
        path.is_answered |= sends;
        true
    }

    /// A call that changes the request: later questions about that part are not known. The call is told of as an unknown one.
    pub(super) fn changes(&mut self, call: &'w Call, path: &mut Path) -> bool {
        const URI: &[&str] = &[
            "prefix",
            "strip",
            "strip_tail",
            "setuser",
            "rewriteuser",
            "setuserpass",
            "setport",
            "rewriteport",
            "revert_uri",
            "lookup",
            "alias_db_lookup",
            "uri_prefix",
        ];
        let name = call.name.as_str();
        let header = |call: &Call| {
            let text = call.arguments.first().map(Expr::shown).unwrap_or_default();
            text.trim_matches('"').split(':').next().unwrap_or_default().trim().to_owned()
        };
        let is_header = ["append_hf", "insert_hf", "remove_hf"].iter().any(|one| name.starts_with(one));
        if is_header {
            set_unknown(path, &format!("$hdr({})", header(call)));
        } else if name.starts_with("uac_replace_from") {
            set_unknown(path, "$fu");
        } else if name.starts_with("uac_replace_to") {
            set_unknown(path, "$tu");
        } else if URI.contains(&name) {
            set_unknown(path, "$ru");
        } else {
            return false;
        }
        self.report.not_mappable(call.at, call.shown(), UNCHANGED);
        true
    }

    /// What stands where no walk comes, and calls of which nothing is known.
    pub(super) fn left_over(&mut self) {
        let script = self.script;
        for route in &script.routes {
            let is_walked = match route.kind.as_str() {
                "route" => route.name.is_empty() || route.name == "0" || self.entered.contains(&route.name),
                "request_route" => true,
                "failure_route" => self.entered.contains(&format!("failure_route {}", route.name)),
                _ => false,
            };
            let mut count = 0;
            if !is_walked {
                syntax::calls(&route.body, &mut |call| count += usize::from(super::calls::matters(&call.name)));
                syntax::assignments(&route.body, &mut |variable, _| count += usize::from(!is_own(variable)));
            }
            if count > 0 {
                let to = "no request comes to it by a way that is read, or Tandem runs nothing there: look what it does, and do it before \
                          Tandem or at the servers";
                let name = if route.name.is_empty() { String::new() } else { format!("[{}]", route.name) };
                self.report.not_mappable(route.at, format!("{}{name}, {count} calls and assignments", route.kind), to);
            }
        }
        for (shown, places) in std::mem::take(&mut self.strange) {
            let Some(first) = places.first() else { continue };
            let found = if places.len() == 1 { shown.clone() } else { format!("{shown}, {} times", places.len()) };
            if !self.report.tells_of(*first, &shown) {
                self.report.not_mappable(*first, found, "nothing like it was found, look what it does");
            }
        }
    }
}

const BY_HAND: &str = "a destination that no set has chosen is not taken over: give a [[set]] with it, and a [[rule]] that sends these calls there";
const UNCHANGED: &str = "Tandem changes nothing of that in a request: do it before Tandem or at the servers";

/// Whether it speaks of the server that a select has chosen.
fn is_chosen_server(value: &Expr) -> bool {
    let shown = value.shown();
    ["$dd", "$dp", "$du", "$(du", "$(dd", "$(dp"].iter().any(|name| shown.contains(name))
}

/// Variables of the script alone: no request is changed by them.
pub(super) fn is_own(variable: &str) -> bool {
    let name = variable.trim_start_matches(['$', '(']);
    let name: String = name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    matches!(
        name.as_str(),
        "var"
            | "avp"
            | "xavp"
            | "xavu"
            | "xavi"
            | "shv"
            | "dlg_val"
            | "dlg_var"
            | "param"
            | "rc"
            | "retcode"
            | "json"
            | "acc_extra"
    )
}

fn set_unknown(path: &mut Path, variable: &str) {
    path.variables.insert(variable.to_owned(), vec![Worth { value: Value::Unknown, ways: vec![vec![]] }]);
}

/// Whether the script itself has changed what `word` names.
pub(super) fn is_changed(word: &str, path: &Path) -> bool {
    const PARTS: &[&[&str]] = &[
        &["$ru", "$rU", "$rd", "$rp", "$rz", "$(ru{uri.user})", "$(ru{uri.host})", "$(ru{uri.domain})", "uri"],
        &["$fu", "$fU", "$fd", "$fn", "$(fu{uri.user})", "$(fu{uri.host})", "$(fu{uri.domain})"],
        &["$tu", "$tU", "$td", "$tn", "$(tu{uri.user})", "$(tu{uri.host})", "$(tu{uri.domain})"],
    ];
    let is_set = |name: &str| {
        path.variables.keys().any(|known| known.eq_ignore_ascii_case(name) && (known == name || known.len() > 4))
    };
    let is_agent = word == "$ua" || word.eq_ignore_ascii_case("$hdr(User-Agent)");
    is_set(word)
        || is_agent && (is_set("$hdr(User-Agent)") || is_set("$ua"))
        || PARTS.iter().any(|part| part.contains(&word) && part.iter().any(|name| is_set(name)))
}
