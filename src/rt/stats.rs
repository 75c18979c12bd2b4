//! What a core counts. Plain cells: one thread writes, snapshots travel by message.

use std::cell::Cell;

use super::histogram::Histogram;

/// A snapshot of one core's counters and gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Turns of the loop.
    pub turns: u64,
    /// `io_uring_enter` calls: one a turn, and one more where an operation on a process-wide descriptor is started and
    /// dropped in the same turn.
    pub enters: u64,
    /// Timers for short waits that were over (decision 29): at most some a millisecond, whatever else there is to do, and no
    /// completions of anybody's. Each may have cost an enter.
    pub short_waits_over: u64,
    /// Entries submitted.
    pub submissions: u64,
    /// Completions reaped.
    pub completions: u64,
    /// Completions for an operation that no longer exists; anything but 0 is a bug here.
    pub stray_completions: u64,
    /// Operations that the kernel was asked to give up.
    pub cancels: u64,
    /// Times a multishot receive ended because the buffer pool was empty.
    pub buffers_exhausted: u64,
    /// Bytes that streams have received into the pool.
    pub received_bytes: u64,
    /// Sends that the kernel did without a copy, as it was asked to.
    pub zero_copies: u64,
    /// Sends that it was asked to do without a copy, and copied.
    pub zero_copies_copied: u64,
    /// Times accepting was paused because the direct table was nearly full.
    pub accept_pauses: u64,
    /// Nanoseconds spent in turns that found nothing to do and did not sleep, because an alarm was near
    /// ([`Builder::spin`](super::Builder::spin)): CPU time that is not work.
    pub spun_ns: u64,
    /// Nanoseconds between the return of one enter and the next: what tasks and the loop itself took, without the kernel's part.
    pub busy_ns: u64,
    /// CPU time of this thread so far, the kernel's part included; nanoseconds.
    pub cpu_ns: u64,
    /// The start of the turn in which this was read, in nanoseconds on the core's clock.
    pub now_ns: u64,
    /// Tasks alive.
    pub tasks: usize,
    /// Tasks that ended by a panic.
    pub tasks_panicked: u64,
    /// Operations whose last completion is still to come.
    pub operations_in_flight: usize,
    /// Receive buffers outside the kernel's ring.
    pub buffers_out: usize,
    /// Timers armed.
    pub timers: usize,
    /// Slots of the direct table in use.
    pub direct_used: u32,
}

/// The counters behind [`Stats`].
#[derive(Default)]
pub(crate) struct Counters {
    turns: Cell<u64>,
    submissions: Cell<u64>,
    completions: Cell<u64>,
    pub(crate) stray_completions: Cell<u64>,
    pub(crate) cancels: Cell<u64>,
    pub(crate) buffers_exhausted: Cell<u64>,
    pub(crate) received_bytes: Cell<u64>,
    pub(crate) accept_pauses: Cell<u64>,
    pub(crate) zero_copies: Cell<u64>,
    pub(crate) zero_copies_copied: Cell<u64>,
    pub(crate) spun_ns: Cell<u64>,
    busy_ns: Cell<u64>,
    /// Of this turn: what leaves with it ([`leaves_with_turn`](super::leaves_with_turn)).
    leaving: Cell<u64>,
    pub(crate) turn_times: Histogram,
}

impl Counters {
    pub(crate) fn submitted(&self, entries: u64) {
        add(&self.submissions, entries);
    }

    pub(crate) fn turned(&self, completions: u64) {
        add(&self.turns, 1);
        add(&self.completions, completions);
    }

    /// What leaves with this turn is one more.
    pub(crate) fn leaves(&self) {
        add(&self.leaving, 1);
    }

    /// The tasks of a turn have run, for so long.
    pub(crate) fn worked(&self, ns: u64) {
        add(&self.busy_ns, ns);
        let leaving = self.leaving.take();
        if leaving > 0 {
            self.turn_times.record(ns, leaving);
        }
    }

    pub(crate) fn snapshot(&self, gauges: Stats) -> Stats {
        Stats {
            turns: self.turns.get(),
            enters: gauges.enters,
            short_waits_over: gauges.short_waits_over,
            submissions: self.submissions.get(),
            completions: self.completions.get(),
            stray_completions: self.stray_completions.get(),
            cancels: self.cancels.get(),
            buffers_exhausted: self.buffers_exhausted.get(),
            received_bytes: self.received_bytes.get(),
            accept_pauses: self.accept_pauses.get(),
            zero_copies: self.zero_copies.get(),
            zero_copies_copied: self.zero_copies_copied.get(),
            spun_ns: self.spun_ns.get(),
            busy_ns: self.busy_ns.get(),
            ..gauges
        }
    }
}

/// Adds to a counter.
pub(crate) fn add(counter: &Cell<u64>, count: u64) {
    counter.set(counter.get() + count);
}
