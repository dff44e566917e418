//! A request of a simulated end, sent again until it is answered: RFC 3261 section 17.1, written down a second time.

use std::time::Duration;

/// T1 of every simulated end.
pub(crate) const T1: Duration = Duration::from_millis(500);
/// T2 of every simulated end.
pub(crate) const T2: Duration = Duration::from_secs(4);
/// When an end gives up.
pub(crate) const GIVE_UP: Duration = Duration::from_secs(32);

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing heard.
    Calling,
    /// A provisional was heard.
    Proceeding,
    /// A 2xx was heard.
    Succeeded,
    /// Another final was heard.
    Failed,
    /// Nobody answered in time.
    TimedOut,
}

/// One request.
#[derive(Debug)]
pub(crate) struct Client {
    /// Its method.
    pub(crate) method: &'static str,
    /// Its CSeq number.
    pub(crate) cseq: u32,
    /// As it is sent.
    pub(crate) bytes: String,
    /// How far it is.
    pub(crate) state: State,
    started: Duration,
    interval: Duration,
}

impl Client {
    /// A request that is sent now; look after it again in T1.
    pub(crate) fn new(method: &'static str, cseq: u32, bytes: String, now: Duration) -> Self {
        Client { method, cseq, bytes, state: State::Calling, started: now, interval: T1 }
    }

    /// Whether no final answer has been heard yet.
    pub(crate) fn waits(&self) -> bool {
        matches!(self.state, State::Calling | State::Proceeding)
    }

    /// A response was heard; true if it is the first final one.
    pub(crate) fn hear(&mut self, status: u16) -> bool {
        if !self.waits() {
            return false;
        }
        self.state = match status {
            ..200 => State::Proceeding,
            200..300 => State::Succeeded,
            300.. => State::Failed,
        };
        status >= 200
    }

    /// The timer has fired: when to look again if the request goes out again, none if not.
    pub(crate) fn again(&mut self, now: Duration) -> Option<Duration> {
        let invite = self.method == "INVITE";
        if !self.waits() || (invite && self.state == State::Proceeding) {
            return None;
        }
        if now - self.started >= GIVE_UP {
            self.state = State::TimedOut;
            return None;
        }
        self.interval *= 2;
        if !invite {
            self.interval = if self.state == State::Proceeding { T2 } else { self.interval.min(T2) };
        }
        Some(self.interval)
    }
}
