//! What an agent's line means: the words of HAProxy's `agent-check` (its configuration manual, section 5.2).

/// Bytes of an answer that are read: a line is short, and its sender is not trusted.
pub const LONGEST_LINE: usize = 1024;
/// Percent of a weight that an agent may ask for: ten times what people wrote.
pub const MOST_PERCENT: u32 = 1000;
/// Letters of a line or a reason that are shown.
const SHOWN: usize = 120;

/// Why a destination wants no new session, in its agent's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AgentWord {
    /// It keeps its sessions and takes no new one.
    Drain,
    /// It is out of service.
    Maint,
    /// It does not work.
    Down,
    /// It has found itself at fault.
    Fail,
    /// Somebody has stopped it.
    Stopped,
}

impl AgentWord {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            AgentWord::Drain => "drain",
            AgentWord::Maint => "maint",
            AgentWord::Down => "down",
            AgentWord::Fail => "fail",
            AgentWord::Stopped => "stopped",
        }
    }
}

/// What a destination wants, by all that its agent has said: what a line does not name stays as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Percent of its weight; at most [`MOST_PERCENT`].
    pub share: u32,
    /// Sessions at a time; none: as many as its limits allow.
    pub sessions: Option<u32>,
    /// `drain` or `maint`, until `ready`.
    pub order: Option<AgentWord>,
    /// `down`, `fail` or `stopped`, until `up`.
    pub state: Option<AgentWord>,
    /// What stood behind a `#` beside one of those; "" if nothing did.
    pub reason: String,
}

impl Default for Wish {
    /// All that it may have.
    fn default() -> Self {
        Wish { share: 100, sessions: None, order: None, state: None, reason: String::new() }
    }
}

/// How much of a line was understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Understood {
    pub(super) known: u32,
    pub(super) unknown: u32,
}

impl Wish {
    /// Why it wants no new session; none: it takes them.
    pub fn refusal(&self) -> Option<AgentWord> {
        self.state.or(self.order)
    }

    /// Takes the first line of an answer.
    pub(super) fn take(&mut self, body: &[u8]) -> Understood {
        let line = first_line(body);
        let (words, comment) = match line.iter().position(|&byte| byte == b'#') {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, &[][..]),
        };
        let mut understood = Understood::default();
        let mut refuses = false;
        for word in words.split(|&byte| is_between(byte)).filter(|word| !word.is_empty()) {
            let word = String::from_utf8_lossy(word).to_ascii_lowercase();
            match self.take_word(&word) {
                true => understood.known += 1,
                false => understood.unknown += 1,
            }
            refuses |= refusal(&word).is_some();
        }
        if refuses {
            self.reason = shown(comment);
        }
        if self.refusal().is_none() {
            self.reason.clear();
        }
        understood
    }

    /// Whether it is one of the words.
    fn take_word(&mut self, word: &str) -> bool {
        if let Some(word) = refusal(word) {
            match word {
                AgentWord::Drain | AgentWord::Maint => self.order = Some(word),
                AgentWord::Down | AgentWord::Fail | AgentWord::Stopped => self.state = Some(word),
            }
            return true;
        }
        match word {
            "ready" => self.order = None,
            "up" => self.state = None,
            _ => match (percent(word), word.strip_prefix("maxconn:").and_then(number)) {
                (Some(share), _) => self.share = share.min(MOST_PERCENT),
                // As HAProxy has it, 0 is no limit.
                (None, Some(sessions)) => self.sessions = (sessions > 0).then_some(sessions),
                (None, None) => return false,
            },
        }
        true
    }
}

fn refusal(word: &str) -> Option<AgentWord> {
    match word {
        "drain" => Some(AgentWord::Drain),
        "maint" => Some(AgentWord::Maint),
        "down" => Some(AgentWord::Down),
        "fail" | "failed" => Some(AgentWord::Fail),
        "stopped" => Some(AgentWord::Stopped),
        _ => None,
    }
}

/// `75%`; `weight:75` and `weight:75%` say the same.
fn percent(word: &str) -> Option<u32> {
    match word.strip_prefix("weight:") {
        Some(share) => number(share.strip_suffix('%').unwrap_or(share)),
        None => number(word.strip_suffix('%')?),
    }
}

/// Digits alone: `u32::from_str` would take a sign.
fn number(digits: &str) -> Option<u32> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

fn is_between(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b',')
}

/// Without its end. Of a line that is too long the last word, which may be cut in two and say something else, is left out.
fn first_line(body: &[u8]) -> &[u8] {
    let start = &body[..body.len().min(LONGEST_LINE)];
    match start.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        Some(end) => &start[..end],
        None if body.len() <= LONGEST_LINE => start,
        None => &start[..start.iter().rposition(|&byte| is_between(byte)).unwrap_or(0)],
    }
}

/// The first line for people, not too much of it and nothing that could move a terminal's cursor.
pub(super) fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(first_line(body));
    text.trim().chars().take(SHOWN).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wanted after these answers, and how much of the last was understood.
    fn after(bodies: &[&str]) -> (Wish, Understood) {
        let mut wish = Wish::default();
        let understood = bodies.iter().map(|body| wish.take(body.as_bytes())).last();
        (wish, understood.unwrap_or_default())
    }

    fn of(body: &str) -> Wish {
        after(&[body]).0
    }

    #[test]
    fn the_examples_of_haproxys_manual_are_understood() {
        assert_eq!(of("75%\n").share, 75);
        assert_eq!(of("maxconn:30\n").sessions, Some(30));
        let all = of("up ready 75%,maxconn:30\t# all is well\r\nnot this");
        assert_eq!(all, Wish { share: 75, sessions: Some(30), ..Wish::default() });
        for (body, word, reason) in [
            ("drain", AgentWord::Drain, ""),
            ("maint\n", AgentWord::Maint, ""),
            ("down", AgentWord::Down, ""),
            ("down#no licence", AgentWord::Down, "no licence"),
            ("fail # voice 3 is missing\n", AgentWord::Fail, "voice 3 is missing"),
            ("failed", AgentWord::Fail, ""),
            ("STOPPED #by hand", AgentWord::Stopped, "by hand"),
        ] {
            let wish = of(body);
            assert_eq!((wish.refusal(), wish.reason.as_str()), (Some(word), reason), "{body}");
        }
    }

    #[test]
    fn what_a_line_does_not_name_stays_and_each_word_is_lifted_by_its_own_opposite() {
        let (wish, _) = after(&["drain 50% maxconn:3", "75%"]);
        assert_eq!((wish.refusal(), wish.share, wish.sessions), (Some(AgentWord::Drain), 75, Some(3)));
        assert_eq!(after(&["drain", "up"]).0.refusal(), Some(AgentWord::Drain));
        assert_eq!(after(&["drain#x", "ready"]).0, Wish::default());
        assert_eq!(after(&["down", "ready"]).0.refusal(), Some(AgentWord::Down));
        assert_eq!(after(&["down#x", "Up"]).0, Wish::default());
        assert_eq!(after(&["drain down", "up"]).0.refusal(), Some(AgentWord::Drain));
        assert_eq!(after(&["down#x", "75%#y"]).0.reason, "x", "it is the reason of that word");
        assert_eq!(after(&["maxconn:3", "maxconn:0"]).0.sessions, None, "HAProxy's 0 is no limit");
        assert_eq!(of("up down").refusal(), Some(AgentWord::Down), "the last word counts");
    }

    #[test]
    fn percentages_may_be_more_than_a_hundred_but_not_any_number() {
        for (body, share) in
            [("0%", 0), ("100%", 100), ("250%", 250), ("99999%", MOST_PERCENT), ("weight:50", 50), ("Weight:50%", 50)]
        {
            assert_eq!(of(body).share, share, "{body}");
        }
        for body in ["%", "75", "-5%", "+5%", "7.5%", "99999999999%", "5%%", "weight:", "weight:x", "75 %"] {
            assert_eq!(of(body), Wish::default(), "{body}");
        }
    }

    #[test]
    fn unknown_words_are_counted_and_change_nothing() {
        let told = |body: &str| {
            let (wish, Understood { known, unknown }) = after(&[body]);
            (wish.share, known, unknown)
        };
        assert_eq!(told("hello 50% maxconn: maxconn:x maxconn:-1 sideways"), (50, 1, 5));
        assert_eq!(told(""), (100, 0, 0));
        assert_eq!(told("# drain"), (100, 0, 0));
        assert_eq!(told("\n50%"), (100, 0, 0), "the first line alone");
        assert_eq!(told(" ,\t, 50% ,"), (50, 1, 0));
        let mut wish = Wish::default();
        assert_eq!(wish.take(b"\xff\xfe \0 50%"), Understood { known: 1, unknown: 2 });
    }

    #[test]
    fn a_long_answer_is_cut_between_words() {
        let long = |end: &str| format!("{}{end}", "x ".repeat(LONGEST_LINE / 2 - 4));
        let cut = long("maxconn:300");
        assert!(cut.len() > LONGEST_LINE);
        assert_eq!(of(&cut).sessions, None, "maxconn: 3 or 30 was never said");
        assert_eq!(of(&long("50% maxconn:300")).share, 50);
        assert_eq!(of(&"7".repeat(5000)), Wish::default());
        assert_eq!(of(&format!("50%\n{}", "x".repeat(5000))).share, 50);
    }

    #[test]
    fn what_is_shown_is_short_and_plain() {
        assert_eq!(shown(b" down #a\x1b[2Jb\t\xff \r\nrest"), "down #a\u{fffd}[2Jb\u{fffd}\u{fffd}");
        assert_eq!(shown("ä".repeat(500).as_bytes()).chars().count(), SHOWN);
        assert_eq!(of("down#\x07").reason, "\u{fffd}");
    }
}
