//! The dashboards and rules that are shipped ask for what `/metrics` has, and each alert is told of and shown. Their types are
//! checked by tests/dashboards/check, their queries by tests/interop/dashboards.sh.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use tandem::edge::metrics::{self, Kind};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/dashboards");

/// What Prometheus adds to every series, by the shipped prometheus.yml.
const ADDED: [&str; 3] = ["job", "cluster", "instance"];

/// Every file of these kinds that is shipped, with its text, in which a quote within JSON is a quote.
fn shipped(extensions: &[&str]) -> Vec<(PathBuf, String)> {
    let (mut folders, mut files) = (vec![PathBuf::from(FOLDER)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if extensions.iter().any(|one| path.extension().is_some_and(|is| is == *one)) {
                let text = fs::read_to_string(&path).expect("text").replace("\\\"", "\"");
                files.push((path, text));
            }
        }
    }
    assert!(!files.is_empty());
    files
}

fn rules(file: &str) -> String {
    fs::read_to_string(Path::new(FOLDER).join("rules").join(file)).expect("it is there")
}

/// The metrics that a text names, each with the labels that it is asked for by. What a recording rule makes has a colon.
fn named(text: &str) -> Vec<(&str, Vec<&str>)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut names = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_name) {
        let length = rest[start..].find(|c| !is_name(c)).unwrap_or(rest.len() - start);
        let (name, after) = rest[start..].split_at(length);
        rest = after;
        if (name.starts_with("tandem_") || name.starts_with("process_")) && !name.contains(':') {
            let matchers = after.strip_prefix('{').and_then(|inner| inner.split('}').next()).unwrap_or_default();
            let labels = matchers.split(',').filter_map(|one| one.split(['=', '!']).next());
            names.push((name, labels.map(str::trim).filter(|label| !label.is_empty()).collect()));
        }
    }
    names
}

#[test]
fn they_ask_only_for_metrics_and_labels_that_there_are() {
    let mut known = BTreeMap::<String, BTreeSet<&str>>::new();
    for row in metrics::table() {
        let labels: BTreeSet<_> = row.labels.iter().copied().chain(ADDED).collect();
        if row.kind == Kind::Histogram {
            known.insert(format!("{}_bucket", row.name), labels.iter().copied().chain(["le"]).collect());
            known.insert(format!("{}_count", row.name), labels.clone());
            known.insert(format!("{}_sum", row.name), labels);
        } else {
            known.insert(row.name.to_owned(), labels);
        }
    }
    let mut faults = BTreeSet::new();
    for (path, text) in shipped(&["json", "yml"]) {
        for (name, labels) in named(&text) {
            match known.get(name) {
                None => drop(faults.insert(format!("{}: no metric is called {name}", path.display()))),
                Some(has) => faults.extend(
                    labels
                        .iter()
                        .filter(|label| !has.contains(*label))
                        .map(|label| format!("{}: {name} has no label {label}", path.display())),
                ),
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn rules_that_the_alerts_go_by_are_there() {
    let recorded: BTreeSet<_> = rules("recording.yml")
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- record: ").map(str::to_owned))
        .collect();
    let text = rules("alerts.yml");
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    let asked: BTreeSet<_> = words.filter(|word| word.contains(":tandem_")).collect();
    assert!(!asked.is_empty());
    let missing: Vec<_> = asked.iter().filter(|name| !recorded.contains(**name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_alert_has_its_place_in_the_documentation_and_a_test_that_fires_and_one_that_does_not() {
    let documentation =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/alerts.md")).expect("it is there");
    let tests: String = shipped(&["yml"])
        .into_iter()
        .filter(|(path, _)| path.parent().is_some_and(|folder| folder.ends_with("rules/tests")))
        .map(|(_, text)| text)
        .collect();
    let text = rules("alerts.yml");
    let mut alerts = BTreeSet::new();
    let mut faults = Vec::new();
    for rule in text.split("- alert: ").skip(1) {
        let key = |key: &str| rule.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap_or("-").trim();
        let name = rule.lines().next().unwrap_or_default();
        alerts.insert(name);
        let severity = key("labels: { severity:").trim_end_matches('}').trim();
        let row = format!("| [{name}](#{}) | {severity} | {} |", name.to_lowercase(), key("for:"));
        let mut want = |holds: bool, what: &str| {
            if !holds {
                faults.push(format!("{name}: {what}"))
            }
        };
        want(["critical", "warning", "info"].contains(&severity), "no severity that there is");
        want(documentation.lines().any(|line| line.starts_with(&row)), &format!("docs/alerts.md has no row \"{row}\""));
        want(documentation.contains(&format!("\n### {name}\n")), "docs/alerts.md has no section");
        want(key("runbook:") == format!("docs/alerts.md#{}", name.to_lowercase()), "its runbook leads elsewhere");
        want(key("summary:").len() > 5 && rule.contains("description: >-"), "no summary or description");
        let shown = |what: &str| tests.contains(&format!("        alertname: {name}\n        exp_alerts:{what}\n"));
        want(shown(""), "no test in which it fires");
        want(shown(" []"), "no test in which it does not fire");
    }
    let sections = documentation.lines().filter_map(|line| line.strip_prefix("### "));
    faults.extend(sections.filter(|name| !alerts.contains(name)).map(|name| format!("{name}: no such alert")));
    assert!(alerts.len() > 20 && faults.is_empty(), "{}", faults.join("\n"));
}
