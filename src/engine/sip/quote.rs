//! The start of a datagram of ours as an ICMP error quotes it: often cut, so no message any more.

use super::header::Name;
use super::lex;
use super::method::Method;
use super::via::Via;

/// What tells which request it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quoted<'a> {
    /// The method.
    pub(crate) method: Method<'a>,
    /// The branch of its topmost Via: ours, if it is a request of ours.
    pub(crate) branch: &'a [u8],
}

/// Looks for a request's method and topmost branch; none in a response, in what is cut before the branch, or in what is no
/// SIP. This proves nothing: the branch may be anybody's, and cut.
pub(crate) fn quoted(bytes: &[u8]) -> Option<Quoted<'_>> {
    let mut lines = bytes.split_inclusive(|&byte| byte == b'\n');
    let first = lines.next()?;
    let (method, _) = first.split_at(memchr::memchr(b' ', first)?);
    // A response's first word holds a slash.
    if !lex::all_token(method) {
        return None;
    }
    let is_via =
        |line: &&[u8]| memchr::memchr(b':', line).is_some_and(|colon| Name::parse(&line[..colon]) == Name::Via);
    let line = lines.take_while(|line| !lex::trim(line).is_empty()).find(is_via)?;
    let value = &line[memchr::memchr(b':', line)? + 1..];
    let via = lex::values(value).next().and_then(Via::parse)?;
    Some(Quoted { method: Method::parse(method), branch: via.branch? })
}

/// The Call-ID of what looks like a message, without parsing the rest; none if there is none in its head.
pub(crate) fn call_id_of(bytes: &[u8]) -> Option<&[u8]> {
    let mut begun = false;
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        match line[0] {
            b'C' | b'c' | b'I' | b'i' if begun => {}
            // An empty line ends the head; those before it begins do not count.
            b'\r' | b'\n' if begun => return None,
            b'\r' | b'\n' => continue,
            _ => {
                begun = true;
                continue;
            }
        }
        let colon = memchr::memchr(b':', line);
        if let Some(colon) = colon.filter(|&colon| Name::parse(lex::trim(&line[..colon])) == Name::CallId) {
            return Some(lex::trim(&line[colon + 1..])).filter(|call_id| !call_id.is_empty());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &str = "INVITE sip:h SIP/2.0\r\nX: y\r\nVia: SIP/2.0/UDP a;branch=z9hG4bKone,SIP/2.0/UDP b;branch=z\r\n\
                          Via: SIP/2.0/UDP c;branch=z9hG4bKtwo\r\nFrom: x\r\n\r\nVia: SIP/2.0/UDP d;branch=z9hG4bKthree";

    #[test]
    fn the_topmost_branch_is_found_in_whole_and_cut_datagrams() {
        let end = INVITE.find(",SIP").expect("it is there");
        for cut in end..=INVITE.len() {
            let expected = Quoted { method: Method::Invite, branch: b"z9hG4bKone" };
            assert_eq!(quoted(&INVITE.as_bytes()[..cut]), Some(expected), "{cut}");
        }
        for cut in 0..end {
            let found = quoted(&INVITE.as_bytes()[..cut]);
            assert!(found.is_none_or(|found| found.branch != b"z9hG4bKone"), "{cut}");
        }
    }

    #[test]
    fn the_call_id_is_the_one_that_the_parser_finds() {
        let message = |line: &str| {
            format!(
                "\r\nINVITE sip:h SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bKx\r\nContact: <sip:a>\r\n{line}\r\nFrom: <sip:a>;tag=1\r\n\
                 To: <sip:b>\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\n\r\nCall-ID: body\r\n"
            )
        };
        for line in ["Call-ID: a@b", "i:a@b", "I : a@b  ", "CALL-id:\ta@b"] {
            let text = message(line);
            let parsed = crate::engine::sip::Message::parse(text.as_bytes()).expect("a message");
            assert_eq!((call_id_of(text.as_bytes()), parsed.call_id()), (Some(&b"a@b"[..]), &b"a@b"[..]), "{line}");
        }
        for text in [&message("X: y"), &message("Call-ID: "), "", "\r\n", "Call-ID: first line\r\n"] {
            assert_eq!(call_id_of(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn responses_and_strange_text_are_nothing() {
        let response = INVITE.replace("INVITE sip:h SIP/2.0", "SIP/2.0 200 OK");
        let in_body = "INVITE sip:h SIP/2.0\r\n\r\nVia: SIP/2.0/UDP d;branch=z9hG4bKthree\r\n";
        for text in [&response, in_body, "", "\r\n", " ", "INVITE", "\0\u{ff} \nVia: SIP/2.0/UDP a;branch=b"] {
            assert_eq!(quoted(text.as_bytes()), None, "{text}");
        }
    }
}
