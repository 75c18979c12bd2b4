//! What is seen while a comparison goes on: a line for each measurement, and when it will be over.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use super::plan::{Lengths, Step};
use super::settings::Settings;
use crate::record::Run;
use crate::report::units;

/// Draws to standard error: over the same line on a terminal, line by line elsewhere.
pub(super) struct Progress {
    all: Vec<Step>,
    lengths: Lengths,
    rounds: u32,
    done: usize,
    begun: Instant,
    /// How long the measurements of this session should have taken, and did.
    planned: Duration,
    taken: Duration,
    terminal: bool,
}

impl Progress {
    pub(super) fn new(settings: &Settings) -> Progress {
        Progress {
            all: [settings.first_part(), settings.second_part()].concat(),
            lengths: settings.lengths(),
            rounds: settings.rounds,
            done: 0,
            begun: Instant::now(),
            planned: Duration::ZERO,
            taken: Duration::ZERO,
            terminal: std::io::stderr().is_terminal(),
        }
    }

    /// A cell that was measured before.
    pub(super) fn is_there(&mut self, _step: Step) {
        self.done += 1;
    }

    pub(super) fn begins(&mut self, step: Step, server: &str) {
        self.begun = Instant::now();
        if self.terminal {
            eprint!("\r\x1b[K{} {} {server}", self.place(step), step.key);
            let _ = std::io::stderr().flush();
        }
    }

    pub(super) fn ended(&mut self, step: Step, server: &str, run: &Run) {
        self.done += 1;
        self.taken += self.begun.elapsed();
        self.planned += self.lengths.all(&[step]);
        let left = left(&self.lengths, &self.all[self.done.min(self.all.len())..], self.planned, self.taken);
        let text = format!("{} {} {server}: {}", self.place(step), step.key, outcome(run));
        if self.terminal && !run.validity.is_invalid() {
            eprint!("\r\x1b[K{text}; {left} left");
            let _ = std::io::stderr().flush();
        } else {
            // What is not valid stays on the screen.
            let start = if self.terminal { "\r\x1b[K" } else { "" };
            eprintln!("{start}{text}; {left} left");
        }
    }

    pub(super) fn end(&self) {
        if self.terminal {
            eprintln!("\r\x1b[K{} of {} measurements are there", self.done, self.all.len());
        }
    }

    fn place(&self, step: Step) -> String {
        format!("[{}/{}] round {}/{}", self.done, self.all.len(), step.round + 1, self.rounds)
    }
}

/// How long the rest takes, if measurements go on taking as much longer or less than planned as they did.
fn left(lengths: &Lengths, rest: &[Step], planned: Duration, taken: Duration) -> String {
    let factor = if planned.is_zero() { 1.0 } else { taken.as_secs_f64() / planned.as_secs_f64() };
    let seconds = lengths.all(rest).as_secs_f64() * factor;
    if seconds < 90.0 { format!("{seconds:.0} s") } else { format!("{:.0} min", seconds / 60.0) }
}

fn outcome(run: &Run) -> String {
    if run.validity.is_invalid() {
        return run.validity.line();
    }
    let cpu = run.server_cpu_ns_per_request().map(|ns| format!(", {} of CPU each", units::duration_f64(ns)));
    format!("{}{}", units::rate(run.requests_per_second()), cpu.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::settings;
    use super::*;

    #[test]
    fn what_is_left_follows_what_it_took() {
        let settings = settings(&["nginx", "ucaffeine"], &["close"], 2);
        let (steps, lengths) = (settings.first_part(), settings.lengths());
        let one = lengths.all(&steps[..1]);
        assert_eq!(left(&lengths, &steps[..1], Duration::ZERO, Duration::ZERO), format!("{:.0} s", one.as_secs_f64()));
        assert_eq!(left(&lengths, &steps[..1], one, one * 2), format!("{:.0} s", one.as_secs_f64() * 2.0));
        assert_eq!(left(&lengths, &[], one, one), "0 s");
    }
}
