//! What an operator wants of a destination: who said so, when and why. Health is another thing.

use std::time::SystemTime;

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
    /// Until when a destination that drains should be empty; people are told when it is not.
    pub deadline: Option<SystemTime>,
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

    /// Whether it is the same order by the same for the same reason: a deadline is a date, and no news.
    pub(super) fn means_the_same(&self, other: &Standing) -> bool {
        self.says_the_same(&Standing { deadline: self.deadline, ..other.clone() })
    }

    /// What the table's `state` column says.
    pub(super) fn of_table(order: Order, at: SystemTime) -> Self {
        Standing { order, by: TABLE.to_owned(), reason: String::new(), at, deadline: None }
    }
}
