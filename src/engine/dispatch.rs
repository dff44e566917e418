//! Destination sets: what was loaded, who is fit, and who is next.

mod agent;
mod asked;
mod attrs;
mod capacity;
mod destination;
mod distrust;
mod explain;
mod failover;
mod fitness;
mod guard;
mod health;
mod inherited;
mod order;
mod panic;
mod peers;
mod policy;
#[cfg(test)]
mod reference;
mod reload;
mod select;
mod session;
mod shared;
mod turn;
mod view;
mod votes;
mod watch;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use slotmap::SlotMap;
use smallvec::SmallVec;

pub use agent::{Agent, AgentView, AgentWord, LONGEST_LINE, MOST_PERCENT, Wish};
pub use asked::Asked;
pub use attrs::Attrs;
pub use capacity::{Capacity, ClassLimit, Limits, ResourceClass};
pub use destination::{Destination, DestinationId, Row, RowState, Set, SetId, Sets};
pub use distrust::{Distrust, DistrustOrder, NotDistrusted};
pub use explain::{DestinationTold, Role, SetTold};
pub use failover::{BadOutcome, Failover, RetryOn};
pub use fitness::Fitness;
pub use guard::{NotOrdered, OrderTerms};
pub use health::{
    Answers, BOUNDS, BadAnswer, Check, CheckKind, Codes, Combine, Damping, EjectionCause, FallCause, Health, InitState,
    Judgement, KEPT, Kept, KeptPenalty, LONGEST_RETRY_AFTER, Latency, Level, Meaning, Observation, Observe, Outcome,
    Probing, SipProbe, SlowStart, When, Who, Why, Witness,
};
pub use order::{AtDeadline, Deadline, Order, Standing};
pub use panic::{Panic, PanicMode};
pub use peers::{Left, PeerDestination, PeerOrder, PeerReport, Taken};
pub use policy::Policy;
pub use select::{Algorithm, PriorityOrder, Score};
pub use session::{AtMaxDuration, OnDown, Ping, PingLegs, PingMethod, SessionPolicy};
pub use turn::{Choice, Turn};
pub use votes::{VerdictRule, Vote};
pub use watch::{NoSuchDestination, Remembered};

#[cfg(test)]
pub(crate) use health::Terms;
pub(crate) use health::{Condition, Seen};

use self::capacity::OneMore;
use self::inherited::Holders;
use self::select::{Candidate, Turns};
use self::watch::Draining;
use crate::engine::clock::Instant;
use crate::engine::sip::{Cookie, Resources};
use crate::engine::wheel::Wheel;

/// The most failovers that a plan names behind its first choice: nobody waits for more.
pub const MOST_FAILOVERS: usize = 8;

/// How much later than its call should have ended a trial counts as lost.
const LATE: Duration = Duration::from_secs(1);

/// Where a request may go, best first; nobody stands in it twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan(SmallVec<[DestinationId; 1 + MOST_FAILOVERS]>);

impl Plan {
    /// The first choice; none if the set has no fit destination.
    pub fn first(&self) -> Option<DestinationId> {
        self.0.first().copied()
    }

    /// All of them, best first.
    pub fn iter(&self) -> impl Iterator<Item = DestinationId> + '_ {
        self.0.iter().copied()
    }

    fn is_full(&self) -> bool {
        self.0.len() > MOST_FAILOVERS
    }
}

/// What a plan has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planned {
    /// Somebody is fit.
    Somebody,
    /// Somebody would be, and nobody has room.
    Full,
    /// Nobody is fit.
    Empty,
}

/// The load of destinations, which is known elsewhere: dispatch keeps no count of sessions beside the table of them.
pub trait Load {
    /// Live sessions now, pending ones included.
    fn sessions(&self, destination: DestinationId) -> u64;

    /// Those of them that asked for one of these resources.
    fn sessions_of(&self, destination: DestinationId, resources: Resources) -> u64 {
        self.asked(destination).sessions_of(resources)
    }

    /// The same by what they asked for.
    fn asked(&self, destination: DestinationId) -> Asked;

    /// The most live sessions at any time.
    fn sessions_peak(&self, destination: DestinationId) -> u64;
}

/// All sets.
#[derive(Debug)]
pub struct Dispatch {
    destinations: SlotMap<DestinationId, Destination>,
    sets: BTreeMap<SetId, SetState>,
    /// What a set gets that is neither configured nor loaded.
    unknown: Box<Policy>,
    seed: u64,
    by_key: HashMap<(SetId, u32), DestinationId>,
    addresses: HashSet<SocketAddr>,
    ips: HashSet<IpAddr>,
    /// Room for the fit destinations of one plan, kept so that plans allocate nothing.
    fit: Vec<Candidate>,
    chance: fastrand::Rng,
    /// Whose health may change by time alone.
    changing: Wheel<DestinationId>,
    /// Those that have gone down since somebody asked.
    fallen: Vec<DestinationId>,
    /// Those whose sessions an order ends now.
    overdue: Vec<DestinationId>,
    /// Those that were told to drain and have sessions still.
    draining: Vec<Draining>,
    /// When those are looked at next.
    next_look: Option<Instant>,
    /// This node's name.
    node: String,
    /// Its mark, as in its cookies, and those of the other nodes that are there.
    mark: u16,
    peers: Vec<u16>,
    holders: Holders,
}

/// What a set has beside its destinations; it outlives reloads.
#[derive(Clone, Debug)]
struct SetState {
    policy: Policy,
    configured: bool,
    /// In the order of the table.
    members: Vec<DestinationId>,
    empty: u64,
    full: u64,
    failovers: u64,
    exhausted: u64,
    session: Turns,
    other: Turns,
    /// Whether too few were fit at the last plan.
    panicking: bool,
    /// Those that were fit when enough were.
    known_good: Vec<DestinationId>,
}

impl Dispatch {
    /// Sets without destinations. `seed` makes random choices: a start's own, or a test's fixed one.
    pub fn new(policies: Vec<Policy>, seed: u64) -> Self {
        let mut dispatch = Dispatch {
            destinations: SlotMap::with_key(),
            sets: BTreeMap::new(),
            unknown: Box::new(Policy::of(SetId::default())),
            seed,
            by_key: HashMap::new(),
            addresses: HashSet::new(),
            ips: HashSet::new(),
            fit: Vec::new(),
            chance: fastrand::Rng::with_seed(!seed),
            changing: Wheel::new(),
            fallen: Vec::new(),
            overdue: Vec::new(),
            draining: Vec::new(),
            next_look: None,
            node: String::new(),
            mark: 0,
            peers: Vec::new(),
            holders: Holders::default(),
        };
        for policy in policies {
            let state = dispatch.set_mut(policy.set);
            state.policy = policy;
            state.configured = true;
        }
        dispatch
    }

    /// The same as the sets of the node of that name.
    pub(crate) fn of_node(self, node: &str) -> Self {
        Dispatch { node: node.to_owned(), mark: Cookie::mark(node), ..self }
    }

    /// Puts the fit destinations of the set into `plan` in its algorithm's order, and steps the turn; `asked` are the
    /// resources that a call is for. An unknown set's plan is empty. One that is half open waits for the INVITE that tries it;
    /// other requests go there only if nobody else is fit, so that who sends an OPTIONS before each INVITE is not shut out for
    /// ever.
    pub fn plan(
        &mut self,
        set: SetId,
        turn: Turn,
        asked: Resources,
        load: &dyn Load,
        now: Instant,
        plan: &mut Plan,
    ) -> Planned {
        plan.0.clear();
        let Dispatch { destinations, sets, fit, .. } = self;
        let Some(state) = sets.get_mut(&set) else { return Planned::Empty };
        let full = state.candidates(destinations, turn, asked, load, now, fit);
        state.choose(turn, full, fit, plan)
    }
}

impl SetState {
    /// Whose turn it may be, in the table's order; how many more would be fit and have no room.
    fn candidates(
        &mut self,
        destinations: &SlotMap<DestinationId, Destination>,
        turn: Turn,
        asked: Resources,
        load: &dyn Load,
        now: Instant,
        fit: &mut Vec<Candidate>,
    ) -> usize {
        let SetState { policy, members, .. } = self;
        fit.clear();
        let (mut slow, mut agents, mut full, mut sessions) = (false, false, 0, 0);
        for (id, found) in members.iter().filter_map(|&id| Some((id, destinations.get(id)?))) {
            let has = load.sessions(id) + found.elsewhere(now);
            sessions += has;
            agents |= found.heard.is_some();
            let call = OneMore { id, asked, load };
            let fitness = turn.judge(found.fitness(policy, call, now));
            full += usize::from(fitness == Fitness::Full);
            if fitness.is_fit() {
                let share = found.condition.share(&policy.judgement, now);
                slow |= share < 100;
                fit.push(Candidate {
                    id,
                    weight: found.row.weight,
                    priority: found.row.priority,
                    share,
                    load: has,
                    fullness: found.fullness(call, now),
                    latency: found.condition.call_latency(now).as_secs_f64(),
                });
            }
        }
        if turn == Turn::Session && policy.capacity.set_max_sessions.is_some_and(|limit| sessions >= limit) {
            full += fit.len();
            fit.clear();
        }
        if slow {
            // Only then, so that weights stay what people wrote.
            fit.iter_mut().for_each(Candidate::weigh_by_share);
        }
        if policy.panic.threshold > 0 {
            let calls = turn == Turn::Session;
            let has_room = |judgement: &Judgement, id, found: &Destination| {
                !calls || found.has_room(judgement, OneMore { id, asked, load }, now)
            };
            panic::check(self, destinations, fit, full, now, has_room);
        }
        if agents {
            agent::weigh(fit, |id| destinations.get(id).map_or(100, |found| found.wanted(now)));
        }
        if turn == Turn::Other && !self.panicking {
            let trusted = |one: &Candidate| destinations.get(one.id).is_some_and(|it| !it.condition.is_ejected(now));
            if fit.iter().any(trusted) {
                fit.retain(trusted);
            }
        }
        full
    }

    /// Steps the turn: puts the candidates into the plan, best first.
    fn choose(&mut self, turn: Turn, full: usize, fit: &mut Vec<Candidate>, plan: &mut Plan) -> Planned {
        let turns = match turn {
            Turn::Session => &mut self.session,
            Turn::Other => &mut self.other,
        };
        turns.plan(&self.policy, fit, plan);
        match (plan.first(), full) {
            (Some(_), _) => Planned::Somebody,
            (None, 1..) => Planned::Full,
            (None, 0) => Planned::Empty,
        }
    }
}

impl Dispatch {
    /// A destination; none if it is no longer loaded.
    pub fn destination(&self, id: DestinationId) -> Option<&Destination> {
        self.destinations.get(id)
    }

    /// The loaded destination of the set whose [`Destination::key`] this is.
    pub fn find(&self, set: SetId, key: u32) -> Option<DestinationId> {
        self.by_key.get(&(set, key)).copied()
    }

    /// The set's policy; [`Policy::of`] with set number 0 for a set that is neither configured nor loaded.
    pub fn policy(&self, set: SetId) -> &Policy {
        self.sets.get(&set).map_or(&self.unknown, |state| &state.policy)
    }

    /// Whether a new call for these resources may go there, and if not, why not; computed each time, nobody keeps the
    /// answer. None if it is no longer loaded.
    pub fn fitness(&self, id: DestinationId, asked: Resources, load: &dyn Load, now: Instant) -> Option<Fitness> {
        let found = self.destinations.get(id)?;
        Some(found.fitness(self.policy(found.set), OneMore { id, asked, load }, now))
    }

    /// Whether some loaded destination, fit or not, has this address; IPv4 in IPv6's clothes is IPv4.
    pub fn is_destination(&self, address: SocketAddr) -> bool {
        self.addresses.contains(&canonical(address))
    }

    /// Whether some loaded destination, fit or not, has this address, whatever the port.
    pub fn is_destination_ip(&self, ip: IpAddr) -> bool {
        self.ips.contains(&ip.to_canonical())
    }

    /// Counts a request that was sent to the destination.
    pub fn note_selection(&mut self, id: DestinationId, turn: Turn, choice: Choice) {
        if let Some(destination) = self.destinations.get_mut(id) {
            match turn {
                Turn::Session => destination.counts.choices[choice as usize] += 1,
                Turn::Other => destination.counts.other_selections += 1,
            }
        }
    }

    /// Counts a session that was set up there: how long its caller has waited, failed tries included.
    pub(crate) fn note_setup(&mut self, id: DestinationId, time: Duration) {
        if let Some(destination) = self.destinations.get_mut(id) {
            destination.counts.setup.add(time);
        }
    }

    /// Counts a response from the destination by its class; 100 is hop by hop and says nothing of it.
    pub fn note_response(&mut self, id: DestinationId, status: u16) {
        let class = usize::from(status / 100).wrapping_sub(1);
        let counts = self.destinations.get_mut(id).map(|destination| &mut destination.counts);
        if let Some(count) = counts.and_then(|counts| counts.responses.get_mut(class)).filter(|_| status != 100) {
            *count += 1;
        }
    }

    /// Counts a request that found the set without a fit destination.
    pub fn note_empty(&mut self, set: SetId) {
        self.set_mut(set).empty += 1;
    }

    /// Counts a request that found nobody with room.
    pub(crate) fn note_full(&mut self, set: SetId) {
        self.set_mut(set).full += 1;
    }

    /// A try at a destination of the set has failed; whether another one has been made.
    pub(crate) fn note_failover(&mut self, set: SetId, tried_again: bool) {
        let state = self.set_mut(set);
        match tried_again {
            true => state.failovers += 1,
            false => state.exhausted += 1,
        }
    }

    /// Takes the next destination that has gone down since this was asked.
    pub(crate) fn next_fallen(&mut self) -> Option<DestinationId> {
        self.fallen.pop()
    }

    fn set_mut(&mut self, set: SetId) -> &mut SetState {
        self.sets.entry(set).or_insert_with(|| SetState::new(set, self.seed))
    }
}

impl SetState {
    fn new(set: SetId, seed: u64) -> Self {
        // Sets draw from streams of their own, so that one's calls do not move another's choices.
        let seed = seed ^ (u64::from(set.0) << 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        SetState {
            policy: Policy::of(set),
            configured: false,
            members: Vec::new(),
            empty: 0,
            full: 0,
            failovers: 0,
            exhausted: 0,
            session: Turns::new(seed),
            other: Turns::new(!seed),
            panicking: false,
            known_good: Vec::new(),
        }
    }

    /// Whether the outside may have seen a counter of it that is not 0.
    fn has_counted(&self) -> bool {
        [self.empty, self.full, self.failovers, self.exhausted].iter().any(|count| *count > 0)
    }
}

/// One address in one form: a listener of both families tells IPv4 peers as `::ffff:a.b.c.d`.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use fastrand::Rng;

    use super::*;
    use crate::engine::clock::Now;
    use crate::engine::event::Changes;
    use crate::engine::flow::Transport;
    use crate::engine::sip::Reply;

    const SET: SetId = SetId(19);
    const NOW: Now = Now { mono: Instant::ZERO, wall: SystemTime::UNIX_EPOCH };

    fn row(number: u16) -> Row {
        Row {
            row: i64::from(number),
            uri: format!("sip:10.129.39.88:{number}"),
            address: SocketAddr::new([10, 129, 39, 88].into(), number),
            transport: Transport::Udp,
            socket: None,
            weight: 1,
            priority: 100,
            state: RowState::Active,
            attrs: "pstn=100".into(),
            description: format!("TTS_MRCP_CLIENT_FS_{number}"),
        }
    }

    fn load(dispatch: &mut Dispatch, rows: impl IntoIterator<Item = Row>) -> Changes {
        dispatch.replace(Sets(vec![Set { id: SET, rows: rows.into_iter().collect() }]), NOW)
    }

    fn dispatch(algorithm: Algorithm, rows: impl IntoIterator<Item = Row>) -> Dispatch {
        let mut dispatch = Dispatch::new(vec![Policy { algorithm, ..Policy::of(SET) }], 1);
        load(&mut dispatch, rows);
        dispatch
    }

    fn article() -> Dispatch {
        dispatch(Algorithm::RoundRobin, [row(7010), row(7011)])
    }

    fn plan(dispatch: &mut Dispatch, turn: Turn) -> Vec<u16> {
        let mut plan = Plan::default();
        dispatch.plan(SET, turn, Resources::NONE, &Idle, NOW.mono, &mut plan);
        assert_eq!(plan.first(), plan.iter().next());
        plan.iter().map(|id| dispatch.destination(id).expect("loaded").row.address.port()).collect()
    }

    fn first(dispatch: &mut Dispatch) -> Option<u16> {
        plan(dispatch, Turn::Session).first().copied()
    }

    fn id(dispatch: &Dispatch, port: u16) -> DestinationId {
        dispatch.destinations.iter().find(|(_, found)| found.row.address.port() == port).expect("loaded").0
    }

    struct Idle;

    impl Load for Idle {
        fn sessions(&self, _: DestinationId) -> u64 {
            3
        }

        fn asked(&self, _: DestinationId) -> Asked {
            [(Resources::NONE, 3)].into_iter().collect()
        }

        fn sessions_peak(&self, _: DestinationId) -> u64 {
            9
        }
    }

    // Conformance: what every algorithm promises.

    /// Calls `check` with each algorithm and random rows, of which the ports of the fit ones are told.
    fn for_all(check: impl Fn(&mut Dispatch, &[u16], &str)) {
        for algorithm in Algorithm::ALL {
            for seed in 0..300 {
                let mut rng = Rng::with_seed(seed);
                let rows: Vec<_> = (1..=rng.u16(0..14))
                    .map(|number| Row {
                        weight: [0, 1, 1, rng.u32(0..9), rng.u32(..)][rng.usize(..5)],
                        priority: rng.i32(-2..3),
                        state: [RowState::Active, RowState::Active, RowState::Inactive, RowState::Probing]
                            [rng.usize(..4)],
                        ..row(number)
                    })
                    .collect();
                let fit: Vec<_> =
                    rows.iter().filter(|row| row.state == RowState::Active).map(|row| row.address.port()).collect();
                check(&mut dispatch(algorithm, rows), &fit, &format!("{algorithm:?}, seed {seed}"));
            }
        }
    }

    #[test]
    fn every_algorithm_plans_the_fit_ones_all_of_them_and_nobody_twice() {
        for_all(|dispatch, fit, case| {
            for _ in 0..20 {
                let mut planned = plan(dispatch, Turn::Session);
                let length = planned.len();
                assert_eq!(length, fit.len().min(1 + MOST_FAILOVERS), "{case}");
                planned.sort_unstable();
                planned.dedup();
                assert_eq!(planned.len(), length, "{case}: somebody twice");
                assert!(planned.iter().all(|port| fit.contains(port)), "{case}: {planned:?} of {fit:?}");
            }
        });
    }

    #[test]
    fn no_algorithm_chooses_weight_zero_first_where_others_have_weight() {
        for algorithm in [Algorithm::RoundRobin, Algorithm::Random] {
            let rows = [Row { weight: 0, ..row(1) }, row(2), Row { weight: 0, ..row(3) }, Row { weight: 9, ..row(4) }];
            let mut dispatch = dispatch(algorithm, rows);
            for _ in 0..100 {
                let planned = plan(&mut dispatch, Turn::Session);
                assert!(planned[..2].iter().all(|port| [2, 4].contains(port)), "{algorithm:?}: {planned:?}");
            }
        }
    }

    #[test]
    fn no_algorithms_other_turn_moves_its_session_turn() {
        for algorithm in Algorithm::ALL {
            let rows = || (1..=5).map(|number| Row { weight: u32::from(number), ..row(number) });
            let (mut alone, mut beside) = (dispatch(algorithm, rows()), dispatch(algorithm, rows()));
            for call in 0..200 {
                (0..call % 4).for_each(|_| drop(plan(&mut beside, Turn::Other)));
                let expected = plan(&mut alone, Turn::Session);
                assert_eq!(plan(&mut beside, Turn::Session), expected, "{algorithm:?}, call {call}");
            }
        }
    }

    #[test]
    fn every_algorithm_has_an_empty_plan_where_nobody_is_fit() {
        for algorithm in Algorithm::ALL {
            let mut dispatch = dispatch(algorithm, []);
            assert!(plan(&mut dispatch, Turn::Session).is_empty());
            load(&mut dispatch, [Row { state: RowState::Inactive, ..row(1) }]);
            assert!(plan(&mut dispatch, Turn::Other).is_empty());
            let mut plan = Plan(SmallVec::from_elem(DestinationId::default(), 2));
            dispatch.plan(SetId(77), Turn::Session, Resources::NONE, &Idle, NOW.mono, &mut plan);
            assert_eq!(plan, Plan::default(), "an unknown set clears it too");
        }
    }

    #[test]
    fn every_algorithm_makes_the_same_choices_from_the_same_seed() {
        for algorithm in Algorithm::ALL {
            let choices = || {
                let mut dispatch = dispatch(algorithm, (1..20).map(row));
                (0..50).flat_map(|_| plan(&mut dispatch, Turn::Session)).collect::<Vec<_>>()
            };
            assert_eq!(choices(), choices(), "{algorithm:?}");
        }
    }

    #[test]
    fn an_algorithm_is_known_by_its_name_and_by_its_opensips_number() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::from_name_or_number(algorithm.name()), Some(algorithm));
            if let Some(number) = algorithm.number() {
                assert_eq!(Algorithm::from_name_or_number(&number.to_string()), Some(algorithm));
            }
        }
        assert_eq!(Algorithm::from_name_or_number("4"), Some(Algorithm::RoundRobin));
        assert!(
            ["", "round robin", "Priority", "7", "+4", "04"]
                .iter()
                .all(|text| Algorithm::from_name_or_number(text).is_none())
        );
    }

    // What dispatch does around them.

    #[test]
    fn the_articles_two_servers_alternate_with_each_other_as_failover() {
        let mut dispatch = article();
        assert_eq!(plan(&mut dispatch, Turn::Session), [7010, 7011]);
        assert_eq!(plan(&mut dispatch, Turn::Session), [7011, 7010]);
        assert_eq!(plan(&mut dispatch, Turn::Other), [7010, 7011]);
        assert_eq!(plan(&mut dispatch, Turn::Session), [7010, 7011]);
    }

    #[test]
    fn failovers_of_one_are_spread_over_all_others() {
        let mut dispatch = dispatch(Algorithm::RoundRobin, (1..=5).map(row));
        let mut second = HashMap::new();
        for _ in 0..4000 {
            let planned = plan(&mut dispatch, Turn::Session);
            if planned[0] == 1 {
                *second.entry(planned[1]).or_insert(0) += 1;
            }
        }
        assert!((2..=5).all(|port| (150..250).contains(&second[&port])), "{second:?}");
    }

    #[test]
    fn a_reload_keeps_identity_counters_and_turn() {
        let mut dispatch = article();
        let before = id(&dispatch, 7010);
        assert_eq!(first(&mut dispatch), Some(7010));
        dispatch.note_selection(before, Turn::Session, Choice::First);
        let heavier = Row { description: "other".into(), priority: 5, ..row(7010) };
        assert_eq!(load(&mut dispatch, [heavier, row(7011)]), Changes { added: 0, removed: 0, changed: 1 });
        assert_eq!(id(&dispatch, 7010), before);
        assert_eq!(dispatch.view(&Idle, NOW)[0].destinations[0].selections, 1);
        assert_eq!(first(&mut dispatch), Some(7011), "the turn goes on");
        assert_eq!(load(&mut dispatch, [row(7011), row(7012)]), Changes { added: 1, removed: 1, changed: 0 });
        assert!(
            dispatch.destination(before).is_none()
                && dispatch.fitness(before, Resources::NONE, &Idle, NOW.mono).is_none()
        );
        assert_eq!(first(&mut dispatch), Some(7012));
    }

    #[test]
    fn a_new_uri_or_address_is_a_new_destination_and_an_emptied_load_removes_all() {
        let mut dispatch = article();
        let renamed = Row { uri: "sip:tts".into(), ..row(7010) };
        let moved = Row { address: "10.0.0.9:7011".parse().expect("an address"), ..row(7011) };
        assert_eq!(load(&mut dispatch, [renamed, moved]), Changes { added: 2, removed: 2, changed: 0 });
        assert_eq!(dispatch.replace(Sets::default(), NOW), Changes { added: 0, removed: 2, changed: 0 });
        assert_eq!(first(&mut dispatch), None);
        assert_eq!(dispatch.view(&Idle, NOW)[0].destinations.len(), 0, "a configured set stays in sight");
    }

    #[test]
    fn a_row_that_stands_twice_is_loaded_once() {
        let mut dispatch = article();
        assert_eq!(load(&mut dispatch, [row(7010), Row { row: 9, ..row(7010) }]).removed, 1);
        assert_eq!(plan(&mut dispatch, Turn::Session), [7010]);
        assert_eq!(dispatch.view(&Idle, NOW)[0].destinations[0].row, 7010, "the first one counts");
    }

    #[test]
    fn the_rows_state_says_who_is_fit() {
        let mut dispatch = article();
        let states = |first, second| [Row { state: first, ..row(7010) }, Row { state: second, ..row(7011) }];
        load(&mut dispatch, states(RowState::Inactive, RowState::Active));
        assert_eq!(plan(&mut dispatch, Turn::Session), [7011]);
        load(&mut dispatch, states(RowState::Active, RowState::Probing));
        assert_eq!(plan(&mut dispatch, Turn::Session), [7010]);
        assert_eq!(dispatch.destination(id(&dispatch, 7011)).expect("loaded").standing.order, Order::Ready);
        assert_eq!(dispatch.view(&Idle, NOW)[0].destinations[1].health, Health::Down, "to begin with");
        let later = NOW.mono + Duration::from_secs(10);
        let mut healed = Plan::default();
        dispatch.plan(SET, Turn::Session, Resources::NONE, &Idle, later, &mut healed);
        assert_eq!(healed.iter().count(), 2, "it is tried again, whatever the table says");
    }

    #[test]
    fn sets_do_not_move_each_others_choices() {
        let two_sets = || {
            let mut dispatch = Dispatch::new(
                [1, 2].map(|set| Policy { algorithm: Algorithm::Random, ..Policy::of(SetId(set)) }).into(),
                7,
            );
            let sets = [1, 2].map(|set| Set { id: SetId(set), rows: (1..9).map(row).collect() });
            dispatch.replace(Sets(sets.into()), NOW);
            dispatch
        };
        let ports = |dispatch: &mut Dispatch, set| {
            let mut plan = Plan::default();
            dispatch.plan(SetId(set), Turn::Session, Resources::NONE, &Idle, NOW.mono, &mut plan);
            plan.iter().map(|id| dispatch.destination(id).expect("loaded").row.address.port()).collect::<Vec<_>>()
        };
        let (mut alone, mut beside) = (two_sets(), two_sets());
        let mut differ = false;
        for _ in 0..20 {
            let other = ports(&mut beside, 2);
            let expected = ports(&mut alone, 1);
            assert_eq!(ports(&mut beside, 1), expected);
            differ |= other != expected;
        }
        assert!(differ, "each set has a stream of its own");
    }

    #[test]
    fn destinations_are_found_by_key_and_by_address() {
        let mut dispatch = article();
        let (id, key) = (id(&dispatch, 7011), dispatch.destination(id(&dispatch, 7011)).expect("loaded").key());
        assert_eq!(dispatch.find(SET, key), Some(id));
        assert_eq!((dispatch.find(SetId(20), key), dispatch.find(SET, key ^ 1)), (None, None));
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        load(&mut dispatch, [Row { state: RowState::Inactive, ..row(7010) }]);
        assert_eq!(dispatch.find(SET, key), None);
        assert!(dispatch.is_destination(address("10.129.39.88:7010")), "whatever its order");
        assert!(dispatch.is_destination(address("[::ffff:10.129.39.88]:7010")));
        assert!(!dispatch.is_destination(address("10.129.39.88:7011")));
        assert!(dispatch.is_destination_ip(address("10.129.39.88:1").ip()));
        assert!(!dispatch.is_destination_ip(address("10.129.39.89:7010").ip()));
    }

    #[test]
    fn what_is_counted_is_seen() {
        let policy = Policy { name: "tts".into(), ..Policy::of(SET) };
        let mut dispatch = Dispatch::new(vec![policy], 1);
        dispatch.replace(
            Sets(vec![Set { id: SetId(20), rows: vec![row(1)] }, Set { id: SET, rows: vec![row(7011), row(7010)] }]),
            NOW,
        );
        let id = id(&dispatch, 7010);
        dispatch.note_selection(id, Turn::Session, Choice::Failover);
        dispatch.note_selection(id, Turn::Other, Choice::First);
        dispatch.note_selection(id, Turn::Other, Choice::First);
        for status in [100, 180, 183, 200, 404, 486, 603, 0, 99, 700, u16::MAX] {
            dispatch.note_response(id, status);
        }
        dispatch.note_empty(SET);
        let view = dispatch.view(&Idle, NOW);
        let heads: Vec<_> = view.iter().map(|set| (set.id.0, set.name.as_str(), set.algorithm, set.empty)).collect();
        assert_eq!(heads, [(19, "tts", "round_robin", 1), (20, "", "round_robin", 0)]);
        let rows: Vec<_> = view[0].destinations.iter().map(|one| one.row).collect();
        assert_eq!(rows, [7011, 7010], "in the table's order");
        let seen = &view[0].destinations[1];
        assert_eq!((seen.selections, seen.other_selections, seen.responses), (1, 2, [2, 1, 0, 2, 0, 1]));
        assert_eq!(seen.choices, [0, 1]);
        assert_eq!(
            (seen.sessions, seen.sessions_peak, seen.fitness, seen.standing.order),
            (3, 9, Fitness::Fit, Order::Ready)
        );
        assert_eq!(
            (seen.uri.as_str(), seen.description.as_str()),
            ("sip:10.129.39.88:7010", "TTS_MRCP_CLIENT_FS_7010")
        );
    }

    #[test]
    fn a_counter_of_empty_plans_outlives_the_set_and_untouched_sets_go() {
        let mut dispatch = Dispatch::new(Vec::new(), 1);
        load(&mut dispatch, [row(1)]);
        dispatch.note_empty(SetId(5));
        dispatch.replace(Sets::default(), NOW);
        let seen: Vec<_> = dispatch.view(&Idle, NOW).iter().map(|set| (set.id.0, set.empty)).collect();
        assert_eq!(seen, [(5, 1)]);
    }

    #[test]
    fn a_set_without_policy_answers_as_the_article() {
        let dispatch = article();
        for set in [SET, SetId(4711)] {
            let policy = dispatch.policy(set);
            assert_eq!(policy.empty_reply, Reply::new(480, "MRCP server Unavailable"));
            assert_eq!((policy.algorithm, policy.priority_order), (Algorithm::RoundRobin, PriorityOrder::HighFirst));
            assert_eq!(policy.name, "");
        }
    }
}
