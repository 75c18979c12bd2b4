//! Listening sockets.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::task::{Context, Poll};

use super::{Share, TcpStream, socket};
use crate::rt::direct::Room;
use crate::rt::op::{Multi, Next, Unclaimed};
use crate::rt::sys::sqe::{Fd, Sqe};
use crate::rt::with_core;

/// A listening socket of one core. With [`TcpListener::bind_shared`] every core has its own on the same port
/// (SO_REUSEPORT) and the kernel spreads connections over them.
///
/// Accepts by one multishot operation while the descriptor table has room, by one operation per free slot near its end,
/// and not at all when it is full: the backlog is then the queue.
pub struct TcpListener {
    /// Declared before `listener`: its end looks at the descriptor's number, which must not be another's by then.
    multi: RefCell<Option<Multi>>,
    listener: OwnedFd,
}

/// A listening Unix stream socket; accepts like a [`TcpListener`].
pub type UnixListener = TcpListener;

impl TcpListener {
    /// Listens on an address that nobody else may share.
    ///
    /// # Errors
    /// EADDRINUSE, EADDRNOTAVAIL, EACCES (a port below 1024): bind(2), listen(2).
    pub fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
        let backlog = with_core(|core| core.direct.backlog_max()) as i32;
        Ok(TcpListener::from_fd(socket::listen_tcp(addr, backlog, Share::First)?))
    }

    /// Listens beside the first core's listener on the same port.
    ///
    /// # Errors
    /// As for [`TcpListener::bind`].
    pub fn bind_shared(addr: SocketAddr) -> io::Result<TcpListener> {
        let backlog = with_core(|core| core.direct.backlog_max()) as i32;
        Ok(TcpListener::from_fd(socket::listen_tcp(addr, backlog, Share::Another)?))
    }

    /// Listens on a path; replaces a socket file that nobody listens on.
    ///
    /// # Errors
    /// EADDRINUSE (somebody does), ENOENT, EACCES.
    pub fn bind_unix(path: &Path) -> io::Result<TcpListener> {
        let backlog = with_core(|core| core.direct.backlog_max()) as i32;
        Ok(TcpListener::from_fd(socket::listen_unix(path, backlog)?))
    }

    /// Uses a socket that listens already (another core's, duplicated; or one that was handed to the process).
    pub fn from_fd(listener: OwnedFd) -> TcpListener {
        TcpListener { listener, multi: RefCell::new(None) }
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// `Unsupported` for a Unix socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        socket::local_addr(self.listener.as_fd())
    }

    /// Another descriptor of the same socket.
    ///
    /// # Errors
    /// EMFILE.
    pub fn try_clone_fd(&self) -> io::Result<OwnedFd> {
        self.listener.try_clone()
    }

    /// The next connection. Cancel-safe: a connection that arrives while nobody waits is kept for the next call.
    ///
    /// # Errors
    /// ENOMEM or a broken listener. What is only one client's misfortune (ECONNABORTED) is not reported.
    pub async fn accept(&self) -> io::Result<TcpStream> {
        poll_fn(|context| self.poll_accept(context)).await
    }

    /// As [`accept`](Self::accept).
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        let mut multi = self.multi.borrow_mut();
        loop {
            let Some(armed) = multi.as_mut() else {
                *multi = Some(match with_core(|core| core.direct.room()) {
                    Room::Many => Multi::start(Unclaimed::CloseDirects, Sqe::accept(self.fd(), true)),
                    Room::One => Multi::start(Unclaimed::CloseDirect, Sqe::accept(self.fd(), false)),
                    Room::None => {
                        with_core(|core| core.direct.wait(context.waker()));
                        return Poll::Pending;
                    }
                });
                continue;
            };
            match armed.poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Next::Ended) => *multi = None,
                Poll::Ready(Next::Result(outcome)) if outcome.result >= 0 => {
                    return Poll::Ready(Ok(TcpStream::new(Fd::Direct(outcome.result as u32))));
                }
                Poll::Ready(Next::Result(outcome)) => match -outcome.result {
                    libc::ECANCELED | libc::ECONNABORTED | libc::EINTR | libc::EAGAIN | libc::EPROTO => {}
                    // The system's file table is full, for ours had room. Each further try would cut a client.
                    libc::ENFILE if with_core(|core| core.direct.used()) > 0 => {
                        *multi = None;
                        with_core(|core| core.direct.wait(context.waker()));
                        return Poll::Pending;
                    }
                    errno => return Poll::Ready(Err(io::Error::from_raw_os_error(errno))),
                },
            }
        }
    }

    /// What was under way when accepting was [paused](Self::pause), one connection at a time; then `None`, and the kernel has
    /// given its last word: nothing is accepted any more, and what is in the backlog stays there for whoever else has a
    /// descriptor of this socket. Cancel-safe, as [`accept`](Self::accept).
    pub async fn rest(&self) -> Option<TcpStream> {
        poll_fn(|context| {
            let mut multi = self.multi.borrow_mut();
            while let Some(armed) = multi.as_mut() {
                match armed.poll_next(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Next::Ended) => *multi = None,
                    Poll::Ready(Next::Result(outcome)) if outcome.result >= 0 => {
                        return Poll::Ready(Some(TcpStream::new(Fd::Direct(outcome.result as u32))));
                    }
                    Poll::Ready(Next::Result(_)) => {}
                }
            }
            Poll::Ready(None)
        })
        .await
    }

    /// Stops accepting: the operation is cancelled, and [`accept`](Self::accept) then returns what was under way
    /// and starts anew. For a drain: call this, then accept until nothing comes, then drop; or take the
    /// [`rest`](Self::rest), where somebody else goes on accepting.
    pub fn pause(&self) {
        if let Some(multi) = self.multi.borrow().as_ref() {
            multi.cancel();
        }
    }

    fn fd(&self) -> Fd {
        Fd::Raw(self.listener.as_raw_fd())
    }
}
