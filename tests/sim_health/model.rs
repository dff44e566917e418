//! What may be sent where: held against every INVITE that leaves, and against the engine's own word of who is fit.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use tandem::engine::Snapshot;
use tandem::engine::dispatch::{Fitness, Health, PanicMode, Why};

use crate::sim::text::Text;

/// A request is surely known for so long after its answer.
const KNOWN: Duration = Duration::from_secs(30);

/// The rules and what they have seen.
#[derive(Debug)]
pub(super) struct Model {
    name: String,
    now: Duration,
    panic: PanicMode,
    /// A trial counts as lost without a trace after this time.
    longest_try: Duration,
    /// Branches of INVITEs to destinations, with their call and where they went.
    branches: HashMap<String, (String, SocketAddr)>,
    /// The final answer of each call that we have heard of, and when; none yet.
    calls: HashMap<String, Option<(Duration, Vec<u8>)>>,
    /// The call that tries a destination, its branch and since when.
    trials: HashMap<SocketAddr, (String, String, Duration)>,
    /// When each destination got an INVITE last, and how many.
    pub(super) last: HashMap<SocketAddr, (Duration, u64)>,
    /// How often a half-open one was tried.
    pub(super) tried: u64,
}

impl Model {
    pub(super) fn new(name: String, panic: PanicMode, longest_try: Duration) -> Self {
        Model {
            name,
            now: Duration::ZERO,
            panic,
            longest_try,
            branches: HashMap::new(),
            calls: HashMap::new(),
            trials: HashMap::new(),
            last: HashMap::new(),
            tried: 0,
        }
    }

    pub(super) fn hold(&self, holds: bool, what: &str) {
        assert!(holds, "{} at {:?}: {what}", self.name, self.now);
    }

    /// A datagram enters.
    pub(super) fn received(&mut self, now: Duration, text: &Text) {
        self.now = now;
        let (_, method) = text.cseq();
        match text.status() {
            None if text.method() == "INVITE" => {
                self.calls.entry(text.call_id().to_owned()).or_default();
            }
            Some(200..) if method == "INVITE" => {
                // Its trial has an end, good or bad.
                self.trials.retain(|_, (_, branch, _)| branch != text.branch());
            }
            None | Some(_) => {}
        }
    }

    /// An ICMP error or a timer is about to have its effect.
    pub(super) fn turn(&mut self, now: Duration) {
        self.now = now;
    }

    /// A datagram has left; `before` is what the engine said when the turn began, `after` when it was over.
    pub(super) fn sent(&mut self, to: SocketAddr, text: &Text, bytes: &[u8], before: &Snapshot, after: &Snapshot) {
        let id = text.call_id();
        match text.status() {
            Some(status) if status >= 200 && text.cseq().1 == "INVITE" => {
                self.trials.retain(|_, (call, ..)| call != id);
                let Some(answer) = self.calls.get_mut(id) else { return self.hold(false, "an answer to nothing") };
                // A caller that has missed every answer, and asks again when its first request is forgotten.
                *answer = answer.take().filter(|(at, _)| self.now < *at + KNOWN);
                let same = answer.get_or_insert_with(|| (self.now, bytes.to_vec())).1 == bytes;
                // Copies of a 2xx are the destination's, each with what it says.
                let same = same || answer.as_ref().is_some_and(|(_, first)| Text::new(first).to_tag() == text.to_tag());
                self.hold(same, "a call has two final answers");
            }
            None if text.method() == "INVITE" => self.invited(to, text, before, after),
            Some(_) | None => {}
        }
    }

    fn invited(&mut self, to: SocketAddr, text: &Text, before: &Snapshot, after: &Snapshot) {
        let id = text.call_id().to_owned();
        if self.branches.contains_key(text.branch()) {
            return;
        }
        let answer = self.calls.get(&id).map(|answer| answer.as_ref().filter(|(at, _)| self.now < *at + KNOWN));
        self.hold(
            answer.is_some_and(|answer| answer.is_none()),
            "a call that has its answer, or was never made, is sent on",
        );
        self.calls.insert(id.clone(), None);
        self.branches.insert(text.branch().to_owned(), (id.clone(), to));
        // Whoever is tried next has been left by this call.
        self.trials.retain(|_, (call, ..)| *call != id);
        let (set, panicking) = (&before.sets[0], after.sets[0].panicking);
        let view = set.destinations.iter().find(|one| one.address == Some(to));
        let Some(view) = view else { return self.hold(false, "an INVITE to nobody's address") };
        let may = match view.fitness {
            Fitness::Fit => !panicking || self.panic != PanicMode::Fail || before.sets[0].panicking,
            Fitness::Unwell(_) | Fitness::OnTrial => panicking && self.panic != PanicMode::Fail,
            Fitness::Ordered(_) | Fitness::Unresolved | Fitness::Agent(_) | Fitness::Full | Fitness::Outvoted => false,
        };
        self.hold(may, &format!("an INVITE to {to}, which is {}: {}", view.fitness, view.why));
        if panicking {
            // Then there are as many trials as calls.
            self.trials.remove(&to);
        } else if view.health == Health::Unknown && matches!(view.why, Why::HalfOpen { .. }) {
            let running = self.trials.get(&to).filter(|(.., since)| self.now < *since + self.longest_try);
            self.hold(running.is_none(), &format!("{id} tries {to} while another does: {running:?}"));
            self.trials.insert(to, (id, text.branch().to_owned(), self.now));
            self.tried += 1;
        }
        let (last, count) = self.last.entry(to).or_default();
        (*last, *count) = (self.now, *count + 1);
    }

    /// All is over: who was called has an answer.
    pub(super) fn is_over(&self, now: Duration) {
        let open: Vec<_> = self.calls.iter().filter(|(_, answer)| answer.is_none()).map(|(id, _)| id).collect();
        assert!(open.is_empty(), "{} at {now:?}: calls without an answer: {open:?}", self.name);
    }
}
