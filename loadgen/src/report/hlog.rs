//! The intervals as an HdrHistogram V2 interval log: what HistogramLogProcessor and its kin read.

use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;

use crate::record::Run;

/// The maximum of a line is in milliseconds, for people; the histogram keeps nanoseconds.
const UNITS_PER_MS: f64 = 1e6;

/// Writes the response times of each interval.
///
/// # Errors
/// When the writer fails, or when an interval of a run from a file holds no histogram.
pub fn write(run: &Run, mut out: impl Write) -> io::Result<()> {
    let base = start(run);
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .add_comment(&format!("[Logged with loadgen {}: response times in nanoseconds]", run.facts.version))
        .with_start_time(base)
        .with_base_time(base)
        .with_max_value_divisor(UNITS_PER_MS)
        .begin_log_with(&mut out, &mut serializer)?;
    for interval in &run.intervals {
        let hist = interval.response.unpack().map_err(io::Error::other)?;
        let (start, length) = (Duration::from_nanos(interval.start_ns), Duration::from_nanos(interval.duration_ns));
        log.write_histogram(hist.cells(), start, length, None).map_err(|error| io::Error::other(error.to_string()))?;
    }
    Ok(())
}

fn start(run: &Run) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(run.facts.started_unix_ms)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::super::samples;
    use super::*;

    #[test]
    fn it_is_parsed_back_and_adds_up_to_the_run() {
        let run = samples::open();
        let mut text = Vec::new();
        write(&run, &mut text).expect("a vector takes it");
        let mut sum = Histogram::<u64>::new_with_bounds(1, crate::record::DURATION_NS_MAX, 3).expect("bounds");
        let (mut starts, mut bases, mut intervals) = (Vec::new(), Vec::new(), run.intervals.iter());
        for entry in IntervalLogIterator::new(&text) {
            match entry.expect("an entry") {
                LogEntry::StartTime(time) => starts.push(time),
                LogEntry::BaseTime(time) => bases.push(time),
                LogEntry::Interval(logged) => {
                    let interval = intervals.next().expect("as many as the run has");
                    assert_eq!(logged.start_timestamp().as_millis() as u64, interval.start_ns / 1_000_000);
                    assert_eq!(logged.duration().as_millis() as u64, interval.duration_ns / 1_000_000);
                    assert!((logged.max() * 1e6 / interval.response.max as f64 - 1.0).abs() < 0.001);
                    let bytes = BASE64_STANDARD.decode(logged.encoded_histogram()).expect("base64");
                    let hist: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).expect("V2");
                    assert_eq!(hist.len(), interval.responses);
                    sum.add(hist).expect("the same bounds");
                }
            }
        }
        assert!(intervals.next().is_none());
        assert_eq!(&sum, run.latency.response.cells());
        let started = Duration::from_millis(run.facts.started_unix_ms);
        assert_eq!((starts, bases), (vec![started], vec![started]));
        assert!(text.starts_with(b"#[Histogram log format version 1.3]\n"));
    }
}
