//! What a drill has cost: of its course, calls lost, the longest silence, how soon nodes noticed and were well again, and who
//! got the calls.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use serde::Serialize;

use super::course::{Course, Look, Plan};
use super::kind::{Sign, Who};
use super::limits::{Bound, Limits};
use super::site::{Caller, Site};
use super::stage::{Stage, stages};
use super::state::State;
use crate::lab::{Report, Timeline};

/// What was sent so long before or after a silence or a move may have fallen into it: its answer was still to come, or its
/// connection still to be made; in milliseconds.
const MARGIN: u64 = 500;
/// Silences that a call may have fallen into, in milliseconds.
const LEAST_SILENCE: u64 = 150;

/// What has come of a drill.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// What went wrong.
    pub drill: &'static str,
    /// Where.
    pub site: String,
    /// Calls that were begun.
    pub calls: u64,
    /// Calls that were answered.
    pub answered: u64,
    /// New calls that failed and should not have.
    pub failed: u64,
    /// All that failed, by their final status; 0 is none in time.
    pub statuses: BTreeMap<u16, u64>,
    /// Answered sessions whose BYE got no 2xx and should have.
    pub lost: u64,
    /// What could not but fail or be lost.
    pub excused: Excused,
    /// The longest time in which a caller heard nothing; milliseconds, less than 100 is 0.
    pub longest_gap_ms: u64,
    /// Each caller.
    pub callers: Vec<CallerOutcome>,
    /// From the act until each node had noticed, in milliseconds; none: it has not. Without nodes that could not be asked.
    pub noticed_ms: BTreeMap<String, Option<u64>>,
    /// From the undoing until each node was as before, in milliseconds; none: it was not to the end.
    pub recovered_ms: BTreeMap<String, Option<u64>>,
    /// Answered calls of each destination in percent: before, during, and after nodes were as before.
    pub shares: BTreeMap<String, [Option<f64>; 3]>,
    /// Sessions that each node still counts at the end.
    pub left: BTreeMap<String, u64>,
    /// Sessions of the cluster as each node counted them while calls were still made, and how many there were then.
    pub counted: BTreeMap<String, [u64; 2]>,
    /// What the nodes ran, one stage after another; one alone if none began anew.
    pub stages: Vec<Stage>,
    /// The limits and what became of them.
    pub limits: Vec<Bound>,
}

/// What could not but fail or be lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Excused {
    /// Calls that got the answer that they should while no server is left.
    pub fittingly_refused: u64,
    /// Calls by TCP that fell into a silence, or the moment in which an address moved: nobody sends them again.
    pub failed_by_tcp: u64,
    /// Sessions by TCP whose BYE did.
    pub lost_by_tcp: u64,
    /// Sessions of destinations that died.
    pub lost_with_destination: u64,
}

/// One caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CallerOutcome {
    /// Its name.
    pub name: String,
    /// Calls that it began.
    pub calls: u64,
    /// All that failed.
    pub failed: u64,
    /// All that were lost.
    pub lost: u64,
    /// BYEs and INVITEs that it gave up on ICMP.
    pub refused: u64,
    /// The longest time in which it heard nothing; milliseconds, less than 100 is 0.
    pub longest_gap_ms: u64,
}

/// Measures the course of a drill.
pub fn measure(site: &Site, plan: &Plan, limits: &Limits, course: &Course) -> Outcome {
    let kind = plan.kind;
    let ends: BTreeSet<&str> = site.acts.get(&kind).into_iter().flat_map(|act| &act.ends).map(String::as_str).collect();
    let recovered = recovered(site, course, kind.sign());
    let moves = moves(course);
    let well = recovered.values().copied().try_fold(course.undone, |latest, at| at.map(|at| latest.max(at)));
    let mut outcome = Outcome {
        drill: kind.name(),
        site: site.name.clone(),
        calls: 0,
        answered: 0,
        failed: 0,
        statuses: BTreeMap::new(),
        lost: 0,
        excused: Excused::default(),
        longest_gap_ms: 0,
        callers: Vec::new(),
        noticed_ms: noticed(site, course, kind.sign()),
        shares: shares(course, well.unwrap_or(course.undone)),
        recovered_ms: recovered.into_iter().map(|(node, at)| (node, at.map(|at| at - course.undone))).collect(),
        left: left(site, course),
        counted: counted(site, plan, course),
        stages: stages(site, course, |at| live(plan, course, at)),
        limits: Vec::new(),
    };
    for (caller, report) in site.callers.iter().zip(&course.reports) {
        let Some(timeline) = &report.timeline else { continue };
        let seen = Seen { caller, timeline, course, moves: &moves };
        outcome.take(&seen, report, kind.fitting_status(), &ends);
    }
    outcome.limits = bounds(&outcome, limits, plan);
    outcome
}

impl Outcome {
    /// Whether all is within its limits.
    pub fn holds(&self) -> bool {
        self.limits.iter().all(|bound| bound.holds)
    }

    fn take(&mut self, seen: &Seen<'_>, report: &Report, fitting: Option<u16>, ends: &BTreeSet<&str>) {
        let Timeline { failed, lost, .. } = seen.timeline;
        for (at, status) in failed {
            if seen.is_during(*at) && Some(*status) == fitting {
                self.excused.fittingly_refused += 1;
            } else if *status == 0 && seen.fell_between(*at) {
                self.excused.failed_by_tcp += 1;
            } else {
                self.failed += 1;
            }
        }
        for (destination, times) in lost {
            let is_over = ends.contains(destination.as_str());
            for at in times {
                if is_over && seen.is_after_act(*at) {
                    self.excused.lost_with_destination += 1;
                } else if seen.fell_between(*at) {
                    self.excused.lost_by_tcp += 1;
                } else {
                    self.lost += 1;
                }
            }
        }
        for (status, count) in report.outcomes.iter().filter(|(status, _)| !(200..300).contains(*status)) {
            *self.statuses.entry(*status).or_default() += count;
        }
        let gap = seen.longest_gap();
        self.longest_gap_ms = self.longest_gap_ms.max(gap);
        self.calls += report.calls;
        self.answered += report.answered;
        self.callers.push(CallerOutcome {
            name: seen.caller.name.clone(),
            calls: report.calls,
            failed: report.failed,
            lost: report.lost,
            refused: report.refused,
            longest_gap_ms: gap,
        });
    }
}

/// What one caller has seen.
struct Seen<'s> {
    caller: &'s Caller,
    timeline: &'s Timeline,
    course: &'s Course,
    /// When addresses moved.
    moves: &'s [u64],
}

impl Seen<'_> {
    /// A time of the caller's as that of the course.
    fn time(&self, at: u64) -> u64 {
        self.timeline.began_ms.saturating_add(at)
    }

    fn is_after_act(&self, at: u64) -> bool {
        self.time(at) >= self.course.act
    }

    /// From what was being set up at the act until the last call: who was dead stays out for a while.
    fn is_during(&self, at: u64) -> bool {
        (self.course.act.saturating_sub(MARGIN)..=self.course.ended).contains(&self.time(at))
    }

    /// The caller's silences from the act to the last call.
    fn silences(&self) -> impl Iterator<Item = Range<u64>> {
        let Course { act, ended, .. } = *self.course;
        let clipped = move |(from, to): &(u64, u64)| self.time(*from).max(act)..self.time(*to).min(ended);
        self.timeline.silences.iter().map(clipped).filter(|silence| !silence.is_empty())
    }

    fn longest_gap(&self) -> u64 {
        self.silences().map(|silence| silence.end - silence.start).max().unwrap_or(0)
    }

    /// Whether what was sent then fell into a silence or a move, and is sent again by nobody.
    fn fell_between(&self, at: u64) -> bool {
        let at = self.time(at);
        let is_near = |time: &Range<u64>| (time.start.saturating_sub(MARGIN)..=time.end + MARGIN).contains(&at);
        let silences = self.silences().filter(|silence| silence.end - silence.start >= LEAST_SILENCE);
        let moves = self.moves.iter().map(|at| *at..*at);
        !self.caller.resends && silences.chain(moves).any(|time| is_near(&time))
    }
}

/// When nodes told that other addresses are here than before.
fn moves(course: &Course) -> Vec<u64> {
    let mut all = Vec::new();
    for looks in &course.looks {
        let held: Vec<_> = looks.iter().filter_map(|look| Some((look.at, &look.state.as_ref()?.held))).collect();
        all.extend(held.windows(2).filter(|two| two[0].1 != two[1].1).map(|two| two[1].0));
    }
    all
}

/// What a node told last before the act.
fn before<'l>(course: &Course, looks: &'l [Look]) -> Option<&'l State> {
    looks.iter().rfind(|look| look.at <= course.act && look.state.is_some()).and_then(|look| look.state.as_ref())
}

/// When each node had noticed; without those that could not be asked at the end of it.
fn noticed(site: &Site, course: &Course, sign: Sign) -> BTreeMap<String, Option<u64>> {
    let mut all = BTreeMap::new();
    if sign == Sign::Nothing {
        return all;
    }
    for (node, looks) in site.nodes.iter().zip(&course.looks) {
        let Some(before) = before(course, looks) else { continue };
        let mut during = looks.iter().filter(|look| (course.act..=course.undo).contains(&look.at));
        if during.clone().next_back().is_none_or(|look| look.state.is_none()) {
            continue;
        }
        let shows = |look: &&Look| look.state.as_ref().is_some_and(|state| state.shows(sign, before));
        all.insert(node.name.clone(), during.find(shows).map(|look| look.at - course.act));
    }
    all
}

/// When each node was as before, and stayed so; none: it was not to the end. A single answer that did not come is nothing.
fn recovered(site: &Site, course: &Course, sign: Sign) -> BTreeMap<String, Option<u64>> {
    let mut all = BTreeMap::new();
    for (node, looks) in site.nodes.iter().zip(&course.looks) {
        let Some(before) = before(course, looks) else { continue };
        let answers = || looks.iter().filter_map(|look| Some((look.at, look.state.as_ref()?)));
        let is_ill = |(at, state): &(u64, &State)| *at >= course.act && !state.is_well(sign, before);
        let last_ill = answers().filter(is_ill).map(|(at, _)| at).next_back();
        // Who is silent to the end never was.
        let well = answers().map(|(at, _)| at).find(|at| *at > last_ill.unwrap_or(course.undone));
        all.insert(
            node.name.clone(),
            well.map(|at| if last_ill.is_some() { at.max(course.undone) } else { course.undone }),
        );
    }
    all
}

/// Of all answered calls of each time the part of each destination.
fn shares(course: &Course, well: u64) -> BTreeMap<String, [Option<f64>; 3]> {
    let parts = [course.began..course.act, course.act..course.undo, well..course.ended];
    let mut counts: BTreeMap<String, [u64; 3]> = BTreeMap::new();
    for timeline in course.reports.iter().filter_map(|report| report.timeline.as_ref()) {
        for (destination, times) in &timeline.answered {
            let counts = counts.entry(destination.clone()).or_default();
            for at in times.iter().map(|at| timeline.began_ms.saturating_add(*at)) {
                for (count, part) in counts.iter_mut().zip(&parts) {
                    *count += u64::from(part.contains(&at));
                }
            }
        }
    }
    let all = [0, 1, 2].map(|part| counts.values().map(|counts| counts[part]).sum::<u64>());
    let share = |count: u64, all: u64| (all > 0).then(|| (1000.0 * count as f64 / all as f64).round() / 10.0);
    counts.into_iter().map(|(uri, counts)| (uri, [0, 1, 2].map(|part| share(counts[part], all[part])))).collect()
}

fn left(site: &Site, course: &Course) -> BTreeMap<String, u64> {
    let last = |looks: &[Look]| looks.iter().rev().find_map(|look| look.state.as_ref()).map(|state| state.sessions);
    site.nodes.iter().zip(&course.looks).filter_map(|(node, looks)| Some((node.name.clone(), last(looks)?))).collect()
}

/// Sessions that callers had at that time.
fn live(plan: &Plan, course: &Course, now: u64) -> u64 {
    let hold = plan.hold.as_millis() as u64;
    let timelines = course.reports.iter().filter_map(|report| report.timeline.as_ref());
    let of = |timeline: &Timeline| {
        let times = timeline.answered.values().flatten().map(|at| timeline.began_ms.saturating_add(*at));
        times.filter(|at| (*at..at + hold).contains(&now)).count() as u64
    };
    timelines.map(of).sum()
}

/// What each node told last while calls were still made, against the callers' own.
fn counted(site: &Site, plan: &Plan, course: &Course) -> BTreeMap<String, [u64; 2]> {
    let last = |looks: &[Look]| {
        let told = looks.iter().rfind(|look| look.at <= course.ended && look.state.is_some())?;
        Some([told.state.as_ref()?.cluster, live(plan, course, told.at)])
    };
    site.nodes.iter().zip(&course.looks).filter_map(|(node, looks)| Some((node.name.clone(), last(looks)?))).collect()
}

fn bounds(outcome: &Outcome, limits: &Limits, plan: &Plan) -> Vec<Bound> {
    let mut all = vec![
        Bound::count("sessions lost", outcome.lost, limits.lost),
        Bound::count("calls failed", outcome.failed, limits.failed),
        Bound::time("longest silence", Some(Duration::from_millis(outcome.longest_gap_ms)), limits.gap),
    ];
    let latest = |times: &BTreeMap<String, Option<u64>>| {
        times.values().copied().try_fold(None, |most, at| at.map(|at| most.max(Some(at)))).flatten()
    };
    let noticed = match plan.kind.who() {
        Who::All => latest(&outcome.noticed_ms),
        Who::Any => outcome.noticed_ms.values().copied().flatten().min(),
    };
    if let Some(most) = limits.detection {
        all.push(Bound::time("detection", noticed.map(Duration::from_millis), most));
    }
    if let Some(most) = limits.recovery {
        all.push(Bound::time("recovery", latest(&outcome.recovered_ms).map(Duration::from_millis), most));
    }
    if let Some(delay) = limits.count {
        // Those whose BYE was lost live on too.
        let most = (plan.rate * delay.as_secs_f64()).ceil() as u64 + outcome.lost + outcome.excused.lost_by_tcp;
        // While nodes of two versions serve, too.
        let stages = outcome.stages.iter().filter(|_| limits.unheard.is_some());
        let counted = stages.flat_map(|stage| stage.counted.values()).chain(outcome.counted.values());
        let off = counted.map(|[told, live]| told.abs_diff(*live)).max().unwrap_or(0);
        all.push(Bound::count("sessions miscounted", off, most));
    }
    if let Some(most) = limits.unheard {
        // Where nodes tell nothing of it, none is known to have heard.
        let nobody = outcome.stages.is_empty().then_some(1);
        let unheard = nobody.unwrap_or_else(|| outcome.stages.iter().map(|stage| stage.unheard.len() as u64).sum());
        all.push(Bound::count("versions not heard", unheard, most));
    }
    if let Some(most) = limits.left {
        // Those whose BYE was lost live on at their server.
        let live = outcome.lost + outcome.excused.lost_by_tcp;
        all.push(Bound::count("sessions left", outcome.left.values().sum::<u64>().saturating_sub(live), most));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::course::Times;
    use super::super::kind::Kind;
    use super::super::site::{Act, Node};
    use super::*;

    const CALLERS: [&str; 2] = ["udp", "tcp"];

    fn site(kind: Kind) -> Site {
        let node = |name: &&str| Node { name: (*name).to_owned(), state: String::new() };
        let caller = |name: &&str| Caller {
            name: (*name).to_owned(),
            calls: String::new(),
            share: 50.0,
            resends: *name == "udp",
        };
        let act = Act { ends: vec!["sip:x".to_owned()], ..Act::default() };
        Site {
            name: "here".to_owned(),
            nodes: ["a", "b"].iter().map(node).collect(),
            callers: CALLERS.iter().map(caller).collect(),
            acts: [(kind, act)].into(),
        }
    }

    fn plan(kind: Kind) -> Plan {
        let second = Duration::from_secs(1);
        let times = Times { before: second, during: second, after: second };
        Plan { kind, rate: 1.0, hold: second, times }
    }

    /// A node that has these destinations and this address, and hears the other.
    fn state(fit: &[&str], vip: &str) -> State {
        State {
            fit: fit.iter().map(|uri| (19, (*uri).to_owned(), String::new())).collect(),
            held: [vip.to_owned()].into(),
            heard: ["other".to_owned()].into(),
            ..State::default()
        }
    }

    fn looks(all: &[(u64, Option<State>)]) -> Vec<Look> {
        all.iter().map(|(at, state)| Look { at: *at, state: state.clone() }).collect()
    }

    /// Begins at 10,000, the act at 20,000, undone from 30,000 to 30,100, ends at 40,000. Callers' clocks begin at 10,000.
    fn course(timelines: [Timeline; 2]) -> Course {
        let report = |timeline: Timeline| Report {
            answered: timeline.answered.values().map(|times| times.len() as u64).sum(),
            failed: timeline.failed.len() as u64,
            timeline: Some(Timeline { began_ms: 10_000, ..timeline }),
            ..Report::default()
        };
        let well =
            || vec![(15_000, Some(state(&["sip:x", "sip:y"], "v"))), (45_000, Some(state(&["sip:x", "sip:y"], "v")))];
        Course {
            began: 10_000,
            act: 20_000,
            undo: 30_000,
            undone: 30_100,
            ended: 40_000,
            looks: vec![looks(&well()), looks(&well())],
            reports: timelines.map(report).into(),
        }
    }

    fn measured(kind: Kind, course: &Course) -> Outcome {
        measure(&site(kind), &plan(kind), &kind.limits(), course)
    }

    #[test]
    fn the_longest_silence_counts_from_the_act_to_the_last_call() {
        let silences = vec![(0, 9000), (9500, 10_400), (15_000, 15_700), (29_800, 33_000)];
        let course = course([Timeline { silences, ..Timeline::default() }, Timeline::default()]);
        let outcome = measured(Kind::KillNode, &course);
        // Of the second the part after the act, of the last that before the end: 400, 700, 200 ms.
        assert_eq!(outcome.longest_gap_ms, 700);
        assert_eq!(outcome.callers.iter().map(|one| one.longest_gap_ms).collect::<Vec<_>>(), [700, 0]);
    }

    #[test]
    fn what_nodes_count_is_held_against_the_callers_own() {
        // Calls last a second: at 39,500 two of the first caller's are there and one of the second's.
        let calls =
            |times: &[u64]| Timeline { answered: [("sip:x".to_owned(), times.to_vec())].into(), ..Timeline::default() };
        let mut course = course([calls(&[28_400, 28_600, 29_400]), calls(&[29_000, 29_700])]);
        let told = |cluster| Some(State { cluster, ..state(&["sip:x", "sip:y"], "v") });
        course.looks =
            vec![looks(&[(15_000, told(9)), (39_500, told(3)), (45_000, told(0))]), looks(&[(39_500, told(5))])];
        let outcome = measured(Kind::MoveVip, &course);
        assert_eq!(outcome.counted, [("a".to_owned(), [3, 3]), ("b".to_owned(), [5, 3])].into());
        let bound = outcome.limits.iter().find(|bound| bound.what == "sessions miscounted").expect("a limit");
        assert_eq!((bound.was.as_str(), bound.most.as_str(), bound.holds), ("2", "1", false));
    }

    #[test]
    fn what_fell_into_a_silence_is_excused_where_nobody_sends_it_again() {
        let timeline = || Timeline {
            failed: vec![(10_100, 0), (14_000, 0), (10_200, 503)],
            lost: [("sip:y".to_owned(), vec![10_300, 25_000])].into(),
            silences: vec![(10_050, 12_000)],
            ..Timeline::default()
        };
        let outcome = measured(Kind::KillNode, &course([timeline(), timeline()]));
        assert_eq!((outcome.failed, outcome.lost), (3 + 2, 2 + 1));
        assert_eq!((outcome.excused.failed_by_tcp, outcome.excused.lost_by_tcp), (1, 1));
    }

    #[test]
    fn what_fell_into_a_move_is_excused_too_and_lives_on() {
        let lost = || [("sip:y".to_owned(), vec![15_000, 20_600])].into();
        let timeline = || Timeline { failed: vec![(15_100, 0), (20_400, 0)], lost: lost(), ..Timeline::default() };
        let mut course = course([timeline(), timeline()]);
        let both = ["sip:x", "sip:y"];
        let left = |sessions| Some(State { sessions, ..state(&both, "v") });
        let all = [(19_900, left(9)), (30_400, Some(state(&both, "w"))), (36_000, left(9)), (45_000, left(5))];
        course.looks = vec![looks(&all), looks(&[(45_000, left(0))])];
        let outcome = measured(Kind::MoveVip, &course);
        // Of the caller by TCP those of the move at 30,400.
        assert_eq!((outcome.failed, outcome.lost), (2 + 1, 2 + 1));
        assert_eq!((outcome.excused.failed_by_tcp, outcome.excused.lost_by_tcp), (1, 1));
        let left = outcome.limits.iter().find(|bound| bound.what == "sessions left").map(|bound| bound.was.as_str());
        assert_eq!(left, Some("1"), "of 5 four live on: their BYE was lost");
    }

    #[test]
    fn sessions_of_a_server_that_dies_and_fitting_answers_are_excused() {
        let timeline = Timeline {
            failed: vec![(5000, 480), (11_000, 480), (12_000, 503), (29_000, 480)],
            lost: [("sip:x".to_owned(), vec![9000, 11_000]), ("sip:y".to_owned(), vec![11_000])].into(),
            ..Timeline::default()
        };
        let outcome = measured(Kind::AllServersDead, &course([timeline.clone(), Timeline::default()]));
        assert_eq!((outcome.failed, outcome.excused.fittingly_refused), (2, 2));
        assert_eq!((outcome.lost, outcome.excused.lost_with_destination), (2, 1));
        let outcome = measured(Kind::KillDestination, &course([timeline, Timeline::default()]));
        assert_eq!((outcome.failed, outcome.excused.fittingly_refused), (4, 0));
    }

    #[test]
    fn shares_are_those_of_each_part() {
        let answered = [("sip:x".to_owned(), vec![1, 2, 3, 29_999]), ("sip:y".to_owned(), vec![4, 10_000, 25_000])];
        let course = course([Timeline { answered: answered.into(), ..Timeline::default() }, Timeline::default()]);
        let outcome = measured(Kind::KillDestination, &course);
        assert_eq!(outcome.shares["sip:x"], [Some(75.0), Some(0.0), Some(50.0)]);
        assert_eq!(outcome.shares["sip:y"], [Some(25.0), Some(100.0), Some(50.0)]);
    }

    #[test]
    fn each_node_that_can_be_asked_has_to_notice() {
        let mut course = course([Timeline::default(), Timeline::default()]);
        let (all, some) = (state(&["sip:x", "sip:y"], "v"), state(&["sip:y"], "v"));
        let seen = |at| {
            looks(&[
                (19_900, Some(all.clone())),
                (at, Some(some.clone())),
                (29_900, Some(some.clone())),
                (36_000, Some(all.clone())),
            ])
        };
        course.looks = vec![seen(20_300), seen(22_000)];
        let outcome = measured(Kind::KillDestination, &course);
        assert_eq!(outcome.noticed_ms, [("a".to_owned(), Some(300)), ("b".to_owned(), Some(2000))].into());
        let bound = |outcome: &Outcome, what: &str| {
            outcome.limits.iter().find(|bound| bound.what == what).map(|bound| (bound.was.clone(), bound.holds))
        };
        assert_eq!(bound(&outcome, "detection"), Some(("2s".to_owned(), false)));
        // The first that notices is enough where one node alone is cut off.
        let outcome = measured(Kind::CutDestination, &course);
        assert_eq!(bound(&outcome, "detection"), Some(("300ms".to_owned(), true)));
        assert_eq!(outcome.recovered_ms, [("a".to_owned(), Some(5900)), ("b".to_owned(), Some(5900))].into());
        assert_eq!(bound(&outcome, "recovery"), Some(("5.9s".to_owned(), true)));

        course.looks[1] =
            looks(&[(19_900, Some(all.clone())), (29_900, Some(all.clone())), (36_000, Some(all.clone()))]);
        let outcome = measured(Kind::KillDestination, &course);
        assert_eq!(bound(&outcome, "detection"), Some(("never".to_owned(), false)));
        course.looks[1] = looks(&[(19_900, Some(all.clone())), (29_900, None), (36_000, Some(all.clone()))]);
        assert_eq!(bound(&measured(Kind::KillDestination, &course), "detection"), Some(("300ms".to_owned(), true)));
        course.looks[0].push(Look { at: 44_000, state: Some(some) });
        assert_eq!(bound(&measured(Kind::KillDestination, &course), "recovery"), Some(("never".to_owned(), false)));
    }

    #[test]
    fn limits_are_kept_or_not() {
        let timeline = Timeline { failed: vec![(15_000, 408)], ..Timeline::default() };
        let course = course([timeline, Timeline::default()]);
        let (site, plan) = (site(Kind::LosePackets), plan(Kind::LosePackets));
        let limits = Kind::LosePackets.limits();
        assert!(!measure(&site, &plan, &limits, &course).holds());
        let outcome = measure(&site, &plan, &Limits { failed: 1, ..limits }, &course);
        assert!(outcome.holds() && outcome.noticed_ms.is_empty(), "{outcome:?}");
    }

    #[test]
    fn an_upgrade_of_nodes_that_do_not_tell_what_they_run_is_none() {
        let (site, plan) = (site(Kind::UpgradeNodes), plan(Kind::UpgradeNodes));
        let course = course([Timeline::default(), Timeline::default()]);
        let outcome = measure(&site, &plan, &Kind::UpgradeNodes.limits(), &course);
        let heard = outcome.limits.iter().find(|bound| bound.what == "versions not heard").expect("it is bounded");
        assert!(outcome.stages.is_empty() && !heard.holds, "{outcome:?}");
    }
}
