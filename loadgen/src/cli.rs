//! What was typed, as values. What they mean together is [`prepare`](crate::prepare)'s to say.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::plan::{CloseEvery, Think};
use crate::report::units;
use crate::schedule::{Arrivals, Rate};
use crate::sources::Sources;
use crate::traffic::Verify;
use crate::verdict::Slo;

/// The URL where none is given.
pub const URL_DEFAULT: &str = "http://127.0.0.1:8080/";

/// A run that was asked for: a field for each flag, by its name.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the help of each flag is in `arguments`")]
pub struct Asked {
    /// The words themselves, the program's name first.
    pub words: Vec<String>,
    pub url: Option<String>,
    pub urls: Option<PathBuf>,
    pub scenario: Option<PathBuf>,
    pub unix: Option<PathBuf>,
    pub method: Option<String>,
    pub headers: Vec<(String, String)>,
    pub body: Option<Body>,
    pub verify: Verify,
    pub conns: u32,
    pub threads: u32,
    pub pin: Vec<usize>,
    pub duration: Option<Duration>,
    pub requests: Option<u64>,
    pub warmup: Option<Duration>,
    pub rate: Option<f64>,
    pub ramp: Option<Rate>,
    pub arrivals: Arrivals,
    pub burst: u64,
    pub find_max: bool,
    pub slo: Option<Slo>,
    pub errors_max: u64,
    pub deadline: Option<Duration>,
    pub timeout: Duration,
    pub pipeline: u32,
    pub close_every: CloseEvery,
    pub think: Think,
    pub sources: Option<Sources>,
    pub connect_rate: f64,
    pub connect_window: u32,
    pub spin: Duration,
    pub interval: Duration,
    pub seed: Option<u64>,
    pub server_pid: Option<u32>,
    /// `--unoptimised`: report rates of a debug build all the same.
    pub unoptimised: bool,
}

/// The body of every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// These bytes.
    Text(String),
    /// What is in that file.
    File(PathBuf),
    /// So many bytes of no meaning.
    Size(u64),
}

/// The flags of a run.
#[must_use]
pub fn arguments() -> Vec<Arg> {
    let flag = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let switch =
        |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    let load = [
        flag("conns", "N", "Connections, of all threads; 10k is understood")
            .short('c')
            .default_value("64")
            .value_parser(whole),
        flag("threads", "N", "Generator threads").short('t').default_value("1").value_parser(whole),
        flag("pin", "CPUS", "The CPU of each thread, in turn, as in 1 or 2,3").value_parser(cpus),
        flag("duration", "TIME", "How long to measure [default: 10s, without --requests]")
            .short('d')
            .value_parser(time),
        flag("requests", "N", "How many requests to send, the warm-up's too").short('n').value_parser(count),
        flag("warmup", "TIME", "What comes before, and is not measured [default: 1s; 0s with --requests or --ramp]")
            .value_parser(time),
        flag("rate", "N", "Open loop: so many requests a second, whatever the answers do").value_parser(rate),
        flag("ramp", "A:B", "Open loop: from A requests a second to B").value_parser(ramp).conflicts_with("rate"),
        flag("arrival", "KIND", "Open loop: constant, poisson or uniform gaps")
            .default_value("constant")
            .value_parser(arrivals),
        flag("burst", "N", "Open loop: so many requests come together").default_value("1").value_parser(count),
        switch("find-max", "Search for the highest rate that keeps --slo")
            .requires("slo")
            .conflicts_with_all(["rate", "ramp", "requests"]),
        flag("pipeline", "N", "Requests in flight on one connection").default_value("1").value_parser(whole),
        flag("close-every", "N", "Close a connection after N answers, or after one with chance p=P")
            .value_parser(close_every),
        flag("think", "TIME", "Closed loop: rest so long after an answer; also exp:5ms, 1ms..5ms").value_parser(think),
        flag("deadline", "TIME", "Open loop: do not send what is later than that; an error").value_parser(time),
        flag("timeout", "TIME", "An answer, or a connect, that takes longer is an error")
            .default_value("5s")
            .value_parser(time),
        flag("seed", "N", "What chance is made from [default: the clock]").value_parser(value_parser!(u64)),
    ];
    let traffic = [
        Arg::new("URL").help(format!("http://HOST:PORT/PATH, or unix:SOCKET:/PATH [default: {URL_DEFAULT}]")),
        flag("urls", "FILE", "One URL a line, all of one server; each as often")
            .value_parser(value_parser!(PathBuf))
            .conflicts_with("scenario"),
        flag("scenario", "FILE", "Requests, their weights and what to expect, in TOML")
            .value_parser(value_parser!(PathBuf)),
        flag("unix", "PATH", "Connect to this Unix socket").value_parser(value_parser!(PathBuf)),
        flag("method", "NAME", "The method [default: GET; POST with a body]").short('X'),
        flag("header", "FIELD", "A header field, as in 'Accept: text/html'")
            .short('H')
            .action(ArgAction::Append)
            .value_parser(header),
        flag("body", "TEXT", "The body of every request; @FILE reads one")
            .value_parser(body)
            .conflicts_with("body-size"),
        flag("body-size", "SIZE", "A body of so many bytes, as in 64k (decimal) or 64Ki").value_parser(size),
        flag("verify", "HOW", "Look at bodies: off; len: the same length each time; sum: the same bytes")
            .default_value("len")
            .value_parser(verify),
    ];
    let net = [
        flag(
            "src",
            "NET",
            "Come from these addresses, as in 127.0.0.1/28 [default: as many of 127.0.0.0/8 as it takes]",
        )
        .value_parser(|text: &str| text.parse::<Sources>()),
        flag("connect-rate", "N", "Connects begun in a second, before the start")
            .default_value("20k")
            .value_parser(rate),
        flag("connect-window", "N", "Connects under way at a time: below the server's backlog")
            .default_value("256")
            .value_parser(whole),
        flag("spin", "TIME", "Open loop: look at the clock so long before a request is due, instead of sleeping")
            .default_value("50us")
            .value_parser(time),
    ];
    let judging = [
        flag("slo", "TERMS", "What must hold, as in 'p99<2ms,err<0.1%'; else exit 3")
            .value_parser(|text: &str| text.parse::<Slo>()),
        flag("max-errors", "N", "Errors that are acceptable").default_value("0").value_parser(count),
        flag("server-pid", "PID", "Watch what this process and its children use")
            .value_parser(value_parser!(u32).range(1..)),
        flag("interval", "TIME", "How long the intervals of the series are").default_value("1s").value_parser(time),
        switch("unoptimised", "Run although this is a debug build").hide(true),
    ];
    let under = |heading: &'static str| move |arg: Arg| arg.help_heading(heading);
    let load = load.into_iter().map(under("Load"));
    let traffic = traffic.into_iter().map(under("Traffic"));
    let net = net.into_iter().map(under("Connections"));
    let judging = judging.into_iter().map(under("Judging"));
    traffic.chain(load).chain(net).chain(judging).collect()
}

/// Takes a run off the matches of a command that has [`arguments`].
#[must_use]
pub fn asked(words: &[OsString], matches: &ArgMatches) -> Asked {
    fn one<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, name: &str) -> Option<T> {
        matches.get_one::<T>(name).cloned()
    }
    fn set<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, name: &str) -> T {
        one(matches, name).unwrap_or_else(|| panic!("--{name} has a default value"))
    }
    Asked {
        words: words.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
        url: one(matches, "URL"),
        urls: one(matches, "urls"),
        scenario: one(matches, "scenario"),
        unix: one(matches, "unix"),
        method: one(matches, "method"),
        headers: matches.get_many("header").into_iter().flatten().cloned().collect(),
        body: one(matches, "body").or_else(|| one(matches, "body-size").map(Body::Size)),
        verify: set(matches, "verify"),
        conns: set(matches, "conns"),
        threads: set(matches, "threads"),
        pin: one(matches, "pin").unwrap_or_default(),
        duration: one(matches, "duration"),
        requests: one(matches, "requests"),
        warmup: one(matches, "warmup"),
        rate: one(matches, "rate"),
        ramp: one(matches, "ramp"),
        arrivals: set(matches, "arrival"),
        burst: set(matches, "burst"),
        find_max: matches.get_flag("find-max"),
        slo: one(matches, "slo"),
        errors_max: set(matches, "max-errors"),
        deadline: one(matches, "deadline"),
        timeout: set(matches, "timeout"),
        pipeline: set(matches, "pipeline"),
        close_every: one(matches, "close-every").unwrap_or(CloseEvery::Never),
        think: one(matches, "think").unwrap_or(Think::None),
        sources: one(matches, "src"),
        connect_rate: set(matches, "connect-rate"),
        connect_window: set(matches, "connect-window"),
        spin: set(matches, "spin"),
        interval: set(matches, "interval"),
        seed: one(matches, "seed"),
        server_pid: one(matches, "server-pid"),
        unoptimised: matches.get_flag("unoptimised"),
    }
}

/// A command of that name with the flags of a run.
#[must_use]
pub fn command(name: &'static str) -> Command {
    Command::new(name).args(arguments()).max_term_width(110)
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = units::parse_count(text)?;
    if (1e-3..=1e9).contains(&rate) { Ok(rate) } else { Err(String::from("a rate is between 0.001 and a billion")) }
}

fn ramp(text: &str) -> Result<Rate, String> {
    let (from, to) = text.split_once(':').ok_or("a ramp is written FROM:TO, as in 1k:50k")?;
    Ok(Rate { from: rate(from)?, to: rate(to)? })
}

/// A whole number of 1 or more, of things that there are not billions of.
fn whole(text: &str) -> Result<u32, String> {
    let number = count(text)?;
    match u32::try_from(number) {
        Ok(number @ 1..=10_000_000) => Ok(number),
        _ => Err(String::from("a number from 1 to 10,000,000 is expected")),
    }
}

fn count(text: &str) -> Result<u64, String> {
    let number = units::parse_count(text)?;
    if number.fract() != 0.0 || number > 1e15 {
        return Err(format!("`{text}` is no whole number"));
    }
    Ok(number as u64)
}

fn time(text: &str) -> Result<Duration, String> {
    let ns = units::parse_duration(text)?;
    if ns > 1e9 * 86_400.0 * 30.0 {
        return Err(String::from("that is more than a month"));
    }
    Ok(Duration::from_nanos(ns as u64))
}

fn arrivals(text: &str) -> Result<Arrivals, String> {
    match text {
        "constant" => Ok(Arrivals::Constant),
        "poisson" => Ok(Arrivals::Poisson),
        "uniform" => Ok(Arrivals::Uniform),
        _ => Err(String::from("there are constant, poisson and uniform")),
    }
}

fn verify(text: &str) -> Result<Verify, String> {
    match text {
        "off" => Ok(Verify::Off),
        "len" => Ok(Verify::Len),
        "sum" => Ok(Verify::Sum),
        _ => Err(String::from("there are off, len and sum")),
    }
}

fn close_every(text: &str) -> Result<CloseEvery, String> {
    match text.strip_prefix("p=") {
        Some(chance) => match chance.parse::<f64>() {
            Ok(chance) if (0.0..=1.0).contains(&chance) => Ok(CloseEvery::Chance(chance)),
            _ => Err(String::from("a chance is between 0 and 1, as in p=0.1")),
        },
        None => match count(text)? {
            0 => Err(String::from("1 or more answers; leave it out to keep connections")),
            answers => Ok(CloseEvery::Requests(answers)),
        },
    }
}

fn think(text: &str) -> Result<Think, String> {
    let ns = |text: &str| time(text).map(|time| time.as_nanos() as u64);
    if let Some(mean) = text.strip_prefix("exp:") {
        return ns(mean).map(Think::Exponential);
    }
    match text.split_once("..") {
        Some((from, to)) => match (ns(from)?, ns(to)?) {
            (from, to) if from <= to => Ok(Think::Uniform(from, to)),
            _ => Err(String::from("the range ends before it begins")),
        },
        None => ns(text).map(Think::Fixed),
    }
}

/// A comma-separated list.
fn cpus(text: &str) -> Result<Vec<usize>, String> {
    text.split(',').map(|cpu| cpu.trim().parse().map_err(|_| format!("`{cpu}` is no CPU's number"))).collect()
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("a field is written NAME: VALUE")?;
    let (name, value) = (name.trim(), value.trim());
    check_header(name, value)?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Whether a server can take it for one field.
pub(crate) fn check_header(name: &str, value: &str) -> Result<(), String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(format!("`{name}` is no name of a field"));
    }
    if value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Err(format!("the value of `{name}` has a control character"));
    }
    Ok(())
}

fn body(text: &str) -> Result<Body, String> {
    Ok(text.strip_prefix('@').map_or_else(|| Body::Text(text.to_owned()), |path| Body::File(path.into())))
}

/// A size, decimal (64k) or binary (64Ki).
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let bytes = match text.strip_suffix('i') {
        Some(text) if text.ends_with(['k', 'K']) => units::parse_count(text)? / 1e3 * 1024.0,
        Some(text) if text.ends_with(['m', 'M']) => units::parse_count(text)? / 1e6 * 1024.0 * 1024.0,
        Some(_) => return Err(format!("`{text}` is no size; write 64k, 64Ki or 1Mi")),
        None => units::parse_count(text)?,
    };
    if bytes > 1e9 { Err(String::from("a body is at most a gigabyte")) } else { Ok(bytes as u64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Asked, clap::Error> {
        let words: Vec<OsString> = ["loadgen"].iter().chain(words).map(OsString::from).collect();
        let matches = command("loadgen").try_get_matches_from(&words)?;
        Ok(asked(&words, &matches))
    }

    #[test]
    fn the_command_is_sound() {
        command("loadgen").debug_assert();
    }

    #[test]
    fn numbers_are_read_as_people_write_them() {
        let asked = parse(&["--conns", "10k", "--rate", "1.5m", "-d", "500ms", "-n", "2m", "--close-every", "p=0.1"]);
        let asked = asked.unwrap();
        assert_eq!((asked.conns, asked.rate, asked.requests), (10_000, Some(1.5e6), Some(2_000_000)));
        assert_eq!(asked.duration, Some(Duration::from_millis(500)));
        assert_eq!(asked.close_every, CloseEvery::Chance(0.1));
        let asked = parse(&["--think", "exp:5ms", "--pin", "1,2", "--ramp", "1k:50k", "--body-size", "64Ki"]).unwrap();
        assert_eq!((asked.think, asked.pin), (Think::Exponential(5_000_000), vec![1, 2]));
        assert_eq!(asked.ramp, Some(Rate { from: 1e3, to: 5e4 }));
        assert_eq!(asked.body, Some(Body::Size(65_536)));
        assert_eq!(parse(&["--think", "1ms..2ms"]).unwrap().think, Think::Uniform(1_000_000, 2_000_000));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for words in [
            &["--conns", "0"][..],
            &["--conns", "1.5"],
            &["--rate", "0"],
            &["--rate", "1k", "--ramp", "1:2"],
            &["--find-max"],
            &["--ramp", "5"],
            &["--close-every", "0"],
            &["--close-every", "p=2"],
            &["--think", "2ms..1ms"],
            &["-H", "no colon"],
            &["-H", "a b: c"],
            &["--verify", "all"],
            &["--arrival", "often"],
            &["--pin", "x"],
            &["--slo", "p99"],
            &["--server-pid", "0"],
            &["--body-size", "5Gi"],
            &["--nonsense"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}
