//! What a core counts. Plain cells: one thread writes, a snapshot travels by message.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::http::status::Status;

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
    /// Of them, those that were answered with a 5xx.
    pub(super) errors: Counter,
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
    /// Connections that were refused because their address had as many as it may.
    pub(super) connections_refused_per_ip: Counter,
    /// Connections that were closed for want of a PROXY header, or of trust in who sent it.
    pub(super) proxy_headers_refused: Counter,
}

impl Metrics {
    /// A request was answered, with this status.
    pub(super) fn answered(&self, status: Status) {
        self.errors.add(u64::from(status.code() >= 500));
    }
}

/// What a stop had to end because the drain was over before it was.
#[derive(Default)]
pub(super) struct Cut {
    connections: AtomicU64,
    scripts: AtomicU64,
}

impl Cut {
    pub(super) fn add(&self, connections: u64, scripts: u64) {
        self.connections.fetch_add(connections, Ordering::Relaxed);
        self.scripts.fetch_add(scripts, Ordering::Relaxed);
    }

    pub(super) fn count(&self) -> CutStats {
        let (connections, scripts) = (self.connections.load(Ordering::Relaxed), self.scripts.load(Ordering::Relaxed));
        CutStats { connections, scripts }
    }
}

/// How much was cut at a stop, instead of finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CutStats {
    /// Connections, in the middle of a request or its reply.
    pub connections: u64,
    /// Scripts.
    pub scripts: u64,
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
    /// Of them, those that were answered with a 5xx.
    pub errors: u64,
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
    /// Connections that were refused because their address had as many as it may.
    pub connections_refused_per_ip: u64,
    /// Connections that were closed for want of a PROXY header, or of trust in who sent it.
    pub proxy_headers_refused: u64,
    /// Records of the access log that were lost.
    pub log_records_lost: u64,
}
