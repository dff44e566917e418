//! What the edge counts: datagrams, bytes, and what was lost on our side of the wire.

use std::sync::Arc;
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

/// Why a line was not written to its file: a record or an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LineFault {
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

impl LineFault {
    /// Every fault, in the order of `as usize`.
    pub const ALL: [LineFault; 5] =
        [LineFault::Slow, LineFault::NoSpace, LineFault::Denied, LineFault::NoFolder, LineFault::Other];

    /// As in a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            LineFault::Slow => "slow",
            LineFault::NoSpace => "no_space",
            LineFault::Denied => "denied",
            LineFault::NoFolder => "no_folder",
            LineFault::Other => "other",
        }
    }

    /// What to do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            LineFault::NoSpace => "make room on their disk",
            LineFault::Denied => "let this user write their file",
            LineFault::NoFolder => "make their folder",
            LineFault::Slow | LineFault::Other => "mend their disk, or give another file",
        }
    }
}

/// Why a request to the HTTP surface was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HttpRefusal {
    /// It has no token.
    NoToken,
    /// Nobody has its token.
    BadToken,
    /// The token's role is too low.
    Role,
    /// It came by a name that may be anybody's.
    Host,
    /// A web page of another place makes it.
    Origin,
    /// Its TLS handshake failed, or took too long.
    Tls,
}

impl HttpRefusal {
    /// Every cause, in the order of `as usize`.
    pub const ALL: [HttpRefusal; 6] = [
        HttpRefusal::NoToken,
        HttpRefusal::BadToken,
        HttpRefusal::Role,
        HttpRefusal::Host,
        HttpRefusal::Origin,
        HttpRefusal::Tls,
    ];

    /// As in a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            HttpRefusal::NoToken => "no_token",
            HttpRefusal::BadToken => "bad_token",
            HttpRefusal::Role => "role",
            HttpRefusal::Host => "host",
            HttpRefusal::Origin => "origin",
            HttpRefusal::Tls => "tls",
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
    /// Steps of calls' stories that would have taken the room of other events.
    pub steps_dropped: u64,
    /// Checks of destinations that could not be made, for reasons of our own.
    pub check_faults: u64,
    /// Times that what is to outlive a restart could not be written.
    pub state_faults: u64,
    /// The file of records.
    pub records: LineCounts,
    /// The file of events.
    pub events: LineCounts,
    /// Requests to the HTTP surface that were not let in, by cause (`HttpRefusal::ALL`).
    pub http_refused: [u64; HttpRefusal::ALL.len()],
    /// Turns of the engine's thread.
    pub turns: u64,
    /// How long they took in all.
    pub busy: Duration,
    /// TCP: connections and messages.
    pub streams: StreamCounters,
}

/// What is counted of a file of lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineCounts {
    /// Lines written.
    pub written: u64,
    /// Lines that were not, by fault (`LineFault::ALL`).
    pub dropped: [u64; LineFault::ALL.len()],
    /// What keeps lines out of the file now.
    pub fault: Option<LineFault>,
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
    steps_dropped: AtomicU64,
    check_faults: AtomicU64,
    state_faults: AtomicU64,
    records: Arc<LineCounters>,
    events: Arc<LineCounters>,
    http_refused: [AtomicU64; HttpRefusal::ALL.len()],
    turns: AtomicU64,
    /// In nanoseconds.
    busy: AtomicU64,
    streams: AtomicStreams,
}

/// The counters of a file of lines as they are written, by its thread and by who gives it lines.
#[derive(Debug, Default)]
pub struct LineCounters {
    written: AtomicU64,
    dropped: [AtomicU64; LineFault::ALL.len()],
    /// By its place in [`LineFault::ALL`], from 1; 0: none.
    fault: AtomicUsize,
}

impl LineCounters {
    /// Counts lines that are in the file.
    pub fn written(&self, lines: u64) {
        self.written.fetch_add(lines, Relaxed);
    }

    /// Counts lines that will not be.
    pub fn dropped(&self, fault: LineFault, lines: u64) {
        self.dropped[fault as usize].fetch_add(lines, Relaxed);
    }

    /// Tells what keeps lines out of the file now.
    pub fn fault(&self, fault: Option<LineFault>) {
        self.fault.store(fault.map_or(0, |fault| fault as usize + 1), Relaxed);
    }

    /// The values now.
    pub fn read(&self) -> LineCounts {
        LineCounts {
            written: self.written.load(Relaxed),
            dropped: self.dropped.each_ref().map(|count| count.load(Relaxed)),
            fault: self.fault.load(Relaxed).checked_sub(1).map(|nth| LineFault::ALL[nth]),
        }
    }
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

    /// Counts one step of a call's story that would have taken the room of other events.
    pub fn step_dropped(&self) {
        self.steps_dropped.fetch_add(1, Relaxed);
    }

    /// Counts one check that could not be made.
    pub fn not_checked(&self) {
        self.check_faults.fetch_add(1, Relaxed);
    }

    /// Counts one time that what is to outlive a restart could not be written.
    pub fn not_kept(&self) {
        self.state_faults.fetch_add(1, Relaxed);
    }

    /// Those of the file of records.
    pub fn records(&self) -> Arc<LineCounters> {
        Arc::clone(&self.records)
    }

    /// Those of the file of events.
    pub fn events(&self) -> Arc<LineCounters> {
        Arc::clone(&self.events)
    }

    /// Counts one request to the HTTP surface that was not let in.
    pub fn http_refused(&self, why: HttpRefusal) {
        self.http_refused[why as usize].fetch_add(1, Relaxed);
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
            steps_dropped: self.steps_dropped.load(Relaxed),
            check_faults: self.check_faults.load(Relaxed),
            state_faults: self.state_faults.load(Relaxed),
            records: self.records.read(),
            events: self.events.read(),
            http_refused: self.http_refused.each_ref().map(|count| count.load(Relaxed)),
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
        for (place, why) in HttpRefusal::ALL.into_iter().enumerate() {
            assert_eq!(place, why as usize);
            (0..=place).for_each(|_| counters.http_refused(why));
        }
        assert_eq!(counters.read().http_refused, [1, 2, 3, 4, 5, 6]);
        let names: std::collections::BTreeSet<_> = HttpRefusal::ALL.map(HttpRefusal::name).into();
        assert_eq!(names.len(), HttpRefusal::ALL.len());
        for (place, fault) in LineFault::ALL.into_iter().enumerate() {
            assert_eq!(place, fault as usize);
            counters.records().dropped(fault, place as u64 + 1);
            counters.records().fault(Some(fault));
            assert_eq!(counters.read().records.fault, Some(fault));
        }
        counters.records().fault(None);
        assert_eq!(counters.read().records.fault, None);
        assert_eq!(counters.read().records.dropped, [1, 2, 3, 4, 5]);
        let names: std::collections::BTreeSet<_> = LineFault::ALL.map(LineFault::name).into();
        assert_eq!(names.len(), LineFault::ALL.len());
    }
}
