//! What a node tells of itself while a drill runs, and what can be seen in it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Deserializer, Value};

use super::kind::Sign;
use crate::edge::http::{ListenerReport, SetsReport};

/// What a site's command for it should print; only drills that move addresses need the second, only those of the database the others.
pub const WANTED: &str = "the JSON of GET /sets, and of GET /node, /ready and /store behind it";

/// What matters of `GET /node`, so that nodes of other versions can be asked too.
#[derive(Deserialize)]
struct ThisNode {
    listeners: Vec<ListenerReport>,
    #[serde(flatten)]
    program: Program,
    #[serde(default)]
    peers: Option<Vec<Peer>>,
}

/// One run of one program: another start is another one, of whatever version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Program {
    /// Its version.
    pub version: String,
    /// When it started.
    started: String,
}

impl Program {
    /// Whether what one node tells of another is this: nodes tell each other whole seconds.
    pub fn is(&self, told: &Program) -> bool {
        let second = |program: &Program| program.started.get(..SECOND).map(str::to_owned);
        !self.version.is_empty() && self.version == told.version && second(self) == second(told)
    }
}

/// A moment to the second: `2026-11-26T03:20:58`.
const SECOND: usize = 19;

/// Another node, as a node tells of it.
#[derive(Deserialize)]
struct Peer {
    node: String,
    #[serde(flatten)]
    program: Program,
    /// What it says is not understood.
    #[serde(default)]
    unknown_format: Option<u32>,
}

/// What matters of `GET /ready`.
#[derive(Deserialize)]
struct Ready {
    ready: bool,
    degraded: BTreeSet<String>,
}

/// What matters of `GET /store`.
#[derive(Deserialize)]
struct Rows {
    partitions: Vec<InPlace>,
}

#[derive(Deserialize)]
struct InPlace {
    partition: String,
    digest: Option<String>,
}

/// A node at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Its destinations that may get calls: set, URI and address.
    pub fit: BTreeSet<(u32, String, String)>,
    /// Its virtual addresses that are here.
    pub held: BTreeSet<String>,
    /// The other nodes that it hears.
    pub heard: BTreeSet<String>,
    /// Its live sessions.
    pub sessions: u64,
    /// Those of the whole cluster, as it counts them.
    pub cluster: u64,
    /// Those of them that came by an address of another node's.
    pub parked: u64,
    /// What it says is worse, but bearable; none: it is not ready, or was not asked.
    pub degraded: Option<BTreeSet<String>>,
    /// The rows that are in place: each partition with what tells whether they are the same.
    pub rows: BTreeSet<(String, String)>,
    /// What it runs.
    pub program: Program,
    /// What it has heard that others run; without those that it does not understand.
    pub others: BTreeMap<String, Program>,
}

impl State {
    /// Reads what the command printed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        let (mut state, mut has_sets) = (State::default(), false);
        for document in Deserializer::from_str(text).into_iter::<Value>() {
            let document = document.map_err(|fault| fault.to_string())?;
            if document.get("listeners").is_some() {
                state.take_node(ThisNode::deserialize(&document).map_err(|fault| format!("/node: {fault}"))?);
            } else if document.get("sets").is_some() {
                state.take_sets(&SetsReport::deserialize(&document).map_err(|fault| format!("/sets: {fault}"))?);
                has_sets = true;
            } else if document.get("degraded").is_some() {
                let Ready { ready, degraded } =
                    Ready::deserialize(&document).map_err(|fault| format!("/ready: {fault}"))?;
                state.degraded = ready.then_some(degraded);
            } else if document.get("partitions").is_some() {
                let rows = Rows::deserialize(&document).map_err(|fault| format!("/store: {fault}"))?;
                state.rows.extend(rows.partitions.into_iter().filter_map(|one| Some((one.partition, one.digest?))));
            }
        }
        if has_sets { Ok(state) } else { Err("/sets is missing".to_owned()) }
    }

    fn take_sets(&mut self, report: &SetsReport) {
        self.sessions = report.sessions.live;
        self.parked = report.sessions.parked;
        for set in &report.sets {
            for one in &set.destinations {
                self.cluster += one.sessions + one.sessions_elsewhere;
                self.heard.extend(one.votes.iter().map(|vote| vote.node.clone()));
                if one.fit {
                    let address = one.address.map_or_else(String::new, |address| address.to_string());
                    self.fit.insert((set.set, one.uri.clone(), address));
                }
            }
        }
    }

    fn take_node(&mut self, report: ThisNode) {
        let here = report.listeners.iter().filter(|one| one.role == "vip" && one.held);
        self.held.extend(here.map(|one| one.listener.clone()));
        self.program = report.program;
        let understood = report.peers.into_iter().flatten().filter(|peer| peer.unknown_format.is_none());
        self.others.extend(understood.map(|peer| (peer.node, peer.program)));
    }

    /// Why such a node could never show that; none: it can.
    pub fn is_blind(&self, sign: Sign) -> Option<&'static str> {
        match sign {
            Sign::Unfit | Sign::NoneFit if self.fit.is_empty() => Some("no destination is fit: mend that first"),
            Sign::Moved if self.held.is_empty() => {
                Some("no virtual address is here: give nodes that have some, and let `state` print GET /node too")
            }
            Sign::Deaf if self.heard.is_empty() => Some("no other node is heard: give it [cluster], or look why"),
            Sign::Stale if self.degraded.is_none() || self.rows.is_empty() => {
                Some("its rows are not told of: let `state` print GET /ready and /store too")
            }
            Sign::Unfit | Sign::NoneFit | Sign::Moved | Sign::Deaf | Sign::Stale | Sign::Nothing => None,
        }
    }

    /// Whether the node, which was so before, shows now that something has gone wrong.
    pub fn shows(&self, sign: Sign, before: &State) -> bool {
        match sign {
            Sign::Unfit => !before.fit.is_subset(&self.fit),
            Sign::NoneFit => self.fit.is_empty(),
            Sign::Moved => self.held != before.held,
            Sign::Deaf => !before.heard.is_subset(&self.heard),
            // It has the same rows and says that they may be old.
            Sign::Stale => self.degraded.is_some() && !self.says_no_more_than(before) && self.rows == before.rows,
            Sign::Nothing => false,
        }
    }

    /// Whether the node, which was so before, is so again, in what that is about.
    pub fn is_well(&self, sign: Sign, before: &State) -> bool {
        match sign {
            Sign::Unfit | Sign::NoneFit => before.fit.is_subset(&self.fit),
            // One that was started anew has to know its destinations too.
            Sign::Moved => before.held == self.held && before.fit.is_subset(&self.fit),
            Sign::Deaf => before.heard.is_subset(&self.heard),
            // Whoever undoes it changes a row: that shows that the rows are read again.
            Sign::Stale => self.says_no_more_than(before) && self.rows != before.rows,
            Sign::Nothing => true,
        }
    }

    /// Whether it is ready and nothing is worse than before.
    fn says_no_more_than(&self, before: &State) -> bool {
        match (&self.degraded, &before.degraded) {
            (Some(now), Some(before)) => now.is_subset(before),
            (Some(now), None) => now.is_empty(),
            (None, _) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = r#"{"node":"a","version":"0.1.0","draining":false,"sessions":7,"parked":2,"listeners":[
        {"listener":"udp:10.0.0.11:8060","advertise":"10.0.0.11:8060","role":"node","held":true},
        {"listener":"udp:10.0.0.101:8060","advertise":"10.0.0.101:8060","role":"vip","held":true},
        {"listener":"udp:10.0.0.102:8060","advertise":"10.0.0.102:8060","role":"vip","held":false}]}"#;
    const SETS: &str = r#"{"node":"a","sets":[],"sessions":{"live":7,"parked":2,"pings":0,"failed_pings":0,"byes":0,
        "failed_byes":0,"ended":{}}}"#;
    const STORE: &str = r#"{"node":"a","partitions":[{"partition":"default","digest":"5f2e","source":"x","ok":true},
        {"partition":"asr","digest":null}]}"#;

    #[test]
    fn a_state_is_read_of_two_documents_in_a_row() {
        for text in [format!("{SETS}{NODE}"), format!("{NODE}\n{SETS}\n")] {
            let state = State::read(&text).expect("a state");
            assert_eq!(state.held.iter().collect::<Vec<_>>(), ["udp:10.0.0.101:8060"]);
            assert_eq!((state.sessions, state.parked), (7, 2));
        }
        assert!(State::read(SETS).is_ok_and(|state| state.held.is_empty() && state.degraded.is_none()));
        let (ready, store) = (r#"{"ready":true,"reasons":[],"degraded":["old"]}"#, STORE);
        let state = State::read(&format!("{SETS}{NODE}{ready}{store}")).expect("a state");
        assert_eq!(state.degraded, Some(["old".to_owned()].into()));
        assert_eq!(state.rows, [("default".to_owned(), "5f2e".to_owned())].into(), "asr has none yet");
        let state = State::read(&format!("{SETS}{}", ready.replace("true", "false"))).expect("a state");
        assert_eq!(state.degraded, None, "it is not ready");
        for (text, fault) in [
            ("", "/sets is missing"),
            (NODE, "/sets is missing"),
            ("curl: (7) refused", "expected value"),
            (r#"{"sets":[]}"#, "/sets: missing field"),
        ] {
            let told = State::read(text).expect_err(text);
            assert!(told.contains(fault), "{text}: {told}");
        }
    }

    #[test]
    fn what_a_node_runs_is_told_by_itself_and_by_those_who_understand_it() {
        let peer = |node: &str, more: &str| {
            format!(r#"{{"node":"{node}","version":"1.0.0","started":"2026-11-26T20:00:01.000Z"{more}}}"#)
        };
        let peers =
            [peer("b", ""), peer("c", r#","unknown_format":2"#), peer("d", r#","unknown_format":null"#)].join(",");
        let node = format!(
            r#"{{"node":"a","listeners":[],"version":"0.1.0","started":"2026-11-26T20:00:00.900Z","peers":[{peers}]}}"#
        );
        let state = State::read(&format!("{SETS}{node}")).expect("a state");
        assert_eq!(state.program.version, "0.1.0");
        assert_eq!(state.others.keys().collect::<Vec<_>>(), ["b", "d"], "c says what is not understood");
        let program =
            |version: &str, started: &str| Program { version: version.to_owned(), started: started.to_owned() };
        let itself = program("1.0.0", "2026-11-26T20:00:01.999Z");
        assert!(itself.is(&state.others["b"]));
        for other in [
            program("1.0.0", "2026-11-26T20:00:02.000Z"),
            program("1.0.1", "2026-11-26T20:00:01.000Z"),
            Program::default(),
        ] {
            assert!(!itself.is(&other) && !other.is(&state.others["b"]), "{other:?}");
        }
    }

    #[test]
    fn signs_are_seen_against_what_was_before() {
        let fit = |uris: &[&str]| uris.iter().map(|uri| (19, (*uri).to_owned(), String::new())).collect();
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let rows = |digest: &str| [("default".to_owned(), digest.to_owned())].into();
        let before = State {
            fit: fit(&["x", "y"]),
            held: names(&["v"]),
            heard: names(&["b"]),
            degraded: Some(names(&["alone"])),
            rows: rows("1"),
            ..State::default()
        };
        let all = [Sign::Unfit, Sign::NoneFit, Sign::Moved, Sign::Deaf, Sign::Stale, Sign::Nothing];
        let shown = |now: &State| all.map(|sign| now.shows(sign, &before));
        assert_eq!(shown(&before), [false; 6]);
        assert_eq!(shown(&State { fit: fit(&["y"]), ..before.clone() }), [true, false, false, false, false, false]);
        assert_eq!(shown(&State { fit: fit(&[]), ..before.clone() }), [true, true, false, false, false, false]);
        assert_eq!(shown(&State { held: names(&[]), ..before.clone() }), [false, false, true, false, false, false]);
        assert_eq!(shown(&State { heard: names(&[]), ..before.clone() }), [false, false, false, true, false, false]);
        let stale = State { degraded: Some(names(&["alone", "no answer"])), ..before.clone() };
        assert_eq!(shown(&stale), [false, false, false, false, true, false]);
        assert_eq!(
            shown(&State { degraded: None, ..stale.clone() }),
            [false; 6],
            "one that is not ready does not serve"
        );
        assert_eq!(shown(&State { rows: rows("2"), ..stale.clone() }), [false; 6], "and these are not the same rows");
        assert_eq!(all.map(|sign| before.is_well(sign, &before)), [true, true, true, true, false, true]);
        let changed = State { rows: rows("2"), degraded: Some(names(&[])), ..before.clone() };
        assert_eq!(all.map(|sign| changed.is_well(sign, &before)), [true; 6]);
        assert!(!State { rows: rows("2"), ..stale }.is_well(Sign::Stale, &before));
        assert_eq!(all.map(|sign| State::default().is_well(sign, &before)), [false, false, false, false, false, true]);
        assert_eq!(all.map(|sign| before.is_blind(sign).is_some()), [false; 6]);
        assert_eq!(all.map(|sign| State::default().is_blind(sign).is_some()), [true, true, true, true, true, false]);
    }
}
