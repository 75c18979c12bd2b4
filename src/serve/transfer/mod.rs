//! Sends what was decided. Short writes loop here and nowhere else, and every wait has the reply's deadline, which moves
//! with each byte that the client takes.

#![expect(clippy::manual_async_fn, reason = "an `async fn` keeps its arguments twice: see `conn::run`")]

mod cold;
mod farewell;
mod slices;
mod zero_copy;

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::pin;

use bytes::Bytes;

use crate::rt::net::{Message, Sending, TcpStream};
use crate::rt::time::{self, Sleep};
use crate::rt::{Bug, planted};

use super::access_log::Logged;
use super::input::Input;
use super::link::{Late, Link, by};
use super::worker::Worker;

pub(super) use farewell::{linger, send_last};
pub(super) use slices::{Slice, Unsent, file, next_slice, rest_of_file};
pub(super) use zero_copy::ZeroCopy;

/// The client is gone, or too slow: nothing more can be sent, and the connection is to be dropped.
#[derive(Debug)]
pub(in crate::serve) struct Cut;

/// Replies that have gathered, and a body behind them.
pub(super) type Gathered = Box<Message<Vec<u8>, Bytes>>;

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
                link.conn.sent_at_once(worker.now_ms(), count as u64);
                worker.metrics.sent_bytes.add(count as u64);
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
    if worker.zero_copy.is_for(body.len(), worker.now_ms()) {
        flush(link, worker).await?;
        body = Box::pin(zero_copy::send(link, worker, body)).await?;
        if body.is_empty() {
            return Ok(());
        }
    }
    let message = worker.message(std::mem::take(&mut link.out), body);
    send_message(link, worker, message, 0).await
}

/// As `flush_with`, where the next thing is to wait for the client: the usual way of a file in memory, and one that
/// allocates nothing. The rest is for [`sent_with`].
pub(super) fn start_with(link: &mut Link, worker: &Worker, body: Bytes) -> Sending<Gathered> {
    link.conn.sending(worker.now_ms());
    let message = worker.message(std::mem::take(&mut link.out), body);
    link.transport.stream().write_two_and_listen(message)
}

/// What became of it.
pub(super) fn sent_with(
    link: &mut Link,
    worker: &Worker,
    mut sending: Sending<Gathered>,
) -> impl Future<Output = Result<(), Cut>> {
    async move {
        let (sent, message) = (&mut sending).await;
        match sent {
            Ok(count) if count == message.bytes_len() => {
                link.conn.sent_at_once(worker.now_ms(), count as u64);
                worker.metrics.sent_bytes.add(count as u64);
                worker.recycle_message(message);
                Ok(())
            }
            sent => Box::pin(send_rest(link, worker, message, sent)).await,
        }
    }
}

async fn send_rest(link: &mut Link, worker: &Worker, message: Gathered, sent: io::Result<usize>) -> Result<(), Cut> {
    let start = match sent {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        sent => progress(&mut link.conn, worker, sent)?,
    };
    unload(link.transport.stream(), &mut link.input);
    send_message(link, worker, message, start).await
}

async fn send_message(link: &mut Link, worker: &Worker, mut message: Gathered, mut start: usize) -> Result<(), Cut> {
    link.conn.sending(worker.now_ms());
    while start < message.bytes_len() {
        let until = link.conn.reply_until(&worker.limits());
        let stream = link.transport.stream();
        let sent = stream.write_two(message, start);
        let sent = by_unloading(stream, Some(&mut link.input), &mut link.timer, until, sent).await;
        let (count, back) = sent.map_err(|_late| Cut)?;
        message = back;
        start += progress(&mut link.conn, worker, count)?;
        if start < message.bytes_len() {
            unload(link.transport.stream(), &mut link.input);
        }
    }
    worker.recycle_message(message);
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
    conn: &RefCell<&mut Logged>,
    timer: &mut Sleep,
    worker: &Worker,
    mut input: Option<&mut Input>,
    mut buffer: Vec<u8>,
    mut start: usize,
) -> Result<Vec<u8>, Cut> {
    conn.borrow_mut().sending(worker.now_ms());
    while start < buffer.len() {
        let until = conn.borrow().reply_until(&worker.limits());
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
pub(super) fn progress(conn: &mut Logged, worker: &Worker, count: io::Result<usize>) -> Result<usize, Cut> {
    match count {
        Ok(0) | Err(_) => Err(Cut),
        Ok(count) => {
            conn.sent(worker.now_ms(), count as u64);
            worker.metrics.sent_bytes.add(count as u64);
            Ok(count)
        }
    }
}
