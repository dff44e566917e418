//! Requests that can not be delivered: a dead way, or an ICMP error (RFC 3261 section 17.1.4).

use std::collections::hash_map::Entry;

use super::{Cancel, Client, ClientId, ClientMachine, Happened, Transactions};
use crate::engine::clock::Instant;
use crate::engine::flow::{Fault, Flow, ListenerId};
use crate::engine::sip::Method;
use crate::engine::transaction::client_invite::ClientInvite;
use crate::engine::transaction::timing::Timing;

impl<O: Copy> Transactions<O> {
    /// A stream is dead: gives up every client transaction that waits for an answer to a request that went by it. UDP has
    /// no such end.
    pub(crate) fn unreachable(&mut self, flow: Flow, now: Instant, happened: &mut Vec<Happened<O>>) {
        let from = happened.len();
        for &client in self.by_stream.get(&flow).into_iter().flatten() {
            let Some(one) = self.clients.get_mut(client) else { continue };
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

    /// The address of a listener is another node's now: gives up what has left by it, through no fault of its peers.
    pub(crate) fn lose(&mut self, listener: ListenerId, now: Instant, happened: &mut Vec<Happened<O>>) {
        let from = happened.len();
        for (client, one) in self.clients.iter_mut().filter(|(_, one)| one.flow.listener == listener) {
            if one.give_up(now, &self.timing) {
                one.unsent = true;
                happened.push(Happened::Unreachable { client, owner: one.owner });
            }
        }
        for happened in &happened[from..] {
            if let Happened::Unreachable { client, .. } = *happened {
                self.schedule_client(client);
            }
        }
    }

    /// Takes a client transaction out: what still comes for it is a stranger's.
    pub(crate) fn forget_client(&mut self, id: ClientId) {
        let Some(client) = self.clients.remove(id) else { return };
        self.counted.invite_clients -= usize::from(client.is_invite());
        if let Some(number) = client.shared.filter(|number| self.by_shared.get(number) == Some(&id)) {
            self.by_shared.remove(&number);
        }
        if let Entry::Occupied(mut stream) = self.by_stream.entry(client.flow) {
            stream.get_mut().remove(&id);
            if stream.get().is_empty() {
                stream.remove();
            }
        }
    }

    /// The request of a client transaction could not be sent: gives it up, unless an answer shows that it has come through,
    /// or a datagram is sent again anyway.
    pub(crate) fn undelivered(&mut self, id: ClientId, fault: Fault, now: Instant, happened: &mut Vec<Happened<O>>) {
        let Some(client) = self.clients.get_mut(id) else { return };
        client.unsent = fault != Fault::Theirs;
        if fault == Fault::Passing && !client.flow.transport.is_reliable() {
            return;
        }
        let heard = matches!(client.machine, ClientMachine::Invite(ClientInvite::Proceeding { .. }));
        if !heard && client.give_up(now, &self.timing) {
            happened.push(Happened::Unreachable { client: id, owner: client.owner });
            self.schedule_client(id);
        }
    }

    /// Whether its request has once not left for reasons of our own, and nobody has refused it: that it has no answer says
    /// nothing of its peer.
    pub(crate) fn is_unsent(&self, id: ClientId) -> bool {
        self.clients.get(id).is_some_and(|client| client.unsent)
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
        client.unsent = false;
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::super::Request;
    use super::*;
    use crate::engine::flow::{ConnectionId, ListenerId, Transport};

    fn flow(transport: Transport, port: u16) -> Flow {
        let peer = ([127, 0, 0, 1], port).into();
        Flow { listener: ListenerId(0), transport, peer, connection: ConnectionId::default() }
    }

    #[test]
    fn a_dead_stream_ends_what_waits_on_it_alone_and_nothing_is_kept_of_what_has_ended() {
        let mut all = Transactions::new(Timing::default(), 7);
        let start = Instant::after_start(Duration::ZERO);
        let (mut out, mut happened) = (Vec::new(), Vec::new());
        let ways = [(Transport::Tcp, 1), (Transport::Tcp, 2), (Transport::Udp, 1), (Transport::Tcp, 1)];
        for (owner, (transport, port)) in ways.into_iter().enumerate() {
            // Two of them have the same shared branch, one after the other.
            let shared = (owner > 1).then_some(9);
            let request = Request { invite: owner != 3, flow: flow(transport, port), shared, owner };
            all.open_client(request, start, &mut out, |_| (Bytes::new(), [0; 8]));
        }
        assert_eq!((all.by_stream.len(), all.by_shared.len()), (2, 1));
        for _ in 0..2 {
            all.unreachable(flow(Transport::Tcp, 1), start, &mut happened);
        }
        let owners: Vec<_> = happened
            .drain(..)
            .map(|what| match what {
                Happened::Unreachable { owner, .. } => owner,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(owners, [0, 3], "each once");
        while let Some(at) = all.next_deadline() {
            all.wake(at, &mut out, &mut happened);
        }
        assert_eq!((all.len(), all.by_stream.len(), all.by_shared.len()), (0, 0, 0));
    }
}
