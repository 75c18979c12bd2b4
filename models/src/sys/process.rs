//! Processes made by `fork(2)`, for the models that are made of them.

use std::io;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// On which side of a fork the caller is.
pub(crate) enum Forked {
    Child,
    Parent(Worker),
}

/// A forked child that nobody has waited for yet.
pub(crate) struct Worker {
    pid: Pid,
}

/// `fork(2)`. The child dies with its parent, and gets no stop signals: those are the parent's business.
///
/// # Errors
/// EAGAIN (RLIMIT_NPROC, pids.max), ENOMEM.
///
/// # Panics
/// If this process has other threads: a child would have their locks and not them.
pub(crate) fn fork() -> io::Result<Forked> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    assert_eq!(threads, 1, "a process that forks has one thread");
    let parent = rustix::process::getpid();
    // SAFETY: this process has one thread, asserted above, so the child has no lock that nobody will release.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // It may have died before that was said.
            if rustix::process::getppid() != Some(parent) {
                return Err(io::Error::other("the parent has ended"));
            }
            Ok(Forked::Child)
        }
        pid => Ok(Forked::Parent(Worker { pid: Pid::from_raw(pid).ok_or_else(io::Error::last_os_error)? })),
    }
}

/// What a worker has started is reaped by the kernel when it ends: nobody waits for it. As an action and not as an ignored
/// signal, because that would be inherited by the programs.
///
/// # Errors
/// Never, for a valid signal.
pub(crate) fn reap_children_automatically() -> io::Result<()> {
    // SAFETY: an all-zero sigaction is SIG_DFL with an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_flags = libc::SA_NOCLDWAIT;
    // SAFETY: a valid signal and an initialised action; the old one is not asked for.
    match unsafe { libc::sigaction(libc::SIGCHLD, &action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

impl Worker {
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits for its end, and says how that was.
    pub(crate) fn wait(self) -> String {
        match waitpid(Some(self.pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => ended(status.as_raw()),
            Ok(None) => String::from("still running"),
            Err(errno) => errno.to_string(),
        }
    }

    /// Whether it has ended; then it was waited for.
    pub(crate) fn has_ended(&self) -> Option<String> {
        match waitpid(Some(self.pid), WaitOptions::NOHANG) {
            Ok(None) => None,
            Ok(Some((_, status))) => Some(ended(status.as_raw())),
            Err(errno) => Some(errno.to_string()),
        }
    }

    /// Asks it to end.
    pub(crate) fn signal(&self, signal: Signal) {
        // It may have ended on its own.
        let _ = kill_process(self.pid, signal);
    }

    /// Waits until then, and kills it after.
    pub(crate) fn end(self, until: Instant) {
        while self.has_ended().is_none() {
            if Instant::now() >= until {
                self.signal(Signal::KILL);
                self.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn ended(status: i32) -> String {
    use std::os::unix::process::ExitStatusExt;
    ExitStatus::from_raw(status).to_string()
}
