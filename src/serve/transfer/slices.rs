//! Parts of files that are not in memory, a slice at a time.

use std::io;
use std::rc::Rc;

use crate::http::range::Span;

use super::{Cut, by_unloading, flush, progress, send, unload};
use crate::serve::file_cache::OpenFile;
use crate::serve::link::Link;
use crate::serve::worker::Worker;

/// One `sendfile(2)`: large enough that its cost does not matter (a syscall a 256 KiB), small enough that a disk, or one
/// fast client, cannot hold the core for long.
const SLICE_BYTES: usize = 256 << 10;

/// Sends a part of an open file, after what has gathered.
pub(in crate::serve) async fn file(
    link: &mut Link,
    worker: &Worker,
    file: &Rc<OpenFile>,
    span: Span,
) -> Result<(), Cut> {
    flush(link, worker).await?;
    // Where a real descriptor cannot be had, the file still can be read. So is what may be written to meanwhile: the
    // socket would hold its pages, and send what is in them by then.
    if !file.changed_lately()
        && link.transport.can_sendfile()
        && let Ok(socket) = link.transport.stream().install().await
    {
        return sendfile(link, worker, file, &socket, span).await;
    }
    read_and_send(link, worker, file, span).await
}

/// `sendfile(2)`, a slice a turn, so that connections take turns; cold slices are read through the ring.
async fn sendfile(
    link: &mut Link,
    worker: &Worker,
    file: &Rc<OpenFile>,
    socket: &std::os::fd::OwnedFd,
    span: Span,
) -> Result<(), Cut> {
    let (mut at, end) = (span.start, span.start + span.len);
    link.conn.sending(worker.now_ms());
    while at < end {
        let slice = (end - at).min(SLICE_BYTES as u64);
        // What has been promised is no longer there: better no end than a wrong one.
        if !file.is_unchanged() {
            return Err(Cut);
        }
        // sendfile has no "do not wait": ask whether both ends of the slice are in memory. A hole between them can
        // still hold the core, for at most one slice's worth of disk.
        if !file.is_cached(at) || !file.is_cached(at + slice - 1) {
            read_and_send(link, worker, file, Span { start: at, len: slice }).await?;
            at += slice;
            continue;
        }
        match file.send_to(socket, at, slice as usize) {
            // The file has shrunk: the promised length cannot be kept.
            Ok(0) => return Err(Cut),
            Ok(count) => {
                at += progress(&mut link.conn, worker, Ok(count))? as u64;
                crate::rt::yield_now().await;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let until = link.conn.reply_until(&worker.limits);
                let stream = link.transport.stream();
                unload(stream, &mut link.input);
                let writable =
                    by_unloading(stream, Some(&mut link.input), &mut link.timer, until, stream.writable()).await;
                writable.map_err(|_late| Cut)?.map_err(|_gone| Cut)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                return read_and_send(link, worker, file, Span { start: at, len: end - at }).await;
            }
            Err(_gone) => return Err(Cut),
        }
    }
    Ok(())
}

/// Reads through the ring into a buffer, and sends that: never waits for a disk on the core's own thread.
async fn read_and_send(link: &mut Link, worker: &Worker, file: &Rc<OpenFile>, span: Span) -> Result<(), Cut> {
    let (mut at, end) = (span.start, span.start + span.len);
    let mut buffer = Vec::with_capacity(SLICE_BYTES.min(span.len as usize).max(1));
    while at < end {
        let (count, back) = file.read_at(buffer, at).await;
        buffer = back;
        let count = count.map_err(|error| {
            tracing::warn!(%error, "a file cannot be read");
            Cut
        })?;
        // Asked after the copy: all of it is of the version that the head is about, or none of it is sent.
        if count == 0 || !file.is_unchanged() {
            return Err(Cut);
        }
        buffer.truncate((end - at).min(count as u64) as usize);
        at += buffer.len() as u64;
        link.out = buffer;
        buffer = send(link, worker).await?;
        if at < end {
            unload(link.transport.stream(), &mut link.input);
        }
    }
    Ok(())
}
