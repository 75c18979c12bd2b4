//! The ring's own descriptor table: who has a slot, and when accepting must pause.
//!
//! The kernel picks slots; we count them. A multishot accept that meets a full table closes a client's connection
//! (-ENFILE comes after the connection was taken off the backlog), so it is stopped at `high`, far enough below the end
//! that everything the backlog holds still fits; from there on one accept per free slot; multishot again below `low`.

use std::cell::{Cell, RefCell};
use std::task::Waker;

/// Sizes are in slots.
pub(crate) struct DirectTable {
    size: u32,
    used: Cell<u32>,
    waiting: RefCell<Vec<Waker>>,
}

impl DirectTable {
    pub(crate) fn new(size: u32) -> DirectTable {
        DirectTable { size, used: Cell::new(0), waiting: RefCell::default() }
    }

    /// The longest backlog that a listener may have, so that one pass can never overrun the table.
    pub(crate) fn backlog_max(&self) -> u32 {
        (self.size / 4).clamp(1, 4096)
    }

    /// At this many, a multishot accept must end: the rest of the table holds a whole backlog and a batch under way.
    pub(crate) fn high(&self) -> u32 {
        self.size - self.backlog_max() - self.size / 8
    }

    /// Below this many, a multishot accept may start again.
    pub(crate) fn low(&self) -> u32 {
        self.high() - self.size / 8
    }

    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    pub(crate) fn used(&self) -> u32 {
        self.used.get()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.used.get() >= self.size
    }

    /// The kernel filled a slot.
    pub(crate) fn taken(&self) {
        self.used.set(self.used.get() + 1);
    }

    /// The release of a slot was queued: entries queued after this one find it free.
    pub(crate) fn released(&self) {
        self.used.set(self.used.get() - 1);
        for waker in self.waiting.borrow_mut().drain(..) {
            waker.wake();
        }
    }

    /// To be woken at the next release.
    pub(crate) fn wait(&self, waker: &Waker) {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|old| old.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }
}
