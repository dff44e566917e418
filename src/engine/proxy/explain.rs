//! What would become of a request: the same questions in the same order as when it comes, and nothing is done.

use std::net::SocketAddr;

use super::forward::{leaving_uri, rewrite_uri};
use super::names::{Detour, Name, too_many_names};
use super::outside::{Decision, asked, resources};
use super::search::is_large;
use super::validate::Refusal;
use super::{Incoming, Proxy, View, overloaded};
use crate::engine::dialog::Leg;
use crate::engine::dispatch::{DestinationId, Plan, Turn};
use crate::engine::event::Drain;
use crate::engine::explain::{Came, Explained, Explanation, Fate, Try, Unexplained, Way};
use crate::engine::flow::{ConnectionId, Flow, ListenerId, Transport};
use crate::engine::route::{Action, Rule, Target};
use crate::engine::sip::{Fault, Message, Method, Reply, printable};
use crate::engine::transaction::{Acked, Key};

impl Proxy {
    /// What would become of a request that came so. `most` is how many destinations of a set are told of.
    pub(crate) fn explain(&self, world: View<'_>, came: Came, message: &Message<'_>, most: usize) -> Explained {
        let flow = self.flow_of(came, message).ok_or(Unexplained::NoListener)?;
        let mut told = Explanation {
            method: printable(message.method().as_bytes()),
            request_uri: printable(message.request_uri()),
            call_id: printable(message.call_id()),
            source: flow.peer,
            listener: self.name_of(flow.listener),
            notes: Vec::new(),
            rules: Vec::new(),
            sets: Vec::new(),
            fate: Fate::Ends { why: String::new() },
        };
        told.fate = self.fate(world, flow, message, (&mut told, most));
        Ok(told)
    }

    /// The way that it came: what is not told follows from its Via.
    fn flow_of(&self, came: Came, message: &Message<'_>) -> Option<Flow> {
        let via = message.via();
        let transport = via.known_transport().unwrap_or(Transport::Udp);
        let first = self.us.first()?;
        let source = came.source.or_else(|| via.response_address()).unwrap_or_else(|| {
            let ours = came.listener.and_then(|id| self.us.get(id)).unwrap_or(first);
            SocketAddr::new(ours.bind.ip(), transport.default_port())
        });
        let reached = || self.us.towards(transport, source, first.id).and_then(|id| self.us.get(id));
        let listener = came.listener.and_then(|id| self.us.get(id)).or_else(reached).unwrap_or(first);
        Some(Flow {
            listener: listener.id,
            transport: listener.transport,
            peer: source,
            connection: ConnectionId::default(),
        })
    }

    fn name_of(&self, id: ListenerId) -> String {
        self.us.get(id).map_or_else(String::new, |listener| listener.name())
    }

    /// As [`Proxy::request`].
    fn fate(
        &self,
        world: View<'_>,
        flow: Flow,
        message: &Message<'_>,
        (told, most): (&mut Explanation, usize),
    ) -> Fate {
        if !self.takes_from(world, flow) {
            let why = "the listener takes nothing from that address (`allow` and `deny`): it is dropped and counted";
            return Fate::Ends { why: why.to_owned() };
        }
        if message.bytes().len() > self.message_bytes {
            let why = format!("it is larger than {} bytes ([limits] message_bytes): it is dropped", self.message_bytes);
            return Fate::Ends { why };
        }
        match message.method() {
            Method::Ack => self.fate_of_ack(world, flow, message, told),
            Method::Cancel => self.fate_of_cancel(world, message),
            Method::Invite | Method::Bye | Method::Options | Method::Other(_) => {
                self.fate_of_new(world, flow, message, (told, most))
            }
        }
    }

    /// As [`Proxy::new_or_resent`].
    fn fate_of_new(
        &self,
        world: View<'_>,
        flow: Flow,
        message: &Message<'_>,
        (told, most): (&mut Explanation, usize),
    ) -> Fate {
        if world.transactions.server(Key::of(world.keys, message)).is_some() {
            let note = "this very request is here already (same branch and sender): sent again, it would get its answer \
                        again. What follows is for a new one";
            told.notes.push(note.to_owned());
        }
        let incoming = match self.accept(world.keys, flow, message) {
            Ok(incoming) => incoming,
            Err(refusal) => return refused(&refusal, why_invalid(message, &refusal)),
        };
        if !self.has_room(world, &incoming) {
            let why = "there are as many transactions as may be ([limits] transactions)";
            return refused(&overloaded(), why);
        }
        match incoming.is_inside_dialog() {
            true => self.fate_inside(world, &incoming, told),
            false => self.fate_outside(world, &incoming, (told, most)),
        }
    }

    /// As [`Proxy::outside_dialog`].
    fn fate_outside(
        &self,
        world: View<'_>,
        incoming: &Incoming<'_, '_>,
        (told, most): (&mut Explanation, usize),
    ) -> Fate {
        if let Some(refusal) = self.refuses_new() {
            return refused(&refusal, "the node is leaving: it takes no new call");
        }
        let request = asked(incoming);
        told.rules = self.route.explain(&request, &|id| self.name_of(id));
        let rule = self.route.choose(&request);
        let (turn, resources) = (Turn::of(incoming.message.method()), resources(incoming, rule));
        let sets = &mut told.sets;
        let decision = self.decide(incoming, rule, |set, plan| {
            let set = world.dispatch.explain(set, (turn, resources), most, world.dialogs, world.now);
            let answer = (set.planned, set.overflow);
            plan.clone_from(&set.plan);
            sets.push(set);
            answer
        });
        let last = told.sets.last();
        match decision {
            Decision::Send(target, plan) => self.sent(world, incoming, &target, &plan),
            Decision::Full(set) => {
                let reply = last.map(|set| &set.busy_reply);
                answered(reply, format!("nobody of set {} has room", set.0))
            }
            Decision::Empty(set) => {
                let reply = last.map(|set| &set.empty_reply);
                answered(reply, format!("nobody of set {} is fit", set.0))
            }
            Decision::Relay(flow) => self.relayed(incoming, flow, relay_of(rule)),
            Decision::LookUp(name) => self.looked_up(&name, relay_of(rule)),
            Decision::Answer(reply) => answered(Some(&reply), format!("{}, and no way leads there", relay_of(rule))),
            Decision::Refuse(refusal) => {
                let why = self.why_refused(incoming, rule);
                refused(&refusal, why)
            }
        }
    }

    fn why_refused(&self, incoming: &Incoming<'_, '_>, rule: Option<&Rule>) -> String {
        match rule.map(|rule| (&rule.name, &rule.action)) {
            Some((name, Action::Reply(_))) => format!("rule {name:?} says so"),
            Some((name, Action::Set(_))) if incoming.routed.next.is_some() => {
                format!("rule {name:?} sends it to a set, and its Route would lead past it")
            }
            Some((_, Action::Set(_) | Action::Relay)) => "its Max-Forwards is 0: it may go no further".to_owned(),
            None if self.is_for_us(incoming) && incoming.message.method() == Method::Options => match self.drain {
                Drain::No => "no rule matches, and an OPTIONS to ourselves needs none".to_owned(),
                Drain::Leaving | Drain::Refusing => "an OPTIONS to ourselves, and the node is leaving".to_owned(),
            },
            None => "no rule matches ([unroutable])".to_owned(),
        }
    }

    /// As [`Proxy::search`].
    fn sent(&self, world: View<'_>, incoming: &Incoming<'_, '_>, target: &Target, plan: &Plan) -> Fate {
        let tries: Vec<_> = plan.iter().filter_map(|id| self.try_of(world, incoming, target, id)).collect();
        if tries.iter().all(|one| one.way.is_none()) {
            let reply = Reply::new(500, "Internal Server Error");
            return answered(Some(&reply), "no listener of ours leads to any of the chosen".to_owned());
        }
        let most = 1 + world.dispatch.policy(target.set).failover.max_retries;
        Fate::Sent { set: target.set, tries, most }
    }

    fn try_of(&self, world: View<'_>, incoming: &Incoming<'_, '_>, target: &Target, id: DestinationId) -> Option<Try> {
        let found = world.dispatch.destination(id)?;
        let flow = self.way_to(world.dispatch, incoming, id, is_large(incoming));
        let uri = rewrite_uri(found, target.rewrite, incoming.routed.uri);
        let way = flow.map(|flow| Way {
            transport: flow.transport,
            listener: self.name_of(flow.listener),
            request_uri: printable(leaving_uri(&incoming.routed, uri.as_deref())),
        });
        Some(Try { uri: found.row.uri.clone(), address: found.row.address, way })
    }

    fn relayed(&self, incoming: &Incoming<'_, '_>, flow: Flow, why: String) -> Fate {
        Fate::Relayed {
            request_uri: printable(leaving_uri(&incoming.routed, None)),
            peer: flow.peer,
            transport: flow.transport,
            listener: self.name_of(flow.listener),
            why,
        }
    }

    /// As [`Proxy::park`].
    fn looked_up(&self, name: &Name, why: String) -> Fate {
        match self.parking.has_room() {
            true => Fate::LookedUp { name: name.to_string(), why },
            false => refused(&too_many_names(), "as many names are being looked up as may be"),
        }
    }

    /// As [`Proxy::inside_dialog`].
    fn fate_inside(&self, world: View<'_>, incoming: &Incoming<'_, '_>, told: &mut Explanation) -> Fate {
        told.notes.push("it is inside a dialog: it goes by its route, and no rule is asked".to_owned());
        told.notes.push(self.vouching(world, incoming));
        let why = || "its route leads there".to_owned();
        match self.find_way(world, incoming).map_err(Detour::from).and_then(|way| way.hop) {
            Ok(flow) => self.relayed(incoming, flow, why()),
            Err(Detour::Name(name)) => self.looked_up(&name, why()),
            Err(Detour::Refuse(refusal)) => {
                let why = match refusal.status {
                    403 => {
                        "it neither leads to the destinations' side nor comes from there, as far as this node can tell"
                    }
                    481 => "its route ends at this node, and no session or cookie tells where it goes on",
                    _ => "its route can't be followed",
                };
                refused(&refusal, why)
            }
        }
    }

    /// What speaks for a request inside a dialog.
    fn vouching(&self, world: View<'_>, incoming: &Incoming<'_, '_>) -> String {
        let session = world.dialogs.find(world.keys, incoming.message);
        let seat = session.and_then(|found| world.dialogs.seat(found.id)).map(|seat| seat.address);
        let known = match (session, seat) {
            (Some(_), Some(address)) => format!("its session is in the table, at {address}"),
            (Some(_), None) => "its session is in the table".to_owned(),
            (None, _) => "its session is not in the table".to_owned(),
        };
        let cookie = match incoming.routed.cookie {
            Some((cookie, leg)) => {
                let by = match leg {
                    Leg::Caller => "the caller",
                    Leg::Destination => "the destination",
                };
                format!("its Route has a valid cookie of set {}, sent by {by}", cookie.set)
            }
            None => "its Route has no valid cookie of ours".to_owned(),
        };
        format!("{known}; {cookie}")
    }

    /// As [`Proxy::ack`].
    fn fate_of_ack(&self, world: View<'_>, flow: Flow, message: &Message<'_>, told: &mut Explanation) -> Fate {
        let ends = |why: &str| Fate::Ends { why: why.to_owned() };
        if let Some(server) = world.transactions.server(Key::of(world.keys, message)) {
            match world.transactions.would_ack(server, world.now.mono) {
                Acked::Absorbed => return ends("it is for the INVITE with its branch, which has no 2xx: it ends here"),
                Acked::Success => {}
            }
        }
        if message.to_tag() == world.keys.to_tag(message).as_slice() {
            return ends("it acknowledges an answer of this node's own");
        }
        let Ok(incoming) = self.accept(world.keys, flow, message) else {
            return ends("it is not valid, and nobody may answer an ACK: it is dropped");
        };
        match self.fate_inside(world, &incoming, told) {
            Fate::Answered { why, .. } => Fate::Ends { why: format!("{why}; nobody may answer an ACK: it is dropped") },
            fate => fate,
        }
    }

    /// As [`Proxy::cancel`].
    fn fate_of_cancel(&self, world: View<'_>, message: &Message<'_>) -> Fate {
        if let Some(fault) = message.fault() {
            return refused(&Refusal::new(400, "Bad Request"), format!("it is not valid: {fault}"));
        }
        match world.transactions.server(Key::cancelled(world.keys, message)) {
            Some(_) => {
                let why = "the INVITE that it names is here: a CANCEL follows it, unless it has its final answer";
                refused(&Refusal::new(200, "OK"), why)
            }
            None => {
                let why = "no INVITE with its branch is here, and a CANCEL never goes on by itself";
                refused(&Refusal::new(481, "Call/Transaction Does Not Exist"), why)
            }
        }
    }
}

fn relay_of(rule: Option<&Rule>) -> String {
    rule.map_or_else(String::new, |rule| format!("rule {:?} relays it", rule.name))
}

fn why_invalid(message: &Message<'_>, refusal: &Refusal) -> &'static str {
    match (message.fault(), refusal.status) {
        (Some(Fault::ContentLength), _) => {
            "its Content-Length is no number, or wants more bytes than came: a pasted body may have lost its end"
        }
        (Some(_), _) => "it breaks the grammar of RFC 3261",
        (None, 416) => "the scheme of its Request-URI is not sip, sips or tel",
        (None, 483) => "its Max-Forwards is 0: it may go no further",
        (None, 482) => "this node has forwarded it before: a Via of ours says so",
        (None, 420) => "its Proxy-Require asks for what this proxy does not have",
        (None, _) => "its Request-URI can't be used",
    }
}

fn answered(reply: Option<&Reply>, why: String) -> Fate {
    let refusal = reply.map_or_else(|| Refusal::new(500, "Internal Server Error"), Refusal::from);
    refused(&refusal, why)
}

fn refused(refusal: &Refusal, why: impl Into<String>) -> Fate {
    let headers = String::from_utf8_lossy(&refusal.headers);
    Fate::Answered {
        status: refusal.status,
        reason: refusal.reason.clone(),
        headers: headers.lines().map(str::to_owned).collect(),
        why: why.into(),
    }
}
