//! Charts of runs, as SVG: readable at 800 pixels, on light and on dark pages, without scripts and without fonts of their
//! own.

mod chart;
pub(crate) mod page;
mod ticks;

use chart::{Axis, Chart, Kind, LINES_MAX, Line};

use super::spectrum::{nine_name, nines, quantile};
use super::style::shorten;
use super::units;
use crate::record::{Hist, Interval, LoadModel, Run};

/// Places along the percentile axis at which a line is drawn.
const STEPS: usize = 240;

/// The files of `--svg DIR`: their names, and what is in them.
#[must_use]
pub fn files(run: &Run) -> Vec<(&'static str, String)> {
    vec![
        ("spectrum.svg", spectrum(&[("", run)])),
        ("latency-over-time.svg", latency_over_time(run)),
        ("rate-over-time.svg", rate_over_time(run)),
    ]
}

/// Latency over the percentile, each nine in the same room, as far as a hundred samples lie beyond. One run: its response
/// and service times. Several (six at most): the response times of each, by name.
#[must_use]
pub fn spectrum(runs: &[(&str, &Run)]) -> String {
    let lines: Vec<(String, &Hist)> = match runs {
        [(_, run)] => {
            vec![("response".into(), &run.latency.response), ("service".into(), &run.latency.service)]
        }
        _ => runs.iter().take(LINES_MAX).map(|(name, run)| ((*name).to_owned(), &run.latency.response)).collect(),
    };
    let span = lines.iter().map(|(_, hist)| nines(hist)).fold(1.0, f64::max);
    let points = |hist: &Hist| -> Vec<Option<(f64, f64)>> {
        let last = nines(hist) + 1e-9;
        let places = (0..=STEPS).map(|step| span * step as f64 / STEPS as f64).take_while(|&nines| nines <= last);
        places.map(|nines| Some((nines, log_ns(hist.at_quantile(quantile(nines)))))).collect()
    };
    let mut lines: Vec<Line> = lines
        .into_iter()
        .filter(|(_, hist)| nines(hist) > 0.3)
        .map(|(name, hist)| Line { name, kind: Kind::Solid, points: points(hist) })
        .collect();
    if let ([_], [first, second]) = (runs, lines.as_mut_slice()) {
        second.kind = Kind::Thin;
        // In a closed loop the two are nearly the same, and one line says it all.
        if close(first, second) {
            first.name = String::from("response");
            lines.truncate(1);
        }
    }
    let subtitle = match runs {
        [(_, run)] => caption(run),
        _ => String::from("response times"),
    };
    Chart {
        title: String::from("Latency by percentile"),
        subtitle,
        x: nines_axis(span),
        y: latency_axis(&lines),
        lines,
    }
    .render()
}

/// The median, the 99th percentile and the maximum of each interval.
#[must_use]
pub fn latency_over_time(run: &Run) -> String {
    let line = |name: &str, kind, value: fn(&Interval) -> Option<u64>| Line {
        name: name.to_owned(),
        kind,
        points: run.intervals.iter().map(|interval| Some((middle(interval), log_ns(value(interval)?)))).collect(),
    };
    let lines = vec![
        line("p50", Kind::Solid, |interval| interval.response.p50),
        line("p99", Kind::Solid, |interval| interval.response.p99),
        line("max", Kind::Thin, |interval| Some(interval.response.max).filter(|_| interval.responses > 0)),
    ];
    Chart {
        title: String::from("Response time over time"),
        subtitle: caption(run),
        x: time_axis(run),
        y: latency_axis(&lines),
        lines,
    }
    .render()
}

/// Right answers a second in each interval, what was offered, and errors if there were any.
#[must_use]
pub fn rate_over_time(run: &Run) -> String {
    let line = |name: &str, kind, value: &dyn Fn(&Interval) -> f64| Line {
        name: name.to_owned(),
        kind,
        points: run.intervals.iter().map(|interval| Some((middle(interval), value(interval)))).collect(),
    };
    let mut lines = vec![line("answers", Kind::Solid, &Interval::rate)];
    if run.measured.errors > 0 {
        let errors = |interval: &Interval| crate::record::per_second(interval.errors, interval.duration_ns);
        lines.push(line("errors", Kind::Solid, &errors));
    }
    if let Some(offered) = run.facts.offered_per_second() {
        lines.push(line("offered", Kind::Reference, &|_| offered));
    }
    let most = lines.iter().flat_map(|line| line.points.iter().flatten()).map(|point| point.1).fold(1.0, f64::max);
    let ticks = ticks::linear(0.0, most * 1.08);
    let ticks = ticks.into_iter().map(|value| (value, units::count(value.round() as u64))).collect();
    Chart {
        title: String::from("Requests per second over time"),
        subtitle: caption(run),
        x: time_axis(run),
        y: Axis { label: String::from("requests per second"), from: 0.0, to: most * 1.08, ticks },
        lines,
    }
    .render()
}

/// The shift function: how many times longer B takes than A, by percentile.
pub(super) fn shift(names: (&str, &str), points: &[(f64, f64)]) -> String {
    let logs = points.iter().map(|point| point.1.ln());
    let (low, high) = logs.fold((0.0_f64, 0.0_f64), |(low, high), log| (low.min(log), high.max(log)));
    // No less than a tenth up and down, so that noise is not drawn as a shift.
    let room = ((high - low) * 0.08).max(0.01);
    let (low, high) = (low.min(-(1.1_f64.ln())) - room, high.max(1.1_f64.ln()) + room);
    let span = points.iter().map(|point| nines_of(point.0)).fold(1.0, f64::max);
    let ticks = ticks::ratios(high.max(-low)).into_iter().map(|ratio| (ratio.ln(), units::round_ratio(ratio)));
    let ticks = ticks.filter(|(log, _)| (low..=high).contains(log)).collect();
    let line = |name: &str, kind, points: Vec<(f64, f64)>| Line {
        name: name.to_owned(),
        kind,
        points: points.into_iter().map(Some).collect(),
    };
    let measured = points.iter().map(|&(quantile, ratio)| (nines_of(quantile), ratio.ln())).collect();
    Chart {
        title: String::from("Shift of the response time"),
        subtitle: format!("{} over {}: above x1 it takes longer", shorten(names.1, 40), shorten(names.0, 40)),
        x: nines_axis(span),
        y: Axis { label: String::from("ratio (logarithmic)"), from: low, to: high, ticks },
        lines: vec![
            line(names.1, Kind::Solid, measured),
            line(names.0, Kind::Reference, vec![(0.0, 0.0), (span, 0.0)]),
        ],
    }
    .render()
}

fn nines_of(quantile: f64) -> f64 {
    -(1.0 - quantile).log10()
}

fn log_ns(ns: u64) -> f64 {
    (ns.max(1) as f64).log10()
}

fn middle(interval: &Interval) -> f64 {
    (interval.start_ns as f64 + interval.duration_ns as f64 / 2.0) / 1e9
}

/// True when no point is further apart than a pixel or two: 2 %.
fn close(a: &Line, b: &Line) -> bool {
    let pairs = a.points.iter().zip(&b.points);
    a.points.len() == b.points.len()
        && pairs.into_iter().all(|(a, b)| matches!((a, b), (Some(a), Some(b)) if (a.1 - b.1).abs() < 1.02_f64.log10()))
}

fn nines_axis(span: f64) -> Axis {
    let nines = (1..12).map(|nines| (f64::from(nines), nine_name(nines)));
    let ticks = [(0.0, String::from("0%")), (2f64.log10(), String::from("50%"))].into_iter().chain(nines);
    let ticks = ticks.take_while(|(nines, _)| *nines <= span + 1e-9).collect();
    Axis { label: String::from("percentile (each nine takes the same room)"), from: 0.0, to: span, ticks }
}

/// Logarithmic, over what the lines need.
fn latency_axis(lines: &[Line]) -> Axis {
    let values = lines.iter().flat_map(|line| line.points.iter().flatten()).map(|point| point.1);
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
    let (low, high) = if low > high { (3.0, 6.0) } else { (low, high) };
    // At least a factor of two, so that noise is not drawn as a slope.
    let missing = ((2f64.log10() - (high - low)) / 2.0).max((high - low) * 0.06).max(0.02);
    let (from, to) = (low - missing, high + missing);
    let ticks = ticks::logarithmic(from, to).into_iter();
    let ticks = ticks.map(|ns| (ns.log10(), units::round_duration(ns))).collect();
    Axis { label: String::from("latency (logarithmic)"), from, to, ticks }
}

fn time_axis(run: &Run) -> Axis {
    let (from, to) = (run.facts.warmup_ns as f64 / 1e9, run.facts.elapsed_ns as f64 / 1e9);
    let to = if to > from { to } else { from + 1.0 };
    let ticks = ticks::linear(from, to).into_iter().map(|value| (value, format!("{value}"))).collect();
    Axis { label: String::from("seconds since the start of the run"), from, to, ticks }
}

fn caption(run: &Run) -> String {
    let load = &run.facts.load;
    let model = match (load.model, &load.schedule) {
        (LoadModel::Closed, _) => "closed loop",
        (LoadModel::Open, Some(schedule)) => schedule.as_str(),
        (LoadModel::Open, None) => "open loop",
    };
    let verdict = run.validity.line();
    let verdict = verdict.split(':').next().unwrap_or("");
    let connections = units::plural(u64::from(load.connections), "connection");
    format!("{model}, {connections}, {} answers, {verdict}", units::count(run.measured.responses))
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn every_chart_is_well_formed_and_says_its_units() {
        for run in [samples::closed(), samples::open(), samples::stretched(0, 1.0), samples::stretched(150, 1.0)] {
            for (name, text) in files(&run) {
                assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"), "{name}");
                assert!(!text.contains("NaN") && !text.contains("inf"), "{name}: {text}");
                let tags = text.matches('<').count();
                let closed = text.matches("/>").count() + 2 * text.matches("</").count();
                assert_eq!(tags, closed, "{name}");
                assert!(text.contains("percentile") || text.contains("seconds since"), "{name}");
            }
        }
    }

    #[test]
    fn a_closed_loop_has_one_line_and_an_open_one_two() {
        let lines = |run: &Run| spectrum(&[("", run)]).matches("class=\"name").count();
        assert_eq!((lines(&samples::closed()), lines(&samples::open())), (1, 2));
    }

    #[test]
    fn a_chart_without_lines_says_why() {
        let empty = |answers| spectrum(&[("", &samples::stretched(answers, 1.0))]).contains("too few answers to draw");
        assert_eq!((empty(0), empty(150), empty(1_000)), (true, true, false));
    }

    #[test]
    fn several_runs_are_named() {
        let (a, b) = (samples::closed(), samples::stretched(50_000, 2.0));
        let text = spectrum(&[("base", &a), ("head", &b)]);
        assert!(text.contains(">base</text>") && text.contains(">head</text>"));
    }
}
