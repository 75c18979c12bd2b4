//! Parts of files that are not in the server's memory: by `sendfile(2)`, a slice a turn, so that connections take turns.

use std::io;
use std::rc::Rc;

use super::{Cut, by_unloading, cold, flush, progress, send, unload};
use crate::http::range::Span;
use crate::rt;
use crate::serve::file_cache::OpenFile;
use crate::serve::link::Link;
use crate::serve::worker::Worker;

/// One `sendfile(2)`: a segment of loopback, and no more than the kernel builds into one buffer (64 KiB) elsewhere. Under
/// BBR the kernel paces by itself where no `fq` does: what is more than one buffer waits for a timer, which costs more than
/// the call (100 KiB: 11.7 us in slices of 60 KiB, 19.4 in one; docs/decisions/0014-large-files.md).
pub(super) const SLICE_BYTES: usize = 60 << 10;
/// Of what has more than this left, slices are larger: pacing holds it up in any case, and calls count.
const LONG_BYTES: u64 = 1 << 20;
/// The slices of those; and so much is looked at together: whether it is in memory, and whether the file is as it was.
pub(super) const WINDOW_BYTES: usize = 256 << 10;
/// Where there is no `sendfile`: memory that a client may hold for as long as it is slow.
const READ_BYTES: usize = 64 << 10;

/// The rest of a file that is being sent.
pub(in crate::serve) struct Unsent {
    file: Rc<OpenFile>,
    span: Span,
    /// In memory when it was last looked at, up to here.
    resident_to: u64,
    /// It takes more than one slice: somebody may write to it meanwhile.
    takes_long: bool,
}

/// What a try at a slice came to.
pub(in crate::serve) enum Slice {
    /// It went out, or a part of it.
    Sent,
    /// The last byte went out.
    Over,
    /// The socket has no room.
    Full,
    /// It is not in memory.
    Cold,
    /// The file system has no `sendfile`.
    Unsupported,
}

/// Sends a part of an open file, after what has gathered.
pub(in crate::serve) async fn file(
    link: &mut Link,
    worker: &Worker,
    file: Rc<OpenFile>,
    span: Span,
) -> Result<(), Cut> {
    // What may be written to meanwhile is copied: the socket would hold its pages, and send what is in them by then.
    let span = read_and_send(link, worker, &file, span, Copy::WhileYoung).await?;
    // Where a real descriptor cannot be had, the file still can be read.
    if !link.install(worker).await {
        return read_and_send(link, worker, &file, span, Copy::ToTheEnd).await.map(drop);
    }
    link.set_unsent(Unsent::new(file, span));
    let first = next_slice(link, worker)?;
    rest_of_file(link, worker, first).await
}

/// Sends what is left after a try that came to `tried`.
pub(in crate::serve) async fn rest_of_file(link: &mut Link, worker: &Worker, mut tried: Slice) -> Result<(), Cut> {
    let mut reader = cold::Reader::default();
    loop {
        match tried {
            Slice::Over => break,
            Slice::Sent => rt::yield_now().await,
            Slice::Full => {
                writable(link, worker).await?;
                // By now it may have changed, or left the memory.
                link.unsent().into_iter().for_each(|unsent| unsent.resident_to = 0);
            }
            Slice::Cold => {
                let Some(mut unsent) = link.take_unsent() else { break };
                let sent = reader.fetch(link, worker, &unsent.file, unsent.span).await?;
                unsent.sent(sent);
                link.set_unsent(unsent);
            }
            Slice::Unsupported => {
                let Some(unsent) = link.take_unsent() else { break };
                read_and_send(link, worker, &unsent.file, unsent.span, Copy::ToTheEnd).await?;
            }
        }
        tried = next_slice(link, worker)?;
    }
    link.uninstall_if_crowded(worker);
    Ok(())
}

/// One try at the next slice, with what has gathered before it. It never waits, and allocates nothing: on a connection that
/// has a descriptor, and a client that keeps up, there is nothing else to do for a file.
pub(in crate::serve) fn next_slice(link: &mut Link, worker: &Worker) -> Result<Slice, Cut> {
    let Some(mut unsent) = link.take_unsent() else { return Ok(Slice::Over) };
    link.conn.sending(worker.now_ms());
    let slice = slice(link, worker, &mut unsent)?;
    if !matches!(slice, Slice::Over) {
        link.set_unsent(unsent);
    }
    Ok(slice)
}

fn slice(link: &mut Link, worker: &Worker, unsent: &mut Unsent) -> Result<Slice, Cut> {
    let most = if unsent.span.len > LONG_BYTES { WINDOW_BYTES } else { SLICE_BYTES };
    let len = unsent.span.len.min(most as u64) as usize;
    let resident = unsent.look(len)?;
    worker.metrics.slices_absent.add(u64::from(!resident));
    // The head leaves in the first segment of the body, unless a disk stands between them.
    if !send_gathered(link, worker, resident && len > 0)? {
        return Ok(Slice::Full);
    }
    let (true, Some(socket)) = (resident, link.socket()) else { return Ok(Slice::Cold) };
    match unsent.file.send_to(socket, unsent.span.start, len) {
        Ok(0) if len == 0 => Ok(Slice::Over),
        // The file has shrunk: the promised length cannot be kept.
        Ok(0) => Err(Cut),
        Ok(count) => {
            worker.metrics.slices_sent.add(1);
            progress(&mut link.conn, worker, Ok(count))?;
            unsent.sent(count as u64);
            Ok(if unsent.span.len == 0 { Slice::Over } else { Slice::Sent })
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Slice::Full),
        // A signal came before a byte left.
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Slice::Sent),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(Slice::Unsupported),
        Err(_gone) => Err(Cut),
    }
}

impl Unsent {
    /// What is to be sent of a file that was as it should be just now.
    pub(in crate::serve) fn new(file: Rc<OpenFile>, span: Span) -> Unsent {
        Unsent { file, span, resident_to: 0, takes_long: span.len > SLICE_BYTES as u64 }
    }

    /// Whether the next `len` bytes are in memory. What was written into the file since would be sent as a part of what it
    /// was: then the client is to see that its reply is not whole.
    fn look(&mut self, len: usize) -> Result<bool, Cut> {
        if len == 0 || self.span.start + len as u64 <= self.resident_to {
            return Ok(true);
        }
        if self.takes_long && !self.file.is_unchanged() {
            return Err(Cut);
        }
        let window = self.span.len.min(WINDOW_BYTES as u64) as usize;
        // Where only the beginning is there, that leaves now.
        let resident = [window, len].into_iter().find(|len| self.file.is_resident(self.span.start, *len));
        self.resident_to = resident.map_or(0, |len| self.span.start + len as u64);
        Ok(resident.is_some())
    }

    fn sent(&mut self, count: u64) {
        self.span = rest(self.span, count);
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
    let until = link.conn.reply_until(&worker.limits());
    let stream = link.transport.stream();
    unload(stream, &mut link.input);
    let writable = by_unloading(stream, Some(&mut link.input), &mut link.timer, until, stream.writable()).await;
    writable.map_err(|_late| Cut)?.map_err(|_gone| Cut)
}

/// How much of a file is copied.
#[derive(Clone, Copy, PartialEq)]
enum Copy {
    /// Until it has been left alone for a while.
    WhileYoung,
    ToTheEnd,
}

/// Reads through the ring into a buffer, and sends that: never waits for a disk on the core's own thread. What is left.
async fn read_and_send(
    link: &mut Link,
    worker: &Worker,
    file: &Rc<OpenFile>,
    mut span: Span,
    copy: Copy,
) -> Result<Span, Cut> {
    let goes_on = |span: Span| span.len > 0 && (copy == Copy::ToTheEnd || file.changed_lately());
    if !goes_on(span) {
        return Ok(span);
    }
    flush(link, worker).await?;
    let mut buffer = Vec::with_capacity(READ_BYTES.min(span.len as usize));
    while goes_on(span) {
        let (count, back) = file.read_at(buffer, span.start).await;
        buffer = back;
        // Shorter than was promised, or another version: better no end than a wrong one.
        if count.map_err(cold::unreadable)? == 0 || !file.is_unchanged() {
            return Err(Cut);
        }
        buffer.truncate(span.len.min(buffer.len() as u64) as usize);
        span = rest(span, buffer.len() as u64);
        link.out = buffer;
        buffer = send(link, worker).await?;
        if span.len > 0 {
            unload(link.transport.stream(), &mut link.input);
        }
    }
    Ok(span)
}

fn rest(span: Span, sent: u64) -> Span {
    Span { start: span.start + sent, len: span.len - sent }
}
