//! What a core counts, and how it paces itself by it. Plain cells: one thread writes, snapshots travel by message.

use std::cell::Cell;
use std::time::Duration;

use super::sys::ring::Wait;

/// A snapshot of one core's counters and gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Turns of the loop.
    pub turns: u64,
    /// `io_uring_enter` calls: one a turn, and one more where an operation on a process-wide descriptor is started and
    /// dropped in the same turn.
    pub enters: u64,
    /// Entries submitted.
    pub submissions: u64,
    /// Completions reaped.
    pub completions: u64,
    /// Completions for an operation that no longer exists; anything but 0 is a bug here.
    pub stray_completions: u64,
    /// Times a multishot receive ended because the buffer pool was empty.
    pub buffers_exhausted: u64,
    /// Times accepting was paused because the direct table was nearly full.
    pub accept_pauses: u64,
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
    pub(crate) buffers_exhausted: Cell<u64>,
    pub(crate) accept_pauses: Cell<u64>,
}

impl Counters {
    pub(crate) fn submitted(&self, entries: u64) {
        add(&self.submissions, entries);
    }

    pub(crate) fn turned(&self, completions: u64) {
        add(&self.turns, 1);
        add(&self.completions, completions);
    }

    pub(crate) fn snapshot(&self, gauges: Stats) -> Stats {
        Stats {
            turns: self.turns.get(),
            enters: gauges.enters,
            submissions: self.submissions.get(),
            completions: self.completions.get(),
            stray_completions: self.stray_completions.get(),
            buffers_exhausted: self.buffers_exhausted.get(),
            accept_pauses: self.accept_pauses.get(),
            ..gauges
        }
    }
}

/// Adds to a counter.
pub(crate) fn add(counter: &Cell<u64>, count: u64) {
    counter.set(counter.get() + count);
}

/// How many completions a turn waits for: one when the core is idle, more when they come in crowds, because a ring with
/// deferred task work runs at most max(20, what was asked for) of them a pass.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pacing {
    /// Completions a turn, averaged over about 8 turns, in sixteenths.
    average: u32,
}

impl Pacing {
    pub(crate) fn observe(&mut self, completions: usize) {
        let now = (completions.min(4096) as u32) << 4;
        self.average = (self.average * 7 + now) / 8;
    }

    /// The wait of the next turn. `timeout` is the next timer.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> Wait {
        Wait::For { completions: 1, timeout, linger: None }
    }
}
