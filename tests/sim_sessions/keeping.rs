//! What the node may ask and tell within the sessions of others: pings and BYEs of its own.

use std::net::SocketAddr;
use std::time::Duration;

use tandem::engine::dispatch::{AtMaxDuration, PingLegs};
use tandem::engine::event::Ending;

use super::Side;
use super::model::{Entry, Model, Sent, Stage, tick};

/// A ping on its way.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) call: String,
    entry: u64,
    pub(crate) leg: usize,
    at: Duration,
}

/// A BYE of the node's in this turn.
#[derive(Debug)]
pub(crate) struct Bye {
    call: String,
    to: SocketAddr,
    leg: usize,
    cseq: u32,
}

impl Model {
    /// Whether a session is this node's to ping and to end.
    pub(crate) fn owns(&self, entry: &Entry) -> bool {
        entry.stage == Stage::Confirmed && !entry.foreign && entry.known.is_some() && !(self.lost && entry.home)
    }

    /// Who is told by BYE that a session has ended so.
    pub(crate) fn told(&self, entry: &Entry, ending: Ending) -> [bool; 2] {
        let fall = self.rules.policy.ping.map_or(u32::MAX, |ping| ping.fall);
        let lives = [0, 1].map(|leg| entry.missed[leg] < fall || !entry.spoke[leg]);
        match ending {
            _ if !self.owns(entry) => [false; 2],
            Ending::MaxDuration => [self.rules.policy.at_max_duration == AtMaxDuration::Bye; 2],
            Ending::Operator => [true; 2],
            Ending::DestinationDown => [true, false],
            Ending::CallerSilent | Ending::DestinationSilent => lives,
            _ => [false; 2],
        }
    }

    /// A request that the node makes itself.
    pub(crate) fn originated(&mut self, sent: &Sent) {
        let text = &sent.text;
        let (cseq, method) = text.cseq();
        // One that asks whether a destination lives, or ends a session that came too late for its caller.
        if text.to_tag().is_empty() || (method == "BYE" && text.header("Reason").is_empty()) {
            return;
        }
        let call = text.call_id().to_owned();
        let leg = if text.to_tag().starts_with("c-") { Side::Caller } else { Side::Destination } as usize;
        if method == "BYE" {
            return self.byes.push(Bye { call, to: sent.to, leg, cseq });
        }
        let entry = self.current(&call).filter(|entry| self.owns(entry));
        let Some((entry, ping)) = entry.zip(self.rules.policy.ping) else {
            return self.hold(false, || format!("a ping of {:?}: {text:?}", self.entries.get(&call)));
        };
        let asked = match ping.legs {
            PingLegs::Caller => leg == 0,
            PingLegs::Destination => leg == 1,
            PingLegs::Both => true,
        };
        let due = entry.ping.is_some_and(|at| at <= self.now);
        let to = if leg == 0 { entry.caller } else { entry.seat };
        // Never a higher one than the other end has used.
        let right = asked && due && sent.to == to && cseq == entry.cseq[1 - leg].unwrap_or(0);
        self.hold(right, || format!("{text:?} of {entry:?}"));
        let asked = Asked { call, entry: entry.number, leg, at: self.now };
        self.pings.insert(text.branch().to_owned(), asked);
        self.pinged += 1;
    }

    /// A ping has its answer.
    pub(crate) fn answered_ping(&mut self, asked: &Asked, status: u16) {
        let alive = !matches!(status, 408 | 481);
        self.conclude_ping(asked, alive);
        if let Some(entry) = self.entries.get_mut(&asked.call).filter(|entry| entry.number == asked.entry) {
            entry.spoke[asked.leg] = true;
        }
        self.bury_silent();
    }

    /// Pings that have waited long enough.
    pub(crate) fn time_out_pings(&mut self) {
        let Some(ping) = self.rules.policy.ping else { return };
        let now = self.now;
        let late = |asked: &Asked| tick(asked.at + ping.timeout) <= now;
        let late: Vec<_> = self.pings.iter().filter(|(_, one)| late(one)).map(|(branch, _)| branch.clone()).collect();
        for branch in late {
            if let Some(asked) = self.pings.remove(&branch) {
                self.conclude_ping(&asked, false);
            }
        }
        self.bury_silent();
    }

    fn conclude_ping(&mut self, asked: &Asked, alive: bool) {
        let now = self.now;
        // Who is not ours to ask may be silent.
        let counts = alive || self.entries.get(&asked.call).is_some_and(|entry| self.owns(entry));
        let Some(entry) = self.entries.get_mut(&asked.call).filter(|entry| counts && entry.number == asked.entry)
        else {
            return;
        };
        match alive {
            true => {
                entry.missed[asked.leg] = 0;
                entry.heard = now;
            }
            false => entry.missed[asked.leg] += 1,
        }
    }

    fn bury_silent(&mut self) {
        let Some(ping) = self.rules.policy.ping else { return };
        let silent = |entry: &Entry| [0, 1].map(|leg| entry.missed[leg] >= ping.fall && entry.spoke[leg]);
        let dead = self.entries.iter().filter(|(_, entry)| self.owns(entry) && silent(entry) != [false; 2]);
        for call in dead.map(|(call, _)| call.clone()).collect::<Vec<_>>() {
            let allowed: Vec<_> = [Ending::CallerSilent, Ending::DestinationSilent]
                .into_iter()
                .zip(silent(&self.entries[&call]))
                .filter_map(|(ending, silent)| silent.then_some(ending))
                .collect();
            self.is_over(&call, &allowed);
        }
    }

    /// The BYEs of this turn are those that the sessions which ended in it ask for; and whoever is to be pinged was.
    pub(crate) fn are_byes_right(&mut self, wake: bool) {
        for (call, entry, told) in self.take_over() {
            for leg in [0, 1] {
                let all: Vec<_> = self.byes.extract_if(.., |bye| bye.call == call && bye.leg == leg).collect();
                let to = if leg == 0 { entry.caller } else { entry.seat };
                let cseq = entry.cseq[1 - leg].map_or(1, |last| last + 1);
                let right = match told[leg] {
                    true => all.len() == 1 && all[0].to == to && all[0].cseq == cseq,
                    false => all.is_empty(),
                };
                self.hold(right, || format!("{told:?} are to be told, not {all:?} of {entry:?}"));
            }
        }
        self.hold(self.byes.is_empty(), || format!("{:?} of no session that has just ended", self.byes));
        let Some(ping) = self.rules.policy.ping.filter(|_| wake) else { return };
        let now = self.now;
        let legs = match ping.legs {
            PingLegs::Caller => [true, false],
            PingLegs::Destination => [false, true],
            PingLegs::Both => [true, true],
        };
        let due: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.stage == Stage::Confirmed && entry.ping.is_some_and(|at| tick(at) <= now))
            .map(|(call, entry)| {
                // Who has failed so many and never spoken is asked no more.
                let asked = [0, 1].map(|leg| legs[leg] && (entry.missed[leg] < ping.fall || entry.spoke[leg]));
                (call.clone(), entry.number, self.owns(entry), asked)
            })
            .collect();
        for (call, number, owned, legs) in due {
            for leg in [0, 1] {
                let asked = self.pings.values().any(|one| one.entry == number && one.leg == leg && one.at == now);
                self.hold(asked == (owned && legs[leg]), || {
                    format!("{call} is to be pinged, {owned} {legs:?}, not {:?}: {:?}", self.pings, self.entries[&call])
                });
            }
            if let Some(entry) = self.entries.get_mut(&call) {
                entry.ping = Some(now + ping.interval);
            }
        }
    }
}
