//! What a core counts. Plain cells: one thread writes, a snapshot travels by message (decision 26).

mod exposition;
mod families;
mod listener;
mod observer;
mod process;
mod report;
mod scripts;
mod watch;

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::http::status::Status;
use crate::rt;
use crate::rt::histogram::Histogram;

pub(super) use listener::Listener;
pub(super) use observer::{Last, Observer};
pub(super) use report::stats;
pub use report::{CoreReport, Exit, RunningScript, Stopped, Watched};
pub(super) use scripts::Scripts;
pub(super) use watch::Watch;

/// A number that only its core touches.
#[derive(Default)]
pub(super) struct Counter(Cell<u64>);

impl Counter {
    pub(super) fn add(&self, count: u64) {
        self.0.set(self.0.get() + count);
    }

    pub(super) fn sub(&self, count: u64) {
        self.0.set(self.0.get() - count);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.get()
    }
}

/// The counters of a core.
pub(super) struct Metrics {
    /// Connections accepted.
    pub(super) connections: Counter,
    /// Connections that were closed because they were idle for too long.
    pub(super) idle_closed: Counter,
    /// Idle connections that were closed to make room for others.
    pub(super) evicted: Counter,
    /// Connections that were refused because their address had as many as it may.
    pub(super) connections_refused_per_ip: Counter,
    /// Connections that were closed for want of a PROXY header, or of trust in who sent it.
    pub(super) proxy_headers_refused: Counter,
    /// Bytes that sockets took.
    pub(super) sent_bytes: Counter,
    /// Replies by their status and by what answered: [`Metrics::place`].
    replies: Box<[Counter]>,
    /// Requests whose reply takes longer than the turn that it began in, and is not whole yet.
    pub(super) in_flight: Counter,
    /// Of those, the ones that ended without a whole reply.
    pub(super) cut: Counter,
    /// Replies of the server's own that took more than one turn: until the head was made, and until all was sent.
    pub(super) own: Spans,
    /// Replies of scripts.
    pub(super) scripted: Spans,
    /// Files answered from memory.
    pub(super) cache_hits: Counter,
    /// Files looked up.
    pub(super) cache_misses: Counter,
    /// Slices of files that were in memory and went out by `sendfile`.
    pub(super) slices_sent: Counter,
    /// Looks at a part of a file that found it not in memory.
    pub(super) slices_absent: Counter,
    /// Parts that were not in memory, and were read through the ring.
    pub(super) slices_cold: Counter,
    pub(super) scripts: Scripts,
    pub(super) watch: Watch,
}

/// How long replies took, since their request was read.
#[derive(Default)]
pub(super) struct Spans {
    pub(super) first_byte: Histogram,
    pub(super) whole: Histogram,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut metrics = Metrics {
            connections: Counter::default(),
            idle_closed: Counter::default(),
            evicted: Counter::default(),
            connections_refused_per_ip: Counter::default(),
            proxy_headers_refused: Counter::default(),
            sent_bytes: Counter::default(),
            replies: Box::default(),
            in_flight: Counter::default(),
            cut: Counter::default(),
            own: Spans::default(),
            scripted: Spans::default(),
            cache_hits: Counter::default(),
            cache_misses: Counter::default(),
            slices_sent: Counter::default(),
            slices_absent: Counter::default(),
            slices_cold: Counter::default(),
            scripts: Scripts::default(),
            watch: Watch::default(),
        };
        metrics.replies = (0..STATUSES * Answered::ALL.len()).map(|_| Counter::default()).collect();
        metrics
    }
}

/// What answered a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// A file, or that it has not changed.
    File,
    /// A program, or that it failed.
    Cgi,
    /// The listing of a folder.
    Listing,
    /// Another place to ask at.
    Redirect,
    /// An error of the server's own.
    Error,
}

impl Answered {
    /// All of them, in the order of their numbers.
    pub const ALL: [Answered; 5] =
        [Answered::File, Answered::Cgi, Answered::Listing, Answered::Redirect, Answered::Error];

    /// In one word, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Answered::File => "file",
            Answered::Cgi => "cgi",
            Answered::Listing => "listing",
            Answered::Redirect => "redirect",
            Answered::Error => "error",
        }
    }

    /// What a reply of the server's own is, by its status; 304 says that a file has not changed.
    pub(super) fn by_status(status: Status) -> Answered {
        match status.code() {
            300..=303 | 305..400 => Answered::Redirect,
            400.. => Answered::Error,
            _ => Answered::File,
        }
    }
}

/// A status has three digits, the first of them not 0.
const STATUS_MIN: usize = 100;
const STATUSES: usize = 900;

impl Metrics {
    /// A request is answered with this status.
    pub(super) fn answered(&self, by: Answered, status: Status) {
        if let Some(counter) = self.replies.get(Metrics::place(by, status)) {
            counter.add(1);
        }
    }

    /// A reply of the server's own leaves whole, and whether it was asked for in this turn or (`since_ns`) before.
    pub(super) fn replied(&self, by: Answered, status: Status, since_ns: &mut u64) {
        self.answered(by, status);
        match *since_ns {
            // The runtime's clock is read once a turn, for all such replies together.
            0 => rt::leaves_with_turn(),
            since => {
                self.own.first_byte.record(ns_since(since), 1);
                self.sent(&self.own, since_ns);
            }
        }
    }

    /// As [`replied`](Self::replied), where only the head leaves now.
    pub(super) fn begins_to_reply(&self, by: Answered, status: Status, since_ns: &mut u64) {
        self.answered(by, status);
        self.asked(since_ns);
        self.own.first_byte.record(ns_since(*since_ns), 1);
    }

    /// The head of a script's reply leaves, or that of an error in its place.
    pub(super) fn script_replied(&self, status: Status, since_ns: u64) {
        self.answered(Answered::Cgi, status);
        if since_ns != 0 {
            self.scripted.first_byte.record(ns_since(since_ns), 1);
        }
    }

    /// A request will not be answered in this turn.
    pub(super) fn asked(&self, since_ns: &mut u64) {
        if *since_ns == 0 {
            *since_ns = rt::time::Instant::now().as_nanos();
            self.in_flight.add(1);
        }
    }

    /// The reply to such a request is whole.
    pub(super) fn sent(&self, spans: &Spans, since_ns: &mut u64) {
        if *since_ns != 0 {
            spans.whole.record(ns_since(*since_ns), 1);
            *since_ns = 0;
            self.in_flight.sub(1);
        }
    }

    /// A connection is over. If it was in the middle of such a request, that was cut.
    pub(super) fn left(&self, since_ns: &mut u64) {
        if std::mem::take(since_ns) != 0 {
            self.in_flight.sub(1);
            self.cut.add(1);
        }
    }

    /// Statuses that are used much lie beside each other.
    fn place(by: Answered, status: Status) -> usize {
        usize::from(status.code()).saturating_sub(STATUS_MIN) * Answered::ALL.len() + by as usize
    }

    /// Every status and kind that there was, with its count.
    pub(super) fn replies(&self) -> impl Iterator<Item = Replies> {
        let answered = self.replies.iter().enumerate().filter(|(_, counter)| counter.get() > 0);
        answered.map(|(place, counter)| Replies {
            status: (place / Answered::ALL.len() + STATUS_MIN) as u16,
            by: Answered::ALL[place % Answered::ALL.len()],
            count: counter.get(),
        })
    }
}

/// By a look at the clock: what takes more than a turn is worth one.
fn ns_since(ns: u64) -> u64 {
    rt::time::Instant::fresh().as_nanos().saturating_sub(ns)
}

/// How often something answered with a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replies {
    /// The status code.
    pub status: u16,
    /// What answered.
    pub by: Answered,
    /// How often.
    pub count: u64,
}

/// What a stop had to end because the drain was over before it was.
#[derive(Default)]
pub(super) struct Cut {
    connections: AtomicU64,
    scripts: AtomicU64,
}

impl Cut {
    pub(super) fn add(&self, connections: u64, scripts: u64) {
        self.connections.fetch_add(connections, Ordering::Relaxed);
        self.scripts.fetch_add(scripts, Ordering::Relaxed);
    }

    pub(super) fn count(&self) -> CutStats {
        let (connections, scripts) = (self.connections.load(Ordering::Relaxed), self.scripts.load(Ordering::Relaxed));
        CutStats { connections, scripts }
    }
}

/// How much was cut at a stop, instead of finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CutStats {
    /// Connections, in the middle of a request or its reply.
    pub connections: u64,
    /// Scripts.
    pub scripts: u64,
}

/// The plain counters of one core.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct CoreStats {
    /// The runtime's own counters.
    pub rt: crate::rt::Stats,
    /// Connections accepted.
    pub connections: u64,
    /// Connections open now.
    pub connections_open: usize,
    /// Connections that were closed because they were idle for too long.
    pub idle_closed: u64,
    /// Idle connections that were closed to make room for others.
    pub evicted: u64,
    /// Requests answered, errors included: their reply has a head.
    pub requests: u64,
    /// Of them, those that were answered with a 5xx.
    pub errors: u64,
    /// Requests that are being answered, and have been for more than a turn.
    pub in_flight: u64,
    /// Of such requests, those that have ended without a whole reply.
    pub cut: u64,
    /// Bytes that sockets took.
    pub sent_bytes: u64,
    /// Files answered from memory.
    pub cache_hits: u64,
    /// Files looked up.
    pub cache_misses: u64,
    /// Bytes of files that are kept in memory.
    pub cache_bytes: u64,
    /// Slices of files that were in memory and went out by `sendfile`.
    pub slices_sent: u64,
    /// Looks at a part of a file that found it not in memory.
    pub slices_absent: u64,
    /// Parts that were not in memory, and were read through the ring.
    pub slices_cold: u64,
    /// Scripts started.
    pub scripts: u64,
    /// Scripts running now.
    pub scripts_running: u64,
    /// Scripts that could not be started.
    pub scripts_not_started: u64,
    /// Requests for scripts that got no place, or not in time.
    pub scripts_rejected: u64,
    /// Lines of the access log that were dropped.
    pub log_records_lost: u64,
    /// Connections that were refused because their address had as many as it may.
    pub connections_refused_per_ip: u64,
    /// Connections that were closed for want of a PROXY header, or of trust in who sent it.
    pub proxy_headers_refused: u64,
}
