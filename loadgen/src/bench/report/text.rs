//! Numbers and names as tables say them. Pure.

use super::super::cell::{Drive, Key};
use super::super::results::{Belief, Figure, Metric};
use super::super::stats::Estimate;
use crate::report::units;

/// Three digits: `4.82`, `12.3`, `1,234`.
pub(super) fn digits(number: f64) -> String {
    match number.abs() {
        n if n < 0.01 && n > 0.0 => format!("{number:.4}"),
        n if n < 0.9995 => format!("{number:.3}"),
        n if n < 9.995 => format!("{number:.2}"),
        n if n < 99.95 => format!("{number:.1}"),
        _ => units::count(number.max(0.0).round() as u64),
    }
}

/// The number of a metric in the unit of its column.
pub(super) fn value(metric: Metric, number: f64) -> String {
    match metric {
        Metric::Rate => digits(number),
        Metric::Cpu | Metric::Core | Metric::P50 | Metric::P99 => digits(number / 1e3),
        Metric::Rss => digits(number / f64::from(1 << 20)),
        Metric::Switches => digits(number),
    }
}

/// The heading of a column.
pub(super) fn heading(metric: Metric) -> &'static str {
    match metric {
        Metric::Rate => "requests/s",
        Metric::Cpu => "CPU us",
        Metric::Core => "core us",
        Metric::P50 => "p50 us",
        Metric::P99 => "p99 us",
        Metric::Rss => "RSS MiB",
        Metric::Switches => "switches",
    }
}

/// What a metric is called in a sentence.
pub(super) fn noun(metric: Metric) -> &'static str {
    match metric {
        Metric::Rate => "capacity",
        Metric::Cpu => "CPU for an answer",
        Metric::Core => "time of the core for an answer",
        Metric::P50 => "median response time",
        Metric::P99 => "p99 of the response time",
        Metric::Rss => "memory",
        Metric::Switches => "context switches for an answer",
    }
}

/// A figure with its stamp; in tables with the interval.
pub(super) fn figure(metric: Metric, figure: Option<&Figure>, interval: bool) -> String {
    let Some(Figure { estimate, belief }) = figure else { return String::from("-") };
    let number = value(metric, estimate.median);
    let range = match interval && estimate.rounds > 1 {
        true => format!(" [{}..{}]", value(metric, estimate.low), value(metric, estimate.high)),
        false => String::new(),
    };
    match belief {
        Belief::Sound => format!("{number}{range}"),
        // Only a rate is bounded by the generator; what an answer cost is what it cost.
        Belief::AtLeast if metric == Metric::Rate => format!("\u{2265} {number}{range}"),
        Belief::AtLeast => format!("{number}{range}"),
        Belief::Partly(valid, all) => format!("{number}{range} ({valid} of {all})"),
        Belief::Invalid => format!("~~{number}~~ INVALID"),
    }
}

/// A ratio with its interval: `x1.23 (x1.20 to x1.26)`.
pub(super) fn ratio(estimate: &Estimate) -> String {
    let number = |number: f64| units::ratio(number);
    match estimate.rounds {
        1 => number(estimate.median),
        _ => format!("{} ({} to {})", number(estimate.median), number(estimate.low), number(estimate.high)),
    }
}

/// How a cell is driven, in words.
pub(super) fn drive(key: Key) -> String {
    match key.drive {
        Drive::Capacity => String::from("capacity"),
        Drive::Paced(percent) => format!("{percent} % of what the slowest can do"),
        Drive::Ramp => String::from("a rate that grows"),
    }
}

/// A table in Markdown; the first column is left-aligned, the others right-aligned.
pub(super) fn table(heads: &[String], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule: Vec<String> = (0..heads.len()).map(|at| String::from(if at == 0 { "---" } else { "---:" })).collect();
    let rows: String = rows.iter().map(|row| line(row)).collect();
    format!("{}{}{rows}", line(heads), line(&rule))
}

#[cfg(test)]
mod tests {
    use super::super::super::stats::estimate;
    use super::*;

    fn of(values: &[f64], belief: Belief) -> Figure {
        Figure { estimate: estimate(values).unwrap(), belief }
    }

    #[test]
    fn a_figure_bears_its_stamp() {
        let five = [1e3, 2e3, 3e3, 4e3, 5e3];
        let say = |metric, belief| figure(metric, Some(&of(&five, belief)), true);
        assert_eq!(say(Metric::Rate, Belief::Sound), "3,000 [1,000..5,000]");
        assert_eq!(say(Metric::Rate, Belief::AtLeast), "\u{2265} 3,000 [1,000..5,000]");
        assert_eq!(say(Metric::Cpu, Belief::AtLeast), "3.00 [1.00..5.00]");
        assert_eq!(say(Metric::P99, Belief::Partly(3, 5)), "3.00 [1.00..5.00] (3 of 5)");
        assert_eq!(say(Metric::Rate, Belief::Invalid), "~~3,000~~ INVALID");
        assert_eq!(figure(Metric::Rate, None, true), "-");
        assert_eq!(figure(Metric::Rate, Some(&of(&[7.0], Belief::Sound)), true), "7.00");
    }

    #[test]
    fn a_ratio_says_its_interval() {
        assert_eq!(ratio(&estimate(&[1.0, 1.5, 2.0]).unwrap()), "x1.50 (x1.00 to x2.00)");
        assert_eq!(ratio(&estimate(&[0.5]).unwrap()), "x0.500");
    }
}
