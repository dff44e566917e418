//! The destinations: honest servers that answer, refuse, ring for long, hear nothing or end calls themselves.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::caller::address as address_of;
use super::client::{Client, GIVE_UP, T1, T2};
use super::network::{Happening, Network};
use super::text::Text;

/// What a destination waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Timer {
    /// The INVITE of that number gets this answer.
    Answer(usize, u16),
    /// The final answer of that INVITE may have to go out again.
    Again(usize),
    /// The request of that number may have to go out again.
    Resend(usize),
    /// Something is to be said in the dialog.
    Request(&'static str),
}

/// How a destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Every call is another lot.
    Mixed,
    /// It takes every call at once.
    Good,
    /// It never says a word.
    Mute,
    /// It refuses every call.
    Refuses(u16),
}

/// One call, from its destination's side.
#[derive(Debug)]
pub(crate) struct Leg {
    number: usize,
    /// Where the destination is.
    pub(crate) address: SocketAddr,
    kind: Kind,
    contact: bool,
    obeys_cancel: bool,
    invites: Vec<Invite>,
    clients: Vec<Client>,
    answers: HashMap<String, String>,
    cseq: u32,
    over: bool,
}

#[derive(Debug)]
struct Invite {
    text: Text,
    branch: String,
    last: Option<String>,
    final_status: u16,
    acked: bool,
    answered: Duration,
    interval: Duration,
}

impl Leg {
    /// A call that has not been heard of yet.
    pub(crate) fn new(number: usize, address: SocketAddr, kind: Kind, net: &mut Network) -> Self {
        Leg {
            number,
            address,
            kind,
            contact: net.chance(70),
            obeys_cancel: net.chance(85),
            invites: Vec::new(),
            clients: Vec::new(),
            answers: HashMap::new(),
            cseq: 100,
            over: false,
        }
    }

    /// One of its timers fires.
    pub(crate) fn fires(&mut self, timer: Timer, net: &mut Network) {
        match timer {
            Timer::Answer(invite, status) => self.answer(invite, status, net),
            Timer::Again(invite) => self.again(invite, net),
            Timer::Resend(number) => {
                if let Some(wait) = self.clients[number].again(net.now) {
                    self.send(self.next_hop(), &self.clients[number].bytes, net);
                    self.after(wait, Timer::Resend(number), net);
                }
            }
            Timer::Request(_) if self.over => {}
            Timer::Request(method) => self.request(method, net),
        }
    }

    /// A datagram for this call.
    pub(crate) fn hears(&mut self, from: SocketAddr, text: &Text, net: &mut Network) {
        if let Some(status) = text.status() {
            let (cseq, method) = text.cseq();
            if let Some(client) = self.clients.iter_mut().find(|one| one.cseq == cseq && one.method == method) {
                client.hear(status);
            }
            return;
        }
        match text.method() {
            "INVITE" => self.invited(from, text, net),
            "ACK" => {
                let cseq = text.cseq().0;
                let acked = self.invites.iter_mut().filter(|one| one.text.cseq().0 == cseq && one.final_status > 0);
                acked.for_each(|one| one.acked = true);
            }
            method => {
                let key = format!("{} {method}", text.branch());
                if !self.answers.contains_key(&key) {
                    let answer = self.reply(method, text, net);
                    self.answers.insert(key.clone(), answer);
                }
                self.send(from, &self.answers[&key], net);
            }
        }
    }

    fn after(&self, after: Duration, timer: Timer, net: &mut Network) {
        net.after(after, Happening::Fires(super::network::Timer::Destination(self.number, timer)));
    }

    fn send(&self, to: SocketAddr, bytes: &str, net: &mut Network) {
        net.send(self.address, to, bytes);
    }

    /// Its tag.
    pub(crate) fn tag(&self) -> String {
        format!("d-{}", self.number)
    }

    /// Whether it believes that a session is there, and has said where: without Contact a very late one can't be found once
    /// its row is gone.
    pub(crate) fn believes(&self) -> bool {
        self.contact && self.is_confirmed() && !self.over
    }

    fn is_confirmed(&self) -> bool {
        self.invites.first().is_some_and(|invite| (200..300).contains(&invite.final_status))
    }

    fn invited(&mut self, from: SocketAddr, text: &Text, net: &mut Network) {
        if let Some(invite) = self.invites.iter().find(|one| one.branch == text.branch()) {
            if let Some(last) = invite.last.as_ref().filter(|_| !invite.acked) {
                self.send(from, last, net);
            }
            return;
        }
        let number = self.invites.len();
        self.invites.push(Invite {
            text: text.clone(),
            branch: text.branch().to_owned(),
            last: None,
            final_status: 0,
            acked: false,
            answered: Duration::ZERO,
            interval: T1,
        });
        if number > 0 || !text.to_tag().is_empty() {
            let status = if self.over || !self.is_confirmed() { 481 } else { [200, 488][usize::from(net.chance(20))] };
            let wait = net.up_to(Duration::from_secs(1));
            return self.after(wait, Timer::Answer(number, status), net);
        }
        for (wait, status) in course(self.kind, net) {
            self.after(wait, Timer::Answer(number, status), net);
        }
        // Whoever answers may also end the call, and speak before.
        for (method, in_100) in [("INFO", 15), ("OPTIONS", 10), ("BYE", 20)] {
            if net.chance(in_100) {
                let wait = net.up_to(Duration::from_secs(60));
                self.after(wait, Timer::Request(method), net);
            }
        }
    }

    fn answer(&mut self, number: usize, status: u16, net: &mut Network) {
        let contact = if self.contact { format!("Contact: <sip:{}>\r\n", self.address) } else { String::new() };
        let tag = format!("d-{}", self.number);
        let invite = &mut self.invites[number];
        if invite.final_status > 0 {
            return;
        }
        let text = invite.text.answer(status, &tag, &contact);
        let to = address_of(invite.text.header("Via").trim_start_matches("SIP/2.0/UDP "));
        invite.last = Some(text.clone());
        if status >= 200 {
            invite.final_status = status;
            invite.answered = net.now;
            self.after(T1, Timer::Again(number), net);
        }
        self.send(to, &text, net);
    }

    /// A final answer waits for its ACK (sections 13.3.1.4 and 17.2.1).
    fn again(&mut self, number: usize, net: &mut Network) {
        let invite = &mut self.invites[number];
        let Some(last) = invite.last.clone().filter(|_| !invite.acked) else { return };
        let to = address_of(invite.text.header("Via").trim_start_matches("SIP/2.0/UDP "));
        if net.now - invite.answered >= GIVE_UP {
            // A session without ACK is ended.
            if number == 0 && self.is_confirmed() && !self.over {
                self.request("BYE", net);
            }
            return;
        }
        invite.interval = (invite.interval * 2).min(T2);
        let wait = invite.interval;
        self.send(to, &last, net);
        self.after(wait, Timer::Again(number), net);
    }

    /// The answer to a request other than INVITE.
    fn reply(&mut self, method: &str, text: &Text, net: &mut Network) -> String {
        let tag = format!("d-{}", self.number);
        if method == "CANCEL" {
            let Some(number) = self.invites.iter().position(|one| one.branch == text.branch()) else {
                return text.answer(481, &tag, "");
            };
            if self.obeys_cancel {
                let wait = net.up_to(Duration::from_secs(1));
                self.after(wait, Timer::Answer(number, 487), net);
            }
            return text.answer(200, &tag, "");
        }
        let discovery = method == "OPTIONS" && text.to_tag().is_empty();
        let known = discovery || (self.is_confirmed() && !self.over);
        self.over |= method == "BYE";
        text.answer(if known { 200 } else { 481 }, &tag, "")
    }

    fn next_hop(&self) -> SocketAddr {
        let invite = &self.invites[0].text;
        let route = invite.headers("Record-Route").next();
        address_of(route.unwrap_or(&self.target()))
    }

    fn target(&self) -> String {
        let invite = &self.invites[0].text;
        let contact = invite.headers("Contact").next().unwrap_or(invite.header("From"));
        contact.split('>').next().unwrap_or_default().trim_start_matches('<').to_owned()
    }

    fn request(&mut self, method: &'static str, net: &mut Network) {
        // Only a server that has heard the ACK speaks, or one that gives up.
        let invite = &self.invites[0];
        if !self.is_confirmed() || (!invite.acked && net.now - invite.answered < GIVE_UP) {
            return;
        }
        self.cseq += 1;
        self.over |= method == "BYE";
        let Leg { number, address, cseq, .. } = &*self;
        let invite = &self.invites[0];
        let routes: String = invite.text.headers("Record-Route").map(|route| format!("Route: {route}\r\n")).collect();
        let text = format!(
            "{method} {} SIP/2.0\r\nVia: SIP/2.0/UDP {address};branch=z9hG4bK-d{number}-{cseq}\r\nMax-Forwards: 70\r\n\
             {routes}From: {};tag=d-{number}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\n\
             Content-Length: 0\r\n\r\n",
            self.target(),
            invite.text.header("To"),
            invite.text.header("From"),
            invite.text.call_id(),
        );
        let client = self.clients.len();
        self.send(self.next_hop(), &text, net);
        self.clients.push(Client::new(method, self.cseq, text, net.now));
        self.after(T1, Timer::Resend(client), net);
    }
}

/// What an INVITE is told, and when.
fn course(kind: Kind, net: &mut Network) -> Vec<(Duration, u16)> {
    let short = net.up_to(Duration::from_millis(200));
    let long = net.up_to(Duration::from_secs(70));
    match kind {
        Kind::Mixed => {}
        Kind::Good => return vec![(short, 200)],
        Kind::Mute => return Vec::new(),
        Kind::Refuses(status) => return vec![(short, status)],
    }
    let failure = [302, 404, 480, 486, 488, 500, 503, 603, 503][net.rng.usize(..9)];
    match net.rng.u8(..100) {
        0..45 => vec![(Duration::ZERO, 100), (short, 200)],
        45..60 => vec![(Duration::ZERO, 100), (short, 180), (short + long / 4, 200)],
        60..75 => vec![(short, failure)],
        75..80 => vec![(short, 183), (long, failure)],
        // Nothing before the final, perhaps too late.
        80..84 => vec![(long, 200)],
        84..88 => vec![(long, 180), (long + short, 200)],
        // Rings for ever: timer C or the caller's patience ends it.
        88..94 => vec![(short, 180)],
        94..96 => vec![(Duration::ZERO, 100), (long * 3, 200)],
        _ => Vec::new(),
    }
}
