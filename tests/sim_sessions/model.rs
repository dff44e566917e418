//! What the node must know of the sessions, written down a second time from what passes by it: which of them live, where,
//! and why each ended. The engine's table must be the same after every turn.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use tandem::engine::Snapshot;
use tandem::engine::dispatch::{Health, OnDown, SessionPolicy};
use tandem::engine::event::{Ending, Record};

use super::Side;
use super::end::is_of_session;
use super::keeping::{Asked, Bye};
use crate::harness::{INSIDE, OUTSIDE};
use crate::sim::caller::address;
use crate::sim::text::Text;

/// What the node was told to hold to.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) policy: SessionPolicy,
    pub(crate) lifetime: Duration,
    pub(crate) table: usize,
    pub(crate) max_sessions: Option<u32>,
}

/// What the node was given.
pub(crate) enum Step<'s> {
    /// A message.
    Received(SocketAddr, &'s Text),
    /// Its time has come.
    Wake,
    /// An operator ends a call.
    EndCall(&'s str),
    /// An operator ends all of a destination.
    EndDestination(SocketAddr),
    /// Anything else.
    Other,
}

/// One message that the node sent.
pub(crate) struct Sent {
    pub(crate) to: SocketAddr,
    pub(crate) text: Text,
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Pending,
    Adopted,
    Confirmed,
}

/// A session that is in the table.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Which one of that call, if there were several.
    pub(crate) number: u64,
    pub(crate) stage: Stage,
    /// Whether another node began it, or this one before a restart.
    pub(crate) foreign: bool,
    pub(crate) seat: SocketAddr,
    pub(crate) caller: SocketAddr,
    live: Vec<String>,
    over: Vec<String>,
    /// The dialog that requests of ours would be in; none if it is over.
    pub(crate) known: Option<String>,
    /// The caller is parked when this address of ours is another node's.
    pub(crate) home: bool,
    pub(crate) began: Duration,
    pub(crate) answered: Option<Duration>,
    pub(crate) heard: Duration,
    timer: Option<Duration>,
    /// Whose the CSeq numbers are.
    counted: Option<String>,
    /// The highest CSeq number of each end.
    pub(crate) cseq: [Option<u32>; 2],
    pub(crate) missed: [u32; 2],
    /// Who has said anything since the session was set up.
    pub(crate) spoke: [bool; 2],
    pub(crate) ping: Option<Duration>,
    tries: usize,
    hung_up_by: [bool; 2],
}

/// A request within a dialog that waits for its answer.
#[derive(Debug)]
struct Request {
    call: String,
    /// The session, if it is one of the table.
    entry: Option<u64>,
    tag: String,
    method: String,
    at: Duration,
    theirs: String,
}

/// A session that must be over in this turn.
struct Expected {
    call: String,
    entry: Entry,
    allowed: Vec<Ending>,
}

/// All that is known.
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) rules: Rules,
    pub(crate) now: Duration,
    pub(crate) entries: BTreeMap<String, Entry>,
    numbers: u64,
    /// When sessions that were set up ended.
    ended: HashMap<String, Duration>,
    requests: HashMap<String, Request>,
    /// Where the INVITE of each call came from.
    invited_from: HashMap<String, SocketAddr>,
    /// Every branch of ours, so that what goes out again is known.
    branches: HashSet<String>,
    /// Calls that have come.
    known: HashSet<String>,
    /// Those that wait for their answer.
    open: HashSet<String>,
    cancelled: HashSet<String>,
    /// Dialogs whose end was said not to know them, or said nothing.
    pub(crate) lost_dialogs: HashSet<String>,
    pub(crate) pings: HashMap<String, Asked>,
    pub(crate) byes: Vec<Bye>,
    /// Whether the callers' address is another node's.
    pub(crate) lost: bool,
    ever_lost: bool,
    /// Destinations that are down, since when.
    down: HashMap<SocketAddr, Duration>,
    /// Destinations whose sessions an operator ends, since when.
    ordered: HashMap<SocketAddr, Duration>,
    expected: Vec<Expected>,
    /// Those that ended in this turn, with the ends that are to be told.
    over: Vec<(String, Entry, [bool; 2])>,
    /// A call whose session may be in the table again, or not.
    doubtful: Option<(String, Entry)>,
    /// Whether sessions end in this turn.
    some_end: bool,
    refused: Option<(String, bool)>,
    counts: [u64; Ending::ALL.len()],
    records: HashMap<String, u32>,
    /// How often each ending was seen, over all.
    pub(crate) seen: [u64; Ending::ALL.len()],
    pub(crate) pinged: u64,
}

/// When the wheel fires what is due then.
pub(crate) fn tick(at: Duration) -> Duration {
    Duration::from_millis(at.as_micros().div_ceil(1000) as u64)
}

/// What tells a request of the node from one that it sends again.
fn fresh(branch: &str, method: &str) -> String {
    format!("{branch} {method}")
}

fn leg(side: Side) -> usize {
    side as usize
}

impl Model {
    /// One that has seen nothing.
    pub(crate) fn new(name: String, rules: Rules) -> Self {
        Model {
            name,
            rules,
            now: Duration::ZERO,
            entries: BTreeMap::new(),
            numbers: 0,
            ended: HashMap::new(),
            requests: HashMap::new(),
            invited_from: HashMap::new(),
            branches: HashSet::new(),
            known: HashSet::new(),
            open: HashSet::new(),
            cancelled: HashSet::new(),
            lost_dialogs: HashSet::new(),
            pings: HashMap::new(),
            byes: Vec::new(),
            lost: false,
            ever_lost: false,
            down: HashMap::new(),
            ordered: HashMap::new(),
            expected: Vec::new(),
            over: Vec::new(),
            doubtful: None,
            some_end: false,
            refused: None,
            counts: [0; Ending::ALL.len()],
            records: HashMap::new(),
            seen: [0; Ending::ALL.len()],
            pinged: 0,
        }
    }

    /// Fails with the seed if something does not hold.
    #[track_caller]
    pub(crate) fn hold(&self, holds: bool, what: impl FnOnce() -> String) {
        assert!(holds, "{} at {:?}: {}", self.name, self.now, what());
    }

    /// The node has begun anew: it knows nothing.
    pub(crate) fn restart(&mut self) {
        self.entries.clear();
        self.ended.clear();
        self.requests.clear();
        self.branches.clear();
        self.pings.clear();
        self.known.clear();
        self.open.clear();
        self.cancelled.clear();
        self.down.clear();
        self.ordered.clear();
        self.lost = false;
        self.counts = [0; Ending::ALL.len()];
    }

    /// The callers' address is another node's now, or ours.
    pub(crate) fn lost(&mut self, lost: bool) {
        self.lost = lost;
        self.ever_lost |= lost;
        if lost {
            // Those that went out by it are forgotten.
            let home = |call: &str| self.entries.get(call).is_some_and(|entry| entry.home);
            self.pings.retain(|_, asked| asked.leg != leg(Side::Caller) || !home(&asked.call));
            // Every request of a session whose caller is there comes from him or goes to him: all that wait are let go, and are
            // as if they had not come.
            let Model { invited_from, entries, requests, branches, open, cancelled, known, .. } = self;
            let stays = |call: &str| invited_from.get(call).is_none_or(|from| !from.ip().is_loopback());
            requests.retain(|branch, request| {
                let stays = stays(&request.call);
                if !stays {
                    // Sent again it is forwarded anew, by the same branch.
                    branches.remove(&fresh(branch, &request.method));
                }
                stays
            });
            open.retain(|call| stays(call));
            cancelled.retain(|call| stays(call));
            known.retain(|call| stays(call));
            let gone = entries.iter().filter(|(call, _)| !stays(call));
            for (call, stage) in gone.map(|(call, entry)| (call.clone(), entry.stage)).collect::<Vec<_>>() {
                match stage {
                    Stage::Pending => self.is_over(&call, &[Ending::AddressLost]),
                    Stage::Adopted => self.disown(&call),
                    Stage::Confirmed => {}
                }
            }
        }
    }

    /// A destination's health is another.
    pub(crate) fn is_down(&mut self, address: SocketAddr, health: Health) {
        match health {
            Health::Down => drop(self.down.entry(address).or_insert(self.now)),
            _ => drop(self.down.remove(&address)),
        }
    }

    /// One turn of the node.
    pub(crate) fn turn(
        &mut self,
        now: Duration,
        step: &Step<'_>,
        sent: &[Sent],
        records: &[Record],
        snapshot: &Snapshot,
    ) {
        self.now = now;
        self.some_end = !records.is_empty();
        if let Step::Received(from, text) = step
            && text.status().is_none()
            && text.method() == "INVITE"
            && text.to_tag().is_empty()
        {
            self.invited_from.insert(text.call_id().to_owned(), *from);
        }
        match step {
            Step::Received(_, text) => self.received(text),
            Step::Wake => {
                self.time_out();
                self.time_out_pings();
            }
            Step::EndCall(call) => {
                let ends = self.entries.get(*call).is_some_and(|entry| self.owns(entry));
                if ends {
                    self.is_over(call, &[Ending::Operator]);
                }
            }
            Step::EndDestination(address) => drop(self.ordered.insert(*address, now)),
            Step::Other => {}
        }
        let from = match step {
            Step::Received(from, text) => Some((*from, *text)),
            _ => None,
        };
        sent.iter().for_each(|one| self.sent(from, one));
        if let Some((call, invited)) = self.refused.take() {
            // A new call that went nowhere.
            if !invited {
                self.turned_away(&call, sent, records, snapshot);
            }
        }
        records.iter().for_each(|record| self.record(record));
        self.hold(self.expected.is_empty(), || {
            let one = &self.expected[0];
            format!("{} is over by {:?}, and nobody hears of it: {:?}", one.call, one.allowed, one.entry)
        });
        self.are_byes_right(*step == Step::Wake);
        if *step == Step::Wake {
            self.is_nothing_overdue();
        }
        self.settle_doubt(snapshot);
        self.compare(snapshot);
    }

    fn received(&mut self, text: &Text) {
        let call = text.call_id().to_owned();
        let Some(status) = text.status() else {
            match text.method() {
                "CANCEL" if self.open.contains(&call) => drop(self.cancelled.insert(call)),
                "INVITE" if text.to_tag().is_empty() && self.known.insert(call.clone()) => {
                    self.open.insert(call.clone());
                    self.refused = Some((call, false));
                }
                _ => {}
            }
            return;
        };
        if status < 200 {
            return;
        }
        if let Some(asked) = self.pings.remove(text.branch()) {
            return self.answered_ping(&asked, status);
        }
        if let Some(request) = self.requests.remove(text.branch()) {
            if status == 408 && request.method != "INVITE" {
                // Its sender hears nothing of it, sends it again, and it is forwarded anew by the same branch.
                self.branches.remove(&fresh(text.branch(), &request.method));
            }
            self.conclude(&request, status, Some(text));
        }
    }

    /// RFC 3261 section 17.1.2.2: nobody has answered for 64*T1.
    fn time_out(&mut self) {
        let now = self.now;
        let late = |request: &Request| request.method != "INVITE" && tick(request.at + Duration::from_secs(32)) <= now;
        let late: Vec<_> =
            self.requests.iter().filter(|(_, one)| late(one)).map(|(branch, _)| branch.clone()).collect();
        for branch in late {
            if let Some(request) = self.requests.remove(&branch) {
                // Sent again it is forwarded anew, by the same branch.
                self.branches.remove(&fresh(&branch, &request.method));
                self.conclude(&request, 408, None);
            }
        }
    }

    /// A request within a dialog has come to its final answer.
    fn conclude(&mut self, request: &Request, status: u16, text: Option<&Text>) {
        let grace = self.rules.policy.timer_grace;
        let now = self.now;
        let Some(entry) = self.entries.get_mut(&request.call).filter(|entry| Some(entry.number) == request.entry)
        else {
            return;
        };
        if !is_of_session(&request.method) || request.method == "BYE" {
            return;
        }
        match status {
            ..300 => {
                if entry.stage == Stage::Adopted {
                    entry.stage = Stage::Confirmed;
                    entry.answered = Some(entry.began);
                }
                if matches!(request.method.as_str(), "INVITE" | "UPDATE") {
                    entry.timer = text.and_then(expires).map(|expires| now + expires + grace);
                    entry.heard = now;
                }
            }
            408 | 481 => {
                self.lost_dialogs.insert(request.tag.clone());
                match entry.stage {
                    Stage::Pending => {}
                    Stage::Adopted => self.disown(&request.call),
                    Stage::Confirmed => {
                        if entry.end(&request.tag) {
                            self.is_over(&request.call, &[Ending::Gone]);
                        }
                    }
                }
            }
            300.. if entry.stage == Stage::Adopted => match text {
                Some(_) if status != 405 => {
                    entry.stage = Stage::Confirmed;
                    entry.answered = Some(entry.began);
                }
                Some(_) | None => self.disown(&request.call),
            },
            300.. => {}
        }
    }

    /// An adopted session whose other end has not said that it is there: nobody hears of it.
    fn disown(&mut self, call: &str) {
        let entry = self.entries.remove(call);
        if entry.is_some_and(|entry| entry.hung_up_by != [false; 2]) {
            self.ended.insert(call.to_owned(), self.now);
        }
    }

    fn sent(&mut self, from: Option<(SocketAddr, &Text)>, sent: &Sent) {
        let text = &sent.text;
        match text.status() {
            Some(status) => self.answered(from, sent.to, status, text),
            None if text.method() == "ACK" => self.acknowledged(from, text),
            None if text.method() == "CANCEL" => {}
            None if !self.branches.insert(fresh(text.branch(), text.method())) => {}
            None if text.headers("Via").count() == 1 => self.originated(sent),
            None if text.to_tag().is_empty() => self.invited(sent),
            None => self.passed(from, text),
        }
    }

    /// A first INVITE goes to a destination.
    fn invited(&mut self, sent: &Sent) {
        let call = sent.text.call_id().to_owned();
        self.refused = self.refused.take().map(|(call, _)| (call, true));
        if let Some(entry) = self.entries.get_mut(&call) {
            entry.seat = sent.to;
            entry.tries += 1;
        } else if self.entries.len() < self.rules.table {
            let entry = self.entry(Stage::Pending, sent.to, source(&sent.text));
            self.entries.insert(call.clone(), Entry { tries: 1, ..entry });
        } else if self.some_end {
            // There may have been room by then.
            let entry = self.entry(Stage::Pending, sent.to, source(&sent.text));
            self.doubtful = Some((call.clone(), Entry { tries: 1, ..entry }));
        }
        let load = self.entries.values().filter(|entry| entry.seat == sent.to).count();
        let counted = self.entries.contains_key(&call);
        if let Some(most) = self.rules.max_sessions {
            self.hold(load <= most as usize || !counted, || {
                format!("{} gets an INVITE and has {load} of {most}", sent.to)
            });
        }
    }

    fn entry(&mut self, stage: Stage, seat: SocketAddr, caller: SocketAddr) -> Entry {
        self.numbers += 1;
        Entry {
            number: self.numbers,
            stage,
            foreign: stage == Stage::Adopted,
            seat,
            caller,
            live: Vec::new(),
            over: Vec::new(),
            known: None,
            home: false,
            began: self.now,
            answered: None,
            heard: self.now,
            timer: None,
            counted: None,
            cseq: [None; 2],
            missed: [0; 2],
            // A destination has by its 2xx.
            spoke: [false, true],
            ping: None,
            tries: 0,
            hung_up_by: [false; 2],
        }
    }

    /// An answer goes to somebody who waits for it.
    fn answered(&mut self, from: Option<(SocketAddr, &Text)>, to: SocketAddr, status: u16, text: &Text) {
        let (cseq, method) = text.cseq();
        let call = text.call_id().to_owned();
        let first = method == "INVITE" && cseq == 1 && text.header("From").contains(";tag=c-");
        if !first {
            if status >= 200 {
                // One of ours: nobody behind us gave it.
                let ours = self.requests.iter().find(|(_, one)| one.theirs == text.branch() && one.method == method);
                if let Some(branch) = ours.map(|(branch, _)| branch.clone())
                    && let Some(request) = self.requests.remove(&branch)
                {
                    self.conclude(&request, status, None);
                }
            }
            return;
        }
        if status >= 200 {
            self.open.remove(&call);
        }
        match status {
            ..200 => {}
            200..300 => self.set_up(from, to, &call, text),
            300.. => {
                if self.entries.get(&call).is_some_and(|entry| entry.stage == Stage::Pending) {
                    match self.cancelled.contains(&call) {
                        true => self.is_over(&call, &[Ending::Cancelled]),
                        false => self.is_over(&call, &[Ending::Rejected, Ending::Failed]),
                    }
                }
            }
        }
    }

    /// A 2xx to a first INVITE goes to its caller.
    fn set_up(&mut self, from: Option<(SocketAddr, &Text)>, caller: SocketAddr, call: &str, text: &Text) {
        let Rules { policy, .. } = &self.rules;
        let now = self.now;
        let Some(entry) = self.entries.get_mut(call) else { return };
        let tag = text.to_tag().to_owned();
        let known = !entry.live.contains(&tag) && !entry.over.contains(&tag);
        if entry.stage != Stage::Pending {
            // Of a try that another has won over, or so late that nobody waits for it: it goes by its Vias alone.
            let waited_for = !entry.foreign
                && from.is_some_and(|(from, _)| from == entry.seat)
                && entry.answered.is_some_and(|answered| now < answered + Duration::from_secs(32));
            if known && waited_for {
                entry.live.push(tag);
            }
            return;
        }
        entry.count_of(&tag);
        entry.stage = Stage::Confirmed;
        entry.answered = Some(now);
        entry.heard = now;
        entry.cseq[leg(Side::Caller)] = entry.cseq[leg(Side::Caller)].max(Some(1));
        entry.timer = expires(text).map(|expires| now + expires + policy.timer_grace);
        entry.ping = policy.ping.map(|ping| now + ping.interval);
        entry.home = caller.ip().is_loopback();
        if let Some((from, _)) = from.filter(|(_, text)| text.status().is_some()) {
            entry.seat = from;
        }
        if known {
            entry.known = Some(tag.clone());
            entry.live.push(tag);
        } else {
            // Its BYE has overtaken it.
            let allowed: Vec<_> = [Ending::CallerBye, Ending::DestinationBye]
                .into_iter()
                .zip(entry.hung_up_by)
                .filter_map(|(ending, by)| by.then_some(ending))
                .collect();
            self.is_over(call, &allowed);
        }
    }

    /// An ACK goes on to its destination.
    fn acknowledged(&mut self, from: Option<(SocketAddr, &Text)>, text: &Text) {
        if text.headers("Via").count() < 2 || from.is_none_or(|(_, came)| came.method() != "ACK") {
            return;
        }
        if let Some((side, call)) = self.place(from, text) {
            self.hear(&call, side, text);
        }
    }

    /// Whose request this is, and of which call, if it is of a session in the table.
    fn place(&self, from: Option<(SocketAddr, &Text)>, text: &Text) -> Option<(Side, String)> {
        let call = text.call_id().to_owned();
        let entry = self.entries.get(&call)?;
        let side = side(text);
        // One of a try that another has won over is not the one in the table.
        let at = if side == Side::Caller { Some(target(text)) } else { from.map(|(from, _)| from) };
        // A caller that names us means the destination that we know.
        let names_us = at.is_some_and(|at| [INSIDE, OUTSIDE].contains(&at.to_string().as_str()));
        (at == Some(entry.seat) || names_us).then_some((side, call))
    }

    fn hear(&mut self, call: &str, side: Side, text: &Text) {
        let now = self.now;
        let tag = if side == Side::Caller { text.to_tag() } else { from_tag(text) };
        if let Some(entry) = self.entries.get_mut(call) {
            entry.heard = now;
            entry.missed[leg(side)] = 0;
            entry.spoke[leg(side)] = true;
            if entry.stage == Stage::Pending {
                entry.count_of(tag);
            }
            if entry.counted.as_deref() == Some(tag) {
                entry.cseq[leg(side)] = entry.cseq[leg(side)].max(Some(text.cseq().0));
            }
        }
    }

    /// A request within a dialog goes on for the first time.
    fn passed(&mut self, from: Option<(SocketAddr, &Text)>, text: &Text) {
        let (cseq, method) = text.cseq();
        if let Some((_, came)) = from {
            self.hold(came.cseq() == (cseq, method), || format!("another CSeq: {text:?}"));
        }
        let side = side(text);
        let tag = if side == Side::Caller { text.to_tag() } else { from_tag(text) }.to_owned();
        let call = text.call_id().to_owned();
        match self.place(from, text) {
            Some((side, call)) => {
                self.hear(&call, side, text);
                if method == "BYE"
                    && let Some(entry) = self.entries.get_mut(&call)
                {
                    entry.hung_up_by[leg(side)] = true;
                    if entry.end(&tag) && entry.stage != Stage::Pending {
                        self.is_over(&call, &[[Ending::CallerBye, Ending::DestinationBye][leg(side)]]);
                    }
                }
            }
            None if method == "BYE"
                || !is_of_session(method)
                || self.entries.contains_key(&call)
                || self.entries.len() >= self.rules.table => {}
            None => self.adopt(from, text, &call, &tag),
        }
        let entry = self.place(from, text).and_then(|(_, call)| self.entries.get(&call)).map(|entry| entry.number);
        let via = text.headers("Via").nth(1).unwrap_or_default();
        let theirs = via.split_once("branch=").map_or("", |(_, branch)| branch).split(';').next().unwrap_or_default();
        let (method, theirs, at) = (method.to_owned(), theirs.to_owned(), self.now);
        let request = Request { call, entry, tag, method, at, theirs };
        self.requests.insert(text.branch().to_owned(), request);
    }

    /// A session that is not in the table: its cookie has told where it is.
    fn adopt(&mut self, from: Option<(SocketAddr, &Text)>, text: &Text, call: &str, tag: &str) {
        let Some((from, _)) = from else { return };
        let (seat, caller) = match side(text) {
            Side::Caller => (target(text), from),
            Side::Destination => (from, target(text)),
        };
        let mut entry = self.entry(Stage::Adopted, seat, caller);
        entry.live.push(tag.to_owned());
        // By which address of ours it came is known by who sent it.
        entry.home = from.ip().is_loopback();
        match self.ended.get(call).map(|at| self.now - *at) {
            Some(age) if age < Duration::from_secs(32) => {}
            // The node remembers for half a minute, and not longer than twice that.
            Some(age) if age <= Duration::from_secs(64) => {
                // The request is the one that is put in next.
                self.doubtful = Some((call.to_owned(), entry));
            }
            Some(_) | None => drop(self.entries.insert(call.to_owned(), entry)),
        }
    }

    fn settle_doubt(&mut self, snapshot: &Snapshot) {
        let Some((call, entry)) = self.doubtful.take() else { return };
        if snapshot.sessions == self.entries.len() + 1 {
            self.requests.values_mut().filter(|one| one.call == call && one.at == self.now).for_each(|one| {
                one.entry = Some(entry.number);
            });
            self.entries.insert(call, entry);
        }
    }

    /// A session is over by what has just happened.
    pub(crate) fn is_over(&mut self, call: &str, allowed: &[Ending]) {
        if let Some(entry) = self.entries.remove(call) {
            self.expected.push(Expected { call: call.to_owned(), entry, allowed: allowed.to_vec() });
        }
    }

    /// What time ends of a session.
    fn may_end(&self, entry: &Entry, ending: Ending) -> bool {
        let past = |at: Option<Duration>| at.is_some_and(|at| at <= self.now);
        let confirmed = entry.stage == Stage::Confirmed;
        let most = self.rules.policy.max_duration;
        match ending {
            Ending::MaxDuration => confirmed && past(most.zip(entry.answered).map(|(most, answered)| answered + most)),
            Ending::SessionTimer => confirmed && past(entry.timer),
            Ending::Quiet => past(Some(entry.heard + self.rules.lifetime)),
            Ending::Operator => self.ordered.get(&entry.seat).is_some_and(|at| entry.began <= *at) && self.owns(entry),
            Ending::DestinationDown => {
                self.rules.policy.on_down == OnDown::Bye && self.down.contains_key(&entry.seat) && self.owns(entry)
            }
            _ => false,
        }
    }

    fn record(&mut self, record: &Record) {
        self.counts[record.ending as usize] += 1;
        self.seen[record.ending as usize] += 1;
        if matches!(record.ending, Ending::Empty | Ending::Full) {
            return;
        }
        let unnamed = record.call_id.is_empty();
        let same = |call: &str, entry: &Entry| match unnamed {
            false => call == record.call_id,
            true => {
                (entry.foreign || entry.stage == Stage::Pending)
                    && Some(entry.seat) == record.address
                    && record.lasted == self.now - entry.began
            }
        };
        let place = self.expected.iter().position(|one| {
            same(&one.call, &one.entry)
                && (one.allowed.contains(&record.ending) || self.may_end(&one.entry, record.ending))
        });
        let (call, entry) = match place {
            Some(place) => {
                let Expected { call, entry, .. } = self.expected.swap_remove(place);
                (call, entry)
            }
            None => {
                let found =
                    self.entries.iter().find(|(call, entry)| same(call, entry) && self.may_end(entry, record.ending));
                let call = found.map(|(call, _)| call.clone());
                self.hold(call.is_some(), || format!("{record:?} of {:?}", self.entries.get(&record.call_id)));
                let call = call.unwrap_or_default();
                let entry = self.entries.remove(&call).expect("found above");
                (call, entry)
            }
        };
        if !entry.foreign {
            let records = self.records.entry(format!("{call} {}", entry.number)).or_default();
            *records += 1;
            let once = *records == 1;
            self.hold(once, || format!("two records of {call}"));
        }
        self.is_plausible(record, &entry);
        if entry.stage == Stage::Confirmed || entry.hung_up_by != [false; 2] {
            self.ended.insert(call.clone(), self.now);
        }
        let told = self.told(&entry, record.ending);
        self.over.push((call, entry, told));
    }

    fn is_plausible(&self, record: &Record, entry: &Entry) {
        let tries = if entry.stage == Stage::Pending && matches!(record.ending, Ending::Quiet | Ending::AddressLost) {
            entry.tries - 1
        } else {
            entry.tries
        };
        let answered = entry.answered.filter(|_| !entry.foreign).map(|answered| answered - entry.began);
        let right = record.address == Some(entry.seat)
            && record.destination == Some(format!("sip:{}", entry.seat))
            && record.codes.len() == tries
            && record.answered_after == answered
            && record.lasted == self.now - entry.began
            && (answered.is_none() || record.codes.contains(&200));
        self.hold(right, || format!("{record:?} of {entry:?}"));
    }

    /// A new call was sent nowhere: the set is empty, or full.
    fn turned_away(&mut self, call: &str, sent: &[Sent], records: &[Record], snapshot: &Snapshot) {
        self.open.remove(call);
        let told = sent.iter().filter_map(|one| one.text.status()).find(|status| *status >= 200);
        let record = records.iter().find(|record| record.call_id == call);
        let unfit = |address: SocketAddr| {
            let load = self.entries.values().filter(|entry| entry.seat == address).count();
            let full = self.rules.max_sessions.is_some_and(|most| load >= most as usize);
            full || self.down.contains_key(&address)
        };
        let all = snapshot.sets.iter().flat_map(|set| &set.destinations).filter_map(|one| one.address).all(unfit);
        let right = record.is_some_and(|record| {
            matches!((record.ending, told), (Ending::Full, Some(486)) | (Ending::Empty, Some(480)))
                && record.codes.is_empty()
                && record.destination.is_none()
        });
        self.hold(right && all, || format!("{call} was told {told:?}, {record:?}, {all}"));
    }

    fn is_nothing_overdue(&self) {
        let before = self.now.saturating_sub(Duration::from_millis(1));
        for (call, entry) in &self.entries {
            // One that has just been pinged, late, is looked at again with the next tick.
            let pinged = self.rules.policy.ping.is_some_and(|ping| entry.ping == Some(self.now + ping.interval));
            let late = Model::overdue(&self.rules, entry, before);
            self.hold(pinged || !late, || format!("{call} outlives its time: {entry:?}"));
        }
    }

    fn overdue(rules: &Rules, entry: &Entry, now: Duration) -> bool {
        let confirmed = entry.stage == Stage::Confirmed;
        let lasts = rules.policy.max_duration.zip(entry.answered).map(|(most, answered)| answered + most);
        let quiet = Some(entry.heard + rules.lifetime);
        let times = [lasts.filter(|_| confirmed), entry.timer.filter(|_| confirmed), quiet];
        times.into_iter().flatten().any(|at| at < now)
    }

    /// Those that are ordered to end, or whose destination is down, go at their pace.
    pub(crate) fn is_nobody_left_behind(&self, pace: Duration) {
        if self.ever_lost {
            return;
        }
        for (call, entry) in
            self.entries.iter().filter(|(_, entry)| entry.stage == Stage::Confirmed && self.owns(entry))
        {
            let down = self.down.get(&entry.seat).filter(|_| self.rules.policy.on_down == OnDown::Bye);
            for since in [down, self.ordered.get(&entry.seat)].into_iter().flatten() {
                let before = entry.answered.is_some_and(|answered| answered < *since);
                self.hold(!before || self.now < *since + pace, || format!("{call} is left since {since:?}: {entry:?}"));
            }
        }
    }

    fn compare(&self, snapshot: &Snapshot) {
        self.hold(snapshot.sessions == self.entries.len(), || {
            format!("{} sessions, not {}: {:?}", snapshot.sessions, self.entries.len(), self.entries)
        });
        let mut sum = 0;
        for one in snapshot.sets.iter().flat_map(|set| &set.destinations) {
            let load = self.entries.values().filter(|entry| Some(entry.seat) == one.address).count() as u64;
            self.hold(one.sessions == load, || {
                format!("{} has {}, not {load}: {:?}", one.uri, one.sessions, self.entries)
            });
            self.hold(one.sessions_peak >= load, || format!("{} never had {load}", one.uri));
            sum += one.sessions as usize;
        }
        self.hold(sum == snapshot.sessions, || format!("{sum} at destinations, {} in all", snapshot.sessions));
        let home = |entry: &&Entry| self.lost && entry.home;
        let parked = self.entries.values().filter(home).count();
        self.hold(snapshot.parked == parked, || format!("{} parked, not {parked}", snapshot.parked));
        self.hold(snapshot.totals.ended == self.counts, || {
            format!("{:?} ended, not {:?}", snapshot.totals.ended, self.counts)
        });
    }

    /// A session that is in the table, or was up to this turn.
    pub(crate) fn current(&self, call: &str) -> Option<&Entry> {
        let ending = || self.expected.iter().find(|one| one.call == call).map(|one| &one.entry);
        self.entries.get(call).or_else(ending)
    }

    /// Those that have ended in this turn.
    pub(crate) fn take_over(&mut self) -> Vec<(String, Entry, [bool; 2])> {
        std::mem::take(&mut self.over)
    }

    /// Whether nothing is awaited any more.
    pub(crate) fn is_idle(&self) -> bool {
        self.entries.is_empty()
    }
}

impl PartialEq for Step<'_> {
    fn eq(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl Entry {
    /// Each dialog has CSeq numbers of its own.
    fn count_of(&mut self, tag: &str) {
        if self.counted.as_deref() != Some(tag) {
            self.counted = Some(tag.to_owned());
            self.cseq = [None; 2];
        }
    }

    /// One of its dialogs has ended; whether that was the last one.
    fn end(&mut self, tag: &str) -> bool {
        let had = self.live.iter().any(|live| live == tag);
        self.live.retain(|live| live != tag);
        if !self.over.iter().any(|over| over == tag) {
            self.over.push(tag.to_owned());
        }
        if self.known.as_deref() == Some(tag) && !self.live.is_empty() {
            self.known = None;
        }
        had && self.live.is_empty()
    }
}

fn expires(text: &Text) -> Option<Duration> {
    // RFC 4028 section 4.
    text.headers("Session-Expires").next()?.parse().ok().map(|seconds: u64| Duration::from_secs(seconds.max(90)))
}

fn side(text: &Text) -> Side {
    if text.header("From").contains(";tag=c-") { Side::Caller } else { Side::Destination }
}

fn from_tag(text: &Text) -> &str {
    text.header("From").split_once(";tag=").map_or("", |(_, tag)| tag)
}

/// Who sent what the node forwards.
fn source(text: &Text) -> SocketAddr {
    address(text.headers("Via").nth(1).unwrap_or_default().trim_start_matches("SIP/2.0/UDP "))
}

/// The address in the Request-URI.
fn target(text: &Text) -> SocketAddr {
    address(text.line().split(' ').nth(1).unwrap_or_default())
}
