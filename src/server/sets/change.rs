//! What a load would change, and whether that takes too much out to be done without a word of an operator.

use std::collections::BTreeMap;

use crate::edge::http::{ChangedField, PlannedChange};
use crate::engine::dispatch::{Row, RowState, SetId, Sets};
use crate::engine::flow::Listener;

/// What holds a change back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Guard {
    /// More of a set may not be taken out at once.
    pub(super) max_removed_percent: u8,
    /// Whether a set may be left without any destination.
    pub(super) allow_empty: bool,
}

/// Rows by what makes them the same over loads.
type Rows<'a> = BTreeMap<(SetId, &'a str), &'a Row>;

/// A row before and after; one of them may be missing.
type Pair<'a> = (SetId, &'a str, Option<&'a Row>, Option<&'a Row>);

fn rows(sets: &Sets) -> Rows<'_> {
    let rows = sets.0.iter().flat_map(|set| set.rows.iter().map(|row| ((set.id, row.uri.as_str()), row)));
    rows.collect()
}

/// Every row of either, with what it was and what it will be.
fn pairs<'a>(old: &'a Sets, new: &'a Sets) -> Vec<Pair<'a>> {
    let (old, new) = (rows(old), rows(new));
    let gone = old.iter().filter(|(id, _)| !new.contains_key(*id)).map(|(id, row)| (id.0, id.1, Some(*row), None));
    let there = new.iter().map(|(id, row)| (id.0, id.1, old.get(id).copied(), Some(*row)));
    let mut all: Vec<_> = gone.chain(there).collect();
    all.sort_by_key(|(set, uri, ..)| (*set, *uri));
    all
}

/// What differs, by set and URI, in words of the table.
pub(super) fn changes(old: &Sets, new: &Sets, listeners: &[Listener]) -> Vec<PlannedChange> {
    let change = |(set, uri, before, after): Pair<'_>| {
        let (kind, fields) = match (before, after) {
            (None, _) => ("added", Vec::new()),
            (Some(_), None) => ("removed", Vec::new()),
            (Some(before), Some(after)) => ("changed", fields(before, after, listeners)),
        };
        let is_one = kind != "changed" || !fields.is_empty();
        is_one.then(|| PlannedChange { change: kind.to_owned(), set: set.0, uri: uri.to_owned(), fields, sessions: 0 })
    };
    pairs(old, new).into_iter().filter_map(change).collect()
}

/// What of a row is another.
fn fields(before: &Row, after: &Row, listeners: &[Listener]) -> Vec<ChangedField> {
    let socket = |row: &Row| {
        let found = row.socket.and_then(|id| listeners.iter().find(|listener| listener.id == id));
        found.map(Listener::name).unwrap_or_default()
    };
    let state = |row: &Row| match row.state {
        RowState::Active => "0 (active)",
        RowState::Inactive => "1 (inactive)",
        RowState::Probing => "2 (probing)",
    };
    let all = |row: &Row| {
        [
            ("socket", socket(row)),
            ("state", state(row).to_owned()),
            ("weight", row.weight.to_string()),
            ("priority", row.priority.to_string()),
            ("attrs", row.attrs.clone()),
            ("description", row.description.clone()),
        ]
    };
    let both = all(before).into_iter().zip(all(after));
    let differing = both.filter(|((_, before), (_, after))| before != after);
    differing.map(|((field, from), (_, to))| ChangedField { field: field.to_owned(), from, to }).collect()
}

/// Why the change is not to be made without force: for each set of which it takes out the last destination or too many.
pub(super) fn too_much(old: &Sets, new: &Sets, guard: Guard) -> Vec<String> {
    // 2 is down to begin with, and may stay so.
    let serves = |row: &Row| row.state == RowState::Active;
    // Of each set: how many could have calls, how many of them are taken out, how many can have calls then.
    let mut sets: BTreeMap<SetId, (usize, usize, usize)> = BTreeMap::new();
    for (set, _, before, after) in pairs(old, new) {
        let (had, has) = (before.is_some_and(serves), after.is_some_and(serves));
        let (before, out, after) = sets.entry(set).or_default();
        *before += usize::from(had);
        *out += usize::from(had && !has);
        *after += usize::from(has);
    }
    let before: usize = sets.values().map(|(before, ..)| before).sum();
    if new.0.iter().all(|set| set.rows.is_empty()) && before > 0 {
        return if guard.allow_empty { Vec::new() } else { vec!["no row is left".to_owned()] };
    }
    let judged = sets.into_iter().filter_map(|(set, (before, out, after))| match (before, out, after) {
        (0, ..) | (_, 0, _) => None,
        (_, _, 0) if guard.allow_empty => None,
        (_, 1, 0) => Some(format!("the last destination of set {} is taken out", set.0)),
        (_, _, 0) => Some(format!("all {out} destinations of set {} are taken out", set.0)),
        _ if out * 100 > before * usize::from(guard.max_removed_percent) => Some(format!(
            "{out} of {before} destinations of set {} are taken out, more than max_removed_percent of {}",
            set.0, guard.max_removed_percent
        )),
        _ => None,
    });
    judged.collect()
}

/// The sets of a version with the states that the rows have now: no version takes an order back.
pub(super) fn with_states(version: &Sets, now: &Sets) -> Sets {
    let now = rows(now);
    let mut sets = version.clone();
    for set in &mut sets.0 {
        for row in &mut set.rows {
            row.state = now.get(&(set.id, row.uri.as_str())).map_or(row.state, |now| now.state);
        }
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::dispatch::Set;

    const GUARD: Guard = Guard { max_removed_percent: 50, allow_empty: false };

    fn row(number: i64) -> Row {
        Row { row: number, ..Row::new(format!("sip:10.0.0.{number}"), Row::UNRESOLVED) }
    }

    fn sets(rows: impl IntoIterator<Item = Row>) -> Sets {
        Sets(vec![Set { id: SetId(19), rows: rows.into_iter().collect() }])
    }

    fn inactive(number: i64) -> Row {
        Row { state: RowState::Inactive, ..row(number) }
    }

    #[test]
    fn a_plan_names_what_is_added_removed_and_changed() {
        let heavier = Row { weight: 3, attrs: "pstn=9".to_owned(), row: 77, ..row(2) };
        let plan = changes(&sets([row(1), row(2), row(3)]), &sets([heavier, row(3), row(4)]), &[]);
        let told: Vec<_> = plan.iter().map(|one| (one.change.as_str(), one.uri.as_str(), one.fields.len())).collect();
        assert_eq!(
            told,
            [("removed", "sip:10.0.0.1", 0), ("changed", "sip:10.0.0.2", 2), ("added", "sip:10.0.0.4", 0)]
        );
        let weight = ChangedField { field: "weight".to_owned(), from: "1".to_owned(), to: "3".to_owned() };
        assert_eq!(plan[1].fields[0], weight);
        // Another id is no change of the destination.
        assert_eq!(changes(&sets([row(1)]), &sets([Row { row: 9, ..row(1) }]), &[]), []);
    }

    #[test]
    fn the_last_and_too_many_are_not_taken_out_without_force() {
        let judged = |old: Sets, new: Sets| too_much(&old, &new, GUARD);
        let none: [String; 0] = [];
        assert_eq!(judged(sets([row(1), row(2)]), sets([row(1)])), none, "half of them is not more than half");
        assert_eq!(judged(sets([row(1), row(2)]), sets([row(1), inactive(2)])), none);
        let last = "the last destination of set 19 is taken out";
        assert_eq!(judged(sets([row(1)]), sets([])), ["no row is left"]);
        assert_eq!(judged(sets([row(1)]), Sets::default()), ["no row is left"]);
        assert_eq!(judged(sets([row(1), inactive(2)]), sets([inactive(1), inactive(2)])), [last]);
        let all = "all 2 destinations of set 19 are taken out";
        assert_eq!(judged(sets([row(1), row(2)]), sets([inactive(1)])), [all]);
        assert_eq!(
            judged(sets((1..=3).map(row)), sets([row(1), row(4), row(5)])),
            ["2 of 3 destinations of set 19 are taken out, more than max_removed_percent of 50"],
        );
        assert_eq!(judged(sets([inactive(1)]), sets([])), none, "it had no calls anyway");
        assert_eq!(judged(Sets::default(), sets([row(1)])), none);
    }

    #[test]
    fn a_set_may_be_emptied_where_that_is_allowed_and_no_more_than_that() {
        let guard = Guard { allow_empty: true, ..GUARD };
        assert!(too_much(&sets([row(1), row(2)]), &sets([]), guard).is_empty());
        assert_eq!(too_much(&sets((1..=3).map(row)), &sets([row(1)]), guard).len(), 1);
        let all = Guard { max_removed_percent: 100, ..GUARD };
        assert!(too_much(&sets((1..=3).map(row)), &sets([row(1)]), all).is_empty());
        assert_eq!(too_much(&sets((1..=3).map(row)), &sets([]), all).len(), 1);
    }

    #[test]
    fn a_version_does_not_take_states_back() {
        let version = sets([row(1), inactive(2), row(3)]);
        let now = sets([inactive(1), row(2)]);
        let states: Vec<_> = with_states(&version, &now).0[0].rows.iter().map(|row| row.state).collect();
        assert_eq!(states, [RowState::Inactive, RowState::Active, RowState::Active]);
    }
}
