//! One call of the caller's, and what it sends beside its requests.

use std::mem;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use crate::engine::sip::{Compose, Message};
use crate::lab::leg::{self, Leg, Resend};

/// A call.
#[derive(Debug)]
pub(in crate::lab) struct Call {
    pub(super) leg: Leg,
    pub(super) cseq: u32,
    /// The branch of the INVITE, or of the OPTIONS.
    pub(super) branch: String,
    /// When the INVITE (the OPTIONS before it) was first sent; once that is answered, the BYE.
    pub(super) begun: Instant,
    /// Counted as failed already: what comes now is cleaned up and not counted.
    pub(super) given_up: bool,
    pub(super) state: State,
}

#[derive(Debug)]
pub(super) enum State {
    /// OPTIONS is sent; its final answer lets the call begin.
    Discovering(Resend),
    /// INVITE is sent, nothing heard: it is resent.
    Calling(Resend),
    /// A provisional answer has come.
    Proceeding,
    /// Answered.
    Up { ack: (SocketAddr, Bytes) },
    /// BYE is sent.
    Ending { ack: (SocketAddr, Bytes), bye: Resend },
    /// We gave up and sent CANCEL; it is resent until it is answered.
    Cancelled { cancel: Option<Resend> },
    /// Over; late copies still get their ACK.
    Over { ack: Option<(SocketAddr, Bytes)> },
}

impl Call {
    /// Takes a 2xx: from now on requests go along its route to its Contact (RFC 3261 section 12.1.2). Returns the ACK.
    pub(super) fn accept(&mut self, response: &Message<'_>, rng: &mut fastrand::Rng) -> (SocketAddr, Bytes) {
        self.leg.remote = response.to().map_or_else(String::new, |to| leg::text(to.raw));
        self.leg.target = leg::contact(response).unwrap_or_else(|| mem::take(&mut self.leg.target));
        self.leg.routes = response.record_routes().map(|route| leg::text(route.raw)).collect();
        self.leg.routes.reverse();
        self.leg.request(("ACK", self.cseq), &format!("z9hG4bK{:016x}", rng.u64(..)), &[])
    }

    /// The ACK to a final answer that is no 2xx (RFC 3261 section 17.1.1.3).
    pub(super) fn refused(&self, response: &Message<'_>) -> (SocketAddr, Bytes) {
        let to = response.to().map_or_else(String::new, |to| leg::text(to.raw));
        (self.leg.otherwise, self.beside("ACK", &to))
    }

    /// A request that goes beside the INVITE, with its branch.
    pub(super) fn beside(&self, method: &str, to: &str) -> Bytes {
        Compose::new(&self.leg.local, to, &self.leg.call_id, self.cseq)
            .via(self.leg.transport, self.leg.us, &self.branch)
            .request(method, &self.leg.target)
    }
}
