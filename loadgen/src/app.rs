//! From the words of the command line to an exit code: 0 ok, 1 the run failed, 2 usage, 3 an SLO breached, 4 invalid.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use loadgen::bench;
use loadgen::cli::{self, Asked};
use loadgen::gate::cli::Ended;
use loadgen::plan::Plan;
use loadgen::record::Run;
use loadgen::report::progress::{self, Progress, View};
use loadgen::report::{self, Outputs, Style, summary};
use loadgen::schedule::{Load, Rate};
use loadgen::search::{Search, Step};
use loadgen::session::{self, About};
use loadgen::verdict::{Outcome, judge};
use loadgen::{gate, prepare, selfcheck};

/// Where `--find-max` begins: a rate that every server keeps.
const FIND_FROM: f64 = 1_000.0;
/// How long a trial of `--find-max` is, unless `--duration` says so; the confirmation is twice as long.
const TRIAL_DEFAULT: Duration = Duration::from_secs(3);

/// What a thread needs besides its connections'.
const SPARE_DESCRIPTORS: u64 = 16;

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Ok = 0,
    Failed = 1,
    Usage = 2,
    Breached = 3,
    Invalid = 4,
}

/// What ends it early: the code, and a line that says why.
struct Stop(Exit, String);

pub(crate) fn main(words: Vec<OsString>) -> ExitCode {
    let matches = match command().try_get_matches_from(&words) {
        Ok(matches) => matches,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Exit::Usage as u8 } else { Exit::Ok as u8 });
        }
    };
    let done = match matches.subcommand() {
        None => load(&words, &matches),
        Some(("show", matches)) => print(report::show(&files(matches), &outputs(matches), &Style::of_stdout())),
        Some(("diff", matches)) => diff(matches),
        Some(("bench", matches)) => compare(&words, matches),
        Some(("merge", matches)) => {
            let out = matches.get_one::<PathBuf>("out").cloned().unwrap_or_else(|| PathBuf::from("-"));
            print(report::merge(&files(matches), &out, &Style::of_stdout()))
        }
        Some(("gate", matches)) => gated(gate::cli::run(matches)),
        Some((_, matches)) => check_self(matches.get_flag("unoptimised")),
    };
    let exit = done.unwrap_or_else(|Stop(exit, why)| {
        eprintln!("loadgen: {why}");
        exit
    });
    ExitCode::from(exit as u8)
}

pub(crate) fn command() -> Command {
    let file = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("FILE").value_parser(value_parser!(PathBuf)).help(help)
    };
    let outputs = || {
        [
            file("json", "Everything, as JSON; - is standard output"),
            file("hgrm", "Response times by percentile, as HdrHistogram's tools print it"),
            file("hlog", "Response times by interval, as HdrHistogram's tools read it"),
            file("csv", "The intervals as a table"),
            file("svg", "Charts, into this folder").value_name("DIR"),
        ]
        .map(|arg| arg.help_heading("Output"))
    };
    let several =
        Arg::new("FILE").num_args(1..).required(true).value_parser(value_parser!(PathBuf)).help("Saved runs (--json)");
    let quiet = Arg::new("quiet")
        .long("quiet")
        .short('q')
        .action(ArgAction::SetTrue)
        .help("No progress")
        .help_heading("Output");
    let unoptimised = Arg::new("unoptimised").long("unoptimised").action(ArgAction::SetTrue).hide(true);
    cli::command("loadgen")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Loads an HTTP/1.1 server from one core, and says what it measured, how, and how far to believe it.")
        .after_help(AFTER)
        .args_conflicts_with_subcommands(true)
        .args(outputs())
        .arg(quiet)
        .subcommand(
            Command::new("show").about("Print saved runs; several side by side").arg(several.clone()).args(outputs()),
        )
        .subcommand(
            Command::new("diff")
                .about("What moved between two saved runs, quantile by quantile")
                .args(["A", "B"].map(|name| Arg::new(name).required(true).value_parser(value_parser!(PathBuf))))
                .arg(file("svg", "The shift, as a chart")),
        )
        .subcommand(
            Command::new("merge")
                .about("Saved runs of several machines as one, without loss")
                .arg(several)
                .arg(file("out", "Where to; - is standard output [default: -]").short('o')),
        )
        .subcommand(bench::command::command())
        .subcommand(
            Command::new("selfcheck").about("Measure servers that delay as scripted, and compare").arg(unoptimised),
        )
        .subcommand(gate::cli::command())
}

const AFTER: &str = "Without --rate or --ramp it is a closed loop: each connection sends when it has its answer. \
Exit codes: 0 ok, 1 the run failed, 2 usage, 3 an SLO breached, 4 the run is invalid.";

/// Makes a run and reports it.
fn load(words: &[OsString], matches: &ArgMatches) -> Result<Exit, Stop> {
    let asked = cli::asked(words, matches);
    refuse_unoptimised(asked.unoptimised)?;
    let outputs = outputs(matches);
    outputs.check().map_err(usage)?;
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    let seed = asked.seed.unwrap_or(clock);
    let view = if matches.get_flag("quiet") { View::Nothing } else { View::of_stderr() };
    let run = if asked.find_max { find_max(&asked, seed, view)? } else { once(&asked, plan(&asked, seed)?, view)? };
    if !outputs.take_stdout() {
        print!("{}", summary(&run, &Style::of_stdout()));
    }
    report::save(&run, &outputs).map_err(|why| Stop(Exit::Failed, why))?;
    Ok(exit_of(&run))
}

/// An invalid run says nothing about its SLO.
fn exit_of(run: &Run) -> Exit {
    match &run.slo {
        _ if run.validity.is_invalid() => Exit::Invalid,
        Some(slo) if slo.outcome == Outcome::Breached => Exit::Breached,
        // Too few samples to say is no promise kept.
        Some(slo) if slo.outcome == Outcome::CannotSay => Exit::Invalid,
        _ => Exit::Ok,
    }
}

fn plan(asked: &Asked, seed: u64) -> Result<Plan, Stop> {
    let plan = prepare::plan(asked, seed).map_err(usage)?;
    // The kernel allows a ring no larger table of descriptors, and each thread has its own.
    let limit = ucaffeine::rt::net::raise_descriptor_limit();
    let needed = u64::from(plan.share(plan.connections, 0)) + SPARE_DESCRIPTORS;
    if needed > limit {
        let why = format!("{needed} descriptors a thread are needed, and `ulimit -Hn` is {limit} (EMFILE)");
        return Err(usage(format!("{why}: raise it, use fewer --conns, or more --threads")));
    }
    Ok(plan)
}

fn once(asked: &Asked, plan: Plan, view: View) -> Result<Run, Stop> {
    let ends = |bound: u64| Some(bound).filter(|bound| *bound != u64::MAX);
    let shown = progress::Plan {
        warmup_ns: plan.warmup_ns,
        duration_ns: ends(plan.bounds.duration_ns),
        requests: ends(plan.bounds.requests),
    };
    let about = About { words: asked.words.clone(), server_pid: asked.server_pid };
    let made = session::run(&Arc::new(plan), &about, |lives| Progress::start(lives, shown, view));
    let mut run = made.map_err(|failure| Stop(Exit::Failed, failure.to_string()))?;
    if asked.server_pid.is_some() && run.facts.server.is_none() {
        eprintln!(
            "loadgen: process {} could not be watched: it was not there all the time",
            asked.server_pid.unwrap_or(0)
        );
    }
    run.validity = judge(&run, asked.slo.is_some(), asked.errors_max);
    run.slo = asked.slo.as_ref().map(|slo| slo.evaluate(&run));
    Ok(run)
}

/// Searches, says what it finds on the way, and returns the run that confirmed it.
fn find_max(asked: &Asked, seed: u64, view: View) -> Result<Run, Stop> {
    let mut search = Search::from(FIND_FROM);
    let mut confirmed = None;
    loop {
        let (rate, longer) = match search.step() {
            Step::Try(rate) => (rate, 1),
            Step::Confirm(rate) => (rate, 2),
            Step::Done(answer) => {
                let found = answer.and(confirmed);
                return found
                    .ok_or_else(|| Stop(Exit::Breached, String::from("not even one request a second keeps the SLO")));
            }
        };
        let duration = asked.duration.unwrap_or(TRIAL_DEFAULT) * longer;
        let trial = Asked { duration: Some(duration), rate: Some(rate), ..asked.clone() };
        let plan = Plan { load: Load::Open(Rate { from: rate, to: rate }, asked.arrivals), ..plan(&trial, seed)? };
        let run = once(&trial, plan, View::Nothing)?;
        let held = exit_of(&run) == Exit::Ok;
        if view != View::Nothing {
            let why = run.slo.as_ref().map(|slo| format!("{}: {}", slo.word(), slo.details())).unwrap_or_default();
            let why = if run.validity.is_invalid() { run.validity.line() } else { why };
            eprintln!("{} {}: {why}", report::units::rate(rate), if held { "held" } else { "did not hold" });
        }
        confirmed = held.then_some(run);
        search.tell(held);
    }
}

fn diff(matches: &ArgMatches) -> Result<Exit, Stop> {
    let path = |name: &str| matches.get_one::<PathBuf>(name).cloned().unwrap_or_default();
    let chart = matches.get_one::<PathBuf>("svg").map(PathBuf::as_path);
    print(report::diff(&path("A"), &path("B"), chart.map(Path::new), &Style::of_stdout()))
}

fn compare(words: &[OsString], matches: &ArgMatches) -> Result<Exit, Stop> {
    let words = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let asked = bench::command::asked(words, matches);
    if asked.render.is_none() && !asked.list {
        refuse_unoptimised(matches.get_flag("unoptimised"))?;
    }
    match bench::run(&asked) {
        Ok(()) => Ok(Exit::Ok),
        Err(bench::Stop::Usage(why)) => Err(usage(why)),
        Err(bench::Stop::Failed(why)) => Err(Stop(Exit::Failed, why)),
    }
}

fn check_self(unoptimised: bool) -> Result<Exit, Stop> {
    refuse_unoptimised(unoptimised)?;
    let findings = selfcheck::run().map_err(|why| Stop(Exit::Failed, why))?;
    findings.iter().for_each(|finding| println!("{finding}"));
    Ok(if findings.iter().all(|finding| finding.holds()) { Exit::Ok } else { Exit::Invalid })
}

fn gated(ended: Ended) -> Result<Exit, Stop> {
    match ended {
        Ended::Pass => Ok(Exit::Ok),
        Ended::Regression => Ok(Exit::Breached),
        Ended::Failed(why) => Err(Stop(Exit::Failed, why)),
        Ended::Usage(why) => Err(Stop(Exit::Usage, why)),
        Ended::Invalid(why) => Err(Stop(Exit::Invalid, format!("INVALID: {why}"))),
    }
}

/// Numbers of a debug build are those of the debug build.
fn refuse_unoptimised(anyway: bool) -> Result<(), Stop> {
    if cfg!(debug_assertions) && !anyway {
        return Err(usage(String::from(
            "this is a debug build, whose rates mean nothing: use `cargo run --release -p loadgen`",
        )));
    }
    Ok(())
}

fn print(text: Result<String, String>) -> Result<Exit, Stop> {
    print!("{}", text.map_err(|why| Stop(Exit::Failed, why))?);
    Ok(Exit::Ok)
}

fn usage(why: String) -> Stop {
    Stop(Exit::Usage, why)
}

fn files(matches: &ArgMatches) -> Vec<PathBuf> {
    matches.get_many("FILE").into_iter().flatten().cloned().collect()
}

fn outputs(matches: &ArgMatches) -> Outputs {
    let path = |name: &str| matches.get_one::<PathBuf>(name).cloned();
    Outputs { json: path("json"), hgrm: path("hgrm"), hlog: path("hlog"), csv: path("csv"), svg: path("svg") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn a_url_and_subcommands_do_not_get_in_each_others_way() {
        let read = |words: &[&str]| command().try_get_matches_from(["loadgen"].iter().chain(words));
        assert_eq!(read(&["http://x/"]).unwrap().subcommand_name(), None);
        assert_eq!(read(&["show", "a.json"]).unwrap().subcommand_name(), Some("show"));
        assert_eq!(read(&["diff", "a", "b"]).unwrap().subcommand_name(), Some("diff"));
        assert!(read(&["diff", "a"]).is_err());
        assert!(read(&["merge"]).is_err());
    }
}
