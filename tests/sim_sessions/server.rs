//! The destinations: what they answer to a first INVITE, and the dialogs that come of it, sometimes two: there is a proxy
//! behind us, then, that forks.

use std::net::SocketAddr;
use std::time::Duration;

use super::caller::script;
use super::end::{Due as EndDue, End, via};
use super::{Ends, Net, Timer};
use crate::sim::client::{GIVE_UP, T1, T2};
use crate::sim::network::Happening;
use crate::sim::text::Text;

/// What it waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Due {
    /// The INVITE gets this answer.
    Answer(u16),
    /// A failure may have to go out again.
    Again,
    /// Another one behind it takes the call too.
    Fork,
}

/// One INVITE at one destination.
#[derive(Debug)]
pub(crate) struct Leg {
    number: usize,
    address: SocketAddr,
    invite: Text,
    last: Option<String>,
    status: u16,
    acked: bool,
    answered: Duration,
    interval: Duration,
    obeys: bool,
    forks: usize,
    end: Option<usize>,
}

impl Leg {
    /// An INVITE has come.
    pub(crate) fn new(number: usize, address: SocketAddr, invite: &Text, net: &mut Net) -> Self {
        let leg = Leg {
            number,
            address,
            invite: invite.clone(),
            last: None,
            status: 0,
            acked: false,
            answered: Duration::ZERO,
            interval: T1,
            obeys: net.chance(85),
            forks: if net.chance(12) { 2 } else { 1 },
            end: None,
        };
        course(net).into_iter().for_each(|(wait, status)| leg.after(wait, Due::Answer(status), net));
        leg
    }

    fn after(&self, after: Duration, due: Due, net: &mut Net) {
        net.after(after, Happening::Fires(Timer::Leg(self.number, due)));
    }

    /// One of its timers fires.
    pub(crate) fn fires(&mut self, due: Due, ends: &mut Ends, net: &mut Net) {
        match due {
            Due::Answer(_) if self.status >= 200 => {}
            Due::Answer(status) => self.answer(status, ends, net),
            Due::Fork => self.take(1, ends, net),
            Due::Again => {
                if !self.acked && net.now - self.answered < GIVE_UP {
                    self.interval = (self.interval * 2).min(T2);
                    self.send_last(net);
                    self.after(self.interval, Due::Again, net);
                }
            }
        }
    }

    fn send_last(&self, net: &mut Net) {
        if let Some(last) = &self.last {
            net.send(self.address, via(&self.invite), last);
        }
    }

    fn tag(&self, fork: usize) -> String {
        format!("d-{}-{fork}", self.number)
    }

    fn answer(&mut self, status: u16, ends: &mut Ends, net: &mut Net) {
        // The caller has hung up meanwhile.
        let status = match self.end {
            Some(end) if ends.all[end].is_over() && status >= 200 => 487,
            Some(_) | None => status,
        };
        self.status = status;
        self.answered = net.now;
        if (200..300).contains(&status) {
            self.last = None;
            if self.forks > 1 {
                let wait = net.up_to(Duration::from_secs(3));
                self.after(wait, Due::Fork, net);
            }
            return self.take(0, ends, net);
        }
        let contact = format!("Contact: <sip:{}>\r\n", self.address);
        self.last = Some(self.invite.answer(status, &self.tag(0), if status < 200 { &contact } else { "" }));
        self.send_last(net);
        if (101..200).contains(&status) {
            self.end(0, ends, net);
        }
        if status >= 300 {
            self.after(T1, Due::Again, net);
        }
    }

    fn end(&mut self, fork: usize, ends: &mut Ends, net: &mut Net) -> usize {
        match self.end.filter(|_| fork == 0) {
            Some(end) => end,
            None => {
                let tag = self.tag(fork);
                let end = ends.add(|number| End::of_destination(number, self.address, &self.invite, tag, net));
                if fork == 0 {
                    self.end = Some(end);
                }
                end
            }
        }
    }

    /// Takes the call.
    fn take(&mut self, fork: usize, ends: &mut Ends, net: &mut Net) {
        let number = self.end(fork, ends, net);
        let end = &mut ends.all[number];
        end.answer(0, 200, net);
        if net.chance(50) {
            script(net).into_iter().for_each(|(at, method)| end.after(at, EndDue::Say(method), net));
        }
        if net.chance(10) {
            let at = net.up_to(Duration::from_secs(60));
            end.after(at, EndDue::Dies, net);
        }
    }

    /// The same INVITE, its ACK or its CANCEL.
    pub(crate) fn hears(&mut self, from: SocketAddr, text: &Text, net: &mut Net) {
        match text.method() {
            "INVITE" if !self.acked => self.send_last(net),
            "ACK" => self.acked = true,
            "CANCEL" => {
                net.send(self.address, from, text.answer(200, &self.tag(0), ""));
                if self.obeys {
                    let wait = net.up_to(Duration::from_secs(1));
                    self.after(wait, Due::Answer(487), net);
                }
            }
            _ => {}
        }
    }
}

/// What an INVITE is told, and when.
fn course(net: &mut Net) -> Vec<(Duration, u16)> {
    let short = net.up_to(Duration::from_millis(200));
    let long = net.up_to(Duration::from_secs(50));
    let ringing = net.up_to(Duration::from_secs(10));
    let failure = [302, 404, 480, 486, 488, 500, 503, 603, 408][net.rng.usize(..9)];
    match net.rng.u8(..100) {
        0..50 => vec![(Duration::ZERO, 100), (short, 200)],
        50..65 => vec![(Duration::ZERO, 100), (short, 180), (short + ringing, 200)],
        65..80 => vec![(short, failure)],
        80..84 => vec![(short, 183), (long, failure)],
        // Perhaps too late.
        84..88 => vec![(long, 200)],
        88..92 => vec![(short, 180), (long + short, 200)],
        92..96 => vec![(short, 180)],
        _ => Vec::new(),
    }
}
