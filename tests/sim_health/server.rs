//! A destination that dies, hangs, rings for ever, refuses, is busy or well, one after the other.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::sim::destination::Timer as Due;
use crate::sim::network::{Happening, Network, Timer};
use crate::sim::text::Text;

/// How it is for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// It takes every call.
    Well,
    /// Its port is closed.
    Dead,
    /// It hears and says nothing.
    Mute,
    /// It says 100 to calls, and no more; it answers probes.
    Hung,
    /// It has no room; probes get 200.
    Full,
    /// It names a time in its 503.
    Overloaded(u64),
    /// It refuses everything so.
    Refuses(u16),
}

/// One destination.
#[derive(Debug)]
pub(super) struct Server {
    number: usize,
    pub(super) address: SocketAddr,
    /// From when on it is how.
    manners: Vec<(Duration, Manner)>,
    /// Requests by branch and method, with the last answer to each.
    asked: HashMap<String, usize>,
    legs: Vec<(Text, Option<String>, u16)>,
}

/// A final answer goes out so often if nothing was heard of the request before.
const TIMES: u32 = 4;

impl Server {
    /// One whose bad times are over at `well`.
    pub(super) fn new(number: usize, address: SocketAddr, well: Duration, net: &mut Network) -> Self {
        let mut manners = Vec::new();
        let mut at = Duration::ZERO;
        // Some are always well, some flap fast.
        let longest = Duration::from_secs([1000, 30, 10, 2][net.rng.usize(..4)]);
        while at < well {
            let manner = match net.rng.u8(..14) {
                0..5 => Manner::Well,
                5..7 => Manner::Dead,
                7..9 => Manner::Mute,
                9 => Manner::Hung,
                10 => Manner::Full,
                11 => Manner::Overloaded(net.rng.u64(0..20)),
                _ => Manner::Refuses([500, 503, 408, 480, 404, 603][net.rng.usize(..6)]),
            };
            manners.push((at, manner));
            at += net.up_to(longest) + Duration::from_millis(200);
        }
        manners.push((well, Manner::Well));
        Server { number, address, manners, asked: HashMap::new(), legs: Vec::new() }
    }

    /// How it is.
    pub(super) fn manner(&self, now: Duration) -> Manner {
        self.manners.iter().rfind(|(from, _)| *from <= now).map_or(Manner::Well, |(_, manner)| *manner)
    }

    /// A datagram for it.
    pub(super) fn hears(&mut self, from: SocketAddr, text: &Text, net: &mut Network) {
        let manner = self.manner(net.now);
        let method = text.method();
        if text.status().is_some() || method == "ACK" || matches!(manner, Manner::Dead | Manner::Mute) {
            return;
        }
        if method == "CANCEL" {
            net.send(self.address, from, text.answer(200, "c", ""));
            if let Some(&leg) = self.asked.get(&format!("{} INVITE", text.branch())) {
                self.answer(leg, 487, net);
            }
            return;
        }
        let key = format!("{} {method}", text.branch());
        if let Some(&leg) = self.asked.get(&key) {
            if let Some(last) = &self.legs[leg].1 {
                net.send(self.address, from, last);
            }
            return;
        }
        let leg = self.legs.len();
        self.asked.insert(key, leg);
        self.legs.push((text.clone(), None, 0));
        let invite = method == "INVITE";
        let (first, last) = match manner {
            Manner::Dead | Manner::Mute => return,
            Manner::Well if invite && net.chance(30) => (Some(180), 200),
            Manner::Hung if invite => return self.answer(leg, 100, net),
            Manner::Well | Manner::Hung => (None, 200),
            Manner::Full => (None, if invite { 486 } else { 200 }),
            Manner::Overloaded(_) => (None, 503),
            Manner::Refuses(status) => (None, status),
        };
        if let Some(status) = first {
            self.answer(leg, status, net);
        }
        for time in 0..if first.is_some() { TIMES } else { 1 } {
            let after = net.up_to(Duration::from_millis(50)) + Duration::from_millis(500) * time;
            // The leg's number, and the server's in the timer's place of it.
            let due = Due::Answer(leg, last);
            net.after(after, Happening::Fires(Timer::Destination(self.number, due)));
        }
    }

    /// One of its answers is due.
    pub(super) fn fires(&mut self, due: Due, net: &mut Network) {
        if let Due::Answer(leg, status) = due {
            self.answer(leg, status, net);
        }
    }

    fn answer(&mut self, leg: usize, status: u16, net: &mut Network) {
        let extra = match self.manner(net.now) {
            Manner::Dead => return,
            Manner::Overloaded(time) => format!("Retry-After: {time}\r\n"),
            _ => String::new(),
        };
        let tag = format!("s{}-{leg}", self.number);
        let (text, last, settled) = &mut self.legs[leg];
        if *settled >= 200 && *settled != status {
            return;
        }
        *settled = status;
        let by = crate::sim::caller::address(text.header("Via").trim_start_matches("SIP/2.0/UDP "));
        let answer = text.answer(status, &tag, &extra);
        *last = Some(answer.clone());
        net.send(self.address, by, answer);
    }
}
