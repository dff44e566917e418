//! Rows without a script: which sets there are, and what their attrs and states say.

use std::collections::BTreeMap;

use super::Peer;
use super::draft::{Draft, Listener, Set};
use super::report::{At, Report};
use crate::engine::sip::Uri;

/// One row.
pub(super) struct Found {
    pub(super) set: u32,
    pub(super) uri: String,
    pub(super) attrs: String,
    /// Kamailio's flags, or OpenSIPS's state.
    pub(super) flags: u32,
    pub(super) at: At,
}

pub(super) fn is_destination(uri: &str) -> bool {
    Uri::parse(uri.as_bytes()).is_ok_and(|uri| uri.transport().is_some())
}

/// Writes a `[[set]]` for each setid.
pub(super) fn draft(peer: Peer, rows: &[Found], draft: &mut Draft, report: &mut Report) {
    let whole = At { file: 0, line: 0 };
    draft.listeners.push(Listener { bind: "udp:*:5060".into(), advertise: None });
    let to = "[[listener]] bind = \"udp:*:5060\": rows say nothing of it; give the addresses that are meant";
    report.approximated(whole, "no script", to);
    let mut sets: BTreeMap<u32, Vec<&Found>> = BTreeMap::new();
    for row in rows {
        sets.entry(row.set).or_default().push(row);
    }
    for (id, rows) in sets {
        let mut set = Set { algorithm: "round_robin", ..Set::default() };
        let first = rows[0].at;
        let count = if rows.len() == 1 { "1 row".to_owned() } else { format!("{} rows", rows.len()) };
        let to = format!(
            "[[set]] id = {id}, algorithm = \"round_robin\": which one stands in the script, as do the conditions of a [[rule]] to it"
        );
        report.approximated(first, format!("set {id} with {count}"), to);
        attrs(peer, id, &rows, &mut set, report);
        set.notes.push(format!("a [[rule]] with set = {id} sends calls here"));
        draft.sets.insert(id, set);
        for row in rows {
            state(peer, row, report);
        }
    }
}

fn attrs(peer: Peer, id: u32, rows: &[&Found], set: &mut Set, report: &mut Report) {
    // Each name that some row has, with the first row that has it.
    let mut names: BTreeMap<&str, (At, bool)> = BTreeMap::new();
    for row in rows {
        for pair in row.attrs.split(';').filter(|pair| !pair.trim().is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let is_number = value.trim().parse::<u32>().is_ok();
            names.entry(name.trim()).or_insert((row.at, is_number));
        }
    }
    for (name, (at, is_number)) in names {
        let found = format!("set {id} attrs {name}");
        match (peer, name) {
            (Peer::Kamailio, "maxload") => {
                set.attr = Some("maxload".into());
                report.mapped(at, found, "[set.capacity] attr = \"maxload\"");
            }
            (Peer::Kamailio, "duid") => {
                set.shown_by = Some("duid");
                report.mapped(at, found, "[set.attrs] name = \"duid\"");
            }
            (Peer::Kamailio, "rweight") => {
                set.weight = Some("rweight");
                report.mapped(at, found, "[set.attrs] weight = \"rweight\"");
            }
            (Peer::Kamailio, "weight") => {
                set.weight = set.weight.or(Some("weight"));
                report.mapped(at, found, "[set.attrs] weight = \"weight\", unless rweight is there");
            }
            (
                Peer::Kamailio,
                "socket" | "sockname" | "ping_socket" | "ping_from" | "obproxy" | "latency" | "cc" | "ocmin" | "ocmax"
                | "ocrate",
            ) => {
                let to =
                    "it is not heeded: give [set.probe] from and socket, or a [[listener]] that reaches the server";
                report.not_mappable(at, found, to);
            }
            (Peer::OpenSips, _) if is_number => {
                set.notes
                    .push(format!("[set.capacity] attr = {name:?} would make attrs' {name} the limit of sessions"));
                let to = format!(
                    "OpenSIPS's dispatcher heeds no attrs, and so it is here: give [set.capacity] attr = {name:?} to make it a limit"
                );
                report.approximated(at, found, to);
            }
            _ => report.approximated(at, found, "attrs are kept as they are; no script is there to heed them"),
        }
    }
}

fn state(peer: Peer, row: &Found, report: &mut Report) {
    let Found { uri, flags, at, .. } = row;
    match (peer, flags) {
        (_, 0) => {}
        (Peer::OpenSips, 1) => report.mapped(*at, format!("{uri} state 1"), "the order maint, until tandem set says otherwise"),
        (Peer::OpenSips, _) => {
            report.approximated(*at, format!("{uri} state {flags}"), "it is ready, and its health is for probes and calls to say");
        }
        (Peer::Kamailio, flags) if flags & 5 != 0 => {
            report.mapped(*at, format!("{uri} flags {flags}"), "the order maint, until tandem set says otherwise");
        }
        (Peer::Kamailio, flags) => report.approximated(
            *at,
            format!("{uri} flags {flags}"),
            "who is probed says [set.probe], and [[set.destination]] for one server: give probe = { enabled = true or false } there",
        ),
    }
}
