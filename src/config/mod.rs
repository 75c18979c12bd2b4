//! What it means: flags, variables and a file become checked [`Options`], or problems that name their place.
//!
//! A flag beats a variable, a variable the file, the file the default. All of them are the same text under the same name
//! ([`settings`], [`limits`]), read by the same code, so they cannot differ. Only a file has [`tables`]: what is about one host
//! ([`sites`]), or about some paths of a site ([`locations`]).

mod file;
mod headers;
mod limits;
mod listen;
mod locations;
mod mounts;
mod pages;
mod problem;
mod programs;
mod proxies;
mod reload;
mod settings;
mod settled;
mod sites;
mod sources;
mod tables;
mod units;

use std::ffi::OsString;

use tracing::level_filters::LevelFilter;
use ucaffeine::serve::options::{AccessLog, CORES_MAX, Engine, Linger, Options};
use ucaffeine::site::log_line::Form;

pub(crate) use crate::log::format::Form as LogForm;
pub(crate) use limits::{LIMITS, Limit};
pub(crate) use mounts::at_root;
pub(crate) use problem::{Problem, ProblemKind, one_line};
pub(crate) use settings::{Group, Kind, SETTINGS, Setting};
#[cfg(test)]
pub(crate) use settings::{is_pairs, key};
pub(crate) use settled::{Part, Settled};
pub(crate) use sources::{CONFIG_VARIABLE, Given, Layer, Origin, started_in};
pub(crate) use units::{NONE, Unit};

use problem::did_you_mean;
use sources::Layers;
use tables::Document;

/// Ready to run.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) options: Options,
    /// How much is logged.
    pub(crate) log_level: LevelFilter,
    /// What its lines look like.
    pub(crate) log_form: LogForm,
    /// Whether programs may be run at all.
    pub(crate) programs: bool,
    /// Every setting and limit with its value and its origin, for `--explain`.
    pub(crate) settled: Vec<Settled>,
    /// The same of the file's tables.
    pub(crate) parts: Vec<Part>,
}

impl Config {
    /// Decides. `file` is what `--config` says, `environment` what this process was given, `defaults` what holds where nobody says
    /// anything, and is not the default of everybody.
    pub(crate) fn resolve(
        flags: Layer,
        file: Option<Given>,
        environment: &[(OsString, OsString)],
        defaults: Layer,
    ) -> Result<Config, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut document = read_file(file, environment, &mut problems);
        let variables = Layer::from_environment(environment, &mut problems);
        let layers = Layers([flags, variables, std::mem::take(&mut document.top.layer).or(defaults)]);
        let mut options = server(&layers, &mut problems);
        let programs = !decide(&layers, "no-cgi", false, switch, &mut Vec::new());
        let log_level = decide(&layers, "log-level", LevelFilter::INFO, log_level, &mut problems);
        let log_form = decide(&layers, "log-format", LogForm::Text, log_form, &mut problems);
        options.sites = sites::sites(&layers, &document, &options.cgi, environment, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        let settled = settled::settled(&layers, &mut options);
        let parts = settled::parts(&layers, &document);
        Ok(Config { options, log_level, log_form, programs, settled, parts })
    }
}

fn server(layers: &Layers, problems: &mut Vec<Problem>) -> Options {
    let mut options = Options {
        listen: listen::listen(layers, problems),
        cores: decide(layers, "cores", None, cores, problems),
        engine: decide(layers, "engine", Engine::Auto, engine, problems),
        access_log: decide(layers, "access-log", AccessLog::Off, access_log, problems),
        access_log_form: decide(layers, "access-log-format", Form::Combined, access_log_form, problems),
        metrics: decide(layers, "metrics", None, listen::metrics, problems),
        ..Options::default()
    };
    options.files.watch = !decide(layers, "no-watch", false, switch, problems);
    options.cgi.linger = decide(layers, "cgi-linger", Linger::Keep, programs::linger, problems);
    options.cgi.bounds = programs::bounds(layers, problems);
    proxies::decide_all(layers, &mut options, problems);
    for limit in LIMITS {
        let Some(given) = layers.one(limit.name) else { continue };
        let set = given.str().and_then(|text| limit.set(&mut options, text).map_err(|what| given.unreadable(what)));
        problems.extend(set.err());
    }
    options
}

fn read_file(flag: Option<Given>, environment: &[(OsString, OsString)], problems: &mut Vec<Problem>) -> Document {
    let variable = || {
        let set = environment.iter().find(|(name, text)| *name == *CONFIG_VARIABLE && !text.is_empty());
        set.map(|(_, text)| Given { text: text.clone(), origin: Origin::Variable(CONFIG_VARIABLE.to_owned()) })
    };
    match flag.or_else(variable) {
        Some(given) => file::read(given.text.as_ref(), problems),
        None => Document::default(),
    }
}

/// What was said, or the default; a problem is noted and the default goes on, so that every problem is found at once.
fn decide<T>(
    layers: &Layers,
    name: &str,
    default: T,
    read: fn(&Given) -> Result<T, Problem>,
    problems: &mut Vec<Problem>,
) -> T {
    match layers.one(name).map(read) {
        Some(Ok(value)) => value,
        Some(Err(problem)) => {
            problems.push(problem);
            default
        }
        None => default,
    }
}

fn switch(given: &Given) -> Result<bool, Problem> {
    match given.str()? {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(given.unreadable("neither true nor false")),
    }
}

fn cores(given: &Given) -> Result<Option<usize>, Problem> {
    match given.str()? {
        "auto" => Ok(None),
        text => match text.parse() {
            Ok(cores @ 1..=CORES_MAX) => Ok(Some(cores)),
            _ => Err(given.unreadable(format!("not a number of threads; 1 to {CORES_MAX}, or auto"))),
        },
    }
}

fn engine(given: &Given) -> Result<Engine, Problem> {
    let text = given.str()?;
    let known = Engine::NAMES.iter().find(|(name, _)| *name == text).map(|&(_, engine)| engine);
    known.ok_or_else(|| {
        let hint = did_you_mean(text, Engine::NAMES.iter().map(|(name, _)| name.to_string()));
        given.unreadable(format!("not an engine; auto, uring or epoll{hint}"))
    })
}

/// The names of the levels, the quietest first.
pub(crate) const LEVELS: [(&str, LevelFilter); 5] = [
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

/// The level of that name, in any case.
pub(crate) fn level(name: &str) -> Option<LevelFilter> {
    LEVELS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|&(_, level)| level)
}

fn log_level(given: &Given) -> Result<LevelFilter, Problem> {
    level(given.str()?).ok_or_else(|| given.unreadable("not a level; error, warn, info, debug or trace"))
}

fn log_form(given: &Given) -> Result<LogForm, Problem> {
    one_of(given, &LogForm::NAMES)
}

fn access_log_form(given: &Given) -> Result<Form, Problem> {
    one_of(given, &Form::NAMES)
}

/// One of a few names.
fn one_of<T: Copy>(given: &Given, names: &[(&str, T)]) -> Result<T, Problem> {
    let text = given.str()?;
    let known = names.iter().find(|(name, _)| *name == text).map(|&(_, value)| value);
    known.ok_or_else(|| {
        let all = names.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" or ");
        let hint = did_you_mean(text, names.iter().map(|(name, _)| (*name).to_owned()));
        given.unreadable(format!("not a format; {all}{hint}"))
    })
}

fn access_log(given: &Given) -> Result<AccessLog, Problem> {
    match given.text.to_str() {
        Some("-") => Ok(AccessLog::Stdout),
        Some("off") => Ok(AccessLog::Off),
        _ => Ok(AccessLog::File(given.path(&given.text)?)),
    }
}
