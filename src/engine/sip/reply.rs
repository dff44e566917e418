//! Responses that we make ourselves: RFC 3261 section 8.2.6, and what we write into the top Via of a request (18.2.1,
//! RFC 3581 section 4).
//!
//! From, To, Call-ID, CSeq and Via are copied as they came, since a response must repeat them as the request had them.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::header::Name;
use super::message::Message;
use super::splice::Splice;
use super::uri::Host;
use super::via::Via;

/// A status code and reason phrase that the configuration or the proxy chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 300 to 699.
    pub status: u16,
    /// The reason phrase, without CR or LF.
    pub reason: String,
    /// What `Retry-After` says; none: no such header.
    pub retry_after: Option<Duration>,
}

impl Reply {
    /// A reply with that status and reason.
    pub fn new(status: u16, reason: impl Into<String>) -> Self {
        Reply { status, reason: reason.into(), retry_after: None }
    }

    /// The `Retry-After` line, in whole seconds, with its CRLF; "" if there is none.
    pub(crate) fn retry_after_line(&self) -> String {
        self.retry_after.map_or_else(String::new, |time| format!("Retry-After: {}\r\n", time.as_secs()))
    }
}

/// A response to `request`, which came from `peer`.
///
/// `tag` goes into To when that has none. `headers` are whole lines, each with its CRLF, that we made ourselves.
pub(crate) fn respond(
    request: &Message<'_>,
    peer: SocketAddr,
    (status, reason): (u16, &str),
    tag: &[u8],
    headers: &[u8],
) -> Bytes {
    let mut out = Vec::with_capacity(request.bytes().len().min(1024));
    write!(out, "SIP/2.0 {status} {reason}\r\n").expect("writing to memory");
    let mut top_via = true;
    for line in request.lines() {
        let before = out.len();
        match line.name {
            Name::Via if top_via => {
                top_via = false;
                let mut splice = Splice::new(line.whole);
                stamp_via(&mut splice, &request.via(), peer);
                splice.write(&mut out);
            }
            Name::To if request.to_tag().is_empty() && status > 100 => {
                let mut splice = Splice::new(line.whole);
                splice.insert_after(line.value, |text| {
                    text.extend_from_slice(b";tag=");
                    text.extend_from_slice(tag);
                });
                splice.write(&mut out);
            }
            Name::Via | Name::From | Name::To | Name::CallId | Name::CSeq => out.extend_from_slice(line.whole),
            // Section 8.2.6.1: a 100 repeats the Timestamp.
            Name::Other if status == 100 && line.name_text.eq_ignore_ascii_case(b"Timestamp") => {
                out.extend_from_slice(line.whole);
            }
            _ => {}
        }
        if out.len() > before && out.last() != Some(&b'\n') {
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(headers);
    out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    out.into()
}

/// Whether the top Via of a request from `peer` gets `received`: when its sent-by is not the source, or `rport` asks.
fn needs_received(via: &Via<'_>, peer: SocketAddr) -> bool {
    !via.host.is(&Host::Ip(peer.ip())) || via.rport().is_some()
}

/// Writes `received` and the value of `rport` into the top Via of a request from `peer`.
pub(crate) fn stamp_via(splice: &mut Splice<'_>, via: &Via<'_>, peer: SocketAddr) {
    let param = |wanted: &[u8]| {
        let mut params = via.params;
        params.find(|(name, _)| name.eq_ignore_ascii_case(wanted))
    };
    // What the sender filled in is overruled.
    let mut set = |(name, value): (&[u8], Option<&[u8]>), text: std::fmt::Arguments<'_>| match value {
        None => splice.insert_after(name, |out| write!(out, "={text}").expect("writing to memory")),
        Some(value) => splice.replace(value, |out| write!(out, "{text}").expect("writing to memory")),
    };
    if let Some(rport) = via.rport().and_then(|_| param(b"rport")) {
        set(rport, format_args!("{}", peer.port()));
    }
    match via.has_received().then(|| param(b"received")).flatten() {
        Some(received) => set(received, format_args!("{}", peer.ip())),
        None if needs_received(via, peer) => {
            splice.insert_after(via.raw, |out| write!(out, ";received={}", peer.ip()).expect("writing to memory"));
        }
        None => {}
    }
}

/// Where responses to a datagram from `peer` with this top Via go: its source address, and its source port if `rport`
/// asks for it, else the port of sent-by (RFC 3261 section 18.2.2, RFC 3581 section 4). `maddr` is not followed: it would
/// let a caller point our answers at anybody.
pub(crate) fn response_peer(via: &Via<'_>, peer: SocketAddr) -> SocketAddr {
    match via.rport() {
        Some(_) => peer,
        None => SocketAddr::new(peer.ip(), via.port_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(via: &str) -> String {
        format!(
            "INVITE sip:h SIP/2.0\r\nv: {via}\r\nVia: SIP/2.0/UDP b;branch=2\r\nF: <sip:a>;tag=1\r\nTo :sip:b\r\n\
             Call-ID:  x\r\nCSeq: 1\r\n INVITE\r\nSubject: no\r\nTimestamp: 5\r\n\r\n"
        )
    }

    fn respond_to(via: &str, status: u16) -> String {
        let text = request(via);
        let message = Message::parse(text.as_bytes()).expect("SIP");
        assert_eq!(message.fault(), None);
        let peer = "192.0.2.1:999".parse().expect("an address");
        String::from_utf8(respond(&message, peer, (status, "Why"), b"t", b"Retry-After: 5\r\n").to_vec()).expect("text")
    }

    #[test]
    fn a_reply_repeats_what_it_must_as_it_came() {
        assert_eq!(
            respond_to("SIP/2.0/UDP 192.0.2.1:5070;branch=1", 480),
            "SIP/2.0 480 Why\r\nv: SIP/2.0/UDP 192.0.2.1:5070;branch=1\r\nVia: SIP/2.0/UDP b;branch=2\r\nF: <sip:a>;tag=1\r\n\
             To :sip:b;tag=t\r\nCall-ID:  x\r\nCSeq: 1\r\n INVITE\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n"
        );
    }

    #[test]
    fn a_100_has_no_tag_but_the_timestamp() {
        let text = respond_to("SIP/2.0/UDP 192.0.2.1:5070;branch=1", 100);
        assert!(text.contains("To :sip:b\r\n") && text.contains("Timestamp: 5\r\n"), "{text}");
    }

    #[test]
    fn received_and_rport_tell_the_source() {
        for (sent, stamped) in [
            ("SIP/2.0/UDP h;branch=1", "SIP/2.0/UDP h;branch=1;received=192.0.2.1"),
            ("SIP/2.0/UDP 192.0.2.1;rport;branch=1", "SIP/2.0/UDP 192.0.2.1;rport=999;branch=1;received=192.0.2.1"),
            ("SIP/2.0/UDP 192.0.2.1;rport=7;branch=1", "SIP/2.0/UDP 192.0.2.1;rport=999;branch=1;received=192.0.2.1"),
            ("SIP/2.0/UDP 192.0.2.1;received=6.6.6.6", "SIP/2.0/UDP 192.0.2.1;received=192.0.2.1"),
            ("SIP/2.0/UDP 192.0.2.1;received= ;x", "SIP/2.0/UDP 192.0.2.1;received=192.0.2.1 ;x"),
            ("SIP/2.0/UDP h;received;x;rport=", "SIP/2.0/UDP h;received=192.0.2.1;x;rport=999"),
            ("SIP/2.0/UDP h ;rport , SIP/2.0/UDP c", "SIP/2.0/UDP h ;rport=999;received=192.0.2.1 , SIP/2.0/UDP c"),
        ] {
            let text = respond_to(sent, 480);
            assert!(text.contains(&format!("v: {stamped}\r\n")), "{text}");
        }
    }

    #[test]
    fn answers_go_to_the_source_port_only_when_rport_asks() {
        let peer: SocketAddr = "192.0.2.1:999".parse().expect("an address");
        let to = |via: &str| response_peer(&Via::parse(via.as_bytes()).expect("valid"), peer).to_string();
        assert_eq!(to("SIP/2.0/UDP 10.0.0.1:5070;rport"), "192.0.2.1:999");
        assert_eq!(to("SIP/2.0/UDP 10.0.0.1:5070;maddr=6.6.6.6"), "192.0.2.1:5070");
        assert_eq!(to("SIP/2.0/UDP 10.0.0.1"), "192.0.2.1:5060");
    }
}
