//! What the engine may do: every datagram that enters or leaves it is held against these rules.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use tandem::engine::Snapshot;
use tandem::engine::dispatch::{Algorithm, Failover, Row, RowState};

use super::client::GIVE_UP;
use super::search::Search;
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
    /// How the set fails over.
    policy: Failover,
    /// By how much a wake-up may be late.
    late: Duration,
    /// INVITEs to destinations in the whole run.
    pub(crate) selections: u64,
    destinations: HashSet<SocketAddr>,
    strangers: HashSet<SocketAddr>,
    calls: HashMap<String, Call>,
    received: HashMap<(String, String), Received>,
    sent: HashMap<(String, String), Sent>,
    /// A request in a live dialog that has to go on before the turn is over.
    owed: Option<(String, u32, String)>,
    /// A 2xx that nobody waits for has come: it has to be acknowledged and ended before the turn is over.
    unwanted: Option<Unwanted>,
    /// A branch that nobody waits for rings: it has to be cancelled before the turn is over.
    ringing: Option<String>,
    /// Tries after the first, and requests whose every try failed.
    failovers: u64,
    exhausted: u64,
    /// 2xx that nobody waited for; and how many more there may have been.
    late_2xx: (u64, u64),
    /// When a datagram entered last.
    pub(crate) last_heard: Duration,
    trace: VecDeque<(Duration, SocketAddr, SocketAddr, Vec<u8>)>,
}

#[derive(Debug)]
struct Call {
    caller: SocketAddr,
    search: Search,
    /// When its first request had its final answer.
    answered: Option<Duration>,
    /// The session of the answer: its destination's tag.
    winner: Option<String>,
    /// Where each tag is.
    tags: HashMap<String, SocketAddr>,
    cancelled: bool,
    confirmed: bool,
    ended: bool,
    /// Something of an ended call has gone through since: the table may have taken it up again.
    stirred: bool,
}

#[derive(Debug)]
struct Unwanted {
    id: String,
    tag: String,
    to: SocketAddr,
    acked: bool,
    ended: bool,
    /// Whether it has to be ended by BYE, or was already.
    bye: bool,
    /// Whether we surely know of it.
    surely: bool,
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
    pub(crate) fn new(
        name: String,
        algorithm: Algorithm,
        (policy, late): (Failover, Duration),
        lapses: bool,
        destinations: &[SocketAddr],
    ) -> Self {
        Model {
            name,
            now: Duration::ZERO,
            algorithm,
            lapses,
            rows: Vec::new(),
            period: HashMap::new(),
            policy,
            late,
            selections: 0,
            destinations: destinations.iter().copied().collect(),
            strangers: HashSet::new(),
            calls: HashMap::new(),
            received: HashMap::new(),
            sent: HashMap::new(),
            owed: None,
            unwanted: None,
            ringing: None,
            failovers: 0,
            exhausted: 0,
            late_2xx: (0, 0),
            last_heard: Duration::ZERO,
            trace: VecDeque::new(),
        }
    }

    /// An honest call that will be made.
    pub(crate) fn expect_call(&mut self, id: &str, caller: SocketAddr) {
        let call = Call {
            caller,
            search: Search::default(),
            answered: None,
            winner: None,
            tags: HashMap::new(),
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
        self.calls.values_mut().for_each(|call| call.search.loaded(rows));
    }

    /// The host learns that nobody listens at `to`, where it sent that datagram.
    pub(crate) fn refused(&mut self, now: Duration, by: SocketAddr, to: SocketAddr, quoted: &[u8]) {
        self.now = now;
        let text = Text::new(quoted);
        let call = self.calls.get_mut(text.call_id()).filter(|call| call.answered.is_none());
        if let Some(call) = call.filter(|_| quoted.starts_with(b"INVITE ") || quoted.starts_with(b"OPTIONS ")) {
            call.search.refuse(by, to);
        }
    }

    /// A datagram enters.
    pub(crate) fn received(&mut self, now: Duration, from: SocketAddr, by: SocketAddr, bytes: &[u8]) {
        self.now = now;
        self.last_heard = now;
        self.note(from, by, bytes);
        let text = Text::new(bytes);
        let honest = self.calls.contains_key(text.call_id()) && !self.strangers.contains(&from);
        if !honest {
            return;
        }
        if let Some(status) = text.status() {
            return self.heard(status, from, &text);
        }
        let call = self.calls.get_mut(text.call_id()).expect("looked up above");
        match text.method() {
            "ACK" => {
                if let Some(invite) = self.received.get_mut(&(text.branch().to_owned(), "INVITE".to_owned())) {
                    invite.acked = true;
                }
                return;
            }
            // One that overtook its INVITE cancels nothing.
            "CANCEL" => call.cancelled |= self.received.contains_key(&(text.branch().to_owned(), "INVITE".to_owned())),
            method => {
                let key = (text.branch().to_owned(), method.to_owned());
                let own = call
                    .winner
                    .as_ref()
                    .is_some_and(|tag| text.to_tag() == tag || text.header("From").ends_with(&format!(";tag={tag}")));
                let live = own && call.confirmed && !call.ended && !self.lapses;
                if live && !text.to_tag().is_empty() && !self.received.contains_key(&key) {
                    self.owed = Some((text.call_id().to_owned(), text.cseq().0, method.to_owned()));
                }
            }
        }
        let key = (text.branch().to_owned(), text.method().to_owned());
        self.received.entry(key).or_insert(Received { from, by, final_answer: None, answered_at: now, acked: false });
    }

    /// A response has come.
    fn heard(&mut self, status: u16, from: SocketAddr, text: &Text) {
        let now = self.now;
        let id = text.call_id();
        let call = self.calls.get_mut(id).expect("asked for above");
        if (200..300).contains(&status) && !text.to_tag().is_empty() {
            call.tags.insert(text.to_tag().to_owned(), from);
        }
        if !matches!(text.cseq(), (1, "INVITE" | "OPTIONS")) {
            return;
        }
        let policy = &self.policy;
        let Some(number) = call.search.hear(text.branch(), status, now, policy) else { return };
        let left = number + 1 < call.search.tries.len() || call.answered.is_some();
        let one = &mut call.search.tries[number];
        if text.cseq().1 == "OPTIONS" {
            return;
        }
        let known = one.known.is_none_or(|known| now < known);
        match status {
            ..200 if (left || call.cancelled) && known && !one.cancelled && one.status.is_none() => {
                self.ringing = Some(text.branch().to_owned());
            }
            200..300
                if left && (call.winner.as_deref() != Some(text.to_tag())) && (call.answered.is_some() || !known) =>
            {
                // What we have forgotten goes by its Vias to the caller, unless we surely still have that one's request.
                let has_request = call.answered.is_none_or(|at| call.winner.is_some() && now < at + GIVE_UP);
                if one.known.is_some_and(|until| now < until) && !one.ended {
                    one.known = Some(now + GIVE_UP);
                }
                let bye = !one.ended || !known;
                self.late_2xx.0 += u64::from(known && bye);
                self.late_2xx.1 += u64::from(!known);
                one.ended |= known;
                let (id, tag, to) = (id.to_owned(), text.to_tag().to_owned(), one.to);
                // While a load has left nobody there, it may be a stranger's.
                let is_ours = self.rows.iter().any(|row| row.address.ip() == one.to.ip());
                let forgotten = one.known.is_some_and(|until| now > until + self.late);
                let surely = known || has_request && is_ours && forgotten;
                self.unwanted = Some(Unwanted { id, tag, to, acked: false, ended: false, bye, surely });
            }
            _ => {}
        }
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
            (None, true) => self.asked(by, to, &text, bytes),
        }
    }

    /// What one input brought about is complete.
    pub(crate) fn turn_is_over(&mut self) {
        if let Some(owed) = self.owed.take() {
            self.fail(&format!("a request in a live dialog did not go on: {owed:?}"));
        }
        if let Some(unwanted) = self.unwanted.take().filter(|one| one.surely && (!one.acked || one.bye != one.ended)) {
            self.fail(&format!("a late 2xx is not ended: {unwanted:?}"));
        }
        if let Some(branch) = self.ringing.take() {
            self.fail(&format!("a branch that nobody waits for rings on: {branch}"));
        }
    }

    fn answered(&mut self, status: u16, by: SocketAddr, to: SocketAddr, text: &Text, bytes: &[u8]) {
        let (cseq, method) = text.cseq();
        let key = (text.branch().to_owned(), method.to_owned());
        let ended = self.lapses
            || self.calls.get(text.call_id()).is_some_and(|call| {
                // Its own session, or one that came by its Vias when the call was forgotten.
                call.ended || call.winner.as_deref() != Some(text.to_tag())
            });
        let Some(Received { from, by: came_by, final_answer, answered_at, acked }) = self.received.get_mut(&key) else {
            return self.fail("an answer to a request that never came");
        };
        let way = to == *from && by == *came_by;
        if status < 200 {
            let late = final_answer.as_ref().is_some_and(|(before, _)| !is_gone(*before, self.now - *answered_at));
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
            Some((before, _)) if is_gone(*before, self.now - *answered_at) => true,
            // A hasty CANCEL overtakes its INVITE and comes again after it.
            Some(_) if method == "CANCEL" => true,
            // Refused without a transaction, since its session had ended and its row was gone; a reload has brought it back.
            Some((481, _)) if ended => true,
            Some((before, same)) => (*before, &same[..]) == (status, bytes),
        };
        let forgotten = is_gone(status, self.now - *answered_at);
        // Without a transaction it is 481 each time.
        let repeats_after_ack =
            !first && !forgotten && *acked && status >= 300 && method == "INVITE" && !(ended && status == 481);
        self.hold(way, "an answer goes back the way of its request");
        self.hold(fits, "a second final answer that differs from the first");
        self.hold(!repeats_after_ack, "a failure is sent again after its ACK");
        let initial = cseq == 1 && text.branch().ends_with("-0") && matches!(method, "INVITE" | "OPTIONS");
        if first && initial {
            self.decided(status, text);
        }
        if first && (200..300).contains(&status) {
            let call = self.calls.get_mut(text.call_id()).expect("asked for above");
            match (method, call.ended) {
                ("INVITE", false) if initial => call.confirmed = true,
                ("BYE" | "CANCEL", _) | (_, false) => {}
                (_, true) => call.stirred = true,
            }
        }
    }

    /// Whether the budget lets one more search go on to its second try.
    fn has_room(&self) -> bool {
        let open = || self.calls.values().filter(|call| call.answered.is_none() && !call.search.tries.is_empty());
        let retrying = open().filter(|call| call.search.retrying).count();
        let share = open().count() * usize::from(self.policy.retry_budget) / 100;
        retrying < share.max(self.policy.min_retry_concurrency)
    }

    /// The caller's first request has its final answer.
    fn decided(&mut self, status: u16, text: &Text) {
        let room = self.has_room();
        let (now, policy, late) = (self.now, self.policy, self.late);
        let invite = text.cseq().1 == "INVITE";
        let call = self.calls.get_mut(text.call_id()).expect("asked for above");
        let search = &call.search;
        let broken = match (search.tries.last(), search.fault(now, late, invite)) {
            _ if status < 300 => {
                let right = search.tries.iter().any(|one| one.status == Some(status));
                (!right).then(|| "a 2xx of nobody".to_owned())
            }
            (None, _) => {
                let fit = self.rows.iter().any(|row| row.state == RowState::Active);
                (fit || status != 480).then(|| "a set that has somebody asks nobody".to_owned())
            }
            (Some(last), _) if call.cancelled => {
                let right = status == 487 || last.status == Some(status) || search.kept == Some(status);
                (!right).then(|| "a cancelled call has another answer than 487 and its destination's".to_owned())
            }
            (Some(_), Err(why)) => Some(why.to_owned()),
            (Some(_), Ok(fault)) => match search.kept {
                Some(503) => (status != 500).then(|| "a 503 is not the caller's".to_owned()),
                Some(kept) => (status != kept).then(|| format!("the answer is {kept}")),
                None => {
                    let reason = format!("SIP;cause={}", fault.cause());
                    let reply = (status, text.header("Reason")) == (480, reason.as_str());
                    let more = search.may_go_on(fault, &policy, room) && search.has_more(&self.rows);
                    match (reply, more) {
                        (false, _) => Some(format!("the answer is the set's, for {reason}")),
                        (true, true) => Some(format!("somebody was not asked after {fault:?}")),
                        (true, false) => None,
                    }
                }
            },
        };
        self.exhausted += u64::from(
            broken.is_none() && !call.cancelled && !search.tries.is_empty() && status == 480 && search.kept.is_none(),
        );
        call.answered = Some(now);
        if status < 300 && invite {
            call.winner = Some(text.to_tag().to_owned());
            let left = call.search.tries.iter_mut().filter(|one| one.status != Some(status));
            left.for_each(|one| _ = one.known.get_or_insert(now + GIVE_UP));
        } else {
            call.search.leave(now);
        }
        if let Some(broken) = broken {
            self.fail(&format!("{broken}, not {status}: {:?}", self.calls[text.call_id()]));
        }
    }

    fn asked(&mut self, by: SocketAddr, to: SocketAddr, text: &Text, bytes: &[u8]) {
        let method = text.method();
        if self.owed.as_ref().is_some_and(|(id, cseq, owed)| {
            (id.as_str(), *cseq, owed.as_str()) == (text.call_id(), text.cseq().0, method)
        }) {
            self.owed = None;
        }
        let key = (text.branch().to_owned(), method.to_owned());
        let of_invite = self.sent.contains_key(&(text.branch().to_owned(), "INVITE".to_owned()));
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
        let policy = self.policy;
        let call = self.calls.get_mut(text.call_id()).expect("asked for above");
        if !text.header("From").contains(";tag=c-") {
            let caller = call.caller;
            let from_winner =
                call.winner.as_ref().is_some_and(|tag| text.header("From").ends_with(&format!(";tag={tag}")));
            call.ended |= method == "BYE" && from_winner;
            return self.hold(to == caller, "a request of the destination goes to its caller");
        }
        let last = call.search.tries.last();
        if text.to_tag().is_empty() && matches!(method, "INVITE" | "OPTIONS") {
            if again.is_some() {
                let waits = call.answered.is_none() && last.is_some_and(|last| last.branch == text.branch());
                return self.hold(waits, "a request is sent again after it was left behind");
            }
            let (answered, cancelled) = (call.answered.is_some(), call.cancelled);
            let first = last.is_none();
            let twice = call.search.was_tried(to);
            let fault = (!first).then(|| call.search.fault(self.now, self.late, method == "INVITE"));
            self.hold(!twice, "a call is sent to a destination twice");
            self.hold(!answered, "a call that is answered is tried again");
            self.hold(!cancelled || first, "a call that is cancelled is tried again");
            match fault {
                None => {}
                Some(Err(why)) => self.fail(why),
                Some(Ok(fault)) => {
                    let room = self.has_room();
                    let call = self.calls.get_mut(text.call_id()).expect("asked for above");
                    let may = call.search.may_go_on(fault, &policy, room);
                    call.search.retrying = true;
                    self.failovers += 1;
                    if !may {
                        self.fail(&format!("tried again after {fault:?}: {:?}", self.calls[text.call_id()]));
                    }
                }
            }
            self.chosen(to, method == "INVITE", first);
            let call = self.calls.get_mut(text.call_id()).expect("asked for above");
            return call.search.begin((by, to), text.branch(), self.now, &policy, &self.rows);
        }
        let ours = text.headers("Via").count() == 1;
        let of_try = call.search.tries.iter().position(|one| one.branch == text.branch());
        match (method, of_try) {
            ("CANCEL", Some(number)) => {
                let one = &mut call.search.tries[number];
                one.cancelled = true;
                self.ringing.take_if(|ringing| ringing == text.branch());
                let (right, since) = (one.to == to, self.now - one.began);
                let shortest = policy.first_response_timeout.min(policy.final_timeout);
                let may = call.cancelled || call.answered.is_some() || one.known.is_some() || since >= shortest;
                self.hold(right, "a CANCEL goes to another destination than its INVITE");
                self.hold(may, "a CANCEL that nobody asked for");
            }
            ("ACK", Some(number)) => {
                let one = &call.search.tries[number];
                let right = one.to == to && one.status.is_some_and(|status| status >= 300);
                self.hold(right, "an ACK without failure");
            }
            // One of our own, in the caller's name: only where nobody waits for the session.
            ("ACK" | "BYE", None) if ours && !of_invite => {
                let wanted = call.winner.as_deref() == Some(text.to_tag());
                let unwanted = self
                    .unwanted
                    .as_mut()
                    .filter(|one| (one.id.as_str(), one.tag.as_str(), one.to) == (text.call_id(), text.to_tag(), to));
                let fits = unwanted.map(|one| match method {
                    "ACK" => one.acked = true,
                    _ => one.ended = true,
                });
                // A late 2xx to a request within the session is acknowledged; the session goes on.
                let within = wanted && method == "ACK" && text.cseq().0 > 1;
                self.hold(!wanted || within, "the caller's session is ended");
                self.hold(
                    within || fits.is_some() || again.is_some(),
                    "an ACK or BYE of our own that nobody asked for",
                );
            }
            _ => {
                call.ended |= method == "BYE" && call.winner.as_deref() == Some(text.to_tag());
                let place = call.tags.get(text.to_tag()).copied();
                // Timer C for a request in the dialog.
                let may = method != "CANCEL" || call.cancelled || call.answered.is_some();
                self.hold(place.is_none_or(|place| place == to), "a request of a session goes to another destination");
                self.hold(call_has(&self.calls[text.call_id()], to), "a request of a call goes to another destination");
                self.hold(may, "a CANCEL that nobody asked for");
            }
        }
    }

    /// A destination was chosen for a new request.
    fn chosen(&mut self, to: SocketAddr, invite: bool, first: bool) {
        let fit = || self.rows.iter().filter(|row| row.state == RowState::Active);
        let Some(row) = fit().find(|row| row.address == to) else { return self.fail("an unfit destination is chosen") };
        let highest = fit().map(|row| row.priority).max().unwrap_or_default();
        let by_weight = fit().any(|row| row.weight > 0);
        let right = match self.algorithm {
            Algorithm::Priority => row.priority == highest,
            Algorithm::RoundRobin | Algorithm::Random | Algorithm::LeastLoadP2c => !by_weight || row.weight > 0,
            Algorithm::LeastLoad | Algorithm::LeastLoadRelative | Algorithm::PeakEwma => !by_weight || row.weight > 0,
        };
        self.hold(right || !first, "priority or weight 0 is not respected");
        self.selections += u64::from(invite);
        if !invite || !first {
            return;
        }
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
        let (surely, perhaps) = self.late_2xx;
        if !(surely..=surely + perhaps).contains(&snapshot.totals.late_2xx) {
            self.fail(&format!("{} late 2xx are counted, {surely} came", snapshot.totals.late_2xx));
        }
        let set = snapshot.sets.first().map(|set| (set.failovers, set.exhausted));
        self.hold(set == Some((self.failovers, self.exhausted)), "failovers are miscounted");
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

/// Whether nothing is known any more of a request that was answered so long ago: timers L and I.
fn is_gone(status: u16, since: Duration) -> bool {
    since >= if status < 300 { GIVE_UP } else { Duration::from_secs(5) }
}

fn call_has(call: &Call, to: SocketAddr) -> bool {
    call.search.was_tried(to)
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
