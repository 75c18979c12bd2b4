//! The word to begin and to stop, from any thread to every core: "accept", then "finish what you have", then "cut it".

use std::future::poll_fn;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

/// How far a server has come. It only ever goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Stage {
    /// Everything is ready, and nobody is accepted yet.
    Holding = 0,
    Serving = 1,
    /// Serves as before, and tells those who ask that it is about to stop.
    Leaving = 2,
    Draining = 3,
    Cutting = 4,
}

#[derive(Clone)]
pub(super) struct StopSignal(Arc<Inner>);

struct Inner {
    stage: AtomicU8,
    waiting: Mutex<Vec<(Stage, Waker)>>,
}

impl StopSignal {
    pub(super) fn new(first: Stage) -> StopSignal {
        StopSignal(Arc::new(Inner { stage: AtomicU8::new(first as u8), waiting: Mutex::default() }))
    }

    /// Moves on to a stage; it never goes back.
    pub(super) fn raise(&self, stage: Stage) {
        self.0.stage.fetch_max(stage as u8, Ordering::AcqRel);
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (woken, rest): (Vec<_>, Vec<_>) = waiting.drain(..).partition(|(wanted, _)| self.has_reached(*wanted));
        *waiting = rest;
        drop(waiting);
        woken.into_iter().for_each(|(_, waker)| waker.wake());
    }

    pub(super) fn has_reached(&self, stage: Stage) -> bool {
        self.0.stage.load(Ordering::Acquire) >= stage as u8
    }

    /// Waits for a stage.
    pub(super) async fn reached(&self, stage: Stage) {
        poll_fn(|context| {
            if self.has_reached(stage) {
                return Poll::Ready(());
            }
            let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            // A task waits for one stage at a time; a waker of a task that is gone wakes nobody.
            if !waiting.iter().any(|(wanted, old)| *wanted == stage && old.will_wake(context.waker())) {
                waiting.push((stage, context.waker().clone()));
            }
            drop(waiting);
            // It may have come between the look and the entry.
            if self.has_reached(stage) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await
    }
}
