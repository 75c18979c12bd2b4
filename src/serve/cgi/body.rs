//! The request's body on its way to a script: through a pipe when its length is known, through a file when it is not,
//! because CGI needs CONTENT_LENGTH before the script starts.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::pin::pin;

use crate::http::conn::{BodyEvent, Refusal};
use crate::http::limits::Limits;
use crate::http::request::Framing;
use crate::http::response::CONTINUE;
use crate::http::status::Status;
use crate::rt::fs::File;
use crate::rt::net::TcpStream;
use crate::rt::process::PipeWriter;
use crate::rt::time::{Instant, sleep_until};

use super::super::answer;
use super::super::input::Input;
use super::super::link::{Link, by};
use super::super::transfer::{self, Cut};
use super::super::worker::Worker;
use super::Call;
use super::exchange::Shared;

/// What a script's stdin will be.
pub(super) enum Stdin {
    /// There is no body: `/dev/null`.
    Null,
    /// A body whose length is known: written while the script runs.
    Pipe,
    /// The whole body, spooled, from its start.
    File(File),
}

/// Why feeding a script has ended the exchange.
pub(super) enum FeedEnd {
    /// The body is malformed or too slow.
    Refused(Refusal),
    /// The client is gone.
    Cut,
}

/// Asks for the body, and spools it where its length is unknown.
pub(super) async fn prepare(link: &mut Link, worker: &Worker, call: &mut Call) -> Result<Result<Stdin, Status>, Cut> {
    if matches!(call.framing, Framing::None | Framing::Length(0)) {
        return Ok(Ok(Stdin::Null));
    }
    if call.expects_continue {
        answer::reserve(worker, &mut link.out);
        link.out.extend_from_slice(CONTINUE);
    }
    transfer::flush(link, worker).await?;
    match call.framing {
        Framing::Chunked => spool(link, worker, call).await,
        _ => Ok(Ok(Stdin::Pipe)),
    }
}

async fn spool(link: &mut Link, worker: &Worker, call: &mut Call) -> Result<Result<Stdin, Status>, Cut> {
    let mut spool = Spool { memory: Vec::new(), file: None, len: 0 };
    loop {
        match link.conn.body(&call.sites.limits, worker.now_ms(), link.input.unread()) {
            BodyEvent::Data { skip, len } => {
                if spool.len + len as u64 > call.cgi.spool_file_bytes_max {
                    link.conn.close_after();
                    return Ok(Err(Status::CONTENT_TOO_LARGE));
                }
                spool.memory.extend_from_slice(&link.input.unread()[skip..skip + len]);
                spool.len += len as u64;
                link.input.consume(skip + len);
                if spool.memory.len() >= call.cgi.spool_memory_bytes_max
                    && let Err(error) = spool.write_out().await
                {
                    return Ok(Err(no_spool(link, call, &error)));
                }
            }
            BodyEvent::End { consumed } => {
                link.input.consume(consumed);
                break;
            }
            BodyEvent::NeedBytes { consumed, until } => {
                link.input.consume(consumed);
                link.more(until).await?;
            }
            BodyEvent::Refuse(refusal) => return Ok(Err(refusal.status)),
            BodyEvent::Cut => return Err(Cut),
        }
    }
    call.command.env("CONTENT_LENGTH", spool.len.to_string());
    match spool.finish().await {
        Ok(file) => Ok(Ok(Stdin::File(file))),
        Err(error) => Ok(Err(no_spool(link, call, &error))),
    }
}

fn no_spool(link: &mut Link, call: &Call, error: &io::Error) -> Status {
    let folder = std::env::temp_dir();
    call.journal.error(format_args!("a chunked body for it cannot be kept in {}: {error}", folder.display()));
    link.conn.close_after();
    Status::INTERNAL_SERVER_ERROR
}

/// A body of unknown length: in memory, and beyond a bound in a file without a name.
struct Spool {
    memory: Vec<u8>,
    file: Option<File>,
    len: u64,
}

impl Spool {
    async fn write_out(&mut self) -> io::Result<()> {
        let file = match self.file.take() {
            Some(file) => file,
            None => File::temporary(&std::env::temp_dir())?,
        };
        let mut written = 0;
        while written < self.memory.len() {
            let (count, back) = file.append(std::mem::take(&mut self.memory), written).await;
            self.memory = back;
            written += count?;
        }
        self.memory.clear();
        self.file = Some(file);
        Ok(())
    }

    /// The whole body as a file that stands at its start.
    async fn finish(mut self) -> io::Result<File> {
        let file = match self.file {
            Some(_) => {
                self.write_out().await?;
                self.file.take().ok_or(io::ErrorKind::NotFound)?
            }
            None => {
                let file = File::in_memory("ucaffeine-body")?;
                for slice in self.memory.chunks(SLICE_BYTES) {
                    file.write_now(slice)?;
                    crate::rt::yield_now().await;
                }
                file
            }
        };
        file.rewind()?;
        Ok(file)
    }
}

/// What is copied into memory before others have their turn.
const SLICE_BYTES: usize = 64 << 10;

/// Moves the body from the client to the script, as fast as the slower of the two. Ends only when the exchange must: a
/// script that closes its stdin early has read what it wanted.
pub(super) async fn feed(
    shared: &Shared<'_>,
    worker: &Worker,
    limits: &Limits,
    stream: &TcpStream,
    input: &mut Input,
    stdin: Option<PipeWriter>,
) -> FeedEnd {
    if let Some(stdin) = stdin
        && let Err(end) = pump(shared, worker, limits, stream, input, &stdin).await
    {
        return end;
    }
    // stdin is closed here: the script reads its end.
    match transfer::unloading(stream, input, pending::<Infallible>()).await {}
}

async fn pump(
    shared: &Shared<'_>,
    worker: &Worker,
    limits: &Limits,
    stream: &TcpStream,
    input: &mut Input,
    stdin: &PipeWriter,
) -> Result<(), FeedEnd> {
    let mut timer = sleep_until(Instant::now());
    loop {
        let event = shared.conn.borrow_mut().body(limits, worker.now_ms(), input.unread());
        match event {
            BodyEvent::Data { skip, len } => {
                let bytes = input.unread()[skip..skip + len].to_vec();
                input.consume(skip + len);
                if transfer::unloading(stream, input, stdin.write_all(bytes)).await.0.is_err() {
                    return Ok(());
                }
                shared.fed(worker.now_ms());
            }
            BodyEvent::End { consumed } => {
                input.consume(consumed);
                return Ok(());
            }
            BodyEvent::NeedBytes { consumed, until } => {
                input.consume(consumed);
                match by(&mut timer, until, pin!(stream.recv())).await {
                    Ok(Ok(Some(bytes))) => input.push(bytes),
                    Ok(Ok(None)) => shared.conn.borrow_mut().end_of_input(),
                    Ok(Err(_reset)) => return Err(FeedEnd::Cut),
                    Err(_late) => {}
                }
                shared.fed(worker.now_ms());
            }
            BodyEvent::Refuse(refusal) => return Err(FeedEnd::Refused(refusal)),
            BodyEvent::Cut => return Err(FeedEnd::Cut),
        }
    }
}
