//! What differs between two runs: the shift function, quantile by quantile, and one sentence that says what moved.
//!
//! A mean hides that the median got faster and the tail slower; the quantiles side by side do not.

use std::fmt::Write as _;

use super::style::{Colour, Style, Table, shorten};
use super::{spectrum, svg, units};
use crate::record::{BEYOND_MIN, Hist, Percentile, Run};

/// Two runs of the same program easily differ by this much; what differs less is called the same.
pub const CHANGE_MIN: f64 = 0.03;

/// The quantiles that are compared.
const COMPARED: &[&str] =
    &["10", "20", "30", "40", "50", "60", "70", "80", "90", "95", "99", "99.5", "99.9", "99.99", "99.999"];

/// Columns of the bars.
const BAR_HALF: usize = 16;

/// Places along the percentile axis at which the chart has a point.
const CHART_STEPS: u32 = 160;

/// One quantile of both runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shift {
    /// Which.
    pub percentile: Percentile,
    /// Its value in both runs, in ns; nothing when one of them has too few samples on either side of it to say so.
    pub values: Option<(u64, u64)>,
}

impl Shift {
    /// How many times as long the second takes.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        self.values.map(|(a, b)| b.max(1) as f64 / a.max(1) as f64)
    }

    fn way(&self) -> Option<Way> {
        let ratio = self.ratio()?;
        Some(match ratio {
            r if r > 1.0 + CHANGE_MIN => Way::Slower,
            r if r < 1.0 / (1.0 + CHANGE_MIN) => Way::Faster,
            _ => Way::Same,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Slower,
    Same,
    Faster,
}

/// The shift function of two histograms.
#[must_use]
pub fn shift(a: &Hist, b: &Hist) -> Vec<Shift> {
    let known = |percentile: Percentile| {
        let samples = a.count().min(b.count());
        percentile.is_known_from(samples) && samples - percentile.beyond(samples) >= BEYOND_MIN
    };
    let percentiles = COMPARED.iter().filter_map(|text| text.parse::<Percentile>().ok());
    let shift = |percentile: Percentile| {
        let values = || (a.at_quantile(percentile.quantile()), b.at_quantile(percentile.quantile()));
        Shift { percentile, values: known(percentile).then(values) }
    };
    percentiles.map(shift).collect()
}

/// The whole comparison as text.
#[must_use]
pub fn diff(names: (&str, &str), a: &Run, b: &Run, style: &Style) -> String {
    let mut out = String::new();
    let shifts = shift(&a.latency.response, &b.latency.response);
    style.paragraph(&mut out, "", &sentence(&shifts));
    out.push('\n');
    for (letter, name, run) in [("A", names.0, a), ("B", names.1, b)] {
        let verdict = run.validity.line();
        let line = format!("{}: {verdict}", shorten(name, style.width / 2));
        let first = format!("{letter}  ");
        style.hanging(&mut out, &first, first.len(), &line);
    }
    out.push('\n');
    for line in table(a, b, &shifts).lines(style.width) {
        let _ = writeln!(out, "{line}");
    }
    out.push('\n');
    for remark in remarks(a, b) {
        for line in style.wrapped(&remark) {
            let _ = writeln!(out, "{}", style.paint(Colour::Faint, &line));
        }
    }
    out
}

/// The shift function as a chart, as far as both runs have something to say.
#[must_use]
pub fn chart(names: (&str, &str), a: &Run, b: &Run) -> String {
    chart_of(names, &a.latency.response, &b.latency.response)
}

/// The same of two histograms.
#[must_use]
pub fn chart_of(names: (&str, &str), a: &Hist, b: &Hist) -> String {
    let span = spectrum::nines(a).min(spectrum::nines(b));
    // Too few for a median: an empty chart.
    let steps = if span > 2f64.log10() { 0..CHART_STEPS + 1 } else { 0..0 };
    let quantiles = steps.map(|step| spectrum::quantile(span * f64::from(step) / f64::from(CHART_STEPS)));
    let points: Vec<(f64, f64)> = quantiles
        .map(|quantile| (quantile, b.at_quantile(quantile).max(1) as f64 / a.at_quantile(quantile).max(1) as f64))
        .collect();
    svg::shift(names, &points)
}

/// What moved, and by how much: the first line of the comparison.
#[must_use]
pub fn sentence(shifts: &[Shift]) -> String {
    let known: Vec<&Shift> = shifts.iter().filter(|shift| shift.values.is_some()).collect();
    let (Some(first), Some(last)) = (known.first(), known.last()) else {
        return String::from("Cannot say: a median takes 200 answers in each run, and one of these has fewer.");
    };
    let parts: Vec<String> = [(Way::Slower, "slower"), (Way::Faster, "faster")]
        .into_iter()
        .filter_map(|(way, word)| moved(&known, way).map(|text| format!("{word} {text}")))
        .collect();
    let mut text = match parts.as_slice() {
        [] => {
            format!("The same from p{} to p{}, within {}", first.percentile, last.percentile, units::share(CHANGE_MIN))
        }
        parts => format!("B is {}", parts.join(", and ")),
    };
    let same = known.iter().filter(|shift| shift.way() == Some(Way::Same)).count();
    if !parts.is_empty() && same > 0 {
        let _ = write!(text, "; the rest is the same, within {}", units::share(CHANGE_MIN));
    }
    let unknown = shifts.iter().find(|shift| shift.values.is_none() && shift.percentile > last.percentile);
    if let Some(shift) = unknown {
        let _ = write!(text, "; from p{} on too few answers to say", shift.percentile);
    }
    text.push('.');
    text
}

/// `from p90 to p99.9, most at p99 (1.20 ms to 1.84 ms, x1.53)`.
fn moved(known: &[&Shift], way: Way) -> Option<String> {
    let these: Vec<&Shift> = known.iter().copied().filter(|shift| shift.way() == Some(way)).collect();
    let far = |shift: &&&Shift| shift.ratio().map_or(0.0, |ratio| ratio.ln().abs());
    // Of equals the first: ratios differ by the histogram's resolution.
    let rounded = |shift: &&&Shift| (far(shift) * 1e3).round();
    let most = these.iter().rev().max_by(|a, b| rounded(a).total_cmp(&rounded(b)))?;
    let (a, b) = most.values?;
    let by = format!("({} to {}, {})", units::duration(a), units::duration(b), units::ratio(most.ratio()?));
    let ranges = ranges(known, way);
    if these.len() == 1 {
        return Some(format!("{ranges} {by}"));
    }
    Some(format!("{ranges}, most at p{} {by}", most.percentile))
}

/// `at p50 and from p90 to p99.9`.
fn ranges(known: &[&Shift], way: Way) -> String {
    let runs = known.chunk_by(|a, b| a.way() == b.way()).filter(|run| run[0].way() == Some(way));
    let name = |run: &[&Shift]| match run {
        [one] => format!("at p{}", one.percentile),
        [first, .., last] => format!("from p{} to p{}", first.percentile, last.percentile),
        [] => String::new(),
    };
    runs.map(name).collect::<Vec<_>>().join(" and ")
}

fn table(a: &Run, b: &Run, shifts: &[Shift]) -> Table {
    let mut table = Table::default();
    table.row(["response time", "A", "B", "B/A", &bar_head()]);
    let most = shifts.iter().filter_map(Shift::ratio).map(|ratio| ratio.ln().abs()).fold(1.1_f64.ln(), f64::max);
    for shift in shifts {
        let name = format!("p{}", shift.percentile);
        match (shift.values, shift.ratio()) {
            (Some((a, b)), Some(ratio)) => {
                table.row([name, units::duration(a), units::duration(b), units::ratio(ratio), bar(ratio, most)]);
            }
            _ => table.row([name, String::from("-"), String::from("-"), String::from("cannot say"), String::new()]),
        }
    }
    let latency =
        |run: &Run, value: fn(&Hist) -> f64| Some(&run.latency.response).filter(|hist| !hist.is_empty()).map(value);
    let mut number = |name: &str, a: Option<f64>, b: Option<f64>, shown: fn(f64) -> String| {
        let (Some(a), Some(b)) = (a, b) else { return };
        let ratio = if a > 0.0 { units::ratio(b / a) } else { String::from("-") };
        table.row([name.to_owned(), shown(a), shown(b), ratio]);
    };
    number("max", latency(a, |hist| hist.max() as f64), latency(b, |hist| hist.max() as f64), units::duration_f64);
    number("mean", latency(a, Hist::mean), latency(b, Hist::mean), units::duration_f64);
    number("requests/s", Some(a.requests_per_second()), Some(b.requests_per_second()), units::rate);
    number("errors", Some(a.measured.error_share()), Some(b.measured.error_share()), units::share);
    let cpu = Run::server_cpu_ns_per_request;
    number("server CPU a request", cpu(a), cpu(b), units::duration_f64);
    let busy = |run: &Run| Some(run.facts.generator.busiest_thread_share);
    number("generator busy", busy(a), busy(b), units::share);
    table
}

fn bar_head() -> String {
    format!("{:<BAR_HALF$}|{:>BAR_HALF$}", "faster", "slower")
}

/// `#` to the left of the line for faster, to the right for slower, on the scale of the largest change.
fn bar(ratio: f64, most: f64) -> String {
    let length = (ratio.ln().abs() / most * BAR_HALF as f64).round() as usize;
    let marks = "#".repeat(length.min(BAR_HALF));
    let (left, right) = if ratio < 1.0 { (marks, String::new()) } else { (String::new(), marks) };
    format!("{left:>BAR_HALF$}|{right:<BAR_HALF$}")
}

/// What a reader must know before believing it.
fn remarks(a: &Run, b: &Run) -> Vec<String> {
    let mut remarks = Vec::new();
    let (one, other) = (&a.facts.load, &b.facts.load);
    if one.model != other.model || one.schedule != other.schedule {
        remarks.push(String::from(
            "The loads differ (closed or open, or their schedules): their latencies are not of one kind.",
        ));
    }
    let unlike = [
        ("connections", one.connections, other.connections),
        ("threads", one.threads, other.threads),
        ("requests in a pipeline", one.pipeline, other.pipeline),
    ];
    for (what, a, b) in unlike.into_iter().filter(|(_, a, b)| a != b) {
        remarks.push(format!("A had {} {what}, B {}.", units::count(a.into()), units::count(b.into())));
    }
    let hosts = a.facts.host.differences(&b.facts.host);
    if !hosts.is_empty() {
        remarks.push(format!("Not the same machine: {}.", hosts.join("; ")));
    }
    remarks.push(String::from(
        "This is one run against one run. What they differ by may be chance, or the hour: to compare programs, repeat the runs \
         in turn.",
    ));
    remarks
}

#[cfg(test)]
mod tests {
    use super::super::{samples, transcript};
    use super::*;

    fn said(a: &Run, b: &Run) -> String {
        sentence(&shift(&a.latency.response, &b.latency.response))
    }

    #[test]
    fn the_same_is_called_the_same() {
        let run = samples::stretched(100_000, 1.0);
        assert_eq!(
            said(&run, &samples::stretched(100_000, 1.01)),
            "The same from p10 to p99.9, within 3%; from p99.99 on too few answers to say."
        );
    }

    #[test]
    fn one_sentence_says_what_moved_and_by_how_much() {
        let (a, b) = (samples::stretched(100_000, 1.0), samples::stretched(100_000, 1.5));
        let text = said(&a, &b);
        assert!(text.starts_with("B is slower from p10 to p99.9, most at p"), "{text}");
        assert!(text.contains("x1.50)") || text.contains("x1.51)"), "{text}");
        assert!(said(&b, &a).starts_with("B is faster from p10 to p99.9"), "{}", said(&b, &a));
    }

    #[test]
    fn a_tail_that_moved_alone_is_named_alone() {
        let (mut a, mut b) = (Hist::durations(), Hist::durations());
        for n in 0..100_000_u64 {
            a.record(300_000 + n);
            b.record(if n >= 98_500 {
                2 * (300_000 + n)
            } else if n < 55_000 {
                (300_000 + n) * 9 / 10
            } else {
                300_000 + n
            });
        }
        assert_eq!(
            sentence(&shift(&a, &b)),
            "B is slower from p99 to p99.9, most at p99 (399 us to 798 us, x2.00), and faster from p10 to p50, most at p50 \
             (350 us to 315 us, x0.900); the rest is the same, within 3%; from p99.99 on too few answers to say."
        );
    }

    #[test]
    fn too_few_answers_say_nothing() {
        let (few, many) = (samples::stretched(150, 1.0), samples::stretched(100_000, 9.0));
        assert!(said(&few, &many).starts_with("Cannot say"));
        let shifts = shift(&samples::stretched(500, 1.0).latency.response, &many.latency.response);
        let known: Vec<String> =
            shifts.iter().filter(|s| s.values.is_some()).map(|s| s.percentile.to_string()).collect();
        assert_eq!(known, ["20", "30", "40", "50", "60", "70", "80"]);
    }

    #[test]
    fn swapped_runs_have_inverse_ratios() {
        let (a, b) = (samples::stretched(50_000, 1.0), samples::stretched(70_000, 1.7));
        let ratios = |a: &Run, b: &Run| -> Vec<f64> {
            shift(&a.latency.response, &b.latency.response).iter().filter_map(Shift::ratio).collect()
        };
        let pairs: Vec<(f64, f64)> = ratios(&a, &b).into_iter().zip(ratios(&b, &a)).collect();
        assert!(pairs.len() > 10 && pairs.iter().all(|(one, other)| (one * other - 1.0).abs() < 1e-9));
    }

    #[test]
    fn a_comparison_reads_as_in_its_transcript() {
        let (a, mut b) = (samples::closed(), samples::open());
        b.facts.host.kernel = String::from("6.12.0");
        transcript("diff-100.txt", &diff(("base.json", "head.json"), &a, &b, &Style::new(None, false)));
    }
}
