//! Parts of files that are not in memory: read on the ring into one of the core's few buffers, with more asked for ahead. What has
//! been read is in the page cache, too, and leaves from there: the buffer is free again before any client can be slow.

use std::io;
use std::rc::Rc;

use super::slices::{WINDOW_BYTES, send_gathered, send_now, writable};
use super::{Cut, unload, unloading};
use crate::http::range::Span;
use crate::rt::fs::{ReadAhead, ReadBuffers};
use crate::serve::file_cache::OpenFile;
use crate::serve::link::Link;
use crate::serve::worker::Worker;

/// How far ahead of a cold slice the disk is asked for more.
const AHEAD_BYTES: u64 = 1 << 20;

/// The cold parts of one reply.
#[derive(Default)]
pub(super) struct Reader {
    /// Asked for up to here.
    ahead: u64,
    _asking: Option<ReadAhead>,
}

impl Reader {
    /// Reads the first window of `span`. Returns how much of it has been sent, too: nothing where it can leave by
    /// `sendfile` now.
    pub(super) async fn fetch(
        &mut self,
        link: &mut Link,
        worker: &Worker,
        file: &Rc<OpenFile>,
        span: Span,
    ) -> Result<u64, Cut> {
        let len = span.len.min(WINDOW_BYTES as u64) as usize;
        let buffers = buffers(worker)?;
        // Whoever waits for a disk keeps nothing from the others.
        unload(link.transport.stream(), &mut link.input);
        let buffer = unloading(link.transport.stream(), &mut link.input, buffers.take()).await;
        self.read_ahead(file, span);
        let (count, buffer) = file.read_into(buffer, span.start, len).await;
        worker.metrics.slices_cold.add(1);
        link.conn.sending(worker.now_ms());
        match count.map_err(unreadable)? {
            // The file has shrunk: the promised length cannot be kept.
            0 => Err(Cut),
            _ if !file.is_unchanged() => Err(Cut),
            count if file.is_resident(span.start, count) => Ok(0),
            // Its file system keeps nothing, or memory is so short that it has gone again.
            _ if send_gathered(link, worker, true)? => match send_now(link, worker, &buffer, false)? {
                0 => {
                    drop(buffer);
                    writable(link, worker).await.map(|()| 0)
                }
                sent => Ok(sent as u64),
            },
            _ => Ok(0),
        }
    }

    /// So that the disk is busy while the network is.
    fn read_ahead(&mut self, file: &Rc<OpenFile>, span: Span) {
        let (next, end) = (span.start + WINDOW_BYTES as u64, span.start + span.len);
        let (from, to) = (self.ahead.max(next), end.min(next + AHEAD_BYTES));
        if from < to {
            self._asking = Some(file.shared().read_ahead(from, (to - from) as usize));
            self.ahead = to;
        }
    }
}

/// Made when the first cold slice is met: most servers never meet one.
fn buffers(worker: &Worker) -> Result<&ReadBuffers, Cut> {
    if let Some(buffers) = worker.cold.get() {
        return Ok(buffers);
    }
    let count = (worker.options.files.cold_buffer_bytes_max / WINDOW_BYTES).clamp(1, u16::MAX.into());
    let made = ReadBuffers::new(count as u16, WINDOW_BYTES).map_err(unreadable)?;
    Ok(worker.cold.get_or_init(|| made))
}

pub(super) fn unreadable(error: io::Error) -> Cut {
    tracing::warn!(%error, "a file cannot be read");
    Cut
}
