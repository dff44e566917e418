//! What holds for every message that a proxy passes on, whoever made it: RFC 3261 section 16.6 and 16.7 name what may
//! change, and every other byte leaves as it came. Generator-free: the seeded tests and the fuzz targets share it.

use std::net::SocketAddr;

use tandem::engine::sip::{Frame, FrameFault, FrameLimits, Framer, Message, Method, Start, Uri, Via};

use crate::harness::{Bench, CALLER, INSIDE, OUTSIDE, SERVERS, Sent, seconds, set_19};

/// One header, folded lines and line end included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    /// Its name, without the white space behind it.
    pub(crate) name: &'a [u8],
    /// All of it.
    pub(crate) whole: &'a [u8],
}

impl Line<'_> {
    /// Whether it is the header of that long name (and compact letter).
    pub(crate) fn is(&self, long: &str, compact: &str) -> bool {
        self.name.eq_ignore_ascii_case(long.as_bytes()) || self.name.eq_ignore_ascii_case(compact.as_bytes())
    }
}

/// A message cut by line ends alone, without a look at what the headers mean.
#[derive(Clone, Debug)]
pub(crate) struct Cut<'a> {
    /// The first line with its line end.
    pub(crate) start: &'a [u8],
    /// The headers.
    pub(crate) lines: Vec<Line<'a>>,
    /// From the empty line on.
    pub(crate) rest: &'a [u8],
}

/// Cuts a message; none if no empty line ends its headers.
pub(crate) fn cut(bytes: &[u8]) -> Option<Cut<'_>> {
    let begin = bytes.iter().position(|b| !b"\r\n".contains(b))?;
    let (start, mut rest) = split_line(&bytes[begin..])?;
    let mut lines = Vec::new();
    while !(rest.starts_with(b"\n") || rest.starts_with(b"\r\n")) {
        let mut length = split_line(rest)?.0.len();
        while rest[length..].starts_with(b" ") || rest[length..].starts_with(b"\t") {
            length += split_line(&rest[length..])?.0.len();
        }
        let (whole, after) = rest.split_at(length);
        let name = whole.split(|&b| b == b':').next().unwrap_or_default().trim_ascii_end();
        lines.push(Line { name, whole });
        rest = after;
    }
    Some(Cut { start, lines, rest })
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&b| b == b'\n')?;
    Some(bytes.split_at(end + 1))
}

/// Checks that `sent`, which left by the listener `sent_by`, is `received`, which came from `peer`, but for what section
/// 16.6 has a proxy change: the Request-URI, Max-Forwards, Route, our Via and Record-Route, and in the topmost Via
/// `received` and `rport`.
///
/// # Errors
/// Says which line differs.
pub(crate) fn forwarded(received: &[u8], peer: SocketAddr, sent: &[u8], sent_by: &str) -> Result<(), String> {
    let message = Message::parse(received).map_err(|error| format!("forwarded though it is none: {error}"))?;
    let copy = Message::parse(sent).map_err(|error| format!("{error}: {}", show(sent)))?;
    if let Some(fault) = copy.fault().or(message.fault()) {
        return Err(format!("forwarded with a fault ({fault}): {}", show(sent)));
    }
    let before = cut(message.bytes()).ok_or("forwarded without an end of its headers")?;
    let after = cut(sent).ok_or("the copy has no end of its headers")?;
    same("the first line but its URI", &without_uri(before.start), &without_uri(after.start))?;
    same("the body", before.rest, after.rest)?;
    routes(&message, &copy)?;

    let not_route = |line: &&Line<'_>| !line.is("Route", "Route");
    let mut copied: Vec<_> = after.lines.iter().filter(not_route).map(|line| line.whole).collect();
    if message.max_forwards().is_none() {
        // On top of all, or with our Via on top of it.
        let ours = copied.iter().position(|line| line == b"Max-Forwards: 70\r\n").ok_or("no Max-Forwards is added")?;
        copied.remove(ours);
    }
    let mut copied = copied.into_iter();
    let mut next = || copied.next().unwrap_or_default();
    let mut via_seen = false;
    for line in before.lines.iter().filter(not_route) {
        let mut came = next();
        let expected = if line.is("Via", "v") && !via_seen {
            via_seen = true;
            let ours = format!("Via: SIP/2.0/UDP {sent_by};branch=z9hG4bK");
            if !came.starts_with(ours.as_bytes()) || !came.ends_with(b"\r\n") {
                return Err(format!("our Via is {}", show(came)));
            }
            came = next();
            for _ in 0..2 {
                if came.starts_with(b"Record-Route: <sip:") && came.windows(8).any(|part| part == b";lr;tdm=") {
                    came = next();
                }
            }
            stamped(line.whole, &message.via(), peer)
        } else if line.is("Max-Forwards", "Max-Forwards") {
            one_hop_less(line.whole)
        } else {
            line.whole.to_vec()
        };
        same("a header", &expected, came)?;
    }
    same("what follows the last header", b"", next())
}

/// Checks that `sent` is the response `received` without its topmost Via value.
///
/// # Errors
/// Says how it differs.
pub(crate) fn passed(received: &[u8], sent: &[u8]) -> Result<(), String> {
    let message = Message::parse(received).map_err(|error| format!("passed on though it is none: {error}"))?;
    let before = cut(message.bytes()).ok_or("passed on without an end of its headers")?;
    let mut expected = before.start.to_vec();
    let mut via_seen = false;
    for line in &before.lines {
        if line.is("Via", "v") && !via_seen {
            via_seen = true;
            let ours = place(line.whole, message.via().raw).ok_or("the topmost Via is not in the first Via line")?;
            let next = message.vias().nth(1).flatten().ok_or("passed on to nobody")?;
            // The next value stands behind a comma, or on a line of its own.
            if let Some(next) = place(line.whole, next.raw) {
                expected.extend_from_slice(&line.whole[..ours]);
                expected.extend_from_slice(&line.whole[next..]);
            }
        } else {
            expected.extend_from_slice(line.whole);
        }
    }
    expected.extend_from_slice(before.rest);
    same("the response", &expected, sent)
}

/// Nothing that comes may make the parsers or the engine panic, and all that the engine passes on can be read.
pub(crate) fn parse(bytes: &[u8]) {
    let _ = Uri::parse(bytes);
    let _ = Via::parse(bytes);
    if let Ok(message) = Message::parse(bytes) {
        let addresses = [message.from(), message.to()].into_iter().flatten();
        for address in addresses.chain(message.routes()).chain(message.record_routes()) {
            let _ = Uri::parse(address.uri).map(|uri| (uri.address(), uri.transport(), uri.is_loose()));
            assert_eq!(address.tag, address.params.get(b"tag"));
        }
        for via in message.vias().flatten() {
            let _ = (via.response_address(), via.known_transport());
        }
        assert!(message.bytes().ends_with(message.body()));
        let names = message.headers(b"Via").chain(message.headers(b"v")).count();
        assert!(names > 0 && message.user_agent().is_none_or(|text| text.len() < bytes.len()));
    }
    let mut bench = open_bench();
    readable(&bench.receive(SERVERS[0], bytes));
    let out = bench.receive(CALLER, bytes);
    readable(&out);
    // Whatever of it went out is answered, cancelled and waited for: ACK, CANCEL and answers of our own are made of it.
    for request in out.iter().filter(|sent| !is_response(sent)) {
        readable(&bench.receive(&request.to.to_string(), request.answer(180, "Ringing", &[])));
        readable(&bench.receive(CALLER, bytes));
        if let Some(cancel) = cancelled(bytes) {
            readable(&bench.receive(CALLER, cancel));
        }
        readable(&bench.receive(&request.to.to_string(), request.answer(486, "Busy Here", &[])));
    }
    readable(&bench.pass(seconds(300)));
}

/// Whatever the engine forwards of the bytes leaves as it came: as a request of a caller, as one of a destination, and as
/// a response (the first line and then our Via are put on top of them).
pub(crate) fn preserve(bytes: &[u8]) {
    let mut bench = open_bench();
    for peer in [CALLER, SERVERS[0]] {
        for sent in bench.receive(peer, bytes).iter().filter(|sent| !is_response(sent)) {
            let by = [INSIDE, OUTSIDE][usize::from(sent.by)];
            // An ACK that the engine makes itself follows a response, which this is not.
            check(bytes, forwarded(bytes, peer.parse().expect("an address"), &sent.bytes, by));
        }
    }
    let Some((start, rest)) = split_line(bytes) else { return };
    let start = if start.starts_with(b"SIP/2.0 ") { start } else { b"SIP/2.0 200 OK\r\n" };
    // Ours on a line of its own, or on one with what the first header says.
    let value = rest.iter().position(|&b| b == b':').map_or(rest, |colon| &rest[colon + 1..]);
    for (end, rest) in [("\r\n", rest), (",", value)] {
        let mut bench = open_bench();
        let forwarded = bench.call("x");
        let via = format!("Via:{}{end}", forwarded.header("Via"));
        let response = [start, via.as_bytes(), rest].concat();
        let out = bench.receive(SERVERS[0], &response);
        for sent in out.iter().filter(|sent| is_response(sent)) {
            match is_own_answer(sent, &response) {
                true => readable(std::slice::from_ref(sent)),
                false => check(&response, passed(&response, &sent.bytes)),
            }
        }
    }
}

/// However a stream is cut, it holds the same messages and pings, and ends in the same fault or none.
pub(crate) fn stream(bytes: &[u8]) {
    let tight = FrameLimits { head: 300, headers: 8, message: 400 };
    for limits in [FrameLimits::default(), tight] {
        let whole = framed([bytes], limits);
        for frame in &whole.0 {
            if let Frame::Message(message) = frame {
                assert!(message.len() <= limits.message && !message.starts_with(b"\r") && !message.starts_with(b"\n"));
            }
        }
        let same = |pieces: (Vec<Frame>, _, _), cut: &str| {
            assert!(pieces == whole, "{cut}: {pieces:?}\ninstead of\n{whole:?}\nof\n{}", show(bytes));
        };
        same(framed(bytes.chunks(1), limits), "byte by byte");
        // The bytes themselves say where else.
        for way in 0..3 {
            let mut rest = bytes;
            let pieces = std::iter::from_fn(|| {
                let length = usize::from(rest.first()?.rotate_left(3 * way)) % rest.len() + 1;
                let (piece, after) = rest.split_at(length);
                rest = after;
                Some(piece)
            });
            same(framed(pieces, limits), "cut by its own bytes");
        }
    }
}

/// What a stream holds, how it ends, and whether a message has begun there.
fn framed<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    limits: FrameLimits,
) -> (Vec<Frame>, Option<FrameFault>, bool) {
    let mut framer = Framer::new(limits);
    let mut frames = Vec::new();
    for piece in pieces {
        framer.feed(piece);
        loop {
            match framer.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(fault) => {
                    assert_eq!(framer.next_frame(), Err(fault), "a fault stays");
                    assert!(framer.head().len() <= limits.head);
                    return (frames, Some(fault), false);
                }
            }
        }
    }
    let inside = framer.is_inside_message();
    (frames, None, inside)
}

/// A bench whose one rule sends everything to set 19, the user part and all.
fn open_bench() -> Bench {
    let mut bench = Bench::without_failover(|config| {
        config.route.rules[0].when.clear();
        config.call_events = false;
    });
    bench.load(set_19(&SERVERS[..1]));
    bench
}

/// Whether it is our own answer in place of a response that may not be passed on: a 503, or one for nobody behind us.
fn is_own_answer(sent: &Sent, response: &[u8]) -> bool {
    let in_place = Message::parse(response).is_ok_and(|message| {
        let unavailable = matches!(message.start(), Start::Response { status: 503, .. });
        unavailable || message.vias().nth(1).flatten().is_none()
    });
    in_place && sent.line() == "SIP/2.0 500 Internal Server Error"
}

fn cancelled(request: &[u8]) -> Option<Vec<u8>> {
    let message = Message::parse(request).ok().filter(|message| message.method() == Method::Invite)?;
    let text = message.bytes().strip_prefix(b"INVITE")?;
    let lines = cut(message.bytes())?.lines;
    let cseq = lines.iter().find(|line| line.is("CSeq", "CSeq"))?.whole;
    let at = place(text, cseq)?;
    let changed = format!("CSeq: {} CANCEL\r\n", message.cseq());
    Some([b"CANCEL", &text[..at], changed.as_bytes(), &text[at + cseq.len()..]].concat())
}

/// Every request that we send can be read, and every response has a status.
fn readable(sent: &[Sent]) {
    for sent in sent.iter().filter(|sent| sent.bytes != b"\r\n") {
        match is_response(sent) {
            true => assert!(sent.bytes[7..].starts_with(b" "), "{}", sent.text()),
            false => assert!(matches!(sent.message().start(), Start::Request { .. }), "{}", sent.text()),
        }
    }
}

/// Whether it is a response, or the answer to a keep-alive.
pub(crate) fn is_response(sent: &Sent) -> bool {
    sent.bytes.starts_with(b"SIP/2.0") || sent.bytes == b"\r\n"
}

fn check(input: &[u8], result: Result<(), String>) {
    if let Err(error) = result {
        panic!("{error}\nof\n{}", show(input));
    }
}

/// Kept values stand in their order, side by side; a strict router's copy has the Request-URI behind them.
fn routes(message: &Message<'_>, copy: &Message<'_>) -> Result<(), String> {
    let before: Vec<_> = message.routes().map(|route| route.raw).collect();
    let mut after: Vec<_> = copy.routes().map(|route| route.raw).collect();
    let strict = message.routes().any(|route| route.uri == copy.request_uri());
    let kept = |after: &[&[u8]]| after.is_empty() || before.windows(after.len()).any(|part| part == after);
    if strict && !kept(&after) {
        after.pop();
    }
    match kept(&after) {
        true => Ok(()),
        false => Err(format!("the routes are {:?} of {:?}", texts(&after), texts(&before))),
    }
}

/// The topmost Via line with `received` and `rport` as RFC 3261 section 18.2.1 and RFC 3581 section 4 want them.
fn stamped(line: &[u8], via: &Via<'_>, peer: SocketAddr) -> Vec<u8> {
    let param = |wanted: &[u8]| {
        let mut params = via.params;
        params.find(|(name, _)| name.eq_ignore_ascii_case(wanted))
    };
    let (rport, received) = (param(b"rport"), param(b"received"));
    let own_address = via.host.is(&tandem::engine::sip::Host::Ip(peer.ip()));
    let mut edits = Vec::new();
    let mut set = |param: (&[u8], Option<&[u8]>), text: String| match param {
        (name, None) => edits.push((place(line, name).expect("in the line") + name.len(), 0, format!("={text}"))),
        (_, Some(value)) => edits.push((place(line, value).expect("in the line"), value.len(), text)),
    };
    if let Some(rport) = rport {
        set(rport, peer.port().to_string());
    }
    match received {
        Some(received) => set(received, peer.ip().to_string()),
        None if rport.is_some() || !own_address => {
            let end = place(line, via.raw).expect("in the line") + via.raw.len();
            edits.push((end, 0, format!(";received={}", peer.ip())));
        }
        None => {}
    }
    edits.sort_by_key(|(at, ..)| *at);
    let (mut out, mut done) = (Vec::new(), 0);
    for (at, length, text) in edits {
        out.extend_from_slice(&line[done..at]);
        out.extend_from_slice(text.as_bytes());
        done = at + length;
    }
    out.extend_from_slice(&line[done..]);
    out
}

fn one_hop_less(line: &[u8]) -> Vec<u8> {
    let colon = line.iter().position(|&b| b == b':').map_or(0, |colon| colon + 1);
    let (name, value) = line.split_at(colon);
    let digits = value.trim_ascii();
    let start = place(value, digits).expect("in the line");
    let hops: u32 = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).expect("no fault");
    let less = hops.saturating_sub(1).to_string();
    [name, &value[..start], less.as_bytes(), &value[start + digits.len()..]].concat()
}

/// Where `part`, which is a part of `text`, begins; none if it is no part.
fn place(text: &[u8], part: &[u8]) -> Option<usize> {
    let at = part.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
    (at + part.len() <= text.len()).then_some(at)
}

/// The first line without what stands between its two spaces.
fn without_uri(line: &[u8]) -> Vec<u8> {
    let parts: Vec<_> = line.splitn(3, |&b| b == b' ').collect();
    [parts[0], parts.get(2).copied().unwrap_or_default()].join(&b' ')
}

fn same(what: &str, expected: &[u8], found: &[u8]) -> Result<(), String> {
    match expected == found {
        true => Ok(()),
        false => Err(format!("{what} is\n  {}\ninstead of\n  {}", show(found), show(expected))),
    }
}

fn texts(parts: &[&[u8]]) -> Vec<String> {
    parts.iter().map(|part| show(part)).collect()
}

/// Bytes for people.
pub(crate) fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
