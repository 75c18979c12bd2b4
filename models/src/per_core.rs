//! What the models of thread-per-core runtimes share: threads with a listener each, the stop, and programs.

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use ucaffeine::rt::net::{Share, listen_tcp};

use crate::args::{Args, BACKLOG, announce};
use crate::handler::Call;
use crate::served::Served;
use crate::sys;

/// How often a thread looks whether it is to stop.
pub(crate) const TICK: Duration = Duration::from_millis(200);
/// Between two tries to accept, when descriptors are short.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// From a signal until what is still served is cut.
pub(crate) const STOP_TICKS: u32 = 250;
pub(crate) const STOP_TICK: Duration = Duration::from_millis(20);

/// Whether the threads are to end.
#[derive(Default)]
pub(crate) struct Stopping(AtomicBool);

impl Stopping {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Runs `core` on as many threads as there are workers, each with a listener of its own (SO_REUSEPORT), until a signal.
pub(crate) fn run(
    args: &Args,
    core: impl Fn(TcpListener, Arc<Served>, Arc<Stopping>) -> io::Result<()> + Sync,
) -> io::Result<()> {
    args.pin()?;
    let served = Arc::new(Served::open(args)?);
    let stop = sys::stop_signals()?;
    sys::reap_children_automatically()?;
    let first = listen(args.address, Share::First)?;
    let address = first.local_addr()?;
    let others = (1..args.workers).map(|_| listen(address, Share::Another));
    let listeners = std::iter::once(Ok(first)).chain(others).collect::<io::Result<Vec<_>>>()?;
    let stopping = Arc::new(Stopping::default());
    announce(&listeners[0])?;
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for (index, listener) in listeners.into_iter().enumerate() {
            let (served, stopping, core) = (Arc::clone(&served), Arc::clone(&stopping), &core);
            let named = thread::Builder::new().name(format!("core-{index}"));
            threads.push(named.spawn_scoped(scope, move || core(listener, served, stopping))?);
        }
        let waited = loop {
            match poll(&mut [PollFd::new(&stop, PollFlags::IN)], None) {
                Err(rustix::io::Errno::INTR) => {}
                polled => break polled,
            }
        };
        stopping.0.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_| io::Error::other("a core panicked"))??;
        }
        Ok(waited.map(drop)?)
    })
}

fn listen(address: SocketAddr, share: Share) -> io::Result<TcpListener> {
    let listener = listen_tcp(address, BACKLOG, share)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))?;
    Ok(TcpListener::from(listener))
}

/// Both ends of a connection.
pub(crate) fn ends(stream: &impl AsRawFd) -> Option<(SocketAddr, SocketAddr)> {
    let stream = sys::duplicate(stream).ok()?;
    let stream = std::net::TcpStream::from(stream);
    stream.peer_addr().ok().zip(stream.local_addr().ok())
}

/// Starts a program on the client's socket; nobody waits for it. The start takes as long as `execve(2)` does, and the thread
/// with it: neither runtime has processes.
pub(crate) fn start(call: Call, stream: &impl AsRawFd) -> io::Result<()> {
    call.start(sys::duplicate(stream)?).map(drop)
}

/// Counts the connections of a core that are being served.
pub(crate) struct Count(Rc<Cell<usize>>);

impl Count {
    pub(crate) fn up(count: &Rc<Cell<usize>>) -> Count {
        count.set(count.get() + 1);
        Count(Rc::clone(count))
    }

    /// A connection at rest is not waited for, while the guard lives.
    pub(crate) fn idle_while(&self, idle: bool) -> Option<Idle<'_>> {
        idle.then(|| {
            self.0.set(self.0.get() - 1);
            Idle(self)
        })
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A connection that nobody waits for.
pub(crate) struct Idle<'c>(&'c Count);

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.0.0.set(self.0.0.get() + 1);
    }
}
