//! The flags of `loadgen bench`, and what was typed as values.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::plan::SECONDS_MIN;

/// A comparison that was asked for: a field for each flag, by its name.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the help of each flag is in `command`")]
pub struct Asked {
    pub words: Vec<String>,
    pub add: Vec<PathBuf>,
    pub servers: Vec<String>,
    pub cells: Vec<String>,
    pub rounds: Option<u32>,
    pub seconds: Option<f64>,
    pub within: Option<Duration>,
    pub quick: bool,
    pub server_cpus: Option<Vec<usize>>,
    pub generator_cpus: Option<Vec<usize>>,
    pub question: String,
    pub out: Option<PathBuf>,
    pub seed: u64,
    pub resume: Option<PathBuf>,
    pub render: Option<PathBuf>,
    pub list: bool,
}

/// Five rounds are the fewest whose smallest and largest are an interval that says something.
const ROUNDS_DEFAULT: u32 = 5;
const ROUNDS_MAX: i64 = 1_000;

/// The subcommand.
#[must_use]
pub fn command() -> Command {
    let flag = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let list = |arg: Arg| arg.value_delimiter(',').action(ArgAction::Append);
    let cpus = |arg: Arg| arg.value_delimiter(',').value_parser(value_parser!(usize));
    let path = |arg: Arg| arg.value_parser(value_parser!(PathBuf));
    let what = [
        path(flag("add", "FILE", "More servers, in TOML: docs/bench.md").action(ArgAction::Append)),
        list(flag("servers", "NAMES", "Only these servers, as in ucaffeine,nginx [default: all that are known]")),
        list(flag("cells", "NAMES", "Only these cells [default: all]")),
        flag("rounds", "N", "How often everything is measured [default: 5; with --quick 3]")
            .value_parser(value_parser!(u32).range(1..ROUNDS_MAX)),
        flag("seconds", "S", "How long each measurement is [default: 5]").value_parser(seconds),
        flag("within", "MINUTES", "Make measurements as long as they can be for all to end within that time")
            .value_parser(minutes)
            .conflicts_with("seconds"),
        Arg::new("quick")
            .long("quick")
            .action(ArgAction::SetTrue)
            .help("Three rounds within ten minutes, unless other flags say otherwise: a first look, no evidence"),
    ];
    let place = [
        cpus(flag("server-cpus", "CPUS", "The servers' CPUs [default: 1, or the second that there is]")),
        cpus(flag("generator-cpus", "CPUS", "The generator's CPUs [default: 0, or the first that there is]")),
        flag("seed", "N", "What chance is made from").default_value("1").value_parser(value_parser!(u64)),
    ];
    let results = [
        flag("question", "NAME", "What is asked, for the folder's name").default_value("models").value_parser(question),
        path(flag("out", "DIR", "Where results go [default: results/DATE-HOST-QUESTION]")),
        path(flag("resume", "DIR", "Go on with what is in DIR: cells that are there are not measured again")),
        path(flag("render", "DIR", "Make tables, pictures and README of what is in DIR, and measure nothing")),
        Arg::new("list")
            .long("list")
            .action(ArgAction::SetTrue)
            .help("Say what would be measured, and measure nothing"),
    ];
    let unoptimised = Arg::new("unoptimised").long("unoptimised").action(ArgAction::SetTrue).hide(true);
    let under = |heading: &'static str| move |arg: Arg| arg.help_heading(heading);
    Command::new("bench")
        .about("Measure servers side by side: every model of this project, and others")
        .args(what.map(under("What")))
        .args(place.map(under("Where")))
        .args(results.map(under("Results")))
        .arg(unoptimised)
        .mut_arg("resume", |arg| {
            let narrow = ["add", "servers", "cells", "rounds", "seconds", "within", "quick", "server-cpus"];
            arg.conflicts_with_all(narrow).conflicts_with_all(["generator-cpus", "out", "render", "list"])
        })
        .mut_arg("render", |arg| arg.conflicts_with_all(["add", "servers", "cells", "rounds", "out", "list"]))
}

/// Takes it off the matches of [`command`].
#[must_use]
pub fn asked(words: Vec<String>, matches: &ArgMatches) -> Asked {
    fn many<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, name: &str) -> Vec<T> {
        matches.get_many(name).into_iter().flatten().cloned().collect()
    }
    fn some<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, name: &str) -> Option<Vec<T>> {
        Some(many(matches, name)).filter(|list| !list.is_empty())
    }
    let path = |name: &str| matches.get_one::<PathBuf>(name).cloned();
    Asked {
        words,
        add: many(matches, "add"),
        servers: many(matches, "servers"),
        cells: many(matches, "cells"),
        rounds: matches.get_one("rounds").copied(),
        seconds: matches.get_one("seconds").copied(),
        within: matches.get_one("within").copied(),
        quick: matches.get_flag("quick"),
        server_cpus: some(matches, "server-cpus"),
        generator_cpus: some(matches, "generator-cpus"),
        question: matches.get_one::<String>("question").cloned().unwrap_or_default(),
        out: path("out"),
        seed: matches.get_one("seed").copied().unwrap_or(1),
        resume: path("resume"),
        render: path("render"),
        list: matches.get_flag("list"),
    }
}

impl Asked {
    /// How often everything is measured.
    #[must_use]
    pub fn rounds(&self) -> u32 {
        let default = if self.quick { QUICK_ROUNDS } else { ROUNDS_DEFAULT };
        self.rounds.unwrap_or(default)
    }

    /// How long all of it may take, if that decides.
    #[must_use]
    pub fn time(&self) -> Option<Duration> {
        self.within.or_else(|| (self.quick && self.seconds.is_none()).then_some(QUICK_TIME))
    }
}

const QUICK_ROUNDS: u32 = 3;
const QUICK_TIME: Duration = Duration::from_secs(600);

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (SECONDS_MIN..=3_600.0).contains(&seconds) => Ok(seconds),
        _ => Err(format!("a number of seconds from {SECONDS_MIN} to 3600 is expected")),
    }
}

fn minutes(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(minutes) if minutes > 0.0 && minutes <= 10_000.0 => Ok(Duration::from_secs_f64(minutes * 60.0)),
        _ => Err(String::from("a number of minutes is expected")),
    }
}

fn question(text: &str) -> Result<String, String> {
    let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if plain { Ok(text.to_owned()) } else { Err(String::from("letters, digits, `-` and `_`")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Asked, clap::Error> {
        let matches = command().try_get_matches_from([&["bench"], words].concat())?;
        Ok(asked(Vec::new(), &matches))
    }

    #[test]
    fn the_command_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn lists_are_written_with_commas() {
        let asked =
            read(&["--servers", "a,b", "--cells", "close", "--server-cpus", "2,3", "--seconds", "0.5"]).unwrap();
        assert_eq!((asked.servers, asked.cells), (vec!["a".into(), "b".into()], vec![String::from("close")]));
        assert_eq!((asked.server_cpus, asked.generator_cpus, asked.seconds), (Some(vec![2, 3]), None, Some(0.5)));
    }

    #[test]
    fn quick_is_three_rounds_within_ten_minutes_unless_told_otherwise() {
        let of = |words: &[&str]| {
            let asked = read(words).unwrap();
            (asked.rounds(), asked.time().map(|time| time.as_secs()))
        };
        assert_eq!(of(&[]), (5, None));
        assert_eq!(of(&["--quick"]), (3, Some(600)));
        assert_eq!(of(&["--quick", "--rounds", "5", "--within", "40"]), (5, Some(2_400)));
        assert_eq!(of(&["--quick", "--seconds", "1"]), (3, None));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for words in [
            &["--seconds", "0.01"][..],
            &["--rounds", "0"],
            &["--within", "0"],
            &["--within", "5", "--seconds", "1"],
            &["--resume", "a", "--rounds", "3"],
            &["--resume", "a", "--render", "a"],
            &["--question", "a/b"],
            &["--server-cpus", "x"],
        ] {
            assert!(read(words).is_err(), "{words:?}");
        }
    }
}
