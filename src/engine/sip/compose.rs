//! Whole messages that we originate ourselves: probes, requests of our own dialogs, answers of the stand-ins. The one door
//! to the crate `rsip`, which builds well but would damage what it forwards: no received message goes through here.
//!
//! A value can't break out of its line: control characters are left out of whatever is put in.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use rsip::headers::{CSeq, CallId, ContentLength, ContentType, From, MaxForwards, To, UntypedHeader, Via};
use rsip::{Header, Headers, Host, HostWithPort, Scheme, Uri, Version};

use super::header::Name;
use super::lex;
use crate::engine::flow::Transport;

/// A message in the making. What every message must have is asked for at its start or written at its end.
#[derive(Clone, Debug)]
pub struct Compose {
    vias: Vec<Header>,
    max_forwards: u8,
    from: String,
    to: String,
    call_id: String,
    cseq: u32,
    others: Vec<Header>,
    body: Vec<u8>,
}

impl Compose {
    /// A message with these From and To values (`<sip:a@b>;tag=1`), Call-ID and CSeq number.
    pub fn new(from: &str, to: &str, call_id: &str, cseq: u32) -> Self {
        Compose {
            vias: Vec::new(),
            max_forwards: 70,
            from: clean(from),
            to: clean(to),
            call_id: clean(call_id).split_whitespace().collect(),
            cseq,
            others: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Adds a Via below those that are there: ours, with `rport` (RFC 3581 section 3). `branch` begins with z9hG4bK.
    pub fn via(self, transport: Transport, sent_by: SocketAddr, branch: &str) -> Self {
        self.via_value(&format!("SIP/2.0/{} {sent_by};rport;branch={branch}", transport.via_name()))
    }

    /// Adds a Via value as it stands below those that are there: what a response repeats.
    pub fn via_value(mut self, value: &str) -> Self {
        self.vias.push(Via::new(clean(value)).into());
        self
    }

    /// Sets Max-Forwards; 70 if it is never called (RFC 3261 section 8.1.1.6).
    pub fn max_forwards(mut self, hops: u8) -> Self {
        self.max_forwards = hops;
        self
    }

    /// Adds a header. A name that the builder writes itself (Via, From, To, Call-ID, CSeq, Max-Forwards, Content-Length)
    /// and a name without a character that one may hold are left out, so that nothing stands there twice.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name: String = name.chars().filter(|&c| u8::try_from(c).is_ok_and(lex::is_token)).collect();
        let ours = matches!(
            Name::parse(name.as_bytes()),
            Name::Via | Name::From | Name::To | Name::CallId | Name::CSeq | Name::MaxForwards | Name::ContentLength
        );
        if !ours && !name.is_empty() {
            self.others.push(Header::Other(name, clean(value)));
        }
        self
    }

    /// Sets the body and its type.
    pub fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.others.push(ContentType::new(clean(content_type)).into());
        self.body = body.into();
        self
    }

    /// The request with that method and Request-URI.
    pub fn request(self, method: &str, uri: &str) -> Bytes {
        let method = token(method);
        let uri: String = clean(uri).chars().filter(|c| !c.is_whitespace() && !matches!(c, '<' | '>' | '"')).collect();
        // A URI that we took from a Contact goes out as it is: rsip's parser would lose its escapes and parameters.
        let uri = Uri { scheme: None, host_with_port: host(Host::Domain(uri.into()), None), ..Uri::default() };
        let start = format!("{method} {uri} {}", Version::V2);
        self.finish(&start, &method, true)
    }

    /// The response with that status and reason, to a request of the method `method`.
    pub fn response(self, status: u16, reason: &str, method: &str) -> Bytes {
        let start = format!("{} {} {}", Version::V2, status.clamp(100, 699), clean(reason));
        self.finish(&start, &token(method), false)
    }

    fn finish(self, start: &str, method: &str, request: bool) -> Bytes {
        let mut headers = Headers::default();
        headers.extend(self.vias);
        if request {
            headers.push(MaxForwards::new(self.max_forwards.to_string()).into());
        }
        headers.push(From::new(self.from).into());
        headers.push(To::new(self.to).into());
        headers.push(CallId::new(self.call_id).into());
        headers.push(CSeq::new(format!("{} {method}", self.cseq)).into());
        headers.extend(self.others);
        headers.push(ContentLength::new(self.body.len().to_string()).into());
        // rsip's own Display would pass the body through a lossy text.
        let mut bytes = format!("{start}\r\n{headers}\r\n").into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes.into()
    }
}

/// The URI `sip:address`, with `transport=` where it is not UDP. IPv6 stands in brackets.
pub fn sip_uri(address: SocketAddr, transport: Transport) -> String {
    let name = match address.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let (scheme, parameter) = match transport {
        Transport::Udp => (Scheme::Sip, ""),
        Transport::Tcp => (Scheme::Sip, ";transport=tcp"),
        Transport::Tls => (Scheme::Sips, ""),
    };
    let host_with_port = host(Host::Domain(name.into()), Some(address.port()));
    format!("{}{parameter}", Uri { scheme: Some(scheme), host_with_port, ..Uri::default() })
}

fn host(host: Host, port: Option<u16>) -> HostWithPort {
    HostWithPort { host, port: port.map(Into::into) }
}

/// The text without control characters; a line break with its indent was white space, so a blank stays in its place.
fn clean(text: &str) -> String {
    text.chars().map(|c| if matches!(c, '\t' | '\n') { ' ' } else { c }).filter(|c| !c.is_control()).collect()
}

/// The characters of a method; UNKNOWN if none is left.
fn token(text: &str) -> String {
    let token: String = text.chars().filter(|&c| u8::try_from(c).is_ok_and(lex::is_token)).collect();
    if token.is_empty() { "UNKNOWN".to_owned() } else { token }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::sip::{Message, Start};

    const US: &str = "127.0.0.1:5060";

    fn compose() -> Compose {
        let us = US.parse().expect("an address");
        Compose::new("<sip:127.0.0.1:5060>;tag=1", "<sip:127.0.0.1:7010>", "call", 7).via(
            Transport::Udp,
            us,
            "z9hG4bKx",
        )
    }

    #[test]
    fn a_request_has_what_each_must_have_in_the_usual_order() {
        let bytes = compose().header("User-Agent", "tandem").request("OPTIONS", "sip:127.0.0.1:7010");
        assert_eq!(
            bytes,
            "OPTIONS sip:127.0.0.1:7010 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;rport;branch=z9hG4bKx\r\n\
             Max-Forwards: 70\r\nFrom: <sip:127.0.0.1:5060>;tag=1\r\nTo: <sip:127.0.0.1:7010>\r\nCall-ID: call\r\n\
             CSeq: 7 OPTIONS\r\nUser-Agent: tandem\r\nContent-Length: 0\r\n\r\n"
        );
        assert_eq!(Message::parse(&bytes).expect("SIP").fault(), None);
    }

    #[test]
    fn a_body_that_is_no_text_stays_as_it_is() {
        let bytes = compose().body("application/octet-stream", [0, 255, 13, 10]).response(200, "OK", "INVITE");
        let message = Message::parse(&bytes).expect("SIP");
        assert_eq!(message.start(), Start::Response { status: 200, reason: b"OK" });
        assert_eq!(
            (message.body(), message.header(b"c")),
            (&[0, 255, 13, 10][..], Some(&b"application/octet-stream"[..]))
        );
    }

    #[test]
    fn every_method_and_kind_of_uri_is_read_back_without_fault() {
        for method in ["INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "INFO", "UPDATE", "FOO", "\r\n"] {
            for uri in ["sip:[::1]:7010", "sips:a@h;transport=tls", "tel:+1-2", "sip:a%20b@h:5060;maddr=1.2.3.4?x=y"] {
                let bytes = compose().header("X", "a").body("text/plain", "b").request(method, uri);
                let message = Message::parse(&bytes).expect("SIP");
                assert_eq!((message.fault(), message.request_uri(), message.body()), (None, uri.as_bytes(), &b"b"[..]));
            }
        }
    }

    #[test]
    fn addresses_become_uris_with_brackets_and_transport() {
        let uri = |address: &str, transport| sip_uri(address.parse().expect("an address"), transport);
        assert_eq!(uri("[::1]:7010", Transport::Udp), "sip:[::1]:7010");
        assert_eq!(uri("127.0.0.1:7010", Transport::Tcp), "sip:127.0.0.1:7010;transport=tcp");
        assert_eq!(uri("127.0.0.1:5061", Transport::Tls), "sips:127.0.0.1:5061");
    }

    #[test]
    fn what_the_builder_writes_can_not_be_written_twice() {
        let bytes = compose()
            .header("l", "9")
            .header("From", "x")
            .header("CSeq", "1 A")
            .header(": ", "x")
            .request("BYE", "sip:h");
        let message = Message::parse(&bytes).expect("SIP");
        assert_eq!((message.fault(), message.lines().len()), (None, 7));
    }

    proptest! {
        #[test]
        fn no_value_adds_a_line(name in "\\PC*|[a-zA-Z:\r\n ]*", value in any::<String>(), uri in any::<String>()) {
            let bytes = compose().header("X-Before", &value).header(&name, &value).body(&value, "body").request("BYE", &uri);
            let text = String::from_utf8(bytes.to_vec()).expect("text");
            let (head, body) = text.split_once("\r\n\r\n").expect("an empty line");
            prop_assert_eq!(body, "body");
            prop_assert!(head.lines().count() <= 11, "{}", head);
            prop_assert!(head.chars().all(|c| !c.is_control() || matches!(c, '\r' | '\n')));
        }

        #[test]
        fn any_value_is_read_back(value in any::<String>(), reason in any::<String>()) {
            let bytes = compose().header("Subject", &value).response(480, &reason, "INVITE");
            let message = Message::parse(&bytes).expect("SIP");
            prop_assert_eq!(message.header(b"s").map(<[u8]>::to_vec), Some(clean(&value).trim_matches(' ').as_bytes().to_vec()));
            let bytes = compose().header("Subject", &value).request("INVITE", "sip:h");
            prop_assert_eq!(Message::parse(&bytes).expect("SIP").fault(), None);
        }
    }
}
