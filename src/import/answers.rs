//! The answers of a script: of a set that has nobody, of rules, and those that Tandem gives by itself.

use super::calls::without_results;
use super::condition::{Literal, Test};
use super::draft::Answer;
use super::report::At;
use super::script::{Decision, Path, Walker};
use super::syntax::{Call, Expr};

impl Walker<'_> {
    pub(super) fn reply(&mut self, call: &Call, path: &Path) {
        let (at, shown) = (call.at, call.shown());
        let status = call.arguments.first().and_then(|status| self.constant(status, path));
        let Some(status) = status.and_then(|status| status.parse::<u16>().ok()) else {
            let to =
                "its status is not known before a call comes: write a [[rule]] with reply, or empty_reply of a set";
            return self.report.not_mappable(at, shown, to);
        };
        let (reason, is_whole) = reason(call.arguments.get(1));
        if !(300..=699).contains(&status) {
            let to = "Tandem answers 100 to each INVITE, and 200 to OPTIONS that are for itself";
            return match status {
                100..=200 => self.report.mapped(at, shown, to),
                _ => self.report.not_mappable(at, shown, "Tandem sends no such answer: let a server of a set do so"),
            };
        }
        if path.ways.iter().all(|way| way.iter().any(|literal| literal.test == Test::Itself)) {
            let to = "Tandem answers by itself what is wrong, too old, too often forwarded or of no session";
            return self.report.mapped(at, shown, to);
        }
        let answer = Answer { status, reason };
        let is_of_status = |way: &Vec<Literal>| way.iter().any(|one| one.holds && matches!(one.test, Test::Status(_)));
        if self.failing.is_some() && path.is_chosen() != Some(false) && path.ways.iter().any(is_of_status) {
            let to = "an answer to some statuses alone: a server's last answer is passed on as it is; empty_reply of a set is for all of them";
            return self.report.not_mappable(at, shown, to);
        }
        let is_failed = path.is_chosen() == Some(false) || self.failing.is_some();
        if !path.selects.is_empty() && is_failed {
            return self.empty_reply(at, &shown, &answer, is_whole, path);
        }
        if is_failed {
            let to = "whose answer it is is not known before a call comes: give empty_reply to the set that is meant";
            return self.report.not_mappable(at, shown, to);
        }
        if path.is_chosen() == Some(true) {
            let to = "once a server is chosen its answers are passed on: nothing is answered in its place";
            return self.report.approximated(at, shown, to);
        }
        // A part of it may be for those that found nobody.
        let is_lost = |way: &&Vec<Literal>| way.iter().any(|one| matches!(one.test, Test::Result(it) if !it.chosen));
        let (lost, others): (Vec<_>, Vec<_>) = path.ways.iter().partition(is_lost);
        if !lost.is_empty() && !path.selects.is_empty() {
            self.empty_reply(at, &shown, &answer, is_whole, path);
        }
        let ways = others.into_iter().map(|way| without_results(way)).collect();
        self.decisions.push(Decision::Reply { answer, ways, at, shown });
    }

    fn empty_reply(&mut self, at: At, shown: &str, answer: &Answer, is_whole: bool, path: &Path) {
        for select in self.failing.clone().unwrap_or_else(|| path.selects.clone()) {
            let id = self.selects[select].set;
            let Some(set) = self.draft.sets.get_mut(&id) else { continue };
            let has = set.empty_reply.get_or_insert_with(|| answer.clone());
            let text = format!("set {id} empty_reply = {{ status = {}, reason = {:?} }}", has.status, has.reason);
            match (has == answer, is_whole, self.failing.is_some()) {
                (true, true, false) => self.report.mapped(at, shown, text),
                (true, true, true) => {
                    self.report.approximated(
                        at,
                        shown,
                        format!("{text}, with the last server's code in a Reason header"),
                    );
                }
                (true, false, _) => {
                    self.report.approximated(at, shown, format!("{text}: its text is fixed, without variables"));
                }
                (false, _, _) => self.report.approximated(
                    at,
                    shown,
                    format!("{text}: a set has one answer for all that it can't serve; the log tells the causes apart"),
                ),
            }
        }
    }
}

/// The reason phrase, and whether it is all of it: variables are left out.
fn reason(argument: Option<&Expr>) -> (String, bool) {
    let text = match argument {
        None => return (String::new(), true),
        Some(Expr::Value(text) | Expr::Bare(text)) => text.clone(),
        Some(Expr::Sum(parts)) => parts
            .iter()
            .map(|part| match part {
                Expr::Value(text) | Expr::Bare(text) => text.clone(),
                other => other.shown(),
            })
            .collect(),
        Some(other) => other.shown(),
    };
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    if !text.contains('$') {
        return (text, true);
    }
    let mut plain = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find('$') {
        plain.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        let name = behind.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(behind.len());
        rest = match behind[name..].starts_with('(') {
            true => behind[name..].find(')').map_or("", |close| &behind[name + close + 1..]),
            false => &behind[name..],
        };
    }
    plain.push_str(rest);
    (plain.split_whitespace().collect::<Vec<_>>().join(" "), false)
}
