//! The flags that start, watch and stop instances. They are what to do, not how to serve: none has a key or a variable.

use std::ffi::OsString;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, value_parser};

use crate::config::Unit;

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Serve, here.
    Run,
    /// `--explain`.
    Explain { json: bool },
    /// `--daemon`: serve in the background.
    Daemon,
    /// What `--daemon` starts; whether a terminal will show what it says.
    InBackground { terminal: bool },
    /// `--stop`.
    Stop { timeout: Duration },
    /// `--list-instances`.
    List { json: bool },
    /// `--log`.
    Log { follow: bool },
    /// `--reset-logs`.
    ResetLogs,
    /// `--reopen-logs`.
    ReopenLogs,
    /// `--deploy`.
    Deploy { what: OsString, to: Option<OsString> },
    /// `--rollback`.
    Rollback,
    /// `--reload`.
    Reload,
    /// `--upgrade`.
    Upgrade,
    /// `--completions`, which is hidden: for a shell.
    Completions(clap_complete::Shell),
}

const HEADING: &str = "Instances";
/// The flags of which one may be given.
const ACTIONS: [&str; 12] = [
    "explain",
    "daemon",
    "stop",
    "list-instances",
    "log",
    "reset-logs",
    "reopen-logs",
    "deploy",
    "rollback",
    "completions",
    "reload",
    "upgrade",
];
/// Those that are about one instance.
const NAMED: [&str; 9] =
    ["daemon", "stop", "log", "reset-logs", "reopen-logs", "deploy", "rollback", "reload", "upgrade"];
/// What an instance has to drain when it is stopped.
const TIMEOUT_DEFAULT: &str = "30s";

/// What was typed. `--explain` is known already.
pub(super) fn action(matches: &ArgMatches) -> Action {
    let os = |name: &str| matches.get_one::<OsString>(name).cloned();
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    if let Some(look) = text(crate::instance::daemon::FLAG) {
        return Action::InBackground { terminal: look == "terminal" };
    }
    if let Some(what) = os("deploy") {
        return Action::Deploy { what, to: os("to") };
    }
    if let Some(&shell) = matches.get_one::<clap_complete::Shell>("completions") {
        return Action::Completions(shell);
    }
    type Meant = fn(&ArgMatches) -> Action;
    let flags: [(&str, Meant); 10] = [
        ("explain", |matches| Action::Explain { json: matches.get_flag("json") }),
        ("daemon", |_| Action::Daemon),
        ("stop", |matches| Action::Stop { timeout: matches.get_one("timeout").copied().unwrap_or_default() }),
        ("list-instances", |matches| Action::List { json: matches.get_flag("json") }),
        ("log", |matches| Action::Log { follow: matches.get_flag("follow") }),
        ("reset-logs", |_| Action::ResetLogs),
        ("reopen-logs", |_| Action::ReopenLogs),
        ("rollback", |_| Action::Rollback),
        ("reload", |_| Action::Reload),
        ("upgrade", |_| Action::Upgrade),
    ];
    flags.iter().find(|(name, _)| matches.get_flag(name)).map_or(Action::Run, |(_, action)| action(matches))
}

/// The flags, in the order of the help.
pub(super) fn add(command: Command) -> Command {
    let switch = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help).help_heading(HEADING)
    };
    let value = |name: &'static str, placeholder: &'static str, help: &'static str| {
        let arg = Arg::new(name).long(name).value_name(placeholder).value_parser(value_parser!(OsString));
        arg.help(help).help_heading(HEADING)
    };
    let command = command
        .arg(
            value(
                "name",
                "NAME",
                "Give the server a name, to find and stop it by; its folder is ~/.config/ucaffeine/NAME",
            )
            .short('n'),
        )
        .arg(switch("daemon", "Start in the background; returns when it serves, or says why it does not").short('D'))
        .arg(switch("stop", "Stop the instance: drain it, and wait until it has ended").short('s'))
        .arg(
            value("timeout", "TIME", "How long --stop lets it drain; what is left is cut [default: 30s]")
                .default_value(TIMEOUT_DEFAULT)
                .hide_default_value(true)
                .value_parser(|text: &str| Unit::Millis.parse(text).map(Duration::from_millis)),
        )
        .arg(switch("list-instances", "List what runs").short('L'))
        .arg(switch("json", "Say it as JSON: --list-instances, --explain").requires("as-json"))
        .arg(
            switch("log", "Show the log of an instance in the background; with --log-level, change its level")
                .short('l'),
        )
        .arg(switch("follow", "Go on showing what comes").requires("log"))
        .arg(switch("reset-logs", "Empty the log; also while it is written"))
        .arg(switch("reopen-logs", "Open the logs again, after they were moved away; as SIGUSR1"))
        .arg(value("deploy", "FILE|DIR", "Put a file or folder into the instance's folder, in one step").short('d'))
        .arg(
            value("to", "SUBPATH", "Where --deploy puts it [default: a program in cgi-bin/, a folder in place of all]")
                .requires("deploy"),
        )
        .arg(switch("rollback", "Go back to what was served before the last deploy"))
        .arg(switch("reload", "Have the instance read its configuration again, without dropping a request"))
        .arg(switch(
            "upgrade",
            "Have a new process of the binary take the instance's place, without refusing a connection",
        ))
        .arg(Arg::new("completions").long("completions").value_parser(value_parser!(clap_complete::Shell)).hide(true))
        .arg(
            Arg::new(crate::instance::daemon::FLAG)
                .long(crate::instance::daemon::FLAG)
                .value_parser(PossibleValuesParser::new(["plain", "terminal"]))
                .requires("name")
                .hide(true),
        )
        .group(ArgGroup::new("action").args(ACTIONS))
        .group(ArgGroup::new("as-json").args(["list-instances", "explain"]).multiple(true));
    NAMED.iter().fold(command, |command, name| command.mut_arg(name, |arg| arg.requires("name")))
}
