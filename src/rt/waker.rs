//! Wakers without allocation: the data pointer *is* the task's name, so clone and drop do nothing.
#![allow(unsafe_code)]

use std::task::{RawWaker, RawWakerVTable, Waker};

/// Which task of which runtime: 16 bits of runtime, 24 of index, 24 of generation. A name that outlived its task wakes
/// nobody, or at worst wakes a later task once for nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TaskId(u64);

const _: () = assert!(size_of::<usize>() == 8, "a task's name fills a 64-bit pointer");

impl TaskId {
    /// Bounds of the three parts.
    pub(crate) const TASKS_MAX: u32 = 1 << 24;
    const GENERATION_MASK: u32 = (1 << 24) - 1;

    pub(crate) fn new(runtime: u16, index: u32, generation: u32) -> TaskId {
        debug_assert!(index < TaskId::TASKS_MAX);
        let generation = generation & TaskId::GENERATION_MASK;
        TaskId(u64::from(runtime) << 48 | u64::from(index) << 24 | u64::from(generation))
    }

    pub(crate) fn runtime(self) -> u16 {
        (self.0 >> 48) as u16
    }

    pub(crate) fn index(self) -> u32 {
        (self.0 >> 24) as u32 & (TaskId::TASKS_MAX - 1)
    }

    /// Whether it names the task that was given this generation.
    pub(crate) fn is_generation(self, generation: u32) -> bool {
        self.0 as u32 & TaskId::GENERATION_MASK == generation & TaskId::GENERATION_MASK
    }

    pub(crate) fn waker(self) -> Waker {
        // SAFETY: the functions of VTABLE treat the pointer as a plain number, never as an address, and are callable
        // from any thread; so nothing has to outlive anything.
        unsafe { Waker::from_raw(raw(self.0 as *const ())) }
    }
}

static VTABLE: RawWakerVTable = RawWakerVTable::new(raw, wake, wake, |_| ());

fn raw(name: *const ()) -> RawWaker {
    RawWaker::new(name, &VTABLE)
}

fn wake(name: *const ()) {
    super::wake(TaskId(name as u64));
}
