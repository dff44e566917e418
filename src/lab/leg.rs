//! One side of a dialog, as far as its requests need it: RFC 3261 section 12.

use std::net::SocketAddr;

use bytes::Bytes;

use super::wire::Outbox;
use crate::engine::flow::Transport;
use crate::engine::sip::{self, Address, Compose, Message, Uri};

/// What a request in a dialog is made of.
#[derive(Clone, Debug)]
pub(super) struct Leg {
    /// How we talk, for Via.
    pub(super) transport: Transport,
    /// Our own address, for Via.
    pub(super) us: SocketAddr,
    /// Our From value, with its tag.
    pub(super) local: String,
    /// Their To value, with its tag once they gave one.
    pub(super) remote: String,
    /// The dialog's Call-ID.
    pub(super) call_id: String,
    /// Their Contact, or what stands for it.
    pub(super) target: String,
    /// Route values, the first hop first.
    pub(super) routes: Vec<String>,
    /// Where a request goes whose first hop is only a name.
    pub(super) otherwise: SocketAddr,
}

impl Leg {
    /// A request in the dialog, with where it goes; a first hop without `lr` is a strict router (section 12.2.1.1).
    pub(super) fn request(
        &self,
        (method, cseq): (&str, u32),
        branch: &str,
        headers: &[(&str, &str)],
    ) -> (SocketAddr, Bytes) {
        let mut compose =
            Compose::new(&self.local, &self.remote, &self.call_id, cseq).via(self.transport, self.us, branch);
        let first = self.routes.first().and_then(|route| Address::parse(route.as_bytes())).map(|route| route.uri);
        let strict = first.filter(|uri| Uri::parse(uri).is_ok_and(|uri| uri.params.get(b"lr").is_none()));
        let (target, routes) = match strict {
            Some(uri) => (text(uri), &self.routes[1..]),
            None => (self.target.clone(), &self.routes[..]),
        };
        for route in routes {
            compose = compose.header("Route", route);
        }
        if strict.is_some() {
            compose = compose.header("Route", &format!("<{}>", self.target));
        }
        for (name, value) in headers {
            compose = compose.header(name, value);
        }
        let hop = first.unwrap_or(self.target.as_bytes());
        let to = Uri::parse(hop).ok().and_then(|uri| uri.address()).unwrap_or(self.otherwise);
        (to, compose.request(method, &target))
    }
}

/// A request that is resent until it is answered; the intervals are timer E's (RFC 3261 section 17.1.2.1), or timer A's.
#[derive(Clone, Debug)]
pub(super) struct Resend {
    /// Where it goes.
    pub(super) to: SocketAddr,
    /// The whole request.
    pub(super) bytes: Bytes,
    /// The wait that is now under way.
    pub(super) interval: std::time::Duration,
    /// When to give up.
    pub(super) until: std::time::Instant,
}

impl Resend {
    /// Sends it again.
    pub(super) fn send(&self, out: &mut Outbox) {
        out.push((self.to, self.bytes.clone()));
    }
}

/// Where an answer to `request` from `peer` goes: by a stream back on its connection, else as the Via says.
pub(super) fn answer_to(transport: Transport, request: &Message<'_>, peer: SocketAddr) -> SocketAddr {
    match transport.is_reliable() {
        true => peer,
        false => sip::response_peer(&request.via(), peer),
    }
}

/// Received bytes as text; what is not UTF-8 is replaced.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The URI of the message's Contact.
pub(super) fn contact(message: &Message<'_>) -> Option<String> {
    message.header(b"Contact").and_then(Address::parse).map(|contact| text(contact.uri))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leg(routes: &[&str]) -> Leg {
        let at = |text: &str| text.parse().expect("an address");
        Leg {
            transport: Transport::Udp,
            us: at("127.0.0.1:1"),
            local: "<sip:a>;tag=1".to_owned(),
            remote: "<sip:b>;tag=2".to_owned(),
            call_id: "x".to_owned(),
            target: "sip:127.0.0.1:7".to_owned(),
            routes: routes.iter().map(|&route| route.to_owned()).collect(),
            otherwise: at("127.0.0.1:9"),
        }
    }

    fn sent(routes: &[&str]) -> (u16, String, Vec<String>) {
        let (to, bytes) = leg(routes).request(("BYE", 2), "z9hG4bKx", &[]);
        let message = Message::parse(&bytes).expect("SIP");
        assert_eq!(message.fault(), None);
        (to.port(), text(message.request_uri()), message.routes().map(|route| text(route.raw)).collect())
    }

    #[test]
    fn a_request_goes_to_its_first_hop() {
        let hop =
            |port, uri: &str, routes: &[&str]| (port, uri.to_owned(), routes.iter().map(|&r| r.to_owned()).collect());
        assert_eq!(sent(&[]), hop(7, "sip:127.0.0.1:7", &[]));
        let loose = ["<sip:127.0.0.1:8;lr=on>", "<sip:127.0.0.1:5;lr>"];
        assert_eq!(sent(&loose), hop(8, "sip:127.0.0.1:7", &loose));
        assert_eq!(sent(&["<sip:proxy.example;lr>"]), hop(9, "sip:127.0.0.1:7", &["<sip:proxy.example;lr>"]));
    }

    #[test]
    fn a_strict_router_gets_itself_as_request_uri() {
        let (port, uri, routes) = sent(&["<sip:127.0.0.1:8>", "<sip:127.0.0.1:5;lr>"]);
        assert_eq!((port, uri.as_str()), (8, "sip:127.0.0.1:8"));
        assert_eq!(routes, ["<sip:127.0.0.1:5;lr>", "<sip:127.0.0.1:7>"]);
    }
}
