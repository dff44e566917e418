//! Requests that this node sends for itself. Their transactions and branches are apart from those of forwarded requests, and
//! each kind's from the other's: none can take another's answers.

use bytes::Bytes;

use super::table::{ClientId, Happened, Request, Transactions};
use super::timing::Timing;
use crate::engine::clock::{Instant, Now};
use crate::engine::event::Output;
use crate::engine::flow::{Fault, Flow, ListenerId};
use crate::engine::sip::{Keys, Message, Method, Start};

/// All requests of one kind that wait for their answers. `O` is whatever their sender wants to be told with them.
#[derive(Debug)]
pub(crate) struct Originated<O> {
    keys: Keys,
    transactions: Transactions<O>,
    happened: Vec<Happened<O>>,
}

/// What a response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer<O> {
    /// Not one to a request that waits there.
    Stray,
    /// Provisional, or one that has come before.
    Absorbed,
    /// Final.
    Final(O, u16),
}

/// A request that has ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unanswered<O> {
    /// Its sender's word.
    pub(crate) owner: O,
    /// Whether its peer is out of reach; else it was silent.
    pub(crate) unreachable: bool,
    /// Whether it has not even left, for reasons of our own: that says nothing of its peer.
    pub(crate) unsent: bool,
}

impl<O: Copy> Originated<O> {
    /// None yet. `keys` make their branches and nobody else's.
    pub(crate) fn new(keys: Keys, timing: Timing) -> Self {
        Originated { keys, transactions: Transactions::new(timing, 0), happened: Vec::new() }
    }

    /// Requests that wait for an answer, or for what may still come of one.
    pub(crate) fn len(&self) -> usize {
        self.transactions.len()
    }

    /// Messages sent again.
    pub(crate) fn times_resent(&self) -> u64 {
        self.transactions.times_resent()
    }

    /// Sends a request. `compose` is given the text of its branch.
    pub(crate) fn send(
        &mut self,
        flow: Flow,
        owner: O,
        now: Now,
        out: &mut Vec<Output>,
        compose: impl FnOnce(&str) -> Bytes,
    ) -> ClientId {
        let Originated { keys, transactions, .. } = self;
        transactions.open_client(Request { invite: false, flow, shared: None, owner }, now.mono, out, |slot| {
            let branch = keys.plain_branch(slot, now.wall);
            let text = keys.branch_text(&branch);
            (compose(std::str::from_utf8(&text).expect("a branch that we made is ASCII")), branch.mac)
        })
    }

    /// Whether a response is to a request of this kind, by the look of its branch.
    pub(crate) fn wrote(&self, response: &Message<'_>) -> bool {
        response.via().branch.is_some_and(|branch| self.keys.may_have_made(branch))
    }

    /// A response, or what looks like one: it counts only from where its request went.
    pub(crate) fn response(
        &mut self,
        flow: Flow,
        message: &Message<'_>,
        now: Instant,
        out: &mut Vec<Output>,
    ) -> Answer<O> {
        let Start::Response { status, .. } = message.start() else { return Answer::Stray };
        let client = message.via().branch.and_then(|text| self.client(text, message.method()));
        let from_there = client.and_then(|client| self.transactions.flow(client)).is_some_and(|sent| {
            let same_ip = sent.peer.ip().to_canonical() == flow.peer.ip().to_canonical();
            let same_connection = sent.transport.is_reliable() && sent.connection == flow.connection;
            sent.listener == flow.listener && (same_ip || same_connection)
        });
        match client.filter(|_| from_there) {
            None => Answer::Stray,
            Some(client) => match self.transactions.heard(client, status, message, now, out) {
                Some(owner) if status >= 200 => Answer::Final(owner, status),
                Some(_) | None => Answer::Absorbed,
            },
        }
    }

    /// A way is dead.
    pub(crate) fn unreachable(&mut self, flow: Flow, now: Instant) {
        self.transactions.unreachable(flow, now, &mut self.happened);
    }

    /// The address of a listener is another node's now: what has left by it says nothing of its peers.
    pub(crate) fn lose(&mut self, listener: ListenerId, now: Instant) {
        self.transactions.lose(listener, now, &mut self.happened);
    }

    /// A request could not be sent; whether it was one of this kind.
    pub(crate) fn undelivered(&mut self, branch: &[u8], method: Method<'_>, fault: Fault, now: Instant) -> bool {
        let Some(client) = self.client(branch, method) else { return false };
        self.transactions.undelivered(client, fault, now, &mut self.happened);
        true
    }

    /// An ICMP error quotes a request; whether it ended one of this kind.
    pub(crate) fn refused(&mut self, flow: Flow, branch: &[u8], method: Method<'_>, now: Instant) -> bool {
        let client = self.client(branch, method);
        client.is_some_and(|client| self.transactions.refused(client, method, flow, now, &mut self.happened))
    }

    /// When [`Originated::wake`] is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.transactions.next_deadline()
    }

    /// Does what is due.
    pub(crate) fn wake(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.transactions.wake(now, out, &mut self.happened);
    }

    /// Takes the next request that has ended without an answer.
    pub(crate) fn next_unanswered(&mut self) -> Option<Unanswered<O>> {
        loop {
            let (client, owner, unreachable) = match self.happened.pop()? {
                Happened::TimedOut { client, owner } => (client, owner, false),
                Happened::Unreachable { client, owner } => (client, owner, true),
                Happened::Watched(_) | Happened::Quiet(_) | Happened::Ended(_) => continue,
            };
            return Some(Unanswered { owner, unreachable, unsent: self.transactions.is_unsent(client) });
        }
    }

    /// Whether a request has not even left.
    pub(crate) fn is_unsent(&self, client: ClientId) -> bool {
        self.transactions.is_unsent(client)
    }

    /// Waits for a request's answer no longer: what still comes is a stranger's.
    pub(crate) fn forget(&mut self, client: ClientId) {
        self.transactions.forget_client(client);
    }

    fn client(&self, branch: &[u8], method: Method<'_>) -> Option<ClientId> {
        self.transactions.client(&self.keys.read_branch(branch)?, method)
    }
}
