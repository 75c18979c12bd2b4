//! Making a connection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::{TcpStream, socket};
use crate::rt::direct::Room;
use crate::rt::op::{Op, Unclaimed};
use crate::rt::sys::sqe::{Fd, Sqe};
use crate::rt::with_core;

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

impl TcpStream {
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
}
