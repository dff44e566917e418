//! `tandem show --nodes`: this node and the others that it hears.

use std::time::SystemTime;

use super::ago;
use crate::cli::table::{self, Cell, Tone};
use crate::cli::term;
use crate::edge::http::NodeReport;

pub(super) fn print(told: &NodeReport) {
    table::print("", &rows(told, SystemTime::now()));
    match &told.peers {
        None => term::line("\nthe node stands alone: it has no [cluster]"),
        Some(peers) if peers.is_empty() => term::line("\nno other node of the cluster is heard"),
        Some(_) => {}
    }
}

/// A line for each node, its own first.
fn rows(told: &NodeReport, now: SystemTime) -> Vec<Vec<Cell>> {
    let mut rows = vec![["NODE", "VERSION", "STARTED", "HEARD", "GOSSIP", "HOLDS", "LISTENS"].map(Cell::text).to_vec()];
    let held = |vips: &[String]| match vips {
        [] => "-".to_owned(),
        vips => vips.join(" "),
    };
    let listeners: Vec<_> = told.listeners.iter().map(|one| one.listener.as_str()).collect();
    rows.push(vec![
        Cell::text(&told.node),
        Cell::text(&told.version),
        Cell::text(ago(told.started, now)),
        Cell::text("this node"),
        Cell::text("-"),
        Cell::text(held(&told.vips)),
        Cell::text(listeners.join(" ")),
    ]);
    for peer in told.peers.iter().flatten() {
        // What it tells of itself comes a moment after it.
        let has_told = !peer.version.is_empty();
        let told = |text: String| Cell::text(if has_told { text } else { "?".to_owned() });
        rows.push(vec![
            Cell::text(&peer.node),
            told(peer.version.clone()),
            told(ago(peer.started, now)),
            Cell::text(format!("{:.1}s ago", peer.heard_ms as f64 / 1000.0)).toned(Tone::Good),
            Cell::text(peer.address),
            told(held(&peer.vips)),
            told(peer.listeners.join(" ")),
        ]);
    }
    rows
}
