//! Caffeine, first version (seed 000): a parent that accepts and pre-forked workers that get their clients as descriptors.
//!
//! | the seed's claim | shown by (tests/prefork_fdpass.rs) |
//! |---|---|
//! | the parent only accepts, and hands a client to a worker that said it is ready | `every_worker_serves` |
//! | workers connect to one Unix socket in the file system, whose path can be chosen | `the_ipc_socket_is_where_it_was_asked_for` |
//! | a worker says "ready" by one byte; the parent finds it by `poll(2)` and passes the client by SCM_RIGHTS | `a_busy_worker_is_passed_over` |
//! | a worker reads the request, runs the program in a child, whose output goes straight to the client | `the_program_answers_every_request` |
//! | a crash in the program harms neither parent nor workers | `a_crashing_program_harms_nobody` |
//! | 4 workers and port 8080 by default | `the_defaults_are_the_seeds` |
//! | (ours) a killed worker is replaced and costs at most its own request | `a_killed_worker_is_replaced` |

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Arg, ArgMatches, value_parser};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

use crate::args::{Args, announce};
use crate::blocking;
use crate::served::Served;
use crate::session::Requests;
use crate::sys::{self, Forked, Worker};

/// "I am ready."
const READY: u8 = b'R';
/// From SIGINT until a worker that still serves is killed.
const STOP_MAX: Duration = Duration::from_secs(5);
const IPC_SOCKET: &str = "ipc-socket";

pub(crate) fn flags() -> Vec<Arg> {
    let ipc = Arg::new(IPC_SOCKET).long(IPC_SOCKET).value_name("PATH").value_parser(value_parser!(PathBuf));
    vec![
        Args::program_flag(),
        ipc.help("Where the workers' Unix socket is made [default: in the folder for temporary files]"),
    ]
}

/// Serves until SIGINT or SIGTERM.
pub(crate) fn run(args: &Args, flags: &ArgMatches) -> io::Result<()> {
    args.pin()?;
    let served = Served::open(args)?;
    let listener = args.listen()?;
    listener.set_nonblocking(true)?;
    let path = flags
        .get_one::<PathBuf>(IPC_SOCKET)
        .cloned()
        .unwrap_or_else(|| std::env::temp_dir().join(format!("models-prefork-fdpass-{}.sock", std::process::id())));
    let named = |error: io::Error| io::Error::new(error.kind(), format!("--{IPC_SOCKET} {}: {error}", path.display()));
    let ipc = SocketFile::bind(path.clone()).map_err(named)?;
    let stop = sys::stop_signals()?;
    let mut parent = Parent { served, listener, ipc, stop, workers: Vec::new(), waiting: VecDeque::new() };
    for _ in 0..args.workers {
        if parent.hire()? == Role::Worker {
            return Ok(());
        }
    }
    announce(&parent.listener)?;
    parent.serve()
}

/// The parent: the listener, the workers' channels, and the clients that wait for a worker.
struct Parent {
    served: Served,
    listener: TcpListener,
    ipc: SocketFile,
    stop: OwnedFd,
    workers: Vec<Channel>,
    waiting: VecDeque<OwnedFd>,
}

/// A worker as the parent sees it.
struct Channel {
    worker: Worker,
    stream: UnixStream,
}

/// On which side of a `fork(2)` the caller is.
#[derive(PartialEq)]
enum Role {
    Parent,
    /// It has served, and is to end.
    Worker,
}

/// Clients that may wait here; more wait in the listener's backlog.
const WAITING_MAX: usize = 1;

impl Parent {
    /// Forks one worker and waits until it has connected.
    fn hire(&mut self) -> io::Result<Role> {
        match sys::fork()? {
            Forked::Child => {
                // The worker holds nothing of the parent's: a client that it does not serve must not stay open by it.
                self.workers.clear();
                self.waiting.clear();
                let channel = UnixStream::connect(&self.ipc.path)?;
                self.ipc.forget();
                work(channel, &self.served)?;
                Ok(Role::Worker)
            }
            Forked::Parent(worker) => {
                let (stream, _) = self.ipc.listener.accept()?;
                self.workers.push(Channel { worker, stream });
                Ok(Role::Parent)
            }
        }
    }

    fn serve(&mut self) -> io::Result<()> {
        loop {
            let wants_clients = self.waiting.len() < WAITING_MAX;
            let (stopped, incoming, events) = self.wait(wants_clients)?;
            if stopped {
                return self.stop();
            }
            if incoming {
                self.accept();
            }
            // Backwards: one that has died is taken out.
            for index in (0..events.len()).rev() {
                if events[index].contains(PollFlags::IN) && !self.waiting.is_empty() {
                    self.dispatch(index);
                } else if events[index].intersects(PollFlags::HUP | PollFlags::ERR)
                    && !events[index].contains(PollFlags::IN)
                {
                    self.bury(index);
                    if self.hire()? == Role::Worker {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Blocks until there is something to do: a stop, a client, or word from a worker.
    fn wait(&self, wants_clients: bool) -> io::Result<(bool, bool, Vec<PollFlags>)> {
        let listening = if wants_clients { PollFlags::IN } else { PollFlags::empty() };
        // A ready byte stays where it is until there is a client for it.
        let word = if self.waiting.is_empty() { PollFlags::empty() } else { PollFlags::IN };
        let mut fds = vec![PollFd::new(&self.stop, PollFlags::IN), PollFd::new(&self.listener, listening)];
        fds.extend(self.workers.iter().map(|worker| PollFd::new(&worker.stream, word)));
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let events = fds[2..].iter().map(PollFd::revents).collect();
        Ok((!fds[0].revents().is_empty(), !fds[1].revents().is_empty(), events))
    }

    fn accept(&mut self) {
        match self.listener.accept() {
            Ok((client, _)) => self.waiting.push_back(client.into()),
            // It left again, or descriptors are short: the next turn tries again.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                eprintln!("accept: {error}");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// Takes the worker's ready byte and gives it a client.
    fn dispatch(&mut self, index: usize) {
        let Channel { stream, .. } = &mut self.workers[index];
        if !matches!(stream.read(&mut [0]), Ok(1)) {
            return;
        }
        let Some(client) = self.waiting.pop_front() else { return };
        // The worker may have died since: its channel says so next, and the client goes to another.
        if pass(stream, client.as_fd()).is_err() {
            self.waiting.push_front(client);
        }
    }

    fn bury(&mut self, index: usize) {
        let Channel { worker, .. } = self.workers.swap_remove(index);
        let pid = worker.pid().as_raw_nonzero();
        eprintln!("worker {pid} has died ({}); another takes its place", worker.wait());
    }

    /// Idle workers see the end of their channel; busy ones finish, and are killed when that takes too long.
    fn stop(&mut self) -> io::Result<()> {
        let until = Instant::now() + STOP_MAX;
        for Channel { worker, stream } in self.workers.drain(..) {
            drop(stream);
            worker.end(until);
        }
        Ok(())
    }
}

/// A worker's life: ready, a client, ready again.
fn work(mut channel: UnixStream, served: &Served) -> io::Result<()> {
    loop {
        if channel.write_all(&[READY]).is_err() {
            return Ok(());
        }
        let Some(client) = take(&channel)? else { return Ok(()) };
        // Whatever goes wrong with one client is over with it.
        if let Ok(Some(mut program)) = blocking::serve(TcpStream::from(client), served, Requests::One, &|| false) {
            program.wait()?;
        }
    }
}

fn pass(channel: &UnixStream, client: BorrowedFd<'_>) -> io::Result<()> {
    let fds = [client];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    // A byte has to go with it: a stream socket carries rights only beside data (unix(7)).
    sendmsg(channel, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The next client; none when the parent has closed the channel.
fn take(channel: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = loop {
        match recvmsg(channel, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            // The parent has gone without taking our last word.
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            received => break received?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    match rights.next().and_then(|mut fds| fds.next()) {
        Some(client) => Ok(Some(client)),
        // Out of descriptors, the kernel drops the rights and delivers the byte.
        None => Err(io::Error::other("a client's descriptor got lost: is RLIMIT_NOFILE too small?")),
    }
}

/// A listening Unix socket whose name goes when it does.
struct SocketFile {
    listener: UnixListener,
    path: PathBuf,
    owner: u32,
}

impl SocketFile {
    fn bind(path: PathBuf) -> io::Result<SocketFile> {
        // Left behind by one that was killed: nobody answers. Anything else is not ours to remove.
        let is_stale = std::fs::symlink_metadata(&path).is_ok_and(|found| {
            use std::os::unix::fs::FileTypeExt;
            found.file_type().is_socket() && UnixStream::connect(&path).is_err()
        });
        if is_stale {
            std::fs::remove_file(&path)?;
        }
        Ok(SocketFile { listener: UnixListener::bind(&path)?, path, owner: std::process::id() })
    }

    /// In a worker: the name is the parent's to remove.
    fn forget(&mut self) {
        self.owner = 0;
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.owner == std::process::id() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
