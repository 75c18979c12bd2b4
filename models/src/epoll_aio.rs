//! Asynchronous Web Server (seed 003): one epoll loop, a state machine per connection, `sendfile(2)` and Linux AIO.
//!
//! | the seed's claim | shown by (tests/epoll_aio.rs) |
//! |---|---|
//! | many connections at once on one thread, none of which blocks the others | `a_slow_client_holds_up_nobody` |
//! | files below `static/` go by `sendfile(2)` | `static_files_go_by_sendfile` |
//! | files below `dynamic/` are read by Linux AIO and sent by non-blocking writes | `dynamic_files_go_by_aio` |
//! | 200 for files, 404 for paths that lead nowhere | `files_and_errors` |
//! | the connection is closed after the file | `it_closes_after_the_file` |
//! | hundreds of connections with little of anything | `hundreds_of_connections` |
//! | (ours) the seed has no programs; `cgi-bin` is 404 | `programs_are_not_there` |
//!
//! AIO is asynchronous only where a file can be opened with O_DIRECT. Elsewhere `io_submit(2)` itself reads: measurements of
//! `dynamic/` say which it was.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use clap::{Arg, ArgMatches};
use rustix::event::{Timespec, epoll};
use rustix::fs::{Mode, OFlags};

use crate::args::{Args, announce};
use crate::served::Served;
use crate::session::{FilePart, Requests, Session, Step};
use crate::sys;
use crate::sys::aio::{Aio, BLOCK_BYTES, Block};

/// Reads in flight; more wait for one of them to end.
const READS_MAX: usize = 1024;
/// One `sendfile(2)`.
const SLICE_BYTES: u64 = 256 << 10;
/// Events that one wait brings.
const EVENTS_MAX: usize = 256;
/// How often deadlines are looked at.
const TICK_MS: u64 = 500;
/// A close that has to let the client finish waits so long, at most.
const LINGER_MS: u64 = 2_000;
/// From a signal until what is still served is cut.
const STOP_MS: u64 = 5_000;
const DYNAMIC: &[u8] = b"dynamic/";

const STOP: u64 = 0;
const LISTENER: u64 = 1;
const AIO: u64 = 2;
const CLIENTS: u64 = 3;

pub(crate) fn flags() -> Vec<Arg> {
    Vec::new()
}

/// Serves until SIGINT or SIGTERM.
pub(crate) fn run(args: &Args, _flags: &ArgMatches) -> io::Result<()> {
    args.pin()?;
    let served = Served::open(&Args { programs: false, ..args.clone() })?;
    let listener = args.listen()?;
    listener.set_nonblocking(true)?;
    let stop = sys::stop_signals()?;
    let aio = Aio::new(READS_MAX)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &stop, epoll::EventData::new_u64(STOP), epoll::EventFlags::IN)?;
    epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    epoll::add(&epoll, &aio, epoll::EventData::new_u64(AIO), epoll::EventFlags::IN)?;
    announce(&listener)?;
    let waiting = VecDeque::new();
    let mut event_loop =
        Loop { served, epoll, listener: Some(listener), aio, connections: HashMap::new(), next: CLIENTS, waiting };
    event_loop.run()?;
    let Counts { sendfile, reads, direct_files, dynamic_files } = COUNTS.get();
    println!("{sendfile} sendfile(2) slices; {reads} AIO reads of {dynamic_files} files, {direct_files} by O_DIRECT");
    Ok(())
}

/// What was moved how, for whoever measures.
#[derive(Clone, Copy, Default)]
struct Counts {
    sendfile: u64,
    reads: u64,
    dynamic_files: u64,
    direct_files: u64,
}

thread_local! {
    static COUNTS: Cell<Counts> = const { Cell::new(Counts { sendfile: 0, reads: 0, dynamic_files: 0, direct_files: 0 }) };
}

fn count(change: fn(&mut Counts)) {
    let mut counts = COUNTS.get();
    change(&mut counts);
    COUNTS.set(counts);
}

struct Loop {
    served: Served,
    epoll: OwnedFd,
    /// None once it was told to stop.
    listener: Option<TcpListener>,
    aio: Aio,
    connections: HashMap<u64, Connection>,
    /// Names are never used twice, so a late completion finds nobody.
    next: u64,
    /// Connections whose read the full AIO context did not take.
    waiting: VecDeque<u64>,
}

struct Connection {
    stream: TcpStream,
    session: Session,
    state: State,
    interest: epoll::EventFlags,
    /// When to look at it without an event.
    until_ms: u64,
    /// Of `session.out`, already sent.
    sent: usize,
}

/// Where a connection is. It is sending its head in any of them, as long as something is left of that.
enum State {
    /// Establishment and request parsing: the session knows how far.
    Receiving,
    /// A file on its way by `sendfile(2)`.
    Static(FilePart),
    /// A file on its way by AIO.
    Dynamic(Dynamic),
    /// Everything is sent; the client may finish.
    Closing,
}

struct Dynamic {
    part: FilePart,
    phase: Loading,
}

/// A block of a file that is read by AIO.
enum Loading {
    /// To be read next.
    Wanted(Block),
    /// With the kernel.
    Reading,
    /// Here: from which byte on it is unsent, and where it ends.
    Loaded(Block, usize, usize),
}

/// What an advance of a connection ends with.
enum Advance {
    /// Nothing to do until the socket is ready, or until that time.
    Wait(epoll::EventFlags, u64),
    /// Nothing to do until its read is over.
    Completion,
    /// The AIO context is full.
    Queue,
    Over,
}

impl Loop {
    fn run(&mut self) -> io::Result<()> {
        let mut stop_ms = None;
        let mut swept_ms = 0;
        while stop_ms.is_none_or(|stop| self.served.now_ms() < stop && !self.connections.is_empty()) {
            let mut events = Vec::with_capacity(EVENTS_MAX);
            let tick = Timespec { tv_sec: 0, tv_nsec: (TICK_MS * 1_000_000) as i64 };
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&tick)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            for event in events {
                match event.data.u64() {
                    STOP => {
                        stop_ms = Some(self.served.now_ms() + STOP_MS);
                        self.stop()?;
                    }
                    LISTENER => self.accept(),
                    AIO => self.complete()?,
                    name => self.advance(name),
                }
            }
            let now = self.served.now_ms();
            if now >= swept_ms + TICK_MS {
                swept_ms = now;
                self.sweep(now);
            }
        }
        Ok(())
    }

    /// Nobody else is let in; idle connections go.
    fn stop(&mut self) -> io::Result<()> {
        if let Some(listener) = self.listener.take() {
            epoll::delete(&self.epoll, &listener)?;
        }
        self.connections.retain(|_, connection| !connection.session.is_idle());
        Ok(())
    }

    fn accept(&mut self) {
        while let Some(listener) = &self.listener {
            match listener.accept() {
                Ok((stream, _)) => {
                    let name = self.next;
                    self.next += 1;
                    if let Ok(connection) = Connection::new(stream, &self.served) {
                        let data = epoll::EventData::new_u64(name);
                        if epoll::add(&self.epoll, &connection.stream, data, connection.interest).is_ok() {
                            self.connections.insert(name, connection);
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                // Out of descriptors: the next turn tries again, when somebody may have left.
                Err(error) => {
                    eprintln!("accept: {error}");
                    std::thread::sleep(std::time::Duration::from_millis(10));
                    return;
                }
            }
        }
    }

    /// Takes a connection as far as it goes without waiting.
    fn advance(&mut self, name: u64) {
        let Some(connection) = self.connections.get_mut(&name) else { return };
        match connection.advance(&self.served, &mut self.aio, name) {
            Ok(Advance::Wait(interest, until_ms)) => {
                connection.until_ms = until_ms;
                connection.watch(&self.epoll, interest, name);
            }
            Ok(Advance::Completion) => connection.watch(&self.epoll, epoll::EventFlags::empty(), name),
            Ok(Advance::Queue) => {
                connection.watch(&self.epoll, epoll::EventFlags::empty(), name);
                self.waiting.push_back(name);
            }
            // Dropping the socket takes it out of the epoll set.
            Ok(Advance::Over) | Err(_) => drop(self.connections.remove(&name)),
        }
    }

    fn complete(&mut self) -> io::Result<()> {
        for done in self.aio.finished()? {
            if let Some(Connection { state: State::Dynamic(dynamic), .. }) = self.connections.get_mut(&done.token) {
                match done.result {
                    Ok(count) => dynamic.loaded(done.block, count),
                    Err(error) => {
                        eprintln!("a file cannot be read: {error}");
                        self.connections.remove(&done.token);
                        continue;
                    }
                }
                self.advance(done.token);
            }
            if let Some(name) = self.waiting.pop_front() {
                self.advance(name);
            }
        }
        Ok(())
    }

    /// Who has waited for too long is looked at: the session says what that means.
    fn sweep(&mut self, now_ms: u64) {
        let late: Vec<u64> =
            self.connections.iter().filter(|(_, it)| now_ms >= it.until_ms).map(|(name, _)| *name).collect();
        for name in late {
            let is_stuck = self.connections.get_mut(&name).is_some_and(|it| !it.is_receiving());
            if is_stuck {
                self.connections.remove(&name);
            } else {
                self.advance(name);
            }
        }
    }
}

impl Connection {
    fn new(stream: TcpStream, served: &Served) -> io::Result<Connection> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let ends = stream.peer_addr().ok().zip(stream.local_addr().ok());
        let session = Session::new(served.now_ms(), Requests::One, ends);
        let until_ms = served.now_ms() + served.limits.idle_ms_max;
        Ok(Connection { stream, session, state: State::Receiving, interest: epoll::EventFlags::IN, until_ms, sent: 0 })
    }

    fn is_receiving(&self) -> bool {
        matches!(self.state, State::Receiving) && self.session.out.is_empty()
    }

    fn watch(&mut self, epoll: &OwnedFd, interest: epoll::EventFlags, name: u64) {
        if self.interest != interest
            && epoll::modify(epoll, &self.stream, epoll::EventData::new_u64(name), interest).is_ok()
        {
            self.interest = interest;
        }
    }

    fn advance(&mut self, served: &Served, aio: &mut Aio, name: u64) -> io::Result<Advance> {
        loop {
            if !self.flush(served)? {
                return Ok(self.wait_to_send(served));
            }
            match &mut self.state {
                State::Receiving => {
                    if let Some(wait) = self.receive(served)? {
                        return Ok(wait);
                    }
                }
                State::Static(part) => match send_slice(&self.stream, part) {
                    Ok(0) => self.state = State::Receiving,
                    Ok(count) => self.session.sent(served.now_ms(), count),
                    Err(error) if would_block(&error) => return Ok(self.wait_to_send(served)),
                    Err(error) => return Err(error),
                },
                State::Dynamic(dynamic) => match dynamic.advance(&self.stream, aio, name)? {
                    Moved::Sent(count) => self.session.sent(served.now_ms(), count),
                    Moved::Done => self.state = State::Receiving,
                    Moved::Blocked => return Ok(self.wait_to_send(served)),
                    Moved::Submitted => return Ok(Advance::Completion),
                    Moved::Full => return Ok(Advance::Queue),
                },
                State::Closing => return self.drain(),
            }
        }
    }

    /// One look at the session, and one receive if it wants that.
    fn receive(&mut self, served: &Served) -> io::Result<Option<Advance>> {
        match self.session.step(served) {
            Step::Read { .. } if !self.session.out.is_empty() => {}
            Step::Read { until } => {
                let mut buffer = [0; 16 << 10];
                match self.stream.read(&mut buffer) {
                    Ok(count) => self.session.received(&buffer[..count]),
                    Err(error) if would_block(&error) => return Ok(Some(Advance::Wait(epoll::EventFlags::IN, until))),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Step::Write => {}
            Step::File(part) => self.begin(part, served),
            Step::Close { linger: true } => self.close(served),
            Step::Close { linger: false } if self.session.out.is_empty() => return Ok(Some(Advance::Over)),
            Step::Close { linger: false } => self.close(served),
            Step::Program(_) => drop(self.session.launch_failed()),
        }
        Ok(None)
    }

    fn begin(&mut self, part: FilePart, served: &Served) {
        self.session.sending(served.now_ms());
        self.state = if part.path.starts_with(DYNAMIC) {
            State::Dynamic(Dynamic { part: direct(part), phase: Loading::Wanted(Block::new()) })
        } else {
            State::Static(part)
        };
    }

    fn close(&mut self, served: &Served) {
        self.state = State::Closing;
        self.until_ms = served.now_ms() + LINGER_MS;
    }

    /// False when the client does not take it now.
    fn flush(&mut self, served: &Served) -> io::Result<bool> {
        while self.sent < self.session.out.len() {
            match self.stream.write(&self.session.out[self.sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.sent += count;
                    self.session.sent(served.now_ms(), count);
                }
                Err(error) if would_block(&error) => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.session.out.clear();
        self.sent = 0;
        Ok(true)
    }

    fn wait_to_send(&mut self, served: &Served) -> Advance {
        Advance::Wait(epoll::EventFlags::OUT, self.session.send_until(served))
    }

    /// Our side is closed; what still comes is read away, so that no reset destroys the reply (RFC 9112 section 9.6).
    fn drain(&mut self) -> io::Result<Advance> {
        self.stream.shutdown(Shutdown::Write)?;
        let mut sink = [0; 4096];
        loop {
            match self.stream.read(&mut sink) {
                Ok(0) => return Ok(Advance::Over),
                Ok(_) => {}
                Err(error) if would_block(&error) => return Ok(Advance::Wait(epoll::EventFlags::IN, self.until_ms)),
                Err(error) => return Err(error),
            }
        }
    }
}

/// What one move of a dynamic file came to.
enum Moved {
    Sent(usize),
    Submitted,
    Full,
    Blocked,
    Done,
}

impl Dynamic {
    fn advance(&mut self, mut stream: &TcpStream, aio: &mut Aio, name: u64) -> io::Result<Moved> {
        match std::mem::replace(&mut self.phase, Loading::Reading) {
            Loading::Reading => Ok(Moved::Submitted),
            Loading::Wanted(_) if self.part.len == 0 => Ok(Moved::Done),
            Loading::Wanted(block) => {
                let offset = self.part.start - self.part.start % BLOCK_BYTES as u64;
                match aio.read(&self.part.file, block, offset, name) {
                    Ok(()) => {
                        count(|counts| counts.reads += 1);
                        Ok(Moved::Submitted)
                    }
                    Err((error, block)) if would_block(&error) => {
                        self.phase = Loading::Wanted(block);
                        Ok(Moved::Full)
                    }
                    Err((error, _)) => Err(error),
                }
            }
            // Shorter than it was: the length that was promised cannot be kept.
            Loading::Loaded(_, start, end) if start >= end => Err(io::ErrorKind::UnexpectedEof.into()),
            Loading::Loaded(block, start, end) => match stream.write(&block.bytes()[start..end]) {
                Ok(count) => {
                    self.part.start += count as u64;
                    self.part.len -= count as u64;
                    self.phase = match start + count {
                        next if next == end => Loading::Wanted(block),
                        next => Loading::Loaded(block, next, end),
                    };
                    Ok(Moved::Sent(count))
                }
                Err(error) if would_block(&error) => {
                    self.phase = Loading::Loaded(block, start, end);
                    Ok(Moved::Blocked)
                }
                Err(error) => Err(error),
            },
        }
    }

    /// A read brought so many bytes of the block in which the next unsent byte is.
    fn loaded(&mut self, block: Block, count: usize) {
        let start = (self.part.start % BLOCK_BYTES as u64) as usize;
        let end = count.min(start.saturating_add(usize::try_from(self.part.len).unwrap_or(usize::MAX)));
        self.phase = Loading::Loaded(block, start, end);
    }
}

/// 0 when all of it was sent.
fn send_slice(stream: &TcpStream, part: &mut FilePart) -> io::Result<usize> {
    if part.len == 0 {
        return Ok(0);
    }
    let count = rustix::fs::sendfile(stream, &part.file, Some(&mut part.start), part.len.min(SLICE_BYTES) as usize)?;
    if count == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    part.len -= count as u64;
    self::count(|counts| counts.sendfile += 1);
    Ok(count)
}

/// The same file past the page cache, where its file system can do that.
fn direct(part: FilePart) -> FilePart {
    let name = format!("/proc/self/fd/{}", part.file.as_fd().as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECT;
    count(|counts| counts.dynamic_files += 1);
    match rustix::fs::open(name, flags, Mode::empty()) {
        Ok(file) => {
            count(|counts| counts.direct_files += 1);
            FilePart { file: File::from(file), ..part }
        }
        Err(_) => part,
    }
}

fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
