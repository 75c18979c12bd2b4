//! What a core says of itself when it is asked: one message, however much there is.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use super::super::worker::Worker;
use super::{CoreStats, Replies};
use crate::rt;
use crate::rt::histogram::Times;

/// Everything that a core has counted.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CoreReport {
    /// Its plain counters.
    pub stats: CoreStats,
    /// Replies by status and by what answered; only what there was.
    pub replies: Vec<Replies>,
    /// From the turn in which a request was read to its reply's head, of replies of the server's own.
    pub first_byte: Times,
    /// To the last byte that the socket was given.
    pub whole: Times,
    /// The same, of scripts.
    pub scripted_first_byte: Times,
    /// The same, of scripts.
    pub scripted_whole: Times,
    /// From the start of a script to its exit.
    pub script_run: Times,
    /// How scripts exited, by [`Exit`].
    pub exits: [u64; Exit::ALL.len()],
    /// Why the server ended scripts, by [`Stopped`].
    pub stops: [u64; Stopped::ALL.len()],
}

/// What is only known while somebody watches.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Watched {
    /// Paths that were asked for often since somebody watches, as clients wrote them, without the query, and how often; the counts
    /// may be too high by a 64th of all requests.
    pub paths: Vec<(Vec<u8>, u64)>,
    /// Scripts that run, the oldest first.
    pub scripts: Vec<RunningScript>,
}

/// A script that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningScript {
    /// Its process.
    pub pid: i32,
    /// For how long it has.
    pub age: Duration,
    /// The program.
    pub path: String,
}

/// How a script exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With 0.
    Success,
    /// With another code.
    Failure,
    /// By a signal.
    Signal,
    /// Somebody else was told.
    Unknown,
}

impl Exit {
    /// All of them, in the order of their numbers.
    pub const ALL: [Exit; 4] = [Exit::Success, Exit::Failure, Exit::Signal, Exit::Unknown];

    pub(super) fn of(status: Option<ExitStatus>) -> Exit {
        match status {
            None => Exit::Unknown,
            Some(status) if status.success() => Exit::Success,
            Some(status) if status.signal().is_some() => Exit::Signal,
            Some(_) => Exit::Failure,
        }
    }

    /// In one word, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Exit::Success => "success",
            Exit::Failure => "failure",
            Exit::Signal => "signal",
            Exit::Unknown => "unknown",
        }
    }
}

/// Why the server ended a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It wrote nothing for too long.
    FirstByte,
    /// It neither read nor wrote for too long.
    Idle,
    /// It ran for too long.
    Total,
    /// Its client has left.
    ClientGone,
    /// The server stops.
    ServerStops,
}

impl Stopped {
    /// All of them, in the order of their numbers.
    pub const ALL: [Stopped; 5] =
        [Stopped::FirstByte, Stopped::Idle, Stopped::Total, Stopped::ClientGone, Stopped::ServerStops];

    /// In lower case, without spaces.
    pub fn name(self) -> &'static str {
        match self {
            Stopped::FirstByte => "first_byte",
            Stopped::Idle => "idle",
            Stopped::Total => "total",
            Stopped::ClientGone => "client_gone",
            Stopped::ServerStops => "server_stops",
        }
    }
}

/// What the core of this worker has counted. On its own thread.
pub(in crate::serve) fn report(worker: &Worker) -> CoreReport {
    let metrics = &worker.metrics;
    let mut report = CoreReport {
        stats: stats(worker),
        replies: metrics.replies().collect(),
        first_byte: metrics.own.first_byte.snapshot(),
        whole: metrics.own.whole.snapshot(),
        scripted_first_byte: metrics.scripted.first_byte.snapshot(),
        scripted_whole: metrics.scripted.whole.snapshot(),
        script_run: metrics.scripts.run.snapshot(),
        exits: metrics.scripts.exits(),
        stops: metrics.scripts.stops(),
    };
    // Most replies leave in the turn that they were asked for in, and were counted there.
    let turns = rt::turn_times();
    report.first_byte.add(&turns);
    report.whole.add(&turns);
    report
}

pub(in crate::serve) fn watched(worker: &Worker) -> Watched {
    worker.metrics.watch.look(&worker.metrics.scripts)
}

pub(in crate::serve) fn stats(worker: &Worker) -> CoreStats {
    let metrics = &worker.metrics;
    let (mut requests, mut errors) = (0, 0);
    for replies in metrics.replies() {
        requests += replies.count;
        errors += if replies.status >= 500 { replies.count } else { 0 };
    }
    CoreStats {
        rt: rt::stats(),
        connections: metrics.connections.get(),
        connections_open: worker.registry.len(),
        idle_closed: metrics.idle_closed.get(),
        evicted: metrics.evicted.get(),
        requests,
        errors,
        in_flight: metrics.in_flight.get(),
        cut: metrics.cut.get(),
        sent_bytes: metrics.sent_bytes.get(),
        cache_hits: metrics.cache_hits.get(),
        cache_misses: metrics.cache_misses.get(),
        cache_bytes: worker.sites().files.iter().map(|files| files.held_bytes() as u64).sum(),
        slices_sent: metrics.slices_sent.get(),
        slices_absent: metrics.slices_absent.get(),
        slices_cold: metrics.slices_cold.get(),
        scripts: metrics.scripts.started.get(),
        scripts_running: metrics.scripts.running.get(),
        scripts_not_started: metrics.scripts.not_started.get(),
        scripts_rejected: metrics.scripts.rejected.get(),
        connections_refused_per_ip: metrics.connections_refused_per_ip.get(),
        proxy_headers_refused: metrics.proxy_headers_refused.get(),
        log_records_lost: worker.log.as_ref().map_or(0, |log| log.lost()),
    }
}
