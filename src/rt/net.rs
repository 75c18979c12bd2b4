//! TCP and Unix stream sockets on the ring's own descriptor table.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::direct::Room;
use super::op::{Multi, Next, Op, Outcome, Silence, Unclaimed, filled};
use super::stats::add;
use super::sys::buf_ring::{RecvBuf, Ticket};
use super::sys::io_buf::{IoBuf, IoBufMut};
use super::sys::socket;
pub use super::sys::socket::{Share, listen_tcp, listen_unix};
use super::sys::sqe::{Fd, Sqe};
use super::{Bug, planted, try_with_core, with_core};

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

    /// Stops accepting: the operation is cancelled, and [`accept`](Self::accept) then returns what was under way
    /// and starts anew. For a drain: call this, then accept until nothing comes, then drop.
    pub fn pause(&self) {
        if let Some(multi) = self.multi.borrow().as_ref() {
            multi.cancel();
        }
    }

    fn fd(&self) -> Fd {
        Fd::Raw(self.listener.as_raw_fd())
    }
}

/// A connected stream socket, TCP or Unix, on the ring's descriptor table.
///
/// Dropped: a receive that waits is cancelled, then the socket is closed, in this order, in the next turn.
pub struct TcpStream {
    fd: Fd,
    /// The armed multishot receive, and results that wait in it.
    recv: RefCell<Option<Multi>>,
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
    fn new(fd: Fd) -> TcpStream {
        TcpStream {
            fd,
            recv: RefCell::new(None),
            recv_total: Cell::new(0),
            starved: Ticket::default(),
            ended: Cell::new(false),
            greeted: Cell::new(false),
        }
    }

    /// Connects.
    ///
    /// Dropped while waiting: the socket is closed.
    ///
    /// # Errors
    /// ECONNREFUSED, ETIMEDOUT, ENETUNREACH, ENFILE (the table is full): connect(2).
    pub async fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect_with(addr, ConnectOptions::default()).await
    }

    /// As [`connect`](Self::connect), with options.
    ///
    /// # Errors
    /// As [`connect`](Self::connect); EADDRNOTAVAIL: `source` is not an address of this host, or has no port left.
    pub async fn connect_with(addr: SocketAddr, options: ConnectOptions) -> io::Result<TcpStream> {
        let stream = TcpStream::socket(if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }).await?;
        if options.nodelay {
            let entry = |on: &mut Box<libc::c_int>| {
                let value = (&raw const **on).cast();
                Sqe::setsockopt(stream.fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, value, size_of::<libc::c_int>())
            };
            Op::start(Box::new(1), Unclaimed::Forget, entry).await.0.count()?;
        }
        if let Some(source) = options.source {
            // There is a BIND on the ring only from 6.11 on.
            socket::bind_source(&stream.install().await?, source)?;
        }
        let (storage, len) = socket::to_storage(addr);
        stream.connect_to(storage, len).await
    }

    /// Connects to a Unix stream socket.
    ///
    /// Dropped while waiting: the socket is closed.
    ///
    /// # Errors
    /// ENOENT, ECONNREFUSED, ENAMETOOLONG; EAGAIN: the listener's backlog is full, try again later.
    pub async fn connect_unix(path: &Path) -> io::Result<TcpStream> {
        let (storage, len) = socket::to_unix_storage(path)?;
        TcpStream::socket(libc::AF_UNIX).await?.connect_to(storage, len).await
    }

    async fn socket(domain: i32) -> io::Result<TcpStream> {
        // Not left to the kernel: its refusal might hit an accept that is under way instead, and cut a client.
        if with_core(|core| core.direct.room()) == Room::None {
            return Err(io::Error::from_raw_os_error(libc::ENFILE));
        }
        let entry = |(): &mut ()| Sqe::socket(domain, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0);
        let (made, ()) = Op::start((), Unclaimed::CloseDirect, entry).await;
        Ok(TcpStream::new(Fd::Direct(made.count()? as u32)))
    }

    async fn connect_to(self, storage: libc::sockaddr_storage, len: u32) -> io::Result<TcpStream> {
        let entry = |storage: &mut Box<_>| Sqe::connect(self.fd, &raw const **storage, len);
        let (connected, _) = Op::start(Box::new(storage), Unclaimed::Forget, entry).await;
        connected.count()?;
        Ok(self)
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
                    let taken = take_buffer(outcome);
                    self.ended.set(matches!(taken, Ok(None)));
                    return Poll::Ready(taken);
                }
            }
        }
    }

    /// Arms a receive where none is, without waiting for it.
    fn arm_recv(&self) {
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
            if let Ok(Some(bytes)) = take_buffer(outcome) {
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

    /// Sends some of the bytes; the result may be short.
    ///
    /// Dropped while waiting: it is not known how much was sent.
    ///
    /// # Errors
    /// EPIPE, ECONNRESET: send(2).
    pub async fn write<B: IoBuf>(&self, buffer: B) -> (io::Result<usize>, B) {
        self.write_from(buffer, 0).await
    }

    /// Sends some of the bytes from `start` on; the result may be short.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    ///
    /// # Panics
    /// If `start` is beyond the end.
    pub fn write_from<B: IoBuf>(
        &self,
        buffer: B,
        start: usize,
    ) -> impl Future<Output = (io::Result<usize>, B)> + Unpin + use<B> {
        let len = buffer.bytes_len().checked_sub(start).expect("the start of a write is beyond its end");
        let fd = self.fd;
        let entry = |buffer: &mut B| Sqe::send(fd, buffer.bytes_ptr().wrapping_add(start), len);
        counted(Op::start(buffer, Unclaimed::Forget, entry))
    }

    /// Sends what there is room for at once, for a caller with nothing else to do than to wait for the peer: a receive is
    /// armed first, so that the peer's next bytes are noticed, and that all was sent is noticed with the next event, a
    /// millisecond late at most. Costs no completion and no turn of its own, most of the time.
    ///
    /// # Errors
    /// `WouldBlock` when there was no room at all; else as [`write`](Self::write).
    pub fn write_and_listen<B: IoBuf>(
        &self,
        buffer: B,
    ) -> impl Future<Output = (io::Result<usize>, B)> + Unpin + use<B> {
        self.arm_recv();
        let (fd, len) = (self.fd, buffer.bytes_len());
        let entry = |buffer: &mut B| Sqe::send_now(fd, buffer.bytes_ptr(), len);
        counted(Op::start_at_leisure(buffer, Unclaimed::Forget, Silence::Means(len as u32), entry))
    }

    /// Sends all of the bytes.
    ///
    /// Dropped while waiting: it is not known how much was sent.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn write_all<B: IoBuf>(&self, mut buffer: B) -> (io::Result<()>, B) {
        let mut sent = 0;
        while sent < buffer.bytes_len() {
            let (written, back) = self.write_from(buffer, sent).await;
            buffer = back;
            match written {
                Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), buffer),
                Ok(_) if planted(Bug::ShortSendIgnored) => sent = buffer.bytes_len(),
                Ok(count) => sent += count,
                Err(error) => return (Err(error), buffer),
            }
        }
        (Ok(()), buffer)
    }

    /// Sends all of the bytes and closes the connection, both in the same turn: the last data and the FIN leave together.
    /// The result is how much was sent; anything but all of it means that the connection broke.
    ///
    /// Dropped while waiting: the connection is reset when the kernel has given up what it was sending.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_last<B: IoBuf>(self, buffer: B) -> impl Future<Output = (io::Result<usize>, B)> + Unpin + use<B> {
        // First the cancel of a receive that waits, as in `drop`.
        drop(self.recv.take());
        let fd = self.fd;
        let entry = |buffer: &mut B| Sqe::send_last(fd, buffer.bytes_ptr(), buffer.bytes_len());
        let sent = Op::start_at_leisure(buffer, Unclaimed::Forget, Silence::MeansNothing, entry);
        // The close is queued behind the send, which keeps the socket until it is done.
        drop(self);
        counted(sent)
    }

    /// Sends some of `first`, then of `second`, as one message, from byte `start` of both together on.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    ///
    /// # Panics
    /// If `start` is beyond the end of both.
    pub async fn write_two<A: IoBuf, B: IoBuf>(&self, first: A, second: B, start: usize) -> (io::Result<usize>, A, B) {
        let pair = super::sys::msg::Pair::new(first, second, start);
        let entry = |pair: &mut Box<_>| Sqe::sendmsg(self.fd, super::sys::msg::Pair::message(pair));
        let (outcome, pair) = Op::start(pair, Unclaimed::Forget, entry).await;
        let (first, second) = pair.into_parts();
        (outcome.count(), first, second)
    }

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
        Ok(super::sys::file::adopt(outcome.count()? as i32))
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

/// An operation's count and buffer. No `async` block: those keep their arguments twice.
fn counted<B: IoBuf>(mut sent: Op<B>) -> impl Future<Output = (io::Result<usize>, B)> + Unpin {
    poll_fn(move |context| Pin::new(&mut sent).poll(context).map(|(outcome, buffer)| (outcome.count(), buffer)))
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

/// What a connection is made with, beside the address ([`TcpStream::connect_with`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// The address to come from; the port is the kernel's choice, made when it connects. For more connections than one
    /// address has ports (28,232 by default).
    pub source: Option<IpAddr>,
    /// TCP_NODELAY: small writes leave at once, whatever is not acknowledged yet.
    pub nodelay: bool,
}

impl ConnectOptions {
    /// The defaults: the address that the route says, and Nagle's algorithm.
    pub fn new() -> ConnectOptions {
        ConnectOptions::default()
    }

    /// With [`source`](Self::source).
    pub fn source(self, source: Option<IpAddr>) -> ConnectOptions {
        ConnectOptions { source, ..self }
    }

    /// With [`nodelay`](Self::nodelay).
    pub fn nodelay(self, nodelay: bool) -> ConnectOptions {
        ConnectOptions { nodelay, ..self }
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

/// Where a TCP socket listens.
///
/// # Errors
/// `Unsupported` for a Unix socket.
pub fn listening_on(socket: &OwnedFd) -> io::Result<SocketAddr> {
    socket::local_addr(socket.as_fd())
}

/// Raises the soft RLIMIT_NOFILE to the hard one, and returns it: a server needs a descriptor for each connection.
pub fn raise_descriptor_limit() -> u64 {
    socket::raise_nofile()
}

/// Whether this core's descriptor table is so full that accepting has slowed down or stopped: time to close what is idle.
///
/// # Panics
/// Outside a runtime.
pub fn table_is_filling() -> bool {
    with_core(|core| core.direct.is_filling())
}

/// The kernel found the pool empty: true to wait for a buffer to come back, false to try again at once.
pub(super) fn starved(ticket: &Ticket, context: &Context<'_>) -> bool {
    with_core(|core| add(&core.stats.buffers_exhausted, 1));
    planted(Bug::EnobufsNotRearmed) || must_wait(ticket, context)
}

/// Whether the holder of the ticket is still in line.
pub(super) fn must_wait(ticket: &Ticket, context: &Context<'_>) -> bool {
    with_core(|core| core.driver.borrow().pool().must_wait(ticket, context.waker()))
}

/// The buffer of a completion that has one. A completion without data may have one too (a READ at the end of a pipe has):
/// it goes back to the pool.
pub(super) fn take_buffer(outcome: Outcome) -> io::Result<Option<RecvBuf>> {
    let guard = outcome.buffer().map(|bid| {
        let len = outcome.count().unwrap_or(0);
        with_core(|core| core.driver.borrow().pool().guard(bid, len))
    });
    match outcome.count()? {
        0 => Ok(None),
        _ => guard.ok_or_else(|| io::ErrorKind::InvalidData.into()).map(Some),
    }
}
