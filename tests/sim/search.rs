//! The model of failover: one call's tries at the destinations of its set, and what may be done next.

use std::net::SocketAddr;
use std::time::Duration;

use tandem::engine::dispatch::{Failover, RetryOn, Row, RowState};

use super::client::GIVE_UP;
use super::network::Network;

/// One destination that was asked.
#[derive(Debug)]
pub(crate) struct Try {
    /// The destination.
    pub(crate) to: SocketAddr,
    /// Our address that the request left by.
    pub(crate) by: SocketAddr,
    /// The branch of our Via.
    pub(crate) branch: String,
    /// When it was asked.
    pub(crate) began: Duration,
    /// Whether a provisional has come.
    pub(crate) heard: bool,
    /// When its time is over.
    until: Duration,
    /// Its first final answer.
    pub(crate) status: Option<u16>,
    /// Nobody listens there.
    refused: bool,
    /// Its CANCEL has gone out.
    pub(crate) cancelled: bool,
    /// Up to when it is surely known, once nobody waits for it any more.
    pub(crate) known: Option<Duration>,
    /// A BYE of ours has ended its session.
    pub(crate) ended: bool,
}

/// How a try has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// By this answer.
    Status(u16),
    /// Nobody listens there.
    Transport,
    /// It had its time.
    Timeout,
}

/// All tries of one request.
#[derive(Debug, Default)]
pub(crate) struct Search {
    /// In order.
    pub(crate) tries: Vec<Try>,
    /// The first final answer that the policy does not go on from.
    pub(crate) kept: Option<u16>,
    /// Whether it is at its second or later try.
    pub(crate) retrying: bool,
    /// Those that are surely still in the plan.
    plan: Vec<SocketAddr>,
}

impl Fault {
    fn is_retried(self, policy: &Failover) -> bool {
        match self {
            Fault::Status(status) => policy.retry_on.contains(status),
            Fault::Transport => policy.retry_on.transport,
            Fault::Timeout => policy.retry_on.timeout,
        }
    }

    /// What a Reason header says of it.
    pub(crate) fn cause(self) -> u16 {
        match self {
            Fault::Status(status) => status,
            Fault::Transport => 503,
            Fault::Timeout => 408,
        }
    }
}

impl Search {
    /// A destination is asked.
    pub(crate) fn begin(
        &mut self,
        (by, to): (SocketAddr, SocketAddr),
        branch: &str,
        now: Duration,
        policy: &Failover,
        rows: &[Row],
    ) {
        if self.tries.is_empty() {
            self.plan = rows.iter().map(|row| row.address).collect();
        }
        // Who was passed over does not come again.
        let fit = |one: &SocketAddr| rows.iter().any(|row| row.address == *one && row.state == RowState::Active);
        self.plan.retain(fit);
        self.leave(now);
        self.tries.push(Try {
            to,
            by,
            branch: branch.to_owned(),
            began: now,
            heard: false,
            until: now + policy.first_response_timeout,
            status: None,
            refused: false,
            cancelled: false,
            known: None,
            ended: false,
        });
    }

    /// Nobody waits for the last try any more.
    pub(crate) fn leave(&mut self, now: Duration) {
        if let Some(last) = self.tries.last_mut() {
            last.known.get_or_insert(now + GIVE_UP);
        }
    }

    /// Rows that are gone leave the plan, even if they come back.
    pub(crate) fn loaded(&mut self, rows: &[Row]) {
        self.plan.retain(|one| rows.iter().any(|row| row.address == *one));
    }

    /// A response has come; the number of its try.
    pub(crate) fn hear(&mut self, branch: &str, status: u16, now: Duration, policy: &Failover) -> Option<usize> {
        let number = self.tries.iter().position(|one| one.branch == branch)?;
        let one = &mut self.tries[number];
        if status < 200 {
            if one.known.is_none() && (status > 100 || !one.heard) {
                one.until = now + policy.final_timeout;
            }
            one.heard |= one.known.is_none_or(|known| now < known);
        } else if one.status.is_none() {
            one.status = Some(status);
            // What our own CANCEL brought about is no answer.
            let own = one.known.is_some() && status == 487;
            let known = one.known.is_none_or(|known| now < known);
            if known && !own && status >= 300 && !policy.retry_on.contains(status) {
                self.kept.get_or_insert(status);
            }
        }
        Some(number)
    }

    /// Nobody listens there.
    pub(crate) fn refuse(&mut self, by: SocketAddr, to: SocketAddr) {
        if let Some(last) = self.tries.last_mut()
            && (last.by, last.to) == (by, to)
            && last.status.is_none()
        {
            last.refused = true;
        }
    }

    /// How the last try has failed, if it has: `late` is by how much we may be woken too late.
    pub(crate) fn fault(&self, now: Duration, late: Duration, invite: bool) -> Result<Fault, &'static str> {
        let last = self.tries.last().ok_or("no try yet")?;
        match last.status {
            Some(status) => return Ok(Fault::Status(status)),
            None if last.refused => return Ok(Fault::Transport),
            None => {}
        }
        let give_up = last.began + GIVE_UP;
        let until = if last.heard && invite { last.until } else { last.until.min(give_up) };
        match now {
            _ if now < until => Err("a destination is left before its time is over"),
            _ if now > until + late + Duration::from_millis(5) => Err("a destination is left after its time"),
            _ => Ok(Fault::Timeout),
        }
    }

    /// Whether the policy lets another destination be asked after that; `room` says what the budget leaves.
    pub(crate) fn may_go_on(&self, fault: Fault, policy: &Failover, room: bool) -> bool {
        self.kept.is_none()
            && fault.is_retried(policy)
            && self.tries.len() <= policy.max_retries
            && (room || self.retrying)
    }

    /// Whether somebody who is fit was not asked.
    pub(crate) fn has_more(&self, rows: &[Row]) -> bool {
        let fit = |one: &SocketAddr| rows.iter().any(|row| row.address == *one && row.state == RowState::Active);
        self.plan.iter().any(|one| fit(one) && !self.was_tried(*one))
    }

    /// Whether a destination was asked.
    pub(crate) fn was_tried(&self, to: SocketAddr) -> bool {
        self.tries.iter().any(|one| one.to == to)
    }
}

/// A policy by lot.
pub(crate) fn policy(net: &mut Network) -> Failover {
    let rng = &mut net.rng;
    let retry_on = match rng.u8(..8) {
        0..5 => RetryOn::default(),
        5 => RetryOn::NONE,
        _ => {
            let outcomes =
                ["timeout", "transport", "302", "404", "480", "486", "488", "5xx", "500", "503", "603", "6xx"];
            outcomes.iter().filter(|_| rng.bool()).fold(RetryOn::NONE, |all, one| all.and(one).expect("an outcome"))
        }
    };
    let defaults = Failover::default();
    Failover {
        retry_on,
        first_response_timeout: Duration::from_millis([2000, 2000, 2000, 500, 6000, 40_000][rng.usize(..6)]),
        final_timeout: Duration::from_secs([30, 30, 30, 3, 100][rng.usize(..5)]),
        max_retries: [defaults.max_retries, defaults.max_retries, 0, 1, 8][rng.usize(..5)],
        retry_budget: [defaults.retry_budget, 0, 50, 100][rng.usize(..4)],
        min_retry_concurrency: [defaults.min_retry_concurrency, 0, 1, 1000][rng.usize(..4)],
    }
}
