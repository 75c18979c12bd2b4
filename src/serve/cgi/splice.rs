//! Large output without a copy: `splice(2)` from the script's pipe to the client's socket, plain and non-blocking (on the
//! ring it would go to a worker thread). 10 MiB cost 6.0 ms of CPU by buffers: docs/decisions/0020-spawner.md.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::task::Poll;

use crate::http::body::{CHUNK_END, chunk_head};
use crate::http::response::BodyFraming;
use crate::rt::net::{self, TcpStream};
use crate::rt::process::PipeReader;
use crate::rt::time::Sleep;
use crate::rt::yield_now;
use crate::site::cgi_reply::Output;

use super::super::link::by;
use super::super::transfer::{Cut, progress};
use super::super::worker::Worker;
use super::exchange::Shared;
use super::output::Body;

/// Pieces smaller than this are copied: a splice has its price, and a chunk of its own.
const PIECE_BYTES_MIN: u64 = 16 << 10;
/// What a pipe holds once its script has shown that it writes much. Below `fs.pipe-max-size`, and 64 scripts stay below what
/// an unprivileged user's pipes may hold together (`fs.pipe-user-pages-soft`, 64 MiB); where that is refused it stays at 64 KiB.
const PIPE_BYTES: usize = 256 << 10;

/// Moves output for as long as it comes in large pieces. Returns, with nothing half sent, when what is there is to be read: a
/// small piece, the end, or what a promised length does not cover. `out` then begins with what is still owed for the last chunk.
pub(super) async fn pour(
    shared: &Shared<'_>,
    worker: &Worker,
    stdout: &PipeReader,
    stream: &TcpStream,
    body: &mut Body,
    out: &mut Vec<u8>,
    timer: &mut Sleep,
) -> Result<(), Cut> {
    if !is_worth_it(body, stdout) {
        return Ok(());
    }
    // Out of descriptors: then by buffers.
    let Ok(socket) = stream.install().await else { return Ok(()) };
    // A refusal leaves it as it is.
    let _ = stdout.widen(PIPE_BYTES);
    let mut to = Client { shared, worker, stream, socket, timer };
    let is_chunked = body.framing == BodyFraming::Chunked;
    while is_worth_it(body, stdout) {
        let there = stdout.available().map_err(|_never| Cut)?;
        let count = if let Output::Length(_) = body.source { there.min(body.left) } else { there };
        if is_chunked {
            out.extend_from_slice(chunk_head(count as usize).as_ref());
        }
        to.send(out, true).await?;
        out.clear();
        shared.conn.borrow_mut().grown(body.sent + count);
        to.splice(stdout, count as usize, is_chunked).await?;
        if is_chunked {
            out.extend_from_slice(CHUNK_END);
        }
        body.sent += count;
        body.left = body.left.saturating_sub(count);
        if stdout.available().is_ok_and(|there| there == 0) && !stdout.is_closed() {
            // The script pauses: what it has written is to be seen to its end.
            to.send(out, false).await?;
            out.clear();
        }
        // Others of this core first; and the script goes on writing meanwhile.
        yield_now().await;
        until_readable(shared, stdout).await;
        shared.active(worker.now_ms());
    }
    Ok(())
}

fn is_worth_it(body: &Body, stdout: &PipeReader) -> bool {
    let is_plain = match body.source {
        Output::UntilEof => true,
        Output::Length(_) => body.left >= PIECE_BYTES_MIN,
        // The script's own chunks have to be read.
        Output::Chunked => false,
    };
    is_plain && !body.discards && stdout.available().is_ok_and(|there| there >= PIECE_BYTES_MIN)
}

/// Or until the script is gone and somebody else has held its stdout open for too long.
async fn until_readable(shared: &Shared<'_>, stdout: &PipeReader) {
    let mut readable = pin!(stdout.readable());
    poll_fn(|context| match readable.as_mut().poll(context) {
        Poll::Pending if shared.stdout_held.get() => Poll::Ready(()),
        // An error shows again when it is read.
        polled => polled.map(drop),
    })
    .await;
}

/// Where the output goes.
struct Client<'a, 'c> {
    shared: &'a Shared<'c>,
    worker: &'a Worker,
    stream: &'a TcpStream,
    socket: OwnedFd,
    timer: &'a mut Sleep,
}

impl Client<'_, '_> {
    async fn send(&mut self, bytes: &[u8], more: bool) -> Result<(), Cut> {
        self.all(bytes.len(), |socket, sent| net::send_now(socket, &bytes[sent..], more)).await
    }

    async fn splice(&mut self, stdout: &PipeReader, count: usize, more: bool) -> Result<(), Cut> {
        self.all(count, |socket, moved| stdout.splice_to(socket, count - moved, more)).await
    }

    /// Repeats a call that does not wait, until it has done `count`; it is told what it has done. Waits for the client in between.
    async fn all(&mut self, count: usize, call: impl Fn(&OwnedFd, usize) -> io::Result<usize>) -> Result<(), Cut> {
        let mut done = 0;
        self.shared.conn.borrow_mut().sending(self.worker.now_ms());
        while done < count {
            match call(&self.socket, done) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.until_writable().await?,
                result => {
                    done += progress(&mut self.shared.conn.borrow_mut(), self.worker, result)?;
                    self.shared.accepted(self.worker.now_ms());
                }
            }
        }
        Ok(())
    }

    async fn until_writable(&mut self) -> Result<(), Cut> {
        let until = self.shared.conn.borrow().reply_until(&self.worker.limits());
        self.shared.sending.set(true);
        let writable = by(self.timer, until, pin!(self.stream.writable())).await;
        self.shared.sending.set(false);
        writable.map_err(|_late| Cut)?.map_err(|_gone| Cut)
    }
}
