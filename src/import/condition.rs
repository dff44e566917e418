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
    /// It is what an `if` has left over: a rule without it is the general one, not a guess.
    pub(super) is_rest: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Test {
    Method(Vec<String>),
    Field(Field, Vec<Glob>),
    /// One of these addresses or networks.
    Source(Vec<String>),
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
        Literal { test, holds, at, shown: shown.into(), is_rest: false }
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
                a.iter().chain(b).all(|one| !one.contains('/')) && !a.iter().any(|one| b.contains(one))
            }
            (Test::Source(a), Test::Source(b)) if self.holds != other.holds => {
                let (wanted, unwanted) = if self.holds { (a, b) } else { (b, a) };
                wanted.iter().all(|one| unwanted.contains(one))
            }
            (Test::Status(a), Test::Status(b)) if self.holds && other.holds => same_codes(a, b).is_empty(),
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
    bounded(ways)
}

/// What stands beyond [`MOST_WAYS`] is a question that no rule asks, which the report tells.
fn bounded(mut ways: Ways) -> Ways {
    if ways.len() > MOST_WAYS {
        ways.truncate(MOST_WAYS);
        let at = ways.last().and_then(|way| way.last()).map(|literal| literal.at).unwrap_or_default();
        let shown = format!("one of the conditions beyond the first {MOST_WAYS}");
        ways[MOST_WAYS - 1] = vec![Literal::new(Test::Unknown, true, at, shown)];
    }
    ways
}

/// The codes that both have; a class holds its codes.
pub(super) fn same_codes(a: &[String], b: &[String]) -> Vec<String> {
    let holds = |these: &[String], one: &String| {
        these.iter().any(|other| other == one || other.strip_suffix("xx").is_some_and(|class| one.starts_with(class)))
    };
    let mut same: Vec<String> = a.iter().filter(|one| holds(b, one)).cloned().collect();
    for one in b.iter().filter(|one| holds(a, one)) {
        if !same.contains(one) {
            same.push(one.clone());
        }
    }
    same
}

/// Ways that differ in their source alone are one with all these sources, and what no source may be is one question.
pub(super) fn gathered(ways: Ways) -> Ways {
    let mut all = Ways::new();
    for mut way in ways {
        let is_refused = |literal: &Literal| !literal.holds && matches!(literal.test, Test::Source(_));
        let is_said = |literal: &Literal| way.iter().any(|other| other.holds && other.excludes(&literal.not()));
        let needed: Vec<bool> = way.iter().map(|literal| !(is_refused(literal) && is_said(literal))).collect();
        let mut needed = needed.into_iter();
        way.retain(|_| needed.next().unwrap_or(true));
        if let Some(first) = way.iter().position(is_refused) {
            while let Some(next) = way.iter().rposition(is_refused).filter(|next| *next != first) {
                let other = way.remove(next);
                add_sources(&mut way[first], &other);
            }
        }
        let is_source = |literal: &Literal| literal.holds && matches!(literal.test, Test::Source(_));
        let alike = way.iter().position(is_source).and_then(|place| {
            let fits = |other: &&mut Vec<Literal>| {
                other.len() == way.len()
                    && (0..way.len())
                        .all(|at| if at == place { is_source(&other[at]) } else { other[at].says(&way[at]) })
            };
            all.iter_mut().find(fits).map(|other| (&mut other[place], place))
        });
        match alike {
            Some((literal, place)) => add_sources(literal, &way[place]),
            None => all.push(way),
        }
    }
    all
}

fn add_sources(literal: &mut Literal, other: &Literal) {
    if let (Test::Source(all), Test::Source(more)) = (&mut literal.test, &other.test) {
        let new: Vec<_> = more.iter().filter(|one| !all.contains(one)).cloned().collect();
        if !new.is_empty() {
            literal.shown = format!("{} || {}", literal.shown, other.shown);
        }
        all.extend(new);
    }
}

/// Those for which none of the ways holds.
pub(super) fn none_of(ways: &Ways) -> Ways {
    let all = vec![vec![]];
    ways.iter().fold(all, |so_far, way| {
        let fails = way.iter().map(|literal| vec![Literal { is_rest: true, ..literal.not() }]).collect();
        both(&so_far, &fails)
    })
}

/// The same, as what is left over.
pub(super) fn rest(mut ways: Ways) -> Ways {
    for literal in ways.iter_mut().flatten().filter(|literal| literal.test == Test::Unknown) {
        literal.is_rest = true;
    }
    ways
}

/// One of both.
pub(super) fn either(mut a: Ways, b: Ways) -> Ways {
    for way in b {
        if !a.contains(&way) {
            a.push(way);
        }
    }
    bounded(a)
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
        "$si" | "src_ip" if !by_expression => Some((Test::Source(vec![right.to_owned()]), holds)),
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
