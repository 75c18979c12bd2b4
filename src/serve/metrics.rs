//! What a core counts. Plain cells: one thread writes, a snapshot travels by message.

use std::cell::Cell;

/// A number that only its core touches.
#[derive(Default)]
pub(super) struct Counter(Cell<u64>);

impl Counter {
    pub(super) fn add(&self, count: u64) {
        self.0.set(self.0.get() + count);
    }

    pub(super) fn sub(&self, count: u64) {
        self.0.set(self.0.get() - count);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.get()
    }
}

/// The counters of a core.
#[derive(Default)]
pub(super) struct Metrics {
    /// Connections accepted.
    pub(super) connections: Counter,
    /// Requests answered, errors included.
    pub(super) requests: Counter,
    /// Files answered from memory.
    pub(super) cache_hits: Counter,
    /// Files looked up.
    pub(super) cache_misses: Counter,
    /// Slices of files that were in memory and went out by `sendfile`.
    pub(super) slices_sent: Counter,
    /// Looks at a part of a file that found it not in memory.
    pub(super) slices_absent: Counter,
    /// Parts that were not in memory, and were read through the ring.
    pub(super) slices_cold: Counter,
    /// Scripts started.
    pub(super) scripts: Counter,
    /// Scripts running now.
    pub(super) scripts_running: Counter,
}

/// A snapshot of one core.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct CoreStats {
    /// The runtime's own counters.
    pub rt: crate::rt::Stats,
    /// Connections accepted.
    pub connections: u64,
    /// Connections open now.
    pub connections_open: usize,
    /// Requests answered, errors included.
    pub requests: u64,
    /// Files answered from memory.
    pub cache_hits: u64,
    /// Files looked up.
    pub cache_misses: u64,
    /// Slices of files that were in memory and went out by `sendfile`.
    pub slices_sent: u64,
    /// Looks at a part of a file that found it not in memory.
    pub slices_absent: u64,
    /// Parts that were not in memory, and were read through the ring.
    pub slices_cold: u64,
    /// Scripts started.
    pub scripts: u64,
    /// Scripts running now.
    pub scripts_running: u64,
}
