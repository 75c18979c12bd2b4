//! What it means: flags, variables and a file become checked [`Options`], or problems that name their place.
//!
//! A flag beats a variable, a variable the file, the file the default. All of them are the same text under the same name
//! ([`settings`], [`limits`]), read by the same code, so they cannot differ.

mod file;
mod headers;
mod limits;
mod listen;
mod mounts;
mod pages;
mod problem;
mod programs;
mod reload;
mod settings;
mod sources;
mod units;

use std::ffi::OsString;

use tracing::level_filters::LevelFilter;
use ucaffeine::serve::options::{AccessLog, CORES_MAX, Engine, Linger, Options, SiteConfig};

pub(crate) use limits::{LIMITS, Limit};
pub(crate) use mounts::at_root;
pub(crate) use problem::{Problem, ProblemKind, one_line};
pub(crate) use settings::{Group, Kind, SETTINGS, Setting};
pub(crate) use sources::{CONFIG_VARIABLE, Given, Layer, Origin, started_in};
pub(crate) use units::{NONE, Unit};

use problem::did_you_mean;
use sources::Layers;

/// Ready to run.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) options: Options,
    /// How much is logged.
    pub(crate) log_level: LevelFilter,
    /// Whether programs may be run at all.
    pub(crate) programs: bool,
    /// Every setting and limit with its value and its origin, for `--explain`.
    pub(crate) settled: Vec<Settled>,
}

/// One decision.
#[derive(Clone, Debug)]
pub(crate) struct Settled {
    pub(crate) name: &'static str,
    pub(crate) group: Group,
    /// As it would be written; several values are joined by a space.
    pub(crate) value: String,
    /// `default`, `--port`, `UCAFFEINE_PORT` or `site.toml:3`.
    pub(crate) origin: String,
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
        let file = read_file(file, environment)?.or(defaults);
        let layers = Layers([flags, Layer::from_environment(environment)?, file]);
        let mut problems = Vec::new();
        let listen = listen::listen(&layers, &mut problems);
        let programs = !decide(&layers, "no-cgi", false, switch, &mut problems);
        let watch = !decide(&layers, "no-watch", false, switch, &mut problems);
        let precompressed = !decide(&layers, "no-precompressed", false, switch, &mut problems);
        let log_level = decide(&layers, "log-level", LevelFilter::INFO, log_level, &mut problems);
        let headers = headers::rules(&layers, &mut problems);
        let site = mounts::site(&layers, programs, environment, &mut problems);
        let pages = site.as_ref().map(|site| pages::pages(&layers, site, &mut problems)).unwrap_or_default();
        let mut options = Options {
            listen,
            cores: decide(&layers, "cores", None, cores, &mut problems),
            engine: decide(&layers, "engine", Engine::Auto, engine, &mut problems),
            access_log: decide(&layers, "access-log", AccessLog::Off, access_log, &mut problems),
            sites: site
                .into_iter()
                .map(|site| SiteConfig { precompressed, headers: headers.clone(), pages: pages.clone(), ..site })
                .collect(),
            ..Options::default()
        };
        options.files.watch = watch;
        options.cgi.linger = decide(&layers, "cgi-linger", Linger::Keep, programs::linger, &mut problems);
        options.cgi.bounds = programs::bounds(&layers, &mut problems);
        for limit in LIMITS {
            let Some(given) = layers.one(limit.name) else { continue };
            let set = given.str().and_then(|text| limit.set(&mut options, text).map_err(|what| given.unreadable(what)));
            problems.extend(set.err());
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let settled = settled(&layers, &mut options);
        Ok(Config { options, log_level, programs, settled })
    }
}

fn read_file(flag: Option<Given>, environment: &[(OsString, OsString)]) -> Result<Layer, Vec<Problem>> {
    let variable = || {
        let set = environment.iter().find(|(name, text)| *name == *CONFIG_VARIABLE && !text.is_empty());
        set.map(|(_, text)| Given { text: text.clone(), origin: Origin::Variable(CONFIG_VARIABLE.to_owned()) })
    };
    match flag.or_else(variable) {
        Some(given) => file::read(given.text.as_ref()),
        None => Ok(Layer::default()),
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

fn access_log(given: &Given) -> Result<AccessLog, Problem> {
    match given.text.to_str() {
        Some("-") => Ok(AccessLog::Stdout),
        Some("off") => Ok(AccessLog::Off),
        _ => Ok(AccessLog::File(given.path(&given.text)?)),
    }
}

fn settled(layers: &Layers, options: &mut Options) -> Vec<Settled> {
    let origin =
        |name: &str| layers.one(name).map_or_else(|| String::from("default"), |given| given.origin.to_string());
    let settings = SETTINGS.iter().map(|setting| {
        let said = layers.all(setting.name).iter().map(|given| match setting.name {
            "cgi-env" => mounts::without_value(&given.text).display().to_string(),
            _ => given.text.display().to_string(),
        });
        let said = said.collect::<Vec<_>>().join(" ");
        let value = if said.is_empty() { setting.default.to_owned() } else { said };
        Settled { name: setting.name, group: setting.group, value, origin: origin(setting.name) }
    });
    let limits = LIMITS.iter().map(|limit| Settled {
        name: limit.name,
        group: limit.group,
        value: limit.show(options),
        origin: origin(limit.name),
    });
    settings.chain(limits).collect()
}
