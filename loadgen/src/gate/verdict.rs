//! When to measure on, and what to say in the end: one pure function of the differences and the margins.
//!
//! A batch of pairs passes early when nothing moved by half its margin, which can only make an alarm rarer. It never fails
//! early. What fails it must exceed the margin (an effect), be unlikely by chance (a test), and show again in a second
//! batch that knows nothing of the first (a confirmation).

use serde::{Deserialize, Serialize};

use super::metric::{Difference, Each, Metric};
use super::stats;

/// How many pairs, and how sure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// Of a batch.
    pub pairs: usize,
    /// A batch may pass from so many on.
    pub early: usize,
    /// How rarely chance alone may look like this, for each metric and batch.
    pub alpha: f64,
}

/// 16 pairs, and 0.001: with three metrics and a confirmation, less than one false alarm in a hundred thousand on
/// paper; docs/gate.md has what was measured.
pub const RULES: Rules = Rules { pairs: 16, early: 6, alpha: 0.001 };

/// Of the intervals that are reported.
pub const CONFIDENCE: f64 = 0.99;

/// How much worse each metric may get, as a share: 0.05 is 5 %.
pub type Margins = Each<f64>;

/// What is to be done next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Measure another pair, for that batch.
    Measure(Batch),
    /// It is decided.
    Over(Verdict),
}

/// Of which batch a pair is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// The first.
    First,
    /// The one that is to confirm it.
    Second,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// In one word.
    pub outcome: Outcome,
    /// Of each metric.
    pub findings: Vec<Finding>,
    /// Pairs of the first batch.
    pub pairs: usize,
    /// Pairs of the second.
    pub confirming: usize,
}

/// In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Nothing got worse by its margin.
    Pass,
    /// Something looked worse, and did not when it was measured again: a warning.
    Unconfirmed,
    /// Something got worse.
    Regression,
}

/// What one metric did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Which.
    pub metric: Metric,
    /// In one word.
    pub state: State,
    /// By how much it moved, as a natural logarithm, over all pairs that were measured.
    pub estimate: f64,
    /// Where that lies with a confidence of [`CONFIDENCE`].
    pub low: f64,
    /// Likewise.
    pub high: f64,
    /// How often chance alone makes the first batch look so bad.
    pub p: f64,
    /// The same of the second batch, if there was one.
    pub p_again: Option<f64>,
    /// By how much it may get worse, as a share.
    pub margin: f64,
}

/// What a metric did, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Not worse by its margin.
    Kept,
    /// Better by its margin, as surely as it would have been worse.
    Better,
    /// Worse, and not when it was measured again.
    Unconfirmed,
    /// Worse, twice.
    Worse,
}

/// What follows from what was measured.
#[must_use]
pub fn next(first: &[Difference], second: &[Difference], margins: &Margins, rules: &Rules) -> Step {
    if first.len() < rules.pairs {
        return match first.len() >= rules.early && are_small(first, &Metric::ALL, margins) {
            true => Step::Over(verdict(first, second, &[], &[], margins)),
            false => Step::Measure(Batch::First),
        };
    }
    let suspects: Vec<Metric> =
        Metric::ALL.into_iter().filter(|metric| is_worse(first, *metric, margins, rules)).collect();
    let is_clear = !second.is_empty() && second.len() >= rules.early && are_small(second, &suspects, margins);
    if !suspects.is_empty() && second.len() < rules.pairs && !is_clear {
        return Step::Measure(Batch::Second);
    }
    let confirmed = suspects
        .iter()
        .copied()
        .filter(|metric| second.len() >= rules.pairs && is_worse(second, *metric, margins, rules));
    let confirmed: Vec<Metric> = confirmed.collect();
    Step::Over(verdict(first, second, &suspects, &confirmed, margins))
}

fn is_worse(batch: &[Difference], metric: Metric, margins: &Margins, rules: &Rules) -> bool {
    let values = values(batch, metric);
    stats::hodges_lehmann(&values) > margins.of(metric).ln_1p() && stats::signed_rank(&values).p_greater <= rules.alpha
}

/// Half a margin is not reached by any.
fn are_small(batch: &[Difference], metrics: &[Metric], margins: &Margins) -> bool {
    let small = |metric: Metric| stats::hodges_lehmann(&values(batch, metric)) < margins.of(metric).ln_1p() / 2.0;
    metrics.iter().copied().all(small)
}

fn verdict(
    first: &[Difference],
    second: &[Difference],
    suspects: &[Metric],
    confirmed: &[Metric],
    margins: &Margins,
) -> Verdict {
    let all: Vec<Difference> = first.iter().chain(second).copied().collect();
    let finding = |metric: Metric| {
        let values_of_all = values(&all, metric);
        let (low, high) = stats::interval(&values_of_all, CONFIDENCE);
        let test = stats::signed_rank(&values(first, metric));
        let again = (!second.is_empty()).then(|| stats::signed_rank(&values(second, metric)));
        let estimate = stats::hodges_lehmann(&values_of_all);
        let is_better = estimate < -margins.of(metric).ln_1p() && test.p_less <= RULES.alpha;
        let state = match (confirmed.contains(&metric), suspects.contains(&metric)) {
            (true, _) => State::Worse,
            (false, true) => State::Unconfirmed,
            (false, false) if is_better => State::Better,
            (false, false) => State::Kept,
        };
        let p_again = again.map(|test| test.p_greater);
        Finding { metric, state, estimate, low, high, p: test.p_greater, p_again, margin: margins.of(metric) }
    };
    let outcome = match (confirmed.is_empty(), suspects.is_empty()) {
        (false, _) => Outcome::Regression,
        (true, false) => Outcome::Unconfirmed,
        (true, true) => Outcome::Pass,
    };
    Verdict {
        outcome,
        findings: Metric::ALL.into_iter().map(finding).collect(),
        pairs: first.len(),
        confirming: second.len(),
    }
}

fn values(batch: &[Difference], metric: Metric) -> Vec<f64> {
    batch.iter().map(|difference| difference.of(metric)).collect()
}

impl Verdict {
    /// The metrics that got worse.
    pub fn worse(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.state == State::Worse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARGINS: Margins = Margins { latency: 0.05, p99: 0.15, cpu: 0.03 };

    /// Pairs that differ by so much, with a little noise around it that adds up to nothing.
    fn pairs(count: usize, latency: f64) -> Vec<Difference> {
        let noise = |n: usize| if n.is_multiple_of(2) { 0.004 } else { -0.004 };
        (0..count).map(|n| Difference { latency: latency + noise(n), p99: noise(n), cpu: noise(n) }).collect()
    }

    fn over(first: &[Difference], second: &[Difference]) -> Verdict {
        match next(first, second, &MARGINS, &RULES) {
            Step::Over(verdict) => verdict,
            step => panic!("{step:?}"),
        }
    }

    #[test]
    fn what_is_the_same_passes_after_six() {
        for count in 0..6 {
            assert_eq!(next(&pairs(count, 0.0), &[], &MARGINS, &RULES), Step::Measure(Batch::First));
        }
        assert_eq!(over(&pairs(6, 0.0), &[]).outcome, Outcome::Pass);
        // Over half of a margin is too much for an early end, and too little for an alarm.
        assert_eq!(next(&pairs(15, 0.03), &[], &MARGINS, &RULES), Step::Measure(Batch::First));
        assert_eq!(over(&pairs(16, 0.03), &[]).outcome, Outcome::Pass);
    }

    #[test]
    fn it_never_fails_early() {
        for count in 0..16 {
            assert_eq!(next(&pairs(count, 9.0), &[], &MARGINS, &RULES), Step::Measure(Batch::First), "{count}");
        }
        for count in 0..16 {
            let step = next(&pairs(16, 9.0), &pairs(count, 9.0), &MARGINS, &RULES);
            assert_eq!(step, Step::Measure(Batch::Second), "{count}");
        }
    }

    #[test]
    fn what_is_worse_twice_is_a_regression_and_the_other_metrics_are_not() {
        let verdict = over(&pairs(16, 0.2), &pairs(16, 0.2));
        assert_eq!(verdict.outcome, Outcome::Regression);
        let states: Vec<State> = verdict.findings.iter().map(|finding| finding.state).collect();
        assert_eq!(states, [State::Worse, State::Kept, State::Kept]);
        let latency = &verdict.findings[0];
        assert!((latency.estimate - 0.2).abs() < 0.005 && latency.low <= 0.2 && latency.high >= 0.2, "{latency:?}");
        assert!(latency.p < 1e-4 && latency.p_again.is_some_and(|p| p < 1e-4));
    }

    #[test]
    fn what_is_worse_once_is_not_confirmed_and_that_may_be_said_early() {
        assert_eq!(over(&pairs(16, 0.2), &pairs(6, 0.0)).outcome, Outcome::Unconfirmed);
        assert_eq!(over(&pairs(16, 0.2), &pairs(16, 0.04)).outcome, Outcome::Unconfirmed);
        assert_eq!(next(&pairs(16, 0.2), &pairs(6, 0.04), &MARGINS, &RULES), Step::Measure(Batch::Second));
    }

    /// An effect without a test, and a test without an effect.
    #[test]
    fn both_the_effect_and_the_test_are_needed() {
        let mut wild = pairs(16, 0.3);
        // Four of sixteen go the other way, and further: nothing that chance could not do.
        for pair in wild.iter_mut().step_by(4) {
            pair.latency = -0.9;
        }
        assert!(stats::hodges_lehmann(&values(&wild, Metric::Latency)) < 0.3);
        assert_eq!(over(&wild, &[]).outcome, Outcome::Pass);
        let surely_small = over(&pairs(16, 0.045), &[]);
        assert!(surely_small.findings[0].p < 1e-4);
        assert_eq!(surely_small.outcome, Outcome::Pass);
    }

    #[test]
    fn swapped_arms_are_better_where_the_others_were_worse() {
        let mirrored: Vec<Difference> = pairs(16, 0.2).iter().map(|pair| pair.map(|_, value| -value)).collect();
        let (worse, better) = (over(&pairs(16, 0.2), &pairs(16, 0.2)), over(&mirrored, &[]));
        assert_eq!((better.outcome, better.findings[0].state), (Outcome::Pass, State::Better));
        let once = verdict(&pairs(16, 0.2), &[], &[], &[], &MARGINS);
        assert_eq!(better.findings[0].estimate, -once.findings[0].estimate);
        assert_eq!((better.findings[0].low, better.findings[0].high), (-once.findings[0].high, -once.findings[0].low));
        assert_eq!(worse.worse().count(), 1);
    }
}
