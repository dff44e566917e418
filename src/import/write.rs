//! The draft as TOML.

use std::fmt::Write;

use super::condition::Field;
use super::draft::{Action, Answer, Cluster, Draft, Rule, Set, Source};

/// `[limits] session_lifetime` by default, in seconds.
const SESSION_LIFETIME: u64 = 12 * 3600;

/// The text of a configuration; `from` says of what it was made.
pub(super) fn toml(draft: &Draft, from: &str) -> String {
    let mut out = Out(String::new());
    out.line(&format!("# Made by tandem import of {from}; the report says what it could not take over."));
    out.line("# Every other key stands in config/tandem.toml.");
    out.line("");
    if let Some(node_id) = &draft.node_id {
        out.text("node_id", node_id);
    }
    out.text("state_dir", "state");
    for listener in &draft.listeners {
        out.table("[[listener]]");
        out.text("bind", &listener.bind);
        if let Some(advertise) = &listener.advertise {
            out.text("advertise", advertise);
        }
    }
    source(&mut out, "[database]", &draft.database);
    for partition in &draft.partitions {
        source(&mut out, "[[partition]]", partition);
    }
    for (id, one) in &draft.sets {
        set(&mut out, *id, one);
    }
    draft.rules.iter().for_each(|one| rule(&mut out, one));
    if let Some(Answer { status, reason }) = &draft.unroutable {
        out.table("[unroutable]");
        out.value("status", status);
        out.text("reason", reason);
    }
    // What says nothing for so long is forgotten, which may not come before the longest session is over.
    let longest = draft.sets.values().filter_map(|set| set.max_duration).max();
    if let Some(seconds) = longest.filter(|seconds| *seconds > SESSION_LIFETIME) {
        out.table("[limits]");
        out.text("session_lifetime", &format!("{seconds}s"));
    }
    if let Some(one) = &draft.cluster {
        cluster(&mut out, one);
    }
    out.0
}

struct Out(String);

impl Out {
    fn line(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    fn table(&mut self, name: &str) {
        self.line("");
        self.line(name);
    }

    fn value(&mut self, key: &str, value: impl std::fmt::Display) {
        writeln!(self.0, "{key} = {value}").expect("writing to memory");
    }

    fn text(&mut self, key: &str, text: &str) {
        self.value(key, quoted(text));
    }

    fn maybe(&mut self, key: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(key, text);
        }
    }
}

fn source(out: &mut Out, table: &str, source: &Source) {
    let Source { name, url, table: rows, schema, columns, offset, persist_state } = source;
    if name.is_empty() && url.is_none() {
        return;
    }
    out.table(table);
    if !name.is_empty() {
        out.text("name", name);
    }
    out.maybe("url", url.as_deref());
    out.maybe("table", rows.as_deref());
    out.maybe("schema", *schema);
    if *offset > 0 {
        out.value("set_offset", offset);
    }
    if *persist_state == Some(true) {
        out.text("persist_state", "opensips");
    }
    if !columns.is_empty() {
        let columns: Vec<_> = columns.iter().map(|(key, name)| format!("{key} = {}", quoted(name))).collect();
        out.value("columns", format!("{{ {} }}", columns.join(", ")));
    }
}

fn set(out: &mut Out, id: u32, set: &Set) {
    out.table("[[set]]");
    out.value("id", id);
    if !set.name.is_empty() {
        out.text("name", &set.name);
    }
    out.text("algorithm", set.algorithm);
    if set.low_first {
        out.text("priority_order", "low_first");
    }
    if let Some(answer) = &set.empty_reply {
        out.value("empty_reply", reply(answer));
    }
    if !set.retry_on.is_empty() {
        out.value("retry_on", list(&set.retry_on));
    }
    out.maybe("first_response_timeout", set.first_response_timeout.as_deref());
    out.maybe("final_timeout", set.final_timeout.as_deref());
    if let Some(number) = set.max_retries {
        out.value("max_retries", number);
    }
    set.notes.iter().for_each(|note| out.line(&format!("# {note}")));
    if let Some(probe) = &set.probe {
        out.line("[set.probe]");
        out.maybe("method", probe.method.as_deref());
        out.maybe("from", probe.from.as_deref());
        out.maybe("socket", probe.socket.as_deref());
        if let Some(number) = probe.max_forwards {
            out.value("max_forwards", number);
        }
        if !probe.accept.is_empty() {
            out.value("accept", list(&probe.accept));
        }
        let interval = format!("{}s", probe.interval);
        out.text("interval", &interval);
        out.text("down_interval", &interval);
        out.maybe("timeout", probe.timeout.as_deref());
        out.value("fall", probe.fall);
        out.value("rise", probe.rise);
        if probe.only_when_down {
            out.text("when", "down");
        }
        if probe.is_shared {
            out.text("who", "shared");
        }
    }
    if set.attr.is_some() {
        out.line("[set.capacity]");
        out.maybe("attr", set.attr.as_deref());
    }
    if !set.resources.is_empty() {
        out.line("[set.capacity.resources]");
        set.resources.iter().for_each(|name| out.value(name, format!("{{ attr = {} }}", quoted(name))));
    }
    if set.weight.is_some() || set.shown_by.is_some() {
        out.line("[set.attrs]");
        out.maybe("weight", set.weight);
        out.maybe("name", set.shown_by);
    }
    if let Some(seconds) = set.max_duration {
        out.line("[set.session]");
        out.text("max_duration", &format!("{seconds}s"));
    }
    if let Some(ping) = &set.ping {
        out.line("[set.session.ping]");
        out.text("method", ping.method);
        out.text("to", ping.to);
        if let Some(interval) = ping.interval {
            out.text("interval", &format!("{interval}s"));
            // An answer has to come before the next ping is due; 5s is the default.
            if interval <= 5 {
                out.text("timeout", &format!("{}ms", interval * 500));
            }
        }
    }
}

fn rule(out: &mut Out, rule: &Rule) {
    if !rule.doubts.is_empty() {
        let mut inner = Out(String::new());
        self::rule(&mut inner, &Rule { doubts: vec![], ..rule.clone() });
        out.line("");
        let doubts: String = rule.doubts.join("; ").chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        out.line(&format!("# Narrow it, then uncomment: no rule can ask {doubts}"));
        inner.0.trim().lines().for_each(|line| out.line(&format!("# {line}")));
        return;
    }
    out.table("[[rule]]");
    out.text("name", &rule.name);
    if !rule.methods.is_empty() {
        out.value("method", list(&rule.methods));
    }
    let part = |user: Field, host: Field| {
        let parts = [("user", user), ("host", host)];
        let given: Vec<_> = parts
            .iter()
            .filter_map(|(key, field)| rule.fields.get(field).map(|glob| format!("{key} = {}", quoted(glob))))
            .collect();
        (!given.is_empty()).then(|| format!("{{ {} }}", given.join(", ")))
    };
    out.maybe("user_agent", rule.fields.get(&Field::UserAgent).map(String::as_str));
    if !rule.sources.is_empty() {
        out.value("source", list(&rule.sources));
    }
    if !rule.listeners.is_empty() {
        out.value("listener", list(&rule.listeners));
    }
    for (key, parts) in [
        ("request_uri", part(Field::RequestUser, Field::RequestHost)),
        ("from", part(Field::FromUser, Field::FromHost)),
        ("to", part(Field::ToUser, Field::ToHost)),
    ] {
        if let Some(parts) = parts {
            out.value(key, parts);
        }
    }
    let headers: Vec<_> = rule
        .fields
        .iter()
        .filter_map(|(field, glob)| match field {
            Field::Header(name) => Some(format!("{} = {}", quoted(name), quoted(glob))),
            _ => None,
        })
        .collect();
    if !headers.is_empty() {
        out.value("header", format!("{{ {} }}", headers.join(", ")));
    }
    match &rule.action {
        Action::Set { set, rewrite, record_route_params } => {
            out.value("set", set);
            out.text("rewrite", rewrite);
            out.maybe("record_route_params", record_route_params.as_deref());
        }
        Action::Reply(answer) => out.value("reply", reply(answer)),
    }
}

/// As comments: the nodes' key is made by hand, and without it the gossip stays on loopback.
fn cluster(out: &mut Out, cluster: &Cluster) {
    out.line("");
    out.line("# Make the nodes' key (openssl rand -hex 32 > gossip.key; chmod 600 gossip.key), copy it to the others, and take");
    out.line("# away the # before these lines.");
    out.line("# [cluster]");
    let bind = cluster.bind.as_deref().unwrap_or("127.0.0.1:7946");
    out.line(&format!("# bind = {}", quoted(bind)));
    out.line(&format!("# seeds = {}", list(&cluster.seeds)));
    out.line("# keys = [\"gossip.key\"]");
}

fn reply(Answer { status, reason }: &Answer) -> String {
    format!("{{ status = {status}, reason = {} }}", quoted(reason))
}

pub(super) fn list(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "))
}

/// A basic string of TOML.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => write!(out, "\\u{:04X}", u32::from(c)).expect("writing to memory"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_a_string_of_toml() {
        assert_eq!(quoted("a\"b\\c\nd"), "\"a\\\"b\\\\c\\u000Ad\"");
    }
}
