//! The manual pages ucaffeine(1) and ucaffeine.toml(5), held to the command line and the settings that there are.

#[path = "../tests/roff/mod.rs"]
mod roff;

use std::collections::BTreeSet;
use std::path::Path;

use crate::cli;
use crate::config::{CONFIG_VARIABLE, Group, Kind, LIMITS, NONE, SETTINGS, Setting, Unit, is_pairs, key};
use crate::rehearse;
use roff::Page;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const CONFIGURATION: &str = include_str!("../docs/configuration.md");

#[test]
fn the_page_of_the_program_is_as_the_command_line_is() {
    program().hold(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ucaffeine.1"));
}

#[test]
fn the_page_of_the_file_is_as_the_settings_are() {
    file().hold(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ucaffeine.toml.5"));
}

/// What is written by hand must not name what does not exist.
#[test]
fn every_flag_that_the_text_names_exists() {
    let mut known: BTreeSet<String> = BTreeSet::from(["help".into(), "version".into()]);
    for command in [cli::command(), rehearse::command(), cli::top::command()] {
        let long = command.get_arguments().flat_map(|arg| arg.get_long_and_visible_aliases().unwrap_or_default());
        known.extend(long.map(str::to_owned));
    }
    for text in [DESCRIPTION, PROGRAMS, CHECK, INSTANCES, FILE_DESCRIPTION, EXAMPLES]
        .into_iter()
        .chain(SIGNALS.map(|(_, text)| text))
    {
        for flag in text.split("--").skip(1) {
            let name: String = flag.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            assert!(name.is_empty() || known.contains(&name), "--{name} is named, and does not exist");
        }
    }
}

fn program() -> Page {
    let mut page = Page::new("ucaffeine", 1, VERSION, "serve a folder over HTTP/1.1, and run the CGI programs in it")
        .section("SYNOPSIS")
        .text(SYNOPSIS)
        .section("DESCRIPTION")
        .text(DESCRIPTION)
        .section("OPTIONS")
        .text(VALUES)
        .options(&cli::command())
        .section("SUBCOMMANDS")
        .subcommands("ucaffeine", &cli::command())
        .subcommand("ucaffeine cgi-env URL-PATH [DIR] [FLAGS] [-- REQUEST]", &rehearse::command())
        .text(PROGRAMS)
        .subcommand("ucaffeine top -n NAME [FLAGS]", &cli::top::command())
        .section("CHECKING")
        .text(CHECK)
        .section("INSTANCES")
        .text(INSTANCES)
        .section("SIGNALS");
    page = SIGNALS.iter().fold(page, |page, (signal, meaning)| page.term(&format!("`{signal}`"), meaning));
    page = page.section("EXIT STATUS");
    page = EXIT_STATUS.iter().fold(page, |page, (code, meaning)| page.term(&format!("`{code}`"), meaning));
    page = page.section("ENVIRONMENT");
    page = ENVIRONMENT.iter().fold(page, |page, (name, meaning)| page.term(&format!("`{name}`"), meaning));
    page = page.section("FILES");
    page = FILES.iter().fold(page, |page, (path, meaning)| page.term(&format!("<{path}>"), meaning));
    page.section("EXAMPLES").text(EXAMPLES).section("SEE ALSO").text(SEE_ALSO)
}

fn file() -> Page {
    let mut page = Page::new("ucaffeine.toml", 5, VERSION, "settings of ucaffeine(1)")
        .section("SYNOPSIS")
        .text("`ucaffeine --config` <FILE>")
        .section("DESCRIPTION")
        .text(FILE_DESCRIPTION)
        .section("SETTINGS");
    for group in groups() {
        page = page.subsection(group.heading());
        for setting in SETTINGS.iter().filter(|setting| setting.group == group) {
            page = page.plain_term(&format!("`{}` = {}", key(setting.name), kind(setting)), &meaning(setting));
        }
        for limit in LIMITS.iter().filter(|limit| limit.group == group) {
            let kind = match limit.unit {
                Unit::Bytes | Unit::BytesPerSecond => "<size>",
                Unit::Millis => "<time>",
                Unit::Count => "<number>",
            };
            let or_none = if limit.optional() { format!(" or \"{NONE}\"") } else { String::new() };
            let default = match limit.default() {
                default if default.bytes().all(|byte| byte.is_ascii_digit()) => default,
                default => format!("\"{default}\""),
            };
            let meaning = format!("{}.\nDefault: {default}.", limit.help);
            page = page.plain_term(&format!("`{}` = {kind}{or_none}", key(limit.name)), &meaning);
        }
    }
    let example = CONFIGURATION.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap_or_default();
    page.section("EXAMPLE").example(example).section("SEE ALSO").text("`ucaffeine`(1)")
}

/// In the order of the help.
fn groups() -> Vec<Group> {
    let all = SETTINGS.iter().map(|setting| setting.group).chain(LIMITS.iter().map(|limit| limit.group));
    let mut groups: Vec<Group> = Vec::new();
    for group in all {
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups
}

fn kind(setting: &Setting) -> String {
    match setting.kind {
        Kind::Switch => String::from("true or false"),
        Kind::One(value) => format!("<{value}>"),
        Kind::Many(value) if is_pairs(setting.name) => format!("[ \"<{value}>\", ... ], or a table"),
        Kind::Many(value) | Kind::Lines(value) => format!("[ \"<{value}>\", ... ]"),
    }
}

fn meaning(setting: &Setting) -> String {
    let help = setting.help.strip_suffix("; may be repeated").unwrap_or(setting.help);
    let more = if setting.more.is_empty() { String::new() } else { format!("{}\n", setting.more) };
    format!("{help}.\n{more}Default: {}.", setting.default)
}

const SYNOPSIS: &str = "\
`ucaffeine` [<DIR>] [<flags>]

`ucaffeine` `-n` <NAME> {`-D` | `-s` | `-l` | `-d` <FILE|DIR> | `--rollback` | `--reload` | `--upgrade` | `--reset-logs` | `--reopen-logs`} [<flags>]

`ucaffeine` `-L` [`--json`]

`ucaffeine` `check` [<DIR>] [<flags>]

`ucaffeine` `top` `-n` <NAME> [<flags>]

`ucaffeine` `cgi-env` <URL-PATH> [<DIR>] [<flags>] [`--` <request>]";

const DESCRIPTION: &str = "\
`ucaffeine` serves the files below <DIR> over HTTP/1.1, and runs the programs in its <cgi-bin> folder as CGI/1.1 says (RFC 3875). \
It has one thread for each CPU that it may use, and each of them has an `io_uring`(7) and a listener of its own.

Without flags it serves the current folder at http://127.0.0.1:8080/, until SIGINT or SIGTERM.

Every setting has three names: the flag `--head-bytes-max` is the key <head_bytes_max> of the file that `--config` names, \
`ucaffeine.toml`(5), and the variable `UCAFFEINE_HEAD_BYTES_MAX`. \
A flag beats a variable, a variable the file, and the file the default; `--explain` prints what came of it, and where each value was said. \
Where a flag is given more than once and takes one value, the last one holds. \
Unknown flags, keys, and variables that begin with UCAFFEINE_ are errors.";

const VALUES: &str = "\
A <SIZE> is bytes, or a number with KiB, MiB, GiB or TiB. \
A <TIME> is milliseconds, or a number with ms, s, m or h. \
Limits whose default is none, and only those, may be set to none.";

const PROGRAMS: &str = "\
Nothing is listened on and nothing is served. The program's own standard error goes to standard error. \
It exits with 0 when a client would get the program's reply, and with 1 when it would get one of the server's own.";

const CHECK: &str = "\
`ucaffeine check` takes the flags of a server, says what would keep a start with them from succeeding, one line each, and starts nothing. \
It exits with 0, or with 3. Hosts, settings for some paths only, and passwords are said in the file of `--config`.";

const INSTANCES: &str = "\
A server with a name is an instance. `-D` starts it in the background and returns when it serves, or says why it does not, with the \
exit status that it would have had in the foreground. Unless it is told otherwise it serves its own folder, and has its own log, \
in which each request has a line.

Two instances of one name cannot run. A name is held by a lock that the kernel gives up when the process ends, however it does; \
what is left of one that was killed is cleaned up by the next command that meets it.

`-d` puts a file or folder into the instance's folder, in one step: a request is answered from what was there before, or from what is \
there then, and a running instance needs no restart. An executable file goes to <cgi-bin>, any other to the top, and a folder takes the \
place of everything, unless `--to` says otherwise. `--rollback` goes back to the release before.

`--reload` has it read its configuration again, without dropping a request; what needs a restart is named, and a configuration that is \
wrong changes nothing. `--upgrade` has a new process of the binary take its place, without refusing a connection.";

const SIGNALS: [(&str, &str); 5] = [
    (
        "SIGINT, SIGTERM",
        "The listeners close, and what is in flight may finish, for `--drain-ms-max` at most. A second one cuts what is left.",
    ),
    (
        "SIGHUP",
        "The configuration is read again, as with `--reload`. When the terminal that it was started at is closed, it stops instead.",
    ),
    (
        "SIGUSR1",
        "The logs are opened again, after they were moved away: the access log, and the log of an instance in the background.",
    ),
    ("SIGUSR2", "A new process of the binary takes its place, as with `--upgrade`."),
    (
        "SIGXFSZ",
        "Nothing: a log that has come to its limit of size (`setrlimit`(2)) is an error of that log, and serving goes on.",
    ),
];

const EXIT_STATUS: [(&str, &str); 6] = [
    ("0", "It was stopped as asked, or has answered."),
    ("1", "It was understood, and could not be done: no such instance, or one that runs already."),
    ("2", "Wrong usage: a flag that does not exist, or whose value cannot be read."),
    ("3", "Wrong configuration: a file, a variable, or something that is not there or not permitted."),
    ("4", "It cannot bind an address."),
    ("5", "The engine is not available: io_uring is missing, switched off, or forbidden."),
];

const ENVIRONMENT: [(&str, &str); 4] = [
    (
        "UCAFFEINE_*",
        "Every setting, by its name in capitals with underscores for dashes. An empty one says nothing. \
         A list separates its values by semicolons; those of UCAFFEINE_HEADER and UCAFFEINE_CACHE_CONTROL, which may hold semicolons, by line breaks.",
    ),
    (CONFIG_VARIABLE, "The file that `--config` would name."),
    ("XDG_CONFIG_HOME, XDG_STATE_HOME, XDG_RUNTIME_DIR, HOME", "Where instances have their folders; see FILES."),
    ("NO_COLOR", "If it is set and not empty, the log on a terminal has no colours."),
];

const FILES: [(&str, &str); 5] = [
    (
        "$XDG_CONFIG_HOME/ucaffeine/NAME",
        "What an instance serves; <~/.config/ucaffeine/NAME> where the variable is not set.",
    ),
    (
        "$XDG_CONFIG_HOME/ucaffeine/NAME/releases",
        "The last three deploys; <current> beside it leads to the one that is served.",
    ),
    (
        "$XDG_STATE_HOME/ucaffeine/instances/NAME/log",
        "The log of an instance in the background; for root below </var/lib/ucaffeine>.",
    ),
    (
        "$XDG_RUNTIME_DIR/ucaffeine/NAME",
        "Its lock, state and control socket, for its own user only; for root </run/ucaffeine/NAME>.",
    ),
    ("DIR/cgi-bin", "Programs; they are executed, and never served as files."),
];

const EXAMPLES: &str = "\
Files, and the programs in <./site/cgi-bin>, on port 8080; and the same for everybody, on port 80:

    ucaffeine ./site
    ucaffeine ./site -b 0.0.0.0 -p 80

Git repositories over HTTP:

    ucaffeine --cgi /git=/usr/lib/git-core/git-http-backend \\
              --cgi-env GIT_PROJECT_ROOT=/srv/git

An instance in the background, a program put into it, its log, and its end:

    ucaffeine -D -n api -p 8081
    ucaffeine -d hello.sh -n api
    ucaffeine -l -n api --follow
    ucaffeine -s -n api

A record of JSON for each request, in a file that logrotate moves away:

    ucaffeine ./site --access-log /var/log/ucaffeine.log --access-log-format json

What would be done here, and why:

    ucaffeine ./site --explain";

const SEE_ALSO: &str = "`ucaffeine.toml`(5), `loadgen`(1), `io_uring`(7), `logrotate`(8), RFC 9110, RFC 9112, RFC 3875";

const FILE_DESCRIPTION: &str = "\
The file that `ucaffeine --config` or `UCAFFEINE_CONFIG` names is TOML, of at most 1 MiB. Its keys are the flags of `ucaffeine`(1) \
without the dashes before them, and with underscores for those inside. A flag or a variable beats what the file says.

Paths are relative to the folder of the file. \
A <size> is a number of bytes, or a string as \"64KiB\"; a <time> is a number of milliseconds, or a string as \"10s\". \
An unknown key, a key that is there twice, and a value that cannot be read are errors, which name the line and the column.";
