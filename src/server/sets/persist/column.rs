//! The `state` column as this node knows it: what was last read or written there, what of a reading is news, what of it is an
//! order, and what is to be written.
//!
//! The engine never sees what stands there: to it all rows are active, so that what Tandem itself has written is no word of the
//! table's, and an order stands beside the same row on every node.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::edge::store::states::States;
use crate::engine::dispatch::{Fitness, Health, Order, Remembered, RowState, SetId, Sets, Standing, Why};
use crate::engine::snapshot::{DestinationView, Snapshot};

/// Who gives the orders of the column.
pub(super) const DATABASE: &str = "database";
/// When orders were given that a node finds in rows which are new to it, after 1970: any that another node tells is newer.
const LONG_AGO: Duration = Duration::from_secs(1);

/// A row: its set, and its `destination` column.
pub(super) type RowId = (SetId, String);

/// The column.
#[derive(Debug, Default)]
pub(super) struct Column {
    rows: BTreeMap<RowId, Known>,
    /// Those that begin down, once they are in place.
    down: Vec<RowId>,
}

/// The state of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    /// What was last read or written.
    last: RowState,
    since: Since,
    /// What else may be read until then, since this node has written: what stood there before, or was to stand there.
    also: Option<(RowState, Instant)>,
    /// Whether the last reading had the row.
    is_there: bool,
}

/// What of the last reading is still to be thought of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    /// Nothing.
    Settled,
    /// The node has not had the row in place since it started; what the disk knew of it.
    Begins(Option<RowState>),
    /// Somebody has changed it; what it was before.
    Changed(RowState),
}

/// What somebody has said by the column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It is out of service, or in service again.
    Order(Order),
    /// It is down to begin with.
    Down,
}

/// A destination as this node sees it, all its addresses together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) order: Order,
    /// All addresses are down.
    pub(super) is_down: bool,
    /// Nothing is known of the health of any.
    pub(super) is_unknown: bool,
}

/// Destinations by row.
pub(super) type AllSeen<'a> = HashMap<(SetId, &'a str), Seen>;

impl Seen {
    /// What is to stand in the column.
    pub(super) fn wanted(self) -> RowState {
        match self {
            Seen { order: Order::Drain | Order::Maint, .. } => RowState::Inactive,
            Seen { order: Order::Ready, is_down: true, .. } => RowState::Probing,
            Seen { order: Order::Ready, is_down: false, .. } => RowState::Active,
        }
    }

    /// All destinations of a snapshot.
    pub(super) fn all(snapshot: &Snapshot) -> AllSeen<'_> {
        let mut all = AllSeen::new();
        for (set, one) in snapshot.sets.iter().flat_map(|set| set.destinations.iter().map(|one| (set.id, one))) {
            let (is_down, is_unknown) = (is_down(one), one.health == Health::Unknown);
            let seen = all.entry((set, one.uri.as_str()));
            let seen = seen.or_insert(Seen { order: one.standing.order, is_down: true, is_unknown: true });
            seen.is_down &= is_down;
            seen.is_unknown &= is_unknown;
        }
        all
    }
}

/// Whether the nodes together hold it for down. Who has sat its time out is down until a call has shown otherwise; who has no
/// room or no address is not.
fn is_down(one: &DestinationView) -> bool {
    let half_open = matches!(one.why, Why::HalfOpen { .. });
    match one.fitness {
        Fitness::Outvoted | Fitness::OnTrial => true,
        Fitness::Unwell(health) => health == Health::Down,
        // These stand before health and hide it.
        Fitness::Agent(_) | Fitness::Ordered(_) => half_open || one.health == Health::Down,
        Fitness::Fit | Fitness::Full => half_open,
        Fitness::Unresolved => false,
    }
}

/// What a row says that had another state before (none: it is new here), beside what stands. 0 ends what 1 has begun, and
/// nothing else: who writes 2 or 0 because of health alone ends nobody's order.
fn said(before: Option<RowState>, now: RowState, seen: Seen) -> Option<Said> {
    let is_ready = seen.order == Order::Ready;
    match now {
        RowState::Inactive if is_ready => Some(Said::Order(Order::Maint)),
        RowState::Active if !is_ready && before == Some(RowState::Inactive) => Some(Said::Order(Order::Ready)),
        RowState::Probing if is_ready && seen.is_unknown => Some(Said::Down),
        RowState::Inactive | RowState::Active | RowState::Probing => None,
    }
}

/// The order of a row that says so.
pub(super) fn standing(order: Order, state: RowState, at: SystemTime) -> Standing {
    let reason = format!("state is {}", state as u8);
    Standing { order, by: DATABASE.to_owned(), reason, at, deadline: None }
}

impl Column {
    /// What an earlier start knew.
    pub(super) fn of(states: States) -> Self {
        let known = |last| Known { last, since: Since::Begins(Some(last)), also: None, is_there: false };
        Column { rows: states.into_iter().map(|(row, last)| (row, known(last))).collect(), down: Vec::new() }
    }

    /// What the next start is to know: of what was not thought of to the end, what was before.
    pub(super) fn states(&self) -> States {
        let state = |known: &Known| match known.since {
            Since::Settled => Some(known.last),
            Since::Begins(before) => before,
            Since::Changed(before) => Some(before),
        };
        self.rows.iter().filter_map(|(row, known)| Some((row.clone(), state(known)?))).collect()
    }

    /// Whether it has rows of that set.
    pub(super) fn has(&self, set: SetId) -> bool {
        self.rows.range((set, String::new())..).next().is_some_and(|((first, _), _)| *first == set)
    }

    /// Takes what was read.
    pub(super) fn read(&mut self, sets: &Sets, now: Instant) {
        self.rows.values_mut().for_each(|known| known.is_there = false);
        for (set, row) in sets.0.iter().flat_map(|set| set.rows.iter().map(|row| (set.id, row))) {
            let new = || Known { last: row.state, since: Since::Begins(None), also: None, is_there: true };
            let known = self.rows.entry((set, row.uri.clone())).or_insert_with(new);
            known.is_there = true;
            known.read(row.state, now);
        }
    }

    /// The orders of rows that are about to be placed, and were not before, into what is remembered of them.
    pub(super) fn begin(&mut self, sets: &Sets, remembered: &mut Vec<Remembered>) -> Vec<(RowId, Standing)> {
        let mut placed: HashMap<(SetId, &str), Vec<_>> = HashMap::new();
        for (set, row) in sets.0.iter().flat_map(|set| set.rows.iter().map(|row| (set.id, row))) {
            placed.entry((set, row.uri.as_str())).or_default().push(row.address);
        }
        self.rows.retain(|(set, uri), known| known.is_there || placed.contains_key(&(*set, uri.as_str())));
        let mut orders = Vec::new();
        for (id @ (set, uri), known) in &mut self.rows {
            let (Since::Begins(before), Some(addresses)) = (known.since, placed.get(&(*set, uri.as_str()))) else {
                continue;
            };
            known.since = Since::Settled;
            let stands = remembered.iter().filter(|one| (one.set, &one.uri) == (*set, uri));
            let stands = stands.filter_map(|one| one.standing.as_ref()).next();
            let order = stands.map_or(Order::Ready, |stands| stands.order);
            // What stood there before is behind what is remembered, unless nothing is: an order may not get lost.
            if before == Some(known.last) && (stands.is_some() || known.last != RowState::Inactive) {
                continue;
            }
            match said(before, known.last, Seen { order, is_down: false, is_unknown: true }) {
                Some(Said::Order(order)) => {
                    // Newer than what this node knew, and older than what others were told since.
                    let at = stands.map_or(UNIX_EPOCH + LONG_AGO, |stands| stands.at + Duration::from_millis(1));
                    let order = standing(order, known.last, at);
                    addresses.iter().for_each(|address| give(remembered, id, *address, &order));
                    orders.push((id.clone(), order));
                }
                Some(Said::Down) => self.down.push(id.clone()),
                None => {}
            }
        }
        orders
    }

    /// Those that begin down and are in place now.
    pub(super) fn take_down(&mut self) -> Vec<RowId> {
        std::mem::take(&mut self.down)
    }

    /// What somebody has said since, also of rows that are new in the table and were in place all the while; nothing if it is
    /// not this node's to hear it. It stays, since it may be so later, until what is wanted is what stands there.
    pub(super) fn settle(&mut self, seen: &AllSeen<'_>, is_writer: bool) -> Vec<(RowId, Said, RowState)> {
        let mut news = Vec::new();
        for (id @ (set, uri), known) in &mut self.rows {
            let before = match known.since {
                Since::Settled => continue,
                Since::Begins(before) => before,
                Since::Changed(before) => Some(before),
            };
            let Some(seen) = seen.get(&(*set, uri.as_str())) else { continue };
            let is_known = seen.wanted() == known.last;
            if is_known || is_writer {
                known.since = Since::Settled;
            }
            if !is_known && is_writer {
                news.extend(said(before, known.last, *seen).map(|said| (id.clone(), said, known.last)));
            }
        }
        news
    }

    /// What is to be written.
    pub(super) fn unwritten(&self, seen: &AllSeen<'_>) -> Vec<(RowId, RowState)> {
        let settled = self.rows.iter().filter(|(_, known)| known.is_there && known.since == Since::Settled);
        let wanted = settled.filter_map(|(id, known)| {
            let wanted = seen.get(&(id.0, id.1.as_str()))?.wanted();
            (wanted != known.last).then(|| (id.clone(), wanted))
        });
        wanted.collect()
    }

    /// These are being written: until then either state may be read.
    pub(super) fn writes(&mut self, states: &[(RowId, RowState)], until: Instant) {
        for (id, state) in states {
            if let Some(known) = self.rows.get_mut(id) {
                known.also = Some((*state, until));
            }
        }
    }

    /// These were written: until then what stood there before may still be read.
    pub(super) fn has_written(&mut self, states: &[(RowId, RowState)], until: Instant) {
        for (id, state) in states {
            if let Some(known) = self.rows.get_mut(id) {
                known.also = Some((std::mem::replace(&mut known.last, *state), until));
            }
        }
    }
}

impl Known {
    fn read(&mut self, state: RowState, now: Instant) {
        if self.also.is_some_and(|(_, until)| until <= now) {
            self.also = None;
        }
        if state == self.last || self.also.is_some_and(|(also, _)| also == state) {
            return;
        }
        let before = std::mem::replace(&mut self.last, state);
        self.since = match self.since {
            Since::Settled => Since::Changed(before),
            Since::Changed(before) if before == state => Since::Settled,
            since @ (Since::Changed(_) | Since::Begins(_)) => since,
        };
    }
}

fn give(remembered: &mut Vec<Remembered>, (set, uri): &RowId, address: std::net::SocketAddr, order: &Standing) {
    let standing = Some(order.clone());
    match remembered.iter_mut().find(|one| (one.set, &one.uri, one.address) == (*set, uri, address)) {
        Some(one) => one.standing = standing,
        None => remembered.push(Remembered { set: *set, uri: uri.clone(), address, standing, kept: None }),
    }
}

/// Whether the node writes, among others: the first by name of those whose source is well, or of all if none is.
pub(super) fn is_writer<'a>(own: (&'a str, bool), mut others: impl Iterator<Item = (&'a str, bool)>) -> bool {
    let rank = |(name, is_well): (&'a str, bool)| (!is_well, name);
    others.all(|other| rank(own) <= rank(other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::dispatch::{Row, Set};

    use Order::{Drain, Maint, Ready};
    use RowState::{Active, Inactive, Probing};

    const SET: SetId = SetId(19);
    const URI: &str = "sip:10.0.0.1";
    const TTL: Duration = Duration::from_secs(10);

    fn sets(state: RowState) -> Sets {
        let row = Row { state, ..Row::new(URI.to_owned(), ([10, 0, 0, 1], 5060).into()) };
        Sets(vec![Set { id: SET, rows: vec![row] }])
    }

    fn id() -> RowId {
        (SET, URI.to_owned())
    }

    fn seen(order: Order, is_down: bool) -> AllSeen<'static> {
        [((SET, URI), Seen { order, is_down, is_unknown: !is_down })].into()
    }

    /// A column of one row that is in place, with that state.
    fn placed(state: RowState, now: Instant) -> Column {
        let mut column = Column::of([(id(), state)].into());
        column.read(&sets(state), now);
        column.begin(&sets(Active), &mut vec![remembered(Ready)]);
        column
    }

    fn remembered(order: Order) -> Remembered {
        let (by, reason, at) =
            ("ann".to_owned(), "a new disk".to_owned(), UNIX_EPOCH + Duration::from_secs(1_790_000_000));
        let standing = Some(Standing { order, by, reason, at, deadline: None });
        Remembered { set: SET, uri: URI.to_owned(), address: ([10, 0, 0, 1], 5060).into(), standing, kept: None }
    }

    #[test]
    fn an_order_stands_before_health_and_all_addresses_must_be_down() {
        let wanted = |order, is_down| Seen { order, is_down, is_unknown: false }.wanted();
        let all = Order::ALL.map(|order| [wanted(order, false), wanted(order, true)]);
        assert_eq!(all, [[Active, Probing], [Inactive; 2], [Inactive; 2]]);
    }

    #[test]
    fn what_is_read_means_what_it_does_beside_what_was_and_what_stands() {
        let now = Instant::now();
        let (out, back, down) = (Some(Said::Order(Maint)), Some(Said::Order(Ready)), Some(Said::Down));
        for (before, read, order, is_down, said) in [
            // What stands there is what is wanted.
            (Active, Inactive, Drain, false, None),
            (Active, Inactive, Maint, true, None),
            (Inactive, Active, Ready, false, None),
            (Active, Probing, Ready, true, None),
            // A hand.
            (Active, Inactive, Ready, false, out),
            (Probing, Inactive, Ready, true, out),
            (Inactive, Active, Maint, false, back),
            (Inactive, Active, Drain, true, back),
            (Active, Probing, Ready, false, down),
            // 0 ends what 1 has begun and nothing else, and 2 ends no order.
            (Probing, Active, Drain, false, None),
            (Probing, Active, Ready, true, None),
            (Inactive, Probing, Drain, false, None),
        ] {
            let case = format!("{before:?} {read:?} {order:?} {is_down}");
            let seen = seen(order, is_down);
            let mut column = placed(before, now);
            assert_eq!(column.settle(&seen, true), [], "{case}");
            column.read(&sets(read), now);
            let told: Vec<_> = said.map(|said| (id(), said, read)).into_iter().collect();
            assert_eq!(column.settle(&seen, true), told, "{case}");
            assert_eq!(column.settle(&seen, true), [], "once: {case}");
            // Who does not write hears nothing, and remembers it for the time when it may.
            let mut other = placed(before, now);
            other.read(&sets(read), now);
            assert_eq!(other.settle(&seen, false), [], "{case}");
            assert_eq!(other.settle(&seen, true), told, "{case}");
        }
    }

    #[test]
    fn a_health_that_is_known_is_not_made_worse_by_a_2() {
        let now = Instant::now();
        let up: AllSeen<'_> = [((SET, URI), Seen { order: Ready, is_down: false, is_unknown: false })].into();
        let mut column = placed(Active, now);
        column.read(&sets(Probing), now);
        assert_eq!(column.settle(&up, true), []);
        assert_eq!(column.unwritten(&up), [(id(), Active)]);
    }

    #[test]
    fn what_another_node_has_settled_is_no_news_to_the_next_writer() {
        let now = Instant::now();
        let mut column = placed(Active, now);
        column.read(&sets(Inactive), now);
        assert_eq!(column.settle(&seen(Ready, false), false), []);
        // The order of the node that writes has come.
        assert_eq!(column.settle(&seen(Maint, false), false), []);
        assert_eq!(column.settle(&seen(Ready, false), true), []);
        // Nor is what somebody has taken back.
        column.read(&sets(Active), now);
        column.read(&sets(Inactive), now);
        assert_eq!(column.settle(&seen(Maint, false), true), []);
    }

    #[test]
    fn what_differs_is_written_once_and_what_stood_there_before_is_no_news_for_a_while() {
        let now = Instant::now();
        let drained = seen(Drain, false);
        let mut column = placed(Active, now);
        assert_eq!(column.unwritten(&seen(Ready, false)), []);
        let batch = column.unwritten(&drained);
        assert_eq!(batch, [(id(), Inactive)]);
        // While it is written either may be read, and it is written again if that fails.
        column.writes(&batch, now + TTL);
        for state in [Active, Inactive, Active] {
            column.read(&sets(state), now);
            assert_eq!((column.settle(&drained, true), column.unwritten(&drained)), (vec![], batch.clone()));
        }
        column.has_written(&batch, now + TTL);
        column.read(&sets(Active), now + TTL / 2);
        assert_eq!((column.settle(&drained, true), column.unwritten(&drained)), (vec![], vec![]));
        column.read(&sets(Active), now + TTL);
        assert_eq!(column.settle(&drained, true), [(id(), Said::Order(Ready), Active)], "a hand");
    }

    #[test]
    fn a_row_that_is_new_begins_as_the_table_says_and_an_order_of_before_stands() {
        let now = Instant::now();
        let begins = |disk: Option<RowState>, read, order: Option<Order>| {
            let mut column = Column::of(disk.map(|state| (id(), state)).into_iter().collect());
            column.read(&sets(read), now);
            let mut known: Vec<_> = order.map(remembered).into_iter().collect();
            let orders = column.begin(&sets(Active), &mut known);
            assert_eq!((column.begin(&sets(Active), &mut known), column.states()), (vec![], [(id(), read)].into()));
            let given = orders.first().map(|(_, standing)| standing.clone());
            assert!(given.is_none() || known[0].standing == given);
            (given.map(|given| (given.order, given.at)), !column.take_down().is_empty())
        };
        let (ago, later) = (UNIX_EPOCH + LONG_AGO, remembered(Ready).standing.expect("it has one").at);
        let later = later + Duration::from_millis(1);
        for (disk, read, order, said) in [
            (None, Active, None, (None, false)),
            (None, Inactive, None, (Some((Maint, ago)), false)),
            (None, Probing, None, (None, true)),
            // The mode is new, and what was ordered by hand is to be written.
            (None, Active, Some(Drain), (None, false)),
            (None, Inactive, Some(Drain), (None, false)),
            (None, Inactive, Some(Ready), (Some((Maint, later)), false)),
            // What this node wrote itself, or was about to write over.
            (Some(Inactive), Inactive, Some(Drain), (None, false)),
            (Some(Active), Inactive, Some(Drain), (None, false)),
            (Some(Inactive), Active, Some(Ready), (None, false)),
            (Some(Inactive), Inactive, Some(Ready), (None, false)),
            (Some(Probing), Probing, None, (None, false)),
            // Somebody's hand while it was away.
            (Some(Active), Inactive, Some(Ready), (Some((Maint, later)), false)),
            (Some(Active), Inactive, None, (Some((Maint, ago)), false)),
            (Some(Inactive), Active, Some(Drain), (Some((Ready, later)), false)),
            (Some(Active), Probing, None, (None, true)),
            // Its memory is lost, and nobody has lifted the order.
            (Some(Inactive), Inactive, None, (Some((Maint, ago)), false)),
        ] {
            assert_eq!(begins(disk, read, order), said, "{disk:?} {read:?} {order:?}");
        }
    }

    #[test]
    fn a_row_that_was_in_place_before_it_was_read_says_the_same() {
        let now = Instant::now();
        for (read, order, said) in [
            (Inactive, Ready, Some(Said::Order(Maint))),
            (Probing, Ready, Some(Said::Down)),
            (Active, Drain, None),
            (Inactive, Drain, None),
        ] {
            let mut column = Column::default();
            column.read(&sets(read), now);
            assert_eq!(column.settle(&AllSeen::new(), true), [], "it is not there yet");
            let seen = seen(order, false);
            let told: Vec<_> = said.map(|said| (id(), said, read)).into_iter().collect();
            assert_eq!(column.settle(&seen, true), told, "{read:?} {order:?}");
            assert_eq!(column.begin(&sets(Active), &mut Vec::new()), []);
        }
    }

    #[test]
    fn a_row_is_forgotten_when_it_is_neither_read_nor_in_place() {
        let now = Instant::now();
        let (all, none) = (sets(Active), Sets::default());
        let mut column = placed(Active, now);
        column.read(&none, now);
        column.begin(&all, &mut Vec::new());
        assert_eq!(column.states().len(), 1, "what was read is refused");
        assert_eq!(column.unwritten(&seen(Drain, false)), [], "nobody would have it");
        column.begin(&none, &mut Vec::new());
        assert_eq!(column.states().len(), 0);
    }

    #[test]
    fn the_next_start_thinks_of_what_this_one_has_not() {
        let now = Instant::now();
        let mut column = placed(Active, now);
        column.read(&sets(Inactive), now);
        assert_eq!(column.states(), [(id(), Active)].into());
        column.settle(&seen(Ready, false), true);
        assert_eq!(column.states(), [(id(), Inactive)].into());
    }

    #[test]
    fn the_first_by_name_writes_whose_source_is_well() {
        let writes = |own: (&str, bool), others: &[(&str, bool)]| is_writer(own, others.iter().copied());
        assert!(writes(("a", true), &[]) && writes(("a", false), &[]));
        assert!(writes(("a", true), &[("b", true), ("c", true)]));
        assert!(!writes(("b", true), &[("a", true), ("c", true)]));
        assert!(writes(("b", true), &[("a", false), ("c", true)]));
        assert!(!writes(("a", false), &[("b", true)]));
        assert!(writes(("a", false), &[("b", false)]) && !writes(("b", false), &[("a", false)]));
    }
}
