//! Fitness a second time, written plainly from issue and comments and not from the code: random orders, observations,
//! clocks, calls, reloads and restarts are given to `Dispatch` and to this, and both must say the same after each step.

mod plain;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fastrand::Rng;

use self::plain::{Out, Plain};
use super::health::{
    Check, CheckKind, Damping, Health, InitState, Judgement, Kept, Meaning, Observe, Outcome, Probing, Seen, SipProbe,
    Why, Witness,
};
use super::{
    Asked, DestinationId, Dispatch, Load, Order, Plan, Policy, Remembered, Row, RowState, Set, SetId, Sets, Standing,
    Turn,
};
use crate::engine::clock::{Instant, Now};
use crate::engine::sip::Resources;

const SET: SetId = SetId(19);
const SEEDS: u64 = 4000;
const STEPS: usize = 150;

struct Nobody;

impl Load for Nobody {
    fn sessions(&self, _: DestinationId) -> u64 {
        0
    }

    fn asked(&self, _: DestinationId) -> Asked {
        Asked::default()
    }

    fn sessions_peak(&self, _: DestinationId) -> u64 {
        0
    }
}

const SECOND: u64 = 1_000_000;

fn micros(time: Duration) -> u64 {
    time.as_micros() as u64
}

/// Both, and what they are fed with.
struct World {
    rng: Rng,
    now: u64,
    observe: Observe,
    damping: Option<Damping>,
    probing: Option<(u32, u32, InitState)>,
    /// Whether its probes take 480 for alive, which says nothing by the table.
    accepts_480: bool,
    longest_try: u64,
    all: Vec<Plain>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let observe = Observe {
            enabled: rng.u8(..5) > 0,
            consecutive_failures: rng.u32(1..4),
            failure_percentage_threshold: [0, 50, 85][rng.usize(..3)],
            failure_percentage_request_volume: rng.u32(2..8),
            max_ejection_time: Duration::from_secs([60, 8][rng.usize(..2)]),
            max_ejection_percent: [100, 100, 50, 1][rng.usize(..4)],
            ..Observe::default()
        };
        let damping = rng.bool().then(|| Damping {
            half_life: Duration::from_secs(rng.u64(5..60)),
            suppress: rng.u32(1500..4000),
            reuse: rng.u32(300..1400),
        });
        let init = [InitState::Up, InitState::Unknown, InitState::Down][rng.usize(..3)];
        let probing = rng.bool().then(|| (rng.u32(1..4), rng.u32(1..4), init));
        let accepts_480 = rng.bool();
        World { rng, now: SECOND, observe, damping, probing, accepts_480, longest_try: 33 * SECOND, all: Vec::new() }
    }

    fn policy(&self) -> Policy {
        let mut probing = Probing::default();
        if let Some((fall, rise, init_state)) = self.probing {
            let accept = if self.accepts_480 { vec!["480".parse().expect("a code")] } else { Vec::new() };
            let check = Check { fall, rise, ..Check::new(CheckKind::Sip(SipProbe { accept, ..SipProbe::default() })) };
            probing = Probing { checks: vec![check], init_state, ..probing };
        }
        let judgement = Judgement { observe: self.observe, damping: self.damping, ..Judgement::default() };
        Policy { probing: Arc::new(probing), judgement, ..Policy::of(SET) }
    }

    fn clock(&self) -> Now {
        let elapsed = Duration::from_micros(self.now);
        Now { mono: Instant::after_start(elapsed), wall: SystemTime::UNIX_EPOCH + elapsed }
    }

    fn row(&mut self, number: u16) -> Row {
        Row {
            row: i64::from(number),
            weight: self.rng.u32(0..3),
            state: [RowState::Active, RowState::Active, RowState::Inactive, RowState::Probing][self.rng.usize(..4)],
            ..Row::new(format!("sip:10.0.0.1:{number}"), SocketAddr::new([10, 0, 0, 1].into(), number))
        }
    }

    fn load(&mut self, dispatch: &mut Dispatch) {
        let numbers: Vec<_> = (1..=4).filter(|_| self.rng.u8(..5) > 0).collect();
        let rows: Vec<_> = numbers.into_iter().map(|number| self.row(number)).collect();
        let old = std::mem::take(&mut self.all);
        for row in rows.clone() {
            let known = old.iter().find(|one| one.row.uri == row.uri).cloned();
            let mut plain = known.clone().unwrap_or_else(|| Plain::new(row.clone(), self));
            let says_new = known.is_none_or(|known| known.row.state != row.state);
            if says_new {
                plain.order = if row.state == RowState::Inactive { Order::Maint } else { Order::Ready };
            }
            if says_new && row.state == RowState::Probing {
                plain.silent_until = self.now.div_ceil(1000) * 1000;
                match self.probing {
                    Some(_) => (plain.probes, plain.probes_begin) = (Vec::new(), Health::Down),
                    None if self.observe.enabled => plain.eject(1, self),
                    None => {}
                }
            }
            plain.row = row;
            self.all.push(plain);
        }
        dispatch.replace(Sets(vec![Set { id: SET, rows }]), self.clock());
    }

    /// What an answer says, by the table of the issue.
    fn meaning(outcome: Outcome) -> (Meaning, u64) {
        match outcome {
            Outcome::Connected => (Meaning::Alive, 0),
            Outcome::TimedOut | Outcome::Refused => (Meaning::Fall, 0),
            Outcome::Unsent => (Meaning::Neutral, 0),
            Outcome::Answered { status: 503, retry_after: Some(time) } => (Meaning::Busy, time.as_secs().clamp(1, 300)),
            Outcome::Answered { status: 486 | 600 | 603, retry_after } => {
                (Meaning::Busy, retry_after.map_or(5, |time| time.as_secs().clamp(1, 300)))
            }
            Outcome::Answered { status: 408 | 500 | 502 | 503 | 504 | 580, .. } => (Meaning::Fall, 0),
            Outcome::Answered { status: 480 | 482 | 487 | 491, .. } => (Meaning::Neutral, 0),
            Outcome::Answered { .. } => (Meaning::Alive, 0),
        }
    }

    fn outcome(&mut self) -> Outcome {
        let retry_after = (self.rng.u8(..3) == 0).then(|| Duration::from_secs(self.rng.u64(..400)));
        match self.rng.u8(..11) {
            0 => Outcome::TimedOut,
            1 => Outcome::Refused,
            10 => Outcome::Unsent,
            2..5 => Outcome::Answered { status: [500, 503, 503, 408, 504][self.rng.usize(..5)], retry_after },
            5 => Outcome::Answered { status: [486, 600, 603][self.rng.usize(..3)], retry_after },
            6 => Outcome::Answered { status: [480, 487, 491, 482][self.rng.usize(..4)], retry_after },
            _ => Outcome::Answered { status: [200, 302, 404, 488, 501, 606][self.rng.usize(..6)], retry_after },
        }
    }

    /// Something is seen of the destination at that place.
    fn see(&mut self, dispatch: &mut Dispatch, at: usize) {
        let (outcome, by_probe) = (self.outcome(), self.probing.is_some() && self.rng.bool());
        let by_other = !by_probe && self.rng.u8(..4) == 0;
        let ago = [0, 1, SECOND / 2, 3 * SECOND, 20 * SECOND][self.rng.usize(..5)];
        let sent = self.now.saturating_sub(ago);
        let witness = match by_probe {
            true => Witness::Options,
            false if by_other => Witness::Other,
            false => Witness::Traffic,
        };
        let check = by_probe.then_some(0);
        let at_sent = Instant::after_start(Duration::from_micros(sent));
        let id = self.id(dispatch, at);
        dispatch.see(id, Seen { witness, check, outcome, sent: at_sent }, self.clock(), &mut Vec::new());

        // Out or half open count; one may always be.
        let others = self.all.iter().enumerate().filter(|(other, one)| *other != at && one.out != Out::No).count();
        let share = self.all.len() * usize::from(self.observe.max_ejection_percent) / 100;
        let may_eject = self.observe.max_ejection_percent >= 100 || others < share.max(1);
        let mut one = self.all[at].clone();
        let (meaning, time) = match outcome {
            Outcome::Answered { status: 480, .. } if by_probe && self.accepts_480 => (Meaning::Alive, 0),
            _ => Self::meaning(outcome),
        };
        // Nor does it mean anything how another request than an INVITE ends.
        if by_other || !by_probe && !self.observe.enabled {
            one.say(self);
            self.all[at] = one;
            return;
        }
        match meaning {
            Meaning::Busy => {
                let until = self.now + time * SECOND;
                one.busy = match one.busy.filter(|(.., until)| *until > self.now) {
                    Some((whom, since, before)) => Some((whom, since, until.max(before))),
                    None => Some((Some(witness), self.now, until)),
                };
            }
            Meaning::Alive => {
                let back = |(whom, since, _): &(Option<Witness>, u64, u64)| {
                    sent >= *since && (!by_probe || *whom == Some(witness))
                };
                one.busy = one.busy.filter(|busy| !back(busy));
            }
            Meaning::Fall | Meaning::Neutral => {}
        }
        one.answered |= matches!(meaning, Meaning::Alive | Meaning::Busy);
        if by_probe {
            let good = match meaning {
                Meaning::Alive | Meaning::Busy => Some(true),
                Meaning::Fall => Some(false),
                Meaning::Neutral => None,
            };
            one.probes.push((sent, good));
        } else if sent >= one.out_since {
            self.hear(&mut one, meaning, sent, may_eject);
        }
        one.say(self);
        self.all[at] = one;
    }

    /// A call has ended that was sent since the last change of the traffic's mind.
    fn hear(&self, one: &mut Plain, meaning: Meaning, sent: u64, may_eject: bool) {
        match (one.out, meaning) {
            (Out::No, Meaning::Neutral) | (Out::Until(_), Meaning::Fall | Meaning::Neutral) => {}
            (Out::No, Meaning::Fall) => {
                one.in_row += 1;
                let by_rate = self.count(one, true);
                if may_eject && (by_rate || one.in_row >= self.observe.consecutive_failures) {
                    let long_good = self.now - one.out_since > micros(self.observe.max_ejection_time);
                    one.eject(if long_good { 1 } else { one.times + 1 }, self);
                }
            }
            (Out::No, Meaning::Alive | Meaning::Busy) => {
                one.in_row = 0;
                self.count(one, false);
            }
            (_, Meaning::Alive | Meaning::Busy) => {
                (one.out, one.out_since, one.in_row, one.interval) = (Out::No, self.now, 0, (0, 0, 0));
            }
            (Out::HalfOpen(_), Meaning::Fall) => one.eject(one.times + 1, self),
            (Out::HalfOpen(trial), Meaning::Neutral) => {
                one.out = Out::HalfOpen(trial.filter(|(began, _)| *began != sent));
            }
        }
    }

    /// Counts a call of the interval; whether too many have failed.
    fn count(&self, one: &mut Plain, failed: bool) -> bool {
        let Observe { interval, failure_percentage_threshold: percent, failure_percentage_request_volume, .. } =
            self.observe;
        if self.now - one.interval.0 >= micros(interval) {
            one.interval = (self.now, 0, 0);
        }
        one.interval.1 += 1;
        one.interval.2 += u32::from(failed);
        let (_, calls, failures) = one.interval;
        percent > 0 && calls >= failure_percentage_request_volume && failures * 100 >= calls * u32::from(percent)
    }

    fn id(&self, dispatch: &Dispatch, at: usize) -> DestinationId {
        dispatch.sets[&SET].members[at]
    }

    /// A call, or another request, is planned and goes to the first.
    fn call(&mut self, dispatch: &mut Dispatch) {
        let turn = if self.rng.u8(..4) > 0 { Turn::Session } else { Turn::Other };
        let mut plan = Plan::default();
        dispatch.plan(SET, turn, Resources::NONE, &Nobody, self.clock().mono, &mut plan);
        let mut planned: Vec<_> = plan.iter().map(|id| dispatch.destinations[id].row.uri.clone()).collect();
        let mut fit: Vec<_> = self.all.iter().filter(|one| one.fitness(self).is_fit()).collect();
        // What is no call tries nobody, unless there is nobody else.
        if turn == Turn::Other && fit.iter().any(|one| one.out == Out::No) {
            fit.retain(|one| one.out == Out::No);
        }
        let mut fit: Vec<_> = fit.into_iter().map(|one| one.row.uri.clone()).collect();
        let first = plan.first().filter(|_| turn == Turn::Session);
        planned.sort();
        fit.sort();
        assert_eq!(planned, fit, "who is planned");
        if let Some(id) = first {
            dispatch.begin_call(id, self.clock().mono);
            let lost = self.now + self.longest_try;
            let uri = dispatch.destinations[id].row.uri.clone();
            let one = self.all.iter_mut().find(|one| one.row.uri == uri).expect("loaded");
            if one.out == Out::HalfOpen(None) {
                one.out = Out::HalfOpen(Some((self.now, lost)));
            }
        }
    }

    /// A call that tries somebody ends and says nothing, or gets more time; a second later it is lost.
    fn leave_or_prolong(&mut self, dispatch: &mut Dispatch) {
        let at = self.rng.usize(..self.all.len());
        let (id, now, more) = (self.id(dispatch, at), self.clock().mono, self.rng.u64(..60));
        let lost = self.rng.bool().then_some(self.now + (more + 1) * SECOND);
        // Its own trial, or one that is none.
        let began = match self.all[at].out {
            Out::HalfOpen(Some((began, _))) if self.rng.u8(..4) > 0 => began,
            _ => self.now,
        };
        let began_at = Instant::after_start(Duration::from_micros(began));
        match lost {
            None => dispatch.free_trial(id, began_at, now),
            Some(_) => dispatch.prolong_trial(id, began_at, now + Duration::from_secs(more), now),
        }
        if let Out::HalfOpen(Some((own, _))) = self.all[at].out
            && own == began
        {
            self.all[at].out = Out::HalfOpen(lost.map(|lost| (own, lost)));
        }
    }

    fn order(&mut self, dispatch: &mut Dispatch) {
        let order = Order::ALL[self.rng.usize(..3)];
        let at = self.rng.usize(..self.all.len());
        let one = &mut self.all[at];
        one.order = order;
        let wall = SystemTime::UNIX_EPOCH;
        let standing = Standing { order, by: "x".into(), reason: String::new(), at: wall, deadline: None };
        dispatch.order(SET, &one.row.uri, &standing, &Nobody, &mut Vec::new()).expect("it is loaded");
    }

    /// The node starts anew and is told what it knew.
    fn restart(&mut self, dispatch: &mut Dispatch, seed: u64) {
        let kept = |one: &Plain| Kept {
            probes_down: one.by_probes(self) == Some(Health::Down),
            ejected: match one.out {
                Out::No => None,
                Out::Until(until) => Some((Duration::from_micros(until - self.now), one.times)),
                Out::HalfOpen(_) => Some((Duration::ZERO, one.times)),
            },
            busy: one.busy.filter(|busy| busy.2 > self.now).map(|busy| Duration::from_micros(busy.2 - self.now)),
            penalty: None,
        };
        let mut all: Vec<_> = self.all.iter().map(|one| (one.clone(), kept(one))).collect();
        let view = dispatch.view(&Nobody, self.clock());
        let theirs: Vec<_> = view[0].destinations.iter().map(|one| one.kept).collect();
        for ((one, kept), theirs) in all.iter_mut().zip(&theirs) {
            // What is kept of it is a whole number; that is taken over.
            let (Some(damping), Some(penalty)) = (&self.damping, theirs.penalty) else {
                let worn = self.damping.is_none_or(|damping| one.penalty(&damping, self.now) < 1.5);
                assert!(worn && theirs.penalty.is_none() && !one.suppressed, "{one:?} {theirs:?}");
                one.falls.clear();
                continue;
            };
            let half_lives = penalty.age.as_secs_f64() / damping.half_life.as_secs_f64();
            let value = f64::from(penalty.value) * 0.5f64.powf(half_lives);
            let close = (value - one.penalty(damping, self.now)).abs() < 1.5;
            assert!(close && penalty.suppressed == one.suppressed, "{one:?} {theirs:?}");
            one.falls = vec![(self.now, value)];
            kept.penalty = theirs.penalty;
        }
        assert_eq!(theirs, all.iter().map(|(_, kept)| *kept).collect::<Vec<_>>(), "what is kept");
        *dispatch = Dispatch::new(vec![self.policy()], seed);
        let rows: Vec<_> = all.iter().map(|(one, _)| Row { state: RowState::Active, ..one.row.clone() }).collect();
        dispatch.replace(Sets(vec![Set { id: SET, rows }]), self.clock());
        let remembered = |(one, kept): &(Plain, Kept)| Remembered {
            set: SET,
            uri: one.row.uri.clone(),
            address: one.row.address,
            standing: None,
            kept: Some(*kept),
        };
        dispatch.remember(&all.iter().map(remembered).collect::<Vec<_>>(), self.clock(), &mut Vec::new());
        self.all.clear();
        for (one, kept) in all {
            let mut new = Plain::new(Row { state: RowState::Active, ..one.row.clone() }, self);
            if kept.probes_down {
                new.probes_begin = Health::Down;
            }
            if let Some((left, times)) = kept.ejected.filter(|_| self.observe.enabled) {
                (new.out, new.out_since, new.times) = (Out::Until(self.now + micros(left)), self.now, times);
            }
            new.busy = kept.busy.map(|left| (None, self.now, self.now + micros(left)));
            (new.falls, new.suppressed) = (one.falls, one.suppressed);
            new.time_passes(self);
            // It is known from before, and no news.
            new.said = new.health(self);
            new.say(self);
            self.all.push(new);
        }
    }

    /// Some time passes, and dispatch is woken when it wants to be.
    fn pass(&mut self, dispatch: &mut Dispatch) {
        let longest = [1000, SECOND, 5 * SECOND, 70 * SECOND][self.rng.usize(..4)];
        let end = self.now + self.rng.u64(..longest);
        loop {
            let next = dispatch.next_deadline().map(|at| micros(at.since_start())).filter(|at| *at <= end);
            self.now = next.unwrap_or(end).max(self.now);
            let mut all = std::mem::take(&mut self.all);
            all.iter_mut().for_each(|one| one.time_passes(self));
            if next.is_some() {
                dispatch.wake(&Nobody, self.clock(), &mut Vec::new());
                // Whoever is looked at says what has changed.
                all.iter_mut().filter(|one| one.silent_until <= self.now).for_each(|one| one.say(self));
            }
            self.all = all;
            if next.is_none() {
                return;
            }
        }
    }

    /// Both say the same; how long an ejection is, within its bounds, is taken over.
    fn compare(&mut self, dispatch: &Dispatch, step: &str) {
        let view = dispatch.view(&Nobody, self.clock());
        let theirs = &view[0].destinations;
        assert_eq!(theirs.len(), self.all.len(), "{step}");
        let mut all = std::mem::take(&mut self.all);
        for (one, theirs) in all.iter_mut().zip(theirs) {
            if one.out == Out::Until(u64::MAX) {
                let Some((left, times)) = theirs.kept.ejected else { panic!("{step}: {theirs:?} should be ejected") };
                let (least, most) = one.bounds(self);
                assert!((least..=most).contains(&micros(left)) && times == one.times, "{step}: {left:?} {one:?}");
                one.out = Out::Until(self.now + micros(left));
            }
            one.time_passes(self);
            let (health, fitness) = (one.health(self), one.fitness(self));
            assert_eq!((theirs.health, theirs.fitness), (health, fitness), "{step}: {theirs:?}\n{one:?}");
            assert!(one.suppressed || !matches!(theirs.why, Why::Flapping { .. }), "{step}");
        }
        self.all = all;
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    let mut dispatch = Dispatch::new(vec![world.policy()], seed);
    world.load(&mut dispatch);
    for step in 0..STEPS {
        world.compare(&dispatch, &format!("seed {seed}, step {step} at {}", world.now));
        match world.rng.u8(..20) {
            0 => world.load(&mut dispatch),
            1 if !world.all.is_empty() => world.order(&mut dispatch),
            2 if world.rng.u8(..4) == 0 => world.restart(&mut dispatch, seed ^ step as u64),
            3..7 => world.pass(&mut dispatch),
            7..10 => world.call(&mut dispatch),
            10 if !world.all.is_empty() => world.leave_or_prolong(&mut dispatch),
            _ if !world.all.is_empty() => {
                let at = world.rng.usize(..world.all.len());
                world.see(&mut dispatch, at);
            }
            _ => {}
        }
    }
}

#[test]
fn whatever_the_seed_dispatch_and_a_plain_reference_agree_on_who_is_fit() {
    let one = std::env::var("TANDEM_SIM_SEED").ok().and_then(|text| text.parse().ok());
    let seeds = std::env::var("TANDEM_SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS);
    match one {
        Some(seed) => run(seed),
        None => (0..seeds).for_each(run),
    }
    println!("fitness: {seeds} seeds of {STEPS} steps");
}
