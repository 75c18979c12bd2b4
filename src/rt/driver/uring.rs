//! The io_uring engine: one ring, and a line for the entries that found it full.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

use crate::rt::sys::buf_ring::BufRing;
use crate::rt::sys::lent::Lent;
use crate::rt::sys::read_pool::ReadPool;
use crate::rt::sys::ring::{Ring, RingSizes, Wait};
use crate::rt::sys::sqe::Cqe;

pub(crate) struct Uring {
    ring: Ring,
    /// In order, behind the ring's own queue; empty except in bursts. A cancel waits here like everything else, so it
    /// can never overtake, nor be lost.
    line: VecDeque<Lent>,
}

impl Uring {
    pub(crate) fn new(sizes: RingSizes) -> io::Result<Uring> {
        Ok(Uring { ring: Ring::new(sizes)?, line: VecDeque::new() })
    }

    pub(crate) fn push(&mut self, lent: Lent) {
        if self.line.is_empty() {
            if let Err(lent) = self.ring.push(lent) {
                self.line.push_back(lent);
            }
        } else {
            self.line.push_back(lent);
        }
    }

    pub(crate) fn enter(&mut self, wait: Wait) -> io::Result<()> {
        while let Some(lent) = self.line.pop_front() {
            if let Err(lent) = self.ring.push(lent) {
                self.line.push_front(lent);
                break;
            }
        }
        // With entries still in line there is work: do not sleep on it.
        self.ring.enter(if self.line.is_empty() || wait == Wait::Submit { wait } else { Wait::No })
    }

    pub(crate) fn reap(&mut self, into: &mut Vec<Cqe>) {
        self.ring.reap_all(|cqe| into.push(cqe));
    }

    pub(crate) fn queued(&mut self) -> usize {
        self.ring.queued() + self.line.len()
    }

    pub(crate) fn pool(&self) -> &Rc<BufRing> {
        self.ring.pool()
    }

    pub(crate) fn register_buffers(&self, pool: &ReadPool) -> io::Result<()> {
        self.ring.register_buffers(pool)
    }

    pub(crate) fn is_settled(&mut self) -> bool {
        self.line.is_empty() && self.ring.is_settled()
    }

    pub(crate) fn describe(&self) -> Vec<(String, String)> {
        self.ring.describe()
    }

    pub(crate) fn short_waits_over(&self) -> u64 {
        self.ring.short_waits_over()
    }

    pub(crate) fn enters(&self) -> u64 {
        self.ring.enters()
    }
}

impl AsRawFd for Uring {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}
