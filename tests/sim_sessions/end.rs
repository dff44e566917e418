//! One end of one dialog, the caller's or the destination's: RFC 3261 sections 12 to 15, RFC 3311, RFC 4028, by ends of which
//! some are faulty, forgetful or dead.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use tandem::engine::event::Record;

use super::{Net, Side, Timer};
use crate::sim::caller::address as address_of;
use crate::sim::client::{Client, GIVE_UP, State, T1, T2};
use crate::sim::network::Happening;
use crate::sim::text::Text;

/// What an end waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Due {
    /// The request of that number may have to go out again.
    Resend(usize),
    /// The INVITE of that number gets this answer.
    Answer(usize, u16),
    /// The final answer of that INVITE may have to go out again.
    Again(usize),
    /// Something is to be said.
    Say(&'static str),
    /// The session timer is to be refreshed, and again after that time.
    Refresh(Duration),
    /// It dies: nobody is told.
    Dies,
}

/// What it answers; 0: nothing.
#[derive(Clone, Copy, Debug)]
struct Manner {
    pinged: u16,
    informed: u16,
    reinvited: u16,
    hung_up: u16,
    /// When the dialog is over.
    strange: u16,
    /// The session timer that it asks for.
    expires: Option<u32>,
    refreshes: bool,
    /// Its ACKs go straight to the other end.
    bypass: bool,
}

impl Manner {
    fn drawn(net: &mut Net) -> Self {
        let mut one = |usual: u16, others: &[u16], in_100| match net.chance(in_100) {
            true => others[net.rng.usize(..others.len())],
            false => usual,
        };
        Manner {
            pinged: one(200, &[405, 481, 408, 0, 500], 40),
            informed: one(200, &[481, 408, 415, 0], 12),
            reinvited: one(200, &[481, 408, 488, 0], 30),
            hung_up: one(200, &[0], 15),
            strange: one(481, &[0], 15),
            expires: [None, None, Some(10), Some(30)][net.rng.usize(..4)],
            refreshes: net.chance(60),
            bypass: net.chance(25),
        }
    }
}

/// Others are a subscription's (RFC 5057), which says nothing of the session.
pub(crate) fn is_of_session(method: &str) -> bool {
    method != "NOTIFY"
}

#[derive(Debug)]
struct Invite {
    text: Text,
    last: Option<String>,
    acked: bool,
    answered: Duration,
    interval: Duration,
}

/// One end of a dialog.
#[derive(Debug)]
pub(crate) struct End {
    number: usize,
    pub(crate) side: Side,
    address: SocketAddr,
    /// The destination's tag, which names the dialog.
    pub(crate) tag: String,
    call_id: String,
    local: String,
    remote: String,
    target: String,
    routes: Vec<String>,
    cseq: u32,
    remote_cseq: u32,
    clients: Vec<Client>,
    answers: HashMap<String, String>,
    invites: Vec<Invite>,
    acks: HashMap<u32, (SocketAddr, String)>,
    manner: Manner,
    /// Whether it knows that the session is set up.
    pub(crate) confirmed: bool,
    over: bool,
    dead: bool,
}

impl End {
    /// The caller's end of the dialog that this response to its INVITE makes.
    pub(crate) fn of_caller(number: usize, address: SocketAddr, response: &Text, net: &mut Net) -> Self {
        let mut routes: Vec<_> = response.headers("Record-Route").map(str::to_owned).collect();
        routes.reverse();
        let tag = response.to_tag().to_owned();
        let target = response.header("Contact").trim_matches(['<', '>']).to_owned();
        let names = [response.header("From").to_owned(), response.header("To").to_owned()];
        End::new(number, (Side::Caller, address), tag, response, (names, target, routes), net)
    }

    /// The destination's, of that tag, of this INVITE.
    pub(crate) fn of_destination(
        number: usize,
        address: SocketAddr,
        invite: &Text,
        tag: String,
        net: &mut Net,
    ) -> Self {
        let routes = invite.headers("Record-Route").map(str::to_owned).collect();
        let contact = invite.headers("Contact").next().unwrap_or(invite.header("From"));
        let target = contact.split('>').next().unwrap_or_default().trim_start_matches('<').to_owned();
        let names = [format!("{};tag={tag}", invite.header("To")), invite.header("From").to_owned()];
        let mut end = End::new(number, (Side::Destination, address), tag, invite, (names, target, routes), net);
        end.remote_cseq = invite.cseq().0;
        end.keep_invite(invite);
        end
    }

    fn new(
        number: usize,
        (side, address): (Side, SocketAddr),
        tag: String,
        text: &Text,
        ([local, remote], target, routes): ([String; 2], String, Vec<String>),
        net: &mut Net,
    ) -> Self {
        End {
            number,
            side,
            address,
            tag,
            call_id: text.call_id().to_owned(),
            local,
            remote,
            target,
            routes,
            cseq: if side == Side::Caller { 1 } else { 100 },
            remote_cseq: 0,
            clients: Vec::new(),
            answers: HashMap::new(),
            invites: Vec::new(),
            acks: HashMap::new(),
            manner: Manner::drawn(net),
            confirmed: false,
            over: false,
            dead: false,
        }
    }

    /// Whether it holds that the session is there.
    pub(crate) fn lives(&self) -> bool {
        self.confirmed && !self.over && !self.dead
    }

    /// Whether it is the caller's end of that session. A 2xx of a try that was given up long before goes to the caller by its
    /// Vias alone, and what it makes of it is another session, which nobody counts.
    pub(crate) fn is_of(&self, record: &Record) -> bool {
        self.call_id == record.call_id && Some(address_of(&self.target)) == record.address
    }

    /// Whether it holds that the dialog is over.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// One of its timers fires.
    pub(crate) fn fires(&mut self, due: Due, net: &mut Net) {
        if self.dead {
            return;
        }
        match due {
            Due::Dies => self.dead = true,
            Due::Say(method) => self.say(method, net),
            Due::Refresh(interval) if !self.over => {
                self.say(["UPDATE", "INVITE"][usize::from(net.chance(30))], net);
                self.after(interval, Due::Refresh(interval), net);
            }
            Due::Refresh(_) => {}
            Due::Resend(number) => {
                let waited = self.clients[number].waits();
                match self.clients[number].again(net.now) {
                    Some(wait) => {
                        self.send(self.next_hop(), &self.clients[number].bytes, net);
                        self.after(wait, Due::Resend(number), net);
                    }
                    // Section 12.2.1.2.
                    None if waited && self.clients[number].state == State::TimedOut => {
                        self.over |= is_of_session(self.clients[number].method);
                    }
                    None => {}
                }
            }
            Due::Answer(number, status) => self.answer(number, status, net),
            Due::Again(number) => self.again(number, net),
        }
    }

    /// Something is to happen after that time.
    pub(crate) fn after(&self, after: Duration, due: Due, net: &mut Net) {
        net.after(after, Happening::Fires(Timer::End(self.number, due)));
    }

    /// A message within its dialog.
    pub(crate) fn hears(&mut self, from: SocketAddr, text: &Text, net: &mut Net) {
        match text.status() {
            _ if self.dead => {}
            Some(status) => self.response(status, text, net),
            None => self.asked(from, text, net),
        }
    }

    fn send(&self, to: SocketAddr, bytes: &str, net: &mut Net) {
        net.send(self.address, to, bytes);
    }

    fn next_hop(&self) -> SocketAddr {
        address_of(self.routes.first().unwrap_or(&self.target))
    }

    fn text(&self, method: &str, cseq: u32, branch: &str, routes: &[String]) -> String {
        let End { address, target, local, remote, call_id, .. } = self;
        let routes: String = routes.iter().map(|route| format!("Route: {route}\r\n")).collect();
        let contact =
            if matches!(method, "INVITE" | "UPDATE") { format!("Contact: <sip:{address}>\r\n") } else { String::new() };
        format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {address};branch={branch}\r\nMax-Forwards: 70\r\n{routes}\
             From: {local}\r\nTo: {remote}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n{contact}Content-Length: 0\r\n\r\n"
        )
    }

    fn branch(&self, cseq: u32) -> String {
        format!("z9hG4bK-e{}-{cseq}", self.number)
    }

    fn say(&mut self, method: &'static str, net: &mut Net) {
        let busy = self.clients.iter().any(|client| client.method == "INVITE" && client.waits())
            || self.invites.iter().any(|invite| !invite.acked);
        if self.over || (method == "INVITE" && busy) {
            return;
        }
        self.cseq += 1;
        self.over |= method == "BYE";
        let text = self.text(method, self.cseq, &self.branch(self.cseq), &self.routes);
        self.send(self.next_hop(), &text, net);
        self.after(T1, Due::Resend(self.clients.len()), net);
        self.clients.push(Client::new(method, self.cseq, text, net.now));
    }

    fn response(&mut self, status: u16, text: &Text, net: &mut Net) {
        let (cseq, method) = text.cseq();
        let Some(number) = self.clients.iter().position(|one| one.cseq == cseq && one.method == method) else { return };
        let first = self.clients[number].hear(status);
        match (method, status) {
            ("INVITE", 200..300) => self.acknowledge(cseq, net),
            ("INVITE", 300..) => {
                let ack = self.text("ACK", cseq, &self.branch(cseq), &self.routes);
                self.send(self.next_hop(), &ack, net);
            }
            _ => {}
        }
        match status {
            408 | 481 if first => self.over |= is_of_session(method),
            491 if first && cseq < 110 => self.after(net.up_to(Duration::from_secs(4)), Due::Say("INVITE"), net),
            _ => {}
        }
    }

    /// A 2xx of ours is acknowledged, each time (section 13.2.2.4).
    pub(crate) fn acknowledge(&mut self, cseq: u32, net: &mut Net) {
        if !self.acks.contains_key(&cseq) {
            let branch = format!("{}-ack", self.branch(cseq));
            let ack = match self.manner.bypass {
                true => (address_of(&self.target), self.text("ACK", cseq, &branch, &[])),
                false => (self.next_hop(), self.text("ACK", cseq, &branch, &self.routes)),
            };
            self.acks.insert(cseq, ack);
        }
        let (to, ack) = &self.acks[&cseq];
        self.send(*to, ack, net);
    }

    /// The caller's 2xx asks for refreshes.
    pub(crate) fn sets_timer(&mut self, response: &Text, net: &mut Net) {
        let seconds: u64 = response.header("Session-Expires").parse().unwrap_or(0);
        if seconds > 0 && self.manner.refreshes {
            let interval = Duration::from_secs(seconds) / 2;
            self.after(interval, Due::Refresh(interval), net);
        }
    }

    fn asked(&mut self, from: SocketAddr, text: &Text, net: &mut Net) {
        let cseq = text.cseq().0;
        match text.method() {
            "ACK" => {
                let answered = |invite: &&mut Invite| invite.text.cseq().0 == cseq && invite.last.is_some();
                self.invites.iter_mut().filter(answered).for_each(|invite| invite.acked = true);
            }
            "INVITE" => self.invited(text, net),
            method => {
                let key = format!("{} {method}", text.branch());
                if !self.answers.contains_key(&key) {
                    let status = self.status(method, cseq);
                    self.over |= method == "BYE";
                    let extra = self.extra(method, status);
                    let answer = if status == 0 { String::new() } else { text.answer(status, &self.tag, &extra) };
                    self.answers.insert(key.clone(), answer);
                }
                if !self.answers[&key].is_empty() {
                    self.send(from, &self.answers[&key], net);
                }
            }
        }
    }

    fn status(&mut self, method: &str, cseq: u32) -> u16 {
        if self.over {
            return self.manner.strange;
        }
        // Section 12.2.2.
        if cseq < self.remote_cseq {
            return 500;
        }
        self.remote_cseq = cseq;
        match method {
            "BYE" => self.manner.hung_up,
            "INFO" => self.manner.informed,
            _ => self.manner.pinged,
        }
    }

    fn extra(&self, method: &str, status: u16) -> String {
        let changes = matches!(method, "INVITE" | "UPDATE") && (200..300).contains(&status);
        let contact = if changes { format!("Contact: <sip:{}>\r\n", self.address) } else { String::new() };
        let expires = self.manner.expires.filter(|_| changes).map(|seconds| format!("Session-Expires: {seconds}\r\n"));
        contact + &expires.unwrap_or_default()
    }

    fn keep_invite(&mut self, text: &Text) -> usize {
        let (last, acked, answered, interval) = (None, false, Duration::ZERO, T1);
        self.invites.push(Invite { text: text.clone(), last, acked, answered, interval });
        self.invites.len() - 1
    }

    /// A re-INVITE (section 14.2).
    fn invited(&mut self, text: &Text, net: &mut Net) {
        if self.invites.iter().any(|one| one.text.branch() == text.branch()) {
            return;
        }
        let glare = self.clients.iter().any(|client| client.method == "INVITE" && client.waits());
        let cseq = text.cseq().0;
        let status = match (self.over, glare) {
            (true, _) => self.manner.strange,
            (false, true) => 491,
            (false, false) if cseq < self.remote_cseq => 500,
            (false, false) => self.manner.reinvited,
        };
        self.remote_cseq = self.remote_cseq.max(cseq);
        let number = self.keep_invite(text);
        if status > 0 {
            let wait = if status == 200 { net.up_to(Duration::from_secs(1)) } else { Duration::ZERO };
            self.after(wait, Due::Answer(number, status), net);
        }
    }

    /// Answers an INVITE, the first one or another.
    pub(crate) fn answer(&mut self, number: usize, status: u16, net: &mut Net) {
        let status = if self.over && status < 300 { 481 } else { status };
        self.confirmed |= status < 300;
        let extra = self.extra("INVITE", status);
        let invite = &mut self.invites[number];
        let text = invite.text.answer(status, &self.tag, &extra);
        let to = via(&invite.text);
        invite.last = Some(text.clone());
        invite.answered = net.now;
        self.after(T1, Due::Again(number), net);
        self.send(to, &text, net);
    }

    /// A final answer waits for its ACK (sections 13.3.1.4 and 17.2.1).
    fn again(&mut self, number: usize, net: &mut Net) {
        let invite = &mut self.invites[number];
        let Some(last) = invite.last.clone().filter(|_| !invite.acked) else { return };
        if net.now - invite.answered >= GIVE_UP {
            if last.starts_with("SIP/2.0 2") {
                self.say("BYE", net);
            }
            return;
        }
        invite.interval = (invite.interval * 2).min(T2);
        let (wait, to) = (invite.interval, via(&invite.text));
        self.send(to, &last, net);
        self.after(wait, Due::Again(number), net);
    }
}

/// Where answers to a request go.
pub(crate) fn via(text: &Text) -> SocketAddr {
    address_of(text.header("Via").trim_start_matches("SIP/2.0/UDP "))
}
