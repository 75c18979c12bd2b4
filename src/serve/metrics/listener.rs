//! `--metrics`: a listener of its own, for those who watch the server and not for those who use it. Served by threads of their own
//! that block, so that it answers while every core is busy; few, and each for a bounded time.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::net::{SocketFlags, accept_with};

use super::exposition::Format;
use super::families;
use super::observer::Observer;
use crate::http::conn::{Conn, Event};
use crate::http::date;
use crate::http::limits::Limits;
use crate::http::request::{FieldSlots, Known, Method, Request};
use crate::http::status::Status;
use crate::serve::listeners;
use crate::serve::options::Listen;

/// Connections at the same time; more are answered 503, or closed.
const CONNECTIONS_MAX: usize = 8;
/// From the accept to the last byte of the answer. After that the connection is closed.
const EXCHANGE_MAX: Duration = Duration::from_secs(10);
/// How long the cores have to answer; one that takes longer is said not to.
const CORES_ANSWER_MAX: Duration = Duration::from_secs(2);
/// After the answer, what the client still sends is read, so that no reset destroys it.
const LINGER_MAX: Duration = Duration::from_secs(1);

/// The listener, for as long as this is kept.
pub(in crate::serve) struct Listener {
    /// As it was asked for, perhaps with port 0.
    asked: Listen,
    /// Where it listens.
    bound: Listen,
    socket: Arc<OwnedFd>,
    end: Arc<OwnedFd>,
}

struct Shared {
    observer: Arc<Observer>,
    /// One more reference than there are connections.
    connections: Arc<()>,
}

impl Listener {
    /// Answers on this socket.
    ///
    /// # Errors
    /// No eventfd, no thread.
    pub(in crate::serve) fn start(
        asked: Listen,
        bound: Listen,
        socket: OwnedFd,
        observer: Arc<Observer>,
    ) -> io::Result<Listener> {
        let (socket, end) = (Arc::new(socket), Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?));
        let (accepted, told) = (Arc::clone(&socket), Arc::clone(&end));
        let shared = Shared { observer, connections: Arc::default() };
        std::thread::Builder::new().name("metrics".into()).spawn(move || listen(&accepted, &told, &shared))?;
        Ok(Listener { asked, bound, socket, end })
    }

    /// As it was asked for.
    pub(in crate::serve) fn asked(&self) -> &Listen {
        &self.asked
    }

    /// Where it listens.
    pub(in crate::serve) fn bound(&self) -> &Listen {
        &self.bound
    }

    /// Its socket, for a server in another process.
    ///
    /// # Errors
    /// EMFILE.
    pub(in crate::serve) fn give(&self) -> io::Result<listeners::Listener> {
        let sockets = vec![self.socket.try_clone()?];
        let (asked, bound) = (self.asked.clone(), self.bound.clone());
        Ok(listeners::Listener { asked, bound, kept: false, for_metrics: true, sockets })
    }

    /// Accepts nobody any more: what waits in the backlog is left to whoever has the socket, too.
    pub(in crate::serve) fn stop(&self) {
        // Fails only when it has been told 2^64 - 2 times.
        let _ = rustix::io::write(&self.end, &1u64.to_ne_bytes());
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop();
    }
}

fn listen(socket: &OwnedFd, end: &OwnedFd, shared: &Shared) {
    loop {
        let mut fds = [PollFd::new(socket, PollFlags::IN), PollFd::new(end, PollFlags::IN)];
        let polled = poll(&mut fds, None);
        if !fds[1].revents().is_empty() {
            return;
        }
        match polled.and_then(|_| accept_with(socket, SocketFlags::CLOEXEC)) {
            Ok(stream) => welcome(stream, shared),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {}
            Err(error) => {
                tracing::error!(%error, "the listener for metrics: trying again in a second");
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }
}

fn welcome(stream: OwnedFd, shared: &Shared) {
    // What the standard library knows of a Unix stream socket holds for a TCP one: read, write, shutdown, timeouts.
    let mut stream = UnixStream::from(stream);
    // Only this thread adds connections: what it counts can but shrink meanwhile.
    if Arc::strong_count(&shared.connections) > CONNECTIONS_MAX {
        let busy = Answer::text(Status::SERVICE_UNAVAILABLE, "too many connections at once\n");
        let _ = stream.set_nonblocking(true).and_then(|()| stream.write_all(&busy.bytes(false)));
        return;
    }
    let (observer, counted) = (Arc::clone(&shared.observer), Arc::clone(&shared.connections));
    let started = std::thread::Builder::new().name("metrics".into()).spawn(move || {
        // Cut short by a client that has gone, or is too slow: nothing is left to do.
        let _ = exchange(&mut stream, &observer);
        drop(counted);
    });
    if let Err(error) = started {
        tracing::error!(%error, "no thread for a connection to the metrics");
    }
}

/// One request, one answer: whoever looks every few seconds keeps no thread in between.
fn exchange(stream: &mut UnixStream, observer: &Observer) -> io::Result<()> {
    let started = Instant::now();
    let until = started + EXCHANGE_MAX;
    let (limits, mut conn) = (Limits::default(), Conn::new(0));
    let (mut bytes, mut room) = (Vec::new(), [0; 4096]);
    let answer = loop {
        let mut slots = FieldSlots::new();
        match conn.poll(&limits, started.elapsed().as_millis() as u64, &bytes, &mut slots) {
            Event::Request { request, .. } => break answer(&request, observer).bytes(request.method == Method::Head),
            Event::Refuse(refusal) => break Answer::text(refusal.status, refusal.status.phrase()).bytes(false),
            Event::Over => return Ok(()),
            Event::NeedBytes { .. } => {}
        }
        stream.set_read_timeout(Some(left(until)?))?;
        match stream.read(&mut room)? {
            0 => conn.end_of_input(),
            count => bytes.extend_from_slice(&room[..count]),
        }
    };
    let mut sent = 0;
    while sent < answer.len() {
        stream.set_write_timeout(Some(left(until)?))?;
        sent += match stream.write(&answer[sent..])? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => count,
        };
    }
    stream.shutdown(Shutdown::Write)?;
    let until = until.min(Instant::now() + LINGER_MAX);
    loop {
        stream.set_read_timeout(Some(left(until)?))?;
        if stream.read(&mut room)? == 0 {
            return Ok(());
        }
    }
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

struct Answer {
    status: Status,
    content_type: &'static str,
    body: String,
}

impl Answer {
    fn text(status: Status, body: impl Into<String>) -> Answer {
        Answer { status, content_type: "text/plain; charset=utf-8", body: body.into() }
    }

    fn bytes(&self, is_head: bool) -> Vec<u8> {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let date = date::format(now_s);
        let (code, phrase) = (self.status.code(), self.status.phrase());
        let allow = if self.status == Status::METHOD_NOT_ALLOWED { "Allow: GET, HEAD\r\n" } else { "" };
        let mut bytes = format!(
            "HTTP/1.1 {code} {phrase}\r\nDate: {}\r\n{allow}Content-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
             Connection: close\r\n\r\n",
            String::from_utf8_lossy(&date),
            self.content_type,
            self.body.len()
        );
        if !is_head {
            bytes.push_str(&self.body);
        }
        bytes.into_bytes()
    }
}

fn answer(request: &Request<'_>, observer: &Observer) -> Answer {
    let path = request.target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let known = [&b"/metrics"[..], b"/healthz", b"/readyz"].contains(&path);
    if known && !matches!(request.method, Method::Get | Method::Head) {
        return Answer::text(Status::METHOD_NOT_ALLOWED, "GET or HEAD\n");
    }
    match path {
        b"/metrics" => {
            let format = Format::wanted(request.fields.get_all(Known::Accept));
            let body = families::page(format, &observer.reports(CORES_ANSWER_MAX), observer);
            Answer { status: Status::OK, content_type: format.content_type(), body }
        }
        b"/healthz" => match observer.silent(CORES_ANSWER_MAX)[..] {
            [] => Answer::text(Status::OK, "ok\n"),
            [core, ..] => {
                Answer::text(Status::SERVICE_UNAVAILABLE, format!("core {core} does not answer within 2 s\n"))
            }
        },
        b"/readyz" if observer.is_ready() => Answer::text(Status::OK, "ok\n"),
        b"/readyz" => Answer::text(Status::SERVICE_UNAVAILABLE, "stopping\n"),
        _ => Answer::text(Status::NOT_FOUND, "here are /metrics, /healthz and /readyz\n"),
    }
}
