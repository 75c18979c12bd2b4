//! Parts of files that are not in the server's memory: by `sendfile(2)`, a slice a turn, so that connections take turns.

use std::io;
use std::rc::Rc;

use super::{Cut, by_unloading, cold, flush, progress, send, unload};
use crate::http::range::Span;
use crate::rt;
use crate::rt::fs::File;
use crate::serve::link::Link;
use crate::serve::worker::Worker;

/// One `sendfile(2)`: large enough that its cost does not matter, small enough that one fast client does not hold the core
/// for long (a slice is 20 to 40 us).
pub(super) const SLICE_BYTES: usize = 256 << 10;
/// Where there is no `sendfile`: memory that a client may hold for as long as it is slow.
const READ_BYTES: usize = 64 << 10;

/// What a try at a slice came to.
pub(super) enum Slice {
    /// So many bytes went out.
    Sent(u64),
    /// The socket has no room.
    Full,
    /// It is not in memory.
    Cold,
    /// The file system has no `sendfile`.
    Unsupported,
}

/// Sends a part of an open file, after what has gathered.
pub(in crate::serve) async fn file(link: &mut Link, worker: &Worker, file: &Rc<File>, span: Span) -> Result<(), Cut> {
    // Where a real descriptor cannot be had, the file still can be read.
    let sent = match link.install(worker).await {
        true => slices(link, worker, file, span).await,
        false => read_and_send(link, worker, file, span).await,
    };
    link.uninstall_if_crowded(worker);
    sent
}

/// As `file`, for what is in memory and leaves at once, on a connection that has a real descriptor: the usual way of a file
/// on such a connection, and one that allocates nothing. What is left when it does not is for `file`.
pub(in crate::serve) fn file_at_once(
    link: &mut Link,
    worker: &Worker,
    file: &Rc<File>,
    span: Span,
) -> Result<Option<Span>, Cut> {
    if !link.is_installed() || span.len > SLICE_BYTES as u64 {
        return Ok(Some(span));
    }
    link.conn.sending(worker.now_ms());
    match slice(link, worker, file, span)? {
        Slice::Sent(count) if count == span.len => Ok(None),
        Slice::Sent(count) => Ok(Some(rest(span, count))),
        Slice::Full | Slice::Cold | Slice::Unsupported => Ok(Some(span)),
    }
}

async fn slices(link: &mut Link, worker: &Worker, file: &Rc<File>, mut span: Span) -> Result<(), Cut> {
    let before = changed_at(file)?;
    let mut reader = cold::Reader::new(file);
    while span.len > 0 {
        link.conn.sending(worker.now_ms());
        match slice(link, worker, file, span)? {
            Slice::Sent(count) => {
                span = rest(span, count);
                rt::yield_now().await;
            }
            Slice::Full => writable(link, worker).await?,
            Slice::Cold => span = rest(span, reader.fetch(link, worker, span).await?),
            Slice::Unsupported => return read_and_send(link, worker, file, span).await,
        }
        // What was written into it since would be sent as a part of what it was: the client is to see that it is not whole.
        if span.len > 0 && changed_at(file)? != before {
            return Err(Cut);
        }
    }
    Ok(())
}

/// One try at one slice, with what has gathered before it; it never waits.
pub(super) fn slice(link: &mut Link, worker: &Worker, file: &Rc<File>, span: Span) -> Result<Slice, Cut> {
    let len = span.len.min(SLICE_BYTES as u64) as usize;
    let resident = file.resident(span.start, len);
    // The head leaves in the first segment of the body, unless a disk stands between them.
    if !send_gathered(link, worker, resident.is_some())? {
        return Ok(Slice::Full);
    }
    let (Some(resident), Some(socket)) = (resident, link.socket()) else { return Ok(Slice::Cold) };
    match resident.send_to(socket) {
        // The file has shrunk: the promised length cannot be kept.
        Ok(0) => Err(Cut),
        Ok(count) => {
            worker.metrics.slices_sent.add(1);
            progress(&mut link.conn, worker, Ok(count)).map(|count| Slice::Sent(count as u64))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Slice::Full),
        // A signal came before a byte left.
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Slice::Sent(0)),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(Slice::Unsupported),
        Err(_gone) => Err(Cut),
    }
}

/// Sends `link.out` as far as there is room. True when nothing of it is left.
pub(super) fn send_gathered(link: &mut Link, worker: &Worker, more: bool) -> Result<bool, Cut> {
    if link.out.is_empty() {
        return Ok(true);
    }
    let out = std::mem::take(&mut link.out);
    let sent = send_now(link, worker, &out, more);
    match sent {
        Ok(count) if count == out.len() => {
            worker.recycle(out);
            Ok(true)
        }
        sent => {
            link.out = out;
            link.out.drain(..sent?);
            Ok(false)
        }
    }
}

/// How many of these bytes there was room for.
pub(super) fn send_now(link: &mut Link, worker: &Worker, bytes: &[u8], more: bool) -> Result<usize, Cut> {
    let Some(socket) = link.socket() else { return Ok(0) };
    match rt::net::send_now(socket, bytes, more) {
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(0),
        sent => progress(&mut link.conn, worker, sent),
    }
}

/// Waits until the socket takes more, for as long as its client may be slow.
pub(super) async fn writable(link: &mut Link, worker: &Worker) -> Result<(), Cut> {
    let until = link.conn.reply_until(&worker.limits);
    let stream = link.transport.stream();
    unload(stream, &mut link.input);
    let writable = by_unloading(stream, Some(&mut link.input), &mut link.timer, until, stream.writable()).await;
    writable.map_err(|_late| Cut)?.map_err(|_gone| Cut)
}

/// Reads through the ring into a buffer, and sends that: never waits for a disk on the core's own thread.
async fn read_and_send(link: &mut Link, worker: &Worker, file: &Rc<File>, span: Span) -> Result<(), Cut> {
    flush(link, worker).await?;
    let (mut at, end) = (span.start, span.start + span.len);
    let mut buffer = Vec::with_capacity(READ_BYTES.min(span.len as usize).max(1));
    while at < end {
        let (count, back) = file.read_at(buffer, at).await;
        buffer = back;
        if count.map_err(cold::unreadable)? == 0 {
            return Err(Cut);
        }
        buffer.truncate((end - at).min(buffer.len() as u64) as usize);
        at += buffer.len() as u64;
        link.out = buffer;
        buffer = send(link, worker).await?;
        if at < end {
            unload(link.transport.stream(), &mut link.input);
        }
    }
    Ok(())
}

fn rest(span: Span, sent: u64) -> Span {
    Span { start: span.start + sent, len: span.len - sent }
}

/// What changes when a file is written to; not when it is renamed, linked or deleted while it is sent.
fn changed_at(file: &File) -> Result<(u64, (i64, u32)), Cut> {
    file.metadata().map(|facts| (facts.len, facts.mtime)).map_err(|_| Cut)
}
