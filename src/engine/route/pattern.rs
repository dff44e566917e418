//! Patterns: text to compare with, exact or a glob.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// Text to compare with: exact, or a glob with `*` (any bytes, also none) and `?` (one byte). A backslash takes the meaning
/// from the character behind it: `\*98` is the user `*98`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// A pattern of that text; every text is one.
    pub fn new(text: impl Into<String>) -> Self {
        Pattern(text.into())
    }

    /// The text as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole text matches, case-sensitively. At most pattern times text steps, nothing is allocated.
    pub fn matches(&self, text: &[u8]) -> bool {
        self.matches_bytes(text.iter().copied())
    }

    /// As [`Pattern::matches`], with ASCII letters in any case.
    pub fn matches_any_case(&self, text: &[u8]) -> bool {
        run(self.0.as_bytes(), text.iter().copied(), |a, b| a.eq_ignore_ascii_case(&b))
    }

    /// As [`Pattern::matches`], for bytes that stand nowhere in one piece.
    pub(super) fn matches_bytes(&self, text: impl Iterator<Item = u8> + Clone) -> bool {
        run(self.0.as_bytes(), text, |a, b| a == b)
    }
}

impl FromStr for Pattern {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Pattern::new(text))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One step of a pattern.
#[derive(Clone, Copy)]
enum Step {
    Any,
    One,
    Byte(u8),
}

/// The first step and what follows it; a backslash at the end stands for itself.
fn first_step(pattern: &[u8]) -> Option<(Step, &[u8])> {
    Some(match pattern {
        [b'*', rest @ ..] => (Step::Any, rest),
        [b'?', rest @ ..] => (Step::One, rest),
        [b'\\', byte, rest @ ..] | [byte, rest @ ..] => (Step::Byte(*byte), rest),
        [] => return None,
    })
}

/// Only the last `*` is ever gone back to: what an earlier one took has matched as early as can be, so no other way of its
/// could help.
fn run(mut pattern: &[u8], mut text: impl Iterator<Item = u8> + Clone, same: impl Fn(u8, u8) -> bool) -> bool {
    let mut retry = None;
    loop {
        let mut rest = text.clone();
        let step = first_step(pattern);
        if let Some((Step::Any, behind)) = step {
            if behind.is_empty() {
                return true;
            }
            pattern = behind;
            retry = Some((behind, text.clone()));
            continue;
        }
        let fits = match (step, rest.next()) {
            (None, None) => return true,
            (Some((Step::One, behind)), Some(_)) => Some(behind),
            (Some((Step::Byte(wanted), behind)), Some(byte)) if same(wanted, byte) => Some(behind),
            (Some(_), None) => return false,
            (Some((Step::Any | Step::Byte(_), _)) | None, Some(_)) => None,
        };
        match (fits, &mut retry) {
            (Some(behind), _) => {
                pattern = behind;
                text = rest;
            }
            (None, Some((behind, from))) => {
                from.next();
                pattern = behind;
                text = from.clone();
            }
            (None, None) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::new(pattern).matches(text.as_bytes())
    }

    #[test]
    fn exact_text_matches_itself_alone() {
        assert!(matches("OPENSIPS_TTS_MRCP_CLIENT", "OPENSIPS_TTS_MRCP_CLIENT"));
        assert!(!matches("OPENSIPS_TTS_MRCP_CLIENT", "OPENSIPS_TTS_MRCP_CLIENT2"));
        assert!(!matches("OPENSIPS_TTS_MRCP_CLIENT", "opensips_tts_mrcp_client"));
        assert!(matches("", "") && !matches("", "a") && !matches("a", ""));
    }

    #[test]
    fn stars_and_question_marks_stand_for_others() {
        for (pattern, yes, no) in [
            ("*", &["", "a", "a*b"][..], &[][..]),
            ("**", &["", "a"], &[]),
            ("OPENSIPS_*", &["OPENSIPS_", "OPENSIPS_ASR"], &["OPENSIPS", "XOPENSIPS_"]),
            ("*_CLIENT", &["_CLIENT", "A_CLIENT_CLIENT"], &["A_CLIENT2"]),
            ("a*b*c", &["abc", "aXbYc", "abbcc", "abcbc"], &["ab", "acb", "abcd"]),
            ("?", &["a"], &["", "ab"]),
            ("a?c*", &["abc", "abcd"], &["ac"]),
            ("*?", &["a", "abc"], &[""]),
        ] {
            yes.iter().for_each(|text| assert!(matches(pattern, text), "{pattern} {text}"));
            no.iter().for_each(|text| assert!(!matches(pattern, text), "{pattern} {text}"));
        }
    }

    #[test]
    fn a_backslash_takes_the_meaning_away() {
        assert!(matches(r"\*98", "*98") && !matches(r"\*98", "198"));
        assert!(matches(r"a\?", "a?") && !matches(r"a\?", "ab"));
        assert!(matches(r"\\", r"\") && matches(r"a\", r"a\"));
        assert!(matches(r"\**", "*98"));
    }

    #[test]
    fn bytes_that_are_no_text_match_too() {
        assert!(Pattern::new("a*b?").matches(b"a\xff\x00b\xfe"));
    }

    #[test]
    fn letters_match_in_any_case_where_asked() {
        assert!(Pattern::new("*.Example.COM").matches_any_case(b"sip.EXAMPLE.com"));
    }

    #[test]
    fn a_hostile_text_costs_no_more_than_its_length_times_the_patterns() {
        let text = "a".repeat(60_000);
        assert!(!matches(&("a*".repeat(40) + "b"), &text));
    }

    /// What a glob means, without care for time.
    fn plain(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], _) => text.is_empty(),
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|skip| plain(rest, &text[skip..])),
            ([b'?', rest @ ..], [_, text @ ..]) => plain(rest, text),
            ([byte, rest @ ..], [first, text @ ..]) if byte == first => plain(rest, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_plain_meaning(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(matches(&pattern, &text), plain(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
