//! What is seen of destinations, what operators want of them, and what time brings: everything that makes one fit or not.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;

use super::health::{Kept, Observation, Probing, Seen, Terms, Verdict};
use super::order::to_millis;
use super::{Agent, Deadline, Destination, DestinationId, Dispatch, Health, LATE, Load, Order, SetId, Standing};
use crate::engine::clock::{Instant, Now};
use crate::engine::event::{AgentChange, Event, HealthChange, Output};

/// How often those that drain are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often people hear how far they are.
const PROGRESS: Duration = Duration::from_secs(10);

/// A destination that an order or a question names and that is not loaded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("set {} has no destination {uri}", set.0)]
pub struct NoSuchDestination {
    /// The set.
    pub set: SetId,
    /// The `destination` column.
    pub uri: String,
}

/// What is known of a destination from before a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The set.
    pub set: SetId,
    /// The `destination` column.
    pub uri: String,
    /// Its address.
    pub address: SocketAddr,
    /// An order that was given by hand.
    pub standing: Option<Standing>,
    /// Its health, if that is not too old to mean anything.
    pub kept: Option<Kept>,
}

/// A destination that takes nobody new and has sessions still.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draining {
    pub(super) id: DestinationId,
    /// When people heard last how far it is.
    told: Option<Instant>,
    /// Until when it should be empty; none once people have heard that it was not.
    deadline: Option<Deadline>,
}

impl Draining {
    /// Tells how far it is; false once it is empty. With that, the sessions that are left at its deadline are given up to who
    /// ends them.
    fn look(
        &mut self,
        found: &Destination,
        load: &dyn Load,
        now: Now,
        overdue: &mut Vec<DestinationId>,
        out: &mut Vec<Output>,
    ) -> bool {
        let (set, uri, address) = (found.set, found.row.uri.clone(), found.row.address);
        let sessions = load.sessions(self.id);
        if sessions == 0 {
            out.push(Output::Event(Event::Drained { set, uri, address }));
            return false;
        }
        let late = self.deadline.filter(|deadline| deadline.at <= now.wall).map(|deadline| deadline.then);
        if late.is_some() || self.told.is_none_or(|told| now.mono.since(told) >= PROGRESS) {
            self.told = Some(now.mono);
            self.deadline = self.deadline.filter(|_| late.is_none());
            out.push(Output::Event(Event::Draining { set, uri, address, sessions, late }));
            // Again each time: a call that was being set up then is a session now.
            if found.standing.ends_sessions_now(now.wall) {
                overdue.push(self.id);
            }
        }
        true
    }
}

impl Dispatch {
    /// Takes what was seen of a destination.
    pub(crate) fn see(&mut self, id: DestinationId, seen: Seen, now: Now, out: &mut Vec<Output>) {
        // Only calls that fail eject; whatever else is seen is not worth a walk over the set.
        let may_eject = seen.check.is_some() || !self.is_fall(id, &seen) || self.may_eject(id, now.mono);
        let chance = self.chance.f64();
        let Dispatch { destinations, sets, unknown, .. } = self;
        let Some(found) = destinations.get_mut(id) else { return };
        let judgement = &sets.get(&found.set).map_or(&**unknown, |state| &state.policy).judgement;
        let terms = Terms { observe: &judgement.observe, may_eject, chance };
        let before = found.condition.sits_out(now.mono);
        let observation = found.condition.see(seen, judgement, &terms, now);
        // Where only calls name the port, one that is closed would never be asked about again: no call, no other port.
        if let Some(check) = seen.check.filter(|&check| !found.probes_name_port && found.condition.lost_port(check)) {
            found.mrcp_port = None;
            found.condition.forget_port(check, &terms, now.mono);
        }
        if let Some(cause) = found.condition.ejected_by(now.mono).filter(|_| !before) {
            found.counts.ejections[cause as usize] += 1;
        }
        if seen.check.is_some() {
            found.counts.probes[observation.meaning as usize] += 1;
        }
        self.note(id, Some(observation), now, out);
    }

    fn is_fall(&self, id: DestinationId, seen: &Seen) -> bool {
        let answers = self.destinations.get(id).map(|found| &self.policy(found.set).judgement.answers);
        answers.is_some_and(|answers| seen.outcome.judge(seen.witness, answers) == Verdict::Fall)
    }

    /// Whether one more of its set may be ejected; at least one may.
    fn may_eject(&self, id: DestinationId, now: Instant) -> bool {
        let Some(state) = self.destinations.get(id).and_then(|found| self.sets.get(&found.set)) else { return true };
        let percent = usize::from(state.policy.judgement.observe.max_ejection_percent);
        if percent >= 100 {
            return true;
        }
        let others = state.members.iter().filter(|&&other| other != id);
        let ejected = others.filter(|&&other| self.destinations[other].condition.is_ejected(now)).count();
        ejected < (state.members.len() * percent / 100).max(1)
    }

    /// Tells of a health that is another than before, and looks again when time may change it.
    pub(super) fn note(&mut self, id: DestinationId, cause: Option<Observation>, now: Now, out: &mut Vec<Output>) {
        let Dispatch { destinations, sets, unknown, changing, fallen, .. } = self;
        let Some(found) = destinations.get_mut(id) else { return };
        let judgement = &sets.get(&found.set).map_or(&**unknown, |state| &state.policy).judgement;
        let since = found.condition.since;
        if let Some((old, new, why)) = found.condition.turn(judgement, now) {
            if new == Health::Down {
                found.counts.falls[found.condition.fallen_by() as usize] += 1;
                fallen.push(id);
            }
            let Destination { set, row, .. } = found;
            let (set, uri, address) = (*set, row.uri.clone(), row.address);
            let lasted = now.wall.duration_since(since).unwrap_or_default();
            let change = HealthChange { set, uri, address, old, new, lasted, why, cause };
            out.push(Output::Event(Event::Health(Box::new(change))));
        }
        if let Some((old, new)) = found.heard.as_mut().and_then(|heard| heard.turn(now.mono)) {
            let Destination { set, row, .. } = found;
            let (set, uri, address) = (*set, row.uri.clone(), row.address);
            out.push(Output::Event(Event::Agent(Box::new(AgentChange { set, uri, address, old, new }))));
        }
        // One entry of the wheel that is early enough serves; what it finds then is looked at anew.
        let heard = found.heard.as_ref().and_then(|heard| heard.deadline(now.mono));
        if let Some(deadline) = found.condition.deadline(judgement, now.mono).into_iter().chain(heard).min()
            && found.condition.scheduled.is_none_or(|at| deadline < at)
        {
            found.condition.scheduled = Some(deadline);
            changing.insert(deadline, id);
        }
    }

    /// The table says that it has failed.
    pub(super) fn begin_down(&mut self, id: DestinationId, now: Now) {
        let chance = self.chance.f64();
        let Dispatch { destinations, sets, unknown, changing, .. } = self;
        let Some(found) = destinations.get_mut(id) else { return };
        let judgement = &sets.get(&found.set).map_or(&**unknown, |state| &state.policy).judgement;
        let terms = Terms { observe: &judgement.observe, may_eject: true, chance };
        found.condition.begin_down(&terms, now.mono);
        changing.insert(now.mono, id);
    }

    /// An INVITE goes to the destination; whether that is the one that tries it, as no other does meanwhile.
    pub(crate) fn begin_call(&mut self, id: DestinationId, now: Instant) -> bool {
        let Dispatch { destinations, sets, unknown, .. } = self;
        let Some(found) = destinations.get_mut(id) else { return false };
        let policy = sets.get(&found.set).map_or(&**unknown, |state| &state.policy);
        found.pace.spend(&found.limits, now);
        found.condition.begin_call(now + policy.longest_try(), now)
    }

    /// The INVITE that was sent at `began` and tries the destination has time until then.
    pub(crate) fn prolong_trial(&mut self, id: DestinationId, began: Instant, until: Instant, now: Instant) {
        if let Some(found) = self.destinations.get_mut(id) {
            found.condition.set_trial(began, Some(until + LATE), now);
        }
    }

    /// The INVITE that was sent at `began` and tries the destination has ended and says nothing of it: the next one may.
    pub(crate) fn free_trial(&mut self, id: DestinationId, began: Instant, now: Instant) {
        if let Some(found) = self.destinations.get_mut(id) {
            found.condition.set_trial(began, None, now);
        }
    }

    /// The agent of a destination has been asked; none: no good answer came.
    pub(crate) fn hear_agent(&mut self, id: DestinationId, body: Option<&[u8]>, now: Now, out: &mut Vec<Output>) {
        let heard = self.destinations.get_mut(id).and_then(|found| found.heard.as_mut());
        if let Some(heard) = heard {
            heard.hear(body, now);
            self.note(id, None, now, out);
        }
    }

    /// Every destination with its agent.
    pub(crate) fn agents(&self) -> impl Iterator<Item = (DestinationId, &Agent)> {
        self.destinations.iter().filter_map(|(id, found)| Some((id, &*found.heard.as_ref()?.agent)))
    }

    /// Where the destination takes MRCP, as the SDP of its answer to a call says.
    pub(crate) fn note_mrcp_port(&mut self, id: DestinationId, port: u16) {
        if let Some(found) = self.destinations.get_mut(id) {
            found.mrcp_port = Some(port);
        }
    }

    /// The same as an answer to a probe says, or does not.
    pub(crate) fn note_probed_port(&mut self, id: DestinationId, port: Option<u16>) {
        if let Some(found) = self.destinations.get_mut(id) {
            found.probes_name_port = port.is_some();
            found.mrcp_port = port.or(found.mrcp_port);
        }
    }

    /// No listener of the node's own reaches the destination for that check: what it was held for, nobody could take back.
    pub(crate) fn note_no_way(&mut self, id: DestinationId, check: usize, now: Now, out: &mut Vec<Output>) {
        if self.destinations.get_mut(id).is_some_and(|found| found.condition.lift(check, now.mono)) {
            self.note(id, None, now, out);
        }
    }

    /// Whether anybody asks where it takes MRCP.
    pub(crate) fn wants_mrcp_port(&self, id: DestinationId) -> bool {
        let asks = |check: &super::Check| check.kind == super::CheckKind::Tcp { port: None };
        self.destinations.get(id).is_some_and(|found| found.condition.probing().checks.iter().any(asks))
    }

    /// Gives an order to all addresses of a destination. The same order by the same for the same reason is no news; with the
    /// same deadline it changes nothing, not even when it was given.
    ///
    /// # Errors
    /// [`NoSuchDestination`].
    pub(crate) fn order(
        &mut self,
        set: SetId,
        uri: &str,
        standing: &Standing,
        load: &dyn Load,
        out: &mut Vec<Output>,
    ) -> Result<(), NoSuchDestination> {
        let mut standing = Standing { at: to_millis(standing.at), ..standing.clone() };
        // Newer than any that stands, whatever the clocks of those who gave them said: the newest wins on every node.
        let latest = self.addresses_of(set, uri).map(|id| &self.destinations[id]);
        if let Some(latest) = latest.filter(|one| one.has_been_told()).map(|one| one.standing.at).max() {
            standing.at = standing.at.max(latest + Duration::from_millis(1));
        }
        self.obey(set, uri, &standing, load, out)
    }

    /// The same for an order as another node tells it.
    ///
    /// # Errors
    /// [`NoSuchDestination`].
    pub(super) fn obey(
        &mut self,
        set: SetId,
        uri: &str,
        standing: &Standing,
        load: &dyn Load,
        out: &mut Vec<Output>,
    ) -> Result<(), NoSuchDestination> {
        let meant: Vec<_> = self.addresses_of(set, uri).collect();
        for &id in &meant {
            let found = &self.destinations[id];
            if found.standing.says_the_same(standing) {
                continue;
            }
            let (old, address) = (found.standing.order, found.row.address);
            if !found.standing.means_the_same(standing) {
                let (uri, standing, sessions) = (uri.to_owned(), standing.clone(), load.sessions(id));
                out.push(Output::Event(Event::Ordered { set, uri, address, old, standing, sessions }));
            }
            self.set_standing(id, standing.clone());
        }
        (!meant.is_empty()).then_some(()).ok_or_else(|| NoSuchDestination { set, uri: uri.to_owned() })
    }

    /// The loaded destinations of that name in the set: one for each of its addresses.
    pub(crate) fn addresses_of(&self, set: SetId, uri: &str) -> impl Iterator<Item = DestinationId> {
        self.destinations.iter().filter(move |(_, found)| found.set == set && found.row.uri == uri).map(|(id, _)| id)
    }

    /// The loaded destinations of a set, in the order of the table.
    pub(crate) fn members_of(&self, set: SetId) -> &[DestinationId] {
        self.sets.get(&set).map_or(&[], |state| &state.members)
    }

    /// Takes the next destination whose sessions an order ends now.
    pub(crate) fn next_overdue(&mut self) -> Option<DestinationId> {
        self.overdue.pop()
    }

    /// Puts an order in place, whoever gave it. One that is not to take calls from now on is looked at until it is empty, one
    /// that is ready no longer.
    pub(super) fn set_standing(&mut self, id: DestinationId, standing: Standing) {
        let Dispatch { destinations, draining, next_look, .. } = self;
        let Some(found) = destinations.get_mut(id) else { return };
        let (order, deadline) = (standing.order, standing.deadline);
        if std::mem::replace(&mut found.standing, standing).order == order {
            draining.iter_mut().filter(|one| one.id == id).for_each(|one| one.deadline = deadline);
            return;
        }
        draining.retain(|one| one.id != id);
        if order != Order::Ready {
            draining.push(Draining { id, told: None, deadline });
            *next_look = next_look.or(Some(Instant::ZERO));
        }
    }

    /// Takes what was known before a restart.
    pub(crate) fn remember(&mut self, all: &[Remembered], now: Now, out: &mut Vec<Output>) {
        let known: HashMap<_, _> = all.iter().map(|one| ((one.set, one.uri.as_str(), one.address), one)).collect();
        let ids: Vec<_> = self.destinations.keys().collect();
        for id in ids {
            let found = &self.destinations[id];
            let one = known.get(&(found.set, found.row.uri.as_str(), found.row.address)).copied();
            let Some(one) = one else { continue };
            if let Some(standing) = &one.standing {
                self.set_standing(id, standing.clone());
            }
            if let Some(kept) = one.kept {
                let Dispatch { destinations, sets, unknown, .. } = self;
                let found = &mut destinations[id];
                let policy = sets.get(&found.set).map_or(&**unknown, |state| &state.policy);
                found.condition.restore(kept, &policy.judgement, now.mono);
            }
            self.note(id, None, now, out);
        }
    }

    /// When [`Dispatch::wake`] is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        [self.changing.next(), self.next_look].into_iter().flatten().min()
    }

    /// Tells of what time has changed, and how far those are that drain.
    pub(crate) fn wake(&mut self, load: &dyn Load, now: Now, out: &mut Vec<Output>) {
        let mut due = Vec::new();
        self.changing.advance(now.mono, &mut due);
        for (at, id) in due {
            if let Some(found) = self.destinations.get_mut(id) {
                found.condition.scheduled = found.condition.scheduled.filter(|scheduled| *scheduled != at);
            }
            self.note(id, None, now, out);
        }
        if self.next_look.is_some_and(|at| at <= now.mono) {
            let mut draining = std::mem::take(&mut self.draining);
            let Dispatch { destinations, overdue, .. } = self;
            draining.retain_mut(|one| {
                destinations.get(one.id).is_some_and(|found| one.look(found, load, now, overdue, out))
            });
            self.draining = draining;
            self.next_look = (!self.draining.is_empty()).then(|| now.mono + LOOK);
        }
    }

    /// The last observations of a destination, oldest first; none if it is not loaded. A destination with several addresses
    /// has those of each.
    pub fn history(&self, set: SetId, uri: &str) -> Vec<(SocketAddr, Vec<Observation>)> {
        let found = self.destinations.values().filter(|found| found.set == set && found.row.uri == uri);
        found.map(|found| (found.row.address, found.condition.history().copied().collect())).collect()
    }

    /// Every destination with how it is probed.
    pub(crate) fn probed(&self) -> impl Iterator<Item = (DestinationId, &Probing)> {
        self.destinations.iter().map(|(id, found)| (id, &**found.condition.probing()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::engine::dispatch::{Asked, AtDeadline, Row, RowState, Set, Sets};
    use crate::engine::sip::Resources;

    const SET: SetId = SetId(19);
    const URI: &str = "sip:10.0.0.1:7010";

    /// One session everywhere.
    struct One;

    impl Load for One {
        fn sessions(&self, _: DestinationId) -> u64 {
            1
        }

        fn asked(&self, _: DestinationId) -> Asked {
            [(Resources::NONE, 1)].into_iter().collect()
        }

        fn sessions_peak(&self, _: DestinationId) -> u64 {
            1
        }
    }

    fn at(seconds: u64) -> Now {
        let since = Duration::from_secs(seconds);
        Now { mono: Instant::ZERO + since, wall: SystemTime::UNIX_EPOCH + since }
    }

    fn row(state: RowState) -> Row {
        Row { state, ..Row::new(URI.to_owned(), "10.0.0.1:7010".parse().expect("an address")) }
    }

    fn load(dispatch: &mut Dispatch, state: RowState, seconds: u64) {
        dispatch.replace(Sets(vec![Set { id: SET, rows: vec![row(state)] }]), at(seconds));
    }

    fn loaded() -> Dispatch {
        let mut dispatch = Dispatch::new(Vec::new(), 0);
        load(&mut dispatch, RowState::Active, 0);
        dispatch
    }

    fn drain(seconds: u64, deadline: u64) -> Standing {
        let (by, reason) = ("alice".to_owned(), "new model".to_owned());
        let deadline = Some(Deadline { at: at(deadline).wall, then: AtDeadline::Tell });
        Standing { order: Order::Drain, by, reason, at: at(seconds).wall, deadline }
    }

    /// The same by whom the fourth order is, with the end of all sessions.
    fn ending(seconds: u64, deadline: u64) -> Standing {
        let (by, reason) = ("bob".to_owned(), "fire".to_owned());
        let deadline = Some(Deadline { at: at(deadline).wall, then: AtDeadline::End });
        Standing { by, reason, deadline, ..drain(seconds, 0) }
    }

    #[test]
    fn the_same_order_again_changes_nothing_not_even_when_it_was_given() {
        let (mut dispatch, mut out) = (loaded(), Vec::new());
        for seconds in [1, 2] {
            dispatch.order(SET, URI, &drain(seconds, 60), &One, &mut out).expect("it is loaded");
        }
        let views = dispatch.view(&One, at(3));
        assert_eq!((&views[0].destinations[0].standing, out.len()), (&drain(1, 60), 1));
    }

    #[test]
    fn who_gives_an_order_and_why_is_news_and_its_deadline_is_not() {
        let (mut dispatch, mut out) = (loaded(), Vec::new());
        let orders = [
            drain(1, 60),
            drain(2, 90),
            Standing { by: "bob".to_owned(), ..drain(3, 90) },
            Standing { by: "bob".to_owned(), reason: "fire".to_owned(), ..drain(4, 90) },
            ending(5, 90),
            ending(6, 60),
        ];
        for standing in &orders {
            dispatch.order(SET, URI, standing, &One, &mut out).expect("it is loaded");
        }
        let told = out.iter().filter_map(|output| match output {
            Output::Event(Event::Ordered { old, standing, .. }) => Some((*old, standing.clone())),
            _ => None,
        });
        let [first, _, third, fourth, fifth, _] = orders;
        let news = [(Order::Ready, first), (Order::Drain, third), (Order::Drain, fourth), (Order::Drain, fifth)];
        assert_eq!(told.collect::<Vec<_>>(), news);
    }

    #[test]
    fn an_order_follows_the_row_only_when_its_state_changes() {
        let (mut dispatch, mut out) = (loaded(), Vec::new());
        let order = |dispatch: &Dispatch| dispatch.view(&One, at(1))[0].destinations[0].standing.order;
        assert_eq!(order(&dispatch), Order::Ready);
        dispatch.order(SET, URI, &drain(1, 60), &One, &mut out).expect("it is loaded");
        load(&mut dispatch, RowState::Active, 2);
        assert_eq!(order(&dispatch), Order::Drain, "given by hand, and the row says nothing new");
        load(&mut dispatch, RowState::Inactive, 3);
        assert_eq!(order(&dispatch), Order::Maint);
        load(&mut dispatch, RowState::Probing, 4);
        assert_eq!(order(&dispatch), Order::Ready);
    }

    #[test]
    fn another_deadline_for_one_that_drains_already_holds() {
        let (mut dispatch, mut out) = (loaded(), Vec::new());
        dispatch.order(SET, URI, &drain(1, 60), &One, &mut out).expect("it is loaded");
        dispatch.order(SET, URI, &drain(2, 5), &One, &mut out).expect("it is loaded");
        out.clear();
        dispatch.wake(&One, at(5), &mut out);
        let late = Some(AtDeadline::Tell);
        assert!(
            matches!(out[..], [Output::Event(Event::Draining { late: told, sessions: 1, .. })] if told == late),
            "{out:?}"
        );
        assert_eq!(dispatch.next_overdue(), None);
    }

    #[test]
    fn sessions_are_given_up_from_the_deadline_on_if_the_order_says_so() {
        let (mut dispatch, mut out) = (loaded(), Vec::new());
        dispatch.order(SET, URI, &ending(1, 5), &One, &mut out).expect("it is loaded");
        let id = dispatch.addresses_of(SET, URI).next();
        let mut given_up = Vec::new();
        for seconds in 1..=26 {
            dispatch.wake(&One, at(seconds), &mut out);
            given_up.extend(dispatch.next_overdue().map(|found| (seconds, Some(found))));
        }
        assert_eq!(given_up, [5, 15, 25].map(|seconds| (seconds, id)));
    }
}
