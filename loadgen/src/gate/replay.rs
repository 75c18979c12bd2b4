//! How often the gate is wrong, without measuring: recorded A/A pairs are drawn again and again, with a random side each, and with an injected shift
//! or none. Pure, and the same from the same seed.

use super::metric::{self, Difference};
use super::trial::{Pair, Trial};
use super::verdict::{Batch, Margins, Outcome, Rules, Step, next};
use crate::record::Hist;
use crate::rng::Rng;

/// What is done to the head of each pair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shift {
    /// Nothing: every alarm is a false one.
    None,
    /// Every response takes so many times as long.
    Stretch(f64),
    /// That share of the responses takes so much longer.
    Delay {
        /// How much, in nanoseconds.
        ns: u64,
        /// How many of them, 0 to 1.
        share: f64,
    },
    /// A request takes so many times the CPU time.
    Cpu(f64),
}

/// How often each outcome came.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Nothing was said.
    pub pass: f64,
    /// A warning.
    pub unconfirmed: f64,
    /// An alarm.
    pub regression: f64,
    /// Pairs that a verdict took, on average.
    pub pairs: f64,
}

/// A trial as it would have been.
#[must_use]
pub fn injected(trial: &Trial, shift: Shift) -> Trial {
    let cells = |change: &mut dyn FnMut(u64, u64, &mut Hist)| {
        let mut hist = Hist::durations();
        for cell in trial.response.cells().iter_recorded() {
            let value = trial.response.cells().median_equivalent(cell.value_iterated_to());
            change(value, cell.count_at_value(), &mut hist);
        }
        hist
    };
    let (response, cpu) = match shift {
        Shift::None => (trial.response.clone(), 1.0),
        Shift::Cpu(factor) => (trial.response.clone(), factor),
        Shift::Stretch(factor) => {
            (cells(&mut |value, count, out| out.record_n((value as f64 * factor).round() as u64, count)), 1.0)
        }
        Shift::Delay { ns, share } => {
            // The share is kept over all cells, and not rounded away in the small ones.
            let mut owed = 0.0;
            let change = &mut |value: u64, count: u64, out: &mut Hist| {
                owed += count as f64 * share;
                let late = (owed as u64).min(count);
                owed -= late as f64;
                // Of nothing, a cell would still be the largest.
                for (value, count) in [(value + ns, late), (value, count - late)].into_iter().filter(|cell| cell.1 > 0)
                {
                    out.record_n(value, count);
                }
            };
            (cells(change), 1.0)
        }
    };
    Trial { response, cpu_ns_per_request: trial.cpu_ns_per_request * cpu, requests: trial.requests }
}

/// What the pairs differ by with that shift, on either side: the base may as well have been the head.
#[must_use]
pub fn differences(pairs: &[Pair], shift: Shift) -> Vec<[Difference; 2]> {
    let of = |base: &Trial, head: &Trial| metric::difference(&base.logs(), &injected(head, shift).logs());
    pairs.iter().map(|Pair { base, head, .. }| [of(base, head), of(head, base)]).collect()
}

/// Plays so many verdicts from pairs that are drawn with replacement.
///
/// # Panics
/// Without pairs.
#[must_use]
pub fn rates(differences: &[[Difference; 2]], margins: &Margins, rules: &Rules, rounds: u32, seed: u64) -> Rates {
    assert!(!differences.is_empty(), "nothing to draw from");
    let mut rng = Rng::new(seed, 0);
    let (mut outcomes, mut pairs) = ([0_u32; 3], 0_usize);
    for _ in 0..rounds {
        let (mut first, mut second) = (Vec::with_capacity(rules.pairs), Vec::new());
        let verdict = loop {
            // Nothing is decided from fewer.
            while first.len() < rules.early || (first.len() == rules.pairs && (1..rules.early).contains(&second.len()))
            {
                let drawn = differences[rng.below(differences.len() as u64) as usize][rng.below(2) as usize];
                if first.len() < rules.early { first.push(drawn) } else { second.push(drawn) }
            }
            let batch = match next(&first, &second, margins, rules) {
                Step::Over(verdict) => break verdict,
                Step::Measure(Batch::First) => &mut first,
                Step::Measure(Batch::Second) => &mut second,
            };
            batch.push(differences[rng.below(differences.len() as u64) as usize][rng.below(2) as usize]);
        };
        pairs += first.len() + second.len();
        outcomes[match verdict.outcome {
            Outcome::Pass => 0,
            Outcome::Unconfirmed => 1,
            Outcome::Regression => 2,
        }] += 1;
    }
    let of = |count: u32| f64::from(count) / f64::from(rounds.max(1));
    let [pass, unconfirmed, regression] = outcomes.map(of);
    Rates { pass, unconfirmed, regression, pairs: pairs as f64 / f64::from(rounds.max(1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial() -> Trial {
        let mut response = Hist::durations();
        (0..100_000_u64).for_each(|n| response.record(20_000 + n % 1_000));
        Trial { response, cpu_ns_per_request: 6_000.0, requests: 100_000 }
    }

    #[test]
    fn what_is_injected_is_there() {
        let of = |shift| metric::difference(&trial().logs(), &injected(&trial(), shift).logs());
        assert_eq!(of(Shift::None), Difference::default());
        assert!((of(Shift::Stretch(1.1)).latency - 1.1_f64.ln()).abs() < 1e-3);
        assert!((of(Shift::Cpu(1.3)).cpu - 1.3_f64.ln()).abs() < 1e-9);
        let delayed = injected(&trial(), Shift::Delay { ns: 200_000, share: 0.02 });
        assert_eq!(delayed.response.count(), 100_000);
        let late = delayed.response.count_above(200_000);
        assert!((1_999..=2_001).contains(&late), "{late}");
        assert!(of(Shift::Delay { ns: 200_000, share: 0.02 }).p99 > 2.0);
    }
}
