//! Where operations live: a slot each, in chunks that never move, from the entry to the last completion.

use std::mem::{MaybeUninit, align_of, size_of};
use std::rc::Rc;
use std::task::Waker;

use super::{Key, Unclaimed};
use crate::rt::direct::DirectTable;
use crate::rt::sys::buf_ring::BufRing;
use crate::rt::sys::lent::Lent;
use crate::rt::sys::sqe::{CQE_BUFFER, Cqe, Sqe};

const CHUNK: usize = 128;
pub(super) const NONE: u32 = u32::MAX;
/// Pool buffers that wait unread in one receive before it is paused; a few more may be under way.
pub(crate) const HELD_BUFFERS_MAX: u16 = 4;
/// Inline room for what an operation lends: a `Bytes`, a `Vec`. Larger things are boxed.
const INLINE_WORDS: usize = 4;

pub(super) struct Slot {
    lent: MaybeUninit<[u64; INLINE_WORDS]>,
    /// Drops what is in `lent`; `None` when nothing is.
    drop_lent: Option<unsafe fn(*mut u8)>,
    pub(super) waker: Option<Waker>,
    pub(super) state: State,
    generation: u32,
    pub(super) unclaimed: Unclaimed,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    /// `next` of the free list.
    Free(u32),
    /// A one-shot in the kernel.
    Pending,
    /// A one-shot with its result, not yet taken; the kernel still reads what it was lent, and will say when it is through.
    Sent { result: i32, flags: u32 },
    /// A one-shot with its result, not yet taken.
    Done { result: i32, flags: u32 },
    /// A multishot: results not yet taken, and what the kernel has still to do with it.
    Multi { first: u32, last: u32, held: u16, kernel: Kernel },
    /// The future is gone; the kernel is not done.
    Orphan,
}

/// What the kernel will do with a multishot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    /// It may post more.
    Armed,
    /// A cancel is under way: it may post more, and will then end it.
    Cancelled,
    /// It has said its last word.
    Ended,
}

/// A multishot result that waits to be taken.
pub(super) struct Queued {
    pub(super) result: i32,
    pub(super) flags: u32,
    next: u32,
}

/// All operations of a core.
pub(crate) struct Slots {
    chunks: Vec<Box<[Slot; CHUNK]>>,
    free: u32,
    in_flight: usize,
    pub(super) queued: Vec<Queued>,
    queued_free: u32,
    pool: Rc<BufRing>,
    direct: Rc<DirectTable>,
}

/// What to do after a completion was entered, once no slot is borrowed.
pub(crate) enum Then {
    Nothing,
    Wake(Waker),
    /// Nobody reads this receive: end it before it drains the pool.
    Pause(Key, Option<Waker>),
    Dispose(Unclaimed, i32),
    /// A completion for an operation that does not exist.
    Stray,
}

impl Slots {
    pub(crate) fn new(pool: Rc<BufRing>, direct: Rc<DirectTable>) -> Slots {
        Slots { chunks: Vec::new(), free: NONE, in_flight: 0, queued: Vec::new(), queued_free: NONE, pool, direct }
    }

    /// Operations whose last completion has not been reaped.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Enters a completion. What the operation owned, if that is to go now, comes back to be dropped by the caller, who
    /// by then borrows no slot: a destructor may do anything.
    pub(crate) fn complete(&mut self, cqe: Cqe) -> (Then, Leftover) {
        let none = Leftover::NONE;
        if cqe.buffer().is_some() {
            self.pool.left();
        }
        let key = Key(cqe.user_data);
        let Some(state) = self.state_of(key) else {
            self.give_back(cqe);
            return (Then::Stray, none);
        };
        self.count_descriptors(key, cqe);
        match state {
            State::Pending if cqe.more() => {
                let slot = self.slot(key);
                slot.state = State::Sent { result: cqe.result, flags: cqe.flags };
                (slot.waker.take().map_or(Then::Nothing, Then::Wake), none)
            }
            State::Sent { result, flags } => {
                self.in_flight -= 1;
                self.slot(key).state = State::Done { result, flags };
                (Then::Nothing, none)
            }
            State::Pending => {
                self.in_flight -= 1;
                let slot = self.slot(key);
                slot.state = State::Done { result: cqe.result, flags: cqe.flags };
                (slot.waker.take().map_or(Then::Nothing, Then::Wake), none)
            }
            State::Multi { first, last, held, kernel } => {
                debug_assert!(kernel != Kernel::Ended);
                let node = self.enqueue(cqe);
                let first = if first == NONE { node } else { first };
                if last != NONE {
                    self.queued[last as usize].next = node;
                }
                if !cqe.more() {
                    self.in_flight -= 1;
                }
                let held = held + u16::from(cqe.buffer().is_some());
                let slot = self.slot(key);
                let kernel = if cqe.more() { kernel } else { Kernel::Ended };
                slot.state = State::Multi { first, last: node, held, kernel };
                if held >= HELD_BUFFERS_MAX && kernel == Kernel::Armed {
                    return (Then::Pause(key, slot.waker.take()), none);
                }
                (slot.waker.take().map_or(Then::Nothing, Then::Wake), none)
            }
            State::Orphan => {
                let unclaimed = self.slot(key).unclaimed;
                self.give_back(cqe);
                let then = if cqe.result >= 0 { Then::Dispose(unclaimed, cqe.result) } else { Then::Nothing };
                if cqe.more() {
                    return (then, none);
                }
                self.in_flight -= 1;
                (then, self.release(key))
            }
            State::Done { .. } | State::Free(_) => {
                self.give_back(cqe);
                (Then::Stray, none)
            }
        }
    }

    /// A new slot that owns `lent`; `entry` is built from `lent` where it now lives.
    pub(super) fn start<T>(
        &mut self,
        lent: T,
        unclaimed: Unclaimed,
        multi: bool,
        entry: impl FnOnce(&mut T) -> Sqe,
    ) -> (Key, Lent) {
        let key = self.take_free();
        let state = match multi {
            true => State::Multi { first: NONE, last: NONE, held: 0, kernel: Kernel::Armed },
            false => State::Pending,
        };
        self.in_flight += 1;
        match unclaimed {
            Unclaimed::Forget | Unclaimed::CloseRaw => {}
            Unclaimed::CloseDirect => self.direct.reserve(),
            Unclaimed::CloseDirects => self.direct.stream_started(key),
        }
        let slot = self.slot(key);
        slot.state = state;
        slot.unclaimed = unclaimed;
        let place = slot.put(lent);
        let mut sqe = entry(place);
        sqe.user_data = key.user_data();
        // SAFETY: `sqe` points into or is owned by `lent`, which now lives in a slot that never moves; the slot drops it
        // in `release` or hands it out in `take`, both only after the last completion. `Slots` itself is leaked, never
        // dropped, while operations are in flight (`Core::drain`).
        (key, unsafe { Lent::new(sqe) })
    }

    /// The table's count follows the completions, so that it is right whatever becomes of the results.
    fn count_descriptors(&mut self, key: Key, cqe: Cqe) {
        let unclaimed = self.slot(key).unclaimed;
        if matches!(unclaimed, Unclaimed::Forget | Unclaimed::CloseRaw) {
            return;
        }
        if cqe.result >= 0 {
            self.direct.taken();
        }
        match unclaimed {
            _ if cqe.more() => {}
            Unclaimed::CloseDirect => self.direct.unreserve(),
            _ => self.direct.stream_ended(key),
        }
    }

    /// Whether a cancel is called for: true once for each multishot, and only while it is armed.
    pub(super) fn disarm(&mut self, key: Key) -> bool {
        let Some(State::Multi { first, last, held, kernel: Kernel::Armed }) = self.state_of(key) else { return false };
        self.slot(key).state = State::Multi { first, last, held, kernel: Kernel::Cancelled };
        true
    }

    /// Whether the operation has no result yet.
    pub(crate) fn is_pending(&self, key: Key) -> bool {
        matches!(self.state_of(key), Some(State::Pending | State::Orphan))
    }

    /// The waker of an operation that the kernel still has.
    pub(crate) fn waker_if_pending(&mut self, key: Key) -> Option<Waker> {
        matches!(self.state_of(key), Some(State::Pending)).then(|| self.slot(key).waker.clone()).flatten()
    }

    /// The future is gone. True where the kernel still has the operation, so that it should be cancelled.
    pub(super) fn orphan(&mut self, key: Key) -> (bool, Then, Leftover) {
        let unclaimed = self.slot(key).unclaimed;
        match self.state_of(key) {
            Some(State::Pending | State::Sent { .. }) => {
                let slot = self.slot(key);
                slot.state = State::Orphan;
                slot.waker = None;
                (true, Then::Nothing, Leftover::NONE)
            }
            Some(State::Done { result, flags }) => {
                self.give_back(Cqe { user_data: 0, result, flags });
                let then = if result >= 0 { Then::Dispose(unclaimed, result) } else { Then::Nothing };
                (false, then, self.release(key))
            }
            _ => unreachable!("a one-shot future whose slot is not its own"),
        }
    }

    /// A slot of which only the owner's `Multi` knows: takes the oldest result.
    pub(super) fn take_queued(&mut self, key: Key) -> Option<(i32, u32)> {
        let Some(State::Multi { first, last, held, kernel }) = self.state_of(key) else { return None };
        if first == NONE {
            return None;
        }
        let Queued { result, flags, next } = self.queued[first as usize];
        self.queued[first as usize].next = self.queued_free;
        self.queued_free = first;
        let last = if next == NONE { NONE } else { last };
        let held = held - u16::from(flags & CQE_BUFFER != 0);
        self.slot(key).state = State::Multi { first: next, last, held, kernel };
        Some((result, flags))
    }

    fn enqueue(&mut self, cqe: Cqe) -> u32 {
        let node = Queued { result: cqe.result, flags: cqe.flags, next: NONE };
        if self.queued_free == NONE {
            self.queued.push(node);
            return (self.queued.len() - 1) as u32;
        }
        let index = self.queued_free;
        self.queued_free = self.queued[index as usize].next;
        self.queued[index as usize] = node;
        index
    }

    pub(super) fn give_back(&self, cqe: Cqe) {
        if let Some(bid) = cqe.buffer() {
            self.pool.give_back(bid);
        }
    }

    fn take_free(&mut self) -> Key {
        if self.free == NONE {
            self.grow();
        }
        let index = self.free;
        let slot = &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK];
        let State::Free(next) = slot.state else { unreachable!("a used slot in the free list") };
        self.free = next;
        Key::new(index, slot.generation)
    }

    fn grow(&mut self) {
        let base = (self.chunks.len() * CHUNK) as u32;
        let chunk: Vec<Slot> = (0..CHUNK as u32)
            .map(|n| Slot {
                lent: MaybeUninit::uninit(),
                drop_lent: None,
                waker: None,
                state: State::Free(if n + 1 == CHUNK as u32 { NONE } else { base + n + 1 }),
                generation: 0,
                unclaimed: Unclaimed::Forget,
            })
            .collect();
        let Ok(chunk) = <Box<[Slot; CHUNK]>>::try_from(chunk.into_boxed_slice()) else {
            unreachable!("the range has CHUNK numbers")
        };
        self.chunks.push(chunk);
        self.free = base;
    }

    #[must_use]
    pub(super) fn release(&mut self, key: Key) -> Leftover {
        let next = self.free;
        let slot = self.slot(key);
        let leftover = Leftover(slot.lent, slot.drop_lent.take());
        slot.waker = None;
        slot.state = State::Free(next);
        // The generation is what tells a late cancel, or a late completion, from the slot's next tenant.
        if !crate::rt::planted(crate::rt::Bug::GenerationIgnored) {
            slot.generation = slot.generation.wrapping_add(1) & (u32::MAX >> 1);
        }
        self.free = key.index();
        leftover
    }

    pub(super) fn state_of(&self, key: Key) -> Option<State> {
        let index = key.index() as usize;
        let slot = self.chunks.get(index / CHUNK)?.get(index % CHUNK)?;
        (slot.generation == key.generation()).then_some(slot.state)
    }

    pub(super) fn slot(&mut self, key: Key) -> &mut Slot {
        let index = key.index() as usize;
        &mut self.chunks[index / CHUNK][index % CHUNK]
    }
}

impl Slot {
    fn put<T>(&mut self, value: T) -> &mut T {
        debug_assert!(self.drop_lent.is_none());
        let place = self.lent.as_mut_ptr().cast::<T>();
        const { assert!(size_of::<T>() <= INLINE_WORDS * 8 && align_of::<T>() <= 8, "box it") };
        // SAFETY: the room is large and aligned enough (asserted above) and empty (`drop_lent` is None).
        unsafe { place.write(value) };
        self.drop_lent = Some(|place| {
            // SAFETY: called once, by `Leftover::drop`, on the room that holds this T.
            unsafe { place.cast::<T>().drop_in_place() }
        });
        // SAFETY: just written; borrowed from the slot.
        unsafe { &mut *place }
    }

    pub(super) fn take<T>(&mut self) -> T {
        self.drop_lent = None;
        // SAFETY: only `Op<T>` calls this, for the slot that its own `start::<T>` filled, once, after completion.
        unsafe { self.lent.as_ptr().cast::<T>().read() }
    }
}

/// What an operation owned, after its end.
pub(crate) struct Leftover(MaybeUninit<[u64; INLINE_WORDS]>, Option<unsafe fn(*mut u8)>);

impl Leftover {
    const NONE: Leftover = Leftover(MaybeUninit::uninit(), None);
}

impl Drop for Leftover {
    fn drop(&mut self) {
        if let Some(drop_lent) = self.1.take() {
            // SAFETY: `release` moved the value and its drop function here together; the slot no longer has them.
            unsafe { drop_lent(self.0.as_mut_ptr().cast()) };
        }
    }
}
