//! The proxy core: RFC 3261 section 16. What comes in is matched, validated, routed and forwarded; answers find their way
//! back through the response context of their transaction.

mod context;
mod explain;
mod forward;
mod inside;
mod late;
mod moved;
mod names;
mod ourselves;
mod outside;
mod preprocess;
mod response;
mod search;
mod session;
mod validate;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use slotmap::SecondaryMap;

use self::context::Owed;
pub(crate) use self::context::Owner;
use self::names::Parking;
use self::ourselves::Ourselves;
use self::preprocess::{Routed, preprocess};
use self::search::Budgets;
use self::validate::{Refusal, validate};
use crate::engine::clock::Now;
use crate::engine::dialog::{DialogId, Dialogs};
use crate::engine::dispatch::{Dispatch, SessionPolicy, SetId};
use crate::engine::event::{Drain, DropCause, Event, Output};
use crate::engine::flow::{Flow, Transport};
use crate::engine::route;
use crate::engine::sip::{Cookie, FrameFault, Keys, Message, Method, Reply, Start, respond, response_peer};
use crate::engine::snapshot::Totals;
use crate::engine::transaction::{Acked, ClientId, Key, ServerId, Transactions};

/// How long a caller should wait when we have no room or are leaving: `Retry-After`, in seconds.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What the proxy works on but does not own; the same turn's for everybody.
#[derive(Debug)]
pub(crate) struct World<'w> {
    /// The turn's one `now`.
    pub(crate) now: Now,
    /// The cluster's keys.
    pub(crate) keys: &'w Keys,
    /// All transactions.
    pub(crate) transactions: &'w mut Transactions<Owner>,
    /// The sets.
    pub(crate) dispatch: &'w mut Dispatch,
    /// The live sessions.
    pub(crate) dialogs: &'w mut Dialogs,
    /// Counters.
    pub(crate) totals: &'w mut Totals,
    /// What is to be done.
    pub(crate) out: &'w mut Vec<Output>,
}

/// The same, to look at only: what decides may change nothing, so that `explain` may ask it too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'v> {
    /// The turn's one `now`.
    pub(crate) now: Now,
    /// The cluster's keys.
    pub(crate) keys: &'v Keys,
    /// All transactions.
    pub(crate) transactions: &'v Transactions<Owner>,
    /// The sets.
    pub(crate) dispatch: &'v Dispatch,
    /// The live sessions.
    pub(crate) dialogs: &'v Dialogs,
}

impl World<'_> {
    /// The world to look at.
    pub(crate) fn view(&self) -> View<'_> {
        let World { now, keys, transactions, dispatch, dialogs, .. } = self;
        View { now: *now, keys, transactions, dispatch, dialogs }
    }

    /// Counts and tells of a message thrown away.
    pub(crate) fn drop(&mut self, cause: DropCause, flow: Flow) {
        self.totals.dropped[cause as usize] += 1;
        self.out.push(Output::Event(Event::Dropped { cause, flow }));
    }

    /// The policy of a session's set.
    fn session_policy(&self, dialog: DialogId) -> &SessionPolicy {
        let set = self.dialogs.seat(dialog).map_or(SetId::default(), |seat| seat.set);
        &self.dispatch.policy(set).session
    }
}

/// The proxy's own state: its rules, and a response context for each open server transaction.
#[derive(Debug)]
pub(crate) struct Proxy {
    us: Ourselves,
    route: Arc<route::Config>,
    node: u16,
    call_events: bool,
    records: bool,
    most_transactions: usize,
    message_bytes: usize,
    drain: Drain,
    header_lines: usize,
    owed: SecondaryMap<ServerId, Owed>,
    budgets: Budgets,
    /// Branches whose late 2xx was answered by a BYE of ours.
    ended_late: SecondaryMap<ClientId, ()>,
    parking: Parking,
}

/// A request on its way through the proxy.
#[derive(Debug)]
pub(crate) struct Incoming<'m, 'b> {
    /// The way it came.
    flow: Flow,
    /// The request.
    message: &'m Message<'b>,
    /// Its route without what was ours.
    routed: Routed<'b>,
    /// Where the name of its next hop leads, best first; empty as long as nobody has looked it up.
    known: &'m [SocketAddr],
}

impl Incoming<'_, '_> {
    /// Whether it belongs to a dialog: it has a To-tag, or it answers a caller of RFC 2543 that has none, and our cookie
    /// proves it.
    fn is_inside_dialog(&self) -> bool {
        !self.message.to_tag().is_empty() || self.routed.cookie.is_some()
    }
}

impl Proxy {
    /// A proxy without calls.
    pub(crate) fn new(config: &crate::engine::Config) -> Self {
        Proxy {
            us: Ourselves::new(config.listeners.clone()),
            route: Arc::new(config.route.clone()),
            node: Cookie::mark(&config.node),
            call_events: config.call_events,
            records: config.records,
            most_transactions: config.limits.transactions,
            message_bytes: config.limits.message,
            drain: Drain::No,
            header_lines: config.limits.header_lines,
            owed: SecondaryMap::new(),
            budgets: Budgets::default(),
            ended_late: SecondaryMap::new(),
            parking: Parking::default(),
        }
    }

    /// Goes so far in leaving.
    pub(crate) fn drain(&mut self, drain: Drain) {
        self.drain = drain;
    }

    /// How far we are in leaving.
    pub(crate) fn draining(&self) -> Drain {
        self.drain
    }

    /// How many header lines a message may have.
    pub(crate) fn header_lines(&self) -> usize {
        self.header_lines
    }

    /// Whether the listener takes anything from that address.
    pub(crate) fn takes_from(&self, world: View<'_>, flow: Flow) -> bool {
        let ip = flow.peer.ip();
        self.us.listener(flow.listener).sources.permit(ip, || world.dispatch.is_destination_ip(ip))
    }

    /// One request.
    pub(crate) fn request(&mut self, world: &mut World<'_>, flow: Flow, message: &Message<'_>) {
        world.totals.requests += 1;
        if message.bytes().len() > self.message_bytes {
            return world.drop(DropCause::TooLarge, flow);
        }
        match message.method() {
            Method::Ack => self.ack(world, flow, message),
            Method::Cancel => self.cancel(world, flow, message),
            Method::Invite | Method::Bye | Method::Options | Method::Other(_) => {
                self.new_or_resent(world, flow, message);
            }
        }
    }

    fn new_or_resent(&mut self, world: &mut World<'_>, flow: Flow, message: &Message<'_>) {
        let key = Key::of(world.keys, message);
        if let Some(server) = world.transactions.server(key) {
            world.totals.retransmissions += 1;
            return world.transactions.resent(server, world.out);
        }
        match self.accept(world.keys, flow, message) {
            Ok(incoming) if !self.has_room(world.view(), &incoming) => {
                world.totals.dropped[DropCause::Overload as usize] += 1;
                self.refuse(world, flow, message, &overloaded());
            }
            Ok(incoming) if incoming.is_inside_dialog() => self.inside_dialog(world, &incoming, key),
            Ok(incoming) => self.outside_dialog(world, &incoming, key),
            Err(refusal) => self.refuse(world, flow, message, &refusal),
        }
    }

    /// Whether one more request gets a transaction. Calls in being have a tenth more room than new ones, so that they can end
    /// whatever else comes.
    fn has_room(&self, world: View<'_>, incoming: &Incoming<'_, '_>) -> bool {
        let reserve = if incoming.is_inside_dialog() { self.most_transactions / 10 } else { 0 };
        world.transactions.len() < self.most_transactions + reserve
    }

    fn accept<'m, 'b>(&self, keys: &Keys, flow: Flow, message: &'m Message<'b>) -> Result<Incoming<'m, 'b>, Refusal> {
        let uri = validate(message, &self.us, keys)?;
        Ok(Incoming { flow, message, routed: preprocess(message, &uri, &self.us, keys), known: &[] })
    }

    /// Answers a request that gets no transaction: sent again, it gets the same answer (section 8.2.7).
    fn refuse(&self, world: &mut World<'_>, flow: Flow, message: &Message<'_>, refusal: &Refusal) {
        let tag = world.keys.to_tag(message);
        let status = (refusal.status, refusal.reason.as_str());
        let bytes = respond(message, flow.peer, status, &tag, &refusal.headers);
        world.totals.note_reply(refusal.status);
        world.out.push(Output::Send { flow: answer_flow(flow, message), bytes });
    }

    /// Answers a request by its transaction, with a response of our own.
    fn reply(&self, world: &mut World<'_>, server: ServerId, message: &Message<'_>, flow: Flow, reply: &Reply) {
        let tag = world.keys.to_tag(message);
        let headers = reply.retry_after_line();
        let bytes = respond(message, flow.peer, (reply.status, &reply.reason), &tag, headers.as_bytes());
        world.totals.note_reply(reply.status);
        world.transactions.respond(server, reply.status, bytes, world.now.mono, world.out);
    }

    /// What comes from such an address is not even looked at.
    pub(crate) fn shut_out(&self, world: &mut World<'_>, flow: Flow) {
        world.drop(DropCause::RefusedSource, flow);
        if flow.transport.is_reliable() {
            world.out.push(Output::Close(flow.connection));
        }
    }

    /// A stream that can't be followed any further is closed, after an answer if its last message can be answered.
    pub(crate) fn unframed(&self, world: &mut World<'_>, flow: Flow, head: &[u8], fault: FrameFault) {
        let (status, cause) = match fault {
            FrameFault::NotSip => (400, DropCause::NotSip),
            FrameFault::ContentLength => (400, DropCause::Malformed),
            FrameFault::HeadTooLarge | FrameFault::TooManyHeaders => (400, DropCause::TooLarge),
            FrameFault::MessageTooLarge => (513, DropCause::TooLarge),
        };
        if let Ok(message) = Message::parse(head)
            && matches!(message.start(), Start::Request { .. })
            && message.method() != Method::Ack
        {
            self.refuse(world, flow, &message, &Refusal::new(status, fault.to_string()));
        }
        world.drop(cause, flow);
        world.out.push(Output::Close(flow.connection));
    }

    /// A server transaction for a request that passed validation; an INVITE is answered 100 at once.
    fn open(&self, world: &mut World<'_>, incoming: &Incoming<'_, '_>, key: Key) -> ServerId {
        let Incoming { flow, message, .. } = incoming;
        let invite = message.method() == Method::Invite;
        let server = world.transactions.open_server(key, invite, answer_flow(*flow, message), world.now.mono);
        if invite {
            let bytes = respond(message, flow.peer, (100, "Trying"), b"", b"");
            world.transactions.respond(server, 100, bytes, world.now.mono, world.out);
        }
        server
    }

    /// An ACK ends an INVITE transaction of ours that failed, or follows a 2xx along the route (section 13.2.2.4).
    fn ack(&mut self, world: &mut World<'_>, flow: Flow, message: &Message<'_>) {
        let key = Key::of(world.keys, message);
        if let Some(server) = world.transactions.server(key) {
            match world.transactions.acked(server, world.now.mono) {
                Acked::Absorbed => return,
                Acked::Success => {}
            }
        }
        // It acknowledges an answer of ours that needed no transaction.
        if message.to_tag() == world.keys.to_tag(message).as_slice() {
            return;
        }
        // Nobody may answer an ACK, so whatever is wrong with it, it is dropped.
        let forwarded = self.accept(world.keys, flow, message).is_ok_and(|incoming| self.forward_ack(world, &incoming));
        if !forwarded {
            world.drop(DropCause::StrayAck, flow);
        }
    }

    /// A CANCEL (section 16.10): answered here, and passed on to the branches of the INVITE that it names.
    fn cancel(&mut self, world: &mut World<'_>, flow: Flow, message: &Message<'_>) {
        if message.fault().is_some() {
            return self.refuse(world, flow, message, &Refusal::new(400, "Bad Request"));
        }
        match world.transactions.server(Key::cancelled(world.keys, message)) {
            Some(server) => {
                self.refuse(world, flow, message, &Refusal::new(200, "OK"));
                self.cancel_branches(world, server);
                self.cancel_parked(world, server);
            }
            None => self.refuse(world, flow, message, &Refusal::new(481, "Call/Transaction Does Not Exist")),
        }
    }
}

/// Where answers to a request go: as its Via says; by a stream back on its connection, and if that is gone by a new one to
/// the port of sent-by (RFC 3261 section 18.2.2), since the port that it came from is no listener's.
fn answer_flow(flow: Flow, message: &Message<'_>) -> Flow {
    let via = message.via();
    let peer = match flow.transport {
        Transport::Udp => response_peer(&via, flow.peer),
        Transport::Tcp | Transport::Tls => SocketAddr::new(flow.peer.ip(), via.port_or_default()),
    };
    Flow { peer, ..flow }
}

/// What a request is told that gets no transaction.
fn overloaded() -> Refusal {
    Refusal { headers: retry_after(), ..Refusal::new(503, "Overloaded") }
}

/// The header line that asks a caller to come back later.
fn retry_after() -> Vec<u8> {
    format!("Retry-After: {}\r\n", RETRY_AFTER.as_secs()).into_bytes()
}
