//! What is compared: each trial comes down to three numbers, and a pair of trials to their differences. All in logarithms,
//! so a difference is a ratio, and means the same at 50 us as at 5 ms.

use serde::{Deserialize, Serialize};

use crate::record::Hist;

/// The trimmed mean leaves out so much at each end.
const TRIM: f64 = 0.05;
/// The tail that is guarded.
pub(super) const TAIL: f64 = 0.99;

/// What may get worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// The response time as a whole: how far the quantiles from p5 to p95 have moved, on average.
    Latency,
    /// The 99th percentile of the response time.
    P99,
    /// The server's CPU time for each request.
    Cpu,
}

impl Metric {
    /// All of them.
    pub const ALL: [Metric; 3] = [Metric::Latency, Metric::P99, Metric::Cpu];

    /// As it is written in files and in the trailer of a commit.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Metric::Latency => "latency",
            Metric::P99 => "p99",
            Metric::Cpu => "cpu",
        }
    }

    /// As it is said in a sentence.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Metric::Latency => "the response time from p5 to p95",
            Metric::P99 => "the 99th percentile of the response time",
            Metric::Cpu => "the server's CPU time per request",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Metric> {
        Metric::ALL.into_iter().find(|metric| metric.name() == name)
    }
}

/// A number for each metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Each<T> {
    /// Of [`Metric::Latency`].
    pub latency: T,
    /// Of [`Metric::P99`].
    pub p99: T,
    /// Of [`Metric::Cpu`].
    pub cpu: T,
}

impl<T: Copy> Each<T> {
    /// The same for each.
    #[must_use]
    pub fn all(value: T) -> Each<T> {
        Each { latency: value, p99: value, cpu: value }
    }

    /// That metric's.
    #[must_use]
    pub fn of(&self, metric: Metric) -> T {
        match metric {
            Metric::Latency => self.latency,
            Metric::P99 => self.p99,
            Metric::Cpu => self.cpu,
        }
    }

    /// One made of each, told which it is.
    pub fn map<U>(&self, mut make: impl FnMut(Metric, T) -> U) -> Each<U> {
        Each {
            latency: make(Metric::Latency, self.latency),
            p99: make(Metric::P99, self.p99),
            cpu: make(Metric::Cpu, self.cpu),
        }
    }
}

/// What a trial comes down to: natural logarithms of nanoseconds.
pub type Logs = Each<f64>;

/// By how much the head is above the base, as natural logarithms of ratios: 0.05 is 5 % slower.
pub type Difference = Each<f64>;

/// The three numbers of a trial.
#[must_use]
pub fn logs(response: &Hist, cpu_ns_per_request: f64) -> Logs {
    Logs {
        latency: trimmed_mean_log(response),
        p99: (response.at_quantile(TAIL).max(1) as f64).ln(),
        cpu: cpu_ns_per_request.max(1.0).ln(),
    }
}

/// What a pair comes down to.
#[must_use]
pub fn difference(base: &Logs, head: &Logs) -> Difference {
    head.map(|metric, log| log - base.of(metric))
}

/// The mean of ln Q(u) over u from 5 to 95 %. The difference of two is the mean shift between the two quantile functions.
fn trimmed_mean_log(hist: &Hist) -> f64 {
    let count = hist.count() as f64;
    let (from, to) = (count * TRIM, count * (1.0 - TRIM));
    let (mut seen, mut sum) = (0.0_f64, 0.0);
    for cell in hist.cells().iter_recorded() {
        let before = seen;
        seen += cell.count_at_value() as f64;
        let inside = (seen.min(to) - before.max(from)).max(0.0);
        sum += inside * (hist.cells().median_equivalent(cell.value_iterated_to()).max(1) as f64).ln();
    }
    if to > from { sum / (to - from) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Hist {
        let mut hist = Hist::durations();
        values.into_iter().for_each(|value| hist.record(value));
        hist
    }

    #[test]
    fn a_shift_of_all_is_that_shift() {
        let (base, head) = (of((1..=10_000).map(|n| 100_000 + n * 10)), of((1..=10_000).map(|n| 110_000 + n * 11)));
        let moved = difference(&logs(&base, 5_000.0), &logs(&head, 6_000.0));
        assert!((moved.latency - 1.1_f64.ln()).abs() < 1e-3, "{moved:?}");
        assert!((moved.p99 - 1.1_f64.ln()).abs() < 2e-3, "{moved:?}");
        assert!((moved.cpu - 1.2_f64.ln()).abs() < 1e-12, "{moved:?}");
    }

    #[test]
    fn the_ends_are_left_out_of_the_mean_and_only_of_it() {
        let base = of((0..1_000).map(|_| 100_000));
        // 4 % at each end are wild.
        let head = of((0..1_000).map(|n| match n {
            0..40 => 1_000,
            40..960 => 100_000,
            _ => 50_000_000,
        }));
        let moved = difference(&logs(&base, 1.0), &logs(&head, 1.0));
        assert!(moved.latency.abs() < 1e-9, "{moved:?}");
        assert!((moved.p99 - 500.0_f64.ln()).abs() < 1e-2, "{moved:?}");
    }

    /// By hand: half at 1 ms, half at 4 ms is 2 ms in the geometric mean.
    #[test]
    fn the_mean_is_a_geometric_one() {
        let hist = of((0..1_000).map(|n| if n % 2 == 0 { 1_000_000 } else { 4_000_000 }));
        assert!((trimmed_mean_log(&hist) - 2e6_f64.ln()).abs() < 1e-3);
        assert_eq!(trimmed_mean_log(&Hist::durations()), 0.0);
    }

    #[test]
    fn names_are_read_back() {
        for metric in Metric::ALL {
            assert_eq!(Metric::named(metric.name()), Some(metric));
        }
        assert_eq!(Metric::named("p50"), None);
    }
}
