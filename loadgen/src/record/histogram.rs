//! A histogram that loses no sample: what is too large for it is counted in its last cell, and counted as clamped.
//!
//! HdrHistogram's cells are fixed at three digits up to an hour, so recording neither allocates nor fails, two histograms
//! add up cell by cell, and what is written in its V2 format is read back equal.

use std::fmt;
use std::io::Read as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::read::ZlibDecoder;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer, V2Serializer};
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Deserializer as Source, Serialize, Serializer};

use super::percentile::{PERCENTILES, Percentile};

/// The largest duration with a cell of its own. Each doubling costs 8 KiB; an hour outlasts any timeout.
pub const DURATION_NS_MAX: u64 = 3_600_000_000_000;

/// The largest batch of completions with a cell of its own: sixteen times the largest completion queue.
pub const BATCH_MAX: u64 = 1 << 20;

/// Digits that a value keeps: 0.1 %.
const DIGITS: u8 = 3;

/// Digits that a value keeps in the histogram of one URL out of many: 1 % and 37 KiB instead of 270.
const COARSE_DIGITS: u8 = 2;

/// The most bytes that a histogram from a file may unfold to. Ours need 9 bytes a cell at most: 310 KiB.
const UNFOLDED_BYTES_MAX: u64 = 8 << 20;

/// What precedes the cells in the V2 format: cookie, payload length, offset, digits, two bounds, ratio.
const V2_HEAD_BYTES: usize = 40;

/// A cell's count, at most.
const V2_CELL_BYTES_MAX: usize = 9;

/// What the values of a histogram are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Durations, in nanoseconds.
    Ns,
    /// Completions that one turn of a loop found.
    Completions,
}

/// Samples, to three digits.
#[derive(Clone, PartialEq)]
pub struct Hist {
    unit: Unit,
    cells: Histogram<u64>,
    clamped: u64,
}

impl Hist {
    /// For durations from 1 ns to an hour.
    #[must_use]
    pub fn durations() -> Hist {
        Hist::new(Unit::Ns, DURATION_NS_MAX, DIGITS)
    }

    /// For durations, to two digits.
    #[must_use]
    pub fn coarse_durations() -> Hist {
        Hist::new(Unit::Ns, DURATION_NS_MAX, COARSE_DIGITS)
    }

    /// For sizes of batches.
    #[must_use]
    pub fn batches() -> Hist {
        Hist::new(Unit::Completions, BATCH_MAX, DIGITS)
    }

    fn new(unit: Unit, high: u64, digits: u8) -> Hist {
        let cells = Histogram::new_with_bounds(1, high, digits).expect("constant bounds that are valid");
        Hist { unit, cells, clamped: 0 }
    }

    /// Records a value. Neither allocates nor fails.
    #[inline]
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Records a value a number of times.
    #[inline]
    pub fn record_n(&mut self, value: u64, times: u64) {
        if value > self.cells.high() {
            self.clamped += times;
        }
        self.cells.saturating_record_n(value, times);
    }

    /// Adds the samples of another one, clamped ones included.
    pub fn add(&mut self, other: &Hist) {
        if self.cells.add(&other.cells).is_err() {
            // Another build's histogram may reach higher: what does not fit is clamped, as when it is recorded.
            for cell in other.cells.iter_recorded() {
                self.record_n(cell.value_iterated_to(), cell.count_at_value());
            }
        }
        self.clamped += other.clamped;
    }

    /// Forgets every sample; allocates nothing.
    pub fn clear(&mut self) {
        self.cells.reset();
        self.clamped = 0;
    }

    /// What the values are.
    #[must_use]
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// How many samples there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.cells.len()
    }

    /// Samples that were larger than the last cell, and are in it.
    #[must_use]
    pub fn clamped(&self) -> u64 {
        self.clamped
    }

    /// True without samples.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The smallest sample, to the resolution; 0 without samples.
    #[must_use]
    pub fn min(&self) -> u64 {
        self.cells.min()
    }

    /// The largest sample, to the resolution; 0 without samples.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.cells.max()
    }

    /// The mean; 0 without samples.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.cells.mean()
    }

    /// The standard deviation; 0 without samples.
    #[must_use]
    pub fn stdev(&self) -> f64 {
        self.cells.stdev()
    }

    /// The value at a percentile, if enough samples lie beyond it to say so.
    #[must_use]
    pub fn at(&self, percentile: Percentile) -> Option<u64> {
        percentile.is_known_from(self.count()).then(|| self.cells.value_at_quantile(percentile.quantile()))
    }

    /// The value at a quantile, however few samples there are.
    #[must_use]
    pub fn at_quantile(&self, quantile: f64) -> u64 {
        self.cells.value_at_quantile(quantile)
    }

    /// How many samples are larger than a value, to the resolution.
    #[must_use]
    pub fn count_above(&self, value: u64) -> u64 {
        let Some(above) = self.cells.highest_equivalent(value).checked_add(1) else { return 0 };
        if above > self.max() { 0 } else { self.cells.count_between(above, self.max()) }
    }

    /// The crate's histogram, for its iterators and its log format.
    #[must_use]
    pub fn cells(&self) -> &Histogram<u64> {
        &self.cells
    }

    /// The most bytes that [`Hist::write_v2`] appends; memory that nothing is written to is not resident.
    pub(super) fn v2_bytes_max(&self) -> usize {
        V2_HEAD_BYTES + self.cells.distinct_values() * V2_CELL_BYTES_MAX
    }

    /// Appends the V2 format, not deflated: the quick form, for the generator's own thread.
    pub(super) fn write_v2(&self, serializer: &mut V2Serializer, out: &mut Vec<u8>) {
        serializer.serialize(&self.cells, out).expect("a vector takes every byte, and the bounds are 64-bit");
    }

    /// Adds what [`Hist::write_v2`] wrote.
    pub(super) fn add_v2(&mut self, mut v2: &[u8], clamped: u64) {
        let cells = Deserializer::new().deserialize(&mut v2).expect("the format that this process wrote");
        self.add(&Hist { unit: self.unit, cells, clamped });
    }

    /// The V2 format, deflated, in base64: what the HdrHistogram tools of every language read.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(&self.cells, &mut bytes).expect("a vector takes every byte");
        BASE64_STANDARD.encode(bytes)
    }

    /// Reads the V2 format in base64, deflated or not. An error says what is wrong with the text.
    pub fn decode(unit: Unit, text: &str, clamped: u64) -> Result<Hist, String> {
        let bytes = BASE64_STANDARD.decode(text).map_err(|error| format!("not base64: {error}"))?;
        let plain = unfold(bytes)?;
        check_head(&plain)?;
        let cells = Deserializer::new().deserialize(&mut plain.as_slice()).map_err(|error| error.to_string())?;
        Ok(Hist { unit, cells, clamped })
    }
}

/// Inflates a histogram that is deflated, and stops at a bound: the length inside is the file's word.
fn unfold(bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    if bytes.get(3) != Some(&DEFLATED_COOKIE[3]) || !bytes.starts_with(&DEFLATED_COOKIE) {
        return Ok(bytes);
    }
    let mut plain = Vec::new();
    let body = bytes.get(8..).unwrap_or_default();
    let read = ZlibDecoder::new(body).take(UNFOLDED_BYTES_MAX).read_to_end(&mut plain);
    read.map(|_| plain).map_err(|error| format!("not a deflated histogram: {error}"))
}

/// The first bytes of the two forms.
const DEFLATED_COOKIE: [u8; 4] = 0x1c84_9314_u32.to_be_bytes();
const PLAIN_COOKIE: [u8; 4] = 0x1c84_9313_u32.to_be_bytes();

/// The decoder allocates what the head asks for, so the head must be believable first.
fn check_head(plain: &[u8]) -> Result<(), String> {
    let word = |at: usize| Some(u32::from_be_bytes(plain.get(at..at + 4)?.try_into().ok()?));
    match (plain.starts_with(&PLAIN_COOKIE), word(4), word(12)) {
        (true, Some(payload), _) if payload as usize != plain.len().saturating_sub(V2_HEAD_BYTES) => {
            Err(String::from("a histogram that was cut short"))
        }
        (true, Some(_), Some(digits)) if digits <= u32::from(DIGITS) => Ok(()),
        (true, Some(_), Some(digits)) => Err(format!("a histogram of {digits} digits; at most {DIGITS} are read")),
        _ => Err(String::from("not a histogram in the V2 format")),
    }
}

/// Without its 34,000 cells.
impl fmt::Debug for Hist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, clamped, mean) = (self.count(), self.clamped, self.mean());
        write!(f, "Hist({count} samples, {clamped} clamped, {}..{mean:.1}..{} {:?})", self.min(), self.max(), self.unit)
    }
}

/// What a histogram is in the JSON: what is derived from it, for readers without the library, and itself.
impl Serialize for Hist {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Hist", 9)?;
        out.serialize_field("unit", &self.unit)?;
        out.serialize_field("count", &self.count())?;
        out.serialize_field("clamped", &self.clamped)?;
        out.serialize_field("min", &self.min())?;
        out.serialize_field("mean", &self.mean())?;
        out.serialize_field("stdev", &self.stdev())?;
        out.serialize_field("max", &self.max())?;
        out.serialize_field("percentiles", &Percentiles(self))?;
        out.serialize_field("encoded", &self.encode())?;
        out.end()
    }
}

/// `{"50": 480000, "99.9": null}`: null where too few samples lie beyond.
struct Percentiles<'a>(&'a Hist);

impl Serialize for Percentiles<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(PERCENTILES.iter().map(|&percentile| (percentile.to_string(), self.0.at(percentile))))
    }
}

impl<'de> Deserialize<'de> for Hist {
    fn deserialize<D: Source<'de>>(source: D) -> Result<Hist, D::Error> {
        /// What is not derived.
        #[derive(Deserialize)]
        struct Stored {
            unit: Unit,
            count: u64,
            clamped: u64,
            encoded: String,
        }
        let stored = Stored::deserialize(source)?;
        let hist = Hist::decode(stored.unit, &stored.encoded, stored.clamped)
            .map_err(<D::Error as serde::de::Error>::custom)?;
        if hist.count() != stored.count {
            let fault = format!("a histogram of {} samples that says it has {}", hist.count(), stored.count);
            return Err(<D::Error as serde::de::Error>::custom(fault));
        }
        Ok(hist)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_sample_that_is_too_large_is_clamped_and_counted() {
        let mut hist = Hist::durations();
        hist.record(DURATION_NS_MAX);
        assert_eq!((hist.count(), hist.clamped()), (1, 0));
        hist.record(u64::MAX);
        hist.record_n(hist.cells.high() + 1, 2);
        assert_eq!((hist.count(), hist.clamped()), (4, 3));
        assert!(hist.max() >= DURATION_NS_MAX);
    }

    #[test]
    fn count_above_counts_what_is_larger() {
        let mut hist = Hist::durations();
        for value in [0, 1, 5, 5, 9] {
            hist.record(value);
        }
        let above: Vec<u64> = [0, 1, 4, 5, 9, 10, u64::MAX].into_iter().map(|value| hist.count_above(value)).collect();
        assert_eq!(above, [4, 3, 3, 1, 0, 0, 0]);
    }

    #[test]
    fn text_that_is_no_histogram_is_an_error_that_says_why() {
        let encoded = Hist::durations().encode();
        let mut long = BASE64_STANDARD.decode(Hist::durations().encode()).expect("ours");
        long.truncate(20);
        let mut plain = Vec::new();
        Hist::durations().write_v2(&mut V2Serializer::new(), &mut plain);
        let mut digits = plain.clone();
        digits[15] = 5;
        let mut huge = plain.clone();
        huge[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        for (text, why) in [
            (String::from("%"), "base64"),
            (String::new(), "V2 format"),
            (encoded[..4].to_owned(), "V2 format"),
            (encoded[..8].to_owned(), "deflated"),
            (BASE64_STANDARD.encode(long), "deflated"),
            (BASE64_STANDARD.encode(digits), "5 digits"),
            (BASE64_STANDARD.encode(huge), "cut short"),
        ] {
            let error = Hist::decode(Unit::Ns, &text, 0).expect_err(&text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_equal(values in proptest::collection::vec(any::<u64>(), 0..200)) {
            let mut hist = Hist::durations();
            for value in values {
                hist.record(value >> (value % 64));
            }
            prop_assert_eq!(&Hist::decode(Unit::Ns, &hist.encode(), hist.clamped()).expect("ours"), &hist);
            let mut plain = Vec::new();
            hist.write_v2(&mut V2Serializer::new(), &mut plain);
            let mut sum = Hist::durations();
            sum.add_v2(&plain, hist.clamped());
            prop_assert_eq!(&sum, &hist);
            let json = serde_json::to_string(&hist).expect("JSON");
            prop_assert_eq!(&serde_json::from_str::<Hist>(&json).expect("ours"), &hist);
        }

        #[test]
        fn no_text_makes_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), from in 0..60_usize) {
            let mut plain = Vec::new();
            let mut hist = Hist::durations();
            hist.record(1_000_000);
            hist.write_v2(&mut V2Serializer::new(), &mut plain);
            for (at, byte) in bytes.into_iter().enumerate() {
                if let Some(place) = plain.get_mut(8 + from + at) {
                    *place = byte;
                }
            }
            let _ = Hist::decode(Unit::Ns, &BASE64_STANDARD.encode(plain), 0);
        }
    }
}
