//! Operations with a stream of results.

use std::task::{Context, Poll};

use super::slots::{Kernel, NONE, State};
use super::{Entry, Key, Outcome, Then, Unclaimed, set_waker};
use crate::rt::sys::sqe::{CQE_BUFFER, Cqe, Sqe};
use crate::rt::{try_with_core, with_core};

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
        try_with_core(|core| {
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
