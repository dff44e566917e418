//! What a set is told by the configuration.

use std::sync::Arc;
use std::time::Duration;

use super::{
    Agent, Algorithm, Attrs, Capacity, Failover, Judgement, LATE, Panic, PriorityOrder, Probing, SessionPolicy, SetId,
    VerdictRule,
};
use crate::engine::sip::Reply;

/// How a set chooses and what it answers when it has nobody: one `[[set]]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The set that this is for.
    pub set: SetId,
    /// A name for people; empty if none.
    pub name: String,
    /// How the next destination is chosen.
    pub algorithm: Algorithm,
    /// Which priority number comes first.
    pub priority_order: PriorityOrder,
    /// The answer when no destination is fit, or every try has failed.
    pub empty_reply: Reply,
    /// What is done when a destination does not take a request.
    pub failover: Failover,
    /// How its destinations are probed.
    pub probing: Arc<Probing>,
    /// How some of them are probed instead, by the `destination` column.
    pub probing_instead: Vec<(String, Arc<Probing>)>,
    /// How they are asked what they want themselves; none: they are not.
    pub agent: Option<Arc<Agent>>,
    /// How some of them are asked instead, by the `destination` column.
    pub agent_instead: Vec<(String, Option<Arc<Agent>>)>,
    /// How their health is judged.
    pub judgement: Judgement,
    /// How much they may be given.
    pub capacity: Capacity,
    /// What holds for its sessions once they are set up.
    pub session: SessionPolicy,
    /// What it makes of what other nodes hold of its destinations.
    pub verdict: VerdictRule,
    /// What another node has told longer ago than this has no say in that.
    pub view_ttl: Duration,
    /// Orders that are guarded may leave so many percent of its destinations out.
    pub max_out_percent: u8,
    /// What its rows say in `attrs` instead of in columns.
    pub attrs: Attrs,
    /// What is done when too few are fit.
    pub panic: Panic,
}

impl Policy {
    /// What a set without configuration gets: round robin, and the reply of the OpenSIPS script that Tandem replaces.
    pub fn of(set: SetId) -> Self {
        Policy {
            set,
            name: String::new(),
            algorithm: Algorithm::default(),
            priority_order: PriorityOrder::default(),
            empty_reply: Reply::new(480, "MRCP server Unavailable"),
            failover: Failover::default(),
            probing: Arc::default(),
            probing_instead: Vec::new(),
            agent: None,
            agent_instead: Vec::new(),
            judgement: Judgement::default(),
            capacity: Capacity::default(),
            session: SessionPolicy::default(),
            max_out_percent: 50,
            attrs: Attrs::default(),
            verdict: VerdictRule::default(),
            view_ttl: Duration::from_secs(5),
            panic: Panic::default(),
        }
    }

    /// How the destination of that URI is probed.
    pub fn probing_of(&self, uri: &str) -> &Arc<Probing> {
        self.probing_instead.iter().find(|(one, _)| one == uri).map_or(&self.probing, |(_, probing)| probing)
    }

    /// How the agent of the destination of that URI is asked.
    pub fn agent_of(&self, uri: &str) -> Option<&Arc<Agent>> {
        let own = self.agent_instead.iter().find(|(one, _)| one == uri);
        own.map_or(&self.agent, |(_, agent)| agent).as_ref()
    }

    /// How long a call may take before its trial of a destination counts as lost.
    pub(super) fn longest_try(&self) -> Duration {
        self.failover.first_response_timeout + self.failover.final_timeout + LATE
    }
}
