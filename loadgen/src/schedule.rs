//! When to send: a value that is asked, and answers from the time and the count alone. Pure: it never looks at a clock.
//!
//! An open loop counts in arrivals: the k-th arrival comes when the expected count of arrivals has grown to S(k), where
//! S grows by 1 (constant), by Exp(1) (Poisson) or by U(0, 2) (uniform) with each. Time follows from the rate, which may
//! grow along the run; so every arrival process works with every ramp, and errors of rounding do not add up.

use crate::rng::Rng;

/// How the load is offered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// Each connection sends as soon as it has its answer.
    Closed,
    /// At a rate of its own, whatever the answers do.
    Open(Rate, Arrivals),
}

/// Requests per second, from the beginning of the run to its end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// At the beginning.
    pub from: f64,
    /// At the end of `Bounds::duration_ns`; the same as `from` except on a ramp.
    pub to: f64,
}

/// How arrivals are spread in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// Evenly.
    Constant,
    /// Independently of each other, as those of many users are.
    Poisson,
    /// With gaps between nothing and twice the mean, each as likely.
    Uniform,
}

/// When it ends: whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Nanoseconds from the beginning.
    pub duration_ns: u64,
    /// Requests.
    pub requests: u64,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send one, which was due at that time.
    Send {
        /// Nanoseconds from the beginning; in a closed loop, now.
        intended_ns: u64,
    },
    /// Nothing is due before then.
    Wait {
        /// Nanoseconds from the beginning.
        until_ns: u64,
    },
    /// It is over.
    Stop,
}

/// The schedule of one generator thread.
#[derive(Clone, Debug)]
pub struct Schedule {
    load: Load,
    bounds: Bounds,
    /// Arrivals that come together.
    burst: u64,
    rng: Rng,
    /// Expected arrivals until the next one.
    sum: f64,
    /// When the next one is due; later than any bound once the rate has come down to nothing.
    next_ns: u64,
}

impl Schedule {
    /// The share of one thread in `threads` of the whole load: its rate and requests are divided, its arrivals are
    /// shifted (constant) or independent (the others), so that all together are the process that was asked for.
    ///
    /// `burst` arrivals come at a time, 1 or more, at the same rate.
    pub fn new(load: Load, bounds: Bounds, burst: u64, seed: u64, (thread, threads): (u64, u64)) -> Schedule {
        let share = |count: u64| count / threads + u64::from(thread < count % threads);
        let load = match load {
            Load::Closed => Load::Closed,
            Load::Open(rate, arrivals) => {
                let part = |rate: f64| rate / threads as f64;
                Load::Open(Rate { from: part(rate.from), to: part(rate.to) }, arrivals)
            }
        };
        let requests = if bounds.requests == u64::MAX { u64::MAX } else { share(bounds.requests) };
        let bounds = Bounds { requests, ..bounds };
        let mut schedule =
            Schedule { load, bounds, burst: burst.max(1), rng: Rng::new(seed, thread), sum: 0.0, next_ns: 0 };
        if let Load::Open(_, arrivals) = load {
            // The first one comes at the beginning, the first of the other threads shifted into its gap; where chance
            // decides, it does so from the beginning on.
            schedule.sum = match arrivals {
                Arrivals::Constant => thread as f64 / threads as f64 * schedule.burst as f64,
                _ => schedule.gap(arrivals),
            };
            schedule.next_ns = schedule.time_of_sum();
        }
        schedule
    }

    /// What to do at `elapsed_ns`, when `sent` requests of this thread have been sent (or counted as due).
    pub fn step(&mut self, elapsed_ns: u64, sent: u64) -> Step {
        if sent >= self.bounds.requests {
            return Step::Stop;
        }
        let Load::Open(_, arrivals) = self.load else {
            return if elapsed_ns < self.bounds.duration_ns {
                Step::Send { intended_ns: elapsed_ns }
            } else {
                Step::Stop
            };
        };
        // By what was intended, not by the clock: what was due in time is sent, however late.
        if self.next_ns >= self.bounds.duration_ns {
            return Step::Stop;
        }
        if self.next_ns > elapsed_ns {
            return Step::Wait { until_ns: self.next_ns };
        }
        let intended_ns = self.next_ns;
        if (sent + 1).is_multiple_of(self.burst) {
            self.sum += self.gap(arrivals);
            self.next_ns = self.time_of_sum();
        }
        Step::Send { intended_ns }
    }

    fn gap(&mut self, arrivals: Arrivals) -> f64 {
        let one = match arrivals {
            Arrivals::Constant => 1.0,
            Arrivals::Poisson => self.rng.exponential(),
            Arrivals::Uniform => 2.0 * self.rng.unit(),
        };
        one * self.burst as f64
    }

    /// When the expected count of arrivals reaches `sum`. With r(t) = a + (b - a) t / D that is the solution of
    /// a t + (b - a) t^2 / 2D = sum, written so that it neither divides by zero nor cancels for a = b.
    fn time_of_sum(&self) -> u64 {
        let Load::Open(Rate { from, to }, _) = self.load else { return 0 };
        let slope = (to - from) / (self.bounds.duration_ns as f64 / 1e9);
        let inside = from * from + 2.0 * slope * self.sum;
        // A rate that falls to zero: no further arrival.
        if inside < 0.0 {
            return u64::MAX;
        }
        let below = from + inside.sqrt();
        let seconds = if self.sum == 0.0 { 0.0 } else { 2.0 * self.sum / below };
        // A float that is too large, or no number, becomes the largest integer or 0.
        (seconds * 1e9).round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn open(rate: Rate, arrivals: Arrivals, burst: u64, share: (u64, u64)) -> Schedule {
        let bounds = Bounds { duration_ns: 10 * SECOND_NS, requests: u64::MAX };
        Schedule::new(Load::Open(rate, arrivals), bounds, burst, 7, share)
    }

    fn steady(rate: f64) -> Rate {
        Rate { from: rate, to: rate }
    }

    /// The intended times, asked for by someone who is never late.
    fn times(mut schedule: Schedule) -> Vec<u64> {
        let (mut now, mut sent, mut times) = (0, 0, Vec::new());
        loop {
            match schedule.step(now, sent) {
                Step::Send { intended_ns } => {
                    times.push(intended_ns);
                    sent += 1;
                }
                Step::Wait { until_ns } => {
                    assert!(until_ns > now, "a wait for the past");
                    now = until_ns;
                }
                Step::Stop => return times,
            }
        }
    }

    #[test]
    fn a_closed_loop_sends_until_either_bound() {
        let bounds = Bounds { duration_ns: 100, requests: 3 };
        let mut schedule = Schedule::new(Load::Closed, bounds, 1, 7, (0, 1));
        assert_eq!(schedule.step(5, 0), Step::Send { intended_ns: 5 });
        assert_eq!(schedule.step(99, 2), Step::Send { intended_ns: 99 });
        assert_eq!(schedule.step(100, 2), Step::Stop);
        assert_eq!(schedule.step(5, 3), Step::Stop);
    }

    #[test]
    fn requests_are_shared_out_to_the_last() {
        let bounds = Bounds { duration_ns: u64::MAX, requests: 10 };
        let sent = |thread| {
            let mut schedule = Schedule::new(Load::Closed, bounds, 1, 7, (thread, 4));
            (0..).take_while(|sent| schedule.step(0, *sent) != Step::Stop).count()
        };
        assert_eq!([0, 1, 2, 3].map(sent), [3, 3, 2, 2]);
    }

    #[test]
    fn a_constant_rate_is_exact_to_the_nanosecond_to_the_end() {
        let times = times(open(steady(1_000_000.0), Arrivals::Constant, 1, (0, 1)));
        assert_eq!(times.len(), 10_000_000);
        assert!(times.iter().enumerate().all(|(k, at)| *at == k as u64 * 1000));
    }

    #[test]
    fn threads_interleave_evenly() {
        let mut all: Vec<u64> =
            (0..4).flat_map(|thread| times(open(steady(1000.0), Arrivals::Constant, 1, (thread, 4)))).collect();
        all.sort_unstable();
        assert_eq!(all.len(), 10_000);
        assert!(all.windows(2).all(|two| two[1] - two[0] == 1_000_000));
    }

    #[test]
    fn a_schedule_that_is_asked_late_catches_up_and_knows_what_was_due() {
        let mut schedule = open(steady(1000.0), Arrivals::Constant, 1, (0, 1));
        assert_eq!(schedule.step(2_500_000, 0), Step::Send { intended_ns: 0 });
        assert_eq!(schedule.step(2_500_000, 1), Step::Send { intended_ns: 1_000_000 });
        assert_eq!(schedule.step(2_500_000, 2), Step::Send { intended_ns: 2_000_000 });
        assert_eq!(schedule.step(2_500_000, 3), Step::Wait { until_ns: 3_000_000 });
        // Long after the end: what was due in time is still sent.
        assert_eq!(schedule.step(60 * SECOND_NS, 3), Step::Send { intended_ns: 3_000_000 });
    }

    #[test]
    fn bursts_come_together_at_the_same_rate() {
        let times = times(open(steady(1000.0), Arrivals::Constant, 50, (0, 1)));
        assert_eq!(times.len(), 10_000);
        assert!(times.chunks(50).enumerate().all(|(k, burst)| burst.iter().all(|at| *at == k as u64 * 50_000_000)));
    }

    #[test]
    fn a_ramp_goes_from_one_rate_to_the_other() {
        let rate = Rate { from: 1000.0, to: 5000.0 };
        let times = times(open(rate, Arrivals::Constant, 1, (0, 1)));
        assert_eq!(times.len(), 30_000);
        // In second s the mean rate is 1000 + 400 s + 200.
        for second in 0..10 {
            let count = times.iter().filter(|at| **at / SECOND_NS == second).count() as i64;
            assert!((count - (1200 + 400 * second as i64)).abs() <= 1, "{count} in second {second}");
        }
        assert!(times.is_sorted());
    }

    #[test]
    fn a_ramp_down_to_nothing_ends() {
        let times = times(open(Rate { from: 1000.0, to: 0.0 }, Arrivals::Constant, 1, (0, 1)));
        assert!((4999..=5001).contains(&times.len()), "{}", times.len());
        assert!(*times.last().unwrap() < 10 * SECOND_NS);
    }

    /// Kolmogorov and Smirnov's distance of the gaps from a distribution function. 1.95 / sqrt(n) is exceeded by chance
    /// once in a thousand; the seed is fixed, so the test says the same every time.
    fn distance(times: &[u64], mean_ns: f64, cdf: impl Fn(f64) -> f64) -> f64 {
        let mut gaps: Vec<f64> = times.windows(2).map(|two| (two[1] - two[0]) as f64 / mean_ns).collect();
        gaps.sort_unstable_by(f64::total_cmp);
        let n = gaps.len() as f64;
        let off = |(k, gap): (usize, &f64)| {
            let expected = cdf(*gap);
            (expected - k as f64 / n).abs().max((expected - (k + 1) as f64 / n).abs())
        };
        gaps.iter().enumerate().map(off).fold(0.0, f64::max) * n.sqrt()
    }

    #[test]
    fn poisson_gaps_are_exponential_and_independent() {
        let times = times(open(steady(10_000.0), Arrivals::Poisson, 1, (0, 1)));
        // The count of a Poisson process: 100,000 with a deviation of 316.
        assert!((99_000..101_000).contains(&times.len()), "{}", times.len());
        let exponential = |gap: f64| 1.0 - (-gap).exp();
        assert!(distance(&times, 100_000.0, exponential) < 1.95);
        // The test can fail: uniform gaps of the same mean are far off.
        let uniform: Vec<u64> = self::times(open(steady(10_000.0), Arrivals::Uniform, 1, (0, 1)));
        assert!(distance(&uniform, 100_000.0, exponential) > 10.0);
        // Neighbouring gaps do not know each other: their correlation is 0 within 4 / sqrt(n).
        let gaps: Vec<f64> = times.windows(2).map(|two| (two[1] - two[0]) as f64 / 100_000.0 - 1.0).collect();
        let correlation = gaps.windows(2).map(|two| two[0] * two[1]).sum::<f64>() / gaps.len() as f64;
        assert!(correlation.abs() < 4.0 / (gaps.len() as f64).sqrt(), "{correlation}");
    }

    #[test]
    fn threads_together_are_poisson_too() {
        let mut all: Vec<u64> =
            (0..4).flat_map(|thread| times(open(steady(10_000.0), Arrivals::Poisson, 1, (thread, 4)))).collect();
        all.sort_unstable();
        assert!(distance(&all, 100_000.0, |gap| 1.0 - (-gap).exp()) < 1.95);
    }

    #[test]
    fn uniform_gaps_are_uniform() {
        let times = times(open(steady(10_000.0), Arrivals::Uniform, 1, (0, 1)));
        assert!(distance(&times, 100_000.0, |gap| (gap / 2.0).min(1.0)) < 1.95);
    }

    #[test]
    fn the_same_seed_is_the_same_run() {
        let run = |seed| {
            let bounds = Bounds { duration_ns: SECOND_NS, requests: u64::MAX };
            times(Schedule::new(Load::Open(steady(1000.0), Arrivals::Poisson), bounds, 1, seed, (0, 1)))
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }
}
