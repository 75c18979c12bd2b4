//! Sends what was decided. Short writes loop here and nowhere else, and every wait has the reply's deadline, which moves
//! with each byte that the client takes.

#![expect(clippy::manual_async_fn, reason = "an `async fn` keeps its arguments twice: see `conn::run`")]

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;

use bytes::Bytes;

use crate::http::conn::Conn;
use crate::http::range::Span;
use crate::rt::fs::File;
use crate::rt::net::TcpStream;
use crate::rt::time::{self, Sleep};
use crate::rt::{Bug, planted};

use super::link::{Link, by};
use super::worker::Worker;

/// One `sendfile(2)`: large enough that its cost does not matter (a syscall a 256 KiB), small enough that a disk, or one
/// fast client, cannot hold the core for long.
const SLICE_BYTES: usize = 256 << 10;

/// The client is gone, or too slow: nothing more can be sent, and the connection is to be dropped.
#[derive(Debug)]
pub(super) struct Cut;

/// Sends what has gathered in `link.out`.
pub(super) fn flush(link: &mut Link, worker: &Worker) -> impl Future<Output = Result<(), Cut>> {
    async move {
        if link.out.is_empty() {
            return Ok(());
        }
        // As `send`, whose own future would be one more layer in every connection.
        let Link { transport, conn, timer, out, .. } = link;
        let out = std::mem::take(out);
        let buffer = send_all(transport.stream(), &RefCell::new(conn), timer, worker, out).await?;
        worker.recycle(buffer);
        Ok(())
    }
}

/// Sends what has gathered in `link.out`, and the bytes behind it, without copying them.
pub(super) async fn flush_with(link: &mut Link, worker: &Worker, mut body: Bytes) -> Result<(), Cut> {
    let mut head = std::mem::take(&mut link.out);
    let whole = head.len() + body.len();
    let mut start = 0;
    link.conn.sending(worker.now_ms());
    while start < whole {
        let until = link.conn.reply_until(&worker.limits);
        let sent = pin!(link.transport.stream().write_two(head, body, start));
        let (count, back, rest) = by(&mut link.timer, until, sent).await.map_err(|_late| Cut)?;
        (head, body) = (back, rest);
        start += progress(&mut link.conn, worker, count)?;
    }
    worker.recycle(head);
    Ok(())
}

/// Sends a part of an open file, after what has gathered.
pub(super) async fn file(link: &mut Link, worker: &Worker, file: &Rc<File>, span: Span) -> Result<(), Cut> {
    flush(link, worker).await?;
    // Where a real descriptor cannot be had, the file still can be read.
    if link.transport.can_sendfile()
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
    file: &Rc<File>,
    socket: &std::os::fd::OwnedFd,
    span: Span,
) -> Result<(), Cut> {
    let (mut at, end) = (span.start, span.start + span.len);
    link.conn.sending(worker.now_ms());
    while at < end {
        let slice = (end - at).min(SLICE_BYTES as u64);
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
                let writable = pin!(link.transport.stream().writable());
                by(&mut link.timer, until, writable).await.map_err(|_late| Cut)?.map_err(|_gone| Cut)?;
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
async fn read_and_send(link: &mut Link, worker: &Worker, file: &Rc<File>, span: Span) -> Result<(), Cut> {
    let (mut at, end) = (span.start, span.start + span.len);
    let mut buffer = Vec::with_capacity(SLICE_BYTES.min(span.len as usize).max(1));
    while at < end {
        let (count, back) = file.read_at(buffer, at).await;
        buffer = back;
        let count = count.map_err(|error| {
            tracing::warn!(%error, "a file cannot be read");
            Cut
        })?;
        if count == 0 {
            return Err(Cut);
        }
        buffer.truncate((end - at).min(count as u64) as usize);
        at += buffer.len() as u64;
        link.out = buffer;
        buffer = send(link, worker).await?;
    }
    Ok(())
}

/// Sends `link.out` and hands the buffer back.
async fn send(link: &mut Link, worker: &Worker) -> Result<Vec<u8>, Cut> {
    let Link { transport, conn, timer, out, .. } = link;
    send_all(transport.stream(), &RefCell::new(conn), timer, worker, std::mem::take(out)).await
}

/// Sends a buffer and hands it back, while somebody else may be reading from the same connection.
pub(super) fn send_all(
    stream: &TcpStream,
    conn: &RefCell<&mut Conn>,
    timer: &mut Sleep,
    worker: &Worker,
    mut buffer: Vec<u8>,
) -> impl Future<Output = Result<Vec<u8>, Cut>> {
    async move {
        let mut start = 0;
        conn.borrow_mut().sending(worker.now_ms());
        while start < buffer.len() {
            let until = conn.borrow().reply_until(&worker.limits);
            let (count, back) = by(timer, until, stream.write_from(buffer, start)).await.map_err(|_late| Cut)?;
            buffer = back;
            start += progress(&mut conn.borrow_mut(), worker, count)?;
            if planted(Bug::ShortSendIgnored) {
                break;
            }
        }
        Ok(buffer)
    }
}

/// Notes what was sent.
fn progress(conn: &mut Conn, worker: &Worker, count: io::Result<usize>) -> Result<usize, Cut> {
    match count {
        Ok(0) | Err(_) => Err(Cut),
        Ok(count) => {
            conn.sent(worker.now_ms(), count as u64);
            Ok(count)
        }
    }
}

/// How long a connection that is closing waits for its client to finish, and how much it reads from it meanwhile.
const LINGER_MS_MAX: u64 = 2_000;
const LINGER_BYTES_MAX: usize = 1 << 20;

/// Closes our side and reads what is still coming, for a while: a plain close would answer it with a reset, which
/// destroys the reply on its way (RFC 9112 section 9.6).
pub(super) async fn linger(link: &mut Link, worker: &Worker) {
    if link.transport.stream().shutdown(std::net::Shutdown::Write).await.is_err() {
        return;
    }
    let until = time::Instant::now().as_millis() + LINGER_MS_MAX;
    let mut bytes = link.input.unread().len();
    link.input = super::input::Input::Empty;
    while bytes < LINGER_BYTES_MAX && !worker.draining.get() {
        match link.recv(until).await {
            Ok(Ok(Some(received))) => bytes += received.len(),
            _ => return,
        }
    }
}
