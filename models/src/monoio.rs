//! monoio 0.2, used as its documentation shows: a runtime and a listener per thread, a task per connection.

use std::cell::Cell;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, ArgMatches};
use monoio::buf::{IoBuf, IoBufMut};
use monoio::fs::File;
use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::net::TcpStream;
use monoio::time::{sleep, timeout};
use monoio::{IoUringDriver, RuntimeBuilder};

use crate::args::Args;
use crate::per_core::{self, Stopping};
use crate::served::Served;
use crate::session::{FilePart, Requests, Session, Step};

/// One read and one send of a large file.
const PIECE_BYTES: usize = 64 << 10;
const LINGER: Duration = Duration::from_secs(2);

pub(crate) fn flags() -> Vec<Arg> {
    Vec::new()
}

/// Serves until SIGINT or SIGTERM.
pub(crate) fn run(args: &Args, _flags: &ArgMatches) -> io::Result<()> {
    per_core::run(args, |listener, served, stopping| {
        let mut runtime = RuntimeBuilder::<IoUringDriver>::new().enable_timer().build()?;
        runtime.block_on(serve(listener, served, stopping))
    })
}

async fn serve(listener: TcpListener, served: Arc<Served>, stopping: Arc<Stopping>) -> io::Result<()> {
    let listener = monoio::net::TcpListener::from_std(listener)?;
    let serving = Rc::new(Cell::new(0));
    let mut accept = Box::pin(listener.accept());
    while !stopping.is_set() {
        // The stop is another thread's: it is looked for now and then. The accept goes on meanwhile; a dropped one would take
        // a client with it.
        let accepted = timeout(per_core::TICK, &mut accept).await;
        if accepted.is_ok() {
            accept = Box::pin(listener.accept());
        }
        match accepted {
            Ok(Ok((stream, _))) => {
                let (served, serving) = (Arc::clone(&served), per_core::Count::up(&serving));
                monoio::spawn(async move {
                    // Whoever is gone or too slow is cut by the drop.
                    let _ = client(stream, &served, &serving).await;
                });
            }
            Ok(Err(error)) => {
                eprintln!("accept: {error}");
                sleep(per_core::ACCEPT_PAUSE).await;
            }
            Err(_late) => {}
        }
    }
    for _ in 0..per_core::STOP_TICKS {
        if serving.get() == 0 {
            break;
        }
        sleep(per_core::STOP_TICK).await;
    }
    Ok(())
}

async fn client(mut stream: TcpStream, served: &Served, serving: &per_core::Count) -> io::Result<()> {
    let _ = stream.set_nodelay(true);
    let mut session = Session::new(served.now_ms(), Requests::Many, per_core::ends(&stream));
    let mut buffer = vec![0; 16 << 10];
    loop {
        let mut step = session.step(served);
        if !matches!(step, Step::File(_)) {
            flush(&mut stream, &mut session, served).await?;
        }
        if let Step::Program(call) = step {
            match per_core::start(*call, &stream) {
                Ok(()) => return Ok(()),
                Err(_) => step = session.launch_failed(),
            }
            flush(&mut stream, &mut session, served).await?;
        }
        match step {
            Step::Write | Step::Program(_) => {}
            Step::File(part) => file(&mut stream, &mut session, served, part).await?,
            Step::Read { until } => {
                let idle = serving.idle_while(session.is_idle());
                let wait = Duration::from_millis(until.saturating_sub(served.now_ms()));
                let received = timeout(wait, stream.read(buffer)).await;
                drop(idle);
                match received {
                    Ok((count, back)) => {
                        buffer = back;
                        session.received(&buffer[..count?]);
                    }
                    // The buffer went with the read: the session says what being late means.
                    Err(_late) => buffer = vec![0; 16 << 10],
                }
            }
            Step::Close { linger: false } => return Ok(()),
            Step::Close { linger: true } => {
                stream.shutdown().await?;
                let drained = async {
                    loop {
                        let (count, back) = stream.read(buffer).await;
                        buffer = back;
                        if count.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                };
                let _ = timeout(LINGER, drained).await;
                return Ok(());
            }
        }
    }
}

/// Sends what has gathered.
async fn flush(stream: &mut TcpStream, session: &mut Session, served: &Served) -> io::Result<()> {
    if session.out.is_empty() {
        return Ok(());
    }
    let out = std::mem::take(&mut session.out);
    session.out = send(stream, session, served, out).await?;
    session.out.clear();
    Ok(())
}

/// Head and file, a piece at a time.
async fn file(stream: &mut TcpStream, session: &mut Session, served: &Served, part: FilePart) -> io::Result<()> {
    let file = File::from_std(part.file)?;
    let (mut at, end) = (part.start, part.start + part.len);
    let mut piece = std::mem::take(&mut session.out);
    while at < end || !piece.is_empty() {
        let head = piece.len();
        let count = (end - at).min(PIECE_BYTES.saturating_sub(head) as u64) as usize;
        if count > 0 {
            piece.resize(head + count, 0);
            let (read, slice) = file.read_exact_at(piece.slice_mut(head..head + count), at).await;
            piece = slice.into_inner();
            read?;
        }
        at += count as u64;
        piece = send(stream, session, served, piece).await?;
        piece.clear();
    }
    session.out = piece;
    Ok(())
}

async fn send(
    stream: &mut TcpStream,
    session: &mut Session,
    served: &Served,
    mut bytes: Vec<u8>,
) -> io::Result<Vec<u8>> {
    session.sending(served.now_ms());
    let mut start = 0;
    while start < bytes.len() {
        let wait = Duration::from_millis(session.send_until(served).saturating_sub(served.now_ms()));
        let sent = timeout(wait, stream.write(bytes.slice(start..))).await;
        let (count, slice) = sent.map_err(|_late| io::ErrorKind::TimedOut)?;
        bytes = slice.into_inner();
        match count? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => {
                start += count;
                session.sent(served.now_ms(), count);
            }
        }
    }
    Ok(bytes)
}
