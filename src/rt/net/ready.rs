//! Waiting for a change of a socket, without taking anything from it.

use std::future::poll_fn;
use std::io;

use super::TcpStream;
use crate::rt::op::{Multi, Next, Op, Unclaimed};
use crate::rt::sys::sqe::Sqe;

impl TcpStream {
    /// Waits until the socket may be written to without waiting (or is broken).
    ///
    /// # Errors
    /// poll(2).
    pub async fn writable(&self) -> io::Result<()> {
        self.poll_events(libc::POLLOUT as u32).await.map(drop)
    }

    /// Waits until the peer has ended its side or is gone: without reading, so that what it has sent stays where it is.
    ///
    /// # Errors
    /// poll(2).
    pub async fn hangup(&self) -> io::Result<Hangup> {
        let events = self.poll_events(libc::POLLRDHUP as u32).await? as i32;
        let gone = i32::from(libc::POLLERR | libc::POLLHUP);
        Ok(if events & gone == 0 { Hangup::Finished } else { Hangup::Gone })
    }

    /// Waits until the peer is gone for good: a reset or a broken connection, not a mere end of its input.
    ///
    /// # Errors
    /// poll(2).
    pub async fn broken(&self) -> io::Result<()> {
        // POLLERR and POLLHUP are always reported; so is POLLRDHUP (IO_POLL_UNMASK, io_uring/poll.c), which is the end of
        // the peer's input and no more. A multishot poll reports changes, so that one is seen once, and then the rest.
        let arm = || Multi::start(Unclaimed::Forget, Sqe::poll_multi(self.fd, 0));
        let mut poll = arm();
        loop {
            match poll_fn(|context| poll.poll_next(context)).await {
                Next::Result(outcome) if outcome.count()? & (libc::POLLERR | libc::POLLHUP) as usize == 0 => {}
                Next::Result(_) => return Ok(()),
                Next::Ended => poll = arm(),
            }
        }
    }

    async fn poll_events(&self, events: u32) -> io::Result<usize> {
        Op::start((), Unclaimed::Forget, |()| Sqe::poll(self.fd, events)).await.0.count()
    }
}

/// What [`TcpStream::hangup`] has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hangup {
    /// The peer will send no more, and may still read: a half-close is legal.
    Finished,
    /// The connection is reset, or closed in both directions.
    Gone,
}
