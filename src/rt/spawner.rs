//! Child processes, started off the ring's thread.
//!
//! A start holds its caller until the child has executed its program: 45 to 80 us at the median and over 450 us at
//! p99, time in which a ring's thread would serve nobody. So every core has a thread that does nothing else. It is not
//! pinned, because a child inherits the CPUs of the thread that starts it, and it is nice, which is inherited too: scripts
//! shall not delay the ring threads. It is not SCHED_BATCH as its children are: a child that has just executed its program
//! would then keep the CPU, and the answer would wait until it sleeps or ends (docs/decisions/0004-spawning.md).

mod child;
mod inbox;
pub mod orphans;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::io::Errno;

use super::sys::signal::{self, Signal, SignalSet};
use super::sys::spawn::{Cause, Launcher, Process};
use super::sys::{sched, spawn::SpawnError};
pub use crate::rt::sys::spawn::{Command, Priority, Stdio};
pub use child::{Child, Exited};
use inbox::{Inbox, Job, Leftover, Ticket};

/// What [`Priority::Background`] adds to this process's nice value, which ends at 19. A ring's thread weighs as much as 68 such
/// children. With 10 it weighs as much as 9, and beside 16 quick ones at once it gets less than it needs: a static page took
/// 120 us at the median where it takes 88 (docs/decisions/0010-script-priority.md).
pub const NICE_INCREMENT: i32 = 19;

/// How long a stopping spawner waits for children that it has killed. Only one in an uninterruptible sleep takes longer.
pub const STOP_MS_MAX: u64 = 1_000;

/// A file that was written a moment ago may look open for writing: a child that is being started elsewhere in this process
/// holds copies of all descriptors until it executes its program. So ETXTBSY is tried again, after these pauses.
pub(super) const BUSY_RETRY_MS: [u64; 3] = [1, 4, 16];

/// Its code is flat; a child has a stack of its own (`sys::spawn::child`).
const STACK_BYTES: usize = 256 << 10;

/// Starts children on a thread of its own.
///
/// Dropping it answers what is still queued with [`Cause::Stopped`], reaps the children that were given up, and joins the
/// thread. Children that are still owned live on, and their owners may still wait for them.
pub struct Spawner {
    background: Lane,
    /// Started when the first command asks for it: without privileges a nice value cannot be lowered again.
    normal: OnceLock<Lane>,
    name: String,
    cpus: Vec<usize>,
}

impl Spawner {
    /// Starts the thread. `name` is what `top -H` shows (15 bytes of it); `cpus` are those where children may run, all that
    /// the process may use. SIGCHLD gets its default action: were it ignored, the kernel would reap the children itself.
    pub fn start(name: &str, cpus: &[usize]) -> io::Result<Spawner> {
        signal::set_default(Signal::CHILD)?;
        let background = Lane::start(name, cpus, Priority::Background)?;
        Ok(Spawner { background, normal: OnceLock::new(), name: name.to_owned(), cpus: cpus.to_owned() })
    }

    /// One that never starts anything: a thread for each of ten thousand simulated cores would be for nothing.
    #[cfg(test)]
    pub(crate) fn idle() -> Spawner {
        let inbox = Arc::new(Inbox::new().expect("an eventfd"));
        let background = Lane { inbox, thread: None };
        Spawner { background, normal: OnceLock::new(), name: String::new(), cpus: Vec::new() }
    }

    /// Queues the command; it is started whether or not the future is polled. Never blocks.
    pub fn spawn(&self, command: Command) -> SpawnFuture {
        match self.lane(command.priority) {
            Ok(lane) => {
                let ticket = Arc::new(Ticket::default());
                lane.inbox.push(Job { command, ticket: ticket.clone() });
                SpawnFuture { ticket }
            }
            Err(error) => {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::AGAIN);
                SpawnFuture { ticket: Arc::new(Ticket::done(SpawnError::new(&command, errno, Cause::ProcessLimit))) }
            }
        }
    }

    fn lane(&self, priority: Priority) -> io::Result<&Lane> {
        match (priority, self.normal.get()) {
            (Priority::Background, _) => Ok(&self.background),
            (Priority::Batch | Priority::Normal, Some(lane)) => Ok(lane),
            (Priority::Batch | Priority::Normal, None) => {
                let lane = Lane::start(&format!("{}-n", self.name), &self.cpus, Priority::Normal)?;
                Ok(self.normal.get_or_init(|| lane))
            }
        }
    }
}

/// One thread and what is sent to it.
struct Lane {
    inbox: Arc<Inbox>,
    thread: Option<JoinHandle<()>>,
}

impl Lane {
    fn start(name: &str, cpus: &[usize], priority: Priority) -> io::Result<Lane> {
        let inbox = Arc::new(Inbox::new()?);
        let launcher = Launcher::new()?.shielded();
        // The thread inherits the mask: no handler of this process ever runs on it, nor on a child of its (`shielded`). SIGCHLD stays: a blocked signal counts as
        // wanted, whatever its action, and each child's end would wake the main thread for nothing (5 us a script).
        let _blocked = signal::block(&SignalSet::every_but(&[Signal::CHILD]));
        let thread = thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn({
            let (inbox, cpus) = (inbox.clone(), cpus.to_owned());
            move || {
                settle(&cpus, priority);
                work(&inbox, launcher);
            }
        })?;
        Ok(Lane { inbox, thread: Some(thread) })
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        for Job { command, ticket } in self.inbox.close() {
            ticket.complete(Err(SpawnError::new(&command, Errno::CANCELED, Cause::Stopped)));
        }
        if let Some(thread) = self.thread.take() {
            // An error is a panic of the thread, already reported by the panic hook.
            let _ = thread.join();
        }
    }
}

/// Takes on the attributes that the children shall inherit. A refusal makes scripts disturb the ring threads more than
/// they should; that is no reason not to serve.
fn settle(cpus: &[usize], priority: Priority) {
    let warn = |what, error: io::Error| tracing::warn!(%error, "child processes run without {what}");
    sched::set_affinity(cpus).unwrap_or_else(|error| warn("their set of CPUs", error));
    if priority == Priority::Background {
        sched::add_nice(NICE_INCREMENT).unwrap_or_else(|error| warn("a lower priority", error));
    }
}

/// So many children are started before our copies of the first one's pipe ends are closed, if there are so many to start.
/// Whoever waits for the ends of their output is then woken once, and finds several: with one at a time it takes the CPU from
/// this thread after each start, for two switches and cold caches a script (docs/decisions/0029-short-waits.md). The first of
/// them is answered later, by at most seven starts (0.4 ms), which only come where as many wait.
const STARTED_MAX: usize = 8;

/// The thread: starts what is queued, reaps what was given up, sleeps.
fn work(inbox: &Arc<Inbox>, mut launcher: Launcher) {
    let mut leftovers: Vec<Leftover> = Vec::new();
    let mut started: Vec<Command> = Vec::with_capacity(STARTED_MAX);
    loop {
        let (job, closed) = inbox.take(&mut leftovers);
        leftovers.retain(|leftover| !leftover.is_reaped());
        if job.is_none() || started.len() == STARTED_MAX {
            started.clear();
        }
        match job {
            Some(job) => start(job, inbox, &mut launcher, &mut started),
            None if closed => break,
            None => inbox.wait(&leftovers),
        }
    }
    leftovers.into_iter().for_each(Leftover::settle);
}

fn start(Job { command, ticket }: Job, inbox: &Arc<Inbox>, launcher: &mut Launcher, started: &mut Vec<Command>) {
    if ticket.is_abandoned() {
        return;
    }
    let answer = start_unless_busy(&command, launcher, started).map(|process| Child::new(process, inbox.clone()));
    // The answer first: who waits for the end of the child's output wakes when our copies of its pipe ends are closed, and finds
    // the answer there.
    ticket.complete(answer);
    started.push(command);
}

fn start_unless_busy(
    command: &Command,
    launcher: &mut Launcher,
    started: &mut Vec<Command>,
) -> Result<Process, SpawnError> {
    for pause_ms in BUSY_RETRY_MS {
        match launcher.spawn(command) {
            Err(error) if error.cause == Cause::Busy => {
                started.clear();
                thread::sleep(Duration::from_millis(pause_ms));
            }
            answer => return answer,
        }
    }
    launcher.spawn(command)
}

/// The child, once it has executed its program.
///
/// Dropped before that, a command that was not begun is not begun any more, and a child that was started is killed with
/// its group and reaped. After it has been ready it is pending for ever.
#[must_use = "dropping it kills the child"]
pub struct SpawnFuture {
    ticket: Arc<Ticket>,
}

impl SpawnFuture {
    /// Whether the answer is there. Looking costs the spawner's thread nothing; being told is a system call of its.
    pub fn is_answered(&self) -> bool {
        self.ticket.is_answered()
    }
}

impl Future for SpawnFuture {
    type Output = Result<Child, SpawnError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.ticket.poll(context)
    }
}

impl Drop for SpawnFuture {
    fn drop(&mut self) {
        self.ticket.abandon();
    }
}

#[cfg(test)]
pub(crate) mod tests;
