//! What goes into the engine and what comes out.

mod end;
mod record;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

pub use self::end::{EndOrder, NotEnded, NotOurs, Which};
pub use self::record::Record;
pub(crate) use self::record::write_down;
pub use crate::engine::dialog::Ending;
use crate::engine::dispatch::{
    AtDeadline, DistrustOrder, Health, NotDistrusted, NotOrdered, Observation, Order, OrderTerms, Outcome, PeerReport,
    Remembered, SetId, Sets, Standing, Why, Wish,
};
use crate::engine::flow::{ConnectionId, Fault, Flow, ListenerId, Transport};
use crate::engine::sip::FrameFault;
use crate::engine::trace::{NotTraced, Step, TraceOrder};

/// What can happen to the engine.
#[derive(Debug)]
pub enum Input<'a> {
    /// A datagram, or one framed message of a stream.
    Received {
        /// The way it came.
        flow: Flow,
        /// The message as it came.
        bytes: &'a [u8],
    },
    /// A way is dead, or the peer's host refused what went there: evidence against the peer.
    Unreachable {
        /// The way it was to go.
        flow: Flow,
    },
    /// An ICMP error says that what we sent did not arrive. Evidence against the peer only if `quoted` proves that it is
    /// about a request that still waits for its answer.
    Refused {
        /// The way that it was sent.
        flow: Flow,
        /// The start of the datagram as the error quotes it, maybe cut.
        quoted: &'a [u8],
    },
    /// One message could not be sent: its connection could not be made, broke, or has too much to send already; or it could
    /// not even leave.
    Undelivered {
        /// The way it was to go.
        flow: Flow,
        /// The message.
        bytes: &'a [u8],
        /// Evidence against the peer only if it is the peer's.
        fault: Fault,
    },
    /// A stream can't be followed any further.
    Unframed {
        /// The way it came.
        flow: Flow,
        /// The head of the message, as far as it came.
        head: &'a [u8],
        /// Why.
        fault: FrameFault,
    },
    /// A new load of all sets.
    Sets(Sets),
    /// The `next_deadline` has come.
    Wake,
    /// An operator's order.
    Order {
        /// The set.
        set: SetId,
        /// The `destination` column.
        uri: &'a str,
        /// The order, with who gives it and why.
        standing: &'a Standing,
        /// What it is held to.
        terms: &'a OrderTerms,
    },
    /// An operator holds a destination for failed.
    Distrust(&'a DistrustOrder),
    /// What was known of the destinations before a restart; after the first load.
    Remembered(&'a [Remembered]),
    /// A check of [`Output::Check`] has ended.
    Checked {
        /// The output's `id`.
        id: CheckId,
        /// How.
        outcome: Outcome,
    },
    /// A check of [`Output::Check`] could not be made, for reasons of our own: it says nothing of the destination.
    Unchecked(CheckId),
    /// An agent of [`Output::AskAgent`] has been asked.
    AgentSaid {
        /// The output's `id`.
        id: AgentId,
        /// Its answer, of which no more than `dispatch::LONGEST_LINE` bytes are looked at; none: there was no good one, for
        /// whatever reason.
        body: Option<&'a [u8]>,
    },
    /// How far the node is in leaving.
    Drain(Drain),
    /// What the other nodes of the cluster tell, all that are there: each time that it changes.
    Peers(&'a [PeerReport]),
    /// An operator ends sessions: those that can be ended get BYE at both ends.
    End(&'a EndOrder),
    /// An operator wants to be told of a call from now on.
    Trace(&'a TraceOrder),
    /// Whether the address of a listener is this node's now. What waits for an answer to come or to go by one that is not is let
    /// go without a word, and sessions whose caller came by it are parked: they are another node's to ping and to end.
    Held {
        /// The listener.
        listener: ListenerId,
        /// Whether it is.
        held: bool,
    },
    /// A name of [`Output::Resolve`] has been looked up.
    Resolved {
        /// The output's `id`.
        id: LookupId,
        /// Where it leads, best first; none if nobody knows.
        addresses: Vec<SocketAddr>,
    },
}

/// How far a node is in leaving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drain {
    /// It is not.
    #[default]
    No,
    /// OPTIONS to it get 503, so that nobody sends new calls; those that come are served.
    Leaving,
    /// New calls get 503 too. Requests inside a dialog are served to the end.
    Refusing,
}

/// What the engine wants done.
#[derive(Debug)]
pub enum Output {
    /// Send these bytes that way.
    Send {
        /// The way. A stream flow's connection while it lives, else one to the flow's peer, a new one if need be.
        flow: Flow,
        /// One whole message.
        bytes: Bytes,
    },
    /// Close a stream that can't be read any further, once what was sent by it before is written.
    Close(ConnectionId),
    /// Close every stream of a listener at once, with what waits to be written: its address is another node's now.
    CloseAll(ListenerId),
    /// Look a name up, and tell with [`Input::Resolved`] within 2 s: later nobody waits for it.
    Resolve {
        /// To be told with the answer.
        id: LookupId,
        /// A host name, in lower case.
        host: String,
        /// The port of its URI.
        port: Option<u16>,
        /// The transport.
        transport: Transport,
    },
    /// Ask a destination by other means than SIP, and tell with [`Input::Checked`] or [`Input::Unchecked`]; what takes
    /// longer than `timeout` has timed out.
    Check {
        /// To be told with the outcome.
        id: CheckId,
        /// What is asked.
        target: CheckTarget,
        /// How long it may take.
        timeout: Duration,
    },
    /// Ask a destination's agent by an HTTP GET, and tell with [`Input::AgentSaid`].
    AskAgent {
        /// To be told with the answer.
        id: AgentId,
        /// Where it is.
        address: SocketAddr,
        /// The path, from its slash.
        path: String,
        /// How long it may take.
        timeout: Duration,
    },
    /// Tell people and counters.
    Event(Event),
}

/// A check of a destination; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckId(pub u64);

/// An agent, by its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentId(pub u64);

/// What a check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckTarget {
    /// Whether a TCP connection can be made there.
    Tcp(SocketAddr),
    /// What a GET is answered.
    Http {
        /// The server.
        address: SocketAddr,
        /// The path, from its slash.
        path: String,
    },
}

/// A name that is being looked up; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookupId(pub u64);

/// Something that people want to know of.
#[derive(Clone, Debug)]
pub enum Event {
    /// An initial INVITE was routed: the one info line of a call.
    Call(Box<Call>),
    /// A set had no fit destination; the caller got the set's reply.
    SetEmpty {
        /// The set.
        set: SetId,
        /// The call that found it empty.
        call_id: String,
    },
    /// A session is over, or a call that never became one.
    Session(Box<Record>),
    /// A load took effect.
    SetsReplaced(Changes),
    /// A destination's health is another.
    Health(Box<HealthChange>),
    /// A destination's agent wants something else.
    Agent(Box<AgentChange>),
    /// An operator wants something else of a destination, or another one does, or for another reason.
    Ordered {
        /// The set.
        set: SetId,
        /// The `destination` column.
        uri: String,
        /// One of its addresses.
        address: SocketAddr,
        /// The order before.
        old: Order,
        /// The order now, with who gave it and why.
        standing: Standing,
        /// The sessions that it has now.
        sessions: u64,
    },
    /// An order is not obeyed.
    OrderedInVain(NotOrdered),
    /// An operator holds a destination for failed.
    Distrusted {
        /// The order.
        order: DistrustOrder,
        /// Whether it is obeyed.
        done: Result<(), NotDistrusted>,
    },
    /// An operator ends sessions.
    EndOrdered {
        /// The order.
        order: EndOrder,
        /// How many are being ended. Of a destination's all are counted: those that this node can't end stay.
        ended: Result<u64, NotEnded>,
    },
    /// Something has become of a call that is told of message by message.
    Traced(Box<Step>),
    /// An operator wants to be told of a call.
    TraceOrdered {
        /// The order.
        order: TraceOrder,
        /// Whether it is obeyed.
        done: Result<(), NotTraced>,
    },
    /// A destination that is to drain still has sessions: told at once, then every 10 s, and when its time is over.
    Draining {
        /// The set.
        set: SetId,
        /// The `destination` column.
        uri: String,
        /// One of its addresses.
        address: SocketAddr,
        /// How many.
        sessions: u64,
        /// If the order's deadline has just passed: what happens to them.
        late: Option<AtDeadline>,
    },
    /// A destination that is to drain has no session left.
    Drained {
        /// The set.
        set: SetId,
        /// The `destination` column.
        uri: String,
        /// One of its addresses.
        address: SocketAddr,
    },
    /// A received message was thrown away; the engine has counted it.
    Dropped {
        /// Why.
        cause: DropCause,
        /// The way it came.
        flow: Flow,
    },
}

/// A destination's health before and now.
#[derive(Clone, Debug)]
pub struct HealthChange {
    /// The set.
    pub set: SetId,
    /// The `destination` column.
    pub uri: String,
    /// The address whose health it is.
    pub address: SocketAddr,
    /// Before.
    pub old: Health,
    /// Now.
    pub new: Health,
    /// For how long it was the old one.
    pub lasted: Duration,
    /// The rule behind it.
    pub why: Why,
    /// What was seen last; none if time alone has changed it.
    pub cause: Option<Observation>,
}

/// What a destination's agent wanted before and wants now.
#[derive(Clone, Debug)]
pub struct AgentChange {
    /// The set.
    pub set: SetId,
    /// The `destination` column.
    pub uri: String,
    /// Its address.
    pub address: SocketAddr,
    /// Before.
    pub old: Wish,
    /// Now; none: the agent has been silent for so long that what it said does not hold.
    pub new: Option<Wish>,
}

/// What an operator sees of an initial INVITE. Text of the caller's is shown with control characters
/// escaped, and without passwords.
#[derive(Clone, Debug)]
pub struct Call {
    /// Call-ID.
    pub call_id: String,
    /// User-Agent, "" if there was none. What the caller has written is cut where it is too long.
    pub user_agent: String,
    /// The From header.
    pub from: String,
    /// The To header.
    pub to: String,
    /// The Request-URI as received.
    pub request_uri: String,
    /// Where the packet came from.
    pub source: SocketAddr,
    /// The SDP's first m= lines, no other line of it.
    pub media: Vec<String>,
    /// The rule that matched; none: answered as unroutable.
    pub rule: Option<String>,
    /// The set that the rule names.
    pub set: Option<SetId>,
    /// The URI of the destination that was chosen first.
    pub destination: Option<String>,
}

/// What a load changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Destinations that are new.
    pub added: usize,
    /// Destinations that are gone.
    pub removed: usize,
    /// Destinations whose weight, priority, state or other columns differ.
    pub changed: usize,
}

/// Why a message was thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropCause {
    /// Not SIP: no start line of RFC 3261, or a stream that can't be cut into messages.
    NotSip,
    /// A message that can't even be answered: no usable Via, From, To, Call-ID or CSeq.
    Malformed,
    /// A response that belongs to nothing we sent.
    StrayResponse,
    /// An ACK that belongs to no call that we may relay for.
    StrayAck,
    /// Larger than the limit.
    TooLarge,
    /// A request when no more transactions are allowed: it gets 503.
    Overload,
    /// From an address that the listener does not take anything from.
    RefusedSource,
}

impl DropCause {
    /// Every cause, in the order of `as usize`.
    pub const ALL: [DropCause; 7] = [
        DropCause::NotSip,
        DropCause::Malformed,
        DropCause::StrayResponse,
        DropCause::StrayAck,
        DropCause::TooLarge,
        DropCause::Overload,
        DropCause::RefusedSource,
    ];

    /// As in a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            DropCause::NotSip => "not_sip",
            DropCause::Malformed => "malformed",
            DropCause::StrayResponse => "stray_response",
            DropCause::StrayAck => "stray_ack",
            DropCause::TooLarge => "too_large",
            DropCause::Overload => "overload",
            DropCause::RefusedSource => "refused_source",
        }
    }
}
