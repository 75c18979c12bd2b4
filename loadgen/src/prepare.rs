//! From what was asked to a plan: reads the files, looks the host up, and decides what was left open.

use std::path::Path;
use std::time::Duration;

use crate::cli::{Asked, Body, URL_DEFAULT};
use crate::plan::{CloseEvery, Connecting, Plan};
use crate::scenario;
use crate::schedule::{Arrivals, Bounds, Load, Rate};
use crate::sources::Sources;
use crate::target::{Address, Url};
use crate::traffic::{Expect, Request, Traffic};

const DURATION_DEFAULT: Duration = Duration::from_secs(10);
const WARMUP_DEFAULT: Duration = Duration::from_secs(1);
/// The share of a port range that is used before another address is: the rest is taken by others, or just closed.
const PORTS_SHARE: f64 = 0.8;
/// Addresses for connections that are closed again and again: each leaves its port unusable for a while (TIME_WAIT).
const SOURCES_FOR_CLOSING: u64 = 64;
/// Bodies and lists that are read into memory.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// The plan of a run.
///
/// # Errors
/// A line that says what is wrong, on what.
pub fn plan(asked: &Asked, seed: u64) -> Result<Plan, String> {
    let (requests, place) = requests(asked)?;
    let address = match &asked.unix {
        Some(path) => Address::Unix(path.clone()),
        None => place.resolve()?,
    };
    let load = match (asked.rate, asked.ramp) {
        (Some(rate), _) => Load::Open(Rate { from: rate, to: rate }, asked.arrivals),
        (None, Some(ramp)) => Load::Open(ramp, asked.arrivals),
        (None, None) => Load::Closed,
    };
    let open = load != Load::Closed || asked.find_max;
    refuse_contradictions(asked, open)?;
    let by_time = asked.requests.is_none() || asked.duration.is_some();
    let warm = if asked.requests.is_some() || asked.ramp.is_some() { Duration::ZERO } else { WARMUP_DEFAULT };
    let warmup = asked.warmup.unwrap_or(warm);
    let duration = asked.duration.unwrap_or(DURATION_DEFAULT);
    if by_time && duration.is_zero() {
        return Err(String::from("--duration is 0"));
    }
    let duration_ns = if by_time { (warmup + duration).as_nanos() as u64 } else { u64::MAX };
    let threads = asked.threads.min(asked.conns);
    Ok(Plan {
        traffic: Traffic::new(requests)?,
        verify: asked.verify,
        load,
        bounds: Bounds { duration_ns, requests: asked.requests.unwrap_or(u64::MAX) },
        warmup_ns: warmup.as_nanos() as u64,
        connections: asked.conns,
        threads,
        cpus: asked.pin.clone(),
        pipeline: asked.pipeline,
        close: asked.close_every,
        think: asked.think,
        burst: asked.burst.max(1),
        timeout: asked.timeout,
        deadline: asked.deadline,
        connecting: connecting(asked, &address)?,
        address,
        interval: asked.interval,
        // Only an open loop has moments to be in time for.
        spin: if open { asked.spin } else { Duration::ZERO },
        seed,
    })
}

/// The load in words, for the report.
#[must_use]
pub fn schedule_in_words(load: Load, burst: u64) -> Option<String> {
    let Load::Open(Rate { from, to }, arrivals) = load else { return None };
    let arrivals = match arrivals {
        Arrivals::Constant => "constant",
        Arrivals::Poisson => "poisson",
        Arrivals::Uniform => "uniform",
    };
    let rate = if from == to { format!("{from}/s") } else { format!("{from}/s to {to}/s") };
    let burst = if burst > 1 { format!(", {burst} at a time") } else { String::new() };
    Some(format!("{arrivals}, {rate}{burst}"))
}

fn refuse_contradictions(asked: &Asked, open: bool) -> Result<(), String> {
    if !open {
        for (given, flag) in [(asked.burst > 1, "--burst"), (asked.deadline.is_some(), "--deadline")] {
            if given {
                return Err(format!("{flag} is for an open loop: give --rate or --ramp, too"));
            }
        }
    }
    if open && asked.think != crate::plan::Think::None {
        return Err(String::from("--think is for a closed loop: an open one has its schedule"));
    }
    if asked.ramp.is_some() && asked.requests.is_some() && asked.duration.is_none() {
        return Err(String::from("--ramp needs --duration: the time that it takes"));
    }
    if asked.timeout.is_zero() || asked.interval.is_zero() {
        return Err(String::from("--timeout and --interval are more than 0"));
    }
    Ok(())
}

/// The kinds of requests, and where they go.
fn requests(asked: &Asked) -> Result<(Vec<Request>, Url), String> {
    let base = Url::parse(asked.url.as_deref().unwrap_or(URL_DEFAULT))?;
    if let Some(path) = &asked.scenario {
        let requests = scenario::parse(&read(path)?, &base, path.parent().unwrap_or(Path::new(".")));
        return Ok((requests.map_err(|why| format!("{}: {why}", path.display()))?, base));
    }
    let body = match &asked.body {
        None => Vec::new(),
        Some(Body::Text(text)) => text.clone().into_bytes(),
        Some(Body::File(path)) => read_bytes(path)?,
        Some(Body::Size(size)) => filler(*size),
    };
    let default = if body.is_empty() { "GET" } else { "POST" };
    let method = asked.method.as_deref().unwrap_or(default);
    check_method(method)?;
    let request = |url: &Url| Request::new(method, url, &asked.headers, &body, Expect::default());
    let Some(path) = &asked.urls else { return Ok((vec![request(&base)], base)) };
    let text = read(path)?;
    let mut requests = Vec::new();
    let mut place: Option<Url> = asked.url.as_ref().map(|_| base.clone());
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = |why: String| format!("{}, line {}: {why}", path.display(), number + 1);
        // A path alone is on the server that the URL names.
        let url = if line.starts_with('/') { base.with_path(line) } else { Url::parse(line) }.map_err(at)?;
        let place = place.get_or_insert_with(|| url.clone());
        if !place.same_place(&url) {
            return Err(at(format!("{url} is on another server than {place}; a run loads one")));
        }
        requests.push(request(&url));
    }
    let place = place.filter(|_| !requests.is_empty()).ok_or_else(|| format!("{} has no URL", path.display()))?;
    Ok((requests, place))
}

pub(crate) fn check_method(method: &str) -> Result<(), String> {
    match !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-') {
        true => Ok(()),
        false => Err(format!("`{method}` is no method")),
    }
}

/// Bytes that no compression makes small, the same each time.
pub(crate) fn filler(size: u64) -> Vec<u8> {
    let mut rng = crate::rng::Rng::new(0, 0);
    (0..size).map(|_| rng.next() as u8).collect()
}

fn connecting(asked: &Asked, address: &Address) -> Result<Connecting, String> {
    let sources = match (address, asked.sources) {
        (Address::Unix(_), Some(_)) => {
            return Err(String::from("--src is for TCP, and a Unix socket has no addresses"));
        }
        (Address::Unix(_), None) => Vec::new(),
        (Address::Tcp(addr), Some(sources)) => {
            let sources = sources.list(u64::from(asked.conns).max(SOURCES_FOR_CLOSING));
            if sources.iter().any(|source| source.is_ipv4() != addr.is_ipv4()) {
                return Err(format!("--src is of another family than {addr}"));
            }
            sources
        }
        (Address::Tcp(addr), None) if addr.ip().is_ipv4() && addr.ip().is_loopback() => {
            let ports = port_range() * PORTS_SHARE;
            let needed = (f64::from(asked.conns) / ports).ceil() as u64;
            let needed = if asked.close_every == CloseEvery::Never { needed } else { needed.max(SOURCES_FOR_CLOSING) };
            if needed > 1 { Sources::of_loopback(needed).list(needed) } else { Vec::new() }
        }
        (Address::Tcp(_), None) => Vec::new(),
    };
    Ok(Connecting { window: asked.connect_window, rate: asked.connect_rate, sources })
}

/// How many ports an address has for one destination.
fn port_range() -> f64 {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ends = text.split_whitespace().map(str::parse::<f64>);
    match (ends.next(), ends.next()) {
        (Some(Ok(first)), Some(Ok(last))) if last >= first => last - first + 1.0,
        // The kernel's default.
        _ => 28_232.0,
    }
}

fn read(path: &Path) -> Result<String, String> {
    String::from_utf8(read_bytes(path)?).map_err(|_| format!("{} is not UTF-8", path.display()))
}

pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, String> {
    let fail = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    if std::fs::metadata(path).map_err(fail)?.len() > FILE_BYTES_MAX {
        return Err(format!("{} is larger than a gigabyte", path.display()));
    }
    std::fs::read(path).map_err(fail)
}
