//! What would become of a message, and why: `tandem explain`. Made by the very code that decides, on copies, so nothing is
//! sent and nothing changes.

use std::net::SocketAddr;

use thiserror::Error;

use crate::engine::dispatch::{SetId, SetTold};
use crate::engine::flow::{ListenerId, Transport};
use crate::engine::route::RuleTold;
use crate::engine::sip::NotSip;

/// The way that the message would have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Came {
    /// The sender; none: as the Via says.
    pub source: Option<SocketAddr>,
    /// Our end; none: the first that reaches the sender.
    pub listener: Option<ListenerId>,
}

/// Why there is nothing to explain.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Unexplained {
    /// It is no message.
    #[error("not a SIP message: {0}: give a request, its first line as `INVITE sip:127.0.0.1:8060 SIP/2.0`")]
    NotSip(NotSip),
    /// Nobody routes responses.
    #[error(
        "this is a response ({status}): no rule is asked for it, it goes to the sender of its request by its second Via. \
         Give a request"
    )]
    Response {
        /// Its status.
        status: u16,
    },
    /// There is no way in.
    #[error("there is no listener that a message could have come by: add a [[listener]]")]
    NoListener,
}

/// What would become of a message, or why there is nothing to explain.
pub type Explained = Result<Explanation, Unexplained>;

/// What would become of a request, and why.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The method.
    pub method: String,
    /// The Request-URI as received.
    pub request_uri: String,
    /// The Call-ID.
    pub call_id: String,
    /// Who sent it.
    pub source: SocketAddr,
    /// The listener that it came by, as the configuration writes it.
    pub listener: String,
    /// What is to be known beside.
    pub notes: Vec<String>,
    /// The rules in order; empty if none is asked.
    pub rules: Vec<RuleTold>,
    /// The set that the rule names and those that it overflows to, as far as they are asked.
    pub sets: Vec<SetTold>,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes to the first of these that takes it.
    Sent {
        /// The set.
        set: SetId,
        /// The first choice, then those that are tried when it fails.
        tries: Vec<Try>,
        /// How many are tried at most.
        most: usize,
    },
    /// It goes by its route.
    Relayed {
        /// The Request-URI that it leaves with.
        request_uri: String,
        /// Where it goes.
        peer: SocketAddr,
        /// By what.
        transport: Transport,
        /// The listener that it leaves by.
        listener: String,
        /// Why.
        why: String,
    },
    /// It goes by its route, once that name has been looked up.
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

/// A destination that would be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Try {
    /// The `destination` column.
    pub uri: String,
    /// Its address.
    pub address: SocketAddr,
    /// The way; none if no listener of ours leads there: it is passed over.
    pub way: Option<Way>,
}

/// How a request would leave for a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The transport; TCP for what is too large for a datagram.
    pub transport: Transport,
    /// The listener that it leaves by.
    pub listener: String,
    /// The Request-URI.
    pub request_uri: String,
}
