//! Operations in flight: who owns the memory, who waits, what a dropped future leaves behind.
//!
//! One rule: whatever an operation lends to the kernel lives in its slot until the last completion, whatever becomes of
//! the future. A future holds only the slot's [`Key`] (index and generation, which is also the entry's `user_data`).
//! Dropping it orphans the slot and queues a cancel; the slot is freed, and a result nobody will take is disposed of
//! (closed, given back), when the kernel has said its last word. So a drop costs no wait and loses no memory.
//!
//! Slots live in chunks that never move: entries point into them.
#![allow(unsafe_code)]

mod multi;
mod oneshot;
mod slots;

use std::cell::RefCell;
use std::marker::PhantomData;
use std::num::NonZeroU64;
use std::task::Waker;

use super::Core;
use super::sys::io_buf::IoBufMut;
use super::sys::lent::Lent;
use super::sys::sqe::{Cqe, Fd};

pub(crate) use multi::{Multi, Next};
pub(crate) use oneshot::{Op, Parting, Silence};
pub(crate) use slots::{HELD_BUFFERS_MAX, Slots, Then};

/// Enters for the sake of one entry; more would mean that the kernel takes nothing at all.
const SUBMITS_MAX: usize = 1024;

/// Slot index in the low half, generation in the high half: the operation's `user_data`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Key(u64);

impl Key {
    /// The `user_data` of entries that nobody waits for: cancels, closes. Never an index.
    pub(crate) const NOBODY: Key = Key(u64::MAX);
    /// The `user_data` of a wake-up from another core.
    pub(crate) const WAKE_UP: Key = Key(u64::MAX - 1);

    pub(crate) fn user_data(self) -> u64 {
        self.0
    }

    fn new(index: u32, generation: u32) -> Key {
        Key(u64::from(generation) << 32 | u64::from(index))
    }

    fn index(self) -> u32 {
        self.0 as u32
    }

    fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// What becomes of a result that nobody will take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unclaimed {
    /// It is a count: nothing to do.
    Forget,
    /// It is a process-wide descriptor: close it.
    CloseRaw,
    /// It is a slot of the direct table, the only one that the operation makes: release it.
    CloseDirect,
    /// It is one of many slots of the direct table: release each.
    CloseDirects,
}

/// What is remembered of an entry, to be asked whether it has been submitted. Not `Send`: keys, slots of the direct table
/// and entries have a meaning on one thread only, and what a key leads to elsewhere has another type.
#[derive(Clone, Copy)]
struct Entry {
    /// Where it stands among all that this core has queued, from 1 on; `None` if it names no process-wide descriptor.
    number: Option<NonZeroU64>,
    of_one_thread: PhantomData<*const ()>,
}

/// A result as the kernel gave it: a count or descriptor, or a negated errno; and the completion's flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) result: i32,
    pub(crate) flags: u32,
}

impl Outcome {
    /// The count, or the errno as an error.
    pub(crate) fn count(self) -> std::io::Result<usize> {
        if self.result < 0 { Err(std::io::Error::from_raw_os_error(-self.result)) } else { Ok(self.result as usize) }
    }

    pub(crate) fn buffer(self) -> Option<u16> {
        Cqe { user_data: 0, result: self.result, flags: self.flags }.buffer()
    }
}

/// A buffer after a read into it: its contents are what was read.
pub(crate) fn filled<B: IoBufMut>(outcome: Outcome, mut buffer: B) -> (std::io::Result<usize>, B) {
    let count = outcome.count();
    if let Ok(count) = count {
        // SAFETY: the kernel wrote `count` bytes to the room that was lent, which is at most its length.
        unsafe { buffer.set_filled(count.min(buffer.room_len())) };
    }
    (count, buffer)
}

impl Core {
    fn queue(&self, lent: Lent) -> Entry {
        let raw = matches!(lent.sqe().target(), Fd::Raw(fd) if fd >= 0);
        let number = self.push(lent) + 1;
        Entry { number: NonZeroU64::new(number).filter(|_| raw), of_one_thread: PhantomData }
    }

    /// The owner of the entry's descriptor may close it as soon as the future is gone, and the number be given to something
    /// else before the next enter: then a write would go there. So an entry that still waits is submitted now; from then
    /// on the kernel holds the file itself. Costs a syscall, in the one turn in which an operation is started and dropped.
    fn submit_before_close(&self, entry: Entry) {
        let Some(number) = entry.number else { return };
        let mut driver = self.driver.borrow_mut();
        // A few rounds suffice where the submission queue has to be filled again from the line behind it.
        for _ in 0..SUBMITS_MAX {
            let submitted = self.pushed.get() - driver.queued() as u64;
            if number.get() <= submitted || driver.submit().is_err() {
                return;
            }
        }
    }

    /// Cancels a multishot, unless that has been done or it has ended by itself.
    pub(crate) fn disarm(&self, key: Key) -> bool {
        let armed = self.slots.borrow_mut().disarm(key);
        if armed {
            self.cancel(key);
        }
        armed
    }

    /// Does what a completion or a drop left to do.
    pub(crate) fn then(&self, then: Then) {
        match then {
            Then::Nothing => {}
            Then::Wake(waker) => waker.wake(),
            Then::Pause(key, waker) => {
                self.disarm(key);
                waker.into_iter().for_each(Waker::wake);
            }
            Then::Dispose(Unclaimed::Forget, _) => {}
            Then::Dispose(Unclaimed::CloseRaw, fd) => self.close(Fd::Raw(fd)),
            Then::Dispose(Unclaimed::CloseDirect | Unclaimed::CloseDirects, slot) => {
                self.close(Fd::Direct(slot as u32))
            }
            Then::Stray => self.stats.stray_completions.set(self.stats.stray_completions.get() + 1),
        }
    }
}

/// Keeps the old waker where it would wake the same task.
fn set_waker(slot: &mut Option<Waker>, waker: &Waker) {
    if !slot.as_ref().is_some_and(|old| old.will_wake(waker)) {
        *slot = Some(waker.clone());
    }
}

/// `Slots` behind a cell: completions and futures borrow it in turn, never across a wake.
pub(crate) type SharedSlots = RefCell<Slots>;
