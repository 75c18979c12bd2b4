//! What was typed. The flags and their help follow from the tables in [`config`](crate::config); nothing is judged here.

mod instances;

use std::ffi::OsString;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::config::{CONFIG_VARIABLE, Given, Group, Kind, LIMITS, Layer, Limit, NONE, Origin, SETTINGS, Setting};

pub(crate) use instances::Action;

/// The command line, as it was typed.
#[derive(Debug)]
pub(crate) struct Typed {
    pub(crate) flags: Layer,
    /// `--config`.
    pub(crate) file: Option<Given>,
    /// `--name`.
    pub(crate) name: Option<OsString>,
    pub(crate) action: Action,
}

/// Reads the command line; the error is also how `--help` and `--version` answer.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Typed, clap::Error> {
    let matches = command().try_get_matches_from(arguments)?;
    let mut flags = Layer::default();
    take(&matches, DIR, "path", &mut flags);
    for setting in SETTINGS {
        match setting.kind {
            Kind::One(_) | Kind::Many(_) | Kind::Lines(_) => take(&matches, setting.name, setting.name, &mut flags),
            Kind::Switch if matches.get_flag(setting.name) => {
                flags.add(setting.name, given(setting.name, "true".into()))
            }
            Kind::Switch => {}
        }
    }
    for limit in LIMITS {
        take(&matches, limit.name, limit.name, &mut flags);
    }
    let file = matches.get_one::<OsString>("config").map(|text| given("config", text.clone()));
    let name = matches.get_one::<OsString>("name").cloned();
    Ok(Typed { flags, file, name, action: instances::action(&matches) })
}

/// The positional argument; another spelling of `--path`.
const DIR: &str = "DIR";

fn take(matches: &ArgMatches, typed: &str, name: &'static str, flags: &mut Layer) {
    for text in matches.get_many::<OsString>(typed).into_iter().flatten() {
        flags.add(name, given(typed, text.clone()));
    }
}

fn given(typed: &str, text: OsString) -> Given {
    let flag = if typed == DIR { DIR.to_owned() } else { format!("--{typed}") };
    Given { text, origin: Origin::Flag(flag) }
}

/// The command line that is understood.
pub(crate) fn command() -> Command {
    let serving = Group::Serving.heading();
    let command = Command::new("ucaffeine")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Serves a folder over HTTP/1.1, and runs the CGI programs in it: one pinned thread per core.")
        .override_usage("ucaffeine [DIR] [FLAGS]")
        .max_term_width(100)
        // The last one wins, so that a wrapper's flags can be corrected by appending.
        .args_override_self(true)
        .after_help(AFTER_SHORT)
        .after_long_help(AFTER_LONG)
        .arg(
            Arg::new(DIR)
                .value_parser(value_parser!(OsString))
                .conflicts_with("path")
                .help("The folder to serve [default: the current folder]"),
        )
        .args(SETTINGS.iter().filter(|setting| setting.group == Group::Serving).map(setting_arg))
        .arg(
            Arg::new("config")
                .long("config")
                .short('c')
                .value_name("FILE")
                .value_parser(value_parser!(OsString))
                .help(format!("Read settings from this TOML file [variable: {CONFIG_VARIABLE}]"))
                .help_heading(serving),
        )
        .arg(
            Arg::new("explain")
                .long("explain")
                .action(ArgAction::SetTrue)
                .help("Say what would be done and why: CPUs, engine, every setting and limit; then exit")
                .help_heading(serving),
        );
    instances::add(command)
        .args(SETTINGS.iter().filter(|setting| setting.group != Group::Serving).map(setting_arg))
        .args(LIMITS.iter().map(limit_arg))
        .mut_arg("no-cgi", |arg| arg.conflicts_with("cgi"))
}

fn setting_arg(setting: &'static Setting) -> Arg {
    let default = match setting.kind {
        Kind::Switch => String::new(),
        Kind::One(_) | Kind::Many(_) | Kind::Lines(_) => format!(" [default: {}]", setting.default),
    };
    let arg = Arg::new(setting.name)
        .long(setting.name)
        .help(format!("{}{default}", setting.help))
        .help_heading(setting.group.heading());
    let arg = match setting.more {
        "" => arg,
        more => arg.long_help(format!("{}{default}\n{more}", setting.help)),
    };
    let arg = match setting.kind {
        Kind::Switch => arg.action(ArgAction::SetTrue),
        Kind::One(value) => arg.value_name(value).value_parser(value_parser!(OsString)),
        Kind::Many(value) | Kind::Lines(value) => {
            arg.value_name(value).value_parser(value_parser!(OsString)).action(ArgAction::Append)
        }
    };
    let arg = setting.short.into_iter().fold(arg, Arg::short);
    setting.alias.into_iter().fold(arg, Arg::visible_alias)
}

fn limit_arg(limit: &'static Limit) -> Arg {
    let or_none = if limit.optional() && limit.default() != NONE { " (or none)" } else { "" };
    Arg::new(limit.name)
        .long(limit.name)
        .value_name(limit.unit.placeholder())
        .value_parser(value_parser!(OsString))
        .help(format!("{} [default: {}]{or_none}", limit.help, limit.default()))
        .help_heading(limit.group.heading())
        .hide_short_help(true)
}

const AFTER_SHORT: &str = "\
Examples:
  ucaffeine ./site                    files, and the programs in ./site/cgi-bin, on port 8080
  ucaffeine ./site -b 0.0.0.0 -p 80   the same, for everybody
  ucaffeine -D -n api -p 8081         in the background; -L lists, -s -n api stops it
  ucaffeine --explain                 what would be done here, and why

--help tells about every limit.";

const AFTER_LONG: &str = "\
Examples:
  ucaffeine ./site                    files, and the programs in ./site/cgi-bin, on port 8080
  ucaffeine ./site -b 0.0.0.0 -p 80   the same, for everybody
  ucaffeine --explain                 what would be done here, and why
  ucaffeine check -c site.toml        whether a start with these settings would succeed
  ucaffeine --cgi /git=/usr/lib/git-core/git-http-backend \\
            --cgi-env GIT_PROJECT_ROOT=/srv/git

Instances:
  ucaffeine -D -n api -p 8081         start one in the background; it serves ~/.config/ucaffeine/api
  ucaffeine -d hello.sh -n api        put a program there; it says the URL
  ucaffeine -L                        what runs
  ucaffeine -l -n api --follow        its log
  ucaffeine -s -n api                 drain and stop it

Values:
  SIZE is bytes, or a number with KiB, MiB or GiB (64KiB).
  TIME is milliseconds, or a number with ms, s, m or h (10s).
  Limits whose default is none, and only those, may be set to none.

Three names for everything:
  The flag --head-bytes-max is the key head_bytes_max in a TOML file and the variable
  UCAFFEINE_HEAD_BYTES_MAX. A flag beats a variable, and a variable beats the file. A variable
  that holds a list separates its values by semicolons, or by line breaks where values may hold
  semicolons (HEADER, CACHE_CONTROL). Unknown keys, and unknown variables that begin with
  UCAFFEINE_, are errors.

Stopping:
  SIGINT (Ctrl-C) or SIGTERM closes the listeners and lets what is in flight finish, for at
  most --drain-ms-max; a second one ends it at once.

Changing:
  SIGHUP, or --reload for an instance, reads the configuration again; SIGUSR2, or --upgrade, has a
  new process of the binary take over. Neither drops a request.

Exit codes:
  0 stopped as asked, 1 it failed (no such instance, ...), 2 wrong usage, 3 wrong configuration, 4 cannot bind,
  5 engine unavailable";

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../docs/configuration.md");
    const INSTANCES: &str = include_str!("../docs/instances.md");
    const MAN: &str = include_str!("../docs/ucaffeine.1");

    #[test]
    fn the_command_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn the_documentation_has_every_limit_as_it_is() {
        for limit in LIMITS {
            let (name, placeholder, default) = (limit.name, limit.unit.placeholder(), limit.default());
            let row = format!("| `--{name} {placeholder}` | {default} | {} |\n", limit.help);
            assert!(PAGE.contains(&row), "docs/configuration.md lacks: {row}");
            let roff = |text: &str| text.replace('-', "\\-");
            let entry =
                format!("\\-\\-{} \" {placeholder}\"\n{}\n[default: {default}].\n", roff(name), roff(limit.help));
            assert!(MAN.contains(&entry), "docs/ucaffeine.1 lacks: {entry}");
        }
    }

    #[test]
    fn the_documentation_has_every_other_setting() {
        for setting in SETTINGS {
            let short = setting.short.map_or_else(String::new, |short| format!("`-{short}`, "));
            let documents = |line: &&str| {
                let has_flag = line.contains(&format!("`--{}", setting.name)) && line.contains(&short);
                has_flag && line.replace('`', "").contains(&format!("| {} |", setting.default))
            };
            assert!(PAGE.lines().any(|line| documents(&line)), "docs/configuration.md lacks --{}", setting.name);
            let man = format!("\\-\\-{}", setting.name.replace('-', "\\-"));
            assert!(MAN.contains(&man), "docs/ucaffeine.1 lacks {man}");
        }
        let instances = ["name", "daemon", "stop", "timeout", "list-instances", "json", "log", "follow", "reset-logs"];
        let of_a_page = |page: &str, flag: &str| {
            let man = format!("\\-\\-{}", flag.replace('-', "\\-"));
            assert!(page.contains(&format!("`--{flag}")) && MAN.contains(&man), "{flag}");
        };
        ["config", "explain"].iter().for_each(|flag| of_a_page(PAGE, flag));
        instances
            .iter()
            .chain(&["deploy", "to", "rollback", "reload", "upgrade"])
            .for_each(|flag| of_a_page(INSTANCES, flag));
    }

    /// The other direction: nothing that is documented is unknown.
    #[test]
    fn every_flag_in_the_documentation_exists() {
        let known: Vec<String> = command()
            .get_arguments()
            .flat_map(|arg| {
                arg.get_long_and_visible_aliases()
                    .unwrap_or_default()
                    .into_iter()
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .chain(["help".into(), "version".into()])
            .collect();
        // What is about installing has the flags of other programs.
        let instances = INSTANCES.split("## Installing").next().unwrap_or_default();
        let text = format!("{PAGE}\n{instances}\n{}", MAN.replace("\\-", "-"));
        for flag in text.split("--").skip(1) {
            let name: String = flag.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            let rule = name.is_empty() || name.starts_with('-');
            assert!(
                rule || known.contains(&name.trim_end_matches('-').to_owned()),
                "--{name} is documented but unknown"
            );
        }
    }

    #[test]
    fn the_file_in_the_documentation_can_be_read() {
        let file = PAGE.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("site.toml");
        std::fs::write(&path, file).unwrap();
        let given = given("config", path.into());
        // Nothing but the folders and programs, which are not on this machine, may be wrong with it.
        let problems = crate::config::Config::resolve(Layer::default(), Some(given), &[], Layer::default())
            .err()
            .unwrap_or_default();
        for problem in problems {
            assert!(problem.what.contains("no such file") || problem.what.contains("nothing is mounted"), "{problem}");
        }
    }
}
