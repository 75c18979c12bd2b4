//! What is sent to a spawner's thread, and how its answers come back.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};

use super::{Child, Command, STOP_MS_MAX};
use crate::rt::sys::spawn::{Process, SpawnError};

/// poll(2) fails only for want of memory; the thread then looks again after this.
const POLL_RETRY_MS: u64 = 10;

/// A command, and where its answer goes.
pub(super) struct Job {
    pub(super) command: Command,
    pub(super) ticket: Arc<Ticket>,
}

/// The way to the thread: a queue and a bell. The bell is an eventfd and not a condition variable because the thread waits
/// for the deaths of children at the same time, and those are descriptors.
pub(super) struct Inbox {
    queue: Mutex<Queue>,
    bell: OwnedFd,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    given_up: Vec<Leftover>,
    closed: bool,
    /// The thread has found nothing to do and waits for the bell: it is rung only then.
    is_asleep: bool,
}

impl Inbox {
    pub(super) fn new() -> io::Result<Inbox> {
        let bell = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Inbox { queue: Mutex::default(), bell })
    }

    pub(super) fn push(&self, job: Job) {
        let mut queue = lock(&self.queue);
        queue.jobs.push_back(job);
        self.wake(queue);
    }

    /// Takes over a child that nobody waits for. After the thread has gone the caller does its work.
    pub(super) fn give_up(&self, leftover: Leftover) {
        let mut queue = lock(&self.queue);
        if queue.closed {
            drop(queue);
            return leftover.settle();
        }
        queue.given_up.push(leftover);
        self.wake(queue);
    }

    /// Nothing is accepted any more; what was not begun is returned.
    pub(super) fn close(&self) -> VecDeque<Job> {
        let mut queue = lock(&self.queue);
        queue.closed = true;
        let jobs = mem::take(&mut queue.jobs);
        self.wake(queue);
        jobs
    }

    /// The thread's side: the next job, all that was given up, and whether it is over. Without any of these, the thread has to
    /// `wait` next.
    pub(super) fn take(&self, leftovers: &mut Vec<Leftover>) -> (Option<Job>, bool) {
        let mut queue = lock(&self.queue);
        leftovers.append(&mut queue.given_up);
        let job = queue.jobs.pop_front();
        queue.is_asleep = job.is_none() && !queue.closed;
        (job, queue.closed)
    }

    /// The thread's side: sleeps until the bell rings or one of these has ended.
    pub(super) fn wait(&self, leftovers: &[Leftover]) {
        let bell = PollFd::new(&self.bell, PollFlags::IN);
        let pidfds = leftovers.iter().map(|leftover| PollFd::from_borrowed_fd(leftover.process.pidfd(), PollFlags::IN));
        let mut fds: Vec<PollFd<'_>> = [bell].into_iter().chain(pidfds).collect();
        if rustix::event::poll(&mut fds, None).is_err() {
            thread::sleep(Duration::from_millis(POLL_RETRY_MS));
        }
        // Silence it before the queue is looked at: what comes later rings again. EAGAIN if it was a child.
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
    }

    fn wake(&self, mut queue: MutexGuard<'_, Queue>) {
        let is_asleep = mem::take(&mut queue.is_asleep);
        // The thread wants the lock as soon as it hears the bell.
        drop(queue);
        if !is_asleep {
            return;
        }
        // EAGAIN would mean 2^64 unheard strokes: it is ringing then.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }
}

/// A child without an owner.
pub(super) struct Leftover {
    pub(super) process: Arc<Process>,
    pub(super) fate: Fate,
}

/// What its owner decided.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// SIGKILL has been sent: it ends in a moment.
    Killed,
    /// It may run as long as it likes.
    Detached,
}

impl Leftover {
    /// Also if there is nothing to reap: a wait on the ring may have been faster.
    pub(super) fn is_reaped(&self) -> bool {
        !matches!(self.process.try_wait(), Ok(None))
    }

    /// The last chance to reap. What remains afterwards becomes the main thread's child, where
    /// [`orphans::reap`](super::orphans::reap) finds it, or init's.
    pub(super) fn settle(self) {
        if self.fate == Fate::Killed {
            let timeout =
                Timespec { tv_sec: STOP_MS_MAX as i64 / 1_000, tv_nsec: STOP_MS_MAX as i64 % 1_000 * 1_000_000 };
            let mut fds = [PollFd::from_borrowed_fd(self.process.pidfd(), PollFlags::IN)];
            // An error or a timeout leaves `try_wait` with nothing to find, and that is all that can be done.
            let _ = rustix::event::poll(&mut fds, Some(&timeout));
        }
        self.is_reaped();
    }
}

/// The way back: one answer, from the thread to the future.
#[derive(Default)]
pub(super) struct Ticket(Mutex<Answer>);

enum Answer {
    /// Not there yet; whom to wake.
    Awaited(Option<Waker>),
    /// There, and not taken.
    Ready(Result<Child, SpawnError>),
    /// Taken, or nobody wants it.
    Over,
}

impl Default for Answer {
    fn default() -> Answer {
        Answer::Awaited(None)
    }
}

impl Ticket {
    pub(super) fn done(error: SpawnError) -> Ticket {
        Ticket(Mutex::new(Answer::Ready(Err(error))))
    }

    pub(super) fn is_answered(&self) -> bool {
        matches!(*lock(&self.0), Answer::Ready(_))
    }

    pub(super) fn is_abandoned(&self) -> bool {
        matches!(*lock(&self.0), Answer::Over)
    }

    /// Answers and wakes. If the future is gone the child is dropped here, which kills it.
    pub(super) fn complete(&self, result: Result<Child, SpawnError>) {
        let mut answer = lock(&self.0);
        if let Answer::Awaited(waker) = &mut *answer {
            let waker = waker.take();
            *answer = Answer::Ready(result);
            drop(answer);
            waker.into_iter().for_each(Waker::wake);
        }
    }

    pub(super) fn poll(&self, context: &mut Context<'_>) -> Poll<Result<Child, SpawnError>> {
        let mut answer = lock(&self.0);
        match mem::replace(&mut *answer, Answer::Over) {
            Answer::Ready(result) => Poll::Ready(result),
            Answer::Awaited(_) => {
                *answer = Answer::Awaited(Some(context.waker().clone()));
                Poll::Pending
            }
            Answer::Over => Poll::Pending,
        }
    }

    pub(super) fn abandon(&self) {
        let answer = mem::replace(&mut *lock(&self.0), Answer::Over);
        // With the lock released: a child in it is killed now.
        drop(answer);
    }
}

/// A thread that panicked with the lock held left whole values behind: each update above is a single push or store.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
