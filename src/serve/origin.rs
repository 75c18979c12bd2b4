//! Who is at the other end of a connection: the peer, or whom a proxy that is trusted forwards.
//!
//! Asked once a connection, and only where somebody wants to know: a log, a bound, a trust. What a request's fields say comes
//! on top of it, for that request.

use std::fmt::{self, Write};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::Poll;

use crate::http::Millis;
use crate::http::forwarded::{self, Client};
use crate::http::proxy_protocol::{self, Ends, Header};
use crate::http::request::{Request, Version};
use crate::http::trust::Trusted;
use crate::rt::time::Instant;
use crate::site::reply::{Body, HeadContext, Reply, Vary};

use super::link::{Addresses, Link};
use super::options::{Options, ProxyProtocol};
use super::per_ip::Place;
use super::registry::SeatGuard;
use super::worker::Worker;

/// What a 503 tells a client to wait that has too many connections.
const RETRY_AFTER_S: u32 = 5;

/// What is known of a connection's other end.
pub(super) struct Origin {
    addr: Option<IpAddr>,
    text: AddrText,
    /// What its requests say about other clients is believed.
    is_trusted: bool,
    /// The proxy that made the connection said so.
    https: Option<bool>,
    /// Among the connections of its address.
    _place: Option<Place>,
}

/// The connection is to be closed; what is in `link.out` goes first.
pub(super) struct Unwelcome;

/// Whether anybody wants to know.
pub(super) fn is_asked(options: &Options, logs: bool) -> bool {
    let is_spoken = options.proxy_protocol != ProxyProtocol::Off;
    logs || is_spoken || !options.trusted.is_empty() || options.conns_per_ip_max.is_some()
}

/// Finds out who it is, and whether that one may stay. With `forwards` the connection begins with a PROXY header.
pub(super) async fn meet(
    link: &mut Link,
    worker: &Worker,
    seat: &SeatGuard<'_>,
    forwards: bool,
) -> Result<(), Unwelcome> {
    let trusted = &worker.options.trusted;
    let peer = Peer::of(link.transport.stream().peer_addr().await);
    let mut origin = Origin {
        addr: peer.addr().map(|addr| addr.ip().to_canonical()),
        text: AddrText::default(),
        is_trusted: peer.is_in(trusted),
        https: None,
        _place: None,
    };
    if forwards {
        if !origin.is_trusted {
            return Err(refuse_header(worker, &peer, "nobody trusts it (--trusted-proxy)"));
        }
        let Header { ends, https, .. } = match read_header(link, worker, seat).await {
            Ok(header) => header,
            Err(why) => return Err(refuse_header(worker, &peer, why)),
        };
        origin.https = https;
        if let Some(Ends { source, destination }) = ends {
            origin.addr = Some(source.ip());
            origin.is_trusted = trusted.has(origin.addr);
            link.set_addresses(Addresses { remote: Some(source), local: Some(destination) });
        }
    }
    if let (Some(table), Some(addr), false) = (&worker.per_ip, origin.addr, origin.is_trusted) {
        match table.place(addr) {
            Some(place) => origin._place = Some(place),
            None => return Err(refuse_crowd(link, worker, addr)),
        }
    }
    if let Some(addr) = origin.addr {
        origin.text.set(addr);
    }
    link.origin = Some(Box::new(origin));
    Ok(())
}

impl Origin {
    /// Whose request it is.
    pub(super) fn client<'b>(&self, request: &Request<'b>, trusted: &Trusted) -> Client<'b> {
        let said = if self.is_trusted { forwarded::client(&request.fields, trusted) } else { Client::default() };
        Client { https: said.https.or(self.https), ..said }
    }

    /// The address of the connection's other end, for a log; empty on a Unix socket.
    pub(super) fn own_text(&self) -> &str {
        self.text.as_str()
    }

    /// What its requests say about other clients is not for scripts either.
    pub(super) fn is_doubted(&self, trusted: &Trusted) -> bool {
        !self.is_trusted && !trusted.is_empty()
    }
}

/// The other end of a socket.
enum Peer {
    Addr(SocketAddr),
    Unix,
    /// It has gone already: nobody whom anybody could trust.
    Gone,
}

impl Peer {
    fn of(asked: io::Result<SocketAddr>) -> Peer {
        match asked {
            Ok(addr) => Peer::Addr(addr),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Peer::Unix,
            Err(_) => Peer::Gone,
        }
    }

    fn addr(&self) -> Option<SocketAddr> {
        match self {
            Peer::Addr(addr) => Some(*addr),
            Peer::Unix | Peer::Gone => None,
        }
    }

    fn is_in(&self, trusted: &Trusted) -> bool {
        match self {
            Peer::Addr(addr) => trusted.has(Some(addr.ip())),
            Peer::Unix => trusted.has(None),
            Peer::Gone => false,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Addr(addr) => addr.ip().fmt(f),
            Peer::Unix => f.write_str("a Unix socket"),
            Peer::Gone => f.write_str("a peer that has gone"),
        }
    }
}

/// Reads the header, for as long as the head of a request may take. What comes after it stays.
async fn read_header(link: &mut Link, worker: &Worker, seat: &SeatGuard<'_>) -> Result<Header, &'static str> {
    let until: Millis = worker.now_ms() + worker.limits().head_ms_max;
    loop {
        match proxy_protocol::parse(link.input.unread()) {
            Ok(Some(header)) => {
                link.input.consume(header.len);
                return Ok(header);
            }
            Ok(None) => {}
            Err(fault) => return Err(fault.why()),
        }
        link.input.release();
        link.timer.reset(Instant::from_millis(until));
        let received = poll_fn(|context| {
            if let Poll::Ready(received) = link.transport.stream().poll_recv(context) {
                return Poll::Ready(received.ok().flatten().ok_or("it ended before its PROXY header"));
            }
            if seat.is_evicted(context.waker()) || worker.draining.get() {
                return Poll::Ready(Err("this server stops"));
            }
            link.timer.poll_expired(context).map(|()| Err("its PROXY header did not come in time (--head-ms-max)"))
        });
        let bytes = received.await?;
        link.input.push(bytes);
    }
}

fn refuse_header(worker: &Worker, peer: &Peer, why: &str) -> Unwelcome {
    worker.metrics.proxy_headers_refused.add(1);
    worker.header_lines.tell(worker.now_ms(), |more| {
        tracing::warn!("closed a connection from {peer}, because {why}{more}");
    });
    Unwelcome
}

fn refuse_crowd(link: &mut Link, worker: &Worker, addr: IpAddr) -> Unwelcome {
    worker.metrics.connections_refused_per_ip.add(1);
    worker.crowd_lines.tell(worker.now_ms(), |more| {
        tracing::warn!("{addr} has as many connections as one address may have (--conns-per-ip): 503{more}");
    });
    let (reply, date) = (Reply::unavailable(RETRY_AFTER_S), worker.date());
    let (version, vary) = (Version::Http11, Vary::Nothing);
    let context =
        HeadContext { version, is_head: false, keep_alive: false, date: &date, place: None, vary, challenge: None };
    link.out = worker.buffer();
    reply.write_head(&mut link.out, &context);
    if let Body::Bytes(bytes) = reply.body(&context) {
        link.out.extend_from_slice(bytes);
    }
    Unwelcome
}

/// An address as text, without an allocation.
pub(super) struct AddrText {
    bytes: [u8; ADDR_BYTES_MAX],
    len: u8,
}

/// The longest IPv6 address, `INET6_ADDRSTRLEN` less its NUL.
const ADDR_BYTES_MAX: usize = 45;

impl Default for AddrText {
    fn default() -> AddrText {
        AddrText { bytes: [0; ADDR_BYTES_MAX], len: 0 }
    }
}

impl AddrText {
    fn set(&mut self, addr: IpAddr) -> &str {
        self.len = 0;
        // It fits: that is what the length is for.
        let _ = write!(self, "{addr}");
        self.as_str()
    }

    fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl Write for AddrText {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let start = usize::from(self.len);
        let room = self.bytes.get_mut(start..start + part.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(part.as_bytes());
        self.len += part.len() as u8;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_every_length() {
        let mut text = AddrText::default();
        for addr in ["::", "0.0.0.0", "255.255.255.255", "1111:2222:3333:4444:5555:6666:7777:8888"] {
            assert_eq!(text.set(addr.parse().unwrap()), addr);
        }
    }

    /// A connection that was reset has no peer any more; that must not make it one of a Unix socket.
    #[test]
    fn who_has_gone_is_nobody_to_trust() {
        let trusted = Trusted { unix: true, ..Trusted::default() };
        assert!(Peer::of(Err(io::ErrorKind::Unsupported.into())).is_in(&trusted));
        assert!(!Peer::of(Err(io::Error::from_raw_os_error(libc::ENOTCONN))).is_in(&trusted));
    }
}
