//! What is written down of each run: a line of JSON, so that a trend can be seen; and what a commit says it expects.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::margins::Machine;
use super::metric::Metric;
use super::verdict::{Outcome, Verdict};

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Seconds since 1970.
    pub unix_s: u64,
    /// Which verb.
    pub verb: String,
    /// Which load.
    pub scenario: String,
    /// What was compared.
    pub base: String,
    /// With what.
    pub head: String,
    /// The machine.
    pub machine: Machine,
    /// What came of it; `null` for a run that could not be believed.
    pub verdict: Option<Verdict>,
    /// Why it could not.
    pub invalid: Option<String>,
    /// What was expected, and so was no failure.
    pub expected: Vec<Expected>,
}

/// A line `Perf-Expected: METRIC REASON` of a commit's message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// What may get worse.
    pub metric: Metric,
    /// Why.
    pub reason: String,
}

impl Entry {
    /// Adds it to the end of the file, which is made if it is not there.
    ///
    /// # Errors
    /// A line that says what is wrong, with the file's name.
    pub fn append(&self, path: &Path) -> Result<(), String> {
        let at = |why: String| format!("{}: {why}", path.display());
        let mut line = serde_json::to_string(self).map_err(|error| at(error.to_string()))?;
        line.push('\n');
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| at(error.to_string()))?;
        }
        let file = std::fs::File::options().append(true).create(true).open(path);
        // One write: two runs at the same time do not mix their lines.
        file.and_then(|mut file| file.write_all(line.as_bytes())).map_err(|error| at(error.to_string()))
    }
}

/// Reads the trailers' values, one a line. An error names the first that has no metric, or no reason.
///
/// # Errors
/// A line that says which, and what would be right.
pub fn parse_expected(values: &str) -> Result<Vec<Expected>, String> {
    let values = values.lines().map(str::trim).filter(|line| !line.is_empty());
    let read = |line: &str| {
        let (name, reason) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match (Metric::named(name), reason.trim()) {
            (Some(metric), reason) if !reason.is_empty() => Ok(Expected { metric, reason: reason.to_owned() }),
            _ => Err(format!("`Perf-Expected: {line}`: a metric (latency, p99, cpu) and a reason are wanted")),
        }
    };
    values.map(read).collect()
}

/// What the commits from `base` to `head` expect.
///
/// # Errors
/// A line that says what is wrong.
pub fn expected_between(repository: &Path, base: &str, head: &str) -> Result<Vec<Expected>, String> {
    let mut git = Command::new("git");
    git.arg("-C").arg(repository);
    git.args(["log", "--format=%(trailers:key=Perf-Expected,valueonly)", &format!("{base}..{head}"), "--"]);
    let output = git.output().map_err(|error| format!("git cannot be started: {error}"))?;
    match output.status.success() {
        true => parse_expected(&String::from_utf8_lossy(&output.stdout)),
        false => Err(format!("git log: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// Whether all that got worse was expected; then it is no failure.
#[must_use]
pub fn is_expected(verdict: &Verdict, expected: &[Expected]) -> bool {
    let known = |metric: Metric| expected.iter().any(|one| one.metric == metric);
    verdict.outcome == Outcome::Regression && verdict.worse().all(|finding| known(finding.metric))
}

#[cfg(test)]
mod tests {
    use super::super::verdict::{Finding, State};
    use super::*;

    #[test]
    fn trailers_are_read() {
        let found = parse_expected("p99 the new lock is fair\n\ncpu   checksums\n").expect("two");
        let expected = |metric, reason: &str| Expected { metric, reason: reason.to_owned() };
        assert_eq!(found, [expected(Metric::P99, "the new lock is fair"), expected(Metric::Cpu, "checksums")]);
        for text in ["p99", "p99  ", "speed because", "because p99"] {
            assert!(parse_expected(text).is_err_and(|why| why.contains(text.trim())), "{text}");
        }
    }

    #[test]
    fn only_what_was_expected_is_excused() {
        let finding = |metric, state| Finding {
            metric,
            state,
            estimate: 0.3,
            low: 0.2,
            high: 0.4,
            p: 1e-5,
            p_again: Some(1e-5),
            margin: 0.05,
        };
        let findings = vec![finding(Metric::Latency, State::Kept), finding(Metric::P99, State::Worse)];
        let verdict = Verdict { outcome: Outcome::Regression, findings, pairs: 16, confirming: 16 };
        let expected = |metric| vec![Expected { metric, reason: String::from("so") }];
        assert!(is_expected(&verdict, &expected(Metric::P99)));
        assert!(!is_expected(&verdict, &expected(Metric::Cpu)) && !is_expected(&verdict, &[]));
        assert!(!is_expected(&Verdict { outcome: Outcome::Pass, ..verdict }, &[]));
    }

    #[test]
    fn a_line_is_added_and_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/history.jsonl");
        let entry = Entry {
            unix_s: 1,
            verb: "ab".into(),
            scenario: "keepalive".into(),
            base: "a".into(),
            head: "b".into(),
            machine: Machine::default(),
            verdict: None,
            invalid: Some("two\nlines".into()),
            expected: Vec::new(),
        };
        entry.append(&path).and_then(|()| entry.append(&path)).expect("written");
        let text = std::fs::read_to_string(&path).expect("there");
        let read: Vec<Entry> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(read, [entry.clone(), entry]);
    }

    #[test]
    fn the_trailers_of_commits_are_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let git = |words: &[&str]| {
            let mut git = Command::new("git");
            git.arg("-C").arg(folder.path()).args([
                "-c",
                "user.name=a",
                "-c",
                "user.email=a@b",
                "-c",
                "commit.gpgsign=false",
            ]);
            let output = git.args(words).output().expect("git");
            assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        git(&["init", "-q"]);
        git(&["commit", "-q", "--allow-empty", "-m", "first\n\nPerf-Expected: cpu not this one"]);
        git(&["tag", "base"]);
        git(&["commit", "-q", "--allow-empty", "-m", "second\n\nPerf-Expected: p99 a fair lock"]);
        let found = expected_between(folder.path(), "base", "HEAD").expect("read");
        assert_eq!(found, [Expected { metric: Metric::P99, reason: String::from("a fair lock") }]);
        assert!(expected_between(folder.path(), "nowhere", "HEAD").is_err());
    }
}
