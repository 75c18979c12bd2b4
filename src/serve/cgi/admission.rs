//! How many scripts run at once, over all cores: a cap, a bounded queue in order of arrival, and a deadline in it.
//! A lock, but only scripts take it, and a script costs a thousand times as much.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::rt::time;

pub(in crate::serve) struct Admission {
    running_max: usize,
    queued_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: usize,
    queue: VecDeque<Waiter>,
    next: u64,
}

struct Waiter {
    number: u64,
    granted: bool,
    waker: Waker,
}

/// The right to run a script; given back on drop.
pub(super) struct Permit(Arc<Admission>);

/// Too many scripts run, and too many requests wait, or this one has waited too long.
#[derive(Debug)]
pub(super) struct Full;

impl Admission {
    pub(in crate::serve) fn new(running_max: usize, queued_max: usize) -> Arc<Admission> {
        Arc::new(Admission { running_max: running_max.max(1), queued_max, state: Mutex::default() })
    }

    /// Waits for a place.
    pub(super) async fn acquire(self: &Arc<Admission>, wait: Duration) -> Result<Permit, Full> {
        let Some(place) = self.enter()? else { return Ok(Permit(Arc::clone(self))) };
        let granted = poll_fn(|context| self.poll_granted(place.number, context.waker()));
        match time::timeout(wait, granted).await {
            Ok(()) => {
                std::mem::forget(place);
                Ok(Permit(Arc::clone(self)))
            }
            Err(time::Elapsed) => Err(Full),
        }
    }

    /// A place to run, or one in the queue.
    fn enter(self: &Arc<Admission>) -> Result<Option<Place<'_>>, Full> {
        let mut state = self.state();
        if state.running < self.running_max {
            state.running += 1;
            return Ok(None);
        }
        if state.queue.len() >= self.queued_max {
            return Err(Full);
        }
        let number = state.next;
        state.next += 1;
        state.queue.push_back(Waiter { number, granted: false, waker: Waker::noop().clone() });
        Ok(Some(Place { admission: self, number }))
    }

    fn poll_granted(&self, number: u64, waker: &Waker) -> Poll<()> {
        let mut state = self.state();
        let Some(index) = state.queue.iter().position(|waiter| waiter.number == number) else { return Poll::Ready(()) };
        if state.queue[index].granted {
            state.queue.remove(index);
            return Poll::Ready(());
        }
        state.queue[index].waker = waker.clone();
        Poll::Pending
    }

    /// A place has become free: the first in the queue has it, or nobody.
    fn release(&self) {
        let mut state = self.state();
        match state.queue.iter_mut().find(|waiter| !waiter.granted) {
            Some(waiter) => {
                waiter.granted = true;
                let waker = waiter.waker.clone();
                drop(state);
                waker.wake();
            }
            None => state.running -= 1,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// A place in the queue; dropped, it is left, and what was granted meanwhile goes to the next.
struct Place<'a> {
    admission: &'a Admission,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.admission.state();
        let Some(index) = state.queue.iter().position(|waiter| waiter.number == self.number) else { return };
        let granted = state.queue.remove(index).is_some_and(|waiter| waiter.granted);
        drop(state);
        if granted {
            self.admission.release();
        }
    }
}
