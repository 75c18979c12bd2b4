//! What a core counts of scripts. They cost a thousand times as much as a file: a list of those that run may be kept.

use std::cell::RefCell;
use std::process::ExitStatus;
use std::rc::Rc;
use std::time::Duration;

use super::Counter;
use super::report::{Exit, RunningScript, Stopped};
use crate::rt::histogram::Histogram;
use crate::rt::time::Instant;

#[derive(Default)]
pub(in crate::serve) struct Scripts {
    /// Started.
    pub(in crate::serve) started: Counter,
    /// Their places are still taken.
    pub(in crate::serve) running: Counter,
    /// Not started: by a mistake in them, or for want of something.
    pub(in crate::serve) not_started: Counter,
    /// Requests that got no place, and no place in the queue, or not in time.
    pub(in crate::serve) rejected: Counter,
    /// From the start of a script to its exit.
    pub(in crate::serve) run: Histogram,
    exits: [Counter; Exit::ALL.len()],
    stopped: [Counter; Stopped::ALL.len()],
    list: RefCell<Vec<Entry>>,
}

struct Entry {
    pid: i32,
    since: Instant,
    path: Rc<str>,
}

impl Scripts {
    /// It was started; `since` is when that was asked for.
    pub(in crate::serve) fn starts(&self, pid: i32, path: &Rc<str>, since: Instant) {
        self.started.add(1);
        self.running.add(1);
        self.list.borrow_mut().push(Entry { pid, since, path: Rc::clone(path) });
    }

    /// How it has exited; `None` where somebody else has been told.
    pub(in crate::serve) fn exited(&self, pid: i32, status: Option<ExitStatus>) {
        let list = self.list.borrow();
        if let Some(entry) = list.iter().find(|entry| entry.pid == pid) {
            self.run.record(Instant::now().duration_since(entry.since).as_nanos() as u64, 1);
        }
        self.exits[Exit::of(status) as usize].add(1);
    }

    /// The server has ended it.
    pub(in crate::serve) fn stopped(&self, why: Stopped) {
        self.stopped[why as usize].add(1);
    }

    /// Its place is free. The number may be another's by now, but whoever came first is found first.
    pub(in crate::serve) fn leaves(&self, pid: i32) {
        self.running.sub(1);
        let mut list = self.list.borrow_mut();
        if let Some(index) = list.iter().position(|entry| entry.pid == pid) {
            list.remove(index);
        }
    }

    pub(super) fn exits(&self) -> [u64; Exit::ALL.len()] {
        std::array::from_fn(|index| self.exits[index].get())
    }

    pub(super) fn stops(&self) -> [u64; Stopped::ALL.len()] {
        std::array::from_fn(|index| self.stopped[index].get())
    }

    /// Those that have run for longest.
    pub(super) fn oldest(&self, max: usize) -> Vec<RunningScript> {
        let now = Instant::now();
        let age = |since: Instant| now.duration_since(since).max(Duration::ZERO);
        let list = self.list.borrow();
        let seen = list.iter().take(max);
        seen.map(|entry| RunningScript { pid: entry.pid, age: age(entry.since), path: entry.path.to_string() })
            .collect()
    }
}
