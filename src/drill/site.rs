//! A site: the commands that ask its nodes, make its calls, and do and undo what goes wrong. Nothing else is known of it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::kind::Kind;
use crate::config::Fault;
use crate::config::reader::{Section, Source};

/// Where a drill is held.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// As people call it.
    pub name: String,
    /// Its nodes.
    pub nodes: Vec<Node>,
    /// Who makes calls.
    pub callers: Vec<Caller>,
    /// What can go wrong.
    pub acts: BTreeMap<Kind, Act>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Prints what `GET /sets` and `GET /node` answer, one after the other.
    pub state: String,
}

/// One who makes calls.
#[derive(Clone, Debug, PartialEq)]
pub struct Caller {
    /// Its name.
    pub name: String,
    /// Makes calls and prints what `tandem calls --json --timeline` prints. In its environment stand RATE (calls a second), HOLD
    /// and TIME (how long a call lasts and calls are begun, as 10000ms).
    pub calls: String,
    /// Its part of the drill's rate, in percent; those of all callers are 100 together.
    pub share: f64,
    /// Whether it sends again what is not answered. By TCP nobody does: what was on its way by a connection that dies is lost.
    pub resends: bool,
}

/// What goes wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Act {
    /// Does it, one command after another.
    pub act: Vec<String>,
    /// Undoes it.
    pub undo: Vec<String>,
    /// URIs of the destinations whose own sessions it ends.
    pub ends: Vec<String>,
}

/// Why there is no site.
#[derive(Debug, Error)]
pub enum SiteError {
    /// The file can't be read.
    #[error("{}: can't read it: {source}: give a file with --site", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file has faults.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Faults(Vec<Fault>),
}

impl Site {
    /// Reads a file.
    ///
    /// # Errors
    /// [`SiteError`] with every fault of the file.
    pub fn load(path: &Path) -> Result<Self, SiteError> {
        let text = std::fs::read_to_string(path).map_err(|source| SiteError::Read { path: path.to_owned(), source })?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Reads the text of a file, which is called `file` in faults.
    ///
    /// # Errors
    /// [`SiteError::Faults`] with every fault.
    pub fn parse(file: &str, text: &str) -> Result<Self, SiteError> {
        let source = Source::new(file, text);
        let site = source.parse().map(|document| read(file, &Section::root(&source, &document)));
        match (site, source.into_faults()) {
            (Some(site), faults) if faults.is_empty() => Ok(site),
            (_, faults) => Err(SiteError::Faults(faults)),
        }
    }
}

fn read(file: &str, root: &Section<'_>) -> Site {
    let nodes = root.sections("node");
    let caller_sections = root.sections("caller");
    let mut names = Vec::new();
    let mut unique = |section: &Section<'_>| {
        let name = required(section, "name", "give it a name of its own").unwrap_or_default();
        if !name.is_empty() && names.contains(&name) {
            section.fault_at("name", &format!("{name:?} is there twice: give each a name of its own"));
        }
        names.push(name.clone());
        name
    };
    let nodes: Vec<_> = nodes.iter().map(|section| read_node(unique(section), section)).collect();
    let callers: Vec<_> = caller_sections.iter().map(|section| read_caller(unique(section), section)).collect();
    let shares: f64 = callers.iter().map(|caller| caller.share).sum();
    if let (Some(last), true) = (caller_sections.last(), (shares - 100.0).abs() > 0.01) {
        last.fault_at(
            "share",
            &format!("the shares of all callers are {shares} together: make them 100 (one without has 100)"),
        );
    }
    if nodes.is_empty() {
        root.fault("there is no [[node]]: give the nodes, each with its name and state");
    }
    if callers.is_empty() {
        root.fault("there is no [[caller]]: give who makes calls, each with its name and calls");
    }
    let mut acts = BTreeMap::new();
    for kind in Kind::ALL {
        let section = root.section(kind.name());
        if section.is_present() {
            acts.insert(kind, read_act(kind, &section));
        }
    }
    root.finish();
    Site { name: file.to_owned(), nodes, callers, acts }
}

fn read_node(name: String, section: &Section<'_>) -> Node {
    let state = required(section, "state", "give the command that prints what GET /sets and GET /node answer");
    section.finish();
    Node { name, state: state.unwrap_or_default() }
}

fn read_caller(name: String, section: &Section<'_>) -> Caller {
    let calls = required(section, "calls", "give the command, as tandem calls --json --timeline ...");
    let caller = Caller {
        name,
        calls: calls.unwrap_or_default(),
        // One that is wrong is no part of any sum.
        share: section.real("share", 0.1..=100.0).unwrap_or(if section.has("share") { f64::NAN } else { 100.0 }),
        resends: section.flag("resends").unwrap_or(true),
    };
    section.finish();
    caller
}

fn read_act(kind: Kind, section: &Section<'_>) -> Act {
    let commands = |key| section.texts(key, "a command", command).unwrap_or_default();
    let act = Act {
        act: commands("act"),
        undo: commands("undo"),
        ends: section.texts("ends", "a SIP URI", |uri| Ok(uri.to_owned())).unwrap_or_default(),
    };
    if !section.has("act") {
        section.fault("it has no act: give the command that does it, or several in a list");
    }
    match (kind.leaves_nothing(), section.has("undo")) {
        (true, true) => section.fault_at("undo", "there is nothing to undo here: let act leave all as it was"),
        (false, false) => section.fault("it has no undo: give the command that makes all as it was"),
        (true, false) | (false, true) => {}
    }
    section.finish();
    act
}

/// A text that has to be there; none is a fault.
fn required(section: &Section<'_>, key: &'static str, remedy: &str) -> Option<String> {
    if !section.has(key) {
        section.fault(&format!("it has no {key}: {remedy}"));
    }
    section.text(key, "a command", command)
}

fn command(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("give a command".to_owned()) } else { Ok(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../config/drill-site.toml");

    fn faults(text: &str) -> Vec<String> {
        Site::parse("s.toml", text).expect_err("faults").to_string().lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_example_knows_every_kind() {
        let site = Site::parse("drill-site.toml", EXAMPLE).expect("valid");
        assert_eq!(site.acts.keys().copied().collect::<Vec<_>>(), Kind::ALL);
        assert_eq!(site.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(
            site.callers.iter().all(|caller| caller.calls.contains("$RATE") && caller.calls.contains("--timeline"))
        );
        assert_eq!(site.callers.iter().map(|caller| caller.share).sum::<f64>(), 100.0);
        assert!(site.acts[&Kind::RestartNodes].act.len() == 2 && !site.acts[&Kind::KillDestination].ends.is_empty());
    }

    #[test]
    fn every_fault_is_told_at_once() {
        let text = r#"
[[node]]
name = "a"
state = ""
[[node]]
name = "a"
[[caller]]
calls = "tandem calls"
share = 101
resend = true
[kill-node]
act = []
[move-vip]
undo = "true"
[restart-nodes]
act = "true"
undo = "true"
[kill-nodes]
"#;
        let told = faults(text);
        for fault in [
            "s.toml:4: node.state is \"\": give a command",
            "s.toml:6: node.name: \"a\" is there twice",
            "s.toml:5: node: it has no state",
            "s.toml:7: caller: it has no name",
            "s.toml:9: caller.share is 101: give a number from 0.1 to 100",
            "s.toml:10: caller.resend is no known key",
            "s.toml:12: kill-node.act is []",
            "s.toml:11: kill-node: it has no undo",
            "s.toml:13: move-vip: it has no act",
            "s.toml:17: restart-nodes.undo: there is nothing to undo",
            "s.toml:18: kill-nodes is no known key: give one of node, caller, kill-destination",
        ] {
            assert!(told.iter().any(|one| one.starts_with(fault)), "{fault}: {told:#?}");
        }
        assert_eq!(told.len(), 11, "{told:#?}");
        let caller = |name: &str| format!("[[caller]]\nname = \"{name}\"\ncalls = \"true\"\n");
        let node = "[[node]]\nname = \"n\"\nstate = \"true\"\n";
        assert_eq!(
            faults(&format!("{node}{}share = 60\n{}share = 30.5\n", caller("a"), caller("b"))),
            [
                "s.toml:11: caller.share: the shares of all callers are 90.5 together: make them 100 (one without has 100)"
            ]
        );
        assert!(faults(&format!("{node}{}{}", caller("a"), caller("b")))[0].starts_with("s.toml:7: caller.share: "));
        let none = faults("");
        assert!(none[0].contains("there is no [[node]]") && none[1].contains("there is no [[caller]]"), "{none:?}");
    }
}
