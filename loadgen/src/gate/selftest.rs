//! `gate selftest`: the gate proves itself, live. The same program twice must pass; one that is slow on purpose must not.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::compare::{Comparison, compare};
use super::metric::Metric;
use super::report;
use super::server::Arm;
use super::trial::{Bench, Failure, SCENARIOS};
use super::verdict::{Margins, Outcome, RULES, State};

/// All of it together.
pub const TIME_MAX: Duration = Duration::from_secs(8 * 60);

/// One of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// As flags and files call it.
    pub name: &'static str,
    /// In words.
    pub words: &'static str,
    /// What the head is started with besides.
    flags: &'static [&'static str],
    /// What must get worse; nothing, where it must pass.
    worse: Option<Metric>,
}

/// The parts, in order.
pub const PARTS: [Part; 3] = [
    Part { name: "aa", words: "the same program twice", flags: &[], worse: None },
    Part {
        name: "delay",
        words: "200 us more for 2% of the requests",
        flags: &["--inject-delay", "200us:0.02"],
        worse: Some(Metric::P99),
    },
    Part {
        name: "spin",
        words: "3 us more of CPU for each request",
        flags: &["--inject-spin", "3us"],
        worse: Some(Metric::Cpu),
    },
];

/// What came of a part.
#[derive(Debug)]
pub struct Finding {
    /// Which.
    pub part: Part,
    /// What was measured, or why it could not be.
    pub result: Result<Comparison, Failure>,
    /// How long it took.
    pub took: Duration,
}

impl Finding {
    /// Whether it came out as it must.
    #[must_use]
    pub fn holds(&self) -> bool {
        let Ok(Comparison { verdict, .. }) = &self.result else { return false };
        match self.part.worse {
            None => verdict.outcome != Outcome::Regression,
            Some(metric) => {
                verdict.findings.iter().any(|finding| finding.metric == metric && finding.state == State::Worse)
            }
        }
    }

    /// In one line.
    #[must_use]
    pub fn line(&self) -> String {
        let must = if self.part.worse.is_some() { "must be found" } else { "must pass" };
        let said = match &self.result {
            Ok(comparison) => report::sentence(comparison),
            Err(Failure::Invalid(why)) => format!("INVALID: {why}."),
            Err(Failure::Failed(why)) => format!("failed: {why}."),
        };
        let word = if self.holds() { "ok  " } else { "FAIL" };
        format!("{word} {} ({must}, {} s): {said}", self.part.words, self.took.as_secs())
    }
}

/// Runs parts. `arm` is the program; `deadline` is of all of them together.
pub fn run(
    parts: &[Part],
    arm: &Arm,
    margins: &Margins,
    (time, warmup): (Duration, Duration),
    (seed, deadline): (u64, Instant),
    mut say: impl FnMut(&str),
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for part in parts {
        let begun = Instant::now();
        say(part.words);
        let bench = Bench::prepare(SCENARIOS[0], arm, time, warmup);
        let result = bench.and_then(|mut bench| {
            bench.deadline = Some(deadline);
            let (mut base, mut head) = (arm.clone(), arm.clone().with(part.flags));
            (base.name, head.name) = ("the server".into(), format!("the server ({})", part.words));
            compare(&bench, (&base, &head), margins, &RULES, seed, &mut say)
        });
        findings.push(Finding { part: *part, result, took: begun.elapsed() });
        say(&findings[findings.len() - 1].line());
    }
    findings
}

/// Writes a report of all parts, and of each that was measured one of its own beside it.
///
/// # Errors
/// A line that says what is wrong, with the folder's name.
pub fn save(findings: &[Finding], folder: &Path) -> Result<(), String> {
    let mut out =
        String::from("# The gate's self-test\n\n| | must | came out | s | |\n| --- | --- | --- | ---: | --- |\n");
    for finding in findings {
        let Finding { part, result, took } = finding;
        let (came, link) = match result {
            Ok(comparison) => {
                report::save(comparison, folder, part.name)?;
                (report::word(&comparison.verdict).to_owned(), format!("[report]({}.md)", part.name))
            }
            Err(Failure::Invalid(why)) => (format!("INVALID: {why}"), String::new()),
            Err(Failure::Failed(why)) => (format!("failed: {why}"), String::new()),
        };
        let must = if part.worse.is_some() { "be found" } else { "pass" };
        let holds = if finding.holds() { "ok" } else { "**FAIL**" };
        let _ = writeln!(out, "| {} | {must} | {holds}: {came} | {} | {link} |", part.words, took.as_secs());
    }
    let name = match findings {
        [one] => format!("selftest-{}.md", one.part.name),
        _ => String::from("selftest.md"),
    };
    let at = |error: std::io::Error| format!("{}: {error}", folder.display());
    std::fs::create_dir_all(folder).map_err(at)?;
    std::fs::write(folder.join(name), out).map_err(at)
}
