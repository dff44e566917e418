//! What stands between messages: keep-alives (RFC 5626 section 4.4.1), and where a message of a stream ends (RFC 3261
//! sections 18.3 and 20.14).

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use super::header::Name;
use super::lex;
use super::message::{is_start_line, line_end};

/// A datagram, or the rest of a stream, that holds nothing but line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// CR LF CR LF: to be answered by [`PONG`].
    Ping,
    /// An answer to one, or less: to be ignored, so that two of us never ping each other for ever.
    Quiet,
}

/// Asks whether the other end still lives.
pub const PING: &[u8] = b"\r\n\r\n";
/// The answer to a ping.
pub const PONG: &[u8] = b"\r\n";

/// The keep-alive that the bytes are, if they hold nothing but line ends.
pub fn keep_alive(bytes: &[u8]) -> Option<KeepAlive> {
    if !bytes.iter().all(|b| matches!(b, b'\r' | b'\n')) {
        return None;
    }
    Some(if bytes.starts_with(PING) { KeepAlive::Ping } else { KeepAlive::Quiet })
}

/// How much of a stream one message may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// Bytes up to and with the empty line.
    pub head: usize,
    /// Header lines.
    pub headers: usize,
    /// Bytes of a whole message.
    pub message: usize,
}

impl Default for FrameLimits {
    fn default() -> Self {
        FrameLimits { head: 16 * 1024, headers: 256, message: 65_535 }
    }
}

/// Why a stream can't be followed any further: nobody knows where the next message begins.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq, Hash)]
pub enum FrameFault {
    /// It does not begin as a SIP message does.
    #[error("Not SIP")]
    NotSip,
    /// No empty line within the limit.
    #[error("Header Too Large")]
    HeadTooLarge,
    /// More header lines than the limit.
    #[error("Too Many Headers")]
    TooManyHeaders,
    /// Content-Length is missing, there twice, or no number.
    #[error("Bad Content-Length Header")]
    ContentLength,
    /// The whole message would be larger than the limit.
    #[error("Message Too Large")]
    MessageTooLarge,
}

/// What a stream holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// One whole message, its body included.
    Message(Bytes),
    /// [`PING`].
    Ping,
}

/// Cuts a stream into messages, whatever pieces it comes in. Each byte is looked at once for the head's end, and once more
/// when the head is whole.
#[derive(Debug)]
pub struct Framer {
    limits: FrameLimits,
    buffer: BytesMut,
    /// Up to here the buffer holds no end of a head.
    scanned: usize,
    /// Where the line that `scanned` stands in begins.
    line: usize,
    /// The length of the message at the front, once its head is whole.
    length: Option<usize>,
    fault: Option<FrameFault>,
}

impl Framer {
    /// At the start of a stream.
    pub fn new(limits: FrameLimits) -> Self {
        Framer { limits, buffer: BytesMut::new(), scanned: 0, line: 0, length: None, fault: None }
    }

    /// Takes the next bytes of the stream; after a fault they are thrown away.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.fault.is_none() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next frame; none until more bytes have come. What it holds back is never more than one message and what was
    /// fed last.
    ///
    /// # Errors
    /// [`FrameFault`], from now on always.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameFault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        self.cut().inspect_err(|&fault| self.fault = Some(fault))
    }

    /// What a fault was found in: the head as far as it came; "" before any fault.
    pub fn head(&self) -> &[u8] {
        match self.fault {
            Some(_) => &self.buffer[..self.scanned.min(self.limits.head).min(self.buffer.len())],
            None => b"",
        }
    }

    /// Whether a message has begun and is not whole.
    pub fn is_inside_message(&self) -> bool {
        !matches!(self.buffer.first(), None | Some(b'\r' | b'\n'))
    }

    fn cut(&mut self) -> Result<Option<Frame>, FrameFault> {
        if self.length.is_none() && self.scanned == 0 {
            match self.skip_line_ends() {
                Between::Ping => return Ok(Some(Frame::Ping)),
                Between::Wait => return Ok(None),
                Between::Message => {}
            }
        }
        let length = match self.length {
            Some(length) => length,
            None => match self.find_head_end()? {
                Some(head) => self.measure(head)?,
                None => return Ok(None),
            },
        };
        self.length = Some(length);
        if self.buffer.len() < length {
            return Ok(None);
        }
        (self.length, self.scanned, self.line) = (None, 0, 0);
        let message = self.buffer.split_to(length).freeze();
        if self.buffer.is_empty() {
            // A quiet connection holds no memory.
            self.buffer = BytesMut::new();
        }
        Ok(Some(Frame::Message(message)))
    }

    /// Takes line ends off the front (RFC 3261 section 7.5).
    fn skip_line_ends(&mut self) -> Between {
        loop {
            let taken = match &self.buffer[..] {
                [] => {
                    self.buffer = BytesMut::new();
                    return Between::Wait;
                }
                [b'\r', b'\n', b'\r', b'\n', ..] => {
                    let _ = self.buffer.split_to(PING.len());
                    return Between::Ping;
                }
                // Perhaps a ping in two pieces.
                [b'\r'] | [b'\r', b'\n'] | [b'\r', b'\n', b'\r'] => return Between::Wait,
                [b'\r', b'\n', ..] => 2,
                [b'\r' | b'\n', ..] => 1,
                _ => return Between::Message,
            };
            let _ = self.buffer.split_to(taken);
        }
    }

    /// Where the head ends, with its empty line.
    fn find_head_end(&mut self) -> Result<Option<usize>, FrameFault> {
        if !lex::is_token(self.buffer[0]) {
            self.scanned = 0;
            return Err(FrameFault::NotSip);
        }
        while let Some(found) = memchr::memchr(b'\n', &self.buffer[self.scanned..]) {
            let end = self.scanned + found;
            let line = &self.buffer[self.line..end];
            let first = self.line == 0;
            self.scanned = end + 1;
            if self.scanned > self.limits.head {
                return Err(FrameFault::HeadTooLarge);
            }
            if first && !is_start_line(line) {
                return Err(FrameFault::NotSip);
            }
            if matches!(line, b"" | b"\r") {
                return Ok(Some(self.scanned));
            }
            self.line = self.scanned;
        }
        self.scanned = self.buffer.len();
        match self.scanned > self.limits.head {
            true => Err(FrameFault::HeadTooLarge),
            false => Ok(None),
        }
    }

    /// The length of the whole message whose head ends there.
    fn measure(&self, end: usize) -> Result<usize, FrameFault> {
        let head = &self.buffer[..end];
        let mut at = memchr::memchr(b'\n', head).map_or(end, |first| first + 1);
        let mut headers = 0;
        let mut length = None;
        while !matches!(&head[at..], b"" | b"\n" | b"\r\n") {
            let end = line_end(head, at);
            let line = &head[at..end];
            at = end;
            headers += 1;
            if headers > self.limits.headers {
                return Err(FrameFault::TooManyHeaders);
            }
            let Some(colon) = memchr::memchr(b':', line) else { continue };
            if Name::parse(line[..colon].trim_ascii_end()) == Name::ContentLength {
                match (length, lex::number(lex::trim(&line[colon + 1..]))) {
                    (None, Some(number)) => length = Some(number as usize),
                    _ => return Err(FrameFault::ContentLength),
                }
            }
        }
        let whole = end.saturating_add(length.ok_or(FrameFault::ContentLength)?);
        if whole > self.limits.message { Err(FrameFault::MessageTooLarge) } else { Ok(whole) }
    }
}

/// What stands before the next message.
enum Between {
    Ping,
    Wait,
    Message,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BYE: &[u8] =
        b"BYE sip:h SIP/2.0\r\nVia: SIP/2.0/TCP a;branch=z9hG4bKx\r\nl: 4\r\nSubject: no\r\n body\r\n\r\nv=0\n";
    const OK: &[u8] = b"SIP/2.0 200 OK\nContent-Length :\n 0\nX: 1\n\n";

    fn frames(pieces: &[&[u8]], limits: FrameLimits) -> (Vec<Frame>, Option<FrameFault>) {
        let mut framer = Framer::new(limits);
        let mut frames = Vec::new();
        for piece in pieces {
            framer.feed(piece);
            loop {
                match framer.next_frame() {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(fault) => return (frames, Some(fault)),
                }
            }
        }
        (frames, None)
    }

    fn fault_of(stream: &[u8]) -> Option<FrameFault> {
        frames(&[stream], FrameLimits { head: 200, headers: 4, message: 300 }).1
    }

    fn message(bytes: &'static [u8]) -> Frame {
        Frame::Message(Bytes::from_static(bytes))
    }

    #[test]
    fn only_a_double_line_end_asks_for_an_answer() {
        assert_eq!(keep_alive(b"\r\n\r\n"), Some(KeepAlive::Ping));
        assert_eq!(keep_alive(PONG), Some(KeepAlive::Quiet));
        assert_eq!(keep_alive(b""), Some(KeepAlive::Quiet));
        assert_eq!(keep_alive(b"TEST"), None);
    }

    #[test]
    fn messages_and_pings_come_out_in_order_with_either_line_end() {
        let stream = [b"\r\n", BYE, b"\r\n", OK, b"\n\r\n\r\n", PING, BYE].concat();
        let expected = vec![message(BYE), message(OK), Frame::Ping, Frame::Ping, message(BYE)];
        // One LF, one ping, one ping.
        assert_eq!(frames(&[&stream], FrameLimits::default()), (expected, None));
    }

    #[test]
    fn what_can_not_be_followed_is_named() {
        let long = "x".repeat(300);
        for (stream, fault) in [
            (&b"\x16\x03\x01"[..], FrameFault::NotSip),
            (b"GET / HTTP/1.1\r\n", FrameFault::NotSip),
            (b"BYE sip:h SIP/2.0\r\nVia: x\r\n\r\n", FrameFault::ContentLength),
            (b"BYE sip:h SIP/2.0\r\nl: -1\r\n\r\n", FrameFault::ContentLength),
            (b"BYE sip:h SIP/2.0\r\nl: 1\r\nContent-Length: 1\r\n\r\n", FrameFault::ContentLength),
            (b"BYE sip:h SIP/2.0\r\nl: 4294967295\r\n\r\n", FrameFault::MessageTooLarge),
            (b"BYE sip:h SIP/2.0\r\nl: 280\r\n\r\n", FrameFault::MessageTooLarge),
            (b"BYE sip:h SIP/2.0\r\na: 1\r\nb: 1\r\nc: 1\r\nd: 1\r\ne: 1\r\n\r\n", FrameFault::TooManyHeaders),
            (long.as_bytes(), FrameFault::HeadTooLarge),
        ] {
            assert_eq!(fault_of(stream), Some(fault), "{}", stream.escape_ascii());
        }
        assert_eq!(fault_of(BYE), None);
    }

    #[test]
    fn after_a_fault_the_head_can_still_be_read_and_nothing_more_is_kept() {
        let mut framer = Framer::new(FrameLimits::default());
        framer.feed(b"BYE sip:h SIP/2.0\r\nVia: x\r\n\r\nrest");
        assert_eq!(framer.next_frame(), Err(FrameFault::ContentLength));
        framer.feed(&[b'x'; 1000]);
        assert_eq!(framer.next_frame(), Err(FrameFault::ContentLength));
        assert_eq!(framer.head(), b"BYE sip:h SIP/2.0\r\nVia: x\r\n\r\n");
    }

    #[test]
    fn line_ends_that_may_become_a_ping_are_no_message() {
        let mut framer = Framer::new(FrameLimits::default());
        for (piece, inside) in [(&b"\r\n"[..], false), (b"B", true), (&BYE[1..], false), (b"\r\n\r", false)] {
            framer.feed(piece);
            while matches!(framer.next_frame(), Ok(Some(_))) {}
            assert_eq!(framer.is_inside_message(), inside, "{}", piece.escape_ascii());
        }
    }

    #[test]
    fn a_head_that_drips_in_costs_no_more_than_its_bytes() {
        let mut framer = Framer::new(FrameLimits { head: 1 << 22, ..FrameLimits::default() });
        framer.feed(b"BYE sip:h SIP/2.0\r\nX: ");
        // Two million steps; quadratic work would take hours.
        for _ in 0..2_000_000 {
            framer.feed(b"x");
            assert_eq!(framer.next_frame(), Ok(None));
        }
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_frames(
            parts in prop::collection::vec(prop::sample::select(vec![
                BYE, OK, PING, PONG, b"\n", b"\r", b"garbage\r\n", b"l: 3\r\n\r\n", b"SIP/2.0 200 OK\r\n", b"\0",
            ]), 0..12),
            cuts in prop::collection::vec(0.0..1.0f64, 0..12),
        ) {
            let stream = parts.concat();
            let mut at: Vec<_> = cuts.iter().map(|cut| (cut * stream.len() as f64) as usize).collect();
            at.extend([0, stream.len()]);
            at.sort_unstable();
            let pieces: Vec<_> = at.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            let bytes: Vec<_> = stream.chunks(1).collect();
            let limits = FrameLimits { head: 100, headers: 10, message: 200 };
            let whole = frames(&[&stream], limits);
            prop_assert_eq!(&frames(&pieces, limits), &whole);
            prop_assert_eq!(&frames(&bytes, limits), &whole);
        }
    }
}
