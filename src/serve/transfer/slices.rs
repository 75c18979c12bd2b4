//! Parts of files that are not in the server's memory: by `sendfile(2)`, a slice a turn, so that connections take turns.

use std::io;
use std::iter;
use std::rc::Rc;

use super::{Cut, by_unloading, cold, flush, progress, send, unload};
use crate::http::Millis;
use crate::http::range::Span;
use crate::rt;
use crate::serve::file_cache::OpenFile;
use crate::serve::link::Link;
use crate::serve::worker::Worker;

/// One `sendfile(2)` on a socket that TCP paces (BBR): what is more than one buffer of the kernel (64 KiB) waits for a timer,
/// which costs more than the call (100 KiB: 13.9 us in slices of 60 KiB, 23.5 in one; docs/decisions/0014-large-files.md).
const PACED_SLICE_BYTES: usize = 60 << 10;
/// One `sendfile(2)` elsewhere, and so much is looked at together: whether it is in memory, and whether the file is as it was.
/// A socket takes no more than its buffer has room for, and the next connection waits for no more than this.
const SLICE_BYTES: usize = 1 << 20;
/// So much is read from a disk at once, and is looked at together where only the ends of it can be looked at.
pub(super) const WINDOW_BYTES: usize = 256 << 10;
/// Where there is no `sendfile`: memory that a client may hold for as long as it is slow.
const READ_BYTES: usize = 64 << 10;

/// The rest of a file that is being sent.
pub(in crate::serve) struct Unsent {
    file: Rc<OpenFile>,
    span: Span,
    /// In memory when it was last looked at, up to here.
    resident_to: u64,
    /// Somebody may have written to it since it was last compared with what it was.
    may_differ: bool,
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
    link.set_unsent(Unsent { may_differ: true, ..Unsent::just_found(file, span) });
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
                // By now it may have been written to, or left the memory.
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
    let most = if link.is_paced() { PACED_SLICE_BYTES } else { SLICE_BYTES };
    let most = unsent.span.len.min(most as u64) as usize;
    let len = unsent.look(most, worker.now_ms())?;
    let resident = len > 0 || most == 0;
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
    /// What is to be sent of a file that was as it should be just now, in this turn.
    pub(in crate::serve) fn just_found(file: Rc<OpenFile>, span: Span) -> Unsent {
        Unsent { file, span, resident_to: 0, may_differ: false }
    }

    /// How many of the next `most` bytes are in memory, from the first on. Who got a part of what was written into the file since
    /// is to see that his reply is not whole. So the last slice leaves only of a file that is as it was; before that it is asked
    /// now and then, for what would be sent in vain.
    fn look(&mut self, most: usize, now_ms: Millis) -> Result<usize, Cut> {
        let start = self.span.start;
        if most == 0 {
            return Ok(0);
        }
        let is_known = start + most as u64 <= self.resident_to;
        let is_last = most as u64 == self.span.len;
        if is_known && !is_last {
            return Ok(most);
        }
        if std::mem::replace(&mut self.may_differ, true) && !self.file.is_unchanged() {
            return Err(Cut);
        }
        if is_known {
            return Ok(most);
        }
        let window = if self.file.knows_every_page() { SLICE_BYTES } else { WINDOW_BYTES };
        let window = self.span.len.min(window as u64) as usize;
        // Where only the beginning is there, that leaves now.
        let mut parts =
            iter::once(window).chain([WINDOW_BYTES, PACED_SLICE_BYTES].into_iter().filter(|len| *len < window));
        let resident = parts.find(|len| self.file.was_resident(start, *len, now_ms)).unwrap_or(0);
        self.resident_to = start + resident as u64;
        Ok(most.min(resident))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::Builder;
    use crate::rt::fs::File;
    use std::time::{Duration, UNIX_EPOCH};

    /// A look at what is in memory covers many slices, on a paced socket, and in a file of up to a MiB it was the only one: what was
    /// written after it left under the old tag, and the reply was whole.
    #[test]
    fn what_is_written_between_two_slices_is_seen_before_the_last() {
        let mut written = tempfile::NamedTempFile::new().expect("a file");
        io::Write::write_all(&mut written, &[b'a'; 4 * PACED_SLICE_BYTES]).expect("write");
        // So that the next write changes it, however coarse the clock of the file system is.
        written.as_file().set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000_000)).expect("utimensat");
        let runtime = match Builder::new().build() {
            Ok(runtime) => runtime,
            Err(error) => return eprintln!("skipped: no io_uring here ({error})"),
        };
        runtime.block_on(async {
            let file = File::open(written.path()).await.expect("it is there");
            let span = Span { start: 0, len: 4 * PACED_SLICE_BYTES as u64 };
            let mut unsent = Unsent::just_found(Rc::new(OpenFile::unwatched(file)), span);
            let mut sent = 0;
            while unsent.span.len > 0 {
                match unsent.look(PACED_SLICE_BYTES, 1) {
                    Ok(len) => unsent.sent(len as u64),
                    Err(Cut) => break,
                }
                sent += 1;
                assert!(unsent.resident_to >= span.len, "nothing but the comparison is left to be done");
                if sent == 1 {
                    io::Write::write_all(&mut written, b"b").expect("write");
                }
            }
            assert_eq!((sent, unsent.span.len), (3, PACED_SLICE_BYTES as u64), "all but the last");
        });
    }
}
