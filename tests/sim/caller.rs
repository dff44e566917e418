//! The callers: honest clients with an INVITE, requests in the dialog, CANCEL and BYE of their own.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::client::{Client, State, T1};
use super::network::{Happening, Network};
use super::text::Text;

/// What a caller waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Timer {
    /// It is time to call.
    Start,
    /// The request of that number may have to go out again.
    Resend(usize),
    /// The caller loses patience.
    Cancel,
    /// Something is to be said in the dialog.
    Request(&'static str),
}

/// One call, from its caller's side.
#[derive(Debug)]
pub(crate) struct Call {
    number: usize,
    /// Call-ID.
    pub(crate) id: String,
    /// Where the caller is.
    pub(crate) address: SocketAddr,
    /// The address of ours that it calls.
    proxy: SocketAddr,
    contact: bool,
    /// Behind a NAT: its Via names another host, and asks for `rport`.
    nat: bool,
    /// No call at all: an OPTIONS that asks what the destinations can.
    discovery: bool,
    /// CANCEL only once a provisional has come, as the RFC asks.
    polite: bool,
    cancelled: bool,
    /// What it will say in the dialog, and how long after the 2xx; nothing at its end if there is no BYE.
    script: Vec<(Duration, &'static str)>,
    clients: Vec<Client>,
    /// Where each of them goes.
    hops: Vec<SocketAddr>,
    dialog: Option<Dialog>,
    acks: HashMap<u32, (SocketAddr, String)>,
    /// The ACKs of sessions that came too many, by the other end's tag.
    unwanted: HashMap<String, (SocketAddr, String)>,
    answers: HashMap<String, String>,
    cseq: u32,
    over: bool,
}

#[derive(Debug)]
struct Dialog {
    target: String,
    routes: Vec<String>,
    to: String,
}

impl Dialog {
    fn new(text: &Text, proxy: SocketAddr) -> Self {
        let target = text.header("Contact").trim_matches(['<', '>']);
        let target = if target.is_empty() { format!("sip:{proxy}") } else { target.to_owned() };
        let mut routes: Vec<_> = text.headers("Record-Route").map(str::to_owned).collect();
        routes.reverse();
        Dialog { target, routes, to: text.header("To").to_owned() }
    }
}

impl Call {
    /// A call whose course is drawn by lot, and when its timers fire first.
    pub(crate) fn new(number: usize, id: String, address: SocketAddr, proxy: SocketAddr, net: &mut Network) -> Self {
        let mut script = Vec::new();
        let hold = match net.rng.u8(..4) {
            0 => Duration::ZERO,
            1 => net.up_to(Duration::from_secs(2)),
            _ => net.up_to(Duration::from_secs(60)),
        };
        for method in ["INFO", "INVITE", "UPDATE", "INFO"] {
            if net.chance(20) {
                let at = net.up_to(hold + Duration::from_millis(100));
                script.push((at, method));
            }
        }
        if net.chance(90) {
            script.push((hold, "BYE"));
        }
        let start = net.up_to(Duration::from_secs(20));
        net.after(start, Happening::Fires(super::network::Timer::Caller(number, Timer::Start)));
        if net.chance(25) {
            let longest =
                [Duration::from_millis(2), Duration::from_secs(3), Duration::from_secs(40)][net.rng.usize(..3)];
            let at = start + net.up_to(longest);
            net.after(at, Happening::Fires(super::network::Timer::Caller(number, Timer::Cancel)));
        }
        Call {
            number,
            id,
            address,
            proxy,
            contact: net.chance(50),
            nat: net.chance(20),
            discovery: net.chance(10),
            polite: net.chance(60),
            cancelled: false,
            script,
            clients: Vec::new(),
            hops: Vec::new(),
            dialog: None,
            acks: HashMap::new(),
            unwanted: HashMap::new(),
            answers: HashMap::new(),
            cseq: 0,
            over: false,
        }
    }

    /// One of its timers fires.
    pub(crate) fn fires(&mut self, timer: Timer, net: &mut Network) {
        match timer {
            Timer::Start => self.request(if self.discovery { "OPTIONS" } else { "INVITE" }, net),
            Timer::Resend(number) => self.resend(number, net),
            Timer::Cancel => self.cancel(net),
            Timer::Request("INVITE") if self.clients.iter().any(|one| one.method == "INVITE" && one.waits()) => {}
            Timer::Request(_) if self.over => {}
            Timer::Request(method) => {
                self.request(method, net);
                self.over |= method == "BYE";
            }
        }
    }

    /// A datagram for this call.
    pub(crate) fn hears(&mut self, from: SocketAddr, text: &Text, net: &mut Network) {
        match text.status() {
            Some(status) => self.response(status, text, net),
            None => self.asked(from, text, net),
        }
    }

    fn after(&self, after: Duration, timer: Timer, net: &mut Network) {
        net.after(after, Happening::Fires(super::network::Timer::Caller(self.number, timer)));
    }

    fn send(&self, to: SocketAddr, bytes: &str, net: &mut Network) {
        net.send(self.address, to, bytes);
    }

    fn branch(&self, client: usize) -> String {
        format!("z9hG4bK-{}-{client}", self.id)
    }

    fn via(&self, branch: &str) -> String {
        let by = if self.nat { "192.168.1.9:5999".to_owned() } else { self.address.to_string() };
        format!("Via: SIP/2.0/UDP {by};rport;branch={branch}\r\n")
    }

    /// Sends a request with a transaction of its own.
    fn request(&mut self, method: &'static str, net: &mut Network) {
        self.cseq += 1;
        let number = self.clients.len();
        let text = self.text(method, self.cseq, &self.branch(number));
        self.open(Client::new(method, self.cseq, text, net.now), self.next_hop(), net);
    }

    fn open(&mut self, client: Client, hop: SocketAddr, net: &mut Network) {
        self.send(hop, &client.bytes, net);
        self.after(T1, Timer::Resend(self.clients.len()), net);
        self.clients.push(client);
        self.hops.push(hop);
    }

    fn text(&self, method: &str, cseq: u32, branch: &str) -> String {
        let Call { id, address, proxy, .. } = self;
        let (target, routes, to) = match &self.dialog {
            Some(dialog) => {
                let routes: String = dialog.routes.iter().map(|route| format!("Route: {route}\r\n")).collect();
                (dialog.target.clone(), routes, dialog.to.clone())
            }
            None => (format!("sip:{proxy}"), String::new(), format!("<sip:{proxy}>")),
        };
        let agent =
            if matches!(method, "INVITE" | "OPTIONS") { "User-Agent: OPENSIPS_TTS_MRCP_CLIENT\r\n" } else { "" };
        let contact = if self.contact { format!("Contact: <sip:{address}>\r\n") } else { String::new() };
        format!(
            "{method} {target} SIP/2.0\r\n{}Max-Forwards: 70\r\n{routes}From: <sip:{address}>;tag=c-{id}\r\nTo: {to}\r\n\
             Call-ID: {id}\r\nCSeq: {cseq} {method}\r\n{agent}{contact}Content-Length: 0\r\n\r\n",
            self.via(branch)
        )
    }

    fn next_hop(&self) -> SocketAddr {
        match &self.dialog {
            Some(dialog) => address(dialog.routes.first().unwrap_or(&dialog.target)),
            None => self.proxy,
        }
    }

    fn resend(&mut self, number: usize, net: &mut Network) {
        if let Some(wait) = self.clients[number].again(net.now) {
            self.send(self.hops[number], &self.clients[number].bytes, net);
            self.after(wait, Timer::Resend(number), net);
        }
    }

    /// Gives the first INVITE up: at once, or when a provisional comes.
    fn cancel(&mut self, net: &mut Network) {
        self.cancelled = true;
        self.send_wanted_cancel(net);
    }

    fn send_wanted_cancel(&mut self, net: &mut Network) {
        let Some(invite) = self.clients.first().filter(|first| first.method == "INVITE" && first.waits()) else {
            return;
        };
        let may = !self.polite || invite.state == State::Proceeding;
        if !self.cancelled || !may || self.clients.iter().any(|client| client.method == "CANCEL") {
            return;
        }
        let text = self.text("CANCEL", self.clients[0].cseq, &self.branch(0));
        self.open(Client::new("CANCEL", self.clients[0].cseq, text, net.now), self.proxy, net);
    }

    fn response(&mut self, status: u16, text: &Text, net: &mut Network) {
        let (cseq, method) = text.cseq();
        let Some(number) = self.clients.iter().position(|one| one.cseq == cseq && one.method == method) else { return };
        let was_waiting = self.clients[number].waits();
        let first_final = self.clients[number].hear(status);
        if method != "INVITE" {
            return;
        }
        match status {
            ..200 => self.send_wanted_cancel(net),
            200..300 => self.success(cseq, first_final && was_waiting, text, net),
            // One that comes after a success is for nobody.
            300.. if number == 0 && self.dialog.is_some() && self.clients[0].state != State::Failed => {}
            300.. => {
                // The first INVITE knew of no session.
                let dialog = if number == 0 { self.dialog.take() } else { None };
                let ack = self.text_of_ack(number, text);
                self.send(self.next_hop(), &ack, net);
                self.dialog = self.dialog.take().or(dialog);
            }
        }
    }

    /// The ACK of a failure: hop by hop, with the INVITE's branch.
    fn text_of_ack(&self, number: usize, response: &Text) -> String {
        let text = self.text("ACK", self.clients[number].cseq, &self.branch(number));
        let to = text.split("\r\n").find(|line| line.starts_with("To: ")).expect("a To in what we write");
        text.replace(to, &format!("To: {}", response.header("To")))
    }

    fn success(&mut self, cseq: u32, first: bool, text: &Text, net: &mut Network) {
        if self.tag().is_some_and(|tag| tag != text.to_tag()) {
            return self.unwanted(cseq, text, net);
        }
        if self.dialog.is_none() {
            self.dialog = Some(Dialog::new(text, self.proxy));
            // Who gave up, by CANCEL or by waiting too long, ends the call at once.
            if self.cancelled || !first {
                self.script = vec![(Duration::ZERO, "BYE")];
            }
            for (at, method) in std::mem::take(&mut self.script) {
                self.after(at, Timer::Request(method), net);
            }
        }
        if !self.acks.contains_key(&cseq) {
            let ack = self.text("ACK", cseq, &format!("{}-ack{cseq}", self.branch(0)));
            self.acks.insert(cseq, (self.next_hop(), ack));
        }
        let (next_hop, ack) = &self.acks[&cseq];
        self.send(*next_hop, ack, net);
    }

    /// Another session than the one it has: it is acknowledged and ended (section 13.2.2.4).
    fn unwanted(&mut self, cseq: u32, text: &Text, net: &mut Network) {
        let tag = text.to_tag().to_owned();
        if !self.unwanted.contains_key(&tag) {
            let own = self.dialog.replace(Dialog::new(text, self.proxy));
            let ack = self.text("ACK", cseq, &format!("{}-ack{cseq}-{tag}", self.branch(0)));
            self.unwanted.insert(tag.clone(), (self.next_hop(), ack));
            self.request("BYE", net);
            self.dialog = own;
        }
        let (next_hop, ack) = &self.unwanted[&tag];
        self.send(*next_hop, ack, net);
    }

    /// The other end's tag, once there is a session.
    pub(crate) fn tag(&self) -> Option<&str> {
        self.dialog.as_ref().and_then(|dialog| dialog.to.split_once(";tag=")).map(|(_, tag)| tag)
    }

    /// A request of the destination.
    fn asked(&mut self, from: SocketAddr, text: &Text, net: &mut Network) {
        if text.method() == "ACK" {
            return;
        }
        let key = format!("{} {}", text.branch(), text.method());
        if !self.answers.contains_key(&key) {
            let known = self.tag().is_some_and(|tag| text.header("From").ends_with(&format!(";tag={tag}")));
            let status = if known && !self.over { 200 } else { 481 };
            self.over |= known && text.method() == "BYE";
            let answer = text.answer(status, "none", "");
            self.answers.insert(key.clone(), answer);
        }
        self.send(from, &self.answers[&key], net);
    }
}

/// The address that a URI names.
pub(crate) fn address(uri: &str) -> SocketAddr {
    let host = uri.trim_start_matches('<').trim_start_matches("sip:");
    let host = host.split([';', '>']).next().unwrap_or_default();
    host.parse().unwrap_or_else(|_| panic!("no address in {uri}"))
}
