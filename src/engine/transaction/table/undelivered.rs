//! A request that a stream could not carry: RFC 3261 section 17.1.4.

use super::{ClientId, ClientMachine, Happened, Transactions};
use crate::engine::transaction::client_invite::ClientInvite;
use crate::engine::transaction::client_non_invite::ClientNonInvite;

impl<O: Copy> Transactions<O> {
    /// The request of a client transaction could not be sent: ends it, unless an answer shows that it has been.
    pub(crate) fn undelivered(&mut self, client: ClientId, happened: &mut Vec<Happened<O>>) {
        let nothing_heard = self.clients.get(client).is_some_and(|one| match &one.machine {
            ClientMachine::Invite(machine) => matches!(machine, ClientInvite::Calling { .. }),
            ClientMachine::NonInvite(machine) => matches!(machine, ClientNonInvite::Trying { .. }),
        });
        if let Some(one) = self.clients.get(client).filter(|_| nothing_heard) {
            happened.push(Happened::Unreachable { client, owner: one.owner });
            self.clients.remove(client);
        }
    }
}
