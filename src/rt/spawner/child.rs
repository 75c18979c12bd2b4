//! Who owns a child: exactly one of a `Child`, the spawner's thread, or, when it has been reaped, an `Exited`.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::process::ExitStatus;
use std::sync::Arc;

use rustix::process::{Pid, Signal};

use super::inbox::{Fate, Inbox, Leftover};
use crate::rt::sys::spawn::{self, Process};

/// A running child, or one that has ended and was not waited for.
///
/// There are three ways out, and none leaves a zombie: [`reaped`](Child::reaped) when a wait on its pidfd has completed
/// (IORING_OP_WAITID with P_PIDFD and WEXITED), [`detach`](Child::detach), or a drop, which sends SIGKILL to the process group
/// and leaves the reaping to the spawner's thread. A drop does not block. It may come while a WAITID is still in flight: one
/// of the two waits then gets ECHILD.
pub struct Child {
    process: Arc<Process>,
    inbox: Arc<Inbox>,
    custody: Custody,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Custody {
    /// We wait for it, or give it up.
    Ours,
    /// Reaped, or handed over.
    Ended,
}

impl Child {
    pub(super) fn new(process: Process, inbox: Arc<Inbox>) -> Child {
        Child { process: Arc::new(process), inbox, custody: Custody::Ours }
    }

    /// The process's id, and its group's.
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// For a wait on the ring. Any thread of this process may wait, not only the one that started the child.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.process.pidfd()
    }

    /// Signals the process alone. A child that has ended and was not reaped takes signals without effect.
    pub fn kill(&self, signal: Signal) -> io::Result<()> {
        self.process.kill(signal)
    }

    /// Signals the process group: the child and what it started, except what left the group
    /// ([`orphans::kill_by_environment`](super::orphans::kill_by_environment)).
    pub fn kill_group(&self, signal: Signal) -> io::Result<()> {
        self.process.kill_group(signal)
    }

    /// Reaps the child if it has ended: pass the status to [`reaped`](Child::reaped) next.
    ///
    /// # Errors
    /// ECHILD, if somebody else has reaped it.
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        self.process.try_wait()
    }

    /// The child has been reaped: a wait on its pidfd returned this status.
    pub fn reaped(mut self, status: ExitStatus) -> Exited {
        self.custody = Custody::Ended;
        Exited { process: self.process.clone(), status }
    }

    /// Blocks until the child has ended. Not for a ring's thread.
    pub fn wait(self) -> io::Result<Exited> {
        let status = self.process.wait()?;
        Ok(self.reaped(status))
    }

    /// Lets it run on. The spawner's thread reaps it when it ends.
    pub fn detach(mut self) {
        self.give_up(Fate::Detached);
    }

    fn give_up(&mut self, fate: Fate) {
        self.custody = Custody::Ended;
        self.inbox.give_up(Leftover { process: self.process.clone(), fate });
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.custody == Custody::Ours {
            // The process too: it may have moved to another group. ESRCH from either is success.
            let _ = self.process.kill_group(Signal::KILL);
            let _ = self.process.kill(Signal::KILL);
            self.give_up(Fate::Killed);
        }
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child").field("pid", &self.pid()).finish_non_exhaustive()
    }
}

/// A child that has been reaped. Its group may live on.
#[derive(Debug)]
pub struct Exited {
    process: Arc<Process>,
    /// How it ended.
    pub status: ExitStatus,
}

impl Exited {
    /// The id that it had. The number may be another process's by now: for the log, and nothing else.
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Signals what remains of the process group, and nobody else, although the number may have been given away.
    /// `Unsupported` before Linux 6.9.
    pub fn kill_group(&self, signal: Signal) -> io::Result<()> {
        spawn::kill_group_of(self.process.pidfd(), Some(signal)).map_err(|errno| match errno {
            rustix::io::Errno::INVAL => io::ErrorKind::Unsupported.into(),
            errno => errno.into(),
        })
    }

    /// Whether anybody of the process group is left, unreaped ones included. Before Linux 6.9: no.
    pub fn has_group(&self) -> bool {
        spawn::kill_group_of(self.process.pidfd(), None).is_ok()
    }
}
