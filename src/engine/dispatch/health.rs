//! What this node holds of a destination, from what its probes and its traffic have seen: up, down, busy or unknown, since
//! when and why. An operator's order is another thing (`order.rs`); both together make it fit or not (`fitness.rs`).

mod answers;
mod count;
mod damping;
mod ejection;
mod kept;
mod latency;
mod observation;
mod probing;
mod shared;
mod why;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use smallvec::SmallVec;

pub use answers::{Answers, BadAnswer, Codes, LONGEST_RETRY_AFTER, Meaning};
pub use count::Level;
pub use damping::{Damping, KeptPenalty};
pub use ejection::{EjectionCause, Observe};
pub use kept::Kept;
use latency::Peak;
pub use latency::{BOUNDS, Latency};
pub use observation::{KEPT, Observation, Outcome, Witness};
pub use probing::{Check, CheckKind, Combine, InitState, Probing, SipProbe, When, Who};
pub use why::{FallCause, Why};

pub(super) use self::answers::Verdict;
pub(crate) use self::count::Count;
use self::damping::Penalty;
use self::ejection::Record;
pub(crate) use self::ejection::{Terms, Trust};
use self::observation::History;
pub(super) use self::shared::Others;
use super::votes::Alive;
use crate::engine::clock::{Instant, Now};

/// What a destination is held for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Health {
    /// It works.
    Up,
    /// It does not.
    Down,
    /// It works and has no room.
    Busy,
    /// Nobody knows.
    #[default]
    Unknown,
}

impl Health {
    /// Each of them.
    pub const ALL: [Health; 4] = [Health::Up, Health::Down, Health::Busy, Health::Unknown];

    /// As in the interface and in a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Health::Up => "up",
            Health::Down => "down",
            Health::Busy => "busy",
            Health::Unknown => "unknown",
        }
    }
}

/// The part of a set's policy that says how its destinations' health is judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// What answers mean.
    pub answers: Answers,
    /// How traffic is watched.
    pub observe: Observe,
    /// How flapping is damped; none: not at all.
    pub damping: Option<Damping>,
    /// How a destination that comes back is given its share.
    pub slow_start: Option<SlowStart>,
}

/// A destination that comes back gets its share little by little (Envoy's names and formula).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStart {
    /// After this it has all of it.
    pub window: Duration,
    /// 1 is linear, more gives more at first.
    pub aggression: f64,
    /// The least share, in percent.
    pub min_weight_percent: u8,
}

// `aggression` comes from a configuration that refuses what is no number.
impl Eq for SlowStart {}

impl Default for SlowStart {
    fn default() -> Self {
        SlowStart { window: Duration::from_secs(60), aggression: 1.0, min_weight_percent: 10 }
    }
}

/// Something seen, on its way to be judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) witness: Witness,
    /// Which check of the destination's probing; none for traffic.
    pub(crate) check: Option<usize>,
    pub(crate) outcome: Outcome,
    /// When it was sent.
    pub(crate) sent: Instant,
}

/// What is known of one destination.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    probing: Arc<Probing>,
    counts: SmallVec<[Count; 1]>,
    /// What traffic alone says before anything else: whether it ever answered.
    answered: bool,
    record: Record,
    busy: Option<NoRoom>,
    penalty: Penalty,
    /// The health that was told last, and since when.
    pub(crate) told: Health,
    pub(crate) since: SystemTime,
    /// The same, whatever the wall clock does.
    pub(crate) turned: Instant,
    /// When it came back.
    risen: Option<Instant>,
    history: History,
    latencies: [Latency; Witness::ALL.len()],
    peak: Peak,
    /// When traffic showed last that it works.
    heard: Option<Instant>,
    /// When anything did.
    alive: Option<Instant>,
    /// Whether other nodes probe it and this one does not.
    elsewhere: bool,
    /// When its health is looked at again.
    pub(crate) scheduled: Option<Instant>,
}

/// It said that it has no room.
#[derive(Clone, Copy, Debug)]
struct NoRoom {
    /// To whom; none: to a process before this one.
    witness: Option<Witness>,
    since: Instant,
    until: Instant,
}

impl Condition {
    pub(crate) fn new(probing: Arc<Probing>, now: Now) -> Self {
        let mut condition = Condition {
            counts: SmallVec::new(),
            answered: probing.init_state == InitState::Up,
            probing,
            record: Record::default(),
            busy: None,
            penalty: Penalty::default(),
            told: Health::Unknown,
            since: now.wall,
            turned: now.mono,
            risen: None,
            history: History::default(),
            latencies: Default::default(),
            peak: Peak::default(),
            heard: None,
            alive: None,
            elsewhere: false,
            scheduled: None,
        };
        condition.begin(match condition.probing.init_state {
            InitState::Up => Level::Up,
            InitState::Unknown => Level::Unknown,
            InitState::Down => Level::Down,
        });
        // What it begins with is no news: only what is seen is.
        condition.told = condition.health(&Judgement::default(), now.mono);
        condition
    }

    /// Every probe begins with that level, but what can't be asked before a call or another probe has named its port is not
    /// down: nothing would ever raise it.
    fn begin(&mut self, level: Level) {
        let begin = |check: &Check| match (&check.kind, level) {
            (CheckKind::Tcp { port: None }, Level::Down) => Count::new(Level::Unknown),
            _ => Count::new(level),
        };
        self.counts = self.probing.checks.iter().map(begin).collect();
    }

    /// That check can't be made: it does not hold the destination for down. Whether it did.
    pub(crate) fn lift(&mut self, check: usize, now: Instant) -> bool {
        let down = self.counts.get_mut(check).filter(|count| count.level == Level::Down);
        down.map(|count| *count = Count::new(Level::Unknown).since(now)).is_some()
    }

    /// Whether that check has found the port closed that the destination's SDP named.
    pub(crate) fn lost_port(&self, check: usize) -> bool {
        let kind = self.probing.checks.get(check).map(|check| &check.kind);
        kind == Some(&CheckKind::Tcp { port: None }) && self.counts[check].level == Level::Down
    }

    /// That port is forgotten. If the destination is down for it, it is so as for calls that failed: for a while, then one
    /// call tries it, whose answer names the port of then.
    pub(crate) fn forget_port(&mut self, check: usize, terms: &Terms<'_>, now: Instant) {
        if self.probes() == Some(Level::Down) && terms.observe.enabled {
            self.record.fail(EjectionCause::Port, terms, now);
        }
        self.counts[check] = Count::new(Level::Unknown).since(now);
    }

    /// How it is probed.
    pub(crate) fn probing(&self) -> &Arc<Probing> {
        &self.probing
    }

    /// What is said by one of its probes.
    pub(crate) fn count(&self, check: usize) -> Option<&Count> {
        self.counts.get(check)
    }

    /// Whether traffic has shown within that time that it works.
    pub(crate) fn heard_within(&self, time: Duration, now: Instant) -> bool {
        self.heard.is_some_and(|heard| now.since(heard) < time)
    }

    /// The health, without its reason.
    pub(crate) fn health(&self, judgement: &Judgement, now: Instant) -> Health {
        self.health_and_trial(judgement, now).0
    }

    /// The same, and whether a call tries it.
    pub(crate) fn health_and_trial(&self, judgement: &Judgement, now: Instant) -> (Health, bool) {
        let trust = self.record.trust(now);
        (self.health_of(self.probes(), trust, judgement, now), matches!(trust, Trust::HalfOpen { trial: Some(_), .. }))
    }

    fn health_of(&self, probes: Option<Level>, trust: Trust, judgement: &Judgement, now: Instant) -> Health {
        let damped = || judgement.damping.is_some_and(|damping| self.penalty.is_suppressed(&damping, now));
        match (probes, trust) {
            (Some(Level::Down), _) | (_, Trust::Ejected { .. }) => Health::Down,
            _ if damped() => Health::Down,
            _ if self.busy.is_some_and(|busy| busy.until > now) => Health::Busy,
            (_, Trust::HalfOpen { .. }) | (Some(Level::Unknown), _) => Health::Unknown,
            (Some(Level::Up), Trust::Trusted { .. }) => Health::Up,
            (None, Trust::Trusted { .. }) if self.answered => Health::Up,
            (None, Trust::Trusted { .. }) => Health::Unknown,
        }
    }

    /// What all probes say together; none without probes.
    fn probes(&self) -> Option<Level> {
        match self.counts.as_slice() {
            [] => None,
            [one] => Some(one.level),
            several => Some(self.probing.combine.level(several.iter().map(|count| count.level))),
        }
    }

    /// The rule behind the health.
    pub(crate) fn why(&self, judgement: &Judgement, now: Instant) -> Why {
        if self.probes() == Some(Level::Down) {
            let worst = self.counts.iter().zip(&self.probing.checks).max_by_key(|(count, _)| count.failures);
            let (witness, failures) =
                worst.map_or((Witness::Options, 0), |(count, check)| (check.kind.witness(), count.failures));
            return if failures == 0 { Why::Started } else { Why::ProbesFailed { witness, failures } };
        }
        if let Trust::Ejected { until, times, .. } = self.record.trust(now) {
            return Why::Ejected { times, left: until.since(now) };
        }
        if let Some(damping) = judgement.damping
            && let Some(until) = self.penalty.until(&damping, now)
        {
            return Why::Flapping { penalty: self.penalty.value(&damping, now) as u32, left: until.since(now) };
        }
        match (self.busy, self.record.trust(now)) {
            (Some(NoRoom { until, .. }), _) if until > now => Why::NoRoom { left: until.since(now) },
            (_, Trust::HalfOpen { trial, .. }) => Why::HalfOpen { trial: trial.is_some() },
            _ if self.elsewhere => Why::ProbedElsewhere,
            _ if self.history.iter().next().is_none() => Why::Started,
            _ if self.alive.is_none() => Why::NoGoodAnswer,
            _ => Why::Works,
        }
    }

    /// A call goes there, which counts as lost without a trace at `lost`; whether it tries it.
    pub(crate) fn begin_call(&mut self, lost: Instant, now: Instant) -> bool {
        self.record.take_trial(lost, now)
    }

    /// The call that tries it counts as lost at another time; none: it has ended and says nothing.
    pub(crate) fn set_trial(&mut self, began: Instant, lost: Option<Instant>, now: Instant) {
        self.record.set_trial(began, lost, now);
    }

    /// When it was last seen to work.
    pub(super) fn alive(&self) -> Alive {
        Alive { at_all: self.alive, by_calls: self.heard }
    }

    /// What a bad answer was last; none if all that is remembered were good.
    pub(super) fn last_fall(&self) -> Option<&Observation> {
        self.history.iter().filter(|one| one.meaning == Meaning::Fall).last()
    }

    /// Whether traffic holds it out or on trial.
    pub(crate) fn is_ejected(&self, now: Instant) -> bool {
        !matches!(self.record.trust(now), Trust::Trusted { .. })
    }

    /// What callers have ejected it by, if that lasts still.
    pub(crate) fn ejected_by(&self, now: Instant) -> Option<EjectionCause> {
        self.record.cause.filter(|_| self.sits_out(now))
    }

    /// What it is down by, if it is.
    pub(crate) fn fallen_by(&self) -> FallCause {
        // A probe that was never made has not failed: somebody has said so.
        let failed = |count: &Count| count.level == Level::Down && count.failures > 0;
        match (self.probes(), self.record.cause) {
            (Some(Level::Down), _) if self.counts.iter().any(failed) => FallCause::Probes,
            (Some(Level::Down), _) | (_, None) => FallCause::Order,
            (_, Some(_)) => FallCause::Calls,
        }
    }

    /// Whether an ejection that lasts still holds it out.
    pub(crate) fn sits_out(&self, now: Instant) -> bool {
        matches!(self.record.trust(now), Trust::Ejected { .. })
    }

    /// Takes what was seen.
    pub(crate) fn see(&mut self, seen: Seen, judgement: &Judgement, terms: &Terms<'_>, now: Now) -> Observation {
        let Seen { witness, check, outcome, sent } = seen;
        let judged = match check.and_then(|check| self.probing.checks.get(check)) {
            Some(check) if check.accepts(outcome) => Verdict::Alive,
            Some(_) | None => outcome.judge(witness, &judgement.answers),
        };
        // A set that does not observe its traffic keeps what it saw, and makes nothing of it.
        let verdict = if check.is_none() && !judgement.observe.enabled { Verdict::Neutral } else { judged };
        let latency = now.mono.since(sent);
        if matches!(judged, Verdict::Alive | Verdict::Busy(_)) {
            self.alive = Some(now.mono);
        }
        match check {
            None if witness == Witness::Other => {}
            None => {
                if matches!(judged, Verdict::Alive | Verdict::Busy(_)) {
                    self.heard = Some(now.mono);
                }
                self.record.hear(verdict, sent, terms, now.mono);
            }
            Some(check) => {
                if let (Some(count), Some(check)) = (self.counts.get_mut(check), self.probing.checks.get(check)) {
                    count.hear(verdict, sent, check.fall, check.rise);
                }
            }
        }
        match verdict {
            Verdict::Busy(time) => {
                let now = now.mono;
                let new = NoRoom { witness: Some(witness), since: now, until: now + time };
                let before = self.busy.filter(|busy| busy.until > now);
                self.busy = Some(before.map_or(new, |busy| NoRoom { until: busy.until.max(new.until), ..busy }));
            }
            // Whoever takes a call that came after it had no room has room; a probe needs none, and takes back only what a
            // probe was told.
            Verdict::Alive => {
                let takes_back = |busy: &NoRoom| {
                    sent >= busy.since && (witness == Witness::Traffic || busy.witness == Some(witness))
                };
                self.busy = self.busy.filter(|busy| !takes_back(busy));
            }
            Verdict::Fall | Verdict::Neutral => {}
        }
        self.answered |= matches!(verdict, Verdict::Alive | Verdict::Busy(_));
        if matches!(outcome, Outcome::Answered { .. } | Outcome::Connected) {
            self.latencies[witness as usize].add(latency);
            if witness == Witness::Traffic {
                self.peak.add(latency, now.mono);
            }
        }
        let observation = Observation { at: now.wall, witness, outcome, meaning: judged.into(), latency };
        self.history.push(observation);
        observation
    }

    /// Compares the health with what was told last. What changed is old, new and why.
    pub(crate) fn turn(&mut self, judgement: &Judgement, now: Now) -> Option<(Health, Health, Why)> {
        let (old, mut new) = (self.told, self.health(judgement, now.mono));
        if old == new {
            return None;
        }
        // A trial that fails is no flap.
        if (old, new) == (Health::Up, Health::Down)
            && let Some(damping) = judgement.damping
        {
            self.penalty.fall(&damping, now.mono);
        }
        // A process that starts is no destination that comes back, nor is one that had no room.
        let came_back = matches!(new, Health::Up | Health::Busy)
            && (old == Health::Down || old == Health::Unknown && self.is_returning());
        let quiet = self.is_taken_over(old, new);
        self.risen = if came_back { Some(now.mono) } else { self.risen.filter(|_| new != Health::Down) };
        new = self.health(judgement, now.mono);
        self.told = new;
        self.since = now.wall;
        self.turned = now.mono;
        (!quiet).then(|| (old, new, self.why(judgement, now.mono)))
    }

    fn is_returning(&self) -> bool {
        matches!(self.record.trust, Trust::Trusted { times: 1.., .. })
    }

    /// How much of its weight it gets now, in percent.
    pub(crate) fn share(&self, judgement: &Judgement, now: Instant) -> u32 {
        let (Some(slow), Some(risen)) = (judgement.slow_start, self.risen) else { return 100 };
        let time = now.since(risen).as_secs_f64() / slow.window.as_secs_f64().max(0.001);
        if time >= 1.0 {
            return 100;
        }
        // In steps of ten, so that the algorithms see few changes.
        let percent = (time.powf(1.0 / slow.aggression.max(0.01)) * 10.0).floor() as u32 * 10;
        percent.clamp(u32::from(slow.min_weight_percent).clamp(1, 100), 100)
    }

    /// How long it takes to answer a call, at worst of late: a slow answer counts at once and is forgotten in ten seconds.
    pub(crate) fn call_latency(&self, now: Instant) -> Duration {
        self.peak.at(now)
    }

    /// When its health may change by time alone.
    pub(crate) fn deadline(&self, judgement: &Judgement, now: Instant) -> Option<Instant> {
        let damped = judgement.damping.and_then(|damping| self.penalty.until(&damping, now));
        let busy = self.busy.map(|busy| busy.until).filter(|until| *until > now);
        let record = self.record.deadline().filter(|at| *at > now);
        [damped, busy, record].into_iter().flatten().min()
    }

    /// The last observations, oldest first.
    pub(crate) fn history(&self) -> impl Iterator<Item = &Observation> {
        self.history.iter()
    }

    /// The penalty for flapping.
    pub(crate) fn penalty(&self, judgement: &Judgement, now: Instant) -> u32 {
        judgement.damping.map_or(0, |damping| self.penalty.value(&damping, now) as u32)
    }

    /// Latencies by witness, in the order of [`Witness::ALL`].
    pub(crate) fn latencies(&self) -> &[Latency; Witness::ALL.len()] {
        &self.latencies
    }
}
