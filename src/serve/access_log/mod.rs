//! The access log of a core: records gather in memory and leave in one write at the end of a turn.
//!
//! [`ledger`] knows what is to be written down about a connection's requests, and when one is over; [`writer`] is the task
//! that writes; [`sink`] is what the cores share: whose turn it is to write, and what could not be written.

mod ledger;
mod sink;
mod writer;

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::task::Waker;
use std::time::Duration;

use crate::rt::fs::{File, Kind};
use crate::rt::time::sleep;
use crate::site::log_line::{Form, Record, log_line};

use super::metrics::Counter;

pub(super) use ledger::{Layout, Logged};
pub(super) use sink::Sink;

use ledger::Pages;

/// How often `written` looks.
const WRITTEN_POLL: Duration = Duration::from_millis(2);
/// How long the last records wait for whoever reads a pipe, when everything else is over.
const LAST_WRITE_WAIT: Duration = Duration::from_secs(1);
/// Ledgers' pages that are kept for the next requests.
const SPARE_PAGES_MAX: usize = 64;
/// The room that a buffer has from the start, so that a write that takes a while is no reason to allocate; and what it keeps of
/// the room that it needed while nothing could be written.
const KEPT_BYTES: usize = 256 << 10;

/// How a core is to log.
pub(super) struct Settings {
    pub(super) form: Form,
    /// The core's number.
    pub(super) core: u32,
    /// Records that wait; beyond, they are lost rather than held against the clients.
    pub(super) buffer_bytes_max: usize,
    pub(super) sink: Arc<Sink>,
}

/// The log of one core.
pub(super) struct AccessLog(Rc<Shared>);

/// What the core and its writing task share.
struct Shared {
    settings: Settings,
    target: RefCell<Rc<Target>>,
    lines: RefCell<Vec<u8>>,
    /// Taken from `lines` and not written yet: of this many bytes and lines.
    batch: Cell<(usize, u64)>,
    /// The batch, while it is not lent to the kernel; and what of it has been written.
    rest: RefCell<(Vec<u8>, usize)>,
    writer: RefCell<Option<Waker>>,
    next: RefCell<Option<Reopened>>,
    /// It cannot keep up, or not write.
    failing: Cell<bool>,
    closed: Cell<bool>,
    lost: Counter,
    connections: Counter,
    #[expect(
        clippy::vec_box,
        reason = "they come from connections and go back to them, box and all, without an allocation"
    )]
    spare: RefCell<Vec<Box<Pages>>>,
}

/// Where lines go.
struct Target {
    file: File,
    is_regular: bool,
}

/// Where they shall go from now on. The sender is dropped when nothing is written to the old place any more.
struct Reopened {
    target: Target,
    _done: mpsc::Sender<Infallible>,
}

impl Target {
    fn new(fd: OwnedFd) -> Target {
        let file = File::from(fd);
        let is_regular = file.metadata().is_ok_and(|facts| facts.kind == Kind::File);
        Target { file, is_regular }
    }
}

impl AccessLog {
    /// Starts the writing task.
    pub(super) fn start(fd: OwnedFd, settings: Settings) -> AccessLog {
        let shared = Rc::new(Shared {
            settings,
            target: RefCell::new(Rc::new(Target::new(fd))),
            lines: RefCell::new(Vec::with_capacity(KEPT_BYTES)),
            batch: Cell::default(),
            rest: RefCell::new((Vec::with_capacity(KEPT_BYTES), 0)),
            writer: RefCell::default(),
            next: RefCell::default(),
            failing: Cell::new(false),
            closed: Cell::new(false),
            lost: Counter::default(),
            connections: Counter::default(),
            spare: RefCell::default(),
        });
        crate::rt::spawn_detached(writer::run(Rc::clone(&shared)));
        AccessLog(shared)
    }

    /// Takes a record, or counts it as lost.
    fn push(&self, record: &Record<'_>) {
        let shared = &*self.0;
        let mut lines = shared.lines.borrow_mut();
        if lines.len() + shared.batch.get().0 >= shared.settings.buffer_bytes_max {
            shared.fails("it is not written as fast as requests come");
            shared.lose(1);
            return;
        }
        log_line(shared.settings.form, record, &mut lines);
        drop(lines);
        shared.wake();
    }

    /// Writes to another place from the next batch on; `done` is dropped when nothing is written to the old one any more.
    pub(super) fn reopen(&self, fd: OwnedFd, done: mpsc::Sender<Infallible>) {
        *self.0.next.borrow_mut() = Some(Reopened { target: Target::new(fd), _done: done });
        self.0.wake();
    }

    /// Waits until everything is written, unless nothing can be. The caller sets the bound.
    pub(super) async fn written(&self) {
        let is_waiting = || self.0.batch.get().1 > 0 || !self.0.lines.borrow().is_empty();
        while is_waiting() && !self.0.failing.get() {
            sleep(WRITTEN_POLL).await;
        }
    }

    /// Nobody is served any more: the writing task ends when it has nothing to write. What comes all the same waits for
    /// [`finish`](Self::finish).
    pub(super) fn close(&self) {
        self.0.closed.set(true);
        self.0.wake();
    }

    /// The last words: what connections that were cut have left behind, and what could not be written before. For the end of a
    /// core, when its runtime is gone; what cannot be written now is lost.
    pub(super) fn finish(&self) {
        let shared = &*self.0;
        let (batch, done) = shared.rest.take();
        // A batch that is still lent to the kernel is not here: it was not taken in time.
        let stuck = if batch.is_empty() { shared.batch.take().1 } else { 0 };
        let lines = [&batch[done..], shared.lines.borrow().as_slice()].concat();
        if lines.is_empty() && stuck == 0 {
            return shared.recovers();
        }
        let target = Rc::clone(&shared.target.borrow());
        let turn = shared.settings.sink.wait_turn(LAST_WRITE_WAIT);
        let (written, error) = target.file.write_within(&lines, LAST_WRITE_WAIT);
        drop(turn);
        let left = count_lines(&lines[written..]) + stuck;
        if left > 0 {
            shared.fails(&error.map_or_else(|| String::from("the server has ended"), |error| error.to_string()));
            shared.lose(left);
        }
        shared.recovers();
    }

    /// Records that were lost.
    pub(super) fn lost(&self) -> u64 {
        self.0.lost.get()
    }

    /// The number of a new connection, from 1.
    fn connection(&self) -> u64 {
        self.0.connections.add(1);
        self.0.connections.get()
    }

    fn core(&self) -> u32 {
        self.0.settings.core
    }

    fn pages(&self) -> Box<Pages> {
        self.0.spare.borrow_mut().pop().unwrap_or_default()
    }

    fn recycle(&self, pages: Box<Pages>) {
        let mut spare = self.0.spare.borrow_mut();
        if spare.len() < SPARE_PAGES_MAX && pages.is_small() {
            spare.push(pages);
        }
    }
}

impl Shared {
    fn wake(&self) {
        let waker = self.writer.borrow_mut().take();
        waker.into_iter().for_each(Waker::wake);
    }

    fn lose(&self, records: u64) {
        self.lost.add(records);
        self.settings.sink.lose(records);
    }

    /// Said once, when the first core has trouble.
    fn fails(&self, why: &str) {
        if !self.failing.replace(true) {
            self.settings.sink.begins(why);
        }
    }

    /// Said once, when no core has trouble any more.
    fn recovers(&self) {
        if self.failing.replace(false) {
            self.settings.sink.ends();
        }
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}
