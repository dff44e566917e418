//! `/traces`: calls' stories, and orders to be told of a call from now on.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::access::{Asker, Role};
use super::explain::ExplainReport;
use super::query::wishes;
use super::routes::{Need, Routes};
use super::sets::{Named, Refusal, body_of, giver, in_time};
use super::{Node, Shared};
use crate::edge::moment::Moment;
use crate::edge::stories::{Part, Routed, Story};
use crate::engine::event::Record;
use crate::engine::explain::Came;
use crate::engine::flow::ListenerId;
use crate::engine::sip::printable;
use crate::engine::trace::{Packet, Step, TraceOrder, What};

/// How many stories are told if nobody says.
const USUAL: usize = 100;
/// How many are told at most.
const MOST: usize = 1000;
/// For how long a call is traced if nobody says.
const USUAL_SECONDS: u64 = 600;
/// For how long one is at most: a day.
const MOST_SECONDS: u64 = 86_400;

pub(super) fn routes<N: Node>() -> Routes<N> {
    Routes::new().get("/traces", Need::Role(Role::Read), some::<N>).post("/traces", Role::Operate, ask::<N>).get(
        "/traces/{call_id}",
        Need::Role(Role::Read),
        one::<N>,
    )
}

/// Some stories, the newest first: `GET /traces?offset=...&limit=...`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracesReport {
    /// The node that tells this.
    pub node: String,
    /// How many there are.
    pub total: usize,
    /// How many of them stand before these.
    pub offset: usize,
    /// Those that were asked for.
    pub traces: Vec<TraceSummary>,
}

/// A story in one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceSummary {
    /// Its Call-ID.
    pub call_id: String,
    /// When it began.
    pub began: Moment,
    /// Whether its messages are kept.
    pub traced: bool,
    /// Whether it is over.
    pub over: bool,
    /// Where it went last, by the `destination` column; none if nowhere.
    pub destination: Option<String>,
    /// What ended it, as in the records; none if it is not over, or nobody wrote that down.
    pub ending: Option<String>,
}

/// A call's story: `GET /traces/{call_id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoryReport {
    /// The node that tells this: others have seen what passed by them.
    pub node: String,
    /// Its Call-ID.
    pub call_id: String,
    /// The name of its trace, the same on all nodes; none if its messages were never kept.
    pub trace_id: Option<String>,
    /// When it began.
    pub began: Moment,
    /// Whether its messages are kept.
    pub traced: bool,
    /// Whether it is over.
    pub over: bool,
    /// Steps that were left out, since there were too many.
    pub left_out: usize,
    /// What is to be known beside, and how to have more.
    pub hints: Vec<String>,
    /// What became of it, in order.
    pub steps: Vec<StepReport>,
}

/// A step of a story.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StepReport {
    /// A message came, was sent, or was lost.
    Message(MessageReport),
    /// What was decided of its initial INVITE, and why.
    Decision {
        /// When.
        at: Moment,
        /// As `POST /explain` tells it.
        decision: Box<ExplainReport>,
    },
    /// What is known of every call: where it was sent.
    Call {
        /// When, within some ms.
        at: Moment,
        /// The caller.
        source: SocketAddr,
        /// Its User-Agent; "" if there was none.
        user_agent: String,
        /// The m= lines of its description.
        media: Vec<String>,
        /// The rule that matched; none: it was answered as unroutable.
        rule: Option<String>,
        /// The set that the rule names.
        set: Option<u32>,
        /// The destination that was chosen first, by the `destination` column.
        destination: Option<String>,
    },
    /// It is over, or never became a session.
    End {
        /// When.
        at: Moment,
        /// The set.
        set: u32,
        /// The `destination` column of the last destination tried.
        destination: Option<String>,
        /// Its address.
        address: Option<SocketAddr>,
        /// What each try came to.
        codes: Vec<u16>,
        /// How long its set-up took up to the 2xx.
        setup_ms: Option<f64>,
        /// From its INVITE to its end.
        lasted_ms: f64,
        /// What ended it.
        ending: String,
    },
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageReport {
    /// When.
    pub at: Moment,
    /// `in`, `out`, or `lost`: it did not get to its peer.
    pub direction: String,
    /// Why it was lost.
    pub why: Option<String>,
    /// The other end.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// `udp` or `tcp`.
    pub transport: String,
    /// The listener, as the configuration writes it.
    pub listener: String,
    /// The first line.
    pub line: String,
    /// The method, or that of the request that it answers.
    pub method: String,
    /// A response's status.
    pub status: Option<u16>,
    /// All lines that may be shown, with control characters escaped.
    pub text: Vec<String>,
}

/// A call is traced from now on: the answer to `POST /traces`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeingTraced {
    /// The node that traces it. Others are to be asked for themselves.
    pub node: String,
    /// Its Call-ID.
    pub call_id: String,
    /// For how long.
    pub for_seconds: u64,
}

impl TraceSummary {
    fn of(story: &Story) -> Self {
        let record =
            story.parts.iter().rev().find_map(|part| if let Part::Over(_, one) = &**part { Some(one) } else { None });
        let call =
            story.parts.iter().rev().find_map(|part| if let Part::Routed(_, one) = &**part { Some(one) } else { None });
        let destination = record.and_then(|record| record.destination.clone());
        TraceSummary {
            call_id: story.call_id.clone(),
            began: Moment(story.began),
            traced: story.is_traced(),
            over: story.is_over(),
            destination: destination.or_else(|| call.and_then(|call| call.destination.clone())),
            ending: record.map(|record| record.ending.name().to_owned()),
        }
    }
}

impl StoryReport {
    fn of(node: &str, story: &Story) -> Self {
        let mut hints = Vec::new();
        let how = "`tandem trace CALL-ID --for 10m` keeps those of a call that is still to come or goes on, and `sample` of \
                   [trace] those of a share of all calls";
        match (story.is_traced(), story.forgotten) {
            (true, false) => {}
            (true, true) => {
                hints.push("earlier messages have made room for newer calls (`keep` of [trace])".to_owned())
            }
            (false, true) => hints.push("its messages have made room for newer calls (`keep` of [trace])".to_owned()),
            (false, false) => hints.push(format!("its messages were not kept: {how}")),
        }
        if story.left_out > 0 {
            hints.push(format!("{} steps in its midst are left out: there were too many", story.left_out));
        }
        StoryReport {
            node: node.to_owned(),
            call_id: story.call_id.clone(),
            trace_id: story.id.map(|id| format!("{id:032x}")),
            began: Moment(story.began),
            traced: story.is_traced(),
            over: story.is_over(),
            left_out: story.left_out,
            hints,
            steps: story.parts.iter().map(|part| StepReport::of(node, part)).collect(),
        }
    }
}

impl StepReport {
    fn of(node: &str, part: &Part) -> Self {
        match part {
            Part::Step(Step { at, what, .. }) => match what {
                What::Came(packet) => StepReport::Message(MessageReport::of(*at, "in", None, packet)),
                What::Left(packet) => StepReport::Message(MessageReport::of(*at, "out", None, packet)),
                What::Lost { packet, why } => {
                    StepReport::Message(MessageReport::of(*at, "lost", Some(why.text().to_owned()), packet))
                }
                What::Decided(told) => {
                    // Both are told, whichever they are.
                    let came = Came { source: Some(told.source), listener: Some(ListenerId(0)) };
                    let decision = Box::new(ExplainReport::of(Some(node), came, told));
                    StepReport::Decision { at: Moment(*at), decision }
                }
            },
            Part::Routed(at, call) => {
                let Routed { source, user_agent, media, rule, set, destination } = call.clone();
                let set = set.map(|set| set.0);
                StepReport::Call { at: Moment(*at), source, user_agent, media, rule, set, destination }
            }
            Part::Over(at, record) => {
                let Record { set, destination, address, codes, answered_after, lasted, ending, .. } = record.clone();
                let millis = |length: Duration| length.as_micros() as f64 / 1000.0;
                StepReport::End {
                    at: Moment(*at),
                    set: set.0,
                    destination,
                    address,
                    codes,
                    setup_ms: answered_after.map(millis),
                    lasted_ms: millis(lasted),
                    ending: ending.name().to_owned(),
                }
            }
        }
    }

    /// When.
    pub fn at(&self) -> Moment {
        match self {
            StepReport::Message(MessageReport { at, .. })
            | StepReport::Decision { at, .. }
            | StepReport::Call { at, .. }
            | StepReport::End { at, .. } => *at,
        }
    }
}

impl MessageReport {
    fn of(at: std::time::SystemTime, direction: &str, why: Option<String>, packet: &Packet) -> Self {
        MessageReport {
            at: Moment(at),
            direction: direction.to_owned(),
            why,
            peer: packet.flow.peer,
            local: packet.ours,
            transport: packet.flow.transport.name().to_owned(),
            listener: packet.listener.clone(),
            line: packet.line.clone(),
            method: packet.method.clone(),
            status: packet.status,
            text: lines(&packet.bytes),
        }
    }
}

/// Each line for people; what else would move a cursor is escaped.
fn lines(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.split(|byte| *byte == b'\n').map(|line| printable(line.strip_suffix(b"\r").unwrap_or(line))).collect()
}

async fn some<N: Node>(State(shared): State<Shared<N>>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let (offset, limit) = wanted(&query.unwrap_or_default())?;
    let (total, stories) = shared.node.stories().some(offset, limit);
    let traces = stories.iter().map(TraceSummary::of).collect();
    Ok(Json(TracesReport { node: shared.node.name().to_owned(), total, offset, traces }).into_response())
}

async fn one<N: Node>(
    State(shared): State<Shared<N>>,
    asker: Asker,
    Named(call_id): Named,
) -> Result<Response, Refusal> {
    let node = shared.node.name();
    let stories = shared.node.stories();
    if stories.are_whole() {
        asker.needs(Role::Admin)?;
    }
    // Stories are known by what people see of a Call-ID.
    match stories.story(&call_id).or_else(|| stories.story(&printable(call_id.as_bytes()))) {
        Some(story) => Ok(Json(StoryReport::of(node, &story)).into_response()),
        None => Err(Refusal(
            StatusCode::NOT_FOUND,
            format!(
                "node {node} knows nothing of the call {}: it is not among its last (`calls` of [trace]), or passed by another \
                 node. `tandem trace CALL-ID --for 10m` tells of one that is still to come",
                printable(call_id.as_bytes())
            ),
        )),
    }
}

async fn ask<N: Node>(
    State(shared): State<Shared<N>>,
    asker: Asker,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let body = body_of(&headers, body)?;
    let order = read(&body, &asker).map_err(|fault| Refusal(StatusCode::BAD_REQUEST, fault))?;
    let (call_id, for_seconds) = (order.call_id.clone(), order.time.as_secs());
    match in_time(shared.node.trace(order)).await? {
        Ok(()) => Ok(Json(BeingTraced { node: shared.node.name().to_owned(), call_id, for_seconds }).into_response()),
        Err(cause) => Err(Refusal(StatusCode::TOO_MANY_REQUESTS, cause.to_string())),
    }
}

fn wanted(query: &str) -> Result<(usize, usize), Refusal> {
    let (mut offset, mut limit) = (0, USUAL);
    for wish in wishes(query) {
        match &*wish.key {
            "offset" => offset = wish.number()?,
            "limit" => limit = wish.number_to(MOST)?,
            _ => return Err(wish.refused("there are offset and limit")),
        }
    }
    Ok((offset, limit))
}

/// What the body of such an order says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    call_id: String,
    for_seconds: Option<u64>,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    by: String,
}

fn read(body: &[u8], asker: &Asker) -> Result<TraceOrder, String> {
    let Body { call_id, for_seconds, reason, by } = serde_json::from_slice(body).map_err(|fault| {
        format!(r#"{fault}: give {{"call_id": "a84b4c76", "for_seconds": 600, "reason": "no answer", "by": "alice"}}"#)
    })?;
    if call_id.is_empty() || call_id.len() > 1024 || call_id.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err(format!("call_id is {call_id:?}: give the value of a Call-ID header"));
    }
    let seconds = for_seconds.unwrap_or(USUAL_SECONDS);
    if !(1..=MOST_SECONDS).contains(&seconds) {
        return Err(format!("for_seconds is {seconds}: give a number from 1 to {MOST_SECONDS}"));
    }
    let (by, reason) = giver(asker, &by, &reason, format!("trace of {call_id}"))?;
    Ok(TraceOrder { call_id, by, reason, time: Duration::from_secs(seconds) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_says_which_call_for_how_long_why_and_who() {
        let order = |seconds| TraceOrder {
            call_id: "a@b".to_owned(),
            by: "alice".to_owned(),
            reason: "mute".to_owned(),
            time: Duration::from_secs(seconds),
        };
        assert_eq!(read(br#"{"call_id": "a@b", "reason": "mute", "by": "alice"}"#, &Asker::default()), Ok(order(600)));
        let body = br#"{"call_id": "a@b", "for_seconds": 5, "reason": "mute", "by": "alice"}"#;
        assert_eq!(read(body, &Asker::default()), Ok(order(5)));
        for (body, words) in [
            ("", r#"give {"call_id": "#),
            (r#"{"call_id": "", "reason": "x", "by": "a"}"#, "give the value of a Call-ID header"),
            (r#"{"call_id": "a b", "reason": "x", "by": "a"}"#, "give the value of a Call-ID header"),
            (r#"{"call_id": "a", "for_seconds": 0, "reason": "x", "by": "a"}"#, "give a number from 1 to 86400"),
            (r#"{"call_id": "a", "for_seconds": 86401, "reason": "x", "by": "a"}"#, "give a number from 1 to 86400"),
            (r#"{"call_id": "a", "by": "a"}"#, "reason is missing: say why"),
            (r#"{"call_id": "a", "reason": "x"}"#, "by is missing: say who"),
            (r#"{"call_id": "a", "time": 5}"#, "unknown field `time`"),
        ] {
            let fault = read(body.as_bytes(), &Asker::default()).expect_err(body);
            assert!(fault.contains(words), "{body}: {fault}");
        }
    }

    #[test]
    fn text_that_moves_a_cursor_is_escaped_line_by_line() {
        assert_eq!(lines(b"A b\r\nX: \x1b[2J\ry\r\n\r\nm=1\n"), ["A b", "X: \\x1b[2J\\ry", "", "m=1"]);
        assert_eq!(lines(b""), [""]);
    }

    #[test]
    fn a_page_is_asked_for_by_the_query() {
        let wanted = |query: &str| wanted(query).map_err(|Refusal(_, text)| text);
        assert_eq!((wanted(""), wanted("offset=7&limit=1")), (Ok((0, 100)), Ok((7, 1))));
        assert_eq!(wanted("limit=0"), Err(r#"limit is "0": give a number from 1 to 1000"#.to_owned()));
        assert_eq!(wanted("page=0"), Err(r#"page is "0": there are offset and limit"#.to_owned()));
    }
}
