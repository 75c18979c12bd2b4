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

use super::input::Input;
use super::link::{Late, Link, Transport, by};
use super::worker::Worker;

/// One `sendfile(2)`: large enough that its cost does not matter (a syscall a 256 KiB), small enough that a disk, or one
/// fast client, cannot hold the core for long.
const SLICE_BYTES: usize = 256 << 10;

/// The client is gone, or too slow: nothing more can be sent, and the connection is to be dropped.
#[derive(Debug)]
pub(super) struct Cut;

/// Sends what has gathered in `link.out`.
pub(super) async fn flush(link: &mut Link, worker: &Worker) -> Result<(), Cut> {
    if link.out.is_empty() {
        return Ok(());
    }
    let buffer = send(link, worker).await?;
    worker.recycle(buffer);
    Ok(())
}

/// As `flush`, before waiting for the next request: the usual way of a reply. It touches no timer: the send is over with
/// the turn that submits it, or its rest goes the slow way.
pub(super) fn flush_and_listen(link: &mut Link, worker: &Worker) -> impl Future<Output = Result<(), Cut>> {
    async move {
        if link.out.is_empty() {
            return Ok(());
        }
        link.conn.sending(worker.now_ms());
        let sent = link.transport.stream().write_and_listen(std::mem::take(&mut link.out)).await;
        match sent {
            (Ok(count), buffer) if count == buffer.len() => {
                link.conn.sent(worker.now_ms(), count as u64);
                worker.recycle(buffer);
                Ok(())
            }
            (sent, buffer) => Box::pin(send_slowly(link, worker, sent, buffer)).await,
        }
    }
}

/// The rest of a reply that its client does not take at once.
async fn send_slowly(link: &mut Link, worker: &Worker, sent: io::Result<usize>, buffer: Vec<u8>) -> Result<(), Cut> {
    let Link { transport, conn, timer, input, .. } = link;
    let start = match sent {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        sent => progress(conn, worker, sent)?,
    };
    if planted(Bug::ShortSendIgnored) {
        return Ok(());
    }
    unload(transport.stream(), input);
    let buffer = send_all(transport.stream(), &RefCell::new(conn), timer, worker, Some(input), buffer, start).await?;
    worker.recycle(buffer);
    Ok(())
}

/// Sends what has gathered in `link.out`, and the bytes behind it, without copying them.
pub(super) async fn flush_with(link: &mut Link, worker: &Worker, mut body: Bytes) -> Result<(), Cut> {
    let mut head = std::mem::take(&mut link.out);
    let whole = head.len() + body.len();
    let mut start = 0;
    link.conn.sending(worker.now_ms());
    while start < whole {
        let until = link.conn.reply_until(&worker.limits);
        let stream = link.transport.stream();
        let sent = stream.write_two(head, body, start);
        let sent = by_unloading(stream, Some(&mut link.input), &mut link.timer, until, sent).await;
        let (count, back, rest) = sent.map_err(|_late| Cut)?;
        (head, body) = (back, rest);
        start += progress(&mut link.conn, worker, count)?;
        if start < whole {
            unload(link.transport.stream(), &mut link.input);
        }
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
        if at < end {
            unload(link.transport.stream(), &mut link.input);
        }
    }
    Ok(())
}

/// Sends `link.out` and hands the buffer back.
async fn send(link: &mut Link, worker: &Worker) -> Result<Vec<u8>, Cut> {
    let Link { transport, conn, timer, out, input, .. } = link;
    let out = std::mem::take(out);
    send_all(transport.stream(), &RefCell::new(conn), timer, worker, Some(input), out, 0).await
}

/// Sends a buffer from `start` on and hands it back. Without `input`, somebody else is reading from the same connection
/// meanwhile.
pub(super) async fn send_all(
    stream: &TcpStream,
    conn: &RefCell<&mut Conn>,
    timer: &mut Sleep,
    worker: &Worker,
    mut input: Option<&mut Input>,
    mut buffer: Vec<u8>,
    mut start: usize,
) -> Result<Vec<u8>, Cut> {
    conn.borrow_mut().sending(worker.now_ms());
    while start < buffer.len() {
        let until = conn.borrow().reply_until(&worker.limits);
        let sent = stream.write_from(buffer, start);
        let sent = by_unloading(stream, input.as_deref_mut(), timer, until, sent).await;
        let (count, back) = sent.map_err(|_late| Cut)?;
        buffer = back;
        start += progress(&mut conn.borrow_mut(), worker, count)?;
        if let Some(input) = &mut input
            && start < buffer.len()
        {
            unload(stream, input);
        }
        if planted(Bug::ShortSendIgnored) {
            break;
        }
    }
    Ok(buffer)
}

/// While a client is slow to read its reply it keeps no buffers from the others: a few dozen such clients, each with
/// some requests sent ahead, would hold all of the pool, and nobody on the core be heard. So what they have sent is
/// copied out, and no more is received; that is at most what one receive may hold.
fn unload(stream: &TcpStream, input: &mut Input) {
    input.release();
    stream.unload(|bytes| input.append(&bytes));
}

/// How long one send may take before it is slow, and how often it is looked after then.
const UNLOAD_MS: u64 = 100;

/// Waits for what is not the client's doing (a place in the queue, a script), and lets the client keep nothing in the
/// pool meanwhile.
pub(super) async fn unloading<F: Future>(stream: &TcpStream, input: &mut Input, future: F) -> F::Output {
    let mut future = pin!(future);
    let mut timer = time::sleep_until(time::Instant::now());
    loop {
        let soon = time::Instant::now().as_millis() + UNLOAD_MS;
        match by(&mut timer, soon, future.as_mut()).await {
            Ok(output) => return output,
            Err(Late) => unload(stream, input),
        }
    }
}

/// As `by`, for a send that may turn out to be slow.
async fn by_unloading<F: Future>(
    stream: &TcpStream,
    input: Option<&mut Input>,
    timer: &mut Sleep,
    until: u64,
    send: F,
) -> Result<F::Output, Late> {
    let mut send = pin!(send);
    let Some(input) = input else { return by(timer, until, send).await };
    loop {
        let soon = until.min(time::Instant::now().as_millis() + UNLOAD_MS);
        match by(timer, soon, send.as_mut()).await {
            Err(Late) if soon < until => unload(stream, input),
            ended => return ended,
        }
    }
}

/// Notes what was sent.
pub(super) fn progress(conn: &mut Conn, worker: &Worker, count: io::Result<usize>) -> Result<usize, Cut> {
    match count {
        Ok(0) | Err(_) => Err(Cut),
        Ok(count) => {
            conn.sent(worker.now_ms(), count as u64);
            Ok(count)
        }
    }
}

/// The largest reply that is left to the kernel as a whole: its progress cannot be seen, so it has to be so small that a
/// client which is only slow has taken it long before the deadline.
const LAST_BYTES_MAX: usize = 8 << 10;

/// Sends what has gathered and closes: the last data and the FIN leave in one segment.
pub(super) async fn send_last(mut link: Link, worker: &Worker) {
    if link.out.len() > LAST_BYTES_MAX {
        // Whoever is gone or too slow is cut by the drop, as everybody is closed by it.
        let _ = flush(&mut link, worker).await;
        return;
    }
    let Link { transport: Transport::Plain(stream), mut conn, out, mut timer, .. } = link;
    conn.sending(worker.now_ms());
    let until = conn.reply_until(&worker.limits);
    if let Ok((_sent, buffer)) = by(&mut timer, until, stream.write_last(out)).await {
        worker.recycle(buffer);
    }
}

/// How long a connection that is closing waits for its client to finish, and how much it reads from it meanwhile.
const LINGER_MS_MAX: u64 = 2_000;
const LINGER_BYTES_MAX: usize = 1 << 20;

/// Closes our side and reads what is still coming, for a while: a plain close would answer it with a reset, which
/// destroys the reply on its way (RFC 9112 section 9.6).
pub(super) async fn linger(link: &mut Link, worker: &Worker) {
    if flush(link, worker).await.is_err() {
        return;
    }
    if let Err(error) = link.transport.stream().shutdown(std::net::Shutdown::Write).await
        // Out of descriptors, our side stays open, and the client has only the reply's word that it is the last.
        && !matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
    {
        return;
    }
    let until = time::Instant::now().as_millis() + LINGER_MS_MAX;
    let mut bytes = link.input.unread().len();
    link.input = Input::Empty;
    while bytes < LINGER_BYTES_MAX {
        match link.recv(until).await {
            Ok(Ok(Some(received))) => bytes += received.len(),
            _ => return,
        }
    }
}
