//! HTTPower (seed 002): a main thread that accepts, a bounded queue, and a fixed pool of threads that serve files.
//!
//! | the seed's claim | shown by (tests/thread_pool.rs) |
//! |---|---|
//! | the main thread accepts and queues clients; the pool serves them, several at once | `as_many_clients_as_threads_are_served_at_once` |
//! | the queue blocks who adds to a full one until there is room | `a_full_queue_blocks_and_drains` (and in `queue`) |
//! | the queue blocks who takes from an empty one until there is something | `an_empty_queue_blocks` (in `queue`) |
//! | the queue's data stays whole under many threads | `nothing_is_lost_or_doubled` (in `queue`) |
//! | files to browsers, command-line tools and clients of one's own | `files_and_errors` |
//! | SIGINT breaks the loop; everything is cleaned up, the threads are joined | `sigint_joins_every_thread` |
//! | part 1, one client at a time | `one_worker_is_the_first_part` |

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use clap::{Arg, ArgMatches, value_parser};
use rustix::event::{PollFd, PollFlags, poll};

use crate::args::{Args, announce};
use crate::blocking;
use crate::queue::Queue;
use crate::served::Served;
use crate::session::Requests;
use crate::sys;

const QUEUE: &str = "queue";
const QUEUE_DEFAULT: &str = "64";
const QUEUE_MAX: u64 = 65_536;
/// Between two tries to accept, when descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

pub(crate) fn flags() -> Vec<Arg> {
    let queue = Arg::new(QUEUE).long(QUEUE).value_name("N").default_value(QUEUE_DEFAULT);
    let range = value_parser!(u64).range(1..=QUEUE_MAX);
    vec![queue.value_parser(range).help("Clients that wait for a thread; then accepting waits, too")]
}

/// Serves until SIGINT or SIGTERM.
pub(crate) fn run(args: &Args, flags: &ArgMatches) -> io::Result<()> {
    args.pin()?;
    let served = Served::open(args)?;
    let listener = args.listen()?;
    // Before there is another thread: all of them inherit the mask, and the signals wait for this descriptor.
    let stop = sys::stop_signals()?;
    let queue = Queue::new(flags.get_one::<u64>(QUEUE).map_or(64, |length| *length as usize));
    let stopping = AtomicBool::new(false);
    announce(&listener)?;
    thread::scope(|scope| {
        for index in 0..args.workers {
            let worker = || {
                while let Some(client) = queue.take() {
                    let stopped = || stopping.load(Ordering::Relaxed);
                    // Whatever goes wrong with one client is over with it.
                    if let Ok(Some(mut program)) = blocking::serve(client, &served, Requests::Many, &stopped) {
                        let _ = program.wait();
                    }
                }
            };
            thread::Builder::new().name(format!("worker-{index}")).spawn_scoped(scope, worker)?;
        }
        // The main thread may be held by a full queue when the signal comes; this one is not.
        thread::Builder::new().name("stop".into()).spawn_scoped(scope, || {
            let _ = wait(&mut [PollFd::new(&stop, PollFlags::IN)]);
            stopping.store(true, Ordering::Relaxed);
            // Who waits in the queue is still served; then the threads end, and the scope joins them.
            queue.close();
        })?;
        accept(&listener, &stop, &queue)
    })
}

/// The main thread's loop, until a signal.
fn accept(listener: &TcpListener, stop: &OwnedFd, queue: &Queue<TcpStream>) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    loop {
        let mut fds = [PollFd::new(stop, PollFlags::IN), PollFd::new(listener, PollFlags::IN)];
        wait(&mut fds)?;
        if !fds[0].revents().is_empty() {
            return Ok(());
        }
        match listener.accept() {
            Ok((client, _)) => {
                client.set_nonblocking(false)?;
                queue.add(client);
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted) => {}
            Err(error) => {
                eprintln!("accept: {error}");
                thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

fn wait(fds: &mut [PollFd<'_>]) -> io::Result<()> {
    loop {
        match poll(fds, None) {
            Err(rustix::io::Errno::INTR) => {}
            polled => return Ok(polled.map(drop)?),
        }
    }
}
