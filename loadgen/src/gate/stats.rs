//! What paired differences say: the Hodges-Lehmann estimate of their centre, its confidence interval, and Wilcoxon's
//! signed-rank test, exact also with ties. Distribution-free: they ask for no more than that the pairs are independent and,
//! where nothing has changed, that a difference is as likely to be positive as negative. A random order inside each
//! pair makes that so.

/// The median of all means of two (each with itself included): a location that neither one wild pair nor a skewed tail moves far.
///
/// # Panics
/// Without differences.
#[must_use]
pub fn hodges_lehmann(differences: &[f64]) -> f64 {
    let mut means = walsh(differences);
    let at = means.len() / 2;
    let (below, upper, _) = means.select_nth_unstable_by(at, f64::total_cmp);
    let upper = *upper;
    // Of an even number, the two in the middle.
    let is_even = means_count(differences.len()).is_multiple_of(2);
    let lower = if is_even { below.iter().copied().fold(f64::NEG_INFINITY, f64::max) } else { upper };
    (lower + upper) / 2.0
}

/// A confidence interval for that centre, of at least that confidence where so few pairs can give it; otherwise the
/// whole range.
///
/// # Panics
/// Without differences.
#[must_use]
pub fn interval(differences: &[f64], confidence: f64) -> (f64, f64) {
    let mut means = walsh(differences);
    means.sort_by(f64::total_cmp);
    let ways = ways(1..=differences.len());
    let all: f64 = ways.iter().sum();
    // The positive rank sum is how many means are above the centre: the sums that are rare enough, and what they leave out.
    let tail = (1.0 - confidence) / 2.0 * all;
    let mut sum = 0.0;
    let rare = ways.iter().take_while(|count| {
        sum += **count;
        sum <= tail
    });
    let out = rare.count().saturating_sub(1).min((means.len() - 1) / 2);
    (means[out], means[means.len() - 1 - out])
}

/// What the signed-rank test says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SignedRank {
    /// Differences that are not zero; the others say nothing.
    pub informative: usize,
    /// The sum of the ranks of the positive ones.
    pub positive: f64,
    /// How often chance alone makes that sum so large or larger.
    pub p_greater: f64,
    /// How often so small or smaller.
    pub p_less: f64,
}

/// Wilcoxon's signed-rank test against a centre of zero. Equal sizes share the mean of their ranks, and the distribution is
/// that of these very ranks over all signs, so p is exact.
#[must_use]
pub fn signed_rank(differences: &[f64]) -> SignedRank {
    let mut sorted: Vec<f64> = differences.iter().copied().filter(|difference| *difference != 0.0).collect();
    sorted.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    // Twice the ranks, which so are whole numbers with ties, too.
    let mut ranks = Vec::with_capacity(sorted.len());
    for same in sorted.chunk_by(|a, b| a.abs() == b.abs()) {
        let first = ranks.len() + 1;
        ranks.extend(same.iter().map(|_| 2 * first + same.len() - 1));
    }
    let positive: usize = ranks.iter().zip(&sorted).filter(|(_, value)| **value > 0.0).map(|(rank, _)| rank).sum();
    let ways = ways(ranks.iter().copied());
    let all: f64 = ways.iter().sum();
    SignedRank {
        informative: sorted.len(),
        positive: positive as f64 / 2.0,
        p_greater: ways[positive..].iter().sum::<f64>() / all,
        p_less: ways[..=positive].iter().sum::<f64>() / all,
    }
}

/// In how many ways a subset of the ranks makes each sum. Exact up to 2^53 subsets, and to 16 digits beyond.
fn ways(ranks: impl Iterator<Item = usize>) -> Vec<f64> {
    let mut ways = vec![1.0];
    for rank in ranks {
        let mut more = ways.clone();
        more.resize(ways.len() + rank, 0.0);
        for (sum, count) in ways.iter().enumerate() {
            more[sum + rank] += count;
        }
        ways = more;
    }
    ways
}

/// How many means of two so many differences have.
fn means_count(differences: usize) -> usize {
    differences * (differences + 1) / 2
}

/// The means of every two.
fn walsh(differences: &[f64]) -> Vec<f64> {
    assert!(!differences.is_empty(), "no differences have no centre");
    let means = differences.iter().enumerate().flat_map(|(at, a)| differences[at..].iter().map(move |b| (a + b) / 2.0));
    let mut all = Vec::with_capacity(means_count(differences.len()));
    all.extend(means);
    all
}

/// How far values lie apart: the median distance from the median, on the scale of a normal distribution's standard deviation. One
/// disturbed pair among twenty, which the estimate above does not follow, does not move it either. 0 without values.
#[must_use]
pub fn spread(values: &[f64]) -> f64 {
    let Some(centre) = median(values) else { return 0.0 };
    let distances: Vec<f64> = values.iter().map(|value| (value - centre).abs()).collect();
    median(&distances).unwrap_or(0.0) * 1.4826
}

/// The middle one, or the mean of the two.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2)?;
    Some((sorted[(sorted.len() - 1) / 2] + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    /// Hollander and Wolfe, "Nonparametric Statistical Methods", table 3.1: patients' depression before and after.
    const DEPRESSION: [f64; 9] = [0.952, -0.147, 1.022, 0.430, 0.620, 0.590, 0.490, -0.080, 0.010];

    #[test]
    fn the_textbooks_example_comes_out_as_in_the_textbook() {
        let test = signed_rank(&DEPRESSION);
        assert_eq!((test.informative, test.positive), (9, 40.0));
        // The ten subsets with a sum of at most 5: {} 1 2 3 4 5 12 13 14 23.
        assert!(close(test.p_greater, 10.0 / 512.0), "{test:?}");
        assert!(close(hodges_lehmann(&DEPRESSION), 0.46), "{}", hodges_lehmann(&DEPRESSION));
    }

    /// By hand: of 1, 1, 2 the ranks are 1.5, 1.5, 3, and each of the eight signs is as likely.
    #[test]
    fn ties_share_their_rank_and_the_p_stays_exact() {
        for (differences, positive, greater, less) in [
            (&[1.0, 1.0, 2.0][..], 6.0, 1.0, 8.0),
            (&[1.0, -1.0, 2.0], 4.5, 3.0, 7.0),
            (&[-1.0, -1.0, 2.0], 3.0, 5.0, 5.0),
            (&[-1.0, -1.0, -2.0], 0.0, 8.0, 1.0),
        ] {
            let test = signed_rank(differences);
            assert_eq!(test.positive, positive, "{differences:?}");
            assert!(close(test.p_greater, greater / 8.0) && close(test.p_less, less / 8.0), "{differences:?} {test:?}");
        }
    }

    #[test]
    fn zeros_say_nothing() {
        assert_eq!(signed_rank(&[0.0, 1.0, 0.0, 2.0]), SignedRank { informative: 2, ..signed_rank(&[1.0, 2.0]) });
        let nothing = signed_rank(&[0.0, 0.0]);
        assert_eq!((nothing.informative, nothing.p_greater, nothing.p_less), (0, 1.0, 1.0));
    }

    /// The critical sums that every table of the test has, one-sided.
    #[test]
    fn critical_sums_are_those_of_the_tables() {
        // Ranks 1 to n with these negative: their sum is w, and the next larger one is not significant any more.
        let p = |n: usize, w: usize| {
            let mut left = w;
            let mut differences: Vec<f64> = (1..=n).map(|rank| rank as f64).collect();
            for at in (0..n).rev().filter(|at| *at < n) {
                if at < left {
                    differences[at] = -differences[at];
                    left -= at + 1;
                }
            }
            assert_eq!(left, 0, "{n} {w}");
            signed_rank(&differences).p_greater
        };
        for (n, alpha, critical) in
            [(12, 0.005, 7), (12, 0.001, 2), (16, 0.005, 19), (16, 0.001, 11), (20, 0.005, 37), (20, 0.001, 26)]
        {
            assert!(p(n, critical) <= alpha && p(n, critical + 1) > alpha, "{n} {alpha} {critical}");
        }
        // Eight pairs cannot say more than this, however they come out.
        assert!(close(p(8, 0), 1.0 / 256.0));
    }

    #[test]
    fn the_centre_of_few_is_computed_by_hand() {
        assert!(close(hodges_lehmann(&[3.0]), 3.0));
        // Means: 1, 1.5, 2, 3, 3.5, 5: the middle of 2 and 3.
        assert!(close(hodges_lehmann(&[1.0, 2.0, 5.0]), 2.5));
        // One wild pair in sixteen does not move it out of the others.
        let mut sixteen = [1.0; 16];
        sixteen[3] = 1000.0;
        assert!(close(hodges_lehmann(&sixteen), 1.0));
    }

    #[test]
    fn intervals_are_those_of_the_tables() {
        // Of 5 pairs no interval of 99 % can be had: the whole range. Of 10 at 95 %, the table leaves out 8 means at each end.
        let ten: Vec<f64> = (0..10).map(|n| f64::from(1 << n)).collect();
        assert_eq!(interval(&ten[..5], 0.99), (1.0, 16.0));
        let mut means = walsh(&ten);
        means.sort_by(f64::total_cmp);
        assert_eq!(interval(&ten, 0.95), (means[8], means[means.len() - 9]));
        assert_eq!(interval(&[7.0], 0.99), (7.0, 7.0));
    }

    /// By hand: the median is 4.5, the distances 0.5 0.5 0.5 0.5 0.5 2.5 2.5 4.5, their median 0.5.
    #[test]
    fn a_spread_does_not_follow_one_wild_value() {
        assert!(close(spread(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]), 0.5 * 1.4826));
        assert_eq!(
            spread(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]),
            spread(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 900.0])
        );
        assert_eq!((spread(&[]), spread(&[5.0]), median(&[])), (0.0, 0.0, None));
    }

    proptest! {
        #[test]
        fn swapped_arms_mirror(differences in proptest::collection::vec(-1.0..1.0_f64, 1..24)) {
            let mirrored: Vec<f64> = differences.iter().map(|value| -value).collect();
            prop_assert_eq!(hodges_lehmann(&mirrored), -hodges_lehmann(&differences));
            let (test, other) = (signed_rank(&differences), signed_rank(&mirrored));
            prop_assert!(close(test.p_greater, other.p_less) && close(test.p_less, other.p_greater));
            let ((low, high), (other_low, other_high)) = (interval(&differences, 0.95), interval(&mirrored, 0.95));
            prop_assert_eq!((other_low, other_high), (-high, -low));
        }

        #[test]
        fn the_centre_is_inside_its_interval(differences in proptest::collection::vec(-1.0..1.0_f64, 1..24)) {
            let (low, high) = interval(&differences, 0.99);
            let centre = hodges_lehmann(&differences);
            prop_assert!(low <= centre && centre <= high);
        }
    }
}
