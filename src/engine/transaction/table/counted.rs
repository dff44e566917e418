//! How many transactions there are of each kind, and how often they have sent something again.

use super::{Client, ClientMachine, Server, ServerMachine, Transactions};

/// A kind of transactions: who began them, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransactionKind {
    /// An INVITE that was sent.
    ClientInvite,
    /// An INVITE that was received.
    ServerInvite,
    /// Any other request that was sent.
    ClientOther,
    /// Any other request that was received.
    ServerOther,
}

impl TransactionKind {
    /// Each of them, in the order of `as usize`.
    pub const ALL: [TransactionKind; 4] = [
        TransactionKind::ClientInvite,
        TransactionKind::ServerInvite,
        TransactionKind::ClientOther,
        TransactionKind::ServerOther,
    ];

    /// As in a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            TransactionKind::ClientInvite => "client_invite",
            TransactionKind::ServerInvite => "server_invite",
            TransactionKind::ClientOther => "client_other",
            TransactionKind::ServerOther => "server_other",
        }
    }
}

/// What is counted beside the tables, which know how many they hold in all.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    pub(super) invite_clients: usize,
    pub(super) invite_servers: usize,
    /// Messages sent again.
    pub(super) resent: u64,
}

impl<O> Transactions<O> {
    /// Transactions in being, in the order of [`TransactionKind::ALL`].
    pub(crate) fn kinds(&self) -> [usize; TransactionKind::ALL.len()] {
        let Counted { invite_clients, invite_servers, .. } = self.counted;
        [
            invite_clients,
            invite_servers,
            self.clients.len().saturating_sub(invite_clients),
            self.servers.len().saturating_sub(invite_servers),
        ]
    }

    /// Messages sent again: by a timer, or since the other side's came again.
    pub(crate) fn times_resent(&self) -> u64 {
        self.counted.resent
    }
}

impl Server {
    pub(super) fn is_invite(&self) -> bool {
        match &self.machine {
            ServerMachine::Invite(_) => true,
            ServerMachine::NonInvite(_) => false,
        }
    }
}

impl<O> Client<O> {
    pub(super) fn is_invite(&self) -> bool {
        match &self.machine {
            ClientMachine::Invite(_) => true,
            ClientMachine::NonInvite(_) => false,
        }
    }
}
