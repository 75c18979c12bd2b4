//! TCP and Unix stream sockets on the ring's own descriptor table.

mod connect;
mod listener;
mod ready;
mod send;
mod stream;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::task::Context;

use super::op::Outcome;
use super::stats::add;
use super::sys::buf_ring::{RecvBuf, Ticket};
pub use super::sys::msg::Message;
use super::sys::socket;
pub use super::sys::socket::{Share, listen_tcp, listen_unix};
use super::{Bug, planted, with_core};

pub use connect::ConnectOptions;
pub use listener::{TcpListener, UnixListener};
pub use ready::Hangup;
pub use send::Sending;
pub use stream::{ReadHalf, TcpStream, UnixStream, WriteHalf};

/// Where a TCP socket listens.
///
/// # Errors
/// `Unsupported` for a Unix socket.
pub fn listening_on(socket: &OwnedFd) -> io::Result<SocketAddr> {
    socket::local_addr(socket.as_fd())
}

/// Sends of this core that the kernel was asked to do without a copy, and copied ([`TcpStream::write_zero_copy`]).
///
/// # Panics
/// Outside a runtime.
pub fn zero_copies_copied() -> u64 {
    with_core(|core| core.stats.zero_copies_copied.get())
}

/// send(2) of what there is room for, now, on this thread, on a non-blocking socket's process-wide descriptor
/// ([`TcpStream::install`]). With `more` the last segment waits for what follows, for 200 ms at most.
///
/// # Errors
/// `WouldBlock` when the socket is full; EPIPE, ECONNRESET: send(2).
pub fn send_now(socket: &OwnedFd, bytes: &[u8], more: bool) -> io::Result<usize> {
    socket::send_now(socket, bytes, more)
}

/// Whether TCP paces what this socket sends: BBR does, with a timer of its own unless the device's queue (`fq`) has one. False for
/// a socket that is not TCP's.
pub fn is_paced(socket: &OwnedFd) -> bool {
    socket::congestion_control(socket).is_ok_and(|name| name.starts_with("bbr"))
}

/// Bounds what a TCP socket holds and has not yet sent once (TCP_NOTSENT_LOWAT): from `bytes` on it begins no new buffer (64 KiB), and is
/// full; it has room again when half of that is left. What was sent and not acknowledged does not count: the window stays full.
///
/// # Errors
/// ENOPROTOOPT, EOPNOTSUPP: a socket that is not TCP's.
pub fn set_notsent_lowat(socket: &OwnedFd, bytes: u32) -> io::Result<()> {
    socket::set_notsent_lowat(socket, bytes)
}

/// The longest backlog of a listener that a runtime with so many direct slots accepts from
/// ([`Builder::direct_slots`](super::Builder::direct_slots)): no accept may meet a full table.
pub fn backlog_max(direct_slots: u32) -> u32 {
    super::direct::backlog_max(direct_slots)
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
