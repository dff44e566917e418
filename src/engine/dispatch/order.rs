//! What an operator wants of a destination: who said so, when and why. Health is another thing.

use std::time::{Duration, SystemTime};

/// What an operator wants of a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// In service.
    #[default]
    Ready,
    /// Keeps its sessions, takes no new one.
    Drain,
    /// Out of service.
    Maint,
}

impl Order {
    /// Each of them.
    pub const ALL: [Order; 3] = [Order::Ready, Order::Drain, Order::Maint];

    /// As in the interface: `ready`, `drain`, `maint`.
    pub fn name(self) -> &'static str {
        match self {
            Order::Ready => "ready",
            Order::Drain => "drain",
            Order::Maint => "maint",
        }
    }

    /// The order of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|order| order.name() == name)
    }
}

/// An order with its giver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The order.
    pub order: Order,
    /// Who gave it: a person's name, or `table` for the `state` column.
    pub by: String,
    /// Why; "" if nobody said.
    pub reason: String,
    /// When.
    pub at: SystemTime,
    /// Until when a destination that drains should be empty.
    pub deadline: Option<Deadline>,
}

/// Until when a destination that drains should be empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// The moment.
    pub at: SystemTime,
    /// What happens to the sessions that it still has then.
    pub then: AtDeadline,
}

/// What happens to the sessions that a destination still has at its deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AtDeadline {
    /// They go on, and people are told.
    #[default]
    Tell,
    /// They are ended, by BYE to both ends.
    End,
}

/// As exactly as nodes tell each other: an order has one moment on all of them.
pub(super) fn to_millis(at: SystemTime) -> SystemTime {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_millis(since.as_millis().try_into().unwrap_or(u64::MAX >> 10))
}

/// Who gives the orders of the `state` column.
const TABLE: &str = "table";

impl Standing {
    /// Whether somebody gave it, and not the table.
    pub fn is_by_hand(&self) -> bool {
        self.by != TABLE
    }

    /// Whether it is the same but for when it was given.
    pub(super) fn says_the_same(&self, other: &Standing) -> bool {
        *self == Standing { at: self.at, ..other.clone() }
    }

    /// Whether it is the same order by the same for the same reason: a deadline is a date, and no news, but that sessions are
    /// ended then is.
    pub(super) fn means_the_same(&self, other: &Standing) -> bool {
        self.ends_sessions() == other.ends_sessions()
            && self.says_the_same(&Standing { deadline: self.deadline, ..other.clone() })
    }

    /// Of two orders the greater one stands, on every node the same: the newer, and of two of one moment any.
    pub(super) fn rank(&self) -> impl Ord + '_ {
        let Standing { order, by, reason, at, deadline } = self;
        let deadline = deadline.map(|deadline| (deadline.at, deadline.then == AtDeadline::End));
        (*at, *order as u8, by, reason, deadline)
    }

    /// Whether sessions are ended at its deadline.
    pub fn ends_sessions(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline.then == AtDeadline::End)
    }

    /// Whether the sessions that are left now are to be ended.
    pub(crate) fn ends_sessions_now(&self, now: SystemTime) -> bool {
        self.ends_sessions() && self.deadline.is_some_and(|deadline| deadline.at <= now)
    }

    /// What the table's `state` column says.
    pub(super) fn of_table(order: Order, at: SystemTime) -> Self {
        Standing { order, by: TABLE.to_owned(), reason: String::new(), at: to_millis(at), deadline: None }
    }
}
