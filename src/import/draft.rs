//! The configuration that comes of it all, as values.

use std::collections::BTreeMap;

use super::condition::Field;

#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    pub(super) node_id: Option<String>,
    pub(super) listeners: Vec<Listener>,
    pub(super) database: Source,
    pub(super) partitions: Vec<Source>,
    pub(super) sets: BTreeMap<u32, Set>,
    pub(super) rules: Vec<Rule>,
    pub(super) unroutable: Option<Answer>,
    pub(super) cluster: Option<Cluster>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listener {
    pub(super) bind: String,
    pub(super) advertise: Option<String>,
}

/// A database or a file of rows; the first is the default one.
#[derive(Clone, Debug, Default)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) url: Option<String>,
    pub(super) table: Option<String>,
    pub(super) schema: Option<&'static str>,
    pub(super) columns: BTreeMap<String, String>,
    /// Set N of it is this and N in Tandem.
    pub(super) offset: u32,
    /// None: nothing is said of it.
    pub(super) persist_state: Option<bool>,
}

/// A final answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) reason: String,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Set {
    pub(super) name: String,
    pub(super) algorithm: &'static str,
    pub(super) low_first: bool,
    pub(super) empty_reply: Option<Answer>,
    pub(super) retry_on: Vec<String>,
    pub(super) max_retries: Option<u32>,
    pub(super) first_response_timeout: Option<String>,
    pub(super) final_timeout: Option<String>,
    pub(super) probe: Option<Probe>,
    /// `[set.capacity] attr`.
    pub(super) attr: Option<String>,
    /// Classes of resources, each by the number in attrs of the same name.
    pub(super) resources: Vec<String>,
    /// `[set.attrs]`.
    pub(super) weight: Option<&'static str>,
    pub(super) shown_by: Option<&'static str>,
    /// Seconds.
    pub(super) max_duration: Option<u64>,
    pub(super) ping: Option<Ping>,
    /// Lines that stand there as comments.
    pub(super) notes: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) method: Option<String>,
    pub(super) from: Option<String>,
    pub(super) socket: Option<String>,
    pub(super) max_forwards: Option<u8>,
    pub(super) accept: Vec<String>,
    pub(super) interval: u64,
    pub(super) timeout: Option<String>,
    pub(super) fall: u32,
    pub(super) rise: u32,
    pub(super) only_when_down: bool,
    pub(super) is_shared: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ping {
    pub(super) method: &'static str,
    pub(super) to: &'static str,
    pub(super) interval: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) methods: Vec<String>,
    pub(super) fields: BTreeMap<Field, String>,
    pub(super) sources: Vec<String>,
    pub(super) listeners: Vec<String>,
    pub(super) action: Action,
    /// What no rule can ask: with any, the rule is written as a comment.
    pub(super) doubts: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Set { set: u32, rewrite: &'static str, record_route_params: Option<String> },
    Reply(Answer),
}

impl Default for Action {
    fn default() -> Self {
        Action::Reply(Answer { status: 403, reason: "Forbidden".into() })
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Cluster {
    pub(super) bind: Option<String>,
    pub(super) seeds: Vec<String>,
}
