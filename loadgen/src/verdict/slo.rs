//! `--slo 'p99<2ms,err<0.1%'`: what was promised, and whether a run kept it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::record::{BEYOND_MIN, Hist, Percentile, Run};
use crate::report::units;

/// A promise: every term must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Slo {
    terms: Vec<Term>,
}

/// One bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    measure: Measure,
    relation: Relation,
    /// Nanoseconds, a share, or requests a second, by the measure.
    bound: f64,
}

/// What is bounded.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Measure {
    /// A percentile of the response times, in ns.
    Percentile(Percentile),
    /// Their maximum.
    Max,
    /// Their mean.
    Mean,
    /// Errors among all that ended.
    ErrorShare,
    /// Right answers a second.
    Rate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Below,
    AtMost,
    Above,
    AtLeast,
}

/// Longest first, so that `<=` is not read as `<`.
const RELATIONS: &[(&str, Relation)] =
    &[("<=", Relation::AtMost), (">=", Relation::AtLeast), ("<", Relation::Below), (">", Relation::Above)];

/// Whether a bound holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It holds.
    Held,
    /// There are too few samples to say.
    CannotSay,
    /// It does not.
    Breached,
}

/// What became of a promise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SloResult {
    /// The worst of the terms.
    pub outcome: Outcome,
    /// Each term.
    pub terms: Vec<TermResult>,
}

/// What became of one bound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TermResult {
    /// As it was written.
    pub term: String,
    /// Whether it holds.
    pub outcome: Outcome,
    /// What was measured, in words; or why nothing can be said.
    pub measured: String,
}

impl Slo {
    /// Whether a run kept it.
    #[must_use]
    pub fn evaluate(&self, run: &Run) -> SloResult {
        let terms: Vec<TermResult> = self.terms.iter().map(|term| term.evaluate(run)).collect();
        let outcome = terms.iter().map(|term| term.outcome).max().unwrap_or(Outcome::Held);
        SloResult { outcome, terms }
    }
}

impl SloResult {
    /// `SLO held`, `SLO undecided` or `SLO BREACHED`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self.outcome {
            Outcome::Held => "SLO held",
            Outcome::CannotSay => "SLO undecided",
            Outcome::Breached => "SLO BREACHED",
        }
    }

    /// `p99<2ms (1.20 ms), err<0.1% (0 of 200,000)`.
    #[must_use]
    pub fn details(&self) -> String {
        let term = |term: &TermResult| {
            let mark = if term.outcome == Outcome::Breached && self.terms.len() > 1 { "breached, " } else { "" };
            format!("{} ({mark}{})", term.term, term.measured)
        };
        self.terms.iter().map(term).collect::<Vec<_>>().join(", ")
    }
}

impl Term {
    fn evaluate(&self, run: &Run) -> TermResult {
        let hist = &run.latency.response;
        let ended = run.measured.responses + run.measured.errors;
        let (outcome, measured) = match self.measure {
            Measure::Percentile(percentile) => self.percentile(hist, percentile),
            Measure::Max | Measure::Mean if hist.is_empty() => (Outcome::CannotSay, String::from("no answers")),
            Measure::Max => (self.holds(hist.max() as f64), units::duration(hist.max())),
            Measure::Mean => (self.holds(hist.mean()), units::duration_f64(hist.mean())),
            Measure::ErrorShare if ended == 0 => (Outcome::CannotSay, String::from("no requests")),
            Measure::ErrorShare => self.error_share(run),
            Measure::Rate => (self.holds(run.requests_per_second()), units::rate(run.requests_per_second())),
        };
        TermResult { term: self.to_string(), outcome, measured }
    }

    /// A percentile that must not be printed may still be known to be too high: when a hundred samples are, and more than
    /// the percentile allows.
    fn percentile(&self, hist: &Hist, percentile: Percentile) -> (Outcome, String) {
        if let Some(value) = hist.at(percentile) {
            return (self.holds(value as f64), units::duration(value));
        }
        let samples = hist.count();
        let above = hist.count_above(self.bound as u64);
        let upper = matches!(self.relation, Relation::Below | Relation::AtMost);
        if upper && above >= BEYOND_MIN && above > percentile.beyond(samples) {
            let share = units::share(above as f64 / samples as f64);
            return (Outcome::Breached, format!("{share} of {} answers took longer", units::count(samples)));
        }
        let needed = units::count(percentile.samples_min());
        (Outcome::CannotSay, format!("{} answers, {needed} needed", units::count(samples)))
    }

    /// No error in few requests does not show that errors are rarer than the bound: it takes three times as many
    /// requests as the bound has one error in (the rule of three, for 95 %).
    fn error_share(&self, run: &Run) -> (Outcome, String) {
        let share = run.measured.error_share();
        let ended = run.measured.responses + run.measured.errors;
        let outcome = self.holds(share);
        let shows = share > 0.0 || self.bound == 0.0 || ended as f64 * self.bound >= 3.0;
        if outcome == Outcome::Held && !shows {
            return (Outcome::CannotSay, format!("no error, but only {} requests", units::count(ended)));
        }
        (outcome, format!("{} of {}", units::count(run.measured.errors), units::count(ended)))
    }

    fn holds(&self, measured: f64) -> Outcome {
        let holds = match self.relation {
            Relation::Below => measured < self.bound,
            Relation::AtMost => measured <= self.bound,
            Relation::Above => measured > self.bound,
            Relation::AtLeast => measured >= self.bound,
        };
        if holds { Outcome::Held } else { Outcome::Breached }
    }
}

impl FromStr for Slo {
    type Err = String;

    fn from_str(text: &str) -> Result<Slo, String> {
        let terms: Result<Vec<Term>, String> = text.split(',').map(|term| term.trim().parse()).collect();
        Ok(Slo { terms: terms? })
    }
}

impl FromStr for Term {
    type Err = String;

    fn from_str(text: &str) -> Result<Term, String> {
        let found = RELATIONS.iter().find_map(|&(sign, relation)| {
            let (name, bound) = text.split_once(sign)?;
            Some((name.trim(), relation, bound.trim()))
        });
        let Some((name, relation, bound)) = found else {
            return Err(format!(
                "`{text}` is no bound; write it as in p99<2ms, max<1s, mean<1ms, err<0.1% or rate>50k"
            ));
        };
        let measure = Measure::parse(name)?;
        let bound = measure.parse_bound(bound).map_err(|why| format!("in `{text}`: {why}"))?;
        let fits = (measure == Measure::Rate) == matches!(relation, Relation::Above | Relation::AtLeast);
        // `err<0` can never hold; it is surely meant as no errors at all.
        match (fits, measure, relation) {
            (false, Measure::Rate, _) => Err(format!("in `{text}`: a rate has a lower bound; write rate>50k")),
            (false, ..) => Err(format!("in `{text}`: only a rate has a lower bound; write {name}<...")),
            (true, _, Relation::Below) if bound == 0.0 => {
                Err(format!("in `{text}`: nothing is below 0; write {name}<=0"))
            }
            (true, ..) => Ok(Term { measure, relation, bound }),
        }
    }
}

impl Measure {
    fn parse(name: &str) -> Result<Measure, String> {
        match name {
            "max" => Ok(Measure::Max),
            "mean" => Ok(Measure::Mean),
            "err" | "errors" => Ok(Measure::ErrorShare),
            "rate" => Ok(Measure::Rate),
            _ if name.starts_with('p') => name.parse().map(Measure::Percentile),
            _ => Err(format!(
                "`{name}` is nothing that can be bounded; there are p50 to p99.999, max, mean, err and rate"
            )),
        }
    }

    fn parse_bound(self, text: &str) -> Result<f64, String> {
        match self {
            Measure::Percentile(_) | Measure::Max | Measure::Mean => units::parse_duration(text),
            Measure::ErrorShare => units::parse_share(text),
            Measure::Rate => units::parse_count(text),
        }
    }
}

/// As it can be read back.
impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms: Vec<String> = self.terms.iter().map(Term::to_string).collect();
        f.write_str(&terms.join(","))
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = RELATIONS.iter().find(|row| row.1 == self.relation).map_or("", |row| row.0);
        match self.measure {
            Measure::Percentile(percentile) => write!(f, "p{percentile}{sign}{}", units::exact_duration(self.bound)),
            Measure::Max => write!(f, "max{sign}{}", units::exact_duration(self.bound)),
            Measure::Mean => write!(f, "mean{sign}{}", units::exact_duration(self.bound)),
            Measure::ErrorShare => write!(f, "err{sign}{}%", self.bound * 100.0),
            Measure::Rate => write!(f, "rate{sign}{}", self.bound),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::report::samples;

    fn outcome(slo: &str, run: &Run) -> (Outcome, String) {
        let result = slo.parse::<Slo>().expect(slo).evaluate(run);
        (result.outcome, result.details())
    }

    #[test]
    fn each_measure_holds_or_not() {
        let run = samples::stretched(100_000, 1.0);
        for (slo, expected) in [
            ("p99<2ms", Outcome::Held),
            ("p99<100us", Outcome::Breached),
            ("p99.9<10ms", Outcome::Held),
            ("p99.99<10ms", Outcome::CannotSay),
            ("p50<=1ms, max<1s", Outcome::Held),
            ("mean<1ns", Outcome::Breached),
            ("err<0.1%", Outcome::Held),
            ("err<=0", Outcome::Held),
            ("err<0.000001%", Outcome::CannotSay),
            ("rate>10k", Outcome::Held),
            ("rate>=1m", Outcome::Breached),
            ("p99.99<10ms,rate>1m", Outcome::Breached),
        ] {
            let (found, why) = outcome(slo, &run);
            assert_eq!(found, expected, "{slo}: {why}");
        }
    }

    #[test]
    fn a_percentile_of_too_few_answers_is_undecided_unless_too_many_are_above() {
        let run = samples::stretched(5_000, 1.0);
        assert_eq!(
            outcome("p99<100us", &run),
            (Outcome::Breached, String::from("p99<100us (100% of 5,000 answers took longer)"))
        );
        assert_eq!(
            outcome("p99<2ms", &run),
            (Outcome::CannotSay, String::from("p99<2ms (5,000 answers, 10,000 needed)"))
        );
        let nothing = samples::stretched(0, 1.0);
        for slo in ["p99<1s", "max<1s", "mean<1s", "err<1%"] {
            assert_eq!(outcome(slo, &nothing).0, Outcome::CannotSay, "{slo}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_an_error_that_says_what_can() {
        for (text, hint) in [
            ("", "is no bound"),
            ("p99", "is no bound"),
            ("p99<2ms,", "is no bound"),
            ("p100<2ms", "between 0 and 100"),
            ("latency<2ms", "nothing that can be bounded"),
            ("p99<2", "has no unit"),
            ("p99>2ms", "only a rate has a lower bound"),
            ("rate<50k", "a rate has a lower bound"),
            ("err<0", "write err<=0"),
            ("err<200%", "more than all"),
        ] {
            let error = text.parse::<Slo>().expect_err(text);
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            percentile in 1..9_999_999_u32, ns in 1..100_000_000_000_u64, parts in 1..1_000_000_u32, rate in 1..10_000_000_u32,
        ) {
            let percentile = format!("{}.{:05}", percentile / 100_000, percentile % 100_000);
            let text = format!("p{percentile}<{ns}ns,max<={ns}ns,err<{}%,rate>{rate}", f64::from(parts) / 1e4);
            let slo: Slo = text.parse().expect("valid");
            prop_assert_eq!(slo.to_string().parse::<Slo>().expect("its own text").to_string(), slo.to_string());
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[a-z0-9.<>=,% \u{b5}]{0,24}") {
            let _ = text.parse::<Slo>();
        }

        #[test]
        fn a_looser_bound_holds_where_a_tighter_one_did(ns in 1..5_000_000_u64, more in 0..5_000_000_u64) {
            let run = samples::stretched(20_000, 1.0);
            let holds = |ns: u64| outcome(&format!("p99<{ns}ns"), &run).0 == Outcome::Held;
            prop_assert!(!holds(ns) || holds(ns + more));
        }
    }
}
