//! The search for a destination that takes a request: one of the set after the other, until one gives an answer that is
//! not to be tried again (RFC 3261 section 16.7 item 4 with the set's policy).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::context::{Branch, Context, Hop};
use super::session::Session;
use super::{Incoming, Proxy, World};
use crate::engine::clock::Instant;
use crate::engine::dialog::Seat;
use crate::engine::dispatch::{Choice, DestinationId, Dispatch, Failover, Outcome, Plan, Seen, SetId, Turn};
use crate::engine::flow::{Flow, Transport};
use crate::engine::route::Target;
use crate::engine::sip::{Message, Reply, Resources, Uri};
use crate::engine::transaction::ServerId;

/// What is left of a plan.
#[derive(Debug)]
pub(super) struct Search {
    /// When the request came.
    began: Instant,
    /// What the rule says of the set.
    target: Arc<Target>,
    /// Whose turn the plan took.
    turn: Turn,
    /// What the call asks for.
    asked: Resources,
    plan: Plan,
    /// How many of the plan have been looked at.
    looked: usize,
    /// How many were tried.
    tries: usize,
    /// Whether it counts as one that is at its second or later try.
    retrying: bool,
    /// Whether the try in hand goes by a stream because a datagram is too small for it.
    by_stream: bool,
    /// Whether a stream for its size has been tried in vain: a datagram it is.
    datagram: bool,
}

/// A request larger than this goes by a stream where there is one (RFC 3261 section 18.1.1)...
const DATAGRAM: usize = 1300;
/// ... with what we write into it: a Via and two Record-Routes.
const OURS: usize = 330;

/// How a try failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// By a final answer.
    Answered(u16),
    /// By silence.
    TimedOut,
    /// The request could not be delivered.
    Unreachable,
}

impl Failed {
    /// As a status: silence is as good as a 408, and an undelivered request as a 503 (sections 16.8 and 16.9).
    pub(super) fn status(self) -> u16 {
        match self {
            Failed::Answered(status) => status,
            Failed::TimedOut => 408,
            Failed::Unreachable => 503,
        }
    }

    /// What it says of the destination.
    fn outcome(self) -> Outcome {
        match self {
            Failed::Answered(status) => Outcome::answered(status),
            Failed::TimedOut => Outcome::TimedOut,
            Failed::Unreachable => Outcome::Refused,
        }
    }

    fn is_retried(self, failover: &Failover) -> bool {
        match self {
            Failed::Answered(status) => failover.retry_on.contains(status),
            Failed::TimedOut => failover.retry_on.timeout,
            Failed::Unreachable => failover.retry_on.transport,
        }
    }
}

/// How many searches each set has open: what bounds the tries after the first.
#[derive(Debug, Default)]
pub(super) struct Budgets(BTreeMap<SetId, Budget>);

#[derive(Debug, Default)]
struct Budget {
    searches: usize,
    retries: usize,
}

impl Budgets {
    fn enter(&mut self, search: &Search) {
        self.0.entry(search.target.set).or_default().searches += 1;
    }

    /// A search is over.
    pub(super) fn leave(&mut self, search: Option<&Search>) {
        let Some(search) = search else { return };
        if let Some(budget) = self.0.get_mut(&search.target.set) {
            budget.searches = budget.searches.saturating_sub(1);
            budget.retries = budget.retries.saturating_sub(usize::from(search.retrying));
        }
    }

    /// Whether another search of the set may go on to its second try: so that a set whose servers all fail is not sent
    /// many times the calls that it was asked for.
    fn allow(&mut self, search: &mut Search, failover: &Failover) -> bool {
        let budget = self.0.entry(search.target.set).or_default();
        let share = budget.searches * usize::from(failover.retry_budget) / 100;
        if !search.retrying && budget.retries < share.max(failover.min_retry_concurrency) {
            budget.retries += 1;
            search.retrying = true;
        }
        search.retrying
    }
}

impl Search {
    /// When the INVITE came that it is for; none if it is for another request.
    pub(super) fn invited(&self) -> Option<Instant> {
        (self.turn == Turn::Session).then_some(self.began)
    }
}

impl Proxy {
    /// Sends a request to the first of a plan that it can be sent to.
    pub(super) fn search(
        &mut self,
        world: &mut World<'_>,
        incoming: &Incoming<'_, '_>,
        server: ServerId,
        target: &Arc<Target>,
        asked: Resources,
        plan: Plan,
    ) {
        let mut context = Box::new(Context::new(incoming));
        let search = Search {
            began: world.now.mono,
            target: Arc::clone(target),
            turn: Turn::of(incoming.message.method()),
            asked,
            plan,
            looked: 0,
            tries: 0,
            retrying: false,
            by_stream: false,
            datagram: false,
        };
        self.budgets.enter(&search);
        context.search = Some(search);
        let sent = self.next_try(world, incoming, server, &mut context);
        self.owe(world, server, context);
        if !sent {
            // No listener of ours speaks to any of them: our own fault.
            self.answer(world, server, (500, "Internal Server Error"), b"");
        }
    }

    /// The branch that waits has ended without an answer: that speaks against its destination, unless the caller had given
    /// up, or only a stream was tried in vain.
    pub(super) fn blame(&self, world: &mut World<'_>, context: &Context, failed: Failed) {
        let by_stream = context.search.as_ref().is_some_and(|search| search.by_stream);
        if context.cancelled || by_stream {
            return Self::free_trial(world, context.branch);
        }
        let unsent = context.branch.as_ref().is_some_and(|branch| world.transactions.is_unsent(branch.client));
        Self::witness(world, context, if unsent { Outcome::Unsent } else { failed.outcome() });
    }

    /// What has become of a branch says nothing of its destination: if it tried it, the next one may.
    pub(super) fn free_trial(world: &mut World<'_>, branch: Option<Branch>) {
        if let Some(Branch { destination: Some(destination), began, trial: true, .. }) = branch {
            world.dispatch.free_trial(destination, began, world.now.mono);
        }
    }

    /// What has become of the branch that waits is noted of its destination.
    pub(super) fn witness(world: &mut World<'_>, context: &Context, outcome: Outcome) {
        if let Some(Branch { destination: Some(destination), began, .. }) = context.branch
            && let Some(search) = &context.search
        {
            let seen = Seen { witness: search.turn.witness(), check: None, outcome, sent: began };
            world.dispatch.see(destination, seen, world.now, world.out);
        }
    }

    /// A try has failed in a way that another may mend. Its sender is told when none is left.
    pub(super) fn try_again(&mut self, world: &mut World<'_>, server: ServerId, failed: Failed) {
        let Some(mut context) = self.take_context(server) else { return };
        let request = context.request.clone();
        let message = Context::message(&request);
        context.branch = None;
        if let Some(Session::Begins(dialog, _)) = context.session {
            world.dialogs.note_try(dialog, failed.status());
        }
        let Some(search) = &mut context.search else { return self.owe(world, server, context) };
        let set = search.target.set;
        let failover = world.dispatch.policy(set).failover;
        // Section 18.1.1: who does not take the stream gets a datagram after all; that is no failover.
        let once_more = search.by_stream && !context.cancelled && !matches!(failed, Failed::Answered(_));
        if once_more {
            search.by_stream = false;
            search.datagram = true;
            search.looked -= 1;
            search.tries -= 1;
        }
        let may = once_more
            || !context.cancelled
                && context.kept.is_none()
                && failed.is_retried(&failover)
                && search.tries <= failover.max_retries
                && self.budgets.allow(search, &failover);
        let sent = may
            && self
                .reparse(world, &context, &message)
                .is_some_and(|incoming| self.next_try(world, &incoming, server, &mut context));
        let (cancelled, kept) = (context.cancelled, context.kept.take_if(|_| !sent));
        self.owe(world, server, context);
        match (sent, cancelled, kept) {
            (true, _, _) if once_more => {}
            (true, _, _) => world.dispatch.note_failover(set, true),
            (false, true, _) => self.answer(world, server, (487, "Request Terminated"), b""),
            (false, false, Some((status, bytes))) => self.pass_failure(world, server, status, Some(bytes)),
            (false, false, None) => {
                world.dispatch.note_failover(set, false);
                let reply = world.dispatch.policy(set).empty_reply.clone();
                let headers = exhausted(&reply, failed.status());
                self.answer(world, server, (reply.status, &reply.reason), headers.as_bytes());
            }
        }
    }

    /// The request of a context, on its way once more.
    fn reparse<'m, 'b>(
        &self,
        world: &World<'_>,
        context: &Context,
        message: &'m Message<'b>,
    ) -> Option<Incoming<'m, 'b>> {
        let uri = Uri::parse(message.request_uri()).ok()?;
        let routed = super::preprocess(message, &uri, &self.us, world.keys);
        Some(Incoming { flow: context.flow, message, routed, known: &[] })
    }

    /// Sends the request to the next of the plan that is still fit and that we have a way to.
    fn next_try(
        &mut self,
        world: &mut World<'_>,
        incoming: &Incoming<'_, '_>,
        server: ServerId,
        context: &mut Context,
    ) -> bool {
        let Some(search) = &mut context.search else { return false };
        while let Some(id) = search.plan.iter().nth(search.looked) {
            search.looked += 1;
            let fit = search.tries == 0
                || world.dispatch.may_try(id, search.turn, search.asked, world.dialogs, world.now.mono);
            let large = !search.datagram && is_large(incoming);
            let Some(flow) = self.way_to(world.dispatch, incoming, id, large).filter(|_| fit) else { continue };
            search.by_stream =
                large && world.dispatch.destination(id).is_some_and(|it| it.row.transport != flow.transport);
            search.tries += 1;
            let choice = if search.tries == 1 { Choice::First } else { Choice::Failover };
            world.dispatch.note_selection(id, search.turn, choice);
            let mut trial = false;
            if search.turn == Turn::Session {
                trial = world.dispatch.begin_call(id, world.now.mono);
                let seat = Seat {
                    set: search.target.set,
                    destination: id,
                    key: world.dispatch.destination(id).map(|found| found.key()),
                    transport: flow.transport,
                    address: flow.peer,
                    resources: search.asked,
                };
                let dialog = world.dialogs.begin(world.keys, (server, incoming.message), seat, world.now.mono);
                context.session = dialog.map(|dialog| Session::Begins(dialog, server));
            }
            let (target, asked) = (Arc::clone(&search.target), search.asked);
            let hop = Hop { flow, chosen: Some((id, &target)), asked };
            let client = self.send_branch(world, incoming, server, hop);
            context.branch = Some(Branch { client, destination: Some(id), began: world.now.mono, heard: false, trial });
            let failover = &world.dispatch.policy(target.set).failover;
            context.until = Some(world.now.mono + failover.first_response_timeout);
            return true;
        }
        false
    }

    /// The time up to which a branch that has been heard of may take for its final answer.
    pub(super) fn final_until(world: &World<'_>, context: &Context) -> Instant {
        match &context.search {
            Some(search) => world.now.mono + world.dispatch.policy(search.target.set).failover.final_timeout,
            None => world.transactions.timer_c(world.now.mono),
        }
    }

    /// Whether an answer is one that another destination of the set is asked after.
    pub(super) fn is_retried(world: &World<'_>, context: &Context, status: u16) -> bool {
        context
            .search
            .as_ref()
            .is_some_and(|search| world.dispatch.policy(search.target.set).failover.retry_on.contains(status))
    }

    /// The way to a destination; none if no listener of ours leads there.
    pub(super) fn way_to(
        &self,
        dispatch: &Dispatch,
        incoming: &Incoming<'_, '_>,
        id: DestinationId,
        large: bool,
    ) -> Option<Flow> {
        let row = &dispatch.destination(id)?.row;
        if large
            && row.transport == Transport::Udp
            && let Some(listener) = self.us.towards(Transport::Tcp, row.address, incoming.flow.listener)
        {
            return Some(self.way(listener, row.address));
        }
        let listener = match row.socket {
            Some(socket) => socket,
            None => self.us.towards(row.transport, row.address, incoming.flow.listener)?,
        };
        Some(self.way(listener, row.address))
    }
}

/// Whether a request is too large for a datagram.
pub(super) fn is_large(incoming: &Incoming<'_, '_>) -> bool {
    incoming.message.bytes().len() + OURS > DATAGRAM
}

/// The headers of the answer when every try has failed: how long to wait, and what the last one said (RFC 3326).
fn exhausted(reply: &Reply, last: u16) -> String {
    let mut headers = reply.retry_after_line();
    write!(headers, "Reason: SIP;cause={last}\r\n").expect("writing to memory");
    headers
}
