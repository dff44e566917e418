//! The stages of an upgrade: of which versions the nodes were at a time, and whether they knew each other's.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde::Serialize;

use super::course::Course;
use super::site::Site;
use super::state::{Program, State};

/// A time in which no node began anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// Each node's version.
    pub versions: BTreeMap<String, String>,
    /// Nodes that have not heard in all that time of which version each other node is.
    pub unheard: BTreeSet<String>,
    /// Sessions of the cluster as each node counted them when it last heard all others, and how many there were then.
    pub counted: BTreeMap<String, [u64; 2]>,
}

/// A node's answer at a time.
struct Told<'c> {
    at: u64,
    node: &'c str,
    state: &'c State,
}

/// All stages, one after another; `live` tells how many sessions there were at a time. None where nodes do not tell what they run.
pub(super) fn stages(site: &Site, course: &Course, live: impl Fn(u64) -> u64) -> Vec<Stage> {
    let mut all: Vec<_> =
        site.nodes.iter().zip(&course.looks).flat_map(|(node, looks)| told(&node.name, looks)).collect();
    // What is told when calls are over says nothing of them.
    all.retain(|told| told.at <= course.ended);
    all.sort_by_key(|told| told.at);
    let mut running: BTreeMap<&str, &Program> = BTreeMap::new();
    let mut starts = Vec::new();
    for (index, told) in all.iter().enumerate() {
        let former = running.insert(told.node, &told.state.program);
        if former.is_none_or(|former| *former != told.state.program) {
            starts.push((index, former.is_some(), running.clone()));
        }
    }
    // Nodes that are first heard of one after another have not begun anew.
    let first = starts.iter().position(|(_, is_anew, _)| *is_anew).unwrap_or(starts.len());
    let starts = &starts[first.saturating_sub(1)..];
    let begins = starts.iter().enumerate().map(|(nth, (index, ..))| if nth == 0 { 0 } else { *index });
    let ends = starts.iter().skip(1).map(|(index, ..)| *index).chain([all.len()]);
    let running = starts.iter().map(|(.., running)| running);
    let parts = begins.zip(ends).zip(running);
    parts.map(|((begin, end), running)| one(&all, begin..end, running, &live)).collect()
}

fn told<'c>(node: &'c str, looks: &'c [super::course::Look]) -> impl Iterator<Item = Told<'c>> {
    let states = looks.iter().filter_map(|look| Some((look.at, look.state.as_ref()?)));
    states.filter(|(_, state)| !state.program.version.is_empty()).map(move |(at, state)| Told { at, node, state })
}

fn one(all: &[Told<'_>], part: Range<usize>, running: &BTreeMap<&str, &Program>, live: impl Fn(u64) -> u64) -> Stage {
    let hears_all = |told: &&Told<'_>| {
        let mut others = running.iter().filter(|(node, _)| **node != told.node);
        others.all(|(node, program)| told.state.others.get(*node).is_some_and(|told| program.is(told)))
    };
    let heard = all[part].iter().filter(hears_all);
    let counted: BTreeMap<_, _> =
        heard.map(|told| (told.node.to_owned(), [told.state.cluster, live(told.at)])).collect();
    Stage {
        versions: running.iter().map(|(node, program)| ((*node).to_owned(), program.version.clone())).collect(),
        unheard: running.keys().filter(|node| !counted.contains_key(**node)).map(|node| (*node).to_owned()).collect(),
        counted,
    }
}

#[cfg(test)]
mod tests {
    use super::super::course::Look;
    use super::super::site::Node;
    use super::*;

    fn look(at: u64, document: &str) -> Look {
        let sets = r#"{"node":"","sets":[],"sessions":{"live":0,"parked":0,"pings":0,"failed_pings":0,"byes":0,"failed_byes":0,"ended":{}}}"#;
        Look { at, state: Some(State::read(&format!("{sets}{document}")).expect("a state")) }
    }

    /// What a node tells that runs one version and hears the other node run another; versions tell their start too.
    fn node(version: u32, other: Option<u32>) -> String {
        let program = |version| format!(r#""version":"{version}.0.0","started":"2026-11-26T20:00:0{version}.517Z""#);
        let peer = other.map_or_else(String::new, |other| {
            format!(r#"{{"node":"NAME",{}}}"#, program(other).replace(".517", ".000"))
        });
        format!(r#"{{{},"listeners":[],"peers":[{peer}]}}"#, program(version))
    }

    fn staged(a: &[(u64, u32, Option<u32>)], b: &[(u64, u32, Option<u32>)]) -> Vec<(String, String, Vec<String>)> {
        let looks = |all: &[(u64, u32, Option<u32>)], other: &str| {
            all.iter().map(|(at, version, heard)| look(*at, &node(*version, *heard).replace("NAME", other))).collect()
        };
        let nodes = ["a", "b"].map(|name| Node { name: name.to_owned(), state: String::new() });
        let site = Site { name: String::new(), nodes: nodes.into(), callers: Vec::new(), acts: BTreeMap::new() };
        let course = Course { looks: vec![looks(a, "b"), looks(b, "a")], ended: 100, ..Course::default() };
        let stages = stages(&site, &course, |at| at);
        stages
            .into_iter()
            .map(|stage| {
                let of = |node: &str| stage.versions[node].clone();
                (of("a"), of("b"), stage.unheard.into_iter().collect())
            })
            .collect()
    }

    fn of(a: u32, b: u32, unheard: &[&str]) -> (String, String, Vec<String>) {
        let version = |number| format!("{number}.0.0");
        (version(a), version(b), unheard.iter().map(|node| (*node).to_owned()).collect())
    }

    #[test]
    fn each_start_is_a_stage_in_which_all_must_hear_each_other() {
        let a = [(1, 1, Some(1)), (11, 1, None), (12, 1, Some(2)), (21, 2, None), (22, 2, Some(2))];
        let b = [(2, 1, Some(1)), (10, 2, None), (13, 2, Some(1)), (24, 2, Some(2))];
        assert_eq!(staged(&a, &b), [of(1, 1, &[]), of(1, 2, &[]), of(2, 2, &[])]);
        assert_eq!(staged(&a[..2], &b[..2]), [of(1, 1, &[]), of(1, 2, &["a", "b"])], "neither has heard the other");
        let wrong = [(1, 1, Some(1)), (11, 1, Some(3)), (12, 1, Some(1))];
        assert_eq!(staged(&wrong, &b), [of(1, 1, &[]), of(1, 2, &["a"])], "and one that hears something else");
        let late = [(1, 1, Some(1)), (101, 1, Some(2))];
        assert_eq!(staged(&late, &b), [of(1, 1, &[]), of(1, 2, &["a"])], "no call is left to be counted then");
        assert_eq!(staged(&[], &[]), []);
    }

    #[test]
    fn another_start_of_the_same_version_is_another_stage() {
        let again = node(1, Some(1)).replace("20:00:01.517", "20:00:09.001").replace("NAME", "a");
        let nodes = ["a", "b"].map(|name| Node { name: name.to_owned(), state: String::new() });
        let site = Site { name: String::new(), nodes: nodes.into(), callers: Vec::new(), acts: BTreeMap::new() };
        let a = |at| look(at, &node(1, Some(1)).replace("NAME", "b"));
        let b = look(2, &node(1, Some(1)).replace("NAME", "a"));
        let course =
            Course { looks: vec![vec![a(1), a(9)], vec![b, look(8, &again)]], ended: 100, ..Course::default() };
        let stages = stages(&site, &course, |at| at);
        assert_eq!(stages.len(), 2);
        assert_eq!(stages[1].unheard, ["a".to_owned()].into(), "what it hears is the start before");
        assert_eq!(stages[0].counted, [("a".to_owned(), [0, 1]), ("b".to_owned(), [0, 2])].into());
    }
}
