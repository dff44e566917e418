//! The timers' lengths: RFC 3261 section 17 and table 4, RFC 6026 section 7, timer C of section 16.6.

use std::time::Duration;

/// The values that the timers are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Round-trip estimate; 500 ms.
    pub t1: Duration,
    /// The longest wait between resends of a non-INVITE request or a response; 4 s.
    pub t2: Duration,
    /// How long a message stays in the network; 5 s.
    pub t4: Duration,
    /// How long an INVITE may go without a final answer; above 3 minutes (section 16.6 item 11).
    pub timer_c: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing::RFC_3261
    }
}

impl Timing {
    /// The RFC's own values.
    pub const RFC_3261: Timing = Timing {
        t1: Duration::from_millis(500),
        t2: Duration::from_secs(4),
        t4: Duration::from_secs(5),
        timer_c: Duration::from_secs(181),
    };

    /// Timers B, F, H, L and M: 64*T1.
    pub fn give_up(&self) -> Duration {
        self.t1 * 64
    }
}
