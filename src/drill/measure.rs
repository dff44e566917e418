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
use super::state::State;
use crate::lab::{Report, Timeline};

/// A call that began so long before or after a silence may have fallen into it: its answer was still to come, or its
/// connection still to be made.
const MARGIN: u64 = 500;
/// Silences that a call may have fallen into, in milliseconds.
const LEAST_SILENCE: u64 = 300;

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
    /// From the undoing until all nodes were as before, in milliseconds; none: they were not to the end.
    pub recovered_ms: Option<u64>,
    /// Answered calls of each destination in percent: before, during, and after nodes were as before.
    pub shares: BTreeMap<String, [Option<f64>; 3]>,
    /// Sessions that each node still counts at the end.
    pub left: BTreeMap<String, u64>,
    /// The limits and what became of them.
    pub limits: Vec<Bound>,
}

/// What could not but fail or be lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Excused {
    /// Calls that got the answer that they should while no server is left.
    pub fittingly_refused: u64,
    /// Calls by TCP that fell into a silence: nobody sends them again.
    pub failed_by_tcp: u64,
    /// Sessions by TCP whose BYE fell into a silence.
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
    let recovered = recovered(course, kind.sign());
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
        recovered_ms: recovered.map(|at| at.saturating_sub(course.undone)),
        shares: shares(course, recovered.unwrap_or(course.undone)),
        left: left(site, course),
        limits: Vec::new(),
    };
    for (caller, report) in site.callers.iter().zip(&course.reports) {
        let Some(timeline) = &report.timeline else { continue };
        let seen = Seen { caller, timeline, course };
        outcome.take(&seen, report, kind.fitting_status(), &ends);
    }
    outcome.limits = bounds(&outcome, limits, kind.who());
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
            } else if *status == 0 && seen.fell_into_a_silence(*at) {
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
                } else if seen.fell_into_a_silence(*at) {
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
}

impl Seen<'_> {
    /// A time of the caller's as that of the course.
    fn time(&self, at: u64) -> u64 {
        self.timeline.began_ms.saturating_add(at)
    }

    fn is_after_act(&self, at: u64) -> bool {
        self.time(at) >= self.course.act
    }

    /// Until the last call: who is dead may stay so for a while after all is undone.
    fn is_during(&self, at: u64) -> bool {
        (self.course.act..=self.course.ended).contains(&self.time(at))
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

    fn fell_into_a_silence(&self, at: u64) -> bool {
        let at = self.time(at);
        let holds = |silence: Range<u64>| {
            silence.end - silence.start >= LEAST_SILENCE
                && (silence.start.saturating_sub(MARGIN)..=silence.end + MARGIN).contains(&at)
        };
        !self.caller.resends && self.silences().any(holds)
    }
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

/// When all nodes were as before, and stayed so. A single answer that did not come is nothing.
fn recovered(course: &Course, sign: Sign) -> Option<u64> {
    let mut latest = course.undone;
    for looks in &course.looks {
        let Some(before) = before(course, looks) else { continue };
        let mut answers = looks.iter().filter_map(|look| Some((look.at, look.state.as_ref()?)));
        let is_well = |state: &State| match sign {
            // No verdict should have changed; if one has, that is told by who got the calls.
            Sign::Nothing => true,
            Sign::Unfit | Sign::NoneFit | Sign::Moved | Sign::Deaf => state.is_as(before),
        };
        let last_ill =
            answers.clone().filter(|(at, state)| *at >= course.act && !is_well(state)).map(|(at, _)| at).last();
        let since = last_ill.unwrap_or(course.undone);
        // Silent to the end, or ill: never.
        let (well, _) = answers.find(|(at, state)| *at > since && is_well(state))?;
        latest = latest.max(if last_ill.is_some() { well } else { course.undone });
    }
    Some(latest)
}

/// Of all answered calls of each time the part of each destination.
fn shares(course: &Course, well: u64) -> BTreeMap<String, [Option<f64>; 3]> {
    let parts = [course.began..course.act, course.act..course.undo, well..u64::MAX];
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

fn bounds(outcome: &Outcome, limits: &Limits, who: Who) -> Vec<Bound> {
    let mut all = vec![
        Bound::count("sessions lost", outcome.lost, limits.lost),
        Bound::count("calls failed", outcome.failed, limits.failed),
        Bound::time("longest silence", Some(Duration::from_millis(outcome.longest_gap_ms)), limits.gap),
    ];
    let mut times = outcome.noticed_ms.values().copied();
    let noticed = match who {
        Who::All => times.try_fold(None, |most, at| at.map(|at| most.max(Some(at)))).flatten(),
        Who::Any => times.flatten().min(),
    };
    if let Some(most) = limits.detection {
        all.push(Bound::time("detection", noticed.map(Duration::from_millis), most));
    }
    if let Some(most) = limits.recovery {
        all.push(Bound::time("recovery", outcome.recovered_ms.map(Duration::from_millis), most));
    }
    if let Some(most) = limits.left {
        all.push(Bound::count("sessions left", outcome.left.values().sum(), most));
    }
    all
}
