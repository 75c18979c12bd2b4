//! `loadgen gate`: what was typed, and what is done about it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::baseline::{self, Baseline, SESSIONS_MIN, Session};
use super::build::{self, Source};
use super::calibrate::{self, Order};
use super::compare::{self, Comparison};
use super::counters::{self, Counters};
use super::history::{self, Entry, Expected};
use super::margins::{Calibration, Machine};
use super::metric::Difference;
use super::report;
use super::selftest::{self, Part};
use super::server::Arm;
use super::trial::{Bench, Failure, SCENARIOS, Scenario};
use super::verdict::{Batch, Margins, Outcome, RULES, Step, Verdict};
use crate::record::Host;
use crate::report::units;
use crate::rng::Rng;

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
/// Of a session of a baseline.
const SESSION_PAIRS: usize = 6;

/// The command and its verbs.
#[must_use]
pub fn command() -> Command {
    let program = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("PROGRAM").value_parser(value_parser!(PathBuf)).help(help)
    };
    let binary = || program("binary", "The server [default: the ucaffeine beside this program]");
    let text = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let margins = || file("margins", "results/gate.toml", "How much worse each metric may get on this machine");
    let history = || file("history", "results/history.jsonl", "Where a line is added about this run");
    let report = |default| file("report", default, "Where the report goes").value_name("DIR");
    let baselines = || file("baselines", "results/baseline", "Where the baselines are").value_name("DIR");
    let models = || program("models", "The program with the floor [default: the models beside this program]");
    Command::new("gate")
        .about("Tells whether a server got slower, and is not easily alarmed")
        .subcommand_required(true)
        .after_help(
            "Exit codes: 0 pass, 1 failed, 2 usage, 3 regression, 4 invalid. Method and error rates: docs/gate.md",
        )
        .subcommand(
            Command::new("ab")
                .about("Compare two revisions, or two programs, in turns")
                .arg(text("base", "REV", "The revision to compare with").required_unless_present("base-binary"))
                .arg(text("head", "REV|DIR", "The revision, or the folder, that may be slower [default: .]"))
                .arg(program("base-binary", "Do not build: compare with this program").conflicts_with("base"))
                .arg(program("head-binary", "Do not build: this one may be slower").conflicts_with("head"))
                .args([scenario_arg(), margins(), history(), report("target/gate/report")])
                .args(trial()),
        )
        .subcommand(
            Command::new("selftest")
                .about("Prove it here: the same program twice passes, a slower one does not")
                .arg(binary())
                .arg(
                    text("only", "PART", "Only this part (aa, delay or spin); may be given again")
                        .action(ArgAction::Append)
                        .value_parser(selftest::PARTS.map(|part| part.name)),
                )
                .arg(time_arg("time-max", "480s", "No pair begins after that"))
                .arg(
                    Arg::new("warn")
                        .long("warn")
                        .action(ArgAction::SetTrue)
                        .help("Say what does not hold, and exit 0 all the same: for machines that are shared"),
                )
                .args([margins(), report("target/gate/selftest")])
                .args(trial()),
        )
        .subcommand(
            Command::new("counters")
                .about("Compare what a request costs, counted and not timed, with the committed baseline")
                .arg(program("program", "What counts [default: examples/counters beside this program]"))
                .arg(baselines())
                .arg(Arg::new("bless").long("bless").action(ArgAction::SetTrue).help("Write the baseline instead")),
        )
        .subcommand(
            Command::new("baseline")
                .about("Compare the server, as a ratio to the floor, with the committed baseline")
                .args([binary(), models(), scenario_arg(), baselines(), history(), report("target/gate/report")])
                .args(trial()),
        )
        .subcommand(
            Command::new("bless")
                .about("Write a baseline from at least five sessions")
                .arg(text("reason", "TEXT", "Why").required(true))
                .arg(number("sessions", "5", "How many it shall have; one that has fewer is gone on with"))
                .arg(number("at-a-time", "1000000", "How many to measure this time"))
                .args([binary(), models(), scenario_arg(), baselines()])
                .args(trial()),
        )
        .subcommand(
            Command::new("calibrate")
                .about("Measure how far apart the same program is from itself here, and set the margins")
                .arg(binary())
                .arg(file(
                    "recording",
                    "results/gate/aa-pairs.json",
                    "Where the pairs are kept; one that is there is gone on with",
                ))
                .arg(number("pairs", "40", "How many the recording shall have"))
                .arg(number("at-a-time", "1000000", "How many to measure this time"))
                .args([scenario_arg(), margins()])
                .args(trial()),
        )
}

fn time_arg(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("TIME").default_value(default).value_parser(time).help(help)
}

fn file(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    let arg = Arg::new(name).long(name).value_name("FILE").default_value(default);
    arg.value_parser(value_parser!(PathBuf)).help(help)
}

fn number(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("N").default_value(default).value_parser(value_parser!(usize)).help(help)
}

fn scenario_arg() -> Arg {
    let arg = Arg::new("scenario").long("scenario").value_name("NAME").default_value(SCENARIOS[0].name);
    arg.value_parser(scenario).help("The load: keepalive, many or file-64k")
}

/// What every verb that measures has.
fn trial() -> [Arg; 4] {
    let seed = Arg::new("seed").long("seed").value_name("N").value_parser(value_parser!(u64));
    [
        time_arg("time", TIME_DEFAULT, "What is measured of each trial"),
        time_arg("warmup", WARMUP_DEFAULT, "What comes before it"),
        seed.help("What the order inside the pairs is made from [default: the clock]"),
        unoptimised(),
    ]
}

/// Does what was asked for.
#[must_use]
pub fn run(matches: &ArgMatches) -> Ended {
    let Some((verb, matches)) = matches.subcommand() else { return Ended::Usage(String::from("a verb is wanted")) };
    let measures = matches.try_contains_id("unoptimised").is_ok();
    if cfg!(debug_assertions) && measures && !matches.get_flag("unoptimised") {
        let why = "this is a debug build, whose rates mean nothing: use `cargo run --release -p loadgen`";
        return Ended::Usage(String::from(why));
    }
    let done = match verb {
        "ab" => run_ab(matches),
        "selftest" => run_selftest(matches),
        "counters" => run_counters(matches),
        "baseline" => run_baseline(matches),
        "bless" => run_bless(matches),
        _ => run_calibrate(matches),
    };
    done.unwrap_or_else(|ended| ended)
}

type Done = Result<Ended, Ended>;

fn run_ab(matches: &ArgMatches) -> Done {
    let work = Path::new("target/gate");
    let here = Path::new(".");
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let built = |source: &Source, name: &str| {
        say(&format!("building the {name}"));
        build::build(here, source, work, name).map_err(Ended::Failed)
    };
    let (base, base_name, base_revision) = match (matches.get_one::<PathBuf>("base-binary"), text("base")) {
        (Some(program), _) => (program.clone(), program.display().to_string(), None),
        (None, base) => {
            let base = base.unwrap_or_default();
            let name = build::describe(here, &base);
            (built(&Source::Revision(base.clone()), "base")?, name, Some(base))
        }
    };
    let (head, head_name, head_revision) = match (matches.get_one::<PathBuf>("head-binary"), text("head")) {
        (Some(program), _) => (program.clone(), program.display().to_string(), None),
        (None, head) => {
            let source = Source::of(&head.unwrap_or_else(|| String::from(".")));
            let program = built(&source, "head")?;
            match source {
                // "of main and ." would read as the end of a sentence.
                Source::Folder(folder) if folder == Path::new(".") => {
                    (program, String::from("this folder"), Some(String::from("HEAD")))
                }
                Source::Folder(folder) => (program, folder.display().to_string(), Some(String::from("HEAD"))),
                Source::Revision(revision) => (program, build::describe(here, &revision), Some(revision)),
            }
        }
    };
    let expected = match (&base_revision, &head_revision) {
        (Some(base), Some(head)) => history::expected_between(here, base, head).map_err(Ended::Failed)?,
        _ => Vec::new(),
    };
    let (base, head) = (Arm::ucaffeine(&base_name, &base), Arm::ucaffeine(&head_name, &head));
    let (margins, remark) = margins_of(matches)?;
    let seed = seed_of(matches);
    say(&format!("seed {seed}"));
    let bench = Bench::prepare(scenario_of(matches), &base, time_of(matches, "time"), time_of(matches, "warmup"));
    let compared = bench.and_then(|bench| compare::compare(&bench, (&base, &head), &margins, &RULES, seed, say));
    let mut entry = entry(matches, "ab", (&base.name, &head.name));
    entry.expected = expected;
    let mut comparison = noted(matches, entry.clone(), compared)?;
    comparison.remarks.extend(remark);
    let excused = history::is_expected(&comparison.verdict, &entry.expected);
    for Expected { metric, reason } in &entry.expected {
        comparison.remarks.push(format!("a commit expects {} to get worse: {reason}", metric.name()));
    }
    finish(matches, &comparison, excused)
}

/// Prints and saves what came of it.
fn finish(matches: &ArgMatches, comparison: &Comparison, excused: bool) -> Done {
    let folder = path(matches, "report");
    report::save(comparison, folder, "report").map_err(Ended::Failed)?;
    println!("{}: {}", report::word(&comparison.verdict), report::sentence(comparison));
    comparison.remarks.iter().for_each(|remark| println!("note: {remark}"));
    println!("report: {}", folder.join("report.md").display());
    match comparison.verdict.outcome == Outcome::Regression && !excused {
        true => Ok(Ended::Regression),
        false => Ok(Ended::Pass),
    }
}

/// Writes the run into the history, also one that could not be believed.
fn noted(matches: &ArgMatches, mut entry: Entry, compared: Result<Comparison, Failure>) -> Result<Comparison, Ended> {
    match &compared {
        Ok(comparison) => entry.verdict = Some(comparison.verdict.clone()),
        Err(Failure::Invalid(why)) => entry.invalid = Some(why.clone()),
        Err(Failure::Failed(_)) => return compared.map_err(failure),
    }
    entry.append(path(matches, "history")).map_err(Ended::Failed)?;
    compared.map_err(failure)
}

fn entry(matches: &ArgMatches, verb: &str, (base, head): (&str, &str)) -> Entry {
    Entry {
        unix_s: now_s(),
        verb: verb.to_owned(),
        scenario: scenario_of(matches).name.to_owned(),
        base: base.to_owned(),
        head: head.to_owned(),
        machine: Machine::of(&Host::read()),
        verdict: None,
        invalid: None,
        expected: Vec::new(),
    }
}

fn run_selftest(matches: &ArgMatches) -> Done {
    let arm = Arm::ucaffeine("the server", &binary(matches, "binary", "ucaffeine")?);
    let only: Vec<&String> = matches.get_many("only").into_iter().flatten().collect();
    let is_wanted = |part: &Part| only.is_empty() || only.iter().any(|name| *name == part.name);
    let parts: Vec<Part> = selftest::PARTS.into_iter().filter(is_wanted).collect();
    let (margins, remark) = margins_of(matches)?;
    let times = (time_of(matches, "time"), time_of(matches, "warmup"));
    let limits = (seed_of(matches), Instant::now() + time_of(matches, "time-max"));
    let findings = selftest::run(&parts, &arm, &margins, times, limits, say);
    selftest::save(&findings, path(matches, "report")).map_err(Ended::Failed)?;
    findings.iter().for_each(|finding| println!("{}", finding.line()));
    remark.iter().for_each(|remark| println!("note: {remark}"));
    println!("report: {}", path(matches, "report").display());
    let ended = verdict_of(&findings);
    match ended {
        Ended::Pass => Ok(Ended::Pass),
        _ if matches.get_flag("warn") => {
            println!("WARNING: the self-test did not come out as it must; with --warn that is no failure");
            Ok(Ended::Pass)
        }
        ended => Ok(ended),
    }
}

/// What could not be measured comes before what came out wrong.
fn verdict_of(findings: &[selftest::Finding]) -> Ended {
    let failed = findings.iter().find_map(|finding| finding.result.as_ref().err());
    match failed {
        Some(why) => failure(why.clone()),
        None if findings.iter().all(selftest::Finding::holds) => Ended::Pass,
        None => Ended::Regression,
    }
}

fn run_counters(matches: &ArgMatches) -> Done {
    let program = binary(matches, "program", "examples/counters")?;
    let path = path(matches, "baselines").join("counters.json");
    let measured = Counters::count(&program).map_err(Ended::Failed)?;
    if matches.get_flag("bless") {
        measured.write(&path).map_err(Ended::Failed)?;
        println!("{} is written", path.display());
        return Ok(Ended::Pass);
    }
    let baseline = Counters::read(&path).map_err(Ended::Failed)?;
    let compared = counters::compare(&baseline, &measured);
    compared.remarks.iter().for_each(|remark| println!("note: {remark}"));
    compared.worse.iter().for_each(|worse| println!("REGRESSION: {worse}"));
    match compared.worse.is_empty() {
        true => println!("PASS: {} kinds of requests cost what the baseline says", baseline.requests.len()),
        false => println!("if it is meant: loadgen gate counters --bless"),
    }
    Ok(if compared.worse.is_empty() { Ended::Pass } else { Ended::Regression })
}

fn run_baseline(matches: &ArgMatches) -> Done {
    let path = baseline_path(matches);
    let baseline = Baseline::read(&path).map_err(Ended::Failed)?;
    if !baseline.is_whole() {
        let why = format!(
            "{} has {} sessions of {}: `gate bless` goes on",
            path.display(),
            baseline.sessions.len(),
            SESSIONS_MIN
        );
        return Err(Ended::Usage(why));
    }
    let (floor, head) = ratio_arms(matches)?;
    let machine = Machine::of(&Host::read());
    let seed = seed_of(matches);
    let measured = measured_against_floor(matches, (&floor, &head), seed, &|first, second| {
        let verdict = baseline::judge(&baseline, &machine, first, second);
        let wants_more = baseline::needs_confirmation(&verdict);
        (verdict, wants_more)
    });
    let entry = entry(matches, "baseline", (&format!("baseline of {}", baseline.commit), "the server"));
    let mut comparison = noted(matches, entry, measured)?;
    comparison.names = (format!("the baseline ({})", baseline.commit), String::from("the server"));
    comparison
        .remarks
        .push(String::from("ratios to the floor are compared; the quantiles are those of the floor and of the server"));
    if machine != baseline.machine {
        comparison.remarks.push(String::from(
            "another machine than the baseline's: margins are doubled, and the worst verdict is a warning",
        ));
    }
    finish(matches, &comparison, false)
}

/// What two batches say, and whether a second one is needed.
type Judge<'a> = &'a dyn Fn(&[Difference], &[Difference]) -> (Verdict, bool);

/// Pairs of the floor and the server, until that says that it is enough.
fn measured_against_floor(
    matches: &ArgMatches,
    (floor, head): (&Arm, &Arm),
    seed: u64,
    judge: Judge<'_>,
) -> Result<Comparison, Failure> {
    let bench = Bench::prepare(scenario_of(matches), head, time_of(matches, "time"), time_of(matches, "warmup"))?;
    let decide = |first: &[Difference], second: &[Difference]| match (first.len(), second.len()) {
        (measured, _) if measured < RULES.pairs => Step::Measure(Batch::First),
        (_, 0) => match judge(first, &[]) {
            (verdict, false) => Step::Over(verdict),
            (_, true) => Step::Measure(Batch::Second),
        },
        (_, measured) if measured < RULES.pairs => Step::Measure(Batch::Second),
        _ => Step::Over(judge(first, second).0),
    };
    compare::measure(&bench, (floor, head), seed, decide, say)
}

fn run_bless(matches: &ArgMatches) -> Done {
    let path = baseline_path(matches);
    let (floor, head) = ratio_arms(matches)?;
    let machine = Machine::of(&Host::read());
    let known = if path.exists() { Some(Baseline::read(&path).map_err(Ended::Failed)?) } else { None };
    let commit = build::describe(Path::new("."), "HEAD");
    // A whole one is begun anew; one of another machine, or of another commit, is another baseline.
    let going_on = known.filter(|known| !known.is_whole() && known.machine == machine && known.commit == commit);
    let mut baseline = going_on.unwrap_or_else(|| Baseline {
        schema: baseline::SCHEMA.to_owned(),
        scenario: scenario_of(matches).name.to_owned(),
        machine,
        commit,
        reason: matches.get_one::<String>("reason").cloned().unwrap_or_default(),
        sessions: Vec::new(),
    });
    let wanted = count(matches, "sessions").max(SESSIONS_MIN);
    let mut rng = Rng::new(seed_of(matches), baseline.sessions.len() as u64);
    for _ in 0..count(matches, "at-a-time") {
        if baseline.sessions.len() >= wanted {
            break;
        }
        let bench = Bench::prepare(scenario_of(matches), &head, time_of(matches, "time"), time_of(matches, "warmup"));
        let bench = bench.map_err(failure)?;
        let pairs = (0..SESSION_PAIRS).map(|_| Ok(bench.pair(&floor, &head, &mut rng)?.difference()));
        let pairs = pairs.collect::<Result<Vec<Difference>, Failure>>().map_err(failure)?;
        baseline.sessions.push(Session { unix_s: now_s(), pairs });
        baseline.write(&path).map_err(Ended::Failed)?;
        say(&format!("session {} of {wanted}", baseline.sessions.len()));
    }
    println!("{}: {} of {wanted} sessions", path.display(), baseline.sessions.len());
    Ok(Ended::Pass)
}

fn baseline_path(matches: &ArgMatches) -> PathBuf {
    path(matches, "baselines").join(format!("{}.json", scenario_of(matches).name))
}

fn ratio_arms(matches: &ArgMatches) -> Result<(Arm, Arm), Ended> {
    let floor = Arm::floor(&binary(matches, "models", "models")?);
    Ok((floor, Arm::ucaffeine("the server", &binary(matches, "binary", "ucaffeine")?)))
}

fn margins_of(matches: &ArgMatches) -> Result<(Margins, Option<String>), Ended> {
    let found = Calibration::read(path(matches, "margins")).map_err(Ended::Usage)?;
    let scenario = matches.try_get_one::<Scenario>("scenario").ok().flatten().copied().unwrap_or(SCENARIOS[0]);
    Ok(Calibration::margins(found.as_ref(), &Host::read(), scenario.name))
}

fn run_calibrate(matches: &ArgMatches) -> Done {
    let arm = Arm::ucaffeine("ucaffeine", &binary(matches, "binary", "ucaffeine")?);
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

/// What was given, or the program beside this one.
fn binary(matches: &ArgMatches, name: &str, own: &str) -> Result<PathBuf, Ended> {
    match matches.get_one::<PathBuf>(name) {
        Some(given) => Ok(given.clone()),
        None => beside(own),
    }
}

fn beside(name: &str) -> Result<PathBuf, Ended> {
    let own = std::env::current_exe().map_err(|error| Ended::Failed(format!("where this program is: {error}")))?;
    let path = own.with_file_name(name);
    match path.is_file() {
        true => Ok(path),
        false => Err(Ended::Usage(format!(
            "{} is not there: `cargo build --release --workspace --examples --bins` makes it",
            path.display()
        ))),
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

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
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
