//! Medians, and how far to trust them. Pure.
//!
//! The interval of a median is a pair of order statistics: with n rounds the true median lies between the k-th smallest and
//! the k-th largest with a probability that only n and k decide, 1 - 2 P(Bin(n, 1/2) < k), whatever the distribution. With
//! five rounds that is the smallest and the largest, 93.75 %. A bootstrap of five values would pretend to know more.

use serde::Serialize;

/// The interval is the narrowest one that holds the median at least so often, where there is one.
const COVERAGE_MIN: f64 = 0.93;

/// A number that was measured in several rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The median of the rounds.
    pub median: f64,
    /// From where the median may be.
    pub low: f64,
    /// To where.
    pub high: f64,
    /// How often such an interval holds the true median: 0 to 1. It is 0 for one round.
    pub coverage: f64,
    /// How many rounds.
    pub rounds: usize,
}

/// What two servers compare to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The first one's number is larger, and so is every number of the interval.
    More,
    /// It is smaller.
    Less,
    /// These rounds cannot tell them apart.
    Even,
}

/// The median of what there is, with its interval; `None` of nothing.
#[must_use]
pub fn estimate(values: &[f64]) -> Option<Estimate> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let rounds = sorted.len();
    let (middle, other) = (sorted.get(rounds / 2)?, sorted.get(rounds.saturating_sub(1) / 2)?);
    let (rank, coverage) = rank(rounds);
    Some(Estimate {
        median: (middle + other) / 2.0,
        low: sorted[rank - 1],
        high: sorted[rounds - rank],
        coverage,
        rounds,
    })
}

/// The ratio of two, round by round, since rounds are interleaved and what drifts drifts for both.
#[must_use]
pub fn ratio(ones: &[(u32, f64)], others: &[(u32, f64)]) -> Option<Estimate> {
    let of_round = |round: u32| others.iter().find(|other| other.0 == round && other.1 > 0.0).map(|other| other.1);
    let ratios: Vec<f64> = ones.iter().filter_map(|(round, one)| Some(one / of_round(*round)?)).collect();
    estimate(&ratios)
}

impl Estimate {
    /// What a ratio says. With fewer than five rounds an interval holds too seldom to say anything.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Estimate { coverage, .. } if *coverage < COVERAGE_MIN => Verdict::Even,
            Estimate { low, .. } if *low > 1.0 => Verdict::More,
            Estimate { high, .. } if *high < 1.0 => Verdict::Less,
            _ => Verdict::Even,
        }
    }
}

/// The rank k of the interval, from 1, and how often it holds the median.
fn rank(rounds: usize) -> (usize, f64) {
    let coverage = |rank: usize| 1.0 - 2.0 * (0..rank).map(|below| half_binomial(rounds, below)).sum::<f64>();
    let ranks = (1..=rounds.div_ceil(2)).rev().map(|rank| (rank, coverage(rank)));
    ranks.into_iter().find(|(_, coverage)| *coverage >= COVERAGE_MIN).unwrap_or((1, coverage(1).max(0.0)))
}

/// P(Bin(n, 1/2) = k), in logarithms, so that many rounds do not overflow.
fn half_binomial(n: usize, k: usize) -> f64 {
    let log_choose: f64 = (1..=k).map(|i| ((n - k + i) as f64 / i as f64).ln()).sum();
    (log_choose - n as f64 * std::f64::consts::LN_2).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_five_rounds_is_all_of_them() {
        let five = estimate(&[5.0, 1.0, 3.0, 2.0, 4.0]).unwrap();
        assert_eq!((five.median, five.low, five.high, five.rounds), (3.0, 1.0, 5.0, 5));
        assert!((five.coverage - 0.9375).abs() < 1e-12);
    }

    #[test]
    fn more_rounds_leave_the_outermost_out() {
        let values: Vec<f64> = (1..=12).map(f64::from).collect();
        let twelve = estimate(&values).unwrap();
        // 1 - 2 (1 + 12 + 66) / 4096 = 0.9614; one rank more is 0.854.
        assert_eq!((twelve.median, twelve.low, twelve.high), (6.5, 3.0, 10.0));
        assert!((twelve.coverage - (1.0 - 2.0 * 79.0 / 4096.0)).abs() < 1e-12);
    }

    #[test]
    fn few_rounds_say_how_little_they_say() {
        let coverage = |count: usize| estimate(&vec![1.0; count]).map(|one| one.coverage);
        assert_eq!((coverage(0), coverage(1), coverage(2), coverage(3)), (None, Some(0.0), Some(0.5), Some(0.75)));
        assert_eq!(estimate(&[f64::NAN]), None);
    }

    #[test]
    fn the_interval_holds_the_median_as_often_as_it_says() {
        let mut rng = crate::rng::Rng::new(7, 0);
        let rounds = 7;
        let runs = 20_000;
        let mut held = 0;
        let mut promised = 0.0;
        for _ in 0..runs {
            // Exponential: nothing like symmetric. Its median is ln 2.
            let values: Vec<f64> = (0..rounds).map(|_| rng.exponential()).collect();
            let one = estimate(&values).unwrap();
            promised = one.coverage;
            held += u32::from((one.low..=one.high).contains(&std::f64::consts::LN_2));
        }
        assert!((f64::from(held) / f64::from(runs) - promised).abs() < 0.01, "{held} of {runs}, {promised}");
    }

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        let ones = [(0, 2.0), (1, 20.0), (2, 200.0), (3, 4.0), (4, 6.0)];
        let others = [(4, 3.0), (3, 2.0), (2, 100.0), (1, 10.0), (0, 1.0), (9, 5.0)];
        let same = ratio(&ones, &others).unwrap();
        assert_eq!((same.low, same.median, same.high, same.verdict()), (2.0, 2.0, 2.0, Verdict::More));
        assert_eq!(ratio(&others, &ones).unwrap().verdict(), Verdict::Less);
        assert_eq!(ratio(&ones, &ones).unwrap().verdict(), Verdict::Even);
        assert_eq!(ratio(&ones[..3], &others).unwrap().verdict(), Verdict::Even, "three rounds prove nothing");
        assert_eq!(ratio(&ones, &[]), None);
    }
}
