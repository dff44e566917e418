//! From, To, Contact, Route and Record-Route values: RFC 3261 section 20.10's name-addr and addr-spec.

use super::lex::{self, Params};
use super::uri::Uri;

/// One address value looked at in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address<'a> {
    /// The whole value, trimmed.
    pub raw: &'a [u8],
    /// The URI, without angle brackets.
    pub uri: &'a [u8],
    /// The parameters after it.
    pub params: Params<'a>,
    /// The `tag` parameter.
    pub tag: Option<&'a [u8]>,
}

impl<'a> Address<'a> {
    /// Looks at one value; none if quotes or brackets do not close or a display name is neither tokens nor quoted.
    pub fn parse(raw: &'a [u8]) -> Option<Self> {
        let (uri, params) = match after_display_name(raw)? {
            [b'<', rest @ ..] => {
                let end = memchr::memchr(b'>', rest)?;
                (lex::trim(&rest[..end]), lex::trim(&rest[end + 1..]))
            }
            // Without brackets every semicolon begins a parameter of the header (section 20).
            bare => {
                let end = memchr::memchr(b';', bare).unwrap_or(bare.len());
                (lex::trim(&bare[..end]), &bare[end..])
            }
        };
        let quotes_close = params.iter().filter(|&&b| b == b'"').count() % 2 == 0;
        if uri.is_empty() || !matches!(params.first(), None | Some(b';')) || !quotes_close {
            return None;
        }
        let params = Params(params);
        Some(Address { raw, uri, params, tag: params.get(b"tag") })
    }

    /// Whether it is a strict router's (section 16.6 item 6): its URI has no `lr`, and can stand in a start line.
    pub(crate) fn is_strict(&self) -> bool {
        Uri::parse(self.uri).is_ok_and(|uri| !uri.is_loose())
    }
}

/// What follows the display name: from `<`, or the bare URI.
fn after_display_name(text: &[u8]) -> Option<&[u8]> {
    match text.first()? {
        b'<' => Some(text),
        b'"' => {
            let mut escaped = false;
            let close = text[1..].iter().position(|&b| match (escaped, b) {
                (true, _) => {
                    escaped = false;
                    false
                }
                (false, b'\\') => {
                    escaped = true;
                    false
                }
                (false, b) => b == b'"',
            })?;
            let rest = lex::trim(&text[close + 2..]);
            rest.starts_with(b"<").then_some(rest)
        }
        _ => match memchr::memchr2(b'<', b'"', text) {
            Some(at) if text[at] == b'<' => {
                text[..at].iter().all(|&b| lex::is_token(b) || lex::is_lws(b)).then_some(&text[at..])
            }
            _ if text.iter().any(|&b| lex::is_lws(b)) => bare_with_space(text),
            _ => Some(text),
        },
    }
}

/// A bare URI may have white space only around its parameters.
fn bare_with_space(text: &[u8]) -> Option<&[u8]> {
    let end = memchr::memchr(b';', text).unwrap_or(text.len());
    lex::trim(&text[..end]).iter().all(|&b| !lex::is_lws(b)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<(&str, Option<&str>)> {
        let text_of = |bytes| std::str::from_utf8(bytes).expect("text");
        Address::parse(text.as_bytes()).map(|a| (text_of(a.uri), a.tag.map(text_of)))
    }

    #[test]
    fn all_forms_are_read() {
        assert_eq!(
            parse("<sip:127.0.0.1:8062>;tag=y96KBce71QyUm"),
            Some(("sip:127.0.0.1:8062", Some("y96KBce71QyUm")))
        );
        assert_eq!(
            parse("\"J Rosenberg \\\\\\\"\" <sip:j@e.com>  ;\r\n  tag = 98asjd8"),
            Some(("sip:j@e.com", Some("98asjd8")))
        );
        assert_eq!(
            parse("sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n"),
            Some(("sip:vivekg@chair-dnrc.example.com", Some("1918181833n")))
        );
        assert_eq!(parse("caller<sip:c@e.com>;tag=1"), Some(("sip:c@e.com", Some("1"))));
        assert_eq!(parse("Bell, Alexander <sip:a@e.com>;tag=1"), None);
        assert_eq!(parse("\"\" <sip:a;tag=x@h>"), Some(("sip:a;tag=x@h", None)));
    }

    #[test]
    fn what_does_not_close_is_refused() {
        for text in [
            "",
            "\"Mr. J. User <sip:j.user@example.com>",
            "<sip:a@h",
            "\"a\" sip:a@h",
            "<>",
            "sip:a@h \"x\"",
            "<sip:a@h> x",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
