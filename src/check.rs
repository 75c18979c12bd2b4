//! `ucaffeine check`: whether a start with these flags, this file and this environment would succeed, said without a start.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use ucaffeine::serve;

use crate::cli::{self, Action, Typed};
use crate::config::{Config, one_line};
use crate::{EXIT_CONFIGURATION, Level, answered, complain, explain, print, run};

/// The first argument that means this.
pub(crate) const VERB: &str = "check";

/// Says what is wrong, one line each, `FILE:LINE:COLUMN: what` where it stands in a file; or that nothing is. With `--explain`, what
/// the settings come to, too.
pub(crate) fn main(arguments: impl Iterator<Item = OsString>, level: &Level) -> ExitCode {
    let typed = match cli::parse(std::iter::once(OsString::from("ucaffeine")).chain(arguments)) {
        Ok(typed) => typed,
        Err(answer) => return answered(&answer),
    };
    let json = match typed.action {
        Action::Run => None,
        Action::Explain { json } => Some(json),
        _ => {
            let why = "check takes the flags that a server is started with, and --explain";
            return answered(&cli::command().error(clap::error::ErrorKind::InvalidValue, why));
        }
    };
    let environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    // An instance is looked at as --explain does it: its name stays free.
    let typed = Typed { action: Action::Explain { json: false }, ..typed };
    let instance = match run::instance(&typed, &environment, None) {
        Ok(instance) => instance,
        Err(failed) => return complain(&failed),
    };
    let defaults = instance.as_ref().map(run::Instance::defaults).unwrap_or_default();
    let config = match Config::resolve(typed.flags, typed.file, &environment, defaults) {
        Ok(config) => config,
        Err(problems) => return wrong(problems.iter().map(ToString::to_string)),
    };
    // Fails only when there is no subscriber any more.
    let _ = level.reload(config.log_level);
    let problems = serve::check(&config.options);
    if !problems.is_empty() {
        return wrong(problems.iter().map(|problem| one_line(&problem.to_string())));
    }
    match json {
        Some(json) => explain(&config, json),
        None => {
            let hosts = config.options.sites.iter().filter(|site| !site.names.is_empty()).count();
            let hosts = if hosts == 0 { String::new() } else { format!(", and {hosts} hosts besides") };
            let root = config.options.sites.first().map(|site| site.root.display().to_string()).unwrap_or_default();
            print(&format!("good: it would serve {}{hosts}\n", one_line(&root)));
            ExitCode::SUCCESS
        }
    }
}

/// A start would fail, whatever the exit code that it would fail with.
fn wrong(problems: impl Iterator<Item = String>) -> ExitCode {
    for problem in problems {
        let _ = writeln!(std::io::stderr(), "{problem}");
    }
    EXIT_CONFIGURATION.into()
}
