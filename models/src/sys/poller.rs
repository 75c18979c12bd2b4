//! The `polling` crate behind calls that cannot be misused: a source stays open for as long as it is registered.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use polling::{Event, Events};

/// What is waited for. One report, then none until it is armed again.
#[derive(Clone, Copy)]
pub(crate) enum Interest {
    Read,
    Write,
}

/// Something with a descriptor.
pub(crate) type Source = Arc<dyn AsFd + Send + Sync>;

/// A readiness queue: kqueue(2), epoll(7) or what the system has.
pub(crate) struct Poller {
    poller: polling::Poller,
    sources: Mutex<HashMap<usize, Source>>,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Poller> {
        Ok(Poller { poller: polling::Poller::new()?, sources: Mutex::default() })
    }

    /// Registers a source under a key that no other has, armed.
    pub(crate) fn add(&self, key: usize, source: Source, interest: Interest) -> io::Result<()> {
        // SAFETY: the source is kept in `sources` until `remove` has deleted it from the poller.
        unsafe { self.poller.add(&source.as_fd(), event(key, interest)) }?;
        self.sources().insert(key, source);
        Ok(())
    }

    /// Arms a source again; any thread may do that.
    pub(crate) fn rearm(&self, key: usize, interest: Interest) -> io::Result<()> {
        let source = self.sources().get(&key).cloned().ok_or(io::ErrorKind::NotFound)?;
        self.poller.modify(borrowed(&source), event(key, interest))
    }

    /// Forgets a source; it closes when nobody else has it.
    pub(crate) fn remove(&self, key: usize) {
        if let Some(source) = self.sources().remove(&key) {
            // It is open, and was added: nothing else can be wrong with it.
            let _ = self.poller.delete(borrowed(&source));
        }
    }

    /// The keys that are ready, after that time at the latest. An interruption is an early end.
    pub(crate) fn wait(&self, timeout: Duration) -> io::Result<Vec<usize>> {
        let mut events = Events::new();
        match self.poller.wait(&mut events, Some(timeout)) {
            Ok(_) => Ok(events.iter().map(|event| event.key).collect()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn sources(&self) -> MutexGuard<'_, HashMap<usize, Source>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn borrowed(source: &Source) -> BorrowedFd<'_> {
    source.as_fd()
}

fn event(key: usize, interest: Interest) -> Event {
    match interest {
        Interest::Read => Event::readable(key),
        Interest::Write => Event::writable(key),
    }
}
