//! The connection loop of the models that give a worker, a thread or a process, to one client at a time.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::served::Served;
use crate::session::{FilePart, Requests, Session, Step};

/// How long one read or write may block: deadlines and a stop are noticed that late, at most.
const TICK: Duration = Duration::from_millis(500);
/// One write of a large file.
const PIECE_BYTES: usize = 64 << 10;
/// A close that has to let the client finish reads so long, at most.
const LINGER: Duration = Duration::from_secs(2);

/// Serves a client to its end. A program that took the client over comes back, for whoever waits for it.
///
/// # Errors
/// The client is gone, or too slow: the connection is closed, and there is nobody to tell.
pub(crate) fn serve(
    stream: TcpStream,
    served: &Served,
    requests: Requests,
    stopped: &dyn Fn() -> bool,
) -> io::Result<Option<Child>> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TICK))?;
    stream.set_write_timeout(Some(TICK))?;
    let ends = stream.peer_addr().ok().zip(stream.local_addr().ok());
    let mut client = Client { stream, served, session: Session::new(served.now_ms(), requests, ends) };
    let mut buffer = vec![0; 16 << 10];
    loop {
        let mut step = client.session.step(served);
        if let Step::Program(call) = step {
            // What was answered before it leaves before it.
            client.flush()?;
            match call.start(OwnedFd::from(client.stream.try_clone()?)) {
                Ok(child) => return Ok(Some(child)),
                Err(_) => step = client.session.launch_failed(),
            }
        }
        match step {
            Step::File(part) => client.file(&part)?,
            Step::Write => client.flush()?,
            Step::Close { linger } => {
                client.flush()?;
                if linger {
                    client.linger();
                }
                return Ok(None);
            }
            Step::Read { .. } => {
                client.flush()?;
                // Who has asked for something by now is still answered.
                if !client.read(&mut buffer)? && stopped() && client.session.is_idle() {
                    return Ok(None);
                }
            }
            Step::Program(_) => {}
        }
    }
}

struct Client<'s> {
    stream: TcpStream,
    served: &'s Served,
    session: Session,
}

impl Client<'_> {
    /// False when nothing came for a tick; whether that was too long is for the session to say.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        match self.stream.read(buffer) {
            Ok(count) => {
                self.session.received(&buffer[..count]);
                Ok(true)
            }
            Err(error) if is_tick(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let out = std::mem::take(&mut self.session.out);
        self.write(&out)?;
        self.session.out = out;
        self.session.out.clear();
        Ok(())
    }

    /// Head and file leave in as few writes as there are pieces.
    fn file(&mut self, part: &FilePart) -> io::Result<()> {
        let mut piece = std::mem::take(&mut self.session.out);
        let (mut at, end) = (part.start, part.start + part.len);
        while at < end || !piece.is_empty() {
            let head = piece.len();
            let count = (end - at).min((PIECE_BYTES - head.min(PIECE_BYTES)) as u64) as usize;
            piece.resize(head + count, 0);
            read_exact_at(&part.file, &mut piece[head..], at)?;
            at += count as u64;
            self.write(&piece)?;
            piece.clear();
        }
        self.session.out = piece;
        Ok(())
    }

    /// Partial writes are retried for as long as the client takes something.
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.session.sending(self.served.now_ms());
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    bytes = &bytes[count..];
                    self.session.sent(self.served.now_ms(), count);
                }
                Err(error) if is_tick(&error) => {
                    if self.served.now_ms() >= self.session.send_until(self.served) {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what is still coming before the close: a reset would destroy the reply on its way (RFC 9112 section 9.6).
    fn linger(&mut self) {
        let since = Instant::now();
        let mut sink = [0; 4096];
        if self.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        while since.elapsed() < LINGER {
            match self.stream.read(&mut sink) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if is_tick(&error) => {}
                Err(_) => return,
            }
        }
    }
}

/// A file that has become shorter cannot be what was promised: the error closes the connection.
fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(buffer, offset)
}

fn is_tick(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}
