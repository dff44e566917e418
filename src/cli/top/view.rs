//! What `tandem top` draws: from what is known, where one looks and how much room there is, to lines.

use std::time::{Instant, SystemTime};

use super::world::{Rates, World};
use crate::cli::events;
use crate::cli::list;
use crate::cli::show::{ago, name_of, tone_of, why};
use crate::cli::surface::set_title;
use crate::cli::table::{Cell, Line, Tone, aligned};
use crate::cli::trouble::{self, Trouble};
use crate::edge::http::{DestinationReport, PeerReport, SetReport};
use crate::edge::moment::Moment;

/// The longest bar.
const BAR: usize = 10;
/// So many events are shown, if there is room.
const EVENTS: usize = 8;
/// They take no more than that part of the screen.
const EVENTS_PART: usize = 4;

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Trouble,
    Calls,
    Sessions,
    /// As they stand in the table.
    Table,
}

impl Sort {
    fn name(self) -> &'static str {
        match self {
            Sort::Trouble => "trouble",
            Sort::Calls => "calls",
            Sort::Sessions => "sessions",
            Sort::Table => "table",
        }
    }

    pub(super) fn next(self) -> Self {
        match self {
            Sort::Trouble => Sort::Calls,
            Sort::Calls => Sort::Sessions,
            Sort::Sessions => Sort::Table,
            Sort::Table => Sort::Trouble,
        }
    }
}

/// Where somebody looks.
#[derive(Clone, Debug, Default)]
pub(super) struct Look {
    pub(super) sort: Sort,
    /// Only what is not fit.
    pub(super) unfit: bool,
    pub(super) paused: bool,
    /// So many lines of the sets are above the screen; where that is more than there are, the last ones are seen.
    pub(super) above: usize,
    /// Lines of the screen; none: as many as there are to show.
    pub(super) height: Option<usize>,
}

/// A picture.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) lines: Vec<Line>,
    /// So many lines of the sets are above it.
    pub(super) above: usize,
    /// So many of them are on it.
    pub(super) page: usize,
}

/// One moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moments {
    pub(super) now: Instant,
    pub(super) at: SystemTime,
}

pub(super) fn draw(world: &World, look: &Look, moments: Moments) -> Picture {
    let rates = world.rates(moments.now);
    let mut lines = head(world, look, &rates, moments.at);
    let (title, body) = sets(world, look, &rates, moments.at);
    let room = look.height.unwrap_or(usize::MAX);
    let newest = match look.height {
        Some(height) => (height / EVENTS_PART).min(EVENTS),
        None => EVENTS,
    };
    let events: Vec<_> = world.events.range(world.events.len().saturating_sub(newest)..).map(events::row).collect();
    // The title of the sets, the events with an empty line above them, and the keys.
    let events = if events.is_empty() { Vec::new() } else { [vec![Line::default()], aligned("", &events)].concat() };
    let keys = usize::from(look.height.is_some());
    let page = room.saturating_sub(lines.len() + 1 + events.len() + keys).min(body.len());
    let above = look.above.min(body.len() - page);
    lines.push(title);
    let count = body.len();
    lines.extend(body.into_iter().skip(above).take(page));
    if look.height.is_some() {
        // What is below stands at the bottom.
        lines.resize_with(room.saturating_sub(events.len() + keys).max(lines.len()), Line::default);
    }
    lines.extend(events);
    if keys > 0 {
        lines.push(foot(look, above, page, count));
    }
    lines.truncate(room);
    Picture { lines, above, page }
}

fn text(text: impl ToString) -> Cell {
    Cell::text(text)
}

/// The node.
fn head(world: &World, look: &Look, rates: &Rates, at: SystemTime) -> Vec<Line> {
    let Some(node) = &world.node else { return Vec::new() };
    let (report, ready) = (&node.report, &node.ready);
    let live = match &world.not_live {
        None if look.paused => text("paused").toned(Tone::Doubtful),
        None => text("live").toned(Tone::Good),
        Some(why) => {
            let heard = world.heard.map_or_else(String::new, |heard| format!(" (heard {})", ago(Moment(heard), at)));
            text(format!("NOT LIVE{heard}: {why}")).toned(Tone::Bad)
        }
    };
    let started = ago(report.started, at);
    let first = text(format!("tandem {} node {}, started {started}  ", report.version, report.node));
    let mut lines = vec![Line::from(first).and(live)];
    let state = match (ready.ready, ready.degraded.is_empty()) {
        (false, _) => text("not ready").toned(Tone::Bad),
        (true, true) => text("ready").toned(Tone::Good),
        (true, false) => text("degraded").toned(Tone::Doubtful),
    };
    let words = if ready.ready { &ready.degraded } else { &ready.reasons };
    let words = if words.is_empty() { String::new() } else { format!(": {}", words.join("; ")) };
    lines.push(Line::from(state).and(text(words)));
    let held = if report.vips.is_empty() { "none".to_owned() } else { report.vips.join(" ") };
    let peers = match &report.peers {
        None => "no cluster".to_owned(),
        Some(peers) if peers.is_empty() => "no peer is heard".to_owned(),
        Some(peers) => {
            let peer = |peer: &PeerReport| match peer.vips.as_slice() {
                [] => peer.node.clone(),
                vips => format!("{} ({})", peer.node, vips.join(" ")),
            };
            format!("peers {}", peers.iter().map(peer).collect::<Vec<_>>().join(", "))
        }
    };
    lines.push(Line::from(text(format!("virtual addresses here: {held}; {peers}"))));
    let fit: usize = world.sets.iter().map(|set| set.fit).sum();
    let all: usize = world.sets.iter().map(|set| set.destinations.len()).sum();
    let calls: Option<f64> = rates.calls.iter().flatten().copied().sum();
    let (sessions, calls) = (world.sessions, rate(calls));
    lines.push(Line::from(text(format!("{sessions} sessions, {calls} calls/s, {fit} of {all} destinations fit"))));
    lines.push(Line::default());
    lines
}

/// A line for each set, and under it one for each destination; the columns' heads apart.
fn sets(world: &World, look: &Look, rates: &Rates, at: SystemTime) -> (Line, Vec<Line>) {
    let mut heads = vec![text("SET"), text("DESTINATION"), Cell::number("CALLS/S"), Cell::number("SHARE"), text("")];
    heads.extend([Cell::number("SESSIONS"), text("HEALTH"), text("ORDER"), text("FIT"), text("SINCE"), text("WHY")]);
    let mut rows = vec![heads];
    for Shown { set, sum, calls } in sorted(world, look, rates) {
        let sessions: u64 = set.destinations.iter().map(|one| one.sessions).sum();
        let wrong = match set.empty {
            0 => String::new(),
            empty => format!("{empty} found nobody fit"),
        };
        let panics = if set.panicking { "panics " } else { "" };
        rows.push(vec![
            text(set_title(set)).toned(list::tone(set)),
            text(format!("{panics}{}", set.algorithm)),
            Cell::number(rate(sum)),
            text(""),
            text(""),
            Cell::number(sessions),
            text(""),
            text(""),
            text(format!("{}/{}", set.fit, set.destinations.len())).toned(list::tone(set)),
            text(""),
            text(wrong),
        ]);
        rows.extend(calls.iter().map(|(one, calls)| row(one, *calls, sum, at)));
    }
    let mut lines = aligned("", &rows).into_iter();
    (lines.next().unwrap_or_default(), lines.collect())
}

fn row(one: &DestinationReport, calls: Option<f64>, sum: Option<f64>, at: SystemTime) -> Vec<Cell> {
    let share = calls.zip(sum).filter(|(_, sum)| *sum > 0.0).map(|(calls, sum)| calls / sum);
    let bar = "#".repeat(share.map_or(0, |share| (share * BAR as f64).ceil() as usize));
    let sessions = match one.max_sessions {
        Some(most) => format!("{}/{most}", one.sessions),
        None => one.sessions.to_string(),
    };
    let full = one.max_sessions.is_some_and(|most| one.sessions >= u64::from(most));
    vec![
        text(""),
        text(name_of(one)),
        Cell::number(rate(calls)),
        Cell::number(share.map_or_else(|| "-".to_owned(), |share| format!("{:.0}%", share * 100.0))),
        text(format!("{bar:<BAR$}")),
        Cell::number(sessions).toned(if full { Tone::Doubtful } else { Tone::Plain }),
        text(&one.health).toned(tone_of(&one.health)),
        text(&one.order.order).toned(if one.order.order == "ready" { Tone::Plain } else { Tone::Doubtful }),
        text(if one.fit { "yes" } else { "no" }).toned(if one.fit { Tone::Good } else { Tone::Bad }),
        text(ago(one.since, at)),
        text(why(one)),
    ]
}

fn rate(calls: Option<f64>) -> String {
    calls.map_or_else(|| "-".to_owned(), |calls| format!("{calls:.1}"))
}

/// A set as it is shown.
struct Shown<'w> {
    set: &'w SetReport,
    /// The calls of all its destinations, a second.
    sum: Option<f64>,
    /// Those destinations that are wanted, each with its own.
    calls: Vec<(&'w DestinationReport, Option<f64>)>,
}

/// The sets and their destinations that are wanted, in the order that is wanted; who is alike stays as in the table.
fn sorted<'w>(world: &'w World, look: &Look, rates: &Rates) -> Vec<Shown<'w>> {
    let wanted = |one: &DestinationReport| !look.unfit || !one.fit;
    let mut sets: Vec<_> = world
        .sets
        .iter()
        .zip(&rates.calls)
        .filter(|(set, _)| !look.unfit || set.fit == 0 || set.fit < set.destinations.len())
        .map(|(set, calls)| {
            let all = set.destinations.iter().zip(calls.iter().copied());
            Shown { set, sum: calls.iter().copied().sum(), calls: all.filter(|(one, _)| wanted(one)).collect() }
        })
        .collect();
    let sessions = |set: &SetReport| set.destinations.iter().map(|one| one.sessions).sum::<u64>();
    match look.sort {
        Sort::Trouble => {
            sets.sort_by_key(|one| trouble::of_set(one.set));
            sets.iter_mut().for_each(|set| set.calls.sort_by_key(|(one, _)| Trouble::of(one)));
        }
        Sort::Calls => {
            let of = |calls: Option<f64>| calls.unwrap_or(0.0);
            sets.sort_by(|one, other| of(other.sum).total_cmp(&of(one.sum)));
            sets.iter_mut().for_each(|set| set.calls.sort_by(|one, other| of(other.1).total_cmp(&of(one.1))));
        }
        Sort::Sessions => {
            sets.sort_by_key(|one| std::cmp::Reverse(sessions(one.set)));
            sets.iter_mut().for_each(|set| set.calls.sort_by_key(|(one, _)| std::cmp::Reverse(one.sessions)));
        }
        Sort::Table => {}
    }
    sets
}

/// The keys, and which lines are seen.
fn foot(look: &Look, above: usize, page: usize, count: usize) -> Line {
    let seen = if page < count { format!("lines {}-{} of {count}  ", above + 1, above + page) } else { String::new() };
    let only = if look.unfit { "f all" } else { "f not fit only" };
    let pause = if look.paused { "p go on" } else { "p pause" };
    let sort = look.sort.name();
    Line::from(text(format!("{seen}q quit  up/down scroll  s sorted by {sort}  {only}  {pause}")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::world::tests::{calls, world};
    use super::*;
    use crate::cli::live::News;
    use crate::cli::show::tests::{destination, set};

    fn lines(world: &World, look: &Look, now: Instant) -> Vec<String> {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(3);
        draw(world, look, Moments { now, at }).lines.iter().map(|line| line.painted(Some(150), false)).collect()
    }

    /// Two seconds in which one has got 30 calls, and the other 10 before it went down.
    fn busy() -> (World, Instant) {
        let now = Instant::now();
        let mut world = world(now);
        calls(&mut world, [30, 10], now + Duration::from_secs(2));
        (world, now + Duration::from_secs(2))
    }

    fn small(height: usize) -> Look {
        Look { height: Some(height), ..Look::default() }
    }

    #[test]
    fn all_is_told_with_the_worst_first() {
        let (world, now) = busy();
        let told = lines(&world, &Look::default(), now);
        let expected = "\
tandem 0.1.0 node a, started 0s ago  live
degraded: the rows are old
virtual addresses here: 10.0.0.101; no peer is heard
40 sessions, 20.0 calls/s, 1 of 2 destinations fit

SET       DESTINATION        CALLS/S  SHARE              SESSIONS  HEALTH  ORDER  FIT  SINCE   WHY
19 (tts)  round_robin           20.0                           40                 1/2
          sip:10.0.0.2:7010      5.0    25%  ###               10  down    ready  no   3s ago  3 failed in a row
          sip:10.0.0.1:7010     15.0    75%  ########          30  up      ready  yes  3s ago  it answers";
        assert_eq!(told.join("\n"), expected);
    }

    #[test]
    fn what_comes_first_and_what_is_left_out_is_as_wanted() {
        let (world, now) = busy();
        let first = |look: &Look| lines(&world, look, now)[7].split_whitespace().next().map(str::to_owned);
        let sorted = |sort| Look { sort, ..Look::default() };
        for (sort, uri) in [(Sort::Trouble, 2), (Sort::Calls, 1), (Sort::Sessions, 1), (Sort::Table, 1)] {
            assert_eq!(first(&sorted(sort)), Some(format!("sip:10.0.0.{uri}:7010")), "{sort:?}");
        }
        let unfit = lines(&world, &Look { unfit: true, ..Look::default() }, now);
        assert_eq!((unfit.len(), unfit[7].contains("10.0.0.2")), (8, true), "{unfit:?}");
        // Who is left out has his calls all the same.
        let words = |lines: &[String]| lines[6].split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&unfit), words(&lines(&world, &Look::default(), now)));
        let mut all = Sort::default();
        (0..4).for_each(|_| all = all.next());
        assert_eq!(all, Sort::default());
    }

    #[test]
    fn a_node_that_is_not_heard_is_told_so_and_nobody_guesses_its_calls() {
        let (mut world, now) = busy();
        world.hear(News::NotLive("connection refused".to_owned()), now, SystemTime::UNIX_EPOCH).expect("no JSON");
        let told = lines(&world, &Look::default(), now);
        assert!(told[0].ends_with("  NOT LIVE (heard 3s ago): connection refused"), "{told:?}");
        assert!(told[3].starts_with("40 sessions, - calls/s") && told[7].contains("-      -"), "{told:?}");
        let paused = Look { paused: true, ..Look::default() };
        assert!(lines(&busy().0, &paused, now)[0].ends_with("  paused"));
    }

    #[test]
    fn a_picture_is_as_high_as_its_screen_and_scrolls_no_further_than_there_are_lines() {
        let (mut world, now) = busy();
        let many = (0..50).map(|nth| destination(&format!("sip:x{nth}"), "")).collect();
        world.sets = vec![set(many)];
        for height in 0..70 {
            assert_eq!(lines(&world, &small(height), now).len(), height, "of {height}");
        }
        let picture = |above| draw(&world, &Look { above, ..small(20) }, Moments { now, at: SystemTime::UNIX_EPOCH });
        assert_eq!((picture(0).above, picture(0).page), (0, 13));
        // The set's own line and 50 more.
        assert_eq!((picture(1000).above, picture(38).above), (38, 38));
        let last = lines(&world, &Look { above: 1000, ..small(20) }, now);
        assert_eq!(last[18].split_whitespace().next(), Some("sip:x49"));
        assert!(last[19].starts_with("lines 39-51 of 51  q quit"), "{}", last[19]);
    }

    #[test]
    fn events_stand_below_and_leave_room_for_the_sets() {
        use crate::edge::journal::{Entry, Kind};
        let (mut world, now) = busy();
        for sequence in 1..=20 {
            let entry = Entry::new(Kind::Leave, SystemTime::UNIX_EPOCH, format!("event {sequence}"));
            world.events.push_back(Entry { sequence, ..entry });
        }
        let told = lines(&world, &small(24), now);
        assert!(told[22].ends_with("event 20") && told[17].ends_with("event 15") && told[16].is_empty(), "{told:?}");
        assert!(told[5].starts_with("SET ") && told[8].contains("10.0.0.1"), "{told:?}");
    }
}
