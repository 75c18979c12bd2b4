//! The committed baseline: how many times the floor's response times and CPU time the server takes. The two are measured in turns, so the
//! machine's speed and its hour cancel to first order; microseconds are never compared. Another machine's caches do not cancel: there
//! the margin is wider, and the verdict at most a warning.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::margins::{Machine, UNKNOWN_FACTOR};
use super::metric::{Difference, Each, Metric};
use super::stats;
use super::verdict::{Finding, Margins, Outcome, RULES, State, Verdict};

/// The name and number of the schema.
pub const SCHEMA: &str = "loadgen-baseline/1";
/// The smallest margins.
pub const FLOORS: Margins = Each { latency: 0.15, p99: 0.25, cpu: 0.10 };
/// Sessions that a baseline is made of: one good day is none.
pub const SESSIONS_MIN: usize = 5;
/// How far sessions may lie apart before the margin grows.
const SPREADS: f64 = 3.0;
/// Of the interval whose lower end must be beyond the margin; one-sided 99.5 %.
const CONFIDENCE: f64 = 0.99;

/// What is in the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// [`SCHEMA`].
    pub schema: String,
    /// The load.
    pub scenario: String,
    /// The machine.
    pub machine: Machine,
    /// The commit that was measured.
    pub commit: String,
    /// Why it was blessed.
    pub reason: String,
    /// What was measured, at different times.
    pub sessions: Vec<Session>,
}

/// Pairs of one time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Seconds since 1970.
    pub unix_s: u64,
    /// By how much the server was above the floor in each pair, as natural logarithms.
    pub pairs: Vec<Difference>,
}

impl Baseline {
    /// Reads one.
    ///
    /// # Errors
    /// A line that says what is wrong, with the file's name.
    pub fn read(path: &Path) -> Result<Baseline, String> {
        let at = |why: String| format!("{}: {why}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| at(error.to_string()))?;
        let found: Baseline = serde_json::from_str(&text).map_err(|error| at(error.to_string()))?;
        match found.schema == SCHEMA && found.sessions.iter().all(|session| !session.pairs.is_empty()) {
            true => Ok(found),
            false => Err(at(format!("it is no `{SCHEMA}` with pairs in each session"))),
        }
    }

    /// Writes it.
    ///
    /// # Errors
    /// A line that says what is wrong, with the file's name.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        std::fs::write(path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Whether it has enough sessions to be compared with.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.sessions.len() >= SESSIONS_MIN
    }

    /// The centre of its sessions, and how much more is too much: as natural logarithms.
    fn reference(&self, metric: Metric, same_machine: bool) -> (f64, f64) {
        let centres: Vec<f64> = self.sessions.iter().map(|session| centre(&session.pairs, metric)).collect();
        let floor = FLOORS.of(metric) * if same_machine { 1.0 } else { UNKNOWN_FACTOR };
        let margin = floor.ln_1p().max(SPREADS * stats::spread(&centres));
        (stats::median(&centres).unwrap_or(0.0), margin)
    }
}

/// What fresh pairs say against a baseline; the second batch may be empty while nothing has to be confirmed.
#[must_use]
pub fn judge(baseline: &Baseline, machine: &Machine, first: &[Difference], second: &[Difference]) -> Verdict {
    let same_machine = baseline.machine == *machine;
    let finding = |metric: Metric| {
        let (reference, margin) = baseline.reference(metric, same_machine);
        let moved =
            |batch: &[Difference]| -> Vec<f64> { batch.iter().map(|pair| pair.of(metric) - reference).collect() };
        let is_beyond =
            |batch: &[Difference]| batch.len() >= RULES.pairs && stats::interval(&moved(batch), CONFIDENCE).0 > margin;
        let all: Vec<f64> = moved(first).into_iter().chain(moved(second)).collect();
        let (low, high) = stats::interval(&all, CONFIDENCE);
        let state = match (is_beyond(first), is_beyond(second)) {
            (true, true) => State::Worse,
            (true, false) => State::Unconfirmed,
            (false, _) if high < -margin => State::Better,
            (false, _) => State::Kept,
        };
        let p = |batch: &[Difference]| stats::signed_rank(&moved(batch)).p_greater;
        let p_again = (!second.is_empty()).then(|| p(second));
        let estimate = stats::hodges_lehmann(&all);
        Finding { metric, state, estimate, low, high, p: p(first), p_again, margin: margin.exp_m1() }
    };
    let findings: Vec<Finding> = Metric::ALL.into_iter().map(finding).collect();
    let any = |state| findings.iter().any(|finding: &Finding| finding.state == state);
    let outcome = match (any(State::Worse), any(State::Unconfirmed)) {
        (true, _) if same_machine => Outcome::Regression,
        // Worse on another machine is a warning; so is what was not seen again.
        (true, _) | (false, true) => Outcome::Unconfirmed,
        (false, false) => Outcome::Pass,
    };
    Verdict { outcome, findings, pairs: first.len(), confirming: second.len() }
}

/// Whether a second batch is needed.
#[must_use]
pub fn needs_confirmation(verdict: &Verdict) -> bool {
    verdict.confirming == 0 && verdict.findings.iter().any(|finding| finding.state == State::Unconfirmed)
}

fn centre(pairs: &[Difference], metric: Metric) -> f64 {
    stats::hodges_lehmann(&pairs.iter().map(|pair| pair.of(metric)).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(count: usize, log: f64) -> Vec<Difference> {
        (0..count).map(|n| Each::all(log + if n.is_multiple_of(2) { 0.01 } else { -0.01 })).collect()
    }

    fn baseline(spread: f64) -> Baseline {
        let session = |n: i32| Session { unix_s: n as u64, pairs: pairs(6, 0.3 + f64::from(n - 2) * spread) };
        Baseline {
            schema: SCHEMA.to_owned(),
            scenario: "keepalive".into(),
            machine: Machine::default(),
            commit: "abc".into(),
            reason: "first".into(),
            sessions: (0..5).map(session).collect(),
        }
    }

    #[test]
    fn the_ratio_to_the_floor_is_compared_and_nothing_else() {
        let judged = |by: f64, again: f64| {
            let second = if again == 0.0 { Vec::new() } else { pairs(16, 0.3 + again) };
            judge(&baseline(0.0), &Machine::default(), &pairs(16, 0.3 + by), &second)
        };
        assert_eq!(judged(0.0, 0.0).outcome, Outcome::Pass);
        // 10 % is too little for each of the metrics but the CPU time, and just too little for that.
        assert_eq!(judged(0.09, 0.0).outcome, Outcome::Pass);
        let suspect = judged(0.5, 0.0);
        assert!(needs_confirmation(&suspect) && suspect.outcome == Outcome::Unconfirmed);
        assert_eq!(judged(0.5, 0.5).outcome, Outcome::Regression);
        assert_eq!(judged(0.5, 0.01).outcome, Outcome::Unconfirmed);
        let better = judged(-0.5, 0.0);
        assert!(
            better.outcome == Outcome::Pass && better.findings.iter().all(|finding| finding.state == State::Better)
        );
        let states: Vec<State> = judged(0.2, 0.2).findings.iter().map(|finding| finding.state).collect();
        assert_eq!(states, [State::Worse, State::Kept, State::Worse], "20 % of a margin of 15, 25 and 10 %");
    }

    #[test]
    fn another_machine_warns_and_is_given_more() {
        let elsewhere = Machine { cores: 64, ..Machine::default() };
        let judged = |by: f64| judge(&baseline(0.0), &elsewhere, &pairs(16, 0.3 + by), &pairs(16, 0.3 + by));
        assert_eq!(judged(0.18).outcome, Outcome::Pass);
        assert_eq!(judged(0.9).outcome, Outcome::Unconfirmed);
    }

    #[test]
    fn sessions_that_lie_apart_widen_the_margin() {
        let margin = |spread| judge(&baseline(spread), &Machine::default(), &pairs(16, 0.3), &[]).findings[0].margin;
        assert!((margin(0.0) - 0.15).abs() < 1e-9);
        // The sessions' centres are 0.1 apart: their median distance is 0.1, and three times 0.14826 is 56 %.
        assert!((margin(0.1) - (0.44478_f64).exp_m1()).abs() < 1e-9, "{}", margin(0.1));
    }

    #[test]
    fn it_is_written_and_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/keepalive.json");
        baseline(0.1).write(&path).expect("written");
        assert_eq!(Baseline::read(&path), Ok(baseline(0.1)));
        assert!(baseline(0.1).is_whole());
        std::fs::write(&path, "{}").expect("written");
        assert!(Baseline::read(&path).is_err_and(|why| why.contains("keepalive.json")));
    }
}
