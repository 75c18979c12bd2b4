//! Operations in flight: who owns the memory, who waits, what a dropped future leaves behind.
//!
//! One rule: whatever an operation lends to the kernel lives in its slot until the last completion, whatever becomes of
//! the future. A future holds only the slot's [`Key`] (index and generation, which is also the entry's `user_data`).
//! Dropping it orphans the slot and queues a cancel; the slot is freed, and a result nobody will take is disposed of
//! (closed, given back), when the kernel has said its last word. So a drop costs no wait and loses no memory.
//!
//! Slots live in chunks that never move: entries point into them.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::{MaybeUninit, align_of, size_of};
use std::num::NonZeroU64;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::direct::DirectTable;
use super::sys::buf_ring::BufRing;
use super::sys::io_buf::IoBufMut;
use super::sys::lent::Lent;
use super::sys::sqe::{CQE_BUFFER, Cqe, Fd, Sqe};
use super::{Core, with_core};

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

/// Enters for the sake of one entry; more would mean that the kernel takes nothing at all.
const SUBMITS_MAX: usize = 1024;
const CHUNK: usize = 128;
const NONE: u32 = u32::MAX;
/// Pool buffers that wait unread in one receive before it is paused; a few more may be under way.
pub(crate) const HELD_BUFFERS_MAX: u16 = 4;
/// Inline room for what an operation lends: a `Bytes`, a `Vec`. Larger things are boxed.
const INLINE_WORDS: usize = 4;

struct Slot {
    lent: MaybeUninit<[u64; INLINE_WORDS]>,
    /// Drops what is in `lent`; `None` when nothing is.
    drop_lent: Option<unsafe fn(*mut u8)>,
    waker: Option<Waker>,
    state: State,
    generation: u32,
    unclaimed: Unclaimed,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// `next` of the free list.
    Free(u32),
    /// A one-shot in the kernel.
    Pending,
    /// A one-shot with its result, not yet taken.
    Done { result: i32, flags: u32 },
    /// A multishot: results not yet taken, and what the kernel has still to do with it.
    Multi { first: u32, last: u32, held: u16, kernel: Kernel },
    /// The future is gone; the kernel is not done.
    Orphan,
}

/// What the kernel will do with a multishot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernel {
    /// It may post more.
    Armed,
    /// A cancel is under way: it may post more, and will then end it.
    Cancelled,
    /// It has said its last word.
    Ended,
}

/// A multishot result that waits to be taken.
struct Queued {
    result: i32,
    flags: u32,
    next: u32,
}

/// All operations of a core.
pub(crate) struct Slots {
    chunks: Vec<Box<[Slot; CHUNK]>>,
    free: u32,
    in_flight: usize,
    queued: Vec<Queued>,
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
            State::Pending => {
                debug_assert!(!cqe.more());
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
    fn start<T>(
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
    fn disarm(&mut self, key: Key) -> bool {
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
    fn orphan(&mut self, key: Key) -> (bool, Then, Leftover) {
        let unclaimed = self.slot(key).unclaimed;
        match self.state_of(key) {
            Some(State::Pending) => {
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
    fn take_queued(&mut self, key: Key) -> Option<(i32, u32)> {
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

    fn give_back(&self, cqe: Cqe) {
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
    fn release(&mut self, key: Key) -> Leftover {
        let next = self.free;
        let slot = self.slot(key);
        let leftover = Leftover(slot.lent, slot.drop_lent.take());
        slot.waker = None;
        slot.state = State::Free(next);
        // The generation is what tells a late cancel, or a late completion, from the slot's next tenant.
        if !super::planted(super::Bug::GenerationIgnored) {
            slot.generation = slot.generation.wrapping_add(1) & (u32::MAX >> 1);
        }
        self.free = key.index();
        leftover
    }

    fn state_of(&self, key: Key) -> Option<State> {
        let index = key.index() as usize;
        let slot = self.chunks.get(index / CHUNK)?.get(index % CHUNK)?;
        (slot.generation == key.generation()).then_some(slot.state)
    }

    fn slot(&mut self, key: Key) -> &mut Slot {
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

    fn take<T>(&mut self) -> T {
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

/// A one-shot operation that owns a `T`. Resolves to the result and the `T`.
///
/// Dropped before that: the operation is cancelled; what it had already done (bytes written, a descriptor opened) stays
/// done or is undone as `Unclaimed` says, and the `T` is dropped when the kernel is through with it.
pub(crate) struct Op<T> {
    /// `NOBODY` once the result was taken.
    key: Key,
    entry: Entry,
    owns: PhantomData<T>,
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

impl<T> Op<T> {
    /// Queues the operation for the next turn's enter.
    pub(crate) fn start(lent: T, unclaimed: Unclaimed, entry: impl FnOnce(&mut T) -> Sqe) -> Op<T> {
        with_core(|core| {
            let (key, lent) = core.slots.borrow_mut().start(lent, unclaimed, false, entry);
            Op { key, entry: core.queue(lent), owns: PhantomData }
        })
    }

    /// As `start`, for an operation that most likely completes while it is submitted and that nothing waits for: its
    /// completion is noticed with the next event, or a millisecond later. If it has not completed by then, its task is
    /// woken all the same, once, so that it can arrange for a longer wait.
    pub(crate) fn start_at_leisure(
        lent: T,
        unclaimed: Unclaimed,
        silence: Silence,
        entry: impl FnOnce(&mut T) -> Sqe,
    ) -> Op<T> {
        let op = Op::start(lent, unclaimed, entry);
        with_core(|core| core.at_leisure.borrow_mut().push((op.key, silence)));
        op
    }
}

/// What it means when the turn that submitted an operation brought no completion of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// It is not done yet.
    MeansNothing,
    /// It is done, with this result: it cannot wait, and posts a completion only when something went wrong.
    Means(u32),
}

impl<T: 'static> Future for Op<T> {
    type Output = (Outcome, T);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let key = self.key;
        assert!(key != Key::NOBODY, "polled after it was ready");
        let done = with_core(|core| {
            let mut slots = core.slots.borrow_mut();
            let Some(State::Done { result, flags }) = slots.state_of(key) else {
                set_waker(&mut slots.slot(key).waker, context.waker());
                return None;
            };
            let lent = slots.slot(key).take::<T>();
            drop(slots.release(key));
            Some((Outcome { result, flags }, lent))
        });
        match done {
            None => Poll::Pending,
            Some(done) => {
                self.key = Key::NOBODY;
                Poll::Ready(done)
            }
        }
    }
}

impl<T> Unpin for Op<T> {}

impl<T> Drop for Op<T> {
    fn drop(&mut self) {
        let key = self.key;
        if key == Key::NOBODY {
            return;
        }
        super::try_with_core(|core| {
            let (cancel, then, leftover) = core.slots.borrow_mut().orphan(key);
            drop(leftover);
            if cancel {
                core.submit_before_close(self.entry);
                core.cancel(key);
            }
            core.then(then);
        });
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

/// A multishot operation: a stream of results until the kernel ends it.
///
/// Dropped: it is cancelled, and results that nobody took are given back.
pub(crate) struct Multi {
    key: Key,
    entry: Entry,
}

/// What a multishot has to say.
pub(crate) enum Next {
    Result(Outcome),
    /// Everything was taken and the kernel will post no more: arm a new one.
    Ended,
}

impl Multi {
    pub(crate) fn start(unclaimed: Unclaimed, sqe: Sqe) -> Multi {
        with_core(|core| {
            let (key, lent) = core.slots.borrow_mut().start((), unclaimed, true, |()| sqe);
            Multi { key, entry: core.queue(lent) }
        })
    }

    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        with_core(|core| {
            let mut slots = core.slots.borrow_mut();
            if let Some((result, flags)) = slots.take_queued(self.key) {
                return Poll::Ready(Next::Result(Outcome { result, flags }));
            }
            match slots.state_of(self.key) {
                Some(State::Multi { kernel: Kernel::Armed | Kernel::Cancelled, .. }) => {
                    set_waker(&mut slots.slot(self.key).waker, context.waker());
                    Poll::Pending
                }
                _ => Poll::Ready(Next::Ended),
            }
        })
    }

    /// Whether there is something to be taken: a result, or the end.
    pub(crate) fn has_news(&self) -> bool {
        with_core(|core| {
            let slots = core.slots.borrow();
            !matches!(
                slots.state_of(self.key),
                Some(State::Multi { first: NONE, kernel: Kernel::Armed | Kernel::Cancelled, .. })
            )
        })
    }

    /// As `poll_next`, without waiting.
    pub(crate) fn take_next(&mut self) -> Option<Next> {
        with_core(|core| {
            let taken = core.slots.borrow_mut().take_queued(self.key);
            taken.map(|(result, flags)| Next::Result(Outcome { result, flags }))
        })
        .or_else(|| self.has_news().then_some(Next::Ended))
    }

    /// Whether everything was taken and the kernel will post no more.
    pub(crate) fn is_spent(&self) -> bool {
        with_core(|core| {
            let slots = core.slots.borrow();
            matches!(slots.state_of(self.key), Some(State::Multi { kernel: Kernel::Ended, first: NONE, .. }))
        })
    }

    /// The oldest result, if it is bytes in a buffer; everything else is left for `poll_next`.
    pub(crate) fn take_bytes(&mut self) -> Option<Outcome> {
        with_core(|core| {
            let mut slots = core.slots.borrow_mut();
            let Some(State::Multi { first, .. }) = slots.state_of(self.key) else { return None };
            // NONE is beyond the end of every list.
            let oldest = slots.queued.get(first as usize)?;
            if oldest.flags & CQE_BUFFER == 0 || oldest.result <= 0 {
                return None;
            }
            slots.take_queued(self.key).map(|(result, flags)| Outcome { result, flags })
        })
    }

    /// Asks the kernel to end it; results that were under way can still be taken, then comes `Ended`.
    pub(crate) fn cancel(&self) {
        with_core(|core| core.disarm(self.key));
    }
}

impl Drop for Multi {
    fn drop(&mut self) {
        super::try_with_core(|core| {
            loop {
                let (taken, unclaimed) = {
                    let mut slots = core.slots.borrow_mut();
                    let taken = slots.take_queued(self.key);
                    if let Some((result, flags)) = taken {
                        slots.give_back(Cqe { user_data: 0, result, flags });
                    }
                    (taken, slots.slot(self.key).unclaimed)
                };
                let Some((result, _)) = taken else { break };
                if result >= 0 {
                    core.then(Then::Dispose(unclaimed, result));
                }
            }
            let mut slots = core.slots.borrow_mut();
            match slots.state_of(self.key) {
                Some(State::Multi { kernel: kernel @ (Kernel::Armed | Kernel::Cancelled), .. }) => {
                    let slot = slots.slot(self.key);
                    slot.state = State::Orphan;
                    let waker = slot.waker.take();
                    drop(slots);
                    drop(waker);
                    core.submit_before_close(self.entry);
                    if kernel == Kernel::Armed {
                        core.cancel(self.key);
                    }
                }
                _ => {
                    let leftover = slots.release(self.key);
                    drop(slots);
                    drop(leftover);
                }
            }
        });
    }
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
