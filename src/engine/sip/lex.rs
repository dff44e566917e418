//! Characters and separators of RFC 3261 section 25.1, on bytes.

/// Linear white space inside a folded value: SP, HT, CR, LF.
pub(crate) fn is_lws(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// A set of bytes, looked up by value: these questions are asked of most bytes of a message.
pub(super) struct Class([bool; 256]);

impl Class {
    /// ASCII letters, digits, and `more`.
    pub(super) const fn alphanumeric_and(more: &[u8]) -> Self {
        let mut class = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            class[byte] = (byte as u8).is_ascii_alphanumeric();
            byte += 1;
        }
        let mut at = 0;
        while at < more.len() {
            class[more[at] as usize] = true;
            at += 1;
        }
        Class(class)
    }

    /// All bytes above `low` but those of `others`.
    pub(super) const fn all_but(others: &[u8], low: u8) -> Self {
        let mut class = [false; 256];
        let mut byte = low as usize + 1;
        while byte < 256 {
            class[byte] = true;
            byte += 1;
        }
        let mut at = 0;
        while at < others.len() {
            class[others[at] as usize] = false;
            at += 1;
        }
        Class(class)
    }

    /// Whether the byte is in it.
    pub(super) fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte)]
    }

    /// Whether all bytes of the text are in it.
    pub(super) fn has_all(&self, text: &[u8]) -> bool {
        text.iter().all(|&byte| self.has(byte))
    }
}

static TOKEN: Class = Class::alphanumeric_and(b"-.!%*_+`'~");

/// A character of `token`.
pub(crate) fn is_token(byte: u8) -> bool {
    TOKEN.has(byte)
}

/// Whether the text is a `token`: not empty, nothing else in it.
pub(crate) fn all_token(text: &[u8]) -> bool {
    looked_at(text.len());
    !text.is_empty() && TOKEN.has_all(text)
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
    let mut at = 0;
    loop {
        let found = at + find(&text[at..], |rest| memchr::memchr3(separator, b'"', b'<', rest))?;
        at = match text[found] {
            b'"' => after_quoted(text, found + 1)?,
            b'<' => found + 2 + find(&text[found + 1..], |rest| memchr::memchr(b'>', rest))?,
            _ => return Some(found),
        };
    }
}

/// What follows the quoted string that begins at `at`; none if it does not end.
fn after_quoted(text: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let found = at + find(text.get(at..)?, |rest| memchr::memchr2(b'"', b'\\', rest))?;
        match text[found] {
            b'"' => return Some(found + 1),
            _ => at = found + 2,
        }
    }
}

fn find(text: &[u8], search: impl FnOnce(&[u8]) -> Option<usize>) -> Option<usize> {
    let found = search(text);
    looked_at(found.map_or(text.len(), |at| at + 1));
    found
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
            let start = find(self.0, |text| memchr::memchr(b';', text))? + 1;
            let text = &self.0[start..];
            let end = find_outside(text, b';').unwrap_or(text.len());
            self.0 = &text[end..];
            let one = trim(&text[..end]);
            if one.is_empty() {
                continue;
            }
            return Some(match memchr::memchr(b'=', one) {
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
    fn what_does_not_close_hides_all_that_follows() {
        for (text, found) in [
            (&b"a,b"[..], Some(1)),
            (b"\"a,\\\",\",b", Some(7)),
            (b"<a,\">,b", Some(5)),
            (b"a>,b", Some(2)),
            (b"<a,b", None),
            (b"\"a,b", None),
            (b"\"a\\", None),
            (b"\"", None),
            (b"<", None),
        ] {
            assert_eq!(find_outside(text, b','), found, "{}", text.escape_ascii());
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
