//! What the gossip counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::edge::seal::Refusal;

/// The gossip's counters at one moment, all since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterCounters {
    /// Packets sent.
    pub sent: u64,
    /// Their octets, without IP and UDP.
    pub sent_bytes: u64,
    /// The longest message sent, in octets, before it was cut and sealed.
    pub longest_message: u64,
    /// Packets received, refused ones included.
    pub received: u64,
    /// Their octets, without IP and UDP.
    pub received_bytes: u64,
    /// Packets refused, by cause ([`Refusal::ALL`]).
    pub refused: [u64; Refusal::ALL.len()],
    /// Packets that could not be sent, for reasons of our own.
    pub send_faults: u64,
    /// Errors of the receiving call.
    pub receive_faults: u64,
    /// Values of peers that could not be read.
    pub unreadable_values: u64,
    /// Seeds that could not be looked up, each time.
    pub seed_faults: u64,
    /// Times that a second node of one id was found.
    pub duplicates: u64,
    /// Times that the gossip died and was started again.
    pub restarts: u64,
}

impl ClusterCounters {
    /// Packets refused for that cause.
    pub fn refused(&self, cause: Refusal) -> u64 {
        self.refused[cause as usize]
    }
}

/// The counters as they are written.
#[derive(Debug, Default)]
pub(super) struct Counters {
    sent: AtomicU64,
    sent_bytes: AtomicU64,
    longest_message: AtomicU64,
    received: AtomicU64,
    received_bytes: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
    pub(super) send_faults: Count,
    pub(super) receive_faults: Count,
    pub(super) unreadable_values: Count,
    pub(super) seed_faults: Count,
    pub(super) duplicates: Count,
    pub(super) restarts: Count,
}

/// One of them.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add_one(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

impl Counters {
    pub(super) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(1, Relaxed);
        self.sent_bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn message(&self, bytes: usize) {
        self.longest_message.fetch_max(bytes as u64, Relaxed);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.received.fetch_add(1, Relaxed);
        self.received_bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn refused(&self, cause: Refusal) {
        self.refused[cause as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn read(&self) -> ClusterCounters {
        let of = |count: &AtomicU64| count.load(Relaxed);
        ClusterCounters {
            sent: of(&self.sent),
            sent_bytes: of(&self.sent_bytes),
            longest_message: of(&self.longest_message),
            received: of(&self.received),
            received_bytes: of(&self.received_bytes),
            refused: std::array::from_fn(|cause| of(&self.refused[cause])),
            send_faults: of(&self.send_faults.0),
            receive_faults: of(&self.receive_faults.0),
            unreadable_values: of(&self.unreadable_values.0),
            seed_faults: of(&self.seed_faults.0),
            duplicates: of(&self.duplicates.0),
            restarts: of(&self.restarts.0),
        }
    }
}
