//! What another thread may read while the generator works: numbers that are stored, never waited for.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The numbers of one generator thread, for the thread that draws them. Alone on its cache lines: reading them costs the
/// generator nothing but the next store.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Live {
    responses: AtomicU64,
    errors: AtomicU64,
    wire_bytes: AtomicU64,
    now_ns: AtomicU64,
    last_p50_ns: AtomicU64,
    last_p99_ns: AtomicU64,
    last_max_ns: AtomicU64,
}

/// What [`Live`] held at some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Answers since the start of the run, the warm-up's too.
    pub responses: u64,
    /// Errors since the start, the warm-up's too.
    pub errors: u64,
    /// Bytes received since the start.
    pub wire_bytes: u64,
    /// The generator's time, since the start of the run.
    pub now_ns: u64,
    /// The median response time of the last interval that ended; 0 before that, and when it had too few answers to say.
    pub last_p50_ns: u64,
    /// Its 99th percentile.
    pub last_p99_ns: u64,
    /// Its maximum.
    pub last_max_ns: u64,
}

impl Live {
    /// What it holds now. Each number is right, but they may be a few microseconds apart.
    #[must_use]
    pub fn read(&self) -> Snapshot {
        Snapshot {
            responses: self.responses.load(Relaxed),
            errors: self.errors.load(Relaxed),
            wire_bytes: self.wire_bytes.load(Relaxed),
            now_ns: self.now_ns.load(Relaxed),
            last_p50_ns: self.last_p50_ns.load(Relaxed),
            last_p99_ns: self.last_p99_ns.load(Relaxed),
            last_max_ns: self.last_max_ns.load(Relaxed),
        }
    }

    pub(super) fn publish(&self, responses: u64, errors: u64, wire_bytes: u64, now_ns: u64) {
        self.responses.store(responses, Relaxed);
        self.errors.store(errors, Relaxed);
        self.wire_bytes.store(wire_bytes, Relaxed);
        self.now_ns.store(now_ns, Relaxed);
    }

    pub(super) fn publish_interval(&self, p50_ns: u64, p99_ns: u64, max_ns: u64) {
        self.last_p50_ns.store(p50_ns, Relaxed);
        self.last_p99_ns.store(p99_ns, Relaxed);
        self.last_max_ns.store(max_ns, Relaxed);
    }
}

impl Snapshot {
    /// The sum over threads; of the percentiles, the worst thread's.
    #[must_use]
    pub fn of(lives: impl IntoIterator<Item = Snapshot>) -> Snapshot {
        lives.into_iter().fold(Snapshot::default(), |sum, one| Snapshot {
            responses: sum.responses + one.responses,
            errors: sum.errors + one.errors,
            wire_bytes: sum.wire_bytes + one.wire_bytes,
            now_ns: sum.now_ns.max(one.now_ns),
            last_p50_ns: sum.last_p50_ns.max(one.last_p50_ns),
            last_p99_ns: sum.last_p99_ns.max(one.last_p99_ns),
            last_max_ns: sum.last_max_ns.max(one.last_max_ns),
        })
    }
}
