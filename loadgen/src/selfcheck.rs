//! `loadgen selfcheck`: the generator measures servers whose answers are known, on this machine, and says how far off it
//! is. Each check has a bound made of what the generator itself says of its error, and of what the server really did.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::plan::{CloseEvery, Connecting, Plan, Think};
use crate::record::Run;
use crate::report::units;
use crate::schedule::{Arrivals, Bounds, Load, Rate};
use crate::session::{self, About};
use crate::sink::{Reply, Script, Sink};
use crate::target::Url;
use crate::traffic::{Expect, Request, Traffic, Verify};

/// What one check found.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    what: &'static str,
    measured: String,
    expected: String,
    holds: bool,
}

impl Finding {
    /// Whether it is as it should be.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.holds
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.holds { "ok  " } else { "FAIL" };
        write!(f, "{word} {}: {}, expected {}", self.what, self.measured, self.expected)
    }
}

const SECOND_NS: u64 = 1_000_000_000;

/// All checks; some seconds.
///
/// # Errors
/// A line that says why one could not be made.
pub fn run() -> Result<Vec<Finding>, String> {
    let checks = [counts, fixed_delay, stall_in_an_open_loop, stall_in_a_closed_loop, offered_rate];
    let mut findings = Vec::new();
    for check in checks {
        findings.extend(check()?);
    }
    Ok(findings)
}

/// As many answers as the server gave, to the request.
fn counts() -> Result<Vec<Finding>, String> {
    let sink = sink(Arc::new(|_| Reply::ok(b"hello")))?;
    let run = measure(&sink, Load::Closed, 8, Bounds { duration_ns: u64::MAX, requests: 20_000 })?;
    let (counted, served) = (run.measured.responses, sink.requests());
    Ok(vec![Finding {
        what: "every request is counted once",
        measured: units::count(counted),
        expected: format!("{}, as the server says", units::count(served)),
        holds: counted == served && counted == 20_000 && run.measured.errors == 0,
    }])
}

/// A server that waits 2 ms reads as it waited.
fn fixed_delay() -> Result<Vec<Finding>, String> {
    let sink = sink(Arc::new(|_| Reply::ok(b"hello").after(Duration::from_millis(2))))?;
    let run = measure(&sink, Load::Closed, 1, Bounds { duration_ns: 2 * SECOND_NS, requests: u64::MAX })?;
    let delays = sink.delays();
    let real_ns = delays.sum_ns as f64 / delays.count.max(1) as f64;
    let mean_ns = run.latency.service.mean();
    // There and back, two wake-ups on a machine that may be busy, and what the generator says of itself.
    let slack_ns = 300_000.0 + own_error_ns(&run) as f64;
    Ok(vec![Finding {
        what: "a delay of 2 ms",
        measured: units::duration_f64(mean_ns),
        expected: format!("{} to {}", units::duration_f64(real_ns), units::duration_f64(real_ns + slack_ns)),
        holds: (real_ns * 0.999..real_ns + slack_ns).contains(&mean_ns),
    }])
}

const STALL: Duration = Duration::from_millis(200);
const STALL_AT: u64 = 500;

/// One request that takes 200 ms holds up all that are due meanwhile: a fifth of a second's worth of them have waited.
fn stall_in_an_open_loop() -> Result<Vec<Finding>, String> {
    let sink = sink(stalling())?;
    let run = measure(&sink, constant(1000.0), 1, Bounds { duration_ns: 2 * SECOND_NS, requests: u64::MAX })?;
    let response = &run.latency.response;
    let late = response.count_above(STALL.as_nanos() as u64 / 2);
    Ok(vec![
        Finding {
            what: "a stall of 200 ms is in the response times of an open loop",
            measured: format!("{} of {} waited over 100 ms", units::count(late), units::count(response.count())),
            // 100 were due in its first half; the server's own speed and a busy machine decide about a few.
            expected: String::from("90 to 140 of 2,000"),
            holds: (90..=140).contains(&late) && response.count() == 2_000,
        },
        longest("the longest response time of an open loop", response.max(), &sink, &run),
    ])
}

/// The same in a closed loop: one request has waited, and that is what a closed loop cannot see.
fn stall_in_a_closed_loop() -> Result<Vec<Finding>, String> {
    let sink = sink(stalling())?;
    let run = measure(&sink, Load::Closed, 1, Bounds { duration_ns: u64::MAX, requests: 2_000 })?;
    let response = &run.latency.response;
    let late = response.count_above(STALL.as_nanos() as u64 / 2);
    Ok(vec![
        Finding {
            what: "a stall of 200 ms is one response time of a closed loop",
            measured: format!("{} of {} waited over 100 ms", units::count(late), units::count(response.count())),
            expected: String::from("1 of 2,000"),
            holds: late == 1 && response.count() == 2_000,
        },
        longest("the longest response time of a closed loop", response.max(), &sink, &run),
    ])
}

/// The schedule is kept, to the request, and within the generator's own word.
fn offered_rate() -> Result<Vec<Finding>, String> {
    let sink = sink(Arc::new(|_| Reply::ok(b"hello")))?;
    let run = measure(&sink, constant(5_000.0), 16, Bounds { duration_ns: 2 * SECOND_NS, requests: u64::MAX })?;
    let offered = run.facts.load.offered_requests.unwrap_or(0);
    Ok(vec![Finding {
        what: "5,000 requests a second for 2 s",
        measured: format!("{} offered, {} answered", units::count(offered), units::count(run.measured.responses)),
        expected: format!("10,000, and {} at the server", units::count(sink.requests())),
        holds: offered == 10_000 && run.measured.responses == 10_000 && sink.requests() == 10_000,
    }])
}

fn longest(what: &'static str, max_ns: u64, sink: &Sink, run: &Run) -> Finding {
    let real_ns = sink.delays().longest_ns;
    // Three digits are kept of every value.
    let slack_ns = 20_000_000 + own_error_ns(run);
    Finding {
        what,
        measured: units::duration(max_ns),
        expected: format!("{} to {}", units::duration(real_ns), units::duration(real_ns + slack_ns)),
        holds: (real_ns - real_ns / 500..=real_ns + slack_ns).contains(&max_ns),
    }
}

/// What the generator says that it may be off by: how late it sent, and how late it looked.
fn own_error_ns(run: &Run) -> u64 {
    run.generator.lag.max() + run.generator.reap.max()
}

fn stalling() -> Script {
    Arc::new(|number| Reply::ok(b"hello").after(if number == STALL_AT { STALL } else { Duration::ZERO }))
}

fn constant(rate: f64) -> Load {
    Load::Open(Rate { from: rate, to: rate }, Arrivals::Constant)
}

fn sink(script: Script) -> Result<Sink, String> {
    Sink::start(script).map_err(|error| format!("the checked server cannot listen: {error}"))
}

fn measure(sink: &Sink, load: Load, connections: u32, bounds: Bounds) -> Result<Run, String> {
    let plan = plan(&sink.url(), load, connections, bounds)?;
    session::run(&Arc::new(plan), &About::default(), drop).map_err(|failure| failure.to_string())
}

/// A plain plan for one URL.
///
/// # Errors
/// A line that says what is wrong with the URL.
pub fn plan(url: &str, load: Load, connections: u32, bounds: Bounds) -> Result<Plan, String> {
    let url = Url::parse(url)?;
    Ok(Plan {
        address: url.resolve()?,
        traffic: Traffic::new(vec![Request::new("GET", &url, &[], b"", Expect::default())])?,
        verify: Verify::Sum,
        load,
        bounds,
        warmup_ns: 0,
        connections,
        threads: 1,
        cpus: Vec::new(),
        pipeline: 1,
        close: CloseEvery::Never,
        think: Think::None,
        burst: 1,
        timeout: Duration::from_secs(5),
        deadline: None,
        connecting: Connecting { window: 64, rate: 20_000.0, sources: Vec::new() },
        interval: Duration::from_secs(1),
        spin: Duration::from_micros(50),
        seed: 1,
    })
}
