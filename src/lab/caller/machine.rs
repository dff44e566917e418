//! The caller's calls: RFC 3261 sections 13, 15 and 17.1, as UniMRCP's client shows them.

mod call;

use std::collections::HashMap;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::call::{Call, State};
use super::{CallerConfig, Pings};
use crate::engine::flow::Transport;
use crate::engine::sip::{self, Compose, Message, Method, Start};
use crate::engine::transaction::timing::Timing;
use crate::lab::leg::{self, Leg, Resend};
use crate::lab::report::{Live, Report, Tally};
use crate::lab::sdp;
use crate::lab::timeline::Notes;
use crate::lab::timers::Timers;
use crate::lab::wire::{Machine, Outbox};

/// A Call-ID.
type Key = Arc<[u8]>;

/// All calls of one caller.
#[derive(Debug)]
pub(in crate::lab) struct Calls {
    config: CallerConfig,
    us: SocketAddr,
    timing: Timing,
    rng: fastrand::Rng,
    start: Instant,
    /// By Call-ID; those too that are over and only answer resends.
    pub(in crate::lab) calls: HashMap<Key, Call>,
    timers: Timers<(Key, Timer)>,
    tally: Tally,
    /// What happened when, if that is wanted.
    notes: Option<Notes>,
    /// Calls that are begun and not over; the table also holds those that only answer resends.
    running: u64,
    begun: u64,
    /// When the first call of the present pace was due, and how many came before it.
    pace: (Instant, u64),
    /// When the last call may begin.
    end: Option<Instant>,
    stopped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    /// What is sent may have to be sent again.
    Resend,
    /// The INVITE's final answer has not come in time.
    GiveUp,
    /// The call has lasted.
    Hangup,
    /// Copies no longer come.
    Forget,
}

/// Calls that lie further back than this are not made up for: a caller that was held up goes on at its pace.
const BACKLOG: Duration = Duration::from_millis(100);

impl Calls {
    pub(in crate::lab) fn new(config: CallerConfig, us: SocketAddr, seed: u64, now: Instant) -> Self {
        Calls {
            end: config.duration.and_then(|duration| now.checked_add(duration)),
            notes: config.timeline.then(|| Notes::new(now)),
            config,
            us,
            timing: Timing::default(),
            rng: fastrand::Rng::with_seed(seed),
            start: now,
            calls: HashMap::new(),
            timers: Timers::new(),
            tally: Tally::default(),
            running: 0,
            begun: 0,
            pace: (now, 0),
            stopped: false,
        }
    }

    /// Begins no more calls.
    pub(in crate::lab) fn stop(&mut self) {
        self.stopped = true;
    }

    /// Whether no call is running and none will begin.
    pub(in crate::lab) fn is_over(&self) -> bool {
        self.stopped && self.running == 0
    }

    pub(in crate::lab) fn live(&mut self) -> Live {
        Live { running: self.running, report: self.tally.picture() }
    }

    pub(in crate::lab) fn finish(self, now: Instant) -> Report {
        Report { timeline: self.notes.map(|notes| notes.finish(now)), ..self.tally.finish() }
    }

    /// When the next call is due.
    fn next_call(&self) -> Option<Instant> {
        let rate = self.config.rate.max(f64::MIN_POSITIVE);
        let wait = Duration::try_from_secs_f64((self.begun - self.pace.1) as f64 / rate).ok()?;
        self.pace.0.checked_add(wait).filter(|_| !self.stopped)
    }

    fn begin_due(&mut self, now: Instant, out: &mut Outbox) {
        loop {
            let enough = self.config.calls.is_some_and(|calls| self.begun >= calls);
            let late = self.end.is_some_and(|end| self.next_call().is_none_or(|next| next >= end) || now >= end);
            if enough || late {
                self.stopped = true;
            }
            let Some(due) = self.next_call().filter(|due| *due <= now) else { return };
            if now - due > BACKLOG {
                self.pace = (now, self.begun);
            }
            self.begun += 1;
            self.running += 1;
            self.tally.begun();
            match self.config.discover {
                true => self.discover(now, out),
                false => self.invite(now, out),
            }
        }
    }

    fn leg(&mut self) -> Leg {
        let target = sip::sip_uri(self.config.proxy, Transport::Udp);
        Leg {
            transport: self.config.transport,
            us: self.us,
            local: format!("<{}>;tag={:016x}", sip::sip_uri(self.us, Transport::Udp), self.rng.u64(..)),
            remote: format!("<{target}>"),
            call_id: format!("{:016x}{:016x}", self.rng.u64(..), self.begun),
            target,
            routes: Vec::new(),
            otherwise: self.config.proxy,
        }
    }

    /// A request that is waited for that long.
    fn resend_for(&self, to: SocketAddr, bytes: Bytes, wait: Duration, now: Instant) -> Resend {
        Resend { to, bytes, interval: first_interval(&self.config, &self.timing, wait), until: now + wait }
    }

    fn branch(&mut self) -> String {
        format!("z9hG4bK{:016x}", self.rng.u64(..))
    }

    /// Sends a request, sees to its resends and enters the call.
    fn place(&mut self, call: Call, resend: &Resend, now: Instant, out: &mut Outbox) {
        resend.send(out);
        let key: Key = call.leg.call_id.as_bytes().into();
        self.timers.set(now + resend.interval, (key.clone(), Timer::Resend));
        self.calls.insert(key, call);
    }

    fn discover(&mut self, now: Instant, out: &mut Outbox) {
        let (leg, branch, cseq) = (self.leg(), self.branch(), self.rng.u32(1..1 << 30));
        let headers = [("User-Agent", self.config.user_agent.as_str()), ("Accept", "application/sdp")];
        let (to, bytes) = leg.request(("OPTIONS", cseq), &branch, &headers);
        let resend = self.resend_for(to, bytes, self.timing.give_up(), now);
        let state = State::Discovering(resend.clone());
        self.place(Call { leg, cseq, branch, begun: now, given_up: false, state }, &resend, now, out);
    }

    fn invite(&mut self, now: Instant, out: &mut Outbox) {
        let (leg, branch, cseq) = (self.leg(), self.branch(), self.rng.u32(1..1 << 30));
        let offer = sdp::offer(self.us.ip(), self.rng.u64(..), "speechsynth", self.rng.u16(10_000..32_000) * 2);
        let bytes = Compose::new(&leg.local, &leg.remote, &leg.call_id, cseq)
            .via(self.config.transport, self.us, &branch)
            .header("User-Agent", &self.config.user_agent)
            .header("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS")
            .body("application/sdp", offer)
            .request("INVITE", &leg.target);
        let resend = self.resend_for(self.config.proxy, bytes, self.config.timeout, now);
        let until = resend.until;
        self.timers.set(until, (leg.call_id.as_bytes().into(), Timer::GiveUp));
        let state = State::Calling(resend.clone());
        self.place(Call { leg, cseq, branch, begun: now, given_up: false, state }, &resend, now, out);
    }

    fn response(&mut self, response: &Message<'_>, status: u16, now: Instant, out: &mut Outbox) {
        let Some((key, _)) = self.calls.get_key_value(response.call_id()) else { return };
        let key = key.clone();
        match response.method() {
            Method::Invite => self.invite_response(&key, response, status, now, out),
            Method::Bye if status >= 200 => self.bye_response(&key, status, now),
            Method::Options if status >= 200 => {
                if matches!(self.calls.get(&key), Some(Call { state: State::Discovering(_), .. })) {
                    self.calls.remove(&key);
                    self.invite(now, out);
                }
            }
            Method::Cancel => {
                if let Some(Call { state: State::Cancelled { cancel, .. }, .. }) = self.calls.get_mut(&key) {
                    *cancel = None;
                }
            }
            _ => {}
        }
    }

    fn invite_response(&mut self, key: &Key, response: &Message<'_>, status: u16, now: Instant, out: &mut Outbox) {
        let Some(call) = self.calls.get_mut(key) else { return };
        if response.via().branch != Some(call.branch.as_bytes()) || response.cseq() != call.cseq {
            return;
        }
        match &call.state {
            // A repeated final answer: our ACK was lost.
            State::Up { ack, .. } | State::Ending { ack, .. } | State::Over { ack: Some(ack) } if status >= 200 => {
                out.push(ack.clone());
            }
            State::Calling(_) if status < 200 => call.state = State::Proceeding,
            State::Calling(_) | State::Proceeding if status >= 300 => {
                let ack = call.refused(response);
                out.push(ack.clone());
                let begun = call.begun;
                self.failed(begun, status);
                self.over(key, Some(ack), now);
            }
            State::Calling(_) | State::Proceeding if status >= 200 => {
                let took = now.saturating_duration_since(call.begun);
                let ack = call.accept(response, &mut self.rng);
                out.push(ack.clone());
                call.state = State::Up { ack };
                let destination = call.leg.target.clone();
                if let Some(notes) = &mut self.notes {
                    notes.answered(&destination, now);
                }
                self.tally.answered(status, took, destination);
                let hang_up = match self.config.hang_up_at {
                    Some(at) => self.start + at + Duration::from_micros(self.rng.u64(..1_000_000)),
                    None => now + self.config.hold,
                };
                self.timers.set(hang_up, (key.clone(), Timer::Hangup));
            }
            State::Cancelled { .. } if status >= 300 => {
                let ack = call.refused(response);
                out.push(ack.clone());
                self.over(key, Some(ack), now);
            }
            // Answered after we gave up (RFC 3261 section 15): acknowledged, and ended at once.
            State::Cancelled { .. } if status >= 200 => {
                let ack = call.accept(response, &mut self.rng);
                out.push(ack.clone());
                call.state = State::Up { ack };
                self.hang_up(key, now, out);
            }
            State::Discovering(_)
            | State::Calling(_)
            | State::Proceeding
            | State::Up { .. }
            | State::Ending { .. }
            | State::Cancelled { .. }
            | State::Over { .. } => {}
        }
    }

    fn bye_response(&mut self, key: &Key, status: u16, now: Instant) {
        let Some(call) = self.calls.get_mut(key) else { return };
        if let State::Ending { ack, .. } = &call.state {
            let ack = ack.clone();
            self.tally.bye(status);
            self.ended(key, status < 300, ack, now);
        }
    }

    /// An answered call is over.
    fn ended(&mut self, key: &Key, well: bool, ack: (SocketAddr, Bytes), now: Instant) {
        if let Some(call) = self.calls.get(key).filter(|call| !well && !call.given_up) {
            self.tally.lost();
            if let Some(notes) = &mut self.notes {
                notes.lost(&call.leg.target, call.begun);
            }
        }
        self.over(key, Some(ack), now);
    }

    /// A call is over and counted.
    fn over(&mut self, key: &Key, ack: Option<(SocketAddr, Bytes)>, now: Instant) {
        if let Some(call) = self.calls.get_mut(key) {
            call.state = State::Over { ack };
            call.leg.routes = Vec::new();
            self.running -= 1;
            self.timers.set(now + self.timing.give_up(), (key.clone(), Timer::Forget));
        }
    }

    /// Sends the BYE of an answered call.
    fn hang_up(&mut self, key: &Key, now: Instant, out: &mut Outbox) {
        let branch = self.branch();
        let Some(call) = self.calls.get_mut(key) else { return };
        let State::Up { ack } = &call.state else { return };
        let (to, bytes) = call.leg.request(("BYE", call.cseq + 1), &branch, &[]);
        let ack = ack.clone();
        let bye = self.resend_for(to, bytes, self.timing.give_up(), now);
        bye.send(out);
        self.timers.set(now + bye.interval, (key.clone(), Timer::Resend));
        let Some(call) = self.calls.get_mut(key) else { return };
        call.state = State::Ending { ack, bye };
        call.begun = now;
    }

    /// A call that was begun then has failed.
    fn failed(&mut self, begun: Instant, status: u16) {
        self.tally.failed(status);
        if let Some(notes) = &mut self.notes {
            notes.failed(begun, status);
        }
    }

    fn resend(&mut self, key: &Key, now: Instant, out: &mut Outbox) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let (resend, longest) = match &mut call.state {
            State::Calling(invite) => (invite, Duration::MAX),
            State::Discovering(request) | State::Ending { bye: request, .. } => (request, self.timing.t2),
            State::Cancelled { cancel: Some(request), .. } => (request, self.timing.t2),
            State::Proceeding | State::Up { .. } | State::Cancelled { .. } | State::Over { .. } => return,
        };
        if now < resend.until {
            // By a stream nothing is sent again; a timer of the INVITE may still be due when the BYE is on its way.
            if self.config.transport.is_reliable() {
                return;
            }
            resend.send(out);
            resend.interval = (resend.interval * 2).min(longest);
            self.timers.set((now + resend.interval).min(resend.until), (key.clone(), Timer::Resend));
            return;
        }
        match mem::replace(&mut call.state, State::Over { ack: None }) {
            State::Ending { ack, .. } => {
                self.tally.bye(0);
                self.ended(key, false, ack, now);
            }
            // Without an answer the client goes on all the same.
            State::Discovering(_) => {
                self.calls.remove(key);
                self.invite(now, out);
            }
            // `give_up` sees to it, at the same time.
            kept => call.state = kept,
        }
    }

    /// No final answer in time. What a provisional answered is cancelled (RFC 3261 section 9.1).
    fn give_up(&mut self, key: &Key, now: Instant, out: &mut Outbox) {
        let Some(call) = self.calls.get_mut(key) else { return };
        match &call.state {
            State::Calling(_) => {
                let begun = call.begun;
                self.failed(begun, 0);
                self.over(key, None, now);
            }
            State::Proceeding => {
                let to = self.config.proxy;
                let bytes = call.beside("CANCEL", &call.leg.remote);
                let interval = first_interval(&self.config, &self.timing, self.timing.give_up());
                let resend = Resend { to, bytes, interval, until: now + self.timing.give_up() };
                resend.send(out);
                self.timers.set(now + resend.interval, (key.clone(), Timer::Resend));
                self.timers.set(resend.until, (key.clone(), Timer::Forget));
                call.state = State::Cancelled { cancel: Some(resend) };
                call.given_up = true;
                let begun = call.begun;
                self.failed(begun, 0);
            }
            State::Discovering(_) | State::Up { .. } | State::Ending { .. } => {}
            State::Cancelled { .. } | State::Over { .. } => {}
        }
    }

    fn forget(&mut self, key: &Key) {
        match self.calls.remove(key).map(|call| call.state) {
            Some(State::Over { .. }) | None => {}
            Some(_) => self.running -= 1,
        }
    }

    /// A request from the other side: a BYE ends the call well, OPTIONS and UPDATE only ask whether it lives.
    fn request(&mut self, request: &Message<'_>, peer: SocketAddr, now: Instant, out: &mut Outbox) {
        let known = self.calls.get_key_value(request.call_id()).map(|(key, call)| (key.clone(), call));
        let ours = known
            .filter(|(_, call)| !request.to_tag().is_empty() && call.leg.local.as_bytes().ends_with(request.to_tag()));
        let ack = ours.as_ref().and_then(|(_, call)| match &call.state {
            State::Up { ack } | State::Ending { ack, .. } | State::Over { ack: Some(ack) } => Some(ack.clone()),
            State::Discovering(_) | State::Calling(_) | State::Proceeding => None,
            State::Cancelled { .. } | State::Over { ack: None } => None,
        });
        let over = ours.as_ref().is_some_and(|(_, call)| matches!(call.state, State::Over { .. }));
        let key = ours.map(|(key, _)| key);
        let is_ping = matches!(request.method(), Method::Options | Method::Other(b"UPDATE"));
        if is_ping && ack.is_some() {
            self.tally.pinged();
        }
        let pings = if over { Pings::Unknown } else { self.config.pings };
        let start = match (request.method(), ack.is_some()) {
            (Method::Ack, _) => return,
            (_, _) if request.fault().is_some() => (400, "Bad Request"),
            (Method::Bye, true) => (200, "OK"),
            (Method::Options | Method::Other(b"UPDATE"), true) => match pings {
                Pings::Ok => (200, "OK"),
                Pings::Unknown => (481, "Call Does Not Exist"),
                Pings::Never => return,
            },
            (Method::Bye | Method::Options | Method::Cancel | Method::Other(b"UPDATE"), _) => {
                (481, "Call Does Not Exist")
            }
            (Method::Invite | Method::Other(_), _) => (501, "Not Implemented"),
        };
        let tag = format!("{:016x}", self.rng.u64(..));
        let to = leg::answer_to(self.config.transport, request, peer);
        // RFC 3311 section 5.2: a 2xx to UPDATE has a Contact.
        let contact = format!("Contact: <{}>\r\n", sip::sip_uri(self.us, self.config.transport));
        let headers = if is_ping && start.0 == 200 { contact.as_bytes() } else { b"" };
        out.push((to, sip::respond(request, peer, start, tag.as_bytes(), headers)));
        if let (Method::Bye, (200, _), false, Some(key), Some(ack)) = (request.method(), start, over, key, ack) {
            self.tally.hung_up();
            self.ended(&key, true, ack, now);
        }
    }
}

impl Machine for Calls {
    fn receive(&mut self, datagram: &[u8], peer: SocketAddr, now: Instant, out: &mut Outbox) {
        let Ok(message) = Message::parse(datagram) else { return };
        if let Some(notes) = &mut self.notes {
            notes.heard(now);
        }
        match message.start() {
            Start::Request { .. } => self.request(&message, peer, now, out),
            Start::Response { status, .. } => self.response(&message, status, now, out),
        }
    }

    /// Whatever still waits there for its first answer is given up, as sofia-sip does: a BYE is lost, an INVITE gets its 503.
    fn refused(&mut self, now: Instant) {
        let waits = |call: &Call| matches!(call.state, State::Calling(_) | State::Ending { .. });
        let waiting: Vec<_> =
            self.calls.iter().filter(|(_, call)| waits(call)).map(|(key, call)| (key.clone(), call.begun)).collect();
        for (key, begun) in waiting {
            self.tally.refused();
            match self.calls.get(&key).map(|call| &call.state) {
                Some(State::Ending { ack, .. }) => {
                    let ack = ack.clone();
                    self.tally.bye(0);
                    self.ended(&key, false, ack, now);
                }
                _ => {
                    self.failed(begun, 503);
                    self.over(&key, None, now);
                }
            }
        }
    }

    fn wake(&mut self, now: Instant, out: &mut Outbox) {
        while let Some((key, timer)) = self.timers.due(now) {
            match timer {
                Timer::Resend => self.resend(&key, now, out),
                Timer::GiveUp => self.give_up(&key, now, out),
                Timer::Hangup => self.hang_up(&key, now, out),
                Timer::Forget => self.forget(&key),
            }
        }
        self.begin_due(now, out);
    }

    fn next(&self) -> Option<Instant> {
        [self.timers.next(), self.next_call()].into_iter().flatten().min()
    }
}

/// Until the first resend of a request that is waited for that long: a stream resends by itself.
fn first_interval(config: &CallerConfig, timing: &Timing, wait: Duration) -> Duration {
    if config.transport.is_reliable() { wait } else { timing.t1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// A caller with one call that is placed, and its INVITE.
    fn placed(now: Instant) -> (Calls, Bytes) {
        let config = CallerConfig { proxy: at(8060), calls: Some(1), ..CallerConfig::default() };
        let mut calls = Calls::new(config, at(5072), 3, now);
        let mut out = Outbox::new();
        calls.wake(now, &mut out);
        let (to, invite) = out.remove(0);
        assert_eq!((to, out.len()), (at(8060), 0));
        (calls, invite)
    }

    #[test]
    fn an_invite_looks_like_a_unimrcp_client_s() {
        let (_, invite) = placed(Instant::now());
        let message = Message::parse(&invite).expect("SIP");
        assert_eq!((message.fault(), message.request_uri()), (None, &b"sip:127.0.0.1:8060"[..]));
        assert_eq!(message.to().map(|to| to.raw), Some(&b"<sip:127.0.0.1:8060>"[..]));
        assert_eq!((message.header(b"Contact"), message.user_agent()), (None, Some(&b"OPENSIPS_TTS_MRCP_CLIENT"[..])));
        assert_eq!(sip::media_lines(message.body()).next(), Some(&b"m=application 9 TCP/MRCPv2 1"[..]));
    }

    #[test]
    fn ack_and_bye_go_to_the_contact_by_the_reversed_record_route() {
        let now = Instant::now();
        let (mut calls, invite) = placed(now);
        let headers =
            b"Record-Route: <sip:127.0.0.1:2;lr>, <sip:127.0.0.1:1;lr=on>\r\nContact: <sip:x@127.0.0.1:7011;a=b>\r\n";
        let answer = sip::respond(&Message::parse(&invite).expect("SIP"), at(5072), (200, "OK"), b"far", headers);
        let mut out = Outbox::new();
        calls.receive(&answer, at(8060), now, &mut out);
        calls.wake(now + Duration::from_secs(1), &mut out);
        assert_eq!(out.len(), 2);
        for ((to, bytes), (method, more)) in out.iter().zip([(Method::Ack, 0), (Method::Bye, 1)]) {
            let message = Message::parse(bytes).expect("SIP");
            assert_eq!((*to, message.method(), message.fault()), (at(1), method, None));
            assert_eq!((message.request_uri(), message.to_tag()), (&b"sip:x@127.0.0.1:7011;a=b"[..], &b"far"[..]));
            let routes: Vec<_> = message.routes().map(|route| route.raw).collect();
            assert_eq!(routes, [&b"<sip:127.0.0.1:1;lr=on>"[..], b"<sip:127.0.0.1:2;lr>"]);
            assert_eq!(message.cseq(), Message::parse(&invite).expect("SIP").cseq() + more);
            assert_eq!(message.user_agent(), None);
        }
        assert_eq!(calls.live().report.destinations.keys().collect::<Vec<_>>(), ["sip:x@127.0.0.1:7011;a=b"]);
    }

    #[test]
    fn a_failure_is_acknowledged_on_the_invite_s_branch() {
        let now = Instant::now();
        let (mut calls, invite) = placed(now);
        let invite = Message::parse(&invite).expect("SIP");
        let mut out = Outbox::new();
        calls.receive(&sip::respond(&invite, at(5072), (480, "None"), b"far", b""), at(8060), now, &mut out);
        let ack = Message::parse(&out[0].1).expect("SIP");
        assert_eq!((out[0].0, ack.method(), ack.via().branch), (at(8060), Method::Ack, invite.via().branch));
        assert_eq!((ack.to_tag(), ack.request_uri()), (&b"far"[..], invite.request_uri()));
        assert!(calls.is_over());
    }

    #[test]
    fn requests_from_the_other_side_are_answered() {
        let now = Instant::now();
        let (mut calls, invite) = placed(now);
        let invite = Message::parse(&invite).expect("SIP");
        let mut out = Outbox::new();
        calls.receive(&sip::respond(&invite, at(5072), (200, "OK"), b"far", b""), at(8060), now, &mut out);
        let us = leg::text(invite.from().expect("a From").raw);
        for (method, call_id, expected) in [
            ("OPTIONS", leg::text(invite.call_id()), 200),
            ("UPDATE", leg::text(invite.call_id()), 200),
            ("UPDATE", "unknown".to_owned(), 481),
            ("BYE", "unknown".to_owned(), 481),
            ("INFO", leg::text(invite.call_id()), 501),
            ("BYE", leg::text(invite.call_id()), 200),
            ("BYE", leg::text(invite.call_id()), 200),
            ("OPTIONS", leg::text(invite.call_id()), 481),
        ] {
            let branch = "z9hG4bKfar";
            let compose = Compose::new("<sip:127.0.0.1:7010>;tag=far", &us, &call_id, 1);
            let request = compose.via(Transport::Udp, at(7010), branch).request(method, "sip:127.0.0.1:5072");
            out.clear();
            calls.receive(&request, at(7010), now, &mut out);
            let answer = Message::parse(&out[0].1).expect("SIP");
            assert!(matches!(answer.start(), Start::Response { status, .. } if status == expected), "{method}");
        }
        assert!(calls.is_over());
        let report = calls.finish(now);
        assert_eq!((report.hung_up, report.pings), (1, 3));
    }
}
