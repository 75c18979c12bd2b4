//! The counters: what a request costs in things that can be counted, whatever the hour. Compared with a committed file, to one or two
//! percent; a program beside this one (`loadgen/examples/counters.rs`) counts.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// The name and number of the schema.
pub const SCHEMA: &str = "loadgen-counters/1";
/// How much more of the kernel's work a request may cost, as a share.
pub const KERNEL_SHARE_MAX: f64 = 0.02;
/// And how many more bytes.
pub const BYTES_SHARE_MAX: f64 = 0.01;
/// And how many more instructions.
pub const INSTRUCTIONS_SHARE_MAX: f64 = 0.02;
/// More allocations than that are a regression: none were to be there.
const ALLOCATIONS_SLACK: f64 = 0.005;
/// How often a function runs under valgrind: the difference of the two cancels what is not it.
const ROUNDS: [u64; 2] = [1_000, 3_000];

/// What was counted, or is to be compared with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// [`SCHEMA`].
    pub schema: String,
    /// By the kind of request.
    pub requests: BTreeMap<String, Cost>,
    /// Of pure functions; nothing where nobody could count them.
    pub instructions: Option<Instructions>,
}

/// What one request costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// `io_uring_enter` calls.
    pub enters: f64,
    /// Entries submitted.
    pub submissions: f64,
    /// Completions reaped.
    pub completions: f64,
    /// Allocations of the core's thread.
    pub allocations: f64,
    /// Of the response.
    pub wire_bytes: f64,
}

/// Instructions in user space, of one call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Instructions {
    /// What decides which instructions there are: compiler, valgrind and processor.
    pub counted_with: String,
    /// By function.
    pub calls: BTreeMap<String, f64>,
}

/// What a comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Each is a failure.
    pub worse: Vec<String>,
    /// Each is worth a line: what got better, what could not be compared.
    pub remarks: Vec<String>,
}

/// What is worse than the baseline.
#[must_use]
pub fn compare(baseline: &Counters, measured: &Counters) -> Compared {
    let mut found = Compared::default();
    for (name, base) in &baseline.requests {
        match measured.requests.get(name) {
            Some(now) => found.cost(name, base, now),
            None => found.worse.push(format!("{name}: it was not counted")),
        }
    }
    match (&baseline.instructions, &measured.instructions) {
        (None, _) => {}
        (Some(_), None) => found.remarks.push(String::from("instructions were not counted: there is no valgrind")),
        (Some(base), Some(now)) if base.counted_with != now.counted_with => {
            let why = format!("counted with {}, the baseline with {}", now.counted_with, base.counted_with);
            found.remarks.push(format!("instructions are not compared: {why}"));
        }
        (Some(base), Some(now)) => {
            for (name, base) in &base.calls {
                let now = now.calls.get(name).copied().unwrap_or(f64::INFINITY);
                found.one(&format!("{name}: instructions"), *base, now, INSTRUCTIONS_SHARE_MAX);
            }
        }
    }
    found
}

impl Compared {
    fn cost(&mut self, name: &str, base: &Cost, now: &Cost) {
        let shares = [
            ("enters", base.enters, now.enters, KERNEL_SHARE_MAX),
            ("submissions", base.submissions, now.submissions, KERNEL_SHARE_MAX),
            ("completions", base.completions, now.completions, KERNEL_SHARE_MAX),
            ("wire bytes", base.wire_bytes, now.wire_bytes, BYTES_SHARE_MAX),
        ];
        for (what, base, now, share_max) in shares {
            self.one(&format!("{name}: {what}"), base, now, share_max);
        }
        if now.allocations > base.allocations + ALLOCATIONS_SLACK {
            self.worse.push(format!(
                "{name}: allocations {} a request, {} in the baseline",
                now.allocations, base.allocations
            ));
        }
    }

    fn one(&mut self, what: &str, base: f64, now: f64, share_max: f64) {
        let line = || {
            format!(
                "{what} {now:.3} a request, {base:.3} in the baseline (within {:.0}% is the same)",
                share_max * 100.0
            )
        };
        if now > base * (1.0 + share_max) {
            self.worse.push(line());
        } else if now < base * (1.0 - share_max) {
            self.remarks.push(format!("better: {}", line()));
        }
    }
}

impl Counters {
    /// Reads the file.
    ///
    /// # Errors
    /// A line that says what is wrong, with the file's name.
    pub fn read(path: &Path) -> Result<Counters, String> {
        let at = |why: String| format!("{}: {why}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| at(error.to_string()))?;
        let found: Counters = serde_json::from_str(&text).map_err(|error| at(error.to_string()))?;
        match found.schema == SCHEMA {
            true => Ok(found),
            false => Err(at(format!("its schema is `{}`, and this program reads `{SCHEMA}`", found.schema))),
        }
    }

    /// Writes it.
    ///
    /// # Errors
    /// A line that says what is wrong, with the file's name.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        std::fs::write(path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Counts, by that program. Where there is no valgrind, instructions are left out.
    ///
    /// # Errors
    /// A line that says what failed.
    pub fn count(program: &Path) -> Result<Counters, String> {
        let mut counters: Counters = serde_json::from_str(&output(Command::new(program).arg("served"))?.0)
            .map_err(|error| format!("{} served: {error}", program.display()))?;
        counters.instructions = instructions(program)?;
        Ok(counters)
    }
}

fn instructions(program: &Path) -> Result<Option<Instructions>, String> {
    let Ok((valgrind, _)) = output(Command::new("valgrind").arg("--version")) else { return Ok(None) };
    let (calls, _) = output(Command::new(program).arg("calls"))?;
    let compiler = compiler(program)?;
    let processor = crate::record::Host::read().cpu_model;
    let mut found =
        Instructions { counted_with: format!("{compiler}, {}, {processor}", valgrind.trim()), calls: BTreeMap::new() };
    for name in calls.lines() {
        let [few, many] = ROUNDS.map(|rounds| callgrind(program, name, rounds));
        let per_call = (many? - few?) / (ROUNDS[1] - ROUNDS[0]) as f64;
        found.calls.insert(name.to_owned(), per_call);
    }
    Ok(Some(found))
}

/// What the program's `.comment` section says: `rustc version 1.90.0 (...)`.
fn compiler(program: &Path) -> Result<String, String> {
    const MARK: &[u8] = b"rustc version ";
    let bytes = std::fs::read(program).map_err(|error| format!("{}: {error}", program.display()))?;
    let at = bytes.windows(MARK.len()).position(|window| window == MARK);
    let text = at.map(|at| bytes[at..].split(|byte| !(b' '..=b'~').contains(byte)).next().unwrap_or_default());
    Ok(String::from_utf8_lossy(text.unwrap_or(b"rustc")).into_owned())
}

/// All instructions of a process that does it so often.
fn callgrind(program: &Path, name: &str, rounds: u64) -> Result<f64, String> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
    let (_, said) = output(valgrind.args(["call", name, &rounds.to_string()]))?;
    let count = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse::<f64>().ok());
    count.ok_or_else(|| format!("valgrind says no count for {name}"))
}

fn output(command: &mut Command) -> Result<(String, String), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name} cannot be started: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok((text(&output.stdout), text(&output.stderr))),
        false => Err(format!("{name}: {}", text(&output.stderr).lines().last().unwrap_or("it failed"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Counters {
        let cost = Cost { enters: 1.0, submissions: 1.0, completions: 1.0, allocations: 0.0, wire_bytes: 1_300.0 };
        let calls = BTreeMap::from([("parse".to_owned(), 1_000.0)]);
        Counters {
            schema: SCHEMA.to_owned(),
            requests: BTreeMap::from([("GET".to_owned(), cost)]),
            instructions: Some(Instructions { counted_with: "x".into(), calls }),
        }
    }

    fn worse(change: impl FnOnce(&mut Counters)) -> Vec<String> {
        let mut now = sample();
        change(&mut now);
        compare(&sample(), &now).worse
    }

    fn get(counters: &mut Counters) -> &mut Cost {
        counters.requests.get_mut("GET").expect("there")
    }

    #[test]
    fn each_counter_has_its_bound_and_is_named() {
        assert_eq!(worse(|_| {}), Vec::<String>::new());
        assert_eq!(worse(|now| get(now).enters = 1.015), Vec::<String>::new());
        type Change = fn(&mut Counters);
        let cases: [(Change, &str); 7] = [
            (|now| get(now).enters = 1.03, "GET: enters 1.030 a request, 1.000 in the baseline"),
            (|now| get(now).submissions = 1.03, "GET: submissions"),
            (|now| get(now).completions = 2.0, "GET: completions"),
            (|now| get(now).allocations = 0.01, "GET: allocations 0.01"),
            (|now| get(now).wire_bytes = 1_314.0, "GET: wire bytes"),
            (
                |now| *now.instructions.as_mut().unwrap().calls.get_mut("parse").unwrap() = 1_021.0,
                "parse: instructions",
            ),
            (|now| now.requests.clear(), "GET: it was not counted"),
        ];
        for (change, expected) in cases {
            let found = worse(change);
            assert!(found.len() == 1 && found[0].starts_with(expected), "{expected}: {found:?}");
        }
    }

    #[test]
    fn what_cannot_be_compared_is_said_and_fails_nothing() {
        let mut now = sample();
        now.instructions.as_mut().unwrap().counted_with = "y".into();
        let found = compare(&sample(), &now);
        assert!(
            found.worse.is_empty() && found.remarks[0].contains("counted with y, the baseline with x"),
            "{found:?}"
        );
        now.instructions = None;
        assert!(compare(&sample(), &now).remarks[0].contains("valgrind"));
        get(&mut now).wire_bytes = 900.0;
        assert!(compare(&sample(), &now).remarks[0].starts_with("better: GET: wire bytes 900"));
    }

    #[test]
    fn it_is_written_and_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("counters.json");
        sample().write(&path).expect("written");
        assert_eq!(Counters::read(&path), Ok(sample()));
        std::fs::write(&path, "{\"schema\": \"x\"}").expect("written");
        assert!(Counters::read(&path).is_err_and(|why| why.contains("counters.json")));
    }
}
