//! Probes: who is due, what is asked, and what has become of it. A probe is known by its own transaction (never by the text
//! of a URI), and its transactions and branches are apart from the proxy's: neither can take the other's answers. Beside them
//! stand the agents, which are asked what they want.

mod agents;
mod message;
mod schedule;

use std::time::Duration;

use slotmap::{Key as _, KeyData, SecondaryMap, SlotMap, new_key_type};

pub(crate) use self::agents::Agents;
use self::message::{Probe as Request, compose};
use self::schedule::Schedule;
use crate::engine::clock::{Instant, Now};
use crate::engine::dispatch::{CheckKind, DestinationId, Dispatch, Health, Order, Outcome, Seen, SipProbe, When};
use crate::engine::event::{CheckId, CheckTarget, DropCause, Event, Output};
use crate::engine::flow::{ConnectionId, Fault, Flow, Listener, ListenerId, Role, Transport};
use crate::engine::sip::{Keys, Message, Method, mrcp_port};
use crate::engine::snapshot::Totals;
use crate::engine::transaction::timing::Timing;
use crate::engine::transaction::{Answer, ClientId, Originated, Unanswered};
use crate::engine::wheel::Wheel;

new_key_type! {
    /// A probe that waits for its end.
    pub(crate) struct ProbeId;
}

/// How much longer than its timeout a check of the edge's is waited for.
const GRACE: Duration = Duration::from_secs(1);
/// The most probes that leave in one turn; the others wait for another.
const SENDS_A_TURN: u32 = 100;
/// For so long.
const PAUSE: Duration = Duration::from_millis(10);

/// What a probe is of.
#[derive(Clone, Copy, Debug)]
struct Probe {
    destination: DestinationId,
    /// Which check of its probing.
    check: usize,
    sent: Instant,
    /// Its transaction, if it is SIP.
    client: Option<ClientId>,
}

/// What comes with time.
#[derive(Clone, Copy, Debug)]
enum Due {
    Send(DestinationId, usize),
    TimeOut(ProbeId),
}

/// All probes of this node.
#[derive(Debug)]
pub(crate) struct Prober {
    requests: Originated<ProbeId>,
    /// The node's own: an answer to what leaves by a virtual address may go to the other node.
    listeners: Vec<Listener>,
    schedules: SecondaryMap<DestinationId, Schedule>,
    probes: SlotMap<ProbeId, Probe>,
    due: Wheel<Due>,
    chance: fastrand::Rng,
    /// Destinations that have been given a place in time.
    placed: u64,
}

/// What the prober works on but does not own.
pub(crate) struct Scene<'s> {
    pub(crate) dispatch: &'s mut Dispatch,
    pub(crate) totals: &'s mut Totals,
    pub(crate) now: Now,
    pub(crate) out: &'s mut Vec<Output>,
}

impl Prober {
    /// A prober without destinations. `seed` makes its tags and its jitter.
    pub(crate) fn new(keys: &Keys, listeners: &[Listener], timing: Timing, seed: u64) -> Self {
        Prober {
            requests: Originated::new(keys.of_probes(), timing),
            listeners: listeners.iter().filter(|listener| listener.role == Role::Node).cloned().collect(),
            schedules: SecondaryMap::new(),
            probes: SlotMap::with_key(),
            due: Wheel::new(),
            chance: fastrand::Rng::with_seed(seed),
            placed: 0,
        }
    }

    /// Gives each destination that is new a place in time. Those that are gone drop out when they would be due.
    pub(crate) fn place(&mut self, dispatch: &Dispatch, now: Now) {
        let Prober { schedules, due, placed, .. } = self;
        let mut early = 0;
        for (id, probing) in dispatch.probed().filter(|(_, probing)| !probing.checks.is_empty()) {
            if schedules.contains_key(id) {
                continue;
            }
            let mut schedule = Schedule::new(probing, *placed, now.mono);
            *placed += 1;
            for check in 0..probing.checks.len() {
                due.insert(schedule.first(check, early, now.mono), Due::Send(id, check));
                early += 1;
            }
            schedules.insert(id, schedule);
        }
    }

    /// Whether a response is to a request of the prober's, by the look of its branch.
    pub(crate) fn wrote(&self, response: &Message<'_>) -> bool {
        self.requests.wrote(response)
    }

    /// A response to a probe, or what looks like one.
    pub(crate) fn response(&mut self, scene: &mut Scene<'_>, flow: Flow, message: &Message<'_>) {
        match self.requests.response(flow, message, scene.now.mono, scene.out) {
            Answer::Stray => {
                scene.totals.dropped[DropCause::StrayResponse as usize] += 1;
                scene.out.push(Output::Event(Event::Dropped { cause: DropCause::StrayResponse, flow }));
            }
            Answer::Absorbed => {}
            Answer::Final(id, status) => {
                if let Some(probe) = self.probes.get(id) {
                    scene.dispatch.note_probed_port(probe.destination, mrcp_port(message.body()));
                }
                self.conclude(scene, id, Outcome::Answered { status, retry_after: message.retry_after() });
            }
        }
    }

    /// A way is dead.
    pub(crate) fn unreachable(&mut self, scene: &mut Scene<'_>, flow: Flow) {
        self.requests.unreachable(flow, scene.now.mono);
        self.take_unanswered(scene);
    }

    /// A request could not be sent; whether it was a probe.
    pub(crate) fn undelivered(
        &mut self,
        scene: &mut Scene<'_>,
        branch: &[u8],
        method: Method<'_>,
        fault: Fault,
    ) -> bool {
        let ours = self.requests.undelivered(branch, method, fault, scene.now.mono);
        self.take_unanswered(scene);
        ours
    }

    /// An ICMP error quotes a request of ours; whether it ended a probe.
    pub(crate) fn refused(&mut self, scene: &mut Scene<'_>, flow: Flow, branch: &[u8], method: Method<'_>) -> bool {
        let ended = self.requests.refused(flow, branch, method, scene.now.mono);
        self.take_unanswered(scene);
        ended
    }

    /// A check of the edge's has ended.
    pub(crate) fn checked(&mut self, scene: &mut Scene<'_>, id: CheckId, outcome: Outcome) {
        self.conclude(scene, ProbeId::from(KeyData::from_ffi(id.0)), outcome);
    }

    /// A check could not be made: it is as if it had never been due.
    pub(crate) fn unchecked(&mut self, id: CheckId) {
        self.probes.remove(ProbeId::from(KeyData::from_ffi(id.0)));
    }

    fn take_unanswered(&mut self, scene: &mut Scene<'_>) {
        while let Some(Unanswered { owner, unreachable, .. }) = self.requests.next_unanswered() {
            self.conclude(scene, owner, if unreachable { Outcome::Refused } else { Outcome::TimedOut });
        }
    }

    /// A probe has ended: what it says is noted, and the next one may be due sooner for it.
    fn conclude(&mut self, scene: &mut Scene<'_>, id: ProbeId, outcome: Outcome) {
        let Some(Probe { destination, check, sent, client }) = self.probes.remove(id) else { return };
        // What this node does not probe any more, it holds nothing of that a probe has shown.
        if scene.dispatch.destination(destination).is_none_or(|found| found.condition.is_probed_elsewhere()) {
            return;
        }
        // One that did not leave has not been asked: it is as if it had never been due.
        let unsent = client.is_some_and(|client| self.requests.is_unsent(client));
        if unsent && matches!(outcome, Outcome::TimedOut | Outcome::Refused) {
            return;
        }
        let Some(kind) = self.check_of(scene.dispatch, destination, check) else { return };
        let seen = Seen { witness: kind.witness(), check: Some(check), outcome, sent };
        scene.dispatch.see(destination, seen, scene.now, scene.out);
        let Prober { schedules, due, chance, .. } = self;
        let condition = scene.dispatch.destination(destination).map(|found| &found.condition);
        let schedule = schedules.get_mut(destination);
        if let (Some(condition), Some(schedule)) = (condition, schedule)
            && let Some(at) = schedule.hasten(condition, check, sent, scene.now.mono, chance)
        {
            due.insert(at, Due::Send(destination, check));
        }
    }

    fn check_of<'d>(&self, dispatch: &'d Dispatch, id: DestinationId, check: usize) -> Option<&'d CheckKind> {
        let probing = dispatch.destination(id)?.condition.probing();
        probing.checks.get(check).map(|check| &check.kind)
    }

    /// What its requests have sent again.
    pub(crate) fn times_resent(&self) -> u64 {
        self.requests.times_resent()
    }

    /// When [`Prober::wake`] is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        [self.due.next(), self.requests.next_deadline()].into_iter().flatten().min()
    }

    /// Sends what is due and ends what has taken too long.
    pub(crate) fn wake(&mut self, scene: &mut Scene<'_>) {
        let now = scene.now.mono;
        self.requests.wake(now, scene.out);
        self.take_unanswered(scene);
        let mut all = Vec::new();
        self.due.advance(now, &mut all);
        let mut sends = 0;
        for (_, due) in all {
            match due {
                // Those that a stall has made late together do not leave together.
                Due::Send(..) if sends == SENDS_A_TURN => self.due.insert(now + PAUSE, due),
                Due::TimeOut(id) => {
                    let Some(probe) = self.probes.get(id) else { continue };
                    match probe.client {
                        Some(client) => {
                            self.conclude(scene, id, Outcome::TimedOut);
                            self.requests.forget(client);
                        }
                        // The edge ends its checks itself: who hears nothing of one knows nothing of the destination.
                        None => drop(self.probes.remove(id)),
                    }
                }
                Due::Send(id, check) => {
                    sends += 1;
                    self.send_due(scene, id, check);
                }
            }
        }
    }

    fn send_due(&mut self, scene: &mut Scene<'_>, id: DestinationId, check: usize) {
        scene.dispatch.settle(id, scene.now, scene.out);
        let Prober { schedules, due, chance, .. } = self;
        let Some(found) = scene.dispatch.destination(id) else {
            schedules.remove(id);
            return;
        };
        let Some(schedule) = schedules.get_mut(id) else { return };
        let Some(next) = schedule.advance(&found.condition, check, scene.now.mono, chance) else { return };
        due.insert(next, Due::Send(id, check));
        if self.is_wanted(scene, id, check) {
            self.send(scene, id, check);
        }
    }

    /// Whether the destination is to be probed now.
    fn is_wanted(&self, scene: &Scene<'_>, id: DestinationId, check: usize) -> bool {
        let Some(found) = scene.dispatch.destination(id) else { return false };
        let probing = found.condition.probing();
        let in_use = found.standing.order != Order::Maint && found.row.is_resolved();
        let interval = probing.checks.get(check).map_or(Duration::ZERO, |check| check.interval);
        let in_doubt = || found.condition.told != Health::Up || scene.dispatch.is_doubted(id, scene.now.mono);
        in_use
            && !found.condition.is_probed_elsewhere()
            && match probing.when {
                When::Always => true,
                When::Down => in_doubt(),
                When::Idle => in_doubt() || !found.condition.heard_within(interval, scene.now.mono),
            }
    }

    fn send(&mut self, scene: &mut Scene<'_>, id: DestinationId, check: usize) {
        let Some(found) = scene.dispatch.destination(id) else { return };
        let probing = std::sync::Arc::clone(found.condition.probing());
        let Some(what) = probing.checks.get(check) else { return };
        let (address, mrcp) = (found.row.address, found.mrcp_port);
        let at = |port| std::net::SocketAddr::new(address.ip(), port);
        let probe = Probe { destination: id, check, sent: scene.now.mono, client: None };
        let (probe, patience) = match &what.kind {
            CheckKind::Sip(sip) => match self.send_sip(scene, probe, sip) {
                Some(probe) => (probe, what.timeout),
                None => return,
            },
            CheckKind::Tcp { port } => {
                let Some(port) = port.or(mrcp) else { return };
                (self.ask(scene, probe, CheckTarget::Tcp(at(port)), what.timeout), what.timeout + GRACE)
            }
            CheckKind::Http { port, path } => {
                let target = CheckTarget::Http { address: at(*port), path: path.clone() };
                (self.ask(scene, probe, target, what.timeout), what.timeout + GRACE)
            }
        };
        self.due.insert(scene.now.mono + patience, Due::TimeOut(probe));
    }

    fn ask(&mut self, scene: &mut Scene<'_>, probe: Probe, target: CheckTarget, timeout: Duration) -> ProbeId {
        let id = self.probes.insert(probe);
        scene.out.push(Output::Check { id: CheckId(id.data().as_ffi()), target, timeout });
        id
    }

    fn send_sip(&mut self, scene: &mut Scene<'_>, probe: Probe, sip: &SipProbe) -> Option<ProbeId> {
        let Prober { requests, probes, chance, listeners, .. } = self;
        let row = &scene.dispatch.destination(probe.destination)?.row;
        let reaches = |listener: &&Listener| {
            sip.socket.is_none_or(|socket| listener.id == socket)
                && listener.transport == row.transport
                && listener.reaches(row.address)
        };
        let Some(listener) = listeners.iter().find(reaches) else {
            scene.dispatch.note_no_way(probe.destination, probe.check, scene.now, scene.out);
            return None;
        };
        let flow = way(listener.id, listener.transport, row.address);
        let id = probes.insert(probe);
        let request = Request {
            sip,
            listener,
            uri: &row.uri,
            tag: chance.u64(..),
            call: chance.u128(..),
            cseq: chance.u32(1..1 << 30),
        };
        let client = requests.send(flow, id, scene.now, scene.out, |branch| compose(&request, branch));
        probes[id].client = Some(client);
        Some(id)
    }
}

fn way(listener: ListenerId, transport: Transport, peer: std::net::SocketAddr) -> Flow {
    Flow { listener, transport, peer, connection: ConnectionId::default() }
}
