//! What became of a caller's calls.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::timeline::Timeline;

/// The outcome of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Calls that were begun.
    pub calls: u64,
    /// Calls that got a 2xx.
    pub answered: u64,
    /// Calls that got none.
    pub failed: u64,
    /// Calls that were answered, but whose BYE got no 2xx.
    pub lost: u64,
    /// Calls that the other side ended.
    pub hung_up: u64,
    /// OPTIONS and UPDATEs inside calls, each copy.
    pub pings: u64,
    /// Half of the answered calls took no longer than this from INVITE to 2xx; milliseconds, 0 without any.
    pub p50_ms: f64,
    /// As above, for 99 of 100.
    pub p99_ms: f64,
    /// Answered calls by the URI of the Contact that answered.
    pub destinations: BTreeMap<String, u64>,
    /// Calls by the final status of their INVITE; 0 is none in time.
    pub outcomes: BTreeMap<u16, u64>,
    /// BYEs by their final status; 0 is none in time, or that ICMP said that nobody is there.
    #[serde(default)]
    pub byes: BTreeMap<u16, u64>,
    /// BYEs and INVITEs that were given up on ICMP.
    #[serde(default)]
    pub refused: u64,
    /// What happened when; none: it was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<Timeline>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in
            [("calls", self.calls), ("answered", self.answered), ("failed", self.failed), ("lost", self.lost)]
        {
            writeln!(f, "{name:<10}{value:>10}")?;
        }
        for (name, value) in [("hung up", self.hung_up), ("pings", self.pings), ("refused", self.refused)] {
            if value > 0 {
                writeln!(f, "{name:<10}{value:>10}")?;
            }
        }
        if self.answered > 0 {
            writeln!(f, "{:<10}{:>10.3} ms", "p50", self.p50_ms)?;
            writeln!(f, "{:<10}{:>10.3} ms", "p99", self.p99_ms)?;
        }
        for (status, count) in &self.outcomes {
            let name = if *status == 0 { "no answer".to_owned() } else { status.to_string() };
            writeln!(f, "{name:<10}{count:>10}")?;
        }
        let width = self.destinations.keys().map(String::len).max().unwrap_or_default();
        for (uri, count) in &self.destinations {
            let share = 100.0 * *count as f64 / self.answered.max(1) as f64;
            writeln!(f, "{uri:<width$}{count:>10} {share:>5.1} %")?;
        }
        Ok(())
    }
}

/// A caller's state while it runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Live {
    /// Calls that are begun and not over.
    pub running: u64,
    /// All counts so far; its percentiles are those of the calls answered since the last picture.
    pub report: Report,
}

/// Gathers what a report tells.
#[derive(Debug, Default)]
pub(super) struct Tally {
    report: Report,
    /// INVITE to 2xx of every answered call, in microseconds.
    samples: Vec<u32>,
    /// Samples that an earlier picture has shown.
    shown: usize,
}

impl Tally {
    pub(super) fn begun(&mut self) {
        self.report.calls += 1;
    }

    pub(super) fn answered(&mut self, status: u16, took: Duration, destination: String) {
        self.report.answered += 1;
        *self.report.outcomes.entry(status).or_default() += 1;
        *self.report.destinations.entry(destination).or_default() += 1;
        self.samples.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    }

    /// `status` 0 is none in time.
    pub(super) fn failed(&mut self, status: u16) {
        self.report.failed += 1;
        *self.report.outcomes.entry(status).or_default() += 1;
    }

    pub(super) fn lost(&mut self) {
        self.report.lost += 1;
    }

    /// Our BYE has come to its end; `status` 0 is none in time.
    pub(super) fn bye(&mut self, status: u16) {
        *self.report.byes.entry(status).or_default() += 1;
    }

    pub(super) fn refused(&mut self) {
        self.report.refused += 1;
    }

    pub(super) fn hung_up(&mut self) {
        self.report.hung_up += 1;
    }

    pub(super) fn pinged(&mut self) {
        self.report.pings += 1;
    }

    /// The counts now, with the percentiles of the samples since the last picture.
    pub(super) fn picture(&mut self) -> Report {
        let recent = self.samples[self.shown..].to_vec();
        self.shown = self.samples.len();
        with_percentiles(self.report.clone(), recent)
    }

    /// The counts with the percentiles of all samples.
    pub(super) fn finish(self) -> Report {
        with_percentiles(self.report, self.samples)
    }
}

fn with_percentiles(mut report: Report, mut samples: Vec<u32>) -> Report {
    samples.sort_unstable();
    report.p50_ms = percentile(&samples, 50);
    report.p99_ms = percentile(&samples, 99);
    report
}

/// The smallest sample that at least `percent` of all do not exceed (nearest rank), in milliseconds; 0 without samples.
fn percentile(sorted: &[u32], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).map_or(0.0, |&micros| f64::from(micros) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(samples: impl IntoIterator<Item = u64>) -> Tally {
        let mut tally = Tally::default();
        for micros in samples {
            tally.begun();
            tally.answered(200, Duration::from_micros(micros), "sip:127.0.0.1:7010".to_owned());
        }
        tally
    }

    #[test]
    fn percentiles_are_exact() {
        let report = tally((1..=1000).rev().map(|n| n * 1000)).finish();
        assert_eq!((report.p50_ms, report.p99_ms), (500.0, 990.0));
        let report = tally([1500]).finish();
        assert_eq!((report.p50_ms, report.p99_ms), (1.5, 1.5));
        let report = tally([]).finish();
        assert_eq!((report.p50_ms, report.p99_ms), (0.0, 0.0));
    }

    #[test]
    fn a_picture_shows_the_percentiles_since_the_last() {
        let mut tally = tally([1000]);
        assert_eq!(tally.picture().p50_ms, 1.0);
        tally.begun();
        tally.answered(200, Duration::from_millis(5), "sip:b".to_owned());
        assert_eq!((tally.picture().p50_ms, tally.picture().p50_ms), (5.0, 0.0));
        assert_eq!(tally.finish().p50_ms, 1.0);
    }

    #[test]
    fn the_json_keeps_the_order_of_the_fields() {
        let mut tally = tally([1000]);
        tally.begun();
        tally.failed(0);
        tally.lost();
        tally.bye(200);
        tally.bye(0);
        assert_eq!(
            serde_json::to_string(&tally.finish()).expect("JSON"),
            r#"{"calls":2,"answered":1,"failed":1,"lost":1,"hung_up":0,"pings":0,"p50_ms":1.0,"p99_ms":1.0,"destinations":{"sip:127.0.0.1:7010":1},"outcomes":{"0":1,"200":1},"byes":{"0":1,"200":1},"refused":0}"#
        );
    }

    #[test]
    fn people_get_a_table() {
        let text = tally([1000, 2000]).finish().to_string();
        assert_eq!(
            text,
            "calls              2\nanswered           2\nfailed             0\nlost               0\np50            1.000 ms\n\
             p99            2.000 ms\n200                2\nsip:127.0.0.1:7010         2 100.0 %\n"
        );
        let none = Tally::default().finish().to_string();
        assert!(!none.contains("p50"), "no answer took no time: {none}");
    }
}
