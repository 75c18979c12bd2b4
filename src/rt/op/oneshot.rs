//! Operations with one result.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::slots::State;
use super::{Entry, Key, Outcome, Unclaimed, set_waker};
use crate::rt::sys::sqe::Sqe;
use crate::rt::{try_with_core, with_core};

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

/// A one-shot operation after whose result the kernel goes on reading what it was lent: resolves to the result, and leaves
/// the `T` to the slot, which drops it at the last completion.
///
/// Dropped before that: as an [`Op`].
pub(crate) struct Parting<T>(Op<T>);

impl<T> Parting<T> {
    /// As [`Op::start`].
    pub(crate) fn start(lent: T, entry: impl FnOnce(&mut T) -> Sqe) -> Parting<T> {
        Parting(Op::start(lent, Unclaimed::Forget, entry))
    }
}

impl<T: 'static> Future for Parting<T> {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let key = self.0.key;
        assert!(key != Key::NOBODY, "polled after it was ready");
        let (outcome, leftover) = with_core(|core| {
            let mut slots = core.slots.borrow_mut();
            match slots.state_of(key) {
                Some(State::Done { result, flags }) => (Some(Outcome { result, flags }), Some(slots.release(key))),
                Some(State::Sent { result, flags }) => {
                    slots.slot(key).state = State::Orphan;
                    (Some(Outcome { result, flags }), None)
                }
                _ => {
                    set_waker(&mut slots.slot(key).waker, context.waker());
                    (None, None)
                }
            }
        });
        drop(leftover);
        match outcome {
            None => Poll::Pending,
            Some(outcome) => {
                self.0.key = Key::NOBODY;
                Poll::Ready(outcome)
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
        try_with_core(|core| {
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
