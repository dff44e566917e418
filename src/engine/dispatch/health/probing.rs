//! How a set asks its destinations whether they are there.

use std::time::Duration;

use super::answers::Codes;
use super::count::Level;
use super::observation::{Outcome, Witness};
use crate::engine::flow::ListenerId;

/// All probes of a destination, and what they say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probing {
    /// The probes; none: it is not probed.
    pub checks: Vec<Check>,
    /// How many of them must be good.
    pub combine: Combine,
    /// What a destination is held for before its first probe has come back.
    pub init_state: InitState,
    /// When it is probed at all.
    pub when: When,
    /// Which of the cluster's nodes probe it.
    pub who: Who,
}

impl Default for Probing {
    /// None.
    fn default() -> Self {
        Probing {
            checks: Vec::new(),
            combine: Combine::All,
            init_state: InitState::Up,
            when: When::Always,
            who: Who::All,
        }
    }
}

/// One kind of probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is asked.
    pub kind: CheckKind,
    /// Time between two of them; at least 100 ms.
    pub interval: Duration,
    /// The same while the level may be about to change.
    pub fast_interval: Duration,
    /// The same while it is down.
    pub down_interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Percent of the interval that chance takes off or adds, in all; at most 100.
    pub jitter_percent: u8,
    /// Bad ones in a row that turn up into down; at least 1.
    pub fall: u32,
    /// Good ones in a row that turn down into up; at least 1.
    pub rise: u32,
}

impl Check {
    /// A probe of that kind with the usual times: every 10 s, every second when in doubt, every 5 s while down.
    pub fn new(kind: CheckKind) -> Self {
        Check {
            kind,
            interval: Duration::from_secs(10),
            fast_interval: Duration::from_secs(1),
            down_interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            jitter_percent: 10,
            fall: 2,
            rise: 2,
        }
    }

    /// Whether it ended as it is told to take for alive, whatever the set's table of answers says.
    pub(crate) fn accepts(&self, outcome: Outcome) -> bool {
        match (&self.kind, outcome) {
            (CheckKind::Sip(sip), Outcome::Answered { status, .. }) => sip.accept.iter().any(|codes| codes.has(status)),
            (CheckKind::Sip(_) | CheckKind::Tcp { .. } | CheckKind::Http { .. }, _) => false,
        }
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// A SIP request outside a dialog.
    Sip(SipProbe),
    /// Whether a TCP connection can be made.
    Tcp {
        /// To that port; none: to the one that the server's last SDP named for `TCP/MRCPv2`, and nothing is asked before.
        port: Option<u16>,
    },
    /// Whether a GET is answered 2xx or 3xx.
    Http {
        /// The port.
        port: u16,
        /// The path, from its slash.
        path: String,
    },
}

impl CheckKind {
    /// The witness that it makes.
    pub fn witness(&self) -> Witness {
        match self {
            CheckKind::Sip(_) => Witness::Options,
            CheckKind::Tcp { .. } => Witness::Tcp,
            CheckKind::Http { .. } => Witness::Http,
        }
    }
}

/// A SIP probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SipProbe {
    /// The method: OPTIONS unless told otherwise.
    pub method: String,
    /// The URI in From; none: `sip:tandem@` and the listener's address.
    pub from: Option<String>,
    /// The listener that it leaves by, one of the node's own; none: the first that reaches the destination.
    pub socket: Option<ListenerId>,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// Max-Forwards.
    pub max_forwards: u8,
    /// Answers that are alive for it, whatever the set's table says of them.
    pub accept: Vec<Codes>,
}

impl Default for SipProbe {
    fn default() -> Self {
        SipProbe {
            method: "OPTIONS".to_owned(),
            from: None,
            socket: None,
            headers: Vec::new(),
            max_forwards: 70,
            accept: Vec::new(),
        }
    }
}

/// How many of the probes of a destination must be good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combine {
    /// Every one.
    All,
    /// At least one.
    Any,
    /// At least so many.
    AtLeast(u32),
}

impl Combine {
    /// What several levels say together.
    pub(crate) fn level(self, levels: impl Iterator<Item = Level> + Clone) -> Level {
        let count = |level| levels.clone().filter(|one| *one == level).count();
        let (all, up, down) = (levels.clone().count(), count(Level::Up), count(Level::Down));
        let needed = match self {
            Combine::All => all,
            Combine::Any => 1,
            Combine::AtLeast(number) => number as usize,
        };
        match (up >= needed, all - down >= needed) {
            (true, _) => Level::Up,
            (false, true) => Level::Unknown,
            (false, false) => Level::Down,
        }
    }
}

/// What a destination is held for before its first probe has come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InitState {
    /// Up.
    #[default]
    Up,
    /// Nothing is known; it gets calls.
    Unknown,
    /// Down: it gets calls after `rise` good probes.
    Down,
}

/// When a destination is probed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// Always.
    #[default]
    Always,
    /// Only while it is not up.
    Down,
    /// Only while it is not up, or if no call has shown for an interval that it works.
    Idle,
}

/// Which nodes of a cluster probe a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Who {
    /// Each of them.
    #[default]
    All,
    /// So many of those that are there; at least 1. The others go by what these tell.
    Shared {
        /// How many.
        probers: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::Level::{Down, Unknown, Up};
    use super::*;
    use crate::engine::clock::{Instant, Now};
    use crate::engine::dispatch::health::{Condition, Health, Judgement, Kept, Seen, Terms};

    #[test]
    fn a_port_that_nothing_has_named_yet_is_not_down() {
        let now = Now { mono: Instant::ZERO, wall: std::time::SystemTime::UNIX_EPOCH };
        let kinds = [CheckKind::Sip(SipProbe::default()), CheckKind::Tcp { port: None }];
        let checks: Vec<_> = kinds.into_iter().map(Check::new).collect();
        let judgement = Judgement::default();
        let terms = Terms { observe: &judgement.observe, may_eject: true, chance: 0.5 };
        let begin = |init_state| {
            let probing = Probing { checks: checks.clone(), init_state, ..Probing::default() };
            Condition::new(probing.into(), now)
        };
        let by_policy = begin(InitState::Down);
        let (mut by_table, mut by_disk) = (begin(InitState::Up), begin(InitState::Up));
        by_table.begin_down(&terms, now.mono);
        by_disk.restore(Kept { probes_down: true, ..Kept::default() }, &Judgement::default(), now.mono);
        for mut condition in [by_policy, by_table, by_disk] {
            let levels: Vec<_> = (0..2).filter_map(|check| Some(condition.count(check)?.level)).collect();
            assert_eq!((levels, condition.health(&judgement, now.mono)), (vec![Down, Unknown], Health::Down));
            // Two good OPTIONS, whose answers name no port: a call may try it, and its answer will.
            for _ in 0..2 {
                let outcome = Outcome::answered(200);
                let seen = Seen { witness: Witness::Options, check: Some(0), outcome, sent: now.mono };
                condition.see(seen, &judgement, &terms, now);
            }
            assert_eq!(condition.health(&judgement, now.mono), Health::Unknown);
        }
    }

    #[test]
    fn a_first_failure_does_not_tell_that_it_is_up() {
        let now = Now { mono: Instant::ZERO, wall: std::time::SystemTime::UNIX_EPOCH };
        let probing = Probing { checks: vec![Check::new(CheckKind::Sip(SipProbe::default()))], ..Probing::default() };
        let judgement = Judgement::default();
        let terms = Terms { observe: &judgement.observe, may_eject: true, chance: 0.5 };
        let told = |outcomes: &[Outcome]| {
            let mut condition = Condition::new(probing.clone().into(), now);
            let mut turn = |&outcome| {
                let seen = Seen { witness: Witness::Options, check: Some(0), outcome, sent: now.mono };
                condition.see(seen, &judgement, &terms, now);
                condition.turn(&judgement, now).map(|(old, new, _)| (old, new))
            };
            outcomes.iter().map(&mut turn).collect::<Vec<_>>()
        };
        let down = Some((Health::Up, Health::Down));
        assert_eq!(told(&[Outcome::Refused, Outcome::TimedOut]), [None, down]);
        assert_eq!(told(&[Outcome::Refused, Outcome::answered(200)]), [None, None]);
    }

    #[test]
    fn several_probes_say_one_thing_together() {
        for (combine, levels, together) in [
            (Combine::All, &[Up, Up][..], Up),
            (Combine::All, &[Up, Unknown], Unknown),
            (Combine::All, &[Unknown, Down], Down),
            (Combine::Any, &[Down, Up], Up),
            (Combine::Any, &[Down, Unknown], Unknown),
            (Combine::Any, &[Down, Down], Down),
            (Combine::AtLeast(2), &[Up, Up, Down], Up),
            (Combine::AtLeast(2), &[Up, Unknown, Down], Unknown),
            (Combine::AtLeast(2), &[Up, Down, Down], Down),
        ] {
            assert_eq!(combine.level(levels.iter().copied()), together, "{combine:?} {levels:?}");
        }
    }
}
