//! The stand-in server's calls: RFC 3261 sections 8.2, 12 and 17.2, as far as an MRCPv2 server shows them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::look::{self, Key};
use super::reply::{self, Answer};
use super::{Behaviour, Counts};
use crate::engine::flow::Transport;
use crate::engine::sip::{self, Message, Method, Start, Uri};
use crate::engine::transaction::timing::Timing;
use crate::lab::leg::{self, Leg, Resend};
use crate::lab::sdp::{self, Unfit};
use crate::lab::timers::Timers;
use crate::lab::wire::{Machine, Outbox};

/// All that the server knows.
#[derive(Debug)]
pub(in crate::lab) struct Server {
    pub(in crate::lab) behaviour: Behaviour,
    transport: Transport,
    us: SocketAddr,
    timing: Timing,
    rng: fastrand::Rng,
    counts: Counts,
    transactions: HashMap<Key, Transaction>,
    /// The transaction of each initial INVITE, by what a copy that came another way has in common with it.
    initial: HashMap<Key, Key>,
    sessions: HashMap<Key, Session>,
    /// Our own BYEs, by branch.
    byes: HashMap<Key, Resend>,
    timers: Timers<Timer>,
}

#[derive(Debug)]
struct Transaction {
    /// Where its answers go.
    to: SocketAddr,
    /// The last answer, for a request that comes again.
    answer: Bytes,
    state: State,
    /// Our To tag, the same in all its answers.
    tag: String,
    /// Its place in `initial`.
    merge: Option<Key>,
}

#[derive(Debug)]
enum State {
    /// An INVITE whose final answer is still to come.
    Pending { invite: Bytes, peer: SocketAddr },
    /// An INVITE whose final answer no ACK has met; the session is that which a 2xx began or changed.
    Unacknowledged { interval: Duration, until: Instant, session: Option<Key> },
    /// Nothing more to do.
    Done,
}

#[derive(Debug)]
struct Session {
    leg: Leg,
    cseq: u32,
    /// The transaction of its last INVITE.
    invite: Key,
    id: u64,
    channel: u64,
    port: u16,
}

#[derive(Debug)]
enum Timer {
    /// The final answer to a pending INVITE is due.
    Answer(Key),
    /// The final answer to an INVITE may have to be sent again.
    Resend(Key),
    /// A transaction is over.
    Forget(Key),
    /// A session's time is up.
    HangUp(Key),
    /// A BYE of ours may have to be sent again.
    Bye(Key),
}

impl Server {
    pub(in crate::lab) fn new(transport: Transport, us: SocketAddr, seed: u64) -> Self {
        Server {
            behaviour: Behaviour::default(),
            transport,
            us,
            timing: Timing::default(),
            rng: fastrand::Rng::with_seed(seed),
            counts: Counts::default(),
            transactions: HashMap::new(),
            initial: HashMap::new(),
            sessions: HashMap::new(),
            byes: HashMap::new(),
            timers: Timers::new(),
        }
    }

    pub(in crate::lab) fn counts(&self) -> Counts {
        Counts { sessions: self.sessions.len(), ..self.counts }
    }

    /// The address that callers know us by: for a wildcard the one that the request was sent to.
    fn here(&self, request: &Message<'_>) -> SocketAddr {
        let named = Uri::parse(request.request_uri()).ok().and_then(|uri| uri.address());
        match named {
            Some(named) if self.us.ip().is_unspecified() => SocketAddr::new(named.ip(), self.us.port()),
            _ => self.us,
        }
    }

    fn request(&mut self, request: &Message<'_>, peer: SocketAddr, now: Instant, out: &mut Outbox) {
        let key = look::transaction_key(request);
        if request.method() == Method::Ack {
            return self.acknowledged(&key, request, now);
        }
        if let Some(known) = self.transactions.get(&key) {
            out.extend((!known.answer.is_empty()).then(|| (known.to, known.answer.clone())));
            return;
        }
        let dialog = look::session_key(request.call_id(), request.to_tag(), request.from_tag());
        match request.method() {
            Method::Invite if request.to_tag().is_empty() => self.counts.invites += 1,
            Method::Options => self.counts.options += 1,
            Method::Bye => self.counts.byes += 1,
            _ => {}
        }
        let answer = if let Some(fault) = request.fault() {
            let status = if fault == sip::Fault::Version { 505 } else { 400 };
            Answer::new(status, if status == 505 { "Version Not Supported" } else { "Bad Request" })
        } else if request.method() == Method::Cancel {
            return self.cancel(&key, request, peer, now, out);
        } else if let Some(unknown) = look::unknown_extension(request) {
            Answer::new(420, "Bad Extension").header("Unsupported", &unknown)
        } else if self.sessions.contains_key(&dialog) {
            return self.inside(&key, &dialog, request, peer, now, out);
        } else if !request.to_tag().is_empty() {
            Answer::new(481, "Call Does Not Exist")
        } else if request.method() == Method::Invite {
            return self.invite(&key, request, peer, now, out);
        } else {
            self.outside(request)
        };
        self.answer(&key, request, peer, &answer, now, out);
    }

    /// A request outside any dialog that begins none.
    fn outside(&mut self, request: &Message<'_>) -> Answer {
        match request.method().as_bytes() {
            b"OPTIONS" if self.behaviour.offline => Answer::new(503, "Service Unavailable"),
            b"OPTIONS" => {
                let us = self.here(request);
                Answer::new(200, "OK").contact(self.transport, us).sdp(sdp::resources(us.ip(), self.rng.u64(..)))
            }
            b"REGISTER" | b"INFO" | b"PUBLISH" => Answer::new(405, "Method Not Allowed"),
            b"SUBSCRIBE" => Answer::new(489, "Bad Event"),
            b"NOTIFY" | b"UPDATE" | b"PRACK" | b"BYE" => Answer::new(481, "Call Does Not Exist"),
            b"MESSAGE" => Answer::new(200, "OK"),
            b"REFER" => Answer::new(202, "Accepted"),
            _ => Answer::new(501, "Not Implemented"),
        }
    }

    /// A request in a session that is there.
    fn inside(
        &mut self,
        key: &Key,
        dialog: &Key,
        request: &Message<'_>,
        peer: SocketAddr,
        now: Instant,
        out: &mut Outbox,
    ) {
        let (us, timed) = (self.here(request), !self.behaviour.untimed);
        let Some(session) = self.sessions.get_mut(dialog) else { return };
        self.counts.pings += u64::from(matches!(request.method().as_bytes(), b"OPTIONS" | b"UPDATE"));
        if request.method() == Method::Options && self.behaviour.ignore_options {
            // Its copies are known by an answer that is none.
            let (to, state, tag) = (peer, State::Done, String::new());
            self.transactions.insert(key.clone(), Transaction { to, answer: Bytes::new(), state, tag, merge: None });
            self.timers.set(now + self.timing.give_up(), Timer::Forget(key.clone()));
            return;
        }
        let refresh = matches!(request.method().as_bytes(), b"INVITE" | b"UPDATE");
        if let Some(target) = leg::contact(request).filter(|_| refresh) {
            session.leg.target = target;
        }
        let description = sdp::answer(request.body(), us.ip(), session.id, session.channel, session.port);
        let answer = match request.method().as_bytes() {
            b"INVITE" => {
                session.invite = key.clone();
                out.push((leg::answer_to(self.transport, request, peer), reply::trying(request, peer)));
                match description {
                    Ok(sdp) => Answer::new(200, "OK").contact(self.transport, us).session(request, timed).sdp(sdp),
                    Err(unfit) => refusal(unfit),
                }
            }
            b"UPDATE" => {
                let answer = Answer::new(200, "OK").contact(self.transport, us).session(request, timed);
                description.map_or(answer.clone(), |sdp| answer.sdp(sdp))
            }
            b"OPTIONS" => {
                let resources = sdp::resources(us.ip(), session.id);
                Answer::new(200, "OK").contact(self.transport, us).sdp(resources)
            }
            b"BYE" => {
                self.end(dialog);
                Answer::new(200, "OK")
            }
            _ => self.outside(request),
        };
        self.answer(key, request, peer, &answer, now, out);
        if let Some(Transaction { state: State::Unacknowledged { session, .. }, .. }) = self.transactions.get_mut(key) {
            *session = Some(dialog.clone()).filter(|_| answer.status < 300);
        }
        if request.method() == Method::Options && self.behaviour.bye_after_options {
            self.hang_up(dialog, None, now, out);
        }
    }

    /// A new INVITE: 100 at once, the rest when it is due.
    fn invite(&mut self, key: &Key, request: &Message<'_>, peer: SocketAddr, now: Instant, out: &mut Outbox) {
        let merge = look::merge_key(request);
        if self.initial.contains_key(&merge) {
            return self.answer(key, request, peer, &Answer::new(482, "Request merged"), now, out);
        }
        self.initial.insert(merge.clone(), key.clone());
        let to = leg::answer_to(self.transport, request, peer);
        let answer = reply::trying(request, peer);
        out.push((to, answer.clone()));
        let state = State::Pending { invite: Bytes::copy_from_slice(request.bytes()), peer };
        let tag = format!("{:016x}", self.rng.u64(..));
        self.transactions.insert(key.clone(), Transaction { to, answer, state, tag, merge: Some(merge) });
        match self.behaviour.delay {
            Duration::ZERO => self.decide(key, now, out),
            delay => self.timers.set(now + delay, Timer::Answer(key.clone())),
        }
    }

    /// Gives a pending INVITE its final answer.
    fn decide(&mut self, key: &Key, now: Instant, out: &mut Outbox) {
        let Some(transaction) = self.transactions.get_mut(key) else { return };
        let State::Pending { invite, peer } = &transaction.state else { return };
        let (invite, peer, tag) = (invite.clone(), *peer, transaction.tag.clone());
        let Ok(request) = Message::parse(&invite) else { return };
        let (us, timed) = (self.here(&request), !self.behaviour.untimed);
        let (id, channel, port) = (self.rng.u64(..), self.rng.u64(..), self.rng.u16(10_000..32_000) * 2);
        let small = request
            .header(b"Session-Expires")
            .or(request.header(b"x"))
            .and_then(look::seconds)
            .is_some_and(|s| s < 120);
        let answer = match sdp::answer(request.body(), us.ip(), id, channel, port) {
            _ if self.behaviour.offline => Answer::new(503, "Service Unavailable"),
            _ if self.behaviour.busy => Answer::new(486, "Busy Here"),
            _ if small => Answer::new(422, "Session Interval Too Small").header("Min-SE", "120"),
            Err(unfit) => refusal(unfit),
            Ok(sdp) => Answer::new(200, "OK").contact(self.transport, us).session(&request, timed).sdp(sdp),
        };
        let accepted = answer.status < 300;
        self.answer(key, &request, peer, &answer, now, out);
        if !accepted {
            return;
        }
        let dialog = look::session_key(request.call_id(), tag.as_bytes(), request.from_tag());
        let value = |address: Option<sip::Address<'_>>| leg::text(address.map_or(b"", |address| address.raw));
        let uri = request.from().map_or(&b""[..], |from| from.uri);
        let leg = Leg {
            transport: self.transport,
            us,
            local: format!("{};tag={tag}", value(request.to())),
            remote: value(request.from()),
            call_id: leg::text(request.call_id()),
            target: leg::contact(&request).unwrap_or_else(|| leg::text(uri)),
            routes: request.record_routes().map(|route| leg::text(route.raw)).collect(),
            otherwise: peer,
        };
        let cseq = self.rng.u32(1..1 << 30);
        self.sessions.insert(dialog.clone(), Session { leg, cseq, invite: key.clone(), id, channel, port });
        self.counts.peak = self.counts.peak.max(self.sessions.len());
        if let Some(Transaction { state: State::Unacknowledged { session, .. }, .. }) = self.transactions.get_mut(key) {
            *session = Some(dialog);
        }
    }

    fn cancel(&mut self, key: &Key, request: &Message<'_>, peer: SocketAddr, now: Instant, out: &mut Outbox) {
        let invite = look::key_for(request, b"INVITE");
        let Some(transaction) = self.transactions.get(&invite) else {
            return self.answer(key, request, peer, &Answer::new(481, "Call Does Not Exist"), now, out);
        };
        let tag = transaction.tag.clone();
        let pending = match &transaction.state {
            State::Pending { invite, peer } => Some((invite.clone(), *peer)),
            State::Unacknowledged { .. } | State::Done => None,
        };
        self.answer_with(key, request, peer, (&Answer::new(200, "OK"), tag), now, out);
        let Some((bytes, peer)) = pending else { return };
        if let Ok(request) = Message::parse(&bytes) {
            self.answer(&invite, &request, peer, &Answer::new(487, "Request Terminated"), now, out);
        }
    }

    fn acknowledged(&mut self, key: &Key, request: &Message<'_>, now: Instant) {
        let dialog = look::session_key(request.call_id(), request.to_tag(), request.from_tag());
        // The ACK to a failure has the INVITE's branch, that to a 2xx one of its own.
        let invite = match self.sessions.get(&dialog) {
            Some(session) => session.invite.clone(),
            None => key.clone(),
        };
        let Some(transaction) = self.transactions.get_mut(&invite) else { return };
        let State::Unacknowledged { session, .. } = &transaction.state else { return };
        let begun = session.clone();
        transaction.state = State::Done;
        if let Some(session) = begun {
            self.counts.acks += 1;
            if let Some(after) = self.behaviour.hang_up_after {
                self.timers.set(now + after, Timer::HangUp(session));
            }
        }
    }

    /// Answers a request for good, and keeps the answer for when it comes again.
    fn answer(
        &mut self,
        key: &Key,
        request: &Message<'_>,
        peer: SocketAddr,
        answer: &Answer,
        now: Instant,
        out: &mut Outbox,
    ) {
        let tag = match self.transactions.get(key) {
            Some(transaction) => transaction.tag.clone(),
            None => format!("{:016x}", self.rng.u64(..)),
        };
        self.answer_with(key, request, peer, (answer, tag), now, out);
    }

    fn answer_with(
        &mut self,
        key: &Key,
        request: &Message<'_>,
        peer: SocketAddr,
        (answer, tag): (&Answer, String),
        now: Instant,
        out: &mut Outbox,
    ) {
        let to = leg::answer_to(self.transport, request, peer);
        let bytes = answer.build(request, peer, &tag);
        out.push((to, bytes.clone()));
        let until = now + self.timing.give_up();
        let state = match request.method() {
            Method::Invite => {
                self.timers.set(now + self.timing.t1, Timer::Resend(key.clone()));
                State::Unacknowledged { interval: self.timing.t1, until, session: None }
            }
            _ => State::Done,
        };
        let merge = self.transactions.remove(key).and_then(|pending| pending.merge);
        self.transactions.insert(key.clone(), Transaction { to, answer: bytes, state, tag, merge });
        self.timers.set(until, Timer::Forget(key.clone()));
    }

    /// Ends a session with a BYE of our own (RFC 3261 section 15.1.1).
    fn hang_up(&mut self, dialog: &Key, reason: Option<&str>, now: Instant, out: &mut Outbox) {
        let Some(session) = self.end(dialog) else { return };
        let branch = format!("z9hG4bK{:016x}", self.rng.u64(..));
        let mut headers = vec![("User-Agent", reply::NAME)];
        headers.extend(reason.map(|reason| ("Reason", reason)));
        let (to, bytes) = session.leg.request(("BYE", session.cseq), &branch, &headers);
        let interval = if self.transport.is_reliable() { self.timing.give_up() } else { self.timing.t1 };
        let bye = Resend { to, bytes, interval, until: now + self.timing.give_up() };
        bye.send(out);
        let key: Key = branch.as_bytes().into();
        self.timers.set(now + bye.interval, Timer::Bye(key.clone()));
        self.byes.insert(key, bye);
    }

    /// An answer to a BYE of ours.
    fn response(&mut self, response: &Message<'_>, status: u16) {
        if status < 200 || response.method() != Method::Bye {
            return;
        }
        if self.byes.remove(response.via().branch.unwrap_or_default()).is_some() {
            *(if status < 300 { &mut self.counts.hung_up } else { &mut self.counts.unheard }) += 1;
        }
    }

    fn resend(&mut self, key: &Key, now: Instant, out: &mut Outbox) {
        let Some(transaction) = self.transactions.get_mut(key) else { return };
        let State::Unacknowledged { interval, until, .. } = &mut transaction.state else { return };
        out.push((transaction.to, transaction.answer.clone()));
        *interval = (*interval * 2).min(self.timing.t2);
        if now + *interval < *until {
            self.timers.set(now + *interval, Timer::Resend(key.clone()));
        }
    }

    fn resend_bye(&mut self, key: Key, now: Instant, out: &mut Outbox) {
        let Some(bye) = self.byes.get_mut(&key) else { return };
        if now >= bye.until {
            self.byes.remove(&key);
            self.counts.unheard += 1;
            return;
        }
        bye.send(out);
        bye.interval = (bye.interval * 2).min(self.timing.t2);
        self.timers.set((now + bye.interval).min(bye.until), Timer::Bye(key));
    }

    /// The transaction's time is over; a 2xx that no ACK has met ends its session (RFC 3261 section 13.3.1.4).
    fn forget(&mut self, key: &Key, now: Instant, out: &mut Outbox) {
        let Some(transaction) = self.transactions.remove(key) else { return };
        if let Some(merge) = transaction.merge {
            self.initial.remove(&merge);
        }
        if let State::Unacknowledged { session: Some(session), .. } = transaction.state {
            self.hang_up(&session, Some("SIP;cause=408;text=\"ACK timeout\""), now, out);
        }
    }

    /// Takes a session out; its INVITE's answer is not sent again.
    fn end(&mut self, dialog: &Key) -> Option<Session> {
        let session = self.sessions.remove(dialog)?;
        if let Some(transaction) = self.transactions.get_mut(&session.invite) {
            transaction.state = State::Done;
        }
        Some(session)
    }
}

impl Machine for Server {
    fn receive(&mut self, datagram: &[u8], peer: SocketAddr, now: Instant, out: &mut Outbox) {
        self.counts.datagrams += 1;
        if self.behaviour.silent {
            return;
        }
        // Line ends and what is not SIP get nothing, as from a real one.
        let Ok(message) = Message::parse(datagram) else { return };
        match message.start() {
            Start::Request { .. } => self.request(&message, peer, now, out),
            Start::Response { status, .. } => self.response(&message, status),
        }
    }

    fn wake(&mut self, now: Instant, out: &mut Outbox) {
        while let Some(timer) = self.timers.due(now) {
            match timer {
                Timer::Answer(key) => self.decide(&key, now, out),
                Timer::Resend(key) => self.resend(&key, now, out),
                Timer::Forget(key) => self.forget(&key, now, out),
                Timer::HangUp(session) => self.hang_up(&session, None, now, out),
                Timer::Bye(key) => self.resend_bye(key, now, out),
            }
        }
        if self.behaviour.silent {
            out.clear();
        }
    }

    fn next(&self) -> Option<Instant> {
        self.timers.next()
    }
}

fn refusal(unfit: Unfit) -> Answer {
    match unfit {
        Unfit::Missing => Answer::new(400, "Bad Request"),
        Unfit::Garbage => Answer::new(400, "Bad Session Description"),
        Unfit::Resource => Answer::new(404, "Not Found"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sip::Compose;

    const OFFER: &str = "v=0\r\nm=application 9 TCP/MRCPv2 1\r\na=resource:speechsynth\r\n";
    const SECOND: Duration = Duration::from_secs(1);

    /// A server, a clock of its own, and a caller at 127.0.0.1:5072.
    struct Bench {
        server: Server,
        now: Instant,
    }

    /// A request to be sent: To tag, branch, CSeq and more headers may be changed.
    struct Ask<'a> {
        method: &'a str,
        tag: &'a str,
        branch: &'a str,
        cseq: u32,
        headers: &'a [(&'a str, &'a str)],
        body: &'a str,
    }

    impl<'a> Ask<'a> {
        fn new(method: &'a str, branch: &'a str) -> Self {
            Ask { method, tag: "", branch, cseq: 1, headers: &[], body: if method == "INVITE" { OFFER } else { "" } }
        }

        fn bytes(&self) -> Bytes {
            let tag = if self.tag.is_empty() { String::new() } else { format!(";tag={}", self.tag) };
            let mut compose =
                Compose::new("<sip:127.0.0.1:5072>;tag=c", &format!("<sip:127.0.0.1:7010>{tag}"), "call", self.cseq)
                    .via(Transport::Udp, caller(), self.branch)
                    .via_value("SIP/2.0/UDP 127.0.0.1:5073;branch=z9hG4bKbelow");
            for (name, value) in self.headers {
                compose = compose.header(name, value);
            }
            if !self.body.is_empty() {
                compose = compose.body("application/sdp", self.body);
            }
            compose.request(self.method, "sip:127.0.0.1:7010")
        }
    }

    fn caller() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 5072))
    }

    impl Bench {
        fn new(behaviour: Behaviour) -> Self {
            let mut server = Server::new(Transport::Udp, SocketAddr::from(([127, 0, 0, 1], 7010)), 7);
            server.behaviour = behaviour;
            Bench { server, now: Instant::now() }
        }

        fn send(&mut self, ask: &Ask<'_>) -> Vec<String> {
            self.receive(&ask.bytes())
        }

        fn receive(&mut self, bytes: &[u8]) -> Vec<String> {
            let mut out = Outbox::new();
            self.server.receive(bytes, caller(), self.now, &mut out);
            texts(out)
        }

        /// Lets time pass; what is sent comes with its second from now.
        fn pass(&mut self, time: Duration) -> Vec<(f64, String)> {
            let (start, end) = (self.now, self.now + time);
            let mut sent = Vec::new();
            while let Some(next) = self.server.next().filter(|next| *next <= end) {
                self.now = next;
                let mut out = Outbox::new();
                self.server.wake(next, &mut out);
                sent.extend(texts(out).into_iter().map(|text| ((next - start).as_secs_f64(), text)));
            }
            self.now = end;
            sent
        }

        /// Sets a session up; returns the server's tag.
        fn up(&mut self) -> String {
            let answers = self.send(&Ask::new("INVITE", "z9hG4bK1"));
            let tag = tag(&answers[1]);
            assert!(self.send(&Ask { tag: &tag, ..Ask::new("ACK", "z9hG4bK2") }).is_empty());
            tag
        }
    }

    fn texts(out: Outbox) -> Vec<String> {
        out.into_iter()
            .map(|(_, bytes)| {
                assert_eq!(Message::parse(&bytes).expect("SIP").fault(), None);
                String::from_utf8(bytes.to_vec()).expect("text")
            })
            .collect()
    }

    fn tag(answer: &str) -> String {
        leg::text(Message::parse(answer.as_bytes()).expect("SIP").to_tag())
    }

    /// The status of each answer, the method of each request.
    fn heads(texts: &[String]) -> Vec<&str> {
        texts.iter().map(|text| text.strip_prefix("SIP/2.0 ").unwrap_or(text).split(' ').next().unwrap_or("")).collect()
    }

    #[test]
    fn an_invite_gets_100_with_one_via_and_200_with_a_channel() {
        let mut bench = Bench::new(Behaviour::default());
        let route =
            [("Record-Route", "<sip:p;lr;x=1>"), ("Record-Route", "<sip:q;lr>"), ("Supported", "timer, 100rel")];
        let answers = bench.send(&Ask { headers: &route, ..Ask::new("INVITE", "z9hG4bK1") });
        assert_eq!(heads(&answers), ["100", "200"]);
        assert_eq!((answers[0].matches("Via:").count(), answers[1].matches("Via:").count()), (1, 2));
        assert_eq!((tag(&answers[0]).len(), tag(&answers[1]).len()), (0, 16));
        for part in [
            "Via: SIP/2.0/UDP 127.0.0.1:5072;rport=5072;branch=z9hG4bK1",
            "Record-Route: <sip:p;lr;x=1>\r\nRecord-Route: <sip:q;lr>\r\n",
            "Contact: <sip:127.0.0.1:7010>\r\n",
            "Require: timer\r\nSession-Expires: 600;refresher=uac\r\n",
            "@speechsynth\r\n",
        ] {
            assert!(answers[1].contains(part), "{part} in {}", answers[1]);
        }
        assert_eq!((bench.server.counts().sessions, bench.server.counts().invites), (1, 1));
    }

    #[test]
    fn a_2xx_is_resent_from_t1_to_t2_until_the_ack() {
        let mut bench = Bench::new(Behaviour::default());
        let tag = tag(&bench.send(&Ask::new("INVITE", "z9hG4bK1"))[1]);
        let times: Vec<_> = bench.pass(SECOND * 12).into_iter().map(|(at, _)| at).collect();
        assert_eq!(times, [0.5, 1.5, 3.5, 7.5, 11.5]);
        assert!(bench.send(&Ask { tag: &tag, ..Ask::new("ACK", "z9hG4bK2") }).is_empty());
        assert_eq!(bench.pass(SECOND * 60), []);
        assert_eq!((bench.server.counts().acks, bench.server.counts().sessions), (1, 1));
        assert!(bench.server.transactions.is_empty() && bench.server.initial.is_empty());
    }

    #[test]
    fn a_2xx_without_an_ack_ends_in_a_bye_after_64_t1() {
        let mut bench = Bench::new(Behaviour::default());
        bench.send(&Ask::new("INVITE", "z9hG4bK1"));
        let sent = bench.pass(SECOND * 32);
        let (at, bye) = sent.last().expect("a BYE");
        assert_eq!((*at, heads(std::slice::from_ref(bye))), (32.0, vec!["BYE"]));
        assert_eq!(bench.server.counts().sessions, 0);
    }

    #[test]
    fn a_request_that_comes_again_gets_the_same_answer() {
        let mut bench = Bench::new(Behaviour::default());
        let first = bench.send(&Ask::new("INVITE", "z9hG4bK1"));
        assert_eq!(bench.send(&Ask::new("INVITE", "z9hG4bK1")), first[1..]);
        let tag = tag(&first[1]);
        bench.send(&Ask { tag: &tag, ..Ask::new("ACK", "z9hG4bK2") });
        assert_eq!(bench.send(&Ask::new("INVITE", "z9hG4bK1")), first[1..]);
        let bye = Ask { tag: &tag, cseq: 2, ..Ask::new("BYE", "z9hG4bK3") };
        let ended = bench.send(&bye);
        assert_eq!((heads(&ended), bench.send(&bye)), (vec!["200"], ended.clone()));
        assert_eq!(heads(&bench.send(&Ask { branch: "z9hG4bK4", ..bye })), ["481"]);
        assert_eq!((bench.server.counts().invites, bench.server.counts().byes), (1, 2));
    }

    #[test]
    fn the_same_invite_on_another_branch_is_merged() {
        let mut bench = Bench::new(Behaviour::default());
        bench.send(&Ask::new("INVITE", "z9hG4bK1"));
        assert_eq!(heads(&bench.send(&Ask::new("INVITE", "z9hG4bK2"))), ["482"]);
    }

    #[test]
    fn requests_in_a_session_get_what_a_real_server_gives() {
        for (method, expected) in [
            ("INVITE", &["100", "200"][..]),
            ("UPDATE", &["200"]),
            ("INFO", &["405"]),
            ("FOO", &["501"]),
            ("OPTIONS", &["200"]),
        ] {
            let mut bench = Bench::new(Behaviour::default());
            let tag = bench.up();
            let answers = bench.send(&Ask { tag: &tag, cseq: 2, ..Ask::new(method, "z9hG4bK3") });
            assert_eq!(heads(&answers), expected, "{method}");
            assert_eq!(bench.server.counts().sessions, 1);
            if method == "INVITE" {
                bench.send(&Ask { tag: &tag, cseq: 2, ..Ask::new("ACK", "z9hG4bK4") });
                assert_eq!((bench.server.counts().acks, bench.pass(SECOND * 40)), (2, vec![]));
            }
        }
    }

    #[test]
    fn requests_outside_a_session_get_what_a_real_server_gives() {
        let plain = |method| Ask::new(method, "z9hG4bK1");
        let tagged = |method| Ask { tag: "unknown", ..plain(method) };
        let with = |headers| Ask { headers, ..plain("OPTIONS") };
        let invite = |body| Ask { body, ..plain("INVITE") };
        for (ask, expected) in [
            (plain("OPTIONS"), &["200"][..]),
            (with(&[("Require", "timer, foo")]), &["420"]),
            (with(&[("Require", "timer")]), &["200"]),
            (plain("REGISTER"), &["405"]),
            (plain("INFO"), &["405"]),
            (plain("PUBLISH"), &["405"]),
            (plain("SUBSCRIBE"), &["489"]),
            (plain("NOTIFY"), &["481"]),
            (plain("UPDATE"), &["481"]),
            (plain("PRACK"), &["481"]),
            (plain("BYE"), &["481"]),
            (plain("MESSAGE"), &["200"]),
            (plain("REFER"), &["202"]),
            (plain("FOO"), &["501"]),
            (plain("CANCEL"), &["481"]),
            (plain("ACK"), &[]),
            (tagged("OPTIONS"), &["481"]),
            (tagged("INVITE"), &["481"]),
            (invite(""), &["100", "400"]),
            (invite("nothing"), &["100", "400"]),
            (invite("v=0\r\nm=application 9 TCP/MRCPv2 1\r\na=resource:x\r\n"), &["100", "404"]),
            (Ask { headers: &[("Session-Expires", "60")], ..plain("INVITE") }, &["100", "422"]),
        ] {
            let answers = Bench::new(Behaviour::default()).send(&ask);
            assert_eq!(heads(&answers), expected, "{}", ask.method);
        }
    }

    #[test]
    fn discovery_lists_the_resources_even_without_hops_left() {
        let bytes = Ask::new("OPTIONS", "z9hG4bK1").bytes();
        let text = String::from_utf8(bytes.to_vec()).expect("text").replace("Max-Forwards: 70", "Max-Forwards: 0");
        let answers = Bench::new(Behaviour::default()).receive(text.as_bytes());
        assert!(answers[0].contains("a=resource:speechsynth\r\na=resource:speechrecog\r\n"), "{answers:?}");
    }

    #[test]
    fn what_is_no_sip_gets_nothing_and_what_is_faulty_400() {
        let mut bench = Bench::new(Behaviour::default());
        for datagram in [&b"TEST"[..], b"\r\n\r\n", b"OPTIONS sip:h SIP/2.0\r\nCall-ID: x\r\n\r\n"] {
            assert!(bench.receive(datagram).is_empty());
        }
        let text = String::from_utf8(Ask::new("OPTIONS", "z9hG4bK1").bytes().to_vec()).expect("text");
        let mut out = Outbox::new();
        bench.server.receive(text.replace("Call-ID: call\r\n", "").as_bytes(), caller(), bench.now, &mut out);
        assert!(out[0].1.starts_with(b"SIP/2.0 400 "));
        assert_eq!(heads(&bench.receive(text.replace("SIP/2.0\r\n", "SIP/3.0\r\n").as_bytes())), ["505"]);
        assert_eq!(bench.server.counts().datagrams, 5);
    }

    #[test]
    fn a_slow_server_can_be_cancelled() {
        let mut bench = Bench::new(Behaviour { delay: SECOND * 3, ..Behaviour::default() });
        assert_eq!(heads(&bench.send(&Ask::new("INVITE", "z9hG4bK1"))), ["100"]);
        assert_eq!(bench.pass(SECOND), []);
        assert_eq!(heads(&bench.send(&Ask::new("INVITE", "z9hG4bK1"))), ["100"]);
        let answers = bench.send(&Ask::new("CANCEL", "z9hG4bK1"));
        assert_eq!(heads(&answers), ["200", "487"]);
        assert_eq!(tag(&answers[0]), tag(&answers[1]));
        assert_eq!(heads(&bench.send(&Ask::new("CANCEL", "z9hG4bK1"))), ["200"]);
        assert!(bench.send(&Ask { tag: &tag(&answers[1]), ..Ask::new("ACK", "z9hG4bK1") }).is_empty());
        assert_eq!(bench.pass(SECOND * 40), []);
        assert_eq!((bench.server.counts().sessions, bench.server.counts().acks), (0, 0));
    }

    #[test]
    fn a_slow_server_answers_when_it_is_time() {
        let mut bench = Bench::new(Behaviour { delay: SECOND * 3, ..Behaviour::default() });
        bench.send(&Ask::new("INVITE", "z9hG4bK1"));
        let sent = bench.pass(SECOND * 3);
        assert_eq!((sent.len(), sent[0].0), (1, 3.0));
        assert_eq!(heads(&bench.send(&Ask::new("CANCEL", "z9hG4bK1"))), ["200"]);
        assert_eq!(bench.server.counts().sessions, 1);
    }

    #[test]
    fn faults_on_request_can_be_switched_while_it_runs() {
        let mut bench = Bench::new(Behaviour { busy: true, ..Behaviour::default() });
        let statuses = |bench: &mut Bench, number: u32| {
            let branch = format!("z9hG4bK{number}");
            let invite = heads(&bench.send(&Ask { cseq: number, ..Ask::new("INVITE", &branch) })).join(" ");
            (invite, heads(&bench.send(&Ask { cseq: number, ..Ask::new("OPTIONS", &branch) })).join(" "))
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(statuses(&mut bench, 1), pair("100 486", "200"));
        bench.server.behaviour = Behaviour { offline: true, ..Behaviour::default() };
        assert_eq!(statuses(&mut bench, 2), pair("100 503", "503"));
        bench.server.behaviour = Behaviour { silent: true, ..Behaviour::default() };
        assert_eq!(statuses(&mut bench, 3), pair("", ""));
        assert_eq!(bench.pass(SECOND), []);
        bench.server.behaviour = Behaviour::default();
        assert_eq!(statuses(&mut bench, 3), pair("100 200", "200"));
    }

    #[test]
    fn an_options_in_a_session_can_go_unanswered_and_counts_once() {
        let mut bench = Bench::new(Behaviour { ignore_options: true, untimed: true, ..Behaviour::default() });
        let answers = bench.send(&Ask::new("INVITE", "z9hG4bK1"));
        assert!(!answers[1].contains("Session-Expires"), "{}", answers[1]);
        let tag = tag(&answers[1]);
        bench.send(&Ask { tag: &tag, ..Ask::new("ACK", "z9hG4bK2") });
        let options = Ask { tag: &tag, ..Ask::new("OPTIONS", "z9hG4bK3") };
        assert!(bench.send(&options).is_empty() && bench.send(&options).is_empty());
        assert_eq!(heads(&bench.send(&Ask { tag: &tag, ..Ask::new("UPDATE", "z9hG4bK4") })), ["200"]);
        assert_eq!(heads(&bench.send(&Ask::new("OPTIONS", "z9hG4bK5"))), ["200"], "outside of dialogs it answers");
        assert_eq!(bench.pass(SECOND * 40), []);
        let counts = bench.server.counts();
        assert_eq!((counts.options, counts.pings, counts.sessions, counts.peak), (2, 2, 1, 1));
    }

    #[test]
    fn an_options_in_a_session_can_end_it_along_the_route_set() {
        let mut bench = Bench::new(Behaviour { bye_after_options: true, ..Behaviour::default() });
        let headers = [("Record-Route", "<sip:127.0.0.1:8;lr=on>"), ("Record-Route", "<sip:127.0.0.1:9;lr>")];
        let tag = tag(&bench.send(&Ask { headers: &headers, ..Ask::new("INVITE", "z9hG4bK1") })[1]);
        bench.send(&Ask { tag: &tag, ..Ask::new("ACK", "z9hG4bK2") });
        let options = Ask { tag: &tag, cseq: 2, ..Ask::new("OPTIONS", "z9hG4bK3") };
        let mut out = Outbox::new();
        bench.server.receive(&options.bytes(), caller(), bench.now, &mut out);
        assert_eq!((out.len(), out[1].0.port()), (2, 8));
        let bye = texts(out).remove(1);
        assert!(bye.starts_with("BYE sip:127.0.0.1:5072 SIP/2.0\r\n"), "{bye}");
        assert!(bye.contains("Route: <sip:127.0.0.1:8;lr=on>\r\nRoute: <sip:127.0.0.1:9;lr>\r\n"), "{bye}");
        assert!(
            bye.contains(&format!("From: <sip:127.0.0.1:7010>;tag={tag}\r\nTo: <sip:127.0.0.1:5072>;tag=c\r\n")),
            "{bye}"
        );
        assert_eq!(heads(&bench.send(&Ask { tag: &tag, cseq: 3, ..Ask::new("BYE", "z9hG4bK4") })), ["481"]);
        let resent: Vec<_> = bench.pass(SECOND * 6).into_iter().map(|(at, _)| at).collect();
        assert_eq!(resent, [0.5, 1.5, 3.5]);
        let parsed = Message::parse(bye.as_bytes()).expect("SIP");
        bench.receive(&sip::respond(&parsed, caller(), (200, "OK"), b"", b""));
        assert_eq!((bench.pass(SECOND * 40), bench.server.counts().hung_up), (vec![], 1));
    }

    #[test]
    fn a_server_can_hang_up_and_gives_up_on_its_bye_after_64_t1() {
        let mut bench = Bench::new(Behaviour { hang_up_after: Some(SECOND * 2), ..Behaviour::default() });
        bench.up();
        let sent = bench.pass(SECOND * 40);
        let times: Vec<_> = sent.iter().map(|(at, _)| *at).collect();
        assert_eq!(times, [2.0, 2.5, 3.5, 5.5, 9.5, 13.5, 17.5, 21.5, 25.5, 29.5, 33.5]);
        assert_eq!((bench.server.counts().unheard, bench.server.counts().sessions), (1, 0));
        assert!(bench.server.byes.is_empty());
    }
}
