//! The destinations: up, dead, mute or hung, and the sessions that they have.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use super::world::{Net, Timer};
use crate::sim::client::{GIVE_UP, T1, T2};
use crate::sim::network::Happening;
use crate::sim::text::Text;

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    Up,
    /// Its port is closed.
    Dead,
    /// It hears and says nothing.
    Mute,
    /// It says 100 to calls, and no more; it answers probes.
    Hung,
}

/// What it waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    /// The call of that leg is taken.
    Answer(usize),
    /// The 200 goes out again, until the ACK.
    Again(usize),
}

/// One INVITE.
#[derive(Debug)]
struct Leg {
    invite: Text,
    tag: String,
    answer: Option<String>,
    answered: Duration,
    interval: Duration,
    acked: bool,
    over: bool,
}

/// One destination.
#[derive(Debug)]
pub(super) struct Server {
    number: usize,
    pub(super) address: SocketAddr,
    pub(super) manner: Manner,
    legs: Vec<Leg>,
    by_branch: HashMap<String, usize>,
    by_tag: HashMap<String, usize>,
}

impl Server {
    pub(super) fn new(number: usize) -> Self {
        let address = ([10, 129, 39, 88], 7010 + number as u16).into();
        Server {
            number,
            address,
            manner: Manner::Up,
            legs: Vec::new(),
            by_branch: HashMap::new(),
            by_tag: HashMap::new(),
        }
    }

    /// The calls that it has a session of, or is about to.
    pub(super) fn live(&self) -> BTreeSet<&str> {
        self.legs.iter().filter(|leg| leg.answer.is_some() && !leg.over).map(|leg| leg.invite.call_id()).collect()
    }

    /// Whether it waits for anything.
    pub(super) fn waits(&self) -> bool {
        self.legs.iter().any(|leg| !leg.over && (leg.answer.is_none() || !leg.acked))
    }

    fn after(&self, after: Duration, due: Due, net: &mut Net) {
        net.after(after, Happening::Fires(Timer::Server(self.number, due)));
    }

    /// A datagram for it.
    pub(super) fn hears(&mut self, from: SocketAddr, text: &Text, net: &mut Net) {
        let hung = self.manner == Manner::Hung;
        if text.status().is_some() || matches!(self.manner, Manner::Dead | Manner::Mute) {
            return;
        }
        let leg = self.by_tag.get(text.to_tag()).copied().filter(|leg| !self.legs[*leg].over);
        match text.method() {
            "OPTIONS" => net.send(self.address, from, text.answer(200, "o", "")),
            "INVITE" => self.invited(from, text, hung, net),
            "ACK" => leg.into_iter().for_each(|leg| self.legs[leg].acked = true),
            "CANCEL" => {
                net.send(self.address, from, text.answer(200, "c", ""));
                if let Some(leg) = self.by_branch.get(text.branch()).map(|leg| &mut self.legs[*leg])
                    && leg.answer.is_none()
                {
                    leg.over = true;
                    net.send(self.address, from, leg.invite.answer(487, &leg.tag, ""));
                }
            }
            "BYE" => {
                // Its retransmission is answered alike.
                let known = self.by_tag.contains_key(text.to_tag());
                leg.into_iter().for_each(|leg| self.legs[leg].over = true);
                net.send(self.address, from, text.answer(if known { 200 } else { 481 }, "", ""));
            }
            _ => net.send(self.address, from, text.answer(if leg.is_some() { 200 } else { 481 }, "", "")),
        }
    }

    fn invited(&mut self, from: SocketAddr, text: &Text, hung: bool, net: &mut Net) {
        if let Some(&leg) = self.by_branch.get(text.branch()) {
            if let Some(answer) = &self.legs[leg].answer {
                net.send(self.address, from, answer);
            }
            return;
        }
        let number = self.legs.len();
        let tag = format!("s{}-{number}", self.number);
        self.by_branch.insert(text.branch().to_owned(), number);
        self.by_tag.insert(tag.clone(), number);
        let (invite, answer, answered) = (text.clone(), None, Duration::ZERO);
        let (interval, acked, over) = (T1, false, hung);
        self.legs.push(Leg { invite, tag, answer, answered, interval, acked, over });
        if hung {
            return net.send(self.address, from, text.answer(100, "", ""));
        }
        let wait = net.up_to(Duration::from_millis([5, 50, 400][number % 3]));
        self.after(wait, Due::Answer(number), net);
    }

    /// One of its timers fires.
    pub(super) fn fires(&mut self, due: Due, net: &mut Net) {
        let (Due::Answer(number) | Due::Again(number)) = due;
        let contact = format!("Contact: <sip:{}>\r\n", self.address);
        let (address, now) = (self.address, net.now);
        let leg = &mut self.legs[number];
        match due {
            _ if leg.over => return,
            Due::Answer(_) => {
                leg.answer = Some(leg.invite.answer(200, &leg.tag, &contact));
                leg.answered = now;
            }
            Due::Again(_) if leg.acked => return,
            // Section 13.3.1.4: who hears no ACK ends the session.
            Due::Again(_) if now - leg.answered >= GIVE_UP => {
                leg.over = true;
                let (to, bye) = bye(leg, address);
                return net.send(address, to, bye);
            }
            Due::Again(_) => leg.interval = (leg.interval * 2).min(T2),
        }
        let (to, interval) = (via(&leg.invite), leg.interval);
        if self.manner == Manner::Up {
            net.send(address, to, leg.answer.clone().unwrap_or_default());
        }
        self.after(interval, Due::Again(number), net);
    }
}

fn bye(Leg { invite, tag, .. }: &Leg, address: SocketAddr) -> (SocketAddr, String) {
    let routes: Vec<&str> = invite.headers("Record-Route").collect();
    let to = address_of(routes.first().copied().unwrap_or_default());
    let routes: String = routes.iter().map(|route| format!("Route: {route}\r\n")).collect();
    let id = invite.call_id();
    let text = format!(
        "BYE sip:{} SIP/2.0\r\nVia: SIP/2.0/UDP {address};branch=z9hG4bK-{tag}-bye\r\nMax-Forwards: 70\r\n{routes}From: \
         {};tag={tag}\r\nTo: {}\r\nCall-ID: {id}\r\nCSeq: 100 BYE\r\nContent-Length: 0\r\n\r\n",
        address_of(invite.header("Contact")),
        invite.header("To"),
        invite.header("From"),
    );
    (to, text)
}

/// Where answers to a request go.
pub(super) fn via(request: &Text) -> SocketAddr {
    let via = request.header("Via").trim_start_matches("SIP/2.0/UDP ");
    via.split(';').next().unwrap_or_default().parse().expect("an address in the Via")
}

/// The address in `<sip:10.0.0.1:5060;lr>`.
pub(super) fn address_of(value: &str) -> SocketAddr {
    let address = value.trim_start_matches("<sip:").split([';', '>']).next().unwrap_or_default();
    address.parse().unwrap_or_else(|_| panic!("an address in {value}"))
}
