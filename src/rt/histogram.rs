//! How long things took: counts in fixed buckets, eight to each doubling. To count is one addition; what is in between is
//! known to an eighth, which is what a percentile needs that is looked at and not published.

use std::cell::Cell;

/// Buckets: eight below a microsecond, eight for each of [`DOUBLINGS`], and one for all that took longer.
pub const BUCKETS: usize = STEPS + DOUBLINGS * STEPS + 1;
/// From 1 us to 2^26 us (67 s).
pub const DOUBLINGS: usize = 26;
/// Buckets to a doubling.
pub const STEPS: usize = 8;
/// The width of the smallest buckets: an eighth of a microsecond.
const UNIT_NS: u64 = 125;

/// Counts that only their thread touches.
pub struct Histogram {
    counts: Box<[Cell<u64>; BUCKETS]>,
    sum_ns: Cell<u64>,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: Box::new([const { Cell::new(0) }; BUCKETS]), sum_ns: Cell::new(0) }
    }
}

impl Histogram {
    /// Counts `times` things that took so long each.
    pub fn record(&self, ns: u64, times: u64) {
        let count = &self.counts[bucket(ns)];
        count.set(count.get() + times);
        self.sum_ns.set(self.sum_ns.get().wrapping_add(ns.saturating_mul(times)));
    }

    /// What has been counted so far.
    pub fn snapshot(&self) -> Times {
        Times { counts: self.counts.iter().map(Cell::get).collect(), sum_ns: self.sum_ns.get() }
    }
}

/// A snapshot of a [`Histogram`], or a sum of several, or what came between two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Times {
    /// Always [`BUCKETS`] of them.
    counts: Vec<u64>,
    sum_ns: u64,
}

impl Default for Times {
    fn default() -> Times {
        Times { counts: vec![0; BUCKETS], sum_ns: 0 }
    }
}

impl Times {
    /// From what [`sparse`](Times::sparse) said elsewhere. `None`: there is no such bucket.
    pub fn from_sparse(counts: impl IntoIterator<Item = (usize, u64)>, sum_ns: u64) -> Option<Times> {
        let mut times = Times { sum_ns, ..Times::default() };
        for (index, count) in counts {
            *times.counts.get_mut(index)? = count;
        }
        Some(times)
    }

    /// The buckets that are not empty, with their counts.
    pub fn sparse(&self) -> impl Iterator<Item = (usize, u64)> {
        self.counts.iter().copied().enumerate().filter(|(_, count)| *count > 0)
    }

    /// How many things there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How long they took together, in nanoseconds.
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns
    }

    /// Adds what another one has counted.
    pub fn add(&mut self, other: &Times) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
    }

    /// What has come since `earlier`, which is an older snapshot of the same.
    pub fn since(&self, earlier: &Times) -> Times {
        let counts = self.counts.iter().zip(&earlier.counts).map(|(now, then)| now.saturating_sub(*then)).collect();
        Times { counts, sum_ns: self.sum_ns.wrapping_sub(earlier.sum_ns) }
    }

    /// For each doubling from 1 us on: its upper bound in nanoseconds, and how many took no longer than that.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut below = 0;
        self.counts[..BUCKETS - 1].chunks(STEPS).enumerate().map(move |(doubling, counts)| {
            below += counts.iter().sum::<u64>();
            (1000 << doubling, below)
        })
    }

    /// The time within which so large a part of all took place, in nanoseconds: the upper bound of its bucket, and of the longest
    /// ones the lower. `None` where nothing was counted.
    pub fn quantile_ns(&self, part: f64) -> Option<u64> {
        let all = self.count();
        let rank = ((all as f64 * part).ceil() as u64).clamp(1, all.max(1));
        let mut below = 0;
        let index = self.counts.iter().position(|count| {
            below += count;
            below >= rank
        });
        index.filter(|_| all > 0).map(upper_ns)
    }
}

/// The bucket that a time falls into: above the bound of the one before, and no more than its own.
fn bucket(ns: u64) -> usize {
    let units = ns.saturating_sub(1) / UNIT_NS;
    if units < STEPS as u64 {
        return units as usize;
    }
    let doubling = units.ilog2() - STEPS.ilog2();
    let step = (units >> doubling) as usize & (STEPS - 1);
    (STEPS + doubling as usize * STEPS + step).min(BUCKETS - 1)
}

/// The longest time that falls into a bucket; of the last, which has no bound, that of the one before.
fn upper_ns(index: usize) -> u64 {
    let index = index.min(BUCKETS - 2);
    let (doubling, step) = (index.saturating_sub(STEPS) / STEPS, index % STEPS);
    let units = if index < STEPS { step } else { STEPS + step } + 1;
    (units as u64 * UNIT_NS) << doubling
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_a_bucket_that_is_no_wider_than_an_eighth() {
        let mut index = 0;
        for ns in (0..2_000_000).chain((0..5_000).map(|step| step * 20_000_000)) {
            let now = bucket(ns);
            assert!(now >= index || ns < 2_000_000, "{ns}");
            index = now;
            if now < BUCKETS - 1 {
                let (upper, lower) = (upper_ns(now), if now == 0 { 0 } else { upper_ns(now - 1) });
                assert!(ns <= upper && (ns > lower || ns == 0), "{ns} is not in ({lower}, {upper}]");
                assert!(upper - lower <= (lower / 8).max(UNIT_NS), "({lower}, {upper}]");
            }
        }
        assert_eq!((bucket(0), bucket(125), bucket(126)), (0, 0, 1));
        assert_eq!((bucket(67_108_864_000), bucket(67_108_864_001)), (BUCKETS - 2, BUCKETS - 1));
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn the_bounds_that_are_shown_are_doublings_of_a_microsecond() {
        let histogram = Histogram::default();
        for ns in [0, 1_000, 1_001, 2_000, 2_001, 67_108_864_000, 67_108_864_001] {
            histogram.record(ns, 2);
        }
        let times = histogram.snapshot();
        let shown: Vec<_> = times.cumulative().collect();
        assert_eq!(shown.len(), DOUBLINGS + 1);
        assert_eq!(&shown[..3], [(1_000, 4), (2_000, 8), (4_000, 10)]);
        assert_eq!((shown[DOUBLINGS], times.count()), ((67_108_864_000, 12), 14));
    }

    #[test]
    fn quantiles_of_what_came_between_two_snapshots() {
        let histogram = Histogram::default();
        histogram.record(5_000_000_000, 1000);
        let before = histogram.snapshot();
        (1..=1000).for_each(|us| histogram.record(us * 1000, 1));
        let between = histogram.snapshot().since(&before);
        assert_eq!((between.count(), between.sum_ns()), (1000, 500_500_000));
        for (part, exact_us) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (0.999, 999.0), (1.0, 1000.0), (0.0, 1.0)] {
            let got = between.quantile_ns(part).unwrap() as f64 / 1000.0;
            assert!(got >= exact_us && got <= exact_us * 1.125, "{part}: {got} us");
        }
        assert_eq!(Times::default().quantile_ns(0.5), None);
        let copy = Times::from_sparse(between.sparse(), between.sum_ns());
        assert_eq!(copy, Some(between));
        assert_eq!(Times::from_sparse([(BUCKETS, 1)], 0), None);
    }
}
