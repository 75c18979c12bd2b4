//! Caffeine, second version (seed 001): a supervisor and pre-forked workers that accept on one shared listener.
//!
//! | the seed's claim | shown by (tests/prefork_reuseport.rs) |
//! |---|---|
//! | one listening socket with SO_REUSEPORT, inherited by workers that accept on it themselves | `every_worker_accepts_on_the_shared_listener` |
//! | the parent closes its listening descriptor after forking, and accepts nothing | `the_supervisor_holds_no_listener` |
//! | the handler's standard output is the client's socket; it writes the whole response | `a_handler_writes_the_whole_response` |
//! | handlers are reaped by the kernel; the worker goes on at once | `a_slow_handler_does_not_hold_its_worker` |
//! | 404 for a missing handler, 500 for one that cannot be launched | `missing_and_broken_handlers` |
//! | a handler that crashes after its launch costs its own connection | `a_crashing_handler_harms_nobody` |
//! | 4 workers, `--port`, `--workers`, `--path` | `the_flags_are_the_seeds` |
//! | (ours) a killed worker is replaced and costs at most its own request | `a_killed_worker_is_replaced` |
//! | (ours) when all workers die at once the port is still ours | `when_all_die_at_once_there_is_a_new_listener` |

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use clap::{Arg, ArgMatches};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use ucaffeine::rt::net::Share;

use crate::args::{Args, BACKLOG, announce};
use crate::blocking;
use crate::served::Served;
use crate::session::Requests;
use crate::sys::{self, Forked, Worker};

/// From SIGINT until a worker that still serves is killed.
const STOP_MAX: Duration = Duration::from_secs(5);
/// The listener's descriptor, in every worker: out of the way of what else is opened, so that it is the same in all of them.
const LISTENER: RawFd = 200;
/// Between two tries to accept, when descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// How long the old socket may take to go when all workers were killed: each closes it late in its exit.
const LISTEN_AGAIN_MAX: Duration = Duration::from_secs(30);
/// Between two tries to listen meanwhile.
const LISTEN_AGAIN_PAUSE: Duration = Duration::from_millis(5);

pub(crate) fn flags() -> Vec<Arg> {
    vec![Args::program_flag()]
}

/// Serves until SIGINT or SIGTERM.
pub(crate) fn run(args: &Args, _flags: &ArgMatches) -> io::Result<()> {
    args.pin()?;
    let served = Served::open(args)?;
    let listener = listen(args)?;
    announce(&listener)?;
    // Blocked from here on, in the workers too: a Ctrl-C reaches the whole group, but ends it through the supervisor.
    let stop = sys::stop_signals()?;
    let address = listener.local_addr()?;
    let port = reserve(address)?;
    let mut supervisor =
        Supervisor { served, args: Args { address, ..args.clone() }, workers: Vec::new(), port: Some(port) };
    for _ in 0..args.workers {
        if supervisor.hire(&listener)? == Role::Worker {
            return Ok(());
        }
    }
    // From here on the workers own it.
    drop(listener);
    supervisor.watch(&stop)
}

fn listen(args: &Args) -> io::Result<TcpListener> {
    let address = args.address;
    let listening = ucaffeine::rt::net::listen_tcp(address, BACKLOG, Share::First);
    let listener =
        listening.map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))?;
    // The runtime's listeners do not block; the workers here wait in accept(2), of which the kernel wakes one a client.
    rustix::io::ioctl_fionbio(&listener, false)?;
    at_its_number(listener)
}

/// A socket that is bound and never listens: nobody else is given the port in the moment when no worker lives. (The kernel
/// hands a bound port to nobody who asks for any port, bind(2) and connect(2) alike.)
fn reserve(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Beside the listener, which has both.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    net::bind(&socket, &address)?;
    Ok(socket)
}

/// Moves a descriptor to the listener's number.
fn at_its_number(listener: OwnedFd) -> io::Result<TcpListener> {
    let moved = rustix::io::fcntl_dupfd_cloexec(&listener, LISTENER)?;
    Ok(TcpListener::from(moved))
}

struct Supervisor {
    served: Served,
    args: Args,
    workers: Vec<Worker>,
    /// None in a worker.
    port: Option<OwnedFd>,
}

/// On which side of a `fork(2)` the caller is.
#[derive(PartialEq)]
enum Role {
    Supervisor,
    /// It has served, and is to end.
    Worker,
}

impl Supervisor {
    fn hire(&mut self, listener: &TcpListener) -> io::Result<Role> {
        match sys::fork()? {
            Forked::Child => {
                self.port = None;
                work(listener, &self.served)?;
                Ok(Role::Worker)
            }
            Forked::Parent(worker) => {
                self.workers.push(worker);
                Ok(Role::Supervisor)
            }
        }
    }

    /// Waits for a stop or a worker's end.
    fn watch(&mut self, stop: &OwnedFd) -> io::Result<()> {
        loop {
            let pidfds = self.pidfds()?;
            let mut fds = vec![PollFd::new(stop, PollFlags::IN)];
            fds.extend(pidfds.iter().map(|pidfd| PollFd::new(pidfd, PollFlags::IN)));
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            if !fds[0].revents().is_empty() {
                return self.stop();
            }
            // A worker must not inherit them.
            drop(fds);
            drop(pidfds);
            if self.replace()? == Role::Worker {
                return Ok(());
            }
        }
    }

    fn pidfds(&self) -> io::Result<Vec<OwnedFd>> {
        self.workers.iter().map(|worker| Ok(pidfd_open(worker.pid(), PidfdFlags::empty())?)).collect()
    }

    /// Each dead worker is followed by another.
    fn replace(&mut self) -> io::Result<Role> {
        for index in (0..self.workers.len()).rev() {
            let Some(how) = self.workers[index].has_ended() else { continue };
            let worker = self.workers.swap_remove(index);
            eprintln!("worker {} has died ({how}); another takes its place", worker.pid().as_raw_nonzero());
            let listener = self.listener()?;
            if self.hire(&listener)? == Role::Worker {
                return Ok(Role::Worker);
            }
        }
        Ok(Role::Supervisor)
    }

    /// A living worker's, or a new one: all of them died at once, and the socket with them.
    fn listener(&self) -> io::Result<TcpListener> {
        let until = Instant::now() + LISTEN_AGAIN_MAX;
        loop {
            if let Some(borrowed) = self.borrow_listener() {
                return at_its_number(borrowed);
            }
            match listen(&self.args) {
                // Nobody lends it any more, and somebody who is dying has not let go of it yet.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                    std::thread::sleep(LISTEN_AGAIN_PAUSE);
                }
                listening => return listening,
            }
        }
    }

    /// The supervisor has no listener; a living worker has (pidfd_getfd(2), Linux 5.6, allowed on one's own children).
    fn borrow_listener(&self) -> Option<OwnedFd> {
        self.workers.iter().find_map(|worker| {
            let pidfd = pidfd_open(worker.pid(), PidfdFlags::empty()).ok()?;
            pidfd_getfd(&pidfd, LISTENER, PidfdGetfdFlags::empty()).ok()
        })
    }

    /// A listener that is shut down wakes everyone who waits in accept(2), with EINVAL; who is serving sees it after.
    fn stop(&mut self) -> io::Result<()> {
        if let Some(listener) = self.borrow_listener() {
            rustix::net::shutdown(listener.as_fd(), rustix::net::Shutdown::Both)?;
        }
        let until = Instant::now() + STOP_MAX;
        self.workers.drain(..).for_each(|worker| worker.end(until));
        Ok(())
    }
}

/// A worker's life: accept, serve, accept.
fn work(listener: &TcpListener, served: &Served) -> io::Result<()> {
    sys::reap_children_automatically()?;
    loop {
        match listener.accept() {
            // Whatever goes wrong with one client is over with it; a program that took it over is nobody's concern.
            Ok((client, _)) => drop(blocking::serve(client, served, Requests::One, &|| false)),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                eprintln!("accept: {error}");
                std::thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}
