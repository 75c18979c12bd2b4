//! Saved runs side by side: a row for each number, a column for each run.

use std::fmt::Write as _;

use super::style::{Style, Table, shorten};
use super::units;
use crate::record::{Hist, LoadModel, Run};
use crate::verdict::Verdict;

/// Columns of a run: its name and its numbers fit.
const COLUMN: usize = 14;

/// Columns of the rows' names, with the space after them.
const NAMES: usize = 24;

/// The runs, as many beside each other as the width allows.
#[must_use]
pub fn side_by_side(runs: &[(String, Run)], style: &Style) -> String {
    let mut out = String::new();
    let at_once = (style.width.saturating_sub(NAMES) / (COLUMN + 2)).max(1);
    for (part, runs) in runs.chunks(at_once).enumerate() {
        if part > 0 {
            out.push('\n');
        }
        for line in table(runs, style).lines(style.width) {
            let _ = writeln!(out, "{line}");
        }
    }
    let doubtful = runs.iter().filter(|(_, run)| run.validity.verdict != Verdict::Valid);
    for (at, (name, run)) in doubtful.enumerate() {
        if at == 0 {
            out.push('\n');
        }
        style.hanging(&mut out, "", 2, &format!("{name}: {}", run.validity.line()));
    }
    out
}

fn table(runs: &[(String, Run)], style: &Style) -> Table {
    let mut table = Table::default();
    table.row([String::new()].into_iter().chain(runs.iter().map(|(name, _)| shorten(name, COLUMN))));
    let mut row = |name: &str, value: &dyn Fn(&Run) -> Option<String>| {
        let values: Vec<Option<String>> = runs.iter().map(|(_, run)| value(run)).collect();
        if values.iter().any(Option::is_some) {
            let cells = values.into_iter().map(|value| value.unwrap_or_else(|| String::from("-")));
            table.row([name.to_owned()].into_iter().chain(cells));
        }
    };
    row("verdict", &|run| Some(verdict(run).to_owned()));
    row("loop", &|run| Some(if run.facts.load.model == LoadModel::Open { "open" } else { "closed" }.to_owned()));
    row("connections", &|run| Some(units::count(run.facts.load.connections.into())));
    row("requests/s", &|run| Some(units::rate(run.requests_per_second())));
    row("offered", &|run| run.facts.offered_per_second().map(units::rate));
    row("answers", &|run| Some(units::count(run.measured.responses)));
    row("errors", &|run| Some(units::count(run.measured.errors)));
    for (name, hist) in [("response", response as HistOf), ("service", service)] {
        for &percentile in &style.percentiles {
            row(&format!("{name} p{percentile}"), &|run| hist(run).at(percentile).map(units::duration));
        }
        let some = |run: &Run| Some(hist(run).clone()).filter(|hist| !hist.is_empty());
        row(&format!("{name} max"), &|run| some(run).map(|hist| units::duration(hist.max())));
        row(&format!("{name} mean"), &|run| some(run).map(|hist| units::duration_f64(hist.mean())));
    }
    row("server CPU a request", &|run| run.server_cpu_ns_per_request().map(units::duration_f64));
    row("generator busy", &|run| Some(units::share(run.facts.generator.busiest_thread_share)));
    row("Jain's index", &|run| run.connections.jain().map(|jain| format!("{jain:.3}")));
    row("SLO", &|run| run.slo.as_ref().map(|slo| slo.word().trim_start_matches("SLO ").to_owned()));
    table
}

type HistOf = fn(&Run) -> &Hist;

fn response(run: &Run) -> &Hist {
    &run.latency.response
}

fn service(run: &Run) -> &Hist {
    &run.latency.service
}

fn verdict(run: &Run) -> &'static str {
    match run.validity.verdict {
        Verdict::Valid => "valid",
        Verdict::GeneratorLimited => "gen.-limited",
        Verdict::Invalid => "INVALID",
    }
}

#[cfg(test)]
mod tests {
    use super::super::{samples, transcript};
    use super::*;

    fn named(runs: usize) -> Vec<(String, Run)> {
        let run = |n: usize| match n {
            0 => (String::from("closed.json"), samples::closed()),
            1 => (String::from("results/today/open.json"), samples::open()),
            n => (format!("run-{n}.json"), samples::stretched(n as u64 * 100, 1.0)),
        };
        (0..runs).map(run).collect()
    }

    #[test]
    fn runs_stand_side_by_side_as_in_their_transcript() {
        transcript("show-80.txt", &side_by_side(&named(3), &Style::new(Some(80), false)));
    }

    #[test]
    fn more_runs_than_fit_continue_below() {
        let text = side_by_side(&named(9), &Style::new(Some(80), false));
        assert!((2..9).all(|n| text.contains(&format!("run-{n}.json"))), "{text}");
        let tables = text.matches("requests/s").count();
        assert_eq!(tables, 3, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}
