//! The percentile distribution as the text that HdrHistogram's own tools write and plot, in milliseconds.

use std::fmt::Write as _;

use crate::record::Hist;

/// Lines for each halving of what is left above, as in HdrHistogram's own writers.
const TICKS_PER_HALVING: u32 = 5;

/// How many of a histogram's units one of the text is: nanoseconds become milliseconds.
const UNITS_PER_MS: f64 = 1e6;

/// The text. Unlike a summary it has every percentile, however few samples are beyond: the count is beside it.
#[must_use]
pub fn write(hist: &Hist) -> String {
    let mut out = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    let mut total = 0;
    for step in hist.cells().iter_quantiles(TICKS_PER_HALVING) {
        total += step.count_since_last_iteration();
        let (value, quantile) = (step.value_iterated_to() as f64 / UNITS_PER_MS, step.quantile_iterated_to());
        let _ = write!(out, "{value:12.6} {quantile:14.12} {total:10}");
        if quantile < 1.0 {
            let _ = write!(out, " {:14.2}", 1.0 / (1.0 - quantile));
        }
        out.push('\n');
    }
    let (mean, stdev, max) =
        (hist.mean() / UNITS_PER_MS, hist.stdev() / UNITS_PER_MS, hist.max() as f64 / UNITS_PER_MS);
    let cells = hist.cells();
    let _ = writeln!(out, "#[Mean    = {mean:12.6}, StdDeviation   = {stdev:12.6}]");
    let _ = writeln!(out, "#[Max     = {max:12.6}, Total count    = {:12}]", hist.count());
    let _ = writeln!(out, "#[Buckets = {:12}, SubBuckets     = {:12}]", cells.buckets(), sub_buckets(cells.sigfig()));
    out
}

/// Cells of the first bucket: enough to tell apart the numbers of so many digits, doubled.
fn sub_buckets(digits: u8) -> u64 {
    (2 * 10_u64.pow(u32::from(digits))).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    /// One line, as a reader of the format splits it: value, percentile, total count, and 1/(1-percentile) but in the last.
    fn parse(text: &str) -> Vec<(f64, f64, u64, Option<f64>)> {
        let rows = text.lines().skip(2).filter(|line| !line.starts_with('#'));
        rows.map(|line| {
            let mut cells = line.split_whitespace();
            let mut number = || cells.next().map(|cell| cell.parse::<f64>().expect("a number"));
            let (value, percentile, total) = (number(), number(), number());
            (value.expect("a value"), percentile.expect("a percentile"), total.expect("a count") as u64, number())
        })
        .collect()
    }

    #[test]
    fn it_is_parsed_back_and_says_what_the_histogram_says() {
        let hist = samples::open().latency.response;
        let text = write(&hist);
        assert!(text.starts_with("       Value     Percentile TotalCount 1/(1-Percentile)\n\n"));
        let rows = parse(&text);
        assert!(rows.len() > 30, "{}", rows.len());
        for &(value, percentile, total, inverse) in &rows {
            let ns = (value * 1e6).round() as u64;
            assert_eq!(hist.count() - hist.count_above(ns), total, "{value}");
            assert!(total as f64 >= percentile * hist.count() as f64 - 1e-3, "{value}");
            assert_eq!(inverse.is_none(), percentile == 1.0);
            if let Some(inverse) = inverse {
                assert!((inverse * (1.0 - percentile) - 1.0).abs() < 0.01, "{percentile}");
            }
        }
        assert!(rows.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1));
        let last = rows.last().expect("rows");
        assert_eq!((last.1, last.2, (last.0 * 1e6).round() as u64), (1.0, hist.count(), hist.max()));
        assert!(text.contains(&format!("Total count    = {:12}]", hist.count())));
        assert!(text.contains("SubBuckets     =         2048]"), "{text}");
    }

    #[test]
    fn without_samples_there_is_still_a_distribution() {
        assert!(write(&Hist::durations()).contains("Total count    =            0]"));
    }
}
