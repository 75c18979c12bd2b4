//! The intervals as comma-separated values, one line each: for a spreadsheet or a plot.

use std::fmt::Write as _;

use crate::record::Run;

/// The first line.
const HEAD: &str = "start_s,duration_s,responses,errors,wire_bytes,requests_per_second,p50_ms,p99_ms,max_ms";

/// The text. A cell is empty where too few samples lie beyond a percentile, or where there are none.
#[must_use]
pub fn write(run: &Run) -> String {
    let mut out = format!("{HEAD}\n");
    let seconds = |ns: u64| ns as f64 / 1e9;
    let millis = |ns: Option<u64>| ns.map_or_else(String::new, |ns| (ns as f64 / 1e6).to_string());
    for interval in &run.intervals {
        let response = &interval.response;
        let _ = writeln!(
            out,
            "{},{},{},{},{},{},{},{},{}",
            seconds(interval.start_ns),
            seconds(interval.duration_ns),
            interval.responses,
            interval.errors,
            interval.wire_bytes,
            interval.rate(),
            millis(response.p50),
            millis(response.p99),
            millis(Some(response.max).filter(|_| interval.responses > 0)),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn there_is_a_line_for_each_interval_and_a_cell_for_each_head() {
        let run = samples::stretched(16_000, 1.0);
        let text = write(&run);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
        assert_eq!(lines.len(), 1 + run.intervals.len());
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{text}");
        assert_eq!(lines[1][..2], ["0.5", "0.5"]);
        let total: u64 = lines[1..].iter().map(|line| line[2].parse::<u64>().expect("a count")).sum();
        assert_eq!(total, 16_000);
        assert_eq!(lines[1][7], "", "4,000 answers have no p99");
        assert_ne!(lines[1][6], "", "but a median");
    }
}
