//! A started process: its pid, a descriptor for it, and who may still wait for it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus};

/// PIDFD_SIGNAL_PROCESS_GROUP (Linux 6.9, include/uapi/linux/pidfd.h).
const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;

/// A child that nobody has waited for. While that is so its pid cannot be given to another process, dead or alive; so
/// signals by pid are safe.
///
/// Dropping it leaves a zombie behind when the child ends: [`spawner::Child`](crate::rt::spawner::Child) is the owner
/// that does not.
#[derive(Debug)]
#[must_use = "nobody else waits for the child"]
pub struct Process {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Process {
    /// A child that was started a moment ago, and the descriptor that its start returned.
    pub(super) fn new(pid: Pid, pidfd: OwnedFd) -> Process {
        Process { pid, pidfd }
    }

    /// The process's id, and its group's.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Readable when the process has ended; what `waitid(P_PIDFD)` takes, on a ring or off.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Signals the process alone.
    pub fn kill(&self, signal: Signal) -> io::Result<()> {
        Ok(rustix::process::pidfd_send_signal(&self.pidfd, signal)?)
    }

    /// Signals the process group. Members that left it by `setsid` or `setpgid` are not in it.
    pub fn kill_group(&self, signal: Signal) -> io::Result<()> {
        match kill_group_of(self.pidfd(), Some(signal)) {
            // Before 6.9. By number is as good while the pid is ours, which a look without reaping tells (ECHILD if not).
            Err(Errno::INVAL) => {
                let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
                retry(|| rustix::process::waitid(WaitId::PidFd(self.pidfd()), look))?;
                Ok(rustix::process::kill_process_group(self.pid, signal)?)
            }
            answer => Ok(answer?),
        }
    }

    /// Reaps the process if it has ended.
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = retry(|| rustix::process::waitid(WaitId::PidFd(self.pidfd()), options))?;
        Ok(status.as_ref().and_then(from_wait))
    }

    /// Blocks until the process has ended, and reaps it.
    pub fn wait(&self) -> io::Result<ExitStatus> {
        let status = retry(|| rustix::process::waitid(WaitId::PidFd(self.pidfd()), WaitIdOptions::EXITED))?;
        // Without WNOHANG the kernel returns only with a child, and with EXITED only with one that has ended.
        status.as_ref().and_then(from_wait).ok_or_else(|| Errno::CHILD.into())
    }
}

/// Signals the group that this process leads or led. By descriptor it is right even after the leader was reaped: the kernel
/// follows its `struct pid`, which the members share, not the number, which may be another's by now. No signal: only asks
/// whether there is anybody, a zombie included. EINVAL before 6.9.
pub(crate) fn kill_group_of(pidfd: BorrowedFd<'_>, signal: Option<Signal>) -> Result<(), Errno> {
    let none = std::ptr::null::<libc::siginfo_t>();
    let (fd, flags) = (pidfd.as_raw_fd(), PIDFD_SIGNAL_PROCESS_GROUP);
    let signal = signal.map_or(0, Signal::as_raw);
    // SAFETY: the descriptor is borrowed for the call, and a null siginfo asks the kernel to make its own.
    match unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, none, flags) } {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)),
    }
}

/// The status that a `waitid` (IORING_OP_WAITID as well) left in `info`; nothing if it is not that of an ended child.
pub fn exit_status(info: &libc::siginfo_t) -> Option<ExitStatus> {
    // SAFETY: `siginfo_t` is plain integers in all its variants; read as the SIGCHLD one it is at worst a wrong number,
    // which `from_parts` takes for what the code says.
    let status = unsafe { info.si_status() };
    from_parts(info.si_code, status)
}

fn from_wait(status: &WaitIdStatus) -> Option<ExitStatus> {
    from_parts(status.raw_code(), status.exit_status().or(status.terminating_signal())?)
}

/// From waitid's pair to the one number of wait(2): the code in the second byte, or the signal in the lowest seven bits and
/// 0x80 with a core file.
fn from_parts(code: libc::c_int, status: libc::c_int) -> Option<ExitStatus> {
    match code {
        libc::CLD_EXITED => Some(ExitStatus::from_raw((status & 0xff) << 8)),
        libc::CLD_KILLED => Some(ExitStatus::from_raw(status & 0x7f)),
        libc::CLD_DUMPED => Some(ExitStatus::from_raw(status & 0x7f | 0x80)),
        _ => None,
    }
}

/// Waiting may be interrupted by a signal's handler (EINTR), and then has done nothing.
fn retry<T>(mut wait: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match wait() {
            Err(Errno::INTR) => {}
            answer => return answer,
        }
    }
}
