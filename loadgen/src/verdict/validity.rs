//! Whether a run may be believed. Judged before anything else is said of it.

use serde::{Deserialize, Serialize};

use crate::record::{LoadModel, Percentile, Run};
use crate::report::units;

/// An open loop that sent less than this share of what the schedule wanted measured another load than it says.
pub const ACHIEVED_SHARE_MIN: f64 = 0.995;

/// So few requests may be missing in any case: they were in flight when the window ended.
const SHORTFALL_SLACK: u64 = 10;

/// The 99th percentile of the schedule lag may be this share of the median response time.
pub const LAG_SHARE_MAX: f64 = 0.10;

/// It may be as much as this in any case. Waking a thread takes some microseconds, on a virtual machine most of ten: a bound below
/// that would say how quick the server is (a tenth of a median of 50 us is 5 us), not how well the load was made. The lag is a part of the
/// response times, and printed beside them.
pub const LAG_NS_ALLOWED: u64 = 10_000;

/// Beyond this share of its core a generator measures itself: what it is late by is not seen as lag any more.
pub const GENERATOR_BUSY_SHARE_MAX: f64 = 0.85;

/// A hypervisor that takes more than this share of the processors is a part of every number.
pub const STEAL_SHARE_MAX: f64 = 0.02;

/// How far to believe a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validity {
    /// In one word.
    pub verdict: Verdict,
    /// Why, the gravest first; empty for a valid run.
    pub reasons: Vec<Reason>,
}

/// In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing speaks against it.
    Valid,
    /// A closed loop whose generator was the limit: the rate is a lower bound.
    GeneratorLimited,
    /// It did not measure what it says.
    Invalid,
}

/// One thing that speaks against a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// What it makes of the run.
    pub verdict: Verdict,
    /// In words, with the number and its bound.
    pub text: String,
}

impl Validity {
    /// Of a run without samples, before [`judge`].
    #[must_use]
    pub fn unjudged() -> Validity {
        Validity::of(vec![Reason::invalid(String::from("no verdict was made"))])
    }

    /// The gravest of the reasons decides.
    #[must_use]
    pub fn of(mut reasons: Vec<Reason>) -> Validity {
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.verdict));
        let verdict = reasons.first().map_or(Verdict::Valid, |reason| reason.verdict);
        Validity { verdict, reasons }
    }

    /// True for a run that exits with 4.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        self.verdict == Verdict::Invalid
    }

    /// `valid`, `generator-limited: why`, `INVALID: why; why`.
    #[must_use]
    pub fn line(&self) -> String {
        let word = match self.verdict {
            Verdict::Valid => return String::from("valid"),
            Verdict::GeneratorLimited => "generator-limited",
            Verdict::Invalid => "INVALID",
        };
        let reasons: Vec<&str> = self.reasons.iter().map(|reason| reason.text.as_str()).collect();
        format!("{word}: {}", reasons.join("; "))
    }
}

impl Reason {
    pub(crate) fn invalid(text: String) -> Reason {
        Reason { verdict: Verdict::Invalid, text }
    }

    fn limited(text: String) -> Reason {
        Reason { verdict: Verdict::GeneratorLimited, text }
    }
}

/// Judges a run. `strict`: its numbers are to be compared with a bound (an SLO, a gate), so a generator that was the limit
/// makes it invalid in a closed loop, too. `errors_max` is how many errors are acceptable.
#[must_use]
pub fn judge(run: &Run, strict: bool, errors_max: u64) -> Validity {
    judge_with(run, strict, errors_max, LAG_SHARE_MAX)
}

/// The same, with another bound on the lag: a comparison of two runs that were late alike can bear more.
#[must_use]
pub fn judge_with(run: &Run, strict: bool, errors_max: u64, lag_share_max: f64) -> Validity {
    let open = run.facts.load.model == LoadModel::Open;
    let generator = [generator_fault(run), steal_fault(run)].into_iter().flatten();
    let generator = generator.map(if open || strict { Reason::invalid } else { Reason::limited });
    let faults = [emptiness(run), error_fault(run, errors_max), rate_fault(run), lag_fault(run, lag_share_max)];
    Validity::of(faults.into_iter().flatten().map(Reason::invalid).chain(generator).collect())
}

fn emptiness(run: &Run) -> Option<String> {
    let nothing = run.measured.responses == 0 && run.measured.errors == 0;
    nothing.then(|| match run.warmup.errors {
        0 => String::from("nothing was measured: no request ended in the window"),
        errors => format!("nothing was measured: {} during the warm-up", units::plural(errors, "error")),
    })
}

fn error_fault(run: &Run, errors_max: u64) -> Option<String> {
    let errors = run.measured.errors;
    (errors > errors_max).then(|| {
        let share = units::share(run.measured.error_share());
        let kind = run.errors.first().map_or("", |kind| kind.class.name());
        format!("{} ({share}), most of them {kind}", units::plural(errors, "error"))
    })
}

fn rate_fault(run: &Run) -> Option<String> {
    let offered = run.facts.load.offered_requests.filter(|&offered| offered > 0)?;
    let ended = run.measured.responses + run.measured.errors;
    let share = ended as f64 / offered as f64;
    (share < ACHIEVED_SHARE_MIN && offered.saturating_sub(ended) > SHORTFALL_SLACK).then(|| {
        let rate = |count| units::rate(crate::record::per_second(count, run.facts.window_ns()));
        let (achieved, offered) = (rate(run.measured.responses), rate(offered));
        format!("{achieved} of {offered} offered were achieved ({})", units::share(share))
    })
}

fn lag_fault(run: &Run, share_max: f64) -> Option<String> {
    let open = run.facts.load.model == LoadModel::Open;
    let (lag, p50) = (run.generator.lag.at(Percentile::P99)?, run.latency.response.at(Percentile::P50)?);
    (open && lag > LAG_NS_ALLOWED && lag as f64 > p50 as f64 * share_max).then(|| {
        let (lag, p50) = (units::duration(lag), units::duration(p50));
        format!(
            "requests were sent late: p99 of the schedule lag is {lag}, over {} of the median of {p50}",
            units::share(share_max)
        )
    })
}

fn generator_fault(run: &Run) -> Option<String> {
    let share = run.facts.generator.busiest_thread_share;
    (share > GENERATOR_BUSY_SHARE_MAX).then(|| {
        format!(
            "the generator used {} of its core (at most {} is sound)",
            units::share(share),
            units::share(GENERATOR_BUSY_SHARE_MAX)
        )
    })
}

fn steal_fault(run: &Run) -> Option<String> {
    let share = run.facts.steal_share.filter(|&share| share > STEAL_SHARE_MAX)?;
    Some(format!("the hypervisor took {} of the CPU time", units::share(share)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    /// The verdict on a run that is valid but for one change.
    fn judged(strict: bool, change: impl FnOnce(&mut Run)) -> (Verdict, String) {
        let mut run = samples::closed();
        change(&mut run);
        let validity = judge(&run, strict, 0);
        (validity.verdict, validity.line())
    }

    fn open(run: &mut Run, offered: u64) {
        run.facts.load.model = LoadModel::Open;
        run.facts.load.offered_requests = Some(offered);
    }

    #[test]
    fn a_sound_run_is_valid() {
        assert_eq!(judged(true, |_| {}), (Verdict::Valid, String::from("valid")));
        assert_eq!(judged(true, |run| open(run, 200_100)).0, Verdict::Valid);
    }

    #[test]
    fn a_saturated_generator_limits_a_closed_loop_and_invalidates_the_rest() {
        let saturate = |run: &mut Run| run.facts.generator.busiest_thread_share = 0.97;
        let (verdict, line) = judged(false, saturate);
        assert_eq!(verdict, Verdict::GeneratorLimited);
        assert_eq!(line, "generator-limited: the generator used 97% of its core (at most 85% is sound)");
        assert_eq!(judged(true, saturate).0, Verdict::Invalid);
        let both = |run: &mut Run| {
            saturate(run);
            open(run, 200_000);
        };
        assert_eq!(judged(false, both).0, Verdict::Invalid);
    }

    #[test]
    fn each_fault_is_named_with_its_number() {
        let (_, line) = judged(false, |run| run.measured.errors = 12);
        assert!(line.starts_with("INVALID: 12 errors (0.006%)"), "{line}");
        let (_, line) = judged(false, |run| open(run, 210_000));
        assert!(line.contains("100,000/s of 105,000/s offered were achieved (95.2%)"), "{line}");
        let (_, line) = judged(false, |run| run.facts.steal_share = Some(0.05));
        assert_eq!(line, "generator-limited: the hypervisor took 5% of the CPU time");
        let late = |ns: u64| {
            judged(false, |run| {
                open(run, 200_000);
                (0..10_000).for_each(|_| run.generator.lag.record(ns));
            })
        };
        assert_eq!(late(20_000).0, Verdict::Valid);
        assert!(late(500_000).1.contains("p99 of the schedule lag is 500 us, over 10% of the median of 330 us"));
    }

    #[test]
    fn a_lag_of_ten_microseconds_is_allowed_of_any_median() {
        let late = |ns: u64| {
            judged(false, |run| {
                open(run, 200_000);
                run.latency.response.clear();
                (0..200_000).for_each(|_| run.latency.response.record(50_000));
                (0..10_000).for_each(|_| run.generator.lag.record(ns));
            })
        };
        assert_eq!(late(9_900).0, Verdict::Valid);
        assert!(late(10_100).1.contains("over 10% of the median of 50"), "{}", late(10_100).1);
    }

    #[test]
    fn a_run_of_few_requests_may_miss_those_in_flight() {
        let few = |offered| {
            judge(
                &{
                    let mut run = samples::stretched(50, 1.0);
                    open(&mut run, offered);
                    run
                },
                false,
                0,
            )
            .verdict
        };
        assert_eq!((few(55), few(70)), (Verdict::Valid, Verdict::Invalid));
    }

    #[test]
    fn the_gravest_reason_comes_first() {
        let (verdict, line) = judged(false, |run| {
            run.facts.steal_share = Some(0.5);
            run.measured.errors = 1;
        });
        assert_eq!(verdict, Verdict::Invalid);
        assert!(line.starts_with("INVALID: 1 error ") && line.ends_with("CPU time"), "{line}");
    }
}
