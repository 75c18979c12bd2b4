//! One trial: a fresh server, a load, and what came of it; and a pair of them in random order.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::metric::{self, Difference, Logs};
use super::server::{Arm, Cpus, Server};
use crate::plan::Plan;
use crate::record::{Hist, Interval, Run};
use crate::report::units;
use crate::rng::Rng;
use crate::schedule::{Arrivals, Bounds, Load, Rate};
use crate::selfcheck;
use crate::session::{self, About};
use crate::traffic::Verify;
use crate::verdict::{Validity, judge_with};

/// What of a base's closed-loop capacity is offered: enough to be felt, far enough from the edge that a slow tenth of a second
/// builds no queue.
const LOAD_SHARE: f64 = 0.5;
/// How long the capacity is looked for.
const CAPACITY_TIME: Duration = Duration::from_secs(1);
/// The 99th percentile of the schedule lag may be this share of the median. A run of its own is held to a tenth; both arms of a pair are
/// late by the same generator, at 20 us of latency a tenth is less than one send takes, and stalls are left out by window.
const LAG_SHARE_MAX: f64 = 2.0;
/// A trial is cut into these. Long enough for a 99th percentile at thousands of requests a second, short enough that most see no stall.
const WINDOW: Duration = Duration::from_millis(20);
/// The server may wait for its CPU, which something else has, for this share of the time. Calm halves bear stalls in one window of ten; where a
/// compiler runs beside, it is a third and more.
const WAITED_SHARE_MAX: f64 = 0.05;
/// The arms of a pair must not differ by more requests than this.
const REQUESTS_APART_MAX: f64 = 0.01;

/// A load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// As files and flags call it.
    pub name: &'static str,
    /// Connections, kept alive.
    pub connections: u32,
    /// The file that is asked for.
    pub body_bytes: usize,
}

/// The loads that there are.
pub const SCENARIOS: [Scenario; 3] = [
    Scenario { name: "keepalive", connections: 64, body_bytes: 1_024 },
    Scenario { name: "many", connections: 2_000, body_bytes: 1_024 },
    Scenario { name: "file-64k", connections: 64, body_bytes: 64 << 10 },
];

/// How trials are made.
#[derive(Debug)]
pub struct Bench {
    /// Of what.
    pub scenario: Scenario,
    /// Where.
    pub cpus: Cpus,
    /// Before what is measured.
    pub warmup: Duration,
    /// What is measured.
    pub time: Duration,
    /// Requests a second.
    pub rate: f64,
    /// No pair begins after that.
    pub deadline: Option<Instant>,
    /// What is served.
    site: Site,
}

/// What came of a trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Response times, in the calm half of its windows.
    pub response: Hist,
    /// The server's CPU time for each request.
    pub cpu_ns_per_request: f64,
    /// Right answers.
    pub requests: u64,
}

/// Two trials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// Whether the base went first.
    pub base_first: bool,
    /// Of the base.
    pub base: Trial,
    /// Of the head.
    pub head: Trial,
}

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Something is broken: exit 1.
    Failed(String),
    /// It was measured, and cannot be believed: exit 4.
    Invalid(String),
}

impl Trial {
    /// What it comes down to.
    #[must_use]
    pub fn logs(&self) -> Logs {
        metric::logs(&self.response, self.cpu_ns_per_request)
    }
}

impl Pair {
    /// What it comes down to.
    #[must_use]
    pub fn difference(&self) -> Difference {
        metric::difference(&self.base.logs(), &self.head.logs())
    }
}

impl Bench {
    /// Prepares a folder to serve, and finds the rate: half of what the arm can do.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn prepare(scenario: Scenario, base: &Arm, time: Duration, warmup: Duration) -> Result<Bench, Failure> {
        let failed = Failure::Failed;
        ucaffeine::rt::net::raise_descriptor_limit();
        let site = Site::make(scenario.body_bytes).map_err(|error| failed(format!("a folder to serve: {error}")))?;
        let cpus = Cpus::choose().map_err(failed)?;
        let mut bench = Bench { scenario, cpus, warmup, time: CAPACITY_TIME, rate: 0.0, deadline: None, site };
        let capacity = bench.load(base, Load::Closed, 1)?.requests_per_second();
        // Rounded down to two digits, so that the report can say it.
        let half = capacity * LOAD_SHARE;
        let digit = 10f64.powf(half.max(10.0).log10().floor() - 1.0);
        bench.rate = (half / digit).floor() * digit;
        bench.time = time;
        Ok(bench)
    }

    /// The same folder and time, at a known rate.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn at_rate(scenario: Scenario, rate: f64, time: Duration, warmup: Duration) -> Result<Bench, Failure> {
        ucaffeine::rt::net::raise_descriptor_limit();
        let site = Site::make(scenario.body_bytes);
        let site = site.map_err(|error| Failure::Failed(format!("a folder to serve: {error}")))?;
        let cpus = Cpus::choose().map_err(Failure::Failed)?;
        Ok(Bench { scenario, cpus, warmup, time, rate, deadline: None, site })
    }

    /// Both arms, in an order by chance. What cannot be believed is measured once more.
    ///
    /// # Errors
    /// [`Failure`]: the second time, too.
    pub fn pair(&self, base: &Arm, head: &Arm, rng: &mut Rng) -> Result<Pair, Failure> {
        match self.pair_once(base, head, rng) {
            Err(Failure::Invalid(_)) => self.pair_once(base, head, rng),
            done => done,
        }
    }

    fn pair_once(&self, base: &Arm, head: &Arm, rng: &mut Rng) -> Result<Pair, Failure> {
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(Failure::Invalid(String::from("the time that it was given is over")));
        }
        let (base_first, seed) = (rng.below(2) == 0, rng.next());
        let [first, second] = if base_first { [base, head] } else { [head, base] };
        let (first, second) = (self.trial(first, seed)?, self.trial(second, seed)?);
        let (base, head) = if base_first { (first, second) } else { (second, first) };
        let apart = (base.requests as f64 / head.requests.max(1) as f64).ln().abs();
        if apart > REQUESTS_APART_MAX {
            let why = format!("the base had {} requests, the head {}", base.requests, head.requests);
            return Err(Failure::Invalid(why));
        }
        Ok(Pair { base_first, base, head })
    }

    /// A fresh server under the load.
    fn trial(&self, arm: &Arm, seed: u64) -> Result<Trial, Failure> {
        let rate = Rate { from: self.rate, to: self.rate };
        let run = self.load(arm, Load::Open(rate, Arrivals::Constant), seed)?;
        let validity = self.validity(&run);
        if validity.is_invalid() {
            return Err(Failure::Invalid(format!("{}: {}", arm.name, validity.line())));
        }
        let requests = run.measured.responses;
        let server = run.facts.server.as_ref();
        let waited_ns = server.and_then(|server| server.wait_ns).unwrap_or(0);
        let waited = waited_ns as f64 / run.facts.window_ns().max(1) as f64;
        if waited > WAITED_SHARE_MAX {
            let why = format!("{}: something else had its CPU for {} of the time", arm.name, units::share(waited));
            return Err(Failure::Invalid(why));
        }
        let cpu_ns = server.map(|server| server.run_ns.unwrap_or_else(|| server.cpu_ns()));
        let cpu_ns = cpu_ns.ok_or_else(|| Failure::Failed(format!("{} could not be watched", arm.name)))?;
        let response = calm_half(&run.intervals, WINDOW).map_err(Failure::Failed)?;
        Ok(Trial { response, cpu_ns_per_request: cpu_ns as f64 / requests as f64, requests })
    }

    fn validity(&self, run: &Run) -> Validity {
        judge_with(run, true, 0, LAG_SHARE_MAX)
    }

    fn load(&self, arm: &Arm, load: Load, seed: u64) -> Result<Run, Failure> {
        let server = Server::start(arm, &self.site.folder, self.cpus.server).map_err(Failure::Failed)?;
        let plan = self.plan(&server.url, load, seed).map_err(Failure::Failed)?;
        let about = About { words: Vec::new(), server_pid: Some(server.pid()) };
        let run = session::run(&Arc::new(plan), &about, drop);
        run.map_err(|failure| Failure::Failed(format!("{}: {failure}", arm.name)))
    }

    fn plan(&self, url: &str, load: Load, seed: u64) -> Result<Plan, String> {
        let bounds = Bounds { duration_ns: (self.warmup + self.time).as_nanos() as u64, requests: u64::MAX };
        let plan = selfcheck::plan(&format!("{url}{FILE}"), load, self.scenario.connections, bounds)?;
        let warmup_ns = self.warmup.as_nanos() as u64;
        let (cpus, interval) = (vec![self.cpus.generator], WINDOW);
        Ok(Plan { verify: Verify::Sum, warmup_ns, cpus, interval, seed, ..plan })
    }
}

/// The half of the windows with the lowest 99th percentile, as one histogram. A stall of some milliseconds, which another process
/// on the machine causes some times a second, is in a few windows and moves the 99th percentile of a whole trial tenfold; what the server
/// does is in all of them. What strikes fewer than half of the windows is not seen.
fn calm_half(intervals: &[Interval], window: Duration) -> Result<Hist, String> {
    // The first and the last may be shorter.
    let whole = intervals.iter().filter(|interval| interval.duration_ns as f64 > 0.9 * window.as_nanos() as f64);
    let windows = whole.map(|interval| interval.response.unpack()).collect::<Result<Vec<Hist>, String>>();
    let mut windows: Vec<Hist> = windows?.into_iter().filter(|hist| !hist.is_empty()).collect();
    windows.sort_by_key(|hist| hist.at_quantile(metric::TAIL));
    let mut all = Hist::durations();
    windows.iter().take(windows.len().div_ceil(2)).for_each(|hist| all.add(hist));
    Ok(all)
}

const FILE: &str = "file.bin";

/// A folder with one file, old enough to be sent from memory. Gone on drop.
#[derive(Debug)]
struct Site {
    folder: PathBuf,
}

impl Site {
    fn make(bytes: usize) -> std::io::Result<Site> {
        let number = SITES.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("ucaffeine-gate-{}-{number}", std::process::id()));
        let site = Site { folder };
        std::fs::create_dir_all(&site.folder)?;
        let path = site.folder.join(FILE);
        std::fs::write(&path, body(bytes))?;
        std::fs::File::options().write(true).open(&path)?.set_modified(SystemTime::UNIX_EPOCH + AGE)?;
        Ok(site)
    }
}

/// Folders that this process has made.
static SITES: AtomicU32 = AtomicU32::new(0);

/// Any moment long past.
const AGE: Duration = Duration::from_secs(1_000_000_000);

fn body(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| b'a' + (n % 23) as u8).collect()
}

impl Drop for Site {
    fn drop(&mut self) {
        remove(&self.folder);
    }
}

fn remove(folder: &Path) {
    let _ = std::fs::remove_dir_all(folder);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::PackedHist;

    #[test]
    fn stalls_in_a_few_windows_are_left_out_and_what_is_in_all_is_not() {
        let window = |stalled: bool, duration_ns: u64| {
            let mut hist = Hist::durations();
            for n in 0..1_000_u64 {
                let tail = if n.is_multiple_of(50) { 200_000 } else { 0 };
                hist.record(20_000 + tail + if stalled { 5_000_000 } else { 0 });
            }
            Interval {
                duration_ns,
                response: PackedHist::pack(&hist),
                ..crate::report::samples::closed().intervals[0].clone()
            }
        };
        let intervals: Vec<Interval> =
            (0..10).map(|n| window(n % 4 == 1, 20_000_000)).chain([window(false, 1_000)]).collect();
        let calm = calm_half(&intervals, Duration::from_millis(20)).expect("histograms");
        // 7 of 10 are calm, 5 are taken; the short one at the end is no window.
        assert_eq!(calm.count(), 5_000);
        assert!(calm.max() < 230_000 && calm.at_quantile(0.99) > 210_000, "{calm:?}");
    }
}
