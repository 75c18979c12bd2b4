//! The run, cut into intervals: each closed one is kept as its few kilobytes of V2 format, not as 270 KiB of cells.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use hdrhistogram::serialization::V2Serializer;
use serde::{Deserialize, Serialize};

use super::histogram::{Hist, Unit};
use super::live::Live;
use super::percentile::Percentile;

/// The shortest interval: shorter ones would cost the generator more than they tell.
pub const INTERVAL_NS_MIN: u64 = 10_000_000;

/// One interval of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// When it began, since the start of the run.
    pub start_ns: u64,
    /// How long it is; the first may be shorter, the last shorter or a little longer.
    pub duration_ns: u64,
    /// Right answers.
    pub responses: u64,
    /// Errors.
    pub errors: u64,
    /// Bytes received.
    pub wire_bytes: u64,
    /// Response times of the answers.
    pub response: PackedHist,
}

/// A histogram of durations as its text, with what is asked of it most.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PackedHist {
    /// Samples that were larger than the last cell.
    pub clamped: u64,
    /// The median in ns, if there are enough samples to say so.
    pub p50: Option<u64>,
    /// The 99th percentile likewise.
    pub p99: Option<u64>,
    /// The largest sample, in ns.
    pub max: u64,
    /// The V2 format, deflated, in base64; empty without samples.
    pub encoded: String,
}

impl PackedHist {
    /// Packs a histogram of durations.
    #[must_use]
    pub fn pack(hist: &Hist) -> PackedHist {
        if hist.is_empty() {
            return PackedHist::default();
        }
        PackedHist {
            clamped: hist.clamped(),
            p50: hist.at(Percentile::P50),
            p99: hist.at(Percentile::P99),
            max: hist.max(),
            encoded: hist.encode(),
        }
    }

    /// The histogram. An error says what is wrong with the text.
    pub fn unpack(&self) -> Result<Hist, String> {
        if self.encoded.is_empty() {
            return Ok(Hist::durations());
        }
        Hist::decode(Unit::Ns, &self.encoded, self.clamped)
    }
}

impl Interval {
    /// Answers a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        super::per_second(self.responses, self.duration_ns)
    }
}

/// The intervals of one thread: the current one as a histogram, the closed ones packed.
pub(super) struct IntervalSeries {
    length_ns: u64,
    current: Current,
    closed: Vec<Closed>,
    serializer: V2Serializer,
    scratch: Vec<u8>,
}

struct Current {
    number: u64,
    end_ns: u64,
    errors: u64,
    wire_bytes: u64,
    response: Hist,
}

/// An interval of one thread, packed.
pub(super) struct Closed {
    pub(super) number: u64,
    responses: u64,
    errors: u64,
    wire_bytes: u64,
    clamped: u64,
    response_v2: Box<[u8]>,
}

impl IntervalSeries {
    pub(super) fn new(length_ns: u64) -> IntervalSeries {
        let length_ns = length_ns.max(INTERVAL_NS_MIN);
        // Both buffers get their size now, not between two requests: the serializer sizes its own by the largest value.
        let mut largest = Hist::durations();
        largest.record(super::histogram::DURATION_NS_MAX);
        let (mut serializer, mut scratch) = (V2Serializer::new(), Vec::with_capacity(largest.v2_bytes_max()));
        largest.write_v2(&mut serializer, &mut scratch);
        scratch.clear();
        let current = Current { number: 0, end_ns: length_ns, errors: 0, wire_bytes: 0, response: Hist::durations() };
        IntervalSeries { length_ns, current, closed: Vec::with_capacity(64), serializer, scratch }
    }

    /// True when that moment is beyond the current interval.
    #[inline]
    pub(super) fn is_over(&self, at_ns: u64) -> bool {
        at_ns >= self.current.end_ns
    }

    #[inline]
    pub(super) fn responses_alike(&mut self, response_ns: u64, wire_bytes: u64, times: u64) {
        self.current.response.record_n(response_ns, times);
        self.current.wire_bytes += wire_bytes * times;
    }

    pub(super) fn error(&mut self) {
        self.current.errors += 1;
    }

    /// Goes on to the interval of that moment, and publishes the one that ended.
    pub(super) fn advance(&mut self, at_ns: u64, live: &Live) {
        let ended = &self.current.response;
        let known = |percentile| ended.at(percentile).unwrap_or(0);
        live.publish_interval(known(Percentile::P50), known(Percentile::P99), ended.max());
        self.close();
        self.current.number = at_ns / self.length_ns;
        self.current.end_ns = (self.current.number + 1).saturating_mul(self.length_ns);
    }

    /// Every interval in which something happened, by number.
    pub(super) fn finish(mut self) -> Vec<Closed> {
        self.close();
        self.closed
    }

    /// Packs the current interval, if anything happened in it, and begins an empty one.
    fn close(&mut self) {
        let current = &mut self.current;
        if current.response.is_empty() && current.errors == 0 {
            return;
        }
        current.response.write_v2(&mut self.serializer, &mut self.scratch);
        self.closed.push(Closed {
            number: current.number,
            responses: current.response.count(),
            errors: std::mem::take(&mut current.errors),
            wire_bytes: std::mem::take(&mut current.wire_bytes),
            clamped: current.response.clamped(),
            response_v2: self.scratch.as_slice().into(),
        });
        self.scratch.clear();
        current.response.clear();
    }
}

/// The intervals of several threads as one series, by number; their answers are added to `response`. What ended while the
/// run was being stopped belongs to its last interval.
pub(super) fn merge(
    closed: Vec<Closed>,
    numbers: &RangeInclusive<u64>,
    response: &mut Hist,
) -> BTreeMap<u64, Interval> {
    let mut by_number: BTreeMap<u64, Vec<Closed>> = BTreeMap::new();
    for interval in closed {
        let number = interval.number.clamp(*numbers.start(), *numbers.end());
        by_number.entry(number).or_default().push(interval);
    }
    let mut sum = Hist::durations();
    let merged = by_number.into_iter().map(|(number, parts)| {
        let mut interval = Interval::default();
        sum.clear();
        for part in &parts {
            interval.responses += part.responses;
            interval.errors += part.errors;
            interval.wire_bytes += part.wire_bytes;
            sum.add_v2(&part.response_v2, part.clamped);
        }
        response.add(&sum);
        interval.response = PackedHist::pack(&sum);
        (number, interval)
    });
    merged.collect()
}
