//! A received message, looked at in place: RFC 3261 section 7. Parsed once, at the door; nothing is copied.

use std::time::Duration;

use smallvec::SmallVec;
use thiserror::Error;

use super::address::Address;
use super::header::{self, Name};
use super::lex;
use super::method::Method;
use super::via::Via;

/// The first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start<'a> {
    /// `METHOD uri SIP/2.0`
    Request {
        /// The method.
        method: Method<'a>,
        /// The Request-URI as it stands.
        uri: &'a [u8],
    },
    /// `SIP/2.0 status reason`
    Response {
        /// 100 to 699.
        status: u16,
        /// The reason phrase as it stands.
        reason: &'a [u8],
    },
}

/// Why bytes are no message that can be dealt with at all.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NotSip {
    /// Nothing but line ends.
    #[error("no message, only line ends")]
    Empty,
    /// The first line is neither a request's nor a response's.
    #[error("the first line is not SIP")]
    StartLine,
    /// A response with a fault: nobody could be told (RFC 3261 section 18.3).
    #[error("a malformed response")]
    Response,
    /// A request without a Via that tells where an answer goes.
    #[error("a request without a usable Via")]
    Via,
}

/// A fault of a request: what a 400 or 505 tells its sender.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Fault {
    /// White space where none may be, or no single Request-URI.
    #[error("Bad Request Line")]
    RequestLine,
    /// Not SIP/2.0.
    #[error("Version Not Supported")]
    Version,
    /// A header line without name or colon.
    #[error("Bad Header Line")]
    HeaderLine,
    /// More header lines than are allowed.
    #[error("Too Many Header Lines")]
    TooManyLines,
    /// No empty line ends the headers.
    #[error("Headers Do Not End")]
    Unended,
    /// Not there, there twice, or not by the grammar.
    #[error("Bad Via Header")]
    Via,
    /// As above.
    #[error("Bad From Header")]
    From,
    /// As above.
    #[error("Bad To Header")]
    To,
    /// As above.
    #[error("Bad Call-ID Header")]
    CallId,
    /// As above.
    #[error("Bad CSeq Header")]
    CSeq,
    /// Its method is not the request's.
    #[error("Bad CSeq Header")]
    CSeqMethod,
    /// No number up to 255, or there twice.
    #[error("Bad Max-Forwards Header")]
    MaxForwards,
    /// A Route value that is no address.
    #[error("Bad Route Header")]
    Route,
    /// No number, there twice, or more than came.
    #[error("Bad Content-Length Header")]
    ContentLength,
}

/// One header with its line end, folded lines included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    /// Which header.
    pub(crate) name: Name,
    /// Its name as it stands.
    pub(crate) name_text: &'a [u8],
    /// Its value, trimmed.
    pub(crate) value: &'a [u8],
    /// All of it, with the line end.
    pub(crate) whole: &'a [u8],
}

/// A view of one message. It borrows the bytes and owns nothing but the list of header lines.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    start: Start<'a>,
    lines: SmallVec<[Line<'a>; 24]>,
    /// Of the first Via line; another line's would not be the sender's.
    via: Option<Via<'a>>,
    via_seen: bool,
    from: Option<Address<'a>>,
    to: Option<Address<'a>>,
    call_id: &'a [u8],
    cseq: Option<(u32, Method<'a>)>,
    max_forwards: Option<u32>,
    body: &'a [u8],
    fault: Option<Fault>,
}

impl<'a> Message<'a> {
    /// Looks at the bytes of one message; leading line ends are skipped (RFC 3261 section 7.5), bytes after the body too.
    ///
    /// # Errors
    /// [`NotSip`] for what must be thrown away. A request that can be answered comes back with its [`Message::fault`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, NotSip> {
        Self::parse_within(bytes, usize::MAX)
    }

    /// The same with at most so many header lines: at the next one reading ends, and that is the fault.
    ///
    /// # Errors
    /// As [`Message::parse`].
    pub fn parse_within(bytes: &'a [u8], most_lines: usize) -> Result<Self, NotSip> {
        let begin = bytes.iter().position(|b| !matches!(b, b'\r' | b'\n')).ok_or(NotSip::Empty)?;
        let bytes = &bytes[begin..];
        let line_end = memchr::memchr(b'\n', bytes).ok_or(NotSip::StartLine)?;
        let first = bytes[..line_end].strip_suffix(b"\r").unwrap_or(&bytes[..line_end]);
        let (start, fault) = parse_start(first)?;
        let mut message = Message {
            bytes,
            start,
            lines: SmallVec::new(),
            via: None,
            via_seen: false,
            from: None,
            to: None,
            call_id: b"",
            cseq: None,
            max_forwards: None,
            body: b"",
            fault,
        };
        message.read_headers(line_end + 1, most_lines);
        message.check_required();
        match (start, message.fault, message.via) {
            (Start::Response { .. }, Some(_), _) => Err(NotSip::Response),
            (Start::Request { .. }, _, None) => Err(NotSip::Via),
            _ => Ok(message),
        }
    }

    fn note(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    fn read_headers(&mut self, mut at: usize, most_lines: usize) {
        let bytes = self.bytes;
        let mut content_length = None;
        loop {
            if at >= bytes.len() {
                self.note(Fault::Unended);
                return;
            }
            let empty = match &bytes[at..] {
                [b'\n', ..] => 1,
                [b'\r', b'\n', ..] => 2,
                _ => 0,
            };
            if empty > 0 {
                at += empty;
                break;
            }
            if self.lines.len() >= most_lines {
                return self.note(Fault::TooManyLines);
            }
            let end = line_end(bytes, at);
            self.read_header(&bytes[at..end], &mut content_length);
            at = end;
        }
        let rest = &bytes[at..];
        self.body = match content_length {
            Some(length) if length > rest.len() => {
                self.note(Fault::ContentLength);
                rest
            }
            Some(length) => &rest[..length],
            None => rest,
        };
        self.bytes = &bytes[..at + self.body.len()];
    }

    fn read_header(&mut self, whole: &'a [u8], content_length: &mut Option<usize>) {
        let Some(colon) = memchr::memchr(b':', whole) else { return self.note(Fault::HeaderLine) };
        let name_text = &whole[..colon];
        let name_text =
            &name_text[..name_text.iter().rposition(|b| !matches!(b, b' ' | b'\t')).map_or(0, |last| last + 1)];
        if !lex::all_token(name_text) {
            return self.note(Fault::HeaderLine);
        }
        let value = lex::trim(&whole[colon + 1..]);
        let name = Name::parse(name_text);
        self.lines.push(Line { name, name_text, value, whole });
        match name {
            Name::Via => {
                let mut values = lex::values(value);
                if !std::mem::replace(&mut self.via_seen, true) {
                    self.via = values.next().and_then(Via::parse);
                    if self.via.is_none() {
                        self.note(Fault::Via);
                    }
                }
                // In a response the others are for those whom they name.
                let request = matches!(self.start, Start::Request { .. });
                if request && values.any(|one| Via::parse(one).is_none()) {
                    self.note(Fault::Via);
                }
            }
            Name::From => match (self.from, Address::parse(value)) {
                (None, Some(address)) => self.from = Some(address),
                _ => self.note(Fault::From),
            },
            Name::To => match (self.to, Address::parse(value)) {
                (None, Some(address)) => self.to = Some(address),
                _ => self.note(Fault::To),
            },
            Name::CallId => {
                if !self.call_id.is_empty() || value.is_empty() || value.iter().any(|&b| lex::is_lws(b)) {
                    return self.note(Fault::CallId);
                }
                self.call_id = value;
            }
            Name::CSeq => match (self.cseq, parse_cseq(value)) {
                (None, Some(cseq)) => self.cseq = Some(cseq),
                _ => self.note(Fault::CSeq),
            },
            Name::MaxForwards => match (self.max_forwards, lex::number(value)) {
                (None, Some(hops)) if hops <= 255 => self.max_forwards = Some(hops),
                _ => self.note(Fault::MaxForwards),
            },
            Name::ContentLength => match (*content_length, lex::number(value)) {
                (None, Some(length)) => *content_length = Some(length as usize),
                _ => self.note(Fault::ContentLength),
            },
            Name::Route => {
                if lex::values(value).any(|one| Address::parse(one).is_none()) {
                    self.note(Fault::Route);
                }
            }
            Name::RecordRoute | Name::ProxyRequire | Name::UserAgent | Name::Other => {}
        }
    }

    fn check_required(&mut self) {
        if self.via.is_none() {
            self.note(Fault::Via);
        }
        if self.from.is_none() {
            self.note(Fault::From);
        }
        if self.to.is_none() {
            self.note(Fault::To);
        }
        if self.call_id.is_empty() {
            self.note(Fault::CallId);
        }
        match (self.start, self.cseq) {
            (Start::Request { method, .. }, Some((_, in_cseq))) if method == in_cseq => {}
            (Start::Response { .. }, Some(_)) => {}
            (Start::Request { .. }, Some(_)) => self.note(Fault::CSeqMethod),
            (_, None) => self.note(Fault::CSeq),
        }
    }

    /// The message's bytes: from its first line to the end of its body.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The first line.
    pub fn start(&self) -> Start<'a> {
        self.start
    }

    /// The first fault that a 400 (or 505) should name; always none in a response.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// The method: a request's own, for a response that of its CSeq.
    pub fn method(&self) -> Method<'a> {
        match (self.start, self.cseq) {
            (Start::Request { method, .. }, _) => method,
            (Start::Response { .. }, Some((_, method))) => method,
            (Start::Response { .. }, None) => Method::Other(b""),
        }
    }

    /// The Request-URI as it stands; "" in a response.
    pub fn request_uri(&self) -> &'a [u8] {
        match self.start {
            Start::Request { uri, .. } => uri,
            Start::Response { .. } => b"",
        }
    }

    /// The topmost Via; a message without one never gets here, but a faulty request's may be missing its parts.
    pub fn via(&self) -> Via<'a> {
        self.via.expect("parse refuses a message without a usable Via")
    }

    /// Every Via value, topmost first; none in place of a value that does not follow the grammar.
    pub fn vias(&self) -> impl Iterator<Item = Option<Via<'a>>> + '_ {
        // The first has been parsed at the door.
        let first = std::iter::once(self.via).filter(|_| self.via_seen);
        first.chain(self.values(Name::Via).skip(1).map(Via::parse))
    }

    /// From; none in a faulty request.
    pub fn from(&self) -> Option<Address<'a>> {
        self.from
    }

    /// To; none in a faulty request.
    pub fn to(&self) -> Option<Address<'a>> {
        self.to
    }

    /// From's tag; "" if there is none.
    pub fn from_tag(&self) -> &'a [u8] {
        self.from.and_then(|from| from.tag).unwrap_or_default()
    }

    /// To's tag; "" if there is none.
    pub fn to_tag(&self) -> &'a [u8] {
        self.to.and_then(|to| to.tag).unwrap_or_default()
    }

    /// Call-ID; "" in a faulty request.
    pub fn call_id(&self) -> &'a [u8] {
        self.call_id
    }

    /// CSeq's number; 0 in a faulty request.
    pub fn cseq(&self) -> u32 {
        self.cseq.map_or(0, |(number, _)| number)
    }

    /// Max-Forwards, if there is one.
    pub fn max_forwards(&self) -> Option<u32> {
        self.max_forwards
    }

    /// Route values, topmost first.
    pub fn routes(&self) -> impl Iterator<Item = Address<'a>> + '_ {
        self.values(Name::Route).filter_map(Address::parse)
    }

    /// Record-Route values, topmost first.
    pub fn record_routes(&self) -> impl Iterator<Item = Address<'a>> + '_ {
        self.values(Name::RecordRoute).filter_map(Address::parse)
    }

    /// User-Agent, if there is one.
    pub fn user_agent(&self) -> Option<&'a [u8]> {
        self.lines.iter().find(|line| line.name == Name::UserAgent).map(|line| line.value)
    }

    /// The first value line of the header of that name, long or compact, in any case.
    pub fn header(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.headers(name).next()
    }

    /// The value of each line of the header of that name, long or compact, in any case.
    pub fn headers<'s>(&'s self, name: &'s [u8]) -> impl Iterator<Item = &'a [u8]> + use<'s, 'a> {
        let wanted = header::long_form(name);
        self.lines
            .iter()
            .filter(move |line| header::long_form(line.name_text).eq_ignore_ascii_case(wanted))
            .map(|line| line.value)
    }

    /// What `Retry-After` says (RFC 3261 section 20.33).
    pub fn retry_after(&self) -> Option<Duration> {
        self.header(b"Retry-After").and_then(seconds)
    }

    /// What `Session-Expires` says (RFC 4028 section 4).
    pub(crate) fn session_expires(&self) -> Option<Duration> {
        self.header(b"Session-Expires").and_then(seconds)
    }

    /// The body.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The header lines in order.
    pub(crate) fn lines(&self) -> &[Line<'a>] {
        &self.lines
    }

    /// The line of the topmost Via.
    pub(crate) fn first_via_line(&self) -> Line<'a> {
        *self.lines.iter().find(|line| line.name == Name::Via).expect("parse refuses a message without a usable Via")
    }

    /// The comma-separated values of a header over all its lines.
    pub(crate) fn values(&self, name: Name) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.lines.iter().filter(move |line| line.name == name).flat_map(|line| lex::values(line.value))
    }
}

/// Where the header that begins at `at` ends: after the first line end that no folded line follows.
pub(super) fn line_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(newline) = memchr::memchr(b'\n', &bytes[at..]) {
        at += newline + 1;
        lex::looked_at(newline + 1);
        if !matches!(bytes.get(at), Some(b' ' | b'\t')) {
            return at;
        }
    }
    bytes.len()
}

/// A number of seconds without what may stand behind it; one that is too large to count is a very long time.
fn seconds(value: &[u8]) -> Option<Duration> {
    let digits = value.iter().position(|b| !b.is_ascii_digit()).unwrap_or(value.len());
    (digits > 0).then(|| Duration::from_secs(lex::number(&value[..digits]).unwrap_or(u32::MAX).into()))
}

fn parse_cseq(value: &[u8]) -> Option<(u32, Method<'_>)> {
    let digits = value.iter().position(|&b| lex::is_lws(b))?;
    let method = lex::trim(&value[digits..]);
    let number = lex::number(&value[..digits])?;
    lex::all_token(method).then_some((number, Method::parse(method)))
}

/// Whether a message can begin with that line, its CR included.
pub(super) fn is_start_line(line: &[u8]) -> bool {
    parse_start(line.strip_suffix(b"\r").unwrap_or(line)).is_ok()
}

/// The first line; a request line that can be answered may come with a fault.
fn parse_start(line: &[u8]) -> Result<(Start<'_>, Option<Fault>), NotSip> {
    if line.len() >= 4 && line[..4].eq_ignore_ascii_case(b"SIP/") {
        return parse_status_line(line).map(|start| (start, None)).ok_or(NotSip::StartLine);
    }
    let space = memchr::memchr(b' ', line).ok_or(NotSip::StartLine)?;
    let method = &line[..space];
    let rest = lex::trim(&line[space..]);
    let version_at = memchr::memrchr(b' ', rest).ok_or(NotSip::StartLine)?;
    let version = &rest[version_at + 1..];
    if !lex::all_token(method) || version.len() < 4 || !version[..4].eq_ignore_ascii_case(b"SIP/") {
        return Err(NotSip::StartLine);
    }
    let uri = lex::trim(&rest[..version_at]);
    let start = Start::Request { method: Method::parse(method), uri };
    // Exactly one SP between the parts (RFC 3261 section 7.1).
    let fault = if method.len() + uri.len() + version.len() + 2 != line.len() {
        Some(Fault::RequestLine)
    } else if !version.eq_ignore_ascii_case(b"SIP/2.0") {
        Some(Fault::Version)
    } else if uri.iter().any(|&b| lex::is_lws(b)) {
        Some(Fault::RequestLine)
    } else {
        None
    };
    Ok((start, fault))
}

fn parse_status_line(line: &[u8]) -> Option<Start<'_>> {
    let rest = line.get(..8).filter(|version| version.eq_ignore_ascii_case(b"SIP/2.0 ")).map(|_| &line[8..])?;
    let (code, reason) = rest.split_at_checked(3)?;
    let status = lex::number(code).filter(|status| (100..700).contains(status))? as u16;
    // Some servers leave the space before an empty reason out.
    let reason = if reason.is_empty() { reason } else { reason.strip_prefix(b" ")? };
    Some(Start::Response { status, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &str = "INVITE sip:127.0.0.1:8060 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:8062;rport;branch=z9hG4bK1\r\n\
        Max-Forwards: 70\r\nFrom: <sip:127.0.0.1:8062>;tag=a\r\nTo: <sip:127.0.0.1:8060>\r\nCall-ID: c@1\r\n\
        CSeq: 123145566 INVITE\r\nUser-Agent: OPENSIPS_TTS_MRCP_CLIENT\r\nContent-Length: 4\r\n\r\nv=0\n";

    fn fault_of(text: &str) -> Option<Fault> {
        Message::parse(text.as_bytes()).expect("can be answered").fault()
    }

    #[test]
    fn a_client_s_invite_is_read() {
        let message = Message::parse(INVITE.as_bytes()).expect("SIP");
        assert_eq!(message.fault(), None);
        assert_eq!(message.start(), Start::Request { method: Method::Invite, uri: b"sip:127.0.0.1:8060" });
        assert_eq!((message.call_id(), message.cseq(), message.max_forwards()), (&b"c@1"[..], 123_145_566, Some(70)));
        assert_eq!((message.from_tag(), message.to_tag()), (&b"a"[..], &b""[..]));
        assert_eq!(message.user_agent(), Some(&b"OPENSIPS_TTS_MRCP_CLIENT"[..]));
        assert_eq!((message.body(), message.bytes()), (&b"v=0\n"[..], INVITE.as_bytes()));
    }

    #[test]
    fn line_feeds_alone_folding_and_leading_line_ends_are_taken() {
        let text = format!("\r\n\r\n{}", INVITE.replace("\r\n", "\n").replace("CSeq: ", "CSeq:\n\t"));
        let message = Message::parse(text.as_bytes()).expect("SIP");
        assert_eq!((message.fault(), message.cseq()), (None, 123_145_566));
    }

    #[test]
    fn bytes_after_the_body_are_not_the_message_s() {
        let text = format!("{INVITE}extra");
        assert_eq!(Message::parse(text.as_bytes()).expect("SIP").bytes(), INVITE.as_bytes());
    }

    #[test]
    fn faults_are_named() {
        for (from, to, fault) in [
            ("SIP/2.0\r\nVia", "SIP/3.0\r\nVia", Fault::Version),
            ("INVITE sip", "INVITE  sip", Fault::RequestLine),
            ("Max-Forwards: 70", "Max-Forwards: -1", Fault::MaxForwards),
            ("Max-Forwards: 70", "Max-Forwards: 70\r\nMax-Forwards: 70", Fault::MaxForwards),
            ("Call-ID: c@1\r\n", "", Fault::CallId),
            ("From: <", "From: \"<", Fault::From),
            ("To: <sip:127.0.0.1:8060>", "To: <sip:127.0.0.1:8060", Fault::To),
            (" INVITE\r\nUser", " BYE\r\nUser", Fault::CSeqMethod),
            ("123145566", "36893488147419103232", Fault::CSeq),
            ("Content-Length: 4", "Content-Length: 5", Fault::ContentLength),
            ("Content-Length: 4", "Content-Length: -4", Fault::ContentLength),
            ("User-Agent:", "User Agent:", Fault::HeaderLine),
            ("User-Agent:", "Route: <sip:a\r\nUser-Agent:", Fault::Route),
            ("\r\n\r\nv=0\n", "\r\n", Fault::Unended),
        ] {
            assert_eq!(fault_of(&INVITE.replace(from, to)), Some(fault), "{to}");
        }
    }

    #[test]
    fn what_cannot_be_answered_is_refused() {
        assert_eq!(Message::parse(b"TEST").map(|_| ()), Err(NotSip::StartLine));
        assert_eq!(Message::parse(b"\r\n\r\n").map(|_| ()), Err(NotSip::Empty));
        assert_eq!(Message::parse(b"GET / HTTP/1.1\r\n\r\n").map(|_| ()), Err(NotSip::StartLine));
        assert_eq!(Message::parse(b"OPTIONS sip:h SIP/2.0\r\n\r\n").map(|_| ()), Err(NotSip::Via));
        assert_eq!(Message::parse(b"SIP/2.0 200 OK\r\n\r\n").map(|_| ()), Err(NotSip::Response));
        assert_eq!(Message::parse(b"SIP/2.0 99 No\r\n\r\n").map(|_| ()), Err(NotSip::StartLine));
    }

    #[test]
    fn compact_names_find_their_headers() {
        let text = INVITE
            .replace("Call-ID", "i")
            .replace("Via", "v")
            .replace("From", "F")
            .replace("User-Agent", "m: <sip:x>\r\nUser-Agent");
        let message = Message::parse(text.as_bytes()).expect("SIP");
        assert_eq!((message.fault(), message.call_id()), (None, &b"c@1"[..]));
        assert_eq!(message.header(b"Contact"), Some(&b"<sip:x>"[..]));
        assert_eq!(message.headers(b"via").count(), 1);
    }
}
