//! What the edge counts: datagrams, bytes, and what was lost on our side of the wire.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// Why a message was not sent. Our own trouble, never evidence against the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SendFault {
    /// The socket's send buffer is full (EAGAIN).
    Full,
    /// ICMP errors were pending on the socket, twice (ECONNREFUSED).
    Refused,
    /// No route, or the interface is down (ENETUNREACH, EHOSTUNREACH, ENETDOWN).
    NoRoute,
    /// The address that we send from is not here, or does not fit the peer's (EADDRNOTAVAIL, EINVAL, EAFNOSUPPORT).
    BadAddress,
    /// The kernel has no memory for it (ENOBUFS, ENOMEM).
    NoBuffers,
    /// A packet filter forbids it (EPERM, EACCES).
    Forbidden,
    /// Larger than a datagram can be (EMSGSIZE).
    TooLarge,
    /// There is no socket for that listener and transport.
    NoSocket,
    /// Any other error.
    Other,
}

impl SendFault {
    /// Every fault, in the order of `as usize`.
    pub const ALL: [SendFault; 9] = [
        SendFault::Full,
        SendFault::Refused,
        SendFault::NoRoute,
        SendFault::BadAddress,
        SendFault::NoBuffers,
        SendFault::Forbidden,
        SendFault::TooLarge,
        SendFault::NoSocket,
        SendFault::Other,
    ];

    /// Whether the same message may leave when it is sent again.
    pub fn is_passing(self) -> bool {
        matches!(self, SendFault::Full | SendFault::Refused | SendFault::NoBuffers)
    }

    /// As in a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            SendFault::Full => "full",
            SendFault::Refused => "refused",
            SendFault::NoRoute => "no_route",
            SendFault::BadAddress => "bad_address",
            SendFault::NoBuffers => "no_buffers",
            SendFault::Forbidden => "forbidden",
            SendFault::TooLarge => "too_large",
            SendFault::NoSocket => "no_socket",
            SendFault::Other => "other",
        }
    }
}

/// Why a record was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordFault {
    /// The disk takes them more slowly than they come.
    Slow,
    /// The disk or the user's share of it is full (ENOSPC, EDQUOT, EFBIG).
    NoSpace,
    /// This user may not write there (EACCES, EPERM, EROFS).
    Denied,
    /// The folder is not there (ENOENT, ENOTDIR).
    NoFolder,
    /// Any other error.
    Other,
}

impl RecordFault {
    /// Every fault, in the order of `as usize`.
    pub const ALL: [RecordFault; 5] =
        [RecordFault::Slow, RecordFault::NoSpace, RecordFault::Denied, RecordFault::NoFolder, RecordFault::Other];

    /// As in a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            RecordFault::Slow => "slow",
            RecordFault::NoSpace => "no_space",
            RecordFault::Denied => "denied",
            RecordFault::NoFolder => "no_folder",
            RecordFault::Other => "other",
        }
    }

    /// What to do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            RecordFault::NoSpace => "make room on their disk",
            RecordFault::Denied => "let this user write their file",
            RecordFault::NoFolder => "make their folder",
            RecordFault::Slow | RecordFault::Other => "mend their disk, or give another file under [records]",
        }
    }
}

/// The counters at one moment, all since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EdgeCounters {
    /// Datagrams received.
    pub received: u64,
    /// Their bytes, without IP and UDP headers.
    pub received_bytes: u64,
    /// Datagrams handed to the kernel.
    pub sent: u64,
    /// Their bytes, without IP and UDP headers.
    pub sent_bytes: u64,
    /// Messages not sent, by fault (`SendFault::ALL`).
    pub send_faults: [u64; SendFault::ALL.len()],
    /// Errors of the receiving call.
    pub receive_faults: u64,
    /// Events that nobody took in time.
    pub events_dropped: u64,
    /// Checks of destinations that could not be made, for reasons of our own.
    pub check_faults: u64,
    /// Times that what is to outlive a restart could not be written.
    pub state_faults: u64,
    /// Records written to their file.
    pub records_written: u64,
    /// Records that were not, by fault (`RecordFault::ALL`).
    pub records_dropped: [u64; RecordFault::ALL.len()],
    /// What keeps records out of their file now.
    pub record_fault: Option<RecordFault>,
    /// Turns of the engine's thread.
    pub turns: u64,
    /// How long they took in all.
    pub busy: Duration,
    /// TCP: connections and messages.
    pub streams: StreamCounters,
}

/// What is counted of TCP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamCounters {
    /// Connections now, those that are being made included.
    pub connections: u64,
    /// Connections that peers made and we took.
    pub accepted: u64,
    /// Connections that a limit forbade, theirs and ours.
    pub refused: u64,
    /// Connections that we could not make.
    pub connect_failures: u64,
    /// Messages that found their connection's queue full.
    pub full: u64,
    /// Messages received.
    pub received: u64,
    /// Messages handed to the kernel.
    pub sent: u64,
}

/// The counters as they are written, by the engine's thread and the connections, and read by any.
#[derive(Debug, Default)]
pub struct Counters {
    received: AtomicU64,
    received_bytes: AtomicU64,
    sent: AtomicU64,
    sent_bytes: AtomicU64,
    send_faults: [AtomicU64; SendFault::ALL.len()],
    receive_faults: AtomicU64,
    events_dropped: AtomicU64,
    check_faults: AtomicU64,
    state_faults: AtomicU64,
    records_written: AtomicU64,
    records_dropped: [AtomicU64; RecordFault::ALL.len()],
    /// By its place in [`RecordFault::ALL`], from 1; 0: none.
    record_fault: AtomicUsize,
    turns: AtomicU64,
    /// In nanoseconds.
    busy: AtomicU64,
    streams: AtomicStreams,
}

#[derive(Debug, Default)]
struct AtomicStreams {
    connections: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    connect_failures: AtomicU64,
    full: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

impl Counters {
    /// Counts a batch of received datagrams.
    pub fn received(&self, datagrams: u64, bytes: u64) {
        self.received.fetch_add(datagrams, Relaxed);
        self.received_bytes.fetch_add(bytes, Relaxed);
    }

    /// Counts one datagram that the kernel took.
    pub fn sent(&self, bytes: usize) {
        self.sent.fetch_add(1, Relaxed);
        self.sent_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Counts one message that was not sent.
    pub fn not_sent(&self, fault: SendFault) {
        self.send_faults[fault as usize].fetch_add(1, Relaxed);
    }

    /// Counts one failed receiving call.
    pub fn not_received(&self) {
        self.receive_faults.fetch_add(1, Relaxed);
    }

    /// Counts one event that nobody took.
    pub fn event_dropped(&self) {
        self.events_dropped.fetch_add(1, Relaxed);
    }

    /// Counts one check that could not be made.
    pub fn not_checked(&self) {
        self.check_faults.fetch_add(1, Relaxed);
    }

    /// Counts one time that what is to outlive a restart could not be written.
    pub fn not_kept(&self) {
        self.state_faults.fetch_add(1, Relaxed);
    }

    /// Counts records that are in their file.
    pub fn records_written(&self, records: u64) {
        self.records_written.fetch_add(records, Relaxed);
    }

    /// Counts records that will not be.
    pub fn records_dropped(&self, fault: RecordFault, records: u64) {
        self.records_dropped[fault as usize].fetch_add(records, Relaxed);
    }

    /// Tells what keeps records out of their file now.
    pub fn record_fault(&self, fault: Option<RecordFault>) {
        self.record_fault.store(fault.map_or(0, |fault| fault as usize + 1), Relaxed);
    }

    /// Counts one turn of the engine's thread, which took so long.
    pub fn turn(&self, time: Duration) {
        self.turns.fetch_add(1, Relaxed);
        self.busy.fetch_add(u64::try_from(time.as_nanos()).unwrap_or_default(), Relaxed);
    }

    /// Tells how many TCP connections there are now.
    pub fn streams(&self, connections: usize) {
        self.streams.connections.store(connections as u64, Relaxed);
    }

    /// Counts one connection that a peer made.
    pub fn stream_accepted(&self) {
        self.streams.accepted.fetch_add(1, Relaxed);
    }

    /// Counts one connection that a limit forbade.
    pub fn stream_refused(&self) {
        self.streams.refused.fetch_add(1, Relaxed);
    }

    /// Counts one connection that we could not make.
    pub fn connect_failed(&self) {
        self.streams.connect_failures.fetch_add(1, Relaxed);
    }

    /// Counts one message that found its connection's queue full.
    pub fn stream_full(&self) {
        self.streams.full.fetch_add(1, Relaxed);
    }

    /// Counts one message received by TCP.
    pub fn stream_received(&self) {
        self.streams.received.fetch_add(1, Relaxed);
    }

    /// Counts one message sent by TCP.
    pub fn stream_sent(&self) {
        self.streams.sent.fetch_add(1, Relaxed);
    }

    /// The values now.
    pub fn read(&self) -> EdgeCounters {
        EdgeCounters {
            received: self.received.load(Relaxed),
            received_bytes: self.received_bytes.load(Relaxed),
            sent: self.sent.load(Relaxed),
            sent_bytes: self.sent_bytes.load(Relaxed),
            send_faults: self.send_faults.each_ref().map(|count| count.load(Relaxed)),
            receive_faults: self.receive_faults.load(Relaxed),
            events_dropped: self.events_dropped.load(Relaxed),
            check_faults: self.check_faults.load(Relaxed),
            state_faults: self.state_faults.load(Relaxed),
            records_written: self.records_written.load(Relaxed),
            records_dropped: self.records_dropped.each_ref().map(|count| count.load(Relaxed)),
            record_fault: self.record_fault.load(Relaxed).checked_sub(1).map(|nth| RecordFault::ALL[nth]),
            turns: self.turns.load(Relaxed),
            busy: Duration::from_nanos(self.busy.load(Relaxed)),
            streams: StreamCounters {
                connections: self.streams.connections.load(Relaxed),
                accepted: self.streams.accepted.load(Relaxed),
                refused: self.streams.refused.load(Relaxed),
                connect_failures: self.streams.connect_failures.load(Relaxed),
                full: self.streams.full.load(Relaxed),
                received: self.streams.received.load(Relaxed),
                sent: self.streams.sent.load(Relaxed),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_its_own_place_and_name() {
        let counters = Counters::default();
        for (place, fault) in SendFault::ALL.into_iter().enumerate() {
            assert_eq!(place, fault as usize);
            (0..=place).for_each(|_| counters.not_sent(fault));
        }
        assert_eq!(counters.read().send_faults, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let names: std::collections::BTreeSet<_> = SendFault::ALL.map(SendFault::name).into();
        assert_eq!(names.len(), SendFault::ALL.len());
        for (place, fault) in RecordFault::ALL.into_iter().enumerate() {
            assert_eq!(place, fault as usize);
            counters.records_dropped(fault, place as u64 + 1);
            counters.record_fault(Some(fault));
            assert_eq!(counters.read().record_fault, Some(fault));
        }
        counters.record_fault(None);
        assert_eq!(counters.read().record_fault, None);
        assert_eq!(counters.read().records_dropped, [1, 2, 3, 4, 5]);
        let names: std::collections::BTreeSet<_> = RecordFault::ALL.map(RecordFault::name).into();
        assert_eq!(names.len(), RecordFault::ALL.len());
    }
}
