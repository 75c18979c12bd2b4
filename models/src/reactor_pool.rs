//! KQueue HTTP Server (seed 004): an event loop that owns readiness, and a fixed pool that does the reading and writing.
//!
//! On the `polling` crate: kqueue on BSD and macOS, epoll here. The model itself uses nothing that only Linux has.
//!
//! | the seed's claim | shown by (tests/reactor_pool.rs) |
//! |---|---|
//! | one readiness event of the listener accepts everything that is pending | `a_burst_is_accepted_by_one_event` |
//! | a client's interest is gone before a worker gets it: never two threads on one client | `one_client_is_never_on_two_threads` |
//! | a fixed pool; a slow client holds no thread | `slow_clients_hold_no_thread` |
//! | reads go on until EAGAIN, and then the client is registered again | `a_request_in_pieces` |
//! | keep-alive of HTTP/1.1, `Connection: close` | `keep_alive_and_close` |
//! | SIGINT: the loop ends, the pool drains and is joined, everything is closed | `sigint_drains_and_joins` |
//! | (ours, which the seed leaves out) partial writes are retried | `a_client_that_reads_late_gets_every_byte` |

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use clap::{Arg, ArgMatches};

use crate::args::{Args, announce};
use crate::queue::Queue;
use crate::served::Served;
use crate::session::{FilePart, Requests, Session, Step};
use crate::sys::poller::{Interest, Poller};

/// One write of a large file.
const PIECE_BYTES: usize = 64 << 10;
/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(500);
/// A close that has to let the client finish waits so long, at most.
const LINGER_MS: u64 = 2_000;
/// From a signal until what is still served is cut.
const STOP_MS: u64 = 5_000;
/// Clients that are ready and wait for a thread: no more than descriptors can be open.
const READY_MAX: usize = 1 << 20;

const STOP: usize = 0;
const LISTENER: usize = 1;
const CLIENTS: usize = 2;

pub(crate) fn flags() -> Vec<Arg> {
    Vec::new()
}

/// Serves until SIGINT or SIGTERM.
pub(crate) fn run(args: &Args, _flags: &ArgMatches) -> io::Result<()> {
    args.pin()?;
    let served = Served::open(args)?;
    let listener = args.listen()?;
    listener.set_nonblocking(true)?;
    let (stop, raised) = UnixStream::pair()?;
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::low_level::pipe::register(signal, raised.try_clone()?)?;
    }
    let reactor = Reactor {
        served,
        poller: Poller::new()?,
        parked: Mutex::new(HashMap::new()),
        ready: Queue::new(READY_MAX),
        busy: Mutex::new(0),
    };
    reactor.poller.add(STOP, Arc::new(stop), Interest::Read)?;
    reactor.poller.add(LISTENER, Arc::new(listener.try_clone()?), Interest::Read)?;
    announce(&listener)?;
    thread::scope(|scope| {
        for index in 0..args.workers {
            thread::Builder::new().name(format!("worker-{index}")).spawn_scoped(scope, || reactor.work())?;
        }
        let ended = reactor.watch(&listener).map(|counts| {
            println!("{} clients by {} readiness events of the listener", counts.clients, counts.accept_events);
        });
        // What is queued is still served; then the threads end, and the scope joins them.
        reactor.ready.close();
        ended
    })
}

struct Reactor {
    served: Served,
    poller: Poller,
    /// Clients that wait for their socket, by key. A client is here, in the queue, or with one thread: never in two places.
    parked: Mutex<HashMap<usize, Client>>,
    ready: Queue<(usize, Client)>,
    /// Clients in the queue or with a thread.
    busy: Mutex<usize>,
}

/// What was accepted how, for whoever measures.
#[derive(Default)]
struct Counts {
    clients: usize,
    accept_events: u64,
}

struct Client {
    /// Shared with the poller, which must not outlive it.
    stream: Arc<TcpStream>,
    session: Session,
    /// What is on its way besides `session.out`.
    sending: Sending,
    /// When to look at it without an event.
    until_ms: u64,
}

enum Sending {
    Nothing,
    /// The bytes of `session.out` from there on.
    Out(usize),
    File(FilePart),
    /// Everything is sent and our side closed; the client may finish.
    Closing,
}

/// What a thread leaves a client with.
enum Left {
    Waiting(Interest, u64),
    Over,
}

impl Reactor {
    /// The event loop: the only one that accepts and that takes clients off the poller.
    fn watch(&self, listener: &TcpListener) -> io::Result<Counts> {
        let mut counts = Counts::default();
        loop {
            let mut stopped = false;
            for key in self.poller.wait(TICK)? {
                match key {
                    STOP => stopped = true,
                    LISTENER => self.accept(listener, &mut counts)?,
                    key => self.dispatch(key),
                }
            }
            if stopped {
                self.drain()?;
                return Ok(counts);
            }
            self.sweep();
        }
    }

    /// Everything that is pending, not one client an event.
    fn accept(&self, listener: &TcpListener, counts: &mut Counts) -> io::Result<()> {
        counts.accept_events += 1;
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    // Never used twice, so that a late event finds nobody.
                    let key = CLIENTS + counts.clients;
                    counts.clients += 1;
                    // A client that cannot be registered is closed.
                    let _ = Client::new(stream, &self.served).and_then(|client| self.register(key, client));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    eprintln!("accept: {error}");
                    thread::sleep(Duration::from_millis(10));
                    break;
                }
            }
        }
        self.poller.rearm(LISTENER, Interest::Read)
    }

    fn register(&self, key: usize, client: Client) -> io::Result<()> {
        let source = Arc::clone(&client.stream);
        self.parked().insert(key, client);
        self.poller.add(key, source, Interest::Read).inspect_err(|_| drop(self.parked().remove(&key)))
    }

    /// Interest is one-shot: by now the poller does not report this client any more.
    fn dispatch(&self, key: usize) {
        let Some(client) = self.parked().remove(&key) else { return };
        *self.busy() += 1;
        self.ready.add((key, client));
    }

    /// A thread of the pool.
    fn work(&self) {
        while let Some((key, mut client)) = self.ready.take() {
            match client.advance(&self.served) {
                Ok(Left::Waiting(interest, until_ms)) => {
                    client.until_ms = until_ms;
                    // Parked before it is armed: an event must find it.
                    self.parked().insert(key, client);
                    if self.poller.rearm(key, interest).is_err() {
                        drop(self.parked().remove(&key));
                        self.poller.remove(key);
                    }
                }
                Ok(Left::Over) | Err(_) => self.poller.remove(key),
            }
            *self.busy() -= 1;
        }
    }

    /// Whose time is over is dispatched too: the session says what that means.
    fn sweep(&self) {
        let now = self.served.now_ms();
        let late: Vec<usize> =
            self.parked().iter().filter(|(_, client)| now >= client.until_ms).map(|(key, _)| *key).collect();
        for key in late {
            // An event may come between; then it finds nobody parked.
            let is_stuck = self.parked().get(&key).is_some_and(|client| !client.is_receiving());
            if is_stuck {
                drop(self.parked().remove(&key));
                self.poller.remove(key);
            } else {
                self.dispatch(key);
            }
        }
    }

    /// Nobody else is let in, idle clients go, and what is being served may finish.
    fn drain(&self) -> io::Result<()> {
        self.poller.remove(LISTENER);
        let until = self.served.now_ms() + STOP_MS;
        loop {
            self.parked().retain(|_, client| !client.session.is_idle());
            let is_quiet = *self.busy() == 0 && self.parked().is_empty();
            if is_quiet || self.served.now_ms() >= until {
                return Ok(());
            }
            for key in self.poller.wait(Duration::from_millis(20))? {
                self.dispatch(key);
            }
        }
    }

    fn parked(&self) -> MutexGuard<'_, HashMap<usize, Client>> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn busy(&self) -> MutexGuard<'_, usize> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    fn new(stream: TcpStream, served: &Served) -> io::Result<Client> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let ends = stream.peer_addr().ok().zip(stream.local_addr().ok());
        let session = Session::new(served.now_ms(), Requests::Many, ends);
        let until_ms = served.now_ms() + served.limits.idle_ms_max;
        Ok(Client { stream: Arc::new(stream), session, sending: Sending::Nothing, until_ms })
    }

    fn is_receiving(&self) -> bool {
        matches!(self.sending, Sending::Nothing)
    }

    /// As far as it goes without waiting.
    fn advance(&mut self, served: &Served) -> io::Result<Left> {
        loop {
            match &mut self.sending {
                Sending::Closing => return self.linger(),
                Sending::Nothing => {
                    if let Some(left) = self.receive(served)? {
                        return Ok(left);
                    }
                }
                Sending::Out(at) => match (&*self.stream).write(&self.session.out[*at..]) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(count) => {
                        *at += count;
                        let is_over = *at == self.session.out.len();
                        self.session.sent(served.now_ms(), count);
                        if is_over {
                            self.session.out.clear();
                            self.sending = Sending::Nothing;
                        }
                    }
                    // A partial write: the rest goes when the client has read something.
                    Err(error) if would_block(&error) => return Ok(self.wait_to_send(served)),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                },
                Sending::File(part) if part.len == 0 && self.session.out.is_empty() => self.sending = Sending::Nothing,
                Sending::File(_) => {
                    if let Some(left) = self.send_piece(served)? {
                        return Ok(left);
                    }
                }
            }
        }
    }

    fn receive(&mut self, served: &Served) -> io::Result<Option<Left>> {
        let step = self.session.step(served);
        let has_out = !self.session.out.is_empty();
        if has_out {
            self.session.sending(served.now_ms());
        }
        match step {
            Step::File(part) => self.sending = Sending::File(part),
            // What was decided after the bytes in `out` is decided again when they are sent.
            Step::Read { .. } | Step::Write if has_out => self.sending = Sending::Out(0),
            Step::Write => {}
            Step::Read { until } => {
                let mut buffer = [0; 16 << 10];
                match (&*self.stream).read(&mut buffer) {
                    Ok(count) => self.session.received(&buffer[..count]),
                    Err(error) if would_block(&error) => return Ok(Some(Left::Waiting(Interest::Read, until))),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Step::Program(call) => {
                self.write_all_now()?;
                return match call.start(self.stream.try_clone()?.into()) {
                    Ok(mut child) => {
                        child.wait()?;
                        Ok(Some(Left::Over))
                    }
                    Err(_) => {
                        let _ = self.session.launch_failed();
                        self.write_all_now()?;
                        self.close(served)
                    }
                };
            }
            Step::Close { linger } => {
                self.write_all_now()?;
                return if linger { self.close(served) } else { Ok(Some(Left::Over)) };
            }
        }
        Ok(None)
    }

    /// For the little that is sent before a close: an error page, or the last of small replies.
    fn write_all_now(&mut self) -> io::Result<()> {
        if self.session.out.is_empty() {
            return Ok(());
        }
        self.stream.set_nonblocking(false)?;
        self.stream.set_write_timeout(Some(TICK))?;
        (&*self.stream).write_all(&self.session.out)?;
        self.session.out.clear();
        self.stream.set_nonblocking(true)
    }

    /// Reads the next piece of the file behind what is unsent, and sends both.
    fn send_piece(&mut self, served: &Served) -> io::Result<Option<Left>> {
        let Sending::File(part) = &mut self.sending else { return Ok(None) };
        let out = &mut self.session.out;
        if out.len() < PIECE_BYTES {
            let head = out.len();
            let count = part.len.min((PIECE_BYTES - head) as u64) as usize;
            out.resize(head + count, 0);
            // Shorter than it was: the error closes, because the length that was promised cannot be kept.
            part.file.read_exact_at(&mut out[head..], part.start)?;
            part.start += count as u64;
            part.len -= count as u64;
        }
        match (&*self.stream).write(out) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                out.drain(..count);
                self.session.sent(served.now_ms(), count);
                Ok(None)
            }
            Err(error) if would_block(&error) => Ok(Some(self.wait_to_send(served))),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn wait_to_send(&mut self, served: &Served) -> Left {
        Left::Waiting(Interest::Write, self.session.send_until(served))
    }

    fn close(&mut self, served: &Served) -> io::Result<Option<Left>> {
        self.stream.shutdown(Shutdown::Write)?;
        self.sending = Sending::Closing;
        self.until_ms = served.now_ms() + LINGER_MS;
        self.linger().map(Some)
    }

    /// What still comes is read away, so that no reset destroys the reply (RFC 9112 section 9.6).
    fn linger(&mut self) -> io::Result<Left> {
        let mut sink = [0; 4096];
        loop {
            match (&*self.stream).read(&mut sink) {
                Ok(0) => return Ok(Left::Over),
                Ok(_) => {}
                Err(error) if would_block(&error) => return Ok(Left::Waiting(Interest::Read, self.until_ms)),
                Err(error) => return Err(error),
            }
        }
    }
}

fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
