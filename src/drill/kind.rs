//! What may go wrong: how it is noticed, what it can't but cost, and its usual limits.

use std::time::Duration;

use super::course::Times;
use super::limits::Limits;

/// A drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A destination's process dies.
    KillDestination,
    /// A destination stops answering, and goes on later.
    HangDestination,
    /// A node's process dies, which holds a virtual address.
    KillNode,
    /// A virtual address moves as planned, and back.
    MoveVip,
    /// The nodes hear nothing of each other.
    CutGossip,
    /// One node does not reach one destination, which all others do.
    CutDestination,
    /// Some packets are lost everywhere.
    LosePackets,
    /// All destinations die.
    AllServersDead,
    /// The nodes are restarted as planned, one after another.
    RestartNodes,
    /// The nodes are brought to another version of the program as planned, one after another, and back.
    UpgradeNodes,
    /// The database hangs, then dies.
    StopDatabase,
    /// The table loses all its rows.
    EmptyTable,
}

/// By what nodes show that they have noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// A destination that was fit is no longer.
    Unfit,
    /// No destination is fit.
    NoneFit,
    /// Other addresses are here than before.
    Moved,
    /// Another node that was heard is no longer.
    Deaf,
    /// They can't have the rows, say so and serve all the same; when that is over, other rows are in place.
    Stale,
    /// They have nothing to notice.
    Nothing,
}

/// How many nodes must notice, of those that can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Each of them.
    All,
    /// One, whatever the others see.
    Any,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 12] = [
        Kind::KillDestination,
        Kind::HangDestination,
        Kind::KillNode,
        Kind::MoveVip,
        Kind::CutGossip,
        Kind::CutDestination,
        Kind::LosePackets,
        Kind::AllServersDead,
        Kind::RestartNodes,
        Kind::UpgradeNodes,
        Kind::StopDatabase,
        Kind::EmptyTable,
    ];

    /// As it is written on the command line and in a site's file.
    pub fn name(self) -> &'static str {
        match self {
            Kind::KillDestination => "kill-destination",
            Kind::HangDestination => "hang-destination",
            Kind::KillNode => "kill-node",
            Kind::MoveVip => "move-vip",
            Kind::CutGossip => "cut-gossip",
            Kind::CutDestination => "cut-destination",
            Kind::LosePackets => "lose-packets",
            Kind::AllServersDead => "all-servers-dead",
            Kind::RestartNodes => "restart-nodes",
            Kind::UpgradeNodes => "upgrade-nodes",
            Kind::StopDatabase => "stop-database",
            Kind::EmptyTable => "empty-table",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether its act leaves all as it was, so that there is nothing to undo.
    pub fn leaves_nothing(self) -> bool {
        self == Kind::RestartNodes
    }

    /// How long things are left as they are if nobody says otherwise: a server that was dead gets no call for a while.
    pub fn times(self) -> Times {
        let seconds = Duration::from_secs;
        let (during, after) = match self {
            Kind::RestartNodes => (20, 10),
            // Both ways take as long as their commands take.
            Kind::UpgradeNodes => (15, 20),
            // It hangs for most of that; then the nodes' next try may be a while away.
            Kind::StopDatabase => (16, 20),
            _ if matches!(self.sign(), Sign::Unfit | Sign::NoneFit) => (10, 15),
            _ => (10, 10),
        };
        Times { before: seconds(10), during: seconds(during), after: seconds(after) }
    }

    /// By what the nodes show that they have noticed.
    pub fn sign(self) -> Sign {
        match self {
            Kind::KillDestination | Kind::HangDestination | Kind::CutDestination => Sign::Unfit,
            Kind::KillNode | Kind::MoveVip | Kind::RestartNodes | Kind::UpgradeNodes => Sign::Moved,
            Kind::CutGossip => Sign::Deaf,
            Kind::LosePackets => Sign::Nothing,
            Kind::AllServersDead => Sign::NoneFit,
            Kind::StopDatabase | Kind::EmptyTable => Sign::Stale,
        }
    }

    /// Which nodes must notice.
    pub fn who(self) -> Who {
        match self {
            // The other nodes reach it, and their own later success outvotes what the one says.
            Kind::CutDestination => Who::Any,
            Kind::KillDestination | Kind::HangDestination | Kind::KillNode | Kind::MoveVip => Who::All,
            Kind::CutGossip | Kind::LosePackets | Kind::AllServersDead | Kind::RestartNodes => Who::All,
            Kind::UpgradeNodes | Kind::StopDatabase | Kind::EmptyTable => Who::All,
        }
    }

    /// The answer to new calls that is as it should be while this lasts.
    pub fn fitting_status(self) -> Option<u16> {
        (self == Kind::AllServersDead).then_some(480)
    }

    /// The usual limits.
    pub fn limits(self) -> Limits {
        let limits = Limits {
            lost: 0,
            failed: 0,
            gap: Duration::from_secs(1),
            detection: Some(Duration::from_secs(1)),
            recovery: Some(Duration::from_secs(15)),
            left: Some(0),
            count: Some(Duration::from_millis(750)),
            unheard: None,
        };
        let seconds = |number| Some(Duration::from_secs(number));
        match self {
            // Sessions of a server that has died live on where nobody hangs up.
            Kind::KillDestination => Limits { count: None, ..limits },
            // A call waits 2 s for its first answer. Of several that die on one host ICMP tells little, since hosts send one a second.
            Kind::CutDestination => Limits { detection: seconds(3), ..limits },
            Kind::HangDestination | Kind::AllServersDead => Limits { detection: seconds(3), count: None, ..limits },
            // keepalived asks twice, a second apart.
            Kind::KillNode => Limits {
                failed: 3,
                gap: Duration::from_secs(5),
                detection: seconds(5),
                recovery: seconds(10),
                ..limits
            },
            Kind::MoveVip => Limits {
                failed: 3,
                gap: Duration::from_millis(1500),
                detection: Some(Duration::from_millis(1500)),
                recovery: seconds(5),
                ..limits
            },
            Kind::CutGossip => Limits { detection: seconds(2), recovery: seconds(1), ..limits },
            Kind::LosePackets => Limits { detection: None, recovery: None, ..limits },
            Kind::RestartNodes => {
                Limits { failed: 6, gap: Duration::from_millis(1500), detection: None, recovery: seconds(5), ..limits }
            }
            // Both ways cost no more than one of them.
            Kind::UpgradeNodes => Limits { unheard: Some(0), ..Kind::RestartNodes.limits() },
            // The rows are looked at every 5 s, and a database that hangs is given up after 5 s. After that it is tried again later
            // and later.
            Kind::StopDatabase => Limits { detection: seconds(12), recovery: seconds(20), ..limits },
            Kind::EmptyTable => Limits { detection: seconds(7), recovery: seconds(7), ..limits },
        }
    }
}
