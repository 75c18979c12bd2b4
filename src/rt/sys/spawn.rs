//! Starting a program by `clone(2)` with CLONE_VM and CLONE_VFORK.
//!
//! No page table is copied, whatever the size of this process, and the calling thread (only that one) stands still until the
//! child has executed the program or failed to. So the error of `execve`, and of every step before it, comes back in memory
//! that both see; and so a ring's thread must not call this.
//! Why not posix_spawn, which does the same, and what both cost: docs/decisions/0020-spawner.md.

mod child;
mod command;
mod error;
mod process;

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering;

use rustix::fs::{Mode, OFlags};
use rustix::io::{DupFlags, Errno};
use rustix::process::Pid;

use super::signal::{self, Signal, SignalSet};
use child::{Child, Stack};
pub use command::{Command, Priority, Stdio};
pub use error::{Cause, SpawnError};
pub(crate) use process::kill_group_of;
pub use process::{Process, exit_status};

/// What starting programs needs and need not make anew each time.
pub struct Launcher {
    stack: Stack,
    /// `/dev/null`.
    null: OwnedFd,
    /// Where a child finds what become its descriptors 0, 1 and 2. Between two starts, `/dev/null`.
    slots: [OwnedFd; 3],
    /// The signals that this process ignored or handled when this was made.
    altered: Vec<i32>,
}

impl Launcher {
    /// The sooner after the start of the process the better: a child copies the descriptors below the three that this takes.
    ///
    /// # Errors
    /// No `/dev/null`; EMFILE.
    pub fn new() -> std::io::Result<Launcher> {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let slot = || rustix::io::fcntl_dupfd_cloexec(&null, FIRST_OTHER_FD);
        let slots = [slot()?, slot()?, slot()?];
        Ok(Launcher { stack: Stack::new(), null, slots, altered: signal::altered() })
    }

    /// Starts the program and blocks until it has been executed, or has failed to. The child inherits how the calling thread
    /// is scheduled: nice value and CPUs. What this process has come to ignore since the launcher was made, it ignores, too.
    pub fn spawn(&mut self, command: &Command) -> Result<Process, SpawnError> {
        if command.has_nul {
            return Err(SpawnError::new(command, Errno::INVAL, Cause::Nul));
        }
        let started = self.fill_slots(command).and_then(|()| self.start(command));
        self.empty_slots(command);
        started.map_err(|errno| SpawnError::diagnose(command, errno))
    }

    fn start(&mut self, command: &Command) -> Result<Process, Errno> {
        let (arguments, environment) = (command.arguments.pointers(), command.environment.pointers());
        let sources = std::array::from_fn(|target| is_given(stdios(command)[target]).then(|| self.slots[target].as_raw_fd()));
        let last_slot = self.slots.iter().map(AsRawFd::as_raw_fd).max().unwrap_or(FIRST_OTHER_FD);
        let child = Child::new(command, sources, last_slot, &self.altered, &arguments, &environment);
        let mut pidfd: RawFd = -1;
        // A signal that came to the child before it has executed its program would run a handler of ours, in our memory.
        // Not SIGCHLD: see `spawner`.
        let blocked = signal::block(&SignalSet::every_but(&[Signal::CHILD]));
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::CLONE_PIDFD | libc::SIGCHLD;
        // SAFETY: the stack is ours alone (`&mut self`) and is not used after the call, which returns when the child has left
        // this memory (CLONE_VFORK). `child` and all that it points to (`command`, `self`, the two arrays) live until then, and
        // `Child::run` does only what may be done on a borrowed address space and descriptor table. CLONE_PIDFD writes one
        // descriptor to the place of the fifth argument.
        let pid = unsafe {
            libc::clone(Child::run, self.stack.top(), flags, (&raw const child).cast_mut().cast(), &raw mut pidfd)
        };
        let failed = Errno::from_io_error(&std::io::Error::last_os_error());
        drop(blocked);
        let pid = Pid::from_raw(pid).filter(|_| pid > 0).ok_or(failed.unwrap_or(Errno::AGAIN))?;
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows its number.
        let process = Process::new(pid, unsafe { OwnedFd::from_raw_fd(pidfd) });
        match child.errno.load(Ordering::Relaxed) {
            0 => Ok(process),
            errno => {
                // It has ended, or is about to: reaped here. ECHILD would mean that there is nothing to reap.
                let _ = process.wait();
                Err(Errno::from_raw_os_error(errno))
            }
        }
    }

    fn fill_slots(&mut self, command: &Command) -> Result<(), Errno> {
        for (slot, stdio) in self.slots.iter_mut().zip(stdios(command)) {
            if let Stdio::Fd(fd) = stdio {
                rustix::io::dup3(fd, slot, DupFlags::CLOEXEC)?;
            }
        }
        Ok(())
    }

    /// A pipe's end that stayed here would keep its reader waiting.
    fn empty_slots(&mut self, command: &Command) {
        for (slot, stdio) in self.slots.iter_mut().zip(stdios(command)) {
            if let Stdio::Fd(_) = stdio {
                // Of two open descriptors and a flag that is known, none of dup3's errors can be, but EINTR, which is not its.
                let _ = rustix::io::dup3(&self.null, slot, DupFlags::CLOEXEC);
            }
        }
    }
}

fn stdios(command: &Command) -> [&Stdio; 3] {
    [&command.stdin, &command.stdout, &command.stderr]
}

fn is_given(stdio: &Stdio) -> bool {
    !matches!(stdio, Stdio::Inherit)
}

/// As [`Launcher::spawn`] of one that is made for it.
#[cfg(test)]
pub(crate) fn spawn(command: &Command) -> Result<Process, SpawnError> {
    Launcher::new().unwrap().spawn(command)
}

/// The lowest descriptor that a child does not get.
const FIRST_OTHER_FD: RawFd = 3;

/// Room for what a wait on the ring finds out.
pub(crate) struct ChildInfo(libc::siginfo_t);

impl ChildInfo {
    pub(crate) fn room(&mut self) -> *mut libc::siginfo_t {
        &mut self.0
    }

    pub(crate) fn siginfo(&self) -> &libc::siginfo_t {
        &self.0
    }
}

impl Default for ChildInfo {
    fn default() -> ChildInfo {
        // SAFETY: `siginfo_t` is plain integers and padding: all zeroes is a value.
        ChildInfo(unsafe { std::mem::zeroed() })
    }
}

#[cfg(test)]
mod tests;
