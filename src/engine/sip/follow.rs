//! Requests that follow one of ours hop by hop: ACK to a final that is no 2xx (RFC 3261 section 17.1.1.3) and CANCEL
//! (section 9.1). They repeat what the INVITE said, byte for byte, with our Via alone. And what ends a session in its
//! caller's name.

use std::io::Write;

use bytes::Bytes;

use super::header::Name;
use super::message::Message;
use super::method::Method;
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

/// The ACK or BYE of a session that its caller does not want, from the 2xx that began it (sections 13.2.2.4 and 15.1.1):
/// `route` is the route set beyond us, `target` the Request-URI.
pub(crate) fn in_callers_name(
    response: &Message<'_>,
    method: Method<'_>,
    target: &[u8],
    route: &[&[u8]],
    us: &Listener,
    branch: &[u8],
) -> Bytes {
    let mut out = Vec::with_capacity(512);
    let cseq = response.cseq().wrapping_add(u32::from(method == Method::Bye));
    let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| out.extend_from_slice(part));
    put(&[method.as_bytes(), b" ", target, b" SIP/2.0\r\nVia: SIP/2.0/", us.transport.via_name().as_bytes(), b" "]);
    put(&[us.advertise.to_string().as_bytes(), b";branch=", branch, b"\r\n"]);
    route.iter().for_each(|route| put(&[b"Route: ", route, b"\r\n"]));
    for line in response.lines().iter().filter(|line| matches!(line.name, Name::From | Name::To | Name::CallId)) {
        put(&[line.whole]);
    }
    write!(out, "Max-Forwards: 70\r\nCSeq: {cseq} ").expect("writing to memory");
    out.extend_from_slice(method.as_bytes());
    out.extend_from_slice(b"\r\nContent-Length: 0\r\n\r\n");
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
