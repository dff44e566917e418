//! What the table keeps of one transaction: its machine, its way, and what may have to be sent again.

use bytes::Bytes;

use super::client_invite::ClientInvite;
use super::client_non_invite::ClientNonInvite;
use super::key::Key;
use super::server_invite::ServerInvite;
use super::server_non_invite::ServerNonInvite;
use super::timing::Timing;
use crate::engine::clock::Instant;
use crate::engine::event::Output;
use crate::engine::flow::Flow;
use crate::engine::sip::{self, Message};

/// A server transaction.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) machine: ServerMachine,
    pub(super) key: Key,
    /// The way that answers go.
    pub(super) flow: Flow,
    /// The last answer, for when the request comes again.
    pub(super) last: Option<Bytes>,
    /// When the user wants to be asked about it (timer C).
    pub(super) watch: Option<Instant>,
    /// The one entry of the wheel that counts.
    pub(super) scheduled: Option<Instant>,
}

/// Either machine of a server.
#[derive(Debug)]
pub(super) enum ServerMachine {
    Invite(ServerInvite),
    NonInvite(ServerNonInvite),
}

/// A client transaction.
#[derive(Debug)]
pub(super) struct Client<O> {
    pub(super) machine: ClientMachine,
    pub(super) owner: O,
    pub(super) flow: Flow,
    /// What goes out again: the request; once an INVITE has failed its ACK; nothing when neither is needed any more.
    pub(super) bytes: Bytes,
    /// Of the branch: an answer must bear it.
    pub(super) mac: [u8; 8],
    /// The number in its branch if that is a shared one.
    pub(super) shared: Option<u64>,
    pub(super) cancel: Cancel,
    /// Whether it has once not left, for reasons of our own: silence says nothing of the peer then.
    pub(super) unsent: bool,
    pub(super) scheduled: Option<Instant>,
}

/// Either machine of a client.
#[derive(Debug)]
pub(super) enum ClientMachine {
    Invite(ClientInvite),
    NonInvite(ClientNonInvite),
}

/// How far the CANCEL of an INVITE is.
#[derive(Debug)]
pub(super) enum Cancel {
    /// Nobody asked for it.
    No,
    /// Asked for; it may go out once a provisional response has come (section 9.1).
    Wanted,
    /// Sent, with a transaction of its own under the INVITE's branch.
    Sent(Box<(ClientNonInvite, Bytes)>),
}

impl Server {
    /// Whether something is still to come, other than the request once more.
    pub(super) fn is_open(&self) -> bool {
        match &self.machine {
            ServerMachine::Invite(machine) => machine.resent(),
            ServerMachine::NonInvite(machine) => {
                matches!(machine, ServerNonInvite::Trying { .. } | ServerNonInvite::Proceeding)
            }
        }
    }
}

impl<O> Client<O> {
    pub(super) fn invite(&self) -> Message<'_> {
        Message::parse(&self.bytes).expect("an INVITE that we have sent")
    }

    pub(super) fn send(&self, out: &mut Vec<Output>) {
        out.push(Output::Send { flow: self.flow, bytes: self.bytes.clone() });
    }

    pub(super) fn send_wanted_cancel(&mut self, now: Instant, timing: &Timing, out: &mut Vec<Output>) {
        let (Cancel::Wanted, ClientMachine::Invite(machine)) = (&self.cancel, &mut self.machine) else { return };
        machine.cancelled(now, timing);
        let bytes = sip::cancel(&self.invite());
        out.push(Output::Send { flow: self.flow, bytes: bytes.clone() });
        let machine = ClientNonInvite::start(self.flow.transport.is_reliable(), now, timing);
        self.cancel = Cancel::Sent(Box::new((machine, bytes)));
    }
}
