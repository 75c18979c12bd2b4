//! The server's own log, on standard error. What writes to a terminal or a pipe waits for whoever reads it, and a core must
//! not wait: so lines are handed to a thread, and when that is far behind they are dropped and counted.

pub(crate) mod format;

use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait for a slow reader; beyond, they are dropped.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// How long the last lines are waited for at the end.
const WRITTEN_WAIT: Duration = Duration::from_secs(1);

/// Where lines go. Before [`start`], and where no thread can be had, straight to standard error.
#[derive(Clone, Copy)]
pub(crate) struct Log;

static BACKLOG: OnceLock<Backlog> = OnceLock::new();

#[derive(Default)]
struct Backlog {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    waiting: Vec<u8>,
    dropped: u64,
    /// The thread has taken some, and is not back.
    writing: bool,
}

/// From now on nobody waits for standard error but a thread of its own. It inherits the signal mask: to be called when that
/// is as it shall be.
pub(crate) fn start() {
    let write = || BACKLOG.get_or_init(Backlog::default).write();
    if std::thread::Builder::new().name("log".to_owned()).spawn(write).is_ok() {
        let _ = BACKLOG.get_or_init(Backlog::default);
    }
}

/// Waits until everything is written, but not for ever.
pub(crate) fn finish() {
    let Some(backlog) = BACKLOG.get() else { return };
    let is_busy = |lines: &mut Lines| lines.writing || !lines.waiting.is_empty();
    let _ = backlog.changed.wait_timeout_while(backlog.lines(), WRITTEN_WAIT, is_busy);
}

impl Backlog {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut lines = self.lines();
        match lines.waiting.len() + line.len() <= WAITING_BYTES_MAX {
            true => lines.waiting.extend_from_slice(line),
            false => lines.dropped += 1,
        }
        drop(lines);
        self.changed.notify_all();
    }

    fn write(&self) {
        let mut batch = Vec::new();
        loop {
            let mut lines = self.lines();
            lines.writing = false;
            self.changed.notify_all();
            let idle = |lines: &mut Lines| lines.waiting.is_empty() && lines.dropped == 0;
            lines = self.changed.wait_while(lines, idle).unwrap_or_else(PoisonError::into_inner);
            lines.writing = true;
            std::mem::swap(&mut batch, &mut lines.waiting);
            let dropped = std::mem::take(&mut lines.dropped);
            drop(lines);
            if dropped > 0 {
                let notice = format!("{dropped} lines of this log were dropped: it is read too slowly");
                batch.extend_from_slice(format::notice(&notice).as_bytes());
            }
            // Nobody is left to tell when standard error is gone.
            let _ = io::stderr().write_all(&batch);
            batch.clear();
        }
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;

    fn make_writer(&'a self) -> Log {
        Log
    }
}

/// One call is one line: that is how it is written to.
impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match BACKLOG.get() {
            Some(backlog) => backlog.push(line),
            None => io::stderr().write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
