//! Buffers that files are read into on their way from the disk: a few a core, registered with its ring where that is
//! allowed, each in one place at a time, and a line of those who wait for one.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::buf_ring::Mapping;

/// Shared by `Rc`: each buffer that is out keeps the memory.
pub(crate) struct ReadPool {
    memory: Mapping,
    size: usize,
    count: u16,
    /// Whether the ring knows the buffers, by their numbers.
    registered: Cell<bool>,
    free: RefCell<Vec<u16>>,
    line: RefCell<Line>,
}

/// Who waits, first come, first served.
#[derive(Default)]
struct Line {
    last: u64,
    waiting: VecDeque<(u64, Waker)>,
}

impl ReadPool {
    /// `count` buffers of `size` bytes each.
    pub(crate) fn new(count: u16, size: usize) -> io::Result<Rc<ReadPool>> {
        Ok(Rc::new(ReadPool {
            memory: Mapping::new(usize::from(count) * size)?,
            size,
            count,
            registered: Cell::new(false),
            free: RefCell::new((0..count).collect()),
            line: RefCell::default(),
        }))
    }

    /// What REGISTER_BUFFERS asks for: number N is buffer N. The kernel keeps the pages for as long as the ring is there,
    /// whatever becomes of the mapping.
    pub(crate) fn registration(&self) -> Vec<libc::iovec> {
        (0..self.count).map(|number| libc::iovec { iov_base: self.start(number).cast(), iov_len: self.size }).collect()
    }

    pub(crate) fn set_registered(&self) {
        self.registered.set(true);
    }

    pub(crate) fn is_registered(&self) -> bool {
        self.registered.get()
    }

    /// A buffer, when one is free and nobody has waited for longer.
    ///
    /// Dropped while waiting: the place in line is given up.
    pub(crate) fn take(self: &Rc<ReadPool>) -> Taking {
        Taking { pool: Rc::clone(self), number: 0 }
    }

    fn start(&self, number: u16) -> *mut u8 {
        assert!(number < self.count);
        self.memory.start().wrapping_add(usize::from(number) * self.size)
    }

    fn give_back(&self, number: u16) {
        self.free.borrow_mut().push(number);
        self.wake_first();
    }

    fn wake_first(&self) {
        if self.free.borrow().is_empty() {
            return;
        }
        let first = self.line.borrow().waiting.front().map(|(_, waker)| waker.clone());
        first.into_iter().for_each(Waker::wake);
    }
}

/// See [`ReadPool::take`].
pub(crate) struct Taking {
    pool: Rc<ReadPool>,
    /// In line; 0 while not.
    number: u64,
}

impl Future for Taking {
    type Output = ReadBuf;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<ReadBuf> {
        let number = self.number;
        let pool = Rc::clone(&self.pool);
        let mut line = pool.line.borrow_mut();
        let is_next = line.waiting.front().is_none_or(|(first, _)| *first == number);
        let free = if is_next { pool.free.borrow_mut().pop() } else { None };
        if let Some(buffer) = free {
            if number != 0 {
                line.waiting.pop_front();
                self.number = 0;
            }
            drop(line);
            pool.wake_first();
            return Poll::Ready(ReadBuf { pool, number: buffer, len: 0 });
        }
        if number == 0 {
            line.last += 1;
            self.number = line.last;
            let place = (self.number, context.waker().clone());
            line.waiting.push_back(place);
        } else if let Some((_, waker)) = line.waiting.iter_mut().find(|(other, _)| *other == number) {
            waker.clone_from(context.waker());
        }
        Poll::Pending
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        if self.number != 0 {
            self.pool.line.borrow_mut().waiting.retain(|(number, _)| *number != self.number);
            self.pool.wake_first();
        }
    }
}

/// A buffer of a core's pool, with what was read into it. Dropping it gives it back.
pub struct ReadBuf {
    pool: Rc<ReadPool>,
    number: u16,
    len: u32,
}

impl ReadBuf {
    /// Where its room starts, how much that is, and its number if the ring knows it.
    pub(crate) fn room(&mut self) -> (*mut u8, usize, Option<u16>) {
        (self.pool.start(self.number), self.pool.size, self.pool.is_registered().then_some(self.number))
    }

    /// Declares the first `count` bytes to be the contents.
    pub(crate) fn set_filled(&mut self, count: usize) {
        assert!(count <= self.pool.size);
        self.len = count as u32;
    }
}

impl Deref for ReadBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let start = self.pool.start(self.number);
        // SAFETY: `len` bytes (checked in `set_filled`) of this buffer's part of the mapping, which lives as long as `pool`
        // and began as zeroes; the kernel writes there only while the operation's slot owns this value.
        unsafe { std::slice::from_raw_parts(start, self.len as usize) }
    }
}

impl Drop for ReadBuf {
    fn drop(&mut self) {
        self.pool.give_back(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    fn poll(future: &mut Pin<&mut Taking>) -> Option<ReadBuf> {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(buffer) => Some(buffer),
            Poll::Pending => None,
        }
    }

    #[test]
    fn buffers_go_to_who_has_waited_longest_and_one_who_left_holds_up_nobody() {
        let pool = ReadPool::new(1, 4096).unwrap();
        let mut first = pin!(pool.take());
        let held = poll(&mut first).expect("it is free");
        let second = pool.take();
        let mut third = pin!(pool.take());
        let mut fourth = pin!(pool.take());
        {
            let mut second = Box::pin(second);
            assert!(poll(&mut second.as_mut()).is_none());
            assert!(poll(&mut third).is_none());
            assert!(poll(&mut fourth).is_none());
            drop(held);
            // It is free, and it is the second's turn, who goes without taking it.
            assert!(poll(&mut fourth).is_none());
        }
        let held = poll(&mut third).expect("the third is next");
        assert!(poll(&mut fourth).is_none());
        drop(held);
        assert!(poll(&mut fourth).is_some());
    }
}
