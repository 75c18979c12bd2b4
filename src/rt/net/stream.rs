//! Connected sockets: their life, what they receive, and whose they are.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll};

use super::{must_wait, socket, starved, take_buffer};
use crate::rt::op::{Multi, Next, Op, Outcome, Unclaimed, filled};
use crate::rt::stats::add;
use crate::rt::sys::buf_ring::{RecvBuf, Ticket};
use crate::rt::sys::io_buf::{IoBuf, IoBufMut};
use crate::rt::sys::sqe::{Fd, Sqe};
use crate::rt::{try_with_core, with_core};

/// A connected stream socket, TCP or Unix, on the ring's descriptor table.
///
/// Dropped: a receive that waits is cancelled, then the socket is closed, in this order, in the next turn.
pub struct TcpStream {
    pub(super) fd: Fd,
    /// The armed multishot receive, and results that wait in it.
    pub(super) recv: RefCell<Option<Multi>>,
    /// The limit that it was armed with: another socket may have found out meanwhile that the kernel knows of none.
    recv_total: Cell<u32>,
    starved: Ticket,
    ended: Cell<bool>,
    /// Something was received before.
    greeted: Cell<bool>,
}

/// A connected Unix stream socket.
pub type UnixStream = TcpStream;

impl TcpStream {
    pub(super) fn new(fd: Fd) -> TcpStream {
        TcpStream {
            fd,
            recv: RefCell::new(None),
            recv_total: Cell::new(0),
            starved: Ticket::default(),
            ended: Cell::new(false),
            greeted: Cell::new(false),
        }
    }

    /// The next bytes, in place in the core's buffer pool; `None` at the end of input, once and for ever.
    ///
    /// Nothing is held while it waits. Cancel-safe: bytes that arrive while nobody waits are kept, a few buffers at
    /// most; then the kernel's socket buffer holds them, and the peer is slowed down.
    ///
    /// # Errors
    /// ECONNRESET and its kin: recv(2).
    pub async fn recv(&self) -> io::Result<Option<RecvBuf>> {
        poll_fn(|context| self.poll_recv(context)).await
    }

    /// As [`recv`](Self::recv).
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn poll_recv(&self, context: &mut Context<'_>) -> Poll<io::Result<Option<RecvBuf>>> {
        if self.ended.get() {
            return Poll::Ready(Ok(None));
        }
        if self.starved.in_line() && must_wait(&self.starved, context) {
            return Poll::Pending;
        }
        let mut recv = self.recv.borrow_mut();
        loop {
            let multi = recv.get_or_insert_with(|| Multi::start(Unclaimed::Forget, self.recv_entry()));
            let outcome = match multi.poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Next::Ended) => {
                    *recv = None;
                    continue;
                }
                Poll::Ready(Next::Result(outcome)) => outcome,
            };
            match -outcome.result {
                libc::ENOBUFS => {
                    *recv = None;
                    if starved(&self.starved, context) {
                        return Poll::Pending;
                    }
                }
                // A kernel before 6.17. There, up to 32 buffers a pass (its MULTISHOT_MAX_RETRY) may come before a pause.
                libc::EINVAL if self.recv_total.get() > 0 => {
                    *recv = None;
                    with_core(|core| core.recv_total.set(0));
                }
                // Paused, or more buffers waited here than one connection may hold: armed again now.
                libc::ECANCELED => *recv = None,
                _ => {
                    if multi.is_spent() {
                        *recv = None;
                    }
                    let taken = received(outcome);
                    self.ended.set(matches!(taken, Ok(None)));
                    return Poll::Ready(taken);
                }
            }
        }
    }

    /// Arms a receive where none is, without waiting for it.
    pub(super) fn arm_recv(&self) {
        let mut recv = self.recv.borrow_mut();
        if recv.is_none() && !self.ended.get() && !self.starved.in_line() {
            *recv = Some(Multi::start(Unclaimed::Forget, self.recv_entry()));
        }
    }

    /// The first receive is for one result: a connection that is closed after its first request then has nothing armed
    /// that must be cancelled. With the last send (`write_last`) it took close-64 of scripts/measure.py from 1.22 of the
    /// floor to 1.13.
    fn recv_entry(&self) -> Sqe {
        if !self.greeted.replace(true) {
            return Sqe::recv_once(self.fd);
        }
        let total = with_core(|core| core.recv_total.get());
        self.recv_total.set(total);
        Sqe::recv_multi(self.fd, total)
    }

    /// Whether [`recv`](Self::recv) has seen the end of input.
    pub fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// Lets the kernel's socket buffer fill instead of ours. The next [`recv`](Self::recv) goes on.
    pub fn pause_recv(&self) {
        if let Some(multi) = self.recv.borrow().as_ref() {
            multi.cancel();
        }
    }

    /// As [`pause_recv`](Self::pause_recv), and hands over what has been received and not yet taken, so that it need not
    /// stay in the pool while the caller is busy. A few buffers may still come; they are there at the next call.
    pub fn unload(&self, mut take: impl FnMut(RecvBuf)) {
        self.pause_recv();
        let mut recv = self.recv.borrow_mut();
        while let Some(outcome) = recv.as_mut().and_then(Multi::take_bytes) {
            if let Ok(Some(bytes)) = received(outcome) {
                take(bytes);
            }
        }
    }

    /// Reads into a buffer of the caller's: up to its capacity, replacing its contents; 0 is the end of input.
    /// Not to be mixed with [`recv`](Self::recv), which may hold bytes that came before.
    ///
    /// Dropped while waiting: bytes that had arrived are lost.
    ///
    /// # Errors
    /// recv(2).
    pub async fn read<B: IoBufMut>(&self, buffer: B) -> (io::Result<usize>, B) {
        let entry = |buffer: &mut B| Sqe::recv(self.fd, buffer.room_ptr(), buffer.room_len());
        let (outcome, buffer) = Op::start(buffer, Unclaimed::Forget, entry).await;
        filled(outcome, buffer)
    }

    /// The peer's address. Asked of the kernel each time, without a syscall of its own.
    ///
    /// # Errors
    /// `Unsupported` for a Unix socket; ENOTCONN.
    pub async fn peer_addr(&self) -> io::Result<SocketAddr> {
        // The kernel refuses room that the address does not fill (EINVAL): first as for IPv4, whose length is enough to
        // see whether it is IPv6.
        let room = match self.peer_name(size_of::<libc::sockaddr_in>()).await {
            // Shorter even than that: the name of a Unix socket without a path.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Err(io::ErrorKind::Unsupported.into()),
            named => named?,
        };
        let family = room.first_chunk().map_or(0, |bytes| u16::from_ne_bytes(*bytes));
        let room = match i32::from(family) {
            libc::AF_INET6 => self.peer_name(size_of::<libc::sockaddr_in6>()).await?,
            _ => room,
        };
        socket::from_sockaddr_bytes(&room).ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    async fn peer_name(&self, len: usize) -> io::Result<Vec<u8>> {
        const SO_PEERNAME: i32 = 28;
        let room = Vec::with_capacity(len);
        let entry =
            |room: &mut Vec<u8>| Sqe::getsockopt(self.fd, libc::SOL_SOCKET, SO_PEERNAME, room.as_mut_ptr(), len);
        let (outcome, room) = Op::start(room, Unclaimed::Forget, entry).await;
        let (count, room) = filled(outcome, room);
        count.map(|_| room)
    }

    /// Our own address on this connection: which of several was connected to.
    ///
    /// # Errors
    /// `Unsupported` for a Unix socket; EMFILE.
    pub async fn local_addr(&self) -> io::Result<SocketAddr> {
        // There is no GETSOCKNAME on a direct descriptor (6.18).
        socket::local_addr(self.install().await?.as_fd())
    }

    /// A process-wide, non-blocking descriptor of the same socket, for calls that have no place on the ring
    /// (`sendfile(2)`, `shutdown(2)`).
    ///
    /// # Errors
    /// EMFILE.
    pub async fn install(&self) -> io::Result<OwnedFd> {
        let Fd::Direct(slot) = self.fd else { return Err(io::ErrorKind::Unsupported.into()) };
        let (outcome, ()) = Op::start((), Unclaimed::CloseRaw, |()| Sqe::install(slot)).await;
        Ok(crate::rt::sys::file::adopt(outcome.count()? as i32))
    }

    /// Ends our side of the stream (`Shutdown::Write`); the peer reads an end of input, and may still send.
    ///
    /// # Errors
    /// ENOTCONN; `Unsupported` for anything but `Shutdown::Write`.
    pub async fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if how != Shutdown::Write {
            return Err(io::ErrorKind::Unsupported.into());
        }
        socket::shutdown_write(&self.install().await?)
    }

    /// Two views, one for each direction, so that one task's two futures can use them at once.
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        (ReadHalf(self), WriteHalf(self))
    }
}

/// As [`take_buffer`], of a receive.
fn received(outcome: Outcome) -> io::Result<Option<RecvBuf>> {
    let taken = take_buffer(outcome);
    if let Ok(Some(bytes)) = &taken {
        with_core(|core| add(&core.stats.received_bytes, bytes.len() as u64));
    }
    taken
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        // First the cancel, then the close: a close alone leaves the receive armed on a socket without a name.
        drop(self.recv.take());
        if let Fd::Direct(_) = self.fd {
            try_with_core(|core| core.close(self.fd));
        }
    }
}

/// The reading direction of a [`TcpStream`].
pub struct ReadHalf<'s>(&'s TcpStream);

/// The writing direction of a [`TcpStream`].
pub struct WriteHalf<'s>(&'s TcpStream);

impl ReadHalf<'_> {
    /// As [`TcpStream::recv`].
    ///
    /// # Errors
    /// As [`TcpStream::recv`].
    pub async fn recv(&mut self) -> io::Result<Option<RecvBuf>> {
        self.0.recv().await
    }
}

impl WriteHalf<'_> {
    /// As [`TcpStream::write_all`].
    ///
    /// # Errors
    /// As [`TcpStream::write_all`].
    pub async fn write_all<B: IoBuf>(&mut self, buffer: B) -> (io::Result<()>, B) {
        self.0.write_all(buffer).await
    }

    /// As [`TcpStream::shutdown`].
    ///
    /// # Errors
    /// As [`TcpStream::shutdown`].
    pub async fn shutdown(&mut self, how: Shutdown) -> io::Result<()> {
        self.0.shutdown(how).await
    }
}
