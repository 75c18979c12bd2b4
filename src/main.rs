//! The `ucaffeine` binary: what was typed, what it means, run, exit code.
#![forbid(unsafe_code)]

mod banner;
mod check;
mod cli;
mod config;
mod instance;
mod log;
#[cfg(test)]
mod manual;
mod rehearse;
mod run;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};
use ucaffeine::rt;
use ucaffeine::rt::confine;
use ucaffeine::rt::cpu::{self, CpuFacts};

use banner::Explained;
use cli::{Action, Typed};
use config::{Config, Layer, Problem, ProblemKind};
use instance::{Deploy, Failed, Folders};

const EXIT_USAGE: u8 = 2;
const EXIT_CONFIGURATION: u8 = 3;
const EXIT_BIND: u8 = 4;

/// Changes how much is logged.
type Level = reload::Handle<LevelFilter, Registry>;

fn main() -> ExitCode {
    // Before anything else: this process is to become a script.
    if std::env::args_os().nth(1).is_some_and(|verb| verb == confine::VERB) {
        return confine::main(std::env::args_os().skip(2));
    }
    let level = log_to_stderr();
    if std::env::args_os().nth(1).is_some_and(|verb| verb == rehearse::VERB) {
        return rehearsed();
    }
    if std::env::args_os().nth(1).is_some_and(|verb| verb == check::VERB) {
        return check::main(std::env::args_os().skip(2), &level);
    }
    if std::env::args_os().nth(1).is_some_and(|verb| verb == cli::top::VERB) {
        return top();
    }
    let typed = match cli::parse(std::env::args_os()) {
        Ok(typed) => typed,
        Err(answer) => return answered(&answer),
    };
    let environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    match typed.action {
        Action::Run | Action::Explain { .. } | Action::InBackground { .. } => serve(typed, &environment, &level),
        Action::Completions(shell) => {
            clap_complete::generate(shell, &mut cli::command(), "ucaffeine", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
        _ => match Folders::find(&environment).map_err(Failed::new).and_then(|folders| control(&typed, &folders)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failed) => complain(&failed),
        },
    }
}

/// Standard error is the log: of a terminal, of a service manager, or, in the background, the file that stands there.
fn log_to_stderr() -> Level {
    use std::io::IsTerminal;
    let (filter, level) = reload::Layer::new(LevelFilter::INFO);
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let lines = tracing_subscriber::fmt::layer();
    let lines = lines.event_format(log::format::Lines).with_writer(log::Log).with_ansi(colour);
    tracing_subscriber::registry().with(filter).with(lines).init();
    level
}

/// Serves, or says what that would be like.
fn serve(typed: Typed, environment: &[(OsString, OsString)], level: &Level) -> ExitCode {
    if let Action::Explain { json } = typed.action {
        return match configure(typed, environment, None) {
            Ok((config, _)) => explain(&config, json),
            Err(Unfit::Failed(failed)) => complain(&failed),
            Err(Unfit::Problems(problems)) => refused(&problems),
        };
    }
    let mut arrival = match run::Arrival::find(environment) {
        Ok(arrival) => arrival,
        Err(failed) => return complain(&failed),
    };
    let served = configure(typed, environment, Some(&mut arrival)).and_then(|(config, instance)| {
        // Fails only when there is no subscriber any more.
        let _ = level.reload(config.log_level);
        log::format::set(config.log_form);
        run::run(config, instance, level, &mut arrival).map_err(Unfit::Failed)
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(Unfit::Failed(failed)) => {
            arrival.failed(&failed.why);
            complain(&failed)
        }
        Err(Unfit::Problems(problems)) => {
            arrival.failed(&problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; "));
            refused(&problems)
        }
    }
}

/// Why there is nothing to serve.
enum Unfit {
    Failed(Failed),
    Problems(Vec<Problem>),
}

fn configure(
    typed: Typed,
    environment: &[(OsString, OsString)],
    arrival: Option<&mut run::Arrival>,
) -> Result<(Config, Option<run::Instance>), Unfit> {
    let instance = run::instance(&typed, environment, arrival).map_err(Unfit::Failed)?;
    let defaults = instance.as_ref().map(run::Instance::defaults).unwrap_or_default();
    let mut config = Config::resolve(typed.flags, typed.file, environment, defaults).map_err(Unfit::Problems)?;
    config.options.inject = typed.inject;
    Ok((config, instance))
}

/// Runs one script, and serves nothing.
fn rehearsed() -> ExitCode {
    let rehearsal = match rehearse::parse(std::env::args_os().skip(2)) {
        Ok(rehearsal) => rehearsal,
        Err(answer) => return answered(&answer),
    };
    let environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let server = &rehearsal.server;
    let config = match Config::resolve(server.flags.clone(), server.file.clone(), &environment, Layer::default()) {
        Ok(config) => config,
        Err(problems) => return refused(&problems),
    };
    match rehearse::run(config.options, &rehearsal) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => complain(&Failed { code: run::exit_code(&error), why: error.to_string() }),
    }
}

/// Watches an instance, and serves nothing.
fn top() -> ExitCode {
    let typed = match cli::top::parse(std::env::args_os().skip(2)) {
        Ok(typed) => typed,
        Err(answer) => return answered(&answer),
    };
    let environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let watched = Folders::find(&environment).map_err(Failed::new).and_then(|folders| {
        let name = typed.name.as_deref().map(run::name).transpose()?;
        instance::watch(&folders, name, typed.show, typed.every)
    });
    match watched {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => complain(&failed),
    }
}

/// Everything about instances but serving as one.
fn control(typed: &Typed, folders: &Folders) -> Result<(), Failed> {
    let name = || run::name(typed.name.as_deref().unwrap_or_default());
    match &typed.action {
        Action::Daemon => {
            use std::io::IsTerminal;
            let look = if std::io::stdout().is_terminal() { "terminal" } else { "plain" };
            instance::daemon::start(folders, &name()?, look)
        }
        Action::Stop { timeout } => instance::stop(folders, &name()?, *timeout).map(|said| print(&format!("{said}\n"))),
        Action::List { json } => instance::list(folders, *json).map(|text| print(&text)),
        Action::Log { follow } => {
            let name = name()?;
            if let Some(given) = typed.flags.last("log-level") {
                instance::set_level(folders, &name, &given.text.to_string_lossy())?;
            }
            instance::show_log(folders, &name, *follow, &mut std::io::stdout())
        }
        Action::ResetLogs => instance::reset_log(folders, &name()?),
        Action::ReopenLogs => instance::reopen_log(folders, &name()?),
        Action::Deploy { what, to } => {
            let order = Deploy { what: what.into(), to: to.clone() };
            instance::deploy(folders, &name()?, &order).map(|said| print(&said))
        }
        Action::Rollback => instance::rollback(folders, &name()?).map(|said| print(&said)),
        Action::Reload => instance::reload(folders, &name()?, EXIT_CONFIGURATION).map(|said| print(&said)),
        Action::Upgrade => instance::upgrade(folders, &name()?).map(|said| print(&said)),
        Action::Run | Action::Explain { .. } | Action::InBackground { .. } | Action::Completions(_) => Ok(()),
    }
}

fn explain(config: &Config, json: bool) -> ExitCode {
    let cpus = cpu::plan(&CpuFacts::read(), config.options.cores);
    let mut capabilities = vec![("asked for".to_owned(), config.options.engine.to_string())];
    capabilities.extend(rt::capabilities());
    let facts = Explained {
        options: &config.options,
        cpus: &cpus,
        capabilities: &capabilities,
        memlock: &rt::memlock_plan(cpus.cores),
        settled: &config.settled,
        parts: &config.parts,
    };
    print(&if json { banner::explain_json(&facts) } else { banner::explain(&facts) });
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

/// One line of our own; what an instance said that did not start is as it said it.
fn complain(failed: &Failed) -> ExitCode {
    let _ = match failed.why.strip_suffix('\n') {
        Some(said) => writeln!(std::io::stderr(), "{said}"),
        None => writeln!(std::io::stderr(), "ucaffeine: {}", config::one_line(&failed.why)),
    };
    failed.code.into()
}

/// `ucaffeine --explain | head` closes the pipe early; that is no error.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
