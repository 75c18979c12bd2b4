//! The access log of a core: lines gather in memory and leave in one write at the end of the turn.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::rt::fs::File;
use crate::site::log_line::{Record, log_line};

/// Lines that wait for a slow log; beyond, lines are dropped and counted rather than held against the clients.
const WAITING_BYTES_MAX: usize = 4 << 20;

pub(super) struct AccessLog {
    shared: Rc<Shared>,
}

struct Shared {
    file: File,
    lines: RefCell<Vec<u8>>,
    writer: RefCell<Option<Waker>>,
    dropped: Cell<u64>,
}

impl AccessLog {
    /// Starts the writing task.
    pub(super) fn start(fd: OwnedFd) -> AccessLog {
        let shared = Rc::new(Shared {
            file: File::from(fd),
            lines: RefCell::default(),
            writer: RefCell::default(),
            dropped: Cell::new(0),
        });
        crate::rt::spawn_detached(write_lines(Rc::clone(&shared)));
        AccessLog { shared }
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
            *shared.writer.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
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
