//! Transactions of an address that is another node's now: no answer can come or go by it any more.

use super::{ClientId, ServerId, Transactions};
use crate::engine::flow::ListenerId;

/// What was let go of.
#[derive(Debug)]
pub(crate) struct LetGo<O> {
    /// Requests whose answers would have left by the listeners.
    pub(crate) servers: Vec<ServerId>,
    /// Requests that had left by them, each with its sender's word.
    pub(crate) clients: Vec<(ClientId, O)>,
}

impl<O: Copy> Transactions<O> {
    /// Takes out every transaction of some listeners without a word to anybody: what still comes for one is a stranger's.
    pub(crate) fn let_go(&mut self, listeners: &[ListenerId]) -> LetGo<O> {
        let servers = self.servers.iter().filter(|(_, server)| listeners.contains(&server.flow.listener));
        let servers: Vec<_> = servers.map(|(id, _)| id).collect();
        let clients = self.clients.iter().filter(|(_, client)| listeners.contains(&client.flow.listener));
        let clients: Vec<_> = clients.map(|(id, client)| (id, client.owner)).collect();
        servers.iter().for_each(|id| self.forget(*id));
        clients.iter().for_each(|(id, _)| self.forget_client(*id));
        LetGo { servers, clients }
    }
}
