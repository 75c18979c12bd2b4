//! Signals as something to wait for (`signalfd(2)`), on the ring or on a plain thread.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use super::op::{Op, Unclaimed, filled};
use super::sys::signal::{Blocked, SignalSet, block, signalfd};
use super::sys::sqe::{Fd, Sqe};

pub use super::sys::signal::Signal;

/// The size of `struct signalfd_siginfo`; the signal's number is its first four bytes.
const INFO_BYTES: usize = 128;

/// A set of signals that are waited for instead of delivered.
pub struct Signals {
    fd: OwnedFd,
    _blocked: Blocked,
}

impl Signals {
    /// Blocks the signals in this thread, and in every thread that it starts from now on, until this is dropped.
    /// To be made before other threads are: one that does not block a signal takes it.
    ///
    /// # Errors
    /// EMFILE.
    pub fn new(signals: &[Signal]) -> io::Result<Signals> {
        let set = SignalSet::of(signals);
        let blocked = block(&set);
        Ok(Signals { fd: signalfd(&set)?, _blocked: blocked })
    }

    /// The next signal, awaited on the ring. Cancel-safe but for one that had just been read.
    ///
    /// # Errors
    /// read(2); hardly ever.
    pub async fn recv(&self) -> io::Result<Signal> {
        loop {
            // The descriptor is non-blocking: wait for it first.
            let fd = Fd::Raw(self.fd.as_raw_fd());
            Op::start((), Unclaimed::Forget, |()| Sqe::poll(fd, libc::POLLIN as u32)).await.0.count()?;
            let entry = |room: &mut Vec<u8>| Sqe::read(fd, room.as_mut_ptr(), INFO_BYTES, None);
            let (outcome, room) = Op::start(Vec::with_capacity(INFO_BYTES), Unclaimed::Forget, entry).await;
            match filled(outcome, room) {
                (Err(error), _) if error.kind() == io::ErrorKind::WouldBlock => {}
                (count, room) => return count.and_then(|_| number(&room)),
            }
        }
    }

    /// The next signal, for a thread without a runtime: blocks it, for `patience` at most.
    ///
    /// # Errors
    /// poll(2), read(2); hardly ever.
    pub fn wait_timeout(&self, patience: Duration) -> io::Result<Option<Signal>> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let patience = Timespec::try_from(patience).ok();
        match poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], patience.as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut info = [0; INFO_BYTES];
        match rustix::io::read(&self.fd, &mut info) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
            Ok(count) => number(&info[..count]).map(Some),
        }
    }
}

fn number(info: &[u8]) -> io::Result<Signal> {
    let number = info.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes));
    number.and_then(Signal::from_named_raw).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
