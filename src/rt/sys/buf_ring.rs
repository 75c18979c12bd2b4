//! The pool of receive buffers that the kernel picks from ("provided-buffer ring", 5.19).
//!
//! One pool a core: `count` buffers of `size` bytes each in one anonymous mapping (touched only where data lands) and a
//! ring of 16-byte entries that both sides see. We append free buffers at the tail; the kernel takes from its own head.
//! A buffer is in exactly one place: the ring, a completion, or a [`RecvBuf`], which puts it back when dropped.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU64;
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::task::Waker;

use rustix::mm::{MapFlags, ProtFlags};

/// `struct io_uring_buf`; the tail of the ring overlays `resv` of the first entry.
#[repr(C)]
#[derive(Clone, Copy)]
struct Entry {
    addr: u64,
    len: u32,
    bid: u16,
    resv: u16,
}

/// Between two buffers: without a gap, the starts of all of them, which are most of what small requests use, would fall
/// into a few sets of the caches and push each other out.
const COLOUR_BYTES: usize = 5 * 64;

/// The pool. Shared by `Rc`: every outstanding [`RecvBuf`] keeps the memory alive.
pub(crate) struct BufRing {
    ring: Mapping,
    memory: Mapping,
    size: usize,
    count: u16,
    /// Our copy of the tail; the kernel reads the shared one.
    tail: Cell<u16>,
    /// How many buffers are outside the ring, in completions or guards.
    out: Cell<u16>,
    starved: RefCell<Line>,
}

/// Receivers that found the pool empty, first come, first served. One that has gone meanwhile costs the others nothing:
/// each turn wakes as many as there are free buffers, and asks again.
struct Line {
    /// The number of the one at the front; numbers start at 1.
    first: u64,
    waiting: VecDeque<Waker>,
}

/// A receiver's number in line, if it stands there.
#[derive(Default)]
pub(crate) struct Ticket(Cell<Option<NonZeroU64>>);

impl BufRing {
    /// `count` buffers of `size` bytes. `count` is a power of two, at most 32,768.
    pub(crate) fn new(count: u16, size: usize) -> io::Result<BufRing> {
        assert!(count.is_power_of_two() && count <= 1 << 15);
        let pool = BufRing {
            ring: Mapping::new(usize::from(count) * size_of::<Entry>())?,
            memory: Mapping::new(usize::from(count) * (size + COLOUR_BYTES))?,
            size,
            count,
            tail: Cell::new(0),
            out: Cell::new(count),
            starved: RefCell::default(),
        };
        (0..count).for_each(|bid| pool.give_back(bid));
        Ok(pool)
    }

    /// The address and entry count that REGISTER_PBUF_RING asks for.
    pub(crate) fn registration(&self) -> (u64, u16) {
        (self.ring.0.as_ptr() as u64, self.count)
    }

    /// Bytes of memory that count against RLIMIT_MEMLOCK once registered: the entries, not the buffers.
    pub(crate) fn locked_bytes(count: u16) -> u64 {
        (usize::from(count) * size_of::<Entry>()) as u64
    }

    /// Takes a filled buffer out of a completion.
    pub(crate) fn guard(self: &Rc<BufRing>, bid: u16, len: usize) -> RecvBuf {
        assert!(bid < self.count && len <= self.size, "the kernel named a buffer that is not ours");
        RecvBuf { pool: Rc::clone(self), bid, start: 0, end: len as u32 }
    }

    /// The kernel handed out a buffer: it is in a completion now.
    pub(crate) fn left(&self) {
        self.out.set(self.out.get() + 1);
    }

    /// Puts a buffer back at the tail. Who waits for it is woken by the next turn ([`BufRing::wake_starved`]).
    pub(crate) fn give_back(&self, bid: u16) {
        let tail = self.tail.get();
        let entry = Entry { addr: self.buffer(bid).as_ptr() as u64, len: self.size as u32, bid, resv: 0 };
        let place = self.entry(tail & (self.count - 1));
        // SAFETY: `place` is inside the mapping (masked index). Field by field, so that the first entry's `resv`, which
        // the kernel reads as the tail, is left alone. The kernel reads an entry only below the published tail.
        unsafe { (&raw mut (*place).addr).write(entry.addr) };
        // SAFETY: as above.
        unsafe { (&raw mut (*place).len).write(entry.len) };
        // SAFETY: as above.
        unsafe { (&raw mut (*place).bid).write(entry.bid) };
        self.tail.set(tail.wrapping_add(1));
        self.shared_tail().store(tail.wrapping_add(1), Ordering::Release);
        self.out.set(self.out.get() - 1);
    }

    /// Whether to wait for a buffer. Stands in line for one, or stays there, unless one is free or it is this one's turn.
    pub(crate) fn must_wait(&self, ticket: &Ticket, waker: &Waker) -> bool {
        let mut line = self.starved.borrow_mut();
        let first = line.first;
        match ticket.0.get() {
            Some(number) if number.get() >= first => {
                // Polled for another reason; perhaps by another task than before.
                if let Some(old) = line.waiting.get_mut((number.get() - first) as usize) {
                    old.clone_from(waker);
                }
                true
            }
            None if self.out.get() == self.count => {
                ticket.0.set(NonZeroU64::new(first + line.waiting.len() as u64));
                line.waiting.push_back(waker.clone());
                true
            }
            _ => {
                ticket.0.set(None);
                false
            }
        }
    }

    /// Wakes as many of those who wait as there are buffers for. Called once a turn; true where it should be called again
    /// before the core sleeps, because those who were woken may be gone.
    pub(crate) fn wake_starved(&self) -> bool {
        let free = self.count - self.out.get();
        for _ in 0..free {
            let next = self.starved.borrow_mut().next();
            let Some(waker) = next else { return false };
            waker.wake();
        }
        free > 0 && !self.starved.borrow().waiting.is_empty()
    }

    /// How many buffers are outside the ring.
    pub(crate) fn outstanding(&self) -> u16 {
        self.out.get()
    }

    /// What the kernel does when data arrives: copies it into the buffer at `head`, if there is one. For a driver that
    /// plays the kernel; returns the buffer and how much went in.
    #[cfg(test)]
    pub(crate) fn fill(&self, head: &mut u16, data: &[u8]) -> Option<(u16, usize)> {
        if *head == self.tail.get() {
            return None;
        }
        let place = self.entry(*head & (self.count - 1));
        // SAFETY: a masked index is inside the mapping; entries below the tail were written by `give_back`.
        let bid = unsafe { (*place).bid };
        *head = head.wrapping_add(1);
        let len = data.len().min(self.size);
        let target = self.buffer(bid).as_ptr();
        // SAFETY: the buffer was in the ring, so no guard over it exists; `len` is at most its size.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), target, len) };
        Some((bid, len))
    }

    /// Whether `fill` would find a buffer.
    #[cfg(test)]
    pub(crate) fn has_at(&self, head: u16) -> bool {
        head != self.tail.get()
    }

    fn entry(&self, index: u16) -> *mut Entry {
        self.ring.0.as_ptr().cast::<Entry>().wrapping_add(usize::from(index))
    }

    fn shared_tail(&self) -> &AtomicU16 {
        // SAFETY: the tail is the last two bytes of the first entry (`io_uring_buf_ring.tail`), aligned, inside the
        // mapping for as long as `self` lives; both sides access it atomically.
        unsafe { AtomicU16::from_ptr(self.ring.0.as_ptr().cast::<u16>().wrapping_add(7)) }
    }

    fn buffer(&self, bid: u16) -> NonNull<u8> {
        // SAFETY: `bid < count` (checked in `guard`, by construction elsewhere), so this is inside the mapping.
        unsafe { self.memory.0.add(usize::from(bid) * (self.size + COLOUR_BYTES)) }
    }
}

impl Default for Line {
    fn default() -> Line {
        Line { first: 1, waiting: VecDeque::new() }
    }
}

impl Line {
    fn next(&mut self) -> Option<Waker> {
        let waker = self.waiting.pop_front()?;
        self.first += 1;
        Some(waker)
    }
}

impl Ticket {
    /// Whether it was given a number that has not been looked at since.
    pub(crate) fn in_line(&self) -> bool {
        self.0.get().is_some()
    }
}

/// Received bytes, in place in the pool. Dropping it gives the buffer back to the kernel.
pub struct RecvBuf {
    pool: Rc<BufRing>,
    bid: u16,
    start: u32,
    end: u32,
}

impl RecvBuf {
    /// Forgets the first `count` bytes.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.len());
        self.start += count as u32;
    }
}

impl Deref for RecvBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let first = self.pool.buffer(self.bid).as_ptr().wrapping_add(self.start as usize);
        // SAFETY: start..end is inside this buffer (`guard` and `advance` check), the kernel filled it before the
        // completion, and nobody writes to it until `drop` puts it back.
        unsafe { std::slice::from_raw_parts(first, (self.end - self.start) as usize) }
    }
}

impl Drop for RecvBuf {
    fn drop(&mut self) {
        self.pool.give_back(self.bid);
    }
}

impl std::fmt::Debug for RecvBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RecvBuf({} bytes)", self.len())
    }
}

/// Anonymous, private, page-aligned, zeroed memory.
pub(super) struct Mapping(NonNull<u8>, usize);

impl Mapping {
    pub(super) fn new(bytes: usize) -> io::Result<Mapping> {
        // SAFETY: a fresh anonymous mapping at an address that the kernel chooses overlaps nothing.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        Ok(Mapping(NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?, bytes))
    }

    pub(super) fn start(&self) -> *mut u8 {
        self.0.as_ptr()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this value owns the mapping, and everything that points into it borrows from the pool or holds an Rc
        // of it. The kernel's own reference ends with the ring, which `Uring` drops (or leaks) first.
        let _ = unsafe { rustix::mm::munmap(self.0.as_ptr().cast(), self.1) };
    }
}
