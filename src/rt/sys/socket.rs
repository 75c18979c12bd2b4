//! Sockets: addresses as the kernel wants them, listeners, and the few calls that have no place on the ring.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::Pid;

/// Whether a listener is the first on its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// SO_REUSEPORT only after `listen`: a second process that probes the port gets EADDRINUSE, never a share.
    First,
    /// SO_REUSEPORT before `bind`: another core of the same server.
    Another,
}

/// A listening TCP socket, non-blocking, close-on-exec, TCP_NODELAY (which accepted sockets inherit). Blocking calls, but
/// none that waits.
///
/// # Errors
/// EADDRINUSE, EADDRNOTAVAIL, EACCES: bind(2), listen(2).
pub fn listen_tcp(addr: SocketAddr, backlog: i32, share: Share) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
    // SO_REUSEADDR: TIME_WAIT remains of an earlier run do not stop this one.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if addr.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if share == Share::Another {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    sockopt::set_tcp_nodelay(&socket, true)?;
    net::bind(&socket, &addr)?;
    net::listen(&socket, backlog)?;
    if share == Share::First {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    Ok(socket)
}

/// A listening Unix socket. A stale one (nobody listens) is replaced; a live one is EADDRINUSE.
///
/// # Errors
/// `AlreadyExists` for a file that is no socket; EADDRINUSE, ENOENT, EACCES, ENAMETOOLONG: bind(2).
pub fn listen_unix(path: &Path, backlog: i32) -> io::Result<OwnedFd> {
    let address = net::SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    if let Err(error) = net::bind(&socket, &address) {
        // A connect to a file that is no socket is refused as one to a socket without a listener is.
        use std::os::unix::fs::FileTypeExt;
        let is_socket = || std::fs::symlink_metadata(path).is_ok_and(|facts| facts.file_type().is_socket());
        if error == rustix::io::Errno::ADDRINUSE && !is_socket() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "a file that is no socket is there; move it away",
            ));
        }
        if error != rustix::io::Errno::ADDRINUSE || somebody_listens(&address)? {
            return Err(error.into());
        }
        std::fs::remove_file(path)?;
        net::bind(&socket, &address)?;
    }
    net::listen(&socket, backlog)?;
    Ok(socket)
}

/// Whether a live process listens there. The socket of a killed one can outlive it for some milliseconds: its ring, which
/// has an accept on it, is taken down by a worker of the kernel after the process was reaped.
fn somebody_listens(address: &net::SocketAddrUnix) -> io::Result<bool> {
    // Non-blocking: a full backlog (EAGAIN) is somebody, too.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match net::connect(&probe, address) {
        Err(rustix::io::Errno::CONNREFUSED) => Ok(false),
        Err(_) => Ok(true),
        // A number that means nothing in our PID namespace is 0: then nothing is known.
        Ok(()) => Ok(Pid::from_raw(peer_pid(&probe)?)
            .is_none_or(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))),
    }
}

/// The process that called listen(2) on the other end, 0 where it has no number in our PID namespace. (rustix's call takes
/// 0 for impossible.)
fn peer_pid(socket: &OwnedFd) -> io::Result<i32> {
    let mut cred = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = size_of::<libc::ucred>() as u32;
    let (fd, room) = (socket.as_raw_fd(), (&raw mut cred).cast());
    // SAFETY: `room` is `len` writable bytes on this stack, and any bits are a valid `ucred` (three integers).
    match unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, room, &raw mut len) } {
        0 => Ok(cred.pid),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The local address of a TCP socket (the port that `:0` became).
pub(crate) fn local_addr(socket: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let any = net::getsockname(socket)?;
    SocketAddr::try_from(any).map_err(|_| io::ErrorKind::Unsupported.into())
}

/// TCP_CONGESTION (2.6.13): who decides how fast this socket may send. EOPNOTSUPP on a Unix socket.
pub(crate) fn congestion_control(socket: &OwnedFd) -> io::Result<String> {
    Ok(net::sockopt::tcp_congestion(socket)?)
}

/// TCP_NOTSENT_LOWAT (3.12): the socket is full when so much of what it was given has not been sent once and its last buffer is full,
/// too; it has room again when half of that is left.
pub(crate) fn set_notsent_lowat(socket: &OwnedFd, bytes: u32) -> io::Result<()> {
    set_option(socket, libc::SOL_TCP, libc::TCP_NOTSENT_LOWAT, bytes.cast_signed())
}

/// shutdown(2) for writing, on a real descriptor: the ring's SHUTDOWN runs in a worker thread and can hit a slot that
/// has been given to another connection meanwhile.
pub(crate) fn shutdown_write(socket: &OwnedFd) -> io::Result<()> {
    Ok(net::shutdown(socket, net::Shutdown::Write)?)
}

/// send(2) of what there is room for, now. With `more` the last segment waits for what follows it.
pub(crate) fn send_now(socket: &OwnedFd, bytes: &[u8], more: bool) -> io::Result<usize> {
    use rustix::net::SendFlags;
    let more = if more { SendFlags::MORE } else { SendFlags::empty() };
    Ok(net::send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL | more)?)
}

/// A `sockaddr_storage` and the length of what is in it.
pub(crate) fn to_storage(addr: SocketAddr) -> (libc::sockaddr_storage, u32) {
    // SAFETY: all zeroes is a valid `sockaddr_storage` (plain integers).
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let target = &raw mut storage;
    let len = match addr {
        SocketAddr::V4(v4) => {
            let sin = libc::sockaddr_in {
                sin_family: libc::AF_INET as u16,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: `sockaddr_storage` is larger than and aligned for every address type.
            unsafe { target.cast::<libc::sockaddr_in>().write(sin) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            let sin6 = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as u16,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe { target.cast::<libc::sockaddr_in6>().write(sin6) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, len as u32)
}

/// A path as a Unix socket's address (unix(7)), and its length. ENAMETOOLONG from 108 bytes on.
pub(crate) fn to_unix_storage(path: &Path) -> io::Result<(libc::sockaddr_storage, u32)> {
    let bytes = path.as_os_str().as_bytes();
    // SAFETY: all zeroes is a valid `sockaddr_un` (plain integers).
    let mut sun: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    if bytes.len() >= sun.sun_path.len() {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    sun.sun_family = libc::AF_UNIX as u16;
    sun.sun_path.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte as libc::c_char);
    // SAFETY: as above.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    // SAFETY: `sockaddr_storage` is larger than and aligned for every address type.
    unsafe { (&raw mut storage).cast::<libc::sockaddr_un>().write(sun) };
    let len = std::mem::offset_of!(libc::sockaddr_un, sun_path) + bytes.len() + 1;
    Ok((storage, len as u32))
}

/// bind(2) to an address and any port, which is chosen only by connect(2) (IP_BIND_ADDRESS_NO_PORT, 4.2): the same port
/// then serves for every different destination, and a port is not looked for twice.
pub(crate) fn bind_source(socket: &OwnedFd, source: IpAddr) -> io::Result<()> {
    // IPv4's by name, and works on IPv6, too.
    set_option(socket, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
    Ok(net::bind(socket, &SocketAddr::new(source, 0))?)
}

/// An option that is a number, and that rustix does not know.
fn set_option(socket: &OwnedFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let (fd, bytes, len) = (socket.as_raw_fd(), (&raw const value).cast(), size_of::<libc::c_int>() as u32);
    // SAFETY: `bytes` is `len` readable bytes on this stack.
    match unsafe { libc::setsockopt(fd, level, name, bytes, len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The address in the first bytes of a `sockaddr_storage`; `None` for a family that is not IP.
pub(crate) fn from_sockaddr_bytes(bytes: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    let ip = match family {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(4..8)?).ok()?)),
        libc::AF_INET6 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(8..24)?).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// The soft RLIMIT_NOFILE.
pub(crate) fn nofile() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Raises the soft RLIMIT_NOFILE to the hard one; returns what it is then.
pub(crate) fn raise_nofile() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Allowed to anyone; refused only by a filter, and then the soft limit stands.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    nofile()
}
