//! The callers: an INVITE, perhaps a CANCEL, and the dialogs that come of it.

use std::net::SocketAddr;
use std::time::Duration;

use super::end::{Due as EndDue, End};
use super::{Ends, Net, Side, Timer};
use crate::harness::INSIDE;
use crate::sim::client::{Client, State, T1};
use crate::sim::network::Happening;
use crate::sim::text::Text;

/// What a caller waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Due {
    /// It is time to call.
    Start,
    /// The INVITE may have to go out again.
    Resend,
    /// It loses patience.
    Cancel,
    /// The CANCEL may have to go out again.
    CancelAgain,
    /// It dies.
    Dies,
}

/// One call, from its caller's side.
#[derive(Debug)]
pub(crate) struct Call {
    number: usize,
    /// Call-ID.
    pub(crate) id: String,
    /// Where the caller is.
    pub(crate) address: SocketAddr,
    proxy: SocketAddr,
    /// Whether it hangs up a second dialog, or the first one when a second comes.
    keeps_first: bool,
    /// Hangs up while it rings, by BYE.
    early_bye: bool,
    invite: Client,
    cancel: Option<Client>,
    ends: Vec<usize>,
    script: Vec<(Duration, &'static str)>,
    dead: bool,
}

impl Call {
    /// A call whose course is drawn by lot.
    pub(crate) fn new(number: usize, id: String, address: SocketAddr, proxy: SocketAddr, net: &mut Net) -> Self {
        let contact = if net.chance(85) { format!("Contact: <sip:{address}>\r\n") } else { String::new() };
        let text = format!(
            "INVITE sip:{INSIDE} SIP/2.0\r\nVia: SIP/2.0/UDP {address};branch=z9hG4bK-{id}\r\nMax-Forwards: 70\r\n\
             From: <sip:{address}>;tag=c-{id}\r\nTo: <sip:{INSIDE}>\r\nCall-ID: {id}\r\nCSeq: 1 INVITE\r\n\
             User-Agent: OPENSIPS_TTS_MRCP_CLIENT\r\n{contact}Content-Length: 0\r\n\r\n"
        );
        let call = Call {
            number,
            id,
            address,
            proxy,
            keeps_first: net.chance(60),
            early_bye: net.chance(5),
            invite: Client::new("INVITE", 1, text, Duration::ZERO),
            cancel: None,
            ends: Vec::new(),
            script: script(net),
            dead: false,
        };
        let start = net.up_to(Duration::from_secs(40));
        call.after(start, Due::Start, net);
        if net.chance(15) {
            let longest =
                [Duration::from_millis(3), Duration::from_secs(4), Duration::from_secs(30)][net.rng.usize(..3)];
            let at = start + net.up_to(longest);
            call.after(at, Due::Cancel, net);
        }
        if net.chance(8) {
            let at = start + net.up_to(Duration::from_secs(40));
            call.after(at, Due::Dies, net);
        }
        call
    }

    fn after(&self, after: Duration, due: Due, net: &mut Net) {
        net.after(after, Happening::Fires(Timer::Call(self.number, due)));
    }

    /// One of its timers fires.
    pub(crate) fn fires(&mut self, due: Due, ends: &mut Ends, net: &mut Net) {
        match due {
            _ if self.dead => {}
            Due::Dies => {
                self.dead = true;
                self.ends.iter().for_each(|end| ends.all[*end].fires(EndDue::Dies, net));
            }
            Due::Start => {
                self.invite = Client::new("INVITE", 1, self.invite.bytes.clone(), net.now);
                net.send(self.address, self.proxy, &self.invite.bytes);
                self.after(T1, Due::Resend, net);
            }
            Due::Resend => {
                if let Some(wait) = self.invite.again(net.now) {
                    net.send(self.address, self.proxy, &self.invite.bytes);
                    self.after(wait, Due::Resend, net);
                }
            }
            Due::Cancel if self.invite.waits() && self.cancel.is_none() => {
                let text = self.invite.bytes.replace("INVITE sip", "CANCEL sip").replace("1 INVITE", "1 CANCEL");
                net.send(self.address, self.proxy, &text);
                self.cancel = Some(Client::new("CANCEL", 1, text, net.now));
                self.after(T1, Due::CancelAgain, net);
            }
            Due::Cancel => {}
            Due::CancelAgain => {
                if let Some(cancel) = &mut self.cancel
                    && let Some(wait) = cancel.again(net.now)
                {
                    net.send(self.address, self.proxy, &cancel.bytes);
                    self.after(wait, Due::CancelAgain, net);
                }
            }
        }
    }

    /// An answer to its INVITE or CANCEL.
    pub(crate) fn hears(&mut self, text: &Text, ends: &mut Ends, net: &mut Net) {
        let Some(status) = text.status().filter(|_| !self.dead) else { return };
        if text.cseq().1 == "CANCEL" {
            if let Some(cancel) = &mut self.cancel {
                cancel.hear(status);
            }
            return;
        }
        let in_time = self.invite.state != State::TimedOut;
        self.invite.hear(status);
        match status {
            101..200 if self.early_bye && !text.to_tag().is_empty() => {
                let end = self.end(text, ends, net);
                ends.all[end].fires(EndDue::Say("BYE"), net);
            }
            ..200 => {}
            200..300 => self.success(text, in_time, ends, net),
            300.. => {
                let ack = self.invite.bytes.replace("INVITE sip", "ACK sip").replace("1 INVITE", "1 ACK");
                let ack = ack.replace(&format!("To: <sip:{INSIDE}>"), &format!("To: {}", text.header("To")));
                net.send(self.address, self.proxy, &ack);
            }
        }
    }

    /// Its end of the dialog that this response makes.
    fn end(&mut self, text: &Text, ends: &mut Ends, net: &mut Net) -> usize {
        if let Some(&end) = ends.of.get(&(Side::Caller, text.to_tag().to_owned())) {
            return end;
        }
        let end = ends.add(|number| End::of_caller(number, self.address, text, net));
        self.ends.push(end);
        end
    }

    fn success(&mut self, text: &Text, in_time: bool, ends: &mut Ends, net: &mut Net) {
        let number = self.end(text, ends, net);
        let end = &mut ends.all[number];
        end.acknowledge(1, net);
        if std::mem::replace(&mut end.confirmed, true) {
            return;
        }
        end.sets_timer(text, net);
        let others: Vec<_> = self.ends.iter().copied().filter(|one| *one != number).collect();
        let unwanted = self.cancel.is_some() || !in_time || (self.keeps_first && !others.is_empty());
        if unwanted {
            return ends.all[number].fires(EndDue::Say("BYE"), net);
        }
        for (at, method) in self.script.clone() {
            ends.all[number].after(at, EndDue::Say(method), net);
        }
        others.into_iter().for_each(|other| ends.all[other].fires(EndDue::Say("BYE"), net));
    }
}

/// What an end says, and when after the beginning.
pub(crate) fn script(net: &mut Net) -> Vec<(Duration, &'static str)> {
    let hold = match net.rng.u8(..4) {
        0 => Duration::ZERO,
        1 => net.up_to(Duration::from_secs(2)),
        _ => net.up_to(Duration::from_secs(60)),
    };
    let mut script = Vec::new();
    for method in ["INFO", "INVITE", "UPDATE", "NOTIFY", "INVITE", "INFO"] {
        if net.chance(15) {
            let at = net.up_to(hold + Duration::from_millis(100));
            script.push((at, method));
        }
    }
    if net.chance(60) {
        script.push((hold, "BYE"));
    }
    script
}
