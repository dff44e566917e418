//! Why a set would choose whom: the real choice, made by a copy of what it remembers.

use std::collections::HashMap;
use std::time::Duration;

use super::capacity::OneMore;
use super::select::Score;
use super::view::view_destination;
use super::{Dispatch, Failover, Fitness, Load, PanicMode, Plan, Planned, SetId, SetState, Turn};
use crate::engine::clock::Now;
use crate::engine::sip::Reply;
use crate::engine::sip::Resources;
use crate::engine::snapshot::DestinationView;

/// What a set would do with the next request.
#[derive(Clone, Debug)]
pub struct SetTold {
    /// Its number.
    pub id: SetId,
    /// Its configured name; "" if none.
    pub name: String,
    /// How it chooses.
    pub algorithm: &'static str,
    /// Whose turn it is.
    pub turn: Turn,
    /// What the plan comes to.
    pub planned: Planned,
    /// What it does about too few being fit; none: it does not panic.
    pub panics: Option<PanicMode>,
    /// How many destinations it has.
    pub members: usize,
    /// Live sessions of all its destinations.
    pub sessions: u64,
    /// How many they may have together; none: no limit.
    pub max_sessions: Option<u64>,
    /// The set that takes what it does not.
    pub overflow: Option<SetId>,
    /// The answer if nobody has room.
    pub busy_reply: Reply,
    /// The answer if nobody is fit, or every try has failed.
    pub empty_reply: Reply,
    /// What is done when a try fails.
    pub failover: Failover,
    /// Its destinations, in the table's order: all of them, or some.
    pub destinations: Vec<DestinationTold>,
    /// Who would be tried, best first.
    pub plan: Plan,
}

/// What a destination is to the next request.
#[derive(Clone, Debug)]
pub struct DestinationTold {
    /// All that is known of it.
    pub view: DestinationView,
    /// Whether this request may go there: one that is no call takes no room.
    pub fitness: Fitness,
    /// What follows from that.
    pub role: Role,
    /// The weight that counts now, its share of a slow start in it; for candidates alone.
    pub weight: Option<u32>,
    /// What the algorithm makes of it; for candidates alone.
    pub score: Option<Score>,
    /// New calls of this second; none if they are not limited.
    pub calls_of_late: Option<f64>,
    /// How long it takes to answer a call, as `peak_ewma` has it.
    pub latency: Duration,
    /// Its place in the plan: 0 is the first choice.
    pub place: Option<usize>,
}

/// What a destination is to the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It may be chosen.
    Candidate,
    /// It is not fit.
    Unfit,
    /// It is not fit and may be chosen all the same: its set panics.
    Panicked,
    /// It is fit and may not be chosen: its set panics.
    LeftOut,
    /// Its set has all the sessions that it may have.
    SetFull,
    /// Its agent wants no share.
    Unwilling,
    /// It waits for the INVITE that tries it.
    HalfOpen,
}

impl Role {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Role::Candidate => "candidate",
            Role::Unfit => "unfit",
            Role::Panicked => "candidate, since the set panics",
            Role::LeftOut => "left out: the set panics",
            Role::SetFull => "left out: the set is at its limit",
            Role::Unwilling => "left out: its agent wants no share",
            Role::HalfOpen => "left out: only an INVITE tries it",
        }
    }
}

impl Dispatch {
    /// What [`Dispatch::plan`] would do now. Nothing changes. Of the destinations at most so many are told of, beside those that
    /// are tried: the first.
    pub fn explain(
        &self,
        set: SetId,
        (turn, asked): (Turn, Resources),
        most: usize,
        load: &dyn Load,
        now: Now,
    ) -> SetTold {
        let state = self.sets.get(&set);
        let mut state = state.cloned().unwrap_or_else(|| SetState::new(set, self.seed));
        let mut fit = Vec::new();
        let full = state.candidates(&self.destinations, turn, asked, load, now.mono, &mut fit);
        let turns = if turn == Turn::Session { &state.session } else { &state.other };
        let scores = turns.scores(&state.policy, &fit);
        let scores: HashMap<_, _> = fit.iter().zip(scores).map(|(one, score)| (one.id, (one.weight, score))).collect();
        let mut plan = Plan::default();
        let planned = state.choose(turn, full, &mut fit, &mut plan);
        let places: HashMap<_, _> = plan.iter().zip(0..).collect();
        let SetState { policy, members, panicking, .. } = &state;
        let mut others = most.saturating_sub(places.len());
        let told = members.iter().filter(|id| {
            let is_told = places.contains_key(*id) || others > 0;
            others -= usize::from(is_told && !places.contains_key(*id));
            is_told
        });
        let destinations = told.filter_map(|&id| {
            let found = self.destinations.get(id)?;
            let view = view_destination(id, found, policy, load, now);
            let fitness = turn.judge(found.fitness(policy, OneMore { id, asked, load }, now.mono));
            let scored = scores.get(&id);
            let role = match (scored, fitness.is_fit()) {
                (Some(_), true) => Role::Candidate,
                (Some(_), false) => Role::Panicked,
                (None, false) => Role::Unfit,
                (None, true) if *panicking => Role::LeftOut,
                (None, true) if found.wanted(now.mono) == 0 => Role::Unwilling,
                (None, true) if turn == Turn::Session => Role::SetFull,
                (None, true) => Role::HalfOpen,
            };
            Some(DestinationTold {
                fitness,
                role,
                weight: scored.map(|(weight, _)| *weight),
                score: scored.map(|(_, score)| *score),
                calls_of_late: found.pace.of_late(&found.limits, now.mono),
                latency: found.condition.call_latency(now.mono),
                place: places.get(&id).copied(),
                view,
            })
        });
        let destinations: Vec<_> = destinations.collect();
        SetTold {
            id: set,
            name: policy.name.clone(),
            algorithm: policy.algorithm.name(),
            turn,
            planned,
            panics: panicking.then_some(policy.panic.mode),
            members: members.len(),
            sessions: members.iter().map(|&id| load.sessions(id)).sum(),
            max_sessions: policy.capacity.set_max_sessions,
            overflow: policy.capacity.overflow,
            busy_reply: policy.capacity.busy_reply.clone(),
            empty_reply: policy.empty_reply.clone(),
            failover: policy.failover,
            destinations,
            plan,
        }
    }
}
