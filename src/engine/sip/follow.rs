//! Requests that follow one of ours hop by hop: ACK to a final that is no 2xx (RFC 3261 section 17.1.1.3) and CANCEL
//! (section 9.1). They repeat what the INVITE said, byte for byte, with our Via alone. And requests within a dialog in
//! the name of one of its ends.

use std::io::Write;

use bytes::Bytes;

use super::address::Address;
use super::header::Name;
use super::message::Message;
use super::method::Method;
use super::uri::Uri;
use crate::engine::flow::Listener;

/// The ACK for a final other than 2xx; its To is the response's.
pub(crate) fn ack(invite: &Message<'_>, response: &Message<'_>) -> Bytes {
    follow(invite, Method::Ack, response.to().map_or(b"", |to| to.raw))
}

/// The CANCEL for an INVITE that we sent.
pub(crate) fn cancel(invite: &Message<'_>) -> Bytes {
    follow(invite, Method::Cancel, invite.to().map_or(b"", |to| to.raw))
}

fn follow(invite: &Message<'_>, method: Method<'_>, to: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(invite.bytes().len().min(1024));
    let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| out.extend_from_slice(part));
    put(&[method.as_bytes(), b" ", invite.request_uri(), b" SIP/2.0\r\nVia: ", invite.via().raw, b"\r\n"]);
    for line in invite.lines() {
        match line.name {
            Name::From | Name::CallId | Name::Route => put(&[line.whole]),
            Name::To => put(&[b"To: ", to, b"\r\n"]),
            Name::Via | Name::CSeq | Name::MaxForwards | Name::RecordRoute | Name::ContentLength => {}
            Name::ProxyRequire | Name::UserAgent | Name::Other => {}
        }
    }
    write!(out, "Max-Forwards: 70\r\nCSeq: {} ", invite.cseq()).expect("writing to memory");
    out.extend_from_slice(method.as_bytes());
    out.extend_from_slice(b"\r\nContent-Length: 0\r\n\r\n");
    out.into()
}

/// A request of ours within a dialog, in one end's name to the other: RFC 3261 section 12.2.1.1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Within<'w> {
    /// The method.
    pub(crate) method: Method<'w>,
    /// The remote target.
    pub(crate) target: &'w [u8],
    /// The Route values beyond us, with commas between them; "" for none.
    pub(crate) route: &'w [u8],
    /// From's value, with its tag.
    pub(crate) from: &'w [u8],
    /// To's value, with its tag.
    pub(crate) to: &'w [u8],
    /// Call-ID.
    pub(crate) call_id: &'w [u8],
    /// CSeq's number.
    pub(crate) cseq: u32,
    /// Further header lines, each with its CRLF, that we made ourselves.
    pub(crate) headers: &'w [u8],
    /// The listener that it leaves by.
    pub(crate) us: &'w Listener,
}

impl Within<'_> {
    /// The request with that branch.
    pub(crate) fn compose(&self, branch: &[u8]) -> Bytes {
        let Within { method, target, route, from, to, call_id, cseq, headers, us } = *self;
        let mut out = Vec::with_capacity(512);
        let strict = strict_hop(route);
        let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| out.extend_from_slice(part));
        put(&[method.as_bytes(), b" ", strict.map_or(target, |(first, _)| first), b" SIP/2.0\r\nVia: SIP/2.0/"]);
        put(&[us.transport.via_name().as_bytes(), b" ", us.advertise.to_string().as_bytes()]);
        put(&[b";branch=", branch, b"\r\n"]);
        match strict {
            Some((_, b"")) => put(&[b"Route: <", target, b">\r\n"]),
            Some((_, rest)) => put(&[b"Route: ", rest, b", <", target, b">\r\n"]),
            None if route.is_empty() => {}
            None => put(&[b"Route: ", route, b"\r\n"]),
        }
        put(&[b"Max-Forwards: 70\r\nFrom: ", from, b"\r\nTo: ", to, b"\r\nCall-ID: ", call_id, b"\r\n", headers]);
        write!(out, "CSeq: {cseq} ").expect("writing to memory");
        out.extend_from_slice(method.as_bytes());
        out.extend_from_slice(b"\r\nContent-Length: 0\r\n\r\n");
        out.into()
    }
}

/// The URI of the first hop and the values behind it, if that is a strict router.
fn strict_hop(route: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut values = super::list_values(route);
    let first = Address::parse(values.next()?)?;
    let rest = values.next().map_or(&b""[..], |second| &route[second.as_ptr().addr() - route.as_ptr().addr()..]);
    first.is_strict().then_some((first.uri, rest))
}

/// The URI that requests to the sender of a message go to: its Contact's. None if it has none that a request can bear.
pub(crate) fn target_of<'m>(message: &Message<'m>) -> Option<&'m [u8]> {
    let uri = message.header(b"Contact").and_then(Address::parse)?.uri;
    let clean = uri.iter().all(|byte| byte.is_ascii_graphic()) && Uri::parse(uri).is_ok();
    clean.then_some(uri)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::flow::{HostPort, ListenerId, Role, Transport};

    const INVITE: &[u8] = b"INVITE sip:h SIP/2.0\r\nVia: SIP/2.0/UDP us;branch=z9hG4bKx\r\nVia: SIP/2.0/UDP a;branch=1\r\n\
        Max-Forwards: 5\r\nRoute: <sip:r;lr>\r\nFrom : <sip:a>;tag=1\r\nt: <sip:b>\r\nCall-ID: x\r\nCSeq: 7 INVITE\r\nSubject: s\r\n\r\n";

    #[test]
    fn cancel_and_ack_repeat_the_invite_with_our_via_alone() {
        let invite = Message::parse(INVITE).expect("SIP");
        let response = b"SIP/2.0 486 Busy\r\nVia: SIP/2.0/UDP us;branch=z9hG4bKx\r\nFrom: <sip:a>;tag=1\r\nTo: <sip:b>;tag=2\r\nCall-ID: x\r\nCSeq: 7 INVITE\r\n\r\n";
        let response = Message::parse(response).expect("SIP");
        let expected = |method: &str, to: &str| {
            format!(
                "{method} sip:h SIP/2.0\r\nVia: SIP/2.0/UDP us;branch=z9hG4bKx\r\nRoute: <sip:r;lr>\r\nFrom : <sip:a>;tag=1\r\n\
                 To: {to}\r\nCall-ID: x\r\nMax-Forwards: 70\r\nCSeq: 7 {method}\r\nContent-Length: 0\r\n\r\n"
            )
        };
        assert_eq!(cancel(&invite), expected("CANCEL", "<sip:b>"));
        assert_eq!(ack(&invite, &response), expected("ACK", "<sip:b>;tag=2"));
    }

    #[test]
    fn a_request_within_a_dialog_goes_by_its_route_loose_or_strict() {
        let us = Listener {
            id: ListenerId(0),
            transport: Transport::Udp,
            bind: "127.0.0.1:8060".parse().expect("an address"),
            advertise: HostPort { host: "us".into(), port: 8060 },
            role: Role::Vip,
            sources: Default::default(),
        };
        let compose = |route: &[u8]| {
            let within = Within {
                method: Method::Bye,
                target: b"sip:b@h",
                route,
                from: b"<sip:a>;tag=1",
                to: b"<sip:b>;tag=2",
                call_id: b"call",
                cseq: 8,
                headers: b"Reason: SIP;cause=408\r\n",
                us: &us,
            };
            String::from_utf8(within.compose(b"z9hG4bKx").to_vec()).expect("text")
        };
        let expected = |uri: &str, route: &str| {
            format!(
                "BYE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP us:8060;branch=z9hG4bKx\r\n{route}Max-Forwards: 70\r\n\
                 From: <sip:a>;tag=1\r\nTo: <sip:b>;tag=2\r\nCall-ID: call\r\nReason: SIP;cause=408\r\nCSeq: 8 BYE\r\n\
                 Content-Length: 0\r\n\r\n"
            )
        };
        assert_eq!(compose(b""), expected("sip:b@h", ""));
        assert_eq!(compose(b"<sip:p;lr>, <sip:q>"), expected("sip:b@h", "Route: <sip:p;lr>, <sip:q>\r\n"));
        assert_eq!(compose(b"<sip:p>, <sip:q;lr>"), expected("sip:p", "Route: <sip:q;lr>, <sip:b@h>\r\n"));
        assert_eq!(compose(b"<sip:p>"), expected("sip:p", "Route: <sip:b@h>\r\n"));
        // What is no URI never stands in the first line.
        assert_eq!(compose(b"<sip:p q>"), expected("sip:b@h", "Route: <sip:p q>\r\n"));
    }

    #[test]
    fn a_contact_that_would_break_a_request_line_is_no_target() {
        for (contact, target) in
            [("<sip:a@h>;x", Some("sip:a@h")), ("<sip:a\r\n b@h>", None), ("*", None), ("<sip:a b@h>", None)]
        {
            let text = format!(
                "INVITE sip:h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a>;tag=a\r\nTo: <sip:b>\r\n\
                 Call-ID: 1\r\nCSeq: 1 INVITE\r\nm: {contact}\r\n\r\n"
            );
            let message = Message::parse(text.as_bytes()).expect("SIP");
            assert_eq!(target_of(&message), target.map(str::as_bytes), "{contact}");
        }
    }
}
