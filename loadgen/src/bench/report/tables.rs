//! The tables: one screen, every cell in Markdown, and all figures as CSV. Pure.

use std::fmt::Write as _;

use super::super::cell::{CELLS, Cell, Drive, Key};
use super::super::results::{Belief, Metric, Results};
use super::sheet::LIMIT;
use super::text;
use crate::verdict::Verdict;

/// The columns of the table that fits on a screen: a cell, a metric, and what stands above.
const SCREEN: &[(&str, Metric, &str)] = &[
    ("keepalive-64", Metric::Rate, "1 KiB, kept: requests/s"),
    ("keepalive-64", Metric::Cpu, "CPU us"),
    ("pipelined", Metric::Cpu, "pipelined: CPU us"),
    ("close", Metric::Cpu, "connection each: CPU us"),
    ("keepalive-10k", Metric::Cpu, "10,000 connections: CPU us"),
    ("file-100k", Metric::Cpu, "100 KiB: CPU us"),
    ("file-10m", Metric::Core, "10 MiB: core us"),
    ("cgi-hello", Metric::Cpu, "program: core us"),
    ("keepalive-64@80", Metric::P99, "p99 us at the same rate"),
];

/// The table that fits on a screen. The best of each column is bold; `floor`, which is no server, is left out of that.
pub(super) fn screen(results: &Results) -> String {
    let keys = results.keys();
    let columns: Vec<(Key, Metric, &str)> = SCREEN
        .iter()
        .filter_map(|(key, metric, head)| Some((key.parse().ok()?, *metric, *head)))
        .filter(|(key, ..)| keys.contains(key))
        .collect();
    let median = |key: Key, subject: usize, metric: Metric| {
        let figure = results.figure(key, subject, metric)?;
        (figure.belief != Belief::Invalid).then_some(figure.estimate.median)
    };
    let best: Vec<Option<f64>> = columns
        .iter()
        .map(|(key, metric, _)| {
            let servers = (0..results.settings.servers.len()).filter(|subject| results.name(*subject) != LIMIT);
            let values = servers.filter_map(|subject| median(*key, subject, *metric));
            if *metric == Metric::Rate { values.reduce(f64::max) } else { values.reduce(f64::min) }
        })
        .collect();
    let rows = (0..results.settings.servers.len()).map(|subject| {
        let cells = columns.iter().zip(&best).map(|((key, metric, _), best)| {
            let text = text::figure(*metric, results.figure(*key, subject, *metric).as_ref(), false);
            let is_best = best.is_some() && median(*key, subject, *metric) == *best && results.name(subject) != LIMIT;
            if is_best { format!("**{text}**") } else { text }
        });
        std::iter::once(results.name(subject).to_owned()).chain(cells).collect()
    });
    let heads: Vec<String> =
        std::iter::once("").chain(columns.iter().map(|column| column.2)).map(String::from).collect();
    text::table(&heads, &rows.collect::<Vec<_>>())
}

/// Every cell: what each server can do, and what it needs; then all at the same rate.
pub(super) fn all(results: &Results) -> String {
    let mut out = String::from("# Every cell\n\nMedians of the rounds, with the interval of the median. ");
    out.push_str(
        "\u{2265}: the generator was the limit, so the rate is a lower bound. (3 of 5): so many rounds are valid, and the \
         figure is theirs. ~~Struck out~~: no round is valid. -: not asked of it, or too few answers to say.\n",
    );
    for key in results.keys().into_iter().filter(|key| key.drive != Drive::Ramp) {
        let metrics: &[Metric] = match key.is_open() {
            true => &[Metric::P50, Metric::P99, Metric::Cpu, Metric::Core],
            false => &[Metric::Rate, Metric::Cpu, Metric::Core, Metric::Switches, Metric::Rss],
        };
        let _ = write!(out, "\n## {}\n\n", heading(results, key));
        let rows = (0..results.settings.servers.len()).filter_map(|subject| row(results, key, subject, metrics));
        let heads = ["server"].into_iter().chain(metrics.iter().map(|metric| text::heading(*metric))).map(String::from);
        out.push_str(&text::table(&heads.collect::<Vec<_>>(), &rows.collect::<Vec<_>>()));
        for (note, servers) in notes(results, key) {
            let _ = write!(out, "\n{}: {note}.\n", servers.join(", "));
        }
    }
    out
}

fn heading(results: &Results, key: Key) -> String {
    let title = key.load().title;
    match (key.drive, results.settings.rates.as_ref().and_then(|rates| rates.slowest.get(key.load().name))) {
        (Drive::Paced(percent), Some((rate, name))) => {
            let offered = text::digits(rate * f64::from(percent) / 100.0);
            format!("{title}: all at {offered}/s, {percent} % of what `{name}` can do")
        }
        _ => format!("{title}: {}", text::drive(key)),
    }
}

fn row(results: &Results, key: Key, subject: usize, metrics: &[Metric]) -> Option<Vec<String>> {
    results.row(key, subject)?;
    let cell = |metric: &Metric| text::figure(*metric, results.figure(key, subject, *metric).as_ref(), true);
    let mark = if results.row(key, subject)?.note.is_some() { " \\*" } else { "" };
    let name = format!("{}{mark}", results.name(subject));
    let mut cells: Vec<String> = std::iter::once(name).chain(metrics.iter().map(cell)).collect();
    // What never answered has no figure, and is not the same as what was not asked.
    if cells[1] == "-" && results.row(key, subject)?.belief() == Belief::Invalid {
        cells[1] = String::from("INVALID");
    }
    Some(cells)
}

/// How servers were driven otherwise, by what is said of it.
fn notes(results: &Results, key: Key) -> Vec<(String, Vec<String>)> {
    let mut notes: Vec<(String, Vec<String>)> = Vec::new();
    for subject in 0..results.settings.servers.len() {
        let Some(note) = results.row(key, subject).and_then(|row| row.note.clone()) else { continue };
        let name = format!("\\* `{}`", results.name(subject));
        match notes.iter_mut().find(|(known, _)| *known == note) {
            Some((_, servers)) => servers.push(name),
            None => notes.push((note, vec![name])),
        }
    }
    notes
}

/// A line for each figure: its median and interval.
pub(super) fn figures_csv(results: &Results) -> String {
    let mut out = String::from("cell,server,metric,unit,median,low,high,coverage,rounds,valid_rounds,belief\n");
    for (key, subject, row) in results.rows().filter(|(key, ..)| key.drive != Drive::Ramp) {
        let valid = row.rounds.iter().filter(|round| round.verdict != Verdict::Invalid).count();
        for (metric, name, unit) in METRICS {
            let Some(figure) = results.figure(key, subject, *metric) else { continue };
            let one = figure.estimate;
            let belief = match figure.belief {
                Belief::Sound => "valid",
                Belief::AtLeast => "generator-limited",
                Belief::Partly(..) => "partly",
                Belief::Invalid => "invalid",
            };
            let server = results.name(subject);
            let all = row.rounds.len();
            let _ = writeln!(
                out,
                "{key},{server},{name},{unit},{},{},{},{},{all},{valid},{belief}",
                one.median, one.low, one.high, one.coverage
            );
        }
    }
    out
}

const METRICS: &[(Metric, &str, &str)] = &[
    (Metric::Rate, "rate", "1/s"),
    (Metric::Cpu, "cpu", "ns"),
    (Metric::Core, "core", "ns"),
    (Metric::P50, "p50", "ns"),
    (Metric::P99, "p99", "ns"),
    (Metric::Rss, "rss", "bytes"),
    (Metric::Switches, "switches", "1"),
];

/// A line for each round, the invalid ones too.
pub(super) fn rounds_csv(results: &Results) -> String {
    let mut out = String::from("cell,server,round,verdict,offered,rate,cpu_ns,core_ns,p50_ns,p99_ns,rss_bytes,why\n");
    let number = |number: Option<f64>| number.map(|number| number.to_string()).unwrap_or_default();
    for (key, subject, row) in results.rows() {
        for round in &row.rounds {
            let verdict = match round.verdict {
                Verdict::Valid => "valid",
                Verdict::GeneratorLimited => "generator-limited",
                Verdict::Invalid => "invalid",
            };
            let _ = writeln!(
                out,
                "{key},{},{},{verdict},{},{},{},{},{},{},{},{}",
                results.name(subject),
                round.number + 1,
                number(round.offered),
                round.rate,
                number(round.processes_ns),
                number(round.core_ns),
                number(round.p50_ns),
                number(round.p99_ns),
                number(round.rss_bytes),
                quoted(&round.reasons.join("; "))
            );
        }
    }
    out
}

/// RFC 4180: quotes around, and doubled inside.
fn quoted(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
}

/// A line for each server that a cell does not have, with the reason.
pub(super) fn left_out(results: &Results) -> Vec<String> {
    let mut lines = Vec::new();
    for entrant in &results.settings.servers {
        let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
        for cell in results.settings.cell_places() {
            let Err(why) = CELLS[cell].applies_to(&entrant.subject) else { continue };
            match reasons.iter_mut().find(|reason| reason.0 == why) {
                Some(reason) => reason.1.push(CELLS[cell].name),
                None => reasons.push((why, vec![CELLS[cell].name])),
            }
        }
        let name = &entrant.subject.name;
        lines.extend(
            reasons.into_iter().map(|(why, cells)| format!("- `{name}` is not in {}: {why}.", cells.join(", "))),
        );
    }
    lines
}

/// Whether a cell of that name was measured.
pub(super) fn has(results: &Results, name: &str) -> bool {
    Cell::by_name(name).is_some_and(|cell| results.keys().contains(&Key::capacity(cell)))
}

#[cfg(test)]
mod tests {
    use super::super::super::results::tests::{invalid, run, settings};
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn the_screen_has_every_server_and_the_best_is_bold_but_never_the_limit() {
        let text = screen(&sample());
        assert_eq!(text.lines().count(), 2 + sample().settings.servers.len(), "{text}");
        let floor = text.lines().find(|line| line.starts_with("| floor")).unwrap();
        assert!(!floor.contains("**"), "{floor}");
        assert!(text.lines().any(|line| line.starts_with("| ucaffeine") && line.contains("**")), "{text}");
        assert!(
            text.lines().all(|line| line.matches('|').count() == text.lines().next().unwrap().matches('|').count())
        );
    }

    #[test]
    fn invalid_cells_are_stamped_and_not_hidden() {
        let mut results = Results::empty(settings(&["nginx", "thread-pool"], &["keepalive-64"], 2));
        let key = "keepalive-64".parse().unwrap();
        let because = Some(String::from("a connection per request: it closes"));
        for round in 0..2 {
            results.add(key, 0, round, &invalid("no \"answer\""), "", None, None).unwrap();
            results.add(key, 1, round, &run(2_000, 5_000, 1.0), "", because.clone(), None).unwrap();
        }
        let text = all(&results);
        assert!(text.contains("| nginx | INVALID |"), "{text}");
        assert!(text.contains("| thread-pool \\* | 1,000") && text.contains("it closes."), "{text}");
        let csv = rounds_csv(&results);
        assert_eq!(csv.lines().filter(|line| line.contains(",invalid,")).count(), 2, "{csv}");
        assert!(csv.contains("\"no \"\"answer\"\"\""), "{csv}");
    }

    #[test]
    fn every_line_of_csv_has_as_many_fields() {
        let results = sample();
        for csv in [figures_csv(&results), rounds_csv(&results)] {
            let fields = csv.lines().next().unwrap().matches(',').count();
            assert!(csv.lines().count() > 20 && csv.lines().all(|line| line.matches(',').count() >= fields), "{csv}");
        }
    }

    #[test]
    fn who_was_not_asked_is_named_with_the_reason() {
        let lines = left_out(&sample());
        assert!(lines.iter().any(|line| line.contains("`floor`") && line.contains("it runs no programs")), "{lines:?}");
        assert!(has(&sample(), "close") && !has(&sample(), "file-10m"));
    }
}
