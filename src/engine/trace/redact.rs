//! What may be shown of a message: no credentials, and of a description its m= lines alone. The one place for all who show it.

use std::ops::Range;

use bytes::Bytes;

use crate::engine::explain::{Explanation, Fate};
use crate::engine::sip::header::long_form;
use crate::engine::sip::{media_lines, printable, printable_start};

/// What stands for what is not shown.
const HIDDEN: &[u8] = b"***";
/// Headers that prove who somebody is: RFC 3261 section 20, RFC 8224.
const SECRET: [&[u8]; 7] = [
    b"Authorization",
    b"Proxy-Authorization",
    b"Authentication-Info",
    b"Proxy-Authentication-Info",
    b"WWW-Authenticate",
    b"Proxy-Authenticate",
    b"Identity",
];
/// A type is told no longer than that.
const LONGEST_TYPE: usize = 64;

/// The message as it may be shown. Any bytes will do; what looks like a head is one.
pub(super) fn redact(bytes: &[u8]) -> Bytes {
    let mut shown = Vec::with_capacity(bytes.len() + 32);
    let (mut rest, mut secret, mut begun, mut kind) = (bytes, false, false, &b""[..]);
    while !rest.is_empty() {
        let (line, end, after) = cut(rest);
        rest = after;
        if line.is_empty() {
            shown.extend_from_slice(end);
            match begun {
                true => break,
                false => continue,
            }
        }
        if begun && matches!(line[0], b' ' | b'\t') {
            // A folded line belongs to the one before it.
            if !secret {
                show_line(line, &mut shown);
                shown.extend_from_slice(end);
            }
            continue;
        }
        begun = true;
        let colon = memchr::memchr(b':', line);
        let name = colon.map(|colon| long_form(line[..colon].trim_ascii())).unwrap_or_default();
        secret = is_secret(name);
        match (secret, colon) {
            (true, Some(colon)) => {
                shown.extend_from_slice(&line[..=colon]);
                shown.push(b' ');
                shown.extend_from_slice(HIDDEN);
            }
            _ => show_line(line, &mut shown),
        }
        if name.eq_ignore_ascii_case(b"Content-Type") {
            kind = colon.map(|colon| line[colon + 1..].trim_ascii()).unwrap_or_default();
        }
        shown.extend_from_slice(end);
    }
    if !rest.is_empty() {
        show_body(rest, kind, &mut shown);
    }
    shown.into()
}

/// What a decision quotes of its message, as it may be shown.
pub(super) fn redact_told(told: &mut Explanation) {
    let hide = |text: &mut String| {
        let mut shown = Vec::with_capacity(text.len());
        show_line(text.as_bytes(), &mut shown);
        *text = String::from_utf8_lossy(&shown).into_owned();
    };
    hide(&mut told.request_uri);
    for condition in told.rules.iter_mut().flat_map(|rule| &mut rule.conditions) {
        let name = condition.key.strip_prefix("header.").unwrap_or_default();
        match is_secret(long_form(name.as_bytes())) {
            true => condition.has.iter_mut().for_each(|has| *has = String::from_utf8_lossy(HIDDEN).into_owned()),
            false => condition.has.iter_mut().for_each(hide),
        }
    }
    match &mut told.fate {
        Fate::Sent { tries, .. } => {
            tries.iter_mut().filter_map(|one| one.way.as_mut()).for_each(|way| hide(&mut way.request_uri));
        }
        Fate::Relayed { request_uri, .. } => hide(request_uri),
        Fate::LookedUp { .. } | Fate::Answered { .. } | Fate::Ends { .. } => {}
    }
}

/// The start of a header's value or a URI for people, without passwords.
pub(crate) fn without_password(text: &[u8], most: usize) -> String {
    // Of each call, and nearly none has one.
    if password(text).is_none() {
        return printable_start(text, most);
    }
    let mut shown = Vec::with_capacity(text.len());
    show_line(text, &mut shown);
    printable_start(&shown, most)
}

fn is_secret(name: &[u8]) -> bool {
    SECRET.iter().any(|secret| secret.eq_ignore_ascii_case(name))
}

/// The first line, its end, and what comes then. A bare CR ends a line too: to some it does.
fn cut(bytes: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let at = memchr::memchr2(b'\r', b'\n', bytes).unwrap_or(bytes.len());
    let (line, rest) = bytes.split_at(at);
    let end = match rest {
        [b'\r', b'\n', ..] => 2,
        [] => 0,
        _ => 1,
    };
    let (end, rest) = rest.split_at(end);
    (line, end, rest)
}

/// A line, without the passwords of its URIs.
fn show_line(line: &[u8], shown: &mut Vec<u8>) {
    let mut rest = line;
    while let Some(secret) = password(rest) {
        shown.extend_from_slice(&rest[..secret.start]);
        shown.extend_from_slice(HIDDEN);
        rest = &rest[secret.end..];
    }
    shown.extend_from_slice(rest);
}

/// Where the first password of a URI stands in a text (RFC 3261 section 19.1.1: `sip:user:password@host`).
fn password(text: &[u8]) -> Option<Range<usize>> {
    let mut from = 0;
    while let Some(scheme) = find_scheme(&text[from..]) {
        from += scheme;
        let user = &text[from..];
        let end = user.iter().position(|byte| matches!(byte, b'@' | b'<' | b'>' | b'"') || byte.is_ascii_whitespace());
        if let Some(at) = end.filter(|&end| user[end] == b'@')
            && let Some(colon) = memchr::memchr(b':', &user[..at])
        {
            return Some(from + colon + 1..from + at);
        }
    }
    None
}

/// Where the text behind the first `sip:` or `sips:` begins.
fn find_scheme(text: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b':', text).find_map(|colon| {
        let before = &text[..colon];
        let ends_with = |scheme: &[u8]| {
            before.len().checked_sub(scheme.len()).is_some_and(|at| before[at..].eq_ignore_ascii_case(scheme))
        };
        (ends_with(b"sip") || ends_with(b"sips")).then_some(colon + 1)
    })
}

fn show_body(body: &[u8], kind: &[u8], shown: &mut Vec<u8>) {
    let mut left = body.len();
    let essence = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if essence.eq_ignore_ascii_case(b"application/sdp") {
        for line in media_lines(body) {
            left = left.saturating_sub(line.len());
            shown.extend_from_slice(line);
            shown.extend_from_slice(b"\r\n");
        }
    }
    let kind = match essence {
        [] => "unknown type".to_owned(),
        some => printable(&some[..some.len().min(LONGEST_TYPE)]),
    };
    shown.extend_from_slice(format!("[{left} bytes of {kind} left out]\r\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> String {
        String::from_utf8_lossy(&redact(text.as_bytes())).into_owned()
    }

    #[test]
    fn a_header_is_shown_without_its_password() {
        let text = b"<sip:alice:SECRET@a.test>;tag=1";
        assert_eq!(without_password(text, 100), "<sip:alice:***@a.test>;tag=1");
        // Where it is cut the password is gone already.
        assert!(!without_password(text, 15).contains("SEC"));
    }

    #[test]
    fn no_credential_is_shown_however_it_is_written() {
        for text in [
            "Authorization: Digest SECRET",
            "authorization : Digest SECRET",
            "PROXY-AUTHORIZATION:Digest\r\n SECRET,\r\n\tSECRET",
            "X: y\rAuthorization: SECRET",
            "X: y\nWWW-Authenticate: SECRET",
            "Proxy-Authenticate: SECRET",
            "Authentication-Info: SECRET",
            "Proxy-Authentication-Info: SECRET",
            "Identity: SECRET",
            "y: SECRET",
            "From: <sip:alice:SECRET@a.test>;tag=1",
            "Contact: sips:alice;x=y:SECRET@a.test, <SIP:bob:SECRET@b.test:5060>",
            "To: \"sip:\" <sip:alice:SECRET@a.test>",
        ] {
            let message = format!("INVITE sip:a:SECRET@b SIP/2.0\r\nVia: x\r\n{text}\r\nCall-ID: kept\r\n\r\n");
            let shown = shown(&message);
            assert!(!shown.contains("SECRET") && shown.contains("***"), "{text}: {shown}");
            assert!(
                shown.starts_with("INVITE sip:a:***@b SIP/2.0\r\n") && shown.contains("Call-ID: kept\r\n"),
                "{shown}"
            );
        }
    }

    #[test]
    fn what_hides_nothing_is_shown_as_it_came() {
        let text = "\r\nINVITE sip:a@b:5060;x=y SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1:5060\r\nFrom: \"a:b\" <sip:a@b>\r\n \
                    folded\r\nRoute: <sip:10.0.0.1:5060;lr>\r\n\r\n";
        assert_eq!(shown(text), text);
        for text in ["", "\r\n\r\n", "no head", "a: b", "\0\u{1}"] {
            assert_eq!(shown(text), text);
        }
    }

    #[test]
    fn of_a_body_only_its_media_lines_and_its_length_are_shown() {
        let head = "INVITE sip:a SIP/2.0\r\nc: Application/SDP ; x=y\r\n\r\n";
        let body = "v=0\r\no=secret\r\nc=IN IP4 10.0.0.1\r\nm=audio 4000 RTP/AVP 0\r\na=key\r\nm=application 9 TCP/MRCPv2 1\r\n";
        let told = "m=audio 4000 RTP/AVP 0\r\nm=application 9 TCP/MRCPv2 1\r\n";
        let left = body.len() - told.len() + 4;
        assert_eq!(
            shown(&format!("{head}{body}")),
            format!("{head}{told}[{left} bytes of Application/SDP left out]\r\n")
        );
        let other = "MESSAGE sip:a SIP/2.0\r\nContent-Type: text/plain\r\n\r\n";
        assert_eq!(shown(&format!("{other}m=secret")), format!("{other}[8 bytes of text/plain left out]\r\n"));
        let none = "MESSAGE sip:a SIP/2.0\r\n\r\n";
        assert_eq!(shown(&format!("{none}m=secret")), format!("{none}[8 bytes of unknown type left out]\r\n"));
        // To some an empty line of a bare LF ends the headers.
        assert_eq!(shown("A b\r\nX: y\n\nsecret\r\n"), "A b\r\nX: y\n\n[8 bytes of unknown type left out]\r\n");
    }

    proptest! {
        #[test]
        fn any_bytes_will_do(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            redact(&bytes);
        }

        #[test]
        fn text_like_a_message_hides_its_secret(
            parts in proptest::collection::vec(prop_oneof![
                Just("\r\n"), Just("\n"), Just("\r"), Just(" "), Just(":"), Just("Authorization: SECRET"), Just("sip:"),
                Just("u:SECRET@h"), Just("X: y"), Just("<"), Just("SIP/2.0 200 OK"),
            ], 0..24),
        ) {
            let text: String = parts.concat();
            let shown = shown(&text);
            let secret = shown.split(['\r', '\n']).find(|line| line.starts_with("Authorization: SECRET"));
            prop_assert_eq!(secret, None, "{:?}: {:?}", text, shown);
        }
    }
}
