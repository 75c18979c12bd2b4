//! What the log says about a script: each line with the script, its process and its request, so that one can be found
//! among many. The request's name is the script's own UNIQUE_ID, so that the lines it writes elsewhere can say it, too.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::rt::process::PipeReader;

/// The log of one script.
pub(super) struct Journal {
    script: Rc<str>,
    request: String,
    /// Nothing until it has started.
    pid: Cell<Option<i32>>,
}

impl Journal {
    pub(super) fn new(script: String, request: String) -> Rc<Journal> {
        Rc::new(Journal { script: script.into(), request, pid: Cell::new(None) })
    }

    /// What runs.
    pub(super) fn script(&self) -> &Rc<str> {
        &self.script
    }

    pub(super) fn started(&self, pid: i32) {
        self.pid.set(Some(pid));
    }

    pub(super) fn error(&self, what: impl Display) {
        tracing::error!(script = &*self.script, pid = self.pid.get(), request = self.request, "{what}");
    }

    pub(super) fn warn(&self, what: impl Display) {
        tracing::warn!(script = &*self.script, pid = self.pid.get(), request = self.request, "{what}");
    }

    pub(super) fn info(&self, what: impl Display) {
        tracing::info!(script = &*self.script, pid = self.pid.get(), request = self.request, "{what}");
    }
}

/// A line of stderr is logged up to this length, and goes on in the next line of the log.
const ERROR_LINE_BYTES_MAX: usize = 4 << 10;
/// So many bytes of stderr are logged a request in all; the rest is read, counted and dropped.
const ERRORS_BYTES_MAX: usize = 256 << 10;

/// A script's stderr on its way to the log. It outlives the reply: the last words of a script are the ones that matter,
/// and a read that is dropped half-way loses them.
pub(super) struct Errors {
    /// Fused: `None` when stderr has ended.
    reading: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Errors {
    pub(super) fn new(stderr: PipeReader, journal: Rc<Journal>) -> Errors {
        Errors { reading: Some(Box::pin(log_lines(stderr, journal))) }
    }

    /// Of a stderr that has ended without a word.
    pub(super) fn none() -> Errors {
        Errors { reading: None }
    }

    /// Nobody holds the script's stderr any more, and all of it is logged.
    pub(super) fn have_ended(&self) -> bool {
        self.reading.is_none()
    }

    /// Ready when nobody holds the script's stderr any more.
    pub(super) fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(reading) = &mut self.reading {
            if reading.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.reading = None;
        }
        Poll::Ready(())
    }
}

async fn log_lines(stderr: PipeReader, journal: Rc<Journal>) {
    let line = RefCell::new(Vec::new());
    let mut left = ERRORS_BYTES_MAX;
    let mut dropped = 0;
    while let Ok(Some(bytes)) = stderr.read().await {
        let logged = &bytes[..bytes.len().min(left)];
        for &byte in logged {
            if byte == b'\n' || line.borrow().len() >= ERROR_LINE_BYTES_MAX {
                log_line(&journal, &line.take());
            }
            if byte != b'\n' {
                line.borrow_mut().push(byte);
            }
        }
        left -= logged.len();
        dropped += bytes.len() - logged.len();
    }
    log_line(&journal, &line.take());
    if dropped > 0 {
        journal.warn(format_args!("stderr: {dropped} bytes more were dropped (a request's first 256 KiB are logged)"));
    }
}

fn log_line(journal: &Journal, line: &[u8]) {
    if !line.is_empty() {
        // Escaped: a script's words must not forge a line of this log, nor move the operator's cursor.
        journal.warn(format_args!("stderr: {}", String::from_utf8_lossy(line).escape_debug()));
    }
}
