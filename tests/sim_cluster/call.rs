//! The callers: an INVITE to an address of the cluster, requests inside the session, and a BYE.

use std::net::SocketAddr;
use std::time::Duration;

use super::server::address_of;
use super::world::{Net, Timer};
use crate::sim::client::{Client, State, T1};
use crate::sim::network::Happening;
use crate::sim::text::Text;

/// Where all callers are.
pub(super) const CALLER: &str = "10.1.0.1:5072";

/// What a caller waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    Start,
    /// The INVITE may have to go out again.
    Resend,
    /// It sends an INFO.
    Info,
    HangUp,
    /// A request inside may have to go out again.
    ResendInside(usize),
}

/// One call.
#[derive(Debug)]
pub(super) struct Call {
    number: usize,
    pub(super) id: String,
    to: SocketAddr,
    hold: Duration,
    began: Duration,
    invite: Client,
    /// The 2xx that it has taken.
    ok: Option<Text>,
    inside: Vec<(String, Client)>,
    over: bool,
    /// Two nodes that were both asked have found it a server each, or its 200 has found no node at first.
    pub(super) unsure: bool,
}

impl Call {
    /// A call that begins at `at`.
    pub(super) fn new(number: usize, id: String, to: SocketAddr, at: Duration, hold: Duration, net: &mut Net) -> Self {
        net.after(at.saturating_sub(net.now), Happening::Fires(Timer::Caller(number, Due::Start)));
        let invite = Client::new("INVITE", 1, String::new(), at);
        Call { number, id, to, hold, began: at, invite, ok: None, inside: Vec::new(), over: false, unsure: false }
    }

    /// Whether something that it has sent waits for its answer.
    pub(super) fn waits(&self) -> bool {
        !self.invite.bytes.is_empty() && self.invite.waits() || self.inside.iter().any(|(_, client)| client.waits())
    }

    /// Whether it has a session, as far as it knows.
    pub(super) fn talks(&self) -> bool {
        self.ok.is_some() && !self.over
    }

    fn after(&self, after: Duration, due: Due, net: &mut Net) {
        net.after(after, Happening::Fires(Timer::Caller(self.number, due)));
    }

    fn send(&self, to: SocketAddr, text: &str, net: &mut Net) {
        net.send(CALLER.parse().expect("an address"), to, text);
    }

    /// One of its timers fires.
    pub(super) fn fires(&mut self, due: Due, net: &mut Net) {
        match due {
            Due::Start => {
                let Call { id, to, .. } = self;
                let text = format!(
                    "INVITE sip:{to} SIP/2.0\r\nVia: SIP/2.0/UDP {CALLER};branch=z9hG4bK-{id}\r\nMax-Forwards: 70\r\n\
                     From: <sip:{CALLER}>;tag=c-{id}\r\nTo: <sip:{to}>\r\nCall-ID: {id}\r\nCSeq: 1 INVITE\r\n\
                     User-Agent: OPENSIPS_TTS_MRCP_CLIENT\r\nContact: <sip:{CALLER}>\r\nContent-Length: 0\r\n\r\n"
                );
                self.invite = Client::new("INVITE", 1, text, net.now);
                self.send(self.to, &self.invite.bytes, net);
                self.after(T1, Due::Resend, net);
            }
            Due::Resend => {
                if let Some(wait) = self.invite.again(net.now) {
                    self.send(self.to, &self.invite.bytes, net);
                    self.after(wait, Due::Resend, net);
                }
            }
            Due::Info if self.talks() => {
                if let Some(ok) = self.ok.clone() {
                    self.ask("INFO", &ok, net);
                }
                self.info_later(net);
            }
            Due::HangUp if self.talks() => {
                self.over = true;
                if let Some(ok) = self.ok.clone() {
                    self.ask("BYE", &ok, net);
                }
            }
            Due::Info | Due::HangUp => {}
            Due::ResendInside(nth) => {
                if let Some(wait) = self.inside[nth].1.again(net.now) {
                    let (_, client) = &self.inside[nth];
                    self.send(self.to, &client.bytes, net);
                    self.after(wait, Due::ResendInside(nth), net);
                }
            }
        }
    }

    fn info_later(&self, net: &mut Net) {
        if net.chance(60) {
            let after = net.up_to(self.hold / 2);
            self.after(after, Due::Info, net);
        }
    }

    /// A request inside the session that a 2xx has brought.
    fn ask(&mut self, method: &'static str, ok: &Text, net: &mut Net) {
        let (nth, cseq) = (self.inside.len(), self.inside.len() as u32 + 2);
        let text = inside(method, ok, cseq);
        self.send(self.to, &text, net);
        self.inside.push((ok.to_tag().to_owned(), Client::new(method, cseq, text, net.now)));
        self.after(T1, Due::ResendInside(nth), net);
    }

    /// A datagram for it.
    pub(super) fn hears(&mut self, from: SocketAddr, text: &Text, net: &mut Net) {
        match (text.status(), text.cseq()) {
            (None, _) => {
                let of_mine = self.ok.as_ref().is_some_and(|ok| text.header("From").ends_with(ok.to_tag()));
                self.over |= text.method() == "BYE" && of_mine;
                self.send(from, &text.answer(200, "", ""), net);
            }
            (Some(status), (_, "INVITE")) => self.answered(status, text, net),
            (Some(status), (cseq, _)) => {
                let asked = self.inside.iter_mut().find(|(_, client)| client.cseq == cseq);
                let Some((tag, client)) = asked else { return };
                let gone = client.hear(status) && matches!(status, 408 | 481);
                self.over |= gone && self.ok.as_ref().is_some_and(|ok| ok.to_tag() == tag);
            }
        }
    }

    fn answered(&mut self, status: u16, text: &Text, net: &mut Net) {
        let waited = self.invite.waits();
        self.invite.hear(status);
        match status {
            ..200 => {}
            200..300 => {
                self.send(self.to, &inside("ACK", text, 1), net);
                let of_another = self.ok.as_ref().is_some_and(|ok| ok.to_tag() != text.to_tag());
                self.unsure |= of_another || waited && net.now > self.began + T1;
                if waited {
                    self.ok = Some(text.clone());
                    self.after(self.hold, Due::HangUp, net);
                    self.info_later(net);
                } else if (of_another || self.invite.state != State::Succeeded)
                    && self.inside.iter().all(|(tag, client)| tag != text.to_tag() || client.method != "BYE")
                {
                    self.ask("BYE", text, net);
                }
            }
            300.. => {
                let ack = self.invite.bytes.replace("INVITE sip", "ACK sip").replace("1 INVITE", "1 ACK");
                let to = format!("To: {}\r\n", text.header("To"));
                self.send(self.to, &ack.replace(&format!("To: <sip:{}>\r\n", self.to), &to), net);
            }
        }
    }
}

fn inside(method: &str, ok: &Text, cseq: u32) -> String {
    let routes: Vec<&str> = ok.headers("Record-Route").collect();
    let routes: String = routes.iter().rev().map(|route| format!("Route: {route}\r\n")).collect();
    let (id, tag) = (ok.call_id(), ok.to_tag());
    format!(
        "{method} sip:{} SIP/2.0\r\nVia: SIP/2.0/UDP {CALLER};branch=z9hG4bK-{id}-{tag}-{method}-{cseq}\r\n\
         Max-Forwards: 70\r\n{routes}From: {}\r\nTo: {}\r\nCall-ID: {id}\r\nCSeq: {cseq} {method}\r\n\
         Content-Length: 0\r\n\r\n",
        address_of(ok.header("Contact")),
        ok.header("From"),
        ok.header("To"),
    )
}
