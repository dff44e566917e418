//! A story as spans: one for the call, and within it one for each destination that it was tried at. Messages are their events.
//! Names of attributes are OpenTelemetry's where it has some.

use std::net::SocketAddr;
use std::time::SystemTime;

use opentelemetry::trace::{Event, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::edge::stories::{Part, Story};
use crate::engine::event::Record;
use crate::engine::explain::{Explanation, Fate};
use crate::engine::flow::Transport;
use crate::engine::trace::{Packet, Step, What};

/// A branch of the call: a destination that it was tried at.
struct Branch<'s> {
    packet: &'s Packet,
    began: SystemTime,
    ended: SystemTime,
    status: Option<u16>,
    /// Why the request did not get there.
    lost: Option<&'static str>,
    over: bool,
    events: Vec<Event>,
}

/// The spans of a story's last call: one Call-ID may be tried again.
pub(super) fn of(story: &Story, node: &str) -> Vec<SpanData> {
    let Some(id) = story.id else { return Vec::new() };
    let parts = last_call(story);
    let decision = parts.iter().find_map(|part| match part {
        Part::Step(Step { what: What::Decided(told), .. }) => Some(&**told),
        _ => None,
    });
    let record = parts.iter().find_map(|part| if let Part::Over(_, record) = part { Some(record) } else { None });
    let steps: Vec<_> =
        parts.iter().filter_map(|part| if let Part::Step(step) = part { Some(step) } else { None }).collect();
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else { return Vec::new() };
    let ended = record.map_or(last.at, |record| (record.began + record.lasted).max(first.at));
    let (mut branches, mut events, mut status) = (Vec::<Branch<'_>>::new(), Vec::new(), None);
    for step in &steps {
        let Some((packet, event)) = event_of(step) else { continue };
        let caller =
            steps.iter().find_map(|step| if let What::Came(packet) = &step.what { Some(packet) } else { None });
        if let What::Left(sent) = &step.what
            && sent.status.is_none()
            && sent.line.starts_with("INVITE ")
            && !branches.iter().any(|one| one.packet.branch == sent.branch)
        {
            branches.push(Branch {
                packet: sent,
                began: step.at,
                ended: step.at,
                status: None,
                lost: None,
                over: false,
                events: Vec::new(),
            });
        }
        let branch = branches.iter_mut().rev().find(|one| {
            one.packet.branch == packet.branch || one.packet.flow.peer == packet.flow.peer && packet.method != "INVITE"
        });
        match branch {
            Some(branch) => branch.hear(step, packet, event),
            None => {
                let from_caller = caller.is_some_and(|caller| caller.branch == packet.branch);
                if packet.method == "INVITE" && from_caller && packet.status.is_some_and(|status| status >= 200) {
                    status = packet.status;
                }
                events.push(event);
            }
        }
    }
    let server = Ids { trace: TraceId::from(id), span: span_id() };
    let mut attributes =
        vec![KeyValue::new("sip.call_id", story.call_id.clone()), KeyValue::new("tandem.node", node.to_owned())];
    attributes.extend(peer_of(first_came(&steps)));
    attributes.extend(of_decision(decision));
    attributes.extend(record.into_iter().flat_map(of_record));
    attributes.extend(outcome(status));
    let name = match (decision.and_then(rule_of), decision) {
        (Some(rule), Some(told)) => format!("{} {rule}", told.method),
        (None, Some(told)) => told.method.clone(),
        (_, None) => "call".to_owned(),
    };
    let context = (SpanKind::Server, SpanId::INVALID);
    let mut spans = vec![server.span(name, context, (first.at, ended), attributes, events, status_of(status, None))];
    for (nth, branch) in branches.into_iter().enumerate() {
        let Branch { packet, began, ended: over_at, status, lost, over, events } = branch;
        let mut attributes =
            vec![KeyValue::new("sip.call_id", story.call_id.clone()), KeyValue::new("tandem.try", nth as i64 + 1)];
        attributes.extend(decision.and_then(set_of).map(|set| KeyValue::new("tandem.set", i64::from(set))));
        let uri = decision.and_then(|told| uri_of(told, packet.flow.peer));
        attributes.extend(uri.map(|uri| KeyValue::new("tandem.destination", uri.to_owned())));
        attributes.extend(peer_of(Some(packet)));
        let lost = lost.or((!over && status.is_none_or(|status| status < 200)).then_some("timeout"));
        attributes.extend(match lost {
            Some(lost) => vec![KeyValue::new("error.type", lost)],
            None => outcome(status),
        });
        let ids = Ids { trace: server.trace, span: span_id() };
        let context = (SpanKind::Client, server.span);
        let times = (began, over_at.max(began));
        spans.push(ids.span("INVITE".to_owned(), context, times, attributes, events, status_of(status, lost)));
    }
    spans
}

/// The parts behind the end of the call before, if the same Call-ID has had one.
fn last_call(story: &Story) -> Vec<&Part> {
    let begins = |part: &Part| match part {
        Part::Step(Step { what: What::Came(packet), .. }) => packet.line.starts_with("INVITE "),
        _ => false,
    };
    let parts: Vec<&Part> = story.parts.iter().map(|part| &**part).collect();
    let ends: Vec<_> = (0..parts.len()).filter(|&nth| matches!(parts[nth], Part::Over(..))).collect();
    let from = match ends.as_slice() {
        [.., before, _] => (before + 1..parts.len()).find(|&nth| begins(parts[nth])).unwrap_or(before + 1),
        [_] | [] => 0,
    };
    parts[from..].to_vec()
}

impl Branch<'_> {
    fn hear(&mut self, step: &Step, packet: &Packet, event: Event) {
        self.events.push(event);
        let is_invite = packet.method == "INVITE" && packet.branch == self.packet.branch;
        match &step.what {
            What::Lost { why, .. } if is_invite && !self.over => {
                (self.lost, self.over, self.ended) = (Some(why.name()), true, step.at);
            }
            What::Came(_) if is_invite && packet.status.is_some() && !self.over => {
                self.status = packet.status;
                self.over = packet.status.is_some_and(|status| status >= 200);
                self.ended = step.at;
            }
            // A try without an answer lasts for as long as something is sent for it.
            _ if !self.over => self.ended = step.at,
            _ => {}
        }
    }
}

struct Ids {
    trace: TraceId,
    span: SpanId,
}

impl Ids {
    fn span(
        &self,
        name: String,
        (span_kind, parent_span_id): (SpanKind, SpanId),
        (start_time, end_time): (SystemTime, SystemTime),
        attributes: Vec<KeyValue>,
        all: Vec<Event>,
        status: Status,
    ) -> SpanData {
        let mut events = SpanEvents::default();
        events.events = all;
        SpanData {
            span_context: SpanContext::new(self.trace, self.span, TraceFlags::SAMPLED, false, TraceState::NONE),
            parent_span_id,
            parent_span_is_remote: false,
            span_kind,
            name: name.into(),
            start_time,
            end_time,
            attributes,
            dropped_attributes_count: 0,
            events,
            links: SpanLinks::default(),
            status,
            instrumentation_scope: InstrumentationScope::builder("tandem").build(),
        }
    }
}

/// Another one for each span; 0 is none.
fn span_id() -> SpanId {
    SpanId::from(fastrand::u64(1..))
}

/// Its message and what it is as an event; none for a decision, which is attributes.
fn event_of(step: &Step) -> Option<(&Packet, Event)> {
    let (verb, packet) = match &step.what {
        What::Came(packet) => ("received", packet),
        What::Left(packet) => ("sent", packet),
        What::Lost { packet, .. } => ("lost", packet),
        What::Decided(_) => return None,
    };
    let what = match packet.status {
        Some(status) => status.to_string(),
        None => packet.line.split(' ').next().unwrap_or_default().to_owned(),
    };
    let mut attributes = vec![
        KeyValue::new("sip.start_line", packet.line.clone()),
        KeyValue::new("sip.method", packet.method.clone()),
        KeyValue::new("network.peer.address", packet.flow.peer.ip().to_string()),
        KeyValue::new("network.peer.port", i64::from(packet.flow.peer.port())),
    ];
    if let What::Lost { why, .. } = &step.what {
        attributes.push(KeyValue::new("error.type", why.name()));
    }
    Some((packet, Event::new(format!("{verb} {what}"), step.at, attributes, 0)))
}

fn first_came<'s>(steps: &[&'s Step]) -> Option<&'s Packet> {
    steps.iter().find_map(|step| if let What::Came(packet) = &step.what { Some(packet) } else { None })
}

fn peer_of(packet: Option<&Packet>) -> Vec<KeyValue> {
    let Some(packet) = packet else { return Vec::new() };
    let address = |name: &'static str, port: &'static str, one: SocketAddr| {
        [KeyValue::new(name, one.ip().to_string()), KeyValue::new(port, i64::from(one.port()))]
    };
    let mut all = address("network.peer.address", "network.peer.port", packet.flow.peer).to_vec();
    all.extend(address("network.local.address", "network.local.port", packet.ours));
    let transport = match packet.flow.transport {
        Transport::Udp => "udp",
        Transport::Tcp | Transport::Tls => "tcp",
    };
    all.push(KeyValue::new("network.transport", transport));
    all
}

fn rule_of(told: &Explanation) -> Option<&str> {
    told.rules.iter().find(|rule| rule.matches == Some(true)).map(|rule| rule.name.as_str())
}

fn set_of(told: &Explanation) -> Option<u32> {
    match &told.fate {
        Fate::Sent { set, .. } => Some(set.0),
        _ => told.sets.last().map(|set| set.id.0),
    }
}

/// The `destination` column of who has that address.
fn uri_of(told: &Explanation, peer: SocketAddr) -> Option<&str> {
    let Fate::Sent { tries, .. } = &told.fate else { return None };
    tries.iter().find(|one| one.address == peer).map(|one| one.uri.as_str())
}

fn of_decision(told: Option<&Explanation>) -> Vec<KeyValue> {
    let Some(told) = told else { return Vec::new() };
    let mut all = vec![KeyValue::new("sip.method", told.method.clone())];
    all.extend(rule_of(told).map(|rule| KeyValue::new("tandem.rule", rule.to_owned())));
    all.extend(set_of(told).map(|set| KeyValue::new("tandem.set", i64::from(set))));
    all
}

fn of_record(record: &Record) -> Vec<KeyValue> {
    let codes: Vec<_> = record.codes.iter().map(u16::to_string).collect();
    let mut all =
        vec![KeyValue::new("tandem.ending", record.ending.name()), KeyValue::new("tandem.codes", codes.join(","))];
    all.extend(record.destination.as_ref().map(|uri| KeyValue::new("tandem.destination", uri.clone())));
    all
}

/// What an answer's status says.
fn outcome(status: Option<u16>) -> Vec<KeyValue> {
    let Some(status) = status else { return Vec::new() };
    let mut all = vec![KeyValue::new("sip.status_code", i64::from(status))];
    if is_failure(status) {
        all.push(KeyValue::new("error.type", status.to_string()));
    }
    all
}

/// A caller that has hung up has what it wants.
fn is_failure(status: u16) -> bool {
    status >= 400 && status != 487
}

fn status_of(status: Option<u16>, lost: Option<&'static str>) -> Status {
    match (status, lost) {
        (_, Some(lost)) => Status::error(lost),
        (Some(status), None) if is_failure(status) => Status::error(status.to_string()),
        (Some(200..300), None) => Status::Ok,
        (Some(_) | None, None) => Status::Unset,
    }
}
