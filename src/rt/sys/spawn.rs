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

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::{DupFlags, Errno, FdFlags};
use rustix::process::Pid;

use super::signal::{self, Signal, SignalSet};
use child::{Child, Stack};
pub use command::{Command, Priority, Stdio};
pub use error::{Blame, Cause, SpawnError};
pub(crate) use process::kill_group_of;
pub use process::{Process, exit_status};

/// What starting programs needs and need not make anew each time.
pub struct Launcher {
    stack: Stack,
    /// `/dev/null`.
    null: OwnedFd,
    /// Where a child finds what become its descriptors 0, 1 and 2, and a helper's report. Between two starts, `/dev/null`. All are
    /// above those four numbers: one copy cannot overwrite the source of the next.
    slots: [OwnedFd; 4],
    /// The signals that this process ignored or handled when this was made.
    altered: Vec<i32>,
    /// Nothing can come to the calling thread but SIGCHLD.
    is_shielded: bool,
}

impl Launcher {
    /// The sooner after the start of the process the better: a child copies the descriptors below the four that this takes.
    ///
    /// # Errors
    /// No `/dev/null`; EMFILE.
    pub fn new() -> std::io::Result<Launcher> {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let slot = || rustix::io::fcntl_dupfd_cloexec(&null, REPORT_FD + 1);
        let slots = [slot()?, slot()?, slot()?, slot()?];
        Ok(Launcher { stack: Stack::new(), null, slots, altered: signal::altered(), is_shielded: false })
    }

    /// From now on every thread that starts something has blocked its signals for good, all but SIGCHLD: no need to do it each time.
    pub fn shielded(self) -> Launcher {
        Launcher { is_shielded: true, ..self }
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
        let [stdin, stdout, stderr] = stdios(command).map(|stdio| !matches!(stdio, Stdio::Inherit));
        let is_replaced = [stdin, stdout, stderr, command.report.is_some()];
        let sources = std::array::from_fn(|target| is_replaced[target].then(|| self.slots[target].as_raw_fd()));
        let child = Child::new(command, sources, self.last_slot(), &self.altered, &arguments, &environment);
        let mut pidfd: RawFd = -1;
        // A signal that came to the child before it has executed its program would run a handler of ours, in our memory.
        // Not SIGCHLD: see `spawner`.
        let blocked = (!self.is_shielded).then(|| signal::block(&SignalSet::every_but(&[Signal::CHILD])));
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
        for (slot, given) in self.slots.iter_mut().zip(given(command)) {
            if let Some(fd) = given {
                rustix::io::dup3(fd, slot, DupFlags::CLOEXEC)?;
            }
        }
        Ok(())
    }

    /// A pipe's end that stayed here would keep its reader waiting.
    fn empty_slots(&mut self, command: &Command) {
        for (slot, given) in self.slots.iter_mut().zip(given(command)) {
            if given.is_some() {
                // Of two open descriptors and a flag that is known: none of dup3's errors can be.
                let _ = rustix::io::dup3(&self.null, slot, DupFlags::CLOEXEC);
            }
        }
    }

    fn last_slot(&self) -> RawFd {
        self.slots.iter().map(AsRawFd::as_raw_fd).max().unwrap_or(REPORT_FD)
    }
}

fn stdios(command: &Command) -> [&Stdio; 3] {
    [&command.stdin, &command.stdout, &command.stderr]
}

/// The descriptors that the command brings: for 0, 1 and 2, and for a helper's report.
fn given(command: &Command) -> [Option<&OwnedFd>; 4] {
    let [stdin, stdout, stderr] = stdios(command).map(|stdio| if let Stdio::Fd(fd) = stdio { Some(fd) } else { None });
    [stdin, stdout, stderr, command.report.as_ref()]
}

/// Becomes the program, with the descriptors, the directory and the attributes of this process. Returns only if it cannot.
pub fn replace(command: &Command) -> SpawnError {
    let (arguments, environment) = (command.arguments.pointers(), command.environment.pointers());
    // SAFETY: both arrays end with a null and point to NUL-terminated strings in `command`, which is borrowed for the call.
    unsafe { libc::execve(command.program.as_ptr(), arguments.as_ptr().cast(), environment.as_ptr().cast()) };
    let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL);
    SpawnError::diagnose(command, errno)
}

/// A helper's way to say what went wrong: the descriptor that [`Command::through`] has put there, closed when the program
/// is executed. `None`: this process is no helper.
pub fn take_report() -> Option<OwnedFd> {
    // SAFETY: the number is only looked at, by fcntl, which refuses one that is not open (EBADF).
    let report = unsafe { BorrowedFd::borrow_raw(REPORT_FD) };
    let is_pipe = rustix::fs::fstat(report).is_ok_and(|facts| FileType::from_raw_mode(facts.st_mode) == FileType::Fifo);
    if !is_pipe || rustix::io::fcntl_setfd(report, FdFlags::CLOEXEC).is_err() {
        return None;
    }
    // SAFETY: it is open (fstat), and the verb calls this once, before anything else has been opened: nobody else has it.
    Some(unsafe { OwnedFd::from_raw_fd(REPORT_FD) })
}

/// As [`Launcher::spawn`] of one that is made for it.
#[cfg(test)]
pub(crate) fn spawn(command: &Command) -> Result<Process, SpawnError> {
    Launcher::new().unwrap().spawn(command)
}

/// Where a helper finds its report.
const REPORT_FD: RawFd = 3;

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
