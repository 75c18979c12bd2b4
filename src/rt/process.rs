//! Child processes: started by the core's spawner thread, talked to and waited for on the ring.
//!
//! ```no_run
//! # async fn demo() -> Result<(), Box<dyn std::error::Error>> {
//! use ucaffeine::rt::{cpu, process::{self, Command, Spawner}};
//! let spawner = Spawner::start("spawner", &[])?;
//! let (stdout, end) = process::stdout_pipe()?;
//! let mut command = Command::new("/bin/date");
//! command.stdout(process::Stdio::Fd(end));
//! let child = spawner.spawn(command).await?;
//! while let Some(bytes) = stdout.read().await? {
//!     print!("{}", String::from_utf8_lossy(&bytes));
//! }
//! println!("{}", process::wait(child).await?.status);
//! # Ok(()) }
//! ```

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::ExitStatus;
use std::task::Poll;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::pipe::SpliceFlags;

pub use super::spawner::{Child, Command, Exited, NICE_INCREMENT, Priority, SpawnFuture, Spawner, Stdio, orphans};
pub use super::sys::signal::Signal;
pub use super::sys::spawn::{Cause, SpawnError};

use super::net::{must_wait, starved, take_buffer};
use super::op::{Op, Unclaimed};
use super::sys::buf_ring::{RecvBuf, Ticket};
use super::sys::io_buf::IoBuf;
use super::sys::pipe::pipe;
use super::sys::spawn::exit_status;
use super::sys::sqe::{Fd, Sqe};

/// Our end of a child's stdout or stderr.
#[derive(Debug)]
pub struct PipeReader {
    fd: OwnedFd,
}

/// Our end of a child's stdin.
#[derive(Debug)]
pub struct PipeWriter {
    fd: OwnedFd,
}

/// A pipe to read a child's output from, and the end for the child ([`Stdio::Fd`]).
///
/// # Errors
/// EMFILE, ENFILE: pipe(2).
pub fn stdout_pipe() -> io::Result<(PipeReader, OwnedFd)> {
    let (read, write) = pipe()?;
    Ok((PipeReader { fd: read }, write))
}

/// A pipe to write a child's input to, and the end for the child ([`Stdio::Fd`]).
///
/// # Errors
/// EMFILE, ENFILE: pipe(2).
pub fn stdin_pipe() -> io::Result<(PipeWriter, OwnedFd)> {
    let (read, write) = pipe()?;
    Ok((PipeWriter { fd: write }, read))
}

impl PipeReader {
    /// The next bytes, in place in the core's buffer pool; `None` when every writer has closed its end.
    ///
    /// One read at a time, which takes a buffer only when there is data: a reader that does not call this slows the
    /// writer down, and nothing piles up. Dropped while waiting: bytes that had just arrived are lost.
    ///
    /// # Errors
    /// read(2); hardly ever.
    pub async fn read(&self) -> io::Result<Option<RecvBuf>> {
        loop {
            let fd = Fd::Raw(self.fd.as_raw_fd());
            let (outcome, ()) = Op::start((), Unclaimed::Forget, |()| Sqe::read_select(fd)).await;
            match -outcome.result {
                libc::EINTR | libc::EAGAIN => {}
                libc::ENOBUFS => {
                    let ticket = Ticket::default();
                    poll_fn(|context| {
                        let wait =
                            if ticket.in_line() { must_wait(&ticket, context) } else { starved(&ticket, context) };
                        if wait { Poll::Pending } else { Poll::Ready(()) }
                    })
                    .await;
                }
                _ => return take_buffer(outcome),
            }
        }
    }
}

impl PipeReader {
    /// Waits until every writer has closed its end, whether or not there are bytes to read. Takes no buffer, and is not woken
    /// by data. The writers may wait for a reader meanwhile: not to be waited for without a bound.
    ///
    /// # Errors
    /// poll(2); hardly ever.
    pub async fn closed(&self) -> io::Result<()> {
        // Without an event: POLLHUP and POLLERR are always reported.
        let fd = Fd::Raw(self.fd.as_raw_fd());
        Op::start((), Unclaimed::Forget, |()| Sqe::poll(fd, 0)).await.0.count().map(drop)
    }

    /// Waits until there are bytes to read, or every writer has closed its end. Takes no buffer.
    ///
    /// # Errors
    /// poll(2); hardly ever.
    pub async fn readable(&self) -> io::Result<()> {
        let fd = Fd::Raw(self.fd.as_raw_fd());
        Op::start((), Unclaimed::Forget, |()| Sqe::poll(fd, libc::POLLIN as u32)).await.0.count().map(drop)
    }

    /// How many bytes are there to read (FIONREAD).
    ///
    /// # Errors
    /// None that is known for a pipe.
    pub fn available(&self) -> io::Result<u64> {
        Ok(rustix::io::ioctl_fionread(&self.fd)?)
    }

    /// Moves bytes to a non-blocking socket without copying them, and without waiting: splice(2), plainly, because on the ring it
    /// always goes to a worker thread. `more`: others follow at once.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing to read, or no room in the socket; EPIPE, ECONNRESET.
    pub fn splice_to(&self, socket: &OwnedFd, count: usize, more: bool) -> io::Result<usize> {
        let more = if more { SpliceFlags::MORE } else { SpliceFlags::empty() };
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE | more;
        Ok(rustix::pipe::splice(&self.fd, None, socket, None, count, flags)?)
    }

    /// Makes room for so many bytes between writer and reader (F_SETPIPE_SZ).
    ///
    /// # Errors
    /// EPERM beyond `fs.pipe-max-size`, or when this user's pipes hold too much already: then it stays as it is.
    pub fn widen(&self, bytes: usize) -> io::Result<()> {
        Ok(rustix::pipe::fcntl_setpipe_size(&self.fd, bytes).map(drop)?)
    }

    /// Appends what is there, without waiting for more: `None` if that is nothing, and the pipe still held by a writer. 0: it has
    /// ended. A whole pipe of the usual size (64 KiB) is read at once, and a short one costs one system call.
    ///
    /// # Errors
    /// None that is known for a pipe.
    pub fn take_now(&self, into: &mut Vec<u8>) -> io::Result<Option<usize>> {
        let before = into.len();
        loop {
            into.reserve(PIECE_BYTES);
            let room = into.spare_capacity_mut().len();
            match super::sys::pipe::read_now(&self.fd, into) {
                Ok(count) if count < room => return Ok(Some(into.len() - before)),
                Ok(_) => {}
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if into.len() > before => return Ok(Some(into.len() - before)),
                Err(Errno::AGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether every writer has closed its end: then what is in the pipe is the rest, and reading it waits for nobody.
    pub fn is_closed(&self) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&Timespec::default())).is_ok() && fds[0].revents().contains(PollFlags::HUP)
    }
}

/// What [`PipeReader::take_now`] makes room for at a time.
const PIECE_BYTES: usize = 4 << 10;

/// What is left of a child.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// Somebody may still write to its stdout.
    pub stdout: bool,
    /// Somebody may still write to its stderr, or something waits there to be read.
    pub stderr: bool,
    /// It runs.
    pub process: bool,
}

/// Looks at a child without waiting: one system call for all three.
pub fn remains(stdout: &PipeReader, stderr: &PipeReader, child: &Child) -> Remains {
    let fds = [stdout.fd.as_fd(), stderr.fd.as_fd(), child.pidfd()];
    let mut fds = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    // An error (a signal) leaves nothing reported, which is the careful answer.
    let _ = rustix::event::poll(&mut fds, Some(&Timespec::default()));
    let [stdout, stderr, process] = fds.map(|fd| fd.revents());
    Remains {
        stdout: !stdout.contains(PollFlags::HUP),
        stderr: stderr != PollFlags::HUP,
        process: !process.contains(PollFlags::IN),
    }
}

impl PipeWriter {
    /// Writes some of the bytes from `start` on; the result may be short.
    ///
    /// Dropped while waiting: it is not known how much was written.
    ///
    /// # Errors
    /// EPIPE when the child has closed its stdin: write(2).
    ///
    /// # Panics
    /// If `start` is beyond the end.
    pub async fn write_from<B: IoBuf>(&self, buffer: B, start: usize) -> (io::Result<usize>, B) {
        let len = buffer.bytes_len().checked_sub(start).expect("the start of a write is beyond its end");
        let fd = Fd::Raw(self.fd.as_raw_fd());
        let entry = |buffer: &mut B| Sqe::write(fd, buffer.bytes_ptr().wrapping_add(start), len, None);
        let (outcome, buffer) = Op::start(buffer, Unclaimed::Forget, entry).await;
        (outcome.count(), buffer)
    }

    /// Writes all of the bytes.
    ///
    /// Dropped while waiting: it is not known how much was written.
    ///
    /// # Errors
    /// As [`write_from`](Self::write_from).
    pub async fn write_all<B: IoBuf>(&self, mut buffer: B) -> (io::Result<()>, B) {
        let mut written = 0;
        while written < buffer.bytes_len() {
            let (count, back) = self.write_from(buffer, written).await;
            buffer = back;
            match count {
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (Err(error), buffer),
            }
        }
        (Ok(()), buffer)
    }
}

/// Waits until the child has ended, and reaps it.
///
/// Dropped while waiting: the child is killed with its group, as a dropped [`Child`] is.
///
/// # Errors
/// ECHILD, if somebody else has reaped it.
pub async fn wait(child: Child) -> io::Result<Exited> {
    let status = exited(&child).await?;
    Ok(child.reaped(status))
}

/// Waits until the child has ended, and does not reap it: [`Child::try_wait`] does then. Dropped while waiting: nothing is lost.
///
/// # Errors
/// poll(2); hardly ever.
pub async fn ended(child: &Child) -> io::Result<()> {
    let fd = Fd::Raw(child.pidfd().as_raw_fd());
    Op::start((), Unclaimed::Forget, |()| Sqe::poll(fd, libc::POLLIN as u32)).await.0.count().map(drop)
}

/// Waits until the child has ended, and reaps it: pass the status to [`Child::reaped`] next.
///
/// Dropped while waiting: the child is not waited for any more, and still the caller's.
///
/// # Errors
/// ECHILD, if somebody else has reaped it.
pub async fn exited(child: &Child) -> io::Result<ExitStatus> {
    let pidfd = child.pidfd().as_raw_fd();
    let entry =
        |info: &mut Box<super::sys::spawn::ChildInfo>| Sqe::waitid(libc::P_PIDFD, pidfd, info.room(), libc::WEXITED);
    let (outcome, info) = Op::start(Box::default(), Unclaimed::Forget, entry).await;
    outcome.count()?;
    exit_status(info.siginfo()).ok_or_else(|| io::Error::from_raw_os_error(libc::ECHILD))
}
