//! What holds for the sessions of a set once they are set up: how long they last, whether they are asked if they live, and
//! what becomes of them when their destination goes down.

use std::time::Duration;

/// One `[set.session]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPolicy {
    /// The longest that a session may last from its 2xx on; none: as long as it likes.
    pub max_duration: Option<Duration>,
    /// What happens then.
    pub at_max_duration: AtMaxDuration,
    /// How long a session may outlast its session timer (RFC 4028) without a refresh.
    pub timer_grace: Duration,
    /// What becomes of the sessions of a destination that goes down.
    pub on_down: OnDown,
    /// So many of them are ended a second at most; at least 1.
    pub bye_rate: u32,
    /// Requests inside the dialog that ask whether its ends live; none: nobody is asked.
    pub ping: Option<Ping>,
}

impl Default for SessionPolicy {
    fn default() -> Self {
        SessionPolicy {
            max_duration: None,
            at_max_duration: AtMaxDuration::default(),
            timer_grace: Duration::from_secs(32),
            on_down: OnDown::default(),
            bye_rate: 100,
            ping: None,
        }
    }
}

/// What happens to a session at its longest duration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AtMaxDuration {
    /// Both ends get BYE.
    #[default]
    Bye,
    /// It is counted no more, and nobody is told.
    Silent,
}

/// What becomes of the sessions of a destination that goes down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDown {
    /// They go on: media and MRCP may flow all the same.
    #[default]
    Keep,
    /// Their callers get BYE.
    Bye,
}

/// How the ends of a session are asked whether they live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping {
    /// By which request.
    pub method: PingMethod,
    /// Who is asked.
    pub legs: PingLegs,
    /// From one to the next.
    pub interval: Duration,
    /// How long an answer is waited for; less than the interval.
    pub timeout: Duration,
    /// Failed ones in a row that make an end dead; at least 1.
    pub fall: u32,
}

impl Default for Ping {
    fn default() -> Self {
        Ping {
            method: PingMethod::default(),
            legs: PingLegs::default(),
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            fall: 3,
        }
    }
}

/// The request of a ping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PingMethod {
    /// OPTIONS.
    #[default]
    Options,
    /// UPDATE without a session description (RFC 3311). A session with a session timer gets OPTIONS all the same, since an
    /// UPDATE would refresh or stop its timer (RFC 4028 section 7.2).
    Update,
}

/// Who is pinged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PingLegs {
    /// The caller.
    Caller,
    /// The destination.
    Destination,
    /// Both.
    #[default]
    Both,
}
