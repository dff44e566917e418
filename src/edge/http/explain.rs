//! `POST /explain`: what would become of a message, and why. Nothing is sent and nothing changes.

use std::borrow::Cow;
use std::net::SocketAddr;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::report::{DestinationReport, millis};
use super::routes::{Need, Routes};
use super::sets::{Refusal, in_time};
use super::{Node, Shared, access};
use crate::engine::dispatch::{DestinationTold, Planned, Role, Score, SetTold, Turn};
use crate::engine::explain::{Came, Explanation, Fate, Try};
use crate::engine::flow::Listener;
use crate::engine::route::RuleTold;
use crate::engine::sip::Reply;

pub(super) fn routes<N: Node>() -> Routes<N> {
    Routes::new().ask("/explain", Need::Role(access::Role::Read), explain::<N>)
}

/// What would become of a message: `POST /explain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainReport {
    /// The node that tells this; none: no running one, the configuration and the stored sets alone.
    pub node: Option<String>,
    /// The method.
    pub method: String,
    /// The Request-URI as received.
    pub request_uri: String,
    /// The Call-ID.
    pub call_id: String,
    /// Who would have sent it.
    pub source: SocketAddr,
    /// Whether that follows from its Via, since nobody said.
    pub source_assumed: bool,
    /// The listener that it would have come by.
    pub listener: String,
    /// Whether that is the first that reaches the source, since nobody said.
    pub listener_assumed: bool,
    /// What is to be known beside.
    pub notes: Vec<String>,
    /// The rules in order; empty if none is asked.
    pub rules: Vec<RuleReport>,
    /// The sets that are asked: the rule's, and those that it overflows to.
    pub sets: Vec<ExplainedSet>,
    /// What becomes of it.
    pub fate: FateReport,
}

/// A rule, and why it matches or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleReport {
    /// Its name.
    pub name: String,
    /// What it does.
    pub action: String,
    /// Whether it matches; none: it is not asked, since one before it does.
    pub matches: Option<bool>,
    /// Its conditions.
    pub conditions: Vec<ConditionReport>,
}

/// A condition of a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConditionReport {
    /// The configuration's key.
    pub key: String,
    /// What the rule wants.
    pub wants: String,
    /// What the message has; empty if nothing of the kind.
    pub has: Vec<String>,
    /// Whether it holds.
    pub holds: bool,
}

/// A set that is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainedSet {
    /// Its number.
    pub set: u32,
    /// Its configured name; "" if none.
    pub name: String,
    /// How it chooses.
    pub algorithm: String,
    /// `session` for an INVITE, `other` for what has a turn of its own.
    pub turn: String,
    /// `somebody`, `full` or `empty`.
    pub outcome: String,
    /// What it does about too few being fit; none: it does not panic.
    pub panics: Option<String>,
    /// Live sessions.
    pub sessions: u64,
    /// How many it may have.
    pub max_sessions: Option<u64>,
    /// The set that takes what it does not.
    pub overflow: Option<u32>,
    /// The answer if nobody has room.
    pub busy_reply: String,
    /// The answer if nobody is fit or every try fails.
    pub empty_reply: String,
    /// Its destinations, in the table's order.
    pub destinations: Vec<ExplainedDestination>,
}

/// One address of a destination, as the message finds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainedDestination {
    /// What it is held for; `fit` and `fitness` are for this message.
    #[serde(flatten)]
    pub destination: DestinationReport,
    /// Whether it may be chosen.
    pub candidate: bool,
    /// The same in words: if not, why not.
    pub role: String,
    /// Its place in the plan: 1 is the first choice.
    pub place: Option<usize>,
    /// The weight that counts now, its share in it.
    pub weight_now: Option<u32>,
    /// What the algorithm makes of it, in words.
    pub score: Option<String>,
    /// The number of it.
    pub score_value: Option<f64>,
    /// New calls a second that it may have.
    pub max_cps: Option<u32>,
    /// New calls of this second, if they are limited.
    pub calls_of_late: Option<f64>,
    /// How long it takes to answer a call.
    pub answer_ms: f64,
}

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FateReport {
    /// It goes to the first of these that takes it.
    Sent {
        /// The set.
        set: u32,
        /// The choice, then the failover order; without those that no listener of ours leads to.
        tries: Vec<TryReport>,
        /// Those that no listener of ours leads to, by URI.
        no_way: Vec<String>,
        /// How many are tried at most.
        most_tries: usize,
    },
    /// It goes by its route.
    Relayed {
        /// The Request-URI that it leaves with.
        request_uri: String,
        /// Where it goes.
        address: SocketAddr,
        /// By what.
        transport: String,
        /// The listener that it leaves by.
        listener: String,
        /// Why.
        why: String,
    },
    /// It goes by its route, once a name is looked up.
    LookedUp {
        /// The name.
        name: String,
        /// Why.
        why: String,
    },
    /// It is answered here.
    Answered {
        /// The status.
        status: u16,
        /// The reason phrase.
        reason: String,
        /// Further header lines.
        headers: Vec<String>,
        /// Why.
        why: String,
    },
    /// It ends here, and nobody is told.
    Ends {
        /// Why.
        why: String,
    },
}

/// A destination that is tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TryReport {
    /// The `destination` column.
    pub uri: String,
    /// Its address.
    pub address: SocketAddr,
    /// By what it leaves.
    pub transport: String,
    /// The listener that it leaves by.
    pub listener: String,
    /// The Request-URI that it leaves with.
    pub request_uri: String,
}

impl ExplainReport {
    /// In words; `node` tells it, and `came` is what was said of the way.
    pub fn of(node: Option<&str>, came: Came, told: &Explanation) -> Self {
        ExplainReport {
            node: node.map(str::to_owned),
            method: told.method.clone(),
            request_uri: told.request_uri.clone(),
            call_id: told.call_id.clone(),
            source: told.source,
            source_assumed: came.source.is_none(),
            listener: told.listener.clone(),
            listener_assumed: came.listener.is_none(),
            notes: told.notes.clone(),
            rules: told.rules.iter().map(RuleReport::of).collect(),
            sets: told.sets.iter().map(ExplainedSet::of).collect(),
            fate: FateReport::of(&told.fate),
        }
    }

    /// With notes that come before its own.
    pub fn noted(mut self, notes: Vec<String>) -> Self {
        self.notes.splice(0..0, notes);
        self
    }
}

impl RuleReport {
    fn of(told: &RuleTold) -> Self {
        let conditions = told.conditions.iter().map(|one| ConditionReport {
            key: one.key.clone(),
            wants: one.wants.clone(),
            has: one.has.clone(),
            holds: one.holds,
        });
        RuleReport {
            name: told.name.clone(),
            action: told.action.clone(),
            matches: told.matches,
            conditions: conditions.collect(),
        }
    }
}

impl ExplainedSet {
    fn of(told: &SetTold) -> Self {
        let reply = |reply: &Reply| format!("{} {}", reply.status, reply.reason);
        let turn = match told.turn {
            Turn::Session => "session",
            Turn::Other => "other",
        };
        let outcome = match told.planned {
            Planned::Somebody => "somebody",
            Planned::Full => "full",
            Planned::Empty => "empty",
        };
        ExplainedSet {
            set: told.id.0,
            name: told.name.clone(),
            algorithm: told.algorithm.to_owned(),
            turn: turn.to_owned(),
            outcome: outcome.to_owned(),
            panics: told.panics.map(|mode| mode.name().to_owned()),
            sessions: told.sessions,
            max_sessions: told.max_sessions,
            overflow: told.overflow.map(|set| set.0),
            busy_reply: reply(&told.busy_reply),
            empty_reply: reply(&told.empty_reply),
            destinations: told.destinations.iter().map(ExplainedDestination::of).collect(),
        }
    }
}

impl ExplainedDestination {
    fn of(told: &DestinationTold) -> Self {
        let value = |score: Score| match score {
            Score::Turns { had, .. } => had.map(|had| had as f64),
            Score::Chance(number) | Score::Cost(number) => Some(number).filter(|number| number.is_finite()),
            Score::Priority(priority) => Some(f64::from(priority)),
        };
        ExplainedDestination {
            destination: DestinationReport {
                fit: told.fitness.is_fit(),
                fitness: told.fitness.to_string(),
                ..DestinationReport::of(&told.view)
            },
            candidate: matches!(told.role, Role::Candidate | Role::Panicked),
            role: told.role.text().to_owned(),
            place: told.place.map(|place| place + 1),
            weight_now: told.weight,
            score: told.score.map(|score| score.to_string()),
            score_value: told.score.and_then(value),
            max_cps: told.view.limits.cps,
            calls_of_late: told.calls_of_late,
            answer_ms: millis(told.latency),
        }
    }
}

impl FateReport {
    fn of(fate: &Fate) -> Self {
        match fate.clone() {
            Fate::Sent { set, tries, most } => FateReport::Sent {
                set: set.0,
                no_way: tries.iter().filter(|one| one.way.is_none()).map(|one| one.uri.clone()).collect(),
                tries: tries.into_iter().filter_map(TryReport::of).collect(),
                most_tries: most,
            },
            Fate::Relayed { request_uri, peer, transport, listener, why } => FateReport::Relayed {
                request_uri,
                address: peer,
                transport: transport.name().to_owned(),
                listener,
                why,
            },
            Fate::LookedUp { name, why } => FateReport::LookedUp { name, why },
            Fate::Answered { status, reason, headers, why } => FateReport::Answered { status, reason, headers, why },
            Fate::Ends { why } => FateReport::Ends { why },
        }
    }
}

impl TryReport {
    fn of(one: Try) -> Option<Self> {
        let Try { uri, address, way } = one;
        let way = way?;
        let transport = way.transport.name().to_owned();
        Some(TryReport { uri, address, transport, listener: way.listener, request_uri: way.request_uri })
    }
}

async fn explain<N: Node>(
    State(shared): State<Shared<N>>,
    RawQuery(query): RawQuery,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let bad = |fault: String| Refusal(StatusCode::BAD_REQUEST, fault);
    let came = came_of(&query.unwrap_or_default(), shared.node.listeners()).map_err(bad)?;
    let body = body.map_err(|fault| Refusal(fault.status(), fault.body_text()))?;
    let (message, notes) = pasted(&body);
    let told =
        in_time(shared.node.explain(message.into_owned(), came)).await?.map_err(|fault| bad(fault.to_string()))?;
    Ok(Json(ExplainReport::of(Some(shared.node.name()), came, &told).noted(notes)).into_response())
}

fn came_of(query: &str, listeners: &[Listener]) -> Result<Came, String> {
    let mut came = Came::default();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "source" => {
                let source =
                    value.parse().map_err(|_| format!("source is {value:?}: give an address, as 10.0.0.5:5060"))?;
                came.source = Some(source);
            }
            "listener" => came.listener = Some(listener_of(&value, listeners)?.id),
            _ => return Err(format!("no such part of the query: {key:?}: give source, listener, or neither")),
        }
    }
    Ok(came)
}

/// The listener that is written so.
///
/// # Errors
/// What there is.
pub fn listener_of<'l>(text: &str, listeners: &'l [Listener]) -> Result<&'l Listener, String> {
    listeners.iter().find(|one| one.name().eq_ignore_ascii_case(text)).ok_or_else(|| {
        let all: Vec<_> = listeners.iter().map(Listener::name).collect();
        format!("no listener {text}: there are {}", all.join(", "))
    })
}

/// A message as people paste it: line ends may be LF alone, and the empty line behind the headers may be missing. With what
/// was done about it.
pub fn pasted(text: &[u8]) -> (Cow<'_, [u8]>, Vec<String>) {
    let mut notes = Vec::new();
    let start = text.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(text.len());
    let bare = |at: usize| text[at] == b'\n' && (at == 0 || text[at - 1] != b'\r');
    let ends: Vec<_> = memchr::memchr_iter(b'\n', text).filter(|&at| at >= start).collect();
    // An empty line is one line end right behind another.
    let empty = |pair: &&[usize]| text[pair[0] + 1..pair[1]].iter().all(|byte| *byte == b'\r');
    let blank = ends.windows(2).find(empty).map(|pair| pair[1]);
    let head_end = blank.unwrap_or(text.len());
    let has_bare = ends.iter().any(|&at| at <= head_end && bare(at));
    if blank.is_some() && !has_bare || start == text.len() {
        return (Cow::Borrowed(text), notes);
    }
    let mut message = Vec::with_capacity(text.len() + ends.len() + 4);
    for (at, &byte) in text.iter().enumerate() {
        if has_bare && bare(at) {
            message.push(b'\r');
        }
        message.push(byte);
    }
    if has_bare {
        notes.push("its lines end in LF alone: read as CRLF, as SIP has them".to_owned());
    }
    if blank.is_none() {
        if !message.ends_with(b"\n") {
            message.extend_from_slice(b"\r\n");
        }
        message.extend_from_slice(b"\r\n");
        notes.push("no empty line ends its headers: one was added".to_owned());
    }
    (Cow::Owned(message), notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_paste_is_read_and_what_is_right_is_left_alone() {
        let lf = "its lines end in LF alone: read as CRLF, as SIP has them";
        let end = "no empty line ends its headers: one was added";
        for (text, message, expected) in [
            ("A\r\nB\r\n\r\nx\ny", "A\r\nB\r\n\r\nx\ny", &[][..]),
            ("\r\n\r\nA\r\n\r\n", "\r\n\r\nA\r\n\r\n", &[]),
            ("A\nB\n\nv=0\nm=x\n", "A\r\nB\r\n\r\nv=0\r\nm=x\r\n", &[lf]),
            ("\n\nA\n\n", "\r\n\r\nA\r\n\r\n", &[lf]),
            ("A\r\nB\n\r\nx\n", "A\r\nB\r\n\r\nx\r\n", &[lf]),
            ("A\nB", "A\r\nB\r\n\r\n", &[lf, end]),
            ("A\r\nB\r\n", "A\r\nB\r\n\r\n", &[end]),
            ("A", "A\r\n\r\n", &[end]),
            ("", "", &[]),
            ("\n", "\n", &[]),
        ] {
            let (read, notes) = pasted(text.as_bytes());
            assert_eq!(
                (String::from_utf8_lossy(&read).as_ref(), &notes[..]),
                (message, &expected.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>()[..]),
                "{text:?}"
            );
        }
    }
}
