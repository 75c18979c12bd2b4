//! Work that blocks, on helper threads: what the ring has no operation for (reading a folder), or what would hold up a core
//! for too long.
//!
//! A runtime has at most [`THREADS_MAX`] helpers. None is started before the first work comes, and one that has had nothing
//! to do for [`IDLE_MAX`] goes. They are no place for what has to be fast: the way there and back is two wake-ups.
//!
//! ```no_run
//! # async fn demo() -> Result<(), ucaffeine::rt::blocking::BlockingError> {
//! use ucaffeine::rt::blocking;
//! let names = blocking::run(|| std::fs::read_dir("/tmp").map(Iterator::count)).await?;
//! # Ok(()) }
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use super::sys::sched;
use super::sys::signal::{self, SignalSet};
use super::with_core;

/// Helper threads of one runtime: two, so that one stuck disk does not stop the others' work.
pub const THREADS_MAX: usize = 2;
/// Work that waits for a helper; beyond, it is refused.
pub const QUEUED_MAX: usize = 64;
/// How long a helper waits for more work before it goes.
pub const IDLE_MAX: Duration = Duration::from_secs(10);

/// Runs `work` on a helper thread of this runtime. It is queued at once, whether or not the future is polled.
///
/// # Panics
/// Outside a runtime.
pub fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Blocking<T> {
    let ticket = Arc::new(Ticket(Mutex::new(Answer::Awaited(None))));
    let job = Box::new(Job { work: Some(work), ticket: Arc::clone(&ticket) });
    if let Err(error) = with_core(|core| core.helpers.push(job)) {
        *lock(&ticket.0) = Answer::Ready(Err(error));
    }
    Blocking { ticket }
}

/// The result of [`run`].
///
/// Dropped before the work has begun, the work is not done. Dropped later, the work goes on to its end, which nothing can
/// hurry, and its result is dropped on the helper thread. The end of the runtime waits for neither.
#[must_use = "dropping it gives up what has not begun"]
pub struct Blocking<T> {
    ticket: Arc<Ticket<T>>,
}

/// Why there is no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockingError {
    /// Too much is waiting for a helper already ([`QUEUED_MAX`]).
    Busy,
    /// No helper thread could be started: a limit of threads or memory.
    NoThread,
    /// The work panicked; the panic hook has said why.
    Panicked,
    /// The runtime ended before the work had begun.
    Stopped,
}

impl<T> Future for Blocking<T> {
    type Output = Result<T, BlockingError>;

    /// After it has been ready it is pending for ever.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut answer = lock(&self.ticket.0);
        match mem::replace(&mut *answer, Answer::Over) {
            Answer::Ready(result) => Poll::Ready(result),
            Answer::Awaited(_) => {
                *answer = Answer::Awaited(Some(context.waker().clone()));
                Poll::Pending
            }
            Answer::Over => Poll::Pending,
        }
    }
}

impl<T> Drop for Blocking<T> {
    fn drop(&mut self) {
        let answer = mem::replace(&mut *lock(&self.ticket.0), Answer::Over);
        // With the lock released: a result's destructor may do anything.
        drop(answer);
    }
}

impl fmt::Display for BlockingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BlockingError::Busy => "too much work is waiting for a helper thread",
            BlockingError::NoThread => "no helper thread can be started: a limit of threads or memory",
            BlockingError::Panicked => "the work panicked",
            BlockingError::Stopped => "the runtime has ended",
        })
    }
}

impl std::error::Error for BlockingError {}

/// The way back: one answer, from a helper to the future.
struct Ticket<T>(Mutex<Answer<T>>);

enum Answer<T> {
    /// Not there yet; whom to wake.
    Awaited(Option<Waker>),
    /// There, and not taken.
    Ready(Result<T, BlockingError>),
    /// Taken, or nobody wants it.
    Over,
}

impl<T> Ticket<T> {
    fn complete(&self, result: Result<T, BlockingError>) {
        let mut answer = lock(&self.0);
        if let Answer::Awaited(waker) = &mut *answer {
            let waker = waker.take();
            *answer = Answer::Ready(result);
            drop(answer);
            waker.into_iter().for_each(Waker::wake);
        }
    }
}

/// Some work, and where its result goes.
struct Job<T, F> {
    work: Option<F>,
    ticket: Arc<Ticket<T>>,
}

/// A job, whatever its result is.
trait AnyJob: Send {
    fn run(self: Box<Self>);
    fn is_abandoned(&self) -> bool;
}

impl<T: Send, F: FnOnce() -> T + Send> AnyJob for Job<T, F> {
    fn run(mut self: Box<Self>) {
        let Some(work) = self.work.take() else { return };
        // What the work has broken by panicking, it owned.
        let result = catch_unwind(AssertUnwindSafe(work));
        self.ticket.complete(result.map_err(|_panic| BlockingError::Panicked));
    }

    fn is_abandoned(&self) -> bool {
        matches!(*lock(&self.ticket.0), Answer::Over)
    }
}

impl<T, F> Drop for Job<T, F> {
    fn drop(&mut self) {
        if self.work.is_some() {
            self.ticket.complete(Err(BlockingError::Stopped));
        }
    }
}

/// The helpers of a runtime.
pub(crate) struct Helpers {
    shared: Arc<Shared>,
    /// Where they may run; empty: where the thread of the runtime may.
    cpus: Arc<[usize]>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Box<dyn AnyJob>>,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl Helpers {
    pub(crate) fn new(cpus: &[usize]) -> Helpers {
        Helpers { shared: Arc::default(), cpus: cpus.into() }
    }

    fn push(&self, job: Box<dyn AnyJob>) -> Result<(), BlockingError> {
        let mut queue = lock(&self.shared.queue);
        // Dropped when the lock is released: destructors may do anything.
        let mut _abandoned = VecDeque::new();
        if queue.jobs.len() >= QUEUED_MAX {
            (queue.jobs, _abandoned) = mem::take(&mut queue.jobs).into_iter().partition(|job| !job.is_abandoned());
        }
        if queue.jobs.len() >= QUEUED_MAX {
            drop(queue);
            drop(job);
            return Err(BlockingError::Busy);
        }
        queue.jobs.push_back(job);
        // Those that are idle may have work waiting for them that they have not taken yet.
        let needed = queue.jobs.len() > queue.idle && queue.threads < THREADS_MAX;
        if needed && self.start().is_ok() {
            queue.threads += 1;
        }
        if queue.threads == 0 {
            let job = queue.jobs.pop_back();
            drop(queue);
            drop(job);
            return Err(BlockingError::NoThread);
        }
        drop(queue);
        self.shared.arrived.notify_one();
        Ok(())
    }

    /// Starts a thread, which waits for the lock that the caller holds.
    fn start(&self) -> std::io::Result<()> {
        let (shared, cpus) = (Arc::clone(&self.shared), Arc::clone(&self.cpus));
        // The thread inherits the mask: no handler of this process ever runs on it.
        let _blocked = signal::block(&SignalSet::every());
        let thread = thread::Builder::new().name("helper".to_owned());
        thread.spawn(move || {
            if !cpus.is_empty()
                && let Err(error) = sched::set_affinity(&cpus)
            {
                tracing::debug!(%error, "a helper thread shares its core's CPU");
            }
            work(&shared);
        })?;
        Ok(())
    }
}

impl Drop for Helpers {
    /// Nobody is waited for: a helper may be stuck in a disk that does not answer.
    fn drop(&mut self) {
        let mut queue = lock(&self.shared.queue);
        queue.closed = true;
        let jobs = mem::take(&mut queue.jobs);
        drop(queue);
        drop(jobs);
        self.shared.arrived.notify_all();
    }
}

/// A helper: takes what is queued, and goes after a while without work.
fn work(shared: &Shared) {
    let mut queue = lock(&shared.queue);
    loop {
        if let Some(job) = queue.jobs.pop_front() {
            drop(queue);
            if !job.is_abandoned() {
                job.run();
            }
            queue = lock(&shared.queue);
            continue;
        }
        if queue.closed {
            break;
        }
        queue.idle += 1;
        let (back, waited) = shared.arrived.wait_timeout(queue, IDLE_MAX).unwrap_or_else(PoisonError::into_inner);
        queue = back;
        queue.idle -= 1;
        if waited.timed_out() && queue.jobs.is_empty() {
            break;
        }
    }
    queue.threads -= 1;
}

/// Nothing panics while it holds one of these locks but a destructor of the caller's, and each update is a single one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
