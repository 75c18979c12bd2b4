//! A script's output on its way to the client: the head as `site` understands it, the body framed for the client, each
//! piece forwarded when it comes.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::process::ExitStatus;
use std::task::Poll;
use std::time::Duration;

use crate::http::body::{CHUNK_END, Dechunk, Decoded, LAST_CHUNK, chunk_head};
use crate::http::response::BodyFraming;
use crate::rt::RecvBuf;
use crate::rt::net::TcpStream;
use crate::rt::process::PipeReader;
use crate::rt::time::{self, Sleep};
use crate::site::cgi_reply::{Head, Output, Parsed};

use super::super::transfer;
use super::super::worker::Worker;
use super::Call;
use super::exchange::Shared;
use super::splice;

/// What became of a script's output.
pub(super) enum Forwarded {
    /// The client has all of it.
    Whole,
    /// It is to be served from another path.
    Redirect(Vec<u8>),
    /// It was not a reply, and why. Nothing was sent.
    NoReply(&'static str),
    /// It broke off, and why. A part was sent.
    Broken(&'static str),
    /// The client does not take it.
    ClientGone,
}

/// Reads stdout to its end and sends what it means.
pub(super) async fn forward(
    shared: &Shared<'_>,
    worker: &Worker,
    call: &Call,
    stdout: &PipeReader,
    stream: &TcpStream,
    out: &mut Vec<u8>,
    timer: &mut Sleep,
) -> Forwarded {
    let said = shared.said.take();
    // All of the output is in `head`.
    let mut is_all = said.is_some();
    let mut is_news = is_all;
    let mut head = said.unwrap_or_default();
    let mut reader = Head::default();
    let (status, mut body, rest) = loop {
        if !std::mem::take(&mut is_news) {
            match read(shared, worker, call, stdout).await {
                Some(bytes) => head.extend_from_slice(&bytes),
                None => {
                    // For the log: it says more with the exit status, which is not needed otherwise.
                    let _ = exit_soon(shared, call).await;
                    return Forwarded::NoReply(match head.is_empty() {
                        true => "it ended without a word",
                        false => "its output ended inside its head",
                    });
                }
            }
        }
        if !is_all && stdout.is_closed() {
            while stdout.available().is_ok_and(|there| there > 0)
                && let Some(bytes) = read(shared, worker, call, stdout).await
            {
                head.extend_from_slice(&bytes);
            }
            is_all = true;
        }
        match reader.read(&head, call.cgi.head_bytes_max, call.is_nph) {
            Parsed::NeedMore => {}
            Parsed::Malformed(why) => return Forwarded::NoReply(why),
            Parsed::LocalRedirect(path) => return Forwarded::Redirect(path.to_vec()),
            Parsed::Document(reply) => {
                let date = worker.date();
                let context = call.context(shared.conn.borrow().keep_alive(), &date);
                let (mut output, mut framing) = (reply.output, reply.framing(&context));
                let discards = context.is_head || framing == BodyFraming::None;
                if is_all && output == Output::UntilEof && !discards {
                    if is_killed(shared, call).await {
                        return Forwarded::NoReply("it was killed in the middle of its output");
                    }
                    let length = (head.len() - reply.head_len) as u64;
                    (output, framing) = (Output::Length(length), BodyFraming::Length(length));
                }
                if framing == BodyFraming::UntilClose {
                    shared.conn.borrow_mut().close_after();
                }
                super::super::answer::reserve(worker, out);
                let before = out.len();
                reply.write_head(out, framing, &context);
                shared.conn.borrow_mut().answering(reply.status, before, out.len());
                break (reply.status, Body::new(output, framing, discards), reply.head_len);
            }
        }
    };
    shared.head_sent.set(true);
    worker.metrics.script_replied(status, call.since_ns);
    let mut more = body.push(&head[rest..], out);
    drop(head);
    loop {
        shared.conn.borrow_mut().grown(body.sent);
        if is_all && !body.is_overlong && matches!(more, More::No(Ok(()))) {
            // Sent as any other reply is, with whatever follows it.
            return Forwarded::Whole;
        }
        // Forwarded when it comes: an event stream must not wait for a full buffer.
        if !out.is_empty() && send(shared, worker, stream, out, timer).await.is_err() {
            return Forwarded::ClientGone;
        }
        if let More::No(end) = more {
            if body.is_overlong {
                call.journal.warn("it writes more than its Content-Length: the rest is cut, and the connection closed");
                shared.conn.borrow_mut().close_after();
            }
            return match end {
                Ok(()) => Forwarded::Whole,
                Err(why) => Forwarded::Broken(why),
            };
        }
        if splice::pour(shared, worker, stdout, stream, &mut body, out, timer).await.is_err() {
            return Forwarded::ClientGone;
        }
        if body.is_complete() {
            body.is_overlong = stdout.available().is_ok_and(|there| there > 0);
            more = More::No(Ok(()));
            continue;
        }
        more = match read(shared, worker, call, stdout).await {
            Some(bytes) => body.push(&bytes, out),
            None => More::No(end_of_output(shared, call, &mut body, out).await),
        };
    }
}

/// stdout has ended. Where only its end says that the reply is whole, a script that was killed must not be taken for one
/// that was done; its status comes up to a few milliseconds after the end.
async fn end_of_output(
    shared: &Shared<'_>,
    call: &Call,
    body: &mut Body,
    out: &mut Vec<u8>,
) -> Result<(), &'static str> {
    let whole = body.end(out);
    if whole.is_ok() && body.source == Output::UntilEof && !body.discards && is_killed(shared, call).await {
        out.clear();
        return Err("it was killed in the middle of its output");
    }
    whole
}

/// The exit status, if it comes within the moment that is set for it.
async fn exit_soon(shared: &Shared<'_>, call: &Call) -> Option<ExitStatus> {
    let exit = poll_fn(|_| shared.exit().map_or(Poll::Pending, Poll::Ready));
    let wait = Duration::from_millis(call.cgi.exit_wait_ms_max);
    time::timeout(wait, exit).await.ok()
}

async fn is_killed(shared: &Shared<'_>, call: &Call) -> bool {
    use std::os::unix::process::ExitStatusExt;
    exit_soon(shared, call).await.is_some_and(|status| status.signal().is_some())
}

/// The next piece of output; `None` at its end, and when the script is gone and somebody else has held its stdout open
/// for too long.
async fn read(shared: &Shared<'_>, worker: &Worker, call: &Call, stdout: &PipeReader) -> Option<RecvBuf> {
    let mut reading = pin!(stdout.read());
    let bytes = poll_fn(|context| match reading.as_mut().poll(context) {
        Poll::Ready(Err(error)) => {
            call.journal.error(format_args!("its output cannot be read: {error}"));
            Poll::Ready(None)
        }
        Poll::Ready(Ok(bytes)) => Poll::Ready(bytes),
        Poll::Pending if shared.stdout_held.get() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await;
    if bytes.is_some() {
        shared.first_byte.set(true);
        shared.active(worker.now_ms());
    }
    bytes
}

async fn send(
    shared: &Shared<'_>,
    worker: &Worker,
    stream: &TcpStream,
    out: &mut Vec<u8>,
    timer: &mut Sleep,
) -> Result<(), transfer::Cut> {
    shared.sending.set(true);
    let sent = transfer::send_all(stream, &shared.conn, timer, worker, None, std::mem::take(out), 0).await;
    shared.sending.set(false);
    shared.accepted(worker.now_ms());
    *out = sent?;
    out.clear();
    Ok(())
}

/// How the output's body becomes the reply's.
pub(super) struct Body {
    pub(super) source: Output,
    pub(super) framing: BodyFraming,
    /// A HEAD, or a status without a body: read, and not sent.
    pub(super) discards: bool,
    /// Of `Output::Length`.
    pub(super) left: u64,
    /// There was more than that.
    is_overlong: bool,
    dechunk: Dechunk,
    pub(super) sent: u64,
}

/// Whether more output is wanted.
enum More {
    Yes,
    No(Result<(), &'static str>),
}

impl Body {
    fn new(source: Output, framing: BodyFraming, discards: bool) -> Body {
        let left = if let Output::Length(length) = source { length } else { 0 };
        Body { source, framing, discards, left, is_overlong: false, dechunk: Dechunk::new(), sent: 0 }
    }

    /// A promised length has come.
    fn is_complete(&self) -> bool {
        matches!(self.source, Output::Length(_)) && self.left == 0
    }

    /// Takes a piece of output.
    fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> More {
        match self.source {
            Output::UntilEof => {
                self.frame(bytes, out);
                More::Yes
            }
            Output::Length(_) => {
                let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= wanted as u64;
                self.is_overlong = wanted < bytes.len();
                self.frame(&bytes[..wanted], out);
                // What is beyond the promised length is not a part of the reply.
                if self.left == 0 { More::No(Ok(())) } else { More::Yes }
            }
            Output::Chunked => {
                let limits = crate::http::limits::Limits::default();
                loop {
                    match self.dechunk.decode(&limits, bytes) {
                        Ok(Decoded::Data { skip, len }) => {
                            self.frame(&bytes[skip..skip + len], out);
                            bytes = &bytes[skip + len..];
                        }
                        Ok(Decoded::NeedBytes { .. }) => return More::Yes,
                        Ok(Decoded::End { .. }) => return More::No(self.finish(out)),
                        Err(_) => return More::No(Err("its chunks are malformed")),
                    }
                }
            }
        }
    }

    /// The output is over.
    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), &'static str> {
        match self.source {
            Output::UntilEof => self.finish(out),
            Output::Length(_) if self.left == 0 || self.discards => Ok(()),
            Output::Length(_) => Err("it wrote less than its Content-Length"),
            Output::Chunked if self.discards => Ok(()),
            Output::Chunked => Err("its output ended before its last chunk"),
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), &'static str> {
        if self.framing == BodyFraming::Chunked && !self.discards {
            out.extend_from_slice(LAST_CHUNK);
        }
        Ok(())
    }

    fn frame(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if bytes.is_empty() || self.discards {
            return;
        }
        self.sent += bytes.len() as u64;
        if self.framing == BodyFraming::Chunked {
            out.extend_from_slice(chunk_head(bytes.len()).as_ref());
            out.extend_from_slice(bytes);
            out.extend_from_slice(CHUNK_END);
        } else {
            out.extend_from_slice(bytes);
        }
    }
}
