//! The seam: submit an operation, get a completion. The engines differ here and nowhere else.
//!
//! Chosen once per thread, as an enum: no generics spread over the runtime, no `cfg` in the operations.

#[cfg(any(test, feature = "sim"))]
pub(crate) mod sim;
pub(crate) mod uring;

use std::rc::Rc;

use super::sys::buf_ring::BufRing;
use super::sys::lent::Lent;
use super::sys::read_pool::ReadPool;
use super::sys::ring::Wait;
use super::sys::sqe::Cqe;

/// An engine.
pub(crate) enum Driver {
    /// io_uring: the default.
    Uring(Box<uring::Uring>),
    /// A kernel made of a seed: virtual time, a network in memory, faults on purpose. For tests.
    #[cfg(any(test, feature = "sim"))]
    Sim(Box<sim::Sim>),
}

impl Driver {
    /// Queues an operation. Never refused: what does not fit now is submitted, in order, by a later `enter`.
    pub(crate) fn push(&mut self, lent: Lent) {
        match self {
            Driver::Uring(uring) => uring.push(lent),
            #[cfg(any(test, feature = "sim"))]
            Driver::Sim(sim) => sim.push(lent),
        }
    }

    /// Submits what is queued and waits.
    pub(crate) fn enter(&mut self, wait: Wait) -> std::io::Result<()> {
        match self {
            Driver::Uring(uring) => uring.enter(wait),
            #[cfg(any(test, feature = "sim"))]
            Driver::Sim(sim) => sim.enter(wait),
        }
    }

    /// Submits what is queued, and no more: completions stay where they are.
    pub(crate) fn submit(&mut self) -> std::io::Result<()> {
        match self {
            Driver::Uring(uring) => uring.enter(Wait::Submit),
            #[cfg(any(test, feature = "sim"))]
            Driver::Sim(sim) => sim.enter(Wait::Submit),
        }
    }

    /// Moves the completions that are there into `into`.
    pub(crate) fn reap(&mut self, into: &mut Vec<Cqe>) {
        match self {
            Driver::Uring(uring) => uring.reap(into),
            #[cfg(any(test, feature = "sim"))]
            Driver::Sim(sim) => sim.reap(into),
        }
    }

    /// Nanoseconds on the engine's clock: CLOCK_MONOTONIC, or virtual.
    pub(crate) fn now_ns(&self) -> u64 {
        match self {
            Driver::Uring(_) => super::sys::clock::monotonic_ns(),
            #[cfg(any(test, feature = "sim"))]
            Driver::Sim(sim) => sim.now_ns(),
        }
    }

    /// The pool that receives land in.
    pub(crate) fn pool(&self) -> &Rc<BufRing> {
        match self {
            Driver::Uring(uring) => uring.pool(),
            #[cfg(any(test, feature = "sim"))]
            Driver::Sim(sim) => sim.pool(),
        }
    }

    /// Tells the kernel a pool of read buffers. Where that fails, they work as any memory does.
    pub(crate) fn register_buffers(&self, pool: &ReadPool) -> std::io::Result<()> {
        match self {
            Driver::Uring(uring) => uring.register_buffers(pool),
            #[cfg(any(test, feature = "sim"))]
            Driver::Sim(_) => Err(std::io::ErrorKind::Unsupported.into()),
        }
    }

    /// Timers for short waits that were over.
    pub(crate) fn short_waits_over(&self) -> u64 {
        match self {
            Driver::Uring(uring) => uring.short_waits_over(),
            #[cfg(any(test, feature = "sim"))]
            Driver::Sim(_) => 0,
        }
    }

    /// Calls of `io_uring_enter`.
    pub(crate) fn enters(&self) -> u64 {
        match self {
            Driver::Uring(uring) => uring.enters(),
            #[cfg(any(test, feature = "sim"))]
            Driver::Sim(sim) => sim.enters(),
        }
    }

    /// Entries that were pushed and not yet submitted.
    pub(crate) fn queued(&mut self) -> usize {
        match self {
            Driver::Uring(uring) => uring.queued(),
            #[cfg(any(test, feature = "sim"))]
            Driver::Sim(sim) => sim.queued(),
        }
    }

    /// Whether everything that was pushed has been submitted, and every completion that was posted can be seen.
    pub(crate) fn is_settled(&mut self) -> bool {
        match self {
            Driver::Uring(uring) => uring.is_settled(),
            #[cfg(any(test, feature = "sim"))]
            Driver::Sim(sim) => sim.queued() == 0,
        }
    }

    /// What the engine can do, for people: (what, answer).
    pub(crate) fn describe(&self) -> Vec<(String, String)> {
        match self {
            Driver::Uring(uring) => uring.describe(),
            #[cfg(any(test, feature = "sim"))]
            Driver::Sim(_) => vec![("engine".to_owned(), "simulated".to_owned())],
        }
    }
}
