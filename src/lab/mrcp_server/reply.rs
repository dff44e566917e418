//! The stand-in server's answers, put together.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::engine::flow::Transport;
use crate::engine::sip::{self, Message};

const ALLOW: &str = "Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, PRACK, MESSAGE, SUBSCRIBE, NOTIFY, REFER, UPDATE\r\nSupported: timer, 100rel\r\n";
const AGENT: &str = "User-Agent: tandem-mrcp-server\r\n";

/// The name that the server goes by.
pub(super) const NAME: &str = "tandem-mrcp-server";

/// An answer in the making.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) reason: &'static str,
    headers: String,
    body: String,
}

impl Answer {
    /// An answer with that status and the headers that all of them have.
    pub(super) fn new(status: u16, reason: &'static str) -> Self {
        Answer { status, reason, headers: format!("{AGENT}{ALLOW}"), body: String::new() }
    }

    /// Adds a header line.
    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// Adds the Contact, and says that descriptions are understood.
    pub(super) fn contact(self, transport: Transport, us: SocketAddr) -> Self {
        self.header("Contact", &format!("<{}>", sip::sip_uri(us, transport))).header("Accept", "application/sdp")
    }

    /// Adds a session description.
    pub(super) fn sdp(mut self, sdp: String) -> Self {
        self.body = sdp;
        self.header("Content-Type", "application/sdp")
    }

    /// Adds what a 2xx to INVITE or UPDATE has: the route it came by (RFC 3261 section 12.1.1) and, if it is `timed`, the
    /// session timer.
    pub(super) fn session(mut self, request: &Message<'_>, timed: bool) -> Self {
        for route in request.record_routes() {
            self = self.header("Record-Route", &String::from_utf8_lossy(route.raw));
        }
        if !timed {
            return self;
        }
        let theirs =
            request.headers(b"Supported").any(|line| line.split(|&b| b == b',').any(|o| o.trim_ascii() == b"timer"));
        match theirs {
            true => self.header("Require", "timer").header("Session-Expires", "600;refresher=uac"),
            false => self.header("Session-Expires", "600;refresher=uas"),
        }
    }

    /// The whole response to `request`, which came from `peer`.
    pub(super) fn build(&self, request: &Message<'_>, peer: SocketAddr, tag: &str) -> Bytes {
        let start = (self.status, self.reason);
        let bytes = sip::respond(request, peer, start, tag.as_bytes(), self.headers.as_bytes());
        match bytes.strip_suffix(b"Content-Length: 0\r\n\r\n") {
            Some(head) if !self.body.is_empty() => {
                let length = format!("Content-Length: {}\r\n\r\n", self.body.len());
                [head, length.as_bytes(), self.body.as_bytes()].concat().into()
            }
            _ => bytes,
        }
    }
}

/// The 100 to `request`. A real server's has the topmost Via alone.
pub(super) fn trying(request: &Message<'_>, peer: SocketAddr) -> Bytes {
    let all = sip::respond(request, peer, (100, "Trying"), b"", AGENT.as_bytes());
    let Ok(message) = Message::parse(&all) else { return all };
    let mut out = b"SIP/2.0 100 Trying\r\nVia: ".to_vec();
    out.extend_from_slice(message.via().raw);
    out.extend_from_slice(b"\r\n");
    for line in message.lines() {
        let name = line.name_text;
        if !name.eq_ignore_ascii_case(b"Via") && !name.eq_ignore_ascii_case(b"v") {
            out.extend_from_slice(line.whole);
        }
    }
    out.extend_from_slice(b"\r\n");
    out.into()
}
