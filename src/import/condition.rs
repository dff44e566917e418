//! Conditions of a script, in the words of rules.

use super::pattern::{self, Glob};
use super::report::At;

/// What may hold: some of these, each of which is several things at once.
pub(super) type Ways = Vec<Vec<Literal>>;

/// More ways than these are no rules that anybody would read.
const MOST_WAYS: usize = 64;

/// One test, and how it has to come out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Literal {
    pub(super) test: Test,
    pub(super) holds: bool,
    /// Where it stands, and as what.
    pub(super) at: At,
    pub(super) shown: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Test {
    Method(Vec<String>),
    Field(Field, Vec<Glob>),
    Source(String),
    /// The address that the request came to.
    Arrival(String),
    /// What a select came to is one of these.
    Result(Outcomes),
    /// The status of a failed try.
    Status(Vec<String>),
    /// What Tandem looks after itself: requests inside dialogs, retransmissions, Max-Forwards.
    Itself,
    /// What no rule can ask.
    Unknown,
}

/// A part of a request that rules look at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Field {
    UserAgent,
    RequestUser,
    RequestHost,
    FromUser,
    FromHost,
    ToUser,
    ToHost,
    Header(String),
}

/// What `ds_select_dst` may give: above 0, -1, anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcomes {
    pub(super) chosen: bool,
    pub(super) nobody: bool,
    pub(super) other: bool,
}

impl Outcomes {
    pub(super) const ALL: Outcomes = Outcomes { chosen: true, nobody: true, other: true };
    pub(super) const CHOSEN: Outcomes = Outcomes { chosen: true, nobody: false, other: false };

    pub(super) fn and(self, other: Outcomes) -> Outcomes {
        Outcomes {
            chosen: self.chosen && other.chosen,
            nobody: self.nobody && other.nobody,
            other: self.other && other.other,
        }
    }

    pub(super) fn not(self) -> Outcomes {
        Outcomes { chosen: !self.chosen, nobody: !self.nobody, other: !self.other }
    }

    fn is_none(self) -> bool {
        self == Outcomes { chosen: false, nobody: false, other: false }
    }

    /// Those for which a comparison with a number holds.
    pub(super) fn of(sign: &str, number: i64) -> Option<Outcomes> {
        let holds = |value: i64| match sign {
            "==" | "=" => Some(value == number),
            "!=" => Some(value != number),
            "<" => Some(value < number),
            ">" => Some(value > number),
            "<=" => Some(value <= number),
            ">=" => Some(value >= number),
            _ => None,
        };
        Some(Outcomes { chosen: holds(1)?, nobody: holds(-1)?, other: holds(-2)? })
    }
}

impl Literal {
    pub(super) fn new(test: Test, holds: bool, at: At, shown: impl Into<String>) -> Self {
        Literal { test, holds, at, shown: shown.into() }
    }

    pub(super) fn not(&self) -> Literal {
        let mut other = self.clone();
        match &mut other.test {
            Test::Result(outcomes) => *outcomes = outcomes.not(),
            _ => other.holds = !other.holds,
        }
        other
    }

    /// The same question with the same answer, wherever it is asked.
    pub(super) fn says(&self, other: &Literal) -> bool {
        (&self.test, self.holds) == (&other.test, other.holds) && self.test != Test::Unknown
            || self.test == Test::Unknown
                && self.test == other.test
                && self.shown == other.shown
                && self.holds == other.holds
    }

    /// Whether both can't be.
    pub(super) fn excludes(&self, other: &Literal) -> bool {
        let is_opposite = self.not().says(other);
        match (&self.test, &other.test) {
            (Test::Itself, _) | (_, Test::Itself) => false,
            (Test::Result(a), Test::Result(b)) => a.and(*b).is_none(),
            (Test::Method(a), Test::Method(b)) if self.holds && other.holds => !a.iter().any(|one| b.contains(one)),
            (Test::Method(a), Test::Method(b)) if self.holds != other.holds => {
                let (wanted, unwanted) = if self.holds { (a, b) } else { (b, a) };
                wanted.iter().all(|one| unwanted.contains(one))
            }
            (Test::Field(a, these), Test::Field(b, those)) if a == b && self.holds && other.holds => {
                let plain = |globs: &[Glob]| globs.iter().all(|glob| !glob.text.contains(['*', '?', '\\']));
                plain(these) && plain(those) && !these.iter().any(|one| those.contains(one))
            }
            // One packet has one source; networks may hold each other.
            (Test::Source(a), Test::Source(b)) if self.holds && other.holds => {
                a != b && !a.contains('/') && !b.contains('/')
            }
            _ => is_opposite,
        }
    }
}

/// Both; what can't be is left out.
pub(super) fn both(a: &Ways, b: &Ways) -> Ways {
    let mut ways = Ways::new();
    for one in a {
        'next: for other in b {
            let mut way = one.clone();
            for literal in other {
                if way.iter().any(|known| known.excludes(literal)) {
                    continue 'next;
                }
                if !way.iter().any(|known| known.says(literal)) {
                    way.push(literal.clone());
                }
            }
            if !ways.contains(&way) {
                ways.push(way);
            }
        }
    }
    ways.truncate(MOST_WAYS);
    ways
}

/// One of both.
pub(super) fn either(mut a: Ways, b: Ways) -> Ways {
    for way in b {
        if !a.contains(&way) {
            a.push(way);
        }
    }
    a.truncate(MOST_WAYS);
    a
}

/// What `word` is in a rule, if it names a part of the request.
pub(super) fn field(word: &str) -> Option<Field> {
    let inner = word.trim_start_matches('$');
    let inner = inner.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap_or(inner);
    let header = ["hdr(", "HDR(", "hdr_name("].iter().find_map(|call| inner.strip_prefix(call));
    if let Some(name) = header.and_then(|text| text.strip_suffix(')').or_else(|| text.strip_suffix(")[0]"))) {
        let is_agent = name.eq_ignore_ascii_case("User-Agent");
        return Some(if is_agent { Field::UserAgent } else { Field::Header(name.to_owned()) });
    }
    Some(match inner {
        "ua" => Field::UserAgent,
        "rU" | "ru{uri.user}" => Field::RequestUser,
        "rd" | "ru{uri.host}" | "ru{uri.domain}" => Field::RequestHost,
        "fU" | "fu{uri.user}" => Field::FromUser,
        "fd" | "fu{uri.host}" | "fu{uri.domain}" => Field::FromHost,
        "tU" | "tu{uri.user}" => Field::ToUser,
        "td" | "tu{uri.host}" | "tu{uri.domain}" => Field::ToHost,
        _ => return None,
    })
}

/// The test that a comparison makes, and whether it has to hold.
pub(super) fn compared(left: &str, sign: &str, right: &str) -> Option<(Test, bool)> {
    let holds = matches!(sign, "==" | "=" | "=~");
    if !holds && !matches!(sign, "!=" | "!~") {
        return None;
    }
    let by_expression = sign.ends_with('~');
    let is_null = matches!(right, "NULL" | "null" | "$null" | "");
    if let Some(field) = field(left) {
        let globs = match (by_expression, is_null) {
            (true, _) => pattern::globs(right)?,
            // What is absent matches no pattern, but a user.
            (false, true) => match field {
                Field::RequestUser | Field::FromUser | Field::ToUser => vec![pattern::literal("")],
                _ => return None,
            },
            (false, false) => vec![pattern::literal(right)],
        };
        return Some((Test::Field(field, globs), holds));
    }
    match left {
        "$rm" | "method" => {
            let methods = if by_expression { right.trim_matches(['^', '$', '(', ')']) } else { right };
            Some((Test::Method(methods.split('|').map(str::to_owned).collect()), holds))
        }
        "$si" | "src_ip" if !by_expression => Some((Test::Source(right.to_owned()), holds)),
        "$Ri" | "dst_ip" if !by_expression => Some((Test::Arrival(right.to_owned()), holds)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(left: &str, sign: &str, right: &str) -> Literal {
        let (test, holds) = compared(left, sign, right).expect("a test");
        Literal::new(test, holds, At::default(), "")
    }

    #[test]
    fn what_cannot_be_is_left_out() {
        let tts = vec![vec![literal("$ua", "==", "TTS")]];
        let asr = vec![vec![literal("$hdr(User-Agent)", "==", "ASR")]];
        let not_tts = vec![vec![literal("$ua", "!=", "TTS")]];
        assert_eq!(both(&tts, &asr), Ways::new());
        assert_eq!(both(&tts, &not_tts), Ways::new());
        assert_eq!(both(&tts, &tts), tts);
        assert_eq!(both(&asr, &not_tts).len(), 1);
        let invite = vec![vec![literal("$rm", "==", "INVITE")]];
        let not_some = vec![vec![literal("method", "!=", "INVITE")]];
        assert_eq!(both(&invite, &not_some), Ways::new());
    }

    #[test]
    fn a_result_has_three_values() {
        let failed = Outcomes::of("==", -1).expect("a comparison");
        let chosen = Outcomes::of(">", 0).expect("a comparison");
        let other = failed.not().and(chosen.not());
        assert_eq!(other, Outcomes { chosen: false, nobody: false, other: true });
    }
}
