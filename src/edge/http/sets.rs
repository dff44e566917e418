//! `/sets`: what is held of each destination and why, and an operator's orders.

use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequestParts, Path, RawQuery, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::time;

use super::access::{Asker, Role};
use super::report::{DestinationStory, NodeSessions, SetReport, SetsReport};
use super::routes::{Need, Routes};
use super::{ANSWER, Given, Node, Shared, error, is_json};
use crate::edge::moment::Moment;
use crate::engine::Snapshot;
use crate::engine::dispatch::{AtDeadline, Deadline, NotOrdered, Order, OrderTerms, SetId, Standing};
use crate::engine::snapshot::SetView;

/// The longest reason or name, in bytes.
const LONGEST: usize = 256;
/// So many sets or destinations are named where one was not found.
const NAMED: usize = 10;

pub(super) fn routes<N: Node>() -> Routes<N> {
    Routes::new()
        .get("/sets", Need::Role(Role::Read), all::<N>)
        .get("/sets/{set}", Need::Role(Role::Read), one::<N>)
        .get("/sets/{set}/destination", Need::Role(Role::Read), story::<N>)
        .put("/sets/{set}/destination/order", Role::Operate, order::<N>)
        .post("/sets/{set}/destination/order", Role::Operate, order::<N>)
}

/// An answer that is none: the status, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) StatusCode, pub(super) String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        error(self.0, &self.1)
    }
}

/// What a path names: a set, a call.
pub(super) struct Named(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let named = Path::from_request_parts(parts, state).await;
        named.map(|Path(name)| Named(name)).map_err(|fault| Refusal(fault.status(), fault.body_text()))
    }
}

async fn all<N: Node>(State(shared): State<Shared<N>>) -> Result<Response, Refusal> {
    let snapshot = in_time(shared.node.snapshot()).await?;
    let sets = snapshot.sets.iter().map(SetReport::of).collect();
    let sessions = NodeSessions::of(&snapshot);
    Ok(Json(SetsReport { node: shared.node.name().to_owned(), sets, sessions }).into_response())
}

async fn one<N: Node>(State(shared): State<Shared<N>>, Named(set): Named) -> Result<Response, Refusal> {
    let snapshot = in_time(shared.node.snapshot()).await?;
    Ok(Json(SetReport::of(find(&snapshot, &set)?)).into_response())
}

async fn story<N: Node>(
    State(shared): State<Shared<N>>,
    Named(set): Named,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let uri = uri_of(query)?;
    let snapshot = in_time(shared.node.snapshot()).await?;
    Ok(Json(tell(&shared, &snapshot, &set, &uri).await?).into_response())
}

async fn order<N: Node>(
    State(shared): State<Shared<N>>,
    Named(set): Named,
    RawQuery(query): RawQuery,
    asker: Asker,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let body = body_of(&headers, body)?;
    let uri = uri_of(query)?;
    let (standing, terms) =
        read(&body, SystemTime::now(), &asker).map_err(|fault| Refusal(StatusCode::BAD_REQUEST, fault))?;
    if !terms.guarded {
        asker.needs(Role::Admin)?;
    }
    let snapshot = in_time(shared.node.snapshot()).await?;
    let view = find(&snapshot, &set)?;
    let unkept = match in_time(give(&shared, view.id, &uri, standing, terms)).await? {
        Given::Kept => None,
        Given::Unkept(cause) => Some(cause),
        Given::InVain(NotOrdered::NoSuchDestination(_)) => return Err(no_destination(view, &uri)),
        Given::InVain(why @ NotOrdered::TooFew { .. }) => return Err(Refusal(StatusCode::CONFLICT, why.to_string())),
        Given::InVain(why @ NotOrdered::Changed { .. }) => {
            return Err(Refusal(StatusCode::PRECONDITION_FAILED, why.to_string()));
        }
    };
    let snapshot = in_time(shared.node.snapshot()).await?;
    let story = tell(&shared, &snapshot, &set, &uri).await?;
    Ok(Json(DestinationStory { unkept, ..story }).into_response())
}

/// The body of an order, if it is one that a program sends.
pub(super) fn body_of(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<Bytes, Refusal> {
    if !is_json(headers) {
        let remedy = "an order is JSON: say so, with Content-Type: application/json";
        return Err(Refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, remedy.to_owned()));
    }
    body.map_err(|fault| Refusal(fault.status(), fault.body_text()))
}

/// In a task of its own, so that a client that hangs up does not leave it half done.
pub(super) async fn give<N: Node>(
    shared: &Shared<N>,
    set: SetId,
    uri: &str,
    standing: Standing,
    terms: OrderTerms,
) -> Result<Given, String> {
    let (node, uri) = (Arc::clone(&shared.node), uri.to_owned());
    let task = tokio::spawn(async move { node.give(set, &uri, standing, terms).await });
    task.await.unwrap_or_else(|_| Err("the order broke off; the log tells why".to_owned()))
}

async fn tell<N: Node>(
    shared: &Shared<N>,
    snapshot: &Snapshot,
    set: &str,
    uri: &str,
) -> Result<DestinationStory, Refusal> {
    let view = find(snapshot, set)?;
    let history = in_time(shared.node.history(view.id, uri)).await?;
    DestinationStory::of(shared.node.name(), view, uri, &history).ok_or_else(|| no_destination(view, uri))
}

pub(super) async fn in_time<T>(answer: impl Future<Output = Result<T, String>>) -> Result<T, Refusal> {
    let unavailable = |cause: String| Refusal(StatusCode::SERVICE_UNAVAILABLE, cause);
    match time::timeout(ANSWER, answer).await {
        Ok(answer) => answer.map_err(unavailable),
        Err(_) => Err(unavailable("the node did not answer in time".to_owned())),
    }
}

pub(super) fn find<'s>(snapshot: &'s Snapshot, set: &str) -> Result<&'s SetView, Refusal> {
    let number = set.parse().map(SetId);
    snapshot.sets.iter().find(|view| number == Ok(view.id)).ok_or_else(|| {
        let there = named(snapshot.sets.iter().map(|view| view.id.0.to_string()));
        Refusal(StatusCode::NOT_FOUND, format!("no set {set}: there are {there}"))
    })
}

pub(super) fn no_destination(set: &SetView, uri: &str) -> Refusal {
    let there = named(set.destinations.iter().map(|one| one.uri.clone()));
    Refusal(StatusCode::NOT_FOUND, format!("set {} has no destination {uri}: it has {there}", set.id.0))
}

/// The first few of them.
fn named(all: impl Iterator<Item = String>) -> String {
    let mut all: Vec<_> = all.collect();
    // Several addresses of one name stand side by side.
    all.dedup();
    match all.len() {
        0 => "none".to_owned(),
        count @ ..=NAMED => all[..count].join(", "),
        count => format!("{} and {} more", all[..NAMED].join(", "), count - NAMED),
    }
}

fn uri_of(query: Option<String>) -> Result<String, Refusal> {
    let query = query.unwrap_or_default();
    let uri = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "uri");
    uri.map(|(_, uri)| uri.into_owned()).ok_or_else(|| {
        let remedy = "no destination is named: add ?uri= and its URI, percent-encoded, as in the table";
        Refusal(StatusCode::BAD_REQUEST, remedy.to_owned())
    })
}

/// What an order's body says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(default)]
    order: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    by: String,
    /// Until when one that drains should be empty.
    deadline: Option<Moment>,
    /// Whether the sessions that it still has then are ended.
    #[serde(default)]
    then_end: bool,
    /// Whatever it takes out of its set.
    #[serde(default)]
    force: bool,
    /// The version of the order that it is to follow; none: whichever stands.
    expected: Option<String>,
}

/// Who gives an order, and why; both in one line. `what` it is stands in the log.
pub(super) fn giver(asker: &Asker, by: &str, reason: &str, what: String) -> Result<(String, String), String> {
    let by = asker.giver(by);
    asker.orders(&by, reason, what);
    let reason = line("reason", reason, "say why, for those who will wonder")?;
    Ok((line("by", &by, "say who gives the order")?, reason))
}

/// One line of text of a body.
pub(super) fn line(key: &str, text: &str, remedy: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err(format!("{key} is missing: {remedy}")),
        text if text.len() > LONGEST => Err(format!("{key} has {} bytes: give {LONGEST} at most", text.len())),
        text if text.contains(char::is_control) => Err(format!("{key} is {text:?}: give one line of plain text")),
        text => Ok(text.to_owned()),
    }
}

fn read(body: &[u8], at: SystemTime, asker: &Asker) -> Result<(Standing, OrderTerms), String> {
    let Body { order, reason, by, deadline, then_end, force, expected } = serde_json::from_slice(body)
        .map_err(|fault| format!(r#"{fault}: give {{"order": "drain", "reason": "new model", "by": "alice"}}"#))?;
    let Some(order) = Order::from_name(&order) else {
        return Err(format!("order is {order:?}: give ready, drain or maint"));
    };
    let (by, reason) = giver(asker, &by, &reason, order.name().to_owned())?;
    if by == "table" {
        return Err(r#"by is "table", as which the state column gives its orders: give a person's name"#.to_owned());
    }
    if deadline.is_some() && order != Order::Drain {
        return Err(format!("deadline is for drain: leave it out for {}", order.name()));
    }
    if then_end && deadline.is_none() {
        return Err("then_end is for a deadline: give both, or neither".to_owned());
    }
    let then = if then_end { AtDeadline::End } else { AtDeadline::Tell };
    let deadline = deadline.map(|deadline| Deadline { at: deadline.0, then });
    Ok((Standing { order, by, reason, at, deadline }, OrderTerms { guarded: !force, expected }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: SystemTime = SystemTime::UNIX_EPOCH;

    #[test]
    fn an_order_says_what_why_and_who() {
        let body = br#"{"order": "drain", "reason": " new model ", "by": "alice"}"#;
        let (by, reason) = ("alice".to_owned(), "new model".to_owned());
        let standing = Standing { order: Order::Drain, by, reason, at: AT, deadline: None };
        let read = |body: &[u8]| read(body, AT, &Asker::default());
        let guarded = |standing| Ok((standing, OrderTerms { guarded: true, expected: None }));
        assert_eq!(read(body), guarded(standing.clone()));
        let body = br#"{"order": "drain", "reason": "new model", "by": "alice", "deadline": "1970-01-01T00:10:00Z"}"#;
        let at = AT + std::time::Duration::from_secs(600);
        let deadline = |then| Some(Deadline { at, then });
        assert_eq!(read(body), guarded(Standing { deadline: deadline(AtDeadline::Tell), ..standing.clone() }));
        let body = std::str::from_utf8(body).expect("text").replace('}', r#", "then_end": true}"#);
        let ending = Standing { deadline: deadline(AtDeadline::End), ..standing.clone() };
        assert_eq!(read(body.as_bytes()), guarded(ending));
        let body = br#"{"order": "drain", "reason": "new model", "by": "alice", "force": true, "expected": "7-ready"}"#;
        let terms = OrderTerms { guarded: false, expected: Some("7-ready".to_owned()) };
        assert_eq!(read(body), Ok((standing, terms)));
    }

    #[test]
    fn a_bad_order_is_told_what_to_give() {
        for (body, words) in [
            ("", r#"give {"order": "drain""#),
            ("[]", r#"give {"order": "drain""#),
            (r#"{"order": "drain", "why": "x"}"#, "unknown field `why`"),
            ("{}", r#"order is "": give ready, drain or maint"#),
            (r#"{"order": "down", "reason": "x", "by": "a"}"#, r#"order is "down": give ready, drain or maint"#),
            (r#"{"order": "maint", "reason": " ", "by": "a"}"#, "reason is missing: say why"),
            (r#"{"order": "maint", "reason": "x"}"#, "by is missing: say who"),
            (r#"{"order": "maint", "reason": "x\ny", "by": "a"}"#, "one line of plain text"),
            (
                r#"{"order": "drain", "reason": "x", "by": "a", "deadline": "10m"}"#,
                r#""10m" is no moment: give one as"#,
            ),
            (r#"{"order": "drain", "reason": "x", "by": "a", "then_end": true}"#, "give both, or neither"),
            (r#"{"order": "ready", "reason": "x", "by": "a", "deadline": "2026-01-01T00:00:00Z"}"#, "is for drain"),
            (r#"{"order": "maint", "reason": "x", "by": "table"}"#, "a person's name"),
        ] {
            let fault = read(body.as_bytes(), AT, &Asker::default()).expect_err(body);
            assert!(fault.contains(words), "{body}: {fault}");
        }
        let long = format!(r#"{{"order": "maint", "reason": "{}", "by": "a"}}"#, "x".repeat(257));
        assert_eq!(
            read(long.as_bytes(), AT, &Asker::default()),
            Err("reason has 257 bytes: give 256 at most".to_owned())
        );
    }

    #[test]
    fn what_is_there_is_named_but_not_all_of_ten_thousand() {
        let numbers = |count: u32| named((0..count).map(|number| number.to_string()));
        assert_eq!((numbers(0).as_str(), numbers(2).as_str()), ("none", "0, 1"));
        assert_eq!(numbers(10_000), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 9990 more");
        assert_eq!(named(["sip:a", "sip:a", "sip:b"].map(str::to_owned).into_iter()), "sip:a, sip:b");
    }

    #[test]
    fn the_destination_is_named_in_the_query() {
        let uri = |query: &str| uri_of(Some(query.to_owned()));
        assert_eq!(uri("uri=sip%3A10.0.0.1%3A7010%3Btransport%3Dtcp"), Ok("sip:10.0.0.1:7010;transport=tcp".into()));
        assert_eq!(uri("x=1&uri=sip:10.0.0.1:7010"), Ok("sip:10.0.0.1:7010".into()));
        assert_eq!(uri_of(None).map_err(|refusal| refusal.0), Err(StatusCode::BAD_REQUEST));
    }
}
