//! The memory that the kernel is lent: receive buffers, and the outbox. Neither is ever freed.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use super::Plan;

const PAGE_BYTES: usize = 4096;
pub(super) const BUFFER_GROUP: u16 = 0;

/// A receive buffer that the kernel has filled: ours until `Buffers::give_back`. Not `Clone`: one per completion.
pub(crate) struct Filled {
    id: u16,
    len: u32,
}

impl Filled {
    /// For the completion that carries this buffer, once.
    pub(super) fn new(id: u16, len: u32) -> Filled {
        Filled { id, len }
    }
}

/// The provided-buffer ring: the kernel takes a buffer per receive, `give_back` returns it.
pub(crate) struct Buffers {
    entries: *mut BufRingEntry,
    memory: *mut u8,
    buffer_bytes: usize,
    mask: u16,
    tail: u16,
}

impl Buffers {
    pub(super) fn register(submitter: &Submitter<'_>, plan: &Plan) -> io::Result<Buffers> {
        let count = plan.receive_buffers;
        let entries = pages(usize::from(count) * size_of::<BufRingEntry>()).cast::<BufRingEntry>();
        // SAFETY: `count` entries of zeroed, page-aligned memory that is never freed.
        unsafe { submitter.register_buf_ring_with_flags(entries as u64, count, BUFFER_GROUP, 0) }?;
        let buffer_bytes = plan.receive_buffer_bytes as usize;
        let memory = pages(usize::from(count) * buffer_bytes);
        let mut buffers = Buffers { entries, memory, buffer_bytes, mask: count - 1, tail: 0 };
        for id in 0..count {
            buffers.give_back(Filled { id, len: 0 });
        }
        buffers.publish();
        Ok(buffers)
    }

    /// What was received.
    pub(crate) fn bytes(&self, filled: &Filled) -> &[u8] {
        let offset = usize::from(filled.id & self.mask) * self.buffer_bytes;
        let len = (filled.len as usize).min(self.buffer_bytes);
        // SAFETY: the offset is inside the block (ids are at most `mask`), and the kernel does not write to a buffer between
        // its completion, which made the one `Filled`, and `give_back`, which consumes it.
        unsafe { std::slice::from_raw_parts(self.memory.add(offset), len) }
    }

    /// Returns a buffer to the kernel with the next `publish`.
    pub(crate) fn give_back(&mut self, filled: Filled) {
        let id = filled.id & self.mask;
        let offset = usize::from(id) * self.buffer_bytes;
        // SAFETY: the index is masked to the number of entries.
        let entry = unsafe { self.entries.add(usize::from(self.tail & self.mask)) };
        // SAFETY: entries at and beyond the tail are ours until the tail is published; the memory was zeroed at first.
        let entry = unsafe { &mut *entry };
        entry.set_addr(self.memory as u64 + offset as u64);
        entry.set_len(self.buffer_bytes as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    pub(super) fn publish(&mut self) {
        // SAFETY: `entries` is the base of a registered ring, as `tail` wants it.
        let tail = unsafe { BufRingEntry::tail(self.entries) }.cast_mut();
        // SAFETY: aligned, alive, and only accessed atomically from here on; the kernel reads it with acquire.
        let tail = unsafe { AtomicU16::from_ptr(tail) };
        tail.store(self.tail, Ordering::Release);
    }
}

/// Where replies are written for `send_from_outbox`: two halves, one being written while failed sends of the turn before may
/// still be read from the other. Both stay in the cache, since each turn starts at the beginning.
pub(crate) struct Outbox {
    halves: [&'static mut [u8]; 2],
    used: usize,
}

impl Outbox {
    pub(super) fn new(bytes: usize) -> Outbox {
        Outbox { halves: [(); 2].map(|()| Vec::leak(vec![0; bytes])), used: 0 }
    }

    /// How many bytes were appended in this turn: where the next reply starts.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// How many bytes this turn can still append.
    pub(crate) fn room(&self) -> usize {
        self.halves[0].len() - self.used
    }

    /// Appends as much as there is room for.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        let len = bytes.len().min(self.room());
        self.halves[0][self.used..][..len].copy_from_slice(&bytes[..len]);
        self.used += len;
    }

    /// Takes back what was appended after `used`.
    pub(crate) fn truncate(&mut self, used: usize) {
        self.used = self.used.min(used);
    }

    /// A range that was written in this turn.
    pub(crate) fn writing(&self, range: &Range<usize>) -> &[u8] {
        self.halves[0].get(range.clone()).unwrap_or(&[])
    }

    /// A range that was written in the turn before.
    pub(crate) fn written(&self, range: &Range<usize>) -> &[u8] {
        self.halves[1].get(range.clone()).unwrap_or(&[])
    }

    pub(super) fn turn_over(&mut self) {
        self.halves.swap(0, 1);
        self.used = 0;
    }
}

/// Zeroed, page-aligned memory that lives until the process ends.
fn pages(bytes: usize) -> *mut u8 {
    let Ok(layout) = Layout::from_size_align(bytes.max(1), PAGE_BYTES) else { handle_alloc_error(Layout::new::<u8>()) };
    // SAFETY: the size is not zero.
    let memory = unsafe { alloc_zeroed(layout) };
    if memory.is_null() { handle_alloc_error(layout) } else { memory }
}
