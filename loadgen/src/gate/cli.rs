//! `loadgen gate`: what was typed, and what is done about it.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::calibrate::{self, Order};
use super::server::Arm;
use super::trial::{Failure, SCENARIOS, Scenario};
use crate::report::units;

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// 0, a warning among them.
    Pass,
    /// 3.
    Regression,
    /// 1, and why.
    Failed(String),
    /// 2, and why.
    Usage(String),
    /// 4, and why.
    Invalid(String),
}

/// What is measured of a trial.
const TIME_DEFAULT: &str = "1200ms";
/// Before it.
const WARMUP_DEFAULT: &str = "300ms";

/// The command and its verbs.
#[must_use]
pub fn command() -> Command {
    let time = |name: &'static str, default: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("TIME").default_value(default).value_parser(time).help(help)
    };
    let file = |name: &'static str, default: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("FILE")
            .default_value(default)
            .value_parser(value_parser!(PathBuf))
            .help(help)
    };
    let number = |name: &'static str, default: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("N").default_value(default).value_parser(value_parser!(usize)).help(help)
    };
    let program = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("PROGRAM").value_parser(value_parser!(PathBuf)).help(help)
    };
    let scenario = || {
        Arg::new("scenario")
            .long("scenario")
            .value_name("NAME")
            .default_value(SCENARIOS[0].name)
            .value_parser(scenario)
            .help("The load: keepalive, many or file-64k")
    };
    let seed = || {
        Arg::new("seed")
            .long("seed")
            .value_name("N")
            .value_parser(value_parser!(u64))
            .help("What the order inside the pairs is made from [default: the clock]")
    };
    let margins = || file("margins", "results/gate.toml", "How much worse each metric may get on this machine");
    let trial = || {
        [
            time("time", TIME_DEFAULT, "What is measured of each trial"),
            time("warmup", WARMUP_DEFAULT, "What comes before it"),
        ]
    };
    Command::new("gate")
        .about("Tells whether a server got slower, and is not easily alarmed")
        .subcommand_required(true)
        .after_help(
            "Exit codes: 0 pass, 1 failed, 2 usage, 3 regression, 4 invalid. Method and error rates: docs/gate.md",
        )
        .subcommand(
            Command::new("calibrate")
                .about("Measure how far apart the same program is from itself here, and set the margins")
                .arg(program("binary", "The server [default: the ucaffeine beside this program]"))
                .arg(scenario())
                .arg(file(
                    "recording",
                    "results/gate/aa-pairs.json",
                    "Where the pairs are kept; one that is there is gone on with",
                ))
                .arg(margins())
                .arg(number("pairs", "40", "How many the recording shall have"))
                .arg(number("at-a-time", "1000000", "How many to measure this time"))
                .args(trial())
                .arg(seed())
                .arg(unoptimised()),
        )
}

/// Does what was asked for.
#[must_use]
pub fn run(matches: &ArgMatches) -> Ended {
    let (verb, matches) = matches.subcommand().expect("clap asks for one");
    if cfg!(debug_assertions) && matches.try_get_one::<bool>("unoptimised").is_ok_and(|given| given != Some(&true)) {
        return Ended::Usage(String::from(
            "this is a debug build, whose rates mean nothing: use `cargo run --release -p loadgen`",
        ));
    }
    let done = match verb {
        "calibrate" => run_calibrate(matches),
        verb => Err(Ended::Usage(format!("there is no verb {verb}"))),
    };
    done.unwrap_or_else(|ended| ended)
}

type Done = Result<Ended, Ended>;

fn run_calibrate(matches: &ArgMatches) -> Done {
    let arm = Arm::ucaffeine("ucaffeine", &binary(matches, "binary")?);
    let order = Order {
        scenario: scenario_of(matches),
        arm: &arm,
        pairs: count(matches, "pairs"),
        at_a_time: count(matches, "at-a-time"),
        time: time_of(matches, "time"),
        warmup: time_of(matches, "warmup"),
        seed: seed_of(matches),
    };
    let recording = calibrate::record(&order, path(matches, "recording"), say).map_err(failure)?;
    if recording.pairs.len() < order.pairs {
        println!("{} of {} pairs; run it again to go on", recording.pairs.len(), order.pairs);
        return Ok(Ended::Pass);
    }
    let calibrated = calibrate::set_margins(&recording, path(matches, "margins")).map_err(Ended::Failed)?;
    let shown = calibrated.margin.map(|_, margin| units::share(margin));
    println!(
        "{} pairs at {}: margins of latency {}, p99 {}, cpu {}",
        calibrated.pairs,
        units::rate(recording.rate),
        shown.latency,
        shown.p99,
        shown.cpu
    );
    Ok(Ended::Pass)
}

fn failure(failure: Failure) -> Ended {
    match failure {
        Failure::Failed(why) => Ended::Failed(why),
        Failure::Invalid(why) => Ended::Invalid(why),
    }
}

fn say(line: &str) {
    eprintln!("{line}");
}

/// What was given, or the `ucaffeine` beside this program.
fn binary(matches: &ArgMatches, name: &str) -> Result<PathBuf, Ended> {
    match matches.get_one::<PathBuf>(name) {
        Some(given) => Ok(given.clone()),
        None => beside("ucaffeine"),
    }
}

fn beside(name: &str) -> Result<PathBuf, Ended> {
    let own = std::env::current_exe().map_err(|error| Ended::Failed(format!("where this program is: {error}")))?;
    let path = own.with_file_name(name);
    match path.is_file() {
        true => Ok(path),
        false => {
            Err(Ended::Usage(format!("{} is not there: `cargo build --release --workspace` makes it", path.display())))
        }
    }
}

fn path<'a>(matches: &'a ArgMatches, name: &str) -> &'a Path {
    matches.get_one::<PathBuf>(name).map_or(Path::new(""), PathBuf::as_path)
}

fn count(matches: &ArgMatches, name: &str) -> usize {
    matches.get_one(name).copied().unwrap_or(0)
}

fn time_of(matches: &ArgMatches, name: &str) -> Duration {
    matches.get_one(name).copied().unwrap_or_default()
}

fn scenario_of(matches: &ArgMatches) -> Scenario {
    matches.get_one("scenario").copied().unwrap_or(SCENARIOS[0])
}

fn seed_of(matches: &ArgMatches) -> u64 {
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    matches.get_one("seed").copied().unwrap_or_else(clock)
}

fn unoptimised() -> Arg {
    Arg::new("unoptimised").long("unoptimised").action(ArgAction::SetTrue).hide(true)
}

/// Between 50 ms, in which a tick of the clock is not everything, and an hour.
fn time(text: &str) -> Result<Duration, String> {
    let ns = units::parse_duration(text)?;
    match (0.05e9..=3_600e9).contains(&ns) {
        true => Ok(Duration::from_nanos(ns as u64)),
        false => Err(String::from("between 50ms and an hour")),
    }
}

fn scenario(name: &str) -> Result<Scenario, String> {
    let found = SCENARIOS.into_iter().find(|scenario| scenario.name == name);
    found.ok_or_else(|| format!("there are {}", SCENARIOS.map(|scenario| scenario.name).join(", ")))
}
