//! `/events`: what has happened since the node started.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::access::Role;
use super::query::wishes;
use super::routes::{Need, Routes};
use super::sets::Refusal;
use super::{Node, Shared};
use crate::edge::journal::{Entry, KEPT, status_event};
use crate::edge::moment::Moment;
use crate::edge::partitions::Partitions;

/// Entries of an answer, unless fewer or more are asked for.
const USUAL: usize = 100;

pub(super) fn routes<N: Node>() -> Routes<N> {
    Routes::new().get("/events", Need::Role(Role::Read), some::<N>)
}

/// Some of what has happened: `GET /events`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventsReport<E = Arc<Entry>> {
    /// The node that tells this.
    pub node: String,
    /// When it started: its numbers begin anew each time.
    pub started: Moment,
    /// The oldest that is kept; 0: there is none.
    pub first: u64,
    /// The newest.
    pub last: u64,
    /// Those that were asked for, oldest first.
    pub events: Vec<E>,
}

async fn some<N: Node>(State(shared): State<Shared<N>>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let Wanted { since, limit, is_opensips } = wanted(&query.unwrap_or_default())?;
    let journal = shared.node.journal();
    let page = match since {
        Some(since) => journal.since(since, limit),
        None => journal.newest(limit),
    };
    let (node, started) = (shared.node.name().to_owned(), Moment(shared.node.started()));
    let (first, last, events) = (page.first, page.last, page.entries);
    if is_opensips {
        let partitions = Partitions(shared.node.partitions());
        let events: Vec<_> = events.iter().filter_map(|entry| status_event(entry, &partitions)).collect();
        return Ok(Json(EventsReport { node, started, first, last, events }).into_response());
    }
    Ok(Json(EventsReport { node, started, first, last, events }).into_response())
}

#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    /// Only later ones; none: the newest.
    since: Option<u64>,
    limit: usize,
    /// Only what OpenSIPS tells too, as it does.
    is_opensips: bool,
}

fn wanted(query: &str) -> Result<Wanted, Refusal> {
    let mut wanted = Wanted { since: None, limit: USUAL, is_opensips: false };
    for wish in wishes(query) {
        match (&*wish.key, &*wish.value) {
            ("since", _) => wanted.since = Some(wish.number()?),
            ("limit", _) => wanted.limit = wish.number_to(KEPT)?,
            ("format", "tandem") => wanted.is_opensips = false,
            ("format", "opensips") => wanted.is_opensips = true,
            ("format", _) => return Err(wish.refused("give tandem or opensips")),
            _ => return Err(wish.refused("there are since, limit and format")),
        }
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_asked_for_by_the_query() {
        let wanted = |query: &str| wanted(query).map_err(|Refusal(_, text)| text);
        assert_eq!(wanted(""), Ok(Wanted { since: None, limit: 100, is_opensips: false }));
        let opensips = Wanted { since: Some(7), limit: 4096, is_opensips: true };
        assert_eq!(wanted("since=7&limit=4096&format=opensips"), Ok(opensips));
        for (query, text) in [
            ("limit=0", r#"limit is "0": give a number from 1 to 4096"#),
            ("since=x", r#"since is "x": give a number, from 0"#),
            ("after=2", r#"after is "2": there are since, limit and format"#),
            ("format=xml", r#"format is "xml": give tandem or opensips"#),
        ] {
            assert_eq!(wanted(query), Err(text.to_owned()));
        }
    }
}
