//! The `ucaffeine` binary: what was typed, what it means, run, exit code.
#![forbid(unsafe_code)]

mod banner;
mod cli;
mod config;
mod log;
mod rehearse;

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use ucaffeine::rt;
use ucaffeine::rt::confine;
use ucaffeine::rt::cpu::{self, CpuFacts};
use ucaffeine::rt::process::orphans;
use ucaffeine::rt::signal::{Signal, Signals};
use ucaffeine::serve::{Server, StartError};

use banner::{Explained, Look, Started};
use config::{Config, Problem, ProblemKind};

const EXIT_USAGE: u8 = 2;
const EXIT_CONFIGURATION: u8 = 3;
const EXIT_BIND: u8 = 4;
const EXIT_ENGINE: u8 = 5;

fn main() -> ExitCode {
    // Before anything else: this process is to become a script.
    if std::env::args_os().nth(1).is_some_and(|verb| verb == confine::VERB) {
        return confine::main(std::env::args_os().skip(2));
    }
    let colour = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_writer(log::Log).with_ansi(colour).with_target(false).init();
    if std::env::args_os().nth(1).is_some_and(|verb| verb == rehearse::VERB) {
        return rehearsed();
    }
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

/// Runs one script, and serves nothing.
fn rehearsed() -> ExitCode {
    let rehearsal = match rehearse::parse(std::env::args_os().skip(2)) {
        Ok(rehearsal) => rehearsal,
        Err(answer) => return answered(&answer),
    };
    let environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let server = &rehearsal.server;
    let config = match Config::resolve(server.flags.clone(), server.file.clone(), &environment) {
        Ok(config) => config,
        Err(problems) => return refused(&problems),
    };
    match rehearse::run(config.options, &rehearsal) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => failed(&error.to_string(), exit_code(&error).into()),
    }
}

/// Binds, starts the cores, says so, waits for the signal, drains.
fn run(config: Config) -> ExitCode {
    // Before any thread exists, so that all of them inherit the mask and the signals come to us.
    let signals = match Signals::new(&[Signal::INT, Signal::TERM]) {
        Ok(signals) => signals,
        Err(error) => return failed(&format!("cannot wait for signals: {error}"), ExitCode::FAILURE),
    };
    log::start();
    let has_scripts = config.options.sites.iter().any(|site| !site.mounts.is_empty());
    if has_scripts && let Err(error) = orphans::become_subreaper() {
        tracing::warn!(%error, "what scripts leave behind goes to init");
    }
    let server = match Server::start(config.options.clone()) {
        Ok(server) => server,
        Err(error) => {
            log::finish();
            return failed(&error.to_string(), exit_code(&error).into());
        }
    };
    let look = if std::io::stdout().is_terminal() { Look::Terminal } else { Look::Plain };
    let facts = Started {
        listen: server.listening(),
        options: &config.options,
        cpus: server.plan(),
        engine: "uring (io_uring, one ring a core)",
    };
    print(&banner::started(&facts, look));
    wait(&signals, &server, has_scripts);
    drop(server);
    log::finish();
    ExitCode::SUCCESS
}

/// How often what scripts have left behind is looked for and reaped.
const ORPHANS_EVERY: Duration = Duration::from_secs(1);

/// From the first signal on the server drains, from the second it cuts; meanwhile, orphans are reaped.
fn wait(signals: &Signals, server: &Server, has_scripts: bool) {
    let (stopped, stopping) = std::sync::mpsc::channel::<()>();
    let stopper = server.stopper();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            server.wait_stopped();
            drop(stopped);
        });
        let mut signalled = false;
        loop {
            let every = if signalled { ORPHANS_EVERY / 20 } else { ORPHANS_EVERY };
            match signals.wait_timeout(every) {
                Ok(None) => {}
                Ok(Some(_)) if signalled => stopper.cut(),
                Ok(Some(_)) => {
                    signalled = true;
                    stopper.drain();
                }
                Err(error) => {
                    tracing::error!(%error, "cannot wait for signals: stopping");
                    return stopper.cut();
                }
            }
            if has_scripts {
                // NotFound: a kernel without CONFIG_PROC_CHILDREN; then orphans stay zombies until we end.
                let _ = orphans::reap(|_| false);
            }
            if stopping.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected) {
                return;
            }
        }
    });
}

fn exit_code(error: &StartError) -> u8 {
    match error {
        StartError::Bind { .. } => EXIT_BIND,
        StartError::Engine(_) | StartError::Uring(_) => EXIT_ENGINE,
        StartError::Site { .. } | StartError::Log { .. } | StartError::Bounds(_) => EXIT_CONFIGURATION,
        _ => 1,
    }
}

fn failed(why: &str, code: ExitCode) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "ucaffeine: {why}");
    code
}

fn explain(config: &Config) -> ExitCode {
    let cpus = cpu::plan(&CpuFacts::read(), config.options.cores);
    let mut capabilities = vec![("asked for".to_owned(), config.options.engine.to_string())];
    capabilities.extend(rt::capabilities());
    let facts = Explained {
        options: &config.options,
        cpus: &cpus,
        capabilities: &capabilities,
        memlock: &rt::memlock_plan(cpus.cores),
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
