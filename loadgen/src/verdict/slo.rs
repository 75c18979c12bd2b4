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
    /// `SLO held: p99<2ms (1.20 ms)`.
    #[must_use]
    pub fn line(&self) -> String {
        let word = match self.outcome {
            Outcome::Held => "held",
            Outcome::CannotSay => "undecided",
            Outcome::Breached => "BREACHED",
        };
        let term = |term: &TermResult| {
            let mark = if term.outcome == Outcome::Breached && self.terms.len() > 1 { "breached, " } else { "" };
            format!("{} ({mark}{})", term.term, term.measured)
        };
        format!("SLO {word}: {}", self.terms.iter().map(term).collect::<Vec<_>>().join(", "))
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
