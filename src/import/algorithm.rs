//! The peers' algorithms by number (OpenSIPS 0 to 10, Kamailio 0 to 15 and 64), and what `load_balancer` chooses by.

use super::Peer;
use super::draft::Set;
use super::report::Verdict;
use super::script::Walker;
use super::syntax::Call;

/// What an algorithm becomes, and how that differs.
pub(super) struct Alike {
    pub(super) name: &'static str,
    pub(super) verdict: Verdict,
    pub(super) how: &'static str,
}

/// Each number of that peer; none for others.
pub(super) fn alike(peer: Peer, number: &str) -> Option<Alike> {
    use Verdict::{Approximated, Mapped, NotMappable};
    let of = |name, verdict, how| Some(Alike { name, verdict, how });
    let sticky = "nothing is hashed, so a caller has no server of its own: calls go by lot; give a rule with from or request_uri, and a \
                  set, to those that need one";
    match (peer, number) {
        (_, "0") => of(
            "random",
            Approximated,
            "a Call-ID's hash spreads calls as a lot does; what follows a call finds its server",
        ),
        (_, "1" | "2" | "3" | "7") => of("random", NotMappable, sticky),
        (_, "5") => {
            of("round_robin", NotMappable, "users of Authorization have no server of their own: calls go in turn")
        }
        (Peer::OpenSips, "4") => of("round_robin", Mapped, "by weight, and spread evenly: no bursts"),
        (Peer::Kamailio, "4") => of("round_robin", Mapped, "in turn"),
        (_, "6") => of("random", Mapped, "by weight"),
        (_, "8") => of("priority", Mapped, "the highest number first"),
        (Peer::OpenSips, "9") => {
            of("least_load", Approximated, "by live sessions, not by the value of pvar_algo_pattern")
        }
        (Peer::OpenSips, "10") => of(
            "least_load",
            NotMappable,
            "no script gives scores: calls go by live sessions; let an agent beside each server say its share ([set.agent])",
        ),
        (Peer::Kamailio, "9") => of(
            "random",
            Approximated,
            "by lot with the weight in attrs ([set.attrs]); who is down leaves its share to all, not to its neighbour",
        ),
        (Peer::Kamailio, "10") => of("least_load", Mapped, "by live sessions up to maxload ([set.capacity] attr)"),
        (Peer::Kamailio, "11") => {
            of("random", Mapped, "by lot with rweight in attrs ([set.attrs]), shared among those that are fit")
        }
        (Peer::Kamailio, "12") => of(
            "round_robin",
            NotMappable,
            "no call is forked to several servers at once: the next is tried when one is silent for first_response_timeout",
        ),
        (Peer::Kamailio, "13") => {
            of("peak_ewma", Approximated, "by latency times sessions, of calls and probes, without priority")
        }
        (Peer::Kamailio, "14") => {
            of("round_robin", Approximated, "in turn; if priorities differ and are meant, give \"priority\"")
        }
        (Peer::Kamailio, "15") => {
            of("priority", Approximated, "the lowest number first; weights within a priority do nothing")
        }
        (Peer::Kamailio, "64") => of(
            "round_robin",
            Approximated,
            "in turn; who answers 503 with Retry-After is left out until then, which takes the place of overload control",
        ),
        _ => None,
    }
}

impl Walker<'_> {
    pub(super) fn algorithm(&mut self, call: &Call, set: &mut Set, id: u32, number: &str) {
        let found = format!("{} algorithm {number}", call.name);
        let Some(Alike { name, verdict, how }) = alike(self.peer, number) else {
            let to = format!(
                "set {id} algorithm = \"round_robin\": the number is not known; give the algorithm that is meant"
            );
            return self.report.not_mappable(call.at, found, to);
        };
        set.algorithm = name;
        match (self.peer, number) {
            (Peer::Kamailio, "9") => set.weight = Some("weight"),
            (Peer::Kamailio, "10") => {
                set.attr = Some("maxload".into());
                set.shown_by = Some("duid");
            }
            (Peer::Kamailio, "11") => set.weight = Some("rweight"),
            (Peer::Kamailio, "15") => set.low_first = true,
            _ => {}
        }
        let to = format!("set {id} algorithm = {name:?}: {how}");
        match verdict {
            Verdict::Mapped => self.report.mapped(call.at, found, to),
            Verdict::Approximated => self.report.approximated(call.at, found, to),
            Verdict::NotMappable => self.report.not_mappable(call.at, found, to),
        }
    }

    /// `lb_start(group, resources, flags)`.
    pub(super) fn balanced(&mut self, call: &Call, set: &mut Set, resources: &[String], flags: &str) {
        const KNOWN: &[&str] = &["tts", "asr", "rec", "verify"];
        set.algorithm = "least_load_relative";
        let found = format!("{} resources {}", call.name, resources.join(";"));
        let (known, other): (Vec<_>, Vec<_>) = resources.iter().partition(|name| KNOWN.contains(&name.as_str()));
        set.resources = known.iter().map(|name| (*name).clone()).collect();
        set.attr = other.first().map(|name| (*name).clone()).filter(|name| !name.is_empty());
        if !known.is_empty() {
            let to = "[set.capacity.resources], by what each call's SDP asks for, with the number of the same name in resources";
            self.report.mapped(call.at, &found, to);
        }
        match other.as_slice() {
            [] => {}
            [only] => self.report.mapped(call.at, &found, format!("[set.capacity] attr = {only:?}")),
            [first, rest @ ..] => {
                let rest: Vec<_> = rest.iter().map(|name| name.as_str()).collect();
                let to = format!(
                    "[set.capacity] attr = {first:?}; {} limit nothing: a call has one limit beside its MRCP resources'",
                    rest.join(", ")
                );
                self.report.not_mappable(call.at, &found, to);
            }
        }
        if flags.contains('n') {
            let to = "a server at its limit gets no call: [set.capacity] overflow names a set for these";
            self.report.not_mappable(call.at, format!("{} flag n", call.name), to);
        }
        let found = format!("{} choice", call.name);
        match flags.contains('r') {
            true => self.report.mapped(call.at, found, "algorithm = \"least_load_relative\""),
            false => self.report.approximated(
                call.at,
                found,
                "algorithm = \"least_load_relative\": the fewest sessions against the limit, not the most that are free",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::dispatch::Algorithm;

    #[test]
    fn every_number_of_both_peers_becomes_an_algorithm_that_there_is() {
        let opensips = (0..=10).map(|number| (Peer::OpenSips, number));
        let kamailio = (0..=15).chain([64]).map(|number| (Peer::Kamailio, number));
        for (peer, number) in opensips.chain(kamailio) {
            let alike = alike(peer, &number.to_string()).unwrap_or_else(|| panic!("{peer:?} {number}"));
            assert!(Algorithm::from_name_or_number(alike.name).is_some(), "{peer:?} {number}: {}", alike.name);
        }
        assert!(alike(Peer::OpenSips, "11").is_none());
    }
}
