//! Characters and separators of RFC 3261 section 25.1, on bytes.

/// Linear white space inside a folded value: SP, HT, CR, LF.
pub(crate) fn is_lws(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// A character of `token`.
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~')
}

/// Whether the text is a `token`: not empty, nothing else in it.
pub(crate) fn all_token(text: &[u8]) -> bool {
    looked_at(text.len());
    !text.is_empty() && text.iter().all(|&b| is_token(b))
}

/// The text without white space at its ends.
pub(crate) fn trim(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|&b| !is_lws(b)).unwrap_or(text.len());
    let end = text.iter().rposition(|&b| !is_lws(b)).map_or(start, |last| last + 1);
    looked_at(start + text.len() - end);
    &text[start..end]
}

/// Digits only, as a number; none if empty, not digits or above `u32::MAX`.
pub(crate) fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u32, |sum, &b| {
        let digit = b.is_ascii_digit().then(|| u32::from(b - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// Where `separator` stands first outside quoted strings and angle brackets; none if nowhere.
pub(crate) fn find_outside(text: &[u8], separator: u8) -> Option<usize> {
    let mut quoted = false;
    let mut angle = false;
    let mut at = 0;
    while at < text.len() {
        looked_at(1);
        match text[at] {
            b'\\' if quoted => at += 1,
            b'"' if !angle => quoted = !quoted,
            b'<' if !quoted => angle = true,
            b'>' if !quoted => angle = false,
            byte if byte == separator && !quoted && !angle => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The comma-separated values of a header, white space trimmed (RFC 3261 section 7.3.1).
pub(crate) fn values(text: &[u8]) -> Values<'_> {
    Values { rest: Some(text) }
}

/// See [`values`].
#[derive(Clone, Debug)]
pub struct Values<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Values<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let text = self.rest?;
        let value = match find_outside(text, b',') {
            Some(comma) => {
                self.rest = Some(&text[comma + 1..]);
                &text[..comma]
            }
            None => {
                self.rest = None;
                text
            }
        };
        Some(trim(value))
    }
}

/// Parameters as they follow a value or a URI: `;name=value;name`, white space around the marks allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Params<'a>(pub(crate) &'a [u8]);

impl<'a> Params<'a> {
    /// The value of the parameter of that name in any case; "" if it has none, quotes stay.
    pub fn get(mut self, name: &[u8]) -> Option<&'a [u8]> {
        self.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.unwrap_or_default())
    }

    /// The text as it stands, from the first semicolon.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

impl<'a> Iterator for Params<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let start = self.0.iter().position(|&b| b == b';')? + 1;
            looked_at(start);
            let text = &self.0[start..];
            let end = find_outside(text, b';').unwrap_or(text.len());
            self.0 = &text[end..];
            let one = trim(&text[..end]);
            if one.is_empty() {
                continue;
            }
            return Some(match one.iter().position(|&b| b == b'=') {
                Some(equals) => (trim(&one[..equals]), Some(trim(&one[equals + 1..]))),
                None => (one, None),
            });
        }
    }
}

/// For the test that reading takes time in proportion to the message: counts the bytes that were looked at.
pub(super) fn looked_at(_bytes: usize) {
    #[cfg(test)]
    tests::LOOKED_AT.with(|count| count.set(count.get() + _bytes));
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::engine::sip::Message;

    thread_local! {
        /// The bytes that this thread has looked at.
        pub(in crate::engine::sip) static LOOKED_AT: Cell<usize> = const { Cell::new(0) };
    }

    #[test]
    fn values_split_at_commas_outside_quotes_and_angles() {
        let all: Vec<_> = values(b" \"a, b\" <sip:x,y@h> , <sip:z>;q=\"1,2\",").collect();
        assert_eq!(all, [&b"\"a, b\" <sip:x,y@h>"[..], b"<sip:z>;q=\"1,2\"", b""]);
    }

    /// How many bytes are looked at when a message of about `size` bytes is read, that ends in `end` and repeats `unit`
    /// in between.
    fn work(start: &str, unit: &str, end: &str, size: usize) -> usize {
        let head = "OPTIONS sip:h SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bKx\r\nFrom: <sip:a>;tag=1\r\nTo: <sip:b>\r\n\
                    Call-ID: 1\r\nCSeq: 1 OPTIONS\r\n";
        let text = format!("{head}{start}{}{end}\r\n\r\n", unit.repeat(size / unit.len()));
        let before = LOOKED_AT.get();
        if let Ok(message) = Message::parse(text.as_bytes()) {
            let _ = message.vias().count();
            let _ = message.routes().filter_map(|route| route.params.get(b"none")).count();
            let _ = message.via().params.get(b"none");
        }
        LOOKED_AT.get() - before
    }

    #[test]
    fn reading_takes_time_in_proportion_to_the_message() {
        for (start, unit, end) in [
            ("", "X: y\r\n", "Y: z"),
            ("", "X\r\n", "Y: z"),
            ("X: ", "y\r\n ", "z"),
            ("", "Via: SIP/2.0/UDP b;branch=z\r\n", "Y: z"),
            ("Via: SIP/2.0/UDP b", ",SIP/2.0/UDP b", ""),
            ("Via: SIP/2.0/UDP b", ",", ""),
            ("Via: SIP/2.0/UDP b", ";x", ""),
            ("Via: SIP/2.0/UDP b", " ; ;\"", ""),
            ("Via: SIP/2.0/UDP b", ";x=\"\\\"", ""),
            ("Route: <sip:a;lr>", ",<sip:a;lr>", ""),
            ("Route: ", "<", ""),
            ("Route: ", "\"", ""),
            ("Route: ", "\",", ""),
            ("Route: <sip:a", ";lr", ">"),
            ("Route: <sip:a>", ";\"", ""),
            ("Route: <sip:a>", ";", ""),
            ("Contact: ", ",,<", ""),
            ("Call-ID: ", " a", ""),
        ] {
            let (small, large) = (work(start, unit, end, 8 << 10), work(start, unit, end, 64 << 10));
            assert!(large > 60 << 10, "{start}{unit}: {large} bytes were counted");
            assert!(large <= small * 9, "{start}{unit}: {small} bytes are looked at for 8 KiB, {large} for 64 KiB");
            // A few times each, whatever they are.
            assert!(large <= 12 * (64 << 10), "{start}{unit}: {large}");
        }
    }

    #[test]
    fn params_allow_space_quotes_and_no_value() {
        let params = Params(b" ; branch = z9 ;; lr;x=\";\"");
        assert_eq!(params.get(b"BRANCH"), Some(&b"z9"[..]));
        assert_eq!(params.get(b"lr"), Some(&b""[..]));
        assert_eq!(params.get(b"x"), Some(&b"\";\""[..]));
        assert_eq!(params.get(b"y"), None);
    }

    #[test]
    fn numbers_have_digits_only_and_fit() {
        assert_eq!(number(b"0070"), Some(70));
        assert_eq!(number(b"4294967295"), Some(u32::MAX));
        assert_eq!(number(b"4294967296"), None);
        assert_eq!(number(b"-1"), None);
        assert_eq!(number(b""), None);
    }
}
