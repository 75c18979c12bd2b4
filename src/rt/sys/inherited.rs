//! Descriptors that this process was started with, besides the first three.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{SocketType, sockopt};

/// Where they begin: SD_LISTEN_FDS_START of sd_listen_fds(3).
const FIRST: RawFd = 3;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// The listening stream sockets from descriptor 3 on, so many of them, closed on exec from now on. Once; a second call finds none.
///
/// To be called before this process opens anything, so that no number below is somebody else's.
///
/// # Errors
/// The number of a descriptor that is none, or is no listening stream socket.
pub fn listening_sockets(count: usize) -> Result<Vec<OwnedFd>, RawFd> {
    if TAKEN.swap(true, Ordering::AcqRel) {
        return Ok(Vec::new());
    }
    let numbers = FIRST..FIRST.saturating_add(RawFd::try_from(count).unwrap_or(RawFd::MAX - FIRST));
    numbers.map(|number| take(number).map_err(|_error| number)).collect()
}

fn take(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: a number that is not open is told by the first call (EBADF); the borrow ends with this function.
    let socket = unsafe { BorrowedFd::borrow_raw(number) };
    let listens = sockopt::socket_acceptconn(socket)? && sockopt::socket_type(socket)? == SocketType::STREAM;
    if !listens {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    fcntl_setfd(socket, FdFlags::CLOEXEC)?;
    // SAFETY: it is open, and a listening socket: so it was there before `main`, which has made none by now (the caller keeps
    // that), and nobody else owns it, because nobody but the first call of `listening_sockets` comes here.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// What a socket is bound to, as text: an IP address with its port, a path, or `@NAME` of the abstract namespace.
///
/// # Errors
/// getsockname(2); `Unsupported` for any other family.
pub fn bound_to(socket: &OwnedFd) -> io::Result<Bound> {
    let any = rustix::net::getsockname(socket.as_fd())?;
    if let Ok(address) = std::net::SocketAddr::try_from(any.clone()) {
        return Ok(Bound::Tcp(address));
    }
    let unix = rustix::net::SocketAddrUnix::try_from(any).map_err(|_| io::Error::from(io::ErrorKind::Unsupported))?;
    let name = match (unix.path_bytes(), unix.abstract_name()) {
        (Some(path), _) => path.to_vec(),
        (None, Some(name)) => [b"@", name].concat(),
        (None, None) => Vec::new(),
    };
    Ok(Bound::Unix(name))
}

/// What a socket is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// IPv4 or IPv6.
    Tcp(std::net::SocketAddr),
    /// A Unix socket's path.
    Unix(Vec<u8>),
}
