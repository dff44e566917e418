//! What the engine may do: every datagram that enters or leaves it is held against these rules.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use tandem::engine::Snapshot;
use tandem::engine::dispatch::{Algorithm, Row, RowState};
use tandem::engine::transaction::timing::Timing;

use super::client::GIVE_UP;
use super::text::Text;

/// Lines of the trace that a failure shows.
const TAIL: usize = 60;
/// By how many turns a destination may be away from its share of a period; a fresh cycle stays below 2, and what a reload
/// finds half done adds one.
const UNEVEN: i64 = 3;

/// The rules and what they have seen.
#[derive(Debug)]
pub(crate) struct Model {
    name: String,
    now: Duration,
    algorithm: Algorithm,
    /// Lifetimes are so short that sessions may leave the table before their BYE.
    lapses: bool,
    rows: Vec<Row>,
    /// First INVITEs by destination since the last reload.
    period: HashMap<SocketAddr, i64>,
    /// First INVITEs of the whole run.
    pub(crate) selections: u64,
    destinations: HashSet<SocketAddr>,
    strangers: HashSet<SocketAddr>,
    calls: HashMap<String, Call>,
    received: HashMap<(String, String), Received>,
    sent: HashMap<(String, String), Sent>,
    /// A request in a live dialog that has to go on before the turn is over.
    owed: Option<(String, u32, String)>,
    /// When a datagram entered last.
    pub(crate) last_heard: Duration,
    trace: VecDeque<(Duration, SocketAddr, SocketAddr, Vec<u8>)>,
}

#[derive(Debug)]
struct Call {
    caller: SocketAddr,
    destination: Option<SocketAddr>,
    chosen_at: Duration,
    cancelled: bool,
    confirmed: bool,
    ended: bool,
    /// Something of an ended call has gone through since: the table may have taken it up again.
    stirred: bool,
}

#[derive(Debug)]
struct Received {
    from: SocketAddr,
    by: SocketAddr,
    final_answer: Option<(u16, Vec<u8>)>,
    answered_at: Duration,
    acked: bool,
}

#[derive(Debug)]
struct Sent {
    to: SocketAddr,
    bytes: Vec<u8>,
    times: u32,
}

impl Model {
    /// Nothing seen yet.
    pub(crate) fn new(name: String, algorithm: Algorithm, lapses: bool, destinations: &[SocketAddr]) -> Self {
        Model {
            name,
            now: Duration::ZERO,
            algorithm,
            lapses,
            rows: Vec::new(),
            period: HashMap::new(),
            selections: 0,
            destinations: destinations.iter().copied().collect(),
            strangers: HashSet::new(),
            calls: HashMap::new(),
            received: HashMap::new(),
            sent: HashMap::new(),
            owed: None,
            last_heard: Duration::ZERO,
            trace: VecDeque::new(),
        }
    }

    /// An honest call that will be made.
    pub(crate) fn expect_call(&mut self, id: &str, caller: SocketAddr) {
        let call = Call {
            caller,
            destination: None,
            chosen_at: Duration::ZERO,
            cancelled: false,
            confirmed: false,
            ended: false,
            stirred: false,
        };
        self.calls.insert(id.to_owned(), call);
    }

    /// Somebody who is no caller: he may be answered, never asked.
    pub(crate) fn expect_stranger(&mut self, address: SocketAddr) {
        self.strangers.insert(address);
    }

    /// A load took effect.
    pub(crate) fn loaded(&mut self, rows: &[Row]) {
        self.rows = rows.to_vec();
        self.period.clear();
    }

    /// A datagram enters.
    pub(crate) fn received(&mut self, now: Duration, from: SocketAddr, by: SocketAddr, bytes: &[u8]) {
        self.now = now;
        self.last_heard = now;
        self.note(from, by, bytes);
        let text = Text::new(bytes);
        let honest = self.calls.contains_key(text.call_id()) && !self.strangers.contains(&from);
        if !honest || text.status().is_some() {
            return;
        }
        let call = self.calls.get_mut(text.call_id()).expect("looked up above");
        match text.method() {
            "ACK" => {
                if let Some(invite) = self.received.get_mut(&(text.branch().to_owned(), "INVITE".to_owned())) {
                    invite.acked = true;
                }
                return;
            }
            "CANCEL" => call.cancelled = true,
            method => {
                let key = (text.branch().to_owned(), method.to_owned());
                let live = call.confirmed && !call.ended && !self.lapses;
                if live && !text.to_tag().is_empty() && !self.received.contains_key(&key) {
                    self.owed = Some((text.call_id().to_owned(), text.cseq().0, method.to_owned()));
                }
            }
        }
        let key = (text.branch().to_owned(), text.method().to_owned());
        self.received.entry(key).or_insert(Received { from, by, final_answer: None, answered_at: now, acked: false });
    }

    /// A datagram leaves.
    pub(crate) fn sent(&mut self, now: Duration, by: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        self.now = now;
        self.note(by, to, bytes);
        if bytes == b"\r\n" {
            return self.hold(self.strangers.contains(&to), "only strangers ping");
        }
        let text = Text::new(bytes);
        match (text.status(), self.calls.contains_key(text.call_id()) && !text.header("From").contains("evil")) {
            // Whatever became of his Via: never another host than the one he sent from.
            (Some(_), false) => self.hold(
                self.strangers.iter().any(|one| one.ip() == to.ip()),
                "an answer to a stranger goes to nobody else",
            ),
            (None, false) => self.hold(self.destinations.contains(&to), "a stranger's request goes to no third party"),
            (Some(status), true) => self.answered(status, by, to, &text, bytes),
            (None, true) => self.asked(to, &text, bytes),
        }
    }

    /// What one input brought about is complete.
    pub(crate) fn turn_is_over(&mut self) {
        if let Some(owed) = self.owed.take() {
            self.fail(&format!("a request in a live dialog did not go on: {owed:?}"));
        }
    }

    fn answered(&mut self, status: u16, by: SocketAddr, to: SocketAddr, text: &Text, bytes: &[u8]) {
        let (cseq, method) = text.cseq();
        let key = (text.branch().to_owned(), method.to_owned());
        let ended = self.lapses || self.calls.get(text.call_id()).is_some_and(|call| call.ended);
        let Some(Received { from, by: came_by, final_answer, answered_at, acked }) = self.received.get_mut(&key) else {
            return self.fail("an answer to a request that never came");
        };
        let way = to == *from && by == *came_by;
        if status < 200 {
            let late = final_answer.is_some();
            self.hold(way, "an answer goes back the way of its request");
            return self.hold(!late, "a provisional after the final");
        }
        let first = final_answer.is_none();
        let fits = match final_answer {
            None => {
                *final_answer = Some((status, bytes.to_vec()));
                *answered_at = self.now;
                true
            }
            // Once all that we knew of the call is gone, answers pass by their Vias: a success is for its caller to ACK
            // and BYE (section 16.7).
            Some((300.., _)) if self.now - *answered_at >= GIVE_UP => true,
            // A hasty CANCEL overtakes its INVITE and comes again after it.
            Some(_) if method == "CANCEL" => true,
            // Refused without a transaction, since its session had ended and its row was gone; a reload has brought it back.
            Some((481, _)) if ended => true,
            Some((before, same)) => (*before, &same[..]) == (status, bytes),
        };
        let forgotten = self.now - *answered_at >= GIVE_UP;
        let repeats_after_ack = !first && !forgotten && *acked && status >= 300 && method == "INVITE";
        self.hold(way, "an answer goes back the way of its request");
        self.hold(fits, "a second final answer that differs from the first");
        self.hold(!repeats_after_ack, "a failure is sent again after its ACK");
        if first && (200..300).contains(&status) {
            let call = self.calls.get_mut(text.call_id()).expect("asked for above");
            let initial = cseq == 1 && text.branch().ends_with("-0");
            match (method, call.ended) {
                ("INVITE", false) if initial => call.confirmed = true,
                ("BYE" | "CANCEL", _) | (_, false) => {}
                (_, true) => call.stirred = true,
            }
        }
    }

    fn asked(&mut self, to: SocketAddr, text: &Text, bytes: &[u8]) {
        let method = text.method();
        if self.owed.as_ref().is_some_and(|(id, cseq, owed)| {
            (id.as_str(), *cseq, owed.as_str()) == (text.call_id(), text.cseq().0, method)
        }) {
            self.owed = None;
        }
        let key = (text.branch().to_owned(), method.to_owned());
        let again = self.sent.get(&key).map(|sent| (sent.to == to && sent.bytes == bytes, sent.times + 1));
        let most = match method {
            "ACK" => u32::MAX,
            "INVITE" => 7,
            _ => 11,
        };
        self.hold(again.is_none_or(|(same, _)| same), "a request that is sent again differs");
        self.hold(again.is_none_or(|(_, times)| times <= most), "a request is sent too often");
        let sent = self.sent.entry(key).or_insert_with(|| Sent { to, bytes: bytes.to_vec(), times: 0 });
        sent.times += 1;
        let call = self.calls.get_mut(text.call_id()).expect("asked for above");
        if !text.header("From").contains(";tag=c-") {
            let caller = call.caller;
            call.ended |= method == "BYE";
            return self.hold(to == caller, "a request of the destination goes to its caller");
        }
        if text.to_tag().is_empty() && matches!(method, "INVITE" | "OPTIONS") {
            if again.is_some() {
                return;
            }
            let before = call.destination.replace(to);
            call.chosen_at = self.now;
            self.hold(before.is_none(), "a call is sent to a destination twice");
            return self.chosen(to, method == "INVITE");
        }
        call.ended |= method == "BYE";
        let (destination, since) = (call.destination, self.now - call.chosen_at);
        let may_cancel = call.cancelled || since >= Timing::RFC_3261.timer_c;
        self.hold(destination == Some(to), "a request of a call goes to another destination");
        self.hold(method != "CANCEL" || may_cancel, "a CANCEL that nobody asked for");
    }

    /// A destination was chosen for a new request.
    fn chosen(&mut self, to: SocketAddr, invite: bool) {
        let fit = || self.rows.iter().filter(|row| row.state == RowState::Active);
        let Some(row) = fit().find(|row| row.address == to) else { return self.fail("an unfit destination is chosen") };
        let highest = fit().map(|row| row.priority).max().unwrap_or_default();
        let by_weight = fit().any(|row| row.weight > 0);
        let right = match self.algorithm {
            Algorithm::Priority => row.priority == highest,
            Algorithm::RoundRobin | Algorithm::Random => !by_weight || row.weight > 0,
        };
        self.hold(right, "priority or weight 0 is not respected");
        if !invite {
            return;
        }
        self.selections += 1;
        *self.period.entry(to).or_default() += 1;
        let turns: i64 = self.period.values().sum();
        let weight = |row: &Row| if by_weight { i64::from(row.weight) } else { 1 };
        let whole: i64 = self.rows.iter().filter(|row| row.state == RowState::Active).map(weight).sum();
        for row in self.rows.iter().filter(|row| row.state == RowState::Active) {
            let given = self.period.get(&row.address).copied().unwrap_or_default();
            let off = (given * whole - turns * weight(row)).abs();
            if self.algorithm == Algorithm::RoundRobin && off >= UNEVEN * whole {
                let weights: Vec<_> = self.rows.iter().map(|row| (row.weight, row.state, row.address.port())).collect();
                self.fail(&format!("not as even as the weights say: {:?} of {weights:?}", self.period));
            }
        }
    }

    /// All traffic and all timers are over.
    pub(crate) fn is_over(&self, snapshot: &Snapshot) {
        let open = self.received.iter().find(|((_, method), one)| method == "INVITE" && one.final_answer.is_none());
        if let Some(open) = open {
            self.fail(&format!("an INVITE was never answered: {open:?}"));
        }
        self.hold(snapshot.transactions == 0, "a transaction outlives its timers");
        let live = self.calls.values().filter(|call| call.confirmed && !call.ended).count();
        let stirred = self.calls.values().filter(|call| call.stirred).count();
        let sessions = live..=live + stirred;
        if !self.lapses && !sessions.contains(&snapshot.sessions) {
            self.fail(&format!("{} sessions in the table, {sessions:?} live", snapshot.sessions));
        }
    }

    /// A rule.
    pub(crate) fn hold(&self, holds: bool, rule: &str) {
        if !holds {
            self.fail(rule);
        }
    }

    /// A rule is broken.
    pub(crate) fn fail(&self, rule: &str) {
        panic!("{} at {:?}: {rule}", self.name, self.now);
    }

    fn note(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        if self.trace.len() == TAIL {
            self.trace.pop_front();
        }
        self.trace.push_back((self.now, from, to, bytes.to_vec()));
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        eprintln!("{}: what went before, up to {:?}:", self.name, self.now);
        for (at, from, to, bytes) in &self.trace {
            let text = Text::new(bytes);
            let (cseq, method) = text.cseq();
            let (line, id, branch) = (text.line(), text.call_id(), text.branch());
            eprintln!("{at:>14?} {from} > {to} {line} | {cseq} {method} | {id} | {branch} | {}", text.to_tag());
        }
    }
}
