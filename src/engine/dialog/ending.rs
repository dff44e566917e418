//! Why a session is over, or why a call never became one.

/// Why an entry has left the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// The caller sent BYE.
    CallerBye,
    /// The destination sent BYE.
    DestinationBye,
    /// A re-INVITE, UPDATE or INFO was answered 481 or 408, or not at all (RFC 3261 section 12.2.1.2), or OPTIONS 481.
    Gone,
    /// It has lasted as long as its set allows.
    MaxDuration,
    /// Its session timer ran out without a refresh (RFC 4028 section 10).
    SessionTimer,
    /// An operator ended it.
    Operator,
    /// The caller answers no pings.
    CallerSilent,
    /// The destination answers no pings.
    DestinationSilent,
    /// Its destination went down.
    DestinationDown,
    /// Its destination was to be empty by now.
    Drained,
    /// Nothing was heard of it for `limits.session_lifetime`.
    Quiet,
    /// The call had a final answer that is no 2xx.
    Rejected,
    /// The caller gave the call up.
    Cancelled,
    /// Every try at a destination failed.
    Failed,
    /// No destination of its set was fit.
    Empty,
    /// Every destination of its set was at its limit.
    Full,
    /// The address that the call came by went to another node before it was set up here: that one may have completed it.
    AddressLost,
    /// Another node has it now, or had it when it ended: a message of it came there.
    Moved,
}

impl Ending {
    /// Every ending, in the order of `as usize`.
    pub const ALL: [Ending; 18] = [
        Ending::CallerBye,
        Ending::DestinationBye,
        Ending::Gone,
        Ending::MaxDuration,
        Ending::SessionTimer,
        Ending::Operator,
        Ending::CallerSilent,
        Ending::DestinationSilent,
        Ending::DestinationDown,
        Ending::Drained,
        Ending::Quiet,
        Ending::Rejected,
        Ending::Cancelled,
        Ending::Failed,
        Ending::Empty,
        Ending::Full,
        Ending::AddressLost,
        Ending::Moved,
    ];

    /// As in records and in a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Ending::CallerBye => "caller_bye",
            Ending::DestinationBye => "destination_bye",
            Ending::Gone => "gone",
            Ending::MaxDuration => "max_duration",
            Ending::SessionTimer => "session_timer",
            Ending::Operator => "operator",
            Ending::CallerSilent => "caller_silent",
            Ending::DestinationSilent => "destination_silent",
            Ending::DestinationDown => "destination_down",
            Ending::Drained => "drain_deadline",
            Ending::Quiet => "quiet",
            Ending::Rejected => "rejected",
            Ending::Cancelled => "cancelled",
            Ending::Failed => "failed",
            Ending::Empty => "empty",
            Ending::Full => "full",
            Ending::AddressLost => "address_lost",
            Ending::Moved => "moved",
        }
    }
}
