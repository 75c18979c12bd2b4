//! The `ucaffeine` binary: what was typed, what it means, run, exit code.
#![forbid(unsafe_code)]

mod banner;
mod cli;
mod config;

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use ucaffeine::rt::cpu::{self, CpuFacts};

use banner::{Explained, Look, Started};
use config::{Config, Problem, ProblemKind};

const EXIT_USAGE: u8 = 2;
const EXIT_CONFIGURATION: u8 = 3;

fn main() -> ExitCode {
    let typed = match cli::parse(std::env::args_os()) {
        Ok(typed) => typed,
        Err(answer) => return answered(&answer),
    };
    let environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    match Config::resolve(typed.flags, typed.file, &environment) {
        Err(problems) => refused(&problems),
        Ok(config) if typed.explain => explain(&config),
        Ok(config) => run(config),
    }
}

/// The part to fill in: bind, start the cores, print the banner, wait for the signal, drain.
fn run(config: Config) -> ExitCode {
    let cpus = cpu::plan(&CpuFacts::read(), config.options.cores);
    let look = if std::io::stdout().is_terminal() { Look::Terminal } else { Look::Plain };
    let engine = config.options.engine.to_string();
    let facts = Started { listen: &config.options.listen, options: &config.options, cpus: &cpus, engine: &engine };
    print(&banner::started(&facts, look));
    ExitCode::SUCCESS
}

fn explain(config: &Config) -> ExitCode {
    let cpus = cpu::plan(&CpuFacts::read(), config.options.cores);
    let asked = [(String::from("asked for"), config.options.engine.to_string())];
    let facts = Explained {
        options: &config.options,
        cpus: &cpus,
        capabilities: &asked,
        memlock: &[],
        settled: &config.settled,
    };
    print(&banner::explain(&facts));
    ExitCode::SUCCESS
}

/// `--help` and `--version` are answers too, and 0.
fn answered(answer: &clap::Error) -> ExitCode {
    // Nobody is left to tell when the terminal is gone.
    let _ = answer.print();
    u8::try_from(answer.exit_code()).unwrap_or(EXIT_USAGE).into()
}

fn refused(problems: &[Problem]) -> ExitCode {
    for problem in problems {
        let _ = writeln!(std::io::stderr(), "ucaffeine: {problem}");
    }
    match problems.iter().any(|problem| problem.kind == ProblemKind::Usage) {
        true => EXIT_USAGE.into(),
        false => EXIT_CONFIGURATION.into(),
    }
}

/// `ucaffeine --explain | head` closes the pipe early; that is no error.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
