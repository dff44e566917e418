//! Requests that can not be delivered: a dead way, or an ICMP error (RFC 3261 section 17.1.4).

use super::{Cancel, Client, ClientId, ClientMachine, Happened, Transactions};
use crate::engine::clock::Instant;
use crate::engine::flow::Flow;
use crate::engine::sip::Method;
use crate::engine::transaction::client_invite::ClientInvite;
use crate::engine::transaction::timing::Timing;

impl<O: Copy> Transactions<O> {
    /// A way is dead: gives up every client transaction that waits for an answer to a request that went by it.
    pub(crate) fn unreachable(&mut self, flow: Flow, now: Instant, happened: &mut Vec<Happened<O>>) {
        let from = happened.len();
        for (client, one) in self.clients.iter_mut().filter(|(_, one)| one.flow == flow) {
            if one.give_up(now, &self.timing) {
                happened.push(Happened::Unreachable { client, owner: one.owner });
            }
        }
        for happened in &happened[from..] {
            if let Happened::Unreachable { client, .. } = *happened {
                self.schedule_client(client);
            }
        }
    }

    /// A stream could not carry the request of a client transaction: gives it up, unless an answer shows that it could.
    pub(crate) fn undelivered(&mut self, id: ClientId, now: Instant, happened: &mut Vec<Happened<O>>) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let heard = matches!(client.machine, ClientMachine::Invite(ClientInvite::Proceeding { .. }));
        if !heard && client.give_up(now, &self.timing) {
            happened.push(Happened::Unreachable { client: id, owner: client.owner });
            self.schedule_client(id);
        }
    }

    /// The host of `flow` refused a request of that method, which [`Transactions::client`] has found: gives that one
    /// transaction up if it went there and still waits. Returns whether it did.
    pub(crate) fn refused(
        &mut self,
        id: ClientId,
        method: Method<'_>,
        flow: Flow,
        now: Instant,
        happened: &mut Vec<Happened<O>>,
    ) -> bool {
        let Some(client) = self.clients.get_mut(id) else { return false };
        // Without what the kernel adds to an IPv6 address: a flow label, a scope.
        let way = |flow: Flow| (flow.listener, flow.transport, flow.peer.ip(), flow.peer.port());
        // No INVITE is sent again after a provisional response, so the error is older than that.
        let outdated = method == Method::Invite
            && matches!(client.machine, ClientMachine::Invite(ClientInvite::Proceeding { .. }));
        if way(client.flow) != way(flow) || outdated || !client.give_up(now, &self.timing) {
            return false;
        }
        happened.push(Happened::Unreachable { client: id, owner: client.owner });
        self.schedule_client(id);
        true
    }
}

impl<O> Client<O> {
    /// Waits no longer; whether it did until now.
    fn give_up(&mut self, now: Instant, timing: &Timing) -> bool {
        let waited = match &mut self.machine {
            ClientMachine::Invite(machine) => machine.abandon(now, timing),
            ClientMachine::NonInvite(machine) => machine.abandon(now, timing),
        };
        if waited {
            // No CANCEL is repeated there; but if the request came through all the same, its first 1xx brings one.
            self.cancel = Cancel::Wanted;
        }
        waited
    }
}
