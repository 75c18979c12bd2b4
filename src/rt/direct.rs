//! The ring's own descriptor table: who has a slot, and when accepting must pause.
//!
//! The kernel picks slots; we count them, as completions come in, whether or not somebody takes the result. An accept that
//! meets a full table closes a client's connection (-ENFILE comes after the connection was taken off the backlog), so it
//! must never be armed without a slot to go to: a single accept reserves one, and all multishot accepts are ended at
//! `high`, far enough below the end that everything their backlogs hold still fits. Multishot again below `low`.

use std::cell::{Cell, RefCell};
use std::task::Waker;

use super::op::Key;

/// What is left for one pass of a multishot accept beyond its backlog, or half of the table where that is more. The kernel
/// sets no bound: a pass goes on for as long as clients come (2,000 in one pass from one client that did nothing but
/// connect). So a small table, which 60 clients can overrun, has single accepts only.
const BATCH_SLOTS_MIN: u32 = 1024;

/// Sizes are in slots.
pub(crate) struct DirectTable {
    size: u32,
    used: Cell<u32>,
    /// Slots that operations in flight will fill, one each.
    reserved: Cell<u32>,
    /// Operations in flight that fill any number of slots: one for each listener at most.
    streams: RefCell<Vec<Key>>,
    waiting: RefCell<Vec<Waker>>,
}

/// What there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// A multishot accept.
    Many,
    /// An accept of one connection.
    One,
    /// Nothing, until a slot is released.
    None,
}

/// The longest backlog of a listener that accepts into a table of so many slots. With multishot accepts, a quarter of the
/// table, so that one pass can never overrun it. A small table has single accepts only, each with a slot to go to: there
/// the backlog may be as long as the kernel likes, and has to be, because what does not fit into it is dropped, and a
/// client tries again after 1, 3, 7, 15, 31 and 63 seconds (200 clients at 64 slots: up to 61 s, and with this 0.1).
pub(crate) fn backlog_max(slots: u32) -> u32 {
    if high(slots, 1) == 0 { BACKLOG_MAX } else { quarter(slots).min(BACKLOG_MAX) }
}

/// The kernel's own bound is `net.core.somaxconn`, 4,096 since 5.4.
const BACKLOG_MAX: u32 = 4096;

fn quarter(slots: u32) -> u32 {
    (slots / 4).max(1)
}

fn high(slots: u32, listeners: u32) -> u32 {
    let backlogs = quarter(slots).min(BACKLOG_MAX).saturating_mul(listeners);
    slots.saturating_sub(backlogs).saturating_sub(BATCH_SLOTS_MIN.max(slots / 2))
}

impl DirectTable {
    pub(crate) fn new(size: u32) -> DirectTable {
        let (used, reserved) = (Cell::new(0), Cell::new(0));
        DirectTable { size, used, reserved, streams: RefCell::default(), waiting: RefCell::default() }
    }

    /// The longest backlog that a listener may have.
    pub(crate) fn backlog_max(&self) -> u32 {
        backlog_max(self.size)
    }

    /// At this many, multishot accepts must end: the rest of the table holds their backlogs and a batch under way.
    pub(crate) fn high(&self) -> u32 {
        self.high_for(self.streams.borrow().len().max(1))
    }

    fn high_for(&self, listeners: usize) -> u32 {
        high(self.size, u32::try_from(listeners).unwrap_or(u32::MAX))
    }

    /// Whether it is time to close what is idle. Not `high`, which is about how to accept, and 0 in a small table.
    pub(crate) fn is_filling(&self) -> bool {
        self.used.get() >= self.size - quarter(self.size) - self.size / 8
    }

    /// What one more accept may be.
    pub(crate) fn room(&self) -> Room {
        let low = self.high_for(self.streams.borrow().len() + 1).saturating_sub(self.size / 8);
        let taken = self.used.get() + self.reserved.get();
        match () {
            () if taken < low => Room::Many,
            () if taken < self.size => Room::One,
            () => Room::None,
        }
    }

    /// The multishot accepts to end now, if it is time for that.
    pub(crate) fn to_pause(&self) -> Vec<Key> {
        // An empty Vec allocates nothing.
        if self.used.get() < self.high() { Vec::new() } else { self.streams.borrow().clone() }
    }

    pub(crate) fn used(&self) -> u32 {
        self.used.get()
    }

    /// An operation that will fill one slot starts.
    pub(crate) fn reserve(&self) {
        self.reserved.set(self.reserved.get() + 1);
    }

    /// It has ended, with or without the slot.
    pub(crate) fn unreserve(&self) {
        self.reserved.set(self.reserved.get() - 1);
        self.wake();
    }

    /// An operation that will fill any number of slots starts.
    pub(crate) fn stream_started(&self, key: Key) {
        self.streams.borrow_mut().push(key);
    }

    /// It has ended.
    pub(crate) fn stream_ended(&self, key: Key) {
        self.streams.borrow_mut().retain(|stream| *stream != key);
        self.wake();
    }

    /// The kernel filled a slot.
    pub(crate) fn taken(&self) {
        self.used.set(self.used.get() + 1);
    }

    /// The release of a slot was queued: entries queued after this one find it free.
    pub(crate) fn released(&self) {
        self.used.set(self.used.get() - 1);
        self.wake();
    }

    /// To be woken when there may be room again.
    pub(crate) fn wait(&self, waker: &Waker) {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|old| old.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }

    fn wake(&self) {
        if !self.waiting.borrow().is_empty() {
            self.waiting.take().into_iter().for_each(Waker::wake);
        }
    }
}
