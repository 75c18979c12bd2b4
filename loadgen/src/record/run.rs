//! The result of a run: plain data, and all that every report is made from.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::connections::Fairness;
use super::errors::ErrorKind;
use super::facts::RunFacts;
use super::histogram::Hist;
use super::intervals::Interval;
use super::{Completion, per_second};
use crate::verdict::{SloResult, Validity};

/// What was measured, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// How far to believe it.
    pub validity: Validity,
    /// Whether the promise of `--slo` was kept, if one was asked for.
    pub slo: Option<SloResult>,
    /// What is known besides the samples. Of merged runs: the first one's, with what adds up added.
    pub facts: RunFacts,
    /// The facts of each run that was merged into this one; empty for a run that is one.
    pub parts: Vec<RunFacts>,
    /// The measured window.
    pub measured: Tally,
    /// The warm-up before it.
    pub warmup: Tally,
    /// Right answers by status, in the window.
    pub statuses: BTreeMap<u16, u64>,
    /// Latencies, in the window.
    pub latency: Latency,
    /// What the generator itself adds, in the window.
    pub generator: Generator,
    /// Errors by kind, the most frequent first.
    pub errors: Vec<ErrorKind>,
    /// Results by URL, in the order of their numbers.
    pub urls: Vec<UrlResult>,
    /// How evenly the connections were served, in the window.
    pub connections: Fairness,
    /// How long an interval is.
    pub interval_ns: u64,
    /// The window in intervals, without gaps; the first may be shorter, and the last shorter or a tenth longer.
    pub intervals: Vec<Interval>,
}

/// Counts of answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Right answers.
    pub responses: u64,
    /// Errors.
    pub errors: u64,
    /// Bytes received for the answers, heads too.
    pub wire_bytes: u64,
    /// Bytes of their bodies.
    pub body_bytes: u64,
}

/// Latencies of the right answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// From the moment at which the schedule wanted the request sent, to the last byte of the answer.
    pub response: Hist,
    /// From the moment at which it was sent, to the last byte of the answer.
    pub service: Hist,
    /// From the moment at which it was sent, to the first byte of the answer.
    pub first_byte: Hist,
    /// The making of a connection; the warm-up's too.
    pub connect: Hist,
}

/// What the generator itself adds to a latency.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generator {
    /// How long after the schedule's moment requests were sent.
    pub lag: Hist,
    /// How many completions a turn of the loop found.
    pub batch: Hist,
    /// How long completions may have waited to be seen: one sample each, the longest of its batch.
    pub reap: Hist,
}

/// What came of one URL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UrlResult {
    /// The URL.
    pub url: String,
    /// Its answers.
    pub tally: Tally,
    /// Their response times to two digits; nothing when it is the only URL, or one of too many.
    pub response: Option<Hist>,
}

impl Tally {
    #[inline]
    pub(super) fn responses_alike(&mut self, at: &Completion, times: u64) {
        self.responses += times;
        self.wire_bytes += at.wire_bytes * times;
        self.body_bytes += at.body_bytes * times;
    }

    /// Adds the counts of another one.
    pub fn merge(&mut self, other: &Tally) {
        self.responses += other.responses;
        self.errors += other.errors;
        self.wire_bytes += other.wire_bytes;
        self.body_bytes += other.body_bytes;
    }

    /// Errors among all that ended, 0 to 1.
    #[must_use]
    pub fn error_share(&self) -> f64 {
        let ended = self.responses.saturating_add(self.errors);
        if ended == 0 { 0.0 } else { self.errors as f64 / ended as f64 }
    }
}

impl UrlResult {
    pub(super) fn add(&mut self, tally: &Tally, response: Option<&Hist>) {
        self.tally.merge(tally);
        match (&mut self.response, response) {
            (Some(sum), Some(other)) => sum.add(other),
            (None, Some(other)) => self.response = Some(other.clone()),
            (_, None) => {}
        }
    }
}

impl Run {
    /// Without any sample.
    #[must_use]
    pub fn empty(mut facts: RunFacts) -> Run {
        // JSON has no word for what a division by nothing gives.
        if !facts.generator.busiest_thread_share.is_finite() {
            facts.generator.busiest_thread_share = 0.0;
        }
        facts.steal_share = facts.steal_share.filter(|share| share.is_finite());
        let url = |url: &String| UrlResult { url: url.clone(), tally: Tally::default(), response: None };
        Run {
            validity: Validity::unjudged(),
            slo: None,
            urls: facts.urls.iter().map(url).collect(),
            facts,
            parts: Vec::new(),
            measured: Tally::default(),
            warmup: Tally::default(),
            statuses: BTreeMap::new(),
            latency: Latency {
                response: Hist::durations(),
                service: Hist::durations(),
                first_byte: Hist::durations(),
                connect: Hist::durations(),
            },
            generator: Generator { lag: Hist::durations(), batch: Hist::batches(), reap: Hist::durations() },
            errors: Vec::new(),
            connections: Fairness::default(),
            interval_ns: 0,
            intervals: Vec::new(),
        }
    }

    /// Right answers a second, over the whole window.
    #[must_use]
    pub fn requests_per_second(&self) -> f64 {
        per_second(self.measured.responses, self.facts.window_ns())
    }

    /// Right answers a second in the last interval that is whole: where a ramp ended, not what it achieved.
    #[must_use]
    pub fn last_interval_per_second(&self) -> Option<f64> {
        let whole = |interval: &&Interval| interval.duration_ns >= self.interval_ns;
        self.intervals.iter().rev().find(whole).map(Interval::rate)
    }

    /// Server CPU time for one answer, if the server was watched.
    #[must_use]
    pub fn server_cpu_ns_per_request(&self) -> Option<f64> {
        let server = self.facts.server.as_ref()?;
        (self.measured.responses > 0).then(|| server.cpu_ns() as f64 / self.measured.responses as f64)
    }

    /// The numbers of the first and the last interval of the window. A last one that would be a sliver belongs to the one
    /// before: its rate would be noise.
    pub(super) fn interval_numbers(&self) -> RangeInclusive<u64> {
        let length = self.interval_ns.max(1);
        let first = self.facts.warmup_ns / length;
        let whole = self.facts.elapsed_ns / length;
        let sliver = self.facts.elapsed_ns % length < length / 10;
        let last = if sliver { whole.saturating_sub(1) } else { whole };
        first..=last.max(first)
    }

    /// Sets the intervals of the window: those without events too, the first and last as short as they were.
    pub(super) fn set_intervals(&mut self, mut found: BTreeMap<u64, Interval>) {
        let (from, to) = (self.facts.warmup_ns, self.facts.elapsed_ns);
        let numbers = self.interval_numbers();
        let last = *numbers.end();
        self.intervals = numbers
            .map(|number| {
                let start_ns = (number * self.interval_ns).max(from);
                let stop_ns = if number == last { to } else { (number + 1) * self.interval_ns };
                let mut interval = found.remove(&number).unwrap_or_default();
                (interval.start_ns, interval.duration_ns) = (start_ns, stop_ns.saturating_sub(start_ns));
                interval
            })
            .collect();
    }
}
