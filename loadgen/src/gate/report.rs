//! What people read of a comparison: one sentence, a table, and the shift function as a chart.

use std::fmt::Write as _;
use std::path::Path;

use super::compare::Comparison;
use super::verdict::{CONFIDENCE, Finding, Outcome, RULES, State, Verdict};
use crate::report::{diff, units};

/// What moved, by how much, how sure.
#[must_use]
pub fn sentence(comparison: &Comparison) -> String {
    let Comparison { verdict, names: (base, head), .. } = comparison;
    let all = |state: State| {
        let these = verdict.findings.iter().filter(|finding| finding.state == state);
        these.map(moved).collect::<Vec<_>>().join("; ")
    };
    let confidence = format!("{:.0}% sure", CONFIDENCE * 100.0);
    match verdict.outcome {
        Outcome::Regression => format!(
            "{head} is slower than {base}: {} ({confidence}), in {} pairs and again in {} others.",
            all(State::Worse),
            verdict.pairs,
            verdict.confirming
        ),
        Outcome::Unconfirmed => format!(
            "Not confirmed: {} looked slower than {base} in {} pairs and did not in {} others, over all of which {} ({confidence}).",
            head,
            verdict.pairs,
            verdict.confirming,
            all(State::Unconfirmed)
        ),
        Outcome::Pass if verdict.findings.iter().any(|finding| finding.state == State::Better) => {
            format!("{head} is faster than {base}: {} ({confidence}), in {} pairs.", all(State::Better), verdict.pairs)
        }
        Outcome::Pass => format!(
            "Nothing got worse by its margin in {} pairs of {base} and {head}: {} ({confidence}).",
            verdict.pairs,
            all(State::Kept)
        ),
    }
}

/// `the server's CPU time per request rose by 41% (between 39% and 44%; the margin is 3%)`.
fn moved(finding: &Finding) -> String {
    format!(
        "{} {} (between {} and {}; the margin is {})",
        finding.metric.words(),
        verb(finding.estimate),
        signed(finding.low),
        signed(finding.high),
        units::share(finding.margin)
    )
}

fn verb(log: f64) -> String {
    let word = if log < 0.0 { "fell" } else { "rose" };
    format!("{word} by {}", signed(log).trim_start_matches(['+', '-']))
}

/// A logarithm of a ratio as `+4.1%`.
fn signed(log: f64) -> String {
    format!("{:+.1}%", log.exp_m1() * 100.0)
}

/// As the report and the terminal call it.
#[must_use]
pub fn word(verdict: &Verdict) -> &'static str {
    match verdict.outcome {
        Outcome::Pass => "PASS",
        Outcome::Unconfirmed => "WARNING (not confirmed)",
        Outcome::Regression => "REGRESSION",
    }
}

/// The report as Markdown. `chart`: the name of the chart beside it.
#[must_use]
pub fn markdown(comparison: &Comparison, chart: &str) -> String {
    let Comparison { verdict, names: (base, head), host, .. } = comparison;
    let mut out = format!("# {}\n\n{}\n\n", word(verdict), sentence(comparison));
    out += "| metric | moved by | 99 % interval | margin | p | p again | |\n| --- | ---: | ---: | ---: | ---: | ---: | --- |\n";
    for finding in &verdict.findings {
        let Finding { metric, estimate, low, high, p, p_again, margin, state } = finding;
        let state = match state {
            State::Kept => "kept",
            State::Better => "better",
            State::Unconfirmed => "not confirmed",
            State::Worse => "**worse**",
        };
        let again = p_again.map_or_else(|| String::from("-"), probability);
        let _ = writeln!(
            out,
            "| {} | {} | {} to {} | {} | {} | {again} | {state} |",
            metric.words(),
            signed(*estimate),
            signed(*low),
            signed(*high),
            units::share(*margin),
            probability(*p),
        );
    }
    let _ =
        write!(out, "\nThe shift function of the response times (calm halves of all trials):\n\n![shift]({chart})\n\n");
    out += "| quantile | base | head | head/base |\n| --- | ---: | ---: | ---: |\n";
    for shift in diff::shift(&comparison.base, &comparison.head) {
        if let (Some((a, b)), Some(ratio)) = (shift.values, shift.ratio()) {
            let (a, b) = (units::duration(a), units::duration(b));
            let _ = writeln!(out, "| p{} | {a} | {b} | {} |", shift.percentile, units::ratio(ratio));
        }
    }
    let _ = write!(
        out,
        "\nBase: {base}. Head: {head}. Load: `{}`, an open loop of {}, a fresh server for each trial, seed {}. {} pairs, {} to confirm; \
         an alarm needs more than the margin, p of at most {} and a second batch.\n\n{}, Linux {}, {} cores{}.\n",
        comparison.scenario,
        units::rate(comparison.rate),
        comparison.seed,
        verdict.pairs,
        verdict.confirming,
        RULES.alpha,
        host.cpu_model,
        host.kernel,
        host.cores,
        if host.virtual_machine { ", a virtual machine" } else { "" },
    );
    for remark in &comparison.remarks {
        let _ = write!(out, "\nNote: {remark}.\n");
    }
    out
}

fn probability(p: f64) -> String {
    if p < 0.0001 { format!("{p:.0e}") } else { format!("{p:.4}") }
}

/// The shift function as SVG.
#[must_use]
pub fn chart(comparison: &Comparison) -> String {
    let (base, head) = &comparison.names;
    diff::chart_of((base, head), &comparison.base, &comparison.head)
}

/// Writes `NAME.md` and `NAME.svg` into a folder, which is made if it is not there.
///
/// # Errors
/// A line that says what is wrong, with the folder's name.
pub fn save(comparison: &Comparison, folder: &Path, name: &str) -> Result<(), String> {
    let at = |error: std::io::Error| format!("{}: {error}", folder.display());
    std::fs::create_dir_all(folder).map_err(at)?;
    let svg = format!("{name}.svg");
    std::fs::write(folder.join(format!("{name}.md")), markdown(comparison, &svg)).map_err(at)?;
    std::fs::write(folder.join(&svg), chart(comparison)).map_err(at)
}

#[cfg(test)]
mod tests {
    use super::super::metric::Difference;
    use super::super::verdict::{Margins, Step, next};
    use super::*;
    use crate::report::samples;

    const MARGINS: Margins = Margins { latency: 0.05, p99: 0.15, cpu: 0.03 };

    fn comparison(first: f64, second: f64) -> Comparison {
        let pairs = |by: f64| -> Vec<Difference> {
            (0..16).map(|n| Difference { latency: 0.0, p99: 0.0, cpu: by + f64::from(n % 2) * 0.002 }).collect()
        };
        let second = if first > 0.03 { pairs(second) } else { Vec::new() };
        let Step::Over(verdict) = next(&pairs(first), &second, &MARGINS, &RULES) else {
            panic!("more pairs are wanted")
        };
        let run = samples::stretched(100_000, 1.0);
        Comparison {
            scenario: "keepalive".into(),
            names: ("base".into(), "head".into()),
            rate: 130_000.0,
            seed: 7,
            host: run.facts.host.clone(),
            verdict,
            base: run.latency.response.clone(),
            head: samples::stretched(100_000, 1.2).latency.response,
            remarks: vec!["read it with care".into()],
        }
    }

    #[test]
    fn one_sentence_says_what_moved_by_how_much_and_how_sure() {
        assert_eq!(
            sentence(&comparison(0.3, 0.3)),
            "head is slower than base: the server's CPU time per request rose by 35.1% (between +35.0% and +35.3%; the margin is 3%) \
             (99% sure), in 16 pairs and again in 16 others."
        );
        assert!(
            sentence(&comparison(0.3, 0.0))
                .starts_with("Not confirmed: head looked slower than base in 16 pairs and did not")
        );
        assert!(
            sentence(&comparison(-0.3, 0.0))
                .starts_with("head is faster than base: the server's CPU time per request fell by 25.8%")
        );
        assert!(
            sentence(&comparison(0.0, 0.0))
                .starts_with("Nothing got worse by its margin in 16 pairs of base and head: the response")
        );
    }

    #[test]
    fn the_report_has_the_sentence_the_table_and_the_chart() {
        let comparison = comparison(0.3, 0.3);
        let text = markdown(&comparison, "shift.svg");
        for part in [
            "# REGRESSION\n",
            &sentence(&comparison),
            "![shift](shift.svg)",
            "| p99 |",
            "**worse**",
            "seed 7",
            "Note: read it",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        save(&comparison, &folder.path().join("a/b"), "shift").expect("saved");
        let svg = std::fs::read_to_string(folder.path().join("a/b/shift.svg")).expect("the chart");
        assert!(svg.starts_with("<svg") && svg.contains("head"), "{}", &svg[..200]);
    }
}
