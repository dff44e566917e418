//! `/sets/{set}/sessions`: live sessions, a page at a time; `/sessions/end`: an operator ends some.

use std::net::SocketAddr;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::access::{Asker, Role};
use super::query::wishes;
use super::routes::{Need, Routes};
use super::sets::{Named, Refusal, body_of, find, giver, in_time, no_destination};
use super::{Node, Shared};
use crate::edge::moment::Moment;
use crate::engine::dispatch::SetId;
use crate::engine::event::{EndOrder, NotEnded, NotOurs, Which};
use crate::engine::snapshot::{MOST_SESSIONS, SessionView};

/// How many sessions are told if nobody says.
const USUAL: usize = 100;

pub(super) fn routes<N: Node>() -> Routes<N> {
    Routes::new().get("/sets/{set}/sessions", Need::Role(Role::Read), some::<N>).post(
        "/sessions/end",
        Role::Operate,
        end::<N>,
    )
}

/// Some sessions of a set or of a destination: `GET /sets/{set}/sessions?uri=...&offset=...&limit=...`. Who is at which place
/// changes as sessions end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionsReport {
    /// The node that tells this.
    pub node: String,
    /// The set's number.
    pub set: u32,
    /// The set's configured name; "" if none.
    pub name: String,
    /// How many there are.
    pub total: u64,
    /// How many of them stand before these.
    pub offset: usize,
    /// Those that were asked for.
    pub sessions: Vec<SessionReport>,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionReport {
    /// Its Call-ID; none until it is set up, and if it began elsewhere.
    pub call_id: Option<String>,
    /// The `destination` column of where it is.
    pub destination: String,
    /// Where that is.
    pub address: SocketAddr,
    /// `pending`, `adopted` (it began on another node or before a restart) or `confirmed`.
    pub state: String,
    /// When its INVITE came, or what else was heard of it first.
    pub began: Moment,
    /// When its 2xx passed; none if it has not, or not here.
    pub answered: Option<Moment>,
    /// When something of it was heard last.
    pub heard: Moment,
    /// The highest CSeq number of the caller's requests, as far as one has been seen.
    pub caller_cseq: Option<u32>,
    /// The same of the destination's.
    pub destination_cseq: Option<u32>,
    /// Whether another node holds the address that its caller came by.
    pub parked: bool,
    /// Whether this node can end it.
    pub endable: bool,
    /// If not, why not.
    pub why_not: Option<String>,
}

/// Sessions are being ended: the answer to `POST /sessions/end`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeingEnded {
    /// The node that ends them.
    pub node: String,
    /// How many. Of a destination's all are counted: those that this node can't end stay.
    pub ending: u64,
}

impl SessionReport {
    fn of(view: SessionView) -> Self {
        let SessionView { call_id, destination, address, state, began, answered, heard, .. } = view;
        SessionReport {
            call_id,
            destination,
            address,
            state: state.name().to_owned(),
            began: Moment(began),
            answered: answered.map(Moment),
            heard: Moment(heard),
            caller_cseq: view.caller_cseq,
            destination_cseq: view.destination_cseq,
            parked: view.not_ours == Some(NotOurs::Parked),
            endable: view.not_ours.is_none(),
            why_not: view.not_ours.map(|why| why.to_string()),
        }
    }
}

async fn some<N: Node>(
    State(shared): State<Shared<N>>,
    Named(set): Named,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let Wanted { uri, offset, limit } = wanted(&query.unwrap_or_default())?;
    let snapshot = in_time(shared.node.snapshot()).await?;
    let view = find(&snapshot, &set)?;
    let page = in_time(shared.node.sessions(view.id, uri.as_deref(), (offset, limit))).await?;
    let page = page.map_err(|unknown| no_destination(view, &unknown.uri))?;
    let (node, name) = (shared.node.name().to_owned(), view.name.clone());
    let sessions = page.sessions.into_iter().map(SessionReport::of).collect();
    Ok(Json(SessionsReport { node, set: view.id.0, name, total: page.total, offset, sessions }).into_response())
}

/// Which sessions are asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    uri: Option<String>,
    offset: usize,
    limit: usize,
}

fn wanted(query: &str) -> Result<Wanted, Refusal> {
    let mut wanted = Wanted { uri: None, offset: 0, limit: USUAL };
    for wish in wishes(query) {
        match &*wish.key {
            "uri" => wanted.uri = Some(wish.value.into_owned()),
            "offset" => wanted.offset = wish.number()?,
            "limit" => wanted.limit = wish.number_to(MOST_SESSIONS)?,
            _ => return Err(wish.refused("there are uri, offset and limit")),
        }
    }
    Ok(wanted)
}

async fn end<N: Node>(
    State(shared): State<Shared<N>>,
    asker: Asker,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let body = body_of(&headers, body)?;
    let order = read(&body, &asker).map_err(|fault| Refusal(StatusCode::BAD_REQUEST, fault))?;
    let ending = match in_time(shared.node.end(order)).await? {
        Ok(ending) => ending,
        Err(NotEnded::NoSuchDestination(unknown)) => {
            let snapshot = in_time(shared.node.snapshot()).await?;
            return Err(no_destination(find(&snapshot, &unknown.set.0.to_string())?, &unknown.uri));
        }
        Err(fault @ (NotEnded::NoSuchCall(_) | NotEnded::NotOurs { .. })) => {
            return Err(Refusal(StatusCode::NOT_FOUND, fault.to_string()));
        }
    };
    Ok(Json(BeingEnded { node: shared.node.name().to_owned(), ending }).into_response())
}

/// What the body of such an order says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    call_id: Option<String>,
    set: Option<u32>,
    destination: Option<String>,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    by: String,
}

fn read(body: &[u8], asker: &Asker) -> Result<EndOrder, String> {
    let Body { call_id, set, destination, reason, by } = serde_json::from_slice(body)
        .map_err(|fault| format!(r#"{fault}: give {{"call_id": "a84b4c76", "reason": "stuck", "by": "alice"}}"#))?;
    let which = match (call_id, set, destination) {
        (Some(call_id), None, None) if call_id.is_empty() || call_id.contains(char::is_control) => {
            return Err(format!("call_id is {call_id:?}: give the value of a Call-ID header"));
        }
        (Some(call_id), None, None) => Which::Call(call_id),
        (None, Some(set), Some(uri)) => Which::Destination { set: SetId(set), uri },
        _ => return Err("say which sessions: give either call_id, or set and destination".to_owned()),
    };
    let what = match &which {
        Which::Call(call_id) => format!("call {call_id}"),
        Which::Destination { set, uri } => format!("all of set {} {uri}", set.0),
    };
    let (by, reason) = giver(asker, &by, &reason, what)?;
    Ok(EndOrder { which, by, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_asked_for_by_the_query() {
        let wanted = |query: &str| wanted(query).map_err(|Refusal(_, text)| text);
        assert_eq!(wanted(""), Ok(Wanted { uri: None, offset: 0, limit: 100 }));
        let uri = Some("sip:10.0.0.1:7010;transport=tcp".to_owned());
        let query = "uri=sip%3A10.0.0.1%3A7010%3Btransport%3Dtcp&offset=2000&limit=1000";
        assert_eq!(wanted(query), Ok(Wanted { uri, offset: 2000, limit: 1000 }));
        for (query, text) in [
            ("limit=0", r#"limit is "0": give a number from 1 to 1000"#),
            ("limit=1001", r#"limit is "1001": give a number from 1 to 1000"#),
            ("offset=-1", r#"offset is "-1": give a number, from 0"#),
            ("page=2", r#"page is "2": there are uri, offset and limit"#),
        ] {
            assert_eq!(wanted(query), Err(text.to_owned()));
        }
    }

    #[test]
    fn an_order_says_which_sessions_why_and_who() {
        let order = |which| EndOrder { which, by: "alice".to_owned(), reason: "stuck".to_owned() };
        let body = br#"{"call_id": "a@b", "reason": "stuck", "by": "alice"}"#;
        assert_eq!(read(body, &Asker::default()), Ok(order(Which::Call("a@b".to_owned()))));
        let body = br#"{"set": 19, "destination": "sip:a", "reason": "stuck", "by": "alice"}"#;
        assert_eq!(
            read(body, &Asker::default()),
            Ok(order(Which::Destination { set: SetId(19), uri: "sip:a".to_owned() }))
        );
        for (body, words) in [
            ("", r#"give {"call_id": "#),
            (r#"{"reason": "x", "by": "a"}"#, "give either call_id, or set and destination"),
            (r#"{"set": 19, "reason": "x", "by": "a"}"#, "give either call_id, or set and destination"),
            (r#"{"call_id": "x", "set": 19, "reason": "x", "by": "a"}"#, "give either call_id, or set and destination"),
            (r#"{"call_id": "x\ny", "reason": "x", "by": "a"}"#, r#"call_id is "x\ny": give the value"#),
            (r#"{"call_id": "x", "by": "a"}"#, "reason is missing: say why"),
            (r#"{"call_id": "x", "reason": "x"}"#, "by is missing: say who"),
            (r#"{"call_id": "x", "why": "x"}"#, "unknown field `why`"),
        ] {
            let fault = read(body.as_bytes(), &Asker::default()).expect_err(body);
            assert!(fault.contains(words), "{body}: {fault}");
        }
    }
}
