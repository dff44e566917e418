//! What the outside may see of the sets: computed each time, kept by nobody.

use std::sync::Arc;

use super::capacity::OneMore;
use super::{ClassLimit, Destination, DestinationId, Dispatch, Health, Load, Policy, Vote};
use crate::engine::clock::Now;
use crate::engine::sip::Resources;
use crate::engine::snapshot::{ClassView, DestinationView, SetView, VoteView};

impl Dispatch {
    /// What the outside may see: sets by number, their destinations in the table's order. A configured set without rows is
    /// among them.
    pub fn view(&self, load: &dyn Load, now: Now) -> Vec<SetView> {
        self.sets
            .iter()
            .map(|(&id, state)| SetView {
                id,
                name: state.policy.name.clone(),
                algorithm: state.policy.algorithm.name(),
                empty_reply: state.policy.empty_reply.status,
                busy_reply: state.policy.capacity.busy_reply.status,
                view_ttl: state.policy.view_ttl,
                empty: state.empty,
                full: state.full,
                failovers: state.failovers,
                exhausted: state.exhausted,
                panicking: state.panicking,
                destinations: state
                    .members
                    .iter()
                    .filter_map(|&id| Some(view_destination(id, self.destinations.get(id)?, &state.policy, load, now)))
                    .collect(),
            })
            .collect()
    }
}

/// One destination.
pub(super) fn view_destination(
    id: DestinationId,
    destination: &Destination,
    policy: &Policy,
    load: &dyn Load,
    now: Now,
) -> DestinationView {
    let Destination { row, standing, counts, condition, .. } = destination;
    let judgement = &policy.judgement;
    DestinationView {
        id,
        row: row.row,
        uri: row.uri.clone(),
        address: row.is_resolved().then_some(row.address),
        transport: row.transport,
        socket: row.socket,
        attrs: row.attrs.clone(),
        description: row.description.clone(),
        weight: row.weight,
        priority: row.priority,
        state: row.state,
        standing: standing.clone(),
        health: condition.health(judgement, now.mono),
        told: destination.health_to_tell(judgement, now.mono),
        since: condition.since,
        lasted: now.mono.since(condition.turned),
        why: condition.why(judgement, now.mono),
        fall: condition.last_fall().copied().filter(|_| condition.health(judgement, now.mono) != Health::Up),
        fitness: destination.fitness(policy, OneMore { id, asked: Resources::NONE, load }, now.mono),
        limits: destination.limits_now(now.mono),
        classes: destination.classes.iter().map(|class| view_class(id, class, load)).collect(),
        probed: !condition.probing().checks.is_empty(),
        share: condition.share(judgement, now.mono) * destination.wanted(now.mono) / 100,
        agent: destination.heard.as_ref().map(|heard| heard.view(now.mono)),
        penalty: condition.penalty(judgement, now.mono),
        kept: condition.keep(judgement, now.mono),
        latencies: *condition.latencies(),
        falls: counts.falls.iter().sum(),
        falls_by: counts.falls,
        ejections: counts.ejections.iter().sum(),
        ejections_by: counts.ejections,
        probes: counts.probes,
        selections: counts.choices.iter().sum(),
        choices: counts.choices,
        other_selections: counts.other_selections,
        responses: counts.responses,
        setup: counts.setup,
        sessions: load.sessions(id),
        sessions_peak: load.sessions_peak(id),
        elsewhere: destination.elsewhere(now.mono),
        votes: destination.votes.iter().flat_map(|votes| &votes.votes).map(|vote| view_vote(vote, now)).collect(),
    }
}

fn view_class(id: DestinationId, class: &ClassLimit, load: &dyn Load) -> ClassView {
    let ClassLimit { name, resources, sessions } = class;
    ClassView { name: Arc::clone(name), limit: *sessions, sessions: load.sessions_of(id, *resources) }
}

fn view_vote(vote: &Vote, now: Now) -> VoteView {
    let Vote { node, health, since, told, probed, cause, latency, sessions, started: _, by_calls: _, order: _ } = vote;
    VoteView {
        node: node.to_string(),
        health: *health,
        lasted: now.mono.since(*since),
        age: now.mono.since(*told),
        probed: *probed,
        cause: cause.clone(),
        latency: *latency,
        sessions: sessions.total(),
    }
}
