//! Keeps sessions: asks their ends whether they live, and ends what is over by BYE (RFC 3261 section 15). Both are requests of
//! ours within a dialog of others. A session that this node does not own gets none: one that was begun elsewhere, whose
//! state nobody here knows, and one that is parked, since its caller came by an address which is another node's now.

mod evict;
mod page;
mod request;

use std::collections::VecDeque;

use slotmap::{SlotMap, new_key_type};

use self::evict::Eviction;
use crate::engine::clock::{Instant, Now};
use crate::engine::dialog::{Dialog, DialogId, Dialogs, Due, Ending, GivenUp, Leg};
use crate::engine::dispatch::{AtMaxDuration, Dispatch, PeerReport, Ping, PingLegs, SessionPolicy};
use crate::engine::event::{DropCause, Event, NotOurs, Output, write_down};
use crate::engine::flow::{Fault, Flow, Listener, ListenerId};
use crate::engine::sip::{Cookie, Keys, Message, Method};
use crate::engine::snapshot::Totals;
use crate::engine::transaction::timing::Timing;
use crate::engine::transaction::{Answer, ClientId, Originated, Unanswered};
use crate::engine::wheel::Wheel;

new_key_type! {
    /// A ping that waits for its answer.
    struct PingId;
}

/// So many sessions are attended to or buried in one turn, so that calls never wait for them.
const ATTENDED_A_TURN: usize = 100;

/// A ping on its way.
#[derive(Clone, Copy, Debug)]
struct OnItsWay {
    dialog: DialogId,
    /// Who was asked.
    leg: Leg,
    client: ClientId,
}

/// What a request of the keeper's is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Ping(PingId),
    /// The session is over, whatever is answered.
    Bye,
}

/// All requests of this node's within the sessions of others.
#[derive(Debug)]
pub(crate) struct Keeper {
    listeners: Vec<Listener>,
    /// Those whose address is another node's now.
    lost: Vec<ListenerId>,
    requests: Originated<Purpose>,
    asked: SlotMap<PingId, OnItsWay>,
    /// When a ping has waited long enough.
    patience: Wheel<PingId>,
    late: Vec<(Instant, PingId)>,
    /// Ends that have failed one ping too many; what is left of a turn waits for the next.
    dead: VecDeque<(DialogId, Leg)>,
    dead_since: Instant,
    evictions: Vec<Eviction>,
    /// Whether anybody wants to hear of sessions that are over.
    records: bool,
}

/// What the keeper works on but does not own.
pub(crate) struct Scene<'s> {
    pub(crate) dispatch: &'s mut Dispatch,
    pub(crate) dialogs: &'s mut Dialogs,
    pub(crate) totals: &'s mut Totals,
    pub(crate) now: Now,
    pub(crate) out: &'s mut Vec<Output>,
}

impl Scene<'_> {
    fn policy(&self, id: DialogId) -> Option<&SessionPolicy> {
        let set = self.dialogs.seat(id)?.set;
        Some(&self.dispatch.policy(set).session)
    }
}

impl Keeper {
    /// A keeper that has sent nothing.
    pub(crate) fn new(keys: &Keys, listeners: &[Listener], timing: Timing, records: bool) -> Self {
        Keeper {
            listeners: listeners.to_vec(),
            lost: Vec::new(),
            requests: Originated::new(keys.of_keeper(), timing),
            asked: SlotMap::with_key(),
            patience: Wheel::new(),
            late: Vec::new(),
            dead: VecDeque::new(),
            dead_since: Instant::ZERO,
            evictions: Vec::new(),
            records,
        }
    }

    /// Transactions of its requests.
    pub(crate) fn transactions(&self) -> usize {
        self.requests.len()
    }

    /// What its requests have sent again.
    pub(crate) fn times_resent(&self) -> u64 {
        self.requests.times_resent()
    }

    /// The address of a listener is this node's now, or another's: what was sent from there waits for no answer.
    pub(crate) fn hold(&mut self, scene: &mut Scene<'_>, listener: ListenerId, held: bool) {
        self.lost.retain(|lost| *lost != listener);
        if !held {
            self.lost.push(listener);
            self.requests.lose(listener, scene.now.mono);
            self.take_unanswered(scene);
        }
    }

    /// Sessions whose caller came by an address that is another node's now.
    pub(crate) fn parked(&self, dialogs: &Dialogs) -> usize {
        self.lost.iter().map(|lost| dialogs.of_listener(*lost)).sum()
    }

    /// Whether a response is to a request of the keeper's, by the look of its branch.
    pub(crate) fn wrote(&self, response: &Message<'_>) -> bool {
        self.requests.wrote(response)
    }

    /// A response to a ping or BYE, or what looks like one.
    pub(crate) fn response(&mut self, scene: &mut Scene<'_>, flow: Flow, message: &Message<'_>) {
        match self.requests.response(flow, message, scene.now.mono, scene.out) {
            Answer::Stray => {
                scene.totals.dropped[DropCause::StrayResponse as usize] += 1;
                scene.out.push(Output::Event(Event::Dropped { cause: DropCause::StrayResponse, flow }));
            }
            Answer::Absorbed => {}
            Answer::Final(Purpose::Bye, 200..300 | 481) => {}
            Answer::Final(Purpose::Bye, _) => scene.totals.failed_byes += 1,
            // Section 12.2.1.2: these two say that the dialog is gone. Whatever else is said, somebody is there to say it.
            Answer::Final(Purpose::Ping(id), 408 | 481) => self.failed(scene, id, true),
            Answer::Final(Purpose::Ping(id), _) => self.answered(scene, id),
        }
        self.bury(scene);
    }

    /// A way is dead.
    pub(crate) fn unreachable(&mut self, scene: &mut Scene<'_>, flow: Flow) {
        self.requests.unreachable(flow, scene.now.mono);
        self.take_unanswered(scene);
        self.bury(scene);
    }

    /// A request could not be sent; whether it was the keeper's.
    pub(crate) fn undelivered(
        &mut self,
        scene: &mut Scene<'_>,
        branch: &[u8],
        method: Method<'_>,
        fault: Fault,
    ) -> bool {
        let ours = self.requests.undelivered(branch, method, fault, scene.now.mono);
        self.take_unanswered(scene);
        self.bury(scene);
        ours
    }

    /// An ICMP error quotes a request; whether it ended one of the keeper's.
    pub(crate) fn refused(&mut self, scene: &mut Scene<'_>, flow: Flow, branch: &[u8], method: Method<'_>) -> bool {
        let ended = self.requests.refused(flow, branch, method, scene.now.mono);
        self.take_unanswered(scene);
        self.bury(scene);
        ended
    }

    fn take_unanswered(&mut self, scene: &mut Scene<'_>) {
        while let Some(Unanswered { owner, unsent, .. }) = self.requests.next_unanswered() {
            match owner {
                // One that did not leave has asked nobody.
                Purpose::Ping(id) if unsent => drop(self.asked.remove(id)),
                Purpose::Ping(id) => self.failed(scene, id, false),
                Purpose::Bye => scene.totals.failed_byes += 1,
            }
        }
    }

    /// When [`Keeper::wake`] is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let evictions = self.evictions.iter().map(|eviction| eviction.next).min();
        let dead = (!self.dead.is_empty()).then_some(self.dead_since);
        [self.requests.next_deadline(), self.patience.next(), evictions, dead].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(crate) fn wake(&mut self, scene: &mut Scene<'_>) {
        let now = scene.now.mono;
        self.requests.wake(now, scene.out);
        self.take_unanswered(scene);
        self.patience.advance(now, &mut self.late);
        let mut late = std::mem::take(&mut self.late);
        for (_, id) in late.drain(..) {
            if let Some(asked) = self.asked.get(id) {
                self.requests.forget(asked.client);
                self.failed(scene, id, false);
            }
        }
        self.late = late;
        // All are noted before anybody is told: both ends of a session may have fallen silent.
        let buried = self.bury(scene);
        for _ in buried..ATTENDED_A_TURN {
            let Some(id) = scene.dialogs.next_due(now) else { break };
            self.attend(scene, id);
        }
        self.evict(scene);
    }

    /// The time of a session has come.
    fn attend(&mut self, scene: &mut Scene<'_>, id: DialogId) {
        let now = scene.now.mono;
        let Some(policy) = scene.policy(id) else { return };
        match (scene.dialogs.due(id, policy, now), policy.at_max_duration, policy.ping) {
            (None, _, _) => {}
            (Some(Due::MaxDuration), AtMaxDuration::Bye, _) => {
                return self.end(scene, id, Ending::MaxDuration, &Leg::BOTH);
            }
            (Some(Due::MaxDuration), AtMaxDuration::Silent, _) => {
                return self.end(scene, id, Ending::MaxDuration, &[]);
            }
            // RFC 4028 section 8.3: a proxy may forget an expired session, and must not send BYE.
            (Some(Due::SessionTimer), _, _) => return self.end(scene, id, Ending::SessionTimer, &[]),
            (Some(Due::Quiet), _, _) => return self.end(scene, id, Ending::Quiet, &[]),
            (Some(Due::Ping), _, Some(ping)) => {
                scene.dialogs.ping_at(id, now + ping.interval);
                self.ping(scene, id, ping);
            }
            (Some(Due::Ping), _, None) => {}
        }
        let Scene { dispatch, dialogs, .. } = scene;
        if let Some(seat) = dialogs.seat(id) {
            dialogs.schedule(id, &dispatch.policy(seat.set).session, now);
        }
    }

    /// Asks the ends of a session whether they live.
    fn ping(&mut self, scene: &mut Scene<'_>, id: DialogId, ping: Ping) {
        let legs: &[Leg] = match ping.legs {
            PingLegs::Caller => &[Leg::Caller],
            PingLegs::Destination => &[Leg::Destination],
            PingLegs::Both => &Leg::BOTH,
        };
        for &leg in legs {
            let Some(dialog) = scene.dialogs.get(id).filter(|dialog| self.owns(dialog)) else { return };
            if dialog.is_mute(leg, ping.fall) {
                continue;
            }
            let Some(request) = request::ping(dialog, leg, ping.method) else { continue };
            let Keeper { requests, listeners, asked, patience, .. } = self;
            let Some((us, flow)) = request.way(listeners) else { continue };
            let number = asked.insert_with_key(|number| {
                let compose = |branch: &str| request.compose(us, branch.as_bytes());
                let client = requests.send(flow, Purpose::Ping(number), scene.now, scene.out, compose);
                OnItsWay { dialog: id, leg, client }
            });
            patience.insert(scene.now.mono + ping.timeout, number);
            scene.totals.pings += 1;
        }
    }

    /// A ping was answered by an end that has the session.
    fn answered(&mut self, scene: &mut Scene<'_>, id: PingId) {
        let Some(OnItsWay { dialog, leg, .. }) = self.asked.remove(id) else { return };
        scene.totals.answered_pings += 1;
        scene.dialogs.lives(dialog, leg, scene.now.mono);
    }

    /// A ping has failed, perhaps one too many; `answered`: the end has said itself that the session is gone. It says nothing of
    /// a session that is not ours any more.
    fn failed(&mut self, scene: &mut Scene<'_>, id: PingId, answered: bool) {
        let Some(OnItsWay { dialog, leg, .. }) = self.asked.remove(id) else { return };
        scene.totals.failed_pings += 1;
        if scene.dialogs.get(dialog).is_some_and(|dialog| self.owns(dialog)) {
            scene.dialogs.miss(dialog, leg, answered);
            if self.is_dead(scene, dialog, leg) {
                self.dead.push_back((dialog, leg));
                self.dead_since = scene.now.mono;
            }
        }
    }

    fn is_dead(&self, scene: &Scene<'_>, id: DialogId, leg: Leg) -> bool {
        let ping = scene.policy(id).and_then(|policy| policy.ping);
        let dialog = scene.dialogs.get(id).filter(|dialog| self.owns(dialog));
        ping.zip(dialog).is_some_and(|(ping, dialog)| dialog.is_dead(leg, ping.fall))
    }

    /// Ends the sessions of those who are dead, as many as one turn bears; how many it has looked at.
    fn bury(&mut self, scene: &mut Scene<'_>) -> usize {
        let some = self.dead.len().min(ATTENDED_A_TURN);
        for _ in 0..some {
            let Some((id, leg)) = self.dead.pop_front() else { break };
            if !self.is_dead(scene, id, leg) {
                continue;
            }
            // Who is dead himself needs no BYE, and who lives must not be left alone.
            let living = [leg.other()];
            let tell: &[Leg] = if self.is_dead(scene, id, leg.other()) { &[] } else { &living };
            let ending = match leg {
                Leg::Caller => Ending::CallerSilent,
                Leg::Destination => Ending::DestinationSilent,
            };
            self.end(scene, id, ending, tell);
        }
        some
    }

    /// Takes a session out of the table, and tells these ends by BYE.
    fn end(&mut self, scene: &mut Scene<'_>, id: DialogId, ending: Ending, tell: &[Leg]) {
        let Some(dialog) = scene.dialogs.end(id, scene.now.mono) else { return };
        if self.owns(&dialog) {
            tell.iter().for_each(|leg| self.bye(scene, &dialog, *leg, ending));
        }
        self.note_end(scene, &dialog, ending);
    }

    /// Other nodes have taken sessions over. Those that were left behind by a node which is gone are no more among those.
    pub(crate) fn give_up(&mut self, scene: &mut Scene<'_>, reports: &[PeerReport]) {
        for report in reports {
            for taken in &report.taken {
                match scene.dialogs.give_up(taken, scene.now.mono) {
                    GivenUp::NotHere => {}
                    GivenUp::Stays => continue,
                    GivenUp::Gone(dialog) => self.note_end(scene, &dialog, Ending::Moved),
                }
                scene.dispatch.pass(taken, Some(Cookie::mark(&report.node)), scene.now);
            }
        }
    }

    fn note_end(&self, scene: &mut Scene<'_>, dialog: &Dialog, ending: Ending) {
        scene.totals.ended[ending as usize] += 1;
        if self.records {
            write_down(dialog, b"", ending, scene.dispatch, scene.now, scene.out);
        }
    }

    fn bye(&mut self, scene: &mut Scene<'_>, dialog: &Dialog, leg: Leg, ending: Ending) {
        let Some(request) = request::bye(dialog, leg, ending) else { return };
        let Some((us, flow)) = request.way(&self.listeners) else { return };
        let compose = |branch: &str| request.compose(us, branch.as_bytes());
        self.requests.send(flow, Purpose::Bye, scene.now, scene.out, compose);
        scene.totals.byes += 1;
    }

    /// Whether a session is this node's to ping and to end.
    fn owns(&self, dialog: &Dialog) -> bool {
        self.not_ours(dialog).is_none()
    }

    /// Why it is not; none if it is.
    fn not_ours(&self, dialog: &Dialog) -> Option<NotOurs> {
        let known = dialog.state().is_some() && Leg::BOTH.iter().all(|leg| dialog.flow(*leg).is_some());
        match dialog.home() {
            _ if dialog.is_pending() => Some(NotOurs::Pending),
            Some(home) if self.lost.contains(&home) => Some(NotOurs::Parked),
            _ if dialog.is_adopted() => Some(NotOurs::Adopted),
            Some(_) | None => (!known).then_some(NotOurs::Unknown),
        }
    }
}
