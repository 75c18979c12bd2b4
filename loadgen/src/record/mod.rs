//! What a run is made of: each generator thread keeps a [`Recorder`], and the recorders of a run make a [`Run`].
//!
//! Two latencies are always kept. *Response time* counts from the moment at which the schedule wanted the request sent:
//! what a user would have waited. *Service time* counts from the moment at which it was sent. In a closed loop the
//! schedule wants a request when the answer before it has come, so the two differ by the generator's own delay only.

mod connections;
mod errors;
mod facts;
mod histogram;
mod host;
mod intervals;
mod live;
mod percentile;
mod run;

use std::sync::Arc;

pub use connections::{ConnectionTally, Fairness, SlowestConnection};
pub use errors::{ERROR_KINDS_MAX, ErrorClass, ErrorKind, ErrorTally, FirstExample, errno_name, hint};
pub use facts::{GeneratorUsage, Load, LoadModel, RunFacts, ServerUsage};
pub use histogram::{BATCH_MAX, DURATION_NS_MAX, Hist, Unit};
pub use host::Host;
pub use intervals::{INTERVAL_NS_MIN, Interval, PackedHist};
pub use live::{Live, Snapshot};
pub use percentile::{BEYOND_MIN, PERCENTILES, Percentile};
pub use run::{Generator, Latency, Run, Tally, UrlResult};

use intervals::{Closed, IntervalSeries};

/// URLs that have a histogram of their own (37 KiB a thread); those after them are counted, and have none.
pub const URL_HISTOGRAMS_MAX: usize = 64;

/// What a recorder must know before the run.
#[derive(Clone, Debug)]
pub struct RecorderConfig {
    /// What ends before this moment, since the start of the run, is counted as warm-up and not measured.
    pub warmup_ns: u64,
    /// How long an interval of the series is; at least [`INTERVAL_NS_MIN`].
    pub interval_ns: u64,
    /// How many URLs there are.
    pub urls: usize,
    /// How many connections this thread has; they are numbered from 0.
    pub connections: usize,
}

/// One answered request. Moments are in nanoseconds since the start of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// Which URL, by its number.
    pub url: u16,
    /// When the schedule wanted it sent.
    pub intended_ns: u64,
    /// When it was sent.
    pub sent_ns: u64,
    /// When the first byte of the answer was there.
    pub first_byte_ns: u64,
    /// When the last was.
    pub done_ns: u64,
    /// On which connection of this thread.
    pub conn: u32,
    /// Bytes received for it, the head's too.
    pub wire_bytes: u64,
    /// Bytes of the body.
    pub body_bytes: u64,
    /// The status.
    pub status: u16,
}

/// What one generator thread writes down. An answer costs about 20 ns, the end of an interval 40 us
/// (`examples/recorder_cost.rs`). An event allocates nothing; the first error of a kind does, and so does the end of an
/// interval, the few kilobytes that it is packed into.
///
/// Every request ends in exactly one [`Recorder::response`] or one [`Recorder::error`].
pub struct Recorder {
    config: RecorderConfig,
    now_ns: u64,
    warmup: Tally,
    measured: Tally,
    service: Hist,
    first_byte: Hist,
    connect: Hist,
    lag: Hist,
    batch: Hist,
    reap: Hist,
    intervals: IntervalSeries,
    urls: Vec<UrlTally>,
    statuses: Box<[u64; STATUS_MAX]>,
    connections: ConnectionTally,
    errors: ErrorTally,
    live: Arc<Live>,
}

/// Statuses have three digits; anything else is counted as 0.
const STATUS_MAX: usize = 1_000;

struct UrlTally {
    tally: Tally,
    response: Option<Hist>,
}

impl Recorder {
    /// An empty one. Allocates what it will need: about 2 MiB, of which only what is recorded into becomes resident.
    #[must_use]
    pub fn new(config: &RecorderConfig) -> Recorder {
        // A single URL's response times are those of the run.
        let own = |number: usize| config.urls > 1 && number < URL_HISTOGRAMS_MAX;
        let url = |number| UrlTally { tally: Tally::default(), response: own(number).then(Hist::coarse_durations) };
        Recorder {
            config: RecorderConfig { interval_ns: config.interval_ns.max(INTERVAL_NS_MIN), ..config.clone() },
            now_ns: 0,
            warmup: Tally::default(),
            measured: Tally::default(),
            service: Hist::durations(),
            first_byte: Hist::durations(),
            connect: Hist::durations(),
            lag: Hist::durations(),
            batch: Hist::batches(),
            reap: Hist::durations(),
            intervals: IntervalSeries::new(config.interval_ns),
            urls: (0..config.urls.max(1)).map(url).collect(),
            statuses: vec![0; STATUS_MAX].try_into().expect("as long as it says"),
            connections: ConnectionTally::new(config.connections),
            errors: ErrorTally::new(),
            live: Arc::new(Live::default()),
        }
    }

    /// The numbers that another thread may read meanwhile.
    #[must_use]
    pub fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live)
    }

    /// An answer has come, and it was the right one. It belongs to the interval, and to the warm-up or not, in which it
    /// ended: so the rate is the answers of the window over the window. Events are told in the order of time; one that
    /// comes late goes to the interval that is current.
    #[inline]
    pub fn response(&mut self, at: Completion) {
        self.responses_alike(at, 1);
    }

    /// As [`Recorder::response`], of so many answers that agree in everything: what one receive of a pipelined connection brings.
    #[inline]
    pub fn responses_alike(&mut self, at: Completion, times: u64) {
        self.see(at.done_ns);
        if at.done_ns < self.config.warmup_ns {
            self.warmup.responses_alike(&at, times);
            return;
        }
        let response_ns = at.done_ns.saturating_sub(at.intended_ns);
        let service_ns = at.done_ns.saturating_sub(at.sent_ns);
        self.measured.responses_alike(&at, times);
        self.intervals.responses_alike(response_ns, at.wire_bytes, times);
        self.service.record_n(service_ns, times);
        self.first_byte.record_n(at.first_byte_ns.saturating_sub(at.sent_ns), times);
        self.connections.record_n(at.conn, service_ns, times);
        let status = usize::from(at.status);
        self.statuses[if status < STATUS_MAX { status } else { 0 }] += times;
        if let Some(url) = self.urls.get_mut(usize::from(at.url)) {
            url.tally.responses_alike(&at, times);
            if let Some(response) = &mut url.response {
                response.record_n(response_ns, times);
            }
        }
    }

    /// A connection has been made. Counted in the warm-up too, where most are.
    pub fn connected(&mut self, took_ns: u64) {
        self.connect.record(took_ns);
    }

    /// A request, or the making of a connection, has failed; `detail` is asked for the first of its kind only.
    pub fn error(
        &mut self,
        url: u16,
        class: ErrorClass,
        errno: Option<i32>,
        at_ns: u64,
        detail: impl FnOnce() -> String,
    ) {
        self.see(at_ns);
        let warmup = at_ns < self.config.warmup_ns;
        self.errors.record((class, errno), warmup, || FirstExample { at_ns, url, detail: detail() });
        if warmup {
            self.warmup.errors += 1;
            return;
        }
        self.measured.errors += 1;
        self.intervals.error();
        if let Some(url) = self.urls.get_mut(usize::from(url)) {
            url.tally.errors += 1;
        }
    }

    /// The generator sent a request so long after it could have: after the schedule's moment, and after a connection was
    /// free for it. Waiting for a free connection is the server's doing, and no lag.
    #[inline]
    pub fn lag(&mut self, ns: u64) {
        self.lags_alike(ns, 1);
    }

    /// As [`Recorder::lag`], of so many requests that were sent together.
    #[inline]
    pub fn lags_alike(&mut self, ns: u64, requests: u64) {
        if self.now_ns >= self.config.warmup_ns {
            self.lag.record_n(ns, requests);
        }
    }

    /// One turn of the loop found so many completions, and had handled the last of them so long after they were there.
    #[inline]
    pub fn batch(&mut self, completions: u32, reap_ns: u64) {
        if self.now_ns >= self.config.warmup_ns && completions > 0 {
            self.batch.record(u64::from(completions));
            self.reap.record_n(reap_ns, u64::from(completions));
        }
        self.publish();
    }

    /// Tells the time when nothing else does: once per turn of the loop, or ten times a second. An interval without
    /// events ends by it, and the warm-up does.
    #[inline]
    pub fn advance(&mut self, now_ns: u64) {
        self.see(now_ns);
    }

    /// Stores the numbers for [`Recorder::live`].
    pub fn publish(&self) {
        let (warmup, measured) = (&self.warmup, &self.measured);
        self.live.publish(
            warmup.responses + measured.responses,
            warmup.errors + measured.errors,
            warmup.wire_bytes + measured.wire_bytes,
            self.now_ns,
        );
    }

    /// Answers of the measured window so far.
    #[must_use]
    pub fn responses(&self) -> u64 {
        self.measured.responses
    }

    /// The recorders of one run, one a thread, and what else is known of it, make its result.
    #[must_use]
    pub fn merge(recorders: Vec<Recorder>, facts: RunFacts) -> Run {
        let mut run = Run::empty(facts);
        run.interval_ns = recorders.first().map_or(INTERVAL_NS_MIN, |recorder| recorder.config.interval_ns);
        let mut intervals = Vec::new();
        let mut errors = ErrorTally::new();
        for recorder in recorders {
            recorder.add_to(&mut run, &mut intervals, &mut errors);
        }
        run.errors = errors.into_kinds();
        let intervals = intervals::merge(intervals, &run.interval_numbers(), &mut run.latency.response);
        run.set_intervals(intervals);
        run
    }

    fn add_to(self, run: &mut Run, intervals: &mut Vec<Closed>, errors: &mut ErrorTally) {
        run.warmup.merge(&self.warmup);
        run.measured.merge(&self.measured);
        run.latency.service.add(&self.service);
        run.latency.first_byte.add(&self.first_byte);
        run.latency.connect.add(&self.connect);
        run.generator.lag.add(&self.lag);
        run.generator.batch.add(&self.batch);
        run.generator.reap.add(&self.reap);
        run.connections.merge(&self.connections.fairness(run.connections.connections));
        for (status, &count) in (0..).zip(self.statuses.iter()).filter(|&(_, &count)| count > 0) {
            *run.statuses.entry(status).or_default() += count;
        }
        for (url, tally) in run.urls.iter_mut().zip(self.urls) {
            url.add(&tally.tally, tally.response.as_ref());
        }
        errors.merge(self.errors.into_kinds());
        intervals.extend(self.intervals.finish());
    }

    #[inline]
    fn see(&mut self, at_ns: u64) {
        if at_ns > self.now_ns {
            self.now_ns = at_ns;
        }
        if self.intervals.is_over(at_ns) {
            self.intervals.advance(at_ns, &self.live);
        }
    }
}

/// How many of something a second.
#[must_use]
pub fn per_second(count: u64, duration_ns: u64) -> f64 {
    if duration_ns == 0 { 0.0 } else { count as f64 * 1e9 / duration_ns as f64 }
}

#[cfg(test)]
mod tests;
