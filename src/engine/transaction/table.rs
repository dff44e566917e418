//! All transactions: found by key or branch, woken by one wheel.

mod counted;
mod let_go;
mod schedule;
mod undelivered;

use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasherDefault;

use bytes::Bytes;
use slotmap::{Key as _, KeyData, SlotMap, new_key_type};

use self::counted::Counted;
pub use self::counted::TransactionKind;
use self::schedule::{earlier, schedule};
use super::client_invite::ClientInvite;
use super::client_non_invite::ClientNonInvite;
use super::entry::{Cancel, Client, ClientMachine, Server, ServerMachine};
use super::key::Key;
use super::machine::{Fires, Hears};
use super::server_invite::{Acked, ServerInvite};
use super::server_non_invite::ServerNonInvite;
use super::timing::Timing;
use crate::engine::clock::Instant;
use crate::engine::event::Output;
use crate::engine::flow::Flow;
use crate::engine::sip::{self, Branch, Hashed, Message, Method};
use crate::engine::wheel::Wheel;

new_key_type! {
    /// A server transaction: a request that we received.
    pub struct ServerId;
    /// A client transaction: a request that we sent.
    pub struct ClientId;
}

/// Every transaction of this node. `O` is whatever the sender of a request wants to be told with its answers.
#[derive(Debug)]
pub(crate) struct Transactions<O> {
    timing: Timing,
    /// What the numbers in branches are mixed with, so that no other node's branch for the same request is like ours.
    mark: u64,
    servers: SlotMap<ServerId, Server>,
    by_key: HashMap<Key, ServerId, BuildHasherDefault<Hashed>>,
    clients: SlotMap<ClientId, Client<O>>,
    /// Those with shared branches, by the numbers in these.
    by_shared: HashMap<u64, ClientId, BuildHasherDefault<Hashed>>,
    /// Those whose requests go by a stream, by the way: it may die under them.
    by_stream: HashMap<Flow, BTreeSet<ClientId>>,
    wheel: Wheel<Id>,
    due: Vec<(Instant, Id)>,
    counted: Counted,
}

#[derive(Clone, Copy, Debug)]
enum Id {
    Server(ServerId),
    Client(ClientId),
}

/// A request that a client transaction sends.
#[derive(Debug)]
pub(crate) struct Request<O> {
    /// Whether it is an INVITE.
    pub(crate) invite: bool,
    /// The way it goes.
    pub(crate) flow: Flow,
    /// The number in its branch if that is a shared one.
    pub(crate) shared: Option<u64>,
    /// What its sender is told with its answers.
    pub(crate) owner: O,
}

/// What time brought, or a dead way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happened<O> {
    /// Timer B or F: nobody answered.
    TimedOut {
        /// The transaction, which only absorbs what still comes.
        client: ClientId,
        /// Its sender's word.
        owner: O,
    },
    /// The request could not be delivered.
    Unreachable {
        /// The transaction, which only absorbs what still comes.
        client: ClientId,
        /// Its sender's word.
        owner: O,
    },
    /// The time that [`Transactions::watch`] asked for has come.
    Watched(ServerId),
    /// A request other than INVITE has gone unanswered so long that its sender should be told 100.
    Quiet(ServerId),
    /// A server transaction is at its end.
    Ended(ServerId),
}

impl<O: Copy> Transactions<O> {
    /// No transactions. `mark` is another one for each node that has the same keys, and for each start.
    pub(crate) fn new(timing: Timing, mark: u64) -> Self {
        Transactions {
            timing,
            mark,
            servers: SlotMap::with_key(),
            by_key: HashMap::default(),
            clients: SlotMap::with_key(),
            by_shared: HashMap::default(),
            by_stream: HashMap::new(),
            wheel: Wheel::new(),
            due: Vec::new(),
            counted: Counted::default(),
        }
    }

    /// Transactions in being, client and server.
    pub(crate) fn len(&self) -> usize {
        self.servers.len() + self.clients.len()
    }

    /// Server transactions that wait for an answer of the other side, or for the ACK to one. Looks at them all.
    pub(crate) fn open_servers(&self) -> usize {
        self.servers.values().filter(|server| server.is_open()).count()
    }

    /// The server transaction of that key.
    pub(crate) fn server(&self, key: Key) -> Option<ServerId> {
        self.by_key.get(&key).copied()
    }

    /// Opens a server transaction; its answers go by `answer`.
    pub(crate) fn open_server(&mut self, key: Key, invite: bool, answer: Flow, now: Instant) -> ServerId {
        let machine = match invite {
            true => ServerMachine::Invite(ServerInvite::Proceeding),
            false => ServerMachine::NonInvite(ServerNonInvite::start(now, &self.timing)),
        };
        let server = Server { machine, key, flow: answer, last: None, watch: None, scheduled: None };
        let id = self.servers.insert(server);
        self.counted.invite_servers += usize::from(invite);
        self.by_key.insert(key, id);
        self.schedule_server(id, now);
        id
    }

    /// The request of a server transaction has come again.
    pub(crate) fn resent(&mut self, id: ServerId, out: &mut Vec<Output>) {
        let Some(server) = self.servers.get(id) else { return };
        let again = match &server.machine {
            ServerMachine::Invite(machine) => machine.resent(),
            ServerMachine::NonInvite(machine) => machine.resent(),
        };
        if let Some(bytes) = server.last.clone().filter(|_| again) {
            self.counted.resent += 1;
            out.push(Output::Send { flow: server.flow, bytes });
        }
    }

    /// Answers the request of a server transaction.
    pub(crate) fn respond(&mut self, id: ServerId, status: u16, bytes: Bytes, now: Instant, out: &mut Vec<Output>) {
        let Some(server) = self.servers.get_mut(id) else { return };
        let reliable = server.flow.transport.is_reliable();
        let goes = match &mut server.machine {
            ServerMachine::Invite(machine) => machine.respond(status, reliable, now, &self.timing),
            ServerMachine::NonInvite(machine) => machine.respond(status, reliable, now, &self.timing),
        };
        if !goes {
            return;
        }
        if status >= 200 {
            server.watch = None;
        }
        // A 2xx to an INVITE is sent again by its sender, never by us.
        server.last = match &server.machine {
            ServerMachine::Invite(ServerInvite::Accepted { .. }) => None,
            ServerMachine::Invite(_) | ServerMachine::NonInvite(_) => Some(bytes.clone()),
        };
        out.push(Output::Send { flow: server.flow, bytes });
        self.schedule_server(id, now);
    }

    /// An ACK for an INVITE server transaction has come.
    pub(crate) fn acked(&mut self, id: ServerId, now: Instant) -> Acked {
        let Some(Server { machine: ServerMachine::Invite(machine), last, flow, .. }) = self.servers.get_mut(id) else {
            return Acked::Absorbed;
        };
        let acked = machine.acked(flow.transport.is_reliable(), now, &self.timing);
        if !machine.resent() {
            *last = None;
        }
        self.schedule_server(id, now);
        acked
    }

    /// What an ACK would be taken for.
    pub(crate) fn would_ack(&self, id: ServerId, now: Instant) -> Acked {
        match self.servers.get(id) {
            Some(Server { machine: ServerMachine::Invite(machine), flow, .. }) => {
                machine.clone().acked(flow.transport.is_reliable(), now, &self.timing)
            }
            Some(_) | None => Acked::Absorbed,
        }
    }

    /// The way that the answers of a server transaction go.
    pub(crate) fn way_back(&self, id: ServerId) -> Option<Flow> {
        self.servers.get(id).map(|server| server.flow)
    }

    /// Whether the answers of a server transaction go by a stream.
    pub(crate) fn goes_by_stream(&self, id: ServerId) -> bool {
        self.servers.get(id).is_some_and(|server| server.flow.transport.is_reliable())
    }

    /// Asks for [`Happened::Watched`] at that time.
    pub(crate) fn watch(&mut self, id: ServerId, at: Instant, now: Instant) {
        if let Some(server) = self.servers.get_mut(id) {
            server.watch = Some(at);
            self.schedule_server(id, now);
        }
    }

    /// When an INVITE that is heard of now counts as abandoned: timer C.
    pub(crate) fn timer_c(&self, now: Instant) -> Instant {
        now + self.timing.timer_c
    }

    /// Ends a server transaction that will not be answered.
    pub(crate) fn forget(&mut self, id: ServerId) {
        if let Some(server) = self.servers.remove(id) {
            self.counted.invite_servers -= usize::from(server.is_invite());
            self.by_key.remove(&server.key);
        }
    }

    /// Sends a request. `make` is given the number to put into the branch if that is none that is shared, and gives the
    /// message with the branch's MAC.
    pub(crate) fn open_client(
        &mut self,
        request: Request<O>,
        now: Instant,
        out: &mut Vec<Output>,
        make: impl FnOnce(u64) -> (Bytes, [u8; 8]),
    ) -> ClientId {
        let Request { invite, flow, shared, owner } = request;
        let reliable = flow.transport.is_reliable();
        let machine = match invite {
            true => ClientMachine::Invite(ClientInvite::start(reliable, now, &self.timing)),
            false => ClientMachine::NonInvite(ClientNonInvite::start(reliable, now, &self.timing)),
        };
        let id = self.clients.insert_with_key(|id| {
            let (bytes, mac) = make(id.data().as_ffi() ^ self.mark);
            out.push(Output::Send { flow, bytes: bytes.clone() });
            Client { machine, owner, flow, bytes, mac, shared, cancel: Cancel::No, unsent: false, scheduled: None }
        });
        self.counted.invite_clients += usize::from(invite);
        if let Some(number) = shared {
            // If one is left that is waited for no more, the answers are the new one's.
            self.by_shared.insert(number, id);
        }
        if reliable {
            self.by_stream.entry(flow).or_default().insert(id);
        }
        self.schedule_client(id);
        id
    }

    /// The client transaction that a response with this branch of ours and this method in CSeq belongs to (section
    /// 17.1.3); a CANCEL's is its INVITE's.
    pub(crate) fn client(&self, branch: &Branch, method: Method<'_>) -> Option<ClientId> {
        let id = match branch.is_shared() {
            true => *self.by_shared.get(&branch.slot)?,
            false => ClientId::from(KeyData::from_ffi(branch.slot ^ self.mark)),
        };
        let client = self.clients.get(id)?;
        let fits = match (&client.machine, method) {
            (ClientMachine::Invite(_), Method::Invite | Method::Cancel) => true,
            (ClientMachine::Invite(_), _) | (ClientMachine::NonInvite(_), Method::Invite | Method::Cancel) => false,
            (ClientMachine::NonInvite(_), _) => true,
        };
        (fits && client.mac == branch.mac).then_some(id)
    }

    /// A response to a client transaction's request; its sender's word if it should hear of it.
    pub(crate) fn heard(
        &mut self,
        id: ClientId,
        status: u16,
        response: &Message<'_>,
        now: Instant,
        out: &mut Vec<Output>,
    ) -> Option<O> {
        let client = self.clients.get_mut(id)?;
        let reliable = client.flow.transport.is_reliable();
        if response.method() == Method::Cancel {
            if let Cancel::Sent(cancel) = &mut client.cancel {
                cancel.0.hear(status, reliable, now, &self.timing);
            }
            return None;
        }
        let hears = match &mut client.machine {
            ClientMachine::Invite(machine) => machine.hear(status, reliable, now, &self.timing),
            ClientMachine::NonInvite(machine) => machine.hear(status, reliable, now, &self.timing),
        };
        match hears {
            Hears::Absorb => {}
            Hears::Pass if status < 200 => client.send_wanted_cancel(now, &self.timing, out),
            // Nothing of it is ever sent again, and it may linger for 32 s.
            Hears::Pass => client.bytes = Bytes::new(),
            Hears::PassAndAck => {
                let ack = sip::ack(&client.invite(), response);
                client.bytes = ack;
                client.send(out);
            }
            Hears::Ack => {
                self.counted.resent += 1;
                client.send(out);
            }
        }
        if status >= 200 {
            client.cancel = Cancel::No;
        }
        let owner = client.owner;
        self.schedule_client(id);
        matches!(hears, Hears::Pass | Hears::PassAndAck).then_some(owner)
    }

    /// Cancels an INVITE that has no final answer yet (section 9.1), at once or as soon as a provisional has come.
    pub(crate) fn cancel(&mut self, id: ClientId, now: Instant, out: &mut Vec<Output>) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if !matches!(client.cancel, Cancel::No) {
            return;
        }
        client.cancel = Cancel::Wanted;
        if matches!(client.machine, ClientMachine::Invite(ClientInvite::Proceeding { .. })) {
            client.send_wanted_cancel(now, &self.timing, out);
            self.schedule_client(id);
        }
    }

    /// The word of who has sent a request.
    pub(crate) fn owner(&self, id: ClientId) -> Option<O> {
        self.clients.get(id).map(|client| client.owner)
    }

    /// The way that a client transaction's request went.
    pub(crate) fn flow(&self, id: ClientId) -> Option<Flow> {
        self.clients.get(id).map(|client| client.flow)
    }

    /// The request of a client transaction, as long as it may have to be sent again.
    pub(crate) fn request(&self, id: ClientId) -> Option<&Bytes> {
        self.clients.get(id).map(|client| &client.bytes)
    }

    /// Gives a request up: it is not sent again, an INVITE is cancelled as soon as its receiver can be told. It is known for
    /// 64*T1 more, so that what still comes finds its owner.
    pub(crate) fn abandon(&mut self, id: ClientId, now: Instant, out: &mut Vec<Output>) {
        self.cancel(id, now, out);
        let Some(client) = self.clients.get_mut(id) else { return };
        match &mut client.machine {
            ClientMachine::Invite(machine) => machine.abandon(now, &self.timing),
            ClientMachine::NonInvite(machine) => machine.abandon(now, &self.timing),
        };
        self.schedule_client(id);
    }

    /// When [`Transactions::wake`] is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.wheel.next()
    }

    /// Does what is due, and appends what users should hear of.
    pub(crate) fn wake(&mut self, now: Instant, out: &mut Vec<Output>, happened: &mut Vec<Happened<O>>) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.advance(now, &mut due);
        for (at, id) in due.drain(..) {
            match id {
                Id::Server(id) => self.wake_server(id, at, now, out, happened),
                Id::Client(id) => self.wake_client(id, at, now, out, happened),
            }
        }
        self.due = due;
    }

    fn wake_server(
        &mut self,
        id: ServerId,
        at: Instant,
        now: Instant,
        out: &mut Vec<Output>,
        happened: &mut Vec<Happened<O>>,
    ) {
        let Some(server) = self.servers.get_mut(id).filter(|server| server.scheduled == Some(at)) else { return };
        server.scheduled = None;
        if server.watch.is_some_and(|watch| watch <= now) {
            server.watch = None;
            happened.push(Happened::Watched(id));
        }
        let (resend, ended) = match &mut server.machine {
            ServerMachine::Invite(machine) => {
                (machine.wake(now, &self.timing) == Fires::Resend, *machine == ServerInvite::Terminated)
            }
            ServerMachine::NonInvite(machine) => {
                if machine.wake(now) {
                    happened.push(Happened::Quiet(id));
                }
                (false, *machine == ServerNonInvite::Terminated)
            }
        };
        if let Some(bytes) = server.last.clone().filter(|_| resend) {
            self.counted.resent += 1;
            out.push(Output::Send { flow: server.flow, bytes });
        }
        if ended {
            self.forget(id);
            return happened.push(Happened::Ended(id));
        }
        self.schedule_server(id, now);
    }

    fn wake_client(
        &mut self,
        id: ClientId,
        at: Instant,
        now: Instant,
        out: &mut Vec<Output>,
        happened: &mut Vec<Happened<O>>,
    ) {
        let Some(client) = self.clients.get_mut(id).filter(|client| client.scheduled == Some(at)) else { return };
        client.scheduled = None;
        if let Cancel::Sent(cancel) = &mut client.cancel
            && cancel.0.wake(now, &self.timing) == Fires::Resend
        {
            self.counted.resent += 1;
            out.push(Output::Send { flow: client.flow, bytes: cancel.1.clone() });
        }
        let (fires, ended) = match &mut client.machine {
            ClientMachine::Invite(machine) => (machine.wake(now, &self.timing), *machine == ClientInvite::Terminated),
            ClientMachine::NonInvite(machine) => {
                (machine.wake(now, &self.timing), *machine == ClientNonInvite::Terminated)
            }
        };
        let owner = client.owner;
        match fires {
            Fires::Nothing => {}
            Fires::Resend => {
                self.counted.resent += 1;
                client.send(out);
            }
            Fires::GiveUp => {
                if matches!(client.cancel, Cancel::No) {
                    client.cancel = Cancel::Wanted;
                }
                happened.push(Happened::TimedOut { client: id, owner });
            }
        }
        match ended {
            true => self.forget_client(id),
            false => self.schedule_client(id),
        }
    }

    fn schedule_server(&mut self, id: ServerId, now: Instant) {
        let Some(server) = self.servers.get_mut(id) else { return };
        let deadline = match &server.machine {
            ServerMachine::Invite(machine) => machine.deadline(),
            ServerMachine::NonInvite(machine) => machine.deadline(),
        };
        // Looked at again at least that often, so that no entry outlives its transaction for long.
        let longest = now + self.timing.give_up();
        let deadline = earlier(deadline, server.watch.map(|watch| watch.min(longest)));
        schedule(&mut self.wheel, &mut server.scheduled, deadline, Id::Server(id));
    }

    fn schedule_client(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let deadline = match &client.machine {
            ClientMachine::Invite(machine) => machine.deadline(),
            ClientMachine::NonInvite(machine) => machine.deadline(),
        };
        let of_cancel = match &client.cancel {
            Cancel::No | Cancel::Wanted => None,
            Cancel::Sent(cancel) => cancel.0.deadline(),
        };
        schedule(&mut self.wheel, &mut client.scheduled, earlier(deadline, of_cancel), Id::Client(id));
    }
}
