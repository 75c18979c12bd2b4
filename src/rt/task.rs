//! Tasks: futures that a core runs, in a slab, by name.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::waker::TaskId;

/// Destructors may spawn; how often the end of a runtime drops what they spawned.
const CLEARS_MAX: usize = 8;

type BoxFuture = Pin<Box<dyn Future<Output = ()>>>;

/// The tasks of one core and the queue of those to run. Safe to call into from within a running task.
pub(crate) struct Tasks {
    runtime: u16,
    slots: RefCell<Slab>,
    ready: RefCell<VecDeque<TaskId>>,
    live: Cell<usize>,
    pub(crate) panicked: Cell<u64>,
}

#[derive(Default)]
struct Slab {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

struct Slot {
    generation: u32,
    state: State,
}

enum State {
    Free,
    /// Waiting for a wake-up.
    Asleep(BoxFuture),
    /// In the ready queue.
    Queued(BoxFuture),
    /// Being polled; `true` if it was woken meanwhile.
    Running(bool),
}

impl Tasks {
    pub(crate) fn new(runtime: u16) -> Tasks {
        Tasks {
            runtime,
            slots: RefCell::default(),
            ready: RefCell::default(),
            live: Cell::new(0),
            panicked: Cell::new(0),
        }
    }

    /// Adds a task, ready to run.
    pub(crate) fn add(&self, future: BoxFuture) {
        let mut slab = self.slots.borrow_mut();
        let index = slab.free.pop().unwrap_or_else(|| {
            slab.slots.push(Slot { generation: 0, state: State::Free });
            (slab.slots.len() - 1) as u32
        });
        assert!(index < TaskId::TASKS_MAX, "16 million tasks on one core");
        let slot = &mut slab.slots[index as usize];
        slot.state = State::Queued(future);
        let id = TaskId::new(self.runtime, index, slot.generation);
        drop(slab);
        self.live.set(self.live.get() + 1);
        self.ready.borrow_mut().push_back(id);
    }

    /// Queues the task, unless it is gone, queued already, or running (then it runs once more).
    pub(crate) fn wake(&self, id: TaskId) {
        let mut slab = self.slots.borrow_mut();
        let Some(slot) = slab.slots.get_mut(id.index() as usize).filter(|slot| id.is_generation(slot.generation))
        else {
            return;
        };
        match std::mem::replace(&mut slot.state, State::Free) {
            State::Asleep(future) => {
                slot.state = State::Queued(future);
                drop(slab);
                self.ready.borrow_mut().push_back(id);
            }
            State::Running(_) => slot.state = State::Running(true),
            unchanged => slot.state = unchanged,
        }
    }

    /// Runs ready tasks until none is left or `budget` polls were made.
    pub(crate) fn run(&self, budget: usize) -> usize {
        for polls in 0..budget {
            let Some(id) = self.ready.borrow_mut().pop_front() else { return polls };
            self.poll(id);
        }
        budget
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.borrow().is_empty()
    }

    /// How many tasks exist.
    pub(crate) fn live(&self) -> usize {
        self.live.get()
    }

    fn poll(&self, id: TaskId) {
        let mut future = {
            let slot = &mut self.slots.borrow_mut().slots[id.index() as usize];
            match std::mem::replace(&mut slot.state, State::Running(false)) {
                State::Queued(future) if id.is_generation(slot.generation) => future,
                other => {
                    slot.state = other;
                    return;
                }
            }
        };
        let waker = id.waker();
        let mut context = Context::from_waker(&waker);
        // A panic ends its task, not the core: the other connections are innocent. It is printed by the panic hook and
        // counted; the task's future is dropped like a finished one.
        let polled = self.contain(|| future.as_mut().poll(&mut context));
        if polled == Some(Poll::Pending) {
            let slot = &mut self.slots.borrow_mut().slots[id.index() as usize];
            let woken = matches!(slot.state, State::Running(true));
            slot.state = if woken { State::Queued(future) } else { State::Asleep(future) };
            if woken {
                self.ready.borrow_mut().push_back(id);
            }
            return;
        }
        // Dropped before the slot is free again, and outside the borrow: a destructor may spawn or wake.
        self.drop_future(future);
        self.forget(id.index());
    }

    /// A destructor that panics is one more task that panicked.
    fn drop_future(&self, future: BoxFuture) {
        self.contain(|| drop(future));
    }

    /// Runs what belongs to one task: a panic in it is counted, and ends nothing else.
    pub(crate) fn contain<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let done = catch_unwind(AssertUnwindSafe(work));
        if done.is_err() {
            self.panicked.set(self.panicked.get() + 1);
        }
        done.ok()
    }

    fn forget(&self, index: u32) {
        let mut slab = self.slots.borrow_mut();
        let slot = &mut slab.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        slot.state = State::Free;
        slab.free.push(index);
        self.live.set(self.live.get() - 1);
    }

    /// Drops every task, as if each had been cancelled. For the end of a runtime.
    pub(crate) fn clear(&self) {
        for _ in 0..CLEARS_MAX {
            let count = self.slots.borrow().slots.len();
            for index in 0..count {
                let state = std::mem::replace(&mut self.slots.borrow_mut().slots[index].state, State::Free);
                if let State::Asleep(future) | State::Queued(future) = state {
                    self.drop_future(future);
                    self.forget(index as u32);
                }
            }
            if self.live() == 0 {
                break;
            }
        }
        self.ready.borrow_mut().clear();
    }
}

/// A task's result, for whoever waits. Dropping it lets the task run on (as in tokio).
pub struct JoinHandle<T> {
    shared: Rc<Shared<T>>,
}

struct Shared<T> {
    result: RefCell<Joined<T>>,
    waiter: RefCell<Option<Waker>>,
}

enum Joined<T> {
    Running,
    Done(T),
    /// Taken, or the task ended without a result (it panicked, or the runtime stopped).
    Gone,
}

/// The task ended without a result: it panicked, or its runtime stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinError;

impl std::fmt::Display for JoinError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the task panicked or its runtime stopped")
    }
}

impl std::error::Error for JoinError {}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut result = self.shared.result.borrow_mut();
        match std::mem::replace(&mut *result, Joined::Gone) {
            Joined::Done(value) => Poll::Ready(Ok(value)),
            Joined::Gone => Poll::Ready(Err(JoinError)),
            Joined::Running => {
                *result = Joined::Running;
                *self.shared.waiter.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// A future that runs `future` and hands its result to the returned handle, whatever becomes of it.
pub(crate) fn joinable<F: Future + 'static>(future: F) -> (impl Future<Output = ()> + 'static, JoinHandle<F::Output>) {
    let shared = Rc::new(Shared { result: RefCell::new(Joined::Running), waiter: RefCell::new(None) });
    let teller = Teller(Rc::clone(&shared));
    let task = async move {
        let value = future.await;
        *teller.0.result.borrow_mut() = Joined::Done(value);
    };
    (task, JoinHandle { shared })
}

/// Tells the waiter when the task's future goes, finished or not.
struct Teller<T>(Rc<Shared<T>>);

impl<T> Drop for Teller<T> {
    fn drop(&mut self) {
        let mut result = self.0.result.borrow_mut();
        if matches!(*result, Joined::Running) {
            *result = Joined::Gone;
        }
        drop(result);
        if let Some(waker) = self.0.waiter.borrow_mut().take() {
            waker.wake();
        }
    }
}
