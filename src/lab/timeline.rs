//! What a caller noted by time, for drills: when each call was answered and by whom, which failed, and when nothing was heard.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// What happened when. All times but the first are milliseconds since that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// When the caller began: milliseconds since 1970 by the clock of its machine.
    pub began_ms: u64,
    /// When each call was answered, by the URI of the Contact that answered.
    pub answered: BTreeMap<String, Vec<u64>>,
    /// When the INVITE of each failed call was first sent, with its final status; 0 is none in time.
    pub failed: Vec<(u64, u16)>,
    /// When the BYE of each lost session was first sent, by the URI of the Contact that had answered.
    pub lost: BTreeMap<String, Vec<u64>>,
    /// From when to when nothing was heard, whenever that was [`SILENCE`] or more.
    pub silences: Vec<(u64, u64)>,
}

/// Shorter silences are not noted.
pub const SILENCE: Duration = Duration::from_millis(100);

/// Gathers a timeline.
#[derive(Debug)]
pub(super) struct Notes {
    start: Instant,
    /// When something was heard last.
    heard: Instant,
    timeline: Timeline,
}

impl Notes {
    pub(super) fn new(now: Instant) -> Self {
        Notes { start: now, heard: now, timeline: Timeline::default() }
    }

    fn at(&self, time: Instant) -> u64 {
        u64::try_from(time.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn heard(&mut self, now: Instant) {
        if now.saturating_duration_since(self.heard) >= SILENCE {
            self.timeline.silences.push((self.at(self.heard), self.at(now)));
        }
        self.heard = now;
    }

    pub(super) fn answered(&mut self, destination: &str, now: Instant) {
        let at = self.at(now);
        self.timeline.answered.entry(destination.to_owned()).or_default().push(at);
    }

    pub(super) fn failed(&mut self, begun: Instant, status: u16) {
        self.timeline.failed.push((self.at(begun), status));
    }

    pub(super) fn lost(&mut self, destination: &str, hung_up: Instant) {
        let at = self.at(hung_up);
        self.timeline.lost.entry(destination.to_owned()).or_default().push(at);
    }

    /// The timeline; silence that lasts until now is one.
    pub(super) fn finish(mut self, now: Instant) -> Timeline {
        self.heard(now);
        self.timeline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_noted_from_a_tenth_of_a_second_on_and_at_the_end() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut notes = Notes::new(start);
        for ms in [99, 150, 250, 300, 1400] {
            notes.heard(at(ms));
        }
        notes.answered("sip:a", at(300));
        notes.failed(at(200), 480);
        notes.lost("sip:a", at(1000));
        let timeline = notes.finish(at(33_000));
        assert_eq!(timeline.silences, [(150, 250), (300, 1400), (1400, 33_000)]);
        assert_eq!((&timeline.answered["sip:a"], &timeline.lost["sip:a"]), (&vec![300], &vec![1000]));
        assert_eq!(timeline.failed, [(200, 480)]);
        let json = serde_json::to_string(&timeline).expect("JSON");
        assert_eq!(serde_json::from_str::<Timeline>(&json).expect("a timeline"), timeline);
    }
}
