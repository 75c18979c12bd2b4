//! The access log of a core: lines gather in memory and leave in one write at the end of the turn.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::http::request::{Known, Method, Request, Version};
use crate::http::status::Status;
use crate::rt::fs::File;
use crate::site::log_line::{Record, RequestLine, log_line};

use super::link::Link;
use super::worker::Worker;

/// Lines that wait for a slow log; beyond, lines are dropped and counted rather than held against the clients.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// How often `written` looks.
const WRITTEN_POLL: Duration = Duration::from_millis(2);

pub(super) struct AccessLog {
    shared: Rc<Shared>,
}

struct Shared {
    file: File,
    lines: RefCell<Vec<u8>>,
    writer: RefCell<Option<Waker>>,
    /// A batch is on its way.
    writing: Cell<bool>,
    dropped: Cell<u64>,
}

impl AccessLog {
    /// Starts the writing task.
    pub(super) fn start(fd: OwnedFd) -> AccessLog {
        let shared = Rc::new(Shared {
            file: File::from(fd),
            lines: RefCell::default(),
            writer: RefCell::default(),
            writing: Cell::new(false),
            dropped: Cell::new(0),
        });
        crate::rt::spawn_detached(write_lines(Rc::clone(&shared)));
        AccessLog { shared }
    }

    /// Waits until everything is written. For the end of a core; the caller sets the bound.
    pub(super) async fn written(&self) {
        while self.shared.writing.get() || !self.shared.lines.borrow().is_empty() {
            crate::rt::time::sleep(WRITTEN_POLL).await;
        }
    }

    pub(super) fn push(&self, record: &Record<'_>) {
        let mut lines = self.shared.lines.borrow_mut();
        if lines.len() > WAITING_BYTES_MAX {
            self.shared.dropped.set(self.shared.dropped.get() + 1);
            return;
        }
        log_line(record, &mut lines);
        drop(lines);
        let waker = self.shared.writer.borrow_mut().take();
        waker.into_iter().for_each(Waker::wake);
    }
}

async fn write_lines(shared: Rc<Shared>) {
    let mut batch = Vec::new();
    loop {
        std::future::poll_fn(|context| {
            if !shared.lines.borrow().is_empty() {
                return Poll::Ready(());
            }
            shared.writing.set(false);
            *shared.writer.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        shared.writing.set(true);
        std::mem::swap(&mut batch, &mut *shared.lines.borrow_mut());
        let mut written = 0;
        while written < batch.len() {
            let (count, back) = shared.file.append(std::mem::take(&mut batch), written).await;
            batch = back;
            match count {
                Ok(count) => written += count,
                Err(error) => {
                    tracing::error!(%error, "the access log cannot be written");
                    break;
                }
            }
        }
        batch.clear();
        let dropped = shared.dropped.take();
        if dropped > 0 {
            tracing::warn!(lines = dropped, "the access log is too slow: lines were dropped");
        }
    }
}

/// Finds out who the client is. Asked once a connection, and only when somebody writes it down.
pub(super) async fn ask_peer(link: &mut Link) {
    if let Ok(addr) = link.transport.stream().peer_addr().await {
        link.peer = Some(addr.ip().to_string().into());
    }
}

/// A request that was answered at once.
pub(super) fn answered(
    log: &AccessLog,
    worker: &Worker,
    request: &Request<'_>,
    peer: Option<&str>,
    user: Option<&[u8]>,
    status: Status,
    body_bytes: u64,
) {
    log.push(&Record {
        remote: peer.unwrap_or("-"),
        user,
        date: &worker.date(),
        request: Some(RequestLine { method: request.method, target: request.target, version: request.version }),
        status,
        body_bytes,
        referer: request.fields.get(Known::Referer),
        user_agent: request.fields.get(Known::UserAgent),
        duration_us: 0,
    });
}

/// Something that was not a request.
pub(super) fn refused(worker: &Worker, peer: Option<&str>, status: Status) {
    let Some(log) = &worker.log else { return };
    let remote = peer.unwrap_or("-");
    let date = &worker.date();
    log.push(&Record {
        remote,
        user: None,
        date,
        request: None,
        status,
        body_bytes: 0,
        referer: None,
        user_agent: None,
        duration_us: 0,
    });
}

/// What the log will need of a request whose reply takes longer than the request's bytes stay.
pub(super) struct Pending {
    since_ms: u64,
    method: Method,
    version: Version,
    target: Box<[u8]>,
    user: Option<Box<[u8]>>,
    referer: Option<Box<[u8]>>,
    user_agent: Option<Box<[u8]>>,
}

impl Pending {
    pub(super) fn new(request: &Request<'_>, user: Option<&[u8]>, now_ms: u64) -> Pending {
        Pending {
            since_ms: now_ms,
            method: request.method,
            version: request.version,
            target: request.target.into(),
            user: user.map(Into::into),
            referer: request.fields.get(Known::Referer).map(Into::into),
            user_agent: request.fields.get(Known::UserAgent).map(Into::into),
        }
    }
}

/// A request whose reply is over.
pub(super) fn finished(
    log: &AccessLog,
    worker: &Worker,
    pending: &Pending,
    remote: &str,
    status: Status,
    body_bytes: u64,
) {
    log.push(&Record {
        remote: if remote.is_empty() { "-" } else { remote },
        user: pending.user.as_deref(),
        date: &worker.date(),
        request: Some(RequestLine { method: pending.method, target: &pending.target, version: pending.version }),
        status,
        body_bytes,
        referer: pending.referer.as_deref(),
        user_agent: pending.user_agent.as_deref(),
        duration_us: (worker.now_ms() - pending.since_ms) * 1000,
    });
}
