//! What is wrong with destinations and sets, worst first.

use super::show::{name_of, why};
use crate::edge::http::{DestinationReport, SetReport};

/// How bad it is with a destination; the worst comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    /// It should have calls and can't.
    Unfit,
    /// Someone keeps calls away from it.
    Ordered,
    /// It has calls, but something about it is less than it could be.
    Doubtful,
    /// Nothing.
    None,
}

impl Trouble {
    pub(super) fn of(one: &DestinationReport) -> Self {
        let agent = one.agent.as_ref().is_some_and(|agent| agent.refuses.is_some());
        let full = one.max_sessions.is_some_and(|most| one.sessions >= u64::from(most));
        match (one.fit, one.order.order.as_str()) {
            (false, "ready") if agent => Trouble::Ordered,
            (false, "ready") => Trouble::Unfit,
            (false, _) => Trouble::Ordered,
            (true, _) if one.health != "up" || one.share_percent < 100 || one.penalty > 0 || full => Trouble::Doubtful,
            (true, _) => Trouble::None,
        }
    }
}

/// How bad it is with a set: whether nobody is fit, the worst of its destinations, and how many have it.
pub(super) fn of_set(set: &SetReport) -> (bool, Trouble, std::cmp::Reverse<usize>) {
    let worst = set.destinations.iter().map(Trouble::of).min().unwrap_or(Trouble::None);
    let count = set.destinations.iter().filter(|one| Trouble::of(one) == worst).count();
    (set.fit > 0, worst, std::cmp::Reverse(count))
}

/// What is wrong first with a set; none: nothing.
pub(super) fn first(set: &SetReport) -> Option<String> {
    if set.destinations.is_empty() {
        return Some("no destination is loaded".to_owned());
    }
    // Of those that are alike the first in the table.
    let worst = set.destinations.iter().min_by_key(|one| Trouble::of(one))?;
    let trouble = Trouble::of(worst);
    let wrong = set.destinations.iter().filter(|one| Trouble::of(one) != Trouble::None).count();
    let others = match wrong.saturating_sub(1) {
        0 => String::new(),
        others => format!("; {others} more"),
    };
    let of_it = || format!("{}: {}{others}", name_of(worst), words(worst, trouble));
    match (trouble, set.fit) {
        (Trouble::None, _) => None,
        (_, 0) => Some(format!("nobody is fit: {}", of_it())),
        _ if set.panicking => Some(format!("too few are fit, it panics: {}", of_it())),
        _ => Some(of_it()),
    }
}

fn words(one: &DestinationReport, trouble: Trouble) -> String {
    match trouble {
        Trouble::Unfit if one.health == "up" => one.fitness.clone(),
        Trouble::Doubtful if one.health == "up" && one.share_percent < 100 => {
            format!("gets {}% of its weight", one.share_percent)
        }
        Trouble::Doubtful if one.health == "up" && one.penalty > 0 => format!("flaps, penalty {}", one.penalty),
        Trouble::Doubtful if one.health == "up" => format!("{} sessions, all that it may have", one.sessions),
        Trouble::Doubtful | Trouble::Unfit => format!("{}, {}", one.health, why(one)),
        Trouble::Ordered | Trouble::None => why(one),
    }
}

#[cfg(test)]
mod tests {
    use super::super::show::tests::{destination, set};
    use super::*;

    fn unfit(uri: &str, order: &str) -> DestinationReport {
        let mut one = destination(uri, "");
        (one.fit, one.order.order) = (false, order.to_owned());
        one
    }

    fn down(uri: &str) -> DestinationReport {
        let why = "3 failed in a row".to_owned();
        DestinationReport { health: "down".to_owned(), why, address: "10.0.0.9:1".parse().ok(), ..unfit(uri, "ready") }
    }

    #[test]
    fn the_worst_is_told_first_with_how_many_have_it() {
        let fit = || destination("sip:10.0.0.1:7010", "10.0.0.1:7010");
        let slow = DestinationReport { share_percent: 40, ..fit() };
        let told = |all: Vec<DestinationReport>| {
            let count = all.iter().filter(|one| one.fit).count();
            first(&SetReport { fit: count, ..set(all) })
        };
        assert_eq!(told(vec![fit()]), None);
        assert_eq!(told(vec![]).as_deref(), Some("no destination is loaded"));
        assert_eq!(told(vec![fit(), slow.clone()]).as_deref(), Some("sip:10.0.0.1:7010: gets 40% of its weight"));
        let ordered = || unfit("sip:x", "drain");
        assert_eq!(told(vec![slow.clone(), ordered(), ordered()]).as_deref(), Some("sip:x: drain by table; 2 more"));
        let words = "sip:y (10.0.0.9:1): down, 3 failed in a row";
        let with = |others: &str| Some(format!("{words}; {others}"));
        assert_eq!(told(vec![slow, ordered(), down("sip:y")]), with("2 more"));
        assert_eq!(told(vec![ordered(), down("sip:y")]), with("1 more").map(|words| format!("nobody is fit: {words}")));
    }

    #[test]
    fn sets_come_by_their_trouble() {
        let fit = || destination("sip:10.0.0.1:7010", "10.0.0.1:7010");
        let empty = SetReport { fit: 0, ..set(vec![down("sip:x")]) };
        let half = SetReport { fit: 1, ..set(vec![fit(), down("sip:x")]) };
        let worse = SetReport { fit: 1, ..set(vec![fit(), down("sip:x"), down("sip:y")]) };
        let well = set(vec![fit()]);
        assert!(of_set(&empty) < of_set(&worse) && of_set(&worse) < of_set(&half) && of_set(&half) < of_set(&well));
    }
}
