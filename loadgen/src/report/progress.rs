//! What is seen while a run goes on. It is drawn from a thread of its own, which only reads numbers that the generator
//! stores anyway: at most ten times a second on a terminal, as one plain line a second elsewhere.

use std::collections::VecDeque;
use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::units;
use crate::record::{Live, Snapshot};

/// How often a terminal is drawn to.
const DRAWS_PER_SECOND_MAX: u8 = 10;

/// How often a line is written where there is no terminal.
const LINE_PERIOD: Duration = Duration::from_secs(1);

/// The rate that is shown is that of the last second.
const RATE_WINDOW_NS: u64 = 1_000_000_000;

/// What the run will be, as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The warm-up, at its beginning.
    pub warmup_ns: u64,
    /// The whole, the warm-up included, unless a number of requests ends it.
    pub duration_ns: Option<u64>,
    /// The answers that end it, unless time does.
    pub requests: Option<u64>,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// A bar and a line that is drawn over.
    Bar,
    /// Plain lines.
    Lines,
    /// Nothing.
    Nothing,
}

impl View {
    /// A bar if standard error is a terminal, plain lines if not.
    #[must_use]
    pub fn of_stderr() -> View {
        if io::stderr().is_terminal() { View::Bar } else { View::Lines }
    }
}

/// The thread that draws. It ends when this is finished or dropped.
#[derive(Debug)]
pub struct Progress {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Starts to draw to standard error.
    #[must_use]
    pub fn start(lives: Vec<Arc<Live>>, plan: Plan, view: View) -> Progress {
        let (stop, stopped) = mpsc::channel();
        let work = move || match view {
            View::Bar => draw_bar(&lives, &plan, &stopped),
            View::Lines => write_lines(&lives, &plan, &stopped, |line| eprintln!("{line}")),
            View::Nothing => {}
        };
        // Without a thread there is no progress to see, but there is a run.
        let thread = thread::Builder::new().name(String::from("progress")).spawn(work).ok();
        Progress { stop: Some(stop), thread }
    }

    /// Stops drawing and clears what was drawn.
    pub fn finish(self) {
        drop(self);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was printed there, and is no reason to lose the run's result.
            let _ = thread.join();
        }
    }
}

fn draw_bar(lives: &[Arc<Live>], plan: &Plan, stopped: &mpsc::Receiver<()>) {
    let bar = ProgressBar::with_draw_target(Some(1_000), ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND_MAX));
    if let Ok(style) = ProgressStyle::with_template("[{bar:24}] {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    let period = Duration::from_secs(1) / u32::from(DRAWS_PER_SECOND_MAX);
    each_period(lives, period, stopped, |elapsed_ns, now, rate| {
        bar.set_position((share_done(plan, elapsed_ns, &now) * 1_000.0) as u64);
        bar.set_message(line(plan, elapsed_ns, &now, rate));
    });
    bar.finish_and_clear();
}

fn write_lines(lives: &[Arc<Live>], plan: &Plan, stopped: &mpsc::Receiver<()>, mut write: impl FnMut(&str)) {
    each_period(lives, LINE_PERIOD, stopped, |elapsed_ns, now, rate| write(&line(plan, elapsed_ns, &now, rate)));
}

/// Reads the numbers once a period, until the other end of the channel is gone.
fn each_period(
    lives: &[Arc<Live>],
    period: Duration,
    stopped: &mpsc::Receiver<()>,
    mut show: impl FnMut(u64, Snapshot, f64),
) {
    let start = Instant::now();
    let mut rate = RecentRate::default();
    while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
        let elapsed_ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let now = Snapshot::of(lives.iter().map(|live| live.read()));
        let rate = rate.update(elapsed_ns, now.responses);
        show(elapsed_ns, now, rate);
    }
}

/// Answers a second over the last second.
#[derive(Debug, Default)]
struct RecentRate {
    seen: VecDeque<(u64, u64)>,
}

impl RecentRate {
    fn update(&mut self, at_ns: u64, responses: u64) -> f64 {
        while self.seen.len() > 1 && self.seen[1].0 + RATE_WINDOW_NS <= at_ns {
            self.seen.pop_front();
        }
        self.seen.push_back((at_ns, responses));
        let (from_ns, before) = if self.seen.len() > 1 { self.seen[0] } else { (0, 0) };
        crate::record::per_second(responses.saturating_sub(before), at_ns.saturating_sub(from_ns))
    }
}

fn share_done(plan: &Plan, elapsed_ns: u64, now: &Snapshot) -> f64 {
    let share = |done: u64, whole: Option<u64>| whole.map_or(0.0, |whole| done as f64 / whole.max(1) as f64);
    share(elapsed_ns, plan.duration_ns).max(share(now.responses, plan.requests)).min(1.0)
}

/// `3.0 of 11.0 s  131,204/s  0 errors  p50 480 us  p99 640 us  max 4.10 ms`.
fn line(plan: &Plan, elapsed_ns: u64, now: &Snapshot, rate: f64) -> String {
    let seconds = |ns: u64| format!("{:.1}", ns as f64 / 1e9);
    let elapsed = match plan.duration_ns {
        Some(whole) => format!("{} of {} s", seconds(elapsed_ns), seconds(whole)),
        None => format!("{} s", seconds(elapsed_ns)),
    };
    let mut parts = vec![elapsed, units::rate(rate), units::plural(now.errors, "error")];
    if let Some(requests) = plan.requests {
        parts.push(format!("{} of {}", units::count(now.responses), units::count(requests)));
    }
    if elapsed_ns < plan.warmup_ns {
        parts.push(String::from("warming up"));
    } else {
        let last = [("p50", now.last_p50_ns), ("p99", now.last_p99_ns), ("max", now.last_max_ns)];
        let known = last.into_iter().filter(|&(_, ns)| ns > 0);
        parts.extend(known.map(|(name, ns)| format!("{name} {}", units::duration(ns))));
    }
    parts.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Completion, Recorder, RecorderConfig};

    const S: u64 = 1_000_000_000;

    #[test]
    fn a_line_says_where_the_run_is() {
        let plan = Plan { warmup_ns: S, duration_ns: Some(11 * S), requests: None };
        let now = Snapshot {
            responses: 7,
            last_p50_ns: 480_000,
            last_p99_ns: 640_000,
            last_max_ns: 4_100_000,
            ..Snapshot::default()
        };
        assert_eq!(line(&plan, S / 2, &now, 12.0), "0.5 of 11.0 s  12.0/s  0 errors  warming up");
        assert_eq!(
            line(&plan, 3 * S, &now, 131_204.0),
            "3.0 of 11.0 s  131,204/s  0 errors  p50 480 us  p99 640 us  max 4.10 ms"
        );
        let plan = Plan { requests: Some(1_000), ..Plan::default() };
        assert_eq!(line(&plan, 3 * S, &Snapshot { errors: 1, ..now }, 2.0).split("  ").nth(3), Some("7 of 1,000"));
        assert_eq!(share_done(&plan, 3 * S, &now), 0.007);
    }

    #[test]
    fn the_rate_is_that_of_the_last_second() {
        let mut rate = RecentRate::default();
        assert_eq!(rate.update(S, 100), 100.0);
        let rates: Vec<f64> = (1..=20).map(|tenths| rate.update(S + tenths * S / 10, 100 + tenths * 50)).collect();
        assert_eq!(rates[19], 500.0);
        assert_eq!(rate.update(13 * S, 1_100), 0.0);
    }

    #[test]
    fn lines_are_written_while_the_run_goes_on_and_stop_with_it() {
        let config = RecorderConfig { warmup_ns: 0, interval_ns: S, urls: 1, connections: 1 };
        let mut recorder = Recorder::new(&config);
        recorder.response(Completion { done_ns: 5, ..Completion::default() });
        recorder.publish();
        let (stop, stopped) = mpsc::channel::<()>();
        let mut stop = Some(stop);
        let mut lines = Vec::new();
        // The first line ends the run, so this takes one period.
        write_lines(&[recorder.live()], &Plan { requests: Some(2), ..Plan::default() }, &stopped, |line| {
            lines.push(line.to_owned());
            stop = None;
        });
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains("0 errors  1 of 2"), "{lines:?}");
    }

    #[test]
    fn progress_ends_at_once_when_the_run_does() {
        for view in [View::Bar, View::Lines, View::Nothing] {
            Progress::start(Vec::new(), Plan::default(), view).finish();
        }
    }
}
